//! `maximum-routes` of a peer.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::world::*;
use crate::{
    config::MaximumRoutes,
    input::{
        bgp::{BgpDownReason, BgpState, PeerStatus},
        budget::HOLD,
    },
    wire::{
        bgp::{
            Family,
            notification::{cease, code},
        },
        bmp::samples,
    },
};

fn limit(routes: u32) -> Option<MaximumRoutes> {
    Some(MaximumRoutes { routes, warning_only: false })
}

fn is_limited(status: &PeerStatus) -> bool {
    status.state == BgpState::Idle && status.reason == Some(BgpDownReason::MaximumRoutes)
}

#[tokio::test(start_paused = true)]
async fn a_peer_beyond_its_limit_gets_the_cease_of_rfc_4486_and_is_left_alone_for_the_hold_time() {
    let mut world = BgpWorld::start(plan());
    world.limit.send_replace(limit(3));
    let mut far = world.established(&TestOpen::default()).await;
    far.send(&announce(&[1, 2, 3])).await;
    world.wait("as many as may be", |status| status.routes == [(Family::IPV4_UNICAST, 3)]).await;
    // The same once more is no further route.
    far.send(&[announce(&[1, 2, 3]), withdraw(&[3]), announce(&[4])].concat()).await;
    far.send(&announce(&[5])).await;
    // AFI 1, SAFI 1, and the limit.
    assert_eq!(far.notification().await, [code::CEASE, cease::MAXIMUM_PREFIXES, 0, 1, 1, 0, 0, 0, 3]);
    let status = world.wait("closed", is_limited).await;
    assert_eq!((status.closed_for_routes, status.routes), (1, Vec::new()));
    assert!(status.last_error.unwrap().contains("the peer had 4 routes, and maximum-routes is 3"));
    assert!(status.retry_in.unwrap() > HOLD - Duration::from_secs(5));
    assert_eq!(world.words().last().unwrap(), "down 1 6/1");

    let since = Instant::now();
    sleep(HOLD / 2).await;
    let mut refused = world.connect().await;
    assert_eq!(refused.expect_notification().await, (code::CEASE, cease::REJECTED));
    assert!(is_limited(&world.status()));
    let mut far = world.established(&TestOpen::default()).await;
    assert!((HOLD - Duration::from_secs(1)..HOLD + Duration::from_secs(1)).contains(&since.elapsed()));
    // The limit holds again.
    far.send(&announce(&[1, 2, 3, 4])).await;
    world.wait("closed again", |status| status.closed_for_routes == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_higher_limit_or_a_reset_ends_the_hold_time_and_a_lower_limit_acts_at_once() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen::default()).await;
    far.send(&announce(&[1, 2, 3])).await;
    world.wait("routes", |status| status.routes == [(Family::IPV4_UNICAST, 3)]).await;
    world.limit.send_replace(limit(3));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.status().state, BgpState::Established);
    world.limit.send_replace(limit(2));
    assert_eq!(far.expect_notification().await, (code::CEASE, cease::MAXIMUM_PREFIXES));
    world.wait("closed", is_limited).await;

    world.limit.send_replace(limit(1));
    sleep(Duration::from_secs(1)).await;
    assert!(is_limited(&world.status()), "it had 3 routes");
    let since = Instant::now();
    world.limit.send_replace(limit(3));
    let mut far = world.established(&TestOpen::default()).await;
    far.send(&announce(&[1, 2, 3, 4])).await;
    world.wait("closed again", is_limited).await;
    world.reset();
    let mut far = world.established(&TestOpen::default()).await;
    assert!(since.elapsed() < Duration::from_secs(60), "{:?}", since.elapsed());
    far.send(&announce(&[1])).await;
    world.wait("a route", |status| status.routes == [(Family::IPV4_UNICAST, 1)]).await;
    // A reset ends a session that is up, too.
    world.reset();
    assert_eq!(far.expect_notification().await, (code::CEASE, cease::RESET));
    world.established(&TestOpen::default()).await;
    assert_eq!(world.status().established_count, 4);
}

#[tokio::test(start_paused = true)]
async fn a_limit_for_a_warning_closes_nothing() {
    let mut world = BgpWorld::start(plan());
    world.limit.send_replace(Some(MaximumRoutes { routes: 1, warning_only: true }));
    let mut far = world.established(&TestOpen::default()).await;
    far.send(&announce(&[1, 2, 3])).await;
    world.wait("routes", |status| status.routes == [(Family::IPV4_UNICAST, 3)]).await;
    sleep(Duration::from_secs(10)).await;
    let status = world.status();
    assert_eq!((status.state, status.closed_for_routes), (BgpState::Established, 0));
    // What it may have is closed beyond the limit, once that is no warning alone.
    world.limit.send_replace(limit(1));
    assert_eq!(far.expect_notification().await, (code::CEASE, cease::MAXIMUM_PREFIXES));
}

#[tokio::test(start_paused = true)]
async fn routes_of_all_families_count_and_one_read_is_the_most_beyond_the_limit() {
    let mut world = BgpWorld::start(plan());
    world.limit.send_replace(limit(100));
    let mut far = world.established(&TestOpen::default()).await;
    let numbers: Vec<u8> = (0..=255).collect();
    // IPv6 unicast, next hop 2001:db8::1, and 2001:db8:N::/48.
    let reach = |numbers: &[u8]| {
        let mut value = vec![0, 2, 1, 16, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        numbers.iter().for_each(|number| value.extend([48, 0x20, 1, 0x0d, 0xb8, 0, *number]));
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        let attributes = [&ATTRIBUTES[..13], &[0x90, 14], &length, &value].concat();
        update(&[], &attributes, &[])
    };
    far.send(&reach(&numbers[..60])).await;
    world.wait("60 routes", |status| status.routes == [(Family::IPV6_UNICAST, 60)]).await;
    far.send(&announce(&numbers[..41])).await;
    // AFI 2, SAFI 1: the family with most routes.
    let data = far.notification().await;
    assert_eq!(data, [code::CEASE, cease::MAXIMUM_PREFIXES, 0, 2, 1, 0, 0, 0, 100]);
    world.wait("closed", is_limited).await;

    world.reset();
    let mut far = world.established(&TestOpen::default()).await;
    let many: Vec<Vec<u8>> = (0..64_u8).map(of_tens).collect();
    // The connection may be closed before all is sent.
    far.try_send(&many.concat()).await;
    let status = world.wait("closed again", |status| status.closed_for_routes == 2).await;
    let words: Vec<_> = status.last_error.unwrap().split(' ').map(str::to_owned).collect();
    let had: usize = words[3].parse().unwrap();
    assert!((101..=100 + 64 * 1024 / 4).contains(&had), "{words:?}");
}

fn has_no_memory(status: &PeerStatus) -> bool {
    status.state == BgpState::Idle && status.reason == Some(BgpDownReason::MemoryLimit)
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_grown_most_gets_out_of_resources_and_waits_until_memory_is_there() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen::default()).await;
    far.send(&announce(&[1])).await;
    world.wait("a route", |status| status.routes == [(Family::IPV4_UNICAST, 1)]).await;
    let before = world.feed.memory();
    world.feed.set_memory_limit(Some(before + 10_000));
    let many: Vec<u8> = (0..4_u8).flat_map(of_tens).collect();
    far.try_send(&many).await;
    assert_eq!(far.notification().await, [code::CEASE, cease::OUT_OF_RESOURCES]);
    let status = world.wait("closed", has_no_memory).await;
    assert_eq!((status.closed_for_memory, status.closed_for_routes, status.routes), (1, 0, Vec::new()));
    assert!(status.retry_in.unwrap() > HOLD - Duration::from_secs(5));
    assert!(status.last_error.unwrap().contains("and its peers had grown most: it is not spoken to for 300 s"));
    assert_eq!(world.words().last().unwrap(), "down 1 6/8");
    assert_eq!(world.feed.memory_standing().borrow().closed, 1);

    // Its time is over, and the feed takes too much still.
    world.feed.set_memory_limit(Some(1));
    sleep(HOLD + Duration::from_secs(10)).await;
    assert!(has_no_memory(&world.status()));
    let mut refused = world.connect().await;
    assert_eq!(refused.expect_notification().await, (code::CEASE, cease::REJECTED));
    // The same limit as before lets it come back after a while.
    world.feed.set_memory_limit(Some(before + 10_000));
    let since = Instant::now();
    let mut far = world.established(&TestOpen::default()).await;
    assert!(since.elapsed() <= Duration::from_secs(31), "{:?}", since.elapsed());
    far.try_send(&many).await;
    world.wait("closed again", has_no_memory).await;

    // A higher limit ends the wait at once, and so does a reset.
    world.feed.set_memory_limit(Some(before + 1_000_000));
    let since = Instant::now();
    let mut far = world.established(&TestOpen::default()).await;
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    far.send(&many).await;
    world.wait("routes", |status| status.routes == [(Family::IPV4_UNICAST, 1024)]).await;
    world.feed.set_memory_limit(Some(before + 10_000));
    world.wait("closed at once", has_no_memory).await;
    world.reset();
    world.established(&TestOpen::default()).await;
    assert_eq!(world.status().established_count, 4);
}

#[tokio::test(start_paused = true)]
async fn the_routes_of_a_peer_that_restarts_go_when_they_have_grown_most() {
    let mut world = BgpWorld::start(plan());
    let restarts = TestOpen { restart: Some((0, 120, true)), ..TestOpen::default() };
    let mut far = world.established(&restarts).await;
    far.send(&announce(&[1, 2, 3])).await;
    world.wait("routes", |status| status.routes == [(Family::IPV4_UNICAST, 3)]).await;
    drop(far);
    world.set_reachable(false);
    world.wait("restarting", |status| status.restart_left.is_some()).await;
    world.feed.set_memory_limit(Some(world.feed.memory() - 1));
    let status = world.wait("no routes", |status| status.routes.is_empty()).await;
    assert_eq!((status.restart_left, status.closed_for_memory), (None, 0));
}

/// Announces 256 routes in one UPDATE.
fn of_tens(high: u8) -> Vec<u8> {
    let nlri: Vec<u8> = (0..=255).flat_map(|low| [24, 10, high, low]).collect();
    let mut body = vec![0, 0, 0, 20];
    body.extend(ATTRIBUTES);
    body.extend(nlri);
    samples::bgp(2, &body)
}
