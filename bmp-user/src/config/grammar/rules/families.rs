//! Address families in words.

use super::Syntax::{self, Choice, Word};
use crate::wire::bgp::Family;

const UNICAST: &[Syntax] = &[Word("unicast", "unicast routes")];
const MULTICAST: &[Syntax] = &[Word("multicast", "multicast routes")];
const LABELED: &[Syntax] = &[Word("labeled-unicast", "routes with labels")];
const FLOW: &[Syntax] = &[Word("flow", "flow specifications")];

pub(super) const IPV4_FAMILY: &[Syntax] =
    &[Word("ipv4-family", "IPv4"), Choice(&[UNICAST, MULTICAST, LABELED, &[Word("vpnv4", "routes of VPNs")], FLOW])];
pub(super) const IPV6_FAMILY: &[Syntax] =
    &[Word("ipv6-family", "IPv6"), Choice(&[UNICAST, MULTICAST, LABELED, &[Word("vpnv6", "routes of VPNs")], FLOW])];
pub(super) const L2VPN_FAMILY: &[Syntax] = &[Word("l2vpn-family", "layer 2 VPNs"), Word("evpn", "EVPN")];
pub(super) const LINK_STATE_FAMILY: &[Syntax] =
    &[Word("link-state-family", "BGP-LS"), Word("unicast", "links, nodes and prefixes")];

/// Any family.
pub(super) const FAMILY: Syntax = Choice(&[IPV4_FAMILY, IPV6_FAMILY, L2VPN_FAMILY, LINK_STATE_FAMILY]);

/// The families that have words, with these.
pub(in crate::config) const FAMILIES: [(&str, &str, Family); 12] = [
    ("ipv4-family", "unicast", Family::IPV4_UNICAST),
    ("ipv4-family", "multicast", Family::IPV4_MULTICAST),
    ("ipv4-family", "labeled-unicast", Family::IPV4_LABELED),
    ("ipv4-family", "vpnv4", Family::VPNV4),
    ("ipv4-family", "flow", Family::IPV4_FLOW),
    ("ipv6-family", "unicast", Family::IPV6_UNICAST),
    ("ipv6-family", "multicast", Family::IPV6_MULTICAST),
    ("ipv6-family", "labeled-unicast", Family::IPV6_LABELED),
    ("ipv6-family", "vpnv6", Family::VPNV6),
    ("ipv6-family", "flow", Family::IPV6_FLOW),
    ("l2vpn-family", "evpn", Family::L2VPN_EVPN),
    ("link-state-family", "unicast", Family::LINK_STATE),
];
