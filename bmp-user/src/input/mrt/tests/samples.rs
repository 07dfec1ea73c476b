//! Samples and helpers that the tests of replays share.

use std::{collections::VecDeque, path::Path, time::Duration};

use tokio::time::{sleep, timeout};

use crate::{
    config::ReplayPace,
    feed::{Feed, Follower, Selection},
    input::mrt::{self, ReplayJob, ReplayState, ReplayStatus, Replays, Translation, run},
    wire::{
        bgp,
        bmp::{Message, PeerHeader, PeerUp, frames, samples::bgp},
        mrt::samples::{record, session},
    },
};

/// Translates a file without tasks and threads: its BMP frames, and the errors of records that were
/// passed over.
pub(super) fn translate(file: &[u8]) -> (Vec<u8>, Vec<String>) {
    let Translation { frames, passed_over, .. } = mrt::translate(file).unwrap();
    (frames, passed_over)
}

/// Translates records of which none is passed over.
pub(super) fn translated(records: &[Vec<u8>]) -> Vec<u8> {
    let (stream, refused) = translate(&records.concat());
    assert_eq!(refused, Vec::<String>::new());
    stream
}

/// Parses the messages of a stream that ends with a whole message.
pub(super) fn messages(stream: &[u8]) -> Vec<Message<'_>> {
    let mut whole = frames(stream);
    let all = (&mut whole).map(|frame| Message::parse(&frame.unwrap()).unwrap()).collect();
    assert_eq!(whole.consumed(), stream.len());
    all
}

/// The UPDATEs of a stream's Route Monitoring messages.
pub(super) fn replayed_updates(stream: &[u8]) -> Vec<Vec<u8>> {
    let update = |message| match message {
        Message::RouteMonitoring(_, update) => Some(update.to_vec()),
        _ => None,
    };
    messages(stream).into_iter().filter_map(update).collect()
}

/// Describes each message in a few words.
pub(super) fn described(stream: &[u8]) -> Vec<String> {
    let of = |peer: &PeerHeader| format!("{} {}.{:06}", peer.address(), peer.seconds, peer.microseconds);
    messages(stream)
        .iter()
        .map(|message| match message {
            Message::PeerUp(up) => format!("up {}", of(&up.peer)),
            Message::PeerDown(down) => format!("down {} for {}", of(&down.peer), down.reason),
            Message::RouteMonitoring(peer, update) => {
                let update = bgp::Frame::parse(update).unwrap();
                let end = update.body() == [0; 4] || update.body().starts_with(&[0, 0, 0, 6, 0x80, 15, 3]);
                format!("{} {}", if end { "end-of-rib" } else { "route" }, of(peer))
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

/// Parses the Peer Up at the beginning of a stream.
pub(super) fn first_up(stream: &[u8]) -> PeerUp<'_> {
    let Some(Message::PeerUp(up)) = messages(stream).into_iter().next() else { panic!("a Peer Up") };
    up
}

/// Parses the OPENs of a Peer Up: sent and received.
pub(super) fn opens<'a>(up: &PeerUp<'a>) -> [bgp::Open<'a>; 2] {
    [up.sent_open, up.received_open].map(|open| {
        let frame = bgp::Frame::parse(open).unwrap();
        let Ok(bgp::Message::Open(open)) = bgp::Message::parse(&frame) else { panic!("an OPEN") };
        open
    })
}

/// A BGP4MP record of a message from 192.0.2.1, AS 65001, to 192.0.2.254, AS 65000.
pub(super) fn bgp4mp(seconds: u32, subtype: u16, message: &[u8]) -> Vec<u8> {
    let as4 = matches!(subtype, 4 | 7 | 9 | 11);
    let ends = session(as4, (65001, "192.0.2.1"), (65000, "192.0.2.254"));
    record(seconds, 16, subtype, &[&ends, message].concat())
}

/// A BGP4MP record of a state change of the same peer.
pub(super) fn state_change(seconds: u32, old: u16, new: u16) -> Vec<u8> {
    let states = [old.to_be_bytes(), new.to_be_bytes()].concat();
    let ends = session(false, (65001, "192.0.2.1"), (65000, "192.0.2.254"));
    record(seconds, 16, 0, &[&ends[..], &states].concat())
}

/// An UPDATE that announces 10.0.0.0/8.
pub(super) fn update() -> Vec<u8> {
    bgp(2, &[0, 0, 0, 11, 0x40, 1, 1, 0, 0x40, 3, 4, 192, 0, 2, 1, 8, 10])
}

/// An UPDATE that announces 10.1.0.0/16 with path identifier 7.
pub(super) fn update_with_path_id() -> Vec<u8> {
    bgp(2, &[0, 0, 0, 11, 0x40, 1, 1, 0, 0x40, 3, 4, 192, 0, 2, 1, 0, 0, 0, 7, 16, 10, 1])
}

/// An UPDATE that announces 2001:db8::/32.
pub(super) fn update_ipv6() -> Vec<u8> {
    let mut body = vec![0, 0, 0, 33, 0x40, 1, 1, 0, 0x80, 14, 26, 0, 2, 1, 16];
    body.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    body.extend([0, 32, 0x20, 0x01, 0x0d, 0xb8]);
    body[3] = u8::try_from(body.len() - 4).unwrap();
    bgp(2, &body)
}

/// Configures a replay of a file.
pub(super) fn replay(file: &Path, pace: ReplayPace, looped: bool) -> ReplayJob {
    ReplayJob { name: "file".to_owned(), file: file.to_owned(), pace, looped }
}

/// Takes all frames that the follower has not taken yet.
pub(super) fn take_all(follower: &mut Follower) -> Vec<u8> {
    let mut chunks = VecDeque::new();
    follower.take(usize::MAX, &mut chunks);
    chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect()
}

/// Replays a file at maximum pace to its end. Returns the bytes for a station, and the status.
pub(super) async fn replayed(file: &Path) -> (Vec<u8>, ReplayStatus) {
    let feed = Feed::new(1 << 30, 1 << 20);
    let mut follower = feed.attach(Selection::default());
    // The feed is still empty, so the follower reads every frame from the journal.
    follower.take(usize::MAX, &mut VecDeque::new());
    let replays = Replays::default();
    let task = tokio::spawn(run(replay(file, ReplayPace::Maximum, false), feed.clone(), replays.clone()));
    let end = async {
        loop {
            match replays.snapshot().pop() {
                Some(status) if matches!(status.state, ReplayState::Done | ReplayState::Failed(_)) => return status,
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let status = timeout(Duration::from_secs(300), end).await.expect("the replay ends");
    let stream = take_all(&mut follower);
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(feed.stats().peers, 0, "dropping a replay takes its peers down");
    assert_eq!(replays.snapshot(), [], "and removes its status");
    (stream, status)
}
