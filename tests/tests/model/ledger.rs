//! The forms that packets of sessions may have, and the packets that have others.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use lab::capture::CapturedPacket;

use super::reference::SessionGrant;

/// How long the slot of a replaced pin stays (10 s), with a margin.
const LINGER: Duration = Duration::from_secs(12);

/// Packets to a station that are allowed, until a time.
#[derive(Clone, Debug)]
struct AllowedPackets {
    station: SocketAddr,
    grant: SessionGrant,
    /// `None` while the pin is in force.
    until: Option<Instant>,
}

/// The packets that are allowed now, or were a short while ago.
#[derive(Debug, Default)]
pub(crate) struct PacketLedger(Vec<AllowedPackets>);

impl PacketLedger {
    /// Puts these pins in force. Earlier ones stay allowed for a while. A bmpd that has just
    /// `started` begins this while anew.
    pub(crate) fn note(&mut self, mut granted: Vec<(SocketAddr, SessionGrant)>, started: bool) {
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
        self.0.extend(granted.into_iter().map(|(station, grant)| AllowedPackets { station, grant, until: None }));
    }

    /// True if a packet may have left by the interface with this index.
    ///
    /// A reset without an acknowledgement is the kernel's answer to a packet of an unknown
    /// connection, or of one on another interface. It has the session's source, and follows
    /// routing.
    pub(crate) fn allows(&self, index: u32, packet: &CapturedPacket) -> bool {
        let stateless = packet.rst && !packet.ack;
        self.0.iter().any(|AllowedPackets { station, grant, .. }| {
            *station == packet.destination
                && grant.source.is_none_or(|source| source == packet.source.ip())
                && (stateless || grant.egress.is_empty() || grant.egress.contains(&index))
        })
    }

    /// Prints one line for each entry.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.iter().map(|entry| format!("allowed: {entry:?}")).collect()
    }
}
