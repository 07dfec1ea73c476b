//! The machine of one connection: what all states share.

use std::time::{Duration, Instant};

use super::{
    event::{FsmAction, FsmEvent, OutgoingNotification, SessionEnd},
    state::BgpState,
    timers::{Timer, Timers},
};

/// The settings of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) struct FsmSettings {
    /// PassiveTcpEstablishment: the machine waits for the peer to connect.
    pub(in crate::input::bgp) passive: bool,
    /// The hold time in our OPEN. Zero means none.
    pub(in crate::input::bgp) hold: Duration,
    /// The interval of KEEPALIVEs, as far as the negotiated hold time allows it.
    pub(in crate::input::bgp) keepalive: Duration,
    /// ConnectRetryTime: how long an attempt to connect may take.
    pub(in crate::input::bgp) connect_retry: Duration,
    /// IdleHoldTime.
    pub(in crate::input::bgp) idle_hold: IdleHoldTime,
}

/// How long a machine waits in Idle after a failure. The wait doubles with each failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) struct IdleHoldTime {
    /// The wait after the first failure.
    pub(in crate::input::bgp) first: Duration,
    /// The longest wait.
    pub(in crate::input::bgp) longest: Duration,
}

/// The negotiated timers of a session. Zero means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) struct NegotiatedTimers {
    /// The hold time.
    pub(in crate::input::bgp) hold: Duration,
    /// The interval of KEEPALIVEs.
    pub(in crate::input::bgp) keepalive: Duration,
}

/// How long the peer's OPEN may take: the "large value" of RFC 4271 §8.2.2.
pub(super) const OPEN_HOLD: Duration = Duration::from_secs(240);
/// A session that lasts this long is stable and resets the failure counter.
const STEADY: Duration = Duration::from_secs(60);

/// The machine of one connection.
#[derive(Debug)]
pub(in crate::input::bgp) struct Fsm {
    pub(super) state: BgpState,
    pub(super) settings: FsmSettings,
    pub(super) timers: Timers,
    /// The negotiated hold time and KEEPALIVE interval, valid from OpenConfirm on. Zero means none.
    pub(super) hold: Duration,
    pub(super) keepalive: Duration,
    /// ConnectRetryCounter: the number of successive failures.
    pub(super) failures: u32,
    pub(super) since: Option<Instant>,
    rng: fastrand::Rng,
    actions: Vec<FsmAction>,
}

impl Fsm {
    /// Creates a machine in Idle. `seed` feeds the jitter.
    pub(in crate::input::bgp) fn new(settings: FsmSettings, seed: u64) -> Self {
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

    pub(in crate::input::bgp) fn state(&self) -> BgpState {
        self.state
    }

    pub(in crate::input::bgp) fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Returns the negotiated hold time and KEEPALIVE interval.
    pub(in crate::input::bgp) fn negotiated(&self) -> NegotiatedTimers {
        NegotiatedTimers { hold: self.hold, keepalive: self.keepalive }
    }

    /// Returns when the session was established, if it is.
    pub(in crate::input::bgp) fn established_since(&self) -> Option<Instant> {
        self.since.filter(|_| self.state == BgpState::Established)
    }

    /// Handles an event and returns the actions to perform, in order.
    pub(in crate::input::bgp) fn on(&mut self, now: Instant, event: FsmEvent) -> Vec<FsmAction> {
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
    pub(in crate::input::bgp) fn expired(&mut self, now: Instant) -> Option<FsmEvent> {
        self.timers.expired(now).map(|timer| match timer {
            Timer::ConnectRetry => FsmEvent::ConnectRetryTimerExpires,
            Timer::Hold => FsmEvent::HoldTimerExpires,
            Timer::Keepalive => FsmEvent::KeepaliveTimerExpires,
            Timer::IdleHold => FsmEvent::IdleHoldTimerExpires,
        })
    }

    /// Returns to Idle without failure or NOTIFICATION, because the other connection takes over.
    pub(super) fn stand_down(&mut self) -> Vec<FsmAction> {
        if self.state != BgpState::Idle {
            self.act(FsmAction::Close);
        }
        self.timers = Timers::default();
        self.state = BgpState::Idle;
        std::mem::take(&mut self.actions)
    }

    /// Waits in Idle as long as the other machine of a failed peer.
    pub(super) fn damp(&mut self, like: &Self) -> Vec<FsmAction> {
        let actions = self.stand_down();
        self.failures = like.failures;
        if let Some(at) = like.timers.get(Timer::IdleHold) {
            self.timers.start(Timer::IdleHold, at);
        }
        actions
    }

    pub(super) fn act(&mut self, action: FsmAction) {
        self.actions.push(action);
    }

    /// Returns three quarters to all of a time (RFC 4271 §10).
    fn jittered(&mut self, time: Duration) -> Duration {
        time.mul_f64(0.75 + self.rng.f64() / 4.0)
    }

    pub(super) fn start_connect_retry(&mut self, now: Instant) {
        let time = self.jittered(self.settings.connect_retry);
        self.timers.start(Timer::ConnectRetry, now + time);
    }

    pub(super) fn start_hold(&mut self, now: Instant) {
        if self.hold.is_zero() {
            self.timers.stop(Timer::Hold);
        } else {
            self.timers.start(Timer::Hold, now + self.hold);
        }
    }

    pub(super) fn start_keepalive(&mut self, now: Instant) {
        if !self.keepalive.is_zero() {
            let time = self.jittered(self.keepalive);
            self.timers.start(Timer::Keepalive, now + time);
        }
    }

    /// Goes to Idle, after a NOTIFICATION if there is one. Unless the peer was stopped, the
    /// IdleHoldTimer starts the machine again.
    pub(super) fn fail(&mut self, now: Instant, event: FsmEvent, notice: Option<OutgoingNotification>) {
        if let Some(notice) = &notice {
            self.act(FsmAction::SendNotification(notice.clone()));
        }
        self.act(FsmAction::Close);
        self.act(FsmAction::Down(SessionEnd { state: self.state, event: event.clone(), sent: notice }));
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
            FsmEvent::AutomaticStop(_, idle) => {
                self.failures = 0;
                self.timers.start(Timer::IdleHold, now + idle);
                return;
            }
            // A collision is no failure of the peer: the other connection continues.
            FsmEvent::OpenCollisionDump => return,
            _ => {}
        }
        self.failures = self.failures.saturating_add(1);
        let IdleHoldTime { first, longest } = self.settings.idle_hold;
        let doubled = first.saturating_mul(1u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX)).min(longest);
        let time = self.jittered(doubled);
        self.timers.start(Timer::IdleHold, now + time);
    }

    /// Fails because of a message that this state does not allow.
    pub(super) fn unexpected(&mut self, now: Instant, event: FsmEvent) {
        let notice = OutgoingNotification::unexpected(self.state, &event);
        self.fail(now, event, Some(notice));
    }
}
