//! The two tables of connect-interface as code: the outcome of each session, from the configuration
//! and the host.
//!
//! Written from the command's documentation. It shares nothing with the implementation.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    configuration::{ModelConfiguration, ModelSessionId, SessionView, SourceSetting},
    host::{HostInterface, HostState, holds},
};

/// The required state of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SessionOutcome {
    /// Down, with one of these reasons. All of them are true, and bmpd shows the first that it
    /// finds.
    Down(BTreeSet<&'static str>),
    /// Up or trying, within this grant.
    Up(SessionGrant),
}

/// What a session may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionGrant {
    pub(crate) port: u16,
    /// `None` leaves the choice to the kernel.
    pub(crate) source: Option<IpAddr>,
    /// The interface of its sockets' binding.
    pub(crate) device: Option<u32>,
    /// The interfaces that it may leave by. Empty means any.
    pub(crate) egress: BTreeSet<u32>,
}

/// Returns the effective `connect-interface`: the left side of the first table.
pub(crate) fn in_force(
    configuration: &ModelConfiguration,
    id: &ModelSessionId,
    session: &SessionView,
) -> Option<SourceSetting> {
    match (&session.source, configuration.address) {
        (Some(own), _) => Some(own.clone()),
        (None, Some(address)) if id.station.is_ipv4() => Some(SourceSetting::address(address.into())),
        (None, _) => None,
    }
}

/// Finds the interface that an operator names.
pub(crate) fn named<'a>(
    host: &'a HostState,
    configuration: &ModelConfiguration,
    name: &str,
) -> Option<&'a HostInterface> {
    let alias = configuration.aliases.get(name);
    host.interface(name)
        .or_else(|| host.interfaces.iter().find(|interface| interface.also.iter().any(|also| also == name)))
        .or_else(|| host.interface(alias?))
        .or_else(|| host.interface("lo").filter(|_| name.eq_ignore_ascii_case("LoopBack0")))
}

/// Returns the outcome of a session. `kept` is the address that was chosen for it before.
pub(crate) fn outcome(
    configuration: &ModelConfiguration,
    host: &HostState,
    id: &ModelSessionId,
    session: &SessionView,
    kept: Option<IpAddr>,
) -> SessionOutcome {
    let source = in_force(configuration, id, session);
    judge(configuration, host, id, session, source.as_ref(), kept).map_or_else(SessionOutcome::Down, SessionOutcome::Up)
}

/// Returns the address that is chosen for a session which names only an interface. It is kept while
/// it is valid there.
pub(crate) fn choice(
    configuration: &ModelConfiguration,
    host: &HostState,
    id: &ModelSessionId,
    session: &SessionView,
    kept: Option<IpAddr>,
) -> Option<IpAddr> {
    let source = in_force(configuration, id, session).filter(|source| source.address.is_none())?;
    let chosen = match judge(configuration, host, id, session, Some(&source), kept) {
        Ok(grant) => grant.source,
        // Only a route is missing.
        Err(reasons) if reasons.contains("no-route") => {
            of_the_interface(named(host, configuration, &source.interface?)?, id.station, kept)
        }
        Err(_) => None,
    };
    chosen.or(kept)
}

fn judge(
    configuration: &ModelConfiguration,
    host: &HostState,
    id: &ModelSessionId,
    session: &SessionView,
    source: Option<&SourceSetting>,
    kept: Option<IpAddr>,
) -> Result<SessionGrant, BTreeSet<&'static str>> {
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
    Ok(SessionGrant { port, source: address, device, egress })
}

fn address_absent() -> BTreeSet<&'static str> {
    ["address-absent"].into()
}

/// Returns the named interface if it exists, is not a layer 2 port, is up and has a carrier, which
/// a donor does not need.
fn usable<'a>(
    host: &'a HostState,
    configuration: &ModelConfiguration,
    name: &str,
) -> Result<&'a HostInterface, BTreeSet<&'static str>> {
    let Some(interface) = named(host, configuration, name) else { return Err(["interface-absent"].into()) };
    let down = !interface.up || !(interface.carrier || interface.donor);
    let wrong: BTreeSet<_> = [(interface.layer2, "interface-layer2"), (down, "interface-down")]
        .into_iter()
        .filter_map(|(wrong, reason)| wrong.then_some(reason))
        .collect();
    if wrong.is_empty() { Ok(interface) } else { Err(wrong) }
}

/// Returns a configured address if this host has it, on an interface that is up.
fn present(host: &HostState, address: IpAddr) -> Result<IpAddr, BTreeSet<&'static str>> {
    let owners: Vec<_> = host.interfaces.iter().filter(|interface| interface.has(address)).collect();
    if owners.is_empty() {
        return Err(address_absent());
    }
    if owners.iter().any(|interface| interface.up) { Ok(address) } else { Err(["interface-down"].into()) }
}

/// Chooses an address of the interface: the one chosen before, then one whose prefix contains the
/// station, then the first.
fn of_the_interface(interface: &HostInterface, station: IpAddr, kept: Option<IpAddr>) -> Option<IpAddr> {
    let of_family = || interface.addresses.iter().filter(|address| address.ip.is_ipv4() == station.is_ipv4());
    let kept = of_family().find(|address| Some(address.ip) == kept && address.usable);
    let eligible = || of_family().filter(|address| address.eligible);
    let near = eligible().find(|address| holds(address.ip, address.bits, station));
    kept.or(near).or_else(|| eligible().next()).map(|address| address.ip)
}

/// Returns the interfaces to leave by: the right side of the first table, narrowed by
/// `egress-interface`.
fn leave_by(
    host: &HostState,
    configuration: &ModelConfiguration,
    session: &SessionView,
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

/// True if the host has a route to the station by the interface.
fn route_by(host: &HostState, interface: &str, station: IpAddr) -> bool {
    let by_it = host.routes.iter().filter(|route| route.interface == interface && route.alive);
    by_it.into_iter().any(|route| holds(route.prefix, route.bits, station))
}
