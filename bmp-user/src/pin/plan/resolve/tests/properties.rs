//! What holds on any host.

use proptest::prelude::*;

use super::*;

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

/// True if the kernel would add the address: an interface has an IPv6 address once, an IPv4 address
/// once with each prefix length.
fn can_have(addresses: &[InterfaceAddress], new: &InterfaceAddress) -> bool {
    !addresses.iter().any(|old| old.ip == new.ip && (new.ip.is_ipv6() || old.prefix_len == new.prefix_len))
}

/// The addresses of one interface.
fn any_addresses() -> impl Strategy<Value = Vec<InterfaceAddress>> {
    proptest::collection::vec(any_address(), 0..5).prop_map(|added| {
        added.into_iter().fold(Vec::new(), |mut addresses, new| {
            if can_have(&addresses, &new) {
                addresses.push(new);
            }
            addresses
        })
    })
}

fn any_host() -> impl Strategy<Value = Host> {
    let link = (any::<[bool; 4]>(), proptest::option::of(1_u32..5), any_addresses(), 0_usize..4);
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
    fn a_resolved_pin_can_be_used(host in any_host(), wanted in any_wanted(), station in any_ip(), keep in proptest::option::of(any_ip())) {
        if let Ok(found) = ask(Some(&wanted), &[], station, &host, &BTreeMap::new(), keep) {
            let source = found.source.unwrap();
            prop_assert_eq!(source.is_ipv4(), station.is_ipv4());
            prop_assert!(host.links_with_address(source).any(|owner| owner.up));
            prop_assert_eq!(found.device.clone().into_iter().collect::<Vec<_>>(), found.egress.clone());
            for Interface { index, name } in &found.egress {
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
    fn a_chosen_source_is_kept_while_the_interface_has_it(host in any_host(), name in 1_u32..5, station in any_ip(), other in any_ip(), more in any_address()) {
        let wanted = ConnectInterface::Interface(format!("eth{name}"));
        let none = BTreeMap::new();
        if let Ok(first) = ask(Some(&wanted), &[], station, &host, &none, None) {
            // Another station address, and an address more in front of all others.
            let mut later = host.clone();
            let link = later.links.get_mut(&name).unwrap();
            if can_have(&link.addresses, &more) {
                link.addresses.insert(0, more);
            }
            let station = if other.is_ipv4() == station.is_ipv4() { other } else { station };
            let again = ask(Some(&wanted), &[], station, &later, &none, first.source).unwrap();
            prop_assert_eq!(again.source, first.source);
            prop_assert_eq!(again.rule, SourceRule::Kept);
            // And once it is gone it is not used.
            later.links.get_mut(&name).unwrap().addresses.retain(|address| Some(address.ip) != first.source);
            let gone = ask(Some(&wanted), &[], station, &later, &none, first.source);
            prop_assert!(gone.is_err() || gone.unwrap().source != first.source);
        }
    }
}
