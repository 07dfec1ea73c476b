//! Where stations connect to this host.
//!
//! A session has a listener for each interface that it may leave by, bound to that interface. If it
//! may leave by any, it has one listener that is bound to none. Sessions whose stations connect to
//! one interface, address and port share a listener. A connection belongs to the session whose
//! station has the address that the connection comes from.
//!
//! A listener is bound because some packets that the kernel sends for it belong to no socket: the
//! SYN-ACK with a SYN cookie passes no program (`tcp_make_synack` with `TCP_SYNACK_COOKIE`). It
//! leaves by the listener's interface or, without one, as the routing tables say.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bmp_ebpf::PinKey;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::{Notify, watch},
    task::AbortHandle,
    time::sleep,
};
use tracing::{debug, warn};

use super::connect::tune;
use crate::{
    config::{Config, SessionId},
    pin::{Datapath, DownCause, Grant, PinState, PinView, Reason},
    signing::{self, ConnectionKeys, KeyReport, ListenerKeys, ListenerPeer, SigningError, look_clock, plan_of},
    sys::{self, tcp_ao::KeyScope},
    tasks::{self, Leave},
};

/// How many connections may wait to be established and accepted. An attacker who sends SYNs with a
/// station's address can fill that. The kernel then answers with SYN cookies and still lets the
/// station in.
const BACKLOG: i32 = 1024;

/// How often a SYN-ACK is sent again. A connection that is never established then takes its place
/// for 15 s. With the kernel's own 5 that would be a minute.
const SYN_ACK_RETRIES: u32 = 3;

/// How long a listener pauses after the kernel had no descriptor or memory for a connection.
const SHORTAGE: Duration = Duration::from_secs(1);

/// What a listener is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ListenAddress {
    vrf: u32,
    /// Interface index; 0 is any interface of the VRF.
    device: u32,
    /// The unspecified address means all addresses of the VRF.
    address: IpAddr,
    port: u16,
}

/// Which station connects to which port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct StationKey {
    vrf: u32,
    port: u16,
    station: IpAddr,
}

/// All listeners, and the stations that they wait for. Clones share them.
#[derive(Clone)]
pub(super) struct Listeners {
    shared: Arc<Mutex<ListenerRegistry>>,
    config: watch::Receiver<Arc<Config>>,
}

#[derive(Default)]
struct ListenerRegistry {
    open: BTreeMap<ListenAddress, Weak<SharedListener>>,
    awaited: BTreeMap<StationKey, Arc<AwaitedStation>>,
}

/// A station that a session waits for.
struct AwaitedStation {
    /// The devices of the listeners that the station may come to; empty where it may come to any.
    devices: Mutex<Vec<u32>>,
    /// Its session, whose key chain signs its connections.
    id: SessionId,
    config: watch::Receiver<Arc<Config>>,
    source: Option<IpAddr>,
    key: PinKey,
    datapath: Datapath,
    /// The newest connection, until the session takes it.
    newest: Mutex<Option<TcpStream>>,
    news: Notify,
}

/// A listening socket. It closes with the last session that uses it.
struct SharedListener {
    address: ListenAddress,
    socket: Arc<TcpListener>,
    signing: Arc<ListenerSigning>,
    leave: Leave,
    task: AbortHandle,
}

/// The keys of a listener.
#[derive(Default)]
struct ListenerSigning {
    keys: Mutex<ListenerKeys>,
    /// Notified when there may be keys where there were none.
    changed: Notify,
}

/// A session's share in the listeners. While it exists, the station is let in.
pub(super) struct StationListener {
    listeners: Listeners,
    station: StationKey,
    awaited: Arc<AwaitedStation>,
    open: Vec<(ListenAddress, Arc<SharedListener>)>,
    /// [`Grant::line`] of the grant that it was opened under.
    line: u64,
}

impl Listeners {
    pub(super) fn new(config: watch::Receiver<Arc<Config>>) -> Self {
        Self { shared: Arc::default(), config }
    }

    /// Lets the station of a grant connect, at listeners that exist or are opened for it. With a
    /// key chain the kernel takes signed connections of the station alone.
    ///
    /// The sockets are bound to source and device here. So a host without the kernel programs lets
    /// the station connect there alone, too.
    ///
    /// # Errors
    ///
    /// The kernel refuses a listener, or another process has the address and port. The key chain of
    /// the session cannot sign now, or the kernel refuses a key.
    pub(super) fn open(
        &self,
        id: &SessionId,
        grant: &Grant,
        datapath: &Datapath,
    ) -> Result<StationListener, DownCause> {
        let config = Arc::clone(&self.config.borrow());
        let chain = chain_of(id, &config);
        chain.as_ref().map(|chain| plan_of(chain, &config)).transpose().map_err(|error| error.cause())?;
        let addresses = addresses(grant);
        let open = self.open_all(&addresses, datapath)?;
        let awaited = Arc::new(AwaitedStation {
            devices: Mutex::new(devices(&addresses)),
            id: id.clone(),
            config: self.config.clone(),
            source: grant.resolved.source,
            key: datapath.key(&grant.target),
            datapath: datapath.clone(),
            newest: Mutex::default(),
            news: Notify::new(),
        });
        let far = grant.target.station;
        let station = StationKey { vrf: grant.target.vrf, port: far.port(), station: far.ip() };
        self.registry().awaited.insert(station, Arc::clone(&awaited));
        let listener = StationListener { listeners: self.clone(), station, awaited, open, line: grant.line };
        match listener.sign(&config) {
            // Without its keys the listener would take connections that nobody has signed.
            Err(error) if chain.is_some() => Err(error.cause()),
            _ => Ok(listener),
        }
    }

    fn open_all(
        &self,
        addresses: &[ListenAddress],
        datapath: &Datapath,
    ) -> Result<Vec<(ListenAddress, Arc<SharedListener>)>, DownCause> {
        let open = |address: &ListenAddress| match self.listener(*address, datapath) {
            Ok(listener) => Ok((*address, listener)),
            Err(error) => {
                let reason = Reason::of(&error, Reason::NotPermitted);
                Err(DownCause::without_mend(reason, format!("listen on {address}: {error}")))
            }
        };
        addresses.iter().map(open).collect()
    }

    fn listener(&self, address: ListenAddress, datapath: &Datapath) -> io::Result<Arc<SharedListener>> {
        let mut registry = self.registry();
        if let Some(listener) = registry.open.get(&address).and_then(Weak::upgrade) {
            return Ok(listener);
        }
        registry.open.retain(|_, listener| listener.strong_count() > 0);
        // The kernel accepts two listeners that one packet could reach only if both allow it. These
        // do while the second is opened, so no other process gets in beside them. A connection
        // belongs to its session whichever of them it comes to.
        let same_port = registry.open.iter().filter(|(other, _)| other.port == address.port);
        let others: Vec<_> = same_port.filter_map(|(_, listener)| listener.upgrade()).collect();
        let allow =
            |allowed: bool| others.iter().try_for_each(|other| SockRef::from(&*other.socket).set_reuse_port(allowed));
        allow(true)?;
        let opened = open(address, datapath, !others.is_empty());
        allow(false)?;
        let socket = Arc::new(TcpListener::from_std(opened?.into())?);
        let (leave, signing) = (Leave::default(), Arc::new(ListenerSigning::default()));
        let accept = accept(
            Arc::clone(&socket),
            Arc::clone(&signing),
            address,
            Arc::downgrade(&self.shared),
            self.config.clone(),
        );
        let task = tasks::until("session listener", &leave, accept).abort_handle();
        let listener = Arc::new(SharedListener { address, socket, signing, leave, task });
        registry.open.insert(address, Arc::downgrade(&listener));
        Ok(listener)
    }

    fn registry(&self) -> MutexGuard<'_, ListenerRegistry> {
        lock(&self.shared)
    }
}

/// Returns the name of a session's key chain.
fn chain_of(id: &SessionId, config: &Config) -> Option<String> {
    config.bmp.sessions.get(id)?.keychain.clone()
}

/// Takes over a connection that the station of a session opened.
///
/// # Errors
///
/// It is not signed as the key chain says.
pub(super) fn accepted_keys(
    stream: &TcpStream,
    id: &SessionId,
    chain: &str,
    config: &Config,
) -> Result<ConnectionKeys, SigningError> {
    ConnectionKeys::of_accepted(stream, id.station, KeyScope::Host(id.station), chain, config)
}

impl ListenerSigning {
    /// Gives the listener the keys of all stations that may come to it.
    fn follow(
        &self,
        socket: &TcpListener,
        address: ListenAddress,
        registry: &ListenerRegistry,
        config: &Config,
    ) -> Result<(), SigningError> {
        let comes_here = |station: &StationKey| {
            (station.vrf, station.port) == (address.vrf, address.port)
                && station.station.is_ipv4() == address.address.is_ipv4()
        };
        let awaited = registry.awaited.iter().filter(|(station, _)| comes_here(station));
        let peers = awaited.filter_map(|(station, awaited)| {
            Some((KeyScope::Host(station.station), ListenerPeer::Chain(chain_of(&awaited.id, config)?)))
        });
        let peers: Vec<_> = peers.collect();
        lock(&self.keys).follow(socket, peers.iter().map(|(scope, peer)| (*scope, peer)), config)
    }
}

/// Returns what the listeners of a grant are bound to.
fn addresses(grant: &Grant) -> Vec<ListenAddress> {
    let Grant { target, resolved, .. } = grant;
    let (vrf, port) = (target.vrf, target.station.port());
    let unspecified: IpAddr =
        if target.station.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let address = resolved.source.unwrap_or(unspecified);
    // The VRF device of a session without an interface of its own restricts nothing.
    let own = resolved.device.as_ref().filter(|device| device.index != vrf);
    let named: Vec<_> = match own {
        Some(own) => vec![own],
        None => resolved.egress.iter().collect(),
    };
    let bound_to = |device| ListenAddress { vrf, device, address, port };
    if named.is_empty() { vec![bound_to(0)] } else { named.iter().map(|interface| bound_to(interface.index)).collect() }
}

/// Returns the devices of bound listeners.
fn devices(addresses: &[ListenAddress]) -> Vec<u32> {
    addresses.iter().map(|address| address.device).filter(|device| *device != 0).collect()
}

fn open(address: ListenAddress, datapath: &Datapath, beside_others: bool) -> io::Result<Socket> {
    let ListenAddress { vrf, device, .. } = address;
    let own = SocketAddr::new(address.address, address.port);
    let socket = Socket::new(Domain::for_address(own), Type::STREAM, Some(Protocol::TCP))?;
    datapath.claim_listener(&socket).map_err(|error| io::Error::other(format!("{error:#}")))?;
    socket.set_nonblocking(true)?;
    // Connections of an earlier bmpd that are not quite over must not keep this one from listening.
    socket.set_reuse_address(true)?;
    if own.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let device = if device == 0 { vrf } else { device };
    if device != 0 {
        sys::bind_to_interface(&socket, device)?;
    }
    sys::set_syn_retries(&socket, SYN_ACK_RETRIES)?;
    socket.set_reuse_port(beside_others)?;
    socket.bind(&own.into())?;
    socket.listen(BACKLOG)?;
    socket.set_reuse_port(false)?;
    Ok(socket)
}

/// Accepts connections until the listener closes, and keeps its keys as the key chains say.
async fn accept(
    socket: Arc<TcpListener>,
    signing: Arc<ListenerSigning>,
    address: ListenAddress,
    registry: Weak<Mutex<ListenerRegistry>>,
    mut config: watch::Receiver<Arc<Config>>,
) {
    let (mut look, mut failing) = (look_clock(), false);
    loop {
        let has_chains = lock(&signing.keys).has_chains();
        let accepted = select! {
            accepted = socket.accept() => Some(accepted),
            () = signing.changed.notified() => continue,
            Ok(()) = config.changed() => None,
            _ = look.tick(), if has_chains => None,
            never = tasks::until_woken() => match never {},
        };
        let Some(accepted) = accepted else {
            let Some(registry) = registry.upgrade() else { return };
            let config = Arc::clone(&config.borrow_and_update());
            if let Err(error) = signing.follow(&socket, address, &lock(&registry), &config) {
                debug!(of = %format_args!("listener {address}"), "{error}");
            }
            continue;
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                let Some(registry) = registry.upgrade() else { return };
                hand_on(stream, peer, address, &registry);
            }
            // The listener was shut down.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(of = %format_args!("listener {address}"), "cannot accept a connection, trying again: {error}");
                }
                sleep(SHORTAGE).await;
            }
        }
    }
}

/// Gives a connection to the session whose station it comes from, or resets it.
fn hand_on(stream: TcpStream, peer: SocketAddr, address: ListenAddress, registry: &Mutex<ListenerRegistry>) {
    let station = StationKey { vrf: address.vrf, port: address.port, station: peer.ip().to_canonical() };
    let awaited = lock(registry).awaited.get(&station).cloned();
    let admitted = match &awaited {
        Some(awaited) => awaited.admit(&stream, address),
        None => Err("no session has it as its station".to_owned()),
    };
    match (awaited, admitted) {
        (Some(awaited), Ok(())) => {
            // The station has given up an earlier connection that was not taken yet.
            *lock(&awaited.newest) = Some(stream);
            awaited.news.notify_one();
        }
        (_, Err(why)) => {
            debug!("listener {address}: {peer} is refused: {why}");
            // A reset tells the far end at once, and leaves no TIME-WAIT behind.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        (None, Ok(())) => {}
    }
}

impl AwaitedStation {
    /// Checks a connection and holds it to the session's pin. The kernel programs do the same where
    /// they are loaded.
    ///
    /// # Errors
    ///
    /// Why the connection is not the session's.
    fn admit(&self, stream: &TcpStream, address: ListenAddress) -> Result<(), String> {
        let local = stream.local_addr().map_err(|error| error.to_string())?.ip().to_canonical();
        if self.source.is_some_and(|source| source != local) {
            return Err(format!("its session is not at {local}"));
        }
        let anywhere = {
            let devices = lock(&self.devices);
            if !devices.is_empty() && !devices.contains(&address.device) {
                return Err("it came by another interface than its session's".to_owned());
            }
            devices.is_empty()
        };
        self.datapath.admit(stream, &self.key).map_err(|error| format!("{error:#}"))?;
        let config = Arc::clone(&self.config.borrow());
        if let Some(chain) = chain_of(&self.id, &config) {
            accepted_keys(stream, &self.id, &chain, &config).map_err(|error| error.to_string())?;
        }
        let socket = SockRef::from(stream);
        if anywhere && address.device != 0 {
            // It came to a listener that is bound to an interface, unlike its session.
            sys::bind_to_interface(stream, address.vrf)
                .map_err(|error| format!("it cannot be freed from the interface that it came by: {error}"))?;
        }
        tune(&socket).map_err(|error| error.to_string())
    }
}

impl StationListener {
    /// Returns the station's next connection. Of several it is the newest: a station that was
    /// started again must not wait until the connection before is found dead. Nothing is lost when
    /// the future is dropped.
    pub(super) async fn connected(&mut self) -> TcpStream {
        loop {
            if let Some(stream) = lock(&self.awaited.newest).take() {
                return stream;
            }
            self.awaited.news.notified().await;
        }
    }

    /// Gives the listeners the keys of the stations that may come to them.
    fn sign(&self, config: &Config) -> Result<(), SigningError> {
        let registry = self.listeners.registry();
        let followed = self.open.iter().map(|(_, listener)| {
            let SharedListener { address, socket, signing, .. } = &**listener;
            let followed = signing.follow(socket, *address, &registry, config);
            signing.changed.notify_one();
            followed
        });
        // Each of them, also behind one that fails.
        followed.fold(Ok(()), Result::and)
    }

    /// Returns what the kernel has counted at the listeners; `None` if TCP-AO signs nothing there.
    pub(super) fn key_report(&self) -> Option<KeyReport> {
        let reports = self.open.iter().filter_map(|(_, listener)| signing::report(&*listener.socket));
        reports.reduce(KeyReport::plus)
    }

    /// Follows the pin while its line goes on: an interface that the session may leave by comes or
    /// goes, and so does its listener.
    pub(super) fn follow(&mut self, view: &PinView) {
        let PinState::Ready(grant) = &view.state else { return };
        let addresses = addresses(grant);
        if grant.line != self.line || self.open.iter().map(|(address, _)| address).eq(&addresses) {
            return;
        }
        match self.listeners.open_all(&addresses, &self.awaited.datapath) {
            Ok(open) => {
                *lock(&self.awaited.devices) = devices(&addresses);
                self.open = open;
                let config = Arc::clone(&self.awaited.config.borrow());
                if let Err(error) = self.sign(&config) {
                    warn!(of = %self.station.station, "{error}");
                }
            }
            Err(cause) => warn!(of = %self.station.station, "cannot {}", cause.why),
        }
    }
}

impl fmt::Display for StationListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The addresses differ in the interface alone.
        self.open.first().map_or(Ok(()), |(address, _)| address.fmt(f))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.is_unspecified() {
            true => write!(f, "port {} of any address", self.port),
            false => write!(f, "{} port {}", self.address, self.port),
        }
    }
}

impl Drop for StationListener {
    fn drop(&mut self) {
        let mut registry = self.listeners.registry();
        // The next session of the same station may have taken its place.
        if registry.awaited.get(&self.station).is_some_and(|awaited| Arc::ptr_eq(awaited, &self.awaited)) {
            registry.awaited.remove(&self.station);
        }
    }
}

impl Drop for SharedListener {
    fn drop(&mut self) {
        self.leave.give();
        // Closed at once, so that another socket can listen there. The task drops its own a little
        // later.
        let _ = SockRef::from(&*self.socket).shutdown(std::net::Shutdown::Both);
        self.task.abort();
    }
}

/// No code that holds these locks panics half-way through a change, so a poisoned value is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
