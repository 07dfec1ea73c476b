//! The reaction of each state to each event (RFC 4271 §8.2.2). An event that a state does not
//! expect is ignored, or ends the connection, as the RFC says.

use std::time::{Duration, Instant};

use super::{
    event::{COLLISION, FsmAction, FsmEvent, OutgoingNotification},
    machine::{Fsm, OPEN_HOLD},
    state::BgpState,
    timers::Timer,
};
use crate::wire::bgp::notification::code;

impl Fsm {
    pub(super) fn idle(&mut self, now: Instant, event: FsmEvent) {
        match event {
            FsmEvent::ManualStart | FsmEvent::IdleHoldTimerExpires => {
                self.timers.stop(Timer::IdleHold);
                if self.settings.passive {
                    self.state = BgpState::Active;
                } else {
                    self.state = BgpState::Connect;
                    self.start_connect_retry(now);
                    self.act(FsmAction::Connect);
                }
            }
            FsmEvent::ManualStop(_) => self.timers.stop(Timer::IdleHold),
            // Idle refuses a connection of the peer and ignores every other event.
            FsmEvent::TcpConnectionConfirmed => self.act(FsmAction::Close),
            _ => {}
        }
    }

    pub(super) fn connect(&mut self, now: Instant, event: FsmEvent) {
        match event {
            FsmEvent::ManualStart => {}
            FsmEvent::ConnectRetryTimerExpires => {
                self.act(FsmAction::Close);
                self.start_connect_retry(now);
                self.act(FsmAction::Connect);
            }
            FsmEvent::TcpCrAcked | FsmEvent::TcpConnectionConfirmed => self.send_open(now),
            event => self.fail(now, event, None),
        }
    }

    pub(super) fn active(&mut self, now: Instant, event: FsmEvent) {
        match event {
            FsmEvent::ManualStart => {}
            FsmEvent::ConnectRetryTimerExpires => {
                self.start_connect_retry(now);
                self.act(FsmAction::Connect);
                self.state = BgpState::Connect;
            }
            FsmEvent::TcpCrAcked | FsmEvent::TcpConnectionConfirmed => self.send_open(now),
            event => self.fail(now, event, None),
        }
    }

    fn send_open(&mut self, now: Instant) {
        self.timers.stop(Timer::ConnectRetry);
        self.act(FsmAction::SendOpen);
        self.timers.start(Timer::Hold, now + OPEN_HOLD);
        self.state = BgpState::OpenSent;
    }

    pub(super) fn open_sent(&mut self, now: Instant, event: FsmEvent) {
        match event {
            // A second connection belongs to the other machine.
            FsmEvent::ManualStart | FsmEvent::TcpCrAcked | FsmEvent::TcpConnectionConfirmed => {}
            FsmEvent::BgpOpen(hold) => {
                self.negotiate(Duration::from_secs(hold.into()));
                self.timers.stop(Timer::ConnectRetry);
                self.act(FsmAction::SendKeepalive);
                self.start_hold(now);
                self.start_keepalive(now);
                self.state = BgpState::OpenConfirm;
            }
            // The RFC goes to Active here, for a connection of the peer. Here the other machine
            // waits for that connection.
            FsmEvent::TcpConnectionFails => self.fail(now, event, None),
            event => self.end_or_unexpected(now, event),
        }
    }

    /// Negotiates the smaller hold time, and at least three KEEPALIVEs in it (RFC 4271 §4.2, §4.4).
    fn negotiate(&mut self, theirs: Duration) {
        self.hold = self.settings.hold.min(theirs);
        self.keepalive = match self.settings.keepalive {
            _ if self.hold.is_zero() => Duration::ZERO,
            // Without a configured interval, a third of the hold time, as the RFC suggests.
            Duration::ZERO => self.hold / 3,
            own => own.min(self.hold / 3),
        };
    }

    pub(super) fn open_confirm(&mut self, now: Instant, event: FsmEvent) {
        match event {
            FsmEvent::ManualStart | FsmEvent::TcpCrAcked | FsmEvent::TcpConnectionConfirmed => {}
            FsmEvent::KeepaliveTimerExpires => self.keep_alive(now),
            FsmEvent::KeepAliveMsg => {
                self.start_hold(now);
                self.since = Some(now);
                self.state = BgpState::Established;
                self.act(FsmAction::Up);
            }
            FsmEvent::TcpConnectionFails => self.fail(now, event, None),
            event => self.end_or_unexpected(now, event),
        }
    }

    pub(super) fn established(&mut self, now: Instant, event: FsmEvent) {
        match event {
            FsmEvent::ManualStart | FsmEvent::TcpCrAcked | FsmEvent::TcpConnectionConfirmed => {}
            FsmEvent::KeepaliveTimerExpires => self.keep_alive(now),
            FsmEvent::KeepAliveMsg | FsmEvent::UpdateMsg | FsmEvent::RouteRefreshMsg => self.start_hold(now),
            FsmEvent::TcpConnectionFails => self.fail(now, event, None),
            event => self.end_or_unexpected(now, event),
        }
    }

    fn keep_alive(&mut self, now: Instant) {
        self.act(FsmAction::SendKeepalive);
        self.start_keepalive(now);
    }

    /// The reactions that OpenSent, OpenConfirm and Established share.
    fn end_or_unexpected(&mut self, now: Instant, event: FsmEvent) {
        let notice = match &event {
            FsmEvent::ManualStop(notice)
            | FsmEvent::AutomaticStop(notice, _)
            | FsmEvent::BgpHeaderErr(notice)
            | FsmEvent::BgpOpenMsgErr(notice)
            | FsmEvent::UpdateMsgErr(notice) => Some(notice.clone()),
            FsmEvent::HoldTimerExpires => Some(OutgoingNotification::new(code::HOLD_TIMER, 0)),
            // RFC 9687 §3.3: the peer may not read the NOTIFICATION either, but sending it does no
            // harm.
            FsmEvent::SendHoldTimerExpires => Some(OutgoingNotification::new(code::SEND_HOLD_TIMER, 0)),
            FsmEvent::OpenCollisionDump => Some(COLLISION),
            FsmEvent::NotifMsg | FsmEvent::NotifMsgVerErr => None,
            _ => return self.unexpected(now, event),
        };
        self.fail(now, event, notice);
    }
}
