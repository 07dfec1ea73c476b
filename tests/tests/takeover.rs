//! Enforcement outlives bmpd: after a crash everything stays pinned, and the next bmpd takes over
//! in place.

use std::net::SocketAddr;

use lab::{
    bmp,
    bmpd::{Bmpd, StartOptions, number},
    sockets::ForeignSocket,
    topology::{STATION, STATION_PORT, UP2},
    trial::{TrialPlan, outgoing, strays},
};

/// A plain connection of another process to the session's station and port.
const FOREIGN: ForeignSocket<'static> = ForeignSocket { source: None, device: None };

#[test]
fn after_a_crash_processes_stay_pinned_and_counters_go_on() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 200, 0);
    let (before, _) = trial.at_rest(&trial.up2);
    let (topology, station, up1) = (trial.topology, trial.station, trial.up1);

    let setup = trial.bmpd.crash();
    let address = SocketAddr::new(STATION, STATION_PORT);
    let _meanwhile = FOREIGN.connect(&topology.router, address).expect("the remaining pin lets it connect");
    assert_eq!(station.wait_connection(1, "the foreign one", |_| true).peer.ip(), UP2);

    let bmpd = Bmpd::start_in(setup, &StartOptions::default());
    bmpd.wait_up(STATION);
    assert_eq!(station.wait_connection(2, "Initiation", |c| c.has(bmp::INITIATION)).peer.ip(), UP2);
    let after = bmpd.session(STATION);
    for name in ["tx_bytes", "tx_packets", "tx_payload_bytes", "rx_packets"] {
        let (was, is) = (number(&before["kernel"][name]), number(&after["kernel"][name]));
        assert!(is > was && was > 0, "{name} went from {was} to {is}");
    }
    assert!(number(&after["kernel"]["foreign"]["tx_packets"]) >= 2, "{after:#}");
    assert_eq!(strays(&up1.packets()), Vec::<&lab::capture::CapturedPacket>::new());
}

#[test]
fn the_first_display_after_a_crash_has_the_earlier_counters() {
    // Resolve these sessions' pins first.
    let others: String = (1..=200)
        .map(|number| format!(" bmp-session 10.9.9.9 alias s{number}\n  tcp connect port {}\n quit\n", 12_000 + number))
        .collect();
    let trial = TrialPlan { bmp: &others, ..TrialPlan::session("connect-interface up2") }.start_up();
    trial.routes_arrive(&mut trial.feeder(), 200, 0);
    let before = trial.bmpd.session(STATION);
    let bmpd = Bmpd::start_without_request(trial.bmpd.crash(), &StartOptions::default());
    let first = bmpd.session(STATION);
    for name in ["tx_bytes", "tx_packets", "tx_payload_bytes", "rx_packets"] {
        let (was, is) = (number(&before["kernel"][name]), number(&first["kernel"][name]));
        assert!(is >= was && was > 0, "{name} went from {was} to {is}");
    }
}

#[test]
fn repeated_kills_of_bmpd_let_nothing_leave_by_another_link() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let (topology, station, up1, up2) = (trial.topology, trial.station, trial.up1, trial.up2);
    // Routing prefers up1 all the time.
    let mut bmpd = trial.bmpd;
    for round in 0..10 {
        let sent = number(&bmpd.session(STATION)["kernel"]["tx_packets"]);
        let setup = bmpd.crash();
        let stream =
            FOREIGN.connect(&topology.router, SocketAddr::new(STATION, STATION_PORT)).expect("the pin lets it connect");
        drop(stream);
        bmpd = Bmpd::start_in(setup, &StartOptions::default());
        bmpd.wait_up(STATION);
        let now = number(&bmpd.session(STATION)["kernel"]["tx_packets"]);
        assert!(now > sent, "round {round}: {now} packets after {sent}");
    }
    assert!(station.connections().iter().all(|connection| connection.peer.ip() == UP2));
    assert!(outgoing(&up2.packets()).len() > 50, "the capture saw too few packets");
    assert_eq!(strays(&up1.packets()), Vec::<&lab::capture::CapturedPacket>::new());
}

#[test]
fn with_persist_enforcement_outlives_sigterm_until_it_is_detached() {
    let plan = TrialPlan { bmp: " persist", ..TrialPlan::session("connect-interface up2") };
    let trial = plan.start_up();
    let setup = trial.bmpd.terminate();
    let _pinned = FOREIGN
        .connect(&trial.topology.router, SocketAddr::new(STATION, STATION_PORT))
        .expect("the pin lets it connect");
    assert_eq!(trial.station.wait_connection(1, "the foreign one", |_| true).peer.ip(), UP2);
    // The next bmpd takes over, and leaves nothing without `persist`.
    std::fs::write(setup.file(), TrialPlan::session("connect-interface up2").configuration())
        .expect("the file is writable");
    let bmpd = Bmpd::start_in(setup, &StartOptions::default());
    bmpd.wait_up(STATION);
    let objects = bmpd.objects();
    bmpd.terminate();
    objects.wait_gone();
}
