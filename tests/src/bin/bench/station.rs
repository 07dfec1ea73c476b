//! The counting station: it counts routes and notes when they arrive.

use std::{
    cell::Cell,
    io::{self, Read},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use lab::{netns::Netns, table::RouteSum};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::interrupt::{self, LOOK_EVERY};

/// Bytes of one read: enough for a fast link.
const READ: usize = 1 << 20;
/// A pause of this length leaves time to count.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);
/// Size of the buffer for bytes that wait to be counted.
const ROOM: usize = 192 << 20;
/// Size of the buffer of one station among many, which counts whenever it is full.
pub(crate) const SOME_ROOM: usize = 2 * READ;
const COMMON: usize = 6;
const PER_PEER: usize = 42;
const BGP: usize = 19;
const MP_REACH: u8 = 14;
const MP_UNREACH: u8 = 15;

/// Count of one connection, up to the last expected route.
#[derive(Clone, Debug)]
pub(crate) struct RouteCount {
    /// Time from accept to the last route.
    pub(crate) since_accept: Duration,
    /// Arrival of the last route.
    pub(crate) last: Instant,
    pub(crate) sum: RouteSum,
    /// Checksum of the prefixes alone.
    pub(crate) prefixes: RouteSum,
    pub(crate) messages: u64,
    /// Number of messages that announce routes.
    pub(crate) announcing: u64,
    pub(crate) bytes: u64,
}

/// A station that accepts one connection after the other.
pub(crate) struct CountingStation {
    listener: TcpListener,
    /// The TLS of its connections, if they have one.
    tls: Option<Arc<ServerConfig>>,
}

impl CountingStation {
    /// Listens in a namespace. Sessions that failed to connect before will retry.
    pub(crate) fn listen(netns: &Netns, address: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: netns.enter(|| TcpListener::bind(address))?, tls: None })
    }

    /// Takes connections with TLS alone.
    pub(crate) fn with_tls(self, config: Arc<ServerConfig>) -> Self {
        Self { tls: Some(config), ..self }
    }

    /// Accepts the next connection.
    pub(crate) fn accept(&self, patience: Duration) -> io::Result<TcpStream> {
        let started = Instant::now();
        self.listener.set_nonblocking(true)?;
        let accepted = loop {
            interrupt::check()?;
            match self.listener.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && started.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    break Err(io::Error::other(format!("no connection arrived in {patience:?}")));
                }
                accepted => break accepted,
            }
        };
        self.listener.set_nonblocking(false)?;
        Ok(accepted?.0)
    }

    /// Accepts the next connection, and counts until this many routes have arrived. The rest is
    /// discarded, until the returned value is dropped.
    pub(crate) fn count(&self, routes: u64) -> io::Result<CountedConnection> {
        self.count_in(ROOM, routes)
    }

    /// Counts like [`Self::count`], in a small buffer, for one station among many.
    pub(crate) fn count_on_the_way(&self, routes: u64) -> io::Result<CountedConnection> {
        self.count_in(SOME_ROOM, routes)
    }

    fn count_in(&self, room: usize, routes: u64) -> io::Result<CountedConnection> {
        // Nonzero bytes, so that the kernel need not find memory during the measurement.
        let mut room = vec![1; room];
        let (listener, waiting) = (self.listener.try_clone()?, self.listener.try_clone()?);
        let (sender, receiver) = sync_channel(2);
        let (end, ended) = sync_channel(0);
        let tls = self.tls.clone();
        std::thread::spawn(move || {
            if let Err(error) = follow(listener, tls, &mut room, routes, &sender, &ended) {
                // Ignored: the counting may be dropped already.
                let _ = sender.send(Err(error));
            }
        });
        Ok(CountedConnection { receiver, waiting: Cell::new(Some(waiting)), _end: end })
    }
}

/// A connection that is being counted. Dropping it closes the connection.
pub(crate) struct CountedConnection {
    receiver: Receiver<io::Result<CountEvent>>,
    /// The listener, while nobody has connected.
    waiting: Cell<Option<TcpListener>>,
    _end: SyncSender<()>,
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        // Nobody connected, so free the port for others.
        if let Some(listener) = self.waiting.take() {
            let _ = socket2::SockRef::from(&listener).shutdown(Shutdown::Both);
        }
    }
}

enum CountEvent {
    Connected,
    Done(RouteCount),
}

impl CountedConnection {
    /// Waits until a subject has connected.
    pub(crate) fn wait_connected(&self, patience: Duration) -> io::Result<()> {
        self.wait(patience, "a connection").map(drop)
    }

    /// Waits until all routes have arrived.
    pub(crate) fn wait_done(&self, patience: Duration) -> io::Result<RouteCount> {
        loop {
            if let CountEvent::Done(counted) = self.wait(patience, "the last route")? {
                return Ok(counted);
            }
        }
    }

    fn wait(&self, patience: Duration, what: &str) -> io::Result<CountEvent> {
        let started = Instant::now();
        loop {
            match self.receiver.recv_timeout(patience.min(LOOK_EVERY)) {
                Ok(event) => {
                    self.waiting.take();
                    return event;
                }
                Err(RecvTimeoutError::Timeout) if started.elapsed() < patience => interrupt::check()?,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(io::Error::other(format!("{what} did not arrive in {patience:?}")));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other(format!("{what} did not arrive: the connection ended")));
                }
            }
        }
    }
}

fn follow(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    room: &mut [u8],
    routes: u64,
    sender: &SyncSender<io::Result<CountEvent>>,
    ended: &Receiver<()>,
) -> io::Result<()> {
    let (socket, _) = listener.accept()?;
    let accepted = Instant::now();
    // The next listener on this port must not wait for the end of this connection.
    drop(listener);
    // Ignored: the caller may not wait for this.
    let _ = sender.send(Ok(CountEvent::Connected));
    socket.set_read_timeout(Some(PAUSE))?;
    let mut stream: Box<dyn Read> = match tls {
        Some(config) => Box::new(decrypting(socket, config)?),
        None => Box::new(socket),
    };
    let mut reader = BenchReader::default();
    let last = reader.read(&mut stream, room, routes)?;
    let BenchReader { sum, prefixes, messages, announcing, bytes, .. } = reader;
    let counted = RouteCount { since_accept: last - accepted, last, sum, prefixes, messages, announcing, bytes };
    let _ = sender.send(Ok(CountEvent::Done(counted)));
    // Keep the connection open: a subject would notice a closed one and connect again.
    let mut scrap = vec![0; READ];
    loop {
        if matches!(ended.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected)) {
            return Ok(());
        }
        match stream.read(&mut scrap) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(_) => return Ok(()),
        }
    }
}

fn decrypting(socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
    Ok(StreamOwned::new(ServerConnection::new(config).map_err(io::Error::other)?, socket))
}

/// Accepts a connection with TLS, reads this many bytes of it, and returns how long that took.
///
/// As [`BenchReader::read`] does, it keeps the bytes: memory that is new to the processor's caches
/// takes time, of which both have the same.
pub(crate) fn read_encrypted(
    accept: impl FnOnce() -> io::Result<TcpStream>,
    config: Arc<ServerConfig>,
    size: usize,
) -> io::Result<Duration> {
    let mut room = vec![1; ROOM.max(size)];
    let socket = accept()?;
    let accepted = Instant::now();
    let mut stream = decrypting(socket, config)?;
    let mut received = 0;
    while received < size {
        match stream.read(&mut room[received..size.min(received + READ)])? {
            0 => break,
            read => received += read,
        }
    }
    Ok(accepted.elapsed())
}

/// Counts received messages.
#[derive(Debug, Default)]
pub(crate) struct BenchReader {
    pub(crate) sum: RouteSum,
    pub(crate) prefixes: RouteSum,
    /// Checksum of withdrawn prefixes.
    pub(crate) withdrawn: RouteSum,
    pub(crate) messages: u64,
    /// Number of messages that announce routes.
    pub(crate) announcing: u64,
    pub(crate) bytes: u64,
}

impl BenchReader {
    /// Reads until this many routes were announced. Returns the arrival of the last one. Reads must
    /// end with an error when nothing comes for [`PAUSE`].
    ///
    /// Counting is slower than some subjects send, and must not be measured. So received bytes wait
    /// in a buffer, with their times, until a pause comes or the buffer is full.
    pub(crate) fn read(&mut self, stream: &mut impl Read, room: &mut [u8], routes: u64) -> io::Result<Instant> {
        let mut filled = 0;
        let mut reads: Vec<(usize, Instant)> = Vec::with_capacity(1 << 16);
        loop {
            let end = room.len().min(filled + READ);
            let ended = match stream.read(&mut room[filled..end]) {
                Ok(0) => true,
                Ok(read) => {
                    filled += read;
                    reads.push((filled, Instant::now()));
                    if filled < room.len() {
                        continue;
                    }
                    false
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => false,
                Err(error) => return Err(error),
            };
            let (used, reached) = self.take_until(&room[..filled], routes);
            if let Some(at) = reached {
                let came = reads.iter().find(|(end, _)| *end >= at).map(|(_, when)| *when);
                return came.ok_or_else(|| io::Error::other("no time for the last route"));
            }
            if ended {
                let have = self.sum.routes;
                return Err(io::Error::other(format!("the connection ended after {have} of {routes} routes")));
            }
            room.copy_within(used..filled, 0);
            filled -= used;
            // The rest is part of a message, and arrived with the last read.
            reads.clear();
        }
    }

    /// Counts the complete messages at the start of `bytes`, and returns their length.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> usize {
        self.take_until(bytes, u64::MAX).0
    }

    /// Counts like [`Self::take`], and returns also the end of the message that completed this many
    /// routes.
    fn take_until(&mut self, bytes: &[u8], routes: u64) -> (usize, Option<usize>) {
        let (mut at, mut reached) = (0, None);
        while let Some(length) = length(&bytes[at..]) {
            let Some(frame) = bytes[at..].get(..length) else { break };
            self.frame(frame);
            at += length;
            if reached.is_none() && self.sum.routes >= routes {
                reached = Some(at);
            }
        }
        self.bytes += at as u64;
        (at, reached)
    }

    fn frame(&mut self, frame: &[u8]) {
        self.messages += 1;
        let Some(update) = frame.get(COMMON + PER_PEER + BGP..).filter(|_| frame[5] == 0) else { return };
        let Some((withdrawn, rest)) = field(update) else { return };
        let Some((attributes, nlri)) = field(rest) else { return };
        self.withdrawn.add_all(withdrawn, &[]);
        let before = self.sum.routes;
        if !nlri.is_empty() {
            self.routes(nlri, attributes);
        }
        if let Some(nlri) = ipv4_of(MP_REACH, attributes) {
            self.routes(nlri, attributes);
        }
        if let Some(nlri) = ipv4_of(MP_UNREACH, attributes) {
            self.withdrawn.add_all(nlri, &[]);
        }
        self.announcing += u64::from(self.sum.routes > before);
    }

    fn routes(&mut self, nlri: &[u8], attributes: &[u8]) {
        self.sum.add_all(nlri, attributes);
        self.prefixes.add_all(nlri, &[]);
    }
}

/// Returns the length of the BMP message at the start of `bytes`, if it is readable.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(1..5)?;
    Some(u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize)
}

fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Finds IPv4 unicast routes in MP_REACH_NLRI (RFC 4760 §3) or MP_UNREACH_NLRI (§4), where some
/// daemons put them.
fn ipv4_of(wanted: u8, mut attributes: &[u8]) -> Option<&[u8]> {
    loop {
        let [flags, kind, rest @ ..] = attributes else { return None };
        let (value, rest) = if flags & 0x10 == 0 {
            let (length, rest) = rest.split_first()?;
            rest.split_at_checked(usize::from(*length))?
        } else {
            field(rest)?
        };
        if *kind == wanted {
            let [0, 1, 1, rest @ ..] = value else { return None };
            if wanted == MP_UNREACH {
                return Some(rest);
            }
            let (next_hop, rest) = rest.split_first()?;
            return rest.get(usize::from(*next_hop) + 1..);
        }
        attributes = rest;
    }
}
