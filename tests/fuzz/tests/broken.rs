//! Damaged streams of real routers, cut, changed and spliced, through a relay's receiver and the
//! feed, beside a healthy daemon.
//!
//! No damage may cause a panic, or more memory than the received bytes justify. A broken connection
//! must be closed with a reason, and routes of other daemons must stay.

use std::collections::BTreeMap;

use bmp_fuzz::{
    corpus,
    lab::{self, FollowingStation},
    memory::within,
    station::{KnownPeer, Replica},
};
use bmp_user::{
    feed::{Feed, Input, InputId},
    input::relay::BmpReceiver,
    wire::bmp::{COMMON_HEADER, Error, MessageType, PER_PEER_HEADER, PeerIdentity, frames},
};
use fastrand::Rng;

/// Returns the number of damaged versions of each stream.
fn times() -> usize {
    let soak = std::env::var("BMPD_SOAK").is_ok_and(|soak| !soak.is_empty() && soak != "0");
    if soak { 20_000 } else { 200 }
}

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
enum InputEnd {
    /// Between two messages, with an open connection.
    Whole,
    /// With a Termination.
    Goodbye,
    /// Inside a message, of which this many bytes have arrived.
    Cut(usize),
    /// With a closed connection.
    Closed(Error),
}

fn send(stream: &[u8], input: &mut Input) -> InputEnd {
    let mut receiver = BmpReceiver::default();
    match lab::send(stream, &mut receiver, input) {
        Ok(Some(_)) => InputEnd::Goodbye,
        Err(error) => InputEnd::Closed(error),
        Ok(None) if receiver.left() == 0 => InputEnd::Whole,
        Ok(None) => InputEnd::Cut(receiver.left()),
    }
}

/// A feed with a healthy daemon.
struct HealthyFeed {
    feed: Feed,
    /// Held so that its connection stays open.
    _healthy: Input,
    told_of_healthy: FollowingStation,
    known_of_healthy: BTreeMap<PeerIdentity, KnownPeer>,
}

impl HealthyFeed {
    fn with(healthy: &[u8]) -> Self {
        let feed = Feed::new(1 << 20, 1 << 16);
        let mut input = feed.input(InputId::relay("healthy"));
        let mut told_of_healthy = FollowingStation::of(&feed, Some(InputId::relay("healthy")));
        assert_eq!(send(healthy, &mut input), InputEnd::Whole);
        let known_of_healthy = told_of_healthy.take_all().knows();
        assert!(!known_of_healthy.is_empty());
        Self { feed, _healthy: input, told_of_healthy, known_of_healthy }
    }

    /// Sends a stream as another daemon, and checks the feed. An early and a late station know the
    /// same of it. Its peers go with its connection. The healthy daemon's peers stay.
    fn take(&mut self, broken: &[u8]) -> InputEnd {
        let mut input = self.feed.input(InputId::relay("broken"));
        let mut live = FollowingStation::of(&self.feed, Some(InputId::relay("broken")));
        // Room for a journal of 1 MiB, the read bytes and the kept state. Memory beyond this would
        // come from a length field.
        let end = within(4 << 20, 64, broken.len(), || send(broken, &mut input));
        assert!(
            is_equal(live.take_all(), FollowingStation::of(&self.feed, Some(InputId::relay("broken"))).take_all()),
            "live and late differ ({end:?})"
        );
        if let InputEnd::Closed(error) = &end {
            assert!(error.offset < broken.len() as u64 && error.to_string().starts_with("at byte "), "{error}");
        }
        drop(input);
        assert!(live.take_all().knows().is_empty(), "peers of the broken daemon are left");
        assert!(
            self.told_of_healthy.take_all().knows() == self.known_of_healthy,
            "the healthy daemon's peers have changed ({end:?})"
        );
        end
    }
}

/// True if an early and a late station know the same.
fn is_equal(early: &Replica, late: &Replica) -> bool {
    early.knows() == late.knows_as(&early.readings())
}

/// Runs `test` with each capture, beside another capture of a healthy daemon.
fn each(mut test: impl FnMut(&str, &[u8], &mut HealthyFeed)) {
    let all = corpus::captures_v3();
    for (number, (name, stream)) in all.iter().enumerate() {
        let (_, healthy) = &all[(number + 1) % all.len()];
        test(name, stream, &mut HealthyFeed::with(healthy));
    }
}

/// Returns the start of each frame.
fn starts(stream: &[u8]) -> Vec<usize> {
    let lengths = frames(stream).map(|frame| frame.expect("a capture is BMP").bytes().len());
    let start = |at: &mut usize, length| Some(std::mem::replace(at, *at + length));
    lengths.scan(0, start).collect()
}

#[test]
fn a_cut_stream_is_read_up_to_the_cut() {
    let mut random = Rng::with_seed(1);
    each(|name, stream, world| {
        let starts = starts(stream);
        for start in starts.iter().step_by(7) {
            let cut = start + random.usize(1..COMMON_HEADER);
            assert_eq!(world.take(&stream[..*start]), InputEnd::Whole, "{name}: before byte {start}");
            assert_eq!(world.take(&stream[..cut]), InputEnd::Cut(cut - start), "{name}: before byte {cut}");
        }
        for _ in 0..times() {
            let cut = random.usize(..stream.len());
            let start = starts.iter().rfind(|start| **start <= cut).expect("the first frame starts at 0");
            let expected = if cut == *start { InputEnd::Whole } else { InputEnd::Cut(cut - start) };
            assert_eq!(world.take(&stream[..cut]), expected, "{name}: before byte {cut}");
        }
    });
}

#[test]
fn flipped_bits_close_the_connection_with_a_reason_or_do_no_harm() {
    let mut random = Rng::with_seed(2);
    each(|name, stream, world| {
        let mut closed = 0;
        for _ in 0..times() {
            let mut broken = stream.to_vec();
            for _ in 0..random.usize(1..40) {
                broken[random.usize(..stream.len())] ^= 1 << random.u8(..8);
            }
            closed += usize::from(matches!(world.take(&broken), InputEnd::Closed(_)));
        }
        assert!(closed > times() / 20, "{name}: closed {closed} of {} times", times());
    });
}

#[test]
fn flipped_bits_within_an_update_close_nothing() {
    let mut random = Rng::with_seed(3);
    each(|name, stream, world| {
        let updates: Vec<_> = frames(stream)
            .map(|frame| frame.expect("a capture is BMP"))
            .zip(starts(stream))
            .filter(|(frame, _)| frame.message_type() == Some(MessageType::RouteMonitoring))
            .map(|(frame, start)| start + COMMON_HEADER + PER_PEER_HEADER..start + frame.bytes().len())
            .collect();
        for _ in 0..times() {
            let mut broken = stream.to_vec();
            for _ in 0..random.usize(1..40) {
                let update = updates[random.usize(..updates.len())].clone();
                broken[random.usize(update)] ^= 1 << random.u8(..8);
            }
            assert_eq!(world.take(&broken), InputEnd::Whole, "{name}");
        }
    });
}

#[test]
fn a_spliced_stream_is_closed_or_read_as_it_is() {
    let mut random = Rng::with_seed(4);
    let all = corpus::captures();
    each(|_, stream, world| {
        for _ in 0..times() {
            let (_, other) = &all[random.usize(..all.len())];
            let (first, second) = (random.usize(..stream.len()), random.usize(..other.len()));
            world.take(&[&stream[..first], &other[second..]].concat());
        }
    });
}

#[test]
fn an_impossible_header_closes_the_connection_at_its_place() {
    each(|name, stream, world| {
        for start in starts(stream).into_iter().step_by(7) {
            let with = |at: usize, byte: u8| {
                let mut broken = stream.to_vec();
                broken[start + at] = byte;
                broken
            };
            for (at, byte, message) in [
                (0, 4, "expected BMP version 3 (RFC 7854), found 4"),
                (1, 0x7f, "expected a message length of "),
                (4, 0, "expected "),
            ] {
                let InputEnd::Closed(error) = world.take(&with(at, byte)) else {
                    // Too short a length by 256 bytes or more leaves a rest that is no header. A
                    // length below 256 has this byte already.
                    assert_eq!((at, stream[start + 4]), (4, 0), "{name}: byte {at} of the message at {start}");
                    continue;
                };
                assert!(error.offset >= start as u64, "{name}: {error}");
                assert!(at == 4 || error.to_string().contains(message), "{name}: {error}");
            }
        }
    });
}

#[test]
fn streams_of_version_4_are_refused_at_their_first_byte() {
    let version_4 = |stream: &[u8]| stream.first() == Some(&4);
    each(|_, _, world| {
        for (name, stream) in corpus::captures().into_iter().filter(|(_, stream)| version_4(stream)) {
            let InputEnd::Closed(error) = world.take(&stream) else { panic!("{name}") };
            let message = "at byte 0: expected BMP version 3 (RFC 7854), found 4";
            assert!(error.to_string().starts_with(message), "{name}: {error}");
        }
    });
}
