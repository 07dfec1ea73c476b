//! The connections of a session that has one for each router behind a relay.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::layout::{after, age, capitalised, or_dash, tenths},
    CountedFrom, SentMessages, UpDown,
};
use crate::{
    config::SessionConfig,
    escape::Untrusted,
    pin::Reason,
    session::{RouterSession, SessionHandle, SessionPhase},
};

/// The routers of a session with `per-router`.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(in crate::control::display) struct RoutersReport {
    /// The relay whose routers have connections. `None`: all relays.
    pub(in crate::control::display) relay: Option<String>,
    /// Routers without a connection, because there are too many.
    pub(in crate::control::display) left_out: usize,
    pub(in crate::control::display) connections: Vec<RouterConnectionReport>,
}

/// The connection of one router.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(in crate::control::display) struct RouterConnectionReport {
    pub(in crate::control::display) relay: String,
    /// Where the router connected to the relay from.
    pub(in crate::control::display) address: IpAddr,
    pub(in crate::control::display) port: u16,
    /// `None` if its Initiation has no sysName.
    pub(in crate::control::display) sys_name: Option<Untrusted>,
    pub(in crate::control::display) state: UpDown,
    pub(in crate::control::display) phase: SessionPhase,
    /// Why the connection to the station is down.
    pub(in crate::control::display) reason: Option<Reason>,
    /// The reason in a sentence.
    pub(in crate::control::display) detail: Option<String>,
    /// Seconds since the connection went up or down.
    pub(in crate::control::display) age_seconds: u64,
    /// Seconds, to a tenth.
    pub(in crate::control::display) retry_in_seconds: Option<f64>,
    pub(in crate::control::display) local_port: Option<u16>,
    pub(in crate::control::display) established_count: u64,
    /// Seconds until the connection is closed, because the router has gone away. `None` while the
    /// router is there.
    pub(in crate::control::display) closes_in_seconds: Option<u64>,
    pub(in crate::control::display) messages: SentMessages,
    /// Bytes of BMP.
    pub(in crate::control::display) sent_bytes: u64,
    pub(in crate::control::display) retransmits: u64,
    /// `None` while the connection is down.
    pub(in crate::control::display) lag_bytes: Option<u64>,
}

impl RoutersReport {
    /// Returns `None` for a session that has one connection for all.
    pub(super) fn of(
        configured: &SessionConfig,
        session: &SessionHandle,
        counted_from: CountedFrom,
        head_bytes: u64,
    ) -> Option<Self> {
        let routers = configured.per_router.as_ref()?;
        let of = |router: &RouterSession| RouterConnectionReport::of(router, counted_from, head_bytes);
        Some(Self {
            relay: routers.relay.clone(),
            left_out: session.status.snapshot().routers_left_out,
            connections: session.routers().iter().map(of).collect(),
        })
    }
}

impl RouterConnectionReport {
    fn of(session: &RouterSession, counted_from: CountedFrom, head_bytes: u64) -> Self {
        let RouterSession { router, handle, away_until } = session;
        let (shown, now) = (handle.status.snapshot(), Instant::now());
        let baseline = handle.baseline().filter(|_| counted_from == CountedFrom::Reset);
        let (sent, sent_bytes) = (handle.status.messages(), handle.status.sent_bytes());
        let retransmits = shown.retransmits + shown.live_retransmits;
        let retry_at = shown.retry_at.filter(|_| shown.phase == SessionPhase::Down);
        let (_, position) = handle.status.cursor();
        Self {
            relay: router.id.relay.to_string(),
            address: router.id.address,
            port: router.connection.remote.port(),
            sys_name: router.id.sys_name.as_deref().map(Untrusted::new),
            state: if shown.phase.is_up() { UpDown::Up } else { UpDown::Down },
            phase: shown.phase,
            reason: shown.reason,
            detail: shown.why,
            age_seconds: now.saturating_duration_since(shown.since).as_secs(),
            retry_in_seconds: retry_at.map(|at| tenths(at.saturating_duration_since(now))),
            local_port: shown.local.as_ref().map(SocketAddr::port),
            established_count: shown.established,
            closes_in_seconds: away_until.map(|until| until.saturating_duration_since(now).as_secs()),
            messages: SentMessages::of(baseline.as_ref().map_or(sent, |baseline| baseline.messages_since(&sent))),
            sent_bytes: baseline.as_ref().map_or(sent_bytes, |baseline| baseline.sent_bytes_since(sent_bytes)),
            retransmits: baseline.as_ref().map_or(retransmits, |baseline| baseline.retransmits_since(retransmits)),
            lag_bytes: shown.phase.is_up().then(|| head_bytes.saturating_sub(position)),
        }
    }

    /// Returns `192.0.2.1 edge1`.
    fn name(&self) -> String {
        format!("{}{}", self.address, after(" ", self.sys_name.as_ref()))
    }

    /// Returns the row of the table, below that of the session.
    pub(super) fn row(&self) -> [String; 6] {
        let away = self.closes_in_seconds.map(|_| "router-away");
        let reason = self.reason.map(Reason::as_str).or(away);
        let reason = reason.unwrap_or(if self.state == UpDown::Up { "-" } else { self.phase.as_str() });
        [
            format!("> {}", self.name()),
            "-".to_owned(),
            capitalised(self.state.as_str()),
            age(self.age_seconds),
            format!("relay {}", self.relay),
            reason.to_owned(),
        ]
    }
}

/// As in the detailed display.
impl fmt::Display for RouterConnectionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = capitalised(self.state.as_str());
        write!(
            f,
            "{} (bmp-relay {}, port {}): {state} for {}",
            self.name(),
            self.relay,
            self.port,
            age(self.age_seconds)
        )?;
        if let Some(reason) = self.reason {
            write!(f, ", {}{}", reason.as_str(), after(": ", self.detail.as_ref()))?;
        }
        if let Some(seconds) = self.closes_in_seconds {
            write!(f, ", the router has gone away, closes in {seconds} s")?;
        }
        let (port, lag) = (or_dash(self.local_port), or_dash(self.lag_bytes));
        write!(f, "; from port {port}, {} bytes sent, {lag} bytes behind; {}", self.sent_bytes, self.messages)
    }
}
