//! What one line of a configuration sets, as a value; and that value as a line again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::{
    Bgp, BgpPeer, BgpTimer, Bmp, Config, ConnectInterface, ConnectRetry, MaxConnections, MonitorId, Pace, Prefix,
    Relay, Replay, RouteMode, Secret, Session, SessionId, Transport,
    arguments::{
        connect_args, connect_interface, connect_retry, egress_interfaces, family, family_words, keywords,
        max_connections, monitor, monitor_args, of_peer, pace, rib_view, session_id, timer, view_words,
    },
    grammar::{Item, Rule, Syntax, family_rule},
    matching::{Args, Fault},
    secret::Secrets,
    value::Kind,
};
use crate::wire::bgp::Family;

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
    /// `bgp AS-NUMBER`.
    Bgp(u32),
    /// `router-id ADDR`.
    RouterId(Ipv4Addr),
    /// `listen-port N`.
    ListenPort(u16),
    /// `peer ADDR as-number N`.
    PeerAsNumber(IpAddr, u32),
    /// `peer ADDR port N`.
    PeerPort(IpAddr, u16),
    /// `peer ADDR password TEXT`.
    PeerPassword(IpAddr, Secret),
    /// `peer ADDR listen-only`.
    PeerListenOnly(IpAddr),
    /// `peer ADDR connect-interface ...`.
    PeerConnectInterface(IpAddr, ConnectInterface),
    /// `peer ADDR timer keepalive K hold H`.
    PeerTimer(IpAddr, BgpTimer),
    /// `ipv4-family unicast` and its like.
    BgpFamily(Family),
    /// `peer ADDR enable`.
    PeerEnable(IpAddr),
    /// `bmp-relay NAME`.
    Relay(String),
    /// `listen ADDR port N`.
    Listen(SocketAddr),
    /// `allow PREFIX`.
    Allow(Prefix),
    /// `hold SECONDS` in a `bmp-relay` view.
    RelayHold(Duration),
    /// `end-of-rib-after SECONDS`.
    EndOfRibAfter(Duration),
    /// `max-connections NUMBER`.
    MaxConnections(MaxConnections),
    /// `mrt-replay NAME`.
    Replay(String),
    /// `file PATH`.
    ReplayFile(PathBuf),
    /// `pace ...`.
    ReplayPace(Pace),
    /// `loop`.
    ReplayLoop,
    /// `bmp`.
    Bmp,
    /// `connect-interface ADDR` in the bmp view.
    BmpConnectInterface(Ipv4Addr),
    /// `statistics-timer SECONDS`.
    StatisticsTimer(Duration),
    /// `persist`.
    Persist,
    /// `bmp-session [ vpn-instance NAME ] ADDR [ alias A ]`.
    Session(SessionId),
    /// `tcp connect port N [ password md5 TEXT ]`.
    TcpConnectPort {
        /// The station's port.
        port: u16,
        /// The secret of TCP MD5.
        password: Option<Secret>,
    },
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
    /// `tcp mss N`.
    TcpMss(u16),
    /// `dscp N`.
    Dscp(u8),
    /// `keepalive SECONDS`.
    TcpKeepalive(Duration),
    /// `connect-retry MIN MAX`.
    ConnectRetry(ConnectRetry),
    /// `initial-delay SECONDS`.
    InitialDelay(Duration),
    /// `flap-damping SECONDS`.
    FlapDamping(Duration),
    /// `monitor ...`.
    Monitor(MonitorId),
    /// `route-mode ...`.
    RouteMode(RouteMode),
    /// `route-mirroring`.
    RouteMirroring,
    /// `adopt`.
    Adopt,
    /// `shutdown`.
    Shutdown,
}

impl Setting {
    /// What it sets.
    pub fn item(&self) -> Item {
        match self {
            Self::Sysname(_) => Item::Sysname,
            Self::InterfaceAlias { .. } => Item::InterfaceAlias,
            Self::Bgp(_) => Item::Bgp,
            Self::RouterId(_) => Item::RouterId,
            Self::ListenPort(_) => Item::ListenPort,
            Self::PeerAsNumber(..) => Item::PeerAsNumber,
            Self::PeerPort(..) => Item::PeerPort,
            Self::PeerPassword(..) => Item::PeerPassword,
            Self::PeerListenOnly(_) => Item::PeerListenOnly,
            Self::PeerConnectInterface(..) => Item::PeerConnectInterface,
            Self::PeerTimer(..) => Item::PeerTimer,
            Self::BgpFamily(_) => Item::BgpFamily,
            Self::PeerEnable(_) => Item::PeerEnable,
            Self::Relay(_) => Item::Relay,
            Self::Listen(_) => Item::Listen,
            Self::Allow(_) => Item::Allow,
            Self::RelayHold(_) => Item::RelayHold,
            Self::EndOfRibAfter(_) => Item::EndOfRibAfter,
            Self::MaxConnections(_) => Item::MaxConnections,
            Self::Replay(_) => Item::Replay,
            Self::ReplayFile(_) => Item::ReplayFile,
            Self::ReplayPace(_) => Item::ReplayPace,
            Self::ReplayLoop => Item::ReplayLoop,
            Self::Bmp => Item::Bmp,
            Self::BmpConnectInterface(_) => Item::BmpConnectInterface,
            Self::StatisticsTimer(_) => Item::StatisticsTimer,
            Self::Persist => Item::Persist,
            Self::Session(_) => Item::Session,
            Self::TcpConnectPort { .. } => Item::TcpConnectPort,
            Self::TcpListenPort(_) => Item::TcpListenPort,
            Self::ConnectInterface(_) => Item::ConnectInterface,
            Self::EgressInterface(_) => Item::EgressInterface,
            Self::NextHop(_) => Item::NextHop,
            Self::HoldDown(_) => Item::HoldDown,
            Self::TcpMss(_) => Item::TcpMss,
            Self::Dscp(_) => Item::Dscp,
            Self::TcpKeepalive(_) => Item::TcpKeepalive,
            Self::ConnectRetry(_) => Item::ConnectRetry,
            Self::InitialDelay(_) => Item::InitialDelay,
            Self::FlapDamping(_) => Item::FlapDamping,
            Self::Monitor(_) => Item::Monitor,
            Self::RouteMode(_) => Item::RouteMode,
            Self::RouteMirroring => Item::RouteMirroring,
            Self::Adopt => Item::Adopt,
            Self::Shutdown => Item::Shutdown,
        }
    }

    /// The BGP peer that it is about.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        match self {
            Self::PeerAsNumber(peer, _)
            | Self::PeerPort(peer, _)
            | Self::PeerPassword(peer, _)
            | Self::PeerListenOnly(peer)
            | Self::PeerConnectInterface(peer, _)
            | Self::PeerTimer(peer, _)
            | Self::PeerEnable(peer) => Some(*peer),
            _ => None,
        }
    }

    /// From the arguments of a command. `None` where they are not all there, which the grammar allows after `undo` alone.
    pub(super) fn read(item: Item, args: &Args) -> Result<Option<Self>, Fault> {
        let peer = args.address(Kind::Peer);
        let setting = match item {
            Item::Sysname => args.text(Kind::Sysname).map(Self::Sysname),
            Item::InterfaceAlias => args
                .text(Kind::KernelName)
                .zip(args.text(Kind::InterfaceName))
                .map(|(kernel, name)| Self::InterfaceAlias { kernel, name }),
            Item::Bgp => args.number(Kind::AsNumber).map(Self::Bgp),
            Item::RouterId => match args.address(Kind::RouterId) {
                Some(IpAddr::V4(id)) => Some(Self::RouterId(id)),
                Some(IpAddr::V6(_)) | None => None,
            },
            Item::ListenPort => args.port().map(Self::ListenPort),
            Item::PeerAsNumber => {
                peer.zip(args.number(Kind::AsNumber)).map(|(peer, asn)| Self::PeerAsNumber(peer, asn))
            }
            Item::PeerPort => peer.zip(args.port()).map(|(peer, port)| Self::PeerPort(peer, port)),
            Item::PeerPassword => peer.zip(args.secret()).map(|(peer, password)| Self::PeerPassword(peer, password)),
            Item::PeerListenOnly => peer.map(Self::PeerListenOnly),
            Item::PeerConnectInterface => {
                peer.zip(connect_interface(args)?).map(|(peer, connect)| Self::PeerConnectInterface(peer, connect))
            }
            Item::PeerTimer => peer.zip(timer(args)?).map(|(peer, timer)| Self::PeerTimer(peer, timer)),
            Item::BgpFamily => family(args).map(Self::BgpFamily),
            Item::PeerEnable => peer.map(Self::PeerEnable),
            Item::Allow => args.prefix().map(Self::Allow),
            Item::RelayHold => args.time(Kind::RelayHold).map(Self::RelayHold),
            Item::EndOfRibAfter => args.time(Kind::Wait).map(Self::EndOfRibAfter),
            Item::MaxConnections => max_connections(args)?.map(Self::MaxConnections),
            Item::Replay => args.text(Kind::InputName).map(Self::Replay),
            Item::ReplayFile => args.text(Kind::Path).map(|path| Self::ReplayFile(path.into())),
            Item::ReplayPace => pace(args).map(Self::ReplayPace),
            Item::ReplayLoop => Some(Self::ReplayLoop),
            Item::StatisticsTimer => args.time(Kind::StatisticsTime).map(Self::StatisticsTimer),
            Item::TcpMss => args.number(Kind::Mss).and_then(|mss| mss.try_into().ok()).map(Self::TcpMss),
            Item::Dscp => args.number(Kind::Dscp).and_then(|dscp| dscp.try_into().ok()).map(Self::Dscp),
            Item::TcpKeepalive => args.time(Kind::TcpKeepalive).map(Self::TcpKeepalive),
            Item::ConnectRetry => connect_retry(args)?.map(Self::ConnectRetry),
            Item::InitialDelay => args.time(Kind::Wait).map(Self::InitialDelay),
            Item::FlapDamping => args.time(Kind::Wait).map(Self::FlapDamping),
            Item::Monitor => monitor(args).map(Self::Monitor),
            Item::RouteMode => {
                family(args).zip(rib_view(args)).map(|(family, view)| Self::RouteMode(RouteMode { family, view }))
            }
            Item::RouteMirroring => Some(Self::RouteMirroring),
            Item::Relay => args.text(Kind::InputName).map(Self::Relay),
            Item::Listen => args.address(Kind::Listen).zip(args.port()).map(|listen| Self::Listen(listen.into())),
            Item::Bmp => Some(Self::Bmp),
            Item::BmpConnectInterface => match args.address(Kind::Ipv4Source) {
                Some(IpAddr::V4(address)) => Some(Self::BmpConnectInterface(address)),
                Some(IpAddr::V6(_)) | None => None,
            },
            Item::Persist => Some(Self::Persist),
            Item::Session => session_id(args).map(Self::Session),
            Item::TcpConnectPort => args.port().map(|port| Self::TcpConnectPort { port, password: args.secret() }),
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

    /// As a line of the configuration, from the same grammar that reads it; without indentation, and with secrets masked.
    pub(super) fn line(&self) -> String {
        self.line_with(Secrets::Masked)
    }

    /// The same with secrets as is said.
    pub(super) fn line_with(&self, secrets: Secrets) -> String {
        let mut words = Vec::new();
        let mut args = self.args(secrets).into_iter().peekable();
        fill(self.rule().syntax, &mut args, &mut words);
        words.join(" ")
    }

    fn rule(&self) -> &'static Rule {
        match self {
            // Several commands set the one thing.
            Self::BgpFamily(family) => family_rule(family_words(*family).first().copied().unwrap_or_default()),
            other => other.item().rule(),
        }
    }

    /// The arguments, each with what it is.
    pub(super) fn args(&self, secrets: Secrets) -> Vec<(Kind, String)> {
        match self {
            Self::Sysname(name) => vec![(Kind::Sysname, name.clone())],
            Self::InterfaceAlias { kernel, name } => {
                vec![(Kind::KernelName, kernel.clone()), (Kind::InterfaceName, name.clone())]
            }
            Self::Relay(name) => vec![(Kind::InputName, name.clone())],
            Self::Listen(listen) => {
                vec![(Kind::Listen, listen.ip().to_string()), (Kind::Port, listen.port().to_string())]
            }
            Self::Bmp | Self::Persist | Self::Adopt | Self::Shutdown | Self::ReplayLoop | Self::RouteMirroring => {
                Vec::new()
            }
            Self::Bgp(asn) => vec![(Kind::AsNumber, asn.to_string())],
            Self::RouterId(id) => vec![(Kind::RouterId, id.to_string())],
            Self::ListenPort(port) => vec![(Kind::Port, port.to_string())],
            Self::PeerAsNumber(peer, asn) => vec![of_peer(peer), (Kind::AsNumber, asn.to_string())],
            Self::PeerPort(peer, port) => vec![of_peer(peer), (Kind::Port, port.to_string())],
            Self::PeerPassword(peer, password) => vec![of_peer(peer), (Kind::Password, secrets.text(password))],
            Self::PeerListenOnly(peer) | Self::PeerEnable(peer) => vec![of_peer(peer)],
            Self::PeerConnectInterface(peer, connect) => {
                [of_peer(peer)].into_iter().chain(connect_args(connect)).collect()
            }
            Self::PeerTimer(peer, BgpTimer { keepalive, hold }) => {
                vec![of_peer(peer), (Kind::KeepaliveTime, keepalive.to_string()), (Kind::HoldTime, hold.to_string())]
            }
            Self::BgpFamily(family) => keywords(&family_words(*family)).collect(),
            Self::Allow(prefix) => vec![(Kind::Prefix, prefix.to_string())],
            Self::RelayHold(time) => vec![(Kind::RelayHold, time.as_secs().to_string())],
            Self::MaxConnections(MaxConnections { total, per_source }) => {
                let per_source = per_source.iter().map(|most| (Kind::MostOfSource, most.to_string()));
                [(Kind::MostConnections, total.to_string())].into_iter().chain(per_source).collect()
            }
            Self::Replay(name) => vec![(Kind::InputName, name.clone())],
            Self::ReplayFile(path) => vec![(Kind::Path, path.display().to_string())],
            Self::ReplayPace(Pace::Recorded) => keywords(&["recorded"]).collect(),
            Self::ReplayPace(Pace::Maximum) => keywords(&["maximum"]).collect(),
            Self::ReplayPace(Pace::UpdatesPerSecond(rate)) => vec![(Kind::Rate, rate.to_string())],
            Self::StatisticsTimer(time) => vec![(Kind::StatisticsTime, time.as_secs().to_string())],
            Self::TcpMss(mss) => vec![(Kind::Mss, mss.to_string())],
            Self::Dscp(dscp) => vec![(Kind::Dscp, dscp.to_string())],
            Self::TcpKeepalive(time) => vec![(Kind::TcpKeepalive, time.as_secs().to_string())],
            Self::ConnectRetry(ConnectRetry { first, longest }) => vec![
                (Kind::RetryFirst, first.as_secs().to_string()),
                (Kind::RetryLongest, longest.as_secs().to_string()),
            ],
            Self::EndOfRibAfter(time) | Self::InitialDelay(time) | Self::FlapDamping(time) => {
                vec![(Kind::Wait, time.as_secs().to_string())]
            }
            Self::Monitor(monitor) => monitor_args(monitor),
            Self::RouteMode(RouteMode { family, view }) => {
                keywords(&family_words(*family)).chain(keywords(view_words(*view))).collect()
            }
            Self::BmpConnectInterface(address) => vec![(Kind::Ipv4Source, address.to_string())],
            Self::Session(id) => {
                let vpn_instance = id.vpn_instance.iter().map(|name| (Kind::VpnInstance, name.clone()));
                let alias = id.alias.iter().map(|alias| (Kind::Alias, alias.clone()));
                vpn_instance.chain([(Kind::Station, id.station.to_string())]).chain(alias).collect()
            }
            Self::TcpListenPort(port) => vec![(Kind::Port, port.to_string())],
            Self::TcpConnectPort { port, password } => {
                let password = password.iter().map(|password| (Kind::Password, secrets.text(password)));
                [(Kind::Port, port.to_string())].into_iter().chain(password).collect()
            }
            Self::EgressInterface(names) => names.iter().map(|name| (Kind::EgressName, name.clone())).collect(),
            Self::NextHop(address) => vec![(Kind::NextHop, address.to_string())],
            Self::HoldDown(time) => vec![(Kind::HoldDown, time.as_millis().to_string())],
            Self::ConnectInterface(connect) => connect_args(connect).collect(),
        }
    }
}

type Given = std::iter::Peekable<std::vec::IntoIter<(Kind, String)>>;

/// Puts the arguments into a command's form. What is optional is written where the argument at hand is its first; of several
/// forms the one that begins with the argument at hand.
fn fill(form: &'static [Syntax], args: &mut Given, words: &mut Vec<String>) {
    for piece in form {
        match piece {
            Syntax::Word(keyword, _) => {
                args.next_if(|(kind, text)| *kind == Kind::Keyword && text == keyword);
                words.push((*keyword).to_owned());
            }
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
    let Some((given, text)) = args.peek() else { return false };
    let given = *given;
    if given == Kind::Keyword {
        return matches!(form.first(), Some(Syntax::Word(keyword, _)) if keyword == text);
    }
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
    let Config { sysname, interface_aliases, bgp, relays, replays, bmp } = config;
    let mut sections = Vec::new();
    if let Some(name) = sysname {
        sections.push(Section::of(vec![Setting::Sysname(name.clone())]));
    }
    if !interface_aliases.is_empty() {
        let alias =
            |(name, kernel): (&String, &String)| Setting::InterfaceAlias { kernel: kernel.clone(), name: name.clone() };
        sections.push(Section::of(interface_aliases.iter().map(alias).collect()));
    }
    sections.extend(bgp.as_ref().map(bgp_section));
    for (name, Relay { listen, allow, hold, end_of_rib_after, max_connections }) in relays {
        let mut inside: Vec<_> = listen.map(Setting::Listen).into_iter().collect();
        inside.extend(allow.iter().copied().map(Setting::Allow));
        inside.extend((!hold.is_zero()).then_some(Setting::RelayHold(*hold)));
        inside.extend((!end_of_rib_after.is_zero()).then_some(Setting::EndOfRibAfter(*end_of_rib_after)));
        inside.extend(max_connections.map(Setting::MaxConnections));
        sections.push(Section { inside, ..Section::of(vec![Setting::Relay(name.clone())]) });
    }
    for (name, Replay { file, pace, looped }) in replays {
        let mut inside: Vec<_> = file.clone().map(Setting::ReplayFile).into_iter().collect();
        inside.extend((*pace != Pace::default()).then_some(Setting::ReplayPace(*pace)));
        inside.extend(looped.then_some(Setting::ReplayLoop));
        sections.push(Section { inside, ..Section::of(vec![Setting::Replay(name.clone())]) });
    }
    if *bmp != Bmp::default() {
        let inside = [
            bmp.statistics_timer.map(Setting::StatisticsTimer),
            bmp.connect_interface.map(Setting::BmpConnectInterface),
            bmp.persist.then_some(Setting::Persist),
        ];
        sections.push(Section {
            inside: inside.into_iter().flatten().collect(),
            sections: bmp.sessions.iter().map(session).collect(),
            ..Section::of(vec![Setting::Bmp])
        });
    }
    sections
}

fn bgp_section(bgp: &Bgp) -> Section {
    let Bgp { asn, router_id, listen_port, peers } = bgp;
    let mut inside: Vec<_> = router_id.map(Setting::RouterId).into_iter().collect();
    inside.extend(listen_port.map(Setting::ListenPort));
    let mut families: BTreeMap<Family, Vec<Setting>> = BTreeMap::new();
    for (&address, peer) in peers {
        let BgpPeer { asn, port, password, listen_only, connect_interface, timer, families: enabled } = peer;
        let settings = [
            asn.map(|asn| Setting::PeerAsNumber(address, asn)),
            port.map(|port| Setting::PeerPort(address, port)),
            password.clone().map(|password| Setting::PeerPassword(address, password)),
            listen_only.then_some(Setting::PeerListenOnly(address)),
            connect_interface.clone().map(|connect| Setting::PeerConnectInterface(address, connect)),
            timer.map(|timer| Setting::PeerTimer(address, timer)),
        ];
        inside.extend(settings.into_iter().flatten());
        for family in enabled {
            families.entry(*family).or_default().push(Setting::PeerEnable(address));
        }
    }
    let family = |(family, inside)| Section { inside, ..Section::of(vec![Setting::BgpFamily(family)]) };
    Section { inside, sections: families.into_iter().map(family).collect(), ..Section::of(vec![Setting::Bgp(*asn)]) }
}

fn session((id, session): (&SessionId, &Session)) -> Section {
    let monitor = |(monitor, modes): (&MonitorId, &BTreeSet<RouteMode>)| {
        let inside = modes.iter().copied().map(Setting::RouteMode).collect();
        Section { inside, ..Section::of(vec![Setting::Monitor(monitor.clone())]) }
    };
    Section {
        inside: session_settings(session),
        sections: session.monitors.iter().map(monitor).collect(),
        ..Section::of(vec![Setting::Session(id.clone())])
    }
}

fn session_settings(session: &Session) -> Vec<Setting> {
    // Every field by its name: one that is forgotten here would be lost when the file is written.
    let Session {
        transport,
        connect_interface,
        egress_interfaces,
        next_hop,
        hold_down,
        password,
        mss,
        dscp,
        keepalive,
        connect_retry,
        initial_delay,
        flap_damping,
        // A section of its own.
        monitors: _,
        route_mirroring,
        adopt,
        shutdown,
    } = session;
    let transport = transport.map(|transport| match transport {
        Transport::Connect(port) => Setting::TcpConnectPort { port, password: password.clone() },
        Transport::Listen(port) => Setting::TcpListenPort(port),
    });
    let egress = (!egress_interfaces.is_empty()).then(|| Setting::EgressInterface(egress_interfaces.clone()));
    let wait = |time: Duration| (!time.is_zero()).then_some(time);
    [
        transport,
        connect_interface.clone().map(Setting::ConnectInterface),
        egress,
        next_hop.map(Setting::NextHop),
        wait(*hold_down).map(Setting::HoldDown),
        mss.map(Setting::TcpMss),
        dscp.map(Setting::Dscp),
        keepalive.map(Setting::TcpKeepalive),
        connect_retry.map(Setting::ConnectRetry),
        wait(*initial_delay).map(Setting::InitialDelay),
        wait(*flap_damping).map(Setting::FlapDamping),
        route_mirroring.then_some(Setting::RouteMirroring),
        adopt.then_some(Setting::Adopt),
        shutdown.then_some(Setting::Shutdown),
    ]
    .into_iter()
    .flatten()
    .collect()
}
