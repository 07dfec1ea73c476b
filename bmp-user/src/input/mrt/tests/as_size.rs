//! AS paths with another size of AS numbers than the record type says. The path decides the A flag.

use super::samples::*;
use crate::wire::{
    bmp::{Message, peer_flags, samples},
    mrt::samples::{RibEntrySample, peer_index_table, rib},
};

const SHORT: &[u8] = &[0x40, 1, 1, 0, 0x40, 2, 4, 2, 1, 0xfd, 0xe9, 0x40, 3, 4, 192, 0, 2, 1];
const LONG: &[u8] = &[0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9, 0x40, 3, 4, 192, 0, 2, 1];

/// For each Route Monitoring message with attributes, whether the A flag announces 2-octet AS
/// numbers.
fn two_byte(stream: &[u8]) -> Vec<bool> {
    let all = messages(stream).into_iter().filter_map(|message| match message {
        Message::RouteMonitoring(peer, update) if update.len() > 23 => Some(peer.flags & peer_flags::TWO_BYTE_AS != 0),
        _ => None,
    });
    all.collect()
}

#[test]
fn the_a_flag_of_a_dumped_route_follows_its_as_path() {
    let of = |attributes| RibEntrySample { peer: 0, originated: 3, path_id: None, attributes };
    let stream = translated(&[
        peer_index_table(5, "", &[([1, 1, 1, 1], "192.0.2.1", 65001)]),
        rib(5, 2, 0, &[8, 10], &[of(LONG)]),
        rib(5, 2, 1, &[8, 11], &[of(SHORT)]),
    ]);
    assert_eq!(two_byte(&stream), [false, true]);
}

#[test]
fn the_a_flag_of_a_message_follows_its_as_path() {
    let update = |attributes: &[u8]| {
        samples::bgp(2, &[&[0, 0, 0, attributes.len() as u8], attributes, &[24, 10, 1, 0]].concat())
    };
    let (as2, as4) = (1, 4);
    let stream = translated(&[
        bgp4mp(5, as4, &update(LONG)),
        bgp4mp(6, as4, &update(SHORT)),
        bgp4mp(7, as2, &update(SHORT)),
        bgp4mp(8, as2, &update(LONG)),
    ]);
    assert_eq!(two_byte(&stream), [false, true, true, false]);
}
