//! IPv6 packets with headers between IP and TCP, and buffers of more than 64 KiB: the pin holds
//! them, and they are counted as the wire carries them.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;

use bmp_ebpf::Traffic;
use socket2::{Domain, Socket};

use super::super::PinSlot;
use super::world::{
    Arrived, Capture, ConnectionPair, Namespace, STATION4, STATION6, UP1, UP1_IPV6, UplinkWorld, connect, pin, wait_for,
};

/// The station's host on the link of `up1`.
const DN1: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2);

/// Bytes that take several segments, and several buffers.
const MUCH: usize = 1_000_003;

/// Switches segment routing on at the station's host.
fn segment_routing(world: &UplinkWorld) {
    for conf in ["all", "dn0", "dn1"] {
        let path = format!("/proc/sys/net/ipv6/conf/{conf}/seg6_enabled");
        world.station.run(|| std::fs::write(&path, "1").unwrap_or_else(|error| panic!("{path}: {error}")));
    }
}

/// A session of another process under a pin, and captures of what it sends by each uplink.
struct Counted<'a> {
    world: &'a UplinkWorld,
    source: IpAddr,
    slot: PinSlot,
    session: ConnectionPair,
    by_up0: Capture,
    by_up1: Capture,
}

impl<'a> Counted<'a> {
    /// Connects the socket to the listener under a pin to `up1` and this source.
    fn connect(world: &'a UplinkWorld, listener: &TcpListener, source: IpAddr, socket: Socket) -> Self {
        let address = listener.local_addr().unwrap();
        let [by_up0, by_up1] = ["up0", "up1"].map(|link| world.capture_leaving(link, address.port()));
        let pin = pin(Some(source), world.router.ifindex("up1"));
        let slot = world.datapath.install(&world.key(listener), pin).unwrap();
        let session = connect(socket, address, listener).unwrap();
        Self { world, source, slot, session, by_up0, by_up1 }
    }

    /// Sends portions of 150,000 bytes until one has left in buffers of more than 64 KiB.
    ///
    /// One buffer may hold a whole portion, and the station reads it before the next one is
    /// written. So the speed of the machine does not divide it. The first portions open the
    /// congestion window and the station's receive window.
    fn send_until_a_buffer_is_large(&mut self) {
        const PORTION: usize = 150_000;
        for _ in 0..50 {
            let before = self.sent();
            self.session.send(PORTION);
            let after = self.sent();
            if after.payload_bytes - before.payload_bytes > (after.buffers - before.buffers) << 16 {
                return;
            }
        }
        panic!("the kernel makes no buffer of more than 64 KiB: {:?}", self.sent());
    }

    fn sent(&self) -> Traffic {
        self.world.datapath.counters(&self.slot).foreign_tx
    }

    /// Closes the session. All of it has left by `up1` from the source, and the slot counted what
    /// the wire carried.
    fn close(self, at_least: usize) -> Traffic {
        assert_eq!(self.session.source(), self.source);
        self.session.close();
        let counters = self.world.datapath.counters(&self.slot);
        let Traffic { packets, bytes, payload_bytes, .. } = counters.foreign_tx;
        assert_eq!(Arrived { packets, bytes, payload_bytes }, self.by_up1.arrived());
        assert_eq!(self.by_up0.arrived(), Arrived::default());
        assert!(payload_bytes >= at_least as u64, "{counters:?}");
        assert_eq!((counters.denied_source, counters.denied_interface), (0, 0));
        counters.foreign_tx
    }
}

/// A session of another process sends [`MUCH`] under a pin, and its slot counts what the wire
/// carried.
fn is_counted(world: &UplinkWorld, listener: &TcpListener, source: IpAddr, socket: Socket) -> Traffic {
    let mut counted = Counted::connect(world, listener, source, socket);
    counted.session.send(MUCH);
    counted.close(MUCH)
}

#[test]
fn buffers_above_64_kibibytes_are_counted_as_their_segments() {
    let world = UplinkWorld::new();
    world.router.ip("link set up1 gso_max_size 185000");
    let set = |host: &Namespace, name: &str, value: &str| {
        let path = format!("/proc/sys/net/ipv4/tcp_{name}");
        host.run(|| std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}")));
    };
    // A buffer holds at most half of the largest window that the station has announced.
    set(&world.router, "wmem", "4096 4194304 8388608");
    set(&world.station, "rmem", "4096 4194304 8388608");
    // TCP makes smaller buffers where a round trip takes more than a millisecond (tcp_tso_autosize
    // of net/ipv4/tcp_output.c). With this it does not look at the round trip.
    set(&world.router, "tso_rtt_log", "31");
    // The congestion window stays, however long the next portion takes to come.
    set(&world.router, "slow_start_after_idle", "0");
    let listener = world.listen(STATION6);
    let socket = world.router.socket(Domain::IPV6);
    let mut counted = Counted::connect(&world, &listener, UP1_IPV6.into(), socket);
    counted.send_until_a_buffer_is_large();
    counted.session.send(8 * MUCH);
    counted.close(8 * MUCH);
}

#[test]
fn packets_with_a_routing_header_are_counted_as_the_wire_carries_them() {
    let world = UplinkWorld::new();
    segment_routing(&world);
    let listener = world.listen(STATION6);
    let socket = world.router.socket(Domain::IPV6);
    // RFC 8754: by way of the host on the link. The kernel puts the destination in the place of the
    // first segment.
    let mut header = vec![0, 4, 4, 1, 1, 0, 0, 0];
    header.extend([0; 16]);
    header.extend(DN1.octets());
    /// linux/in6.h.
    const IPV6_RTHDR: libc::c_int = 57;
    let size = header.len() as libc::socklen_t;
    // SAFETY: the value is as long as said, and the socket is open.
    let refused =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IPV6, IPV6_RTHDR, header.as_ptr().cast(), size) };
    assert_eq!(refused, 0, "{}", io::Error::last_os_error());
    let counted = is_counted(&world, &listener, UP1_IPV6.into(), socket);
    assert!(counted.buffers < counted.packets, "segmented on the way");
    let headers = counted.bytes - counted.payload_bytes;
    assert_eq!(headers, counted.packets * (40 + 40 + 32) + 8, "routing header and TCP options of each: {counted:?}");
}

#[test]
fn encapsulated_packets_are_held_to_the_inner_source_and_counted_whole() {
    let world = UplinkWorld::new();
    segment_routing(&world);
    world.router.ip("addr add 2001:db8:ff::1/128 dev lo nodad\nsr tunsrc set 2001:db8:ff::1");
    for (station, source) in [(IpAddr::from(STATION6), IpAddr::from(UP1_IPV6)), (STATION4.into(), UP1.into())] {
        world.router.ip(&format!("route add {station} encap seg6 mode encap segs {DN1} dev up1 metric 5"));
        let listener = world.listen(station);
        let domain = Domain::for_address(SocketAddr::new(station, 0));
        let counted = is_counted(&world, &listener, source, world.router.socket(domain));
        assert!(counted.buffers < counted.packets, "segmented on the way");
        let inner = if station.is_ipv4() { 20 } else { 40 };
        let headers = counted.bytes - counted.payload_bytes;
        assert_eq!(headers, counted.packets * (40 + 24 + inner + 32) + 8, "{counted:?}");
    }
}

#[test]
fn encapsulated_packets_with_another_inner_source_are_dropped() {
    let world = UplinkWorld::new();
    segment_routing(&world);
    // The tunnel's source is the pin's.
    world.router.ip(&format!(
        "sr tunsrc set {UP1_IPV6}
         route add {STATION6} encap seg6 mode encap segs {DN1} dev up1 metric 5"
    ));
    let listener = world.listen(STATION6);
    let up1 = world.router.ifindex("up1");
    let slot = world.datapath.install(&world.key(&listener), pin(Some("2001:db8:1::1".parse().unwrap()), 0)).unwrap();
    let mut session = world.connect(&listener).unwrap();
    session.send(10);
    world.datapath.overwrite(&slot, pin(Some(UP1_IPV6.into()), up1));
    session.router.write_all(&[0; 10]).unwrap();
    let counters = wait_for(|| world.datapath.counters(&slot), |counters| counters.denied_source > 0);
    assert!(counters.denied_source > 0, "{counters:?}");
    assert_eq!(counters.foreign_tx.payload_bytes, 10);
}
