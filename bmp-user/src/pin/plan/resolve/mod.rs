//! What a connect-interface resolves to on this host. Pure: the host is an argument.
//!
//! - [`vrf_scope`]: the host as a session of one VRF sees it
//! - [`next_hop`]: the interface that a next hop is reached by

use std::{collections::BTreeMap, fmt, net::IpAddr};

use crate::{
    config::ConnectInterface,
    link::{Host, Interface, InterfaceAddress, Link},
    pin::reason::{DownCause, Reason},
};
use names::{family, is_link_local, set_up};
use vrf_scope::VrfScope;

pub use next_hop::NextHopPath;
pub use vrf_scope::absent;

mod names;
mod next_hop;
#[cfg(test)]
mod tests;
mod vrf_scope;

/// What is asked about a session.
#[derive(Clone, Copy, Debug)]
pub struct PinQuestion<'a> {
    /// The connect-interface [in force](crate::config::effective).
    pub connect: Option<&'a ConnectInterface>,
    /// The VPN instance, which is the VRF device of that name; `None` is the default VRF.
    pub vpn_instance: Option<&'a str>,
    /// The session may leave by these interfaces alone. An empty list restricts nothing.
    pub egress_interfaces: &'a [String],
    /// The router that the session's packets are sent to; `None` leaves that to the routing tables.
    pub next_hop: Option<IpAddr>,
    /// The station's address.
    pub station: IpAddr,
    /// The `interface-alias` lines, from the alias to the kernel name.
    pub aliases: &'a BTreeMap<String, String>,
    /// The source that an earlier answer chose. It is kept while it is valid on the interface.
    pub keep: Option<IpAddr>,
}

/// What a connect-interface resolves to on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedPin {
    /// The source address; `None` leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// The interface that the socket is bound to. With a next hop, or where connect-interface names
    /// no interface to leave by, this is the VRF device, and `None` in the default VRF.
    pub device: Option<Interface>,
    /// The interfaces that the session may leave by. Empty means any interface of its VRF.
    pub egress: Vec<Interface>,
    /// Where the packets go, whatever the routing tables say.
    pub path: Option<NextHopPath>,
    /// The rule that chose the source.
    pub rule: SourceRule,
}

impl ResolvedPin {
    /// Returns the names of the interfaces that the session may leave by, separated by commas, or
    /// `any`.
    pub fn interface_names(&self) -> String {
        let names: Vec<_> = self.egress.iter().map(|interface| interface.name.as_str()).collect();
        if names.is_empty() { "any".to_owned() } else { names.join(",") }
    }
}

/// The rule that chose a source address; displayed in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceRule {
    /// Nothing is configured.
    KernelsChoice,
    /// The address is configured.
    Configured,
    /// The address was chosen before and is still on the interface.
    Kept,
    /// The address's prefix holds the station.
    StationsPrefix,
    /// The address is the interface's first.
    First,
}

impl fmt::Display for SourceRule {
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

/// Resolves a session's connect-interface on `host`.
///
/// The answer names all interfaces of `egress_interfaces` in the session's VRF, usable or not: the
/// path may move between them while the session stays. [`RouteLookup`](crate::link::RouteLookup)
/// says whether there is a route to the station.
///
/// # Errors
///
/// What the host lacks, and the command that would mend that.
pub fn resolve(question: &PinQuestion<'_>, host: &Host) -> Result<ResolvedPin, DownCause> {
    let PinQuestion { station, .. } = *question;
    let scope = VrfScope::find(question.vpn_instance, question.aliases, host)?;
    for (address, role, mend) in
        [(Some(station), "station", "bmp-session ADDRESS"), (question.next_hop, "next hop", "next-hop ADDRESS")]
    {
        if let Some(address) = address
            && let Some(subnet) = host.subnet_with_broadcast(address, question.vpn_instance)
        {
            let why = format!("{role} {address} is the broadcast address of {subnet}");
            return Err(DownCause { reason: Reason::NoRoute, why, mend: mend.to_owned() });
        }
    }
    let mut resolved = match question.connect {
        Some(wanted) => source(wanted, station, &scope, question.keep)?,
        None => unbound(&scope),
    };
    if resolved.egress.is_empty() && is_link_local(station) {
        return Err(DownCause {
            reason: Reason::NoRoute,
            why: format!("{station} is link-local, and connect-interface names no interface that leads to it"),
            mend: "connect-interface INTERFACE".to_owned(),
        });
    }
    if !question.egress_interfaces.is_empty() {
        resolved.egress = narrowed(&resolved, question.egress_interfaces, &scope)?;
    }
    if let Some(address) = question.next_hop {
        resolved.path = Some(next_hop::find(address, station, &resolved, &scope)?);
        // A socket that is bound to one interface takes replies from no other.
        resolved.device = scope.device();
    }
    Ok(resolved)
}

/// A pin without source and egress of its own.
fn unbound(scope: &VrfScope<'_>) -> ResolvedPin {
    let device = scope.device();
    ResolvedPin { source: None, device, egress: Vec::new(), path: None, rule: SourceRule::KernelsChoice }
}

fn source(
    wanted: &ConnectInterface,
    station: IpAddr,
    scope: &VrfScope<'_>,
    keep: Option<IpAddr>,
) -> Result<ResolvedPin, DownCause> {
    let link = wanted.interface().map(|name| scope.interface(name)).transpose()?;
    let (source, rule) = match (wanted.address(), link) {
        (Some(address), _) => (configured(address, station, link, scope)?, SourceRule::Configured),
        (None, Some(link)) => choose(link, station, keep)?,
        // Unreachable: a connect-interface names an address or an interface.
        (None, None) => return Ok(unbound(scope)),
    };
    let bound = link.filter(|link| !link.is_donor()).map(Link::interface);
    let egress = bound.iter().cloned().collect();
    Ok(ResolvedPin { source: Some(source), egress, device: bound.or_else(|| scope.device()), path: None, rule })
}

/// Restricts the egress of a pin to the interfaces that `egress-interface` names. At least one of
/// them must be usable.
fn narrowed(resolved: &ResolvedPin, names: &[String], scope: &VrfScope<'_>) -> Result<Vec<Interface>, DownCause> {
    let mut egress = Vec::new();
    let mut usable = false;
    let mut why_not = None;
    for name in names {
        match scope.interface(name) {
            Ok(_) => usable = true,
            Err(cause) => drop(why_not.get_or_insert(cause)),
        }
        if let Some(link) = scope.named(name)
            && scope.holds(link)
            && !egress.contains(&link.interface())
        {
            egress.push(link.interface());
        }
    }
    // The same interfaces are the same pin, in whatever order they are named.
    egress.sort();
    if let [bound] = resolved.egress.as_slice() {
        egress.retain(|named| named.index == bound.index);
        if egress.is_empty() {
            return Err(DownCause {
                reason: Reason::EgressDenied,
                why: format!("egress-interface does not name {bound}, which connect-interface binds the session to"),
                mend: format!("egress-interface {bound}"),
            });
        }
        return Ok(egress);
    }
    match why_not {
        Some(cause) if !usable => Err(cause),
        _ => Ok(egress),
    }
}

/// Returns the configured address if a socket can be bound to it: any address of the session's VRF,
/// whatever its scope.
fn configured(
    address: IpAddr,
    station: IpAddr,
    link: Option<&Link>,
    scope: &VrfScope<'_>,
) -> Result<IpAddr, DownCause> {
    let absent = |why: String, mend: String| DownCause { reason: Reason::AddressAbsent, why, mend };
    if address.is_ipv4() != station.is_ipv4() {
        return Err(absent(
            format!("source address {address} is not of the family of station {station}"),
            format!("connect-interface {}-SOURCE-ADDRESS", family(station).to_uppercase()),
        ));
    }
    let is_own = || scope.host.link_with_address(station).is_some();
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
    for owner in scope.host.links_with_address(address) {
        if !scope.holds(owner) {
            elsewhere.get_or_insert(owner);
        } else if !owner.up {
            // The kernel does not treat the addresses of an interface that is down as its own.
            why_not.get_or_insert(DownCause {
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
        let device = link.or(scope.vrf).map_or("INTERFACE", |link| &link.name);
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let mend = format!("ip address add {address}/{bits} dev {device}");
        match elsewhere {
            None => absent(format!("address {address} is not on this host{}", scope.suffix()), mend),
            Some(owner) => absent(
                format!(
                    "address {address} is on interface {}, which is in {}, and not in {}",
                    owner.name,
                    vrf_scope::words(scope.host.vrf_of(owner), scope.host),
                    scope.words()
                ),
                scope.mend(owner),
            ),
        }
    }))
}

/// Chooses the interface's address for a session to `station`.
fn choose(link: &Link, station: IpAddr, keep: Option<IpAddr>) -> Result<(IpAddr, SourceRule), DownCause> {
    let kept = keep.filter(|ip| ip.is_ipv4() == station.is_ipv4()).and_then(|ip| link.address(ip));
    if let Some(kept) = kept.filter(|address| !address.unproven) {
        return Ok((kept.ip, SourceRule::Kept));
    }
    let eligible = || link.addresses.iter().filter(|address| eligible(address, station));
    // The longest prefix wins, as among routes; the first address wins among equal ones.
    let nearest =
        eligible().filter(|address| address.prefix_holds(station)).rev().max_by_key(|address| address.prefix_len);
    if let Some(nearest) = nearest {
        return Ok((nearest.ip, SourceRule::StationsPrefix));
    }
    if let Some(first) = eligible().next() {
        return Ok((first.ip, SourceRule::First));
    }
    let family = family(station);
    let unproven = link.addresses.iter().find(|address| address.unproven && address.ip.is_ipv4() == station.is_ipv4());
    Err(DownCause {
        reason: Reason::AddressAbsent,
        why: match unproven {
            Some(address) => format!(
                "interface {} has no {family} address that a session can come from: {} has not passed duplicate address \
                 detection",
                link.name, address.ip
            ),
            None => format!("interface {} has no {family} address that a session can come from", link.name),
        },
        // A session to this host itself can use a loopback address that is configured.
        mend: match link.addresses.iter().find(|address| {
            station.is_loopback() && address.ip.is_loopback() && address.ip.is_ipv4() == station.is_ipv4()
        }) {
            Some(loopback) => format!("connect-interface {}", loopback.ip),
            None => format!("ip address add ADDRESS/PREFIX dev {}", link.name),
        },
    })
}

/// True if the address may be chosen for a session to `station` that names the interface alone.
fn eligible(address: &InterfaceAddress, station: IpAddr) -> bool {
    let family = match (address.ip, station) {
        (IpAddr::V4(_), IpAddr::V4(_)) => !address.secondary,
        (IpAddr::V6(_), IpAddr::V6(_)) => !address.temporary && !address.unproven && !address.deprecated,
        _ => false,
    };
    // A link-local station needs a link-local source (RFC 6724 §5, rule 2).
    family && if is_link_local(station) { is_link_local(address.ip) } else { address.global }
}
