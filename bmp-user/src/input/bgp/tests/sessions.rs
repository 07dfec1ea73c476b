//! Sessions as they come and go, and what a station is told of them.

use std::{net::Ipv4Addr, time::Duration};

use bytes::BufMut;
use tokio::time::{Instant, sleep};

use super::world::*;
use crate::{
    input::bgp::{
        Reason, State,
        peer::{Command, Plan},
    },
    pin,
    wire::{
        bgp::{
            Family, MessageType,
            notification::{cease, code},
        },
        bmp::{
            self, Message, frames, samples,
            statistics::{Statistic, StatisticType, Value, statistics},
        },
    },
};

#[tokio::test(start_paused = true)]
async fn a_session_is_told_with_its_opens_and_ends_and_every_update_as_it_came() {
    let mut world = World::start(plan());
    let mut far = world.dialed().await;
    let sent_open = far.expect(MessageType::Open).await;
    let hello = Hello::default();
    far.send(&hello.open()).await;
    far.expect(MessageType::Keepalive).await;
    assert!(world.told().is_empty(), "not before the session is established");
    // All in one read.
    let updates = [announce(&[1, 2]), announce(&[3]), withdraw(&[2]), end_of_rib(Family::IPV4_UNICAST)];
    let mut all = samples::bgp(4, &[]);
    all.extend(updates.concat());
    far.send(&all).await;
    let status = world.wait("routes", |status| status.received.of(MessageType::Update) == 4).await;

    let told = world.told();
    let frame = frames(&told[0]).next().unwrap().unwrap();
    let Ok(Message::PeerUp(up)) = Message::parse(&frame) else { panic!("{frame:?}") };
    assert_eq!((up.peer.address(), up.peer.asn, up.peer.bgp_id), (ADDRESS, ASN, hello.bgp_id));
    assert_eq!((up.local_address, up.local_port, up.remote_port), (OWN_ID.into(), 40_000, 179));
    assert_eq!((up.sent_open, up.received_open), (&sent_open[..], &hello.open()[..]));
    assert_eq!((up.peer.flags, up.peer.key.distinguisher), (0, [0; 8]));
    assert!(up.peer.seconds > 0);
    let monitored: Vec<Vec<u8>> = told[1..]
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

    assert_eq!((status.state, status.established_count, status.last_error), (State::Established, 1, None));
    assert_eq!(status.routes, [(Family::IPV4_UNICAST, 2)]);
    let session = status.session.unwrap();
    assert_eq!((session.hold, session.keepalive), (Duration::from_secs(90), Duration::from_secs(30)));
    assert_eq!((session.bgp_id, session.local.port()), (hello.bgp_id, 40_000));
    assert_eq!(session.capabilities[..2], ["multiprotocol IPv4 unicast", "multiprotocol IPv6 unicast"]);
    assert_eq!((status.sent.of(MessageType::Open), status.received.of(MessageType::Open)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_open_says_what_this_speaker_can_do() {
    let mut world = World::start(Plan { asn: ASN, ..plan() });
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
async fn keepalives_keep_a_session_up_and_silence_ends_it() {
    let mut world = World::start(plan());
    let mut far = world.established(&Hello { hold: 9, ..Hello::default() }).await;
    for _ in 0..20 {
        far.expect(MessageType::Keepalive).await;
        far.keepalive().await;
    }
    assert_eq!(world.status().state, State::Established);
    let silent = Instant::now();
    assert_eq!(far.expect_notification().await, (4, 0));
    let silence = silent.elapsed();
    assert!((Duration::from_secs(8)..Duration::from_secs(10)).contains(&silence), "{silence:?}");
    let status = world.wait("down", |status| status.state != State::Established).await;
    assert_eq!(status.last_error.as_deref(), Some("the peer said nothing for the hold time"));
    assert_eq!(status.reason, Some(Reason::HoldTimerExpired));
    assert_eq!(world.words(), ["up", "down 1 4/0"]);
}

#[tokio::test(start_paused = true)]
async fn updates_alone_keep_a_session_up_and_without_a_hold_time_nothing_has_to() {
    let mut world = World::start(plan());
    let mut far = world.established(&Hello { hold: 9, ..Hello::default() }).await;
    for number in 0..10 {
        sleep(Duration::from_secs(5)).await;
        far.send(&announce(&[number])).await;
    }
    assert_eq!((world.status().state, world.routes(Family::IPV4_UNICAST)), (State::Established, 9));

    let mut world = World::start(plan());
    let _far = world.established(&Hello { hold: 0, ..Hello::default() }).await;
    sleep(Duration::from_secs(100_000)).await;
    assert_eq!(world.status().state, State::Established);
}

#[tokio::test(start_paused = true)]
async fn an_open_that_is_refused_gets_the_notification_for_it_and_the_reason_is_shown() {
    let two = |hello: Hello| hello.open().to_vec();
    let with = |at: usize, value: &[u8]| {
        let mut open = Hello::default().open().to_vec();
        open[at..at + value.len()].copy_from_slice(value);
        open
    };
    let cases = [
        (two(Hello { asn: 64999, ..Hello::default() }), (2, 2), "AS 64999"),
        (two(Hello { families: vec![Family::VPNV4], ..Hello::default() }), (2, 7), "address families"),
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
        let mut world = World::start(plan());
        let mut far = world.dialed().await;
        far.expect(MessageType::Open).await;
        far.send(&open).await;
        assert_eq!(far.expect_notification().await, answer, "{why}");
        far.expect_end().await;
        let status = world.wait("idle", |status| status.state == State::Idle).await;
        assert!(status.last_error.as_ref().unwrap().contains(why), "{:?} for {why}", status.last_error);
        assert!(status.retry_in.is_some() && world.told().is_empty());
    }
    // The same identifier within one AS.
    let ibgp = Plan { asn: OWN_ASN, ..plan() };
    let mut world = World::start(ibgp);
    let mut far = world.dialed().await;
    far.expect(MessageType::Open).await;
    far.send(&Hello { asn: OWN_ASN, bgp_id: OWN_ID, ..Hello::default() }.open()).await;
    assert_eq!(far.expect_notification().await, (2, 3));
}

#[tokio::test(start_paused = true)]
async fn every_end_is_told_with_its_reason() {
    let mut world = World::start(plan());
    drop(world.established(&Hello::default()).await);
    let status = world.wait("down", |status| status.state != State::Established).await;
    assert_eq!((world.words(), status.reason), (vec!["up".to_owned(), "down 4".to_owned()], Some(Reason::PeerClosed)));
    let mut far = world.established(&Hello::default()).await;
    far.notify(6, 2).await;
    far.expect_end().await;
    let status = world.wait("down", |status| status.state != State::Established).await;
    assert_eq!(status.last_error.unwrap(), "the peer sent a NOTIFICATION: Cease: Administrative Shutdown");
    assert_eq!(status.reason, Some(Reason::NotificationReceived));
    assert_eq!(world.words(), ["up", "down 3 6/2"]);
    let mut far = world.established(&Hello::default()).await;
    world.stop(cease::CONFIGURATION_CHANGE).await;
    assert_eq!(far.expect_notification().await, (6, 6));
    assert_eq!(world.words(), ["up", "down 1 6/6"]);

    let mut world = World::start(plan());
    let mut far = world.established(&Hello::default()).await;
    far.send(&announce(&[1])).await;
    world.wait("a route", |status| !status.routes.is_empty()).await;
    world.stop(cease::DE_CONFIGURED).await;
    assert_eq!(far.expect_notification().await, (6, 3));
    assert_eq!(world.words(), ["up", "+1", "down 5"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_not_there_is_tried_again_and_not_too_often() {
    let mut world = World::start(plan());
    let mut far = world.dialed().await;
    world.set_reachable(false);
    far.notify(6, 5).await;
    drop(far);
    let status =
        world.wait("a refusal", |status| status.last_error.as_deref().is_some_and(|e| e.contains("refused"))).await;
    assert_eq!(status.reason, Some(Reason::Pin(pin::Reason::ConnectRefused)));
    // It may connect itself.
    assert!(matches!(status.state, State::Active | State::Connect | State::Idle), "{status:?}");
    sleep(Duration::from_secs(600)).await;
    world.set_reachable(true);
    let since = Instant::now();
    world.established(&Hello::default()).await;
    assert!(since.elapsed() <= Duration::from_secs(61), "{:?}", since.elapsed());
    assert_eq!(world.words()[0], "up");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_only_listens_is_not_called_and_is_up_when_it_connects() {
    let mut world = World::start(Plan { connects: false, ..plan() });
    sleep(Duration::from_secs(1000)).await;
    assert_eq!(world.status().state, State::Active);
    let mut far = world.connect().await;
    far.establish(&Hello::default()).await;
    let status = world.wait("up", |status| status.state == State::Established).await;
    assert_eq!(status.session.unwrap().remote.port(), 50_000);
    far.notify(6, 4).await;
    // A connection that came before that is read would be a collision (RFC 4271 §6.8).
    world.wait("down", |status| status.state != State::Established).await;
    // It comes again at once, and is heard a moment later.
    let mut far = world.connect().await;
    far.establish(&Hello::default()).await;
    world.wait("up again", |status| status.established_count == 2).await;
    assert_eq!(world.words(), ["up", "down 3 6/4", "up"]);
}

#[tokio::test(start_paused = true)]
async fn where_a_peer_may_connect_is_nothing_to_a_session_that_was_opened_to_it() {
    let mut world = World::start(plan());
    let mut far = world.established(&Hello::default()).await;
    for listens in [true, false, true] {
        world.commands.send(Command::Listens(listens)).await.unwrap();
    }
    far.send(&announce(&[1])).await;
    world.wait("a route", |status| status.routes == [(Family::IPV4_UNICAST, 1)]).await;
    assert_eq!(world.status().established_count, 1);
    assert_eq!(world.words(), ["up", "+1"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_the_peer_opened_ends_when_it_is_to_connect_elsewhere() {
    let mut world = World::start(plan());
    world.set_reachable(false);
    sleep(Duration::from_secs(1)).await;
    let mut far = world.connect().await;
    far.establish(&Hello::default()).await;
    world.wait("up", |status| status.state == State::Established).await;
    world.set_reachable(true);
    world.commands.send(Command::Listens(false)).await.unwrap();
    assert_eq!(far.expect_notification().await, (code::CEASE, cease::CONFIGURATION_CHANGE));
    // It is nobody's failure: there is no wait.
    let since = Instant::now();
    world.established(&Hello::default()).await;
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(world.words(), ["up", "down 1 6/6", "up"]);
    // Nor is it let in again.
    let mut refused = world.connect().await;
    refused.receive().await;
    assert_eq!(world.status().established_count, 2);
}

#[tokio::test(start_paused = true)]
async fn a_speaker_of_two_octet_as_numbers_is_told_as_such() {
    let mut world = World::start(plan());
    let mut far = world.established(&Hello { as4: false, ..Hello::default() }).await;
    let attributes = [0x40, 1, 1, 0, 0x40, 2, 4, 2, 1, 0xfd, 0xe9, 0x40, 3, 4, 10, 7, 0, 2];
    far.send(&update(&[], &attributes, &prefixes(&[1]))).await;
    world.wait("a route", |status| status.routes == [(Family::IPV4_UNICAST, 1)]).await;
    let told = world.told();
    for frame in &told {
        let header = bmp::PeerHeader::of(&frames(frame).next().unwrap().unwrap()).unwrap();
        assert_eq!(header.flags, bmp::peer_flags::TWO_BYTE_AS);
    }
    assert_eq!(told.len(), 2);
    assert_eq!(world.counters().treated_as_withdraw, 0);
}

#[tokio::test(start_paused = true)]
async fn several_paths_of_a_prefix_are_several_routes() {
    let mut world = World::start(plan());
    let mut far = world.established(&Hello { add_path: true, ..Hello::default() }).await;
    let mut nlri = Vec::new();
    for path in 1..=3u32 {
        nlri.put_u32(path);
        nlri.extend(prefixes(&[9]));
    }
    far.send(&update(&[], &ATTRIBUTES, &nlri)).await;
    world.wait("three routes", |status| status.routes == [(Family::IPV4_UNICAST, 3)]).await;
}

#[tokio::test(start_paused = true)]
async fn an_update_with_malformed_attributes_is_told_as_a_withdrawal_and_counted() {
    let mut world = World::start(plan());
    let mut far = world.established(&Hello::default()).await;
    far.send(&announce(&[1, 2])).await;
    // ORIGIN of 3.
    let mut attributes = ATTRIBUTES;
    attributes[3] = 3;
    far.send(&update(&[], &attributes, &prefixes(&[1, 7]))).await;
    let status = world.wait("it", |status| status.treated_as_withdraw == 1).await;
    assert_eq!((status.state, status.routes), (State::Established, vec![(Family::IPV4_UNICAST, 1)]));
    assert_eq!(status.prefixes_treated_as_withdraw, 2);
    assert_eq!(status.last_fault.unwrap(), "ORIGIN is 3, which has no meaning (RFC 7606 §7.1)");
    assert_eq!(world.words(), ["up", "+1 +2", "-1 -7"]);
}

#[tokio::test(start_paused = true)]
async fn what_counts_within_an_as_alone_is_looked_at_in_a_session_within_one() {
    // Each of a length that it cannot have (RFC 7606 §7.5, §7.9, §7.10).
    let wrong = [[0x40, 5, 1, 0], [0x80, 9, 1, 0], [0x80, 10, 1, 0]];
    for (asn, treated) in [(ASN, 0), (OWN_ASN, 3)] {
        let mut world = World::start(Plan { asn, ..plan() });
        let mut far = world.established(&Hello { asn, ..Hello::default() }).await;
        for (number, wrong) in wrong.iter().enumerate() {
            far.send(&update(&[], &[&ATTRIBUTES[..], wrong].concat(), &prefixes(&[number as u8]))).await;
        }
        let status = world.wait("all", |status| status.received.of(MessageType::Update) == 3).await;
        assert_eq!(status.treated_as_withdraw, treated);
        assert_eq!(status.attributes_discarded, 3 - u64::from(treated));
        assert_eq!(world.routes(Family::IPV4_UNICAST), 3 - treated as usize);
        let sign = if treated > 0 { '-' } else { '+' };
        assert_eq!(world.words(), ["up".to_owned(), format!("{sign}0"), format!("{sign}1"), format!("{sign}2")]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_with_as_0_is_none() {
    let mut world = World::start(plan());
    let mut far = world.established(&Hello::default()).await;
    let mut attributes = ATTRIBUTES;
    attributes[9..13].fill(0);
    far.send(&update(&[], &attributes, &prefixes(&[1]))).await;
    let status = world.wait("it", |status| status.treated_as_withdraw == 1).await;
    assert_eq!((status.state, status.routes), (State::Established, vec![]));
    assert_eq!(world.words(), ["up", "-1"]);
}

#[tokio::test(start_paused = true)]
async fn of_an_update_what_it_says_of_negotiated_families_is_passed_on() {
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
    // With a family that only one end has before the other attributes, between them, and behind them.
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
        // What would be left is an End-of-RIB, which nobody has sent.
        (vec![Family::IPV4_UNICAST, ipv6], update(&[], &[&of_vpn[..], &unreach(ipv6, &[])].concat(), &[])),
    ];
    let told = [vec!["-2 +1".to_owned()], vec![format!("-2 +1 +{ipv6}")], vec![format!("+{ipv6}")], vec![], vec![]];
    for ((families, message), told) in cases.into_iter().zip(told) {
        let mut world = World::start(plan());
        let mut far = world.established(&Hello { families, ..Hello::default() }).await;
        far.send(&message).await;
        let status = world.wait("it", |status| status.received.of(MessageType::Update) == 1).await;
        assert_eq!((status.state, status.not_negotiated), (State::Established, 1));
        let words = world.words();
        assert_eq!(words[1..], told);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_ends_the_session_with_the_right_notification() {
    let twice = [&ATTRIBUTES[..], &[0x80, 15, 3, 0, 2, 1, 0x80, 15, 3, 0, 2, 1]].concat();
    let short = [&ATTRIBUTES[..], &[0x80, 14, 3, 0, 2, 1]].concat();
    // RFC 7606 §7.11: where the routes begin behind such a next hop is not known.
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
        // RFC 7606 §5.3, RFC 4760 §7: a prefix longer than an address, and one that is cut.
        (update(&[], &reach(&[129, 0x20, 1]), &[]), (3, 9)),
        (update(&[], &reach(&[32, 0x20, 1]), &[]), (3, 9)),
        (update(&[], &[0x80, 15, 5, 0, 2, 1, 129, 0x20], &[]), (3, 9)),
        (update(&[], &[0x80, 15, 5, 0, 2, 1, 32, 0x20], &[]), (3, 9)),
        (update(&[], &strange_next_hop(0), &[]), (3, 9)),
        (update(&[], &strange_next_hop(4), &[]), (3, 9)),
        (update(&[], &strange_next_hop(24), &[]), (3, 9)),
        (samples::bgp(2, &[0, 9, 0, 0]), (3, 1)),
        (refresh, (7, 1)),
        (Hello::default().open().to_vec(), (5, 3)),
        (samples::bgp(6, &[]), (1, 3)),
    ];
    for (message, (code, subcode)) in cases {
        let mut world = World::start(plan());
        let mut far = world.established(&Hello::default()).await;
        // What came before is good.
        far.send(&[announce(&[1]), message.clone()].concat()).await;
        assert_eq!(far.expect_notification().await, (code, subcode), "{message:?}");
        world.wait("down", |status| status.state != State::Established).await;
        assert_eq!(world.words(), ["up".to_owned(), "+1".to_owned(), format!("down 1 {code}/{subcode}")]);
    }
}

#[tokio::test(start_paused = true)]
async fn families_that_were_not_negotiated_are_not_passed_on() {
    let mut world = World::start(plan());
    let mut far = world.established(&Hello { families: vec![Family::IPV4_UNICAST], ..Hello::default() }).await;
    let ipv6 = [&ATTRIBUTES[..13], &[0x80, 14, 10, 0, 2, 1, 0, 0, 32, 0x20, 1, 0xd, 0xb8]].concat();
    far.send(&[update(&[], &ipv6, &[]), end_of_rib(Family::IPV6_UNICAST), announce(&[5])].concat()).await;
    world.wait("a route", |status| !status.routes.is_empty()).await;
    assert_eq!((world.words(), world.counters().not_negotiated), (vec!["up".to_owned(), "+5".to_owned()], 2));
}

#[tokio::test(start_paused = true)]
async fn messages_may_be_long_if_both_ends_say_so_and_only_then() {
    let numbers: Vec<u8> = (0..=255).collect();
    let many: Vec<u8> = (0..60).flat_map(|_| prefixes(&numbers)).collect();
    let long = update(&[], &ATTRIBUTES, &many);
    assert!(long.len() > 60_000);
    let mut world = World::start(plan());
    let mut far = world.established(&Hello { extended: true, ..Hello::default() }).await;
    far.send(&long).await;
    far.send(&announce(&[1])).await;
    world.wait("256 routes", |status| status.routes == [(Family::IPV4_UNICAST, 256)]).await;
    assert_eq!(world.told().len(), 3);

    let mut world = World::start(plan());
    let mut far = world.established(&Hello::default()).await;
    far.send(&long).await;
    assert_eq!(far.expect_notification().await, (1, 2));
}

#[tokio::test(start_paused = true)]
async fn statistics_are_reported_as_often_as_asked_and_are_what_there_is() {
    let mut world = World::start(plan());
    let mut far = world.established(&Hello { hold: 0, ..Hello::default() }).await;
    far.send(&announce(&[1, 2, 3])).await;
    let mut attributes = ATTRIBUTES;
    attributes[3] = 3;
    far.send(&update(&[], &attributes, &prefixes(&[3]))).await;
    sleep(Duration::from_secs(10_000)).await;
    assert_eq!(world.words(), ["up", "+1 +2 +3", "-3"], "zero is never");
    world.statistics.send_replace(Duration::from_secs(30));
    sleep(Duration::from_secs(95)).await;
    let told = world.told();
    assert!((3..=4).contains(&told.len()), "{}", told.len());
    let frame = frames(&told[0]).next().unwrap().unwrap();
    let Ok(Message::StatisticsReport(peer, counters)) = Message::parse(&frame) else { panic!("{frame:?}") };
    assert_eq!(peer.asn, ASN);
    let counted: Vec<_> = statistics(counters).map(Result::unwrap).collect();
    let expected = [
        (StatisticType::ADJ_RIB_IN, Value::Gauge(2)),
        (StatisticType::TREATED_AS_WITHDRAW, Value::Counter(1)),
        (StatisticType::PREFIXES_TREATED_AS_WITHDRAW, Value::Counter(1)),
        (StatisticType::ADJ_RIB_IN_OF_FAMILY, Value::OfFamily(Family::IPV4_UNICAST, 2)),
    ];
    assert_eq!(counted, expected.map(|(kind, value)| Statistic { kind, value }));
}

#[tokio::test(start_paused = true)]
async fn a_message_may_come_byte_by_byte() {
    let mut world = World::start(plan());
    let mut far = world.dialed().await;
    let hello = Hello { bgp_id: Ipv4Addr::new(1, 1, 1, 1), ..Hello::default() };
    let all =
        [hello.open().to_vec(), samples::bgp(4, &[]), announce(&[1]), samples::bgp(4, &[]), announce(&[2])].concat();
    for byte in all {
        far.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    world.wait("two routes", |status| status.routes == [(Family::IPV4_UNICAST, 2)]).await;
}

#[tokio::test(start_paused = true)]
async fn reserved_fields_that_a_peer_sets_change_nothing() {
    let mut world = World::start(plan());
    let mut far = world.dialed().await;
    far.expect(MessageType::Open).await;
    let hello = Hello { restart: Some((0x3, 120, true)), ..Hello::default() };
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
    // RFC 2918 §3 had it reserved; RFC 7313 §5 has a receiver ignore subtypes that it does not
    // know.
    far.send(&samples::bgp(5, &[0, 1, 77, 1])).await;
    far.send(&announce(&[1])).await;
    let status = world.wait("a route", |status| !status.routes.is_empty()).await;
    assert_eq!(status.session.unwrap().families, hello.families);
}
