//! A session that has a connection for each router behind a relay: `per-router`, and the header of
//! the PROXY protocol.

use std::{
    io::Read,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use lab::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    feeder::BmpFeeder,
    netns::Netns,
    station::{RecordedConnection, RecordedEnd, TestStation},
    topology::{STATION, STATION_PORT, Topology, UP1, UP2},
    trial::{LabTrial, RELAY, TrialPlan, strays},
    wait::{PATIENCE, until},
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// Longer than the connection of a router that has gone away stays without `hold`.
const AWAY: Duration = Duration::from_secs(30);

const PER_ROUTER: &str = "connect-interface up2\nconnect-retry 1 1\nper-router relay lab";

/// Connects to the relay from this address of the host, as a router does.
fn router(netns: &Netns, from: Ipv4Addr, sys_name: &str) -> BmpFeeder {
    let connect = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect(&RELAY.into())?;
        std::io::Result::Ok(TcpStream::from(socket))
    };
    let stream = until("the relay listens", PATIENCE, || netns.enter(|| connect().ok()));
    let mut feeder = BmpFeeder::over(stream);
    feeder.send(bmp::initiation(sys_name));
    feeder
}

/// Connects a router with the same peer as any other has, and as many routes.
fn router_with_routes(trial: &LabTrial, last: u8, sys_name: &str, routes: usize) -> BmpFeeder {
    let mut feeder = router(&trial.topology.router, Ipv4Addr::new(127, 0, 0, last), sys_name);
    let peer = ReportedPeer::default();
    feeder.send(bmp::peer_up(&peer));
    feeder.announce(&peer, &prefixes(routes), 1);
    feeder.end_of_rib(&peer);
    feeder
}

/// Returns sysName of the Initiation of a connection.
fn sys_name(connection: &RecordedConnection) -> Option<String> {
    connection.frames.first()?.sys_name()
}

/// Waits for an open connection of the router that `wanted` accepts.
fn wait_router(station: &TestStation, name: &str, wanted: impl Fn(&RecordedConnection) -> bool) -> RecordedConnection {
    station.wait_for(&format!("the connection of {name}"), PATIENCE, |connections| {
        let mut own = connections.iter().filter(|one| sys_name(one).as_deref() == Some(name));
        own.find(|one| one.end.is_none() && wanted(one)).cloned()
    })
}

fn has_routes(number: usize) -> impl Fn(&RecordedConnection) -> bool {
    move |connection| connection.announced() >= number
}

/// Returns what is displayed of the routers.
fn shown_routers(trial: &LabTrial) -> Vec<Value> {
    let session = trial.bmpd.session(STATION);
    session["routers"]["connections"].as_array().cloned().unwrap_or_default()
}

fn wait_shown(trial: &LabTrial, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    until(what, PATIENCE, || Some(shown_routers(trial)).filter(|shown| wanted(shown)))
}

#[test]
fn each_router_has_its_own_connection_with_its_name_and_its_peers_alone() {
    let trial = TrialPlan::session(PER_ROUTER).start();
    trial.bmpd.wait_session(STATION, "waiting", |session| session["reason"] == "waiting-for-router");
    // The peers look the same to a station, and two routers come from one address.
    let mut edge1 = router_with_routes(&trial, 2, "edge1", 1);
    let _edge2 = router_with_routes(&trial, 3, "edge2", 2);
    let _edge3 = router_with_routes(&trial, 3, "edge3", 3);
    for (name, routes) in [("edge1", 1), ("edge2", 2), ("edge3", 3)] {
        let connection = wait_router(&trial.station, name, has_routes(routes));
        assert_eq!((connection.announced(), connection.count(bmp::PEER_UP)), (routes, 1), "{name}");
        assert!(!connection.has(bmp::PEER_DOWN));
        assert_eq!(connection.peer.ip(), UP2);
        let texts = connection.frames[0].initiation_texts();
        assert!(
            texts.iter().any(|text| text.starts_with("relayed by edge1, bmp-relay lab, from 127.0.0.")),
            "{texts:?}"
        );
    }
    assert_eq!(trial.station.connections().len(), 3);
    let shown = wait_shown(&trial, "all are up", |shown| {
        shown.len() == 3 && shown.iter().all(|router| router["phase"] == "following")
    });
    let names: Vec<_> = shown.iter().map(|router| router["sys_name"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["edge1", "edge2", "edge3"]);
    assert!(shown.iter().all(|router| router["messages"]["peer_up"] == 1 && router["lag_bytes"] == 0), "{shown:#?}");
    trial.bmpd.wait_up(STATION);
    let text = trial.bmpd.display("display bmp session");
    assert!(text.contains("> 127.0.0.2 edge1") && text.contains("> 127.0.0.3 edge3"), "{text}");

    // What comes later goes to the connection of its router alone.
    edge1.announce(&ReportedPeer::default(), &prefixes(11)[1..], 1);
    wait_router(&trial.station, "edge1", has_routes(11));
    assert_eq!(wait_router(&trial.station, "edge2", |_| true).announced(), 2);
    // A late connection knows the same.
    trial.station.reset();
    for (name, routes) in [("edge1", 11), ("edge2", 2), ("edge3", 3)] {
        assert_eq!(wait_router(&trial.station, name, has_routes(routes)).announced(), routes, "{name}");
    }
    assert_eq!(strays(&trial.up1.packets()), Vec::<&_>::new());
}

#[test]
fn a_router_that_flaps_disturbs_no_other_and_one_that_stays_away_is_closed() {
    let trial = TrialPlan { system: "bmp-relay lab\n hold 0\nquit", ..TrialPlan::session(PER_ROUTER) }.start();
    let mut steady = router_with_routes(&trial, 2, "steady", 5);
    let before = wait_router(&trial.station, "steady", has_routes(5));
    for flaps in 1..=5 {
        let flapping = router_with_routes(&trial, 3, "flapping", flaps);
        wait_router(&trial.station, "flapping", |connection| {
            connection.count(bmp::PEER_UP) == flaps && connection.announced() == (1..=flaps).sum::<usize>()
        });
        drop(flapping);
        wait_router(&trial.station, "flapping", |connection| connection.count(bmp::PEER_DOWN) == flaps);
    }
    assert_eq!(trial.station.connections().len(), 2, "a connection outlives the flaps of its router");
    assert_eq!(wait_router(&trial.station, "steady", |_| true).frames.len(), before.frames.len());
    wait_shown(&trial, "it is away", |shown| shown.iter().any(|router| router["closes_in_seconds"].is_u64()));

    let closed = trial.station.wait_for("the connection of the router that is away ends", AWAY, |connections| {
        connections.iter().find(|one| sys_name(one).as_deref() == Some("flapping") && one.end.is_some()).cloned()
    });
    assert!(closed.has(bmp::TERMINATION));
    assert_eq!(closed.end, Some(RecordedEnd::Fin));
    wait_shown(&trial, "it is not displayed any more", |shown| shown.len() == 1);
    steady.announce(&ReportedPeer::default(), &prefixes(6)[5..], 1);
    wait_router(&trial.station, "steady", has_routes(6));
}

#[test]
fn the_pin_of_a_session_holds_for_every_router_and_a_changed_one_moves_all() {
    let trial = TrialPlan::session(PER_ROUTER).start();
    let _routers = [router_with_routes(&trial, 2, "edge1", 1), router_with_routes(&trial, 3, "edge2", 1)];
    for name in ["edge1", "edge2"] {
        assert_eq!(wait_router(&trial.station, name, has_routes(1)).peer.ip(), UP2);
    }
    trial.topology.router.ip("route add 198.51.100.7/32 via 192.0.2.2 dev up1 metric 1");
    assert_eq!(strays(&trial.up1.packets()), Vec::<&_>::new());
    trial.topology.carrier_down("up2");
    trial.bmpd.wait_down(STATION, "interface-down");
    assert!(shown_routers(&trial).iter().all(|router| router["state"] == "down"));
    assert_eq!(strays(&trial.up1.packets()), Vec::<&_>::new());
    trial.topology.carrier_up("up2");
    trial.bmpd.wait_up(STATION);
    let said = trial.bmpd.commit(STATION, "connect-interface up1");
    for name in ["edge1", "edge2"] {
        wait_router(&trial.station, name, |connection| connection.peer.ip() == UP1 && connection.announced() == 1);
    }
    assert!(said.contains("re-established"), "{said}");
}

#[test]
fn a_session_changes_to_a_connection_for_each_router_and_back() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut merged = router_with_routes(&trial, 2, "edge2", 1);
    trial.station.wait_connection(0, "its routes", has_routes(1));
    let said = trial.bmpd.commit(STATION, "per-router");
    assert!(said.contains("per-router changed"), "{said}");
    merged.wait_closed();
    trial.station.wait_connection(0, "Termination", |connection| connection.has(bmp::TERMINATION));
    let mut divided = router_with_routes(&trial, 2, "edge2", 1);
    wait_router(&trial.station, "edge2", has_routes(1));
    trial.bmpd.commit(STATION, "undo per-router");
    divided.wait_closed();
    let _merged = router_with_routes(&trial, 2, "edge2", 1);
    wait_router(&trial.station, "edge1", has_routes(1));
    assert!(trial.bmpd.session(STATION)["routers"].is_null());
}

#[test]
fn per_router_is_refused_beside_settings_that_contradict_it() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let typed = |lines: &str| trial.bmpd.typed(&format!("system-view\nbmp\nbmp-session {STATION}\n{lines}")).1;
    assert!(typed("per-router\nadopt").contains("`undo per-router` first"));
    assert!(typed("adopt\nper-router").contains("`undo adopt` first"));
    assert!(typed("per-router\ntcp listen port 5").contains("`undo per-router` first"));
    assert!(typed("tcp connect port 5 local-port 6\nper-router").contains("leave `local-port` out"));
    assert!(typed("proxy-protocol\ntcp listen port 5").contains("`undo proxy-protocol` first"));
}

/// Accepts a connection and reads its first bytes.
fn first_bytes<const N: usize>(listener: &TcpListener) -> ([u8; N], TcpStream) {
    let (mut stream, _) = listener.accept().expect("bmpd connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is set");
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).expect("bmpd sends a header and an Initiation");
    (bytes, stream)
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_OF_BMP: u8 = 3;

#[test]
fn a_proxy_header_comes_first_and_a_change_counts_for_the_next_connection() {
    let topology = Topology::new();
    let address = SocketAddr::from((STATION, STATION_PORT));
    let listener = topology.station.enter(|| TcpListener::bind(address).expect("the port is free"));
    let plan = TrialPlan::session("connect-interface up2\nconnect-retry 1 1\nproxy-protocol");
    let bmpd = lab::bmpd::Bmpd::start(&topology.router, &plan.configuration());
    // The connection is bmpd's own.
    let (own, stream) = first_bytes::<17>(&listener);
    assert_eq!((&own[..12], &own[12..]), (&SIGNATURE[..], &[0x20, 0, 0, 0, VERSION_OF_BMP][..]));
    bmpd.wait_up(STATION);

    bmpd.commit(STATION, "undo proxy-protocol");
    bmpd.commit(STATION, "proxy-protocol");
    assert_eq!(bmpd.session(STATION)["established_count"], 1);
    drop(stream);
    let (again, _stream) = first_bytes::<17>(&listener);
    assert_eq!(again, own);

    bmpd.commit(STATION, "per-router");
    let feeder = router(&topology.router, Ipv4Addr::new(127, 0, 0, 2), "edge2");
    let (proxied, _stream) = first_bytes::<29>(&listener);
    let SocketAddr::V4(from) = feeder.local_addr() else { panic!("the relay is IPv4") };
    let IpAddr::V4(relay) = RELAY.ip() else { panic!("the relay is IPv4") };
    let ports = [from.port().to_be_bytes(), RELAY.port().to_be_bytes()].concat();
    let expected = [&SIGNATURE[..], &[0x21, 0x11, 0, 12], &from.ip().octets(), &relay.octets(), &ports, &[3]].concat();
    assert_eq!(proxied[..], expected[..]);
}
