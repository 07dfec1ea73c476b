//! Messages, borrowed from their frames.

use std::net::IpAddr;

use super::{
    COMMON_HEADER, Error, Frame, MessageType, PeerHeader, PeerType, Problem, Tlvs,
    error::{RECEIVED_OPEN, SENT_OPEN},
    header::MIN_OPEN,
    peer_flags, tlv_type,
};
use crate::wire::{bgp, reader::ByteReader};

/// The reasons in the Peer Downs that bmpd sends.
pub mod peer_down_reason {
    /// 1: the local system closed the session; the NOTIFICATION that it sent follows (RFC 7854
    /// §4.9).
    pub const LOCAL_NOTIFICATION: u8 = 1;
    /// 2: the local system closed the session without a NOTIFICATION; the number of the FSM event
    /// follows (RFC 7854 §4.9).
    pub const LOCAL_EVENT: u8 = 2;
    /// 3: the remote system closed the session; the NOTIFICATION that came follows (RFC 7854 §4.9).
    pub const REMOTE_NOTIFICATION: u8 = 3;
    /// 4: the remote system closed the session without a NOTIFICATION; no data (RFC 7854 §4.9).
    pub const REMOTE_CLOSED: u8 = 4;
    /// 5: information for this peer will no longer be sent, for configuration reasons; no data (RFC
    /// 7854 §4.9).
    pub const DE_CONFIGURED: u8 = 5;
    /// 6: the local system closed a Loc-RIB peer; TLV data follows (RFC 9069 §5.3).
    pub const LOCAL_SYSTEM_CLOSED: u8 = 6;
}

/// The reasons of a Termination (RFC 7854 §4.5).
pub mod termination_reason {
    /// 0: administratively closed.
    pub const ADMINISTRATIVELY_CLOSED: u16 = 0;
    /// 1: unspecified.
    pub const UNSPECIFIED: u16 = 1;
    /// 2: out of resources.
    pub const OUT_OF_RESOURCES: u16 = 2;
    /// 3: redundant connection.
    pub const REDUNDANT_CONNECTION: u16 = 3;
    /// 4: permanently administratively closed: the sender will not come back.
    pub const PERMANENTLY_CLOSED: u16 = 4;
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Route Monitoring (RFC 7854 §4.6), with the BGP UPDATE as bytes.
    RouteMonitoring(PeerHeader, &'a [u8]),
    /// Statistics Report (RFC 7854 §4.8), with the count and the statistics as bytes.
    StatisticsReport(PeerHeader, &'a [u8]),
    /// Peer Down.
    PeerDown(PeerDown<'a>),
    /// Peer Up.
    PeerUp(PeerUp<'a>),
    /// Initiation.
    Initiation(Initiation<'a>),
    /// Termination.
    Termination(Termination<'a>),
    /// Route Mirroring (RFC 7854 §4.7), with the TLVs as bytes.
    RouteMirroring(PeerHeader, &'a [u8]),
    /// A message of a type that is not assigned, with the bytes behind the common header.
    Unassigned(u8, &'a [u8]),
}

impl<'a> Message<'a> {
    /// Reads one frame.
    ///
    /// # Errors
    ///
    /// At the first field that is wrong. Offsets are within the frame.
    pub fn parse(frame: &Frame<'a>) -> Result<Self, Error> {
        frame.check_length()?;
        let reader = ByteReader::new(frame.bytes(), COMMON_HEADER);
        let opaque = |mut reader: ByteReader<'a>| Ok::<_, Error>((PeerHeader::parse(&mut reader)?, reader.rest()));
        Ok(match frame.message_type() {
            Some(MessageType::RouteMonitoring) => {
                opaque(reader).map(|(peer, update)| Self::RouteMonitoring(peer, update))?
            }
            Some(MessageType::StatisticsReport) => {
                opaque(reader).map(|(peer, counters)| Self::StatisticsReport(peer, counters))?
            }
            Some(MessageType::RouteMirroring) => opaque(reader).map(|(peer, tlvs)| Self::RouteMirroring(peer, tlvs))?,
            Some(MessageType::PeerDown) => Self::PeerDown(PeerDown::read(reader)?),
            Some(MessageType::PeerUp) => Self::PeerUp(PeerUp::read(reader)?),
            Some(MessageType::Initiation) => Self::Initiation(Initiation { information: Tlvs::parse(reader)? }),
            Some(MessageType::Termination) => Self::Termination(Termination { information: Tlvs::parse(reader)? }),
            None => Self::Unassigned(frame.code(), reader.rest()),
        })
    }
}

/// A Peer Up (RFC 7854 §4.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerUp<'a> {
    /// The peer.
    pub peer: PeerHeader,
    /// The router's end of the peering.
    pub local_address: IpAddr,
    /// The router's TCP port; zero if not known.
    pub local_port: u16,
    /// The peer's TCP port; zero if not known.
    pub remote_port: u16,
    /// The OPEN that the router sent, BGP header included.
    pub sent_open: &'a [u8],
    /// The OPEN that the router received, BGP header included.
    pub received_open: &'a [u8],
    /// Information TLVs: see [`tlv_type`].
    pub information: Tlvs<'a>,
}

impl<'a> PeerUp<'a> {
    fn read(mut reader: ByteReader<'a>) -> Result<Self, Error> {
        let peer = PeerHeader::parse(&mut reader)?;
        Ok(Self {
            peer,
            local_address: peer.to_ip(reader.array("the local address")?),
            local_port: reader.u16("the local port")?,
            remote_port: reader.u16("the remote port")?,
            sent_open: open(&mut reader, SENT_OPEN)?,
            received_open: open(&mut reader, RECEIVED_OPEN)?,
            information: Tlvs::parse(reader)?,
        })
    }

    /// True if another Peer Up is for the same session. The peer, the addresses, the ports and the
    /// OPENs decide. The time does not: FRR gives another time after a reconnect.
    ///
    /// A router may send a Peer Up for each view that it reports. The flags name the view. The
    /// ports of a Loc-RIB are zero and its OPENs are made up (RFC 9069 §5.2). So a router may also
    /// send a Peer Up for each table of a Loc-RIB (§5.2.1): their names differ. Or it sends one for
    /// each family: their OPENs have no family in common, or their times are equal.
    pub fn is_of_same_session(&self, other: &Self) -> bool {
        let (mine, its) = (&self.peer, &other.peer);
        let of_views = peer_flags::POST_POLICY | peer_flags::ADJ_RIB_OUT;
        let opens = (self.sent_open, self.received_open) == (other.sent_open, other.received_open);
        let ends = |up: &Self| (up.local_address, up.local_port, up.remote_port);
        if mine.identity() != its.identity() || ends(self) != ends(other) {
            return false;
        }
        if mine.key.peer_type != PeerType::LOC_RIB {
            return opens && (mine.flags ^ its.flags) & !of_views == 0;
        }
        let time = |header: &PeerHeader| (header.seconds, header.microseconds);
        opens
            || self.table_name() != other.table_name()
            || mine.seconds != 0 && time(mine) == time(its)
            || !has_family_in_common(self.sent_open, other.sent_open)
    }

    /// True if the OPENs name the same AS.
    pub fn is_internal(&self) -> bool {
        let asn = |open| bgp::Frame::parse(open).and_then(|frame| bgp::Open::parse(&frame)).map(|open| open.asn());
        matches!((asn(self.sent_open), asn(self.received_open)), (Ok(sent), Ok(received)) if sent == received)
    }

    /// The families in both OPENs.
    pub fn families(&self) -> impl Iterator<Item = bgp::Family> + use<'a> {
        let opens = bgp::Negotiation::of(self.sent_open, self.received_open);
        opens.into_iter().flat_map(|opens| opens.families())
    }

    /// The name of the VRF or table that a Loc-RIB peer stands for (RFC 9069 §5.2.1), as bytes.
    pub fn table_name(&self) -> Option<&'a [u8]> {
        self.information.find(tlv_type::TABLE_NAME)
    }
}

/// True if two OPENs have a family in common, or if one of them cannot be read.
fn has_family_in_common(one: &[u8], other: &[u8]) -> bool {
    let open = |bytes| bgp::Frame::parse(bytes).and_then(|frame| bgp::Open::parse(&frame));
    let (Ok(one), Ok(other)) = (open(one), open(other)) else { return true };
    one.families().any(|family| other.families().any(|its| its == family))
}

/// Takes a BGP message that has to be an OPEN (RFC 4271 §4.1, §4.2). Ignores its marker.
fn open<'a>(reader: &mut ByteReader<'a>, what: &'static str) -> Result<&'a [u8], Error> {
    const MARKER: usize = 16;
    const OPEN: u8 = 1;
    let start = reader.at();
    let mut header = ByteReader::new(reader.rest(), 0);
    let (length, kind) = header
        .bytes(MARKER, what)
        .and_then(|_| Ok((header.u16(what)?, header.u8(what)?)))
        .map_err(|short| Error::from(short).after(start as u64))?;
    if usize::from(length) < MIN_OPEN {
        return Err(Error::new(start + MARKER, Problem::OpenLength(length)));
    }
    if kind != OPEN {
        return Err(Error::new(start + MARKER + 2, Problem::OpenType(kind)));
    }
    Ok(reader.bytes(usize::from(length), what)?)
}

/// A Peer Down (RFC 7854 §4.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerDown<'a> {
    /// The peer.
    pub peer: PeerHeader,
    /// The reason: see [`peer_down_reason`].
    pub reason: u8,
    /// The data of the reason: a NOTIFICATION, an event code, TLVs or nothing.
    pub data: &'a [u8],
}

impl<'a> PeerDown<'a> {
    fn read(mut reader: ByteReader<'a>) -> Result<Self, Error> {
        let peer = PeerHeader::parse(&mut reader)?;
        Ok(Self { peer, reason: reader.u8("the reason of a Peer Down")?, data: reader.rest() })
    }

    /// The name of the VRF or table of a Loc-RIB peer (RFC 9069 §5.3), as bytes; `None` if it has
    /// none.
    pub fn table_name(&self) -> Option<&'a [u8]> {
        let has_tlvs =
            self.peer.key.peer_type == PeerType::LOC_RIB && self.reason == peer_down_reason::LOCAL_SYSTEM_CLOSED;
        Tlvs::of(self.data).ok().filter(|_| has_tlvs)?.find(tlv_type::TABLE_NAME)
    }
}

/// An Initiation (RFC 7854 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initiation<'a> {
    /// Information TLVs: see [`tlv_type`].
    pub information: Tlvs<'a>,
}

/// A Termination (RFC 7854 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termination<'a> {
    /// Information TLVs: see [`tlv_type`].
    pub information: Tlvs<'a>,
}

impl Termination<'_> {
    /// The reason: see [`termination_reason`].
    pub fn reason(&self) -> Option<u16> {
        let value = self.information.find(tlv_type::TERMINATION_REASON)?;
        value.try_into().ok().map(u16::from_be_bytes)
    }
}
