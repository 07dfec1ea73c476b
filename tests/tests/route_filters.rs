//! Filters of routes, from the configuration to a station that builds the tables of its peers.

use std::{collections::BTreeSet, net::Ipv4Addr};

use bmp_fuzz::station::Replica;
use lab::{
    bgp::{self, Ipv4Prefix},
    bmp::{self, ReportedPeer},
    feeder::BmpFeeder,
    station::RecordedConnection,
    topology::STATION,
    trial::{LabTrial, RELAY, TrialPlan},
};

const PEER: ReportedPeer =
    ReportedPeer { address: Ipv4Addr::new(10, 255, 0, 2), asn: 65001, router_id: Ipv4Addr::new(10, 255, 0, 2) };

/// Lists and filters, in the system view.
const FILTERS: &str = "ip-prefix low index 10 deny 10.0.2.0/24
ip-prefix low index 20 permit 10.0.0.0/22 le 24
route-filter low
 rule 10 permit ip-prefix low
route-filter marked
 rule 10 deny ipv6-family unicast
 rule 20 permit community 65001:*
route-filter of-origin
 rule 5 permit as-path origin 65002
";

/// Builds an UPDATE with routes of an AS and a community of 65001.
fn update(routes: &[Ipv4Prefix], asn: u32, community: u16) -> Vec<u8> {
    let [high, low] = community.to_be_bytes();
    let update = bgp::announce_with(routes, asn, PEER.address, &[0xc0, 8, 4, 0xfd, 0xe9, high, low]);
    bmp::route_monitoring(&PEER, bmp::PRE_POLICY, &update)
}

/// Feeds 10.0.0.0/24 to 10.0.7.0/24. The first four have a community, and the last two come from
/// AS 65002.
fn feed(trial: &LabTrial) -> BmpFeeder {
    let mut feeder = BmpFeeder::with_peer(&trial.topology.router, RELAY, &PEER);
    let routes = bgp::prefixes(8);
    // Three prefixes can be read in one way alone.
    feeder.send(update(&routes[..3], 65001, 7));
    feeder.send(update(&routes[3..4], 65001, 7));
    feeder.send(bmp::route_monitoring(&PEER, bmp::PRE_POLICY, &bgp::announce(&routes[4..6], 65001, PEER.address)));
    feeder.send(bmp::route_monitoring(&PEER, bmp::PRE_POLICY, &bgp::announce(&routes[6..], 65002, PEER.address)));
    feeder.send(bmp::route_monitoring(&PEER, bmp::PRE_POLICY, &bgp::end_of_rib()));
    feeder
}

/// The third octets of the prefixes that a station has.
fn has(connection: &RecordedConnection) -> BTreeSet<u8> {
    let mut has = BTreeSet::new();
    for (_, peer) in Replica::of(&connection.feed().concat()).knows() {
        for routes in peer.ribs.values() {
            has.extend(routes.values().map(|route| route.nlri[3]));
        }
    }
    has
}

#[test]
fn a_station_has_exactly_the_routes_that_its_filter_permits_after_every_commit() {
    let trial = TrialPlan { system: FILTERS, ..TrialPlan::default() }.start_up();
    let mut feeder = feed(&trial);
    let ends_with = |what: &str, expected: &[u8]| {
        let expected: BTreeSet<u8> = expected.iter().copied().collect();
        trial.station.wait_connection(0, what, |connection| has(connection) == expected);
    };
    ends_with("everything", &[0, 1, 2, 3, 4, 5, 6, 7]);
    for (lines, expected) in [
        ("monitor public\nroute-filter low", &[0, 1, 3][..]),
        ("monitor public\nroute-filter marked", &[0, 1, 2, 3]),
        ("monitor public\nroute-filter of-origin", &[6, 7]),
        ("monitor public\nroute-filter none", &[]),
        ("route-filter none\nrule 1 permit ip-prefix low", &[0, 1, 3]),
        ("ip-prefix low index 10 permit 10.0.2.0/24", &[0, 1, 2, 3]),
        ("monitor relay lab\nroute-filter of-origin", &[0, 1, 2, 3, 6, 7]),
        ("undo monitor relay lab", &[0, 1, 2, 3]),
        ("route-filter none\nundo rule 1", &[]),
        ("monitor public\nundo route-filter", &[0, 1, 2, 3, 4, 5, 6, 7]),
    ] {
        trial.bmpd.commit(STATION, lines);
        ends_with(lines, expected);
    }
    assert_eq!(trial.station.connections().len(), 1);
    let connection = &trial.station.connections()[0];
    assert_eq!(connection.count(bmp::PEER_UP), 1);
    assert_eq!(connection.count(bmp::PEER_DOWN), 0);
    feeder.announce(&PEER, &bgp::prefixes(9)[8..], 1);
    ends_with("a route that comes later", &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_filtered_station_is_told_the_changes_that_its_filter_permits_and_no_other_frame() {
    let session = "monitor public\nroute-filter marked\nquit";
    let trial = TrialPlan { system: FILTERS, session, ..TrialPlan::default() }.start_up();
    let mut feeder = feed(&trial);
    let routes = bgp::prefixes(9);
    let ends_with = |what: &str, expected: &[u8]| {
        let expected: BTreeSet<u8> = expected.iter().copied().collect();
        trial.station.wait_connection(0, what, |connection| has(connection) == expected);
    };
    ends_with("the marked routes", &[0, 1, 2, 3]);
    let frames = || trial.station.connections()[0].count(bmp::ROUTE_MONITORING);
    let has_end = |connection: &RecordedConnection| {
        let known = Replica::of(&connection.feed().concat()).knows();
        known.values().any(|peer| !peer.ends.is_empty())
    };
    trial.station.wait_connection(0, "End-of-RIB", has_end);
    let before = frames();
    // Denied before and after, and withdrawn: nothing to tell.
    for message in [bgp::announce(&routes[4..5], 65009, PEER.address), bgp::withdraw(&routes[4..6])] {
        feeder.send(bmp::route_monitoring(&PEER, bmp::PRE_POLICY, &message));
    }
    // One route loses its community, and one gets it.
    feeder.send(bmp::route_monitoring(&PEER, bmp::PRE_POLICY, &bgp::announce(&routes[2..3], 65001, PEER.address)));
    feeder.send(update(&routes[6..7], 65002, 9));
    ends_with("what has changed", &[0, 1, 3, 6]);
    assert_eq!(frames() - before, 2, "one withdrawal and one announcement");
    let (accepted, warnings) = trial.bmpd.typed("display current-configuration route-filter marked\n");
    assert!(accepted && warnings.contains(" rule 20 permit community 65001:*"), "{warnings}");
}
