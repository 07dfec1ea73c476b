//! The IP prefix and the route distinguisher of an NLRI, where its family has them.

use super::{
    Family, Form, PATH_ID,
    nlri::{RD, labels},
};

const RD_BITS: u8 = 8 * RD as u8;
const AFI_IPV4: u16 = Family::IPV4_UNICAST.afi;
/// Sub-address families whose NLRI are prefixes behind a route distinguisher (RFC 4364, RFC 6514
/// §9.2.3.1).
const VPN: [u8; 2] = [128, 129];
/// The type of an EVPN route that is an IP prefix (RFC 9136 §3.1).
const EVPN_PREFIX: u8 = 5;
/// The types of EVPN routes that begin with a route distinguisher (RFC 7432 §7, RFC 9136, RFC
/// 9251).
const EVPN_WITH_RD: std::ops::RangeInclusive<u8> = 1..=8;

/// What a filter can see of an NLRI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NlriPrefix {
    /// The route distinguisher.
    pub distinguisher: Option<[u8; RD]>,
    /// The prefix.
    pub prefix: Option<PrefixBits>,
}

/// An IP prefix, quick to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixBits {
    /// Whether it is an IPv4 prefix.
    pub is_ipv4: bool,
    /// The address, in the upper bits; an IPv4 address in the upper 32. Bits behind the length are
    /// zero.
    pub address: u128,
    /// Length in bits.
    pub length: u8,
}

impl NlriPrefix {
    /// Reads an NLRI of a family, which [`super::nlri`] returned for this form. A multicast
    /// distribution tree, a flow specification and other routes that are no prefixes have none.
    #[inline]
    pub fn of(family: Family, form: Form, path_ids: bool, item: &[u8]) -> Self {
        let rest = item.get(if path_ids { PATH_ID } else { 0 }..).unwrap_or_default();
        let is_ipv4 = family.afi == AFI_IPV4;
        match (form, family.safi) {
            (Form::Prefix { .. }, 1 | 2) => {
                let prefix = rest.split_first().map(|(bits, prefix)| bits_of(is_ipv4, *bits, prefix));
                Self { distinguisher: None, prefix }
            }
            (Form::Prefix { .. } | Form::Labeled { .. }, safi @ (4 | 128 | 129)) => {
                Self::behind_labels(is_ipv4, form, VPN.contains(&safi), rest)
            }
            (Form::Evpn, _) => Self::of_evpn(rest),
            // Flow specifications of VPNs (RFC 8955 §8). A long one has two octets of length.
            (Form::Flow, 134) => {
                let start = if rest.first().is_some_and(|length| *length >= 0xf0) { 2 } else { 1 };
                Self { distinguisher: rest.get(start..).and_then(<[u8]>::first_chunk).copied(), prefix: None }
            }
            _ => Self::default(),
        }
    }

    fn behind_labels(is_ipv4: bool, form: Form, is_vpn: bool, rest: &[u8]) -> Self {
        let Some((&bits, mut rest)) = rest.split_first() else { return Self::default() };
        let mut left = bits;
        if let Form::Labeled { stack, .. } = form {
            let labels = labels(rest, stack);
            rest = rest.get(labels..).unwrap_or_default();
            left = left.saturating_sub(u8::try_from(8 * labels).unwrap_or(u8::MAX));
        }
        if !is_vpn {
            return Self { distinguisher: None, prefix: Some(bits_of(is_ipv4, left, rest)) };
        }
        let Some((distinguisher, rest)) = rest.split_first_chunk() else { return Self::default() };
        let prefix = left.checked_sub(RD_BITS).map(|length| bits_of(is_ipv4, length, rest));
        Self { distinguisher: Some(*distinguisher), prefix }
    }

    fn of_evpn(rest: &[u8]) -> Self {
        /// Ethernet segment and tag.
        const BETWEEN: usize = 10 + 4;
        /// A longer route has IPv6 addresses (RFC 9136 §3.1).
        const IPV4_ROUTE: usize = 34;
        let [kind, _length, value @ ..] = rest else { return Self::default() };
        if !EVPN_WITH_RD.contains(kind) {
            return Self::default();
        }
        let distinguisher = value.first_chunk().copied();
        let prefix = (*kind == EVPN_PREFIX).then(|| value.get(RD + BETWEEN..)).flatten();
        let prefix = prefix.and_then(<[u8]>::split_first).map(|(bits, prefix)| {
            let is_ipv4 = value.len() <= IPV4_ROUTE;
            bits_of(is_ipv4, *bits, prefix.get(..if is_ipv4 { 4 } else { 16 }).unwrap_or(prefix))
        });
        Self { distinguisher, prefix }
    }
}

#[inline]
fn bits_of(is_ipv4: bool, length: u8, bytes: &[u8]) -> PrefixBits {
    let mut address = [0; 16];
    let count = bytes.len().min(16);
    address[..count].copy_from_slice(&bytes[..count]);
    let address = u128::from_be_bytes(address);
    let mask = if length == 0 { 0 } else { u128::MAX << 128u8.saturating_sub(length) };
    PrefixBits { is_ipv4, address: address & mask, length }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(is_ipv4: bool, address: &[u8], length: u8) -> Option<PrefixBits> {
        Some(bits_of(is_ipv4, length, address))
    }

    fn read(family: Family, path_ids: bool, item: &[u8]) -> NlriPrefix {
        NlriPrefix::of(family, Form::of(family).unwrap(), path_ids, item)
    }

    #[test]
    fn a_prefix_is_read_behind_path_identifier_labels_and_distinguisher() {
        let plain = read(Family::IPV4_UNICAST, false, &[20, 10, 1, 0xff]);
        assert_eq!(plain, NlriPrefix { distinguisher: None, prefix: prefix(true, &[10, 1, 0xf0], 20) });
        let numbered = read(Family::IPV6_UNICAST, true, &[0, 0, 0, 9, 32, 0x20, 1, 0xd, 0xb8]);
        assert_eq!(numbered.prefix, prefix(false, &[0x20, 1, 0xd, 0xb8], 32));
        let labeled = read(Family::IPV4_LABELED, false, &[24 + 16, 0, 1, 0x11, 10, 2]);
        assert_eq!(labeled, NlriPrefix { distinguisher: None, prefix: prefix(true, &[10, 2], 16) });
        let rd = [0, 0, 0xfd, 0xe8, 0, 0, 0, 1];
        let vpn = read(Family::VPNV4, false, &[&[24 + 64 + 8, 0, 1, 0x11][..], &rd, &[10]].concat());
        assert_eq!(vpn, NlriPrefix { distinguisher: Some(rd), prefix: prefix(true, &[10], 8) });
        let stack = Form::of(Family::VPNV4).unwrap().with_stack(true);
        let two = [&[48 + 64 + 8, 0, 1, 0x10, 0, 2, 0x11][..], &rd, &[10]].concat();
        assert_eq!(NlriPrefix::of(Family::VPNV4, stack, false, &two), vpn);
    }

    #[test]
    fn an_evpn_route_has_a_distinguisher_and_only_an_ip_prefix_route_has_a_prefix() {
        let rd = [0, 0, 0xfd, 0xe8, 0, 0, 0, 1];
        let route = |kind: u8, length: usize, rest: &[u8]| {
            let mut value = [&rd[..], &[0; 14], rest].concat();
            value.resize(length, 0);
            [&[kind, length as u8][..], &value].concat()
        };
        let ipv4 = read(Family::L2VPN_EVPN, false, &route(5, 34, &[16, 10, 3]));
        assert_eq!(ipv4, NlriPrefix { distinguisher: Some(rd), prefix: prefix(true, &[10, 3], 16) });
        let ipv6 = read(Family::L2VPN_EVPN, false, &route(5, 58, &[16, 0x20, 1]));
        assert_eq!(ipv6.prefix, prefix(false, &[0x20, 1], 16));
        let mac = read(Family::L2VPN_EVPN, false, &route(2, 33, &[48]));
        assert_eq!(mac, NlriPrefix { distinguisher: Some(rd), prefix: None });
    }

    #[test]
    fn routes_that_are_no_prefixes_have_none() {
        assert_eq!(read(Family::IPV4_FLOW, false, &[3, 1, 8, 10]), NlriPrefix::default());
        let rd = [0, 1, 192, 0, 2, 1, 0, 5];
        let flow = read(Family::VPNV4_FLOW, false, &[&[11][..], &rd, &[1, 8, 10]].concat());
        assert_eq!(flow, NlriPrefix { distinguisher: Some(rd), prefix: None });
        assert_eq!(read(Family::LINK_STATE, false, &[0, 1, 0, 1, 7]), NlriPrefix::default());
    }
}
