//! Ownership of a peer: two clients of one relay that claim it, daemons that reconnect before their
//! loss is noticed, and unreadable messages.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use bmp_fuzz::station::Replica;
use lab::{
    bgp::{self, prefixes},
    bmp::{self, ReportedPeer},
    bmpd::number,
    feeder::BmpFeeder,
    netns::Netns,
    process::answer,
    station::{RecordedConnection, TestStation},
    topology::{LOOPBACK, STATION},
    trial::{FURTHER_PORTS, LabTrial, RELAY, TrialPlan, further_sessions},
    wait::{PATIENCE, until},
};
use programs::Program;
use serde_json::Value;

const FAR: SocketAddr = SocketAddr::new(LOOPBACK, 5002);
const ROUTES: usize = 1000;
/// How soon a daemon has its peer back when it reconnects after its host vanished.
const SECONDS: Duration = Duration::from_secs(15);

/// Returns a client's entry in the display of a relay.
fn shown(trial: &LabTrial, name: &str, client: SocketAddr) -> Value {
    let connections = trial.relay(name)["connections"].clone();
    let all = connections.as_array().expect("the value is an array").iter();
    all.clone().find(|shown| shown["client"] == client.to_string()).cloned().unwrap_or_default()
}

fn far_relay(terms: &str) -> String {
    format!("bmp-relay far\n listen {} port {}\n allow 192.0.2.0/26\n{terms}\nquit", FAR.ip(), FAR.port())
}

/// Makes a client's host vanish: drops the packets of this connection in both directions.
fn vanish(host: &Netns, client: &BmpFeeder) {
    let port = client.local_addr().port();
    let rules = format!(
        "add table ip lab; add chain ip lab in {{ type filter hook input priority 0; }}; add chain ip lab out {{ type filter hook output priority 0; }}; add rule ip lab in tcp dport {port} drop; add rule ip lab out tcp sport {port} drop"
    );
    answer(host.command(Program::Nft).arg(rules));
}

#[test]
fn a_second_local_client_that_claims_a_peer_and_forges_its_routes_changes_nothing() {
    let sessions = further_sessions(1, "connect-retry 1 1");
    let trial = TrialPlan { bmp: &sessions, ..TrialPlan::default() }.start_up();
    let peer = ReportedPeer::default();
    let mut daemon = trial.feeder();
    daemon.announce(&peer, &prefixes(ROUTES), 1);
    trial.station.wait_connection(0, "its routes", |c| c.announced() == ROUTES);

    let mut thief = BmpFeeder::with_peer(&trial.topology.router, RELAY, &peer);
    thief.announce(&peer, &prefixes(ROUTES), 1);
    thief.send(bmp::statistics_report(&peer, 7));
    thief.send(bmp::peer_down(&peer));
    let client = thief.local_addr();
    let refused = until("all messages are refused", PATIENCE, || {
        let shown = shown(&trial, "lab", client);
        (number(&shown["refused_messages"]) == ROUTES as u64 + 3).then_some(shown)
    });
    let of_peer = &refused["refused_peers"][0];
    assert_eq!(of_peer["address"], peer.address.to_string());
    assert_eq!(of_peer["owner"], daemon.local_addr().to_string());
    assert_eq!(of_peer["dropped"]["Route Monitoring"], ROUTES);
    let text = trial.bmpd.display("display bmp relay");
    assert!(text.contains(&format!("Refused: peer {}", peer.address)), "{text}");
    let says = |line: &str| line.contains(&client.to_string()) && line.contains("has this peer and is alive");
    assert_eq!(trial.bmpd.log().iter().filter(|line| says(line)).count(), 1, "one line for the peer");
    assert!(thief.is_open(), "the relay closed the connection");
    drop(thief);
    trial.bmpd.wait_for_log("that it left", |line| {
        line.contains(&client.to_string()) && line.contains("the daemon closed the connection")
    });

    daemon.announce(&peer, &prefixes(ROUTES + 1)[ROUTES..], 1);
    let early = trial.station.wait_connection(0, "what comes then", |c| c.announced() > ROUTES);
    assert_eq!(early.feed(), daemon.sent[1..].iter().map(Vec::as_slice).collect::<Vec<_>>());
    let late = TestStation::start(&trial.topology.station, (STATION, FURTHER_PORTS));
    let late = late.wait_connection(0, "the same", |c| c.announced() > ROUTES);
    assert_eq!((late.announced(), late.count(bmp::PEER_UP), late.has(bmp::PEER_DOWN)), (ROUTES + 1, 1, false));
}

#[test]
fn a_local_daemon_that_reconnects_at_once_has_its_peer_again() {
    let sessions = further_sessions(1, "connect-retry 1 1");
    let trial = TrialPlan { bmp: &sessions, ..TrialPlan::default() }.start_up();
    let peer = ReportedPeer::default();
    // Each of them goes with much unread, and the next one is there already.
    for _ in 0..20 {
        trial.feeder().announce(&peer, &prefixes(ROUTES), 10);
    }
    let mut daemon = trial.feeder();
    daemon.announce(&peer, &prefixes(ROUTES), 10);
    let last = bmp::route_monitoring(&peer, bmp::POST_POLICY, &bgp::withdraw(&prefixes(1)));
    daemon.send(last.clone());
    let early = trial.station.wait_connection(0, "the last message", |c| c.feed().last() == Some(&last.as_slice()));
    let client = daemon.local_addr();
    assert_eq!(number(&shown(&trial, "lab", client)["refused_messages"]), 0);
    let late = TestStation::start(&trial.topology.station, (STATION, FURTHER_PORTS));
    let late = late.wait_connection(0, "the routes", |c| c.announced() == ROUTES);
    let knows = |connection: &RecordedConnection| Replica::of(&connection.feed().concat()).knows();
    assert!(knows(&early) == knows(&late), "early and late differ");
}

#[test]
fn a_daemon_whose_host_vanished_has_its_peer_back_within_seconds_of_its_return() {
    for (terms, is_held) in [("", false), (" hold 600", true)] {
        let trial = TrialPlan { system: &far_relay(terms), ..TrialPlan::default() }.start_up();
        let (host, peer) = (&trial.topology.station, ReportedPeer::default());
        let mut before = BmpFeeder::with_peer(host, FAR, &peer);
        before.announce(&peer, &prefixes(5), 1);
        trial.station.wait_connection(0, "its routes", |c| c.announced() == 5);
        vanish(host, &before);
        let mut back = BmpFeeder::with_peer(host, FAR, &peer);
        back.announce(&peer, &prefixes(6), 1);
        back.end_of_rib(&peer);
        let new = if is_held { 6 } else { 11 };
        let began = Instant::now();
        let seen = |connections: &[RecordedConnection]| connections.iter().any(|c| c.announced() == new);
        trial.station.wait_for("the routes again", SECONDS, |all| seen(all).then_some(()));
        assert!(began.elapsed() < SECONDS);
        let connection = trial.station.connections().remove(0);
        let counts = (connection.count(bmp::PEER_UP), connection.count(bmp::PEER_DOWN));
        assert_eq!(counts, if is_held { (1, 0) } else { (2, 1) });
        drop(before);
        back.announce(&peer, &prefixes(7)[6..], 1);
        trial.station.wait_connection(0, "a new route", |c| c.announced() == new + 1);
    }
}

#[test]
fn a_live_daemon_of_another_host_keeps_its_peer_without_a_stall() {
    let trial = TrialPlan { system: &far_relay(""), ..TrialPlan::default() }.start_up();
    let (host, peer) = (&trial.topology.station, ReportedPeer::default());
    let mut owner = BmpFeeder::with_peer(host, FAR, &peer);
    owner.announce(&peer, &prefixes(5), 1);
    trial.station.wait_connection(0, "its routes", |c| c.announced() == 5);
    let mut other = BmpFeeder::with_peer(host, FAR, &peer);
    other.announce(&peer, &prefixes(9), 1);
    // bmpd reads the owner's own socket meanwhile.
    owner.announce(&peer, &prefixes(6)[5..], 1);
    trial.station.wait_connection(0, "one more", |c| c.announced() == 6);
    until("the other client is refused", PATIENCE, || {
        (number(&shown(&trial, "far", other.local_addr())["refused_messages"]) == 10).then_some(())
    });
    drop(other);
    owner.announce(&peer, &prefixes(7)[6..], 1);
    let connection = trial.station.wait_connection(0, "another route", |c| c.announced() == 7);
    assert_eq!((connection.count(bmp::PEER_UP), connection.has(bmp::PEER_DOWN)), (1, false));
}

#[test]
fn with_hold_a_client_without_peers_leaves_nothing_behind() {
    let trial = TrialPlan { system: "bmp-relay lab\n hold 600", ..TrialPlan::default() }.start_up();
    let clients: Vec<_> = (0..20).map(|_| BmpFeeder::connect(&trial.topology.router, RELAY)).collect();
    until("all clients are displayed", PATIENCE, || {
        (trial.relay("lab")["connections"].as_array().map(Vec::len) == Some(clients.len())).then_some(())
    });
    drop(clients);
    until("no client is displayed", PATIENCE, || {
        let shown = trial.relay("lab");
        let none = Value::Array(Vec::new());
        (shown["held"] == none && shown["connections"] == none).then_some(())
    });
}

/// Sends an unreadable message. The connection and its other peers must stay, and a late station
/// must know what an early one knows.
fn is_left_out(case: &str, kind: &str, peer_ups: usize, routes: usize) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/cases").join(case);
    let Ok(stream) = std::fs::read(&file) else {
        return lab::skip::skip(&format!("there is no {}", file.display()));
    };
    let sessions = further_sessions(1, "connect-retry 1 1");
    let trial = TrialPlan { bmp: &sessions, ..TrialPlan::default() }.start_up();
    let mut daemon = BmpFeeder::connect(&trial.topology.router, RELAY);
    daemon.raw(&stream);
    // The same kind of message a second time.
    daemon.raw(&stream);
    let more = ReportedPeer { address: Ipv4Addr::new(10, 255, 9, 9), ..ReportedPeer::default() };
    daemon.send(bmp::peer_up(&more));
    trial.station.wait_connection(0, "the next message", |c| c.feed().last() == Some(&daemon.sent[0].as_slice()));
    let client = daemon.local_addr();
    assert!(daemon.is_open());
    let odd = shown(&trial, "lab", client)["odd"].clone();
    assert_eq!(odd, serde_json::json!({ kind: 2 }), "{case}");
    assert!(trial.bmpd.display("display bmp relay").contains(&format!("Left out: 2 {kind}")));
    let says = |line: &&String| line.contains(&client.to_string()) && line.contains(kind);
    assert_eq!(trial.bmpd.log().iter().filter(says).count(), 1, "{case}");
    let late = TestStation::start(&trial.topology.station, (STATION, FURTHER_PORTS));
    let late =
        late.wait_connection(0, "all of it", |c| c.count(bmp::PEER_UP) == peer_ups + 1 && c.announced() == routes);
    assert!(!late.has(bmp::PEER_DOWN));
}

#[test]
fn a_peer_up_with_an_open_of_19_octets_is_left_out() {
    is_left_out("u-peer-up-19-octet-open.bmp", "broken-open", 1, 6);
}

#[test]
fn a_peer_up_with_a_cut_tlv_is_left_out() {
    is_left_out("u-peer-up-cut-tlv.bmp", "cut-tlv", 0, 5);
}

#[test]
fn a_peer_down_without_a_reason_is_left_out() {
    is_left_out("u-peer-down-without-reason.bmp", "short-message", 2, 6);
}

#[test]
fn a_peer_down_of_another_view_is_left_out() {
    is_left_out("u-peer-down-of-another-view.bmp", "other-peer", 1, 0);
}
