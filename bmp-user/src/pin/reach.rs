//! Whether a session has a route to its station, as far as that must be asked.

use std::net::IpAddr;

use tracing::warn;

use super::{Pinned, Reason, Resolved, Role, Target, Unresolved};
use crate::link::{Host, KernelRoute, RouteLookup};

/// The answer to "is there a route", good until the routes or the question change.
#[derive(Debug)]
pub(super) struct Verdict {
    epoch: u64,
    devices: Vec<u32>,
    source: Option<IpAddr>,
    found: bool,
}

/// Whether there is a route to the station by one of the interfaces. Asked once for each change of the routes: a socket bound
/// to a device that has no route to the station would take it as a neighbour and wait for ARP in vain. One that is bound to a VRF device
/// would leave by the default VRF where its own has none.
///
/// `last` is the answer before this one.
pub(super) async fn has_route(
    id: &Pinned,
    target: &Target,
    resolved: &Resolved,
    host: &Host,
    routes: &RouteLookup,
    last: &mut Option<Verdict>,
) -> bool {
    let epoch = host.routes_epoch;
    let of_vrf = resolved.egress.is_empty();
    let device = resolved.device.iter().filter(|_| of_vrf);
    let devices: Vec<_> = resolved.egress.iter().chain(device).map(|(index, _)| *index).collect();
    let source = resolved.source;
    let in_vrf =
        |route: &KernelRoute| host.links.get(&route.oif).is_none_or(|link| host.vrf_of(link) == Some(target.vrf));
    let mut last_known = true;
    if let Some(known) = last
        && known.devices == devices
        && known.source == source
    {
        if known.epoch == epoch {
            return known.found;
        }
        last_known = known.found;
    }
    let mut found = false;
    for device in &devices {
        let asked = match of_vrf {
            true => routes.route_in_vrf(id.far(), *device, source).await.map(|route| route.filter(in_vrf)),
            false => routes.route_to(id.far(), *device, source).await,
        };
        match asked {
            Ok(route) => found |= route.is_some(),
            Err(error) => {
                warn!(of = %id, "cannot ask the kernel for its route to the station: {error:#}");
                found |= last_known;
            }
        }
    }
    *last = Some(Verdict { epoch, devices, source, found });
    found
}

/// What a session is told that has no route.
pub(super) fn no_route(id: &Pinned, resolved: &Resolved) -> Unresolved {
    let names: Vec<_> = resolved.egress.iter().map(|(_, name)| name.as_str()).collect();
    let station = id.far();
    let (by, to) = match (names.first(), id.vpn_instance()) {
        (Some(device), vrf) => {
            let vrf = vrf.map(|vrf| format!("vrf {vrf} ")).unwrap_or_default();
            (format!("by interface {}", names.join(" or ")), format!("{vrf}dev {device} via GATEWAY metric 1000"))
        }
        (None, vrf) => {
            let vrf = vrf.unwrap_or_default();
            (format!("in VRF {vrf}"), format!("vrf {vrf} via GATEWAY"))
        }
    };
    Unresolved {
        reason: Reason::NoRoute,
        why: format!("there is no route to {station} {by}"),
        mend: format!("ip route add {station} {to}"),
    }
}

/// The interface by which the routing tables send a session to its station, where that is none of those that it may leave by: the kernel drops every
/// packet of it then. A session that is bound to its interface, or has a route of its own, goes by no such table.
pub async fn led_astray(id: &Pinned, resolved: &Resolved, host: &Host, routes: &RouteLookup) -> Option<String> {
    if !goes_by_tables(resolved) {
        return None;
    }
    let asked = match &resolved.device {
        Some((vrf, _)) => routes.route_in_vrf(id.far(), *vrf, resolved.source).await,
        None => routes.route_to(id.far(), 0, resolved.source).await,
    };
    let route = asked
        .inspect_err(|error| warn!(of = %id, "cannot ask the kernel for its route to the station: {error:#}"))
        .ok()??;
    // Of nexthop objects the kernel may not say by which interface they lead.
    let elsewhere = route.oif != 0 && !resolved.egress.iter().any(|(index, _)| *index == route.oif);
    let name =
        || host.links.get(&route.oif).map_or_else(|| format!("interface {}", route.oif), |link| link.name.clone());
    elsewhere.then(name)
}

/// What brings the packets of such a session back.
pub fn back_on_its_way(target: &Target, resolved: &Resolved) -> Option<String> {
    let (_, device) = resolved.egress.first().filter(|_| goes_by_tables(resolved))?;
    let vrf = resolved.device.as_ref().map(|(_, vrf)| format!(" vrf {vrf}")).unwrap_or_default();
    let route = format!("ip route add {} via GATEWAY dev {device}{vrf}", target.station.ip());
    Some(match target.role {
        Role::Connect => format!("{route}, or next-hop GATEWAY in the session view"),
        Role::Listen => route,
    })
}

/// Whether it is the routing tables that choose among the interfaces which a session may leave by.
fn goes_by_tables(resolved: &Resolved) -> bool {
    let bound = resolved.device.as_ref().is_some_and(|device| resolved.egress.contains(device));
    resolved.way.is_none() && !resolved.egress.is_empty() && !bound
}
