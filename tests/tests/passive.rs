//! `tcp listen port`: the station connects, and nobody else does.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use lab::{
    bgp::prefixes,
    bmp::{self, Peer},
    bmpd::{Bmpd, Options, number},
    capture::{Capture, Direction, Packet, sum},
    station::{End, Station},
    topology::{LOOPBACK, STATION, STATION_2, STATION_PORT, STATION_V6, Topology, UP2, UP2_OTHER, UP2_V6},
    trial::{Plan, Trial, outgoing, strays},
    wait::{PATIENCE, until},
};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

/// Where the sessions here listen.
const PORT: u16 = STATION_PORT;

/// A passive session that is pinned to `up2`.
const BY_UP2: &str = "tcp listen port 11019\nconnect-interface up2";

/// How long somebody tries who is to get no answer: one SYN, and another after a second.
const BRIEFLY: Duration = Duration::from_millis(1500);

fn listening(bmpd: &Bmpd, station: IpAddr) -> Value {
    bmpd.wait_session(station, "listening", |session| session["phase"] == "listening")
}

/// Waits until the guard stands before the session's listener.
fn guarded(bmpd: &Bmpd, station: IpAddr) -> Value {
    let stands = |session: &Value| session["guard"]["interfaces"].as_array().is_some_and(|all| !all.is_empty());
    bmpd.wait_session(station, "guarded", |session| session["phase"] == "listening" && stands(session))
}

/// Starts a trial whose station has connected to `to`.
fn connected(plan: &Plan<'_>, to: IpAddr) -> Trial {
    let trial = plan.start();
    listening(&trial.bmpd, plan.station);
    call(&trial, to);
    trial
}

/// The station connects and is told who speaks. Returns the connection's number.
fn call(trial: &Trial, to: IpAddr) -> usize {
    let index = trial.station.call((to, PORT), PATIENCE).expect("the station is let in");
    trial.bmpd.wait_up(trial.station.address().ip());
    trial.station.wait_connection(index, "Initiation", |c| c.has(bmp::INITIATION));
    index
}

/// Somebody at the station's end who is not the station.
fn stranger(topology: &Topology) -> Station {
    Station::start(&topology.station, (STATION_2, PORT))
}

fn gets_no_answer(caller: &Station, to: IpAddr) {
    let refused = caller.call((to, PORT), BRIEFLY).expect_err("nobody lets it in");
    assert_eq!(refused.kind(), ErrorKind::TimedOut, "{refused}");
}

fn nothing(packets: &[Packet]) {
    assert_eq!(packets, Vec::<Packet>::new());
}

/// The packets that came to the station's end for this address.
fn answers(packets: &[Packet], to: IpAddr) -> Vec<Packet> {
    packets.iter().filter(|p| p.direction == Direction::In && p.destination.ip() == to).cloned().collect()
}

#[test]
fn a_station_that_connects_gets_what_one_that_is_connected_to_gets() {
    let trial = connected(&Plan::session(BY_UP2), UP2);
    let mut feeder = trial.feeder();
    let connection = trial.routes_arrive(&mut feeder, 500, 0);
    assert!(connection.has(bmp::PEER_UP));
    let session = trial.bmpd.session(STATION);
    assert_eq!(
        (&session["role"], &session["port"], &session["phase"]),
        (&json!("listen"), &json!(PORT), &json!("following"))
    );
    assert_eq!((&session["local_address"], &session["local_port"]), (&json!(UP2), &json!(PORT)));
    assert_eq!(session["egress"]["interfaces"], json!(["up2"]));
    assert_eq!(session["established_count"], 1);
    assert!(!outgoing(&trial.up2.packets()).is_empty(), "the capture saw the session");
    nothing(&trial.up1.packets());
    let verbose = trial.bmpd.display("display bmp session verbose");
    for line in ["Listening port      : 11019", "Guard               : up2 (generic)"] {
        assert!(verbose.contains(line), "{line} is not in\n{verbose}");
    }
}

#[test]
fn an_ipv6_station_connects_too() {
    let trial = connected(&Plan { station: STATION_V6, ..Plan::session(BY_UP2) }, UP2_V6);
    trial.routes_arrive(&mut trial.feeder(), 100, 0);
    nothing(&trial.up1.packets());
}

/// Plays a passive session until the station closes it, and compares the counters with the capture.
fn counts_what_was_captured(plan: &Plan<'_>, at: IpAddr) {
    let trial = connected(&Plan { without_offload: true, ..*plan }, at);
    // When it goes, there is more to tell.
    let mut feeder = trial.feeder();
    let connection = trial.routes_arrive(&mut feeder, 2000, 0);
    trial.station.close();
    listening(&trial.bmpd, plan.station);
    trial.up2.wait_for("bmpd's FIN and the answer to it", PATIENCE, |packets| {
        let fin = packets.iter().position(|p| p.fin && p.direction == Direction::Out)?;
        packets[fin..].iter().any(|p| p.direction == Direction::In && p.ack).then_some(())
    });
    let (session, packets) = trial.at_rest(&trial.up2);
    let kernel = &session["kernel"];
    let out = |p: &Packet| p.direction == Direction::Out && p.source == SocketAddr::new(at, PORT);
    let back = |p: &Packet| p.direction == Direction::In && p.source.ip() == plan.station;
    let (bytes, count) = sum(&packets, out);
    assert!(count > 20 && bytes > connection.bytes, "the capture saw the session: {bytes} in {count}");
    assert!(packets.iter().any(|p| out(p) && p.syn), "its SYN-ACK too");
    assert_eq!((number(&kernel["tx_bytes"]), number(&kernel["tx_packets"])), (bytes, count), "{kernel}");
    let payload: u64 = packets.iter().filter(|p| out(p)).map(|p| p.payload_bytes).sum();
    assert_eq!(number(&kernel["tx_payload_bytes"]), payload, "{kernel}");
    let (bytes, count) = sum(&packets, back);
    assert!(packets.iter().any(|p| back(p) && p.syn));
    assert_eq!((number(&kernel["rx_bytes"]), number(&kernel["rx_packets"])), (bytes, count), "{kernel}");
    assert_eq!(kernel["denied"], json!({ "interface": 0, "source": 0, "no_pin": 0 }));
    nothing(&trial.up1.packets());
}

#[test]
fn a_passive_session_is_counted_to_the_byte_from_the_stations_syn_on() {
    counts_what_was_captured(&Plan::session(BY_UP2), UP2);
}

#[test]
fn an_ipv6_passive_session_is_counted_to_the_byte_from_the_stations_syn_on() {
    counts_what_was_captured(&Plan { station: STATION_V6, ..Plan::session(BY_UP2) }, UP2_V6);
}

#[test]
fn a_stranger_gets_no_answer_from_the_guard_and_is_counted() {
    let trial = connected(&Plan::session(BY_UP2), UP2);
    let stranger = stranger(&trial.topology);
    let there = Capture::start(&trial.topology.station, "dn2", PORT);
    let before = trial.bmpd.session(STATION);
    assert_eq!(before["guard"]["interfaces"], json!([{ "name": "up2", "mode": "generic", "why": null }]));
    gets_no_answer(&stranger, UP2);
    let seen = there.packets();
    assert_eq!(answers(&seen, STATION_2), [], "not a SYN-ACK, not a reset");
    let (bytes, packets) = sum(&seen, |p| p.source.ip() == STATION_2);
    assert!(packets >= 1);
    let guard = &trial.bmpd.session(STATION)["guard"];
    assert_eq!((number(&guard["dropped_packets"]), number(&guard["dropped_bytes"])), (packets, bytes), "{guard}");
    assert_eq!(guard["refused_packets"], 0);
    // And the session has not noticed.
    trial.routes_arrive(&mut trial.feeder(), 10, 0);
}

#[test]
fn where_xdp_is_taken_a_stranger_gets_no_answer_from_the_listener_and_is_counted() {
    let topology = Topology::new();
    let other = format!("bmp\n bmp-session {STATION}\n  tcp listen port 12000\n  connect-interface up2\n");
    let first = Bmpd::start(&topology.router, &other);
    guarded(&first, STATION);
    let trial = Plan::session(BY_UP2).start_on(topology);
    listening(&trial.bmpd, STATION);
    trial.bmpd.wait_for_log("that the guard is not to be had", |line| {
        line.contains("not on interface up2: another XDP program is there")
    });
    let stranger = stranger(&trial.topology);
    let there = Capture::start(&trial.topology.station, "dn2", PORT);
    gets_no_answer(&stranger, UP2);
    let seen = there.packets();
    assert_eq!(answers(&seen, STATION_2), []);
    let (bytes, packets) = sum(&seen, |p| p.source.ip() == STATION_2);
    let guard = trial.bmpd.session(STATION)["guard"].clone();
    assert_eq!(guard["interfaces"], json!([{ "name": "up2", "mode": "none", "why": "another XDP program is there" }]));
    assert_eq!((number(&guard["refused_packets"]), number(&guard["refused_bytes"])), (packets, bytes), "{guard}");
    assert_eq!(guard["dropped_packets"], 0);
    call(&trial, UP2);
    // It is had as soon as the other is gone, and something changes.
    drop(first);
    trial.topology.router.ip("addr add 192.0.2.50/32 dev up1");
    trial.bmpd.wait_for_log("that the guard is there", |line| line.contains("guard: on interface up2 (generic)"));
}

#[test]
fn a_station_that_comes_by_another_interface_is_not_let_in() {
    let trial = Plan::session(BY_UP2).start();
    guarded(&trial.bmpd, STATION);
    trial.topology.station.ip(&format!("route add {UP2}/32 via 192.0.2.1 dev dn1"));
    // Nobody listens there.
    let refused = trial.station.call((UP2, PORT), PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(trial.up1.packets().iter().all(|p| !(p.syn && p.direction == Direction::Out)), "no SYN-ACK left");
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 0);
    trial.topology.station.ip(&format!("route del {UP2}/32"));
    call(&trial, UP2);
}

#[test]
fn with_egress_interfaces_a_station_is_let_in_by_these_alone() {
    let session = format!("tcp listen port {PORT}\nconnect-interface {LOOPBACK}\negress-interface up2");
    let trial = Plan::session(&session).start();
    let session = guarded(&trial.bmpd, STATION);
    assert_eq!(session["guard"]["interfaces"][0]["name"], "up2", "{session:#}");
    // The station prefers dn1 to this address.
    gets_no_answer(&trial.station, LOOPBACK);
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&Packet>::new());
    assert!(number(&trial.bmpd.session(STATION)["kernel"]["denied"]["interface"]) > 0);
    trial.topology.station.ip("route del 203.0.113.1/32 via 192.0.2.1 dev dn1 metric 10");
    trial.topology.router.ip("route del 198.51.100.0/24 via 192.0.2.2 dev up1 metric 10");
    call(&trial, LOOPBACK);
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&Packet>::new());
}

#[test]
fn at_another_address_of_the_host_nobody_listens() {
    let trial = Plan::session(&format!("tcp listen port {PORT}\nconnect-interface {UP2}")).start();
    guarded(&trial.bmpd, STATION);
    for address in [UP2_OTHER, LOOPBACK] {
        let refused = trial.station.call((address, PORT), PATIENCE).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 0);
}

/// Two sessions on one port, to both of the station's addresses.
fn two_sessions(first: &str, second: &str) -> String {
    format!(
        "bmp-relay lab
 listen 127.0.0.1 port 5000
bmp
 bmp-session {STATION}
  tcp listen port {PORT}
{first}
 bmp-session {STATION_2}
  tcp listen port {PORT}
{second}
"
    )
}

/// Both stations connect to one port and are told apart.
fn both_are_let_in(first: &str, second: &str) {
    let topology = Topology::new();
    // Answers leave by the link that calls come by.
    topology.router.ip("route del 198.51.100.0/24 via 192.0.2.2 dev up1 metric 10");
    let stations = [STATION, STATION_2].map(|address| Station::start(&topology.station, (address, PORT)));
    let bmpd = Bmpd::start(&topology.router, &two_sessions(first, second));
    for station in &stations {
        listening(&bmpd, station.address().ip());
    }
    let mut feeder = lab::feeder::Feeder::with_peer(&topology.router, lab::trial::RELAY, &Peer::default());
    for station in &stations {
        station.call((UP2, PORT), PATIENCE).expect("it is let in");
        station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
        bmpd.wait_up(station.address().ip());
    }
    feeder.announce(&Peer::default(), &prefixes(100), 1);
    for station in &stations {
        let connection = station.wait_connection(0, "all routes", |c| c.announced() == 100);
        let session = bmpd.wait_session(station.address().ip(), "counted", |session| {
            number(&session["kernel"]["tx_payload_bytes"]) >= connection.bytes
        });
        assert_eq!(number(&session["kernel"]["tx_payload_bytes"]), connection.bytes, "{session:#}");
    }
}

#[test]
fn two_stations_on_one_port_have_a_session_each() {
    both_are_let_in("  connect-interface up2", "  connect-interface up2");
}

#[test]
fn stations_on_one_port_need_not_be_pinned_alike() {
    both_are_let_in("  connect-interface up2", "");
    both_are_let_in(&format!("  connect-interface {UP2}"), "  connect-interface up2");
}

#[test]
fn a_session_that_is_shut_down_is_denied_at_a_port_that_another_listens_on() {
    let topology = Topology::new();
    let stations = [STATION, STATION_2].map(|address| Station::start(&topology.station, (address, PORT)));
    let both = "  connect-interface up2";
    let bmpd = Bmpd::start(&topology.router, &two_sessions(both, both));
    for station in &stations {
        listening(&bmpd, station.address().ip());
        station.call((UP2, PORT), PATIENCE).expect("it is let in");
        bmpd.wait_up(station.address().ip());
    }
    bmpd.reload(&two_sessions(both, &format!("{both}\n  shutdown")));
    bmpd.wait_down(STATION_2, "shutdown");
    let end = stations[1].wait_connection(0, "its end", |c| c.end.is_some());
    assert_eq!((end.has(bmp::TERMINATION), end.end), (true, Some(End::Fin)));
    gets_no_answer(&stations[1], UP2);
    assert_eq!(stations[0].connections()[0].end, None, "the other goes on");
    bmpd.reload(&two_sessions(both, both));
    listening(&bmpd, STATION_2);
    stations[1].call((UP2, PORT), PATIENCE).expect("it is let in again");
    bmpd.wait_up(STATION_2);
}

#[test]
fn a_change_of_the_source_is_told_to_the_station_by_the_old_way() {
    let session = |address: IpAddr| format!("tcp listen port {PORT}\nconnect-interface up2 {address}");
    let trial = connected(&Plan::session(&session(UP2)), UP2);
    trial.bmpd.reload(&Plan::session(&session(UP2_OTHER)).configuration());
    let old = trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    assert_eq!((old.has(bmp::TERMINATION), old.end), (true, Some(End::Fin)));
    listening(&trial.bmpd, STATION);
    let index = call(&trial, UP2_OTHER);
    assert_eq!(trial.station.connections()[index].peer.ip(), UP2_OTHER);
    nothing(&trial.up1.packets());
    let refused = trial.station.call((UP2, PORT), PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "nobody listens there any more");
}

#[test]
fn a_session_whose_interface_goes_down_listens_again_when_it_is_back() {
    let trial = connected(&Plan::session(BY_UP2), UP2);
    trial.topology.carrier_down("up2");
    trial.bmpd.wait_down(STATION, "interface-down");
    trial.topology.carrier_up("up2");
    listening(&trial.bmpd, STATION);
    trial.station.reset();
    call(&trial, UP2);
    trial.topology.router.ip("link del up2");
    trial.bmpd.wait_down(STATION, "interface-absent");
    trial.topology.recreate_uplink2();
    guarded(&trial.bmpd, STATION);
    call(&trial, UP2);
    gets_no_answer(&stranger(&trial.topology), UP2);
    assert!(number(&trial.bmpd.session(STATION)["guard"]["dropped_packets"]) > 0);
    assert_eq!(strays(&trial.up1.packets()), Vec::<&Packet>::new());
}

#[test]
fn a_reset_ends_the_connection_and_the_station_is_let_in_at_once() {
    let trial = connected(&Plan::session(BY_UP2), UP2);
    trial.bmpd.display(&format!("reset bmp session {STATION}"));
    let old = trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    assert_eq!((old.has(bmp::TERMINATION), old.end), (true, Some(End::Fin)));
    let session = listening(&trial.bmpd, STATION);
    assert_eq!(session["reason"], "manual-reset");
    call(&trial, UP2);
    let session = trial.bmpd.session(STATION);
    assert_eq!((&session["established_count"], &session["reason"]), (&json!(2), &Value::Null));
}

#[test]
fn a_station_that_was_started_again_takes_the_place_of_its_connection_before() {
    let trial = connected(&Plan::session(BY_UP2), UP2);
    let index = trial.station.call((UP2, PORT), PATIENCE).expect("it is let in");
    trial.station.wait_connection(index, "Initiation", |c| c.has(bmp::INITIATION));
    let old = trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    assert_eq!((old.has(bmp::TERMINATION), old.end), (true, Some(End::Fin)));
    trial.bmpd.wait_for_log("that the station connected anew", |line| line.contains("has connected anew"));
    trial.routes_arrive(&mut trial.feeder(), 10, index);
    assert_eq!(trial.bmpd.session(STATION)["state"], "up");
}

#[test]
fn a_station_that_closes_is_waited_for_again() {
    let trial = connected(&Plan::session(BY_UP2), UP2);
    trial.station.close();
    let session = listening(&trial.bmpd, STATION);
    assert_eq!((&session["state"], &session["reason"]), (&json!("down"), &json!("station-closed")));
    call(&trial, UP2);
}

#[test]
fn after_a_crash_strangers_are_kept_away_and_the_next_bmpd_goes_on_counting() {
    let trial = connected(&Plan::session(BY_UP2), UP2);
    trial.routes_arrive(&mut trial.feeder(), 100, 0);
    let stranger = stranger(&trial.topology);
    gets_no_answer(&stranger, UP2);
    let before = trial.bmpd.session(STATION);
    let Trial { bmpd, station, up1, topology, .. } = trial;
    let setup = bmpd.crash();
    gets_no_answer(&stranger, UP2);
    let bmpd = Bmpd::start_in(setup, &Options::default());
    let after = guarded(&bmpd, STATION);
    let dropped = |session: &Value| number(&session["guard"]["dropped_packets"]);
    assert!(dropped(&before) > 0 && dropped(&after) > dropped(&before), "{before:#} {after:#}");
    station.call((UP2, PORT), PATIENCE).expect("the station is let in");
    let sent = number(&before["kernel"]["tx_packets"]);
    bmpd.wait_session(STATION, "counted on", |session| number(&session["kernel"]["tx_packets"]) > sent);
    gets_no_answer(&stranger, UP2);
    assert!(dropped(&bmpd.session(STATION)) > dropped(&after));
    nothing(&up1.packets());
    bmpd.terminate();
    let shown = topology.router.ip_show("-details link show dev up2");
    assert!(!shown.contains("xdp"), "{shown}");
}

#[test]
fn with_persist_the_guard_stays_until_it_is_detached() {
    let trial = connected(&Plan { bmp: " persist", ..Plan::session(BY_UP2) }, UP2);
    let stranger = stranger(&trial.topology);
    let setup = trial.bmpd.terminate();
    gets_no_answer(&stranger, UP2);
    assert!(setup.detach().status.success());
    let refused = stranger.call((UP2, PORT), PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "the port is closed, and that is all");
}

#[test]
fn without_the_kernel_programs_a_stranger_is_reset_and_the_station_let_in() {
    let options = Options { arguments: &["--datapath", "socket"], through: &[] };
    let trial = connected(&Plan { options, ..Plan::session(BY_UP2) }, UP2);
    let stranger = stranger(&trial.topology);
    match stranger.call((UP2, PORT), PATIENCE) {
        Ok(index) => {
            stranger.wait_connection(index, "a reset", |c| c.end == Some(End::Reset) && c.bytes == 0);
        }
        // It was reset before this was asked.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    trial.routes_arrive(&mut trial.feeder(), 10, 0);
    let guard = &trial.bmpd.session(STATION)["guard"];
    assert_eq!(guard["interfaces"][0]["mode"], "none", "{guard}");
    nothing(&trial.up1.packets());
}

#[test]
fn a_port_that_another_process_has_is_said_and_its_callers_are_let_through() {
    let topology = Topology::new();
    let taken = topology.router.enter(|| TcpListener::bind((UP2, PORT))).expect("the port is free");
    let trial = Plan::session(BY_UP2).start_on(topology);
    let session = trial.bmpd.wait_down(STATION, "source-conflict");
    assert!(
        session["detail"].as_str().is_some_and(|why| why.contains("listen on 192.0.2.65 port 11019")),
        "{session:#}"
    );
    let stranger = stranger(&trial.topology);
    stranger.call((UP2, PORT), PATIENCE).expect("the other process answers whom it likes");
    drop(taken);
    listening(&trial.bmpd, STATION);
    gets_no_answer(&stranger, UP2);
}

#[test]
fn other_traffic_on_a_guarded_interface_is_not_touched() {
    let trial = connected(&Plan::session(BY_UP2), UP2);
    let Topology { router, station } = &trial.topology;
    // A long ping, in fragments: an echo request of zeroes with its checksum (RFC 792), sent by the stranger.
    let ping = station.enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))).expect("root may");
    ping.bind(&SocketAddr::new(STATION_2, 0).into()).expect("the address is there");
    ping.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    let mut request = vec![0; 6000];
    request[..4].copy_from_slice(&[8, 0, 0xf7, 0xff]);
    ping.send_to(&request, &SocketAddr::new(UP2, 0).into()).expect("it is sent");
    let mut answer = vec![0; 7000];
    assert_eq!((&ping).read(&mut answer).expect("it is answered"), 20 + 6000);
    // UDP to the same port, in fragments too.
    let receiver = router.enter(|| UdpSocket::bind((UP2, PORT))).expect("the port is free for UDP");
    receiver.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    let sender = station.enter(|| UdpSocket::bind((STATION_2, 0))).expect("a port is free");
    sender.send_to(&[7; 5000], (UP2, PORT)).expect("it is sent");
    assert_eq!(receiver.recv(&mut [0; 6000]).expect("it arrives"), 5000);
    // TCP to another port, both ways and much of it.
    let other = router.enter(|| TcpListener::bind((UP2, PORT + 1))).expect("the port is free");
    let mut there = station.enter(|| TcpStream::connect((UP2, PORT + 1))).expect("another port is open to anybody");
    let (mut here, _) = other.accept().expect("it has connected");
    let bytes = vec![7; 4 << 20];
    std::thread::scope(|scope| {
        scope.spawn(|| there.write_all(&bytes).expect("it is sent"));
        let mut received = vec![0; bytes.len()];
        here.read_exact(&mut received).expect("it arrives");
    });
    // A connection of the router's own from the guarded address.
    let far = station.enter(|| TcpListener::bind((STATION_2, 0))).expect("a port is free");
    let address = far.local_addr().expect("it is bound");
    router.enter(|| TcpStream::connect(address)).expect("it gets its answers");
    assert_eq!(number(&trial.bmpd.session(STATION)["guard"]["dropped_packets"]), 0);
    trial.routes_arrive(&mut trial.feeder(), 10, 0);
}

#[test]
fn a_session_becomes_passive_and_active_again() {
    let trial = Plan::session("connect-interface up2").start_up();
    trial.bmpd.reload(&Plan::session(BY_UP2).configuration());
    let old = trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    assert_eq!((old.has(bmp::TERMINATION), old.end), (true, Some(End::Fin)));
    let session = guarded(&trial.bmpd, STATION);
    assert_eq!(session["role"], "listen");
    let index = call(&trial, UP2);
    trial.bmpd.reload(&Plan::session("connect-interface up2").configuration());
    trial.station.wait_connection(index, "its end", |c| c.has(bmp::TERMINATION) && c.end == Some(End::Fin));
    trial.station.wait_connection(index + 1, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(trial.bmpd.wait_up(STATION)["guard"], Value::Null);
    until("the guard is gone", PATIENCE, || {
        (!trial.topology.router.ip_show("-details link show dev up2").contains("xdp")).then_some(())
    });
    nothing(&trial.up1.packets());
}
