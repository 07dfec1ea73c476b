//! Connects are bound to their pin, refused, or left as they are.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bmp_ebpf::{PIN_DENY, Pin};
use socket2::{Domain, SockAddr, Socket, Type};

use super::world::{
    Arrived, ConnectionPair, STATION4, STATION6, UP0, UP1, UP1_IPV6, UplinkWorld, connect, pin, stop_listening,
};

const EPERM: Option<i32> = Some(libc::EPERM);

/// Returns the interface that a session's socket is bound to.
fn device(world: &UplinkWorld, session: &ConnectionPair) -> u32 {
    let socket = socket2::SockRef::from(&session.router);
    let name = socket.device().unwrap().map(|name| String::from_utf8(name).unwrap());
    name.map_or(0, |name| world.router.ifindex(name.trim_end_matches('\0')))
}

fn error_of(result: io::Result<ConnectionPair>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn an_unbound_ipv4_socket_gets_the_source_and_the_interface() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let slot = world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    let session = world.connect(&listener).unwrap();
    assert_eq!(session.source(), UP1);
    assert_eq!(world.router.run(|| device(&world, &session)), world.router.ifindex("up1"));
    assert!(world.datapath.counters(&slot).foreign_tx.packets >= 2, "SYN and ACK");
}

#[test]
fn an_unbound_ipv6_socket_gets_the_source_and_the_interface() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION6);
    let pin = pin(Some(UP1_IPV6.into()), world.router.ifindex("up1"));
    world.datapath.install(&world.key(&listener), pin).unwrap();
    let session = world.connect(&listener).unwrap();
    assert_eq!(session.source(), UP1_IPV6);
    assert_eq!(world.router.run(|| device(&world, &session)), world.router.ifindex("up1"));
}

#[test]
fn an_ipv6_socket_to_an_ipv4_mapped_station_is_under_the_ipv4_pin() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let slot = world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    let mapped = SocketAddr::new(STATION4.to_ipv6_mapped().into(), listener.local_addr().unwrap().port());
    let mut session = connect(world.router.socket(Domain::IPV6), mapped, &listener).unwrap();
    assert_eq!(session.source(), UP1);
    session.send(1000);
    assert_eq!(world.datapath.counters(&slot).foreign_tx.payload_bytes, 1000);

    let bound = world.router.socket(Domain::IPV6);
    let wrong: SockAddr = SocketAddr::new(UP0.to_ipv6_mapped().into(), 0).into();
    world.router.run(|| bound.bind(&wrong).unwrap());
    assert_eq!(error_of(connect(bound, mapped, &listener)), EPERM);
    let bound = world.router.socket(Domain::IPV6);
    let right: SockAddr = SocketAddr::new(UP1.to_ipv6_mapped().into(), 0).into();
    world.router.run(|| bound.bind(&right).unwrap());
    assert_eq!(connect(bound, mapped, &listener).unwrap().source(), UP1);
}

#[test]
fn a_pin_with_a_source_alone_lets_routing_choose_the_interface() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let lent = IpAddr::from([192, 0, 2, 1]);
    world.datapath.install(&world.key(&listener), pin(Some(lent), 0)).unwrap();
    let session = world.connect(&listener).unwrap();
    assert_eq!(session.source(), lent);
    assert_eq!(world.router.run(|| device(&world, &session)), 0);
}

#[test]
fn an_empty_pin_only_counts() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let slot = world.datapath.install(&world.key(&listener), Pin::default()).unwrap();
    let mut session = world.connect(&listener).unwrap();
    assert_eq!(session.source(), UP0, "what routing chooses");
    session.send(5000);
    assert_eq!(world.datapath.counters(&slot).foreign_tx.payload_bytes, 5000);
}

#[test]
fn a_socket_bound_to_the_pins_own_source_passes_and_one_bound_to_another_is_refused() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let address = listener.local_addr().unwrap();
    let slot = world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    let bound = |source: IpAddr, port: u16| {
        let socket = world.router.socket(Domain::IPV4);
        world.router.run(|| socket.bind(&SocketAddr::new(source, port).into()).unwrap());
        socket
    };
    assert_eq!(connect(bound(UP1.into(), 0), address, &listener).unwrap().source(), UP1);
    let with_port = connect(bound(UP1.into(), 1790), address, &listener).unwrap();
    assert_eq!(with_port.station.peer_addr().unwrap(), SocketAddr::new(UP1.into(), 1790));
    assert_eq!(world.datapath.counters(&slot).denied_source, 0);

    assert_eq!(error_of(connect(bound(UP0.into(), 0), address, &listener)), EPERM);
    assert_eq!(world.datapath.counters(&slot).denied_source, 1);
    let port_alone = bound([0, 0, 0, 0].into(), 1791);
    assert_eq!(error_of(connect(port_alone, address, &listener)), EPERM, "it cannot be given the source any more");
    assert_eq!(world.datapath.counters(&slot).denied_source, 2);
}

#[test]
fn a_source_that_is_not_on_the_host_is_refused_at_connect() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION6);
    let absent = Ipv6Addr::new(0x2001, 0xdb8, 99, 0, 0, 0, 0, 1);
    let slot = world.datapath.install(&world.key(&listener), pin(Some(absent.into()), 0)).unwrap();
    assert_eq!(error_of(world.connect(&listener)), EPERM);
    assert_eq!(world.datapath.counters(&slot).denied_source, 1);
}

#[test]
fn a_socket_bound_to_the_pins_interface_passes_and_to_another_is_refused() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let address = listener.local_addr().unwrap();
    let bound = |name: &str| {
        let socket = world.router.socket(Domain::IPV4);
        socket.bind_device(Some(name.as_bytes())).unwrap();
        socket
    };
    let slot = world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    assert_eq!(connect(bound("up1"), address, &listener).unwrap().source(), UP1);
    assert_eq!(error_of(connect(bound("up0"), address, &listener)), EPERM);
    assert_eq!(world.datapath.counters(&slot).denied_interface, 1);

    let either = Pin {
        egress_count: 2,
        egress: [world.router.ifindex("lo"), world.router.ifindex("up0"), 0, 0, 0, 0, 0, 0],
        ..Pin::default()
    };
    let slot = world.datapath.install(&world.key(&listener), either).unwrap();
    assert_eq!(connect(bound("up0"), address, &listener).unwrap().source(), UP0);
    assert_eq!(error_of(connect(bound("up1"), address, &listener)), EPERM);
    assert_eq!(world.datapath.counters(&slot).denied_interface, 1);
}

#[test]
fn under_a_denial_a_connect_fails_at_once_and_nothing_leaves() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let port = listener.local_addr().unwrap().port();
    let captures = ["dn0", "dn1"].map(|link| world.capture(link, port));
    let deny = Pin { flags: PIN_DENY, ..world.by_up1() };
    let slot = world.datapath.install(&world.key(&listener), deny).unwrap();
    assert_eq!(error_of(world.connect(&listener)), EPERM);
    let own = world.router.socket(Domain::IPV4);
    world.datapath.claim(&own).unwrap();
    assert_eq!(error_of(connect(own, listener.local_addr().unwrap(), &listener)), EPERM);
    assert_eq!(world.datapath.counters(&slot).denied_no_pin, 2);
    for capture in captures {
        assert_eq!(capture.arrived(), Arrived::default());
    }
}

#[test]
fn a_socket_that_was_refused_is_pinned_by_its_next_connect() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let key = world.key(&listener);
    let address = SockAddr::from(listener.local_addr().unwrap());
    world.datapath.install(&key, Pin { flags: PIN_DENY, ..Pin::default() }).unwrap();
    let socket = world.router.socket(Domain::IPV4);
    assert_eq!(socket.connect(&address).unwrap_err().raw_os_error(), EPERM);
    let slot = world.datapath.install(&key, world.by_up1()).unwrap();
    let mut session = connect(socket, listener.local_addr().unwrap(), &listener).unwrap();
    session.send(100);
    assert_eq!(session.source(), UP1);
    assert_eq!(world.datapath.counters(&slot).foreign_tx.payload_bytes, 100);
}

#[test]
fn a_socket_that_the_station_rejected_is_pinned_by_its_next_connect() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let address = listener.local_addr().unwrap();
    let slot = world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    stop_listening(listener);
    let socket = world.router.socket(Domain::IPV4);
    let refused = socket.connect(&address.into()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let listener = world.station.run(|| std::net::TcpListener::bind(address).unwrap());
    let session = connect(socket, address, &listener).unwrap();
    assert_eq!(session.source(), UP1);
    assert_eq!(world.datapath.counters(&slot).denied_source, 0);
}

#[test]
fn a_connect_without_a_pin_stays_as_it_is_on_a_socket_that_had_one() {
    let world = UplinkWorld::new();
    let (pinned, free) = (world.listen(STATION4), world.listen(STATION4));
    let address = pinned.local_addr().unwrap();
    let slot = world.datapath.install(&world.key(&pinned), Pin::default()).unwrap();
    stop_listening(pinned);
    let socket = world.router.socket(Domain::IPV4);
    socket.connect(&address.into()).unwrap_err();
    let counted = world.datapath.counters(&slot);
    assert_eq!(counted.foreign_tx.packets, 1, "the SYN");
    let mut session = connect(socket, free.local_addr().unwrap(), &free).unwrap();
    session.send(1000);
    assert_eq!(session.source(), UP0);
    assert_eq!(world.datapath.counters(&slot), counted);
}

#[test]
fn a_connect_to_the_station_from_another_namespace_stays_as_it_is() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    world.datapath.install(&world.key(&listener), Pin { flags: PIN_DENY, ..Pin::default() }).unwrap();
    let address = SockAddr::from(listener.local_addr().unwrap());
    let local = world.station.socket(Domain::IPV4);
    local.connect(&address).unwrap();
    let udp = world.router.run(|| Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap());
    udp.connect(&address).unwrap();
}

#[test]
fn two_datapaths_work_side_by_side() {
    let (one, other) = (UplinkWorld::new(), UplinkWorld::new());
    for world in [&one, &other] {
        let listener = world.listen(STATION4);
        let slot = world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
        let mut session = world.connect(&listener).unwrap();
        session.send(100);
        assert_eq!(session.source(), UP1);
        assert_eq!(world.datapath.counters(&slot).foreign_tx.payload_bytes, 100);
    }
}
