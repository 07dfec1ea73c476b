//! One connection of a daemon.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use tokio::{
    io::AsyncReadExt,
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use super::{
    RelayTerms,
    claims::{ClaimDecision, DaemonStream, OwnerInquiry, OwnerRegistration, PeerOwners},
    client::ShutOut,
    quiet::QuietClock,
    receiver::{BmpReceiver, DaemonGoodbye, ReceiveOutcome},
    status::ConnectionHandle,
};
use crate::{
    feed::{Claim, HeldPeers, Input, InputNotice, MemoryExcess, RouterConnection, UpdateError},
    input::budget::{BudgetNews, ClosingCause, HOLD, RouteBudget, RouteExcess, WARNS_AT_PERCENT, ordered},
    wire::bmp,
};

/// How a connection ended.
#[derive(Debug)]
pub(super) enum RelayConnectionEnd {
    /// The daemon closed it between two messages.
    Closed,
    /// The daemon sent a Termination.
    Terminated(DaemonGoodbye),
    /// The stream ended inside a message.
    Cut { at: u64, left: usize },
    /// The daemon sent something else than BMP version 3.
    Invalid(bmp::Error),
    /// The connection broke.
    Broken(io::Error),
    /// A client sent a PROXY header that `allow proxy` does not name.
    ProxyHeader,
    /// `allow` does not let this client in any more.
    NotAllowed(ShutOut),
    /// The daemon is beyond a limit.
    Limited(ClosingCause),
}

impl RelayConnectionEnd {
    fn is_orderly(&self) -> bool {
        matches!(self, Self::Closed | Self::Terminated(_))
    }
}

/// As in the log line.
impl fmt::Display for RelayConnectionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "the daemon closed the connection"),
            Self::Terminated(goodbye) => write!(f, "the daemon ended the session: {goodbye}"),
            Self::Cut { at, left } => {
                write!(f, "the stream ended {left} bytes into the message at byte {at}")
            }
            Self::Invalid(error) => write!(f, "{error}; closed"),
            Self::Broken(error) => write!(f, "the connection broke: {error}"),
            Self::ProxyHeader => write!(
                f,
                "expected BMP version 3 (RFC 7854), found a PROXY header: `allow proxy` of the relay does not name this client; closed"
            ),
            Self::NotAllowed(ShutOut::Host) => {
                write!(f, "`allow` does not let this host connect any more; closed")
            }
            Self::NotAllowed(ShutOut::User) => {
                write!(f, "`allow user` does not let this user connect any more; closed")
            }
            Self::NotAllowed(ShutOut::Proxy) => {
                write!(f, "`allow proxy` does not let this proxy connect any more; closed")
            }
            Self::NotAllowed(ShutOut::NoHeader) => {
                write!(f, "`allow proxy` demands a PROXY header of this host now; closed")
            }
            Self::Limited(cause) => {
                match cause {
                    ClosingCause::Routes { routes, most } => {
                        write!(f, "maximum-routes: the daemon had {routes} routes, and maximum-routes is {most}")?;
                    }
                    ClosingCause::Memory(_) => write!(f, "memory-limit: {cause}")?,
                }
                let seconds = HOLD.as_secs();
                write!(f, "; closed, and its user or host is refused for {seconds} s, unless the limit is raised")
            }
        }
    }
}

/// What a connection shares with the rest of its relay.
pub(super) struct RelayLinks {
    pub(super) status: ConnectionHandle,
    pub(super) terms: watch::Receiver<Arc<RelayTerms>>,
    pub(super) owners: PeerOwners,
    /// The relay's end of the connection, if the relay is divided.
    pub(super) divided: Option<DividedConnection>,
}

/// A connection of a divided relay, which is an input of its own router.
#[derive(Clone, Copy, Debug)]
pub(super) struct DividedConnection {
    /// The relay's end.
    pub(super) local: Option<SocketAddr>,
}

/// Connections of one relay whose peers are held at one time, at most.
const MOST_HELD: usize = 64;
/// Peers of one connection, at most. A router with more peers reports to several relays.
pub const MOST_PEERS_OF_CONNECTION: usize = 16_384;

/// Feeds what `stream` sends until it ends. Then holds its peers for as long as the terms say.
pub(super) async fn serve(stream: impl DaemonStream, mut input: Input, links: RelayLinks) {
    let RelayLinks { status, terms, owners, divided } = links;
    let (relay, client, proxy) = (status.relay_name().to_owned(), status.client(), status.proxy_field());
    info!(relay, %client, proxy, "daemon connected");
    input.limit_peers(MOST_PEERS_OF_CONNECTION);
    if let Some(DividedConnection { local }) = divided {
        input.divide(&relay, RouterConnection { remote: client, local });
    }
    let registration = owners.register(input.connection(), client);
    let mut connection = RelayConnection {
        stream,
        status: &status,
        terms: terms.clone(),
        owners: &owners,
        registration,
        inquiry: OwnerInquiry::default(),
        budget: RouteBudget::default(),
        orders: input.orders_to_close(),
        terms_are_final: false,
    };
    let end = connection.feed(&mut input).await;
    if end.is_orderly() {
        info!(relay, %client, proxy, "{end}");
    } else {
        warn!(relay, %client, proxy, "{end}");
    }
    if let RelayConnectionEnd::Limited(cause) = end {
        status.limit(cause);
    }
    status.closed(&end.to_string());
    let is_unwanted = matches!(end, RelayConnectionEnd::NotAllowed(_) | RelayConnectionEnd::Limited(_));
    let is_wanted = !is_unwanted && !terms.borrow().hold.is_zero();
    // A daemon that connects often, with other peers each time, must not fill the memory.
    let holds = is_wanted && status.held_connections() < MOST_HELD;
    if is_wanted && !holds {
        warn!(relay, %client, proxy, "its peers are not held: those of {MOST_HELD} connections of this relay are held already");
    }
    let held = if holds {
        Some(input.hold())
    } else {
        drop(input);
        None
    };
    // Its peers are free, or held. A connection that asked for one may have it.
    drop(connection);
    if let Some(held) = held.filter(|held| !held.is_empty()) {
        hold(held, status, terms).await;
    }
}

/// Keeps peers up for as long as the terms say. The terms may change meanwhile.
async fn hold(held: HeldPeers, status: ConnectionHandle, mut terms: watch::Receiver<Arc<RelayTerms>>) {
    let (began, mut orders) = (Instant::now(), held.orders_to_close());
    let status = status.held();
    loop {
        let until = began + terms.borrow_and_update().hold;
        status.set_until(until);
        tokio::select! {
            () = sleep_until(until) => break,
            // Without a sender, the relay is gone.
            changed = terms.changed() => if changed.is_err() { break },
            cause = ordered(&mut orders) => {
                status.limit(cause);
                drop(held);
                warn!(
                    relay = status.relay_name(), client = %status.client(), proxy = status.proxy_field(),
                    "memory-limit: {cause}: the peers that were held are down, and its user or host is refused for {} s",
                    HOLD.as_secs()
                );
                return;
            }
        }
    }
    drop(held);
    info!(relay = status.relay_name(), client = %status.client(), proxy = status.proxy_field(), "hold is over: peers that are not back are down");
}

/// A connection that is open.
struct RelayConnection<'a, S> {
    stream: S,
    status: &'a ConnectionHandle,
    terms: watch::Receiver<Arc<RelayTerms>>,
    owners: &'a PeerOwners,
    registration: OwnerRegistration,
    inquiry: OwnerInquiry,
    budget: RouteBudget,
    orders: watch::Receiver<Option<MemoryExcess>>,
    /// True once nobody can change the terms.
    terms_are_final: bool,
}

impl<S: DaemonStream> RelayConnection<'_, S> {
    async fn feed(&mut self, input: &mut Input) -> RelayConnectionEnd {
        let (mut receiver, mut quiet) = (BmpReceiver::default(), QuietClock::default());
        loop {
            let time = {
                let terms = self.terms.borrow_and_update();
                if let Some(why) = terms.shut_out(&self.status.relay_client()) {
                    return RelayConnectionEnd::NotAllowed(why);
                }
                self.budget.set(terms.maximum_routes);
                terms.end_of_rib_after
            };
            if let Some(excess) = self.look_at_budget(input) {
                return RelayConnectionEnd::Limited(excess.into());
            }
            let read = tokio::select! {
                read = self.stream.read_buf(receiver.room()) => read,
                () = sleep_until(quiet.next(Instant::now(), time)), if !time.is_zero() => {
                    if let Some(since) = quiet.look(Instant::now(), input.applied(), time) {
                        end_quiet_ribs(input, since, self.status);
                    }
                    continue;
                }
                changed = self.terms.changed(), if !self.terms_are_final => {
                    self.terms_are_final = changed.is_err();
                    continue;
                }
                cause = ordered(&mut self.orders) => return RelayConnectionEnd::Limited(cause),
                Some(question) = self.registration.questions.recv() => {
                    self.inquiry.begin(question, &self.stream);
                    continue;
                }
                () = self.inquiry.next() => {
                    match self.inquiry.look(&self.stream, self.status.is_local(), true) {
                        Ok(()) => continue,
                        Err(error) => return RelayConnectionEnd::Broken(error),
                    }
                }
            };
            match read {
                Ok(0) => {
                    return match receiver.left() {
                        0 => RelayConnectionEnd::Closed,
                        left => RelayConnectionEnd::Cut { at: receiver.offset(), left },
                    };
                }
                Ok(_) => {}
                Err(error) => return RelayConnectionEnd::Broken(error),
            }
            if let Some(end) = self.receive(&mut receiver, input).await {
                return end;
            }
        }
    }

    /// Counts the routes of the connection where there may be too many. Returns how many, if the
    /// connection has to be closed.
    fn look_at_budget(&mut self, input: &mut Input) -> Option<RouteExcess> {
        let (relay, client, proxy) = (self.status.relay_name(), self.status.client(), self.status.proxy_field());
        match self.budget.look(input.growth(), || input.count_routes())? {
            BudgetNews::Near(RouteExcess { routes, most }) => {
                warn!(relay, %client, proxy, "the daemon has {routes} routes, more than {WARNS_AT_PERCENT} % of maximum-routes {most}");
                None
            }
            BudgetNews::Warning(RouteExcess { routes, most }) => {
                warn!(relay, %client, proxy, "the daemon has {routes} routes, more than maximum-routes {most} (warning-only)");
                None
            }
            BudgetNews::Beyond(excess) => Some(excess),
        }
    }

    /// Feeds what was read. Returns the end of the connection, if it is over.
    async fn receive(&mut self, receiver: &mut BmpReceiver, input: &mut Input) -> Option<RelayConnectionEnd> {
        let mut last_asked = None;
        loop {
            let outcome = receiver.receive(input);
            self.status.set_totals(input.totals());
            if let Some(system) = receiver.take_system() {
                self.status.set_system(system);
            }
            for notice in input.take_notices() {
                log_notice(&notice, self.status, self.owners);
            }
            match outcome {
                Ok(ReceiveOutcome::AllFed) => return None,
                Ok(ReceiveOutcome::Goodbye(goodbye)) => return Some(RelayConnectionEnd::Terminated(goodbye)),
                Ok(ReceiveOutcome::Claim(claim)) => {
                    let asked_before = last_asked.replace(claim.owner) == Some(claim.owner);
                    match self.decide(&claim, asked_before).await {
                        Ok(ClaimDecision::Granted) => {}
                        Ok(ClaimDecision::Refused) => input.refuse(&claim),
                        Err(end) => return Some(end),
                    }
                }
                Err(_) if receiver.found_proxy_header() => return Some(RelayConnectionEnd::ProxyHeader),
                Err(error) => return Some(RelayConnectionEnd::Invalid(error)),
            }
        }
    }

    /// Waits until a claim is decided. Reads nothing meanwhile, but answers questions and follows
    /// the terms.
    async fn decide(&mut self, claim: &Claim, asked_before: bool) -> Result<ClaimDecision, RelayConnectionEnd> {
        let decision = self.owners.ask(claim.owner, asked_before);
        tokio::pin!(decision);
        loop {
            tokio::select! {
                decision = &mut decision => return Ok(decision),
                cause = ordered(&mut self.orders) => return Err(RelayConnectionEnd::Limited(cause)),
                changed = self.terms.changed(), if !self.terms_are_final => {
                    self.terms_are_final = changed.is_err();
                    if let Some(why) = self.terms.borrow_and_update().shut_out(&self.status.relay_client()) {
                        return Err(RelayConnectionEnd::NotAllowed(why));
                    }
                }
                Some(question) = self.registration.questions.recv() => self.inquiry.begin(question, &self.stream),
                () = self.inquiry.next() => {
                    let is_local = self.status.is_local();
                    self.inquiry.look(&self.stream, is_local, false).map_err(RelayConnectionEnd::Broken)?;
                }
            }
        }
    }
}

/// Logs what an operator has to know.
fn log_notice(notice: &InputNotice, status: &ConnectionHandle, owners: &PeerOwners) {
    let (relay, client, proxy) = (status.relay_name(), status.client(), status.proxy_field());
    match notice {
        InputNotice::Odd(oddity, error) => warn!(
            relay, %client, proxy, kind = oddity.as_str(),
            "left out and counted, this message and all like it: {} ({error})", oddity.meaning()
        ),
        InputNotice::Refused(peer, owner) => {
            let owner = owners.client(*owner).map_or_else(String::new, |owner| format!(" from {owner}"));
            warn!(
                relay, %client, proxy, peer = %peer.address(), asn = peer.asn, bgp_id = %peer.bgp_id,
                "another connection of the relay{owner} has this peer and is alive: messages of this one about it are dropped"
            );
        }
        InputNotice::UpdateError(UpdateError { kind, message, .. }) => warn!(
            relay, %client, proxy, kind = kind.as_str(), message,
            "an UPDATE is passed on as it came, and counted as all like it: {kind}"
        ),
    }
}

/// Adds End-of-RIB for RIBs that have been quiet since the feed had applied `since` frames.
fn end_quiet_ribs(input: &mut Input, since: u64, status: &ConnectionHandle) {
    let ribs = input.end_quiet_ribs(since);
    if ribs > 0 {
        let (relay, client, proxy) = (status.relay_name(), status.client(), status.proxy_field());
        info!(relay, %client, proxy, ribs, "RIBs have been quiet without End-of-RIB: bmpd adds it in the daemon's stead");
    }
}
