//! The two machines of a peer, and what is between them: collisions (RFC 4271 §6.8), and that a peer which fails is left alone for a
//! while by both.

use std::time::{Duration, Instant};

use super::{Action, Event, Fsm, Notice, Settings, State, Timer};

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) enum Way {
    /// This device.
    Out,
    /// The peer.
    In,
}

impl Way {
    pub(in crate::input::bgp) const ALL: [Self; 2] = [Self::Out, Self::In];

    pub(in crate::input::bgp) fn other(self) -> Self {
        match self {
            Self::Out => Self::In,
            Self::In => Self::Out,
        }
    }
}

/// What is to be done about which connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) struct Step {
    pub(in crate::input::bgp) way: Way,
    pub(in crate::input::bgp) action: Action,
}

/// What becomes of a connection that the peer has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) enum Admission {
    /// It is the machine's: [`Event::TcpConnectionConfirmed`] follows.
    Taken,
    /// It has to wait: the peer failed a moment ago.
    Parked,
    /// There is a session, and it stays.
    Refused,
}

/// In the first moments of a session, a connection of the peer is one that collided with it; later it says that the peer knows nothing of
/// the session any more.
const COLLIDES: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(in crate::input::bgp) struct Pair {
    machines: [Fsm; 2],
    /// Whether connections are opened, and whether they are accepted.
    ways: [bool; 2],
    started: bool,
}

impl Pair {
    /// Machines that open connections, accept them, or both.
    pub(in crate::input::bgp) fn new(settings: Settings, connects: bool, listens: bool, seed: u64) -> Self {
        let machine = |passive| Fsm::new(Settings { passive, ..settings }, seed);
        Self { machines: [machine(false), machine(true)], ways: [connects, listens], started: false }
    }

    pub(in crate::input::bgp) fn machine(&self, way: Way) -> &Fsm {
        &self.machines[way as usize]
    }

    /// The state that is farthest: what an operator sees.
    pub(in crate::input::bgp) fn state(&self) -> State {
        self.machines[0].state().max(self.machines[1].state())
    }

    /// The connection whose session is established.
    pub(in crate::input::bgp) fn established(&self) -> Option<Way> {
        Way::ALL.into_iter().find(|way| self.machine(*way).state() == State::Established)
    }

    /// When something is due.
    pub(in crate::input::bgp) fn deadline(&self) -> Option<Instant> {
        self.machines.iter().filter_map(|machine| machine.timers().next()).min()
    }

    /// Until when the peer is left alone after a failure.
    pub(in crate::input::bgp) fn idle_until(&self) -> Option<Instant> {
        self.machines.iter().filter_map(|machine| machine.timers().get(Timer::IdleHold)).min()
    }

    pub(in crate::input::bgp) fn start(&mut self, now: Instant) -> Vec<Step> {
        self.started = true;
        let mut steps = Vec::new();
        self.settle(now, &mut steps);
        steps
    }

    pub(in crate::input::bgp) fn stop(&mut self, now: Instant, notice: &Notice) -> Vec<Step> {
        self.started = false;
        let mut steps = Vec::new();
        for way in Way::ALL {
            self.put(now, way, Event::ManualStop(notice.clone()), &mut steps);
        }
        steps
    }

    /// From now on connections are accepted, or are not: one that was accepted before ends with this.
    pub(in crate::input::bgp) fn listen(&mut self, now: Instant, listens: bool, notice: &Notice) -> Vec<Step> {
        let mut steps = Vec::new();
        self.ways[Way::In as usize] = listens;
        if self.machine(Way::In).state() >= State::OpenSent {
            self.put(now, Way::In, Event::ManualStop(notice.clone()), &mut steps);
        } else if !listens {
            let actions = self.machines[Way::In as usize].stand_down();
            steps.extend(actions.into_iter().map(|action| Step { way: Way::In, action }));
        }
        self.settle(now, &mut steps);
        steps
    }

    /// Something happened to a connection. A good OPEN is for [`Pair::open`].
    pub(in crate::input::bgp) fn on(&mut self, now: Instant, way: Way, event: Event) -> Vec<Step> {
        let mut steps = Vec::new();
        self.put(now, way, event, &mut steps);
        self.settle(now, &mut steps);
        steps
    }

    /// A good OPEN with a hold time in seconds. Where both connections have come so far, the one stays that was opened by whoever has the higher
    /// BGP identifier, or the higher AS number if they have the same (RFC 4271 §6.8, RFC 6286 §2.3): `dominant` if that is this device. An
    /// established session stays.
    pub(in crate::input::bgp) fn open(&mut self, now: Instant, way: Way, hold: u16, dominant: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        let other = way.other();
        let gives_way = match self.machine(other).state() {
            State::Established => true,
            State::OpenConfirm => {
                let stays = if dominant { Way::Out } else { Way::In };
                if stays == way {
                    self.put(now, other, Event::OpenCollisionDump, &mut steps);
                }
                stays != way
            }
            // An attempt that would only collide.
            State::Connect => {
                let actions = self.machines[other as usize].stand_down();
                steps.extend(actions.into_iter().map(|action| Step { way: other, action }));
                false
            }
            State::Idle | State::Active | State::OpenSent => false,
        };
        let event = if gives_way { Event::OpenCollisionDump } else { Event::BgpOpen(hold) };
        self.put(now, way, event, &mut steps);
        self.settle(now, &mut steps);
        steps
    }

    /// The peer has opened a connection. What is to be done first, and what becomes of it. `restarts` if a peer that comes again has
    /// restarted (RFC 4724 §5): what was established gives way then.
    pub(in crate::input::bgp) fn incoming(&mut self, now: Instant, restarts: bool) -> (Admission, Vec<Step>) {
        let mut steps = Vec::new();
        if !self.started || !self.ways[Way::In as usize] {
            return (Admission::Refused, steps);
        }
        if let Some(way) = self.established() {
            let since = self.machine(way).established_since();
            if !restarts || since.is_none_or(|since| now.saturating_duration_since(since) < COLLIDES) {
                return (Admission::Refused, steps);
            }
            self.put(now, way, Event::TcpConnectionFails, &mut steps);
            for machine in &mut self.machines {
                machine.timers.stop(Timer::IdleHold);
            }
            self.settle(now, &mut steps);
        }
        match self.machine(Way::In).state() {
            State::Active => (Admission::Taken, steps),
            // A peer opens one connection at a time: it knows nothing of the one before.
            State::OpenSent | State::OpenConfirm => {
                let actions = self.machines[Way::In as usize].stand_down();
                steps.extend(actions.into_iter().map(|action| Step { way: Way::In, action }));
                self.settle(now, &mut steps);
                (Admission::Taken, steps)
            }
            State::Idle | State::Connect | State::Established => (Admission::Parked, steps),
        }
    }

    /// Whether a connection that was parked may be taken.
    pub(in crate::input::bgp) fn accepts(&self) -> bool {
        self.machine(Way::In).state() == State::Active
    }

    /// Handles what is due.
    pub(in crate::input::bgp) fn expire(&mut self, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        for way in Way::ALL {
            while let Some(event) = self.machines[way as usize].expired(now) {
                // It starts in `settle`, if the other connection leaves it to.
                if event != Event::IdleHoldTimerExpires {
                    self.put(now, way, event, &mut steps);
                }
            }
        }
        self.settle(now, &mut steps);
        steps
    }

    fn put(&mut self, now: Instant, way: Way, event: Event, steps: &mut Vec<Step>) {
        let collision = event == Event::OpenCollisionDump;
        let actions = self.machines[way as usize].on(now, event);
        let failed = actions.iter().any(|action| matches!(action, Action::Down(end) if end.state >= State::OpenSent));
        steps.extend(actions.into_iter().map(|action| Step { way, action }));
        let other = way.other();
        if failed && !collision && self.machine(other).state() < State::OpenSent {
            let [out, incoming] = &mut self.machines;
            let (failed, other_machine) = if way == Way::Out { (out, incoming) } else { (incoming, out) };
            let actions = other_machine.damp(failed);
            steps.extend(actions.into_iter().map(|action| Step { way: other, action }));
        }
    }

    /// Starts the machines that may run, and lets those rest that have nothing to do while a session is established.
    fn settle(&mut self, now: Instant, steps: &mut Vec<Step>) {
        if !self.started {
            return;
        }
        for way in Way::ALL {
            let other = self.machine(way.other()).state();
            let machine = &mut self.machines[way as usize];
            let actions = match machine.state() {
                State::Idle if self.ways[way as usize] && machine.timers().get(Timer::IdleHold).is_none() => {
                    let busy = match way {
                        Way::Out => other >= State::OpenSent,
                        Way::In => other == State::Established,
                    };
                    if busy { Vec::new() } else { machine.on(now, Event::ManualStart) }
                }
                State::Connect | State::Active if other == State::Established => machine.stand_down(),
                _ => Vec::new(),
            };
            steps.extend(actions.into_iter().map(|action| Step { way, action }));
        }
    }
}
