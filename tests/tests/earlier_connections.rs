//! Connections of other processes from before a session's pin: they stay untouched, and bmpd
//! reports them wherever it is asked.

use std::{
    io::{ErrorKind, Read as _},
    net::TcpStream,
};

use lab::{
    bmpd::{Bmpd, BmpdSetup},
    sabotage::detach,
    sockets::ForeignSocket,
    station::TestStation,
    topology::{STATION, STATION_2, STATION_PORT, Topology, UP1, UP2},
    trial::TrialPlan,
    wait::{PATIENCE, until},
};
use serde_json::{Value, json};

/// Connects another process to the station by `up1`, while the session must leave by `up2`.
fn connected_before() -> (Topology, TestStation, TcpStream) {
    let topology = Topology::new();
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let earlier = ForeignSocket::default().connect(&topology.router, station.address()).expect("the station listens");
    assert_eq!(earlier.local_addr().expect("the socket is connected").ip(), UP1);
    (topology, station, earlier)
}

fn is_open(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("the socket is open");
    matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Returns the session's JSON and text about this process's connection.
fn expected(earlier: &TcpStream) -> (Value, String) {
    let (pid, local) = (std::process::id(), earlier.local_addr().expect("the socket is connected"));
    let name = std::fs::read_to_string("/proc/self/comm").expect("/proc is mounted");
    let name = name.trim_end();
    let connection = json!({ "pid": pid, "name": name, "local_address": local.ip(), "local_port": local.port() });
    let line = format!(
        "{name} ({pid}) was connected from {local} to {STATION}:{STATION_PORT} before the pin was in force: that connection is neither held \
         to it nor counted (`ss --kill src {local} dst {STATION}:{STATION_PORT}` closes it)"
    );
    (json!({ "count": 1, "connections": [connection] }), line)
}

#[test]
fn an_earlier_connection_is_displayed_with_its_process_until_closed() {
    let (topology, station, earlier) = connected_before();
    let bmpd = Bmpd::start(&topology.router, &TrialPlan::session("connect-interface up2").configuration());
    bmpd.wait_up(STATION);
    let (shown, line) = expected(&earlier);
    let session = bmpd.wait_session(STATION, "looked at", |session| session["unheld"] == shown);
    bmpd.wait_for_log("that it is not held", |answer| answer.contains(&line));
    let verbose = bmpd.display("display bmp session verbose");
    assert!(verbose.contains("Not held            : 1 from before the pin: "), "{verbose}");
    assert!(is_open(&earlier), "bmpd closed the earlier connection");
    assert_eq!(session["kernel"]["foreign"]["tx_packets"], 0);
    // A later connection is pinned.
    let later = ForeignSocket::default().connect(&topology.router, station.address()).expect("the pin lets it connect");
    assert_eq!(later.local_addr().expect("the socket is connected").ip(), UP2);
    drop(earlier);
    bmpd.wait_session(STATION, "without it", |session| session["unheld"] == json!({ "count": 0, "connections": [] }));
    bmpd.wait_for_log("that none is left", |answer| answer.contains("no connection from before the pin is left"));
}

#[test]
fn a_commit_names_an_earlier_connection() {
    let (topology, _station, earlier) = connected_before();
    let other = TrialPlan { station: STATION_2, ..TrialPlan::session("connect-interface up2") };
    let bmpd = Bmpd::start(&topology.router, &other.configuration());
    let answer = bmpd
        .commit_lines(&format!("bmp\nbmp-session {STATION}\ntcp connect port {STATION_PORT}\nconnect-interface up2"));
    // Without a terminal, long lines are not wrapped.
    let line = format!("Warning: session {STATION}: {}.", expected(&earlier).1);
    assert!(answer.contains(&line), "{line} is not in\n{answer}");
    assert!(is_open(&earlier));
}

#[test]
fn an_earlier_connection_of_a_denied_session_is_displayed_too() {
    let (topology, _station, earlier) = connected_before();
    let bmpd = Bmpd::start(&topology.router, &TrialPlan::session("connect-interface up2\nshutdown").configuration());
    bmpd.wait_down(STATION, "shutdown");
    bmpd.wait_session(STATION, "looked at", |session| session["unheld"] == expected(&earlier).0);
}

#[test]
fn a_repair_of_enforcement_does_not_close_an_earlier_connection() {
    let (topology, _station, earlier) = connected_before();
    let setup = BmpdSetup::new(&topology.router, TrialPlan::session("connect-interface up2").configuration());
    let links = setup.bpffs().join(format!("v{}/links", bmp_ebpf::VERSION));
    let bmpd = Bmpd::start_in(setup, &lab::bmpd::StartOptions::default());
    bmpd.wait_session(STATION, "looked at", |session| session["state"] == "up" && session["unheld"]["count"] == 1);
    detach(&links.join("connect4"));
    bmpd.wait_for_log("that it is whole again", |line| line.contains("whole again"));
    until("the sweep is over", PATIENCE, || (bmpd.session(STATION)["egress"]["lost"].is_null()).then_some(()));
    assert!(is_open(&earlier));
    assert_eq!(bmpd.session(STATION)["unheld"], expected(&earlier).0);
}

#[test]
fn a_connection_in_another_namespace_is_no_earlier_connection() {
    let (_topology, _station, earlier) = connected_before();
    let elsewhere = Topology::new();
    let _there = TestStation::start(&elsewhere.station, (STATION, STATION_PORT));
    let bmpd = Bmpd::start(&elsewhere.router, &TrialPlan::session("connect-interface up2").configuration());
    assert_eq!(bmpd.wait_up(STATION)["unheld"]["count"], 0);
    assert!(is_open(&earlier));
}
