//! Whole MRT files, packed or not, as a replay reads them.

use std::io::{BufReader, Read};

use bmp_user::{
    feed::{Feed, InputId},
    input::mrt::translate,
    wire::bmp::{BmpChunk, Message, frames},
};
use bytes::Bytes;

use crate::memory::within;

/// Largest unpacked size. Larger files would only take time here; other tests have them.
const LARGEST: u64 = 1 << 20;

/// Translates a file to BMP frames about peers, which the feed must accept. Everything passed over,
/// and every failure, must have a reason.
pub fn replay(file: &[u8]) {
    let Some(unpacked) = unpacked(file) else { return };
    // Unpacking needs tables: bzip2 several of up to 900 kB.
    let translation = match within(16 << 20, 64, file.len() + unpacked, || translate(file)) {
        Ok(translation) => translation,
        Err(failure) => return assert!(!failure.to_string().is_empty()),
    };
    assert!(translation.passed_over.iter().chain(&translation.failure).all(|reason| !reason.is_empty()));
    let stream = Bytes::from(translation.frames);
    let mut whole = frames(&stream);
    let mut up = std::collections::BTreeSet::new();
    for frame in whole.by_ref() {
        let frame = frame.expect("the translation is BMP");
        match Message::parse(&frame).expect("the translation has valid messages") {
            Message::PeerUp(message) => assert!(up.insert(message.peer.key), "Peer Up of a peer that is up"),
            Message::PeerDown(message) => assert!(up.remove(&message.peer.key), "Peer Down of a peer that is not up"),
            Message::RouteMonitoring(peer, _) => assert!(up.contains(&peer.key), "routes of a peer that is not up"),
            other => panic!("the translation has {other:?}"),
        }
    }
    assert_eq!(whole.consumed(), stream.len());
    let feed = Feed::new(1 << 20, 1 << 16);
    let mut input = feed.input(InputId::replay("replay"));
    input.trust_opens();
    let block = stream.len();
    input.append(BmpChunk::parse(stream, block).expect("a replay gives whole frames"));
    assert_eq!(feed.stats().peers, up.len());
    assert_eq!(feed.stats().trouble.unannounced, 0);
}

/// Returns the unpacked size of a file, or `None` if it is too large.
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
