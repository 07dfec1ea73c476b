//! Where stations connect to this host. A session has a listener for each interface that it may leave by, bound to that interface, or one that is
//! bound to none if it may leave by any. Sessions whose stations connect to one interface, address and port share a listener; a connection is its
//! session's by the address that it comes from.
//!
//! A listener is bound because not all that the kernel sends for it belongs to a socket: the SYN-ACK that a SYN cookie is in passes no program
//! (`tcp_make_synack` with `TCP_SYNACK_COOKIE`), and leaves by the listener's interface or, without one, as routing says.

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
    sync::{Notify, watch},
    task::AbortHandle,
};
use tracing::{debug, warn};

use super::connect::{Refusal, tune};
use crate::{
    pin::{Datapath, Grant, Pins, Reason, SessionPin, State},
    sys,
    tasks::{self, Leave},
};

/// Connections that wait to be accepted, which each is at once, and those that are not established yet. Who sends SYNs with a station's address
/// can fill that; the kernel then answers with SYN cookies, and the station is let in all the same.
const BACKLOG: i32 = 1024;

/// How often a SYN-ACK is sent again. With the kernel's own 5 a connection that is never established takes its place for a minute, so for 15 s.
const SYN_ACK_RETRIES: u32 = 3;

/// How long no connection is accepted after the kernel had no descriptor or memory for one.
const SHORTAGE: Duration = Duration::from_secs(1);

/// What one listener is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    vrf: u32,
    /// Interface index; 0 is any interface of the VRF.
    device: u32,
    /// The unspecified address is all of the VRF's.
    address: IpAddr,
    port: u16,
}

/// Who connects to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Caller {
    vrf: u32,
    port: u16,
    station: IpAddr,
}

/// The listeners that there are, and the sessions that wait at them. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Listeners(Arc<Mutex<Registry>>);

#[derive(Default)]
struct Registry {
    open: BTreeMap<Place, Weak<Listener>>,
    waiting: BTreeMap<Caller, Arc<Waiting>>,
}

/// A session that waits for its station.
struct Waiting {
    /// As in [`Place`], of the listeners that its station may come to; none where it may come to any.
    devices: Mutex<Vec<u32>>,
    source: Option<IpAddr>,
    key: PinKey,
    datapath: Datapath,
    /// The latest connection, until the session takes it.
    latest: Mutex<Option<TcpStream>>,
    news: Notify,
}

/// Ends with the last session that waits at it.
struct Listener {
    socket: Arc<TcpListener>,
    leave: Leave,
    task: AbortHandle,
}

/// A session's part in its listeners: as long as it is there, the station is let in.
pub(super) struct Seat {
    listeners: Listeners,
    caller: Caller,
    waiting: Arc<Waiting>,
    open: Vec<(Place, Arc<Listener>)>,
    /// [`Grant::line`] of the grant that it was taken under.
    line: u64,
    pin: watch::Receiver<State>,
}

impl Listeners {
    /// Waits for the station of a grant, at listeners that are there or are opened for it. As long as what is in force goes on with the same line,
    /// the listeners are those of the interfaces that it names.
    ///
    /// The sockets are bound to source and device here: a host without the kernel programs still lets the station connect there alone.
    pub(super) fn seat(&self, grant: &Grant, pins: &Pins, pin: &SessionPin) -> Result<Seat, Refusal> {
        let places = places(grant);
        let open = self.open(&places, pins.datapath())?;
        let waiting = Arc::new(Waiting {
            devices: Mutex::new(devices(&places)),
            source: grant.resolved.source,
            key: pins.datapath().key(&grant.target),
            datapath: pins.datapath().clone(),
            latest: Mutex::default(),
            news: Notify::new(),
        });
        let station = grant.target.station;
        let caller = Caller { vrf: grant.target.vrf, port: station.port(), station: station.ip() };
        self.registry().waiting.insert(caller, Arc::clone(&waiting));
        Ok(Seat { listeners: self.clone(), caller, waiting, open, line: grant.line, pin: pin.subscribe() })
    }

    fn open(&self, places: &[Place], datapath: &Datapath) -> Result<Vec<(Place, Arc<Listener>)>, Refusal> {
        let open = |place: &Place| match self.listener(*place, datapath) {
            Ok(listener) => Ok((*place, listener)),
            Err(error) => Err(Refusal {
                reason: Reason::of(&error, Reason::NotPermitted),
                why: format!("listen on {place}: {error}"),
            }),
        };
        places.iter().map(open).collect()
    }

    fn listener(&self, place: Place, datapath: &Datapath) -> io::Result<Arc<Listener>> {
        let mut registry = self.registry();
        if let Some(listener) = registry.open.get(&place).and_then(Weak::upgrade) {
            return Ok(listener);
        }
        registry.open.retain(|_, listener| listener.strong_count() > 0);
        // The kernel takes two listeners that one packet could reach only if both allow it. Ours do, for as long as this takes: a connection
        // is its session's whichever of them it comes to. Nobody else's are let in.
        let same_port = registry.open.iter().filter(|(other, _)| other.port == place.port);
        let others: Vec<_> = same_port.filter_map(|(_, listener)| listener.upgrade()).collect();
        let allow =
            |allowed: bool| others.iter().try_for_each(|other| SockRef::from(&*other.socket).set_reuse_port(allowed));
        allow(true)?;
        let opened = open(place, datapath, !others.is_empty());
        allow(false)?;
        let socket = Arc::new(TcpListener::from_std(opened?.into())?);
        let leave = Leave::default();
        let accept = accept(Arc::clone(&socket), place, Arc::downgrade(&self.0));
        let task = tasks::until("session listener", &leave, accept).abort_handle();
        let listener = Arc::new(Listener { socket, leave, task });
        registry.open.insert(place, Arc::downgrade(&listener));
        Ok(listener)
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.0)
    }
}

/// What the listeners of a grant are bound to.
fn places(grant: &Grant) -> Vec<Place> {
    let Grant { target, resolved, .. } = grant;
    let (vrf, port) = (target.vrf, target.station.port());
    let unspecified: IpAddr =
        if target.station.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let address = resolved.source.unwrap_or(unspecified);
    // A session of a VRF without an interface of its own has the VRF's device, which narrows nothing.
    let own = resolved.device.as_ref().filter(|(index, _)| *index != vrf);
    let named: Vec<_> = match own {
        Some(own) => vec![own],
        None => resolved.egress.iter().collect(),
    };
    let place = |device| Place { vrf, device, address, port };
    if named.is_empty() { vec![place(0)] } else { named.iter().map(|(index, _)| place(*index)).collect() }
}

fn devices(places: &[Place]) -> Vec<u32> {
    places.iter().map(|place| place.device).filter(|device| *device != 0).collect()
}

fn open(place: Place, datapath: &Datapath, beside_others: bool) -> io::Result<Socket> {
    let address = SocketAddr::new(place.address, place.port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    datapath.claim_listener(&socket).map_err(|error| io::Error::other(format!("{error:#}")))?;
    socket.set_nonblocking(true)?;
    // Connections of an earlier bmpd that are not quite over do not keep the next one from listening.
    socket.set_reuse_address(true)?;
    if place.address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let device = if place.device == 0 { place.vrf } else { place.device };
    if device != 0 {
        sys::bind_to_interface(&socket, device)?;
    }
    sys::set_syn_retries(&socket, SYN_ACK_RETRIES)?;
    socket.set_reuse_port(beside_others)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_reuse_port(false)?;
    Ok(socket)
}

/// Accepts whoever connects, until the listener ends.
async fn accept(socket: Arc<TcpListener>, place: Place, registry: Weak<Mutex<Registry>>) {
    let mut failing = false;
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                failing = false;
                let Some(registry) = registry.upgrade() else { return };
                hand_on(stream, peer, place, &registry);
            }
            // The far end has given up, or the listener was shut down.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(of = %format_args!("listener {place}"), "cannot accept a connection, trying again: {error}");
                }
                tokio::time::sleep(SHORTAGE).await;
            }
        }
    }
}

/// Gives a connection to the session whose station it comes from.
fn hand_on(stream: TcpStream, peer: SocketAddr, place: Place, registry: &Mutex<Registry>) {
    let caller = Caller { vrf: place.vrf, port: place.port, station: peer.ip().to_canonical() };
    let waiting = lock(registry).waiting.get(&caller).cloned();
    let taken = match &waiting {
        Some(waiting) => waiting.take_in(&stream, place),
        None => Err("no session has it as its station".to_owned()),
    };
    match (waiting, taken) {
        (Some(waiting), Ok(())) => {
            // One that was not taken yet is one that the station has given up.
            *lock(&waiting.latest) = Some(stream);
            waiting.news.notify_one();
        }
        (_, Err(why)) => {
            debug!("listener {place}: {peer} is refused: {why}");
            // A reset tells it at once, and leaves nothing behind.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        (None, Ok(())) => {}
    }
}

impl Waiting {
    /// Makes a connection the session's, or says why it is not. The kernel programs see to all this where they are; elsewhere nobody does.
    fn take_in(&self, stream: &TcpStream, place: Place) -> Result<(), String> {
        let local = stream.local_addr().map_err(|error| error.to_string())?.ip().to_canonical();
        if self.source.is_some_and(|source| source != local) {
            return Err(format!("its session is not at {local}"));
        }
        let anywhere = {
            let devices = lock(&self.devices);
            if !devices.is_empty() && !devices.contains(&place.device) {
                return Err("it came by another interface than its session's".to_owned());
            }
            devices.is_empty()
        };
        self.datapath.admit(stream, &self.key).map_err(|error| format!("{error:#}"))?;
        let socket = SockRef::from(stream);
        if anywhere && place.device != 0 {
            // It came to a listener that is bound more narrowly than its session is.
            let _ = sys::bind_to_interface(stream, place.vrf);
        }
        tune(&socket).map_err(|error| error.to_string())
    }
}

impl Seat {
    /// The station's next connection. Of several the latest: a station that was started again must not wait until the connection before is
    /// found dead. Nothing is lost when the future is dropped.
    pub(super) async fn connected(&mut self) -> TcpStream {
        loop {
            if let Some(stream) = lock(&self.waiting.latest).take() {
                return stream;
            }
            tokio::select! {
                () = self.waiting.news.notified() => {}
                // Without anybody who decides it stays as it is.
                Ok(()) = self.pin.changed() => self.keep_up(),
            }
        }
    }

    /// An interface that the session names came or went, and its connection goes on: so do its listeners.
    fn keep_up(&mut self) {
        let grant = match &*self.pin.borrow_and_update() {
            State::Ready(grant) if grant.line == self.line => Arc::clone(grant),
            _ => return,
        };
        let places = places(&grant);
        if self.open.iter().map(|(place, _)| place).eq(&places) {
            return;
        }
        match self.listeners.open(&places, &self.waiting.datapath) {
            Ok(open) => {
                *lock(&self.waiting.devices) = devices(&places);
                self.open = open;
            }
            Err(Refusal { why, .. }) => warn!(of = %self.caller.station, "cannot {why}"),
        }
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // They differ in the interface alone.
        self.open.first().map_or(Ok(()), |(place, _)| place.fmt(f))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.is_unspecified() {
            true => write!(f, "port {} of any address", self.port),
            false => write!(f, "{} port {}", self.address, self.port),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut registry = self.listeners.registry();
        // The same station's next session may have taken the seat.
        if registry.waiting.get(&self.caller).is_some_and(|waiting| Arc::ptr_eq(waiting, &self.waiting)) {
            registry.waiting.remove(&self.caller);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.leave.give();
        // At once, so that another can listen there: the task lets its socket go a little later.
        let _ = SockRef::from(&*self.socket).shutdown(std::net::Shutdown::Both);
        self.task.abort();
    }
}

/// Nothing that holds these locks can panic half-way through a change, so a poisoned one is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
