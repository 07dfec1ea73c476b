//! The finite state machine of RFC 4271 §8, for one connection: events in, actions out. No sockets, no clocks of its own.
//!
//! A peer has two of them, one for the connection that this device opens and one for the connection that the peer opens; see
//! [`Pair`], which also settles what is between the two (§6.8).
//!
//! Of the optional attributes there are DampPeerOscillations (§8.1.1), with its IdleHoldTimer, and PassiveTcpEstablishment, for the
//! machine of the peer's connection; there are neither CollisionDetectEstablishedState nor DelayOpen.

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

pub(super) use event::{Action, COLLISION, End, Event, Notice};
pub(super) use pair::{Admission, Pair, Step, Way};
pub(super) use timers::{Timer, Timers};

/// The states of RFC 4271 §8.2.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing is being done, or not yet again.
    #[default]
    Idle,
    /// A connection is being opened.
    Connect,
    /// The peer is expected to connect.
    Active,
    /// An OPEN was sent, the peer's is expected.
    OpenSent,
    /// OPENs have been exchanged, a KEEPALIVE is expected.
    OpenConfirm,
    /// Routes come in.
    Established,
}

impl State {
    /// All of them, in the order of the RFC.
    pub const ALL: [Self; 6] =
        [Self::Idle, Self::Connect, Self::Active, Self::OpenSent, Self::OpenConfirm, Self::Established];

    /// The name, as the RFC writes it.
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

/// As the RFC writes it.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a machine is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// PassiveTcpEstablishment: the peer connects.
    pub(super) passive: bool,
    /// The hold time that the OPEN says; zero for none.
    pub(super) hold: Duration,
    /// Between KEEPALIVEs, where the negotiated hold time allows it.
    pub(super) keepalive: Duration,
    /// ConnectRetryTime: how long an attempt to connect may take.
    pub(super) connect_retry: Duration,
    /// The first IdleHoldTime, and the longest.
    pub(super) idle_hold: (Duration, Duration),
}

/// How long an OPEN may take to come: the "large value" of RFC 4271 §8.2.2.
const OPEN_HOLD: Duration = Duration::from_secs(240);
/// A session that was established for so long is none that oscillates.
const STEADY: Duration = Duration::from_secs(60);

/// The machine of one connection.
#[derive(Debug)]
pub(super) struct Fsm {
    state: State,
    settings: Settings,
    timers: Timers,
    /// What is negotiated, from OpenConfirm on: the hold time and the time between KEEPALIVEs; zero for none.
    hold: Duration,
    keepalive: Duration,
    /// ConnectRetryCounter: failures one after the other.
    failures: u32,
    since: Option<Instant>,
    rng: fastrand::Rng,
    actions: Vec<Action>,
}

impl Fsm {
    /// A machine in Idle. `seed` is for jitter.
    pub(super) fn new(settings: Settings, seed: u64) -> Self {
        Self {
            state: State::Idle,
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

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Hold time and time between KEEPALIVEs, as negotiated.
    pub(super) fn negotiated(&self) -> (Duration, Duration) {
        (self.hold, self.keepalive)
    }

    /// When it was established, while it is.
    pub(super) fn established_since(&self) -> Option<Instant> {
        self.since.filter(|_| self.state == State::Established)
    }

    /// Something happened: what is to be done.
    pub(super) fn on(&mut self, now: Instant, event: Event) -> Vec<Action> {
        match self.state {
            State::Idle => self.idle(now, event),
            State::Connect => self.connect(now, event),
            State::Active => self.active(now, event),
            State::OpenSent => self.open_sent(now, event),
            State::OpenConfirm => self.open_confirm(now, event),
            State::Established => self.established(now, event),
        }
        std::mem::take(&mut self.actions)
    }

    /// The next timer that has expired by `now`: it is not running any more, and its event is to be handled.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Event> {
        self.timers.expired(now).map(|timer| match timer {
            Timer::ConnectRetry => Event::ConnectRetryTimerExpires,
            Timer::Hold => Event::HoldTimerExpires,
            Timer::Keepalive => Event::KeepaliveTimerExpires,
            Timer::IdleHold => Event::IdleHoldTimerExpires,
        })
    }

    /// Ends without a failure, and without a word: there is another connection.
    fn stand_down(&mut self) -> Vec<Action> {
        if self.state != State::Idle {
            self.act(Action::Close);
        }
        self.timers = Timers::default();
        self.state = State::Idle;
        std::mem::take(&mut self.actions)
    }

    /// Waits in Idle as long as another machine does, whose peer failed.
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

    /// Three quarters to all of a time (RFC 4271 §10).
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

    /// To Idle, with a NOTIFICATION if there is one to be sent; and back after the IdleHoldTime, unless it was stopped.
    fn fail(&mut self, now: Instant, event: Event, notice: Option<Notice>) {
        if let Some(notice) = &notice {
            self.act(Action::SendNotification(notice.clone()));
        }
        self.act(Action::Close);
        self.act(Action::Down(End { state: self.state, event: event.clone(), sent: notice }));
        if self.established_since().is_some_and(|since| now.saturating_duration_since(since) >= STEADY) {
            self.failures = 0;
        }
        self.state = State::Idle;
        self.timers = Timers::default();
        match event {
            Event::ManualStop(_) => {
                self.failures = 0;
                return;
            }
            // It is no failure of the peer, and the other connection goes on.
            Event::OpenCollisionDump => return,
            _ => {}
        }
        self.failures = self.failures.saturating_add(1);
        let (first, longest) = self.settings.idle_hold;
        let doubled = first.saturating_mul(1u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX)).min(longest);
        let time = self.jittered(doubled);
        self.timers.start(Timer::IdleHold, now + time);
    }

    /// A message that has no place in this state.
    fn unexpected(&mut self, now: Instant, event: Event) {
        let notice = Notice::unexpected(self.state, &event);
        self.fail(now, event, Some(notice));
    }
}
