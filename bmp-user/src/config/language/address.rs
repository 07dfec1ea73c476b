//! Addresses in commands: which words are meant as one, and which addresses a command refuses.

mod notation;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::line::quoted;
use crate::config::prefix::Prefix;
use notation::{Notation, Slip};

pub(in crate::config) use notation::{notation, plain};

/// Decides whether a word can be the number of an interface's type. One dot is that of a
/// subinterface: `1.100`.
pub(in crate::config) fn is_number_of_interface(word: &str) -> bool {
    let subinterface = word.split_once('.').is_some_and(|(number, sub)| {
        [number, sub].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    });
    subinterface || notation(word).is_none()
}

/// Reads an address.
///
/// # Errors
///
/// The word is no address: says what it was taken for.
pub(in crate::config) fn read(word: &str) -> Result<IpAddr, String> {
    word.parse().map_err(|_| no_address(word))
}

/// Says why a word is no address.
pub(in crate::config) fn no_address(word: &str) -> String {
    let quoted = quoted(word);
    match plain(word) {
        None => match Slip::find(word) {
            Some(slip) => format!("{quoted} is not {}: {}", slip.article_and_noun(), slip.fault),
            None => format!("{quoted} is not an IP address"),
        },
        Some(Notation::DottedDecimal) => match fault_of_dotted_decimal(word) {
            Some(fault) => format!("{quoted} is not a dotted-decimal address: {fault}"),
            None => format!("{quoted} is not a dotted-decimal address"),
        },
        Some(Notation::ColonHex) => match word.split_once('%') {
            Some((address, zone)) => format!(
                "{quoted} is not an IPv6 address: a zone is named as an interface, `connect-interface {zone} {address}`"
            ),
            None => format!("{quoted} is not an IPv6 address"),
        },
    }
}

fn fault_of_dotted_decimal(word: &str) -> Option<String> {
    if let Some((_, length)) = word.split_once('/') {
        return Some(format!("no prefix length, /{length}, belongs here"));
    }
    if word.contains(':') {
        return Some("no port belongs here".to_owned());
    }
    let parts: Vec<_> = word.split('.').collect();
    if parts.len() != 4 {
        return Some(format!("it has {} parts, and not 4", parts.len()));
    }
    parts.into_iter().find_map(|part| match part.parse::<u32>() {
        Ok(number) if number > 255 => Some(format!("{number} is more than 255")),
        Ok(_) if part.len() > 1 && part.starts_with('0') => Some(format!("{part} begins with a zero")),
        Ok(_) => None,
        Err(_) if part.is_empty() => Some("a part is empty".to_owned()),
        Err(_) => Some(format!("{} is not a number", quoted(part))),
    })
}

/// Reads the address of one host: neither all of them nor none.
///
/// # Errors
///
/// The word is no address, or no host has it. `what` it was to be, with its article, is in the
/// sentence.
pub(in crate::config) fn unicast(word: &str, what: &str) -> Result<IpAddr, String> {
    let address = read(word)?;
    if let Some(v4) = mapped(address) {
        // Written as what it is, it can be told from an IPv6 session.
        return Err(format!("{address} is IPv4 written as IPv6: write {v4}"));
    }
    match no_host_has(address) {
        Some(why) => Err(format!("{address} is {why}, which cannot be {what}")),
        None => Ok(address),
    }
}

/// The IPv4 address that is written as IPv6. The kernel sends IPv4 for it, and says IPv4 of whoever
/// comes by it.
fn mapped(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    }
}

/// Says why no host has the address.
fn no_host_has(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        // RFC 1122 §3.2.1.3.
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("an address of 0.0.0.0/8, \"this network\""),
        // RFC 1112 §4.
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => Some("an address of 240.0.0.0/4, which is reserved"),
        _ => None,
    }
}

/// Reads an address of this host towards `far`, or the router that leads there: of the family of
/// `far`. `what` it is to be with an indefinite article, and `which` with a definite one.
///
/// # Errors
///
/// It is no unicast address of that family, or a loopback address towards another host.
pub(in crate::config) fn towards(far: Option<IpAddr>, word: &str, what: &str, which: &str) -> Result<IpAddr, String> {
    let address = unicast(word, what)?;
    match far {
        Some(IpAddr::V4(far)) if address.is_ipv6() => {
            Err(format!("the station {far} is IPv4, so {which} must be IPv4"))
        }
        Some(IpAddr::V6(far)) if address.is_ipv4() => {
            Err(format!("the station {far} is IPv6, so {which} must be IPv6"))
        }
        Some(far) if address.is_loopback() && !far.is_loopback() => {
            Err(format!("{address} is a loopback address, which cannot be {what} towards {far}: that is another host"))
        }
        _ => Ok(address),
    }
}

/// Reads the prefix, or the address, of those who may connect.
///
/// # Errors
///
/// It is no prefix, or nobody connects from an address of it.
pub(in crate::config) fn prefix(word: &str) -> Result<Prefix, String> {
    let (address, length) = match word.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (word, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(match notation(address) {
            Some(_) => no_address(address),
            None => format!("{} is not an IP prefix", quoted(word)),
        });
    };
    let width = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => width,
        Some(length) => match length.parse::<u8>() {
            Ok(number) if number <= width && length.bytes().all(|byte| byte.is_ascii_digit()) => number,
            _ => return Err(format!("the length of a prefix of this family is a number from 0 to {width}")),
        },
    };
    if let Some(v4) = mapped(address) {
        let write = match length.checked_sub(MAPPED) {
            Some(32) => v4.to_string(),
            Some(length) => format!("{v4}/{length}"),
            None => "the IPv4 prefix".to_owned(),
        };
        return Err(format!("{} is IPv4 written as IPv6: write {write}", quoted(word)));
    }
    let Some(prefix) = Prefix::new(address, length) else {
        return Err(format!("{} has bits behind its length", quoted(word)));
    };
    match no_host_has(address) {
        // 0.0.0.0/0 and ::/0 hold those that there are.
        Some(why) if !(address.is_unspecified() && length < if address.is_ipv4() { 8 } else { width }) => {
            Err(format!("{address} is {why}: nobody connects from there"))
        }
        _ => Ok(prefix),
    }
}

/// How long the prefix of the IPv4 addresses that are written as IPv6 is (RFC 4291 §2.5.5.2).
const MAPPED: u8 = 96;

/// Reads an address of this host to listen on; the unspecified address is all of them.
///
/// # Errors
///
/// It is no unicast address, or one that means something on one link alone.
pub(in crate::config) fn listen(word: &str) -> Result<IpAddr, String> {
    match word.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => Ok(address),
        Ok(IpAddr::V6(v6)) if v6.is_unicast_link_local() => Err(format!(
            "{v6} means something on one link alone, so that it needs a zone, which cannot be said here: listen on {}, \
             and say by `allow {v6}/128` or `allow fe80::/10` who may connect",
            Ipv6Addr::UNSPECIFIED
        )),
        _ => unicast(word, "an address to listen on"),
    }
}

/// Reads a BGP identifier.
///
/// # Errors
///
/// It is no IPv4 address, or zero.
pub(in crate::config) fn bgp_identifier(word: &str) -> Result<IpAddr, String> {
    const WHAT: &str = "a BGP identifier is an IPv4 address other than 0.0.0.0";
    match word.parse::<Ipv4Addr>() {
        Ok(id) if !id.is_unspecified() => Ok(id.into()),
        Err(_) if notation(word) == Some(Notation::DottedDecimal) => Err(format!("{}; {WHAT}", no_address(word))),
        _ => Err(format!("{} is not a BGP identifier; {WHAT}", quoted(word))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_an_interface_may_have_the_dot_of_a_subinterface() {
        for word in ["1", "1.100", "0/1/0", "0/1/0.100", "1a"] {
            assert!(is_number_of_interface(word), "{word}");
        }
        for word in ["10.8.0", "10.8.0.1", "1.", ".1", "10.8.0.256", "fe80::1", "1:2"] {
            assert!(!is_number_of_interface(word), "{word}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        for (word, fault) in [
            ("10.8.0.256", "256 is more than 255"),
            ("10.8.0", "it has 3 parts, and not 4"),
            ("010.8.0.1", "010 begins with a zero"),
            ("10.8.0.1/24", "no prefix length"),
            ("10.8.0.1:179", "no port"),
            ("10.8..1", "a part is empty"),
            ("fe80::1%e1", "connect-interface e1 fe80::1"),
            ("2001:db8::g1", "is not an IPv6 address"),
            ("l0.8.0.1", "`l0.8.0.1` is not a dotted-decimal address: `l0` is not a number"),
            ("[fd00:8::1]", "`[fd00:8::1]` is not an IPv6 address: an address stands without brackets"),
            ("localhost", "is not an IP address"),
        ] {
            let said = read(word).unwrap_err();
            assert!(said.contains(fault), "{word}: {said}");
        }
    }

    #[test]
    fn addresses_that_no_host_has_are_refused() {
        for word in
            ["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "ff02::1"]
        {
            assert!(unicast(word, "a station's address").is_err(), "{word}");
        }
        for word in ["1.0.0.0", "127.0.0.1", "223.255.255.255", "fe80::1", "::1"] {
            assert!(unicast(word, "a station's address").is_ok(), "{word}");
        }
        for word in ["0.0.0.0/0", "::/0", "0.0.0.0/1", "10.0.0.0/8", "127.0.0.0/8", "2001:db8::/32", "192.0.2.1"] {
            assert!(prefix(word).is_ok(), "{word}");
        }
        for (word, written) in [
            ("::ffff:10.8.0.1", "write 10.8.0.1"),
            ("::ffff:10.8.0.0/120", "write 10.8.0.0/24"),
            ("::ffff:0:0/96", "write 0.0.0.0/0"),
        ] {
            let said = prefix(word).unwrap_err();
            assert!(said.ends_with(written), "{word}: {said}");
        }
        for word in
            ["0.0.0.0/8", "0.0.0.0", "224.0.0.0/4", "240.0.0.0/4", "ff00::/8", "10.8.0/24", "10.8.0.256/32", "::"]
        {
            assert!(prefix(word).is_err(), "{word}");
        }
    }

    #[test]
    fn a_link_local_address_cannot_be_listened_on() {
        assert!(listen("::").is_ok() && listen("0.0.0.0").is_ok() && listen("2001:db8::1").is_ok());
        assert!(listen("fe80::1").unwrap_err().contains("listen on ::, and say by `allow fe80::1/128`"));
        assert!(listen("::ffff:10.8.0.1").unwrap_err().contains("write 10.8.0.1"));
    }

    #[test]
    fn a_loopback_address_leads_to_no_other_host() {
        let of = |far: &str, word: &str| towards(far.parse().ok(), word, "a source address", "the source address");
        assert!(of("198.51.100.7", "127.0.0.1").unwrap_err().contains("loopback"));
        assert!(of("2001:db8::7", "::1").unwrap_err().contains("loopback"));
        assert!(
            of("127.0.0.9", "127.0.0.1").is_ok() && of("::1", "::1").is_ok() && of("127.0.0.1", "192.0.2.1").is_ok()
        );
        assert!(towards(None, "127.0.0.1", "a source address", "the source address").is_ok());
    }
}
