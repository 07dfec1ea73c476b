//! Real daemons that report over BMP to the relay: what stations have of each of their RIBs is what the daemon says is in it, whenever
//! a station comes and whatever the daemon and its peer go through.

use std::time::Duration;

use lab::{
    peering::{DAEMON, Peering, Table},
    relayed::{Kind, Relayed, TABLE},
    rib::{IPV4, IPV6, LOC_RIB_PEER, Mirror, View},
    soak,
    station::Station,
    topology::STATION,
    trial::{FURTHER_PORTS, Plan, RELAY, further_sessions},
};

/// A daemon sends one message a route, and a full table several times in one test.
const LONG: Duration = Duration::from_secs(300);

/// The daemon's tables are those of its peer, and what each station has is the daemon's tables.
fn assert_same(daemon: &Relayed, table: &Table<'_>, stations: &mut [Mirror<'_>]) {
    for family in [IPV4, IPV6] {
        for (of, routes) in daemon.wait_tables(family, &table.routes(family)) {
            let routes = daemon.as_reported(routes);
            for station in &mut *stations {
                station.wait_view(of, &routes, LONG);
            }
        }
    }
}

/// Neither the peer is up nor does the Loc-RIB have routes.
fn wait_down(stations: &mut [Mirror<'_>]) {
    for station in stations {
        station.wait_for("Peer Down", LONG, |rib| {
            let is_gone = !rib.is_up(DAEMON.0) && rib.view(LOC_RIB_PEER, View::LocRib, IPV4).is_empty();
            is_gone.then_some(())
        });
    }
}

fn stations_have_what_the_daemon_has(kind: Kind) {
    let table = Table { ipv4: soak::times(20_000, 60_000), ipv6: soak::times(2_000, 40_000), ..TABLE };
    let sessions = further_sessions(2, "connect-retry 1 1");
    let trial = Plan { bmp: &sessions, ..Plan::default() }.start_up();
    let at = |number| Station::start(&trial.topology.station, (STATION, FURTHER_PORTS + number));
    let mut daemon = Relayed::start(kind, &trial.topology.router, RELAY);
    let mut bird = Peering::bird(&trial.topology.station, &table);
    let mut stations = vec![Mirror::of(&trial.station)];
    assert_same(&daemon, &table, &mut stations);

    // One that comes in the middle of changes.
    let mut paths = 0;
    let mut change = |bird: &mut Peering, less: usize| {
        paths += 1;
        let changed = Table { ipv4: table.ipv4 / less, ipv6: table.ipv6 / less, paths, ..table };
        bird.announce(&changed);
        changed
    };
    change(&mut bird, 1);
    let second = at(0);
    stations.push(Mirror::of(&second));
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

    // The daemon crashes while its routes change, and has fewer when it is back.
    change(&mut bird, 2);
    daemon.kill();
    wait_down(&mut stations);
    let last = change(&mut bird, 3);
    daemon.start_again();
    for station in &mut stations {
        station.wait_for("the peer again", LONG, |rib| rib.is_up(DAEMON.0).then_some(()));
    }
    // One that comes at the end, while what there is is told anew.
    let third = at(1);
    stations.push(Mirror::of(&third));
    assert_same(&daemon, &last, &mut stations);
    for station in [&trial.station, &second, &third] {
        assert_eq!(station.connections().len(), 1);
        station.wait_connection(0, "no end", |connection| connection.end.is_none());
    }
}

#[test]
fn stations_have_what_frr_has_through_changes_flaps_and_a_crash() {
    stations_have_what_the_daemon_has(Kind::Frr);
}

#[test]
fn stations_have_what_gobgp_has_through_changes_flaps_and_a_crash() {
    stations_have_what_the_daemon_has(Kind::Gobgp);
}
