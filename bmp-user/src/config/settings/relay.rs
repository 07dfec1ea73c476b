//! The settings of relays.

use std::net::SocketAddr;

use super::{
    access::{Entries, Members, field},
    descriptor::{DefaultRow, DefaultValue, SettingDescriptor},
    effect::Effect,
    forms::{PORT_VALUE, PORT_WORD},
};
use crate::config::{
    language::{
        argument::ArgumentKind,
        number::{NumberRange, Unit},
        syntax::Syntax::{Optional, Value, Word},
    },
    model::{Config, MaxConnections, Prefix, RelayConfig},
    view::{CommandView, ViewKind},
};

/// Refuses the name of another input. Stations are told peers by their input.
pub(in crate::config) fn no_other_input(taken: bool, name: &str) -> Result<(), String> {
    if taken { Err(format!("another input has the name {name} already")) } else { Ok(()) }
}

pub(in crate::config) static RELAY: SettingDescriptor = SettingDescriptor {
    head: &[Word("bmp-relay", "take BMP from a daemon"), Value(ArgumentKind::InputName, "a name for this input")],
    enters: Some(ViewKind::Relay),
    effect: Effect::Enters,
    access: &Entries::<Config, String, RelayConfig> {
        get: |config| &config.relays,
        get_mut: |config| &mut config.relays,
        check: |config, name| no_other_input(config.replays.contains_key(name), name),
        view: |_, name| Some(CommandView::Relay(name)),
    },
    ..SettingDescriptor::in_view(ViewKind::System)
};

pub(in crate::config) static LISTEN: SettingDescriptor = SettingDescriptor {
    head: &[Word("listen", "where the daemon connects to")],
    value: &[Value(ArgumentKind::Listen, "an address of this host"), PORT_WORD, PORT_VALUE],
    default: DefaultValue::Fixed("the relay does not listen"),
    effect: Effect::RelayListensAnew,
    access: field!(RelayConfig, listen, no_other_listens),
    ..SettingDescriptor::in_view(ViewKind::Relay)
};

/// Refuses an address and port that another relay listens on. The second could not be opened.
fn no_other_listens(config: &Config, view: &CommandView, listen: &SocketAddr) -> Result<(), String> {
    let is_other = |name: &String| !matches!(view, CommandView::Relay(own) if own == name);
    match config.relays.iter().find(|(name, relay)| is_other(name) && relay.listen.as_ref() == Some(listen)) {
        Some((other, _)) => Err(format!("the input {other} listens on {listen} already")),
        None if is_http(config, listen) => Err(format!("`http listen` has {listen} already")),
        None => Ok(()),
    }
}

fn is_http(config: &Config, listen: &SocketAddr) -> bool {
    config.http_listen.as_ref().is_some_and(|http| http.vpn_instance.is_none() && http.address == *listen)
}

pub(in crate::config) static ALLOW: SettingDescriptor = SettingDescriptor {
    head: &[
        Word("allow", "let daemons of other hosts connect (only this host's own without it)"),
        Value(ArgumentKind::Prefix, "where they connect from"),
    ],
    default: DefaultValue::Fixed("connections of this host alone"),
    rows: &[DefaultRow::new(220, "A relay takes")],
    effect: Effect::RelayAtOnce,
    access: &Members::<RelayConfig, Prefix> { get: |relay| &relay.allow, get_mut: |relay| &mut relay.allow },
    ..SettingDescriptor::in_view(ViewKind::Relay)
};

static HOLD_TIME: NumberRange = NumberRange {
    name: "SECONDS",
    subject: "peers are held for",
    unit: Unit::Seconds,
    first: 0,
    last: 3600,
    or_zero: false,
};

pub(in crate::config) static RELAY_HOLD: SettingDescriptor = SettingDescriptor {
    head: &[Word("hold", "how long the peers of a daemon that went away stay up")],
    value: &[Value(ArgumentKind::Number(&HOLD_TIME), "seconds RANGE")],
    default: DefaultValue::Fixed("takes its peers down at once"),
    rows: &[DefaultRow::new(240, "A relay that is gone")],
    effect: Effect::RelayAtOnce,
    access: field!(RelayConfig, hold),
    ..SettingDescriptor::in_view(ViewKind::Relay)
};

static QUIET_TIME: NumberRange = NumberRange {
    name: "SECONDS",
    subject: "a RIB is quiet for",
    unit: Unit::Seconds,
    first: 0,
    last: 3600,
    or_zero: false,
};

pub(in crate::config) static END_OF_RIB_AFTER: SettingDescriptor = SettingDescriptor {
    head: &[Word(
        "end-of-rib-after",
        "say End-of-RIB for a daemon that does not, when a RIB has been quiet for so long",
    )],
    value: &[Value(ArgumentKind::Number(&QUIET_TIME), "seconds RANGE; 0 is never")],
    default: DefaultValue::Fixed("is not told in a daemon's stead"),
    rows: &[DefaultRow::new(250, "Missing End-of-RIB")],
    effect: Effect::RelayAtOnce,
    access: field!(RelayConfig, end_of_rib_after),
    ..SettingDescriptor::in_view(ViewKind::Relay)
};

static TOTAL: NumberRange = NumberRange {
    name: "TOTAL",
    subject: "a limit is",
    unit: Unit::Connections,
    first: 1,
    last: 65_535,
    or_zero: false,
};
static FROM_ONE_SOURCE: NumberRange = NumberRange {
    name: "NUMBER",
    subject: TOTAL.subject,
    unit: Unit::Connections,
    first: TOTAL.first,
    last: TOTAL.last,
    or_zero: false,
};

pub(in crate::config) static MAX_CONNECTIONS: SettingDescriptor = SettingDescriptor {
    head: &[Word("max-connections", "how many daemons may be connected at one time")],
    value: &[
        Value(ArgumentKind::Number(&TOTAL), "in all, RANGE (256 if nothing is said)"),
        Optional(&[
            Word("per-source", "how many of one user of this host, or of one other host"),
            Value(
                ArgumentKind::Number(&FROM_ONE_SOURCE),
                "an IPv6 /64 is one host (32, or the number in all if that is less)",
            ),
        ]),
    ],
    default: DefaultValue::Computed(|| {
        let MaxConnections { total, per_source } = RelayConfig::MAX_CONNECTIONS;
        format!("{total} connections, {} of one source", per_source.unwrap_or(total))
    }),
    effect: Effect::RelayNextConnection,
    note: "There are fewer where bmpd may open few files; see `display default-parameter bmp`.",
    access: field!(RelayConfig, max_connections),
    ..SettingDescriptor::in_view(ViewKind::Relay)
};
