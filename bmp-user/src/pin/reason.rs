//! Why a session is down.

use std::{fmt, io};

/// Why a session is down, in one word of `display`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No port is configured.
    NotConfigured,
    /// `shutdown` is configured.
    Shutdown,
    /// No interface has the configured name.
    InterfaceAbsent,
    /// The interface is not up or has no carrier.
    InterfaceDown,
    /// The interface is a port of a bridge, a bond or the like.
    InterfaceLayer2,
    /// The source address is not on this host, or the interface has none of the session's family.
    AddressAbsent,
    /// The host has no route to the station by the interface.
    NoRoute,
    /// Another rule or route takes the session's packets to another router than its next hop.
    NextHopOverruled,
    /// The VRF device of the VPN instance does not exist.
    VpnInstanceAbsent,
    /// An adopted socket is bound to another address or interface. Or another socket has the
    /// address and port of a passive session, or of a session with a local port.
    SourceConflict,
    /// The kernel dropped the session's packets, because they would have left elsewhere.
    EgressDenied,
    /// The station refused the connection.
    ConnectRefused,
    /// The station did not answer.
    ConnectTimeout,
    /// The station closed the connection.
    StationClosed,
    /// The connection was reset.
    ConnectionReset,
    /// The station stopped acknowledging.
    KeepaliveTimeout,
    /// An operator reset the session.
    ManualReset,
    /// The pin of the session changed.
    ConfigurationChanged,
    /// The key chain of the session does not exist, or has no key to sign with now.
    NoValidKey,
    /// The kernel dropped what the station sent, because the station signs with another key.
    KeyMismatch,
    /// The TLS profile of the session does not exist, or cannot be used as it is.
    TlsProfileUnusable,
    /// The station sends something else than TLS, or nothing.
    NotTls,
    /// The station does not speak TLS 1.3.
    TlsVersion,
    /// The certificate of the station leads to no trusted CA, or that of this device to none that
    /// the station trusts.
    UnknownCa,
    /// A certificate has expired, or is not valid yet.
    CertificateExpired,
    /// The certificate of the station has another name or fingerprint.
    CertificateMismatch,
    /// The TLS handshake or connection failed in another way.
    TlsFailed,
    /// The kernel lacks what the session needs.
    NotSupported,
    /// The kernel forbids bmpd to do what the session needs.
    NotPermitted,
    /// bmpd or the host has no file descriptor left for the session's socket.
    NoDescriptors,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 30] = [
        Self::NotConfigured,
        Self::Shutdown,
        Self::InterfaceAbsent,
        Self::InterfaceDown,
        Self::InterfaceLayer2,
        Self::AddressAbsent,
        Self::NoRoute,
        Self::VpnInstanceAbsent,
        Self::SourceConflict,
        Self::NextHopOverruled,
        Self::EgressDenied,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::StationClosed,
        Self::ConnectionReset,
        Self::KeepaliveTimeout,
        Self::ManualReset,
        Self::ConfigurationChanged,
        Self::NoValidKey,
        Self::KeyMismatch,
        Self::TlsProfileUnusable,
        Self::NotTls,
        Self::TlsVersion,
        Self::UnknownCa,
        Self::CertificateExpired,
        Self::CertificateMismatch,
        Self::TlsFailed,
        Self::NotSupported,
        Self::NotPermitted,
        Self::NoDescriptors,
    ];

    /// True if this host lost something that may come back. `hold-down` applies to these reasons.
    pub fn is_host_loss(self) -> bool {
        matches!(
            self,
            Self::InterfaceAbsent
                | Self::InterfaceDown
                | Self::InterfaceLayer2
                | Self::AddressAbsent
                | Self::NoRoute
                | Self::VpnInstanceAbsent
        )
    }

    /// The reason that a socket's error stands for, or `otherwise`.
    pub fn of(error: &io::Error, otherwise: Self) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::ConnectRefused,
            Some(libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED) => Self::ConnectionReset,
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH) => Self::NoRoute,
            Some(libc::EADDRNOTAVAIL) => Self::AddressAbsent,
            // From bind(2) to a port: another socket has it.
            Some(libc::EADDRINUSE) => Self::SourceConflict,
            Some(libc::ENODEV) => Self::InterfaceAbsent,
            Some(libc::ENETDOWN) => Self::InterfaceDown,
            // The connect programs answer a denied connect(2) with EPERM.
            Some(libc::EPERM) => Self::EgressDenied,
            Some(libc::EACCES) => Self::NotPermitted,
            Some(libc::EMFILE | libc::ENFILE) => Self::NoDescriptors,
            _ => otherwise,
        }
    }

    /// The word in `display` and in its JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotConfigured => "not-configured",
            Self::Shutdown => "shutdown",
            Self::InterfaceAbsent => "interface-absent",
            Self::InterfaceDown => "interface-down",
            Self::InterfaceLayer2 => "interface-layer2",
            Self::AddressAbsent => "address-absent",
            Self::NoRoute => "no-route",
            Self::NextHopOverruled => "next-hop-overruled",
            Self::VpnInstanceAbsent => "vpn-instance-absent",
            Self::SourceConflict => "source-conflict",
            Self::EgressDenied => "egress-denied",
            Self::ConnectRefused => "connect-refused",
            Self::ConnectTimeout => "connect-timeout",
            Self::StationClosed => "station-closed",
            Self::ConnectionReset => "connection-reset",
            Self::KeepaliveTimeout => "keepalive-timeout",
            Self::ManualReset => "manual-reset",
            Self::ConfigurationChanged => "configuration-changed",
            Self::NoValidKey => "no-valid-key",
            Self::KeyMismatch => "key-mismatch",
            Self::TlsProfileUnusable => "tls-profile-unusable",
            Self::NotTls => "not-tls",
            Self::TlsVersion => "tls-version",
            Self::UnknownCa => "unknown-ca",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateMismatch => "certificate-mismatch",
            Self::TlsFailed => "tls-failed",
            Self::NotSupported => "not-supported",
            Self::NotPermitted => "not-permitted",
            Self::NoDescriptors => "no-descriptors",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a session is down: a word, a sentence and the command that mends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct DownCause {
    /// The word.
    pub reason: Reason,
    /// What is missing or failed, as a sentence without its full stop.
    pub why: String,
    /// The command that would mend it, of ip(8) or of bmpd's own command language. Empty where none
    /// is known.
    pub mend: String,
}

impl DownCause {
    /// A cause that no command is known to mend.
    pub fn without_mend(reason: Reason, why: impl Into<String>) -> Self {
        Self { reason, why: why.into(), mend: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_listed_once() {
        let mut listed: Vec<_> = Reason::ALL.iter().map(|reason| *reason as usize).collect();
        listed.sort_unstable();
        // The last variant's number is one less than the number of variants.
        assert_eq!(listed, (0..=Reason::NoDescriptors as usize).collect::<Vec<_>>());
    }

    #[test]
    fn the_page_on_troubleshooting_has_an_entry_for_every_reason() {
        let page = include_str!("../../../docs/troubleshooting.md");
        let missing: Vec<_> =
            Reason::ALL.iter().filter(|reason| !page.contains(&format!("\n### `{reason}`\n"))).collect();
        assert!(missing.is_empty(), "docs/troubleshooting.md has no entry for {missing:?}");
    }
}
