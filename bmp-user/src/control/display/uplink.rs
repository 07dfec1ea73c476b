//! The interface that a session leaves by, or is to leave by.

use std::net::IpAddr;

use tokio::runtime::Handle;

use super::{super::ControlContext, egress::EgressReport};
use crate::{
    config::{Config, SessionId, effective},
    link::Host,
};

/// Returns the interface that a session leaves by. Of a session that is down it is the one that is
/// configured, under its kernel name if it is there. `None` if it is not known.
///
/// Where a pin allows several interfaces or any, the kernel is asked which of them it chooses. So
/// this blocks: call it from a blocking thread.
pub(super) fn uplink(
    context: &ControlContext,
    config: &Config,
    host: &Host,
    id: &SessionId,
    egress: &EgressReport,
    local_address: Option<IpAddr>,
) -> Option<String> {
    if let [only] = &egress.interfaces[..] {
        return Some(only.clone());
    }
    let vrf = id.vpn_instance.as_deref().and_then(|name| host.vrf_named(name)).map(|vrf| vrf.index);
    let is_chosen = egress.any || !egress.interfaces.is_empty();
    if is_chosen && (id.vpn_instance.is_none() || vrf.is_some()) {
        let lookup = context.routes.route_in_vrf(id.station, vrf.unwrap_or(0), local_address);
        let route = Handle::current().block_on(lookup).ok().flatten();
        let name = route.and_then(|route| Some(host.links.get(&route.oif)?.name.clone()));
        return name.or_else(|| egress.interfaces.first().cloned());
    }
    let configured = config.bmp.sessions.get(id)?;
    let connect = effective(&config.bmp, id, configured).connect;
    let named = configured.egress_interfaces.first().map(String::as_str);
    let name = named.or(connect.as_ref().and_then(|connect| connect.interface()));
    match name {
        Some(name) => {
            let link = host.link_named(name, &config.interface_aliases);
            Some(link.map_or_else(|| name.to_owned(), |link| link.name.clone()))
        }
        // The interface that has the configured source address.
        None => {
            let address = connect.as_ref().and_then(|connect| connect.address())?;
            host.link_with_address(address).filter(|link| !link.loopback).map(|link| link.name.clone())
        }
    }
}
