//! From records to BMP frames.

use std::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};

use super::{
    passed_over::Kind,
    peers::{Collector, Peers, Time},
    place::{Origin, Place},
    snapshot::{Pending, Route, Unfit, end_of_rib, has_as4},
    survey::{Direction, Identity, Survey, parse_update},
};
use crate::wire::{
    bgp::{self, MessageType},
    bmp::{PeerHeader, build, peer_down_reason, peer_flags},
    mrt::{self, Body, Message, PeerIndexTable, Record, Rib, StateChange, TableDump, state},
};

/// How many bytes of attributes may wait for more routes that have them.
const MAX_HELD: usize = 32 * 1024 * 1024;

/// Why a record, or a part of it, is passed over.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("{0}")]
    Mrt(#[from] mrt::Error),
    #[error("the BGP message: {0}")]
    Bgp(#[from] bgp::Error),
    #[error("{0}")]
    Route(#[from] Unfit),
    #[error("a route of peer {0} of {1} in the PEER_INDEX_TABLE")]
    Peer(u16, usize),
    #[error("a record of type {kind} and subtype {subtype}, which is not read")]
    Unread { kind: u16, subtype: u16 },
}

impl Refused {
    /// What it is counted as, of a record of this type and subtype.
    pub(super) fn kind(&self, (kind, subtype): (u16, u16)) -> Kind {
        match self {
            Self::Mrt(mrt::Error { problem: mrt::Problem::Family(family), .. }) => Kind::Family(*family),
            Self::Mrt(_) | Self::Route(Unfit::MpReach(_)) => Kind::Broken { kind, subtype },
            Self::Bgp(_) => Kind::Message,
            Self::Route(Unfit::NextHop) => Kind::NextHop,
            Self::Route(Unfit::TooLong(_)) => Kind::TooLong,
            Self::Peer(..) => Kind::Peer,
            Self::Unread { kind, subtype } => Kind::Unread { kind: *kind, subtype: *subtype },
        }
    }
}

/// Where Route Monitoring frames go.
struct Frames<'a> {
    out: &'a mut BytesMut,
    origins: &'a mut Vec<Origin>,
    count: &'a mut u64,
}

impl Frames<'_> {
    /// Appends one that is made of the record at `place`.
    fn put(&mut self, header: &PeerHeader, update: &[u8], place: Place) {
        self.origins.push(Origin::new(self.out.len(), place));
        build::route_monitoring(self.out, header, update);
        *self.count += 1;
    }
}

/// Turns records into frames.
#[derive(Debug)]
pub(super) struct Translator {
    survey: Survey,
    peers: Peers,
    /// The last PEER_INDEX_TABLE.
    table: Vec<Identity>,
    collector: Option<Ipv4Addr>,
    /// Frames that are done.
    pub(super) out: BytesMut,
    /// Which records the Route Monitoring frames among them are made of.
    pub(super) origins: Vec<Origin>,
    /// The record that is read; after an error, the one that it is in.
    pub(super) place: Place,
    /// An UPDATE while it is built.
    scratch: BytesMut,
    /// Route Monitoring frames so far.
    pub(super) updates: u64,
    /// Whether the records are those of a table dump.
    in_snapshot: bool,
    /// At most so many bytes of attributes wait for more routes.
    held: usize,
}

impl Translator {
    pub(super) fn new(survey: Survey) -> Self {
        Self {
            survey,
            peers: Peers::default(),
            table: Vec::new(),
            collector: None,
            out: BytesMut::new(),
            origins: Vec::new(),
            place: Place::default(),
            scratch: BytesMut::new(),
            updates: 0,
            in_snapshot: false,
            held: 0,
        }
    }

    /// Appends the frames of a record to `out`. Routes of a table dump may come with a later one.
    ///
    /// # Errors
    ///
    /// If something in it is passed over; offsets are within the record, or within the BGP message in it.
    pub(super) fn record(&mut self, record: &Record<'_>) -> Result<(), Refused> {
        let time = (record.seconds, record.microseconds);
        match Body::parse(record)? {
            Body::TableDump(route) => self.table_dump(&route, time),
            Body::PeerIndexTable(table) => self.peer_index_table(&table),
            Body::Rib(rib) => self.rib(&rib, time),
            Body::Message(message) => {
                let snapshot = self.end_snapshot(time);
                self.message(&message, time).and(snapshot)
            }
            Body::StateChange(change) => {
                let snapshot = self.end_snapshot(time);
                self.state_change(&change, time).and(snapshot)
            }
            Body::Other => Err(Refused::Unread { kind: record.kind, subtype: record.subtype }),
        }
    }

    /// What is left of a table dump, and an End-of-RIB for every peer and family of it.
    pub(super) fn end_snapshot(&mut self, time: Time) -> Result<(), Refused> {
        if !std::mem::take(&mut self.in_snapshot) {
            return Ok(());
        }
        let outcome = self.flush();
        for peer in self.peers.iter_mut() {
            let header = peer.header(peer.traits.as4, time);
            for family in std::mem::take(&mut peer.dumped) {
                self.scratch.clear();
                end_of_rib(&mut self.scratch, family);
                let mut frames = Frames { out: &mut self.out, origins: &mut self.origins, count: &mut self.updates };
                frames.put(&header, &self.scratch, self.place);
            }
        }
        outcome
    }

    /// A Peer Down for every peer that is up: no more is told about them, for reasons of configuration (RFC 7854 §4.9).
    pub(super) fn take_down_all(&mut self, time: Time) {
        for peer in self.peers.iter_mut() {
            peer.take_down(&mut self.out, time, peer_down_reason::DE_CONFIGURED, &[]);
        }
    }

    fn table_dump(&mut self, route: &TableDump<'_>, time: Time) -> Result<(), Refused> {
        let mut nlri = BytesMut::with_capacity(17);
        route.put_nlri(&mut nlri);
        let (family, attributes, originated) = (route.family, route.attributes, route.originated);
        let dumped = Route { family, path_id: None, nlri: &nlri, attributes, originated, as4: false };
        self.route(Identity::from(route), &dumped, time)
    }

    fn peer_index_table(&mut self, table: &PeerIndexTable<'_>) -> Result<(), Refused> {
        self.collector = Some(table.collector).filter(|id| !id.is_unspecified());
        self.table.clear();
        self.table.extend(table.iter().map(|peer| Identity::from(&peer)));
        Ok(())
    }

    fn rib(&mut self, rib: &Rib<'_>, time: Time) -> Result<(), Refused> {
        let mut outcome = Ok(());
        for entry in rib.iter() {
            let one = match self.table.get(usize::from(entry.peer)) {
                None => Err(Refused::Peer(entry.peer, self.table.len())),
                Some(&identity) => {
                    let route = Route {
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

    /// A route of a table dump.
    fn route(&mut self, identity: Identity, route: &Route<'_>, time: Time) -> Result<(), Refused> {
        self.in_snapshot = true;
        let Some(peer) = self.peers.get(identity, &self.survey) else { return Ok(()) };
        // Among routes with path identifiers one without is the only one of its prefix.
        let path_id = peer.traits.add_path(route.family, Direction::In).then_some(0);
        let route = &Route { path_id: route.path_id.or(path_id), ..*route };
        route.next_hop()?;
        let collector = Collector { asn: None, bgp_id: self.collector, address: None };
        peer.bring_up(&mut self.out, &collector, time)?;
        peer.dumped.insert(route.family);
        let here = self.place;
        let outcome = if peer.pending.takes(route) {
            Ok(())
        } else {
            let header = peer.header(peer.pending.has_as4(), (peer.pending.originated, 0));
            let place = peer.pending.place;
            self.scratch.clear();
            let taken = peer.pending.take(&mut self.scratch);
            if taken.is_ok() {
                let mut frames = Frames { out: &mut self.out, origins: &mut self.origins, count: &mut self.updates };
                frames.put(&header, &self.scratch, place);
            } else {
                self.place = place;
            }
            taken
        };
        if peer.pending.is_empty() {
            self.held += route.attributes.bytes().len();
        }
        peer.pending.add(route, here);
        let flushed = if self.held > MAX_HELD { self.flush() } else { Ok(()) };
        outcome?;
        flushed
    }

    /// All pending routes of a table dump, and the memory that they take.
    fn flush(&mut self) -> Result<(), Refused> {
        let mut outcome = Ok(());
        for peer in self.peers.iter_mut().filter(|peer| !peer.pending.is_empty()) {
            let header = peer.header(peer.pending.has_as4(), (peer.pending.originated, 0));
            let place = peer.pending.place;
            self.scratch.clear();
            match peer.pending.take(&mut self.scratch) {
                Ok(()) => {
                    let mut frames =
                        Frames { out: &mut self.out, origins: &mut self.origins, count: &mut self.updates };
                    frames.put(&header, &self.scratch, place);
                }
                Err(unfit) => {
                    outcome = Err(unfit.into());
                    self.place = place;
                }
            }
        }
        self.peers.iter_mut().for_each(|peer| peer.pending = Pending::default());
        self.held = 0;
        outcome
    }

    fn message(&mut self, message: &Message<'_>, time: Time) -> Result<(), Refused> {
        let frame = bgp::Frame::parse(message.message)?;
        let Some(peer) = self.peers.get(Identity::from(&message.session), &self.survey) else { return Ok(()) };
        let session = &message.session;
        let collector = Collector { asn: Some(session.local_as), bgp_id: None, address: Some(session.local_address) };
        match (frame.message_type(), message.local) {
            (MessageType::Open, local) => {
                bgp::Message::parse(&frame)?;
                // Whatever the peer had is gone: an OPEN begins a session, even where no state change tells that one ended.
                peer.take_down(&mut self.out, time, peer_down_reason::REMOTE_CLOSED, &[]);
                let open = Some(Bytes::copy_from_slice(frame.bytes()));
                *if local { &mut peer.sent_open } else { &mut peer.received_open } = open;
            }
            (MessageType::Update, local) => {
                peer.bring_up(&mut self.out, &collector, time)?;
                // Whatever is wrong with it, the feed takes it as it takes that of a relayed router.
                let as4 = parse_update(frame.bytes(), message.as4)
                    .map_or(message.as4, |update| has_as4(update.attributes, message.as4));
                let mut header = peer.header(as4, time);
                if local {
                    // What was sent has passed all policy (RFC 8671 §4).
                    header.flags |= peer_flags::ADJ_RIB_OUT | peer_flags::POST_POLICY;
                }
                let mut frames = Frames { out: &mut self.out, origins: &mut self.origins, count: &mut self.updates };
                frames.put(&header, frame.bytes(), self.place);
            }
            (MessageType::Notification, true) => {
                peer.take_down(&mut self.out, time, peer_down_reason::LOCAL_NOTIFICATION, frame.bytes());
            }
            (MessageType::Notification, false) => {
                peer.take_down(&mut self.out, time, peer_down_reason::REMOTE_NOTIFICATION, frame.bytes());
            }
            // One that comes in is what a session that is established has, or what establishes it (RFC 4271 §8.2.2).
            (MessageType::Keepalive, false) => peer.bring_up(&mut self.out, &collector, time)?,
            (MessageType::Keepalive, true) | (MessageType::RouteRefresh, _) => {}
        }
        Ok(())
    }

    fn state_change(&mut self, change: &StateChange, time: Time) -> Result<(), Refused> {
        let Some(peer) = self.peers.get(Identity::from(&change.session), &self.survey) else { return Ok(()) };
        let session = &change.session;
        match (change.old, change.new) {
            (_, state::ESTABLISHED) => {
                let address = Some(session.local_address);
                peer.bring_up(&mut self.out, &Collector { asn: Some(session.local_as), bgp_id: None, address }, time)?;
            }
            // The record does not say who ended the session, nor why; the NOTIFICATION, if there was one, was a record of its
            // own and has taken the peer down. "Closed without notification" claims the least of all reasons.
            (state::ESTABLISHED, _) => peer.take_down(&mut self.out, time, peer_down_reason::REMOTE_CLOSED, &[]),
            _ => {}
        }
        Ok(())
    }
}
