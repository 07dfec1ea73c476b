//! Turns the bytes of a connection into events.

use std::io;

use bytes::Bytes;

use super::{
    super::{
        connection::ConnectionLoss,
        fsm::{BgpState, FsmEvent, Initiator},
        open::notice_of,
        reason::BgpDownReason,
        updates::UpdateRunEnd,
    },
    PeerTask, now,
};
use crate::{
    pin,
    wire::bgp::{self, Frame, Message, MessageType, notification},
};

impl PeerTask {
    /// Handles the result of a read.
    pub(super) fn read(&mut self, initiator: Initiator, read: io::Result<usize>) {
        let Some(connection) = &mut self.connections[initiator as usize] else { return };
        let (lost, reason, why) = match read {
            Ok(0) => (ConnectionLoss::Closed, BgpDownReason::PeerClosed, "the peer closed the connection".to_owned()),
            Ok(_) => {
                while self.take(initiator) {}
                self.look_at_budget();
                if let Some(connection) = &mut self.connections[initiator as usize] {
                    connection.make_room();
                }
                return;
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                let why = format!("the peer reset the connection: {error}");
                (ConnectionLoss::Closed, pin::Reason::ConnectionReset.into(), why)
            }
            Err(error) => {
                (ConnectionLoss::Broken, BgpDownReason::ConnectionBroken, format!("the connection broke: {error}"))
            }
        };
        connection.lost = Some(lost);
        self.fail(reason, why);
        self.handle(initiator, FsmEvent::TcpConnectionFails);
    }

    /// Handles the next message, or the next run of UPDATEs. Returns false if no more can be
    /// handled now.
    fn take(&mut self, initiator: Initiator) -> bool {
        if self.pair.established() == Some(initiator) && self.peer_feed.is_up() {
            return self.updates(initiator);
        }
        self.single(initiator)
    }

    /// Handles one message. Returns false if none is complete.
    fn single(&mut self, initiator: Initiator) -> bool {
        let Some(connection) = &mut self.connections[initiator as usize] else { return false };
        let bytes = match bgp::frames(&connection.input, connection.limit()).next() {
            None => return false,
            Some(Ok(frame)) => Bytes::copy_from_slice(frame.bytes()),
            Some(Err(error)) => {
                let notice = notice_of(&error, None, &connection.input);
                self.fail(BgpDownReason::MessageError, format!("what the peer sends is not BGP: {}", error.problem));
                self.handle(initiator, FsmEvent::BgpHeaderErr(notice));
                return false;
            }
        };
        connection.used(bytes.len());
        // Parsing succeeds, because `frames` has just found this frame.
        let Ok(frame) = Frame::parse(&bytes) else { return false };
        self.status.received(frame.message_type(), 1);
        self.message(initiator, &frame);
        true
    }

    fn message(&mut self, initiator: Initiator, frame: &Frame<'_>) {
        let state = self.pair.machine(initiator).state();
        let Some(connection) = &mut self.connections[initiator as usize] else { return };
        let event = match (frame.message_type(), Message::parse(frame)) {
            (MessageType::Open, _) if state == BgpState::OpenSent => {
                match self.plan.local.check(frame, self.plan.asn) {
                    Ok(remote) => {
                        let (hold, dominant) = (remote.hold, remote.dominant);
                        connection.remote = Some(remote);
                        let steps = self.pair.open(now(), initiator, hold, dominant);
                        return self.perform(steps);
                    }
                    Err((notice, why)) => {
                        self.fail(BgpDownReason::OpenError, why);
                        FsmEvent::BgpOpenMsgErr(notice)
                    }
                }
            }
            (MessageType::Open, _) => FsmEvent::BgpOpen(0),
            (MessageType::Keepalive, _) => FsmEvent::KeepAliveMsg,
            (MessageType::Update, _) => FsmEvent::UpdateMsg,
            (_, Ok(Message::Notification(notification))) => {
                connection.notification = Some(Bytes::copy_from_slice(frame.bytes()));
                self.fail(BgpDownReason::NotificationReceived, format!("the peer sent a NOTIFICATION: {notification}"));
                let (code, subcode) = (notification::code::OPEN, notification::open_error::UNSUPPORTED_VERSION);
                let version = (notification.code, notification.subcode) == (code, subcode);
                if version { FsmEvent::NotifMsgVerErr } else { FsmEvent::NotifMsg }
            }
            (_, Ok(Message::RouteRefresh(refresh))) => {
                if state == BgpState::Established {
                    self.peer_feed.refresh(&refresh, now());
                }
                FsmEvent::RouteRefreshMsg
            }
            (kind, Err(error)) => {
                self.fail(BgpDownReason::MessageError, format!("a {kind} of the peer: {error}"));
                FsmEvent::BgpHeaderErr(notice_of(&error, Some(kind), frame.bytes()))
            }
            // The types of all other messages are matched above.
            (_, Ok(_)) => return,
        };
        self.handle(initiator, event);
    }

    /// Forwards the UPDATEs and KEEPALIVEs of an established session. Returns false if no more can
    /// be handled now.
    fn updates(&mut self, initiator: Initiator) -> bool {
        let Some(connection) = &mut self.connections[initiator as usize] else { return false };
        let Some(run) = self.peer_feed.updates(&connection.input) else { return false };
        connection.used(run.bytes);
        let offset = connection.offset;
        self.status.received(MessageType::Update, run.updates);
        self.status.received(MessageType::Keepalive, run.keepalives);
        if run.updates + run.keepalives > 0 {
            self.handle(initiator, FsmEvent::UpdateMsg);
        }
        match run.stop {
            UpdateRunEnd::NoMore => false,
            UpdateRunEnd::Other => self.single(initiator),
            UpdateRunEnd::Complete(family) => {
                self.peer_feed.complete(family);
                true
            }
            UpdateRunEnd::Invalid { notice, why, update } => {
                let reason = if update { BgpDownReason::UpdateError } else { BgpDownReason::MessageError };
                self.fail(reason, format!("{why} (the message at byte {offset} of the connection)"));
                self.handle(
                    initiator,
                    if update { FsmEvent::UpdateMsgErr(notice) } else { FsmEvent::BgpHeaderErr(notice) },
                );
                false
            }
        }
    }
}
