//! Path identifiers that the subtype of a record announces, or that only the routes show.

use bytes::BytesMut;

use super::samples::*;
use crate::{
    feed::{Feed, InputId, RibRoutes, Trouble},
    wire::{
        bgp::{Capabilities, Capability, Family, Reading, capability::add_path, open},
        bmp::{BmpChunk, Message, samples::bgp},
        mrt::samples::{RibEntrySample, ipv4_attributes, peer_index_table, rib},
    },
};

/// An UPDATE that announces these IPv4 routes.
fn announce(nlri: &[u8]) -> Vec<u8> {
    bgp(2, &[&[0, 0, 0, 14, 0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4, 192, 0, 2, 1], nlri].concat())
}

/// 10.0.N.0/24 with path identifier 1. Read without path identifier, it is two default routes and
/// two short prefixes.
fn with_id(number: u8) -> Vec<u8> {
    announce(&[0, 0, 0, 1, 24, 10, 0, number])
}

/// The families for which the first Peer Up says that the peer sends path identifiers.
fn sends_path_ids(stream: &[u8]) -> Vec<Family> {
    let [_, received] = opens(&first_up(stream));
    let of = |open: &open::Open<'_>| open.add_path().map(|it| it.iter().collect::<Vec<_>>()).unwrap_or_default();
    of(&received).into_iter().filter(|(_, field)| field & add_path::SEND != 0).map(|(family, _)| family).collect()
}

/// Feeds the frames of a file and returns the RIBs and the errors.
fn fed(stream: &[u8]) -> (Vec<RibRoutes>, Trouble) {
    let feed = Feed::default();
    let mut input = feed.input(InputId::replay("replay"));
    input.trust_opens();
    input.append(BmpChunk::parse(stream.to_vec().into(), stream.len()).unwrap());
    (feed.ribs(&InputId::replay("replay")), feed.stats().trouble)
}

#[test]
fn path_identifiers_without_their_subtype_are_found_in_the_routes() {
    // BGP4MP_MESSAGE and BGP4MP_MESSAGE_AS4, whose subtypes announce no path identifiers.
    for subtype in [1, 4] {
        let stream = translated(&[bgp4mp(7, subtype, &update_with_path_id()), bgp4mp(8, subtype, &update_ipv6())]);
        let [sent, received] = opens(&first_up(&stream));
        let of = |open: &open::Open<'_>| open.add_path().unwrap().iter().collect::<Vec<_>>();
        assert_eq!(of(&sent), [(Family::IPV4_UNICAST, add_path::RECEIVE)]);
        assert_eq!(of(&received), [(Family::IPV4_UNICAST, add_path::SEND)], "IPv6 routes have no identifiers");
        let Message::RouteMonitoring(_, passed) = messages(&stream)[1] else { panic!("a route") };
        assert_eq!(passed, update_with_path_id());
    }
    // A subtype that announces path identifiers where the routes have none.
    let stream = translated(&[bgp4mp(7, 9, &update())]);
    assert!(opens(&first_up(&stream)).iter().all(|open| open.add_path().is_none()));
}

#[test]
fn routes_that_fit_both_readings_get_the_likelier_one() {
    for (subtype, as_withdrawals) in [(1, false), (4, false), (4, true)] {
        let nlri = [0, 0, 0, 1, 24, 10, 0, 1, 0, 0, 0, 1, 24, 10, 0, 2];
        let withdrawn = [&[0, 16], &nlri[..], &[0, 0]].concat();
        let update = if as_withdrawals { bgp(2, &withdrawn) } else { announce(&nlri) };
        let stream = translated(&[bgp4mp(7, subtype, &update), bgp4mp(8, subtype, &with_id(3))]);
        assert_eq!(sends_path_ids(&stream), [Family::IPV4_UNICAST]);
        let (ribs, trouble) = fed(&stream);
        assert_eq!((ribs[0].routes, trouble), (if as_withdrawals { 1 } else { 3 }, Trouble::default()));
    }
    // Two prefixes of 24 bits, or one with an unlikely path identifier: no evidence for path
    // identifiers.
    let stream = translated(&[bgp4mp(7, 4, &announce(&[24, 10, 0, 1, 24, 10, 0, 2]))]);
    assert_eq!(sends_path_ids(&stream), []);
    // The subtype announces them.
    let stream = translated(&[bgp4mp(7, 9, &announce(&[24, 10, 0, 1, 24, 10, 0, 2]))]);
    assert_eq!((sends_path_ids(&stream), fed(&stream).0[0].routes), (vec![Family::IPV4_UNICAST], 1));
}

#[test]
fn the_majority_of_updates_decides_and_the_others_pass_and_are_counted() {
    let plain = announce(&[16, 10, 9]);
    for at in [0, 2, 5] {
        let mut updates: Vec<_> = (0..5).map(with_id).collect();
        updates.insert(at, plain.clone());
        let records: Vec<_> = updates.iter().map(|update| bgp4mp(7, 4, update)).collect();
        let stream = translated(&records);
        assert_eq!(sends_path_ids(&stream), [Family::IPV4_UNICAST]);
        assert_eq!(replayed_updates(&stream), updates, "no update is left out");
        let (ribs, trouble) = fed(&stream);
        let Reading { path_ids, .. } = ribs[0].reading;
        assert_eq!((path_ids, ribs[0].is_decided, ribs[0].routes, trouble.mixed_path_ids), (true, true, 6, 1));
    }
}

#[test]
fn a_dumped_route_gets_an_identifier_if_others_of_its_rib_have_one() {
    let attributes = ipv4_attributes(1);
    let entry = |path_id| RibEntrySample { peer: 0, originated: 3, path_id, attributes: &attributes };
    let table = peer_index_table(5, "", &[([1, 1, 1, 1], "192.0.2.1", 65001)]);
    let stream = translated(&[
        table,
        rib(5, 2, 0, &[8, 10], &[entry(None)]),
        rib(5, 8, 1, &[8, 11], &[entry(Some(5)), entry(Some(6))]),
    ]);
    assert_eq!(sends_path_ids(&stream), [Family::IPV4_UNICAST]);
    let (ribs, trouble) = fed(&stream);
    assert_eq!((ribs[0].routes, trouble), (3, Trouble::default()));
    let Message::RouteMonitoring(_, update) = messages(&stream)[1] else { panic!("routes") };
    assert!(update.ends_with(&[0, 0, 0, 0, 8, 10, 0, 0, 0, 5, 8, 11, 0, 0, 0, 6, 8, 11]));
}

#[test]
fn recorded_opens_that_contradict_the_routes_are_replaced() {
    let open = |asn: u32, id: u8, add_path: Option<u8>| {
        let mut all = Capabilities::new();
        all.push(&Capability::FourOctetAs(asn)).unwrap();
        if let Some(field) = add_path {
            all.push_add_path([(Family::IPV4_UNICAST, field)]).unwrap();
        }
        let mut out = BytesMut::new();
        open::build(&mut out, asn, 90, [id; 4].into(), &all).unwrap();
        out.to_vec()
    };
    let (ours, theirs) = (open(65000, 8, Some(add_path::RECEIVE)), open(65001, 9, Some(add_path::SEND)));
    let without = open(65001, 9, None);
    // Whether the routes have path identifiers, which OPEN the peer sent, and whether add-path is
    // announced.
    for (identifiers, sent, is_kept) in [(true, &theirs, true), (true, &without, false), (false, &theirs, false)] {
        let update = if identifiers { with_id(1) } else { announce(&[16, 10, 1]) };
        let stream = translated(&[bgp4mp(1, 7, &ours), bgp4mp(2, 4, sent), bgp4mp(3, 4, &update)]);
        let Message::PeerUp(up) = messages(&stream)[0] else { panic!("a Peer Up") };
        assert_eq!((up.received_open == sent, up.sent_open == ours), (is_kept, is_kept));
        assert_eq!(sends_path_ids(&stream).is_empty(), !identifiers);
        let [ours, theirs] = opens(&up);
        assert_eq!((ours.bgp_id, theirs.bgp_id), ([8; 4].into(), [9; 4].into()), "what else they say is kept");
        assert_eq!(fed(&stream).1, Trouble::default());
    }
    // Routes that fit both readings do not contradict an OPEN.
    let stream = translated(&[
        bgp4mp(1, 7, &ours),
        bgp4mp(2, 4, &theirs),
        bgp4mp(3, 4, &announce(&[24, 10, 0, 1, 24, 10, 0, 2])),
    ]);
    assert_eq!((sends_path_ids(&stream), fed(&stream).0[0].routes), (vec![Family::IPV4_UNICAST], 1));
}
