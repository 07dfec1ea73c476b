//! BMP: framing, messages, statistics.

use bmp_user::wire::bmp::{
    COMMON_HEADER, Frame, Message, PER_PEER_HEADER, PeerHeader, PeerKey, build, frames,
    statistics::{statistics, statistics_report},
};
use bytes::BytesMut;

use super::is_within;
use crate::memory::within;

/// Reads a stream. Its frames must be its beginning, everything must be borrowed from it, and
/// encoded messages must parse to the same.
pub fn bmp(stream: &[u8]) {
    let mut whole = frames(stream);
    let mut at = 0;
    for frame in whole.by_ref() {
        match frame {
            Ok(frame) => {
                assert_eq!(frame.bytes(), &stream[at..at + frame.bytes().len()]);
                at += frame.bytes().len();
                within(64 * 1024, 8, frame.bytes().len(), || message(&frame));
            }
            Err(error) => {
                assert!((at as u64..stream.len() as u64).contains(&error.offset), "{error}");
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert_eq!(whole.consumed(), at);
    assert!(whole.next().is_none(), "the iterator yielded after its end");
}

fn message(frame: &Frame<'_>) {
    let bytes = frame.bytes();
    let message = match Message::parse(frame) {
        Ok(message) => message,
        Err(error) => {
            assert!(error.offset <= bytes.len() as u64, "{error}");
            return;
        }
    };
    let header = PeerHeader::of(frame);
    assert_eq!(header.map(|header| header.key), PeerKey::of(frame));
    match message {
        Message::RouteMonitoring(peer, update) => {
            assert_eq!(Some(peer), header);
            assert_eq!(update, &bytes[COMMON_HEADER + PER_PEER_HEADER..]);
            is_built(bytes, |out| build::route_monitoring(out, &peer, update));
        }
        Message::StatisticsReport(peer, counters) => {
            assert!(is_within(counters, bytes));
            reports(&peer, counters);
        }
        Message::PeerDown(down) => {
            assert!(is_within(down.data, bytes));
            is_built(bytes, |out| build::peer_down_because(out, &down.peer, down.reason, down.data));
        }
        Message::PeerUp(up) => {
            assert!(is_within(up.sent_open, bytes) && is_within(up.received_open, bytes));
            let tlvs: usize = up.information.iter().map(|tlv| 4 + tlv.value.len()).sum();
            assert_eq!(tlvs, up.information.bytes().len());
            let mut again = BytesMut::new();
            let ports = [up.local_port, up.remote_port];
            build::peer_up(&mut again, &up.peer, up.local_address, ports, up.sent_open, up.received_open);
            let rebuilt = frames(&again).next().expect("a frame").expect("the encoded Peer Up is a frame");
            let Ok(Message::PeerUp(rebuilt)) = Message::parse(&rebuilt) else { panic!("a Peer Up") };
            // The address field of an IPv4 peer has twelve meaningless bytes.
            assert_eq!(
                (rebuilt.peer, rebuilt.sent_open, rebuilt.received_open),
                (up.peer, up.sent_open, up.received_open)
            );
            assert_eq!((rebuilt.local_address, rebuilt.local_port), (up.local_address, up.local_port));
            let mut down = BytesMut::new();
            build::peer_down(&mut down, &up.peer, up.table_name());
            let frame = frames(&down).next().expect("a frame").expect("the encoded Peer Down is a frame");
            let Ok(Message::PeerDown(down)) = Message::parse(&frame) else { panic!("a Peer Down") };
            assert_eq!(down.peer.key, up.peer.key);
        }
        Message::Initiation(initiation) => assert!(is_within(initiation.information.bytes(), bytes)),
        Message::Termination(termination) => {
            let _ = termination.reason();
            assert!(is_within(termination.information.bytes(), bytes));
        }
        Message::RouteMirroring(peer, tlvs) => assert!(Some(peer) == header && is_within(tlvs, bytes)),
        Message::Unassigned(code, rest) => assert_eq!((code, rest.len()), (bytes[5], bytes.len() - COMMON_HEADER)),
    }
}

/// Checks that encoding gives the frame again, byte for byte.
fn is_built(frame: &[u8], build: impl FnOnce(&mut BytesMut)) {
    let mut out = BytesMut::new();
    build(&mut out);
    assert_eq!(out, frame);
}

/// Checks that complete statistics are the same after encoding and parsing.
fn reports(peer: &PeerHeader, counters: &[u8]) {
    let read: Vec<_> = statistics(counters).collect();
    assert!(read.iter().rev().skip(1).all(Result::is_ok), "the iterator yielded after an error");
    let good: Vec<_> = read.into_iter().map_while(Result::ok).collect();
    good.iter().for_each(|statistic| assert!(!statistic.kind.to_string().is_empty()));
    let mut out = BytesMut::new();
    statistics_report(&mut out, peer, &good);
    let frame = frames(&out).next().expect("a frame").expect("the encoded report is a frame");
    let Ok(Message::StatisticsReport(_, counters)) = Message::parse(&frame) else { panic!("a Statistics Report") };
    assert_eq!(statistics(counters).map_while(Result::ok).collect::<Vec<_>>(), good);
}
