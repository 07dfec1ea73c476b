//! The two tables of connect-interface read aloud: what each session must be, given the configuration and what the host has.
//!
//! Written from what the command promises, and sharing nothing with the program that carries it out.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    configuration::{Configuration, Id, Session, Source},
    host::{Host, Interface, holds},
};

/// What a session must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Down, for one of these reasons: all of them are true, and the operator is told the first that is found.
    Down(BTreeSet<&'static str>),
    /// To be up, from this source and by these interfaces alone.
    Up(Grant),
}

/// What a session may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) port: u16,
    /// `None` is the kernel's choice.
    pub(crate) source: Option<IpAddr>,
    /// The interface that its sockets are bound to.
    pub(crate) device: Option<u32>,
    /// The interfaces that it may leave by; empty is any.
    pub(crate) egress: BTreeSet<u32>,
}

/// The first table's left side: what is in force.
pub(crate) fn in_force(configuration: &Configuration, id: &Id, session: &Session) -> Option<Source> {
    match (&session.source, configuration.address) {
        (Some(own), _) => Some(own.clone()),
        (None, Some(address)) if id.station.is_ipv4() => Some(Source::address(address.into())),
        (None, _) => None,
    }
}

/// The interface that an operator means.
pub(crate) fn named<'a>(host: &'a Host, configuration: &Configuration, name: &str) -> Option<&'a Interface> {
    let alias = configuration.aliases.get(name);
    host.interface(name)
        .or_else(|| host.interfaces.iter().find(|interface| interface.also.iter().any(|also| also == name)))
        .or_else(|| host.interface(alias?))
        .or_else(|| host.interface("lo").filter(|_| name.eq_ignore_ascii_case("LoopBack0")))
}

/// What the session must be. `kept` is the address that was chosen for it before.
pub(crate) fn outcome(
    configuration: &Configuration,
    host: &Host,
    id: &Id,
    session: &Session,
    kept: Option<IpAddr>,
) -> Outcome {
    let source = in_force(configuration, id, session);
    judge(configuration, host, id, session, source.as_ref(), kept).map_or_else(Outcome::Down, Outcome::Up)
}

/// The address that is chosen for a session which names an interface alone: to be kept while it is valid there.
pub(crate) fn choice(
    configuration: &Configuration,
    host: &Host,
    id: &Id,
    session: &Session,
    kept: Option<IpAddr>,
) -> Option<IpAddr> {
    let source = in_force(configuration, id, session).filter(|source| source.address.is_none())?;
    let chosen = match judge(configuration, host, id, session, Some(&source), kept) {
        Ok(grant) => grant.source,
        // Only the way is missing.
        Err(reasons) if reasons.contains("no-route") => {
            of_the_interface(named(host, configuration, &source.interface?)?, id.station, kept)
        }
        Err(_) => None,
    };
    chosen.or(kept)
}

fn judge(
    configuration: &Configuration,
    host: &Host,
    id: &Id,
    session: &Session,
    source: Option<&Source>,
    kept: Option<IpAddr>,
) -> Result<Grant, BTreeSet<&'static str>> {
    let port = match session.port {
        Some(port) if !session.shutdown => port,
        port => {
            let not_configured = port.is_none().then_some("not-configured");
            return Err(session.shutdown.then_some("shutdown").into_iter().chain(not_configured).collect());
        }
    };
    let interface = match source.and_then(|source| source.interface.as_ref()) {
        Some(name) => Some(usable(host, configuration, name)?),
        None => None,
    };
    let address = match (source.and_then(|source| source.address), interface) {
        (Some(address), _) => Some(present(host, address)?),
        (None, Some(interface)) => Some(of_the_interface(interface, id.station, kept).ok_or_else(address_absent)?),
        (None, None) => None,
    };
    let device = interface.filter(|interface| !interface.donor).map(|interface| interface.index);
    let egress = leave_by(host, configuration, session, device)?;
    let leads = |index: &u32| host.interfaces.iter().any(|i| i.index == *index && route_by(host, &i.name, id.station));
    if !egress.is_empty() && !egress.iter().any(leads) {
        return Err(["no-route"].into());
    }
    Ok(Grant { port, source: address, device, egress })
}

fn address_absent() -> BTreeSet<&'static str> {
    ["address-absent"].into()
}

/// An interface that is there, is no layer 2 port, is up and has a carrier; a donor needs none.
fn usable<'a>(
    host: &'a Host,
    configuration: &Configuration,
    name: &str,
) -> Result<&'a Interface, BTreeSet<&'static str>> {
    let Some(interface) = named(host, configuration, name) else { return Err(["interface-absent"].into()) };
    let down = !interface.up || !(interface.carrier || interface.donor);
    let wrong: BTreeSet<_> = [(interface.layer2, "interface-layer2"), (down, "interface-down")]
        .into_iter()
        .filter_map(|(wrong, reason)| wrong.then_some(reason))
        .collect();
    if wrong.is_empty() { Ok(interface) } else { Err(wrong) }
}

/// A configured address must be on this host; one on an interface that is not up is not the kernel's own.
fn present(host: &Host, address: IpAddr) -> Result<IpAddr, BTreeSet<&'static str>> {
    let owners: Vec<_> = host.interfaces.iter().filter(|interface| interface.has(address)).collect();
    if owners.is_empty() {
        return Err(address_absent());
    }
    if owners.iter().any(|interface| interface.up) { Ok(address) } else { Err(["interface-down"].into()) }
}

/// The interface's address: the one that was chosen before, the one whose prefix holds the station, the first.
fn of_the_interface(interface: &Interface, station: IpAddr, kept: Option<IpAddr>) -> Option<IpAddr> {
    let of_family = || interface.addresses.iter().filter(|address| address.ip.is_ipv4() == station.is_ipv4());
    let kept = of_family().find(|address| Some(address.ip) == kept && address.usable);
    let eligible = || of_family().filter(|address| address.eligible);
    let near = eligible().find(|address| holds(address.ip, address.bits, station));
    kept.or(near).or_else(|| eligible().next()).map(|address| address.ip)
}

/// The first table's right side: that interface only, or any; narrowed by `egress-interface`.
fn leave_by(
    host: &Host,
    configuration: &Configuration,
    session: &Session,
    device: Option<u32>,
) -> Result<BTreeSet<u32>, BTreeSet<&'static str>> {
    if session.egress.is_empty() {
        return Ok(device.into_iter().collect());
    }
    let there = session.egress.iter().filter_map(|name| named(host, configuration, name)).map(|i| i.index);
    let there: BTreeSet<_> = there.collect();
    match device {
        Some(device) if there.contains(&device) => Ok([device].into()),
        Some(_) => Err(["egress-denied"].into()),
        None => {
            let states = session.egress.iter().map(|name| usable(host, configuration, name));
            let (fit, unfit): (Vec<_>, Vec<_>) = states.partition(Result::is_ok);
            if fit.is_empty() { Err(unfit.into_iter().filter_map(Result::err).flatten().collect()) } else { Ok(there) }
        }
    }
}

/// Whether the host has a route to the station by the interface.
fn route_by(host: &Host, interface: &str, station: IpAddr) -> bool {
    let by_it = host.routes.iter().filter(|route| route.interface == interface && route.alive);
    by_it.into_iter().any(|route| holds(route.prefix, route.bits, station))
}
