//! What a station is told.

use super::{
    Action, Item, Rule,
    Syntax::{self, Choice, Optional, Value, Word},
    ViewKind,
    families::FAMILY,
};
use crate::config::value::Kind;

const PEER: Syntax = Value(Kind::Peer, "its address");
const MONITOR_SYNTAX: &[Syntax] = &[
    Word("monitor", "what the station is told (everything without any)"),
    Choice(&[
        &[Word("public", "peers of no VPN instance")],
        &[Word("all-vpn-instance", "peers of every VPN instance")],
        &[
            Word("vpn-instance", "peers of one VPN instance"),
            Value(Kind::TableName, "its name, or its route distinguisher"),
            Optional(&[Word("peer", "one peer alone"), PEER]),
        ],
        &[Word("peer", "one peer of no VPN instance"), PEER],
        &[Word("relay", "peers of one relay"), Value(Kind::InputName, "its name")],
        &[Word("mrt-replay", "peers of one file"), Value(Kind::InputName, "its name")],
        &[Word("bgp", "peers of the bgp view")],
    ]),
];
pub(super) static MONITOR: Rule = Rule {
    action: Action::Configure(Item::Monitor),
    views: &[ViewKind::Session],
    syntax: MONITOR_SYNTAX,
    undo: Some(MONITOR_SYNTAX),
    enters: Some(ViewKind::Monitor),
};

const POLICY: Syntax = Choice(&[&[Word("pre-policy", "before policies")], &[Word("post-policy", "after policies")]]);
const ROUTE_MODE_SYNTAX: &[Syntax] = &[
    Word("route-mode", "which routes of the peers (all without any)"),
    FAMILY,
    Choice(&[
        &[Word("adj-rib-in", "what was received from the peer"), POLICY],
        &[Word("adj-rib-out", "what is sent to the peer"), POLICY],
        &[Word("local-rib", "what was chosen")],
    ]),
];
pub(super) static ROUTE_MODE: Rule = Rule {
    action: Action::Configure(Item::RouteMode),
    views: &[ViewKind::Monitor],
    syntax: ROUTE_MODE_SYNTAX,
    undo: Some(ROUTE_MODE_SYNTAX),
    enters: None,
};

const ROUTE_MIRRORING_SYNTAX: &[Syntax] =
    &[Word("route-mirroring", "mirrored messages too, where it is said what the station is told")];
pub(super) static ROUTE_MIRRORING: Rule = Rule {
    action: Action::Configure(Item::RouteMirroring),
    views: &[ViewKind::Session],
    syntax: ROUTE_MIRRORING_SYNTAX,
    undo: Some(ROUTE_MIRRORING_SYNTAX),
    enters: None,
};
