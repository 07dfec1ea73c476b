//! The arguments of commands: which word is which, and which are refused.

use std::{net::IpAddr, ops::RangeInclusive, time::Duration};

use super::{MASK, Secret, address, model::Prefix, text::quoted};

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
    /// An AS number: 1 to 4,294,967,295, also as two numbers with a dot (RFC 5396).
    AsNumber,
    /// A BGP identifier: an IPv4 address that is not zero.
    RouterId,
    /// A BGP peer's address.
    Peer,
    /// A secret of TCP MD5: 1 to 80 characters (tcp(7), `TCP_MD5SIG_MAXKEYLEN`).
    Password,
    /// Seconds between BGP keepalives: 0 to 21,845.
    KeepaliveTime,
    /// Seconds of a BGP hold time: 0, or 3 to 65,535 (RFC 4271 §4.2).
    HoldTime,
    /// Who may connect: an IP prefix, or an address.
    Prefix,
    /// How long the peers of a relay that went away are held: 0 to 3,600 seconds.
    RelayHold,
    /// How many connections a relay has: 1 to 65,535.
    MostConnections,
    /// How many of them one source has: 1 to 65,535.
    MostOfSource,
    /// The path of a file: 1 to 4,095 bytes.
    Path,
    /// Updates per second: 1 to 10,000,000.
    Rate,
    /// A table's name or a route distinguisher: 1 to 255 characters.
    TableName,
    /// A DSCP: 0 to 63.
    Dscp,
    /// A TCP maximum segment size: 88 to 32,767 bytes (tcp(7)).
    Mss,
    /// Seconds between reports: 0 to 65,535.
    StatisticsTime,
    /// Seconds that a connection is silent: 0 to 32,767 (tcp(7)).
    TcpKeepalive,
    /// Seconds of the first wait: 1 to 3,600.
    RetryFirst,
    /// Seconds of the longest wait: 1 to 3,600.
    RetryLongest,
    /// Seconds that a session waits: 0 to 3,600.
    Wait,
    /// Not an argument but a keyword that one of several forms begins with. Of no rule.
    Keyword,
}

/// An argument, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Secret(Secret),
    Address(IpAddr),
    Port(u16),
    Time(Duration),
    Number(u32),
    Prefix(Prefix),
}

impl Kind {
    /// Whether the word looks like one, where several kinds of argument could stand. What is meant
    /// as an address is never a name: a mistyped one must be refused and not be looked for among
    /// the interfaces.
    pub(super) fn fits(self, word: &str) -> bool {
        let address = address::notation(word).is_some();
        match self {
            Self::Source
            | Self::Ipv4Source
            | Self::Station
            | Self::Listen
            | Self::NextHop
            | Self::RouterId
            | Self::Peer => address,
            Self::Prefix => address || word.contains('/'),
            Self::InterfaceName | Self::InterfaceType | Self::EgressName => !address,
            Self::InterfaceNumber => address::is_number_of_interface(word),
            Self::AsNumber => word.bytes().all(|b| b.is_ascii_digit() || b == b'.'),
            Self::Port
            | Self::HoldDown
            | Self::Trial
            | Self::KeepaliveTime
            | Self::HoldTime
            | Self::RelayHold
            | Self::MostConnections
            | Self::MostOfSource
            | Self::Rate
            | Self::Dscp
            | Self::Mss
            | Self::StatisticsTime
            | Self::TcpKeepalive
            | Self::RetryFirst
            | Self::RetryLongest
            | Self::Wait => word.bytes().all(|b| b.is_ascii_digit()),
            Self::Sysname
            | Self::KernelName
            | Self::InputName
            | Self::Alias
            | Self::VpnInstance
            | Self::Text
            | Self::Password
            | Self::Path
            | Self::TableName => true,
            Self::Keyword => false,
        }
    }

    /// What stands for it in help, with its limits.
    pub(super) fn placeholder(self) -> &'static str {
        match self {
            Self::Sysname => "STRING<1-246>",
            Self::KernelName | Self::VpnInstance => "STRING<1-15>",
            Self::InterfaceName | Self::EgressName => "STRING<1-127>",
            Self::InterfaceType | Self::InterfaceNumber | Self::InputName | Self::Alias => "STRING<1-63>",
            Self::Source | Self::Station | Self::Listen | Self::NextHop | Self::Peer => "X.X.X.X or X:X::X:X",
            Self::Ipv4Source | Self::RouterId => "X.X.X.X",
            Self::Port => "INTEGER<1-65535>",
            Self::HoldDown => "INTEGER<0-600000>",
            Self::Trial => "INTEGER<1-65535>",
            Self::Text => "TEXT",
            Self::AsNumber => "INTEGER<1-4294967295>",
            Self::Password => "STRING<1-80>",
            Self::KeepaliveTime => "INTEGER<0-21845>",
            Self::HoldTime => "INTEGER<0,3-65535>",
            Self::Prefix => "X.X.X.X/M or X:X::X:X/M",
            Self::RelayHold | Self::Wait => "INTEGER<0-3600>",
            Self::MostConnections | Self::MostOfSource => "INTEGER<1-65535>",
            Self::Path => "PATH",
            Self::Rate => "INTEGER<1-10000000>",
            Self::TableName => "STRING<1-255>",
            Self::Dscp => "INTEGER<0-63>",
            Self::Mss => "INTEGER<88-32767>",
            Self::StatisticsTime => "INTEGER<0-65535>",
            Self::TcpKeepalive => "INTEGER<0-32767>",
            Self::RetryFirst | Self::RetryLongest => "INTEGER<1-3600>",
            Self::Keyword => "",
        }
    }

    /// Reads the word, or says why it is refused. `station` is the station of the session view that the command is in.
    pub(super) fn read(self, word: &str, station: Option<IpAddr>) -> Result<Value, String> {
        match self {
            Self::Sysname => text(word, "a system name", 246),
            Self::KernelName => kernel_name(word),
            Self::InterfaceName | Self::EgressName => interface_name(word),
            Self::InterfaceType => part_of_interface_name(word, "an interface type", 63),
            Self::InterfaceNumber => text(word, "an interface number", 63),
            Self::Source => {
                address::towards(station, word, "a source address", "the source address").map(Value::Address)
            }
            Self::NextHop => next_hop(word, station).map(Value::Address),
            Self::Ipv4Source => ipv4_source(word).map(Value::Address),
            Self::Station => address::unicast(word, "a station's address").map(Value::Address),
            Self::Listen => address::listen(word).map(Value::Address),
            Self::Port => port(word),
            Self::InputName => text(word, "an input's name", 63),
            Self::Alias => text(word, "an alias", 63),
            Self::VpnInstance => vpn_instance(word),
            Self::HoldDown => number(word, 0..=600_000, "a hold-down is a number of milliseconds")
                .map(|milliseconds| Value::Time(Duration::from_millis(milliseconds))),
            Self::Trial => number(word, 1..=65_535, "a trial lasts a number of seconds")
                .map(|seconds| Value::Time(Duration::from_secs(seconds))),
            Self::Text => Ok(Value::Text(word.to_owned())),
            Self::AsNumber => as_number(word),
            Self::RouterId => address::bgp_identifier(word).map(Value::Address),
            Self::Peer => address::unicast(word, "a peer's address").map(Value::Address),
            Self::Password => secret(word),
            Self::KeepaliveTime => seconds(word, 0..=21_845, "a keepalive time is a number of seconds"),
            Self::HoldTime => match seconds(word, 0..=65_535, "a hold time is a number of seconds") {
                Ok(Value::Time(time)) if (1..=2).contains(&time.as_secs()) => {
                    Err("a hold time is zero, or at least 3 seconds (RFC 4271)".to_owned())
                }
                read => read,
            },
            Self::Prefix => address::prefix(word).map(Value::Prefix),
            Self::RelayHold => seconds(word, 0..=3600, "peers are held for a number of seconds"),
            Self::Path => match word.len() {
                1..=4095 => Ok(Value::Text(word.to_owned())),
                length => Err(format!("a path has 1 to 4095 bytes, this has {length}")),
            },
            Self::MostConnections | Self::MostOfSource => {
                integer(word, 1..=65_535, "a limit is a number of connections")
            }
            Self::Rate => integer(word, 1..=10_000_000, "a pace is a number of updates per second"),
            Self::TableName => text(word, "the name of a VPN instance", 255),
            Self::Dscp => integer(word, 0..=63, "a DSCP is a number"),
            Self::Mss => integer(word, 88..=32_767, "a maximum segment size is a number of bytes"),
            Self::StatisticsTime => seconds(word, 0..=65_535, "reports are a number of seconds apart"),
            Self::TcpKeepalive => seconds(word, 0..=32_767, "a keepalive is a number of seconds"),
            Self::RetryFirst => seconds(word, 1..=3600, "the first wait is a number of seconds"),
            Self::RetryLongest => seconds(word, 1..=3600, "the longest wait is a number of seconds"),
            Self::Wait => seconds(word, 0..=3600, "a session waits a number of seconds"),
            // Of no rule, so that no word is ever read as one.
            Self::Keyword => Err("a keyword".to_owned()),
        }
    }
}

/// An interface's name, also where it was spelt in two words.
pub(super) fn interface_name(word: &str) -> Result<Value, String> {
    part_of_interface_name(word, "an interface name", 127)
}

fn part_of_interface_name(word: &str, what: &str, longest: usize) -> Result<Value, String> {
    no_address_as(word, what)?;
    if let Some(odd) = word.chars().find(|c| NOT_IN_NAMES.contains(c)) {
        return Err(format!("{what} has no `{odd}` in it: {}", quoted(word)));
    }
    text(word, what, longest)
}

/// What separates words elsewhere. Where the kernel has such a name, `interface-alias` gives it another.
const NOT_IN_NAMES: [char; 5] = [',', ';', '[', ']', '"'];

/// Refuses what is meant as an address in the place of `what`.
fn no_address_as(word: &str, what: &str) -> Result<(), String> {
    match address::notation(word) {
        None => Ok(()),
        Some(_) if word.parse::<IpAddr>().is_ok() => Err(format!("{} is an address, not {what}", quoted(word))),
        Some(_) => Err(format!("{}, and it cannot be {what}", address::no_address(word))),
    }
}

fn text(word: &str, what: &str, longest: usize) -> Result<Value, String> {
    match word.chars().count() {
        length if (1..=longest).contains(&length) => Ok(Value::Text(word.to_owned())),
        length => Err(format!("{what} has 1 to {longest} characters, this has {length}")),
    }
}

/// What stands in the place of a secret where one is shown is none: whoever gives it back means to keep what is there.
fn secret(word: &str) -> Result<Value, String> {
    if word == MASK {
        return Err(format!(
            "{MASK} is shown in the place of a secret: give the secret itself, or leave the line as it is"
        ));
    }
    text(word, "a TCP MD5 secret", 80).map(|_| Value::Secret(Secret::from(word)))
}

fn kernel_name(word: &str) -> Result<Value, String> {
    const LONGEST: usize = 15;
    if word.len() > LONGEST {
        return Err(format!("a kernel interface name has 1 to {LONGEST} bytes, this has {}", word.len()));
    }
    if word.contains(['/', ':']) || matches!(word, "" | "." | "..") {
        return Err(format!("{} cannot be the name of an interface in the kernel", quoted(word)));
    }
    if address::plain(word).is_some() {
        no_address_as(word, "the name of an interface")?;
    }
    Ok(Value::Text(word.to_owned()))
}

fn vpn_instance(word: &str) -> Result<Value, String> {
    if word == PUBLIC {
        return Err(format!("{PUBLIC} is how the public instance is shown: leave `vpn-instance` out for it"));
    }
    kernel_name(word).map_err(|why| format!("a VPN instance has the name of its VRF device: {why}"))
}

fn number(word: &str, range: RangeInclusive<u64>, what: &str) -> Result<u64, String> {
    // `parse` alone would take a sign.
    let digits = word.bytes().all(|b| b.is_ascii_digit());
    match word.parse() {
        Ok(number) if digits && range.contains(&number) => Ok(number),
        _ => Err(format!("{what} from {} to {}", range.start(), range.end())),
    }
}

fn seconds(word: &str, range: RangeInclusive<u64>, what: &str) -> Result<Value, String> {
    number(word, range, what).map(|seconds| Value::Time(Duration::from_secs(seconds)))
}

fn integer(word: &str, range: RangeInclusive<u32>, what: &str) -> Result<Value, String> {
    let range = u64::from(*range.start())..=u64::from(*range.end());
    number(word, range, what).map(|number| Value::Number(number.try_into().unwrap_or(u32::MAX)))
}

/// Plain, or as RFC 5396 §2 has it: `65001`, `1.10`.
fn as_number(word: &str) -> Result<Value, String> {
    const WHAT: &str = "an AS number is a number";
    let Some((high, low)) = word.split_once('.') else { return integer(word, 1..=u32::MAX, WHAT) };
    let part = |part| number(part, 0..=u16::MAX.into(), "each part of an AS number is a number");
    match (part(high)? << 16 | part(low)?).try_into() {
        Ok(asn) if asn > 0 => Ok(Value::Number(asn)),
        _ => Err(format!("{WHAT} from 1 to {}", u32::MAX)),
    }
}

fn port(word: &str) -> Result<Value, String> {
    let port = number(word, 1..=u16::MAX.into(), "a port is a number")?;
    Ok(Value::Port(port.try_into().unwrap_or(u16::MAX)))
}

/// A router beside this host.
fn next_hop(word: &str, station: Option<IpAddr>) -> Result<IpAddr, String> {
    const WHAT: &str = "a next hop";
    let address = address::towards(station, word, WHAT, "the next hop")?;
    if address.is_loopback() {
        Err(format!("{address} is a loopback address, which cannot be {WHAT}"))
    } else {
        Ok(address)
    }
}

fn ipv4_source(word: &str) -> Result<IpAddr, String> {
    const HINT: &str = "the bmp view takes the source address of IPv4 sessions alone; name ";
    match word.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => address::unicast(word, "a source address"),
        Ok(IpAddr::V6(_)) => Err(format!("{HINT}an IPv6 address in a bmp-session view")),
        Err(_) if address::notation(word).is_some() => Err(address::no_address(word)),
        Err(_) => Err(format!("{} is not an IPv4 address: {HINT}an interface in a bmp-session view", quoted(word))),
    }
}
