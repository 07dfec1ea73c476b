//! How the feed reads NLRI, whatever the OPENs say, and fields of NLRI that nobody can read.

use bytes::{BufMut, BytesMut};

use super::{super::*, append, bytes_of, dump, following, take_all, types_of, world};
use crate::wire::{
    bgp::{Family, Form, Reading},
    bmp::{PeerHeader, RibView, build, frames, samples},
};

const PEER: u8 = 2;
const UNKNOWN: Family = world::UNKNOWN;

fn header() -> PeerHeader {
    PeerHeader::of(&frames(&world::up(PEER, 1)).next().unwrap().unwrap()).unwrap()
}

/// A Route Monitoring message that announces or withdraws a field of NLRI.
fn field(family: Family, announced: bool, nlri: &[&[u8]]) -> Vec<u8> {
    let nlri = nlri.concat();
    let mut attributes = Vec::new();
    let plain = family == Family::IPV4_UNICAST;
    if !plain {
        let head: &[u8] = if announced { &[4, 192, 0, 2, 9, 0] } else { &[] };
        // As the feed writes it: as short as possible, except for withdrawals.
        let length = 3 + head.len() + nlri.len();
        match u8::try_from(length) {
            Ok(length) if announced => attributes.extend([0x80, 14, length]),
            _ => {
                attributes.extend([0x90, if announced { 14 } else { 15 }]);
                attributes.put_u16(length as u16);
            }
        }
        attributes.put_u16(family.afi);
        attributes.push(family.safi);
        attributes.extend(head);
        attributes.extend(&nlri);
    }
    if announced {
        attributes.extend([0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9, 0x40, 3, 4, 192, 0, 2, 1]);
    }
    let mut body = Vec::new();
    let withdrawn: &[u8] = if plain && !announced { &nlri } else { &[] };
    body.put_u16(withdrawn.len() as u16);
    body.extend(withdrawn);
    body.put_u16(attributes.len() as u16);
    body.extend(attributes);
    body.extend(if plain && announced { &nlri[..] } else { &[] });
    let mut out = BytesMut::new();
    build::route_monitoring(&mut out, &header(), &samples::bgp(2, &body));
    out.to_vec()
}

fn announce(family: Family, nlri: &[&[u8]]) -> Vec<u8> {
    field(family, true, nlri)
}

fn withdraw(family: Family, nlri: &[&[u8]]) -> Vec<u8> {
    field(family, false, nlri)
}

/// A feed with these messages of a peer that was announced or not.
fn heard(announced: bool, messages: &[Vec<u8>]) -> (Feed, Input) {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("router"));
    if announced {
        append(&mut input, &[world::up(PEER, 1)]);
    }
    append(&mut input, messages);
    (feed, input)
}

/// What a late station is told, without the Peer Up.
fn late(feed: &Feed) -> Vec<u8> {
    let told = dump(feed);
    told.strip_prefix(&world::up(PEER, 1)[..]).map_or(told.clone(), <[u8]>::to_vec)
}

const V4: Family = Family::IPV4_UNICAST;
const A: &[u8] = &[24, 10, 0, 1];
const B: &[u8] = &[24, 10, 0, 2];
const C: &[u8] = &[24, 10, 0, 3];

#[test]
fn a_rib_keeps_whole_fields_until_its_nlri_can_be_read_in_one_way_alone() {
    // Two prefixes of 24 bits, or one prefix with a path identifier.
    let messages = [announce(V4, &[A, B]), announce(V4, &[B, C])];
    let (feed, mut input) = heard(true, &messages);
    assert_eq!(late(&feed), messages.concat(), "nothing is told wrongly");
    let rib = feed.ribs(&InputId::relay("router"))[0];
    assert_eq!((rib.is_decided, rib.routes), (false, 3), "counted as the OPENs say");
    append(&mut input, &[withdraw(V4, &[A])]);
    let rib = feed.ribs(&InputId::relay("router"))[0];
    assert_eq!((rib.is_decided, rib.reading.path_ids, rib.routes), (true, false, 2));
    assert_eq!(late(&feed), announce(V4, &[B, C]));
    assert_eq!(feed.stats().trouble.errors(), 0);
}

#[test]
fn path_identifiers_are_found_without_the_opens_and_withdrawn_one_by_one() {
    let path = |id: u8, prefix: &[u8]| [&[0, 0, 0, id], prefix].concat();
    for announced in [true, false] {
        let paths = [path(1, A), path(2, A), path(1, B)];
        let all: Vec<&[u8]> = paths.iter().map(Vec::as_slice).collect();
        let (feed, mut input) = heard(announced, &[announce(V4, &all)]);
        let rib = feed.ribs(&InputId::relay("router"))[0];
        assert_eq!((rib.is_decided, rib.reading.path_ids, rib.routes), (true, true, 3));
        append(&mut input, &[withdraw(V4, &[&path(2, A)])]);
        assert_eq!(late(&feed), announce(V4, &[&path(1, A), &path(1, B)]));
    }
}

#[test]
fn nlri_in_another_encoding_than_the_rest_are_kept_whole_and_counted() {
    let other = [&[0, 0, 0, 1], A].concat();
    let (feed, mut input) = heard(true, &[announce(V4, &[A]), announce(V4, &[&other]), announce(V4, &[B])]);
    assert_eq!((feed.ribs(&InputId::relay("router"))[0].routes, feed.stats().trouble.mixed_path_ids), (3, 1));
    // Routes that came after the field are told after it.
    assert_eq!(late(&feed), [announce(V4, &[A]), announce(V4, &[&other]), announce(V4, &[B])].concat());
    // The withdrawal may be written in either way, so it stays while it may be needed.
    append(&mut input, &[withdraw(V4, &[C])]);
    assert!(late(&feed).ends_with(&withdraw(V4, &[C])));
    append(&mut input, &[withdraw(V4, &[&other])]);
    assert_eq!(input.totals().trouble, feed.stats().trouble);
}

#[test]
fn nlri_that_nobody_can_read_are_kept_whole_and_counted() {
    let broken: &[u8] = &[24, 10];
    let (feed, _input) = heard(true, &[announce(V4, &[A]), announce(V4, &[broken])]);
    assert_eq!((feed.ribs(&InputId::relay("router"))[0].routes, feed.stats().trouble.malformed), (2, 1));
    assert_eq!(late(&feed), [announce(V4, &[A]), announce(V4, &[broken])].concat());
}

#[test]
fn the_first_update_with_each_kind_of_error_gives_a_notice_with_its_place() {
    let other = [&[0, 0, 0, 1], A].concat();
    let messages: [&[&[u8]]; 5] = [&[A], &[&[24, 10]], &[&other], &[&[24, 10]], &[&other]];
    let messages = messages.map(|nlri| announce(V4, nlri));
    // In one read, and in a read each.
    for at_once in [true, false] {
        let (_feed, mut input) = heard(true, &[]);
        if at_once {
            append(&mut input, &messages);
        } else {
            messages.iter().for_each(|message| append(&mut input, std::slice::from_ref(message)));
        }
        let place = |message: usize| {
            let before = world::up(PEER, 1).len() + messages[..message].concat().len();
            (message as u64 + 2, before as u64)
        };
        let found: Vec<_> = input.take_notices();
        let found = found.iter().map(|notice| match notice {
            InputNotice::UpdateError(UpdateError { kind, message, at }) => (kind.as_str(), (*message, *at)),
            other => panic!("{other}"),
        });
        assert_eq!(found.collect::<Vec<_>>(), [("malformed", place(1)), ("mixed-path-ids", place(2))]);
        append(&mut input, &messages[1..2]);
        assert_eq!(input.take_notices(), []);
        input.notice_again();
        append(&mut input, &messages[1..2]);
        assert_eq!(input.take_notices().len(), 1);
    }
}

#[test]
fn the_opens_decide_what_stays_undecided_for_too_long() {
    let mut messages = Vec::new();
    for number in 0..1025u16 {
        let [high, low] = number.to_be_bytes();
        messages.push(announce(V4, &[&[24, 10, high, low], &[24, 11, high, low]]));
    }
    let (feed, mut input) = heard(true, &messages[..1024]);
    let (rib, routes) = (feed.ribs(&InputId::relay("router"))[0], 2048);
    assert_eq!((rib.is_decided, rib.routes), (false, routes));
    append(&mut input, &messages[1024..]);
    let rib = feed.ribs(&InputId::relay("router"))[0];
    assert_eq!((rib.is_decided, rib.reading.path_ids, rib.routes), (true, false, routes + 2));
    assert!(late(&feed).len() < messages.concat().len() / 5, "and they are packed");
}

#[test]
fn a_station_in_the_middle_of_a_dump_when_the_reading_is_found_ends_with_the_same() {
    let pairs: Vec<_> = (0..200u8).map(|number| announce(V4, &[&[24, 10, 1, number], &[24, 10, 2, number]])).collect();
    for taken in [1, 500, 5000, 15_000] {
        let (feed, mut input) = heard(true, &pairs);
        append(&mut input, &[withdraw(V4, &[&[24, 10, 1, 0], &[24, 10, 1, 1]])]);
        let mut slow = feed.attach(Selection::default());
        let mut pieces = std::collections::VecDeque::new();
        while pieces.iter().map(|piece: &Piece| piece.bytes.len()).sum::<usize>() < taken {
            slow.take(100, &mut pieces);
        }
        append(&mut input, &[announce(V4, &[C])]);
        pieces.extend(take_all(&mut slow));
        let again = Feed::default();
        let mut told = again.input(InputId::relay("told"));
        append(&mut told, &[bytes_of(pieces.make_contiguous())]);
        append(&mut told, &[announce(V4, &[C])]);
        assert_eq!(again.stats().routes, feed.stats().routes, "{taken}");
    }
}

#[test]
fn there_is_one_label_unless_both_opens_say_that_there_are_several() {
    // Two labels without the S bit are two routes.
    let two: &[u8] = &[48, 0, 0, 0x30, 10, 2, 1, 48, 0, 0, 0x30, 10, 2, 3];
    for announced in [true, false] {
        let (feed, mut input) = heard(announced, &[announce(Family::IPV4_LABELED, &[two])]);
        assert_eq!(feed.ribs(&InputId::relay("router"))[0].routes, 2, "announced: {announced}");
        append(&mut input, &[withdraw(Family::IPV4_LABELED, &[&[48, 0xff, 0xff, 0xf0, 10, 2, 1]])]);
        assert_eq!(late(&feed), announce(Family::IPV4_LABELED, &[&[48, 0, 0, 0x30, 10, 2, 3]]));
    }
}

#[test]
fn a_stack_of_labels_ends_with_the_s_bit_and_is_withdrawn_by_its_prefix() {
    let open = |asn: u8| samples::bgp(1, &[4, 0xfd, asn, 0, 90, 10, 0, 0, 1, 8, 2, 6, 8, 4, 0, 1, 4, 3]);
    let mut up = BytesMut::new();
    build::peer_up(&mut up, &header(), [10, 0, 0, 1].into(), [179, 40000], &open(0xe8), &open(0xe9));
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("router"));
    let stack: &[u8] = &[24 + 24 + 24, 0, 1, 0x10, 0, 2, 0x21, 10, 2, 1];
    let family = Family::IPV4_LABELED;
    append(&mut input, &[up.to_vec(), announce(family, &[stack, &[48, 0, 3, 1, 10, 2, 2], &[48, 0, 3, 1, 10, 2, 3]])]);
    let rib = feed.ribs(&InputId::relay("router"))[0];
    assert_eq!(
        (rib.reading, rib.routes),
        (Reading { form: Form::Labeled { most: 32, stack: true }, path_ids: false }, 3)
    );
    let other: &[u8] = &[48, 0, 9, 1, 10, 2, 1];
    append(&mut input, &[announce(family, &[other])]);
    assert_eq!(feed.stats().routes, 3, "the same prefix with other labels");
    append(&mut input, &[announce(family, &[stack]), withdraw(family, &[&[48, 0xff, 0xff, 0xf0, 10, 2, 1]])]);
    assert_eq!(feed.stats().routes, 2);
}

#[test]
fn a_late_station_is_told_whole_fields_of_an_unknown_family_in_their_order() {
    let (a, b) = (&[2, 1, 9][..], &[2, 2, 9][..]);
    let (feed, mut input) = heard(true, &[announce(UNKNOWN, &[a, b]), withdraw(UNKNOWN, &[a])]);
    assert_eq!(late(&feed), [announce(UNKNOWN, &[a, b]), withdraw(UNKNOWN, &[a])].concat(), "nobody waits for it");
    append(&mut input, &[announce(UNKNOWN, &[a, b])]);
    assert_eq!(late(&feed), announce(UNKNOWN, &[a, b]), "nothing is older than the withdrawal");
    append(&mut input, &[announce(UNKNOWN, &[b]), withdraw(UNKNOWN, &[a, b])]);
    assert_eq!(late(&feed), [announce(UNKNOWN, &[b]), withdraw(UNKNOWN, &[a, b])].concat());
    append(&mut input, &[world::end_of_rib(PEER, RibView::AdjRibInPre, UNKNOWN)]);
    assert_eq!(types_of(&late(&feed)), [0, 0, 0], "and End-of-RIB");
    assert_eq!((feed.stats().trouble.unknown_family, feed.stats().trouble.errors()), (5, 0));
}

#[test]
fn beyond_the_limit_of_whole_fields_the_oldest_goes_and_is_counted() {
    let long = |number: u16, length: usize| [&number.to_be_bytes()[..], &vec![7; length]].concat();
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("router"));
    append(&mut input, &[world::up(PEER, 1)]);
    for number in 0..6000 {
        append(&mut input, &[announce(UNKNOWN, &[&long(number, 3900)])]);
    }
    let stats = feed.stats();
    assert!(stats.route_bytes < 24 << 20, "{} bytes", stats.route_bytes);
    assert_eq!(stats.routes as u64 + stats.trouble.overflowed, 6000);
    assert!(stats.trouble.overflowed > 1000 && stats.trouble.errors() == stats.trouble.overflowed);
    assert!(!dump(&feed).windows(6).any(|part| part == [&long(0, 4)[..]].concat()), "the oldest is gone");
}

#[test]
fn the_nlri_of_bmpds_own_peers_are_read_as_the_opens_agree() {
    let feed = Feed::default();
    let mut input = feed.input(InputId::relay("peer"));
    input.trust_opens();
    append(&mut input, &[world::up(PEER, 1), announce(V4, &[A, B])]);
    assert!(feed.ribs(&InputId::relay("peer"))[0].is_decided);
}

/// Captures of daemons: the file, and how many routes early and late stations know.
const CASES: [(&str, usize); 8] = [
    ("a-2octet-path-one-route", 1),
    ("a-2octet-path-flag-clear", 5),
    ("b-agreed-but-without-identifiers", 5),
    ("b-identifiers-without-capability", 5),
    ("b-identifiers-in-unlisted-family", 1),
    ("d-labeled-unicast-s-bit-clear", 2),
    ("d-vpnv4-compatibility-field", 1),
    ("e-mup", 1),
];

#[test]
fn nlri_of_daemons_that_contradict_their_opens_are_read_as_written() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/cases");
    for (name, routes) in CASES {
        let Ok(stream) = std::fs::read(folder.join(format!("{name}.bmp"))) else { continue };
        let about_peers = |frame: &[u8]| frame[5] != 4 && frame[5] != 5;
        let sent: Vec<_> = frames(&stream).map(|frame| frame.unwrap().bytes().to_vec()).collect();
        let sent: Vec<_> = sent.into_iter().filter(|frame| about_peers(frame)).collect();
        let feed = Feed::default();
        let mut early = following(&feed);
        let mut input = feed.input(InputId::relay("daemon"));
        append(&mut input, &sent);
        assert_eq!(bytes_of(&take_all(&mut early)), sent.concat(), "{name}");
        assert_eq!(feed.stats().routes, routes, "{name}");
        // A late station knows as many.
        let late = Feed::default();
        let mut told = late.input(InputId::relay("late"));
        append(&mut told, &[dump(&feed)]);
        assert_eq!(late.stats().routes, routes, "{name}");
    }
}

#[test]
fn a_route_that_changes_after_a_whole_field_is_told_after_it() {
    let (a, b) = (&[24, 10, 1, 0][..], &[24, 1, 10, 0][..]);
    // With a path identifier, where the RIB has none.
    let mixed = [0, 16, 1, 0xff, 0, 24, 0xff, 0, 0, 24, 1, 10, 0];
    let family = Family::IPV4_UNICAST;
    let (feed, mut input) = heard(true, &[announce(family, &[a])]);
    append(&mut input, &[announce(family, &[&mixed]), announce(family, &[b])]);
    let told = late(&feed);
    let place = |what: &[u8]| told.windows(what.len()).rposition(|part| part == what).expect("it is told");
    assert!(place(b) > place(&mixed) + mixed.len(), "{told:x?}");
}
