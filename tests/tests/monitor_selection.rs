//! The selection of `monitor` and `route-mode`, from the configuration to the station. After each
//! commit, the station has exactly this selection, over its first connection.

use std::{collections::BTreeMap, net::Ipv4Addr};

use bmp_fuzz::station::Replica;
use bmp_user::wire::bmp::PeerType;
use lab::{
    bgp::{self, prefixes},
    bmp::{self, ReportedPeer},
    feeder::BmpFeeder,
    station::RecordedConnection,
    topology::STATION,
    trial::{LabTrial, RELAY, TrialPlan},
};

/// The number of routes at a station, by peer and RIB.
type Has = BTreeMap<(String, String), usize>;

const RD: [u8; 8] = [0, 0, 0xfd, 0xe8, 0, 0, 0, 1];
const TABLE: &[u8] = b"red";

/// Changes a message to another peer type (RFC 7854 §4.2, RFC 9069 §4.1).
fn of_kind(mut message: Vec<u8>, kind: PeerType, distinguisher: [u8; 8]) -> Vec<u8> {
    message[6] = kind.0;
    message[8..16].copy_from_slice(&distinguisher);
    message
}

/// Adds a TLV with the name of a VRF or table to a Peer Up.
fn with_table(mut up: Vec<u8>) -> Vec<u8> {
    up.extend([0, 3, 0, TABLE.len() as u8]);
    up.extend(TABLE);
    let length = up.len() as u32;
    up[1..5].copy_from_slice(&length.to_be_bytes());
    up
}

/// Builds an UPDATE with one IPv6 route (RFC 4760 §3).
fn ipv6() -> Vec<u8> {
    let mut reach = vec![0x80, 14, 26, 0, 2, 1, 16];
    reach.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 32, 0x20, 1, 0xd, 0xb8]);
    let attributes = [&[0x40, 1, 1, 0][..], &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9], &reach].concat();
    bgp::update(&attributes, &[])
}

const fn peer(last: u8) -> ReportedPeer {
    let address = Ipv4Addr::new(10, 255, 0, last);
    ReportedPeer { address, asn: 65001, router_id: address }
}

/// Feeds a peer without a VPN instance and with every RIB, another peer, one in a VPN instance, and
/// a Loc-RIB.
fn feed(trial: &LabTrial) -> BmpFeeder {
    let mut feeder = BmpFeeder::with_peer(&trial.topology.router, RELAY, &peer(2));
    for (flags, routes) in
        [(bmp::PRE_POLICY, 1), (bmp::POST_POLICY, 2), (bmp::ADJ_RIB_OUT, 3), (bmp::ADJ_RIB_OUT | bmp::POST_POLICY, 4)]
    {
        let update = bgp::announce(&prefixes(routes), 65001, Ipv4Addr::new(10, 255, 0, 2));
        feeder.send(bmp::route_monitoring(&peer(2), flags, &update));
    }
    feeder.send(bmp::route_monitoring(&peer(2), bmp::PRE_POLICY, &ipv6()));
    feeder.send(bmp::peer_up(&peer(3)));
    feeder.announce(&peer(3), &prefixes(5), 5);
    let in_vpn = |message| of_kind(message, PeerType::RD, RD);
    feeder.send(with_table(in_vpn(bmp::peer_up(&peer(4)))));
    feeder.send(in_vpn(bmp::announcements(&peer(4), &prefixes(6), 6).remove(0)));
    let nobody = ReportedPeer { address: Ipv4Addr::UNSPECIFIED, ..peer(1) };
    let loc_rib = |message| of_kind(message, PeerType::LOC_RIB, [0; 8]);
    feeder.send(loc_rib(bmp::peer_up(&nobody)));
    feeder.send(loc_rib(bmp::announcements(&nobody, &prefixes(7), 7).remove(0)));
    feeder
}

fn has(connection: &RecordedConnection) -> Has {
    let mut has = Has::new();
    for (key, peer) in Replica::of(&connection.feed().concat()).knows() {
        let [.., last] = key.key.address;
        for ((view, family), routes) in &peer.ribs {
            let name = format!("{family} {view:?}");
            has.insert((format!("{} {last}", key.key.peer_type.0), name), routes.len());
        }
    }
    has
}

fn of(ribs: &[(&str, &str, usize)]) -> Has {
    let named = ribs.iter().map(|(peer, rib, routes)| {
        let (family, view) = rib.rsplit_once(' ').expect("family and view");
        ((peer.to_string(), format!("{family} unicast {view}")), *routes)
    });
    named.collect()
}

const TWO: &[(&str, &str, usize)] = &[
    ("0 2", "IPv4 AdjRibInPre", 1),
    ("0 2", "IPv4 AdjRibInPost", 2),
    ("0 2", "IPv4 AdjRibOutPre", 3),
    ("0 2", "IPv4 AdjRibOutPost", 4),
    ("0 2", "IPv6 AdjRibInPre", 1),
];
const THREE: (&str, &str, usize) = ("0 3", "IPv4 AdjRibInPre", 5);
const IN_VPN: (&str, &str, usize) = ("1 4", "IPv4 AdjRibInPre", 6);
const LOC_RIB: (&str, &str, usize) = ("3 0", "IPv4 LocRib", 7);

#[test]
fn after_every_commit_a_station_has_exactly_the_selection() {
    let trial = TrialPlan::default().start_up();
    let _feeder = feed(&trial);
    let everything = [TWO, &[THREE, IN_VPN, LOC_RIB]].concat();
    let ends_with = |what: &str, expected: &[(&str, &str, usize)]| {
        let expected = of(expected);
        trial.station.wait_connection(0, what, |connection| has(connection) == expected);
    };
    ends_with("everything", &everything);
    let public = [TWO, &[THREE, LOC_RIB]].concat();
    let only = |view: &str| TWO.iter().copied().filter(|(_, rib, _)| *rib == view).collect::<Vec<_>>();
    let mut monitored = String::new();
    for (monitor, modes, expected) in [
        ("public", "", public.clone()),
        ("all-vpn-instance", "", vec![IN_VPN]),
        ("vpn-instance red", "", vec![IN_VPN]),
        ("vpn-instance 65000:1", "", vec![IN_VPN]),
        ("vpn-instance blue", "", vec![]),
        ("vpn-instance red peer 10.255.0.4", "", vec![IN_VPN]),
        ("vpn-instance red peer 10.255.0.2", "", vec![]),
        ("peer 10.255.0.2", "", TWO.to_vec()),
        ("peer 10.255.0.4", "", vec![]),
        ("relay lab", "", everything.clone()),
        ("relay other", "", vec![]),
        ("mrt-replay lab", "", vec![]),
        ("bgp", "", vec![]),
        ("public", "route-mode ipv4-family unicast adj-rib-in pre-policy", vec![TWO[0], THREE]),
        ("public", "route-mode ipv4-family unicast adj-rib-in post-policy", only("IPv4 AdjRibInPost")),
        ("public", "route-mode ipv4-family unicast adj-rib-out pre-policy", only("IPv4 AdjRibOutPre")),
        ("public", "route-mode ipv4-family unicast adj-rib-out post-policy", only("IPv4 AdjRibOutPost")),
        ("public", "route-mode ipv4-family unicast local-rib", vec![LOC_RIB]),
        ("public", "route-mode ipv6-family unicast adj-rib-in pre-policy", only("IPv6 AdjRibInPre")),
        ("public", "route-mode ipv6-family unicast local-rib", vec![]),
    ] {
        let undo = if monitored.is_empty() { String::new() } else { format!("undo monitor {monitored}\n") };
        trial.bmpd.commit(STATION, &format!("{undo}monitor {monitor}\n{modes}"));
        ends_with(&format!("monitor {monitor} {modes}"), &expected);
        monitored = monitor.to_owned();
    }
    trial.bmpd.commit(STATION, &format!("undo monitor {monitored}"));
    ends_with("everything again", &everything);
    assert_eq!(trial.station.connections().len(), 1);
}

#[test]
fn several_monitors_add_up_and_each_session_has_its_own() {
    let other = "monitor vpn-instance red\n quit\n monitor peer 10.255.0.3\n quit";
    let bmp = lab::trial::further_sessions(1, other);
    let trial = TrialPlan { bmp: &bmp, session: "monitor relay other", ..TrialPlan::default() }.start_up();
    let station = lab::station::TestStation::start(&trial.topology.station, (STATION, lab::trial::FURTHER_PORTS));
    let _feeder = feed(&trial);
    station.wait_connection(0, "what two monitors select", |connection| has(connection) == of(&[THREE, IN_VPN]));
    assert_eq!(has(&trial.station.connections()[0]), Has::new());
    let (accepted, shown) = trial.bmpd.typed("display bgp bmp-monitor all\n");
    assert!(accepted, "{shown}");
    let is_sent = |peer: &str, rib: &str| {
        let line = shown.lines().find(|line| line.contains(peer) && line.contains(rib)).expect("the RIB has a line");
        line.contains("(s0)")
    };
    assert!(is_sent("10.255.0.3", "pre-policy") && is_sent("10.255.0.4", "pre-policy"), "{shown}");
    assert!(!is_sent("10.255.0.2", "adj-rib-in pre-policy"), "{shown}");
}

#[test]
fn with_monitor_mirrored_messages_need_route_mirroring() {
    let trial = TrialPlan::default().start_up();
    let mut feeder = BmpFeeder::with_peer(&trial.topology.router, RELAY, &peer(2));
    let mirrored = |value: u8| {
        bmp::message(bmp::ROUTE_MIRRORING, &[&bmp::peer_up(&peer(2))[6..48], &[0, 1, 0, 2, 0, value]].concat())
    };
    let mut marker = 0;
    let mut passes = |feeder: &mut BmpFeeder, value: u8| {
        let before = trial.station.connections()[0].count(bmp::ROUTE_MIRRORING);
        feeder.send(mirrored(value));
        marker += 1;
        feeder.announce(&peer(2), &prefixes(marker)[marker - 1..], 1);
        let connection = trial.station.wait_connection(0, "what came behind it", |c| c.announced() == marker);
        connection.count(bmp::ROUTE_MIRRORING) - before
    };
    assert_eq!(passes(&mut feeder, 0), 1);
    trial.bmpd.commit(STATION, "monitor public");
    assert_eq!(passes(&mut feeder, 1), 0);
    trial.bmpd.commit(STATION, "route-mirroring");
    assert_eq!(passes(&mut feeder, 0), 1);
}
