//! Statistics Reports that are derived from RIBs.

use super::{super::*, announce, append, bytes_of, following, take_all, world};
use crate::wire::{
    bgp::Family,
    bmp::{
        Message, RibView, StatisticType, frames,
        statistics::{StatisticValue, statistics},
    },
};

const IPV4: Family = Family::IPV4_UNICAST;

/// The types and values of one report.
type Gauges = Vec<(u16, Option<Family>, u64)>;

/// Takes the derived reports of all peers.
fn derived(follower: &mut Follower) -> Vec<Gauges> {
    take_all(follower);
    follower.report_derived();
    let reports = bytes_of(&take_all(follower));
    let read = |frame| {
        let Ok(Message::StatisticsReport(peer, counters)) = Message::parse(&frame) else { panic!("{frame:?}") };
        assert_eq!((peer.seconds, peer.microseconds), (0, 0), "the time is not known");
        let gauge = |value: StatisticValue<'_>| match value {
            StatisticValue::Gauge(value) => (None, value),
            StatisticValue::OfFamily(family, value) => (Some(family), value),
            StatisticValue::Counter(_) | StatisticValue::Other(_) => panic!("{value:?}"),
        };
        let gauges = statistics(counters).map(|one| one.unwrap()).map(|one| (one.kind, gauge(one.value)));
        let gauges: Vec<_> = gauges.map(|(kind, (family, value))| (kind.0, family, value)).collect();
        assert!(gauges.iter().all(|(kind, ..)| StatisticType::DERIVED.contains(&StatisticType(*kind))));
        gauges
    };
    frames(&reports).map(|frame| read(frame.unwrap())).collect()
}

#[test]
fn the_number_of_routes_is_derived_once_the_rib_is_whole_and_while_its_daemon_is_silent() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    let mut follower = following(&feed);
    append(&mut input, &[world::up(0, 1), announce(0, 0, 0, 0..3)]);
    assert!(derived(&mut follower).is_empty(), "more routes may come");
    append(&mut input, &[world::end_of_rib(0, RibView::AdjRibInPre, IPV4)]);
    let whole = [(7, None, 3), (9, Some(IPV4), 3), (18, None, 3), (19, Some(IPV4), 3)];
    assert_eq!(derived(&mut follower), [whole]);
    append(&mut input, &[super::withdraw(0, 1..2)]);
    assert_eq!(derived(&mut follower)[0][0], (7, None, 2));
    append(&mut input, &[world::statistics(0, 5)]);
    assert!(derived(&mut follower).is_empty(), "the daemon reports by itself");
    append(&mut input, &[world::up(0, 2), world::end_of_rib(0, RibView::AdjRibInPre, IPV4)]);
    assert_eq!(derived(&mut follower)[0][0], (7, None, 0), "another life");
}

#[test]
fn each_view_has_its_types_and_a_view_that_is_not_whole_or_not_told_has_none() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("frr"));
    let mut follower = following(&feed);
    append(&mut input, &[world::up(0, 1)]);
    for (view, types) in
        [(RibView::AdjRibInPost, [20, 21]), (RibView::AdjRibOutPre, [14, 16]), (RibView::AdjRibOutPost, [15, 17])]
    {
        append(&mut input, &[world::end_of_rib(0, view, IPV4)]);
        let reports = derived(&mut follower);
        let [all, of_family] = types;
        assert!(
            reports[0].contains(&(all, None, 0)) && reports[0].contains(&(of_family, Some(IPV4), 0)),
            "{reports:?}"
        );
    }
    append(&mut input, &[announce(0, 0, 0, 0..3)]);
    assert!(derived(&mut follower)[0].iter().all(|(kind, ..)| ![7, 9, 18, 19].contains(kind)));
    let post = SelectionRule {
        peers: PeerFilter::Input(InputId::relay("frr")),
        ribs: [(IPV4, RibView::AdjRibInPost)].into(),
        filter: None,
    };
    follower.select(Selection { rules: vec![post], ..Selection::default() });
    assert_eq!(derived(&mut follower), [[(20, None, 0), (21, Some(IPV4), 0)]]);
}

#[test]
fn only_relayed_peers_have_derived_reports() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::replay("table"));
    let mut follower = following(&feed);
    append(&mut input, &[world::up(0, 1), world::end_of_rib(0, RibView::AdjRibInPre, IPV4)]);
    assert!(derived(&mut follower).is_empty());
}
