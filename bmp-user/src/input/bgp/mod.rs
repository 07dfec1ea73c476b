//! The `bgp` view: routes from BGP peers. A speaker that receives and never announces anything.
//!
//! ```text
//!   dial, listener ──▶ connection ──▶ peer ◀──▶ fsm (RFC 4271 §8, two machines a peer)
//!                                       │
//!                                       ▼
//!                           updates ── life ──▶ feed      stale: what has to be announced again
//! ```
//!
//! One task a peer, one for the listeners. A peer is one input of the feed, which is called `bgp ADDRESS`.
//!
//! All that is ever sent are OPEN, KEEPALIVE, NOTIFICATION, and to a peer that can restart gracefully the End-of-RIB of each family, which RFC 4724 §4.2
//! asks of one who has no routes too: without it such a peer would keep its own back until its timer for that has run.

mod connection;
mod dial;
mod faults;
mod fsm;
mod life;
mod listener;
mod open;
mod peer;
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
    config::{Bgp, BgpPeer, Bmp, Config},
    feed::Feed,
    pin::{self, Grant, Pinned, Pins, Role, SessionPin, State as PinState},
    tasks::{self, Leave},
    wire::bgp::notification::cease,
};

pub use fsm::State;
pub use reason::Reason;
pub use status::{ListenerStatus, MessageCounts, PeerProgress, PeerStatus, Peers, Session};

use dial::{Dialer, Doorkeeper, Target};
use fsm::Notice;
use listener::{Door, Doors, Passwords};
use open::Local;
use peer::{Command, Dial, Plan, Task};
use status::Registered;

/// Connections of a peer that its task has not looked at yet.
const WAITING: usize = 4;

/// Runs the BGP peers that the configuration names, until its sender is gone or `stopping` says so: then they are told, and closed.
///
/// Reacts to a new configuration, and to another pin of a peer, by comparing it with what runs: a peer for which nothing has changed is left
/// alone; one that is gone gets a Cease (Peer De-configured), one that is configured otherwise, or is to come from elsewhere, gets a
/// Cease (Other Configuration Change) and is spoken to anew (RFC 4486 §4). Where it is listened concerns those sessions alone that the peer
/// has opened. `peers` shows how they do.
pub async fn run(
    mut config: watch::Receiver<Arc<Config>>,
    feed: Feed,
    pins: Pins,
    peers: Peers,
    mut stopping: watch::Receiver<bool>,
) {
    let mut speaker = Speaker {
        feed,
        pins,
        peers,
        statistics: watch::channel(Bmp::STATISTICS_TIMER).0,
        running: BTreeMap::new(),
        ways: BTreeMap::new(),
        listener: None,
        passwords: watch::channel(Passwords::new()).0,
        doors: Doors::default(),
    };
    loop {
        let wanted = config.borrow_and_update().clone();
        speaker.follow(&wanted).await;
        tokio::select! {
            changed = config.changed() => if changed.is_err() { break },
            () = speaker.another_way() => {}
            _stopped = stopping.wait_for(|stopping| *stopping) => break,
        }
    }
    speaker.stop().await;
}

struct Speaker {
    feed: Feed,
    pins: Pins,
    peers: Peers,
    /// The time between the Statistics Reports of a peer (RFC 7854 §4.8); zero is never.
    statistics: watch::Sender<Duration>,
    running: BTreeMap<IpAddr, Running>,
    /// What the connections to each peer and from it may use.
    ways: BTreeMap<(IpAddr, Role), (Arc<SessionPin>, watch::Receiver<PinState>)>,
    /// With its port.
    listener: Option<(u16, JoinHandle<()>)>,
    passwords: watch::Sender<Passwords>,
    doors: Doors,
}

/// What a peer is to be.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// It is not decided yet: what is there stays.
    Undecided,
    /// Not spoken to, for this reason.
    Not(Reason, String),
    Spoken(Plan, Grants),
}

impl Wanted {
    /// Whether a session of one is as good for the other, unless it is one that the peer opened and the two accept it otherwise.
    fn is_same_session(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Spoken(plan, grants), Self::Spoken(other_plan, other_grants)) => {
                plan == other_plan && line(grants.connect.as_ref()) == line(other_grants.connect.as_ref())
            }
            _ => self == other,
        }
    }
}

/// What its connections may use.
#[derive(Debug)]
struct Grants {
    /// Of those that are opened to it.
    connect: Option<Arc<Grant>>,
    /// Of those that it opens.
    listen: Option<Arc<Grant>>,
}

impl Grants {
    fn agree(&self) -> bool {
        let (Some(connect), Some(listen)) = (&self.connect, &self.listen) else { return true };
        let index = |grant: &Grant| grant.resolved.device.as_ref().map(|(index, _)| *index);
        connect.resolved.source == listen.resolved.source && index(connect) == index(listen)
    }
}

/// As for a session: under another [`Grant::line`] it is another connection.
fn line(grant: Option<&Arc<Grant>>) -> Option<u64> {
    grant.map(|grant| grant.line)
}

impl PartialEq for Grants {
    fn eq(&self, other: &Self) -> bool {
        line(self.connect.as_ref()) == line(other.connect.as_ref())
            && line(self.listen.as_ref()) == line(other.listen.as_ref())
    }
}

impl Eq for Grants {}

/// A peer that is configured.
struct Running {
    wanted: Wanted,
    asn: Option<u32>,
    registered: Registered,
    /// Of one that is spoken to.
    task: Option<(Leave, mpsc::Sender<Command>, JoinHandle<()>)>,
}

impl Speaker {
    async fn follow(&mut self, config: &Config) {
        let statistics = config.bmp.statistics_timer.unwrap_or(Bmp::STATISTICS_TIMER);
        self.statistics.send_if_modified(|now| std::mem::replace(now, statistics) != statistics);
        let bgp = config.bgp.as_ref();
        let mut wanted = BTreeMap::<IpAddr, (Option<u32>, Wanted)>::new();
        let mut ways = BTreeSet::new();
        for (bgp, (address, peer)) in bgp.into_iter().flat_map(|bgp| bgp.peers.iter().map(move |peer| (bgp, peer))) {
            let plan = match plan(bgp, *address, peer) {
                Err(why) => Wanted::Not(pin::Reason::NotConfigured.into(), why.to_owned()),
                Ok(plan) => {
                    let connect = plan.connects.then_some((Role::Connect, plan.target.port));
                    let listen = bgp.listen_port.map(|port| (Role::Listen, port));
                    ways.extend([connect, listen].into_iter().flatten().map(|(role, _)| (*address, role)));
                    self.granted(*address, plan, connect, listen)
                }
            };
            wanted.insert(*address, (peer.asn, plan));
        }
        self.ways.retain(|way, _| ways.contains(way));
        let mut ending = Vec::new();
        for (address, mut running) in std::mem::take(&mut self.running) {
            let subcode = match wanted.get(&address) {
                Some((asn, wanted))
                    if *asn == running.asn
                        && (wanted.is_same_session(&running.wanted) || *wanted == Wanted::Undecided) =>
                {
                    if *wanted != Wanted::Undecided && *wanted != running.wanted {
                        self.doors.close(address);
                    }
                    self.running.insert(address, running);
                    continue;
                }
                Some((_, Wanted::Not(..))) => cease::SHUTDOWN,
                Some(_) => cease::CONFIGURATION_CHANGE,
                None => cease::DE_CONFIGURED,
            };
            self.doors.close(address);
            ending.extend(running.stop(&Notice::cease(subcode)).await);
            // What was counted goes on.
            if wanted.get(&address).is_some_and(|(asn, _)| *asn == running.asn) {
                self.running.insert(address, running);
            }
        }
        // All of these first: a new session of a peer must not collide with the one before.
        for task in ending {
            finished(task).await;
        }
        // Before anybody connects with them.
        let plans = wanted.values().filter_map(|(_, wanted)| match wanted {
            Wanted::Spoken(plan, grants) if grants.listen.is_some() => Some(plan),
            _ => None,
        });
        let passwords: Passwords =
            plans.filter_map(|plan| Some((plan.target.address, plan.target.password.clone()?))).collect();
        self.passwords.send_if_modified(|now| {
            let differs = *now != passwords;
            *now = passwords;
            differs
        });
        self.listen(bgp.and_then(|bgp| bgp.listen_port)).await;
        for (address, (asn, wanted)) in wanted {
            let known = self.running.get(&address).is_some_and(|running| running.wanted == wanted);
            if known || wanted == Wanted::Undecided {
                continue;
            }
            let mut running = self.running.remove(&address);
            if let Some(same) = running.take_if(|running| running.wanted.is_same_session(&wanted)) {
                let same = self.accept_otherwise(address, same, wanted).await;
                self.running.insert(address, same);
                continue;
            }
            let registered = running.map_or_else(|| self.peers.register(address, asn), |running| running.registered);
            let running = self.start(address, asn, wanted, registered);
            self.running.insert(address, running);
        }
    }

    /// What a peer is to be, once its connections have their pins.
    fn granted(
        &mut self,
        address: IpAddr,
        plan: Plan,
        connect: Option<(Role, u16)>,
        listen: Option<(Role, u16)>,
    ) -> Wanted {
        let mut grants = Grants { connect: None, listen: None };
        for (role, port) in [connect, listen].into_iter().flatten() {
            let (_, state) = self.ways.entry((address, role)).or_insert_with(|| {
                let pin = self.pins.of(&Pinned::BgpPeer(address, role));
                let state = pin.subscribe();
                (pin, state)
            });
            let grant = match &*state.borrow_and_update() {
                PinState::Pending => return Wanted::Undecided,
                // Still of the configuration before.
                PinState::Ready(grant) if grant.target.station.port() != port => return Wanted::Undecided,
                PinState::Ready(grant) => Some(Arc::clone(grant)),
                PinState::Down(unresolved) => {
                    let mend = match &*unresolved.mend {
                        "" => String::new(),
                        mend if mend.starts_with("connect-interface ") => format!(" (`peer {address} {mend}`)"),
                        mend => format!(" (`{mend}`)"),
                    };
                    let why = format!("{}: {}{mend}", unresolved.reason.as_str(), unresolved.why);
                    return Wanted::Not(unresolved.reason.into(), why);
                }
            };
            match role {
                Role::Connect => grants.connect = grant,
                Role::Listen => grants.listen = grant,
            }
        }
        // Both come from one place: where they do not, the second is about to be told what the first was.
        if grants.agree() { Wanted::Spoken(plan, grants) } else { Wanted::Undecided }
    }

    /// Returns when the pin of some peer is another.
    async fn another_way(&mut self) {
        let changes: Vec<_> = self.ways.values_mut().map(|(_, state)| Box::pin(state.changed())).collect();
        if changes.is_empty() {
            return pending().await;
        }
        // The sender is in the pin, which is here.
        let _ = select_all(changes).await;
    }

    fn start(&self, address: IpAddr, asn: Option<u32>, wanted: Wanted, registered: Registered) -> Running {
        let ready = match &wanted {
            Wanted::Undecided => return Running { wanted, asn, registered, task: None },
            Wanted::Not(reason, why) => Err((*reason, why.clone())),
            Wanted::Spoken(plan, grants) => {
                let open = plan.local.open().map_err(|error| (pin::Reason::NotConfigured.into(), error.to_string()));
                open.map(|open| (plan, grants, open))
            }
        };
        registered.shown.change(status::Now::begin);
        let task = match ready {
            Err((reason, why)) => {
                info!(peer = %address, "not spoken to: {why}");
                registered.shown.change(|now| now.fail(reason, why));
                None
            }
            Ok((plan, grants, sent_open)) => {
                let (sender, commands) = mpsc::channel(WAITING);
                let datapath = self.pins.datapath();
                self.open_door(address, grants, &sender);
                let dialer = grants.connect.as_ref().map(|grant| Dialer {
                    target: plan.target.clone(),
                    grant: Arc::clone(grant),
                    datapath: datapath.clone(),
                });
                let dial: Dial = Arc::new(move || match dialer.clone() {
                    Some(dialer) => Box::pin(dialer.dial()),
                    None => Box::pin(pending()),
                });
                let shown = registered.shown.clone();
                let listens = grants.listen.is_some();
                let statistics = self.statistics.subscribe();
                let task = Task::new(plan.clone(), listens, sent_open, dial, &self.feed, shown, statistics);
                let leave = Leave::default();
                let task = tasks::until("BGP peer", &leave, task.run(commands));
                Some((leave, sender, task))
            }
        };
        Running { wanted, asn, registered, task }
    }

    /// A peer of which all is as before but from where, and to which port, it may connect.
    async fn accept_otherwise(&self, address: IpAddr, running: Running, wanted: Wanted) -> Running {
        if let (Wanted::Spoken(_, grants), Some((_, commands, _))) = (&wanted, &running.task) {
            // One that is not there any more has ended.
            let _ = commands.send(Command::Listens(grants.listen.is_some())).await;
            self.open_door(address, grants, commands);
        }
        Running { wanted, ..running }
    }

    /// Lets a peer in, if it may connect.
    fn open_door(&self, address: IpAddr, grants: &Grants, commands: &mpsc::Sender<Command>) {
        if let Some(grant) = &grants.listen {
            let keeper = Doorkeeper { grant: Arc::clone(grant), datapath: self.pins.datapath().clone() };
            self.doors.open(address, Door { commands: commands.clone(), keeper });
        }
    }

    /// Listens on this port, or on none.
    async fn listen(&mut self, port: Option<u16>) {
        if self.listener.as_ref().map(|(port, _)| *port) == port {
            return;
        }
        if let Some((_, task)) = self.listener.take() {
            task.abort();
            // Aborted on purpose: no news. The port is free then.
            let _ = task.await;
        }
        self.peers.change_listener(|status| *status = ListenerStatus { port, ..ListenerStatus::default() });
        self.listener = port.map(|port| {
            let (passwords, doors, peers) = (self.passwords.subscribe(), self.doors.clone(), self.peers.clone());
            let datapath = self.pins.datapath().clone();
            (port, tasks::forever("BGP listener", listener::run(port, passwords, doors, peers, datapath)))
        });
    }

    async fn stop(&mut self) {
        self.listen(None).await;
        let mut ending = Vec::new();
        for mut running in std::mem::take(&mut self.running).into_values() {
            ending.extend(running.stop(&Notice::cease(cease::SHUTDOWN)).await);
        }
        for task in ending {
            finished(task).await;
        }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        if let Some((_, task)) = self.listener.take() {
            task.abort();
        }
    }
}

impl Running {
    /// Tells the task to end.
    async fn stop(&mut self, notice: &Notice) -> Option<JoinHandle<()>> {
        let (leave, commands, task) = self.task.take()?;
        leave.give();
        // One that is not there any more has ended.
        let _ = commands.send(Command::Stop(notice.clone())).await;
        Some(task)
    }
}

async fn finished(task: JoinHandle<()>) {
    if let Err(error) = task.await {
        error!("the task of a BGP peer failed: {error}");
    }
}

/// What has to be configured before a peer is spoken to, and how it is.
pub fn missing(bgp: &Bgp, address: IpAddr, peer: &BgpPeer) -> Option<&'static str> {
    plan(bgp, address, peer).err()
}

/// Whether a peer's session of one configuration is as good for another: where it is not, the peer
/// is told a Cease and spoken to anew.
pub fn is_same_session(address: IpAddr, (bgp, peer): (&Bgp, &BgpPeer), (other, other_peer): (&Bgp, &BgpPeer)) -> bool {
    let plans = plan(bgp, address, peer).ok().zip(plan(other, address, other_peer).ok());
    plans.is_some_and(|(plan, other)| plan == other)
}

/// What a peer is to be; an error says what is missing, and how it is given.
fn plan(bgp: &Bgp, address: IpAddr, peer: &BgpPeer) -> Result<Plan, &'static str> {
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
    let timer = peer.timer.unwrap_or(BgpPeer::TIMER);
    let (port, password) = (peer.port.unwrap_or(BgpPeer::PORT), peer.password.clone());
    Ok(Plan {
        target: Target { address, port, password },
        asn,
        local: Local { asn: bgp.asn, bgp_id, hold: timer.hold, families: peer.families.iter().copied().collect() },
        keepalive: Duration::from_secs(timer.keepalive.into()),
        connects: !peer.listen_only,
    })
}
