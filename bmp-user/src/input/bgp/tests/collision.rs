//! Two connections with one peer at the same time.

use std::{net::Ipv4Addr, time::Duration};

use tokio::time::sleep;

use super::world::*;
use crate::{input::bgp::BgpState, wire::bgp::MessageType};

/// Opens two connections. `peer_is_higher` decides the collision, `out_first` the order.
async fn collide(peer_is_higher: bool, out_first: bool) {
    let mut world = BgpWorld::start(plan());
    let bgp_id = if peer_is_higher { Ipv4Addr::new(10, 7, 0, 9) } else { Ipv4Addr::new(10, 6, 0, 1) };
    let hello = TestOpen { bgp_id, ..TestOpen::default() };
    let mut out = world.dialed().await;
    let mut incoming = world.connect().await;
    for far in [&mut out, &mut incoming] {
        far.expect(MessageType::Open).await;
    }
    let order = if out_first { [&mut out, &mut incoming] } else { [&mut incoming, &mut out] };
    for far in order {
        far.send(&hello.open()).await;
        sleep(Duration::from_millis(10)).await;
    }
    let (mut stays, mut goes) = if peer_is_higher { (incoming, out) } else { (out, incoming) };
    assert_eq!(goes.expect_notification().await, (6, 7));
    goes.expect_end().await;
    stays.expect(MessageType::Keepalive).await;
    stays.keepalive().await;
    stays.send(&announce(&[1])).await;
    let status = world.wait("a route", |status| !status.routes.is_empty()).await;
    assert_eq!(
        (status.state, status.session.unwrap().remote.port()),
        (BgpState::Established, if peer_is_higher { 50_000 } else { 179 })
    );
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.words(), ["up", "+1"]);
}

#[tokio::test(start_paused = true)]
async fn in_a_collision_the_connection_of_the_higher_identifier_stays() {
    for peer_is_higher in [true, false] {
        for out_first in [true, false] {
            collide(peer_is_higher, out_first).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_connection_beside_an_established_session_is_refused() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen { hold: 0, ..TestOpen::default() }).await;
    let mut second = world.connect().await;
    assert_eq!(second.expect_notification().await, (6, 7));
    second.expect_end().await;
    far.send(&announce(&[1])).await;
    world.wait("a route", |status| !status.routes.is_empty()).await;
    assert_eq!(world.words(), ["up", "+1"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_before_the_open_replaces_the_first() {
    let world = BgpWorld::start(crate::input::bgp::peer::PeerPlan { connects: false, ..plan() });
    let mut first = world.connect().await;
    first.expect(MessageType::Open).await;
    let mut second = world.connect().await;
    first.expect_end().await;
    second.establish(&TestOpen::default()).await;
    world.wait("up", |status| status.state == BgpState::Established).await;
}
