//! A peer that two connections of one relay want. The connection that owns it keeps it while it is
//! alive.
//!
//! The connection that claims the peer asks the owner, and reads nothing more until that is
//! decided. The owner answers once it knows whether its daemon is there. If the daemon is gone, the
//! owner's connection ends, and the claim is granted.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    os::fd::AsRawFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::AsyncRead,
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use super::keepalive::{probe_idle_daemon, probe_urgently};
use crate::{feed::ConnectionId, signing::SignedStream, sys, tls::TlsStream};

/// How often an owner looks for signs of its daemon.
const LOOK: Duration = Duration::from_millis(50);
/// A daemon on this host that is gone is known to be gone after this time.
const LOCAL: Duration = Duration::from_millis(100);
/// A daemon that has sent without a pause for this time is there: the owner has read by then
/// whatever a dead daemon left in the socket.
const TALKATIVE: Duration = Duration::from_secs(2);
/// A daemon on another host that was silent for this time is gone, whatever its kernel says later.
const SILENT: Duration = Duration::from_secs(5);
/// The error of a time that the kernel tells.
const INEXACT: Duration = Duration::from_millis(20);
/// How long a claim waits for a connection that takes no questions, because it begins or ends.
const RETRY: Duration = Duration::from_millis(200);
/// A claim that is not decided in this time is refused: two daemons that are both gone may wait for
/// each other.
const UNDECIDED: Duration = Duration::from_secs(10);

/// The connections of a relay that take questions. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct PeerOwners(Arc<Mutex<HashMap<ConnectionId, PeerOwner>>>);

#[derive(Debug)]
struct PeerOwner {
    client: SocketAddr,
    questions: mpsc::UnboundedSender<OwnerQuestion>,
}

/// Asks whether a daemon is there. The owner answers with [`DaemonAlive`]. It drops the question
/// when its connection is over and its peers are free or held.
pub(super) type OwnerQuestion = oneshot::Sender<DaemonAlive>;

/// The daemon of a connection is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct DaemonAlive;

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimDecision {
    /// The owner is gone.
    Granted,
    /// The owner is there, or may be.
    Refused,
}

impl PeerOwners {
    /// Registers a connection, which takes questions as long as the returned value lives. That must
    /// be longer than the connection has peers.
    pub(super) fn register(&self, connection: ConnectionId, client: SocketAddr) -> OwnerRegistration {
        let (sender, questions) = mpsc::unbounded_channel();
        self.lock().insert(connection, PeerOwner { client, questions: sender });
        OwnerRegistration { owners: self.clone(), connection, questions }
    }

    /// The daemon's end of a connection.
    pub(super) fn client(&self, connection: ConnectionId) -> Option<SocketAddr> {
        Some(self.lock().get(&connection)?.client)
    }

    /// Waits until it is known whether the owner of a peer is there. `asked_before` is true if the
    /// same owner was asked just before.
    pub(super) async fn ask(&self, owner: ConnectionId, asked_before: bool) -> ClaimDecision {
        let (question, answer) = oneshot::channel();
        let is_asked = self.lock().get(&owner).is_some_and(|owner| owner.questions.send(question).is_ok());
        if !is_asked {
            // Either the owner has just ended, and the claim is good. Or nobody can say.
            sleep(RETRY).await;
            return if asked_before { ClaimDecision::Refused } else { ClaimDecision::Granted };
        }
        match tokio::time::timeout(UNDECIDED, answer).await {
            Ok(Ok(DaemonAlive)) | Err(_) => ClaimDecision::Refused,
            Ok(Err(_)) => ClaimDecision::Granted,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectionId, PeerOwner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that takes questions.
#[derive(Debug)]
pub(super) struct OwnerRegistration {
    owners: PeerOwners,
    connection: ConnectionId,
    pub(super) questions: mpsc::UnboundedReceiver<OwnerQuestion>,
}

impl Drop for OwnerRegistration {
    fn drop(&mut self) {
        self.owners.lock().remove(&self.connection);
    }
}

/// The stream of a connection, which also shows whether the daemon is there.
pub(super) trait DaemonStream: AsyncRead + Unpin {
    /// See [`sys::tcp_presence`].
    fn presence(&self) -> io::Result<sys::TcpPresence>;

    /// Has the kernel probe the daemon's host: at once and often if `urgent`, otherwise when the
    /// daemon is idle.
    fn probe(&self, urgent: bool) -> io::Result<()>;
}

impl<S: DaemonStream + AsRawFd> DaemonStream for SignedStream<S> {
    fn presence(&self) -> io::Result<sys::TcpPresence> {
        sys::tcp_presence(self)
    }

    fn probe(&self, urgent: bool) -> io::Result<()> {
        self.get_ref().probe(urgent)
    }
}

impl DaemonStream for TlsStream {
    fn presence(&self) -> io::Result<sys::TcpPresence> {
        self.socket().presence()
    }

    fn probe(&self, urgent: bool) -> io::Result<()> {
        self.socket().probe(urgent)
    }
}

impl DaemonStream for TcpStream {
    fn presence(&self) -> io::Result<sys::TcpPresence> {
        sys::tcp_presence(self)
    }

    fn probe(&self, urgent: bool) -> io::Result<()> {
        if urgent { probe_urgently(self) } else { probe_idle_daemon(self) }
    }
}

/// The questions that an owner has not answered yet, and its search for the answer.
#[derive(Debug, Default)]
pub(super) struct OwnerInquiry {
    questions: Vec<OwnerQuestion>,
    search: Option<DaemonSearch>,
}

/// A search for signs of a daemon.
#[derive(Clone, Copy, Debug)]
struct DaemonSearch {
    began: Instant,
    next_look: Instant,
}

impl OwnerInquiry {
    /// Takes a question.
    pub(super) fn begin(&mut self, question: OwnerQuestion, stream: &impl DaemonStream) {
        self.questions.push(question);
        if self.search.is_none() {
            let now = Instant::now();
            self.search = Some(DaemonSearch { began: now, next_look: now + LOOK });
            // If the kernel cannot probe the daemon, its silence decides.
            let _ = stream.probe(true);
        }
    }

    /// Waits until [`OwnerInquiry::look`] is due. Never returns without a question.
    pub(super) async fn next(&self) {
        match self.search {
            Some(search) => sleep_until(search.next_look).await,
            None => std::future::pending().await,
        }
    }

    /// Looks whether the daemon is there, and answers the questions if it is. `reads` says whether
    /// the connection reads what comes in.
    ///
    /// # Errors
    ///
    /// If the daemon is gone. The connection is over then.
    pub(super) fn look(&mut self, stream: &impl DaemonStream, is_local: bool, reads: bool) -> io::Result<()> {
        let Some(search) = &mut self.search else { return Ok(()) };
        search.next_look = Instant::now() + LOOK;
        let (presence, time) = (stream.presence()?, search.began.elapsed());
        if !presence.is_established {
            // The connection reads what the daemon sent, and then its end.
            return Ok(());
        }
        let has_answered = presence.last_heard + INEXACT < time;
        let is_read = presence.unread == 0 || !reads || time >= TALKATIVE;
        let is_there = if is_local { time >= LOCAL } else { has_answered };
        if is_there && is_read {
            self.search = None;
            let _ = stream.probe(false);
            for question in self.questions.drain(..) {
                // The connection that asked may be gone.
                let _ = question.send(DaemonAlive);
            }
        } else if !is_local && !has_answered && time >= SILENT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

/// The daemon of a test, which is there as long as its end of the stream is.
#[cfg(test)]
impl DaemonStream for tokio::io::DuplexStream {
    fn presence(&self) -> io::Result<sys::TcpPresence> {
        Ok(sys::TcpPresence { is_established: true, last_heard: Duration::ZERO, unread: 0 })
    }

    fn probe(&self, _urgent: bool) -> io::Result<()> {
        Ok(())
    }
}
