//! A dummy interface lends its address, but no packet leaves by it.

use lab::{
    bmp,
    devices::{DUMMY, dummy},
    topology::{STATION, Topology},
    trial::{LabTrial, TrialPlan, assert_left_only_by, outgoing},
};

/// Starts a session that is up from the address of `dummy0`.
fn session_from_dummy(session: &str) -> LabTrial {
    let topology = Topology::new();
    dummy(&topology, "dummy0");
    let trial = TrialPlan::session(session).start_on(topology);
    trial.bmpd.wait_up(STATION);
    assert_eq!(trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION)).peer.ip(), DUMMY);
    trial
}

#[test]
#[ignore = "needs a dummy interface: cargo xtask vm"]
fn a_session_with_a_dummy_interfaces_address_follows_routing() {
    let trial = session_from_dummy("connect-interface dummy0");
    let mut feeder = trial.feeder();
    let connection = trial.routes_arrive(&mut feeder, 50, 0);
    assert_left_only_by(&trial.up1, &trial.up2, &connection);
    let session = trial.bmpd.session(STATION);
    assert_eq!(session["connect_interface"]["interface"], "dummy0", "{session:#}");
    assert_eq!(session["egress"]["interfaces"], serde_json::json!([]), "any interface: {session:#}");
    assert_eq!(session["egress"]["enforcement"], "kernel", "{session:#}");

    trial.topology.carrier_down("up1");
    let connection = trial.routes_arrive(&mut feeder, 50, 0);
    assert_eq!((connection.peer.ip(), connection.end), (DUMMY, None));
    assert!(!outgoing(&trial.up2.packets()).is_empty(), "no packet left by up2");
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
#[ignore = "needs a dummy interface: cargo xtask vm"]
fn losing_the_dummy_interface_takes_the_session_down_until_it_is_back() {
    let trial = session_from_dummy("connect-interface dummy0");
    trial.topology.router.ip("link del dummy0");
    trial.bmpd.wait_down(STATION, "interface-absent");
    trial.topology.router.ip(&format!("link add dummy0 type dummy\naddr add {DUMMY}/32 dev dummy0"));
    trial.bmpd.wait_down(STATION, "interface-down");
    trial.topology.router.ip("link set dummy0 up");
    trial.bmpd.wait_up(STATION);
    assert_eq!(trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION)).peer.ip(), DUMMY);
}

#[test]
#[ignore = "needs a dummy interface: cargo xtask vm"]
fn egress_interface_pins_a_session_from_a_dummy_interface() {
    let trial = session_from_dummy("connect-interface dummy0\n egress-interface up1");
    let connection = trial.routes_arrive(&mut trial.feeder(), 50, 0);
    trial.topology.carrier_down("up1");
    let mut feeder = trial.feeder();
    feeder.announce(&bmp::ReportedPeer::default(), &lab::bgp::prefixes(20), 1);
    assert_left_only_by(&trial.up1, &trial.up2, &connection);
}
