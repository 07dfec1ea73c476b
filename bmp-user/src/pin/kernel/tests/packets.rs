//! A connected socket's packets are passed and counted, or dropped.

use std::io::Write as _;
use std::net::TcpListener;

use bmp_ebpf::{Counters, Pin, Traffic};
use socket2::{Domain, SockRef};

use super::world::{
    Arrived, ConnectionPair, STATION4, STATION6, UP0, UP1, UP1_IPV6, UplinkWorld, connect, pin, stop_listening,
    wait_for,
};

/// Bytes that take several segments, and several buffers.
const MUCH: usize = 1_000_003;

/// Connects as bmpd does.
fn connect_own(world: &UplinkWorld, listener: &TcpListener) -> ConnectionPair {
    let address = listener.local_addr().unwrap();
    let socket = world.router.socket(Domain::for_address(address));
    world.datapath.claim(&socket).unwrap();
    connect(socket, address, listener).unwrap()
}

#[test]
fn counters_equal_what_a_capture_on_the_pinned_link_sees() {
    let world = UplinkWorld::new();
    let up1 = world.router.ifindex("up1");
    for (listener, pin) in [
        (world.listen(STATION4), pin(Some(UP1.into()), up1)),
        (world.listen(STATION6), pin(Some(UP1_IPV6.into()), up1)),
    ] {
        let port = listener.local_addr().unwrap().port();
        let (pinned, other) = (world.capture("dn1", port), world.capture("dn0", port));
        let slot = world.datapath.install(&world.key(&listener), pin).unwrap();
        let mut session = connect_own(&world, &listener);
        session.send(MUCH);
        session.close();
        let counters = world.datapath.counters(&slot);
        let Traffic { packets, bytes, payload_bytes, .. } = counters.own_tx;
        assert_eq!(Arrived { packets, bytes, payload_bytes }, pinned.arrived());
        assert_eq!(other.arrived(), Arrived::default());
        assert!(payload_bytes >= MUCH as u64, "retransmissions count");
        assert!(counters.own_tx.buffers < counters.own_tx.packets, "segmented on the way");
        assert!(counters.own_rx.packets > 2 && counters.own_rx.payload_bytes == 0, "SYN-ACK, ACKs, FIN");
        assert_eq!((counters.foreign_tx, counters.foreign_rx), (Traffic::default(), Traffic::default()));
        assert_eq!(counters.rx_elsewhere_packets, 0);
    }
}

#[test]
fn bmpds_own_connections_and_foreign_ones_are_counted_apart() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let slot = world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    let (mut own, mut foreign) = (connect_own(&world, &listener), world.connect(&listener).unwrap());
    own.send(1000);
    foreign.send(200);
    let counters = world.datapath.counters(&slot);
    assert_eq!(counters.own_tx.payload_bytes, 1000);
    assert_eq!(counters.foreign_tx.payload_bytes, 200);
}

#[test]
fn a_socket_stays_bmpds_own_over_connects_without_a_pin() {
    let world = UplinkWorld::new();
    let (free, pinned) = (world.listen(STATION4), world.listen(STATION4));
    let gone = free.local_addr().unwrap();
    stop_listening(free);
    let slot = world.datapath.install(&world.key(&pinned), world.by_up1()).unwrap();
    let socket = world.router.socket(Domain::IPV4);
    world.datapath.claim(&socket).unwrap();
    socket.connect(&gone.into()).unwrap_err();
    let mut session = connect(socket, pinned.local_addr().unwrap(), &pinned).unwrap();
    session.send(10);
    assert_eq!(world.datapath.counters(&slot).own_tx.payload_bytes, 10);
}

#[test]
fn a_packet_by_another_interface_is_dropped_and_counted() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let capture = world.capture("dn0", listener.local_addr().unwrap().port());
    let slot = world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    let mut session = world.connect(&listener).unwrap();
    session.send(10);
    // Root removes the binding, and routing leads the session to the other uplink.
    SockRef::from(&session.router).bind_device(None).unwrap();
    world.router.ip(&format!("route del {STATION4} via 203.0.113.2"));
    let before = world.datapath.counters(&slot);
    session.router.write_all(&[0; 10]).unwrap();
    let after = wait_for(|| world.datapath.counters(&slot), |counters| counters.denied_interface > 0);
    assert!(after.denied_interface > 0);
    assert_eq!(after.foreign_tx, before.foreign_tx, "a denied packet is not a sent one");
    assert_eq!(capture.arrived(), Arrived::default());
}

#[test]
fn a_packet_with_another_source_is_dropped_and_counted() {
    let world = UplinkWorld::new();
    let ip = |text: &str| Some(text.parse().unwrap());
    for (listener, right, wrong) in [
        (world.listen(STATION4), pin(Some(UP0.into()), 0), pin(ip("198.51.100.0"), 0)),
        (world.listen(STATION6), pin(ip("2001:db8:1::1"), 0), pin(ip("2001:db8:1::"), 0)),
    ] {
        let slot = world.datapath.install(&world.key(&listener), right).unwrap();
        let mut session = world.connect(&listener).unwrap();
        session.send(10);
        world.datapath.overwrite(&slot, wrong);
        session.router.write_all(&[0; 10]).unwrap();
        let counters = wait_for(|| world.datapath.counters(&slot), |counters| counters.denied_source > 0);
        assert!(counters.denied_source > 0);
        assert_eq!(counters.foreign_tx.payload_bytes, 10);
    }
}

#[test]
fn a_packet_without_the_pins_mark_is_dropped_and_counted() {
    const MARK: u32 = 0x626d_0001;
    let world = UplinkWorld::new();
    for (listener, source) in [(world.listen(STATION4), UP1.into()), (world.listen(STATION6), UP1_IPV6.into())] {
        let port = listener.local_addr().unwrap().port();
        let marked = Pin { mark: MARK, ..pin(Some(source), world.router.ifindex("up1")) };
        let slot = world.datapath.install(&world.key(&listener), marked).unwrap();
        let mut session = world.connect(&listener).unwrap();
        session.send(1000);
        assert_eq!(world.datapath.counters(&slot).denied_mark, 0);
        let arrives = ["dn0", "dn1"].map(|link| world.capture(link, port));
        // A process that may set a mark may set another one.
        SockRef::from(&session.router).set_mark(MARK + 1).unwrap();
        session.router.write_all(&[0; 10]).unwrap();
        let counters = wait_for(|| world.datapath.counters(&slot), |counters| counters.denied_mark > 0);
        assert!(counters.denied_mark > 0, "{counters:?}");
        assert_eq!(counters.foreign_tx.payload_bytes, 1000);
        for arrives in arrives {
            assert_eq!(arrives.arrived(), Arrived::default());
        }
    }
}

#[test]
fn a_pin_names_the_last_of_eight_interfaces_and_no_ninth() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let up0 = world.router.ifindex("up0");
    let named = |last| Pin { egress_count: 8, egress: [901, 902, 903, 904, 905, 906, 907, last], ..Pin::default() };
    let slot = world.datapath.install(&world.key(&listener), named(up0)).unwrap();
    let mut session = world.connect(&listener).unwrap();
    session.send(10);
    assert_eq!(world.datapath.counters(&slot).denied_interface, 0);
    world.datapath.overwrite(&slot, Pin { egress_count: 7, ..named(up0) });
    session.router.write_all(&[0; 10]).unwrap();
    let counters = wait_for(|| world.datapath.counters(&slot), |counters| counters.denied_interface > 0);
    assert!(counters.denied_interface > 0);
}

#[test]
fn packets_received_by_another_interface_are_counted_as_such() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let up1 = world.router.ifindex("up1");
    // Packets leave by up1 with the loopback's address. The station routes its answers to up0.
    let pin = Pin { device: 0, ..pin(Some([192, 0, 2, 1].into()), up1) };
    world.router.ip(&format!("route del {STATION4} via 198.51.100.2"));
    let slot = world.datapath.install(&world.key(&listener), pin).unwrap();
    let mut session = world.connect(&listener).unwrap();
    session.send(10);
    let counters = world.datapath.counters(&slot);
    assert!(counters.rx_elsewhere_packets > 0);
    assert_eq!(counters.rx_elsewhere_packets, counters.foreign_rx.packets);
}

#[test]
fn sockets_under_a_replaced_pin_stay_under_it() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let key = world.key(&listener);
    let old_slot = world.datapath.install(&key, world.by_up1()).unwrap();
    let mut old = world.connect(&listener).unwrap();
    let new_slot = world.datapath.install(&key, pin(Some(UP0.into()), world.router.ifindex("up0"))).unwrap();
    let mut new = world.connect(&listener).unwrap();
    old.send(1000);
    new.send(200);
    assert_eq!((old.source(), new.source()), (UP1.into(), UP0.into()));
    assert_eq!(world.datapath.counters(&old_slot).foreign_tx.payload_bytes, 1000);
    assert_eq!(world.datapath.counters(&new_slot).foreign_tx.payload_bytes, 200);

    world.datapath.remove(&key, &new_slot).unwrap();
    old.send(1);
    new.send(1);
    let mut untouched = world.connect(&listener).unwrap();
    untouched.send(1);
    assert_eq!(world.datapath.counters(&new_slot).foreign_tx.payload_bytes, 201);
}

#[test]
fn sockets_under_a_freed_slot_send_nothing_any_more() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let key = world.key(&listener);
    let slot = world.datapath.install(&key, world.by_up1()).unwrap();
    let mut session = world.connect(&listener).unwrap();
    session.send(1000);
    let last = world.datapath.free(slot);
    assert_eq!(last.foreign_tx.payload_bytes, 1000);
    session.router.write_all(&[0; 10]).unwrap();
    let stale = wait_for(|| world.datapath.stale(), |counters| counters.denied_no_pin > 0);
    assert!(stale.denied_no_pin > 0);
    session.station.set_nonblocking(true).unwrap();
    assert!(session.station.peek(&mut [0]).is_err(), "nothing came");
    assert_eq!(world.connect(&listener).unwrap().source(), UP0, "the key has no pin any more");
}

#[test]
fn a_reused_slot_does_not_take_the_sockets_of_its_earlier_pin() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let key = world.key(&listener);
    let slot = world.datapath.install(&key, world.by_up1()).unwrap();
    let number = slot.number();
    let mut session = world.connect(&listener).unwrap();
    world.datapath.free(slot);
    let elsewhere = world.key_of("192.0.2.99:1".parse().unwrap());
    let again = loop {
        let slot = world.datapath.install(&elsewhere, world.by_up1()).unwrap();
        if slot.number() == number {
            break slot;
        }
        world.datapath.free(slot);
    };
    let before = world.datapath.stale();
    session.router.write_all(&[0; 10]).unwrap();
    let stale = wait_for(|| world.datapath.stale(), |counters| counters.denied_no_pin > before.denied_no_pin);
    assert!(stale.denied_no_pin > before.denied_no_pin);
    assert_eq!(world.datapath.counters(&again), Counters::default());
}
