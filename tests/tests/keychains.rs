//! Key chains on any kernel: TCP MD5 by key chain, and what happens where the kernel lacks TCP-AO.
//! Those with TCP-AO are in `vm_tcp_ao.rs`.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lab::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    bmpd::{Bmpd, BmpdSetup, StartOptions},
    feeder::BmpFeeder,
    keychain::{UNANSWERED, key, utc},
    passive::{BRIEFLY, listening},
    peering::{BMPD, DAEMON, bgp_view},
    skip::skip,
    sockets::{sign_with_md5, take},
    station::TestStation,
    tcp_ao,
    topology::{STATION, STATION_PORT, Topology, UP2},
    trial::RELAY,
    wait::{PATIENCE, until},
};
use socket2::{Domain, Socket, Type};

/// Returns a configuration with this key chain, a relay, and a session by `up2`.
fn configuration(keys: &str, transport: &str) -> String {
    let relay = format!("bmp-relay lab\n listen {} port {}\n", RELAY.ip(), RELAY.port());
    format!(
        "keychain core\n{keys}{relay}bmp\n bmp-session {STATION}\n  {transport} port {STATION_PORT} keychain core\n  \
         connect-interface up2\n"
    )
}

#[test]
fn a_session_signs_with_the_secret_of_its_md5_key_chain_and_shows_it_nowhere() {
    let topology = Topology::new();
    let far = TestStation::with_secret(&topology.station, (STATION, STATION_PORT), UP2, "correct-horse");
    let bmpd = Bmpd::start(&topology.router, &configuration(&key(1, "md5", "correct-horse", ""), "tcp connect"));
    far.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    let session = bmpd.wait_up(STATION);
    assert_eq!(session["keychain"]["name"], "core", "{session:#}");
    for display in ["display bmp session verbose", "display current-configuration"] {
        assert!(!bmpd.display(display).contains("correct-horse"));
    }
}

#[test]
fn a_station_connects_with_the_secret_of_an_md5_key_chain_alone() {
    let topology = Topology::new();
    let bmpd = Bmpd::start(&topology.router, &configuration(&key(1, "md5", "correct-horse", ""), "tcp listen"));
    listening(&bmpd, STATION);
    let unsigned = TestStation::start(&topology.station, SocketAddr::new(STATION, 0));
    unsigned.call((UP2, STATION_PORT), BRIEFLY).expect_err("nobody answers an unsigned SYN");
    // An expired chain lets nobody in at all.
    bmpd.commit_lines(&format!("keychain core\nkey-id 1\nsend-time utc {}", utc(3600)));
    bmpd.wait_session_for(STATION, "down", UNANSWERED, |session| session["reason"] == "no-valid-key");
    unsigned.call((UP2, STATION_PORT), BRIEFLY).expect_err("bmpd does not listen");
}

#[test]
fn the_secret_of_tcp_md5_rolls_over_under_load_and_nothing_is_lost() {
    let topology = Topology::new();
    let far = TestStation::with_secret(&topology.station, (STATION, STATION_PORT), UP2, "first");
    let change = utc(5);
    let keys = [
        key(1, "md5", "first", &format!("  send-time utc {} to {change}\n", utc(0))),
        key(2, "md5", "second", &format!("  send-time utc {change}\n")),
    ];
    let bmpd = Bmpd::start(&topology.router, &configuration(&keys.concat(), "tcp connect"));
    let port = bmpd.wait_up(STATION)["local_port"].as_u64().and_then(|port| u16::try_from(port).ok());
    let (peer, routes) = (ReportedPeer::default(), prefixes(200));
    let mut feeder = BmpFeeder::with_peer(&topology.router, RELAY, &peer);
    far.wait_connection(0, "the Peer Up", |c| c.has(bmp::PEER_UP));
    let connection = take(std::process::id(), SocketAddr::new(UP2, port.expect("the session is up")));
    let mut fed = 0;
    until("bmpd signs with the second secret", UNANSWERED, || {
        feeder.announce(&peer, &routes, 20);
        fed += routes.len();
        bmpd.log().iter().any(|line| line.contains("signs with another secret")).then_some(())
    });
    sign_with_md5(&connection, UP2, "second");
    let recorded = far.wait_connection(0, "all routes", |c| c.announced() == fed);
    assert!(recorded.end.is_none(), "the connection ended");
    assert_eq!(bmpd.session(STATION)["established_count"], 1);
}

/// Connects from the other host, signed if there is a secret. A SYN with a wrong one is dropped.
fn dial(topology: &Topology, from: IpAddr, secret: Option<&str>) -> std::io::Result<()> {
    topology.station.enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(secret) = secret {
            sign_with_md5(&socket, BMPD.0, secret);
        }
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&SocketAddr::new(BMPD.0, 179).into(), Duration::from_millis(300))
    })
}

#[test]
fn a_peer_that_connects_all_the_time_does_not_keep_a_listener_from_the_next_key_of_another() {
    let (signed, other, topology, change) = (DAEMON.0, STATION, Topology::new(), utc(4));
    let keys = [
        key(1, "md5", "first", &format!("  send-time utc {} to {change}\n", utc(0))),
        key(2, "md5", "second", &format!("  send-time utc {change}\n")),
    ];
    let settings = [signed, other].map(|peer| format!(" peer {peer} as-number 65001\n peer {peer} listen-only\n"));
    let enabled = [signed, other].map(|peer| format!("  peer {peer} enable\n"));
    let view = bgp_view(&format!(
        "{} peer {signed} keychain core\n ipv4-family unicast\n{}",
        settings.concat(),
        enabled.concat()
    ));
    let bmpd = Bmpd::start(&topology.router, &format!("keychain core\n{}{view}", keys.concat()));
    bmpd.wait_for_log("that it listens", |line| line.contains("listening for BGP peers"));
    until("bmpd takes the first key", PATIENCE, || dial(&topology, signed, Some("first")).ok());
    until("bmpd takes the second key", UNANSWERED, || {
        dial(&topology, other, None).expect("bmpd accepts the other peer");
        dial(&topology, signed, Some("second")).ok()
    });
}

#[test]
fn without_tcp_ao_in_the_kernel_a_session_is_down_and_the_doctor_says_so() {
    if tcp_ao::has_kernel_support() {
        return skip("the kernel has TCP-AO");
    }
    let topology = Topology::new();
    let far = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let keys = key(1, "hmac-sha-1-96", "correct-horse", "");
    for transport in ["tcp connect", "tcp listen"] {
        let bmpd = Bmpd::start(&topology.router, &configuration(&keys, transport));
        let session = bmpd.wait_down(STATION, "not-supported");
        let detail = session["detail"].to_string();
        assert!(detail.contains("this kernel has no TCP-AO (Linux 6.7 or newer with CONFIG_TCP_AO)"), "{detail}");
        assert!(far.connections().is_empty(), "bmpd connected without a signature");
        let setup = bmpd.terminate();
        let mut doctor = setup.bmpd();
        doctor.args(["doctor", "--frr", "/nonexistent"]).arg("--config").arg(setup.file());
        doctor.arg("--control").arg(setup.control()).arg("--bpffs").arg(setup.bpffs());
        let said = doctor.output().expect("bmpd can be started");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("this kernel has no TCP-AO, which keychain core needs"), "{said}");
    }
}

#[test]
fn a_key_chain_that_is_not_there_keeps_its_session_down_and_a_commit_warns() {
    let topology = Topology::new();
    let _far = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let setup = BmpdSetup::new(&topology.router, configuration(&key(1, "md5", "correct-horse", ""), "tcp connect"));
    let bmpd = Bmpd::start_in(setup, &StartOptions::default());
    let answer = bmpd.commit(STATION, &format!("tcp connect port {STATION_PORT} keychain other"));
    assert!(answer.contains("takes no connection: there is no keychain other"), "{answer}");
    bmpd.wait_session_for(STATION, "down", UNANSWERED, |session| session["reason"] == "no-valid-key");
}
