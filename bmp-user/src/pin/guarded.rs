//! Where the guard stands for a passive session, as sessions and displays see it.

use std::{collections::BTreeSet, sync::Arc};

use bmp_ebpf::{GuardKey, RefusedTraffic};

use super::{
    kernel::{Datapath, Hook},
    plan::Grant,
};

/// Whether a passive session has its listener.
#[derive(Clone, Debug, Default)]
pub enum ListenerState {
    /// The session has not tried since it was configured or since this bmpd began.
    #[default]
    Untried,
    /// The session listens under this grant.
    Open(Arc<Grant>),
    /// The session does not listen.
    Closed,
}

/// One interface that the station may connect by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardedInterface {
    /// Its kernel name.
    pub name: String,
    /// How the guard sees the interface's packets, or in words why it does not.
    pub hook: Result<Hook, String>,
}

/// Where the guard stands for one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardedPlaces {
    /// The interfaces, by index.
    pub(super) interfaces: Vec<GuardedInterface>,
    /// The addresses and ports that the session has listened on: keys without an interface.
    pub(super) listeners: BTreeSet<GuardKey>,
}

impl GuardedPlaces {
    /// Adds what was dropped. The kernel counts for an address and port, so sessions that share a
    /// listener see the same numbers.
    pub(super) fn report(&self, datapath: &Datapath) -> GuardReport {
        let is_ours = |key: &GuardKey| self.listeners.contains(&without_interface(key));
        GuardReport {
            interfaces: self.interfaces.clone(),
            dropped: datapath.refused(|key| key.ifindex != 0 && is_ours(key)),
            refused: datapath.refused(|key| key.ifindex == 0 && is_ours(key)),
        }
    }
}

/// Where the guard stands for one session, and what it dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardReport {
    /// The interfaces, by index.
    pub interfaces: Vec<GuardedInterface>,
    /// Packets that the guard dropped, on all of the interfaces.
    pub dropped: RefusedTraffic,
    /// Packets that reached the listener and were dropped there.
    pub refused: RefusedTraffic,
}

/// Returns the key of an address and port on any interface.
pub(super) fn without_interface(key: &GuardKey) -> GuardKey {
    GuardKey { ifindex: 0, ..*key }
}
