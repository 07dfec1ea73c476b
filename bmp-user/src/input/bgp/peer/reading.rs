//! What a peer sends, from the bytes of a connection to events.

use std::io;

use bytes::Bytes;

use super::{
    super::{
        Reason,
        connection::Lost,
        fsm::{Event, State, Way},
        open::notice_of,
        updates::Stop,
    },
    Task, now,
};
use crate::{
    pin,
    wire::bgp::{self, Frame, Message, MessageType, notification},
};

impl Task {
    /// What a read of a connection came to.
    pub(super) fn read(&mut self, way: Way, read: io::Result<usize>) {
        let Some(connection) = &mut self.connections[way as usize] else { return };
        let (lost, reason, why) = match read {
            Ok(0) => (Lost::Closed, Reason::PeerClosed, "the peer closed the connection".to_owned()),
            Ok(_) => {
                while self.take(way) {}
                if let Some(connection) = &mut self.connections[way as usize] {
                    connection.make_room();
                }
                return;
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                let why = format!("the peer reset the connection: {error}");
                (Lost::Closed, pin::Reason::ConnectionReset.into(), why)
            }
            Err(error) => (Lost::Broken, Reason::ConnectionBroken, format!("the connection broke: {error}")),
        };
        connection.lost = Some(lost);
        self.fail(reason, why);
        self.happened(way, Event::TcpConnectionFails);
    }

    /// Takes what comes next of what has arrived; false if there is no more to be taken.
    fn take(&mut self, way: Way) -> bool {
        if self.pair.established() == Some(way) && self.life.is_up() {
            return self.updates(way);
        }
        self.single(way)
    }

    /// Takes one message; false if none has arrived whole.
    fn single(&mut self, way: Way) -> bool {
        let Some(connection) = &mut self.connections[way as usize] else { return false };
        let bytes = match bgp::frames(&connection.input, connection.limit()).next() {
            None => return false,
            Some(Ok(frame)) => Bytes::copy_from_slice(frame.bytes()),
            Some(Err(error)) => {
                let notice = notice_of(&error, None, &connection.input);
                self.fail(Reason::MessageError, format!("what the peer sends is not BGP: {}", error.problem));
                self.happened(way, Event::BgpHeaderErr(notice));
                return false;
            }
        };
        connection.used(bytes.len());
        // It was one a moment ago.
        let Ok(frame) = Frame::parse(&bytes) else { return false };
        self.status.received(frame.message_type(), 1);
        self.message(way, &frame);
        true
    }

    fn message(&mut self, way: Way, frame: &Frame<'_>) {
        let state = self.pair.machine(way).state();
        let Some(connection) = &mut self.connections[way as usize] else { return };
        let event = match (frame.message_type(), Message::parse(frame)) {
            (MessageType::Open, _) if state == State::OpenSent => match self.plan.local.check(frame, self.plan.asn) {
                Ok(remote) => {
                    let (hold, dominant) = (remote.hold, remote.dominant);
                    connection.remote = Some(remote);
                    let steps = self.pair.open(now(), way, hold, dominant);
                    return self.perform(steps);
                }
                Err((notice, why)) => {
                    self.fail(Reason::OpenError, why);
                    Event::BgpOpenMsgErr(notice)
                }
            },
            (MessageType::Open, _) => Event::BgpOpen(0),
            (MessageType::Keepalive, _) => Event::KeepAliveMsg,
            (MessageType::Update, _) => Event::UpdateMsg,
            (_, Ok(Message::Notification(notification))) => {
                connection.notification = Some(Bytes::copy_from_slice(frame.bytes()));
                self.fail(Reason::NotificationReceived, format!("the peer sent a NOTIFICATION: {notification}"));
                let (code, subcode) = (notification::code::OPEN, notification::open_error::UNSUPPORTED_VERSION);
                let version = (notification.code, notification.subcode) == (code, subcode);
                if version { Event::NotifMsgVerErr } else { Event::NotifMsg }
            }
            (_, Ok(Message::RouteRefresh(refresh))) => {
                if state == State::Established {
                    self.life.refresh(&refresh, now());
                }
                Event::RouteRefreshMsg
            }
            (kind, Err(error)) => {
                self.fail(Reason::MessageError, format!("a {kind} of the peer: {error}"));
                Event::BgpHeaderErr(notice_of(&error, Some(kind), frame.bytes()))
            }
            // A message is what its type says.
            (_, Ok(_)) => return,
        };
        self.happened(way, event);
    }

    /// Takes the UPDATEs and KEEPALIVEs of an established session; false if there is no more to be done.
    fn updates(&mut self, way: Way) -> bool {
        let Some(connection) = &mut self.connections[way as usize] else { return false };
        let Some(run) = self.life.updates(&connection.input) else { return false };
        connection.used(run.bytes);
        let offset = connection.offset;
        self.status.received(MessageType::Update, run.updates);
        self.status.received(MessageType::Keepalive, run.keepalives);
        if run.updates + run.keepalives > 0 {
            self.happened(way, Event::UpdateMsg);
        }
        match run.stop {
            Stop::NoMore => false,
            Stop::Other => self.single(way),
            Stop::Complete(family) => {
                self.life.complete(family);
                true
            }
            Stop::Invalid { notice, why, update } => {
                let reason = if update { Reason::UpdateError } else { Reason::MessageError };
                self.fail(reason, format!("{why} (the message at byte {offset} of the connection)"));
                self.happened(way, if update { Event::UpdateMsgErr(notice) } else { Event::BgpHeaderErr(notice) });
                false
            }
        }
    }
}
