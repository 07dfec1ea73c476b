//! The sockets that peers connect to: one for each IP version, both on `listen-port`.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::{mpsc, watch},
    time::sleep,
};
use tracing::{debug, error, info};

use super::{
    dial::{AcceptGrant, explain},
    peer::PeerCommand,
    status::BgpPeers,
};
use crate::{
    config::Config,
    pin::Datapath,
    signing::{ListenerKeys, ListenerPeer, SigningError, look_clock},
    sys::tcp_ao::KeyScope,
    tasks,
    visitors::{AdmittedStream, ClientSource, Visitors},
};

/// The first and the longest wait before listening is tried again. The wait doubles each time.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The wait after a connection could not be accepted. Descriptors or memory are short then, and not
/// back at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// Connections that the kernel queues for accept(2).
const BACKLOG: i32 = 128;

/// Connections of one peer at a time, including refused ones that still get their NOTIFICATION.
const OF_ONE_PEER: usize = 8;

/// The peers that may connect, by address. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct ExpectedPeers(Arc<Mutex<BTreeMap<IpAddr, ExpectedPeer>>>);

/// A peer that may connect: the channel to its task, and the grant for its connections.
#[derive(Clone, Debug)]
pub(super) struct ExpectedPeer {
    pub(super) commands: mpsc::Sender<PeerCommand>,
    pub(super) grant: AcceptGrant,
}

impl ExpectedPeers {
    pub(super) fn insert(&self, peer: IpAddr, expected: ExpectedPeer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, expected);
    }

    pub(super) fn remove(&self, peer: IpAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }

    fn get(&self, peer: IpAddr) -> Option<ExpectedPeer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned()
    }
}

/// What the connections of peers are signed with, by peer address.
pub(super) type PeerSigning = BTreeMap<IpAddr, ListenerPeer>;

/// What listeners follow: which peers sign with what, and the key chains.
#[derive(Clone, Debug)]
pub(super) struct SigningWatch {
    pub(super) peers: watch::Receiver<PeerSigning>,
    pub(super) config: watch::Receiver<Arc<Config>>,
}

impl SigningWatch {
    /// Gives a listener the keys and passwords of the peers with its IP version.
    fn sign(&mut self, keys: &mut ListenerKeys, socket: &Socket, listen: SocketAddr) -> Result<(), SigningError> {
        let (peers, config) = (self.peers.borrow_and_update(), Arc::clone(&self.config.borrow_and_update()));
        let same_version = peers.iter().filter(|(peer, _)| peer.is_ipv6() == listen.is_ipv6());
        keys.follow(socket, same_version.map(|(peer, signing)| (KeyScope::Host(*peer), signing)), &config)
    }
}

/// Listens on `port` with both IP versions and never returns. Dropping this future closes the
/// listeners.
pub(super) async fn run(
    port: u16,
    signing: SigningWatch,
    expected: ExpectedPeers,
    peers: BgpPeers,
    datapath: Datapath,
) {
    let v4 = serve((Ipv4Addr::UNSPECIFIED, port).into(), signing.clone(), &expected, &peers, &datapath);
    let v6 = serve((Ipv6Addr::UNSPECIFIED, port).into(), signing, &expected, &peers, &datapath);
    tokio::join!(v4, v6);
}

async fn serve(
    listen: SocketAddr,
    mut signing: SigningWatch,
    expected: &ExpectedPeers,
    peers: &BgpPeers,
    datapath: &Datapath,
) {
    let (listener, mut keys) = open(listen, &mut signing, peers, datapath).await;
    info!(%listen, "listening for BGP peers");
    peers.change_listener(|status| status.listens = true);
    let (mut look, mut logged) = (look_clock(), None);
    let (mut failing, visitors) = (false, Visitors::configured(usize::MAX, OF_ONE_PEER));
    loop {
        let has_chains = keys.has_chains();
        let accepted = select! {
            accepted = listener.accept() => Some(accepted),
            Ok(()) = signing.peers.changed() => None,
            Ok(()) = signing.config.changed(), if has_chains => None,
            _ = look.tick(), if has_chains => None,
            never = tasks::until_woken() => match never {},
        };
        match accepted {
            Some(accepted) => match accepted {
                Ok((stream, peer)) => {
                    failing = false;
                    admit(stream, peer, expected, peers, &visitors);
                }
                Err(error) => {
                    if !failing {
                        error!(%listen, %error, "cannot accept a connection, trying again");
                    }
                    failing = true;
                    sleep(ACCEPT_RETRY).await;
                }
            },
            None => {
                let trouble = signing.sign(&mut keys, &SockRef::from(&listener), listen).err().map(explained);
                if trouble.is_some() && trouble != logged {
                    let why = trouble.clone().unwrap_or_default();
                    error!(%listen, "{why}");
                    peers.change_listener(|status| status.trouble = Some(why));
                }
                logged = trouble;
            }
        }
    }
}

/// Hands a connection to its peer's task, or closes it.
fn admit(stream: TcpStream, peer: SocketAddr, expected: &ExpectedPeers, peers: &BgpPeers, visitors: &Visitors) {
    let refuse = |why: &str| {
        debug!(%peer, "closed a connection: {why}");
        peers.change_listener(|status| status.refused += 1);
    };
    let Some(accepted) = expected.get(peer.ip()) else { return refuse("no such peer is configured") };
    if let Err(error) = accepted.grant.admit(&stream) {
        return refuse(&error.to_string());
    }
    // Counted by address, because several peers may run on one host under one user.
    let visitor = match visitors.admit(ClientSource::Host(peer.ip().to_canonical())) {
        Ok(visitor) => visitor,
        Err(why) => return refuse(&why.to_string()),
    };
    let mut link = match accepted.grant.link(stream) {
        Ok(link) => link,
        Err(error) => return refuse(&error.to_string()),
    };
    link.stream = Box::new(AdmittedStream::new(link.stream, visitor));
    // If the task does not keep up, the peer must connect again.
    if accepted.commands.try_send(PeerCommand::Incoming(link)).is_err() {
        refuse("too many connections wait for the task of the peer");
    }
}

/// Retries until it listens with the keys and passwords of its peers. Each new reason for a failure
/// is logged once.
async fn open(
    listen: SocketAddr,
    signing: &mut SigningWatch,
    peers: &BgpPeers,
    datapath: &Datapath,
) -> (TcpListener, ListenerKeys) {
    let (mut wait, longest) = RETRY;
    let mut logged = None;
    loop {
        match bind(listen, signing, datapath) {
            Ok(opened) => {
                if logged.is_some() {
                    peers.change_listener(|status| status.trouble = None);
                }
                return opened;
            }
            // A host without IPv6 has no IPv6 peers.
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                return tasks::idle(std::future::pending()).await;
            }
            Err(error) => {
                if logged != Some(error.kind()) {
                    let why = format!("cannot listen on {listen}: {error}: {}", remedy(&error));
                    error!("{why}");
                    peers.change_listener(|status| status.trouble = Some(why));
                }
                logged = Some(error.kind());
                tasks::idle(sleep(wait)).await;
                wait = (wait * 2).min(longest);
            }
        }
    }
}

fn bind(
    listen: SocketAddr,
    signing: &mut SigningWatch,
    datapath: &Datapath,
) -> io::Result<(TcpListener, ListenerKeys)> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // The kernel programs then answer only to peers, and only within their pins.
    datapath.claim_listener(&socket).map_err(|error| io::Error::other(format!("{error:#}")))?;
    if listen.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier listener in TIME_WAIT must not block the port.
    socket.set_reuse_address(true)?;
    let mut keys = ListenerKeys::default();
    match signing.sign(&mut keys, &socket, listen) {
        Err(SigningError::Password(error)) => return Err(explain(&error)),
        // A peer whose key chain cannot sign is refused when it connects. The others may.
        Err(error) => error!(%listen, "{error}"),
        Ok(()) => {}
    }
    socket.bind(&listen.into())?;
    socket.listen(BACKLOG)?;
    Ok((TcpListener::from_std(socket.into())?, keys))
}

fn explained(error: SigningError) -> String {
    match error {
        SigningError::Password(error) => explain(&error).to_string(),
        error => error.to_string(),
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there; stop it, or choose another `listen-port`",
        io::ErrorKind::PermissionDenied => "a port below 1024 takes root or CAP_NET_BIND_SERVICE",
        _ => "see `listen-port` of the bgp view",
    }
}
