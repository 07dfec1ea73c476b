//! Sessions with a next hop.

use super::*;

/// `SOURCE from DEVICE, by EGRESS, to INTERFACE`, or the reason.
fn steered(text: &str, next_hop: &str, egress_interfaces: &[&str], vpn_instance: Option<&str>) -> String {
    let egress_interfaces: Vec<_> = egress_interfaces.iter().map(|name| (*name).to_owned()).collect();
    let next_hop: IpAddr = next_hop.parse().unwrap();
    let station = if next_hop.is_ipv4() { "198.51.100.7" } else { "2001:db8:f::7" };
    let (connect, aliases) = (wanted(text), aliases());
    let question = PinQuestion {
        connect: connect.as_ref(),
        vpn_instance,
        egress_interfaces: &egress_interfaces,
        next_hop: Some(next_hop),
        station: station.parse().unwrap(),
        aliases: &aliases,
        keep: None,
    };
    let resolved = resolve(&question, &host());
    let path = resolved.as_ref().ok().and_then(|resolved| resolved.path.clone());
    match path {
        Some(NextHopPath { next_hop: to, interface, .. }) => {
            assert_eq!(to, next_hop);
            format!("{}, to {interface}", in_words(resolved))
        }
        None => in_words(resolved),
    }
}

#[test]
fn with_a_next_hop_the_socket_is_not_bound_to_the_named_interface() {
    assert_eq!(steered("eth1", "203.0.113.1", &[], None), "203.0.113.9 from -, by eth1#3, to eth1");
    // The routing tables are asked later whether the next hop is on that link.
    assert_eq!(steered("eth1", "10.99.0.1", &[], None), "203.0.113.9 from -, by eth1#3, to eth1");
    assert_eq!(steered("eth2", "10.10.0.9", &[], Some("mgmt")), "10.10.0.1 from mgmt#7, by eth2#8, to eth2");
}

#[test]
fn without_a_named_interface_the_prefix_of_the_next_hop_decides() {
    assert_eq!(steered("lo", "203.0.113.1", &[], None), "10.7.0.1 from -, by any, to eth1");
    assert_eq!(steered("10.7.0.1", "192.0.2.9", &[], None), "10.7.0.1 from -, by any, to eth0");
    assert_eq!(steered("", "192.0.2.9", &[], None), "- from -, by any, to eth0");
    assert_eq!(steered("mgmt", "10.10.0.9", &[], Some("mgmt")), "10.7.7.7 from mgmt#7, by any, to eth2");
    // The interface is down, has no carrier, is in another VRF, or is not named by
    // egress-interface.
    for (next_hop, egress) in
        [("10.11.0.9", &[][..]), ("10.12.0.9", &[]), ("10.10.0.9", &[]), ("192.0.2.9", &["eth1"]), ("10.99.0.1", &[])]
    {
        assert_eq!(steered("lo", next_hop, egress, None), "no-route", "{next_hop} by {egress:?}");
    }
    assert_eq!(steered("lo", "192.0.2.9", &["eth1", "eth0"], None), "10.7.0.1 from -, by eth0#2 eth1#3, to eth0");
}

#[test]
fn redirects_come_by_the_vrf_device_for_ipv4_and_by_the_port_for_ipv6() {
    let interface = |index, name: &str| Interface { index, name: name.into() };
    let redirected_by = |next_hop: &str, vrf: bool| {
        let vrf = vrf.then(|| interface(7, "mgmt"));
        let path = NextHopPath { next_hop: next_hop.parse().unwrap(), interface: interface(8, "eth2.5"), vrf };
        (path.redirected_by().index, path.no_redirects())
    };
    let ipv4 =
        |name: &str| format!("sysctl net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.{name}.accept_redirects=0");
    assert_eq!(redirected_by("10.10.0.9", false), (8, ipv4("eth2/5")));
    assert_eq!(redirected_by("10.10.0.9", true), (7, ipv4("mgmt")));
    assert_eq!(redirected_by("fe80::9", true), (8, "sysctl net.ipv6.conf.eth2/5.accept_redirects=0".to_owned()));
}

#[test]
fn a_link_local_next_hop_needs_one_link_that_can_hold_it() {
    assert_eq!(steered("lo", "fe80::9", &[], None), "2001:db8:ff::1 from -, by any, to eth0");
    let mut host = host();
    host.links.get_mut(&3).unwrap().addresses.push(InterfaceAddress::in_words("fe80::1/64 link"));
    let (connect, aliases) = (wanted("lo"), aliases());
    let ask = |egress_interfaces: &[String]| {
        let question = PinQuestion {
            connect: connect.as_ref(),
            vpn_instance: None,
            egress_interfaces,
            next_hop: Some("fe80::9".parse().unwrap()),
            station: "2001:db8:f::7".parse().unwrap(),
            aliases: &aliases,
            keep: None,
        };
        resolve(&question, &host)
    };
    let ambiguous = ask(&[]).unwrap_err();
    assert_eq!(ambiguous.why, "next hop fe80::9 is link-local, and may be on any of eth0, eth1");
    assert_eq!(ask(&["eth1".to_owned()]).unwrap().path.unwrap().interface.name, "eth1");
}

#[test]
fn a_next_hop_cannot_be_an_address_of_this_host() {
    assert_eq!(steered("eth1", "192.0.2.1", &[], None), "no-route");
}
