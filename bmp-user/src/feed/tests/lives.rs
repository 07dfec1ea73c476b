//! Peers come up, go down, are held and return. A station may be unable to tell two peers apart.

use super::{
    super::*,
    announce, append, bytes_of, down_of, dump, following, take_all, types_of, withdraw,
    world::{self, NumberedRoute, UpdatePart},
};
use crate::wire::{
    bgp::Family,
    bmp::{MessageType, PeerType, RibView, peer_down_reason, samples::*},
};

#[test]
fn a_peer_up_for_another_view_is_the_same_life_and_is_told_to_all_stations() {
    let feed = Feed::new(300, 1 << 20);
    let mut input = feed.input(InputId::relay("router"));
    let (pre, post) = (world::up(0, 1), world::up_of_view(0, 1, 1));
    assert_ne!(pre, post);
    append(&mut input, &[pre.clone(), announce(0, 0, 0, 0..3)]);
    let mut behind = following(&feed);
    append(&mut input, &[post.clone(), announce(0, 1, 0, 3..4), announce(0, 2, 0, 4..5), announce(0, 3, 0, 5..6)]);
    append(&mut input, &[announce(0, 0, 1, 6..7)]);
    assert_eq!(feed.stats().routes, 7);
    assert_eq!(types_of(&dump(&feed))[..2], [3, 3], "both come first");
    assert!(dump(&feed).starts_with(&[pre, post.clone()].concat()));
    let told = bytes_of(&take_all(&mut behind));
    assert_eq!(behind.falls(), 1);
    assert!(told.starts_with(&post), "what it lacks comes first");
    assert!(!types_of(&told).contains(&2), "and nothing is taken down");
}

#[test]
fn a_loc_rib_that_is_announced_for_each_family_has_one_life_if_its_time_says_so() {
    let up = |time: u32, my_as: u8| {
        let mut up = world::up(world::LOC_RIB_PEER, 0);
        up[40..44].copy_from_slice(&time.to_be_bytes());
        // In the sent OPEN, behind its header and version.
        up[68 + 19 + 2] = my_as;
        up
    };
    let routes = (0..3).map(|prefix| NumberedRoute { prefix, path: 0, variant: 0 }).collect();
    let part = UpdatePart { family: Family::IPV4_UNICAST, withdrawn: vec![], announced: routes };
    let routes = world::update(world::LOC_RIB_PEER, RibView::LocRib, 0, 0, &[part]);
    for (time, kept) in [(7, 3), (0, 0)] {
        let feed = Feed::default();
        let mut input = feed.input(InputId::relay("router"));
        let mut follower = following(&feed);
        append(&mut input, &[up(time, 1), routes.clone(), up(time, 2)]);
        assert_eq!(feed.stats().routes, kept);
        let told = types_of(&bytes_of(&take_all(&mut follower)));
        assert_eq!(told, if kept > 0 { vec![3, 0, 3] } else { vec![3, 0, 2, 3] }, "an end of a life is told");
    }
}

#[test]
fn a_loc_rib_that_is_announced_for_each_table_has_one_life_whatever_the_times() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("router"));
    let mut follower = following(&feed);
    let ups = [0, 1, 2].map(|table| world::up_at(world::LOC_RIB_PEER, 0, table, table as u32));
    append(&mut input, &ups);
    assert_eq!(bytes_of(&take_all(&mut follower)), ups.concat());
    assert_eq!(dump(&feed), ups.concat());
}

#[test]
fn a_peer_up_that_differs_in_its_time_alone_is_no_news() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("router"));
    append(&mut input, &[world::up_at(2, 1, 0, 1), announce(2, 1, 1, 0..3)]);
    let mut follower = following(&feed);
    for time in 2..100 {
        append(&mut input, &[world::up_at(2, 1, 0, time)]);
    }
    assert_eq!(bytes_of(&take_all(&mut follower)), b"");
    assert_eq!(dump(&feed), [world::up_at(2, 1, 0, 1), announce(2, 1, 1, 0..3)].concat());
    // Also after a reconnect.
    let _held = input.hold();
    let mut input = feed.input(InputId::relay("router"));
    append(&mut input, &[world::up_at(2, 1, 0, 100), announce(2, 1, 1, 0..3), announce(2, 1, 1, [9])]);
    assert_eq!(bytes_of(&take_all(&mut follower)), announce(2, 1, 1, [9]));
}

#[test]
fn the_end_of_every_life_is_told_before_the_next_one_begins() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("router"));
    let mut follower = following(&feed);
    append(&mut input, &[announce(2, 1, 1, 0..3), world::up(2, 1), announce(2, 1, 1, 0..2), world::up(2, 5)]);
    let told = bytes_of(&take_all(&mut follower));
    assert_eq!(types_of(&told), [0, 2, 3, 0, 2, 3]);
    assert_eq!(dump(&feed), world::up(2, 5));
}

#[test]
fn a_further_peer_up_with_other_path_identifiers_does_not_change_the_reading() {
    // A station takes it for the same session. It has the capability ADD-PATH (RFC 7911 §4), or an
    // unknown one.
    let up = |capability: u8| {
        let (plain, with_open) = (world::up(world::LOC_RIB_PEER, 0), world::up(world::ADD_PATH_PEER, 0));
        let mut header = plain[6..48].to_vec();
        header[34..38].copy_from_slice(&7u32.to_be_bytes());
        let mut body = with_open[48..].to_vec();
        for at in 0..body.len() - 1 {
            if body[at..at + 2] == [69, 4 * world::FAMILIES.len() as u8] {
                body[at] = capability;
            }
        }
        frame(3, &[header, body].concat())
    };
    let routes = (0..3).map(|prefix| NumberedRoute { prefix, path: 0, variant: 0 }).collect();
    let part = UpdatePart { family: Family::IPV4_UNICAST, withdrawn: vec![], announced: routes };
    let routes = world::update(world::LOC_RIB_PEER, RibView::LocRib, 0, 0, &[part]);
    let feed = Feed::default();
    let mut follower = following(&feed);
    let mut input = feed.input(InputId::relay("router"));
    append(&mut input, &[up(200), routes.clone(), up(69)]);
    let told = bytes_of(&take_all(&mut follower));
    assert_eq!(told, [up(200), routes.clone(), up(69)].concat());
    assert_eq!(feed.stats().routes, 3);
    assert_eq!(dump(&feed), [up(200), up(69), routes].concat());
}

#[test]
fn an_unannounced_look_alike_of_another_inputs_peer_is_not_told() {
    let feed = Feed::default();
    let (mut frr, mut gobgp) = (feed.input(InputId::relay("frr")), feed.input(InputId::relay("gobgp")));
    let mut follower = following(&feed);
    let said = [world::statistics(2, 1), world::mirrored(2), world::down(2, 1)];
    append(&mut gobgp, &said);
    assert_eq!(bytes_of(&take_all(&mut follower)), said.concat(), "there is none");
    append(&mut frr, &[world::up(2, 1), announce(2, 1, 1, 0..3)]);
    take_all(&mut follower);
    append(&mut gobgp, &said);
    assert_eq!(bytes_of(&take_all(&mut follower)), b"");
    append(&mut frr, &[world::statistics(2, 2)]);
    assert_eq!(bytes_of(&take_all(&mut follower)), world::statistics(2, 2));
}

#[test]
fn an_input_that_goes_away_takes_its_peers_with_it() {
    let feed = Feed::default();
    let mut going = feed.input(InputId::relay("frr"));
    let mut staying = feed.input(InputId::relay("gobgp"));
    let loc_rib = peer_up_of(&peer_header(1, PeerType::LOC_RIB, 0), 1, &[(3, b"vrf1")]);
    append(&mut going, &[peer_up(2, 1), loc_rib.clone(), peer_up(1, 1)]);
    append(&mut staying, &[peer_up(4, 1)]);
    let mut follower = following(&feed);
    drop(going);
    let expected = [peer_up(2, 1), loc_rib, peer_up(1, 1)].map(|up| down_of(&up));
    let pieces = take_all(&mut follower);
    assert_eq!(bytes_of(&pieces), expected.concat());
    assert_eq!(pieces[0].counts.of(MessageType::PeerDown), 3);
    let reasons = [peer_down_reason::DE_CONFIGURED, peer_down_reason::LOCAL_SYSTEM_CLOSED];
    assert_eq!([expected[0][48], expected[1][48]], reasons);
    assert_eq!(dump(&feed), peer_up(4, 1));
}

#[test]
fn of_two_look_alikes_the_first_is_told_and_the_other_when_that_is_gone() {
    let feed = Feed::default();
    let (mut one, mut other) = (feed.input(InputId::relay("one")), feed.input(InputId::relay("other")));
    let mut follower = following(&feed);
    append(&mut one, &[world::up(2, 1), announce(2, 1, 1, [1])]);
    append(&mut other, &[world::up(2, 5), announce(2, 1, 1, [2])]);
    assert_eq!(bytes_of(&take_all(&mut follower)), [world::up(2, 1), announce(2, 1, 1, [1])].concat());
    assert_eq!(follower.hidden_peers().len(), 1);
    assert_eq!(dump(&feed), [world::up(2, 1), announce(2, 1, 1, [1])].concat(), "who comes late is told the same");
    append(&mut other, &[announce(2, 1, 1, [3])]);
    drop(one);
    let expected = [down_of(&world::up(2, 1)), world::up(2, 5), announce(2, 1, 1, [2, 3])].concat();
    assert_eq!(bytes_of(&take_all(&mut follower)), expected);
    assert_eq!((follower.hidden_peers().len(), follower.falls()), (0, 0), "and it was not too slow for anything");
    let relay = Selection {
        rules: vec![SelectionRule { peers: PeerFilter::Input(InputId::relay("one")), ribs: vec![], filter: None }],
        ..Selection::default()
    };
    assert_eq!(bytes_of(&take_all(&mut feed.attach(relay))), b"");
}

#[test]
fn a_station_that_selects_a_part_of_a_message_is_told_that_part() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("router"));
    append(&mut input, &[world::up(0, 1)]);
    let part = |family| {
        let announced = vec![NumberedRoute { prefix: 1, path: 0, variant: 0 }];
        UpdatePart { family, withdrawn: vec![], announced }
    };
    let update = |parts: &[UpdatePart]| world::update(0, RibView::AdjRibInPre, 1, 1, parts);
    let of_ipv6 = SelectionRule {
        peers: PeerFilter::Public,
        ribs: vec![(Family::IPV6_UNICAST, RibView::AdjRibInPre)],
        filter: None,
    };
    let selection = Selection { rules: vec![of_ipv6], ..Selection::default() };
    let mut follower = feed.attach(selection.clone());
    take_all(&mut follower);
    append(&mut input, &[update(&[part(Family::IPV4_UNICAST), part(Family::IPV6_UNICAST)])]);
    let told = bytes_of(&take_all(&mut follower));
    assert_eq!(types_of(&told), [0]);
    let late = bytes_of(&take_all(&mut feed.attach(selection)));
    assert_eq!([world::up(0, 1), told].concat(), late);
    assert_eq!((follower.dumps(), follower.falls()), (2, 0));
}

#[test]
fn many_peers_of_an_input_that_goes_away_are_taken_back_in_pieces_of_bounded_size() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    let mut header = peer_header(1, PeerType::GLOBAL, 0);
    for number in 0..5000u16 {
        header[22..24].copy_from_slice(&number.to_be_bytes());
        append(&mut input, &[peer_up_of(&header, 1, &[])]);
    }
    let mut follower = following(&feed);
    drop(input);
    let pieces = take_all(&mut follower);
    assert!(pieces.iter().all(|piece| piece.bytes.len() < 70_000) && pieces.len() > 2);
    assert_eq!(types_of(&bytes_of(&pieces)), [2; 5000]);
}

#[test]
fn an_input_that_returns_in_time_tells_only_differences() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    let end = world::end_of_rib(2, RibView::AdjRibInPre, Family::IPV4_UNICAST);
    append(&mut input, &[world::up(2, 1), announce(2, 1, 1, 0..11), end.clone(), world::up(0, 1)]);
    let mut follower = following(&feed);
    let held = input.hold();
    let mut input = feed.input(InputId::relay("frr"));
    append(&mut input, &[world::up(2, 1), announce(2, 1, 7, 0..4)]);
    assert_eq!(bytes_of(&take_all(&mut follower)), b"", "that was known");
    append(&mut input, &[announce(2, 2, 7, [5]), end, announce(2, 1, 8, [7])]);
    let told = bytes_of(&take_all(&mut follower));
    let mut withdrawn = withdraw(2, [4, 6, 7, 8, 9, 10]);
    withdrawn[40..48].fill(0);
    assert_eq!(told, [announce(2, 2, 7, [5]), withdrawn, announce(2, 1, 8, [7])].concat());
    drop(held);
    assert_eq!(bytes_of(&take_all(&mut follower)), down_of(&world::up(0, 1)), "this one is not back");
    append(&mut input, &[announce(2, 1, 8, [7])]);
    assert_eq!(bytes_of(&take_all(&mut follower)), announce(2, 1, 8, [7]), "and from here on everything is passed on");
}

#[test]
fn a_peer_that_returns_as_another_one_is_taken_down_first() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    append(&mut input, &[world::up(2, 1), announce(2, 1, 1, 0..10)]);
    let mut follower = following(&feed);
    let _held = input.hold();
    let mut input = feed.input(InputId::relay("frr"));
    append(&mut input, &[world::up(2, 9)]);
    assert_eq!(bytes_of(&take_all(&mut follower)), [down_of(&world::up(2, 1)), world::up(2, 9)].concat());
    assert_eq!(feed.stats().routes, 0);
}
