//! Files that are packed, missing, damaged, or not MRT.

use std::{
    io::{Read, Write},
    path::Path,
};

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::samples::*;
use crate::{
    feed::TroubleKind,
    input::mrt::{Misread, PassedOverCount, PassedOverKind, RecordPlace, ReplayState},
    wire::{
        bgp::Family,
        bmp::samples::bgp,
        mrt::samples::{
            RibEntrySample, ipv4_attributes, ipv6_attributes, peer_index_table, real_files, record, rib, unpacked,
        },
    },
};

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()).read_to_end(&mut out).unwrap();
    out
}

fn bzipped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bzip2::read::BzEncoder::new(bytes, bzip2::Compression::fast()).read_to_end(&mut out).unwrap();
    out
}

/// Records of every kind that a replay reads.
fn some_records() -> Vec<u8> {
    let (four, six) = (ipv4_attributes(65001), ipv6_attributes(65001));
    let route = |path_id| [RibEntrySample { peer: 0, originated: 3, path_id, attributes: &four }];
    [
        peer_index_table(1, "v", &[([1, 1, 1, 1], "192.0.2.1", 65001), ([2, 2, 2, 2], "::2", 70_000)]),
        rib(1, 2, 0, &[8, 10], &route(None)),
        rib(1, 8, 1, &[8, 10], &route(Some(1))),
        rib(1, 4, 2, &[16, 0x20, 1], &[RibEntrySample { peer: 1, originated: 3, path_id: None, attributes: &six }]),
        bgp4mp(2, 4, &bgp(1, &[4, 0xfd, 0xe9, 0, 180, 192, 0, 2, 1, 4, 2, 2, 2, 0])),
        bgp4mp(3, 4, &update()),
        bgp4mp(4, 11, &update_ipv6()),
        bgp4mp(5, 4, &bgp(3, &[6, 2])),
        state_change(6, 5, 6),
        state_change(7, 6, 1),
    ]
    .concat()
}

async fn failure(path: &Path) -> String {
    let (stream, status) = replayed(path).await;
    let ReplayState::Failed(reason) = status.state else { panic!("{:?}", status.state) };
    let described = described(&stream);
    let count = |what| described.iter().filter(|message| message.starts_with(what)).count();
    assert_eq!(count("up"), count("down"), "its peers are down");
    let path = path.display().to_string();
    reason.strip_prefix(&path).unwrap_or_else(|| panic!("{reason} names {path}")).to_owned()
}

#[tokio::test]
async fn the_first_bytes_of_a_file_decide_how_it_is_unpacked() {
    let plain = [bgp4mp(1, 4, &update()), bgp4mp(2, 4, &update_ipv6())].concat();
    let (first, second) = plain.split_at(50);
    let packed = [
        plain.clone(),
        gzipped(&plain),
        bzipped(&plain),
        [gzipped(first), gzipped(second)].concat(),
        [bzipped(first), bzipped(second)].concat(),
    ];
    for bytes in packed {
        let (stream, status) = replayed(file(&bytes).path()).await;
        assert_eq!(
            described(&stream),
            ["up 192.0.2.1 1.000000", "route 192.0.2.1 1.000000", "route 192.0.2.1 2.000000"]
        );
        assert_eq!((status.records, status.updates, status.errors), (2, 2, 0));
        assert_eq!((status.bytes_read, status.file_bytes), (bytes.len() as u64, Some(bytes.len() as u64)));
    }
}

#[tokio::test]
async fn a_replay_of_an_unreadable_file_fails_with_its_name_and_the_offset() {
    let good = bgp4mp(1, 4, &update());
    let end = good.len();
    assert_eq!(
        failure(file(b"GET / HTTP/1.1\r\n").path()).await,
        ": at byte 8: expected a record of at most 16777216 bytes, found a length of 1414541105: \
         this is no MRT, or a record before it is damaged"
    );
    let behind = failure(file(&[&good[..], b"GET / HTTP/1.1\r\n"].concat()).path()).await;
    assert!(behind.starts_with(&format!(": at byte {}: expected a record of at most", end + 8)), "{behind}");
    let cut = failure(file(&[&good[..], &good[..20]].concat()).path()).await;
    assert_eq!(cut, format!(": ends 20 bytes into the record at byte {end} (unpacked)"));
    let packed = gzipped(&[&good[..]; 1].concat());
    let cut = failure(file(&packed[..packed.len() - 9]).path()).await;
    assert!(cut.contains(" bytes (unpacked): "), "{cut}");
    let mut damaged = bzipped(&good);
    damaged[20] ^= 0xff;
    let damaged = failure(file(&damaged).path()).await;
    assert!(damaged.starts_with(": after 0 bytes (unpacked): "), "{damaged}");
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(failure(folder.path()).await, ": not a regular file");
    let absent = failure(&folder.path().join("absent.mrt")).await;
    assert!(absent.starts_with(": cannot be opened: No such file"), "{absent}");
}

#[tokio::test]
async fn a_malformed_record_is_counted_and_passed_over() {
    let good = bgp4mp(1, 4, &update());
    let mut bad = good.clone();
    bad[12 + 8 + 3] = 9;
    let mut worse = good.clone();
    worse[12 + 20] = 0;
    let short = record(1, 17, 4, &[0; 3]);
    let (stream, status) = replayed(file(&[&good[..], &bad, &worse, &short, &good].concat()).path()).await;
    assert_eq!(described(&stream), ["up 192.0.2.1 1.000000", "route 192.0.2.1 1.000000", "route 192.0.2.1 1.000000"]);
    assert_eq!((status.state, status.records, status.errors), (ReplayState::Done, 5, 3));
    let length = good.len() as u64;
    let one = |record| PassedOverCount { records: 1, first: RecordPlace { record, offset: (record - 1) * length } };
    let broken = |kind| PassedOverKind::Broken { kind, subtype: 4 };
    assert_eq!(status.passed_over, [(broken(16), one(2)), (broken(17), one(4)), (PassedOverKind::Message, one(3))]);
    let error = status.last_error.unwrap();
    assert!(error.starts_with(&format!("record 4 at byte {} (unpacked): ", 3 * length)), "{error}");
}

#[tokio::test]
async fn an_update_with_an_error_is_passed_on_unchanged_and_counted_with_its_place() {
    let plain: &[u8] = &[0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9, 0x40, 3, 4, 192, 0, 2, 1];
    let update = |attributes: &[u8], nlri: &[u8]| {
        let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        bgp(2, &[&[0, 0], &length[..], attributes, nlri].concat())
    };
    // An MP_REACH_NLRI that ends inside its next hop, beside a readable route; fields that do not
    // fill the message; a prefix of 33 bits; a COMMUNITIES attribute of three bytes, twice.
    let cut_reach = [plain, &[0x80, 14, 5, 0, 2, 1, 16, 0]].concat();
    let bad_attribute = [plain, &[0xc0, 8, 3, 1, 2, 3]].concat();
    let updates = [
        update(&cut_reach, &[8, 10]),
        bgp(2, &[0, 9, 0, 0]),
        update(plain, &[33, 10]),
        update(&bad_attribute, &[8, 11]),
        update(plain, &[8, 12]),
        update(&bad_attribute, &[8, 13]),
    ];
    let records: Vec<_> = updates.iter().map(|update| bgp4mp(1, 4, update)).collect();
    let (stream, status) = replayed(file(&records.concat()).path()).await;
    assert_eq!(replayed_updates(&stream), updates);
    assert_eq!((status.state, status.passed_over), (ReplayState::Done, vec![]));
    let place = |record: usize| {
        Some(RecordPlace { record: record as u64, offset: records[..record - 1].concat().len() as u64 })
    };
    let misread = |kind, updates, record| Misread { kind, updates, first: place(record) };
    // The feed counts a malformed multiprotocol attribute under both kinds.
    let expected = [misread(TroubleKind::Malformed, 3, 1), misread(TroubleKind::MalformedAttributes, 3, 1)];
    assert_eq!((status.not_understood, status.errors), (expected.to_vec(), 6));
    assert!(status.last_error.unwrap().starts_with("record 1 at byte 0 (unpacked): an UPDATE: "));
}

#[tokio::test]
async fn a_dump_of_an_unknown_family_is_passed_over_and_is_no_error() {
    let peers = peer_index_table(1, "", &[([1, 1, 1, 1], "192.0.2.1", 65001)]);
    let (four, length) = (ipv4_attributes(65001), u64::try_from(peers.len()).unwrap());
    let known = rib(1, 2, 0, &[8, 10], &[RibEntrySample { peer: 0, originated: 3, path_id: None, attributes: &four }]);
    let unknown = |safi| record(1, 13, 6, &[0, 0, 0, 1, 0, 99, safi, 1, 2, 3, 4, 0, 0]);
    let records = [peers, unknown(7), unknown(7), unknown(8), known];
    let (stream, status) = replayed(file(&records.concat()).path()).await;
    assert_eq!(described(&stream)[1..], ["route 192.0.2.1 3.000000", "end-of-rib 192.0.2.1 1.000000"]);
    assert_eq!((status.errors, status.last_error), (0, None));
    let offset = |number: u64| length + number * unknown(7).len() as u64;
    let count =
        |records, record, number| PassedOverCount { records, first: RecordPlace { record, offset: offset(number) } };
    let of = |safi| PassedOverKind::Family(Family::new(99, safi));
    assert_eq!(status.passed_over, [(of(7), count(2, 2, 0)), (of(8), count(1, 4, 2))]);
    assert_eq!(of(7).to_string(), "RIB_GENERIC records of AFI 99 SAFI 7 routes, a family of unknown form");
}

#[tokio::test]
async fn a_route_too_long_for_an_update_is_counted_with_its_own_record() {
    let table = peer_index_table(1, "", &[([1, 1, 1, 1], "192.0.2.1", 65001), ([2, 2, 2, 2], "192.0.2.2", 65002)]);
    let (four, filler) = (ipv4_attributes(65001), vec![0; 65_000]);
    let long =
        [&four[..], &[0xd0, 200], &65_000u16.to_be_bytes(), &filler, &[0xd0, 201, 1, 244], &filler[..500]].concat();
    let entry = |peer, attributes| RibEntrySample { peer, originated: 3, path_id: None, attributes };
    let records = [
        table,
        rib(1, 2, 0, &[8, 10], &[entry(1, &four)]),
        rib(1, 2, 1, &[8, 11], &[entry(0, &long)]),
        rib(1, 2, 2, &[8, 12], &[entry(1, &four)]),
        rib(1, 2, 3, &[8, 13], &[entry(0, &four)]),
    ];
    let (_, status) = replayed(file(&records.concat()).path()).await;
    let first = RecordPlace { record: 3, offset: records[..2].concat().len() as u64 };
    assert_eq!(status.passed_over, [(PassedOverKind::TooLong, PassedOverCount { records: 1, first })]);
}

#[tokio::test]
async fn records_of_other_types_are_counted_and_later_records_are_replayed() {
    let good = bgp4mp(1, 4, &update());
    let others = [(5, 1), (9, 1), (11, 0), (32, 0), (33, 0), (48, 0), (64, 1), (64, 1), (13, 7), (16, 2), (12, 9)];
    let others = others.map(|(kind, subtype)| record(1, kind, subtype, &[0; 8]));
    let (stream, status) = replayed(file(&[&others.concat()[..], &good].concat()).path()).await;
    assert_eq!(described(&stream), ["up 192.0.2.1 1.000000", "route 192.0.2.1 1.000000"]);
    // These records are no errors.
    assert_eq!((status.state, status.records, status.errors, status.last_error), (ReplayState::Done, 12, 0, None));
    let counted: Vec<_> = status.passed_over.iter().map(|(kind, count)| format!("{} {kind}", count.records)).collect();
    assert_eq!(
        counted,
        [
            "1 records of BGP (type 5) subtype 1",
            "1 records of BGP4PLUS (type 9) subtype 1",
            "1 records of OSPFv2 (type 11) subtype 0",
            "1 records of TABLE_DUMP (type 12) subtype 9",
            "1 records of TABLE_DUMP_V2 (type 13) subtype 7",
            "1 records of BGP4MP (type 16) subtype 2",
            "1 records of ISIS (type 32) subtype 0",
            "1 records of ISIS_ET (type 33) subtype 0",
            "1 records of OSPFv3 (type 48) subtype 0",
            "2 records of unassigned type 64 subtype 1",
        ]
    );
    let unassigned = status.passed_over.last().unwrap().1;
    assert_eq!(unassigned.first, RecordPlace { record: 7, offset: 6 * 20 });
}

#[test]
fn damaged_or_truncated_real_files_give_whole_frames() {
    for path in real_files() {
        let whole = unpacked(&path);
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..60 {
            let mut piece = whole[..random.usize(..100_000)].to_vec();
            for _ in 0..random.usize(..20) {
                if !piece.is_empty() {
                    let at = random.usize(..piece.len());
                    piece[at] ^= 1 << random.u8(..8);
                }
            }
            messages(&translate(&piece).0);
        }
    }
}

proptest! {
    #[test]
    fn damaged_or_truncated_records_give_whole_frames(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = some_records();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        messages(&translate(&bytes).0);
        messages(&translate(&bytes[..cut.index(bytes.len())]).0);
    }

    #[test]
    fn a_damaged_packed_file_is_read_or_refused_without_panic(at in any::<prop::sample::Index>(), value: u8, bzip: bool) {
        let mut bytes = if bzip { bzipped(&some_records()) } else { gzipped(&some_records()) };
        let at = at.index(bytes.len());
        bytes[at] = value;
        messages(&translate(&bytes).0);
    }
}
