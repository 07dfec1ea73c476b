//! The table: every command of the language.

mod families;
mod inputs;
mod monitors;

pub(in crate::config) use families::FAMILIES;

use super::{
    Action, Item, Rule,
    Syntax::{self, Choice, Optional, Value, Word},
    ViewKind,
};
use crate::config::value::Kind;
use inputs::{
    ALLOW, BGP, BGP_IPV4_FAMILY, BGP_IPV6_FAMILY, BGP_L2VPN_FAMILY, BGP_LINK_STATE_FAMILY, END_OF_RIB_AFTER, LISTEN,
    LISTEN_PORT, MAX_CONNECTIONS, PEER_AS_NUMBER, PEER_CONNECT_INTERFACE, PEER_ENABLE, PEER_LISTEN_ONLY, PEER_PASSWORD,
    PEER_PORT, PEER_TIMER, RELAY, RELAY_HOLD, REPLAY, REPLAY_FILE, REPLAY_LOOP, REPLAY_PACE, ROUTER_ID,
};
use monitors::{MONITOR, ROUTE_MIRRORING, ROUTE_MODE};

pub(in crate::config) const UNDO: &[Syntax] = &[Word("undo", "take a setting back")];

const SYSNAME_WORD: Syntax = Word("sysname", "name this device");
const SYSNAME_VALUE: Syntax = Value(Kind::Sysname, "this device's name");
static SYSNAME: Rule = Rule {
    action: Action::Configure(Item::Sysname),
    views: &[ViewKind::System],
    syntax: &[SYSNAME_WORD, SYSNAME_VALUE],
    undo: Some(&[SYSNAME_WORD, Optional(&[SYSNAME_VALUE])]),
    enters: None,
};

const INTERFACE_ALIAS_WORD: Syntax = Word("interface-alias", "give an interface one more name");
const KERNEL_NAME: Syntax = Value(Kind::KernelName, "the interface's name in the kernel");
const ALIAS_NAME: Syntax = Value(Kind::InterfaceName, "the name it gets");
static INTERFACE_ALIAS: Rule = Rule {
    action: Action::Configure(Item::InterfaceAlias),
    views: &[ViewKind::System],
    syntax: &[INTERFACE_ALIAS_WORD, KERNEL_NAME, ALIAS_NAME],
    undo: Some(&[INTERFACE_ALIAS_WORD, KERNEL_NAME, Optional(&[ALIAS_NAME])]),
    enters: None,
};

const LISTEN_WORD: Syntax = Word("listen", "where the daemon connects to");
const LISTEN_ADDRESS: Syntax = Value(Kind::Listen, "an address of this host");
const PORT_WORD: Syntax = Word("port", "TCP port");
const PORT_VALUE: Syntax = Value(Kind::Port, "a port from 1 to 65535");
const BMP_SYNTAX: &[Syntax] = &[Word("bmp", "sessions to monitoring stations")];
static BMP: Rule = Rule {
    action: Action::Configure(Item::Bmp),
    views: &[ViewKind::System],
    syntax: BMP_SYNTAX,
    undo: Some(BMP_SYNTAX),
    enters: Some(ViewKind::Bmp),
};

const CONNECT_INTERFACE_WORD: Syntax = Word("connect-interface", "name the source of sessions");
const BMP_SOURCE: Syntax = Value(Kind::Ipv4Source, "the source address of IPv4 sessions");
static BMP_CONNECT_INTERFACE: Rule = Rule {
    action: Action::Configure(Item::BmpConnectInterface),
    views: &[ViewKind::Bmp],
    syntax: &[CONNECT_INTERFACE_WORD, BMP_SOURCE],
    undo: Some(&[CONNECT_INTERFACE_WORD, Optional(&[BMP_SOURCE])]),
    enters: None,
};

const STATISTICS_TIMER_WORD: Syntax = Word("statistics-timer", "how often BGP peers are reported on");
const STATISTICS_TIMER_VALUE: Syntax = Value(Kind::StatisticsTime, "seconds; 0 is never");
static STATISTICS_TIMER: Rule = Rule {
    action: Action::Configure(Item::StatisticsTimer),
    views: &[ViewKind::Bmp],
    syntax: &[STATISTICS_TIMER_WORD, STATISTICS_TIMER_VALUE],
    undo: Some(&[STATISTICS_TIMER_WORD, Optional(&[STATISTICS_TIMER_VALUE])]),
    enters: None,
};

static PERSIST: Rule = Rule {
    action: Action::Configure(Item::Persist),
    views: &[ViewKind::Bmp],
    syntax: PERSIST_SYNTAX,
    undo: Some(PERSIST_SYNTAX),
    enters: None,
};
const PERSIST_SYNTAX: &[Syntax] = &[Word("persist", "keep what the kernel enforces when bmpd is told to end")];

/// What names a session: everywhere the same.
const VPN_INSTANCE: Syntax = Optional(&[
    Word("vpn-instance", "in the VPN instance of this name"),
    Value(Kind::VpnInstance, "the name of the VPN instance, which is that of its VRF device"),
]);
const ALIAS: Syntax =
    Optional(&[Word("alias", "tells sessions to one station apart"), Value(Kind::Alias, "the session's alias")]);
const SESSION_SYNTAX: &[Syntax] = &[
    Word("bmp-session", "a session to a monitoring station"),
    VPN_INSTANCE,
    Value(Kind::Station, "the station's address"),
    ALIAS,
];
static SESSION: Rule = Rule {
    action: Action::Configure(Item::Session),
    views: &[ViewKind::Bmp],
    syntax: SESSION_SYNTAX,
    undo: Some(SESSION_SYNTAX),
    enters: Some(ViewKind::Session),
};

const TCP_WORD: Syntax = Word("tcp", "the session's TCP connection");
const TCP_CONNECT_WORD: Syntax = Word("connect", "this device connects to the station");
const MD5: Syntax = Optional(&[
    Word("password", "sign what is sent"),
    Word("md5", "with TCP MD5"),
    Value(Kind::Password, "a secret that the station has too"),
]);
static TCP_CONNECT_PORT: Rule = Rule {
    action: Action::Configure(Item::TcpConnectPort),
    views: &[ViewKind::Session],
    syntax: &[TCP_WORD, TCP_CONNECT_WORD, PORT_WORD, PORT_VALUE, MD5],
    undo: Some(&[TCP_WORD, TCP_CONNECT_WORD, PORT_WORD, Optional(&[PORT_VALUE, MD5])]),
    enters: None,
};

const TCP_LISTEN_WORD: Syntax = Word("listen", "the station connects to this device");
const OWN_PORT_WORD: Syntax = Word("port", "TCP port of this device");
static TCP_LISTEN_PORT: Rule = Rule {
    action: Action::Configure(Item::TcpListenPort),
    views: &[ViewKind::Session],
    syntax: &[TCP_WORD, TCP_LISTEN_WORD, OWN_PORT_WORD, PORT_VALUE],
    undo: Some(&[TCP_WORD, TCP_LISTEN_WORD, OWN_PORT_WORD, Optional(&[PORT_VALUE])]),
    enters: None,
};

const SOURCE: Syntax = Value(Kind::Source, "the source address");
const SOURCE_FORMS: Syntax = Choice(&[
    &[SOURCE],
    &[Value(Kind::InterfaceName, "the source interface"), Optional(&[SOURCE])],
    &[
        Value(Kind::InterfaceType, "the source interface's type"),
        Value(Kind::InterfaceNumber, "the source interface's number"),
        Optional(&[SOURCE]),
    ],
]);
static CONNECT_INTERFACE: Rule = Rule {
    action: Action::Configure(Item::ConnectInterface),
    views: &[ViewKind::Session],
    syntax: &[CONNECT_INTERFACE_WORD, SOURCE_FORMS],
    undo: Some(&[CONNECT_INTERFACE_WORD, Optional(&[SOURCE_FORMS])]),
    enters: None,
};

const EGRESS_INTERFACE_WORD: Syntax = Word("egress-interface", "name all interfaces that the session may leave by");
/// One name or more; how many is said where they are read.
static EGRESS_NAMES: [Syntax; 2] =
    [Value(Kind::EgressName, "an interface that the session may leave by"), Optional(&EGRESS_NAMES)];
static EGRESS_INTERFACE: Rule = Rule {
    action: Action::Configure(Item::EgressInterface),
    views: &[ViewKind::Session],
    syntax: &[EGRESS_INTERFACE_WORD, Choice(&[&EGRESS_NAMES])],
    undo: Some(&[EGRESS_INTERFACE_WORD, Optional(&EGRESS_NAMES)]),
    enters: None,
};

const NEXT_HOP_WORD: Syntax = Word("next-hop", "send the session's packets to this router, whatever the routes say");
const NEXT_HOP_VALUE: Syntax = Value(Kind::NextHop, "the router's address");
static NEXT_HOP: Rule = Rule {
    action: Action::Configure(Item::NextHop),
    views: &[ViewKind::Session],
    syntax: &[NEXT_HOP_WORD, NEXT_HOP_VALUE],
    undo: Some(&[NEXT_HOP_WORD, Optional(&[NEXT_HOP_VALUE])]),
    enters: None,
};

const HOLD_DOWN_WORD: Syntax = Word("hold-down", "how long the session outlives the loss of its interface");
const HOLD_DOWN_VALUE: Syntax = Value(Kind::HoldDown, "milliseconds from 0 to 600000");
static HOLD_DOWN: Rule = Rule {
    action: Action::Configure(Item::HoldDown),
    views: &[ViewKind::Session],
    syntax: &[HOLD_DOWN_WORD, HOLD_DOWN_VALUE],
    undo: Some(&[HOLD_DOWN_WORD, Optional(&[HOLD_DOWN_VALUE])]),
    enters: None,
};

const MSS_WORD: Syntax = Word("mss", "the longest segment that is sent");
const MSS_VALUE: Syntax = Value(Kind::Mss, "bytes");
static TCP_MSS: Rule = Rule {
    action: Action::Configure(Item::TcpMss),
    views: &[ViewKind::Session],
    syntax: &[TCP_WORD, MSS_WORD, MSS_VALUE],
    undo: Some(&[TCP_WORD, MSS_WORD, Optional(&[MSS_VALUE])]),
    enters: None,
};

const DSCP_WORD: Syntax = Word("dscp", "the class of the session's packets");
const DSCP_VALUE: Syntax = Value(Kind::Dscp, "a DSCP");
static DSCP: Rule = Rule {
    action: Action::Configure(Item::Dscp),
    views: &[ViewKind::Session],
    syntax: &[DSCP_WORD, DSCP_VALUE],
    undo: Some(&[DSCP_WORD, Optional(&[DSCP_VALUE])]),
    enters: None,
};

const TCP_KEEPALIVE_WORD: Syntax =
    Word("keepalive", "how long the connection is silent before TCP asks whether the station is there");
const TCP_KEEPALIVE_VALUE: Syntax = Value(Kind::TcpKeepalive, "seconds; 0 is never");
static TCP_KEEPALIVE: Rule = Rule {
    action: Action::Configure(Item::TcpKeepalive),
    views: &[ViewKind::Session],
    syntax: &[TCP_KEEPALIVE_WORD, TCP_KEEPALIVE_VALUE],
    undo: Some(&[TCP_KEEPALIVE_WORD, Optional(&[TCP_KEEPALIVE_VALUE])]),
    enters: None,
};

const INITIAL_DELAY_WORD: Syntax = Word("initial-delay", "how long the first attempt to connect waits");
const INITIAL_DELAY_VALUE: Syntax = Value(Kind::Wait, "seconds");
static INITIAL_DELAY: Rule = Rule {
    action: Action::Configure(Item::InitialDelay),
    views: &[ViewKind::Session],
    syntax: &[INITIAL_DELAY_WORD, INITIAL_DELAY_VALUE],
    undo: Some(&[INITIAL_DELAY_WORD, Optional(&[INITIAL_DELAY_VALUE])]),
    enters: None,
};

const FLAP_DAMPING_WORD: Syntax = Word("flap-damping", "how long to wait at least when a connection was lost");
const FLAP_DAMPING_VALUE: Syntax = Value(Kind::Wait, "seconds");
static FLAP_DAMPING: Rule = Rule {
    action: Action::Configure(Item::FlapDamping),
    views: &[ViewKind::Session],
    syntax: &[FLAP_DAMPING_WORD, FLAP_DAMPING_VALUE],
    undo: Some(&[FLAP_DAMPING_WORD, Optional(&[FLAP_DAMPING_VALUE])]),
    enters: None,
};

const CONNECT_RETRY_WORD: Syntax = Word("connect-retry", "how long to wait between attempts to connect");
const RETRY_TIMES: [Syntax; 2] =
    [Value(Kind::RetryFirst, "seconds at first"), Value(Kind::RetryLongest, "seconds at most")];
static CONNECT_RETRY: Rule = Rule {
    action: Action::Configure(Item::ConnectRetry),
    views: &[ViewKind::Session],
    syntax: &[CONNECT_RETRY_WORD, Choice(&[&RETRY_TIMES])],
    undo: Some(&[CONNECT_RETRY_WORD, Optional(&RETRY_TIMES)]),
    enters: None,
};

const ADOPT_SYNTAX: &[Syntax] = &[Word("adopt", "another local process opens the session: pin and count it only")];
static ADOPT: Rule = Rule {
    action: Action::Configure(Item::Adopt),
    views: &[ViewKind::Session],
    syntax: ADOPT_SYNTAX,
    undo: Some(ADOPT_SYNTAX),
    enters: None,
};

const SHUTDOWN_SYNTAX: &[Syntax] = &[Word("shutdown", "keep the session down")];
static SHUTDOWN: Rule = Rule {
    action: Action::Configure(Item::Shutdown),
    views: &[ViewKind::Session],
    syntax: SHUTDOWN_SYNTAX,
    undo: Some(SHUTDOWN_SYNTAX),
    enters: None,
};

/// Keywords that decide what a command does once it is understood.
pub(in crate::config) mod word {
    /// `display bmp session verbose`.
    pub(in crate::config) const VERBOSE: &str = "verbose";
    /// `display configuration candidate changes`.
    pub(in crate::config) const CHANGES: &str = "changes";
    /// `commit force`, `abort trial force`.
    pub(in crate::config) const FORCE: &str = "force";
    /// `... | include TEXT`.
    pub(in crate::config) const INCLUDE: &str = "include";
    /// `... | exclude TEXT`.
    pub(in crate::config) const EXCLUDE: &str = "exclude";
    /// `... | begin TEXT`.
    pub(in crate::config) const BEGIN: &str = "begin";
}

const DISPLAY_WORD: Syntax = Word("display", "show something");

/// The rest of the line.
static TEXT: [Syntax; 2] = [Value(Kind::Text, "text to look for, as it is, to the end of the line"), Optional(&TEXT)];
/// What may stand behind every `display`.
static FILTER: [Syntax; 2] = [
    Word("|", "of the answer, show only some lines"),
    Choice(&[
        &[Word(word::INCLUDE, "those that hold a text"), Choice(&[&TEXT])],
        &[Word(word::EXCLUDE, "those that do not"), Choice(&[&TEXT])],
        &[Word(word::BEGIN, "those from the first one on that does"), Choice(&[&TEXT])],
    ]),
];

static DISPLAY_BMP_SESSION: Rule = exec(
    Action::DisplayBmpSession,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        Word("bmp", "about BMP"),
        Word("session", "the sessions"),
        VPN_INSTANCE,
        Optional(&[Value(Kind::Station, "a station's address: its sessions alone"), ALIAS]),
        Optional(&[Word(word::VERBOSE, "in detail")]),
        Optional(&FILTER),
    ],
);

static DISPLAY_CURRENT_CONFIGURATION: Rule = exec(
    Action::DisplayCurrentConfiguration,
    &ViewKind::ALL,
    &[DISPLAY_WORD, Word("current-configuration", "the configuration in force"), Optional(&FILTER)],
);

static DISPLAY_CANDIDATE: Rule = exec(
    Action::DisplayCandidate,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        CONFIGURATION,
        CANDIDATE,
        Optional(&[Word(word::CHANGES, "only what a commit would change")]),
        Optional(&FILTER),
    ],
);
static DISPLAY_TRIAL: Rule = exec(
    Action::DisplayTrial,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        CONFIGURATION,
        Word("trial", "the trial that runs: whose it is, and how long it has"),
        Optional(&FILTER),
    ],
);
const CONFIGURATION: Syntax = Word("configuration", "a configuration");
const CANDIDATE: Syntax = Word("candidate", "the one being edited, which no commit has put in force");

static DISPLAY_DEFAULT_PARAMETER_BMP: Rule = exec(
    Action::DisplayDefaultParameterBmp,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        Word("default-parameter", "what is so where nothing is configured"),
        Word("bmp", "about BMP"),
        Optional(&FILTER),
    ],
);

static DISPLAY_INTERFACE_BINDING: Rule = exec(
    Action::DisplayInterfaceBinding,
    &ViewKind::ALL,
    &[DISPLAY_WORD, Word("interface-binding", "what each session's source came to, and why"), Optional(&FILTER)],
);

static DISPLAY_BGP_PEER: Rule = exec(
    Action::DisplayBgpPeer,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        ABOUT_BGP,
        Word("peer", "the peers that routes are taken from"),
        Optional(&[Value(Kind::Peer, "a peer's address: it alone")]),
        Optional(&[Word(word::VERBOSE, "in detail")]),
        Optional(&FILTER),
    ],
);

static DISPLAY_BGP_BMP_MONITOR: Rule = exec(
    Action::DisplayBgpBmpMonitor,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        ABOUT_BGP,
        Word("bmp-monitor", "the peers of all inputs, and which stations are told of them"),
        Word("all", "all of them"),
        Optional(&FILTER),
    ],
);
const ABOUT_BGP: Syntax = Word("bgp", "about BGP");

static DISPLAY_BMP_FEED: Rule = exec(
    Action::DisplayBmpFeed,
    &ViewKind::ALL,
    &[DISPLAY_WORD, Word("bmp", "about BMP"), Word("feed", "what there is to tell stations"), Optional(&FILTER)],
);

static DISPLAY_BMP_RELAY: Rule = exec(
    Action::DisplayBmpRelay,
    &ViewKind::ALL,
    &[DISPLAY_WORD, Word("bmp", "about BMP"), Word("relay", "the daemons that send BMP"), Optional(&FILTER)],
);

static DISPLAY_MRT_REPLAY: Rule = exec(
    Action::DisplayMrtReplay,
    &ViewKind::ALL,
    &[DISPLAY_WORD, Word("mrt-replay", "how far files are replayed"), Optional(&FILTER)],
);

static RESET_BMP_SESSION: Rule = exec(
    Action::ResetBmpSession,
    &ViewKind::ALL,
    &[
        Word("reset", "end something and begin it again"),
        Word("bmp", "about BMP"),
        Word("session", "sessions"),
        VPN_INSTANCE,
        Choice(&[&[Value(Kind::Station, "a station's address: its sessions"), ALIAS], &[Word("all", "every session")]]),
    ],
);

static SYSTEM_VIEW: Rule = exec(Action::SystemView, &[ViewKind::User], &[Word("system-view", "configure this device")]);

static COMMIT: Rule = exec(
    Action::Commit,
    &ViewKind::ALL,
    &[
        Word("commit", "put the candidate in force, or confirm the trial that runs"),
        Optional(&[Choice(&[
            &[
                Word("trial", "for a time, unless it is confirmed"),
                Value(Kind::Trial, "seconds from 1 to 65535 until the configuration returns"),
            ],
            &[Word(word::FORCE, "confirm the trial also where it is another operator's")],
        ])]),
    ],
);

static ABORT_TRIAL: Rule = exec(
    Action::AbortTrial,
    &ViewKind::ALL,
    &[
        Word("abort", "give up"),
        Word("trial", "the trial that runs: the configuration before it returns at once"),
        Optional(&[Word(word::FORCE, "also where it is another operator's")]),
    ],
);

static CLEAR_CANDIDATE: Rule =
    exec(Action::ClearCandidate, &ViewKind::ALL, &[Word("clear", "drop something"), CONFIGURATION, CANDIDATE]);

static QUIT: Rule = exec(Action::Quit, &ViewKind::ALL, &[Word("quit", "leave this view")]);

static RETURN: Rule = exec(Action::Return, &ViewKind::ALL, &[Word("return", "go back to the user view")]);

/// A command that configures nothing.
const fn exec(action: Action, views: &'static [ViewKind], syntax: &'static [Syntax]) -> Rule {
    Rule { action, views, syntax, undo: None, enters: None }
}

/// The whole language.
pub(in crate::config) static RULES: [&Rule; 66] = [
    &SYSNAME,
    &INTERFACE_ALIAS,
    &BGP,
    &ROUTER_ID,
    &LISTEN_PORT,
    &PEER_AS_NUMBER,
    &PEER_PORT,
    &PEER_PASSWORD,
    &PEER_LISTEN_ONLY,
    &PEER_CONNECT_INTERFACE,
    &PEER_TIMER,
    &BGP_IPV4_FAMILY,
    &BGP_IPV6_FAMILY,
    &BGP_L2VPN_FAMILY,
    &BGP_LINK_STATE_FAMILY,
    &PEER_ENABLE,
    &RELAY,
    &LISTEN,
    &ALLOW,
    &RELAY_HOLD,
    &END_OF_RIB_AFTER,
    &MAX_CONNECTIONS,
    &REPLAY,
    &REPLAY_FILE,
    &REPLAY_PACE,
    &REPLAY_LOOP,
    &BMP,
    &STATISTICS_TIMER,
    &BMP_CONNECT_INTERFACE,
    &PERSIST,
    &SESSION,
    &TCP_CONNECT_PORT,
    &TCP_LISTEN_PORT,
    &CONNECT_INTERFACE,
    &EGRESS_INTERFACE,
    &NEXT_HOP,
    &HOLD_DOWN,
    &TCP_MSS,
    &DSCP,
    &TCP_KEEPALIVE,
    &CONNECT_RETRY,
    &INITIAL_DELAY,
    &FLAP_DAMPING,
    &MONITOR,
    &ROUTE_MODE,
    &ROUTE_MIRRORING,
    &ADOPT,
    &SHUTDOWN,
    &DISPLAY_BMP_SESSION,
    &DISPLAY_CURRENT_CONFIGURATION,
    &DISPLAY_CANDIDATE,
    &DISPLAY_TRIAL,
    &DISPLAY_DEFAULT_PARAMETER_BMP,
    &DISPLAY_INTERFACE_BINDING,
    &DISPLAY_BMP_FEED,
    &DISPLAY_BGP_PEER,
    &DISPLAY_BGP_BMP_MONITOR,
    &DISPLAY_BMP_RELAY,
    &DISPLAY_MRT_REPLAY,
    &RESET_BMP_SESSION,
    &SYSTEM_VIEW,
    &COMMIT,
    &ABORT_TRIAL,
    &CLEAR_CANDIDATE,
    &QUIT,
    &RETURN,
];

impl Item {
    /// The command that sets it.
    pub(in crate::config) fn rule(self) -> &'static Rule {
        match self {
            Self::Sysname => &SYSNAME,
            Self::InterfaceAlias => &INTERFACE_ALIAS,
            Self::Relay => &RELAY,
            Self::Listen => &LISTEN,
            Self::Bmp => &BMP,
            Self::BmpConnectInterface => &BMP_CONNECT_INTERFACE,
            Self::Persist => &PERSIST,
            Self::Session => &SESSION,
            Self::TcpConnectPort => &TCP_CONNECT_PORT,
            Self::TcpListenPort => &TCP_LISTEN_PORT,
            Self::ConnectInterface => &CONNECT_INTERFACE,
            Self::EgressInterface => &EGRESS_INTERFACE,
            Self::NextHop => &NEXT_HOP,
            Self::HoldDown => &HOLD_DOWN,
            Self::Bgp => &BGP,
            Self::RouterId => &ROUTER_ID,
            Self::ListenPort => &LISTEN_PORT,
            Self::PeerAsNumber => &PEER_AS_NUMBER,
            Self::PeerPort => &PEER_PORT,
            Self::PeerPassword => &PEER_PASSWORD,
            Self::PeerListenOnly => &PEER_LISTEN_ONLY,
            Self::PeerConnectInterface => &PEER_CONNECT_INTERFACE,
            Self::PeerTimer => &PEER_TIMER,
            Self::BgpFamily => &BGP_IPV4_FAMILY,
            Self::PeerEnable => &PEER_ENABLE,
            Self::Allow => &ALLOW,
            Self::RelayHold => &RELAY_HOLD,
            Self::EndOfRibAfter => &END_OF_RIB_AFTER,
            Self::MaxConnections => &MAX_CONNECTIONS,
            Self::Replay => &REPLAY,
            Self::ReplayFile => &REPLAY_FILE,
            Self::ReplayPace => &REPLAY_PACE,
            Self::ReplayLoop => &REPLAY_LOOP,
            Self::StatisticsTimer => &STATISTICS_TIMER,
            Self::TcpMss => &TCP_MSS,
            Self::Dscp => &DSCP,
            Self::TcpKeepalive => &TCP_KEEPALIVE,
            Self::ConnectRetry => &CONNECT_RETRY,
            Self::InitialDelay => &INITIAL_DELAY,
            Self::FlapDamping => &FLAP_DAMPING,
            Self::Monitor => &MONITOR,
            Self::RouteMode => &ROUTE_MODE,
            Self::RouteMirroring => &ROUTE_MIRRORING,
            Self::Adopt => &ADOPT,
            Self::Shutdown => &SHUTDOWN,
        }
    }
}

/// The rule that a family's view is entered by.
pub(in crate::config) fn family_rule(first: &str) -> &'static Rule {
    let rules = [&BGP_IPV4_FAMILY, &BGP_IPV6_FAMILY, &BGP_L2VPN_FAMILY, &BGP_LINK_STATE_FAMILY];
    rules.into_iter().find(|rule| rule.keyword() == first).unwrap_or(&BGP_IPV4_FAMILY)
}
