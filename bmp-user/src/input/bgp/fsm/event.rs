//! What can happen to a machine, and what it wants done.

use bytes::Bytes;

use super::State;
use crate::wire::bgp::notification::{cease, code, state_machine_error};

/// What a NOTIFICATION says (RFC 4271 §4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) struct Notice {
    pub(in crate::input::bgp) code: u8,
    pub(in crate::input::bgp) subcode: u8,
    pub(in crate::input::bgp) data: Bytes,
}

/// What a Cease says when a connection has to give way to another (RFC 4486 §4).
pub(in crate::input::bgp) const COLLISION: Notice = Notice::cease(cease::COLLISION);

impl Notice {
    pub(in crate::input::bgp) const fn new(code: u8, subcode: u8) -> Self {
        Self { code, subcode, data: Bytes::new() }
    }

    pub(in crate::input::bgp) const fn cease(subcode: u8) -> Self {
        Self::new(code::CEASE, subcode)
    }

    /// A message that has no place in a state (RFC 6608 §3): the subcode says which state, the data which message.
    pub(super) fn unexpected(state: State, event: &Event) -> Self {
        let subcode = match state {
            State::OpenSent => state_machine_error::IN_OPEN_SENT,
            State::OpenConfirm => state_machine_error::IN_OPEN_CONFIRM,
            State::Established => state_machine_error::IN_ESTABLISHED,
            State::Idle | State::Connect | State::Active => 0,
        };
        let data = event.message_type().map_or(Bytes::new(), |kind| Bytes::copy_from_slice(&[kind]));
        Self { code: code::STATE_MACHINE, subcode, data }
    }
}

/// The events of RFC 4271 §8.1 that can happen here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) enum Event {
    /// The peer is to be spoken to: ManualStart, or ManualStart_with_PassiveTcpEstablishment where the settings say so.
    ManualStart,
    /// The peer is to be spoken to no more, with this Cease (RFC 4486) for it.
    ManualStop(Notice),
    ConnectRetryTimerExpires,
    HoldTimerExpires,
    KeepaliveTimerExpires,
    IdleHoldTimerExpires,
    /// The connection that was being opened is open.
    TcpCrAcked,
    /// The peer has opened a connection.
    TcpConnectionConfirmed,
    /// There is no connection any more, or none was made.
    TcpConnectionFails,
    /// A good OPEN, with the hold time that it says, in seconds.
    BgpOpen(u16),
    BgpHeaderErr(Notice),
    BgpOpenMsgErr(Notice),
    /// The other connection is the one to be kept.
    OpenCollisionDump,
    /// A NOTIFICATION with a version error.
    NotifMsgVerErr,
    NotifMsg,
    KeepAliveMsg,
    UpdateMsg,
    UpdateMsgErr(Notice),
    /// Not of RFC 4271: a ROUTE-REFRESH (RFC 2918).
    RouteRefreshMsg,
    /// Not of RFC 4271: the peer takes nothing of what it is sent (RFC 9687 §3.2).
    SendHoldTimerExpires,
}

impl Event {
    /// The number in RFC 4271 §8.1, as a Peer Down has it (RFC 7854 §4.9), or in RFC 9687 §3.2. ROUTE-REFRESH has none: zero.
    pub(in crate::input::bgp) fn number(&self) -> u16 {
        match self {
            Self::ManualStart => 1,
            Self::ManualStop(_) => 2,
            Self::ConnectRetryTimerExpires => 9,
            Self::HoldTimerExpires => 10,
            Self::KeepaliveTimerExpires => 11,
            Self::IdleHoldTimerExpires => 13,
            Self::TcpCrAcked => 16,
            Self::TcpConnectionConfirmed => 17,
            Self::TcpConnectionFails => 18,
            Self::BgpOpen(_) => 19,
            Self::BgpHeaderErr(_) => 21,
            Self::BgpOpenMsgErr(_) => 22,
            Self::OpenCollisionDump => 23,
            Self::NotifMsgVerErr => 24,
            Self::NotifMsg => 25,
            Self::KeepAliveMsg => 26,
            Self::UpdateMsg => 27,
            Self::UpdateMsgErr(_) => 28,
            Self::SendHoldTimerExpires => 29,
            Self::RouteRefreshMsg => 0,
        }
    }

    /// The type of the message that it is about, if that is all there is to it.
    fn message_type(&self) -> Option<u8> {
        Some(match self {
            Self::BgpOpen(_) => 1,
            Self::UpdateMsg => 2,
            Self::KeepAliveMsg => 4,
            Self::RouteRefreshMsg => 5,
            _ => return None,
        })
    }
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) enum Action {
    /// Open a connection.
    Connect,
    /// Send an OPEN.
    SendOpen,
    /// Send a KEEPALIVE.
    SendKeepalive,
    /// Send a NOTIFICATION; a `Close` follows.
    SendNotification(Notice),
    /// Close the connection, or drop the attempt to open it.
    Close,
    /// The session is established.
    Up,
    /// The connection or the attempt is over.
    Down(End),
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) struct End {
    /// The state that it had come to.
    pub(in crate::input::bgp) state: State,
    /// The event that ended it.
    pub(in crate::input::bgp) event: Event,
    /// The NOTIFICATION that was sent.
    pub(in crate::input::bgp) sent: Option<Notice>,
}
