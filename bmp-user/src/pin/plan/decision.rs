//! What is decided about a pin, and what the kernel enforces for that.

use std::net::{IpAddr, SocketAddr};

use bmp_ebpf::{EGRESS_MAX, InetAddress, PIN_DENY, PIN_OWN, PIN_SOURCE, PIN_VRF, Pin};

use super::{
    demand::{PinSettings, Pinned},
    grant::Grant,
    resolve::ResolvedPin,
};
use crate::{
    config::{ConnectInterface, Transport},
    link::{Host, Interface},
    pin::{
        kernel::{PinTarget, Role},
        reason::DownCause,
    },
};

/// What is decided about a pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::pin) enum PinDecision {
    /// The session may connect.
    Ready(Grant),
    /// The session is down, and the kernel denies its connections.
    Down {
        /// The connections to deny: none where no port is configured.
        target: Option<PinTarget>,
        /// Why.
        cause: DownCause,
    },
}

impl PinDecision {
    /// Returns the fwmark of the session's packets, if they have one.
    pub(in crate::pin) fn mark(&self) -> Option<u32> {
        match self {
            Self::Ready(grant) => Some(grant.mark).filter(|mark| *mark != 0),
            Self::Down { .. } => None,
        }
    }

    /// True if both ask the same of kernel and session. The rule that chose the source, and the
    /// names of interfaces, may differ.
    pub(in crate::pin) fn asks_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ready(one), Self::Ready(two)) => {
                self.differs_in_egress_at_most(other) && indexes(&one.resolved.egress).eq(indexes(&two.resolved.egress))
            }
            _ => self == other,
        }
    }

    /// True if both give the session the same source and device, so that its connections can go on.
    /// The interfaces that it may leave by may differ.
    pub(in crate::pin) fn differs_in_egress_at_most(&self, other: &Self) -> bool {
        let (Self::Ready(one), Self::Ready(other)) = (self, other) else { return false };
        let (pin, other_pin) = (&one.resolved, &other.resolved);
        one.target == other.target
            && one.mark == other.mark
            && pin.source == other_pin.source
            && indexes(&pin.device).eq(indexes(&other_pin.device))
    }
}

fn indexes<'a>(interfaces: impl IntoIterator<Item = &'a Interface>) -> impl Iterator<Item = u32> {
    interfaces.into_iter().map(|interface| interface.index)
}

/// Returns the pin that denies a session.
///
/// It names the source that was `chosen`, so that the next bmpd finds the choice after a crash.
/// With `links` it denies the session on these interfaces' links alone.
pub(in crate::pin) fn denial(chosen: Option<IpAddr>, own_only: bool, links: &[u32]) -> Pin {
    let flags = if own_only { PIN_DENY | PIN_OWN } else { PIN_DENY };
    let mut pin = Pin { source: chosen.map(InetAddress::from).unwrap_or_default(), flags, ..Pin::default() };
    for (link, slot) in links.iter().zip(pin.egress.iter_mut()) {
        *slot = *link;
    }
    pin.egress_count = links.len().min(EGRESS_MAX) as u32;
    pin
}

/// True if the pin denies the session.
pub(in crate::pin) fn denies(pin: &Pin) -> bool {
    pin.flags & PIN_DENY != 0
}

/// Returns the indexes of the interfaces that lead to a link-local station: those that the
/// configuration names and the host has. `None` for any other station, which is the same host on
/// every link.
pub(in crate::pin) fn station_links(station: IpAddr, settings: &PinSettings, host: &Host) -> Option<Vec<u32>> {
    if !matches!(station, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return None;
    }
    let bound = settings.connect.as_ref().and_then(ConnectInterface::interface).into_iter();
    let names = bound.chain(settings.egress_interfaces.iter().map(String::as_str));
    let mut links: Vec<_> = names.filter_map(|name| Some(host.link_named(name, &settings.aliases)?.index)).collect();
    links.sort_unstable();
    links.dedup();
    Some(links)
}

/// Returns the connections that a pin is for. `None` where no port is configured, or the VPN
/// instance has no VRF device.
pub fn target(pinned: &Pinned, transport: Option<Transport>, host: &Host) -> Option<PinTarget> {
    let (role, port) = match transport? {
        Transport::Connect(port) => (Role::Connect, port),
        Transport::Listen(port) => (Role::Listen, port),
    };
    let vrf = match pinned.vpn_instance() {
        Some(name) => host.vrf_named(name)?.index,
        None => 0,
    };
    Some(PinTarget { role, vrf, station: SocketAddr::new(pinned.far(), port) })
}

/// Describes a pin to an operator: `pinned to up2, from 192.0.2.65 (the configured address)`.
pub fn in_words(resolved: &ResolvedPin) -> String {
    let names: Vec<_> = resolved.egress.iter().map(|interface| interface.name.as_str()).collect();
    let egress =
        if names.is_empty() { "leaves by any interface".to_owned() } else { format!("pinned to {}", names.join(", ")) };
    let next_hop = resolved.path.as_ref().map(|path| format!(", to next hop {}", path.next_hop)).unwrap_or_default();
    match resolved.source {
        Some(source) => format!("{egress}, from {source} ({}){next_hop}", resolved.rule),
        None => format!("{egress}{next_hop}"),
    }
}

/// Returns the pin that the kernel enforces for a grant.
pub(in crate::pin) fn pin_of(Grant { target, resolved, mark, own_only, .. }: &Grant) -> Pin {
    let mut pin = Pin { mark: *mark, ..Pin::default() };
    if target.vrf != 0 {
        pin.flags |= PIN_VRF;
    }
    if *own_only {
        pin.flags |= PIN_OWN;
    }
    // The key of the VRF leads to this pin, so the socket is bound to the VRF device already.
    pin.device = indexes(&resolved.device).find(|index| *index != target.vrf).unwrap_or(0);
    for (index, slot) in indexes(&resolved.egress).zip(pin.egress.iter_mut()) {
        *slot = index;
    }
    // The configuration takes at most EGRESS_MAX names.
    pin.egress_count = resolved.egress.len().min(EGRESS_MAX) as u32;
    if let Some(source) = resolved.source {
        pin.flags |= PIN_SOURCE;
        pin.source = source.into();
    }
    pin
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pin::plan::resolve::SourceRule;

    fn grant(source: &str, device: Option<(u32, &str)>, rule: SourceRule) -> PinDecision {
        let device = device.map(|(index, name)| Interface { index, name: name.to_owned() });
        let egress = device.iter().cloned().collect();
        let source = Some(source.parse().unwrap());
        let target = PinTarget { role: Role::Connect, vrf: 0, station: "198.51.100.7:11019".parse().unwrap() };
        PinDecision::Ready(Grant {
            target,
            resolved: ResolvedPin { source, device, egress, path: None, rule },
            mark: 0,
            line: 0,
            own_only: false,
        })
    }

    #[test]
    fn a_session_is_connected_again_for_another_source_or_interface_and_for_nothing_else() {
        let first = grant("192.0.2.65", Some((3, "up2")), SourceRule::First);
        assert!(
            first.asks_the_same(&grant("192.0.2.65", Some((3, "up2")), SourceRule::Kept)),
            "by which rule does not matter"
        );
        assert!(
            first.asks_the_same(&grant("192.0.2.65", Some((3, "renamed")), SourceRule::First)),
            "nor does the name"
        );
        assert!(!first.asks_the_same(&grant("192.0.2.66", Some((3, "up2")), SourceRule::First)));
        assert!(
            !first.asks_the_same(&grant("192.0.2.65", Some((9, "up2")), SourceRule::First)),
            "recreated under another index"
        );
        assert!(!first.asks_the_same(&grant("192.0.2.65", None, SourceRule::First)));
    }

    #[test]
    fn the_pin_names_source_device_and_egress_as_the_kernel_programs_read_them() {
        let PinDecision::Ready(grant) = grant("192.0.2.65", Some((3, "up2")), SourceRule::First) else {
            unreachable!()
        };
        let pin = pin_of(&grant);
        assert_eq!((pin.flags, pin.device, pin.egress_count, pin.egress[0]), (PIN_SOURCE, 3, 1, 3));
        assert_eq!(pin.source, InetAddress::from(std::net::Ipv4Addr::new(192, 0, 2, 65)));
    }
}
