//! Settings of a session's connection and of its attempts, each seen in the packets or in their
//! timing.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use lab::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    bmpd::Bmpd,
    capture::{CapturedPacket, LinkCapture, PacketDirection},
    station::{RecordedConnection, TestStation},
    topology::{STATION, STATION_PORT, STATION_V6, Topology, UP2, UP2_V6},
    trial::{FURTHER_PORTS, LabTrial, TrialPlan, further_sessions, outgoing},
    wait::{PATIENCE, until},
};
use serde_json::Value;

/// Patience for an unanswered attempt, which takes 10 s.
const UNANSWERED: Duration = Duration::from_secs(60);

/// The station and the source of its session, for each IP version.
const FAMILIES: [(IpAddr, IpAddr); 2] = [(STATION, UP2), (STATION_V6, UP2_V6)];

/// Returns the configuration of a session by `up2`, with words after its port and lines for its
/// view.
fn configuration(station: IpAddr, after_port: &str, lines: &str) -> String {
    let plain = TrialPlan { station, session: &format!("connect-interface up2\n{lines}"), ..TrialPlan::default() }
        .configuration();
    plain.replace(&format!("port {STATION_PORT}\n"), &format!("port {STATION_PORT} {after_port}\n"))
}

#[test]
fn a_session_with_the_stations_secret_is_up() {
    for (station, router) in FAMILIES {
        let topology = Topology::new();
        let up2 = LinkCapture::start(&topology.router, "up2", STATION_PORT);
        let listens = TestStation::with_secret(&topology.station, (station, STATION_PORT), router, "correct-horse");
        let bmpd = Bmpd::start(&topology.router, &configuration(station, "password md5 correct-horse", ""));
        bmpd.wait_up(station);
        listens.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
        assert!(outgoing(&up2.packets()).iter().any(|packet| packet.syn));
        // No display shows the secret.
        assert!(!bmpd.display("display bmp session verbose").contains("correct-horse"));
    }
}

#[test]
fn with_different_secrets_nothing_is_answered() {
    let secrets = [
        (Some("correct-horse"), "password md5 battery-staple"),
        (Some("correct-horse"), ""),
        (None, "password md5 correct-horse"),
    ];
    let cases = FAMILIES.into_iter().flat_map(|family| secrets.map(|secrets| (family, secrets)));
    // All cases at once, because an attempt takes a while to fail.
    let started: Vec<_> = cases
        .map(|((station, router), (of_station, of_session))| {
            let topology = Topology::new();
            let address = (station, STATION_PORT);
            let listens = match of_station {
                Some(secret) => TestStation::with_secret(&topology.station, address, router, secret),
                None => TestStation::start(&topology.station, address),
            };
            (station, Bmpd::start(&topology.router, &configuration(station, of_session, "")), listens, topology)
        })
        .collect();
    for (station, bmpd, listens, _topology) in &started {
        bmpd.wait_session_for(*station, "down, connect-timeout", UNANSWERED, |s| s["reason"] == "connect-timeout");
        assert!(listens.connections().is_empty());
    }
}

#[test]
fn a_changed_secret_applies_to_the_next_connection() {
    let topology = Topology::new();
    let listens = TestStation::with_secret(&topology.station, (STATION, STATION_PORT), UP2, "correct-horse");
    let bmpd = Bmpd::start(&topology.router, &configuration(STATION, "password md5 correct-horse", ""));
    bmpd.wait_up(STATION);
    bmpd.commit(STATION, &format!("tcp connect port {STATION_PORT} password md5 battery-staple"));
    listens.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION) && c.end.is_none());
    assert_eq!(bmpd.session(STATION)["state"], "up");
    bmpd.display(&format!("reset bmp session {STATION}"));
    bmpd.wait_session_for(STATION, "down, connect-timeout", UNANSWERED, |s| s["reason"] == "connect-timeout");
    bmpd.commit(STATION, &format!("tcp connect port {STATION_PORT} password md5 correct-horse"));
    bmpd.wait_up(STATION);
    assert_eq!(listens.connections().len(), 2);
}

/// Starts a session by `up2` with these lines, without segmentation offload.
fn seen_with(station: IpAddr, lines: &str) -> LabTrial {
    let session = format!("connect-interface up2\n{lines}");
    TrialPlan { station, session: &session, without_offload: true, ..TrialPlan::default() }.start_up()
}

/// Returns the packets that left by `up2`.
fn left(trial: &LabTrial) -> Vec<CapturedPacket> {
    outgoing(&trial.up2.packets()).into_iter().cloned().collect()
}

#[test]
fn no_segment_is_longer_than_tcp_mss() {
    for (station, _) in FAMILIES {
        let trial = seen_with(station, "tcp mss 600");
        trial.routes_arrive(&mut trial.feeder(), 1_000, 0);
        let longest = left(&trial).iter().map(|packet| packet.payload_bytes).max();
        // TCP options count into the MSS.
        assert!(longest.is_some_and(|bytes| (500..=600).contains(&bytes)), "{longest:?}");
    }
}

#[test]
fn every_packet_has_the_configured_dscp() {
    for (station, _) in FAMILIES {
        let trial = seen_with(station, "dscp 46");
        trial.routes_arrive(&mut trial.feeder(), 1_000, 0);
        let packets = left(&trial);
        assert!(packets[0].syn && packets.len() > 10);
        assert!(packets.iter().all(|packet| packet.dscp == 46), "{packets:#?}");
        let trial = seen_with(station, "");
        assert!(left(&trial).iter().all(|packet| packet.dscp == 0));
    }
}

#[test]
fn an_idle_connection_is_probed_after_its_keepalive_or_never_with_0() {
    // The default keepalive probes after 30 s of silence.
    let trials = ["keepalive 1", "keepalive 0", ""].map(|lines| seen_with(STATION, lines));
    let idle = |trial: &LabTrial| left(trial).iter().filter(|packet| packet.payload_bytes == 0 && !packet.syn).count();
    let before = trials.each_ref().map(idle);
    until("a keepalive probe", PATIENCE, || (idle(&trials[0]) > before[0]).then_some(()));
    let last = |trial: &LabTrial| trial.up2.packets().pop().expect("there are packets");
    until("its answer", PATIENCE, || (last(&trials[0]).direction == PacketDirection::In).then_some(()));
    assert_eq!([idle(&trials[1]), idle(&trials[2])], before[1..]);
    for trial in &trials {
        assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
    }
}

#[test]
fn keepalive_notices_a_station_that_vanishes_from_an_idle_connection() {
    let trial = seen_with(STATION, "keepalive 1");
    trial.topology.station.ip("addr del 198.51.100.7/32 dev lo");
    let gone = |line: &str| line.contains("keepalive-timeout");
    until("keepalive-timeout in the log", UNANSWERED, || trial.bmpd.log().iter().any(|l| gone(l)).then_some(()));
}

#[test]
fn only_the_first_attempt_waits_for_the_initial_delay() {
    let topology = Topology::new();
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let up2 = LinkCapture::start(&topology.router, "up2", STATION_PORT);
    let begin = Instant::now();
    let bmpd = Bmpd::start(&topology.router, &configuration(STATION, "", "initial-delay 4"));
    let session = bmpd.session(STATION);
    assert_eq!((&session["state"], &session["phase"]), (&"down".into(), &"down".into()));
    assert!(session["retry_in_seconds"].as_f64().is_some_and(|seconds| seconds <= 4.0), "{session:#}");
    station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    assert!(begin.elapsed() >= Duration::from_secs(4), "{:?}", begin.elapsed());
    assert_eq!(up2.packets().iter().filter(|packet| packet.syn && packet.direction == PacketDirection::Out).count(), 1);
    // The delay is for the first attempt only: after a reset the session comes back at once.
    bmpd.display(&format!("reset bmp session {STATION}"));
    let again = station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!((again.peer.ip(), bmpd.wait_up(STATION)["established_count"].as_u64()), (UP2, Some(2)));
}

#[test]
fn a_lost_connection_is_opened_again_only_after_flap_damping() {
    let trial = seen_with(STATION, "flap-damping 5");
    trial.station.close();
    let begin = Instant::now();
    let session = trial.bmpd.wait_down(STATION, "station-closed");
    assert!(session["retry_in_seconds"].as_f64().is_some_and(|seconds| seconds > 2.0), "{session:#}");
    trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    assert!(begin.elapsed() >= Duration::from_secs(4), "{:?}", begin.elapsed());
}

#[test]
fn flap_damping_does_not_apply_to_failed_attempts() {
    let topology = Topology::new();
    let up2 = LinkCapture::start(&topology.router, "up2", STATION_PORT);
    let _bmpd = Bmpd::start(&topology.router, &configuration(STATION, "", "flap-damping 3600\nconnect-retry 1 1"));
    attempts(&up2, 3);
}

/// Waits until there were `count` attempts.
fn attempts(link: &LinkCapture, count: usize) {
    link.wait_for(&format!("{count} attempts"), PATIENCE, |packets| {
        let attempts = packets.iter().filter(|packet| packet.syn && packet.direction == PacketDirection::Out);
        (attempts.count() >= count).then_some(())
    });
}

#[test]
fn attempts_are_as_far_apart_as_connect_retry_says() {
    let topology = Topology::new();
    let up2 = LinkCapture::start(&topology.router, "up2", STATION_PORT);
    let bmpd = Bmpd::start(&topology.router, &configuration(STATION, "", "connect-retry 1 1"));
    // During an attempt there is no wait.
    let waits = || {
        until("the session waits", PATIENCE, || bmpd.wait_down(STATION, "connect-refused")["retry_in_seconds"].as_f64())
    };
    for count in 2..=6 {
        // Doubling waits would be 16 s by now. The jitter is a quarter at most.
        assert!(waits() <= 1.25);
        attempts(&up2, count);
    }
    bmpd.commit(STATION, "connect-retry 100 200");
    // A new configuration causes an attempt at once, and then a wait of the new length.
    let wait = until("a long wait", PATIENCE, || Some(waits()).filter(|wait| *wait > 2.0));
    assert!((70.0..=125.0).contains(&wait), "{wait}");
}

#[test]
fn changing_a_setting_of_attempts_causes_an_attempt_at_once() {
    let topology = Topology::new();
    let up2 = LinkCapture::start(&topology.router, "up2", STATION_PORT);
    let bmpd = Bmpd::start(&topology.router, &configuration(STATION, "", "connect-retry 1000 2000"));
    attempts(&up2, 1);
    let secret = format!("tcp connect port {STATION_PORT} password md5 correct-horse");
    let lines = ["connect-retry 900 1000", "flap-damping 900", "dscp 10", "tcp mss 1000", "keepalive 5", &secret];
    for (count, line) in (2..).zip(lines) {
        bmpd.wait_down(STATION, "connect-refused");
        bmpd.commit(STATION, line);
        attempts(&up2, count);
    }
}

#[test]
fn changing_the_secret_of_a_silent_station_causes_an_attempt_at_once() {
    let topology = Topology::new();
    let station = TestStation::with_secret(&topology.station, (STATION, STATION_PORT), UP2, "correct-horse");
    let bmpd =
        Bmpd::start(&topology.router, &configuration(STATION, "password md5 another", "connect-retry 1000 2000"));
    bmpd.wait_down(STATION, "connect-timeout");
    bmpd.commit(STATION, &format!("tcp connect port {STATION_PORT} password md5 correct-horse"));
    station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
}

#[test]
fn a_changed_initial_delay_takes_effect_at_once() {
    let topology = Topology::new();
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let bmpd = Bmpd::start(&topology.router, &configuration(STATION, "", "initial-delay 3000"));
    let left = || bmpd.session(STATION)["retry_in_seconds"].as_f64();
    until("the session waits", PATIENCE, || left().filter(|left| *left > 2000.0));
    bmpd.commit(STATION, "initial-delay 1000");
    until("the session waits for less", PATIENCE, || left().filter(|left| *left <= 1000.0));
    bmpd.commit(STATION, "undo initial-delay");
    station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
}

#[test]
fn a_reason_is_displayed_during_the_initial_delay_too() {
    let topology = Topology::new();
    let bmpd = Bmpd::start(&topology.router, &configuration(STATION, "", "initial-delay 3000"));
    bmpd.commit(STATION, "shutdown");
    assert_eq!(bmpd.wait_down(STATION, "shutdown")["retry_in_seconds"], Value::Null);
    bmpd.commit(STATION, "undo shutdown");
    let waits =
        |session: &Value| session["reason"] == "initial-delay" && session["retry_in_seconds"].as_f64().is_some();
    until("the session waits again", PATIENCE, || Some(bmpd.session(STATION)).filter(waits));
}

#[test]
fn settings_of_attempts_do_not_touch_an_open_connection() {
    let trial = seen_with(STATION, "");
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 10, 0);
    trial.bmpd.commit(STATION, "connect-retry 5 9\nflap-damping 7\ninitial-delay 9");
    feeder.announce(&ReportedPeer::default(), &prefixes(10), 1);
    let connection = trial.station.wait_connection(0, "ten more routes", |c| c.announced() == 20);
    assert_eq!((connection.end, trial.station.connections().len()), (None, 1));
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn a_description_is_displayed_as_soon_as_it_is_committed() {
    let trial = seen_with(STATION, "");
    let description = |trial: &LabTrial| trial.bmpd.session(STATION)["description"].clone();
    assert_eq!(description(&trial), Value::Null);
    trial.bmpd.commit(STATION, "description \"the collector of the lab\"");
    assert_eq!(description(&trial), "the collector of the lab");
    let shown = trial.bmpd.display(&format!("display bmp session {STATION} verbose"));
    assert!(shown.contains("  Description         : the collector of the lab\n"), "{shown}");
    trial.bmpd.commit(STATION, "undo description");
    assert_eq!(description(&trial), Value::Null);
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn a_session_connects_from_its_local_port_again_and_again() {
    for (station, router) in FAMILIES {
        let topology = Topology::new();
        let listens = TestStation::start(&topology.station, (station, STATION_PORT));
        let bmpd = Bmpd::start(&topology.router, &configuration(station, "local-port 179", ""));
        // bmpd closes each connection, so the one before is in TIME_WAIT.
        for number in 0..5 {
            let connection = listens.wait_connection(number, "Initiation", |c| c.has(bmp::INITIATION));
            assert_eq!(connection.peer, SocketAddr::new(router, 179));
            if number < 4 {
                bmpd.display(&format!("reset bmp session {station}"));
            }
        }
        // The kernel chooses the source address now.
        bmpd.commit(station, "undo connect-interface");
        let connection = listens.wait_connection(5, "Initiation", |c| c.has(bmp::INITIATION));
        assert_eq!(connection.peer.port(), 179);
    }
}

#[test]
fn a_changed_local_port_counts_for_the_next_connection() {
    let trial = seen_with(STATION, "");
    trial.bmpd.commit(STATION, &format!("tcp connect port {STATION_PORT} local-port 40001"));
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
    trial.bmpd.display(&format!("reset bmp session {STATION}"));
    let connection = trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(connection.peer, SocketAddr::new(UP2, 40001));
}

#[test]
fn a_local_port_that_another_socket_has_is_a_reason_and_a_free_one_is_used() {
    let topology = Topology::new();
    let taken = topology.router.enter(|| TcpListener::bind((UP2, 40001)).expect("the port is free"));
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let bmpd = Bmpd::start(&topology.router, &configuration(STATION, "local-port 40001", ""));
    let session = bmpd.wait_down(STATION, "source-conflict");
    let detail = session["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("another socket of this device has port 40001 of 192.0.2.65"), "{detail}");
    drop(taken);
    let connection = station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(connection.peer.port(), 40001);
}

#[test]
fn a_changed_keepalive_counts_for_the_connection_that_is_up() {
    let trial = seen_with(STATION, "");
    trial.bmpd.commit(STATION, "keepalive 1 1 2");
    let shown = trial.bmpd.display(&format!("display bmp session {STATION} verbose"));
    assert!(shown.contains("keepalive 1 s (2 probes, 1 s apart)"), "{shown}");
    trial.topology.station.ip("addr del 198.51.100.7/32 dev lo");
    let begin = Instant::now();
    let gone = |line: &str| line.contains("keepalive-timeout");
    until("keepalive-timeout in the log", UNANSWERED, || trial.bmpd.log().iter().any(|l| gone(l)).then_some(()));
    // By default the first probe alone comes after 30 s, and the last one 20 s later.
    assert!(begin.elapsed() < Duration::from_secs(25), "{:?}", begin.elapsed());
    assert_eq!(trial.station.connections().len(), 1);
}

#[test]
fn a_station_gets_a_changed_text_in_a_further_initiation() {
    let trial = TrialPlan { bmp: " initiation-message \"site A\"", ..TrialPlan::default() }.start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 10, 0);
    let texts = |number: usize, count: usize| {
        let connection = trial.station.wait_connection(0, "an Initiation", |c| c.count(bmp::INITIATION) == count);
        let frames = connection.frames.iter().filter(|frame| frame.kind() == bmp::INITIATION);
        frames.map(bmp::ReceivedFrame::initiation_texts).nth(number).unwrap_or_default()
    };
    assert_eq!(texts(0, 1), ["site A"]);
    trial.bmpd.commit(STATION, "initiation-message the session's own, 路");
    assert_eq!(texts(1, 2), ["the session's own, 路"]);
    assert_eq!(trial.bmpd.session(STATION)["initiation_message"], "the session's own, 路");
    // The text of the bmp view does not count here.
    trial.bmpd.commit_lines("bmp\ninitiation-message site B");
    trial.bmpd.commit(STATION, "undo initiation-message");
    assert_eq!(texts(2, 3), ["site B"]);
    trial.bmpd.commit_lines("bmp\nundo initiation-message");
    assert_eq!(texts(3, 4), [""; 0]);
    // Routes go on arriving between them.
    trial.routes_arrive(&mut feeder, 10, 0);
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn a_station_with_a_statistics_timer_gets_the_latest_report_at_its_own_time() {
    let other = further_sessions(1, "");
    let trial = TrialPlan { bmp: &other, session: "statistics-timer 15", ..TrialPlan::default() }.start_up();
    let at_once = TestStation::start(&trial.topology.station, (STATION, FURTHER_PORTS));
    at_once.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    let (mut feeder, peer) = (trial.feeder(), ReportedPeer::default());
    at_once.wait_connection(0, "the peer", |c| c.has(bmp::PEER_UP));
    // In one write, so that the timer finds all of them or none.
    feeder.raw(&[1, 2, 3].map(|routes| bmp::statistics_report(&peer, routes)).concat());
    let reports = |connection: &RecordedConnection| -> Vec<Vec<u8>> {
        let frames = connection.frames.iter().filter(|frame| frame.kind() == bmp::STATISTICS_REPORT);
        frames.map(|frame| frame.0.to_vec()).collect()
    };
    let all = reports(&at_once.wait_connection(0, "three reports", |c| reports(c).len() == 3));
    until("the report of the timer", 2 * PATIENCE, || {
        (trial.station.connections()[0].count(bmp::STATISTICS_REPORT) > 0).then_some(())
    });
    assert_eq!(reports(&trial.station.connections()[0]), all[2..], "the latest one alone");
    trial.bmpd.commit(STATION, "undo statistics-timer");
    feeder.send(bmp::statistics_report(&peer, 4));
    trial.station.wait_connection(0, "a report at once", |c| reports(c).len() == 2);
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn a_station_gets_derived_numbers_of_routes_until_the_daemon_reports_by_itself() {
    let trial =
        TrialPlan { bmp: "statistics-timer 1", session: "statistics derived", ..TrialPlan::default() }.start_up();
    let (peer, mut feeder) = (ReportedPeer::default(), trial.feeder());
    feeder.announce(&peer, &prefixes(3), 1);
    feeder.end_of_rib(&peer);
    // Type 18 with three routes (RFC 9972 §3.2).
    let three = [0, 18, 0, 8, 0, 0, 0, 0, 0, 0, 0, 3];
    let derived = |connection: &RecordedConnection| {
        let reports = connection.frames.iter().filter(|frame| frame.kind() == bmp::STATISTICS_REPORT);
        reports.filter(|report| report.0.windows(three.len()).any(|bytes| bytes == three)).count()
    };
    trial.station.wait_connection(0, "two derived reports", |connection| derived(connection) >= 2);
    let own = bmp::statistics_report(&peer, 10);
    feeder.send(own.clone());
    let at = |connection: &RecordedConnection| connection.frames.iter().position(|frame| frame.0 == own);
    let reported = trial.station.wait_connection(0, "the report of the daemon", |connection| at(connection).is_some());
    // Longer than two intervals: no derived report follows.
    std::thread::sleep(Duration::from_millis(2500));
    let later = trial.station.wait_connection(0, "what it has", |connection| at(connection).is_some());
    assert_eq!(derived(&later), derived(&reported));
}
