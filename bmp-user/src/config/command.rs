//! A command as a value, and what it does to a configuration.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    Config, Relay, Session, SessionId,
    grammar::{Action, Item, VERBOSE_WORD, ViewKind},
    matching::{Args, Context, Fault, Match, find},
    setting::Setting,
    text::{Error, Line, Span},
    value::Kind,
};

/// Where an operator, or the reader of a file, is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// Looks on and configures nothing.
    User,
    /// The configuration's outermost level.
    System,
    /// `bmp`.
    Bmp,
    /// `bmp-session ...`.
    Session(SessionId),
    /// `bmp-relay NAME`.
    Relay(String),
}

impl View {
    pub(super) fn kind(&self) -> ViewKind {
        match self {
            Self::User => ViewKind::User,
            Self::System => ViewKind::System,
            Self::Bmp => ViewKind::Bmp,
            Self::Session(_) => ViewKind::Session,
            Self::Relay(_) => ViewKind::Relay,
        }
    }

    /// The view around this one, where `quit` goes; `None` for the user view.
    pub fn parent(&self) -> Option<Self> {
        match self {
            Self::User => None,
            Self::System => Some(Self::User),
            Self::Bmp | Self::Relay(_) => Some(Self::System),
            Self::Session(_) => Some(Self::Bmp),
        }
    }

    /// This view and those around it that a command is looked up in, innermost first.
    pub(super) fn contexts(&self) -> Vec<Context> {
        let station = match self {
            Self::Session(id) => Some(id.station),
            _ => None,
        };
        let own = Context { kind: self.kind(), station };
        let around = std::iter::successors(self.kind().parent(), |kind| kind.parent()).map(Context::from);
        std::iter::once(own).chain(around).collect()
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
    /// `display ...`: to be answered.
    Display(Display),
}

/// What `display` is to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Display {
    /// `display bmp session [ADDR] [verbose]`.
    BmpSession {
        /// The sessions to this station alone.
        station: Option<IpAddr>,
        /// In detail.
        verbose: bool,
    },
    /// `display current-configuration`.
    CurrentConfiguration,
}

/// A command that changes the configuration, with the line it came from, so that a refusal can point at its word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configure {
    edit: Edit,
    line: Line,
    /// The argument that a refusal is about.
    at: Span,
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
}

impl Edit {
    /// What it changes.
    pub fn item(&self) -> Item {
        match self {
            Self::Set(setting) | Self::Undo(setting) => setting.item(),
            Self::UndoAny(item) => *item,
            Self::UndoInterfaceAliases { .. } => Item::InterfaceAlias,
        }
    }
}

impl Configure {
    /// What is to change.
    pub fn edit(&self) -> &Edit {
        &self.edit
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
    match find(&view.contexts(), &line, abbreviate) {
        Ok(found) => command(found, line),
        Err(failure) => Err(at(&line, failure.fault)),
    }
}

pub(super) fn at(line: &Line, fault: Fault) -> Error {
    line.error_at(line.span(fault.word), fault.message)
}

pub(super) fn command(found: Match, line: Line) -> Result<Command, Error> {
    let Match { rule, undo, args } = found;
    let item = match rule.action {
        Action::Configure(item) => item,
        Action::Quit => return Ok(Command::Quit),
        Action::Return => return Ok(Command::Return),
        Action::DisplayCurrentConfiguration => return Ok(Command::Display(Display::CurrentConfiguration)),
        Action::DisplayBmpSession => {
            let (station, verbose) = (args.address(Kind::Station), args.has(VERBOSE_WORD));
            return Ok(Command::Display(Display::BmpSession { station, verbose }));
        }
    };
    match edit(item, undo, &args) {
        Ok(edit) => {
            let at = line.span(args.first_word().unwrap_or(usize::from(undo)));
            Ok(Command::Configure(Configure { edit, line, at }))
        }
        Err(fault) => Err(at(&line, fault)),
    }
}

fn edit(item: Item, undo: bool, args: &Args) -> Result<Edit, Fault> {
    match (undo, Setting::read(item, args)?) {
        (false, Some(setting)) => Ok(Edit::Set(setting)),
        (true, Some(setting)) => Ok(Edit::Undo(setting)),
        (true, None) => match args.text(Kind::KernelName) {
            Some(kernel) => Ok(Edit::UndoInterfaceAliases { kernel }),
            None => Ok(Edit::UndoAny(item)),
        },
        // The grammar does not let it come to this.
        (false, None) => Err(Fault { word: args.word(Kind::Port), message: "the command is not complete".to_owned() }),
    }
}

/// Does to `config` and `view` what the command says. [`Command::Nothing`] and [`Command::Display`] change nothing.
///
/// # Errors
///
/// The command contradicts what is configured (another session has this station, port and VPN instance; `undo` names other
/// arguments than those configured), or was read in a view that it is not applied in. Nothing has changed then.
pub fn apply(config: &mut Config, view: &mut View, command: &Command) -> Result<(), Error> {
    match command {
        Command::Nothing | Command::Display(_) => Ok(()),
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
            Err(message) => Err(configure.line.error_at(configure.at, message)),
        },
    }
}

/// Makes the change in the view that knows it, and says which view one is in afterwards.
fn change(config: &mut Config, view: &View, edit: &Edit) -> Result<View, String> {
    let views = edit.item().rule().views;
    let mut around = std::iter::successors(Some(view.clone()), View::parent);
    let Some(home) = around.find(|view| views.contains(&view.kind())) else {
        return Err(format!("this is not a command of the {} view", view.kind().name()));
    };
    let next = match edit {
        Edit::Set(setting) => set(config, &home, setting)?,
        Edit::Undo(setting) => undo(config, &home, setting.item(), Some(setting))?,
        Edit::UndoAny(item) => undo(config, &home, *item, None)?,
        Edit::UndoInterfaceAliases { kernel } => {
            config.interface_aliases.retain(|_, of| of != kernel);
            None
        }
    };
    Ok(next.unwrap_or(home))
}

/// Gives the view that the setting enters, if it enters one.
fn set(config: &mut Config, home: &View, setting: &Setting) -> Result<Option<View>, String> {
    match setting {
        Setting::Sysname(name) => config.sysname = Some(name.clone()),
        Setting::InterfaceAlias { kernel, name } => {
            config.interface_aliases.insert(name.clone(), kernel.clone());
        }
        Setting::Relay(name) => {
            config.relays.entry(name.clone()).or_default();
            return Ok(Some(View::Relay(name.clone())));
        }
        Setting::Listen(listen) => {
            no_other_listens(config, home, *listen)?;
            relay(config, home)?.listen = Some(*listen);
        }
        Setting::Bmp => return Ok(Some(View::Bmp)),
        Setting::BmpConnectInterface(address) => config.bmp.connect_interface = Some(*address),
        Setting::Session(id) => {
            config.bmp.sessions.entry(id.clone()).or_default();
            return Ok(Some(View::Session(id.clone())));
        }
        Setting::TcpConnectPort(port) => {
            no_other_connects(config, home, *port)?;
            session(config, home)?.port = Some(*port);
        }
        Setting::ConnectInterface(connect) => session(config, home)?.connect_interface = Some(connect.clone()),
    }
    Ok(None)
}

/// `exactly` is `None` where `undo` came without arguments.
fn undo(config: &mut Config, home: &View, item: Item, exactly: Option<&Setting>) -> Result<Option<View>, String> {
    match item {
        Item::Sysname => clear(&mut config.sysname, Setting::Sysname, exactly)?,
        Item::InterfaceAlias => {
            if let Some(Setting::InterfaceAlias { name, .. }) = exactly {
                let of = |kernel| Setting::InterfaceAlias { kernel, name: name.clone() };
                let mut slot = config.interface_aliases.get(name).cloned();
                clear(&mut slot, of, exactly)?;
                config.interface_aliases.remove(name);
            }
        }
        Item::Relay => {
            if let Some(Setting::Relay(name)) = exactly {
                config.relays.remove(name);
            }
        }
        Item::Listen => clear(&mut relay(config, home)?.listen, Setting::Listen, exactly)?,
        Item::Bmp => config.bmp = super::Bmp::default(),
        Item::BmpConnectInterface => {
            clear(&mut config.bmp.connect_interface, Setting::BmpConnectInterface, exactly)?;
        }
        Item::Session => {
            if let Some(Setting::Session(id)) = exactly {
                config.bmp.sessions.remove(id);
            }
        }
        Item::TcpConnectPort => clear(&mut session(config, home)?.port, Setting::TcpConnectPort, exactly)?,
        Item::ConnectInterface => {
            clear(&mut session(config, home)?.connect_interface, Setting::ConnectInterface, exactly)?;
        }
    }
    Ok(None)
}

/// Empties the slot, unless it holds something else than what is to be taken back. Nothing may be taken back from nothing.
fn clear<T: Clone>(slot: &mut Option<T>, of: impl Fn(T) -> Setting, exactly: Option<&Setting>) -> Result<(), String> {
    if let (Some(value), Some(exactly)) = (slot.as_ref(), exactly) {
        let configured = of(value.clone());
        if configured != *exactly {
            return Err(format!("this is not what is configured, which is `{}`", configured.line()));
        }
    }
    *slot = None;
    Ok(())
}

fn held<'a, K: Ord, V>(all: &'a mut BTreeMap<K, V>, key: &K) -> Result<&'a mut V, String> {
    all.get_mut(key).ok_or_else(|| "what this view configures is not there any more: enter the view again".to_owned())
}

fn session<'a>(config: &'a mut Config, home: &View) -> Result<&'a mut Session, String> {
    match home {
        View::Session(id) => held(&mut config.bmp.sessions, id),
        _ => Err("this is a command of the bmp-session view".to_owned()),
    }
}

fn relay<'a>(config: &'a mut Config, home: &View) -> Result<&'a mut Relay, String> {
    match home {
        View::Relay(name) => held(&mut config.relays, name),
        _ => Err("this is a command of the bmp-relay view".to_owned()),
    }
}

/// Two sessions with one station address, port and VPN instance could not be told apart on the wire or in the kernel.
fn no_other_connects(config: &Config, home: &View, port: u16) -> Result<(), String> {
    let View::Session(own) = home else { return Ok(()) };
    // In the order of the sessions, those to one station follow one another.
    let first = SessionId { alias: None, ..own.clone() };
    let same_station = config
        .bmp
        .sessions
        .range(first..)
        .take_while(|(id, _)| id.station == own.station && id.vpn_instance == own.vpn_instance);
    match same_station.into_iter().find(|(id, session)| *id != own && session.port == Some(port)) {
        Some((other, _)) => Err(format!("the session {other} connects to port {port} of this station already")),
        None => Ok(()),
    }
}

/// Two inputs on one address and port: the second could not be opened.
fn no_other_listens(config: &Config, home: &View, listen: std::net::SocketAddr) -> Result<(), String> {
    let View::Relay(own) = home else { return Ok(()) };
    match config.relays.iter().find(|(name, relay)| *name != own && relay.listen == Some(listen)) {
        Some((other, _)) => Err(format!("the input {other} listens on {listen} already")),
        None => Ok(()),
    }
}
