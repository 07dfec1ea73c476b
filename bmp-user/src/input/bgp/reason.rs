//! Why a BGP peer is not established, as a word.

use std::io;

use crate::{pin, signing::SigningError};

/// Why a peer is not established, as `display` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BgpDownReason {
    /// The pin is down, or a connection failed for a reason that BMP sessions have too.
    Pin(pin::Reason),
    /// The connection could not be opened for another reason.
    ConnectFailed,
    /// The peer closed the connection.
    PeerClosed,
    /// The connection broke.
    ConnectionBroken,
    /// The peer sent nothing within the hold time.
    HoldTimerExpired,
    /// The peer sent a NOTIFICATION.
    NotificationReceived,
    /// bmpd sent a NOTIFICATION that has no reason of its own here.
    NotificationSent,
    /// The peer had more routes than `maximum-routes`.
    MaximumRoutes,
    /// The feed took more memory than `memory-limit`, and the peer had grown most.
    MemoryLimit,
    /// The peer's OPEN was refused.
    OpenError,
    /// An UPDATE of the peer ended the session (RFC 7606 §2).
    UpdateError,
    /// The peer sent something other than BGP.
    MessageError,
}

impl BgpDownReason {
    /// The reasons that only BGP peers have: all but those of [`Self::Pin`].
    pub const OWN: [Self; 11] = [
        Self::ConnectFailed,
        Self::PeerClosed,
        Self::ConnectionBroken,
        Self::HoldTimerExpired,
        Self::NotificationReceived,
        Self::NotificationSent,
        Self::MaximumRoutes,
        Self::MemoryLimit,
        Self::OpenError,
        Self::UpdateError,
        Self::MessageError,
    ];

    /// Returns the word in `display` and in its JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pin(reason) => reason.as_str(),
            Self::ConnectFailed => "connect-failed",
            Self::PeerClosed => "peer-closed",
            Self::ConnectionBroken => "connection-broken",
            Self::HoldTimerExpired => "hold-timer-expired",
            Self::NotificationReceived => "notification-received",
            Self::NotificationSent => "notification-sent",
            Self::MaximumRoutes => "maximum-routes",
            Self::MemoryLimit => "memory-limit",
            Self::OpenError => "open-error",
            Self::UpdateError => "update-error",
            Self::MessageError => "message-error",
        }
    }

    /// Returns the reason for a failed attempt to connect.
    pub(super) fn of_connect(error: &io::Error) -> Self {
        if let Some(signing) = error.get_ref().and_then(|inner| inner.downcast_ref::<SigningError>()) {
            return Self::Pin(signing.reason());
        }
        // Errors that bmpd explains itself have a kind and no error number.
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
                // A value that no socket error maps to.
                const UNKNOWN: pin::Reason = pin::Reason::NotConfigured;
                match pin::Reason::of(error, otherwise.unwrap_or(UNKNOWN)) {
                    UNKNOWN => Self::ConnectFailed,
                    reason => Self::Pin(reason),
                }
            }
        }
    }
}

impl From<pin::Reason> for BgpDownReason {
    fn from(reason: pin::Reason) -> Self {
        Self::Pin(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_connection_has_the_same_reason_as_for_a_bmp_session() {
        let by_number = |number| BgpDownReason::of_connect(&io::Error::from_raw_os_error(number)).as_str();
        assert_eq!(by_number(libc::ECONNREFUSED), "connect-refused");
        assert_eq!(by_number(libc::ETIMEDOUT), "connect-timeout");
        assert_eq!(by_number(libc::ENETUNREACH), "no-route");
        assert_eq!(by_number(libc::EMFILE), "no-descriptors");
        assert_eq!(by_number(libc::EPERM), "egress-denied");
        assert_eq!(by_number(libc::EINVAL), "connect-failed");
        let explained = |kind| BgpDownReason::of_connect(&io::Error::new(kind, "why")).as_str();
        assert_eq!(explained(io::ErrorKind::AddrNotAvailable), "address-absent");
        assert_eq!(explained(io::ErrorKind::PermissionDenied), "not-permitted");
        assert_eq!(explained(io::ErrorKind::Other), "connect-failed");
    }
}
