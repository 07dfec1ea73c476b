//! What a session's connect-interface comes to on this host. Pure: what the host has is given.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use super::Reason;
use crate::{
    config::ConnectInterface,
    link::{Address, Host, Link},
};

#[cfg(test)]
mod tests;

/// What a session's connect-interface comes to on this host, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The source address; `None` leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// Index and kernel name of the interface that the socket is bound to. `None` where only an address is named, and for donor
    /// interfaces.
    pub device: Option<(u32, String)>,
    /// Index and kernel name of the interfaces that the session may leave by; empty is any.
    pub egress: Vec<(u32, String)>,
    /// By which rule the address was chosen.
    pub rule: Rule,
}

/// By which rule a source address was chosen; displayed in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Nothing is configured.
    KernelsChoice,
    /// The address is configured.
    Configured,
    /// It was chosen before and is still on the interface.
    Kept,
    /// Of the interface's addresses it is the one whose prefix holds the station.
    StationsPrefix,
    /// It is the interface's first address.
    First,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KernelsChoice => "the kernel's choice",
            Self::Configured => "the configured address",
            Self::Kept => "chosen before and still on the interface",
            Self::StationsPrefix => "the interface's address whose prefix holds the station",
            Self::First => "the interface's first address",
        })
    }
}

/// Why a connect-interface comes to nothing on this host, now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unresolved {
    /// One of `interface-absent`, `interface-layer2`, `interface-down`, `address-absent`.
    pub reason: Reason,
    /// What is missing, as a sentence without its full stop.
    pub why: String,
    /// The command that would mend it: of ip(8), or of bmpd's own command language.
    pub mend: String,
}

/// What `wanted`, the connect-interface [in force](crate::config::effective) for a session to `station`, comes to on `host`.
///
/// `egress_interfaces` narrows what the session may leave by to those that it names; empty, it narrows nothing. All of them that
/// exist are in the answer, usable or not: the path may move between them while the session stays.
///
/// `aliases` are the `interface-alias` lines: from the name given to the kernel's. `keep` is the address that an earlier call
/// chose: it is kept while it is valid on the interface. Whether there is a route to the station is another question, for
/// [`Routes`](crate::link::Routes).
pub fn resolve(
    wanted: Option<&ConnectInterface>,
    egress_interfaces: &[String],
    station: IpAddr,
    host: &Host,
    aliases: &BTreeMap<String, String>,
    keep: Option<IpAddr>,
) -> Result<Resolved, Unresolved> {
    let mut resolved = match wanted {
        Some(wanted) => source(wanted, station, host, aliases, keep)?,
        None => Resolved { source: None, device: None, egress: Vec::new(), rule: Rule::KernelsChoice },
    };
    if resolved.device.is_none() && link_local(station) {
        return Err(Unresolved {
            reason: Reason::NoRoute,
            why: format!("station {station} is link-local, and connect-interface names no interface that leads to it"),
            mend: "connect-interface INTERFACE".to_owned(),
        });
    }
    if !egress_interfaces.is_empty() {
        resolved.egress = narrowed(&resolved, egress_interfaces, host, aliases)?;
    }
    Ok(resolved)
}

fn source(
    wanted: &ConnectInterface,
    station: IpAddr,
    host: &Host,
    aliases: &BTreeMap<String, String>,
    keep: Option<IpAddr>,
) -> Result<Resolved, Unresolved> {
    let link = wanted.interface().map(|name| interface(name, host, aliases)).transpose()?;
    let (source, rule) = match (wanted.address(), link) {
        (Some(address), _) => (configured(address, station, link, host)?, Rule::Configured),
        (None, Some(link)) => choose(link, station, keep)?,
        // Not to be had: a connect-interface names at least one of the two.
        (None, None) => {
            return Ok(Resolved { source: None, device: None, egress: Vec::new(), rule: Rule::KernelsChoice });
        }
    };
    let device = link.filter(|link| !link.donor()).map(|link| (link.index, link.name.clone()));
    Ok(Resolved { source: Some(source), egress: device.iter().cloned().collect(), device, rule })
}

/// What is left of "may leave by" when `egress-interface` names these. At least one of them must be usable.
fn narrowed(
    resolved: &Resolved,
    names: &[String],
    host: &Host,
    aliases: &BTreeMap<String, String>,
) -> Result<Vec<(u32, String)>, Unresolved> {
    let mut egress = Vec::new();
    let mut usable = false;
    let mut why_not = None;
    for name in names {
        match interface(name, host, aliases) {
            Ok(_) => usable = true,
            Err(unresolved) => drop(why_not.get_or_insert(unresolved)),
        }
        if let Some(link) = host.link_named(name, aliases)
            && !egress.iter().any(|(index, _)| *index == link.index)
        {
            egress.push((link.index, link.name.clone()));
        }
    }
    // In one order, whichever they are named in: the same interfaces are the same pin.
    egress.sort();
    if let Some((index, name)) = &resolved.device {
        egress.retain(|(named, _)| named == index);
        if egress.is_empty() {
            return Err(Unresolved {
                reason: Reason::EgressDenied,
                why: format!("egress-interface does not name {name}, which connect-interface binds the session to"),
                mend: format!("egress-interface {name}"),
            });
        }
        return Ok(egress);
    }
    match why_not {
        Some(unresolved) if !usable => Err(unresolved),
        _ => Ok(egress),
    }
}

/// The interface of that name, if a session can be sourced from it.
fn interface<'a>(name: &str, host: &'a Host, aliases: &BTreeMap<String, String>) -> Result<&'a Link, Unresolved> {
    let Some(link) = host.link_named(name, aliases) else {
        return Err(match aliases.get(name) {
            Some(kernel_name) => Unresolved {
                reason: Reason::InterfaceAbsent,
                why: format!("interface {name} is an alias of {kernel_name}, which does not exist"),
                mend: format!("interface-alias KERNEL-NAME {name}"),
            },
            None => Unresolved {
                reason: Reason::InterfaceAbsent,
                why: format!("interface {name} does not exist"),
                mend: format!("interface-alias KERNEL-NAME {name}"),
            },
        });
    };
    let called = called(name, link);
    if link.layer2(host) {
        let controller = link.controller.and_then(|index| host.links.get(&index));
        let of = controller.map_or_else(|| "another interface".into(), |controller| controller.name.clone());
        return Err(Unresolved {
            reason: Reason::InterfaceLayer2,
            why: format!("interface {called} is a layer 2 port of {of}"),
            mend: format!("ip link set dev {} nomaster", link.name),
        });
    }
    if !link.up {
        return Err(Unresolved {
            reason: Reason::InterfaceDown,
            why: format!("interface {called} is down"),
            mend: set_up(link),
        });
    }
    if !link.usable() {
        return Err(Unresolved {
            reason: Reason::InterfaceDown,
            why: format!("interface {called} is up but has no carrier: its cable or its far end is down"),
            mend: format!("ip link show dev {}", link.name),
        });
    }
    Ok(link)
}

/// The address that is configured, if a socket can be bound to it: any address that is on this host, whatever its scope. With
/// an interface it must be in the interface's VRF.
fn configured(address: IpAddr, station: IpAddr, link: Option<&Link>, host: &Host) -> Result<IpAddr, Unresolved> {
    let absent = |why: String, mend: String| Unresolved { reason: Reason::AddressAbsent, why, mend };
    if address.is_ipv4() != station.is_ipv4() {
        return Err(absent(
            format!("source address {address} is not of the family of station {station}"),
            format!("connect-interface {}-SOURCE-ADDRESS", family(station).to_uppercase()),
        ));
    }
    let vrf = link.map(|link| host.vrf_of(link));
    let mut why_not = None;
    for owner in host.links_with_address(address) {
        if vrf.is_some_and(|vrf| vrf != host.vrf_of(owner)) {
            continue;
        }
        if !owner.up {
            // The kernel takes the addresses of such an interface for no addresses of its own.
            why_not.get_or_insert(Unresolved {
                reason: Reason::InterfaceDown,
                why: format!("address {address} is on interface {}, which is down", owner.name),
                mend: set_up(owner),
            });
        } else if owner.address(address).is_some_and(|found| found.unproven) {
            why_not.get_or_insert(absent(
                format!("address {address} on interface {} has not passed duplicate address detection", owner.name),
                format!("ip address show dev {}", owner.name),
            ));
        } else {
            return Ok(address);
        }
    }
    Err(why_not.unwrap_or_else(|| {
        let device = link.map_or("INTERFACE", |link| &link.name);
        let place = link.and_then(|link| host.links.get(&host.vrf_of(link)?));
        let place = place.map_or_else(|| "this host".into(), |vrf| format!("this host in VRF {}", vrf.name));
        let bits = if address.is_ipv4() { 32 } else { 128 };
        absent(format!("address {address} is not on {place}"), format!("ip address add {address}/{bits} dev {device}"))
    }))
}

/// The interface's address for a session to `station`.
fn choose(link: &Link, station: IpAddr, keep: Option<IpAddr>) -> Result<(IpAddr, Rule), Unresolved> {
    let kept = keep.filter(|ip| ip.is_ipv4() == station.is_ipv4()).and_then(|ip| link.address(ip));
    if let Some(kept) = kept.filter(|address| !address.unproven) {
        return Ok((kept.ip, Rule::Kept));
    }
    let eligible = || link.addresses.iter().filter(|address| eligible(address, station));
    // Of several the longest prefix, as a route would be; of equal ones the first.
    let nearest =
        eligible().filter(|address| address.prefix_holds(station)).rev().max_by_key(|address| address.prefix_len);
    if let Some(nearest) = nearest {
        return Ok((nearest.ip, Rule::StationsPrefix));
    }
    if let Some(first) = eligible().next() {
        return Ok((first.ip, Rule::First));
    }
    let family = family(station);
    let unproven = link.addresses.iter().find(|address| address.unproven && address.ip.is_ipv4() == station.is_ipv4());
    Err(Unresolved {
        reason: Reason::AddressAbsent,
        why: match unproven {
            Some(address) => format!(
                "interface {} has no {family} address that a session can come from: {} has not passed duplicate address \
                 detection",
                link.name, address.ip
            ),
            None => format!("interface {} has no {family} address that a session can come from", link.name),
        },
        mend: format!("ip address add ADDRESS/PREFIX dev {}", link.name),
    })
}

/// Whether an address may be chosen for a session to `station` that names the interface alone.
fn eligible(address: &Address, station: IpAddr) -> bool {
    let family = match (address.ip, station) {
        (IpAddr::V4(_), IpAddr::V4(_)) => !address.secondary,
        (IpAddr::V6(_), IpAddr::V6(_)) => !address.temporary && !address.unproven && !address.deprecated,
        _ => false,
    };
    // A station that is on the link alone is answered from an address of the link (RFC 6724 §5, rule 2).
    family && if link_local(station) { link_local(address.ip) } else { address.global }
}

/// Whether an address means something on one link only (RFC 4291 §2.5.6).
fn link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The name the operator used, and the kernel's where it is another.
fn called(name: &str, link: &Link) -> String {
    if link.name == name { name.to_owned() } else { format!("{name} ({})", link.name) }
}

fn set_up(link: &Link) -> String {
    format!("ip link set dev {} up", link.name)
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}
