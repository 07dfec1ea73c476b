//! Links that flap many times: 50 usually, 1,000 in a long campaign (`BMPD_SOAK=1`).

use std::{collections::BTreeSet, net::IpAddr};

use lab::{
    bmp,
    capture::CapturedPacket,
    footprint::Footprint,
    soak,
    topology::{BETTER_ROUTE_BY_UP1, STATION, STATION_V6, UP2, UP2_V6},
    trial::{LabTrial, TrialPlan, strays},
    wait::PATIENCE,
};

fn pinned(station: IpAddr) -> (LabTrial, lab::feeder::BmpFeeder) {
    let trial = TrialPlan { station, ..TrialPlan::session("connect-interface up2") }.start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 10, 0);
    (trial, feeder)
}

/// Asserts that the station saw only this source, that no earlier connection is open there, and
/// that nothing left by the other link.
fn assert_one_source(trial: &LabTrial, source: IpAddr) {
    trial.station.wait_for("the end of every connection but the last", PATIENCE, |connections| {
        let (last, earlier) = connections.split_last()?;
        (last.end.is_none() && earlier.iter().all(|c| c.end.is_some())).then_some(())
    });
    let sources: BTreeSet<_> = trial.station.connections().iter().map(|c| c.peer.ip()).collect();
    assert_eq!(sources, BTreeSet::from([source]));
    assert_eq!(strays(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}

/// Flaps the carrier of the pinned link.
fn the_pinned_link_flaps(station: IpAddr, source: IpAddr) {
    let (trial, mut feeder) = pinned(station);
    // A link that loses its carrier loses its IPv6 neighbours. A failed solicitation is repeated
    // only after a second, which each flap would take.
    trial.topology.router.sysctl("net/ipv6/neigh/up2/retrans_time_ms", "20");
    let flap = |number: usize| {
        trial.topology.carrier_down("up2");
        trial.bmpd.wait_down(station, "interface-down");
        trial.topology.carrier_up("up2");
        trial.station.wait_connection(number, "Initiation", |c| c.has(bmp::INITIATION));
    };
    // The first flap allocates things that stay: memory, and a slot that denies.
    flap(1);
    let before = Footprint::of(&trial.bmpd);
    let flaps = soak::times(50, 1000);
    (2..=flaps).for_each(flap);
    assert_one_source(&trial, source);
    trial.routes_arrive(&mut feeder, 10, flaps);
    assert_eq!(trial.bmpd.session(station)["established_count"], flaps + 1);
    before.wait_no_more(&trial.bmpd);
}

#[test]
fn flaps_of_the_pinned_link_change_no_source_and_leak_nothing() {
    the_pinned_link_flaps(STATION, UP2);
}

#[test]
fn flaps_of_an_ipv6_sessions_link_change_no_source_and_leak_nothing() {
    the_pinned_link_flaps(STATION_V6, UP2_V6);
}

#[test]
fn flaps_of_the_other_link_and_its_route_do_not_touch_the_session() {
    let (trial, mut feeder) = pinned(STATION);
    let flap = || {
        trial.topology.router.ip(&format!("route add {BETTER_ROUTE_BY_UP1}"));
        trial.topology.carrier_down("up1");
        trial.topology.carrier_up("up1");
        trial.topology.router.ip(&format!("route del {BETTER_ROUTE_BY_UP1}"));
    };
    flap();
    let before = Footprint::of(&trial.bmpd);
    (1..soak::times(50, 1000)).for_each(|_| flap());
    let connection = trial.routes_arrive(&mut feeder, 10, 0);
    assert_eq!((connection.peer.ip(), connection.end), (UP2, None));
    assert_one_source(&trial, UP2);
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
    before.wait_no_more(&trial.bmpd);
}
