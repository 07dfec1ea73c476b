//! Listeners that stations share: the session of each packet, and senders without an answer.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bmp_ebpf::{Counters, PIN_DENY, Pin, RefusedTraffic};
use socket2::{Domain, SockRef, Socket, Type};

use super::super::{Datapath, Occurrence, PinSlot, SocketChange};
use super::world::{
    ConnectionPair, PATIENCE, STATION4, STATION6, UP0, UP1, UP1_IPV6, UplinkWorld, from, pin, wait_for,
};

/// Another address of the station's host.
const STRANGER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 8);

/// How long a station without an answer tries: for one SYN, and one more after a second.
const BRIEFLY: Duration = Duration::from_millis(1300);

/// A world with two station addresses, and a listener at an address of the router.
struct ListenerTrial {
    world: UplinkWorld,
    listener: TcpListener,
    port: u16,
}

impl ListenerTrial {
    fn new(local: impl Into<IpAddr>) -> Self {
        let world = UplinkWorld::new();
        world.station.ip(&format!("addr add {STRANGER4}/32 dev lo"));
        // Answers leave by up1 alone, as from a socket that is bound to it.
        world.router.ip(&format!(
            "route del {STATION4} via 198.51.100.2
             route add {STRANGER4} via 203.0.113.2
             route del {STATION6} via 2001:db8:1::2"
        ));
        for host in [&world.router, &world.station] {
            host.wait_until_up();
        }
        let address = SocketAddr::new(local.into(), 0);
        let socket = world.router.socket(Domain::for_address(address));
        world.datapath.claim_listener(&socket).unwrap();
        world.router.run(|| socket.bind(&address.into()).unwrap());
        socket.listen(16).unwrap();
        let listener = TcpListener::from(socket);
        let port = listener.local_addr().unwrap().port();
        Self { world, listener, port }
    }

    fn install(&self, station: impl Into<IpAddr>, pin: Pin) -> PinSlot {
        self.world.datapath.install(&self.world.datapath.key(&from(station, self.port)), pin).unwrap()
    }

    fn counters(&self, slot: &PinSlot) -> Counters {
        self.world.datapath.counters(slot)
    }

    fn connect(
        &self,
        station: impl Into<IpAddr>,
        to: impl Into<IpAddr>,
        patience: Duration,
    ) -> io::Result<ConnectionPair> {
        let (from, to) = (SocketAddr::new(station.into(), 0), SocketAddr::new(to.into(), self.port));
        let station = self.world.station.run(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.bind(&from.into())?;
            socket.connect_timeout(&to.into(), patience)?;
            socket.set_nonblocking(false)?;
            Ok::<_, io::Error>(TcpStream::from(socket))
        })?;
        station.set_read_timeout(Some(PATIENCE))?;
        let (router, _) = self.listener.accept()?;
        Ok(ConnectionPair { router, station })
    }

    /// Fails to connect by a timeout.
    fn gets_no_answer(&self, station: impl Into<IpAddr>, to: impl Into<IpAddr>) {
        let refused = self.connect(station, to, BRIEFLY).expect_err("it does not get in");
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    }

    fn by_up1(&self) -> Pin {
        self.world.by_up1()
    }
}

#[test]
fn each_packet_counts_for_its_stations_session_from_the_first_on() {
    let trial = ListenerTrial::new(UP1);
    let station = trial.install(STATION4, trial.by_up1());
    let other = trial.install(STRANGER4, trial.by_up1());
    for (address, slot) in [(STATION4, &station), (STRANGER4, &other)] {
        let mut session = trial.connect(address, UP1, PATIENCE).unwrap();
        session.send(100_000);
        session.close();
        let counters = trial.counters(slot);
        assert!(counters.own_tx.payload_bytes >= 100_000, "{counters:?}");
        // SYN, third ACK, ACKs and FIN. The SYN-ACK was sent.
        assert!(counters.own_rx.packets >= 4, "{counters:?}");
        let headers = counters.own_tx.bytes - counters.own_tx.payload_bytes;
        // 52 bytes for each packet, and 8 more for the SYN-ACK.
        assert_eq!(headers, counters.own_tx.packets * 52 + 8, "{counters:?}");
        let rx_headers = counters.own_rx.bytes - counters.own_rx.payload_bytes;
        assert_eq!(rx_headers, counters.own_rx.packets * 52 + 8, "{counters:?}");
        assert_eq!(counters.foreign_tx.packets + counters.foreign_rx.packets, 0);
    }
    assert_eq!(trial.world.datapath.stale(), Counters::default());
}

#[test]
fn an_ipv6_station_is_recognised() {
    let trial = ListenerTrial::new(UP1_IPV6);
    let slot = trial.install(STATION6, pin(Some(UP1_IPV6.into()), trial.world.router.ifindex("up1")));
    let mut session = trial.connect(STATION6, UP1_IPV6, PATIENCE).unwrap();
    session.send(1000);
    session.close();
    let counters = trial.counters(&slot);
    let options = counters.own_tx.bytes - counters.own_tx.payload_bytes - counters.own_tx.packets * 72;
    // Linux 6.1 shows the SYN-ACK of an IPv6 listener to no program.
    assert!([0, 8].contains(&options), "{counters:?}");
    assert_eq!(counters.own_rx.bytes, counters.own_rx.payload_bytes + counters.own_rx.packets * 72 + 8);
}

#[test]
fn a_stranger_gets_no_answer_and_is_counted() {
    let trial = ListenerTrial::new(UP1);
    trial.install(STATION4, trial.by_up1());
    let key = Datapath::guard_key(trial.world.router.ifindex("up1"), UP1.into(), trial.port);
    trial.world.datapath.set_guarded(&BTreeMap::from([(key, 0)])).unwrap();
    let capture = trial.world.capture("dn1", trial.port);
    trial.gets_no_answer(STRANGER4, UP1);
    let refused = trial.world.datapath.refused(|key| key.ifindex == 0);
    assert!(refused.packets >= 1, "{refused:?}");
    assert_eq!(refused.bytes, refused.packets * 60, "SYNs");
    assert_eq!(trial.world.datapath.stale().denied_no_pin, refused.packets);
    assert_eq!(trial.world.datapath.refused(|key| key.ifindex != 0), RefusedTraffic::default());
    assert_eq!(capture.arrived(), Default::default());
}

#[test]
fn a_denied_station_gets_no_answer_and_is_counted_in_its_own_slot() {
    let trial = ListenerTrial::new(UP1);
    let slot = trial.install(STATION4, Pin { flags: PIN_DENY, ..Pin::default() });
    trial.gets_no_answer(STATION4, UP1);
    assert!(trial.counters(&slot).denied_no_pin >= 1);
    assert_eq!(trial.world.datapath.stale(), Counters::default());
}

#[test]
fn a_station_gets_no_answer_by_another_interface_or_at_another_address() {
    let trial = ListenerTrial::new(Ipv4Addr::UNSPECIFIED);
    let slot = trial.install(STATION4, trial.by_up1());
    trial.gets_no_answer(STATION4, UP0);
    assert!(trial.counters(&slot).denied_interface >= 1);
    let slot = trial.install(STATION4, pin(Some(UP1.into()), 0));
    trial.gets_no_answer(STATION4, UP0);
    assert!(trial.counters(&slot).denied_source >= 1);
    trial.connect(STATION4, UP1, PATIENCE).unwrap().send(10);
}

#[test]
fn an_accepted_connection_is_held_to_its_pin() {
    let trial = ListenerTrial::new(UP1);
    let slot = trial.install(STATION4, trial.by_up1());
    let mut session = trial.connect(STATION4, UP1, PATIENCE).unwrap();
    session.send(10);
    trial.world.datapath.overwrite(&slot, pin(Some(UP1.into()), trial.world.router.ifindex("up0")));
    session.router.write_all(&[0; 10]).unwrap();
    let denied = |counters: &Counters| counters.denied_interface > 0;
    assert!(denied(&wait_for(|| trial.counters(&slot), denied)));
}

#[test]
fn an_accepted_connection_moves_to_the_slot_that_its_key_has_by_then() {
    let trial = ListenerTrial::new(UP1);
    let old = trial.install(STATION4, trial.by_up1());
    let mut session = trial.connect(STATION4, UP1, PATIENCE).unwrap();
    session.send(10);
    let new = trial.install(STATION4, trial.by_up1());
    let key = trial.world.datapath.key(&from(STATION4, trial.port));
    trial.world.datapath.admit(&session.router, &key).unwrap();
    session.send(200);
    assert_eq!(trial.counters(&old).own_tx.payload_bytes, 10);
    assert_eq!(trial.counters(&new).own_tx.payload_bytes, 200);
    trial.install(STATION4, Pin { flags: PIN_DENY, ..Pin::default() });
    let denied = trial.world.datapath.admit(&session.router, &key).unwrap_err();
    assert_eq!(denied.to_string(), "the session is denied");
}

#[test]
fn events_of_accepted_connections_belong_to_their_sessions() {
    let trial = ListenerTrial::new(UP1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut events = runtime.block_on(async { trial.world.datapath.events().unwrap() });
    let slot = trial.install(STATION4, trial.by_up1());
    let session = trial.connect(STATION4, UP1, PATIENCE).unwrap();
    let cookie = SockRef::from(&session.router).cookie().unwrap();
    session.close();
    for expected in [SocketChange::Accepted, SocketChange::Closed { established: true }] {
        let next = runtime.block_on(async { tokio::time::timeout(PATIENCE, events.next()).await });
        let Occurrence::Socket(event) = next.expect("an event").unwrap() else { panic!("none is lost") };
        assert_eq!((event.change, event.own, event.cookie), (expected, true, cookie));
        assert!(event.is_under(&slot));
    }
}
