//! The model's knowledge about the sessions.

use std::{collections::BTreeMap, net::IpAddr};

use super::{configuration::ModelSessionId, reference::SessionOutcome};

/// The model's knowledge about one session.
#[derive(Clone, Debug)]
pub(crate) struct ModelSession {
    pub(crate) outcome: SessionOutcome,
    /// Names in `egress-interface`.
    pub(crate) egress: Vec<String>,
    /// The chosen address.
    pub(crate) chosen: Option<IpAddr>,
    /// True if the network carries its packets.
    pub(crate) carried: bool,
    /// How often it was established. `None` if the network did not always carry it, so that its
    /// connection may have failed.
    pub(crate) established: Option<u64>,
    /// Source address of its connection.
    pub(crate) local: Option<IpAddr>,
}

pub(crate) type ModelSessions = BTreeMap<ModelSessionId, ModelSession>;
