use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Builds an attribute with its padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn link_message(flags: i32, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(7_u32.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(attributes.concat());
    bytes
}

fn address_message(family: i32, flags: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![family as u8, 64, flags, libc::RT_SCOPE_UNIVERSE];
    bytes.extend(7_u32.to_ne_bytes());
    bytes.extend(attributes.concat());
    bytes
}

#[test]
fn a_link_has_its_name_alternative_names_kind_and_controller() {
    let kind = attribute(IFLA_INFO_KIND, b"veth\0");
    let names = [attribute(IFLA_ALT_IFNAME, b"uplink\0"), attribute(IFLA_ALT_IFNAME, b"Gi0/1\0")].concat();
    let message = link_message(
        libc::IFF_UP | libc::IFF_LOWER_UP,
        &[
            attribute(4000, b"of a future kernel"),
            attribute(libc::IFLA_IFNAME, b"eth0\0"),
            attribute(IFLA_PROP_LIST | 0x8000, &names),
            attribute(libc::IFLA_LINKINFO, &kind),
            attribute(libc::IFLA_MASTER, &9_u32.to_ne_bytes()),
        ],
    );
    let expected = Link {
        index: 7,
        name: "eth0".into(),
        alt_names: vec!["uplink".into(), "Gi0/1".into()],
        kind: Some("veth".into()),
        up: true,
        carrier: true,
        controller: Some(9),
        ..Link::default()
    };
    assert_eq!(link(&message), Some(expected));
}

#[test]
fn a_vlan_has_a_parent_interface_and_a_veth_has_none() {
    let below = |kind: &[u8]| {
        let kind = attribute(IFLA_INFO_KIND, kind);
        let link_of = attribute(libc::IFLA_LINK, &3_u32.to_ne_bytes());
        link(&link_message(0, &[link_of, attribute(libc::IFLA_LINKINFO, &kind)])).unwrap().below
    };
    assert_eq!((below(b"vlan\0"), below(b"veth\0")), (Some(3), None));
}

#[test]
fn only_ethernet_interfaces_count_as_ethernet() {
    let mut message = link_message(0, &[]);
    for (kind, ethernet) in [(libc::ARPHRD_ETHER, true), (libc::ARPHRD_NONE, false), (libc::ARPHRD_LOOPBACK, false)] {
        message[2..4].copy_from_slice(&kind.to_ne_bytes());
        assert_eq!(link(&message).unwrap().ethernet, ethernet);
    }
}

#[test]
fn a_link_with_a_name_that_is_not_utf_8_is_still_parsed() {
    let message = link_message(0, &[attribute(libc::IFLA_IFNAME, b"e\xff0\0")]);
    assert_eq!(link(&message).unwrap().name, "e\u{fffd}0");
}

#[test]
fn the_flags_attribute_of_an_address_wins_over_the_header() {
    let local = attribute(libc::IFA_ADDRESS, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let flags = |flags: u32| attribute(libc::IFA_FLAGS, &flags.to_ne_bytes());
    let parsed = |attributes: &[Vec<u8>]| address(&address_message(libc::AF_INET6, 0xff, attributes)).unwrap().address;
    let plain = parsed(&[local.clone(), flags(0x800 | libc::IFA_F_PERMANENT)]);
    assert!(!plain.temporary && !plain.unproven && !plain.deprecated && !plain.secondary && plain.global);
    assert!(parsed(&[local.clone(), flags(libc::IFA_F_TENTATIVE)]).unproven);
    assert!(!parsed(&[local.clone(), flags(libc::IFA_F_TENTATIVE | libc::IFA_F_OPTIMISTIC)]).unproven);
    assert!(parsed(&[local.clone(), flags(libc::IFA_F_DADFAILED)]).unproven);
    assert!(parsed(&[local.clone(), flags(libc::IFA_F_DEPRECATED)]).deprecated);
    let temporary = parsed(&[local.clone(), flags(libc::IFA_F_TEMPORARY)]);
    assert!(temporary.temporary && !temporary.secondary);
    assert!(parsed(&[local]).deprecated, "without the attribute, the flags of the header count");
}

#[test]
fn a_point_to_point_address_is_the_local_one_with_its_far_end() {
    let far = attribute(libc::IFA_ADDRESS, &[192, 0, 2, 2]);
    let local = attribute(libc::IFA_LOCAL, &[192, 0, 2, 1]);
    let AddressOfInterface { interface, address: both } =
        address(&address_message(libc::AF_INET, 0, &[far, local.clone()])).unwrap();
    assert_eq!((interface, both.ip, both.peer), (7, [192, 0, 2, 1].into(), Some([192, 0, 2, 2].into())));
    let same = attribute(libc::IFA_ADDRESS, &[192, 0, 2, 1]);
    assert_eq!(address(&address_message(libc::AF_INET, 0, &[same, local.clone()])).unwrap().address.peer, None);
    assert_eq!(address(&address_message(libc::AF_INET6, 0, &[local])), None, "four bytes are no IPv6 address");
}

#[test]
fn a_truncated_datagram_is_parsed_as_far_as_it_reaches() {
    let message = |kind: u16, payload: &[u8]| {
        let mut bytes = (16 + payload.len() as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let datagram = [message(16, &[1; 5]), message(17, &[2; 9])].concat();
    let kinds = |bytes: &[u8]| messages(bytes).map(|message| (message.kind, message.payload.len())).collect::<Vec<_>>();
    assert_eq!(kinds(&datagram), [(16, 5), (17, 9)]);
    assert_eq!(kinds(&datagram[..44]), [(16, 5), (17, 4)]);
    assert_eq!(kinds(&datagram[..30]), [(16, 5)]);
    assert_eq!(kinds(&[]), []);
    assert_eq!(kinds(&[0; 64]), [], "a length shorter than the header ends it");
}

#[test]
fn dead_next_hops_are_left_out() {
    let next_hop = |flags: u8, oif: u32, gateway: [u8; 4]| {
        let mut bytes = 16_u16.to_ne_bytes().to_vec();
        bytes.extend([flags, 0]);
        bytes.extend(oif.to_ne_bytes());
        bytes.extend(attribute(libc::RTA_GATEWAY, &gateway));
        bytes
    };
    let hops =
        [next_hop(0, 3, [192, 0, 2, 1]), next_hop(RTNH_F_DEAD, 4, [192, 0, 2, 2]), next_hop(0, 5, [192, 0, 2, 3])];
    let mut message = vec![2, 0, 0, 0, 254, 0, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
    message.extend(attribute(libc::RTA_MULTIPATH, &hops.concat()));
    let entry = fib_entry(&message).unwrap();
    assert_eq!(entry.next_hops.iter().map(|hop| hop.oif).collect::<Vec<_>>(), [3, 5]);
    assert_eq!(entry.next_hops[1].gateway, Some([192, 0, 2, 3].into()));
    assert_eq!((entry.kind, entry.table), (libc::RTN_UNICAST, 254));
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        // Each message takes at least the length of its header, so the iteration ends.
        prop_assert!(messages(&bytes).count() <= bytes.len().div_ceil(HEADER_LEN));
        prop_assert!(attributes(&bytes).count() <= bytes.len() / 4);
        let _ = (link(&bytes), address(&bytes), fib_entry(&bytes), rule(&bytes), error_number(&bytes), interface_index(&bytes));
    }

    #[test]
    fn unknown_attributes_change_nothing(extra in proptest::collection::vec((1000_u16..5000, 0_usize..9), 0..8), at in 0_usize..8) {
        let name = attribute(libc::IFLA_IFNAME, b"eth0\0");
        let mut all: Vec<_> = extra.iter().map(|&(kind, len)| attribute(kind, &vec![0xa5; len])).collect();
        all.insert(at.min(all.len()), name.clone());
        let kinds: BTreeSet<_> = extra.iter().map(|&(kind, _)| kind).collect();
        prop_assert!(!kinds.contains(&libc::IFLA_IFNAME));
        prop_assert_eq!(link(&link_message(0, &all)), link(&link_message(0, &[name])));
    }
}
