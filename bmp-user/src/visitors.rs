//! How many connections those who connect to bmpd may hold, so that nobody outside can take the descriptors that stations and
//! operators need.
//!
//! Three limits are kept: for each listener, for each source, and for all listeners together. The last is made of this process's limit
//! of descriptors (getrlimit(2), `RLIMIT_NOFILE`): what outsiders hold stays below half of what configured sessions leave of it. A source is the user who has the far
//! socket where that is on this host, and the address elsewhere: a user of this host has as many addresses as he likes. Of IPv6 it is
//! the /64, in which one host has as many addresses as it likes, too.

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

/// Descriptors that are never for outsiders: programs, tables, netlink, files, operators.
const OWN: usize = 256;
/// What outsiders may hold however low the limit is.
const LEAST: usize = 8;

static DESCRIPTORS: LazyLock<usize> = LazyLock::new(sys::file_limit);
/// Descriptors that are kept for sessions beside [`OWN`].
static KEPT: AtomicUsize = AtomicUsize::new(0);
static INSIDE: AtomicUsize = AtomicUsize::new(0);

/// What all outsiders together may hold.
fn all() -> usize {
    share_of(DESCRIPTORS.saturating_sub(KEPT.load(Ordering::Relaxed)))
}

fn share_of(descriptors: usize) -> usize {
    (descriptors.saturating_sub(OWN) / 2).max(LEAST)
}

/// Keeps descriptors for as many sessions as are configured. Outsiders who are there stay.
pub(crate) fn keep_for(sessions: usize) {
    KEPT.store(sessions, Ordering::Relaxed);
}

/// Who has the far end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// A user of this host, by number.
    User(u32),
    /// Another host: an IPv4 address, or the first of an IPv6 /64.
    Host(IpAddr),
}

impl Source {
    /// Of a TCP connection that was accepted.
    pub(crate) fn of(own: Option<SocketAddr>, client: SocketAddr) -> Self {
        let address = client.ip().to_canonical();
        let local = address.is_loopback() || own.is_some_and(|own| own.ip().to_canonical() == address);
        // Where the kernel does not say whose it is, the address has to do.
        let user = own.filter(|_| local).and_then(|own| pin::user_of(client, own).ok());
        user.map_or_else(|| Self::of_host(address), Self::User)
    }
}

impl Source {
    fn of_host(address: IpAddr) -> Self {
        const HOST_BITS: u32 = 64;
        Self::Host(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> HOST_BITS << HOST_BITS).into(),
        })
    }
}

/// How many connections a listener has at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) most: usize,
    /// Of one source.
    pub(crate) for_each_source: usize,
}

impl Limits {
    /// As many as are asked for, or fewer where bmpd has few descriptors. What is not asked for is as usual; where descriptors are few,
    /// one source leaves room for others.
    pub(crate) fn new(most: Option<usize>, for_each_source: Option<usize>) -> Self {
        Self::within(all(), most, for_each_source)
    }

    fn within(all: usize, most: Option<usize>, for_each_source: Option<usize>) -> Self {
        let usual = Self::default();
        let wanted = most.unwrap_or(usual.most);
        let most = wanted.min(all);
        let of_source = if most < wanted { (most / 4).max(1) } else { most };
        let for_each_source = for_each_source.map_or(usual.for_each_source.min(of_source), |asked| asked.min(most));
        Self { most, for_each_source }
    }
}

/// Of a listener of which nothing is said.
impl Default for Limits {
    fn default() -> Self {
        Self { most: 256, for_each_source: 32 }
    }
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMany {
    OfSource(usize),
    AtListener(usize),
    InAll(usize),
}

impl TooMany {
    /// The word of displays and of refusals.
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

/// The connections at one listener. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Visitors {
    limits: Limits,
    /// Whether they are among those that all listeners together have a limit for.
    strangers: bool,
    inside: Arc<Mutex<Inside>>,
}

#[derive(Debug, Default)]
struct Inside {
    number: usize,
    by_source: HashMap<Source, usize>,
}

impl Visitors {
    pub(crate) fn new(most: usize, for_each_source: usize) -> Self {
        Self { limits: Limits { most, for_each_source }, strangers: true, inside: Arc::default() }
    }

    pub(crate) fn within(limits: Limits) -> Self {
        Self { limits, strangers: true, inside: Arc::default() }
    }

    /// Other limits from now on. Who is there stays.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// For those who are configured: their number is bounded otherwise, and no stranger takes their room.
    pub(crate) fn known(most: usize, for_each_source: usize) -> Self {
        Self { strangers: false, ..Self::new(most, for_each_source) }
    }

    /// Lets a connection in, which is there as long as what this gives.
    pub(crate) fn admit(&self, source: Source) -> Result<Visitor, TooMany> {
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
        if self.strangers && INSIDE.fetch_add(1, Ordering::AcqRel) >= all {
            INSIDE.fetch_sub(1, Ordering::AcqRel);
            return Err(TooMany::InAll(all));
        }
        inside.number += 1;
        inside.by_source.insert(source, of_source + 1);
        drop(inside);
        Ok(Visitor { of: self.clone(), source })
    }
}

/// One connection that was let in.
#[derive(Debug)]
pub(crate) struct Visitor {
    of: Visitors,
    source: Source,
}

impl Drop for Visitor {
    fn drop(&mut self) {
        if self.of.strangers {
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

/// A stream that was let in, for as long as it is open.
#[derive(Debug)]
pub(crate) struct Guest<S> {
    stream: S,
    _visitor: Visitor,
}

impl<S> Guest<S> {
    pub(crate) fn new(stream: S, visitor: Visitor) -> Self {
        Self { stream, _visitor: visitor }
    }
}

impl<S: AsRawFd> AsRawFd for Guest<S> {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guest<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, room)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guest<S> {
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

    use super::*;

    fn host(last: u8) -> Source {
        Source::Host(Ipv4Addr::new(192, 0, 2, last).into())
    }

    #[test]
    fn a_source_and_a_listener_have_their_limits_and_who_leaves_makes_room() {
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
    fn outsiders_never_have_more_than_half_of_the_descriptors() {
        for limit in [0, 64, 256, 1024, 4096, 1 << 20] {
            let share = share_of(limit);
            assert!(share == LEAST || share + OWN / 2 <= limit / 2, "{share} of {limit}");
        }
        assert_eq!(share_of(1024), 384);
    }

    #[test]
    fn limits_leave_room_for_other_sources_however_few_descriptors_there_are() {
        let within = |descriptors, most, for_each_source| {
            let Limits { most, for_each_source } = Limits::within(share_of(descriptors), most, for_each_source);
            (most, for_each_source)
        };
        assert_eq!(within(1024, None, None), (256, 32));
        assert_eq!(within(400, None, None), (72, 18));
        assert_eq!(within(256, None, None), (8, 2));
        assert_eq!(within(1024, Some(5000), None), (384, 32));
        assert_eq!(within(1024, Some(5000), Some(5000)), (384, 384));
        assert_eq!(within(1024, Some(4), None), (4, 4), "a daemon that reconnects has two for a moment");
        assert_eq!(within(256, Some(300), None), (8, 2));
    }

    #[test]
    fn the_addresses_of_an_ipv6_subnet_are_one_source_and_other_limits_hold_at_once() {
        let of = |address: &str| Source::of(None, format!("[{address}]:1").parse().unwrap());
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
    fn a_client_of_this_host_is_its_user_whatever_address_it_takes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        // SAFETY: it takes nothing and cannot fail.
        let user = unsafe { libc::getuid() };
        let source = Source::of(accepted.local_addr().ok(), client.local_addr().unwrap());
        assert_eq!(source, Source::User(user));
        let far = "192.0.2.9:1".parse().unwrap();
        assert_eq!(Source::of(accepted.local_addr().ok(), far), host(9));
    }
}
