//! What becomes of tagged sockets, as the kernel tells it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use bmp_ebpf::{
    CAUSE_INTERFACE, CAUSE_SOURCE, EVENT_ACCEPTED, EVENT_CLOSED, EVENT_CONNECTED, EVENT_REFUSED, InetAddress,
    KernelEvent, TAG_OWN,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::warn;

use super::{Datapath, Slot};

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// This host opened it, and it is established.
    Connected,
    /// A tagged listener accepted it, and it is established.
    Accepted,
    /// It is closed.
    Closed {
        /// Whether it had been established; else the attempt failed.
        established: bool,
    },
    /// Its connect was refused. Of refusals that follow each other at most one a second and CPU is told.
    Refused(Refused),
}

/// Why the kernel refused a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The socket was bound to an interface that the pin does not name.
    Interface,
    /// The socket was bound to another source address than the pin's, or to none but a port.
    Source,
    /// The pin says deny, or is no longer there.
    NoPin,
}

/// What happened to one tagged socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketEvent {
    slot: u32,
    generation: u32,
    /// Whether bmpd itself opened the socket.
    pub own: bool,
    /// Id of the process that connected the socket; 0 where that is not known.
    pub process: u32,
    /// What happened.
    pub change: Change,
    /// The state that the socket was in before, as include/net/tcp_states.h numbers them.
    pub tcp_state: u16,
    /// This host's end (unspecified for [`Change::Refused`]), of the family that is on the wire.
    pub local: SocketAddr,
    /// The station's end.
    pub remote: SocketAddr,
    /// The socket's cookie (`SO_COOKIE`), which sock_diag(7) shows too.
    pub cookie: u64,
    /// When, on the clock `CLOCK_MONOTONIC`.
    pub at: Duration,
}

impl SocketEvent {
    /// Whether the socket was under this slot.
    pub fn is_under(&self, slot: &Slot) -> bool {
        (self.slot, self.generation) == (slot.number, slot.generation)
    }

    /// The slot that the socket was under.
    pub fn under(&self) -> Slot {
        Slot { number: self.slot, generation: self.generation }
    }

    /// The number of the slot that the socket was under.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Reads an entry of the ring; `None` if it is none of this version's.
    fn decode(entry: &[u8]) -> Option<Self> {
        if entry.len() != size_of::<KernelEvent>() {
            return None;
        }
        // SAFETY: as many bytes as the type has, any of which are a value of it; the copy needs no alignment.
        let event = unsafe { entry.as_ptr().cast::<KernelEvent>().read_unaligned() };
        let address = |address: InetAddress, port| Some(SocketAddr::new(address.to_ip(event.family)?, port));
        /// `TCP_SYN_SENT` and `TCP_SYN_RECV` (include/net/tcp_states.h).
        const HALF_OPEN: [u16; 2] = [2, 3];
        let change = match event.kind {
            EVENT_CONNECTED => Change::Connected,
            EVENT_ACCEPTED => Change::Accepted,
            EVENT_CLOSED => Change::Closed { established: !HALF_OPEN.contains(&event.state) },
            EVENT_REFUSED => Change::Refused(match event.cause {
                CAUSE_INTERFACE => Refused::Interface,
                CAUSE_SOURCE => Refused::Source,
                _ => Refused::NoPin,
            }),
            _ => return None,
        };
        Some(Self {
            slot: event.slot,
            generation: event.generation,
            own: event.flags & TAG_OWN != 0,
            process: event.process,
            change,
            tcp_state: event.state,
            local: address(event.local, event.local_port)?,
            remote: address(event.remote, event.remote_port)?,
            cookie: event.cookie,
            at: Duration::from_nanos(event.time_ns),
        })
    }
}

/// What [`Events::next`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occurrence {
    /// Something happened to a socket.
    Socket(SocketEvent),
    /// So many events found the ring full and are lost: whoever follows connections must look at them anew. A bmpd that takes over is told
    /// of all that were ever lost.
    Lost(u64),
}

/// The events of all tagged sockets.
pub struct Events {
    ring: Option<AsyncFd<RingBuf<MapData>>>,
    datapath: Datapath,
    /// How many lost events were told.
    told: u64,
    /// Whether something was read since the losses were looked at.
    read: bool,
}

impl Events {
    pub(super) fn new(ring: Option<RingBuf<MapData>>, datapath: Datapath) -> io::Result<Self> {
        let ring = match ring {
            // SAFETY: the descriptor is the ring's, which owns it and keeps it open.
            Some(ring) => Some(unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?),
            None => None,
        };
        Ok(Self { ring, datapath, told: 0, read: true })
    }

    /// Waits for the next event. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    ///
    /// The runtime is going.
    pub async fn next(&mut self) -> io::Result<Occurrence> {
        loop {
            if let Some(occurrence) = self.waiting() {
                return Ok(occurrence);
            }
            match &mut self.ring {
                Some(ring) => ring.readable_mut().await?.clear_ready(),
                None => {
                    let Some(ring) = self.datapath.take_ring().await else { std::future::pending().await };
                    // SAFETY: as in `new`.
                    self.ring = Some(unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?);
                    self.read = true;
                }
            }
        }
    }

    /// What is there already. Losses come after what was in the full ring.
    fn waiting(&mut self) -> Option<Occurrence> {
        let ring = self.ring.as_mut()?.get_mut();
        while let Some(entry) = ring.next() {
            self.read = true;
            match SocketEvent::decode(&entry) {
                Some(event) => return Some(Occurrence::Socket(event)),
                None => warn!("an event of the kernel programs is not understood: {} bytes", entry.len()),
            }
        }
        if !std::mem::take(&mut self.read) {
            return None;
        }
        let lost = self.datapath.stale().events_lost;
        let news = lost.saturating_sub(self.told);
        self.told = lost.max(self.told);
        (news > 0).then_some(Occurrence::Lost(news))
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("told", &self.told).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_another_size_or_kind_is_not_taken_for_an_event() {
        assert_eq!(SocketEvent::decode(&[0; size_of::<KernelEvent>() - 1]), None);
        assert_eq!(SocketEvent::decode(&[0; size_of::<KernelEvent>()]), None);
    }
}
