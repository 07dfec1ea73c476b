//! Tests of the feed, without a network.

mod attributes;
mod captures;
mod cases;
mod derived;
mod end_of_rib;
mod filters;
mod histories;
mod lives;
mod many_peers;
mod memory;
mod not_kept;
mod owners;
mod paced;
mod paced_filters;
mod reader;
mod readings;
mod replica;
mod routers;
mod tables;
mod truth;
mod world;

use std::{collections::VecDeque, net::Ipv4Addr};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;

use super::*;
use crate::wire::{
    bgp::Family,
    bmp::{BmpChunk, Message, MessageType, PeerHeader, PeerType, RibView, build, frames, samples::*},
};
use world::{NumberedRoute, UpdatePart};

/// The Peer Down in bmpd's own name for the peer of this Peer Up.
fn down_of(up: &[u8]) -> Vec<u8> {
    let frame = frames(up).next().unwrap().unwrap();
    let Message::PeerUp(up) = Message::parse(&frame).unwrap() else { panic!("a Peer Up") };
    let mut out = BytesMut::new();
    build::peer_down(&mut out, &up.peer, up.table_name());
    out.to_vec()
}

/// Appends frames, as one read that filled its block.
fn append(input: &mut Input, frames: &[Vec<u8>]) {
    let bytes = Bytes::from(frames.concat());
    let block = bytes.len();
    input.append(BmpChunk::parse(bytes, block).unwrap());
}

/// Takes everything that there is now.
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

/// A follower whose station knows everything.
fn following(feed: &Feed) -> Follower {
    let mut follower = feed.attach(Selection::default());
    take_all(&mut follower);
    follower
}

/// What a new station is told.
fn dump(feed: &Feed) -> Vec<u8> {
    bytes_of(&take_all(&mut feed.attach(Selection::default())))
}

/// The type bytes of frames.
fn types_of(bytes: &[u8]) -> Vec<u8> {
    frames(bytes).map(|frame| frame.unwrap().code()).collect()
}

/// An UPDATE of peer `peer` with IPv4 unicast routes by number.
fn announce(peer: u8, set: u8, time: u32, prefixes: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let announced = prefixes.into_iter().map(|prefix| NumberedRoute { prefix, path: 0, variant: 0 }).collect();
    let part = UpdatePart { family: Family::IPV4_UNICAST, withdrawn: vec![], announced };
    world::update(peer, RibView::AdjRibInPre, time, set, &[part])
}

fn withdraw(peer: u8, prefixes: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let withdrawn = prefixes.into_iter().map(|prefix| NumberedRoute { prefix, path: 0, variant: 0 }).collect();
    let part = UpdatePart { family: Family::IPV4_UNICAST, withdrawn, announced: vec![] };
    world::update(peer, RibView::AdjRibInPre, 9, 0, &[part])
}

#[test]
fn a_late_station_is_told_the_peers_that_are_up_as_they_were_announced() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    append(&mut input, &[peer_up(2, 1), peer_up(1, 1), peer_up(3, 1), peer_down(3), peer_up(2, 7)]);
    let mut follower = feed.attach(Selection::default());
    assert!(follower.is_dumping());
    let told = take_all(&mut follower);
    assert_eq!(bytes_of(&told), [peer_up(1, 1), peer_up(2, 7)].concat(), "another Peer Up is another life");
    assert_eq!(told.iter().map(|piece| piece.counts.of(MessageType::PeerUp)).sum::<u64>(), 2);
    assert_eq!((follower.cursor(), follower.lag_bytes(), follower.is_dumping(), follower.dumps()), (6, 0, false, 1));
    assert_eq!(feed.stats().peers, 2);
}

#[test]
fn routes_with_equal_attributes_and_time_leave_in_one_update_before_the_end_of_rib() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    let end = world::end_of_rib(1, RibView::AdjRibInPre, Family::IPV4_UNICAST);
    let up = world::up(2, 1);
    append(&mut input, std::slice::from_ref(&up));
    for prefix in 0..100 {
        append(&mut input, &[announce(2, 1, 5, [prefix])]);
        append(&mut input, &[announce(2, 2, 5, [prefix + 100])]);
    }
    append(&mut input, &[announce(2, 1, 6, [250]), world::end_of_rib(2, RibView::AdjRibInPre, Family::IPV4_UNICAST)]);
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
    let mut input = feed.input(InputId::relay("frr"));
    append(&mut input, &[world::up(2, 1)]);
    for second in 0..20u8 {
        let routes = (0..251).map(|last| [24, 10, second, last]).collect::<Vec<_>>().concat();
        let body = [&[0, 0, 0, 18, 0x40, 1, 1, 0, 0x40, 2, 4, 2, 1, 0xfd, 0xe9, 0x40, 3, 4, 192, 0, 2, 1][..], &routes]
            .concat();
        let flags_2_byte_as = 0x20;
        let mut message = peer_header(2, PeerType::GLOBAL, flags_2_byte_as);
        message.extend(bgp(2, &body));
        append(&mut input, &[frame(0, &message)]);
    }
    let told = dump(&feed);
    let lengths: Vec<_> = frames(&told).map(|frame| frame.unwrap().bytes().len() - 48).collect();
    assert_eq!(feed.stats().routes, 5020);
    assert!(lengths.iter().all(|length| *length <= 4096) && lengths.len() <= 8, "{lengths:?}");
}

#[test]
fn the_longest_possible_message_is_told_again_unchanged() {
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
    let mut message = world::header(0, RibView::AdjRibInPre, 4);
    message.extend(bgp(2, &body));
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("router"));
    append(&mut input, &[world::up(0, 1), frame(0, &message)]);
    assert_eq!(dump(&feed), [world::up(0, 1), frame(0, &message)].concat());
}

#[test]
fn only_a_station_whose_frames_are_gone_counts_as_too_slow() {
    let feed = Feed::new(2000, 1 << 20);
    let mut input = feed.input(InputId::relay("router"));
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
fn a_station_beyond_its_limit_is_sent_the_state_and_one_within_it_the_journal() {
    let taken = |follower: &mut Follower| bytes_of(&take_all(follower));
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("router"));
    append(&mut input, &[world::up(0, 1)]);
    let [mut within, mut beyond] = [following(&feed), following(&feed)];
    let frames: Vec<_> = (0..100).map(|set| announce(0, set, 0, 0..3)).collect();
    frames.iter().for_each(|frame| append(&mut input, std::slice::from_ref(frame)));
    let lag = within.lag_bytes();
    within.limit_lag(Some(lag));
    beyond.limit_lag(Some(lag - 1));
    assert_eq!(taken(&mut within), frames.concat());
    assert_eq!(taken(&mut beyond), frames[99]);
    assert_eq!([&within, &beyond].map(Follower::falls), [0, 1]);
    // At the head, the journal goes on for both.
    append(&mut input, &[frames[0].clone()]);
    assert_eq!([taken(&mut within), taken(&mut beyond)], [frames[0].clone(), frames[0].clone()]);
    // A limit that every message exceeds holds no station up.
    beyond.limit_lag(Some(0));
    append(&mut input, &[frames[1].clone()]);
    assert_eq!(taken(&mut beyond), frames[1]);
}

#[test]
fn a_station_with_a_timer_of_its_own_gets_the_latest_reports_when_it_asks() {
    let taken = |follower: &mut Follower| bytes_of(&take_all(follower));
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("router"));
    append(&mut input, &[world::up(0, 1), world::up(2, 1), world::statistics(0, 1)]);
    let mut follower = feed.attach(Selection::default());
    follower.hold_statistics(true);
    assert_eq!(taken(&mut follower), [world::up(0, 1), world::up(2, 1)].concat());
    append(&mut input, &[world::statistics(0, 2), world::statistics(2, 3), announce(0, 1, 0, 0..3)]);
    assert_eq!(taken(&mut follower), announce(0, 1, 0, 0..3));
    follower.report_statistics();
    assert_eq!(taken(&mut follower), [world::statistics(0, 2), world::statistics(2, 3)].concat());
    // Nothing is told twice.
    follower.report_statistics();
    assert_eq!(taken(&mut follower), [0; 0]);
    // A report that is kept for it is in nobody's journal.
    let mut other = following(&feed);
    input.keep_statistics(&world::statistics(2, 4));
    assert_eq!(taken(&mut other), [0; 0]);
    follower.report_statistics();
    assert_eq!(taken(&mut follower), world::statistics(2, 4));
    append(&mut input, &[down_of(&world::up(2, 1)), world::statistics(0, 5)]);
    follower.report_statistics();
    // The peer that is down has no report any more.
    assert_eq!(taken(&mut follower), [world::statistics(0, 5), down_of(&world::up(2, 1))].concat());
    follower.hold_statistics(false);
    append(&mut input, &[world::statistics(0, 6)]);
    assert_eq!(taken(&mut follower), world::statistics(0, 6));
    feed.0.lock().check_memory();
}

#[test]
fn frames_reach_every_follower_byte_for_byte() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
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
    let mut input = feed.input(InputId::relay("frr"));
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
fn a_follower_that_asks_for_no_bytes_still_gets_frames_in_order() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    append(&mut input, &[world::up(0, 1), announce(0, 0, 0, 0..3)]);
    let mut follower = feed.attach(Selection::default());
    let mut pieces = VecDeque::new();
    while follower.is_dumping() {
        follower.take(0, &mut pieces);
    }
    assert_eq!(bytes_of(pieces.make_contiguous()), dump(&feed));
}

#[test]
fn routes_of_peers_that_were_never_announced_pass_without_a_peer_up_and_are_counted() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
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
    let mut input = feed.input(InputId::relay("frr"));
    append(
        &mut input,
        &[world::up(2, 1), announce(2, 1, 1, 0..20), world::end_of_rib(2, RibView::AdjRibInPre, Family::IPV4_UNICAST)],
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
fn withdrawals_are_kept_while_a_follower_needs_them() {
    let feed = Feed::new(1000, 100_000);
    let mut input = feed.input(InputId::relay("frr"));
    append(&mut input, &[world::up(2, 1), announce(2, 1, 1, [0]), announce(2, 1, 1, 0..100)]);
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
fn a_station_that_needs_forgotten_withdrawals_is_told_that_peer_anew_and_no_other() {
    let feed = Feed::new(1000, 500);
    let mut input = feed.input(InputId::relay("frr"));
    append(&mut input, &[world::up(2, 1), announce(2, 1, 1, 0..101), world::up(0, 1), announce(0, 1, 1, 0..2)]);
    let mut follower = following(&feed);
    append(&mut input, &[withdraw(2, 0..50)]);
    (0..50).for_each(|time| append(&mut input, &[announce(0, 1, time, [9])]));
    let told = bytes_of(&take_all(&mut follower));
    let up = world::up(2, 1);
    let expected = [down_of(&up), up, announce(2, 1, 1, 50..101), announce(0, 1, 49, [9])].concat();
    assert_eq!(told, expected);
}

#[test]
fn errors_in_attributes_of_one_as_count_only_for_internal_peers() {
    let open = |asn: u16| bgp(1, &[&[4][..], &asn.to_be_bytes(), &[0, 90, 10, 0, 0, 1, 0]].concat());
    // LOCAL_PREF of one byte (RFC 7606 §7.5).
    let attributes = [0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4, 10, 0, 0, 1, 0x40, 5, 1, 0];
    let body = [&[0, 0, 0, attributes.len() as u8][..], &attributes, &[24, 10, 0, 0]].concat();
    for (peer_as, errors) in [(65001, 1), (65002, 0)] {
        let feed = Feed::default();
        let mut input = feed.input(InputId::relay("frr"));
        let peer = PeerHeader::of(&frames(&world::up(2, 1)).next().unwrap().unwrap()).unwrap();
        let peer = PeerHeader { asn: peer_as.into(), ..peer };
        let (mut up, mut announced) = (BytesMut::new(), BytesMut::new());
        build::peer_up(&mut up, &peer, Ipv4Addr::new(10, 0, 0, 1).into(), [179, 40000], &open(65001), &open(peer_as));
        build::route_monitoring(&mut announced, &peer, &bgp(2, &body));
        append(&mut input, &[up.to_vec(), announced.to_vec()]);
        let stats = feed.stats();
        assert_eq!((stats.routes, stats.trouble.malformed_attributes), (1, errors));
    }
}

#[test]
fn a_full_block_goes_into_the_journal_as_it_is() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    let mut follower = following(&feed);
    let bytes = Bytes::from(route(1, 1000));
    input.append(BmpChunk::parse(bytes.clone(), 2 * bytes.len()).unwrap());
    assert_eq!(take_all(&mut follower)[0].bytes.as_ptr(), bytes.as_ptr());
    assert!(feed.stats().journal_bytes >= 2 * bytes.len(), "and is charged for the whole block");
}

/// A block of memory that shows when it is freed.
struct TrackedBlock {
    bytes: Vec<u8>,
    _alive: Arc<()>,
}

impl AsRef<[u8]> for TrackedBlock {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[test]
fn the_journal_keeps_no_more_memory_alive_than_it_is_charged_for() {
    const BLOCK: usize = 8192;
    const LIMIT: usize = 20 * BLOCK;
    let feed = Feed::new(LIMIT, 1000);
    let mut input = feed.input(InputId::relay("frr"));
    let alive = Arc::new(());
    for round in 0..2000_usize {
        let frame = route(1, (round * 37) % 8000);
        let mut block = frame.clone();
        block.resize(BLOCK, 0);
        let bytes = Bytes::from_owner(TrackedBlock { bytes: block, _alive: Arc::clone(&alive) }).slice(..frame.len());
        input.append(BmpChunk::parse(bytes, BLOCK).unwrap());
        let pinned = (Arc::strong_count(&alive) - 1) * BLOCK;
        let stats = feed.stats();
        assert!(pinned <= stats.journal_bytes && stats.journal_bytes <= LIMIT);
    }
    let before = Arc::strong_count(&alive);
    for _ in 0..10_000 {
        let frame = route(1, 0);
        let bytes =
            Bytes::from_owner(TrackedBlock { bytes: frame.clone(), _alive: Arc::clone(&alive) }).slice(..frame.len());
        input.append(BmpChunk::parse(bytes, BLOCK).unwrap());
    }
    assert!(before > 1);
    assert_eq!(Arc::strong_count(&alive), 1, "a trickle of small frames keeps no block at all");
    let stats = feed.stats();
    let kept = usize::try_from(stats.head - stats.tail).unwrap();
    assert!(stats.journal_bytes <= LIMIT && kept * route(1, 0).len() < LIMIT / 2, "bookkeeping is charged too");
}

#[test]
fn pieces_of_a_follower_stay_whole_when_the_journal_drops_them() {
    let feed = Feed::new(4096, 1000);
    let mut input = feed.input(InputId::relay("frr"));
    let mut follower = following(&feed);
    append(&mut input, &[route(1, 500)]);
    let held = take_all(&mut follower);
    (0..100).for_each(|_| append(&mut input, &[route(2, 500)]));
    assert!(feed.stats().tail > 1);
    assert_eq!(bytes_of(&held), route(1, 500));
}

#[test]
fn a_chunk_larger_than_the_journal_still_reaches_a_follower_at_the_head() {
    let feed = Feed::new(100, 1000);
    let mut input = feed.input(InputId::relay("frr"));
    let mut follower = following(&feed);
    append(&mut input, &[route(1, 5000)]);
    assert_eq!(bytes_of(&take_all(&mut follower)), route(1, 5000));
}

#[tokio::test]
async fn a_follower_waits_until_there_is_something_past_its_cursor() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
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
fn ended_peers_are_forgotten_when_no_follower_needs_them() {
    let feed = Feed::new(100_000, 1000);
    let mut input = feed.input(InputId::relay("frr"));
    let slow = following(&feed);
    let mut header = peer_header(1, PeerType::GLOBAL, 0);
    let mut say = |from: u32, to: u32| {
        for number in from..to {
            header[2..6].copy_from_slice(&number.to_be_bytes());
            let down = frame(2, &[&header[..], &[4]].concat());
            // Each peer is up for a moment, and then not there.
            append(&mut input, &[peer_up_of(&header, 1, &[]), down.clone(), down]);
        }
    };
    say(0, 30_000);
    assert!(feed.0.lock().peers.slots() <= 10_010, "however slow a station is");
    drop(slow);
    say(30_000, 30_010);
    let slots = feed.0.lock().peers.slots();
    say(30_010, 60_000);
    assert_eq!(feed.0.lock().peers.slots(), slots, "and their places are used again");
}
