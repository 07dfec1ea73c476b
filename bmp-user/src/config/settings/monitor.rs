//! What a station is told: the forms of `monitor`, and the settings of a monitor view.

use super::{
    access::{Members, field},
    descriptor::{DefaultRow, DefaultValue, SettingDescriptor},
    effect::Effect,
    families::FAMILY,
};
use crate::config::{
    language::{
        argument::ArgumentKind,
        syntax::Syntax::{self, Choice, Optional, Value, Word},
    },
    model::{MonitorConfig, RouteMode},
    view::ViewKind,
};

const PEER: Syntax = Value(ArgumentKind::Peer, "its address");

/// `monitor ...`, which enters the view.
pub(in crate::config) const MONITOR_FORMS: &[Syntax] = &[
    Word("monitor", "what the station is told (everything without any)"),
    Choice(&[
        &[Word("public", "peers of no VPN instance")],
        &[Word("all-vpn-instance", "peers of every VPN instance")],
        &[
            Word("vpn-instance", "peers of one VPN instance"),
            Value(ArgumentKind::TableName, "its name, or its route distinguisher"),
            Optional(&[Word("peer", "one peer alone"), PEER]),
        ],
        &[Word("peer", "one peer of no VPN instance"), PEER],
        &[Word("relay", "peers of one relay"), Value(ArgumentKind::InputName, "its name")],
        &[Word("mrt-replay", "peers of one file"), Value(ArgumentKind::InputName, "its name")],
        &[Word("bgp", "peers of the bgp view")],
    ]),
];

const POLICY: Syntax = Choice(&[&[Word("pre-policy", "before policies")], &[Word("post-policy", "after policies")]]);

pub(in crate::config) static ROUTE_MODE: SettingDescriptor = SettingDescriptor {
    head: &[
        Word("route-mode", "which routes of the peers (all without any)"),
        FAMILY,
        Choice(&[
            &[Word("adj-rib-in", "what was received from the peer"), POLICY],
            &[Word("adj-rib-out", "what is sent to the peer"), POLICY],
            &[Word("local-rib", "what was chosen")],
        ]),
    ],
    default: DefaultValue::Fixed("everything"),
    rows: &[DefaultRow::new(191, "Told to a station")],
    effect: Effect::AtOnce,
    access: &Members::<MonitorConfig, RouteMode> {
        get: |monitor| &monitor.modes,
        get_mut: |monitor| &mut monitor.modes,
    },
    ..SettingDescriptor::in_view(ViewKind::Monitor)
};

pub(in crate::config) static MONITOR_ROUTE_FILTER: SettingDescriptor = SettingDescriptor {
    head: &[Word("route-filter", "which routes of these RIBs")],
    value: &[Value(ArgumentKind::RouteFilterName, "the name of the filter")],
    shortest: "route-f".len(),
    default: DefaultValue::Fixed("all routes"),
    rows: &[DefaultRow::new(192, "Routes of a monitor")],
    effect: Effect::FilterAtOnce,
    note: "A route is told if one of the monitors that have its RIB tells it.",
    access: field!(MonitorConfig, route_filter),
    ..SettingDescriptor::in_view(ViewKind::Monitor)
};
