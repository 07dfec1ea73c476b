//! Interfaces on top of others: a session can be pinned to a bond, a team or an ipvlan interface as
//! to any interface, also with a next hop and in a VRF.

use lab::{
    bmp,
    bmpd::{Bmpd, number},
    capture::{CapturedPacket, LinkCapture, PacketDirection, sum},
    devices::{TeamDaemon, VRF_TABLE, aggregate, enslave_uplink2, take_place_of_uplink2, team_of_uplink2},
    station::TestStation,
    topology::{STATION, STATION_PORT, Topology, UP2},
    trial::{LabTrial, TrialPlan, assert_left_only_by, outgoing},
};

/// Replaces the route by `up2` by one by `interface`.
fn take_route_of_uplink2(topology: &Topology, interface: &str) {
    topology.router.ip(&format!("route replace 198.51.100.0/24 via 192.0.2.66 dev {interface} metric 20"));
}

/// Makes an ipvlan interface, with or without a route to the station.
fn ipvlan(routed: bool) -> Topology {
    let topology = Topology::without_offload();
    topology.router.ip("link add ipvlan0 link up2 type ipvlan mode l2");
    take_place_of_uplink2(&topology, "ipvlan0");
    if routed {
        take_route_of_uplink2(&topology, "ipvlan0");
    }
    topology
}

/// Makes a bond without a route to the station.
fn bond() -> Topology {
    let topology = Topology::without_offload();
    aggregate(&topology, "bond0", "bond");
    enslave_uplink2(&topology, "bond0");
    take_place_of_uplink2(&topology, "bond0");
    topology
}

/// Makes a team, with or without a route to the station.
fn team(routed: bool) -> (Topology, TeamDaemon) {
    let topology = Topology::without_offload();
    let daemon = team_of_uplink2(&topology, "team0");
    if routed {
        take_route_of_uplink2(&topology, "team0");
    }
    (topology, daemon)
}

/// Asserts that a session pinned to `interface` leaves by it alone, from its address, and is
/// counted to the byte.
fn leaves_by(topology: Topology, interface: &str, next_hop: &str) {
    let here = LinkCapture::start(&topology.router, interface, STATION_PORT);
    let session = format!("connect-interface {interface}\n{next_hop}");
    let trial: LabTrial = TrialPlan::session(&session).start_on(topology);
    trial.bmpd.wait_up(STATION);
    let connection = trial.routes_arrive(&mut trial.feeder(), 50, 0);
    assert_eq!(connection.peer.ip(), UP2);
    assert_left_only_by(&here, &trial.up1, &connection);
    // The link below carries each segment in its own packet.
    let (session, packets) = trial.at_rest(&trial.up2);
    let left = sum(&packets, |p| p.direction == PacketDirection::Out && p.source == connection.peer);
    let kernel = &session["kernel"];
    assert_eq!((number(&kernel["tx_bytes"]), number(&kernel["tx_packets"])), left, "{session:#}");
    assert_eq!(kernel["denied"]["interface"], 0, "{session:#}");
}

const NEXT_HOP: &str = "next-hop 192.0.2.66";

#[test]
#[ignore = "needs ipvlan: cargo xtask vm"]
fn a_session_pinned_to_an_ipvlan_interface_leaves_by_it() {
    leaves_by(ipvlan(true), "ipvlan0", "");
}

#[test]
#[ignore = "needs ipvlan: cargo xtask vm"]
fn a_session_with_a_next_hop_on_an_ipvlan_interface_leaves_by_it() {
    leaves_by(ipvlan(false), "ipvlan0", NEXT_HOP);
}

#[test]
#[ignore = "needs a bond: cargo xtask vm"]
fn a_session_with_a_next_hop_on_a_bond_leaves_by_it() {
    leaves_by(bond(), "bond0", NEXT_HOP);
}

#[test]
#[ignore = "needs a team: cargo xtask vm"]
fn a_session_pinned_to_a_team_leaves_by_it() {
    let (topology, _daemon) = team(true);
    leaves_by(topology, "team0", "");
}

#[test]
#[ignore = "needs a team: cargo xtask vm"]
fn a_session_with_a_next_hop_on_a_team_leaves_by_it() {
    let (topology, _daemon) = team(false);
    leaves_by(topology, "team0", NEXT_HOP);
}

#[test]
#[ignore = "needs a bond and a VRF: cargo xtask vm"]
fn a_session_in_a_vrf_leaves_by_the_vrfs_bond() {
    let topology = bond();
    // An interface that enters a VRF loses its routes.
    topology.router.ip(&format!(
        "link add mgmt type vrf table {VRF_TABLE}
         link set mgmt up
         link set bond0 master mgmt
         route add 198.51.100.0/24 via 192.0.2.66 dev bond0 table {VRF_TABLE}"
    ));
    let [bond0, up1] = ["bond0", "up1"].map(|link| LinkCapture::start(&topology.router, link, STATION_PORT));
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let session = format!("bmp-session vpn-instance mgmt {STATION}\n  tcp connect port {STATION_PORT}");
    let bmpd = Bmpd::start(&topology.router, &format!("bmp\n {session}\n  connect-interface bond0\n"));
    bmpd.wait_up(STATION);
    let connection = station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(connection.peer.ip(), UP2);
    assert_left_only_by(&bond0, &up1, &connection);
    assert_eq!(outgoing(&up1.packets()), Vec::<&CapturedPacket>::new());
    assert_eq!(bmpd.session(STATION)["kernel"]["denied"]["interface"], 0);
}

/// Makes an ipvlan interface in a mode in which `up2` routes each packet once more, by its own
/// route to the station. That of `up1` is still the best.
fn routing_ipvlan(mode: &str) -> Topology {
    let topology = Topology::without_offload();
    topology.router.ip(&format!(
        "link add ipvlan0 link up2 type ipvlan mode {mode}
         route replace 198.51.100.0/24 via 192.0.2.130 dev up2 metric 30"
    ));
    // In mode l3, an answer for the address of ipvlan0 never gets to the neighbour table of `up2`.
    topology.router.sysctl("net/ipv4/conf/up2/arp_announce", "2");
    take_place_of_uplink2(&topology, "ipvlan0");
    topology.router.ip("route add 198.51.100.0/24 dev ipvlan0 metric 40");
    topology.station.ip("route add 192.0.2.65/32 via 192.0.2.129 dev dn2");
    topology
}

#[test]
#[ignore = "needs ipvlan: cargo xtask vm"]
fn a_session_pinned_to_an_ipvlan_interface_in_mode_l3_leaves_by_the_interface_below() {
    leaves_by(routing_ipvlan("l3"), "ipvlan0", "");
}

#[test]
#[ignore = "needs ipvlan: cargo xtask vm"]
fn a_session_pinned_to_an_ipvlan_interface_in_mode_l3s_leaves_by_the_interface_below() {
    leaves_by(routing_ipvlan("l3s"), "ipvlan0", "");
}
