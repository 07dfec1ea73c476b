//! Routers of a divided relay: each is an input of its own, and a station may be told one alone.

use std::{collections::VecDeque, net::IpAddr};

use super::{super::*, world};
use crate::{feed::incarnation::ConnectionId, wire::bmp::BmpChunk};

const PEER: u8 = 1;

fn connect(feed: &Feed, address: [u8; 4], sys_name: &str) -> Input {
    let mut input = feed.input(InputId::relay("front"));
    let remote = (IpAddr::from(address), 5000).into();
    input.divide("front", RouterConnection { remote, local: None });
    input.introduce(Some(sys_name), Some("a router"));
    input
}

fn say(input: &mut Input, frame: &[u8]) -> Option<ConnectionId> {
    input.offer(&BmpChunk::built(frame.into())).map(|claim| claim.owner)
}

fn told(follower: &mut Follower) -> Vec<u8> {
    let mut pieces = VecDeque::new();
    while {
        let before = pieces.len();
        follower.take(1000, &mut pieces);
        pieces.len() > before
    } {}
    pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect()
}

fn of_router(feed: &Feed, name: &str) -> Follower {
    let routers = feed.routers();
    let id = routers.borrow().routers().keys().find(|id| id.sys_name.as_deref() == Some(name)).cloned().unwrap();
    feed.attach(Selection { inputs: SelectedInputs::Router(id), ..Selection::default() })
}

#[test]
fn routers_with_peers_that_look_the_same_hide_and_claim_none_of_each_other() {
    let feed = Feed::default();
    let mut edge1 = connect(&feed, [192, 0, 2, 1], "edge1");
    let mut edge2 = connect(&feed, [192, 0, 2, 1], "edge2");
    let (mut first, mut second) = (of_router(&feed, "edge1"), of_router(&feed, "edge2"));
    assert!(told(&mut first).is_empty() && told(&mut second).is_empty());
    let (up, other_up) = (world::up(PEER, 0), world::up(PEER, 1));
    assert_eq!(say(&mut edge1, &up), None);
    assert_eq!(say(&mut edge2, &other_up), None, "it is no claim");
    for _ in 0..2 {
        assert_eq!(told(&mut first), up);
        assert_eq!(told(&mut second), other_up);
        // Late stations know the same.
        (first, second) = (of_router(&feed, "edge1"), of_router(&feed, "edge2"));
    }
    assert!((told(&mut first), told(&mut second)) == (up, other_up.clone()));
    assert!(first.hidden_peers().is_empty() && second.hidden_peers().is_empty());
    drop(edge1);
    assert!(!told(&mut first).is_empty(), "a Peer Down");
    assert!(told(&mut second).is_empty());
    assert_eq!(feed.ribs(&InputId::relay("front")).len(), 0);
    assert_eq!(feed.peers().len(), 1);
    assert!(InputId::relay("front").has(feed.peers()[0].input()));
}

#[test]
fn two_connections_of_one_router_claim_the_same_peers_and_one_router_returns_to_its_own() {
    let feed = Feed::default();
    let mut first = connect(&feed, [192, 0, 2, 1], "edge1");
    let mut again = connect(&feed, [192, 0, 2, 1], "edge1");
    let up = world::up(PEER, 0);
    assert_eq!(say(&mut first, &up), None);
    assert_eq!(say(&mut again, &up), Some(first.connection()));
    let mut station = of_router(&feed, "edge1");
    assert_eq!(told(&mut station), up);
    let held = first.hold();
    assert_eq!(say(&mut again, &up), None);
    drop(held);
    assert!(told(&mut station).is_empty(), "the peer has returned");
    assert_eq!(feed.routers().borrow().routers().len(), 1);
    drop(again);
    assert!(feed.routers().borrow().routers().is_empty());
}

#[test]
fn a_router_that_speaks_about_peers_before_its_initiation_keeps_them() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("front"));
    let remote = ([192, 0, 2, 1], 5000).into();
    input.divide("front", RouterConnection { remote, local: None });
    say(&mut input, &world::up(PEER, 0));
    input.introduce(Some("edge1"), None);
    let names: Vec<_> = feed.routers().borrow().routers().keys().map(|id| id.sys_name.clone()).collect();
    assert_eq!(names, [None]);
    let id = Arc::clone(feed.routers().borrow().routers().keys().next().unwrap());
    let mut station = feed.attach(Selection { inputs: SelectedInputs::Router(id), ..Selection::default() });
    assert_eq!(told(&mut station), world::up(PEER, 0));
}

#[test]
fn routers_that_are_gone_for_good_are_forgotten() {
    let feed = Feed::default();
    let mut staying = connect(&feed, [192, 0, 2, 1], "staying");
    say(&mut staying, &world::up(PEER, 0));
    let mut away = connect(&feed, [192, 0, 2, 2], "held");
    say(&mut away, &world::up(PEER, 0));
    let held = away.hold();
    for number in 0..10_000 {
        drop(connect(&feed, [192, 0, 2, 3], &number.to_string()));
    }
    assert!(feed.0.lock().inputs.remembered() < 4000);
    // Their numbers are not given away: what they return to is theirs.
    let mut back = connect(&feed, [192, 0, 2, 2], "held");
    let mut station = of_router(&feed, "held");
    assert_eq!(told(&mut station), world::up(PEER, 0));
    assert_eq!(say(&mut back, &world::up(PEER, 0)), None);
    drop(held);
    assert!(told(&mut station).is_empty());
}
