//! The settings of a bmp-session view.

use super::{
    access::{Access, Entries, Owner, field, whole},
    arguments::ArgumentType,
    descriptor::{DefaultRow, DefaultValue, SettingDescriptor},
    effect::Effect,
    forms::{
        INITIATION_NOTE, INITIATION_TEXT, INITIATION_WORD, KEYCHAIN_FORM, PORT_VALUE, PORT_WORD, SECRET_FORMS,
        SOURCE_FORMS, TLS_FORM, tls_values,
    },
    monitor::MONITOR_FORMS,
};
use crate::config::{
    language::{
        argument::ArgumentKind,
        number::{NumberRange, Unit},
        syntax::Syntax::{self, Choice, Optional, Value as Argument, Word},
        token::{ArgumentTokens, WrongArgument},
        value::ArgumentValue,
    },
    model::{
        Config, ConnectRetry, KeepaliveProbes, MonitorConfig, MonitorId, SessionConfig, SessionId, SessionKeepalive,
        Transport,
    },
    view::{CommandView, ViewKind},
};

/// Why `adopt` and `tcp listen port` do not go together.
const ADOPTED_CONNECTS: &str = "only a session that another process of this device opens itself can be adopted";

/// Why `next-hop` and `tcp listen port` do not go together: one listener serves many stations, and
/// its answers go by the routing tables.
const ROUTED_CONNECTS: &str = "a next hop is for connections that this device opens";

/// Why `per-router` and `local-port` do not go together.
pub(super) const SHARES_NO_PORT: &str = "the connections of several routers cannot leave from one port";

/// Why `per-router` and `tcp listen port` do not go together.
pub(super) const DIVIDED_CONNECTS: &str = "this device opens the connection of each router";

/// Why `per-router` and `adopt` do not go together.
pub(super) const DIVIDED_IS_OWN: &str = "bmpd opens the connections of routers itself";

/// The words of a description. How long it may be is said where it is read.
static DESCRIPTION_WORDS: [Syntax; 2] = [
    Argument(ArgumentKind::Text, "what the session is for, to the end of the line; quotes around it go"),
    Optional(&DESCRIPTION_WORDS),
];

pub(in crate::config) static DESCRIPTION: SettingDescriptor = SettingDescriptor {
    head: &[Word("description", "say what the session is for")],
    value: &DESCRIPTION_WORDS,
    default: DefaultValue::Fixed("none"),
    rows: &[DefaultRow::new(5, "Description")],
    effect: Effect::AtOnce,
    note: "A description has at most 255 characters. Several blanks count as one.",
    access: field!(SessionConfig, description),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

const LOCAL_PORT_WORD: &str = "local-port";

const TCP_WORD: Syntax = Word("tcp", "the session's TCP connection");

pub(in crate::config) static TCP_CONNECT_PORT: SettingDescriptor = SettingDescriptor {
    head: &[TCP_WORD, Word("connect", "this device connects to the station"), PORT_WORD],
    value: &[
        PORT_VALUE,
        Optional(&[Choice(&[
            &[
                Word("password", "sign what is sent"),
                Word("md5", "with TCP MD5, and a secret that the station has too"),
                SECRET_FORMS,
            ],
            KEYCHAIN_FORM,
        ])]),
        Optional(TLS_FORM),
        Optional(&[Word(LOCAL_PORT_WORD, "always connect from the same port of this device"), PORT_VALUE]),
    ],
    default: DefaultValue::Fixed("none; a session needs `tcp connect port` or `tcp listen port`"),
    rows: &[
        DefaultRow {
            value: Some("none: a session needs tcp connect port or tcp listen port"),
            command: Some(""),
            ..DefaultRow::new(30, "Port")
        },
        DefaultRow {
            value: Some("none"),
            command: Some("tcp connect port N password md5"),
            ..DefaultRow::new(130, "TCP MD5")
        },
        DefaultRow {
            value: Some("the kernel's choice"),
            command: Some("tcp connect port N local-port"),
            ..DefaultRow::new(35, "Local port")
        },
    ],
    effect: Effect::Reconnects,
    note: "A changed secret alone counts for the next connection. `undo` does not need the secret. \
           The same goes for another key chain, for another TLS profile and for another local port. The command \
           replaces `tcp listen port`.",
    access: &ConnectPort,
    ..SettingDescriptor::in_view(ViewKind::Session)
};

pub(in crate::config) static TCP_LISTEN_PORT: SettingDescriptor = SettingDescriptor {
    head: &[TCP_WORD, Word("listen", "the station connects to this device"), Word("port", "TCP port of this device")],
    value: &[PORT_VALUE, Optional(KEYCHAIN_FORM), Optional(TLS_FORM)],
    default: DefaultValue::Fixed("none; a session needs `tcp connect port` or `tcp listen port`"),
    effect: Effect::Reconnects,
    note: "Another key chain or TLS profile alone counts for the next connection. It goes neither with `adopt` nor with `next-hop` nor with `per-router` nor with `proxy-protocol`. The command replaces `tcp connect port`.",
    access: &ListenPort,
    replaces: Some(&TCP_CONNECT_PORT),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

/// The port of the station, the secret of TCP MD5 or the key chain, the TLS profile, and the port
/// of this device.
struct ConnectPort;

/// The port of this device, the key chain and the TLS profile.
struct ListenPort;

impl Access for ConnectPort {
    fn values(&self, arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument> {
        let signed = arguments.secret().map(ArgumentValue::Secret).or(keychain(arguments).map(ArgumentValue::Text));
        let behind =
            signed.into_iter().chain(tls_values(tls(arguments))).chain(local_port_values(local_port(arguments)));
        Ok(u16::read(arguments)?.map(|port| port.values().into_iter().chain(behind).collect()))
    }

    fn set(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let transport = Transport::Connect(whole(arguments)?);
        no_other_has(config, view, transport)?;
        let session = SessionConfig::find_mut(config, view)?;
        if session.per_router.is_some() && local_port(arguments).is_some() {
            return Err(format!("the session has `per-router`, and {SHARES_NO_PORT}: `undo per-router` first"));
        }
        (session.transport, session.password) = (Some(transport), arguments.secret());
        (session.keychain, session.tls) = (keychain(arguments), tls(arguments));
        session.local_port = local_port(arguments);
        Ok(())
    }

    fn clear(&self, config: &mut Config, view: &CommandView, _arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let session = SessionConfig::find_mut(config, view)?;
        if matches!(session.transport, Some(Transport::Connect(_))) {
            (session.transport, session.password) = (None, None);
            (session.keychain, session.tls, session.local_port) = (None, None, None);
        }
        Ok(())
    }

    fn configured(&self, config: &Config, view: &CommandView) -> Vec<Vec<ArgumentValue>> {
        let Some(session) = SessionConfig::find(config, view) else { return Vec::new() };
        let Some(Transport::Connect(port)) = session.transport else { return Vec::new() };
        let SessionConfig { password, keychain, tls, local_port, .. } = session;
        let signed = password.clone().map(ArgumentValue::Secret).or(keychain.clone().map(ArgumentValue::Text));
        let behind = signed.into_iter().chain(tls_values(tls.clone())).chain(local_port_values(*local_port));
        vec![port.values().into_iter().chain(behind).collect()]
    }

    fn is_undone_by(&self, configured: ArgumentTokens<'_>, given: ArgumentTokens<'_>) -> bool {
        let begins_so = configured.0.starts_with(given.0);
        configured.0 == given.0 || (begins_so && given.secret().is_none())
    }
}

impl Access for ListenPort {
    fn values(&self, arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument> {
        let keychain = keychain(arguments).map(ArgumentValue::Text);
        let tls = tls_values(tls(arguments));
        Ok(u16::read(arguments)?.map(|port| port.values().into_iter().chain(keychain).chain(tls).collect()))
    }

    fn set(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let transport = Transport::Listen(whole(arguments)?);
        no_other_has(config, view, transport)?;
        let session = SessionConfig::find_mut(config, view)?;
        if session.adopt {
            return Err(format!("the session is adopted, and {ADOPTED_CONNECTS}: `undo adopt` first"));
        }
        if session.next_hop.is_some() {
            return Err(format!("the session has `next-hop`, and {ROUTED_CONNECTS}: `undo next-hop` first"));
        }
        if session.per_router.is_some() {
            return Err(format!("the session has `per-router`, and {DIVIDED_CONNECTS}: `undo per-router` first"));
        }
        if session.proxy_protocol {
            return Err("the session has `proxy-protocol`, and the end that connects sends the header: \
                        `undo proxy-protocol` first"
                .to_owned());
        }
        (session.transport, session.password, session.keychain) = (Some(transport), None, keychain(arguments));
        (session.tls, session.local_port) = (tls(arguments), None);
        Ok(())
    }

    fn clear(&self, config: &mut Config, view: &CommandView, _arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let session = SessionConfig::find_mut(config, view)?;
        if matches!(session.transport, Some(Transport::Listen(_))) {
            (session.transport, session.keychain, session.tls) = (None, None, None);
        }
        Ok(())
    }

    fn configured(&self, config: &Config, view: &CommandView) -> Vec<Vec<ArgumentValue>> {
        let Some(SessionConfig { transport: Some(Transport::Listen(port)), keychain, tls, .. }) =
            SessionConfig::find(config, view)
        else {
            return Vec::new();
        };
        let keychain = keychain.clone().map(ArgumentValue::Text);
        vec![port.values().into_iter().chain(keychain).chain(tls_values(tls.clone())).collect()]
    }

    fn is_undone_by(&self, configured: ArgumentTokens<'_>, given: ArgumentTokens<'_>) -> bool {
        configured.0.starts_with(given.0)
    }
}

/// Returns the name of the key chain that a command names.
fn keychain(arguments: ArgumentTokens<'_>) -> Option<String> {
    arguments.text_of(ArgumentKind::KeychainName)
}

/// Returns the name of the TLS profile that a command names.
fn tls(arguments: ArgumentTokens<'_>) -> Option<String> {
    arguments.text_of(ArgumentKind::TlsProfileName)
}

/// Returns the port of this device that a command names behind the station's.
fn local_port(arguments: ArgumentTokens<'_>) -> Option<u16> {
    arguments.numbers().nth(1).and_then(|(_, port)| port.try_into().ok())
}

/// Returns the end of a line with a local port, for its printed form.
fn local_port_values(port: Option<u16>) -> impl Iterator<Item = ArgumentValue> {
    let values = port.map(|port| [ArgumentValue::Keyword(LOCAL_PORT_WORD), ArgumentValue::Number(port.into())]);
    values.into_iter().flatten()
}

/// Refuses a port that another session of the VPN instance has for the same station.
///
/// Neither the kernel nor the wire could tell the two apart.
fn no_other_has(config: &Config, view: &CommandView, transport: Transport) -> Result<(), String> {
    let CommandView::Session(own) = view else { return Ok(()) };
    // In the order of the sessions, those to one station of one VPN instance follow one another.
    let first = SessionId { alias: None, ..own.clone() };
    let mut same_station = config
        .bmp
        .sessions
        .range(first..)
        .take_while(|(id, _)| id.station == own.station && id.vpn_instance == own.vpn_instance);
    let Some((other, _)) = same_station.find(|(id, session)| *id != own && session.transport == Some(transport)) else {
        return Ok(());
    };
    Err(match transport {
        Transport::Connect(port) => format!("the session {other} connects to port {port} of this station already"),
        Transport::Listen(port) => format!("the session {other} listens on port {port} for this station already"),
    })
}

/// Refuses a setting of a session that waits for its station.
pub(super) fn connects(config: &Config, view: &CommandView, why: &str) -> Result<(), String> {
    match SessionConfig::find(config, view).and_then(|session| session.transport) {
        Some(Transport::Listen(_)) => Err(format!("the session has `tcp listen port`, but {why}")),
        Some(Transport::Connect(_)) | None => Ok(()),
    }
}

pub(in crate::config) static CONNECT_INTERFACE: SettingDescriptor = SettingDescriptor {
    head: &[Word("connect-interface", "name the source of sessions")],
    value: &[SOURCE_FORMS],
    default: DefaultValue::Fixed("that of the bmp view for an IPv4 session, else the kernel's choice"),
    rows: &[DefaultRow { value: Some("the kernel's choice"), ..DefaultRow::new(10, "Source of a session") }],
    effect: Effect::ReconnectsIfPinChanges,
    access: field!(SessionConfig, connect_interface),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

/// One name or more. How many there may be is said where they are read.
static EGRESS_NAMES: [Syntax; 2] =
    [Argument(ArgumentKind::EgressName, "an interface that the session may leave by"), Optional(&EGRESS_NAMES)];

pub(in crate::config) static EGRESS_INTERFACE: SettingDescriptor = SettingDescriptor {
    head: &[Word("egress-interface", "name all interfaces that the session may leave by")],
    value: &EGRESS_NAMES,
    default: DefaultValue::Fixed("the source interface; any, where none is named"),
    rows: &[DefaultRow::new(20, "May leave by")],
    effect: Effect::ReconnectsIfPinChanges,
    note: "The command takes at most 8 names, and replaces those that were named before.",
    access: field!(SessionConfig, egress_interfaces),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

pub(in crate::config) static NEXT_HOP: SettingDescriptor = SettingDescriptor {
    head: &[Word("next-hop", "send the session's packets to this router, whatever the routes say")],
    value: &[Argument(ArgumentKind::NextHop, "the router's address")],
    default: DefaultValue::Fixed("as routing says"),
    rows: &[DefaultRow::new(40, "Next hop")],
    effect: Effect::ReconnectsIfPinChanges,
    note: "It does not go with `tcp listen port`.",
    access: field!(SessionConfig, next_hop, |config, view, _| connects(config, view, ROUTED_CONNECTS)),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

static HOLD_DOWN_TIME: NumberRange = NumberRange {
    name: "MILLISECONDS",
    subject: "a hold-down is",
    unit: Unit::Milliseconds,
    first: 0,
    last: 600_000,
    or_zero: false,
};

pub(in crate::config) static HOLD_DOWN: SettingDescriptor = SettingDescriptor {
    head: &[Word("hold-down", "how long the session outlives the loss of its interface")],
    value: &[Argument(ArgumentKind::Number(&HOLD_DOWN_TIME), "milliseconds RANGE")],
    default: DefaultValue::Fixed("0 ms"),
    rows: &[DefaultRow::new(50, "Hold-down")],
    effect: Effect::AtOnce,
    access: field!(SessionConfig, hold_down),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

static MSS: NumberRange = NumberRange {
    name: "BYTES",
    subject: "a maximum segment size is",
    unit: Unit::Bytes,
    // tcp(7), TCP_MAXSEG.
    first: 88,
    last: 32_767,
    or_zero: false,
};

pub(in crate::config) static TCP_MSS: SettingDescriptor = SettingDescriptor {
    head: &[TCP_WORD, Word("mss", "the longest segment that is sent")],
    value: &[Argument(ArgumentKind::Number(&MSS), "bytes RANGE")],
    default: DefaultValue::Fixed("as the kernel chooses"),
    rows: &[DefaultRow::new(121, "DSCP, TCP MSS")],
    effect: Effect::NextConnection,
    access: field!(SessionConfig, mss),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

static DSCP_VALUE: NumberRange =
    NumberRange { name: "DSCP", subject: "a DSCP is", unit: Unit::None, first: 0, last: 63, or_zero: false };

pub(in crate::config) static DSCP: SettingDescriptor = SettingDescriptor {
    head: &[Word("dscp", "the class of the session's packets")],
    value: &[Argument(ArgumentKind::Number(&DSCP_VALUE), "a DSCP RANGE")],
    default: DefaultValue::Fixed("as the kernel chooses"),
    rows: &[DefaultRow::new(120, "DSCP, TCP MSS")],
    effect: Effect::NextConnection,
    access: field!(SessionConfig, dscp),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

/// The ranges are those of the kernel (net/tcp.h, `MAX_TCP_KEEPIDLE` and the like).
static SILENCE: NumberRange = NumberRange {
    name: "IDLE",
    subject: "a keepalive is",
    unit: Unit::Seconds,
    first: 0,
    last: 32_767,
    or_zero: false,
};
static PROBE_INTERVAL: NumberRange = NumberRange {
    name: "INTERVAL",
    subject: "the time between two probes is",
    unit: Unit::Seconds,
    first: 1,
    last: 32_767,
    or_zero: false,
};
static PROBE_COUNT: NumberRange = NumberRange {
    name: "COUNT",
    subject: "how many probes there are is",
    unit: Unit::None,
    first: 1,
    last: 127,
    or_zero: false,
};

pub(in crate::config) static TCP_KEEPALIVE: SettingDescriptor = SettingDescriptor {
    head: &[Word("keepalive", "how long the connection is silent before TCP asks whether the station is there")],
    value: &[
        Argument(ArgumentKind::Number(&SILENCE), "seconds RANGE; 0 is never"),
        Optional(&[
            Argument(ArgumentKind::Number(&PROBE_INTERVAL), "seconds RANGE between two probes"),
            Argument(ArgumentKind::Number(&PROBE_COUNT), "how many probes without an answer end it, RANGE"),
        ]),
    ],
    default: DefaultValue::Computed(|| {
        let SessionKeepalive { idle, .. } = SessionConfig::KEEPALIVE;
        let KeepaliveProbes { interval, count } = KeepaliveProbes::DEFAULT;
        format!("after {} s of silence, {count} probes {} s apart", idle.as_secs(), interval.as_secs())
    }),
    rows: &[DefaultRow::new(110, "Keepalive of TCP")],
    effect: Effect::AtOnce,
    access: field!(SessionConfig, keepalive),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

static RETRY_FIRST: NumberRange = NumberRange {
    name: "FIRST",
    subject: "the first wait is",
    unit: Unit::Seconds,
    first: 1,
    last: 3600,
    or_zero: false,
};
static RETRY_LONGEST: NumberRange = NumberRange {
    name: "LONGEST",
    subject: "the longest wait is",
    unit: Unit::Seconds,
    first: RETRY_FIRST.first,
    last: RETRY_FIRST.last,
    or_zero: false,
};

pub(in crate::config) static CONNECT_RETRY: SettingDescriptor = SettingDescriptor {
    head: &[Word("connect-retry", "how long to wait between attempts to connect")],
    value: &[
        Argument(ArgumentKind::Number(&RETRY_FIRST), "seconds RANGE at first"),
        Argument(ArgumentKind::Number(&RETRY_LONGEST), "seconds RANGE at most"),
    ],
    // Shorter, operators mean `connect-interface`: `conn eth1`.
    shortest: "connect-r".len(),
    default: DefaultValue::Computed(|| {
        let ConnectRetry { first, longest } = SessionConfig::CONNECT_RETRY;
        format!("{} s to {} s, doubling", first.as_secs(), longest.as_secs())
    }),
    rows: &[DefaultRow::new(80, "Retry")],
    effect: Effect::NextAttempt,
    access: field!(SessionConfig, connect_retry),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

static WAIT: NumberRange = NumberRange {
    name: "SECONDS",
    subject: "a session waits",
    unit: Unit::Seconds,
    first: 0,
    last: 3600,
    or_zero: false,
};

pub(in crate::config) static INITIAL_DELAY: SettingDescriptor = SettingDescriptor {
    head: &[Word("initial-delay", "how long the first attempt to connect waits")],
    value: &[Argument(ArgumentKind::Number(&WAIT), "seconds RANGE")],
    default: DefaultValue::Fixed("0 s"),
    rows: &[DefaultRow::new(90, "Initial delay")],
    effect: Effect::FirstAttempt,
    access: field!(SessionConfig, initial_delay),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

pub(in crate::config) static FLAP_DAMPING: SettingDescriptor = SettingDescriptor {
    head: &[Word("flap-damping", "how long to wait at least when a connection was lost")],
    value: &[Argument(ArgumentKind::Number(&WAIT), "seconds RANGE")],
    default: DefaultValue::Fixed("0 s"),
    rows: &[DefaultRow::new(100, "Flap damping")],
    effect: Effect::NextAttempt,
    access: field!(SessionConfig, flap_damping),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

pub(in crate::config) static ROUTE_MIRRORING: SettingDescriptor = SettingDescriptor {
    head: &[Word("route-mirroring", "mirrored messages too, where it is said what the station is told")],
    default: DefaultValue::Fixed("passed on; with monitor, left out"),
    rows: &[DefaultRow::new(200, "Mirrored messages")],
    effect: Effect::AtOnce,
    access: field!(SessionConfig, route_mirroring),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

static BUFFER: NumberRange = NumberRange {
    name: "MB",
    subject: "a buffer limit is",
    unit: Unit::Megabytes,
    first: 1,
    last: SessionConfig::LARGEST_BUFFER,
    or_zero: false,
};

pub(in crate::config) static BUFFER_LIMIT: SettingDescriptor = SettingDescriptor {
    head: &[Word("buffer-limit", "how far the station may lag behind before it gets the state instead")],
    value: &[Argument(ArgumentKind::Number(&BUFFER), "megabytes of 1,048,576 bytes, RANGE")],
    default: DefaultValue::Computed(|| format!("the whole journal, {} MB", SessionConfig::LARGEST_BUFFER)),
    rows: &[DefaultRow::new(202, "A station may lag by")],
    effect: Effect::AtOnce,
    note: "A station that lags further skips what it has missed, and gets what has changed of the current state. So \
           it is current sooner, and ends with the same state. The lag counts the messages of all peers in the \
           journal.",
    access: field!(SessionConfig, buffer_limit),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

static STATISTICS_TIME: NumberRange = NumberRange {
    name: "SECONDS",
    subject: "the statistics timer of a session is",
    unit: Unit::Seconds,
    first: 15,
    last: 65_535,
    or_zero: false,
};

pub(in crate::config) static STATISTICS_TIMER: SettingDescriptor = SettingDescriptor {
    head: &[Word("statistics-timer", "how often the station gets Statistics Reports")],
    value: &[Argument(ArgumentKind::Number(&STATISTICS_TIME), "seconds RANGE")],
    default: DefaultValue::Fixed("the station gets each report as it comes"),
    rows: &[DefaultRow::new(211, "Statistics of a session")],
    effect: Effect::AtOnce,
    note: "The station gets the latest report of each peer at these times, if there is a newer one than before, and \
           none between them. bmpd reports on its own BGP peers as often as the shortest of these timers says. A \
           relayed peer has a new report when its daemon sends one.",
    access: field!(SessionConfig, statistics_timer),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

pub(in crate::config) static STATISTICS_DERIVED: SettingDescriptor = SettingDescriptor {
    head: &[
        Word("statistics", "Statistics Reports on relayed peers"),
        Word("derived", "report how many routes relayed peers have, where their daemon does not"),
    ],
    // Shorter, operators mean `statistics-timer`.
    shortest: "statistics".len(),
    default: DefaultValue::Fixed("what daemons report, alone"),
    rows: &[DefaultRow::new(212, "Statistics of relayed peers")],
    effect: Effect::AtOnce,
    note: "The reports come as often as `statistics-timer` of the session says, or else that of the bmp view. A peer \
           whose daemon sends a report of its own gets no derived one. A view of a peer is reported if each of its \
           RIBs has had End-of-RIB and the station is told all of them.",
    access: field!(SessionConfig, derives_statistics),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

pub(in crate::config) static INITIATION_MESSAGE: SettingDescriptor = SettingDescriptor {
    head: &[INITIATION_WORD],
    value: &INITIATION_TEXT,
    // Shorter, operators mean `initial-delay`: `init 5`.
    shortest: "initiat".len(),
    default: DefaultValue::Fixed("that of the bmp view"),
    effect: Effect::AtOnce,
    note: INITIATION_NOTE,
    access: field!(SessionConfig, initiation_message),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

pub(in crate::config) static ADOPT: SettingDescriptor = SettingDescriptor {
    head: &[Word("adopt", "another local process opens the session: pin and count it only")],
    default: DefaultValue::Fixed("bmpd"),
    rows: &[DefaultRow::new(60, "Owner")],
    effect: Effect::Reconnects,
    note: "bmpd closes its own connection; the other process opens the next one. It does not go with \
           `tcp listen port`.",
    access: field!(SessionConfig, adopt, |config, view, _| {
        connects(config, view, ADOPTED_CONNECTS)?;
        match SessionConfig::find(config, view).is_some_and(|session| session.per_router.is_some()) {
            true => Err(format!("the session has `per-router`, and {DIVIDED_IS_OWN}: `undo per-router` first")),
            false => Ok(()),
        }
    }),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

pub(in crate::config) static SHUTDOWN: SettingDescriptor = SettingDescriptor {
    head: &[Word("shutdown", "keep the session down")],
    default: DefaultValue::Fixed("the session is kept up"),
    effect: Effect::Closes,
    access: field!(SessionConfig, shutdown),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

pub(in crate::config) static MONITOR: SettingDescriptor = SettingDescriptor {
    head: MONITOR_FORMS,
    enters: Some(ViewKind::Monitor),
    default: DefaultValue::Fixed("everything"),
    rows: &[DefaultRow::new(190, "Told to a station")],
    effect: Effect::AtOnce,
    access: &Entries::<SessionConfig, MonitorId, MonitorConfig> {
        get: |session| &session.monitors,
        get_mut: |session| &mut session.monitors,
        check: |_, _| Ok(()),
        view: |around, monitor| match around {
            CommandView::Session(id) => Some(CommandView::Monitor(id.clone(), monitor)),
            _ => None,
        },
    },
    ..SettingDescriptor::in_view(ViewKind::Session)
};
