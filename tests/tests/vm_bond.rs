//! Ports of a bond or a team are layer 2 and cannot carry sessions. The bond itself can.

use std::time::Duration;

use lab::{
    bmp,
    capture::{CapturedPacket, LinkCapture},
    devices::{aggregate, enslave_uplink2, release_uplink2},
    topology::{STATION, STATION_PORT, Topology, UP2},
    trial::{TrialPlan, assert_left_only_by, strays},
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
