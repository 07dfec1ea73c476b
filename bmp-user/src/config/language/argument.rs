//! The arguments of commands: which word is which, and which words are refused.

use std::net::IpAddr;

use rustls::pki_types::ServerName;

use super::{
    address,
    line::quoted,
    number::{AS_NUMBER, NumberRange, Unit, is_decimal},
    sealed::{LONGEST_SEALED, SealedText},
    secret::{CIPHER, MASK, SIMPLE, Secret},
    utc::{TimeOfDay, UtcDate},
    value::ArgumentValue,
};
use crate::{
    config::tls::CertificateFingerprint,
    wire::{
        bgp::{CommunityPattern, NoCommunity},
        bmp::RouteDistinguisher,
    },
};

/// How displays name the public instance, which has no name.
pub const PUBLIC: &str = "_public_";

/// What an argument is. Names and numbers have the limits of carrier routers, kernel names those of
/// the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum ArgumentKind {
    /// The name of this device.
    Sysname,
    /// The kernel's name of an interface (`dev_valid_name` in net/core/dev.c): no `/` or `:`.
    KernelName,
    /// A name of an interface, not an address. The length limit is that of the kernel's alternative
    /// names.
    InterfaceName,
    /// The first part of an interface name in two words.
    InterfaceType,
    /// The second part of an interface name in two words.
    InterfaceNumber,
    /// The source address of a session, of its station's family.
    Source,
    /// The source address of IPv4 sessions.
    Ipv4Source,
    /// The address of a station.
    Station,
    /// An address of this host to listen on. The unspecified address stands for all of them.
    Listen,
    /// The name of an input.
    InputName,
    /// The alias of a session.
    Alias,
    /// The name of a commit.
    Label,
    /// The name of a VPN instance, which is that of its VRF device.
    VpnInstance,
    /// An interface that a session may leave by; a name as in [`Self::InterfaceName`].
    EgressName,
    /// The router that a session's packets are sent to, of its station's family.
    NextHop,
    /// A word of the text that a filter looks for.
    Text,
    /// An AS number, also as two numbers with a dot (RFC 5396).
    AsNumber,
    /// A BGP identifier.
    RouterId,
    /// The address of a BGP peer.
    Peer,
    /// The IPv4 address of a BGP peer.
    Ipv4Peer,
    /// The IPv6 address of a BGP peer.
    Ipv6Peer,
    /// The name of a key chain.
    KeychainName,
    /// The name of a TLS profile.
    TlsProfileName,
    /// The name of a route-filter.
    RouteFilterName,
    /// The name of a list of prefixes.
    PrefixListName,
    /// A pattern of communities.
    Community,
    /// A route distinguisher (RFC 4364 §4.2).
    RouteDistinguisher,
    /// A DNS name or an address that a certificate has (RFC 9525).
    VerifyName,
    /// The SHA-256 of a certificate.
    Fingerprint,
    /// A time of the day.
    TimeOfDay,
    /// The day on which a lifetime begins.
    StartDate,
    /// The day on which a lifetime is over.
    EndDate,
    /// A secret that signs TCP segments (tcp(7), `TCP_MD5SIG_MAXKEYLEN`; linux/tcp.h,
    /// `TCP_AO_MAXKEYLEN`).
    Password,
    /// The text of a sealed secret.
    Sealed,
    /// An IP prefix, or an address.
    Prefix,
    /// A user of this host, by name or by number.
    User,
    /// The path of a file.
    Path,
    /// A table's name or a route distinguisher.
    TableName,
    /// A number of this range.
    Number(&'static NumberRange),
}

impl ArgumentKind {
    /// Decides whether the word looks like this argument, where several could stand.
    ///
    /// A word that is meant as an address is never a name. A mistyped address must be refused, and
    /// not be looked for among the interfaces.
    pub(in crate::config) fn fits(self, word: &str) -> bool {
        let is_address = || address::notation(word).is_some();
        match self {
            Self::Source
            | Self::Ipv4Source
            | Self::Station
            | Self::Listen
            | Self::NextHop
            | Self::RouterId
            | Self::Peer
            | Self::Ipv4Peer
            | Self::Ipv6Peer => is_address(),
            Self::Prefix => word.contains('/') || is_address(),
            Self::InterfaceName | Self::InterfaceType | Self::EgressName => !is_address(),
            Self::InterfaceNumber => address::is_number_of_interface(word),
            Self::AsNumber => word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'),
            Self::Number(_) => is_decimal(word),
            // These say how a secret is written, in capitals too.
            Self::Password => ![CIPHER, SIMPLE].iter().any(|how| how.eq_ignore_ascii_case(word)),
            Self::Sysname
            | Self::KernelName
            | Self::InputName
            | Self::Alias
            | Self::Label
            | Self::VpnInstance
            | Self::KeychainName
            | Self::TlsProfileName
            | Self::RouteFilterName
            | Self::PrefixListName
            | Self::Community
            | Self::RouteDistinguisher
            | Self::VerifyName
            | Self::Fingerprint
            | Self::TimeOfDay
            | Self::StartDate
            | Self::EndDate
            | Self::Text
            | Self::Sealed
            | Self::User
            | Self::Path
            | Self::TableName => true,
        }
    }

    /// Decides whether this argument can have the value.
    pub(in crate::config) fn takes(self, value: &ArgumentValue) -> bool {
        match value {
            ArgumentValue::Text(_) => {
                self.longest().is_some() && !matches!(self, Self::Password | Self::Sealed) || self == Self::Text
            }
            // The secret knows whether it is written sealed.
            ArgumentValue::Secret(_) => self == Self::Password,
            ArgumentValue::Address(_) => matches!(
                self,
                Self::Source
                    | Self::Ipv4Source
                    | Self::Station
                    | Self::Listen
                    | Self::NextHop
                    | Self::RouterId
                    | Self::Peer
                    | Self::Ipv4Peer
                    | Self::Ipv6Peer
            ),
            ArgumentValue::Prefix(_) => self == Self::Prefix,
            ArgumentValue::TimeOfDay(_) => self == Self::TimeOfDay,
            ArgumentValue::Date(_) => matches!(self, Self::StartDate | Self::EndDate),
            ArgumentValue::Time(_) => {
                matches!(self, Self::Number(range) if matches!(range.unit, Unit::Milliseconds | Unit::Seconds))
            }
            ArgumentValue::Number(_) => match self {
                Self::AsNumber => true,
                Self::Number(range) => !matches!(range.unit, Unit::Milliseconds | Unit::Seconds),
                _ => false,
            },
            ArgumentValue::Keyword(_) => false,
        }
    }

    /// Returns the most characters that a name has; bytes for kernel names and paths. `None` for
    /// arguments that are no names.
    fn longest(self) -> Option<usize> {
        match self {
            Self::Sysname => Some(246),
            Self::KernelName | Self::VpnInstance => Some(15),
            Self::InterfaceName | Self::EgressName => Some(127),
            Self::InterfaceType
            | Self::InterfaceNumber
            | Self::InputName
            | Self::KeychainName
            | Self::TlsProfileName
            | Self::RouteFilterName
            | Self::PrefixListName
            | Self::Community
            | Self::RouteDistinguisher
            | Self::Alias
            | Self::Label => Some(63),
            Self::VerifyName => Some(253),
            Self::Fingerprint => Some(95),
            Self::Password => Some(80),
            Self::Sealed => Some(LONGEST_SEALED),
            Self::TableName | Self::User => Some(255),
            Self::Path => Some(4095),
            _ => None,
        }
    }

    /// Returns what the reference calls the argument.
    pub(in crate::config) fn name(self) -> &'static str {
        match self {
            Self::Sysname
            | Self::InterfaceName
            | Self::InputName
            | Self::KeychainName
            | Self::TlsProfileName
            | Self::RouteFilterName
            | Self::PrefixListName
            | Self::VerifyName
            | Self::VpnInstance => "NAME",
            Self::Community => "COMMUNITY",
            Self::RouteDistinguisher => "RD",
            Self::Fingerprint => "HEX",
            Self::KernelName => "KERNEL-NAME",
            Self::InterfaceType => "TYPE",
            Self::InterfaceNumber => "NUMBER",
            Self::Source
            | Self::Ipv4Source
            | Self::Station
            | Self::Listen
            | Self::NextHop
            | Self::Peer
            | Self::Ipv4Peer
            | Self::Ipv6Peer => "ADDRESS",
            Self::Alias => "ALIAS",
            Self::Label => "LABEL",
            Self::EgressName => "INTERFACE",
            Self::Text | Self::Sealed => "TEXT",
            Self::AsNumber => AS_NUMBER.name,
            Self::RouterId => "ROUTER-ID",
            Self::Password => "SECRET",
            Self::User => "USER",
            Self::Prefix => "PREFIX",
            Self::Path => "PATH",
            Self::TimeOfDay => "TIME",
            Self::StartDate => "DATE",
            Self::EndDate => "END-DATE",
            Self::TableName => "TABLE",
            Self::Number(range) => range.name,
        }
    }

    /// Returns what stands for the argument in help, with its limits.
    pub(in crate::config) fn placeholder(self) -> String {
        let fixed = match self {
            Self::Source | Self::Station | Self::Listen | Self::NextHop | Self::Peer => "X.X.X.X or X:X::X:X",
            Self::Ipv4Source | Self::RouterId | Self::Ipv4Peer => "X.X.X.X",
            Self::Ipv6Peer => "X:X::X:X",
            Self::Prefix => "X.X.X.X/M or X:X::X:X/M",
            Self::Path => "PATH",
            Self::Fingerprint => "64 hexadecimal digits",
            Self::Community => "65000:1, 65000:1:2, rt:65000:1",
            Self::RouteDistinguisher => "65000:1 or X.X.X.X:1",
            Self::TimeOfDay => "HH:MM or HH:MM:SS",
            Self::StartDate | Self::EndDate => "YYYY-MM-DD",
            Self::Text | Self::Sealed => "TEXT",
            Self::AsNumber => return AS_NUMBER.placeholder(),
            Self::Number(range) => return range.placeholder(),
            _ => return format!("STRING<1-{}>", self.longest().unwrap_or_default()),
        };
        fixed.to_owned()
    }

    /// Reads the word. `far_end` is the address of the station or the BGP peer that the command is
    /// about.
    ///
    /// # Errors
    ///
    /// The word is refused; the message says why.
    pub(in crate::config) fn read(self, word: &str, far_end: Option<IpAddr>) -> Result<ArgumentValue, String> {
        let longest = self.longest().unwrap_or_default();
        match self {
            Self::Sysname => text(word, "a system name", longest),
            Self::KernelName => kernel_name(word, longest),
            Self::InterfaceName | Self::EgressName => interface_name(word),
            Self::InterfaceType => part_of_interface_name(word, "an interface type", longest),
            Self::InterfaceNumber => text(word, "an interface number", longest),
            Self::Source => {
                address::towards(far_end, word, "a source address", "the source address").map(ArgumentValue::Address)
            }
            Self::NextHop => next_hop(word, far_end).map(ArgumentValue::Address),
            Self::Ipv4Source => ipv4_source(word).map(ArgumentValue::Address),
            Self::Station => address::unicast(word, "a station's address").map(ArgumentValue::Address),
            Self::Listen => address::listen(word).map(ArgumentValue::Address),
            Self::InputName => text(word, "an input's name", longest),
            Self::KeychainName => text(word, "the name of a key chain", longest),
            Self::TlsProfileName => text(word, "the name of a TLS profile", longest),
            Self::RouteFilterName => text(word, "the name of a filter", longest),
            Self::PrefixListName => text(word, "the name of a list", longest),
            Self::Community => community(word),
            Self::RouteDistinguisher => distinguisher(word),
            Self::VerifyName => verify_name(word),
            Self::Fingerprint => fingerprint(word),
            Self::TimeOfDay => TimeOfDay::read(word).map(ArgumentValue::TimeOfDay),
            Self::StartDate | Self::EndDate => UtcDate::read(word).map(ArgumentValue::Date),
            Self::Alias => text(word, "an alias", longest),
            Self::Label => text(word, "a label", longest),
            Self::VpnInstance => vpn_instance(word, longest),
            Self::Text => Ok(ArgumentValue::Text(word.to_owned())),
            Self::AsNumber => as_number(word).map(ArgumentValue::Number),
            Self::RouterId => address::bgp_identifier(word).map(ArgumentValue::Address),
            Self::Peer => address::unicast(word, "a peer's address").map(ArgumentValue::Address),
            Self::Ipv4Peer | Self::Ipv6Peer => peer_of_family(word, self).map(ArgumentValue::Address),
            Self::Password => secret(word, longest),
            Self::Sealed => sealed(word),
            Self::Prefix => address::prefix(word).map(ArgumentValue::Prefix),
            Self::User => user(word, longest),
            Self::Path => match word.len() {
                length if (1..=longest).contains(&length) => Ok(ArgumentValue::Text(word.to_owned())),
                length => Err(format!("a path has 1 to {longest} bytes, this has {length}")),
            },
            Self::TableName => text(word, "the name of a VPN instance", longest),
            Self::Number(range) => range.read_value(word),
        }
    }
}

/// Reads the address of a BGP peer of the family that `kind` names.
fn peer_of_family(word: &str, kind: ArgumentKind) -> Result<IpAddr, String> {
    let address = address::unicast(word, "a peer's address")?;
    match (address, kind) {
        (IpAddr::V4(_), ArgumentKind::Ipv6Peer) => Err(format!("{address} is IPv4: `ipv4 {address}` names the peer")),
        (IpAddr::V6(_), ArgumentKind::Ipv4Peer) => Err(format!("{address} is IPv6: `ipv6 {address}` names the peer")),
        _ => Ok(address),
    }
}

/// Reads the name of an interface, also one that two words spell together.
///
/// # Errors
///
/// No interface has such a name.
pub(in crate::config) fn interface_name(word: &str) -> Result<ArgumentValue, String> {
    let longest = ArgumentKind::InterfaceName.longest().unwrap_or_default();
    part_of_interface_name(word, "an interface name", longest)
}

fn part_of_interface_name(word: &str, what: &str, longest: usize) -> Result<ArgumentValue, String> {
    no_address_as(word, what)?;
    if let Some(odd) = word.chars().find(|c| NOT_IN_NAMES.contains(c)) {
        return Err(format!("{what} has no `{odd}` in it: {}", quoted(word)));
    }
    text(word, what, longest)
}

/// Characters that separate words elsewhere. `interface-alias` gives another name to an interface
/// whose kernel name has one of them.
const NOT_IN_NAMES: [char; 5] = [',', ';', '[', ']', '"'];

/// Refuses a word that is meant as an address in the place of `what`.
fn no_address_as(word: &str, what: &str) -> Result<(), String> {
    match address::notation(word) {
        None => Ok(()),
        Some(_) if word.parse::<IpAddr>().is_ok() => Err(format!("{} is an address, not {what}", quoted(word))),
        Some(_) => Err(format!("{}, and it cannot be {what}", address::no_address(word))),
    }
}

fn text(word: &str, what: &str, longest: usize) -> Result<ArgumentValue, String> {
    match word.chars().count() {
        length if (1..=longest).contains(&length) => Ok(ArgumentValue::Text(word.to_owned())),
        length => Err(format!("{what} has 1 to {longest} characters, this has {length}")),
    }
}

/// Reads a secret. The mask is refused: whoever gives it back means to keep the secret.
fn secret(word: &str, longest: usize) -> Result<ArgumentValue, String> {
    if word == MASK {
        return Err(format!(
            "{MASK} is shown in the place of a secret: give the secret itself, or leave the line as it is"
        ));
    }
    text(word, "a secret", longest).map(|_| ArgumentValue::Secret(Secret::from(word)))
}

/// Reads the text of a sealed secret. Whether the key of this host opens it is not known here.
fn sealed(word: &str) -> Result<ArgumentValue, String> {
    let sealed = SealedText::read(word).ok_or(
        "this is not the whole text of a sealed secret: copy it from a configuration file, or type the secret with `simple`",
    )?;
    Ok(ArgumentValue::Secret(Secret::from_sealed(sealed)))
}

/// Reads a user's name or number. The greatest number means no user (chown(2)).
fn user(word: &str, longest: usize) -> Result<ArgumentValue, String> {
    static USER_NUMBER: NumberRange = NumberRange {
        name: "NUMBER",
        subject: "a user's number is",
        unit: Unit::None,
        first: 0,
        last: u32::MAX - 1,
        or_zero: false,
    };
    if !word.is_empty() && is_decimal(word) {
        USER_NUMBER.read(word)?;
    }
    text(word, "a user's name", longest)
}

fn kernel_name(word: &str, longest: usize) -> Result<ArgumentValue, String> {
    if word.len() > longest {
        return Err(format!("a kernel interface name has 1 to {longest} bytes, this has {}", word.len()));
    }
    if word.contains(['/', ':']) || matches!(word, "" | "." | "..") {
        return Err(format!("{} cannot be the name of an interface in the kernel", quoted(word)));
    }
    if address::plain(word).is_some() {
        no_address_as(word, "the name of an interface")?;
    }
    Ok(ArgumentValue::Text(word.to_owned()))
}

/// Reads a name as certificates have them: a DNS name or an address (RFC 6125 §1.8).
fn verify_name(word: &str) -> Result<ArgumentValue, String> {
    match ServerName::try_from(word) {
        Ok(_) => Ok(ArgumentValue::Text(word.to_owned())),
        Err(_) => Err(format!("{} is neither a DNS name nor an address", quoted(word))),
    }
}

/// Reads a fingerprint, and gives it back without colons.
fn fingerprint(word: &str) -> Result<ArgumentValue, String> {
    match CertificateFingerprint::read(word) {
        Some(fingerprint) => Ok(ArgumentValue::Text(fingerprint.to_string())),
        None => Err("a fingerprint has 64 hexadecimal digits, with a colon between two octets or without".to_owned()),
    }
}

/// Reads a pattern of communities.
fn community(word: &str) -> Result<ArgumentValue, String> {
    match word.parse::<CommunityPattern>() {
        Ok(pattern) => Ok(ArgumentValue::Text(pattern.to_string())),
        Err(NoCommunity) => Err(format!(
            "{} is no community: write 65000:1, 65000:1:2, rt:65000:1 or soo:65000:1, with * for any number",
            quoted(word)
        )),
    }
}

/// Reads a route distinguisher.
fn distinguisher(word: &str) -> Result<ArgumentValue, String> {
    match RouteDistinguisher::read(word) {
        Some(distinguisher) => Ok(ArgumentValue::Text(distinguisher.to_string())),
        None => Err(format!("{} is no route distinguisher: write 65000:1 or 192.0.2.1:1", quoted(word))),
    }
}

fn vpn_instance(word: &str, longest: usize) -> Result<ArgumentValue, String> {
    if word == PUBLIC {
        return Err(format!("{PUBLIC} is how the public instance is shown: leave `vpn-instance` out for it"));
    }
    kernel_name(word, longest).map_err(|why| format!("a VPN instance has the name of its VRF device: {why}"))
}

/// Reads an AS number, plain or in the dotted form of RFC 5396 §2: `65001`, `1.10`.
fn as_number(word: &str) -> Result<u32, String> {
    /// Each half of the dotted form.
    static HALF: NumberRange = NumberRange {
        name: "NUMBER",
        subject: "each part of an AS number is",
        unit: Unit::None,
        first: 0,
        last: 0xffff,
        or_zero: false,
    };
    match word.split_once('.') {
        Some((high, low)) => AS_NUMBER.read(&(HALF.read(high)? << 16 | HALF.read(low)?).to_string()),
        None => AS_NUMBER.read(word),
    }
}

/// Reads the address of a router beside this host.
fn next_hop(word: &str, far_end: Option<IpAddr>) -> Result<IpAddr, String> {
    const WHAT: &str = "a next hop";
    let address = address::towards(far_end, word, WHAT, "the next hop")?;
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
