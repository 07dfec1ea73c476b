//! Patterns of communities: standard (RFC 1997), large (RFC 8092) and extended (RFC 4360).

use std::{fmt, net::Ipv4Addr, str::FromStr};

use super::attribute::attribute_type;

/// Sub-type of a Route Target (RFC 4360 §4).
const ROUTE_TARGET: u8 = 2;
/// Sub-type of a Route Origin, the site of origin (RFC 4360 §5).
const ROUTE_ORIGIN: u8 = 3;
/// The bit of an extended community's type that says that it stays within one AS (RFC 4360 §2).
const NON_TRANSITIVE: u8 = 0x40;

/// A number of a community, or any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommunityPart {
    /// `*`.
    Any,
    /// This number.
    Number(u32),
}

/// The administrator of an extended community.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommunityOwner {
    /// `*`.
    Any,
    /// An AS (RFC 4360 §3.1, RFC 5668).
    As(u32),
    /// An IPv4 address (RFC 4360 §3.2).
    Address(Ipv4Addr),
}

/// A pattern that communities of a route match or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommunityPattern {
    /// `65000:100`, `65000:*`.
    Standard([CommunityPart; 2]),
    /// `65000:1:*`.
    Large([CommunityPart; 3]),
    /// `rt:65000:*`, `soo:192.0.2.1:7`.
    Extended {
        /// True for a Route Target, false for a site of origin.
        is_target: bool,
        /// The administrator.
        owner: CommunityOwner,
        /// The number that the administrator has assigned.
        number: CommunityPart,
    },
}

impl CommunityPart {
    #[inline]
    fn has(self, number: u32) -> bool {
        match self {
            Self::Any => true,
            Self::Number(wanted) => wanted == number,
        }
    }

    /// Reads a number up to `most`, or `*`.
    fn read(word: &str, most: u32) -> Option<Self> {
        if word == "*" {
            return Some(Self::Any);
        }
        let is_decimal = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        let number = is_decimal.then(|| word.parse().ok()).flatten()?;
        (number <= most).then_some(Self::Number(number))
    }
}

impl CommunityPattern {
    /// The type of the path attribute that has the communities: see [`attribute_type`].
    pub fn attribute(&self) -> u8 {
        match self {
            Self::Standard(_) => attribute_type::COMMUNITIES,
            Self::Large(_) => attribute_type::LARGE_COMMUNITY,
            Self::Extended { .. } => attribute_type::EXTENDED_COMMUNITIES,
        }
    }

    /// Decides whether a community matches in the value of the [attribute](Self::attribute). The
    /// end of a value that is not a whole community is ignored.
    pub fn has_match(&self, value: &[u8]) -> bool {
        match self {
            Self::Standard([high, low]) => value.as_chunks::<4>().0.iter().any(|&[a, b, c, d]| {
                high.has(u16::from_be_bytes([a, b]).into()) && low.has(u16::from_be_bytes([c, d]).into())
            }),
            Self::Large(parts) => value.as_chunks::<12>().0.iter().any(|community| {
                let numbers = community.as_chunks::<4>().0.iter().map(|number| u32::from_be_bytes(*number));
                parts.iter().zip(numbers).all(|(part, number)| part.has(number))
            }),
            Self::Extended { is_target, owner, number } => {
                value.as_chunks::<8>().0.iter().any(|community| is_extended(community, *is_target, *owner, *number))
            }
        }
    }
}

fn is_extended(community: &[u8; 8], is_target: bool, owner: CommunityOwner, number: CommunityPart) -> bool {
    let &[kind, sub_type, a, b, c, d, e, f] = community;
    if sub_type != if is_target { ROUTE_TARGET } else { ROUTE_ORIGIN } {
        return false;
    }
    let (its_owner, its_number) = match kind & !NON_TRANSITIVE {
        0 => (CommunityOwner::As(u16::from_be_bytes([a, b]).into()), u32::from_be_bytes([c, d, e, f])),
        1 => (CommunityOwner::Address(Ipv4Addr::new(a, b, c, d)), u16::from_be_bytes([e, f]).into()),
        2 => (CommunityOwner::As(u32::from_be_bytes([a, b, c, d])), u16::from_be_bytes([e, f]).into()),
        _ => return false,
    };
    (owner == CommunityOwner::Any || owner == its_owner) && number.has(its_number)
}

/// The error for a text that is no pattern of communities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCommunity;

/// Two numbers of 16 bits, three of 32 bits, or `rt:` or `soo:` and two. Each may be `*`.
impl FromStr for CommunityPattern {
    type Err = NoCommunity;

    fn from_str(text: &str) -> Result<Self, NoCommunity> {
        const SHORT: u32 = u16::MAX as u32;
        let parts: Vec<_> = text.split(':').collect();
        let read = || match *parts.as_slice() {
            [kind @ ("rt" | "soo"), owner, number] => {
                let owner = match owner.parse() {
                    Ok(address) => CommunityOwner::Address(address),
                    Err(_) => match CommunityPart::read(owner, u32::MAX)? {
                        CommunityPart::Any => CommunityOwner::Any,
                        CommunityPart::Number(number) => CommunityOwner::As(number),
                    },
                };
                // A short administrator leaves four octets for the number.
                let most = match owner {
                    CommunityOwner::Address(_) => SHORT,
                    CommunityOwner::As(number) if number > SHORT => SHORT,
                    _ => u32::MAX,
                };
                let number = CommunityPart::read(number, most)?;
                Some(Self::Extended { is_target: kind == "rt", owner, number })
            }
            [high, low] => Some(Self::Standard([CommunityPart::read(high, SHORT)?, CommunityPart::read(low, SHORT)?])),
            [global, first, second] => {
                let all = [global, first, second].map(|word| CommunityPart::read(word, u32::MAX));
                let [Some(global), Some(first), Some(second)] = all else { return None };
                Some(Self::Large([global, first, second]))
            }
            _ => None,
        };
        read().ok_or(NoCommunity)
    }
}

impl fmt::Display for CommunityPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl fmt::Display for CommunityOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::As(number) => write!(f, "{number}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl fmt::Display for CommunityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard([high, low]) => write!(f, "{high}:{low}"),
            Self::Large([global, first, second]) => write!(f, "{global}:{first}:{second}"),
            Self::Extended { is_target, owner, number } => {
                write!(f, "{}:{owner}:{number}", if *is_target { "rt" } else { "soo" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, value: &[u8]) -> bool {
        pattern.parse::<CommunityPattern>().unwrap().has_match(value)
    }

    #[test]
    fn a_pattern_is_printed_as_it_was_read() {
        for text in [
            "65000:100",
            "*:1",
            "65000:*",
            "1:2:3",
            "*:*:*",
            "4200000000:0:*",
            "rt:65000:100",
            "soo:*:7",
            "rt:192.0.2.1:*",
            "rt:70000:1",
        ] {
            assert_eq!(text.parse::<CommunityPattern>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "1",
            "65536:1",
            "1:2:3:4",
            "1:+2",
            "rt:1",
            "rt:70000:65536",
            "rt:192.0.2.1:65536",
            "xx:1:2",
            "1:4294967296:1",
            ":",
            "no-export",
        ] {
            assert_eq!(wrong.parse::<CommunityPattern>(), Err(NoCommunity), "{wrong}");
        }
    }

    #[test]
    fn a_star_stands_for_any_number_and_every_number_must_match_in_one_community() {
        let standard = [0xfd, 0xe8, 0, 100, 0, 7, 0, 8];
        for (pattern, expected) in
            [("65000:100", true), ("65000:*", true), ("*:8", true), ("65000:8", false), ("7:*", true), ("1:1", false)]
        {
            assert_eq!(matches(pattern, &standard), expected, "{pattern}");
        }
        let large = [0, 0, 0xfd, 0xe8, 0, 0, 0, 1, 0, 0, 0, 2];
        for (pattern, expected) in [("65000:1:2", true), ("65000:*:2", true), ("*:*:3", false)] {
            assert_eq!(matches(pattern, &large), expected, "{pattern}");
        }
    }

    #[test]
    fn an_extended_community_matches_by_kind_owner_and_number() {
        let value =
            [[0, 2, 0xfd, 0xe8, 0, 1, 0, 0], [0x41, 3, 192, 0, 2, 1, 0, 7], [2, 2, 0, 1, 0x11, 0x70, 0, 9]].concat();
        for (pattern, expected) in [
            ("rt:65000:65536", true),
            ("rt:65000:*", true),
            ("soo:65000:*", false),
            ("soo:192.0.2.1:7", true),
            ("rt:192.0.2.1:7", false),
            ("rt:70000:9", true),
            ("rt:*:9", true),
            ("rt:*:7", false),
        ] {
            assert_eq!(matches(pattern, &value), expected, "{pattern}");
        }
    }

    #[test]
    fn a_cut_community_matches_nothing() {
        assert!(!matches("*:*", &[1, 2, 3]));
        assert!(!matches("*:*:*", &[0; 11]));
        assert!(!matches("rt:*:*", &[0, 2, 0]));
    }
}
