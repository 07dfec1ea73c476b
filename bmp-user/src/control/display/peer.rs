//! `display bgp peer`: the BGP peers that bmpd takes routes from.

use std::{
    fmt::{self, Write as _},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use bmp_ebpf::Counters;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{
        ControlContext,
        json::{AnswerSubject, Elements, JsonAnswer},
    },
    Rendering,
    egress::{EgressReport, KernelCounters},
    layout::{after, age, field, heading, or_dash, table, tenths},
};
use crate::{
    config::{BgpPeerConfig, Config, ConnectInterface},
    escape::{Untrusted, escaped_lines},
    input::bgp::{BgpDownReason, BgpState, MessageCounts, PeerStatus},
    pin::{PinState, Pinned, Role},
    wire::bgp::{Family, MessageType},
};

/// The BGP speaker that bmpd is. The peers are looked at one after another, each when it is
/// written. Field names are those of the JSON and are stable.
#[derive(JsonSchema, Serialize)]
#[serde(bound = "")]
pub(super) struct SpeakerReport<P: Iterator<Item = BgpPeerReport>> {
    pub(super) local_as: Option<u32>,
    pub(super) router_id: Option<Ipv4Addr>,
    pub(super) listener: BgpListenerReport,
    #[schemars(with = "Vec<BgpPeerReport>")]
    pub(super) peers: Elements<P>,
}

/// Where peers connect to.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct BgpListenerReport {
    pub(super) port: Option<u16>,
    /// Why bmpd does not listen, or not for all peers.
    pub(super) trouble: Option<String>,
    /// Connections from hosts that are no peer, which were closed. Where the kernel programs are
    /// loaded, such connections are not even answered. `None` where bmpd does not listen.
    pub(super) refused: Option<u64>,
}

/// One peer. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct BgpPeerReport {
    pub(super) peer: IpAddr,
    #[serde(rename = "as")]
    pub(super) asn: Option<u32>,
    /// The state of RFC 4271 §8.2.2.
    pub(super) state: BgpState,
    /// Seconds since the peer was established, or ceased to be.
    pub(super) age_seconds: u64,
    /// Why the peer is not established.
    pub(super) reason: Option<BgpDownReason>,
    /// The last error in a sentence.
    pub(super) last_error: Option<Untrusted>,
    pub(super) established_count: u64,
    /// Sessions that were closed because the peer had more routes than `maximum-routes`.
    pub(super) closed_for_routes: u64,
    /// Sessions that were closed because of `memory-limit`.
    pub(super) closed_for_memory: u64,
    /// Seconds, to a tenth.
    pub(super) retry_in_seconds: Option<f64>,
    pub(super) local_address: Option<IpAddr>,
    pub(super) local_port: Option<u16>,
    pub(super) remote_port: Option<u16>,
    pub(super) bgp_id: Option<Ipv4Addr>,
    /// As negotiated.
    pub(super) hold_seconds: Option<u64>,
    pub(super) keepalive_seconds: Option<u64>,
    /// The peer's, by name.
    pub(super) capabilities: Option<Vec<String>>,
    /// As negotiated.
    pub(super) families: Option<Vec<Family>>,
    pub(super) routes: Vec<FamilyRoutes>,
    pub(super) received: BgpMessages,
    pub(super) sent: BgpMessages,
    /// Seconds for which the routes of a peer that restarts stay (RFC 4724).
    pub(super) restart_left_seconds: Option<u64>,
    /// Routes of a peer that restarts, which it has not sent again.
    pub(super) stale: usize,
    /// UPDATEs whose routes were treated as withdrawn (RFC 7606). `None` before the first session.
    pub(super) treated_as_withdraw: Option<u32>,
    /// Routes in those UPDATEs.
    pub(super) prefixes_treated_as_withdraw: Option<u32>,
    /// UPDATEs of which attributes were discarded (RFC 7606). `None` before the first session.
    pub(super) attributes_discarded: Option<u64>,
    /// The fault of the last UPDATE of either kind.
    pub(super) last_malformed: Option<String>,
    /// UPDATEs of families that were not negotiated.
    pub(super) not_negotiated: u64,
    pub(super) configured: PeerSettings,
    pub(super) connect_interface: PeerSource,
    pub(super) egress: EgressReport,
    pub(super) kernel: KernelCounters,
}

/// The routes of a peer in one family.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct FamilyRoutes {
    pub(super) family: Family,
    pub(super) routes: usize,
}

/// BGP messages by type.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct BgpMessages {
    pub(super) open: u64,
    pub(super) update: u64,
    pub(super) notification: u64,
    pub(super) keepalive: u64,
    pub(super) route_refresh: u64,
    pub(super) total: u64,
}

/// The settings of a peer, with defaults.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct PeerSettings {
    pub(super) port: u16,
    pub(super) listen_only: bool,
    /// True if there is a secret of TCP MD5.
    pub(super) password: bool,
    pub(super) keychain: Option<String>,
    pub(super) hold_seconds: u16,
    pub(super) keepalive_seconds: u16,
    pub(super) maximum_routes: Option<u32>,
    /// More routes are logged, and the session stays.
    pub(super) maximum_routes_warning_only: bool,
    pub(super) families: Vec<Family>,
}

/// The connect-interface of a peer, as it is configured.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct PeerSource {
    pub(super) interface: Option<String>,
    pub(super) address: Option<IpAddr>,
}

/// Writes the peers that are configured, or `only` one of them.
pub(super) fn write(
    context: &ControlContext,
    config: &Config,
    only: Option<IpAddr>,
    rendering: Rendering,
    out: &mut dyn Write,
) -> io::Result<()> {
    let bgp = config.bgp.as_ref();
    let listener = context.bgp_peers.listener();
    let addresses = context.bgp_peers.addresses();
    let wanted = || addresses.iter().copied().filter(|address| only.is_none_or(|only| only == *address));
    let peers = wanted().filter_map(|address| {
        let status = context.bgp_peers.peer(address, &context.feed)?;
        Some(BgpPeerReport::of(context, status, bgp.and_then(|bgp| bgp.peers.get(&address))))
    });
    let speaker = SpeakerReport {
        local_as: bgp.map(|bgp| bgp.asn),
        router_id: bgp.and_then(|bgp| bgp.router_id),
        listener: BgpListenerReport {
            port: listener.port,
            trouble: listener.trouble,
            refused: listener.port.map(|_| listener.refused),
        },
        peers: Elements::new(peers),
    };
    if rendering == Rendering::Json {
        return JsonAnswer::new(AnswerSubject::BgpPeer, speaker).write(out);
    }
    let is_up = |address: &IpAddr| {
        context.bgp_peers.progress(*address).is_some_and(|progress| progress.state == BgpState::Established)
    };
    let totals = PeerTotals { peers: wanted().count(), up: wanted().filter(is_up).count() };
    write_text(out, speaker, totals, rendering)
}

/// Returns the peers that are configured.
pub(super) fn all(context: &ControlContext, config: &Config) -> Vec<BgpPeerReport> {
    let bgp = config.bgp.as_ref();
    let report = |status: PeerStatus| {
        let configured = bgp.and_then(|bgp| bgp.peers.get(&status.address));
        BgpPeerReport::of(context, status, configured)
    };
    context.bgp_peers.snapshot(&context.feed).into_iter().map(report).collect()
}

/// How many peers there are.
pub(super) struct PeerTotals {
    pub(super) peers: usize,
    /// In state Established.
    pub(super) up: usize,
}

/// Writes the peers as an operator reads them. Operators know this layout.
pub(super) fn write_text(
    out: &mut dyn Write,
    speaker: SpeakerReport<impl Iterator<Item = BgpPeerReport>>,
    totals: PeerTotals,
    rendering: Rendering,
) -> io::Result<()> {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = speaker.write_head(&mut text, totals);
    let peers = speaker.peers.take();
    if rendering == Rendering::Table {
        let _ = write_table(&mut text, peers);
        return write!(out, "{}", escaped_lines(&text));
    }
    write!(out, "{}", escaped_lines(&text))?;
    for peer in peers {
        write!(out, "{}", escaped_lines(&peer.to_string()))?;
    }
    Ok(())
}

impl<P: Iterator<Item = BgpPeerReport>> SpeakerReport<P> {
    /// Writes the lines in front of the peers.
    fn write_head(&self, text: &mut String, totals: PeerTotals) -> fmt::Result {
        heading(text, "BGP local router ID", or_dash(self.router_id))?;
        heading(text, "Local AS number", or_dash(self.local_as))?;
        if let BgpListenerReport { port: Some(port), trouble, .. } = &self.listener {
            heading(text, "Listening on port", format_args!("{port}{}", after(", ", trouble.as_ref())))?;
        }
        heading(text, "Total number of peers", totals.peers)?;
        heading(text, "Peers in established state", totals.up)
    }
}

/// Writes a row for each peer.
fn write_table(text: &mut String, peers: impl Iterator<Item = BgpPeerReport>) -> fmt::Result {
    text.write_char('\n')?;
    let headings = ["Peer", "AS", "MsgRcvd", "MsgSent", "Up/Down", "State", "PrefRcv", "Reason"].map(str::to_owned);
    table(text, std::iter::once(headings).chain(peers.map(|peer| peer.row())))
}

impl BgpPeerReport {
    fn of(context: &ControlContext, status: PeerStatus, configured: Option<&BgpPeerConfig>) -> Self {
        let session = status.session.as_ref();
        let seconds = |time: Duration| time.as_secs();
        let connect = configured.and_then(|peer| peer.connect_interface.as_ref());
        let (egress, kernel) = enforced(context, status.address);
        let has_been_up = status.established_count > 0;
        Self {
            peer: status.address,
            asn: status.asn,
            state: status.state,
            age_seconds: seconds(status.age),
            established_count: status.established_count,
            closed_for_routes: status.closed_for_routes,
            closed_for_memory: status.closed_for_memory,
            retry_in_seconds: status.retry_in.map(tenths),
            local_address: session.map(|session| session.local.ip()),
            local_port: session.map(|session| session.local.port()),
            remote_port: session.map(|session| session.remote.port()),
            bgp_id: session.map(|session| session.bgp_id),
            hold_seconds: session.map(|session| seconds(session.hold)),
            keepalive_seconds: session.map(|session| seconds(session.keepalive)),
            capabilities: session.map(|session| session.capabilities.clone()),
            families: session.map(|session| session.families.clone()),
            routes: status
                .routes
                .iter()
                .map(|(family, routes)| FamilyRoutes { family: *family, routes: *routes })
                .collect(),
            received: BgpMessages::of(&status.received),
            sent: BgpMessages::of(&status.sent),
            restart_left_seconds: status.restart_left.map(seconds),
            stale: status.stale,
            treated_as_withdraw: has_been_up.then_some(status.treated_as_withdraw),
            prefixes_treated_as_withdraw: has_been_up.then_some(status.prefixes_treated_as_withdraw),
            attributes_discarded: has_been_up.then_some(status.attributes_discarded),
            last_malformed: status.last_fault,
            not_negotiated: status.not_negotiated,
            configured: PeerSettings::of(configured.unwrap_or(&BgpPeerConfig::default())),
            connect_interface: PeerSource {
                interface: connect.and_then(ConnectInterface::interface).map(str::to_owned),
                address: connect.and_then(ConnectInterface::address),
            },
            egress,
            kernel,
            reason: status.reason.filter(|_| status.state != BgpState::Established),
            last_error: status.last_error.map(Untrusted::new),
        }
    }

    fn row(&self) -> [String; 8] {
        [
            self.peer.to_string(),
            or_dash(self.asn),
            self.received.total.to_string(),
            self.sent.total.to_string(),
            age(self.age_seconds),
            self.state.to_string(),
            self.routes.iter().map(|family| family.routes).sum::<usize>().to_string(),
            self.reason_in_table().to_owned(),
        ]
    }

    /// A peer that is established has no reason, nor has one that nothing has happened to yet.
    fn reason_in_table(&self) -> &'static str {
        let waits = self.state != BgpState::Established && self.configured.listen_only;
        self.reason.map_or(if waits { "waiting-for-peer" } else { "-" }, BgpDownReason::as_str)
    }
}

/// Returns what the kernel enforces for the peer's connections, and what it counted for them,
/// whichever end opened them.
fn enforced(context: &ControlContext, address: IpAddr) -> (EgressReport, KernelCounters) {
    let pins = [Role::Connect, Role::Listen].map(|role| context.pins.pin(&Pinned::BgpPeer(address, role)));
    let states = pins.each_ref().map(|pin| pin.state());
    let grant = states.iter().find_map(|state| match state {
        PinState::Ready(grant) => Some(grant),
        PinState::Pending | PinState::Down(_) => None,
    });
    let is_pinned = states.iter().any(|state| !matches!(state, PinState::Pending));
    let mut counters = Counters::default();
    for pin in &pins {
        counters += context.pins.counters(pin);
    }
    let egress = EgressReport::of(context, grant.map(|grant| &grant.resolved), is_pinned, None);
    (egress, KernelCounters::of_pin(context, &counters, is_pinned))
}

impl BgpMessages {
    fn of(counts: &MessageCounts) -> Self {
        Self {
            open: counts.count(MessageType::Open),
            update: counts.count(MessageType::Update),
            notification: counts.count(MessageType::Notification),
            keepalive: counts.count(MessageType::Keepalive),
            route_refresh: counts.count(MessageType::RouteRefresh),
            total: counts.total(),
        }
    }
}

impl PeerSettings {
    fn of(peer: &BgpPeerConfig) -> Self {
        let timer = peer.timer.unwrap_or(BgpPeerConfig::TIMER);
        Self {
            port: peer.port.unwrap_or(BgpPeerConfig::PORT),
            listen_only: peer.listen_only,
            password: peer.password.is_some(),
            keychain: peer.keychain.clone(),
            hold_seconds: timer.hold,
            keepalive_seconds: timer.keepalive,
            maximum_routes: peer.maximum_routes.map(|limit| limit.routes),
            maximum_routes_warning_only: peer.maximum_routes.is_some_and(|limit| limit.warning_only),
            families: peer.families.iter().copied().collect(),
        }
    }
}

/// The detailed display.
impl fmt::Display for BgpPeerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asn = self.asn.map_or("no AS number".to_owned(), |asn| format!("AS {asn}"));
        writeln!(f, "\n BGP peer {}, {asn}", self.peer)?;
        field(f, "State", format_args!("{}, for {}", self.state, age(self.age_seconds)))?;
        if let Some(error) = &self.last_error {
            match self.reason.map(BgpDownReason::as_str) {
                // The error of a pin begins with the reason.
                Some(reason) if error.to_string().starts_with(reason) => field(f, "Reason", error)?,
                Some(reason) => field(f, "Reason", format_args!("{reason}: {error}"))?,
                None => field(f, "Last error", error)?,
            }
        }
        if let Some(seconds) = self.retry_in_seconds {
            field(f, "Next attempt in", format_args!("{seconds:.1} s"))?;
        }
        if let Some(seconds) = self.restart_left_seconds {
            field(f, "Restarting", format_args!("its routes stay for {seconds} s"))?;
        }
        field(f, "Configured", &self.configured)?;
        field(f, "Established", format_args!("{} time(s)", self.established_count))?;
        self.write_session(f)?;
        for FamilyRoutes { family, routes } in &self.routes {
            field(f, &format!("Routes {family}"), routes)?;
        }
        if let Some(most) = self.configured.maximum_routes {
            let warning_only = if self.configured.maximum_routes_warning_only { " (warning-only)" } else { "" };
            let closed = self.closed_for_routes;
            field(f, "Maximum routes", format_args!("{most}{warning_only}, closed {closed} time(s) for more"))?;
        }
        if self.closed_for_memory > 0 {
            field(f, "Memory limit", format_args!("closed {} time(s) for it", self.closed_for_memory))?;
        }
        if self.stale > 0 {
            field(f, "Stale routes", self.stale)?;
        }
        field(f, "Received", &self.received)?;
        field(f, "Sent", &self.sent)?;
        let withdrawn = self.treated_as_withdraw.zip(self.prefixes_treated_as_withdraw);
        let withdrawn = withdrawn.map(|(updates, prefixes)| format!("{updates} UPDATEs with {prefixes} routes"));
        field(f, "Treat-as-withdraw", or_dash(withdrawn))?;
        let discarded = self.attributes_discarded.map(|updates| format!("{updates} UPDATEs"));
        field(f, "Attribute discard", or_dash(discarded))?;
        if let Some(malformed) = &self.last_malformed {
            field(f, "Last malformed", malformed)?;
        }
        field(f, "Not negotiated", format_args!("{} UPDATEs", self.not_negotiated))?;
        field(f, "Connect-interface", &self.connect_interface)?;
        write!(f, "{}{}", self.egress, self.kernel)
    }
}

impl BgpPeerReport {
    /// Writes what the two ends have agreed on, if they have.
    fn write_session(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(address), Some(local), Some(remote)) = (self.local_address, self.local_port, self.remote_port) {
            field(f, "Local address", format_args!("{address} port {local}, to port {remote}"))?;
        }
        if let (Some(id), Some(hold), Some(keepalive)) = (self.bgp_id, self.hold_seconds, self.keepalive_seconds) {
            field(f, "Remote router ID", id)?;
            field(f, "Hold time", format_args!("{hold} s, keepalive every {keepalive} s"))?;
            field(f, "Capabilities", or_dash(self.capabilities.as_ref().map(|names| names.join(", "))))?;
            field(f, "Address families", or_dash(self.families.as_deref().map(listed)))?;
        }
        Ok(())
    }
}

fn listed(families: &[Family]) -> String {
    families.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for BgpMessages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { open, update, notification, keepalive, route_refresh, .. } = self;
        write!(
            f,
            "{open} open, {update} update, {notification} notification, {keepalive} keepalive, \
             {route_refresh} route-refresh"
        )
    }
}

impl fmt::Display for PeerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.listen_only {
            true => f.write_str("the peer connects")?,
            false => write!(f, "port {}", self.port)?,
        }
        write!(f, "; hold time {} s, keepalive every {} s", self.hold_seconds, self.keepalive_seconds)?;
        match &self.keychain {
            Some(keychain) => write!(f, "; keychain {keychain}")?,
            None if self.password => f.write_str("; TCP MD5")?,
            None => {}
        }
        match self.families.is_empty() {
            true => f.write_str("; no address family"),
            false => write!(f, "; {}", listed(&self.families)),
        }
    }
}

impl fmt::Display for PeerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address.map(|address| address.to_string());
        let words: Vec<_> = self.interface.iter().cloned().chain(address).collect();
        f.write_str(&if words.is_empty() { "the kernel's choice".to_owned() } else { words.join(" ") })
    }
}
