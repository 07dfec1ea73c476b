//! A session that has a connection for each router behind a relay: `per-router`.
//!
//! Its task makes no connection. It keeps a [`SessionTask`] for each router that the feed knows.
//! All of them have the settings, the station and the pin of the session. What differs is the
//! router: its Initiation, its peers, its state and its counters.
//!
//! A router that goes away keeps its connection for as long as its relay holds peers, and a little
//! longer. Then its station gets a Termination.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    select,
    sync::{Notify, watch},
    task::JoinHandle,
};
use tracing::{info, warn};

use super::{
    DeviceIdentity, SessionHandle,
    context::{SessionContext, SessionMeans, stopped},
    label::SessionLabel,
    stage::at,
    status::{CauseOrigin, SessionPhase, SessionSnapshot, SessionStatus},
    task::SessionTask,
};
use crate::{
    config::{PerRouter, SessionConfig},
    feed::{KnownRouter, RouterId, RouterPresence},
    pin::PinState,
    tasks::{self, Leave, Tasks, until_woken},
};

/// How often the task looks at its routers at most, however much happens.
const ROUND: Duration = Duration::from_millis(20);
/// How many connections are begun in a round: 200 a second.
const OPENED_IN_ROUND: usize = 4;
/// How long a router that has gone away keeps its connection at least.
const LEAST_HOLD: Duration = Duration::from_secs(5);
/// How much longer a connection stays than the peers of its router, so that their ends come first.
const AFTER_HOLD: Duration = Duration::from_secs(1);
/// sysDescr of a router that gives none. An Initiation must have one (RFC 7854 §4.3).
const NO_DESCRIPTION: &str = "unknown";

/// The connection of one router, as displays see it.
#[derive(Clone, Debug)]
pub struct RouterSession {
    /// The router, as it was known last.
    pub router: KnownRouter,
    /// Its connection.
    pub handle: Arc<SessionHandle>,
    /// Until when the connection stays, if the router has gone away.
    pub away_until: Option<Instant>,
}

/// The task of the connection of one router.
struct RouterRun {
    router: watch::Sender<KnownRouter>,
    identity: watch::Sender<DeviceIdentity>,
    handle: Arc<SessionHandle>,
    away_until: Option<Instant>,
    leave: Leave,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl RouterRun {
    /// Names the connection of a router in logs.
    fn label(context: &SessionContext, id: &Arc<RouterId>) -> SessionLabel {
        SessionLabel { id: context.id.clone(), router: Some(Arc::clone(id)) }
    }

    /// Tells the task to end, and returns when it has.
    fn end(self) -> impl Future<Output = ()> {
        self.leave.give();
        self.stop.send_replace(true);
        async move {
            // After a panic bmpd would have ended.
            let _ = self.task.await;
        }
    }
}

/// See the module.
pub(super) struct RouterSessions {
    context: SessionContext,
    handle: Arc<SessionHandle>,
    means: SessionMeans,
    running: BTreeMap<Arc<RouterId>, RouterRun>,
    ending: Tasks,
    /// Woken when a connection goes up or down.
    changed: Arc<Notify>,
    /// How many routers have no connection, because there are too many.
    left_out: usize,
    /// What the connections counted that are over.
    ended: RouterCounts,
}

/// What the status of connections counts.
#[derive(Clone, Copy, Debug, Default)]
struct RouterCounts {
    established: u64,
    dumps: u64,
    retransmits: u64,
    source_changes: u64,
}

impl RouterCounts {
    fn add(&mut self, shown: &SessionSnapshot) {
        self.established += shown.established;
        self.dumps += shown.dumps;
        self.retransmits += shown.retransmits + shown.live_retransmits;
        self.source_changes += shown.source_changes;
    }
}

impl RouterSessions {
    pub(super) fn new(context: SessionContext, handle: Arc<SessionHandle>, means: SessionMeans) -> Self {
        let (running, ending) = (BTreeMap::new(), Tasks::default());
        let (changed, ended) = (Arc::default(), RouterCounts::default());
        Self { context, handle, means, running, ending, changed, left_out: 0, ended }
    }

    pub(super) async fn run(mut self) {
        let mut routers = self.means.feed.routers();
        let mut view = self.context.pin.view();
        let mut identity = self.means.identity.clone();
        let mut attempt = None;
        loop {
            let next = self.follow(&routers.borrow_and_update());
            let line = match &view.borrow_and_update().state {
                PinState::Ready(grant) => Some(grant.line),
                PinState::Pending | PinState::Down(_) => None,
            };
            if line.is_some() && line != attempt {
                line.into_iter().for_each(|line| self.context.status.begin_attempt(line));
                attempt = line;
            }
            self.show();
            let round = Instant::now() + ROUND;
            select! {
                () = stopped(&mut self.context.stop) => break,
                // Without their senders, routers, pin and configuration stay as they are.
                Ok(()) = routers.changed() => {}
                Ok(()) = view.changed() => {}
                Ok(()) = self.context.config.changed() => {}
                Ok(()) = identity.changed() => {}
                // Each router resets its connection by itself.
                Ok(()) = self.context.reset.changed() => {
                    line.into_iter().for_each(|line| self.context.status.begin_attempt(line));
                }
                () = self.changed.notified() => {}
                () = at(next) => {}
                Some(_) = self.ending.join_next() => {}
                never = until_woken() => match never {},
            }
            select! {
                () = stopped(&mut self.context.stop) => break,
                () = at(Some(round)) => {}
            }
        }
        for (_, run) in mem::take(&mut self.running) {
            self.ending.passing("end of a session", run.end());
        }
        while self.ending.join_next().await.is_some() {}
        self.publish();
        self.context.status.update(|whole| whole.phase = SessionPhase::Down);
    }

    /// Brings the connections in line with the routers. Returns when to look again, if nothing
    /// happens before.
    fn follow(&mut self, presence: &RouterPresence) -> Option<Instant> {
        let now = Instant::now();
        let config = self.context.whole_config();
        let wanted: Option<&PerRouter> =
            config.bmp.sessions.get(&self.context.id).and_then(|session| session.per_router.as_ref());
        let is_wanted = |id: &RouterId| wanted.is_some_and(|wanted| wanted.has(&id.relay));
        let mut changes = false;
        for (id, run) in &mut self.running {
            let away_until = if presence.routers().contains_key(id) {
                None
            } else {
                let hold = config.relays.get(&*id.relay).map_or(Duration::ZERO, |relay| relay.hold);
                Some(run.away_until.unwrap_or(now + (hold + AFTER_HOLD).max(LEAST_HOLD)))
            };
            changes |= run.away_until != away_until;
            run.away_until = away_until;
        }
        let is_over = |id: &Arc<RouterId>, run: &mut RouterRun| {
            !is_wanted(id) || run.away_until.is_some_and(|until| until <= now)
        };
        for (id, run) in self.running.extract_if(.., is_over) {
            let why = if run.away_until.is_some() { "it has gone away" } else { "the session is not for it any more" };
            info!(session = %RouterRun::label(&self.context, &id), "closing the connection of a router: {why}");
            self.ended.add(&run.handle.status.snapshot());
            self.ending.passing("end of a session", run.end());
            changes = true;
        }
        let (mut opened, mut left_out, mut is_due) = (0, 0, false);
        let wanted = presence.routers().values().filter(|known| is_wanted(&known.id));
        for known in wanted {
            if let Some(run) = self.running.get(&known.id) {
                changes |= run.router.send_if_modified(|router| {
                    let differs = router != known;
                    router.clone_from(known);
                    differs
                });
                let identity = self.identity(known);
                run.identity.send_if_modified(|before| {
                    let differs = *before != identity;
                    *before = identity;
                    differs
                });
            } else if self.running.len() >= SessionConfig::MOST_ROUTERS {
                left_out += 1;
            } else if opened < OPENED_IN_ROUND {
                let run = self.begin(known);
                self.running.insert(Arc::clone(&known.id), run);
                (opened, changes) = (opened + 1, true);
            } else {
                is_due = true;
            }
        }
        if left_out > 0 && self.left_out == 0 {
            let most = SessionConfig::MOST_ROUTERS;
            warn!(
                session = %self.context.id,
                "a session has {most} connections at most: {left_out} routers have none (what helps: a second session \
                 with `per-router relay NAME`)"
            );
        }
        self.left_out = left_out;
        if changes {
            self.publish();
        }
        let first_end = self.running.values().filter_map(|run| run.away_until).min();
        if is_due { Some(now + ROUND) } else { first_end }
    }

    /// Begins to connect for a router.
    fn begin(&self, known: &KnownRouter) -> RouterRun {
        let SessionContext { id, config, pins, pin, foreign, status, .. } = &self.context;
        let status = SessionStatus::of_router(status, &self.changed);
        let handle = Arc::new(SessionHandle::showing(status, Arc::clone(pin)));
        let (router, identity) = (watch::Sender::new(known.clone()), watch::Sender::new(self.identity(known)));
        let (stop, leave) = (watch::Sender::new(false), Leave::default());
        let context = SessionContext {
            id: id.clone(),
            router: Some(router.subscribe()),
            config: config.clone(),
            pins: pins.clone(),
            pin: Arc::clone(pin),
            foreign: foreign.clone(),
            status: Arc::clone(&handle.status),
            stop: stop.subscribe(),
            reset: self.handle.reset.subscribe(),
        };
        let means = SessionMeans { identity: identity.subscribe(), ..self.means.clone() };
        let task = tasks::until("session of a router", &leave, SessionTask::new(context, means).run());
        RouterRun { router, identity, handle, away_until: None, leave, stop, task }
    }

    /// What the station is told about a router: what the router says of itself, and by which way
    /// it comes.
    fn identity(&self, known: &KnownRouter) -> DeviceIdentity {
        let KnownRouter { id, connection, sys_descr } = known;
        let own = &self.means.identity.borrow().sys_name;
        let remote = connection.remote;
        DeviceIdentity {
            sys_name: id.sys_name.as_ref().map_or_else(|| id.address.to_string(), ToString::to_string),
            sys_descr: sys_descr.clone().unwrap_or_else(|| NO_DESCRIPTION.to_owned()),
            note: Some(format!(
                "relayed by {own}, bmp-relay {}, from {} port {}",
                id.relay,
                remote.ip().to_canonical(),
                remote.port()
            )),
        }
    }

    /// Shows displays the connections.
    fn publish(&self) {
        let shown = |(id, run): (&Arc<RouterId>, &RouterRun)| {
            let router = run.router.borrow().clone();
            let session = RouterSession { router, handle: Arc::clone(&run.handle), away_until: run.away_until };
            (Arc::clone(id), session)
        };
        let shown = self.running.iter().map(shown).collect();
        *self.handle.routers.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// Shows the session: it is up if a router has a connection that is. Otherwise it shows why the
    /// first of them is down, or that it waits for a router.
    fn show(&self) {
        let pin = self.context.pin.state();
        let shown: Vec<SessionSnapshot> = self.running.values().map(|run| run.handle.status.snapshot()).collect();
        if let (PinState::Down(cause), false) = (&pin, shown.iter().any(|shown| shown.phase.is_up())) {
            self.context.show_down(cause, CauseOrigin::Pin);
            return self.count(&shown);
        }
        // What became of an earlier pin is no outcome of the one that is in force.
        let line = match &pin {
            PinState::Ready(grant) => Some(grant.line),
            PinState::Pending | PinState::Down(_) => None,
        };
        let is_of_pin = |shown: &&SessionSnapshot| line.is_none() || shown.pin_line == line;
        let phase_of = |phase| shown.iter().filter(is_of_pin).any(|shown| shown.phase == phase).then_some(phase);
        let has_failed = |shown: &SessionSnapshot| is_of_pin(&shown) && shown.reason.is_some();
        let phase = phase_of(SessionPhase::Dumping)
            .or_else(|| phase_of(SessionPhase::Following))
            .or_else(|| phase_of(SessionPhase::Down).filter(|_| shown.iter().all(has_failed)))
            .unwrap_or(match pin {
                PinState::Pending => SessionPhase::Resolving,
                _ => SessionPhase::Connecting,
            });
        let failed = shown.iter().find(|shown| shown.reason.is_some()).filter(|_| phase == SessionPhase::Down);
        self.context.status.update(|whole| {
            whole.phase = phase;
            whole.clear_cause();
            let up = shown.iter().filter(is_of_pin).filter(|shown| shown.phase.is_up());
            whole.local = up.filter_map(|shown| shown.local).next();
            if let Some(failed) = failed {
                (whole.reason, whole.why, whole.mend) = (failed.reason, failed.why.clone(), failed.mend.clone());
            }
            whole.retry_at = failed.and_then(|failed| failed.retry_at);
        });
        self.count(&shown);
    }

    fn count(&self, shown: &[SessionSnapshot]) {
        self.context.status.update(|whole| {
            (whole.routers, whole.routers_left_out) = (shown.len(), self.left_out);
            let mut counts = self.ended;
            shown.iter().for_each(|shown| counts.add(shown));
            (whole.established, whole.dumps) = (counts.established, counts.dumps);
            (whole.retransmits, whole.source_changes) = (counts.retransmits, counts.source_changes);
        });
    }
}
