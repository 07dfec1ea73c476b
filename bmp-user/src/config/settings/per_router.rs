//! The settings of a bmp-session view for routers behind relays.

use super::{
    access::{Access, Owner as _, field},
    arguments::ArgumentType,
    descriptor::{DefaultRow, DefaultValue, SettingDescriptor},
    effect::Effect,
    session::{DIVIDED_CONNECTS, DIVIDED_IS_OWN, SHARES_NO_PORT, connects},
};
use crate::config::{
    language::{
        argument::ArgumentKind,
        syntax::Syntax::{Optional, Value, Word},
        token::{ArgumentTokens, WrongArgument},
        value::ArgumentValue,
    },
    model::{Config, PerRouter, SessionConfig},
    view::{CommandView, ViewKind},
};

/// `[ relay NAME ]`
impl ArgumentType for PerRouter {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        Ok(Some(Self { relay: arguments.text_of(ArgumentKind::InputName) }))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        let name = |name: &String| [ArgumentValue::Keyword("relay"), ArgumentValue::Text(name.clone())];
        self.relay.iter().flat_map(name).collect()
    }
}

pub(in crate::config) static PER_ROUTER: SettingDescriptor = SettingDescriptor {
    head: &[Word("per-router", "open a connection of its own for each router behind a relay")],
    value: &[Optional(&[
        Word("relay", "for the routers of one relay alone"),
        Value(ArgumentKind::InputName, "its name"),
    ])],
    default: DefaultValue::Fixed("one connection for all"),
    rows: &[DefaultRow::new(65, "Connections of a session")],
    effect: Effect::Reconnects,
    note: "Each connection has the Initiation of its router, and the peers of that router alone. Where the change \
           makes a relay tell its routers apart, or ends that, the relay closes its connections and listens again. \
           The command goes neither with `tcp listen port` nor with `adopt` nor with `local-port`.",
    access: &PerRouterAccess,
    ..SettingDescriptor::in_view(ViewKind::Session)
};

/// The field of `per-router`, and `undo` without its relay.
struct PerRouterAccess;

const FIELD: &dyn Access = field!(SessionConfig, per_router, |config, view, _| goes_with_the_rest(config, view));

impl Access for PerRouterAccess {
    fn values(&self, arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument> {
        FIELD.values(arguments)
    }

    fn set(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        FIELD.set(config, view, arguments)
    }

    fn clear(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        FIELD.clear(config, view, arguments)
    }

    fn configured(&self, config: &Config, view: &CommandView) -> Vec<Vec<ArgumentValue>> {
        FIELD.configured(config, view)
    }

    fn is_undone_by(&self, configured: ArgumentTokens<'_>, given: ArgumentTokens<'_>) -> bool {
        configured.0.starts_with(given.0)
    }
}

fn goes_with_the_rest(config: &Config, view: &CommandView) -> Result<(), String> {
    connects(config, view, DIVIDED_CONNECTS)?;
    match SessionConfig::find(config, view) {
        Some(session) if session.adopt => {
            Err(format!("the session is adopted, and {DIVIDED_IS_OWN}: `undo adopt` first"))
        }
        Some(SessionConfig { local_port: Some(port), .. }) => {
            Err(format!("the session has `local-port {port}`, and {SHARES_NO_PORT}: leave `local-port` out first"))
        }
        _ => Ok(()),
    }
}

pub(in crate::config) static PROXY_PROTOCOL: SettingDescriptor = SettingDescriptor {
    head: &[Word("proxy-protocol", "begin each connection with a header of the PROXY protocol")],
    default: DefaultValue::Fixed("no header"),
    rows: &[DefaultRow::new(66, "PROXY header")],
    effect: Effect::NextConnection,
    note: "The header is of version 2, and comes before TLS. With `per-router` it names the address and port that the \
           router connected from, and those of the relay. Without, it says that the connection is bmpd's own (LOCAL). \
           It does not go with `tcp listen port`.",
    access: field!(SessionConfig, proxy_protocol, |config, view, _| {
        connects(config, view, "the end that connects sends the header")
    }),
    ..SettingDescriptor::in_view(ViewKind::Session)
};
