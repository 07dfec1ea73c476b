//! Displays of which peers each station monitors, and of peers that a station does not get because
//! another one looks the same.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use lab::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    bmpd::{array, number},
    feeder::BmpFeeder,
    topology::STATION,
    trial::{LabTrial, RELAY, TrialPlan},
    wait::{PATIENCE, until},
};
use serde_json::Value;

const OTHER_RELAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5001);

fn monitored(trial: &LabTrial) -> Vec<Value> {
    array(trial.bmpd.display_json("display bgp bmp-monitor all"))
}

/// Starts a trial with two daemons that have the same peer. The second one has two routes more.
fn two_daemons(session: &str) -> (LabTrial, [BmpFeeder; 2]) {
    let system = format!("bmp-relay other\n listen {} port {}", OTHER_RELAY.ip(), OTHER_RELAY.port());
    let trial = TrialPlan { system: &system, session, ..TrialPlan::default() }.start_up();
    let peer = ReportedPeer::default();
    let feeders = [(RELAY, 3), (OTHER_RELAY, 5)].map(|(relay, routes)| {
        let mut feeder = BmpFeeder::with_peer(&trial.topology.router, relay, &peer);
        feeder.announce(&peer, &prefixes(routes), 1);
        until(&format!("{routes} routes are in the feed"), PATIENCE, || {
            let has = |peer: &Value| number(&peer["ribs"][0]["routes"]) == routes as u64;
            monitored(&trial).iter().any(has).then_some(())
        });
        feeder
    });
    (trial, feeders)
}

#[test]
fn a_peer_that_looks_like_another_is_displayed_as_refused() {
    let (trial, _feeders) = two_daemons("");
    let shown = until("the station refuses the peer of the second daemon", PATIENCE, || {
        let shown = monitored(&trial);
        (shown[1]["sessions"][0]["refused"] == true).then_some(shown)
    });
    let what = |peer: &Value| {
        let rib = &peer["ribs"][0];
        let (family, view) = (rib["family"].as_str().unwrap().to_owned(), rib["view"].as_str().unwrap().to_owned());
        (peer["input"].as_str().unwrap().to_owned(), family, view, number(&rib["routes"]))
    };
    let wanted =
        |input: &str, routes| (input.to_owned(), "IPv4 unicast".to_owned(), "adj-rib-in pre-policy".to_owned(), routes);
    assert_eq!((shown.len(), what(&shown[0]), what(&shown[1])), (2, wanted("lab", 3), wanted("other", 5)));
    assert_eq!((&shown[0]["sessions"][0]["refused"], &shown[0]["announced"]), (&false.into(), &true.into()));
    assert_eq!(number(&trial.bmpd.session(STATION)["feed"]["refused_peers"]), 1);
    let verbose = trial.bmpd.display("display bmp session verbose");
    assert!(verbose.contains("Peers left out      : 1 (it could not tell"), "{verbose}");
    assert!(verbose.contains("Monitored peers     : IPv4 unicast 2"), "{verbose}");
    assert!(verbose.contains("Timers              : retry 1 s to 60 s, keepalive 30 s"), "{verbose}");
    let text = trial.bmpd.display("display bgp bmp-monitor all");
    let line = |input: &str| text.lines().find(|line| line.contains(input)).expect("the input has a line").to_owned();
    assert!(line(" lab ").trim_end().ends_with("3       198.51.100.7"), "{text}");
    assert!(line(" other ").trim_end().ends_with("5       198.51.100.7 refused"), "{text}");
}

#[test]
fn monitor_relay_selects_the_peer_of_that_relay() {
    let (trial, _feeders) = two_daemons("monitor relay other");
    trial.station.wait_connection(0, "the second daemon's routes", |connection| connection.announced() == 5);
    let shown = monitored(&trial);
    assert_eq!(shown[0]["sessions"], Value::Array(Vec::new()));
    let session = &shown[1]["sessions"][0];
    let rib = serde_json::json!([{ "family": "IPv4 unicast", "view": "adj-rib-in pre-policy" }]);
    assert_eq!((&session["ribs"], &session["refused"]), (&rib, &false.into()));
    assert_eq!(trial.station.connections()[0].count(bmp::PEER_UP), 1);
}
