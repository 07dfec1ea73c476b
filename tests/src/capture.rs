//! Packets on an interface: packet(7) captures, read by a parser of another project.

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::EventFd,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{netns::Netns, wait::WatchedValue};

/// Bytes kept of each packet: enough for IPv6 and TCP headers with options.
const SNAP: usize = 192;

/// Direction of a packet on the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketDirection {
    /// The packet left the host.
    Out,
    /// The packet arrived at the host.
    In,
}

/// One captured TCP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedPacket {
    /// Its direction.
    pub direction: PacketDirection,
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// TCP flag SYN.
    pub syn: bool,
    /// TCP flag FIN.
    pub fin: bool,
    /// TCP flag RST.
    pub rst: bool,
    /// TCP flag ACK.
    pub ack: bool,
    /// Differentiated Services Code Point (RFC 2474).
    pub dscp: u8,
    /// Bytes of the IP packet, with headers.
    pub ip_bytes: u64,
    /// Bytes of TCP payload.
    pub payload_bytes: u64,
}

/// A running capture of TCP packets with certain ports, on one interface.
#[derive(Debug)]
pub struct LinkCapture {
    shared: Arc<SharedCapture>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct SharedCapture {
    socket: Socket,
    ports: RangeInclusive<u16>,
    packets: WatchedValue<Vec<CapturedPacket>>,
    stop: AtomicBool,
    wake: EventFd,
}

impl LinkCapture {
    /// Captures TCP packets from or to `port` on `interface`. No packet is missed after this
    /// returns.
    pub fn start(netns: &Netns, interface: &str, port: u16) -> Self {
        Self::of_ports(netns, interface, port..=port)
    }

    /// Captures TCP packets from or to a range of ports.
    pub fn of_ports(netns: &Netns, interface: &str, ports: RangeInclusive<u16>) -> Self {
        let index = netns.ifindex(interface);
        let socket = netns.enter(|| tap(index)).unwrap_or_else(|e| panic!("cannot capture on {interface}: {e}"));
        let shared = Arc::new(SharedCapture {
            socket,
            ports,
            packets: WatchedValue::default(),
            stop: AtomicBool::new(false),
            wake: EventFd::new().expect("a descriptor is free"),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.run()
        });
        Self { shared, thread: Some(thread) }
    }

    /// Returns all packets so far. The kernel passes a packet to the capture before it goes on.
    pub fn packets(&self) -> Vec<CapturedPacket> {
        self.shared.packets.change(|packets| {
            self.shared.drain(packets);
            packets.clone()
        })
    }

    /// Returns all packets so far and forgets them.
    pub fn take(&self) -> Vec<CapturedPacket> {
        self.shared.packets.change(|packets| {
            self.shared.drain(packets);
            std::mem::take(packets)
        })
    }

    /// Returns the number of packets so far.
    pub fn count(&self) -> usize {
        self.shared.packets.change(|packets| {
            self.shared.drain(packets);
            packets.len()
        })
    }

    /// Waits until `look` finds something in the packets.
    ///
    /// # Panics
    /// After `patience`, with `what` as the missing thing.
    pub fn wait_for<R>(
        &self,
        what: &str,
        patience: Duration,
        mut look: impl FnMut(&[CapturedPacket]) -> Option<R>,
    ) -> R {
        self.shared.packets.wait_for(patience, |packets| look(packets)).unwrap_or_else(|| {
            let packets = self.packets();
            let last = packets.iter().rev().take(10).collect::<Vec<_>>();
            panic!("{what} was not captured within {patience:?}; the last of {} packets: {last:#?}", packets.len())
        })
    }

    /// Ends the capture and returns its packets.
    ///
    /// # Panics
    /// If the kernel dropped packets: the capture then proves nothing.
    pub fn stop(mut self) -> Vec<CapturedPacket> {
        self.halt();
        let packets = self.packets();
        let dropped = dropped(&self.shared.socket).expect("a packet socket has statistics");
        assert_eq!(dropped, 0, "the capture lost packets");
        packets
    }

    fn halt(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = self.shared.wake.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for LinkCapture {
    fn drop(&mut self) {
        self.halt();
    }
}

impl SharedCapture {
    fn run(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let mut ready = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            ];
            if poll(&mut ready, PollTimeout::NONE).is_ok() {
                self.packets.change(|packets| self.drain(packets));
            }
        }
    }

    fn drain(&self, packets: &mut Vec<CapturedPacket>) {
        let mut buffer = [MaybeUninit::<u8>::uninit(); SNAP];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    // SAFETY: the kernel has written the first `length` bytes, and `length` is at
                    // most the buffer.
                    let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), length) };
                    packets.extend(parse(bytes, direction(&from)).filter(|packet| packet.concerns(&self.ports)));
                }
                // The kernel reports once that an interface is down or gone. The capture continues.
                Err(e) if e.kind() == io::ErrorKind::NetworkDown => {}
                Err(_) => return,
            }
        }
    }
}

impl CapturedPacket {
    fn concerns(&self, ports: &RangeInclusive<u16>) -> bool {
        ports.contains(&self.source.port()) || ports.contains(&self.destination.port())
    }

    /// True if the packet left this host for `destination`.
    pub fn left_for(&self, destination: SocketAddr) -> bool {
        self.direction == PacketDirection::Out && self.destination == destination
    }
}

/// Returns the IP bytes and the number of the packets that satisfy `wanted`.
pub fn sum<'a>(
    packets: impl IntoIterator<Item = &'a CapturedPacket>,
    wanted: impl Fn(&CapturedPacket) -> bool,
) -> (u64, u64) {
    packets
        .into_iter()
        .filter(|packet| wanted(packet))
        .fold((0, 0), |(bytes, count), packet| (bytes + packet.ip_bytes, count + 1))
}

/// Opens a socket that reads every IP packet of an interface, without link header. The interface is
/// in the namespace of this thread.
pub(crate) fn tap(index: u32) -> io::Result<Socket> {
    // Protocol 0: the socket receives nothing before `bind` names the interface.
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(256 << 20))?;
    socket.set_nonblocking(true)?;
    // SAFETY: the closure writes a complete sockaddr_ll and its length.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            storage.cast::<libc::sockaddr_ll>().write(libc::sockaddr_ll {
                sll_family: libc::AF_PACKET as u16,
                sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
                sll_ifindex: index.cast_signed(),
                sll_hatype: 0,
                sll_pkttype: 0,
                sll_halen: 0,
                sll_addr: [0; 8],
            });
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    socket.bind(&address)?;
    Ok(socket)
}

fn direction(from: &SockAddr) -> PacketDirection {
    // SAFETY: addresses of a packet socket are sockaddr_ll, and the storage of SockAddr is larger.
    let link = unsafe { from.as_ptr().cast::<libc::sockaddr_ll>().read_unaligned() };
    if link.sll_pkttype == libc::PACKET_OUTGOING { PacketDirection::Out } else { PacketDirection::In }
}

/// Parses an IP packet, which may be cut off after its TCP header. `None` for other protocols.
fn parse(bytes: &[u8], direction: PacketDirection) -> Option<CapturedPacket> {
    let packet = LaxSlicedPacket::from_ip(bytes).ok()?;
    let TransportSlice::Tcp(tcp) = packet.transport? else { return None };
    let (source, destination, ip_bytes, dscp): (IpAddr, IpAddr, u64, u8) = match packet.net? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let bytes = header.total_len().into();
            (header.source_addr().into(), header.destination_addr().into(), bytes, header.dcp().value())
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let (bytes, class) = (u64::from(header.payload_length()) + 40, header.traffic_class() >> 2);
            (header.source_addr().into(), header.destination_addr().into(), bytes, class)
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let headers = tcp.header_slice().as_ptr() as usize - bytes.as_ptr() as usize + tcp.header_slice().len();
    Some(CapturedPacket {
        direction,
        source: (source, tcp.source_port()).into(),
        destination: (destination, tcp.destination_port()).into(),
        syn: tcp.syn(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        ack: tcp.ack(),
        dscp,
        ip_bytes,
        payload_bytes: ip_bytes.saturating_sub(headers as u64),
    })
}

/// Returns the packets that the kernel dropped since the last call (`PACKET_STATISTICS`).
fn dropped(socket: &Socket) -> io::Result<u32> {
    use std::os::fd::AsRawFd;
    let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: the kernel writes a tpacket_stats, which `stats` is.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(stats.tp_drops) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::topology::{STATION, STATION_PORT, STATION_V6, Topology, UP1};

    fn session(topology: &Topology, station: IpAddr, payload: usize) -> SocketAddr {
        let listener = topology.station.enter(|| TcpListener::bind((station, STATION_PORT)).unwrap());
        let mut client = topology.router.enter(|| TcpStream::connect((station, STATION_PORT)).unwrap());
        client.write_all(&vec![7; payload]).unwrap();
        let local = client.local_addr().unwrap();
        drop(client);
        let mut received = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), payload);
        local
    }

    #[test]
    fn a_capture_has_every_packet_of_a_session_on_its_link_alone() {
        let topology = Topology::without_offload();
        for (station, overhead) in [(STATION, 40), (STATION_V6, 60)] {
            let here = LinkCapture::start(&topology.router, "up1", STATION_PORT);
            let there = LinkCapture::start(&topology.router, "up2", STATION_PORT);
            let local = session(&topology, station, 100_000);
            here.wait_for("FIN", crate::wait::PATIENCE, |packets| {
                packets.iter().any(|p| p.fin && p.direction == PacketDirection::Out).then_some(())
            });
            let packets = here.stop();
            let out = |p: &CapturedPacket| p.direction == PacketDirection::Out && p.source == local;
            assert_eq!(packets.iter().filter(|p| out(p)).map(|p| p.payload_bytes).sum::<u64>(), 100_000);
            let (bytes, count) = sum(&packets, out);
            assert!(bytes >= 100_000 + count * overhead, "{bytes} bytes in {count} packets");
            assert!(packets.iter().all(|p| p.ip_bytes <= 1500), "no packet is larger than the link's MTU");
            assert!(packets.iter().any(|p| p.syn && p.ack && p.direction == PacketDirection::In));
            assert!(packets.iter().all(|p| p.left_for((station, STATION_PORT).into()) || p.destination == local));
            assert!(there.stop().is_empty());
        }
    }

    #[test]
    fn a_capture_ignores_other_ports() {
        let topology = Topology::new();
        let capture = LinkCapture::start(&topology.router, "up1", STATION_PORT + 1);
        assert_eq!(session(&topology, STATION, 1).ip(), UP1);
        assert!(capture.stop().is_empty());
    }
}
