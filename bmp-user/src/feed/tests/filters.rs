//! Filters of routes: those that the random histories use, and what a station with one is told.

use super::{
    super::*,
    append, take_all,
    world::{self, FAMILIES, NumberedRoute, UNKNOWN, UpdatePart},
};
use crate::wire::{
    bgp::{Family, PrefixBits, Update, nlri},
    bmp::{COMMON_HEADER, Frame, MessageType, PER_PEER_HEADER, RibView, frames},
};

const VIEW: RibView = RibView::AdjRibInPre;

/// A filter, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberedFilter {
    /// Prefixes with an even number.
    Even,
    /// Neither set 0 nor EVPN.
    NotFirstSet,
    /// Set 1, the unknown family, and prefixes with an odd number.
    Mixture,
}

/// What a filter decides about a route, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NumberedDecision {
    /// If the feed can read the route.
    pub(super) route: bool,
    /// If the feed keeps its field whole.
    pub(super) whole: bool,
}

/// Exactly these prefixes, in the three families that have prefixes.
fn prefixes(numbers: impl Iterator<Item = u8>) -> Vec<PrefixRule> {
    let exactly = |is_ipv4, address: [u8; 16], length| PrefixRule {
        permits: true,
        prefix: PrefixBits { is_ipv4, address: u128::from_be_bytes(address), length },
        shortest: length,
        longest: length,
    };
    let of = |number: u8| {
        let mut ipv6 = [0; 16];
        ipv6[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        ipv6[15] = number;
        let [mut plain, mut vpn] = [[0; 16]; 2];
        plain[..3].copy_from_slice(&[10, 1, number]);
        vpn[..4].copy_from_slice(&[10, 2, 0, number]);
        [exactly(true, plain, 24), exactly(false, ipv6, 128), exactly(true, vpn, 32)]
    };
    numbers.flat_map(of).collect()
}

impl NumberedFilter {
    pub(super) fn rules(self) -> Vec<RouteRule> {
        let permit = RouteRule { permits: true, ..RouteRule::default() };
        let set = |number: u8| format!("1:{number}").parse().ok();
        match self {
            Self::Even => vec![RouteRule { prefixes: Some(prefixes((0..10).filter(|n| n % 2 == 0))), ..permit }],
            Self::NotFirstSet => vec![
                RouteRule { permits: false, community: set(0), ..permit.clone() },
                RouteRule { permits: false, family: Some(Family::L2VPN_EVPN), ..permit.clone() },
                permit,
            ],
            Self::Mixture => vec![
                RouteRule { community: set(1), ..permit.clone() },
                RouteRule { family: Some(UNKNOWN), ..permit.clone() },
                RouteRule { prefixes: Some(prefixes((0..10).filter(|n| n % 2 != 0))), ..permit },
            ],
        }
    }

    /// Decides by numbers, and not as the feed does.
    pub(super) fn decision(self, family: Family, prefix: u8, set: u8) -> NumberedDecision {
        let has_prefix = FAMILIES[..3].contains(&family);
        let (route, whole) = match self {
            Self::Even => (has_prefix && prefix.is_multiple_of(2), false),
            Self::NotFirstSet => (set != 0 && family != Family::L2VPN_EVPN, family != Family::L2VPN_EVPN),
            Self::Mixture => {
                let is_unknown = family == UNKNOWN;
                (set == 1 || is_unknown || has_prefix && !prefix.is_multiple_of(2), is_unknown)
            }
        };
        // The feed reads no route of the unknown family.
        NumberedDecision { route: if family == UNKNOWN { whole } else { route }, whole }
    }
}

pub(super) fn filtered(feed: &Feed, filter: NumberedFilter) -> Selection {
    let filter = Some(feed.route_filter(filter.rules()));
    let rule = SelectionRule { peers: PeerFilter::Public, ribs: vec![], filter };
    Selection { rules: vec![rule], ..Selection::default() }
}

/// What a station was told about routes: the prefixes, those withdrawn below zero.
pub(super) fn told(follower: &mut Follower) -> (Vec<MessageType>, Vec<i16>) {
    let (mut types, mut routes) = (Vec::new(), Vec::new());
    let pieces = take_all(follower);
    for piece in &pieces {
        for frame in frames(&piece.bytes) {
            let frame = frame.unwrap();
            types.push(frame.message_type().unwrap());
            if frame.message_type() == Some(MessageType::RouteMonitoring) {
                let update = Update::parse(&frame.bytes()[COMMON_HEADER + PER_PEER_HEADER..], 4).unwrap();
                for field in update.route_fields() {
                    let form = crate::wire::bgp::Form::of(field.family).unwrap();
                    let numbers = nlri(form, false, field.items).map(|item| i16::from(*item.unwrap().last().unwrap()));
                    routes.extend(numbers.map(|number| if field.withdrawn { -number } else { number }));
                }
            }
        }
    }
    (types, routes)
}

pub(super) fn routes(follower: &mut Follower) -> Vec<i16> {
    let (_, mut routes) = told(follower);
    routes.sort_unstable();
    routes
}

/// An UPDATE of IPv4 unicast.
pub(super) fn update(set: u8, withdrawn: &[u8], announced: &[u8]) -> Vec<u8> {
    let route = |prefix: &u8| NumberedRoute { prefix: *prefix, path: 0, variant: 0 };
    let of = |prefixes: &[u8]| prefixes.iter().map(route).collect();
    let part = UpdatePart { family: Family::IPV4_UNICAST, withdrawn: of(withdrawn), announced: of(announced) };
    world::update(0, VIEW, 7, set, &[part])
}

/// A feed with a peer whose RIB is decided: three prefixes can be read in one way alone.
fn feed() -> (Feed, Input) {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    append(&mut input, &[world::up(0, 1), update(1, &[], &[1, 2, 3])]);
    (feed, input)
}

#[test]
fn a_denied_route_is_neither_told_nor_withdrawn_and_needs_no_frame() {
    let (feed, mut input) = feed();
    let mut station = feed.attach(filtered(&feed, NumberedFilter::Even));
    assert_eq!(told(&mut station), (vec![MessageType::PeerUp, MessageType::RouteMonitoring], vec![2]));
    append(&mut input, &[update(1, &[], &[5]), update(2, &[], &[5]), update(1, &[5], &[])]);
    assert_eq!(told(&mut station), (vec![], vec![]));
    assert_eq!(station.lag_bytes(), 0, "it is not behind");
}

#[test]
fn an_update_with_permitted_and_denied_routes_is_rebuilt_with_its_attributes() {
    let (feed, mut input) = feed();
    let mut station = feed.attach(filtered(&feed, NumberedFilter::Even));
    take_all(&mut station);
    append(&mut input, &[update(2, &[1, 2], &[4, 5, 6])]);
    let pieces = take_all(&mut station);
    let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
    let sent: Vec<Frame<'_>> = frames(&all).map(Result::unwrap).collect();
    let told: Vec<_> = sent
        .iter()
        .map(|frame| Update::parse(&frame.bytes()[COMMON_HEADER + PER_PEER_HEADER..], 4).unwrap())
        .map(|update| (update.withdrawn.to_vec(), update.attributes.to_vec(), update.nlri.to_vec()))
        .collect();
    let original = update(2, &[], &[4]);
    let original = Update::parse(&original[COMMON_HEADER + PER_PEER_HEADER..], 4).unwrap();
    let gone = (vec![24, 10, 1, 2], vec![], vec![]);
    let new = (vec![], original.attributes.to_vec(), vec![24, 10, 1, 4, 24, 10, 1, 6]);
    assert_eq!(told, [gone, new]);
}

#[test]
fn a_route_whose_attributes_come_to_be_denied_is_withdrawn_once() {
    let (feed, mut input) = feed();
    let mut station = feed.attach(filtered(&feed, NumberedFilter::NotFirstSet));
    assert_eq!(routes(&mut station), [1, 2, 3]);
    append(&mut input, &[update(0, &[], &[2])]);
    assert_eq!(routes(&mut station), [-2]);
    append(&mut input, &[update(0, &[], &[2]), update(0, &[2], &[])]);
    assert_eq!(routes(&mut station), Vec::<i16>::new());
    append(&mut input, &[update(1, &[], &[2])]);
    assert_eq!(routes(&mut station), [2]);
}

#[test]
fn another_filter_on_an_open_connection_sends_exactly_the_difference() {
    let (feed, mut input) = feed();
    append(&mut input, &[update(0, &[], &[4, 5, 6]), world::end_of_rib(0, VIEW, Family::IPV4_UNICAST)]);
    let mut station = feed.attach(filtered(&feed, NumberedFilter::Even));
    let (types, mut first) = told(&mut station);
    first.sort_unstable();
    assert_eq!(first, [2, 4, 6]);
    assert_eq!(types.first(), Some(&MessageType::PeerUp));
    for (selection, expected) in [
        (filtered(&feed, NumberedFilter::NotFirstSet), vec![-6, -4, 1, 3]),
        (Selection::default(), vec![4, 5, 6]),
        (filtered(&feed, NumberedFilter::Mixture), vec![-6, -4]),
        (filtered(&feed, NumberedFilter::Mixture), vec![]),
        (filtered(&feed, NumberedFilter::Even), vec![-5, -3, -1, 4, 6]),
        (Selection { mirroring: Mirroring::LeftOut, ..Selection::default() }, vec![1, 3, 5]),
    ] {
        station.select(selection);
        let (types, mut routes) = told(&mut station);
        routes.sort_unstable();
        assert_eq!(routes, expected);
        assert!(types.iter().all(|kind| *kind == MessageType::RouteMonitoring), "{types:?}");
    }
}

#[test]
fn end_of_rib_passes_every_filter() {
    let (feed, mut input) = feed();
    let end = world::end_of_rib(0, VIEW, Family::IPV4_UNICAST);
    let nothing = || {
        let filter = Some(feed.route_filter(vec![]));
        let rule = SelectionRule { peers: PeerFilter::Public, ribs: vec![], filter };
        Selection { rules: vec![rule], ..Selection::default() }
    };
    let mut early = feed.attach(nothing());
    take_all(&mut early);
    append(&mut input, std::slice::from_ref(&end));
    let bytes = |follower: &mut Follower| super::bytes_of(&take_all(follower));
    assert_eq!(bytes(&mut early), end);
    assert_eq!(bytes(&mut feed.attach(nothing())), [world::up(0, 1), end].concat());
}

#[test]
fn what_filters_decided_is_forgotten_with_the_last_session_that_has_them() {
    let (feed, mut input) = feed();
    let memory = feed.memory();
    let mut one = feed.attach(filtered(&feed, NumberedFilter::Even));
    let mut other = feed.attach(filtered(&feed, NumberedFilter::Even));
    take_all(&mut one);
    take_all(&mut other);
    assert!(feed.memory() > memory);
    drop(one);
    assert!(feed.memory() > memory);
    other.select(Selection::default());
    take_all(&mut other);
    append(&mut input, &[world::statistics(0, 1)]);
    drop(other);
    feed.0.lock().check_memory();
    let ribs_filtered = |peer: &peers::LivePeer| peer.ribs.iter().any(rib::Rib::is_filtered);
    assert!(!feed.0.lock().peers.in_order().into_iter().any(ribs_filtered));
}
