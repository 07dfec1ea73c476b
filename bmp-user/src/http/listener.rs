//! The listening socket of the HTTP server.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use super::{answer::Server, connection};
use crate::{
    config::HttpListen,
    control::HttpListenerState,
    link::Host,
    listening::{self, remedy},
    tasks::{self, Tasks},
    visitors::{AdmittedStream, ClientSource, LimitRequest, Limits, SourceLimit, Visitors},
};

/// The first and the longest wait before the next attempt to listen. The wait doubles, and a
/// change of this host's interfaces or addresses ends it.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long to wait when a connection cannot be accepted: descriptors or memory are short then.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// Connections at most, and those of one user of this host or of one other host.
const LIMITS: LimitRequest = LimitRequest { most: 64, for_each_source: SourceLimit::Default(24) };

/// The answer to a connection beyond the limits.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 10\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\n\r\ntoo many connections\n";

/// Listens and serves. Never ends by itself. Dropping the future closes the listener and its
/// connections.
pub(super) async fn run(listen: HttpListen, server: Server) {
    let mut host = server.context.host.clone();
    let mut connections = Tasks::default();
    let (followers, context) = (server.followers.clone(), server.context.clone());
    connections.forever("HTTP events", async move { followers.make(&context).await });
    loop {
        let (listener, device) = open(&listen, &server, &mut host).await;
        let mut failing = false;
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, client)) => {
                        failing = false;
                        admit(stream, client, &server, &mut connections);
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut failing, true) {
                            error!("cannot accept a connection to the HTTP server, trying again: {error}");
                        }
                        tasks::idle(sleep(ACCEPT_RETRY)).await;
                    }
                },
                Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
                never = tasks::until_woken() => match never {},
                // A VRF device that was made anew has another index, to which the socket is not
                // bound.
                Ok(()) = host.changed() => {
                    if device.is_some() && device != device_of(&listen, &host.borrow_and_update()) {
                        break;
                    }
                }
            }
        }
        warn!("the HTTP server on {listen} listens anew: the VRF device is another one");
        server.context.http.set_state(HttpListenerState::Starting);
    }
}

/// Serves a connection, or closes it if there are too many.
fn admit(stream: TcpStream, client: SocketAddr, server: &Server, connections: &mut Tasks) {
    // The limits follow from what configured sessions leave.
    let mut visitors = server.visitors.clone();
    visitors.set_limits(Limits::new(LIMITS));
    match visitors.admit(ClientSource::of_client(stream.local_addr().ok(), client)) {
        Ok(visitor) => {
            let counted = server.context.http.open();
            let stream = AdmittedStream::new(stream, visitor);
            let server = server.clone();
            connections.passing("HTTP connection", async move {
                let _counted = counted;
                connection::serve(stream, server).await;
            });
        }
        Err(why) => {
            server.context.http.count_refused();
            warn!(%client, "refused a connection to the HTTP server: {why}");
            refuse(&stream);
        }
    }
}

/// Returns visitors without any connection.
pub(super) fn visitors() -> Visitors {
    Visitors::within(Limits::new(LIMITS))
}

/// Tells a client that there are too many, and resets the connection, so that nothing of it stays
/// in the kernel.
fn refuse(stream: &TcpStream) {
    // The send buffer of a new connection is empty, so the answer fits. The client may have gone.
    let _ = stream.try_write(REFUSAL);
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Tries until it listens. Logs each new reason once. Returns the VRF device that the socket is
/// bound to.
async fn open(
    listen: &HttpListen,
    server: &Server,
    host: &mut watch::Receiver<Arc<Host>>,
) -> (TcpListener, Option<u32>) {
    let (mut wait, longest) = RETRY;
    let mut last = None;
    loop {
        let device = device_of(listen, &host.borrow_and_update());
        match bind(listen, device) {
            Ok(listener) => {
                info!("HTTP server listening on {listen}");
                server.context.http.set_state(HttpListenerState::Listening);
                return (listener, device);
            }
            Err(why) => {
                if last.as_ref() != Some(&why) {
                    error!("cannot serve HTTP on {listen}, trying again: {why}");
                    server.context.http.set_state(HttpListenerState::Failed(why.clone()));
                    wait = RETRY.0;
                }
                last = Some(why);
                // What is missing may be there now.
                let _ = tasks::idle(timeout(wait, host.changed())).await;
                wait = (wait * 2).min(longest);
            }
        }
    }
}

/// Returns the index of the VRF device that has the name of the VPN instance.
fn device_of(listen: &HttpListen, host: &Host) -> Option<u32> {
    listen.vpn_instance.as_ref().and_then(|name| host.vrf_named(name)).map(|vrf| vrf.index)
}

fn bind(listen: &HttpListen, device: Option<u32>) -> Result<TcpListener, String> {
    if let (Some(name), None) = (&listen.vpn_instance, device) {
        return Err(format!("there is no VRF device {name}: make it, or leave `vpn-instance` out"));
    }
    let what_to_do = |error: &io::Error| remedy(error, "`http listen`", "`http listen`");
    listening::listen(listen.address, device).map_err(|error| format!("{error}: {}", what_to_do(&error)))
}
