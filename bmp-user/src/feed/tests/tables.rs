//! One Loc-RIB peer stands for several tables (RFC 9069 §5.2.1), which come and go one by one
//! (§5.3).

use super::{
    super::*,
    append, bytes_of, down_of, dump, following,
    reader::PlainReader,
    take_all, types_of,
    world::{self, LOC_RIB_PEER, NO_TABLE, NumberedPeer, NumberedRoute, UpdatePart},
};
use crate::wire::{bgp::Family, bmp::RibView};

fn up(table: usize) -> Vec<u8> {
    world::up_at(LOC_RIB_PEER, 0, table, 1)
}

fn routes(family: Family, prefixes: std::ops::Range<u8>) -> Vec<u8> {
    let announced = prefixes.map(|prefix| NumberedRoute { prefix, path: 0, variant: 0 }).collect();
    world::update(LOC_RIB_PEER, RibView::LocRib, 1, 1, &[UpdatePart { family, withdrawn: vec![], announced }])
}

/// A router with IPv4 routes in inet.0 and IPv6 routes in inet6.0.
fn two_tables() -> [Vec<u8>; 4] {
    [up(0), routes(Family::IPV4_UNICAST, 0..5), up(1), routes(Family::IPV6_UNICAST, 5..8)]
}

fn known_by(told: &[u8]) -> Option<NumberedPeer> {
    let mut reader = PlainReader::default();
    reader.read(told);
    reader.peers.remove(&LOC_RIB_PEER).map(NumberedPeer::tidy)
}

#[test]
fn a_peer_down_that_names_a_table_ends_that_table_and_no_other() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("junos"));
    let mut follower = following(&feed);
    append(&mut input, &two_tables());
    let mut told = bytes_of(&take_all(&mut follower));
    append(&mut input, &[world::down_of_table(LOC_RIB_PEER, 0), routes(Family::IPV6_UNICAST, 8..9)]);
    told.extend(bytes_of(&take_all(&mut follower)));
    let rest = known_by(&[up(1), routes(Family::IPV6_UNICAST, 5..9)].concat());
    assert_eq!((known_by(&dump(&feed)), known_by(&told)), (rest.clone(), rest));
    assert_eq!((feed.stats().routes, feed.stats().peers), (4, 1));
    append(&mut input, &[world::down_of_table(LOC_RIB_PEER, 1)]);
    assert_eq!(bytes_of(&take_all(&mut follower)), world::down_of_table(LOC_RIB_PEER, 1));
    assert_eq!((dump(&feed), feed.stats().routes), (vec![], 0));
}

#[test]
fn a_station_that_ends_all_tables_with_one_peer_down_is_told_the_others_again() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("junos"));
    append(&mut input, &two_tables());
    let mut follower = following(&feed);
    append(&mut input, &[world::down_of_table(LOC_RIB_PEER, 0)]);
    let told = bytes_of(&take_all(&mut follower));
    let first = [down_of(&up(1)), world::down_of_table(LOC_RIB_PEER, 0)].concat();
    assert!(told.starts_with(&first));
    assert_eq!(known_by(&told[first.len()..]), known_by(&[up(1), routes(Family::IPV6_UNICAST, 5..8)].concat()));
}

#[test]
fn a_station_that_was_behind_is_told_the_end_of_a_table() {
    let feed = Feed::new(600, 1 << 20);
    let mut input = feed.input(InputId::relay("junos"));
    append(&mut input, &two_tables());
    let mut told = Vec::new();
    let mut follower = feed.attach(Selection::default());
    told.extend(bytes_of(&take_all(&mut follower)));
    append(&mut input, &[world::down_of_table(LOC_RIB_PEER, 0)]);
    for prefix in 0..50 {
        append(&mut input, &[routes(Family::IPV6_UNICAST, prefix..prefix + 1)]);
    }
    told.extend(bytes_of(&take_all(&mut follower)));
    assert_eq!(follower.falls(), 1);
    assert_eq!(known_by(&told), known_by(&dump(&feed)));
    assert_eq!(feed.stats().routes, 50);
}

#[test]
fn a_family_that_two_tables_have_stays_until_the_second_is_gone() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("router"));
    // The OPENs of the table without a name have no families, which means IPv4 unicast (RFC 4760
    // §8).
    append(&mut input, &[up(0), up(NO_TABLE), routes(Family::IPV4_UNICAST, 0..5)]);
    append(&mut input, &[world::down_of_table(LOC_RIB_PEER, 0)]);
    assert_eq!(dump(&feed), [up(NO_TABLE), routes(Family::IPV4_UNICAST, 0..5)].concat());
}

#[test]
fn a_peer_down_of_a_table_that_was_not_announced_ends_nothing_and_is_counted() {
    const OTHER: usize = 2;
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("junos"));
    append(&mut input, &two_tables());
    let mut follower = following(&feed);
    append(&mut input, &[world::down_of_table(LOC_RIB_PEER, OTHER)]);
    assert_eq!(bytes_of(&take_all(&mut follower)), b"");
    let odd: Vec<_> = input.totals().odd.iter().map(|(oddity, count)| (oddity.as_str(), count)).collect();
    assert_eq!((odd, feed.stats().routes), (vec![("other-table", 1)], 8));
}

#[test]
fn a_peer_down_without_a_name_ends_all_tables_and_each_is_told() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("junos"));
    append(&mut input, &two_tables());
    let mut follower = following(&feed);
    append(&mut input, &[world::down_of_table(LOC_RIB_PEER, NO_TABLE)]);
    let told = bytes_of(&take_all(&mut follower));
    assert_eq!(told, [down_of(&up(0)), down_of(&up(1)), world::down_of_table(LOC_RIB_PEER, NO_TABLE)].concat());
    assert_eq!((dump(&feed), feed.stats().peers), (vec![], 0));
}

#[test]
fn every_table_is_taken_back_when_its_daemon_goes() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("junos"));
    append(&mut input, &two_tables());
    let mut follower = following(&feed);
    drop(input);
    let told = take_all(&mut follower);
    assert_eq!(bytes_of(&told), [down_of(&up(0)), down_of(&up(1))].concat());
    assert_eq!(told.iter().map(|piece| piece.counts.total()).sum::<u64>(), 2);
}

#[test]
fn a_table_that_is_announced_anew_begins_another_life_and_the_others_stay() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("junos"));
    let mut follower = following(&feed);
    append(&mut input, &two_tables());
    let again = world::up_at(LOC_RIB_PEER, 1, 0, 9);
    append(&mut input, &[again.clone(), routes(Family::IPV4_UNICAST, 9..10)]);
    let told = bytes_of(&take_all(&mut follower));
    let rest = [up(1), again, routes(Family::IPV4_UNICAST, 9..10), routes(Family::IPV6_UNICAST, 5..8)].concat();
    assert_eq!((known_by(&told), known_by(&dump(&feed))), (known_by(&rest), known_by(&rest)));
}

#[test]
fn a_table_that_a_daemon_does_not_announce_again_is_over() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("junos"));
    append(&mut input, &two_tables());
    let mut follower = following(&feed);
    let held = input.hold();
    let mut input = feed.input(InputId::relay("junos"));
    append(&mut input, &[up(1), routes(Family::IPV6_UNICAST, 5..8)]);
    assert_eq!(bytes_of(&take_all(&mut follower)), b"");
    drop(held);
    let told = types_of(&bytes_of(&take_all(&mut follower)));
    assert_eq!(told, [0, 2, 2, 3, 0], "a withdrawal, the ends of both, and the one that is there");
    assert_eq!(known_by(&dump(&feed)), known_by(&[up(1), routes(Family::IPV6_UNICAST, 5..8)].concat()));
}

#[test]
fn a_table_beyond_the_limit_is_refused_and_counted() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("junos"));
    let mut follower = following(&feed);
    let of_table = |number: u16| {
        let name = format!("{}{number:05}.inet.0", "x".repeat(900));
        let plain = world::up(LOC_RIB_PEER, 0);
        let tlv = [&[0, 3][..], &(name.len() as u16).to_be_bytes(), name.as_bytes()].concat();
        crate::wire::bmp::samples::frame(3, &[&plain[6..], &tlv].concat())
    };
    let ups: Vec<_> = (0..400).map(of_table).collect();
    append(&mut input, &[routes(Family::IPV4_UNICAST, 0..5)]);
    append(&mut input, &ups[..1]);
    append(&mut input, &[routes(Family::IPV4_UNICAST, 0..5)]);
    append(&mut input, &ups[1..]);
    let told = types_of(&bytes_of(&take_all(&mut follower)));
    let refused = input.totals().odd.total() as usize;
    assert!((100..300).contains(&refused), "{refused}");
    assert_eq!(told.iter().filter(|code| **code == 3).count(), 400 - refused);
    assert_eq!((feed.stats().peers, feed.stats().routes), (1, 5));
    assert_eq!(types_of(&dump(&feed)).len(), 400 - refused + 1);
    assert_eq!(input.take_notices().len(), 1, "it is said once");
    // Repeated Peer Ups of the kept tables are no news.
    append(&mut input, &ups[..3]);
    assert_eq!(input.totals().odd.total() as usize, refused);
}
