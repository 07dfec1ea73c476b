//! Synthetic seeds, for cases that no capture has.

use std::io::Read as _;

use bmp_user::wire::{
    bgp::{Capabilities, Capability, Family, capability::add_path, keepalive, notification, open, route_refresh},
    bmp::{PeerHeader, PeerKey, PeerType, RouteDistinguisher, Statistic, StatisticType, build, peer_flags, statistics},
};
use bytes::{BufMut, BytesMut};

const AS_PATH: [u8; 20] = [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9, 0x40, 3, 4, 192, 0, 2, 1];

/// Returns the families whose NLRI have a form of their own, each with a route.
fn routes() -> Vec<(Family, Vec<u8>)> {
    let rd = [0, 0, 0xfd, 0xe8, 0, 0, 0, 1];
    let vpn = |prefix: &[u8]| [&[88 + 8 * prefix.len() as u8, 0, 1, 1], &rd[..], prefix].concat();
    vec![
        (Family::IPV4_MULTICAST, vec![24, 224, 0, 1]),
        (Family::IPV6_UNICAST, vec![48, 0x20, 1, 0xd, 0xb8, 0, 1, 35, 0x20, 1, 0xd, 0xb8, 0x20]),
        (Family::IPV4_LABELED, vec![72, 0, 0, 0x10, 0, 1, 1, 10, 1, 1]),
        (Family::VPNV4, vpn(&[10, 1, 1])),
        (Family::VPNV6, vpn(&[0x20, 1, 0xd, 0xb8])),
        (Family::IPV4_FLOW, vec![5, 1, 16, 10, 1, 3, 0xf0, 1, 1]),
        (Family::ROUTE_TARGET, [&[96, 0, 0, 0xfd, 0xe9, 0, 2][..], &[0xfd, 0xe8, 0, 0, 0, 1]].concat()),
        (Family::new(1, 73), [&[96, 0, 0, 0, 1, 0, 0, 0, 2][..], &[192, 0, 2, 1]].concat()),
        (Family::new(1, 5), [&[1, 12][..], &rd, &[192, 0, 2, 1]].concat()),
        (Family::L2VPN_VPLS, [&[0, 17][..], &rd, &[0, 1, 0, 1, 0, 8, 0, 1, 1]].concat()),
        (Family::L2VPN_EVPN, [&[2, 33][..], &rd, &[0; 14], &[48, 2, 0, 0, 0, 0, 7, 0, 0, 1, 1]].concat()),
        (Family::L2VPN_EVPN, [&[5, 34][..], &rd, &[0; 14], &[24, 10, 1, 1, 0, 192, 0, 2, 1, 0, 1, 1]].concat()),
        (Family::LINK_STATE, [&[0, 1, 0, 13, 2][..], &[0; 8], &[1, 0, 0, 0]].concat()),
        // Labels without the S bit, and a path identifier before a label.
        (Family::IPV4_LABELED, vec![48, 0, 0, 0x30, 10, 2, 1, 48, 0, 0, 0x30, 10, 2, 3]),
        (Family::VPNV4, [&[0, 0, 0, 1][..], &vpn(&[10, 1, 1])].concat()),
        (Family::IPV4_CT, vpn(&[10, 1, 2])),
        (Family::IPV4_CAR, vec![11, 8, 1, 24, 10, 1, 1, 0, 0, 0, 7, 9]),
        (Family::IPV4_MUP, [&[1, 0, 3, 17][..], &rd, &[24, 10, 8, 0, 0, 0, 0, 7, 9]].concat()),
        (Family::IPV4_MDT, [&[128][..], &rd, &[192, 0, 2, 1, 232, 0, 0, 1]].concat()),
        // A family of unknown form.
        (Family::new(99, 99), vec![2, 1, 9, 2, 2, 9]),
        (Family::new(99, 99), vec![2, 1, 9]),
    ]
}

/// Returns bodies of UPDATE messages: an announcement, a withdrawal and End-of-RIB of each family.
pub(super) fn updates() -> Vec<Vec<u8>> {
    let mut bodies = vec![vec![0; 4]];
    let whole = |attributes: &[u8]| {
        let mut body = vec![0, 0];
        body.put_u16(attributes.len() as u16);
        body.extend(attributes);
        body
    };
    for (Family { afi, safi }, nlri) in routes() {
        let [high, low] = afi.to_be_bytes();
        let reach = [&[high, low, safi, 4, 192, 0, 2, 9, 0][..], &nlri].concat();
        bodies.push(whole(&[&AS_PATH[..14], &[0x80, 14, reach.len() as u8], &reach].concat()));
        for gone in [&nlri[..], &[]] {
            let unreach = [&[high, low, safi][..], gone].concat();
            bodies.push(whole(&[&[0x80, 15, unreach.len() as u8], &unreach[..]].concat()));
        }
    }
    // Two prefixes, or one with a path identifier. Then the second of them.
    bodies.push([&whole(&AS_PATH)[..], &[24, 10, 1, 1, 24, 10, 1, 2]].concat());
    bodies.push(vec![0, 4, 24, 10, 1, 2, 0, 0]);
    // The IPv4 unicast fields: with path identifiers, with both fields at once, and with optional
    // attributes.
    bodies.push([&whole(&AS_PATH)[..], &[0, 0, 0, 1, 24, 10, 1, 1, 0, 0, 0, 2, 24, 10, 1, 1]].concat());
    bodies.push([&[0, 4, 24, 10, 1, 2, 0, 20], &AS_PATH[..], &[24, 10, 1, 1, 0]].concat());
    let optional =
        [0x80, 4, 4, 0, 0, 0, 1, 0xc0, 8, 4, 0xff, 0xff, 0xff, 1, 0xd0, 16, 0, 8, 0, 2, 0xfd, 0xe8, 0, 0, 0, 1];
    bodies.push([&whole(&[&AS_PATH[..], &optional].concat())[..], &[16, 10, 1]].concat());
    bodies
}

/// Returns BGP messages of every type. The OPENs have capabilities, also in the format of RFC 9072.
pub(super) fn messages() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut one = |write: &dyn Fn(&mut BytesMut)| {
        let mut message = BytesMut::new();
        write(&mut message);
        out.push(message.to_vec());
    };
    for many in [false, true] {
        one(&|out| {
            let mut capabilities = Capabilities::new();
            let of = [
                Capability::Multiprotocol(Family::IPV4_UNICAST),
                Capability::RouteRefresh,
                Capability::EnhancedRouteRefresh,
                Capability::ExtendedMessage,
                Capability::FourOctetAs(4_200_000_000),
                Capability::Other { code: 73, value: if many { &[7; 250] } else { &[7; 5] } },
            ];
            for capability in &of {
                let _ = capabilities.push(capability);
            }
            let families = [(Family::IPV4_UNICAST, add_path::BOTH), (Family::VPNV6, add_path::SEND)];
            let _ = capabilities.push_add_path(families);
            let _ = capabilities.push_graceful_restart(8, 120, [(Family::IPV4_UNICAST, 0x80)]);
            let _ = open::build(out, 65001, 180, [192, 0, 2, 1].into(), &capabilities);
        });
    }
    one(&|out| keepalive(out));
    one(&|out| route_refresh::build(out, Family::IPV4_UNICAST, 1));
    one(&|out| notification::build(out, 3, 11, &[1, 2, 3]));
    one(&|out| notification::build(out, 6, 9, &[6, 2, 5, b'h', b'e', b'l', b'l', b'o']));
    one(&|out| notification::build_shutdown(out, 2, "until noon"));
    out
}

/// Returns BMP frames about one peer, Peer Up first: every message type, and an UPDATE of every
/// family.
pub(super) fn frames() -> Vec<Vec<u8>> {
    let mut address = [0; 16];
    address[12..].copy_from_slice(&[192, 0, 2, 1]);
    let key = PeerKey { peer_type: PeerType::GLOBAL, distinguisher: RouteDistinguisher::ZERO, address };
    let peer = PeerHeader {
        key,
        flags: 0,
        asn: 65001,
        bgp_id: [192, 0, 2, 1].into(),
        seconds: 1_700_000_000,
        microseconds: 5,
    };
    let loc_rib = PeerHeader { key: PeerKey { peer_type: PeerType::LOC_RIB, address: [0; 16], ..key }, ..peer };
    let opens = messages();
    let mut frames = Vec::new();
    let mut one = |write: &dyn Fn(&mut BytesMut)| {
        let mut frame = BytesMut::new();
        write(&mut frame);
        frames.push(frame.to_vec());
    };
    one(&|out| build::peer_up(out, &peer, [192, 0, 2, 254].into(), [179, 5000], &opens[0], &opens[0]));
    one(&|out| build::peer_up(out, &loc_rib, [0, 0, 0, 0].into(), [0, 0], &opens[0], &opens[0]));
    for body in updates() {
        let mut update = [0xff; 16].to_vec();
        update.put_u16(19 + body.len() as u16);
        update.put_u8(2);
        update.extend(body);
        for flags in [0, peer_flags::POST_POLICY, peer_flags::ADJ_RIB_OUT, peer_flags::TWO_BYTE_AS] {
            one(&|out| build::route_monitoring(out, &PeerHeader { flags, ..peer }, &update));
        }
        one(&|out| build::route_monitoring(out, &loc_rib, &update));
    }
    let value = statistics::StatisticValue::OfFamily(Family::VPNV4, 7);
    let all = [
        Statistic { kind: StatisticType::ADJ_RIB_IN, value: statistics::StatisticValue::Gauge(9) },
        Statistic { kind: StatisticType::ADJ_RIB_IN_OF_FAMILY, value },
        Statistic { kind: StatisticType(4), value: statistics::StatisticValue::Counter(9) },
    ];
    one(&|out| statistics::statistics_report(out, &peer, &all));
    one(&|out| build::mirrored_messages_lost(out, &peer));
    one(&|out| build::initiation(out, "a router", "r1", Some("hello")));
    one(&|out| build::peer_down(out, &peer, None));
    one(&|out| build::peer_down(out, &loc_rib, Some(b"red")));
    one(&|out| build::peer_down_because(out, &peer, 1, &opens[2]));
    one(&|out| build::termination(out, 1, Some("bye")));
    frames
}

/// Returns MRT records of types that the real files lack: TABLE_DUMP_V2 with and without additional
/// paths, and state changes.
pub(super) fn records() -> Vec<Vec<u8>> {
    let record = |kind: u16, subtype: u16, body: &[u8]| {
        let mut out = Vec::new();
        out.put_u32(1_700_000_000);
        out.put_u16(kind);
        out.put_u16(subtype);
        out.put_u32(body.len() as u32);
        out.extend(body);
        out
    };
    let peers = [&[192, 0, 2, 254, 0, 1, b'v', 0, 2][..], &[2, 1, 1, 1, 1, 192, 0, 2, 1, 0, 0, 0xfd, 0xe9]];
    let second = [&[1, 2, 2, 2, 2][..], &[0x20; 16], &[0xfd, 0xea]].concat();
    let entry = |path_id: &[u8]| [&[0, 1, 0, 0, 0, 0, 0, 3], path_id, &[0, 20], &AS_PATH].concat();
    let sequence = [0, 0, 0, 1];
    let generic = |path: &[u8]| [&sequence[..], &[0, 1, 1], &[24, 10, 1, 1], &entry(path)].concat();
    let ends = [&[0xfd, 0xe9, 0xfd, 0xe8, 0, 0, 0, 1][..], &[192, 0, 2, 1], &[192, 0, 2, 254]].concat();
    let six = [&[0, 0, 0xfd, 0xe9, 0, 0, 0xfd, 0xe8, 0, 0, 0, 2][..], &[0x20; 16], &[0x21; 16]].concat();
    let mut out = vec![
        record(13, 1, &[&peers.concat()[..], &second].concat()),
        record(13, 2, &[&sequence[..], &[16, 10, 1], &entry(&[])].concat()),
        record(13, 4, &[&sequence[..], &[16, 0x20, 1], &entry(&[])].concat()),
        record(13, 8, &[&sequence[..], &[16, 10, 1], &entry(&[0, 0, 0, 7])].concat()),
        record(13, 6, &generic(&[])),
        record(13, 12, &generic(&[0, 0, 0, 7])),
        record(16, 0, &[&ends[..], &[0, 5, 0, 6]].concat()),
        record(16, 5, &[&six[..], &[0, 6, 0, 1]].concat()),
    ];
    for message in messages() {
        out.push(record(16, 1, &[&ends[..], &message].concat()));
        out.push(record(17, 11, &[&[0, 0, 0, 9], &six[..], &message].concat()));
    }
    out
}

pub(super) fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()).read_to_end(&mut out);
    out
}

pub(super) fn bzipped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = bzip2::read::BzEncoder::new(bytes, bzip2::Compression::fast()).read_to_end(&mut out);
    out
}
