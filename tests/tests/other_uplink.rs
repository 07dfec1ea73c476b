//! A session pinned to one uplink neither moves, nor breaks, nor waits when the other uplink or its
//! routes change.

use lab::{
    station::RecordedConnection,
    topology::{BETTER_ROUTE_BY_UP1, LOOPBACK, ROUTE_BY_UP1, ROUTE_BY_UP2, STATION, STATION_V6, UP2, UP2_V6},
    trial::{LabTrial, TrialPlan, assert_left_only_by, outgoing},
};

/// Asserts that the session has had one connection from its beginning, by `up2` alone.
fn assert_never_moved(trial: &LabTrial, connection: &RecordedConnection) {
    assert_left_only_by(&trial.up2, &trial.up1, connection);
    assert_eq!(trial.station.connections().len(), 1);
    let ip = connection.peer.ip();
    let station = trial.station.address().ip();
    let session = trial.bmpd.session(station);
    assert_eq!((&session["state"], session["local_address"].as_str()), (&"up".into(), Some(&*ip.to_string())));
    assert_eq!(session["established_count"], 1);
}

#[test]
fn an_existing_better_route_by_the_other_uplink_has_no_effect() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let connection = trial.routes_arrive(&mut trial.feeder(), 500, 0);
    assert_eq!(connection.peer.ip(), UP2);
    assert_never_moved(&trial, &connection);
}

#[test]
fn a_better_route_that_appears_changes_and_goes_has_no_effect() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    let events = [
        format!("route add {BETTER_ROUTE_BY_UP1}"),
        "route replace 198.51.100.7/32 via 192.0.2.3 dev up1 metric 1".to_owned(),
        "route replace 198.51.100.7/32 dev up1 scope link metric 1".to_owned(),
        "route del 198.51.100.7/32 metric 1".to_owned(),
        format!("route del {ROUTE_BY_UP1}"),
        format!("route add {ROUTE_BY_UP1}"),
        "route add default via 192.0.2.2 dev up1".to_owned(),
    ];
    for event in events {
        trial.topology.router.ip(&event);
        let connection = trial.routes_arrive(&mut feeder, 50, 0);
        assert_eq!(connection.peer.ip(), UP2, "after {event}");
        assert_never_moved(&trial, &connection);
    }
}

#[test]
fn an_ipv6_session_does_not_move_to_a_better_route() {
    let trial = TrialPlan { station: STATION_V6, ..TrialPlan::session("connect-interface up2") }.start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 50, 0);
    trial.topology.router.ip("route add 2001:db8:7::7/128 via 2001:db8:1::2 dev up1 metric 1");
    trial.routes_arrive(&mut feeder, 50, 0);
    trial.topology.router.ip("route del 2001:db8:7::7/128 via 2001:db8:1::2 dev up1 metric 1");
    let connection = trial.routes_arrive(&mut feeder, 50, 0);
    assert_eq!(connection.peer.ip(), UP2_V6);
    assert_never_moved(&trial, &connection);
}

#[test]
fn the_other_uplink_going_down_and_away_has_no_effect() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    trial.topology.carrier_down("up1");
    trial.routes_arrive(&mut feeder, 50, 0);
    trial.topology.carrier_up("up1");
    trial.routes_arrive(&mut feeder, 50, 0);
    trial.topology.router.ip("link set up1 down");
    trial.routes_arrive(&mut feeder, 50, 0);
    let connection = trial.routes_arrive(&mut feeder, 50, 0);
    assert_never_moved(&trial, &connection);
    trial.topology.router.ip("link del up1");
    let after = trial.routes_arrive(&mut feeder, 50, 0);
    assert_eq!((after.peer, trial.station.connections().len()), (connection.peer, 1));
}

#[test]
fn a_session_from_a_loopback_address_follows_routing_without_a_break() {
    let trial = TrialPlan::session("connect-interface lo").start_up();
    let mut feeder = trial.feeder();
    let before = trial.routes_arrive(&mut feeder, 50, 0);
    assert_left_only_by(&trial.up1, &trial.up2, &before);
    // Now the best route is by up2.
    trial.topology.router.ip(&format!("route del {ROUTE_BY_UP1}"));
    let after = trial.routes_arrive(&mut feeder, 50, 0);
    assert_eq!((after.peer, after.peer.ip()), (before.peer, LOOPBACK));
    assert!(!outgoing(&trial.up2.packets()).is_empty(), "no packet left by up2");
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn sessions_on_different_uplinks_do_not_touch_each_other() {
    // Two sessions of one bmpd, each pinned to another uplink.
    let system = "bmp\n bmp-session 198.51.100.8\n  tcp connect port 11019\n  connect-interface up1";
    let plan = TrialPlan { system, ..TrialPlan::session("connect-interface up2") };
    let trial = plan.start();
    let other = lab::station::TestStation::start(&trial.topology.station, (lab::topology::STATION_2, 11019));
    trial.bmpd.wait_up(STATION);
    trial.bmpd.wait_up(lab::topology::STATION_2);
    let mut feeder = trial.feeder();
    assert_eq!(trial.routes_arrive(&mut feeder, 100, 0).peer.ip(), UP2);
    let connection = other.wait_connection(0, "the same routes", |c| c.announced() == 100);
    assert_eq!(connection.peer.ip(), lab::topology::UP1);
    let crossed = |p: &&lab::capture::CapturedPacket| p.destination.ip() == lab::topology::STATION_2;
    assert_eq!(outgoing(&trial.up2.packets()).into_iter().filter(crossed).count(), 0);
    assert!(outgoing(&trial.up1.packets()).iter().all(crossed));
    // The loss of one session's only route does not touch the other.
    trial.topology.router.ip(&format!("route del {ROUTE_BY_UP2}"));
    trial.bmpd.wait_down(STATION, "no-route");
    feeder.announce(&lab::bmp::ReportedPeer::default(), &lab::bgp::prefixes(100), 1);
    other.wait_connection(0, "more routes", |c| c.announced() == 200);
    assert_eq!(other.connections().len(), 1);
}
