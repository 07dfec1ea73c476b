//! Why a connect-interface does not resolve, and what mends that.

use super::*;

#[test]
fn the_cause_names_what_is_missing_and_what_mends_it() {
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
