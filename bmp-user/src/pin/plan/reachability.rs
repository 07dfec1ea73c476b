//! Asks the kernel whether a session has a route to its station, where that must be asked.
//!
//! A socket that is bound to an interface without a route to the station would take the station for
//! a neighbour and wait for ARP in vain. One that is bound to a VRF device would leave by the
//! default VRF where its own VRF has no route.

use std::net::IpAddr;

use tracing::warn;

use super::{demand::Pinned, resolve::ResolvedPin};
use crate::{
    link::{Host, Interface, KernelRoute, RouteLookup},
    pin::{
        kernel::{PinTarget, Role},
        reason::{DownCause, Reason},
    },
};

/// The answer to "is there a route". It holds until the routes or the question change.
#[derive(Debug)]
pub(in crate::pin) struct RouteAnswer {
    epoch: u64,
    devices: Vec<u32>,
    source: Option<IpAddr>,
    found: bool,
}

/// True if a pin is ready only with a route by its interfaces. A session with a next hop has a
/// route of its own. One that may leave by any interface has whatever route the kernel finds.
pub(in crate::pin) fn needs_route(target: &PinTarget, resolved: &ResolvedPin) -> bool {
    resolved.path.is_none() && !(resolved.egress.is_empty() && target.vrf == 0)
}

/// True if there is a route to the station by one of the interfaces. Asks the kernel once for each
/// change of the routes; `last` is the previous answer.
///
/// Where the kernel cannot be asked, the previous answer stands. Without one a route is assumed.
pub(in crate::pin) async fn has_route(
    pinned: &Pinned,
    target: &PinTarget,
    resolved: &ResolvedPin,
    host: &Host,
    routes: &RouteLookup,
    last: &mut Option<RouteAnswer>,
) -> bool {
    let epoch = host.routes_epoch;
    let by_vrf = resolved.egress.is_empty();
    let device = resolved.device.iter().filter(|_| by_vrf);
    let devices: Vec<_> = resolved.egress.iter().chain(device).map(|interface| interface.index).collect();
    let source = resolved.source;
    let is_in_vrf =
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
        let answer = if by_vrf {
            routes.route_in_vrf(pinned.far(), *device, source).await.map(|route| route.filter(is_in_vrf))
        } else {
            routes.route_to(pinned.far(), *device, source).await
        };
        match answer {
            Ok(route) => found |= route.is_some(),
            Err(error) => {
                warn!(of = %pinned, "cannot ask the kernel for its route to the station: {error:#}");
                found |= last_known;
            }
        }
    }
    *last = Some(RouteAnswer { epoch, devices, source, found });
    found
}

/// Returns why a session without a route is down.
pub(in crate::pin) fn no_route(pinned: &Pinned, resolved: &ResolvedPin) -> DownCause {
    let names: Vec<_> = resolved.egress.iter().map(|interface| interface.name.as_str()).collect();
    let station = pinned.far();
    let (by, to) = match (names.first(), pinned.vpn_instance()) {
        (Some(device), vrf) => {
            let vrf = vrf.map(|vrf| format!("vrf {vrf} ")).unwrap_or_default();
            (format!("by interface {}", names.join(" or ")), format!("{vrf}dev {device} via GATEWAY metric 1000"))
        }
        (None, vrf) => {
            let vrf = vrf.unwrap_or_default();
            (format!("in VRF {vrf}"), format!("vrf {vrf} via GATEWAY"))
        }
    };
    DownCause {
        reason: Reason::NoRoute,
        why: format!("there is no route to {station} {by}"),
        mend: format!("ip route add {station} {to}"),
    }
}

/// Returns the name of the interface by which the routing tables send a session's packets, if the
/// session may not leave by it. The kernel then drops all of them.
///
/// `None` also where no routing table decides: the session is bound to its interface, or has a
/// route of its own.
pub async fn led_astray(pinned: &Pinned, resolved: &ResolvedPin, host: &Host, routes: &RouteLookup) -> Option<String> {
    if !follows_routing_tables(resolved) {
        return None;
    }
    let answer = match &resolved.device {
        Some(vrf) => routes.route_in_vrf(pinned.far(), vrf.index, resolved.source).await,
        None => routes.route_to(pinned.far(), 0, resolved.source).await,
    };
    let route = answer
        .inspect_err(|error| warn!(of = %pinned, "cannot ask the kernel for its route to the station: {error:#}"))
        .ok()??;
    // For a route by nexthop objects the kernel may name no interface.
    let is_elsewhere = route.oif != 0 && !resolved.egress.iter().any(|interface| interface.index == route.oif);
    let name =
        || host.links.get(&route.oif).map_or_else(|| format!("interface {}", route.oif), |link| link.name.clone());
    is_elsewhere.then(name)
}

/// Returns the command that makes the routing tables send a session's packets by an interface that
/// it may leave by. `None` where no routing table decides.
pub fn back_on_its_way(target: &PinTarget, resolved: &ResolvedPin) -> Option<String> {
    let Interface { name: device, .. } = resolved.egress.first().filter(|_| follows_routing_tables(resolved))?;
    let vrf = resolved.device.as_ref().map(|vrf| format!(" vrf {vrf}")).unwrap_or_default();
    let route = format!("ip route add {} via GATEWAY dev {device}{vrf}", target.station.ip());
    Some(match target.role {
        Role::Connect => format!("{route}, or next-hop GATEWAY in the session view"),
        Role::Listen => route,
    })
}

/// True if the routing tables choose among the interfaces that a session may leave by.
fn follows_routing_tables(resolved: &ResolvedPin) -> bool {
    let is_bound = resolved.device.as_ref().is_some_and(|device| resolved.egress.contains(device));
    resolved.path.is_none() && !resolved.egress.is_empty() && !is_bound
}
