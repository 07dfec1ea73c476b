//! What the kernel tells of a session's connections, added up.

use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

use tracing::{debug, warn};

use super::{Change, Occurrence, Pins, Refused, Slot, SocketEvent, foreign::Destroyed};

/// The connections of one session, whoever opened them, as the kernel's events add up.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    /// Those that are established, by socket cookie.
    pub open: BTreeMap<u64, Connection>,
    /// How many have been established.
    pub established: u64,
    /// How many of these are closed.
    pub closed: u64,
    /// How many attempts failed.
    pub failed: u64,
    /// The last connection that was closed or attempt that failed.
    pub last_end: Option<Ended>,
    /// The last connect that the kernel refused, and how many were told. They are told at most once a second and CPU.
    pub refusals: u64,
    /// See [`Self::refusals`].
    pub last_refusal: Option<Refusal>,
    /// How often events were lost: whoever follows connections looks at them anew.
    pub lost: u64,
}

/// One established connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// This host's end.
    pub local: SocketAddr,
    /// The station's end.
    pub remote: SocketAddr,
    /// Whether bmpd opened it.
    pub own: bool,
    /// Id of the process that did.
    pub process: u32,
    /// When it was told.
    pub since: Instant,
    /// What it is held to.
    pub(super) slot: Slot,
}

/// How a connection or an attempt ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Whether it had been established.
    pub established: bool,
    /// Whether bmpd had opened it.
    pub own: bool,
    /// Id of the process that had; 0 where that is not known.
    pub process: u32,
    /// The state that it was in before, as include/net/tcp_states.h numbers them; 0 where that is not known.
    pub tcp_state: u16,
    /// This host's end.
    pub local: SocketAddr,
}

/// A connect that the kernel refused.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// Why.
    pub refused: Refused,
    /// Id of the process that tried.
    pub process: u32,
    /// Whether that is bmpd.
    pub own: bool,
}

impl Connections {
    /// The connection of another process that was established last.
    pub fn foreign(&self) -> Option<&Connection> {
        self.open.values().filter(|connection| !connection.own).max_by_key(|connection| connection.since)
    }

    pub(super) fn record(&mut self, event: &SocketEvent) {
        match event.change {
            Change::Connected | Change::Accepted => self.open(
                event.cookie,
                Connection {
                    local: event.local,
                    remote: event.remote,
                    own: event.own,
                    process: event.process,
                    since: Instant::now(),
                    slot: event.under(),
                },
            ),
            Change::Closed { established } => {
                if established {
                    self.closed += 1;
                } else {
                    self.failed += 1;
                }
                self.open.remove(&event.cookie);
                self.last_end = Some(Ended {
                    established,
                    own: event.own,
                    process: event.process,
                    tcp_state: event.tcp_state,
                    local: event.local,
                });
            }
            Change::Refused(refused) => {
                self.refusals += 1;
                self.last_refusal = Some(Refusal { refused, process: event.process, own: event.own });
            }
        }
    }

    /// Notes a connection that is established.
    pub(super) fn open(&mut self, cookie: u64, connection: Connection) {
        if self.open.insert(cookie, connection).is_none() {
            self.established += 1;
        }
    }

    /// Notes that a connection is held to another slot. False if it is not known.
    pub(super) fn moved(&mut self, cookie: u64, to: &Slot) -> bool {
        let Some(connection) = self.open.get_mut(&cookie) else { return false };
        connection.slot = to.clone();
        true
    }

    /// Notes that a connection is gone, of which no event told how. False if it is not known.
    pub(super) fn gone(&mut self, cookie: u64) -> bool {
        let Some(connection) = self.open.remove(&cookie) else { return false };
        self.closed += 1;
        self.last_end = Some(Ended {
            established: true,
            own: connection.own,
            process: connection.process,
            tcp_state: 0,
            local: connection.local,
        });
        true
    }
}

/// Adds up what the kernel tells until the runtime ends. What it told while no bmpd ran comes first.
///
/// # Errors
///
/// The events cannot be waited for, or somebody else reads them.
pub async fn follow(pins: Pins) -> anyhow::Result<()> {
    // What was told before is of slots that sessions take over first.
    pins.settled().await;
    let mut events = pins.datapath().events()?;
    let mut late = pins.late();
    let (mut destroyed, mut wanted) = (None, true);
    loop {
        tokio::select! {
            occurrence = events.next() => match occurrence? {
                Occurrence::Socket(event) => {
                    debug!("kernel: slot {}: {:?}: {} to {}", event.slot(), event.change, event.local, event.remote);
                    pins.tell_event(&event);
                }
                Occurrence::Lost(count) => {
                    warn!("{count} events of the kernel programs are lost: connections are looked at anew");
                    pins.tell_lost();
                }
            },
            gone = gone(&mut destroyed) => match gone {
                Some(cookies) => cookies.into_iter().for_each(|cookie| pins.tell_gone(cookie)),
                None => pins.tell_lost(),
            },
            // Connections that were there before their pin make no events of their own.
            Ok(_) = late.wait_for(|late| *late), if wanted => {
                wanted = false;
                match Destroyed::watch() {
                Ok(watch) => destroyed = Some(watch),
                Err(error) => warn!("the end of connections that were there before is not told: {error}"),
            }},
        }
    }
}

async fn gone(destroyed: &mut Option<Destroyed>) -> Option<Vec<u64>> {
    match destroyed {
        Some(watch) => match watch.next().await {
            Ok(cookies) => cookies,
            Err(error) => {
                warn!("the end of connections that were there before is not told any more: {error}");
                *destroyed = None;
                None
            }
        },
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pin::Datapath;

    fn connection(process: u32) -> Connection {
        Connection {
            local: "192.0.2.1:40000".parse().unwrap(),
            remote: "198.51.100.7:11019".parse().unwrap(),
            own: false,
            process,
            since: Instant::now(),
            slot: Datapath::no_slot(),
        }
    }

    #[test]
    fn a_connection_that_is_told_twice_is_one() {
        let mut connections = Connections::default();
        connections.open(7, connection(1));
        connections.open(7, connection(1));
        assert_eq!((connections.established, connections.open.len()), (1, 1));
        assert!(connections.gone(7));
        assert!(!connections.gone(7), "it is closed once");
        assert_eq!((connections.closed, connections.open.len()), (1, 0));
    }

    #[test]
    fn of_several_foreign_connections_the_last_one_is_the_sessions() {
        let mut connections = Connections::default();
        connections.open(1, connection(10));
        connections.open(2, connection(20));
        connections.open(3, Connection { own: true, ..connection(30) });
        assert_eq!(connections.foreign().map(|connection| connection.process), Some(20));
    }
}
