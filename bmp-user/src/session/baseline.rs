//! The counters of a session when an operator reset them. Displays show what was counted later;
//! nothing in the kernel or in the session changes.

use std::time::Instant;

use bmp_ebpf::{Counters, Traffic};

use super::{SessionHandle, status::SessionSnapshot};
use crate::{
    feed::FrameCounts,
    pin::{KernelConnections, Pins},
};

/// The counters of a session at one time.
#[derive(Clone, Debug)]
pub struct CounterBaseline {
    /// When they were read.
    pub at: Instant,
    kernel: Counters,
    messages: FrameCounts,
    sent_bytes: u64,
    retransmits: u64,
    connections: EndedConnections,
}

/// How many connections the kernel has told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndedConnections {
    /// Connections that were established.
    pub established: u64,
    /// Connections that were closed.
    pub closed: u64,
    /// Attempts that failed.
    pub failed: u64,
}

impl CounterBaseline {
    pub(super) fn of(session: &SessionHandle, pins: &Pins) -> Self {
        Self {
            at: Instant::now(),
            kernel: pins.counters(&session.pin),
            messages: session.status.messages(),
            sent_bytes: session.status.sent_bytes(),
            retransmits: retransmits(&session.status.snapshot()),
            connections: EndedConnections::of(&session.pin.connections().borrow()),
        }
    }

    /// Returns what the kernel has counted since.
    pub fn kernel_since(&self, now: &Counters) -> Counters {
        // Without `..`, so that no counter is forgotten.
        let Counters {
            own_tx,
            own_rx,
            foreign_tx,
            foreign_rx,
            rx_elsewhere_packets,
            denied_interface,
            denied_source,
            denied_mark,
            denied_no_pin,
            retransmits,
            events_lost,
            logged_ns: _,
        } = self.kernel;
        Counters {
            own_tx: traffic_since(now.own_tx, own_tx),
            own_rx: traffic_since(now.own_rx, own_rx),
            foreign_tx: traffic_since(now.foreign_tx, foreign_tx),
            foreign_rx: traffic_since(now.foreign_rx, foreign_rx),
            rx_elsewhere_packets: now.rx_elsewhere_packets.saturating_sub(rx_elsewhere_packets),
            denied_interface: now.denied_interface.saturating_sub(denied_interface),
            denied_source: now.denied_source.saturating_sub(denied_source),
            denied_mark: now.denied_mark.saturating_sub(denied_mark),
            denied_no_pin: now.denied_no_pin.saturating_sub(denied_no_pin),
            retransmits: now.retransmits.saturating_sub(retransmits),
            events_lost: now.events_lost.saturating_sub(events_lost),
            logged_ns: now.logged_ns,
        }
    }

    /// Returns the messages that were sent since.
    pub fn messages_since(&self, now: &FrameCounts) -> FrameCounts {
        now.since(&self.messages)
    }

    /// Returns the bytes of BMP that were sent since.
    pub fn sent_bytes_since(&self, now: u64) -> u64 {
        now.saturating_sub(self.sent_bytes)
    }

    /// Returns the segments that bmpd's own connections have sent again since.
    pub fn retransmits_since(&self, now: u64) -> u64 {
        now.saturating_sub(self.retransmits)
    }

    /// Returns the connections that the kernel has told of since.
    pub fn connections_since(&self, now: EndedConnections) -> EndedConnections {
        let EndedConnections { established, closed, failed } = self.connections;
        EndedConnections {
            established: now.established.saturating_sub(established),
            closed: now.closed.saturating_sub(closed),
            failed: now.failed.saturating_sub(failed),
        }
    }
}

impl EndedConnections {
    /// Returns what the kernel has told so far.
    pub fn of(connections: &KernelConnections) -> Self {
        let KernelConnections { established, closed, failed, .. } = *connections;
        Self { established, closed, failed }
    }
}

/// Returns the segments that the connections of a session have sent again, as `TCP_INFO` counts.
fn retransmits(shown: &SessionSnapshot) -> u64 {
    shown.retransmits + shown.live_retransmits
}

fn traffic_since(now: Traffic, before: Traffic) -> Traffic {
    let Traffic { bytes, packets, buffers, payload_bytes } = before;
    Traffic {
        bytes: now.bytes.saturating_sub(bytes),
        packets: now.packets.saturating_sub(packets),
        buffers: now.buffers.saturating_sub(buffers),
        payload_bytes: now.payload_bytes.saturating_sub(payload_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_counted_after_a_reset_is_left() {
        let traffic = |count| Traffic { bytes: count, packets: count, buffers: count, payload_bytes: count };
        let kernel = |count| Counters {
            own_tx: traffic(count),
            own_rx: traffic(count),
            foreign_tx: traffic(count),
            foreign_rx: traffic(count),
            rx_elsewhere_packets: count,
            denied_interface: count,
            denied_source: count,
            denied_mark: count,
            denied_no_pin: count,
            retransmits: count,
            events_lost: count,
            logged_ns: 7,
        };
        let connections = |count| EndedConnections { established: count, closed: count, failed: count };
        let messages = |count| {
            let mut counts = FrameCounts::default();
            counts.record(0, count);
            counts.record(255, count);
            counts
        };
        let baseline = CounterBaseline {
            at: Instant::now(),
            kernel: kernel(5),
            messages: messages(5),
            sent_bytes: 5,
            retransmits: 5,
            connections: connections(5),
        };
        for (now, left) in [(5, 0), (8, 3), (4, 0)] {
            assert_eq!(baseline.kernel_since(&kernel(now)), kernel(left));
            assert_eq!(baseline.messages_since(&messages(now)), messages(left));
            assert_eq!((baseline.sent_bytes_since(now), baseline.retransmits_since(now)), (left, left));
            assert_eq!(baseline.connections_since(connections(now)), connections(left));
        }
    }
}
