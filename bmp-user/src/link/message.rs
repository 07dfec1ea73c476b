//! Parses netlink messages. A parser takes the attributes that it needs and ignores all others, so
//! no message can make it fail or panic.
//!
//! Layouts: netlink(7), rtnetlink(7), `include/uapi/linux/if_link.h`, `if_addr.h`, `rtnetlink.h`.
//! Integers are in host order, addresses in network order.

use std::{
    iter,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::host::{InterfaceAddress, Link};

#[cfg(test)]
mod tests;

/// Length of `struct nlmsghdr`.
const HEADER_LEN: usize = 16;
/// `NLA_TYPE_MASK`: removes the flags for nesting and byte order.
const ATTRIBUTE_TYPE_MASK: u16 = 0x3fff;

const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_STATS64: u16 = 23;
/// The offset of `tx_dropped` in `struct rtnl_link_stats64`.
const TX_DROPPED: usize = 56;
const TCA_STATS2: u16 = 7;
const TCA_STATS_QUEUE: u16 = 3;
/// `TC_H_ROOT`: the parent of an interface's root queueing discipline.
const TC_ROOT: u32 = u32::MAX;
const NDA_DST: u16 = 1;
const NUD_INCOMPLETE: u16 = 0x01;
const RTA_VIA: u16 = 18;
const RTNH_F_DEAD: u8 = 1;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_PROTOCOL: u16 = 21;

/// One netlink message of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawMessage<'a> {
    /// `RTM_*` or `NLMSG_*`.
    pub(super) kind: u16,
    /// `NLM_F_*`.
    pub(super) flags: u16,
    /// The sequence number of the request that this message answers.
    pub(super) sequence: u32,
    /// The bytes after the header.
    pub(super) payload: &'a [u8],
}

/// Iterates over the messages of a datagram. The last message of a truncated datagram is truncated
/// too.
pub(super) fn messages(mut rest: &[u8]) -> impl Iterator<Item = RawMessage<'_>> {
    iter::from_fn(move || {
        let len = u32_at(rest, 0)? as usize;
        let message = RawMessage {
            kind: u16_at(rest, 4)?,
            flags: u16_at(rest, 6)?,
            sequence: u32_at(rest, 8)?,
            payload: rest.get(HEADER_LEN..len.min(rest.len()))?,
        };
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Returns the error number in the payload of `NLMSG_ERROR` or `NLMSG_DONE`: positive as in
/// errno(3), or 0 for success.
pub(super) fn error_number(payload: &[u8]) -> i32 {
    u32_at(payload, 0).map_or(0, |code| code.cast_signed().saturating_neg())
}

/// Returns the interface index, which link and address messages hold at the same offset.
pub(super) fn interface_index(payload: &[u8]) -> Option<u32> {
    u32_at(payload, 4)
}

/// Parses `struct ifinfomsg` and its attributes into a link without addresses. Returns `None` if
/// the payload is too short.
pub(super) fn link(payload: &[u8]) -> Option<Link> {
    let flags = u32_at(payload, 8)?;
    let has = |flag: i32| flags & flag.cast_unsigned() != 0;
    let mut link = Link {
        index: interface_index(payload)?,
        up: has(libc::IFF_UP),
        carrier: has(libc::IFF_LOWER_UP),
        loopback: has(libc::IFF_LOOPBACK),
        ethernet: u16_at(payload, 2) == Some(libc::ARPHRD_ETHER),
        ..Link::default()
    };
    for (kind, value) in attributes(payload.get(16..)?) {
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_LINK => link.below = u32_at(value, 0).filter(|&index| index != 0),
            libc::IFLA_MASTER => link.controller = u32_at(value, 0).filter(|&index| index != 0),
            IFLA_PROP_LIST => link.alt_names.extend(nested(value, IFLA_ALT_IFNAME).map(text)),
            libc::IFLA_LINKINFO => link.kind = nested(value, IFLA_INFO_KIND).map(text).next(),
            _ => {}
        }
    }
    // Other kinds set `IFLA_LINK` too. For a veth it is the far end, whose index may belong to
    // another namespace.
    link.below = link.below.filter(|_| link.kind.as_deref() == Some("vlan"));
    Some(link)
}

/// Returns how many packets the driver of a link dropped instead of sending (`tx_dropped` of
/// `IFLA_STATS64`).
pub(super) fn dropped_by_device(payload: &[u8]) -> Option<u64> {
    let (_, statistics) = attributes(payload.get(16..)?).find(|(kind, _)| *kind == IFLA_STATS64)?;
    Some(u64::from_ne_bytes(statistics.get(TX_DROPPED..TX_DROPPED + 8)?.try_into().ok()?))
}

/// The drops of the root queueing discipline of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueDrops {
    /// The index of the interface.
    pub(super) interface: u32,
    /// Packets that the queueing discipline dropped.
    pub(super) packets: u64,
}

/// Parses a `struct tcmsg` and its attributes. `None` if the discipline is not the root of its
/// interface.
pub(super) fn dropped_by_queue(payload: &[u8]) -> Option<QueueDrops> {
    if u32_at(payload, 12)? != TC_ROOT {
        return None;
    }
    let (_, statistics) = attributes(payload.get(20..)?).find(|(kind, _)| *kind == TCA_STATS2)?;
    let queue = nested(statistics, TCA_STATS_QUEUE).next()?;
    // `struct gnet_stats_queue`: length, backlog, drops.
    Some(QueueDrops { interface: interface_index(payload)?, packets: u32_at(queue, 8)?.into() })
}

/// An address, and the interface that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddressOfInterface {
    /// The index of the interface.
    pub(super) interface: u32,
    /// The address.
    pub(super) address: InterfaceAddress,
}

/// Parses a `struct ifaddrmsg` and its attributes. Returns `None` for other families than IPv4 and
/// IPv6.
pub(super) fn address(payload: &[u8]) -> Option<AddressOfInterface> {
    let &[family, prefix_len, flags, scope, ..] = payload else { return None };
    let (mut local, mut far, mut flags) = (None, None, u32::from(flags));
    for (kind, value) in attributes(payload.get(8..)?) {
        match kind {
            libc::IFA_LOCAL => local = ip(value),
            libc::IFA_ADDRESS => far = ip(value),
            // The header holds only the first eight flags.
            libc::IFA_FLAGS => flags = u32_at(value, 0).unwrap_or(flags),
            _ => {}
        }
    }
    let ipv4 = i32::from(family) == libc::AF_INET;
    let has = |flag: u32| flags & flag != 0;
    let ip = local.or(far).filter(|ip| ip.is_ipv4() == ipv4)?;
    let address = InterfaceAddress {
        ip,
        peer: far.filter(|&far| far != ip && far.is_ipv4() == ipv4),
        prefix_len,
        global: scope == libc::RT_SCOPE_UNIVERSE,
        // IPv4 and IPv6 give this bit different meanings.
        secondary: ipv4 && has(libc::IFA_F_SECONDARY),
        temporary: !ipv4 && has(libc::IFA_F_TEMPORARY),
        unproven: has(libc::IFA_F_DADFAILED) || (has(libc::IFA_F_TENTATIVE) && !has(libc::IFA_F_OPTIMISTIC)),
        deprecated: has(libc::IFA_F_DEPRECATED),
    };
    Some(AddressOfInterface { interface: interface_index(payload)?, address })
}

/// A route as one entry of a routing table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FibEntry {
    /// `RTN_*`.
    pub(super) kind: u8,
    /// The routing table.
    pub(super) table: u32,
    /// `RTPROT_*`: who added the route.
    pub(super) protocol: u8,
    /// The prefix length of the destination. A default route has 0.
    pub(super) prefix_len: u8,
    /// The metric, if the kernel sends it.
    pub(super) metric: Option<u32>,
    /// The preferred source address.
    pub(super) source: Option<IpAddr>,
    /// The next hops that are not dead. Empty if the kernel does not send them, as for nexthop
    /// objects under `net.ipv4.nexthop_compat_mode=0`.
    pub(super) next_hops: Vec<FibNextHop>,
}

/// One next hop of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FibNextHop {
    /// The interface index.
    pub(super) oif: u32,
    /// The router. `None` if the destination is on the link.
    pub(super) gateway: Option<IpAddr>,
}

/// Parses `struct rtmsg` and its attributes.
pub(super) fn fib_entry(payload: &[u8]) -> Option<FibEntry> {
    let &[_, prefix_len, _, _, table, protocol, _, kind, ..] = payload else { return None };
    let mut entry = FibEntry { kind, table: u32::from(table), protocol, prefix_len, ..FibEntry::default() };
    let all = payload.get(12..)?;
    for (kind, value) in attributes(all) {
        match kind {
            libc::RTA_TABLE => entry.table = u32_at(value, 0).unwrap_or(entry.table),
            libc::RTA_PREFSRC => entry.source = ip(value),
            libc::RTA_PRIORITY => entry.metric = u32_at(value, 0),
            libc::RTA_OIF => {
                entry.next_hops.extend(u32_at(value, 0).map(|oif| FibNextHop { oif, gateway: gateway(all) }));
            }
            libc::RTA_MULTIPATH => entry.next_hops.extend(multipath(value)),
            _ => {}
        }
    }
    Some(entry)
}

/// A routing rule: it selects the table for a lookup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RoutingRule {
    /// `RTPROT_*`: who added the rule.
    pub(super) protocol: u8,
    /// The priority. The kernel evaluates the lowest first.
    pub(super) priority: u32,
    /// The mark that the rule matches.
    pub(super) mark: u32,
    /// The bits of the mark that the rule compares. 0 means that the rule ignores marks.
    pub(super) mask: u32,
    /// The table that the rule selects.
    pub(super) table: u32,
    /// `FR_ACT_*`.
    pub(super) action: u8,
}

/// Parses `struct fib_rule_hdr` (`include/uapi/linux/fib_rules.h`) and its attributes.
pub(super) fn rule(payload: &[u8]) -> Option<RoutingRule> {
    let &[_, _, _, _, table, _, _, action, ..] = payload else { return None };
    let mut rule = RoutingRule { table: u32::from(table), action, ..RoutingRule::default() };
    for (kind, value) in attributes(payload.get(12..)?) {
        let number = || u32_at(value, 0).unwrap_or_default();
        match kind {
            FRA_PRIORITY => rule.priority = number(),
            FRA_FWMARK => rule.mark = number(),
            FRA_FWMASK => rule.mask = number(),
            FRA_TABLE => rule.table = number(),
            FRA_PROTOCOL => rule.protocol = value.first().copied().unwrap_or_default(),
            _ => {}
        }
    }
    Some(rule)
}

/// Returns interface index and address of a neighbour that has never answered and that the kernel
/// still asks for.
pub(super) fn unanswered(payload: &[u8]) -> Option<(u32, IpAddr)> {
    let (index, state) = (u32_at(payload, 4)?, u16_at(payload, 8)?);
    let (_, address) = attributes(payload.get(12..)?).find(|(kind, _)| *kind == NDA_DST)?;
    (state == NUD_INCOMPLETE).then_some((index, ip(address)?))
}

/// Iterates over the next hops of `RTA_MULTIPATH` that are not dead.
fn multipath(mut rest: &[u8]) -> impl Iterator<Item = FibNextHop> {
    let all = iter::from_fn(move || {
        let len = usize::from(u16_at(rest, 0)?);
        let flags = *rest.get(2)?;
        let next_hop = FibNextHop { oif: u32_at(rest, 4)?, gateway: gateway(rest.get(8..len)?) };
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((flags, next_hop))
    });
    all.filter(|(flags, _)| flags & RTNH_F_DEAD == 0).map(|(_, next_hop)| next_hop)
}

/// Returns `RTA_GATEWAY`, or `RTA_VIA` for a router of the other address family.
fn gateway(all: &[u8]) -> Option<IpAddr> {
    attributes(all).find_map(|(kind, value)| match kind {
        libc::RTA_GATEWAY => ip(value),
        RTA_VIA => ip(value.get(2..)?),
        _ => None,
    })
}

/// Iterates over type and value of the attributes (`struct nlattr`), up to the first malformed one.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    iter::from_fn(move || {
        let len = usize::from(u16_at(rest, 0)?);
        let attribute = (u16_at(rest, 2)? & ATTRIBUTE_TYPE_MASK, rest.get(4..len)?);
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(attribute)
    })
}

/// Iterates over the values of the nested attributes of one type.
fn nested(value: &[u8], wanted: u16) -> impl Iterator<Item = &[u8]> {
    attributes(value).filter(move |&(kind, _)| kind == wanted).map(|(_, value)| value)
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(value).ok().map(|octets| Ipv4Addr::from(octets).into());
    v4().or_else(|| <[u8; 16]>::try_from(value).ok().map(|octets| Ipv6Addr::from(octets).into()))
}

/// Reads a name up to its NUL. A kernel name may hold any bytes except `/` and white space.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|&chunk| u16::from_ne_bytes(chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|&chunk| u32::from_ne_bytes(chunk))
}
