//! The configuration as a value. Every module compares it with the value it had before.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use super::{
    keychain::KeychainConfig,
    language::secret::Secret,
    prefix::Prefix,
    refresh::InitialRefresh,
    route_filter::{PrefixEntry, PrefixIndex, RouteFilterConfig},
    tls::TlsProfileConfig,
};
use crate::wire::{bgp::Family, bmp::RibView};

/// Bytes of a megabyte, as `memory.max` of a cgroup and `MemoryMax` of a unit count.
pub const MEGABYTE: usize = 1024 * 1024;

/// A whole configuration. Equal configurations ask for the same thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `sysname`: the name of this device in prompts and in the Initiation message. Without it, the
    /// host's name.
    pub sysname: Option<String>,
    /// `interface-alias KERNEL-NAME NAME`: the kernel's name of each further name.
    pub interface_aliases: BTreeMap<String, String>,
    /// `memory-limit MB`: how much memory the feed may take, in units of [`MEGABYTE`].
    pub memory_limit: Option<u32>,
    /// `http listen ADDRESS port N [ vpn-instance NAME ]`.
    pub http_listen: Option<HttpListen>,
    /// `http peer-metrics`: metrics have series for each peer.
    pub http_peer_metrics: bool,
    /// `keychain NAME`.
    pub keychains: BTreeMap<String, KeychainConfig>,
    /// `tls profile NAME`.
    pub tls_profiles: BTreeMap<String, TlsProfileConfig>,
    /// `ip-prefix NAME index N ...`: the entries of all lists of prefixes.
    pub prefix_lists: BTreeMap<PrefixIndex, PrefixEntry>,
    /// `route-filter NAME`.
    pub route_filters: BTreeMap<String, RouteFilterConfig>,
    /// `bgp AS-NUMBER`.
    pub bgp: Option<BgpConfig>,
    /// `bmp-relay NAME`.
    pub relays: BTreeMap<String, RelayConfig>,
    /// `mrt-replay NAME`.
    pub replays: BTreeMap<String, ReplayConfig>,
    /// The `bmp` view.
    pub bmp: BmpConfig,
}

impl Config {
    /// Returns `memory-limit` in bytes.
    pub fn memory_limit_bytes(&self) -> Option<usize> {
        self.memory_limit.map(|megabytes| usize::try_from(megabytes).unwrap_or(usize::MAX).saturating_mul(MEGABYTE))
    }
}

/// Where the HTTP server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpListen {
    /// The address and port.
    pub address: SocketAddr,
    /// `vpn-instance NAME`; `None` is the public instance.
    pub vpn_instance: Option<String>,
}

/// `127.0.0.1 port 9179`, with `in vpn-instance mgmt` behind it.
impl fmt::Display for HttpListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, vpn_instance } = self;
        write!(f, "{} port {}", address.ip(), address.port())?;
        vpn_instance.as_ref().map_or(Ok(()), |name| write!(f, " in vpn-instance {name}"))
    }
}

/// The `bgp AS-NUMBER` view: an input that takes routes over BGP and announces none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpConfig {
    /// The AS number of this device.
    pub asn: u32,
    /// `router-id ADDR`.
    pub router_id: Option<Ipv4Addr>,
    /// `listen-port N`: where peers connect to; none without it.
    pub listen_port: Option<u16>,
    /// `peer ADDR ...`.
    pub peers: BTreeMap<IpAddr, BgpPeerConfig>,
}

/// The settings of a BGP peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BgpPeerConfig {
    /// `as-number N`: bmpd opens no session to a peer without it.
    pub asn: Option<u32>,
    /// `port N`: the peer's port. Without it, [`BgpPeerConfig::PORT`].
    pub port: Option<u16>,
    /// `password TEXT`: TCP MD5 (RFC 2385).
    pub password: Option<Secret>,
    /// `keychain NAME`: the key chain that signs connections, instead of a password.
    pub keychain: Option<String>,
    /// `listen-only`: the peer connects, and this device does not.
    pub listen_only: bool,
    /// `connect-interface ...`.
    pub connect_interface: Option<ConnectInterface>,
    /// `timer keepalive K hold H`; see [`BgpPeerConfig::TIMER`].
    pub timer: Option<BgpTimer>,
    /// `maximum-routes ROUTES [ warning-only ]`.
    pub maximum_routes: Option<MaximumRoutes>,
    /// `peer ADDR enable` in the views of families.
    pub families: BTreeSet<Family>,
}

/// `maximum-routes ROUTES [ warning-only ]`: how many routes a BGP peer, or a connection of a
/// relay, may have in all RIBs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaximumRoutes {
    /// The limit.
    pub routes: u32,
    /// More routes are logged, and nothing is closed.
    pub warning_only: bool,
}

/// The words of the command behind its keyword.
impl fmt::Display for MaximumRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.routes, if self.warning_only { " warning-only" } else { "" })
    }
}

/// `timer keepalive K hold H`, in seconds. Both are zero for a session without keepalives, which no
/// silence ends (RFC 4271 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BgpTimer {
    /// Seconds between keepalives.
    pub keepalive: u16,
    /// Seconds without a message after which the session ends.
    pub hold: u16,
}

impl BgpPeerConfig {
    /// The default of `port` (RFC 4271 §8.2.1).
    pub const PORT: u16 = 179;
    /// The default of `timer`.
    pub const TIMER: BgpTimer = BgpTimer { keepalive: 60, hold: 180 };
}

/// A `bmp-relay NAME` view: an input that takes BMP from a local daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayConfig {
    /// `listen ADDR port N`.
    pub listen: Option<SocketAddr>,
    /// `keychain NAME` behind `listen ADDR port N`: the key chain that daemons sign with.
    pub keychain: Option<String>,
    /// `tls NAME` at the end of `listen`: the TLS profile of its connections.
    pub tls: Option<String>,
    /// `allow PREFIX`: the hosts that may connect. If empty, only this host.
    pub allow: BTreeSet<Prefix>,
    /// `allow user NAME`: the users of this host that may connect besides root, the user of bmpd
    /// and system accounts.
    pub allow_users: BTreeSet<AllowedUser>,
    /// `allow proxy PREFIX`: the proxies, whose connections begin with a PROXY header.
    pub allow_proxies: BTreeSet<Prefix>,
    /// `hold SECONDS`: how long the peers of a daemon that went away stay up.
    pub hold: Duration,
    /// `end-of-rib-after SECONDS`: how long a RIB without End-of-RIB must be quiet to count as
    /// complete. Zero is never.
    pub end_of_rib_after: Duration,
    /// `max-connections NUMBER per-source NUMBER`.
    pub max_connections: Option<MaxConnections>,
    /// `maximum-routes ROUTES [ warning-only ]`, for each connection.
    pub maximum_routes: Option<MaximumRoutes>,
}

impl RelayConfig {
    /// The default of `max-connections`.
    pub const MAX_CONNECTIONS: MaxConnections = MaxConnections { total: 256, per_source: Some(32) };
}

/// The connections that a relay has at one time, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxConnections {
    /// Of all sources together.
    pub total: u32,
    /// Of one source, as [`crate::visitors`] tells sources apart.
    pub per_source: Option<u32>,
}

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AllowedUser {
    /// By user id.
    Number(u32),
    /// By name.
    Name(String),
}

impl AllowedUser {
    /// Returns the name, if the user is not given by number.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Number(_) => None,
        }
    }
}

/// A word of digits is a number.
impl From<&str> for AllowedUser {
    fn from(word: &str) -> Self {
        let number = word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok()).flatten();
        number.map_or_else(|| Self::Name(word.to_owned()), Self::Number)
    }
}

/// The word of the command.
impl fmt::Display for AllowedUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A `mrt-replay NAME` view: an input that takes routes from an MRT file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayConfig {
    /// `file PATH`.
    pub file: Option<PathBuf>,
    /// `pace ...`.
    pub pace: ReplayPace,
    /// `loop`: begin again at the end.
    pub looped: bool,
}

/// `pace ...`: how fast a file is replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplayPace {
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
pub struct BmpConfig {
    /// The view is configured, even if nothing is in it. The settings count in any case.
    pub enabled: bool,
    /// `connect-interface ADDR`: the source of every IPv4 session that names no source itself.
    pub connect_interface: Option<Ipv4Addr>,
    /// `statistics-timer SECONDS`: the time between Statistics Reports of BGP peers. Zero is never;
    /// without it, [`BmpConfig::STATISTICS_TIMER`].
    pub statistics_timer: Option<Duration>,
    /// `initiation-message TEXT`: what stations are told with the name of this device, unless the
    /// session has a text of its own.
    pub initiation_message: Option<LineText>,
    /// `dump-rate ROUTES`: how many routes a second of a dump a session may send, unless it has a
    /// rate of its own. Zero is any number.
    pub dump_rate: Option<u32>,
    /// `initial-refresh delay N spread M`.
    pub initial_refresh: Option<InitialRefresh>,
    /// `persist`: the kernel goes on enforcing the pins after bmpd has ended on request.
    pub persist: bool,
    /// `bmp-session ...`.
    pub sessions: BTreeMap<SessionId, SessionConfig>,
}

impl BmpConfig {
    /// The default of `statistics-timer`.
    pub const STATISTICS_TIMER: Duration = Duration::from_secs(3600);
}

/// Identifies one `bmp-session` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// `vpn-instance NAME`; `None` is the public instance.
    pub vpn_instance: Option<String>,
    /// The station's address.
    pub station: IpAddr,
    /// `alias NAME`: distinguishes several sessions to one station.
    pub alias: Option<String>,
}

/// The form of prompts and logs: `198.51.100.8`, `198.51.100.8-lab`, and `mgmt-198.51.100.8-lab` in
/// the VPN instance `mgmt`.
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
pub struct SessionConfig {
    /// `description TEXT`: what the session is for. Only displays use it.
    pub description: Option<LineText>,
    /// `tcp connect port N` or `tcp listen port N`.
    pub transport: Option<Transport>,
    /// `connect-interface ...`.
    pub connect_interface: Option<ConnectInterface>,
    /// `egress-interface NAME ...`: up to 8 interfaces that the session may leave by, in the order
    /// given.
    pub egress_interfaces: Vec<String>,
    /// `next-hop ADDR`: the router that gets the session's packets, whatever the routing tables
    /// say.
    pub next_hop: Option<IpAddr>,
    /// `hold-down MILLISECONDS`: how long the session outlives the loss of its interface.
    pub hold_down: Duration,
    /// `password md5 TEXT` behind `tcp connect port N`: TCP MD5 (RFC 2385).
    pub password: Option<Secret>,
    /// `keychain NAME` behind the port: the key chain that signs connections.
    pub keychain: Option<String>,
    /// `tls NAME` behind it: the TLS profile of its connections.
    pub tls: Option<String>,
    /// `local-port N` at the end of `tcp connect port N`: the port of this device that connections
    /// leave from. Without it, the kernel chooses a free one.
    pub local_port: Option<u16>,
    /// `tcp mss N`: the longest segment to the station, in bytes.
    pub mss: Option<u16>,
    /// `dscp N`: the DSCP of the session's packets (RFC 2474).
    pub dscp: Option<u8>,
    /// `keepalive IDLE [ INTERVAL COUNT ]`: when TCP probes the station.
    pub keepalive: Option<SessionKeepalive>,
    /// `connect-retry FIRST LONGEST`: the waits between attempts to connect.
    pub connect_retry: Option<ConnectRetry>,
    /// `initial-delay SECONDS`: how long the first attempt to connect waits.
    pub initial_delay: Duration,
    /// `flap-damping SECONDS`: the shortest wait after a connection was lost.
    pub flap_damping: Duration,
    /// `monitor ...`: the peers that the station is told of, each with its RIBs and its filter. A
    /// session without monitors is told everything.
    pub monitors: BTreeMap<MonitorId, MonitorConfig>,
    /// `route-mirroring`: a session with monitors gets mirrored messages too.
    pub route_mirroring: bool,
    /// `initiation-message TEXT`: what the station is told with the name of this device.
    pub initiation_message: Option<LineText>,
    /// `buffer-limit MB`: how far the station may lag behind the journal, in units of
    /// [`MEGABYTE`]. Without it, as far as the journal reaches.
    pub buffer_limit: Option<u32>,
    /// `statistics-timer SECONDS`: the time between the Statistics Reports that the station gets.
    /// Without it, the station gets each report as it comes.
    pub statistics_timer: Option<Duration>,
    /// `statistics derived`: bmpd reports on relayed peers whose daemon does not.
    pub derives_statistics: bool,
    /// `dump-rate ROUTES`: how many routes a second of a dump the session may send. Zero is any
    /// number.
    pub dump_rate: Option<u32>,
    /// `per-router [ relay NAME ]`: each router behind a relay has a connection of its own.
    pub per_router: Option<PerRouter>,
    /// `proxy-protocol`: each connection begins with a header of the PROXY protocol, version 2.
    pub proxy_protocol: bool,
    /// `adopt`: another local process opens the session. bmpd only pins and counts it.
    pub adopt: bool,
    /// `shutdown`: the session stays down.
    pub shutdown: bool,
}

/// `per-router [ relay NAME ]`: each router has a connection of its own to the station.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerRouter {
    /// `relay NAME`: only routers of this relay. `None` for routers of all relays.
    pub relay: Option<String>,
}

/// Text that goes to the end of a line: words with one blank between two, and no quotes around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineText(String);

impl LineText {
    /// The most characters of a text.
    pub const LONGEST: usize = 255;

    /// Returns the text that an operator has given, without double quotes around it.
    ///
    /// # Errors
    ///
    /// The text is empty, or has more than [`Self::LONGEST`] characters. The message says so.
    pub fn new(given: &str) -> Result<Self, String> {
        let mut inner = given.trim();
        while let Some(unquoted) = inner.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            inner = unquoted.trim();
        }
        let text = inner.split_whitespace().collect::<Vec<_>>().join(" ");
        match text.chars().count() {
            1..=Self::LONGEST => Ok(Self(text)),
            length => Err(format!("a text has from 1 to {} characters, this has {length}", Self::LONGEST)),
        }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The waits between attempts to connect: `connect-retry FIRST LONGEST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectRetry {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

/// `keepalive IDLE [ INTERVAL COUNT ]`: when TCP asks whether the station is there (tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKeepalive {
    /// The silence before the first probe (`TCP_KEEPIDLE`). Zero is no keepalive.
    pub idle: Duration,
    /// The probes. Without it, [`KeepaliveProbes::DEFAULT`].
    pub probes: Option<KeepaliveProbes>,
}

/// The probes of a silent connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveProbes {
    /// The time between two probes (`TCP_KEEPINTVL`).
    pub interval: Duration,
    /// How many probes without an answer end the connection (`TCP_KEEPCNT`).
    pub count: u32,
}

impl KeepaliveProbes {
    /// The probes where none are configured. They notice a vanished host within half a minute.
    pub const DEFAULT: Self = Self { interval: Duration::from_secs(10), count: 3 };
}

impl SessionKeepalive {
    /// Returns the probes, whether configured or not.
    pub fn probes_in_force(&self) -> KeepaliveProbes {
        self.probes.unwrap_or(KeepaliveProbes::DEFAULT)
    }
}

/// `monitor ...`: peers that a station is told of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MonitorId {
    /// `public`: the peers of no VPN instance.
    Public,
    /// `all-vpn-instance`: the peers of every VPN instance.
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
    /// `relay NAME`: the peers of one relay.
    Relay(String),
    /// `mrt-replay NAME`: the peers of one file.
    Replay(String),
    /// `bgp`: the peers of the bgp view.
    Bgp,
}

/// The form of the command. Prompts have `-` for its blanks.
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

/// What a `monitor` view says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MonitorConfig {
    /// `route-mode FAMILY RIB`: the RIBs; all of them without any.
    pub modes: BTreeSet<RouteMode>,
    /// `route-filter NAME`: the filter of the routes.
    pub route_filter: Option<String>,
}

/// `route-mode FAMILY RIB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteMode {
    /// `ipv4-family unicast`.
    pub family: Family,
    /// `adj-rib-in pre-policy`.
    pub view: RibView,
}

/// The end that opens the connection, and the port that it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `tcp connect port N`: this device connects to the station's port.
    Connect(u16),
    /// `tcp listen port N`: the station connects to this device's port.
    Listen(u16),
}

impl SessionConfig {
    /// The largest `buffer-limit`: the whole journal.
    pub const LARGEST_BUFFER: u32 = 64;
    /// The default of `connect-retry`.
    pub const CONNECT_RETRY: ConnectRetry =
        ConnectRetry { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
    /// The default of `keepalive`, without its probes.
    pub const KEEPALIVE: SessionKeepalive = SessionKeepalive { idle: Duration::from_secs(30), probes: None };

    /// Returns the waits between attempts, whether configured or not.
    pub fn retry_waits(&self) -> ConnectRetry {
        self.connect_retry.unwrap_or(Self::CONNECT_RETRY)
    }

    /// Returns when TCP probes the station, whether configured or not.
    pub fn keepalive_in_force(&self) -> SessionKeepalive {
        self.keepalive.unwrap_or(Self::KEEPALIVE)
    }

    /// Returns `buffer-limit` in bytes.
    pub fn buffer_limit_bytes(&self) -> Option<u64> {
        self.buffer_limit.map(|megabytes| u64::from(megabytes) * MEGABYTE as u64)
    }

    /// Returns the port that the connection goes to: the station's, or this device's if the station
    /// connects.
    pub fn port(&self) -> Option<u16> {
        self.transport.map(|(Transport::Connect(port) | Transport::Listen(port))| port)
    }
}

/// `connect-interface` of a session view. Names are as the operator gave them, with type and number
/// joined. Which interface a name means depends on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectInterface {
    /// The source address alone.
    Address(IpAddr),
    /// The source interface alone. The source address is one of the interface's own.
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
    /// Returns the interface, if it is named.
    pub fn interface(&self) -> Option<&str> {
        match self {
            Self::Address(_) => None,
            Self::Interface(interface) | Self::Both { interface, .. } => Some(interface),
        }
    }

    /// Returns the address, if it is named.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Interface(_) => None,
            Self::Address(address) | Self::Both { address, .. } => Some(*address),
        }
    }
}
