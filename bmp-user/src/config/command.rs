//! A command as a value, and what it does to a configuration.

use std::{net::IpAddr, time::Duration};

use super::{
    change::{RefusedChange, change},
    commit::{CommitNote, RollbackTarget},
    debugging::DebuggingCommand,
    edit::{ConfigEdit, PartialUndo},
    key_file::{KeyFile, SecretOpener},
    language::{
        argument::ArgumentKind,
        line::{CommandError, Line, Span},
        secret::masked,
        token::{ArgumentTokens, Token},
        value::ArgumentValue,
    },
    model::{Config, SessionId},
    parse::{
        commands::{CommandAction, word},
        filter::LineFilter,
        matching::{find, secrets},
        outcome::{RuleMatch, WrongWord, contexts},
        rule::Rule,
    },
    settings::{ArgumentType as _, SettingDescriptor},
    view::CommandView,
};

/// A line of the command language, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParsedCommand {
    /// A blank line, or one that begins with `#`.
    Nothing,
    /// Changes the configuration or goes to another view: [`apply`] it.
    Configure(ConfigureCommand),
    /// `quit`: to the view around this one.
    Quit,
    /// `return`: to the user view; in a file, its end.
    Return,
    /// `system-view`: from the user view to the system view.
    SystemView,
    /// `display ...`, and which lines of the answer to show: to be answered.
    Display(DisplayCommand, Option<LineFilter>),
    /// `reset bmp session ...`: to be carried out.
    Reset(ResetCommand),
    /// `reset bgp peer { ADDR | all }`: to be carried out; `None` is `all`.
    ResetBgpPeer(Option<IpAddr>),
    /// `debugging ...` and its `undo`: to be carried out.
    Debugging(DebuggingCommand),
    /// `commit`, `abort trial`, ...: what is to become of the candidate.
    Candidate(CandidateCommand),
    /// `save`: to be answered.
    Save,
}

/// What is to become of the configuration that is being edited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CandidateCommand {
    /// `commit [force] [label LABEL] [description TEXT]`: put in force and kept.
    Commit {
        /// Confirm the trial of another operator too.
        force: bool,
        /// What the operator says about it.
        note: CommitNote,
    },
    /// `commit trial SECONDS [label LABEL] [description TEXT]`: put in force for this long.
    CommitTrial {
        /// How long it is in force.
        time: Duration,
        /// What the operator says about it.
        note: CommitNote,
    },
    /// `rollback configuration ...`: an earlier commit is put in force.
    Rollback {
        /// The commit.
        target: RollbackTarget,
        /// For this long; `None` is for good.
        trial: Option<Duration>,
    },
    /// `abort trial [force]`.
    AbortTrial {
        /// Also the trial of another operator.
        force: bool,
    },
    /// `clear configuration candidate`.
    Clear,
}

/// The sessions that a command ends and begins again, or whose counters it resets:
/// `reset bmp session [ vpn-instance V ] { ADDR [ alias A ] | all } [ counters ]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetCommand {
    /// In this VPN instance. `None` is the public one if a station is named, else all instances.
    pub vpn_instance: Option<String>,
    /// To this station; `None` is `all`.
    pub station: Option<IpAddr>,
    /// With this alias; `None` is any alias and none.
    pub alias: Option<String>,
    /// Only their counters: the sessions stay up.
    pub counters: bool,
}

impl ResetCommand {
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
pub enum DisplayCommand {
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
    /// `display bgp bmp-monitor [vpn-instance V] { ipv4 ADDR | ipv6 ADDR }`.
    MonitoredPeer {
        /// In this VPN instance; in none if absent.
        vpn_instance: Option<String>,
        /// The peer's address.
        peer: IpAddr,
    },
    /// `display current-configuration [SECTION]`.
    CurrentConfiguration {
        /// What this view configures; `None` for all.
        view: Option<CommandView>,
    },
    /// `display this`.
    This,
    /// `display configuration candidate [changes]`.
    Candidate {
        /// Only what a commit would change.
        changes: bool,
    },
    /// `display configuration trial`.
    Trial,
    /// `display configuration commit list [last COUNT]`.
    CommitList {
        /// The newest alone, this many.
        last: Option<u32>,
    },
    /// `display configuration commit changes [at ID | last COUNT]`.
    CommitChanges {
        /// The commit of this number alone.
        at: Option<u32>,
        /// The newest alone, this many.
        last: Option<u32>,
    },
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
    /// `display http`.
    Http,
    /// `display version`.
    Version,
    /// `display debugging`.
    Debugging,
    /// `display logbuffer [size LINES]`.
    LogBuffer {
        /// The newest lines alone, this many.
        last: Option<u32>,
    },
}

/// A command that changes the configuration, with the line that a refusal points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigureCommand {
    edit: ConfigEdit,
    line: Line,
    /// Where the arguments are, one of which a refusal is about; the command where there is none.
    arguments: Vec<Span>,
}

impl ConfigureCommand {
    /// Returns what is to change.
    pub fn edit(&self) -> &ConfigEdit {
        &self.edit
    }

    fn refused(&self, RefusedChange { message, from_last }: RefusedChange) -> CommandError {
        let wrong = from_last.and_then(|after| self.arguments.iter().nth_back(after));
        let at = wrong.or(self.arguments.first()).copied().unwrap_or_else(|| self.line.span(0));
        self.line.error_at(at, message)
    }
}

/// Reads one line that was given in `view`. A command that the view does not know is looked up in
/// the views around it, as routers do. With `abbreviate` (operators, not files) a keyword may be
/// cut as long as one keyword alone begins so.
///
/// # Errors
///
/// The line is no command of these views, or a word of it is refused; see [`CommandError`].
pub fn parse_line(view: &CommandView, line: &str, abbreviate: bool) -> Result<ParsedCommand, CommandError> {
    parse_line_with(view, line, abbreviate, &KeyFile::unused())
}

/// Does the same, and opens a sealed secret with a key.
///
/// # Errors
///
/// Also if the key does not open the secret.
pub(super) fn parse_line_with(
    view: &CommandView,
    line: &str,
    abbreviate: bool,
    keys: &KeyFile,
) -> Result<ParsedCommand, CommandError> {
    let line = Line::new(1, line.trim_end_matches(['\r', '\n']))?;
    if line.is_empty() {
        return Ok(ParsedCommand::Nothing);
    }
    let views = contexts(view);
    let line = line.with_secrets(|line| secrets(&views, line, abbreviate));
    match find(&views, &line, abbreviate) {
        Ok(found) => command(found, line, &SecretOpener::new(keys)),
        Err(mismatch) => Err(at(&line, mismatch.wrong)),
    }
}

/// Decides whether the line, typed in `view`, holds a secret or what may be meant as one.
pub fn has_secret(view: &CommandView, line: &str) -> bool {
    let found = Line::new(1, line).is_ok_and(|line| !secrets(&contexts(view), &line, true).is_empty());
    found || masked(line) != line
}

/// Returns the error that points at the word.
pub(super) fn at(line: &Line, wrong: WrongWord) -> CommandError {
    line.error_at(line.span(wrong.word), wrong.message)
}

/// Returns the command of a line that was matched, with its secrets opened.
///
/// # Errors
///
/// The arguments do not go together, or a secret cannot be opened.
pub(super) fn command(
    mut found: RuleMatch,
    line: Line,
    opener: &SecretOpener<'_>,
) -> Result<ParsedCommand, CommandError> {
    let mut refused = None;
    for (token, argument) in found.tokens.iter_mut().enumerate() {
        if let Token::Argument(_, ArgumentValue::Secret(secret)) = argument
            && let Err(message) = opener.open(secret)
        {
            refused = Some((token, message));
        }
    }
    if let Some((token, message)) = refused {
        return Err(at(&line, WrongWord { word: found.word_of(token), message }));
    }
    match found.rule {
        Rule::Setting(descriptor) => configure(descriptor, found, line).map(ParsedCommand::Configure),
        Rule::Command(rule) => action(rule.action, found.undo, found.arguments(), &line),
    }
}

fn configure(
    descriptor: &'static SettingDescriptor,
    found: RuleMatch,
    line: Line,
) -> Result<ConfigureCommand, CommandError> {
    let setting = descriptor
        .read(&found.tokens)
        .map_err(|wrong| at(&line, WrongWord { word: found.word_of(wrong.token), message: wrong.message }))?;
    let mut arguments: Vec<_> = found.arguments().positions().map(|token| line.span(found.word_of(token))).collect();
    if arguments.is_empty() {
        arguments.push(line.span(found.word_of(0)));
    }
    let edit = match (found.undo, setting) {
        (false, Some(setting)) => ConfigEdit::Set(setting),
        (true, Some(setting)) => ConfigEdit::Undo(setting),
        (true, None) => ConfigEdit::UndoAny(PartialUndo { descriptor, tokens: found.tokens }),
        // The grammar does not let it come to this.
        (false, None) => {
            let message = "the command is not complete".to_owned();
            return Err(at(&line, WrongWord { word: found.tokens.len(), message }));
        }
    };
    Ok(ConfigureCommand { edit, line, arguments })
}

/// The most characters of a description.
const LONGEST_DESCRIPTION: usize = 255;

/// Returns what a `commit` says about itself.
///
/// # Errors
///
/// The description is too long.
fn note(arguments: ArgumentTokens<'_>, line: &Line) -> Result<CommitNote, CommandError> {
    let described = arguments.texts_of(ArgumentKind::Text).next();
    let description = described.map(|(first, _)| line.text_from(first));
    let length = description.map_or(0, |text| text.chars().count());
    match described {
        Some((word, _)) if length > LONGEST_DESCRIPTION => {
            let message = format!("a description has at most {LONGEST_DESCRIPTION} characters, this has {length}");
            Err(at(line, WrongWord { word, message }))
        }
        _ => Ok(CommitNote {
            label: arguments.text_of(ArgumentKind::Label),
            description: description.filter(|text| !text.is_empty()).map(str::to_owned),
        }),
    }
}

/// Returns the commit that a `rollback` names. The grammar does not let one pass that names none.
fn rollback_target(arguments: ArgumentTokens<'_>) -> RollbackTarget {
    let number = arguments.number::<u32>().unwrap_or(1);
    match arguments.text_of(ArgumentKind::Label) {
        Some(label) => RollbackTarget::Label(label),
        None if arguments.has("last") => RollbackTarget::Last(number),
        None => RollbackTarget::Commit(number.into()),
    }
}

/// Returns the command of an action.
///
/// # Errors
///
/// The arguments do not go together.
fn action(
    action: CommandAction,
    undo: bool,
    arguments: ArgumentTokens<'_>,
    line: &Line,
) -> Result<ParsedCommand, CommandError> {
    let display = |what| ParsedCommand::Display(what, LineFilter::read(arguments, line));
    let vpn_instance = || arguments.text_of(ArgumentKind::VpnInstance);
    let alias = || arguments.text_of(ArgumentKind::Alias);
    let station = || arguments.address_of(ArgumentKind::Station);
    let (verbose, force) = (arguments.has(word::VERBOSE), arguments.has(word::FORCE));
    let time = || arguments.times().next().map(|(_, time)| time);
    Ok(match action {
        CommandAction::Quit => ParsedCommand::Quit,
        CommandAction::Return => ParsedCommand::Return,
        CommandAction::SystemView => ParsedCommand::SystemView,
        CommandAction::Save => ParsedCommand::Save,
        CommandAction::Commit => ParsedCommand::Candidate(match (time(), note(arguments, line)?) {
            (Some(time), note) => CandidateCommand::CommitTrial { time, note },
            (None, note) => CandidateCommand::Commit { force, note },
        }),
        CommandAction::Rollback => {
            ParsedCommand::Candidate(CandidateCommand::Rollback { target: rollback_target(arguments), trial: time() })
        }
        CommandAction::DisplayCommitList => display(DisplayCommand::CommitList { last: arguments.number() }),
        CommandAction::DisplayCommitChanges => {
            let number = arguments.number();
            let is_id = arguments.has(word::AT);
            display(DisplayCommand::CommitChanges { at: number.filter(|_| is_id), last: number.filter(|_| !is_id) })
        }
        CommandAction::AbortTrial => ParsedCommand::Candidate(CandidateCommand::AbortTrial { force }),
        CommandAction::ClearCandidate => ParsedCommand::Candidate(CandidateCommand::Clear),
        CommandAction::ResetBgpPeer => ParsedCommand::ResetBgpPeer(arguments.address_of(ArgumentKind::Peer)),
        CommandAction::ResetBmpSession => ParsedCommand::Reset(ResetCommand {
            vpn_instance: vpn_instance(),
            station: station(),
            alias: alias(),
            counters: arguments.has(word::COUNTERS),
        }),
        CommandAction::DisplayCurrentConfiguration => {
            display(DisplayCommand::CurrentConfiguration { view: section(arguments) })
        }
        CommandAction::Debugging => {
            ParsedCommand::Debugging(DebuggingCommand::read(undo, arguments).ok_or_else(|| {
                // The grammar does not let it come to this.
                let message = "the command is not complete".to_owned();
                at(line, WrongWord { word: line.words().count(), message })
            })?)
        }
        CommandAction::DisplayDebugging => display(DisplayCommand::Debugging),
        CommandAction::DisplayThis => display(DisplayCommand::This),
        CommandAction::DisplayVersion => display(DisplayCommand::Version),
        CommandAction::DisplayLogBuffer => display(DisplayCommand::LogBuffer { last: arguments.number() }),
        CommandAction::DisplayCandidate => display(DisplayCommand::Candidate { changes: arguments.has(word::CHANGES) }),
        CommandAction::DisplayDefaultParameterBmp => display(DisplayCommand::DefaultParameterBmp),
        CommandAction::DisplayInterfaceBinding => display(DisplayCommand::InterfaceBinding),
        CommandAction::DisplayBmpFeed => display(DisplayCommand::BmpFeed),
        CommandAction::DisplayBmpRelay => display(DisplayCommand::BmpRelay),
        CommandAction::DisplayTrial => display(DisplayCommand::Trial),
        CommandAction::DisplayMrtReplay => display(DisplayCommand::MrtReplay),
        CommandAction::DisplayHttp => display(DisplayCommand::Http),
        CommandAction::DisplayBgpBmpMonitor => {
            let of = |kind| arguments.address_of(kind);
            let peer = of(ArgumentKind::Ipv4Peer).or_else(|| of(ArgumentKind::Ipv6Peer));
            let vpn_instance = arguments.text_of(ArgumentKind::TableName);
            display(
                peer.map_or(DisplayCommand::BgpBmpMonitor, |peer| DisplayCommand::MonitoredPeer { vpn_instance, peer }),
            )
        }
        CommandAction::DisplayBgpPeer => {
            display(DisplayCommand::BgpPeer { peer: arguments.address_of(ArgumentKind::Peer), verbose })
        }
        CommandAction::DisplayBmpSession => display(DisplayCommand::BmpSession {
            vpn_instance: vpn_instance(),
            station: station(),
            alias: alias(),
            verbose,
        }),
    })
}

/// Returns the view that a part of the configuration is named by.
fn section(arguments: ArgumentTokens<'_>) -> Option<CommandView> {
    let input = arguments.text_of(ArgumentKind::InputName);
    if let Some(chain) = arguments.text_of(ArgumentKind::KeychainName) {
        return Some(CommandView::Keychain(chain));
    }
    if let Some(profile) = arguments.text_of(ArgumentKind::TlsProfileName) {
        return Some(CommandView::TlsProfile(profile));
    }
    if let Some(filter) = arguments.text_of(ArgumentKind::RouteFilterName) {
        return Some(CommandView::RouteFilter(filter));
    }
    match SessionId::read(arguments) {
        Ok(Some(session)) => Some(CommandView::Session(session)),
        _ if arguments.has(word::MRT_REPLAY) => input.map(CommandView::Replay),
        _ if arguments.has(word::SYSTEM) => Some(CommandView::System),
        _ if arguments.has(word::BMP) => Some(CommandView::Bmp),
        _ if arguments.has(word::BGP) => Some(CommandView::Bgp),
        _ => input.map(CommandView::Relay),
    }
}

/// Applies a command to `config` and `view`. Commands that neither configure nor go to another view
/// change nothing.
///
/// # Errors
///
/// The command contradicts the configuration: another session has this station, port and VPN
/// instance, or `undo` names other arguments than those configured. Or the command was read in
/// another view. Nothing has changed then.
pub fn apply(config: &mut Config, view: &mut CommandView, command: &ParsedCommand) -> Result<(), CommandError> {
    match command {
        ParsedCommand::Nothing
        | ParsedCommand::Display(..)
        | ParsedCommand::Reset(_)
        | ParsedCommand::ResetBgpPeer(_)
        | ParsedCommand::Debugging(_)
        | ParsedCommand::Candidate(_)
        | ParsedCommand::Save => Ok(()),
        ParsedCommand::SystemView => {
            *view = CommandView::System;
            Ok(())
        }
        ParsedCommand::Quit => {
            *view = view.parent().unwrap_or(CommandView::User);
            Ok(())
        }
        ParsedCommand::Return => {
            *view = CommandView::User;
            Ok(())
        }
        ParsedCommand::Configure(configure) => match change(config, view, &configure.edit) {
            Ok(next) => {
                *view = next;
                Ok(())
            }
            Err(refused) => Err(configure.refused(refused)),
        },
    }
}
