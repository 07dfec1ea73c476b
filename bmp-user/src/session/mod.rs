//! The sessions: one task for each station.
//!
//! The task connects from the pinned source, or waits there for the station to connect. It tells
//! the station what is in force, follows the journal, and backs off after failures. It never knows
//! where frames come from.
//!
//! - [`task`] and [`stage`]: the one loop of a session, and its stages
//! - [`connect`], [`listen`], [`accepted`]: how a connection is opened; [`backoff`]: when
//! - [`stream`]: an established connection, with [`transport`], [`outbox`], [`pacer`], [`pulse`]
//!   and [`selection`]
//! - [`adopted`]: a session that another process opens; [`routers`]: a session that has a
//!   connection for each router behind a relay
//! - [`context`], [`label`], [`up`], [`down`]: what all sessions share
//! - [`debugging`], [`steps`]: what an operator sees of a session for a time
//! - [`status`]: what displays read; [`baseline`]: the counters when an operator reset them

mod accepted;
mod adopted;
mod backoff;
mod baseline;
mod connect;
mod context;
mod debugging;
mod down;
mod label;
mod listen;
mod outbox;
mod pacer;
mod pulse;
mod routers;
mod selection;
mod stage;
mod status;
mod steps;
mod stream;
mod task;
#[cfg(test)]
mod tests;
mod transport;
mod up;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle, time::timeout};

pub use baseline::{CounterBaseline, EndedConnections};
pub use debugging::SessionDebugging;
pub use routers::RouterSession;
pub use selection::ribs_of as selection_of;
pub use status::{CauseOrigin, SessionPhase, SessionProcess, SessionSnapshot, SessionStatus, ShownDump};

use crate::{
    config::{Config, SessionConfig, SessionId},
    feed::{Feed, RouterId},
    pin::{ForeignSockets, Pins, SessionPin},
    tasks::{self, Leave, Tasks},
    tls::TlsProfiles,
};
use adopted::AdoptedSession;
use context::{SessionContext, SessionMeans};
use listen::Listeners;
use routers::RouterSessions;
use task::SessionTask;

/// How long all sessions together have to say farewell when bmpd ends: a little longer than one
/// has.
const SHUTDOWN: Duration = Duration::from_secs(3);

/// What this device calls itself in Initiation messages (RFC 7854 §4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// sysName.
    pub sys_name: String,
    /// sysDescr.
    pub sys_descr: String,
    /// A text about a router that bmpd relays, for a connection of that router.
    pub note: Option<String>,
}

/// A session as displays and operators see it.
#[derive(Debug)]
pub struct SessionHandle {
    /// What its task shows.
    pub status: Arc<SessionStatus>,
    /// Its pin.
    pub pin: Arc<SessionPin>,
    reset: watch::Sender<()>,
    /// The counters when an operator reset them last.
    baseline: Mutex<Option<CounterBaseline>>,
    /// The connections of the routers, if each router has its own.
    routers: Mutex<BTreeMap<Arc<RouterId>, RouterSession>>,
}

/// The values that no setting changes.
pub mod defaults {
    pub use super::pulse::DEAD_AFTER;
    pub use super::stream::FAREWELL;
}

impl SessionHandle {
    /// Returns a session that has not begun.
    pub fn idle(pin: Arc<SessionPin>) -> Self {
        Self::showing(SessionStatus::new(), pin)
    }

    fn showing(status: SessionStatus, pin: Arc<SessionPin>) -> Self {
        let (status, reset) = (Arc::new(status), watch::Sender::new(()));
        Self { status, pin, reset, baseline: Mutex::default(), routers: Mutex::default() }
    }

    /// Returns the connections of the routers, in the order of their names. Empty for a session
    /// that has one connection for all.
    pub fn routers(&self) -> Vec<RouterSession> {
        self.routers.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Returns the counters when an operator reset them last; `None` if nobody did.
    pub fn baseline(&self) -> Option<CounterBaseline> {
        self.baseline.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// All sessions. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Arc<Mutex<BTreeMap<SessionId, Arc<SessionHandle>>>>);

impl Sessions {
    /// Returns one session.
    pub fn get(&self, id: &SessionId) -> Option<Arc<SessionHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Closes the connections of these sessions and has them connect again at once.
    pub fn reset(&self, ids: &[SessionId]) {
        for session in ids.iter().filter_map(|id| self.get(id)) {
            session.reset.send_replace(());
        }
    }

    /// Has displays count from zero for these sessions, which stay as they are.
    pub fn reset_counters(&self, ids: &[SessionId], pins: &Pins) {
        for session in ids.iter().filter_map(|id| self.get(id)) {
            let routers = session.routers();
            for counted in [&session].into_iter().chain(routers.iter().map(|router| &router.handle)) {
                let baseline = CounterBaseline::of(counted, pins);
                *counted.baseline.lock().unwrap_or_else(PoisonError::into_inner) = Some(baseline);
            }
        }
    }

    fn set(&self, id: &SessionId, session: Arc<SessionHandle>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), session);
    }

    fn remove(&self, id: &SessionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// How the connections of a session come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionKind {
    /// It has one connection, which bmpd or the station opens.
    Single,
    /// It has a connection for each router behind a relay.
    PerRouter,
    /// Another process opens it.
    Adopted,
}

impl SessionKind {
    fn of(session: &SessionConfig) -> Self {
        match (session.adopt, &session.per_router) {
            (true, _) => Self::Adopted,
            (false, Some(_)) => Self::PerRouter,
            (false, None) => Self::Single,
        }
    }
}

struct SessionRun {
    kind: SessionKind,
    leave: Leave,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl SessionRun {
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

/// What sessions share with the rest of bmpd.
pub struct SessionSurroundings {
    /// The frames that stations are told.
    pub feed: Feed,
    /// The pins of the sessions.
    pub pins: Pins,
    /// Other processes' sockets, and the routing tables.
    pub foreign: ForeignSockets,
    /// What this device calls itself.
    pub identity: watch::Receiver<DeviceIdentity>,
    /// The TLS profiles.
    pub tls: TlsProfiles,
}

/// Keeps one task for each configured session until `stop` is true. Then every station is told
/// Termination and closed.
pub async fn run(
    sessions: Sessions,
    surroundings: SessionSurroundings,
    mut config: watch::Receiver<Arc<Config>>,
    mut stop: watch::Receiver<bool>,
) {
    let SessionSurroundings { feed, pins, foreign, identity, tls } = surroundings;
    let mut running = BTreeMap::<SessionId, SessionRun>::new();
    let mut ending = Tasks::default();
    let listeners = Listeners::new(config.clone());
    loop {
        let wanted = Arc::clone(&config.borrow_and_update());
        let is_outdated = |id: &SessionId, running: &SessionRun| {
            wanted.bmp.sessions.get(id).is_none_or(|session| SessionKind::of(session) != running.kind)
        };
        for (id, session) in running.extract_if(.., |id, running| is_outdated(id, running)) {
            sessions.remove(&id);
            ending.passing("end of a session", session.end());
        }
        for (id, configured) in &wanted.bmp.sessions {
            if running.contains_key(id) {
                continue;
            }
            let session = Arc::new(SessionHandle::idle(pins.session(id)));
            let (stop, stop_receiver) = watch::channel(false);
            let leave = Leave::default();
            let context = SessionContext {
                id: id.clone(),
                router: None,
                config: config.clone(),
                pins: pins.clone(),
                pin: Arc::clone(&session.pin),
                foreign: foreign.clone(),
                status: Arc::clone(&session.status),
                stop: stop_receiver,
                reset: session.reset.subscribe(),
            };
            let kind = SessionKind::of(configured);
            let means = SessionMeans {
                feed: feed.clone(),
                identity: identity.clone(),
                listeners: listeners.clone(),
                tls: tls.clone(),
            };
            let task = match kind {
                SessionKind::Adopted => tasks::until("adopted session", &leave, AdoptedSession::new(context).run()),
                SessionKind::Single => tasks::until("session", &leave, SessionTask::new(context, means).run()),
                SessionKind::PerRouter => {
                    let task = RouterSessions::new(context, Arc::clone(&session), means);
                    tasks::until("session per router", &leave, task.run())
                }
            };
            sessions.set(id, session);
            running.insert(id.clone(), SessionRun { kind, leave, stop, task });
        }
        let more = tokio::select! {
            changed = config.changed() => changed.is_ok(),
            stopped = stop.wait_for(|stop| *stop) => { drop(stopped); false }
            Some(_) = ending.join_next() => true,
            never = tasks::until_woken() => match never {},
        };
        if !more {
            break;
        }
    }
    for (_, session) in running {
        ending.passing("end of a session", session.end());
    }
    // A session that takes longer is closed by the end of its task.
    let _ = timeout(SHUTDOWN, async { while ending.join_next().await.is_some() {} }).await;
}
