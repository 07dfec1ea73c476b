//! Limits how many connections clients may hold, so that stations and operators always find
//! descriptors.
//!
//! Three limits hold: for each listener, for each source, and for all listeners together. The last
//! follows from the process's limit of descriptors (getrlimit(2), `RLIMIT_NOFILE`). Clients
//! together hold less than half of the descriptors that configured sessions leave.
//!
//! The source of a local client is its user, because a user can take any local address. The source
//! of any other client is its IPv4 address, or its IPv6 /64, because one host can take any address
//! of a /64.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, RawFd},
    pin::Pin,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{pin, sys};

/// Descriptors that clients never get: programs, tables, netlink, files, operators.
const OWN: usize = 256;
/// Connections that clients may hold however low the limit of descriptors is.
const LEAST: usize = 8;

static DESCRIPTORS: LazyLock<usize> = LazyLock::new(sys::file_limit);
/// Descriptors kept for sessions, in addition to [`OWN`].
static KEPT: AtomicUsize = AtomicUsize::new(0);
static INSIDE: AtomicUsize = AtomicUsize::new(0);

/// Returns how many connections all clients together may hold.
fn all() -> usize {
    share_of(DESCRIPTORS.saturating_sub(KEPT.load(Ordering::Relaxed)))
}

fn share_of(descriptors: usize) -> usize {
    (descriptors.saturating_sub(OWN) / 2).max(LEAST)
}

/// Returns how many connections clients of all listeners hold now, and how many they may hold.
pub(crate) fn now_and_most() -> (usize, usize) {
    (INSIDE.load(Ordering::Acquire), all())
}

/// Keeps a descriptor for each configured session. Connections that are already open stay.
pub(crate) fn keep_for(sessions: usize) {
    KEPT.store(sessions, Ordering::Relaxed);
}

/// The source of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ClientSource {
    /// A user of this host, by user id.
    User(u32),
    /// Another host: its IPv4 address, or the first address of its IPv6 /64.
    Host(IpAddr),
}

/// Who is at the other end of an accepted TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientOrigin {
    /// A user of this host, by user id.
    User(u32),
    /// A user of this host whom the kernel does not tell: its program has closed the socket, or the
    /// kernel has no sock_diag(7) for TCP.
    UnknownUser(IpAddr),
    /// Another host.
    Host(IpAddr),
}

impl ClientOrigin {
    /// Returns the origin of a connection from `client` to the local address `own`. `is_own` says
    /// whether this host has an address.
    pub(crate) fn of_client(own: Option<SocketAddr>, client: SocketAddr, is_own: impl Fn(IpAddr) -> bool) -> Self {
        let address = client.ip().to_canonical();
        let is_local = || address.is_loopback() || own.is_some_and(|own| own.ip().to_canonical() == address);
        match own.and_then(|own| pin::user_of(client, own).ok()) {
            Some(user) => Self::User(user),
            None if is_local() || is_own(address) => match own.map(|own| pin::user_of_bound(client, own)) {
                Some(Ok(user)) => Self::User(user),
                _ => Self::UnknownUser(address),
            },
            None => Self::Host(address),
        }
    }

    /// True if the client is on this host.
    pub(crate) fn is_local(self) -> bool {
        !matches!(self, Self::Host(_))
    }

    /// The user of this host, if the kernel told it.
    pub(crate) fn user(self) -> Option<u32> {
        match self {
            Self::User(user) => Some(user),
            Self::UnknownUser(_) | Self::Host(_) => None,
        }
    }
}

/// If the kernel does not tell the user of a local socket, the address is the source.
impl From<ClientOrigin> for ClientSource {
    fn from(origin: ClientOrigin) -> Self {
        match origin {
            ClientOrigin::User(user) => Self::User(user),
            ClientOrigin::UnknownUser(address) | ClientOrigin::Host(address) => Self::of_host(address),
        }
    }
}

impl ClientSource {
    /// Returns the source of an accepted TCP connection from `client` to the local address `own`.
    pub(crate) fn of_client(own: Option<SocketAddr>, client: SocketAddr) -> Self {
        ClientOrigin::of_client(own, client, |_| false).into()
    }

    fn of_host(address: IpAddr) -> Self {
        const HOST_BITS: u32 = 64;
        Self::Host(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> HOST_BITS << HOST_BITS).into(),
        })
    }
}

/// How many connections a listener holds at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) most: usize,
    /// Connections from one source.
    pub(crate) for_each_source: usize,
}

impl Limits {
    /// Returns the requested limits, lowered if bmpd has few descriptors. With few descriptors, one
    /// source leaves room for others, unless its limit is configured.
    pub(crate) fn new(request: LimitRequest) -> Self {
        Self::within(all(), request)
    }

    fn within(all: usize, request: LimitRequest) -> Self {
        let most = request.most.min(all);
        let of_source = if most < request.most { (most / 4).max(1) } else { most };
        let for_each_source = match request.for_each_source {
            SourceLimit::Configured(limit) => limit.min(most),
            SourceLimit::Default(limit) => limit.min(of_source),
        };
        Self { most, for_each_source }
    }
}

/// The limits that a listener should have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LimitRequest {
    pub(crate) most: usize,
    pub(crate) for_each_source: SourceLimit,
}

/// The limit of one source, and whether an operator has chosen it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SourceLimit {
    Configured(usize),
    Default(usize),
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMany {
    OfSource(usize),
    AtListener(usize),
    InAll(usize),
}

impl TooMany {
    /// The reason as displays and refusals show it.
    pub(crate) const WORD: &str = "too-many-connections";
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfSource(most) => write!(f, "{}: its user or host has {most} already", Self::WORD),
            Self::AtListener(most) => write!(f, "{}: there are {most} already", Self::WORD),
            Self::InAll(most) => write!(f, "{}: bmpd has {most} of them in all already", Self::WORD),
        }
    }
}

/// The clients of one listener. Clones share the count.
#[derive(Clone, Debug)]
pub(crate) struct Visitors {
    limits: Limits,
    /// True if these clients also count towards the limit of all listeners together.
    counts_for_all: bool,
    inside: Arc<Mutex<Inside>>,
}

#[derive(Debug, Default)]
struct Inside {
    number: usize,
    by_source: HashMap<ClientSource, usize>,
}

impl Visitors {
    pub(crate) fn new(most: usize, for_each_source: usize) -> Self {
        Self { limits: Limits { most, for_each_source }, counts_for_all: true, inside: Arc::default() }
    }

    pub(crate) fn within(limits: Limits) -> Self {
        Self { limits, counts_for_all: true, inside: Arc::default() }
    }

    /// Changes the limits. Connections that are already open stay.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Creates the clients of a listener that serves configured peers only. They do not count
    /// towards the limit of all listeners.
    pub(crate) fn configured(most: usize, for_each_source: usize) -> Self {
        Self { counts_for_all: false, ..Self::new(most, for_each_source) }
    }

    /// Admits a connection. It counts until the returned value is dropped.
    pub(crate) fn admit(&self, source: ClientSource) -> Result<Visitor, TooMany> {
        let Limits { most, for_each_source } = self.limits;
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if inside.number >= most {
            return Err(TooMany::AtListener(most));
        }
        let of_source = inside.by_source.get(&source).copied().unwrap_or(0);
        if of_source >= for_each_source {
            return Err(TooMany::OfSource(for_each_source));
        }
        let all = all();
        if self.counts_for_all && INSIDE.fetch_add(1, Ordering::AcqRel) >= all {
            INSIDE.fetch_sub(1, Ordering::AcqRel);
            return Err(TooMany::InAll(all));
        }
        inside.number += 1;
        inside.by_source.insert(source, of_source + 1);
        drop(inside);
        Ok(Visitor { of: self.clone(), source })
    }
}

/// An admitted connection, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Visitor {
    of: Visitors,
    source: ClientSource,
}

impl Drop for Visitor {
    fn drop(&mut self) {
        if self.of.counts_for_all {
            INSIDE.fetch_sub(1, Ordering::AcqRel);
        }
        let mut inside = self.of.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.number -= 1;
        if let Some(of_source) = inside.by_source.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                inside.by_source.remove(&self.source);
            }
        }
    }
}

/// A stream with its admission: the connection counts as long as the stream is open.
#[derive(Debug)]
pub(crate) struct AdmittedStream<S> {
    stream: S,
    _visitor: Visitor,
}

impl<S> AdmittedStream<S> {
    pub(crate) fn new(stream: S, visitor: Visitor) -> Self {
        Self { stream, _visitor: visitor }
    }
}

impl<S: AsRawFd> AsRawFd for AdmittedStream<S> {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AdmittedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, room)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AdmittedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn host(last: u8) -> ClientSource {
        ClientSource::Host(Ipv4Addr::new(192, 0, 2, last).into())
    }

    #[test]
    fn a_source_and_a_listener_have_limits_and_a_closed_connection_makes_room() {
        let visitors = Visitors::new(5, 3);
        let mut first: Vec<_> = (0..3).map(|_| visitors.admit(host(1)).unwrap()).collect();
        assert_eq!(visitors.admit(host(1)).unwrap_err(), TooMany::OfSource(3));
        let second: Vec<_> = (0..2).map(|_| visitors.admit(host(2)).unwrap()).collect();
        assert_eq!(visitors.admit(host(3)).unwrap_err(), TooMany::AtListener(5));
        first.pop();
        visitors.admit(host(3)).unwrap();
        drop((first, second));
        assert!(visitors.inside.lock().unwrap().by_source.is_empty(), "nothing is kept of who was there");
    }

    #[test]
    fn clients_together_hold_at_most_half_of_the_descriptors() {
        for limit in [0, 64, 256, 1024, 4096, 1 << 20] {
            let share = share_of(limit);
            assert!(share == LEAST || share + OWN / 2 <= limit / 2, "{share} of {limit}");
        }
        assert_eq!(share_of(1024), 384);
    }

    #[test]
    fn few_descriptors_still_leave_room_for_other_sources() {
        let usual = SourceLimit::Default(32);
        let within = |descriptors, most, for_each_source| {
            let request = LimitRequest { most, for_each_source };
            let Limits { most, for_each_source } = Limits::within(share_of(descriptors), request);
            (most, for_each_source)
        };
        assert_eq!(within(1024, 256, usual), (256, 32));
        assert_eq!(within(400, 256, usual), (72, 18));
        assert_eq!(within(256, 256, usual), (8, 2));
        assert_eq!(within(1024, 5000, usual), (384, 32));
        assert_eq!(within(1024, 5000, SourceLimit::Configured(5000)), (384, 384));
        assert_eq!(within(1024, 4, usual), (4, 4), "a daemon that reconnects has two for a moment");
        assert_eq!(within(256, 300, usual), (8, 2));
    }

    #[test]
    fn an_ipv6_subnet_is_one_source_and_new_limits_hold_at_once() {
        let of = |address: &str| ClientSource::of_client(None, format!("[{address}]:1").parse().unwrap());
        let mut visitors = Visitors::new(10, 2);
        let first =
            [visitors.admit(of("2001:db8:0:1::1")).unwrap(), visitors.admit(of("2001:db8:0:1:ffff::2")).unwrap()];
        assert_eq!(visitors.admit(of("2001:db8:0:1::3")).unwrap_err(), TooMany::OfSource(2));
        visitors.admit(of("2001:db8:0:2::3")).unwrap();
        assert_eq!(of("::ffff:192.0.2.7"), host(7), "IPv4 has no subnets here");
        visitors.set_limits(Limits { most: 2, for_each_source: 2 });
        assert_eq!(visitors.admit(of("2001:db8:0:3::1")).unwrap_err(), TooMany::AtListener(2));
        visitors.set_limits(Limits { most: 3, for_each_source: 3 });
        drop(visitors.admit(of("2001:db8:0:1::3")).unwrap());
        drop(first);
    }

    #[test]
    fn the_source_of_a_local_client_is_its_user_whatever_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        // SAFETY: the function takes nothing and always succeeds.
        let user = unsafe { libc::getuid() };
        let source = ClientSource::of_client(accepted.local_addr().ok(), client.local_addr().unwrap());
        assert_eq!(source, ClientSource::User(user));
        let far = "192.0.2.9:1".parse().unwrap();
        assert_eq!(ClientSource::of_client(accepted.local_addr().ok(), far), host(9));
    }

    #[test]
    fn a_client_that_closed_its_socket_is_a_user_that_is_not_known_and_not_root() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = |client: &TcpStream, accepted: &TcpStream| {
            ClientOrigin::of_client(accepted.local_addr().ok(), client.local_addr().unwrap(), |_| false)
        };
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, address) = listener.accept().unwrap();
        // It sends no more, and its program still has it.
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(origin(&client, &accepted), ClientOrigin::User(sys::user()));
        drop(client);
        let own = accepted.local_addr().ok();
        let closed = ClientOrigin::of_client(own, address, |_| false);
        assert_eq!(closed, ClientOrigin::UnknownUser(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn the_user_of_a_client_that_is_bound_to_an_interface_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.bind_device(Some(b"lo")).unwrap();
        client.connect(&listener.local_addr().unwrap().into()).unwrap();
        let (accepted, address) = listener.accept().unwrap();
        let origin = || ClientOrigin::of_client(accepted.local_addr().ok(), address, |_| false);
        assert_eq!(origin(), ClientOrigin::User(sys::user()));
        drop(client);
        assert_eq!(origin(), ClientOrigin::UnknownUser(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn a_client_with_another_address_of_this_host_is_local() {
        let far = "192.0.2.9:1".parse().unwrap();
        let own = "192.0.2.1:5000".parse().ok();
        let is_local = |is_own: fn(IpAddr) -> bool| ClientOrigin::of_client(own, far, is_own).is_local();
        assert!(is_local(|address| address == IpAddr::from([192, 0, 2, 9])));
        assert!(!is_local(|_| false));
        assert!(ClientOrigin::of_client(own, "192.0.2.1:9".parse().unwrap(), |_| false).is_local());
    }
}
