//! The kernel holds a BGP peer's connections to its connect-interface, as it does a station's,
//! whoever opens them. Sessions of other processes with the same peer are free.

use std::{
    io::Read as _,
    net::{IpAddr, SocketAddr, TcpListener},
    time::Duration,
};

use bmp_ebpf::{ROLE_CONNECT, ROLE_LISTEN};
use lab::{
    bmp,
    capture::LinkCapture,
    peering::{DAEMON, DaemonTable, Peering, bgp_view},
    sockets::{ForeignSocket, take},
    topology::{BETTER_ROUTE_BY_UP1, LOOPBACK, STATION, STATION_2, Topology, UP1, UP2, UP2_OTHER},
    trial::{LabTrial, TrialPlan, outgoing},
    wait::{PATIENCE, until},
};
use serde_json::{Value, json};

/// Returns the bgp view with one peer, at the station's address. Its best route is by `up1`, the
/// second by `up2`.
fn system(peer: &str) -> String {
    bgp_view(&format!(" peer {STATION} as-number {}\n{peer} ipv4-family unicast\n  peer {STATION} enable\n", DAEMON.1))
}

/// Starts BIRD at the station, with bmpd at address `bmpd`.
fn bird(topology: &Topology, bmpd: IpAddr, passive: bool) -> Peering {
    let table =
        DaemonTable { ipv4: 100, ipv6: 0, passive, from: Some(bmpd), own: Some(STATION), ..DaemonTable::default() };
    Peering::bird(&topology.station, &table)
}

/// Captures of BGP's port on both uplinks.
struct UplinkCaptures {
    up1: LinkCapture,
    up2: LinkCapture,
}

impl UplinkCaptures {
    fn new(trial: &LabTrial) -> Self {
        let on = |link: &str| LinkCapture::start(&trial.topology.router, link, 179);
        Self { up1: on("up1"), up2: on("up2") }
    }

    /// Returns how many packets left by each uplink.
    fn left(&self) -> (usize, usize) {
        let left = |link: &LinkCapture| outgoing(&link.packets()).len();
        (left(&self.up1), left(&self.up2))
    }
}

fn peer(trial: &LabTrial) -> Value {
    trial.bmpd.display_json("display bgp peer")["peers"][0].take()
}

fn wait_peer(trial: &LabTrial, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until(what, 2 * PATIENCE, || Some(peer(trial)).filter(|peer| wanted(peer)))
}

fn established_from(trial: &LabTrial, source: IpAddr) -> Value {
    let source = source.to_string();
    wait_peer(trial, &format!("the peer is established from {source}"), |peer| {
        peer["state"] == "Established" && peer["local_address"] == source.as_str()
    })
}

#[test]
fn a_bgp_session_leaves_by_its_interface_alone_whatever_routing_does() {
    let trial =
        TrialPlan { system: &system(&format!(" peer {STATION} connect-interface up2\n")), ..TrialPlan::default() }
            .start();
    let links = UplinkCaptures::new(&trial);
    let _bird = bird(&trial.topology, UP2, true);
    let shown = established_from(&trial, UP2);
    assert_eq!((&shown["egress"]["interfaces"][0], &shown["egress"]["enforcement"]), (&"up2".into(), &"kernel".into()));
    trial.topology.router.ip(&format!("route add {BETTER_ROUTE_BY_UP1}"));
    // Root removes the binding of the socket. The kernel programs still hold the connection.
    let remote = SocketAddr::new(STATION, 179);
    take(trial.bmpd.pid(), remote).bind_device(None).expect("root may unbind the socket");
    let denied = || {
        let counters = trial.bmpd.objects().counters();
        let pins = trial.bmpd.objects().pins();
        let slots = pins.iter().filter_map(Result::ok).filter(|(key, _)| key.port == 179 && key.role == ROLE_CONNECT);
        let denied = slots.map(|(_, slot)| counters.get(&slot, 0).expect("the counters can be read"));
        denied.flat_map(|cpus| cpus.iter().map(|cpu| cpu.denied_interface).collect::<Vec<_>>()).sum::<u64>()
    };
    // bmpd itself has nothing to send. The peer asks for an acknowledgement by KEEPALIVE, and gets
    // none.
    until("packets that would leave by up1 are denied", 8 * PATIENCE, || (denied() > 0).then_some(()));
    let (by_up1, by_up2) = links.left();
    assert_eq!(by_up1, 0);
    assert!(by_up2 > 0, "the capture saw no packet of the session");
}

#[test]
fn a_peer_is_down_while_its_interface_is_lost_and_back_at_once() {
    let trial =
        TrialPlan { system: &system(&format!(" peer {STATION} connect-interface up2\n")), ..TrialPlan::default() }
            .start();
    let links = UplinkCaptures::new(&trial);
    let _bird = bird(&trial.topology, UP2, true);
    established_from(&trial, UP2);
    trial.station.wait_connection(0, "Peer Up", |c| c.has(bmp::PEER_UP));
    trial.topology.carrier_down("up2");
    // Idle comes first, with the NOTIFICATION that ended the session. The reason follows.
    let shown = wait_peer(&trial, "the peer is not spoken to for that reason", |peer| {
        peer["last_error"].as_str().is_some_and(|why| why.starts_with("interface-down: "))
    });
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("Idle"), &json!("interface-down")));
    let table = trial.bmpd.display("display bgp peer");
    let row = table.lines().find(|line| line.contains(&STATION.to_string()));
    assert!(table.contains("Reason") && row.is_some_and(|row| row.ends_with("interface-down")), "{table}");
    let verbose = trial.bmpd.display(&format!("display bgp peer {STATION} verbose"));
    assert!(verbose.contains("  Reason              : interface-down: "), "{verbose}");
    trial.station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    trial.topology.carrier_up("up2");
    let shown = established_from(&trial, UP2);
    assert_eq!(shown["established_count"], 2, "the count went on");
    let (by_up1, by_up2) = links.left();
    assert_eq!(by_up1, 0);
    assert!(by_up2 > 0, "the capture saw no packet of the session");
}

#[test]
fn a_bgp_session_moves_only_when_a_commit_changes_its_source() {
    let configuration = |source: &str| {
        let system = system(&format!(" peer {STATION} connect-interface {source}\n"));
        TrialPlan { system: &system, ..TrialPlan::default() }.configuration()
    };
    let first = system(&format!(" peer {STATION} connect-interface {UP2_OTHER}\n"));
    let trial = TrialPlan { system: &first, ..TrialPlan::default() }.start();
    let mut daemon = bird(&trial.topology, UP2_OTHER, true);
    established_from(&trial, UP2_OTHER);
    trial.bmpd.reload(&configuration(&UP2_OTHER.to_string()));
    assert_eq!(peer(&trial)["established_count"], 1);
    daemon.kill();
    drop(daemon);
    let _daemon = bird(&trial.topology, UP2, true);
    trial.bmpd.reload(&configuration(&format!("up2 {UP2}")));
    established_from(&trial, UP2);
}

#[test]
fn a_peer_can_connect_only_to_the_address_of_its_connect_interface() {
    let restricted = format!(" peer {STATION} listen-only\n peer {STATION} connect-interface lo {LOOPBACK}\n");
    let trial = TrialPlan { system: &system(&restricted), ..TrialPlan::default() }.start();
    let links = UplinkCaptures::new(&trial);
    until("bmpd listens", PATIENCE, || {
        let peers = trial.bmpd.display_json("display bgp peer");
        (peers["listener"]["port"] == 179 && peers["listener"]["trouble"].is_null()).then_some(())
    });
    // From the peer's address to another address of bmpd, and from another address to the right
    // one.
    for (from, to) in [(STATION, UP1), (STATION_2, LOOPBACK)] {
        let connect = trial.topology.station.clone();
        let attempt = connect.enter(move || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
            socket.connect_timeout(&SocketAddr::new(to, 179).into(), Duration::from_millis(1500))
        });
        assert_eq!(attempt.map_err(|error| error.kind()), Err(std::io::ErrorKind::TimedOut), "{from} to {to}");
    }
    assert_eq!(links.left(), (0, 0), "bmpd answered a caller");
    let _bird = bird(&trial.topology, LOOPBACK, false);
    established_from(&trial, LOOPBACK);
    let pins = trial.bmpd.objects().pins();
    let roles: Vec<u8> =
        pins.iter().filter_map(Result::ok).filter(|(key, _)| key.port == 179).map(|(key, _)| key.role).collect();
    assert_eq!(roles, [ROLE_LISTEN]);
}

#[test]
fn another_process_reaches_the_peer_freely_even_while_bmpd_is_denied() {
    let trial =
        TrialPlan { system: &system(&format!(" peer {STATION} connect-interface up2\n")), ..TrialPlan::default() }
            .start();
    let listener = trial.topology.station.enter(|| TcpListener::bind((STATION, 179))).expect("the port is free");
    let connect = || {
        let mut stream = ForeignSocket::default().connect(&trial.topology.router, SocketAddr::new(STATION, 179))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let local = stream.local_addr()?.ip();
        let _ = stream.read(&mut [0; 1]);
        std::io::Result::Ok(local)
    };
    wait_peer(&trial, "the pin is in force", |peer| peer["egress"]["interfaces"][0] == "up2");
    assert_eq!(connect().expect("the process may connect"), UP1, "the best route's address");
    trial.topology.router.ip("link set up2 down");
    wait_peer(&trial, "the peer is idle", |peer| {
        peer["last_error"].as_str().is_some_and(|why| why.starts_with("interface-down"))
    });
    assert_eq!(connect().expect("the process may still connect"), UP1);
    drop(listener);
}
