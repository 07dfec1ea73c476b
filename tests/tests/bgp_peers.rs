//! BGP peers that are real daemons, and their settings: passwords, who connects, from where, and
//! graceful restart.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use lab::{
    bgp::{self, prefixes},
    bmp,
    bmpd::Bmpd,
    capture::{CapturedPacket, LinkCapture},
    peering::{BMPD, DAEMON, DAEMON_V6, DaemonTable, Peering, bgp_view},
    rib::{AfiSafi, IPV4, IPV6, StationRib},
    speaker::LabBgpConnection,
    station::RecordedConnection,
    topology::{LOOPBACK, Topology},
    trial::{LabTrial, TrialPlan},
    wait::{PATIENCE, until},
};

/// Starts a trial with these peers in the bgp view.
fn start(bgp: &str, topology: Topology) -> LabTrial {
    TrialPlan { system: &bgp_view(bgp), ..TrialPlan::default() }.start_on(topology)
}

/// Returns the peer with both families in one session.
fn both_families() -> String {
    let (peer, asn) = DAEMON;
    format!(
        " peer {peer} as-number {asn}\n ipv4-family unicast\n  peer {peer} enable\n ipv6-family unicast\n  peer {peer} enable\n"
    )
}

/// Waits until the station's newest connection has exactly these routes, and returns it.
fn wait_routes(trial: &LabTrial, peer: IpAddr, family: AfiSafi, wanted: &BTreeSet<String>) -> RecordedConnection {
    let mut last = 0;
    until(&format!("{} routes of {peer} in {family:?} at the station", wanted.len()), 3 * PATIENCE, || {
        let connections = trial.station.connections();
        let newest = connections.last()?;
        // Reading all frames again takes time, so wait for new ones.
        if std::mem::replace(&mut last, newest.frames.len()) == newest.frames.len() {
            std::thread::sleep(Duration::from_millis(50));
        }
        (StationRib::of(newest).routes(peer, family) == *wanted).then(|| newest.clone())
    })
}

fn set(routes: Vec<String>) -> BTreeSet<String> {
    routes.into_iter().collect()
}

#[test]
fn routes_stay_during_a_graceful_restart_and_lost_ones_go_after_it() {
    let table = DaemonTable { ipv4: 2_000, ipv6: 500, ..DaemonTable::default() };
    let trial = start(&both_families(), Topology::new());
    let mut bird = Peering::bird(&trial.topology.station, &table);
    wait_routes(&trial, DAEMON.0, IPV4, &set(table.ipv4()));
    wait_routes(&trial, DAEMON.0, IPV6, &set(table.ipv6()));
    bird.kill();
    trial.bmpd.wait_for_log("the restart", |line| line.contains("may be restarting"));
    std::thread::sleep(Duration::from_secs(1));
    let connection = trial.station.connections().pop().unwrap();
    assert!(!connection.has(bmp::PEER_DOWN));
    assert_eq!(StationRib::of(&connection).routes(DAEMON.0, IPV4).len(), 2_000);
    let smaller = DaemonTable { ipv4: 1_000, ..table };
    bird.start_again(Some(&smaller));
    trial.bmpd.wait_for_log("it is back", |line| line.contains("back from its restart: 2500 routes stay"));
    wait_routes(&trial, DAEMON.0, IPV4, &set(smaller.ipv4()));
    wait_routes(&trial, DAEMON.0, IPV6, &set(table.ipv6()));
}

#[test]
fn a_session_needs_the_right_password() {
    let table =
        DaemonTable { ipv4: 10, ipv6: 10, password: Some("correct-horse"), passive: true, ..DaemonTable::default() };
    let with = |password: &str| {
        format!(" peer {} password {password}\n{}", DAEMON.0, both_families()).replacen(
            &format!(" peer {} password", DAEMON.0),
            &format!(" peer {} as-number {}\n peer {} password", DAEMON.0, DAEMON.1, DAEMON.0),
            1,
        )
    };
    let trial = start(&with("battery-staple"), Topology::new());
    let bird = Peering::bird(&trial.topology.station, &table);
    std::thread::sleep(Duration::from_secs(3));
    assert!(!trial.station.connections().pop().unwrap().has(bmp::PEER_UP));
    let system = bgp_view(&with("correct-horse"));
    trial.bmpd.reload(&TrialPlan { system: &system, ..TrialPlan::default() }.configuration());
    wait_routes(&trial, DAEMON.0, IPV4, &bird.rib(IPV4));
}

#[test]
fn a_session_comes_from_the_connect_interface_of_its_peer_whoever_opens_it() {
    for passive in [true, false] {
        let table = DaemonTable { ipv4: 10, ipv6: 10, passive, from: Some(LOOPBACK), ..DaemonTable::default() };
        let (peer, asn) = DAEMON;
        let listen_only = if passive { String::new() } else { format!(" peer {peer} listen-only\n") };
        let bgp = format!(" peer {peer} as-number {asn}\n{listen_only} peer {peer} connect-interface lo {LOOPBACK}\n");
        let trial = start(&format!("{bgp}{}", both_families()), Topology::new());
        let _bird = Peering::bird(&trial.topology.station, &table);
        let connection = wait_routes(&trial, peer, IPV4, &set(table.ipv4()));
        let up = connection.frames.iter().find(|frame| frame.kind() == bmp::PEER_UP).unwrap();
        assert_eq!(up.body()[12..16], [203, 0, 113, 1], "the local address of the Peer Up");
    }
}

#[test]
fn a_listen_only_peer_connects_with_a_password() {
    let table = DaemonTable { ipv4: 10, ipv6: 10, password: Some("correct-horse"), ..DaemonTable::default() };
    let (peer, asn) = DAEMON;
    let topology = Topology::new();
    let up1 = LinkCapture::start(&topology.router, "up1", 179);
    let trial = start(
        &format!(
            " peer {peer} as-number {asn}\n peer {peer} listen-only\n peer {peer} password correct-horse\n{}",
            both_families()
        ),
        topology,
    );
    let bird = Peering::bird(&trial.topology.station, &table);
    wait_routes(&trial, peer, IPV4, &bird.rib(IPV4));
    assert!(!trial.bmpd.log().iter().any(|line| line.contains("cannot connect")), "bmpd tried to connect");
    let calls = |packet: &CapturedPacket| packet.left_for((peer, 179).into()) && packet.syn;
    assert!(!up1.packets().iter().any(calls), "bmpd sent a SYN to the peer");
}

#[test]
fn bmpd_never_connects_to_a_listen_only_peer() {
    let (peer, asn) = DAEMON;
    let configuration = |listen_only: &str| {
        let families = both_families().replacen(&format!(" peer {peer} as-number {asn}\n"), "", 1);
        let bgp = format!(" peer {peer} as-number {asn}\n{listen_only}{families}");
        let system = bgp_view(&bgp);
        TrialPlan { system: &system, ..TrialPlan::default() }.configuration()
    };
    let topology = Topology::new();
    let up1 = LinkCapture::start(&topology.router, "up1", 179);
    let table = DaemonTable { ipv4: 10, ipv6: 10, passive: true, ..DaemonTable::default() };
    let _bird = Peering::bird(&topology.station, &table);
    let listen_only = format!(" peer {peer} listen-only\n");
    let bmpd = Bmpd::start(&topology.router, &configuration(&listen_only));
    bmpd.wait_for_log("that it listens", |line| line.contains("listening for BGP peers"));
    // Long enough for bmpd's first attempts, if it made any.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(up1.packets(), Vec::new());
    bmpd.reload(&configuration(""));
    up1.wait_for("an attempt", PATIENCE, |packets| packets.iter().any(|packet| packet.syn).then_some(()));
    bmpd.wait_for_log("the session", |line| line.contains("BGP session established"));
}

#[test]
fn an_ipv6_session_needs_the_right_password_too() {
    let table = DaemonTable { ipv4: 10, ipv6: 10, password: Some("correct-horse"), ..DaemonTable::default() };
    let asn = DAEMON.1;
    let peers = |of_ipv6: &str| {
        let [ipv4, ipv6] = [DAEMON.0, DAEMON_V6];
        format!(
            " peer {ipv4} as-number {asn}\n peer {ipv4} password correct-horse\n peer {ipv6} as-number {asn}\n \
             peer {ipv6} password {of_ipv6}\n ipv4-family unicast\n  peer {ipv4} enable\n \
             ipv6-family unicast\n  peer {ipv6} enable\n"
        )
    };
    let trial = start(&peers("battery-staple"), Topology::new());
    let frr = Peering::frr(&trial.topology.station, &table);
    wait_routes(&trial, DAEMON.0, IPV4, &frr.rib(IPV4));
    assert!(!StationRib::of(&trial.station.connections()[0]).is_up(DAEMON_V6));
    let system = bgp_view(&peers("correct-horse"));
    trial.bmpd.reload(&TrialPlan { system: &system, ..TrialPlan::default() }.configuration());
    let connection = wait_routes(&trial, DAEMON_V6, IPV6, &frr.rib(IPV6));
    // The other peer's session was not touched.
    assert_eq!((connection.count(bmp::PEER_UP), connection.count(bmp::PEER_DOWN)), (2, 0));
}

#[test]
fn a_new_listen_port_ends_sessions_that_the_peer_opened_and_no_others() {
    let ((peer, asn), topology) = (DAEMON, Topology::new());
    let IpAddr::V4(own) = peer else { unreachable!("it is IPv4") };
    let configuration = |port: Option<u16>, listen_only: &str| {
        let listen = port.map(|port| format!(" listen-port {port}\n")).unwrap_or_default();
        let peer = format!(" peer {peer} as-number {asn}\n{listen_only}{}", both_families());
        let system = format!("bgp {}\n router-id 10.7.0.1\n{listen}{peer}", BMPD.1);
        TrialPlan { system: &system, ..TrialPlan::default() }.configuration()
    };
    let establish = |wire: &mut LabBgpConnection| {
        assert!(matches!(wire.receive(), Some((bgp::OPEN, _))));
        wire.send(&bgp::open(asn, own));
        assert!(matches!(wire.receive(), Some((bgp::KEEPALIVE, _))));
        wire.send(&bgp::keepalive());
    };
    let listener = topology.station.enter(|| TcpListener::bind((peer, 179))).expect("the port is free");
    let system = format!("bgp {}\n router-id 10.7.0.1\n{}", BMPD.1, both_families());
    let trial = TrialPlan { system: &system, ..TrialPlan::default() }.start_on(topology);
    let mut of_bmpd = LabBgpConnection::accept(&listener);
    establish(&mut of_bmpd);
    trial.station.wait_connection(0, "Peer Up", |c| c.has(bmp::PEER_UP));
    for port in [Some(1790), Some(1179), None] {
        trial.bmpd.reload(&configuration(port, ""));
        until("bmpd listens on the new port", PATIENCE, || {
            let peers = trial.bmpd.display_json("display bgp peer");
            (peers["listener"]["port"] == serde_json::json!(port)).then_some(())
        });
    }
    let numbers = prefixes(10);
    of_bmpd.send(&bgp::announce(&numbers, asn, own));
    let wanted = numbers.iter().map(ToString::to_string).collect();
    let connection = wait_routes(&trial, peer, IPV4, &wanted);
    assert_eq!((connection.count(bmp::PEER_UP), connection.count(bmp::PEER_DOWN)), (1, 0));
    // From now on the peer connects.
    let listen_only = format!(" peer {peer} listen-only\n");
    trial.bmpd.reload(&configuration(Some(1790), &listen_only));
    assert!(
        std::iter::from_fn(|| of_bmpd.receive()).any(|(kind, body)| kind == bgp::NOTIFICATION && body[..2] == [6, 6])
    );
    for port in [1179, 2179] {
        let before = if port == 1179 { 1790 } else { 1179 };
        let mut of_peer = LabBgpConnection::connect(&trial.topology.station, own, SocketAddr::new(BMPD.0, before));
        establish(&mut of_peer);
        let ups = if port == 1179 { 2 } else { 3 };
        trial.station.wait_connection(0, "Peer Up", |c| c.count(bmp::PEER_UP) == ups);
        trial.bmpd.reload(&configuration(Some(port), &listen_only));
        let end = std::iter::from_fn(|| of_peer.receive()).last();
        assert!(matches!(&end, Some((bgp::NOTIFICATION, body)) if body[..2] == [6, 6]), "{end:?}");
        trial.station.wait_connection(0, "Peer Down", |c| c.count(bmp::PEER_DOWN) == ups);
    }
}

#[test]
fn a_collision_leaves_the_connection_of_the_higher_identifier() {
    let ((peer, asn), bmpd) = (DAEMON, SocketAddr::new(BMPD.0, 179));
    let IpAddr::V4(own) = peer else { unreachable!("it is IPv4") };
    // The identifier of bmpd is 10.7.0.1.
    for (id, is_higher) in [(Ipv4Addr::new(10, 7, 0, 9), true), (Ipv4Addr::new(10, 6, 0, 1), false)] {
        let topology = Topology::new();
        let listener = topology.station.enter(|| TcpListener::bind((peer, 179))).expect("the port is free");
        let trial = start(&both_families(), topology);
        let mut of_bmpd = LabBgpConnection::accept(&listener);
        let mut of_peer = LabBgpConnection::connect(&trial.topology.station, own, bmpd);
        for wire in [&mut of_bmpd, &mut of_peer] {
            assert!(matches!(wire.receive(), Some((bgp::OPEN, _))));
        }
        // Before the OPENs, nothing tells the connections apart (RFC 4271 §6.8).
        for wire in [&mut of_bmpd, &mut of_peer] {
            wire.send(&bgp::open(asn, id));
        }
        let (mut stays, mut goes) = if is_higher { (of_peer, of_bmpd) } else { (of_bmpd, of_peer) };
        let end = std::iter::from_fn(|| goes.receive()).last();
        // Cease, Connection Collision Resolution (RFC 4486 §4).
        assert!(matches!(&end, Some((bgp::NOTIFICATION, body)) if body[..2] == [6, 7]), "{end:?}");
        assert!(matches!(stays.receive(), Some((bgp::KEEPALIVE, _))));
        stays.send(&bgp::keepalive());
        stays.send(&bgp::announce(&prefixes(10), asn, own));
        let wanted = prefixes(10).iter().map(ToString::to_string).collect();
        let connection = wait_routes(&trial, peer, IPV4, &wanted);
        assert_eq!((connection.count(bmp::PEER_UP), connection.count(bmp::PEER_DOWN)), (1, 0));
        let up = connection.frames.iter().find(|frame| frame.kind() == bmp::PEER_UP).expect("there is a Peer Up");
        // Local and remote port (RFC 7854 §4.10), of the remaining connection.
        let ports = [16, 18].map(|at| u16::from_be_bytes([up.body()[at], up.body()[at + 1]]));
        assert_eq!(ports[1], stays.port());
        assert_eq!(ports[0] == 179, is_higher);
    }
}

#[test]
fn a_removed_peer_goes_down_with_the_reason_and_other_peers_stay() {
    let trial = start(&both_families(), Topology::new());
    let table = DaemonTable { ipv4: 10, ipv6: 10, ..DaemonTable::default() };
    let _bird = Peering::bird(&trial.topology.station, &table);
    wait_routes(&trial, DAEMON.0, IPV4, &set(table.ipv4()));
    let configuration = |bgp: &str| TrialPlan { system: &bgp_view(bgp), ..TrialPlan::default() }.configuration();
    // A new peer changes nothing for this one.
    trial.bmpd.reload(&configuration(&format!(" peer 10.9.9.9 as-number 65009\n{}", both_families())));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!trial.station.connections().pop().unwrap().has(bmp::PEER_DOWN));
    trial.bmpd.reload(&configuration(" peer 10.9.9.9 as-number 65009\n"));
    let connection = trial.station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    let down = connection.frames.iter().find(|frame| frame.kind() == bmp::PEER_DOWN).unwrap();
    assert_eq!(down.body()[0], 5);
}
