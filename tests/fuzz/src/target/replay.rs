//! Whole MRT files, packed or not, as a replay reads them.

use std::io::{BufReader, Read};

use bmp_user::{
    feed::Feed,
    input::mrt::translate,
    wire::bmp::{Message, frames},
};
use bytes::Bytes;

use crate::memory::within;

/// A file that unpacks to more than this is left to the tests: it would only take time here.
const LARGEST: u64 = 1 << 20;

/// A file comes to whole BMP frames about peers, which the feed takes. What is passed over, and where it cannot be read further, has a reason.
pub fn replay(file: &[u8]) {
    let Some(unpacked) = unpacked(file) else { return };
    // Unpacking has tables of its own: bzip2 up to 900 kB of them, several times over.
    let translation = match within(16 << 20, 64, file.len() + unpacked, || translate(file)) {
        Ok(translation) => translation,
        Err(failure) => return assert!(!failure.to_string().is_empty()),
    };
    assert!(translation.passed_over.iter().chain(&translation.failure).all(|reason| !reason.is_empty()));
    let stream = Bytes::from(translation.frames);
    let mut whole = frames(&stream);
    let mut up = std::collections::BTreeSet::new();
    for frame in whole.by_ref() {
        let frame = frame.expect("what is built is a frame");
        match Message::parse(&frame).expect("what is built is a message") {
            Message::PeerUp(said) => assert!(up.insert(said.peer.key), "a peer that is up comes up"),
            Message::PeerDown(said) => assert!(up.remove(&said.peer.key), "a peer that is not up goes down"),
            Message::RouteMonitoring(peer, _) => assert!(up.contains(&peer.key), "routes of a peer that is not up"),
            other => panic!("nobody asked for {other:?}"),
        }
    }
    assert_eq!(whole.consumed(), stream.len());
    let feed = Feed::new(1 << 20, 1 << 16);
    let mut input = feed.input("replay");
    input.trust_opens();
    let block = stream.len();
    input.append(stream, block).expect("the feed takes what a replay gives");
    assert_eq!(feed.stats().peers, up.len());
    assert_eq!(feed.stats().trouble.unannounced, 0);
}

/// How many bytes a file unpacks to; `None` if there are too many.
fn unpacked(file: &[u8]) -> Option<usize> {
    let reader = BufReader::new(file);
    let unpacked: Box<dyn Read> = if file.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(reader))
    } else if file.starts_with(b"BZh") {
        Box::new(bzip2::bufread::MultiBzDecoder::new(reader))
    } else {
        Box::new(reader)
    };
    let mut unpacked = unpacked.take(LARGEST + 1);
    let mut room = [0; 4096];
    let mut all = 0;
    while let Ok(read @ 1..) = unpacked.read(&mut room) {
        all += read;
    }
    (all as u64 <= LARGEST).then_some(all)
}
