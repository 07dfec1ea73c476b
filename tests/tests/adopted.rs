//! Adopted sessions, which another local daemon opens: bmpd pins, counts and displays them, and
//! makes the daemon connect again when it must.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use lab::{
    bgp::prefixes,
    bmp,
    bmpd::{Bmpd, StartOptions, number},
    capture::{CapturedPacket, LinkCapture, PacketDirection},
    frr::Frr,
    gobgp::Gobgp,
    peering::{Peering, bird_takes},
    relayed::bird_reporting,
    sockets::ForeignSocket,
    station::{RecordedConnection, RecordedEnd, StationMode, TestStation},
    topology::{STATION, STATION_2, STATION_PORT, STATION_V6, Topology, UP1, UP2, UP2_OTHER, UP2_V6},
    trial::{LabTrial, TrialPlan, outgoing, strays},
    wait::PATIENCE,
};

/// Starts a trial with an adopted session. Routing prefers `up1`.
fn adopted(session: &str) -> LabTrial {
    let trial = TrialPlan::session(&format!("adopt\n{session}")).start();
    wait_for_daemon(&trial);
    trial
}

/// Waits until the pin is in force and bmpd waits for the daemon.
fn wait_for_daemon(trial: &LabTrial) {
    let station = trial.station.address().ip();
    trial.bmpd.wait_session(station, "waiting for its daemon", |session| session["phase"] == "connecting");
}

/// Connects a plain socket of this process to the trial's station.
fn connect(trial: &LabTrial) -> TcpStream {
    ForeignSocket::default().connect(&trial.topology.router, trial.station.address()).expect("the pin lets it connect")
}

/// True if the connection of this process is closed: a read fails or ends.
fn is_closed(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
    !matches!(stream.read(&mut [0]), Ok(1..))
}

/// True if the connection of this process is open both ways.
fn is_open(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("the socket is open");
    let open = matches!(stream.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false).expect("the socket is open");
    open
}

/// Waits for the log line that names session, connection, process and cause of a closed connection.
fn says_why_it_closed(bmpd: &Bmpd, of: &str, stream: &TcpStream, why: &str) {
    let (local, pid) = (stream.local_addr().expect("the socket was connected"), std::process::id());
    bmpd.wait_for_log("that the connection is closed, and why", |line| {
        let ends = format!("{of}: closed the connection from {local} to {STATION}:{STATION_PORT}");
        line.contains(&ends) && line.contains(&format!("({pid})")) && line.contains(why)
    });
}

fn assert_nothing_by(link: &LinkCapture) {
    assert_eq!(strays(&link.packets()), Vec::<&CapturedPacket>::new(), "packets left by the other link");
}

/// Asserts that bmpd and the station describe the daemon's connection alike.
fn assert_shown(trial: &LabTrial, pid: u32, name: &str, connection: &RecordedConnection, times: u64) {
    let session = trial.bmpd.wait_session(STATION, "up over that connection", |session| {
        session["state"] == "up" && session["local_port"] == connection.peer.port()
    });
    assert_eq!((session["owner"].as_str(), session["phase"].as_str()), (Some("adopted"), Some("following")));
    assert_eq!(session["process"]["pid"], pid);
    assert_eq!(session["process"]["name"], name);
    assert_eq!(session["local_address"], connection.peer.ip().to_string());
    assert_eq!(session["established_count"], times);
    assert_eq!(session["egress"]["interfaces"][0], "up2");
    assert!(number(&session["kernel"]["tx_payload_bytes"]) >= connection.bytes, "{session:#}");
    assert_eq!(session["kernel"]["foreign"]["tx_packets"], 0);
}

#[test]
fn gobgp_is_pinned_from_its_first_syn_and_a_commit_moves_it() {
    let trial = adopted("connect-interface up2");
    let mut gobgp = Gobgp::start(&trial.topology.router, trial.station.address());
    gobgp.announce(&prefixes(500));
    let first = trial.station.wait_connection(0, "500 routes", |c| c.announced() >= 500);
    assert_eq!(first.peer.ip(), UP2);
    assert_shown(&trial, gobgp.pid(), "gobgpd", &first, 1);

    trial.bmpd.commit(STATION, "connect-interface up2 192.0.2.129");
    let old = trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    assert_eq!(old.end, Some(RecordedEnd::Reset), "the station sees a reset by the old link");
    // GoBGP notices a closed connection only when it writes.
    gobgp.announce(&prefixes(500));
    let moved = trial.station.wait_connection(1, "500 routes", |c| c.announced() >= 500);
    assert_eq!(moved.peer.ip(), UP2_OTHER);
    assert_shown(&trial, gobgp.pid(), "gobgpd", &moved, 2);
    assert_nothing_by(&trial.up1);
    assert!(trial.up2.packets().iter().any(|p| p.rst && p.source.ip() == UP2), "the reset left by the old link");
}

#[test]
fn frr_is_pinned_from_its_first_syn_and_a_commit_moves_it() {
    let trial = adopted("connect-interface up2");
    let frr = Frr::start(&trial.topology.router, trial.station.address(), &prefixes(500));
    let first = trial.station.wait_connection(0, "500 routes", |c| c.announced() >= 500);
    assert_eq!(first.peer.ip(), UP2);
    assert_shown(&trial, frr.pid(), "bgpd", &first, 1);

    trial.bmpd.commit(STATION, "connect-interface up2 192.0.2.129");
    let moved = trial.station.wait_connection(1, "500 routes", |c| c.announced() >= 500);
    assert_eq!(moved.peer.ip(), UP2_OTHER);
    assert_shown(&trial, frr.pid(), "bgpd", &moved, 2);
    assert_nothing_by(&trial.up1);
}

#[test]
fn bird_is_pinned_from_its_first_syn_and_a_commit_moves_it_where_bird_has_bmp() {
    let configuration = bird_reporting(SocketAddr::new(STATION, STATION_PORT));
    if !bird_takes(&configuration) {
        return;
    }
    let trial = adopted("connect-interface up2");
    let bird = Peering::bird_configured(&trial.topology.router, &configuration);
    let first = trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(first.peer.ip(), UP2);
    assert_shown(&trial, bird.pid(), "bird", &first, 1);

    trial.bmpd.commit(STATION, "connect-interface up2 192.0.2.129");
    trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    // BIRD connects when its protocol starts.
    bird.birdc("restart reports");
    let moved = trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(moved.peer.ip(), UP2_OTHER);
    assert_shown(&trial, bird.pid(), "bird", &moved, 2);
    assert_nothing_by(&trial.up1);
}

#[test]
fn an_ipv6_daemon_and_an_ipv4_mapped_socket_are_adopted_alike() {
    let plan = TrialPlan { station: STATION_V6, ..TrialPlan::session("adopt\nconnect-interface up2") };
    let trial = plan.start();
    wait_for_daemon(&trial);
    let _stream = connect(&trial);
    let session = trial.bmpd.wait_up(STATION_V6);
    assert_eq!(session["local_address"], UP2_V6.to_string());

    let trial = adopted("connect-interface up2");
    let IpAddr::V4(station) = STATION else { unreachable!("the station's address is IPv4") };
    let mapped = SocketAddr::from((station.to_ipv6_mapped(), STATION_PORT));
    let stream = ForeignSocket::default().connect(&trial.topology.router, mapped).expect("the pin lets it connect");
    assert_eq!(trial.bmpd.wait_up(STATION)["local_address"], UP2.to_string());
    trial.bmpd.commit(STATION, "connect-interface up2 192.0.2.129");
    assert!(is_closed(&stream), "bmpd found the connection among IPv6 sockets");
}

#[test]
fn an_earlier_connection_within_the_pin_is_adopted_without_a_break() {
    let topology = Topology::new();
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    // No pin is in force yet, so routing takes up1.
    let mut stream = ForeignSocket::default().connect(&topology.router, station.address()).unwrap();
    let plan = TrialPlan::session("adopt\nconnect-interface up1");
    let bmpd = Bmpd::start(&topology.router, &plan.configuration());
    let session = bmpd.wait_up(STATION);
    assert_eq!(session["local_port"], stream.local_addr().unwrap().port());
    assert_eq!(session["process"]["pid"], std::process::id());
    let before = number(&session["kernel"]["tx_payload_bytes"]);
    stream.write_all(&bmp::initiation("foreign")).unwrap();
    let connection = station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!((connection.peer.ip(), station.connections().len()), (UP1, 1));
    bmpd.wait_session(STATION, "counted", |session| {
        number(&session["kernel"]["tx_payload_bytes"]) == before + connection.bytes
    });
    // The connection is bound to up1 as well as counted, whatever routing prefers now.
    let up2 = LinkCapture::start(&topology.router, "up2", STATION_PORT);
    topology.router.ip("route replace 198.51.100.7/32 via 192.0.2.66 dev up2 metric 1");
    stream.write_all(&bmp::termination()).unwrap();
    station.wait_connection(0, "Termination", |c| c.has(bmp::TERMINATION));
    assert_nothing_by(&up2);
    // bmpd notices the end, although no program ran when the connection began.
    drop(stream);
    bmpd.wait_session(STATION, "down", |session| session["state"] == "down");
}

#[test]
fn an_earlier_connection_outside_the_pin_is_closed() {
    let topology = Topology::new();
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let by_up1 = ForeignSocket::default().connect(&topology.router, station.address()).unwrap();
    let bmpd = Bmpd::start(&topology.router, &TrialPlan::session("adopt\nconnect-interface up2").configuration());
    assert!(is_closed(&by_up1));
    assert_eq!(station.wait_connection(0, "its end", |c| c.end.is_some()).end, Some(RecordedEnd::Reset));
    says_why_it_closed(&bmpd, &format!("session {STATION}"), &by_up1, "does not come from 192.0.2.65");
    let session = bmpd.wait_session(STATION, "waiting for its daemon", |session| session["phase"] == "connecting");
    assert_eq!(session["reason"], "configuration-changed");
    assert!(session["detail"].as_str().is_some_and(|detail| detail.contains("does not come from")), "{session:#}");
    let _again = ForeignSocket::default().connect(&topology.router, station.address()).unwrap();
    let session = bmpd.wait_up(STATION);
    assert_eq!((session["local_address"].as_str(), session["reason"].as_str()), (Some("192.0.2.65"), None));
}

#[test]
fn other_sockets_of_the_process_are_never_touched() {
    let trial = adopted("connect-interface up2");
    let other_port = TestStation::start(&trial.topology.station, (STATION, STATION_PORT + 1));
    let other_station = TestStation::start(&trial.topology.station, (STATION_2, STATION_PORT));
    let session = connect(&trial);
    let others = [&other_port, &other_station].map(|station| {
        let stream = ForeignSocket::default().connect(&trial.topology.router, station.address()).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), UP1, "routing chose up1");
        stream
    });
    trial.bmpd.wait_up(STATION);
    trial.bmpd.commit(STATION, "connect-interface up2 192.0.2.129");
    assert!(is_closed(&session));
    says_why_it_closed(
        &trial.bmpd,
        &format!("session {STATION}"),
        &session,
        "what is in force for the session changed",
    );
    trial.bmpd.wait_down(STATION, "configuration-changed");
    assert!(others.iter().all(is_open));
}

#[test]
fn a_daemon_with_another_source_is_a_source_conflict_until_it_stops() {
    let trial = adopted("connect-interface up2");
    let elsewhere = ForeignSocket { source: Some((UP1, 0).into()), device: None };
    elsewhere.connect(&trial.topology.router, trial.station.address()).expect_err("it is refused");
    let session = trial.bmpd.wait_down(STATION, "source-conflict");
    assert!(session["detail"].as_str().is_some_and(|detail| detail.contains(&UP2.to_string())), "{session:#}");
    assert!(session["mend"].is_string());
    let _stream = connect(&trial);
    trial.bmpd.wait_up(STATION);
    let elsewhere = ForeignSocket { source: None, device: Some("up1") };
    elsewhere.connect(&trial.topology.router, trial.station.address()).expect_err("it is refused");
    assert_eq!(trial.bmpd.session(STATION)["state"], "up", "the session keeps its connection");
}

#[test]
fn a_lost_interface_closes_the_connection_and_denies_the_daemon_until_it_is_back() {
    let trial = adopted("connect-interface up2");
    let stream = connect(&trial);
    trial.bmpd.wait_up(STATION);
    trial.topology.carrier_down("up2");
    trial.bmpd.wait_down(STATION, "interface-down");
    assert!(is_closed(&stream));
    let denied = ForeignSocket::default().connect(&trial.topology.router, trial.station.address());
    assert_eq!(denied.expect_err("the pin denies it").kind(), std::io::ErrorKind::PermissionDenied);
    trial.topology.carrier_up("up2");
    wait_for_daemon(&trial);
    let _stream = connect(&trial);
    assert_eq!(trial.bmpd.wait_up(STATION)["established_count"], 2);
    assert_nothing_by(&trial.up1);
}

#[test]
fn the_display_says_why_an_adopted_connection_ended() {
    let trial = adopted("connect-interface up2");
    let stream = connect(&trial);
    trial.bmpd.wait_up(STATION);
    trial.station.close();
    assert!(is_closed(&stream));
    drop(stream);
    trial.bmpd.wait_down(STATION, "station-closed");

    let stream = connect(&trial);
    trial.bmpd.wait_up(STATION);
    trial.station.reset();
    assert!(is_closed(&stream));
    trial.bmpd.wait_down(STATION, "connection-reset");

    let stream = connect(&trial);
    trial.bmpd.wait_up(STATION);
    trial.bmpd.display(&format!("reset bmp session {STATION}"));
    assert!(is_closed(&stream));
    trial.bmpd.wait_down(STATION, "manual-reset");

    trial.station.refuse();
    ForeignSocket::default().connect(&trial.topology.router, trial.station.address()).expect_err("nobody listens");
    trial.bmpd.wait_down(STATION, "connect-refused");
}

#[test]
fn shutdown_denies_the_daemon_and_removing_the_session_frees_it() {
    let trial = adopted("connect-interface up2");
    let stream = connect(&trial);
    trial.bmpd.wait_up(STATION);
    trial.bmpd.commit(STATION, "shutdown");
    assert!(is_closed(&stream));
    trial.bmpd.wait_down(STATION, "shutdown");
    ForeignSocket::default().connect(&trial.topology.router, trial.station.address()).expect_err("it is denied");
    trial.bmpd.commit(STATION, "undo shutdown");
    wait_for_daemon(&trial);
    let stream = connect(&trial);
    trial.bmpd.wait_up(STATION);
    trial.bmpd.commit_lines(&format!("bmp\nundo bmp-session {STATION}"));
    assert!(is_closed(&stream), "a pinned connection outlived its session");
    // The log line depends on what bmpd sees first: no session, or no pin.
    says_why_it_closed(&trial.bmpd, &format!("session {STATION}"), &stream, "");
    assert_eq!(connect(&trial).local_addr().unwrap().ip(), UP1, "routing chose up1");
}

#[test]
fn a_session_changes_hands_both_ways() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    trial.bmpd.commit(STATION, "adopt");
    wait_for_daemon(&trial);
    assert!(trial.station.wait_connection(0, "its end", |c| c.end.is_some()).has(bmp::TERMINATION));
    let stream = connect(&trial);
    let session = trial.bmpd.wait_session(STATION, "up for its process", |session| session["process"].is_object());
    assert_eq!(session["owner"], "adopted");
    trial.bmpd.commit(STATION, "undo adopt");
    let session = trial
        .bmpd
        .wait_session(STATION, "bmpd's own and up", |session| session["owner"] == "bmpd" && session["state"] == "up");
    assert!(session["process"].is_null());
    assert!(is_open(&stream), "the process's connection keeps to the same pin, so it stays");
}

#[test]
fn after_sigterm_an_adopted_daemon_stays_pinned_until_it_is_detached() {
    let trial = adopted("connect-interface up2");
    let stream = connect(&trial);
    trial.bmpd.wait_up(STATION);
    let (topology, station) = (trial.topology, trial.station);
    let setup = trial.bmpd.terminate();
    assert!(is_open(&stream));
    let address = SocketAddr::new(STATION, STATION_PORT);
    let again = ForeignSocket::default().connect(&topology.router, address).expect("the remaining pin lets it connect");
    assert_eq!(again.local_addr().unwrap().ip(), UP2);
    assert!(setup.detach().status.success());
    let free = ForeignSocket::default().connect(&topology.router, address).unwrap();
    assert_eq!(free.local_addr().unwrap().ip(), UP1, "routing chose up1");
    station.wait_connection(2, "the free one", |_| true);
}

#[test]
fn a_crash_and_a_restart_under_traffic_neither_break_nor_free_the_daemon() {
    let trial = adopted("connect-interface up2");
    let mut gobgp = Gobgp::start(&trial.topology.router, trial.station.address());
    gobgp.announce(&prefixes(100));
    trial.station.wait_connection(0, "100 routes", |c| c.announced() >= 100);
    let (up1, up2, station) = (trial.up1, trial.up2, trial.station);
    let mut bmpd = trial.bmpd;
    let mut before = bmpd.wait_up(STATION);
    let rounds = lab::soak::times(10, 100);
    for round in 0..rounds {
        let setup = bmpd.crash();
        // Traffic without bmpd, and while the next bmpd takes over.
        gobgp.announce(&prefixes(100));
        bmpd = Bmpd::start_in(setup, &StartOptions::default());
        let now = bmpd.wait_up(STATION);
        assert_eq!(now["local_port"], before["local_port"], "round {round}: the same connection");
        assert_eq!(now["process"]["pid"], gobgp.pid());
        for name in ["tx_bytes", "tx_packets", "tx_payload_bytes", "rx_packets"] {
            let (was, is) = (number(&before["kernel"][name]), number(&now["kernel"][name]));
            assert!(is >= was && was > 0, "round {round}: {name} went from {was} to {is}");
        }
        before = now;
    }
    let connection = station.wait_connection(0, "all that was announced", |c| c.announced() >= 100 * (rounds + 1));
    assert_eq!((connection.end, station.connections().len()), (None, 1));
    let session = bmpd.session(STATION);
    assert!(number(&session["kernel"]["tx_payload_bytes"]) >= connection.bytes, "{session:#}");
    assert!(!outgoing(&up2.packets()).is_empty(), "the capture saw no packet of the session");
    assert_nothing_by(&up1);
}

#[test]
fn a_connection_that_its_process_has_closed_ends_by_itself_after_a_restart() {
    let trial = adopted("connect-interface up2");
    let _adopted = connect(&trial);
    trial.bmpd.wait_up(STATION);
    let LabTrial { bmpd, station, topology, up1, up2, .. } = trial;
    let setup = bmpd.crash();
    // The station keeps its side open until bmpd has started.
    station.set_mode(StationMode::Linger);
    let closed = ForeignSocket::default().connect(&topology.router, station.address()).expect("the pin lets it");
    let port = closed.local_addr().expect("the socket is connected").port();
    drop(closed);
    let is_its = move |p: &&CapturedPacket| [p.source.port(), p.destination.port()].contains(&port);
    up2.wait_for("the acknowledgement of its FIN", PATIENCE, |packets| {
        let mut its = packets.iter().filter(is_its);
        its.find(|p| p.direction == PacketDirection::Out && p.fin)?;
        its.find(|p| p.direction == PacketDirection::In && p.ack).map(drop)
    });
    let bmpd = Bmpd::start_in(setup, &StartOptions::default());
    bmpd.wait_up(STATION);
    station.close();
    up2.wait_for("the station's FIN, and what answers it", PATIENCE, |packets| {
        let mut its = packets.iter().filter(is_its);
        its.find(|p| p.direction == PacketDirection::In && p.fin)?;
        its.find(|p| p.direction == PacketDirection::Out).map(|answer| assert!(!answer.rst, "{answer:?}"))
    });
    assert!(!up2.packets().iter().filter(is_its).any(|packet| packet.rst), "{:#?}", up2.packets());
    assert!(!up1.packets().iter().any(|packet| is_its(&packet)), "{:#?}", up1.packets());
}

/// Kills bmpd while an adopted connection is up, and starts it with a changed file. The connection
/// must be closed.
fn is_closed_when_the_file_says_otherwise(edit: impl Fn(&str) -> String) {
    let LabTrial { bmpd, station, topology, .. } = adopted("connect-interface up2");
    let connect = || ForeignSocket::default().connect(&topology.router, station.address()).expect("no pin denies it");
    let stream = connect();
    bmpd.wait_up(STATION);
    let setup = bmpd.crash();
    let before = std::fs::read_to_string(setup.file()).expect("the file is readable");
    std::fs::write(setup.file(), edit(&before)).expect("the file is writable");
    let bmpd = Bmpd::start_in(setup, &StartOptions::default());
    let end = station.wait_connection(0, "its end", |c| c.end.is_some()).end;
    assert_eq!(end, Some(RecordedEnd::Reset), "the reset left by the old link");
    assert!(is_closed(&stream));
    says_why_it_closed(&bmpd, &format!("station {STATION} port {STATION_PORT}"), &stream, "no session");
    assert!(!bmpd.log().iter().any(|line| line.contains("expired")), "{:?}", bmpd.log());
    assert_eq!(connect().local_addr().expect("the socket is connected").ip(), UP1, "routing chose up1");
}

#[test]
fn a_start_closes_a_connection_whose_session_was_removed_from_the_file() {
    is_closed_when_the_file_says_otherwise(|_| "sysname edge1\n".to_owned());
}

#[test]
fn a_start_closes_a_connection_whose_session_has_another_port_in_the_file() {
    is_closed_when_the_file_says_otherwise(|before| before.replace("port 11019", "port 11020"));
}
