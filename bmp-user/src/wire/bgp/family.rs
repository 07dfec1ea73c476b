//! Address families (RFC 4760 §3): which kind of routes a message is about.

use std::fmt;

/// An AFI and a SAFI; pairs that have no name here are as good as any.
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

    const NAMES: [(Self, &str); 17] = [
        (Self::IPV4_UNICAST, "IPv4 unicast"),
        (Self::IPV4_MULTICAST, "IPv4 multicast"),
        (Self::IPV4_LABELED, "IPv4 labeled unicast"),
        (Self::VPNV4, "VPNv4"),
        (Self::IPV4_FLOW, "IPv4 flow"),
        (Self::VPNV4_FLOW, "VPNv4 flow"),
        (Self::ROUTE_TARGET, "route target"),
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

    /// A family from its numbers.
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
