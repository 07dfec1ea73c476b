//! What the tasks of all sessions have in common: their parts, and the signals that they wait for.

use std::sync::Arc;

use bmp_ebpf::Counters;
use bytes::Bytes;
use tokio::sync::watch;

use super::{DeviceIdentity, label::SessionLabel, listen::Listeners, status::SessionStatus, steps::ConnectionSteps};
use crate::{
    config::{self, Config, SessionId},
    feed::{Feed, KnownRouter, RouterConnection, RouterId},
    pin::{ForeignSockets, Pinned, Pins, SessionPin},
    tls::TlsProfiles,
    wire::proxy::{ProxiedConnection, proxy_header},
};

/// What a session is made with, besides its context.
#[derive(Clone)]
pub(super) struct SessionMeans {
    pub(super) feed: Feed,
    /// What this device calls itself, or what the router of the session does.
    pub(super) identity: watch::Receiver<DeviceIdentity>,
    /// Where stations connect to this host.
    pub(super) listeners: Listeners,
    pub(super) tls: TlsProfiles,
}

/// The parts of a session's task.
pub(super) struct SessionContext {
    pub(super) id: SessionId,
    /// The router that the task is for, if each router has a connection of its own.
    pub(super) router: Option<watch::Receiver<KnownRouter>>,
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

    /// Returns the router that the task is for, if each router has a connection of its own.
    pub(super) fn router_id(&self) -> Option<Arc<RouterId>> {
        self.router.as_ref().map(|router| Arc::clone(&router.borrow().id))
    }

    /// Returns the name of the connection in logs.
    pub(super) fn label(&self) -> SessionLabel {
        SessionLabel { id: self.id.clone(), router: self.router_id() }
    }

    /// Returns the header of the PROXY protocol for a new connection: of the router's connection to
    /// its relay, or of bmpd's own.
    pub(super) fn proxy_header(&self) -> Bytes {
        let router = self.router.as_ref().map(|router| router.borrow().connection);
        proxy_header(router.and_then(|RouterConnection { remote, local }| {
            Some(ProxiedConnection { source: remote, destination: local? })
        }))
    }

    /// Returns what logs the steps of the session's connections.
    pub(super) fn steps(&self) -> ConnectionSteps {
        ConnectionSteps::new(self.label(), &self.status)
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
