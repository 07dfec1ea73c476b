//! Why a BGP peer is not established, in a word.

use std::io;

use crate::pin;

/// Why a peer is not established, as `display` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// What its connections are pinned to is not there, or a connection failed as a session's does.
    Pin(pin::Reason),
    /// Its connection could not be opened, for another reason.
    ConnectFailed,
    /// The peer closed the connection.
    PeerClosed,
    /// The connection broke.
    ConnectionBroken,
    /// The peer said nothing for the hold time.
    HoldTimerExpired,
    /// The peer sent a NOTIFICATION.
    NotificationReceived,
    /// bmpd sent a NOTIFICATION, for a reason that has no word of its own.
    NotificationSent,
    /// The peer's OPEN is refused.
    OpenError,
    /// An UPDATE of the peer ends the session (RFC 7606 §2).
    UpdateError,
    /// What the peer sends is not BGP.
    MessageError,
}

impl Reason {
    /// The exact string of `display` and of its JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pin(reason) => reason.as_str(),
            Self::ConnectFailed => "connect-failed",
            Self::PeerClosed => "peer-closed",
            Self::ConnectionBroken => "connection-broken",
            Self::HoldTimerExpired => "hold-timer-expired",
            Self::NotificationReceived => "notification-received",
            Self::NotificationSent => "notification-sent",
            Self::OpenError => "open-error",
            Self::UpdateError => "update-error",
            Self::MessageError => "message-error",
        }
    }

    /// Why a connection could not be opened.
    pub(super) fn of_connect(error: &io::Error) -> Self {
        // An error that bmpd explains has a kind and no number.
        let by_kind = match error.kind() {
            io::ErrorKind::ConnectionRefused => Some(pin::Reason::ConnectRefused),
            io::ErrorKind::ConnectionReset => Some(pin::Reason::ConnectionReset),
            io::ErrorKind::TimedOut => Some(pin::Reason::ConnectTimeout),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Some(pin::Reason::NoRoute),
            io::ErrorKind::AddrNotAvailable => Some(pin::Reason::AddressAbsent),
            io::ErrorKind::PermissionDenied => Some(pin::Reason::NotPermitted),
            _ => None,
        };
        match (error.raw_os_error(), by_kind) {
            (None, Some(reason)) => Self::Pin(reason),
            (None, None) => Self::ConnectFailed,
            (Some(_), otherwise) => {
                // No socket says this.
                const UNKNOWN: pin::Reason = pin::Reason::NotConfigured;
                match pin::Reason::of(error, otherwise.unwrap_or(UNKNOWN)) {
                    UNKNOWN => Self::ConnectFailed,
                    reason => Self::Pin(reason),
                }
            }
        }
    }
}

impl From<pin::Reason> for Reason {
    fn from(reason: pin::Reason) -> Self {
        Self::Pin(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_connection_has_the_word_that_a_session_would_have() {
        let by_number = |number| Reason::of_connect(&io::Error::from_raw_os_error(number)).as_str();
        assert_eq!(by_number(libc::ECONNREFUSED), "connect-refused");
        assert_eq!(by_number(libc::ETIMEDOUT), "connect-timeout");
        assert_eq!(by_number(libc::ENETUNREACH), "no-route");
        assert_eq!(by_number(libc::EMFILE), "no-descriptors");
        assert_eq!(by_number(libc::EPERM), "egress-denied");
        assert_eq!(by_number(libc::EINVAL), "connect-failed");
        let explained = |kind| Reason::of_connect(&io::Error::new(kind, "why")).as_str();
        assert_eq!(explained(io::ErrorKind::AddrNotAvailable), "address-absent");
        assert_eq!(explained(io::ErrorKind::PermissionDenied), "not-permitted");
        assert_eq!(explained(io::ErrorKind::Other), "connect-failed");
    }
}
