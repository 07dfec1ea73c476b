//! A small world for the tests of the feed: peers, RIBs, routes and attributes by number. Writes
//! them as bytes and reads them from bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bytes::BufMut;

use crate::wire::{
    bgp::{Family, Form, HEADER, attributes, nlri},
    bmp::{Message, PeerHeader, PeerType, PeerUp, RibView, build, frames, peer_flags, samples},
};

pub(super) const FAMILIES: [Family; 5] =
    [Family::IPV4_UNICAST, Family::IPV6_UNICAST, Family::VPNV4, Family::L2VPN_EVPN, UNKNOWN];
/// A family of a form that stations know and the feed does not.
pub(super) const UNKNOWN: Family = Family::new(99, 99);
pub(super) const VIEWS: [RibView; 4] =
    [RibView::AdjRibInPre, RibView::AdjRibInPost, RibView::AdjRibOutPost, RibView::AdjRibOutPre];
/// The peer whose routes have path identifiers.
pub(super) const ADD_PATH_PEER: u8 = 1;
/// The port of sessions whose OPENs lie about path identifiers.
pub(super) const LYING_PORT: u16 = 2;
/// A Loc-RIB peer.
pub(super) const LOC_RIB_PEER: u8 = 3;
/// The peer that is never announced.
pub(super) const UNANNOUNCED_PEER: u8 = 4;
/// A neighbour on another link: type, distinguisher and link-local address of peer 0, and another
/// BGP identifier.
pub(super) const LOOK_ALIKE_PEER: u8 = 6;
/// NumberedPeer 5 with another BGP identifier.
pub(super) const RENAMED_PEER: u8 = 7;
/// The Loc-RIB peer of a router with another BGP identifier.
pub(super) const OTHER_LOC_RIB_PEER: u8 = 8;
/// The AS of all peers.
pub(super) const AS: u32 = 65001;
/// The number of peers.
pub(super) const PEERS: u8 = 9;
/// The names of the tables of a Loc-RIB. A Peer Up may also have none.
const TABLES: [&[u8]; 2] = [b"inet.0", b"inet6.0"];
/// The families in the OPENs of these tables.
const TABLE_FAMILIES: [Family; 2] = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
/// The number of no table.
pub(super) const NO_TABLE: usize = 3;
/// A malformed set of attributes. The feed keeps routes with it.
pub(super) const MALFORMED_SET: u8 = 4;
/// A set with AS numbers of two octets, without the A flag.
const SHORT_PATH_SET: u8 = 5;
/// A set with AS numbers of four octets, with the A flag.
const WRONG_FLAG_SET: u8 = 6;
/// The number of sets.
pub(super) const SETS: u8 = 7;
/// An origin that does not exist (RFC 7606 §7.1).
const NO_ORIGIN: u8 = 9;

/// A route, by numbers. The variant stands for label or gateway, which are no part of its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NumberedRoute {
    pub(super) prefix: u8,
    pub(super) path: u8,
    pub(super) variant: u8,
}

/// The identity of a route.
pub(super) type RouteName = (u8, u8);
/// The content of a route: its attributes as (flags, type, value), and its variant.
pub(super) type RouteContent = (Vec<(u8, u8, Vec<u8>)>, u8);

pub(super) fn is_loc_rib(peer: u8) -> bool {
    [LOC_RIB_PEER, OTHER_LOC_RIB_PEER].contains(&peer)
}

/// The key of a peer (RFC 7854 §4.2): the first of the peers with this key.
pub(super) fn key_of(peer: u8) -> u8 {
    match peer {
        LOOK_ALIKE_PEER => 0,
        RENAMED_PEER => 5,
        OTHER_LOC_RIB_PEER => LOC_RIB_PEER,
        _ => peer,
    }
}

pub(super) fn address(peer: u8) -> IpAddr {
    match key_of(peer) {
        0 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(),
        key => Ipv4Addr::new(192, 0, 2, key).into(),
    }
}

pub(super) fn view_of_peer(peer: u8, view: usize) -> RibView {
    if is_loc_rib(peer) { RibView::LocRib } else { VIEWS[view % VIEWS.len()] }
}

pub(super) fn header(peer: u8, view: RibView, time: u32) -> Vec<u8> {
    let (peer_type, flags) = match view {
        RibView::LocRib => (PeerType::LOC_RIB, 0),
        RibView::AdjRibInPre => (PeerType::GLOBAL, 0),
        RibView::AdjRibInPost => (PeerType::GLOBAL, 0x40),
        RibView::AdjRibOutPre => (PeerType::GLOBAL, 0x10),
        RibView::AdjRibOutPost => (PeerType::GLOBAL, 0x50),
    };
    let mut header = samples::peer_header(peer, peer_type, flags);
    if !is_loc_rib(peer) {
        header[10..26].copy_from_slice(&build::address_field(address(peer)));
        header[1] |= if address(peer).is_ipv6() { peer_flags::IPV6 } else { 0 };
    }
    header[34..38].copy_from_slice(&time.to_be_bytes());
    header
}

/// The number of the peer that a frame is about.
pub(super) fn peer_number(header: &PeerHeader) -> u8 {
    header.bgp_id.octets()[3]
}

pub(super) fn up(peer: u8, port: u16) -> Vec<u8> {
    up_of_view(peer, port, 0)
}

/// One of several Peer Ups of a session: for a view, or for a table of a Loc-RIB.
pub(super) fn up_of_view(peer: u8, port: u16, view: usize) -> Vec<u8> {
    up_at(peer, port, view, 1)
}

/// The same, with a time of its own.
pub(super) fn up_at(peer: u8, port: u16, view: usize, time: u32) -> Vec<u8> {
    let header = header(peer, view_of_peer(peer, view), time);
    if (peer == ADD_PATH_PEER) == (port == LYING_PORT) {
        let Some(name) = TABLES.get(view).filter(|_| is_loc_rib(peer)) else {
            return samples::peer_up_of(&header, port, &[]);
        };
        let Family { afi, safi, .. } = TABLE_FAMILIES[view];
        let mut up = up_with(header, port, &[1, 4, 0, afi as u8, 0, safi]);
        up.put_slice(&[0, 3, 0, name.len() as u8]);
        up.extend_from_slice(name);
        return samples::frame(3, &up);
    }
    // ADD-PATH both ways for all families (RFC 7911 §4).
    let mut families = Vec::new();
    for family in FAMILIES {
        families.put_u16(family.afi);
        families.put_u8(family.safi);
        families.put_u8(3);
    }
    let mut capability = vec![69, families.len() as u8];
    capability.extend(families);
    samples::frame(3, &up_with(header, port, &capability))
}

/// The body of a Peer Up whose OPENs have this capability.
fn up_with(header: Vec<u8>, port: u16, capability: &[u8]) -> Vec<u8> {
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
    body
}

pub(super) fn down(peer: u8, code: u16) -> Vec<u8> {
    let mut body = header(peer, view_of_peer(peer, 0), 2);
    body.push(2);
    body.put_u16(code);
    samples::frame(2, &body)
}

/// The Peer Down of a Loc-RIB with the name of a table (RFC 9069 §5.3), with an unknown name, or
/// without a name.
pub(super) fn down_of_table(peer: u8, table: usize) -> Vec<u8> {
    let mut body = header(peer, view_of_peer(peer, 0), 2);
    body.push(6);
    if table != NO_TABLE {
        let name = TABLES.get(table).copied().unwrap_or(b"other.0");
        body.put_u16(3);
        body.put_u16(name.len() as u16);
        body.extend(name);
    }
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
fn item(path_ids: bool, family: Family, route: NumberedRoute, withdrawn: bool) -> Vec<u8> {
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
    // An unknown attribute, with an extended length. It is large in one of the sets.
    out.extend([0xd0, 99, if number == 3 { 4 } else { 0 }, 2]);
    out.put_bytes(number, if number == 3 { 4 * 256 + 2 } else { 2 });
    out
}

/// A part of an UPDATE.
#[derive(Clone, Debug)]
pub(super) struct UpdatePart {
    pub(super) family: Family,
    pub(super) withdrawn: Vec<NumberedRoute>,
    pub(super) announced: Vec<NumberedRoute>,
}

/// True if a peer's NLRI of a family have path identifiers. `otherwise` is true for routes in the
/// other encoding.
pub(super) fn has_path_ids(peer: u8, family: Family, otherwise: bool) -> bool {
    (peer == ADD_PATH_PEER) != (otherwise && family != Family::IPV4_UNICAST)
}

/// The identity of a route of a peer. A route in the other encoding is another route.
pub(super) fn name(peer: u8, family: Family, route: NumberedRoute, otherwise: bool) -> RouteName {
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

/// Stands for the path of a route without path identifier, where others have one.
const PLAIN: u8 = 9;
/// Added to the path of a route with path identifier, where others have none.
const NUMBERED: u8 = 20;

/// A Route Monitoring message with IPv4 unicast routes, routes of one other family, or both.
pub(super) fn update(peer: u8, view: RibView, time: u32, number: u8, parts: &[UpdatePart]) -> Vec<u8> {
    update_otherwise(peer, view, time, number, parts, false)
}

/// The same in the other encoding: with path identifiers where others of the peer have none, or the
/// reverse. Not for IPv4 unicast, where that is not always visible.
pub(super) fn update_otherwise(
    peer: u8,
    view: RibView,
    time: u32,
    number: u8,
    parts: &[UpdatePart],
    otherwise: bool,
) -> Vec<u8> {
    let (mut withdrawn, mut announced, mut reach, mut unreach) = (vec![], vec![], vec![], vec![]);
    let items = |family, routes: &[NumberedRoute], gone| -> Vec<u8> {
        routes.iter().flat_map(|route| item(has_path_ids(peer, family, otherwise), family, *route, gone)).collect()
    };
    for UpdatePart { family, withdrawn: gone, announced: new } in parts {
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

pub(super) fn end_of_rib(peer: u8, view: RibView, family: Family) -> Vec<u8> {
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

/// The same frame, as a router writes it that leaves out the AS.
pub(super) fn without_as(mut frame: Vec<u8>) -> Vec<u8> {
    frame[6 + 26..6 + 30].fill(0);
    frame
}

/// What is known about a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NumberedPeer {
    /// The Peer Ups of its session.
    pub(super) ups: BTreeSet<Vec<u8>>,
    pub(super) ribs: BTreeMap<(RibView, Family), BTreeMap<RouteName, RouteContent>>,
    pub(super) ends: BTreeSet<(RibView, Family)>,
    pub(super) statistics: Option<Vec<u8>>,
}

impl NumberedPeer {
    /// A summary for a failed test.
    pub(super) fn summary(&self) -> String {
        let mut text = format!("port {:?}", self.ups.iter().map(|up| (up[7], up[64..68].to_vec())).collect::<Vec<_>>());
        for ((view, family), routes) in &self.ribs {
            text += &format!("; {view:?} {family}:");
            for ((prefix, path), (attributes, variant)) in routes {
                let set = attributes.iter().rev().nth(2).map(|last| last.2[0]);
                text += &format!(" {prefix}/{path}={set:?}/{variant}");
            }
        }
        for (view, family) in &self.ends {
            text += &format!("; end of {view:?} {family}");
        }
        text + if self.statistics.is_some() { "; statistics" } else { "" }
    }

    /// Takes a Peer Up, and returns what it means. Takes nothing of a Peer Up that ends something.
    pub(super) fn comes_up(&mut self, up: &[u8]) -> ExpectedMeaning {
        let (mut of_table, mut of_others, is_loc_rib) = (false, false, up[6] == PeerType::LOC_RIB.0);
        let mut is_of_one = false;
        for known in &self.ups {
            if without_time(known) == without_time(up) {
                return ExpectedMeaning::None;
            }
            let is_other_table = is_loc_rib && table_of(known) != table_of(up);
            of_others |= is_other_table;
            of_table |= !is_other_table;
            is_of_one |= !is_other_table && session_of(known) == session_of(up);
        }
        let news = match (of_table, of_others) {
            _ if is_of_one => ExpectedMeaning::Further,
            (false, true) => ExpectedMeaning::Further,
            (true, true) => ExpectedMeaning::TableAgain,
            _ => ExpectedMeaning::AnotherLife,
        };
        if news == ExpectedMeaning::Further || self.ups.is_empty() {
            self.ups.insert(up.to_vec());
        }
        news
    }

    /// The tables that the peer was announced for.
    pub(super) fn tables(&self) -> BTreeSet<Option<Vec<u8>>> {
        self.ups.iter().map(|up| table_of(up)).collect()
    }

    /// Ends one of several tables, with the RIBs of families that no other table has.
    pub(super) fn end_table(&mut self, table: &Option<Vec<u8>>) -> Vec<Family> {
        let families = |ups: &BTreeSet<Vec<u8>>| -> BTreeSet<Family> {
            ups.iter().map(|up| table_of(up)).map(|name| family_of_table(&name)).collect()
        };
        let before = families(&self.ups);
        self.ups.retain(|up| table_of(up) != *table);
        let gone: Vec<_> = before.difference(&families(&self.ups)).copied().collect();
        self.ribs.retain(|(_, family), _| !gone.contains(family));
        self.ends.retain(|(_, family)| !gone.contains(family));
        gone
    }

    /// Gives all routes the name of the peer.
    pub(super) fn name_all(&mut self) {
        let (unnamed, named) = (name_of(0), name_of(AS));
        let said = self.ribs.values_mut().flat_map(BTreeMap::values_mut).flat_map(|said| &mut said.0);
        said.filter(|attribute| **attribute == unnamed).for_each(|attribute| *attribute = named.clone());
    }

    /// Without RIBs that have no routes.
    pub(super) fn tidy(mut self) -> Self {
        self.ribs.retain(|_, routes| !routes.is_empty());
        self
    }
}

/// What a Peer Up means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpectedMeaning {
    None,
    Further,
    TableAgain,
    AnotherLife,
}

/// The table that a Peer Up or a Peer Down names.
pub(super) fn table_of(frame: &[u8]) -> Option<Vec<u8>> {
    let names = [TABLES[0], TABLES[1], b"other.0"];
    let ends_with = |name: &&&[u8]| frame.ends_with(&[&[0, 3, 0, name.len() as u8][..], name].concat());
    names.iter().find(ends_with).map(|name| name.to_vec())
}

fn family_of_table(name: &Option<Vec<u8>>) -> Family {
    let number = TABLES.iter().position(|table| name.as_deref() == Some(*table));
    number.map_or(Family::IPV4_UNICAST, |number| TABLE_FAMILIES[number])
}

/// A Peer Up without its time.
pub(super) fn without_time(up: &[u8]) -> [&[u8]; 2] {
    [&up[..40], &up[48..]]
}

/// What all Peer Ups of one session share: ends and OPENs.
fn session_of(up: &[u8]) -> Vec<u8> {
    let parsed = frames(up).next().unwrap().unwrap();
    let Ok(Message::PeerUp(PeerUp { sent_open, received_open, .. })) = Message::parse(&parsed) else {
        panic!("a Peer Up")
    };
    [&up[48..68], sent_open, received_open].concat()
}

/// The attributes of a set as somebody reads them who reads routes of a family. `asn` is that of
/// the per-peer header.
pub(super) fn said(number: u8, family: Family, variant: u8, asn: u32) -> RouteContent {
    let mut all = attributes_of(&set(number));
    if family != Family::IPV4_UNICAST {
        let mut value = Vec::new();
        value.put_u16(family.afi);
        value.extend([family.safi, 4, 192, 0, 2, 9, 0]);
        all.insert(0, (0x80, 14, value));
    }
    all.push(flag(number == WRONG_FLAG_SET));
    all.push(name_of(asn));
    (all, if [Family::VPNV4, Family::L2VPN_EVPN, UNKNOWN].contains(&family) { variant } else { 0 })
}

/// The A flag, as if it were an attribute: the bytes of a path mean something else with it.
pub(super) fn flag(two_byte: bool) -> (u8, u8, Vec<u8>) {
    (0, 0, vec![two_byte.into()])
}

/// The AS of the per-peer header, as if it were an attribute.
pub(super) fn name_of(asn: u32) -> (u8, u8, Vec<u8>) {
    (0, 1, asn.to_be_bytes().to_vec())
}

/// The number of a route's set.
pub(super) fn set_of((attributes, _): &RouteContent) -> u8 {
    let communities = attributes.iter().find(|(_, kind, _)| *kind == 8);
    communities.map_or(0, |(_, _, value)| value[3])
}

pub(super) fn attributes_of(bytes: &[u8]) -> Vec<(u8, u8, Vec<u8>)> {
    let whole = |attribute: crate::wire::bgp::Attribute<'_>| {
        (attribute.flags & !0x10, attribute.kind, attribute.value.to_vec())
    };
    attributes(bytes).map(|attribute| whole(attribute.unwrap())).collect()
}

/// The routes in some NLRI, with their variants. A station knows what the daemon writes, whatever
/// the OPENs say.
pub(super) fn names(peer: u8, family: Family, items: &[u8]) -> Vec<(RouteName, u8)> {
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
        (name(peer, family, NumberedRoute { prefix, path, variant }, path_ids != usual), variant)
    };
    assert_eq!(HEADER, 19);
    nlri(form, path_ids, items).map(|item| read(item.unwrap())).collect()
}
