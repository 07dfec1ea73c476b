//! Sessions whose station connects, and callers that are not the station.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde_json::Value;

use crate::{
    bmp,
    bmpd::Bmpd,
    capture::{CapturedPacket, PacketDirection},
    station::TestStation,
    topology::{STATION_2, STATION_PORT, Topology},
    trial::{LabTrial, TrialPlan, strays},
    wait::PATIENCE,
};

/// The port of passive sessions, which the captures of a [`LabTrial`] record.
pub const PORT: u16 = STATION_PORT;

/// Session view of a passive session that is pinned to `up2`.
pub const BY_UP2: &str = "tcp listen port 11019\nconnect-interface up2";

/// Patience of a caller that gets no answer: long enough for a SYN and its retransmission.
pub const BRIEFLY: Duration = Duration::from_millis(1500);

/// Waits until the session listens, and returns it.
pub fn listening(bmpd: &Bmpd, station: IpAddr) -> Value {
    bmpd.wait_session(station, "listening", |session| session["phase"] == "listening")
}

/// Waits until the session listens behind a guard on at least one interface, and returns it.
pub fn guarded(bmpd: &Bmpd, station: IpAddr) -> Value {
    let stands = |session: &Value| {
        let interfaces = session["guard"]["interfaces"].as_array();
        interfaces.is_some_and(|all| all.iter().any(|interface| interface["mode"] != "none"))
    };
    bmpd.wait_session(station, "guarded", |session| session["phase"] == "listening" && stands(session))
}

/// Starts a trial whose station has connected to `to`. The guard's state was known before the call.
pub fn connected(plan: &TrialPlan<'_>, to: IpAddr) -> LabTrial {
    let trial = plan.start();
    trial.bmpd.wait_session(plan.station, "listening with a decision about the guard", |session| {
        let interfaces = session["guard"]["interfaces"].as_array();
        session["phase"] == "listening" && interfaces.is_some_and(|all| !all.is_empty())
    });
    call(&trial, to);
    trial
}

/// Connects from the station and waits for its Initiation. Returns the connection's number.
pub fn call(trial: &LabTrial, to: IpAddr) -> usize {
    let index = trial.station.call((to, PORT), PATIENCE).expect("bmpd accepts the station");
    trial.bmpd.wait_up(trial.station.address().ip());
    trial.station.wait_connection(index, "Initiation", |c| c.has(bmp::INITIATION));
    index
}

/// Starts a caller at the station's host, from an address that is not the station's.
pub fn stranger(topology: &Topology) -> TestStation {
    TestStation::start(&topology.station, SocketAddr::new(STATION_2, 0))
}

/// Asserts that the caller gets no answer, not even a reset.
///
/// # Panics
/// If the caller gets one.
pub fn gets_no_answer(caller: &TestStation, to: IpAddr) {
    let refused = caller.call((to, PORT), BRIEFLY).expect_err("the caller is not let in");
    assert_eq!(refused.kind(), ErrorKind::TimedOut, "{refused}");
}

/// Returns the packets to address `to` in a capture at the station's end.
pub fn answers(packets: &[CapturedPacket], to: IpAddr) -> Vec<CapturedPacket> {
    packets.iter().filter(|p| p.direction == PacketDirection::In && p.destination.ip() == to).cloned().collect()
}

/// Asserts that no packet of a session left on the captured link.
///
/// Resets are exempt: a reset for an unknown connection belongs to no socket, and follows routing.
///
/// # Panics
/// If a packet left.
pub fn nothing(packets: &[CapturedPacket]) {
    let left: Vec<_> = strays(packets).into_iter().filter(|packet| !packet.rst).collect();
    assert_eq!(left, Vec::<&CapturedPacket>::new());
}
