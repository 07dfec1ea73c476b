//! Path attributes (RFC 4271 §4.3, §5), as bytes.

use super::{Error, Problem};

/// The types of path attributes that bmpd knows.
pub mod attribute_type {
    /// ORIGIN (RFC 4271 §5.1.1).
    pub const ORIGIN: u8 = 1;
    /// AS_PATH (RFC 4271 §5.1.2).
    pub const AS_PATH: u8 = 2;
    /// NEXT_HOP (RFC 4271 §5.1.3).
    pub const NEXT_HOP: u8 = 3;
    /// MULTI_EXIT_DISC (RFC 4271 §5.1.4).
    pub const MULTI_EXIT_DISC: u8 = 4;
    /// LOCAL_PREF (RFC 4271 §5.1.5).
    pub const LOCAL_PREF: u8 = 5;
    /// ATOMIC_AGGREGATE (RFC 4271 §5.1.6).
    pub const ATOMIC_AGGREGATE: u8 = 6;
    /// AGGREGATOR (RFC 4271 §5.1.7).
    pub const AGGREGATOR: u8 = 7;
    /// COMMUNITIES (RFC 1997).
    pub const COMMUNITIES: u8 = 8;
    /// ORIGINATOR_ID (RFC 4456).
    pub const ORIGINATOR_ID: u8 = 9;
    /// CLUSTER_LIST (RFC 4456).
    pub const CLUSTER_LIST: u8 = 10;
    /// MP_REACH_NLRI (RFC 4760 §3).
    pub const MP_REACH_NLRI: u8 = 14;
    /// MP_UNREACH_NLRI (RFC 4760 §4).
    pub const MP_UNREACH_NLRI: u8 = 15;
    /// EXTENDED COMMUNITIES (RFC 4360).
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    /// AS4_PATH (RFC 6793 §3).
    pub const AS4_PATH: u8 = 17;
    /// AS4_AGGREGATOR (RFC 6793 §3).
    pub const AS4_AGGREGATOR: u8 = 18;
    /// PMSI_TUNNEL (RFC 6514 §5).
    pub const PMSI_TUNNEL: u8 = 22;
    /// Tunnel Encapsulation (RFC 9012).
    pub const TUNNEL_ENCAPSULATION: u8 = 23;
    /// Traffic Engineering (RFC 5543).
    pub const TRAFFIC_ENGINEERING: u8 = 24;
    /// IPv6 Address Specific Extended Community (RFC 5701).
    pub const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
    /// AIGP (RFC 7311).
    pub const AIGP: u8 = 26;
    /// PE Distinguisher Labels (RFC 6514 §8).
    pub const PE_LABELS: u8 = 27;
    /// BGP-LS Attribute (RFC 9552 §5.3).
    pub const LINK_STATE: u8 = 29;
    /// LARGE_COMMUNITY (RFC 8092).
    pub const LARGE_COMMUNITY: u8 = 32;
    /// BGPsec_Path (RFC 8205).
    pub const BGPSEC_PATH: u8 = 33;
    /// Only to Customer (RFC 9234 §5).
    pub const ONLY_TO_CUSTOMER: u8 = 35;
    /// D-PATH, for EVPN that interworks with other families.
    pub const D_PATH: u8 = 36;
    /// SFP (RFC 9015).
    pub const SFP: u8 = 37;
    /// BFD Discriminator (RFC 9026 §3.1.6).
    pub const BFD_DISCRIMINATOR: u8 = 38;
    /// BGP Prefix-SID (RFC 8669).
    pub const PREFIX_SID: u8 = 40;
    /// ATTR_SET (RFC 6368).
    pub const ATTR_SET: u8 = 128;

    /// The name of a type that is assigned, as its RFC writes it.
    pub fn name(kind: u8) -> Option<&'static str> {
        Some(match kind {
            ORIGIN => "ORIGIN",
            AS_PATH => "AS_PATH",
            NEXT_HOP => "NEXT_HOP",
            MULTI_EXIT_DISC => "MULTI_EXIT_DISC",
            LOCAL_PREF => "LOCAL_PREF",
            ATOMIC_AGGREGATE => "ATOMIC_AGGREGATE",
            AGGREGATOR => "AGGREGATOR",
            COMMUNITIES => "COMMUNITIES",
            ORIGINATOR_ID => "ORIGINATOR_ID",
            CLUSTER_LIST => "CLUSTER_LIST",
            MP_REACH_NLRI => "MP_REACH_NLRI",
            MP_UNREACH_NLRI => "MP_UNREACH_NLRI",
            EXTENDED_COMMUNITIES => "EXTENDED COMMUNITIES",
            AS4_PATH => "AS4_PATH",
            AS4_AGGREGATOR => "AS4_AGGREGATOR",
            PMSI_TUNNEL => "PMSI_TUNNEL",
            TUNNEL_ENCAPSULATION => "Tunnel Encapsulation",
            TRAFFIC_ENGINEERING => "Traffic Engineering",
            IPV6_EXTENDED_COMMUNITIES => "IPv6 Address Specific Extended Community",
            AIGP => "AIGP",
            PE_LABELS => "PE Distinguisher Labels",
            LINK_STATE => "BGP-LS Attribute",
            LARGE_COMMUNITY => "LARGE_COMMUNITY",
            BGPSEC_PATH => "BGPsec_Path",
            ONLY_TO_CUSTOMER => "OTC",
            D_PATH => "D-PATH",
            SFP => "SFP",
            BFD_DISCRIMINATOR => "BFD Discriminator",
            PREFIX_SID => "BGP Prefix-SID",
            ATTR_SET => "ATTR_SET",
            _ => return None,
        })
    }
}

/// The flags of a path attribute (RFC 4271 §4.3).
pub mod attribute_flags {
    /// The attribute is optional, not well-known.
    pub const OPTIONAL: u8 = 0x80;
    /// A router that does not know the attribute passes it on.
    pub const TRANSITIVE: u8 = 0x40;
    /// The length has two octets.
    pub const EXTENDED_LENGTH: u8 = 0x10;
}

/// One path attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Flags: see [`attribute_flags`].
    pub flags: u8,
    /// Its type: see [`attribute_type`].
    pub kind: u8,
    /// Its value.
    pub value: &'a [u8],
    /// The offset of its start, in bytes from the start of the attributes.
    pub at: usize,
    /// The offset of its end.
    pub end: usize,
}

/// Reads the attributes in `bytes`. An attribute that is not whole is an error, and the end.
pub fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes { bytes, at: 0 }
}

/// See [`attributes`].
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let at = self.at;
        let header = match *rest {
            [flags, kind, high, low, ..] if flags & attribute_flags::EXTENDED_LENGTH != 0 => {
                Some((flags, kind, usize::from(u16::from_be_bytes([high, low])), 4))
            }
            [flags, kind, length, ..] if flags & attribute_flags::EXTENDED_LENGTH == 0 => {
                Some((flags, kind, usize::from(length), 3))
            }
            _ => None,
        };
        let short = |what, need, found| Some(Err(Error::new(at, Problem::Short { what, need, found })));
        let Some((flags, kind, length, start)) = header else {
            self.at = self.bytes.len();
            return short("the header of a path attribute", rest.len() + 1, rest.len());
        };
        let Some(value) = rest.get(start..start + length) else {
            self.at = self.bytes.len();
            return short("the value of a path attribute", start + length, rest.len());
        };
        self.at = at + start + length;
        Some(Ok(Attribute { flags, kind, value, at, end: self.at }))
    }
}

/// True if an attribute is as RFC 7606 §7 demands. If not, its routes have to be treated as
/// withdrawn. `as_size` is the size of an AS number in AS_PATH and AGGREGATOR, in bytes.
///
/// Checks only for errors that lead to treat-as-withdraw. Attributes that a router would discard
/// stay: bmpd passes them on and does not act on them.
#[inline]
pub(super) fn is_well_formed(attribute: &Attribute<'_>, as_size: usize) -> bool {
    use attribute_type as t;
    let &Attribute { flags, kind, value, .. } = attribute;
    // §3 (c): the Optional and Transitive bits must be those of the attribute's class. An optional
    // attribute may have a wrong Partial bit. A non-transitive one has neither.
    let class = flags & (attribute_flags::OPTIONAL | attribute_flags::TRANSITIVE);
    let expected = match kind {
        t::ORIGIN | t::AS_PATH | t::NEXT_HOP | t::LOCAL_PREF => Some(attribute_flags::TRANSITIVE),
        t::MULTI_EXIT_DISC | t::ORIGINATOR_ID | t::CLUSTER_LIST => Some(attribute_flags::OPTIONAL),
        t::COMMUNITIES | t::EXTENDED_COMMUNITIES | t::LARGE_COMMUNITY => {
            Some(attribute_flags::OPTIONAL | attribute_flags::TRANSITIVE)
        }
        _ => None,
    };
    if expected.is_some_and(|expected| expected != class) {
        return false;
    }
    match kind {
        t::ORIGIN => matches!(value, [0..=2]),
        t::AS_PATH => is_as_path(value, as_size),
        t::NEXT_HOP | t::MULTI_EXIT_DISC | t::LOCAL_PREF | t::ORIGINATOR_ID => value.len() == 4,
        t::CLUSTER_LIST | t::COMMUNITIES => !value.is_empty() && value.len().is_multiple_of(4),
        t::EXTENDED_COMMUNITIES => !value.is_empty() && value.len().is_multiple_of(8),
        t::LARGE_COMMUNITY => !value.is_empty() && value.len().is_multiple_of(12),
        _ => true,
    }
}

/// True if an attribute has a meaning only between routers of one AS.
pub(super) fn is_within_as(kind: u8) -> bool {
    matches!(kind, attribute_type::LOCAL_PREF | attribute_type::ORIGINATOR_ID | attribute_type::CLUSTER_LIST)
}

/// True if segments of known types fill the attribute, and none is empty (RFC 7606 §7.2).
fn is_as_path(mut path: &[u8], as_size: usize) -> bool {
    while let [kind, count, rest @ ..] = path {
        let Some(rest) = rest.get(usize::from(*count) * as_size..) else { return false };
        // AS_SET, AS_SEQUENCE, AS_CONFED_SEQUENCE, AS_CONFED_SET (RFC 4271 §4.3, RFC 5065 §3).
        if !(1..=4).contains(kind) || *count == 0 {
            return false;
        }
        path = rest;
    }
    path.is_empty()
}

/// The size in bytes of the AS numbers in an AS_PATH: `said`, unless only the other size fits the
/// path.
pub fn as_path_size(path: &[u8], said: usize) -> usize {
    let other = if said == 2 { 4 } else { 2 };
    if !is_as_path(path, said) && is_as_path(path, other) { other } else { said }
}

/// True if a well-formed AS_PATH has AS 0.
pub(super) fn has_as_0(mut path: &[u8], as_size: usize) -> bool {
    while let [_, count, rest @ ..] = path {
        let Some((numbers, rest)) = rest.split_at_checked(usize::from(*count) * as_size) else { return false };
        let found = match as_size {
            4 => numbers.as_chunks::<4>().0.contains(&[0; 4]),
            _ => numbers.as_chunks::<2>().0.contains(&[0; 2]),
        };
        if found {
            return true;
        }
        path = rest;
    }
    false
}
