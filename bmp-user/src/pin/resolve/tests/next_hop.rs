//! With a next hop.

use super::*;

/// `SOURCE from DEVICE, by EGRESS, to INTERFACE`, or the reason.
fn steered(text: &str, next_hop: &str, egress_interfaces: &[&str], vpn_instance: Option<&str>) -> String {
    let egress_interfaces: Vec<_> = egress_interfaces.iter().map(|name| (*name).to_owned()).collect();
    let next_hop: IpAddr = next_hop.parse().unwrap();
    let station = if next_hop.is_ipv4() { "198.51.100.7" } else { "2001:db8:f::7" };
    let (connect, aliases) = (wanted(text), aliases());
    let question = Question {
        connect: connect.as_ref(),
        vpn_instance,
        egress_interfaces: &egress_interfaces,
        next_hop: Some(next_hop),
        station: station.parse().unwrap(),
        aliases: &aliases,
        keep: None,
    };
    let resolved = resolve(&question, &host());
    let way = resolved.as_ref().ok().and_then(|resolved| resolved.way.clone());
    match way {
        Some(Way { next_hop: to, interface: (_, name) }) => {
            assert_eq!(to, next_hop);
            format!("{}, to {name}", in_words(resolved))
        }
        None => in_words(resolved),
    }
}

#[test]
fn the_socket_is_not_bound_and_the_next_hop_is_reached_by_the_named_interface() {
    assert_eq!(steered("eth1", "203.0.113.1", &[], None), "203.0.113.9 from -, by eth1#3, to eth1");
    // Whether it is on the link there is asked of the routes too.
    assert_eq!(steered("eth1", "10.99.0.1", &[], None), "203.0.113.9 from -, by eth1#3, to eth1");
    assert_eq!(steered("eth2", "10.10.0.9", &[], Some("mgmt")), "10.10.0.1 from mgmt#7, by eth2#8, to eth2");
}

#[test]
fn without_an_interface_it_is_the_one_whose_prefix_holds_the_next_hop() {
    assert_eq!(steered("lo", "203.0.113.1", &[], None), "10.7.0.1 from -, by any, to eth1");
    assert_eq!(steered("10.7.0.1", "192.0.2.9", &[], None), "10.7.0.1 from -, by any, to eth0");
    assert_eq!(steered("", "192.0.2.9", &[], None), "- from -, by any, to eth0");
    assert_eq!(steered("mgmt", "10.10.0.9", &[], Some("mgmt")), "10.7.7.7 from mgmt#7, by any, to eth2");
    // Not by one that is down, has no carrier, is another VRF's or not among those that are named.
    for (next_hop, egress) in
        [("10.11.0.9", &[][..]), ("10.12.0.9", &[]), ("10.10.0.9", &[]), ("192.0.2.9", &["eth1"]), ("10.99.0.1", &[])]
    {
        assert_eq!(steered("lo", next_hop, egress, None), "no-route", "{next_hop} by {egress:?}");
    }
    assert_eq!(steered("lo", "192.0.2.9", &["eth1", "eth0"], None), "10.7.0.1 from -, by eth0#2 eth1#3, to eth0");
}

#[test]
fn a_link_local_next_hop_is_on_the_one_link_that_there_is_for_it() {
    assert_eq!(steered("lo", "fe80::9", &[], None), "2001:db8:ff::1 from -, by any, to eth0");
    let mut host = host();
    host.links.get_mut(&3).unwrap().addresses.push(address("fe80::1/64 link"));
    let (connect, aliases) = (wanted("lo"), aliases());
    let ask = |egress_interfaces: &[String]| {
        let question = Question {
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
    assert_eq!(ask(&["eth1".to_owned()]).unwrap().way.unwrap().interface.1, "eth1");
}

#[test]
fn an_address_of_this_host_is_no_next_hop() {
    assert_eq!(steered("eth1", "192.0.2.1", &[], None), "no-route");
}
