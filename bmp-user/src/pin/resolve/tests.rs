use proptest::prelude::*;

use super::*;

mod next_hop;

/// An address in words: `192.0.2.1/24 secondary`.
fn address(text: &str) -> InterfaceAddress {
    let mut words = text.split(' ');
    let (ip, prefix_len) = words.next().unwrap().split_once('/').unwrap();
    let flags: Vec<_> = words.collect();
    let has = |flag| flags.contains(&flag);
    InterfaceAddress {
        ip: ip.parse().unwrap(),
        peer: None,
        prefix_len: prefix_len.parse().unwrap(),
        global: !has("host") && !has("link"),
        secondary: has("secondary"),
        temporary: has("temporary"),
        unproven: has("tentative"),
        deprecated: has("deprecated"),
    }
}

fn link(index: u32, name: &str, addresses: &[&str]) -> Link {
    let addresses = addresses.iter().map(|text| address(text)).collect();
    Link { index, name: name.into(), up: true, carrier: true, addresses, ..Link::default() }
}

fn kind(kind: &str, link: Link) -> Link {
    Link { kind: Some(kind.into()), ..link }
}

/// Two uplinks, a loopback and a dummy interface, a bridge and a VRF with a port each, and one interface of each way to be down.
fn host() -> Host {
    let links = [
        Link {
            loopback: true,
            ..link(1, "lo", &["127.0.0.1/8 host", "10.7.0.1/32", "::1/128 host", "2001:db8:ff::1/128"])
        },
        link(
            2,
            "eth0",
            &["192.0.2.1/24", "192.0.2.2/24 secondary", "198.51.100.1/24", "2001:db8::1/64", "fe80::1/64 link"],
        ),
        link(3, "eth1", &["203.0.113.9/24", "203.0.113.10/24 secondary"]),
        Link { carrier: false, ..kind("dummy", link(4, "dummy0", &["10.8.0.1/32"])) },
        kind("bridge", link(5, "br0", &[])),
        Link { controller: Some(5), ..link(6, "port0", &["10.9.0.1/24"]) },
        kind("vrf", link(7, "mgmt", &["10.7.7.7/32"])),
        Link { controller: Some(7), ..link(8, "eth2", &["10.10.0.1/24"]) },
        Link { up: false, ..link(9, "eth3", &["10.11.0.1/24"]) },
        Link { carrier: false, ..link(10, "eth4", &["10.12.0.1/24"]) },
        Link { up: false, ..kind("dummy", link(11, "dummy1", &["10.13.0.1/32"])) },
        link(12, "eth5", &["2001:db8:5::1/64 tentative"]),
    ];
    Host { links: links.into_iter().map(|link| (link.index, link)).collect(), routes_epoch: 0 }
}

fn aliases() -> BTreeMap<String, String> {
    [("GigabitEthernet0/1/0", "eth1"), ("GigabitEthernet0/1/9", "eth9"), ("GigabitEthernet0/1/3", "eth3")]
        .into_iter()
        .map(|(name, kernel_name)| (name.into(), kernel_name.into()))
        .collect()
}

/// A connect-interface as the operator types it, type and number joined.
fn wanted(text: &str) -> Option<ConnectInterface> {
    let words: Vec<_> = text.split_whitespace().collect();
    Some(match words.as_slice() {
        [] => return None,
        [word] => match word.parse() {
            Ok(address) => ConnectInterface::Address(address),
            Err(_) => ConnectInterface::Interface((*word).into()),
        },
        [interface, address, ..] => {
            ConnectInterface::Both { interface: (*interface).into(), address: address.parse().unwrap() }
        }
    })
}

/// A session in the default VRF, as `resolve` is asked about it.
fn ask(
    connect: Option<&ConnectInterface>,
    egress_interfaces: &[String],
    station: IpAddr,
    host: &Host,
    aliases: &BTreeMap<String, String>,
    keep: Option<IpAddr>,
) -> Result<Resolved, Unresolved> {
    resolve(&Question { connect, vpn_instance: None, egress_interfaces, next_hop: None, station, aliases, keep }, host)
}

fn resolved(text: &str, station: &str, keep: Option<&str>) -> Result<Resolved, Unresolved> {
    let keep = keep.map(|keep| keep.parse().unwrap());
    ask(wanted(text).as_ref(), &[], station.parse().unwrap(), &host(), &aliases(), keep)
}

/// A session in a VPN instance.
fn resolved_in(vpn_instance: &str, text: &str, station: &str, host: &Host) -> Result<Resolved, Unresolved> {
    let (connect, aliases) = (wanted(text), aliases());
    let station = station.parse().unwrap();
    let (connect, vpn_instance) = (connect.as_ref(), Some(vpn_instance));
    let question = Question {
        connect,
        vpn_instance,
        egress_interfaces: &[],
        next_hop: None,
        station,
        aliases: &aliases,
        keep: None,
    };
    resolve(&question, host)
}

/// `SOURCE from DEVICE, by EGRESS`, with `-` for none and any.
fn outcome(text: &str, station: &str) -> String {
    in_words(resolved(text, station, None))
}

fn in_words(resolved: Result<Resolved, Unresolved>) -> String {
    match resolved {
        Ok(Resolved { source, device, egress, .. }) => {
            let source = source.map_or("-".into(), |source| source.to_string());
            let device = device.map_or("-".into(), |(index, name)| format!("{name}#{index}"));
            let egress: Vec<_> = egress.iter().map(|(index, name)| format!("{name}#{index}")).collect();
            format!("{source} from {device}, by {}", if egress.is_empty() { "any".into() } else { egress.join(" ") })
        }
        Err(error) => error.reason.to_string(),
    }
}

#[test]
fn each_form_comes_to_its_source_and_egress() {
    for (text, station, expected) in [
        // Nothing: the kernel's choice, any interface.
        ("", "198.51.100.7", "- from -, by any"),
        // An address: that address, any interface. Any address of this host will do.
        ("203.0.113.9", "198.51.100.7", "203.0.113.9 from -, by any"),
        ("203.0.113.10", "198.51.100.7", "203.0.113.10 from -, by any"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1 from -, by any"),
        ("127.0.0.7", "127.0.0.1", "127.0.0.7 from -, by any"),
        ("::1", "::1", "::1 from -, by any"),
        ("10.12.0.1", "198.51.100.7", "10.12.0.1 from -, by any"),
        ("2001:db8::1", "2001:db8:f::7", "2001:db8::1 from -, by any"),
        // An interface: its address, that interface only.
        ("eth1", "198.51.100.7", "203.0.113.9 from eth1#3, by eth1#3"),
        ("GigabitEthernet0/1/0", "198.51.100.7", "203.0.113.9 from eth1#3, by eth1#3"),
        ("eth0", "2001:db8:f::7", "2001:db8::1 from eth0#2, by eth0#2"),
        // A donor interface: its address, any interface.
        ("lo", "198.51.100.7", "10.7.0.1 from -, by any"),
        ("LoopBack0", "2001:db8:f::7", "2001:db8:ff::1 from -, by any"),
        ("dummy0", "198.51.100.7", "10.8.0.1 from -, by any"),
        // Both: that address, which may be any of this host's, that interface only; of a donor any.
        ("eth1 203.0.113.10", "198.51.100.7", "203.0.113.10 from eth1#3, by eth1#3"),
        ("eth1 10.7.0.1", "198.51.100.7", "10.7.0.1 from eth1#3, by eth1#3"),
        ("lo 192.0.2.1", "198.51.100.7", "192.0.2.1 from -, by any"),
        ("dummy0 10.8.0.1", "198.51.100.7", "10.8.0.1 from -, by any"),
        ("lo 127.0.0.1", "127.0.0.1", "127.0.0.1 from -, by any"),
    ] {
        assert_eq!(outcome(text, station), expected, "connect-interface {text}, station {station}");
    }
}

#[test]
fn a_station_of_this_host_is_reached_from_a_loopback_address_that_is_named() {
    let lo = link(1, "lo", &["::1/128 host", "127.0.0.1/8 host"]);
    for (station, mend) in [
        ("127.0.0.1", "connect-interface 127.0.0.1"),
        ("::1", "connect-interface ::1"),
        ("198.51.100.7", "ip address add ADDRESS/PREFIX dev lo"),
    ] {
        assert_eq!(choose(&lo, station.parse().unwrap(), None).unwrap_err().mend, mend);
    }
}

#[test]
fn what_is_missing_is_named_with_what_would_mend_it() {
    let failing = |text: &str, station: &str| resolved(text, station, None).unwrap_err();
    for (text, station, reason, why, mend) in [
        (
            "eth9",
            "198.51.100.7",
            "interface-absent",
            "interface eth9 does not exist on this host now (did you mean eth0?)",
            "interface-alias KERNEL-NAME eth9",
        ),
        (
            "GigabitEthernet0/1/9",
            "198.51.100.7",
            "interface-absent",
            "interface GigabitEthernet0/1/9 is an alias of eth9, which does not exist",
            "interface-alias KERNEL-NAME GigabitEthernet0/1/9",
        ),
        ("eth3", "198.51.100.7", "interface-down", "interface eth3 is down", "ip link set dev eth3 up"),
        (
            "GigabitEthernet0/1/3",
            "198.51.100.7",
            "interface-down",
            "interface GigabitEthernet0/1/3 (eth3) is down",
            "ip link set dev eth3 up",
        ),
        (
            "eth4",
            "198.51.100.7",
            "interface-down",
            "interface eth4 is up but has no carrier: its cable or its far end is down",
            "see to the cable and to the far end of eth4 (`ethtool eth4` shows its link)",
        ),
        (
            "eth4 10.7.0.1",
            "198.51.100.7",
            "interface-down",
            "interface eth4 is up but has no carrier: its cable or its far end is down",
            "see to the cable and to the far end of eth4 (`ethtool eth4` shows its link)",
        ),
        ("dummy1", "198.51.100.7", "interface-down", "interface dummy1 is down", "ip link set dev dummy1 up"),
        (
            "10.11.0.1",
            "198.51.100.7",
            "interface-down",
            "address 10.11.0.1 is on interface eth3, which is down",
            "ip link set dev eth3 up",
        ),
        (
            "eth0 10.11.0.1",
            "198.51.100.7",
            "interface-down",
            "address 10.11.0.1 is on interface eth3, which is down",
            "ip link set dev eth3 up",
        ),
        (
            "port0",
            "198.51.100.7",
            "interface-layer2",
            "interface port0 is a layer 2 port of br0",
            "ip link set dev port0 nomaster",
        ),
        (
            "port0 10.9.0.1",
            "198.51.100.7",
            "interface-layer2",
            "interface port0 is a layer 2 port of br0",
            "ip link set dev port0 nomaster",
        ),
        (
            "10.99.0.1",
            "198.51.100.7",
            "address-absent",
            "address 10.99.0.1 is not on this host",
            "ip address add 10.99.0.1/32 dev INTERFACE",
        ),
        (
            "eth1 10.99.0.1",
            "198.51.100.7",
            "address-absent",
            "address 10.99.0.1 is not on this host",
            "ip address add 10.99.0.1/32 dev eth1",
        ),
        (
            "eth2",
            "198.51.100.7",
            "interface-absent",
            "interface eth2 is in VRF mgmt, and the session in the default VRF",
            "ip link set dev eth2 nomaster",
        ),
        (
            "mgmt",
            "198.51.100.7",
            "interface-absent",
            "interface mgmt is in VRF mgmt, and the session in the default VRF",
            "bmp-session vpn-instance mgmt STATION",
        ),
        (
            "eth1 10.10.0.1",
            "198.51.100.7",
            "address-absent",
            "address 10.10.0.1 is on interface eth2, which is in VRF mgmt, and not in the default VRF",
            "ip link set dev eth2 nomaster",
        ),
        (
            "10.10.0.1",
            "198.51.100.7",
            "address-absent",
            "address 10.10.0.1 is on interface eth2, which is in VRF mgmt, and not in the default VRF",
            "ip link set dev eth2 nomaster",
        ),
        (
            "br0",
            "198.51.100.7",
            "address-absent",
            "interface br0 has no IPv4 address that a session can come from",
            "ip address add ADDRESS/PREFIX dev br0",
        ),
        (
            "eth1",
            "2001:db8:f::7",
            "address-absent",
            "interface eth1 has no IPv6 address that a session can come from",
            "ip address add ADDRESS/PREFIX dev eth1",
        ),
        (
            "eth5",
            "2001:db8:f::7",
            "address-absent",
            "interface eth5 has no IPv6 address that a session can come from: 2001:db8:5::1 has not passed duplicate address detection",
            "ip address add ADDRESS/PREFIX dev eth5",
        ),
        (
            "2001:db8:5::1",
            "2001:db8:f::7",
            "address-absent",
            "address 2001:db8:5::1 on interface eth5 has not passed duplicate address detection",
            "ip address show dev eth5",
        ),
        (
            "10.7.0.1",
            "2001:db8:f::7",
            "address-absent",
            "source address 10.7.0.1 is not of the family of station 2001:db8:f::7",
            "connect-interface IPV6-SOURCE-ADDRESS",
        ),
    ] {
        let error = failing(text, station);
        assert_eq!((error.reason.as_str(), error.why.as_str(), error.mend.as_str()), (reason, why, mend), "{text}");
        assert_eq!(error.to_string(), why);
    }
}

#[test]
fn a_session_in_a_vrf_has_the_interfaces_and_addresses_of_that_vrf_and_no_others() {
    let host = host();
    for (text, expected) in [
        // Without an interface the socket is bound to the VRF device, which leads to any interface of the VRF.
        ("", "- from mgmt#7, by any"),
        ("10.10.0.1", "10.10.0.1 from mgmt#7, by any"),
        ("10.7.7.7", "10.7.7.7 from mgmt#7, by any"),
        // The VRF device is the VRF's loopback interface.
        ("mgmt", "10.7.7.7 from mgmt#7, by any"),
        ("mgmt 10.10.0.1", "10.10.0.1 from mgmt#7, by any"),
        ("eth2", "10.10.0.1 from eth2#8, by eth2#8"),
        ("eth2 10.7.7.7", "10.7.7.7 from eth2#8, by eth2#8"),
    ] {
        assert_eq!(in_words(resolved_in("mgmt", text, "198.51.100.7", &host)), expected, "connect-interface {text}");
    }
    for (text, reason, why, mend) in [
        (
            "eth1",
            "interface-absent",
            "interface eth1 is in the default VRF, and the session in VRF mgmt",
            "ip link set dev eth1 master mgmt",
        ),
        (
            "LoopBack0",
            "interface-absent",
            "interface LoopBack0 (lo) is in the default VRF, and the session in VRF mgmt",
            "connect-interface mgmt",
        ),
        (
            "dummy0",
            "interface-absent",
            "interface dummy0 is in the default VRF, and the session in VRF mgmt",
            "ip link set dev dummy0 master mgmt",
        ),
        (
            "eth2 192.0.2.1",
            "address-absent",
            "address 192.0.2.1 is on interface eth0, which is in the default VRF, and not in VRF mgmt",
            "ip link set dev eth0 master mgmt",
        ),
        (
            "10.99.0.1",
            "address-absent",
            "address 10.99.0.1 is not on this host in VRF mgmt",
            "ip address add 10.99.0.1/32 dev mgmt",
        ),
    ] {
        let error = resolved_in("mgmt", text, "198.51.100.7", &host).unwrap_err();
        assert_eq!((error.reason.as_str(), error.why.as_str(), error.mend.as_str()), (reason, why, mend), "{text}");
    }
}

#[test]
fn a_vpn_instance_is_a_vrf_device_that_is_there_and_up() {
    let mut host = host();
    for (name, why) in [("blue", "there is no VRF device blue"), ("eth1", "interface eth1 is no VRF device")] {
        let error = resolved_in(name, "", "198.51.100.7", &host).unwrap_err();
        assert_eq!((error.reason, error.why.as_str()), (Reason::VpnInstanceAbsent, why));
        assert_eq!(error.mend, format!("ip link add {name} type vrf table N"));
    }
    host.links.values_mut().filter(|link| link.name == "mgmt").for_each(|link| link.up = false);
    let error = resolved_in("mgmt", "eth2", "198.51.100.7", &host).unwrap_err();
    assert_eq!((error.reason, error.why.as_str()), (Reason::InterfaceDown, "VRF device mgmt is down"));
    assert_eq!(error.mend, "ip link set dev mgmt up");
}

#[test]
fn the_interfaces_address_is_chosen_by_the_rule() {
    use Rule::{First, Kept, StationsPrefix};
    type Case<'a> = (&'a [&'a str], &'a str, Option<&'a str>, Option<(&'a str, Rule)>);
    let cases: &[Case<'_>] = &[
        // The one whose prefix holds the station, else the first.
        (&["192.0.2.1/24", "198.51.100.1/24"], "198.51.100.7", None, Some(("198.51.100.1", StationsPrefix))),
        (&["192.0.2.1/24", "198.51.100.1/24"], "203.0.113.7", None, Some(("192.0.2.1", First))),
        (&["10.0.0.1/8", "10.1.0.1/16", "10.1.0.2/16"], "10.1.2.3", None, Some(("10.1.0.1", StationsPrefix))),
        (&["2001:db8::1/64", "2001:db8:1::1/64"], "2001:db8:1::7", None, Some(("2001:db8:1::1", StationsPrefix))),
        // IPv4: global, not secondary.
        (&["192.0.2.1/24 link", "192.0.2.2/24"], "203.0.113.7", None, Some(("192.0.2.2", First))),
        (&["192.0.2.1/24", "198.51.100.1/24 secondary"], "198.51.100.7", None, Some(("192.0.2.1", First))),
        (&["192.0.2.1/24 secondary"], "203.0.113.7", None, None),
        (&["127.0.0.1/8 host"], "127.0.0.1", None, None),
        (&["192.0.2.1/24 deprecated"], "203.0.113.7", None, Some(("192.0.2.1", First))),
        // IPv6: global, not temporary, tentative, deprecated or failed.
        (&["fe80::1/64 link", "2001:db8::1/64"], "2001:db8:f::7", None, Some(("2001:db8::1", First))),
        (&["2001:db8::1/64 temporary", "2001:db8::2/64"], "2001:db8::7", None, Some(("2001:db8::2", StationsPrefix))),
        (&["2001:db8::1/64 tentative", "2001:db8::2/64"], "2001:db8::7", None, Some(("2001:db8::2", StationsPrefix))),
        (&["2001:db8::1/64 deprecated", "2001:db8::2/64"], "2001:db8:f::7", None, Some(("2001:db8::2", First))),
        (&["2001:db8::1/64 deprecated"], "2001:db8:f::7", None, None),
        // Of the station's family.
        (&["192.0.2.1/24", "2001:db8::1/64"], "2001:db8:f::7", None, Some(("2001:db8::1", First))),
        (&["192.0.2.1/24"], "2001:db8:f::7", None, None),
        // What was chosen before is kept while it is there, though another would be chosen now.
        (&["192.0.2.1/24", "192.0.2.2/24 secondary"], "203.0.113.7", Some("192.0.2.2"), Some(("192.0.2.2", Kept))),
        (&["192.0.2.1/24", "198.51.100.1/24"], "198.51.100.7", Some("192.0.2.1"), Some(("192.0.2.1", Kept))),
        (
            &["2001:db8::2/64", "2001:db8::1/64 deprecated"],
            "2001:db8:f::7",
            Some("2001:db8::1"),
            Some(("2001:db8::1", Kept)),
        ),
        (
            &["2001:db8::2/64", "2001:db8::1/64 tentative"],
            "2001:db8:f::7",
            Some("2001:db8::1"),
            Some(("2001:db8::2", First)),
        ),
        (&["192.0.2.1/24"], "203.0.113.7", Some("192.0.2.9"), Some(("192.0.2.1", First))),
        (&["192.0.2.1/24", "2001:db8::1/64"], "203.0.113.7", Some("2001:db8::1"), Some(("192.0.2.1", First))),
    ];
    for &(addresses, station, keep, expected) in cases {
        let chosen =
            choose(&link(2, "eth0", addresses), station.parse().unwrap(), keep.map(|keep| keep.parse().unwrap()));
        let expected = expected.map(|(ip, rule)| (ip.parse::<IpAddr>().unwrap(), rule));
        assert_eq!(chosen.ok(), expected, "{addresses:?}, station {station}, before {keep:?}");
    }
}

#[test]
fn a_far_ends_prefix_holds_the_station_at_the_far_end() {
    let mut tunnel = link(2, "tun0", &["192.0.2.1/24", "10.0.0.1/32"]);
    tunnel.addresses[1].peer = Some([10, 0, 0, 2].into());
    let chosen = choose(&tunnel, [10, 0, 0, 2].into(), None).unwrap();
    assert_eq!(chosen, ([10, 0, 0, 1].into(), Rule::StationsPrefix));
}

#[test]
fn a_link_local_station_is_reached_by_a_named_interface_from_an_address_of_its_link() {
    let mut host = Host::default();
    let addresses = ["2001:db8:1::1/64", "fe80::1/64 link"];
    host.links.insert(3, link(3, "eth1", &addresses));
    let to = |text: &str| {
        ask(wanted(text).as_ref(), &[], "fe80::7".parse().unwrap(), &host, &BTreeMap::new(), None)
            .map(|resolved| resolved.source.unwrap().to_string())
            .map_err(|unresolved| unresolved.reason)
    };
    assert_eq!(to("eth1"), Ok("fe80::1".to_owned()));
    assert_eq!(to("eth1 fe80::1"), Ok("fe80::1".to_owned()));
    for without_interface in ["", "fe80::1"] {
        assert_eq!(to(without_interface), Err(Reason::NoRoute));
    }
}

/// `egress-interface` with these names beside a connect-interface: the kernel names of what is left, or the reason.
fn narrowed_to(text: &str, names: &[&str], host: &Host) -> String {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let station = "198.51.100.7".parse().unwrap();
    match ask(wanted(text).as_ref(), &names, station, host, &aliases(), None) {
        Ok(resolved) => resolved.egress.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(" "),
        Err(unresolved) => unresolved.reason.to_string(),
    }
}

#[test]
fn egress_interfaces_narrow_what_a_session_may_leave_by_and_keep_its_source() {
    let mut host = host();
    assert_eq!(narrowed_to("10.7.0.1", &["eth1", "eth0"], &host), "eth0 eth1", "an address alone, by two interfaces");
    assert_eq!(narrowed_to("", &["eth1"], &host), "eth1", "the kernel's choice, by one");
    assert_eq!(narrowed_to("eth1", &["eth0", "eth1"], &host), "eth1", "bound to an interface, it leaves by no other");
    assert_eq!(narrowed_to("eth1", &["eth0"], &host), "egress-denied", "and by none, if that one is not named");
    assert_eq!(narrowed_to("10.7.0.1", &["nowhere"], &host), "interface-absent");
    // One of two is lost: the pin is the same, the path moves. Both are lost: the session has no way.
    host.links.values_mut().filter(|link| link.name == "eth1").for_each(|link| link.carrier = false);
    assert_eq!(narrowed_to("10.7.0.1", &["eth1", "eth0"], &host), "eth0 eth1");
    host.links.values_mut().filter(|link| link.name == "eth0").for_each(|link| link.up = false);
    assert_eq!(narrowed_to("10.7.0.1", &["eth1", "eth0"], &host), "interface-down");
}

#[test]
fn every_rule_is_displayed_in_words() {
    assert_eq!(
        resolved("eth1", "203.0.113.1", None).unwrap().rule.to_string(),
        "the interface's address whose prefix holds the station"
    );
    assert_eq!(resolved("eth1", "198.51.100.7", None).unwrap().rule.to_string(), "the interface's first address");
    assert_eq!(
        resolved("eth1", "198.51.100.7", Some("203.0.113.10")).unwrap().rule.to_string(),
        "chosen before and still on the interface"
    );
    assert_eq!(resolved("10.7.0.1", "198.51.100.7", None).unwrap().rule.to_string(), "the configured address");
    assert_eq!(resolved("", "198.51.100.7", None).unwrap().rule.to_string(), "the kernel's choice");
}

/// Addresses from a small stock, so that they meet.
fn any_ip() -> impl Strategy<Value = IpAddr> {
    (any::<bool>(), 0_u8..4, 1_u8..5).prop_map(|(v4, net, host)| {
        if v4 {
            IpAddr::from([10, net, 0, host])
        } else {
            IpAddr::from([0x2001, 0xdb8, net.into(), 0, 0, 0, 0, host.into()])
        }
    })
}

fn any_address() -> impl Strategy<Value = InterfaceAddress> {
    (any_ip(), prop_oneof![Just(8_u8), Just(24), Just(48)], any::<[bool; 5]>()).prop_map(|(ip, prefix_len, flags)| {
        let [local, secondary, temporary, unproven, deprecated] = flags;
        let v6 = ip.is_ipv6();
        InterfaceAddress {
            ip,
            peer: None,
            prefix_len: prefix_len.min(if v6 { 128 } else { 32 }),
            global: !local,
            secondary: secondary && !v6,
            temporary: temporary && v6,
            unproven: unproven && v6,
            deprecated,
        }
    })
}

fn any_host() -> impl Strategy<Value = Host> {
    let link = (
        any::<[bool; 4]>(),
        proptest::option::of(1_u32..5),
        proptest::collection::vec(any_address(), 0..5),
        0_usize..4,
    );
    proptest::collection::vec(link, 1..5).prop_map(|links| {
        let links =
            links.into_iter().zip(1_u32..).map(|(([up, carrier, loopback, _], controller, addresses, kind), index)| {
                let kind = ["vrf", "bridge", "dummy"].get(kind).map(|&kind| kind.to_owned());
                let controller = controller.filter(|&controller| controller != index);
                let name = format!("eth{index}");
                (index, Link { index, name, kind, up, carrier, loopback, controller, addresses, ..Link::default() })
            });
        Host { links: links.collect(), routes_epoch: 0 }
    })
}

fn any_wanted() -> impl Strategy<Value = ConnectInterface> {
    let name = || (1_u32..6).prop_map(|index| format!("eth{index}"));
    prop_oneof![
        any_ip().prop_map(ConnectInterface::Address),
        name().prop_map(ConnectInterface::Interface),
        (name(), any_ip()).prop_map(|(interface, address)| ConnectInterface::Both { interface, address }),
    ]
}

proptest! {
    #[test]
    fn what_is_resolved_can_be_used(host in any_host(), wanted in any_wanted(), station in any_ip(), keep in proptest::option::of(any_ip())) {
        if let Ok(found) = ask(Some(&wanted), &[], station, &host, &BTreeMap::new(), keep) {
            let source = found.source.unwrap();
            prop_assert_eq!(source.is_ipv4(), station.is_ipv4());
            prop_assert!(host.links_with_address(source).any(|owner| owner.up));
            prop_assert_eq!(found.device.clone().into_iter().collect::<Vec<_>>(), found.egress.clone());
            for (index, name) in &found.egress {
                let link = &host.links[index];
                prop_assert!(link.up && link.carrier && !link.is_donor() && !link.is_layer2_port(&host) && &link.name == name);
                prop_assert_eq!(wanted.interface(), Some(name.as_str()));
            }
            if let Some(address) = wanted.address() {
                prop_assert_eq!(source, address);
            }
        }
    }

    #[test]
    fn a_chosen_address_is_kept_while_it_is_there(host in any_host(), name in 1_u32..5, station in any_ip(), other in any_ip(), more in any_address()) {
        let wanted = ConnectInterface::Interface(format!("eth{name}"));
        let none = BTreeMap::new();
        if let Ok(first) = ask(Some(&wanted), &[], station, &host, &none, None) {
            // Another station address, and an address more in front of all others.
            let mut later = host.clone();
            let link = later.links.get_mut(&name).unwrap();
            if Some(more.ip) != first.source {
                link.addresses.insert(0, more);
            }
            let station = if other.is_ipv4() == station.is_ipv4() { other } else { station };
            let again = ask(Some(&wanted), &[], station, &later, &none, first.source).unwrap();
            prop_assert_eq!(again.source, first.source);
            prop_assert_eq!(again.rule, Rule::Kept);
            // And once it is gone it is not used.
            later.links.get_mut(&name).unwrap().addresses.retain(|address| Some(address.ip) != first.source);
            let gone = ask(Some(&wanted), &[], station, &later, &none, first.source);
            prop_assert!(gone.is_err() || gone.unwrap().source != first.source);
        }
    }
}
