//! Sessions of a VPN instance.

use super::*;

/// A session in a VPN instance.
fn resolved_in(vpn_instance: &str, text: &str, station: &str, host: &Host) -> Result<ResolvedPin, DownCause> {
    let (connect, aliases) = (wanted(text), aliases());
    let station = station.parse().unwrap();
    let (connect, vpn_instance) = (connect.as_ref(), Some(vpn_instance));
    let question = PinQuestion {
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

#[test]
fn a_session_in_a_vrf_uses_interfaces_and_addresses_of_that_vrf_alone() {
    let host = host();
    for (text, expected) in [
        // Without an interface the socket is bound to the VRF device, which leads to any interface
        // of the VRF.
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
fn a_vpn_instance_needs_a_vrf_device_that_is_up() {
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
