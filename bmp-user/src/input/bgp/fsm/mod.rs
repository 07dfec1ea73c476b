//! The finite state machine of RFC 4271 §8 for one connection: events in, actions out. It has no
//! sockets and reads no clock.
//!
//! A peer has two machines, one for the connection that this device opens and one for the
//! connection that the peer opens. [`MachinePair`] holds both and resolves collisions between them
//! (§6.8).
//!
//! Of the optional attributes, the machine implements DampPeerOscillations (§8.1.1) with its
//! IdleHoldTimer, and PassiveTcpEstablishment for connections that the peer opens. It implements
//! neither CollisionDetectEstablishedState nor DelayOpen.

mod event;
mod pair;
mod states;
#[cfg(test)]
mod tests;
mod timers;

use std::{
    fmt,
    time::{Duration, Instant},
};

pub(super) use event::{Action, COLLISION, FsmEvent, OutgoingNotification, SessionEnd};
pub(super) use pair::{Admission, ConnectionStep, Initiator, MachinePair};
pub(super) use timers::{Timer, Timers};

/// The states of RFC 4271 §8.2.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BgpState {
    /// No connection is wanted, or a failed peer is waiting for its next attempt.
    #[default]
    Idle,
    /// A connection is being opened.
    Connect,
    /// The machine waits for the peer to connect.
    Active,
    /// An OPEN was sent. The peer's OPEN is expected.
    OpenSent,
    /// OPENs were exchanged. A KEEPALIVE is expected.
    OpenConfirm,
    /// The session is up, and routes are received.
    Established,
}

impl BgpState {
    /// All states in the order of the RFC.
    pub const ALL: [Self; 6] =
        [Self::Idle, Self::Connect, Self::Active, Self::OpenSent, Self::OpenConfirm, Self::Established];

    /// Returns the name of the state as in the RFC.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        }
    }
}

/// The name of the state as in the RFC.
impl fmt::Display for BgpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The settings of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FsmSettings {
    /// PassiveTcpEstablishment: the machine waits for the peer to connect.
    pub(super) passive: bool,
    /// The hold time in our OPEN. Zero means none.
    pub(super) hold: Duration,
    /// The interval of KEEPALIVEs, as far as the negotiated hold time allows it.
    pub(super) keepalive: Duration,
    /// ConnectRetryTime: how long an attempt to connect may take.
    pub(super) connect_retry: Duration,
    /// IdleHoldTime after the first failure, and the longest.
    pub(super) idle_hold: (Duration, Duration),
}

/// How long the peer's OPEN may take: the "large value" of RFC 4271 §8.2.2.
const OPEN_HOLD: Duration = Duration::from_secs(240);
/// A session that lasts this long is stable and resets the failure counter.
const STEADY: Duration = Duration::from_secs(60);

/// The machine of one connection.
#[derive(Debug)]
pub(super) struct Fsm {
    state: BgpState,
    settings: FsmSettings,
    timers: Timers,
    /// The negotiated hold time and KEEPALIVE interval, valid from OpenConfirm on. Zero means none.
    hold: Duration,
    keepalive: Duration,
    /// ConnectRetryCounter: the number of successive failures.
    failures: u32,
    since: Option<Instant>,
    rng: fastrand::Rng,
    actions: Vec<Action>,
}

impl Fsm {
    /// Creates a machine in Idle. `seed` feeds the jitter.
    pub(super) fn new(settings: FsmSettings, seed: u64) -> Self {
        Self {
            state: BgpState::Idle,
            settings,
            timers: Timers::default(),
            hold: settings.hold,
            keepalive: settings.keepalive,
            failures: 0,
            since: None,
            rng: fastrand::Rng::with_seed(seed),
            actions: Vec::new(),
        }
    }

    pub(super) fn state(&self) -> BgpState {
        self.state
    }

    pub(super) fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Returns the negotiated hold time and KEEPALIVE interval.
    pub(super) fn negotiated(&self) -> (Duration, Duration) {
        (self.hold, self.keepalive)
    }

    /// Returns when the session was established, if it is.
    pub(super) fn established_since(&self) -> Option<Instant> {
        self.since.filter(|_| self.state == BgpState::Established)
    }

    /// Handles an event and returns the actions to perform, in order.
    pub(super) fn on(&mut self, now: Instant, event: FsmEvent) -> Vec<Action> {
        match self.state {
            BgpState::Idle => self.idle(now, event),
            BgpState::Connect => self.connect(now, event),
            BgpState::Active => self.active(now, event),
            BgpState::OpenSent => self.open_sent(now, event),
            BgpState::OpenConfirm => self.open_confirm(now, event),
            BgpState::Established => self.established(now, event),
        }
        std::mem::take(&mut self.actions)
    }

    /// Stops a timer that has expired at `now` and returns its event, which the caller must handle.
    pub(super) fn expired(&mut self, now: Instant) -> Option<FsmEvent> {
        self.timers.expired(now).map(|timer| match timer {
            Timer::ConnectRetry => FsmEvent::ConnectRetryTimerExpires,
            Timer::Hold => FsmEvent::HoldTimerExpires,
            Timer::Keepalive => FsmEvent::KeepaliveTimerExpires,
            Timer::IdleHold => FsmEvent::IdleHoldTimerExpires,
        })
    }

    /// Returns to Idle without failure or NOTIFICATION, because the other connection takes over.
    fn stand_down(&mut self) -> Vec<Action> {
        if self.state != BgpState::Idle {
            self.act(Action::Close);
        }
        self.timers = Timers::default();
        self.state = BgpState::Idle;
        std::mem::take(&mut self.actions)
    }

    /// Waits in Idle as long as the other machine of a failed peer.
    fn damp(&mut self, like: &Self) -> Vec<Action> {
        let actions = self.stand_down();
        self.failures = like.failures;
        if let Some(at) = like.timers.get(Timer::IdleHold) {
            self.timers.start(Timer::IdleHold, at);
        }
        actions
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Returns three quarters to all of a time (RFC 4271 §10).
    fn jittered(&mut self, time: Duration) -> Duration {
        time.mul_f64(0.75 + self.rng.f64() / 4.0)
    }

    fn start_connect_retry(&mut self, now: Instant) {
        let time = self.jittered(self.settings.connect_retry);
        self.timers.start(Timer::ConnectRetry, now + time);
    }

    fn start_hold(&mut self, now: Instant) {
        if self.hold.is_zero() {
            self.timers.stop(Timer::Hold);
        } else {
            self.timers.start(Timer::Hold, now + self.hold);
        }
    }

    fn start_keepalive(&mut self, now: Instant) {
        if !self.keepalive.is_zero() {
            let time = self.jittered(self.keepalive);
            self.timers.start(Timer::Keepalive, now + time);
        }
    }

    /// Goes to Idle, after a NOTIFICATION if there is one. Unless the peer was stopped, the
    /// IdleHoldTimer starts the machine again.
    fn fail(&mut self, now: Instant, event: FsmEvent, notice: Option<OutgoingNotification>) {
        if let Some(notice) = &notice {
            self.act(Action::SendNotification(notice.clone()));
        }
        self.act(Action::Close);
        self.act(Action::Down(SessionEnd { state: self.state, event: event.clone(), sent: notice }));
        if self.established_since().is_some_and(|since| now.saturating_duration_since(since) >= STEADY) {
            self.failures = 0;
        }
        self.state = BgpState::Idle;
        self.timers = Timers::default();
        match event {
            FsmEvent::ManualStop(_) => {
                self.failures = 0;
                return;
            }
            // A collision is no failure of the peer: the other connection continues.
            FsmEvent::OpenCollisionDump => return,
            _ => {}
        }
        self.failures = self.failures.saturating_add(1);
        let (first, longest) = self.settings.idle_hold;
        let doubled = first.saturating_mul(1u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX)).min(longest);
        let time = self.jittered(doubled);
        self.timers.start(Timer::IdleHold, now + time);
    }

    /// Fails because of a message that this state does not allow.
    fn unexpected(&mut self, now: Instant, event: FsmEvent) {
        let notice = OutgoingNotification::unexpected(self.state, &event);
        self.fail(now, event, Some(notice));
    }
}
