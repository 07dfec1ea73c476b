use std::net::Ipv4Addr;

use bytes::BytesMut;
use proptest::prelude::*;

use super::{
    capability::{AddPath, GracefulRestart, add_path, graceful_restart},
    notification::{cease, code},
    *,
};
use crate::wire::bmp::{self, samples::bgp, samples::captures_v3};

fn only(bytes: &[u8]) -> Frame<'_> {
    let mut all = frames(bytes, MAX_EXTENDED_MESSAGE);
    let frame = all.next().expect("a frame").expect("a good frame");
    assert!(all.next().is_none());
    assert_eq!(Frame::parse(bytes), Ok(frame));
    frame
}

fn failure(bytes: &[u8]) -> String {
    let outcome: Result<Vec<_>, _> =
        frames(bytes, MAX_MESSAGE).map(|frame| Message::parse(&frame?).map(|_| ())).collect();
    outcome.expect_err("an error").to_string()
}

fn open_of(bytes: &[u8]) -> Open<'_> {
    let Message::Open(open) = Message::parse(&only(bytes)).unwrap() else { panic!("an OPEN") };
    open
}

fn notification_of(bytes: &[u8]) -> Notification<'_> {
    let Message::Notification(notification) = Message::parse(&only(bytes)).unwrap() else { panic!("a NOTIFICATION") };
    notification
}

/// A capability of every kind.
fn capabilities() -> Capabilities {
    let mut all = Capabilities::new();
    for capability in [
        Capability::Multiprotocol(Family::IPV4_UNICAST),
        Capability::Multiprotocol(Family::L2VPN_EVPN),
        Capability::RouteRefresh,
        Capability::EnhancedRouteRefresh,
        Capability::ExtendedMessage,
        Capability::FourOctetAs(4_200_000_001),
    ] {
        all.push(&capability).unwrap();
    }
    all.push_add_path([(Family::IPV4_UNICAST, add_path::BOTH), (Family::IPV6_UNICAST, add_path::SEND)]).unwrap();
    all.push_graceful_restart(graceful_restart::RESTARTED, 120, [(Family::VPNV4, graceful_restart::FORWARDING)])
        .unwrap();
    all.push(&Capability::Other { code: 73, value: b"\x02r1\x00" }).unwrap();
    all
}

#[test]
fn golden_bytes_of_each_message() {
    let built = |build: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        build(&mut out);
        out.to_vec()
    };
    let id = Ipv4Addr::new(192, 0, 2, 1);
    let mut as4 = Capabilities::new();
    as4.push(&Capability::FourOctetAs(70_000)).unwrap();
    assert_eq!(built(&keepalive), bgp(4, &[]));
    assert_eq!(
        built(&|out| open::build(out, 65001, 180, id, &Capabilities::new()).unwrap()),
        bgp(1, &[4, 0xfd, 0xe9, 0, 180, 192, 0, 2, 1, 0])
    );
    assert_eq!(
        built(&|out| open::build(out, 70_000, 90, id, &as4).unwrap()),
        bgp(1, &[4, 0x5b, 0xa0, 0, 90, 192, 0, 2, 1, 8, 2, 6, 65, 4, 0, 1, 0x11, 0x70])
    );
    assert_eq!(built(&|out| notification::build(out, code::CEASE, 7, &[])), bgp(3, &[6, 7]));
    assert_eq!(
        built(&|out| notification::build_shutdown(out, cease::SHUTDOWN, "bye")),
        bgp(3, &[6, 2, 3, b'b', b'y', b'e'])
    );
    assert_eq!(
        built(&|out| route_refresh::build(out, Family::IPV6_UNICAST, route_refresh::subtype::END)),
        bgp(5, &[0, 2, 2, 1])
    );
}

#[test]
fn golden_bytes_of_each_capability() {
    #[rustfmt::skip]
    let expected = [
        1, 4, 0, 1, 0, 1,
        1, 4, 0, 25, 0, 70,
        2, 0,
        70, 0,
        6, 0,
        65, 4, 0xfa, 0x56, 0xea, 0x01,
        69, 8, 0, 1, 1, 3, 0, 2, 1, 2,
        64, 6, 0x80, 120, 0, 1, 128, 0x80,
        73, 4, 2, b'r', b'1', 0,
    ];
    assert_eq!(capabilities().bytes(), expected);
}

/// Sets the reserved octets and bits of capabilities.
fn with_reserved_fields(capabilities: &[u8], bits: u8) -> Vec<u8> {
    let mut all = capabilities.to_vec();
    let mut at = 0;
    while let [code, length, ..] = all[at..] {
        let value = &mut all[at + 2..at + 2 + usize::from(length)];
        match code {
            capability::code::MULTIPROTOCOL => value[2] = bits,
            capability::code::GRACEFUL_RESTART => {
                value[0] |= bits & 0x30;
                value[2..].iter_mut().skip(3).step_by(4).for_each(|flags| *flags |= bits & 0x7f);
            }
            _ => {}
        }
        at += 2 + usize::from(length);
    }
    all
}

#[test]
fn reserved_fields_of_capabilities_mean_nothing() {
    // RFC 4760 §8, RFC 4724 §3.
    for bits in [0x01, 0x10, 0x7f, 0xff] {
        let reserved = with_reserved_fields(capabilities().bytes(), bits);
        let all =
            [&[4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 1, reserved.len() as u8 + 2, 2, reserved.len() as u8][..], &reserved];
        let message = bgp(1, &all.concat());
        let open = open_of(&message);
        assert_eq!(open.families().collect::<Vec<_>>(), [Family::IPV4_UNICAST, Family::L2VPN_EVPN]);
        let restart = open.graceful_restart().unwrap();
        assert_eq!((restart.flags & 0xc, restart.restart_time), (graceful_restart::RESTARTED, 120));
        let families: Vec<_> =
            restart.families.iter().map(|(family, flags)| (family, flags & graceful_restart::FORWARDING)).collect();
        assert_eq!(families, [(Family::VPNV4, graceful_restart::FORWARDING)]);
    }
}

#[test]
fn an_open_gives_its_parts() {
    let mut out = BytesMut::new();
    open::build(&mut out, 4_200_000_001, 90, Ipv4Addr::new(10, 0, 0, 1), &capabilities()).unwrap();
    let open = open_of(&out);
    assert_eq!((open.my_as, open.hold_time, open.bgp_id), (open::AS_TRANS, 90, Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(open.asn(), 4_200_000_001);
    assert_eq!(open.families().collect::<Vec<_>>(), [Family::IPV4_UNICAST, Family::L2VPN_EVPN]);
    assert!(open.has(Capability::ExtendedMessage) && open.has(Capability::RouteRefresh));
    let add_path = open.add_path().unwrap();
    assert!(add_path.sends(Family::IPV4_UNICAST) && add_path.receives(Family::IPV4_UNICAST));
    assert!(add_path.sends(Family::IPV6_UNICAST) && !add_path.receives(Family::IPV6_UNICAST));
    assert!(!add_path.sends(Family::VPNV4));
    let restart = open.graceful_restart().unwrap();
    assert_eq!((restart.flags, restart.restart_time), (graceful_restart::RESTARTED, 120));
    assert_eq!(restart.families.iter().collect::<Vec<_>>(), [(Family::VPNV4, graceful_restart::FORWARDING)]);
    assert_eq!(open.check(), Ok(()));
}

#[test]
fn an_open_without_capabilities_is_about_ipv4_unicast() {
    let bytes = bgp(1, &[4, 0xfd, 0xe9, 0, 180, 192, 0, 2, 1, 0]);
    let open = open_of(&bytes);
    assert_eq!((open.asn(), open.four_octet_as()), (65001, None));
    assert_eq!(open.families().collect::<Vec<_>>(), [Family::IPV4_UNICAST]);
}

#[test]
fn capabilities_may_come_in_a_parameter_each() {
    let bytes = bgp(1, &[4, 0, 1, 0, 180, 1, 1, 1, 1, 8, 2, 2, 2, 0, 2, 2, 6, 0]);
    let all: Vec<_> = open_of(&bytes).capabilities().collect();
    assert_eq!(all, [Capability::RouteRefresh, Capability::ExtendedMessage]);
}

#[test]
fn parameters_beyond_255_bytes_are_extended() {
    for length in [240, 251, 252, 253, 255] {
        let mut many = Capabilities::new();
        let value = vec![7; length];
        many.push(&Capability::Other { code: 200, value: &value }).unwrap();
        let mut out = BytesMut::new();
        open::build(&mut out, 1, 180, Ipv4Addr::LOCALHOST, &many).unwrap();
        let open = open_of(&out);
        // Two octets for the capability, two for the parameter.
        assert_eq!(open.parameters.is_extended(), length + 4 > 255, "{length}");
        assert_eq!(open.capabilities().collect::<Vec<_>>(), [Capability::Other { code: 200, value: &value }]);
    }
    let bytes = bgp(1, &[4, 0, 1, 0, 180, 1, 1, 1, 1, 9, 255, 0, 5, 2, 0, 2, 2, 0]);
    assert!(open_of(&bytes).has(Capability::RouteRefresh), "the one-octet length says nothing then");
}

#[test]
fn a_known_capability_of_a_wrong_length_is_kept_as_it_is() {
    for (code, value) in [(1, &[0, 1, 0][..]), (65, &[0, 1]), (69, &[1]), (64, &[]), (64, &[0, 0, 1]), (6, &[0])] {
        assert_eq!(Capability::new(code, value), Capability::Other { code, value });
    }
}

#[test]
fn what_does_not_fit_is_not_built() {
    let mut all = Capabilities::new();
    let error = all.push(&Capability::Other { code: 1, value: &[0; 256] }).unwrap_err();
    assert_eq!(error.to_string(), "at byte 0: the value of a capability would take 256 bytes, and at most 255 fit");
    assert!(all.push_add_path(std::iter::repeat_n((Family::VPNV4, 1), 64)).is_err());
    assert_eq!(all.bytes(), b"");
    for _ in 0..16 {
        all.push(&Capability::Other { code: 9, value: &[0; 255] }).unwrap();
    }
    let mut out = BytesMut::new();
    assert!(open::build(&mut out, 1, 180, Ipv4Addr::LOCALHOST, &all).is_err());
    assert!(out.is_empty());
}

#[test]
fn a_header_that_cannot_become_a_frame_is_refused_as_soon_as_it_shows() {
    let header = |length: u16, kind: &[u8]| {
        let mut header = vec![0xff; 16];
        header.extend(length.to_be_bytes());
        header.extend(kind);
        header
    };
    assert_eq!(
        failure(b"\xff\xffHTTP"),
        "at byte 2: expected a marker of 16 bytes 0xff, found 0x48: the sender does not speak BGP, or lost its place"
    );
    assert_eq!(failure(&header(18, &[])), "at byte 16: expected a length of 19 to 4096 bytes for a message, found 18");
    assert_eq!(
        failure(&header(4097, &[])),
        "at byte 16: expected a length of 19 to 4096 bytes for a message, found 4097"
    );
    assert_eq!(failure(&header(19, &[0])), "at byte 18: expected a BGP message type of 1 to 5, found 0");
    assert_eq!(failure(&header(19, &[6])), "at byte 18: expected a BGP message type of 1 to 5, found 6");
    assert_eq!(failure(&header(28, &[1])), "at byte 16: expected a length of 29 to 4096 bytes for OPEN, found 28");
    assert_eq!(failure(&header(20, &[4])), "at byte 16: expected a length of 19 to 19 bytes for KEEPALIVE, found 20");
    assert!(frames(&header(4096, &[2]), MAX_MESSAGE).next().is_none(), "not whole yet");
    assert!(frames(&header(65_535, &[2]), MAX_EXTENDED_MESSAGE).next().is_none(), "not whole yet");
    assert!(frames(&header(4097, &[1]), MAX_EXTENDED_MESSAGE).next().unwrap().is_err(), "no OPEN is extended");
}

#[test]
fn a_message_that_others_carry_has_to_be_all_of_it() {
    let problem = |bytes: &[u8]| Frame::parse(bytes).expect_err("an error").to_string();
    assert_eq!(problem(&[0xff; 3]), "at byte 0: expected 19 bytes for a BGP message, found 3");
    assert_eq!(problem(&bgp(2, &[0; 4])[..22]), "at byte 0: expected 23 bytes for a BGP message, found 22");
    assert_eq!(
        problem(&[bgp(4, &[]), vec![1, 2]].concat()),
        "at byte 19: expected the end of the BGP message, found 2 bytes more"
    );
}

#[test]
fn an_error_behind_good_frames_has_the_offset_of_the_whole() {
    let stream = [bgp(4, &[]), vec![0]].concat();
    let mut all = frames(&stream, MAX_MESSAGE);
    assert!(all.next().unwrap().is_ok());
    assert_eq!(all.consumed(), 19);
    assert_eq!(all.next(), Some(Err(Error { offset: 19, problem: Problem::Marker(0) })));
    assert_eq!(all.next(), None);
}

#[test]
fn an_open_that_cannot_be_read_is_answered() {
    let answer = |body: &[u8]| {
        let bytes = bgp(1, body);
        let frame = only(&bytes);
        let error = Message::parse(&frame).and_then(|_| open_of(&bytes).check()).expect_err("an error");
        (error.to_string(), error.problem.notification(Some(frame.message_type())))
    };
    let answered = |body: &[u8], text: &str, code: (u8, u8)| assert_eq!(answer(body), (text.to_owned(), code));
    answered(&[3, 0, 1, 0, 180, 1, 1, 1, 1, 0], "at byte 19: expected BGP version 4, found 3", (2, 1));
    answered(
        &[4, 0, 1, 0, 180, 1, 1, 1, 1, 2],
        "at byte 29: expected 2 bytes for the optional parameters, found 0",
        (2, 0),
    );
    answered(
        &[4, 0, 1, 0, 180, 1, 1, 1, 1, 0, 9],
        "at byte 29: expected the end of the OPEN, found 1 bytes more",
        (2, 0),
    );
    answered(
        &[4, 0, 1, 0, 180, 1, 1, 1, 1, 4, 2, 2, 65, 4],
        "at byte 33: expected 4 bytes for the value of a capability, found 0",
        (2, 0),
    );
    answered(&[4, 0, 0, 0, 180, 1, 1, 1, 1, 0], "at byte 20: expected an AS number, found 0", (2, 2));
    answered(
        &[4, 0, 1, 0, 2, 1, 1, 1, 1, 0],
        "at byte 22: expected a hold time of 0, or 3 seconds or more, found 2",
        (2, 6),
    );
    answered(&[4, 0, 1, 0, 180, 0, 0, 0, 0, 0], "at byte 24: expected a BGP identifier, found 0.0.0.0", (2, 3));
    answered(
        &[4, 0, 1, 0, 180, 1, 1, 1, 1, 2, 1, 0],
        "at byte 29: expected an optional parameter of type 2 (Capabilities), found type 1",
        (2, 4),
    );
}

#[test]
fn a_notification_is_told_in_words() {
    let told = |body: &[u8]| notification_of(&bgp(3, body)).to_string();
    assert_eq!(told(&[6, 2, 4, b'n', b'o', b'o', b'n']), "Cease: Administrative Shutdown (\"noon\")");
    assert_eq!(told(&[6, 4, 2, 0xff, 0xff]), "Cease: Administrative Reset", "not UTF-8");
    assert_eq!(told(&[6, 2, 9, b'x']), "Cease: Administrative Shutdown", "not whole");
    assert_eq!(told(&[6, 9, 4, 0]), "Cease: Hard Reset (Hold Timer Expired)");
    assert_eq!(told(&[6, 9, 6, 9, 6, 9]), "Cease: Hard Reset");
    assert_eq!(told(&[6, 9]), "Cease: Hard Reset");
    assert_eq!(told(&[2, 5]), "OPEN Message Error: subcode 5");
    assert_eq!(told(&[2, 7]), "OPEN Message Error: Unsupported Capability");
    assert_eq!(told(&[4, 0]), "Hold Timer Expired");
    assert_eq!(told(&[99, 3]), "error code 99: subcode 3");
}

#[test]
fn a_text_for_an_operator_is_cut_between_characters() {
    let mut out = BytesMut::new();
    notification::build_shutdown(&mut out, cease::SHUTDOWN, &"é".repeat(200));
    assert_eq!(notification_of(&out).shutdown_communication(), Some("é".repeat(127).as_str()));
    out.clear();
    notification::build(&mut out, 3, 1, &[0; 9000]);
    assert_eq!(notification_of(&out).data.len(), MAX_MESSAGE - HEADER - 2);
}

#[test]
fn a_route_refresh_gives_its_parts() {
    let parse = |body: &[u8]| match Message::parse(&only(&bgp(5, body))) {
        Ok(Message::RouteRefresh(refresh)) => Ok((refresh.family, refresh.subtype, refresh.filters.to_vec())),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err((error.to_string(), error.problem.notification(Some(MessageType::RouteRefresh)))),
    };
    assert_eq!(parse(&[0, 1, 1, 128]), Ok((Family::VPNV4, route_refresh::subtype::BEGIN, vec![])));
    assert_eq!(parse(&[0, 1, 0, 1, 1, 64, 0, 0]), Ok((Family::IPV4_UNICAST, 0, vec![1, 64, 0, 0])));
    let text = "at byte 16: expected a length of 23 to 23 bytes for ROUTE-REFRESH, found 24";
    assert_eq!(parse(&[0, 1, 2, 1, 0]), Err((text.to_owned(), (7, 1))));
}

/// Every BGP message in the captures.
fn captured() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (_, stream) in captures_v3() {
        for frame in bmp::frames(&stream) {
            match bmp::Message::parse(&frame.unwrap()).unwrap() {
                bmp::Message::PeerUp(up) => all.extend([up.sent_open, up.received_open].map(<[u8]>::to_vec)),
                bmp::Message::RouteMonitoring(_, update) => all.push(update.to_vec()),
                bmp::Message::PeerDown(down) if matches!(down.reason, 1 | 3) => all.push(down.data.to_vec()),
                _ => {}
            }
        }
    }
    all
}

#[test]
fn every_message_of_the_captures_is_read() {
    for bytes in captured() {
        let frame = Frame::parse(&bytes).unwrap();
        if let Message::Open(open) = Message::parse(&frame).unwrap() {
            // Reading and building real OPENs loses nothing.
            let mut again = Capabilities::new();
            open.capabilities().for_each(|capability| again.push(&capability).unwrap());
            let there: Vec<u8> = open.parameters.iter().flat_map(|parameter| parameter.value.to_vec()).collect();
            assert_eq!(again.bytes(), there);
        }
    }
}

#[test]
fn messages_of_the_captures_that_are_damaged_or_cut_are_read_or_refused() {
    let mut random = fastrand::Rng::with_seed(3);
    for mut bytes in captured() {
        for _ in 0..20 {
            let at = random.usize(16..bytes.len());
            bytes[at] ^= 1 << random.u8(..8);
            for bytes in [&bytes[..], &bytes[..at]] {
                if let Ok(Message::Open(open)) = Frame::parse(bytes).and_then(|frame| Message::parse(&frame)) {
                    open.capabilities().for_each(drop);
                    let _ = open.check();
                }
            }
        }
    }
}

#[test]
fn a_family_has_a_name_or_its_numbers() {
    assert_eq!(Family::IPV6_UNICAST.to_string(), "IPv6 unicast");
    assert_eq!(Family::new(6, 1).to_string(), "AFI 6 SAFI 1");
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![
        Just(Family::IPV4_UNICAST),
        Just(Family::VPNV6),
        (any::<u16>(), any::<u8>()).prop_map(|(a, s)| Family::new(a, s))
    ]
}

/// A capability as code and value.
fn capability() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let code = prop_oneof![Just(1), Just(2), Just(6), Just(64), Just(65), Just(69), Just(70), any::<u8>()];
    (code, prop_oneof![prop::collection::vec(any::<u8>(), 0..7), prop::collection::vec(any::<u8>(), 0..256)])
}

proptest! {
    #[test]
    fn an_open_is_read_as_it_was_built(
        asn in 1u32.., hold_time: u16, id: u32, wanted in prop::collection::vec(capability(), 0..12),
    ) {
        let mut all = Capabilities::new();
        for (code, value) in &wanted {
            all.push(&Capability::new(*code, value)).unwrap();
        }
        let mut out = BytesMut::new();
        open::build(&mut out, asn, hold_time, Ipv4Addr::from(id), &all).unwrap();
        let open = open_of(&out);
        prop_assert_eq!((open.hold_time, open.bgp_id), (hold_time, Ipv4Addr::from(id)));
        prop_assert_eq!(open.my_as, u16::try_from(asn).unwrap_or(open::AS_TRANS));
        let read: Vec<_> = open.capabilities().collect();
        let built: Vec<_> = wanted.iter().map(|(code, value)| Capability::new(*code, value)).collect();
        prop_assert_eq!(read, built);
    }

    #[test]
    fn families_are_read_as_they_were_built(
        flags in 0u8..16, time in 0u16..4096, wanted in prop::collection::vec((family(), any::<u8>()), 0..64),
    ) {
        let mut all = Capabilities::new();
        prop_assume!(wanted.len() <= 63);
        all.push_add_path(wanted.clone()).unwrap();
        all.push_graceful_restart(flags, time, wanted.iter().copied().take(63)).unwrap();
        let [Capability::AddPath(add_path), Capability::GracefulRestart(restart)] = all.iter().collect::<Vec<_>>()[..] else {
            panic!("{:?}", all.iter().collect::<Vec<_>>());
        };
        prop_assert_eq!(AddPath::iter(&add_path).collect::<Vec<_>>(), wanted.clone());
        let GracefulRestart { flags: f, restart_time, families } = restart;
        prop_assert_eq!((f, restart_time, families.iter().collect::<Vec<_>>()), (flags, time, wanted));
    }

    #[test]
    fn a_notification_and_a_route_refresh_are_read_as_they_were_built(
        code: u8, subcode: u8, data in prop::collection::vec(any::<u8>(), 0..300), family in family(), kind in 0u8..4,
    ) {
        let mut out = BytesMut::new();
        notification::build(&mut out, code, subcode, &data);
        prop_assert_eq!(notification_of(&out), Notification { code, subcode, data: &data });
        let _ = notification_of(&out).to_string();
        out.clear();
        route_refresh::build(&mut out, family, kind);
        let expected = Message::RouteRefresh(RouteRefresh { family, subtype: kind, filters: &[] });
        prop_assert_eq!(Message::parse(&only(&out)), Ok(expected));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for frame in frames(&bytes, MAX_MESSAGE).flatten() {
            let _ = Message::parse(&frame);
        }
        let _ = Frame::parse(&bytes);
    }

    #[test]
    fn an_arbitrary_body_behind_a_good_header_never_panics(
        kind in 1u8..6, body in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let bytes = bgp(kind, &body);
        for frame in frames(&bytes, MAX_MESSAGE).flatten() {
            if let Ok(Message::Notification(notification)) = Message::parse(&frame) {
                let _ = notification.to_string();
            }
        }
    }

    #[test]
    fn a_damaged_or_cut_open_is_read_or_refused_within_its_bounds(
        at in any::<prop::sample::Index>(), value: u8, cut in any::<prop::sample::Index>(),
    ) {
        let mut out = BytesMut::new();
        open::build(&mut out, 65001, 90, Ipv4Addr::LOCALHOST, &capabilities()).unwrap();
        let at = at.index(out.len());
        out[at] = value;
        for bytes in [&out[..], &out[..cut.index(out.len())]] {
            let outcome = Frame::parse(bytes).and_then(|frame| match Message::parse(&frame)? {
                Message::Open(open) => {
                    open.capabilities().for_each(drop);
                    open.check()
                }
                _ => Ok(()),
            });
            if let Err(error) = outcome {
                prop_assert!(error.offset <= out.len() as u64);
            }
        }
    }
}
