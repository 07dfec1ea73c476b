//! Address families and RIBs in words.

use crate::{
    config::language::syntax::Syntax::{self, Choice, Word},
    wire::{bgp::Family, bmp::RibView},
};

const UNICAST: &[Syntax] = &[Word("unicast", "unicast routes")];
const MULTICAST: &[Syntax] = &[Word("multicast", "multicast routes")];
const LABELED: &[Syntax] = &[Word("labeled-unicast", "routes with labels")];
const FLOW: &[Syntax] = &[Word("flow", "flow specifications")];

pub(in crate::config) const IPV4_FAMILY: &[Syntax] =
    &[Word("ipv4-family", "IPv4"), Choice(&[UNICAST, MULTICAST, LABELED, &[Word("vpnv4", "routes of VPNs")], FLOW])];
pub(in crate::config) const IPV6_FAMILY: &[Syntax] =
    &[Word("ipv6-family", "IPv6"), Choice(&[UNICAST, MULTICAST, LABELED, &[Word("vpnv6", "routes of VPNs")], FLOW])];
pub(in crate::config) const L2VPN_FAMILY: &[Syntax] = &[Word("l2vpn-family", "layer 2 VPNs"), Word("evpn", "EVPN")];
pub(in crate::config) const LINK_STATE_FAMILY: &[Syntax] =
    &[Word("link-state-family", "BGP-LS"), Word("unicast", "links, nodes and prefixes")];

/// Any family.
pub(in crate::config) const FAMILY: Syntax = Choice(&[IPV4_FAMILY, IPV6_FAMILY, L2VPN_FAMILY, LINK_STATE_FAMILY]);

/// The families that the language names, each with its two words.
const FAMILIES: [(&str, &str, Family); 12] = [
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

const RIBS: [(&[&str], RibView); 5] = [
    (&["adj-rib-in", "pre-policy"], RibView::AdjRibInPre),
    (&["adj-rib-in", "post-policy"], RibView::AdjRibInPost),
    (&["adj-rib-out", "pre-policy"], RibView::AdjRibOutPre),
    (&["adj-rib-out", "post-policy"], RibView::AdjRibOutPost),
    (&["local-rib"], RibView::LocRib),
];

/// Returns the words that name a family; none where the language has no words for it.
pub(in crate::config) fn family_words(family: Family) -> Vec<&'static str> {
    let named = FAMILIES.into_iter().find(|(.., named)| *named == family);
    named.map(|(first, second, _)| vec![first, second]).unwrap_or_default()
}

/// Returns the family that keywords name.
pub(in crate::config) fn family_of(has: impl Fn(&str) -> bool) -> Option<Family> {
    FAMILIES.into_iter().find(|(first, second, _)| has(first) && has(second)).map(|(.., family)| family)
}

/// Returns the words that name a RIB.
pub(in crate::config) fn rib_words(rib: RibView) -> &'static [&'static str] {
    RIBS.into_iter().find(|(_, named)| *named == rib).map(|(words, _)| words).unwrap_or_default()
}

/// Returns the RIB that keywords name.
pub(in crate::config) fn rib_of(has: impl Fn(&str) -> bool) -> Option<RibView> {
    RIBS.into_iter().find(|(words, _)| words.iter().all(|word| has(word))).map(|(_, rib)| rib)
}
