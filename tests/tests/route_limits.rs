//! `maximum-routes` of relays and BGP peers: what has more routes is closed and refused for a
//! while, and everything else stays.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use lab::{
    bgp::{self, Ipv4Prefix, prefixes},
    bmp::{self, ReceivedFrame, ReportedPeer},
    bmpd::number,
    feeder::BmpFeeder,
    peering::{BMPD, DAEMON},
    speaker::LabBgpConnection,
    topology::Topology,
    trial::{LabTrial, RELAY, TrialPlan},
    wait::{PATIENCE, until},
};
use serde_json::{Value, json};

/// The users of two daemons on this host.
const FIRST: u32 = 998;
const SECOND: u32 = 999;

fn peer(last: u8) -> ReportedPeer {
    ReportedPeer { address: [10, 255, 0, last].into(), ..ReportedPeer::default() }
}

fn connect(trial: &LabTrial, user: u32, peer: &ReportedPeer, routes: &[Ipv4Prefix]) -> BmpFeeder {
    let mut feeder = BmpFeeder::with_peer_as(user, &trial.topology.router, RELAY, peer);
    // One write: bmpd may close the connection at any message.
    feeder.raw(&bmp::announcements(peer, routes, 1).concat());
    feeder
}

/// Waits until so many routes of all peers are in the feed.
fn wait_routes(trial: &LabTrial, routes: u64) {
    until(&format!("{routes} routes"), PATIENCE, || {
        (number(&trial.bmpd.display_json("display bmp feed")["routes"]) == routes).then_some(())
    });
}

#[test]
fn a_daemon_beyond_maximum_routes_is_closed_and_refused_and_others_stay() {
    let trial =
        TrialPlan { system: "bmp-relay lab\n hold 600\n maximum-routes 100", ..TrialPlan::default() }.start_up();
    let mut other = connect(&trial, SECOND, &peer(9), &prefixes(5));
    let mut feeder = connect(&trial, FIRST, &peer(2), &prefixes(76));
    trial.bmpd.wait_for_log("a warning", |line| line.contains("76 routes, more than 75 % of maximum-routes 100"));
    feeder.announce(&peer(2), &prefixes(100), 1);
    wait_routes(&trial, 105);
    assert!(feeder.is_open(), "it has as many routes as it may have");
    feeder.announce(&peer(2), &prefixes(101)[100..], 1);
    feeder.wait_closed();
    // Also with `hold`, its peer is down and its routes are gone.
    let connection = trial.station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    let down = connection.frames.iter().find(|frame| frame.kind() == bmp::PEER_DOWN).and_then(ReceivedFrame::peer);
    assert_eq!(down, Some(IpAddr::V4(Ipv4Addr::new(10, 255, 0, 2))));
    wait_routes(&trial, 5);

    BmpFeeder::connect_as(FIRST, &trial.topology.router, RELAY).wait_closed();
    trial.bmpd.wait_for_log("why", |line| line.contains("maximum-routes: its user or host had 101 routes"));
    let shown = trial.relay("lab");
    assert!(
        shown["last_closed"].as_str().is_some_and(|how| how.contains("maximum-routes is 100; closed")),
        "{shown:#}"
    );
    assert!(number(&shown["refused"]["maximum-routes"]) >= 1 && shown["held"] == json!([]), "{shown:#}");
    assert_eq!((number(&shown["closed_for_routes"]), number(&shown["maximum_routes"])), (1, 100));
    let limited = &shown["limited"][0];
    assert_eq!((number(&limited["uid"]), number(&limited["routes"])), (FIRST.into(), 101));
    assert!((250..=300).contains(&number(&limited["left_seconds"])), "{limited}");
    let text = trial.bmpd.display("display bmp relay");
    assert!(
        text.contains(&format!("closed for maximum-routes with 101 routes, user {FIRST} is refused for")),
        "{text}"
    );
    // The other daemon of this host notices nothing.
    other.announce(&peer(9), &prefixes(6), 1);
    wait_routes(&trial, 6);

    // A higher limit ends the refusal, and a lower one closes at once.
    trial.bmpd.commit_lines("bmp-relay lab\n maximum-routes 200");
    assert_eq!(trial.relay("lab")["limited"], json!([]));
    let mut feeder = connect(&trial, FIRST, &peer(2), &prefixes(150));
    wait_routes(&trial, 156);
    let answer = trial.bmpd.commit_lines("bmp-relay lab\n maximum-routes 149");
    let closed =
        format!("the connection of {} is closed: it has 150 routes, and maximum-routes is 149", feeder.local_addr());
    assert!(answer.contains(&closed), "{answer}");
    feeder.wait_closed();
    wait_routes(&trial, 6);
    assert!(other.is_open(), "the relay closed the connection of another user");
}

#[test]
fn a_warning_only_limit_of_a_relay_is_logged_and_closes_nothing() {
    let trial =
        TrialPlan { system: "bmp-relay lab\n maximum-routes 10 warning-only", ..TrialPlan::default() }.start_up();
    let feeder = connect(&trial, FIRST, &peer(2), &prefixes(50));
    trial.bmpd.wait_for_log("the warning", |line| line.contains("more than maximum-routes 10 (warning-only)"));
    wait_routes(&trial, 50);
    let shown = trial.relay("lab");
    assert_eq!((number(&shown["connections"][0]["routes"]), number(&shown["closed_for_routes"])), (50, 0));
    assert_eq!(shown["maximum_routes_warning_only"], Value::Bool(true));
    assert!(feeder.is_open(), "the relay closed the connection");
}

#[test]
fn routes_that_return_under_hold_count_towards_the_limit() {
    let trial =
        TrialPlan { system: "bmp-relay lab\n hold 600\n maximum-routes 100", ..TrialPlan::default() }.start_up();
    drop(connect(&trial, FIRST, &peer(2), &prefixes(80)));
    until("the peer is held", PATIENCE, || (number(&trial.relay("lab")["held_peers"]) == 1).then_some(()));
    // Of the routes that it had, it repeats none.
    let mut feeder = connect(&trial, FIRST, &peer(2), &prefixes(130)[100..]);
    feeder.wait_closed();
    trial
        .bmpd
        .wait_for_log("how many", |line| line.contains("the daemon had 1") && line.contains("maximum-routes is 100"));
    wait_routes(&trial, 0);
}

/// Exchanges OPENs and KEEPALIVEs.
fn establish(wire: &mut LabBgpConnection, asn: u32, own: Ipv4Addr) {
    assert!(matches!(wire.receive(), Some((bgp::OPEN, _))));
    wire.send(&bgp::open(asn, own));
    assert!(matches!(wire.receive(), Some((bgp::KEEPALIVE, _))));
    wire.send(&bgp::keepalive());
}

/// Returns the body of the NOTIFICATION that ends a session.
fn notification(wire: &mut LabBgpConnection) -> Vec<u8> {
    let mut messages = std::iter::from_fn(|| wire.receive());
    messages.find(|(kind, _)| *kind == bgp::NOTIFICATION).expect("bmpd sends a NOTIFICATION").1
}

#[test]
fn a_bgp_peer_beyond_maximum_routes_gets_a_cease_and_stays_idle_until_a_reset() {
    let ((address, asn), topology) = (DAEMON, Topology::new());
    let IpAddr::V4(own) = address else { unreachable!("it is IPv4") };
    let listener = topology.station.enter(|| TcpListener::bind((address, 179))).expect("the port is free");
    let system = format!(
        "bgp {}\n router-id 10.7.0.1\n listen-port 179\n peer {address} as-number {asn}\n \
         peer {address} maximum-routes 100\n ipv4-family unicast\n  peer {address} enable\nquit\nquit",
        BMPD.1
    );
    let trial = TrialPlan { system: &system, ..TrialPlan::default() }.start_on(topology);
    let shown = || trial.bmpd.display_json("display bgp peer")["peers"][0].clone();
    let mut wire = LabBgpConnection::accept(&listener);
    establish(&mut wire, asn, own);
    trial.station.wait_connection(0, "Peer Up", |c| c.has(bmp::PEER_UP));
    wire.send(&bgp::announce(&prefixes(100), asn, own));
    wait_routes(&trial, 100);
    trial.bmpd.wait_for_log("a warning", |line| line.contains("more than 75 % of its maximum-routes 100"));
    wire.send(&bgp::announce(&prefixes(101)[100..], asn, own));
    // Cease, Maximum Number of Prefixes Reached, with AFI 1, SAFI 1 and the limit (RFC 4486 §4).
    let cease = [6, 1, 0, 1, 1, 0, 0, 0, 100];
    assert_eq!(notification(&mut wire), cease);
    let connection = trial.station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    let down = connection.frames.iter().find(|frame| frame.kind() == bmp::PEER_DOWN).expect("there is one");
    // Reason 1, and the NOTIFICATION behind its header (RFC 7854 §4.9).
    assert_eq!((down.body()[0], &down.body()[20..]), (1, &cease[..]));
    wait_routes(&trial, 0);
    let peer = shown();
    assert_eq!((&peer["state"], &peer["reason"]), (&"Idle".into(), &"maximum-routes".into()));
    assert_eq!((number(&peer["closed_for_routes"]), number(&peer["configured"]["maximum_routes"])), (1, 100));
    assert!(peer["retry_in_seconds"].as_f64().is_some_and(|seconds| seconds > 250.0), "{peer:#}");

    // Meanwhile the peer gets no session, with Cease, Connection Rejected.
    let mut refused = LabBgpConnection::dial(&trial.topology.station, own, SocketAddr::new(BMPD.0, 179));
    assert_eq!(notification(&mut refused), [6, 5]);
    trial.bmpd.display(&format!("reset bgp peer {address}"));
    let mut wire = LabBgpConnection::accept(&listener);
    establish(&mut wire, asn, own);
    wire.send(&bgp::announce(&prefixes(100), asn, own));
    wait_routes(&trial, 100);

    // A lower limit closes at once, and one that is high enough ends the wait.
    let answer = trial.bmpd.commit_lines(&format!("bgp {}\n peer {address} maximum-routes 99", BMPD.1));
    assert!(answer.contains("is closed: it has 100 routes, and maximum-routes is 99"), "{answer}");
    assert_eq!(notification(&mut wire), [6, 1, 0, 1, 1, 0, 0, 0, 99]);
    trial.bmpd.commit_lines(&format!("bgp {}\n undo peer {address} maximum-routes", BMPD.1));
    let mut wire = LabBgpConnection::accept(&listener);
    establish(&mut wire, asn, own);
    wire.send(&bgp::announce(&prefixes(200), asn, own));
    wait_routes(&trial, 200);
    trial.bmpd.commit_lines(&format!("bgp {}\n peer {address} maximum-routes 150 warning-only", BMPD.1));
    trial.bmpd.wait_for_log("the warning", |line| line.contains("200 routes, more than its maximum-routes 150"));
    let peer = shown();
    assert_eq!((&peer["state"], number(&peer["closed_for_routes"])), (&"Established".into(), 2));
    let answer = trial.bmpd.display(&format!("display bgp peer {address} verbose"));
    assert!(answer.contains("150 (warning-only), closed 2 time(s) for more"), "{answer}");
}
