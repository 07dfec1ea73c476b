//! A session's packets that would leave elsewhere, or with another source, do not leave at all, and are counted.

use std::net::IpAddr;

use bmp_ebpf::{PIN_DENY, Pin};
use lab::{
    bgp::prefixes,
    bmp::Peer,
    bmpd::{Bmpd, number},
    sockets::take,
    topology::{BETTER_ROUTE_BY_UP1, STATION, STATION_PORT, UP2},
    trial::{Plan, Trial, outgoing},
};

/// Feeds routes and waits until the kernel has denied packets of the session for `cause`.
fn denied_for(trial: &Trial, feeder: &mut lab::feeder::Feeder, cause: &str) -> u64 {
    feeder.announce(&Peer::default(), &prefixes(100), 1);
    let what = format!("denied for its {cause}");
    let session = trial.bmpd.wait_session(STATION, &what, |s| number(&s["kernel"]["denied"][cause]) > 0);
    number(&session["kernel"]["denied"][cause])
}

#[test]
fn a_socket_that_lost_its_device_binding_loses_every_packet_that_would_leave_by_another_link() {
    let trial = Plan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    let before = trial.routes_arrive(&mut feeder, 100, 0);
    assert_eq!(before.peer.ip(), UP2);
    assert!(!outgoing(&trial.up2.packets()).is_empty(), "the capture saw the session");
    assert_eq!(number(&trial.bmpd.session(STATION)["kernel"]["denied"]["interface"]), 0);

    // Root takes the socket's binding away, and the best route is by the other link.
    take(trial.bmpd.pid(), trial.station.address()).bind_device(None).expect("root may");
    trial.topology.router.ip(&format!("route add {BETTER_ROUTE_BY_UP1}"));

    denied_for(&trial, &mut feeder, "interface");
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&lab::capture::Packet>::new());
    assert_eq!(trial.station.connections()[0].bytes, before.bytes, "and nothing more reached the station");
}

#[test]
fn a_socket_without_device_binding_goes_on_when_the_route_is_right_again() {
    let trial = Plan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 100, 0);
    take(trial.bmpd.pid(), trial.station.address()).bind_device(None).expect("root may");
    trial.topology.router.ip("route add 198.51.100.7/32 via 192.0.2.66 dev up2 metric 1");
    let connection = trial.routes_arrive(&mut feeder, 100, 0);
    assert_eq!(connection.peer.ip(), UP2);
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&lab::capture::Packet>::new());
}

/// The slot of the session's pin, in the tables of this bmpd.
fn slot_of(bmpd: &Bmpd, station: IpAddr) -> u32 {
    let IpAddr::V4(address) = station else { panic!("IPv4 is looked for") };
    let pins = bmpd.objects().pins();
    let mut found = pins
        .iter()
        .map(|entry| entry.expect("the table can be read"))
        .filter(|(key, _)| key.station[..4] == address.octets() && key.port == STATION_PORT)
        .map(|(_, slot)| slot);
    let slot = found.next().expect("the session has a pin");
    assert_eq!(found.next(), None);
    slot
}

/// Changes the live pin of the session as nobody should, and feeds on.
fn with_altered_slot(alter: impl FnOnce(&mut Pin), cause: &str) {
    let trial = Plan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    let before = trial.routes_arrive(&mut feeder, 100, 0);
    let slot = slot_of(&trial.bmpd, STATION);
    let mut slots = trial.bmpd.objects().slots();
    let mut pin = slots.get(&slot, 0).expect("the slot can be read");
    assert_eq!((pin.egress_count, pin.egress[0]), (1, trial.topology.router.ifindex("up2")));
    alter(&mut pin);
    slots.set(slot, pin, 0).expect("the slot can be written");
    let left = outgoing(&trial.up2.packets()).len();

    denied_for(&trial, &mut feeder, cause);
    assert!(left > 0, "the capture saw the session");
    assert_eq!(outgoing(&trial.up2.packets()).len(), left, "nothing more left");
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&lab::capture::Packet>::new());
    assert_eq!(trial.station.connections()[0].bytes, before.bytes);
}

#[test]
fn a_packet_whose_source_is_not_the_slots_source_does_not_leave() {
    with_altered_slot(|pin| pin.source[..4].copy_from_slice(&[192, 0, 2, 129]), "source");
}

#[test]
fn a_packet_by_an_interface_that_is_not_in_the_slot_does_not_leave() {
    with_altered_slot(|pin| pin.egress[0] = u32::MAX, "interface");
}

#[test]
fn a_slot_that_denies_lets_nothing_leave() {
    with_altered_slot(|pin| pin.flags |= PIN_DENY, "no_pin");
}

#[test]
fn a_socket_whose_slot_has_been_given_to_another_pin_loses_its_packets() {
    let trial = Plan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 100, 0);
    let slot = slot_of(&trial.bmpd, STATION);
    let mut slots = trial.bmpd.objects().slots();
    let mut pin = slots.get(&slot, 0).expect("the slot can be read");
    pin.generation += 1;
    slots.set(slot, pin, 0).expect("the slot can be written");
    let left = outgoing(&trial.up2.packets()).len();
    assert!(left > 0, "the capture saw the session");
    feeder.announce(&Peer::default(), &prefixes(100), 1);
    let none = bmp_ebpf::NO_SLOT;
    let counters = trial.bmpd.objects().counters();
    lab::wait::until("slot 0 counts what was denied", lab::wait::PATIENCE, || {
        let values = counters.get(&none, 0).expect("the counters can be read");
        (values.iter().map(|cpu| cpu.denied_no_pin).sum::<u64>() > 0).then_some(())
    });
    assert_eq!(outgoing(&trial.up2.packets()).len(), left, "nothing more left");
}
