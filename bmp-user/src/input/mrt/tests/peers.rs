//! When the peers of a file go up and down.

use std::net::{IpAddr, Ipv4Addr};

use bytes::BytesMut;

use super::samples::*;
use crate::wire::{
    bgp::{
        Capabilities, Capability, Family,
        capability::add_path,
        notification::{self, code},
        open,
    },
    bmp::{Message, PeerType, peer_flags, samples::bgp},
    mrt::samples::{RibEntrySample, ipv4_attributes, ipv6_attributes, peer_index_table, record, rib, session},
};

fn recorded_open(asn: u32, hold_time: u16, id: [u8; 4]) -> Vec<u8> {
    let mut all = Capabilities::new();
    all.push(&Capability::FourOctetAs(asn)).unwrap();
    let mut out = BytesMut::new();
    open::build(&mut out, asn, hold_time, Ipv4Addr::from(id), &all).unwrap();
    out.to_vec()
}

#[test]
fn a_peer_goes_up_with_its_first_update_and_fabricated_opens() {
    let stream = translated(&[bgp4mp(7, 4, &update()), bgp4mp(8, 4, &update_ipv6())]);
    assert_eq!(described(&stream), ["up 192.0.2.1 7.000000", "route 192.0.2.1 7.000000", "route 192.0.2.1 8.000000"]);
    let up = first_up(&stream);
    assert_eq!((up.peer.asn, up.peer.flags, up.peer.bgp_id), (65001, 0, Ipv4Addr::new(192, 0, 2, 1)));
    assert_eq!(up.local_address, IpAddr::from([192, 0, 2, 254]));
    let [sent, received] = opens(&up);
    assert_eq!((sent.asn(), sent.bgp_id), (65000, Ipv4Addr::new(192, 0, 2, 254)));
    assert_eq!((received.asn(), received.bgp_id), (65001, Ipv4Addr::new(192, 0, 2, 1)));
    for open in [sent, received] {
        assert_eq!(open.check(), Ok(()));
        assert!(open.four_octet_as().is_some());
        let families: Vec<_> = open.families().collect();
        assert_eq!(families, [Family::IPV4_UNICAST, Family::IPV6_UNICAST], "the families of the whole file");
        assert_eq!(open.add_path(), None);
    }
}

#[test]
fn updates_are_replayed_byte_for_byte() {
    let stream = translated(&[bgp4mp(7, 4, &update_ipv6())]);
    let Message::RouteMonitoring(_, passed) = messages(&stream)[1] else { panic!("a route") };
    assert_eq!(passed, update_ipv6());
}

#[test]
fn two_octet_as_numbers_show_in_flags_and_opens() {
    let stream = translated(&[bgp4mp(7, 1, &update())]);
    let up = first_up(&stream);
    assert_eq!(up.peer.flags, peer_flags::TWO_BYTE_AS);
    assert!(opens(&up).iter().all(|open| open.four_octet_as().is_none()));
    let Message::RouteMonitoring(peer, _) = messages(&stream)[1] else { panic!("a route") };
    assert_eq!(peer.flags, peer_flags::TWO_BYTE_AS);
}

#[test]
fn path_identifiers_are_announced_in_the_direction_that_has_them() {
    for (subtype, from_peer, flags) in [(9, true, 0), (11, false, peer_flags::ADJ_RIB_OUT | peer_flags::POST_POLICY)] {
        let stream = translated(&[bgp4mp(7, subtype, &update_with_path_id())]);
        let [sent, received] = opens(&first_up(&stream));
        let of = |open: &open::Open<'_>| open.add_path().unwrap().iter().collect::<Vec<_>>();
        let (sender, receiver) = if from_peer { (received, sent) } else { (sent, received) };
        assert_eq!(of(&sender), [(Family::IPV4_UNICAST, add_path::SEND)]);
        assert_eq!(of(&receiver), [(Family::IPV4_UNICAST, add_path::RECEIVE)]);
        let Message::RouteMonitoring(peer, _) = messages(&stream)[1] else { panic!("a route") };
        assert_eq!(peer.flags, flags);
    }
}

#[test]
fn an_ipv4_peer_in_an_ipv6_table_dump_is_the_ipv4_peer() {
    let attributes = ipv6_attributes(65001);
    let dumped = |subtype: u16, prefix: &[u8], peer: &[u8]| {
        let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        let fields = [&[0, 0, 0, 1][..], prefix, &[32, 1, 0, 0, 0, 7], peer, &[0xfd, 0xe9], &length, &attributes];
        record(9, 12, subtype, &fields.concat())
    };
    let mapped = "::ffff:192.0.2.1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let other = "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let prefix = "2001:db8::".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let stream = translated(&[
        dumped(1, &[10, 0, 0, 0], &[192, 0, 2, 1]),
        dumped(2, &prefix, &mapped),
        dumped(2, &prefix, &other),
    ]);
    let ups: Vec<_> = messages(&stream)
        .into_iter()
        .filter_map(|message| match message {
            Message::PeerUp(up) => Some((up.peer.address().to_string(), up.peer.flags)),
            _ => None,
        })
        .collect();
    let short = peer_flags::TWO_BYTE_AS;
    assert_eq!(ups, [("192.0.2.1".to_owned(), short), ("2001:db8::1".to_owned(), short | peer_flags::IPV6)]);
    let families: Vec<_> = opens(&first_up(&stream))[1].families().collect();
    assert_eq!(families, [Family::IPV4_UNICAST, Family::IPV6_UNICAST]);
}

#[test]
fn recorded_opens_are_used_and_begin_a_session() {
    let (theirs, ours) = (recorded_open(65001, 33, [9, 9, 9, 9]), recorded_open(65000, 44, [8, 8, 8, 8]));
    let stream = translated(&[
        bgp4mp(1, 4, &update()),
        bgp4mp(2, 7, &ours),
        bgp4mp(3, 4, &theirs),
        bgp4mp(4, 4, &bgp(4, &[])),
        bgp4mp(5, 4, &update()),
    ]);
    assert_eq!(
        described(&stream),
        [
            "up 192.0.2.1 1.000000",
            "route 192.0.2.1 1.000000",
            "down 192.0.2.1 2.000000 for 4",
            "up 192.0.2.1 4.000000",
            "route 192.0.2.1 5.000000",
        ]
    );
    let Message::PeerUp(up) = messages(&stream)[3] else { panic!("a Peer Up") };
    assert_eq!((up.sent_open, up.received_open), (&ours[..], &theirs[..]));
    assert_eq!(up.peer.bgp_id, Ipv4Addr::new(9, 9, 9, 9));
}

#[test]
fn state_changes_take_a_peer_up_and_down() {
    let stream = translated(&[
        state_change(1, 6, 1),
        state_change(2, 5, 6),
        state_change(3, 6, 1),
        state_change(4, 1, 3),
        bgp4mp(5, 4, &update()),
    ]);
    assert_eq!(
        described(&stream),
        ["up 192.0.2.1 2.000000", "down 192.0.2.1 3.000000 for 4", "up 192.0.2.1 5.000000", "route 192.0.2.1 5.000000",]
    );
}

#[test]
fn a_notification_takes_a_peer_down_with_its_reason() {
    let mut bye = BytesMut::new();
    notification::build(&mut bye, code::HOLD_TIMER, 0, &[]);
    for (subtype, reason) in [(4, 3), (7, 1)] {
        let stream = translated(&[bgp4mp(1, 4, &update()), bgp4mp(2, subtype, &bye), state_change(3, 6, 1)]);
        assert_eq!(described(&stream)[2..], [format!("down 192.0.2.1 2.000000 for {reason}")]);
        let Message::PeerDown(down) = messages(&stream)[2] else { panic!("a Peer Down") };
        assert_eq!(down.data, bye);
    }
}

#[test]
fn peers_with_the_same_address_get_different_keys() {
    let four = ipv4_attributes(1);
    let route = |peer| RibEntrySample { peer, originated: 3, path_id: None, attributes: &four };
    let peers = [([1, 1, 1, 1], "192.0.2.1", 65001), ([2, 2, 2, 2], "192.0.2.1", 65002), ([3; 4], "::9", 70_000)];
    let stream =
        translated(&[peer_index_table(5, "", &peers), rib(5, 2, 0, &[8, 10], &[route(0), route(1), route(2)])]);
    let ups: Vec<_> = messages(&stream)
        .into_iter()
        .filter_map(|message| match message {
            Message::PeerUp(up) => {
                Some((up.peer.key.peer_type, up.peer.key.distinguisher.0[7], up.peer.asn, up.peer.bgp_id))
            }
            _ => None,
        })
        .collect();
    let id = |byte| Ipv4Addr::from([byte; 4]);
    assert_eq!(
        ups,
        [(PeerType::GLOBAL, 0, 65001, id(1)), (PeerType::LOCAL, 1, 65002, id(2)), (PeerType::GLOBAL, 0, 70_000, id(3))]
    );
    let Message::PeerUp(up) = messages(&stream)[2] else { panic!("a Peer Up") };
    assert_eq!((up.peer.address(), up.peer.flags), ("::9".parse().unwrap(), peer_flags::IPV6));
    let [sent, _] = opens(&up);
    assert_eq!((sent.my_as, sent.bgp_id), (open::AS_TRANS, Ipv4Addr::new(192, 0, 2, 254)), "the OPEN of the collector");
}

#[test]
fn updates_after_a_table_dump_follow_its_end_of_rib() {
    let six = ipv6_attributes(1);
    let route = RibEntrySample { peer: 0, originated: 3, path_id: None, attributes: &six };
    let stream = translated(&[
        peer_index_table(5, "", &[([1, 1, 1, 1], "::1", 65001)]),
        rib(5, 4, 0, &[16, 0x20, 1], &[route]),
        record(6, 16, 4, &[session(true, (65001, "::1"), (1, "::2")), update_ipv6()].concat()),
    ]);
    assert_eq!(
        described(&stream),
        // Two identities are possible: the table's peer has a BGP identifier, the update's peer has
        // none.
        ["up ::1 5.000000", "route ::1 3.000000", "end-of-rib ::1 6.000000", "up ::1 6.000000", "route ::1 6.000000"]
    );
}

#[test]
fn a_peer_with_more_families_than_fit_into_an_open_is_replayed() {
    let records: Vec<_> = (0..1000u16)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            let reach = [0x80, 14, 9, 99, high, low, 4, 10, 7, 0, 2, 0];
            bgp4mp(7, 4, &bgp(2, &[&[0, 0, 0, 12][..], &reach].concat()))
        })
        .collect();
    let stream = translated(&records);
    assert_eq!(described(&stream).len(), 1 + records.len());
}
