//! The life of a session: how it starts, what ends it, and how it comes back.

use std::time::Duration;

use lab::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    capture::{CapturedPacket, PacketDirection},
    process::answer,
    station::{RecordedEnd, StationMode, TestStation},
    topology::{STATION, STATION_PORT, Topology, UP2},
    trial::TrialPlan,
    wait::PATIENCE,
};

#[test]
fn a_session_is_up_when_the_station_has_its_initiation() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let connection = trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    let session = trial.bmpd.session(STATION);
    assert_eq!(session["local_port"], connection.peer.port());
    assert_eq!(session["reason"], serde_json::Value::Null);
    assert_eq!(session["established_count"], 1);
    assert_eq!(session["phase"], "following");
}

#[test]
fn a_session_without_a_port_is_not_configured() {
    let topology = Topology::new();
    let bmpd = lab::bmpd::Bmpd::start(&topology.router, "bmp\n bmp-session 198.51.100.7\n");
    bmpd.wait_down(STATION, "not-configured");
}

#[test]
fn bmpd_retries_a_refusing_station_until_it_accepts() {
    let topology = Topology::new();
    let bmpd = lab::bmpd::Bmpd::start(&topology.router, &TrialPlan::session("connect-interface up2").configuration());
    let session = bmpd.wait_down(STATION, "connect-refused");
    assert!(session["retry_in_seconds"].is_number(), "{session:#}");
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    bmpd.wait_up(STATION);
    assert_eq!(station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION)).peer.ip(), UP2);
}

#[test]
fn a_station_that_closes_is_connected_again_from_the_same_source() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    trial.station.close();
    trial.bmpd.wait_for_log("station-closed", |line| line.contains("station-closed"));
    let again = trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(again.peer.ip(), UP2);
    assert_eq!(trial.bmpd.wait_up(STATION)["established_count"], 2);
}

#[test]
fn a_station_that_resets_is_connected_again_from_the_same_source() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    trial.station.reset();
    trial.bmpd.wait_for_log("connection-reset", |line| line.contains("connection-reset"));
    let again = trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(again.peer.ip(), UP2);
}

#[test]
fn the_reason_is_that_of_the_last_attempt() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    trial.station.refuse();
    trial.station.close();
    trial.bmpd.wait_down(STATION, "connect-refused");
}

#[test]
fn a_station_that_does_not_answer_is_a_connect_timeout() {
    let topology = Topology::new();
    // The network drops packets to the station's address.
    topology.station.ip("addr del 198.51.100.7/32 dev lo");
    let up2 = lab::capture::LinkCapture::start(&topology.router, "up2", STATION_PORT);
    let bmpd = lab::bmpd::Bmpd::start(&topology.router, &TrialPlan::session("connect-interface up2").configuration());
    let patience = Duration::from_secs(60);
    bmpd.wait_session_for(STATION, "down, connect-timeout", patience, |s| s["reason"] == "connect-timeout");
    assert!(up2.packets().iter().any(|p| p.syn && p.source.ip() == UP2), "the capture has no SYN");
}

#[test]
fn attempts_back_off_and_do_not_storm() {
    let topology = Topology::new();
    let up2 = lab::capture::LinkCapture::start(&topology.router, "up2", STATION_PORT);
    let bmpd = lab::bmpd::Bmpd::start(&topology.router, &TrialPlan::session("connect-interface up2").configuration());
    let syns =
        |packets: &[CapturedPacket]| packets.iter().filter(|p| p.syn && p.direction == PacketDirection::Out).count();
    let started = std::time::Instant::now();
    up2.wait_for("three attempts", PATIENCE, |packets| (syns(packets) >= 3).then_some(()));
    // The waits are 1 s and 2 s, with a jitter that may shorten them.
    assert!(started.elapsed() > Duration::from_millis(700), "three attempts within {:?}", started.elapsed());
    drop(bmpd);
}

#[test]
fn sigterm_sends_termination_and_then_fin() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    trial.routes_arrive(&mut trial.feeder(), 100, 0);
    trial.bmpd.terminate();
    let connection = trial.station.wait_connection(0, "the end", |c| c.end.is_some());
    assert_eq!(connection.end, Some(RecordedEnd::Fin), "the connection ended by a reset");
    let last = connection.frames.last().expect("the station received messages");
    assert_eq!(last.kind(), bmp::TERMINATION);
    // Reason TLV (RFC 7854 §4.5): type 1, reason 0, administratively closed.
    assert_eq!(last.body(), [0, 1, 0, 2, 0, 0]);
    assert_eq!(connection.unfinished, 0);
}

#[test]
fn sigterm_does_not_wait_for_a_station_that_does_not_read() {
    let topology = Topology::new();
    let station = TestStation::with_receive_buffer(&topology.station, (STATION, STATION_PORT), 4096);
    station.set_mode(StationMode::Stall);
    let bmpd = lab::bmpd::Bmpd::start(&topology.router, &TrialPlan::session("connect-interface up2").configuration());
    bmpd.wait_up(STATION);
    let mut feeder = lab::feeder::BmpFeeder::with_peer(&topology.router, lab::trial::RELAY, &ReportedPeer::default());
    for _ in 0..2000 {
        feeder.announce(&ReportedPeer::default(), &prefixes(900), 900);
    }
    let start = std::time::Instant::now();
    bmpd.terminate();
    assert!(start.elapsed() < lab::wait::patience(Duration::from_secs(5)), "it took {:?}", start.elapsed());
}

#[test]
fn bytes_from_a_station_are_discarded_and_counted() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    // Unread bytes would cause a reset, because the station's bytes use the same socket.
    let before = lab::bmpd::number(&trial.bmpd.session(STATION)["kernel"]["rx_bytes"]);
    trial.station.send(&[0x55; 30_000]);
    trial.bmpd.wait_session(STATION, "30,000 bytes further", |session| {
        lab::bmpd::number(&session["kernel"]["rx_bytes"]) >= before + 30_000
    });
    let connection = trial.routes_arrive(&mut trial.feeder(), 10, 0);
    assert_eq!(connection.end, None);
}

/// Patience for the death of a session, whose limit is 30 s.
const DEADLY: Duration = Duration::from_secs(60);

#[test]
fn a_vanished_station_is_a_keepalive_timeout() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 10, 0);
    trial.topology.station.ip("addr del 198.51.100.7/32 dev lo");
    // From here on, bytes are unacknowledged.
    feeder.announce(&ReportedPeer::default(), &prefixes(10), 1);
    let since = std::time::Instant::now();
    let gone = |line: &str| line.contains("keepalive-timeout");
    lab::wait::until("keepalive-timeout in the log", DEADLY, || trial.bmpd.log().iter().any(|l| gone(l)).then_some(()));
    let took = since.elapsed();
    assert!((25..45).contains(&took.as_secs()), "it took {took:?}");
}

#[test]
fn a_connection_whose_packets_do_not_leave_is_a_keepalive_timeout() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 10, 0);
    // TCP then counts no byte as sent: the socket learns at once that sending failed.
    let rules = format!(
        "add table ip lab; add chain ip lab out {{ type filter hook output priority 0; }}; add rule ip lab out tcp dport {STATION_PORT} drop"
    );
    answer(trial.topology.router.command(programs::Program::Nft).arg(rules));
    feeder.announce(&ReportedPeer::default(), &prefixes(10), 1);
    let gone = |line: &str| line.contains("keepalive-timeout");
    lab::wait::until("keepalive-timeout in the log", DEADLY, || trial.bmpd.log().iter().any(|l| gone(l)).then_some(()));
}

#[test]
fn a_station_that_acknowledges_with_a_closed_window_is_slow_and_stays() {
    let topology = Topology::new();
    let station = TestStation::with_receive_buffer(&topology.station, (STATION, STATION_PORT), 4096);
    station.set_mode(StationMode::Stall);
    let bmpd = lab::bmpd::Bmpd::start(&topology.router, &TrialPlan::session("connect-interface up2").configuration());
    let up2 = lab::capture::LinkCapture::start(&topology.router, "up2", STATION_PORT);
    bmpd.wait_up(STATION);
    let mut feeder = lab::feeder::BmpFeeder::with_peer(&topology.router, lab::trial::RELAY, &ReportedPeer::default());
    let message = bmp::announcements(&ReportedPeer::default(), &prefixes(900), 900).remove(0);
    for _ in 0..1000 {
        feeder.raw(&message);
    }
    // Window probes leave at growing intervals. From 51 s on, the connection is silent for that
    // long between two probes. The session must stay, although nothing is written to it.
    let begin = std::time::Instant::now();
    up2.wait_for("window probes for more than 90 s", 3 * DEADLY, |packets| {
        let answered = packets.last().is_some_and(|p| p.direction == PacketDirection::In && p.payload_bytes == 0);
        (answered && begin.elapsed() > Duration::from_secs(90)).then_some(())
    });
    assert_eq!(
        (&bmpd.session(STATION)["state"], &bmpd.session(STATION)["established_count"]),
        (&"up".into(), &1.into())
    );
    station.set_mode(StationMode::Read);
    station.wait_for("everything", DEADLY, |c| (c[0].count(bmp::ROUTE_MONITORING) == 1000).then_some(()));
    assert_eq!(station.connections().len(), 1);
}
