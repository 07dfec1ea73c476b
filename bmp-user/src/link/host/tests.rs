use super::*;

fn host(links: impl IntoIterator<Item = Link>) -> Host {
    Host { links: links.into_iter().map(|link| (link.index, link)).collect(), routes_epoch: 0 }
}

fn link(index: u32, name: &str) -> Link {
    Link { index, name: name.into(), up: true, carrier: true, ..Link::default() }
}

fn loopback() -> Link {
    Link { loopback: true, addresses: vec![InterfaceAddress::in_words("127.0.0.1/8")], ..link(1, "lo") }
}

fn aliases(lines: &[(&str, &str)]) -> BTreeMap<String, String> {
    lines.iter().map(|&(kernel_name, name)| (name.into(), kernel_name.into())).collect()
}

#[test]
fn a_kernel_name_wins_over_an_alternative_name_and_that_over_an_alias() {
    let alternative = |index, name: &str, other: &str| Link { alt_names: vec![other.into()], ..link(index, name) };
    let all = host([alternative(2, "eth0", "wan"), link(3, "wan"), alternative(4, "eth2", "lan"), link(5, "eth3")]);
    let none = aliases(&[]);
    let named = |name: &str, aliases: &BTreeMap<_, _>| all.link_named(name, aliases).map(|link| link.index);
    assert_eq!(named("wan", &none), Some(3));
    assert_eq!(named("wan", &aliases(&[("eth3", "wan")])), Some(3));
    assert_eq!(named("lan", &aliases(&[("eth3", "lan")])), Some(4));
    assert_eq!(named("GigabitEthernet0/1/0", &aliases(&[("eth3", "GigabitEthernet0/1/0")])), Some(5));
    assert_eq!(named("GigabitEthernet0/1/0", &aliases(&[("lan", "GigabitEthernet0/1/0")])), Some(4));
    assert_eq!(named("GigabitEthernet0/1/0", &none), None);
    assert_eq!(named("ETH3", &none), None, "interface names are case-sensitive");
}

#[test]
fn loopback0_is_the_loopback_interface_unless_another_bears_that_name() {
    let none = aliases(&[]);
    for name in ["LoopBack0", "Loopback0", "LOOPBACK0"] {
        assert_eq!(host([loopback()]).link_named(name, &none).unwrap().name, "lo");
    }
    assert_eq!(host([loopback(), link(7, "LoopBack0")]).link_named("LoopBack0", &none).unwrap().index, 7);
    let aliased = aliases(&[("dummy0", "LoopBack0")]);
    assert_eq!(host([loopback(), link(7, "dummy0")]).link_named("LoopBack0", &aliased).unwrap().index, 7);
    assert!(host([loopback()]).link_named("LoopBack1", &none).is_none());
}

#[test]
fn a_donor_is_usable_without_a_carrier_but_not_down() {
    let dummy = |up, carrier| Link { kind: Some("dummy".into()), up, carrier, ..link(2, "dummy0") };
    assert!(loopback().is_donor() && dummy(true, true).is_donor() && !link(2, "eth0").is_donor());
    assert!(dummy(true, false).is_usable());
    assert!(!dummy(false, true).is_usable());
    assert!(link(2, "eth0").is_usable());
    assert!(!Link { carrier: false, ..link(2, "eth0") }.is_usable());
    assert!(!Link { up: false, ..link(2, "eth0") }.is_usable());
}

#[test]
fn xfrm_and_vti_interfaces_are_ipsec_interfaces() {
    let kind = |kind: Option<&str>| Link { kind: kind.map(Into::into), ..link(2, "ipsec0") };
    assert!(["xfrm", "vti", "vti6"].iter().all(|name| kind(Some(name)).is_ipsec()));
    assert!([None, Some("gre"), Some("ipvlan")].iter().all(|name| !kind(*name).is_ipsec()));
}

#[test]
fn an_interface_enslaved_to_anything_but_a_vrf_is_a_layer_2_port() {
    let controller = |kind: Option<&str>| Link { kind: kind.map(Into::into), ..link(9, "up") };
    let port = Link { controller: Some(9), ..link(2, "eth0") };
    for (kind, layer2) in [(Some("vrf"), false), (Some("bridge"), true), (Some("bond"), true), (None, true)] {
        assert_eq!(port.is_layer2_port(&host([port.clone(), controller(kind)])), layer2, "{kind:?}");
    }
    assert!(port.is_layer2_port(&host([port.clone()])), "an unknown controller is no VRF");
    assert!(!link(2, "eth0").is_layer2_port(&host([])));
}

#[test]
fn the_vrf_of_an_interface_is_its_controller_or_itself() {
    let vrf = Link { kind: Some("vrf".into()), ..link(9, "mgmt") };
    let port = Link { controller: Some(9), ..link(2, "eth0") };
    let all = host([vrf.clone(), port.clone()]);
    assert_eq!((all.vrf_of(&port), all.vrf_of(&vrf), all.vrf_of(&link(3, "eth1"))), (Some(9), Some(9), None));
    assert_eq!(host([Link { kind: Some("bridge".into()), ..vrf }, port.clone()]).vrf_of(&port), None);
}

#[test]
fn the_loopback_interface_has_every_address_of_its_ipv4_prefixes() {
    let eth0 = Link {
        addresses: vec![InterfaceAddress::in_words("192.0.2.1/24"), InterfaceAddress::in_words("2001:db8::1/64")],
        ..link(2, "eth0")
    };
    let mut lo = loopback();
    lo.addresses.push(InterfaceAddress::in_words("::1/64"));
    let all = host([lo, eth0]);
    let owner = |ip: &str| all.link_with_address(ip.parse().unwrap()).map(|link| link.index);
    assert_eq!(owner("127.0.0.1"), Some(1));
    assert_eq!(owner("127.3.2.1"), Some(1));
    assert_eq!(owner("192.0.2.1"), Some(2));
    assert_eq!(owner("192.0.2.2"), None);
    assert_eq!(owner("2001:db8::1"), Some(2));
    assert_eq!(owner("::2"), None, "for IPv6 only the address itself counts");
}

#[test]
fn a_point_to_point_address_puts_the_prefix_of_its_far_end_on_the_link() {
    let holds = |prefix: &str, ip: &str| InterfaceAddress::in_words(prefix).prefix_holds(ip.parse().unwrap());
    assert!(holds("192.0.2.1/24", "192.0.2.255") && !holds("192.0.2.1/24", "192.0.3.0"));
    assert!(holds("192.0.2.1/31", "192.0.2.0") && !holds("192.0.2.1/31", "192.0.2.2"));
    assert!(holds("192.0.2.1/32", "192.0.2.1") && !holds("192.0.2.1/32", "192.0.2.0"));
    assert!(holds("192.0.2.1/0", "198.51.100.1") && !holds("192.0.2.1/0", "::"));
    assert!(holds("2001:db8::1/64", "2001:db8::ffff") && !holds("2001:db8::1/64", "2001:db8:0:1::1"));
    assert!(holds("2001:db8::1/0", "::1") && !holds("2001:db8::1/128", "2001:db8::"));
    assert!(holds("192.0.2.1/200", "192.0.2.1"), "a prefix length out of range means the whole address");
    let far = InterfaceAddress { peer: Some([198, 51, 100, 9].into()), ..InterfaceAddress::in_words("192.0.2.1/32") };
    assert!(far.prefix_holds([198, 51, 100, 9].into()) && !far.prefix_holds([192, 0, 2, 1].into()));
}

#[test]
fn a_broadcast_address_is_found_only_in_the_vrf_of_its_subnet() {
    let with = |index, name: &str, addresses: &[&str], controller| Link {
        addresses: addresses.iter().map(|text| InterfaceAddress::in_words(text)).collect(),
        controller,
        ..link(index, name)
    };
    let vrf = Link { kind: Some("vrf".into()), ..link(9, "mgmt") };
    let own = with(4, "eth2", &["10.1.1.255/32"], None);
    let links = [
        loopback(),
        with(2, "eth0", &["192.0.2.1/26", "198.51.100.0/31", "2001:db8::1/64"], None),
        with(3, "eth1", &["203.0.113.1/24"], Some(9)),
        with(5, "eth3", &["10.1.1.1/24"], None),
        own,
        vrf,
    ];
    let all = host(links);
    let of = |ip: &str, vrf: Option<&str>| {
        all.subnet_with_broadcast(ip.parse().unwrap(), vrf).map(|subnet| subnet.to_string())
    };
    assert_eq!(of("192.0.2.63", None).as_deref(), Some("192.0.2.0/26 on eth0"));
    assert_eq!(of("203.0.113.255", Some("mgmt")).as_deref(), Some("203.0.113.0/24 on eth1"));
    for (ip, vrf) in [
        ("192.0.2.63", Some("mgmt")),
        ("203.0.113.255", None),
        ("203.0.113.255", Some("nowhere")),
        ("192.0.2.0", None),
        ("192.0.2.62", None),
        ("198.51.100.1", None),
        ("127.255.255.255", None),
        ("10.1.1.255", None),
        ("2001:db8::ffff", None),
    ] {
        assert_eq!(of(ip, vrf), None, "{ip}");
    }
}
