//! Traffic: bulk over one TCP connection, many short connections, or single datagrams, by sockets
//! in a cgroup or in none.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use lab::{kernel::TestCgroup, netns::Netns};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::links::{BenchLinks, STATION};

/// Bytes of one write and one read.
const CHUNK: usize = 256 * 1024;
/// Bytes of a message, about those of a BMP message with one route.
const MESSAGE: usize = 130;
/// Datagrams in one series.
const DATAGRAMS: u32 = 500;
/// Series of datagrams.
const TIMES: usize = 20;

/// The cgroups of both ends, to which programs may be attached, and their processors.
#[derive(Clone, Copy, Default)]
pub(crate) struct EndCgroups<'a> {
    pub(crate) sender: Option<&'a TestCgroup>,
    pub(crate) receiver: Option<&'a TestCgroup>,
    /// Gives the receiver its own processor. On a shared processor, all work adds to the time, and
    /// waiting between processors does not.
    pub(crate) apart: bool,
}

/// Runs `work` with the process in a cgroup, if there is one.
fn inside<R>(cgroup: Option<&TestCgroup>, work: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
    match cgroup {
        Some(cgroup) => cgroup.within(work)?,
        None => work(),
    }
}

/// Keeps a thread on one processor, if there are two: otherwise chance decides whether sender and
/// receiver share one. Raises its priority above other programs, as far as allowed.
pub(crate) fn stay_on(processor: usize) {
    // SAFETY: the call takes three numbers; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    if thread::available_parallelism().is_ok_and(|there| there.get() >= 2) {
        let mut set = CpuSet::new();
        // Ignored: without permission, it runs anywhere.
        let _ = set.set(processor).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    }
}

fn listen(station: &Netns, port: u16, cgroup: Option<&TestCgroup>) -> io::Result<TcpListener> {
    inside(cgroup, || station.enter(|| TcpListener::bind((STATION, port))))
}

/// Sends bytes from the router to the station over a new connection. Returns the time until the
/// last arrived.
pub(crate) fn bulk(links: &BenchLinks, port: u16, bytes: usize, ends: EndCgroups<'_>) -> io::Result<Duration> {
    send(links, port, bytes, CHUNK, ends)
}

/// Sends small messages, each in its own packet if the receiver keeps up.
pub(crate) fn messages(links: &BenchLinks, port: u16, count: usize, ends: EndCgroups<'_>) -> io::Result<Duration> {
    send(links, port, count * MESSAGE, MESSAGE, ends)
}

/// Sends bytes in writes of `at_once`.
fn send(links: &BenchLinks, port: u16, bytes: usize, at_once: usize, ends: EndCgroups<'_>) -> io::Result<Duration> {
    let listener = listen(&links.station, port, ends.receiver)?;
    let apart = ends.apart;
    let receiving: JoinHandle<io::Result<(usize, Instant)>> = thread::spawn(move || {
        stay_on(usize::from(apart));
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; CHUNK];
        let mut received = 0;
        while received < bytes {
            match stream.read(&mut buffer)? {
                0 => break,
                read => received += read,
            }
        }
        Ok((received, Instant::now()))
    });
    let mut stream = inside(ends.sender, || connect(links, port))?;
    stream.set_nodelay(true)?;
    let sending = thread::spawn(move || -> io::Result<Instant> {
        stay_on(0);
        let chunk = vec![0; at_once];
        let mut left = bytes;
        let began = Instant::now();
        while left > 0 {
            let part = left.min(at_once);
            stream.write_all(&chunk[..part])?;
            left -= part;
        }
        Ok(began)
    });
    let failed = |_| io::Error::other("a thread that sends or receives has failed");
    let began = sending.join().map_err(failed)??;
    let (received, ended) = receiving.join().map_err(failed)??;
    if received == bytes {
        Ok(ended - began)
    } else {
        Err(io::Error::other(format!("{received} of {bytes} bytes arrived")))
    }
}

fn connect(links: &BenchLinks, port: u16) -> io::Result<TcpStream> {
    links.router.enter(|| TcpStream::connect(SocketAddr::from((STATION, port))))
}

/// A connection for bursts of the same size.
pub(crate) struct BurstConnection {
    stream: TcpStream,
    bytes: usize,
    receiving: Option<JoinHandle<io::Result<()>>>,
}

impl BurstConnection {
    /// Opens it from the router to the station.
    pub(crate) fn open(links: &BenchLinks, port: u16, bytes: usize, ends: EndCgroups<'_>) -> io::Result<Self> {
        let listener = listen(&links.station, port, ends.receiver)?;
        let stream = inside(ends.sender, || connect(links, port))?;
        let (mut accepted, _) = listener.accept()?;
        let apart = ends.apart;
        let receiving = thread::spawn(move || {
            stay_on(usize::from(apart));
            let mut buffer = vec![0; CHUNK];
            let mut received = 0;
            loop {
                match accepted.read(&mut buffer)? {
                    0 => return Ok(()),
                    read => received += read,
                }
                if received >= bytes {
                    received -= bytes;
                    accepted.write_all(&[0])?;
                }
            }
        });
        Ok(Self { stream, bytes, receiving: Some(receiving) })
    }

    /// Sends a burst. Returns the time until the other end confirmed all of it.
    pub(crate) fn burst(&mut self) -> io::Result<Duration> {
        let chunk = vec![0; CHUNK];
        let mut left = self.bytes;
        let began = Instant::now();
        while left > 0 {
            let part = left.min(CHUNK);
            self.stream.write_all(&chunk[..part])?;
            left -= part;
        }
        self.stream.read_exact(&mut [0])?;
        Ok(began.elapsed())
    }
}

impl Drop for BurstConnection {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(receiving) = self.receiving.take() {
            // The last burst has reported a failure there.
            let _ = receiving.join();
        }
    }
}

/// Opens and closes connections, one after the other, to the station's address or to its
/// IPv4-mapped form (`::ffff:…`).
pub(crate) fn connections(links: &BenchLinks, to: SocketAddr, count: usize, cgroup: &TestCgroup) -> io::Result<()> {
    let listener = listen(&links.station, to.port(), None)?;
    inside(Some(cgroup), || {
        links.router.enter(|| {
            (0..count).try_for_each(|_| {
                let stream = TcpStream::connect(to)?;
                drop(listener.accept()?);
                drop(stream);
                Ok(())
            })
        })
    })
}

/// Sockets for single datagrams. Nobody reads them: a full buffer costs the sender no more than an
/// empty one.
pub(crate) struct DatagramSockets {
    outside: UdpSocket,
    inside: UdpSocket,
    _station: UdpSocket,
}

impl DatagramSockets {
    pub(crate) fn new(links: &BenchLinks, port: u16, cgroup: &TestCgroup) -> io::Result<Self> {
        let station = links.station.enter(|| UdpSocket::bind((STATION, port)))?;
        let socket = || {
            links.router.enter(|| {
                let socket = UdpSocket::bind(("0.0.0.0", 0))?;
                socket.connect((STATION, port))?;
                Ok::<_, io::Error>(socket)
            })
        };
        Ok(Self { outside: socket()?, inside: inside(Some(cgroup), socket)?, _station: station })
    }

    /// Sends series of datagrams by a socket in the cgroup or by another. Returns the nanoseconds
    /// of one datagram in the best series: other load can only slow it.
    pub(crate) fn send(&self, inside: bool) -> io::Result<f64> {
        let socket = if inside { &self.inside } else { &self.outside };
        let some = || -> io::Result<f64> {
            let began = Instant::now();
            for _ in 0..DATAGRAMS {
                socket.send(&[0; 64])?;
            }
            Ok(began.elapsed().as_nanos() as f64 / f64::from(DATAGRAMS))
        };
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                stay_on(0);
                (0..TIMES).try_fold(f64::INFINITY, |best, _| Ok(some()?.min(best)))
            });
            sending.join().map_err(|_| io::Error::other("a thread that sends has failed"))?
        })
    }
}
