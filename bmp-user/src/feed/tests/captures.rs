//! Captures of real routers go through the feed, and another parser reads the result. A late or
//! slow station ends with the same as an early one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bgpkit_parser::{
    Elementor,
    models::{Asn, AsnLength, ElemType},
    parser::bgp::parse_bgp_message,
};
use bytes::Bytes;

use super::{super::*, append, bytes_of, following, take_all};
use crate::wire::bmp::{Message, MessageType, PeerHeader, PeerIdentity, PeerUp, frames, peer_flags, samples};

/// Everything that another parser knows about routes, by prefix and path.
pub(super) type CapturedRoutes = BTreeMap<String, String>;

/// The Peer Ups of a peer's session, and its routes by view.
pub(super) type CapturedPeer = (BTreeSet<Vec<u8>>, BTreeMap<u8, CapturedRoutes>);

/// What a station knows, by peer. Tells peers apart that RFC 7854 does not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CaptureStation {
    pub(super) peers: BTreeMap<PeerIdentity, CapturedPeer>,
    updates: usize,
}

impl CaptureStation {
    pub(super) fn read(stream: &[u8]) -> Self {
        let mut station = Self::default();
        for frame in frames(stream) {
            let frame = frame.unwrap();
            let Some(header) = PeerHeader::of(&frame) else { continue };
            match Message::parse(&frame).unwrap() {
                Message::PeerUp(up) => {
                    let (ups, views) = station.peers.entry(header.identity()).or_default();
                    if !ups.iter().any(|known| parsed(known).is_of_same_session(&up)) {
                        (*ups, *views) = Default::default();
                    }
                    ups.insert(frame.bytes().to_vec());
                }
                Message::PeerDown(_) => {
                    station.peers.remove(&header.identity());
                }
                Message::RouteMonitoring(_, update) => {
                    station.updates += 1;
                    station.update(&header, update);
                }
                _ => {}
            }
        }
        station.peers.values_mut().for_each(|(_, views)| views.retain(|_, routes| !routes.is_empty()));
        station.peers.retain(|_, (ups, views)| !ups.is_empty() || !views.is_empty());
        station
    }

    fn update(&mut self, header: &PeerHeader, update: &[u8]) {
        let width = match header.flags & peer_flags::TWO_BYTE_AS {
            0 => AsnLength::Bits32,
            _ => AsnLength::Bits16,
        };
        let time = f64::from(header.seconds) + f64::from(header.microseconds) / 1_000_000.0;
        let message = parse_bgp_message(&mut Bytes::copy_from_slice(update), false, &width).expect("an UPDATE");
        let (address, asn) = (header.address(), Asn::new_32bit(header.asn));
        let view = header.flags & (peer_flags::POST_POLICY | peer_flags::ADJ_RIB_OUT);
        let (_, views) = self.peers.entry(header.identity()).or_default();
        let routes = views.entry(view).or_default();
        for elem in Elementor::bgp_to_elems(message, time, &address, &asn) {
            let name = elem.prefix.to_string();
            match elem.elem_type {
                ElemType::ANNOUNCE => drop(routes.insert(name, format!("{elem:?}"))),
                ElemType::WITHDRAW => drop(routes.remove(&name)),
            }
        }
    }

    pub(super) fn routes(&self) -> usize {
        self.peers.values().flat_map(|(_, views)| views.values()).map(BTreeMap::len).sum()
    }
}

fn parsed(up: &[u8]) -> PeerUp<'_> {
    let Message::PeerUp(up) = Message::parse(&frames(up).next().unwrap().unwrap()).unwrap() else {
        panic!("a Peer Up")
    };
    up
}

/// Checks that both stations know the same, and shows the difference.
pub(super) fn assert_same(name: &str, found: &CaptureStation, expected: &CaptureStation) {
    assert_eq!(found.peers.keys().collect::<Vec<_>>(), expected.peers.keys().collect::<Vec<_>>(), "{name}: peers");
    for (key, (ups, views)) in &expected.peers {
        let (found_ups, found_views) = &found.peers[key];
        assert_eq!(found_ups, ups, "{name}: the Peer Ups of {key:?}");
        for view in views.keys().chain(found_views.keys()) {
            let none = CapturedRoutes::new();
            let (found, expected) = (found_views.get(view).unwrap_or(&none), views.get(view).unwrap_or(&none));
            for prefix in found.keys().chain(expected.keys()) {
                assert_eq!(found.get(prefix), expected.get(prefix), "{name}: {prefix} of {key:?}, view {view:#x}");
            }
        }
    }
}

/// The frames of a stream that are about peers.
pub(super) fn about_peers(stream: &[u8]) -> Vec<Vec<u8>> {
    let own = |code| [MessageType::Initiation, MessageType::Termination].map(MessageType::code).contains(&code);
    let whole = frames(stream).map(|frame| frame.unwrap());
    whole.filter(|frame| !own(frame.code())).map(|frame| frame.bytes().to_vec()).collect()
}

#[test]
fn a_late_station_of_a_real_router_ends_with_the_same_as_an_early_one() {
    for (name, stream) in samples::captures_v3() {
        let feed = Feed::default();
        let mut input = feed.input(InputId::relay("router"));
        let mut early = following(&feed);
        let sent = about_peers(&stream);
        let mut middle = None;
        for (number, frame) in sent.iter().enumerate() {
            append(&mut input, std::slice::from_ref(frame));
            if number == sent.len() / 2 {
                middle = Some(feed.attach(Selection::default()));
            }
        }
        let live = bytes_of(&take_all(&mut early));
        assert!(live == sent.concat(), "{name}: byte for byte");
        let early = CaptureStation::read(&live);
        let late = CaptureStation::read(&bytes_of(&take_all(&mut feed.attach(Selection::default()))));
        assert_same(&name, &late, &early);
        assert!(late.updates <= early.updates, "{name}: packed");
        let middle = CaptureStation::read(&bytes_of(&take_all(&mut middle.unwrap())));
        assert_same(&name, &middle, &early);
        // The other parser leaves out unknown families.
        assert!(feed.stats().routes >= early.routes(), "{name}");
        assert_eq!(feed.stats().trouble.malformed, 0, "{name}");
        assert!(feed.stats().routes > 10 && early.routes() > 0, "{name}: {}", feed.stats().routes);
    }
}

#[test]
fn a_slow_station_of_a_real_router_ends_with_the_same_as_a_fast_one() {
    for (name, stream) in samples::captures_v3() {
        let feed = Feed::new(1000, 1000);
        let mut input = feed.input(InputId::relay("router"));
        let mut slow = feed.attach(Selection::default());
        let sent = about_peers(&stream);
        let mut told = Vec::new();
        for (number, frame) in sent.iter().enumerate() {
            append(&mut input, std::slice::from_ref(frame));
            if number % 17 == 0 {
                let mut pieces = VecDeque::new();
                slow.take(300, &mut pieces);
                told.extend(bytes_of(pieces.make_contiguous()));
            }
        }
        told.extend(bytes_of(&take_all(&mut slow)));
        assert!(slow.dumps() > 2, "{name}: it fell off the journal");
        assert_same(&name, &CaptureStation::read(&told), &CaptureStation::read(&sent.concat()));
    }
}

#[test]
fn the_repetitions_of_a_real_router_that_returned_are_not_told() {
    // The router sends a Peer Up for each view of a peer, and one for each family of its Loc-RIBs.
    let huawei = samples::captures_v3().into_iter().find(|(name, _)| name.contains("huawei"));
    // Without captures, `captures` has said that the test is skipped.
    let Some((name, stream)) = huawei else { return };
    let feed = Feed::default();
    let mut early = following(&feed);
    let mut input = feed.input(InputId::relay("router"));
    let sent = about_peers(&stream);
    append(&mut input, &sent);
    let told = CaptureStation::read(&bytes_of(&take_all(&mut early)));
    let held = input.hold();
    let mut input = feed.input(InputId::relay("router"));
    append(&mut input, &sent);
    drop(held);
    let more = bytes_of(&take_all(&mut early));
    for frame in frames(&more) {
        let kind = frame.unwrap().message_type();
        assert!(!matches!(kind, Some(MessageType::PeerUp | MessageType::PeerDown)), "{name}: {kind:?}");
    }
    assert!(more.len() < stream.len() / 10, "{name}: {} of {} bytes", more.len(), stream.len());
    let late = CaptureStation::read(&bytes_of(&take_all(&mut feed.attach(Selection::default()))));
    assert_same(&name, &late, &told);
}
