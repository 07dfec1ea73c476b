//! A station that believes all that it is told, so that what two of them know can be compared.
//!
//! It reads with the library's own parsers. It keeps all that it was told of routes, so that what two stations were told can be read in the same
//! way: one that was told more may see in what way NLRI are to be read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::Ipv4Addr,
};

use bmp_user::{
    feed::View,
    wire::{
        bgp::{self, Family, Fit, Form, Open, Reading, Update, attributes, identity, nlri, without_trailing_bits},
        bmp::{
            COMMON_HEADER, Frame, Message, MessageType, PER_PEER_HEADER, PeerHeader, PeerIdentity, PeerType, PeerUp,
            frames, peer_flags,
        },
    },
};

/// A station.
#[derive(Clone, Debug, Default)]
pub struct Station {
    /// By what tells peers apart.
    peers: BTreeMap<PeerIdentity, Heard>,
    /// The beginning or the end of a peer is that of all with its type, distinguisher and address (RFC 7854 §4.2).
    is_strict: bool,
    rest: Vec<u8>,
}

/// How the NLRI of RIBs are read.
pub type Readings = BTreeMap<(PeerIdentity, View, Family), Reading>;

/// What a station was told of a peer.
#[derive(Clone, Debug, Default)]
struct Heard {
    ups: Vec<Vec<u8>>,
    /// All that was said of the routes of each RIB, in order.
    fields: BTreeMap<(View, Family), Vec<Field>>,
    ends: BTreeSet<(View, Family)>,
    statistics: Option<Vec<u8>>,
}

/// Some NLRI in an UPDATE.
#[derive(Clone, Debug)]
struct Field {
    nlri: Vec<u8>,
    name: (u32, Ipv4Addr),
    flags: u8,
    time: (u32, u32),
    /// `None` if they are withdrawn.
    attributes: Option<Vec<u8>>,
}

/// What it knows of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The Peer Ups of its session, in the order in which they came; none for one that was never announced.
    pub ups: Vec<Vec<u8>>,
    /// Its routes, by what tells them apart.
    pub ribs: BTreeMap<(View, Family), BTreeMap<String, Route>>,
    /// Of which RIBs there was End-of-RIB.
    pub ends: BTreeSet<(View, Family)>,
    /// Its latest Statistics Report.
    pub statistics: Option<Vec<u8>>,
}

/// What it knows of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// AS and BGP identifier of the per-peer header.
    pub name: (u32, Ipv4Addr),
    /// The NLRI without bits that mean nothing; or the whole field, where NLRI cannot be told apart.
    pub nlri: Vec<u8>,
    /// Flags of the per-peer header.
    pub flags: u8,
    /// When it was received: seconds and microseconds.
    pub time: (u32, u32),
    /// See [`attributes_of`].
    pub attributes: Vec<u8>,
}

/// RIBs of families whose form is not known, of one peer, at most.
const MOST_UNKNOWN: usize = 64;

impl Station {
    /// A station that takes peers for one that have the same type, distinguisher and address.
    pub fn strict() -> Self {
        Self { is_strict: true, ..Self::default() }
    }

    /// A station that was told all of `stream`.
    pub fn of(stream: &[u8]) -> Self {
        let mut station = Self::default();
        station.read(stream);
        station
    }

    /// Reads a piece of what it is told, which may end anywhere.
    ///
    /// # Panics
    ///
    /// If that is not BMP, or is about the session and not about peers.
    pub fn read(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.rest);
        let mut whole = frames(&all);
        for frame in whole.by_ref() {
            self.frame(&frame.expect("a station is sent BMP"));
        }
        self.rest = all.get(whole.consumed()..).unwrap_or_default().to_vec();
    }

    /// Whether what it was told ended between two frames.
    pub fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }

    /// What it knows, less what is the same as to know nothing: RIBs without routes, and peers of which it was told nothing else.
    pub fn knows(&self) -> BTreeMap<PeerIdentity, Peer> {
        self.knows_as(&self.readings())
    }

    /// What it knows if it reads NLRI so. Who was told more may know better how they are to be read.
    pub fn knows_as(&self, readings: &Readings) -> BTreeMap<PeerIdentity, Peer> {
        let tidy = self.all_as(readings).into_iter().map(|(key, peer)| (key, peer.tidy()));
        tidy.filter(|(_, peer)| *peer != Peer::default()).collect()
    }

    /// All peers that it was told of, if it reads NLRI so.
    pub fn all_as(&self, readings: &Readings) -> BTreeMap<PeerIdentity, Peer> {
        self.peers.iter().map(|(key, heard)| (*key, heard.known_as(*key, readings))).collect()
    }

    /// How NLRI are read, by all that it was told.
    pub fn readings(&self) -> Readings {
        let of = |(key, heard): (&PeerIdentity, &Heard)| {
            let ribs = heard.fields.keys().map(|(view, family)| ((*view, *family), heard.reading(*view, *family)));
            ribs.map(|((view, family), reading)| ((*key, view, family), reading)).collect::<Vec<_>>()
        };
        self.peers.iter().flat_map(of).collect()
    }

    /// How many routes it knows.
    pub fn routes(&self) -> usize {
        self.knows().values().flat_map(|peer| peer.ribs.values()).map(BTreeMap::len).sum()
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        let Some((header, kind)) = PeerHeader::of(frame).zip(frame.message_type()) else {
            assert_eq!(frame.message_type(), None, "the feed says nothing about the session");
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
            (kind, message) => panic!("a station is sent a {kind} that is {message:?}"),
        }
    }
}

impl Station {
    /// The peer that a message is about: where the router left out AS or BGP identifier, the only one that it may be.
    fn peer_of(&self, header: &PeerHeader, kind: MessageType) -> PeerIdentity {
        let said = header.identity();
        let mut alike = self.peers.keys().filter(|known| known.key == said.key);
        match (alike.next(), alike.next()) {
            (Some(only), None) if kind != MessageType::PeerUp && only.may_be(&said) => *only,
            // With several, the feed tells of those alone that are named.
            _ => said,
        }
    }
}

impl Peer {
    /// Without RIBs that have no routes; and statistics alone make no peer of one that was never announced.
    #[must_use]
    pub fn tidy(mut self) -> Self {
        self.ribs.retain(|_, routes| !routes.is_empty());
        if self.ups.is_empty() && self.ribs.is_empty() && self.ends.is_empty() {
            self.statistics = None;
        }
        self
    }
}

impl Heard {
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
        let mut said = vec![(Family::IPV4_UNICAST, update.withdrawn, None)];
        said.extend(update.unreach.map(|unreach| (unreach.family, unreach.nlri, None)));
        said.push((Family::IPV4_UNICAST, update.nlri, Some(false)));
        said.extend(update.reach.map(|reach| (reach.family, reach.nlri, Some(true))));
        for (family, nlri, announced) in said {
            let rib = (view, family);
            let is_there = match announced {
                Some(in_reach) => (in_reach || !nlri.is_empty()) && self.makes(rib),
                None => self.fields.contains_key(&rib),
            };
            if is_there && !nlri.is_empty() {
                let attributes = announced.map(|in_reach| attributes_of(&update, in_reach));
                let time = (header.seconds, header.microseconds);
                let (name, flags) = ((header.asn, header.bgp_id), header.flags);
                let field = Field { nlri: nlri.to_vec(), name, flags, time, attributes };
                self.fields.entry(rib).or_default().push(field);
            }
        }
    }

    /// Begins a RIB, if it is not there. False if there are too many of unknown families.
    fn makes(&mut self, rib: (View, Family)) -> bool {
        let unknown = self.fields.keys().filter(|(_, family)| Form::of(*family).is_none()).count();
        let may = self.fields.contains_key(&rib) || Form::of(rib.1).is_some() || unknown < MOST_UNKNOWN;
        if may {
            self.fields.entry(rib).or_default();
        }
        may
    }

    /// A session that goes on, or another one.
    fn comes_up(&mut self, bytes: &[u8], up: &PeerUp<'_>) {
        if self.ups.iter().any(|known| known == bytes) {
            return;
        }
        if !self.ups.first().and_then(|first| peer_up(first)).is_some_and(|first| first.is_of_same_session(up)) {
            *self = Self::default();
        }
        self.ups.push(bytes.to_vec());
    }

    /// A table is over, or all if none is named. True if nothing is left.
    fn goes_down(&mut self, table: Option<&[u8]>) -> bool {
        let named = |up: &[u8]| peer_up(up).and_then(|up| up.table_name().map(<[u8]>::to_vec));
        let has_others = self.ups.iter().any(|up| named(up).as_deref() != table);
        let is_all = table.is_none() && !self.ups.iter().any(|up| named(up).is_none());
        self.ups.retain(|up| named(up).as_deref() != table);
        is_all || !has_others
    }

    /// How NLRI of a RIB are read: in the way in which they come out best, or else as the OPENs say.
    fn reading(&self, view: View, family: Family) -> Reading {
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

    fn known_as(&self, key: PeerIdentity, readings: &Readings) -> Peer {
        let mut ribs = BTreeMap::new();
        for (rib, fields) in &self.fields {
            let mut routes = BTreeMap::new();
            let reading = readings.get(&(key, rib.0, rib.1)).copied().unwrap_or_else(|| self.reading(rib.0, rib.1));
            for field in fields {
                for (name, nlri) in field.routes(reading) {
                    let Field { name: peer, flags, time, .. } = *field;
                    match field.attributes.clone() {
                        Some(attributes) => {
                            drop(routes.insert(name, Route { name: peer, nlri, flags, time, attributes }))
                        }
                        None => drop(routes.remove(&name)),
                    }
                }
            }
            ribs.insert(*rib, routes);
        }
        Peer { ups: self.ups.clone(), ribs, ends: self.ends.clone(), statistics: self.statistics.clone() }
    }
}

impl Field {
    fn as_it_is_read(&self, reading: Reading) -> Reading {
        if self.attributes.is_some() { reading } else { reading.withdrawn() }
    }

    /// The routes in it, by what tells them apart. Where they cannot be told apart, the field is one.
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

/// An NLRI without the bits behind the end of its prefix.
pub fn with_meaning(form: Form, path_ids: bool, item: &[u8]) -> Vec<u8> {
    let mut meant = item.to_vec();
    if let (Some(last), Some(byte)) = (without_trailing_bits(form, path_ids, item), meant.last_mut()) {
        *byte = last;
    }
    meant
}

/// The attributes that an UPDATE gives the routes in its MP_REACH_NLRI, or those in the field for IPv4 unicast: without the routes, and
/// without how long the length of MP_REACH_NLRI is written.
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

fn view_of(header: &PeerHeader) -> View {
    let post = header.flags & peer_flags::POST_POLICY != 0;
    let out = header.flags & peer_flags::ADJ_RIB_OUT != 0;
    match (header.key.peer_type, out, post) {
        (PeerType::LOC_RIB, ..) => View::LocRib,
        (_, false, false) => View::AdjRibInPre,
        (_, false, true) => View::AdjRibInPost,
        (_, true, false) => View::AdjRibOutPre,
        (_, true, true) => View::AdjRibOutPost,
    }
}

fn peer_up(bytes: &[u8]) -> Option<PeerUp<'_>> {
    match Message::parse(&frames(bytes).next()?.ok()?) {
        Ok(Message::PeerUp(up)) => Some(up),
        _ => None,
    }
}

/// Whether routes have stacks of labels by the OPENs of a Peer Up (RFC 8277 §2.1).
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

/// Whether routes have path identifiers by the OPENs of a Peer Up (RFC 7911 §4, RFC 9069 §5.2).
fn has_path_ids(up: &[u8], view: View, family: Family) -> bool {
    let Some(PeerUp { sent_open, received_open, .. }) = peer_up(up) else { return false };
    let both = [sent_open, received_open].map(|open| {
        let frame = bgp::Frame::parse(open).ok()?;
        let add_path = Open::parse(&frame).ok()?.add_path();
        Some(add_path.map_or((false, false), |add_path| (add_path.sends(family), add_path.receives(family))))
    });
    let [Some((we_send, we_receive)), Some((it_sends, it_receives))] = both else { return false };
    match view {
        View::AdjRibInPre | View::AdjRibInPost => we_receive && it_sends,
        View::AdjRibOutPre | View::AdjRibOutPost => we_send && it_receives,
        View::LocRib => (we_send || we_receive) && (it_sends || it_receives),
    }
}
