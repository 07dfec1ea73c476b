//! Events of tagged sockets, and tags that user space gives.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

use bmp_ebpf::{EVENTS_BYTES, Pin};
use socket2::{Domain, SockRef};

use super::super::{Events, Occurrence, SocketChange, SocketEvent, SocketOwner};
use super::world::{
    PATIENCE, STATION4, STATION6, UP0, UP1, UP1_IPV6, UplinkWorld, connect, pin, stop_listening, wait_for,
};

/// Reads events with a runtime of its own.
struct EventReader {
    runtime: tokio::runtime::Runtime,
    events: Events,
}

impl EventReader {
    fn new(world: &UplinkWorld) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let events = runtime.block_on(async { world.datapath.events().unwrap() });
        Self { runtime, events }
    }

    fn next(&mut self) -> Occurrence {
        let next = self.events.next();
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, next).await }).expect("an event").unwrap()
    }

    fn event(&mut self) -> SocketEvent {
        match self.next() {
            Occurrence::Socket(event) => event,
            lost => panic!("{lost:?}"),
        }
    }
}

/// Reads the kernel's count for one socket (`TCP_INFO`).
fn retransmits(socket: &impl AsRawFd) -> u64 {
    crate::sys::tcp_progress(socket).unwrap().retransmits.into()
}

#[test]
fn a_connection_is_reported_when_it_is_established_and_when_it_is_closed() {
    let world = UplinkWorld::new();
    let mut reader = EventReader::new(&world);
    let up1 = world.router.ifindex("up1");
    let sources: [(IpAddr, IpAddr); 2] = [(STATION4.into(), UP1.into()), (STATION6.into(), UP1_IPV6.into())];
    for (station, source) in sources {
        let listener = world.listen(station);
        let slot = world.datapath.install(&world.key(&listener), pin(Some(source), up1)).unwrap();
        let session = world.connect(&listener).unwrap();
        let (local, cookie) = (session.router.local_addr().unwrap(), SockRef::from(&session.router).cookie().unwrap());
        let connected = reader.event();
        assert_eq!((connected.change, connected.own), (SocketChange::Connected, false));
        assert_eq!((connected.local, connected.remote), (local, listener.local_addr().unwrap()));
        assert_eq!((connected.cookie, connected.slot()), (cookie, slot.number()));
        assert!(connected.is_under(&slot));
        session.close();
        let closed = reader.event();
        assert_eq!(closed.change, SocketChange::Closed { established: true });
        assert_eq!((closed.local, closed.remote), (local, listener.local_addr().unwrap()));
        assert_eq!(closed.cookie, cookie);
        assert!(closed.at > connected.at);
    }
}

#[test]
fn a_connection_to_an_ipv4_mapped_station_is_reported_as_ipv4() {
    let world = UplinkWorld::new();
    let mut reader = EventReader::new(&world);
    let listener = world.listen(STATION4);
    world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    let mapped = SocketAddr::new(STATION4.to_ipv6_mapped().into(), listener.local_addr().unwrap().port());
    let _session = connect(world.router.socket(Domain::IPV6), mapped, &listener).unwrap();
    let event = reader.event();
    assert_eq!((event.local.ip(), event.remote), (UP1.into(), listener.local_addr().unwrap()));
}

#[test]
fn a_failed_attempt_is_reported_and_bmpds_own_is_marked() {
    let world = UplinkWorld::new();
    let mut reader = EventReader::new(&world);
    let listener = world.listen(STATION4);
    let address = listener.local_addr().unwrap();
    world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    stop_listening(listener);
    let socket = world.router.socket(Domain::IPV4);
    world.datapath.claim(&socket).unwrap();
    socket.connect(&address.into()).unwrap_err();
    let event = reader.event();
    assert_eq!((event.change, event.own), (SocketChange::Closed { established: false }, true));
}

#[test]
fn sockets_without_a_tag_are_not_reported() {
    let world = UplinkWorld::new();
    let mut reader = EventReader::new(&world);
    let (free, pinned) = (world.listen(STATION4), world.listen(STATION4));
    world.datapath.install(&world.key(&pinned), Pin::default()).unwrap();
    world.connect(&free).unwrap().close();
    world.connect(&pinned).unwrap();
    assert_eq!(reader.event().remote, pinned.local_addr().unwrap());
}

#[test]
fn events_from_before_a_restart_are_reported_to_the_next_bmpd() {
    let mut world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let slot = world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    world.connect(&listener).unwrap().close();
    world.crash_and_restart();
    let mut reader = EventReader::new(&world);
    let told = [reader.event(), reader.event()];
    assert!(told.iter().all(|event| event.is_under(&slot)));
    assert_eq!(told.map(|event| event.change), [SocketChange::Connected, SocketChange::Closed { established: true }]);
}

#[test]
fn events_that_find_the_ring_full_are_counted_and_reported() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let address = listener.local_addr().unwrap();
    world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    stop_listening(listener);
    // The station refuses each attempt: one event of 80 or 88 bytes with its header.
    let attempts = EVENTS_BYTES as usize / 80 + 100;
    world.router.run(|| {
        for _ in 0..attempts {
            std::net::TcpStream::connect(address).unwrap_err();
        }
    });
    let mut reader = EventReader::new(&world);
    let mut read = 0;
    let lost = loop {
        match reader.next() {
            Occurrence::Socket(_) => read += 1,
            Occurrence::Lost(lost) => break lost,
        }
    };
    assert_eq!(read + lost, attempts as u64);
    assert!(lost >= 100 && read > 2000, "{lost} lost, {read} read");
}

#[test]
fn events_have_one_reader() {
    let world = UplinkWorld::new();
    let reader = EventReader::new(&world);
    let again = reader.runtime.block_on(async { world.datapath.events().unwrap_err().to_string() });
    assert_eq!(again, "the events of the kernel programs have one reader, which is there already");
}

#[test]
fn retransmits_are_counted_as_tcp_itself_counts_them() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let slot = world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    let mut session = world.connect(&listener).unwrap();
    session.send(1000);
    assert_eq!(world.datapath.counters(&slot).retransmits, retransmits(&session.router));
    // The station's acknowledgements are lost.
    world.station.ip(&format!("route add blackhole {UP1}/32"));
    session.router.write_all(&[0; 1000]).unwrap();
    // Each one doubles the time until the next, which is a second on a busy machine.
    let enough = |counters: &bmp_ebpf::Counters| counters.retransmits >= 2;
    assert!(enough(&wait_for(|| world.datapath.counters(&slot), enough)));
    world.station.ip(&format!("route del blackhole {UP1}/32"));
    session.send(1);
    assert_eq!(world.datapath.counters(&slot).retransmits, retransmits(&session.router));
}

/// Returns a listener of the router that the station connects to.
fn listen_at_router(world: &UplinkWorld) -> TcpListener {
    world.router.run(|| TcpListener::bind((UP1, 0)).unwrap())
}

#[test]
fn accepted_sockets_are_under_the_slot_of_their_listener() {
    let world = UplinkWorld::new();
    let mut reader = EventReader::new(&world);
    let listener = listen_at_router(&world);
    let key = world.key_of(SocketAddr::new(STATION4.into(), 1));
    let slot = world.datapath.install(&key, world.by_up1()).unwrap();
    world.datapath.tag(&listener, &slot, SocketOwner::Bmpd).unwrap();
    world.router.ip(&format!("route del {STATION4} via 198.51.100.2"));
    let connecting = world.station.socket(Domain::IPV4);
    let source = SocketAddr::new(STATION4.into(), 0);
    world.station.run(|| connecting.bind(&source.into()).unwrap());
    let mut session = connect_back(&world, connecting, &listener);
    session.send(1000);
    let event = reader.event();
    assert_eq!((event.change, event.own, event.is_under(&slot)), (SocketChange::Accepted, true, true));
    assert_eq!(event.local, listener.local_addr().unwrap());
    assert_eq!(event.remote.ip(), IpAddr::from(STATION4));
    let counters = world.datapath.counters(&slot);
    assert_eq!(counters.own_tx.payload_bytes, 1000);
    assert!(counters.own_tx.packets >= 2, "the SYN-ACK too");

    world.datapath.overwrite(&slot, Pin { device: 0, ..pin(None, world.router.ifindex("up0")) });
    session.router.write_all(&[0; 10]).unwrap();
    let denied = |counters: &bmp_ebpf::Counters| counters.denied_interface > 0;
    assert!(denied(&wait_for(|| world.datapath.counters(&slot), denied)), "held to the pin");
}

/// Connects from the station.
fn connect_back(world: &UplinkWorld, socket: socket2::Socket, listener: &TcpListener) -> super::world::ConnectionPair {
    let address = listener.local_addr().unwrap();
    world.station.run(|| socket.connect(&address.into()).unwrap());
    let (router, _) = listener.accept().unwrap();
    let station: std::net::TcpStream = socket.into();
    station.set_read_timeout(Some(PATIENCE)).unwrap();
    super::world::ConnectionPair { router, station }
}

#[test]
fn a_connection_from_before_its_pin_can_be_put_under_a_slot() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let mut session = world.connect(&listener).unwrap();
    session.send(1000);
    let pin = pin(Some(UP0.into()), world.router.ifindex("up0"));
    let slot = world.datapath.install(&world.key(&listener), pin).unwrap();
    world.datapath.tag(&session.router, &slot, SocketOwner::Process(0)).unwrap();
    session.send(200);
    assert_eq!(world.datapath.counters(&slot).foreign_tx.payload_bytes, 200);

    let freed = world.datapath.install(&world.key(&listener), pin).unwrap();
    let number = freed.number();
    let copy = super::super::PinSlot { number, generation: freed.generation };
    world.datapath.free(freed);
    let error = world.datapath.tag(&session.router, &copy, SocketOwner::Process(0)).unwrap_err();
    assert_eq!(error.to_string(), format!("slot {number} is free: no socket can be put under it"));
}
