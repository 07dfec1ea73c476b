//! The arguments of commands: which word is which, and which are refused.

use std::{net::IpAddr, time::Duration};

use super::text::quoted;

/// How the instance that has no name is shown.
pub const PUBLIC: &str = "_public_";

/// What an argument is. The limits of names and numbers are those of carrier routers; those of kernel names are the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the device calls itself: 1 to 246 characters.
    Sysname,
    /// An interface's name in the kernel (`dev_valid_name` in net/core/dev.c): 1 to 15 bytes, no `/` or `:`.
    KernelName,
    /// A name that an interface is known by: 1 to 127 characters (a kernel alternative name's limit), not an address.
    InterfaceName,
    /// The first part of a name that is written in two: 1 to 63 characters, not an address.
    InterfaceType,
    /// The second part: 1 to 63 characters, not an address.
    InterfaceNumber,
    /// The source address of a session: of its station's family.
    Source,
    /// The source address of the IPv4 sessions.
    Ipv4Source,
    /// A station's address.
    Station,
    /// An address of this host to listen on; the unspecified address is all of them.
    Listen,
    /// A TCP port.
    Port,
    /// The name of an input: 1 to 63 characters.
    InputName,
    /// What tells sessions to one station from each other: 1 to 63 characters.
    Alias,
    /// The name of a VPN instance: that of a VRF device, so a kernel name; `_public_` is the name of none.
    VpnInstance,
    /// One of the interfaces that a session may leave by: a name as in [`Self::InterfaceName`].
    EgressName,
    /// The router that a session's packets are sent to: of its station's family.
    NextHop,
    /// How long a session outlives the loss of its interface: 0 to 600,000 milliseconds.
    HoldDown,
    /// How long a trial lasts: 1 to 65,535 seconds.
    Trial,
    /// A word of a text that lines are chosen by.
    Text,
}

/// An argument, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Address(IpAddr),
    Port(u16),
    Time(Duration),
}

impl Kind {
    /// Whether the word looks like one, where several kinds of argument could stand. An address is never a name: whoever
    /// writes one means it.
    pub(super) fn fits(self, word: &str) -> bool {
        let address = word.parse::<IpAddr>().is_ok();
        match self {
            Self::Source | Self::Ipv4Source | Self::Station | Self::Listen | Self::NextHop => address,
            Self::InterfaceName | Self::InterfaceType | Self::InterfaceNumber | Self::EgressName => !address,
            Self::Port | Self::HoldDown | Self::Trial => word.bytes().all(|b| b.is_ascii_digit()),
            Self::Sysname | Self::KernelName | Self::InputName | Self::Alias | Self::VpnInstance | Self::Text => true,
        }
    }

    /// What stands for it in help, with its limits.
    pub(super) fn placeholder(self) -> &'static str {
        match self {
            Self::Sysname => "STRING<1-246>",
            Self::KernelName | Self::VpnInstance => "STRING<1-15>",
            Self::InterfaceName | Self::EgressName => "STRING<1-127>",
            Self::InterfaceType | Self::InterfaceNumber | Self::InputName | Self::Alias => "STRING<1-63>",
            Self::Source | Self::Station | Self::Listen | Self::NextHop => "X.X.X.X or X:X::X:X",
            Self::Ipv4Source => "X.X.X.X",
            Self::Port => "INTEGER<1-65535>",
            Self::HoldDown => "INTEGER<0-600000>",
            Self::Trial => "INTEGER<1-65535>",
            Self::Text => "TEXT",
        }
    }

    /// Reads the word, or says why it is refused. `station` is the station of the session view that the command is in.
    pub(super) fn read(self, word: &str, station: Option<IpAddr>) -> Result<Value, String> {
        match self {
            Self::Sysname => text(word, "a system name", 246),
            Self::KernelName => kernel_name(word),
            Self::InterfaceName | Self::EgressName => interface_name(word),
            Self::InterfaceType => text(word, "an interface type", 63),
            Self::InterfaceNumber => text(word, "an interface number", 63),
            Self::Source => of_family(word, "a source address", "the source address", station).map(Value::Address),
            Self::NextHop => of_family(word, "a next hop", "the next hop", station).map(Value::Address),
            Self::Ipv4Source => ipv4_source(word).map(Value::Address),
            Self::Station => unicast(word, "a station's address").map(Value::Address),
            Self::Listen => listen(word).map(Value::Address),
            Self::Port => port(word),
            Self::InputName => text(word, "an input's name", 63),
            Self::Alias => text(word, "an alias", 63),
            Self::VpnInstance => vpn_instance(word),
            Self::HoldDown => number(word, 0..=600_000, "a hold-down is a number of milliseconds")
                .map(|milliseconds| Value::Time(Duration::from_millis(milliseconds))),
            Self::Trial => number(word, 1..=65_535, "a trial lasts a number of seconds")
                .map(|seconds| Value::Time(Duration::from_secs(seconds))),
            Self::Text => Ok(Value::Text(word.to_owned())),
        }
    }
}

/// An interface's name, also where it was spelt in two words.
pub(super) fn interface_name(word: &str) -> Result<Value, String> {
    if word.parse::<IpAddr>().is_ok() {
        return Err(format!("{} is an address, not an interface name", quoted(word)));
    }
    text(word, "an interface name", 127)
}

fn text(word: &str, what: &str, longest: usize) -> Result<Value, String> {
    match word.chars().count() {
        length if (1..=longest).contains(&length) => Ok(Value::Text(word.to_owned())),
        length => Err(format!("{what} has 1 to {longest} characters, this has {length}")),
    }
}

fn kernel_name(word: &str) -> Result<Value, String> {
    const LONGEST: usize = 15;
    if word.len() > LONGEST {
        return Err(format!("a kernel interface name has 1 to {LONGEST} bytes, this has {}", word.len()));
    }
    if word.contains(['/', ':']) || matches!(word, "" | "." | "..") {
        return Err(format!("{} cannot be the name of an interface in the kernel", quoted(word)));
    }
    Ok(Value::Text(word.to_owned()))
}

fn vpn_instance(word: &str) -> Result<Value, String> {
    if word == PUBLIC {
        return Err(format!("{PUBLIC} is how the public instance is shown: leave `vpn-instance` out for it"));
    }
    kernel_name(word).map_err(|why| format!("a VPN instance has the name of its VRF device: {why}"))
}

fn number(word: &str, range: std::ops::RangeInclusive<u64>, what: &str) -> Result<u64, String> {
    // `parse` alone would take a sign.
    let digits = word.bytes().all(|b| b.is_ascii_digit());
    match word.parse() {
        Ok(number) if digits && range.contains(&number) => Ok(number),
        _ => Err(format!("{what} from {} to {}", range.start(), range.end())),
    }
}

fn port(word: &str) -> Result<Value, String> {
    let port = number(word, 1..=u16::MAX.into(), "a port is a number")?;
    Ok(Value::Port(port.try_into().unwrap_or(u16::MAX)))
}

/// An address of the station's family. `what` it is to be with an indefinite article, and `which` with a definite one.
fn of_family(word: &str, what: &str, which: &str, station: Option<IpAddr>) -> Result<IpAddr, String> {
    let address = unicast(word, what)?;
    match station {
        Some(IpAddr::V4(station)) if address.is_ipv6() => {
            Err(format!("the station {station} is IPv4, so {which} must be IPv4"))
        }
        Some(IpAddr::V6(station)) if address.is_ipv4() => {
            Err(format!("the station {station} is IPv6, so {which} must be IPv6"))
        }
        _ => Ok(address),
    }
}

fn ipv4_source(word: &str) -> Result<IpAddr, String> {
    const HINT: &str = "the bmp view takes the source address of IPv4 sessions alone; name ";
    match word.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => unicast(word, "a source address"),
        Ok(IpAddr::V6(_)) => Err(format!("{HINT}an IPv6 address in a bmp-session view")),
        Err(_) => Err(format!("{} is not an IPv4 address: {HINT}an interface in a bmp-session view", quoted(word))),
    }
}

fn listen(word: &str) -> Result<IpAddr, String> {
    match word.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => Ok(address),
        _ => unicast(word, "an address to listen on"),
    }
}

fn unicast(word: &str, what: &str) -> Result<IpAddr, String> {
    let Ok(address) = word.parse::<IpAddr>() else {
        return Err(format!("{} is not an IP address", quoted(word)));
    };
    let why = match address {
        _ if address.is_unspecified() => "the unspecified address",
        _ if address.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            // The kernel sends IPv4 for it: written as what it is, it can be told from an IPv6 session.
            Some(v4) => return Err(format!("{address} is IPv4 written as IPv6: write {v4}")),
            None => return Ok(address),
        },
        IpAddr::V4(_) => return Ok(address),
    };
    Err(format!("{address} is {why}, which cannot be {what}"))
}
