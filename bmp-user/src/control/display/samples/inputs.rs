//! The feed, relays, replays and the peers that they bring.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use super::{
    super::{
        feed::{ByRib, Feed, Journal, Memory},
        monitored::{Monitored, Rib, RibName, Session},
        refused::RefusedPeer,
        relay::{Connection, Held, Incomplete, Refused, Relay},
        replay::{NotUnderstood, PassedOver, Replay},
        silent::Silent,
    },
    PEER, ROUTER_ID, SOURCE, STATION, outside, text,
};
use crate::escape::Untrusted;

/// The feed with routes.
pub(in crate::control::display) fn feed() -> Feed {
    Feed {
        peers: 2,
        ribs: 3,
        routes: 100,
        by_rib: vec![ByRib { family: "IPv4 unicast".to_owned(), view: "adj-rib-in pre-policy", ribs: 2, routes: 100 }],
        attribute_sets: 5,
        withdrawals: 6,
        journal: Journal { tail: 7, head: 8, bytes: 2_000, limit: 16 << 20 },
        memory: Memory { routes: 3_000, groups: 1_025, attribute_sets: 1, withdrawals: 0, journal: 2_000 },
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

/// A relay with all that can befall one, and one that does not listen.
pub(in crate::control::display) fn relays() -> Vec<Relay> {
    let refused = |peer_type, distinguisher, owner| RefusedPeer {
        address: PEER.to_string(),
        peer_type,
        distinguisher,
        asn: 65_001,
        bgp_id: ROUTER_ID.to_string(),
        owner,
        dropped: BTreeMap::from([("peer-up", 1), ("route-monitoring", 2)]),
    };
    let silent =
        |peer, heard| Silent { peer, asn: 65_002, heard, hint: "no route is there: its table is empty".to_owned() };
    vec![
        Relay {
            name: "frr".to_owned(),
            listen: text("127.0.0.1:5000"),
            state: "listening",
            why: None,
            connections: vec![
                Connection {
                    client: "127.0.0.1:40002".to_owned(),
                    sys_name: outside("edge1"),
                    sys_descr: outside("FRRouting 8.4.4"),
                    messages: 12,
                    bytes: 3_456,
                    unannounced: 2,
                    not_understood: BTreeMap::from([("malformed", 1), ("other-as-size", 2)]),
                    odd: BTreeMap::from([("short", 3)]),
                    refused_messages: 3,
                    refused_peers: [refused(0, text("65000:1"), text("127.0.0.1:40003")), refused(3, None, None)]
                        .into_iter()
                        .chain((0..9).map(|_| refused(0, None, None)))
                        .collect(),
                },
                Connection {
                    client: "127.0.0.1:40004".to_owned(),
                    sys_name: None,
                    sys_descr: None,
                    messages: 0,
                    bytes: 0,
                    unannounced: 0,
                    not_understood: BTreeMap::new(),
                    odd: BTreeMap::new(),
                    refused_messages: 0,
                    refused_peers: Vec::new(),
                },
            ],
            allow: vec!["192.0.2.0/24".to_owned(), "2001:db8::/32".to_owned()],
            hold_seconds: 30,
            end_of_rib_after_seconds: 10,
            max_connections: 7,
            max_connections_per_source: 3,
            held: vec![relay_held("127.0.0.1:40005", outside("edge2"), 12), relay_held("127.0.0.1:40006", None, 3)],
            held_peers: 4,
            refused: Refused { not_allowed: 5, too_many: 6 },
            peers_without_routes: vec![
                silent(PEER, true),
                silent(IpAddr::V4(Ipv4Addr::UNSPECIFIED), false),
                silent(SOURCE, false),
                silent(STATION, false),
                silent(STATION, false),
            ],
            incomplete_peers: vec![
                Incomplete {
                    peer: PEER,
                    asn: 65_003,
                    not_kept: BTreeMap::from([("IPv4 unicast adj-rib-in pre-policy".to_owned(), 8)]),
                },
                Incomplete { peer: PEER, asn: 65_004, not_kept: BTreeMap::new() },
            ],
            last_closed: outside("127.0.0.1:40007: the daemon closed the connection"),
        },
        Relay {
            name: "gobgp".to_owned(),
            listen: None,
            state: "not-configured",
            why: text("it takes nothing until it has `listen ADDRESS port N`"),
            connections: Vec::new(),
            allow: Vec::new(),
            hold_seconds: 0,
            end_of_rib_after_seconds: 0,
            max_connections: 7,
            max_connections_per_source: 3,
            held: Vec::new(),
            held_peers: 0,
            refused: Refused { not_allowed: 0, too_many: 0 },
            peers_without_routes: Vec::new(),
            incomplete_peers: Vec::new(),
            last_closed: None,
        },
    ]
}

fn relay_held(client: &str, sys_name: Option<Untrusted>, left_seconds: u64) -> Held {
    Held { client: client.to_owned(), sys_name, left_seconds }
}

/// A replay with errors, one that is done, and one without a file.
pub(in crate::control::display) fn replays() -> Vec<Replay> {
    vec![
        Replay {
            name: "archive".to_owned(),
            file: outside("/var/lib/mrt/updates.bz2"),
            pace: "1000 updates-per-second".to_owned(),
            looped: true,
            state: "reading",
            why: None,
            rounds: 2,
            bytes_read: 500,
            file_bytes: 1_000,
            records: 33,
            file_records: 100,
            updates: 44,
            passed_over: vec![PassedOver {
                what: "records of OSPFv2".to_owned(),
                records: 5,
                first_record: 6,
                first_at: 700,
                is_error: false,
            }],
            not_understood: 3,
            not_understood_by_kind: vec![
                NotUnderstood { kind: "malformed", updates: 2, first_record: Some(8), first_at: Some(900) },
                NotUnderstood { kind: "other-as-size", updates: 1, first_record: None, first_at: None },
            ],
            errors: 3,
            last_error: outside("record 8 at byte 900: an UPDATE: its routes cannot be told apart"),
        },
        Replay {
            name: "done".to_owned(),
            file: outside("/var/lib/mrt/rib"),
            pace: "maximum".to_owned(),
            looped: false,
            state: "done",
            why: None,
            rounds: 1,
            bytes_read: 0,
            file_bytes: 0,
            records: 0,
            file_records: 0,
            updates: 0,
            passed_over: Vec::new(),
            not_understood: 0,
            not_understood_by_kind: Vec::new(),
            errors: 0,
            last_error: None,
        },
        Replay {
            name: "none".to_owned(),
            file: None,
            pace: "recorded".to_owned(),
            looped: false,
            state: "not-configured",
            why: text("it replays nothing until it has `file PATH`"),
            rounds: 0,
            bytes_read: 0,
            file_bytes: 0,
            records: 0,
            file_records: 0,
            updates: 0,
            passed_over: Vec::new(),
            not_understood: 0,
            not_understood_by_kind: Vec::new(),
            errors: 0,
            last_error: None,
        },
    ]
}

/// Peers that are told to sessions in every way, and one that nobody is told of.
pub(in crate::control::display) fn monitored() -> Vec<Monitored> {
    let rib = |view, told| Rib { family: "IPv4 unicast".to_owned(), view, routes: 12, told };
    let session = |alias, up, refused| Session {
        station: STATION,
        vpn_instance: text("mgmt"),
        alias,
        ribs: vec![RibName { family: "IPv4 unicast".to_owned(), view: "adj-rib-in pre-policy" }],
        up,
        refused,
    };
    vec![
        Monitored {
            input: "frr".to_owned(),
            peer: PEER,
            asn: 65_001,
            bgp_id: ROUTER_ID,
            peer_type: "rd".to_owned(),
            distinguisher: text("65000:1"),
            table: outside("red"),
            announced: true,
            held: true,
            ribs: vec![rib("adj-rib-in pre-policy", vec![0, 1, 2]), rib("adj-rib-in post-policy", Vec::new())],
            sessions: vec![
                session(text("lab"), true, false),
                session(None, true, true),
                Session { vpn_instance: None, ..session(None, false, false) },
            ],
        },
        Monitored {
            input: "bgp 203.0.113.1".to_owned(),
            peer: PEER,
            asn: 65_001,
            bgp_id: ROUTER_ID,
            peer_type: "global".to_owned(),
            distinguisher: None,
            table: None,
            announced: false,
            held: false,
            ribs: Vec::new(),
            sessions: Vec::new(),
        },
    ]
}
