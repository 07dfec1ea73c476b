//! What the status page shows: the device, its uplinks, and each session on the interface that it
//! leaves by.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use tokio::runtime::Handle;

use super::{
    super::ControlContext,
    egress::Enforcer,
    session::{self, SessionFilter, SessionReason, SessionReport, UpDown},
};
use crate::{
    config::{Config, SessionId, effective},
    link::{Host, Link},
    sys,
};

/// One event of `/api/v1/events`. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, Serialize)]
struct StatusReport {
    sysname: String,
    version: &'static str,
    /// Milliseconds since the epoch.
    time_ms: u64,
    interfaces: Vec<Uplink>,
    sessions: Vec<StatusSession>,
}

/// An interface that sessions leave by, or are to leave by.
#[derive(Clone, Debug, Serialize)]
struct Uplink {
    /// Kernel name, or the configured name of an interface that is not there.
    name: String,
    /// `up`, `no carrier`, `down` or `absent`.
    state: &'static str,
    addresses: Vec<IpAddr>,
}

/// A session on its interface.
#[derive(Clone, Debug, Serialize)]
struct StatusSession {
    name: String,
    station: IpAddr,
    vpn_instance: String,
    alias: Option<String>,
    state: UpDown,
    reason: Option<SessionReason>,
    /// True if nothing is the matter with a session that is not up.
    waits: bool,
    detail: Option<String>,
    mend: Option<String>,
    /// The interface that the session leaves by, or is to leave by. `None` if it is not known.
    interface: Option<String>,
    enforcement: Enforcer,
    /// What the kernel should enforce and does not.
    lost: Option<String>,
    local_address: Option<IpAddr>,
    age_seconds: u64,
    established_count: u64,
    source_changes: u64,
    /// IP bytes.
    tx_bytes: u64,
    lag_bytes: u64,
    /// Of all causes.
    denied_packets: u64,
}

impl ControlContext {
    /// Writes the status of sessions and their interfaces as one line of JSON. Blocks: call it from
    /// a blocking thread.
    ///
    /// # Errors
    ///
    /// The writer fails.
    pub(crate) fn write_status(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer(out, &StatusReport::of(self)).map_err(io::Error::from)
    }
}

impl StatusReport {
    fn of(context: &ControlContext) -> Self {
        let config = context.store.running();
        let host = context.host.borrow().clone();
        let reports = session::all(context, &config, &SessionFilter::default());
        let ids = config.bmp.sessions.keys();
        let sessions: Vec<_> = ids
            .zip(reports)
            .map(|(id, report)| {
                let interface = interface_of(context, &config, &host, id, &report);
                StatusSession::of(id, report, interface)
            })
            .collect();
        let mut interfaces = BTreeMap::new();
        for name in sessions.iter().filter_map(|session| session.interface.clone()) {
            interfaces.entry(name.clone()).or_insert_with(|| Uplink::of(name, &host));
        }
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            sysname: config.sysname.clone().unwrap_or_else(sys::host_name),
            version: env!("CARGO_PKG_VERSION"),
            time_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            interfaces: interfaces.into_values().collect(),
            sessions,
        }
    }
}

/// Returns the interface that a session leaves by. Of a session that is down it is the one that is
/// configured, under its kernel name if it is there.
///
/// Where a pin allows several interfaces or any, the kernel is asked which of them it chooses.
fn interface_of(
    context: &ControlContext,
    config: &Config,
    host: &Host,
    id: &SessionId,
    report: &SessionReport,
) -> Option<String> {
    if let [only] = &report.egress.interfaces[..] {
        return Some(only.clone());
    }
    let vrf = id.vpn_instance.as_deref().and_then(|name| host.vrf_named(name)).map(|vrf| vrf.index);
    let is_chosen = report.egress.any || !report.egress.interfaces.is_empty();
    if is_chosen && (id.vpn_instance.is_none() || vrf.is_some()) {
        let lookup = context.routes.route_in_vrf(id.station, vrf.unwrap_or(0), report.local_address);
        let route = Handle::current().block_on(lookup).ok().flatten();
        let name = route.and_then(|route| Some(host.links.get(&route.oif)?.name.clone()));
        return name.or_else(|| report.egress.interfaces.first().cloned());
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

impl Uplink {
    fn of(name: String, host: &Host) -> Self {
        let link = host.links.values().find(|link| link.name == name);
        let state = match link {
            None => "absent",
            Some(Link { up: false, .. }) => "down",
            Some(Link { carrier: false, .. }) => "no carrier",
            Some(_) => "up",
        };
        let addresses = link.map(|link| link.addresses.iter().filter(|address| address.global));
        Self { name, state, addresses: addresses.into_iter().flatten().map(|address| address.ip).collect() }
    }
}

impl StatusSession {
    fn of(id: &SessionId, report: SessionReport, interface: Option<String>) -> Self {
        let denied = &report.kernel.denied;
        Self {
            name: id.to_string(),
            station: report.station,
            vpn_instance: report.vpn_instance.to_string(),
            alias: report.alias,
            state: report.state,
            reason: report.reason,
            waits: matches!(report.reason, Some(SessionReason::Waits(_))),
            detail: report.detail,
            mend: report.mend,
            interface,
            enforcement: report.egress.enforcement,
            lost: report.egress.lost.map(|lost| lost.why),
            local_address: report.local_address,
            age_seconds: report.age_seconds,
            established_count: report.established_count,
            source_changes: report.source_changes,
            tx_bytes: report.kernel.tx_bytes,
            lag_bytes: report.feed.lag_bytes,
            denied_packets: denied.interface + denied.source + denied.mark + denied.no_pin,
        }
    }
}
