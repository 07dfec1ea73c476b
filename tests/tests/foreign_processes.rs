//! Connections of other processes to a session's station and port are pinned like the session, and
//! counted apart.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener},
    process::Command,
};

use lab::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    bmpd::{Bmpd, number},
    capture::{PacketDirection, sum},
    process::{ChildProgram, INSTALL},
    sockets::{ForeignSocket, send_all},
    station::RecordedConnection,
    topology::{STATION, STATION_PORT, STATION_V6, Topology, UP1, UP2, UP2_OTHER, UP2_V6},
    trial::{LabTrial, TrialPlan, outgoing, strays},
    wait::PATIENCE,
};
use programs::Program;

/// Starts a session that is pinned to `up2`, while routing prefers `up1`.
fn pinned(session: &str) -> LabTrial {
    TrialPlan { without_offload: true, ..TrialPlan::session(session) }.start_up()
}

/// Connects a foreign process (connection 1 of the station), which sends BMP and closes.
fn foreign_session(trial: &LabTrial, foreign: &ForeignSocket<'_>, station: SocketAddr) -> RecordedConnection {
    let stream = foreign.connect(&trial.topology.router, station).expect("the pin lets it connect");
    let mut messages = vec![bmp::initiation("foreign"), bmp::peer_up(&ReportedPeer::default())];
    messages.extend(bmp::announcements(&ReportedPeer::default(), &prefixes(300), 1));
    send_all(stream, &messages);
    trial.station.wait_connection(1, "its routes and its end", |c| c.announced() == 300 && c.end.is_some())
}

/// Asserts that the foreign session left by `up2` alone, and that the foreign counter equals the
/// capture.
fn assert_pinned_and_counted(trial: &LabTrial, connection: &RecordedConnection, source: IpAddr) {
    assert_eq!(connection.peer.ip(), source);
    assert_eq!(strays(&trial.up1.packets()), Vec::<&lab::capture::CapturedPacket>::new());
    let (session, packets) = trial.at_rest(&trial.up2);
    let own = trial.station.connections()[0].peer;
    assert_ne!(connection.peer, own);
    let left = |p: &lab::capture::CapturedPacket| p.direction == PacketDirection::Out && p.source == connection.peer;
    // The foreign process closed first. Its socket is in TIME_WAIT, which acknowledges the
    // station's FIN without a full socket.
    let fin = packets.iter().position(|p| left(p) && p.fin).expect("the capture has its FIN");
    let (bytes, count) = sum(&packets[..=fin], left);
    assert!(bytes > connection.bytes && count > 3, "the capture saw {bytes} bytes in {count} packets");
    let (late_bytes, late_count) = sum(&packets[fin + 1..], left);
    assert!(late_count <= 1, "more than an acknowledgement followed the FIN");

    let foreign = &session["kernel"]["foreign"];
    let counted = (number(&foreign["tx_bytes"]), number(&foreign["tx_packets"]));
    assert!(
        counted == (bytes, count) || counted == (bytes + late_bytes, count + late_count),
        "counted {counted:?}, captured {bytes} bytes in {count} packets, and {late_count} after the FIN"
    );
    let own_bytes = sum(&packets, |p| p.direction == PacketDirection::Out && p.source == own).0;
    assert_eq!(session["kernel"]["tx_bytes"], own_bytes, "the session's own counter has foreign bytes");
}

#[test]
fn an_unprivileged_process_leaves_as_the_session_does_and_is_counted_as_foreign() {
    let trial = pinned("connect-interface up2 192.0.2.129");
    let connection = foreign_session(&trial, &ForeignSocket::default(), trial.station.address());
    assert_pinned_and_counted(&trial, &connection, UP2_OTHER);
}

#[test]
fn an_ipv4_mapped_destination_is_pinned_like_the_ipv4_address() {
    let trial = pinned("connect-interface up2 192.0.2.129");
    let IpAddr::V4(station) = STATION else { unreachable!("the station's address is IPv4") };
    let mapped = SocketAddr::from((station.to_ipv6_mapped(), STATION_PORT));
    let connection = foreign_session(&trial, &ForeignSocket::default(), mapped);
    assert_pinned_and_counted(&trial, &connection, UP2_OTHER);
}

#[test]
fn an_ipv6_process_is_pinned_to_the_ipv6_session() {
    let plan = TrialPlan { station: STATION_V6, without_offload: true, ..TrialPlan::session("connect-interface up2") };
    let trial = plan.start_up();
    let connection = foreign_session(&trial, &ForeignSocket::default(), trial.station.address());
    assert_pinned_and_counted(&trial, &connection, UP2_V6);
}

#[test]
fn a_process_with_the_right_source_is_accepted() {
    let trial = pinned("connect-interface up2 192.0.2.129");
    let foreign = ForeignSocket { source: Some((UP2_OTHER, 0).into()), device: None };
    let connection = foreign_session(&trial, &foreign, trial.station.address());
    assert_pinned_and_counted(&trial, &connection, UP2_OTHER);
}

#[test]
fn a_process_with_the_right_interface_is_accepted() {
    let trial = pinned("connect-interface up2 192.0.2.129");
    let foreign = ForeignSocket { source: None, device: Some("up2") };
    let connection = foreign_session(&trial, &foreign, trial.station.address());
    assert_pinned_and_counted(&trial, &connection, UP2_OTHER);
}

/// Asserts that the connect fails at once with EPERM, that no packet of it leaves, and that the
/// cause is counted.
fn is_denied(foreign: &ForeignSocket<'_>, cause: &str) {
    let trial = pinned("connect-interface up2 192.0.2.129");
    let before = number(&trial.bmpd.session(STATION)["kernel"]["denied"][cause]);
    let connected = foreign.connect(&trial.topology.router, trial.station.address());
    let refused = connected.expect_err("the pin denies it");
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    let denied = trial.bmpd.session(STATION)["kernel"]["denied"].clone();
    assert_eq!(number(&denied[cause]), before + 1, "{denied}");
    assert_eq!(trial.up1.packets(), []);
    let own = trial.station.connections()[0].peer;
    assert!(outgoing(&trial.up2.packets()).iter().all(|p| p.source == own));
    assert_eq!(trial.station.connections().len(), 1);
    // The session goes on.
    trial.routes_arrive(&mut trial.feeder(), 10, 0);
}

#[test]
fn a_process_with_another_source_is_denied() {
    is_denied(&ForeignSocket { source: Some((UP1, 0).into()), device: None }, "source");
}

#[test]
fn a_process_with_another_source_of_the_same_interface_is_denied() {
    is_denied(&ForeignSocket { source: Some((UP2, 0).into()), device: None }, "source");
}

#[test]
fn a_process_with_another_interface_is_denied() {
    is_denied(&ForeignSocket { source: None, device: Some("up1") }, "interface");
}

#[test]
fn a_connection_to_another_port_or_address_of_the_station_is_left_alone() {
    let trial = pinned("connect-interface up2");
    for (address, port) in [(STATION, STATION_PORT + 1), (lab::topology::STATION_2, STATION_PORT)] {
        let other = lab::station::TestStation::start(&trial.topology.station, (address, port));
        let stream = ForeignSocket::default().connect(&trial.topology.router, other.address()).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), UP1, "routing chose up1");
    }
}

#[test]
fn a_link_local_station_of_a_session_that_is_down_is_denied_on_its_link_alone() {
    // The station's host has this address on both links.
    let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    let topology = Topology::new();
    let (router, any) = (&topology.router, (Ipv6Addr::UNSPECIFIED, STATION_PORT));
    let _listener = topology.station.enter(|| TcpListener::bind(any)).expect("the port is free");
    let station = |link| SocketAddrV6::new(address, STATION_PORT, 0, router.ifindex(link)).into();
    let connects = |link| ForeignSocket { source: None, device: Some(link) }.connect(router, station(link));
    let bmpd = Bmpd::start(
        router,
        &TrialPlan { station: address.into(), ..TrialPlan::session("connect-interface up2") }.configuration(),
    );
    bmpd.wait_up(address.into());
    connects("up2").expect("the pin lets it connect");

    bmpd.reload(
        &TrialPlan { station: address.into(), ..TrialPlan::session("connect-interface up2\n  shutdown") }
            .configuration(),
    );
    bmpd.wait_down(address.into(), "shutdown");
    assert_eq!(connects("up2").expect_err("the pin denies it").kind(), ErrorKind::PermissionDenied);
    connects("up1").expect("the address on up1 is another host");
    ForeignSocket::default().connect(router, station("up1")).expect("the address on up1 is another host");
    let timeout = ForeignSocket::default().connect(router, station("up2")).expect_err("its packets are dropped");
    assert_eq!(timeout.kind(), ErrorKind::TimedOut);
}

#[test]
fn the_same_station_address_in_another_namespace_is_left_alone() {
    let trial = pinned("connect-interface up2");
    let elsewhere = Topology::new();
    let station = lab::station::TestStation::start(&elsewhere.station, (STATION, STATION_PORT));
    let stream = ForeignSocket::default().connect(&elsewhere.router, station.address()).unwrap();
    assert_eq!(stream.local_addr().unwrap().ip(), UP1, "routing chose up1");
    assert_eq!(trial.bmpd.session(STATION)["kernel"]["foreign"]["tx_packets"], 0);
}

#[test]
fn iperf3_of_an_unprivileged_user_is_pinned_and_counted() {
    let trial = pinned("connect-interface up2 192.0.2.129");
    trial.routes_arrive(&mut trial.feeder(), 10, 0);
    // The session stays connected, and a server takes over the port.
    trial.station.refuse();
    let address = STATION.to_string();
    let port = STATION_PORT.to_string();
    let to_server = [Program::Iperf3.file(), "--forceflush", "-p", &port];
    let in_station = |arguments: &[&str]| {
        let mut command = trial.topology.station.command(Program::Iperf3);
        command.args(arguments);
        command
    };
    let _server = {
        let server = ChildProgram::start(&mut in_station(&["-s", "-1", "--forceflush", "-p", &port, "-B", &address]));
        server.wait_for_line("that it listens", 0, PATIENCE, |line| line.contains("Server listening"));
        server
    };
    let bytes: u64 = 4 << 20;
    let mut client: Command = trial.topology.router.command(Program::Setpriv);
    client.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).args(to_server);
    client.args(["-c", &address, "-n", &bytes.to_string()]);
    let output = client.output().unwrap_or_else(|e| panic!("cannot start setpriv: {e}{INSTALL}"));
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), INSTALL);

    assert!(outgoing(&trial.up1.packets()).is_empty(), "packets left by up1");
    let own = trial.station.connections()[0].peer;
    let (session, packets) = trial.at_rest(&trial.up2);
    let foreign = |p: &lab::capture::CapturedPacket| p.direction == PacketDirection::Out && p.source != own;
    assert!(packets.iter().filter(|p| foreign(p)).all(|p| p.source.ip() == UP2_OTHER));
    let (captured, count) = sum(&packets, foreign);
    // iperf3 counts written bytes, whose end may never leave.
    assert!(captured > bytes / 4, "the capture saw only {captured} bytes of iperf3");
    let counted = &session["kernel"]["foreign"];
    let (counted_bytes, counted_packets) = (number(&counted["tx_bytes"]), number(&counted["tx_packets"]));
    // Two connections. Each may have an acknowledgement or a reset or two without a full socket.
    let missing = (captured.abs_diff(counted_bytes), count.abs_diff(counted_packets));
    assert!(missing.1 <= 4 && missing.0 <= missing.1 * 60, "captured {captured} in {count}, counted {counted}");
}
