//! End-of-RIB in the stead of a router that does not send it.

use super::{super::*, announce, append, bytes_of, following, take_all, world};
use crate::wire::{
    bgp::Family,
    bmp::{RibView, samples::route},
};

const VIEW: RibView = RibView::AdjRibInPre;

/// End-of-RIB in bmpd's own name, without a time.
fn end(peer: u8) -> Vec<u8> {
    let mut frame = world::end_of_rib(peer, VIEW, Family::IPV4_UNICAST);
    frame[40..44].fill(0);
    frame[44..48].fill(0);
    frame
}

fn told(follower: &mut Follower) -> Vec<u8> {
    bytes_of(&take_all(follower))
}

#[test]
fn a_quiet_rib_gets_one_end_of_rib_in_a_life_of_its_peer() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    let mut live = following(&feed);
    append(&mut input, &[world::up(0, 1), announce(0, 0, 0, 0..3)]);
    told(&mut live);
    assert_eq!(input.end_quiet_ribs(1), 0, "its routes came since");
    assert_eq!(input.end_quiet_ribs(input.applied()), 1);
    assert_eq!(told(&mut live), end(0));
    assert!(told(&mut feed.attach(Selection::default())).ends_with(&end(0)));
    append(&mut input, &[announce(0, 1, 0, 3..4)]);
    assert_eq!(input.end_quiet_ribs(input.applied()), 0, "it had its end");
    append(&mut input, &[world::up(0, 2), announce(0, 0, 0, 0..3)]);
    assert_eq!(input.end_quiet_ribs(input.applied()), 1, "another life");
}

#[test]
fn frames_keep_a_rib_open_even_if_they_change_nothing() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    append(&mut input, &[world::up(0, 1), announce(0, 0, 0, 0..3)]);
    let since = input.applied();
    append(&mut input, &[super::withdraw(0, 9..10)]);
    assert_eq!(input.end_quiet_ribs(since), 0);
    append(&mut input, &[world::statistics(0, 1)]);
    assert_eq!(input.end_quiet_ribs(since + 1), 1, "statistics are not about a RIB");
}

#[test]
fn only_announced_peers_of_the_connection_without_an_end_of_rib_get_one() {
    let feed = Feed::default();
    let (mut input, mut other) = (feed.input(InputId::relay("frr")), feed.input(InputId::relay("gobgp")));
    append(&mut input, &[world::up(0, 1), announce(0, 0, 0, 0..3), end(0), world::up(2, 1), route(2, 0)]);
    append(&mut input, &[announce(world::UNANNOUNCED_PEER, 0, 0, 0..3)]);
    append(&mut other, &[world::up(5, 1), announce(5, 0, 0, 0..3)]);
    // The UPDATE of peer 2 withdraws and announces nothing, so it is an End-of-RIB.
    assert_eq!(input.end_quiet_ribs(input.applied()), 0);
    assert_eq!(other.end_quiet_ribs(other.applied()), 1);
}

#[test]
fn repeated_routes_of_a_returned_input_delay_the_end_of_rib_and_do_not_prevent_it() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    append(&mut input, &[world::up(2, 1), announce(2, 1, 1, 0..10)]);
    let _held = input.hold();
    let mut input = feed.input(InputId::relay("frr"));
    append(&mut input, &[world::up(2, 1)]);
    let since = input.applied();
    append(&mut input, &[announce(2, 1, 1, 0..4)]);
    assert_eq!(input.end_quiet_ribs(since), 0, "something came");
    assert_eq!(input.end_quiet_ribs(input.applied()), 1);
}
