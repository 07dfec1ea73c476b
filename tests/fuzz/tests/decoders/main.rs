//! Every real stream of version 3 through a relay and the feed, as decoders read it that are not ours: what a station is told live is what came, less
//! Initiation and Termination; what one is told that comes late has nothing in it that they cannot read, and leaves it with the same.

mod netgauze;
mod tshark;

use std::collections::{BTreeSet, VecDeque};

use bmp_fuzz::{corpus, lab::send, station::Station};
use bmp_user::{
    feed::{Feed, Follower, Selection},
    input::relay::Receiver,
    wire::bmp::{MessageType, frames},
};

/// What of a real stream a decoder cannot read although it is as its router sent it.
struct Known {
    decoder: &'static str,
    capture: &'static str,
    /// What it says of which message, in part.
    says: &'static str,
    /// How many messages it says that of.
    times: usize,
    /// Whether it also says it of what a late station is told.
    late: bool,
    #[expect(dead_code, reason = "for whoever reads the list")]
    why: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        decoder: "netgauze",
        capture: "frr-peer-down.bmp",
        says: "Peer Up: InvalidBgpId",
        times: 1,
        late: true,
        why: "the OPENs of a Loc-RIB peer are made up by the router, and here have BGP identifier 0.0.0.0",
    },
    Known {
        decoder: "netgauze",
        capture: "frr-peer-down.bmp",
        says: "Route Monitoring: InvalidAsPathLength",
        times: 2,
        late: true,
        why: "an AS_PATH of 2-octet numbers without the A flag: the router has the routes, and stations get them as they came",
    },
    Known {
        decoder: "tshark",
        capture: "frr-peer-down.bmp",
        says: "type 1: [Malformed Packet: BMP];_ws.malformed Unknown stats type payload",
        times: 48,
        late: true,
        why: "every Statistics Report ends with one of experimental type 65531, behind which it loses its place",
    },
    Known {
        decoder: "tshark",
        capture: "frr-peer-down.bmp",
        says: "type 3: [Malformed Packet: BGP]",
        times: 1,
        late: true,
        why: "the OPENs of a Loc-RIB peer are made up by the router; it loses its place behind an FQDN capability without a domain",
    },
];

/// A stream through a relay and the feed.
struct Through {
    name: String,
    /// Less what is about the router's own session.
    sent: Vec<u8>,
    /// What a station is told that is there from the beginning.
    live: Vec<u8>,
    /// What one is told that comes at the end.
    late: Vec<u8>,
}

fn through() -> Vec<Through> {
    let own = [MessageType::Initiation, MessageType::Termination].map(Some);
    let streams = corpus::captures_v3().into_iter().map(|(name, stream)| {
        let whole = frames(&stream).map(|frame| frame.expect("a capture is BMP"));
        let kept = whole.filter(|frame| !own.contains(&frame.message_type()));
        let sent = kept.flat_map(|frame| frame.bytes().to_vec()).collect();
        let feed = Feed::default();
        let mut input = feed.input("router");
        let mut early = feed.attach(Selection::default());
        assert!(told(&mut early).is_empty(), "there is nothing yet");
        let mut live = Vec::new();
        let mut receiver = Receiver::default();
        for read in stream.chunks(1400) {
            let received = send(read, &mut receiver, &mut input);
            assert!(matches!(received, Ok(None)), "{name}: {received:?}");
            live.extend(told(&mut early));
        }
        let late = told(&mut feed.attach(Selection::default()));
        Through { name, sent, live, late }
    });
    streams.collect()
}

fn told(follower: &mut Follower) -> Vec<u8> {
    let mut pieces = VecDeque::new();
    loop {
        let before = pieces.len();
        follower.take(usize::MAX, &mut pieces);
        if pieces.len() == before {
            return pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
        }
    }
}

/// Of a stream that came, a decoder complains of what is known that it does; of what a late station is told, of nothing else. `complaints` is what it
/// says of each message that it cannot read.
fn judge(decoder: &str, through: &Through, complaints: impl Fn(&[u8]) -> Vec<String>) {
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
fn what_a_station_is_told_live_is_what_came_less_initiation_and_termination() {
    for Through { name, sent, live, .. } in through() {
        assert!(live == sent, "{name}");
    }
}

#[test]
fn a_late_station_knows_what_an_early_one_does_in_every_family() {
    for Through { name, live, late, .. } in through() {
        let (early, late) = (Station::of(&live), Station::of(&late));
        assert!(early.knows() == late.knows_as(&early.readings()), "{name}");
        assert!(early.routes() > 10, "{name}: {} routes", early.routes());
    }
}
