//! A local daemon that reports over BMP: it connects to a relay and sends the messages of the test.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use crate::{
    bgp::{self, Ipv4Prefix},
    bmp::{self, ReportedPeer},
    netns::Netns,
    wait::{PATIENCE, until},
};

/// A BMP stream into a relay. Dropping it ends the stream without Termination, and waits a while
/// until the relay has closed too: a relay does not let in a client that it never saw alive.
#[derive(Debug)]
pub struct BmpFeeder {
    stream: TcpStream,
    /// Every message sent, in order.
    pub sent: Vec<Vec<u8>>,
}

impl BmpFeeder {
    /// Connects to a relay in `netns`, once that listens. Sends nothing yet.
    pub fn connect(netns: &Netns, relay: SocketAddr) -> Self {
        Self::connect_as(0, netns, relay)
    }

    /// Connects as [`Self::connect`] does, as the user of the host with this number.
    pub fn connect_as(user: u32, netns: &Netns, relay: SocketAddr) -> Self {
        let stream = until(&format!("a relay listens on {relay}"), PATIENCE, || {
            netns.enter_as(user, || TcpStream::connect_timeout(&relay, Duration::from_secs(5))).ok()
        });
        stream.set_nodelay(true).expect("a TCP socket has the option");
        Self { stream, sent: Vec::new() }
    }

    /// Takes a connection to a relay that is open already.
    pub fn over(stream: TcpStream) -> Self {
        Self { stream, sent: Vec::new() }
    }

    /// Connects, and sends an Initiation and the Peer Up of `peer`.
    pub fn with_peer(netns: &Netns, relay: SocketAddr, peer: &ReportedPeer) -> Self {
        Self::with_peer_as(0, netns, relay, peer)
    }

    /// Does the same as the user of the host with this number.
    pub fn with_peer_as(user: u32, netns: &Netns, relay: SocketAddr, peer: &ReportedPeer) -> Self {
        let mut feeder = Self::connect_as(user, netns, relay);
        feeder.send(bmp::initiation("feeder"));
        feeder.send(bmp::peer_up(peer));
        feeder
    }

    /// Returns the local address of the connection.
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().expect("the stream is connected")
    }

    /// Sends one message.
    pub fn send(&mut self, message: Vec<u8>) {
        self.raw(&message);
        self.sent.push(message);
    }

    /// Sends any bytes, without a record in `sent`.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the relay reads the stream");
    }

    /// Sends any bytes, as [`Self::raw`] does.
    ///
    /// # Errors
    /// If the relay has closed the connection.
    pub fn try_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Announces `routes` of `peer` in Route Monitoring messages of `per_message` routes each.
    pub fn announce(&mut self, peer: &ReportedPeer, routes: &[Ipv4Prefix], per_message: usize) {
        for message in bmp::announcements(peer, routes, per_message) {
            self.send(message);
        }
    }

    /// Sends End-of-RIB of IPv4 unicast for `peer`.
    pub fn end_of_rib(&mut self, peer: &ReportedPeer) {
        self.send(bmp::route_monitoring(peer, bmp::PRE_POLICY, &bgp::end_of_rib()));
    }

    /// Waits until the relay closes or resets the connection.
    ///
    /// # Panics
    /// If the relay keeps it, or sends bytes, which a BMP receiver must not (RFC 7854 §3.2).
    pub fn wait_closed(&mut self) {
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is set");
        match self.stream.read(&mut [0; 16]) {
            Ok(0) => {}
            Ok(n) => panic!("the relay sent {n} bytes"),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("the relay keeps the connection"),
            Err(_) => {}
        }
    }

    /// True if the relay still holds the connection.
    pub fn is_open(&self) -> bool {
        self.stream.set_nonblocking(true).expect("a socket can be nonblocking");
        let open = matches!(self.stream.peek(&mut [0; 1]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).expect("a socket can block");
        open
    }
}

impl Drop for BmpFeeder {
    fn drop(&mut self) {
        /// How long a relay that does not read may keep a test.
        const LEAVE: Duration = Duration::from_secs(5);
        // Once the file is closed, the kernel no longer tells whose connection it was, and a busy
        // relay would refuse what was sent before it looked.
        let ended = self.stream.set_read_timeout(Some(LEAVE)).and_then(|()| self.stream.shutdown(Shutdown::Write));
        if ended.is_ok() {
            while matches!(self.stream.read(&mut [0; 16]), Ok(1..)) {}
        }
    }
}
