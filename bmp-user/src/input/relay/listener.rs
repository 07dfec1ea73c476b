//! A relay's listening socket.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};
use tracing::{error, info, warn};

use super::{
    RelayTerms,
    claims::PeerOwners,
    connection::{self, RelayLinks},
    keepalive::probe_idle_daemon,
    status::{RelayHandle, RelayState},
};
use crate::{
    feed::{Feed, InputId},
    tasks::{self, Tasks},
    visitors::{ClientSource, Visitors},
};

/// The first and the longest wait before the next attempt to listen. The wait doubles.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long to wait when a connection cannot be accepted: descriptors or memory are short then.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;
/// Listens and serves. Never ends by itself. Dropping the future closes the listener and its
/// connections.
pub(super) async fn run(status: RelayHandle, feed: Feed, terms: watch::Receiver<Arc<RelayTerms>>) {
    let listener = listen(&status).await;
    let (mut connections, mut visitors) = (Tasks::default(), Visitors::within(terms.borrow().limits));
    let owners = PeerOwners::default();
    let mut failing = false;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    failing = false;
                    // A connection that is closed already has no local address.
                    let end = stream.local_addr().ok();
                    let own = end.map_or(status.listen().ip(), |own| own.ip());
                    visitors.set_limits(terms.borrow().limits);
                    if terms.borrow().lets_in(own, client.ip()) {
                        match visitors.admit(ClientSource::of_client(end, client)) {
                            Ok(visitor) => {
                                if let Err(error) = probe_idle_daemon(&stream) {
                                    warn!(
                                        relay = status.name(), %error,
                                        "a daemon that vanishes will not be noticed: TCP keepalive cannot be set"
                                    );
                                }
                                let input = feed.input(InputId::relay(status.name()));
                                let status = status.connection(input.connection(), own, client).of(visitor);
                                let links = RelayLinks { status, terms: terms.clone(), owners: owners.clone() };
                                connections.passing("relay connection", connection::serve(stream, input, links));
                            }
                            Err(why) => {
                                reset(&stream);
                                status.refused_too_many();
                                warn!(relay = status.name(), %client, "closed a connection: {why}");
                            }
                        }
                    } else {
                        reset(&stream);
                        status.refused_host();
                        warn!(
                            relay = status.name(), %client,
                            "closed a connection from another host: a relay takes BMP from daemons on this host, and from where `allow` says"
                        );
                    }
                }
                Err(error) => {
                    if !failing {
                        error!(relay = status.name(), %error, "cannot accept a connection, trying again");
                    }
                    failing = true;
                    sleep(ACCEPT_RETRY).await;
                }
            },
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
            never = tasks::until_woken() => match never {},
        }
    }
}

/// Has a refused connection end in a reset, so that nothing of it stays in the kernel.
fn reset(stream: &TcpStream) {
    // If it fails, the connection ends as any other.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Tries until it listens. Logs each new reason once.
async fn listen(status: &RelayHandle) -> TcpListener {
    let (mut wait, longest) = RETRY;
    let mut last_error = None;
    loop {
        match bind(status.listen()) {
            Ok(listener) => {
                info!(relay = status.name(), listen = %status.listen(), "relay listening");
                status.set_state(RelayState::Listening);
                return listener;
            }
            Err(error) => {
                if last_error != Some(error.kind()) {
                    let what_to_do = remedy(&error);
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

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if listen.is_ipv6() {
        // An IPv6 address means IPv6 alone, even the unspecified one.
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier listener in TIME_WAIT must not hold the port.
    socket.set_reuse_address(true)?;
    socket.bind(&listen.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there; stop it, or give the relay another port",
        io::ErrorKind::AddrNotAvailable => "the address is not on this host; add it, or give the relay another one",
        io::ErrorKind::PermissionDenied => "a port below 1024 takes root or CAP_NET_BIND_SERVICE",
        _ => "see `listen` of the relay",
    }
}
