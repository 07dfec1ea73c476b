//! A relay's listening socket.

use std::{future::pending, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{SockRef, Socket};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};
use tracing::{error, info, warn};

use super::{
    RelayTerms,
    claims::PeerOwners,
    connection::{self, DividedConnection, RelayLinks},
    encryption::RelayTls,
    keepalive::probe_idle_daemon,
    signing::RelaySigning,
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
    visitors::{ClientOrigin, Visitors},
};

/// The first and the longest wait before the next attempt to listen. The wait doubles.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long to wait when a connection cannot be accepted: descriptors or memory are short then.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

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
    let mut door = RelayDoor { status, feed, is_divided, memory, terms, host, visitors, owners, signing, encryption };
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
}

impl RelayDoor {
    /// Serves an accepted connection, or closes it.
    fn open(&mut self, stream: TcpStream, client: SocketAddr, connections: &mut Tasks) {
        let Self { status, feed, is_divided, memory, terms, host, visitors, owners, signing, encryption } = self;
        let is_own = |address| host.borrow().link_with_address(address).is_some();
        // A connection that is closed already has no local address.
        let local = stream.local_addr().ok();
        let origin = ClientOrigin::of_client(local, client, is_own);
        visitors.set_limits(terms.borrow().limits);
        let (relay, is_allowed) = (status.name(), terms.borrow().lets_in(origin));
        match (origin, is_allowed) {
            (_, true) => {}
            (ClientOrigin::Host(_), false) => {
                reset(&stream);
                status.refused_host();
                warn!(
                    relay, %client,
                    "closed a connection from another host: a relay takes BMP from daemons on this host, and from where `allow` says"
                );
                return;
            }
            (ClientOrigin::User(_) | ClientOrigin::UnknownUser(_), false) => {
                reset(&stream);
                connections.passing("refused user", say_refused(origin.user(), status.refused_user(client)));
                return;
            }
        }
        let (limit, memory) = (terms.borrow().maximum_routes, *memory.borrow());
        if let Some(LimitedClient { cause, left, .. }) = status.refuse_limited(origin.into(), limit, &memory) {
            reset(&stream);
            warn!(relay, %client, "closed a connection: {}", refusal(cause, left));
            return;
        }
        let visitor = match visitors.admit(origin.into()) {
            Ok(visitor) => visitor,
            Err(why) => {
                reset(&stream);
                status.refused_too_many();
                warn!(relay, %client, "closed a connection: {why}");
                return;
            }
        };
        if let Err(error) = probe_idle_daemon(&stream) {
            warn!(relay, %client, %error, "a daemon that vanishes will not be noticed: TCP keepalive cannot be set");
        }
        let keys = match signing.as_ref().map(|signing| signing.accept(&stream, client)).transpose() {
            Ok(keys) => keys,
            Err(error) => return warn!(relay, %client, "closed a connection: {error}"),
        };
        let input = feed.input(InputId::relay(relay));
        let status = status.connection(input.connection(), origin, client).of(visitor);
        let divided = is_divided.then_some(DividedConnection { local });
        let links = RelayLinks { status, terms: terms.clone(), owners: owners.clone(), divided };
        let name = "relay connection";
        match (encryption, keys) {
            (None, None) => connections.passing(name, connection::serve(stream, input, links)),
            (None, Some(keys)) => connections.passing(name, connection::serve(keys.of_stream(stream), input, links)),
            (Some(tls), keys) => connections.passing(name, tls.clone().serve(stream, keys, input, links)),
        }
    }
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
