//! Dumps that have to wait, and what the journal tells meanwhile.

use super::{
    reader::PlainReader,
    world::{FAMILIES, UNKNOWN},
    *,
};

const VIEW: RibView = RibView::AdjRibInPre;

/// Takes everything that there is while dumps may send so many routes.
fn take_paced(follower: &mut Follower, routes: u64) -> Vec<u8> {
    let mut pieces = VecDeque::new();
    follower.allow(Some(routes));
    loop {
        let before = pieces.len();
        follower.take(usize::MAX, &mut pieces);
        if pieces.len() == before {
            return bytes_of(pieces.make_contiguous());
        }
    }
}

/// A feed with two peers of 30 routes each, which leave in 30 messages, and both End-of-RIBs.
fn loaded(feed: &Feed) -> Input {
    let mut input = feed.input(InputId::relay("frr"));
    for peer in [0, 2] {
        append(&mut input, &[world::up(peer, 1)]);
        (0..30).for_each(|route| append(&mut input, &[announce(peer, 1, route.into(), [route])]));
        append(&mut input, &[world::end_of_rib(peer, VIEW, FAMILIES[0])]);
    }
    input
}

#[test]
fn a_paced_dump_sends_as_many_routes_as_it_may_behind_all_peer_ups() {
    let feed = Feed::default();
    let _input = loaded(&feed);
    let mut follower = feed.attach(Selection::default());
    assert_eq!(types_of(&take_paced(&mut follower, 0)), [3, 3]);
    assert!(follower.is_dumping() && follower.waits_for_allowance());
    assert_eq!(take_paced(&mut follower, 0), b"");
    for told in [7, 14] {
        assert_eq!(types_of(&take_paced(&mut follower, 7)), [0; 7]);
        assert_eq!(follower.progress(), Some(DumpProgress { told, total: 60 }));
    }
    assert_eq!((follower.routes_dumped(), follower.cursor()), (14, 64));
    follower.allow(None);
    let rest = bytes_of(&take_all(&mut follower));
    assert_eq!((types_of(&rest), follower.progress()), (vec![0; 48], None), "routes and End-of-RIBs");
    assert!(!follower.is_dumping() && !follower.waits_for_allowance());
}

#[test]
fn changes_pass_while_a_dump_waits_and_are_not_told_again() {
    let feed = Feed::default();
    let mut input = loaded(&feed);
    let mut follower = feed.attach(Selection::default());
    take_paced(&mut follower, 5);
    // Of routes that were told, of routes that were not, of a new peer, and of a RIB that is new.
    let changes = [
        announce(0, 2, 50, [1]),
        announce(0, 2, 50, [20]),
        withdraw(2, [3]),
        world::up(5, 1),
        announce(5, 2, 50, [1]),
        world::update(
            2,
            RibView::AdjRibInPost,
            50,
            2,
            &[UpdatePart {
                family: FAMILIES[0],
                withdrawn: vec![],
                announced: vec![NumberedRoute { prefix: 1, path: 0, variant: 0 }],
            }],
        ),
    ];
    append(&mut input, &changes);
    assert_eq!(take_paced(&mut follower, 0), changes.concat());
    let rest = take_paced(&mut follower, 1000);
    let routes = [(5..20), (21..30)].into_iter().flatten().map(|route| announce(0, 1, route.into(), [route]));
    let of_first = routes.chain([world::end_of_rib(0, VIEW, FAMILIES[0])]).collect::<Vec<_>>().concat();
    assert_eq!(rest[..of_first.len()], of_first);
    assert_eq!(types_of(&rest).len(), 25 + 30, "a route of the second peer is withdrawn");
    assert_eq!((follower.dumps(), follower.falls()), (1, 0));
}

#[test]
fn an_end_of_rib_comes_when_the_rib_is_told() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    append(&mut input, &[world::up(0, 1)]);
    (0..3).for_each(|route| append(&mut input, &[announce(0, 1, route.into(), [route])]));
    let mut follower = feed.attach(Selection::default());
    take_paced(&mut follower, 1);
    let end = world::end_of_rib(0, VIEW, FAMILIES[0]);
    append(&mut input, std::slice::from_ref(&end));
    assert_eq!(take_paced(&mut follower, 0), b"");
    assert_eq!(take_paced(&mut follower, 9), [announce(0, 1, 1, [1]), announce(0, 1, 2, [2]), end.clone()].concat());
    append(&mut input, std::slice::from_ref(&end));
    assert_eq!(take_paced(&mut follower, 0), end, "the RIB is told");
}

#[test]
fn the_journal_is_silent_about_whole_fields_until_they_are_told_in_their_order() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    let field = |route: u8, variant: u8, withdrawn: bool| {
        let routes = vec![NumberedRoute { prefix: route, path: 0, variant }];
        let (withdrawn, announced) = if withdrawn { (routes, vec![]) } else { (vec![], routes) };
        world::update(0, VIEW, 1, 1, &[UpdatePart { family: UNKNOWN, withdrawn, announced }])
    };
    append(&mut input, &[world::up(0, 1)]);
    (0..4).for_each(|route| append(&mut input, &[field(route, 1, false)]));
    let mut follower = feed.attach(Selection::default());
    let (mut early, mut late) = (PlainReader::default(), PlainReader::default());
    early.read(&take_paced(&mut follower, 1));
    append(&mut input, &[field(3, 2, false), field(0, 0, true)]);
    assert_eq!(take_paced(&mut follower, 0), b"");
    let rest = take_paced(&mut follower, 9);
    assert_eq!(types_of(&rest), [0; 5], "three fields, and two changes behind them");
    assert!(rest.ends_with(&field(0, 0, true)));
    early.read(&rest);
    append(&mut input, &[field(1, 2, false)]);
    let last = take_paced(&mut follower, 0);
    assert_eq!(last, field(1, 2, false), "all is told");
    early.read(&last);
    late.read(&dump(&feed));
    assert_eq!(early.peers, late.peers);
}

#[test]
fn a_waiting_dump_needs_no_journal_of_its_length() {
    let feed = Feed::new(2000, 100_000);
    let mut input = loaded(&feed);
    let mut follower = feed.attach(Selection::default());
    take_paced(&mut follower, 5);
    // Much more passes through the journal than it holds.
    for time in 0..200 {
        let change = announce(2, 2, time, [29]);
        append(&mut input, std::slice::from_ref(&change));
        assert_eq!(take_paced(&mut follower, 0), change);
    }
    assert_eq!((follower.falls(), follower.dumps()), (0, 1));
}

#[test]
fn a_station_that_is_too_slow_amid_a_dump_is_told_the_rest_and_what_it_missed() {
    let feed = Feed::new(2000, 100_000);
    let mut input = loaded(&feed);
    let mut follower = feed.attach(Selection::default());
    take_paced(&mut follower, 5);
    append(&mut input, &[withdraw(0, [0]), withdraw(0, [20])]);
    (0..200).for_each(|time| append(&mut input, &[announce(2, 2, time, [29])]));
    assert_eq!(take_paced(&mut follower, 0), b"");
    assert_eq!((follower.falls(), follower.dumps(), follower.progress().unwrap().total), (1, 2, 60));
    let told = take_paced(&mut follower, 1000);
    // The rest of the first peer, what was withdrawn of it in one message, and the second peer.
    assert_eq!(types_of(&told).len(), 24 + 1 + 1 + 30 + 1);
    assert!(!follower.is_dumping());
    let changed = announce(2, 2, 199, [29]);
    assert!(told.windows(changed.len()).any(|bytes| bytes == changed));
}

#[test]
fn another_selection_counts_amid_a_dump_that_waits() {
    let feed = Feed::default();
    let _input = loaded(&feed);
    let mut follower = feed.attach(Selection::default());
    take_paced(&mut follower, 5);
    let only = |peer| PeerFilter::Peer { vpn_instance: None, address: world::address(peer) };
    let rules = vec![SelectionRule { peers: only(2), ribs: vec![], filter: None }];
    follower.select(Selection { rules, ..Selection::default() });
    // The first peer ends at once, and nothing more is told of it.
    assert_eq!(types_of(&take_paced(&mut follower, 0)), [2]);
    assert_eq!(types_of(&take_paced(&mut follower, 1000)), [0; 31]);
}

#[test]
fn an_end_of_rib_is_told_when_two_more_passes_take_over_the_dump() {
    let feed = Feed::default();
    let _input = loaded(&feed);
    let mut follower = feed.attach(Selection::default());
    take_paced(&mut follower, 5);
    follower.select(Selection { mirroring: Mirroring::LeftOut, ..Selection::default() });
    assert_eq!(types_of(&take_paced(&mut follower, 26)), [0; 26], "the first peer, and one route of the second");
    follower.select(Selection::default());
    let rest = take_paced(&mut follower, 1000);
    for peer in [0, 2] {
        let end = world::end_of_rib(peer, VIEW, FAMILIES[0]);
        assert_eq!(rest.windows(end.len()).filter(|bytes| *bytes == end).count(), 1);
    }
    assert_eq!(types_of(&rest).len(), 29 + 2);
}
