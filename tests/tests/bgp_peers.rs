//! Real daemons as BGP peers: what a station is told is what is in their tables, through restarts, flaps and churn.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use lab::{
    bgp::prefixes,
    bmp,
    gobgp::{GOBGP, Gobgp},
    peering::{BMPD, DAEMON, DAEMON_V6, Peering, Table},
    rib::{EVPN, Family, IPV4, IPV6, Rib, VPNV4},
    soak,
    station::Connection,
    topology::{LOOPBACK, Topology},
    trial::{Plan, Trial},
    wait::{PATIENCE, until},
};

/// bmpd with these peers in its bgp view.
fn start(bgp: &str, topology: Topology) -> Trial {
    let system = format!("bgp {}\n router-id 10.7.0.1\n listen-port 179\n{bgp}", BMPD.1);
    Plan { system: &system, ..Plan::default() }.start_on(topology)
}

/// The daemon with both families in one session.
fn both_families() -> String {
    let (peer, asn) = DAEMON;
    format!(
        " peer {peer} as-number {asn}\n ipv4-family unicast\n  peer {peer} enable\n ipv6-family unicast\n  peer {peer} enable\n"
    )
}

/// Waits until the newest connection of the station has exactly these routes.
fn wait_routes(trial: &Trial, peer: IpAddr, family: Family, wanted: &BTreeSet<String>) -> Connection {
    let mut last = 0;
    until(&format!("{} routes of {peer} in {family:?} at the station", wanted.len()), 3 * PATIENCE, || {
        let connections = trial.station.connections();
        let newest = connections.last()?;
        // Reading all of it again takes time.
        if std::mem::replace(&mut last, newest.frames.len()) == newest.frames.len() {
            std::thread::sleep(Duration::from_millis(50));
        }
        (Rib::of(newest).routes(peer, family) == *wanted).then(|| newest.clone())
    })
}

fn set(routes: Vec<String>) -> BTreeSet<String> {
    routes.into_iter().collect()
}

#[test]
fn frr_is_told_with_all_its_routes_and_again_after_it_was_killed() {
    let routes = soak::times(20_000, 60_000);
    let table = Table { ipv4: routes, ipv6: routes, vpnv4: 200, ..Table::default() };
    let (peer, asn) = DAEMON;
    let trial = start(
        &format!(
            " peer {peer} as-number {asn}\n peer {DAEMON_V6} as-number {asn}\n ipv4-family unicast\n  peer {peer} enable\n \
             ipv6-family unicast\n  peer {DAEMON_V6} enable\n ipv4-family vpnv4\n  peer {peer} enable\n"
        ),
        Topology::new(),
    );
    let mut frr = Peering::frr(&trial.topology.station, &table);
    let of = |frr: &Peering| {
        [(peer, IPV4, routes), (DAEMON_V6, IPV6, routes), (peer, VPNV4, 200)]
            .map(|(peer, family, count)| (peer, family, frr.wait_rib(family, count)))
    };
    let tables = of(&frr);
    assert_eq!(tables[0].2, set(table.ipv4()));
    for (peer, family, rib) in &tables {
        wait_routes(&trial, *peer, *family, rib);
    }
    // A station that comes late.
    trial.station.close();
    trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    for (peer, family, rib) in &tables {
        wait_routes(&trial, *peer, *family, rib);
    }
    frr.kill();
    until("FRR is down at the station", PATIENCE, || {
        let rib = Rib::of(trial.station.connections().last()?);
        (!rib.is_up(peer) && !rib.is_up(DAEMON_V6)).then_some(())
    });
    frr.start_again(None);
    for (peer, family, rib) in of(&frr) {
        wait_routes(&trial, peer, family, &rib);
    }
}

#[test]
fn bird_flaps_and_churns_and_the_station_has_what_it_has() {
    let routes = soak::times(2_000, 20_000);
    let table = Table { ipv4: routes, ipv6: routes, ..Table::default() };
    let trial = start(&both_families(), Topology::new());
    let bird = Peering::bird(&trial.topology.station, &table);
    let same = |table: &Table<'_>| {
        for (family, wanted) in [(IPV4, set(table.ipv4())), (IPV6, set(table.ipv6()))] {
            assert_eq!(bird.wait_rib(family, wanted.len()), wanted);
            wait_routes(&trial, DAEMON.0, family, &wanted);
        }
    };
    same(&table);
    for _ in 0..soak::times(2, 20) {
        bird.birdc("disable bmpd");
        until("BIRD is down", PATIENCE, || {
            (!Rib::of(trial.station.connections().last()?).is_up(DAEMON.0)).then_some(())
        });
        bird.birdc("enable bmpd");
        same(&table);
    }
    for round in 1..=soak::times(4, 40) {
        let churned = Table { ipv4: routes / (1 + round % 3), ipv6: routes / (1 + (round + 1) % 3), ..table };
        bird.announce(&churned);
        same(&churned);
    }
    // All that in two lives more than one, and none in between.
    let newest = trial.station.connections().pop().unwrap();
    assert_eq!(newest.count(bmp::PEER_UP), 1 + soak::times(2, 20));
}

#[test]
fn routes_of_bird_stay_while_it_restarts_and_what_it_has_no_more_goes_then() {
    let table = Table { ipv4: 2_000, ipv6: 500, ..Table::default() };
    let trial = start(&both_families(), Topology::new());
    let mut bird = Peering::bird(&trial.topology.station, &table);
    wait_routes(&trial, DAEMON.0, IPV4, &set(table.ipv4()));
    wait_routes(&trial, DAEMON.0, IPV6, &set(table.ipv6()));
    bird.kill();
    trial.bmpd.wait_for_log("the restart", |line| line.contains("it may be restarting"));
    std::thread::sleep(Duration::from_secs(1));
    let connection = trial.station.connections().pop().unwrap();
    assert!(!connection.has(bmp::PEER_DOWN));
    assert_eq!(Rib::of(&connection).routes(DAEMON.0, IPV4).len(), 2_000);
    let smaller = Table { ipv4: 1_000, ..table };
    bird.start_again(Some(&smaller));
    trial.bmpd.wait_for_log("it is back", |line| line.contains("back from its restart: 2500 routes stay"));
    wait_routes(&trial, DAEMON.0, IPV4, &set(smaller.ipv4()));
    wait_routes(&trial, DAEMON.0, IPV6, &set(table.ipv6()));
}

#[test]
fn gobgp_is_told_with_its_ipv4_ipv6_vpn_and_evpn_routes_from_beyond_the_link() {
    let topology = Topology::new();
    let (own, asn) = (IpAddr::from(GOBGP.0), GOBGP.1);
    topology.router.ip(&format!("route add {own}/32 via 192.0.2.2 dev up1"));
    let nobody = (Ipv4Addr::LOCALHOST, 9).into();
    let mut gobgp = Gobgp::with_neighbour(&topology.station, nobody, Some(BMPD));
    let table = prefixes(soak::times(20_000, 60_000));
    gobgp.announce(&table);
    for number in 1..=20 {
        gobgp.add(&format!("-a ipv6 2001:db8:{number:x}::/48 nexthop 2001:db8::1"));
        gobgp.add(&format!("-a vpnv4 10.9.{number}.0/24 label 100 rd 65003:7 rt 65003:7"));
        gobgp.add(&format!(
            "-a evpn macadv 02:00:00:00:00:{number:02x} 10.8.0.{number} etag 9 label 5000 rd 65003:7 rt 65003:7 encap vxlan"
        ));
    }
    let families = ["ipv4-family unicast", "ipv6-family unicast", "ipv4-family vpnv4", "l2vpn-family evpn"]
        .map(|family| format!(" {family}\n  peer {own} enable\n"));
    let trial = start(&format!(" peer {own} as-number {asn}\n{}", families.concat()), topology);
    wait_routes(&trial, own, IPV4, &gobgp.table("ipv4"));
    wait_routes(&trial, own, IPV6, &gobgp.table("ipv6"));
    let vpn = gobgp.table("vpnv4").iter().map(|route| route.replacen("65003:7:", "65003:7 ", 1)).collect();
    let connection = wait_routes(&trial, own, VPNV4, &vpn);
    assert_eq!((gobgp.table("ipv4").len(), vpn.len()), (table.len(), 20));
    // How EVPN routes are written is each program's own.
    assert_eq!((Rib::of(&connection).routes(own, EVPN).len(), gobgp.table("evpn").len()), (20, 20));
}

#[test]
fn with_the_right_password_there_is_a_session_and_with_a_wrong_one_there_is_none() {
    let table = Table { ipv4: 10, ipv6: 10, password: Some("correct-horse"), passive: true, ..Table::default() };
    let with = |password: &str| {
        format!(" peer {} password {password}\n{}", DAEMON.0, both_families()).replacen(
            &format!(" peer {} password", DAEMON.0),
            &format!(" peer {} as-number {}\n peer {} password", DAEMON.0, DAEMON.1, DAEMON.0),
            1,
        )
    };
    let trial = start(&with("battery-staple"), Topology::new());
    let bird = Peering::bird(&trial.topology.station, &table);
    std::thread::sleep(Duration::from_secs(3));
    assert!(!trial.station.connections().pop().unwrap().has(bmp::PEER_UP));
    let system = format!("bgp {}\n router-id 10.7.0.1\n listen-port 179\n{}", BMPD.1, with("correct-horse"));
    trial.bmpd.reload(&Plan { system: &system, ..Plan::default() }.configuration());
    wait_routes(&trial, DAEMON.0, IPV4, &bird.rib(IPV4));
}

#[test]
fn a_session_comes_from_the_connect_interface_of_its_peer_whoever_opens_it() {
    for passive in [true, false] {
        let table = Table { ipv4: 10, ipv6: 10, passive, from: Some(LOOPBACK), ..Table::default() };
        let (peer, asn) = DAEMON;
        let listen_only = if passive { String::new() } else { format!(" peer {peer} listen-only\n") };
        let bgp = format!(" peer {peer} as-number {asn}\n{listen_only} peer {peer} connect-interface lo {LOOPBACK}\n");
        let trial = start(&format!("{bgp}{}", both_families()), Topology::new());
        let _bird = Peering::bird(&trial.topology.station, &table);
        let connection = wait_routes(&trial, peer, IPV4, &set(table.ipv4()));
        let up = connection.frames.iter().find(|frame| frame.kind() == bmp::PEER_UP).unwrap();
        assert_eq!(up.body()[12..16], [203, 0, 113, 1], "the local address of the Peer Up");
    }
}

#[test]
fn a_peer_that_only_may_connect_does_so_with_a_password_too() {
    let table = Table { ipv4: 10, ipv6: 10, password: Some("correct-horse"), ..Table::default() };
    let (peer, asn) = DAEMON;
    let trial = start(
        &format!(
            " peer {peer} as-number {asn}\n peer {peer} listen-only\n peer {peer} password correct-horse\n{}",
            both_families()
        ),
        Topology::new(),
    );
    let bird = Peering::bird(&trial.topology.station, &table);
    wait_routes(&trial, peer, IPV4, &bird.rib(IPV4));
    assert!(!trial.bmpd.log().iter().any(|line| line.contains("cannot connect")), "it is not called");
}

#[test]
fn a_peer_that_is_removed_is_down_for_that_reason_and_the_others_are_left_alone() {
    let trial = start(&both_families(), Topology::new());
    let table = Table { ipv4: 10, ipv6: 10, ..Table::default() };
    let _bird = Peering::bird(&trial.topology.station, &table);
    wait_routes(&trial, DAEMON.0, IPV4, &set(table.ipv4()));
    let configuration = |bgp: &str| {
        let system = format!("bgp {}\n router-id 10.7.0.1\n listen-port 179\n{bgp}", BMPD.1);
        Plan { system: &system, ..Plan::default() }.configuration()
    };
    // Another peer changes nothing for this one.
    trial.bmpd.reload(&configuration(&format!(" peer 10.9.9.9 as-number 65009\n{}", both_families())));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!trial.station.connections().pop().unwrap().has(bmp::PEER_DOWN));
    trial.bmpd.reload(&configuration(" peer 10.9.9.9 as-number 65009\n"));
    let connection = trial.station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    let down = connection.frames.iter().find(|frame| frame.kind() == bmp::PEER_DOWN).unwrap();
    assert_eq!(down.body()[0], 5);
}
