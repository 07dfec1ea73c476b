//! Why a session is down.

use std::{fmt, io};

/// Why a session is down, as `display` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No port is configured.
    NotConfigured,
    /// `shutdown` is configured.
    Shutdown,
    /// No interface has the name that is configured.
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
    /// The VPN instance's VRF device is not there.
    VpnInstanceAbsent,
    /// An adopted socket is bound to something else, or another process listens on a passive session's address and port.
    SourceConflict,
    /// The kernel dropped the session's packets: they would have left elsewhere.
    EgressDenied,
    /// The station refused the connection.
    ConnectRefused,
    /// The station did not answer.
    ConnectTimeout,
    /// The station closed the connection.
    StationClosed,
    /// The connection was reset.
    ConnectionReset,
    /// The station acknowledges nothing any more.
    KeepaliveTimeout,
    /// An operator reset the session.
    ManualReset,
    /// What is in force for the session changed.
    ConfigurationChanged,
    /// The kernel does not let bmpd do what the session needs.
    NotPermitted,
    /// bmpd, or the host, has no file descriptor left for the session's socket.
    NoDescriptors,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 20] = [
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
        Self::NotPermitted,
        Self::NoDescriptors,
    ];

    /// Whether it is something that this host has lost and may get back: what `hold-down` is for.
    pub fn is_of_the_host(self) -> bool {
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

    /// What an error of a socket says about the session, or `otherwise`.
    pub fn of(error: &io::Error, otherwise: Self) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::ConnectRefused,
            Some(libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED) => Self::ConnectionReset,
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH) => Self::NoRoute,
            Some(libc::EADDRNOTAVAIL) => Self::AddressAbsent,
            // Of a listener: it is somebody else's.
            Some(libc::EADDRINUSE) => Self::SourceConflict,
            Some(libc::ENODEV) => Self::InterfaceAbsent,
            Some(libc::ENETDOWN) => Self::InterfaceDown,
            // The connect programs answer a denied connect with EPERM.
            Some(libc::EPERM) => Self::EgressDenied,
            Some(libc::EACCES) => Self::NotPermitted,
            Some(libc::EMFILE | libc::ENFILE) => Self::NoDescriptors,
            _ => otherwise,
        }
    }

    /// The exact string of `display` and of its JSON.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_listed_once() {
        let mut listed: Vec<_> = Reason::ALL.iter().map(|reason| *reason as usize).collect();
        listed.sort_unstable();
        // The last variant's number is one less than how many there are.
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
