//! A session can be pinned to a VLAN interface like to any interface. Its packets leave tagged.

use lab::{
    bmp,
    capture::{CapturedPacket, LinkCapture, PacketDirection},
    devices::{VLAN, route_by_vlan, vlan},
    topology::{STATION, STATION_PORT, Topology},
    trial::{TrialPlan, assert_left_only_by, outgoing, strays},
};

#[test]
#[ignore = "needs a VLAN interface: cargo xtask vm"]
fn a_session_pinned_to_a_vlan_arrives_with_its_tag() {
    let topology = Topology::without_offload();
    vlan(&topology, 7);
    let here = LinkCapture::start(&topology.router, "up2.7", STATION_PORT);
    // A capture on a VLAN interface sees only packets with its tag.
    let there = LinkCapture::start(&topology.station, "dn2.7", STATION_PORT);
    let trial = TrialPlan::session("connect-interface up2.7").start_on(topology);
    trial.bmpd.wait_up(STATION);
    let connection = trial.routes_arrive(&mut trial.feeder(), 50, 0);
    assert_eq!(connection.peer.ip(), VLAN);
    assert_left_only_by(&here, &trial.up1, &connection);
    let session = trial.bmpd.session(STATION);
    assert_eq!(session["egress"]["interfaces"], serde_json::json!(["up2.7"]), "{session:#}");
    let arrived: u64 = there
        .packets()
        .iter()
        .filter(|packet| packet.direction == PacketDirection::In && packet.source == connection.peer)
        .map(|packet| packet.payload_bytes)
        .sum();
    assert!(arrived >= connection.bytes, "{arrived} bytes arrived with the tag, the station has {}", connection.bytes);
}

#[test]
#[ignore = "needs a VLAN interface: cargo xtask vm"]
fn losing_the_interface_below_a_vlan_takes_the_session_down_until_back() {
    let topology = Topology::new();
    vlan(&topology, 7);
    let trial = TrialPlan::session("connect-interface up2.7").start_on(topology);
    trial.bmpd.wait_up(STATION);
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 20, 0);
    trial.topology.carrier_down("up2");
    trial.bmpd.wait_down(STATION, "interface-down");
    feeder.announce(&bmp::ReportedPeer::default(), &lab::bgp::prefixes(20), 1);
    assert!(!outgoing(&trial.up2.packets()).is_empty(), "the capture saw no packet of the session");
    trial.topology.carrier_up("up2");
    trial.topology.station.ip("link set dn2.7 up");
    trial.bmpd.wait_up(STATION);
    assert_eq!(trial.routes_arrive(&mut feeder, 20, 1).peer.ip(), VLAN);
    assert_eq!(strays(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}

#[test]
#[ignore = "needs a VLAN interface: cargo xtask vm"]
fn a_session_waits_for_a_vlan_interface() {
    let topology = Topology::new();
    let trial = TrialPlan::session("connect-interface up2.7").start_on(topology);
    trial.bmpd.wait_down(STATION, "interface-absent");
    vlan(&trial.topology, 7);
    trial.bmpd.wait_up(STATION);
    assert_eq!(trial.routes_arrive(&mut trial.feeder(), 20, 0).peer.ip(), VLAN);
    trial.topology.router.ip(&format!("route del {}", route_by_vlan(7)));
    trial.bmpd.wait_down(STATION, "no-route");
    assert_eq!(strays(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}
