//! All stations in one: a listener for every address of a namespace. It reports when a session has
//! sent its Initiation, and when it has ended.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use lab::{bmp, netns::Netns};
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    eventfd::{EfdFlags, EventFd},
};
use socket2::{Domain, Socket, Type};

use crate::interrupt::{self, LOOK_EVERY};

/// Connections that may arrive at the same moment.
const BACKLOG: i32 = 1024;
/// Bytes of one read.
const READ: usize = 64 * 1024;
/// Bytes of BMP's common header (RFC 7854 §4.1).
const HEADER: usize = 6;

const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

/// A change of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionChange {
    /// Its Initiation has arrived.
    Established,
    /// The router closed or reset it.
    Ended,
}

/// A change, with its time and session.
#[derive(Clone, Copy, Debug)]
pub(super) struct CrowdEvent {
    pub(super) at: Instant,
    /// The station's address.
    pub(super) station: IpAddr,
    /// The router's address.
    pub(super) source: IpAddr,
    pub(super) what: SessionChange,
}

/// All stations. Dropping it closes all connections.
pub(super) struct Crowd {
    events: Receiver<CrowdEvent>,
    bytes: Arc<AtomicU64>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Crowd {
    /// Listens on a port of every address.
    pub(super) fn listen(netns: &Netns, port: u16) -> io::Result<Self> {
        let listener = netns.enter(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok::<_, io::Error>(TcpListener::from(socket))
        })?;
        let (sender, events) = channel();
        let bytes = Arc::<AtomicU64>::default();
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        epoll.add(&*stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let mut hall =
            CrowdLoop { epoll, listener, guests: HashMap::new(), next: 0, sender, bytes: Arc::clone(&bytes) };
        let thread = Some(std::thread::spawn(move || hall.serve()));
        Ok(Self { events, bytes, stop, thread })
    }

    /// Returns the bytes that all stations have received.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits for the next event.
    pub(super) fn next(&self, patience: Duration, waits_for: &str) -> io::Result<CrowdEvent> {
        let started = Instant::now();
        loop {
            match self.events.recv_timeout(patience.min(LOOK_EVERY)) {
                Ok(seen) => return Ok(seen),
                Err(RecvTimeoutError::Timeout) if started.elapsed() < patience => interrupt::check()?,
                Err(error) => {
                    return Err(io::Error::other(format!("{waits_for}: nothing in {patience:?} ({error})")));
                }
            }
        }
    }

    /// Discards the events so far.
    pub(super) fn forget(&self) {
        self.events.try_iter().for_each(drop);
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // `next` reports a failed thread by its closed channel.
            let _ = thread.join();
        }
    }
}

struct CrowdConnection {
    stream: TcpStream,
    station: IpAddr,
    source: IpAddr,
    /// The beginning of its first message, until that is complete.
    first: Option<Vec<u8>>,
}

struct CrowdLoop {
    epoll: Epoll,
    listener: TcpListener,
    guests: HashMap<u64, CrowdConnection>,
    next: u64,
    sender: Sender<CrowdEvent>,
    bytes: Arc<AtomicU64>,
}

impl CrowdLoop {
    fn serve(&mut self) -> io::Result<()> {
        let mut ready = [EpollEvent::empty(); 64];
        let mut buffer = vec![0; READ];
        loop {
            let count = match self.epoll.wait(&mut ready, EpollTimeout::NONE) {
                Err(nix::Error::EINTR) => continue,
                waited => waited?,
            };
            for event in &ready[..count] {
                match event.data() {
                    STOP => return Ok(()),
                    LISTENER => self.accept()?,
                    guest => self.read(guest, &mut buffer)?,
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let (stream, from) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The connection is gone already.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            let station = stream.local_addr()?.ip();
            self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, self.next))?;
            self.guests
                .insert(self.next, CrowdConnection { stream, station, source: from.ip(), first: Some(Vec::new()) });
            self.next += 1;
        }
    }

    fn read(&mut self, number: u64, buffer: &mut [u8]) -> io::Result<()> {
        let Some(guest) = self.guests.get_mut(&number) else { return Ok(()) };
        let (station, source) = (guest.station, guest.source);
        let tell = |what| {
            // Ignored: the receiver may be dropped already.
            let _ = self.sender.send(CrowdEvent { at: Instant::now(), station, source, what });
        };
        match guest.stream.read(buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Ok(0) | Err(_) => {
                tell(SessionChange::Ended);
                // Closing the stream also removes it from epoll.
                self.guests.remove(&number);
            }
            Ok(read) => {
                self.bytes.fetch_add(read as u64, Ordering::Relaxed);
                if let Some(first) = &mut guest.first {
                    first.extend(&buffer[..read]);
                    if introduced(first)? {
                        guest.first = None;
                        tell(SessionChange::Established);
                    }
                }
            }
        }
        Ok(())
    }
}

/// True if the Initiation is complete.
fn introduced(bytes: &[u8]) -> io::Result<bool> {
    let [version, a, b, c, d, kind, ..] = *bytes else { return Ok(false) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if version != 3 || kind != bmp::INITIATION || length < HEADER {
        return Err(io::Error::other(format!("a session began with version {version}, type {kind}, {length} bytes")));
    }
    Ok(bytes.len() >= length)
}
