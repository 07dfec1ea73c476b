//! Ports of a bond or a team are layer 2 and cannot carry sessions. The bond or team itself can, by
//! whichever port it uses.

use std::time::Duration;

use lab::{
    bmp,
    bmpd::number,
    capture::{CapturedPacket, LinkCapture, PacketDirection, sum},
    devices::{FailoverAggregate, aggregate, enslave_uplink2, release_uplink2},
    topology::{STATION, STATION_PORT, Topology, UP2},
    trial::{TrialPlan, assert_left_only_by, outgoing, strays},
};

/// Longer than the kernel needs to announce a change, and far shorter than a grown back-off.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Makes the interface of a session a port of an aggregate of `kind`, and releases it again.
fn becomes_a_port_and_comes_back(kind: &str) {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 20, 0);
    aggregate(&trial.topology, "agg0", kind);
    enslave_uplink2(&trial.topology, "agg0");
    let session = trial.bmpd.wait_down(STATION, "interface-layer2");
    assert!(session["detail"].as_str().is_some_and(|detail| detail.contains("agg0")), "{session:#}");
    // The session waits for a change of the host, without a back-off.
    assert!(session["retry_in_seconds"].is_null(), "{session:#}");
    feeder.announce(&bmp::ReportedPeer::default(), &lab::bgp::prefixes(20), 1);

    release_uplink2(&trial.topology);
    trial.bmpd.wait_session_for(STATION, "up", AT_ONCE, |session| session["state"] == "up");
    let connection = trial.routes_arrive(&mut feeder, 20, 1);
    assert_eq!(connection.peer.ip(), UP2);
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 2);
    assert_eq!(strays(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}

#[test]
#[ignore = "needs a bond: cargo xtask vm"]
fn becoming_a_bond_port_takes_the_session_down_until_released() {
    becomes_a_port_and_comes_back("bond");
}

#[test]
#[ignore = "needs a team: cargo xtask vm"]
fn becoming_a_team_port_takes_the_session_down_until_released() {
    becomes_a_port_and_comes_back("team");
}

#[test]
#[ignore = "needs a bond: cargo xtask vm"]
fn a_session_pinned_to_a_bond_leaves_by_it() {
    let topology = Topology::new();
    aggregate(&topology, "bond0", "bond");
    enslave_uplink2(&topology, "bond0");
    topology.router.ip("addr del 192.0.2.65/26 dev up2
         addr add 192.0.2.65/26 dev bond0
         route add 198.51.100.0/24 via 192.0.2.66 dev bond0 metric 20");
    let bond = LinkCapture::start(&topology.router, "bond0", STATION_PORT);
    let trial = TrialPlan::session("connect-interface bond0").start_on(topology);
    trial.bmpd.wait_up(STATION);
    let connection = trial.routes_arrive(&mut trial.feeder(), 50, 0);
    assert_eq!(connection.peer.ip(), UP2);
    assert_left_only_by(&bond, &trial.up1, &connection);
}

/// Pins a session to an aggregate whose port in use loses its carrier, and asserts that the session
/// stays, leaves by the aggregate's other port, and is counted to the byte.
fn follows_the_aggregate(make: impl FnOnce(&Topology, &'static str) -> FailoverAggregate) {
    let topology = Topology::without_offload();
    let aggregate = make(&topology, "agg0");
    let [agg0, up3] = ["agg0", "up3"].map(|link| LinkCapture::start(&topology.router, link, STATION_PORT));
    // A probe on its way while neither port is active would be counted, and leave by neither.
    let trial = TrialPlan::session("connect-interface agg0\n keepalive 0").start_on(topology);
    trial.bmpd.wait_up(STATION);
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 50, 0);
    trial.at_rest(&agg0);
    assert_ne!(outgoing(&trial.up2.packets()), Vec::<&CapturedPacket>::new());
    assert_eq!(up3.packets(), []);

    trial.topology.station.ip("link set dn2 down");
    aggregate.wait_active("up3");
    let connection = trial.routes_arrive(&mut feeder, 50, 0);
    assert_eq!(connection.peer.ip(), UP2);
    let (session, by_up3) = trial.at_rest(&up3);
    // The ports carry each segment in its own packet.
    let out = |p: &CapturedPacket| p.direction == PacketDirection::Out && p.source == connection.peer;
    let (first, second) = (sum(&trial.up2.packets(), out), sum(&by_up3, out));
    assert!(second.1 > 0, "no packet left by the other port");
    let kernel = &session["kernel"];
    let counted = (number(&kernel["tx_bytes"]), number(&kernel["tx_packets"]));
    assert_eq!(counted, (first.0 + second.0, first.1 + second.1), "{session:#}");
    assert_eq!((&session["established_count"], &kernel["denied"]["interface"]), (&1.into(), &0.into()), "{session:#}");
    assert_left_only_by(&agg0, &trial.up1, &connection);
}

#[test]
#[ignore = "needs a bond: cargo xtask vm"]
fn a_session_pinned_to_a_bond_stays_when_the_bond_changes_its_port() {
    follows_the_aggregate(FailoverAggregate::bond);
}

#[test]
#[ignore = "needs a team: cargo xtask vm"]
fn a_session_pinned_to_a_team_stays_when_the_team_changes_its_port() {
    follows_the_aggregate(FailoverAggregate::team);
}
