//! Streams through a [`BmpReceiver`], without sockets.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use crate::{
    feed::{Feed, InputId, Selection},
    input::relay::{
        receiver::{BmpReceiver, ReceiveOutcome},
        status::SystemInfo,
    },
    wire::bmp::{BmpChunk, Error, MAX_FRAME, MessageType, PeerHeader, PeerType, Problem, build, frames, samples::*},
};

/// What became of a stream.
#[derive(Debug, PartialEq, Eq)]
struct StreamOutcome {
    fed: Vec<u8>,
    system: Option<SystemInfo>,
    end: Result<ReceiveOutcome, Error>,
    /// The offset and the length of the rest that is not whole.
    left: (u64, usize),
}

/// Gives `stream` to a receiver in reads of these sizes, repeatedly.
fn receive(stream: &[u8], reads: &[usize]) -> StreamOutcome {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    let mut follower = feed.attach(Selection::default());
    // It has taken everything, which is nothing, and follows the journal from the first frame on.
    follower.take(usize::MAX, &mut VecDeque::new());
    let mut receiver = BmpReceiver::default();
    let mut reads = reads.iter().copied().cycle();
    let mut rest = stream;
    let mut system = None;
    let mut end = Ok(ReceiveOutcome::AllFed);
    while !rest.is_empty() && end == Ok(ReceiveOutcome::AllFed) {
        let room = receiver.room();
        let spare = room.capacity() - room.len();
        assert!(spare > 0, "there is always room to read into");
        let (read, later) = rest.split_at(reads.next().unwrap().clamp(1, spare).min(rest.len()));
        room.extend_from_slice(read);
        rest = later;
        end = receiver.receive(&mut input);
        system = receiver.take_system().or(system);
    }
    let mut pieces = VecDeque::new();
    follower.take(usize::MAX, &mut pieces);
    let fed = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
    let left = if end == Ok(ReceiveOutcome::AllFed) { (receiver.offset(), receiver.left()) } else { (0, 0) };
    StreamOutcome { fed, system, end, left }
}

/// A stream without the messages about the daemon's own session.
fn about_peers(stream: &[u8]) -> Vec<u8> {
    let whole = frames(stream).map(Result::unwrap);
    let kept = whole.filter(|f| !matches!(f.message_type(), Some(MessageType::Initiation | MessageType::Termination)));
    kept.flat_map(|frame| frame.bytes().to_vec()).collect()
}

/// The frames that stations are told of such a stream. Another life of a peer has a Peer Down
/// before it.
fn told_of(stream: &[u8]) -> Vec<u8> {
    let (mut ups, mut out) = (BTreeMap::new(), Vec::new());
    for frame in frames(&about_peers(stream)).map(Result::unwrap) {
        let Some(header) = PeerHeader::of(&frame) else {
            out.extend(frame.bytes());
            continue;
        };
        match frame.message_type() {
            Some(MessageType::PeerUp) => {
                let up = frame.bytes().to_vec();
                let known = ups.insert(header.identity(), Some(up.clone()));
                if known.is_some_and(|known| known != Some(up)) {
                    let mut down = bytes::BytesMut::new();
                    build::peer_down(&mut down, &header, None);
                    out.extend(down);
                }
            }
            Some(MessageType::PeerDown) => drop(ups.remove(&header.identity())),
            Some(MessageType::RouteMonitoring) => drop(ups.entry(header.identity()).or_default()),
            _ => {}
        }
        out.extend(frame.bytes());
    }
    out
}

fn termination(text: Option<&str>) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    build::termination(&mut out, 0, text);
    out.to_vec()
}

#[test]
fn every_capture_is_fed_byte_for_byte_less_initiation_and_termination() {
    for (name, stream) in captures_v3() {
        let outcome = receive(&stream, &[usize::MAX]);
        assert_eq!(outcome.fed, about_peers(&stream), "{name}");
        assert_eq!((&outcome.end, outcome.left.1), (&Ok(ReceiveOutcome::AllFed), 0), "{name}");
        let system = outcome.system.unwrap();
        assert!(system.name.unwrap().starts_with("ipf-zbl1843-") || name.starts_with("frr"), "{name}");
        assert!(system.descr.is_some(), "{name}");
    }
}

#[test]
fn the_captures_have_the_known_numbers_of_peers_and_routes() {
    for (name, stream) in captures_v3() {
        let feed = Feed::default();
        let mut input = feed.input(InputId::relay("router"));
        let bytes = bytes::Bytes::from(about_peers(&stream));
        let block = bytes.len();
        input.append(BmpChunk::parse(bytes, block).unwrap());
        let in_force = feed.stats().peers;
        let expected = match name.as_str() {
            "cisco-rd-instances.bmp" => (42, 0),
            "frr-peer-down.bmp" => (5, 90),
            "huawei-ne40e-locrib-vpn.bmp" => (5, 0),
            other => panic!("{other} is not known"),
        };
        assert_eq!((in_force, input.totals().unannounced), expected, "{name}");
    }
}

#[test]
fn captures_of_version_4_feed_nothing() {
    for (name, stream) in captures().iter().filter(|(_, stream)| stream[0] == 4) {
        let outcome = receive(stream, &[usize::MAX]);
        assert_eq!(outcome.fed, b"", "{name}");
        assert_eq!(outcome.end, Err(Error { offset: 0, problem: Problem::Version(4) }), "{name}");
    }
}

#[test]
fn a_termination_ends_the_stream_whatever_follows() {
    let stream = [initiation(), peer_up(1, 1), termination(Some("bye\nnow")), b"garbage".to_vec()].concat();
    let outcome = receive(&stream, &[usize::MAX]);
    assert_eq!(outcome.fed, peer_up(1, 1));
    let Ok(ReceiveOutcome::Goodbye(goodbye)) = outcome.end else { panic!("{:?}", outcome.end) };
    assert_eq!(goodbye.to_string(), "administratively closed (bye\\nnow)");
}

#[test]
fn a_length_field_makes_no_room_before_the_bytes_are_there() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    let mut receiver = BmpReceiver::default();
    let largest = peer_up_of(&peer_header(1, PeerType::GLOBAL, 0), 1, &[(0, &[0; 60_000][..]); 4]);
    assert!(largest.len() > MAX_FRAME - 25_000);
    let mut fed = 0;
    for read in largest.chunks(1000) {
        let room = receiver.room();
        assert!(room.capacity() <= (64 * 1024).max(4 * (fed + 1)), "{} of room after {fed} bytes", room.capacity());
        room.extend_from_slice(read);
        fed += read.len();
        receiver.receive(&mut input).unwrap();
    }
    assert_eq!((input.totals().frames, receiver.left()), (1, 0));
    assert_eq!(receiver.room().capacity(), 64 * 1024, "and the room is given back");
}

/// Frames of all sizes, with messages for the relay itself between them.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let message = prop_oneof![
        (0u8..4, 0u16..3).prop_map(|(peer, port)| peer_up(peer, port)),
        (0u8..4).prop_map(peer_down),
        (0u8..4, 0usize..600).prop_map(|(peer, padding)| route(peer, padding)),
        (0u8..4, 0usize..60_000).prop_map(|(peer, padding)| route(peer, padding)),
        Just(initiation()),
        (7u8..=255, prop::collection::vec(any::<u8>(), 0..50)).prop_map(|(code, body)| frame(code, &body)),
    ];
    prop::collection::vec(message, 1..40).prop_map(|messages| messages.concat())
}

fn reads() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1usize..100, 1usize..5000, 1usize..100_000], 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_way_of_reading_a_stream_feeds_the_same(stream in stream(), reads in reads(), cut in any::<prop::sample::Index>()) {
        let stream = &stream[..cut.index(stream.len() + 1)];
        let outcome = receive(stream, &reads);
        prop_assert_eq!(&outcome.fed, &told_of(stream));
        prop_assert_eq!(&outcome, &receive(stream, &[usize::MAX]));
    }

    #[test]
    fn any_way_of_reading_a_damaged_stream_ends_at_the_same_byte(
        stream in stream(), reads in reads(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut stream = stream;
        for (at, value) in damage {
            let at = at.index(stream.len());
            stream[at] = value;
        }
        prop_assert_eq!(receive(&stream, &reads), receive(&stream, &[usize::MAX]));
    }

    #[test]
    fn any_way_of_reading_a_damaged_capture_ends_at_the_same_byte(
        which in any::<prop::sample::Index>(), reads in reads(), at in any::<prop::sample::Index>(), value: u8,
    ) {
        let captures = captures();
        if !captures.is_empty() {
            let mut stream = which.get(&captures).1.clone();
            let at = at.index(stream.len());
            stream[at] = value;
            prop_assert_eq!(receive(&stream, &reads), receive(&stream, &[usize::MAX]));
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_wait_for_more(bytes in prop::collection::vec(any::<u8>(), 1..300), reads in reads()) {
        prop_assert_eq!(receive(&bytes, &reads), receive(&bytes, &[usize::MAX]));
    }
}
