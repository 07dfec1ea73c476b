//! The command language, typed into bmpctl against a running bmpd.

use std::time::Duration;

use lab::{
    bmp,
    bmpd::{Bmpd, number},
    station::{RecordedEnd, TestStation},
    topology::{LOOPBACK, STATION, STATION_PORT, Topology, UP2, UP2_OTHER},
    trial::{TrialPlan, outgoing},
};

#[test]
fn a_commit_moves_the_session_and_is_in_the_file() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let answer = trial.bmpd.commit(STATION, "connect-interface up2 192.0.2.129");
    assert!(answer.contains("is re-established, because connect-interface changed"), "{answer}");
    assert_eq!(trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION)).peer.ip(), UP2_OTHER);
    let file = std::fs::read_to_string(trial.bmpd.setup().file()).expect("the file is there");
    assert!(file.contains("connect-interface up2 192.0.2.129"), "{file}");
    assert_eq!(file, trial.bmpd.display("display current-configuration"));
}

#[test]
fn uncommitted_changes_have_no_effect_and_an_error_points_at_its_word() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let (_, answer) = trial.bmpd.typed(&format!("system-view\nbmp\nundo bmp-session {STATION}\n"));
    assert!(answer.contains("commit"), "bmpctl did not mention pending changes: {answer}");
    let (accepted, answer) =
        trial.bmpd.typed(&format!("system-view\nbmp\nbmp-session {STATION}\nconnect-interface 224.0.0.1\n"));
    assert!(!accepted && answer.contains("<stdin>:4:19: error: ") && answer.contains("^^^^^^^^^"), "{answer}");
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn reset_ends_the_connection_in_order_and_connects_again_at_once() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    trial.bmpd.display(&format!("reset bmp session {STATION}"));
    let old = trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    assert_eq!((old.has(bmp::TERMINATION), old.end), (true, Some(RecordedEnd::Fin)));
    assert_eq!(trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION)).peer.ip(), UP2);
}

#[test]
fn shutdown_ends_a_session_and_undo_shutdown_brings_it_back() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let view = format!("system-view\nbmp\nbmp-session {STATION}\n");
    let shut_down = format!("Info: session {STATION} is shut down (what mends it: `undo shutdown`).\n");
    assert_eq!(trial.bmpd.typed(&format!("{view}shutdown\ncommit\n")), (true, shut_down));
    trial.bmpd.wait_down(STATION, "shutdown");
    assert!(trial.station.wait_connection(0, "its end", |c| c.end.is_some()).has(bmp::TERMINATION));
    assert_eq!(trial.bmpd.typed(&format!("{view}undo shutdown\ncommit\n")), (true, String::new()));
    trial.bmpd.wait_up(STATION);
}

#[test]
fn a_loopback_source_leaves_only_by_the_links_of_egress_interface() {
    // Routing prefers up1, which the session may not use. The kernel drops its packets and diverts
    // none.
    let trial = TrialPlan::session("connect-interface 203.0.113.1\n egress-interface up2").start();
    trial
        .bmpd
        .wait_session(STATION, "denied by the kernel", |session| number(&session["kernel"]["denied"]["interface"]) > 0);
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&lab::capture::CapturedPacket>::new());
    // With both interfaces, the session follows routing from the same address, without a break.
    let both = TrialPlan::session("connect-interface 203.0.113.1\n egress-interface up1 up2").configuration();
    trial.bmpd.reload(&both);
    trial.bmpd.wait_up(STATION);
    assert_eq!(trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION)).peer.ip(), LOOPBACK);
    trial.topology.carrier_down("up1");
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 20, 0);
    assert!(!outgoing(&trial.up2.packets()).is_empty(), "no packet left by up2");
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn a_loss_shorter_than_the_hold_down_does_not_break_the_session() {
    let trial = TrialPlan::session("connect-interface up2\n hold-down 20000").start_up();
    trial.topology.carrier_down("up2");
    trial.topology.carrier_up("up2");
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 20, 0);
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn a_loss_longer_than_the_hold_down_takes_the_session_down() {
    let topology = Topology::new();
    let _station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let configuration = TrialPlan::session("connect-interface up2\n hold-down 300").configuration();
    let bmpd = Bmpd::start(&topology.router, &configuration);
    bmpd.wait_up(STATION);
    let lost = std::time::Instant::now();
    topology.carrier_down("up2");
    bmpd.wait_down(STATION, "interface-down");
    assert!(lost.elapsed() >= Duration::from_millis(300), "after {:?}", lost.elapsed());
    topology.carrier_up("up2");
    bmpd.wait_up(STATION);
}
