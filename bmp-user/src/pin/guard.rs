//! The guard of passive sessions: on which interfaces program `guard` drops packets to their
//! listeners from strangers.
//!
//! The keeper calls [`GuardKeeper::update`] after it has decided about the pins. A session is
//! guarded only while it listens, so that a port of another process stays open to its clients.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bmp_ebpf::GuardKey;
use tracing::{info, warn};

use super::{
    guarded::{GuardedInterface, GuardedPlaces, ListenerState, without_interface},
    kernel::{Datapath, Hook, NoGuard, Role},
    plan::Grant,
    view::SessionPin,
};
use crate::link::{Host, Link};

/// What is known of the guard of one session.
#[derive(Debug, Default)]
pub(super) struct SessionGuard {
    listener: ListenerState,
    /// The addresses and ports that the session has listened on: keys without an interface.
    listeners: BTreeSet<GuardKey>,
    /// Indexes of the interfaces that were guarded for the session last.
    interfaces: BTreeSet<u32>,
}

impl SessionGuard {
    pub(super) fn set_listener(&mut self, listener: ListenerState) {
        self.listener = listener;
    }

    /// True if the guard is to stand at these keys for a session with this grant. `guarded_now` has
    /// the keys that are guarded, also those that an earlier bmpd left.
    fn is_wanted(&self, grant: &Grant, keys: &[GuardKey], guarded_now: &BTreeSet<GuardKey>) -> bool {
        match &self.listener {
            ListenerState::Open(known) => is_same_listener(known, grant),
            // The session may listen soon. A guard that an earlier bmpd left stays until then.
            ListenerState::Untried => keys.iter().any(|key| guarded_now.contains(key)),
            ListenerState::Closed => false,
        }
    }
}

/// A passive session.
pub(super) struct PassiveSession<'a> {
    pub(super) pin: &'a SessionPin,
    pub(super) guard: &'a mut SessionGuard,
    /// What is in force for a session that is ready.
    pub(super) grant: Option<&'a Grant>,
}

/// An interface to guard, and the VLAN interface that rules the guard out, if there is one.
struct WantedInterface<'a> {
    link: &'a Link,
    vlan_twin: Option<&'a Link>,
}

/// Keeps the guard in step with sessions and host.
#[derive(Default)]
pub(super) struct GuardKeeper {
    /// The last result, by interface index.
    attached: BTreeMap<u32, GuardedInterface>,
    /// The last error of the kernel tables, which is logged once.
    error: Option<String>,
}

impl GuardKeeper {
    /// `sessions` are all passive sessions of the configuration.
    pub(super) fn update(&mut self, datapath: &Datapath, host: &Host, mut sessions: Vec<PassiveSession<'_>>) {
        let guarded_now = datapath.guarded();
        let (mut interfaces, mut wanted) = (BTreeMap::new(), BTreeMap::new());
        let (mut kept, mut remembered, mut guarded) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut is_undecided = false;
        for (number, PassiveSession { guard, grant, .. }) in sessions.iter_mut().enumerate() {
            if let Some(grant) = *grant {
                let links = station_interfaces(grant, host);
                let keys = keys(grant, host, &links);
                guard.listeners.extend(keys.iter().map(without_interface));
                if guard.is_wanted(grant, &keys, &guarded_now) {
                    guard.interfaces = links.iter().map(|link| link.index).collect();
                    for link in links {
                        let known = interfaces.entry(link.index).or_insert(WantedInterface { link, vlan_twin: None });
                        known.vlan_twin = known.vlan_twin.or(vlan_twin(grant, host, link));
                    }
                    wanted.extend(keys.into_iter().map(|key| (key, grant.target.vrf)));
                    guarded.insert(number);
                }
            }
            is_undecided |= guard.listeners.is_empty();
            kept.extend(guard.interfaces.iter().copied());
            remembered.extend(guard.listeners.iter().copied());
        }
        let error = datapath.set_guarded(&wanted).err().map(|error| format!("{error:#}"));
        if let Some(error) = error.as_ref().filter(|error| self.error.as_ref() != Some(error)) {
            warn!("guard: {error}");
        }
        self.error = error;
        // A session that has been down since bmpd began has not named its listener and interfaces
        // yet.
        if !is_undecided {
            datapath.forget_refused(|key| remembered.contains(&without_interface(key)));
            let twins = interfaces.iter().filter(|(_, wanted)| wanted.vlan_twin.is_some());
            let twins = twins.map(|(index, _)| *index).collect();
            // A guarded interface keeps its program while the session is configured, even with
            // nothing to guard: some drivers take the link down for a moment when XDP comes or
            // goes.
            kept.retain(|index| host.links.contains_key(index));
            if let Err(error) = datapath.keep_guards(&(&kept - &twins)) {
                warn!("guard: {error:#}");
            }
        }
        self.attach(datapath, &interfaces);
        for (number, PassiveSession { pin, guard, .. }) in sessions.iter().enumerate() {
            let attached = guard.interfaces.iter().filter_map(|index| self.attached.get(index).cloned());
            let interfaces = if guarded.contains(&number) { attached.collect() } else { Vec::new() };
            let places = GuardedPlaces { interfaces, listeners: guard.listeners.clone() };
            pin.publish(|view| {
                if *view.guarded != places {
                    view.guarded = Arc::new(places);
                }
            });
        }
    }

    fn attach(&mut self, datapath: &Datapath, interfaces: &BTreeMap<u32, WantedInterface<'_>>) {
        self.attached.retain(|index, _| interfaces.contains_key(index));
        for (index, WantedInterface { link, vlan_twin }) in interfaces {
            let hook = match vlan_twin {
                Some(twin) => Err(format!("VLAN interface {} on it has the same address", twin.name)),
                None => hook(datapath, link),
            };
            let now = GuardedInterface { name: link.name.clone(), hook };
            if self.attached.get(index) == Some(&now) {
                continue;
            }
            match &now.hook {
                Ok(hook) => info!("guard: on interface {} ({})", now.name, hook.as_str()),
                // Why no program is loaded is logged once, for all sessions.
                Err(_) if !datapath.enforcement().is_by_programs() => {}
                Err(why) => warn!(
                    "guard: not on interface {}: {why}; strangers are refused there by the listener's own program instead",
                    now.name
                ),
            }
            self.attached.insert(*index, now);
        }
    }
}

/// Attaches the guard to an interface. A failed attempt is repeated each time: that is cheap, and
/// finds out when another XDP program has gone.
fn hook(datapath: &Datapath, link: &Link) -> Result<Hook, String> {
    if !link.ethernet {
        return Err("its packets are not in Ethernet frames".to_owned());
    }
    match datapath.attach_guard(link.index, gains_by_native(link)) {
        Some(Ok(hook)) => Ok(hook),
        Some(Err(error @ NoGuard::Taken)) => Err(error.to_string()),
        Some(Err(error)) => Err(format!("the kernel refuses it: {error}")),
        None => Err(format!("enforcement: {}", datapath.enforcement())),
    }
}

/// True if XDP in the driver is faster than generic XDP, as it is on hardware. A veth hands socket
/// buffers over, which native XDP has to copy: inbound bulk traffic falls to a tenth, and with
/// generic XDP to seven tenths.
fn gains_by_native(link: &Link) -> bool {
    !matches!(link.kind.as_deref(), Some("veth" | "tun" | "netkit"))
}

/// Returns the interfaces that the station may connect by: those that the session may leave by.
fn station_interfaces<'a>(grant: &Grant, host: &'a Host) -> Vec<&'a Link> {
    let resolved = &grant.resolved;
    if let Some(device) = resolved.device.as_ref().filter(|device| device.index != grant.target.vrf) {
        return host.links.get(&device.index).into_iter().collect();
    }
    let may = |link: &&Link| {
        resolved.egress.is_empty() || resolved.egress.iter().any(|interface| interface.index == link.index)
    };
    let can = |link: &&Link| {
        link.is_usable() && !link.is_donor() && !link.is_layer2_port(host) && link.kind.as_deref() != Some("vrf")
    };
    let here = |link: &&Link| host.vrf_of(link).unwrap_or(0) == grant.target.vrf;
    host.links.values().filter(may).filter(can).filter(here).collect()
}

/// Returns a VLAN interface on this one that has an address of the listener in another VRF. Most
/// drivers take the tag off a frame before XDP sees it, so the guard cannot tell the two apart.
fn vlan_twin<'a>(grant: &Grant, host: &'a Host, link: &Link) -> Option<&'a Link> {
    let addresses = addresses(grant, host);
    let has = |vlan: &&Link| addresses.iter().any(|ip| vlan.address(*ip).is_some());
    let elsewhere = |vlan: &&Link| host.vrf_of(vlan).unwrap_or(0) != grant.target.vrf;
    host.links.values().filter(|vlan| vlan.below == Some(link.index)).filter(elsewhere).find(has)
}

/// Returns the keys of a listener: each of its addresses on each interface.
fn keys(grant: &Grant, host: &Host, links: &[&Link]) -> Vec<GuardKey> {
    let (addresses, port) = (addresses(grant, host), grant.target.station.port());
    let on = |link: &&Link| {
        let index = link.index;
        addresses.iter().map(move |ip| Datapath::guard_key(index, *ip, port))
    };
    links.iter().flat_map(on).collect()
}

/// Returns the session's own address or, where it has none, all addresses of this host in the VRF.
fn addresses(grant: &Grant, host: &Host) -> Vec<IpAddr> {
    if let Some(source) = grant.resolved.source {
        return vec![source];
    }
    let ipv4 = grant.target.station.is_ipv4();
    let here = host.links.values().filter(|link| host.vrf_of(link).unwrap_or(0) == grant.target.vrf);
    here.flat_map(|link| &link.addresses).map(|address| address.ip).filter(|ip| ip.is_ipv4() == ipv4).collect()
}

/// True if both grants have the same listener.
fn is_same_listener(one: &Grant, other: &Grant) -> bool {
    let place = |grant: &Grant| {
        let device = grant.resolved.device.as_ref().map(|device| device.index);
        (grant.target, grant.resolved.source, device)
    };
    one.target.role == Role::Listen && place(one) == place(other)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::link::{Interface, InterfaceAddress};
    use crate::pin::kernel::PinTarget;
    use crate::pin::plan::{ResolvedPin, SourceRule};

    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 65));

    fn link(index: u32, name: &str, kind: &str, address: Option<IpAddr>) -> Link {
        let address = address.map(|ip| InterfaceAddress::in_words(&format!("{ip}/26")));
        Link {
            index,
            name: name.into(),
            kind: Some(kind.into()),
            up: true,
            carrier: true,
            ethernet: true,
            addresses: address.into_iter().collect(),
            ..Link::default()
        }
    }

    /// `up1`, `up2` and a dummy in the default VRF, `in` in the VRF 9, `port` in a bridge, `down`
    /// down.
    fn host() -> Host {
        let links = [
            link(2, "up1", "veth", Some([192, 0, 2, 1].into())),
            link(3, "up2", "veth", Some(SOURCE)),
            link(4, "dum0", "dummy", Some([203, 0, 113, 1].into())),
            Link { controller: Some(9), ..link(5, "in", "veth", Some([192, 0, 2, 129].into())) },
            Link { controller: Some(8), ..link(6, "port", "veth", None) },
            Link { up: false, ..link(7, "down", "veth", Some([192, 0, 2, 200].into())) },
            link(8, "br0", "bridge", None),
            link(9, "mgmt", "vrf", None),
        ];
        Host { links: links.into_iter().map(|link| (link.index, link)).collect(), routes_epoch: 0 }
    }

    fn grant(vrf: u32, source: Option<IpAddr>, device: Option<u32>, egress: &[u32]) -> Grant {
        let named = |index: &u32| Interface { index: *index, name: String::new() };
        Grant {
            target: PinTarget { role: Role::Listen, vrf, station: "198.51.100.7:11019".parse().unwrap() },
            line: 0,
            mark: 0,
            own_only: false,
            resolved: ResolvedPin {
                source,
                device: device.as_ref().map(named),
                egress: egress.iter().map(named).collect(),
                path: None,
                rule: SourceRule::Configured,
            },
        }
    }

    fn names(grant: &Grant) -> Vec<String> {
        station_interfaces(grant, &host()).iter().map(|link| link.name.clone()).collect()
    }

    #[test]
    fn the_guard_stands_on_the_pinned_interface_the_named_ones_or_all_of_the_vrf() {
        assert_eq!(names(&grant(0, Some(SOURCE), Some(3), &[3])), ["up2"]);
        assert_eq!(names(&grant(0, Some(SOURCE), None, &[2, 7])), ["up1"], "one that is down has nothing to guard");
        assert_eq!(names(&grant(0, Some(SOURCE), None, &[])), ["up1", "up2", "br0"]);
        assert_eq!(names(&grant(9, None, Some(9), &[])), ["in"], "the VRF's device is none of its interfaces");
    }

    #[test]
    fn a_session_without_a_source_is_guarded_at_every_address_of_its_vrf() {
        let keys_of = |grant: &Grant| keys(grant, &host(), &station_interfaces(grant, &host()));
        assert_eq!(keys_of(&grant(0, Some(SOURCE), Some(3), &[3])), [Datapath::guard_key(3, SOURCE, 11019)]);
        assert_eq!(keys_of(&grant(0, None, None, &[])).len(), 3 * 4, "three interfaces, four addresses");
        assert_eq!(keys_of(&grant(9, None, Some(9), &[])).len(), 1);
    }

    #[test]
    fn a_vlan_of_another_vrf_with_the_same_address_rules_the_guard_out_below() {
        let mut host = host();
        let grant = grant(0, Some(SOURCE), Some(3), &[3]);
        let vlan = Link { below: Some(3), ..link(10, "up2.7", "vlan", Some(SOURCE)) };
        let mut has_twin = |vlan: Link| {
            host.links.insert(10, vlan);
            vlan_twin(&grant, &host, &host.links[&3]).is_some()
        };
        assert!(has_twin(Link { controller: Some(9), ..vlan.clone() }));
        assert!(!has_twin(vlan.clone()), "in the same VRF it is the same listener's");
        assert!(!has_twin(Link { controller: Some(9), below: Some(2), ..vlan.clone() }));
        assert!(!has_twin(Link { controller: Some(9), addresses: Vec::new(), ..vlan }));
    }
}
