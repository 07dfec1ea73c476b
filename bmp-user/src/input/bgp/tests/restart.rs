//! Graceful restart (RFC 4724, RFC 8538), and enhanced route refresh (RFC 7313).

use std::{net::Ipv4Addr, time::Duration};

use bytes::BytesMut;
use tokio::time::sleep;

use super::world::*;
use crate::{
    input::bgp::BgpState,
    wire::bgp::{Family, notification::cease, route_refresh},
};

/// An OPEN with graceful restart and a restart time of 120 s.
fn hello(flags: u8) -> TestOpen {
    TestOpen { restart: Some((flags, 120, true)), ..TestOpen::default() }
}

async fn up_with_routes(world: &mut BgpWorld, hello: &TestOpen) -> TestRouter {
    let mut far = world.established(hello).await;
    far.send(&[announce(&[1, 2, 3]), end_of_rib(Family::IPV4_UNICAST)].concat()).await;
    world.wait("three routes", |status| status.routes.first().is_some_and(|(_, routes)| *routes == 3)).await;
    assert_eq!(world.words(), ["up", "+1 +2 +3", "eor IPv4 unicast"]);
    far
}

#[tokio::test(start_paused = true)]
async fn routes_stay_during_a_restart_and_go_if_not_announced_again() {
    let mut world = BgpWorld::start(plan());
    drop(up_with_routes(&mut world, &hello(0)).await);
    let status = world.wait("restarting", |status| status.restart_left.is_some()).await;
    assert!(status.restart_left.unwrap() <= Duration::from_secs(120));
    assert_eq!((world.words(), world.routes(Family::IPV4_UNICAST)), (vec![], 3));

    let mut far = world.established(&hello(8)).await;
    assert_eq!(world.words(), ["down 4", "up", "+1 +2 +3"], "a station gets the new session and the routes that stay");
    assert_eq!((world.status().stale, world.status().restart_left), (3, None));
    far.send(&announce(&[2, 4])).await;
    world.wait("two left", |status| status.stale == 2).await;
    assert_eq!(world.routes(Family::IPV4_UNICAST), 4);
    far.send(&end_of_rib(Family::IPV4_UNICAST)).await;
    world.wait("none left", |status| status.stale == 0).await;
    assert_eq!(world.words(), ["+2 +4", "-1 -3", "eor IPv4 unicast"]);
    assert_eq!(world.routes(Family::IPV4_UNICAST), 2);
    // The peer waits for our End-of-RIB before it announces its routes (RFC 4724 §4.1).
    world.stop(cease::SHUTDOWN).await;
    far.expect_notification().await;
    assert_eq!(far.ended, [Family::IPV4_UNICAST, Family::IPV6_UNICAST]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_return_in_time_is_down_for_the_first_reason() {
    let mut world = BgpWorld::start(plan());
    drop(up_with_routes(&mut world, &hello(0)).await);
    world.set_reachable(false);
    sleep(Duration::from_secs(119)).await;
    assert_eq!((world.words(), world.routes(Family::IPV4_UNICAST)), (vec![], 3));
    sleep(Duration::from_secs(2)).await;
    assert_eq!((world.words(), world.routes(Family::IPV4_UNICAST)), (vec!["down 4".to_owned()], 0));
    world.set_reachable(true);
    world.established(&hello(8)).await;
    assert_eq!(world.words(), ["up"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_returns_without_its_routes_or_identifier_starts_over() {
    let without = TestOpen { restart: Some((8, 120, false)), ..TestOpen::default() };
    let other = TestOpen { bgp_id: Ipv4Addr::new(10, 7, 0, 99), ..hello(8) };
    for back in [without, other, TestOpen::default()] {
        let mut world = BgpWorld::start(plan());
        drop(up_with_routes(&mut world, &hello(0)).await);
        world.established(&back).await;
        assert_eq!(world.words(), ["down 4", "up"]);
        assert_eq!((world.routes(Family::IPV4_UNICAST), world.status().stale), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_end_of_rib_stale_routes_go_after_a_time() {
    let mut world = BgpWorld::start(plan());
    drop(up_with_routes(&mut world, &hello(0)).await);
    let mut far = world.established(&TestOpen { hold: 0, ..hello(8) }).await;
    far.send(&announce(&[3])).await;
    sleep(Duration::from_secs(359)).await;
    assert_eq!(world.words(), ["down 4", "up", "+1 +2 +3", "+3"]);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.words(), ["-1 -2"]);
}

#[tokio::test(start_paused = true)]
async fn a_notification_ends_a_restart_unless_both_ends_say_otherwise() {
    for (flags, subcode, stays) in [(0, 2, false), (4, 2, true), (4, 9, false)] {
        let mut world = BgpWorld::start(plan());
        let mut far = up_with_routes(&mut world, &hello(flags)).await;
        far.notify(6, subcode).await;
        world.wait("down", |status| status.state != BgpState::Established).await;
        let down = format!("down 3 6/{subcode}");
        assert_eq!(world.words(), if stays { vec![] } else { vec![down.clone()] });
        assert_eq!(world.routes(Family::IPV4_UNICAST), if stays { 3 } else { 0 });
        sleep(Duration::from_secs(200)).await;
        assert!(world.routes(Family::IPV4_UNICAST) == 0 || world.status().state != BgpState::Idle);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restarting_peer_that_is_removed_goes_down_for_that_reason() {
    for (subcode, sent) in [(cease::DE_CONFIGURED, "down 5"), (cease::CONFIGURATION_CHANGE, "down 4")] {
        let mut world = BgpWorld::start(plan());
        drop(up_with_routes(&mut world, &hello(0)).await);
        world.set_reachable(false);
        world.wait("restarting", |status| status.restart_left.is_some()).await;
        world.stop(subcode).await;
        assert_eq!((world.words(), world.routes(Family::IPV4_UNICAST)), (vec![sent.to_owned()], 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_failure_keeps_only_the_routes_announced_again() {
    let mut world = BgpWorld::start(plan());
    drop(up_with_routes(&mut world, &hello(0)).await);
    let mut far = world.established(&hello(8)).await;
    far.send(&announce(&[2])).await;
    world.wait("two left", |status| status.stale == 2).await;
    drop(far);
    world.wait("restarting", |status| status.restart_left.is_some()).await;
    world.established(&hello(8)).await;
    assert_eq!(world.words(), ["down 4", "up", "+1 +2 +3", "+2", "-1 -3", "down 4", "up", "+2"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_beside_an_old_session_is_a_restart() {
    let mut world = BgpWorld::start(plan());
    let _vanished = up_with_routes(&mut world, &hello(0)).await;
    sleep(Duration::from_secs(20)).await;
    let mut far = world.connect().await;
    far.establish(&hello(8)).await;
    world.wait("up again", |status| status.established_count == 2).await;
    far.send(&[announce(&[1]), end_of_rib(Family::IPV4_UNICAST)].concat()).await;
    world.wait("one route", |status| status.routes == [(Family::IPV4_UNICAST, 1)]).await;
    assert_eq!(world.words(), ["down 2 18", "up", "+1 +2 +3", "+1", "-2 -3", "eor IPv4 unicast"]);
}

fn refresh(subtype: u8) -> Vec<u8> {
    let mut out = BytesMut::new();
    route_refresh::build(&mut out, Family::IPV4_UNICAST, subtype);
    out.to_vec()
}

#[tokio::test(start_paused = true)]
async fn routes_not_announced_during_a_route_refresh_are_withdrawn() {
    let mut world = BgpWorld::start(plan());
    let mut far = up_with_routes(&mut world, &TestOpen::default()).await;
    let during = [refresh(1), announce(&[1, 7]), withdraw(&[3]), refresh(2), refresh(2), announce(&[2])];
    far.send(&during.concat()).await;
    world.wait("three routes", |status| status.received.count(crate::wire::bgp::MessageType::Update) == 5).await;
    assert_eq!(world.words(), ["+1 +7", "-3", "-2", "+2"]);
    // A request for routes is ignored, because bmpd has none.
    far.send(&refresh(0)).await;
    far.send(&announce(&[9])).await;
    world.wait("four routes", |status| status.routes == [(Family::IPV4_UNICAST, 4)]).await;
}
