//! The messages of a session, each read from its frame.

use super::{Error, Frame, MessageType, Notification, Open, RouteRefresh};

/// A message, borrowed from its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// OPEN.
    Open(Open<'a>),
    /// UPDATE, with the bytes behind the header.
    Update(&'a [u8]),
    /// NOTIFICATION.
    Notification(Notification<'a>),
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH.
    RouteRefresh(RouteRefresh<'a>),
}

impl<'a> Message<'a> {
    /// Reads one frame.
    ///
    /// # Errors
    ///
    /// At the first field that is wrong. Offsets are within the frame. [`Problem::notification`] is
    /// the answer.
    pub fn parse(frame: &Frame<'a>) -> Result<Self, Error> {
        Ok(match frame.message_type() {
            MessageType::Open => Self::Open(Open::parse(frame)?),
            MessageType::Update => Self::Update(frame.body()),
            MessageType::Notification => Self::Notification(Notification::parse(frame)?),
            MessageType::Keepalive => Self::Keepalive,
            MessageType::RouteRefresh => Self::RouteRefresh(RouteRefresh::parse(frame)?),
        })
    }
}
