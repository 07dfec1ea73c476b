//! End-of-RIB that is said in the stead of a router that does not say it.

use super::{super::*, announce, append, bytes_of, following, take_all, world};
use crate::wire::{
    bgp::Family,
    bmp::{RibView, samples::route},
};

const VIEW: RibView = RibView::AdjRibInPre;

/// End-of-RIB as bmpd says it: when is not known.
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
fn a_rib_that_is_quiet_gets_its_end_once_in_a_life_of_its_peer_live_and_late() {
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
fn what_is_heard_of_a_rib_keeps_it_open_even_if_nothing_changes_by_it() {
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
fn ends_that_were_said_peers_that_were_not_announced_and_other_inputs_are_left_alone() {
    let feed = Feed::default();
    let (mut input, mut other) = (feed.input(InputId::relay("frr")), feed.input(InputId::relay("gobgp")));
    append(&mut input, &[world::up(0, 1), announce(0, 0, 0, 0..3), end(0), world::up(2, 1), route(2, 0)]);
    append(&mut input, &[announce(world::UNANNOUNCED_PEER, 0, 0, 0..3)]);
    append(&mut other, &[world::up(5, 1), announce(5, 0, 0, 0..3)]);
    // The UPDATE of peer 2 withdraws and announces nothing: that is End-of-RIB.
    assert_eq!(input.end_quiet_ribs(input.applied()), 0);
    assert_eq!(other.end_quiet_ribs(other.applied()), 1);
}

#[test]
fn what_an_input_that_is_back_says_again_keeps_a_rib_from_being_quiet_until_then_and_not_for_ever() {
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
