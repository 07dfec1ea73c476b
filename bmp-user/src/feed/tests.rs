//! What the feed does, without a network.

mod captures;
mod end_of_rib;
mod replica;
mod world;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;

use super::*;
use crate::wire::{
    bgp::Family,
    bmp::{Error, Message, MessageType, PeerType, Problem, build, frames, peer_down_reason, samples::*},
};
use world::{Part, Reader, Route};

/// What the peer that this Peer Up announces is taken back with.
fn down_of(up: &[u8]) -> Vec<u8> {
    let frame = frames(up).next().unwrap().unwrap();
    let Message::PeerUp(up) = Message::parse(&frame).unwrap() else { panic!("a Peer Up") };
    let mut out = BytesMut::new();
    build::peer_down(&mut out, &up.peer, up.table_name());
    out.to_vec()
}

/// Appends frames as one read that filled its block.
fn append(input: &mut Input, frames: &[Vec<u8>]) {
    let bytes = Bytes::from(frames.concat());
    let block = bytes.len();
    input.append(bytes, block).unwrap();
}

/// All that there is to be taken now.
fn take_all(follower: &mut Follower) -> Vec<Piece> {
    let mut pieces = VecDeque::new();
    loop {
        let before = pieces.len();
        follower.take(usize::MAX, &mut pieces);
        if pieces.len() == before {
            return pieces.into();
        }
    }
}

fn bytes_of(pieces: &[Piece]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| piece.bytes.iter().copied()).collect()
}

/// A follower whose station knows all that there is.
fn following(feed: &Feed) -> Follower {
    let mut follower = feed.attach(Selection::default());
    take_all(&mut follower);
    follower
}

/// What a station is told that comes now.
fn dump(feed: &Feed) -> Vec<u8> {
    bytes_of(&take_all(&mut feed.attach(Selection::default())))
}

/// Frames by type, and their bytes.
fn types_of(bytes: &[u8]) -> Vec<u8> {
    frames(bytes).map(|frame| frame.unwrap().code()).collect()
}

/// An UPDATE of peer `peer` with IPv4 unicast routes by number.
fn announce(peer: u8, set: u8, time: u32, prefixes: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let announced = prefixes.into_iter().map(|prefix| Route { prefix, path: 0, variant: 0 }).collect();
    let part = Part { family: Family::IPV4_UNICAST, withdrawn: vec![], announced };
    world::update(peer, View::AdjRibInPre, time, set, &[part])
}

fn withdraw(peer: u8, prefixes: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let withdrawn = prefixes.into_iter().map(|prefix| Route { prefix, path: 0, variant: 0 }).collect();
    let part = Part { family: Family::IPV4_UNICAST, withdrawn, announced: vec![] };
    world::update(peer, View::AdjRibInPre, 9, 0, &[part])
}

#[test]
fn a_station_that_comes_late_is_told_the_peers_in_force_as_they_were_announced() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    append(&mut input, &[peer_up(2, 1), peer_up(1, 1), peer_up(3, 1), peer_down(3), peer_up(2, 7)]);
    let mut follower = feed.attach(Selection::default());
    assert!(follower.is_dumping());
    let told = take_all(&mut follower);
    assert_eq!(bytes_of(&told), [peer_up(1, 1), peer_up(2, 7)].concat(), "another Peer Up is another life");
    assert_eq!(told.iter().map(|piece| piece.counts.of(MessageType::PeerUp)).sum::<u64>(), 2);
    assert_eq!((follower.cursor(), follower.lag_bytes(), follower.is_dumping(), follower.dumps()), (5, 0, false, 1));
    assert_eq!(feed.stats().peers, 2);
}

#[test]
fn routes_that_share_attributes_and_time_leave_in_one_update_and_the_end_of_rib_behind_them() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    let end = world::end_of_rib(1, View::AdjRibInPre, Family::IPV4_UNICAST);
    let up = world::up(2, 1);
    append(&mut input, std::slice::from_ref(&up));
    for prefix in 0..100 {
        append(&mut input, &[announce(2, 1, 5, [prefix])]);
        append(&mut input, &[announce(2, 2, 5, [prefix + 100])]);
    }
    append(&mut input, &[announce(2, 1, 6, [250]), world::end_of_rib(2, View::AdjRibInPre, Family::IPV4_UNICAST)]);
    let expected = [up, announce(2, 1, 5, 0..100), announce(2, 2, 5, 100..200), announce(2, 1, 6, [250])].concat();
    let told = dump(&feed);
    assert_eq!(told[..expected.len()], expected, "as the peer would have packed them");
    assert_eq!(told.len(), expected.len() + end.len());
    let stats = feed.stats();
    assert_eq!((stats.routes, stats.ribs, stats.attribute_sets), (201, 1, 2));
}

#[test]
fn a_message_is_no_longer_than_its_peer_may_send() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    append(&mut input, &[world::up(2, 1)]);
    for second in 0..20u8 {
        let routes = (0..250).map(|last| [24, 10, second, last]).collect::<Vec<_>>().concat();
        let body = [&[0, 0, 0, 18, 0x40, 1, 1, 0, 0x40, 2, 4, 2, 1, 0xfd, 0xe9, 0x40, 3, 4, 192, 0, 2, 1][..], &routes]
            .concat();
        let flags_2_byte_as = 0x20;
        let mut message = peer_header(2, PeerType::GLOBAL, flags_2_byte_as);
        message.extend(bgp(2, &body));
        append(&mut input, &[frame(0, &message)]);
    }
    let told = dump(&feed);
    let lengths: Vec<_> = frames(&told).map(|frame| frame.unwrap().bytes().len() - 48).collect();
    assert_eq!(feed.stats().routes, 5000);
    assert!(lengths.iter().all(|length| *length <= 4096) && lengths.len() <= 8, "{lengths:?}");
}

#[test]
fn the_longest_message_there_is_is_told_anew_as_long_as_it_was() {
    // RFC 8654: 65,535 bytes, and MP_REACH_NLRI with a length of one octet.
    let reach = [0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 16, 0x20, 1];
    let origin_and_path = [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9];
    let around = 19 + 4 + origin_and_path.len() + 3 + reach.len() + 4;
    let unknown = vec![7; 65_535 - around];
    let mut attributes = [&origin_and_path[..], &[0x80, 14, 24], &reach].concat();
    attributes.extend([0xd0, 200]);
    attributes.extend((unknown.len() as u16).to_be_bytes());
    attributes.extend(unknown);
    let body = [&[0, 0], &(attributes.len() as u16).to_be_bytes()[..], &attributes].concat();
    let mut message = world::header(0, View::AdjRibInPre, 4);
    message.extend(bgp(2, &body));
    let feed = Feed::default();
    let mut input = feed.input("router");
    append(&mut input, &[world::up(0, 1), frame(0, &message)]);
    assert_eq!(dump(&feed), [world::up(0, 1), frame(0, &message)].concat());
}

#[test]
fn a_station_that_selects_something_else_was_not_too_slow_and_one_whose_frames_are_gone_was() {
    let feed = Feed::new(2000, 1 << 20);
    let mut input = feed.input("router");
    append(&mut input, &[world::up(0, 1), announce(0, 0, 0, 0..3)]);
    let mut follower = following(&feed);
    follower.select(Selection { mirroring: Mirroring::LeftOut, ..Selection::default() });
    take_all(&mut follower);
    assert_eq!((follower.dumps(), follower.falls()), (2, 0));
    for set in 0..100 {
        append(&mut input, &[announce(0, set, 0, 0..3)]);
    }
    take_all(&mut follower);
    assert_eq!((follower.dumps(), follower.falls()), (3, 1));
}

#[test]
fn a_peer_up_for_another_view_is_no_other_life_and_is_told_late_and_behind() {
    let feed = Feed::new(300, 1 << 20);
    let mut input = feed.input("router");
    let (pre, post) = (world::up(0, 1), world::up_of_view(0, 1, 1));
    assert_ne!(pre, post);
    append(&mut input, &[pre.clone(), announce(0, 0, 0, 0..3)]);
    let mut behind = following(&feed);
    append(&mut input, &[post.clone(), announce(0, 1, 0, 3..4), announce(0, 2, 0, 4..5), announce(0, 3, 0, 5..6)]);
    append(&mut input, &[announce(0, 0, 1, 6..7)]);
    assert_eq!(feed.stats().routes, 7);
    assert_eq!(types_of(&dump(&feed))[..2], [3, 3], "both come first");
    assert!(dump(&feed).starts_with(&[pre, post.clone()].concat()));
    let told = bytes_of(&take_all(&mut behind));
    assert_eq!(behind.falls(), 1);
    assert!(told.starts_with(&post), "what it lacks comes first");
    assert!(!types_of(&told).contains(&2), "and nothing is taken down");
}

#[test]
fn a_loc_rib_that_is_announced_for_each_family_has_one_life_if_its_time_says_so() {
    let up = |time: u32, my_as: u8| {
        let mut up = world::up(world::LOC_RIB_PEER, 0);
        up[40..44].copy_from_slice(&time.to_be_bytes());
        // In the OPEN that was sent, behind its header and version.
        up[68 + 19 + 2] = my_as;
        up
    };
    let routes = (0..3).map(|prefix| Route { prefix, path: 0, variant: 0 }).collect();
    let part = Part { family: Family::IPV4_UNICAST, withdrawn: vec![], announced: routes };
    let routes = world::update(world::LOC_RIB_PEER, View::LocRib, 0, 0, &[part]);
    for (time, kept) in [(7, 3), (0, 0)] {
        let feed = Feed::default();
        let mut input = feed.input("router");
        append(&mut input, &[up(time, 1), routes.clone(), up(time, 2)]);
        assert_eq!(feed.stats().routes, kept);
    }
}

#[test]
fn a_further_peer_up_by_which_routes_would_be_read_otherwise_begins_another_life_that_all_can_see() {
    // Of the same session by all that a station sees; with the capability ADD-PATH (RFC 7911 §4), or one that nobody knows.
    let up = |capability: u8| {
        let (plain, with_open) = (world::up(world::LOC_RIB_PEER, 0), world::up(world::ADD_PATH_PEER, 0));
        let mut header = plain[6..48].to_vec();
        header[34..38].copy_from_slice(&7u32.to_be_bytes());
        let mut body = with_open[48..].to_vec();
        for at in 0..body.len() - 1 {
            if body[at..at + 2] == [69, 4 * world::FAMILIES.len() as u8] {
                body[at] = capability;
            }
        }
        frame(3, &[header, body].concat())
    };
    let routes = (0..3).map(|prefix| Route { prefix, path: 0, variant: 0 }).collect();
    let part = Part { family: Family::IPV4_UNICAST, withdrawn: vec![], announced: routes };
    let routes = world::update(world::LOC_RIB_PEER, View::LocRib, 0, 0, &[part]);
    let feed = Feed::default();
    let mut follower = following(&feed);
    let mut input = feed.input("router");
    append(&mut input, &[up(200), routes.clone(), up(69)]);
    let told = bytes_of(&take_all(&mut follower));
    assert_eq!(types_of(&told), [3, 0, 2, 3]);
    assert!(told.ends_with(&up(69)) && told.starts_with(&[up(200), routes].concat()));
    assert_eq!(feed.stats().routes, 0);
    // Without routes that it would be about, it is a further one.
    let feed = Feed::default();
    let mut input = feed.input("router");
    append(&mut input, &[up(200), up(69)]);
    assert_eq!(types_of(&dump(&feed)), [3, 3]);
}

#[test]
fn what_an_input_says_of_a_peer_that_it_never_announced_is_not_told_where_another_input_has_one_that_looks_the_same() {
    let feed = Feed::default();
    let (mut frr, mut gobgp) = (feed.input("frr"), feed.input("gobgp"));
    let mut follower = following(&feed);
    let said = [world::statistics(2, 1), world::mirrored(2), world::down(2, 1)];
    append(&mut gobgp, &said);
    assert_eq!(bytes_of(&take_all(&mut follower)), said.concat(), "there is none");
    append(&mut frr, &[world::up(2, 1), announce(2, 1, 1, 0..3)]);
    take_all(&mut follower);
    append(&mut gobgp, &said);
    assert_eq!(bytes_of(&take_all(&mut follower)), b"");
    append(&mut frr, &[world::statistics(2, 2)]);
    assert_eq!(bytes_of(&take_all(&mut follower)), world::statistics(2, 2));
}

#[test]
fn frames_reach_every_follower_byte_for_byte() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    let mut follower = following(&feed);
    let sent = [peer_up(1, 1), route(1, 10), route(1, 20), frame(200, b"not assigned")];
    append(&mut input, &sent[..3]);
    append(&mut input, &sent[3..]);
    assert_eq!((follower.head(), follower.lag_bytes()), (4, sent.concat().len() as u64));
    let pieces = take_all(&mut follower);
    assert_eq!(bytes_of(&pieces), sent.concat());
    assert_eq!(pieces[0].counts.of(MessageType::RouteMonitoring), 2);
    assert_eq!(pieces[1].counts.unassigned(), 1);
    assert_eq!((follower.cursor(), follower.lag_bytes()), (4, 0));
    assert_eq!(feed.stats().frames.total(), 4);
}

#[test]
fn a_follower_takes_about_as_much_as_it_asks_for() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    let mut follower = following(&feed);
    (0..4).for_each(|_| append(&mut input, &[route(1, 100)]));
    let size = route(1, 100).len();
    let mut pieces = VecDeque::new();
    follower.take(1, &mut pieces);
    assert_eq!(pieces.len(), 1, "at least one");
    follower.take(2 * size, &mut pieces);
    assert_eq!((pieces.len(), follower.cursor()), (3, 3), "no more than asked for, behind what was there");
}

#[test]
fn a_follower_that_asks_for_nothing_is_told_in_the_right_order_all_the_same() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    append(&mut input, &[world::up(0, 1), announce(0, 0, 0, 0..3)]);
    let mut follower = feed.attach(Selection::default());
    let mut pieces = VecDeque::new();
    while follower.is_dumping() {
        follower.take(0, &mut pieces);
    }
    assert_eq!(bytes_of(pieces.make_contiguous()), dump(&feed));
}

#[test]
fn an_input_that_goes_away_takes_its_peers_with_it() {
    let feed = Feed::default();
    let mut going = feed.input("frr");
    let mut staying = feed.input("gobgp");
    let loc_rib = peer_up_of(&peer_header(1, PeerType::LOC_RIB, 0), 1, &[(3, b"vrf1")]);
    append(&mut going, &[peer_up(2, 1), loc_rib.clone(), peer_up(1, 1)]);
    append(&mut staying, &[peer_up(4, 1)]);
    let mut follower = following(&feed);
    drop(going);
    let expected = [peer_up(2, 1), loc_rib, peer_up(1, 1)].map(|up| down_of(&up));
    let pieces = take_all(&mut follower);
    assert_eq!(bytes_of(&pieces), expected.concat());
    assert_eq!(pieces[0].counts.of(MessageType::PeerDown), 3);
    let reasons = [peer_down_reason::DE_CONFIGURED, peer_down_reason::LOCAL_SYSTEM_CLOSED];
    assert_eq!([expected[0][48], expected[1][48]], reasons);
    assert_eq!(dump(&feed), peer_up(4, 1));
}

#[test]
fn of_two_peers_that_look_the_same_the_first_is_told_and_the_other_one_when_that_is_gone() {
    let feed = Feed::default();
    let (mut one, mut other) = (feed.input("one"), feed.input("other"));
    let mut follower = following(&feed);
    append(&mut one, &[world::up(2, 1), announce(2, 1, 1, [1])]);
    append(&mut other, &[world::up(2, 5), announce(2, 1, 1, [2])]);
    assert_eq!(bytes_of(&take_all(&mut follower)), [world::up(2, 1), announce(2, 1, 1, [1])].concat());
    assert_eq!(follower.refused().len(), 1);
    assert_eq!(dump(&feed), [world::up(2, 1), announce(2, 1, 1, [1])].concat(), "who comes late is told the same");
    append(&mut other, &[announce(2, 1, 1, [3])]);
    drop(one);
    let expected = [down_of(&world::up(2, 1)), world::up(2, 5), announce(2, 1, 1, [2, 3])].concat();
    assert_eq!(bytes_of(&take_all(&mut follower)), expected);
    assert_eq!(follower.refused().len(), 0);
    let relay = Selection {
        monitors: vec![Monitor { peers: Peers::Input("one".to_owned()), ribs: vec![] }],
        ..Selection::default()
    };
    assert_eq!(bytes_of(&take_all(&mut feed.attach(relay))), b"");
}

#[test]
fn many_peers_of_an_input_that_goes_away_are_taken_back_in_pieces_of_bounded_size() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    let mut header = peer_header(1, PeerType::GLOBAL, 0);
    for number in 0..5000u16 {
        header[22..24].copy_from_slice(&number.to_be_bytes());
        append(&mut input, &[peer_up_of(&header, 1, &[])]);
    }
    let mut follower = following(&feed);
    drop(input);
    let pieces = take_all(&mut follower);
    assert!(pieces.iter().all(|piece| piece.bytes.len() < 70_000) && pieces.len() > 2);
    assert_eq!(types_of(&bytes_of(&pieces)), [2; 5000]);
}

#[test]
fn a_peer_belongs_to_the_newest_connection_of_its_input_that_announced_it() {
    let feed = Feed::default();
    let mut older = feed.input("frr");
    append(&mut older, &[peer_up(1, 1), peer_up(2, 1)]);
    let mut newer = feed.input("frr");
    append(&mut newer, &[peer_up(1, 1)]);
    let mut follower = following(&feed);
    drop(older);
    assert_eq!(bytes_of(&take_all(&mut follower)), down_of(&peer_up(2, 1)));
    drop(newer);
    assert_eq!(bytes_of(&take_all(&mut follower)), down_of(&peer_up(1, 1)));
}

#[test]
fn routes_of_peers_that_were_never_announced_pass_and_replay_without_a_peer_up_and_are_counted() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    let mut follower = following(&feed);
    let sent = [announce(2, 1, 1, [1]), announce(2, 1, 1, [2])];
    append(&mut input, &sent);
    assert_eq!(bytes_of(&take_all(&mut follower)), sent.concat());
    assert_eq!((input.totals().unannounced, feed.stats().trouble.unannounced, feed.stats().peers), (2, 2, 0));
    assert_eq!(dump(&feed), announce(2, 1, 1, [1, 2]));
    drop(input);
    let told = bytes_of(&take_all(&mut follower));
    assert_eq!((types_of(&told), &told[6..48], told[48]), (vec![2], &[&sent[0][6..40], &[0; 8]].concat()[..], 5));
}

#[test]
fn a_station_that_was_too_slow_is_told_what_changed_and_nothing_twice() {
    let feed = Feed::new(2000, 100_000);
    let mut input = feed.input("frr");
    append(
        &mut input,
        &[world::up(2, 1), announce(2, 1, 1, 0..20), world::end_of_rib(2, View::AdjRibInPre, Family::IPV4_UNICAST)],
    );
    let mut follower = following(&feed);
    append(&mut input, &[world::mirrored(2), world::statistics(2, 1), withdraw(2, [3, 4]), announce(2, 1, 2, [50])]);
    (0..100).for_each(|time| append(&mut input, &[announce(2, 2, time, [7])]));
    append(&mut input, &[world::statistics(2, 2)]);
    assert!(feed.stats().tail > follower.cursor());
    let told = bytes_of(&take_all(&mut follower));
    let changes =
        [withdraw(2, [3, 4]), announce(2, 1, 2, [50]), announce(2, 2, 99, [7]), world::statistics(2, 2)].concat();
    assert_eq!(told[..changes.len()], changes);
    assert!(told[changes.len()..].ends_with(&[0, 1, 0, 2, 0, 1]), "mirrored messages were lost (RFC 7854 §4.7)");
    assert_eq!((types_of(&told).len(), follower.dumps()), (5, 2));
}

#[test]
fn withdrawals_are_kept_for_who_needs_them_and_forgotten_then() {
    let feed = Feed::new(1000, 100_000);
    let mut input = feed.input("frr");
    append(&mut input, &[world::up(2, 1), announce(2, 1, 1, 0..100)]);
    append(&mut input, &[withdraw(2, 0..50)]);
    assert_eq!(feed.stats().withdrawals, 0, "nobody is there");
    let mut follower = following(&feed);
    append(&mut input, &[withdraw(2, 50..99)]);
    let stats = feed.stats();
    assert_eq!((stats.withdrawals, stats.routes), (49, 1));
    take_all(&mut follower);
    append(&mut input, &[announce(2, 1, 1, [1])]);
    assert_eq!(feed.stats().withdrawals, 0);
}

#[test]
fn a_station_whose_withdrawals_were_too_many_is_told_its_peer_anew_and_the_others_are_left_alone() {
    let feed = Feed::new(1000, 500);
    let mut input = feed.input("frr");
    append(&mut input, &[world::up(2, 1), announce(2, 1, 1, 0..100), world::up(0, 1), announce(0, 1, 1, 0..2)]);
    let mut follower = following(&feed);
    append(&mut input, &[withdraw(2, 0..50)]);
    (0..50).for_each(|time| append(&mut input, &[announce(0, 1, time, [9])]));
    let told = bytes_of(&take_all(&mut follower));
    let up = world::up(2, 1);
    let expected = [down_of(&up), up, announce(2, 1, 1, 50..100), announce(0, 1, 49, [9])].concat();
    assert_eq!(told, expected);
}

#[test]
fn of_an_input_that_is_back_in_time_only_differences_are_told() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    let end = world::end_of_rib(2, View::AdjRibInPre, Family::IPV4_UNICAST);
    append(&mut input, &[world::up(2, 1), announce(2, 1, 1, 0..10), end.clone(), world::up(0, 1)]);
    let mut follower = following(&feed);
    let held = input.hold();
    let mut input = feed.input("frr");
    append(&mut input, &[world::up(2, 1), announce(2, 1, 7, 0..4)]);
    assert_eq!(bytes_of(&take_all(&mut follower)), b"", "that was known");
    append(&mut input, &[announce(2, 2, 7, [5]), end, announce(2, 1, 8, [7])]);
    let told = bytes_of(&take_all(&mut follower));
    let mut withdrawn = withdraw(2, [4, 6, 7, 8, 9]);
    withdrawn[40..48].fill(0);
    assert_eq!(told, [announce(2, 2, 7, [5]), withdrawn, announce(2, 1, 8, [7])].concat());
    drop(held);
    assert_eq!(bytes_of(&take_all(&mut follower)), down_of(&world::up(0, 1)), "this one is not back");
    append(&mut input, &[announce(2, 1, 8, [7])]);
    assert_eq!(bytes_of(&take_all(&mut follower)), announce(2, 1, 8, [7]), "and from here on everything is passed on");
}

#[test]
fn a_peer_that_comes_back_as_another_one_is_taken_down_first() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    append(&mut input, &[world::up(2, 1), announce(2, 1, 1, 0..10)]);
    let mut follower = following(&feed);
    let _held = input.hold();
    let mut input = feed.input("frr");
    append(&mut input, &[world::up(2, 9)]);
    assert_eq!(bytes_of(&take_all(&mut follower)), [down_of(&world::up(2, 1)), world::up(2, 9)].concat());
    assert_eq!(feed.stats().routes, 0);
}

#[test]
fn malformed_attributes_withdraw_their_routes_and_pass_as_they_came() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    append(&mut input, &[world::up(2, 1), announce(2, 1, 1, 0..3)]);
    let mut follower = following(&feed);
    let mut bad = announce(2, 1, 2, [1]);
    let origin = bad.len() - 4 - world::said(1, Family::IPV4_UNICAST, 0).0.iter().map(|a| a.2.len() + 3).sum::<usize>();
    // ORIGIN is the first attribute; there is no origin 9 (RFC 7606 §7.1). One attribute has a header of four bytes.
    bad[origin + 2] = 9;
    append(&mut input, std::slice::from_ref(&bad));
    assert_eq!(bytes_of(&take_all(&mut follower)), bad);
    let stats = feed.stats();
    assert_eq!((stats.trouble.treated_as_withdrawn, stats.trouble.malformed, stats.routes), (1, 0, 2));
    let mut reader = Reader::default();
    reader.read(&dump(&feed));
    assert_eq!(reader.peers[&2].ribs.values().next().unwrap().keys().collect::<Vec<_>>(), [&(0, 0), &(2, 0)]);
}

#[test]
fn what_comes_before_a_bad_frame_is_appended_and_the_rest_is_not() {
    let feed = Feed::default();
    let good = peer_up(1, 1);
    let mut bad_up = peer_up(2, 1);
    bad_up[68 + 18] = 2;
    let cases = [
        (bad_up, Problem::OpenType(2), 86),
        (initiation(), Problem::NotAboutAPeer(MessageType::Initiation), 5),
        (vec![4, 0], Problem::Version(4), 0),
        (vec![3, 0], Problem::Short { what: "the rest of a message", need: 3, found: 2 }, 0),
    ];
    for (bad, problem, offset) in cases {
        let mut input = feed.input("frr");
        let mut follower = following(&feed);
        let bytes = Bytes::from([good.clone(), bad, route(1, 0)].concat());
        let bytes = if matches!(problem, Problem::Short { .. }) { bytes.slice(..good.len() + 2) } else { bytes };
        let error = Error { offset: good.len() as u64 + offset, problem };
        assert_eq!(input.append(bytes, 1), Err(error));
        assert_eq!(bytes_of(&take_all(&mut follower)), good);
    }
}

#[test]
fn a_full_block_goes_into_the_journal_as_it_is() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    let mut follower = following(&feed);
    let bytes = Bytes::from(route(1, 1000));
    input.append(bytes.clone(), 2 * bytes.len()).unwrap();
    assert_eq!(take_all(&mut follower)[0].bytes.as_ptr(), bytes.as_ptr());
    assert!(feed.stats().journal_bytes >= 2 * bytes.len(), "and is charged for the whole block");
}

/// A block of memory that says when it is gone.
struct Block {
    bytes: Vec<u8>,
    _alive: Arc<()>,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[test]
fn the_journal_keeps_no_more_memory_alive_than_it_is_charged_for() {
    const BLOCK: usize = 8192;
    const LIMIT: usize = 20 * BLOCK;
    let feed = Feed::new(LIMIT, 1000);
    let mut input = feed.input("frr");
    let alive = Arc::new(());
    for round in 0..2000_usize {
        let frame = route(1, (round * 37) % 8000);
        let mut block = frame.clone();
        block.resize(BLOCK, 0);
        let bytes = Bytes::from_owner(Block { bytes: block, _alive: Arc::clone(&alive) }).slice(..frame.len());
        input.append(bytes, BLOCK).unwrap();
        let pinned = (Arc::strong_count(&alive) - 1) * BLOCK;
        let stats = feed.stats();
        assert!(pinned <= stats.journal_bytes && stats.journal_bytes <= LIMIT);
    }
    let before = Arc::strong_count(&alive);
    for _ in 0..10_000 {
        let frame = route(1, 0);
        let bytes = Bytes::from_owner(Block { bytes: frame.clone(), _alive: Arc::clone(&alive) }).slice(..frame.len());
        input.append(bytes, BLOCK).unwrap();
    }
    assert!(before > 1);
    assert_eq!(Arc::strong_count(&alive), 1, "a trickle of small frames keeps no block at all");
    let stats = feed.stats();
    let kept = usize::try_from(stats.head - stats.tail).unwrap();
    assert!(stats.journal_bytes <= LIMIT && kept * route(1, 0).len() < LIMIT / 2, "bookkeeping is charged too");
}

#[test]
fn what_a_follower_holds_stays_whole_when_the_journal_has_dropped_it() {
    let feed = Feed::new(4096, 1000);
    let mut input = feed.input("frr");
    let mut follower = following(&feed);
    append(&mut input, &[route(1, 500)]);
    let held = take_all(&mut follower);
    (0..100).for_each(|_| append(&mut input, &[route(2, 500)]));
    assert!(feed.stats().tail > 1);
    assert_eq!(bytes_of(&held), route(1, 500));
}

#[test]
fn a_chunk_larger_than_the_journal_still_reaches_who_is_at_the_head() {
    let feed = Feed::new(100, 1000);
    let mut input = feed.input("frr");
    let mut follower = following(&feed);
    append(&mut input, &[route(1, 5000)]);
    assert_eq!(bytes_of(&take_all(&mut follower)), route(1, 5000));
}

#[tokio::test]
async fn a_follower_waits_until_there_is_something_past_its_cursor() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    let mut follower = following(&feed);
    assert!(follower.ready().now_or_never().is_none(), "and may stop waiting");
    append(&mut input, &[route(1, 0)]);
    follower.ready().await;
    follower.ready().await;
    take_all(&mut follower);
    assert!(follower.ready().now_or_never().is_none());
    let waiting = tokio::spawn(async move {
        follower.ready().await;
        take_all(&mut follower).len()
    });
    tokio::task::yield_now().await;
    append(&mut input, &[route(1, 0)]);
    assert_eq!(waiting.await.unwrap(), 1);
}

#[test]
fn peers_that_are_no_more_are_forgotten_when_nobody_needs_to_be_told() {
    let feed = Feed::new(100_000, 1000);
    let mut input = feed.input("frr");
    let slow = following(&feed);
    let mut header = peer_header(1, PeerType::GLOBAL, 0);
    let mut say = |from: u32, to: u32| {
        for number in from..to {
            header[2..6].copy_from_slice(&number.to_be_bytes());
            let down = frame(2, &[&header[..], &[4]].concat());
            // Each for a moment; and one that was never up.
            append(&mut input, &[peer_up_of(&header, 1, &[]), down.clone(), down]);
        }
    };
    say(0, 30_000);
    assert!(feed.0.state().slots.len() <= 10_010, "however slow a station is");
    drop(slow);
    say(30_000, 30_010);
    let slots = feed.0.state().slots.len();
    say(30_010, 60_000);
    assert_eq!(feed.0.state().slots.len(), slots, "and their places are used again");
}
