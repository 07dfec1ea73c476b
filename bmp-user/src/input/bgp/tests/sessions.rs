//! Sessions that go up and down, and what stations receive about them.

use std::{collections::VecDeque, net::Ipv4Addr, time::Duration};

use bytes::BufMut;
use tokio::time::{Instant, sleep};

use super::world::*;
use crate::{
    feed::Selection,
    input::bgp::{
        BgpDownReason, BgpState,
        open::LocalSpeaker,
        peer::{PeerCommand, PeerPlan},
    },
    pin,
    wire::{
        bgp::{
            Family, MessageType,
            notification::{cease, code},
        },
        bmp::{
            self, Message, RouteDistinguisher, frames, samples,
            statistics::{Statistic, StatisticType, StatisticValue, statistics},
        },
    },
};

#[tokio::test(start_paused = true)]
async fn a_station_gets_opens_and_ends_of_a_session_and_every_update_unchanged() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.dialed().await;
    let sent_open = far.expect(MessageType::Open).await;
    let hello = TestOpen::default();
    far.send(&hello.open()).await;
    far.expect(MessageType::Keepalive).await;
    assert!(world.take_frames().is_empty(), "nothing before the session is established");
    // All in one read.
    let updates = [announce(&[1, 2]), announce(&[3]), withdraw(&[2]), end_of_rib(Family::IPV4_UNICAST)];
    let mut all = samples::bgp(4, &[]);
    all.extend(updates.concat());
    far.send(&all).await;
    let status = world.wait("routes", |status| status.received.count(MessageType::Update) == 4).await;

    let sent = world.take_frames();
    let frame = frames(&sent[0]).next().unwrap().unwrap();
    let Ok(Message::PeerUp(up)) = Message::parse(&frame) else { panic!("{frame:?}") };
    assert_eq!((up.peer.address(), up.peer.asn, up.peer.bgp_id), (ADDRESS, ASN, hello.bgp_id));
    assert_eq!((up.local_address, up.local_port, up.remote_port), (OWN_ID.into(), 40_000, 179));
    assert_eq!((up.sent_open, up.received_open), (&sent_open[..], &hello.open()[..]));
    assert_eq!((up.peer.flags, up.peer.key.distinguisher), (0, RouteDistinguisher::ZERO));
    assert!(up.peer.seconds > 0);
    let monitored: Vec<Vec<u8>> = sent[1..]
        .iter()
        .map(|frame| match Message::parse(&frames(frame).next().unwrap().unwrap()).unwrap() {
            Message::RouteMonitoring(peer, update) => {
                assert_eq!((peer.key, peer.asn, peer.bgp_id), (up.peer.key, ASN, hello.bgp_id));
                update.to_vec()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(monitored, updates);

    assert_eq!((status.state, status.established_count, status.last_error), (BgpState::Established, 1, None));
    assert_eq!(status.routes, [(Family::IPV4_UNICAST, 2)]);
    let session = status.session.unwrap();
    assert_eq!((session.hold, session.keepalive), (Duration::from_secs(90), Duration::from_secs(30)));
    assert_eq!((session.bgp_id, session.local.port()), (hello.bgp_id, 40_000));
    assert_eq!(session.capabilities[..2], ["multiprotocol IPv4 unicast", "multiprotocol IPv6 unicast"]);
    assert_eq!((status.sent.count(MessageType::Open), status.received.count(MessageType::Open)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_open_announces_every_capability() {
    let mut world = BgpWorld::start(PeerPlan { asn: ASN, ..plan() });
    let open = world.dialed().await.expect(MessageType::Open).await;
    let open = crate::wire::bgp::Frame::parse(&open).unwrap();
    let open = crate::wire::bgp::Open::parse(&open).unwrap();
    assert_eq!((open.asn(), open.hold_time, open.bgp_id), (OWN_ASN, 90, OWN_ID));
    assert!(open.families().eq([Family::IPV4_UNICAST, Family::IPV6_UNICAST]));
    let add_path = open.add_path().unwrap();
    assert!(add_path.receives(Family::IPV6_UNICAST) && !add_path.sends(Family::IPV6_UNICAST));
    let restart = open.graceful_restart().unwrap();
    assert_eq!((restart.flags, restart.restart_time, restart.families.iter().count()), (4, 0, 0));
    for plain in [
        crate::wire::bgp::Capability::RouteRefresh,
        crate::wire::bgp::Capability::EnhancedRouteRefresh,
        crate::wire::bgp::Capability::ExtendedMessage,
    ] {
        assert!(open.has(plain), "{plain:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn keepalives_hold_a_session_and_silence_ends_it() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen { hold: 9, ..TestOpen::default() }).await;
    for _ in 0..20 {
        far.expect(MessageType::Keepalive).await;
        far.keepalive().await;
    }
    assert_eq!(world.status().state, BgpState::Established);
    let silent = Instant::now();
    assert_eq!(far.expect_notification().await, (4, 0));
    let silence = silent.elapsed();
    assert!((Duration::from_secs(8)..Duration::from_secs(10)).contains(&silence), "{silence:?}");
    let status = world.wait("down", |status| status.state != BgpState::Established).await;
    assert_eq!(status.last_error.as_deref(), Some("the peer sent nothing within the hold time"));
    assert_eq!(status.reason, Some(BgpDownReason::HoldTimerExpired));
    assert_eq!(world.words(), ["up", "down 1 4/0"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_closed_after_the_send_hold_time() {
    // RFC 9687 §4: 8 minutes, or twice the hold time.
    for (hold, send_hold) in [(90, 480), (300, 600)] {
        let local = LocalSpeaker { hold, ..plan().local };
        let interval = Duration::from_secs(3);
        let mut world = BgpWorld::start(PeerPlan { local, connects: false, keepalive: interval, ..plan() });
        // Enough for 50 KEEPALIVEs.
        let mut far = world.connect_with_room(1_000).await;
        far.establish(&TestOpen { hold, ..TestOpen::default() }).await;
        world.wait("established", |status| status.state == BgpState::Established).await;
        let established = Instant::now();
        // The peer sends, so the hold timer does not end the session.
        while world.status().state == BgpState::Established {
            far.keepalive().await;
            sleep(interval).await;
        }
        let (lasted, send_hold) = (established.elapsed(), Duration::from_secs(send_hold));
        assert!((send_hold..send_hold + 60 * interval).contains(&lasted), "{lasted:?}");
        let error = world.status().last_error;
        assert_eq!(error.as_deref(), Some("closed with a NOTIFICATION: Send Hold Timer Expired"));
        assert_eq!(world.words(), ["up", "down 1 8/0"]);
    }
}

#[tokio::test(start_paused = true)]
async fn updates_alone_hold_a_session_and_without_hold_time_silence_does() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen { hold: 9, ..TestOpen::default() }).await;
    for number in 0..10 {
        sleep(Duration::from_secs(5)).await;
        far.send(&announce(&[number])).await;
    }
    assert_eq!((world.status().state, world.routes(Family::IPV4_UNICAST)), (BgpState::Established, 9));

    let mut world = BgpWorld::start(plan());
    let _far = world.established(&TestOpen { hold: 0, ..TestOpen::default() }).await;
    sleep(Duration::from_secs(100_000)).await;
    assert_eq!(world.status().state, BgpState::Established);
}

#[tokio::test(start_paused = true)]
async fn a_refused_open_gets_its_notification_and_shows_the_reason() {
    let two = |hello: TestOpen| hello.open().to_vec();
    let with = |at: usize, value: &[u8]| {
        let mut open = TestOpen::default().open().to_vec();
        open[at..at + value.len()].copy_from_slice(value);
        open
    };
    let cases = [
        (two(TestOpen { asn: 64999, ..TestOpen::default() }), (2, 2), "AS 64999"),
        (two(TestOpen { families: vec![Family::VPNV4], ..TestOpen::default() }), (2, 7), "address families"),
        (with(19, &[3]), (2, 1), "version"),
        (with(22, &[0, 1]), (2, 6), "hold time"),
        (with(24, &[0; 4]), (2, 3), "identifier"),
        (with(0, &[0]), (1, 1), "marker"),
        (with(16, &[0, 20]), (1, 2), "length"),
        (with(18, &[9]), (1, 3), "type"),
        (announce(&[1]), (5, 1), "OpenSent"),
        (samples::bgp(4, &[]), (5, 1), "OpenSent"),
    ];
    for (open, answer, why) in cases {
        let mut world = BgpWorld::start(plan());
        let mut far = world.dialed().await;
        far.expect(MessageType::Open).await;
        far.send(&open).await;
        assert_eq!(far.expect_notification().await, answer, "{why}");
        far.expect_end().await;
        let status = world.wait("idle", |status| status.state == BgpState::Idle).await;
        assert!(status.last_error.as_ref().unwrap().contains(why), "{:?} for {why}", status.last_error);
        assert!(status.retry_in.is_some() && world.take_frames().is_empty());
    }
    // An equal identifier within one AS.
    let ibgp = PeerPlan { asn: OWN_ASN, ..plan() };
    let mut world = BgpWorld::start(ibgp);
    let mut far = world.dialed().await;
    far.expect(MessageType::Open).await;
    far.send(&TestOpen { asn: OWN_ASN, bgp_id: OWN_ID, ..TestOpen::default() }.open()).await;
    assert_eq!(far.expect_notification().await, (2, 3));
}

#[tokio::test(start_paused = true)]
async fn every_peer_down_has_the_reason_of_the_end() {
    let mut world = BgpWorld::start(plan());
    drop(world.established(&TestOpen::default()).await);
    let status = world.wait("down", |status| status.state != BgpState::Established).await;
    assert_eq!(
        (world.words(), status.reason),
        (vec!["up".to_owned(), "down 4".to_owned()], Some(BgpDownReason::PeerClosed))
    );
    let mut far = world.established(&TestOpen::default()).await;
    far.notify(6, 2).await;
    far.expect_end().await;
    let status = world.wait("down", |status| status.state != BgpState::Established).await;
    assert_eq!(status.last_error.unwrap(), "the peer sent a NOTIFICATION: Cease: Administrative Shutdown");
    assert_eq!(status.reason, Some(BgpDownReason::NotificationReceived));
    assert_eq!(world.words(), ["up", "down 3 6/2"]);
    let mut far = world.established(&TestOpen::default()).await;
    world.stop(cease::CONFIGURATION_CHANGE).await;
    assert_eq!(far.expect_notification().await, (6, 6));
    assert_eq!(world.words(), ["up", "down 1 6/6"]);

    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen::default()).await;
    far.send(&announce(&[1])).await;
    world.wait("a route", |status| !status.routes.is_empty()).await;
    world.stop(cease::DE_CONFIGURED).await;
    assert_eq!(far.expect_notification().await, (6, 3));
    assert_eq!(world.words(), ["up", "+1", "down 5"]);
}

#[tokio::test(start_paused = true)]
async fn an_absent_peer_is_tried_again_at_growing_intervals() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.dialed().await;
    world.set_reachable(false);
    far.notify(6, 5).await;
    drop(far);
    let status =
        world.wait("a refusal", |status| status.last_error.as_deref().is_some_and(|e| e.contains("refused"))).await;
    assert_eq!(status.reason, Some(BgpDownReason::Pin(pin::Reason::ConnectRefused)));
    // The peer may connect itself.
    assert!(matches!(status.state, BgpState::Active | BgpState::Connect | BgpState::Idle), "{status:?}");
    sleep(Duration::from_secs(600)).await;
    world.set_reachable(true);
    let since = Instant::now();
    world.established(&TestOpen::default()).await;
    assert!(since.elapsed() <= Duration::from_secs(61), "{:?}", since.elapsed());
    assert_eq!(world.words()[0], "up");
}

#[tokio::test(start_paused = true)]
async fn a_listen_only_peer_is_not_called_and_goes_up_when_it_connects() {
    let mut world = BgpWorld::start(PeerPlan { connects: false, ..plan() });
    sleep(Duration::from_secs(1000)).await;
    assert_eq!(world.status().state, BgpState::Active);
    let mut far = world.connect().await;
    far.establish(&TestOpen::default()).await;
    let status = world.wait("up", |status| status.state == BgpState::Established).await;
    assert_eq!(status.session.unwrap().remote.port(), 50_000);
    far.notify(6, 4).await;
    // A connection that arrives before the end is read would be a collision (RFC 4271 §6.8).
    world.wait("down", |status| status.state != BgpState::Established).await;
    // The peer connects again at once, and is heard a moment later.
    let mut far = world.connect().await;
    far.establish(&TestOpen::default()).await;
    world.wait("up again", |status| status.established_count == 2).await;
    assert_eq!(world.words(), ["up", "down 3 6/4", "up"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_listening_side_keeps_a_session_opened_to_the_peer() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen::default()).await;
    for listens in [true, false, true] {
        world.commands.send(PeerCommand::Listens(listens)).await.unwrap();
    }
    far.send(&announce(&[1])).await;
    world.wait("a route", |status| status.routes == [(Family::IPV4_UNICAST, 1)]).await;
    assert_eq!(world.status().established_count, 1);
    assert_eq!(world.words(), ["up", "+1"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_listening_side_ends_a_session_the_peer_opened() {
    let mut world = BgpWorld::start(plan());
    world.set_reachable(false);
    sleep(Duration::from_secs(1)).await;
    let mut far = world.connect().await;
    far.establish(&TestOpen::default()).await;
    world.wait("up", |status| status.state == BgpState::Established).await;
    world.set_reachable(true);
    world.commands.send(PeerCommand::Listens(false)).await.unwrap();
    assert_eq!(far.expect_notification().await, (code::CEASE, cease::CONFIGURATION_CHANGE));
    // A change of configuration is no failure, so there is no wait.
    let since = Instant::now();
    world.established(&TestOpen::default()).await;
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(world.words(), ["up", "down 1 6/6", "up"]);
    // A further connection is refused.
    let mut refused = world.connect().await;
    refused.receive().await;
    assert_eq!(world.status().established_count, 2);
}

#[tokio::test(start_paused = true)]
async fn a_two_octet_speaker_is_reported_with_the_a_flag() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen { as4: false, ..TestOpen::default() }).await;
    let attributes = [0x40, 1, 1, 0, 0x40, 2, 4, 2, 1, 0xfd, 0xe9, 0x40, 3, 4, 10, 7, 0, 2];
    far.send(&update(&[], &attributes, &prefixes(&[1]))).await;
    world.wait("a route", |status| status.routes == [(Family::IPV4_UNICAST, 1)]).await;
    let sent = world.take_frames();
    for frame in &sent {
        let header = bmp::PeerHeader::of(&frames(frame).next().unwrap().unwrap()).unwrap();
        assert_eq!(header.flags, bmp::peer_flags::TWO_BYTE_AS);
    }
    assert_eq!(sent.len(), 2);
    assert_eq!(world.counters().treated_as_withdraw, 0);
}

#[tokio::test(start_paused = true)]
async fn several_paths_to_a_prefix_are_several_routes() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen { add_path: true, ..TestOpen::default() }).await;
    let mut nlri = Vec::new();
    for path in 1..=3u32 {
        nlri.put_u32(path);
        nlri.extend(prefixes(&[9]));
    }
    far.send(&update(&[], &ATTRIBUTES, &nlri)).await;
    world.wait("three routes", |status| status.routes == [(Family::IPV4_UNICAST, 3)]).await;
}

#[tokio::test(start_paused = true)]
async fn an_update_with_malformed_attributes_becomes_a_counted_withdrawal() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen::default()).await;
    far.send(&announce(&[1, 2])).await;
    // ORIGIN of 3.
    let mut attributes = ATTRIBUTES;
    attributes[3] = 3;
    far.send(&update(&[], &attributes, &prefixes(&[1, 7]))).await;
    let status = world.wait("it", |status| status.treated_as_withdraw == 1).await;
    assert_eq!((status.state, status.routes), (BgpState::Established, vec![(Family::IPV4_UNICAST, 1)]));
    assert_eq!(status.prefixes_treated_as_withdraw, 2);
    assert_eq!(status.last_fault.unwrap(), "ORIGIN is 3, which has no meaning (RFC 7606 §7.1)");
    assert_eq!(world.words(), ["up", "+1 +2", "-1 -7"]);
}

#[tokio::test(start_paused = true)]
async fn attributes_of_internal_peers_are_checked_only_within_an_as() {
    // Each attribute has an invalid length (RFC 7606 §7.5, §7.9, §7.10).
    let wrong = [[0x40, 5, 1, 0], [0x80, 9, 1, 0], [0x80, 10, 1, 0]];
    for (asn, treated) in [(ASN, 0), (OWN_ASN, 3)] {
        let mut world = BgpWorld::start(PeerPlan { asn, ..plan() });
        let mut far = world.established(&TestOpen { asn, ..TestOpen::default() }).await;
        for (number, wrong) in wrong.iter().enumerate() {
            far.send(&update(&[], &[&ATTRIBUTES[..], wrong].concat(), &prefixes(&[number as u8]))).await;
        }
        let status = world.wait("all", |status| status.received.count(MessageType::Update) == 3).await;
        assert_eq!(status.treated_as_withdraw, treated);
        assert_eq!(status.attributes_discarded, 3 - u64::from(treated));
        assert_eq!(world.routes(Family::IPV4_UNICAST), 3 - treated as usize);
        let sign = if treated > 0 { '-' } else { '+' };
        assert_eq!(world.words(), ["up".to_owned(), format!("{sign}0"), format!("{sign}1"), format!("{sign}2")]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_with_as_0_is_malformed() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen::default()).await;
    let mut attributes = ATTRIBUTES;
    attributes[9..13].fill(0);
    far.send(&update(&[], &attributes, &prefixes(&[1]))).await;
    let status = world.wait("it", |status| status.treated_as_withdraw == 1).await;
    assert_eq!((status.state, status.routes), (BgpState::Established, vec![]));
    assert_eq!(world.words(), ["up", "-1"]);
}

#[tokio::test(start_paused = true)]
async fn only_the_negotiated_families_of_an_update_are_passed_on() {
    let [ipv6, vpn] = [Family::IPV6_UNICAST, Family::VPNV4];
    let reach = |family: Family, next_hop: &[u8], nlri: &[u8]| {
        let head = [&family.afi.to_be_bytes()[..], &[family.safi, next_hop.len() as u8], next_hop, &[0], nlri].concat();
        [&[0x80, 14, head.len() as u8][..], &head].concat()
    };
    let unreach = |family: Family, nlri: &[u8]| {
        let value = [&family.afi.to_be_bytes()[..], &[family.safi], nlri].concat();
        [&[0x80, 15, value.len() as u8][..], &value].concat()
    };
    let of_vpn = reach(vpn, &[0; 12], &[112, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 10, 0, 0]);
    let of_ipv6 = reach(ipv6, &[1; 16], &[16, 0x20, 1]);
    // With a family that only one end supports before the other attributes, between them, and after
    // them.
    let cases = [
        (
            vec![Family::IPV4_UNICAST, ipv6],
            update(&prefixes(&[2]), &[&of_vpn, &ATTRIBUTES[..]].concat(), &prefixes(&[1])),
        ),
        (vec![Family::IPV4_UNICAST, ipv6], {
            let attributes = [&ATTRIBUTES[..4], &of_ipv6, &ATTRIBUTES[4..], &unreach(vpn, &[])].concat();
            update(&prefixes(&[2]), &attributes, &prefixes(&[1]))
        }),
        (vec![ipv6], update(&prefixes(&[2]), &[&ATTRIBUTES[..], &of_ipv6].concat(), &prefixes(&[1]))),
        (vec![Family::IPV4_UNICAST, ipv6], update(&[], &[&ATTRIBUTES[..13], &of_vpn].concat(), &[])),
        // The rest would be an End-of-RIB, which the peer has not sent.
        (vec![Family::IPV4_UNICAST, ipv6], update(&[], &[&of_vpn[..], &unreach(ipv6, &[])].concat(), &[])),
    ];
    let sent = [vec!["-2 +1".to_owned()], vec![format!("-2 +1 +{ipv6}")], vec![format!("+{ipv6}")], vec![], vec![]];
    for ((families, message), sent) in cases.into_iter().zip(sent) {
        let mut world = BgpWorld::start(plan());
        let mut far = world.established(&TestOpen { families, ..TestOpen::default() }).await;
        far.send(&message).await;
        let status = world.wait("it", |status| status.received.count(MessageType::Update) == 1).await;
        assert_eq!((status.state, status.not_negotiated), (BgpState::Established, 1));
        let words = world.words();
        assert_eq!(words[1..], sent);
    }
}

#[tokio::test(start_paused = true)]
async fn unreadable_routes_end_the_session_with_the_right_notification() {
    let twice = [&ATTRIBUTES[..], &[0x80, 15, 3, 0, 2, 1, 0x80, 15, 3, 0, 2, 1]].concat();
    let short = [&ATTRIBUTES[..], &[0x80, 14, 3, 0, 2, 1]].concat();
    // RFC 7606 §7.11: behind such a next hop, the start of the routes is unknown.
    let strange_next_hop = |length: u8| {
        let next_hop = vec![1; length.into()];
        let value = [&[0, 2, 1, length][..], &next_hop, &[0, 32, 0x20, 1, 0xd, 0xb8]].concat();
        [&ATTRIBUTES[..13], &[0x80, 14, value.len() as u8], &value].concat()
    };
    let reach = |nlri: &[u8]| {
        let value = [&[0, 2, 1, 16][..], &[1; 16], &[0], nlri].concat();
        [&ATTRIBUTES[..13], &[0x80, 14, value.len() as u8], &value].concat()
    };
    let mut refresh = samples::bgp(5, &[0, 1, 1, 1]);
    refresh.push(0);
    refresh[17] += 1;
    let cases = [
        (update(&[], &ATTRIBUTES, &[33, 10, 0, 0, 0, 0]), (3, 10)),
        (update(&[24, 10], &[], &[]), (3, 10)),
        (update(&[], &twice, &prefixes(&[1])), (3, 1)),
        (update(&[], &short, &[]), (3, 9)),
        // RFC 7606 §5.3, RFC 4760 §7: a prefix longer than an address, and a truncated prefix.
        (update(&[], &reach(&[129, 0x20, 1]), &[]), (3, 9)),
        (update(&[], &reach(&[32, 0x20, 1]), &[]), (3, 9)),
        (update(&[], &[0x80, 15, 5, 0, 2, 1, 129, 0x20], &[]), (3, 9)),
        (update(&[], &[0x80, 15, 5, 0, 2, 1, 32, 0x20], &[]), (3, 9)),
        (update(&[], &strange_next_hop(0), &[]), (3, 9)),
        (update(&[], &strange_next_hop(4), &[]), (3, 9)),
        (update(&[], &strange_next_hop(24), &[]), (3, 9)),
        (samples::bgp(2, &[0, 9, 0, 0]), (3, 1)),
        (refresh, (7, 1)),
        (TestOpen::default().open().to_vec(), (5, 3)),
        (samples::bgp(6, &[]), (1, 3)),
    ];
    for (message, (code, subcode)) in cases {
        let mut world = BgpWorld::start(plan());
        let mut far = world.established(&TestOpen::default()).await;
        // The messages before the error are passed on.
        far.send(&[announce(&[1]), message.clone()].concat()).await;
        assert_eq!(far.expect_notification().await, (code, subcode), "{message:?}");
        world.wait("down", |status| status.state != BgpState::Established).await;
        assert_eq!(world.words(), ["up".to_owned(), "+1".to_owned(), format!("down 1 {code}/{subcode}")]);
    }
}

#[tokio::test(start_paused = true)]
async fn routes_of_families_that_were_not_negotiated_are_not_passed_on() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen { families: vec![Family::IPV4_UNICAST], ..TestOpen::default() }).await;
    let ipv6 = [&ATTRIBUTES[..13], &[0x80, 14, 10, 0, 2, 1, 0, 0, 32, 0x20, 1, 0xd, 0xb8]].concat();
    far.send(&[update(&[], &ipv6, &[]), end_of_rib(Family::IPV6_UNICAST), announce(&[5])].concat()).await;
    world.wait("a route", |status| !status.routes.is_empty()).await;
    assert_eq!((world.words(), world.counters().not_negotiated), (vec!["up".to_owned(), "+5".to_owned()], 2));
}

#[tokio::test(start_paused = true)]
async fn long_messages_need_the_extended_message_capability_of_both_ends() {
    let numbers: Vec<u8> = (0..=255).collect();
    let many: Vec<u8> = (0..60).flat_map(|_| prefixes(&numbers)).collect();
    let long = update(&[], &ATTRIBUTES, &many);
    assert!(long.len() > 60_000);
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen { extended: true, ..TestOpen::default() }).await;
    far.send(&long).await;
    far.send(&announce(&[1])).await;
    world.wait("256 routes", |status| status.routes == [(Family::IPV4_UNICAST, 256)]).await;
    assert_eq!(world.take_frames().len(), 3);

    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen::default()).await;
    far.send(&long).await;
    assert_eq!(far.expect_notification().await, (1, 2));
}

#[tokio::test(start_paused = true)]
async fn statistics_reports_come_at_their_interval_with_the_true_figures() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen { hold: 0, ..TestOpen::default() }).await;
    far.send(&announce(&[1, 2, 3])).await;
    let mut attributes = ATTRIBUTES;
    attributes[3] = 3;
    far.send(&update(&[], &attributes, &prefixes(&[3]))).await;
    sleep(Duration::from_secs(10_000)).await;
    assert_eq!(world.words(), ["up", "+1 +2 +3", "-3"], "zero is never");
    world.statistics.send_replace(Duration::from_secs(30));
    sleep(Duration::from_secs(95)).await;
    let sent = world.take_frames();
    assert!((3..=4).contains(&sent.len()), "{}", sent.len());
    let frame = frames(&sent[0]).next().unwrap().unwrap();
    let Ok(Message::StatisticsReport(peer, counters)) = Message::parse(&frame) else { panic!("{frame:?}") };
    assert_eq!(peer.asn, ASN);
    let counted: Vec<_> = statistics(counters).map(Result::unwrap).collect();
    let of_family = StatisticValue::OfFamily(Family::IPV4_UNICAST, 2);
    let expected = [
        (StatisticType::DUPLICATE_ADVERTISEMENTS, StatisticValue::Counter(0)),
        (StatisticType::DUPLICATE_WITHDRAWS, StatisticValue::Counter(0)),
        (StatisticType::ADJ_RIB_IN, StatisticValue::Gauge(2)),
        (StatisticType::TREATED_AS_WITHDRAW, StatisticValue::Counter(1)),
        (StatisticType::PREFIXES_TREATED_AS_WITHDRAW, StatisticValue::Counter(1)),
        (StatisticType::DUPLICATE_UPDATES, StatisticValue::Counter(0)),
        (StatisticType::ADJ_RIB_IN_PRE, StatisticValue::Gauge(2)),
        (StatisticType::ADJ_RIB_IN_OF_FAMILY, of_family),
        (StatisticType::ADJ_RIB_IN_PRE_OF_FAMILY, of_family),
    ];
    assert_eq!(counted, expected.map(|(kind, value)| Statistic { kind, value }));
}

#[tokio::test(start_paused = true)]
async fn reports_for_stations_with_timers_of_their_own_are_kept_and_told_to_no_other() {
    let mut world = BgpWorld::start(plan());
    let mut own_times = world.feed.attach(Selection::default());
    own_times.hold_statistics(true);
    let mut far = world.established(&TestOpen { hold: 0, ..TestOpen::default() }).await;
    far.send(&announce(&[1])).await;
    let mut told = VecDeque::new();
    own_times.take(usize::MAX, &mut told);
    world.kept_statistics.send_replace(Duration::from_secs(30));
    sleep(Duration::from_secs(95)).await;
    assert_eq!(world.words(), ["up", "+1"]);
    told.clear();
    own_times.report_statistics();
    own_times.take(usize::MAX, &mut told);
    let reports: Vec<_> = told.iter().map(|piece| piece.counts.of(bmp::MessageType::StatisticsReport)).collect();
    assert_eq!(reports, [1], "the latest of three");
}

#[tokio::test(start_paused = true)]
async fn a_message_may_arrive_byte_by_byte() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.dialed().await;
    let hello = TestOpen { bgp_id: Ipv4Addr::new(1, 1, 1, 1), ..TestOpen::default() };
    let all =
        [hello.open().to_vec(), samples::bgp(4, &[]), announce(&[1]), samples::bgp(4, &[]), announce(&[2])].concat();
    for byte in all {
        far.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    world.wait("two routes", |status| status.routes == [(Family::IPV4_UNICAST, 2)]).await;
}

#[tokio::test(start_paused = true)]
async fn reserved_fields_are_ignored() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.dialed().await;
    far.expect(MessageType::Open).await;
    let hello = TestOpen { restart: Some((0x3, 120, true)), ..TestOpen::default() };
    let mut open = hello.open().to_vec();
    // RFC 4760 §8: the third octet of the multiprotocol capability.
    for at in 29..open.len() - 6 {
        if let [1, 4, 0, 1 | 2, 0, 1] = open[at..at + 6] {
            open[at + 4] = 0xff;
        }
    }
    far.send(&open).await;
    far.expect(MessageType::Keepalive).await;
    far.keepalive().await;
    // RFC 2918 §3 reserves this octet. RFC 7313 §5 has a receiver ignore unknown subtypes.
    far.send(&samples::bgp(5, &[0, 1, 77, 1])).await;
    far.send(&announce(&[1])).await;
    let status = world.wait("a route", |status| !status.routes.is_empty()).await;
    assert_eq!(status.session.unwrap().families, hello.families);
}
