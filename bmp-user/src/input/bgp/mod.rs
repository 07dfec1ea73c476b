//! The BGP input: bmpd peers with routers, receives their routes and announces none.
//!
//! ```text
//!   dial, listener ──▶ connection ──▶ peer ◀──▶ fsm (RFC 4271 §8, two machines a peer)
//!                                       │
//!                                       ▼
//!                   updates ──▶ peer_feed ──▶ feed      stale: routes to be announced again
//! ```
//!
//! One task serves each peer, and one task serves the listening sockets. Each peer is an input of
//! the feed, named `bgp ADDRESS`.
//!
//! bmpd sends only OPEN, KEEPALIVE and NOTIFICATION, and one End-of-RIB for each family to a peer
//! with the graceful restart capability. RFC 4724 §4.2 demands that End-of-RIB even without routes:
//! a restarted peer holds back its own routes until it arrives or a timer expires.
//!
//! * `dial`, `listener`: connections from and to this device, each within its pin. `connection`:
//!   one TCP connection.
//! * `fsm`: the state machines. `open`: OPENs and what they negotiate. `peer`: the task that drives
//!   them.
//! * `updates`: UPDATEs to Route Monitoring. `faults`: malformed attributes (RFC 7606).
//! * `peer_feed`: Peer Up, Peer Down and graceful restart. `stale`: routes of the previous session.
//! * `status`, `reason`: what `display bgp peer` reads.

mod connection;
mod dial;
mod faults;
mod fsm;
mod listener;
mod open;
mod peer;
mod peer_feed;
mod reason;
mod stale;
mod status;
#[cfg(test)]
mod tests;
mod updates;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures_util::future::select_all;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tracing::{error, info};

use crate::{
    config::{BgpConfig, BgpPeerConfig, BmpConfig, Config, MaximumRoutes},
    feed::Feed,
    pin::{self, Grant, PinState, PinView, Pinned, Pins, Role, SessionPin, pin_changed},
    tasks::{self, Leave},
    wire::bgp::notification::cease,
};

pub use fsm::BgpState;
pub use reason::BgpDownReason;
pub use status::{BgpPeers, EstablishedSession, ListenerStatus, MessageCounts, PeerProgress, PeerStatus};

use dial::{AcceptGrant, Dialer, PeerTarget};
use fsm::OutgoingNotification;
use listener::{ExpectedPeer, ExpectedPeers, PeerSigning, SigningWatch};
use open::LocalSpeaker;
use peer::{Dial, PeerCommand, PeerPlan, PeerTask, PeerWatches};
use status::PeerRegistration;

/// Accepted connections of a peer that may wait for its task.
const WAITING: usize = 4;

/// Runs the configured BGP peers until the sender of the configuration is gone or `stopping` turns
/// true. Then every session is closed with a Cease.
///
/// A change of the configuration, or of a peer's pin, is compared with the running sessions. An
/// unchanged peer keeps its session. A removed peer gets a Cease (Peer De-configured). A peer with
/// other settings, or with another interface or source, gets a Cease (Other Configuration Change,
/// RFC 4486 §4) and a new session. A change of the listening side only ends sessions that the peer
/// opened. `peers` shows the status of all peers.
pub async fn run(
    mut config: watch::Receiver<Arc<Config>>,
    feed: Feed,
    pins: Pins,
    peers: BgpPeers,
    mut stopping: watch::Receiver<bool>,
) {
    let mut speaker = BgpSpeaker {
        config: config.clone(),
        feed,
        pins,
        peers,
        statistics: watch::channel(BmpConfig::STATISTICS_TIMER).0,
        kept_statistics: watch::channel(Duration::ZERO).0,
        limits: BTreeMap::new(),
        running: BTreeMap::new(),
        pins_of_peers: BTreeMap::new(),
        listener: None,
        signing: watch::channel(PeerSigning::new()).0,
        expected: ExpectedPeers::default(),
    };
    loop {
        let wanted = config.borrow_and_update().clone();
        speaker.follow(&wanted).await;
        tokio::select! {
            changed = config.changed() => if changed.is_err() { break },
            () = speaker.pin_changed() => {}
            _stopped = stopping.wait_for(|stopping| *stopping) => break,
            never = tasks::until_woken() => match never {},
        }
    }
    speaker.stop().await;
}

struct BgpSpeaker {
    /// For connections, which follow their key chains by themselves.
    config: watch::Receiver<Arc<Config>>,
    feed: Feed,
    pins: Pins,
    peers: BgpPeers,
    /// The interval of a peer's Statistics Reports (RFC 7854 §4.8). Zero disables them.
    statistics: watch::Sender<Duration>,
    /// The shortest interval of the sessions that have their own. Zero if none has.
    kept_statistics: watch::Sender<Duration>,
    /// `maximum-routes` of each peer.
    limits: BTreeMap<IpAddr, watch::Sender<Option<MaximumRoutes>>>,
    running: BTreeMap<IpAddr, RunningPeer>,
    /// The pins for connections to each peer and from each peer.
    pins_of_peers: BTreeMap<(IpAddr, Role), PeerPin>,
    /// The task of the listener and its port.
    listener: Option<(u16, JoinHandle<()>)>,
    signing: watch::Sender<PeerSigning>,
    expected: ExpectedPeers,
}

/// The pin of one direction of a peer's connections.
struct PeerPin {
    /// Keeps the pin alive.
    _pin: Arc<SessionPin>,
    view: watch::Receiver<PinView>,
    /// The view that the peer's connections follow from.
    known: PinView,
}

impl PeerPin {
    fn new(pin: Arc<SessionPin>) -> Self {
        let view = pin.view();
        let known = view.borrow().clone();
        Self { _pin: pin, view, known }
    }
}

/// What the configuration and the pins want for a peer.
#[derive(Debug, PartialEq, Eq)]
enum DesiredPeer {
    /// The pins are not decided yet, so the current session stays.
    Undecided,
    /// No session, for this reason.
    Down(BgpDownReason, String),
    /// A session with these settings, whose connections use these grants.
    Active(PeerPlan, PeerGrants),
}

impl DesiredPeer {
    /// True if a session of one serves the other. A difference in the listening side does not
    /// matter.
    fn is_same_session(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Active(plan, grants), Self::Active(other_plan, other_grants)) => {
                plan == other_plan && line(grants.connect.as_ref()) == line(other_grants.connect.as_ref())
            }
            _ => self == other,
        }
    }
}

/// The grants that a peer's connections use.
#[derive(Debug)]
struct PeerGrants {
    /// For connections that this device opens.
    connect: Option<Arc<Grant>>,
    /// For connections that the peer opens.
    listen: Option<Arc<Grant>>,
}

impl PeerGrants {
    fn agree(&self) -> bool {
        let (Some(connect), Some(listen)) = (&self.connect, &self.listen) else { return true };
        let index = |grant: &Grant| grant.resolved.device.as_ref().map(|device| device.index);
        connect.resolved.source == listen.resolved.source && index(connect) == index(listen)
    }
}

/// Returns the line of a grant. As for a session, another [`Grant::line`] means another connection.
fn line(grant: Option<&Arc<Grant>>) -> Option<u64> {
    grant.map(|grant| grant.line)
}

impl PartialEq for PeerGrants {
    fn eq(&self, other: &Self) -> bool {
        line(self.connect.as_ref()) == line(other.connect.as_ref())
            && line(self.listen.as_ref()) == line(other.listen.as_ref())
    }
}

impl Eq for PeerGrants {}

/// A configured peer.
struct RunningPeer {
    wanted: DesiredPeer,
    asn: Option<u32>,
    registered: PeerRegistration,
    /// Leave to end, commands and task of a peer with a session.
    task: Option<(Leave, mpsc::Sender<PeerCommand>, JoinHandle<()>)>,
}

impl BgpSpeaker {
    async fn follow(&mut self, config: &Config) {
        let statistics = config.bmp.statistics_timer.unwrap_or(BmpConfig::STATISTICS_TIMER);
        self.statistics.send_if_modified(|now| std::mem::replace(now, statistics) != statistics);
        let shortest = config.bmp.sessions.values().filter_map(|session| session.statistics_timer).min();
        let shortest = shortest.unwrap_or_default();
        self.kept_statistics.send_if_modified(|now| std::mem::replace(now, shortest) != shortest);
        let bgp = config.bgp.as_ref();
        self.follow_limits(bgp);
        let mut wanted = BTreeMap::<IpAddr, (Option<u32>, DesiredPeer)>::new();
        let mut pins_of_peers = BTreeSet::new();
        for (bgp, (address, peer)) in bgp.into_iter().flat_map(|bgp| bgp.peers.iter().map(move |peer| (bgp, peer))) {
            let plan = match plan(bgp, *address, peer) {
                Err(why) => DesiredPeer::Down(pin::Reason::NotConfigured.into(), why.to_owned()),
                Ok(plan) => {
                    let connect = plan.connects.then_some((Role::Connect, plan.target.port));
                    let listen = bgp.listen_port.map(|port| (Role::Listen, port));
                    pins_of_peers.extend([connect, listen].into_iter().flatten().map(|(role, _)| (*address, role)));
                    self.with_grants(*address, plan, connect, listen)
                }
            };
            wanted.insert(*address, (peer.asn, plan));
        }
        self.pins_of_peers.retain(|way, _| pins_of_peers.contains(way));
        let mut ending = Vec::new();
        for (address, mut running) in std::mem::take(&mut self.running) {
            let subcode = match wanted.get(&address) {
                Some((asn, wanted))
                    if *asn == running.asn
                        && (wanted.is_same_session(&running.wanted) || *wanted == DesiredPeer::Undecided) =>
                {
                    if *wanted != DesiredPeer::Undecided && *wanted != running.wanted {
                        self.expected.remove(address);
                    }
                    self.running.insert(address, running);
                    continue;
                }
                Some((_, DesiredPeer::Down(..))) => cease::SHUTDOWN,
                Some(_) => cease::CONFIGURATION_CHANGE,
                None => cease::DE_CONFIGURED,
            };
            self.expected.remove(address);
            ending.extend(running.stop(&OutgoingNotification::cease(subcode)).await);
            // A peer with the same AS number keeps its counters.
            if wanted.get(&address).is_some_and(|(asn, _)| *asn == running.asn) {
                self.running.insert(address, running);
            }
        }
        // Wait for all of them, so that a new session never collides with its predecessor.
        for task in ending {
            finished(task).await;
        }
        // Keys and passwords are set before any connection needs them.
        let plans = wanted.values().filter_map(|(_, wanted)| match wanted {
            DesiredPeer::Active(plan, grants) if grants.listen.is_some() => Some(plan),
            _ => None,
        });
        let signing: PeerSigning =
            plans.filter_map(|plan| Some((plan.target.address, plan.target.signing()?))).collect();
        self.signing.send_if_modified(|now| {
            let differs = *now != signing;
            *now = signing;
            differs
        });
        self.listen(bgp.and_then(|bgp| bgp.listen_port)).await;
        for (address, (asn, wanted)) in wanted {
            let known = self.running.get(&address).is_some_and(|running| running.wanted == wanted);
            if known || wanted == DesiredPeer::Undecided {
                continue;
            }
            let mut running = self.running.remove(&address);
            if let Some(same) = running.take_if(|running| running.wanted.is_same_session(&wanted)) {
                let same = self.change_listening(same, wanted).await;
                self.running.insert(address, same);
                continue;
            }
            let registered = running.map_or_else(|| self.peers.register(address, asn), |running| running.registered);
            let running = self.start(address, asn, wanted, registered);
            self.running.insert(address, running);
        }
    }

    /// Passes `maximum-routes` on to the peers. A session stays.
    fn follow_limits(&mut self, bgp: Option<&BgpConfig>) {
        self.limits.retain(|address, _| bgp.is_some_and(|bgp| bgp.peers.contains_key(address)));
        for (address, peer) in bgp.into_iter().flat_map(|bgp| &bgp.peers) {
            let limit = self.limits.entry(*address).or_insert_with(|| watch::channel(None).0);
            limit.send_if_modified(|now| std::mem::replace(now, peer.maximum_routes) != peer.maximum_routes);
        }
    }

    /// Combines settings and grants, once the pins of the peer's connections are decided.
    fn with_grants(
        &mut self,
        address: IpAddr,
        plan: PeerPlan,
        connect: Option<(Role, u16)>,
        listen: Option<(Role, u16)>,
    ) -> DesiredPeer {
        let mut grants = PeerGrants { connect: None, listen: None };
        for (role, port) in [connect, listen].into_iter().flatten() {
            let PeerPin { view, known, .. } = self
                .pins_of_peers
                .entry((address, role))
                .or_insert_with(|| PeerPin::new(self.pins.pin(&Pinned::BgpPeer(address, role))));
            known.clone_from(&view.borrow_and_update());
            let grant = match &known.state {
                PinState::Pending => return DesiredPeer::Undecided,
                // The pin still belongs to the previous configuration.
                PinState::Ready(grant) if grant.target.station.port() != port => return DesiredPeer::Undecided,
                PinState::Ready(grant) => Some(Arc::clone(grant)),
                PinState::Down(unresolved) => {
                    let mend = match &*unresolved.mend {
                        "" => String::new(),
                        mend if mend.starts_with("connect-interface ") => format!(" (`peer {address} {mend}`)"),
                        mend => format!(" (`{mend}`)"),
                    };
                    let why = format!("{}: {}{mend}", unresolved.reason.as_str(), unresolved.why);
                    return DesiredPeer::Down(unresolved.reason.into(), why);
                }
            };
            match role {
                Role::Connect => grants.connect = grant,
                Role::Listen => grants.listen = grant,
            }
        }
        // Both grants must have the same source and interface. If they differ, one pin is about to
        // follow the other.
        if grants.agree() { DesiredPeer::Active(plan, grants) } else { DesiredPeer::Undecided }
    }

    /// Returns when the pin of any peer changes.
    async fn pin_changed(&mut self) {
        let changes: Vec<_> = self
            .pins_of_peers
            .values_mut()
            .map(|pin| Box::pin(pin_changed(&mut pin.view, &pin.known, false)))
            .collect();
        if changes.is_empty() {
            return pending().await;
        }
        select_all(changes).await;
    }

    fn start(
        &self,
        address: IpAddr,
        asn: Option<u32>,
        wanted: DesiredPeer,
        registered: PeerRegistration,
    ) -> RunningPeer {
        let ready = match &wanted {
            DesiredPeer::Undecided => return RunningPeer { wanted, asn, registered, task: None },
            DesiredPeer::Down(reason, why) => Err((*reason, why.clone())),
            DesiredPeer::Active(plan, grants) => {
                let open = plan.local.open().map_err(|error| (pin::Reason::NotConfigured.into(), error.to_string()));
                open.map(|open| (plan, grants, open))
            }
        };
        registered.shown.change(status::LivePeerStatus::begin);
        let task = match ready {
            Err((reason, why)) => {
                info!(peer = %address, "no session: {why}");
                registered.shown.change(|now| now.fail(reason, why));
                None
            }
            Ok((plan, grants, sent_open)) => {
                let (sender, commands) = mpsc::channel(WAITING);
                let datapath = self.pins.datapath();
                self.expect(plan, grants, &sender);
                let dialer = grants.connect.as_ref().map(|grant| Dialer {
                    target: plan.target.clone(),
                    grant: Arc::clone(grant),
                    datapath: datapath.clone(),
                    config: self.config.clone(),
                });
                let dial: Dial = Arc::new(move || match dialer.clone() {
                    Some(dialer) => Box::pin(dialer.dial()),
                    None => Box::pin(pending()),
                });
                let shown = registered.shown.clone();
                let listens = grants.listen.is_some();
                let limit = self.limits.get(&address).map_or_else(|| watch::channel(None).1, watch::Sender::subscribe);
                let (statistics, memory) = (self.statistics.subscribe(), self.feed.memory_standing());
                let kept_statistics = self.kept_statistics.subscribe();
                let watches = PeerWatches { statistics, kept_statistics, limit, memory };
                let task = PeerTask::new(plan.clone(), listens, sent_open, dial, &self.feed, shown, watches);
                let leave = Leave::default();
                let task = tasks::until("BGP peer", &leave, task.run(commands));
                Some((leave, sender, task))
            }
        };
        RunningPeer { wanted, asn, registered, task }
    }

    /// Keeps the session of a peer for which only the listening side changed.
    async fn change_listening(&self, running: RunningPeer, wanted: DesiredPeer) -> RunningPeer {
        if let (DesiredPeer::Active(plan, grants), Some((_, commands, _))) = (&wanted, &running.task) {
            // If the channel is closed, the task has already ended.
            let _ = commands.send(PeerCommand::Listens(grants.listen.is_some())).await;
            self.expect(plan, grants, commands);
        }
        RunningPeer { wanted, ..running }
    }

    /// Lets a peer connect, if it may.
    fn expect(&self, plan: &PeerPlan, grants: &PeerGrants, commands: &mpsc::Sender<PeerCommand>) {
        if let Some(grant) = &grants.listen {
            let grant = AcceptGrant {
                grant: Arc::clone(grant),
                datapath: self.pins.datapath().clone(),
                keychain: plan.target.keychain.clone(),
                config: self.config.clone(),
            };
            self.expected.insert(plan.target.address, ExpectedPeer { commands: commands.clone(), grant });
        }
    }

    /// Listens on this port. `None` closes the listener.
    async fn listen(&mut self, port: Option<u16>) {
        if self.listener.as_ref().map(|(port, _)| *port) == port {
            return;
        }
        if let Some((_, task)) = self.listener.take() {
            task.abort();
            // The error only says that the task was aborted. The port is free once the task has
            // ended.
            let _ = task.await;
        }
        self.peers.change_listener(|status| *status = ListenerStatus { port, ..ListenerStatus::default() });
        self.listener = port.map(|port| {
            let signing = SigningWatch { peers: self.signing.subscribe(), config: self.config.clone() };
            let (expected, peers) = (self.expected.clone(), self.peers.clone());
            let datapath = self.pins.datapath().clone();
            (port, tasks::forever("BGP listener", listener::run(port, signing, expected, peers, datapath)))
        });
    }

    async fn stop(&mut self) {
        self.listen(None).await;
        let mut ending = Vec::new();
        for mut running in std::mem::take(&mut self.running).into_values() {
            ending.extend(running.stop(&OutgoingNotification::cease(cease::SHUTDOWN)).await);
        }
        for task in ending {
            finished(task).await;
        }
    }
}

impl Drop for BgpSpeaker {
    fn drop(&mut self) {
        if let Some((_, task)) = self.listener.take() {
            task.abort();
        }
    }
}

impl RunningPeer {
    /// Makes the task close the session with this NOTIFICATION and end.
    async fn stop(&mut self, notice: &OutgoingNotification) -> Option<JoinHandle<()>> {
        let (leave, commands, task) = self.task.take()?;
        leave.give();
        // If the channel is closed, the task has already ended.
        let _ = commands.send(PeerCommand::Stop(notice.clone())).await;
        Some(task)
    }
}

async fn finished(task: JoinHandle<()>) {
    if let Err(error) = task.await {
        error!("the task of a BGP peer failed: {error}");
    }
}

/// Returns what the configuration of a peer lacks, and the command that adds it.
pub fn missing(bgp: &BgpConfig, address: IpAddr, peer: &BgpPeerConfig) -> Option<&'static str> {
    plan(bgp, address, peer).err()
}

/// What a configuration says about a peer.
#[derive(Clone, Copy, Debug)]
pub struct ConfiguredPeer<'a> {
    /// The BGP view.
    pub bgp: &'a BgpConfig,
    /// The peer in it.
    pub peer: &'a BgpPeerConfig,
}

/// True if the session with a peer under one configuration serves another. If not, the session is
/// closed with a Cease and opened again.
pub fn is_same_session(address: IpAddr, earlier: ConfiguredPeer<'_>, later: ConfiguredPeer<'_>) -> bool {
    let plan_of = |settings: ConfiguredPeer<'_>| plan(settings.bgp, address, settings.peer).ok();
    plan_of(earlier).is_some_and(|earlier| plan_of(later) == Some(earlier))
}

/// Builds the settings of a peer's session. The error says what is missing and how to configure it.
fn plan(bgp: &BgpConfig, address: IpAddr, peer: &BgpPeerConfig) -> Result<PeerPlan, &'static str> {
    let asn = peer.asn.ok_or("no AS number: give it one with `peer ADDRESS as-number NUMBER`")?;
    let bgp_id = bgp.router_id.ok_or("no BGP identifier: give this device one with `router-id ADDRESS`")?;
    if peer.families.is_empty() {
        return Err(
            "no address family: enable one with `peer ADDRESS enable` in its view, such as `ipv4-family unicast`",
        );
    }
    if peer.listen_only && bgp.listen_port.is_none() {
        return Err("listen-only, and there is nowhere to connect to: give this device a `listen-port NUMBER`");
    }
    let timer = peer.timer.unwrap_or(BgpPeerConfig::TIMER);
    let target = PeerTarget {
        address,
        port: peer.port.unwrap_or(BgpPeerConfig::PORT),
        // A peer with a key chain does not use its password.
        password: peer.password.clone().filter(|_| peer.keychain.is_none()),
        keychain: peer.keychain.clone(),
    };
    Ok(PeerPlan {
        target,
        asn,
        local: LocalSpeaker {
            asn: bgp.asn,
            bgp_id,
            hold: timer.hold,
            families: peer.families.iter().copied().collect(),
        },
        keepalive: Duration::from_secs(timer.keepalive.into()),
        connects: !peer.listen_only,
    })
}
