//! Malformed path attributes: the demands of RFC 7606 and of the RFCs of the attributes, sentence
//! by sentence.

use proptest::prelude::*;

use super::{translated::translator, world::*};
use crate::{
    input::bgp::{
        BgpState,
        faults::{Approach, UpdateContext},
        updates::UpdateRunEnd,
    },
    wire::{
        bgp::{Family, MessageType, Update, attributes},
        bmp::{Message, frames},
    },
};

const EXTERNAL: UpdateContext = UpdateContext { as_size: 4, internal: false };
const INTERNAL: UpdateContext = UpdateContext { as_size: 4, internal: true };
const OLD: UpdateContext = UpdateContext { as_size: 2, internal: false };

const ORIGIN: [u8; 4] = [0x40, 1, 1, 0];
const PATH: [u8; 9] = [0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9];
const OLD_PATH: [u8; 7] = [0x40, 2, 4, 2, 1, 0xfd, 0xe9];
const NEXT_HOP: [u8; 7] = [0x40, 3, 4, 10, 7, 0, 2];

/// Examines an UPDATE that announces 10.0.1.0/24 with these attributes. Returns the approach and
/// the subcode of the NOTIFICATION.
fn examined(session: UpdateContext, attributes: &[u8], nlri: &[u8]) -> Option<(Approach, u8)> {
    let message = update(&[], attributes, nlri);
    let update = Update::parse(&message, session.as_size).unwrap();
    let fault = session.examine(&update, |_, _| {})?;
    Some((fault.approach, fault.notice(update.attributes).subcode))
}

/// The attributes of a route. `wrong` replaces the attribute of its type, or follows the others.
fn attributes_with(session: UpdateContext, wrong: &[u8]) -> Vec<u8> {
    let path: &[u8] = if session.as_size == 4 { &PATH } else { &OLD_PATH };
    let good = [&ORIGIN[..], path, &NEXT_HOP];
    let mut all: Vec<u8> = good.into_iter().filter(|good| good[1] != wrong[1]).flatten().copied().collect();
    all.extend(wrong);
    all
}

fn approach(session: UpdateContext, wrong: &[u8]) -> Option<(Approach, u8)> {
    examined(session, &attributes_with(session, wrong), &prefixes(&[1]))
}

fn as_path(segments: &[u8]) -> Vec<u8> {
    [&[0x40, 2, segments.len() as u8], segments].concat()
}

#[test]
fn routes_with_malformed_attributes_are_treated_as_withdrawn() {
    let cases: &[(UpdateContext, &[u8], u8)] = &[
        // RFC 7606 §3 (c): Optional and Transitive bits.
        (EXTERNAL, &[0xc0, 1, 1, 0], 4),
        (EXTERNAL, &[0x00, 1, 1, 0], 4),
        (EXTERNAL, &[0x40, 4, 4, 0, 0, 0, 1], 4),
        (EXTERNAL, &[0xc0, 4, 4, 0, 0, 0, 1], 4),
        (EXTERNAL, &[0x80, 8, 4, 0, 0, 0, 1], 4),
        // §4: only AS_PATH and ATOMIC_AGGREGATE may have length zero.
        (EXTERNAL, &[0x40, 1, 0], 5),
        (EXTERNAL, &[0xc0, 8, 0], 5),
        (EXTERNAL, &[0xc0, 23, 0], 5),
        // §7.1
        (EXTERNAL, &[0x40, 1, 2, 0, 0], 5),
        (EXTERNAL, &[0x40, 1, 1, 3], 6),
        // §7.2: a segment of unknown type, a segment that is too long, a single octet, an empty
        // segment.
        (EXTERNAL, &[0x40, 2, 6, 5, 1, 0, 0, 0, 1], 11),
        (EXTERNAL, &[0x40, 2, 6, 2, 2, 0, 0, 0, 1], 11),
        (EXTERNAL, &[0x40, 2, 7, 2, 1, 0, 0, 0, 1, 2], 11),
        (EXTERNAL, &[0x40, 2, 2, 2, 0], 11),
        // RFC 7607 §2.
        (EXTERNAL, &[0x40, 2, 6, 2, 1, 0, 0, 0, 0], 11),
        (OLD, &[0x40, 2, 6, 2, 2, 0, 1, 0, 0], 11),
        // RFC 7606 §7.3, and RFC 4271 §6.3: no address of a host.
        (EXTERNAL, &[0x40, 3, 3, 10, 7, 0], 5),
        (EXTERNAL, &[0x40, 3, 4, 0, 0, 0, 0], 8),
        (EXTERNAL, &[0x40, 3, 4, 224, 0, 0, 1], 8),
        (EXTERNAL, &[0x40, 3, 4, 255, 255, 255, 255], 8),
        // §7.4, §7.5, §7.8, §7.9, §7.10, §7.14, §7.15, §7.16
        (EXTERNAL, &[0x80, 4, 3, 0, 0, 1], 5),
        (INTERNAL, &[0x40, 5, 1, 0], 5),
        (EXTERNAL, &[0xc0, 8, 5, 0, 0, 0, 1, 2], 5),
        (INTERNAL, &[0x80, 9, 1, 0], 5),
        (INTERNAL, &[0x80, 10, 5, 0, 0, 0, 0, 0], 5),
        (EXTERNAL, &[0xc0, 16, 4, 0, 0, 0, 0], 5),
        (EXTERNAL, &[0xc0, 25, 8, 0, 0, 0, 0, 0, 0, 0, 0], 5),
        (EXTERNAL, &[0xc0, 128, 3, 0, 0, 0], 5),
        (EXTERNAL, &[0xc0, 128, 7, 0, 0, 0, 1, 0x40, 1, 9], 9),
        // RFC 8092 §6, RFC 9234 §5, RFC 6514 §5
        (EXTERNAL, &[0xc0, 32, 13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 5),
        (EXTERNAL, &[0xc0, 35, 3, 0, 0, 0], 5),
        (EXTERNAL, &[0xc0, 22, 4, 0, 0, 0, 0], 5),
    ];
    for (session, wrong, subcode) in cases {
        assert_eq!(approach(*session, wrong), Some((Approach::Withdraw, *subcode)), "{wrong:?}");
    }
    // RFC 7606 §3 (d).
    for missing in 1..=3 {
        let left: Vec<u8> =
            [&ORIGIN[..], &PATH, &NEXT_HOP].into_iter().filter(|kept| kept[1] != missing).flatten().copied().collect();
        assert_eq!(examined(EXTERNAL, &left, &prefixes(&[1])), Some((Approach::Withdraw, 3)));
    }
    // §4: the attributes end inside an attribute or its header. The NLRI field is still found.
    for cut in [&[0x40, 1, 0x20, 0][..], &[0xc0, 8], &[0xd0, 8, 0]] {
        let attributes = [&ORIGIN[..], &PATH, &NEXT_HOP, cut].concat();
        assert_eq!(examined(EXTERNAL, &attributes, &prefixes(&[1])), Some((Approach::Withdraw, 1)), "{cut:?}");
    }
}

#[test]
fn malformed_attributes_that_do_not_select_routes_are_discarded() {
    let cases: &[(UpdateContext, &[u8])] = &[
        // RFC 7606 §3 (f), §7.6, §7.7; RFC 7607 §2.
        (EXTERNAL, &[0x40, 6, 1, 0]),
        (EXTERNAL, &[0xc0, 6, 0]),
        (EXTERNAL, &[0xc0, 7, 6, 0xfd, 0xe9, 10, 0, 0, 1]),
        (EXTERNAL, &[0x80, 7, 8, 0, 0, 0xfd, 0xe9, 10, 0, 0, 1]),
        (EXTERNAL, &[0xc0, 7, 8, 0, 0, 0, 0, 10, 0, 0, 1]),
        (OLD, &[0xc0, 7, 8, 0, 0, 0xfd, 0xe9, 10, 0, 0, 1]),
        // §7.5, §7.9, §7.10: from another AS, valid or not.
        (EXTERNAL, &[0x40, 5, 4, 0, 0, 0, 100]),
        (EXTERNAL, &[0x40, 5, 1, 0]),
        (EXTERNAL, &[0x80, 9, 4, 10, 0, 0, 1]),
        (EXTERNAL, &[0x80, 10, 4, 10, 0, 0, 1]),
        // RFC 6793 §4.1 and §6.
        (EXTERNAL, &[0xc0, 17, 6, 2, 1, 0, 0, 0xfd, 0xe9]),
        (EXTERNAL, &[0xc0, 18, 8, 0, 0, 0xfd, 0xe9, 10, 0, 0, 1]),
        (OLD, &[0xc0, 17, 4, 2, 1, 0, 0]),
        (OLD, &[0xc0, 17, 6, 9, 1, 0, 0, 0, 1]),
        (OLD, &[0xc0, 18, 4, 0, 0, 0, 1]),
        // RFC 7311 §3, RFC 9552 §8.2.2, RFC 8669 §6.
        (EXTERNAL, &[0xc0, 26, 1, 0]),
        (EXTERNAL, &[0xc0, 29, 1, 0]),
        (EXTERNAL, &[0x80, 40, 1, 0]),
    ];
    for (session, wrong) in cases {
        assert_eq!(approach(*session, wrong).map(|(approach, _)| approach), Some(Approach::Discard), "{wrong:?}");
        let mut translator = translator(&[Family::IPV4_UNICAST], session.internal);
        if session.as_size == 2 {
            continue;
        }
        let run = {
            let message = update(&[], &attributes_with(*session, wrong), &prefixes(&[1]));
            let run = translator.look(&message);
            let sent = translator.write(&message).unwrap();
            let (update, kinds) = route_monitoring(&sent);
            assert_eq!((update, kinds), (prefixes(&[1]), vec![1, 2, 3]), "{wrong:?}");
            run
        };
        assert!(matches!(run.stop, UpdateRunEnd::NoMore));
        assert_eq!((translator.counters.attributes_discarded, translator.counters.treated_as_withdraw), (1, 0));
    }
    // RFC 7606 §3 (g): the first attribute of a type counts, and a second one is discarded.
    for twice in [&ORIGIN[..], &[0x40, 1, 1, 9], &[0xc0, 99, 0]] {
        let attributes = [&ORIGIN[..], &PATH, &NEXT_HOP, &[0xc0, 99, 1, 7], twice].concat();
        assert_eq!(examined(EXTERNAL, &attributes, &prefixes(&[1])), Some((Approach::Discard, 1)));
    }
}

/// The IPv4 routes that a Route Monitoring message announces, and the types of its attributes.
fn route_monitoring(sent: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let frame = frames(sent).next().unwrap().unwrap();
    let Ok(Message::RouteMonitoring(_, message)) = Message::parse(&frame) else { panic!("{frame:?}") };
    let update = Update::parse(message, 4).unwrap();
    (update.nlri.to_vec(), attributes(update.attributes).map(|attribute| attribute.unwrap().kind).collect())
}

#[test]
fn an_error_beside_no_reachable_route_ends_the_session() {
    // RFC 7606 §5.2.
    let malformed: &[(&[u8], u8)] = &[
        (&[0x40, 1, 0x20, 0], 1),
        (&[0x40, 1, 1, 9], 6),
        (&[0xc0, 8, 3, 0, 0, 0], 5),
        (&[0x40, 2, 2, 2, 0], 11),
        (&[0xc0, 1, 1, 0], 4),
    ];
    let empty_reach = [0x80, 14, 21, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    let unreach = [0x80, 15, 7, 0, 2, 1, 24, 0x20, 1, 9];
    for (wrong, subcode) in malformed {
        for beside in [&[][..], &empty_reach, &unreach] {
            let attributes = [beside, wrong].concat();
            assert_eq!(examined(EXTERNAL, &attributes, &[]), Some((Approach::Reset, *subcode)), "{attributes:?}");
        }
    }
    // Withdrawals alone, or an error no worse than a discard, do not end the session.
    assert_eq!(examined(EXTERNAL, &unreach, &[]), None);
    let discarded = [&unreach[..], &[0x40, 6, 1, 0]].concat();
    assert_eq!(examined(EXTERNAL, &discarded, &[]).map(|(approach, _)| approach), Some(Approach::Discard));
}

#[test]
fn a_multiprotocol_attribute_with_wrong_flags_ends_the_session() {
    // RFC 7606 §5.3: MP_REACH_NLRI and MP_UNREACH_NLRI are optional and non-transitive.
    for flags in [0x00, 0x40, 0xc0] {
        let unreach = [flags, 15, 7, 0, 2, 1, 24, 0x20, 1, 9];
        assert_eq!(examined(EXTERNAL, &unreach, &[]), Some((Approach::Reset, 9)));
        assert_eq!(examined(EXTERNAL, &[flags, 15, 3, 0, 2, 1], &[]), Some((Approach::Reset, 9)), "no End-of-RIB");
    }
}

#[test]
fn an_unrecognized_well_known_attribute_ends_the_session() {
    // RFC 4271 §6.3, unchanged by RFC 7606. The data is the attribute.
    for flags in [0x40, 0x00, 0x60] {
        let wrong = [flags, 99, 2, 1, 2];
        assert_eq!(approach(EXTERNAL, &wrong), Some((Approach::Reset, 2)));
        let message = update(&[], &attributes_with(EXTERNAL, &wrong), &prefixes(&[1]));
        let update = Update::parse(&message, 4).unwrap();
        let fault = EXTERNAL.examine(&update, |_, _| {}).unwrap();
        assert_eq!(fault.notice(update.attributes).data, wrong[..]);
    }
    // An unknown optional attribute is no error.
    assert_eq!(approach(EXTERNAL, &[0xc0, 99, 2, 1, 2]), None);
    assert_eq!(approach(EXTERNAL, &[0x80, 99, 0]), None);
}

#[test]
fn confederation_segments_from_another_as_are_malformed() {
    // RFC 5065 §5: from another AS the AS_PATH is malformed. A peer in the same AS is in the same
    // confederation.
    let path = as_path(&[3, 1, 0, 0, 0xfd, 0xe9, 2, 1, 0, 0, 0xfd, 0xea]);
    assert_eq!(approach(EXTERNAL, &path), Some((Approach::Withdraw, 11)));
    assert_eq!(approach(INTERNAL, &path), None);
}

#[test]
fn a_path_with_an_as_set_is_treated_as_withdrawn() {
    // RFC 9774 §3, for AS4_PATH too.
    let path = as_path(&[2, 1, 0, 0, 0xfd, 0xe9, 1, 1, 0, 0, 0xfd, 0xea]);
    assert_eq!(approach(EXTERNAL, &path), Some((Approach::Withdraw, 11)));
    assert_eq!(approach(INTERNAL, &path), Some((Approach::Withdraw, 11)));
    assert_eq!(approach(INTERNAL, &as_path(&[4, 1, 0, 0, 0xfd, 0xe9])), Some((Approach::Withdraw, 11)));
    assert_eq!(approach(OLD, &[0xc0, 17, 6, 1, 1, 0, 0, 0xfd, 0xe9]), Some((Approach::Withdraw, 9)));
}

#[test]
fn the_worst_of_several_errors_counts() {
    // RFC 7606 §3 (h).
    let discard = [0x40, 6, 1, 0];
    let withdraw = [0xc0, 8, 1, 0];
    let reset = [0x40, 99, 1, 0];
    let all = [&ORIGIN[..], &PATH, &NEXT_HOP].concat();
    let of = |wrong: &[&[u8]]| {
        examined(EXTERNAL, &[&all[..], &wrong.concat()].concat(), &prefixes(&[1])).map(|(approach, _)| approach)
    };
    assert_eq!(of(&[&discard, &withdraw]), Some(Approach::Withdraw));
    assert_eq!(of(&[&withdraw, &discard]), Some(Approach::Withdraw));
    assert_eq!(of(&[&withdraw, &reset, &discard]), Some(Approach::Reset));
}

#[test]
fn reserved_flags_of_an_attribute_are_ignored() {
    // RFC 4271 §4.3: the last four bits. RFC 7606 §3 (c) leaves out the Partial bit.
    for bits in [0x01, 0x0f, 0x20, 0x2f] {
        let origin = [0x40 | bits, 1, 1, 0];
        assert_eq!(approach(EXTERNAL, &origin), None);
    }
}

#[test]
fn an_update_without_its_discarded_attributes_is_never_an_end_of_rib() {
    let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
    let discarded = [0x40, 6, 1, 0];
    let unreach = [0x80, 15, 3, 0, 2, 1];
    let withdrawn = [&[0x40, 1, 1, 9][..], &PATH, &NEXT_HOP, &unreach].concat();
    let cases = [
        (update(&[], &discarded, &[]), vec![]),
        (update(&[], &[&unreach[..], &discarded].concat(), &[]), vec![]),
        (update(&[], &withdrawn, &prefixes(&[1])), vec!["-1".to_owned()]),
    ];
    for (message, sent) in cases {
        let mut translator = translator(&families, false);
        let run = translator.look(&message);
        assert!(matches!(run.stop, UpdateRunEnd::NoMore), "{:?}", run.stop);
        assert_eq!(run.updates, 1);
        let frames_told = translator.write(&message).unwrap_or_default();
        let words: Vec<_> = frames(&frames_told).map(|frame| word(frame.unwrap().bytes())).collect();
        assert_eq!(words, sent);
    }
}

#[tokio::test(start_paused = true)]
async fn the_session_ends_with_the_notification_of_the_error() {
    let cases: &[(&[u8], (u8, u8))] =
        &[(&[0x40, 1, 0x20, 0], (3, 1)), (&[0x40, 99, 0], (3, 2)), (&[0x40, 1, 1, 9], (3, 6))];
    for (attributes, notification) in cases {
        let mut world = BgpWorld::start(plan());
        let mut far = world.established(&TestOpen::default()).await;
        far.send(&[announce(&[1]), update(&[], attributes, &[])].concat()).await;
        assert_eq!(far.expect_notification().await, *notification);
        world.wait("down", |status| status.state != BgpState::Established).await;
        let (code, subcode) = notification;
        assert_eq!(world.words(), ["up".to_owned(), "+1".to_owned(), format!("down 1 {code}/{subcode}")]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_station_sees_the_same_routes_after_a_treat_as_withdraw() {
    let mut world = BgpWorld::start(plan());
    let mut far = world.established(&TestOpen::default()).await;
    let reach = [&[0x80, 14, 26, 0, 2, 1, 16][..], &[0x20; 16], &[0, 32, 0x20, 1, 0xd, 0xb8]].concat();
    let good = [&ATTRIBUTES[..], &reach].concat();
    let bad = [&good[..], &[0xc0, 32, 1, 0]].concat();
    far.send(&[update(&[], &good, &prefixes(&[1, 2])), update(&[], &bad, &prefixes(&[2, 3]))].concat()).await;
    let status = world.wait("both", |status| status.received.count(MessageType::Update) == 2).await;
    assert_eq!((status.treated_as_withdraw, status.prefixes_treated_as_withdraw), (1, 3));
    assert_eq!(world.words(), ["up", "+1 +2 +IPv6 unicast", "-2 -3", "-IPv6 unicast"]);
    assert_eq!(world.late_words(), ["up", "+1"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_malformed_attribute_and_every_route_reaches_a_station(
        internal in any::<bool>(),
        parts in proptest::sample::subsequence(some_attributes(), 0..8),
        damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
        shuffle in any::<u64>(),
        withdrawn in proptest::collection::vec(0u8..4, 0..3),
        announced in proptest::collection::vec(0u8..4, 0..3),
    ) {
        let mut parts = parts;
        fastrand::Rng::with_seed(shuffle).shuffle(&mut parts);
        let mut bytes = [ORIGIN.to_vec(), PATH.to_vec(), NEXT_HOP.to_vec()].concat();
        bytes.extend(parts.concat());
        if let Some((at, value)) = damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let message = update(&prefixes(&withdrawn), &bytes, &prefixes(&announced));
        let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
        let session = if internal { INTERNAL } else { EXTERNAL };
        let mut translator = translator(&families, internal);
        let run = translator.look(&message);
        let sent = translator.write(&message).unwrap_or_default();
        if let UpdateRunEnd::Invalid { notice, .. } = run.stop {
            prop_assert_eq!(notice.code, 3);
            prop_assert!(sent.is_empty());
            return Ok(());
        }
        let mut spoken_of = std::collections::BTreeSet::new();
        for frame in frames(&sent) {
            let frame = frame.unwrap();
            let Ok(Message::RouteMonitoring(_, sent)) = Message::parse(&frame) else { panic!("{frame:?}") };
            let sent = Update::parse(sent, 4).unwrap();
            prop_assert_eq!(session.examine(&sent, |_, _| {}), None);
            for (family, items) in sent.routes() {
                spoken_of.insert((family, items.to_vec()));
            }
        }
        // Every route is passed on, unchanged or as a withdrawal.
        let received = Update::parse(&message, 4).unwrap();
        for (family, items) in received.routes().filter(|(family, items)| families.contains(family) && !items.is_empty()) {
            prop_assert!(spoken_of.contains(&(family, items.to_vec())), "{} {:?}", family, items);
        }
    }
}

/// Valid and malformed attributes that may accompany the mandatory ones.
fn some_attributes() -> Vec<Vec<u8>> {
    let reach = [&[0x80, 14, 25, 0, 2, 1, 16][..], &[0x20; 16], &[0, 24, 0x20, 1, 9]].concat();
    vec![
        reach,
        vec![0x80, 15, 7, 0, 2, 1, 24, 0x20, 1, 7],
        vec![0x40, 5, 4, 0, 0, 0, 100],
        vec![0x40, 6, 0],
        vec![0x40, 6, 1, 0],
        vec![0xc0, 7, 8, 0, 0, 0xfd, 0xe9, 10, 0, 0, 1],
        vec![0xc0, 7, 6, 0xfd, 0xe9, 10, 0, 0, 1],
        vec![0xc0, 8, 4, 0xfd, 0xe9, 0, 1],
        vec![0x80, 9, 4, 10, 0, 0, 1],
        vec![0xc0, 17, 6, 2, 1, 0, 0, 0xfd, 0xe9],
        vec![0xd0, 16, 0, 8, 0, 2, 0, 1, 0, 0, 0, 2],
        vec![0xc0, 99, 3, 1, 2, 3],
        vec![0xc0, 99, 0],
        ORIGIN.to_vec(),
    ]
}
