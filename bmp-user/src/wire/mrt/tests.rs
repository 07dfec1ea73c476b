use std::collections::BTreeMap;

use bytes::BytesMut;
use proptest::prelude::*;

use super::{samples::*, *};
use crate::wire::bgp::{self, Family};

fn only(bytes: &[u8]) -> Record<'_> {
    let mut all = records(bytes);
    let record = all.next().expect("a record").expect("a good record");
    assert!(all.next().is_none());
    assert_eq!(all.consumed(), bytes.len());
    record
}

fn body(bytes: &[u8]) -> RecordBody<'_> {
    RecordBody::parse(&only(bytes)).unwrap()
}

fn failure(bytes: &[u8]) -> String {
    let outcome: Result<Vec<_>, _> = records(bytes).map(|record| RecordBody::parse(&record?).map(|_| ())).collect();
    outcome.expect_err("an error").to_string()
}

/// Reads everything in a record, lazy parts included.
fn exhaust(body: &RecordBody<'_>) {
    match body {
        RecordBody::TableDump(route) => {
            route.put_nlri(&mut BytesMut::new());
            exhaust_attributes(&route.attributes);
        }
        RecordBody::PeerIndexTable(table) => assert_eq!(table.iter().count(), table.len()),
        RecordBody::Rib(rib) => {
            assert_eq!(rib.iter().count(), rib.len());
            rib.iter().for_each(|entry| exhaust_attributes(&entry.attributes));
        }
        RecordBody::Message(_) | RecordBody::StateChange(_) | RecordBody::Other => {}
    }
}

fn exhaust_attributes(attributes: &RecordAttributes<'_>) {
    let whole: usize = attributes.iter().map(|attribute| attribute.bytes.len()).sum();
    assert_eq!(whole + attributes.rest().len(), attributes.bytes().len());
    let _ = attributes.mp_next_hop();
}

#[test]
fn every_record_of_the_real_files_is_found_and_read() {
    let expected = BTreeMap::from([
        ("bview.20020722.2337.gz", "12/1 115521"),
        ("updates.20160811.1600.gz", "16/4 17384, 16/5 22"),
        ("updates.et-header.2015.gz", "17/1 1, 17/4 89681, 17/5 4"),
    ]);
    for path in real_files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let file = unpacked(&path);
        let mut counts = BTreeMap::new();
        let mut whole = records(&file);
        for record in &mut whole {
            let record = record.unwrap();
            *counts.entry((record.kind, record.subtype)).or_insert(0) += 1;
            let body = RecordBody::parse(&record).unwrap_or_else(|error| panic!("{name}: {error}"));
            exhaust(&body);
            if let RecordBody::Message(message) = body {
                bgp::Frame::parse(message.message).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
        assert_eq!(whole.consumed(), file.len(), "{name} is whole records");
        let counts: Vec<_> = counts.into_iter().map(|((kind, subtype), n)| format!("{kind}/{subtype} {n}")).collect();
        assert_eq!(expected.get(name), Some(&counts.join(", ").as_str()), "{name}");
    }
}

#[test]
fn a_table_dump_gives_its_parts() {
    #[rustfmt::skip]
    let ipv4 = record(0x3d3c_973f, 12, 1, &[
        0, 0, 0, 7, 3, 0, 0, 0, 8, 1, 0x3d, 0x36, 0xcb, 0xfb, 193, 203, 0, 1, 0x07, 0x3d, 0, 4, 0x40, 1, 1, 0,
    ]);
    let RecordBody::TableDump(route) = body(&ipv4) else { panic!("a TABLE_DUMP") };
    assert_eq!((route.view, route.sequence, route.family), (0, 7, Family::IPV4_UNICAST));
    assert_eq!((route.originated, route.peer_as), (0x3d36_cbfb, 1853));
    assert_eq!(route.peer_address.to_string(), "193.203.0.1");
    assert_eq!(route.attributes.bytes(), [0x40, 1, 1, 0]);
    let mut nlri = BytesMut::new();
    route.put_nlri(&mut nlri);
    assert_eq!(nlri, &[8, 3][..]);

    let address = octets("2001:db8::1".parse().unwrap());
    let fields = [&[0, 1, 0, 2][..], &address, &[33, 1, 0, 0, 0, 9], &address, &[0xfd, 0xe9, 0, 0]].concat();
    let ipv6 = record(1, 12, 2, &fields);
    let RecordBody::TableDump(route) = body(&ipv6) else { panic!("a TABLE_DUMP") };
    assert_eq!((route.view, route.family, route.peer_as), (1, Family::IPV6_UNICAST, 65001));
    nlri.clear();
    route.put_nlri(&mut nlri);
    assert_eq!(nlri, &[33, 0x20, 0x01, 0x0d, 0xb8, 0][..]);
}

#[test]
fn a_peer_index_table_gives_its_peers() {
    let peers = [([1, 1, 1, 1], "192.0.2.1", 65001), ([2, 2, 2, 2], "2001:db8::2", 4_200_000_000)];
    let bytes = peer_index_table(5, "view", &peers);
    let RecordBody::PeerIndexTable(table) = body(&bytes) else { panic!("a PEER_INDEX_TABLE") };
    assert_eq!((table.collector.to_string().as_str(), table.view, table.len()), ("192.0.2.254", &b"view"[..], 2));
    let read: Vec<_> = table.iter().map(|peer| (peer.bgp_id.octets(), peer.address.to_string(), peer.asn)).collect();
    assert_eq!(read, peers.map(|(id, address, asn)| (id, address.to_owned(), asn)));
}

#[test]
fn a_rib_record_gives_its_routes() {
    let (a, b) = (ipv4_attributes(65001), ipv4_attributes(65002));
    let routes = |path_id: Option<u32>| {
        [
            RibEntrySample { peer: 0, originated: 11, path_id, attributes: &a },
            RibEntrySample { peer: 9, originated: 12, path_id: path_id.map(|id| id + 1), attributes: &b },
        ]
    };
    for (subtype, family, path_id) in [
        (2, Family::IPV4_UNICAST, None),
        (3, Family::IPV4_MULTICAST, None),
        (4, Family::IPV6_UNICAST, None),
        (5, Family::IPV6_MULTICAST, None),
        (8, Family::IPV4_UNICAST, Some(7)),
        (9, Family::IPV4_MULTICAST, Some(7)),
        (10, Family::IPV6_UNICAST, Some(7)),
        (11, Family::IPV6_MULTICAST, Some(7)),
    ] {
        let bytes = rib(1, subtype, 77, &[12, 10, 0x10], &routes(path_id));
        let RecordBody::Rib(rib) = body(&bytes) else { panic!("a RIB record") };
        assert_eq!((rib.sequence, rib.family, rib.nlri), (77, family, &[12, 10, 0x10][..]));
        assert_eq!(rib.add_path, path_id.is_some());
        let read: Vec<_> =
            rib.iter().map(|route| (route.peer, route.originated, route.path_id, route.attributes.bytes())).collect();
        assert_eq!(read, [(0, 11, path_id, &a[..]), (9, 12, path_id.map(|id| id + 1), &b[..])]);
    }
}

#[test]
fn a_generic_rib_record_is_as_long_as_its_family_says() {
    let attributes = ipv4_attributes(65001);
    let route = |path_id| [RibEntrySample { peer: 1, originated: 2, path_id, attributes: &attributes }];
    for (family, nlri) in [
        (Family::IPV4_UNICAST, &[8, 10][..]),
        (Family::VPNV4, &[96, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 10]),
        (Family::IPV6_LABELED, &[32, 0, 0, 1, 0x20]),
        (Family::IPV4_FLOW, &[3, 1, 8, 10]),
        (Family::IPV6_FLOW, &[0xf0, 2, 3, 0]),
        (Family::ROUTE_TARGET, &[0]),
        (Family::L2VPN_EVPN, &[3, 2, 1, 1]),
        (Family::L2VPN_VPLS, &[0, 1, 9]),
        (Family::LINK_STATE, &[0, 1, 0, 3, 1, 2, 3]),
    ] {
        let head = [&[0, 0, 0, 1][..], &family.afi.to_be_bytes(), &[family.safi]].concat();
        let of = |subtype, id: &[u8], path_id| {
            record(1, 13, subtype, &[&head[..], id, nlri, &entries(&route(path_id))].concat())
        };
        for (bytes, path_id) in
            [(of(6, &[], None), None), (of(12, &[], Some(5)), Some(5)), (of(12, &[0, 0, 0, 6], None), Some(6))]
        {
            let RecordBody::Rib(rib) = body(&bytes) else { panic!("a RIB record") };
            assert_eq!((rib.family, rib.nlri, rib.add_path), (family, nlri, path_id.is_some()));
            let read: Vec<_> = rib.iter().map(|route| (route.path_id, route.attributes.bytes())).collect();
            assert_eq!(read, [(path_id, &attributes[..])], "{family}");
        }
    }
    let unknown = record(1, 13, 6, &[0, 0, 0, 1, 0, 9, 9, 0]);
    assert_eq!(failure(&unknown), "at byte 19: the form of AFI 9 SAFI 9 routes is not known");
}

#[test]
fn the_next_hop_is_found_in_both_forms() {
    let next_hop = |attribute: &[u8]| {
        let attributes = RecordAttributes::new(attribute);
        attributes
            .mp_next_hop()
            .map(|found| found.map(|RecordNextHop { family, next_hop }| (family, next_hop.to_vec())))
    };
    assert_eq!(next_hop(&[0x40, 1, 1, 0]), Ok(None));
    assert_eq!(next_hop(&[0x80, 14, 5, 4, 192, 0, 2, 1]), Ok(Some((None, vec![192, 0, 2, 1]))));
    let full = [0x80, 14, 11, 0, 1, 1, 4, 192, 0, 2, 1, 0, 8, 10];
    assert_eq!(next_hop(&full), Ok(Some((Some(Family::IPV4_UNICAST), vec![192, 0, 2, 1]))));
    assert_eq!(next_hop(&[0x80, 14, 1, 0]), Ok(Some((None, vec![]))));
    assert_eq!(next_hop(&[0x80, 14, 5, 0, 1, 133, 0, 0]), Ok(Some((Some(Family::IPV4_FLOW), vec![]))));
    for bad in [&[0x80, 14, 0][..], &[0x80, 14, 2, 0, 1], &[0x80, 14, 4, 0, 1, 1, 9]] {
        assert!(next_hop(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_bgp4mp_message_gives_its_parts() {
    let keepalive = [&[0xff; 16][..], &[0, 19, 4]].concat();
    for (subtype, as4, local, add_path) in [
        (1, false, false, false),
        (4, true, false, false),
        (6, false, true, false),
        (7, true, true, false),
        (8, false, false, true),
        (9, true, false, true),
        (10, false, true, true),
        (11, true, true, true),
    ] {
        for (peer, at) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let fields = [&session(as4, (65001, peer), (65002, at))[..], &keepalive].concat();
            let bytes = record(9, 16, subtype, &fields);
            let RecordBody::Message(message) = body(&bytes) else { panic!("a message") };
            assert_eq!((message.as4, message.local, message.add_path), (as4, local, add_path));
            assert_eq!((message.session.peer_as, message.session.local_as), (65001, 65002));
            assert_eq!(message.session.peer_address.to_string(), peer);
            assert_eq!(message.session.local_address.to_string(), at);
            assert_eq!(message.message, keepalive);

            let extended = record(9, 17, subtype, &[&250_000_u32.to_be_bytes()[..], &fields].concat());
            assert_eq!((only(&extended).seconds, only(&extended).microseconds), (9, 250_000));
            assert_eq!(body(&extended), body(&bytes));
        }
    }
}

#[test]
fn a_state_change_gives_its_states() {
    for (subtype, as4) in [(0, false), (5, true)] {
        let bytes = record(9, 16, subtype, &[&session(as4, (1, "::1"), (2, "::2"))[..], &[0, 6, 0, 1]].concat());
        let RecordBody::StateChange(change) = body(&bytes) else { panic!("a state change") };
        assert_eq!((change.old, change.new), (state::ESTABLISHED, state::IDLE));
    }
}

#[test]
fn records_that_are_not_about_bgp_are_passed_over() {
    let unassigned = [(14, 0), (15, 9), (34, 1), (64, 1), (65_535, 7)];
    let assigned = [(11, 0), (48, 0), (32, 0), (0, 0), (5, 1), (9, 1), (12, 3), (13, 7), (13, 99), (16, 2), (16, 12)];
    for (kind, subtype) in assigned.into_iter().chain(unassigned) {
        for length in [0, 40] {
            assert_eq!(body(&record(1, kind, subtype, &vec![0; length])), RecordBody::Other, "{kind}/{subtype}");
        }
    }
}

#[test]
fn errors_have_the_offset_of_their_byte() {
    let header = |kind: u16, length: u32| [&[0; 4][..], &kind.to_be_bytes(), &[0, 1], &length.to_be_bytes()].concat();
    assert_eq!(
        failure(b"GET / HTTP/1.1\r\n"),
        "at byte 8: expected a record of at most 16777216 bytes, found a length of 1414541105: \
         this is no MRT, or a record before it is damaged"
    );
    assert_eq!(
        failure(&header(16, 16 * 1024 * 1024 + 1)),
        "at byte 8: expected a record of at most 16777216 bytes, found a length of 16777217: \
         this is no MRT, or a record before it is damaged"
    );
    assert!(records(&header(16, 16 * 1024 * 1024)).next().is_none(), "not whole yet");
    let short = [header(17, 3), vec![0; 3]].concat();
    assert_eq!(failure(&short), "at byte 12: expected 4 bytes for the microseconds, found 3");
    assert_eq!(failure(&record(1, 16, 1, &[0; 5])), "at byte 16: expected 2 bytes for the interface index, found 1");
    assert_eq!(failure(&record(1, 16, 1, &[0; 9])), "at byte 18: expected AFI 1 (IPv4) or 2 (IPv6), found 0");
    assert_eq!(
        failure(&record(1, 13, 2, &[0, 0, 0, 0, 33, 1, 1, 1, 1, 1])),
        "at byte 16: expected a prefix of at most 32 bits, found 33"
    );
    assert_eq!(
        failure(&record(1, 13, 2, &[0, 0, 0, 0, 8, 1, 0, 0, 9])),
        "at byte 20: expected the end of the RIB record, found 1 bytes more"
    );
}

#[test]
fn a_record_of_any_type_is_found_and_so_is_what_follows_it() {
    let good = record(1, 16, 99, &[]);
    let all = [record(1, 77, 3, &[1, 2, 3]), record(2, 17, 3, &[0; 3]), good.clone()].concat();
    let kinds: Vec<_> =
        records(&all).map(|record| record.unwrap()).map(|record| (record.kind, record.subtype)).collect();
    assert_eq!(kinds, [(77, 3), (17, 3), (16, 99)]);
}

#[test]
fn attributes_that_are_malformed_are_kept_as_they_are() {
    let cut = [0x40, 1, 1, 0, 0x40, 1, 2, 0];
    let good = ipv4_attributes(65001);
    let entry = |peer, attributes| RibEntrySample { peer, originated: 0, path_id: None, attributes };
    let bytes = rib(1, 2, 1, &[8, 10], &[entry(0, &cut), entry(1, &good)]);
    let RecordBody::Rib(rib) = body(&bytes) else { panic!("a RIB record") };
    let read: Vec<_> = rib.iter().map(|route| (route.peer, route.attributes)).collect();
    assert_eq!(read, [(0, RecordAttributes::new(&cut)), (1, RecordAttributes::new(&good))]);
    assert_eq!((read[0].1.iter().count(), read[0].1.rest()), (1, &cut[4..]));
    assert!(read[1].1.rest().is_empty());
}

/// A record of every kind that bmpd reads.
fn some_of_each() -> Vec<u8> {
    let (four, six) = (ipv4_attributes(65001), ipv6_attributes(65001));
    let route = |path_id| [RibEntrySample { peer: 0, originated: 3, path_id, attributes: &four }];
    let address = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let table_dump = [&[0, 0, 0, 0][..], &address, &[64, 1, 0, 0, 0, 9], &address, &[0, 1, 0, 0]].concat();
    [
        peer_index_table(1, "v", &[([1, 1, 1, 1], "192.0.2.1", 65001), ([2, 2, 2, 2], "::2", 70_000)]),
        rib(1, 2, 0, &[8, 10], &route(None)),
        rib(1, 8, 1, &[8, 10], &route(Some(1))),
        rib(1, 4, 2, &[16, 0x20, 1], &[RibEntrySample { peer: 1, originated: 3, path_id: None, attributes: &six }]),
        record(1, 13, 12, &[&[0, 0, 0, 3, 0, 1, 128, 32, 1, 2, 3, 4][..], &entries(&route(Some(1)))].concat()),
        record(1, 12, 2, &table_dump),
        record(1, 16, 4, &[&session(true, (1, "::1"), (2, "::2"))[..], &[0xff; 16], &[0, 19, 4]].concat()),
        record(1, 17, 0, &[&[0, 0, 0, 9][..], &session(false, (1, "::1"), (2, "::2")), &[0, 6, 0, 1]].concat()),
    ]
    .concat()
}

fn read_or_refuse(bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut whole = records(bytes);
    let mut start = 0;
    while let Some(record) = whole.next() {
        let body = record.and_then(|record| RecordBody::parse(&record).map_err(|error| error.after(start)));
        match body {
            Ok(body) => exhaust(&body),
            Err(error) => prop_assert!(error.offset <= bytes.len() as u64),
        }
        start = whole.consumed() as u64;
    }
    Ok(())
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_or_refuse(&bytes)?;
    }

    #[test]
    fn an_arbitrary_body_behind_a_good_header_never_panics(
        kind in prop_oneof![Just(12_u16), Just(13), Just(16), Just(17)], subtype in 0_u16..14,
        body in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        read_or_refuse(&record(1, kind, subtype, &body))?;
    }

    #[test]
    fn damaged_or_cut_records_are_read_or_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = some_of_each();
        read_or_refuse(&bytes[..cut.index(bytes.len())])?;
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        read_or_refuse(&bytes)?;
    }
}

#[test]
fn real_files_that_are_damaged_or_cut_are_read_or_refused() {
    for path in real_files() {
        let file = unpacked(&path);
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..300 {
            // A piece from the middle of a file is rarely a record. One from the start is.
            let start = if random.bool() { 0 } else { random.usize(..file.len() - 50_000) };
            let mut piece = file[start..start + random.usize(..50_000)].to_vec();
            for _ in 0..random.usize(..4) {
                if !piece.is_empty() {
                    let at = random.usize(..piece.len());
                    piece[at] ^= 1 << random.u8(..8);
                }
            }
            read_or_refuse(&piece).unwrap();
        }
    }
}
