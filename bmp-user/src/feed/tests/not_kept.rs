//! More whole fields than the feed keeps. A late station lacks routes, but no station has a
//! withdrawn route.

use super::{super::*, announce, append, bytes_of, following, take_all, types_of, world};
use crate::wire::{
    bgp::Family,
    bmp::{RibView, samples},
};

const PEER: u8 = 2;

/// An UPDATE that announces or withdraws a field of a family of unknown form.
fn update(family: Family, field: &[u8], is_announced: bool) -> Vec<u8> {
    let origin = [0x40, 1, 1, 0];
    let afi = family.afi.to_be_bytes();
    let (kind, mut value) = if is_announced {
        (14, [&afi[..], &[family.safi, 4, 192, 0, 2, 9, 0], field].concat())
    } else {
        (15, [&afi[..], &[family.safi], field].concat())
    };
    let mut attributes = vec![0x90, kind];
    attributes.extend((value.len() as u16).to_be_bytes());
    attributes.append(&mut value);
    if is_announced {
        attributes.extend(origin);
    }
    let body = [&[0, 0][..], &(attributes.len() as u16).to_be_bytes(), &attributes].concat();
    let header = world::header(PEER, RibView::AdjRibInPre, 1);
    samples::frame(0, &[header, samples::bgp(2, &body)].concat())
}

fn long(number: u16) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[7; 3900]].concat()
}

/// A feed that dropped the first fields of a family, a station that was told all fields, and their
/// number.
fn overflowed() -> (Feed, Input, Follower) {
    let feed = Feed::new(20_000, 1 << 20);
    let mut input = feed.input(InputId::relay("router"));
    append(&mut input, &[world::up(PEER, 1), announce(PEER, 1, 1, 0..3)]);
    let mut follower = following(&feed);
    for number in 0..4300 {
        append(&mut input, &[update(world::UNKNOWN, &long(number), true)]);
        take_all(&mut follower);
    }
    assert!(feed.stats().trouble.overflowed > 0);
    (feed, input, follower)
}

/// True if these bytes have a field.
fn tell_of(told: &[u8], number: u16) -> bool {
    told.windows(6).any(|part| part == [&number.to_be_bytes()[..], &[7; 4]].concat())
}

#[test]
fn an_operator_is_told_once_that_fields_of_a_peer_are_dropped() {
    let (feed, mut input, _) = overflowed();
    let is_of_it =
        |notice: &InputNotice| matches!(notice, InputNotice::UpdateError(it) if it.kind == TroubleKind::Overflowed);
    assert!(matches!(&input.take_notices()[..], [notice] if is_of_it(notice)));
    append(&mut input, &[update(world::UNKNOWN, &long(5000), true)]);
    assert_eq!(input.take_notices(), []);
    let peers = feed.peers();
    let not_kept: Vec<_> = peers[0].ribs().iter().map(|rib| rib.not_kept > 0).collect();
    assert_eq!((peers[0].is_incomplete(), not_kept), (true, vec![false, true]));
}

#[test]
fn a_station_that_knows_a_dropped_field_and_misses_its_withdrawal_begins_anew() {
    let (feed, mut input, mut follower) = overflowed();
    // Withdraws all kept fields, so that a withdrawal finds nothing.
    for number in (0..4300).rev() {
        append(&mut input, &[update(world::UNKNOWN, &long(number), false)]);
        if number > 0 {
            take_all(&mut follower);
        }
    }
    for time in 0..99 {
        append(&mut input, &[announce(PEER, 1, time, 0..3)]);
    }
    assert!(feed.stats().tail > follower.cursor());
    let told = types_of(&bytes_of(&take_all(&mut follower)));
    assert!(told.windows(2).any(|types| types == [2, 3]), "{told:?}: it would have the route for good");
}

#[test]
fn a_station_that_deselects_a_rib_with_dropped_fields_is_told_the_peer_anew() {
    let (_feed, _input, mut follower) = overflowed();
    let plain = SelectionRule {
        peers: PeerFilter::Public,
        ribs: vec![(Family::IPV4_UNICAST, RibView::AdjRibInPre)],
        filter: None,
    };
    follower.select(Selection { rules: vec![plain], ..Selection::default() });
    let told = bytes_of(&take_all(&mut follower));
    assert_eq!(
        told,
        [vec![super::down_of(&world::up(PEER, 1))], vec![world::up(PEER, 1), announce(PEER, 1, 1, 0..3)]]
            .concat()
            .concat()
    );
}

#[test]
fn a_peer_with_dropped_fields_is_not_held() {
    let (_feed, input, mut follower) = overflowed();
    let held = input.hold();
    assert!(held.is_empty());
    assert_eq!(bytes_of(&take_all(&mut follower)), super::down_of(&world::up(PEER, 1)));
}

#[test]
fn beyond_the_room_for_unknown_families_no_station_keeps_withdrawn_routes() {
    let feed = Feed::new(2000, 1 << 20);
    let mut input = feed.input(InputId::relay("router"));
    append(&mut input, &[world::up(PEER, 1)]);
    for safi in 0..65 {
        append(&mut input, &[update(Family::new(99, 100 + safi), &long(0)[..9], true)]);
    }
    let mut early = feed.attach(Selection::default());
    take_all(&mut early);
    let last = Family::new(99, 100 + 64);
    append(&mut input, &[update(last, &long(1)[..9], true)]);
    assert!(tell_of(&bytes_of(&take_all(&mut early)), 1));
    append(&mut input, &[update(last, &long(1)[..9], false)]);
    for time in 0..30 {
        append(&mut input, &[announce(PEER, 1, time, 0..3)]);
    }
    assert!(feed.stats().tail > early.cursor());
    assert_eq!(types_of(&bytes_of(&take_all(&mut early)))[..2], [2, 3]);
    assert!(feed.peers()[0].is_incomplete());
}
