//! The interfaces that a session can have in its VRF.

use std::collections::BTreeMap;

use super::names::{called, set_up};
use crate::{
    link::{Host, Interface, Link},
    pin::reason::{DownCause, Reason},
};

/// The host as a session of one VRF sees it.
pub(super) struct VrfScope<'a> {
    pub(super) host: &'a Host,
    /// The session's VRF device; `None` is the default VRF.
    pub(super) vrf: Option<&'a Link>,
    aliases: &'a BTreeMap<String, String>,
}

impl<'a> VrfScope<'a> {
    /// Finds the VRF device of a VPN instance.
    ///
    /// # Errors
    ///
    /// The device does not exist or is down.
    pub(super) fn find(
        vpn_instance: Option<&str>,
        aliases: &'a BTreeMap<String, String>,
        host: &'a Host,
    ) -> Result<Self, DownCause> {
        let Some(name) = vpn_instance else { return Ok(Self { host, vrf: None, aliases }) };
        let Some(vrf) = host.vrf_named(name) else {
            return Err(DownCause {
                reason: Reason::VpnInstanceAbsent,
                why: match host.link_named(name, &BTreeMap::new()) {
                    Some(link) if link.name == name => format!("interface {name} is no VRF device"),
                    _ => format!("there is no VRF device {name}"),
                },
                mend: format!("ip link add {name} type vrf table N"),
            });
        };
        if !vrf.up {
            return Err(DownCause {
                reason: Reason::InterfaceDown,
                why: format!("VRF device {} is down", vrf.name),
                mend: set_up(vrf),
            });
        }
        Ok(Self { host, vrf: Some(vrf), aliases })
    }

    /// Returns the interface that an operator means by a name, in whatever VRF.
    pub(super) fn named(&self, name: &str) -> Option<&'a Link> {
        self.host.link_named(name, self.aliases)
    }

    /// True if the interface is in the session's VRF.
    pub(super) fn holds(&self, link: &Link) -> bool {
        self.host.vrf_of(link) == self.vrf.map(|vrf| vrf.index)
    }

    /// Returns the device to bind a socket to that may leave by any interface of the VRF.
    pub(super) fn device(&self) -> Option<Interface> {
        self.vrf.map(Link::interface)
    }

    /// Names the VRF: `VRF mgmt`, `the default VRF`.
    pub(super) fn words(&self) -> String {
        words(self.vrf.map(|vrf| vrf.index), self.host)
    }

    /// Returns ` in VRF mgmt`, or nothing for the default VRF.
    pub(super) fn suffix(&self) -> String {
        self.vrf.map(|vrf| format!(" in VRF {}", vrf.name)).unwrap_or_default()
    }

    /// Returns the command that brings an interface of another VRF into this one.
    pub(super) fn mend(&self, link: &Link) -> String {
        match self.vrf {
            // The loopback interface and VRF devices cannot move.
            Some(vrf) if link.is_donor() && link.controller.is_none() && link.kind.as_deref() != Some("dummy") => {
                format!("connect-interface {}", vrf.name)
            }
            Some(vrf) => format!("ip link set dev {} master {}", link.name, vrf.name),
            None if link.controller.is_none() => format!("bmp-session vpn-instance {} STATION", link.name),
            None => format!("ip link set dev {} nomaster", link.name),
        }
    }

    /// Returns the interface of that name, if a session can have its source there.
    ///
    /// # Errors
    ///
    /// The interface does not exist, is in another VRF, is a layer 2 port, or is not usable.
    pub(super) fn interface(&self, name: &str) -> Result<&'a Link, DownCause> {
        let Some(link) = self.named(name) else {
            return Err(DownCause {
                reason: Reason::InterfaceAbsent,
                why: absent(name, self.host, self.aliases),
                mend: format!("interface-alias KERNEL-NAME {name}"),
            });
        };
        let called = called(name, link);
        if link.is_layer2_port(self.host) {
            let controller = link.controller.and_then(|index| self.host.links.get(&index));
            let of = controller.map_or_else(|| "another interface".into(), |controller| controller.name.clone());
            return Err(DownCause {
                reason: Reason::InterfaceLayer2,
                why: format!("interface {called} is a layer 2 port of {of}"),
                mend: format!("ip link set dev {} nomaster", link.name),
            });
        }
        if !self.holds(link) {
            let there = words(self.host.vrf_of(link), self.host);
            return Err(DownCause {
                reason: Reason::InterfaceAbsent,
                why: format!("interface {called} is in {there}, and the session in {}", self.words()),
                mend: self.mend(link),
            });
        }
        if !link.up {
            return Err(DownCause {
                reason: Reason::InterfaceDown,
                why: format!("interface {called} is down"),
                mend: set_up(link),
            });
        }
        if !link.is_usable() {
            return Err(DownCause {
                reason: Reason::InterfaceDown,
                why: format!("interface {called} is up but has no carrier: its cable or its far end is down"),
                mend: format!("see to the cable and to the far end of {0} (`ethtool {0}` shows its link)", link.name),
            });
        }
        Ok(link)
    }
}

/// Describes an interface that does not exist, with the name that was probably meant.
pub fn absent(name: &str, host: &Host, aliases: &BTreeMap<String, String>) -> String {
    if let Some(kernel_name) = aliases.get(name) {
        return format!("interface {name} is an alias of {kernel_name}, which does not exist");
    }
    let near = host.nearest_name(name, aliases).map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
    format!("interface {name} does not exist on this host now{near}")
}

/// Names a VRF by the index of its device: `VRF mgmt`; `the default VRF` for none.
pub(super) fn words(vrf: Option<u32>, host: &Host) -> String {
    match vrf {
        None => "the default VRF".to_owned(),
        Some(index) => match host.links.get(&index) {
            Some(vrf) => format!("VRF {}", vrf.name),
            None => format!("VRF #{index}"),
        },
    }
}
