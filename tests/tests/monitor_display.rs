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

#[test]
fn one_peer_is_displayed_with_its_stations_and_the_monitors_that_select_it() {
    let other = "bmp-session 198.51.100.7 alias none\n  tcp connect port 12001\n  monitor bgp\n quit\n quit\n";
    let plan = TrialPlan { bmp: other, session: "monitor public\nquit\nmonitor relay lab", ..TrialPlan::default() };
    let trial = plan.start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 3, 0);
    let address = ReportedPeer::default().address;
    let one = format!("display bgp bmp-monitor ipv4 {address}");
    let peers = array(trial.bmpd.display_json(&one));
    assert_eq!((peers.len(), &peers[0]["peer"], &peers[0]["input"]), (1, &address.to_string().into(), &"lab".into()));
    // The session with another `monitor` is not told of it.
    let sessions = peers[0]["sessions"].as_array().expect("an array");
    assert_eq!((sessions.len(), &sessions[0]["alias"]), (1, &Value::Null));
    assert_eq!(sessions[0]["monitors"], serde_json::json!(["public", "relay lab"]));
    let level = |peers: Vec<Value>| (number(&peers[0]["sessions"][0]["lag_bytes"]) == 0).then_some(());
    until("the station has all", PATIENCE, || level(array(trial.bmpd.display_json(&one))));
    let text = trial.bmpd.display(&one);
    for line in [
        "  RIB                 : IPv4 unicast adj-rib-in pre-policy, 3 route(s)\n",
        "  Told to             : 198.51.100.7: up, 0 bytes behind\n",
        "    selected by       : monitor public\n",
        "    selected by       : monitor relay lab\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    // No peer of a VPN instance has this address, and no peer has another one.
    for none in [
        format!("display bgp bmp-monitor vpn-instance red ipv4 {address}"),
        "display bgp bmp-monitor ipv4 10.255.0.99".to_owned(),
    ] {
        assert_eq!(trial.bmpd.display_json(&none), Value::Array(Vec::new()), "{none}");
        assert_eq!(trial.bmpd.display(&none), " Total number of peers : 0\n");
    }
    let wrong = trial.bmpd.try_display(&format!("display bgp bmp-monitor ipv6 {address}"));
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && said.contains(&format!("`ipv4 {address}` names the peer")), "{said}");
}
