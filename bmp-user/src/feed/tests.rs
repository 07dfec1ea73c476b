mod replica;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;

use super::{peers::ConnectionId, *};
use crate::wire::bmp::{Error, Message, MessageType, PeerType, Problem, build, frames, peer_down_reason, samples::*};

/// What the peer that this Peer Up announces is taken back with.
fn down_of(up: &[u8]) -> Vec<u8> {
    let frame = frames(up).next().unwrap().unwrap();
    let Message::PeerUp(up) = Message::parse(&frame).unwrap() else { panic!("a Peer Up") };
    let mut out = BytesMut::new();
    build::peer_down(&mut out, &up);
    out.to_vec()
}

/// Appends frames as one read that filled its block.
fn append(input: &mut Input, frames: &[Vec<u8>]) {
    let bytes = Bytes::from(frames.concat());
    let block = bytes.len();
    input.append(bytes, block).unwrap();
}

fn take_all(follower: &mut Follower) -> Result<Vec<Chunk>, Lost> {
    let mut chunks = VecDeque::new();
    follower.take(usize::MAX, &mut chunks)?;
    Ok(chunks.into())
}

fn bytes_of(chunks: &[Chunk]) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| chunk.bytes.iter().copied()).collect()
}

#[test]
fn a_station_that_comes_late_is_told_the_peers_in_force_as_they_were_announced() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    append(&mut input, &[peer_up(2, 1), peer_up(1, 1), peer_up(3, 1), peer_down(3), peer_up(2, 7)]);
    let attachment = feed.attach();
    assert_eq!(attachment.opening, [peer_up(2, 7), peer_up(1, 1)], "a repeated Peer Up replaces the one before");
    assert_eq!(attachment.counts.of(MessageType::PeerUp), 2);
    assert!(attachment.complete);
    assert_eq!((attachment.follower.cursor(), attachment.follower.lag_bytes()), (5, 0));
    assert_eq!(feed.stats().peers, 2);
}

#[test]
fn a_station_that_comes_after_routes_is_told_that_it_has_missed_some() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    append(&mut input, &[peer_up(1, 1), route(1, 0)]);
    assert!(!feed.attach().complete);
    append(&mut input, &[peer_up(1, 2)]);
    assert!(!feed.attach().complete, "a repeated Peer Up does not take routes back");
    append(&mut input, &[peer_down(1)]);
    assert!(feed.attach().complete, "a Peer Down does");
    append(&mut input, &[peer_up(1, 2)]);
    assert!(feed.attach().complete);
    append(&mut input, &[route(9, 0)]);
    assert!(!feed.attach().complete, "routes of a peer that was never announced are missed like any other");
    drop(input);
    assert!(feed.attach().complete);
}

#[test]
fn frames_reach_every_follower_byte_for_byte_with_their_numbers() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    let Attachment { mut follower, .. } = feed.attach();
    let sent = [peer_up(1, 1), route(1, 10), route(1, 20), frame(200, b"not assigned")];
    append(&mut input, &sent[..3]);
    append(&mut input, &sent[3..]);
    assert_eq!((follower.head(), follower.lag_bytes()), (4, sent.concat().len() as u64));
    let chunks = take_all(&mut follower).unwrap();
    assert_eq!(bytes_of(&chunks), sent.concat());
    assert_eq!(chunks.iter().map(|chunk| (chunk.first, chunk.frames)).collect::<Vec<_>>(), [(0, 3), (3, 1)]);
    assert_eq!(chunks[0].counts.of(MessageType::RouteMonitoring), 2);
    assert_eq!(chunks[1].counts.unassigned(), 1);
    assert_eq!((follower.cursor(), follower.lag_bytes()), (4, 0));
    assert_eq!(feed.stats().frames.total(), 4);
}

#[test]
fn a_follower_takes_about_as_much_as_it_asks_for() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    let Attachment { mut follower, .. } = feed.attach();
    (0..4).for_each(|_| append(&mut input, &[route(1, 100)]));
    let size = route(1, 100).len();
    let mut chunks = VecDeque::new();
    follower.take(1, &mut chunks).unwrap();
    assert_eq!(chunks.len(), 1, "at least one");
    follower.take(2 * size, &mut chunks).unwrap();
    assert_eq!((chunks.len(), follower.cursor()), (3, 3), "no more than asked for, behind what was there");
}

#[test]
fn an_input_that_goes_away_takes_its_peers_with_it() {
    let feed = Feed::default();
    let mut going = feed.input("frr");
    let mut staying = feed.input("gobgp");
    let loc_rib = peer_up_of(&peer_header(1, PeerType::LOC_RIB, 0), 1, &[(3, b"vrf1")]);
    append(&mut going, &[peer_up(2, 1), loc_rib.clone(), peer_up(1, 1)]);
    append(&mut staying, &[peer_up(4, 1)]);
    let Attachment { mut follower, .. } = feed.attach();
    drop(going);
    let expected = [peer_up(2, 1), loc_rib, peer_up(1, 1)].map(|up| down_of(&up));
    let chunks = take_all(&mut follower).unwrap();
    assert_eq!(bytes_of(&chunks), expected.concat());
    assert_eq!(chunks[0].counts.of(MessageType::PeerDown), 3);
    let reasons = [peer_down_reason::DE_CONFIGURED, peer_down_reason::LOCAL_SYSTEM_CLOSED];
    assert_eq!([expected[0][48], expected[1][48]], reasons);
    assert_eq!(feed.attach().opening, [peer_up(4, 1)]);
}

#[test]
fn a_peer_that_another_input_has_too_is_still_up_when_one_of_them_goes_away() {
    let feed = Feed::default();
    let (mut one, mut other) = (feed.input("one"), feed.input("other"));
    let mut follower = feed.attach().follower;
    append(&mut one, &[peer_up(1, 1), peer_up(2, 1)]);
    append(&mut other, &[peer_up(1, 5)]);
    take_all(&mut follower).unwrap();
    drop(one);
    let told = bytes_of(&take_all(&mut follower).unwrap());
    assert_eq!(told, [down_of(&peer_up(1, 1)), peer_up(1, 5), down_of(&peer_up(2, 1))].concat());
    assert_eq!(feed.stats().peers, 1);
    assert_eq!(follower.rejoin().opening, [down_of(&peer_up(1, 5)), peer_up(1, 5)]);
}

#[test]
fn many_peers_of_an_input_that_goes_away_are_taken_back_in_chunks_of_bounded_size() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    let peers = 3000_u32;
    for number in 0..peers {
        let mut header = peer_header(1, PeerType::RD, 0);
        header[2..6].copy_from_slice(&number.to_be_bytes());
        append(&mut input, &[peer_up_of(&header, 1, &[])]);
    }
    let Attachment { mut follower, .. } = feed.attach();
    drop(input);
    let chunks = take_all(&mut follower).unwrap();
    assert_eq!(chunks.iter().map(|chunk| chunk.frames).sum::<u32>(), peers);
    assert!(chunks.iter().all(|chunk| chunk.bytes.len() < 65 * 1024));
}

#[test]
fn a_peer_belongs_to_the_newest_connection_of_its_input_that_announced_it() {
    let feed = Feed::default();
    let mut older = feed.input("frr");
    let mut newer = feed.input("frr");
    append(&mut older, &[peer_up(1, 1), peer_up(2, 1)]);
    append(&mut newer, &[peer_up(1, 2)]);
    append(&mut older, &[peer_up(1, 3)]);
    let Attachment { mut follower, .. } = feed.attach();
    drop(older);
    assert_eq!(bytes_of(&take_all(&mut follower).unwrap()), down_of(&peer_up(2, 1)));
    drop(newer);
    assert_eq!(bytes_of(&take_all(&mut follower).unwrap()), down_of(&peer_up(1, 3)));
    assert_eq!(feed.stats().peers, 0);
}

#[test]
fn routes_of_peers_that_were_never_announced_pass_and_are_counted() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    let Attachment { mut follower, .. } = feed.attach();
    let sent = [route(1, 0), peer_up(1, 1), route(1, 0), route(2, 0), route(2, 0), peer_down(1), route(1, 0)];
    append(&mut input, &sent);
    assert_eq!(bytes_of(&take_all(&mut follower).unwrap()), sent.concat());
    assert_eq!((input.totals().unannounced, feed.stats().unannounced), (4, 4));
    assert_eq!(input.totals().frames, 7);
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
        let Attachment { mut follower, .. } = feed.attach();
        let bytes = Bytes::from([good.clone(), bad, route(1, 0)].concat());
        let bytes = if matches!(problem, Problem::Short { .. }) { bytes.slice(..good.len() + 2) } else { bytes };
        let error = Error { offset: good.len() as u64 + offset, problem };
        assert_eq!(input.append(bytes, 1), Err(error));
        assert_eq!(bytes_of(&take_all(&mut follower).unwrap()), good);
    }
}

#[test]
fn a_full_block_goes_into_the_journal_as_it_is() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    let Attachment { mut follower, .. } = feed.attach();
    let bytes = Bytes::from(route(1, 1000));
    input.append(bytes.clone(), 2 * bytes.len()).unwrap();
    assert_eq!(take_all(&mut follower).unwrap()[0].bytes.as_ptr(), bytes.as_ptr());
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
    let feed = Feed::new(LIMIT);
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
    let feed = Feed::new(4096);
    let mut input = feed.input("frr");
    let Attachment { mut follower, .. } = feed.attach();
    append(&mut input, &[route(1, 500)]);
    let held = take_all(&mut follower).unwrap();
    (0..100).for_each(|_| append(&mut input, &[route(2, 500)]));
    assert!(feed.stats().tail > 1);
    assert_eq!(bytes_of(&held), route(1, 500));
}

#[test]
fn a_chunk_larger_than_the_journal_still_reaches_who_is_at_the_head() {
    let feed = Feed::new(100);
    let mut input = feed.input("frr");
    let Attachment { mut follower, .. } = feed.attach();
    append(&mut input, &[route(1, 5000)]);
    assert_eq!(bytes_of(&take_all(&mut follower).unwrap()), route(1, 5000));
}

#[test]
fn a_follower_that_was_too_slow_is_told_and_brought_back_to_the_truth() {
    let feed = Feed::new(4096);
    let mut input = feed.input("frr");
    append(&mut input, &[peer_up(1, 1)]);
    let Attachment { mut follower, .. } = feed.attach();
    append(&mut input, &[peer_up(2, 1), peer_up(3, 1), peer_down(3)]);
    take_all(&mut follower).unwrap();
    append(&mut input, &[peer_down(2), peer_up(4, 1)]);
    (0..100).for_each(|_| append(&mut input, &[route(1, 500)]));
    let stats = feed.stats();
    assert_eq!(take_all(&mut follower).unwrap_err(), Lost { cursor: 4, tail: stats.tail });
    assert_eq!(follower.cursor(), 4, "nothing has changed");
    let rejoined = follower.rejoin();
    let expected = [down_of(&peer_up(1, 1)), down_of(&peer_up(2, 1)), peer_up(1, 1), peer_up(4, 1)];
    assert_eq!(rejoined.opening, expected, "it was never told of 4, and told that 3 is down");
    assert_eq!([MessageType::PeerDown, MessageType::PeerUp].map(|message| rejoined.counts.of(message)), [2, 2]);
    assert!(!rejoined.complete);
    assert_eq!((follower.cursor(), follower.lag_bytes()), (stats.head, 0));
    append(&mut input, &[route(1, 0)]);
    assert_eq!(bytes_of(&take_all(&mut follower).unwrap()), route(1, 0));
}

#[tokio::test]
async fn a_follower_waits_until_there_is_something_past_its_cursor() {
    let feed = Feed::default();
    let mut input = feed.input("frr");
    let Attachment { mut follower, .. } = feed.attach();
    assert!(follower.ready().now_or_never().is_none(), "and may stop waiting");
    append(&mut input, &[route(1, 0)]);
    follower.ready().await;
    follower.ready().await;
    take_all(&mut follower).unwrap();
    assert!(follower.ready().now_or_never().is_none());
    let waiting = tokio::spawn(async move {
        follower.ready().await;
        take_all(&mut follower).unwrap().len()
    });
    tokio::task::yield_now().await;
    append(&mut input, &[route(1, 0)]);
    assert_eq!(waiting.await.unwrap(), 1);
}
