//! A connection has the pin of its final ends.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use bmp_ebpf::{PIN_DENY, Pin};
use socket2::{Domain, SockAddr, Socket, Type};

use super::super::PinSlot;
use super::rewriter::Rewriter;
use super::world::{
    Arrived, Capture, ConnectionPair, PATIENCE, STATION4, UP0, UP1, UplinkWorld, connect, from, pin, wait_for,
};

/// An address of the station's host without a pin.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// The address of a service that another program rewrites.
const SERVICE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
/// A station on each of the links.
const ON_LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99);
/// The router's address on each of the links.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

fn ipv4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(address) => panic!("{address} is no IPv4 address"),
    }
}

/// Begins to connect without waiting for an answer.
fn begin(socket: &Socket, address: SocketAddr) {
    socket.set_nonblocking(true).unwrap();
    if let Err(error) = socket.connect(&SockAddr::from(address)) {
        assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS), "{error}");
    }
}

/// Checks that the slot counts a packet dropped for its interface, and that nothing arrives.
fn is_dropped(world: &UplinkWorld, slot: &PinSlot, capture: &Capture) {
    let counters = wait_for(|| world.datapath.counters(slot), |counters| counters.denied_interface > 0);
    assert!(counters.denied_interface > 0, "{counters:?}");
    assert_eq!((counters.foreign_tx.packets, counters.own_tx.packets), (0, 0));
    assert_eq!(capture.arrived(), Arrived::default());
}

#[test]
fn a_connect_that_another_program_leads_to_a_station_is_held_to_its_pin() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let station = listener.local_addr().unwrap();
    let service = SocketAddrV4::new(SERVICE, 7);
    let _rewriter = Rewriter::new(&world.router, service, ipv4(station));
    let slot = world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    let by_up0 = world.capture("dn0", station.port());

    // Routing prefers up0.
    let stray = world.router.socket(Domain::IPV4);
    begin(&stray, service.into());
    is_dropped(&world, &slot, &by_up0);
    drop(stray);

    // A socket that is bound as the pin says gets through, and is counted.
    let bound = world.router.socket(Domain::IPV4);
    bound.bind_device(Some(b"up1")).unwrap();
    let mut session = connect(bound, service.into(), &listener).unwrap();
    session.send(1000);
    assert_eq!(session.source(), UP1);
    assert_eq!(world.datapath.counters(&slot).foreign_tx.payload_bytes, 1000);
    assert_eq!(by_up0.arrived(), Arrived::default());
}

#[test]
fn a_connect_that_another_program_leads_away_from_a_station_has_no_pin() {
    let world = UplinkWorld::new();
    world.station.ip(&format!("addr add {ELSEWHERE}/32 dev lo"));
    world.router.ip(&format!(
        "route add {ELSEWHERE} via 198.51.100.2 metric 10
         route add {ELSEWHERE} via 203.0.113.2 metric 20"
    ));
    let elsewhere = world.listen(ELSEWHERE);
    let station = SocketAddr::from((STATION4, 7));
    let _rewriter = Rewriter::new(&world.router, ipv4(station), ipv4(elsewhere.local_addr().unwrap()));
    let slot = world.datapath.install(&world.key_of(station), world.by_up1()).unwrap();
    let mut session = connect(world.router.socket(Domain::IPV4), station, &elsewhere).unwrap();
    session.send(1000);
    assert_eq!(world.datapath.counters(&slot).foreign_tx.packets, 0);

    // bmpd's own socket stays with its session, and is counted.
    let own = world.router.socket(Domain::IPV4);
    world.datapath.claim(&own).unwrap();
    let mut session = connect(own, station, &elsewhere).unwrap();
    session.send(1000);
    assert_eq!(session.source(), UP1);
    assert_eq!(world.datapath.counters(&slot).own_tx.payload_bytes, 1000);
}

#[test]
fn a_connect_to_the_unspecified_address_is_one_to_the_loopback_station() {
    let world = UplinkWorld::new();
    let unspecified = [
        (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().into()),
        (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into()),
    ];
    for (station, given) in unspecified {
        let listener = world.router.run(|| TcpListener::bind((station, 0)).unwrap());
        let port = listener.local_addr().unwrap().port();
        let slot = world.datapath.install(&world.key(&listener), Pin::default()).unwrap();
        let given = SocketAddr::new(given, port);
        let mut session = connect(world.router.socket(Domain::for_address(given)), given, &listener).unwrap();
        session.send(100);
        assert_eq!(world.datapath.counters(&slot).foreign_tx.payload_bytes, 100, "{given}");
    }
}

/// Returns a socket that has been connected and sends its SYN with the first byte written.
fn in_flight(world: &UplinkWorld, to: SocketAddr) -> TcpStream {
    /// Client, without a cookie (Documentation/networking/ip-sysctl.rst).
    const FAST_OPEN: &str = "5";
    let socket = world.router.run(|| {
        fs::write("/proc/sys/net/ipv4/tcp_fastopen", FAST_OPEN).unwrap();
        Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap()
    });
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is an integer of the given size, and the socket is open.
    let refused = unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, value, size)
    };
    assert_eq!(refused, 0, "{}", io::Error::last_os_error());
    socket.set_nonblocking(true).unwrap();
    socket.connect(&to.into()).expect("the kernel puts it off");
    socket.into()
}

/// Writes the first byte: the SYN leaves, or is dropped.
fn let_go(mut stream: &TcpStream) {
    match stream.write_all(&[0]) {
        Ok(()) => {}
        Err(error) => {
            assert!(error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EINPROGRESS), "{error}")
        }
    }
}

#[test]
fn a_connect_in_flight_while_its_pin_is_put_in_force_is_held_to_it() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let station = listener.local_addr().unwrap();
    let by_up0 = world.capture("dn0", station.port());
    let stream = in_flight(&world, station);
    let slot = world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    let_go(&stream);
    is_dropped(&world, &slot, &by_up0);
}

#[test]
fn a_connect_in_flight_while_its_pin_is_switched_is_held_to_the_new_one() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let station = listener.local_addr().unwrap();
    let by_up1 = world.capture("dn1", station.port());
    let old = world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    let stream = in_flight(&world, station);
    let by_up0 = pin(Some(UP0.into()), world.router.ifindex("up0"));
    let new = world.datapath.install(&world.key(&listener), by_up0).unwrap();
    let_go(&stream);
    is_dropped(&world, &new, &by_up1);
    assert_eq!(world.datapath.counters(&old).foreign_tx.packets, 0);
}

#[test]
fn a_connect_in_flight_while_its_pin_becomes_a_denial_sends_nothing() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let station = listener.local_addr().unwrap();
    let by_up0 = world.capture("dn0", station.port());
    for denial in [None, Some(Pin { flags: PIN_DENY, ..Pin::default() })] {
        let stream = in_flight(&world, station);
        let slot = denial.map_or_else(|| PinSlot::shared_denial(false), |pin| world.datapath.place(pin).unwrap());
        world.datapath.point(&world.key(&listener), &slot).unwrap();
        // A denial without a slot has no counters of its own.
        let counters = || if slot.is_shared_denial() { world.datapath.stale() } else { world.datapath.counters(&slot) };
        let_go(&stream);
        assert!(wait_for(counters, |counters| counters.denied_no_pin > 0).denied_no_pin > 0);
        world.datapath.remove(&world.key(&listener), &slot).unwrap();
    }
    assert_eq!(by_up0.arrived(), Arrived::default());
}

/// Connects the station to another process's listener.
fn accepted(world: &UplinkWorld, listener: &TcpListener, to: SocketAddr) -> ConnectionPair {
    let station = world.station.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((STATION4, 0)).into()).unwrap();
        socket.connect_timeout(&to.into(), PATIENCE).unwrap();
        socket.set_nonblocking(false).unwrap();
        TcpStream::from(socket)
    });
    station.set_read_timeout(Some(PATIENCE)).unwrap();
    ConnectionPair { router: listener.accept().unwrap().0, station }
}

#[test]
fn a_connection_that_another_process_accepts_is_held_to_the_stations_pin() {
    let world = UplinkWorld::new();
    // The second listener sees an IPv4 station as an IPv4-mapped one.
    for (listens, device) in [(IpAddr::from(UP0), "up0"), (Ipv6Addr::UNSPECIFIED.into(), "up1")] {
        let listener = world.router.run(|| TcpListener::bind((listens, 0)).unwrap());
        let port = listener.local_addr().unwrap().port();
        let pin = pin(Some(UP0.into()), world.router.ifindex(device));
        let slot = world.datapath.install(&world.datapath.key(&from(STATION4, port)), pin).unwrap();
        let mut session = accepted(&world, &listener, (UP0, port).into());
        // Routing sends the answers by up0.
        if device == "up0" {
            session.send(100);
            assert_eq!(world.datapath.counters(&slot).foreign_tx.payload_bytes, 100);
        } else {
            let by_up0 = world.capture("dn0", session.station.local_addr().unwrap().port());
            session.router.write_all(&[0; 10]).unwrap();
            is_dropped(&world, &slot, &by_up0);
        }
    }
}

/// Returns a world with a station of the same link-local address on each link, and a listener.
fn link_local_stations() -> (UplinkWorld, TcpListener, u16) {
    let world = UplinkWorld::new();
    world.station.ip(&format!("addr add {ON_LINK}/64 dev dn0 nodad\naddr add {ON_LINK}/64 dev dn1 nodad"));
    let listener = world.listen(Ipv6Addr::UNSPECIFIED);
    let port = listener.local_addr().unwrap().port();
    (world, listener, port)
}

#[test]
fn link_local_stations_on_two_links_are_two_stations() {
    let (world, listener, port) = link_local_stations();
    let up1 = world.router.ifindex("up1");
    let key = world.key_of(SocketAddr::from((ON_LINK, port)));
    let slot = world.datapath.install(&key, pin(Some(LINK_LOCAL.into()), up1)).unwrap();
    let payload = || world.datapath.counters(&slot).foreign_tx.payload_bytes;
    let mut expected = 0;
    for bound in [false, true] {
        for link in ["up0", "up1"] {
            let socket = world.router.socket(Domain::IPV6);
            if bound {
                socket.bind_device(Some(link.as_bytes())).unwrap();
            }
            let address = SocketAddrV6::new(ON_LINK, port, 0, world.router.ifindex(link));
            let mut session = connect(socket, address.into(), &listener).unwrap();
            session.send(100);
            expected += if link == "up1" { 100 } else { 0 };
            assert_eq!(payload(), expected, "by {link}, bound: {bound}");
        }
    }
}

#[test]
fn a_denied_link_local_station_is_denied_on_its_own_link_alone() {
    let (world, listener, port) = link_local_stations();
    let (up0, up1) = (world.router.ifindex("up0"), world.router.ifindex("up1"));
    let key = world.key_of(SocketAddr::from((ON_LINK, port)));
    let denial = Pin { flags: PIN_DENY, device: 0, ..pin(None, up1) };
    let slot = world.datapath.install(&key, denial).unwrap();
    let arrives = world.capture("dn1", port);

    let bound = world.router.socket(Domain::IPV6);
    bound.bind_device(Some(b"up1")).unwrap();
    let address = SocketAddr::V6(SocketAddrV6::new(ON_LINK, port, 0, up1));
    assert_eq!(connect(bound, address, &listener).unwrap_err().kind(), ErrorKind::PermissionDenied);
    let unbound = world.router.socket(Domain::IPV6);
    begin(&unbound, address);
    let counters = wait_for(|| world.datapath.counters(&slot), |counters| counters.denied_no_pin > 1);
    assert!(counters.denied_no_pin > 1, "{counters:?}");
    assert_eq!(arrives.arrived(), Arrived::default());

    let address = SocketAddr::V6(SocketAddrV6::new(ON_LINK, port, 0, up0));
    let mut session = connect(world.router.socket(Domain::IPV6), address, &listener).unwrap();
    session.send(10);
}
