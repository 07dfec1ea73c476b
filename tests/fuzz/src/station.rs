//! A model of a station's knowledge, so that the knowledge of two stations can be compared.
//!
//! It uses the library's parsers. It keeps every NLRI field, and reads the fields only on request:
//! a station that received more may know better how NLRI must be read. So two stations can be
//! compared with the same readings.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::Ipv4Addr,
};

use bmp_user::wire::{
    bgp::{self, Family, Fit, Form, Open, Reading, Update, attributes, identity, nlri, without_trailing_bits},
    bmp::{
        COMMON_HEADER, Frame, Message, MessageType, PER_PEER_HEADER, PeerHeader, PeerIdentity, PeerType, PeerUp,
        RibView, frames, peer_flags,
    },
};

/// A station's knowledge.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    /// Peers by their identity.
    peers: BTreeMap<PeerIdentity, PeerMessages>,
    /// True if Peer Up and Peer Down hit all peers with the same type, distinguisher and address
    /// (RFC 7854 §4.2).
    is_strict: bool,
    rest: Vec<u8>,
}

/// How the NLRI of each RIB are read.
pub type RibReadings = BTreeMap<(PeerIdentity, RibView, Family), Reading>;

/// The messages about one peer.
#[derive(Clone, Debug, Default)]
struct PeerMessages {
    ups: Vec<Vec<u8>>,
    /// Every NLRI field of each RIB, in order.
    fields: BTreeMap<(RibView, Family), Vec<NlriField>>,
    ends: BTreeSet<(RibView, Family)>,
    statistics: Option<Vec<u8>>,
}

/// One NLRI field of an UPDATE.
#[derive(Clone, Debug)]
struct NlriField {
    nlri: Vec<u8>,
    name: (u32, Ipv4Addr),
    flags: u8,
    time: (u32, u32),
    /// `None` for withdrawn routes.
    attributes: Option<Vec<u8>>,
}

/// Knowledge about a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownPeer {
    /// The Peer Ups of its session, in order. Empty for a peer that was never announced.
    pub ups: Vec<Vec<u8>>,
    /// Its routes, by name.
    pub ribs: BTreeMap<(RibView, Family), BTreeMap<String, KnownRoute>>,
    /// The RIBs with an End-of-RIB.
    pub ends: BTreeSet<(RibView, Family)>,
    /// Its latest Statistics Report.
    pub statistics: Option<Vec<u8>>,
}

/// Knowledge about a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRoute {
    /// AS number and BGP identifier of the per-peer header.
    pub name: (u32, Ipv4Addr),
    /// The NLRI without meaningless bits, or the whole field if its routes cannot be told apart.
    pub nlri: Vec<u8>,
    /// Flags of the per-peer header.
    pub flags: u8,
    /// Time of receipt, in seconds and microseconds.
    pub time: (u32, u32),
    /// See [`attributes_of`].
    pub attributes: Vec<u8>,
}

/// Most RIBs of one peer in families of unknown form.
const MOST_UNKNOWN: usize = 64;

impl Replica {
    /// Makes a station that tells peers apart by type, distinguisher and address only.
    pub fn strict() -> Self {
        Self { is_strict: true, ..Self::default() }
    }

    /// Makes a station that has read all of `stream`.
    pub fn of(stream: &[u8]) -> Self {
        let mut station = Self::default();
        station.read(stream);
        station
    }

    /// Reads a piece of a stream, which may end anywhere.
    ///
    /// # Panics
    ///
    /// If the bytes are not BMP, or a message is about the session.
    pub fn read(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.rest);
        let mut whole = frames(&all);
        for frame in whole.by_ref() {
            self.frame(&frame.expect("the stream is BMP"));
        }
        self.rest = all.get(whole.consumed()..).unwrap_or_default().to_vec();
    }

    /// True if the stream so far ends between two frames.
    pub fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }

    /// Returns its knowledge by its own readings, without RIBs that have no routes and peers
    /// without anything.
    pub fn knows(&self) -> BTreeMap<PeerIdentity, KnownPeer> {
        self.knows_as(&self.readings())
    }

    /// Returns its knowledge by the given readings. A station that received more may have better
    /// ones.
    pub fn knows_as(&self, readings: &RibReadings) -> BTreeMap<PeerIdentity, KnownPeer> {
        let tidy = self.all_as(readings).into_iter().map(|(key, peer)| (key, peer.tidy()));
        tidy.filter(|(_, peer)| *peer != KnownPeer::default()).collect()
    }

    /// Returns all peers by the given readings, with empty ones.
    pub fn all_as(&self, readings: &RibReadings) -> BTreeMap<PeerIdentity, KnownPeer> {
        self.peers.iter().map(|(key, messages)| (*key, messages.known_as(*key, readings))).collect()
    }

    /// Returns the readings that follow from all received NLRI.
    pub fn readings(&self) -> RibReadings {
        let of = |(key, messages): (&PeerIdentity, &PeerMessages)| {
            let ribs =
                messages.fields.keys().map(|(view, family)| ((*view, *family), messages.reading(*view, *family)));
            ribs.map(|((view, family), reading)| ((*key, view, family), reading)).collect::<Vec<_>>()
        };
        self.peers.iter().flat_map(of).collect()
    }

    /// Returns the number of its routes.
    pub fn routes(&self) -> usize {
        self.knows().values().flat_map(|peer| peer.ribs.values()).map(BTreeMap::len).sum()
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        let Some((header, kind)) = PeerHeader::of(frame).zip(frame.message_type()) else {
            assert_eq!(frame.message_type(), None, "the feed has no message about the session");
            return;
        };
        let key = self.peer_of(&header, kind);
        if self.is_strict && kind == MessageType::PeerDown {
            self.peers.retain(|known, _| known.key != key.key);
            return;
        }
        let message = Message::parse(frame);
        match (kind, message) {
            (MessageType::PeerUp, Ok(Message::PeerUp(up))) => {
                let is_beside =
                    |known: &PeerIdentity| known.key != key.key || *known == key || up.table_name().is_some();
                self.peers.retain(|known, _| !self.is_strict || is_beside(known));
                self.peers.entry(key).or_default().comes_up(frame.bytes(), &up);
            }
            (MessageType::PeerDown, Ok(Message::PeerDown(down))) => {
                let has_tables = key.key.peer_type == PeerType::LOC_RIB;
                let left = self.peers.get_mut(&key).filter(|_| has_tables);
                let is_over = left.is_none_or(|peer| peer.goes_down(down.table_name()));
                if is_over {
                    self.peers.remove(&key);
                }
            }
            (MessageType::StatisticsReport, _) => {
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.statistics = Some(frame.bytes().to_vec());
                }
            }
            (MessageType::RouteMonitoring, _) => {
                if let Some(header) = PeerHeader::of(frame) {
                    self.peers.entry(key).or_default().update(&header, frame);
                }
            }
            (MessageType::RouteMirroring, _) => {}
            (kind, message) => panic!("the feed has a {kind} with {message:?}"),
        }
    }
}

impl Replica {
    /// Finds the peer of a message. If the router left out AS number or BGP identifier, it is the
    /// only peer that fits.
    fn peer_of(&self, header: &PeerHeader, kind: MessageType) -> PeerIdentity {
        let identity = header.identity();
        let mut alike = self.peers.keys().filter(|known| known.key == identity.key);
        match (alike.next(), alike.next()) {
            (Some(only), None) if kind != MessageType::PeerUp && only.may_be(&identity) => *only,
            // If several fit, the feed reports only peers with complete identities.
            _ => identity,
        }
    }
}

impl KnownPeer {
    /// Removes RIBs without routes. Removes the statistics of a peer that has nothing else.
    #[must_use]
    pub fn tidy(mut self) -> Self {
        self.ribs.retain(|_, routes| !routes.is_empty());
        if self.ups.is_empty() && self.ribs.is_empty() && self.ends.is_empty() {
            self.statistics = None;
        }
        self
    }
}

impl PeerMessages {
    fn update(&mut self, header: &PeerHeader, frame: &Frame<'_>) {
        let message = frame.bytes().get(COMMON_HEADER + PER_PEER_HEADER..).unwrap_or_default();
        let as_size = if header.flags & peer_flags::TWO_BYTE_AS == 0 { 4 } else { 2 };
        let Ok(update) = Update::parse(message, as_size) else { return };
        let view = view_of(header);
        if let Some(family) = update.end_of_rib() {
            if self.makes((view, family)) {
                self.ends.insert((view, family));
            }
            return;
        }
        let mut parts = vec![(Family::IPV4_UNICAST, update.withdrawn, None)];
        parts.extend(update.unreach.map(|unreach| (unreach.family, unreach.nlri, None)));
        parts.push((Family::IPV4_UNICAST, update.nlri, Some(false)));
        parts.extend(update.reach.map(|reach| (reach.family, reach.nlri, Some(true))));
        for (family, nlri, announced) in parts {
            let rib = (view, family);
            let is_there = match announced {
                Some(in_reach) => (in_reach || !nlri.is_empty()) && self.makes(rib),
                None => self.fields.contains_key(&rib),
            };
            if is_there && !nlri.is_empty() {
                let attributes = announced.map(|in_reach| attributes_of(&update, in_reach));
                let time = (header.seconds, header.microseconds);
                let (name, flags) = ((header.asn, header.bgp_id), header.flags);
                let field = NlriField { nlri: nlri.to_vec(), name, flags, time, attributes };
                self.fields.entry(rib).or_default().push(field);
            }
        }
    }

    /// Makes a RIB if it is missing. Returns false if there are too many of unknown form.
    fn makes(&mut self, rib: (RibView, Family)) -> bool {
        let unknown = self.fields.keys().filter(|(_, family)| Form::of(*family).is_none()).count();
        let may = self.fields.contains_key(&rib) || Form::of(rib.1).is_some() || unknown < MOST_UNKNOWN;
        if may {
            self.fields.entry(rib).or_default();
        }
        may
    }

    /// Applies a Peer Up, of the same session or of a new one.
    fn comes_up(&mut self, bytes: &[u8], up: &PeerUp<'_>) {
        if self.ups.iter().any(|known| known == bytes) {
            return;
        }
        if !self.ups.first().and_then(|first| peer_up(first)).is_some_and(|first| first.is_of_same_session(up)) {
            *self = Self::default();
        }
        self.ups.push(bytes.to_vec());
    }

    /// Ends one table, or all if none is named. Returns true if none is left.
    fn goes_down(&mut self, table: Option<&[u8]>) -> bool {
        let named = |up: &[u8]| peer_up(up).and_then(|up| up.table_name().map(<[u8]>::to_vec));
        let has_others = self.ups.iter().any(|up| named(up).as_deref() != table);
        let is_all = table.is_none() && !self.ups.iter().any(|up| named(up).is_none());
        self.ups.retain(|up| named(up).as_deref() != table);
        is_all || !has_others
    }

    /// Chooses how to read the NLRI of a RIB: the reading that fits best, or else the one of the
    /// OPENs.
    fn reading(&self, view: RibView, family: Family) -> Reading {
        let path_ids = self.ups.iter().any(|up| has_path_ids(up, view, family));
        let stack = self.ups.iter().any(|up| has_stacks(up, family));
        let stacks = if self.ups.is_empty() { vec![stack, !stack] } else { vec![stack] };
        let mut ways: Vec<Reading> = Vec::new();
        for stack in stacks {
            ways.extend([path_ids, !path_ids].map(|path_ids| Reading::of(family, path_ids, stack)));
        }
        ways.dedup();
        for field in self.fields.get(&(view, family)).into_iter().flatten() {
            let fits: Vec<Fit> = ways.iter().map(|way| field.as_it_is_read(*way).fit(&field.nlri)).collect();
            let best = fits.iter().copied().max().unwrap_or(Fit::Uneven);
            if best > Fit::Uneven {
                let mut fits = fits.into_iter();
                ways.retain(|_| fits.next() == Some(best));
            }
        }
        ways[0]
    }

    fn known_as(&self, key: PeerIdentity, readings: &RibReadings) -> KnownPeer {
        let mut ribs = BTreeMap::new();
        for (rib, fields) in &self.fields {
            let mut routes = BTreeMap::new();
            let reading = readings.get(&(key, rib.0, rib.1)).copied().unwrap_or_else(|| self.reading(rib.0, rib.1));
            for field in fields {
                for (name, nlri) in field.routes(reading) {
                    let NlriField { name: peer, flags, time, .. } = *field;
                    match field.attributes.clone() {
                        Some(attributes) => {
                            drop(routes.insert(name, KnownRoute { name: peer, nlri, flags, time, attributes }))
                        }
                        None => drop(routes.remove(&name)),
                    }
                }
            }
            ribs.insert(*rib, routes);
        }
        KnownPeer { ups: self.ups.clone(), ribs, ends: self.ends.clone(), statistics: self.statistics.clone() }
    }
}

impl NlriField {
    fn as_it_is_read(&self, reading: Reading) -> Reading {
        if self.attributes.is_some() { reading } else { reading.withdrawn() }
    }

    /// Splits the field into named routes. If they cannot be told apart, the whole field is one
    /// route.
    fn routes(&self, reading: Reading) -> Vec<(String, Vec<u8>)> {
        let Reading { form, path_ids } = self.as_it_is_read(reading);
        let all: Result<Vec<_>, _> = nlri(form, path_ids, &self.nlri).collect();
        let Some(all) = all.ok().filter(|_| form != Form::Whole) else {
            return vec![(format!("all of {:x?}", self.nlri), self.nlri.clone())];
        };
        let named = |item: &[u8]| {
            let item = with_meaning(form, path_ids, item);
            let mut name = String::new();
            let _ = write!(name, "{:?}", identity(form, path_ids, &item));
            (name, item)
        };
        all.into_iter().map(named).collect()
    }
}

/// Clears the bits after the end of a prefix.
pub fn with_meaning(form: Form, path_ids: bool, item: &[u8]) -> Vec<u8> {
    let mut meant = item.to_vec();
    if let (Some(last), Some(byte)) = (without_trailing_bits(form, path_ids, item), meant.last_mut()) {
        *byte = last;
    }
    meant
}

/// Returns the attributes of the routes in MP_REACH_NLRI, or of those in the IPv4 unicast field.
/// Leaves out the routes themselves, and the form of MP_REACH_NLRI's length.
pub fn attributes_of(update: &Update<'_>, in_reach: bool) -> Vec<u8> {
    const EXTENDED_LENGTH: u8 = 0x10;
    let mut out = Vec::new();
    for attribute in attributes(update.attributes).flatten() {
        let all = update.attributes.get(attribute.at..attribute.end).unwrap_or_default();
        match (update.reach, update.unreach) {
            (_, Some(unreach)) if unreach.at == attribute.at => {}
            (Some(reach), _) if reach.at == attribute.at => {
                if in_reach {
                    let value = attribute.value.len() - reach.nlri.len();
                    out.extend([attribute.flags | EXTENDED_LENGTH, attribute.kind]);
                    out.extend(attribute.value.get(..value).unwrap_or_default());
                }
            }
            _ => out.extend(all),
        }
    }
    out
}

fn view_of(header: &PeerHeader) -> RibView {
    let post = header.flags & peer_flags::POST_POLICY != 0;
    let out = header.flags & peer_flags::ADJ_RIB_OUT != 0;
    match (header.key.peer_type, out, post) {
        (PeerType::LOC_RIB, ..) => RibView::LocRib,
        (_, false, false) => RibView::AdjRibInPre,
        (_, false, true) => RibView::AdjRibInPost,
        (_, true, false) => RibView::AdjRibOutPre,
        (_, true, true) => RibView::AdjRibOutPost,
    }
}

fn peer_up(bytes: &[u8]) -> Option<PeerUp<'_>> {
    match Message::parse(&frames(bytes).next()?.ok()?) {
        Ok(Message::PeerUp(up)) => Some(up),
        _ => None,
    }
}

/// True if routes have label stacks by the OPENs of a Peer Up (RFC 8277 §2.1).
fn has_stacks(up: &[u8], family: Family) -> bool {
    const MULTIPLE_LABELS: u8 = 8;
    let Some(PeerUp { sent_open, received_open, .. }) = peer_up(up) else { return false };
    let [high, low] = family.afi.to_be_bytes();
    [sent_open, received_open].into_iter().all(|open| {
        let Ok(frame) = bgp::Frame::parse(open) else { return false };
        let Ok(open) = Open::parse(&frame) else { return false };
        open.capabilities().any(|capability| match capability {
            bgp::Capability::Other { code: MULTIPLE_LABELS, value } => {
                value.chunks_exact(4).any(|entry| entry[..3] == [high, low, family.safi] && entry[3] > 1)
            }
            _ => false,
        })
    })
}

/// True if routes have path identifiers by the OPENs of a Peer Up (RFC 7911 §4, RFC 9069 §5.2).
fn has_path_ids(up: &[u8], view: RibView, family: Family) -> bool {
    let Some(PeerUp { sent_open, received_open, .. }) = peer_up(up) else { return false };
    let both = [sent_open, received_open].map(|open| {
        let frame = bgp::Frame::parse(open).ok()?;
        let add_path = Open::parse(&frame).ok()?.add_path();
        Some(add_path.map_or((false, false), |add_path| (add_path.sends(family), add_path.receives(family))))
    });
    let [Some((we_send, we_receive)), Some((it_sends, it_receives))] = both else { return false };
    match view {
        RibView::AdjRibInPre | RibView::AdjRibInPost => we_receive && it_sends,
        RibView::AdjRibOutPre | RibView::AdjRibOutPost => we_send && it_receives,
        RibView::LocRib => (we_send || we_receive) && (it_sends || it_receives),
    }
}
