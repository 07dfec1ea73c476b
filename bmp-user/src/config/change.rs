//! What a command does to a configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{
    Bgp, BgpPeer, Bmp, Config, Edit, Item, MonitorId, Pace, Relay, Replay, RouteMode, Secret, Session, SessionId,
    Setting, Transport, View, secret::Secrets,
};

/// Why `adopt` and `tcp listen` do not go together.
const ADOPTED_CONNECTS: &str = "only a session that another process of this device opens itself can be adopted";

/// Why `next-hop` and `tcp listen` do not go together: one listener serves many stations, and its answers go by the routing tables.
const ROUTED_CONNECTS: &str = "a next hop is for connections that this device opens";

/// Why a change is refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) message: String,
    /// The argument that is the wrong one, as many from the last; `None` where it is the first, or all of it.
    pub(super) from_last: Option<usize>,
}

impl From<String> for Refused {
    fn from(message: String) -> Self {
        Self { message, from_last: None }
    }
}

/// Makes the change in the view that knows it, and says which view one is in afterwards.
pub(super) fn change(config: &mut Config, view: &View, edit: &Edit) -> Result<View, Refused> {
    let views = edit.item().rule().views;
    let mut around = std::iter::successors(Some(view.clone()), View::parent);
    let Some(home) = around.find(|view| views.contains(&view.kind())) else {
        return Err(format!("this is not a command of the {} view", view.kind().name()).into());
    };
    let next = match edit {
        Edit::Set(setting) => set(config, &home, setting)?,
        Edit::Undo(setting) => undo(config, &home, setting.item(), Some(setting))?,
        Edit::UndoAny(item) => undo(config, &home, *item, None)?,
        Edit::UndoOfPeer(item, peer) => {
            undo_of_peer(bgp(config)?, &home, *item, *peer, None)?;
            None
        }
        Edit::UndoInterfaceAliases { kernel } => {
            config.interface_aliases.retain(|_, of| of != kernel);
            None
        }
    };
    Ok(next.unwrap_or(home))
}

/// Gives the view that the setting enters, if it enters one.
pub(super) fn set(config: &mut Config, home: &View, setting: &Setting) -> Result<Option<View>, String> {
    match setting {
        Setting::Sysname(name) => config.sysname = Some(name.clone()),
        Setting::InterfaceAlias { kernel, name } => {
            config.interface_aliases.insert(name.clone(), kernel.clone());
        }
        Setting::Bgp(asn) => {
            match &config.bgp {
                Some(bgp) if bgp.asn != *asn => {
                    return Err(format!("BGP is configured with AS {} already: `undo bgp` first", bgp.asn));
                }
                Some(_) => {}
                None => {
                    let bgp = Bgp { asn: *asn, router_id: None, listen_port: None, peers: BTreeMap::new() };
                    config.bgp = Some(bgp);
                }
            }
            return Ok(Some(View::Bgp));
        }
        Setting::RouterId(id) => bgp(config)?.router_id = Some(*id),
        Setting::ListenPort(port) => bgp(config)?.listen_port = Some(*port),
        Setting::PeerAsNumber(peer, asn) => bgp(config)?.peers.entry(*peer).or_default().asn = Some(*asn),
        Setting::PeerPort(peer, port) => peer_of(config, *peer)?.port = Some(*port),
        Setting::PeerPassword(peer, password) => peer_of(config, *peer)?.password = Some(password.clone()),
        Setting::PeerListenOnly(peer) => peer_of(config, *peer)?.listen_only = true,
        Setting::PeerConnectInterface(peer, connect) => {
            peer_of(config, *peer)?.connect_interface = Some(connect.clone());
        }
        Setting::PeerTimer(peer, timer) => peer_of(config, *peer)?.timer = Some(*timer),
        Setting::BgpFamily(family) => {
            bgp(config)?;
            return Ok(Some(View::BgpFamily(*family)));
        }
        Setting::PeerEnable(peer) => {
            let View::BgpFamily(family) = home else { return Err("this is a command of a family's view".to_owned()) };
            peer_of(config, *peer)?.families.insert(*family);
        }
        Setting::Allow(prefix) => {
            relay(config, home)?.allow.insert(*prefix);
        }
        Setting::RelayHold(time) => relay(config, home)?.hold = *time,
        Setting::EndOfRibAfter(time) => relay(config, home)?.end_of_rib_after = *time,
        Setting::MaxConnections(most) => relay(config, home)?.max_connections = Some(*most),
        Setting::Replay(name) => {
            no_other_input(config.relays.contains_key(name), name)?;
            config.replays.entry(name.clone()).or_default();
            return Ok(Some(View::Replay(name.clone())));
        }
        Setting::ReplayFile(path) => replay(config, home)?.file = Some(path.clone()),
        Setting::ReplayPace(pace) => replay(config, home)?.pace = *pace,
        Setting::ReplayLoop => replay(config, home)?.looped = true,
        Setting::StatisticsTimer(time) => enabled(config).statistics_timer = Some(*time),
        Setting::TcpMss(mss) => session(config, home)?.mss = Some(*mss),
        Setting::Dscp(dscp) => session(config, home)?.dscp = Some(*dscp),
        Setting::TcpKeepalive(time) => session(config, home)?.keepalive = Some(*time),
        Setting::ConnectRetry(retry) => session(config, home)?.connect_retry = Some(*retry),
        Setting::InitialDelay(time) => session(config, home)?.initial_delay = *time,
        Setting::FlapDamping(time) => session(config, home)?.flap_damping = *time,
        Setting::Monitor(monitor) => {
            let View::Session(id) = home else { return Err("this is a command of the bmp-session view".to_owned()) };
            session(config, home)?.monitors.entry(monitor.clone()).or_default();
            return Ok(Some(View::Monitor(id.clone(), monitor.clone())));
        }
        Setting::RouteMode(mode) => {
            monitor(config, home)?.insert(*mode);
        }
        Setting::RouteMirroring => session(config, home)?.route_mirroring = true,
        Setting::Relay(name) => {
            no_other_input(config.replays.contains_key(name), name)?;
            config.relays.entry(name.clone()).or_default();
            return Ok(Some(View::Relay(name.clone())));
        }
        Setting::Listen(listen) => {
            no_other_listens(config, home, *listen)?;
            relay(config, home)?.listen = Some(*listen);
        }
        Setting::Bmp => {
            config.bmp.enabled = true;
            return Ok(Some(View::Bmp));
        }
        Setting::BmpConnectInterface(address) => enabled(config).connect_interface = Some(*address),
        Setting::Persist => enabled(config).persist = true,
        Setting::Session(id) => {
            enabled(config);
            config.bmp.sessions.entry(id.clone()).or_default();
            return Ok(Some(View::Session(id.clone())));
        }
        Setting::TcpConnectPort { port, password } => {
            let transport = Transport::Connect(*port);
            no_other_has(config, home, transport)?;
            let session = session(config, home)?;
            session.transport = Some(transport);
            session.password.clone_from(password);
        }
        Setting::TcpListenPort(port) => {
            let transport = Transport::Listen(*port);
            no_other_has(config, home, transport)?;
            let session = session(config, home)?;
            if session.adopt {
                return Err(format!("the session is adopted, and {ADOPTED_CONNECTS}: `undo adopt` first"));
            }
            if session.next_hop.is_some() {
                return Err(format!("the session has `next-hop`, and {ROUTED_CONNECTS}: `undo next-hop` first"));
            }
            session.transport = Some(transport);
            session.password = None;
        }
        Setting::ConnectInterface(connect) => session(config, home)?.connect_interface = Some(connect.clone()),
        Setting::EgressInterface(names) => session(config, home)?.egress_interfaces.clone_from(names),
        Setting::NextHop(address) => {
            let session = session(config, home)?;
            if matches!(session.transport, Some(Transport::Listen(_))) {
                return Err(format!("the session has `tcp listen port`, but {ROUTED_CONNECTS}"));
            }
            session.next_hop = Some(*address);
        }
        Setting::HoldDown(time) => session(config, home)?.hold_down = *time,
        Setting::Adopt => {
            let session = session(config, home)?;
            if matches!(session.transport, Some(Transport::Listen(_))) {
                return Err(format!("the session has `tcp listen port`, but {ADOPTED_CONNECTS}"));
            }
            session.adopt = true;
        }
        Setting::Shutdown => session(config, home)?.shutdown = true,
    }
    Ok(None)
}

/// `exactly` is `None` where `undo` came without arguments.
fn undo(config: &mut Config, home: &View, item: Item, exactly: Option<&Setting>) -> Result<Option<View>, Refused> {
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
        Item::Bgp => {
            clear(&mut config.bgp.as_ref().map(|bgp| bgp.asn), Setting::Bgp, exactly)?;
            config.bgp = None;
        }
        Item::RouterId => clear(&mut bgp(config)?.router_id, Setting::RouterId, exactly)?,
        Item::ListenPort => clear(&mut bgp(config)?.listen_port, Setting::ListenPort, exactly)?,
        Item::PeerAsNumber
        | Item::PeerPort
        | Item::PeerPassword
        | Item::PeerListenOnly
        | Item::PeerConnectInterface
        | Item::PeerTimer
        | Item::PeerEnable => {
            if let Some(peer) = exactly.and_then(Setting::peer) {
                undo_of_peer(bgp(config)?, home, item, peer, exactly)?;
            }
        }
        Item::BgpFamily => {
            if let Some(Setting::BgpFamily(family)) = exactly {
                for peer in bgp(config)?.peers.values_mut() {
                    peer.families.remove(family);
                }
            }
        }
        Item::Allow => {
            if let Some(Setting::Allow(prefix)) = exactly {
                relay(config, home)?.allow.remove(prefix);
            }
        }
        Item::RelayHold => clear_time(&mut relay(config, home)?.hold, Setting::RelayHold, exactly)?,
        Item::EndOfRibAfter => {
            clear_time(&mut relay(config, home)?.end_of_rib_after, Setting::EndOfRibAfter, exactly)?;
        }
        Item::MaxConnections => clear(&mut relay(config, home)?.max_connections, Setting::MaxConnections, exactly)?,
        Item::Replay => {
            if let Some(Setting::Replay(name)) = exactly {
                config.replays.remove(name);
            }
        }
        Item::ReplayFile => clear(&mut replay(config, home)?.file, Setting::ReplayFile, exactly)?,
        Item::ReplayPace => {
            let pace = &mut replay(config, home)?.pace;
            clear(&mut (*pace != Pace::default()).then_some(*pace), Setting::ReplayPace, exactly)?;
            *pace = Pace::default();
        }
        Item::ReplayLoop => replay(config, home)?.looped = false,
        Item::StatisticsTimer => clear(&mut config.bmp.statistics_timer, Setting::StatisticsTimer, exactly)?,
        Item::TcpMss => clear(&mut session(config, home)?.mss, Setting::TcpMss, exactly)?,
        Item::Dscp => clear(&mut session(config, home)?.dscp, Setting::Dscp, exactly)?,
        Item::TcpKeepalive => clear(&mut session(config, home)?.keepalive, Setting::TcpKeepalive, exactly)?,
        Item::ConnectRetry => clear(&mut session(config, home)?.connect_retry, Setting::ConnectRetry, exactly)?,
        Item::InitialDelay => clear_time(&mut session(config, home)?.initial_delay, Setting::InitialDelay, exactly)?,
        Item::FlapDamping => clear_time(&mut session(config, home)?.flap_damping, Setting::FlapDamping, exactly)?,
        Item::Monitor => {
            if let Some(Setting::Monitor(monitor)) = exactly {
                session(config, home)?.monitors.remove(monitor);
            }
        }
        Item::RouteMode => {
            if let Some(Setting::RouteMode(mode)) = exactly {
                monitor(config, home)?.remove(mode);
            }
        }
        Item::RouteMirroring => session(config, home)?.route_mirroring = false,
        Item::Relay => {
            if let Some(Setting::Relay(name)) = exactly {
                config.relays.remove(name);
            }
        }
        Item::Listen => clear(&mut relay(config, home)?.listen, Setting::Listen, exactly)?,
        Item::Bmp => config.bmp = Bmp::default(),
        Item::Persist => config.bmp.persist = false,
        Item::BmpConnectInterface => {
            clear(&mut config.bmp.connect_interface, Setting::BmpConnectInterface, exactly)?;
        }
        Item::Session => {
            if let Some(Setting::Session(id)) = exactly {
                config.bmp.sessions.remove(id);
            }
        }
        Item::TcpConnectPort | Item::TcpListenPort => {
            let session = session(config, home)?;
            let configured = session.transport.map(|transport| setting_of(transport, &session.password));
            if configured.as_ref().is_some_and(|configured| configured.item() == item) {
                // The secret need not be said to take the port back.
                let named = match exactly {
                    Some(Setting::TcpConnectPort { port, password: None }) => {
                        Some(Setting::TcpConnectPort { port: *port, password: session.password.clone() })
                    }
                    other => other.cloned(),
                };
                clear(&mut configured.clone(), |configured| configured, named.as_ref())?;
                (session.transport, session.password) = (None, None);
            }
        }
        Item::ConnectInterface => {
            clear(&mut session(config, home)?.connect_interface, Setting::ConnectInterface, exactly)?;
        }
        Item::EgressInterface => {
            let names = &mut session(config, home)?.egress_interfaces;
            clear(&mut (!names.is_empty()).then(|| names.clone()), Setting::EgressInterface, exactly)?;
            names.clear();
        }
        Item::NextHop => clear(&mut session(config, home)?.next_hop, Setting::NextHop, exactly)?,
        Item::HoldDown => clear_time(&mut session(config, home)?.hold_down, Setting::HoldDown, exactly)?,
        Item::Adopt => session(config, home)?.adopt = false,
        Item::Shutdown => session(config, home)?.shutdown = false,
    }
    Ok(None)
}

/// Empties the slot, unless it holds something else than what is to be taken back. Nothing may be taken back from nothing.
fn clear<T: Clone>(slot: &mut Option<T>, of: impl Fn(T) -> Setting, exactly: Option<&Setting>) -> Result<(), Refused> {
    if let (Some(value), Some(exactly)) = (slot.as_ref(), exactly) {
        let configured = of(value.clone());
        if configured != *exactly {
            let (have, said) = (configured.args(Secrets::Written), exactly.args(Secrets::Written));
            let differs = said.iter().enumerate().position(|(at, argument)| have.get(at) != Some(argument));
            return Err(Refused {
                message: format!("this is not what is configured, which is `{}`", configured.line()),
                // An interface may have been said in two words, so that what comes after it is counted from the end.
                from_last: differs.filter(|at| *at > 0).map(|at| said.len() - 1 - at),
            });
        }
    }
    *slot = None;
    Ok(())
}

/// The same for a time that is zero where nothing is configured.
fn clear_time(time: &mut Duration, of: impl Fn(Duration) -> Setting, exactly: Option<&Setting>) -> Result<(), Refused> {
    clear(&mut (!time.is_zero()).then_some(*time), of, exactly)?;
    *time = Duration::ZERO;
    Ok(())
}

/// What one item says of a peer is taken back; without an AS number there is no peer.
fn undo_of_peer(
    bgp: &mut Bgp,
    home: &View,
    item: Item,
    address: IpAddr,
    exactly: Option<&Setting>,
) -> Result<(), Refused> {
    let Some(peer) = bgp.peers.get_mut(&address) else { return Ok(()) };
    match item {
        Item::PeerAsNumber => {
            clear(&mut peer.asn, |asn| Setting::PeerAsNumber(address, asn), exactly)?;
            bgp.peers.remove(&address);
        }
        Item::PeerPort => clear(&mut peer.port, |port| Setting::PeerPort(address, port), exactly)?,
        Item::PeerPassword => {
            clear(&mut peer.password, |password| Setting::PeerPassword(address, password), exactly)?;
        }
        Item::PeerListenOnly => peer.listen_only = false,
        Item::PeerConnectInterface => {
            let of = |connect| Setting::PeerConnectInterface(address, connect);
            clear(&mut peer.connect_interface, of, exactly)?;
        }
        Item::PeerTimer => clear(&mut peer.timer, |timer| Setting::PeerTimer(address, timer), exactly)?,
        Item::PeerEnable => {
            if let View::BgpFamily(family) = home {
                peer.families.remove(family);
            }
        }
        _ => {}
    }
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

fn replay<'a>(config: &'a mut Config, home: &View) -> Result<&'a mut Replay, String> {
    match home {
        View::Replay(name) => held(&mut config.replays, name),
        _ => Err("this is a command of the mrt-replay view".to_owned()),
    }
}

fn monitor<'a>(config: &'a mut Config, home: &View) -> Result<&'a mut BTreeSet<RouteMode>, String> {
    let modes = |monitors: &'a mut BTreeMap<MonitorId, _>, monitor| held(monitors, monitor);
    match home {
        View::Monitor(id, monitor) => modes(&mut held(&mut config.bmp.sessions, id)?.monitors, monitor),
        _ => Err("this is a command of the monitor view".to_owned()),
    }
}

fn bgp(config: &mut Config) -> Result<&mut Bgp, String> {
    config.bgp.as_mut().ok_or_else(|| "BGP is not configured any more: enter the bgp view again".to_owned())
}

fn peer_of(config: &mut Config, address: IpAddr) -> Result<&mut BgpPeer, String> {
    let missing = || format!("there is no peer {address}: say its AS first, `peer {address} as-number N`");
    bgp(config)?.peers.get_mut(&address).ok_or_else(missing)
}

/// Stations are told peers by their input, so that no two may have one name.
fn no_other_input(taken: bool, name: &str) -> Result<(), String> {
    if taken { Err(format!("another input has the name {name} already")) } else { Ok(()) }
}

/// Two sessions of one VPN instance that connect to one station and port could not be told apart on the wire or in the kernel;
/// nor could two that wait on one port for one station.
fn no_other_has(config: &Config, home: &View, transport: Transport) -> Result<(), String> {
    let View::Session(own) = home else { return Ok(()) };
    // In the order of the sessions, those to one station of one instance follow one another.
    let first = SessionId { alias: None, ..own.clone() };
    let mut same_station = config
        .bmp
        .sessions
        .range(first..)
        .take_while(|(id, _)| id.station == own.station && id.vpn_instance == own.vpn_instance);
    let Some((other, _)) = same_station.find(|(id, session)| *id != own && session.transport == Some(transport)) else {
        return Ok(());
    };
    Err(match transport {
        Transport::Connect(port) => format!("the session {other} connects to port {port} of this station already"),
        Transport::Listen(port) => format!("the session {other} listens on port {port} for this station already"),
    })
}

fn setting_of(transport: Transport, password: &Option<Secret>) -> Setting {
    match transport {
        Transport::Connect(port) => Setting::TcpConnectPort { port, password: password.clone() },
        Transport::Listen(port) => Setting::TcpListenPort(port),
    }
}

/// The bmp view, which is there from now on.
fn enabled(config: &mut Config) -> &mut Bmp {
    config.bmp.enabled = true;
    &mut config.bmp
}

/// Two inputs on one address and port: the second could not be opened.
fn no_other_listens(config: &Config, home: &View, listen: std::net::SocketAddr) -> Result<(), String> {
    let View::Relay(own) = home else { return Ok(()) };
    match config.relays.iter().find(|(name, relay)| *name != own && relay.listen == Some(listen)) {
        Some((other, _)) => Err(format!("the input {other} listens on {listen} already")),
        None => Ok(()),
    }
}
