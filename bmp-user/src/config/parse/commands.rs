//! The commands that set nothing: `display`, `reset`, `commit` and the ways between views.

use crate::config::{
    commit::COMMITS_KEPT,
    language::{
        argument::ArgumentKind,
        number::{NumberRange, Unit},
        syntax::Syntax::{self, Choice, Optional, Value, Word},
    },
    settings::{ALIAS, VPN_INSTANCE},
    view::ViewKind,
};

/// The action of a command that sets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum CommandAction {
    AbortTrial,
    ClearCandidate,
    Commit,
    Debugging,
    DisplayBgpBmpMonitor,
    DisplayBgpPeer,
    DisplayBmpFeed,
    DisplayBmpRelay,
    DisplayBmpSession,
    DisplayCandidate,
    DisplayCommitChanges,
    DisplayCommitList,
    DisplayCurrentConfiguration,
    DisplayDebugging,
    DisplayDefaultParameterBmp,
    DisplayHttp,
    DisplayInterfaceBinding,
    DisplayLogBuffer,
    DisplayMrtReplay,
    DisplayThis,
    DisplayTrial,
    DisplayVersion,
    ResetBgpPeer,
    ResetBmpSession,
    Rollback,
    Save,
    SystemView,
    Quit,
    Return,
}

/// A command that sets nothing.
#[derive(Debug)]
pub(in crate::config) struct CommandRule {
    pub(in crate::config) action: CommandAction,
    /// The views that know it.
    pub(in crate::config) views: &'static [ViewKind],
    /// Begins with a keyword.
    pub(in crate::config) syntax: &'static [Syntax],
    /// What may stand behind `undo`; empty if nothing may.
    pub(in crate::config) undo: &'static [Syntax],
    /// A keyword, and how many letters of it an operator must type at least. With fewer, operators
    /// mean keywords that were there before.
    pub(in crate::config) shortest: Option<(&'static str, usize)>,
}

/// Keywords that decide what a command does once it is understood.
pub(in crate::config) mod word {
    /// `display bmp session verbose`.
    pub(in crate::config) const VERBOSE: &str = "verbose";
    /// `display configuration candidate changes`.
    pub(in crate::config) const CHANGES: &str = "changes";
    /// `... commit changes at ID`.
    pub(in crate::config) const AT: &str = "at";
    /// `commit force`, `abort trial force`.
    pub(in crate::config) const FORCE: &str = "force";
    /// `display current-configuration system`.
    pub(in crate::config) const SYSTEM: &str = "system";
    /// `display current-configuration bmp`.
    pub(in crate::config) const BMP: &str = "bmp";
    /// `display current-configuration bgp`.
    pub(in crate::config) const BGP: &str = "bgp";
    /// `display current-configuration mrt-replay NAME`.
    pub(in crate::config) const MRT_REPLAY: &str = "mrt-replay";
    /// `reset bmp session all counters`.
    pub(in crate::config) const COUNTERS: &str = "counters";
    /// `... | include TEXT`.
    pub(in crate::config) const INCLUDE: &str = "include";
    /// `... | exclude TEXT`.
    pub(in crate::config) const EXCLUDE: &str = "exclude";
    /// `... | begin TEXT`.
    pub(in crate::config) const BEGIN: &str = "begin";
}

const DISPLAY_WORD: Syntax = Word("display", "show something");

/// The rest of the line.
static TEXT: [Syntax; 2] =
    [Value(ArgumentKind::Text, "text to look for, to the end of the line; quotes around it go"), Optional(&TEXT)];
/// The filter that may stand behind every `display`.
static FILTER: [Syntax; 2] = [
    Word("|", "of the answer, show only some lines"),
    Choice(&[
        &[Word(word::INCLUDE, "those that hold a text"), Choice(&[&TEXT])],
        &[Word(word::EXCLUDE, "those that do not"), Choice(&[&TEXT])],
        &[Word(word::BEGIN, "those from the first one on that does"), Choice(&[&TEXT])],
    ]),
];

static DISPLAY_BMP_SESSION: CommandRule = command(
    CommandAction::DisplayBmpSession,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        Word("bmp", "about BMP"),
        Word("session", "the sessions"),
        VPN_INSTANCE,
        Optional(&[Value(ArgumentKind::Station, "a station's address: its sessions alone"), ALIAS]),
        Optional(&[Word(word::VERBOSE, "in detail")]),
        Optional(&FILTER),
    ],
);

static DISPLAY_CURRENT_CONFIGURATION: CommandRule = command(
    CommandAction::DisplayCurrentConfiguration,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        Word("current-configuration", "the configuration in force"),
        Optional(&[Choice(&[
            &[Word(word::SYSTEM, "the lines of the system view alone")],
            &[Word(word::BMP, "the bmp view, with its sessions")],
            &[
                Word("bmp-session", "one session"),
                VPN_INSTANCE,
                Value(ArgumentKind::Station, "the station's address"),
                ALIAS,
            ],
            &[Word("keychain", "one key chain"), Value(ArgumentKind::KeychainName, "the key chain's name")],
            &[
                Word("tls", "what TLS has"),
                Word("profile", "one profile"),
                Value(ArgumentKind::TlsProfileName, "the profile's name"),
            ],
            &[Word("route-filter", "one filter"), Value(ArgumentKind::RouteFilterName, "the filter's name")],
            &[Word(word::BGP, "the bgp view")],
            &[Word("bmp-relay", "one relay"), Value(ArgumentKind::InputName, "the relay's name")],
            &[Word(word::MRT_REPLAY, "one replay"), Value(ArgumentKind::InputName, "the replay's name")],
        ])]),
        Optional(&FILTER),
    ],
);

static DISPLAY_THIS: CommandRule = command(
    CommandAction::DisplayThis,
    &ViewKind::ALL,
    &[DISPLAY_WORD, Word("this", "what this view configures, as the candidate has it"), Optional(&FILTER)],
);

static DISPLAY_CANDIDATE: CommandRule = command(
    CommandAction::DisplayCandidate,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        CONFIGURATION,
        CANDIDATE,
        Optional(&[Word(word::CHANGES, "only what a commit would change")]),
        Optional(&FILTER),
    ],
);
static DISPLAY_TRIAL: CommandRule = command(
    CommandAction::DisplayTrial,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        CONFIGURATION,
        Word("trial", "the trial that runs: whose it is, and how long it has"),
        Optional(&FILTER),
    ],
);

/// The number of a commit.
static COMMIT_ID: NumberRange = NumberRange {
    name: "ID",
    subject: "the number of a commit is",
    unit: Unit::None,
    first: 1,
    last: u32::MAX,
    or_zero: false,
};
/// How many commits.
static COMMIT_COUNT: NumberRange = NumberRange {
    name: "COUNT",
    subject: "the number of commits is",
    unit: Unit::None,
    first: 1,
    last: COMMITS_KEPT as u32,
    or_zero: false,
};

static DISPLAY_COMMIT_LIST: CommandRule = command(
    CommandAction::DisplayCommitList,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        CONFIGURATION,
        COMMITS,
        Word("list", "who made each, and when"),
        Optional(&[
            Word("last", "only the newest"),
            Value(ArgumentKind::Number(&COMMIT_COUNT), "how many commits, RANGE"),
        ]),
        Optional(&FILTER),
    ],
);
static DISPLAY_COMMIT_CHANGES: CommandRule = command(
    CommandAction::DisplayCommitChanges,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        CONFIGURATION,
        COMMITS,
        Word(word::CHANGES, "what each changed"),
        Optional(&[Choice(&[
            &[Word(word::AT, "only one"), Value(ArgumentKind::Number(&COMMIT_ID), "the number of the commit")],
            &[Word("last", "only the newest"), Value(ArgumentKind::Number(&COMMIT_COUNT), "how many commits, RANGE")],
        ])]),
        Optional(&FILTER),
    ],
);
const COMMITS: Syntax = Word("commit", "the commits that were made");
const CONFIGURATION: Syntax = Word("configuration", "a configuration");
const CANDIDATE: Syntax = Word("candidate", "the one being edited, which no commit has put in force");

static DISPLAY_DEFAULT_PARAMETER_BMP: CommandRule = command(
    CommandAction::DisplayDefaultParameterBmp,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        Word("default-parameter", "what is so where nothing is configured"),
        Word("bmp", "about BMP"),
        Optional(&FILTER),
    ],
);

static DISPLAY_INTERFACE_BINDING: CommandRule = command(
    CommandAction::DisplayInterfaceBinding,
    &ViewKind::ALL,
    &[DISPLAY_WORD, Word("interface-binding", "what each session's source came to, and why"), Optional(&FILTER)],
);

static DISPLAY_BGP_PEER: CommandRule = command(
    CommandAction::DisplayBgpPeer,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        ABOUT_BGP,
        Word("peer", "the peers that routes are taken from"),
        Optional(&[Value(ArgumentKind::Peer, "a peer's address: it alone")]),
        Optional(&[Word(word::VERBOSE, "in detail")]),
        Optional(&FILTER),
    ],
);

static DISPLAY_BGP_BMP_MONITOR: CommandRule = command(
    CommandAction::DisplayBgpBmpMonitor,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        ABOUT_BGP,
        Word("bmp-monitor", "the peers of all inputs, and which stations are told of them"),
        Choice(&[
            &[Word("all", "all of them")],
            MONITORED_IPV4,
            MONITORED_IPV6,
            &[
                Word("vpn-instance", "a peer of one VPN instance, in detail"),
                Value(ArgumentKind::TableName, "its name, or its route distinguisher"),
                Choice(&[MONITORED_IPV4, MONITORED_IPV6]),
            ],
        ]),
        Optional(&FILTER),
    ],
);
const ABOUT_BGP: Syntax = Word("bgp", "about BGP");
const MONITORED_IPV4: &[Syntax] =
    &[Word("ipv4", "a peer by its IPv4 address, in detail"), Value(ArgumentKind::Ipv4Peer, "the peer's address")];
const MONITORED_IPV6: &[Syntax] =
    &[Word("ipv6", "a peer by its IPv6 address, in detail"), Value(ArgumentKind::Ipv6Peer, "the peer's address")];

static DISPLAY_BMP_FEED: CommandRule = command(
    CommandAction::DisplayBmpFeed,
    &ViewKind::ALL,
    &[DISPLAY_WORD, Word("bmp", "about BMP"), Word("feed", "what there is to tell stations"), Optional(&FILTER)],
);

static DISPLAY_BMP_RELAY: CommandRule = command(
    CommandAction::DisplayBmpRelay,
    &ViewKind::ALL,
    &[DISPLAY_WORD, Word("bmp", "about BMP"), Word("relay", "the daemons that send BMP"), Optional(&FILTER)],
);

static DISPLAY_MRT_REPLAY: CommandRule = command(
    CommandAction::DisplayMrtReplay,
    &ViewKind::ALL,
    &[DISPLAY_WORD, Word("mrt-replay", "how far files are replayed"), Optional(&FILTER)],
);

static DISPLAY_HTTP: CommandRule = command(
    CommandAction::DisplayHttp,
    &ViewKind::ALL,
    &[DISPLAY_WORD, Word("http", "the server of metrics and of the status page"), Optional(&FILTER)],
);

static DISPLAY_VERSION: CommandRule = command(
    CommandAction::DisplayVersion,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        Word("version", "the version of bmpd, of the kernel, and for how long bmpd runs"),
        Optional(&FILTER),
    ],
);

/// How many lines of the log are shown.
static LOG_LINES: NumberRange = NumberRange {
    name: "LINES",
    subject: "the number of lines is",
    unit: Unit::None,
    first: 1,
    last: 1024,
    or_zero: false,
};

static DISPLAY_LOG_BUFFER: CommandRule = command(
    CommandAction::DisplayLogBuffer,
    &ViewKind::ALL,
    &[
        DISPLAY_WORD,
        Word("logbuffer", "the last lines of the log"),
        Optional(&[
            Word("size", "only the newest lines"),
            Value(ArgumentKind::Number(&LOG_LINES), "how many lines, RANGE"),
        ]),
        Optional(&FILTER),
    ],
);

/// For how long an operator sees what a session does.
static DEBUGGING_TIME: NumberRange = NumberRange {
    name: "MINUTES",
    subject: "debugging lasts",
    unit: Unit::Minutes,
    first: 1,
    last: 60,
    or_zero: false,
};

/// `d` means `display`, and `display de` means `display default-parameter`.
const DEBUGGING_SHORTEST: Option<(&str, usize)> = Some(("debugging", "deb".len()));
const DEBUGGING_WORD: Syntax = Word("debugging", "show step by step, in the buffer of the log, what a session does");
const DEBUGGING_TOPIC: Syntax = Choice(&[
    &[Word("connection", "each step of its connections")],
    &[Word("messages", "the messages that it sends: type, peer and length")],
]);

static DISPLAY_DEBUGGING: CommandRule = CommandRule {
    shortest: DEBUGGING_SHORTEST,
    ..command(
        CommandAction::DisplayDebugging,
        &ViewKind::ALL,
        &[DISPLAY_WORD, Word("debugging", "what is debugged, and for how long"), Optional(&FILTER)],
    )
};

static DEBUGGING: CommandRule = CommandRule {
    shortest: DEBUGGING_SHORTEST,
    undo: &[
        DEBUGGING_WORD,
        Choice(&[
            &[
                Word("bmp", "about BMP"),
                Word("session", "sessions"),
                VPN_INSTANCE,
                Value(ArgumentKind::Station, "a station's address: its sessions"),
                ALIAS,
                Optional(&[DEBUGGING_TOPIC]),
            ],
            &[Word("all", "whatever is debugged")],
        ]),
    ],
    ..command(
        CommandAction::Debugging,
        &ViewKind::ALL,
        &[
            DEBUGGING_WORD,
            Word("bmp", "about BMP"),
            Word("session", "sessions"),
            VPN_INSTANCE,
            Value(ArgumentKind::Station, "a station's address: its sessions"),
            ALIAS,
            DEBUGGING_TOPIC,
            Optional(&[
                Word("for", "for another time than 10 minutes"),
                Value(ArgumentKind::Number(&DEBUGGING_TIME), "minutes RANGE"),
            ]),
        ],
    )
};

const RESET_WORD: Syntax = Word("reset", "end something and begin it again");

static RESET_BMP_SESSION: CommandRule = command(
    CommandAction::ResetBmpSession,
    &ViewKind::ALL,
    &[
        RESET_WORD,
        Word("bmp", "about BMP"),
        Word("session", "sessions"),
        VPN_INSTANCE,
        Choice(&[
            &[Value(ArgumentKind::Station, "a station's address: its sessions"), ALIAS],
            &[Word("all", "every session")],
        ]),
        Optional(&[Word(word::COUNTERS, "have displays count from zero, and leave the sessions up")]),
    ],
);

static RESET_BGP_PEER: CommandRule = command(
    CommandAction::ResetBgpPeer,
    &ViewKind::ALL,
    &[
        RESET_WORD,
        Word("bgp", "about BGP"),
        Word("peer", "BGP peers"),
        Choice(&[&[Value(ArgumentKind::Peer, "a peer's address")], &[Word("all", "every peer")]]),
    ],
);

static SYSTEM_VIEW: CommandRule =
    command(CommandAction::SystemView, &[ViewKind::User], &[Word("system-view", "configure this device")]);

/// How long a trial lasts.
static TRIAL_TIME: NumberRange = NumberRange {
    name: "SECONDS",
    subject: "a trial lasts",
    unit: Unit::Seconds,
    first: 1,
    last: 65_535,
    or_zero: false,
};

static COMMIT: CommandRule = command(
    CommandAction::Commit,
    &ViewKind::ALL,
    &[
        Word("commit", "put the candidate in force, or confirm the trial that runs"),
        Optional(&[Choice(&[
            &[
                Word("trial", "for a time, unless it is confirmed"),
                Value(ArgumentKind::Number(&TRIAL_TIME), "seconds RANGE until the configuration returns"),
            ],
            &[Word(word::FORCE, "confirm the trial also where it is another operator's")],
        ])]),
        Optional(&[Word("label", "name the commit, for a rollback"), Value(ArgumentKind::Label, "the name")]),
        Optional(&[Word("description", "say what the commit is for"), Choice(&[&DESCRIPTION])]),
    ],
);
/// The rest of the line.
static DESCRIPTION: [Syntax; 2] =
    [Value(ArgumentKind::Text, "what it is for, to the end of the line; quotes around it go"), Optional(&DESCRIPTION)];

static ROLLBACK: CommandRule = command(
    CommandAction::Rollback,
    &ViewKind::ALL,
    &[
        Word("rollback", "return to an earlier commit"),
        Word("configuration", "put what an earlier commit had in force, which is a commit of its own"),
        Choice(&[
            &[
                Word("to", "the configuration that a commit has put in force"),
                Choice(&[
                    &[
                        Word("commit", "the commit of a number"),
                        Value(ArgumentKind::Number(&COMMIT_ID), "the number of the commit"),
                    ],
                    &[Word("label", "the newest commit of a name"), Value(ArgumentKind::Label, "the name")],
                ]),
            ],
            &[
                Word("last", "the configuration before the newest commits"),
                Value(ArgumentKind::Number(&COMMIT_COUNT), "how many commits, RANGE"),
            ],
        ]),
        Optional(&[
            Word("trial", "for a time, unless it is confirmed"),
            Value(ArgumentKind::Number(&TRIAL_TIME), "seconds RANGE until the configuration returns"),
        ]),
    ],
);

static ABORT_TRIAL: CommandRule = command(
    CommandAction::AbortTrial,
    &ViewKind::ALL,
    &[
        Word("abort", "give up"),
        Word("trial", "the trial that runs: the configuration before it returns at once"),
        Optional(&[Word(word::FORCE, "also where it is another operator's")]),
    ],
);

static CLEAR_CANDIDATE: CommandRule = command(
    CommandAction::ClearCandidate,
    &ViewKind::ALL,
    &[Word("clear", "drop something"), CONFIGURATION, CANDIDATE],
);

static SAVE: CommandRule = command(
    CommandAction::Save,
    &ViewKind::ALL,
    &[Word("save", "say where commits are saved: each is, without this command")],
);

static QUIT: CommandRule = command(CommandAction::Quit, &ViewKind::ALL, &[Word("quit", "leave this view")]);

static RETURN: CommandRule =
    command(CommandAction::Return, &ViewKind::ALL, &[Word("return", "go back to the user view")]);

const fn command(action: CommandAction, views: &'static [ViewKind], syntax: &'static [Syntax]) -> CommandRule {
    CommandRule { action, views, syntax, undo: &[], shortest: None }
}

/// The commands that set nothing.
pub(in crate::config) static COMMANDS: [&CommandRule; 29] = [
    &DISPLAY_BMP_SESSION,
    &DISPLAY_CURRENT_CONFIGURATION,
    &DISPLAY_THIS,
    &DISPLAY_CANDIDATE,
    &DISPLAY_TRIAL,
    &DISPLAY_COMMIT_LIST,
    &DISPLAY_COMMIT_CHANGES,
    &DISPLAY_DEFAULT_PARAMETER_BMP,
    &DISPLAY_INTERFACE_BINDING,
    &DISPLAY_BMP_FEED,
    &DISPLAY_BGP_PEER,
    &DISPLAY_BGP_BMP_MONITOR,
    &DISPLAY_BMP_RELAY,
    &DISPLAY_MRT_REPLAY,
    &DISPLAY_HTTP,
    &DISPLAY_VERSION,
    &DISPLAY_LOG_BUFFER,
    &DISPLAY_DEBUGGING,
    &DEBUGGING,
    &RESET_BMP_SESSION,
    &RESET_BGP_PEER,
    &SYSTEM_VIEW,
    &COMMIT,
    &ROLLBACK,
    &ABORT_TRIAL,
    &CLEAR_CANDIDATE,
    &SAVE,
    &QUIT,
    &RETURN,
];
