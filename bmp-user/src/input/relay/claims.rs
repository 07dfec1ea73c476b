//! A peer that two connections of one relay want: the one that has it keeps it while it is alive.
//!
//! The connection that claims the peer asks the one that owns it, and reads nothing more until that is decided. The owner answers once it knows
//! whether its daemon is there. If it is not, the owner ends, and the claim is good.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::AsyncRead,
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use super::listener::{ask_after, ask_urgently};
use crate::{feed::ConnectionId, sys};

/// How often it is looked whether an owner was heard of.
const LOOK: Duration = Duration::from_millis(50);
/// A daemon on this host that has gone is known to be gone by then.
const LOCAL: Duration = Duration::from_millis(100);
/// A daemon that has sent without a pause for so long is there: what a dead one left behind has been read by then.
const TALKATIVE: Duration = Duration::from_secs(2);
/// A daemon of another host that was not heard of for so long is not there, whatever its kernel will say.
const SILENT: Duration = Duration::from_secs(5);
/// How much a time that the kernel tells may be wrong.
const INEXACT: Duration = Duration::from_millis(20);
/// How long a claim waits for a connection that takes no questions, because it is about to begin or to end.
const RETRY: Duration = Duration::from_millis(200);
/// A claim is not good if it could not be decided within this time: two daemons that are both gone may wait for each other.
const UNDECIDED: Duration = Duration::from_secs(10);

/// The connections of a relay that may be asked; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims(Arc<Mutex<HashMap<ConnectionId, Owner>>>);

#[derive(Debug)]
struct Owner {
    client: SocketAddr,
    questions: mpsc::UnboundedSender<Question>,
}

/// Answered with [`Alive`], or dropped when the connection is over and its peers are free or held.
pub(super) type Question = oneshot::Sender<Alive>;

/// The daemon of a connection is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alive;

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The owner is gone.
    Granted,
    /// The owner is there, or may be.
    Refused,
}

impl Claims {
    /// Has a connection take questions for as long as what this gives lives, which has to be longer than the connection has peers.
    pub(super) fn take_part(&self, connection: ConnectionId, client: SocketAddr) -> Part {
        let (sender, questions) = mpsc::unbounded_channel();
        self.lock().insert(connection, Owner { client, questions: sender });
        Part { claims: self.clone(), connection, questions }
    }

    /// The daemon's end of a connection.
    pub(super) fn client(&self, connection: ConnectionId) -> Option<SocketAddr> {
        Some(self.lock().get(&connection)?.client)
    }

    /// Waits until it is known whether the owner of a peer is there.
    pub(super) async fn ask(&self, owner: ConnectionId, asked_before: bool) -> Decision {
        let (question, answer) = oneshot::channel();
        let is_asked = self.lock().get(&owner).is_some_and(|owner| owner.questions.send(question).is_ok());
        if !is_asked {
            // It has just ended, and the claim is good; or nobody can say.
            sleep(RETRY).await;
            return if asked_before { Decision::Refused } else { Decision::Granted };
        }
        match tokio::time::timeout(UNDECIDED, answer).await {
            Ok(Ok(Alive)) | Err(_) => Decision::Refused,
            Ok(Err(_)) => Decision::Granted,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectionId, Owner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that may be asked.
#[derive(Debug)]
pub(super) struct Part {
    claims: Claims,
    connection: ConnectionId,
    pub(super) questions: mpsc::UnboundedReceiver<Question>,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.claims.lock().remove(&self.connection);
    }
}

/// What a connection reads from, and how it is found out whether the daemon is there.
pub(super) trait Source: AsyncRead + Unpin {
    /// See [`sys::tcp_presence`].
    fn presence(&self) -> io::Result<sys::TcpPresence>;

    /// Asks the daemon's host at once, and often, for as long as it is urgent.
    fn probe(&self, urgent: bool) -> io::Result<()>;
}

impl Source for TcpStream {
    fn presence(&self) -> io::Result<sys::TcpPresence> {
        sys::tcp_presence(self)
    }

    fn probe(&self, urgent: bool) -> io::Result<()> {
        if urgent { ask_urgently(self) } else { ask_after(self) }
    }
}

/// The questions that a connection has not answered yet, and how it finds the answer.
#[derive(Debug, Default)]
pub(super) struct Inquiry {
    questions: Vec<Question>,
    /// When it began, and when it is to be looked next.
    began: Option<(Instant, Instant)>,
}

impl Inquiry {
    /// Takes a question.
    pub(super) fn begin(&mut self, question: Question, source: &impl Source) {
        self.questions.push(question);
        if self.began.is_none() {
            let now = Instant::now();
            self.began = Some((now, now + LOOK));
            // Where it cannot be asked, its silence decides.
            let _ = source.probe(true);
        }
    }

    /// Waits until [`Inquiry::look`] is to be called next; for good without a question.
    pub(super) async fn next(&self) {
        match self.began {
            Some((_, next)) => sleep_until(next).await,
            None => std::future::pending().await,
        }
    }

    /// Looks whether the daemon is there, and answers if it is. `reads` says whether the connection reads what came in.
    ///
    /// # Errors
    ///
    /// If it is not there: the connection is over.
    pub(super) fn look(&mut self, source: &impl Source, is_local: bool, reads: bool) -> io::Result<()> {
        let Some((began, next)) = &mut self.began else { return Ok(()) };
        *next = Instant::now() + LOOK;
        let (presence, time) = (source.presence()?, began.elapsed());
        if !presence.is_established {
            // What it has sent is read first, and then its end.
            return Ok(());
        }
        let is_heard = presence.last_heard + INEXACT < time;
        let is_read = presence.unread == 0 || !reads || time >= TALKATIVE;
        let is_there = if is_local { time >= LOCAL } else { is_heard };
        if is_there && is_read {
            self.began = None;
            let _ = source.probe(false);
            // Who asked may be gone.
            for question in self.questions.drain(..) {
                let _ = question.send(Alive);
            }
        } else if !is_local && !is_heard && time >= SILENT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

/// A daemon of a test, which is there for as long as its end of the stream is.
#[cfg(test)]
impl Source for tokio::io::DuplexStream {
    fn presence(&self) -> io::Result<sys::TcpPresence> {
        Ok(sys::TcpPresence { is_established: true, last_heard: Duration::ZERO, unread: 0 })
    }

    fn probe(&self, _urgent: bool) -> io::Result<()> {
        Ok(())
    }
}
