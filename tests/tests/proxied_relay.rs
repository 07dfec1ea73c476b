//! A relay behind HAProxy, which names the routers in PROXY headers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use lab::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    bmpd::number,
    feeder::BmpFeeder,
    haproxy::Haproxy,
    tls::{TestCa, profile},
    topology::{LOOPBACK, STATION, STATION_V6},
    trial::{LabTrial, TrialPlan},
    wait::{PATIENCE, until},
};
use serde_json::Value;

const RELAY: SocketAddr = SocketAddr::new(LOOPBACK, 5002);
/// Where HAProxy takes routers, on the host of the station.
const FRONT: SocketAddr = SocketAddr::new(STATION, 6000);
const FRONT_V6: SocketAddr = SocketAddr::new(STATION_V6, 6000);
/// The address by which HAProxy connects to the relay.
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

fn peer(last: u8) -> ReportedPeer {
    ReportedPeer { address: [10, 255, 0, last].into(), ..ReportedPeer::default() }
}

/// Returns a relay that takes the routers of these prefixes behind the proxies of the link.
fn relay(listen: &str, allow: &[&str]) -> String {
    let allow: String = allow.iter().map(|prefix| format!(" allow {prefix}\n")).collect();
    let (address, port) = (RELAY.ip(), RELAY.port());
    format!("bmp-relay far\n listen {address} port {port}{listen}\n{allow} allow proxy 192.0.2.0/26\nquit")
}

fn connections(trial: &LabTrial) -> Vec<Value> {
    trial.relay("far")["connections"].as_array().cloned().unwrap_or_default()
}

/// Two routers report by HAProxy, and are shown with their own addresses.
fn routers_are_told_and_shown(server: &str) {
    let system = relay("", &["198.51.100.0/24", "2001:db8:7::/64"]);
    let trial = TrialPlan { system: &system, ..TrialPlan::default() }.start_up();
    let elsewhere = &trial.topology.station;
    let _haproxy = Haproxy::start(elsewhere, &[FRONT, FRONT_V6], RELAY, server);
    let mut routers = [(FRONT, 2), (FRONT_V6, 3)].map(|(front, last)| {
        let mut router = BmpFeeder::with_peer(elsewhere, front, &peer(last));
        router.announce(&peer(last), &prefixes(4), 1);
        router
    });
    trial.station.wait_connection(0, "the routes of both", |c| c.announced() == 8);
    let shown = connections(&trial);
    for router in &routers {
        let client = router.local_addr().to_string();
        let found = shown.iter().find(|connection| connection["client"] == client.as_str());
        let connection = found.unwrap_or_else(|| panic!("no {client}: {shown:#?}"));
        let proxy: SocketAddr = connection["proxy"].as_str().and_then(|p| p.parse().ok()).expect("the proxy is named");
        assert_eq!((proxy.ip(), number(&connection["routes"])), (PROXY, 4));
        let text = trial.bmpd.display("display bmp relay");
        assert!(text.contains(&format!("{client} by {proxy} (feeder)")), "{text}");
        trial.bmpd.wait_for_log("both ends", |line| {
            line.contains("daemon connected")
                && line.contains(&format!("client={client}"))
                && line.contains(&format!("proxy={proxy}"))
        });
    }
    // `allow` without the first router: the other one stays.
    let answer = trial.bmpd.commit_lines("bmp-relay far\n undo allow 198.51.100.0/24");
    let client = routers[0].local_addr();
    assert!(answer.contains(&format!("the connection of {client} is closed: `allow` does not let it in")), "{answer}");
    routers[0].wait_closed();
    BmpFeeder::connect(elsewhere, FRONT).wait_closed();
    trial.bmpd.wait_for_log("why", |line| line.contains("`allow` does not name the host of its PROXY header"));
    routers[1].announce(&peer(3), &prefixes(5)[4..], 1);
    trial.station.wait_connection(0, "what the other one says", |c| c.announced() == 9);
}

#[test]
fn routers_behind_haproxy_are_known_by_their_own_addresses_with_version_1() {
    routers_are_told_and_shown("send-proxy");
}

#[test]
fn routers_behind_haproxy_are_known_by_their_own_addresses_with_version_2() {
    routers_are_told_and_shown("send-proxy-v2 proxy-v2-options crc32c,unique-id");
}

#[test]
fn health_checks_of_haproxy_are_counted_and_not_logged() {
    let system = relay("", &["198.51.100.0/24"]);
    let trial = TrialPlan { system: &system, ..TrialPlan::default() }.start_up();
    let checks = || number(&trial.relay("far")["health_checks"]);
    for server in ["send-proxy check inter 100", "send-proxy-v2 check inter 100"] {
        let before = checks();
        let _haproxy = Haproxy::start(&trial.topology.station, &[FRONT], RELAY, server);
        until("health checks", PATIENCE, || (checks() >= before + 3).then_some(()));
    }
    let shown = trial.relay("far");
    assert_eq!((number(&shown["refused"]["proxy-header"]), &shown["last_closed"]), (0, &Value::Null));
    assert!(!trial.bmpd.log().iter().any(|line| line.contains("closed a connection")));
}

#[test]
fn a_header_comes_in_front_of_tls() {
    let ca = TestCa::new("Lab CA");
    let [own, client] = ["relay", "client"].map(|name| ca.issue(name, name, "IP:203.0.113.1", 10));
    let system = profile("far", &ca, Some(&own), "") + &relay(" tls far", &["198.51.100.0/24"]);
    let trial = TrialPlan { system: &system, ..TrialPlan::default() }.start_up();
    let pem = ca.folder().join("haproxy.pem");
    let parts = [&client.certificate, &client.key].map(|file| std::fs::read(file).expect("openssl wrote it"));
    std::fs::write(&pem, parts.concat()).expect("a temporary file can be written");
    let server = format!("send-proxy-v2 ssl verify required ca-file {} crt {}", ca.file().display(), pem.display());
    let _haproxy = Haproxy::start(&trial.topology.station, &[FRONT], RELAY, &server);
    let mut router = BmpFeeder::with_peer(&trial.topology.station, FRONT, &peer(2));
    router.announce(&peer(2), &prefixes(3), 1);
    trial.station.wait_connection(0, "the routes by TLS", |c| c.announced() == 3);
    assert_eq!(connections(&trial)[0]["client"], router.local_addr().to_string().as_str());
    trial.bmpd.wait_for_log("the certificate", |line| line.contains("with the certificate of CN=client"));
}

#[test]
fn a_proxy_without_a_header_is_refused_and_a_header_of_anyone_else() {
    let trial = TrialPlan { system: &relay("", &["198.51.100.0/24"]), ..TrialPlan::default() }.start_up();
    let elsewhere = &trial.topology.station;
    let _haproxy = Haproxy::start(elsewhere, &[FRONT], RELAY, "");
    let mut router = BmpFeeder::connect(elsewhere, FRONT);
    router.raw(&bmp::initiation("feeder"));
    router.wait_closed();
    trial.bmpd.wait_for_log("why", |line| {
        line.contains("at byte 0: expected a PROXY header, found 3, as BMP begins: set the proxy to send PROXY headers")
    });
    assert_eq!(number(&trial.relay("far")["refused"]["proxy-header"]), 1);
    let mut own = BmpFeeder::connect(&trial.topology.router, RELAY);
    own.raw(b"PROXY TCP4 198.51.100.9 203.0.113.1 4711 5002\r\n");
    own.wait_closed();
    trial.bmpd.wait_for_log("why", |line| {
        line.contains("found a PROXY header: `allow proxy` of the relay does not name this client")
    });
}

#[test]
fn undo_allow_proxy_closes_the_routers_behind_it_and_no_daemon_of_this_host() {
    let trial = TrialPlan { system: &relay("", &["198.51.100.0/24"]), ..TrialPlan::default() }.start_up();
    let elsewhere = &trial.topology.station;
    let _haproxy = Haproxy::start(elsewhere, &[FRONT], RELAY, "send-proxy-v2");
    let mut router = BmpFeeder::with_peer(elsewhere, FRONT, &peer(2));
    let mut own = BmpFeeder::with_peer(&trial.topology.router, RELAY, &peer(3));
    router.announce(&peer(2), &prefixes(2), 1);
    own.announce(&peer(3), &prefixes(1), 1);
    trial.station.wait_connection(0, "the routes of both", |c| c.announced() == 3);
    let answer = trial.bmpd.commit_lines("bmp-relay far\n undo allow proxy 192.0.2.0/26");
    let client = router.local_addr();
    assert!(answer.contains(&format!("the connection of {client} is closed")), "{answer}");
    router.wait_closed();
    let shown = trial.relay("far");
    assert!(shown["last_closed"].as_str().is_some_and(|how| how.contains("`allow proxy` does not let")), "{shown:#}");
    own.announce(&peer(3), &prefixes(2)[1..], 1);
    trial.station.wait_connection(0, "what comes from this host", |c| c.announced() == 4);
}
