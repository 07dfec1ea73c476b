use std::{collections::BTreeMap, net::Ipv4Addr};

use bytes::BytesMut;
use proptest::prelude::*;

use super::{samples::*, *};

fn only(bytes: &[u8]) -> Frame<'_> {
    let mut all = frames(bytes);
    let frame = all.next().expect("a frame").expect("a good frame");
    assert!(all.next().is_none());
    frame
}

fn failure(bytes: &[u8]) -> String {
    let outcome: Result<Vec<_>, _> = frames(bytes).map(|frame| Message::parse(&frame?).map(|_| ())).collect();
    outcome.expect_err("an error").to_string()
}

#[test]
fn every_message_of_the_captures_is_found_and_read() {
    let expected: BTreeMap<&str, [usize; 7]> = BTreeMap::from([
        ("cisco-rd-instances.bmp", [251, 42, 0, 42, 1, 0, 0]),
        ("frr-peer-down.bmp", [451, 48, 2, 7, 1, 0, 0]),
        ("huawei-ne40e-locrib-vpn.bmp", [84, 0, 0, 18, 1, 0, 0]),
    ]);
    for (name, stream) in captures_v3() {
        let mut counts = [0; 7];
        let mut whole = frames(&stream);
        for frame in &mut whole {
            let frame = frame.unwrap();
            counts[usize::from(frame.code())] += 1;
            Message::parse(&frame).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert_eq!(whole.consumed(), stream.len(), "{name} is whole messages");
        assert_eq!(expected.get(name.as_str()), Some(&counts), "{name}");
    }
}

#[test]
fn captures_of_version_4_are_refused_at_the_first_byte() {
    for (name, stream) in captures().iter().filter(|(_, stream)| stream[0] != VERSION) {
        let mut whole = frames(stream);
        assert_eq!(whole.next(), Some(Err(Error { offset: 0, problem: Problem::Version(4) })), "{name}");
        assert_eq!(whole.next(), None);
    }
}

#[test]
fn a_peer_up_gives_its_parts() {
    let bytes = peer_up_of(&peer_header(7, PeerType::GLOBAL, 0), 40000, &[(0, b"note"), (9, b"")]);
    let Message::PeerUp(up) = Message::parse(&only(&bytes)).unwrap() else { panic!("a Peer Up") };
    assert_eq!(up.peer.address(), Ipv4Addr::new(192, 0, 2, 7));
    assert_eq!((up.peer.asn, up.peer.bgp_id), (65001, Ipv4Addr::new(192, 0, 2, 7)));
    assert_eq!((up.peer.seconds, up.peer.microseconds), (1_700_000_000, 250_000));
    assert_eq!(up.local_address, Ipv4Addr::new(192, 0, 2, 254));
    assert_eq!((up.local_port, up.remote_port), (40000, 179));
    assert_eq!((up.sent_open, up.received_open), (open().as_slice(), open().as_slice()));
    let tlvs: Vec<_> = up.information.iter().collect();
    assert_eq!(tlvs, [Tlv { kind: 0, value: b"note" }, Tlv { kind: 9, value: b"" }]);
}

#[test]
fn the_v_flag_says_the_family_except_for_loc_rib_where_it_is_another_flag() {
    let parse = |bytes: &[u8]| match Message::parse(&only(bytes)).unwrap() {
        Message::PeerUp(up) => (up.peer.address().is_ipv6(), up.local_address.is_ipv6()),
        other => panic!("{other:?}"),
    };
    let v6 = peer_header(1, PeerType::GLOBAL, peer_flags::IPV6);
    let loc_rib = peer_header(1, PeerType::LOC_RIB, peer_flags::FILTERED);
    assert_eq!(parse(&peer_up_of(&v6, 1, &[])), (true, true));
    assert_eq!(parse(&peer_up_of(&loc_rib, 1, &[])), (false, false));
}

#[test]
fn a_header_that_cannot_become_a_frame_is_refused_as_soon_as_it_shows() {
    let length = |length: u32| {
        let mut header = vec![VERSION];
        header.extend(length.to_be_bytes());
        header.push(0);
        failure(&header)
    };
    assert_eq!(
        failure(&[2]),
        "at byte 0: expected BMP version 3 (RFC 7854), found 2 (a draft older than the RFC): set the sender to version 3"
    );
    assert_eq!(
        failure(&[4]),
        "at byte 0: expected BMP version 3 (RFC 7854), found 4 (draft-ietf-grow-bmp-tlv): set the sender to version 3"
    );
    assert_eq!(
        failure(b"GET / HTTP/1.1\r\n"),
        "at byte 0: expected BMP version 3 (RFC 7854), found 71: the sender does not speak BMP, or lost its place in the stream"
    );
    assert_eq!(length(0), "at byte 1: expected a message length of 6 to 262144 bytes, found 0");
    assert_eq!(length(5), "at byte 1: expected a message length of 6 to 262144 bytes, found 5");
    assert_eq!(length(1 << 31), "at byte 1: expected a message length of 6 to 262144 bytes, found 2147483648");
}

#[test]
fn a_frame_that_is_too_short_for_its_type_keeps_the_stream_in_step() {
    for (code, body) in [(0, 41), (1, 45), (2, 42), (3, 119), (6, 41)] {
        let stream = [frame(code, &vec![0; body]), peer_down(1)].concat();
        assert_eq!(frames(&stream).map(|frame| frame.unwrap().code()).collect::<Vec<_>>(), [code, 2]);
        let need = if code == 0 { "48 bytes for Route Monitoring" } else { "bytes for" };
        assert!(failure(&stream).contains(need), "{}", failure(&stream));
    }
    assert_eq!(failure(&frame(3, &[0; 119])), "at byte 1: expected 126 bytes for Peer Up, found 125");
}

#[test]
fn an_error_behind_good_frames_has_the_offset_of_the_whole() {
    let mut stream = peer_up(1, 1);
    let at = stream.len();
    stream.push(9);
    assert_eq!(frames(&stream).nth(1), Some(Err(Error { offset: at as u64, problem: Problem::Version(9) })));
}

#[test]
fn a_chunk_has_the_frames_before_a_bad_one_and_says_where_that_is() {
    let good = peer_up(1, 1);
    let at = good.len() as u64;
    let stream = |bad: &[u8]| BytesMut::from(&[&good[..], bad].concat()[..]);
    let cases = [
        (stream(&[&[4, 0][..], &route(1, 0)].concat()), ChunkEnd::Invalid(Error::new(good.len(), Problem::Version(4)))),
        (stream(&[3, 0]), ChunkEnd::Partial),
        (stream(&initiation()), ChunkEnd::Session(initiation().len())),
    ];
    for (mut buffer, end) in cases {
        let rest = buffer[good.len()..].to_vec();
        let taken = BmpChunk::take(&mut buffer, 1);
        assert_eq!((&taken.chunk.bytes()[..], taken.end), (&good[..], end));
        assert_eq!(buffer, rest, "the rest stays in the buffer");
    }
    let parse = |bad: &[u8]| BmpChunk::parse(stream(bad).freeze(), 1);
    assert_eq!(parse(&[4, 0]), Err(Error { offset: at, problem: Problem::Version(4) }));
    let short = Problem::Short { what: "the rest of a message", need: 3, found: 2 };
    assert_eq!(parse(&[3, 0]), Err(Error { offset: at, problem: short }));
}

#[test]
fn a_chunk_says_whether_peers_change_in_it_and_whether_a_station_could_read_it() {
    let of = |stream: &[u8]| {
        let chunk = BmpChunk::parse(bytes::Bytes::copy_from_slice(stream), stream.len()).unwrap();
        assert_eq!(chunk.frames().count(), frames(stream).count());
        (chunk.has_peer_changes(), chunk.has_damage())
    };
    assert_eq!(of(&[route(1, 0), route(2, 7)].concat()), (false, false));
    assert_eq!(of(&[route(1, 0), peer_down(1)].concat()), (true, false));
    assert_eq!(of(&frame(0, &[0; 41])), (false, true), "shorter than its type");
    assert_eq!(of(&initiation()), (false, true), "not about a peer");
    let mut cut = peer_up_of(&peer_header(1, PeerType::GLOBAL, 0), 1, &[(0, b"note")]);
    let length = cut.len();
    cut[length - 5] = 40;
    assert_eq!(of(&cut), (true, true), "a TLV that is not whole");
}

#[test]
fn the_longest_peer_up_that_makes_sense_fits() {
    let mut body = peer_header(1, PeerType::GLOBAL, 0);
    body.extend([0; 20]);
    let open = bgp(1, &vec![0; usize::from(u16::MAX) - 19]);
    body.extend([open.clone(), open].concat());
    body.extend([0, 0, 0xff, 0xff]);
    body.extend(vec![b'x'; usize::from(u16::MAX)]);
    assert!(matches!(Message::parse(&only(&frame(3, &body))), Ok(Message::PeerUp(_))));
}

#[test]
fn opens_and_tlvs_have_to_be_whole() {
    let good = peer_up_of(&peer_header(1, PeerType::GLOBAL, 0), 1, &[(0, b"note")]);
    let sent = COMMON_HEADER + PER_PEER_HEADER + 20;
    let with = |offset: usize, value: u8| {
        let mut bad = good.clone();
        bad[offset] = value;
        failure(&bad)
    };
    assert_eq!(with(sent + 17, 28), "at byte 84: expected a BGP OPEN of at least 29 bytes, found a length of 28");
    assert_eq!(with(sent + 16, 1), "at byte 68: expected 285 bytes for the sent OPEN, found 66");
    assert_eq!(with(sent + 18, 2), "at byte 86: expected a BGP OPEN (type 1), found BGP message type 2");
    assert_eq!(with(sent + 29 + 17, 60), "at byte 97: expected 60 bytes for the received OPEN, found 37");
    assert_eq!(
        with(sent + 2 * 29 + 3, 5),
        "at byte 130: expected 5 bytes for the value of an information TLV, found 4"
    );
}

#[test]
fn an_initiation_says_who_we_are() {
    let mut out = BytesMut::new();
    build::initiation(&mut out, "bmpd 0.1.0", "edge1", Some("hello"));
    let Message::Initiation(initiation) = Message::parse(&only(&out)).unwrap() else { panic!("an Initiation") };
    assert_eq!(initiation.information.find(tlv_type::SYS_DESCR), Some(&b"bmpd 0.1.0"[..]));
    assert_eq!(initiation.information.find(tlv_type::SYS_NAME), Some(&b"edge1"[..]));
    assert_eq!(initiation.information.find(tlv_type::STRING), Some(&b"hello"[..]));
}

#[test]
fn a_text_that_is_too_long_is_cut_between_characters() {
    let mut out = BytesMut::new();
    build::initiation(&mut out, &"é".repeat(200), "edge1", Some(&"x".repeat(70_000)));
    let Message::Initiation(initiation) = Message::parse(&only(&out)).unwrap() else { panic!("an Initiation") };
    assert_eq!(initiation.information.find(tlv_type::SYS_DESCR), Some("é".repeat(127).as_bytes()));
    assert_eq!(initiation.information.find(tlv_type::STRING).map(<[u8]>::len), Some(65_535));
}

#[test]
fn a_termination_gives_its_reason() {
    let mut out = BytesMut::new();
    build::termination(&mut out, termination_reason::ADMINISTRATIVELY_CLOSED, Some("bmpd stops"));
    let Message::Termination(termination) = Message::parse(&only(&out)).unwrap() else { panic!("a Termination") };
    assert_eq!(termination.reason(), Some(0));
    assert_eq!(termination.information.find(tlv_type::STRING), Some(&b"bmpd stops"[..]));
}

fn taken_back(up: &[u8]) -> (PeerHeader, u8, Vec<u8>) {
    let Message::PeerUp(up) = Message::parse(&only(up)).unwrap() else { panic!("a Peer Up") };
    let mut out = BytesMut::new();
    build::peer_down(&mut out, &up.peer, up.table_name());
    let Message::PeerDown(down) = Message::parse(&only(&out)).unwrap() else { panic!("a Peer Down") };
    assert_eq!((down.peer.key, down.peer.asn, down.peer.bgp_id), (up.peer.key, up.peer.asn, up.peer.bgp_id));
    (down.peer, down.reason, down.data.to_vec())
}

#[test]
fn a_peer_is_taken_back_with_reason_5_and_no_data() {
    let flags = peer_flags::IPV6 | peer_flags::POST_POLICY | peer_flags::TWO_BYTE_AS | peer_flags::ADJ_RIB_OUT;
    let (peer, reason, data) = taken_back(&peer_up_of(&peer_header(1, PeerType::RD, flags), 1, &[(3, b"vrf1")]));
    assert_eq!((reason, data), (5, vec![]));
    assert_eq!(peer.flags, peer_flags::IPV6 | peer_flags::TWO_BYTE_AS);
    assert_eq!((peer.seconds, peer.microseconds), (0, 0));
}

#[test]
fn a_loc_rib_peer_is_taken_back_with_reason_6_and_its_table_name() {
    let header = peer_header(1, PeerType::LOC_RIB, peer_flags::FILTERED);
    let (peer, reason, data) = taken_back(&peer_up_of(&header, 1, &[(0, b"note"), (3, b"vrf1")]));
    assert_eq!((reason, data.as_slice()), (6, &b"\0\x03\0\x04vrf1"[..]));
    assert_eq!(peer.flags, peer_flags::FILTERED);
}

#[test]
fn messages_about_peers_are_built_as_they_are_read() {
    let bytes = peer_up_of(&peer_header(7, PeerType::GLOBAL, 0), 40000, &[]);
    let Message::PeerUp(up) = Message::parse(&only(&bytes)).unwrap() else { panic!("a Peer Up") };
    assert_eq!(build::address_field(up.peer.address()), up.peer.key.address);
    let mut out = BytesMut::new();
    build::peer_up(&mut out, &up.peer, up.local_address, [40000, 179], up.sent_open, up.received_open);
    assert_eq!(out, bytes);
    out.clear();
    build::peer_down_because(&mut out, &up.peer, peer_down_reason::REMOTE_CLOSED, &[]);
    assert_eq!(out, peer_down(7));
    out.clear();
    build::route_monitoring(&mut out, &up.peer, &bgp(2, &[0; 4]));
    assert_eq!(out, route(7, 0));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for frame in frames(&bytes).flatten() {
            let _ = Message::parse(&frame);
        }
    }

    #[test]
    fn an_arbitrary_body_behind_a_good_header_never_panics(
        code in 0u8..9, body in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        for frame in frames(&frame(code, &body)).flatten() {
            prop_assert_eq!(frame.bytes().len(), COMMON_HEADER + body.len());
            let _ = PeerKey::of(&frame);
            let _ = Message::parse(&frame);
        }
    }

    #[test]
    fn a_damaged_peer_up_is_read_or_refused_within_its_bounds(at in 6usize..134, value: u8) {
        let mut bytes = peer_up_of(&peer_header(1, PeerType::GLOBAL, 0), 1, &[(0, b"note")]);
        bytes[at] = value;
        if let Err(error) = Message::parse(&only(&bytes)) {
            prop_assert!(error.offset <= bytes.len() as u64);
        }
    }
}
