//! A router with two uplinks to a station, in network namespaces that go with the test.
//!
//! ```text
//!            up0 198.51.100.1 2001:db8:1::1 ────── dn0 .2 ::2
//!   router                                                   station  192.0.2.7 2001:db8:7::7 (lo)
//!            up1 203.0.113.1  2001:db8:2::1 ────── dn1 .2 ::2
//!            lo  192.0.2.1
//! ```
//!
//! Routing prefers up0. Segmentation offload is off on the router's uplinks: the packets that
//! arrive at the station are those that a wire would carry.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bmp_ebpf::{Counters, InetAddress, PIN_SOURCE, Pin, PinKey};
use programs::Program;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::super::{Datapath, DatapathMode, DatapathOptions, PinTarget, Role, Room, home};

pub(super) const STATION4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
pub(super) const STATION6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7);
pub(super) const UP0: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(super) const UP1: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub(super) const UP1_IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);

/// How long a test waits for an event that must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A network namespace.
pub(super) struct Namespace(File);

impl Namespace {
    fn new() -> Self {
        let made = thread::spawn(|| {
            // SAFETY: changes the calling thread only, which ends here.
            let refused = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(refused, 0, "these tests need root: {}", io::Error::last_os_error());
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Self(made.join().unwrap())
    }

    /// Runs something on a thread inside the namespace. Sockets made there stay there.
    pub(super) fn run<R: Send>(&self, what: impl FnOnce() -> R + Send) -> R {
        let inside = || {
            // SAFETY: changes the calling thread only, which ends with the closure.
            let refused = unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(refused, 0, "{}", io::Error::last_os_error());
            what()
        };
        thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    pub(super) fn ip(&self, commands: &str) {
        for command in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let output = self.run(|| Program::Ip.command().args(command.split_whitespace()).output().unwrap());
            assert!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    /// Waits until the kernel reports both carriers. Neighbour solicitations before that are lost.
    pub(super) fn wait_until_up(&self) {
        let up = || {
            let shown =
                self.run(|| Program::Ip.command().args(["-oneline", "link", "show", "type", "veth"]).output().unwrap());
            String::from_utf8_lossy(&shown.stdout).matches(" state UP ").count() == 2
        };
        let begun = Instant::now();
        while !up() {
            assert!(begun.elapsed() < PATIENCE, "the links are not up");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn ifindex(&self, name: &str) -> u32 {
        let name = std::ffi::CString::new(name).unwrap();
        // SAFETY: `name` is a string.
        self.run(|| unsafe { libc::if_nametoindex(name.as_ptr()) })
    }

    /// Switches TCP segmentation offload off (`ETHTOOL_STSO`, linux/ethtool.h).
    fn segment_in_software(&self, name: &str) {
        #[repr(C)]
        struct EthtoolValue(u32, u32);
        let mut value = EthtoolValue(0x1f, 0);
        // SAFETY: all zeroes is a value of this plain structure.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        let request = request;
        let socket = self.socket(Domain::IPV4);
        // SAFETY: `request` points to a value of the command's layout.
        let refused = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw const request) };
        assert_eq!(refused, 0, "{name}: {}", io::Error::last_os_error());
    }

    pub(super) fn socket(&self, domain: Domain) -> Socket {
        self.run(|| Socket::new(domain, Type::STREAM, None).unwrap())
    }
}

/// The test's own folder for pinned objects. On drop everything in it is removed.
pub(super) struct TestFolder(PathBuf);

impl TestFolder {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        home::mount().unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("/sys/fs/bpf/bmpd-test-{}-{number}", process::id()).into())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns options to load with it.
    pub(super) fn options(&self) -> DatapathOptions {
        DatapathOptions { mode: DatapathMode::Ebpf, bpffs: Some(self.0.clone()), ..DatapathOptions::default() }
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        if self.0.exists() {
            home::Home::remove(&self.0).unwrap();
        }
    }
}

/// The two hosts, and the router's datapath.
pub(super) struct UplinkWorld {
    pub(super) router: Namespace,
    pub(super) station: Namespace,
    pub(super) datapath: Datapath,
    pub(super) folder: TestFolder,
}

impl UplinkWorld {
    pub(super) fn new() -> Self {
        let (router, station) = (Namespace::new(), Namespace::new());
        let station_fd = format!("/proc/{}/fd/{}", process::id(), station.0.as_raw_fd());
        // The kernel's own link-local addresses pass duplicate address detection a second later.
        // Until then it solicits no neighbour for a loopback address (`ndisc_solicit` of
        // net/ipv6/ndisc.c).
        router.ip(&format!(
            "link set lo up
             addr add 192.0.2.1/32 dev lo
             link add up0 type veth peer name dn0 netns {station_fd}
             link add up1 type veth peer name dn1 netns {station_fd}
             link set up0 addrgenmode none
             link set up1 addrgenmode none
             addr add fe80::1/64 dev up0 nodad
             addr add fe80::1/64 dev up1 nodad
             addr add {UP0}/24 dev up0
             addr add {UP1}/24 dev up1
             addr add 2001:db8:1::1/64 dev up0 nodad
             addr add {UP1_IPV6}/64 dev up1 nodad
             link set up0 up
             link set up1 up"
        ));
        station.ip(&format!(
            "link set lo up
             link set dn0 addrgenmode none
             link set dn1 addrgenmode none
             addr add fe80::2/64 dev dn0 nodad
             addr add fe80::2/64 dev dn1 nodad
             addr add {STATION4}/32 dev lo
             addr add {STATION6}/128 dev lo nodad
             addr add 198.51.100.2/24 dev dn0
             addr add 203.0.113.2/24 dev dn1
             addr add 2001:db8:1::2/64 dev dn0 nodad
             addr add 2001:db8:2::2/64 dev dn1 nodad
             link set dn0 up
             link set dn1 up
             route add 192.0.2.1/32 via 198.51.100.1"
        ));
        router.ip(&format!(
            "route add {STATION4} via 198.51.100.2 metric 10
             route add {STATION4} via 203.0.113.2 metric 20
             route add {STATION6} via 2001:db8:1::2 metric 10
             route add {STATION6} via 2001:db8:2::2 metric 20"
        ));
        for uplink in ["up0", "up1"] {
            router.segment_in_software(uplink);
        }
        let folder = TestFolder::new();
        let datapath = router.run(|| Datapath::load(&folder.options()).unwrap());
        Self { router, station, datapath, folder }
    }

    /// Drops the datapath as a bmpd that is killed does, and loads another in its place.
    pub(super) fn crash_and_restart(&mut self) {
        self.crash();
        self.restart();
    }

    /// Drops the datapath as a bmpd that is killed does.
    pub(super) fn crash(&mut self) {
        self.datapath =
            Datapath::load(&DatapathOptions { mode: DatapathMode::Socket, ..DatapathOptions::default() }).unwrap();
    }

    /// Loads a datapath after the earlier one was detached.
    pub(super) fn restart(&mut self) {
        self.restart_with(Room::default());
    }

    /// As [`Self::restart`], with room for so many sessions.
    pub(super) fn restart_with(&mut self, room: Room) {
        let options = DatapathOptions { room, ..self.folder.options() };
        self.datapath = self.router.run(|| Datapath::load(&options).unwrap());
    }

    /// As [`Self::crash_and_restart`], with room for so many sessions.
    pub(super) fn crash_and_restart_with(&mut self, room: Room) {
        self.crash();
        self.restart_with(room);
    }

    /// Detaches, and loads with room for so many sessions.
    pub(super) fn resize(&mut self, sessions: u32) {
        self.datapath.clone().detach(false).unwrap();
        self.restart_with(Room::new(sessions).unwrap());
    }

    /// Returns a listener of the station. [`ConnectionPair::close`] reads its connection to the
    /// end.
    pub(super) fn listen(&self, address: impl Into<IpAddr>) -> TcpListener {
        let address = SocketAddr::new(address.into(), 0);
        self.station.run(|| TcpListener::bind(address).unwrap())
    }

    /// Returns the key of connections to a station.
    pub(super) fn key_of(&self, station: SocketAddr) -> PinKey {
        self.datapath.key(&to(station))
    }

    pub(super) fn key(&self, listener: &TcpListener) -> PinKey {
        self.key_of(listener.local_addr().unwrap())
    }

    /// Returns the pin of `connect-interface up1`.
    pub(super) fn by_up1(&self) -> Pin {
        pin(Some(UP1.into()), self.router.ifindex("up1"))
    }

    /// Connects a socket that nobody has bound.
    pub(super) fn connect(&self, listener: &TcpListener) -> io::Result<ConnectionPair> {
        let address = listener.local_addr().unwrap();
        connect(self.router.socket(Domain::for_address(address)), address, listener)
    }

    /// Captures packets for a port that arrive on one of the station's links.
    pub(super) fn capture(&self, link: &str, port: u16) -> Capture {
        Capture::new(&self.station, link, port, false)
    }

    /// Captures packets for a port that leave by one of the router's uplinks. At the station an
    /// encapsulated packet would be captured twice.
    pub(super) fn capture_leaving(&self, link: &str, port: u16) -> Capture {
        Capture::new(&self.router, link, port, true)
    }
}

/// A pin with a source, and a device if it is not 0.
pub(super) fn pin(source: Option<IpAddr>, device: u32) -> Pin {
    let mut pin = Pin { device, egress_count: u32::from(device != 0), ..Pin::default() };
    pin.egress[0] = device;
    pin.flags = if source.is_some() { PIN_SOURCE } else { 0 };
    pin.source = source.map(InetAddress::from).unwrap_or_default();
    pin
}

/// Stops listening at once. A process that another test is starting may hold a copy of the socket.
pub(super) fn stop_listening(listener: TcpListener) {
    SockRef::from(&listener).shutdown(Shutdown::Both).unwrap();
}

/// Both ends of a connection.
#[derive(Debug)]
pub(super) struct ConnectionPair {
    pub(super) router: TcpStream,
    pub(super) station: TcpStream,
}

/// Connections from here to a station, outside any VRF.
pub(super) fn to(station: SocketAddr) -> PinTarget {
    PinTarget { role: Role::Connect, vrf: 0, station }
}

/// Connections from a station to a port of this host, outside any VRF.
pub(super) fn from(station: impl Into<IpAddr>, port: u16) -> PinTarget {
    PinTarget { role: Role::Listen, vrf: 0, station: SocketAddr::new(station.into(), port) }
}

/// Connects a socket of the router to the listener.
pub(super) fn connect(socket: Socket, address: SocketAddr, listener: &TcpListener) -> io::Result<ConnectionPair> {
    socket.connect_timeout(&SockAddr::from(address), PATIENCE)?;
    socket.set_nonblocking(false)?;
    let (station, _) = listener.accept()?;
    station.set_read_timeout(Some(PATIENCE))?;
    Ok(ConnectionPair { router: socket.into(), station })
}

impl ConnectionPair {
    /// Returns the source address that the station sees.
    pub(super) fn source(&self) -> IpAddr {
        self.station.peer_addr().unwrap().ip().to_canonical()
    }

    /// Sends bytes to the station and waits until it has them.
    pub(super) fn send(&mut self, bytes: usize) {
        let data = vec![0; bytes];
        thread::scope(|scope| {
            scope.spawn(|| self.router.write_all(&data).unwrap());
            let mut received = vec![0; bytes];
            self.station.read_exact(&mut received).unwrap();
        });
    }

    /// Closes in order, the station's end first: no acknowledgement of TIME_WAIT, which has no
    /// socket, leaves the router.
    pub(super) fn close(mut self) {
        self.station.shutdown(Shutdown::Write).unwrap();
        assert_eq!(self.router.read(&mut [0]).unwrap(), 0);
        self.router.shutdown(Shutdown::Write).unwrap();
        assert_eq!(self.station.read(&mut [0]).unwrap(), 0);
    }
}

/// A packet socket on one of the links.
pub(super) struct Capture {
    socket: OwnedFd,
    port: u16,
    leaving: bool,
}

impl Capture {
    fn new(host: &Namespace, link: &str, port: u16, leaving: bool) -> Self {
        let ifindex = host.ifindex(link);
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let socket = host.run(|| {
            let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            // SAFETY: the descriptor is new; the address has the family's layout and size.
            unsafe {
                let socket = OwnedFd::from_raw_fd(libc::socket(libc::AF_PACKET, kind, i32::from(protocol)));
                let mut address: libc::sockaddr_ll = std::mem::zeroed();
                address.sll_family = libc::AF_PACKET as u16;
                address.sll_protocol = protocol;
                address.sll_ifindex = ifindex as i32;
                let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
                assert_eq!(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length), 0);
                let room: libc::c_int = 64 << 20;
                let (value, size) = ((&raw const room).cast(), size_of::<libc::c_int>() as libc::socklen_t);
                assert_eq!(
                    libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, value, size),
                    0
                );
                socket
            }
        });
        Self { socket, port, leaving }
    }

    /// Returns what arrived, or left, since the last call.
    pub(super) fn arrived(&self) -> Arrived {
        let mut arrived = Arrived::default();
        let mut buffer = [0_u8; 65_536];
        loop {
            // SAFETY: all zeroes is a value of this plain structure.
            let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            let room = buffer.len();
            // SAFETY: the buffer and the address are writable and as long as said.
            let read = unsafe {
                let (buffer, from) = (buffer.as_mut_ptr().cast(), (&raw mut from).cast());
                libc::recvfrom(self.socket.as_raw_fd(), buffer, room, 0, from, &raw mut length)
            };
            let Ok(read) = usize::try_from(read) else { return arrived };
            if (from.sll_pkttype == libc::PACKET_OUTGOING) == self.leaving {
                arrived.add(&buffer[..read], self.port);
            }
        }
    }
}

/// Packets, IP bytes and TCP payload bytes of one port.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arrived {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) payload_bytes: u64,
}

impl Arrived {
    fn add(&mut self, ip: &[u8], port: u16) {
        let Some(tcp) = tcp_of(ip) else { return };
        if u16::from_be_bytes([tcp[2], tcp[3]]) == port {
            self.packets += 1;
            self.bytes += ip.len() as u64;
            self.payload_bytes += (tcp.len() - usize::from(tcp[12] >> 4) * 4) as u64;
        }
    }
}

/// Returns the TCP segment of a packet, also behind routing headers and in encapsulations.
fn tcp_of(ip: &[u8]) -> Option<&[u8]> {
    let (mut next, mut rest) = match ip[0] >> 4 {
        4 => (ip[9], &ip[usize::from(ip[0] & 0x0f) * 4..]),
        6 => (ip[6], &ip[40..]),
        // ARP.
        _ => return None,
    };
    loop {
        match next {
            6 => return Some(rest),
            4 | 41 => return tcp_of(rest),
            43 => (next, rest) = (rest[0], &rest[(usize::from(rest[1]) + 1) * 8..]),
            _ => return None,
        }
    }
}

/// Reads counters until they suffice, and returns the last reading.
pub(super) fn wait_for(read: impl Fn() -> Counters, enough: impl Fn(&Counters) -> bool) -> Counters {
    let mut counters = read();
    for _ in 0..PATIENCE.as_millis() / 5 {
        if enough(&counters) {
            break;
        }
        thread::sleep(Duration::from_millis(5));
        counters = read();
    }
    counters
}
