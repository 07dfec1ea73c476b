//! Which address of an interface is chosen.

use super::*;

#[test]
fn the_rule_chooses_among_the_addresses_of_an_interface() {
    use SourceRule::{First, Kept, StationsPrefix};
    type SourceCase<'a> = (&'a [&'a str], &'a str, Option<&'a str>, Option<(&'a str, SourceRule)>);
    let cases: &[SourceCase<'_>] = &[
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
fn a_loopback_source_must_be_configured_as_an_address() {
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
fn the_prefix_of_a_point_to_point_address_is_that_of_the_far_end() {
    let mut tunnel = link(2, "tun0", &["192.0.2.1/24", "10.0.0.1/32"]);
    tunnel.addresses[1].peer = Some([10, 0, 0, 2].into());
    let chosen = choose(&tunnel, [10, 0, 0, 2].into(), None).unwrap();
    assert_eq!(chosen, ([10, 0, 0, 1].into(), SourceRule::StationsPrefix));
}

#[test]
fn a_link_local_station_gets_a_link_local_source_of_the_named_interface() {
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
