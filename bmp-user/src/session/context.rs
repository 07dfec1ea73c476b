//! What the tasks of all sessions have in common: their parts, and the signals that they wait for.

use std::sync::Arc;

use bmp_ebpf::Counters;
use tokio::sync::watch;

use super::{status::SessionStatus, steps::ConnectionSteps};
use crate::{
    config::{self, Config, SessionId},
    pin::{ForeignSockets, Pinned, Pins, SessionPin},
};

/// The parts of a session's task.
pub(super) struct SessionContext {
    pub(super) id: SessionId,
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) pins: Pins,
    pub(super) pin: Arc<SessionPin>,
    /// Other processes' sockets, and the routing tables.
    pub(super) foreign: ForeignSockets,
    pub(super) status: Arc<SessionStatus>,
    /// True when the session is to end.
    pub(super) stop: watch::Receiver<bool>,
    /// Changes when an operator resets the session.
    pub(super) reset: watch::Receiver<()>,
}

impl SessionContext {
    /// Returns the session as it is configured now, and with defaults once it is not any more.
    pub(super) fn configured(&mut self) -> config::SessionConfig {
        self.config.borrow_and_update().bmp.sessions.get(&self.id).cloned().unwrap_or_default()
    }

    /// Returns the configuration in force.
    pub(super) fn whole_config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// True if the session is not configured any more.
    pub(super) fn is_removed(&self) -> bool {
        !self.config.borrow().bmp.sessions.contains_key(&self.id)
    }

    /// Returns what the kernel counted for the session.
    pub(super) fn counters(&self) -> Counters {
        self.pins.counters(&self.pin)
    }

    /// Returns what logs the steps of the session's connections.
    pub(super) fn steps(&self) -> ConnectionSteps {
        ConnectionSteps::new(&self.id, &self.status)
    }

    /// Names the session for the pins and the routing tables.
    pub(super) fn pinned(&self) -> Pinned {
        Pinned::Session(self.id.clone())
    }
}

/// Returns when the session is to end.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the owner is gone, which is an end as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Returns when an operator resets the session.
pub(super) async fn reset_requested(reset: &mut watch::Receiver<()>) {
    // An error means that nobody can reset it any more.
    if reset.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
