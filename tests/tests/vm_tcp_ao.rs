//! TCP-AO: sessions, BGP peers and relays that are signed with the keys of a key chain, and keys
//! that roll over.

use std::net::{IpAddr, SocketAddr, TcpStream};

use lab::{
    bgp::{self, prefixes},
    bmp::{self, ReportedPeer},
    bmpd::{Bmpd, number},
    feeder::BmpFeeder,
    keychain::{UNANSWERED, core, key, utc},
    passive::{BRIEFLY, listening},
    peering::{BMPD, DAEMON, signed_peer},
    sockets::take,
    speaker::LabBgpConnection,
    station::TestStation,
    tcp_ao::{AoState, FarKey, add_key, ask_for, is_there, state},
    topology::{STATION, STATION_PORT, STATION_V6, Topology, UP2, UP2_V6},
    trial::RELAY,
    wait::{PATIENCE, until},
};
use socket2::{Domain, Socket, Type};

/// Stations, and the address of the router that sessions by `up2` come from.
const FAMILIES: [(IpAddr, IpAddr); 2] = [(STATION, UP2), (STATION_V6, UP2_V6)];

/// Returns a configuration with these key chains, a relay, and a session by `up2`.
fn configuration(chains: &str, station: IpAddr, transport: &str) -> String {
    let relay = format!("bmp-relay lab\n listen {} port {}\n", RELAY.ip(), RELAY.port());
    format!("{chains}{relay}bmp\n bmp-session {station}\n  {transport}\n  connect-interface up2\n")
}

/// Returns the command of a session that connects and is signed.
fn connects() -> String {
    format!("tcp connect port {STATION_PORT} keychain core")
}

#[test]
#[ignore = "needs TCP-AO: cargo xtask vm --kernel testing"]
fn a_session_is_up_with_each_algorithm_and_its_keys_are_shown() {
    if !is_there() {
        return;
    }
    let algorithms =
        [("hmac-sha-1-96", "hmac(sha1)"), ("aes-128-cmac-96", "cmac(aes128)"), ("hmac-sha-256", "hmac(sha256)")];
    for (station, router) in FAMILIES {
        for (algorithm, name) in algorithms {
            let topology = Topology::new();
            let keys = [FarKey { id: 7, algorithm: name, secret: "correct-horse" }];
            let far = TestStation::with_keys(&topology.station, (station, STATION_PORT), router, &keys);
            let chain = format!("keychain core\n{}", key(7, algorithm, "correct-horse", ""));
            let bmpd = Bmpd::start(&topology.router, &configuration(&chain, station, &connects()));
            far.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
            let session =
                bmpd.wait_session(station, "signed", |session| number(&session["keychain"]["segments"]["good"]) > 0);
            assert_eq!(session["keychain"]["current_key"], 7, "{session:#}");
            let verbose = bmpd.display("display bmp session verbose");
            assert!(verbose.contains("core, signs with key 7, asks for key 7"), "{verbose}");
            assert!(!verbose.contains("correct-horse"));
        }
    }
}

/// Returns the station's end of the session's connection.
fn far_end(bmpd: &Bmpd, station: IpAddr, router: IpAddr) -> Socket {
    let port = bmpd.session(station)["local_port"].as_u64().and_then(|port| u16::try_from(port).ok());
    take(std::process::id(), SocketAddr::new(router, port.expect("the session is up")))
}

#[test]
#[ignore = "needs TCP-AO: cargo xtask vm --kernel testing"]
fn keys_roll_over_under_load_and_the_session_loses_nothing() {
    if !is_there() {
        return;
    }
    for (station, router) in FAMILIES {
        let topology = Topology::new();
        let keys = [FarKey::sha1(1, "first"), FarKey::sha1(2, "second")];
        let far = TestStation::with_keys(&topology.station, (station, STATION_PORT), router, &keys);
        let (begin, change, end) = (utc(0), utc(15), utc(30));
        let first = format!("  send-time utc {begin} to {change}\n  receive-time utc {begin} to {end}\n");
        let second = format!("  send-time utc {change}\n");
        let chain = format!(
            "keychain core\n{}{}",
            key(1, "hmac-sha-1-96", "first", &first),
            key(2, "hmac-sha-1-96", "second", &second)
        );
        let bmpd = Bmpd::start(&topology.router, &configuration(&chain, station, &connects()));
        bmpd.wait_up(station);
        let (peer, routes) = (ReportedPeer::default(), prefixes(200));
        let mut feeder = BmpFeeder::with_peer(&topology.router, RELAY, &peer);
        far.wait_connection(0, "the Peer Up", |c| c.has(bmp::PEER_UP));
        let connection = far_end(&bmpd, station, router);
        let AoState { current, next, .. } = state(&connection);
        assert_eq!((current, next), (1, 1));
        // Routes flow all the time.
        let mut fed = 0;
        let mut until_fed = |what: &str, wanted: &dyn Fn() -> bool| {
            until(what, 3 * PATIENCE, || {
                feeder.announce(&peer, &routes, 20);
                fed += routes.len();
                wanted().then_some(())
            });
        };
        until_fed("bmpd asks for the second key", &|| bmpd.session(station)["keychain"]["requested_key"] == 2);
        // The station signs as bmpd asks, and now asks for the same.
        until_fed("the station signs with the second key", &|| state(&connection).current == 2);
        ask_for(&connection, 2);
        until_fed("bmpd signs with the second key", &|| bmpd.session(station)["keychain"]["current_key"] == 2);
        until_fed("the first key is over", &|| bmpd.log().iter().any(|line| line.contains("has this key no more")));
        let recorded = far.wait_connection(0, "all routes", |c| c.announced() == fed);
        assert!(recorded.end.is_none(), "the connection ended");
        assert_eq!(state(&connection).dropped, [0; 3], "the station dropped segments");
        let session = bmpd.session(station);
        assert_eq!(session["established_count"], 1, "{session:#}");
        let segments = &session["keychain"]["segments"];
        assert_eq!((&segments["bad"], &segments["unsigned"]), (&0.into(), &0.into()), "{session:#}");
    }
}

#[test]
#[ignore = "needs TCP-AO: cargo xtask vm --kernel testing"]
fn a_wrong_key_and_a_missing_one_are_reasons_in_words() {
    if !is_there() {
        return;
    }
    for (station, router) in FAMILIES {
        let start = |keys: &[FarKey<'static>]| {
            let topology = Topology::new();
            let address = (station, STATION_PORT);
            let far = match keys {
                [] => TestStation::start(&topology.station, address),
                keys => TestStation::with_keys(&topology.station, address, router, keys),
            };
            let bmpd = Bmpd::start(&topology.router, &configuration(&core("correct-horse"), station, &connects()));
            (bmpd, far, topology)
        };
        // All cases at once, because an attempt takes a while to fail.
        let wrong = start(&[FarKey::sha1(7, "battery-staple")]);
        let other = start(&[FarKey::sha1(8, "correct-horse")]);
        let none = start(&[]);
        // Linux answers no segment that is signed with a key that it lacks.
        for (bmpd, far, _topology) in [&wrong, &other, &none] {
            let session =
                bmpd.wait_session_for(station, "down", UNANSWERED, |session| session["reason"] == "connect-timeout");
            let detail = session["detail"].to_string();
            assert!(detail.contains("it may have another key than keychain core here"), "{detail}");
            assert!(far.connections().is_empty());
        }
    }
}

#[test]
#[ignore = "needs TCP-AO: cargo xtask vm --kernel testing"]
fn a_passive_session_takes_signed_connections_of_its_station_alone() {
    if !is_there() {
        return;
    }
    for (station, router) in FAMILIES {
        let topology = Topology::new();
        let address = SocketAddr::new(station, 0);
        let transport = format!("tcp listen port {STATION_PORT} keychain core");
        let bmpd = Bmpd::start(&topology.router, &configuration(&core("correct-horse"), station, &transport));
        listening(&bmpd, station);
        let unsigned = TestStation::start(&topology.station, address);
        unsigned.call((router, STATION_PORT), BRIEFLY).expect_err("nobody answers an unsigned SYN");
        let wrong = [FarKey::sha1(7, "battery-staple")];
        let wrong = TestStation::with_keys(&topology.station, address, router, &wrong);
        wrong.call((router, STATION_PORT), BRIEFLY).expect_err("nobody answers a wrong signature");
        // The session says why it still waits.
        let session = bmpd.wait_session(station, "waiting with a reason", |session| {
            let detail = session["detail"].to_string();
            detail.contains("segments with a wrong signature") && detail.contains("segments without a signature")
        });
        assert_eq!(session["reason"], "waiting-for-station", "{session:#}");
        let right = [FarKey::sha1(7, "correct-horse")];
        let right = TestStation::with_keys(&topology.station, address, router, &right);
        let index = right.call((router, STATION_PORT), PATIENCE).expect("bmpd accepts the station");
        right.wait_connection(index, "Initiation", |c| c.has(bmp::INITIATION));
        let session = bmpd.wait_session(station, "signed", |session| session["keychain"]["current_key"] == 7);
        assert_eq!(session["state"], "up", "{session:#}");
    }
}

#[test]
#[ignore = "needs TCP-AO: cargo xtask vm --kernel testing"]
fn a_passive_session_closes_when_its_chain_has_no_key_any_more() {
    if !is_there() {
        return;
    }
    let topology = Topology::new();
    let transport = format!("tcp listen port {STATION_PORT} keychain core");
    let over = format!("  send-time utc {} to {}\n", utc(0), utc(12));
    let chain = format!("keychain core\n{}", key(7, "hmac-sha-1-96", "correct-horse", &over));
    let bmpd = Bmpd::start(&topology.router, &configuration(&chain, STATION, &transport));
    listening(&bmpd, STATION);
    let keys = [FarKey::sha1(7, "correct-horse")];
    let station = TestStation::with_keys(&topology.station, SocketAddr::new(STATION, 0), UP2, &keys);
    let index = station.call((UP2, STATION_PORT), PATIENCE).expect("bmpd accepts the station");
    station.wait_connection(index, "Initiation", |c| c.has(bmp::INITIATION));
    bmpd.wait_session_for(STATION, "down", UNANSWERED, |session| session["reason"] == "no-valid-key");
    station.call((UP2, STATION_PORT), BRIEFLY).expect_err("bmpd does not listen");
    bmpd.commit_lines("keychain core\nkey-id 7\nundo send-time");
    bmpd.wait_session_for(STATION, "listening", UNANSWERED, |session| session["phase"] == "listening");
}

#[test]
#[ignore = "needs TCP-AO: cargo xtask vm --kernel testing"]
fn a_commit_changes_a_session_from_tcp_md5_to_tcp_ao() {
    if !is_there() {
        return;
    }
    let topology = Topology::new();
    let address = (STATION, STATION_PORT);
    let md5 = TestStation::with_secret(&topology.station, address, UP2, "battery-staple");
    let before = format!("tcp connect port {STATION_PORT} password md5 battery-staple");
    let bmpd = Bmpd::start(&topology.router, &configuration(&core("correct-horse"), STATION, &before));
    bmpd.wait_up(STATION);
    let answer = bmpd.commit(STATION, &connects());
    assert!(answer.contains("stays up: its next connection is the first with the other keys"), "{answer}");
    assert_eq!(bmpd.session(STATION)["state"], "up");
    drop(md5);
    let ao = TestStation::with_keys(&topology.station, address, UP2, &[FarKey::sha1(7, "correct-horse")]);
    ao.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    bmpd.wait_session(STATION, "signed", |session| session["keychain"]["current_key"] == 7);
}

/// Starts a session to a station with the usual key, which is up on return.
fn start_up() -> (Bmpd, TestStation, Topology) {
    let topology = Topology::new();
    let keys = [FarKey::sha1(7, "correct-horse")];
    let far = TestStation::with_keys(&topology.station, (STATION, STATION_PORT), UP2, &keys);
    let bmpd = Bmpd::start(&topology.router, &configuration(&core("correct-horse"), STATION, &connects()));
    bmpd.wait_up(STATION);
    (bmpd, far, topology)
}

fn wait_logged(bmpd: &Bmpd, text: &str) {
    until(text, PATIENCE, || bmpd.log().iter().any(|line| line.contains(text)).then_some(()));
}

#[test]
#[ignore = "needs TCP-AO: cargo xtask vm --kernel testing"]
fn keys_that_a_commit_adds_and_ends_count_for_a_connection_that_is_up() {
    if !is_there() {
        return;
    }
    let (bmpd, _far, _topology) = start_up();
    bmpd.commit_lines(&format!("keychain core\n{}", key(8, "hmac-sha-1-96", "battery-staple", "")));
    wait_logged(&bmpd, "the connection has another key");
    let later = utc(3600);
    bmpd.commit_lines(&format!("keychain core\nkey-id 8\nsend-time utc {later}\nreceive-time utc {later}"));
    wait_logged(&bmpd, "the connection has this key no more");
    let session = bmpd.session(STATION);
    assert_eq!((&session["state"], &session["established_count"]), (&"up".into(), &1.into()), "{session:#}");
}

#[test]
#[ignore = "needs TCP-AO: cargo xtask vm --kernel testing"]
fn a_changed_only_key_counts_for_the_next_connection() {
    if !is_there() {
        return;
    }
    for change in ["key-string simple battery-staple", "algorithm hmac-sha-256"] {
        let (bmpd, _far, _topology) = start_up();
        bmpd.commit_lines(&format!("keychain core\nkey-id 7\n{change}"));
        wait_logged(&bmpd, "keeps the former secret of its only key");
        let session = bmpd.session(STATION);
        assert_eq!((&session["state"], &session["established_count"]), (&"up".into(), &1.into()), "{session:#}");
        bmpd.display(&format!("reset bmp session {STATION}"));
        // The station has the former key alone.
        bmpd.wait_session_for(STATION, "down", UNANSWERED, |session| session["reason"] == "connect-timeout");
    }
}

/// Connects from a host, with a key for `to`.
fn signed(host: &lab::netns::Netns, from: IpAddr, to: SocketAddr, key: FarKey<'_>) -> std::io::Result<TcpStream> {
    host.enter(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        add_key(&socket, to.ip(), key);
        socket.connect_timeout(&to.into(), BRIEFLY)?;
        Ok(socket.into())
    })
}

#[test]
#[ignore = "needs TCP-AO: cargo xtask vm --kernel testing"]
fn a_relay_with_a_key_chain_takes_signed_connections_alone() {
    if !is_there() {
        return;
    }
    let topology = Topology::new();
    let relay = format!("bmp-relay lab\n listen {} port {} keychain core\n", RELAY.ip(), RELAY.port());
    let session = format!("bmp\n bmp-session {STATION}\n  tcp connect port {STATION_PORT}\n");
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let bmpd = Bmpd::start(&topology.router, &format!("{}{relay}{session}", core("correct-horse")));
    bmpd.wait_up(STATION);
    let dial = |secret: &str| signed(&topology.router, RELAY.ip(), RELAY, FarKey::sha1(7, secret));
    topology.router.enter(|| TcpStream::connect_timeout(&RELAY, BRIEFLY)).expect_err("nobody answers an unsigned SYN");
    dial("battery-staple").expect_err("nobody answers a wrong signature");
    let mut feeder = BmpFeeder::over(dial("correct-horse").expect("the relay accepts the daemon"));
    feeder.send(bmp::initiation("feeder"));
    feeder.send(bmp::peer_up(&ReportedPeer::default()));
    feeder.announce(&ReportedPeer::default(), &prefixes(100), 1);
    station.wait_connection(0, "all routes", |c| c.announced() == 100);
}

#[test]
#[ignore = "needs TCP-AO: cargo xtask vm --kernel testing"]
fn a_bgp_peer_with_a_key_chain_connects_signed_alone() {
    if !is_there() {
        return;
    }
    let ((peer, asn), topology) = (DAEMON, Topology::new());
    let IpAddr::V4(own) = peer else { unreachable!("it is IPv4") };
    let bmpd = Bmpd::start(&topology.router, &signed_peer());
    bmpd.wait_for_log("that it listens", |line| line.contains("listening for BGP peers"));
    let to = SocketAddr::new(BMPD.0, 179);
    let dial = |secret: &str| signed(&topology.station, peer, to, FarKey::sha1(7, secret));
    dial("battery-staple").expect_err("nobody answers a wrong signature");
    let mut wire = LabBgpConnection::over(dial("correct-horse").expect("bmpd accepts the peer"));
    assert!(matches!(wire.receive(), Some((bgp::OPEN, _))));
    wire.send(&bgp::open(asn, own));
    wire.send(&bgp::keepalive());
    bmpd.wait_for_log("the session", |line| line.contains("BGP session established"));
}
