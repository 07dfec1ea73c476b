//! Packets of a session with the wrong interface or source do not leave. The kernel counts them.

use std::net::{IpAddr, Ipv4Addr};

use bmp_ebpf::{PIN_DENY, Pin};
use lab::{
    bgp::prefixes,
    bmp::ReportedPeer,
    bmpd::{Bmpd, number},
    sockets::take,
    topology::{BETTER_ROUTE_BY_UP1, STATION, STATION_PORT, UP2},
    trial::{LabTrial, TrialPlan, outgoing},
};

/// Feeds routes and waits until the kernel has denied packets of the session for `cause`. Returns
/// how many.
fn denied_for(trial: &LabTrial, feeder: &mut lab::feeder::BmpFeeder, cause: &str) -> u64 {
    feeder.announce(&ReportedPeer::default(), &prefixes(100), 1);
    let what = format!("denied for its {cause}");
    let session = trial.bmpd.wait_session(STATION, &what, |s| number(&s["kernel"]["denied"][cause]) > 0);
    number(&session["kernel"]["denied"][cause])
}

#[test]
fn an_unbound_socket_loses_every_packet_that_would_leave_by_another_link() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    let before = trial.routes_arrive(&mut feeder, 100, 0);
    assert_eq!(before.peer.ip(), UP2);
    assert!(!outgoing(&trial.up2.packets()).is_empty(), "the capture saw no packet of the session");
    assert_eq!(number(&trial.bmpd.session(STATION)["kernel"]["denied"]["interface"]), 0);

    // Root removes the binding of the socket, while the best route is by the other link.
    take(trial.bmpd.pid(), trial.station.address()).bind_device(None).expect("root may unbind the socket");
    trial.topology.router.ip(&format!("route add {BETTER_ROUTE_BY_UP1}"));

    denied_for(&trial, &mut feeder, "interface");
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&lab::capture::CapturedPacket>::new());
    assert_eq!(trial.station.connections()[0].bytes, before.bytes, "more bytes reached the station");
}

#[test]
fn an_unbound_socket_goes_on_once_the_route_is_right() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 100, 0);
    take(trial.bmpd.pid(), trial.station.address()).bind_device(None).expect("root may unbind the socket");
    trial.topology.router.ip("route add 198.51.100.7/32 via 192.0.2.66 dev up2 metric 1");
    let connection = trial.routes_arrive(&mut feeder, 100, 0);
    assert_eq!(connection.peer.ip(), UP2);
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&lab::capture::CapturedPacket>::new());
}

/// Finds the slot of the session's pin in the maps of this bmpd.
fn slot_of(bmpd: &Bmpd, station: IpAddr) -> u32 {
    let IpAddr::V4(address) = station else { panic!("the station's address is IPv4") };
    let pins = bmpd.objects().pins();
    let mut found = pins
        .iter()
        .map(|entry| entry.expect("the map is readable"))
        .filter(|(key, _)| key.station == address.into() && key.port == STATION_PORT)
        .map(|(_, slot)| slot);
    let slot = found.next().expect("the session has a pin");
    assert_eq!(found.next(), None);
    slot
}

/// Corrupts the session's pin in the kernel map, and feeds on. The kernel must deny every packet.
fn with_altered_slot(alter: impl FnOnce(&mut Pin), cause: &str) {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    let before = trial.routes_arrive(&mut feeder, 100, 0);
    let slot = slot_of(&trial.bmpd, STATION);
    let mut slots = trial.bmpd.objects().slots();
    let mut pin = slots.get(&slot, 0).expect("the slot is readable");
    assert_eq!((pin.egress_count, pin.egress[0]), (1, trial.topology.router.ifindex("up2")));
    alter(&mut pin);
    slots.set(slot, pin, 0).expect("the slot is writable");
    let left = outgoing(&trial.up2.packets()).len();

    denied_for(&trial, &mut feeder, cause);
    assert!(left > 0, "the capture saw no packet of the session");
    assert_eq!(outgoing(&trial.up2.packets()).len(), left, "more packets left");
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&lab::capture::CapturedPacket>::new());
    assert_eq!(trial.station.connections()[0].bytes, before.bytes);
}

#[test]
fn a_packet_with_another_source_than_its_slot_does_not_leave() {
    with_altered_slot(|pin| pin.source = Ipv4Addr::new(192, 0, 2, 129).into(), "source");
}

#[test]
fn a_packet_by_another_interface_than_its_slot_does_not_leave() {
    with_altered_slot(|pin| pin.egress[0] = u32::MAX, "interface");
}

#[test]
fn a_denying_slot_lets_no_packet_leave() {
    with_altered_slot(|pin| pin.flags |= PIN_DENY, "no_pin");
}

#[test]
fn a_socket_whose_slot_belongs_to_another_pin_loses_its_packets() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 100, 0);
    let slot = slot_of(&trial.bmpd, STATION);
    let mut slots = trial.bmpd.objects().slots();
    let mut pin = slots.get(&slot, 0).expect("the slot is readable");
    pin.generation += 1;
    slots.set(slot, pin, 0).expect("the slot is writable");
    let left = outgoing(&trial.up2.packets()).len();
    assert!(left > 0, "the capture saw no packet of the session");
    feeder.announce(&ReportedPeer::default(), &prefixes(100), 1);
    let none = bmp_ebpf::NO_SLOT;
    let counters = trial.bmpd.objects().counters();
    lab::wait::until("slot 0 counts denied packets", lab::wait::PATIENCE, || {
        let values = counters.get(&none, 0).expect("the counters are readable");
        (values.iter().map(|cpu| cpu.denied_no_pin).sum::<u64>() > 0).then_some(())
    });
    assert_eq!(outgoing(&trial.up2.packets()).len(), left, "more packets left");
}
