//! Real daemons that report over BMP to the relay: each station has every RIB as the daemon itself
//! shows it, whenever the station connects and whatever daemon and peer go through.

use std::time::Duration;

use lab::{
    peering::{DAEMON, DaemonTable, Peering, bird_takes},
    relayed::{RelayedDaemon, RelayedKind, TABLE, bird_reporting},
    rib::{IPV4, IPV6, LOC_RIB_PEER, PeerRib, RibMirror},
    skip::skip,
    soak,
    station::TestStation,
    topology::STATION,
    trial::{FURTHER_PORTS, RELAY, TrialPlan, further_sessions},
};

/// Patience for several full tables in one test, with one message a route.
const LONG: Duration = Duration::from_secs(300);

/// Asserts that the daemon's tables are those of its peer, and that each station has the daemon's
/// tables.
fn assert_same(daemon: &RelayedDaemon, table: &DaemonTable<'_>, stations: &mut [RibMirror<'_>]) {
    for family in [IPV4, IPV6] {
        for (of, routes) in daemon.wait_tables(family, &table.routes(family)) {
            let routes = daemon.as_reported(routes);
            for station in &mut *stations {
                station.wait_view(of, &routes, LONG);
            }
        }
    }
}

/// Waits until each station has the peer down and the Loc-RIB empty.
fn wait_down(stations: &mut [RibMirror<'_>]) {
    for station in stations {
        station.wait_for("Peer Down", LONG, |rib| {
            let is_gone = !rib.is_up(DAEMON.0) && rib.view(LOC_RIB_PEER, PeerRib::LocRib, IPV4).is_empty();
            is_gone.then_some(())
        });
    }
}

fn stations_have_what_the_daemon_has(kind: RelayedKind) {
    let table = DaemonTable { ipv4: soak::times(20_000, 60_000), ipv6: soak::times(2_000, 40_000), ..TABLE };
    let table = kind.acceptable(&table);
    let sessions = further_sessions(2, "connect-retry 1 1");
    let trial = TrialPlan { bmp: &sessions, ..TrialPlan::default() }.start_up();
    let at = |number| TestStation::start(&trial.topology.station, (STATION, FURTHER_PORTS + number));
    let mut daemon = RelayedDaemon::start(kind, &trial.topology.router, RELAY);
    let mut bird = Peering::bird(&trial.topology.station, &table);
    let mut stations = vec![RibMirror::of(&trial.station)];
    assert_same(&daemon, &table, &mut stations);

    // The second station connects in the middle of changes.
    let mut paths = 0;
    let mut change = |bird: &mut Peering, less: usize| {
        paths += 1;
        let changed = DaemonTable { ipv4: table.ipv4 / less, ipv6: table.ipv6 / less, paths, ..table };
        bird.announce(&changed);
        changed
    };
    change(&mut bird, 1);
    let second = at(0);
    stations.push(RibMirror::of(&second));
    for round in 1..soak::times(3, 6) {
        change(&mut bird, round % 3 + 1);
    }
    assert_same(&daemon, &change(&mut bird, 2), &mut stations);

    for _ in 0..soak::times(1, 8) {
        bird.disable();
        wait_down(&mut stations);
        bird.enable();
        assert_same(&daemon, &change(&mut bird, 1), &mut stations);
    }

    // The daemon crashes while its routes change, and comes back with fewer.
    change(&mut bird, 2);
    daemon.kill();
    wait_down(&mut stations);
    if !kind.comes_back() {
        return skip("the installed FRR crashes when it comes back; all before that was tested");
    }
    let last = change(&mut bird, 3);
    daemon.start_again();
    for station in &mut stations {
        station.wait_for("the peer again", LONG, |rib| rib.is_up(DAEMON.0).then_some(()));
    }
    // The third station connects at the end, while the routes arrive again.
    let third = at(1);
    stations.push(RibMirror::of(&third));
    assert_same(&daemon, &last, &mut stations);
    for station in [&trial.station, &second, &third] {
        assert_eq!(station.connections().len(), 1);
        station.wait_connection(0, "an open end", |connection| connection.end.is_none());
    }
}

#[test]
fn stations_have_frrs_table_through_changes_flaps_and_a_crash() {
    stations_have_what_the_daemon_has(RelayedKind::Frr);
}

#[test]
fn stations_have_birds_routes_through_flaps_where_bird_has_bmp() {
    let configuration = bird_reporting(RELAY);
    if !bird_takes(&configuration) {
        return;
    }
    let trial = TrialPlan::default().start_up();
    let _reporting = Peering::bird_configured(&trial.topology.router, &configuration);
    let table = DaemonTable { ipv4: soak::times(2_000, 20_000), ..DaemonTable::default() };
    let peer = Peering::bird(&trial.topology.station, &table);
    let mut station = RibMirror::of(&trial.station);
    let view = (DAEMON.0, PeerRib::PrePolicy, IPV4);
    station.wait_view(view, &table.routes(IPV4), LONG);
    for _ in 0..soak::times(1, 8) {
        peer.disable();
        station.wait_for("Peer Down", LONG, |rib| (!rib.is_up(DAEMON.0)).then_some(()));
        peer.enable();
        station.wait_view(view, &table.routes(IPV4), LONG);
    }
}

#[test]
fn stations_have_gobgps_table_through_changes_flaps_and_a_crash() {
    stations_have_what_the_daemon_has(RelayedKind::Gobgp);
}
