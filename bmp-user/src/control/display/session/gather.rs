//! From a running session to its report.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use bmp_ebpf::Counters;

use super::{
    super::{
        super::{ControlContext, waiting::WaitReason, words::VpnInstanceName},
        egress::{EgressReport, KernelCounters},
        guard::StrangerGuard,
        hold_down::HoldDownReport,
        layout::tenths,
        monitored::MonitoredFamilies,
        uplink::uplink,
    },
    ConnectionCounts, CountedFrom, DumpReport, FeedProgress, InterfaceDrops, KeychainReport, OwnerProcess,
    RoutersReport, SentMessages, SessionOwner, SessionReason, SessionReport, SessionRole, SessionTlsReport,
    SignedSegments, SourceReport, UnheldConnection, UnheldReport, UpDown,
};
use crate::{
    config::{
        Config, ConnectRetry, KeepaliveProbes, SessionConfig, SessionId, SessionKeepalive, Transport, dump_rate,
        effective, initiation_message,
    },
    feed::{DumpProgress, JournalPosition},
    link::{DropCounters, Drops, Host},
    pin::{EarlierConnection, PinState},
    session::{CounterBaseline, EndedConnections, SessionHandle, SessionPhase, SessionSnapshot, ShownDump},
    signing::{self, KeyReport},
    tls::{TlsProfiles, TlsReport},
};

/// How many connections that no pin holds are named.
const UNHELD_SHOWN: usize = 16;

/// Which sessions are shown: those that have everything that is given.
#[derive(Clone, Debug, Default)]
pub(in crate::control::display) struct SessionFilter {
    pub(in crate::control::display) vpn_instance: Option<String>,
    pub(in crate::control::display) station: Option<IpAddr>,
    pub(in crate::control::display) alias: Option<String>,
}

impl SessionFilter {
    fn is_met_by(&self, id: &SessionId) -> bool {
        let Self { vpn_instance, station, alias } = self;
        (vpn_instance.is_none() || id.vpn_instance == *vpn_instance)
            && station.is_none_or(|station| id.station == station)
            && (alias.is_none() || id.alias == *alias)
    }

    /// Returns the sessions in the order of the configuration.
    pub(in crate::control::display) fn select<'a>(
        &'a self,
        config: &'a Config,
    ) -> impl Iterator<Item = (&'a SessionId, &'a SessionConfig)> {
        config.bmp.sessions.iter().filter(|(id, _)| self.is_met_by(id))
    }
}

/// Whether the uplink of each session is looked up. That may ask the kernel for a route, which
/// blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control::display) enum UplinkLookup {
    /// Call this from a blocking thread.
    Done,
    /// No report has an uplink.
    Omitted,
}

/// Reports on the selected sessions in the order of the configuration, each when the iterator comes
/// to it. Without `monitored`, a report lacks the number of monitored peers.
pub(super) fn sessions<'a>(
    context: &'a ControlContext,
    config: &'a Config,
    filter: &'a SessionFilter,
    uplinks: UplinkLookup,
    counted_from: CountedFrom,
    monitored: Option<&'a MonitoredFamilies>,
) -> impl Iterator<Item = SessionReport> + 'a {
    let host = (uplinks == UplinkLookup::Done).then(|| context.host.borrow().clone());
    let (head, drops) = (context.feed.head(), DropCounters::default());
    let mut gather = Gather { context, config, host, counted_from, head, drops };
    filter.select(config).map(move |(id, configured)| {
        // Between a commit and the start of its task a session has not begun.
        let session =
            context.sessions.get(id).unwrap_or_else(|| Arc::new(SessionHandle::idle(context.pins.session(id))));
        let monitored_peers = monitored.map(|monitored| monitored.count(configured)).unwrap_or_default();
        SessionReport { monitored_peers, ..gather.report(id, configured, &session) }
    })
}

/// The parts that the reports of one answer share.
struct Gather<'a> {
    context: &'a ControlContext,
    config: &'a Config,
    /// For the lookup of uplinks; `None` where they are left out.
    host: Option<Arc<Host>>,
    counted_from: CountedFrom,
    /// Messages and bytes of the journal, when the answer was begun.
    head: JournalPosition,
    drops: DropCounters,
}

impl Gather<'_> {
    fn report(&mut self, id: &SessionId, configured: &SessionConfig, session: &SessionHandle) -> SessionReport {
        let context = self.context;
        let shown = session.status.snapshot();
        let now = Instant::now();
        let feed = (!configured.adopt).then(|| self.feed(configured, session, &shown));
        let effective = effective(&self.config.bmp, id, configured);
        let state = session.pin.state();
        let (resolved, is_pinned) = match &state {
            PinState::Ready(grant) => (Some(&grant.resolved), true),
            PinState::Down(_) => (None, configured.port().is_some()),
            PinState::Pending => (None, false),
        };
        let egress = EgressReport::of(context, resolved, is_pinned, id.vpn_instance.clone());
        let local_address = shown.local.map(|local| local.ip());
        let host = self.host.as_ref();
        let uplink = host.and_then(|host| uplink(context, self.config, host, id, &egress, local_address));
        let interface_drops = self.interface_drops(&state, &egress.interfaces);
        // While a session listens, the end of its last connection is no reason to be down: it
        // waits.
        let waits = shown.phase == SessionPhase::Listening || shown.reason.is_none();
        let waiting = waits.then(|| WaitReason::of(id, configured, &shown, &state)).flatten();
        let (reason, detail) = match waiting {
            Some(WaitReason { wait, detail }) => (Some(SessionReason::Waits(wait)), Some(detail)),
            None => (shown.reason.map(SessionReason::Fails), shown.why),
        };
        let retry_at = shown.retry_at.filter(|_| shown.phase == SessionPhase::Down);
        let segments_again = (shown.established > 0).then_some(shown.retransmits + shown.live_retransmits);
        let baseline = session.baseline().filter(|_| self.counted_from == CountedFrom::Reset);
        let baseline = baseline.as_ref();
        let sent = session.status.messages();
        SessionReport {
            station: id.station,
            port: configured.port(),
            role: configured.transport.map(|transport| match transport {
                Transport::Connect(_) => SessionRole::Connect,
                Transport::Listen(_) => SessionRole::Listen,
            }),
            vpn_instance: VpnInstanceName(id.vpn_instance.clone()),
            alias: id.alias.clone(),
            description: configured.description.as_ref().map(|text| text.as_str().to_owned()),
            owner: if configured.adopt { SessionOwner::Adopted } else { SessionOwner::Bmpd },
            process: shown.process.map(|process| OwnerProcess { pid: process.id, name: process.name }),
            state: if shown.phase.is_up() { UpDown::Up } else { UpDown::Down },
            phase: shown.phase,
            reason,
            detail,
            mend: shown.mend,
            held: HoldDownReport::of(&session.pin),
            age_seconds: now.duration_since(shown.since).as_secs(),
            uplink,
            local_address,
            // Each router has a port of its own.
            local_port: shown.local.as_ref().map(SocketAddr::port).filter(|_| configured.per_router.is_none()),
            established_count: shown.established,
            source_changes: shown.source_changes,
            retry_in_seconds: retry_at.map(|at| tenths(at.saturating_duration_since(now))),
            connect_interface: SourceReport {
                interface: effective.connect.as_ref().and_then(|connect| connect.interface()).map(str::to_owned),
                address: effective.connect.as_ref().and_then(|connect| connect.address()),
                from: effective.from,
            },
            initiation_message: initiation_message(&self.config.bmp, configured)
                .filter(|_| !configured.adopt)
                .map(|text| text.as_str().to_owned()),
            dump_rate: dump_rate(&self.config.bmp, configured).filter(|_| !configured.adopt).map(NonZeroU32::get),
            keychain: keychain(self.config, configured, shown.keys),
            proxy_protocol: configured.proxy_protocol,
            tls: tls(&context.tls, configured, shown.tls),
            egress,
            counters_reset_seconds: baseline.map(|baseline| now.saturating_duration_since(baseline.at).as_secs()),
            kernel: self.kernel(configured, session, is_pinned, segments_again, baseline),
            connections: self.connections(session, baseline),
            interface_drops,
            unheld: self.looks_for_earlier(configured, &state).then(|| unheld(&session.pin.earlier_connections())),
            guard: StrangerGuard::of(context, configured, session),
            messages: (!configured.adopt)
                .then(|| SentMessages::of(baseline.map_or(sent, |baseline| baseline.messages_since(&sent)))),
            feed,
            routers: RoutersReport::of(configured, session, self.counted_from, self.head.bytes),
            timers: timers(configured),
            monitored_peers: Default::default(),
        }
    }

    /// `segments_again` is the sum of the own connections' `TCP_INFO`. It stands in where no
    /// program counts.
    fn kernel(
        &self,
        configured: &SessionConfig,
        session: &SessionHandle,
        is_pinned: bool,
        segments_again: Option<u64>,
        baseline: Option<&CounterBaseline>,
    ) -> KernelCounters {
        let counters = self.context.pins.counters(&session.pin);
        let counters = baseline.map_or(counters, |baseline| baseline.kernel_since(&counters));
        let counters = if configured.adopt { with_owner_as_own(&counters) } else { counters };
        let counted = KernelCounters::of_pin(self.context, &counters, is_pinned);
        if self.has_programs() || configured.adopt {
            return counted;
        }
        let since = |again| baseline.map_or(again, |baseline| baseline.retransmits_since(again));
        KernelCounters { retransmits: segments_again.map(since), ..counted }
    }

    fn has_programs(&self) -> bool {
        self.context.pins.datapath().enforcement().is_by_programs()
    }

    /// True if bmpd looks for connections that are older than the pin, or than a denial: where
    /// programs hold the connections that processes of this host open, and bmpd opens its own.
    fn looks_for_earlier(&self, configured: &SessionConfig, state: &PinState) -> bool {
        let opens = matches!(configured.transport, Some(Transport::Connect(_))) && !configured.adopt;
        self.has_programs() && opens && !matches!(state, PinState::Pending)
    }

    fn connections(&self, session: &SessionHandle, baseline: Option<&CounterBaseline>) -> Option<ConnectionCounts> {
        self.has_programs().then(|| {
            let told = session.pin.connections();
            let told = told.borrow();
            let (open, ended) = (told.open.len(), EndedConnections::of(&told));
            let EndedConnections { established, closed, failed } =
                baseline.map_or(ended, |baseline| baseline.connections_since(ended));
            ConnectionCounts { open, established, closed, failed }
        })
    }

    /// `names` are the current names of the interfaces, in the order of the pin.
    fn interface_drops(&mut self, state: &PinState, names: &[String]) -> Vec<InterfaceDrops> {
        let PinState::Ready(grant) = state else { return Vec::new() };
        let named = grant.resolved.egress.iter().zip(names);
        let drops = named.filter_map(|(interface, name)| Some((name, self.drops.drops(interface.index)?)));
        drops.map(|(name, Drops { queue, device })| InterfaceDrops { name: name.clone(), queue, device }).collect()
    }

    fn feed(&self, configured: &SessionConfig, session: &SessionHandle, shown: &SessionSnapshot) -> FeedProgress {
        let JournalPosition { frames: head, bytes: head_bytes } = self.head;
        // Of several connections, the one that is furthest behind counts.
        let routers = session.routers();
        let up = routers.iter().filter(|router| router.handle.status.snapshot().phase.is_up());
        let furthest = up.map(|router| router.handle.status.cursor()).min();
        let (cursor, position) = furthest.unwrap_or_else(|| session.status.cursor());
        FeedProgress {
            cursor: (shown.established > 0).then_some(cursor),
            head,
            // Without a connection there is nothing to be behind with.
            lag_bytes: shown.phase.is_up().then(|| head_bytes.saturating_sub(position)),
            lag_limit_bytes: configured.buffer_limit_bytes(),
            dumps: shown.dumps,
            dump: shown.dump.as_ref().map(|dump| dump_report(dump, Instant::now())),
            refused_peers: session.status.hidden_peers().len(),
        }
    }
}

fn dump_report(dump: &ShownDump, now: Instant) -> DumpReport {
    let percent = |DumpProgress { told, total }: DumpProgress| (told as f64 / total as f64 * 1000.0).floor() / 10.0;
    DumpReport {
        routes_told: dump.progress.map(|progress| progress.told),
        routes_total: dump.progress.map(|progress| progress.total),
        percent: dump.progress.filter(|progress| progress.total > 0).map(percent),
        remaining_seconds: dump.remaining(now).map(|time| time.as_secs_f64().ceil() as u64),
        begins_in_seconds: dump.begins_at.map(|at| tenths(at.saturating_duration_since(now))),
    }
}

fn unheld(all: &[EarlierConnection]) -> UnheldReport {
    let shown = all.iter().take(UNHELD_SHOWN).map(|connection| UnheldConnection {
        pid: connection.process,
        name: connection.name.clone(),
        local_address: connection.local.ip(),
        local_port: connection.local.port(),
    });
    UnheldReport { count: all.len(), connections: shown.collect() }
}

fn keychain(config: &Config, configured: &SessionConfig, keys: Option<KeyReport>) -> Option<KeychainReport> {
    let name = configured.keychain.clone()?;
    let now = signing::now();
    let next = config.keychains.get(&name).and_then(|chain| chain.next_preferred(now));
    Some(KeychainReport {
        name,
        current_key: keys.and_then(|keys| keys.current),
        requested_key: keys.and_then(|keys| keys.next),
        next_key: next.map(|(id, _)| id),
        next_key_in_seconds: next.map(|(_, at)| at.as_unix().saturating_sub(now.as_unix())),
        segments: keys.map(|KeyReport { good, bad, unknown_key, unsigned, .. }| SignedSegments {
            good,
            bad,
            unknown_key,
            unsigned,
        }),
    })
}

fn tls(profiles: &TlsProfiles, configured: &SessionConfig, shown: Option<TlsReport>) -> Option<SessionTlsReport> {
    let profile = shown.as_ref().map(|shown| shown.profile.clone()).or_else(|| configured.tls.clone())?;
    let certificate_expires_in_seconds = profiles.seconds_of_own_certificate(&profile);
    let in_kernel = shown.as_ref().map(|shown| shown.in_kernel);
    let (cipher, peer) = shown.map_or((None, None), |TlsReport { cipher, peer, .. }| (Some(cipher), peer));
    Some(SessionTlsReport { profile, cipher, in_kernel, peer, certificate_expires_in_seconds })
}

fn timers(configured: &SessionConfig) -> String {
    let seconds = |time: Duration| format!("{} s", time.as_secs());
    let ConnectRetry { first, longest } = configured.retry_waits();
    let keepalive = match configured.keepalive_in_force() {
        SessionKeepalive { idle: Duration::ZERO, .. } => "none".to_owned(),
        SessionKeepalive { idle, probes: None } => seconds(idle),
        SessionKeepalive { idle, probes: Some(KeepaliveProbes { interval, count }) } => {
            format!("{} ({count} probes, {} apart)", seconds(idle), seconds(interval))
        }
    };
    let mut timers = format!("retry {} to {}, keepalive {keepalive}", seconds(first), seconds(longest));
    for (name, time) in [("initial delay", configured.initial_delay), ("flap damping", configured.flap_damping)] {
        if !time.is_zero() {
            timers += &format!(", {name} {}", seconds(time));
        }
    }
    if let Some(time) = configured.statistics_timer {
        timers += &format!(", statistics every {}", seconds(time));
    }
    if configured.derives_statistics {
        timers += ", statistics derived";
    }
    if !configured.hold_down.is_zero() {
        timers += &format!(", hold-down {} ms", configured.hold_down.as_millis());
    }
    timers
}

/// An adopted session consists of another process's traffic: counts that as the session's own.
fn with_owner_as_own(counters: &Counters) -> Counters {
    Counters {
        own_tx: counters.foreign_tx,
        own_rx: counters.foreign_rx,
        foreign_tx: counters.own_tx,
        foreign_rx: counters.own_rx,
        ..*counters
    }
}
