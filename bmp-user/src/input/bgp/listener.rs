//! Where peers connect to: one socket for each IP version, both on `listen-port`.

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
    dial::{Doorkeeper, explain, link},
    peer::Command,
    status::Peers,
};
use crate::{
    config::Secret,
    pin::Datapath,
    sys,
    visitors::{AdmittedStream, ClientSource, Visitors},
};

/// How long to wait before trying to listen again; doubles up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long to wait when a connection cannot be accepted: what is short then (descriptors, memory) is not back at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// Connections that the kernel keeps for us to accept.
const BACKLOG: i32 = 128;

/// Connections of one peer at once, those among them that are refused and still told why.
const OF_ONE_PEER: usize = 8;

/// The tasks of the peers that may connect, by address.
#[derive(Clone, Debug, Default)]
pub(super) struct Doors(Arc<Mutex<BTreeMap<IpAddr, Door>>>);

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) keeper: Doorkeeper,
}

impl Doors {
    pub(super) fn open(&self, peer: IpAddr, door: Door) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, door);
    }

    pub(super) fn close(&self, peer: IpAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }

    fn of(&self, peer: IpAddr) -> Option<Door> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned()
    }
}

/// Passwords by peer.
pub(super) type Passwords = BTreeMap<IpAddr, Secret>;

/// Listens on `port` with both IP versions, for good. Dropping this closes the listeners.
pub(super) async fn run(
    port: u16,
    passwords: watch::Receiver<Passwords>,
    doors: Doors,
    peers: Peers,
    datapath: Datapath,
) {
    let v4 = serve((Ipv4Addr::UNSPECIFIED, port).into(), passwords.clone(), &doors, &peers, &datapath);
    let v6 = serve((Ipv6Addr::UNSPECIFIED, port).into(), passwords, &doors, &peers, &datapath);
    tokio::join!(v4, v6);
}

async fn serve(
    listen: SocketAddr,
    mut passwords: watch::Receiver<Passwords>,
    doors: &Doors,
    peers: &Peers,
    datapath: &Datapath,
) {
    let (listener, mut known) = open(listen, &mut passwords, peers, datapath).await;
    info!(%listen, "listening for BGP peers");
    peers.change_listener(|status| status.listens = true);
    let (mut failing, visitors) = (false, Visitors::known(usize::MAX, OF_ONE_PEER));
    loop {
        select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    failing = false;
                    admit(stream, peer, doors, peers, &visitors);
                }
                Err(error) => {
                    if !failing {
                        error!(%listen, %error, "cannot accept a connection, trying again");
                    }
                    failing = true;
                    sleep(ACCEPT_RETRY).await;
                }
            },
            Ok(()) = passwords.changed() => {
                let wanted = passwords.borrow_and_update().clone();
                if let Err(error) = set_passwords(&SockRef::from(&listener), listen, &known, &wanted) {
                    error!(%listen, "{error}");
                    peers.change_listener(|status| status.trouble = Some(error.to_string()));
                }
                known = wanted;
            }
        }
    }
}

/// A connection goes to its peer, or is closed.
fn admit(stream: TcpStream, peer: SocketAddr, doors: &Doors, peers: &Peers, visitors: &Visitors) {
    let refuse = |why: &str| {
        debug!(%peer, "closed a connection: {why}");
        peers.change_listener(|status| status.refused += 1);
    };
    let Some(door) = doors.of(peer.ip()) else { return refuse("no such peer is configured") };
    if let Err(error) = door.keeper.admit(&stream) {
        return refuse(&error.to_string());
    }
    // By its address: peers of one host are told apart by theirs.
    let visitor = match visitors.admit(ClientSource::Host(peer.ip().to_canonical())) {
        Ok(visitor) => visitor,
        Err(why) => return refuse(&why.to_string()),
    };
    let Ok(mut link) = link(stream) else { return refuse("it was gone already") };
    link.stream = Box::new(AdmittedStream::new(link.stream, visitor));
    // A peer that connects faster than its task looks has to come again.
    if door.commands.try_send(Command::Incoming(link)).is_err() {
        refuse("too many at once");
    }
}

/// Tries until it listens, with these passwords. Each new reason why it does not is told once.
async fn open(
    listen: SocketAddr,
    passwords: &mut watch::Receiver<Passwords>,
    peers: &Peers,
    datapath: &Datapath,
) -> (TcpListener, Passwords) {
    let (mut wait, longest) = RETRY;
    let mut told = None;
    loop {
        let wanted = passwords.borrow_and_update().clone();
        match bind(listen, &wanted, datapath) {
            Ok(listener) => {
                if told.is_some() {
                    peers.change_listener(|status| status.trouble = None);
                }
                return (listener, wanted);
            }
            // A host without IPv6 has no peers that use it.
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return std::future::pending().await,
            Err(error) => {
                if told != Some(error.kind()) {
                    let why = format!("cannot listen on {listen}: {error}: {}", remedy(&error));
                    error!("{why}");
                    peers.change_listener(|status| status.trouble = Some(why));
                }
                told = Some(error.kind());
                sleep(wait).await;
                wait = (wait * 2).min(longest);
            }
        }
    }
}

fn bind(listen: SocketAddr, passwords: &Passwords, datapath: &Datapath) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Strangers are not answered, and a peer only as its pin says.
    datapath.claim_listener(&socket).map_err(|error| io::Error::other(format!("{error:#}")))?;
    if listen.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of the one before that are still in TIME_WAIT must not hold the port.
    socket.set_reuse_address(true)?;
    set_passwords(&socket, listen, &Passwords::new(), passwords)?;
    socket.bind(&listen.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Sets what differs of the passwords of peers with the listener's IP version.
fn set_passwords(socket: &Socket, listen: SocketAddr, known: &Passwords, wanted: &Passwords) -> io::Result<()> {
    let same_version = |peer: &&IpAddr| peer.is_ipv6() == listen.is_ipv6();
    for gone in known.keys().filter(same_version).filter(|peer| !wanted.contains_key(peer)) {
        // An empty one removes it (tcp(7)); that there was none is no trouble.
        let _ = sys::set_md5_secret(socket, SocketAddr::new(*gone, 0), "");
    }
    for (peer, password) in wanted.iter().filter(|(peer, _)| same_version(peer)) {
        if known.get(peer) != Some(password) {
            sys::set_md5_secret(socket, SocketAddr::new(*peer, 0), password.reveal())
                .map_err(|error| explain(&error))?;
        }
    }
    Ok(())
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there; stop it, or choose another `listen-port`",
        io::ErrorKind::PermissionDenied => "a port below 1024 takes root or CAP_NET_BIND_SERVICE",
        _ => "see `listen-port` of the bgp view",
    }
}
