//! The per-peer header (RFC 7854 §4.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{COMMON_HEADER, Error, Frame, MessageType};
use crate::wire::reader::Reader;

/// Length of the per-peer header in bytes.
pub const PER_PEER_HEADER: usize = 42;

/// The flags of the per-peer header.
pub mod peer_flags {
    /// V: the peer address is IPv6 (RFC 7854 §4.2). Not for Loc-RIB peers.
    pub const IPV6: u8 = 0x80;
    /// L: what is reported is post-policy (RFC 7854 §4.2).
    pub const POST_POLICY: u8 = 0x40;
    /// A: AS paths have the legacy 2-byte format (RFC 7854 §4.2).
    pub const TWO_BYTE_AS: u8 = 0x20;
    /// O: what is reported is Adj-RIB-Out (RFC 8671 §4).
    pub const ADJ_RIB_OUT: u8 = 0x10;
    /// F: the Loc-RIB is filtered (RFC 9069 §4.2). Of Loc-RIB peers only.
    pub const FILTERED: u8 = 0x80;
}

/// The peer type of the per-peer header; types that are not assigned are kept as they are.
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

/// What tells one peer from another within one BMP stream: type, distinguisher and address of the per-peer header, as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey {
    /// Peer type.
    pub peer_type: PeerType,
    /// Peer distinguisher: a route distinguisher, or zero.
    pub distinguisher: [u8; 8],
    /// Peer address; IPv4 in the last four bytes.
    pub address: [u8; 16],
}

impl PeerKey {
    /// The peer that a frame is about; `None` for Initiation, Termination and types that are not assigned.
    #[inline]
    pub fn of(frame: &Frame<'_>) -> Option<Self> {
        match frame.message_type()? {
            MessageType::Initiation | MessageType::Termination => None,
            _ => {
                let (&[peer_type, _flags], rest) = frame.bytes().get(COMMON_HEADER..)?.split_first_chunk()?;
                let (&distinguisher, rest) = rest.split_first_chunk()?;
                let &address = rest.first_chunk()?;
                Some(Self { peer_type: PeerType(peer_type), distinguisher, address })
            }
        }
    }
}

/// What tells one peer from another for certain: two neighbours on unnumbered links may have one link-local address, and so one [`PeerKey`].
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
    /// Whether both may be one peer: an AS or a BGP ID of zero is one that the router did not know.
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
    /// See [`peer_flags`].
    pub flags: u8,
    /// Peer AS.
    pub asn: u32,
    /// Peer BGP ID.
    pub bgp_id: Ipv4Addr,
    /// When what is reported was received: seconds since the epoch; zero if the time is not known.
    pub seconds: u32,
    /// Microseconds to add to `seconds`.
    pub microseconds: u32,
}

impl PeerHeader {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self, Error> {
        const WHAT: &str = "the per-peer header";
        let [peer_type, flags] = reader.array(WHAT)?;
        let key = PeerKey {
            peer_type: PeerType(peer_type),
            distinguisher: reader.array(WHAT)?,
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

    /// The per-peer header of a frame; `None` for Initiation, Termination and types that are not assigned.
    pub fn of(frame: &Frame<'_>) -> Option<Self> {
        match frame.message_type()? {
            MessageType::Initiation | MessageType::Termination => None,
            _ => Self::parse(&mut Reader::new(frame.bytes(), COMMON_HEADER)).ok(),
        }
    }

    /// The peer that it is about.
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

    /// The peer's address. That of a Loc-RIB peer is zero (RFC 9069 §5.1).
    pub fn address(&self) -> IpAddr {
        self.to_ip(self.key.address)
    }

    /// A 16-byte address field of a message with this header: the V flag says its family.
    pub(super) fn to_ip(self, field: [u8; 16]) -> IpAddr {
        let ipv6 = if self.key.peer_type == PeerType::LOC_RIB {
            // Its flag of the same value is another one, F; the field is zero, or what the sender thinks fit.
            field.iter().take(12).any(|&byte| byte != 0)
        } else {
            self.flags & peer_flags::IPV6 != 0
        };
        let [.., a, b, c, d] = field;
        if ipv6 { Ipv6Addr::from(field).into() } else { Ipv4Addr::new(a, b, c, d).into() }
    }
}
