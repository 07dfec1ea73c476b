//! What the configuration asks of each pin.

use std::{collections::BTreeMap, fmt, net::IpAddr, time::Duration};

use crate::{
    config::{BgpPeerConfig, Config, ConnectInterface, SessionConfig, SessionId, Transport, effective},
    pin::kernel::Role,
};

/// Whose connections a pin is for.
///
/// A BGP peer has two pins, because each direction is another key of the kernel tables: one for the
/// connections that bmpd opens, one for those that the peer opens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pinned {
    /// A `bmp-session`.
    Session(SessionId),
    /// A `peer` of the bgp view.
    BgpPeer(IpAddr, Role),
}

impl Pinned {
    /// Returns the address of the station or the peer.
    pub fn far(&self) -> IpAddr {
        match self {
            Self::Session(id) => id.station,
            Self::BgpPeer(address, _) => *address,
        }
    }

    /// Returns the VPN instance; `None` is the public one.
    pub fn vpn_instance(&self) -> Option<&str> {
        match self {
            Self::Session(id) => id.vpn_instance.as_deref(),
            Self::BgpPeer(..) => None,
        }
    }

    /// Returns the other pin of the same BGP peer. Both must have the same source.
    pub(in crate::pin) fn twin(&self) -> Option<Self> {
        match self {
            Self::Session(_) => None,
            Self::BgpPeer(address, Role::Connect) => Some(Self::BgpPeer(*address, Role::Listen)),
            Self::BgpPeer(address, Role::Listen) => Some(Self::BgpPeer(*address, Role::Connect)),
        }
    }
}

/// As the log names it: `session 198.51.100.7`, `BGP peer 10.7.0.2`.
impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(id) => write!(f, "session {id}"),
            Self::BgpPeer(address, Role::Connect) => write!(f, "BGP peer {address}"),
            Self::BgpPeer(address, Role::Listen) => write!(f, "BGP peer {address}, where it connects"),
        }
    }
}

/// The settings that decide about a pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::pin) struct PinSettings {
    pub(in crate::pin) connect: Option<ConnectInterface>,
    pub(in crate::pin) transport: Option<Transport>,
    pub(in crate::pin) egress_interfaces: Vec<String>,
    pub(in crate::pin) next_hop: Option<IpAddr>,
    pub(in crate::pin) shutdown: bool,
    /// True if the pin holds bmpd's own sockets alone. Another daemon of this host may have BGP
    /// sessions of its own with the same peers. Its BMP sessions to the same stations are pinned.
    pub(in crate::pin) own_only: bool,
    /// The `bmp-session` with the address and port of this BGP peer: its pin has the connections.
    pub(in crate::pin) taken_by: Option<SessionId>,
    /// The `interface-alias` lines for the interfaces above.
    pub(in crate::pin) aliases: BTreeMap<String, String>,
}

/// What the configuration asks of one pin.
pub(in crate::pin) struct PinDemand {
    pub(in crate::pin) settings: PinSettings,
    /// `hold-down`.
    pub(in crate::pin) hold_down: Duration,
    /// `adopt`.
    pub(in crate::pin) adopted: bool,
}

/// Returns what a configuration asks of every pin that it needs.
pub(in crate::pin) fn demands(config: &Config) -> BTreeMap<Pinned, PinDemand> {
    let sessions = config
        .bmp
        .sessions
        .iter()
        .map(|(id, session)| (Pinned::Session(id.clone()), session_demand(config, id, session)));
    let peers = config.bgp.iter().flat_map(|bgp| {
        bgp.peers.iter().flat_map(|(address, peer)| {
            let port = Transport::Connect(peer.port.unwrap_or(BgpPeerConfig::PORT));
            let connects = (!peer.listen_only).then_some((Role::Connect, port));
            let listens = bgp.listen_port.map(|port| (Role::Listen, Transport::Listen(port)));
            connects.into_iter().chain(listens).map(|(role, transport)| {
                (Pinned::BgpPeer(*address, role), peer_demand(config, *address, peer, transport))
            })
        })
    });
    sessions.chain(peers).collect()
}

fn session_demand(config: &Config, id: &SessionId, session: &SessionConfig) -> PinDemand {
    let connect = effective(&config.bmp, id, session).connect;
    let named = connect.as_ref().and_then(ConnectInterface::interface).into_iter();
    let names = named.chain(session.egress_interfaces.iter().map(String::as_str));
    let settings = PinSettings {
        aliases: aliases_of(config, names),
        connect,
        transport: session.transport,
        egress_interfaces: session.egress_interfaces.clone(),
        next_hop: session.next_hop,
        shutdown: session.shutdown,
        own_only: false,
        taken_by: None,
    };
    PinDemand { settings, hold_down: session.hold_down, adopted: session.adopt }
}

fn peer_demand(config: &Config, address: IpAddr, peer: &BgpPeerConfig, transport: Transport) -> PinDemand {
    let same = |(id, session): &(&SessionId, &SessionConfig)| {
        id.vpn_instance.is_none() && id.station == address && session.transport == Some(transport)
    };
    let settings = PinSettings {
        connect: peer.connect_interface.clone(),
        transport: Some(transport),
        egress_interfaces: Vec::new(),
        next_hop: None,
        shutdown: false,
        own_only: true,
        taken_by: config.bmp.sessions.iter().find(same).map(|(id, _)| id.clone()),
        aliases: aliases_of(config, peer.connect_interface.as_ref().and_then(ConnectInterface::interface).into_iter()),
    };
    PinDemand { settings, hold_down: Duration::ZERO, adopted: false }
}

fn aliases_of<'a>(config: &Config, names: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    let alias = |name: &str| Some((name.to_owned(), config.interface_aliases.get(name)?.clone()));
    names.filter_map(alias).collect()
}
