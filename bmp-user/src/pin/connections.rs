//! What the kernel reports of a session's connections, added up.

use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

use super::kernel::{ConnectRefusal, PinSlot, SocketChange, SocketEvent};

/// The connections of one session, whoever opened them, as the kernel's events add up.
#[derive(Clone, Debug, Default)]
pub struct KernelConnections {
    /// The established connections, by socket cookie.
    pub open: BTreeMap<u64, KernelConnection>,
    /// How many connections have been established.
    pub established: u64,
    /// How many of these are closed.
    pub closed: u64,
    /// How many attempts failed.
    pub failed: u64,
    /// How many reports there were of an end. An end that was found before its event has two.
    pub end_reports: u64,
    /// The last connection that was closed, or attempt that failed.
    pub last_end: Option<KernelConnectionEnd>,
    /// How many refusals were reported. The kernel programs report at most one a second and CPU.
    pub refusals: u64,
    /// The last connect that the kernel programs refused.
    pub last_refusal: Option<RefusedConnect>,
    /// How often events were lost. After a loss the connections must be looked up again.
    pub lost: u64,
}

/// One established connection.
#[derive(Clone, Debug)]
pub struct KernelConnection {
    /// This host's end.
    pub local: SocketAddr,
    /// The station's end.
    pub remote: SocketAddr,
    /// True if bmpd opened it.
    pub own: bool,
    /// Id of the process that opened it.
    pub process: u32,
    /// True if it is older than its pin: no event of the kernel programs tells its end.
    pub(super) taken_in: bool,
    /// When it was reported.
    pub since: Instant,
    /// The slot that holds it to its pin.
    pub(super) slot: PinSlot,
}

/// How a connection or an attempt ended.
#[derive(Clone, Debug)]
pub struct KernelConnectionEnd {
    /// True if it had been established.
    pub established: bool,
    /// True if bmpd had opened it.
    pub own: bool,
    /// Id of the process that had opened it; 0 where it is not known.
    pub process: u32,
    /// The TCP state before, as include/net/tcp_states.h numbers it; 0 where it is not known.
    pub tcp_state: u16,
    /// This host's end.
    pub local: SocketAddr,
}

/// A connect that the kernel programs refused.
#[derive(Clone, Copy, Debug)]
pub struct RefusedConnect {
    /// Why.
    pub refused: ConnectRefusal,
    /// Id of the process that tried.
    pub process: u32,
    /// True if that process is bmpd.
    pub own: bool,
}

impl KernelConnections {
    /// Returns the other processes' connection that was established last.
    pub fn foreign(&self) -> Option<&KernelConnection> {
        self.newest_foreign().map(|(_, connection)| connection)
    }

    /// Returns the same, with its socket cookie.
    pub fn newest_foreign(&self) -> Option<(u64, &KernelConnection)> {
        let foreign = self.open.iter().filter(|(_, connection)| !connection.own);
        foreign.max_by_key(|(_, connection)| connection.since).map(|(cookie, connection)| (*cookie, connection))
    }

    pub(super) fn record(&mut self, event: &SocketEvent) {
        match event.change {
            SocketChange::Connected | SocketChange::Accepted => self.open(
                event.cookie,
                KernelConnection {
                    local: event.local,
                    remote: event.remote,
                    own: event.own,
                    process: event.process,
                    taken_in: false,
                    since: Instant::now(),
                    slot: event.under(),
                },
            ),
            SocketChange::Closed { established } => {
                // A search without it may have come first: the connection is closed once.
                let is_news = self.open.remove(&event.cookie).is_some();
                self.closed += u64::from(is_news);
                self.failed += u64::from(!established);
                self.end_reports += 1;
                self.last_end = Some(KernelConnectionEnd {
                    established,
                    own: event.own,
                    process: event.process,
                    tcp_state: event.tcp_state,
                    local: event.local,
                });
            }
            SocketChange::Refused(refused) => {
                self.refusals += 1;
                self.last_refusal = Some(RefusedConnect { refused, process: event.process, own: event.own });
            }
        }
    }

    /// Records an established connection. One that is known already counts once.
    pub(super) fn open(&mut self, cookie: u64, connection: KernelConnection) {
        if self.open.insert(cookie, connection).is_none() {
            self.established += 1;
        }
    }

    /// Records that another slot holds a connection. False if the connection is not known.
    pub(super) fn moved(&mut self, cookie: u64, to: &PinSlot) -> bool {
        let Some(connection) = self.open.get_mut(&cookie) else { return false };
        connection.slot = to.clone();
        true
    }

    /// Records that the kernel has destroyed a socket. An event tells more of it than this, but for
    /// a connection that makes none. False if it is not known, or tells its end itself.
    pub(super) fn destroyed(&mut self, cookie: u64) -> bool {
        self.open.get(&cookie).is_some_and(|connection| connection.taken_in) && self.gone(cookie)
    }

    /// Records that a connection is gone, where no event said how. False if it is not known.
    pub(super) fn gone(&mut self, cookie: u64) -> bool {
        let Some(connection) = self.open.remove(&cookie) else { return false };
        self.closed += 1;
        self.end_reports += 1;
        self.last_end = Some(KernelConnectionEnd {
            established: true,
            own: connection.own,
            process: connection.process,
            tcp_state: 0,
            local: connection.local,
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pin::kernel::Datapath;

    fn connection(process: u32) -> KernelConnection {
        KernelConnection {
            local: "192.0.2.1:40000".parse().unwrap(),
            remote: "198.51.100.7:11019".parse().unwrap(),
            own: false,
            process,
            taken_in: false,
            since: Instant::now(),
            slot: Datapath::no_slot(),
        }
    }

    #[test]
    fn a_connection_that_is_reported_twice_counts_once() {
        let mut connections = KernelConnections::default();
        connections.open(7, connection(1));
        connections.open(7, connection(1));
        assert_eq!((connections.established, connections.open.len()), (1, 1));
        assert!(connections.gone(7));
        assert!(!connections.gone(7), "it is closed once");
        assert_eq!((connections.closed, connections.open.len()), (1, 0));
    }

    #[test]
    fn a_destroyed_socket_ends_only_a_connection_that_makes_no_events() {
        let mut connections = KernelConnections::default();
        connections.open(1, connection(10));
        connections.open(2, KernelConnection { taken_in: true, ..connection(20) });
        assert!(!connections.destroyed(1), "its event says how it ended");
        assert!(connections.destroyed(2) && !connections.destroyed(2));
        assert_eq!((connections.closed, connections.open.len()), (1, 1));
    }

    #[test]
    fn an_event_after_a_search_without_the_connection_tells_how_it_ended_and_counts_nothing() {
        let mut connections = KernelConnections::default();
        connections.open(7, connection(1));
        assert!(connections.gone(7));
        let mut event = SocketEvent::in_no_slot(SocketChange::Closed { established: true });
        (event.cookie, event.tcp_state) = (7, 8);
        connections.record(&event);
        assert_eq!((connections.closed, connections.end_reports), (1, 2));
        assert_eq!(connections.last_end.map(|end| end.tcp_state), Some(8));
    }

    #[test]
    fn the_newest_of_several_foreign_connections_is_the_sessions() {
        let mut connections = KernelConnections::default();
        connections.open(1, connection(10));
        connections.open(2, connection(20));
        connections.open(3, KernelConnection { own: true, ..connection(30) });
        assert_eq!(connections.foreign().map(|connection| connection.process), Some(20));
    }
}
