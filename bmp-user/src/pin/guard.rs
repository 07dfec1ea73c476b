//! Where program `guard` stands: on the interfaces that passive sessions may be connected to by, for their listeners' addresses and ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bmp_ebpf::{GuardKey, Refused};
use tracing::{info, warn};

use super::{Datapath, Grant, Hook, NoGuard, Role, SessionPin};
use crate::link::{Host, Link};

/// Whether a passive session has its listener.
#[derive(Clone, Debug, Default)]
pub enum Listening {
    /// It has not tried since it was configured or this bmpd began.
    #[default]
    Untried,
    /// It has, as this grants.
    As(Arc<Grant>),
    /// It has none.
    No,
}

/// One interface that a passive session may be connected to by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardedInterface {
    /// Its kernel name.
    pub name: String,
    /// How the guard sees its packets, or why there is none, in words.
    pub hook: Result<Hook, String>,
}

/// What became of packets from nobody's station.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardReport {
    /// The interfaces, by index.
    pub interfaces: Vec<GuardedInterface>,
    /// What the guard dropped, on all of them.
    pub dropped: Refused,
    /// What came as far as the listener, and was dropped there.
    pub refused: Refused,
}

/// The guard of one session: part of its [`SessionPin`].
#[derive(Debug, Default)]
pub(super) struct SessionGuard(Mutex<Shown>);

#[derive(Debug, Default)]
struct Shown {
    listening: Listening,
    interfaces: Vec<GuardedInterface>,
    /// Addresses and ports that it has listened on: keys without an interface.
    places: BTreeSet<GuardKey>,
    /// The interfaces that were guarded for it last.
    ways: BTreeSet<u32>,
}

impl SessionGuard {
    pub(super) fn set_listening(&self, listening: Listening) {
        self.shown().listening = listening;
    }

    /// What was dropped is counted for an address and port: sessions that share them see the same numbers.
    pub(super) fn report(&self, datapath: &Datapath) -> GuardReport {
        let (interfaces, places) = {
            let shown = self.shown();
            (shown.interfaces.clone(), shown.places.clone())
        };
        let ours = |key: &GuardKey| places.contains(&GuardKey { ifindex: 0, ..*key });
        GuardReport {
            interfaces,
            dropped: datapath.refused(|key| key.ifindex != 0 && ours(key)),
            refused: datapath.refused(|key| key.ifindex == 0 && ours(key)),
        }
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        // Nothing under this lock leaves it half changed by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the guard in step with sessions and host.
#[derive(Default)]
pub(super) struct Guard {
    /// By interface index: how it went last time.
    tried: BTreeMap<u32, GuardedInterface>,
    /// What went wrong with the tables last time: it is said once.
    failing: Option<String>,
}

impl Guard {
    /// `sessions` are all passive sessions that are configured, with what is in force for those that are ready.
    pub(super) fn update<'a>(
        &mut self,
        datapath: &Datapath,
        host: &Host,
        sessions: impl Iterator<Item = (&'a Arc<SessionPin>, Option<&'a Grant>)>,
    ) {
        let inherited = datapath.guarded();
        let (mut interfaces, mut wanted) = (BTreeMap::new(), BTreeMap::new());
        let (mut kept, mut remembered, mut undecided, mut guarding) =
            (BTreeSet::new(), BTreeSet::new(), false, Vec::new());
        for (pin, grant) in sessions {
            let mut shown = pin.guard().shown();
            shown.interfaces.clear();
            if let Some(grant) = grant {
                let ways = ways(grant, host);
                let keys = keys(grant, host, &ways);
                let guarded = match &shown.listening {
                    Listening::As(known) => same_place(known, grant),
                    // Nobody is kept from a port where this bmpd does not listen, unless an earlier one did.
                    Listening::Untried => keys.iter().any(|key| inherited.contains(key)),
                    Listening::No => false,
                };
                shown.places.extend(keys.iter().map(|key| GuardKey { ifindex: 0, ..*key }));
                if guarded {
                    shown.ways = ways.iter().map(|link| link.index).collect();
                    for link in ways {
                        let known = interfaces.entry(link.index).or_insert((link, None));
                        known.1 = known.1.or(twin(grant, host, link));
                    }
                    wanted.extend(keys.into_iter().map(|key| (key, grant.target.vrf)));
                    guarding.push(pin);
                }
            }
            undecided |= shown.places.is_empty();
            kept.extend(shown.ways.iter().copied());
            remembered.extend(shown.places.iter().copied());
        }
        let failing = datapath.set_guarded(&wanted).err().map(|error| format!("{error:#}"));
        if let Some(error) = failing.as_ref().filter(|error| self.failing.as_ref() != Some(error)) {
            warn!("guard: {error}");
        }
        self.failing = failing;
        // A session that is down since bmpd began has not said yet which numbers and interfaces are its own.
        if !undecided {
            datapath.forget_refused(|key| remembered.contains(&GuardKey { ifindex: 0, ..*key }));
            let twins = interfaces.iter().filter(|(_, (_, twin))| twin.is_some()).map(|(index, _)| *index).collect();
            // Where there was a guard there stays one as long as the session is configured, with nothing to guard meanwhile: some drivers take
            // the link down for a moment when XDP comes or goes, and with the link the session.
            kept.retain(|index| host.links.contains_key(index));
            if let Err(error) = datapath.keep_guards(&(&kept - &twins)) {
                warn!("guard: {error:#}");
            }
        }
        self.attach(datapath, &interfaces);
        for pin in guarding {
            let mut shown = pin.guard().shown();
            shown.interfaces = shown.ways.iter().filter_map(|index| self.tried.get(index).cloned()).collect();
        }
    }

    /// With the VLAN interface that rules it out, if there is one.
    fn attach(&mut self, datapath: &Datapath, interfaces: &BTreeMap<u32, (&Link, Option<&Link>)>) {
        self.tried.retain(|index, _| interfaces.contains_key(index));
        for (index, (link, twin)) in interfaces {
            let hook = match twin {
                Some(twin) => Err(format!("VLAN interface {} on it has the same address", twin.name)),
                None => hook(datapath, link),
            };
            let now = GuardedInterface { name: link.name.clone(), hook };
            if self.tried.get(index) == Some(&now) {
                continue;
            }
            match &now.hook {
                Ok(hook) => info!("guard: on interface {} ({})", now.name, hook.as_str()),
                // It is said once, for all sessions, why nothing is loaded.
                Err(_) if !datapath.enforcement().is_by_programs() => {}
                Err(why) => warn!(
                    "guard: not on interface {}: {why}; strangers are refused there by the listener's own program instead",
                    now.name
                ),
            }
            self.tried.insert(*index, now);
        }
    }
}

/// Tries again where it has failed, which costs little and finds out when somebody else's program is gone.
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

/// XDP in the driver is the faster one where there is hardware. Pairs of virtual interfaces hand socket buffers over, which XDP takes from
/// them: inbound bulk traffic on a veth falls to a tenth, and with generic XDP to seven tenths.
fn gains_by_native(link: &Link) -> bool {
    !matches!(link.kind.as_deref(), Some("veth" | "tun" | "netkit"))
}

/// The interfaces that the station may connect by: those that the session may leave by.
fn ways<'a>(grant: &Grant, host: &'a Host) -> Vec<&'a Link> {
    let resolved = &grant.resolved;
    if let Some((index, _)) = resolved.device.as_ref().filter(|(index, _)| *index != grant.target.vrf) {
        return host.links.get(index).into_iter().collect();
    }
    let may =
        |link: &&Link| resolved.egress.is_empty() || resolved.egress.iter().any(|(index, _)| *index == link.index);
    let can = |link: &&Link| {
        link.is_usable() && !link.is_donor() && !link.is_layer2_port(host) && link.kind.as_deref() != Some("vrf")
    };
    let here = |link: &&Link| host.vrf_of(link).unwrap_or(0) == grant.target.vrf;
    host.links.values().filter(may).filter(can).filter(here).collect()
}

/// A VLAN interface that stands on this one and has an address that is listened on, for another VRF. Most often the tag is taken off a
/// frame before XDP sees it, and what is for the one cannot be told from what is for the other.
fn twin<'a>(grant: &Grant, host: &'a Host, link: &Link) -> Option<&'a Link> {
    let addresses = addresses(grant, host);
    let has = |vlan: &&Link| addresses.iter().any(|ip| vlan.address(*ip).is_some());
    let elsewhere = |vlan: &&Link| host.vrf_of(vlan).unwrap_or(0) != grant.target.vrf;
    host.links.values().filter(|vlan| vlan.below == Some(link.index)).filter(elsewhere).find(has)
}

/// The addresses and ports that the listener is reached by.
fn keys(grant: &Grant, host: &Host, ways: &[&Link]) -> Vec<GuardKey> {
    let (addresses, port) = (addresses(grant, host), grant.target.station.port());
    let on = |link: &&Link| {
        let index = link.index;
        addresses.iter().map(move |ip| Datapath::guard_key(index, *ip, port))
    };
    ways.iter().flat_map(on).collect()
}

/// The session's own address or, where it has none, all that this host has in the VRF.
fn addresses(grant: &Grant, host: &Host) -> Vec<IpAddr> {
    if let Some(source) = grant.resolved.source {
        return vec![source];
    }
    let ipv4 = grant.target.station.is_ipv4();
    let here = host.links.values().filter(|link| host.vrf_of(link).unwrap_or(0) == grant.target.vrf);
    here.flat_map(|link| &link.addresses).map(|address| address.ip).filter(|ip| ip.is_ipv4() == ipv4).collect()
}

/// Whether one listener is both.
fn same_place(one: &Grant, other: &Grant) -> bool {
    let place = |grant: &Grant| {
        let device = grant.resolved.device.as_ref().map(|(index, _)| *index);
        (grant.target, grant.resolved.source, device)
    };
    one.target.role == Role::Listen && place(one) == place(other)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::link::InterfaceAddress;
    use crate::pin::{Resolved, Rule, Target};

    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 65));

    fn link(index: u32, name: &str, kind: &str, address: Option<IpAddr>) -> Link {
        let address = address.map(|ip| InterfaceAddress {
            ip,
            peer: None,
            prefix_len: 26,
            global: true,
            secondary: false,
            temporary: false,
            unproven: false,
            deprecated: false,
        });
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

    /// `up1`, `up2` and a dummy in the default VRF, `in` in the VRF 9, `port` in a bridge, `down` down.
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
        let named = |index: &u32| (*index, String::new());
        Grant {
            target: Target { role: Role::Listen, vrf, station: "198.51.100.7:11019".parse().unwrap() },
            line: 0,
            mark: 0,
            own_only: false,
            resolved: Resolved {
                source,
                device: device.as_ref().map(named),
                egress: egress.iter().map(named).collect(),
                way: None,
                rule: Rule::Configured,
            },
        }
    }

    fn names(grant: &Grant) -> Vec<String> {
        ways(grant, &host()).iter().map(|link| link.name.clone()).collect()
    }

    #[test]
    fn it_stands_on_the_pinned_interface_or_those_that_are_named_or_all_of_the_vrf() {
        assert_eq!(names(&grant(0, Some(SOURCE), Some(3), &[3])), ["up2"]);
        assert_eq!(names(&grant(0, Some(SOURCE), None, &[2, 7])), ["up1"], "one that is down has nothing to guard");
        assert_eq!(names(&grant(0, Some(SOURCE), None, &[])), ["up1", "up2", "br0"]);
        assert_eq!(names(&grant(9, None, Some(9), &[])), ["in"], "the VRF's device is none of its interfaces");
    }

    #[test]
    fn a_session_without_a_source_is_guarded_at_every_address_of_its_vrf() {
        let keys_of = |grant: &Grant| keys(grant, &host(), &ways(grant, &host()));
        assert_eq!(keys_of(&grant(0, Some(SOURCE), Some(3), &[3])), [Datapath::guard_key(3, SOURCE, 11019)]);
        assert_eq!(keys_of(&grant(0, None, None, &[])).len(), 3 * 4, "three interfaces, four addresses");
        assert_eq!(keys_of(&grant(9, None, Some(9), &[])).len(), 1);
    }

    #[test]
    fn a_vlan_of_another_vrf_with_the_same_address_rules_it_out_below() {
        let mut host = host();
        let grant = grant(0, Some(SOURCE), Some(3), &[3]);
        let vlan = Link { below: Some(3), ..link(10, "up2.7", "vlan", Some(SOURCE)) };
        let mut twin_of = |vlan: Link| {
            host.links.insert(10, vlan);
            twin(&grant, &host, &host.links[&3]).is_some()
        };
        assert!(twin_of(Link { controller: Some(9), ..vlan.clone() }));
        assert!(!twin_of(vlan.clone()), "in the same VRF it is the same listener's");
        assert!(!twin_of(Link { controller: Some(9), below: Some(2), ..vlan.clone() }));
        assert!(!twin_of(Link { controller: Some(9), addresses: Vec::new(), ..vlan }));
    }
}
