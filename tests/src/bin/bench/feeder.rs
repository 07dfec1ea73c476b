//! The BGP peer of the benchmarks: one session, and a table that is encoded before the clock
//! starts.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lab::{bgp, netns::Netns};
use socket2::{Domain, Socket, Type};

use crate::interrupt;

/// How long a subject may take to accept the session.
const PATIENCE: Duration = Duration::from_secs(60);
/// Interval of KEEPALIVE messages, within any hold time.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);

/// An established session.
pub(crate) struct BgpFeeder {
    stream: Arc<Mutex<TcpStream>>,
}

impl BgpFeeder {
    /// Connects as soon as the subject listens, and establishes the session.
    pub(crate) fn connect(netns: &Netns, local: Ipv4Addr, asn: u32, subject: SocketAddr) -> io::Result<Self> {
        let started = Instant::now();
        loop {
            interrupt::check()?;
            match netns.enter(|| establish(local, asn, subject)) {
                Ok(stream) => {
                    discard(stream.try_clone()?);
                    let stream = Arc::new(Mutex::new(stream));
                    keep_alive(Arc::clone(&stream));
                    return Ok(Self { stream });
                }
                Err(error) if started.elapsed() > PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Sends messages. Returns the time at which it began.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<Instant> {
        let started = Instant::now();
        lock(&self.stream).write_all(bytes)?;
        Ok(started)
    }
}

impl Drop for BgpFeeder {
    fn drop(&mut self) {
        let _ = lock(&self.stream).shutdown(std::net::Shutdown::Both);
    }
}

fn establish(local: Ipv4Addr, asn: u32, subject: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((local, 0)).into())?;
    socket.connect_timeout(&subject.into(), Duration::from_secs(2))?;
    let mut stream = TcpStream::from(socket);
    // As BGP daemons do.
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&bgp::open(asn, local))?;
    expect(&mut stream, 1)?;
    stream.write_all(&bgp::keepalive())?;
    expect(&mut stream, 4)?;
    stream.set_read_timeout(None)?;
    Ok(stream)
}

fn expect(stream: &mut TcpStream, kind: u8) -> io::Result<()> {
    let mut header = [0; 19];
    stream.read_exact(&mut header)?;
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    stream.read_exact(&mut vec![0; length.saturating_sub(19)])?;
    if header[18] == kind { Ok(()) } else { Err(io::Error::other(format!("message of type {}", header[18]))) }
}

/// Reads and discards the subject's messages.
fn discard(mut stream: TcpStream) {
    std::thread::spawn(move || {
        let mut scrap = [0; 4096];
        while matches!(stream.read(&mut scrap), Ok(read) if read > 0) {}
    });
}

/// Sends KEEPALIVE messages between other messages, until the connection ends.
fn keep_alive(stream: Arc<Mutex<TcpStream>>) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(KEEPALIVE_EVERY);
            if lock(&stream).write_all(&bgp::keepalive()).is_err() {
                return;
            }
        }
    });
}

fn lock(stream: &Mutex<TcpStream>) -> MutexGuard<'_, TcpStream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}
