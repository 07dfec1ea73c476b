//! The sessions: one task for each station, which connects from the pinned source or waits there for the station to connect, tells the
//! station what is in force, follows the journal, and backs off when it must.

mod adopted;
mod backoff;
mod connect;
mod connection;
mod life;
mod listen;
mod outbox;
mod pulse;
mod selection;
mod status;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle, time::timeout};

pub use selection::selection as selection_of;
pub use status::{Phase, Process, Snapshot, Status};

use crate::{
    config::{Config, SessionId},
    feed::Feed,
    pin::{Foreign, Pins, SessionPin},
    tasks::{self, Leave, Tasks},
};
use adopted::Adopted;
use life::Life;
use listen::Listeners;

/// All sessions together have this long to say farewell when bmpd ends: a little more than one has.
const SHUTDOWN: Duration = Duration::from_secs(3);

/// What this device calls itself (RFC 7854 §4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// sysName.
    pub sys_name: String,
    /// sysDescr.
    pub sys_descr: String,
}

/// A session as others see it.
#[derive(Debug)]
pub struct Session {
    /// What it shows of itself.
    pub status: Arc<Status>,
    /// Its pin.
    pub pin: Arc<SessionPin>,
    reset: watch::Sender<()>,
}

/// What is so where nothing is configured.
pub mod defaults {
    pub use super::backoff::{FIRST as RETRY_FIRST, LONGEST as RETRY_LONGEST};
    pub use super::connect::KEEPALIVE_IDLE as KEEPALIVE;
    pub use super::connection::FAREWELL;
    pub use super::pulse::DEAD_AFTER;
}

impl Session {
    /// A session that has not begun.
    pub fn idle(pin: Arc<SessionPin>) -> Self {
        Self { status: Arc::new(Status::new()), pin, reset: watch::Sender::new(()) }
    }
}

/// The sessions that there are. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Arc<Mutex<BTreeMap<SessionId, Arc<Session>>>>);

impl Sessions {
    /// One session.
    pub fn get(&self, id: &SessionId) -> Option<Arc<Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Ends the connections of these sessions, if they have one, and has them connect again at once.
    pub fn reset(&self, ids: &[SessionId]) {
        for session in ids.iter().filter_map(|id| self.get(id)) {
            session.reset.send_replace(());
        }
    }

    fn set(&self, id: &SessionId, session: Arc<Session>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), session);
    }

    fn remove(&self, id: &SessionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

struct Running {
    /// Whether another process opens it.
    adopted: bool,
    leave: Leave,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    /// Tells the task to end, and waits until it has.
    fn end(self) -> impl Future<Output = ()> {
        self.leave.give();
        self.stop.send_replace(true);
        async move {
            // A panic has ended bmpd.
            let _ = self.task.await;
        }
    }
}

/// Keeps one task for each session that is configured, until `stop` says true; then every station is told and closed.
pub async fn run(
    sessions: Sessions,
    feed: Feed,
    pins: Pins,
    foreign: Foreign,
    identity: watch::Receiver<Identity>,
    mut config: watch::Receiver<Arc<Config>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut running = BTreeMap::<SessionId, Running>::new();
    let mut ending = Tasks::default();
    let listeners = Listeners::default();
    loop {
        let wanted = Arc::clone(&config.borrow_and_update());
        let other = |id: &SessionId, running: &Running| {
            wanted.bmp.sessions.get(id).is_none_or(|session| session.adopt != running.adopted)
        };
        for (id, session) in running.extract_if(.., |id, running| other(id, running)) {
            sessions.remove(&id);
            ending.passing("end of a session", session.end());
        }
        for (id, configured) in &wanted.bmp.sessions {
            if running.contains_key(id) {
                continue;
            }
            let session = Session::idle(pins.session(id));
            let (stop, stop_receiver) = watch::channel(false);
            let (pin, status, reset) =
                (Arc::clone(&session.pin), Arc::clone(&session.status), session.reset.subscribe());
            let leave = Leave::default();
            let task = if configured.adopt {
                let adopted = Adopted {
                    id: id.clone(),
                    pins: pins.clone(),
                    pin,
                    foreign: foreign.clone(),
                    status,
                    config: config.clone(),
                    stop: stop_receiver,
                    reset,
                };
                tasks::until("adopted session", &leave, adopted.run())
            } else {
                let life = Life {
                    id: id.clone(),
                    config: config.clone(),
                    feed: feed.clone(),
                    pins: pins.clone(),
                    pin,
                    foreign: foreign.clone(),
                    identity: identity.clone(),
                    status,
                    stop: stop_receiver,
                    farewells: Tasks::default(),
                    listeners: listeners.clone(),
                    lost: false,
                    reset,
                };
                tasks::until("session", &leave, life.run())
            };
            sessions.set(id, Arc::new(session));
            running.insert(id.clone(), Running { adopted: configured.adopt, leave, stop, task });
        }
        let more = tokio::select! {
            changed = config.changed() => changed.is_ok(),
            stopped = stop.wait_for(|stop| *stop) => { drop(stopped); false }
            Some(_) = ending.join_next() => true,
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
