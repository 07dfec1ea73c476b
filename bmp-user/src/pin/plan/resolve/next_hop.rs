//! The next hop of a session, and the interface that leads to it.

use std::{fs, net::IpAddr};

use super::{ResolvedPin, names::is_link_local, vrf_scope::VrfScope};
use crate::{
    link::{Interface, InterfaceAddress, Link},
    pin::reason::{DownCause, Reason},
};

/// Where a session's packets go, whatever the routing tables say: `next-hop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHopPath {
    /// The router.
    pub next_hop: IpAddr,
    /// The interface that leads to it.
    pub interface: Interface,
    /// The VRF device of the session; `None` in the default VRF.
    pub vrf: Option<Interface>,
}

impl NextHopPath {
    /// Returns the interface whose settings decide about ICMP redirects. An IPv4 packet in a VRF
    /// seems to come in by the VRF device (`vrf_ip_rcv` of drivers/net/vrf.c). Neighbour discovery,
    /// with IPv6 redirects, keeps the port (`vrf_ip6_rcv`).
    pub fn redirected_by(&self) -> &Interface {
        self.vrf.as_ref().filter(|_| self.next_hop.is_ipv4()).unwrap_or(&self.interface)
    }

    /// True if the kernel obeys an ICMP redirect that comes by the interface, and so may replace
    /// the next hop by another router.
    pub fn takes_redirects(&self) -> bool {
        let is_on = |family: &str, scope: &str, name: &str| {
            fs::read_to_string(format!("/proc/sys/net/{family}/conf/{scope}/{name}"))
                .is_ok_and(|value| value.trim() != "0")
        };
        let interface = &self.redirected_by().name;
        let accepts = |family: &str, scope: &str| is_on(family, scope, "accept_redirects");
        match self.next_hop {
            // `IN_DEV_RX_REDIRECTS` of linux/inetdevice.h.
            IpAddr::V4(_) if is_on("ipv4", interface, "forwarding") => {
                accepts("ipv4", "all") && accepts("ipv4", interface)
            }
            IpAddr::V4(_) => accepts("ipv4", "all") || accepts("ipv4", interface),
            // `ndisc_redirect_rcv` of net/ipv6/ndisc.c, `rt6_do_redirect` of net/ipv6/route.c.
            IpAddr::V6(_) => accepts("ipv6", interface) && !is_on("ipv6", interface, "forwarding"),
        }
    }

    /// Returns the command that has the kernel ignore redirects on the interface.
    pub fn no_redirects(&self) -> String {
        // sysctl(8) writes a dot in an interface's name as a slash.
        let interface = self.redirected_by().name.replace('.', "/");
        match self.next_hop {
            IpAddr::V4(_) => {
                format!("sysctl net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.{interface}.accept_redirects=0")
            }
            IpAddr::V6(_) => format!("sysctl net.ipv6.conf.{interface}.accept_redirects=0"),
        }
    }
}

/// Finds the interface for a next hop: the one that connect-interface names, whether the next hop
/// is on its link or not. Otherwise it is the interface whose prefix holds the next hop, among
/// those that the session may leave by.
///
/// # Errors
///
/// No interface leads there, several may, or the address is this host's own.
pub(super) fn find(
    next_hop: IpAddr,
    station: IpAddr,
    resolved: &ResolvedPin,
    scope: &VrfScope<'_>,
) -> Result<NextHopPath, DownCause> {
    let no_route = |why: String, mend: String| DownCause { reason: Reason::NoRoute, why, mend };
    if is_link_local(station) {
        return Err(no_route(
            format!("station {station} is on the link itself, where next hop {next_hop} does not lead"),
            "undo next-hop".to_owned(),
        ));
    }
    if scope.host.links_with_address(next_hop).any(|owner| scope.holds(owner)) {
        let why = format!("next hop {next_hop} is an address of this host");
        return Err(no_route(why, "next-hop ADDRESS".to_owned()));
    }
    if let ([named], Some(device)) = (resolved.egress.as_slice(), &resolved.device)
        && named == device
    {
        return Ok(NextHopPath { next_hop, interface: named.clone(), vrf: scope.device() });
    }
    let may_leave = |link: &&Link| {
        let all = resolved.egress.is_empty();
        let usable = link.is_usable() && !link.is_donor() && !link.is_layer2_port(scope.host) && scope.holds(link);
        usable && (all || resolved.egress.iter().any(|interface| interface.index == link.index))
    };
    let nearest = |link: &Link| {
        let on_link = link.addresses.iter().filter(|address| address.prefix_holds(next_hop));
        on_link.map(|InterfaceAddress { prefix_len, .. }| *prefix_len).max()
    };
    let all = scope.host.links.values().filter(may_leave);
    let candidates: Vec<_> = all.filter_map(|link| Some((nearest(link)?, link))).collect();
    if is_link_local(next_hop) && candidates.len() > 1 {
        let names: Vec<_> = candidates.iter().map(|(_, link)| link.name.as_str()).collect();
        return Err(no_route(
            format!("next hop {next_hop} is link-local, and may be on any of {}", names.join(", ")),
            "egress-interface INTERFACE".to_owned(),
        ));
    }
    // The longest prefix wins, as among routes; the first interface wins among equal ones.
    match candidates.iter().rev().max_by_key(|(prefix_len, _)| *prefix_len) {
        Some((_, link)) => Ok(NextHopPath { next_hop, interface: link.interface(), vrf: scope.device() }),
        None => Err(no_route(
            format!("next hop {next_hop} is on the link of no interface that the session may leave by"),
            "ip address add ADDRESS/PREFIX dev INTERFACE".to_owned(),
        )),
    }
}
