//! The stages of a session's task, and what belongs to each.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use super::{listen::StationListener, stream::StationStream};
use crate::{
    config::{ConnectRetry, Secret, SessionConfig},
    pin::{DownCause, Grant},
};

/// An attempt that is being made.
pub(super) type ConnectFuture = Pin<Box<dyn Future<Output = Result<TcpStream, DownCause>> + Send>>;

/// Where the session is.
pub(super) enum Stage {
    /// Waits for the end of `initial-delay`.
    Delayed { since: Instant, until: Instant },
    /// Waits for a pin.
    Unpinned,
    /// Waits for the station to answer.
    Connecting(StationAttempt),
    /// Waits for the station to connect.
    Listening(ListeningStage),
    /// Has a connection.
    Streaming(Box<StreamingStage>),
    /// Waits for the next attempt.
    BackingOff(RetryPause),
}

/// An attempt to connect.
pub(super) struct StationAttempt {
    pub(super) grant: Arc<Grant>,
    pub(super) settings: AttemptSettings,
    /// Packets that the kernel had denied before.
    pub(super) denied_before: u64,
    pub(super) connecting: ConnectFuture,
}

/// A listener without a connection.
pub(super) struct ListeningStage {
    pub(super) grant: Arc<Grant>,
    /// Packets that the kernel had denied before.
    pub(super) denied_before: u64,
    pub(super) listener: StationListener,
}

/// An established connection.
pub(super) struct StreamingStage {
    pub(super) grant: Arc<Grant>,
    pub(super) stream: StationStream,
    pub(super) since: Instant,
    /// Packets that the kernel had denied before.
    pub(super) denied_before: u64,
    /// Where the station may connect anew, if it connects to this host.
    pub(super) listener: Option<StationListener>,
}

/// The time between two attempts.
pub(super) struct RetryPause {
    pub(super) until: Instant,
    pub(super) settings: AttemptSettings,
    /// True if a new route ends the pause.
    pub(super) awaits_route: bool,
}

/// The settings that an attempt is made with. Others end it.
#[derive(Clone, PartialEq)]
pub(super) struct AttemptSettings {
    pub(super) password: Option<Secret>,
    pub(super) mss: Option<u16>,
    pub(super) dscp: Option<u8>,
    pub(super) keepalive: Option<Duration>,
    pub(super) connect_retry: Option<ConnectRetry>,
    pub(super) flap_damping: Duration,
}

impl From<&SessionConfig> for AttemptSettings {
    fn from(session: &SessionConfig) -> Self {
        Self {
            password: session.password.clone(),
            mss: session.mss,
            dscp: session.dscp,
            keepalive: session.keepalive,
            connect_retry: session.connect_retry,
            flap_damping: session.flap_damping,
        }
    }
}

impl Stage {
    /// Returns when the stage's time is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Delayed { until, .. } | Self::BackingOff(RetryPause { until, .. }) => Some(*until),
            Self::Unpinned | Self::Connecting(_) | Self::Listening(_) | Self::Streaming(_) => None,
        }
    }

    /// True if a change of the configuration may end the stage. A stream follows it by itself.
    pub(super) fn follows_config(&self) -> bool {
        matches!(self, Self::Delayed { .. } | Self::Connecting(_) | Self::BackingOff(_))
    }
}
