use super::*;

mod causes;
mod next_hop;
mod properties;
mod source;
mod vrf;

fn link(index: u32, name: &str, addresses: &[&str]) -> Link {
    let addresses = addresses.iter().map(|text| InterfaceAddress::in_words(text)).collect();
    Link { index, name: name.into(), up: true, carrier: true, addresses, ..Link::default() }
}

fn kind(kind: &str, link: Link) -> Link {
    Link { kind: Some(kind.into()), ..link }
}

/// Two uplinks, a loopback and a dummy interface, a bridge and a VRF with a port each, and one
/// interface of each way to be down.
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
) -> Result<ResolvedPin, DownCause> {
    resolve(
        &PinQuestion { connect, vpn_instance: None, egress_interfaces, next_hop: None, station, aliases, keep },
        host,
    )
}

fn resolved(text: &str, station: &str, keep: Option<&str>) -> Result<ResolvedPin, DownCause> {
    let keep = keep.map(|keep| keep.parse().unwrap());
    ask(wanted(text).as_ref(), &[], station.parse().unwrap(), &host(), &aliases(), keep)
}

/// `SOURCE from DEVICE, by EGRESS`, with `-` for none and any.
fn outcome(text: &str, station: &str) -> String {
    in_words(resolved(text, station, None))
}

fn numbered(interface: &Interface) -> String {
    format!("{}#{}", interface.name, interface.index)
}

fn in_words(resolved: Result<ResolvedPin, DownCause>) -> String {
    match resolved {
        Ok(ResolvedPin { source, device, egress, .. }) => {
            let source = source.map_or("-".into(), |source| source.to_string());
            let device = device.as_ref().map_or("-".into(), numbered);
            let egress: Vec<_> = egress.iter().map(numbered).collect();
            format!("{source} from {device}, by {}", if egress.is_empty() { "any".into() } else { egress.join(" ") })
        }
        Err(error) => error.reason.to_string(),
    }
}

#[test]
fn each_form_of_connect_interface_resolves_to_its_source_and_egress() {
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

/// `egress-interface` with these names beside a connect-interface: the kernel names of what is
/// left, or the reason.
fn narrowed_to(text: &str, names: &[&str], host: &Host) -> String {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let station = "198.51.100.7".parse().unwrap();
    match ask(wanted(text).as_ref(), &names, station, host, &aliases(), None) {
        Ok(resolved) => resolved.egress.into_iter().map(|interface| interface.name).collect::<Vec<_>>().join(" "),
        Err(unresolved) => unresolved.reason.to_string(),
    }
}

#[test]
fn egress_interface_restricts_where_a_session_leaves_and_keeps_its_source() {
    let mut host = host();
    assert_eq!(narrowed_to("10.7.0.1", &["eth1", "eth0"], &host), "eth0 eth1", "an address alone, by two interfaces");
    assert_eq!(narrowed_to("", &["eth1"], &host), "eth1", "the kernel's choice, by one");
    assert_eq!(narrowed_to("eth1", &["eth0", "eth1"], &host), "eth1", "bound to an interface, it leaves by no other");
    assert_eq!(narrowed_to("eth1", &["eth0"], &host), "egress-denied", "and by none, if that one is not named");
    assert_eq!(narrowed_to("10.7.0.1", &["nowhere"], &host), "interface-absent");
    // One of two is lost: the pin is the same, the path moves. Both are lost: the session has no
    // way.
    host.links.values_mut().filter(|link| link.name == "eth1").for_each(|link| link.carrier = false);
    assert_eq!(narrowed_to("10.7.0.1", &["eth1", "eth0"], &host), "eth0 eth1");
    host.links.values_mut().filter(|link| link.name == "eth0").for_each(|link| link.up = false);
    assert_eq!(narrowed_to("10.7.0.1", &["eth1", "eth0"], &host), "interface-down");
}
