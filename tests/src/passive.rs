//! Sessions whose station connects, and callers that are nobody's station.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde_json::Value;

use crate::{
    bmp,
    bmpd::Bmpd,
    capture::{Direction, Packet},
    station::Station,
    topology::{STATION_2, STATION_PORT, Topology},
    trial::{Plan, Trial, strays},
    wait::PATIENCE,
};

/// Where passive sessions listen: captures of a [`Trial`] see it.
pub const PORT: u16 = STATION_PORT;

/// The session view of a passive session that is pinned to `up2`.
pub const BY_UP2: &str = "tcp listen port 11019\nconnect-interface up2";

/// How long somebody tries who is to get no answer: one SYN, and another after a second.
pub const BRIEFLY: Duration = Duration::from_millis(1500);

/// Waits until the session listens.
pub fn listening(bmpd: &Bmpd, station: IpAddr) -> Value {
    bmpd.wait_session(station, "listening", |session| session["phase"] == "listening")
}

/// Waits until the session listens and the guard stands before it, on one interface at least.
pub fn guarded(bmpd: &Bmpd, station: IpAddr) -> Value {
    let stands = |session: &Value| {
        let interfaces = session["guard"]["interfaces"].as_array();
        interfaces.is_some_and(|all| all.iter().any(|interface| interface["mode"] != "none"))
    };
    bmpd.wait_session(station, "guarded", |session| session["phase"] == "listening" && stands(session))
}

/// Starts a trial whose station has connected to `to`. The guard stands by then, or is known not to be had.
pub fn connected(plan: &Plan<'_>, to: IpAddr) -> Trial {
    let trial = plan.start();
    trial.bmpd.wait_session(plan.station, "listening, the guard decided about", |session| {
        let interfaces = session["guard"]["interfaces"].as_array();
        session["phase"] == "listening" && interfaces.is_some_and(|all| !all.is_empty())
    });
    call(&trial, to);
    trial
}

/// The station connects and is told who speaks. Returns the connection's number.
pub fn call(trial: &Trial, to: IpAddr) -> usize {
    let index = trial.station.call((to, PORT), PATIENCE).expect("the station is let in");
    trial.bmpd.wait_up(trial.station.address().ip());
    trial.station.wait_connection(index, "Initiation", |c| c.has(bmp::INITIATION));
    index
}

/// Somebody at the station's end who is not the station.
pub fn stranger(topology: &Topology) -> Station {
    Station::start(&topology.station, SocketAddr::new(STATION_2, 0))
}

/// Asserts that nobody answers the caller, not even that the port is closed.
///
/// # Panics
/// If somebody does.
pub fn gets_no_answer(caller: &Station, to: IpAddr) {
    let refused = caller.call((to, PORT), BRIEFLY).expect_err("nobody lets it in");
    assert_eq!(refused.kind(), ErrorKind::TimedOut, "{refused}");
}

/// The packets among those that a capture at the station's end saw which came to this address.
pub fn answers(packets: &[Packet], to: IpAddr) -> Vec<Packet> {
    packets.iter().filter(|p| p.direction == Direction::In && p.destination.ip() == to).cloned().collect()
}

/// Asserts that nothing of a session left where the capture was.
///
/// A reset of a connection that the kernel does not know, or knows no more, belongs to no socket: it goes as routing says.
///
/// # Panics
/// If something did.
pub fn nothing(packets: &[Packet]) {
    let left: Vec<_> = strays(packets).into_iter().filter(|packet| !packet.rst).collect();
    assert_eq!(left, Vec::<&Packet>::new());
}
