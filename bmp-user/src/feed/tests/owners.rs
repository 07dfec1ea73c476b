//! Several connections of one input with the same peers, and peers that look the same.

use bytes::Bytes;

use super::{super::*, announce, append, bytes_of, down_of, dump, following, take_all, types_of, withdraw, world};
use crate::wire::{
    bgp::Family,
    bmp::{BmpChunk, MessageType, RibView, samples::*},
};

/// Offers frames. Returns the claim at which the feed stops.
fn offer(input: &mut Input, frames: &[Vec<u8>]) -> Option<Claim> {
    let bytes = Bytes::from(frames.concat());
    let block = bytes.len();
    input.offer(&BmpChunk::parse(bytes, block).unwrap())
}

/// The kinds of messages that were left out, with their numbers.
fn odd(input: &Input) -> Vec<(&'static str, u64)> {
    input.totals().odd.iter().map(|(oddity, count)| (oddity.as_str(), count)).collect()
}

#[test]
fn while_the_owner_of_a_peer_is_alive_frames_of_others_about_it_change_nothing() {
    let feed = Feed::default();
    let mut owner = feed.input(InputId::relay("relay"));
    append(&mut owner, &[world::up(2, 1), announce(2, 1, 1, 0..5)]);
    let before = dump(&feed);
    let mut follower = following(&feed);
    // The same Peer Up, and a different one.
    for port in [1, 7] {
        let mut thief = feed.input(InputId::relay("relay"));
        let stolen = [world::up(2, port), announce(2, 2, 2, 0..5), withdraw(2, 0..5), world::statistics(2, 1)];
        let claim = offer(&mut thief, &stolen).expect("a claim");
        assert_eq!((claim.at, claim.owner), (0, owner.connection()));
        thief.refuse(&claim);
        assert_eq!(offer(&mut thief, &stolen), None);
        append(&mut thief, &[world::mirrored(2), world::down(2, 1)]);
        assert!(
            matches!(thief.take_notices()[..], [InputNotice::Refused(peer, by)] if peer == claim.peer && by == claim.owner)
        );
        assert_eq!((thief.totals().refused, thief.totals().unannounced, thief.totals().frames), (6, 2, 6));
        let refusals = feed.refusals(thief.connection());
        assert_eq!((refusals.len(), refusals[0].peer, refusals[0].owner), (1, claim.peer, owner.connection()));
        assert_eq!(refusals[0].dropped.of(MessageType::RouteMonitoring), 2);
        drop(thief);
    }
    assert_eq!(bytes_of(&take_all(&mut follower)), b"");
    assert_eq!((dump(&feed), feed.stats().head), (before, 2), "it is not even in the journal");
    append(&mut owner, &[withdraw(2, [0])]);
    assert_eq!(bytes_of(&take_all(&mut follower)), withdraw(2, [0]));
}

#[test]
fn frames_before_a_claim_are_told_at_once_and_the_rest_when_it_is_decided() {
    let feed = Feed::default();
    let mut owner = feed.input(InputId::relay("relay"));
    append(&mut owner, &[world::up(2, 1)]);
    let mut follower = following(&feed);
    let mut other = feed.input(InputId::relay("relay"));
    let first = [world::up(5, 1), announce(5, 1, 1, 0..3)];
    let rest = [world::up(2, 5), announce(2, 1, 1, 0..3), announce(5, 1, 1, 3..4)];
    let all = [&first[..], &rest].concat();
    let claim = offer(&mut other, &all).expect("a claim");
    assert_eq!(claim.at, first.concat().len());
    assert_eq!(bytes_of(&take_all(&mut follower)), first.concat());
    other.refuse(&claim);
    assert_eq!(offer(&mut other, &rest), None);
    assert_eq!(bytes_of(&take_all(&mut follower)), rest[2]);
}

#[test]
fn a_claim_on_a_gone_connection_is_granted_and_a_hold_tells_only_differences() {
    let feed = Feed::default();
    let end = world::end_of_rib(2, RibView::AdjRibInPre, Family::IPV4_UNICAST);
    let mut withdrawn = withdraw(2, 4..11);
    withdrawn[40..48].fill(0);
    for hold in [true, false] {
        let mut older = feed.input(InputId::relay("frr"));
        append(&mut older, &[world::up(2, 1), announce(2, 1, 1, 0..11), end.clone()]);
        let mut follower = following(&feed);
        let mut newer = feed.input(InputId::relay("frr"));
        let said = [world::up_at(2, 1, 0, 9), announce(2, 1, 7, 0..4), end.clone()];
        assert!(offer(&mut newer, &said).is_some());
        let held = if hold {
            Some(older.hold())
        } else {
            drop(older);
            None
        };
        assert_eq!(offer(&mut newer, &said), None);
        let told = bytes_of(&take_all(&mut follower));
        if hold {
            assert_eq!(told, withdrawn);
        } else {
            assert_eq!(told, [vec![down_of(&world::up(2, 1))], said.to_vec()].concat().concat());
        }
        drop(held);
        assert_eq!((bytes_of(&take_all(&mut follower)), feed.stats().routes), (vec![], 4));
    }
}

#[test]
fn a_peer_without_peer_up_belongs_to_the_first_connection_that_speaks_about_it() {
    let feed = Feed::default();
    let (mut first, mut second) = (feed.input(InputId::relay("relay")), feed.input(InputId::relay("relay")));
    append(&mut first, &[announce(2, 1, 1, 0..3)]);
    let mut follower = following(&feed);
    for said in [announce(2, 2, 2, 0..3), world::up(2, 1)] {
        let claim = offer(&mut second, std::slice::from_ref(&said)).expect("a claim");
        assert_eq!(claim.owner, first.connection());
    }
    assert_eq!(offer(&mut second, &[world::down(2, 1), world::statistics(2, 1)]), None, "they are no claims");
    assert_eq!(bytes_of(&take_all(&mut follower)), b"");
}

#[test]
fn an_owner_that_was_found_alive_is_not_asked_again_by_the_same_connection() {
    let feed = Feed::default();
    let (mut owner, mut other) = (feed.input(InputId::relay("relay")), feed.input(InputId::relay("relay")));
    append(&mut owner, &[world::up(2, 1), world::up(5, 1)]);
    let claim = offer(&mut other, &[world::up(2, 1)]).expect("a claim");
    other.refuse(&claim);
    assert_eq!(offer(&mut other, &[world::up(2, 1), world::up(5, 1), world::up(2, 1)]), None);
    assert_eq!(feed.refusals(other.connection()).len(), 2);
    // Once nobody owns the peer, the connection may announce it. Before that its frames are
    // dropped.
    append(&mut owner, &[world::down(2, 1)]);
    let mut follower = following(&feed);
    assert_eq!(offer(&mut other, &[announce(2, 1, 1, 0..3)]), None);
    assert_eq!(bytes_of(&take_all(&mut follower)), b"");
    let said = [world::up(2, 1), announce(2, 1, 1, 0..3)];
    assert_eq!(offer(&mut other, &said), None);
    assert_eq!(bytes_of(&take_all(&mut follower)), said.concat());
    assert_eq!(feed.refusals(other.connection()).len(), 1);
}

#[test]
fn an_input_with_one_connection_at_a_time_has_its_peers_on_the_newest() {
    let feed = Feed::default();
    let id = InputId::BgpPeer([192, 0, 2, 2].into());
    let (mut older, mut newer) = (feed.input(id.clone()), feed.input(id));
    append(&mut older, &[world::up(2, 1), announce(2, 1, 1, 0..3)]);
    let mut follower = following(&feed);
    append(&mut newer, &[world::up(2, 5), announce(2, 1, 1, 0..2)]);
    drop(older);
    let told = [down_of(&world::up(2, 1)), world::up(2, 5), announce(2, 1, 1, 0..2)];
    assert_eq!(bytes_of(&take_all(&mut follower)), told.concat());
}

#[test]
fn two_neighbours_with_one_address_have_their_own_peer_up_and_routes() {
    const OTHER: u8 = world::LOOK_ALIKE_PEER;
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("relay"));
    let mut follower = following(&feed);
    let said = [world::up(0, 1), announce(0, 1, 1, 0..5), world::up(OTHER, 2), announce(OTHER, 1, 1, 9..10)];
    append(&mut input, &said);
    let told = bytes_of(&take_all(&mut follower));
    let late = dump(&feed);
    let ordered = [&said[0], &said[2], &said[1], &said[3]].map(Clone::clone).concat();
    assert_eq!((&late, feed.stats().peers, feed.stats().routes), (&ordered, 2, 6));
    assert_eq!(told, [&said[0], &said[1], &down_of(&said[0]), &ordered].map(Clone::clone).concat());
    // The station is told the peer of another input when both are gone.
    let mut gobgp = feed.input(InputId::relay("gobgp"));
    append(&mut gobgp, &[world::up(0, 7)]);
    append(&mut input, &[world::down(0, 1)]);
    // A station that takes them for one has lost both.
    let rest = [down_of(&said[2]), said[2].clone(), said[3].clone()].concat();
    assert_eq!(bytes_of(&take_all(&mut follower)), [world::down(0, 1), rest].concat());
    append(&mut input, &[world::down(OTHER, 1)]);
    assert_eq!(bytes_of(&take_all(&mut follower)), [world::down(OTHER, 1), world::up(0, 7)].concat());
}

#[test]
fn a_frame_with_another_as_or_bgp_identifier_than_the_peer_up_is_left_out() {
    const OTHER: u8 = world::LOOK_ALIKE_PEER;
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("relay"));
    append(&mut input, &[world::up(0, 1), announce(0, 1, 1, 0..5)]);
    let mut follower = following(&feed);
    let said =
        [world::down(OTHER, 1), announce(OTHER, 1, 1, 0..2), world::statistics(OTHER, 1), world::mirrored(OTHER)];
    append(&mut input, &said);
    assert_eq!(bytes_of(&take_all(&mut follower)), b"");
    assert_eq!((odd(&input), feed.stats().routes), (vec![("other-peer", 4)], 5));
    assert!(
        matches!(&input.take_notices()[..], [InputNotice::Odd(Oddity::OtherPeer, why)] if why.contains("192.0.2.6"))
    );
    // A BGP identifier of zero is one that the router does not know.
    let mut down = world::down(0, 1);
    down[6 + 30..6 + 34].fill(0);
    append(&mut input, std::slice::from_ref(&down));
    assert_eq!((bytes_of(&take_all(&mut follower)), feed.stats().peers), (down, 0));
}

#[test]
fn peers_of_one_address_beyond_the_limit_are_left_out() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("relay"));
    for id in 0..100u8 {
        let mut up = world::up(0, 1);
        up[6 + 33] = id;
        append(&mut input, &[up]);
    }
    assert_eq!((feed.stats().peers, odd(&input)), (64, vec![("too-many-alike", 36)]));
}

#[test]
fn frames_that_no_station_can_read_are_left_out_and_their_neighbours_are_told() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("relay"));
    let mut follower = following(&feed);
    let mut with_short_open = peer_up(2, 1);
    with_short_open[68 + 17] = 19;
    let mut cut_up = peer_up_of(&peer_header(3, crate::wire::bmp::PeerType::GLOBAL, 0), 1, &[(0, b"note")]);
    let length = cut_up.len();
    cut_up[length - 5] = 40;
    let cut = |mut frame: Vec<u8>, by: usize| {
        frame.truncate(frame.len() - by);
        let length = frame.len() as u32;
        frame[1..5].copy_from_slice(&length.to_be_bytes());
        frame
    };
    let odd_ones = [
        with_short_open,
        cut_up,
        cut(peer_down(1), 1),
        cut(route(1, 0), 24),
        cut(world::statistics(1, 1), 2),
        cut(world::mirrored(1), 1),
        initiation(),
    ];
    append(&mut input, &[peer_up(1, 1)]);
    for (number, left_out) in odd_ones.iter().cycle().take(2 * odd_ones.len()).enumerate() {
        append(&mut input, &[route(1, number), left_out.clone(), route(1, number)]);
    }
    let expected = (0..2 * odd_ones.len()).flat_map(|number| [route(1, number), route(1, number)].concat());
    assert_eq!(bytes_of(&take_all(&mut follower)), [peer_up(1, 1), expected.collect()].concat());
    let counted = [
        ("short-message", 4),
        ("broken-open", 2),
        ("cut-tlv", 2),
        ("cut-statistics", 2),
        ("cut-mirroring", 2),
        ("control-message", 2),
    ];
    let notices = input.take_notices();
    let of_odd = notices.iter().filter(|notice| matches!(notice, InputNotice::Odd(..))).count();
    assert_eq!((odd(&input), of_odd), (counted.to_vec(), 6), "each kind is told of once");
    assert_eq!(feed.stats().peers, 1);
}

#[test]
fn a_peer_up_that_names_another_as_or_bgp_identifier_ends_the_life_before() {
    let of = |peer: u8, asn: u32| {
        let mut up = world::up(peer, 1);
        up[6 + 26..6 + 30].copy_from_slice(&asn.to_be_bytes());
        up
    };
    let unknown = |peer: u8| {
        let mut up = of(peer, 0);
        up[6 + 30..6 + 34].fill(0);
        up
    };
    let without_as = [of(2, 0), unknown(2), of(0, 0), of(world::LOC_RIB_PEER, 0)];
    let others = [world::up(5, 1), of(2, 65009), world::up(world::LOC_RIB_PEER, 1)];
    let news = [of(2, 65001), of(2, 65001), of(0, 65001), of(world::LOC_RIB_PEER, 65001)];
    let of_another = [world::up(world::RENAMED_PEER, 1), of(2, 65001), world::up(world::OTHER_LOC_RIB_PEER, 1)];
    for (before, after) in without_as.into_iter().zip(news).chain(others.into_iter().zip(of_another)) {
        let feed = Feed::default();
        let mut input = feed.input(InputId::relay("relay"));
        let mut follower = following(&feed);
        append(&mut input, &[before.clone(), after.clone()]);
        assert_eq!(bytes_of(&take_all(&mut follower)), [before.clone(), down_of(&before), after.clone()].concat());
        assert_eq!((dump(&feed), feed.stats().peers), (after, 1));
    }
}

#[test]
fn a_station_that_missed_the_end_of_one_look_alike_is_told_the_other_anew() {
    const OTHER: u8 = world::LOOK_ALIKE_PEER;
    let feed = Feed::new(300, 1 << 20);
    let mut input = feed.input(InputId::relay("relay"));
    append(&mut input, &[world::up(0, 1), announce(0, 1, 1, 0..5), world::up(OTHER, 2), announce(OTHER, 1, 1, 9..10)]);
    let mut follower = following(&feed);
    append(&mut input, &[world::down(0, 1)]);
    (0..9).for_each(|time| append(&mut input, &[announce(OTHER, 1, time, 9..10)]));
    let told = bytes_of(&take_all(&mut follower));
    let rest = [down_of(&world::up(OTHER, 2)), world::up(OTHER, 2), announce(OTHER, 1, 8, 9..10)].concat();
    assert_eq!((told, follower.falls()), ([world::down(0, 1), rest].concat(), 1));
}

#[test]
fn a_station_that_needs_lost_withdrawals_of_one_look_alike_is_told_both_anew() {
    const OTHER: u8 = world::LOOK_ALIKE_PEER;
    let feed = Feed::new(300, 0);
    let mut input = feed.input(InputId::relay("relay"));
    let ups = [world::up(0, 1), world::up(OTHER, 2)];
    append(&mut input, &ups);
    append(&mut input, &[announce(0, 1, 1, 0..5), announce(OTHER, 1, 1, 9..10)]);
    let mut follower = following(&feed);
    append(&mut input, &[withdraw(OTHER, 9..10), announce(OTHER, 1, 1, 10..11)]);
    (0..9).for_each(|time| append(&mut input, &[announce(0, 1, time, 4..5)]));
    let told = bytes_of(&take_all(&mut follower));
    assert_eq!((types_of(&told), follower.falls()), (vec![0, 2, 2, 3, 3, 0, 0, 0], 1));
    assert!(told.ends_with(&dump(&feed)));
}

#[test]
fn a_late_station_is_told_the_as_that_the_router_named_with_each_route() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("relay"));
    let mut follower = following(&feed);
    let plain = [announce(2, 1, 1, 0..3), announce(2, 2, 1, 3..5)];
    let said = [world::up(2, 1), world::without_as(plain[0].clone()), plain[1].clone()];
    append(&mut input, &said);
    assert_eq!(bytes_of(&take_all(&mut follower)), said.concat());
    assert_eq!(dump(&feed), said.concat());
    // Of two that look the same, each has its own name.
    const OTHER: u8 = world::LOOK_ALIKE_PEER;
    let routes = announce(0, 1, 1, 0..3);
    append(&mut input, &[world::up(0, 1), world::without_as(routes.clone()), world::up(OTHER, 1)]);
    let told = bytes_of(&take_all(&mut follower));
    assert!(told.ends_with(&[world::up(0, 1), world::up(OTHER, 1), routes].concat()));
}
