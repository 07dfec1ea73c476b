//! What packets of the sessions may look like, and which did not.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use lab::capture::Packet;

use super::reference::Grant;

/// How long the slot of a replaced pin stays as it was (10 s), and a little for its end to be noticed.
const LINGER: Duration = Duration::from_secs(12);

/// What packets to a station may look like, until when.
#[derive(Clone, Debug)]
struct Entry {
    station: SocketAddr,
    grant: Grant,
    /// `None` while it is in force.
    until: Option<Instant>,
}

/// Everything that is allowed, and was a short while ago.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Vec<Entry>);

impl Ledger {
    /// From now on these are in force; what was and is not among them may be seen for a while. A bmpd that has just `started` does not know
    /// how long that has been so.
    pub(crate) fn note(&mut self, mut granted: Vec<(SocketAddr, Grant)>, started: bool) {
        let now = Instant::now();
        self.0.retain(|entry| entry.until.is_none_or(|until| until > now));
        if started {
            self.0.iter_mut().filter_map(|entry| entry.until.as_mut()).for_each(|until| *until = now + LINGER);
        }
        for entry in self.0.iter_mut().filter(|entry| entry.until.is_none()) {
            match granted.iter().position(|(station, grant)| (station, grant) == (&entry.station, &entry.grant)) {
                Some(index) => drop(granted.swap_remove(index)),
                None => entry.until = Some(now + LINGER),
            }
        }
        self.0.extend(granted.into_iter().map(|(station, grant)| Entry { station, grant, until: None }));
    }

    /// Whether a packet may have left by the interface of that index.
    ///
    /// A reset without an acknowledgement is the kernel's own answer to a packet of a connection that it does not know, or that came in
    /// by another interface than the socket's: it has the session's source, and goes as routing chooses.
    pub(crate) fn allows(&self, index: u32, packet: &Packet) -> bool {
        let stateless = packet.rst && !packet.ack;
        self.0.iter().any(|Entry { station, grant, .. }| {
            *station == packet.destination
                && grant.source.is_none_or(|source| source == packet.source.ip())
                && (stateless || grant.egress.is_empty() || grant.egress.contains(&index))
        })
    }

    /// One line an entry.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.iter().map(|entry| format!("allowed: {entry:?}")).collect()
    }
}
