//! A command as a value, and what it does to a configuration.

use std::{net::IpAddr, time::Duration};

use super::{
    change::{RefusedChange, change},
    edit::{ConfigEdit, PartialUndo},
    language::{
        argument::ArgumentKind,
        line::{CommandError, Line, Span},
        secret::masked,
        token::ArgumentTokens,
    },
    model::{Config, SessionId},
    parse::{
        commands::{CommandAction, word},
        filter::LineFilter,
        matching::{find, secrets},
        outcome::{RuleMatch, WrongWord, contexts},
        rule::Rule,
    },
    settings::SettingDescriptor,
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
    /// `reset ...`: to be carried out.
    Reset(ResetCommand),
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

/// The sessions that a command ends and begins again:
/// `reset bmp session [ vpn-instance V ] { ADDR [ alias A ] | all }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetCommand {
    /// In this VPN instance. `None` is the public one if a station is named, else all instances.
    pub vpn_instance: Option<String>,
    /// To this station; `None` is `all`.
    pub station: Option<IpAddr>,
    /// With this alias; `None` is any alias and none.
    pub alias: Option<String>,
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
    /// `display http`.
    Http,
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
    let line = Line::new(1, line.trim_end_matches(['\r', '\n']))?;
    if line.is_empty() {
        return Ok(ParsedCommand::Nothing);
    }
    let views = contexts(view);
    let line = line.with_secrets(|line| secrets(&views, line, abbreviate));
    match find(&views, &line, abbreviate) {
        Ok(found) => command(found, line),
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

/// Returns the command of a line that was matched.
///
/// # Errors
///
/// The arguments do not go together.
pub(super) fn command(found: RuleMatch, line: Line) -> Result<ParsedCommand, CommandError> {
    match found.rule {
        Rule::Setting(descriptor) => configure(descriptor, found, line).map(ParsedCommand::Configure),
        Rule::Command(rule) => Ok(action(rule.action, found.arguments(), &line)),
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

/// Returns the command of an action.
fn action(action: CommandAction, arguments: ArgumentTokens<'_>, line: &Line) -> ParsedCommand {
    let display = |what| ParsedCommand::Display(what, LineFilter::read(arguments, line));
    let vpn_instance = || arguments.text_of(ArgumentKind::VpnInstance);
    let alias = || arguments.text_of(ArgumentKind::Alias);
    let station = || arguments.address_of(ArgumentKind::Station);
    let (verbose, force) = (arguments.has(word::VERBOSE), arguments.has(word::FORCE));
    match action {
        CommandAction::Quit => ParsedCommand::Quit,
        CommandAction::Return => ParsedCommand::Return,
        CommandAction::SystemView => ParsedCommand::SystemView,
        CommandAction::Commit => ParsedCommand::Candidate(match arguments.times().next() {
            Some((_, time)) => CandidateCommand::CommitTrial(time),
            None => CandidateCommand::Commit { force },
        }),
        CommandAction::AbortTrial => ParsedCommand::Candidate(CandidateCommand::AbortTrial { force }),
        CommandAction::ClearCandidate => ParsedCommand::Candidate(CandidateCommand::Clear),
        CommandAction::ResetBmpSession => {
            ParsedCommand::Reset(ResetCommand { vpn_instance: vpn_instance(), station: station(), alias: alias() })
        }
        CommandAction::DisplayCurrentConfiguration => display(DisplayCommand::CurrentConfiguration),
        CommandAction::DisplayCandidate => display(DisplayCommand::Candidate { changes: arguments.has(word::CHANGES) }),
        CommandAction::DisplayDefaultParameterBmp => display(DisplayCommand::DefaultParameterBmp),
        CommandAction::DisplayInterfaceBinding => display(DisplayCommand::InterfaceBinding),
        CommandAction::DisplayBmpFeed => display(DisplayCommand::BmpFeed),
        CommandAction::DisplayBmpRelay => display(DisplayCommand::BmpRelay),
        CommandAction::DisplayTrial => display(DisplayCommand::Trial),
        CommandAction::DisplayMrtReplay => display(DisplayCommand::MrtReplay),
        CommandAction::DisplayHttp => display(DisplayCommand::Http),
        CommandAction::DisplayBgpBmpMonitor => display(DisplayCommand::BgpBmpMonitor),
        CommandAction::DisplayBgpPeer => {
            display(DisplayCommand::BgpPeer { peer: arguments.address_of(ArgumentKind::Peer), verbose })
        }
        CommandAction::DisplayBmpSession => display(DisplayCommand::BmpSession {
            vpn_instance: vpn_instance(),
            station: station(),
            alias: alias(),
            verbose,
        }),
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
        ParsedCommand::Nothing | ParsedCommand::Display(..) | ParsedCommand::Reset(_) | ParsedCommand::Candidate(_) => {
            Ok(())
        }
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
