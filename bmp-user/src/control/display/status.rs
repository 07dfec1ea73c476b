//! What the status page shows: the device, its uplinks, and each session on the interface that it
//! leaves by.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{
        ControlContext,
        json::{AnswerSubject, JsonAnswer},
        link_state::link_state,
    },
    egress::{DeniedCounters, Enforcer},
    session::{self, SessionFilter, SessionReason, SessionReport, UpDown, UplinkLookup},
};
use crate::{config::SessionId, link::Host, sys};

/// One event of `/api/v1/events`. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct StatusReport {
    sysname: String,
    version: &'static str,
    /// Milliseconds since the epoch.
    time_ms: u64,
    interfaces: Vec<Uplink>,
    sessions: Vec<StatusSession>,
}

/// An interface that sessions leave by, or are to leave by.
#[derive(Clone, Debug, JsonSchema, Serialize)]
struct Uplink {
    /// Kernel name, or the configured name of an interface that is not there.
    name: String,
    /// `up`, `no carrier`, `down` or `absent`.
    state: &'static str,
    addresses: Vec<IpAddr>,
}

/// A session on its interface.
#[derive(Clone, Debug, JsonSchema, Serialize)]
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
    /// IP bytes; `None` where nothing counts them.
    tx_bytes: Option<u64>,
    /// `None` while the session is down, and where another process tells the station.
    lag_bytes: Option<u64>,
    /// Percent of the routes of the dump that is on its way, to a tenth. `None` without a dump, and
    /// for one that only tells what changed.
    dump_percent: Option<f64>,
    /// Of all causes; `None` where nothing counts them.
    denied_packets: Option<u64>,
}

impl ControlContext {
    /// Writes the status of sessions and their interfaces as one line of JSON. Blocks: call it from
    /// a blocking thread.
    ///
    /// # Errors
    ///
    /// The writer fails.
    pub(crate) fn write_status(&self, out: &mut dyn Write) -> io::Result<()> {
        let answer = JsonAnswer::new(AnswerSubject::ApiEvents, StatusReport::of(self));
        serde_json::to_writer(out, &answer).map_err(io::Error::from)
    }
}

impl StatusReport {
    fn of(context: &ControlContext) -> Self {
        let config = context.store.running();
        let host = context.host.borrow().clone();
        let reports = session::all(context, &config, &SessionFilter::default(), UplinkLookup::Done);
        let ids = config.bmp.sessions.keys();
        let sessions: Vec<_> = ids.zip(reports).map(|(id, report)| StatusSession::of(id, report)).collect();
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

impl Uplink {
    fn of(name: String, host: &Host) -> Self {
        let link = host.links.values().find(|link| link.name == name);
        let state = link_state(link);
        let addresses = link.map(|link| link.addresses.iter().filter(|address| address.global));
        Self { name, state, addresses: addresses.into_iter().flatten().map(|address| address.ip).collect() }
    }
}

impl StatusSession {
    fn of(id: &SessionId, report: SessionReport) -> Self {
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
            interface: report.uplink,
            enforcement: report.egress.enforcement,
            lost: report.egress.lost.map(|lost| lost.why),
            local_address: report.local_address,
            age_seconds: report.age_seconds,
            established_count: report.established_count,
            source_changes: report.source_changes,
            tx_bytes: report.kernel.tx_bytes,
            dump_percent: report.feed.as_ref().and_then(|feed| feed.dump.as_ref()?.percent),
            lag_bytes: report.feed.and_then(|feed| feed.lag_bytes),
            denied_packets: report.kernel.denied.as_ref().map(DeniedCounters::total),
        }
    }
}
