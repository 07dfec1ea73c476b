//! Words and classes of addresses and interfaces.

use std::net::IpAddr;

use crate::link::Link;

/// True for an IPv6 address with link-local scope (RFC 4291 §2.5.6).
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Returns the name that the operator used, with the kernel name where it differs.
pub(super) fn called(name: &str, link: &Link) -> String {
    if link.name == name { name.to_owned() } else { format!("{name} ({})", link.name) }
}

/// Returns the command that sets an interface up.
pub(super) fn set_up(link: &Link) -> String {
    format!("ip link set dev {} up", link.name)
}

/// Returns `IPv4` or `IPv6`.
pub(super) fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}
