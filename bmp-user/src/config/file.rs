//! Reads a whole file, and reports all its errors at once.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use crate::sys;

use super::{
    command::{ParsedCommand, apply, at, command},
    difference::{LineId, Place, place_of},
    edit::ConfigEdit,
    key_file::{KeyFile, SecretOpener},
    language::line::{CommandError, Line},
    model::Config,
    parse::{
        matching::{find, secrets},
        outcome::{Misfit, RuleMatch, ViewContext, WrongWord, contexts},
    },
    view::{CommandView, ViewKind},
};

/// The largest file that is read, in bytes.
pub(super) const LARGEST: u64 = 1 << 20;

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be opened or read.
    #[error("{}: error: cannot read the configuration file: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// It is larger than 1 MiB: not a configuration.
    #[error("{}:1:1: error: larger than {LARGEST} bytes: this is not a configuration file", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It has a NUL byte.
    #[error("{}:{line}:1: error: NUL byte: this is not a text file", .path.display())]
    Nul {
        /// The file.
        path: PathBuf,
        /// The line of the first one, 1-based.
        line: usize,
    },
    /// It is not UTF-8.
    #[error("{}:{line}:1: error: not UTF-8: save the file in this encoding", .path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first line that is not, 1-based.
        line: usize,
    },
    /// Commands in it are wrong. All errors, in order; the printed form has one after another.
    #[error("{}", all(.0))]
    Wrong(Vec<CommandError>),
}

fn all(errors: &[CommandError]) -> String {
    errors.iter().map(CommandError::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads a configuration file, and opens its sealed secrets.
///
/// # Errors
///
/// See [`LoadError`]. Each error names the file.
pub fn load(path: impl AsRef<Path>, keys: &KeyFile) -> Result<Config, LoadError> {
    let path = path.as_ref();
    let own = || path.to_owned();
    // Secrets may be in it as they are.
    let mut bytes = Zeroizing::new(Vec::new());
    // The size of the file may change while it is read, so do not trust it.
    let read = sys::open_regular(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    if let Err(source) = read {
        return Err(LoadError::Unreadable { path: own(), source });
    }
    parse_bytes(path, &bytes, keys)
}

/// Reads the bytes of a file, as [`load`] does.
pub(super) fn parse_bytes(path: &Path, bytes: &[u8], keys: &KeyFile) -> Result<Config, LoadError> {
    let own = || path.to_owned();
    if bytes.len() as u64 > LARGEST {
        return Err(LoadError::TooLarge { path: own() });
    }
    let line_of = |at: usize| 1 + bytes.iter().take(at).filter(|byte| **byte == b'\n').count();
    if let Some(nul) = bytes.iter().position(|byte| *byte == 0) {
        return Err(LoadError::Nul { path: own(), line: line_of(nul) });
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => parse_text(&path.to_string_lossy(), text, keys).map_err(LoadError::Wrong),
        Err(error) => Err(LoadError::NotUtf8 { path: own(), line: line_of(error.valid_up_to()) }),
    }
}

/// Reads the text of a configuration file. Errors call the file `name`.
///
/// Indentation and lines that begin with `#` are for people. A command that its view does not know
/// is looked up in the views around it. `quit` leaves a view. `return` ends the configuration, and
/// a command after it is an error. Sealed secrets stay sealed; [`load`] opens them.
///
/// # Errors
///
/// All errors of the file, in order, without errors that only follow from an earlier one. After a
/// wrong `bmp-session` line, the commands of its view are read and dropped.
pub fn parse_file(name: &str, text: &str) -> Result<Config, Vec<CommandError>> {
    parse_text(name, text, &KeyFile::unused())
}

fn parse_text(name: &str, text: &str, keys: &KeyFile) -> Result<Config, Vec<CommandError>> {
    let reader = ConfigReader::of(text, keys);
    if reader.errors.is_empty() {
        return Ok(reader.config);
    }
    let file: Arc<str> = name.into();
    Err(reader.errors.into_iter().map(|error| error.in_file(&file)).collect())
}

/// The places of a file's lines, by line number.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The place of each line that sets something.
    pub(super) set: BTreeMap<usize, Place>,
    /// The view behind each line.
    pub(super) view: BTreeMap<usize, Place>,
    /// The view that each `quit` leaves.
    pub(super) left: BTreeMap<usize, Place>,
    /// The line with `return`.
    pub(super) end: Option<usize>,
}

/// Returns the configuration and the places of its lines; `None` if it has errors.
pub(super) fn read_places(text: &str) -> Option<(Config, Places)> {
    let unused = KeyFile::unused();
    let reader = ConfigReader::of(text, &unused);
    reader.errors.is_empty().then_some((reader.config, reader.places))
}

/// The view that the reader is in.
enum FileView {
    In(CommandView),
    /// A view of this kind. The line that should have entered it is wrong.
    Lost(ViewKind),
}

impl FileView {
    fn contexts(&self) -> Vec<ViewContext> {
        match self {
            Self::In(view) => contexts(view),
            Self::Lost(kind) => {
                std::iter::successors(Some(*kind), |kind| kind.parent()).map(ViewContext::from).collect()
            }
        }
    }
}

struct ConfigReader<'a> {
    opener: SecretOpener<'a>,
    config: Config,
    place: FileView,
    /// `return` was read.
    ended: bool,
    /// The last command was unknown, and may have been meant to enter a view.
    dangling: bool,
    /// Lines with more indentation than this belong to an unknown command.
    skip_inside: Option<usize>,
    errors: Vec<CommandError>,
    places: Places,
}

impl<'a> ConfigReader<'a> {
    fn of(text: &str, keys: &'a KeyFile) -> Self {
        let mut reader = Self {
            opener: SecretOpener::new(keys),
            config: Config::default(),
            place: FileView::In(CommandView::System),
            ended: false,
            dangling: false,
            skip_inside: None,
            errors: Vec::new(),
            places: Places::default(),
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in text.split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if !reader.line(number + 1, line) {
                break;
            }
        }
        reader
    }

    /// Reads a line. Returns false if reading on makes no sense.
    fn line(&mut self, number: usize, text: &str) -> bool {
        let line = match Line::new(number, text) {
            Ok(line) if line.is_empty() => return true,
            Ok(line) => line.with_secrets(|line| secrets(&self.place.contexts(), line, false)),
            Err(error) => {
                self.errors.push(error);
                return true;
            }
        };
        if self.ended {
            self.refuse(&line, "`return` has ended the configuration: this would not be read");
            return false;
        }
        if self.skip_inside.is_some_and(|indent| line.indent() > indent) {
            return true;
        }
        self.skip_inside = None;
        match find(&self.place.contexts(), &line, false) {
            Ok(found) => {
                self.dangling = false;
                self.command(found, line);
            }
            Err(mismatch) => self.recover(&mismatch.misfit, line.indent(), at(&line, mismatch.wrong)),
        }
        true
    }

    fn refuse(&mut self, line: &Line, message: &str) {
        self.errors.push(at(line, WrongWord { word: 0, message: message.to_owned() }));
    }

    fn command(&mut self, found: RuleMatch, line: Line) {
        let (rule, number) = (found.rule, line.number());
        let command = match command(found, line.clone(), &self.opener) {
            Ok(ParsedCommand::Display(..)) => {
                return self.refuse(&line, "this shows something: it is no part of a configuration");
            }
            Ok(
                ParsedCommand::Reset(_)
                | ParsedCommand::ResetBgpPeer(_)
                | ParsedCommand::Debugging(_)
                | ParsedCommand::Candidate(_)
                | ParsedCommand::Save
                | ParsedCommand::SystemView,
            ) => {
                return self.refuse(&line, "this does something: it is no part of a configuration");
            }
            Ok(ParsedCommand::Return) => {
                self.ended = true;
                self.places.end = Some(number);
                return;
            }
            Ok(command) => command,
            Err(error) => return self.errors.push(error),
        };
        if let FileView::Lost(kind) = self.place {
            if command != ParsedCommand::Quit && rule.is_known_in(kind) {
                return;
            }
            self.place = FileView::In(match kind {
                ViewKind::Session => CommandView::Bmp,
                ViewKind::BgpFamily => CommandView::Bgp,
                _ => CommandView::System,
            });
            if command == ParsedCommand::Quit {
                return;
            }
        }
        let FileView::In(view) = &mut self.place else { return };
        if command == ParsedCommand::Quit && *view == CommandView::System {
            // After an error, `quit` may end a view that was never entered.
            if self.errors.is_empty() {
                self.refuse(&line, "there is no view to leave here");
            }
            return;
        }
        let before = place_of(view);
        match apply(&mut self.config, view, &command) {
            Ok(()) => {
                self.places.view.insert(number, place_of(view));
                if command == ParsedCommand::Quit {
                    self.places.left.insert(number, before);
                }
                if let ParsedCommand::Configure(configure) = &command
                    && let ConfigEdit::Set(setting) = configure.edit()
                {
                    let (mut place, line) = (place_of(view), LineId::of(setting));
                    // A line that enters a view is the place of that view.
                    if place.last() != Some(&line) {
                        place.push(line);
                    }
                    self.places.set.insert(number, place);
                }
            }
            Err(error) => self.errors.push(error),
        }
    }

    /// Keeps the error unless it follows from an earlier one. Goes to the view that the next lines
    /// are likely to belong to.
    fn recover(&mut self, misfit: &Misfit, indent: usize, error: CommandError) {
        let follows = self.dangling && matches!(misfit, Misfit::Elsewhere(_));
        if !follows {
            self.errors.push(error);
        }
        self.dangling = false;
        match misfit {
            Misfit::Wrong(Some(kind)) | Misfit::Elsewhere(kind) | Misfit::Misspelt(Some(kind)) => {
                self.place = match kind {
                    ViewKind::User | ViewKind::System => FileView::In(CommandView::System),
                    ViewKind::Bmp => FileView::In(CommandView::Bmp),
                    ViewKind::Session
                    | ViewKind::Monitor
                    | ViewKind::Relay
                    | ViewKind::Replay
                    | ViewKind::Keychain
                    | ViewKind::Key
                    | ViewKind::TlsProfile
                    | ViewKind::RouteFilter
                    | ViewKind::Bgp
                    | ViewKind::BgpFamily => FileView::Lost(*kind),
                };
            }
            Misfit::Wrong(None) | Misfit::Misspelt(None) => {}
            Misfit::Unknown => {
                self.skip_inside = Some(indent);
                self.dangling = true;
            }
        }
    }
}
