//! The configuration as a value: what is in a file, and what every module compares with the value before.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use super::language::secret::Secret;
use crate::wire::{bgp::Family, bmp::RibView};

/// A whole configuration. Two that are equal ask for the same thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `sysname`: what the device calls itself in prompts and in the Initiation message; the host's name if absent.
    pub sysname: Option<String>,
    /// `interface-alias KERNEL-NAME NAME`: from the name given here to the kernel's.
    pub interface_aliases: BTreeMap<String, String>,
    /// `bgp AS-NUMBER`.
    pub bgp: Option<Bgp>,
    /// `bmp-relay NAME`.
    pub relays: BTreeMap<String, Relay>,
    /// `mrt-replay NAME`.
    pub replays: BTreeMap<String, Replay>,
    /// The `bmp` view.
    pub bmp: Bmp,
}

/// The `bgp AS-NUMBER` view: an input that takes routes over BGP and says nothing itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bgp {
    /// The AS number of this device.
    pub asn: u32,
    /// `router-id ADDR`.
    pub router_id: Option<Ipv4Addr>,
    /// `listen-port N`: where peers connect to; none without it.
    pub listen_port: Option<u16>,
    /// `peer ADDR ...`.
    pub peers: BTreeMap<IpAddr, BgpPeer>,
}

/// What is configured of a BGP peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BgpPeer {
    /// `as-number N`: without it the peer is not spoken to.
    pub asn: Option<u32>,
    /// `port N`: the peer's; 179 if absent.
    pub port: Option<u16>,
    /// `password TEXT`: TCP MD5 (RFC 2385).
    pub password: Option<Secret>,
    /// `listen-only`: the peer connects, this device does not.
    pub listen_only: bool,
    /// `connect-interface ...`.
    pub connect_interface: Option<ConnectInterface>,
    /// `timer keepalive K hold H`; see [`BgpPeer::TIMER`].
    pub timer: Option<BgpTimer>,
    /// `peer ADDR enable` in the views of families.
    pub families: BTreeSet<Family>,
}

/// `timer keepalive K hold H`, in seconds; both zero: neither keepalives nor an end without them (RFC 4271 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BgpTimer {
    /// Seconds between keepalives.
    pub keepalive: u16,
    /// Seconds without any message after which the peer is gone.
    pub hold: u16,
}

impl BgpPeer {
    /// What is so without `port` (RFC 4271 §8.2.1).
    pub const PORT: u16 = 179;
    /// What is so without `timer`.
    pub const TIMER: BgpTimer = BgpTimer { keepalive: 60, hold: 180 };
}

/// A `bmp-relay NAME` view: an input that takes BMP from a local daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relay {
    /// `listen ADDR port N`.
    pub listen: Option<SocketAddr>,
    /// `allow PREFIX ...`: who may connect; only this host if empty.
    pub allow: BTreeSet<Prefix>,
    /// `hold SECONDS`: how long the peers of a daemon that went away stay up.
    pub hold: Duration,
    /// `end-of-rib-after SECONDS`: how long a RIB without End-of-RIB is quiet before it is taken to be complete; zero is never.
    pub end_of_rib_after: Duration,
    /// `max-connections NUMBER per-source NUMBER`.
    pub max_connections: Option<MaxConnections>,
}

impl Relay {
    /// What is so without `max-connections`.
    pub const MAX_CONNECTIONS: MaxConnections = MaxConnections { total: 256, per_source: Some(32) };
}

/// How many connections a relay has at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxConnections {
    /// In all.
    pub total: u32,
    /// Of one source; see [`crate::visitors`].
    pub per_source: Option<u32>,
}

/// An IP prefix without bits behind its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// The address, its bits behind the length zero.
    pub address: IpAddr,
    /// Length in bits.
    pub length: u8,
}

impl Prefix {
    /// `None` if the length is too much for the address, or bits are set behind it.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let (bits, width) = bits_of(address);
        let whole = length <= width && (length == width || (bits << (128 - u32::from(width)) << length) == 0);
        whole.then_some(Self { address, length })
    }

    /// Whether an address is in it. An IPv4 address that is written as IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let ((own, width), (other, its)) = (bits_of(self.address), bits_of(address.to_canonical()));
        width == its && (self.length == 0 || (own ^ other) >> (width - self.length) == 0)
    }
}

fn bits_of(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

/// `192.0.2.0/24`.
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// A `mrt-replay NAME` view: an input that takes routes from a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// `file PATH`.
    pub file: Option<PathBuf>,
    /// `pace ...`.
    pub pace: Pace,
    /// `loop`: begin again at the end.
    pub looped: bool,
}

/// `pace ...`: how fast a file is replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// `recorded`: as it was recorded.
    #[default]
    Recorded,
    /// `maximum`: as fast as it can be read.
    Maximum,
    /// `N updates-per-second`.
    UpdatesPerSecond(NonZeroU32),
}

/// The `bmp` view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bmp {
    /// `bmp` was given: the view is there, even with nothing in it. What is in it counts in any case.
    pub enabled: bool,
    /// `connect-interface ADDR`: the source of every IPv4 session that names none of its own.
    pub connect_interface: Option<Ipv4Addr>,
    /// `statistics-timer SECONDS`: how often BGP peers are reported on; zero is never. See [`Bmp::STATISTICS_TIMER`].
    pub statistics_timer: Option<Duration>,
    /// `persist`: what the kernel enforces stays when bmpd is told to end.
    pub persist: bool,
    /// `bmp-session ...`.
    pub sessions: BTreeMap<SessionId, Session>,
}

impl Bmp {
    /// What is so without `statistics-timer`.
    pub const STATISTICS_TIMER: Duration = Duration::from_secs(3600);
}

/// What tells one `bmp-session` of the configuration from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// `vpn-instance NAME`; `None` is the public instance.
    pub vpn_instance: Option<String>,
    /// The station's address.
    pub station: IpAddr,
    /// `alias NAME`: tells sessions to one station from each other.
    pub alias: Option<String>,
}

/// As in a prompt and in logs: `198.51.100.8`, `198.51.100.8-lab`, `mgmt-198.51.100.8-lab` in the VPN instance `mgmt`.
impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(vpn_instance) = &self.vpn_instance {
            write!(f, "{vpn_instance}-")?;
        }
        write!(f, "{}", self.station)?;
        if let Some(alias) = &self.alias {
            write!(f, "-{alias}")?;
        }
        Ok(())
    }
}

/// A `bmp-session` view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// `tcp connect port N` or `tcp listen port N`.
    pub transport: Option<Transport>,
    /// `connect-interface ...`.
    pub connect_interface: Option<ConnectInterface>,
    /// `egress-interface NAME ...`, at most 8, in the order given: what the session may leave by, whatever its source.
    pub egress_interfaces: Vec<String>,
    /// `next-hop ADDR`: the router that the session's packets are sent to, whatever the routing tables say.
    pub next_hop: Option<IpAddr>,
    /// `hold-down MILLISECONDS`: how long the session outlives the loss of its interface.
    pub hold_down: Duration,
    /// `password md5 TEXT` behind `tcp connect port N`: TCP MD5 (RFC 2385).
    pub password: Option<Secret>,
    /// `tcp mss N`: the longest segment that the station is sent, in bytes.
    pub mss: Option<u16>,
    /// `dscp N`: of the session's packets (RFC 2474).
    pub dscp: Option<u8>,
    /// `keepalive SECONDS`: how long the connection is silent before TCP asks whether the station is there; zero is never.
    pub keepalive: Option<Duration>,
    /// `connect-retry MIN MAX`: between which waits attempts to connect are spread.
    pub connect_retry: Option<ConnectRetry>,
    /// `initial-delay SECONDS`: how long the first attempt to connect waits.
    pub initial_delay: Duration,
    /// `flap-damping SECONDS`: how long an attempt to connect waits at least after a connection was lost.
    pub flap_damping: Duration,
    /// `monitor ...`: what the station is told, with the RIBs of `route-mode`; all of them where there are none. Everything without any.
    pub monitors: BTreeMap<MonitorId, BTreeSet<RouteMode>>,
    /// `route-mirroring`: mirrored messages too where there are monitors.
    pub route_mirroring: bool,
    /// `adopt`: another local process opens the session; it is only pinned and counted.
    pub adopt: bool,
    /// `shutdown`.
    pub shutdown: bool,
}

/// `connect-retry MIN MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectRetry {
    /// The first wait.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
}

/// `monitor ...`: which peers the station is told of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MonitorId {
    /// `public`: those of no VPN instance.
    Public,
    /// `all-vpn-instance`: those of every VPN instance.
    AllVpnInstances,
    /// `vpn-instance NAME`: by table name or route distinguisher.
    VpnInstance(String),
    /// `[ vpn-instance NAME ] peer ADDR`.
    Peer {
        /// In this VPN instance; in none if absent.
        vpn_instance: Option<String>,
        /// The peer's address.
        address: IpAddr,
    },
    /// `relay NAME`: those of one relay.
    Relay(String),
    /// `mrt-replay NAME`: those of one file.
    Replay(String),
    /// `bgp`: those of the `bgp` view.
    Bgp,
}

/// As in the command, and in a prompt with `-` for blanks.
impl fmt::Display for MonitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::AllVpnInstances => f.write_str("all-vpn-instance"),
            Self::VpnInstance(name) => write!(f, "vpn-instance {name}"),
            Self::Peer { vpn_instance: None, address } => write!(f, "peer {address}"),
            Self::Peer { vpn_instance: Some(name), address } => write!(f, "vpn-instance {name} peer {address}"),
            Self::Relay(name) => write!(f, "relay {name}"),
            Self::Replay(name) => write!(f, "mrt-replay {name}"),
            Self::Bgp => f.write_str("bgp"),
        }
    }
}

/// `route-mode FAMILY RIB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteMode {
    /// `ipv4-family unicast`.
    pub family: Family,
    /// `adj-rib-in pre-policy`.
    pub view: RibView,
}

/// Who opens the connection, and the port that it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `tcp connect port N`: this device, to the station's port.
    Connect(u16),
    /// `tcp listen port N`: the station, to this device's port.
    Listen(u16),
}

impl Session {
    /// What is so without `connect-retry`.
    pub const CONNECT_RETRY: ConnectRetry =
        ConnectRetry { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
    /// What is so without `keepalive`.
    pub const KEEPALIVE: Duration = Duration::from_secs(30);

    /// The port that is connected to: the station's, or this device's where the station connects.
    pub fn port(&self) -> Option<u16> {
        self.transport.map(|(Transport::Connect(port) | Transport::Listen(port))| port)
    }
}

/// `connect-interface` of a session view. Interface names are as the operator gave them (type and number already joined):
/// which interface they name is decided by what the host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectInterface {
    /// The source address alone.
    Address(IpAddr),
    /// The source interface alone: the address is one of its own.
    Interface(String),
    /// Both.
    Both {
        /// The source interface.
        interface: String,
        /// The source address.
        address: IpAddr,
    },
}

impl ConnectInterface {
    /// The interface, if one is named.
    pub fn interface(&self) -> Option<&str> {
        match self {
            Self::Address(_) => None,
            Self::Interface(interface) | Self::Both { interface, .. } => Some(interface),
        }
    }

    /// The address, if one is named.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Interface(_) => None,
            Self::Address(address) | Self::Both { address, .. } => Some(*address),
        }
    }
}
