//! The relay: what it accepts from a local daemon, what it refuses, and what stations receive.

use lab::{
    bgp::{self, prefixes},
    bmp::{self, ReportedPeer},
    feeder::BmpFeeder,
    station::{StationMode, TestStation},
    topology::{STATION, STATION_2, STATION_PORT},
    trial::{LabTrial, RELAY, TrialPlan},
};

/// Plans the usual session, pinned to `up2`, and one to the second station.
const TWO: TrialPlan<'static> = TrialPlan {
    station: STATION,
    system: "bmp\n bmp-session 198.51.100.8\n  tcp connect port 11019",
    bmp: "",
    session: "connect-interface up2",
    options: lab::bmpd::StartOptions { arguments: &[], through: &[] },
    without_offload: false,
};

#[test]
fn every_message_is_relayed_byte_for_byte_except_initiation_and_termination() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let peer = ReportedPeer::default();
    let mut feeder = trial.feeder();
    feeder.announce(&peer, &prefixes(1000), 7);
    feeder.send(bmp::route_monitoring(&peer, bmp::POST_POLICY, &bgp::withdraw(&prefixes(9))));
    feeder.end_of_rib(&peer);
    feeder.send(bmp::statistics_report(&peer, 1000));
    // An Information TLV that reports lost messages (RFC 7854 §4.7).
    let lost = [&bmp::peer_down(&peer)[6..48], &[0, 1, 0, 2, 0, 1]].concat();
    feeder.send(bmp::message(bmp::ROUTE_MIRRORING, &lost));
    feeder.send(bmp::peer_down(&peer));
    feeder.send(bmp::termination());
    let sent: Vec<&[u8]> = feeder.sent[1..feeder.sent.len() - 1].iter().map(Vec::as_slice).collect();
    let connection = trial.station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    assert_eq!(connection.feed(), sent);
    assert_eq!((connection.frames[0].kind(), connection.count(bmp::INITIATION)), (bmp::INITIATION, 1));
    assert!(!connection.has(bmp::TERMINATION), "the daemon's Termination was relayed");
}

#[test]
fn the_initiation_is_bmpds_own_with_the_configured_system_name() {
    let trial = TrialPlan::default().start_up();
    let connection = trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    let body = connection.frames[0].body();
    // sysName TLV (RFC 7854 §4.4): type 2, length 5.
    assert!(body.windows(9).any(|tlv| tlv == b"\0\x02\0\x05edge1"), "{body:02x?}");
    assert!(body.starts_with(&[0, 1]), "there is no sysDescr: {body:02x?}");
}

#[test]
fn every_session_gets_the_same_frames() {
    let trial = TWO.start();
    let other = TestStation::start(&trial.topology.station, (STATION_2, STATION_PORT));
    trial.bmpd.wait_up(STATION);
    trial.bmpd.wait_up(STATION_2);
    let connection = trial.routes_arrive(&mut trial.feeder(), 1000, 0);
    let same = other.wait_connection(0, "1,000 routes", |c| c.announced() == 1000);
    assert_eq!(same.feed()[..1001], connection.feed()[..1001]);
}

#[test]
fn stations_get_peer_down_for_each_peer_of_a_lost_daemon() {
    let trial = TrialPlan::default().start_up();
    let peers = [2, 3, 4].map(|n| ReportedPeer { address: [10, 255, 0, n].into(), ..ReportedPeer::default() });
    let stays = ReportedPeer { address: [10, 255, 1, 1].into(), ..ReportedPeer::default() };
    let _other = BmpFeeder::with_peer(&trial.topology.router, RELAY, &stays);
    let mut feeder = BmpFeeder::connect(&trial.topology.router, RELAY);
    feeder.send(bmp::initiation("feeder"));
    for peer in &peers {
        feeder.send(bmp::peer_up(peer));
    }
    feeder.send(bmp::peer_down(&peers[2]));
    trial.station.wait_connection(0, "all peers", |c| c.count(bmp::PEER_UP) == 4 && c.has(bmp::PEER_DOWN));
    // Without a Termination, as in a crash.
    drop(feeder);
    let connection = trial.station.wait_connection(0, "Peer Down of the two", |c| c.count(bmp::PEER_DOWN) == 3);
    let down: Vec<_> = connection.frames.iter().filter(|f| f.kind() == bmp::PEER_DOWN).collect();
    let mut addresses: Vec<_> = down[1..].iter().filter_map(|frame| frame.peer()).collect();
    addresses.sort();
    assert_eq!(addresses, [peers[0].address, peers[1].address]);
}

#[test]
fn a_late_station_gets_initiation_present_peers_and_their_routes() {
    let trial = TrialPlan::default().start();
    trial.bmpd.wait_up(STATION);
    let peers = [2, 3].map(|n| ReportedPeer { address: [10, 255, 0, n].into(), ..ReportedPeer::default() });
    let mut feeder = BmpFeeder::connect(&trial.topology.router, RELAY);
    feeder.send(bmp::initiation("feeder"));
    for peer in &peers {
        feeder.send(bmp::peer_up(peer));
        feeder.announce(peer, &prefixes(100), 1);
    }
    feeder.send(bmp::peer_down(&peers[0]));
    trial.station.wait_connection(0, "the feed", |c| c.has(bmp::PEER_DOWN));

    trial.station.close();
    let connection = trial.station.wait_connection(1, "the routes in force", |c| c.announced() == 100);
    assert_eq!(connection.frames[0].kind(), bmp::INITIATION);
    assert_eq!(connection.frames[1].0, bmp::peer_up(&peers[1]), "the Peer Up that the daemon sent");
    assert_eq!(connection.count(bmp::ROUTE_MONITORING), 1, "a hundred routes with the same attributes, in one message");
    trial.bmpd.wait_up(STATION);
    // From here on the station follows.
    feeder.announce(&peers[1], &prefixes(50), 1);
    let connection = trial.station.wait_connection(1, "what comes now", |c| c.announced() == 150);
    assert_eq!(connection.count(bmp::PEER_UP), 1, "the station received a peer that is down");
}

#[test]
fn a_station_that_stalls_past_the_journal_stays_and_hinders_no_other() {
    let trial = TWO.start();
    let slow = TestStation::with_receive_buffer(&trial.topology.station, (STATION_2, STATION_PORT), 4096);
    slow.set_mode(StationMode::Stall);
    trial.bmpd.wait_up(STATION);
    trial.bmpd.wait_up(STATION_2);
    let mut feeder = trial.feeder();
    // Messages of 3.7 kB, which exceed the journal's 64 MiB.
    let message = bmp::announcements(&ReportedPeer::default(), &prefixes(900), 900).remove(0);
    let count = (80 << 20) / message.len();
    for _ in 0..count {
        feeder.raw(&message);
    }
    trial.station.wait_connection(0, "all of it", |c| c.count(bmp::ROUTE_MONITORING) == count);

    slow.set_mode(StationMode::Read);
    let last = bmp::route_monitoring(&ReportedPeer::default(), bmp::PRE_POLICY, &bgp::withdraw(&prefixes(3)));
    feeder.send(last.clone());
    let connection =
        slow.wait_connection(0, "the latest message", |c| c.frames.last().is_some_and(|frame| frame.0 == last));
    // On the same connection and without a Peer Down, the station gets the present routes, not all
    // changes.
    assert!(connection.count(bmp::ROUTE_MONITORING) < count, "the station received every change");
    assert_eq!(connection.count(bmp::PEER_UP), 1);
    assert_eq!((connection.end, slow.connections().len()), (None, 1));
    assert!(trial.bmpd.session(STATION_2)["feed"]["dumps"].as_u64() > Some(1));
    let _ = trial.station.wait_connection(0, "the latest message", |c| c.frames.last().is_some_and(|f| f.0 == last));
}

/// Sends `bytes` from a client. Only its connection must be closed, with one log line that has one
/// of `why`.
fn is_thrown_out(bytes: &[u8], why: &[&str]) {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut good = trial.feeder();
    trial.routes_arrive(&mut good, 10, 0);
    let mut bad = BmpFeeder::connect(&trial.topology.router, RELAY);
    let from = bad.local_addr().to_string();
    bad.raw(bytes);
    bad.wait_closed();
    is_logged_once(&trial, &from, why);
    goes_on(&trial, &mut good);
}

/// Asserts that one log line is about the connection from `from` and has one of `why`.
fn is_logged_once(trial: &LabTrial, from: &str, why: &[&str]) {
    let says = |line: &str| line.contains(from) && why.iter().any(|why| line.contains(why));
    trial.bmpd.wait_for_log(&format!("one of {why:?} about {from}"), says);
    let lines: Vec<_> = trial.bmpd.log().into_iter().filter(|line| says(line)).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
}

/// Asserts that the other input and the session go on.
fn goes_on(trial: &LabTrial, good: &mut BmpFeeder) {
    assert!(good.is_open());
    let connection = trial.routes_arrive(good, 10, 0);
    assert_eq!((connection.count(bmp::PEER_DOWN), connection.end), (0, None));
    assert_eq!(trial.station.connections().len(), 1);
}

#[test]
fn a_client_that_speaks_http_is_disconnected() {
    is_thrown_out(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n", &["version"]);
}

#[test]
fn a_client_that_speaks_bgp_is_disconnected() {
    is_thrown_out(&bgp::open(65001, [10, 255, 0, 2].into()), &["version"]);
}

#[test]
fn a_client_with_a_length_of_zero_is_disconnected() {
    is_thrown_out(&[3, 0, 0, 0, 0, 4], &["length"]);
}

#[test]
fn a_client_with_a_length_of_2_gib_is_disconnected() {
    is_thrown_out(&[3, 0x80, 0, 0, 0, 4], &["length"]);
}

#[test]
fn a_client_with_version_2_is_disconnected() {
    is_thrown_out(&[2, 0, 0, 0, 6, 4], &["version"]);
}

#[test]
fn a_client_with_version_4_is_disconnected() {
    is_thrown_out(&[4, 0, 0, 0, 6, 4], &["version"]);
}

#[test]
fn valid_messages_before_a_bad_one_are_relayed_and_their_peers_go_down() {
    let trial = TrialPlan::default().start_up();
    let mut good = BmpFeeder::with_peer(
        &trial.topology.router,
        RELAY,
        &ReportedPeer { address: [10, 255, 1, 1].into(), ..ReportedPeer::default() },
    );
    let mut bad = trial.feeder();
    bad.announce(&ReportedPeer::default(), &prefixes(20), 1);
    bad.raw(&[3, 0, 0, 0, 5, 0]);
    bad.wait_closed();
    let connection = trial.station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    assert_eq!((connection.announced(), connection.count(bmp::PEER_DOWN)), (20, 1));
    good.announce(&ReportedPeer::default(), &prefixes(10), 1);
    trial.station.wait_connection(0, "the other input's routes", |c| c.announced() == 30);
}

#[test]
fn a_stream_cut_inside_a_frame_is_reported_and_the_frame_is_not_relayed() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut good = trial.feeder();
    trial.routes_arrive(&mut good, 10, 0);
    let peer = ReportedPeer { address: [10, 255, 1, 1].into(), ..ReportedPeer::default() };
    let mut cut = BmpFeeder::with_peer(&trial.topology.router, RELAY, &peer);
    let from = cut.local_addr().to_string();
    trial.station.wait_connection(0, "its peer", |c| c.count(bmp::PEER_UP) == 2);
    let whole = bmp::announcements(&peer, &prefixes(100), 100).remove(0);
    cut.raw(&whole[..whole.len() / 2]);
    drop(cut);
    trial.station.wait_connection(0, "its peer go down", |c| c.has(bmp::PEER_DOWN));
    is_logged_once(&trial, &from, &["the stream ended"]);
    let connection = trial.station.connections().remove(0);
    assert_eq!((connection.announced(), connection.unfinished), (10, 0));
    assert!(good.is_open());
    trial.routes_arrive(&mut good, 10, 0);
}
