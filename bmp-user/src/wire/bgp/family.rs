//! Address families (RFC 4760 §3): kinds of routes.

use std::fmt;

/// An AFI and a SAFI. The pair need not have a name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Family {
    /// Address Family Identifier.
    pub afi: u16,
    /// Subsequent Address Family Identifier.
    pub safi: u8,
}

impl Family {
    /// IPv4 unicast (RFC 4760).
    pub const IPV4_UNICAST: Self = Self::new(1, 1);
    /// IPv4 multicast (RFC 4760).
    pub const IPV4_MULTICAST: Self = Self::new(1, 2);
    /// IPv4 with labels (RFC 8277).
    pub const IPV4_LABELED: Self = Self::new(1, 4);
    /// IPv4 of VPNs, with labels (RFC 4364).
    pub const VPNV4: Self = Self::new(1, 128);
    /// IPv4 flow specifications (RFC 8955).
    pub const IPV4_FLOW: Self = Self::new(1, 133);
    /// IPv4 flow specifications of VPNs (RFC 8955 §8).
    pub const VPNV4_FLOW: Self = Self::new(1, 134);
    /// Route target constraints (RFC 4684).
    pub const ROUTE_TARGET: Self = Self::new(1, 132);
    /// Route target constraints with IPv6 specific route targets.
    pub const ROUTE_TARGET_IPV6: Self = Self::new(2, 132);
    /// IPv4 multicast distribution trees (RFC 6037).
    pub const IPV4_MDT: Self = Self::new(1, 66);
    /// IPv4 classful transport (RFC 9832).
    pub const IPV4_CT: Self = Self::new(1, 76);
    /// IPv6 classful transport (RFC 9832).
    pub const IPV6_CT: Self = Self::new(2, 76);
    /// IPv4 color-aware routes (RFC 9871).
    pub const IPV4_CAR: Self = Self::new(1, 83);
    /// IPv6 color-aware routes (RFC 9871).
    pub const IPV6_CAR: Self = Self::new(2, 83);
    /// IPv4 mobile user plane.
    pub const IPV4_MUP: Self = Self::new(1, 85);
    /// IPv6 mobile user plane.
    pub const IPV6_MUP: Self = Self::new(2, 85);
    /// Link state for shortest paths (RFC 9815).
    pub const LINK_STATE_SPF: Self = Self::new(16388, 80);
    /// IPv6 unicast (RFC 4760, RFC 2545).
    pub const IPV6_UNICAST: Self = Self::new(2, 1);
    /// IPv6 multicast (RFC 4760, RFC 2545).
    pub const IPV6_MULTICAST: Self = Self::new(2, 2);
    /// IPv6 with labels (RFC 8277).
    pub const IPV6_LABELED: Self = Self::new(2, 4);
    /// IPv6 of VPNs, with labels (RFC 4659).
    pub const VPNV6: Self = Self::new(2, 128);
    /// IPv6 flow specifications (RFC 8956).
    pub const IPV6_FLOW: Self = Self::new(2, 133);
    /// IPv6 flow specifications of VPNs (RFC 8956).
    pub const VPNV6_FLOW: Self = Self::new(2, 134);
    /// VPLS (RFC 4761).
    pub const L2VPN_VPLS: Self = Self::new(25, 65);
    /// EVPN (RFC 7432).
    pub const L2VPN_EVPN: Self = Self::new(25, 70);
    /// Link state (RFC 9552).
    pub const LINK_STATE: Self = Self::new(16388, 71);
    /// Link state of VPNs (RFC 9552).
    pub const LINK_STATE_VPN: Self = Self::new(16388, 72);

    const NAMES: [(Self, &str); 26] = [
        (Self::IPV4_UNICAST, "IPv4 unicast"),
        (Self::IPV4_MULTICAST, "IPv4 multicast"),
        (Self::IPV4_LABELED, "IPv4 labeled unicast"),
        (Self::VPNV4, "VPNv4"),
        (Self::IPV4_FLOW, "IPv4 flow"),
        (Self::VPNV4_FLOW, "VPNv4 flow"),
        (Self::ROUTE_TARGET, "route target"),
        (Self::ROUTE_TARGET_IPV6, "IPv6 route target"),
        (Self::IPV4_MDT, "IPv4 MDT"),
        (Self::IPV4_CT, "IPv4 classful transport"),
        (Self::IPV6_CT, "IPv6 classful transport"),
        (Self::IPV4_CAR, "IPv4 color-aware routes"),
        (Self::IPV6_CAR, "IPv6 color-aware routes"),
        (Self::IPV4_MUP, "IPv4 mobile user plane"),
        (Self::IPV6_MUP, "IPv6 mobile user plane"),
        (Self::LINK_STATE_SPF, "link state SPF"),
        (Self::IPV6_UNICAST, "IPv6 unicast"),
        (Self::IPV6_MULTICAST, "IPv6 multicast"),
        (Self::IPV6_LABELED, "IPv6 labeled unicast"),
        (Self::VPNV6, "VPNv6"),
        (Self::IPV6_FLOW, "IPv6 flow"),
        (Self::VPNV6_FLOW, "VPNv6 flow"),
        (Self::L2VPN_VPLS, "VPLS"),
        (Self::L2VPN_EVPN, "EVPN"),
        (Self::LINK_STATE, "link state"),
        (Self::LINK_STATE_VPN, "link state VPN"),
    ];

    /// The family with these numbers.
    pub const fn new(afi: u16, safi: u8) -> Self {
        Self { afi, safi }
    }
}

/// The usual name, or the numbers: `IPv4 unicast`, `AFI 6 SAFI 1`.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(family, _)| family == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "AFI {} SAFI {}", self.afi, self.safi),
        }
    }
}
