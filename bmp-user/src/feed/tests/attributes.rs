//! Routes with malformed attributes, or with attributes that contradict the A flag. The router has
//! them all the same.

use bytes::BytesMut;

use super::{super::*, append, bytes_of, dump, following, take_all, world};
use crate::wire::bmp::{PeerHeader, build, frames, peer_flags, samples};

const ORIGIN: [u8; 4] = [0x40, 1, 1, 0];
const NEXT_HOP: [u8; 7] = [0x40, 3, 4, 192, 0, 2, 1];
const PATH_OF_4: [u8; 9] = [0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9];
const PATH_OF_2: [u8; 7] = [0x40, 2, 4, 2, 1, 0xfd, 0xe9];

/// A Route Monitoring message of peer 2 with the route 10.1.N.0/24 and these attributes.
fn route(flags: u8, attributes: &[&[u8]], number: u8) -> Vec<u8> {
    let attributes = attributes.concat();
    let body = [&[0, 0, 0, attributes.len() as u8][..], &attributes, &[24, 10, 1, number]].concat();
    let peer = PeerHeader::of(&frames(&world::up(2, 1)).next().unwrap().unwrap()).unwrap();
    let mut out = BytesMut::new();
    build::route_monitoring(&mut out, &PeerHeader { flags, ..peer }, &samples::bgp(2, &body));
    out.to_vec()
}

/// Appends these messages and returns the counts. Checks that a late station is told exactly what
/// an early one was.
fn counted(messages: &[Vec<u8>]) -> Trouble {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("router"));
    let mut early = following(&feed);
    append(&mut input, &[world::up(2, 1)]);
    append(&mut input, messages);
    let told = bytes_of(&take_all(&mut early));
    assert_eq!(told, [world::up(2, 1), messages.concat()].concat());
    assert_eq!(dump(&feed), told);
    assert_eq!(input.totals().trouble, feed.stats().trouble, "the input knows of its own");
    feed.stats().trouble
}

#[test]
fn a_route_with_malformed_attributes_is_kept_as_it_came() {
    let cases: [&[&[u8]]; 6] = [
        // An ORIGIN of 9, which does not exist, and a wrong flag (RFC 7606 §7.1, §3 (c)).
        &[&[0x40, 1, 1, 9], &PATH_OF_4, &NEXT_HOP],
        &[&[0x80, 1, 1, 0], &PATH_OF_4, &NEXT_HOP],
        // LARGE_COMMUNITY of 13 octets (RFC 8092 §6).
        &[&ORIGIN, &PATH_OF_4, &NEXT_HOP, &[0xc0, 32, 13, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 4]],
        // NEXT_HOP of three octets, and an AS_PATH that fits no size of AS numbers.
        &[&ORIGIN, &PATH_OF_4, &[0x40, 3, 3, 192, 0, 2]],
        &[&ORIGIN, &[0x40, 2, 5, 2, 1, 0, 0xfd, 0xe9], &NEXT_HOP],
        // The last attribute is cut (RFC 7606 §4).
        &[&ORIGIN, &PATH_OF_4, &NEXT_HOP, &[0xc0, 8, 40, 0, 1]],
    ];
    for attributes in cases {
        let trouble = counted(&[route(0, attributes, 1)]);
        assert_eq!((trouble.malformed_attributes, trouble.errors()), (1, 1), "{attributes:x?}");
    }
}

#[test]
fn a_path_of_another_as_size_than_the_flag_says_is_kept_with_the_flag_as_it_came() {
    let two = |flags| route(flags, &[&ORIGIN, &PATH_OF_2, &NEXT_HOP], 1);
    let four = |flags| route(flags, &[&ORIGIN, &PATH_OF_4, &NEXT_HOP], 1);
    let flag = peer_flags::TWO_BYTE_AS;
    for (message, contradicts) in [(two(0), 1), (two(flag), 0), (four(0), 0), (four(flag), 1)] {
        let trouble = counted(&[message]);
        assert_eq!((trouble.as_size, trouble.errors()), (contradicts, contradicts));
    }
}

#[test]
fn a_route_that_lacks_attributes_is_kept_and_is_no_error() {
    let trouble = counted(&[route(0, &[&ORIGIN, &PATH_OF_4], 1)]);
    assert_eq!((trouble.incomplete, trouble.errors()), (1, 0));
}

#[test]
fn plain_routes_beside_a_broken_multiprotocol_attribute_are_kept_and_withdrawn() {
    let cut_reach = [0x80, 14, 2, 0, 1];
    let cut_unreach = [0x80, 15, 1, 0];
    let reach = [0x80, 14, 10, 0, 1, 1, 4, 192, 0, 2, 9, 0, 0];
    let good: [&[u8]; 3] = [&ORIGIN, &PATH_OF_4, &NEXT_HOP];
    for broken in [&cut_reach[..], &cut_unreach, &[reach, reach].concat()] {
        let trouble = counted(&[route(0, &[&good.concat(), broken], 1)]);
        assert_eq!(trouble.malformed, 1, "{broken:x?}");
    }
    // 10.1.1.0/24 is withdrawn beside a cut MP_UNREACH_NLRI.
    let body = [&[0, 4, 24, 10, 1, 1, 0, 4][..], &cut_unreach].concat();
    let peer = PeerHeader::of(&frames(&world::up(2, 1)).next().unwrap().unwrap()).unwrap();
    let mut withdrawal = BytesMut::new();
    build::route_monitoring(&mut withdrawal, &peer, &samples::bgp(2, &body));
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("router"));
    append(&mut input, &[world::up(2, 1), route(0, &good, 1), route(0, &good, 2), withdrawal.to_vec()]);
    assert_eq!(feed.stats().routes, 1);
}
