//! `hold-down` gives the host time to recover a loss while there is a connection. An operator's
//! changes still take effect at once.

use std::time::Duration;

use lab::{
    bmp,
    bmpd::Bmpd,
    capture::CapturedPacket,
    sockets::ForeignSocket,
    station::RecordedEnd,
    topology::STATION,
    trial::{LabTrial, TrialPlan, outgoing, strays},
    wait::{PATIENCE, until},
};
use serde_json::Value;

/// Longer than bmpd needs to apply a commit, and far shorter than every hold-down here.
const AT_ONCE: Duration = Duration::from_secs(5);

const HELD: &str = "connect-interface up2\nhold-down 600000";

/// Starts a session that is up by `up2`, takes the carrier away, and waits until the session is
/// held.
fn held(session: &str) -> LabTrial {
    let trial = TrialPlan::session(session).start_up();
    trial.topology.carrier_down("up2");
    wait_held(&trial.bmpd);
    assert_eq!(trial.bmpd.session(STATION)["state"], "up");
    trial
}

fn wait_held(bmpd: &Bmpd) -> Value {
    until("the session is held", PATIENCE, || Some(bmpd.first_binding()).filter(|binding| binding["state"] == "held"))
}

fn down_at_once(trial: &LabTrial, reason: &str) {
    let is_down = |session: &Value| session["state"] == "down" && session["reason"] == reason;
    trial.bmpd.wait_session_for(STATION, &format!("down, {reason}"), AT_ONCE, is_down);
    let denied = ForeignSocket::default().connect(&trial.topology.router, trial.station.address());
    assert_eq!(denied.expect_err("the pin denies it").kind(), std::io::ErrorKind::PermissionDenied);
}

fn nothing_by_up1(trial: &LabTrial) {
    assert_eq!(strays(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}

/// Commits a change while a session is up. The session must end in an orderly way by the old link,
/// and be down with `reason` at once.
fn a_commit_takes_it_down(system: &str, session: &str, commit: &str, reason: &str) {
    let trial = TrialPlan { system, ..TrialPlan::session(session) }.start_up();
    trial.bmpd.commit_lines(commit);
    down_at_once(&trial, reason);
    let old = trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    assert_eq!(old.end, Some(RecordedEnd::Fin));
    nothing_by_up1(&trial);
}

#[test]
fn configuring_an_absent_interface_takes_the_session_down_at_once() {
    let commit = format!("bmp\nbmp-session {STATION}\nconnect-interface nosuch0");
    a_commit_takes_it_down("", HELD, &commit, "interface-absent");
}

#[test]
fn configuring_an_absent_address_takes_the_session_down_at_once() {
    let commit = format!("bmp\nbmp-session {STATION}\nconnect-interface up2 192.0.2.99");
    a_commit_takes_it_down("", HELD, &commit, "address-absent");
}

#[test]
fn an_absent_address_in_the_bmp_view_takes_the_session_down_at_once() {
    let trial = TrialPlan { bmp: " connect-interface 192.0.2.65", ..TrialPlan::session("hold-down 600000") }.start_up();
    trial.bmpd.commit_lines("bmp\nconnect-interface 192.0.2.99");
    down_at_once(&trial, "address-absent");
}

#[test]
fn removing_an_alias_takes_the_session_down_at_once() {
    let session = "connect-interface GigabitEthernet0/1/0\nhold-down 600000";
    let commit = "undo interface-alias up2 GigabitEthernet0/1/0";
    a_commit_takes_it_down("interface-alias up2 GigabitEthernet0/1/0", session, commit, "interface-absent");
}

#[test]
fn an_unresolvable_change_takes_a_held_session_down_at_once() {
    let trial = held(HELD);
    trial.bmpd.commit(STATION, "connect-interface nosuch0");
    down_at_once(&trial, "interface-absent");
}

#[test]
fn an_unrelated_change_leaves_the_session_held() {
    let trial = held(HELD);
    trial.bmpd.commit_lines("interface-alias up1 north\nsysname edge2");
    assert_eq!(wait_held(&trial.bmpd)["source"], "192.0.2.65");
    trial.topology.carrier_up("up2");
    trial.routes_arrive(&mut trial.feeder(), 20, 0);
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn a_reset_of_a_held_session_connects_only_once_the_interface_is_back() {
    let trial = held(HELD);
    let before = trial.up2.packets().len();
    trial.bmpd.display(&format!("reset bmp session {STATION}"));
    down_at_once(&trial, "interface-down");
    nothing_by_up1(&trial);
    let packets = trial.up2.packets();
    let after = outgoing(&packets[before..]);
    assert!(!after.iter().any(|packet| packet.syn), "{after:?}");
    trial.topology.carrier_up("up2");
    trial.bmpd.wait_session_for(STATION, "up", AT_ONCE, |session| session["established_count"] == 2);
    trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
}

#[test]
fn a_reset_of_a_held_adopted_session_denies_its_daemon_meanwhile() {
    let trial = TrialPlan::session(&format!("adopt\n{HELD}")).start();
    trial.bmpd.wait_session(STATION, "waiting for its daemon", |session| session["phase"] == "connecting");
    let connect = || ForeignSocket::default().connect(&trial.topology.router, trial.station.address());
    let _stream = connect().expect("the pin lets it connect");
    trial.bmpd.wait_up(STATION);
    trial.topology.carrier_down("up2");
    wait_held(&trial.bmpd);
    trial.bmpd.display(&format!("reset bmp session {STATION}"));
    down_at_once(&trial, "interface-down");
    trial.topology.carrier_up("up2");
    trial.bmpd.wait_session(STATION, "waiting for its daemon", |session| session["phase"] == "connecting");
    let _stream = connect().expect("the pin lets it connect");
    trial.bmpd.wait_up(STATION);
}

#[test]
fn a_session_without_a_connection_is_not_held() {
    let trial = TrialPlan::session(&format!("tcp listen port 11019\n{HELD}")).start();
    trial.bmpd.wait_session(STATION, "listening", |session| session["phase"] == "listening");
    trial.topology.carrier_down("up2");
    trial.bmpd.wait_session_for(STATION, "down", AT_ONCE, |session| session["reason"] == "interface-down");
}

#[test]
fn a_shortened_hold_down_ends_at_the_new_time() {
    let trial = held(HELD);
    trial.bmpd.commit(STATION, "hold-down 599999");
    assert_eq!(trial.bmpd.session(STATION)["state"], "up");
    wait_held(&trial.bmpd);
    trial.bmpd.commit(STATION, "hold-down 1");
    down_at_once(&trial, "interface-down");
    nothing_by_up1(&trial);
}

#[test]
fn a_held_session_is_displayed_with_reason_and_remaining_time() {
    let trial = held(HELD);
    let shown = trial.bmpd.first_binding();
    assert_eq!(
        (shown["held"]["reason"].as_str(), shown["source"].as_str()),
        (Some("interface-down"), Some("192.0.2.65"))
    );
    assert!(shown["held"]["detail"].as_str().is_some_and(|detail| detail.contains("no carrier")), "{shown:#}");
    let left = shown["held"]["for_seconds"].as_f64().expect("for_seconds is a number");
    assert!(left > 500.0 && left <= 600.0, "{left}");
    assert!(shown["would_change"].to_string().contains("what mends it"), "{shown:#}");
    let text = trial.bmpd.display("display interface-binding");
    assert!(text.contains("State               : held") && text.contains("May leave by        : up2"), "{text}");
    assert!(text.contains("unless that is mended (hold-down)"), "{text}");
    trial.topology.carrier_up("up2");
    let ready = until("the session is ready", PATIENCE, || {
        Some(trial.bmpd.first_binding()).filter(|now| now["state"] == "ready")
    });
    assert!(ready["held"].is_null(), "{ready:#}");
}
