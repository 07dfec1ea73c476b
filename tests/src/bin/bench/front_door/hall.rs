//! A station with many connections, which counts what each of them was sent.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, ErrorKind, Read as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use bytes::BytesMut;
use lab::{
    bmp::{self, ReceivedFrame},
    netns::Netns,
};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use socket2::{Domain, Socket, Type};

/// Connections that may arrive at the same moment.
const BACKLOG: i32 = 1024;
const LISTENER: u64 = u64::MAX;
/// How long the station waits for bytes before it looks whether it is to stop, in milliseconds.
const LOOK_EVERY: u16 = 100;

/// A station. Dropping it closes all connections.
pub(super) struct StationHall {
    counted: Arc<Mutex<StationCounts>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct StationCounts {
    connections: usize,
    /// Announced routes.
    routes: u64,
    /// Bytes by sysName of the connection's Initiation.
    bytes: BTreeMap<String, u64>,
}

impl StationHall {
    pub(super) fn listen(netns: &Netns, address: SocketAddr) -> io::Result<Self> {
        let listener = netns.enter(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok::<_, io::Error>(TcpListener::from(socket))
        })?;
        let (counted, stop) = (Arc::<Mutex<StationCounts>>::default(), Arc::<AtomicBool>::default());
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        let mut hall = HallLoop { epoll, listener, open: HashMap::new(), next: 0, counted: Arc::clone(&counted) };
        let until = Arc::clone(&stop);
        let thread = Some(std::thread::spawn(move || hall.serve(&until)));
        Ok(Self { counted, stop, thread })
    }

    /// Returns how many routes were announced on all connections.
    pub(super) fn routes(&self) -> u64 {
        lock(&self.counted).routes
    }

    /// Returns how many connections there have been.
    pub(super) fn connections(&self) -> usize {
        lock(&self.counted).connections
    }

    /// Returns the bytes that the connections were sent, by sysName.
    pub(super) fn bytes_by_router(&self) -> BTreeMap<String, u64> {
        lock(&self.counted).bytes.clone()
    }
}

impl Drop for StationHall {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A station that has failed lacks routes, which the benchmark waits for.
            let _ = thread.join();
        }
    }
}

fn lock(counted: &Mutex<StationCounts>) -> MutexGuard<'_, StationCounts> {
    counted.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns sysName of the Initiation that a stream begins with.
pub(super) fn name_of(stream: &[u8]) -> String {
    let mut frames = Vec::new();
    // What is wrong behind the Initiation does not matter here.
    let _ = bmp::split(&mut BytesMut::from(stream), &mut frames);
    frames.first().and_then(ReceivedFrame::sys_name).unwrap_or_default()
}

#[derive(Debug)]
struct HallConnection {
    stream: TcpStream,
    buffer: BytesMut,
    name: Option<String>,
}

struct HallLoop {
    epoll: Epoll,
    listener: TcpListener,
    open: HashMap<u64, HallConnection>,
    next: u64,
    counted: Arc<Mutex<StationCounts>>,
}

impl HallLoop {
    fn serve(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        while !stop.load(Ordering::Relaxed) {
            let ready = match self.epoll.wait(&mut events, LOOK_EVERY) {
                Ok(ready) => ready,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for event in events.iter().take(ready) {
                match event.data() {
                    LISTENER => self.accept()?,
                    number => self.read(number)?,
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, self.next))?;
                    self.open.insert(self.next, HallConnection { stream, buffer: BytesMut::new(), name: None });
                    self.next += 1;
                    lock(&self.counted).connections += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn read(&mut self, number: u64) -> io::Result<()> {
        let Some(connection) = self.open.get_mut(&number) else { return Ok(()) };
        let mut bytes = [0; 64 * 1024];
        match connection.stream.read(&mut bytes) {
            Ok(0) => drop(self.open.remove(&number)),
            Ok(read) => {
                connection.buffer.extend_from_slice(&bytes[..read]);
                let mut frames = Vec::new();
                bmp::split(&mut connection.buffer, &mut frames).map_err(io::Error::other)?;
                if connection.name.is_none() {
                    connection.name = frames.first().and_then(ReceivedFrame::sys_name);
                }
                let announced = |frame: &ReceivedFrame| Some(frame.update()?.announced.len() as u64);
                let mut counted = lock(&self.counted);
                counted.routes += frames.iter().filter_map(announced).sum::<u64>();
                let name = connection.name.clone().unwrap_or_default();
                *counted.bytes.entry(name).or_default() += read as u64;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => drop(self.open.remove(&number)),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
