//! The grammar: one table. The parser walks it, printing fills it in, and the help of `?`, completion and abbreviation are
//! what may come next in it.

use super::value::Kind;

/// The kinds of view. A command that a view does not know is looked up in the views around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ViewKind {
    User,
    System,
    Bmp,
    Session,
    Relay,
}

impl ViewKind {
    pub(super) const ALL: [Self; 5] = [Self::User, Self::System, Self::Bmp, Self::Session, Self::Relay];

    /// The view around it. The user view is around nothing: it configures nothing.
    pub(super) fn parent(self) -> Option<Self> {
        match self {
            Self::User | Self::System => None,
            Self::Bmp | Self::Relay => Some(Self::System),
            Self::Session => Some(Self::Bmp),
        }
    }

    /// As messages name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::System => "system",
            Self::Bmp => "bmp",
            Self::Session => "bmp-session",
            Self::Relay => "bmp-relay",
        }
    }
}

/// A piece of a command's form.
#[derive(Debug)]
pub(super) enum Syntax {
    /// A keyword and what it is for.
    Word(&'static str, &'static str),
    /// An argument and what it is.
    Value(Kind, &'static str),
    /// May be left out.
    Optional(&'static [Syntax]),
    /// One of these.
    Choice(&'static [&'static [Syntax]]),
}

/// What a line of a configuration sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// `sysname`.
    Sysname,
    /// `interface-alias`.
    InterfaceAlias,
    /// `bmp-relay`.
    Relay,
    /// `listen`, in a `bmp-relay` view.
    Listen,
    /// `bmp`.
    Bmp,
    /// `connect-interface` in the `bmp` view.
    BmpConnectInterface,
    /// `bmp-session`.
    Session,
    /// `tcp connect port`, in a `bmp-session` view.
    TcpConnectPort,
    /// `connect-interface` in a `bmp-session` view.
    ConnectInterface,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Configure(Item),
    DisplayBmpSession,
    DisplayCurrentConfiguration,
    Quit,
    Return,
}

/// One command of the language.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) action: Action,
    /// The views that know it.
    pub(super) views: &'static [ViewKind],
    /// Begins with a keyword.
    pub(super) syntax: &'static [Syntax],
    /// What may follow `undo`, if it can be undone; begins with the same keyword.
    pub(super) undo: Option<&'static [Syntax]>,
    /// The view it goes to.
    pub(super) enters: Option<ViewKind>,
}

impl Rule {
    /// The keyword that it begins with.
    pub(super) fn keyword(&self) -> &'static str {
        match self.syntax.first() {
            Some(Word(keyword, _)) => keyword,
            _ => "",
        }
    }
}

use Syntax::{Choice, Optional, Value, Word};

pub(super) const UNDO: &[Syntax] = &[Word("undo", "take a setting back")];

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

const RELAY_SYNTAX: &[Syntax] =
    &[Word("bmp-relay", "take BMP from a local daemon"), Value(Kind::InputName, "a name for this input")];
static RELAY: Rule = Rule {
    action: Action::Configure(Item::Relay),
    views: &[ViewKind::System],
    syntax: RELAY_SYNTAX,
    undo: Some(RELAY_SYNTAX),
    enters: Some(ViewKind::Relay),
};

const LISTEN_WORD: Syntax = Word("listen", "where the daemon connects to");
const LISTEN_ADDRESS: Syntax = Value(Kind::Listen, "an address of this host");
const PORT_WORD: Syntax = Word("port", "TCP port");
const PORT_VALUE: Syntax = Value(Kind::Port, "a port from 1 to 65535");
static LISTEN: Rule = Rule {
    action: Action::Configure(Item::Listen),
    views: &[ViewKind::Relay],
    syntax: &[LISTEN_WORD, LISTEN_ADDRESS, PORT_WORD, PORT_VALUE],
    undo: Some(&[LISTEN_WORD, Optional(&[LISTEN_ADDRESS, PORT_WORD, PORT_VALUE])]),
    enters: None,
};

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

const SESSION_SYNTAX: &[Syntax] = &[
    Word("bmp-session", "a session to a monitoring station"),
    Value(Kind::Station, "the station's address"),
    Optional(&[Word("alias", "tells sessions to one station apart"), Value(Kind::Alias, "the session's alias")]),
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
static TCP_CONNECT_PORT: Rule = Rule {
    action: Action::Configure(Item::TcpConnectPort),
    views: &[ViewKind::Session],
    syntax: &[TCP_WORD, TCP_CONNECT_WORD, PORT_WORD, PORT_VALUE],
    undo: Some(&[TCP_WORD, TCP_CONNECT_WORD, PORT_WORD, Optional(&[PORT_VALUE])]),
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

const DISPLAY_WORD: Syntax = Word("display", "show something");
static DISPLAY_BMP_SESSION: Rule = Rule {
    action: Action::DisplayBmpSession,
    views: &ViewKind::ALL,
    syntax: &[
        DISPLAY_WORD,
        Word("bmp", "about BMP"),
        Word("session", "the sessions"),
        Optional(&[Value(Kind::Station, "a station's address: its sessions alone")]),
        Optional(&[VERBOSE]),
    ],
    undo: None,
    enters: None,
};
pub(super) const VERBOSE_WORD: &str = "verbose";
const VERBOSE: Syntax = Word(VERBOSE_WORD, "in detail");

static DISPLAY_CURRENT_CONFIGURATION: Rule = Rule {
    action: Action::DisplayCurrentConfiguration,
    views: &ViewKind::ALL,
    syntax: &[DISPLAY_WORD, Word("current-configuration", "the configuration in force")],
    undo: None,
    enters: None,
};

static QUIT: Rule = Rule {
    action: Action::Quit,
    views: &ViewKind::ALL,
    syntax: &[Word("quit", "leave this view")],
    undo: None,
    enters: None,
};

static RETURN: Rule = Rule {
    action: Action::Return,
    views: &ViewKind::ALL,
    syntax: &[Word("return", "go back to the user view")],
    undo: None,
    enters: None,
};

/// The whole language.
pub(super) static RULES: [&Rule; 13] = [
    &SYSNAME,
    &INTERFACE_ALIAS,
    &RELAY,
    &LISTEN,
    &BMP,
    &BMP_CONNECT_INTERFACE,
    &SESSION,
    &TCP_CONNECT_PORT,
    &CONNECT_INTERFACE,
    &DISPLAY_BMP_SESSION,
    &DISPLAY_CURRENT_CONFIGURATION,
    &QUIT,
    &RETURN,
];

impl Item {
    /// The command that sets it.
    pub(super) fn rule(self) -> &'static Rule {
        match self {
            Self::Sysname => &SYSNAME,
            Self::InterfaceAlias => &INTERFACE_ALIAS,
            Self::Relay => &RELAY,
            Self::Listen => &LISTEN,
            Self::Bmp => &BMP,
            Self::BmpConnectInterface => &BMP_CONNECT_INTERFACE,
            Self::Session => &SESSION,
            Self::TcpConnectPort => &TCP_CONNECT_PORT,
            Self::ConnectInterface => &CONNECT_INTERFACE,
        }
    }
}

/// A place in a command's form: what is still to come, innermost last.
#[derive(Clone, Debug)]
pub(super) struct Position(Vec<&'static [Syntax]>);

impl Position {
    /// Before the first of these forms, which follow one another.
    pub(super) fn before(forms: &[&'static [Syntax]]) -> Self {
        Self(forms.iter().rev().copied().collect())
    }

    /// What may stand here: every keyword or argument with the place after it, and whether the command may end here.
    pub(super) fn next(&self) -> (Vec<(&'static Syntax, Position)>, bool) {
        let mut rest = self.0.clone();
        while let Some(form) = rest.pop() {
            let Some((first, after)) = form.split_first() else { continue };
            rest.push(after);
            let rest = Self(rest);
            return match first {
                Word(..) | Value(..) => (vec![(first, rest)], false),
                Optional(inner) => {
                    let (mut next, _) = rest.clone().inside(inner).next();
                    let (without, end) = rest.next();
                    next.extend(without);
                    (next, end)
                }
                Choice(forms) => {
                    let (next, ends): (Vec<_>, Vec<_>) =
                        forms.iter().map(|form| rest.clone().inside(form).next()).unzip();
                    (next.into_iter().flatten().collect(), ends.contains(&true))
                }
            };
        }
        (Vec::new(), true)
    }

    fn inside(mut self, form: &'static [Syntax]) -> Self {
        self.0.push(form);
        self
    }
}
