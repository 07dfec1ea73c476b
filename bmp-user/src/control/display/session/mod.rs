//! `display bmp session`: the settings of each session, its state, and the counters of the kernel.

mod gather;
mod routers;
mod text;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::IpAddr,
};

use schemars::JsonSchema;
use serde::Serialize;

pub(super) use gather::{SessionFilter, UplinkLookup};
pub(super) use routers::{RouterConnectionReport, RoutersReport};

use super::{
    super::{
        ControlContext,
        json::{AnswerSubject, Elements, JsonAnswer},
        waiting::Wait,
        words::{VpnInstanceName, schema_is_words, words},
    },
    Rendering,
    egress::{EgressReport, KernelCounters},
    guard::StrangerGuard,
    hold_down::HoldDownReport,
    layout::{heading, table},
    monitored::MonitoredFamilies,
};
use crate::{
    config::{Config, SessionId, SourceLevel},
    escape::{Untrusted, escaped_lines},
    feed::FrameCounts,
    pin::Reason,
    session::SessionPhase,
    wire::{bgp::Family, bmp::MessageType},
};

/// One session. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct SessionReport {
    pub(super) station: IpAddr,
    /// `None` where no port is configured.
    pub(super) port: Option<u16>,
    /// Whose `port` is; `None` where no port is configured.
    pub(super) role: Option<SessionRole>,
    pub(super) vpn_instance: VpnInstanceName,
    pub(super) alias: Option<String>,
    /// What the operator says that the session is for.
    pub(super) description: Option<String>,
    pub(super) owner: SessionOwner,
    /// The process that opened an adopted session.
    pub(super) process: Option<OwnerProcess>,
    pub(super) state: UpDown,
    pub(super) phase: SessionPhase,
    /// Why the session is down, or what it waits for.
    pub(super) reason: Option<SessionReason>,
    /// The reason in a sentence.
    pub(super) detail: Option<String>,
    /// The command that would mend it.
    pub(super) mend: Option<String>,
    /// Why a session that is up will be down soon: `hold-down`.
    pub(super) held: Option<HoldDownReport>,
    /// Seconds since the session went up or down.
    pub(super) age_seconds: u64,
    /// Kernel name of the interface that the session leaves by, or is to leave by. `None` if it is
    /// not known.
    pub(super) uplink: Option<String>,
    pub(super) local_address: Option<IpAddr>,
    pub(super) local_port: Option<u16>,
    pub(super) established_count: u64,
    /// Connections that had another source than the one before.
    pub(super) source_changes: u64,
    /// Seconds, to a tenth.
    pub(super) retry_in_seconds: Option<f64>,
    pub(super) connect_interface: SourceReport,
    /// The text of the Initiation messages. `None` where none is configured, and where another
    /// process sends them.
    pub(super) initiation_message: Option<String>,
    /// Routes a second that a dump may send. `None`: any number, or another process tells the
    /// station.
    pub(super) dump_rate: Option<u32>,
    /// `None` where connections are not signed by a key chain.
    pub(super) keychain: Option<KeychainReport>,
    /// True if connections begin with a header of the PROXY protocol.
    pub(super) proxy_protocol: bool,
    /// `None` where connections are not encrypted.
    pub(super) tls: Option<SessionTlsReport>,
    pub(super) egress: EgressReport,
    /// Seconds since an operator reset the counters. `None` if nobody did.
    pub(super) counters_reset_seconds: Option<u64>,
    pub(super) kernel: KernelCounters,
    /// What the kernel tells of the connections; `None` where no program does.
    pub(super) connections: Option<ConnectionCounts>,
    /// What the interfaces that the session may leave by have dropped, of all that was sent by
    /// them. The kernel counters have counted it as sent.
    pub(super) interface_drops: Vec<InterfaceDrops>,
    /// Other processes' connections to the station from before the pin, which nothing holds to it.
    /// `None` where bmpd does not look for them.
    pub(super) unheld: Option<UnheldReport>,
    /// `None` where this host connects.
    pub(super) guard: Option<StrangerGuard>,
    /// `None` where another process sends them.
    pub(super) messages: Option<SentMessages>,
    /// `None` where another process tells the station.
    pub(super) feed: Option<FeedProgress>,
    /// `None` where one connection is for all.
    pub(super) routers: Option<RoutersReport>,
    /// Text only.
    #[serde(skip)]
    pub(super) timers: String,
    /// Number of peers that the session reports, by family. Text only.
    #[serde(skip)]
    pub(super) monitored_peers: BTreeMap<Family, usize>,
}

/// Which end connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionRole {
    /// This host connects: the port is the station's.
    Connect,
    /// The station connects: the port is this host's.
    Listen,
}

words!(SessionRole { Connect => "connect", Listen => "listen" });

/// Who opens the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionOwner {
    Bmpd,
    /// Another process.
    Adopted,
}

words!(SessionOwner { Bmpd => "bmpd", Adopted => "adopted" });

/// Whether the station is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpDown {
    Up,
    Down,
}

words!(UpDown { Up => "up", Down => "down" });

/// Why a session is not up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum SessionReason {
    /// Nothing is the matter.
    Waits(Wait),
    Fails(Reason),
}

schema_is_words!(SessionReason, [&Reason::ALL.map(Reason::as_str)[..], Wait::WORDS].concat());

impl SessionReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Waits(wait) => wait.as_str(),
            Self::Fails(reason) => reason.as_str(),
        }
    }
}

/// The process that opened an adopted session.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct OwnerProcess {
    pub(super) pid: u32,
    pub(super) name: Untrusted,
}

/// The connect-interface in force, and the view that it is configured in.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct SourceReport {
    pub(super) interface: Option<String>,
    pub(super) address: Option<IpAddr>,
    pub(super) from: SourceLevel,
}

/// The key chain of a session, and how far it is.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct KeychainReport {
    pub(super) name: String,
    /// The key that signs what is sent. `None` without a connection, and with TCP MD5.
    pub(super) current_key: Option<u8>,
    /// The key that the station is asked to sign with.
    pub(super) requested_key: Option<u8>,
    /// The key that is preferred next. `None` if no other ever is.
    pub(super) next_key: Option<u8>,
    pub(super) next_key_in_seconds: Option<u64>,
    /// `None` without a connection or a listener, and with TCP MD5.
    pub(super) segments: Option<SignedSegments>,
}

/// The TLS of a session.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct SessionTlsReport {
    /// The name of the TLS profile: that of the connection, or that of the next one.
    pub(super) profile: String,
    /// The cipher suite of the connection. `None` without one.
    pub(super) cipher: Option<String>,
    /// True if the kernel encrypts the connection, false if bmpd does. `None` without one.
    pub(super) in_kernel: Option<bool>,
    /// The subject of the station's certificate. `None` without a connection, and where the station
    /// presented none.
    pub(super) peer: Option<Untrusted>,
    /// Seconds until this device's certificate expires, negative once it has. `None` where the
    /// profile has none, or could not be read.
    pub(super) certificate_expires_in_seconds: Option<i64>,
}

/// Segments that the kernel has received, of the connection or at the listener.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct SignedSegments {
    pub(super) good: u64,
    /// Dropped: their signature is wrong.
    pub(super) bad: u64,
    /// Dropped: they name a key that is not there.
    pub(super) unknown_key: u64,
    /// Dropped: they have no signature.
    pub(super) unsigned: u64,
}

/// Connections under the session's pin, bmpd's own and other processes'.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct ConnectionCounts {
    pub(super) open: usize,
    pub(super) established: u64,
    pub(super) closed: u64,
    /// Attempts that failed.
    pub(super) failed: u64,
}

/// Packets that an interface has dropped since it was made.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct InterfaceDrops {
    pub(super) name: String,
    /// By its queueing discipline, if it has one that counts.
    pub(super) queue: Option<u64>,
    /// By its driver.
    pub(super) device: u64,
}

/// Other processes' connections that no pin holds.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct UnheldReport {
    pub(super) count: usize,
    /// The first 16.
    pub(super) connections: Vec<UnheldConnection>,
}

/// A connection that no pin holds.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct UnheldConnection {
    pub(super) pid: u32,
    pub(super) name: Untrusted,
    pub(super) local_address: IpAddr,
    pub(super) local_port: u16,
}

/// BMP messages sent, by type.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct SentMessages {
    pub(super) route_monitoring: u64,
    pub(super) statistics_report: u64,
    pub(super) peer_down: u64,
    pub(super) peer_up: u64,
    pub(super) initiation: u64,
    pub(super) termination: u64,
    pub(super) route_mirroring: u64,
}

impl SentMessages {
    fn of(counts: FrameCounts) -> Self {
        Self {
            route_monitoring: counts.of(MessageType::RouteMonitoring),
            statistics_report: counts.of(MessageType::StatisticsReport),
            peer_down: counts.of(MessageType::PeerDown),
            peer_up: counts.of(MessageType::PeerUp),
            initiation: counts.of(MessageType::Initiation),
            termination: counts.of(MessageType::Termination),
            route_mirroring: counts.of(MessageType::RouteMirroring),
        }
    }
}

/// How far the session has got in the journal.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct FeedProgress {
    /// Number of the next message for the station. `None` before the first connection.
    pub(super) cursor: Option<u64>,
    /// Number of the next message that comes into the journal.
    pub(super) head: u64,
    /// `None` while the session is down.
    pub(super) lag_bytes: Option<u64>,
    /// `buffer-limit`. `None` where the journal alone is the limit.
    pub(super) lag_limit_bytes: Option<u64>,
    /// Passes: how many times the session sent the state instead of the journal.
    pub(super) dumps: u64,
    /// The dump that is on its way, or about to begin.
    pub(super) dump: Option<DumpReport>,
    /// Peers that the session hides, because the station could not tell them from those of other
    /// inputs (`monitor relay` chooses).
    pub(super) refused_peers: usize,
}

/// How far a dump is.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct DumpReport {
    /// `None` before the dump begins, and for one that only tells what changed.
    pub(super) routes_told: Option<u64>,
    /// Routes to tell in all.
    pub(super) routes_total: Option<u64>,
    /// Percent of the routes, to a tenth.
    pub(super) percent: Option<f64>,
    /// `None` where nothing is measured yet.
    pub(super) remaining_seconds: Option<u64>,
    /// Until the first dump of the connection begins. Seconds, to a tenth.
    pub(super) begins_in_seconds: Option<f64>,
}

/// What counters begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CountedFrom {
    /// The first count, which metrics need.
    Start,
    /// The last `reset bmp session A counters`.
    Reset,
}

/// Writes the sessions that the filter selects, each as it is when its turn comes. As JSON this
/// blocks: call it from a blocking thread.
pub(super) fn write(
    context: &ControlContext,
    config: &Config,
    filter: &SessionFilter,
    rendering: Rendering,
    out: &mut dyn Write,
) -> io::Result<()> {
    if rendering == Rendering::Json {
        let sessions = gather::sessions(context, config, filter, UplinkLookup::Done, CountedFrom::Reset, None);
        return JsonAnswer::new(AnswerSubject::BmpSession, Elements::new(sessions)).write(out);
    }
    let is_up =
        |id: &SessionId| context.sessions.get(id).is_some_and(|session| session.status.snapshot().phase.is_up());
    let ids = || filter.select(config).map(|(id, _)| id);
    write!(out, "{}", totals(ids().count(), ids().filter(|id| is_up(id)).count()))?;
    if rendering == Rendering::Table {
        let reports = gather::sessions(context, config, filter, UplinkLookup::Omitted, CountedFrom::Reset, None);
        return write!(out, "{}", escaped_lines(&rows(reports)));
    }
    let monitored = MonitoredFamilies::of(&context.feed);
    for report in gather::sessions(context, config, filter, UplinkLookup::Omitted, CountedFrom::Reset, Some(&monitored))
    {
        write!(out, "{}", escaped_lines(&report.to_string()))?;
    }
    Ok(())
}

/// Returns the sessions that the filter selects, with whole counters.
pub(super) fn all(
    context: &ControlContext,
    config: &Config,
    filter: &SessionFilter,
    uplinks: UplinkLookup,
) -> Vec<SessionReport> {
    gather::sessions(context, config, filter, uplinks, CountedFrom::Start, None).collect()
}

/// Returns the lines in front of the sessions.
pub(super) fn totals(sessions: usize, up: usize) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = heading(&mut text, "Total number of BMP session", sessions);
    let _ = heading(&mut text, "Session in up state", up);
    text
}

/// Returns the table: a row for each session, and one for each router that has its own connection.
pub(super) fn rows(reports: impl Iterator<Item = SessionReport>) -> String {
    let headings = ["Session", "Alias", "State", "Age", "VPN", "Reason"].map(str::to_owned);
    let mut text = "\n".to_owned();
    // Writing to a string cannot fail.
    let _ = table(&mut text, std::iter::once(headings).chain(reports.flat_map(|report| report.rows())));
    text
}
