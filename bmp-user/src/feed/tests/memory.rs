//! The account of the feed's memory, and the limit of it. That the account is right after any
//! history is a part of the replica property.

use tokio::sync::watch;

use super::{super::*, append, world};
use crate::wire::{bmp::RibView, bmp::samples};

/// Bytes of the journal, which count whole.
const JOURNAL: usize = 64 * 1024;

fn feed() -> Feed {
    Feed::new(JOURNAL, 16 * 1024)
}

/// An UPDATE of a peer with one route and an attribute set of its own.
fn distinct(peer: u8, number: u32) -> Vec<u8> {
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4, 192, 0, 2, 1, 0xc0, 200, 100];
    attributes.extend(number.to_be_bytes());
    attributes.extend([7; 96]);
    let mut body = vec![0, 0];
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.push(32);
    body.extend(number.to_be_bytes());
    samples::frame(0, &[world::header(peer, RibView::AdjRibInPre, 1), samples::bgp(2, &body)].concat())
}

fn announce(input: &mut Input, peer: u8, numbers: std::ops::Range<u32>) {
    append(input, &numbers.map(|number| distinct(peer, number)).collect::<Vec<_>>());
}

/// A connection with one peer, which has the routes and attribute sets of these numbers.
fn connect(feed: &Feed, peer: u8, numbers: std::ops::Range<u32>) -> Input {
    let mut input = feed.input(InputId::relay("relay"));
    append(&mut input, &[world::up(peer, 1)]);
    announce(&mut input, peer, numbers);
    input
}

/// The first number of the routes that come while a test looks on.
const NEW: u32 = 1 << 24;

fn order(orders: &watch::Receiver<Option<MemoryExcess>>) -> Option<MemoryExcess> {
    *orders.borrow()
}

/// Announces routes until a connection has to close.
fn grow_until_ordered(feed: &Feed, input: &mut Input, peer: u8, from: u32) -> MemoryExcess {
    for next in (from..from + 1_000_000).step_by(100) {
        announce(input, peer, next..next + 100);
        feed.0.lock().check_memory();
        if let Some(excess) = order(&input.orders_to_close()) {
            return excess;
        }
    }
    panic!("nobody was told to close");
}

#[test]
fn the_peer_that_grew_closes_and_a_larger_one_that_stays_as_it_is_does_not() {
    let feed = feed();
    let limit = 8 << 20;
    feed.set_memory_limit(Some(limit));
    let standing = feed.memory_standing();
    let large = connect(&feed, 0, 0..15_000);
    assert!(feed.memory() < limit * 3 / 4 && feed.memory() > limit / 4, "{}", feed.memory());
    let mut other = connect(&feed, 5, 100_000..100_010);
    let mut grows = connect(&feed, 2, 200_000..200_010);
    let excess = grow_until_ordered(&feed, &mut grows, 2, NEW);
    assert!(excess.used > limit && excess.used < limit + limit / 16 && excess.limit == limit, "{excess:?}");
    assert_eq!((order(&large.orders_to_close()), order(&other.orders_to_close())), (None, None));
    assert_eq!(standing.borrow().stage, MemoryStage::Beyond);
    // Until it has closed, nobody else is told.
    announce(&mut other, 5, 100_000..103_000);
    assert_eq!(order(&other.orders_to_close()), None);
    drop(grows);
    let now = *standing.borrow();
    assert_eq!((now.stage, now.closed), (MemoryStage::Within, 1));
    feed.0.lock().check_memory();
    // The places of its attribute sets are given back.
    let stats = feed.stats();
    assert!(stats.attribute_bytes < 4 << 20, "{stats:?}");
}

#[test]
fn a_peer_whose_session_was_closed_goes_on_with_its_connection_open() {
    let feed = feed();
    feed.set_memory_limit(Some(2 << 20));
    let mut input = connect(&feed, 2, 0..10);
    for round in 0..3 {
        grow_until_ordered(&feed, &mut input, 2, NEW);
        append(&mut input, &[world::down(2, 1)]);
        input.has_closed();
        let standing = *feed.memory_standing().borrow();
        assert_eq!((standing.stage, standing.closed), (MemoryStage::Within, round + 1));
        assert_eq!(order(&input.orders_to_close()), None);
        append(&mut input, &[world::up(2, 1)]);
    }
}

#[test]
fn peers_that_are_held_can_be_told_to_go_and_their_return_is_no_growth() {
    let feed = feed();
    feed.set_memory_limit(Some(8 << 20));
    let held = connect(&feed, 0, 0..15_000).hold();
    let mut other = connect(&feed, 2, 100_000..111_000);
    assert_eq!(feed.memory_standing().borrow().stage, MemoryStage::Near);
    // It comes back, and repeats what it had.
    let mut back = feed.input(InputId::relay("relay"));
    append(&mut back, &[world::up(0, 1)]);
    announce(&mut back, 0, 0..15_000);
    let excess = grow_until_ordered(&feed, &mut other, 2, NEW);
    assert_eq!((order(&back.orders_to_close()), order(&held.orders_to_close())), (None, None));
    drop(other);

    // A connection that grows and goes away is found among those that are held.
    let mut grows = connect(&feed, 2, 200_000..211_000);
    while feed.memory() < excess.limit - (64 << 10) {
        let next = 2 * NEW + feed.stats().routes as u32;
        announce(&mut grows, 2, next..next + 100);
    }
    let grown = grows.hold();
    let mut small = connect(&feed, 5, 300_000..300_010);
    for next in (300_000..302_000).step_by(100) {
        announce(&mut small, 5, next..next + 100);
    }
    assert!(order(&grown.orders_to_close()).is_some());
    assert_eq!((order(&small.orders_to_close()), order(&back.orders_to_close())), (None, None));
    drop(grown);
    assert_eq!(feed.memory_standing().borrow().stage, MemoryStage::Within);
}

#[test]
fn a_lower_limit_closes_whoever_has_most_and_without_anybody_it_is_stuck() {
    let feed = feed();
    let (small, large) = (connect(&feed, 2, 0..100), connect(&feed, 0, 10_000..15_000));
    feed.set_memory_limit(Some(1 << 20));
    assert!(order(&large.orders_to_close()).is_some() && order(&small.orders_to_close()).is_none());
    drop(large);
    assert_eq!(feed.memory_standing().borrow().stage, MemoryStage::Within);
    drop(small);
    feed.set_memory_limit(Some(JOURNAL / 2));
    let standing = *feed.memory_standing().borrow();
    assert!(standing.stage == MemoryStage::Stuck && standing.is_beyond(), "{standing:?}");
    feed.set_memory_limit(None);
    assert_eq!(*feed.memory_standing().borrow(), MemoryStanding { closed: 1, ..MemoryStanding::default() });
}

#[test]
fn attribute_sets_are_charged_to_whoever_brought_them_and_once() {
    let feed = feed();
    let (first, second) = (connect(&feed, 0, 0..1_000), connect(&feed, 2, 0..1_000));
    let charged = || feed.0.lock().peers.charged().map(|(_, _, bytes)| bytes).collect::<Vec<_>>();
    let [one, other] = charged()[..] else { panic!("two peers") };
    assert!(one > other + 100_000, "{one} and {other}");
    drop(first);
    feed.0.lock().check_memory();
    // New groups of the second one pay for sets that nobody pays for.
    let mut second = second;
    append(&mut second, &[world::down(2, 1), world::up(2, 1)]);
    announce(&mut second, 2, 0..1_000);
    assert_eq!(charged().len(), 1);
    assert!(charged()[0] > other + 100_000);
    feed.0.lock().check_memory();
}
