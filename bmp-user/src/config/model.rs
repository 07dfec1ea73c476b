//! The configuration as a value: what is in a file, and what every module compares with the value before.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

/// A whole configuration. Two that are equal ask for the same thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `sysname`: what the device calls itself in prompts and in the Initiation message; the host's name if absent.
    pub sysname: Option<String>,
    /// `interface-alias KERNEL-NAME NAME`: from the name given here to the kernel's.
    pub interface_aliases: BTreeMap<String, String>,
    /// `bmp-relay NAME`.
    pub relays: BTreeMap<String, Relay>,
    /// The `bmp` view.
    pub bmp: Bmp,
}

/// A `bmp-relay NAME` view: an input that takes BMP from a local daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relay {
    /// `listen ADDR port N`.
    pub listen: Option<SocketAddr>,
}

/// The `bmp` view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bmp {
    /// `bmp` was given: the view is there, even with nothing in it. What is in it counts in any case.
    pub enabled: bool,
    /// `connect-interface ADDR`: the source of every IPv4 session that names none of its own.
    pub connect_interface: Option<Ipv4Addr>,
    /// `persist`: what the kernel enforces stays when bmpd is told to end.
    pub persist: bool,
    /// `bmp-session ...`.
    pub sessions: BTreeMap<SessionId, Session>,
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
    /// `adopt`: another local process opens the session; it is only pinned and counted.
    pub adopt: bool,
    /// `shutdown`.
    pub shutdown: bool,
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
