//! How many connections those who connect to bmpd may hold, so that nobody outside can take the descriptors that stations and
//! operators need.
//!
//! Three limits are kept: for each listener, for each source, and for all listeners together. The last is made of this process's limit
//! of descriptors (getrlimit(2), `RLIMIT_NOFILE`): what outsiders hold stays below half of it. A source is the user who has the far
//! socket where that is on this host, and the address elsewhere: a user of this host has as many addresses as he likes.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
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

/// What all outsiders together may hold.
static ALL: LazyLock<usize> = LazyLock::new(|| share_of(sys::file_limit()));
static INSIDE: AtomicUsize = AtomicUsize::new(0);

fn share_of(descriptors: usize) -> usize {
    (descriptors.saturating_sub(OWN) / 2).max(LEAST)
}

/// Who has the far end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// A user of this host, by number.
    User(u32),
    /// Another host.
    Host(IpAddr),
}

impl Source {
    /// Of a TCP connection that was accepted.
    pub(crate) fn of(own: Option<SocketAddr>, client: SocketAddr) -> Self {
        let address = client.ip().to_canonical();
        let local = address.is_loopback() || own.is_some_and(|own| own.ip().to_canonical() == address);
        // Where the kernel does not say whose it is, the address has to do.
        let user = own.filter(|_| local).and_then(|own| pin::user_of(client, own).ok());
        user.map_or(Self::Host(address), Self::User)
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
    most: usize,
    for_each_source: usize,
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
        Self { most, for_each_source, strangers: true, inside: Arc::default() }
    }

    /// For those who are configured, or operators: their number is bounded otherwise, and no stranger takes their room.
    pub(crate) fn known(most: usize, for_each_source: usize) -> Self {
        Self { strangers: false, ..Self::new(most, for_each_source) }
    }

    /// Lets a connection in, which is there as long as what this gives.
    pub(crate) fn admit(&self, source: Source) -> Result<Visitor, TooMany> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if inside.number >= self.most {
            return Err(TooMany::AtListener(self.most));
        }
        let of_source = inside.by_source.get(&source).copied().unwrap_or(0);
        if of_source >= self.for_each_source {
            return Err(TooMany::OfSource(self.for_each_source));
        }
        if self.strangers && INSIDE.fetch_add(1, Ordering::AcqRel) >= *ALL {
            INSIDE.fetch_sub(1, Ordering::AcqRel);
            return Err(TooMany::InAll(*ALL));
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
