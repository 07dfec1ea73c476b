//! Routes of table dumps in UPDATEs.

use super::samples::*;
use crate::wire::{
    bgp::{self, MAX_MESSAGE},
    bmp::{Message, peer_flags},
    mrt::samples::{RibEntrySample, entries, ipv4_attributes, ipv6_attributes, peer_index_table, record, rib},
};

fn table() -> Vec<u8> {
    peer_index_table(5, "", &[([1, 1, 1, 1], "192.0.2.1", 65001), ([2, 2, 2, 2], "::2", 65002)])
}

/// The bodies of the UPDATEs, without End-of-RIB.
fn updates(stream: &[u8]) -> Vec<Vec<u8>> {
    let body = |update| bgp::Frame::parse(update).unwrap().body().to_vec();
    let all = messages(stream).into_iter().filter_map(|message| match message {
        Message::RouteMonitoring(_, update) => Some(body(update)),
        _ => None,
    });
    all.filter(|body| body.len() > 10).collect()
}

fn of(peer: u16, originated: u32, attributes: &[u8]) -> RibEntrySample<'_> {
    RibEntrySample { peer, originated, path_id: None, attributes }
}

#[test]
fn successive_routes_of_a_peer_with_equal_attributes_share_an_update() {
    let (a, b) = (ipv4_attributes(1), ipv4_attributes(2));
    let stream = translated(&[
        table(),
        rib(5, 2, 0, &[8, 10], &[of(0, 3, &a), of(1, 3, &b)]),
        rib(5, 2, 1, &[8, 11], &[of(0, 3, &a), of(1, 3, &b)]),
        rib(5, 2, 2, &[8, 12], &[of(0, 3, &b), of(1, 4, &b)]),
    ]);
    let update = |attributes: &[u8], nlri: &[u8]| {
        [&[0, 0, 0, u8::try_from(attributes.len()).unwrap()][..], attributes, nlri].concat()
    };
    assert_eq!(
        updates(&stream),
        [update(&a, &[8, 10, 8, 11]), update(&b, &[8, 10, 8, 11]), update(&b, &[8, 12]), update(&b, &[8, 12])]
    );
    let ends = ["end-of-rib 192.0.2.1 5.000000", "end-of-rib ::2 5.000000"];
    assert_eq!(described(&stream)[6..], ends);
    assert_eq!(described(&stream)[..3], ["up 192.0.2.1 5.000000", "up ::2 5.000000", "route 192.0.2.1 3.000000"]);
}

#[test]
fn an_update_exceeds_4096_bytes_only_for_a_single_route() {
    let a = ipv4_attributes(1);
    let mut records = vec![table()];
    for n in 0..3000_u16 {
        let [high, low] = n.to_be_bytes();
        records.push(rib(5, 2, n.into(), &[24, 10, high, low], &[of(0, 3, &a)]));
    }
    let all = updates(&translated(&records));
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|body| body.len() + bgp::HEADER <= MAX_MESSAGE));
    let nlri: usize = all.iter().map(|body| body.len() - 4 - a.len()).sum();
    assert_eq!(nlri, 4 * 3000);
}

#[test]
fn routes_of_other_families_are_in_mp_reach_nlri_as_the_first_attribute() {
    let short = ipv6_attributes(1);
    let (base, next_hop) = (&short[..13], &short[17..]);
    let nlri = [16, 0x20, 0x01];
    let expected = [&[0, 0, 0, 41, 0x90, 14, 0, 24, 0, 2, 1, 16][..], next_hop, &[0], &nlri, base].concat();
    let full = [base, &[0x80, 14, 24, 0, 2, 1, 16], next_hop, &[0], &nlri].concat();
    let bare = [base, &[0x80, 14, 21, 0, 2, 1, 16], next_hop, &[0]].concat();
    for attributes in [&short, &full, &bare] {
        let stream = translated(&[table(), rib(5, 4, 0, &nlri, &[of(1, 3, attributes)])]);
        assert_eq!(updates(&stream), std::slice::from_ref(&expected), "{attributes:?}");
        let last = described(&stream).pop().unwrap();
        assert_eq!(last, "end-of-rib ::2 5.000000");
    }
    // Multicast and VPN routes, whose next hop is in the wrong attribute.
    let four = ipv4_attributes(1);
    let multicast = translated(&[table(), rib(5, 3, 0, &[8, 10], &[of(0, 3, &four)])]);
    let reach = [0x90, 14, 0, 11, 0, 1, 2, 4, 192, 0, 2, 1, 0, 8, 10];
    assert_eq!(updates(&multicast), [[&[0, 0, 0, 28][..], &reach, &four[..13]].concat()]);
    let vpn = [96, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 10];
    let generic = record(5, 13, 6, &[&[0, 0, 0, 0, 0, 1, 128][..], &vpn, &entries(&[of(0, 3, &four)])].concat());
    let body = &updates(&translated(&[table(), generic]))[0];
    assert_eq!(body[4..13], [0x90, 14, 0, 22, 0, 1, 128, 4, 192]);
}

#[test]
fn path_identifiers_are_kept() {
    let a = ipv4_attributes(1);
    let with = |path_id| RibEntrySample { peer: 0, originated: 3, path_id: Some(path_id), attributes: &a };
    let stream = translated(&[table(), rib(5, 8, 0, &[8, 10], &[with(7), with(9)])]);
    let all = updates(&stream);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0][4 + a.len()..], [0, 0, 0, 7, 8, 10, 0, 0, 0, 9, 8, 10]);
}

#[test]
fn as_paths_of_table_dump_version_1_have_two_octet_as_numbers() {
    #[rustfmt::skip]
    let route = record(9, 12, 1, &[
        0, 0, 0, 7, 3, 0, 0, 0, 8, 1, 0, 0, 0, 4, 192, 0, 2, 1, 0xfd, 0xe9, 0, 18,
        0x40, 1, 1, 0, 0x40, 2, 4, 2, 1, 0xfd, 0xe9, 0x40, 3, 4, 192, 0, 2, 1,
    ]);
    let stream = translated(&[route]);
    assert_eq!(
        described(&stream),
        ["up 192.0.2.1 9.000000", "route 192.0.2.1 4.000000", "end-of-rib 192.0.2.1 9.000000"]
    );
    for message in messages(&stream) {
        match message {
            Message::PeerUp(up) => assert!(opens(&up).iter().all(|open| open.four_octet_as().is_none())),
            Message::RouteMonitoring(peer, _) => assert_eq!(peer.flags, peer_flags::TWO_BYTE_AS),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_dumped_route_that_fits_no_update_is_passed_over() {
    let (a, nowhere) = (ipv4_attributes(1), [0x40, 1, 1, 0]);
    let huge = [&a[..], &[0xd0, 99, 0xff, 0x00], &[0; 0xff00]].concat();
    let of_all = [of(0, 3, &nowhere), of(9, 3, &a), of(1, 3, &huge[..])];
    let (stream, refused) = translate(
        &[table(), rib(5, 2, 0, &[8, 10], &of_all), rib(5, 2, 1, &[8, 11], &[of(0, 3, &a), of(1, 4, &a)])].concat(),
    );
    assert_eq!(refused, ["a route without next hop"], "one record, with the first of its errors");
    assert_eq!(updates(&stream).len(), 3, "a long UPDATE is still an UPDATE");
}

#[test]
fn a_dumped_route_without_next_hop_is_passed_over_if_its_family_needs_one() {
    let nowhere = [0x40, 1, 1, 0];
    for subtype in [2, 4] {
        let (stream, refused) = translate(&[table(), rib(5, subtype, 0, &[8, 10], &[of(0, 3, &nowhere)])].concat());
        assert_eq!((updates(&stream), refused), (vec![], vec!["a route without next hop".to_owned()]));
    }
    let flow = [&[0, 0, 0, 0, 0, 1, 133, 3, 1, 8, 10][..], &entries(&[of(0, 3, &nowhere)])].concat();
    let reach = [0x90, 14, 0, 9, 0, 1, 133, 0, 0, 3, 1, 8, 10];
    assert_eq!(
        updates(&translated(&[table(), record(5, 13, 6, &flow)])),
        [[&[0, 0, 0, 17][..], &reach, &nowhere].concat()]
    );
}

#[test]
fn malformed_attributes_of_a_dumped_route_are_replayed_unchanged() {
    // A dump holds what routers sent, whatever a receiver would do with it.
    let cut = [&ipv4_attributes(1)[..], &[0xc0, 8, 9, 1]].concat();
    let sets = [&[0x40, 2, 6, 1, 1, 0, 0, 0, 7][..], &[0x40, 3, 4, 192, 0, 2, 1], &[0x40, 99, 1, 7]].concat();
    let confederation = [&[0x40, 2, 6, 3, 1, 0, 0, 0, 7][..], &[0x40, 3, 4, 192, 0, 2, 1]].concat();
    for attributes in [cut, sets, confederation] {
        let stream = translated(&[table(), rib(5, 2, 0, &[8, 10], &[of(0, 3, &attributes)])]);
        let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        assert_eq!(updates(&stream), [[&[0, 0][..], &length, &attributes, &[8, 10]].concat()]);
    }
    let six = [&ipv6_attributes(1)[..], &[0xc0, 8, 9, 1]].concat();
    let stream = translated(&[table(), rib(5, 4, 0, &[16, 0x20, 0x01], &[of(1, 3, &six)])]);
    assert!(updates(&stream)[0].ends_with(&[0xc0, 8, 9, 1]));
}
