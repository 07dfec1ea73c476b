//! A session whose pin cannot be resolved from the start is Down with the reason, sends nothing
//! elsewhere, and comes up by itself once the cause is gone.
//!
//! Once the cause is gone, the display shows it no longer, whether or not the session is up.

use std::{net::IpAddr, time::Duration};

use lab::{
    bmp,
    capture::CapturedPacket,
    passive::{self, BY_UP2},
    topology::{ROUTE_BY_UP2, STATION, Topology, UP2, UP2_OTHER},
    trial::{LabTrial, TrialPlan, strays},
};

/// Longer than the kernel needs to announce a change, and far shorter than a grown back-off.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Starts a session after `prepare`. It must be Down with `reason` and silent, until `mend` brings
/// it up from `source`.
fn is_down_until(prepare: &str, session: &str, reason: &str, mend: &str, source: IpAddr) {
    let topology = Topology::new();
    topology.router.ip(prepare);
    let trial = TrialPlan::session(session).start_on(topology);
    trial.bmpd.wait_down(STATION, reason);
    assert_eq!(strays(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
    assert_eq!(trial.station.connections().len(), 0);
    trial.topology.router.ip(mend);
    trial.bmpd.wait_session_for(STATION, "up", AT_ONCE, |session| session["state"] == "up");
    let connection = trial.routes_arrive(&mut trial.feeder(), 20, 0);
    assert_eq!(connection.peer.ip(), source);
    assert_eq!(strays(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}

#[test]
fn a_session_waits_for_an_absent_interface() {
    is_down_until(
        "",
        "connect-interface north0",
        "interface-absent",
        "link set up2 down\nlink set up2 name north0\nlink set north0 up
         route add 198.51.100.0/24 via 192.0.2.66 dev north0 metric 20",
        UP2,
    );
}

#[test]
fn a_session_waits_for_an_address_on_the_interface() {
    is_down_until(
        "addr del 192.0.2.129/26 dev up2",
        "connect-interface up2 192.0.2.129",
        "address-absent",
        "addr add 192.0.2.129/26 dev up2",
        UP2_OTHER,
    );
}

#[test]
fn a_session_waits_for_an_interface_without_address() {
    is_down_until(
        "addr del 192.0.2.65/26 dev up2\naddr del 192.0.2.129/26 dev up2",
        "connect-interface up2",
        "address-absent",
        &format!("addr add 192.0.2.65/26 dev up2\nroute add {ROUTE_BY_UP2}"),
        UP2,
    );
}

#[test]
fn a_session_waits_for_a_route_by_the_interface() {
    is_down_until(
        &format!("route del {ROUTE_BY_UP2}"),
        "connect-interface up2",
        "no-route",
        &format!("route add {ROUTE_BY_UP2}"),
        UP2,
    );
}

#[test]
fn a_session_waits_for_an_interface_that_is_down() {
    is_down_until(
        "link set up2 down",
        "connect-interface up2",
        "interface-down",
        &format!("link set up2 up\nroute add {ROUTE_BY_UP2}"),
        UP2,
    );
}

#[test]
fn a_session_waits_for_an_interface_in_a_bridge() {
    is_down_until(
        "link add br0 type bridge\nlink set up2 master br0",
        "connect-interface up2",
        "interface-layer2",
        "link set up2 nomaster",
        UP2,
    );
}

#[test]
fn a_session_waits_for_an_address_on_no_interface() {
    let topology = Topology::new();
    let trial = TrialPlan::session("connect-interface 203.0.113.9").start_on(topology);
    trial.bmpd.wait_down(STATION, "address-absent");
    assert_eq!(trial.up1.packets(), []);
    trial.topology.station.ip("route add 203.0.113.9/32 via 192.0.2.1 dev dn1");
    trial.topology.router.ip("addr add 203.0.113.9/32 dev lo");
    trial.bmpd.wait_session_for(STATION, "up", AT_ONCE, |session| session["state"] == "up");
    let connection = trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(connection.peer.ip(), IpAddr::from([203, 0, 113, 9]));
}

#[test]
fn a_foreign_process_is_denied_while_the_pin_is_unresolved() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    trial.topology.router.ip(&format!("route del {ROUTE_BY_UP2}"));
    trial.bmpd.wait_down(STATION, "no-route");
    let foreign = lab::sockets::ForeignSocket::default();
    let refused = foreign.connect(&trial.topology.router, trial.station.address());
    assert_eq!(refused.expect_err("the pin denies it").kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(strays(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}

/// Waits for a phase in which only the station is missing.
fn waits_without_a_reason(trial: &LabTrial, phase: &str) {
    let session = trial.bmpd.wait_session_for(STATION, phase, AT_ONCE, |session| session["phase"] == phase);
    let waits = if phase == "listening" { Some("waiting-for-station") } else { None };
    assert_eq!((session["reason"].as_str(), session["mend"].as_str()), (waits, None), "{session:#}");
}

#[test]
fn a_past_reason_is_not_displayed_once_the_session_listens() {
    let trial = TrialPlan::session(BY_UP2).start();
    waits_without_a_reason(&trial, "listening");
    trial.bmpd.commit(STATION, "shutdown");
    trial.bmpd.wait_down(STATION, "shutdown");
    trial.bmpd.commit(STATION, "undo shutdown");
    waits_without_a_reason(&trial, "listening");
    trial.topology.carrier_down("up2");
    trial.bmpd.wait_down(STATION, "interface-down");
    trial.topology.carrier_up("up2");
    waits_without_a_reason(&trial, "listening");
    trial.bmpd.commit(STATION, "undo tcp listen port");
    trial.bmpd.wait_down(STATION, "not-configured");
    trial.bmpd.commit(STATION, &format!("tcp listen port {}", passive::PORT));
    waits_without_a_reason(&trial, "listening");
}

#[test]
fn a_past_reason_is_not_displayed_while_the_station_is_silent() {
    let topology = Topology::new();
    // The station has no route back, and so does not answer.
    topology.station.ip("route add blackhole 192.0.2.65/32");
    let trial = TrialPlan::session("connect-interface up2").start_on(topology);
    waits_without_a_reason(&trial, "connecting");
    let add = format!("route add {ROUTE_BY_UP2}");
    let renamed = format!("link set north0 name up2\nlink set up2 up\n{add}");
    for (lose, reason, mend) in [
        (format!("route del {ROUTE_BY_UP2}"), "no-route", add.clone()),
        ("link set up2 down".to_owned(), "interface-down", format!("link set up2 up\n{add}")),
        ("link set up2 down\nlink set up2 name north0".to_owned(), "interface-absent", renamed),
    ] {
        trial.topology.router.ip(&lose);
        trial.bmpd.wait_down(STATION, reason);
        trial.topology.router.ip(&mend);
        waits_without_a_reason(&trial, "connecting");
    }
}

#[test]
fn the_end_of_the_last_connection_is_displayed_until_the_next_one() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    trial.topology.station.ip("route add blackhole 192.0.2.65/32");
    trial.bmpd.display(&format!("reset bmp session {STATION}"));
    let again = |session: &serde_json::Value| session["phase"] == "connecting";
    assert_eq!(trial.bmpd.wait_session(STATION, "connecting", again)["reason"], "manual-reset");
    let failed = trial.bmpd.wait_down(STATION, "connect-timeout");
    assert_eq!(failed["phase"], "down", "{failed:#}");
    assert_eq!(trial.bmpd.wait_session(STATION, "connecting", again)["reason"], "connect-timeout");
}
