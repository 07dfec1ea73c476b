//! What is sent: much over one TCP connection, many short connections, or single datagrams; by sockets of a cgroup, or of none.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use lab::{kernel::Cgroup, netns::Netns};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::links::{Links, STATION};

/// What is written and read at once.
const CHUNK: usize = 256 * 1024;
/// About as long as a BMP message with one route.
const MESSAGE: usize = 130;
/// How many datagrams are sent at a time, and how often.
const DATAGRAMS: u32 = 500;
const TIMES: usize = 20;

/// Whose sockets are of a cgroup that programs may be attached to, and where the two run.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ends<'a> {
    pub(crate) sender: Option<&'a Cgroup>,
    pub(crate) receiver: Option<&'a Cgroup>,
    /// The receiver has a processor of its own. Where both have the same, all the work that there is takes its time, and not how two processors
    /// wait for each other and for each other's memory.
    pub(crate) apart: bool,
}

/// Does this with the process in a cgroup, if there is one.
fn inside<R>(cgroup: Option<&Cgroup>, work: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
    match cgroup {
        Some(cgroup) => cgroup.within(work)?,
        None => work(),
    }
}

/// Has a thread stay on one processor, where there are two: otherwise it is chance whether sender and receiver share one. What else runs on the
/// machine comes after it, as far as it may have that.
pub(crate) fn stay_on(processor: usize) {
    // SAFETY: takes three numbers; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    if thread::available_parallelism().is_ok_and(|there| there.get() >= 2) {
        let mut set = CpuSet::new();
        // Where it may not, it runs where it likes.
        let _ = set.set(processor).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    }
}

fn listen(station: &Netns, port: u16, cgroup: Option<&Cgroup>) -> io::Result<TcpListener> {
    inside(cgroup, || station.enter(|| TcpListener::bind((STATION, port))))
}

/// Sends so many bytes from the router to the station over a new connection, as fast as it goes. Says how long it took until the last was there.
pub(crate) fn bulk(links: &Links, port: u16, bytes: usize, ends: Ends<'_>) -> io::Result<Duration> {
    send(links, port, bytes, CHUNK, ends)
}

/// The same, in messages of their own, each in a packet of its own where the receiver keeps up.
pub(crate) fn messages(links: &Links, port: u16, count: usize, ends: Ends<'_>) -> io::Result<Duration> {
    send(links, port, count * MESSAGE, MESSAGE, ends)
}

/// The same, so much at a time.
fn send(links: &Links, port: u16, bytes: usize, at_once: usize, ends: Ends<'_>) -> io::Result<Duration> {
    let listener = listen(&links.station, port, ends.receiver)?;
    let apart = ends.apart;
    let receiving: JoinHandle<io::Result<(usize, Instant)>> = thread::spawn(move || {
        stay_on(usize::from(apart));
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; CHUNK];
        let mut taken = 0;
        while taken < bytes {
            match stream.read(&mut buffer)? {
                0 => break,
                read => taken += read,
            }
        }
        Ok((taken, Instant::now()))
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
    let (taken, ended) = receiving.join().map_err(failed)??;
    if taken == bytes { Ok(ended - began) } else { Err(io::Error::other(format!("{taken} of {bytes} bytes came"))) }
}

fn connect(links: &Links, port: u16) -> io::Result<TcpStream> {
    links.router.enter(|| TcpStream::connect(SocketAddr::from((STATION, port))))
}

/// A connection over which bursts go, each of the same size.
pub(crate) struct Line {
    stream: TcpStream,
    bytes: usize,
    receiving: Option<JoinHandle<io::Result<()>>>,
}

impl Line {
    /// From the router to the station.
    pub(crate) fn open(links: &Links, port: u16, bytes: usize, ends: Ends<'_>) -> io::Result<Self> {
        let listener = listen(&links.station, port, ends.receiver)?;
        let stream = inside(ends.sender, || connect(links, port))?;
        let (mut accepted, _) = listener.accept()?;
        let apart = ends.apart;
        let receiving = thread::spawn(move || {
            stay_on(usize::from(apart));
            let mut buffer = vec![0; CHUNK];
            let mut taken = 0;
            loop {
                match accepted.read(&mut buffer)? {
                    0 => return Ok(()),
                    read => taken += read,
                }
                if taken >= bytes {
                    taken -= bytes;
                    accepted.write_all(&[0])?;
                }
            }
        });
        Ok(Self { stream, bytes, receiving: Some(receiving) })
    }

    /// Says how long it took until the other end said that all had come.
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

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(receiving) = self.receiving.take() {
            // What has failed there has been told by the last burst.
            let _ = receiving.join();
        }
    }
}

/// Opens and closes so many connections, one after the other: to the station's address, or to the same as an IPv6 socket is told it (`::ffff:…`).
pub(crate) fn connections(links: &Links, to: SocketAddr, count: usize, cgroup: &Cgroup) -> io::Result<()> {
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

/// Sockets between which single datagrams are sent. Nobody reads them: what is full takes no longer than what is not.
pub(crate) struct Datagrams {
    outside: UdpSocket,
    inside: UdpSocket,
    _station: UdpSocket,
}

impl Datagrams {
    pub(crate) fn new(links: &Links, port: u16, cgroup: &Cgroup) -> io::Result<Self> {
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

    /// Sends some, several times, by a socket of the cgroup or by one of none. Says how many nanoseconds each took when it went best: what else
    /// runs on the machine can only make it longer.
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
