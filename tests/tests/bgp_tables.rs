//! BGP peers that are real daemons: every station has the routes of their tables, whenever it
//! connects and whatever the daemons go through.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use lab::{
    bgp::prefixes,
    gobgp::{GOBGP, Gobgp},
    peering::{BMPD, DAEMON, DAEMON_V6, DaemonTable, Peering, bgp_view},
    rib::{AfiSafi, EVPN, IPV4, IPV6, NamedRoutes, PeerRib, RibMirror, VPNV4},
    soak,
    station::TestStation,
    topology::{STATION, Topology},
    trial::{FURTHER_PORTS, LabTrial, TrialPlan, further_sessions},
    wait::{PATIENCE, until},
};

/// Patience for several full tables in one test on a loaded machine.
const LONG: Duration = Duration::from_secs(120);

/// Starts bmpd with these peers and three sessions. The station of the first is up on return.
fn start(bgp: &str, topology: Topology) -> LabTrial {
    let system = bgp_view(bgp);
    let sessions = further_sessions(2, "connect-retry 1 1");
    let trial = TrialPlan { system: &system, bmp: &sessions, ..TrialPlan::default() }.start_on(topology);
    trial.bmpd.wait_up(STATION);
    trial
}

/// Returns lines of the bgp view: peers, and the families of each.
fn peers(peers: &[(IpAddr, u32, &[&str])]) -> String {
    let numbers = peers.iter().map(|(address, asn, _)| format!(" peer {address} as-number {asn}\n"));
    let families = peers.iter().flat_map(|(address, _, families)| {
        families.iter().map(move |family| format!(" {family}\n  peer {address} enable\n"))
    });
    numbers.chain(families).collect()
}

/// Starts the station of one more session.
fn station(trial: &LabTrial, number: u16) -> TestStation {
    TestStation::start(&trial.topology.station, (STATION, FURTHER_PORTS + number))
}

/// Waits until each station has these tables.
fn assert_have(stations: &mut [RibMirror<'_>], tables: &[(IpAddr, AfiSafi, NamedRoutes)]) {
    for (peer, family, routes) in tables {
        for station in &mut *stations {
            station.wait_view((*peer, PeerRib::PrePolicy, *family), routes, LONG);
        }
    }
}

/// Waits until these peers are down at each station.
fn wait_down(stations: &mut [RibMirror<'_>], peers: &[IpAddr]) {
    for station in stations {
        station.wait_for("Peer Down", LONG, |rib| (!peers.iter().any(|peer| rib.is_up(*peer))).then_some(()));
    }
}

/// Takes a daemon with these tables through changes, flaps and a crash, and checks the stations.
fn stations_have_what_the_daemon_has(trial: &LabTrial, mut daemon: Peering, table: &DaemonTable<'_>, peers: &[IpAddr]) {
    let mut stations = vec![RibMirror::of(&trial.station)];
    assert_have(&mut stations, &daemon.wait_tables(table));
    let all = daemon.withdraws_distinguished_routes();
    let of = |round: usize| {
        let less = |count: usize| count / (1 + round % 3);
        let (ipv4, ipv6) = (less(table.ipv4), less(table.ipv6));
        let (vpnv4, evpn) = if all { (less(table.vpnv4), less(table.evpn)) } else { (table.vpnv4, table.evpn) };
        DaemonTable { ipv4, ipv6, vpnv4, evpn, paths: round, ..*table }
    };

    // The second station connects in the middle of changes.
    daemon.announce(&of(1));
    let second = station(trial, 0);
    stations.push(RibMirror::of(&second));
    let rounds = soak::times(4, 30);
    for round in 2..=rounds {
        daemon.announce(&of(round));
        if round % 4 == 0 {
            assert_have(&mut stations, &daemon.wait_tables(&of(round)));
        }
    }
    assert_have(&mut stations, &daemon.wait_tables(&of(rounds)));

    for _ in 0..soak::times(2, 20) {
        daemon.disable();
        wait_down(&mut stations, peers);
        daemon.enable();
        assert_have(&mut stations, &daemon.wait_tables(&of(rounds)));
    }

    // The daemon crashes while its routes change, and comes back with others.
    daemon.announce(&of(1));
    daemon.kill();
    daemon.start_again(Some(&of(3)));
    // The third station connects at the end, while the table arrives.
    let third = station(trial, 1);
    stations.push(RibMirror::of(&third));
    assert_have(&mut stations, &daemon.wait_tables(&of(3)));
    for station in [&trial.station, &second, &third] {
        station.wait_connection(0, "an open end", |connection| connection.end.is_none());
        assert_eq!(station.connections().len(), 1);
    }
}

#[test]
fn stations_have_frrs_table_through_changes_flaps_and_a_crash() {
    let routes = soak::times(20_000, 100_000);
    let table = DaemonTable { ipv4: routes, ipv6: routes / 2, vpnv4: 200, evpn: 200, ..DaemonTable::default() };
    let (address, asn) = DAEMON;
    let families = ["ipv4-family unicast", "ipv4-family vpnv4", "l2vpn-family evpn"];
    let peers = peers(&[(address, asn, &families), (DAEMON_V6, asn, &["ipv6-family unicast"])]);
    let trial = start(&peers, Topology::new());
    let frr = Peering::frr(&trial.topology.station, &table);
    stations_have_what_the_daemon_has(&trial, frr, &table, &[address, DAEMON_V6]);
}

#[test]
fn stations_have_birds_table_through_changes_flaps_and_a_crash() {
    let routes = soak::times(20_000, 100_000);
    let table = DaemonTable { ipv4: routes, ipv6: routes / 2, vpnv4: 200, ..DaemonTable::default() };
    let (address, asn) = DAEMON;
    let families = ["ipv4-family unicast", "ipv6-family unicast", "ipv4-family vpnv4"];
    let trial = start(&peers(&[(address, asn, &families)]), Topology::new());
    let bird = Peering::bird(&trial.topology.station, &table);
    stations_have_what_the_daemon_has(&trial, bird, &table, &[address]);
}

/// Returns GoBGP's table of each family, as it announces the routes.
fn tables(gobgp: &Gobgp) -> Vec<(IpAddr, AfiSafi, NamedRoutes)> {
    let (own, asn) = GOBGP;
    let announced = |family| {
        let mut routes = gobgp.table(family);
        for route in routes.values_mut() {
            route.as_path.insert(0, asn);
            // GoBGP keeps the next hop of IPv6 routes, and is itself the next hop of others.
            if family != IPV6 {
                route.next_hop = Some(own.into());
            }
        }
        (own.into(), family, routes)
    };
    [IPV4, IPV6, VPNV4, EVPN].map(announced).into()
}

/// Adds `count` routes of each family that GoBGP's peer does not announce.
fn add(gobgp: &Gobgp, count: usize) {
    for number in 1..=count {
        gobgp.add(&format!("-a ipv6 2001:db8:{number:x}::/48 nexthop 2001:db8::1"));
        gobgp.add(&format!("-a vpnv4 10.9.{number}.0/24 label 100 rd 65003:7 rt 65003:7"));
        gobgp.add(&format!(
            "-a evpn macadv 02:00:00:00:00:{number:02x} 10.8.0.{number} etag 9 label 5000 rd 65003:7 rt 65003:7 encap vxlan"
        ));
    }
}

/// Waits until GoBGP has `ipv4` routes of its peer and `others` of each other family.
fn wait_table(gobgp: &Gobgp, ipv4: usize, others: usize) -> Vec<(IpAddr, AfiSafi, NamedRoutes)> {
    until(&format!("GoBGP has {ipv4} and {others} routes"), 3 * PATIENCE, || {
        let tables = tables(gobgp);
        let counts: Vec<_> = tables.iter().map(|(.., routes)| routes.len()).collect();
        (counts == [ipv4, others, others, others]).then_some(tables)
    })
}

#[test]
fn stations_have_the_table_of_a_distant_gobgp_through_flaps_and_a_crash() {
    let topology = Topology::new();
    let (own, asn) = (IpAddr::from(GOBGP.0), GOBGP.1);
    topology.router.ip(&format!("route add {own}/32 via 192.0.2.2 dev up1"));
    let nobody = (Ipv4Addr::LOCALHOST, 9).into();
    let mut gobgp = Gobgp::with_neighbour(&topology.station, nobody, Some(BMPD));
    let routes = prefixes(soak::times(20_000, 100_000));
    gobgp.announce(&routes);
    add(&gobgp, 20);
    let families = ["ipv4-family unicast", "ipv6-family unicast", "ipv4-family vpnv4", "l2vpn-family evpn"];
    let trial = start(&peers(&[(own, asn, &families)]), topology);
    let mut stations = vec![RibMirror::of(&trial.station)];
    assert_have(&mut stations, &wait_table(&gobgp, routes.len(), 20));

    // The second station connects in the middle of changes: one table goes, another comes.
    gobgp.announce(&routes[routes.len() / 2..]);
    let second = station(&trial, 0);
    stations.push(RibMirror::of(&second));
    for round in 0..soak::times(2, 10) {
        gobgp.announce(&routes[..routes.len() / (2 + round)]);
    }
    gobgp.announce(&routes[..routes.len() / 2]);
    gobgp.delete("-a vpnv4 10.9.1.0/24 label 100 rd 65003:7");
    gobgp.add("-a vpnv4 10.9.99.0/24 label 100 rd 65003:7 rt 65003:7");
    assert_have(&mut stations, &wait_table(&gobgp, routes.len() / 2, 20));

    for _ in 0..soak::times(1, 10) {
        gobgp.neighbour(BMPD.0, "disable");
        wait_down(&mut stations, &[own]);
        gobgp.neighbour(BMPD.0, "enable");
        assert_have(&mut stations, &wait_table(&gobgp, routes.len() / 2, 20));
    }

    gobgp.kill();
    wait_down(&mut stations, &[own]);
    gobgp.start_again();
    gobgp.announce(&routes);
    // The third station connects at the end, while the table arrives.
    let third = station(&trial, 1);
    stations.push(RibMirror::of(&third));
    add(&gobgp, 5);
    assert_have(&mut stations, &wait_table(&gobgp, routes.len(), 5));
}
