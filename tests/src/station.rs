//! A monitoring station that records every message, and can misbehave as real stations do.

mod tuning;

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};
use socket2::{Domain, SockRef, Socket, Type};

use tuning::ListenerTuning;

use crate::{
    bmp::{self, ReceivedFrame},
    netns::Netns,
    tcp_ao::FarKey,
    wait::{PATIENCE, WatchedValue},
};

/// How a station treats its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StationMode {
    /// Reads everything at once.
    #[default]
    Read,
    /// Accepts and reads nothing, so that its TCP window closes.
    Stall,
    /// Reads this many bytes a second from each connection.
    Trickle(usize),
    /// Closes every new connection at once, with FIN.
    Close,
    /// Resets every new connection at once.
    Reset,
    /// Reads. When the sender closes, it keeps its own side open until [`TestStation::close`].
    Linger,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordedEnd {
    /// The sender closed it, with FIN.
    Fin,
    /// The sender reset it, or the kernel gave it up.
    Reset,
    /// The station closed or reset it.
    Ours,
    /// The station closed it, because the bytes are not BMP. The text says why.
    NotBmp(String),
}

/// The station's record of one connection.
#[derive(Clone, Debug)]
pub struct RecordedConnection {
    /// Address of the router, as the station sees it.
    pub peer: SocketAddr,
    /// Every complete message, in order.
    pub frames: Vec<ReceivedFrame>,
    /// Bytes received, including an incomplete message.
    pub bytes: u64,
    /// Bytes of the incomplete message.
    pub unfinished: usize,
    /// How it ended; `None` while it is open.
    pub end: Option<RecordedEnd>,
}

impl RecordedConnection {
    /// Returns the number of messages of type `kind`.
    pub fn count(&self, kind: u8) -> usize {
        self.frames.iter().filter(|frame| frame.kind() == kind).count()
    }

    /// True if a message of type `kind` has arrived.
    pub fn has(&self, kind: u8) -> bool {
        self.frames.iter().any(|frame| frame.kind() == kind)
    }

    /// Returns all messages except Initiation and Termination, as bytes.
    pub fn feed(&self) -> Vec<&[u8]> {
        let of_the_feed = |frame: &&ReceivedFrame| !matches!(frame.kind(), bmp::INITIATION | bmp::TERMINATION);
        self.frames.iter().filter(of_the_feed).map(|frame| &frame.0[..]).collect()
    }

    /// Returns the number of announced IPv4 routes. A route that is announced twice counts twice.
    pub fn announced(&self) -> usize {
        self.frames.iter().filter_map(|frame| Some(frame.update()?.announced.len())).sum()
    }
}

/// A running station.
#[derive(Debug)]
pub struct TestStation {
    netns: Netns,
    address: SocketAddr,
    tuning: ListenerTuning,
    shared: Arc<SharedStation>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct SharedStation {
    state: WatchedValue<StationState>,
    wake: EventFd,
}

#[derive(Debug, Default)]
struct StationState {
    mode: StationMode,
    orders: Vec<StationOrder>,
    /// How many orders were given, and how many are carried out.
    given: u64,
    done: u64,
    connections: Vec<RecordedConnection>,
}

#[derive(Debug)]
enum StationOrder {
    Listen(TcpListener),
    /// A connection that the station opened.
    Follow(TcpStream, SocketAddr),
    Refuse,
    Close,
    Reset,
    Send(Vec<u8>),
    Stop,
}

impl TestStation {
    /// Starts a station that listens on `address` of `netns`.
    pub fn start(netns: &Netns, address: impl Into<SocketAddr>) -> Self {
        Self::launch(netns, address.into(), ListenerTuning::default())
    }

    /// Starts a station that accepts from `router` only segments signed with `secret` (TCP MD5).
    pub fn with_secret(netns: &Netns, address: impl Into<SocketAddr>, router: IpAddr, secret: &str) -> Self {
        let tuning = ListenerTuning { secret: Some((router, secret.to_owned())), ..ListenerTuning::default() };
        Self::launch(netns, address.into(), tuning)
    }

    /// Starts a station with keys of TCP-AO for `router`, for connections in both directions.
    pub fn with_keys(netns: &Netns, address: impl Into<SocketAddr>, router: IpAddr, keys: &[FarKey<'static>]) -> Self {
        let keys = Some((router, keys.to_vec()));
        Self::launch(netns, address.into(), ListenerTuning { keys, ..ListenerTuning::default() })
    }

    /// Starts a station with a receive buffer of about `bytes`, so that its window closes soon when
    /// it stalls.
    pub fn with_receive_buffer(netns: &Netns, address: impl Into<SocketAddr>, bytes: usize) -> Self {
        Self::launch(netns, address.into(), ListenerTuning { receive_buffer: Some(bytes), ..ListenerTuning::default() })
    }

    fn launch(netns: &Netns, address: SocketAddr, tuning: ListenerTuning) -> Self {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).expect("a descriptor is free");
        let shared = Arc::new(SharedStation { state: WatchedValue::default(), wake });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let (open, lingering) = (Vec::new(), Vec::new());
                StationLoop { shared: &shared, listener: None, open, lingering, sipped: Instant::now() }.run()
            }
        });
        let station = Self { netns: netns.clone(), address, tuning, shared, thread: Some(thread) };
        station.listen();
        station
    }

    /// Returns the address and port that the station listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens again on the same address and port. Connections are accepted on return.
    pub fn listen(&self) {
        let listener = self
            .netns
            .enter(|| self.tuning.listener(self.address))
            .unwrap_or_else(|e| panic!("a station cannot listen on {}: {e}", self.address));
        self.order(StationOrder::Listen(listener));
    }

    /// Stops listening: new connections are refused, open ones stay.
    pub fn refuse(&self) {
        self.order(StationOrder::Refuse);
    }

    /// Connects to a passive session at `to`, from the station's address, and records the
    /// connection. Returns its number among [`Self::connections`].
    ///
    /// # Errors
    /// The error of the kernel, or [`ErrorKind::TimedOut`] if nobody answers within `patience`.
    pub fn call(&self, to: impl Into<SocketAddr>, patience: Duration) -> io::Result<usize> {
        let to = to.into();
        let stream = self.netns.enter(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(self.address.ip(), 0).into())?;
            self.tuning.sign(&socket);
            socket.connect_timeout(&to.into(), patience)?;
            io::Result::Ok(TcpStream::from(socket))
        })?;
        let index = self.connections().len();
        self.order(StationOrder::Follow(stream, to));
        Ok(index)
    }

    /// Changes how the station treats its connections from now on. A stalled station resumes
    /// reading.
    pub fn set_mode(&self, mode: StationMode) {
        self.shared.state.change(|state| state.mode = mode);
        self.wake();
    }

    /// Closes all open connections with FIN.
    pub fn close(&self) {
        self.order(StationOrder::Close);
    }

    /// Resets all open connections.
    pub fn reset(&self) {
        self.order(StationOrder::Reset);
    }

    /// Sends bytes on all open connections. A station has no reason to do this (RFC 7854 §3.2).
    pub fn send(&self, bytes: &[u8]) {
        self.order(StationOrder::Send(bytes.to_vec()));
    }

    /// Returns all connections since the start, in order.
    pub fn connections(&self) -> Vec<RecordedConnection> {
        self.shared.state.lock().connections.clone()
    }

    /// Waits until `look` finds something in the connections.
    ///
    /// # Panics
    /// After `patience`, with `what` as the thing that the station did not see.
    pub fn wait_for<R>(
        &self,
        what: &str,
        patience: Duration,
        look: impl FnMut(&[RecordedConnection]) -> Option<R>,
    ) -> R {
        self.look_for(patience, look).unwrap_or_else(|| {
            let seen: Vec<_> = self
                .connections()
                .iter()
                .map(|c| {
                    let kinds: Vec<_> = (0..=bmp::ROUTE_MIRRORING).map(|kind| c.count(kind)).collect();
                    format!("from {}: {} bytes, messages by type {kinds:?}, ended {:?}", c.peer, c.bytes, c.end)
                })
                .collect();
            panic!("the station {} did not see {what} within {patience:?}; it saw {seen:#?}", self.address)
        })
    }

    /// Waits like [`Self::wait_for`], and returns `None` after `patience`.
    pub fn look_for<R>(
        &self,
        patience: Duration,
        mut look: impl FnMut(&[RecordedConnection]) -> Option<R>,
    ) -> Option<R> {
        self.shared.state.wait_for(patience, |state| look(&state.connections))
    }

    /// Waits until connection number `index` (from 0) satisfies `wanted`, and returns its record.
    pub fn wait_connection(
        &self,
        index: usize,
        what: &str,
        wanted: impl Fn(&RecordedConnection) -> bool,
    ) -> RecordedConnection {
        self.wait_for(&format!("{what} on connection {index}"), PATIENCE, |connections| {
            connections.get(index).filter(|connection| wanted(connection)).cloned()
        })
    }

    fn order(&self, order: StationOrder) {
        let number = self.shared.state.change(|state| {
            state.orders.push(order);
            state.given += 1;
            state.given
        });
        self.wake();
        let done = self.shared.state.wait_for(PATIENCE, |state| (state.done >= number).then_some(()));
        assert!(done.is_some(), "the station {} does not answer", self.address);
    }

    fn wake(&self) {
        self.shared.wake.write(1).expect("an event counter takes a one");
    }
}

impl Drop for TestStation {
    fn drop(&mut self) {
        self.shared.state.change(|state| state.orders.push(StationOrder::Stop));
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The event loop of the station's thread.
struct StationLoop<'a> {
    shared: &'a SharedStation,
    listener: Option<TcpListener>,
    open: Vec<OpenConnection>,
    /// Connections that the router has closed and the station has not.
    lingering: Vec<TcpStream>,
    /// Time of the last read in [`StationMode::Trickle`].
    sipped: Instant,
}

/// Interval of reads in [`StationMode::Trickle`], and the reads in a second.
const SIP: (Duration, usize) = (Duration::from_millis(100), 10);

struct OpenConnection {
    /// Index in `StationState::connections`.
    index: usize,
    stream: TcpStream,
    unfinished: BytesMut,
}

impl StationLoop<'_> {
    fn run(mut self) {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let mode = self.shared.state.lock().mode;
            let (accept, ready) = self.poll(mode);
            let orders = self.shared.state.change(|state| std::mem::take(&mut state.orders));
            let count = orders.len() as u64;
            for order in orders {
                match order {
                    StationOrder::Listen(listener) => self.listener = Some(listener),
                    StationOrder::Follow(stream, peer) => self.take(stream, peer, mode),
                    StationOrder::Refuse => self.refuse(),
                    StationOrder::Close => self.end_all(false),
                    StationOrder::Reset => self.end_all(true),
                    StationOrder::Send(bytes) => self.send_all(&bytes),
                    StationOrder::Stop => return,
                }
            }
            if count > 0 {
                self.shared.state.change(|state| state.done += count);
            }
            self.receive(mode, &ready, &mut buffer);
            if accept {
                self.accept();
            }
        }
    }

    /// Waits for an event. Returns whether to accept, and the indices of readable or failed
    /// connections.
    fn poll(&self, mode: StationMode) -> (bool, Vec<usize>) {
        let (reading, timeout) = match mode {
            StationMode::Stall => (PollFlags::empty(), PollTimeout::NONE),
            StationMode::Trickle(_) => (PollFlags::empty(), PollTimeout::try_from(SIP.0).expect("the time is short")),
            _ => (PollFlags::POLLIN, PollTimeout::NONE),
        };
        let mut wanted = vec![PollFd::new(self.shared.wake.as_fd(), PollFlags::POLLIN)];
        wanted.extend(self.open.iter().map(|open| PollFd::new(open.stream.as_fd(), reading)));
        wanted.extend(self.listener.iter().map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN)));
        if poll(&mut wanted, timeout).is_err() {
            return (false, Vec::new());
        }
        let happened = |fd: &PollFd| fd.any().unwrap_or(false);
        let ready = self.open.iter().zip(&wanted[1..]).filter(|(_, fd)| happened(fd)).map(|(open, _)| open.index);
        let accept = self.listener.is_some() && wanted.last().is_some_and(happened);
        let ready = ready.collect();
        if happened(&wanted[0]) {
            let _ = self.shared.wake.read();
        }
        (accept, ready)
    }

    fn accept(&mut self) {
        while let Some(Ok((stream, peer))) = self.listener.as_ref().map(TcpListener::accept) {
            let mode = self.shared.state.lock().mode;
            self.take(stream, peer, mode);
        }
    }

    fn take(&mut self, stream: TcpStream, peer: SocketAddr, mode: StationMode) {
        let connection = RecordedConnection { peer, frames: Vec::new(), bytes: 0, unfinished: 0, end: None };
        let index = self.shared.state.change(|state| {
            state.connections.push(connection);
            state.connections.len() - 1
        });
        match mode {
            StationMode::Read | StationMode::Stall | StationMode::Trickle(_) | StationMode::Linger => {
                if stream.set_nonblocking(true).is_ok() {
                    self.open.push(OpenConnection { index, stream, unfinished: BytesMut::new() });
                }
            }
            StationMode::Close | StationMode::Reset => self.end(index, stream, mode == StationMode::Reset),
        }
    }

    fn end(&self, index: usize, stream: TcpStream, reset: bool) {
        if reset {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        } else {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(stream);
        self.shared.state.change(|state| state.connections[index].end = Some(RecordedEnd::Ours));
    }

    /// Stops listening at once. A close is not enough: between fork and exec, a program that
    /// another test starts holds a copy of every descriptor.
    fn refuse(&mut self) {
        if let Some(listener) = self.listener.take() {
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
        }
    }

    fn end_all(&mut self, reset: bool) {
        for stream in self.lingering.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for open in std::mem::take(&mut self.open) {
            self.end(open.index, open.stream, reset);
        }
    }

    fn send_all(&mut self, bytes: &[u8]) {
        for open in &mut self.open {
            // Partial writes are not tracked, so tests must send little enough for the socket's
            // buffer.
            let sent = open.stream.write(bytes).unwrap_or_default();
            assert_eq!(sent, bytes.len(), "the bytes fit into the socket's buffer");
        }
    }

    fn receive(&mut self, mode: StationMode, ready: &[usize], buffer: &mut [u8]) {
        let (shared, lingering) = (self.shared, &mut self.lingering);
        let (sips, buffer) = match mode {
            StationMode::Trickle(rate) if self.sipped.elapsed() >= SIP.0 => (true, &mut buffer[..rate / SIP.1]),
            _ => (false, buffer),
        };
        if sips {
            self.sipped = Instant::now();
        }
        self.open.retain_mut(|open| {
            let is_ready = ready.contains(&open.index);
            if !is_ready && !sips {
                return true;
            }
            if is_ready && matches!(mode, StationMode::Stall | StationMode::Trickle(_)) {
                // In these modes, `poll` wakes for errors only.
                return open.finish(shared, RecordedEnd::Reset);
            }
            match open.stream.read(buffer) {
                Ok(0) if mode == StationMode::Linger => {
                    lingering.extend(open.stream.try_clone());
                    open.finish(shared, RecordedEnd::Fin)
                }
                Ok(0) => open.finish(shared, RecordedEnd::Fin),
                Ok(n) => open.take(shared, &buffer[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => true,
                Err(_) => open.finish(shared, RecordedEnd::Reset),
            }
        });
    }
}

impl OpenConnection {
    /// Records how the connection ended. Returns false: drop the connection.
    fn finish(&self, shared: &SharedStation, end: RecordedEnd) -> bool {
        shared.state.change(|state| state.connections[self.index].end = Some(end));
        false
    }

    /// Records received bytes. Returns true if the connection stays open.
    fn take(&mut self, shared: &SharedStation, bytes: &[u8]) -> bool {
        self.unfinished.extend_from_slice(bytes);
        shared.state.change(|state| {
            let connection = &mut state.connections[self.index];
            connection.bytes += bytes.len() as u64;
            let result = bmp::split(&mut self.unfinished, &mut connection.frames);
            connection.unfinished = self.unfinished.len();
            match result {
                Ok(()) => true,
                Err(why) => {
                    connection.end = Some(RecordedEnd::NotBmp(why));
                    false
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn lone_station() -> (Netns, TestStation) {
        let netns = Netns::new("station");
        let station = TestStation::start(&netns, (Ipv4Addr::LOCALHOST, 11019));
        (netns, station)
    }

    fn connect(netns: &Netns, station: &TestStation) -> io::Result<TcpStream> {
        netns.enter(|| TcpStream::connect(station.address()))
    }

    #[test]
    fn complete_messages_and_the_end_of_a_connection_are_recorded() {
        let (netns, station) = lone_station();
        let mut stream = connect(&netns, &station).unwrap();
        stream.write_all(&bmp::initiation("here")).unwrap();
        stream.write_all(&bmp::termination()[..4]).unwrap();
        let seen = station.wait_connection(0, "both writes", |c| c.unfinished == 4);
        assert_eq!((seen.peer, seen.frames.len(), &seen.end), (stream.local_addr().unwrap(), 1, &None));
        drop(stream);
        station.wait_connection(0, "FIN", |c| c.end == Some(RecordedEnd::Fin));
    }

    #[test]
    fn a_connection_that_the_station_opens_is_recorded_like_an_accepted_one() {
        let (netns, station) = lone_station();
        let router = netns.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let index = station.call(router.local_addr().unwrap(), PATIENCE).unwrap();
        let (mut stream, from) = router.accept().unwrap();
        assert_eq!(from.ip(), station.address().ip());
        stream.write_all(&bmp::initiation("here")).unwrap();
        station.wait_connection(index, "Initiation", |c| c.has(bmp::INITIATION));
        drop((stream, router));
        station.wait_connection(index, "FIN", |c| c.end == Some(RecordedEnd::Fin));
    }

    #[test]
    fn bytes_that_are_not_bmp_end_the_connection() {
        let (netns, station) = lone_station();
        connect(&netns, &station).unwrap().write_all(b"GET / HTTP/1.1").unwrap();
        station.wait_connection(0, "its end", |c| matches!(c.end, Some(RecordedEnd::NotBmp(_))));
    }

    #[test]
    fn a_station_refuses_closes_resets_and_listens_again() {
        let (netns, station) = lone_station();
        station.refuse();
        assert_eq!(connect(&netns, &station).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        station.listen();
        let mut stream = connect(&netns, &station).unwrap();
        station.wait_connection(0, "the connection", |_| true);
        station.reset();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        station.set_mode(StationMode::Close);
        assert_eq!(connect(&netns, &station).unwrap().read(&mut [0]).unwrap(), 0);
        station.set_mode(StationMode::Reset);
        assert!(connect(&netns, &station).and_then(|mut stream| stream.read(&mut [0])).is_err());
    }

    #[test]
    fn a_stalled_station_closes_its_window_and_resumes_on_request() {
        let netns = Netns::new("station");
        let station = TestStation::with_receive_buffer(&netns, (Ipv4Addr::LOCALHOST, 11019), 4096);
        station.set_mode(StationMode::Stall);
        let mut stream = connect(&netns, &station).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let message = bmp::initiation("here");
        let mut written = 0;
        while stream.write_all(&message).is_ok() {
            written += message.len();
        }
        assert_eq!(station.connections()[0].bytes, 0);
        station.set_mode(StationMode::Trickle(1000));
        let bytes = station.wait_connection(0, "a little", |c| c.bytes > 0).bytes;
        assert!(bytes <= 100 && station.wait_connection(0, "a little more", |c| c.bytes > bytes).bytes <= bytes + 100);
        station.set_mode(StationMode::Read);
        station.wait_connection(0, "all of it", |c| c.bytes >= written as u64);
    }
}
