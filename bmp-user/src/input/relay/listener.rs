//! A relay's listening socket.

use std::{future::pending, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{SockRef, Socket};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::sleep,
};
use tracing::{debug, error, info, warn};

use super::{
    RelayTerms,
    claims::PeerOwners,
    client::{RelayClient, RelayProxy, ShutOut},
    connection::{self, DividedConnection, RelayLinks},
    encryption::RelayTls,
    keepalive::probe_idle_daemon,
    proxy_header::{NoProxiedClient, ProxyArrival, ProxyOutcome},
    signing::{AcceptedKeys, RelaySigning},
    status::{LimitedClient, RefusedUserHandle, RelayHandle, RelayState},
    users,
};
use crate::{
    escape::Untrusted,
    feed::{Feed, InputId, MemoryStanding},
    input::budget::ClosingCause,
    link::Host,
    listening::{self, remedy},
    tasks::{self, Tasks},
    visitors::{ClientOrigin, Limits, Visitor, Visitors},
};

/// The first and the longest wait before the next attempt to listen. The wait doubles.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long to wait when a connection cannot be accepted: descriptors or memory are short then.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// Connections of proxies that wait here with their header, at most. Others wait in their tasks.
const PROXIED: usize = 16;

/// Listens and serves. Never ends by itself. Dropping the future closes the listener and its
/// connections.
pub(super) async fn run(
    status: RelayHandle,
    (feed, is_divided): (Feed, bool),
    terms: watch::Receiver<Arc<RelayTerms>>,
    host: watch::Receiver<Arc<Host>>,
    mut signing: Option<RelaySigning>,
    encryption: Option<RelayTls>,
) {
    let listener = listen(&status, signing.as_mut()).await;
    let visitors = Visitors::within(terms.borrow().limits);
    let (memory, owners) = (feed.memory_standing(), PeerOwners::default());
    let (outcomes, mut proxied) = mpsc::channel(PROXIED);
    let mut door =
        RelayDoor { status, feed, is_divided, memory, terms, host, visitors, owners, signing, encryption, outcomes };
    let (mut connections, mut failing) = (Tasks::default(), false);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    failing = false;
                    door.open(stream, client, &mut connections);
                }
                Err(error) => {
                    if !failing {
                        error!(relay = door.status.name(), %error, "cannot accept a connection, trying again");
                    }
                    failing = true;
                    sleep(ACCEPT_RETRY).await;
                }
            },
            Some(outcome) = proxied.recv() => door.open_proxied(outcome, &mut connections),
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
            () = look_is_due(&mut door.signing) => {
                if let Some(signing) = &mut door.signing {
                    signing.look(&listener, door.status.name());
                }
            }
            never = tasks::until_woken() => match never {},
        }
    }
}

async fn look_is_due(signing: &mut Option<RelaySigning>) {
    match signing {
        Some(signing) => signing.look_is_due().await,
        None => pending().await,
    }
}

/// Decides who comes in.
struct RelayDoor {
    status: RelayHandle,
    feed: Feed,
    /// Whether each router is an input of its own.
    is_divided: bool,
    memory: watch::Receiver<MemoryStanding>,
    terms: watch::Receiver<Arc<RelayTerms>>,
    host: watch::Receiver<Arc<Host>>,
    visitors: Visitors,
    owners: PeerOwners,
    signing: Option<RelaySigning>,
    encryption: Option<RelayTls>,
    /// Connections of proxies come back here once their header has come.
    outcomes: mpsc::Sender<ProxyOutcome>,
}

impl RelayDoor {
    /// Serves an accepted connection, or closes it.
    fn open(&mut self, stream: TcpStream, client: SocketAddr, connections: &mut Tasks) {
        let is_own = |address| self.host.borrow().link_with_address(address).is_some();
        // A connection that is closed already has no local address.
        let origin = ClientOrigin::of_client(stream.local_addr().ok(), client, is_own);
        let client = RelayClient { address: client, origin, proxy: None };
        let shut_out = self.terms.borrow().shut_out(&client);
        match shut_out {
            None => self.serve(stream, client, ArrivalKeys::NotTaken, connections),
            Some(ShutOut::NoHeader) => self.expect_header(stream, client, connections),
            Some(ShutOut::Host | ShutOut::User | ShutOut::Proxy) => self.refuse(&stream, client, connections),
        }
    }

    /// Closes a connection that `allow` does not let in.
    fn refuse(&self, stream: &TcpStream, client: RelayClient, connections: &mut Tasks) {
        let Self { status, .. } = self;
        let (relay, address, origin, proxy) = (status.name(), client.address, client.origin, client.proxy_field());
        reset(stream);
        if client.proxy.is_none() && origin.is_local() {
            return connections.passing("refused user", say_refused(origin.user(), status.refused_user(address)));
        }
        status.refused_host();
        match client.proxy {
            None => warn!(
                relay, client = %address,
                "closed a connection from another host: a relay takes BMP from daemons on this host, and from where `allow` says"
            ),
            Some(_) if origin.is_local() => warn!(
                relay, client = %address, proxy,
                "closed a connection: its PROXY header names an address of this host, whose daemons connect themselves"
            ),
            Some(_) => warn!(
                relay, client = %address, proxy,
                "closed a connection: `allow` does not name the host of its PROXY header"
            ),
        }
    }

    /// Reads the PROXY header of a connection before it is served.
    fn expect_header(&mut self, stream: TcpStream, client: RelayClient, connections: &mut Tasks) {
        let limits = self.terms.borrow().limits;
        // One proxy has the clients of many sources. It leaves half of the relay to others.
        let for_proxy = Limits { for_each_source: limits.for_each_source.max(limits.most / 2), ..limits };
        self.visitors.set_limits(for_proxy);
        let Some(visitor) = self.admit(&stream, client) else { return };
        let Some(keys) = self.take_keys(&stream, client) else { return };
        let proxy = RelayProxy { address: client.address, user: client.origin.user() };
        let arrival = ProxyArrival { stream, proxy, keys, visitor };
        connections.passing("relay connection", arrival.read(self.outcomes.clone()));
    }

    /// Serves a connection behind its PROXY header, or closes it.
    fn open_proxied(&mut self, ProxyOutcome { arrival, header }: ProxyOutcome, connections: &mut Tasks) {
        let ProxyArrival { stream, proxy, keys, visitor } = arrival;
        // From here on, the connection counts for its client.
        drop(visitor);
        let (relay, by) = (self.status.name(), proxy.address);
        let address = match header {
            Ok(address) => address,
            Err(why @ NoProxiedClient::HealthCheck) => {
                self.status.health_check();
                return debug!(relay, client = %by, "closed a connection: {why}");
            }
            Err(why) => {
                reset(&stream);
                self.status.refused_proxy();
                return warn!(relay, client = %by, "closed a connection of a proxy: {why}");
            }
        };
        let is_own = |address| self.host.borrow().link_with_address(address).is_some();
        let client =
            RelayClient { address, origin: ClientOrigin::of_client(None, address, is_own), proxy: Some(proxy) };
        // The terms may have changed meanwhile.
        let shut_out = self.terms.borrow().shut_out(&client);
        match shut_out {
            None => self.serve(stream, client, ArrivalKeys::Taken(keys), connections),
            Some(_) => self.refuse(&stream, client, connections),
        }
    }

    /// Serves a connection that `allow` lets in, unless a limit refuses it.
    fn serve(&mut self, stream: TcpStream, client: RelayClient, keys: ArrivalKeys, connections: &mut Tasks) {
        let (relay, address, proxy) = (self.status.name(), client.address, client.proxy_field());
        let (limit, memory) = (self.terms.borrow().maximum_routes, *self.memory.borrow());
        if let Some(LimitedClient { cause, left, .. }) =
            self.status.refuse_limited(client.origin.into(), limit, &memory)
        {
            reset(&stream);
            warn!(relay, client = %address, proxy, "closed a connection: {}", refusal(cause, left));
            return;
        }
        self.visitors.set_limits(self.terms.borrow().limits);
        let Some(visitor) = self.admit(&stream, client) else { return };
        if let Err(error) = probe_idle_daemon(&stream) {
            warn!(relay, client = %address, proxy, %error, "a daemon that vanishes will not be noticed: TCP keepalive cannot be set");
        }
        let keys = match keys {
            ArrivalKeys::Taken(keys) => keys,
            ArrivalKeys::NotTaken => match self.take_keys(&stream, client) {
                Some(keys) => keys,
                None => return,
            },
        };
        let Self { status, feed, is_divided, terms, owners, encryption, .. } = self;
        let divided = is_divided.then_some(DividedConnection { local: stream.local_addr().ok() });
        let input = feed.input(InputId::relay(status.name()));
        let status = status.connection(input.connection(), client).of(visitor);
        let links = RelayLinks { status, terms: terms.clone(), owners: owners.clone(), divided };
        let name = "relay connection";
        match (encryption, keys) {
            (None, None) => connections.passing(name, connection::serve(stream, input, links)),
            (None, Some(keys)) => connections.passing(name, connection::serve(keys.of_stream(stream), input, links)),
            (Some(tls), keys) => connections.passing(name, tls.clone().serve(stream, keys, input, links)),
        }
    }

    /// Counts a connection, or closes it if there are too many.
    fn admit(&self, stream: &TcpStream, client: RelayClient) -> Option<Visitor> {
        let refused = match self.visitors.admit(client.origin.into()) {
            Ok(visitor) => return Some(visitor),
            Err(why) => why,
        };
        reset(stream);
        self.status.refused_too_many();
        let (relay, proxy) = (self.status.name(), client.proxy_field());
        warn!(relay, client = %client.address, proxy, "closed a connection: {refused}");
        None
    }

    /// Takes the keys of a TCP connection, if the relay has any. Closes a connection that is not
    /// signed as the chain says.
    fn take_keys(&self, stream: &TcpStream, client: RelayClient) -> Option<Option<AcceptedKeys>> {
        let keys = self.signing.as_ref().map(|signing| signing.accept(stream, client.address)).transpose();
        if let Err(error) = &keys {
            warn!(relay = self.status.name(), client = %client.address, "closed a connection: {error}");
        }
        keys.ok()
    }
}

/// The keys of a connection that is about to be served.
enum ArrivalKeys {
    NotTaken,
    Taken(Option<AcceptedKeys>),
}

/// Returns why a connection of a limited client is refused.
fn refusal(cause: ClosingCause, left: Duration) -> String {
    let (limit, left) = (cause.as_str(), left.as_secs());
    match cause {
        ClosingCause::Routes { routes, .. } => format!(
            "{limit}: its user or host had {routes} routes, and is refused for {left} s still, unless the limit is raised"
        ),
        ClosingCause::Memory(_) => format!(
            "{limit}: its user or host had grown most, and is refused for {left} s still, unless the limit is raised"
        ),
    }
}

/// Counts and logs a connection of a user of this host who may not connect. `None` is a user whom
/// the kernel does not tell.
async fn say_refused(user: Option<u32>, refused: RefusedUserHandle) {
    let name = match user {
        Some(user) => Some(users::name_of(user).await),
        None => None,
    };
    refused.count(name.clone());
    let (relay, client) = (refused.relay_name(), refused.client());
    match name.map(Untrusted::new) {
        Some(name) => warn!(
            relay, %client, user = %name,
            "closed a connection of this host: user-not-allowed: {name} is no system account (what lets it in: `allow user {name}` of bmp-relay {relay})"
        ),
        None => warn!(
            relay, %client,
            "closed a connection of this host: user-not-allowed: its user is not known: its program has closed it, or the kernel lacks tcp_diag"
        ),
    }
}

/// Has a refused connection end in a reset, so that nothing of it stays in the kernel.
fn reset(stream: &TcpStream) {
    // If it fails, the connection ends as any other.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Tries until it listens. Logs each new reason once.
async fn listen(status: &RelayHandle, mut signing: Option<&mut RelaySigning>) -> TcpListener {
    let (mut wait, longest) = RETRY;
    let mut last_error = None;
    loop {
        let prepare = |socket: &Socket| signing.as_mut().map_or(Ok(()), |signing| signing.prepare(socket));
        match listening::listen_prepared(status.listen(), None, prepare) {
            Ok(listener) => {
                info!(relay = status.name(), listen = %status.listen(), "relay listening");
                status.set_state(RelayState::Listening);
                return listener;
            }
            Err(error) => {
                if last_error != Some(error.kind()) {
                    let what_to_do = remedy(&error, "the relay", "`listen` of the relay");
                    error!(relay = status.name(), listen = %status.listen(), %error, "cannot listen, trying again: {what_to_do}");
                    status.set_state(RelayState::Failed(format!("{error}: {what_to_do}")));
                }
                last_error = Some(error.kind());
                tasks::idle(sleep(wait)).await;
                wait = (wait * 2).min(longest);
            }
        }
    }
}
