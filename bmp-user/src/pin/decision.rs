//! What is decided about a session, and the pin that follows from it.

use std::net::{IpAddr, SocketAddr};

use bmp_ebpf::{EGRESS_MAX, PIN_DENY, PIN_OWN, PIN_SOURCE, PIN_VRF, Pin};

use super::{Grant, Pinned, Resolved, Role, Target, Unresolved, asked::Asked, datapath::in_bytes};
use crate::{
    config::{ConnectInterface, Transport},
    link::Host,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Ready(Grant),
    /// With what can be denied: nothing where no port is configured.
    Down(Option<Target>, Unresolved),
}

impl Decision {
    /// What marks the session's packets, if anything does.
    pub(super) fn mark(&self) -> Option<u32> {
        match self {
            Self::Ready(grant) => Some(grant.mark).filter(|mark| *mark != 0),
            Self::Down(..) => None,
        }
    }

    /// Whether both ask the same of kernel and session. By which rule an address was chosen, and what an interface is called, may
    /// change meanwhile.
    pub(super) fn comes_to(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ready(one), Self::Ready(two)) => {
                let (egress, other_egress) = (&one.resolved.egress, &two.resolved.egress);
                self.differs_in_egress_at_most(other) && egress.iter().map(index).eq(other_egress.iter().map(index))
            }
            _ => self == other,
        }
    }

    /// Whether both give the session the same way out of this host, but for the interfaces that it may leave by.
    pub(super) fn differs_in_egress_at_most(&self, other: &Self) -> bool {
        let (Self::Ready(one), Self::Ready(other)) = (self, other) else { return false };
        let (pin, other_pin) = (&one.resolved, &other.resolved);
        one.target == other.target
            && one.mark == other.mark
            && pin.source == other_pin.source
            && pin.device.as_ref().map(index) == other_pin.device.as_ref().map(index)
    }
}

fn index((index, _): &(u32, String)) -> u32 {
    *index
}

/// What a session is denied with.
pub(super) const DENIAL: Pin = Pin {
    generation: 0,
    flags: PIN_DENY,
    device: 0,
    mark: 0,
    egress_count: 0,
    egress: [0; EGRESS_MAX],
    source: [0; 16],
};

/// What a session is denied with for which `chosen` was chosen: there it is found again after a crash. With `links` it is denied on these
/// interfaces' links alone.
pub(super) fn denial(chosen: Option<IpAddr>, own_only: bool, links: &[u32]) -> Pin {
    let flags = if own_only { PIN_DENY | PIN_OWN } else { PIN_DENY };
    let mut pin = Pin { source: chosen.map_or([0; 16], in_bytes), flags, ..DENIAL };
    for (link, slot) in links.iter().zip(pin.egress.iter_mut()) {
        *slot = *link;
    }
    pin.egress_count = links.len().min(EGRESS_MAX) as u32;
    pin
}

/// The interfaces that lead to a link-local station: those that the configuration names and the host has. `None` for any other
/// station, which is the same host on every link.
pub(super) fn station_links(station: IpAddr, asked: &Asked, host: &Host) -> Option<Vec<u32>> {
    if !matches!(station, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return None;
    }
    let bound = asked.connect.as_ref().and_then(ConnectInterface::interface).into_iter();
    let egress = asked.egress_interfaces.iter().map(String::as_str);
    let names = bound.chain(egress);
    let mut links: Vec<_> = names.filter_map(|name| Some(host.link_named(name, &asked.aliases)?.index)).collect();
    links.sort_unstable();
    links.dedup();
    Some(links)
}

pub(super) fn denies(pin: &Pin) -> bool {
    pin.flags & PIN_DENY != 0
}

/// Which connections a pin is for; `None` where no port is configured, or there is no VRF device for its VPN instance.
pub fn target(id: &Pinned, transport: Option<Transport>, host: &Host) -> Option<Target> {
    let (role, port) = match transport? {
        Transport::Connect(port) => (Role::Connect, port),
        Transport::Listen(port) => (Role::Listen, port),
    };
    let vrf = match id.vpn_instance() {
        Some(name) => host.vrf_named(name)?.index,
        None => 0,
    };
    Some(Target { role, vrf, station: SocketAddr::new(id.far(), port) })
}

/// For people: `pinned to up2, from 192.0.2.65 (the configured address)`.
pub fn in_words(resolved: &Resolved) -> String {
    let names: Vec<_> = resolved.egress.iter().map(|(_, name)| name.as_str()).collect();
    let egress =
        if names.is_empty() { "leaves by any interface".to_owned() } else { format!("pinned to {}", names.join(", ")) };
    let next_hop = resolved.way.as_ref().map(|way| format!(", to next hop {}", way.next_hop)).unwrap_or_default();
    match resolved.source {
        Some(source) => format!("{egress}, from {source} ({}){next_hop}", resolved.rule),
        None => format!("{egress}{next_hop}"),
    }
}

/// What the kernel shall enforce.
pub(super) fn pin_of(Grant { target, resolved, mark, own_only, .. }: &Grant) -> Pin {
    let mut pin = Pin { mark: *mark, ..Pin::default() };
    if target.vrf != 0 {
        pin.flags |= PIN_VRF;
    }
    if *own_only {
        pin.flags |= PIN_OWN;
    }
    // A socket comes to the pin by the key of its VRF, so it is bound in that VRF already.
    pin.device = resolved.device.as_ref().map(|(index, _)| *index).filter(|index| *index != target.vrf).unwrap_or(0);
    for (index, slot) in resolved.egress.iter().zip(pin.egress.iter_mut()) {
        *slot = index.0;
    }
    // At most EGRESS_MAX names can be configured.
    pin.egress_count = resolved.egress.len().min(EGRESS_MAX) as u32;
    if let Some(source) = resolved.source {
        pin.flags |= PIN_SOURCE;
        pin.source = in_bytes(source);
    }
    pin
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pin::Rule;

    fn grant(source: &str, device: Option<(u32, &str)>, rule: Rule) -> Decision {
        let device = device.map(|(index, name)| (index, name.to_owned()));
        let egress = device.iter().cloned().collect();
        let source = Some(source.parse().unwrap());
        let target = Target { role: Role::Connect, vrf: 0, station: "198.51.100.7:11019".parse().unwrap() };
        Decision::Ready(Grant {
            target,
            resolved: Resolved { source, device, egress, way: None, rule },
            mark: 0,
            line: 0,
            own_only: false,
        })
    }

    #[test]
    fn a_session_is_connected_again_for_another_source_or_interface_and_for_nothing_else() {
        let first = grant("192.0.2.65", Some((3, "up2")), Rule::First);
        assert!(first.comes_to(&grant("192.0.2.65", Some((3, "up2")), Rule::Kept)), "by which rule does not matter");
        assert!(first.comes_to(&grant("192.0.2.65", Some((3, "renamed")), Rule::First)), "nor does the name");
        assert!(!first.comes_to(&grant("192.0.2.66", Some((3, "up2")), Rule::First)));
        assert!(!first.comes_to(&grant("192.0.2.65", Some((9, "up2")), Rule::First)), "recreated under another index");
        assert!(!first.comes_to(&grant("192.0.2.65", None, Rule::First)));
    }

    #[test]
    fn the_pin_names_source_device_and_egress_as_the_kernel_programs_read_them() {
        let Decision::Ready(grant) = grant("192.0.2.65", Some((3, "up2")), Rule::First) else { unreachable!() };
        let pin = pin_of(&grant);
        assert_eq!((pin.flags, pin.device, pin.egress_count, pin.egress[0]), (PIN_SOURCE, 3, 1, 3));
        assert_eq!(pin.source[..5], [192, 0, 2, 65, 0]);
    }
}
