//! Input of every kind, and much of it: bmpd goes on, and keeps nothing open.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
};

use lab::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    feeder::BmpFeeder,
    footprint::descriptors,
    topology::STATION,
    trial::{RELAY, TrialPlan},
    wait::{PATIENCE, until},
};

#[test]
fn messages_that_arrive_byte_by_byte_are_relayed_whole() {
    let trial = TrialPlan::default().start_up();
    let peer = ReportedPeer::default();
    let mut feeder = BmpFeeder::connect(&trial.topology.router, RELAY);
    let sent = [bmp::peer_up(&peer), bmp::announcements(&peer, &prefixes(40), 40).remove(0), bmp::peer_down(&peer)];
    feeder.raw(&bmp::initiation("slow"));
    for byte in sent.concat() {
        feeder.raw(&[byte]);
    }
    let connection = trial.station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    assert_eq!(connection.feed(), sent);
}

/// Feeds one odd message. bmpd relays it or closes that daemon's connection, and everything else
/// goes on.
fn survives(message: &[u8]) {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut good = BmpFeeder::with_peer(
        &trial.topology.router,
        RELAY,
        &ReportedPeer { address: [10, 255, 1, 1].into(), ..ReportedPeer::default() },
    );
    let mut odd = trial.feeder();
    odd.raw(message);
    odd.raw(&bmp::peer_down(&ReportedPeer::default()));
    trial.station.wait_connection(0, "the odd daemon's peer go down", |c| c.has(bmp::PEER_DOWN));
    good.announce(&ReportedPeer::default(), &prefixes(10), 1);
    trial.station.wait_connection(0, "the other daemon's routes", |c| c.announced() == 10 && c.end.is_none());
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn bmpd_survives_a_peer_message_shorter_than_its_header() {
    survives(&bmp::message(bmp::ROUTE_MONITORING, &[0; 10]));
}

#[test]
fn bmpd_survives_a_message_of_an_unknown_type() {
    survives(&bmp::message(200, &[0; 100]));
}

#[test]
fn bmpd_survives_a_peer_up_that_ends_in_its_opens() {
    let whole = bmp::peer_up(&ReportedPeer { address: [10, 255, 0, 77].into(), ..ReportedPeer::default() });
    survives(&bmp::message(bmp::PEER_UP, &whole[6..90]));
}

#[test]
fn bmpd_survives_a_message_with_only_a_header() {
    survives(&bmp::message(bmp::PEER_UP, &[]));
}

#[test]
fn daemons_that_come_and_go_leave_nothing_open() {
    let trial = TrialPlan::default().start_up();
    let mut good = trial.feeder();
    trial.routes_arrive(&mut good, 10, 0);
    let before = descriptors(trial.bmpd.pid());
    for _ in 0..20 {
        // Connections above the limit are reset, some before `connect` returns.
        let connect = || match TcpStream::connect(RELAY) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            connected => Some(connected.expect("the relay accepts")),
        };
        let _crowd: Vec<_> = trial.topology.router.enter(|| (0..50).map(|_| connect()).collect());
    }
    until("every descriptor is closed again", PATIENCE, || (descriptors(trial.bmpd.pid()) <= before).then_some(()));
    trial.routes_arrive(&mut good, 10, 0);
}

#[test]
fn rubbish_on_the_control_socket_hinders_no_operator() {
    let trial = TrialPlan::default().start_up();
    let before = descriptors(trial.bmpd.pid());
    let mut held = Vec::new();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"\n\n\n", b"{", b"display bmp session"] {
        let mut stream = UnixStream::connect(trial.bmpd.setup().control()).expect("bmpd serves its control socket");
        // Ignored: bmpd may close before it has read everything.
        let _ = stream.write_all(bytes);
        held.push(stream);
    }
    let mut endless = UnixStream::connect(trial.bmpd.setup().control()).expect("bmpd serves its control socket");
    endless.set_write_timeout(Some(PATIENCE)).expect("a timeout is set");
    let mut written = 0_u64;
    while endless.write_all(&[b'x'; 65536]).is_ok() {
        written += 65536;
        assert!(written < 64 << 20, "bmpd reads an endless command");
    }
    assert_eq!(trial.bmpd.session(STATION)["state"], "up");
    for mut stream in held.drain(..) {
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.read_to_end(&mut Vec::new());
    }
    drop(endless);
    until("every descriptor is closed again", PATIENCE, || (descriptors(trial.bmpd.pid()) <= before).then_some(()));
}
