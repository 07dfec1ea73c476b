//! The per-peer header (RFC 7854 §4.2).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{COMMON_HEADER, Error, Frame, MessageType};
use crate::wire::reader::ByteReader;

/// The flags of the per-peer header.
pub mod peer_flags {
    /// V: the peer address is IPv6 (RFC 7854 §4.2). Not for Loc-RIB peers.
    pub const IPV6: u8 = 0x80;
    /// L: the message reports a RIB after policy (RFC 7854 §4.2).
    pub const POST_POLICY: u8 = 0x40;
    /// A: AS paths have the legacy 2-byte format (RFC 7854 §4.2).
    pub const TWO_BYTE_AS: u8 = 0x20;
    /// O: the message reports an Adj-RIB-Out (RFC 8671 §4).
    pub const ADJ_RIB_OUT: u8 = 0x10;
    /// F: the Loc-RIB is filtered (RFC 9069 §4.2). Of Loc-RIB peers only.
    pub const FILTERED: u8 = 0x80;
}

/// The peer type of the per-peer header. Keeps types that are not assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerType(pub u8);

impl PeerType {
    /// Global Instance Peer (RFC 7854 §4.2).
    pub const GLOBAL: Self = Self(0);
    /// RD Instance Peer (RFC 7854 §4.2).
    pub const RD: Self = Self(1);
    /// Local Instance Peer (RFC 7854 §4.2).
    pub const LOCAL: Self = Self(2);
    /// Loc-RIB Instance Peer (RFC 9069 §4.1).
    pub const LOC_RIB: Self = Self(3);
}

/// A route distinguisher (RFC 4364 §4.2), as bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteDistinguisher(pub [u8; 8]);

impl RouteDistinguisher {
    /// The distinguisher of a peer that has none.
    pub const ZERO: Self = Self([0; 8]);

    /// True if all bytes are zero.
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Reads the form that operators write. An AS number beyond 65535 makes type 2, and an address
    /// type 1. Returns `None` for anything else.
    pub fn read(text: &str) -> Option<Self> {
        let (owner, number) = text.split_once(':')?;
        let decimal = |word: &str| {
            let is_decimal = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
            is_decimal.then(|| word.parse::<u32>().ok()).flatten()
        };
        let number = decimal(number)?;
        let short = || u16::try_from(number).ok().map(u16::to_be_bytes);
        Some(Self(match (owner.parse::<Ipv4Addr>(), decimal(owner)) {
            (Ok(address), _) => {
                let ([a, b, c, d], [e, g]) = (address.octets(), short()?);
                [0, 1, a, b, c, d, e, g]
            }
            (Err(_), Some(asn)) => match u16::try_from(asn) {
                Ok(asn) => {
                    let ([a, b], [c, d, e, g]) = (asn.to_be_bytes(), number.to_be_bytes());
                    [0, 0, a, b, c, d, e, g]
                }
                Err(_) => {
                    let ([a, b, c, d], [e, g]) = (asn.to_be_bytes(), short()?);
                    [0, 2, a, b, c, d, e, g]
                }
            },
            (Err(_), None) => return None,
        }))
    }
}

/// As operators write it: `65000:1`, `192.0.2.1:1`.
impl fmt::Display for RouteDistinguisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [k0, k1, a, b, c, d, e, g] = self.0;
        match u16::from_be_bytes([k0, k1]) {
            1 => write!(f, "{a}.{b}.{c}.{d}:{}", u16::from_be_bytes([e, g])),
            2 => write!(f, "{}:{}", u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, g])),
            _ => write!(f, "{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, g])),
        }
    }
}

/// A RIB of a peer or of the router (RFC 7854 §4.2, RFC 8671 §4, RFC 9069 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RibView {
    /// Adj-RIB-In before policy.
    AdjRibInPre,
    /// Adj-RIB-In after policy.
    AdjRibInPost,
    /// Adj-RIB-Out before policy.
    AdjRibOutPre,
    /// Adj-RIB-Out after policy.
    AdjRibOutPost,
    /// Loc-RIB.
    LocRib,
}

impl RibView {
    /// All views.
    pub const ALL: [Self; 5] =
        [Self::AdjRibInPre, Self::AdjRibInPost, Self::AdjRibOutPre, Self::AdjRibOutPost, Self::LocRib];
}

/// The key of a peer within one BMP stream (RFC 7854 §4.2): type, distinguisher and address of the
/// per-peer header, as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey {
    /// Peer type.
    pub peer_type: PeerType,
    /// Peer distinguisher: a route distinguisher, or zero.
    pub distinguisher: RouteDistinguisher,
    /// Peer address; IPv4 in the last four bytes.
    pub address: [u8; 16],
}

impl PeerKey {
    /// The peer of a frame; `None` for Initiation, Termination and types that are not assigned.
    #[inline]
    pub fn of(frame: &Frame<'_>) -> Option<Self> {
        match frame.message_type()? {
            MessageType::Initiation | MessageType::Termination => None,
            _ => {
                let (&[peer_type, _flags], rest) = frame.bytes().get(COMMON_HEADER..)?.split_first_chunk()?;
                let (&distinguisher, rest) = rest.split_first_chunk()?;
                let &address = rest.first_chunk()?;
                let distinguisher = RouteDistinguisher(distinguisher);
                Some(Self { peer_type: PeerType(peer_type), distinguisher, address })
            }
        }
    }
}

/// The key of a peer, with its AS and BGP identifier.
///
/// Two neighbours on unnumbered links may have one link-local address, and so one [`PeerKey`]. This
/// tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIdentity {
    /// Type, distinguisher and address.
    pub key: PeerKey,
    /// Peer AS.
    pub asn: u32,
    /// Peer BGP ID.
    pub bgp_id: Ipv4Addr,
}

impl PeerIdentity {
    /// True if both may be one peer. A router writes zero for an AS or BGP ID that it does not
    /// know.
    pub fn may_be(&self, other: &Self) -> bool {
        let is_alike = |mine: u32, its: u32| mine == its || mine == 0 || its == 0;
        self.key == other.key
            && is_alike(self.asn, other.asn)
            && is_alike(self.bgp_id.to_bits(), other.bgp_id.to_bits())
    }
}

/// A per-peer header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerHeader {
    /// Type, distinguisher and address.
    pub key: PeerKey,
    /// Flags: see [`peer_flags`].
    pub flags: u8,
    /// Peer AS.
    pub asn: u32,
    /// Peer BGP ID.
    pub bgp_id: Ipv4Addr,
    /// When the router received the reported message, in seconds since the epoch; zero if it does
    /// not know.
    pub seconds: u32,
    /// Microseconds to add to `seconds`.
    pub microseconds: u32,
}

impl PeerHeader {
    pub(super) fn parse(reader: &mut ByteReader<'_>) -> Result<Self, Error> {
        const WHAT: &str = "the per-peer header";
        let [peer_type, flags] = reader.array(WHAT)?;
        let key = PeerKey {
            peer_type: PeerType(peer_type),
            distinguisher: RouteDistinguisher(reader.array(WHAT)?),
            address: reader.array(WHAT)?,
        };
        Ok(Self {
            key,
            flags,
            asn: reader.u32(WHAT)?,
            bgp_id: Ipv4Addr::from(reader.u32(WHAT)?),
            seconds: reader.u32(WHAT)?,
            microseconds: reader.u32(WHAT)?,
        })
    }

    /// The per-peer header of a frame; `None` for Initiation, Termination and types that are not
    /// assigned.
    pub fn of(frame: &Frame<'_>) -> Option<Self> {
        match frame.message_type()? {
            MessageType::Initiation | MessageType::Termination => None,
            _ => Self::parse(&mut ByteReader::new(frame.bytes(), COMMON_HEADER)).ok(),
        }
    }

    /// The identity of its peer.
    #[inline]
    pub fn identity(&self) -> PeerIdentity {
        PeerIdentity { key: self.key, asn: self.asn, bgp_id: self.bgp_id }
    }

    /// The RIB that the message reports (RFC 7854 §4.2, RFC 8671 §4, RFC 9069 §4).
    #[inline]
    pub fn view(&self) -> RibView {
        let post = self.flags & peer_flags::POST_POLICY != 0;
        match (self.key.peer_type, self.flags & peer_flags::ADJ_RIB_OUT != 0) {
            (PeerType::LOC_RIB, _) => RibView::LocRib,
            (_, false) if post => RibView::AdjRibInPost,
            (_, false) => RibView::AdjRibInPre,
            (_, true) if post => RibView::AdjRibOutPost,
            (_, true) => RibView::AdjRibOutPre,
        }
    }

    /// The peer's address; zero for a Loc-RIB peer (RFC 9069 §5.1).
    pub fn address(&self) -> IpAddr {
        self.to_ip(self.key.address)
    }

    /// Reads a 16-byte address field of a message with this header. The V flag says its family.
    pub(super) fn to_ip(self, field: [u8; 16]) -> IpAddr {
        let ipv6 = if self.key.peer_type == PeerType::LOC_RIB {
            // The same bit is the F flag here. The field is zero, or has whatever the sender wrote.
            field.iter().take(12).any(|&byte| byte != 0)
        } else {
            self.flags & peer_flags::IPV6 != 0
        };
        let [.., a, b, c, d] = field;
        if ipv6 { Ipv6Addr::from(field).into() } else { Ipv4Addr::new(a, b, c, d).into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_distinguisher_is_shown_as_it_was_read() {
        for text in ["65000:1", "0:4294967295", "65536:65535", "192.0.2.1:7"] {
            assert_eq!(RouteDistinguisher::read(text).unwrap().to_string(), text);
        }
        for wrong in ["", "1", "65536:65536", "192.0.2.1:65536", "1:4294967296", "1:2:3", "a:1", "1:+1"] {
            assert_eq!(RouteDistinguisher::read(wrong), None, "{wrong}");
        }
    }
}
