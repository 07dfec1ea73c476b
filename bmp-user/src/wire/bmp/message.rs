//! The messages, borrowed from the frame they came in.

use std::net::IpAddr;

use super::{
    COMMON_HEADER, Error, Frame, MessageType, PeerHeader, PeerType, Problem, Tlvs, frame::MIN_OPEN, peer_flags,
    tlv_type,
};
use crate::wire::{bgp, reader::Reader};

/// The reasons of a Peer Down that bmpd itself gives.
pub mod peer_down_reason {
    /// 1: the local system closed the session; the NOTIFICATION that it sent follows (RFC 7854 §4.9).
    pub const LOCAL_NOTIFICATION: u8 = 1;
    /// 2: the local system closed the session without a NOTIFICATION; the number of the FSM event follows (RFC 7854 §4.9).
    pub const LOCAL_EVENT: u8 = 2;
    /// 3: the remote system closed the session; the NOTIFICATION that came follows (RFC 7854 §4.9).
    pub const REMOTE_NOTIFICATION: u8 = 3;
    /// 4: the remote system closed the session without a NOTIFICATION; no data (RFC 7854 §4.9).
    pub const REMOTE_CLOSED: u8 = 4;
    /// 5: information for this peer will no longer be sent, for configuration reasons; no data (RFC 7854 §4.9).
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

/// Any message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Route Monitoring, the BGP UPDATE as it is (RFC 7854 §4.6).
    RouteMonitoring(PeerHeader, &'a [u8]),
    /// Statistics Report, the count and the counters as they are (RFC 7854 §4.8).
    StatisticsReport(PeerHeader, &'a [u8]),
    /// Peer Down.
    PeerDown(PeerDown<'a>),
    /// Peer Up.
    PeerUp(PeerUp<'a>),
    /// Initiation.
    Initiation(Initiation<'a>),
    /// Termination.
    Termination(Termination<'a>),
    /// Route Mirroring, the TLVs as they are (RFC 7854 §4.7).
    RouteMirroring(PeerHeader, &'a [u8]),
    /// A type that is not assigned, with everything behind the common header.
    Unassigned(u8, &'a [u8]),
}

impl<'a> Message<'a> {
    /// Reads one frame. Offsets of errors are within the frame.
    pub fn parse(frame: &Frame<'a>) -> Result<Self, Error> {
        frame.check_length()?;
        let reader = Reader::new(frame.bytes(), COMMON_HEADER);
        let opaque = |mut reader: Reader<'a>| Ok::<_, Error>((PeerHeader::parse(&mut reader)?, reader.rest()));
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

/// How errors name the OPENs of a Peer Up.
pub(super) const SENT_OPEN: &str = "the sent OPEN";
pub(super) const RECEIVED_OPEN: &str = "the received OPEN";

/// A Peer Up (RFC 7854 §4.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerUp<'a> {
    /// Which peer.
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
    /// What follows; see [`tlv_type`].
    pub information: Tlvs<'a>,
}

impl<'a> PeerUp<'a> {
    fn read(mut reader: Reader<'a>) -> Result<Self, Error> {
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

    /// Whether another Peer Up tells of the same session. The peer, the addresses, the ports and the OPENs decide; the time does not, because FRR
    /// gives another one after a reconnect.
    ///
    /// A router may send a Peer Up for each view that it reports: the flags name the view. The ports of a Loc-RIB are zero and its OPENs are made up
    /// (RFC 9069 §5.2). So a router may also send one for each table of a Loc-RIB (§5.2.1), which its name tells, or one for each family: the OPENs
    /// have no family in common then, or the times are equal.
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

    /// Whether both ends are of one AS, as their OPENs say.
    pub fn is_internal(&self) -> bool {
        let asn = |open| bgp::Frame::parse(open).and_then(|frame| bgp::Open::parse(&frame)).map(|open| open.asn());
        matches!((asn(self.sent_open), asn(self.received_open)), (Ok(sent), Ok(received)) if sent == received)
    }

    /// The families that both OPENs name.
    pub fn families(&self) -> impl Iterator<Item = bgp::Family> + use<'a> {
        let opens = bgp::Negotiation::of(self.sent_open, self.received_open);
        opens.into_iter().flat_map(|opens| opens.families())
    }

    /// The name of the VRF or table that a Loc-RIB peer stands for (RFC 9069 §5.2.1), as bytes.
    pub fn table_name(&self) -> Option<&'a [u8]> {
        self.information.find(tlv_type::TABLE_NAME)
    }
}

/// Whether two OPENs have a family in common; true if one of them cannot be read.
fn has_family_in_common(one: &[u8], other: &[u8]) -> bool {
    let open = |bytes| bgp::Frame::parse(bytes).and_then(|frame| bgp::Open::parse(&frame));
    let (Ok(one), Ok(other)) = (open(one), open(other)) else { return true };
    one.families().any(|family| other.families().any(|its| its == family))
}

/// Takes a BGP message that has to be an OPEN (RFC 4271 §4.1, §4.2). Its marker says nothing and is not looked at.
fn open<'a>(reader: &mut Reader<'a>, what: &'static str) -> Result<&'a [u8], Error> {
    const MARKER: usize = 16;
    const OPEN: u8 = 1;
    let start = reader.at();
    let mut header = Reader::new(reader.rest(), 0);
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
    /// Which peer.
    pub peer: PeerHeader,
    /// Why; see [`peer_down_reason`] for those that bmpd gives itself.
    pub reason: u8,
    /// What belongs to the reason: a NOTIFICATION, an event code, TLVs or nothing.
    pub data: &'a [u8],
}

impl<'a> PeerDown<'a> {
    fn read(mut reader: Reader<'a>) -> Result<Self, Error> {
        let peer = PeerHeader::parse(&mut reader)?;
        Ok(Self { peer, reason: reader.u8("the reason of a Peer Down")?, data: reader.rest() })
    }

    /// The name of the VRF or table of a Loc-RIB peer that it is about (RFC 9069 §5.3), as bytes; `None` if it names none.
    pub fn table_name(&self) -> Option<&'a [u8]> {
        let has_tlvs =
            self.peer.key.peer_type == PeerType::LOC_RIB && self.reason == peer_down_reason::LOCAL_SYSTEM_CLOSED;
        Tlvs::of(self.data).ok().filter(|_| has_tlvs)?.find(tlv_type::TABLE_NAME)
    }
}

/// An Initiation (RFC 7854 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initiation<'a> {
    /// See [`tlv_type`].
    pub information: Tlvs<'a>,
}

/// A Termination (RFC 7854 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termination<'a> {
    /// See [`tlv_type`].
    pub information: Tlvs<'a>,
}

impl Termination<'_> {
    /// Why the session ends; see [`termination_reason`].
    pub fn reason(&self) -> Option<u16> {
        let value = self.information.find(tlv_type::TERMINATION_REASON)?;
        value.try_into().ok().map(u16::from_be_bytes)
    }
}
