//! The events and actions of a machine.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::state::BgpState;
use crate::wire::bgp::{
    Family,
    notification::{cease, code, state_machine_error},
};

/// The content of a NOTIFICATION to send (RFC 4271 §4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) struct OutgoingNotification {
    pub(in crate::input::bgp) code: u8,
    pub(in crate::input::bgp) subcode: u8,
    pub(in crate::input::bgp) data: Bytes,
}

/// The Cease for a connection that loses a collision (RFC 4486 §4).
pub(in crate::input::bgp) const COLLISION: OutgoingNotification = OutgoingNotification::cease(cease::COLLISION);

impl OutgoingNotification {
    pub(in crate::input::bgp) const fn new(code: u8, subcode: u8) -> Self {
        Self { code, subcode, data: Bytes::new() }
    }

    pub(in crate::input::bgp) const fn cease(subcode: u8) -> Self {
        Self::new(code::CEASE, subcode)
    }

    /// The Cease for a peer with more than `most` routes, in the form of RFC 4486 §4: the family,
    /// and the limit.
    pub(in crate::input::bgp) fn maximum_prefixes(family: Family, most: u32) -> Self {
        let mut data = BytesMut::new();
        data.put_u16(family.afi);
        data.put_u8(family.safi);
        data.put_u32(most);
        Self { code: code::CEASE, subcode: cease::MAXIMUM_PREFIXES, data: data.freeze() }
    }

    /// The NOTIFICATION for a message that a state does not allow (RFC 6608 §3). The subcode names
    /// the state, the data the message type.
    pub(super) fn unexpected(state: BgpState, event: &FsmEvent) -> Self {
        let subcode = match state {
            BgpState::OpenSent => state_machine_error::IN_OPEN_SENT,
            BgpState::OpenConfirm => state_machine_error::IN_OPEN_CONFIRM,
            BgpState::Established => state_machine_error::IN_ESTABLISHED,
            BgpState::Idle | BgpState::Connect | BgpState::Active => 0,
        };
        let data = event.message_type().map_or(Bytes::new(), |kind| Bytes::copy_from_slice(&[kind]));
        Self { code: code::STATE_MACHINE, subcode, data }
    }
}

/// The events of RFC 4271 §8.1 that occur in bmpd, and two of later RFCs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) enum FsmEvent {
    /// ManualStart, or ManualStart_with_PassiveTcpEstablishment for a passive machine.
    ManualStart,
    /// Ends the session with this Cease (RFC 4486).
    ManualStop(OutgoingNotification),
    /// This device ends the session with this Cease, and stays in Idle for this long (RFC 4271
    /// §8.1.2; RFC 4486).
    AutomaticStop(OutgoingNotification, Duration),
    ConnectRetryTimerExpires,
    HoldTimerExpires,
    KeepaliveTimerExpires,
    IdleHoldTimerExpires,
    /// The connection that this device opened is established.
    TcpCrAcked,
    /// The peer has opened a connection.
    TcpConnectionConfirmed,
    /// The connection is lost or could not be opened.
    TcpConnectionFails,
    /// A valid OPEN, with its hold time in seconds.
    BgpOpen(u16),
    BgpHeaderErr(OutgoingNotification),
    BgpOpenMsgErr(OutgoingNotification),
    /// The other connection wins a collision.
    OpenCollisionDump,
    /// A NOTIFICATION with a version error.
    NotifMsgVerErr,
    NotifMsg,
    KeepAliveMsg,
    UpdateMsg,
    UpdateMsgErr(OutgoingNotification),
    /// A ROUTE-REFRESH (RFC 2918), no event of RFC 4271.
    RouteRefreshMsg,
    /// The peer does not read what it is sent (RFC 9687 §3.2).
    SendHoldTimerExpires,
}

impl FsmEvent {
    /// Returns the number of RFC 4271 §8.1 or RFC 9687 §3.2, as a Peer Down holds it (RFC 7854
    /// §4.9). ROUTE-REFRESH has no number and gives zero.
    pub(in crate::input::bgp) fn number(&self) -> u16 {
        match self {
            Self::ManualStart => 1,
            Self::ManualStop(_) => 2,
            Self::AutomaticStop(..) => 8,
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

    /// Returns the type of the received message behind the event, for messages that a state may not
    /// allow.
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

/// An action of the machine, for its task to perform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) enum FsmAction {
    /// Open a connection.
    Connect,
    /// Send an OPEN.
    SendOpen,
    /// Send a KEEPALIVE.
    SendKeepalive,
    /// Send a NOTIFICATION. A `Close` follows.
    SendNotification(OutgoingNotification),
    /// Close the connection, or abandon the attempt to open it.
    Close,
    /// The session is established.
    Up,
    /// The connection or the attempt has ended.
    Down(SessionEnd),
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) struct SessionEnd {
    /// The state at the end.
    pub(in crate::input::bgp) state: BgpState,
    /// The event that ended the connection.
    pub(in crate::input::bgp) event: FsmEvent,
    /// The NOTIFICATION that was sent, if any.
    pub(in crate::input::bgp) sent: Option<OutgoingNotification>,
}
