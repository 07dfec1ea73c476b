//! The grammar: one table ([`rules`]). The parser walks it, printing fills it in, and the help of `?`, completion and
//! abbreviation are what may come next in it.

mod rules;

pub(super) use rules::{FAMILIES, RULES, UNDO, family_rule, word};

use super::value::Kind;

/// The kinds of view. A command that a view does not know is looked up in the views around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ViewKind {
    User,
    System,
    Bmp,
    Session,
    Monitor,
    Relay,
    Replay,
    Bgp,
    BgpFamily,
}

impl ViewKind {
    pub(super) const ALL: [Self; 9] = [
        Self::User,
        Self::System,
        Self::Bmp,
        Self::Session,
        Self::Monitor,
        Self::Relay,
        Self::Replay,
        Self::Bgp,
        Self::BgpFamily,
    ];

    /// The view around it. The user view is around nothing: it configures nothing.
    pub(super) fn parent(self) -> Option<Self> {
        match self {
            Self::User | Self::System => None,
            Self::Bmp | Self::Relay | Self::Replay | Self::Bgp => Some(Self::System),
            Self::Session => Some(Self::Bmp),
            Self::Monitor => Some(Self::Session),
            Self::BgpFamily => Some(Self::Bgp),
        }
    }

    /// As messages name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::System => "system",
            Self::Bmp => "bmp",
            Self::Session => "bmp-session",
            Self::Monitor => "monitor",
            Self::Relay => "bmp-relay",
            Self::Replay => "mrt-replay",
            Self::Bgp => "bgp",
            Self::BgpFamily => "bgp family",
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// `sysname`.
    Sysname,
    /// `interface-alias`.
    InterfaceAlias,
    /// `bgp`.
    Bgp,
    /// `router-id`, in the `bgp` view.
    RouterId,
    /// `listen-port`, in the `bgp` view.
    ListenPort,
    /// `peer ADDR as-number`, in the `bgp` view.
    PeerAsNumber,
    /// `peer ADDR port`, in the `bgp` view.
    PeerPort,
    /// `peer ADDR password`, in the `bgp` view.
    PeerPassword,
    /// `peer ADDR listen-only`, in the `bgp` view.
    PeerListenOnly,
    /// `peer ADDR connect-interface`, in the `bgp` view.
    PeerConnectInterface,
    /// `peer ADDR timer`, in the `bgp` view.
    PeerTimer,
    /// `ipv4-family`, `ipv6-family`, ..., in the `bgp` view.
    BgpFamily,
    /// `peer ADDR enable`, in the view of a family.
    PeerEnable,
    /// `bmp-relay`.
    Relay,
    /// `listen`, in a `bmp-relay` view.
    Listen,
    /// `allow`, in a `bmp-relay` view.
    Allow,
    /// `hold`, in a `bmp-relay` view.
    RelayHold,
    /// `end-of-rib-after`, in a `bmp-relay` view.
    EndOfRibAfter,
    /// `max-connections`, in a `bmp-relay` view.
    MaxConnections,
    /// `mrt-replay`.
    Replay,
    /// `file`, in a `mrt-replay` view.
    ReplayFile,
    /// `pace`, in a `mrt-replay` view.
    ReplayPace,
    /// `loop`, in a `mrt-replay` view.
    ReplayLoop,
    /// `bmp`.
    Bmp,
    /// `statistics-timer`, in the `bmp` view.
    StatisticsTimer,
    /// `connect-interface` in the `bmp` view.
    BmpConnectInterface,
    /// `persist`, in the `bmp` view.
    Persist,
    /// `bmp-session`.
    Session,
    /// `tcp connect port`, in a `bmp-session` view.
    TcpConnectPort,
    /// `tcp listen port`, in a `bmp-session` view.
    TcpListenPort,
    /// `connect-interface` in a `bmp-session` view.
    ConnectInterface,
    /// `egress-interface`, in a `bmp-session` view.
    EgressInterface,
    /// `next-hop`, in a `bmp-session` view.
    NextHop,
    /// `hold-down`, in a `bmp-session` view.
    HoldDown,
    /// `tcp mss`, in a `bmp-session` view.
    TcpMss,
    /// `dscp`, in a `bmp-session` view.
    Dscp,
    /// `keepalive`, in a `bmp-session` view.
    TcpKeepalive,
    /// `connect-retry`, in a `bmp-session` view.
    ConnectRetry,
    /// `initial-delay`, in a `bmp-session` view.
    InitialDelay,
    /// `flap-damping`, in a `bmp-session` view.
    FlapDamping,
    /// `route-mirroring`, in a `bmp-session` view.
    RouteMirroring,
    /// `adopt`, in a `bmp-session` view.
    Adopt,
    /// `shutdown`, in a `bmp-session` view.
    Shutdown,
    /// `monitor`, in a `bmp-session` view.
    Monitor,
    /// `route-mode`, in a `monitor` view.
    RouteMode,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Configure(Item),
    AbortTrial,
    ClearCandidate,
    Commit,
    DisplayBgpBmpMonitor,
    DisplayBgpPeer,
    DisplayBmpFeed,
    DisplayBmpRelay,
    DisplayBmpSession,
    DisplayCandidate,
    DisplayCurrentConfiguration,
    DisplayDefaultParameterBmp,
    DisplayInterfaceBinding,
    DisplayMrtReplay,
    DisplayTrial,
    ResetBmpSession,
    SystemView,
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
