//! A command as a value, and what it does to a configuration.

use std::{net::IpAddr, time::Duration};

use super::{
    Config, MonitorId, SessionId,
    change::{Refused, change},
    filter::Filter,
    grammar::{Action, Item, ViewKind, word},
    matching::{Args, Context, Fault, Match, find, secrets},
    secret::masked,
    setting::Setting,
    text::{Error, Line, Span},
    value::Kind,
};
use crate::wire::bgp::Family;

/// Where an operator, or the reader of a file, is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum View {
    /// Looks on and configures nothing.
    User,
    /// The configuration's outermost level.
    System,
    /// `bmp`.
    Bmp,
    /// `bmp-session ...`.
    Session(SessionId),
    /// `monitor ...` in a session.
    Monitor(SessionId, MonitorId),
    /// `bmp-relay NAME`.
    Relay(String),
    /// `mrt-replay NAME`.
    Replay(String),
    /// `bgp AS-NUMBER`.
    Bgp,
    /// `ipv4-family unicast` and its like.
    BgpFamily(Family),
}

impl View {
    pub(super) fn kind(&self) -> ViewKind {
        match self {
            Self::User => ViewKind::User,
            Self::System => ViewKind::System,
            Self::Bmp => ViewKind::Bmp,
            Self::Session(_) => ViewKind::Session,
            Self::Monitor(..) => ViewKind::Monitor,
            Self::Relay(_) => ViewKind::Relay,
            Self::Replay(_) => ViewKind::Replay,
            Self::Bgp => ViewKind::Bgp,
            Self::BgpFamily(_) => ViewKind::BgpFamily,
        }
    }

    /// The view around this one, where `quit` goes; `None` for the user view.
    pub fn parent(&self) -> Option<Self> {
        match self {
            Self::User => None,
            Self::System => Some(Self::User),
            Self::Bmp | Self::Relay(_) | Self::Replay(_) | Self::Bgp => Some(Self::System),
            Self::Session(_) => Some(Self::Bmp),
            Self::Monitor(id, _) => Some(Self::Session(id.clone())),
            Self::BgpFamily(_) => Some(Self::Bgp),
        }
    }

    /// This view and those around it that a command is looked up in, innermost first.
    pub(super) fn contexts(&self) -> Vec<Context> {
        let context = |view: &Self| match view {
            Self::Session(id) => Context { kind: view.kind(), station: Some(id.station) },
            _ => Context::from(view.kind()),
        };
        // The user view is around nothing that configures.
        let around = std::iter::successors(Some(self.clone()), Self::parent);
        around.take_while(|view| *view != Self::User || *self == Self::User).map(|view| context(&view)).collect()
    }
}

/// A line of the command language, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A blank line, or one that begins with `#`.
    Nothing,
    /// Changes the configuration or goes to another view: [`apply`] it.
    Configure(Configure),
    /// `quit`: to the view around this one.
    Quit,
    /// `return`: to the user view; in a file, its end.
    Return,
    /// `system-view`: from the user view to the system view.
    SystemView,
    /// `display ...`, and which lines of the answer to show: to be answered.
    Display(Display, Option<Filter>),
    /// `reset ...`: to be carried out.
    Reset(Reset),
    /// `commit`, `abort trial`, ...: what is to become of the candidate.
    Candidate(CandidateCommand),
}

/// What is to become of the configuration that is being edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateCommand {
    /// `commit [force]`: put in force and kept.
    Commit {
        /// Confirm the trial of another operator too.
        force: bool,
    },
    /// `commit trial SECONDS`: put in force for this long.
    CommitTrial(Duration),
    /// `abort trial [force]`.
    AbortTrial {
        /// Also the trial of another operator.
        force: bool,
    },
    /// `clear configuration candidate`.
    Clear,
}

/// `reset bmp session [ vpn-instance V ] { ADDR [ alias A ] | all }`: which sessions to end and begin again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// In this VPN instance. `None` is the public one if a station is named, else all instances.
    pub vpn_instance: Option<String>,
    /// To this station; `None` is `all`.
    pub station: Option<IpAddr>,
    /// With this alias; `None` is any alias and none.
    pub alias: Option<String>,
}

impl Reset {
    /// Whether the session is meant.
    pub fn names(&self, id: &SessionId) -> bool {
        let Some(station) = self.station else {
            return self.vpn_instance.is_none() || self.vpn_instance == id.vpn_instance;
        };
        station == id.station
            && self.vpn_instance == id.vpn_instance
            && (self.alias.is_none() || self.alias == id.alias)
    }
}

/// What `display` is to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Display {
    /// `display bmp session [vpn-instance V] [ADDR [alias A]] [verbose]`.
    BmpSession {
        /// The sessions of this VPN instance alone.
        vpn_instance: Option<String>,
        /// The sessions to this station alone.
        station: Option<IpAddr>,
        /// The session with this alias alone.
        alias: Option<String>,
        /// In detail.
        verbose: bool,
    },
    /// `display bgp peer [ADDR] [verbose]`.
    BgpPeer {
        /// This one alone.
        peer: Option<IpAddr>,
        /// In detail.
        verbose: bool,
    },
    /// `display bgp bmp-monitor all`.
    BgpBmpMonitor,
    /// `display current-configuration`.
    CurrentConfiguration,
    /// `display configuration candidate [changes]`.
    Candidate {
        /// Only what a commit would change.
        changes: bool,
    },
    /// `display configuration trial`.
    Trial,
    /// `display default-parameter bmp`.
    DefaultParameterBmp,
    /// `display interface-binding`.
    InterfaceBinding,
    /// `display bmp feed`.
    BmpFeed,
    /// `display bmp relay`.
    BmpRelay,
    /// `display mrt-replay`.
    MrtReplay,
}

/// A command that changes the configuration, with the line it came from, so that a refusal can point at its word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configure {
    edit: Edit,
    line: Line,
    /// The arguments, one of which a refusal is about; where there is none, the command.
    arguments: Vec<Span>,
}

/// A change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Sets it, replacing what was there.
    Set(Setting),
    /// `undo` with all arguments: takes back exactly this.
    Undo(Setting),
    /// `undo` without arguments: takes back whatever is there.
    UndoAny(Item),
    /// `undo interface-alias KERNEL-NAME`: all names given to one interface.
    UndoInterfaceAliases {
        /// The interface's name in the kernel.
        kernel: String,
    },
    /// `undo peer ADDR ...`: what one item says of a peer, whatever it is.
    UndoOfPeer(Item, IpAddr),
}

impl Edit {
    /// What it changes.
    pub fn item(&self) -> Item {
        match self {
            Self::Set(setting) | Self::Undo(setting) => setting.item(),
            Self::UndoAny(item) | Self::UndoOfPeer(item, _) => *item,
            Self::UndoInterfaceAliases { .. } => Item::InterfaceAlias,
        }
    }
}

impl Configure {
    /// What is to change.
    pub fn edit(&self) -> &Edit {
        &self.edit
    }

    fn refused(&self, Refused { message, from_last }: Refused) -> Error {
        let wrong = from_last.and_then(|after| self.arguments.iter().nth_back(after));
        let at = wrong.or(self.arguments.first()).copied().unwrap_or_else(|| self.line.span(0));
        self.line.error_at(at, message)
    }
}

/// Reads one line that was given in `view`. A command that the view does not know is looked up in the views around it, as
/// routers do. With `abbreviate` (operators, not files) a keyword may be cut as long as one keyword alone begins so.
///
/// # Errors
///
/// The line is no command of these views, or a word of it is refused; see [`Error`].
pub fn parse_line(view: &View, line: &str, abbreviate: bool) -> Result<Command, Error> {
    let line = Line::new(1, line.trim_end_matches(['\r', '\n']))?;
    if line.is_empty() {
        return Ok(Command::Nothing);
    }
    let line = line.with_secrets(|line| secrets(&view.contexts(), line, abbreviate));
    match find(&view.contexts(), &line, abbreviate) {
        Ok(found) => command(found, line),
        Err(failure) => Err(at(&line, failure.fault)),
    }
}

/// Whether the line, typed in `view`, holds a secret or what may be meant as one.
pub fn has_secret(view: &View, line: &str) -> bool {
    let found = Line::new(1, line).is_ok_and(|line| !secrets(&view.contexts(), &line, true).is_empty());
    found || masked(line) != line
}

pub(super) fn at(line: &Line, fault: Fault) -> Error {
    line.error_at(line.span(fault.word), fault.message)
}

pub(super) fn command(found: Match, line: Line) -> Result<Command, Error> {
    let Match { rule, undo, args } = found;
    let display = |what| Ok(Command::Display(what, Filter::read(&args, &line)));
    let vpn_instance = || args.text(Kind::VpnInstance);
    let item = match rule.action {
        Action::Configure(item) => item,
        Action::Quit => return Ok(Command::Quit),
        Action::Return => return Ok(Command::Return),
        Action::SystemView => return Ok(Command::SystemView),
        Action::Commit => {
            let commit = CandidateCommand::Commit { force: args.has(word::FORCE) };
            return Ok(Command::Candidate(args.time(Kind::Trial).map_or(commit, CandidateCommand::CommitTrial)));
        }
        Action::AbortTrial => {
            return Ok(Command::Candidate(CandidateCommand::AbortTrial { force: args.has(word::FORCE) }));
        }
        Action::ClearCandidate => return Ok(Command::Candidate(CandidateCommand::Clear)),
        Action::ResetBmpSession => {
            let (station, alias) = (args.address(Kind::Station), args.text(Kind::Alias));
            return Ok(Command::Reset(Reset { vpn_instance: vpn_instance(), station, alias }));
        }
        Action::DisplayCurrentConfiguration => return display(Display::CurrentConfiguration),
        Action::DisplayCandidate => return display(Display::Candidate { changes: args.has(word::CHANGES) }),
        Action::DisplayDefaultParameterBmp => return display(Display::DefaultParameterBmp),
        Action::DisplayInterfaceBinding => return display(Display::InterfaceBinding),
        Action::DisplayBmpFeed => return display(Display::BmpFeed),
        Action::DisplayBmpRelay => return display(Display::BmpRelay),
        Action::DisplayTrial => return display(Display::Trial),
        Action::DisplayMrtReplay => return display(Display::MrtReplay),
        Action::DisplayBgpBmpMonitor => return display(Display::BgpBmpMonitor),
        Action::DisplayBgpPeer => {
            let (peer, verbose) = (args.address(Kind::Peer), args.has(word::VERBOSE));
            return display(Display::BgpPeer { peer, verbose });
        }
        Action::DisplayBmpSession => {
            let (station, verbose) = (args.address(Kind::Station), args.has(word::VERBOSE));
            let alias = args.text(Kind::Alias);
            return display(Display::BmpSession { vpn_instance: vpn_instance(), station, alias, verbose });
        }
    };
    match edit(item, undo, &args) {
        Ok(edit) => {
            let mut arguments: Vec<_> = args.words().map(|word| line.span(word)).collect();
            if arguments.is_empty() {
                arguments.push(line.span(usize::from(undo)));
            }
            Ok(Command::Configure(Configure { edit, line, arguments }))
        }
        Err(fault) => Err(at(&line, fault)),
    }
}

fn edit(item: Item, undo: bool, args: &Args) -> Result<Edit, Fault> {
    match (undo, Setting::read(item, args)?) {
        (false, Some(setting)) => Ok(Edit::Set(setting)),
        (true, Some(setting)) => Ok(Edit::Undo(setting)),
        (true, None) => Ok(match (args.text(Kind::KernelName), args.address(Kind::Peer)) {
            (Some(kernel), _) => Edit::UndoInterfaceAliases { kernel },
            (None, Some(peer)) => Edit::UndoOfPeer(item, peer),
            (None, None) => Edit::UndoAny(item),
        }),
        // The grammar does not let it come to this.
        (false, None) => Err(Fault { word: args.word(Kind::Port), message: "the command is not complete".to_owned() }),
    }
}

/// Does to `config` and `view` what the command says. Commands that neither configure nor go to another view change nothing.
///
/// # Errors
///
/// The command contradicts what is configured (another session has this station, port and VPN instance; `undo` names other
/// arguments than those configured), or was read in a view that it is not applied in. Nothing has changed then.
pub fn apply(config: &mut Config, view: &mut View, command: &Command) -> Result<(), Error> {
    match command {
        Command::Nothing | Command::Display(..) | Command::Reset(_) | Command::Candidate(_) => Ok(()),
        Command::SystemView => {
            *view = View::System;
            Ok(())
        }
        Command::Quit => {
            *view = view.parent().unwrap_or(View::User);
            Ok(())
        }
        Command::Return => {
            *view = View::User;
            Ok(())
        }
        Command::Configure(configure) => match change(config, view, &configure.edit) {
            Ok(next) => {
                *view = next;
                Ok(())
            }
            Err(refused) => Err(configure.refused(refused)),
        },
    }
}
