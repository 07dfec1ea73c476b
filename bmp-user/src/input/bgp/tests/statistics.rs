//! Statistics Reports on BGP peers: what they prove.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::sleep;

use super::world::*;
use crate::{
    config::MaximumRoutes,
    wire::{
        bgp::Family,
        bmp::{
            Message, StatisticType, frames,
            statistics::{StatisticValue, statistics},
        },
    },
};

/// Returns the values of the next report that a station gets, of IPv4 unicast and of all families.
async fn report(world: &mut BgpWorld) -> BTreeMap<u16, u64> {
    world.take_frames();
    world.statistics.send_replace(Duration::from_secs(30));
    sleep(Duration::from_secs(31)).await;
    world.statistics.send_replace(Duration::ZERO);
    let sent = world.take_frames();
    let value = |value: &StatisticValue<'_>| match *value {
        StatisticValue::Counter(value) => Some(value.into()),
        StatisticValue::Gauge(value) | StatisticValue::OfFamily(Family::IPV4_UNICAST, value) => Some(value),
        StatisticValue::OfFamily(..) | StatisticValue::Other(_) => None,
    };
    let frame = frames(sent.last().expect("a report")).next().unwrap().unwrap();
    let Ok(Message::StatisticsReport(_, counters)) = Message::parse(&frame) else { panic!("{frame:?}") };
    let all = statistics(counters).map(|statistic| statistic.unwrap());
    all.filter_map(|statistic| Some((statistic.kind.0, value(&statistic.value)?))).collect()
}

fn of(report: &BTreeMap<u16, u64>, kinds: [StatisticType; 3]) -> [Option<u64>; 3] {
    kinds.map(|kind| report.get(&kind.0).copied())
}

const DUPLICATES: [StatisticType; 3] =
    [StatisticType::DUPLICATE_ADVERTISEMENTS, StatisticType::DUPLICATE_WITHDRAWS, StatisticType::DUPLICATE_UPDATES];

#[tokio::test(start_paused = true)]
async fn routes_and_withdrawals_that_come_again_are_counted() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen { hold: 0, ..TestOpen::default() }).await;
    far.send(&announce(&[1, 2, 3])).await;
    far.send(&announce(&[2, 3])).await;
    far.send(&announce(&[3, 4])).await;
    far.send(&update(&prefixes(&[9]), &[], &[])).await;
    far.send(&update(&prefixes(&[1, 9]), &[], &[])).await;
    world.wait("all", |status| status.routes == [(Family::IPV4_UNICAST, 3)]).await;
    assert_eq!(of(&report(&mut world).await, DUPLICATES), [Some(3), Some(2), Some(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_told_by_the_routes_that_are_left() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen { hold: 0, ..TestOpen::default() }).await;
    far.send(&announce(&[1, 2, 3])).await;
    world.wait("all", |status| status.routes == [(Family::IPV4_UNICAST, 3)]).await;
    let left = StatisticType::LEFT_BEFORE_LIMIT.0;
    assert_eq!(report(&mut world).await.get(&left), None);
    world.limit.send_replace(Some(MaximumRoutes { routes: 10, warning_only: true }));
    assert_eq!(report(&mut world).await.get(&left), Some(&7));
    world.limit.send_replace(Some(MaximumRoutes { routes: 2, warning_only: true }));
    assert_eq!(report(&mut world).await.get(&left), Some(&0));
}

#[tokio::test(start_paused = true)]
async fn what_a_peer_must_say_again_after_a_restart_is_stale_and_no_duplicate() {
    let hello = |flags| TestOpen { hold: 0, restart: Some((flags, 120, true)), ..TestOpen::default() };
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&hello(0)).await;
    far.send(&[announce(&[1, 2, 3]), end_of_rib(Family::IPV4_UNICAST)].concat()).await;
    world.wait("three routes", |status| status.routes == [(Family::IPV4_UNICAST, 3)]).await;
    assert_eq!(report(&mut world).await.get(&StatisticType::STALE_OF_FAMILY.0), Some(&0));
    drop(far);
    world.wait("restarting", |status| status.restart_left.is_some()).await;
    let mut far = world.established(&hello(8)).await;
    far.send(&announce(&[1, 2])).await;
    world.wait("one left", |status| status.stale == 1).await;
    let told = report(&mut world).await;
    assert_eq!(told.get(&StatisticType::STALE_OF_FAMILY.0), Some(&1));
    assert_eq!(of(&told, DUPLICATES), [Some(0); 3]);
    far.send(&end_of_rib(Family::IPV4_UNICAST)).await;
    world.wait("none left", |status| status.stale == 0).await;
    far.send(&announce(&[1])).await;
    world.take_frames();
    sleep(Duration::from_secs(1)).await;
    let told = report(&mut world).await;
    assert_eq!(told.get(&StatisticType::STALE_OF_FAMILY.0), Some(&0));
    assert_eq!(of(&told, DUPLICATES), [Some(1), Some(0), Some(1)]);
}
