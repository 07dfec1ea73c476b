//! What one line of a configuration sets, as a value; and that value as a line again.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{
    Bmp, Config, ConnectInterface, Session, SessionId, Transport,
    grammar::{Item, Syntax},
    matching::{Args, Fault},
    text::quoted,
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
    /// `persist`.
    Persist,
    /// `bmp-session [ vpn-instance NAME ] ADDR [ alias A ]`.
    Session(SessionId),
    /// `tcp connect port N`.
    TcpConnectPort(u16),
    /// `tcp listen port N`.
    TcpListenPort(u16),
    /// `connect-interface ...` in a session view.
    ConnectInterface(ConnectInterface),
    /// `egress-interface NAME ...`: 1 to [`EGRESS_MAX`] different names.
    EgressInterface(Vec<String>),
    /// `next-hop ADDR`.
    NextHop(IpAddr),
    /// `hold-down MILLISECONDS`.
    HoldDown(Duration),
    /// `adopt`.
    Adopt,
    /// `shutdown`.
    Shutdown,
}

/// How many interfaces `egress-interface` takes: as many as a pin holds in the kernel.
const EGRESS_MAX: usize = 8;

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
            Self::Persist => Item::Persist,
            Self::Session(_) => Item::Session,
            Self::TcpConnectPort(_) => Item::TcpConnectPort,
            Self::TcpListenPort(_) => Item::TcpListenPort,
            Self::ConnectInterface(_) => Item::ConnectInterface,
            Self::EgressInterface(_) => Item::EgressInterface,
            Self::NextHop(_) => Item::NextHop,
            Self::HoldDown(_) => Item::HoldDown,
            Self::Adopt => Item::Adopt,
            Self::Shutdown => Item::Shutdown,
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
            Item::Persist => Some(Self::Persist),
            Item::Session => session_id(args).map(Self::Session),
            Item::TcpConnectPort => args.port().map(Self::TcpConnectPort),
            Item::TcpListenPort => args.port().map(Self::TcpListenPort),
            Item::ConnectInterface => connect_interface(args)?.map(Self::ConnectInterface),
            Item::EgressInterface => egress_interfaces(args)?.map(Self::EgressInterface),
            Item::NextHop => args.address(Kind::NextHop).map(Self::NextHop),
            Item::HoldDown => args.time(Kind::HoldDown).map(Self::HoldDown),
            Item::Adopt => Some(Self::Adopt),
            Item::Shutdown => Some(Self::Shutdown),
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

    /// The arguments, each with what it is.
    pub(super) fn args(&self) -> Vec<(Kind, String)> {
        match self {
            Self::Sysname(name) => vec![(Kind::Sysname, name.clone())],
            Self::InterfaceAlias { kernel, name } => {
                vec![(Kind::KernelName, kernel.clone()), (Kind::InterfaceName, name.clone())]
            }
            Self::Relay(name) => vec![(Kind::InputName, name.clone())],
            Self::Listen(listen) => {
                vec![(Kind::Listen, listen.ip().to_string()), (Kind::Port, listen.port().to_string())]
            }
            Self::Bmp | Self::Persist | Self::Adopt | Self::Shutdown => Vec::new(),
            Self::BmpConnectInterface(address) => vec![(Kind::Ipv4Source, address.to_string())],
            Self::Session(id) => {
                let vpn_instance = id.vpn_instance.iter().map(|name| (Kind::VpnInstance, name.clone()));
                let alias = id.alias.iter().map(|alias| (Kind::Alias, alias.clone()));
                vpn_instance.chain([(Kind::Station, id.station.to_string())]).chain(alias).collect()
            }
            Self::TcpConnectPort(port) | Self::TcpListenPort(port) => vec![(Kind::Port, port.to_string())],
            Self::EgressInterface(names) => names.iter().map(|name| (Kind::EgressName, name.clone())).collect(),
            Self::NextHop(address) => vec![(Kind::NextHop, address.to_string())],
            Self::HoldDown(time) => vec![(Kind::HoldDown, time.as_millis().to_string())],
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

/// What names a session.
pub(super) fn session_id(args: &Args) -> Option<SessionId> {
    let (vpn_instance, alias) = (args.text(Kind::VpnInstance), args.text(Kind::Alias));
    args.address(Kind::Station).map(|station| SessionId { vpn_instance, station, alias })
}

/// The names, which the grammar counts no further than "one or more".
fn egress_interfaces(args: &Args) -> Result<Option<Vec<String>>, Fault> {
    let mut names = Vec::new();
    for (name, word) in args.texts(Kind::EgressName) {
        if names.len() == EGRESS_MAX {
            return Err(Fault { word, message: format!("a session may leave by at most {EGRESS_MAX} interfaces") });
        }
        if names.iter().any(|known| known == name) {
            return Err(Fault { word, message: format!("{} is named already", quoted(name)) });
        }
        names.push(name.to_owned());
    }
    Ok((!names.is_empty()).then_some(names))
}

type Given = std::iter::Peekable<std::vec::IntoIter<(Kind, String)>>;

/// Puts the arguments into a command's form. What is optional is written where the argument at hand is its first; of several
/// forms the one that begins with the argument at hand.
fn fill(form: &'static [Syntax], args: &mut Given, words: &mut Vec<String>) {
    for piece in form {
        match piece {
            Syntax::Word(keyword, _) => words.push((*keyword).to_owned()),
            Syntax::Value(..) => words.extend(args.next().map(|(_, text)| text)),
            Syntax::Optional(inner) => {
                if begins(inner, args) {
                    fill(inner, args, words);
                }
            }
            Syntax::Choice(forms) => {
                if let Some(form) = forms.iter().find(|form| begins(form, args)) {
                    fill(form, args, words);
                }
            }
        }
    }
}

/// Whether the argument at hand is the first that the form has.
fn begins(form: &[Syntax], args: &mut Given) -> bool {
    let Some((given, _)) = args.peek() else { return false };
    let given = *given;
    for piece in form {
        match piece {
            Syntax::Word(..) => {}
            Syntax::Value(kind, _) => return *kind == given,
            Syntax::Optional(inner) => {
                if begins(inner, args) {
                    return true;
                }
            }
            Syntax::Choice(forms) => return forms.iter().any(|form| begins(form, args)),
        }
    }
    false
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
    let Config { sysname, interface_aliases, relays, bmp, .. } = config;
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
    if *bmp != Bmp::default() {
        let persist = bmp.persist.then_some(Setting::Persist);
        sections.push(Section {
            inside: bmp.connect_interface.map(Setting::BmpConnectInterface).into_iter().chain(persist).collect(),
            sections: bmp.sessions.iter().map(session).collect(),
            ..Section::of(vec![Setting::Bmp])
        });
    }
    sections
}

fn session((id, session): (&SessionId, &Session)) -> Section {
    Section { inside: session_settings(session), ..Section::of(vec![Setting::Session(id.clone())]) }
}

fn session_settings(session: &Session) -> Vec<Setting> {
    let Session { transport, connect_interface, egress_interfaces, next_hop, hold_down, adopt, shutdown } = session;
    let transport = transport.map(|transport| match transport {
        Transport::Connect(port) => Setting::TcpConnectPort(port),
        Transport::Listen(port) => Setting::TcpListenPort(port),
    });
    let egress = (!egress_interfaces.is_empty()).then(|| Setting::EgressInterface(egress_interfaces.clone()));
    [
        transport,
        connect_interface.clone().map(Setting::ConnectInterface),
        egress,
        next_hop.map(Setting::NextHop),
        (!hold_down.is_zero()).then_some(Setting::HoldDown(*hold_down)),
        adopt.then_some(Setting::Adopt),
        shutdown.then_some(Setting::Shutdown),
    ]
    .into_iter()
    .flatten()
    .collect()
}
