//! What one line of a configuration sets, as a value; and that value as a line again.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{
    Config, ConnectInterface, Session, SessionId,
    grammar::{Item, Syntax},
    matching::{Args, Fault},
    value::{Kind, Value, interface_name},
};

/// One setting with all its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `sysname NAME`.
    Sysname(String),
    /// `interface-alias KERNEL-NAME NAME`.
    InterfaceAlias {
        /// The interface's name in the kernel.
        kernel: String,
        /// The name it gets.
        name: String,
    },
    /// `bmp-relay NAME`.
    Relay(String),
    /// `listen ADDR port N`.
    Listen(SocketAddr),
    /// `bmp`.
    Bmp,
    /// `connect-interface ADDR` in the bmp view.
    BmpConnectInterface(Ipv4Addr),
    /// `bmp-session ADDR [ alias A ]`.
    Session(SessionId),
    /// `tcp connect port N`.
    TcpConnectPort(u16),
    /// `connect-interface ...` in a session view.
    ConnectInterface(ConnectInterface),
}

impl Setting {
    /// What it sets.
    pub fn item(&self) -> Item {
        match self {
            Self::Sysname(_) => Item::Sysname,
            Self::InterfaceAlias { .. } => Item::InterfaceAlias,
            Self::Relay(_) => Item::Relay,
            Self::Listen(_) => Item::Listen,
            Self::Bmp => Item::Bmp,
            Self::BmpConnectInterface(_) => Item::BmpConnectInterface,
            Self::Session(_) => Item::Session,
            Self::TcpConnectPort(_) => Item::TcpConnectPort,
            Self::ConnectInterface(_) => Item::ConnectInterface,
        }
    }

    /// From the arguments of a command. `None` where they are not all there, which the grammar allows after `undo` alone.
    pub(super) fn read(item: Item, args: &Args) -> Result<Option<Self>, Fault> {
        let setting = match item {
            Item::Sysname => args.text(Kind::Sysname).map(Self::Sysname),
            Item::InterfaceAlias => args
                .text(Kind::KernelName)
                .zip(args.text(Kind::InterfaceName))
                .map(|(kernel, name)| Self::InterfaceAlias { kernel, name }),
            Item::Relay => args.text(Kind::InputName).map(Self::Relay),
            Item::Listen => args.address(Kind::Listen).zip(args.port()).map(|listen| Self::Listen(listen.into())),
            Item::Bmp => Some(Self::Bmp),
            Item::BmpConnectInterface => match args.address(Kind::Ipv4Source) {
                Some(IpAddr::V4(address)) => Some(Self::BmpConnectInterface(address)),
                Some(IpAddr::V6(_)) | None => None,
            },
            Item::Session => args
                .address(Kind::Station)
                .map(|station| Self::Session(SessionId { vpn_instance: None, station, alias: args.text(Kind::Alias) })),
            Item::TcpConnectPort => args.port().map(Self::TcpConnectPort),
            Item::ConnectInterface => connect_interface(args)?.map(Self::ConnectInterface),
        };
        Ok(setting)
    }

    /// As a line of the configuration, from the same grammar that reads it; without indentation.
    pub(super) fn line(&self) -> String {
        let mut words = Vec::new();
        let mut args = self.args().into_iter().peekable();
        fill(self.item().rule().syntax, &mut args, &mut words);
        words.join(" ")
    }

    fn args(&self) -> Vec<(Kind, String)> {
        match self {
            Self::Sysname(name) => vec![(Kind::Sysname, name.clone())],
            Self::InterfaceAlias { kernel, name } => {
                vec![(Kind::KernelName, kernel.clone()), (Kind::InterfaceName, name.clone())]
            }
            Self::Relay(name) => vec![(Kind::InputName, name.clone())],
            Self::Listen(listen) => {
                vec![(Kind::Listen, listen.ip().to_string()), (Kind::Port, listen.port().to_string())]
            }
            Self::Bmp => Vec::new(),
            Self::BmpConnectInterface(address) => vec![(Kind::Ipv4Source, address.to_string())],
            Self::Session(id) => {
                let alias = id.alias.iter().map(|alias| (Kind::Alias, alias.clone()));
                std::iter::once((Kind::Station, id.station.to_string())).chain(alias).collect()
            }
            Self::TcpConnectPort(port) => vec![(Kind::Port, port.to_string())],
            Self::ConnectInterface(connect) => {
                let interface = connect.interface().map(|name| (Kind::InterfaceName, name.to_owned()));
                let address = connect.address().map(|address| (Kind::Source, address.to_string()));
                interface.into_iter().chain(address).collect()
            }
        }
    }
}

/// The interface as one name, whether it was written in one word or two, and the address.
fn connect_interface(args: &Args) -> Result<Option<ConnectInterface>, Fault> {
    let interface = match (args.text(Kind::InterfaceType), args.text(Kind::InterfaceNumber)) {
        (Some(kind), Some(number)) => match interface_name(&format!("{kind}{number}")) {
            Ok(Value::Text(name)) => Some(name),
            Ok(_) => None,
            Err(message) => return Err(Fault { word: args.word(Kind::InterfaceNumber), message }),
        },
        _ => args.text(Kind::InterfaceName),
    };
    Ok(match (interface, args.address(Kind::Source)) {
        (Some(interface), Some(address)) => Some(ConnectInterface::Both { interface, address }),
        (Some(interface), None) => Some(ConnectInterface::Interface(interface)),
        (None, Some(address)) => Some(ConnectInterface::Address(address)),
        (None, None) => None,
    })
}

type Given = std::iter::Peekable<std::vec::IntoIter<(Kind, String)>>;

/// Puts the arguments into a command's form. What is optional is written while there are arguments for it; of several forms
/// the one that begins with the argument at hand.
fn fill(form: &'static [Syntax], args: &mut Given, words: &mut Vec<String>) {
    for piece in form {
        match piece {
            Syntax::Word(keyword, _) => words.push((*keyword).to_owned()),
            Syntax::Value(..) => words.extend(args.next().map(|(_, text)| text)),
            Syntax::Optional(inner) => {
                if args.peek().is_some() {
                    fill(inner, args, words);
                }
            }
            Syntax::Choice(forms) => {
                let begins = |form: &&&[Syntax]| match (form.first(), args.peek()) {
                    (Some(Syntax::Value(kind, _)), Some((given, _))) => kind == given,
                    _ => false,
                };
                if let Some(form) = forms.iter().find(begins) {
                    fill(form, args, words);
                }
            }
        }
    }
}

/// One view with what it holds, as the printed configuration has them.
pub(super) struct Section {
    /// The lines of the view itself: the one that enters it, or the settings of the system view that belong together.
    pub(super) settings: Vec<Setting>,
    /// What is in it before the views inside it.
    pub(super) inside: Vec<Setting>,
    /// The views inside it.
    pub(super) sections: Vec<Section>,
}

impl Section {
    fn of(settings: Vec<Setting>) -> Self {
        Self { settings, inside: Vec::new(), sections: Vec::new() }
    }
}

/// All settings of a configuration that are not defaults, in the order in which they are printed.
pub(super) fn sections(config: &Config) -> Vec<Section> {
    let Config { sysname, interface_aliases, relays, bmp } = config;
    let mut sections = Vec::new();
    if let Some(name) = sysname {
        sections.push(Section::of(vec![Setting::Sysname(name.clone())]));
    }
    if !interface_aliases.is_empty() {
        let alias =
            |(name, kernel): (&String, &String)| Setting::InterfaceAlias { kernel: kernel.clone(), name: name.clone() };
        sections.push(Section::of(interface_aliases.iter().map(alias).collect()));
    }
    for (name, relay) in relays {
        let inside = relay.listen.map(Setting::Listen).into_iter().collect();
        sections.push(Section { inside, ..Section::of(vec![Setting::Relay(name.clone())]) });
    }
    if bmp.connect_interface.is_some() || !bmp.sessions.is_empty() {
        sections.push(Section {
            inside: bmp.connect_interface.map(Setting::BmpConnectInterface).into_iter().collect(),
            sections: bmp.sessions.iter().map(session).collect(),
            ..Section::of(vec![Setting::Bmp])
        });
    }
    sections
}

fn session((id, session): (&SessionId, &Session)) -> Section {
    let Session { port, connect_interface } = session;
    let port = port.map(Setting::TcpConnectPort);
    let connect_interface = connect_interface.clone().map(Setting::ConnectInterface);
    Section {
        inside: port.into_iter().chain(connect_interface).collect(),
        ..Section::of(vec![Setting::Session(id.clone())])
    }
}
