//! Compares replays with what another parser (bgpkit) reads in the same files.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
    net::IpAddr,
    path::Path,
};

use bgpkit_parser::{
    BgpElem, BgpkitParser, Elementor,
    encoder::MrtRibEncoder,
    models::{Asn, AsnLength},
    parser::bgp::parse_bgp_message,
};
use bytes::Bytes;

use super::samples::{messages, opens, replayed};
use crate::{
    input::mrt::ReplayState,
    wire::{
        bgp::Family,
        bmp::{Message, PeerKey, peer_flags},
        mrt::samples::{real_files, unpacked},
    },
};

/// Routes and withdrawals of each peer, in order.
type RoutesByPeer = BTreeMap<(IpAddr, u32), Vec<BgpElem>>;

/// What bgpkit-parser reads in an MRT file.
fn in_file(file: &[u8]) -> RoutesByPeer {
    let mut routes = RoutesByPeer::new();
    for elem in BgpkitParser::from_reader(file) {
        put(&mut routes, elem);
    }
    routes
}

/// What bgpkit-parser reads in the UPDATEs of a BMP stream.
fn at_station(stream: &[u8]) -> RoutesByPeer {
    let mut routes = RoutesByPeer::new();
    let mut add_path: HashMap<PeerKey, bool> = HashMap::new();
    for message in messages(stream) {
        match message {
            Message::PeerUp(up) => {
                let [sent, received] = opens(&up);
                let family = Family::IPV4_UNICAST;
                let agreed = received.add_path().is_some_and(|a| a.sends(family))
                    && sent.add_path().is_some_and(|a| a.receives(family));
                add_path.insert(up.peer.key, agreed);
            }
            Message::RouteMonitoring(peer, update) => {
                let as2 = peer.flags & peer_flags::TWO_BYTE_AS != 0;
                let width = if as2 { AsnLength::Bits16 } else { AsnLength::Bits32 };
                let time = f64::from(peer.seconds) + f64::from(peer.microseconds) / 1_000_000.0;
                let message = parse_bgp_message(&mut Bytes::copy_from_slice(update), add_path[&peer.key], &width);
                let (address, asn) = (peer.address(), Asn::new_32bit(peer.asn));
                for elem in Elementor::bgp_to_elems(message.unwrap(), time, &address, &asn) {
                    put(&mut routes, elem);
                }
            }
            Message::PeerDown(_) => {}
            other => panic!("{other:?}"),
        }
    }
    routes
}

fn put(routes: &mut RoutesByPeer, mut elem: BgpElem) {
    // No part of the route, and not in every kind of file.
    elem.peer_bgp_id = None;
    routes.entry((elem.peer_ip, elem.peer_asn.to_u32())).or_default().push(elem);
}

fn assert_same(name: &str, mut found: RoutesByPeer, mut expected: RoutesByPeer, times: bool) {
    for elem in found.values_mut().chain(expected.values_mut()).flatten().filter(|_| !times) {
        elem.timestamp = 0.0;
    }
    let (found_peers, expected_peers): (Vec<_>, Vec<_>) = (found.keys().collect(), expected.keys().collect());
    assert_eq!(found_peers, expected_peers, "{name}: peers");
    for (peer, found) in &found {
        let expected = &expected[peer];
        assert_eq!(found.len(), expected.len(), "{name}: routes of {peer:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found, expected, "{name}: a route of {peer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_of_real_files_give_the_routes_that_bgpkit_reads() {
    for path in real_files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (stream, status) = replayed(&path).await;
        assert_eq!((&status.state, status.errors), (&ReplayState::Done, 0), "{name}: {:?}", status.last_error);
        assert_eq!((Some(status.bytes_read), status.rounds), (status.file_bytes, 1), "{name}");
        let expected = in_file(&unpacked(&path));
        let elems: usize = expected.values().map(Vec::len).sum();
        assert!(elems > 15_000, "{name}: {elems}");
        // For table dumps, other parsers give the time of the record instead of the route's.
        assert_same(name, at_station(&stream), expected, !name.starts_with("bview"));
    }
}

/// Builds a table dump of the newest route for each prefix in a file of updates.
fn table_dump_v2(path: &Path) -> Option<Bytes> {
    let mut encoder = MrtRibEncoder::new();
    let file = unpacked(path);
    for elem in BgpkitParser::from_reader(&file[..]).into_iter().take(60_000) {
        if elem.elem_type == bgpkit_parser::models::ElemType::ANNOUNCE {
            encoder.process_elem(&elem).unwrap();
        }
    }
    encoder.export_bytes().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_a_table_dump_by_bgpkit_gives_the_routes_it_wrote() {
    let Some(path) = real_files().into_iter().find(|path| path.ends_with("updates.20160811.1600.gz")) else { return };
    let dump = table_dump_v2(&path).expect("a table dump");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&dump).unwrap();
    let (stream, status) = replayed(file.path()).await;
    assert_eq!((&status.state, status.errors), (&ReplayState::Done, 0), "{:?}", status.last_error);
    let expected = in_file(&dump);
    assert!(expected.values().flatten().any(|elem| elem.prefix.prefix.addr().is_ipv6()));
    assert_same("table dump", at_station(&stream), expected, false);
}
