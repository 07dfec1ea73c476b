//! Only the station reaches a passive session. Other callers get no answer, because of the guard or
//! of the listener's own program.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
};

use lab::{
    bmpd::{Bmpd, StartOptions, number},
    capture::{LinkCapture, PacketDirection, sum},
    passive::{BY_UP2, PORT, answers, call, connected, gets_no_answer, guarded, listening, nothing, stranger},
    station::RecordedEnd,
    topology::{LOOPBACK, STATION, STATION_2, Topology, UP2, UP2_OTHER},
    trial::{LabTrial, TrialPlan},
    wait::PATIENCE,
};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

#[test]
fn a_stranger_gets_no_answer_from_the_guard_and_is_counted() {
    let trial = connected(&TrialPlan::session(BY_UP2), UP2);
    let stranger = stranger(&trial.topology);
    let there = LinkCapture::start(&trial.topology.station, "dn2", PORT);
    let before = trial.bmpd.session(STATION);
    assert_eq!(before["guard"]["interfaces"], json!([{ "name": "up2", "mode": "generic", "why": null }]));
    gets_no_answer(&stranger, UP2);
    let seen = there.packets();
    assert_eq!(answers(&seen, STATION_2), [], "the stranger got a SYN-ACK or a reset");
    let (bytes, packets) = sum(&seen, |p| p.source.ip() == STATION_2);
    assert!(packets >= 1);
    let guard = &trial.bmpd.session(STATION)["guard"];
    assert_eq!((number(&guard["dropped_packets"]), number(&guard["dropped_bytes"])), (packets, bytes), "{guard}");
    assert_eq!(guard["refused_packets"], 0);
    // The session goes on.
    trial.routes_arrive(&mut trial.feeder(), 10, 0);
}

#[test]
fn without_xdp_the_listener_gives_a_stranger_no_answer_and_counts_it() {
    let topology = Topology::new();
    let other = format!("bmp\n bmp-session {STATION}\n  tcp listen port 12000\n  connect-interface up2\n");
    let first = Bmpd::start(&topology.router, &other);
    guarded(&first, STATION);
    let trial = TrialPlan::session(BY_UP2).start_on(topology);
    listening(&trial.bmpd, STATION);
    trial.bmpd.wait_for_log("that there is no guard", |line| {
        line.contains("not on interface up2: another XDP program is there")
    });
    let stranger = stranger(&trial.topology);
    let there = LinkCapture::start(&trial.topology.station, "dn2", PORT);
    gets_no_answer(&stranger, UP2);
    let seen = there.packets();
    assert_eq!(answers(&seen, STATION_2), []);
    let (bytes, packets) = sum(&seen, |p| p.source.ip() == STATION_2);
    let guard = trial.bmpd.session(STATION)["guard"].clone();
    assert_eq!(guard["interfaces"], json!([{ "name": "up2", "mode": "none", "why": "another XDP program is there" }]));
    assert_eq!((number(&guard["refused_packets"]), number(&guard["refused_bytes"])), (packets, bytes), "{guard}");
    assert_eq!(guard["dropped_packets"], Value::Null, "XDP sees no interface");
    call(&trial, UP2);
    // The guard attaches once the other program has gone and the host changes.
    drop(first);
    trial.topology.router.ip("addr add 192.0.2.50/32 dev up1");
    trial.bmpd.wait_for_log("that the guard is attached", |line| line.contains("guard: on interface up2 (generic)"));
}

#[test]
fn a_station_cannot_connect_by_another_interface() {
    let trial = TrialPlan::session(BY_UP2).start();
    guarded(&trial.bmpd, STATION);
    trial.topology.station.ip(&format!("route add {UP2}/32 via 192.0.2.1 dev dn1"));
    // Nobody listens on that interface.
    let refused = trial.station.call((UP2, PORT), PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(
        trial.up1.packets().iter().all(|p| !(p.syn && p.direction == PacketDirection::Out)),
        "a SYN-ACK left by up1"
    );
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 0);
    trial.topology.station.ip(&format!("route del {UP2}/32"));
    call(&trial, UP2);
}

#[test]
fn a_station_connects_only_by_the_egress_interfaces() {
    let session = format!("tcp listen port {PORT}\nconnect-interface {LOOPBACK}\negress-interface up2");
    let trial = TrialPlan::session(&session).start();
    let session = guarded(&trial.bmpd, STATION);
    assert_eq!(session["guard"]["interfaces"][0]["name"], "up2", "{session:#}");
    // The station prefers dn1 for this address, and nobody listens on up1.
    let refused = trial.station.call((LOOPBACK, PORT), PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    nothing(&trial.up1.packets());
    assert!(
        trial.up1.packets().iter().all(|p| !(p.syn && p.direction == PacketDirection::Out)),
        "a SYN-ACK left by up1"
    );
    // A call by up2 is answered by up2, although the router prefers up1.
    trial.topology.station.ip("route del 203.0.113.1/32 via 192.0.2.1 dev dn1 metric 10");
    call(&trial, LOOPBACK);
    trial.routes_arrive(&mut trial.feeder(), 100, 0);
    nothing(&trial.up1.packets());
    assert_eq!(number(&trial.bmpd.session(STATION)["kernel"]["denied"]["interface"]), 0);
}

#[test]
fn bmpd_does_not_listen_at_other_addresses() {
    let trial = TrialPlan::session(&format!("tcp listen port {PORT}\nconnect-interface {UP2}")).start();
    guarded(&trial.bmpd, STATION);
    for address in [UP2_OTHER, LOOPBACK] {
        let refused = trial.station.call((address, PORT), PATIENCE).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 0);
}

#[test]
fn after_a_crash_the_guard_stays_and_the_next_bmpd_counts_on() {
    let trial = connected(&TrialPlan::session(BY_UP2), UP2);
    trial.routes_arrive(&mut trial.feeder(), 100, 0);
    let stranger = stranger(&trial.topology);
    gets_no_answer(&stranger, UP2);
    let before = trial.bmpd.session(STATION);
    let LabTrial { bmpd, station, up1, topology, .. } = trial;
    let setup = bmpd.crash();
    gets_no_answer(&stranger, UP2);
    let bmpd = Bmpd::start_in(setup, &StartOptions::default());
    let after = guarded(&bmpd, STATION);
    let dropped = |session: &Value| number(&session["guard"]["dropped_packets"]);
    assert!(dropped(&before) > 0 && dropped(&after) > dropped(&before), "{before:#} {after:#}");
    station.call((UP2, PORT), PATIENCE).expect("bmpd accepts the station");
    let sent = number(&before["kernel"]["tx_packets"]);
    bmpd.wait_session(STATION, "counted further", |session| number(&session["kernel"]["tx_packets"]) > sent);
    gets_no_answer(&stranger, UP2);
    assert!(dropped(&bmpd.session(STATION)) > dropped(&after));
    nothing(&up1.packets());
    bmpd.terminate();
    let shown = topology.router.ip_show("-details link show dev up2");
    assert!(!shown.contains("xdp"), "{shown}");
}

/// Ends a bmpd whose pins stay in the kernel. The guards must go with the listeners, so that
/// anybody reaches a new listener.
fn the_guard_ends_with_the_listener(plan: &TrialPlan<'_>) {
    let trial = plan.start();
    guarded(&trial.bmpd, STATION);
    let stranger = stranger(&trial.topology);
    gets_no_answer(&stranger, UP2);
    let setup = trial.bmpd.terminate();
    assert!(setup.bpffs().exists(), "the pins are gone");
    let shown = trial.topology.router.ip_show("-details link show dev up2");
    assert!(!shown.contains("xdp"), "{shown}");
    let listener = trial.topology.router.enter(|| TcpListener::bind((UP2, PORT))).expect("the port is free");
    stranger.call((UP2, PORT), PATIENCE).expect("another process's listener has no guard");
    drop(listener);
    let bmpd = Bmpd::start_in(setup, &StartOptions::default());
    guarded(&bmpd, STATION);
    gets_no_answer(&stranger, UP2);
}

#[test]
fn after_sigterm_the_guard_is_gone_although_persist_keeps_the_pins() {
    the_guard_ends_with_the_listener(&TrialPlan { bmp: " persist", ..TrialPlan::session(BY_UP2) });
}

#[test]
fn after_sigterm_the_guard_is_gone_although_an_adopted_session_keeps_pins() {
    let adopted =
        format!(" bmp-session {STATION} alias daemon\n  tcp connect port 11020\n  connect-interface up2\n  adopt");
    the_guard_ends_with_the_listener(&TrialPlan { bmp: &adopted, ..TrialPlan::session(BY_UP2) });
}

#[test]
fn without_kernel_programs_a_stranger_is_reset_and_the_station_accepted() {
    let options = StartOptions { arguments: &["--datapath", "socket"], through: &[] };
    let trial = connected(&TrialPlan { options, ..TrialPlan::session(BY_UP2) }, UP2);
    let stranger = stranger(&trial.topology);
    match stranger.call((UP2, PORT), PATIENCE) {
        Ok(index) => {
            stranger.wait_connection(index, "a reset", |c| c.end == Some(RecordedEnd::Reset) && c.bytes == 0);
        }
        // The reset may arrive before `call` returns.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    trial.routes_arrive(&mut trial.feeder(), 10, 0);
    let guard = &trial.bmpd.session(STATION)["guard"];
    assert_eq!(guard["interfaces"][0]["mode"], "none", "{guard}");
    nothing(&trial.up1.packets());
}

#[test]
fn a_port_of_another_process_is_reported_and_its_callers_pass() {
    let topology = Topology::new();
    let listener = topology.router.enter(|| TcpListener::bind((UP2, PORT))).expect("the port is free");
    let trial = TrialPlan::session(BY_UP2).start_on(topology);
    let session = trial.bmpd.wait_down(STATION, "source-conflict");
    assert!(
        session["detail"].as_str().is_some_and(|why| why.contains("listen on 192.0.2.65 port 11019")),
        "{session:#}"
    );
    let stranger = stranger(&trial.topology);
    stranger.call((UP2, PORT), PATIENCE).expect("the other process accepts anybody");
    drop(listener);
    listening(&trial.bmpd, STATION);
    gets_no_answer(&stranger, UP2);
}

#[test]
fn other_traffic_on_a_guarded_interface_is_not_touched() {
    let trial = connected(&TrialPlan::session(BY_UP2), UP2);
    let Topology { router, station } = &trial.topology;
    // A long ping in fragments, from the stranger: an echo request of zeroes with its checksum (RFC
    // 792).
    let ping = station
        .enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)))
        .expect("root may open a raw socket");
    ping.bind(&SocketAddr::new(STATION_2, 0).into()).expect("the host has the address");
    ping.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    let mut request = vec![0; 6000];
    request[..4].copy_from_slice(&[8, 0, 0xf7, 0xff]);
    ping.send_to(&request, &SocketAddr::new(UP2, 0).into()).expect("the request leaves");
    let mut answer = vec![0; 7000];
    assert_eq!((&ping).read(&mut answer).expect("the reply arrives"), 20 + 6000);
    // UDP to the same port, also in fragments.
    let receiver = router.enter(|| UdpSocket::bind((UP2, PORT))).expect("the port is free for UDP");
    receiver.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    let sender = station.enter(|| UdpSocket::bind((STATION_2, 0))).expect("a port is free");
    sender.send_to(&[7; 5000], (UP2, PORT)).expect("the datagram leaves");
    assert_eq!(receiver.recv(&mut [0; 6000]).expect("the datagram arrives"), 5000);
    // TCP to another port, in both directions and with many bytes.
    let other = router.enter(|| TcpListener::bind((UP2, PORT + 1))).expect("the port is free");
    let mut there = station.enter(|| TcpStream::connect((UP2, PORT + 1))).expect("another port is open to anybody");
    let (mut here, _) = other.accept().expect("the stranger has connected");
    let bytes = vec![7; 4 << 20];
    std::thread::scope(|scope| {
        scope.spawn(|| there.write_all(&bytes).expect("the bytes leave"));
        let mut received = vec![0; bytes.len()];
        here.read_exact(&mut received).expect("the bytes arrive");
    });
    // A connection that the router opens from the guarded address.
    let far = station.enter(|| TcpListener::bind((STATION_2, 0))).expect("a port is free");
    let address = far.local_addr().expect("the listener is bound");
    router.enter(|| TcpStream::connect(address)).expect("replies pass the guard");
    assert_eq!(number(&trial.bmpd.session(STATION)["guard"]["dropped_packets"]), 0);
    trial.routes_arrive(&mut trial.feeder(), 10, 0);
}
