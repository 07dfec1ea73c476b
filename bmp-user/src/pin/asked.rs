//! Whose connections are pinned, and what of the configuration decides about them.

use std::{collections::BTreeMap, fmt, net::IpAddr, time::Duration};

use super::Role;
use crate::config::{BgpPeer, Config, ConnectInterface, Session, SessionId, Transport, effective};

/// Whose connections a pin is for. Of a BGP peer those that each end opens have a pin of their own, as each is another key of the kernel tables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pinned {
    /// A `bmp-session`.
    Session(SessionId),
    /// A `peer` of the bgp view.
    BgpPeer(IpAddr, Role),
}

impl Pinned {
    /// The address of the far end.
    pub fn far(&self) -> IpAddr {
        match self {
            Self::Session(id) => id.station,
            Self::BgpPeer(address, _) => *address,
        }
    }

    /// The VPN instance; `None` is the public one.
    pub fn vpn_instance(&self) -> Option<&str> {
        match self {
            Self::Session(id) => id.vpn_instance.as_deref(),
            Self::BgpPeer(..) => None,
        }
    }

    /// The other pin of the same BGP peer: both come from one address.
    pub(super) fn twin(&self) -> Option<Self> {
        match self {
            Self::Session(_) => None,
            Self::BgpPeer(address, Role::Connect) => Some(Self::BgpPeer(*address, Role::Listen)),
            Self::BgpPeer(address, Role::Listen) => Some(Self::BgpPeer(*address, Role::Connect)),
        }
    }
}

/// For the log: `session 198.51.100.7`, `BGP peer 10.7.0.2`.
impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(id) => write!(f, "session {id}"),
            Self::BgpPeer(address, Role::Connect) => write!(f, "BGP peer {address}"),
            Self::BgpPeer(address, Role::Listen) => write!(f, "BGP peer {address}, where it connects"),
        }
    }
}

/// What of the configuration decides about a pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) connect: Option<ConnectInterface>,
    pub(super) transport: Option<Transport>,
    pub(super) egress_interfaces: Vec<String>,
    pub(super) next_hop: Option<IpAddr>,
    pub(super) shutdown: bool,
    /// Whether the pin is for bmpd's own sockets alone. A daemon beside bmpd has BGP sessions of its own with the same peers, which are none of
    /// bmpd's business; its BMP sessions with the same stations are.
    pub(super) own_only: bool,
    /// The session that has the connections already which a BGP peer's pin would be for.
    pub(super) taken: Option<SessionId>,
    /// What the names among these stand for, where they are `interface-alias` names.
    pub(super) aliases: BTreeMap<String, String>,
}

/// What is asked of one pin, and how it is kept.
pub(super) struct Demand {
    pub(super) asked: Asked,
    /// `hold-down`.
    pub(super) hold_down: Duration,
    /// `adopt`.
    pub(super) adopted: bool,
}

/// What a configuration asks of every pin that it needs.
pub(super) fn demands(config: &Config) -> BTreeMap<Pinned, Demand> {
    let sessions =
        config.bmp.sessions.iter().map(|(id, session)| (Pinned::Session(id.clone()), of_session(config, id, session)));
    let peers = config.bgp.iter().flat_map(|bgp| {
        bgp.peers.iter().flat_map(|(address, peer)| {
            let port = Transport::Connect(peer.port.unwrap_or(BgpPeer::PORT));
            let connects = (!peer.listen_only).then_some((Role::Connect, port));
            let listens = bgp.listen_port.map(|port| (Role::Listen, Transport::Listen(port)));
            connects
                .into_iter()
                .chain(listens)
                .map(|(role, transport)| (Pinned::BgpPeer(*address, role), of_peer(config, *address, peer, transport)))
        })
    });
    sessions.chain(peers).collect()
}

fn of_session(config: &Config, id: &SessionId, session: &Session) -> Demand {
    let connect = effective(&config.bmp, id, session).connect;
    let named = connect.as_ref().and_then(ConnectInterface::interface).into_iter();
    let names = named.chain(session.egress_interfaces.iter().map(String::as_str));
    let asked = Asked {
        aliases: aliases_of(config, names),
        connect,
        transport: session.transport,
        egress_interfaces: session.egress_interfaces.clone(),
        next_hop: session.next_hop,
        shutdown: session.shutdown,
        own_only: false,
        taken: None,
    };
    Demand { asked, hold_down: session.hold_down, adopted: session.adopt }
}

fn of_peer(config: &Config, address: IpAddr, peer: &BgpPeer, transport: Transport) -> Demand {
    let same = |(id, session): &(&SessionId, &Session)| {
        id.vpn_instance.is_none() && id.station == address && session.transport == Some(transport)
    };
    let asked = Asked {
        connect: peer.connect_interface.clone(),
        transport: Some(transport),
        egress_interfaces: Vec::new(),
        next_hop: None,
        shutdown: false,
        own_only: true,
        taken: config.bmp.sessions.iter().find(same).map(|(id, _)| id.clone()),
        aliases: aliases_of(config, peer.connect_interface.as_ref().and_then(ConnectInterface::interface).into_iter()),
    };
    Demand { asked, hold_down: Duration::ZERO, adopted: false }
}

fn aliases_of<'a>(config: &Config, names: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    let alias = |name: &str| Some((name.to_owned(), config.interface_aliases.get(name)?.clone()));
    names.filter_map(alias).collect()
}
