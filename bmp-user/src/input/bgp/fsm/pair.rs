//! The two machines of a peer, and the rules between them: collisions (RFC 4271 §6.8), and a common
//! wait after a failure.

use std::time::{Duration, Instant};

use super::{
    event::{FsmAction, FsmEvent, OutgoingNotification},
    machine::{Fsm, FsmSettings},
    state::BgpState,
    timers::Timer,
};

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) enum Initiator {
    /// This device.
    Local,
    /// The peer.
    Peer,
}

impl Initiator {
    pub(in crate::input::bgp) const ALL: [Self; 2] = [Self::Local, Self::Peer];

    pub(in crate::input::bgp) fn other(self) -> Self {
        match self {
            Self::Local => Self::Peer,
            Self::Peer => Self::Local,
        }
    }
}

/// An action for one of the two connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) struct ConnectionStep {
    pub(in crate::input::bgp) initiator: Initiator,
    pub(in crate::input::bgp) action: FsmAction,
}

/// What to do with a connection that the peer has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) enum Admission {
    /// The machine takes it: [`FsmEvent::TcpConnectionConfirmed`] must follow.
    Taken,
    /// It must wait, because the peer failed a moment ago.
    Parked,
    /// Close it, because a session is established and stays.
    Refused,
}

/// Within this time of a session, a new connection of the peer counts as a collision. After it, the
/// peer must have lost the session.
const COLLIDES: Duration = Duration::from_secs(5);

/// The two machines of a peer; see the module.
#[derive(Debug)]
pub(in crate::input::bgp) struct MachinePair {
    machines: [Fsm; 2],
    /// Whether this device opens connections, and whether it accepts them.
    enabled: [bool; 2],
    started: bool,
}

impl MachinePair {
    /// Creates machines that open connections, accept them, or both.
    pub(in crate::input::bgp) fn new(settings: FsmSettings, connects: bool, listens: bool, seed: u64) -> Self {
        let machine = |passive| Fsm::new(FsmSettings { passive, ..settings }, seed);
        Self { machines: [machine(false), machine(true)], enabled: [connects, listens], started: false }
    }

    pub(in crate::input::bgp) fn machine(&self, initiator: Initiator) -> &Fsm {
        &self.machines[initiator as usize]
    }

    /// Returns the more advanced state, which is the one that operators see.
    pub(in crate::input::bgp) fn state(&self) -> BgpState {
        self.machines[0].state().max(self.machines[1].state())
    }

    /// Returns who opened the connection of the established session.
    pub(in crate::input::bgp) fn established(&self) -> Option<Initiator> {
        Initiator::ALL.into_iter().find(|initiator| self.machine(*initiator).state() == BgpState::Established)
    }

    /// Returns when the next timer expires.
    pub(in crate::input::bgp) fn deadline(&self) -> Option<Instant> {
        self.machines.iter().filter_map(|machine| machine.timers().next()).min()
    }

    /// Returns when the wait after a failure ends.
    pub(in crate::input::bgp) fn idle_until(&self) -> Option<Instant> {
        self.machines.iter().filter_map(|machine| machine.timers().get(Timer::IdleHold)).min()
    }

    pub(in crate::input::bgp) fn start(&mut self, now: Instant) -> Vec<ConnectionStep> {
        self.started = true;
        let mut steps = Vec::new();
        self.settle(now, &mut steps);
        steps
    }

    pub(in crate::input::bgp) fn stop(&mut self, now: Instant, notice: &OutgoingNotification) -> Vec<ConnectionStep> {
        self.started = false;
        let mut steps = Vec::new();
        for initiator in Initiator::ALL {
            self.put(now, initiator, FsmEvent::ManualStop(notice.clone()), &mut steps);
        }
        steps
    }

    /// Has idle machines wait for so long.
    pub(in crate::input::bgp) fn idle_for(&mut self, now: Instant, time: Duration) {
        for machine in self.machines.iter_mut().filter(|machine| machine.state() == BgpState::Idle) {
            machine.timers.start(Timer::IdleHold, now + time);
        }
    }

    /// Ends the wait after a failure.
    pub(in crate::input::bgp) fn end_idle(&mut self, now: Instant) -> Vec<ConnectionStep> {
        for machine in &mut self.machines {
            machine.timers.stop(Timer::IdleHold);
        }
        let mut steps = Vec::new();
        self.settle(now, &mut steps);
        steps
    }

    /// Starts or stops accepting connections. A connection that was accepted before is closed.
    pub(in crate::input::bgp) fn listen(
        &mut self,
        now: Instant,
        listens: bool,
        notice: &OutgoingNotification,
    ) -> Vec<ConnectionStep> {
        let mut steps = Vec::new();
        self.enabled[Initiator::Peer as usize] = listens;
        if self.machine(Initiator::Peer).state() >= BgpState::OpenSent {
            self.put(now, Initiator::Peer, FsmEvent::ManualStop(notice.clone()), &mut steps);
        } else if !listens {
            let actions = self.machines[Initiator::Peer as usize].stand_down();
            steps.extend(actions.into_iter().map(|action| ConnectionStep { initiator: Initiator::Peer, action }));
        }
        self.settle(now, &mut steps);
        steps
    }

    /// Handles an event of one connection. Valid OPENs go to [`MachinePair::open`] instead.
    pub(in crate::input::bgp) fn on(
        &mut self,
        now: Instant,
        initiator: Initiator,
        event: FsmEvent,
    ) -> Vec<ConnectionStep> {
        let mut steps = Vec::new();
        self.put(now, initiator, event, &mut steps);
        self.settle(now, &mut steps);
        steps
    }

    /// Handles a valid OPEN with a hold time in seconds, and resolves a collision. If both
    /// connections are open, the one opened by the speaker with the higher BGP identifier stays, or
    /// with the higher AS number if the identifiers are equal (RFC 4271 §6.8, RFC 6286 §2.3).
    /// `dominant` is true if that is this device. An established session always stays.
    pub(in crate::input::bgp) fn open(
        &mut self,
        now: Instant,
        initiator: Initiator,
        hold: u16,
        dominant: bool,
    ) -> Vec<ConnectionStep> {
        let mut steps = Vec::new();
        let other = initiator.other();
        let gives_way = match self.machine(other).state() {
            BgpState::Established => true,
            BgpState::OpenConfirm => {
                let stays = if dominant { Initiator::Local } else { Initiator::Peer };
                if stays == initiator {
                    self.put(now, other, FsmEvent::OpenCollisionDump, &mut steps);
                }
                stays != initiator
            }
            // An attempt that could only collide is abandoned.
            BgpState::Connect => {
                let actions = self.machines[other as usize].stand_down();
                steps.extend(actions.into_iter().map(|action| ConnectionStep { initiator: other, action }));
                false
            }
            BgpState::Idle | BgpState::Active | BgpState::OpenSent => false,
        };
        let event = if gives_way { FsmEvent::OpenCollisionDump } else { FsmEvent::BgpOpen(hold) };
        self.put(now, initiator, event, &mut steps);
        self.settle(now, &mut steps);
        steps
    }

    /// Decides about a connection that the peer has opened. The steps must be performed first. With
    /// `restarts`, a peer that connects again has restarted (RFC 4724 §5), and its established
    /// session ends.
    pub(in crate::input::bgp) fn incoming(&mut self, now: Instant, restarts: bool) -> (Admission, Vec<ConnectionStep>) {
        let mut steps = Vec::new();
        if !self.started || !self.enabled[Initiator::Peer as usize] {
            return (Admission::Refused, steps);
        }
        if let Some(initiator) = self.established() {
            let since = self.machine(initiator).established_since();
            if !restarts || since.is_none_or(|since| now.saturating_duration_since(since) < COLLIDES) {
                return (Admission::Refused, steps);
            }
            self.put(now, initiator, FsmEvent::TcpConnectionFails, &mut steps);
            for machine in &mut self.machines {
                machine.timers.stop(Timer::IdleHold);
            }
            self.settle(now, &mut steps);
        }
        match self.machine(Initiator::Peer).state() {
            BgpState::Active => (Admission::Taken, steps),
            // A peer opens one connection at a time, so it has lost the previous one.
            BgpState::OpenSent | BgpState::OpenConfirm => {
                let actions = self.machines[Initiator::Peer as usize].stand_down();
                steps.extend(actions.into_iter().map(|action| ConnectionStep { initiator: Initiator::Peer, action }));
                self.settle(now, &mut steps);
                (Admission::Taken, steps)
            }
            BgpState::Idle | BgpState::Connect | BgpState::Established => (Admission::Parked, steps),
        }
    }

    /// True if a parked connection can be taken now.
    pub(in crate::input::bgp) fn accepts(&self) -> bool {
        self.machine(Initiator::Peer).state() == BgpState::Active
    }

    /// Handles the timers that have expired.
    pub(in crate::input::bgp) fn expire(&mut self, now: Instant) -> Vec<ConnectionStep> {
        let mut steps = Vec::new();
        for initiator in Initiator::ALL {
            while let Some(event) = self.machines[initiator as usize].expired(now) {
                // `settle` starts the machine, unless the other connection makes it unnecessary.
                if event != FsmEvent::IdleHoldTimerExpires {
                    self.put(now, initiator, event, &mut steps);
                }
            }
        }
        self.settle(now, &mut steps);
        steps
    }

    fn put(&mut self, now: Instant, initiator: Initiator, event: FsmEvent, steps: &mut Vec<ConnectionStep>) {
        let collision = event == FsmEvent::OpenCollisionDump;
        let actions = self.machines[initiator as usize].on(now, event);
        let failed =
            actions.iter().any(|action| matches!(action, FsmAction::Down(end) if end.state >= BgpState::OpenSent));
        steps.extend(actions.into_iter().map(|action| ConnectionStep { initiator, action }));
        let other = initiator.other();
        if failed && !collision && self.machine(other).state() < BgpState::OpenSent {
            let [out, incoming] = &mut self.machines;
            let (failed, other_machine) = if initiator == Initiator::Local { (out, incoming) } else { (incoming, out) };
            let actions = other_machine.damp(failed);
            steps.extend(actions.into_iter().map(|action| ConnectionStep { initiator: other, action }));
        }
    }

    /// Starts idle machines, and stands down machines that have nothing to do beside an established
    /// session.
    fn settle(&mut self, now: Instant, steps: &mut Vec<ConnectionStep>) {
        if !self.started {
            return;
        }
        for initiator in Initiator::ALL {
            let other = self.machine(initiator.other()).state();
            let machine = &mut self.machines[initiator as usize];
            let actions = match machine.state() {
                BgpState::Idle
                    if self.enabled[initiator as usize] && machine.timers().get(Timer::IdleHold).is_none() =>
                {
                    let busy = match initiator {
                        Initiator::Local => other >= BgpState::OpenSent,
                        Initiator::Peer => other == BgpState::Established,
                    };
                    if busy { Vec::new() } else { machine.on(now, FsmEvent::ManualStart) }
                }
                BgpState::Connect | BgpState::Active if other == BgpState::Established => machine.stand_down(),
                _ => Vec::new(),
            };
            steps.extend(actions.into_iter().map(|action| ConnectionStep { initiator, action }));
        }
    }
}
