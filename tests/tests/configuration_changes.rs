//! Configuration changes of a running bmpd: SIGHUP commits the difference.

use std::net::{IpAddr, SocketAddr};

use lab::{
    bgp::prefixes,
    bmp,
    bmpd::{Bmpd, number},
    capture::LinkCapture,
    feeder::BmpFeeder,
    sockets::ForeignSocket,
    station::{RecordedEnd, TestStation},
    topology::{STATION, STATION_PORT, Topology, UP2, UP2_OTHER},
    trial::{TrialPlan, outgoing, strays},
    wait::{PATIENCE, patience, until},
};

/// Returns two sessions to one station on these ports, pinned to `up2`.
fn two_sessions(ports: [u16; 2]) -> String {
    let [a, b] = ports;
    format!(
        "bmp
 bmp-session {STATION} alias a
  tcp connect port {a}
  connect-interface up2
 bmp-session {STATION} alias b
  tcp connect port {b}
  connect-interface up2
"
    )
}

#[test]
fn two_sessions_that_exchange_their_ports_stay_pinned() {
    let topology = Topology::new();
    let ports = [STATION_PORT, STATION_PORT + 1];
    let stations = ports.map(|port| TestStation::start(&topology.station, (STATION, port)));
    let on_up1 = ports.map(|port| LinkCapture::start(&topology.router, "up1", port));
    let bmpd = Bmpd::start(&topology.router, &two_sessions(ports));
    for station in &stations {
        station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    }
    bmpd.reload(&two_sessions([ports[1], ports[0]]));
    for station in &stations {
        station.wait_connection(1, "Initiation of the other session", |c| c.has(bmp::INITIATION));
    }
    // Other processes that connect to either port are pinned too.
    for (station, port) in stations.iter().zip(ports) {
        let foreign = ForeignSocket { source: None, device: None };
        let _stream =
            foreign.connect(&topology.router, SocketAddr::new(STATION, port)).expect("the pin lets it connect");
        assert_eq!(station.wait_connection(2, "the foreign one", |_| true).peer.ip(), UP2);
    }
    for capture in &on_up1 {
        assert_eq!(strays(&capture.packets()), Vec::<&lab::capture::CapturedPacket>::new());
    }
    for session in bmpd.sessions() {
        assert_eq!(session["established_count"], 2, "{session:#}");
        assert!(number(&session["kernel"]["tx_packets"]) > 6, "both connections are counted: {session:#}");
    }
}

#[test]
fn a_change_of_source_ends_the_connection_in_order_by_the_old_link() {
    let trial = TrialPlan::session("connect-interface up2 192.0.2.65").start_up();
    trial.bmpd.reload(&TrialPlan::session("connect-interface up2 192.0.2.129").configuration());
    let old = trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    assert_eq!((old.peer.ip(), old.has(bmp::TERMINATION), old.end), (UP2, true, Some(RecordedEnd::Fin)));
    assert_eq!(trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION)).peer.ip(), UP2_OTHER);
    assert!(!outgoing(&trial.up2.packets()).is_empty(), "the capture saw the session");
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&lab::capture::CapturedPacket>::new());
}

#[test]
fn a_change_to_an_absent_interface_ends_the_connection_in_order() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    trial.bmpd.reload(&TrialPlan::session("connect-interface nowhere0").configuration());
    trial.bmpd.wait_down(STATION, "interface-absent");
    let old = trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    assert_eq!((old.has(bmp::TERMINATION), old.end), (true, Some(RecordedEnd::Fin)));
}

#[test]
fn reloading_the_same_configuration_changes_nothing() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    trial.bmpd.reload(&TrialPlan::session("connect-interface up2").configuration());
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 5, 0);
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn a_bmp_view_address_moves_the_sessions_without_a_source_of_their_own() {
    let topology = Topology::new();
    let own = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let inheriting = TestStation::start(&topology.station, (STATION, STATION_PORT + 1));
    let configuration = |address: IpAddr| {
        let sessions = two_sessions([STATION_PORT, STATION_PORT + 1]);
        let (head, last) = sessions.rsplit_once("  connect-interface up2\n").expect("a session has the line");
        format!("{head}{last}").replace("bmp\n", &format!("bmp\n connect-interface {address}\n"))
    };
    let bmpd = Bmpd::start(&topology.router, &configuration(UP2));
    assert_eq!(inheriting.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION)).peer.ip(), UP2);
    own.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    bmpd.reload(&configuration(UP2_OTHER));
    assert_eq!(inheriting.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION)).peer.ip(), UP2_OTHER);
    let established: Vec<_> = bmpd.sessions().iter().map(|session| number(&session["established_count"])).collect();
    assert_eq!(established, [1, 2], "the session with its own interface was touched");
}

#[test]
fn a_new_route_brings_a_session_without_a_route_back_at_once() {
    let topology = Topology::new();
    topology.router.ip("route flush 198.51.100.0/24");
    let trial = TrialPlan::session("connect-interface 192.0.2.65").start_on(topology);
    // The third attempt would be due after several seconds.
    until("two attempts have failed", PATIENCE, || {
        let session = trial.bmpd.wait_down(STATION, "no-route");
        (session["retry_in_seconds"].as_f64()? > 2.5).then_some(())
    });
    let began = std::time::Instant::now();
    trial.topology.router.ip("route add 198.51.100.0/24 via 192.0.2.66 dev up2");
    trial.bmpd.wait_up(STATION);
    assert!(began.elapsed() < patience(std::time::Duration::from_secs(2)), "the session waited {:?}", began.elapsed());
}

#[test]
fn sixty_sessions_over_a_link_that_flaps_come_back_each_time() {
    let topology = Topology::new();
    let ports: Vec<u16> = (0..60).map(|n| STATION_PORT + n).collect();
    let stations: Vec<_> = ports.iter().map(|port| TestStation::start(&topology.station, (STATION, *port))).collect();
    let sessions = ports.iter().map(|port| {
        format!(" bmp-session {STATION} alias s{port}\n  tcp connect port {port}\n  connect-interface up2\n")
    });
    let bmpd = Bmpd::start(&topology.router, &format!("bmp\n{}", sessions.collect::<String>()));
    let all = |state: &str| {
        until(&format!("every session is {state}"), PATIENCE, || {
            bmpd.sessions().iter().all(|session| session["state"] == state).then_some(())
        });
    };
    all("up");
    // If each loss and each return used up a slot, 60 * 2 * 10 would exceed the map.
    for _ in 0..10 {
        topology.carrier_down("up2");
        all("down");
        topology.carrier_up("up2");
        all("up");
    }
    for station in &stations {
        assert!(station.connections().iter().all(|connection| connection.peer.ip() == UP2));
    }
}

#[test]
fn a_peer_of_two_relays_is_up_as_long_as_one_of_them_has_it() {
    let second: SocketAddr = "127.0.0.1:5001".parse().expect("an address");
    let plan = TrialPlan {
        system: "bmp-relay other\n listen 127.0.0.1 port 5001",
        ..TrialPlan::session("connect-interface up2")
    };
    let trial = plan.start_up();
    let one = trial.feeder();
    trial.station.wait_connection(0, "Peer Up", |c| c.count(bmp::PEER_UP) == 1);
    // The station cannot tell the two peers apart. It has the first, and the other one after the
    // first has gone.
    let mut other = BmpFeeder::with_peer(&trial.topology.router, second, &bmp::ReportedPeer::default());
    other.announce(&bmp::ReportedPeer::default(), &prefixes(3), 3);
    until("the feed has both peers", PATIENCE, || {
        trial.bmpd.display("display bmp feed").contains("Peers up            : 2").then_some(())
    });
    drop(one);
    let connection = trial.station.wait_connection(0, "the other's routes", |c| c.announced() == 3);
    let kinds: Vec<_> = connection.frames.iter().map(bmp::ReceivedFrame::kind).collect();
    let expected = [bmp::INITIATION, bmp::PEER_UP, bmp::PEER_DOWN, bmp::PEER_UP, bmp::ROUTE_MONITORING];
    assert_eq!(kinds, expected);
}
