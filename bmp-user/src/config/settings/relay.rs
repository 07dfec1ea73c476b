//! The settings of relays.

use std::net::SocketAddr;

use super::{
    access::{Access, Entries, Members, Owner, field, whole},
    arguments::ArgumentType,
    descriptor::{DefaultRow, DefaultValue, SettingDescriptor},
    effect::Effect,
    forms::{KEYCHAIN_FORM, MAXIMUM_ROUTES, PORT_VALUE, PORT_WORD, TLS_FORM, tls_values},
};
use crate::config::{
    language::{
        argument::ArgumentKind,
        number::{NumberRange, Unit},
        syntax::Syntax::{self, Optional, Value, Word},
        token::{ArgumentTokens, WrongArgument},
        value::ArgumentValue,
    },
    model::{AllowedUser, Config, MaxConnections, RelayConfig},
    prefix::Prefix,
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
    value: &[
        Value(ArgumentKind::Listen, "an address of this host"),
        PORT_WORD,
        PORT_VALUE,
        Optional(KEYCHAIN_FORM),
        Optional(TLS_FORM),
    ],
    default: DefaultValue::Fixed("the relay does not listen"),
    effect: Effect::RelayListensAnew,
    access: &RelayListen,
    ..SettingDescriptor::in_view(ViewKind::Relay)
};

/// Where a relay listens, the key chain and the TLS profile.
struct RelayListen;

impl Access for RelayListen {
    fn values(&self, arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument> {
        let keychain = arguments.text_of(ArgumentKind::KeychainName).map(ArgumentValue::Text);
        let tls = tls_values(arguments.text_of(ArgumentKind::TlsProfileName));
        Ok(SocketAddr::read(arguments)?.map(|listen| listen.values().into_iter().chain(keychain).chain(tls).collect()))
    }

    fn set(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let listen = whole(arguments)?;
        no_other_listens(config, view, &listen)?;
        let relay = RelayConfig::find_mut(config, view)?;
        (relay.listen, relay.keychain) = (Some(listen), arguments.text_of(ArgumentKind::KeychainName));
        relay.tls = arguments.text_of(ArgumentKind::TlsProfileName);
        Ok(())
    }

    fn clear(&self, config: &mut Config, view: &CommandView, _arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let relay = RelayConfig::find_mut(config, view)?;
        (relay.listen, relay.keychain, relay.tls) = (None, None, None);
        Ok(())
    }

    fn configured(&self, config: &Config, view: &CommandView) -> Vec<Vec<ArgumentValue>> {
        let Some(RelayConfig { listen: Some(listen), keychain, tls, .. }) = RelayConfig::find(config, view) else {
            return Vec::new();
        };
        let keychain = keychain.clone().map(ArgumentValue::Text);
        vec![listen.values().into_iter().chain(keychain).chain(tls_values(tls.clone())).collect()]
    }

    fn is_undone_by(&self, configured: ArgumentTokens<'_>, given: ArgumentTokens<'_>) -> bool {
        configured.0.starts_with(given.0)
    }
}

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

const ALLOW_WORD: Syntax = Word("allow", "let more daemons connect than system accounts of this host");

pub(in crate::config) static ALLOW: SettingDescriptor = SettingDescriptor {
    head: &[ALLOW_WORD, Value(ArgumentKind::Prefix, "other hosts, by where they connect from")],
    default: DefaultValue::Fixed("connections of this host alone"),
    rows: &[DefaultRow::new(220, "A relay takes")],
    effect: Effect::RelayAtOnce,
    note: "A prefix lets no user of this host in, whatever address the user connects from.",
    access: &Members::<RelayConfig, Prefix> { get: |relay| &relay.allow, get_mut: |relay| &mut relay.allow },
    ..SettingDescriptor::in_view(ViewKind::Relay)
};

pub(in crate::config) static ALLOW_USER: SettingDescriptor = SettingDescriptor {
    head: &[
        ALLOW_WORD,
        Word("user", "a user of this host that is no system account"),
        Value(ArgumentKind::User, "its name, or its number (all digits)"),
    ],
    default: DefaultValue::Fixed("root, the user of bmpd, and system accounts"),
    rows: &[DefaultRow::new(221, "Users of this host")],
    effect: Effect::RelayAtOnce,
    note: "A system account has a number below `UID_MIN` of `/etc/login.defs` (1000 where it has none); `nobody` \
           (65534) is none. bmpd looks a name up when it reads the configuration. A user that is new since bmpd \
           began may need its number.",
    access: &Members::<RelayConfig, AllowedUser> {
        get: |relay| &relay.allow_users,
        get_mut: |relay| &mut relay.allow_users,
    },
    ..SettingDescriptor::in_view(ViewKind::Relay)
};

pub(in crate::config) static ALLOW_PROXY: SettingDescriptor = SettingDescriptor {
    head: &[
        ALLOW_WORD,
        Word("proxy", "load balancers, which send a PROXY header (v1 or v2) that names the daemon's host"),
        Value(ArgumentKind::Prefix, "where the load balancers connect from"),
    ],
    default: DefaultValue::Fixed("not expected"),
    rows: &[DefaultRow::new(222, "PROXY headers at a relay")],
    effect: Effect::RelayAtOnce,
    note: "Each connection from there must begin with a PROXY header. `allow PREFIX` must permit the host that it \
           names. A load balancer on this host must run as a user that may connect.",
    access: &Members::<RelayConfig, Prefix> {
        get: |relay| &relay.allow_proxies,
        get_mut: |relay| &mut relay.allow_proxies,
    },
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

pub(in crate::config) static RELAY_MAXIMUM_ROUTES: SettingDescriptor = SettingDescriptor {
    head: &[Word("maximum-routes", "how many routes each connection may have")],
    value: MAXIMUM_ROUTES,
    default: DefaultValue::Fixed("no limit"),
    rows: &[DefaultRow::new(255, "Routes of a relay's daemon")],
    effect: Effect::RelayAtOnce,
    note: "A connection with more routes is closed, its peers go down also with `hold`, and its user or host is \
           refused for 300 seconds, or until the limit is high enough.",
    access: field!(RelayConfig, maximum_routes),
    ..SettingDescriptor::in_view(ViewKind::Relay)
};
