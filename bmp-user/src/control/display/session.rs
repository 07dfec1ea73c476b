//! What `display bmp session` knows about a session. Field names are those of the JSON and are stable.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bmp_ebpf::Counters;
use serde::Serialize;

use super::{
    super::Context,
    binding::Held,
    enforcement::{Enforcing, Lost},
    guard::{self, Guard},
    names::egress_names,
};
use crate::{
    config::{Config, PUBLIC, Session as Configured, SessionId, Transport, effective},
    escape::Untrusted,
    feed::Counts,
    link::{DropCounters, Drops},
    pin::{self, Enforcement, State},
    session::{Phase, Session, Snapshot, defaults},
    wire::bmp::MessageType,
};

/// One session.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SessionReport {
    pub(super) station: IpAddr,
    pub(super) port: Option<u16>,
    /// `connect`, `listen`, or nothing where no port is configured.
    pub(super) role: Option<&'static str>,
    pub(super) vpn_instance: String,
    pub(super) alias: Option<String>,
    /// `bmpd` or `adopted`.
    pub(super) owner: &'static str,
    pub(super) process: Option<Process>,
    /// `up` or `down`.
    pub(super) state: &'static str,
    pub(super) phase: &'static str,
    pub(super) reason: Option<&'static str>,
    /// The reason in a sentence.
    pub(super) detail: Option<String>,
    /// The command that would mend it.
    pub(super) mend: Option<String>,
    /// Why a session that is up will be down soon: `hold-down`.
    pub(super) held: Option<Held>,
    pub(super) age_seconds: u64,
    pub(super) local_address: Option<IpAddr>,
    pub(super) local_port: Option<u16>,
    pub(super) established_count: u64,
    pub(super) retry_in_seconds: Option<f64>,
    pub(super) connect_interface: ConnectInterface,
    pub(super) egress: Egress,
    pub(super) kernel: Kernel,
    /// What the kernel tells of the connections; `None` where no program does.
    pub(super) connections: Option<Connections>,
    /// What the interfaces that it may leave by have dropped of all that was sent by them, also of what is counted as sent.
    pub(super) interface_drops: Vec<InterfaceDrops>,
    /// Other processes' connections to the station from before the pin, which nothing holds to it.
    pub(super) unheld: Unheld,
    /// Absent where this host connects.
    pub(super) guard: Option<Guard>,
    pub(super) messages: Messages,
    pub(super) feed: Feed,
    /// For the text alone.
    #[serde(skip)]
    pub(super) timers: String,
}

/// Which sessions are shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) vpn_instance: Option<String>,
    pub(super) station: Option<IpAddr>,
    pub(super) alias: Option<String>,
}

impl Wanted {
    fn has(&self, id: &SessionId) -> bool {
        let Self { vpn_instance, station, alias } = self;
        (vpn_instance.is_none() || id.vpn_instance == *vpn_instance)
            && station.is_none_or(|station| id.station == station)
            && (alias.is_none() || id.alias == *alias)
    }

    /// The sessions themselves, in the order of the configuration.
    pub(super) fn of<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = (&'a SessionId, &'a Configured)> {
        config.bmp.sessions.iter().filter(|(id, _)| self.has(id))
    }
}

/// Who owns an adopted session.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) name: Untrusted,
}

/// What was asked, and where it stands.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ConnectInterface {
    pub(super) interface: Option<String>,
    pub(super) address: Option<IpAddr>,
    /// `session`, `bmp` or `default`.
    pub(super) from: &'static str,
}

/// What it came to.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Egress {
    /// Whether the session may leave by any interface (of its VRF).
    pub(super) any: bool,
    /// Kernel names of those that it may leave by; none where `any` is true, and none where it is
    /// denied.
    pub(super) interfaces: Vec<String>,
    /// `kernel`, `cgroup` (the kernel, for the processes of one cgroup alone), `socket` or `none`.
    pub(super) enforcement: &'static str,
    /// Why it is not `kernel`.
    pub(super) why: Option<String>,
    /// What is lost in the kernel now, for all sessions.
    pub(super) lost: Option<Lost>,
    /// How often something was, since bmpd began.
    pub(super) losses: u64,
    /// For the text alone: the VRF that `any` is limited to.
    #[serde(skip)]
    pub(super) vrf: Option<String>,
}

/// What the kernel counted.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Kernel {
    pub(super) tx_bytes: u64,
    pub(super) tx_packets: u64,
    pub(super) tx_payload_bytes: u64,
    pub(super) rx_bytes: u64,
    pub(super) rx_packets: u64,
    pub(super) retransmits: u64,
    pub(super) denied: Denied,
    pub(super) foreign: Foreign,
}

/// What the kernel tells of the connections under the session's pin, bmpd's own and other processes'.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Connections {
    pub(super) open: usize,
    pub(super) established: u64,
    pub(super) closed: u64,
    /// Attempts that failed.
    pub(super) failed: u64,
}

/// Packets dropped and connects refused, by cause.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Denied {
    pub(super) interface: u64,
    pub(super) source: u64,
    pub(super) mark: u64,
    pub(super) no_pin: u64,
}

/// Other processes' connections to the same station and port.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Foreign {
    pub(super) tx_bytes: u64,
    pub(super) tx_packets: u64,
}

/// What one interface has dropped since it is there.
#[derive(Clone, Debug, Serialize)]
pub(super) struct InterfaceDrops {
    pub(super) name: String,
    /// By its queueing discipline.
    pub(super) queue: u64,
    /// By its driver.
    pub(super) device: u64,
}

/// Other processes' connections that are not held.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Unheld {
    pub(super) count: usize,
    /// The first [`UNHELD_SHOWN`].
    pub(super) connections: Vec<UnheldConnection>,
}

/// One of them.
#[derive(Clone, Debug, Serialize)]
pub(super) struct UnheldConnection {
    pub(super) pid: u32,
    pub(super) name: Untrusted,
    pub(super) local_address: IpAddr,
    pub(super) local_port: u16,
}

/// How many are shown.
const UNHELD_SHOWN: usize = 16;

/// Messages sent, by type.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Messages {
    pub(super) route_monitoring: u64,
    pub(super) statistics_report: u64,
    pub(super) peer_down: u64,
    pub(super) peer_up: u64,
    pub(super) initiation: u64,
    pub(super) termination: u64,
    pub(super) route_mirroring: u64,
}

/// How far the session has got in the journal.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Feed {
    pub(super) cursor: u64,
    pub(super) head: u64,
    pub(super) lag_bytes: u64,
    pub(super) dumps: u64,
    /// Peers that the station is not told of because it could not tell them from those of other inputs (`monitor relay` chooses).
    pub(super) refused_peers: usize,
}

/// The sessions that are wanted, in the order of the configuration. Each is looked at when its turn comes.
pub(super) fn sessions<'a>(
    context: &'a Context,
    config: &'a Config,
    wanted: &'a Wanted,
) -> impl Iterator<Item = SessionReport> + 'a {
    let head = context.feed.head();
    let mut drops = DropCounters::default();
    wanted.of(config).map(move |(id, configured)| {
        // Between a commit and the start of its task a session has not begun.
        let session = context.sessions.get(id).unwrap_or_else(|| Arc::new(Session::idle(context.pins.session(id))));
        report(context, config, id, configured, &session, head, &mut drops)
    })
}

fn report(
    context: &Context,
    config: &Config,
    id: &SessionId,
    configured: &Configured,
    session: &Session,
    (head, head_bytes): (u64, u64),
    drops: &mut DropCounters,
) -> SessionReport {
    let shown = session.status.snapshot();
    let now = Instant::now();
    let effective = effective(&config.bmp, id, configured);
    let state = session.pin.subscribe().borrow().clone();
    let counters = context.pins.counters(&session.pin);
    let (interfaces, any, pinned) = match &state {
        State::Ready(grant) => {
            let names = egress_names(&grant.resolved, &context.host.borrow());
            (names, grant.resolved.egress.is_empty(), true)
        }
        State::Down(_) => (Vec::new(), false, configured.port().is_some()),
        State::Pending => (Vec::new(), false, false),
    };
    let interface_drops = interface_drops(&state, &interfaces, drops);
    let held = Held::of(&session.pin, &state);
    // What the connection before ended for is no reason to be down now: the session waits for the next.
    let waiting = match shown.phase {
        Phase::Listening => waiting(id, configured, &shown, &state),
        _ if shown.reason.is_none() => waiting(id, configured, &shown, &state),
        _ => None,
    };
    let Enforcing { word: enforcement, why, lost, losses } = Enforcing::of(context, pinned);
    let (cursor, position) = session.status.cursor();
    // Without a connection there is nothing to be behind with.
    let (cursor, lag_bytes) =
        if shown.phase.is_up() { (cursor, head_bytes.saturating_sub(position)) } else { (cursor, 0) };
    SessionReport {
        station: id.station,
        port: configured.port(),
        role: configured.transport.map(|transport| match transport {
            Transport::Connect(_) => "connect",
            Transport::Listen(_) => "listen",
        }),
        vpn_instance: id.vpn_instance.clone().unwrap_or_else(|| PUBLIC.to_owned()),
        alias: id.alias.clone(),
        owner: if configured.adopt { "adopted" } else { "bmpd" },
        process: shown.process.map(|process| Process { pid: process.id, name: process.name }),
        state: if shown.phase.is_up() { "up" } else { "down" },
        phase: shown.phase.as_str(),
        reason: waiting.as_ref().map(|(reason, _)| *reason).or(shown.reason.map(|reason| reason.as_str())),
        detail: waiting.map(|(_, detail)| detail).or(shown.why),
        mend: shown.mend,
        held,
        age_seconds: now.duration_since(shown.since).as_secs(),
        local_address: shown.local.map(|local| local.ip()),
        local_port: shown.local.as_ref().map(SocketAddr::port),
        established_count: shown.established,
        retry_in_seconds: (shown.phase == Phase::Down)
            .then_some(shown.retry_at)
            .flatten()
            .map(|at| (at.saturating_duration_since(now).as_secs_f64() * 10.0).round() / 10.0),
        connect_interface: ConnectInterface {
            interface: effective.connect.as_ref().and_then(|connect| connect.interface()).map(str::to_owned),
            address: effective.connect.as_ref().and_then(|connect| connect.address()),
            from: effective.from.as_str(),
        },
        egress: Egress { any, interfaces, enforcement, why, lost, losses, vrf: id.vpn_instance.clone() },
        // Where no program counts them, the connections' own `TCP_INFO` does.
        kernel: match context.pins.datapath().enforcement() {
            Enforcement::Kernel | Enforcement::Cgroup { .. } if configured.adopt => {
                kernel(&adopted(&counters), counters.retransmits)
            }
            Enforcement::Kernel | Enforcement::Cgroup { .. } => kernel(&counters, counters.retransmits),
            Enforcement::Socket { .. } => kernel(&counters, shown.retransmits + shown.live_retransmits),
        },
        connections: context.pins.datapath().enforcement().is_by_programs().then(|| {
            let told = session.pin.connections();
            let told = told.borrow();
            Connections {
                open: told.open.len(),
                established: told.established,
                closed: told.closed,
                failed: told.failed,
            }
        }),
        interface_drops,
        unheld: unheld(&session.pin.unheld()),
        guard: guard::report(context, configured, session),
        messages: messages(session.status.messages()),
        timers: timers(configured),
        feed: Feed { cursor, head, lag_bytes, dumps: shown.dumps, refused_peers: session.status.refused().len() },
    }
}

/// `names`: what the interfaces are called now, in the order of the pin.
fn interface_drops(state: &State, names: &[String], drops: &mut DropCounters) -> Vec<InterfaceDrops> {
    let State::Ready(grant) = state else { return Vec::new() };
    let named = grant.resolved.egress.iter().zip(names);
    let of = named.filter_map(|((index, _), name)| Some((name, drops.of(*index)?)));
    of.map(|(name, Drops { queue, device })| InterfaceDrops { name: name.clone(), queue, device }).collect()
}

fn unheld(all: &[pin::Unheld]) -> Unheld {
    let shown = all.iter().take(UNHELD_SHOWN).map(|one| UnheldConnection {
        pid: one.process,
        name: one.name.clone(),
        local_address: one.local.ip(),
        local_port: one.local.port(),
    });
    Unheld { count: all.len(), connections: shown.collect() }
}

/// What a session waits for that nothing is the matter with, and that in a sentence.
pub(in crate::control) fn waiting(
    id: &SessionId,
    configured: &Configured,
    shown: &Snapshot,
    state: &State,
) -> Option<(&'static str, String)> {
    let port = configured.port()?;
    let SessionId { station, .. } = id;
    match shown.phase {
        Phase::Listening => {
            let source = match state {
                State::Ready(grant) => grant.resolved.source,
                State::Pending | State::Down(_) => None,
            };
            let own = source.map_or("this host".to_owned(), |source| source.to_string());
            let again = match (shown.reason, &shown.why) {
                (Some(reason), Some(why)) => format!(" again; its last connection ended: {reason}: {why}"),
                _ => String::new(),
            };
            Some(("waiting-for-station", format!("{station} has not connected to {own} port {port}{again}")))
        }
        Phase::Connecting if configured.adopt => {
            Some(("waiting-for-daemon", format!("no process of this host has connected to {station} port {port}")))
        }
        Phase::Down if shown.retry_at.is_some() => {
            Some(("initial-delay", "the first attempt to connect is not due yet (initial-delay)".to_owned()))
        }
        _ => None,
    }
}

fn timers(configured: &Configured) -> String {
    let seconds = |time: Duration| format!("{} s", time.as_secs());
    let retry = configured.connect_retry;
    let (first, longest) = retry.map_or((defaults::RETRY_FIRST, defaults::RETRY_LONGEST), |r| (r.first, r.longest));
    let keepalive = match configured.keepalive.unwrap_or(defaults::KEEPALIVE) {
        Duration::ZERO => "none".to_owned(),
        time => seconds(time),
    };
    let mut timers = format!("retry {} to {}, keepalive {keepalive}", seconds(first), seconds(longest));
    for (name, time) in [("initial delay", configured.initial_delay), ("flap damping", configured.flap_damping)] {
        if !time.is_zero() {
            timers += &format!(", {name} {}", seconds(time));
        }
    }
    if !configured.hold_down.is_zero() {
        timers += &format!(", hold-down {} ms", configured.hold_down.as_millis());
    }
    timers
}

/// The traffic of another process is what an adopted session consists of.
fn adopted(counters: &Counters) -> Counters {
    Counters {
        own_tx: counters.foreign_tx,
        own_rx: counters.foreign_rx,
        foreign_tx: counters.own_tx,
        foreign_rx: counters.own_rx,
        ..*counters
    }
}

pub(super) fn kernel(counters: &Counters, retransmits: u64) -> Kernel {
    Kernel {
        tx_bytes: counters.own_tx.bytes,
        tx_packets: counters.own_tx.packets,
        tx_payload_bytes: counters.own_tx.payload_bytes,
        rx_bytes: counters.own_rx.bytes,
        rx_packets: counters.own_rx.packets,
        retransmits,
        denied: Denied {
            interface: counters.denied_interface,
            source: counters.denied_source,
            mark: counters.denied_mark,
            no_pin: counters.denied_no_pin,
        },
        foreign: Foreign { tx_bytes: counters.foreign_tx.bytes, tx_packets: counters.foreign_tx.packets },
    }
}

fn messages(counts: Counts) -> Messages {
    Messages {
        route_monitoring: counts.of(MessageType::RouteMonitoring),
        statistics_report: counts.of(MessageType::StatisticsReport),
        peer_down: counts.of(MessageType::PeerDown),
        peer_up: counts.of(MessageType::PeerUp),
        initiation: counts.of(MessageType::Initiation),
        termination: counts.of(MessageType::Termination),
        route_mirroring: counts.of(MessageType::RouteMirroring),
    }
}
