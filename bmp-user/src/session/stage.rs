//! The stages of a session's task, and what belongs to each.

use std::{
    future::pending,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::TcpStream,
    time::{Instant as Deadline, sleep_until},
};

use super::{connect::StationConnection, listen::StationListener, stream::StationStream};
use crate::{
    config::{Config, ConnectRetry, KeychainConfig, Secret, SessionConfig, SessionKeepalive, TlsProfileConfig},
    pin::{DownCause, Grant},
};

/// An attempt that is being made.
pub(super) type ConnectFuture = Pin<Box<dyn Future<Output = Result<StationConnection, DownCause>> + Send>>;

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
    /// When the key chain is looked at again, if the session has one.
    pub(super) look: Option<Instant>,
    /// The TLS handshake with a station that has connected.
    pub(super) opening: Option<ConnectFuture>,
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
    /// The TLS handshake with the station, which has connected anew.
    pub(super) opening: Option<ConnectFuture>,
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
    /// The name of the key chain, and the chain if it exists.
    pub(super) keychain: Option<(String, Option<KeychainConfig>)>,
    /// The name of the TLS profile, and the profile if it exists.
    pub(super) tls: Option<(String, Option<TlsProfileConfig>)>,
    pub(super) local_port: Option<u16>,
    pub(super) mss: Option<u16>,
    pub(super) dscp: Option<u8>,
    pub(super) proxy_protocol: bool,
    pub(super) keepalive: Option<SessionKeepalive>,
    pub(super) connect_retry: Option<ConnectRetry>,
    pub(super) flap_damping: Duration,
}

/// Why the task woke up.
pub(super) enum SessionWakeup {
    /// The session is removed, or bmpd ends.
    Stopped,
    /// An operator resets the session.
    Reset,
    /// The pin asks something else of the session.
    PinChanged,
    /// Another configuration is in force.
    Configured,
    /// The stage's time is over.
    Due,
    /// An attempt ended.
    Attempted(Result<StationConnection, DownCause>),
    /// The station connected.
    StationConnected(TcpStream),
    /// The connection failed.
    StreamFailed(DownCause),
}

/// Why a connection is over.
pub(super) enum StationStreamEnd {
    Stopped,
    Reset,
    /// Another pin is in force, or none.
    PinChanged,
    /// The connection failed.
    Failed(DownCause),
    /// The station connected anew.
    Replaced(StationConnection),
}

impl StationStreamEnd {
    /// Says why, for an operator who watches.
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Stopped => "the session ends".to_owned(),
            Self::Reset => "an operator reset the session".to_owned(),
            Self::PinChanged => "another pin is in force, or none".to_owned(),
            Self::Failed(cause) => format!("{}: {}", cause.reason, cause.why),
            Self::Replaced(_) => "the station connected anew".to_owned(),
        }
    }
}

impl AttemptSettings {
    /// Returns the settings of a session. `config` has the key chains and the TLS
    /// profiles.
    pub(super) fn of(session: &SessionConfig, config: &Config) -> Self {
        let chain = |name: &String| (name.clone(), config.keychains.get(name).cloned());
        let profile = |name: &String| (name.clone(), config.tls_profiles.get(name).cloned());
        Self {
            password: session.password.clone(),
            keychain: session.keychain.as_ref().map(chain),
            tls: session.tls.as_ref().map(profile),
            local_port: session.local_port,
            mss: session.mss,
            dscp: session.dscp,
            proxy_protocol: session.proxy_protocol,
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
            Self::Listening(listening) => listening.look,
            Self::Unpinned | Self::Connecting(_) | Self::Streaming(_) => None,
        }
    }

    /// True if a change of the configuration may end the stage. A stream follows it by itself.
    pub(super) fn follows_config(&self) -> bool {
        matches!(self, Self::Delayed { .. } | Self::Connecting(_) | Self::Listening(_) | Self::BackingOff(_))
    }
}

/// Returns at a time, if there is one.
pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(Deadline::from_std(time)).await,
        None => pending().await,
    }
}

/// Returns the result of an attempt, if there is one.
pub(super) async fn attempted(attempt: Option<&mut ConnectFuture>) -> Result<StationConnection, DownCause> {
    match attempt {
        Some(attempt) => attempt.await,
        None => pending().await,
    }
}

/// Returns the next connection of a station, if it may connect.
pub(super) async fn connected(listener: Option<&mut StationListener>) -> TcpStream {
    match listener {
        Some(listener) => listener.connected().await,
        None => pending().await,
    }
}

/// Returns why a connection failed, if there is one.
pub(super) async fn failed(stream: Option<&mut StationStream>) -> DownCause {
    match stream {
        Some(stream) => stream.follow().await,
        None => pending().await,
    }
}
