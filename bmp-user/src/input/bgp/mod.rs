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
//! All that is ever sent are OPEN, KEEPALIVE and NOTIFICATION. So a peer that restarted gracefully waits in vain for the End-of-RIB that RFC
//! 4724 §4.2 has a helper send, and keeps its own routes back until its timer for that has run (BIRD: `graceful restart wait`).

mod connection;
mod dial;
mod fsm;
mod life;
mod listener;
mod open;
mod peer;
mod stale;
mod status;
#[cfg(test)]
mod tests;
mod updates;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tracing::{error, info};

use crate::{
    config::{Bgp, BgpPeer, Bmp, Config},
    feed::Feed,
    link::Host,
    wire::bgp::notification::cease,
};

pub use fsm::State;
pub use status::{ListenerStatus, MessageCounts, PeerStatus, Peers, Session};

use dial::Target;
use fsm::Notice;
use listener::{Door, Doors, Passwords};
use open::Local;
use peer::{Command, Dial, Plan, Task};
use status::Handle;

/// Connections of a peer that its task has not looked at yet.
const WAITING: usize = 4;

/// Runs the BGP peers that the configuration names, until its sender is gone or `stopping` says so: then they are told, and closed.
///
/// Reacts to a new configuration by comparing it with what runs: a peer for which nothing has changed is left alone; one that is
/// gone gets a Cease (Peer De-configured), one that is configured otherwise gets a Cease (Other Configuration Change) and is spoken to
/// anew (RFC 4486 §4). `peers` shows how they do.
pub async fn run(
    mut config: watch::Receiver<Arc<Config>>,
    feed: Feed,
    host: watch::Receiver<Arc<Host>>,
    peers: Peers,
    mut stopping: watch::Receiver<bool>,
) {
    let mut speaker = Speaker {
        feed,
        host,
        peers,
        statistics: watch::channel(Bmp::STATISTICS_TIMER).0,
        running: BTreeMap::new(),
        listener: None,
        passwords: watch::channel(Passwords::new()).0,
        doors: Doors::default(),
    };
    loop {
        let wanted = config.borrow_and_update().clone();
        speaker.follow(&wanted).await;
        tokio::select! {
            changed = config.changed() => if changed.is_err() { break },
            _stopped = stopping.wait_for(|stopping| *stopping) => break,
        }
    }
    speaker.stop().await;
}

struct Speaker {
    feed: Feed,
    host: watch::Receiver<Arc<Host>>,
    peers: Peers,
    /// The time between the Statistics Reports of a peer (RFC 7854 §4.8); zero is never.
    statistics: watch::Sender<Duration>,
    running: BTreeMap<IpAddr, Running>,
    /// With its port.
    listener: Option<(u16, JoinHandle<()>)>,
    passwords: watch::Sender<Passwords>,
    doors: Doors,
}

/// What a peer is to be, or why it is not spoken to.
type Wanted = Result<Plan, &'static str>;

/// A peer that is configured.
struct Running {
    wanted: Wanted,
    asn: Option<u32>,
    /// Its task; or, of one that is not spoken to, what it shows.
    task: Result<(mpsc::Sender<Command>, JoinHandle<()>), Handle>,
}

impl Speaker {
    async fn follow(&mut self, config: &Config) {
        let statistics = config.bmp.statistics_timer.unwrap_or(Bmp::STATISTICS_TIMER);
        self.statistics.send_if_modified(|now| std::mem::replace(now, statistics) != statistics);
        let bgp = config.bgp.as_ref();
        let wanted: BTreeMap<IpAddr, (Option<u32>, Wanted)> = bgp
            .into_iter()
            .flat_map(|bgp| {
                let aliases = &config.interface_aliases;
                bgp.peers.iter().map(|(address, peer)| (*address, (peer.asn, plan(bgp, aliases, *address, peer))))
            })
            .collect();
        let mut ending = Vec::new();
        for (address, running) in std::mem::take(&mut self.running) {
            let subcode = match wanted.get(&address) {
                Some((asn, wanted)) if *wanted == running.wanted && *asn == running.asn => {
                    self.running.insert(address, running);
                    continue;
                }
                Some((_, Ok(_))) => cease::CONFIGURATION_CHANGE,
                Some((_, Err(_))) => cease::SHUTDOWN,
                None => cease::DE_CONFIGURED,
            };
            self.doors.close(address);
            ending.extend(running.stop(&Notice::cease(subcode)).await);
        }
        // All of these first: a new session of a peer must not collide with the one before.
        for task in ending {
            finished(task).await;
        }
        // Before anybody connects with them.
        let plans = wanted.values().filter_map(|(_, wanted)| wanted.as_ref().ok()).filter(|plan| plan.listens);
        let passwords: Passwords =
            plans.filter_map(|plan| Some((plan.target.address, plan.target.password.clone()?))).collect();
        self.passwords.send_if_modified(|now| {
            let differs = *now != passwords;
            *now = passwords;
            differs
        });
        self.listen(bgp.and_then(|bgp| bgp.listen_port)).await;
        for (address, (asn, wanted)) in wanted {
            if !self.running.contains_key(&address) {
                let running = self.start(address, asn, wanted);
                self.running.insert(address, running);
            }
        }
    }

    fn start(&self, address: IpAddr, asn: Option<u32>, wanted: Wanted) -> Running {
        let handle = self.peers.register(address, asn);
        let ready = match &wanted {
            Err(why) => Err((*why).to_owned()),
            Ok(plan) => plan.local.open().map(|open| (plan.clone(), open)).map_err(|error| error.to_string()),
        };
        let task = match ready {
            Err(why) => {
                info!(peer = %address, "not spoken to: {why}");
                handle.change(|now| now.last_error = Some(why));
                Err(handle)
            }
            Ok((plan, sent_open)) => {
                let (sender, commands) = mpsc::channel(WAITING);
                if plan.listens {
                    let (commands, target, host) = (sender.clone(), plan.target.clone(), self.host.clone());
                    self.doors.open(address, Door { commands, target, host });
                }
                let (target, host) = (plan.target.clone(), self.host.clone());
                let dial: Dial = Arc::new(move || Box::pin(dial::dial(target.clone(), Arc::clone(&host.borrow()))));
                let task = Task::new(plan, sent_open, dial, &self.feed, handle, self.statistics.subscribe());
                Ok((sender, tokio::spawn(task.run(commands))))
            }
        };
        Running { wanted, asn, task }
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
            (port, tokio::spawn(listener::run(port, passwords, doors, peers)))
        });
    }

    async fn stop(&mut self) {
        self.listen(None).await;
        let mut ending = Vec::new();
        for running in std::mem::take(&mut self.running).into_values() {
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
    async fn stop(self, notice: &Notice) -> Option<JoinHandle<()>> {
        let (commands, task) = self.task.ok()?;
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

/// What a peer is to be; an error says what is missing, and how it is given.
fn plan(bgp: &Bgp, aliases: &BTreeMap<String, String>, address: IpAddr, peer: &BgpPeer) -> Wanted {
    let asn = peer.asn.ok_or("no AS number: give it one with `peer ADDRESS as-number NUMBER`")?;
    let bgp_id = bgp.router_id.ok_or("no BGP identifier: give this device one with `router-id ADDRESS`")?;
    if peer.families.is_empty() {
        return Err(
            "no address family: enable one with `peer ADDRESS enable` in its view, such as `ipv4-family unicast`",
        );
    }
    let listens = bgp.listen_port.is_some();
    if peer.listen_only && !listens {
        return Err("listen-only, and there is nowhere to connect to: give this device a `listen-port NUMBER`");
    }
    let timer = peer.timer.unwrap_or(BgpPeer::TIMER);
    let (port, password) = (peer.port.unwrap_or(dial::PORT), peer.password.clone());
    let source = peer.connect_interface.clone().map(|connect| (connect, aliases.clone()));
    Ok(Plan {
        target: Target { address, port, password, source },
        asn,
        local: Local { asn: bgp.asn, bgp_id, hold: timer.hold, families: peer.families.iter().copied().collect() },
        keepalive: Duration::from_secs(timer.keepalive.into()),
        connects: !peer.listen_only,
        listens,
    })
}
