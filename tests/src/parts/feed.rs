//! The feed: applying input, dumping to a new follower, and passing on to an old one.

use std::collections::VecDeque;

use bmp_user::{
    feed::{Feed, Follower, Input, InputId, Piece, Selection},
    wire::{
        bgp::{self, MAX_MESSAGE},
        bmp::BmpChunk,
    },
};
use bytes::Bytes;

use super::MeasuredPart;
use crate::{
    bmp::{PRE_POLICY, ReportedPeer, peer_up, route_monitoring},
    table::{TableShape, UpdateTable},
};

/// Bytes in one read of an input.
const READ: usize = 64 * 1024;
/// Bytes that a session takes at once.
const TAKE: usize = 256 * 1024;

/// Returns a table as BMP frames after a Peer Up, in pieces of one read. The first piece is the
/// Peer Up alone.
pub(super) fn reads(table: &UpdateTable) -> Vec<Bytes> {
    in_reads(table.messages().map(|message| route_monitoring(&ReportedPeer::default(), PRE_POLICY, message)))
}

fn in_reads(frames: impl Iterator<Item = Vec<u8>>) -> Vec<Bytes> {
    let mut reads = vec![peer_up(&ReportedPeer::default()), Vec::new()];
    for frame in frames {
        match reads.last_mut() {
            Some(read) if read.len() + frame.len() <= READ => read.extend(frame),
            _ => reads.push(frame),
        }
    }
    reads.into_iter().map(Bytes::from).collect()
}

/// A feed with one input, and two variants of one table with different attributes.
struct LoadedFeed {
    feed: Feed,
    input: Input,
    variants: [Vec<Bytes>; 2],
    /// Index of the variant in the feed.
    there: usize,
}

impl LoadedFeed {
    fn new(routes: usize) -> Self {
        let variant = |variant| reads(&UpdateTable::new(&TableShape { routes, variant, ..TableShape::default() }));
        let (feed, input) = fresh();
        let mut loaded = Self { feed, input, variants: [variant(0), variant(1)], there: 0 };
        append(&mut loaded.input, &loaded.variants[0]);
        loaded
    }

    fn attach(&self) -> Follower {
        self.feed.attach(Selection::default())
    }

    /// Applies the other variant, and calls `then` after each read.
    fn turn(&mut self, mut then: impl FnMut()) {
        self.there = 1 - self.there;
        for read in &self.variants[self.there][1..] {
            append(&mut self.input, std::slice::from_ref(read));
            then();
        }
    }
}

fn fresh() -> (Feed, Input) {
    let feed = Feed::default();
    let input = feed.input(InputId::relay("parts"));
    (feed, input)
}

fn append(input: &mut Input, reads: &[Bytes]) {
    for read in reads {
        input.append(BmpChunk::parse(read.clone(), read.len()).expect("the frames are whole"));
    }
}

/// Takes everything that the follower has now, at least one piece.
fn take(follower: &mut Follower, pieces: &mut VecDeque<Piece>) {
    let mut has_taken = false;
    loop {
        follower.take(TAKE, pieces);
        if pieces.is_empty() {
            assert!(has_taken, "the follower had nothing");
            return;
        }
        has_taken = true;
        pieces.clear();
    }
}

/// Applies a Peer Up and a whole table to an empty feed.
pub(super) fn apply_new(routes: usize) -> Box<dyn MeasuredPart> {
    struct ApplyNew {
        reads: Vec<Bytes>,
        feed: Feed,
        input: Input,
    }

    impl MeasuredPart for ApplyNew {
        fn before(&mut self) {
            (self.feed, self.input) = fresh();
        }

        fn run(&mut self) {
            append(&mut self.input, &self.reads);
        }
    }

    let (feed, input) = fresh();
    Box::new(ApplyNew { reads: reads(&UpdateTable::new(&TableShape { routes, ..TableShape::default() })), feed, input })
}

/// Applies new attributes for every route of a table.
pub(super) fn apply_changed(routes: usize) -> Box<dyn MeasuredPart> {
    let mut loaded = LoadedFeed::new(routes);
    Box::new(move || loaded.turn(|| {}))
}

/// Applies new attributes for every route, while a follower takes its pieces after every read.
pub(super) fn apply_and_follow(routes: usize) -> Box<dyn MeasuredPart> {
    let mut loaded = LoadedFeed::new(routes);
    let mut follower = loaded.attach();
    let mut pieces = VecDeque::new();
    take(&mut follower, &mut pieces);
    Box::new(move || loaded.turn(|| take(&mut follower, &mut pieces)))
}

/// Dumps a whole table to a new station.
pub(super) fn dump(routes: usize) -> Box<dyn MeasuredPart> {
    let loaded = LoadedFeed::new(routes);
    let mut pieces = VecDeque::new();
    Box::new(move || take(&mut loaded.attach(), &mut pieces))
}

/// Withdraws a whole table, route by route.
pub(super) fn withdraw(routes: usize) -> Box<dyn MeasuredPart> {
    struct Withdraw {
        loaded: LoadedFeed,
        withdrawals: Vec<Bytes>,
    }

    impl MeasuredPart for Withdraw {
        fn before(&mut self) {
            self.loaded.turn(|| {});
        }

        fn run(&mut self) {
            append(&mut self.loaded.input, &self.withdrawals);
        }
    }

    let table = UpdateTable::new(&TableShape { routes, ..TableShape::default() });
    let messages = table.withdrawals();
    let frames = bgp::frames(&messages, MAX_MESSAGE)
        .map(|frame| route_monitoring(&ReportedPeer::default(), PRE_POLICY, frame.expect("the stream is BGP").bytes()));
    let withdrawals = in_reads(frames).split_off(1);
    Box::new(Withdraw { loaded: LoadedFeed::new(routes), withdrawals })
}
