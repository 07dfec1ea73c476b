//! Translates records into BMP frames.

use std::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};

use super::{
    passed_over::PassedOverKind,
    peers::{Collector, RecordTime, ReplayedPeers},
    place::{FrameOrigin, RecordPlace},
    snapshot::{DumpedRoute, PendingRoutes, UnfitRoute, end_of_rib, has_as4},
    survey::{FilePeerId, MessageDirection, Survey, parse_update},
};
use crate::wire::{
    bgp::{self, MessageType},
    bmp::{PeerHeader, build, peer_down_reason, peer_flags},
    mrt::{self, PeerIndexTable, Record, RecordBody, RecordedMessage, RibRecord, StateChange, TableDump, state},
};

/// Bytes of attributes that may wait for more routes with the same attributes.
const MAX_WAITING: usize = 32 * 1024 * 1024;

/// Why a record, or a part of it, is passed over.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordError {
    #[error("{0}")]
    Mrt(#[from] mrt::Error),
    #[error("the BGP message: {0}")]
    Bgp(#[from] bgp::Error),
    #[error("{0}")]
    Route(#[from] UnfitRoute),
    #[error("a route of peer {0} of {1} in the PEER_INDEX_TABLE")]
    Peer(u16, usize),
    #[error("a record of type {kind} and subtype {subtype}, which is not read")]
    Unread { kind: u16, subtype: u16 },
}

impl RecordError {
    /// Returns the kind under which a record of this type and subtype is counted.
    pub(super) fn kind(&self, (kind, subtype): (u16, u16)) -> PassedOverKind {
        match self {
            Self::Mrt(mrt::Error { problem: mrt::Problem::Family(family), .. }) => PassedOverKind::Family(*family),
            Self::Mrt(_) | Self::Route(UnfitRoute::MpReach(_)) => PassedOverKind::Broken { kind, subtype },
            Self::Bgp(_) => PassedOverKind::Message,
            Self::Route(UnfitRoute::NextHop) => PassedOverKind::NextHop,
            Self::Route(UnfitRoute::TooLong(_)) => PassedOverKind::TooLong,
            Self::Peer(..) => PassedOverKind::Peer,
            Self::Unread { kind, subtype } => PassedOverKind::Unread { kind: *kind, subtype: *subtype },
        }
    }
}

/// The place for Route Monitoring frames.
struct FrameSink<'a> {
    out: &'a mut BytesMut,
    origins: &'a mut Vec<FrameOrigin>,
    count: &'a mut u64,
}

impl FrameSink<'_> {
    /// Appends a frame for an UPDATE from the record at `place`.
    fn put(&mut self, header: &PeerHeader, update: &[u8], place: RecordPlace) {
        self.origins.push(FrameOrigin::new(self.out.len(), place));
        build::route_monitoring(self.out, header, update);
        *self.count += 1;
    }
}

/// Translates the records of a file, one after the other.
#[derive(Debug)]
pub(super) struct RecordTranslator {
    survey: Survey,
    peers: ReplayedPeers,
    /// The last PEER_INDEX_TABLE.
    table: Vec<FilePeerId>,
    collector: Option<Ipv4Addr>,
    /// The finished frames.
    pub(super) out: BytesMut,
    /// The records behind the Route Monitoring frames in `out`.
    pub(super) origins: Vec<FrameOrigin>,
    /// The current record. After an error, the record with the error.
    pub(super) place: RecordPlace,
    /// A buffer for the UPDATE under construction.
    scratch: BytesMut,
    /// Route Monitoring frames so far.
    pub(super) updates: u64,
    /// True while the records belong to a table dump.
    in_snapshot: bool,
    /// An upper bound for the bytes of attributes that wait for more routes.
    waiting: usize,
}

impl RecordTranslator {
    pub(super) fn new(survey: Survey) -> Self {
        Self {
            survey,
            peers: ReplayedPeers::default(),
            table: Vec::new(),
            collector: None,
            out: BytesMut::new(),
            origins: Vec::new(),
            place: RecordPlace::default(),
            scratch: BytesMut::new(),
            updates: 0,
            in_snapshot: false,
            waiting: 0,
        }
    }

    /// Appends the frames of a record to `out`. Routes of a table dump may wait for a later record.
    ///
    /// # Errors
    ///
    /// Fails if a part of the record is passed over. Offsets count within the record, or within its
    /// BGP message.
    pub(super) fn record(&mut self, record: &Record<'_>) -> Result<(), RecordError> {
        let time = RecordTime::of_record(record);
        match RecordBody::parse(record)? {
            RecordBody::TableDump(route) => self.table_dump(&route, time),
            RecordBody::PeerIndexTable(table) => self.peer_index_table(&table),
            RecordBody::Rib(rib) => self.rib(&rib, time),
            RecordBody::Message(message) => {
                let snapshot = self.end_snapshot(time);
                self.message(&message, time).and(snapshot)
            }
            RecordBody::StateChange(change) => {
                let snapshot = self.end_snapshot(time);
                self.state_change(&change, time).and(snapshot)
            }
            RecordBody::Other => Err(RecordError::Unread { kind: record.kind, subtype: record.subtype }),
        }
    }

    /// Ends a table dump: appends the waiting routes, and an End-of-RIB for every peer and family
    /// of the dump.
    pub(super) fn end_snapshot(&mut self, time: RecordTime) -> Result<(), RecordError> {
        if !std::mem::take(&mut self.in_snapshot) {
            return Ok(());
        }
        let outcome = self.flush();
        for peer in self.peers.iter_mut() {
            let header = peer.header(peer.traits.as4, time);
            for family in std::mem::take(&mut peer.dumped) {
                self.scratch.clear();
                end_of_rib(&mut self.scratch, family);
                let mut frames = FrameSink { out: &mut self.out, origins: &mut self.origins, count: &mut self.updates };
                frames.put(&header, &self.scratch, self.place);
            }
        }
        outcome
    }

    /// Appends a Peer Down for every peer that is up. The reason says that monitoring ends by
    /// configuration (RFC 7854 §4.9).
    pub(super) fn take_down_all(&mut self, time: RecordTime) {
        for peer in self.peers.iter_mut() {
            peer.take_down(&mut self.out, time, peer_down_reason::DE_CONFIGURED, &[]);
        }
    }

    fn table_dump(&mut self, route: &TableDump<'_>, time: RecordTime) -> Result<(), RecordError> {
        let mut nlri = BytesMut::with_capacity(17);
        route.put_nlri(&mut nlri);
        let (family, attributes, originated) = (route.family, route.attributes, route.originated);
        let dumped = DumpedRoute { family, path_id: None, nlri: &nlri, attributes, originated, as4: false };
        self.route(FilePeerId::from(route), &dumped, time)
    }

    fn peer_index_table(&mut self, table: &PeerIndexTable<'_>) -> Result<(), RecordError> {
        self.collector = Some(table.collector).filter(|id| !id.is_unspecified());
        self.table.clear();
        self.table.extend(table.iter().map(|peer| FilePeerId::from(&peer)));
        Ok(())
    }

    fn rib(&mut self, rib: &RibRecord<'_>, time: RecordTime) -> Result<(), RecordError> {
        let mut outcome = Ok(());
        for entry in rib.iter() {
            let one = match self.table.get(usize::from(entry.peer)) {
                None => Err(RecordError::Peer(entry.peer, self.table.len())),
                Some(&identity) => {
                    let route = DumpedRoute {
                        family: rib.family,
                        path_id: entry.path_id,
                        nlri: rib.nlri,
                        attributes: entry.attributes,
                        originated: entry.originated,
                        as4: true,
                    };
                    self.route(identity, &route, time)
                }
            };
            outcome = outcome.and(one);
        }
        outcome
    }

    /// Adds a route of a table dump.
    fn route(&mut self, identity: FilePeerId, route: &DumpedRoute<'_>, time: RecordTime) -> Result<(), RecordError> {
        self.in_snapshot = true;
        let Some(peer) = self.peers.get(identity, &self.survey) else { return Ok(()) };
        // Beside routes with path identifiers, a route without one is the only route of its prefix.
        let path_id = peer.traits.add_path(route.family, MessageDirection::In).then_some(0);
        let route = &DumpedRoute { path_id: route.path_id.or(path_id), ..*route };
        route.next_hop()?;
        let collector = Collector { asn: None, bgp_id: self.collector, address: None };
        peer.bring_up(&mut self.out, &collector, time)?;
        peer.dumped.insert(route.family);
        let here = self.place;
        let outcome = if peer.pending.takes(route) {
            Ok(())
        } else {
            let header = peer.header(peer.pending.has_as4(), RecordTime::from_seconds(peer.pending.originated));
            let place = peer.pending.place;
            self.scratch.clear();
            let taken = peer.pending.take(&mut self.scratch);
            if taken.is_ok() {
                let mut frames = FrameSink { out: &mut self.out, origins: &mut self.origins, count: &mut self.updates };
                frames.put(&header, &self.scratch, place);
            } else {
                self.place = place;
            }
            taken
        };
        if peer.pending.is_empty() {
            self.waiting += route.attributes.bytes().len();
        }
        peer.pending.add(route, here);
        let flushed = if self.waiting > MAX_WAITING { self.flush() } else { Ok(()) };
        outcome?;
        flushed
    }

    /// Appends all waiting routes of a table dump and frees their memory.
    fn flush(&mut self) -> Result<(), RecordError> {
        let mut outcome = Ok(());
        for peer in self.peers.iter_mut().filter(|peer| !peer.pending.is_empty()) {
            let header = peer.header(peer.pending.has_as4(), RecordTime::from_seconds(peer.pending.originated));
            let place = peer.pending.place;
            self.scratch.clear();
            match peer.pending.take(&mut self.scratch) {
                Ok(()) => {
                    let mut frames =
                        FrameSink { out: &mut self.out, origins: &mut self.origins, count: &mut self.updates };
                    frames.put(&header, &self.scratch, place);
                }
                Err(unfit) => {
                    outcome = Err(unfit.into());
                    self.place = place;
                }
            }
        }
        self.peers.iter_mut().for_each(|peer| peer.pending = PendingRoutes::default());
        self.waiting = 0;
        outcome
    }

    fn message(&mut self, message: &RecordedMessage<'_>, time: RecordTime) -> Result<(), RecordError> {
        let frame = bgp::Frame::parse(message.message)?;
        let Some(peer) = self.peers.get(FilePeerId::from(&message.session), &self.survey) else { return Ok(()) };
        let session = &message.session;
        let collector = Collector { asn: Some(session.local_as), bgp_id: None, address: Some(session.local_address) };
        match (frame.message_type(), message.local) {
            (MessageType::Open, local) => {
                bgp::Message::parse(&frame)?;
                // An OPEN begins a new session, even if no state change has ended the old one.
                peer.take_down(&mut self.out, time, peer_down_reason::REMOTE_CLOSED, &[]);
                let open = Some(Bytes::copy_from_slice(frame.bytes()));
                *if local { &mut peer.sent_open } else { &mut peer.received_open } = open;
            }
            (MessageType::Update, local) => {
                peer.bring_up(&mut self.out, &collector, time)?;
                // Malformed UPDATEs are passed on too. The feed treats them like those of a relayed
                // router.
                let as4 = parse_update(frame.bytes(), message.as4)
                    .map_or(message.as4, |update| has_as4(update.attributes, message.as4));
                let mut header = peer.header(as4, time);
                if local {
                    // The record holds what was sent to the peer, so policy has been applied (RFC
                    // 8671 §4).
                    header.flags |= peer_flags::ADJ_RIB_OUT | peer_flags::POST_POLICY;
                }
                let mut frames = FrameSink { out: &mut self.out, origins: &mut self.origins, count: &mut self.updates };
                frames.put(&header, frame.bytes(), self.place);
            }
            (MessageType::Notification, true) => {
                peer.take_down(&mut self.out, time, peer_down_reason::LOCAL_NOTIFICATION, frame.bytes());
            }
            (MessageType::Notification, false) => {
                peer.take_down(&mut self.out, time, peer_down_reason::REMOTE_NOTIFICATION, frame.bytes());
            }
            // A received KEEPALIVE belongs to an established session, or establishes one (RFC 4271
            // §8.2.2).
            (MessageType::Keepalive, false) => peer.bring_up(&mut self.out, &collector, time)?,
            (MessageType::Keepalive, true) | (MessageType::RouteRefresh, _) => {}
        }
        Ok(())
    }

    fn state_change(&mut self, change: &StateChange, time: RecordTime) -> Result<(), RecordError> {
        let Some(peer) = self.peers.get(FilePeerId::from(&change.session), &self.survey) else { return Ok(()) };
        let session = &change.session;
        match (change.old, change.new) {
            (_, state::ESTABLISHED) => {
                let address = Some(session.local_address);
                peer.bring_up(&mut self.out, &Collector { asn: Some(session.local_as), bgp_id: None, address }, time)?;
            }
            // The record tells neither who ended the session nor why. A NOTIFICATION, if there was
            // one, had a record of its own and has taken the peer down. "Closed without
            // notification" claims the least of all reasons.
            (state::ESTABLISHED, _) => peer.take_down(&mut self.out, time, peer_down_reason::REMOTE_CLOSED, &[]),
            _ => {}
        }
        Ok(())
    }
}
