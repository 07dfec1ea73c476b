//! A relay's listening socket.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};
use tracing::{error, info, warn};

use super::{
    Terms,
    claims::Claims,
    connection::{self, Wiring},
    status::{RelayHandle, RelayState},
};
use crate::{
    feed::{Feed, InputId},
    tasks::Tasks,
    visitors::{ClientSource, Visitors},
};

/// How long to wait before trying to listen again; doubles up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long to wait when a connection cannot be accepted: what is short then (descriptors, memory) is not back at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// Connections that the kernel keeps for us to accept.
const BACKLOG: i32 = 128;
/// How long a daemon says nothing before it is asked after, how often that is done, and how many times it may leave it unanswered.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
/// The same where another connection waits for the answer: a daemon that is not there is known within 4 s.
const URGENT_IDLE: Duration = Duration::from_secs(1);
const URGENT_INTERVAL: Duration = Duration::from_secs(1);

/// Listens and serves, for good. Dropping this closes the listener and its connections.
pub(super) async fn run(status: RelayHandle, feed: Feed, terms: watch::Receiver<Arc<Terms>>) {
    let listener = listen(&status).await;
    let (mut connections, mut visitors) = (Tasks::default(), Visitors::within(terms.borrow().limits));
    let claims = Claims::default();
    let mut failing = false;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    failing = false;
                    // Of one that is closed again already it is not known.
                    let end = stream.local_addr().ok();
                    let own = end.map_or(status.listen().ip(), |own| own.ip());
                    visitors.set_limits(terms.borrow().limits);
                    if terms.borrow().lets_in(own, client.ip()) {
                        match visitors.admit(ClientSource::of(end, client)) {
                            Ok(visitor) => {
                                if let Err(error) = ask_after(&stream) {
                                    warn!(
                                        relay = status.name(), %error,
                                        "a daemon that vanishes will not be noticed: TCP keepalive cannot be set"
                                    );
                                }
                                let input = feed.input(InputId::relay(status.name()));
                                let status = status.connection(input.connection(), own, client).of(visitor);
                                let wiring = Wiring { status, terms: terms.clone(), claims: claims.clone() };
                                connections.passing("relay connection", connection::serve(stream, input, wiring));
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
        }
    }
}

/// Has a connection that is refused end in a reset: nothing of it stays behind.
fn reset(stream: &TcpStream) {
    // Otherwise it ends as any does.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// A daemon that is idle is asked after, so that one whose host vanished is noticed: nothing is ever sent to it that it would have to acknowledge.
pub(super) fn ask_after(stream: &TcpStream) -> io::Result<()> {
    set_keepalive(stream, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL)
}

/// Asks a daemon's host at once whether it is there.
pub(super) fn ask_urgently(stream: &TcpStream) -> io::Result<()> {
    set_keepalive(stream, URGENT_IDLE, URGENT_INTERVAL)
}

fn set_keepalive(stream: &TcpStream, idle: Duration, interval: Duration) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(KEEPALIVE_PROBES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Tries until it listens. Each new reason why it does not is told once.
async fn listen(status: &RelayHandle) -> TcpListener {
    let (mut wait, longest) = RETRY;
    let mut told = None;
    loop {
        match bind(status.listen()) {
            Ok(listener) => {
                info!(relay = status.name(), listen = %status.listen(), "relay listening");
                status.set_state(RelayState::Listening);
                return listener;
            }
            Err(error) => {
                if told != Some(error.kind()) {
                    let what_to_do = remedy(&error);
                    error!(relay = status.name(), listen = %status.listen(), %error, "cannot listen, trying again: {what_to_do}");
                    status.set_state(RelayState::Failed(format!("{error}: {what_to_do}")));
                }
                told = Some(error.kind());
                sleep(wait).await;
                wait = (wait * 2).min(longest);
            }
        }
    }
}

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if listen.is_ipv6() {
        // An IPv6 address means IPv6, also where it is unspecified.
        socket.set_only_v6(true)?;
    }
    // Connections of the one before that are still in TIME_WAIT must not hold the port.
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
