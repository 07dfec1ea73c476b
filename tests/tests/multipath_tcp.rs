//! Multipath TCP (RFC 8684) of another process that connects to a station. bmpd's own sockets are
//! plain TCP.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    thread::JoinHandle,
};

use lab::{
    bmpd::number,
    capture::CapturedPacket,
    topology::{STATION, STATION_2, STATION_PORT, UP1, UP2},
    trial::{LabTrial, TrialPlan, outgoing},
    wait::{PATIENCE, until},
};
use socket2::{Domain, Protocol, Socket, Type};

const PAYLOAD: usize = 200_000;

/// Starts a session that is pinned to `up2`. Then allows both hosts to make subflows by their
/// endpoints.
fn pinned() -> LabTrial {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    trial.station.refuse();
    for host in [&trial.topology.router, &trial.topology.station] {
        host.sysctl("net/mptcp/enabled", "1");
        host.ip("mptcp limits set subflows 4 add_addr_accepted 4");
    }
    trial
}

fn socket() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).expect("the kernel has Multipath TCP")
}

/// Accepts one connection to the station's port, at any of its addresses. The thread returns the
/// received bytes.
fn listen(trial: &LabTrial) -> JoinHandle<usize> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, STATION_PORT)).into();
    let listener = until("the station has left its port", PATIENCE, || {
        let socket = trial.topology.station.enter(socket);
        socket.set_reuse_address(true).expect("a socket has options");
        socket.bind(&any).and_then(|()| socket.listen(8)).ok().map(|()| socket)
    });
    std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a client connects");
        let mut bytes = Vec::new();
        connection.read_to_end(&mut bytes).expect("the client closes in order");
        bytes.len()
    })
}

/// Connects an unprivileged process to the station. Its pin gives it `up2`'s address. It sends, and
/// closes after `is_over`.
fn exchange(trial: &LabTrial, is_over: impl FnOnce()) {
    let listener = listen(trial);
    let client = trial.topology.router.enter_unprivileged(|| {
        let mut client = socket();
        client.connect(&trial.station.address().into()).expect("the pin lets it connect");
        client.write_all(&[0; PAYLOAD / 2]).expect("the socket is connected");
        client
    });
    assert_eq!(client.local_addr().expect("the socket is connected").as_socket().map(|local| local.ip()), Some(UP2));
    is_over();
    (&client).write_all(&[0; PAYLOAD / 2]).expect("the socket is connected");
    drop(client);
    assert_eq!(listener.join().expect("the listener ends"), PAYLOAD);
}

/// Adds an endpoint of the router for further subflows. The subflow must be refused, so that
/// everything leaves by `up2`.
fn a_further_subflow_is_refused(endpoint: &str, cause: &str) {
    let trial = pinned();
    trial.topology.router.ip(&format!("mptcp endpoint add {endpoint}"));
    exchange(&trial, || {
        trial
            .bmpd
            .wait_session_for(STATION, "a denial", PATIENCE, |session| number(&session["kernel"]["denied"][cause]) > 0);
    });
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}

#[test]
fn a_further_subflow_to_the_station_from_another_address_is_refused() {
    a_further_subflow_is_refused(&format!("{UP1} subflow"), "source");
}

#[test]
fn a_further_subflow_to_the_station_by_another_interface_is_refused() {
    a_further_subflow_is_refused(&format!("{UP1} dev up1 subflow"), "interface");
}

#[test]
fn a_further_subflow_to_an_announced_address_is_not_pinned() {
    let trial = pinned();
    trial.topology.station.ip(&format!("mptcp endpoint add {STATION_2} signal"));
    exchange(&trial, || {
        let further = (STATION_2, STATION_PORT).into();
        trial.up1.wait_for("the further subflow", PATIENCE, |packets| {
            packets.iter().any(|packet| packet.left_for(further)).then_some(())
        });
    });
    // Packets to the station's own address leave as the session's do.
    assert!(trial.up1.packets().iter().all(|packet| !packet.left_for(trial.station.address())));
}

#[test]
fn by_default_the_kernel_uses_no_announced_address() {
    let trial = pinned();
    // The kernel's default.
    trial.topology.router.ip("mptcp limits set subflows 2 add_addr_accepted 0");
    trial.topology.station.ip(&format!("mptcp endpoint add {STATION_2} signal"));
    exchange(&trial, || {});
    for link in [&trial.up1, &trial.up2] {
        assert!(outgoing(&link.packets()).iter().all(|packet| packet.destination == trial.station.address()));
    }
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}
