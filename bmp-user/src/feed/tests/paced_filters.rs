//! Filtered RIBs whose dump has to wait.

use super::{
    filters::{NumberedFilter, filtered, routes, told, update},
    *,
};

/// A feed with a peer of nine routes. Of the last six, the odd ones belong to set 1.
fn loaded() -> (Feed, Input) {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    append(&mut input, &[world::up(0, 1), update(1, &[], &[1, 2, 3])]);
    (4..10).for_each(|prefix| append(&mut input, &[update(prefix % 2, &[], &[prefix])]));
    append(&mut input, &[world::end_of_rib(0, RibView::AdjRibInPre, Family::IPV4_UNICAST)]);
    (feed, input)
}

/// Has a follower take everything while dumps may send so many routes.
fn paced(follower: &mut Follower, allowed: u64) -> Vec<i16> {
    follower.allow(Some(allowed));
    routes(follower)
}

#[test]
fn changes_pass_the_filter_while_the_dump_of_the_rib_waits() {
    let (feed, mut input) = loaded();
    let mut station = feed.attach(filtered(&feed, NumberedFilter::Even));
    assert_eq!(paced(&mut station, 1), [2]);
    assert!(station.waits_for_allowance());
    // Told and changed, told and gone, untold and changed, new, and denied.
    append(&mut input, &[update(2, &[], &[2]), update(2, &[], &[6]), update(2, &[], &[0]), update(2, &[], &[3, 5])]);
    assert_eq!(paced(&mut station, 0), [0, 2, 6]);
    append(&mut input, &[update(0, &[2, 6], &[])]);
    assert_eq!(paced(&mut station, 0), [-6, -2]);
    assert_eq!((station.lag_bytes(), station.dumps()), (0, 1));
    station.allow(None);
    let (types, mut rest) = told(&mut station);
    rest.sort_unstable();
    assert_eq!(rest, [4, 8], "what the journal told is not told again");
    assert_eq!(types.len(), 2, "one message, and the End-of-RIB");
}

#[test]
fn the_end_of_a_filtered_rib_comes_when_the_rib_is_told() {
    let (feed, mut input) = loaded();
    let end = world::end_of_rib(0, RibView::AdjRibInPre, Family::IPV4_UNICAST);
    let mut station = feed.attach(filtered(&feed, NumberedFilter::Even));
    assert_eq!(paced(&mut station, 1), [2]);
    append(&mut input, &[world::end_of_rib(0, RibView::AdjRibInPre, Family::IPV4_UNICAST)]);
    station.allow(Some(0));
    assert_eq!(bytes_of(&take_all(&mut station)), b"");
    station.allow(None);
    let rest = bytes_of(&take_all(&mut station));
    assert!(rest.ends_with(&end));
    assert_eq!(rest.windows(end.len()).filter(|bytes| *bytes == end).count(), 1);
}

#[test]
fn a_filter_that_changes_amid_a_dump_takes_back_what_was_told_and_tells_the_rest() {
    let (feed, mut input) = loaded();
    let mut station = feed.attach(filtered(&feed, NumberedFilter::Even));
    assert_eq!(paced(&mut station, 2), [2, 4, 6, 8]);
    station.select(filtered(&feed, NumberedFilter::Mixture));
    let first = paced(&mut station, 1);
    // While the difference waits, its RIB is held.
    append(&mut input, &[update(1, &[], &[8]), update(0, &[7], &[])]);
    assert_eq!(paced(&mut station, 0), Vec::<i16>::new());
    station.allow(None);
    let (types, rest) = told(&mut station);
    assert!(types.iter().all(|kind| *kind == MessageType::RouteMonitoring), "{types:?}");
    let mut known = std::collections::BTreeSet::from([2, 4, 6, 8]);
    for route in first.into_iter().chain(rest) {
        if route < 0 {
            known.remove(&-route);
        } else {
            known.insert(route);
        }
    }
    assert_eq!(known.into_iter().collect::<Vec<_>>(), [1, 2, 3, 5, 8, 9]);
    append(&mut input, &[update(1, &[], &[6]), update(1, &[8], &[])]);
    assert_eq!(routes(&mut station), [-8, 6], "the RIB is told, and live");
}

#[test]
fn a_route_that_is_denied_and_then_gone_while_a_pass_waits_is_withdrawn() {
    let (feed, mut input) = loaded();
    let mut station = feed.attach(filtered(&feed, NumberedFilter::NotFirstSet));
    assert_eq!(routes(&mut station), [1, 2, 3, 5, 7, 9]);
    // Behind its share of the journal, the station needs a pass, which has to wait.
    station.limit_lag(Some(0));
    append(&mut input, &[update(0, &[], &[2, 3])]);
    assert_eq!(paced(&mut station, 0), Vec::<i16>::new());
    station.limit_lag(None);
    append(&mut input, &[update(0, &[2], &[3])]);
    station.allow(None);
    assert_eq!(routes(&mut station), [-3, -2]);
    append(&mut input, &[update(0, &[3], &[])]);
    assert_eq!(routes(&mut station), Vec::<i16>::new(), "the station does not have it any more");
}

#[test]
fn a_route_that_is_denied_and_then_gone_between_two_reads_is_withdrawn() {
    let (feed, mut input) = loaded();
    let mut station = feed.attach(filtered(&feed, NumberedFilter::NotFirstSet));
    assert_eq!(routes(&mut station), [1, 2, 3, 5, 7, 9]);
    append(&mut input, &[world::statistics(0, 1), update(0, &[], &[2])]);
    let mut statistics = VecDeque::new();
    station.take(1, &mut statistics);
    assert_eq!(bytes_of(&Vec::from(statistics)), world::statistics(0, 1));
    append(&mut input, &[update(0, &[2], &[])]);
    assert_eq!(routes(&mut station), [-2]);
}

#[test]
fn a_new_route_that_a_walk_has_told_is_taken_back_by_a_filter_that_comes_amid_the_walk() {
    let (feed, mut input) = loaded();
    let mut station = feed.attach(filtered(&feed, NumberedFilter::Even));
    assert_eq!(routes(&mut station), [2, 4, 6, 8]);
    append(&mut input, &[update(0, &[8], &[])]);
    assert_eq!(routes(&mut station), [-8]);
    station.limit_lag(Some(0));
    append(&mut input, &[update(2, &[], &[8])]);
    assert_eq!(paced(&mut station, 1), [8]);
    station.limit_lag(None);
    station.select(filtered(&feed, NumberedFilter::Mixture));
    station.allow(None);
    assert_eq!(routes(&mut station), [-8, -6, -4, 1, 2, 3, 5, 7, 9]);
}
