//! Every real stream of version 3 through a relay and the feed, read by decoders of other projects.
//!
//! A live station must receive the stream without Initiation and Termination. A late station must
//! receive only messages that the decoders can read, and must know the same in the end.

mod netgauze;
mod tshark;

use std::collections::{BTreeSet, VecDeque};

use bmp_fuzz::{corpus, lab::send, station::Replica};
use bmp_user::{
    feed::{Feed, Follower, InputId, Selection},
    input::relay::BmpReceiver,
    wire::bmp::{MessageType, frames},
};

/// A complaint of a decoder about a real stream that is as its router sent it.
struct KnownComplaint {
    decoder: &'static str,
    capture: &'static str,
    /// Part of the complaint, with the message type.
    says: &'static str,
    /// Number of messages with this complaint.
    times: usize,
    /// True if the decoder complains about a late station's messages too.
    late: bool,
    #[expect(dead_code, reason = "for readers of the list")]
    why: &'static str,
}

const KNOWN: &[KnownComplaint] = &[
    KnownComplaint {
        decoder: "netgauze",
        capture: "frr-peer-down.bmp",
        says: "Peer Up: InvalidBgpId",
        times: 1,
        late: true,
        why: "the router makes up the OPENs of a Loc-RIB peer, here with BGP identifier 0.0.0.0",
    },
    KnownComplaint {
        decoder: "netgauze",
        capture: "frr-peer-down.bmp",
        says: "Route Monitoring: InvalidAsPathLength",
        times: 2,
        late: true,
        why: "an AS_PATH of 2-octet numbers without the A flag: the router has the routes, and stations get them as received",
    },
    KnownComplaint {
        decoder: "tshark",
        capture: "frr-peer-down.bmp",
        says: "type 1: [Malformed Packet: BMP];_ws.malformed Unknown stats type payload",
        times: 48,
        late: true,
        why: "every Statistics Report ends with one of experimental type 65531, after which the decoder loses its place",
    },
    KnownComplaint {
        decoder: "tshark",
        capture: "frr-peer-down.bmp",
        says: "type 3: [Malformed Packet: BGP]",
        times: 1,
        late: true,
        why: "the router makes up the OPENs of a Loc-RIB peer; the decoder loses its place after an FQDN capability without a domain",
    },
];

/// A stream before and after relay and feed.
struct RelayedStream {
    name: String,
    /// The stream without messages about the router's own session.
    sent: Vec<u8>,
    /// The messages to a station that is connected from the beginning.
    live: Vec<u8>,
    /// The messages to a station that connects at the end.
    late: Vec<u8>,
}

fn through() -> Vec<RelayedStream> {
    let own = [MessageType::Initiation, MessageType::Termination].map(Some);
    let streams = corpus::captures_v3().into_iter().map(|(name, stream)| {
        let whole = frames(&stream).map(|frame| frame.expect("a capture is BMP"));
        let kept = whole.filter(|frame| !own.contains(&frame.message_type()));
        let sent = kept.flat_map(|frame| frame.bytes().to_vec()).collect();
        let feed = Feed::default();
        let mut input = feed.input(InputId::relay("router"));
        let mut early = feed.attach(Selection::default());
        assert!(taken_bytes(&mut early).is_empty(), "a new feed has frames");
        let mut live = Vec::new();
        let mut receiver = BmpReceiver::default();
        for read in stream.chunks(1400) {
            let received = send(read, &mut receiver, &mut input);
            assert!(matches!(received, Ok(None)), "{name}: {received:?}");
            live.extend(taken_bytes(&mut early));
        }
        let late = taken_bytes(&mut feed.attach(Selection::default()));
        RelayedStream { name, sent, live, late }
    });
    streams.collect()
}

fn taken_bytes(follower: &mut Follower) -> Vec<u8> {
    let mut pieces = VecDeque::new();
    loop {
        let before = pieces.len();
        follower.take(usize::MAX, &mut pieces);
        if pieces.len() == before {
            return pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
        }
    }
}

/// Checks a decoder's complaints. About the live stream it must have exactly the known ones, about
/// a late station's messages no others. `complaints` returns those about a stream.
fn judge(decoder: &str, through: &RelayedStream, complaints: impl Fn(&[u8]) -> Vec<String>) {
    let name = &through.name;
    let known = || KNOWN.iter().filter(|known| (known.decoder, known.capture) == (decoder, name.as_str()));
    let (live, late) = (complaints(&through.live), complaints(&through.late));
    for known in known() {
        let count = |all: &[String]| all.iter().filter(|complaint| complaint.contains(known.says)).count();
        assert_eq!(count(&live), known.times, "{name}: {decoder} says {} of the stream: {live:#?}", known.says);
        assert!(count(&late) == 0 || known.late, "{name}: {decoder} says {} of a late stream", known.says);
    }
    let is_new = |complaint: &&String| !known().any(|known| complaint.contains(known.says));
    let new: BTreeSet<_> = live.iter().chain(&late).filter(is_new).collect();
    assert!(new.is_empty(), "{name}: {decoder} cannot read: {new:#?}");
}

#[test]
fn a_live_station_receives_the_stream_without_initiation_and_termination() {
    for RelayedStream { name, sent, live, .. } in through() {
        assert!(live == sent, "{name}");
    }
}

#[test]
fn a_late_station_knows_what_an_early_one_knows_in_every_family() {
    for RelayedStream { name, live, late, .. } in through() {
        let (early, late) = (Replica::of(&live), Replica::of(&late));
        assert!(early.knows() == late.knows_as(&early.readings()), "{name}");
        assert!(early.routes() > 10, "{name}: {} routes", early.routes());
    }
}
