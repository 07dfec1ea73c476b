//! What each state does with each event (RFC 4271 §8.2.2). An event that a state has no use for changes nothing where the RFC says so,
//! and ends the connection where it says so.

use std::time::{Duration, Instant};

use super::{Action, COLLISION, Event, Fsm, Notice, OPEN_HOLD, State, Timer};
use crate::wire::bgp::notification::code;

impl Fsm {
    pub(super) fn idle(&mut self, now: Instant, event: Event) {
        match event {
            Event::ManualStart | Event::IdleHoldTimerExpires => {
                self.timers.stop(Timer::IdleHold);
                if self.settings.passive {
                    self.state = State::Active;
                } else {
                    self.state = State::Connect;
                    self.start_connect_retry(now);
                    self.act(Action::Connect);
                }
            }
            Event::ManualStop(_) => self.timers.stop(Timer::IdleHold),
            // A connection that the peer has opened is refused, everything else is ignored.
            Event::TcpConnectionConfirmed => self.act(Action::Close),
            _ => {}
        }
    }

    pub(super) fn connect(&mut self, now: Instant, event: Event) {
        match event {
            Event::ManualStart => {}
            Event::ConnectRetryTimerExpires => {
                self.act(Action::Close);
                self.start_connect_retry(now);
                self.act(Action::Connect);
            }
            Event::TcpCrAcked | Event::TcpConnectionConfirmed => self.send_open(now),
            event => self.fail(now, event, None),
        }
    }

    pub(super) fn active(&mut self, now: Instant, event: Event) {
        match event {
            Event::ManualStart => {}
            Event::ConnectRetryTimerExpires => {
                self.start_connect_retry(now);
                self.act(Action::Connect);
                self.state = State::Connect;
            }
            Event::TcpCrAcked | Event::TcpConnectionConfirmed => self.send_open(now),
            event => self.fail(now, event, None),
        }
    }

    fn send_open(&mut self, now: Instant) {
        self.timers.stop(Timer::ConnectRetry);
        self.act(Action::SendOpen);
        self.timers.start(Timer::Hold, now + OPEN_HOLD);
        self.state = State::OpenSent;
    }

    pub(super) fn open_sent(&mut self, now: Instant, event: Event) {
        match event {
            // A second connection is another machine's.
            Event::ManualStart | Event::TcpCrAcked | Event::TcpConnectionConfirmed => {}
            Event::BgpOpen(hold) => {
                self.negotiate(Duration::from_secs(hold.into()));
                self.timers.stop(Timer::ConnectRetry);
                self.act(Action::SendKeepalive);
                self.start_hold(now);
                self.start_keepalive(now);
                self.state = State::OpenConfirm;
            }
            // The RFC goes to Active here, for the connection that the peer may open: that is the other machine's.
            Event::TcpConnectionFails => self.fail(now, event, None),
            event => self.end_or_unexpected(now, event),
        }
    }

    /// The smaller of both hold times is the hold time, and KEEPALIVEs are sent at least three times in it (RFC 4271 §4.2, §4.4).
    fn negotiate(&mut self, theirs: Duration) {
        self.hold = self.settings.hold.min(theirs);
        self.keepalive = match self.settings.keepalive {
            _ if self.hold.is_zero() => Duration::ZERO,
            // Not configured to any time: what the RFC suggests.
            Duration::ZERO => self.hold / 3,
            own => own.min(self.hold / 3),
        };
    }

    pub(super) fn open_confirm(&mut self, now: Instant, event: Event) {
        match event {
            Event::ManualStart | Event::TcpCrAcked | Event::TcpConnectionConfirmed => {}
            Event::KeepaliveTimerExpires => self.keep_alive(now),
            Event::KeepAliveMsg => {
                self.start_hold(now);
                self.since = Some(now);
                self.state = State::Established;
                self.act(Action::Up);
            }
            Event::TcpConnectionFails => self.fail(now, event, None),
            event => self.end_or_unexpected(now, event),
        }
    }

    pub(super) fn established(&mut self, now: Instant, event: Event) {
        match event {
            Event::ManualStart | Event::TcpCrAcked | Event::TcpConnectionConfirmed => {}
            Event::KeepaliveTimerExpires => self.keep_alive(now),
            Event::KeepAliveMsg | Event::UpdateMsg | Event::RouteRefreshMsg => self.start_hold(now),
            Event::TcpConnectionFails => self.fail(now, event, None),
            event => self.end_or_unexpected(now, event),
        }
    }

    fn keep_alive(&mut self, now: Instant) {
        self.act(Action::SendKeepalive);
        self.start_keepalive(now);
    }

    /// What OpenSent, OpenConfirm and Established answer alike.
    fn end_or_unexpected(&mut self, now: Instant, event: Event) {
        let notice = match &event {
            Event::ManualStop(notice)
            | Event::BgpHeaderErr(notice)
            | Event::BgpOpenMsgErr(notice)
            | Event::UpdateMsgErr(notice) => Some(notice.clone()),
            Event::HoldTimerExpires => Some(Notice::new(code::HOLD_TIMER, 0)),
            // RFC 9687 §3.3: it may not take this either, but it does no harm to try.
            Event::SendHoldTimerExpires => Some(Notice::new(code::SEND_HOLD_TIMER, 0)),
            Event::OpenCollisionDump => Some(COLLISION),
            Event::NotifMsg | Event::NotifMsgVerErr => None,
            _ => return self.unexpected(now, event),
        };
        self.fail(now, event, notice);
    }
}
