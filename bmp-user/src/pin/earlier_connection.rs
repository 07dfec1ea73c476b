//! Connections that are older than a session's pin.

use std::{fmt, net::SocketAddr};

use crate::escape::Untrusted;

/// A connection to a session's station that is older than its pin, so that nothing holds it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlierConnection {
    /// Id of the process that has it.
    pub process: u32,
    /// The name that the process gives itself.
    pub name: Untrusted,
    /// This host's end.
    pub local: SocketAddr,
    /// The station's end.
    pub remote: SocketAddr,
    pub(super) cookie: u64,
}

/// Who has the connection, and the command that closes it.
impl fmt::Display for EarlierConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, name, local, remote, .. } = self;
        write!(
            f,
            "{name} ({process}) was connected from {local} to {remote} before the pin was in force: that connection is neither held to \
             it nor counted (`ss --kill src {local} dst {remote}` closes it)"
        )
    }
}
