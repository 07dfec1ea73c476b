//! The events of tagged sockets, as the programs report them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use bmp_ebpf::{
    CAUSE_INTERFACE, CAUSE_SOURCE, EVENT_ACCEPTED, EVENT_CLOSED, EVENT_CONNECTED, EVENT_REFUSED, InetAddress,
    KernelEvent, TAG_OWN,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::warn;

use super::datapath::Datapath;
use super::slots::PinSlot;

/// The event of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketChange {
    /// This host opened it, and it is established.
    Connected,
    /// A tagged listener accepted it, and it is established.
    Accepted,
    /// It is closed.
    Closed {
        /// Whether it had been established; else the attempt failed.
        established: bool,
    },
    /// Its connect was refused. At most one refusal a second and CPU is reported.
    Refused(ConnectRefusal),
}

/// Why a program refused a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectRefusal {
    /// The socket was bound to an interface that the pin does not name.
    Interface,
    /// The socket was bound to another source address than the pin's, or to a port alone.
    Source,
    /// The pin denies, or is gone.
    NoPin,
}

/// An event of one tagged socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketEvent {
    slot: u32,
    generation: u32,
    /// True if bmpd opened the socket.
    pub own: bool,
    /// Id of the process that connected the socket; 0 if it is not known.
    pub process: u32,
    /// The event.
    pub change: SocketChange,
    /// The socket's state before, as include/net/tcp_states.h numbers states.
    pub tcp_state: u16,
    /// This host's end, of the family on the wire; unspecified for [`SocketChange::Refused`].
    pub local: SocketAddr,
    /// The station's end.
    pub remote: SocketAddr,
    /// The socket's cookie (`SO_COOKIE`), by which sock_diag(7) knows it too.
    pub cookie: u64,
    /// The time of `CLOCK_MONOTONIC`.
    pub at: Duration,
}

impl SocketEvent {
    /// An event of no socket in particular.
    #[cfg(test)]
    pub(in crate::pin) fn in_no_slot(change: SocketChange) -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let (local, remote) = (nowhere, nowhere);
        let (slot, generation, own, process, tcp_state, cookie, at) = (0, 0, false, 0, 0, 0, Duration::ZERO);
        Self { slot, generation, own, process, change, tcp_state, local, remote, cookie, at }
    }

    /// True if the socket was under this slot.
    pub fn is_under(&self, slot: &PinSlot) -> bool {
        self.under() == *slot
    }

    /// Returns the slot that the socket was under.
    pub fn under(&self) -> PinSlot {
        PinSlot { number: self.slot, generation: self.generation }
    }

    /// Returns the number of that slot.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Reads an entry of the ring; `None` if this version has no such entry.
    fn decode(entry: &[u8]) -> Option<Self> {
        if entry.len() != size_of::<KernelEvent>() {
            return None;
        }
        // SAFETY: the entry has the type's size, any bytes are a value, and the copy needs no
        // alignment.
        let event = unsafe { entry.as_ptr().cast::<KernelEvent>().read_unaligned() };
        let address = |address: InetAddress, port| Some(SocketAddr::new(address.to_ip(event.family)?, port));
        /// `TCP_SYN_SENT` and `TCP_SYN_RECV` (include/net/tcp_states.h).
        const HALF_OPEN: [u16; 2] = [2, 3];
        let change = match event.kind {
            EVENT_CONNECTED => SocketChange::Connected,
            EVENT_ACCEPTED => SocketChange::Accepted,
            EVENT_CLOSED => SocketChange::Closed { established: !HALF_OPEN.contains(&event.state) },
            EVENT_REFUSED => SocketChange::Refused(match event.cause {
                CAUSE_INTERFACE => ConnectRefusal::Interface,
                CAUSE_SOURCE => ConnectRefusal::Source,
                _ => ConnectRefusal::NoPin,
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

/// What [`Events::next`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occurrence {
    /// An event of a socket.
    Socket(SocketEvent),
    /// So many events found the ring full and are lost: a follower of connections must list them
    /// anew. A bmpd that takes over hears of all losses before it, too.
    Lost(u64),
}

impl Datapath {
    /// Returns the events of all tagged sockets, to one reader. Events from before bmpd ran come
    /// first. Without kernel enforcement there are none.
    ///
    /// # Errors
    ///
    /// There is a reader already, or the runtime cannot wait for the ring.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn events(&self) -> anyhow::Result<Events> {
        let ring = match self.with(|kernel| kernel.tables.take_events()) {
            None => None,
            Some(None) => anyhow::bail!("the events of the kernel programs have one reader, which is there already"),
            Some(ring) => ring,
        };
        Events::new(ring, self.clone()).context("the events of the kernel programs cannot be waited for")
    }

    /// Returns the ring of events, once, when the programs are loaded.
    async fn take_ring(&self) -> Option<RingBuf<MapData>> {
        self.loaded().await;
        self.with(|kernel| kernel.tables.take_events()).flatten()
    }
}

/// The events of all tagged sockets.
pub struct Events {
    ring: Option<AsyncFd<RingBuf<MapData>>>,
    datapath: Datapath,
    /// How many lost events were returned.
    losses_returned: u64,
    /// True if an entry was read since the losses were looked at.
    has_read: bool,
}

impl Events {
    fn new(ring: Option<RingBuf<MapData>>, datapath: Datapath) -> io::Result<Self> {
        let ring = match ring {
            // SAFETY: the descriptor is the ring's, which owns it and keeps it open.
            Some(ring) => Some(unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?),
            None => None,
        };
        Ok(Self { ring, datapath, losses_returned: 0, has_read: true })
    }

    /// Waits for the next event. A dropped future loses none.
    ///
    /// # Errors
    ///
    /// The runtime is shutting down.
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
                    self.has_read = true;
                }
            }
        }
    }

    /// Returns an event that is there already. Losses come after the events of the full ring.
    fn waiting(&mut self) -> Option<Occurrence> {
        let ring = self.ring.as_mut()?.get_mut();
        while let Some(entry) = ring.next() {
            self.has_read = true;
            match SocketEvent::decode(&entry) {
                Some(event) => return Some(Occurrence::Socket(event)),
                None => warn!("an event of the kernel programs is not understood: {} bytes", entry.len()),
            }
        }
        if !std::mem::take(&mut self.has_read) {
            return None;
        }
        let lost = self.datapath.stale().events_lost;
        let news = lost.saturating_sub(self.losses_returned);
        self.losses_returned = lost.max(self.losses_returned);
        (news > 0).then_some(Occurrence::Lost(news))
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("losses_returned", &self.losses_returned).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_another_size_or_kind_is_no_event() {
        assert_eq!(SocketEvent::decode(&[0; size_of::<KernelEvent>() - 1]), None);
        assert_eq!(SocketEvent::decode(&[0; size_of::<KernelEvent>()]), None);
    }
}
