//! Sessions that nothing is the matter with, and that wait for something.

use super::words::words;
use crate::{
    config::{SessionConfig, SessionId},
    pin::PinState,
    session::{SessionPhase, SessionSnapshot},
};

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The station connects to this host.
    ForStation,
    /// Another process opens the connection, which bmpd adopts.
    ForDaemon,
    /// A router connects to a relay, whose connection the session is for.
    ForRouter,
    /// The first attempt is not due yet.
    InitialDelay,
}

words!(Wait {
    ForStation => "waiting-for-station",
    ForDaemon => "waiting-for-daemon",
    ForRouter => "waiting-for-router",
    InitialDelay => "initial-delay",
});

/// What a session waits for, and that in a sentence.
#[derive(Clone, Debug)]
pub(super) struct WaitReason {
    pub(super) wait: Wait,
    pub(super) detail: String,
}

impl WaitReason {
    /// Returns `None` where the session does not wait, or where something is the matter with it.
    pub(super) fn of(
        id: &SessionId,
        configured: &SessionConfig,
        shown: &SessionSnapshot,
        state: &PinState,
    ) -> Option<Self> {
        let port = configured.port()?;
        let station = id.station;
        let (wait, detail) = match shown.phase {
            SessionPhase::Listening => {
                let source = match state {
                    PinState::Ready(grant) => grant.resolved.source,
                    PinState::Pending | PinState::Down(_) => None,
                };
                let own = source.map_or("this host".to_owned(), |source| source.to_string());
                let again = match (shown.reason, &shown.why) {
                    (Some(reason), Some(why)) => format!(" again; its last connection ended: {reason}: {why}"),
                    _ => String::new(),
                };
                let dropped = configured.keychain.as_ref().zip(shown.keys);
                let dropped = dropped.and_then(|(chain, keys)| keys.mismatch(chain)).map(|why| format!("; {why}"));
                let dropped = dropped.unwrap_or_default();
                (Wait::ForStation, format!("{station} has not connected to {own} port {port}{again}{dropped}"))
            }
            SessionPhase::Connecting if configured.adopt => {
                let detail = format!("no process of this host has connected to {station} port {port}");
                (Wait::ForDaemon, detail)
            }
            SessionPhase::Connecting if configured.per_router.is_some() && shown.routers == 0 => {
                let relay = configured.per_router.as_ref().and_then(|routers| routers.relay.as_ref());
                let relay = relay.map_or("a relay".to_owned(), |name| format!("bmp-relay {name}"));
                (Wait::ForRouter, format!("no router has sent an Initiation to {relay}"))
            }
            SessionPhase::Down if shown.retry_at.is_some() => {
                (Wait::InitialDelay, "the first attempt to connect is not due yet (initial-delay)".to_owned())
            }
            _ => return None,
        };
        Some(Self { wait, detail })
    }
}
