//! A minimal BGP speaker: announces one table to one neighbour and keeps the session up.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::{
    bgp::{self, Ipv4Prefix},
    netns::Netns,
    wait::{PATIENCE, until},
};

/// Routes in one UPDATE: the /24 prefixes that fit into 4,096 bytes beside the attributes.
const PER_UPDATE: usize = 900;
/// Interval of KEEPALIVE messages, well within the hold time of every test.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// Read timeout, after which the thread looks at its stop flag.
const TURN: Duration = Duration::from_millis(100);

/// A running speaker. Dropping it closes the session.
#[derive(Debug)]
pub struct LabBgpSpeaker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LabBgpSpeaker {
    /// Connects from `local` to the BGP daemon at `neighbour`, once that listens, and announces
    /// `routes` with next hop `local`. The whole table and End-of-RIB are sent on return.
    pub fn announce(netns: &Netns, local: Ipv4Addr, asn: u32, neighbour: SocketAddr, routes: &[Ipv4Prefix]) -> Self {
        let mut stream = until(&format!("BGP session from {local} to {neighbour}"), PATIENCE, || {
            let stream = netns.enter(|| connect(local, neighbour)).ok()?;
            // A daemon that is not ready yet accepts the connection and closes it.
            open(stream, local, asn)
        });
        for routes in routes.chunks(PER_UPDATE) {
            send(&mut stream, &bgp::announce(routes, asn, local));
        }
        send(&mut stream, &bgp::end_of_rib());
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || hold(stream, &stop)
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for LabBgpSpeaker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One BGP connection, read and written message by message.
#[derive(Debug)]
pub struct LabBgpConnection(TcpStream);

impl LabBgpConnection {
    /// Connects from `local`, until `neighbour` sends an OPEN. A daemon that is not ready yet
    /// accepts the connection and closes it.
    ///
    /// # Panics
    /// If `neighbour` sends no OPEN within [`PATIENCE`].
    pub fn connect(netns: &Netns, local: Ipv4Addr, neighbour: SocketAddr) -> Self {
        let what = format!("BGP connection from {local} to {neighbour}");
        Self(until(&what, PATIENCE, || {
            let stream = netns.enter(|| connect(local, neighbour)).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            let mut header = [0; 19];
            (stream.peek(&mut header).ok()? == 19 && header[18] == bgp::OPEN).then_some(stream)
        }))
    }

    /// Connects once from `local`, whatever `neighbour` sends then.
    ///
    /// # Panics
    /// If `neighbour` does not listen.
    pub fn dial(netns: &Netns, local: Ipv4Addr, neighbour: SocketAddr) -> Self {
        Self(netns.enter(|| connect(local, neighbour)).expect("the neighbour listens"))
    }

    /// Takes a connection that is open already.
    pub fn over(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Accepts the next connection.
    ///
    /// # Panics
    /// If the listener is closed.
    pub fn accept(listener: &TcpListener) -> Self {
        Self(listener.accept().expect("the listener is open").0)
    }

    /// Returns its local port.
    pub fn port(&self) -> u16 {
        self.0.local_addr().expect("the stream is connected").port()
    }

    /// Sends a message.
    pub fn send(&mut self, message: &[u8]) {
        send(&mut self.0, message);
    }

    /// Sends messages.
    ///
    /// # Errors
    /// If the neighbour has closed the connection.
    pub fn try_send(&mut self, messages: &[u8]) -> std::io::Result<()> {
        self.0.write_all(messages)
    }

    /// Waits for the next message. Returns its type and its body, or `None` at the end of the
    /// connection.
    pub fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        self.0.set_read_timeout(Some(PATIENCE)).expect("a timeout is set");
        let mut header = [0; 19];
        self.0.read_exact(&mut header).ok()?;
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let mut body = vec![0; length.checked_sub(19)?];
        self.0.read_exact(&mut body).ok()?;
        Some((header[18], body))
    }
}

fn connect(local: Ipv4Addr, neighbour: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((local, 0)).into())?;
    socket.connect_timeout(&neighbour.into(), Duration::from_secs(5))?;
    Ok(socket.into())
}

fn open(stream: TcpStream, local: Ipv4Addr, asn: u32) -> Option<TcpStream> {
    let mut wire = LabBgpConnection(stream);
    for message in [bgp::open(asn, local), bgp::keepalive()] {
        wire.0.write_all(&message).ok()?;
        // A NOTIFICATION ends the attempt.
        wire.receive().filter(|(kind, _)| *kind != bgp::NOTIFICATION)?;
    }
    Some(wire.0)
}

fn send(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).expect("the BGP daemon takes the table");
}

fn hold(mut stream: TcpStream, stop: &AtomicBool) {
    let _ = stream.set_read_timeout(Some(TURN));
    let mut last_keepalive = Instant::now();
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        if last_keepalive.elapsed() >= KEEPALIVE_EVERY {
            last_keepalive = Instant::now();
            if stream.write_all(&bgp::keepalive()).is_err() {
                return;
            }
        }
    }
    let _ = stream.write_all(&bgp::notification());
}
