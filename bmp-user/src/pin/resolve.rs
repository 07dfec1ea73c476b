//! What a session's connect-interface comes to on this host. Pure: what the host has is given.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use super::Reason;
use crate::{
    config::ConnectInterface,
    link::{Host, InterfaceAddress, Link},
};
use place::Place;

pub use place::absent;
pub use way::Way;

mod place;
#[cfg(test)]
mod tests;
mod way;

/// What is asked about a session.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The connect-interface [in force](crate::config::effective).
    pub connect: Option<&'a ConnectInterface>,
    /// The session's VPN instance, which is the VRF device of that name; `None` is the default VRF.
    pub vpn_instance: Option<&'a str>,
    /// Narrows what the session may leave by to those that it names; empty, it narrows nothing.
    pub egress_interfaces: &'a [String],
    /// The router that the session's packets are sent to; `None` leaves that to the routing tables.
    pub next_hop: Option<IpAddr>,
    /// The station's address.
    pub station: IpAddr,
    /// The `interface-alias` lines: from the name given to the kernel's.
    pub aliases: &'a BTreeMap<String, String>,
    /// The address that an earlier answer chose: it is kept while it is valid on the interface.
    pub keep: Option<IpAddr>,
}

/// What a session's connect-interface comes to on this host, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The source address; `None` leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// Index and kernel name of the interface that the socket is bound to. Where only an address or a donor interface is named, or
    /// nothing, and with a next hop: the VRF device, by which it reaches any interface of its VRF; in the default VRF `None`.
    pub device: Option<(u32, String)>,
    /// Index and kernel name of the interfaces that the session may leave by; empty is any of its VRF.
    pub egress: Vec<(u32, String)>,
    /// Where its packets go, whatever the routing tables say.
    pub way: Option<Way>,
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
    /// One of `vpn-instance-absent`, `interface-absent`, `interface-layer2`, `interface-down`, `address-absent`.
    pub reason: Reason,
    /// What is missing, as a sentence without its full stop.
    pub why: String,
    /// The command that would mend it: of ip(8), or of bmpd's own command language.
    pub mend: String,
}

/// What a session's connect-interface comes to on `host`.
///
/// All interfaces of `egress_interfaces` that are in the session's VRF are in the answer, usable or not: the path may move between them
/// while the session stays. Whether there is a route to the station is another question, for [`RouteLookup`](crate::link::RouteLookup).
///
/// # Errors
///
/// What the host lacks for it, and the command that would mend that.
pub fn resolve(question: &Question<'_>, host: &Host) -> Result<Resolved, Unresolved> {
    let Question { station, .. } = *question;
    let place = Place::find(question, host)?;
    for (address, what, mend) in
        [(Some(station), "station", "bmp-session ADDRESS"), (question.next_hop, "next hop", "next-hop ADDRESS")]
    {
        if let Some(address) = address
            && let Some((link, prefix)) = host.broadcast_of(address, question.vpn_instance)
        {
            let why = format!("{what} {address} is the broadcast address of {prefix} on {}", link.name);
            return Err(Unresolved { reason: Reason::NoRoute, why, mend: mend.to_owned() });
        }
    }
    let mut resolved = match question.connect {
        Some(wanted) => source(wanted, station, &place, question.keep)?,
        None => {
            Resolved { source: None, device: place.device(), egress: Vec::new(), way: None, rule: Rule::KernelsChoice }
        }
    };
    if resolved.egress.is_empty() && link_local(station) {
        return Err(Unresolved {
            reason: Reason::NoRoute,
            why: format!("{station} is link-local, and connect-interface names no interface that leads to it"),
            mend: "connect-interface INTERFACE".to_owned(),
        });
    }
    if !question.egress_interfaces.is_empty() {
        resolved.egress = narrowed(&resolved, question.egress_interfaces, &place)?;
    }
    if let Some(next_hop) = question.next_hop {
        resolved.way = Some(way::find(next_hop, station, &resolved, &place)?);
        // A socket that is bound to one interface would take replies from no other.
        resolved.device = place.device();
    }
    Ok(resolved)
}

fn source(
    wanted: &ConnectInterface,
    station: IpAddr,
    place: &Place<'_>,
    keep: Option<IpAddr>,
) -> Result<Resolved, Unresolved> {
    let link = wanted.interface().map(|name| place.interface(name)).transpose()?;
    let (source, rule) = match (wanted.address(), link) {
        (Some(address), _) => (configured(address, station, link, place)?, Rule::Configured),
        (None, Some(link)) => choose(link, station, keep)?,
        // Not to be had: a connect-interface names at least one of the two.
        (None, None) => {
            let device = place.device();
            return Ok(Resolved { source: None, device, egress: Vec::new(), way: None, rule: Rule::KernelsChoice });
        }
    };
    let named = link.filter(|link| !link.is_donor()).map(|link| (link.index, link.name.clone()));
    let egress = named.iter().cloned().collect();
    Ok(Resolved { source: Some(source), egress, device: named.or_else(|| place.device()), way: None, rule })
}

/// What is left of "may leave by" when `egress-interface` names these. At least one of them must be usable.
fn narrowed(resolved: &Resolved, names: &[String], place: &Place<'_>) -> Result<Vec<(u32, String)>, Unresolved> {
    let mut egress = Vec::new();
    let mut usable = false;
    let mut why_not = None;
    for name in names {
        match place.interface(name) {
            Ok(_) => usable = true,
            Err(unresolved) => drop(why_not.get_or_insert(unresolved)),
        }
        if let Some(link) = place.named(name)
            && place.holds(link)
            && !egress.iter().any(|(index, _)| *index == link.index)
        {
            egress.push((link.index, link.name.clone()));
        }
    }
    // In one order, whichever they are named in: the same interfaces are the same pin.
    egress.sort();
    if let [(index, name)] = resolved.egress.as_slice() {
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

/// The address that is configured, if a socket can be bound to it: any address of the session's VRF, whatever its scope.
fn configured(address: IpAddr, station: IpAddr, link: Option<&Link>, place: &Place<'_>) -> Result<IpAddr, Unresolved> {
    let absent = |why: String, mend: String| Unresolved { reason: Reason::AddressAbsent, why, mend };
    if address.is_ipv4() != station.is_ipv4() {
        return Err(absent(
            format!("source address {address} is not of the family of station {station}"),
            format!("connect-interface {}-SOURCE-ADDRESS", family(station).to_uppercase()),
        ));
    }
    let is_own = || place.host.link_with_address(station).is_some();
    if address.is_loopback() && !station.is_loopback() && !is_own() {
        return Err(absent(
            format!(
                "source address {address} is a loopback address, with which nothing leaves this host, and station {station} is another host"
            ),
            "connect-interface ADDRESS".to_owned(),
        ));
    }
    let mut why_not = None;
    let mut elsewhere = None;
    for owner in place.host.links_with_address(address) {
        if !place.holds(owner) {
            elsewhere.get_or_insert(owner);
        } else if !owner.up {
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
        let device = link.or(place.vrf).map_or("INTERFACE", |link| &link.name);
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let mend = format!("ip address add {address}/{bits} dev {device}");
        match elsewhere {
            None => absent(format!("address {address} is not on this host{}", place.suffix()), mend),
            Some(owner) => absent(
                format!(
                    "address {address} is on interface {}, which is in {}, and not in {}",
                    owner.name,
                    place::words(place.host.vrf_of(owner), place.host),
                    place.words()
                ),
                place.mend(owner),
            ),
        }
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
        // Towards a station of this host itself a loopback address will do, if it is named.
        mend: match link.addresses.iter().find(|address| {
            station.is_loopback() && address.ip.is_loopback() && address.ip.is_ipv4() == station.is_ipv4()
        }) {
            Some(loopback) => format!("connect-interface {}", loopback.ip),
            None => format!("ip address add ADDRESS/PREFIX dev {}", link.name),
        },
    })
}

/// Whether an address may be chosen for a session to `station` that names the interface alone.
fn eligible(address: &InterfaceAddress, station: IpAddr) -> bool {
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
