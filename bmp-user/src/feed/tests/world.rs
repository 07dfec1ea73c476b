//! A small world for the tests of the feed: peers, RIBs, routes and attributes by number, how they look on the wire, and what they are when
//! somebody reads them there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BufMut;

use crate::{
    feed::View,
    wire::{
        bgp::{Family, Form, HEADER, Update, attributes, nlri},
        bmp::{
            COMMON_HEADER, Frame, Message, MessageType, PER_PEER_HEADER, PeerHeader, PeerType, PeerUp, frames,
            peer_flags, samples,
        },
    },
};

pub(super) const FAMILIES: [Family; 5] =
    [Family::IPV4_UNICAST, Family::IPV6_UNICAST, Family::VPNV4, Family::L2VPN_EVPN, UNKNOWN];
/// A family whose form the feed does not know, and stations do.
pub(super) const UNKNOWN: Family = Family::new(99, 99);
pub(super) const VIEWS: [View; 4] = [View::AdjRibInPre, View::AdjRibInPost, View::AdjRibOutPost, View::AdjRibOutPre];
/// The peer whose routes have path identifiers.
pub(super) const ADD_PATH_PEER: u8 = 1;
/// The port of sessions whose OPENs say the opposite.
pub(super) const LYING_PORT: u16 = 2;
/// A Loc-RIB peer.
pub(super) const LOC_RIB_PEER: u8 = 3;
/// The peer that is never announced.
pub(super) const UNANNOUNCED_PEER: u8 = 4;
/// A peer with the type, distinguisher and address of peer 0, and another BGP identifier.
pub(super) const LOOK_ALIKE_PEER: u8 = 6;
/// The names of the tables that a Loc-RIB may be announced for, beside none.
const TABLES: [&[u8]; 2] = [b"inet.0", b"inet6.0"];
/// The set of attributes that is malformed. Routes are kept with it all the same.
pub(super) const MALFORMED_SET: u8 = 4;
/// The set whose AS path has AS numbers of two octets, of which the A flag says nothing.
const SHORT_PATH_SET: u8 = 5;
/// The set whose AS path has AS numbers of four octets where the A flag says two.
const WRONG_FLAG_SET: u8 = 6;
/// How many sets there are.
pub(super) const SETS: u8 = 7;
/// There is no such origin (RFC 7606 §7.1).
const NO_ORIGIN: u8 = 9;

/// A route, by numbers: which it is, and with which label or gateway, which are not part of what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Route {
    pub(super) prefix: u8,
    pub(super) path: u8,
    pub(super) variant: u8,
}

/// What tells a route from another.
pub(super) type Name = (u8, u8);
/// What is said of a route: the attributes as (flags, type, value) and the variant.
pub(super) type Said = (Vec<(u8, u8, Vec<u8>)>, u8);

pub(super) fn view_of_peer(peer: u8, view: usize) -> View {
    if peer == LOC_RIB_PEER { View::LocRib } else { VIEWS[view % VIEWS.len()] }
}

pub(super) fn header(peer: u8, view: View, time: u32) -> Vec<u8> {
    let (peer_type, flags) = match view {
        View::LocRib => (PeerType::LOC_RIB, 0),
        View::AdjRibInPre => (PeerType::GLOBAL, 0),
        View::AdjRibInPost => (PeerType::GLOBAL, 0x40),
        View::AdjRibOutPre => (PeerType::GLOBAL, 0x10),
        View::AdjRibOutPost => (PeerType::GLOBAL, 0x50),
    };
    let address = if peer == LOOK_ALIKE_PEER { 0 } else { peer };
    let mut header = samples::peer_header(address, peer_type, flags);
    header[33] = peer;
    header[34..38].copy_from_slice(&time.to_be_bytes());
    header
}

/// The number of the peer that a frame is about.
pub(super) fn peer_number(header: &PeerHeader) -> u8 {
    if header.key.peer_type == PeerType::LOC_RIB { LOC_RIB_PEER } else { header.bgp_id.octets()[3] }
}

pub(super) fn up(peer: u8, port: u16) -> Vec<u8> {
    up_of_view(peer, port, 0)
}

/// One of several that a router says of one session, for each view one, or for each table of a Loc-RIB.
pub(super) fn up_of_view(peer: u8, port: u16, view: usize) -> Vec<u8> {
    up_at(peer, port, view, 1)
}

/// The same, with a time of its own.
pub(super) fn up_at(peer: u8, port: u16, view: usize, time: u32) -> Vec<u8> {
    let header = header(peer, view_of_peer(peer, view), time);
    if (peer == ADD_PATH_PEER) == (port == LYING_PORT) {
        let table = TABLES.get(view).filter(|_| peer == LOC_RIB_PEER).map(|name| (3, *name));
        return samples::peer_up_of(&header, port, table.as_slice());
    }
    // Multiprotocol is not looked at; ADD-PATH both ways for all families (RFC 7911 §4).
    let mut families = Vec::new();
    for family in FAMILIES {
        families.put_u16(family.afi);
        families.put_u8(family.safi);
        families.put_u8(3);
    }
    let mut capability = vec![69, families.len() as u8];
    capability.extend(families);
    let mut open = vec![4, 0xfd, 0xe9, 0, 180, 192, 0, 2, 1, capability.len() as u8 + 2, 2, capability.len() as u8];
    open.extend(capability);
    let open = samples::bgp(1, &open);
    let mut body = header;
    body.put_bytes(0, 12);
    body.put_slice(&[192, 0, 2, 254]);
    body.put_u16(port);
    body.put_u16(179);
    body.extend(&open);
    body.extend(&open);
    samples::frame(3, &body)
}

pub(super) fn down(peer: u8, code: u16) -> Vec<u8> {
    let mut body = header(peer, view_of_peer(peer, 0), 2);
    body.push(2);
    body.put_u16(code);
    samples::frame(2, &body)
}

pub(super) fn statistics(peer: u8, value: u32) -> Vec<u8> {
    let mut body = header(peer, view_of_peer(peer, 0), 3);
    body.extend([0, 0, 0, 1, 0, 0, 0, 4]);
    body.put_u32(value);
    samples::frame(1, &body)
}

pub(super) fn mirrored(peer: u8) -> Vec<u8> {
    let mut body = header(peer, view_of_peer(peer, 0), 3);
    body.extend([0, 1, 0, 2, 0, 0]);
    samples::frame(6, &body)
}

/// An NLRI. `withdrawn` is how a withdrawal writes it.
fn item(path_ids: bool, family: Family, route: Route, withdrawn: bool) -> Vec<u8> {
    let mut out = Vec::new();
    if family == UNKNOWN {
        return vec![2, route.prefix, if withdrawn { 0 } else { route.variant }];
    }
    if path_ids {
        out.put_u32(route.path.into());
    }
    match family {
        Family::IPV4_UNICAST => out.extend([24, 10, 1, route.prefix]),
        Family::IPV6_UNICAST => {
            out.extend([128, 0x20, 1, 0xd, 0xb8]);
            out.put_bytes(0, 11);
            out.push(route.prefix);
        }
        Family::VPNV4 => {
            let label = if withdrawn { [0x80, 0, 0] } else { [0, route.variant, 0x11] };
            out.push(24 + 64 + 32);
            out.extend(label);
            out.extend([0, 0, 0xfd, 0xe8, 0, 0, 0, 1, 10, 2, 0, route.prefix]);
        }
        _ => {
            // MAC/IP advertisement (RFC 7432 §7.2): RD, ESI, tag, MAC, no IP, label.
            out.extend([2, 33, 0, 0, 0xfd, 0xe8, 0, 0, 0, 1]);
            out.put_bytes(if withdrawn { 0 } else { route.variant }, 10);
            out.extend([0, 0, 0, 0, 48, 2, 0, 0, 0, 0, route.prefix, 0]);
            out.extend([0, if withdrawn { 0 } else { route.variant }, 1]);
        }
    }
    out
}

/// The attributes of a set, without those that carry routes.
fn set(number: u8) -> Vec<u8> {
    let origin = if number == MALFORMED_SET { NO_ORIGIN } else { 0 };
    let path: &[u8] = if number == SHORT_PATH_SET { &[4, 2, 1, 0xfd, 0xe9] } else { &[6, 2, 1, 0, 0, 0xfd, 0xe9] };
    let mut out = vec![0x40, 1, 1, origin, 0x40, 2];
    out.extend(path);
    out.extend([0x40, 3, 4, 192, 0, 2, 1]);
    out.extend([0xc0, 8, 4, 0, 1, 0, number]);
    // One that nobody knows, in part with an extended length, and large in one of the sets.
    out.extend([0xd0, 99, if number == 3 { 4 } else { 0 }, 2]);
    out.put_bytes(number, if number == 3 { 4 * 256 + 2 } else { 2 });
    out
}

/// A part of an UPDATE.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) family: Family,
    pub(super) withdrawn: Vec<Route>,
    pub(super) announced: Vec<Route>,
}

/// Whether a peer's NLRI of a family have path identifiers. `otherwise` is true for what is written as the others are not.
pub(super) fn has_path_ids(peer: u8, family: Family, otherwise: bool) -> bool {
    (peer == ADD_PATH_PEER) != (otherwise && family != Family::IPV4_UNICAST)
}

/// The name of a route of a peer. One that is written otherwise is another route.
pub(super) fn name(peer: u8, family: Family, route: Route, otherwise: bool) -> Name {
    let otherwise = otherwise && family != Family::IPV4_UNICAST;
    let path = match (family == UNKNOWN, has_path_ids(peer, family, otherwise)) {
        (true, _) => 0,
        (false, false) => {
            if otherwise {
                PLAIN
            } else {
                0
            }
        }
        (false, true) => {
            if otherwise {
                route.path + NUMBERED
            } else {
                route.path
            }
        }
    };
    (route.prefix, path)
}

/// What stands for the path of a route without path identifier where others have one.
const PLAIN: u8 = 9;
/// What is added to the path of a route with path identifier where others have none.
const NUMBERED: u8 = 20;

/// A Route Monitoring message with IPv4 unicast routes, routes of one other family, or both.
pub(super) fn update(peer: u8, view: View, time: u32, number: u8, parts: &[Part]) -> Vec<u8> {
    update_otherwise(peer, view, time, number, parts, false)
}

/// The same, with path identifiers where others of the peer have none, or the reverse; but for IPv4 unicast, of which that is not always to be seen.
pub(super) fn update_otherwise(
    peer: u8,
    view: View,
    time: u32,
    number: u8,
    parts: &[Part],
    otherwise: bool,
) -> Vec<u8> {
    let (mut withdrawn, mut announced, mut reach, mut unreach) = (vec![], vec![], vec![], vec![]);
    let items = |family, routes: &[Route], gone| -> Vec<u8> {
        routes.iter().flat_map(|route| item(has_path_ids(peer, family, otherwise), family, *route, gone)).collect()
    };
    for Part { family, withdrawn: gone, announced: new } in parts {
        let (gone, new) = (items(*family, gone, true), items(*family, new, false));
        if *family == Family::IPV4_UNICAST {
            (withdrawn, announced) = (gone, new);
            continue;
        }
        if !new.is_empty() {
            let mut value = Vec::new();
            value.put_u16(family.afi);
            value.extend([family.safi, 4, 192, 0, 2, 9, 0]);
            value.extend(new);
            reach.extend([0x90, 14]);
            reach.put_u16(value.len() as u16);
            reach.extend(value);
        }
        if !gone.is_empty() {
            unreach.extend([0x90, 15]);
            unreach.put_u16(3 + gone.len() as u16);
            unreach.put_u16(family.afi);
            unreach.push(family.safi);
            unreach.extend(gone);
        }
    }
    let mut attributes = unreach;
    let has_attributes = !announced.is_empty() || !reach.is_empty();
    if has_attributes {
        attributes.extend(reach);
        attributes.extend(set(number));
    }
    let mut body = Vec::new();
    body.put_u16(withdrawn.len() as u16);
    body.extend(withdrawn);
    body.put_u16(attributes.len() as u16);
    body.extend(attributes);
    body.extend(announced);
    let mut message = header(peer, view, time);
    if number == WRONG_FLAG_SET && has_attributes {
        message[1] |= peer_flags::TWO_BYTE_AS;
    }
    message.extend(samples::bgp(2, &body));
    samples::frame(0, &message)
}

pub(super) fn end_of_rib(peer: u8, view: View, family: Family) -> Vec<u8> {
    let mut body = vec![0, 0];
    if family == Family::IPV4_UNICAST {
        body.put_u16(0);
    } else {
        body.extend([0, 6, 0x80, 15, 3]);
        body.put_u16(family.afi);
        body.push(family.safi);
    }
    let mut message = header(peer, view, 4);
    message.extend(samples::bgp(2, &body));
    samples::frame(0, &message)
}

/// What is known of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Peer {
    /// The Peer Ups of its session.
    pub(super) ups: BTreeSet<Vec<u8>>,
    pub(super) ribs: BTreeMap<(View, Family), BTreeMap<Name, Said>>,
    pub(super) ends: BTreeSet<(View, Family)>,
    pub(super) statistics: Option<Vec<u8>>,
}

impl Peer {
    /// What a failed test says of it.
    pub(super) fn summary(&self) -> String {
        let mut text = format!("port {:?}", self.ups.iter().map(|up| (up[7], up[64..68].to_vec())).collect::<Vec<_>>());
        for ((view, family), routes) in &self.ribs {
            text += &format!("; {view:?} {family}:");
            for ((prefix, path), (attributes, variant)) in routes {
                let set = attributes.iter().rev().nth(1).map(|last| last.2[0]);
                text += &format!(" {prefix}/{path}={set:?}/{variant}");
            }
        }
        for (view, family) in &self.ends {
            text += &format!("; end of {view:?} {family}");
        }
        text + if self.statistics.is_some() { "; statistics" } else { "" }
    }

    /// Takes a Peer Up. True if it begins another session: not with another time, view or table alone.
    pub(super) fn comes_up(&mut self, up: &[u8]) -> bool {
        let other = !self.ups.iter().any(|known| session_of(known) == session_of(up));
        if other {
            *self = Self::default();
        }
        if !self.ups.iter().any(|known| without_time(known) == without_time(up)) {
            self.ups.insert(up.to_vec());
        }
        other
    }

    /// Without RIBs that have no routes.
    pub(super) fn tidy(mut self) -> Self {
        self.ribs.retain(|_, routes| !routes.is_empty());
        self
    }
}

/// A Peer Up less its time.
fn without_time(up: &[u8]) -> [&[u8]; 2] {
    [&up[..40], &up[48..]]
}

/// What one session has in all its Peer Ups: ends and OPENs.
fn session_of(up: &[u8]) -> Vec<u8> {
    let parsed = frames(up).next().unwrap().unwrap();
    let Ok(Message::PeerUp(PeerUp { sent_open, received_open, .. })) = Message::parse(&parsed) else {
        panic!("a Peer Up")
    };
    [&up[48..68], sent_open, received_open].concat()
}

/// The attributes of a set as somebody reads them who reads routes of a family.
pub(super) fn said(number: u8, family: Family, variant: u8) -> Said {
    let mut all = attributes_of(&set(number));
    if family != Family::IPV4_UNICAST {
        let mut value = Vec::new();
        value.put_u16(family.afi);
        value.extend([family.safi, 4, 192, 0, 2, 9, 0]);
        all.insert(0, (0x80, 14, value));
    }
    all.push(flag(number == WRONG_FLAG_SET));
    (all, if [Family::VPNV4, Family::L2VPN_EVPN, UNKNOWN].contains(&family) { variant } else { 0 })
}

/// The A flag, as if it were an attribute: the bytes of a path mean something else with it.
fn flag(two_byte: bool) -> (u8, u8, Vec<u8>) {
    (0, 0, vec![two_byte.into()])
}

fn attributes_of(bytes: &[u8]) -> Vec<(u8, u8, Vec<u8>)> {
    let whole = |attribute: crate::wire::bgp::Attribute<'_>| {
        (attribute.flags & !0x10, attribute.kind, attribute.value.to_vec())
    };
    attributes(bytes).map(|attribute| whole(attribute.unwrap())).collect()
}

/// A station that believes all that it is told.
#[derive(Clone, Debug, Default)]
pub(super) struct Reader {
    pub(super) peers: BTreeMap<u8, Peer>,
    pub(super) lost_mirrored: usize,
    rest: Vec<u8>,
}

impl Reader {
    /// Reads a piece of the stream, which may end anywhere.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let mut whole = frames(&all);
        for frame in whole.by_ref() {
            self.frame(&frame.expect("a station is sent BMP"));
        }
        self.rest = all[whole.consumed()..].to_vec();
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        let number = peer_number(&PeerHeader::of(frame).expect("all is about peers"));
        let known = self.peers.contains_key(&number) || number == UNANNOUNCED_PEER;
        match frame.message_type().expect("types are assigned") {
            MessageType::PeerUp => {
                let is_known = self.peers.contains_key(&number);
                let peer = self.peers.entry(number).or_default();
                assert!(
                    !peer.comes_up(frame.bytes()) || !is_known,
                    "peer {number} has another life without a Peer Down"
                );
                assert!(peer.ups.contains(frame.bytes()), "a Peer Up of peer {number} is new in its time alone");
            }
            MessageType::PeerDown => {
                // One that is never announced goes with a Peer Down all the same: what else could take back its routes?
                assert!(known, "a Peer Down for peer {number}, which was not up");
                self.peers.remove(&number);
            }
            MessageType::StatisticsReport => {
                assert!(known, "statistics of peer {number}, which is not up");
                self.peers.entry(number).or_default().statistics = Some(frame.bytes().to_vec());
            }
            MessageType::RouteMirroring => {
                assert!(known, "mirrored messages of peer {number}, which is not up");
                self.lost_mirrored += usize::from(frame.bytes().ends_with(&[0, 1, 0, 2, 0, 1]));
            }
            MessageType::RouteMonitoring => {
                assert!(known, "routes of peer {number}, which is not up");
                self.routes(number, frame);
            }
            MessageType::Initiation | MessageType::Termination => panic!("the feed does not say that"),
        }
    }

    fn routes(&mut self, number: u8, frame: &Frame<'_>) {
        let header = PeerHeader::of(frame).unwrap();
        let two_byte = header.flags & peer_flags::TWO_BYTE_AS != 0;
        let view = match (header.key.peer_type, header.flags & !peer_flags::TWO_BYTE_AS) {
            (PeerType::LOC_RIB, _) => View::LocRib,
            (_, 0) => View::AdjRibInPre,
            (_, 0x40) => View::AdjRibInPost,
            (_, 0x10) => View::AdjRibOutPre,
            (_, 0x50) => View::AdjRibOutPost,
            other => panic!("nobody has sent {other:?}"),
        };
        let message = &frame.bytes()[COMMON_HEADER + PER_PEER_HEADER..];
        assert!(message.len() <= 4096, "a message of {} bytes", message.len());
        let update = Update::parse(message, 4).expect("an UPDATE");
        let peer = self.peers.entry(number).or_default();
        if let Some(family) = update.end_of_rib() {
            peer.ends.insert((view, family));
            return;
        }
        let gone = [(Family::IPV4_UNICAST, update.withdrawn)].into_iter();
        for (family, items) in gone.chain(update.unreach.map(|unreach| (unreach.family, unreach.nlri))) {
            for (name, _) in names(number, family, items) {
                peer.ribs.entry((view, family)).or_default().remove(&name);
            }
        }
        let new = [(Family::IPV4_UNICAST, update.nlri, 0)].into_iter();
        let reach = update.reach.map(|reach| (reach.family, reach.nlri, reach.nlri.len()));
        for (family, items, in_reach) in new.chain(reach) {
            let mut all = attributes_of(update.attributes);
            all.retain(|(_, kind, _)| *kind != 15 && (*kind != 14 || in_reach > 0));
            for (_, kind, value) in &mut all {
                if *kind == 14 {
                    value.truncate(value.len() - in_reach);
                }
            }
            all.push(flag(two_byte));
            let routes = peer.ribs.entry((view, family)).or_default();
            for (name, variant) in names(number, family, items) {
                routes.insert(name, (all.clone(), variant));
            }
        }
    }
}

/// The routes in some NLRI, with their variants. A station knows what the daemon writes, whatever the OPENs say.
fn names(peer: u8, family: Family, items: &[u8]) -> Vec<(Name, u8)> {
    if family == UNKNOWN {
        return items.as_chunks::<3>().0.iter().map(|&[_, prefix, variant]| ((prefix, 0), variant)).collect();
    }
    // No other NLRI but one with a path identifier begins with zero.
    let usual = has_path_ids(peer, family, false);
    let path_ids = if family == Family::IPV4_UNICAST { usual } else { items.first() == Some(&0) };
    let form = Form::of(family).unwrap();
    let read = |item: &[u8]| {
        let (path, rest) = if path_ids { (item[3], &item[4..]) } else { (0, item) };
        let (prefix, variant) = match family {
            Family::VPNV4 => (*rest.last().unwrap(), rest[2]),
            Family::L2VPN_EVPN => (rest[30], rest[10]),
            _ => (*rest.last().unwrap(), 0),
        };
        (name(peer, family, Route { prefix, path, variant }, path_ids != usual), variant)
    };
    assert_eq!(HEADER, 19);
    nlri(form, path_ids, items).map(|item| read(item.unwrap())).collect()
}
