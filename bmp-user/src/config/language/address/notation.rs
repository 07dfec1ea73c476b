//! Which words are meant as addresses, right or wrong.
//!
//! A mistyped address must never become the name of an interface: the session would wait for an
//! interface that nobody has. A word is meant as an address if it is one, if it is made of what
//! addresses are made of ([`plain`]), or if a slip of the hand lies between it and an address
//! ([`Slip`]).

use std::net::{IpAddr, Ipv4Addr};

use crate::config::language::line::quoted;

/// The way in which a word is meant as an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Notation {
    DottedDecimal,
    ColonHex,
}

/// The longest text of an address (RFC 4291 §2.2, form 3), and one character more.
const LONGEST: usize = 46;

/// Decides whether a word is meant as an address, right or wrong. Such a word is never the name
/// that an operator gives to an interface.
pub(in crate::config) fn notation(word: &str) -> Option<Notation> {
    plain(word).or_else(|| Slip::find(word).map(|slip| slip.notation))
}

/// Decides whether a word is made of what addresses are made of. Such a word is not taken for the
/// name of an interface in the kernel either.
///
/// These words are: digits and dots; hexadecimal digits and colons; four parts with dots of which
/// the first is a number; at least two colons behind a hexadecimal number; each of them also with a
/// zone (`%eth0`) or a prefix length (`/24`) behind it.
pub(in crate::config) fn plain(word: &str) -> Option<Notation> {
    let bare = bare(word);
    let digits_and_dots =
        |text: &str| text.contains('.') && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let Some((first, behind)) = bare.split_once(':') else {
        let mut parts = bare.split('.');
        let four = parts.next().is_some_and(is_number) && parts.count() == 3;
        return (digits_and_dots(bare) || four).then_some(Notation::DottedDecimal);
    };
    // With a port behind it.
    if digits_and_dots(first) && !behind.contains(':') {
        return Some(Notation::DottedDecimal);
    }
    let hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let all = bare.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
    let begun = first.len() <= 4 && hexadecimal(first) && behind.contains(':');
    (all || begun).then_some(Notation::ColonHex)
}

/// Without zone and prefix length.
fn bare(word: &str) -> &str {
    word.split(['%', '/']).next().unwrap_or_default()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What made a word of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Slip {
    notation: Notation,
    /// What is wrong with the word, and what may be meant.
    pub(super) fault: String,
}

impl Slip {
    /// Finds the slip of a word that is not [`plain`].
    pub(in crate::config) fn find(word: &str) -> Option<Self> {
        Self::brackets(word)
            .or_else(|| Self::joined(word))
            .or_else(|| Self::groups(bare(word)))
            .or_else(|| Self::glued(bare(word)))
            .or_else(|| Self::character(word))
            .or_else(|| Self::character(bare(word)))
    }

    /// What is wrong as it is said of a notation: `an IPv6 address`, `a dotted-decimal address`.
    pub(in crate::config) fn article_and_noun(&self) -> &'static str {
        match self.notation {
            Notation::DottedDecimal => "a dotted-decimal address",
            Notation::ColonHex => "an IPv6 address",
        }
    }

    /// `[fd00:8::1]`, `[fd00:8::1]:179`
    fn brackets(word: &str) -> Option<Self> {
        let begin = word.find('[')? + 1;
        let inner = word.get(begin..)?.split(']').next()?;
        let notation = of_address(inner).or_else(|| plain(inner))?;
        Some(Self { notation, fault: format!("an address stands without brackets and without a port: {inner}") })
    }

    /// `e1,10.8.0.1`, `e1/10.8.0.1`, `e1.10.8.0.1`, `10.8.0.1,e1`: an address and another word.
    fn joined(word: &str) -> Option<Self> {
        let separated = word.char_indices().filter(|(_, c)| [',', '/', ';', '=', '@', '%', ':', '.'].contains(c));
        separated.into_iter().find_map(|(at, separator)| {
            let (before, behind) = (word.get(..at)?, word.get(at + separator.len_utf8()..)?);
            // Dots and colons are parts of addresses too.
            let of = |text: &str| match separator {
                '.' | ':' => text.parse::<Ipv4Addr>().ok().map(|_| Notation::DottedDecimal),
                _ => of_address(text).or_else(|| is_dotted(text).then_some(Notation::DottedDecimal)),
            };
            let (notation, words) = match (of(before), of(behind)) {
                (None, Some(notation)) if !before.is_empty() => (notation, format!("`{before} {behind}`")),
                (Some(notation), None) if !behind.is_empty() => (notation, format!("`{behind} {before}`")),
                _ => return None,
            };
            Some(Self { notation, fault: format!("an interface and an address are two words: {words}") })
        })
    }

    /// `10-8-0-1`, `10,8,0,1`, `l0.8.0.1`, `0x0a.8.0.1`: four numbers, or what looks like them.
    fn groups(word: &str) -> Option<Self> {
        let groups: Vec<_> = word.split(['.', ',', '-', '_', ';']).collect();
        if groups.len() != 4 || !groups.iter().all(|group| looks_like_number(group)) {
            return None;
        }
        let odd = groups.iter().find(|group| !is_number(group));
        let fault = match odd {
            Some(group) if group.contains(['x', 'X']) => {
                format!("{} is not a decimal number from 0 to 255", quoted(group))
            }
            Some(group) => format!("{} is not a number, but has a letter in it that looks like one", quoted(group)),
            None => "its four numbers are separated by dots".to_owned(),
        };
        Some(Self { notation: Notation::DottedDecimal, fault })
    }

    /// `eth010.8.0.1`: three numbers behind something that ends with one. No interface has so many
    /// VLAN tags.
    fn glued(word: &str) -> Option<Self> {
        let (first, behind) = word.split_once('.')?;
        let numbers = behind.split('.').collect::<Vec<_>>();
        // A tunnel may be named after its far end: `gre-10.8.0.1`.
        let is_meant = numbers.len() == 3
            && numbers.into_iter().all(is_number)
            && first.ends_with(|last: char| last.is_ascii_digit())
            && !first.contains(['-', '_']);
        let fault = || format!("{} is not a number (an interface and an address are two words)", quoted(first));
        is_meant.then(|| Self { notation: Notation::DottedDecimal, fault: fault() })
    }

    /// One character more, one less, or another one, and it would be an address.
    fn character(word: &str) -> Option<Self> {
        // Any digit would do, but for the limit of 255 and for zeroes in front.
        const CANDIDATES: [char; 4] = ['1', '0', '.', ':'];
        let characters: Vec<char> = word.chars().collect();
        if characters.len() > LONGEST || !word.contains(':') && word.matches('.').count() < 2 {
            return None;
        }
        let parsed = |before: &[char], new: Option<char>, behind: &[char]| {
            of_address(&before.iter().copied().chain(new).chain(behind.iter().copied()).collect::<String>())
        };
        let at = |at: usize| {
            let (before, behind) = characters.split_at(at);
            let replaced = behind.get(1..);
            let with = |new| parsed(before, new, behind).or_else(|| parsed(before, new, replaced?));
            CANDIDATES.into_iter().find_map(|new| with(Some(new))).or_else(|| parsed(before, None, replaced?))
        };
        let notation = (0..=characters.len()).find_map(at)?;
        Some(Self { notation, fault: "one character of it is wrong, is missing, or is too many".to_owned() })
    }
}

fn of_address(text: &str) -> Option<Notation> {
    match text.parse() {
        Ok(IpAddr::V4(_)) => Some(Notation::DottedDecimal),
        Ok(IpAddr::V6(_)) => Some(Notation::ColonHex),
        Err(_) => None,
    }
}

/// Four numbers with dots, whatever their size.
fn is_dotted(text: &str) -> bool {
    text.split('.').count() == 4 && text.split('.').all(is_number)
}

/// A decimal or hexadecimal number, also with letters that look like digits.
fn looks_like_number(text: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_digit() || matches!(c, 'l' | 'I' | '|' | 'i' | 'o' | 'O');
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let hexadecimal = hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    !text.is_empty() && (hexadecimal || text.chars().all(is_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of interfaces as Linux, udev, systemd, container runtimes and carrier routers give
    /// them.
    const NAMES: &str = "eth0 eth1 eth0.100 eth0.100.200 bond0.10 ens1f0np0 enp0s31f6 enx001122334455 eno1 wlp3s0 wlan0 wg-10-8 wg0 vlan10 \
                         vlan-10-8-0 br-lan br-4f1c2a9d0b77 virbr0-nic veth@if3 veth1a2b3c4 veth-10-8-0-1 docker0 cni0 flannel.1 cilium_host lxc1234 \
                         vxlan.calico tun10 tap0 ppp0 gre1 gre-10.8.0.1 sit0 ip6tnl0 xfrm0 vti64 dummy0 ifb0 macvlan0 ipvlan0 can0 team0.7 up2.7 e0 e1 lo \
                         LoopBack0 1 100GE1/0/1 100GE1/0/1.7 GigabitEthernet0/1/0 GigabitEthernet0/1/0.100 0/1/0 0/1/0.100 Gi0/0/0/1 Gi0/0/0/1.100 \
                         HundredGigE0/0/0/1/0:3 Gi0:1 xe-0/0/1 xe-0/0/1.100 ge-1/2/3:0 Eth-Trunk7 Eth-Trunk7.20 ae0.100 irb.10 pci-0000:03:00.0 face a.b.c.d \
                         uplink-a mgmt p1p2 swp1s0 swp1.100 Ethernet1/1 Vlan100 port1.0.1";

    #[test]
    fn names_of_interfaces_are_not_meant_as_addresses() {
        for word in NAMES.split_whitespace() {
            assert_eq!(notation(word), None, "{word}");
        }
    }

    #[test]
    fn digits_with_dots_and_hexadecimal_digits_with_colons_are_meant_as_addresses() {
        let dotted = "10.8.0.256 10.8.0 10.8 010.8.0.1 10.8.0.1. .0.1 10..8 10.8.0.1/24 10.8.0.1:179 10.8.0.l 10.8.0.x1 10.8.0.1.2 192.0.2.1";
        for word in dotted.split(' ') {
            assert_eq!(plain(word), Some(Notation::DottedDecimal), "{word}");
        }
        let colons = "fe80::1%e1 fe80::1% fe80:1 ::1 : 2001:db8::g1 2001:db8::1/64 1:2:3:4:5:6:7:8:9 00:11:22:33:44:55 ::ffff:10.8.0.1 2001:db8::1";
        for word in colons.split(' ') {
            assert_eq!(plain(word), Some(Notation::ColonHex), "{word}");
        }
    }

    #[test]
    fn a_slip_of_the_hand_does_not_make_a_name_of_an_address() {
        for (word, fault) in [
            ("[fd00:8::1]", "without brackets and without a port: fd00:8::1"),
            ("[fd00:8::1]:179", "without brackets and without a port: fd00:8::1"),
            ("[10.8.0.1]", "without brackets"),
            ("10,8,0,1", "separated by dots"),
            ("10-8-0-1", "separated by dots"),
            ("10_8_0_1", "separated by dots"),
            ("10.8,0.1", "separated by dots"),
            ("0x0a.8.0.1", "`0x0a` is not a decimal number from 0 to 255"),
            ("l0.8.0.1", "`l0` is not a number, but has a letter in it that looks like one"),
            ("lO.8.0.1", "`lO` is not a number"),
            ("l0.8.0.1/24", "`l0` is not a number"),
            ("e1,10.8.0.1", "two words: `e1 10.8.0.1`"),
            ("e1/10.8.0.1", "two words: `e1 10.8.0.1`"),
            ("e1.10.8.0.1", "two words: `e1 10.8.0.1`"),
            ("e1:10.8.0.1", "two words: `e1 10.8.0.1`"),
            ("e1@10.8.0.256", "two words: `e1 10.8.0.256`"),
            ("e1/fd00:8::1", "two words: `e1 fd00:8::1`"),
            ("10.8.0.1,e1", "two words: `e1 10.8.0.1`"),
            ("eth010.8.0.1", "two words"),
            ("e0.8.0.1", "`e0` is not a number"),
            ("gd00:8::1", "one character"),
            ("fd00:8::l", "one character"),
            ("fd00.8::1", "one character"),
            ("fe8O::1%e1", "one character"),
        ] {
            let slip = Slip::find(word);
            assert!(slip.as_ref().is_some_and(|slip| slip.fault.contains(fault)), "{word}: {slip:?}");
            assert!(notation(word).is_some(), "{word}");
        }
    }
}
