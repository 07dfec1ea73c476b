//! The settings of the HTTP server, which belong to the system view.

use super::{
    access::field,
    descriptor::{DefaultValue, SettingDescriptor},
    effect::Effect,
    forms::{PORT_VALUE, PORT_WORD, VPN_INSTANCE},
};
use crate::config::{
    language::{
        argument::ArgumentKind,
        syntax::Syntax::{self, Value, Word},
    },
    model::{Config, HttpListen, RelayConfig},
    view::{CommandView, ViewKind},
};

const HTTP_WORD: Syntax = Word("http", "metrics, health and the status page");

pub(in crate::config) static HTTP_LISTEN: SettingDescriptor = SettingDescriptor {
    head: &[HTTP_WORD, Word("listen", "where Prometheus and browsers connect to")],
    value: &[Value(ArgumentKind::Listen, "an address of this host"), PORT_WORD, PORT_VALUE, VPN_INSTANCE],
    default: DefaultValue::Fixed("bmpd serves no HTTP"),
    effect: Effect::HttpListensAnew,
    note: "Whoever can connect can read what `display` shows; nobody can change anything.",
    access: field!(Config, http_listen, no_relay_listens),
    ..SettingDescriptor::in_view(ViewKind::System)
};

/// Refuses the address and port of a relay. The second socket could not be opened.
fn no_relay_listens(config: &Config, _view: &CommandView, listen: &HttpListen) -> Result<(), String> {
    // Relays listen in no VPN instance.
    let is_shared = |relay: &RelayConfig| listen.vpn_instance.is_none() && relay.listen == Some(listen.address);
    match config.relays.iter().find(|(_, relay)| is_shared(relay)) {
        Some((name, _)) => Err(format!("the input {name} listens on {} already", listen.address)),
        None => Ok(()),
    }
}

pub(in crate::config) static HTTP_PEER_METRICS: SettingDescriptor = SettingDescriptor {
    head: &[HTTP_WORD, Word("peer-metrics", "let /metrics have series for each peer")],
    default: DefaultValue::Fixed("metrics count the peers, and have no series for each"),
    effect: Effect::AtOnce,
    access: field!(Config, http_peer_metrics),
    ..SettingDescriptor::in_view(ViewKind::System)
};
