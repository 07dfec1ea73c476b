//! One connection of a daemon.

use std::{fmt, io, sync::Arc};

use tokio::{
    io::AsyncReadExt,
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use super::{
    Terms,
    claims::{Claims, Decision, Inquiry, Part, Source},
    quiet::Quiet,
    receiver::{Goodbye, Received, Receiver},
    status::ConnectionHandle,
};
use crate::{
    feed::{Claim, Held, Input, NotUnderstood, Notice},
    wire::bmp,
};

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The daemon closed it between two messages.
    Closed,
    /// The daemon said that it would.
    Terminated(Goodbye),
    /// The stream ended inside a message.
    Cut { at: u64, left: usize },
    /// What came is not BMP, or not as it has to be.
    Invalid(bmp::Error),
    /// The connection broke.
    Broken(io::Error),
    /// `allow` does not let it in any more.
    NotAllowed,
}

impl End {
    fn is_orderly(&self) -> bool {
        matches!(self, Self::Closed | Self::Terminated(_))
    }
}

/// As in the log line.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "the daemon closed the connection"),
            Self::Terminated(goodbye) => write!(f, "the daemon ended the session: {goodbye}"),
            Self::Cut { at, left } => {
                write!(f, "the stream ended {left} bytes into the message at byte {at}")
            }
            Self::Invalid(error) => write!(f, "{error}; closed"),
            Self::Broken(error) => write!(f, "the connection broke: {error}"),
            Self::NotAllowed => write!(f, "`allow` does not let this host connect any more; closed"),
        }
    }
}

/// What a connection is connected to.
pub(super) struct Wiring {
    pub(super) status: ConnectionHandle,
    pub(super) terms: watch::Receiver<Arc<Terms>>,
    pub(super) claims: Claims,
}

/// Connections of one relay whose peers are held at the same time, at most.
const MOST_HELD: usize = 64;
/// Peers of one connection, at most: a router that has more reports to several relays.
const MOST_PEERS: usize = 16_384;

/// Feeds what `stream` sends until it ends, and holds its peers then for as long as the terms say.
pub(super) async fn serve(stream: impl Source, mut input: Input, wiring: Wiring) {
    let Wiring { status, terms, claims } = wiring;
    let (relay, client) = (status.relay_name().to_owned(), status.client());
    info!(relay, %client, "daemon connected");
    input.limit_peers(MOST_PEERS);
    let part = claims.take_part(input.connection(), client);
    let inquiry = Inquiry::default();
    let mut connection =
        Connection { stream, status: &status, terms: terms.clone(), claims: &claims, part, inquiry, fixed: false };
    let end = connection.feed(&mut input).await;
    if end.is_orderly() {
        info!(relay, %client, "{end}");
    } else {
        warn!(relay, %client, "{end}");
    }
    status.closed(&end.to_string());
    let is_wanted = !matches!(end, End::NotAllowed) && !terms.borrow().hold.is_zero();
    // Whoever connects often, with other peers each time, is not to fill the memory.
    let holds = is_wanted && status.held_connections() < MOST_HELD;
    if is_wanted && !holds {
        warn!(relay, %client, "its peers are not held: those of {MOST_HELD} connections of this relay are held already");
    }
    let held = if holds {
        Some(input.hold())
    } else {
        drop(input);
        None
    };
    // Its peers are free, or held: who asked for one may have it.
    drop(connection);
    if let Some(held) = held.filter(|held| !held.is_empty()) {
        hold(held, status, terms).await;
    }
}

/// Keeps the peers up for as long as the terms say, which may change meanwhile.
async fn hold(held: Held, status: ConnectionHandle, mut terms: watch::Receiver<Arc<Terms>>) {
    let began = Instant::now();
    // What is shown is not of a connection any more.
    let status = status.held();
    loop {
        let until = began + terms.borrow_and_update().hold;
        status.set_until(until);
        tokio::select! {
            () = sleep_until(until) => break,
            // Without a sender nobody wants the relay any more.
            changed = terms.changed() => if changed.is_err() { break },
        }
    }
    drop(held);
    info!(relay = status.relay_name(), client = %status.client(), "hold is over: peers that are not back are down");
}

/// A connection while it is read from.
struct Connection<'a, S> {
    stream: S,
    status: &'a ConnectionHandle,
    terms: watch::Receiver<Arc<Terms>>,
    claims: &'a Claims,
    part: Part,
    inquiry: Inquiry,
    /// The terms change no more.
    fixed: bool,
}

impl<S: Source> Connection<'_, S> {
    async fn feed(&mut self, input: &mut Input) -> End {
        let (mut receiver, mut quiet) = (Receiver::default(), Quiet::default());
        loop {
            let time = {
                let terms = self.terms.borrow_and_update();
                if !terms.lets_in(self.status.own(), self.status.client().ip()) {
                    return End::NotAllowed;
                }
                terms.end_of_rib_after
            };
            let read = tokio::select! {
                read = self.stream.read_buf(receiver.room()) => read,
                () = sleep_until(quiet.next(Instant::now(), time)), if !time.is_zero() => {
                    if let Some(since) = quiet.look(Instant::now(), input.applied(), time) {
                        tell_end_of_rib(input, since, self.status);
                    }
                    continue;
                }
                changed = self.terms.changed(), if !self.fixed => {
                    self.fixed = changed.is_err();
                    continue;
                }
                Some(question) = self.part.questions.recv() => {
                    self.inquiry.begin(question, &self.stream);
                    continue;
                }
                () = self.inquiry.next() => {
                    match self.inquiry.look(&self.stream, self.status.is_local(), true) {
                        Ok(()) => continue,
                        Err(error) => return End::Broken(error),
                    }
                }
            };
            match read {
                Ok(0) => {
                    return match receiver.left() {
                        0 => End::Closed,
                        left => End::Cut { at: receiver.offset(), left },
                    };
                }
                Ok(_) => {}
                Err(error) => return End::Broken(error),
            }
            if let Some(end) = self.receive(&mut receiver, input).await {
                return end;
            }
        }
    }

    /// Feeds what was read. Gives how the connection ended, if it did.
    async fn receive(&mut self, receiver: &mut Receiver, input: &mut Input) -> Option<End> {
        let mut asked = None;
        loop {
            let received = receiver.receive(input);
            self.status.set_totals(input.totals());
            if let Some(system) = receiver.take_system() {
                self.status.set_system(system);
            }
            for notice in input.take_notices() {
                tell(&notice, self.status, self.claims);
            }
            match received {
                Ok(Received::All) => return None,
                Ok(Received::Goodbye(goodbye)) => return Some(End::Terminated(goodbye)),
                Ok(Received::Claim(claim)) => {
                    let asked_before = asked.replace(claim.owner) == Some(claim.owner);
                    match self.decide(&claim, asked_before).await {
                        Ok(Decision::Granted) => {}
                        Ok(Decision::Refused) => input.refuse(&claim),
                        Err(end) => return Some(end),
                    }
                }
                Err(error) => return Some(End::Invalid(error)),
            }
        }
    }

    /// Waits until a claim is decided. Nothing is read meanwhile; but others may ask, and the terms may change.
    async fn decide(&mut self, claim: &Claim, asked_before: bool) -> Result<Decision, End> {
        let decision = self.claims.ask(claim.owner, asked_before);
        tokio::pin!(decision);
        loop {
            tokio::select! {
                decision = &mut decision => return Ok(decision),
                changed = self.terms.changed(), if !self.fixed => {
                    self.fixed = changed.is_err();
                    if !self.terms.borrow_and_update().lets_in(self.status.own(), self.status.client().ip()) {
                        return Err(End::NotAllowed);
                    }
                }
                Some(question) = self.part.questions.recv() => self.inquiry.begin(question, &self.stream),
                () = self.inquiry.next() => {
                    self.inquiry.look(&self.stream, self.status.is_local(), false).map_err(End::Broken)?;
                }
            }
        }
    }
}

/// Says once what an operator has to know.
fn tell(notice: &Notice, status: &ConnectionHandle, claims: &Claims) {
    let (relay, client) = (status.relay_name(), status.client());
    match notice {
        Notice::Odd(oddity, error) => warn!(
            relay, %client, kind = oddity.as_str(),
            "left out and counted, this and all that come: {} ({error})", oddity.meaning()
        ),
        Notice::Refused(peer, owner) => {
            let owner = claims.client(*owner).map_or_else(String::new, |owner| format!(", from {owner}"));
            warn!(
                relay, %client, peer = %peer.address(), asn = peer.asn, bgp_id = %peer.bgp_id,
                "another connection of the relay{owner}, has this peer and is alive: what this one says of it is dropped"
            );
        }
        Notice::NotUnderstood(NotUnderstood { kind, message, .. }) => warn!(
            relay, %client, kind = kind.as_str(), message,
            "an UPDATE is passed on as it came, and counted as all like it: {kind}"
        ),
    }
}

/// Of RIBs that have been quiet since then, End-of-RIB is said in the daemon's stead.
fn tell_end_of_rib(input: &mut Input, since: u64, status: &ConnectionHandle) {
    let ribs = input.end_quiet_ribs(since);
    if ribs > 0 {
        let (relay, client) = (status.relay_name(), status.client());
        info!(relay, %client, ribs, "RIBs have been quiet without End-of-RIB: it is told in the daemon's stead");
    }
}
