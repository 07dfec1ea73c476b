//! What a command does to a configuration.

use std::{collections::BTreeMap, time::Duration};

use super::{Bmp, Config, Edit, Item, Relay, Session, SessionId, Setting, Transport, View};

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
        Setting::Relay(name) => {
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
        Setting::TcpConnectPort(port) => {
            let transport = Transport::Connect(*port);
            no_other_has(config, home, transport)?;
            session(config, home)?.transport = Some(transport);
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
            if session.transport.is_some_and(|transport| setting_of(transport).item() == item) {
                clear(&mut session.transport, setting_of, exactly)?;
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
        Item::HoldDown => {
            let time = &mut session(config, home)?.hold_down;
            clear(&mut (!time.is_zero()).then_some(*time), Setting::HoldDown, exactly)?;
            *time = Duration::ZERO;
        }
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
            let (have, said) = (configured.args(), exactly.args());
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

fn setting_of(transport: Transport) -> Setting {
    match transport {
        Transport::Connect(port) => Setting::TcpConnectPort(port),
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
