//! The feed, relays, replays and the peers that they bring.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use super::{
    super::{
        super::words::{PeerTypeName, ViewName},
        feed::{FeedLimits, FeedMemory, FeedReport, JournalReport, MemoryState, RibTotals},
        monitored::{MonitoredPeer, MonitoredRib, MonitoringSession, RibName},
        refused::RefusedPeer,
        relay::{
            DaemonConnection, HeldDaemon, IncompletePeer, LimitName, LimitedDaemon, ListenState, ReceivedMessages,
            RefusedConnections, RelayReport, RelayReports,
        },
        replay::{PaceReport, PassedOverRecords, ReplayReport, ReplayReports, ReplayStage, UpdateErrors},
        routeless::RoutelessPeer,
    },
    PEER, ROUTER_ID, SOURCE, STATION, outside, text,
};
use crate::{
    config::ReplayPace,
    escape::Untrusted,
    feed::TroubleKind,
    wire::{
        bgp::Family,
        bmp::{PeerType, RibView},
    },
};

/// The feed with routes.
pub(in crate::control::display) fn feed() -> FeedReport {
    FeedReport {
        peers: 2,
        ribs: 3,
        routes: 100,
        by_rib: vec![RibTotals {
            family: Family::IPV4_UNICAST,
            view: ViewName(RibView::AdjRibInPre),
            ribs: 2,
            routes: 100,
        }],
        attribute_sets: 5,
        withdrawals: 6,
        journal: JournalReport { tail: 7, head: 8, bytes: 2_000, limit: 16 << 20 },
        memory: FeedMemory {
            routes: 3_000,
            groups: 1_025,
            attribute_sets: 1,
            withdrawals: 0,
            journal: 2_000,
            in_use: 17 << 20,
            limit: Some(512 << 20),
            state: MemoryState::Within,
            closed: 2,
        },
        limits: FeedLimits {
            inputs: 3,
            most_inputs: 4_352,
            connections: 4,
            most_connections: 512,
            peers: 5,
            most_peers: 262_144,
            most_peers_of_connection: 16_384,
        },
        frames: 9,
        unannounced: 10,
        malformed: 11,
        mixed_path_ids: 12,
        malformed_attributes: 13,
        as_size: 14,
        incomplete: 15,
        unknown_family: 16,
        overflowed: 17,
    }
}

/// The feed without a limit of memory.
pub(in crate::control::display) fn unlimited_feed() -> FeedReport {
    let feed = feed();
    FeedReport { memory: FeedMemory { limit: None, closed: 0, ..feed.memory }, ..feed }
}

/// A relay with all that can befall one, and one that does not listen.
pub(in crate::control::display) fn relays() -> RelayReports {
    let refused = |peer_type, distinguisher, owner| RefusedPeer {
        address: PEER,
        peer_type,
        distinguisher,
        asn: 65_001,
        bgp_id: ROUTER_ID,
        owner,
        dropped: BTreeMap::from([("peer-up", 1), ("route-monitoring", 2)]),
    };
    let silent = |peer, heard| RoutelessPeer {
        peer,
        asn: 65_002,
        heard,
        hint: "no route is there: its table is empty".to_owned(),
    };
    RelayReports(vec![
        RelayReport {
            name: "frr".to_owned(),
            listen: Some(client(5000)),
            state: ListenState::Listening,
            why: None,
            connections: vec![
                DaemonConnection {
                    client: client(40002),
                    proxy: None,
                    uid: Some(107),
                    sys_name: outside("edge1"),
                    sys_descr: outside("FRRouting 8.4.4"),
                    messages: 12,
                    bytes: 3_456,
                    routes: 80,
                    unannounced: 2,
                    not_understood: BTreeMap::from([("malformed", 1), ("other-as-size", 2)]),
                    odd: BTreeMap::from([("short", 3)]),
                    refused_messages: 3,
                    refused_peers: [refused(0, text("65000:1"), Some(client(40003))), refused(3, None, None)]
                        .into_iter()
                        .chain((0..9).map(|_| refused(0, None, None)))
                        .collect(),
                },
                DaemonConnection {
                    client: client(40004),
                    proxy: Some((STATION, 40_010).into()),
                    uid: None,
                    sys_name: None,
                    sys_descr: None,
                    messages: 0,
                    bytes: 0,
                    routes: 0,
                    unannounced: 0,
                    not_understood: BTreeMap::new(),
                    odd: BTreeMap::new(),
                    refused_messages: 0,
                    refused_peers: Vec::new(),
                },
            ],
            received: ReceivedMessages {
                messages: 1_012,
                bytes: 203_456,
                unannounced: 12,
                not_understood: BTreeMap::from([("malformed", 11), ("other-as-size", 2)]),
                odd: BTreeMap::from([("short", 13)]),
                refused: 14,
            },
            allow: vec!["192.0.2.0/24".to_owned(), "2001:db8::/32".to_owned()],
            allow_users: vec!["1001".to_owned(), "bgp".to_owned(), "gone".to_owned()],
            allow_proxies: vec!["198.51.100.16/28".to_owned()],
            unknown_users: vec!["gone".to_owned()],
            hold_seconds: 30,
            end_of_rib_after_seconds: 10,
            max_connections: 7,
            max_connections_per_source: 3,
            maximum_routes: Some(100),
            maximum_routes_warning_only: true,
            closed_for_routes: 9,
            closed_for_memory: 1,
            limited: vec![
                LimitedDaemon {
                    client: client(40_008),
                    proxy: None,
                    uid: Some(1001),
                    cause: LimitName::MaximumRoutes,
                    routes: Some(101),
                    left_seconds: 290,
                },
                LimitedDaemon {
                    client: (PEER, 40_009).into(),
                    proxy: Some((STATION, 40_011).into()),
                    uid: None,
                    cause: LimitName::MemoryLimit,
                    routes: None,
                    left_seconds: 3,
                },
            ],
            held: vec![relay_held(40005, outside("edge2"), 12), relay_held(40006, None, 3)],
            held_peers: 4,
            refused: RefusedConnections {
                not_allowed: 5,
                user_not_allowed: 8,
                too_many: 6,
                proxy_header: 7,
                maximum_routes: 10,
                memory_limit: 11,
            },
            health_checks: 21,
            last_refused_user: outside("mallory"),
            peers_without_routes: vec![
                silent(PEER, true),
                silent(IpAddr::V4(Ipv4Addr::UNSPECIFIED), false),
                silent(SOURCE, false),
                silent(STATION, false),
                silent(STATION, false),
            ],
            incomplete_peers: vec![
                IncompletePeer {
                    peer: PEER,
                    asn: 65_003,
                    not_kept: BTreeMap::from([("IPv4 unicast adj-rib-in pre-policy".to_owned(), 8)]),
                },
                IncompletePeer { peer: PEER, asn: 65_004, not_kept: BTreeMap::new() },
            ],
            last_closed: outside("127.0.0.1:40007: the daemon closed the connection"),
        },
        RelayReport {
            name: "gobgp".to_owned(),
            listen: None,
            state: ListenState::NotConfigured,
            why: text("it takes nothing until it has `listen ADDRESS port N`"),
            connections: Vec::new(),
            received: ReceivedMessages::default(),
            allow: Vec::new(),
            allow_users: Vec::new(),
            allow_proxies: Vec::new(),
            unknown_users: Vec::new(),
            hold_seconds: 0,
            end_of_rib_after_seconds: 0,
            max_connections: 7,
            max_connections_per_source: 3,
            maximum_routes: None,
            maximum_routes_warning_only: false,
            closed_for_routes: 0,
            closed_for_memory: 0,
            limited: Vec::new(),
            held: Vec::new(),
            held_peers: 0,
            refused: RefusedConnections::default(),
            health_checks: 0,
            last_refused_user: None,
            peers_without_routes: Vec::new(),
            incomplete_peers: Vec::new(),
            last_closed: None,
        },
    ])
}

fn client(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn relay_held(port: u16, sys_name: Option<Untrusted>, left_seconds: u64) -> HeldDaemon {
    HeldDaemon {
        client: client(port),
        proxy: (left_seconds == 3).then_some((STATION, 40_012).into()),
        sys_name,
        left_seconds,
    }
}

/// A replay with errors, one that is done, and one without a file.
pub(in crate::control::display) fn replays() -> ReplayReports {
    ReplayReports(vec![
        ReplayReport {
            name: "archive".to_owned(),
            file: outside("/var/lib/mrt/updates.bz2"),
            pace: PaceReport(ReplayPace::UpdatesPerSecond(1000.try_into().unwrap())),
            looped: true,
            state: ReplayStage::Reading,
            why: None,
            rounds: 2,
            bytes_read: 500,
            file_bytes: Some(1_000),
            records: 33,
            file_records: Some(100),
            updates: 44,
            passed_over: vec![PassedOverRecords {
                what: "records of OSPFv2".to_owned(),
                records: 5,
                first_record: 6,
                first_at: 700,
                is_error: false,
            }],
            not_understood: 3,
            not_understood_by_kind: vec![
                UpdateErrors { kind: TroubleKind::Malformed, updates: 2, first_record: Some(8), first_at: Some(900) },
                UpdateErrors { kind: TroubleKind::AsSize, updates: 1, first_record: None, first_at: None },
            ],
            errors: 3,
            last_error: outside("record 8 at byte 900: an UPDATE: its routes cannot be told apart"),
        },
        ReplayReport {
            name: "done".to_owned(),
            file: outside("/var/lib/mrt/rib"),
            pace: PaceReport(ReplayPace::Maximum),
            looped: false,
            state: ReplayStage::Done,
            why: None,
            rounds: 1,
            bytes_read: 0,
            file_bytes: Some(0),
            records: 0,
            file_records: Some(0),
            updates: 0,
            passed_over: Vec::new(),
            not_understood: 0,
            not_understood_by_kind: Vec::new(),
            errors: 0,
            last_error: None,
        },
        ReplayReport {
            name: "none".to_owned(),
            file: None,
            pace: PaceReport(ReplayPace::Recorded),
            looped: false,
            state: ReplayStage::NotConfigured,
            why: text("it replays nothing until it has `file PATH`"),
            rounds: 0,
            bytes_read: 0,
            file_bytes: None,
            records: 0,
            file_records: None,
            updates: 0,
            passed_over: Vec::new(),
            not_understood: 0,
            not_understood_by_kind: Vec::new(),
            errors: 0,
            last_error: None,
        },
    ])
}

/// A peer that sessions report in every way, and one that no session reports.
pub(in crate::control::display) fn monitored() -> Vec<MonitoredPeer> {
    let rib = |view, reported_by| MonitoredRib {
        family: Family::IPV4_UNICAST,
        view: ViewName(view),
        routes: 12,
        reported_by,
    };
    let session = |alias, up, refused| MonitoringSession {
        station: STATION,
        vpn_instance: text("mgmt"),
        alias,
        monitors: vec!["vpn-instance 65000:1".to_owned(), "all-vpn-instance".to_owned()],
        ribs: vec![RibName { family: Family::IPV4_UNICAST, view: ViewName(RibView::AdjRibInPre) }],
        up,
        refused,
        lag_bytes: up.then_some(1_000),
    };
    vec![
        MonitoredPeer {
            input: "frr".to_owned(),
            peer: PEER,
            asn: 65_001,
            bgp_id: ROUTER_ID,
            peer_type: PeerTypeName(PeerType::RD),
            distinguisher: text("65000:1"),
            table: outside("red"),
            announced: true,
            held: true,
            ribs: vec![rib(RibView::AdjRibInPre, vec![0, 1, 2]), rib(RibView::AdjRibInPost, Vec::new())],
            sessions: vec![
                session(text("lab"), true, false),
                session(None, true, true),
                MonitoringSession { vpn_instance: None, monitors: Vec::new(), ..session(None, false, false) },
            ],
        },
        MonitoredPeer {
            input: "bgp 203.0.113.1".to_owned(),
            peer: PEER,
            asn: 65_001,
            bgp_id: ROUTER_ID,
            peer_type: PeerTypeName(PeerType::GLOBAL),
            distinguisher: None,
            table: None,
            announced: false,
            held: false,
            ribs: Vec::new(),
            sessions: Vec::new(),
        },
    ]
}
