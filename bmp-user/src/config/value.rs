//! The arguments of commands: which word is which, and which are refused.

use std::net::IpAddr;

use super::text::quoted;

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
}

/// An argument, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Address(IpAddr),
    Port(u16),
}

impl Kind {
    /// Whether the word looks like one, where several kinds of argument could stand. An address is never a name: whoever
    /// writes one means it.
    pub(super) fn fits(self, word: &str) -> bool {
        let address = word.parse::<IpAddr>().is_ok();
        match self {
            Self::Source | Self::Ipv4Source | Self::Station | Self::Listen => address,
            Self::InterfaceName | Self::InterfaceType | Self::InterfaceNumber => !address,
            Self::Port => word.bytes().all(|b| b.is_ascii_digit()),
            Self::Sysname | Self::KernelName | Self::InputName | Self::Alias => true,
        }
    }

    /// Reads the word, or says why it is refused. `station` is the station of the session view that the command is in.
    pub(super) fn read(self, word: &str, station: Option<IpAddr>) -> Result<Value, String> {
        match self {
            Self::Sysname => text(word, "a system name", 246),
            Self::KernelName => kernel_name(word),
            Self::InterfaceName => interface_name(word),
            Self::InterfaceType => text(word, "an interface type", 63),
            Self::InterfaceNumber => text(word, "an interface number", 63),
            Self::Source => source(word, station).map(Value::Address),
            Self::Ipv4Source => ipv4_source(word).map(Value::Address),
            Self::Station => unicast(word, "a station's address").map(Value::Address),
            Self::Listen => listen(word).map(Value::Address),
            Self::Port => port(word),
            Self::InputName => text(word, "an input's name", 63),
            Self::Alias => text(word, "an alias", 63),
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

fn port(word: &str) -> Result<Value, String> {
    // `parse` alone would take a sign.
    let digits = word.bytes().all(|b| b.is_ascii_digit());
    match word.parse() {
        Ok(port) if digits && port > 0 => Ok(Value::Port(port)),
        _ => Err("a port is a number from 1 to 65535".to_owned()),
    }
}

fn source(word: &str, station: Option<IpAddr>) -> Result<IpAddr, String> {
    let address = unicast(word, "a source address")?;
    match station {
        Some(IpAddr::V4(station)) if address.is_ipv6() => {
            Err(format!("the station {station} is IPv4, so the source address must be IPv4"))
        }
        Some(IpAddr::V6(station)) if address.is_ipv4() => {
            Err(format!("the station {station} is IPv6, so the source address must be IPv6"))
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
