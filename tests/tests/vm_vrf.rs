//! A session in a VPN instance is in the VRF device of that name: only with that VRF's interfaces,
//! addresses and routes.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use lab::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    bmpd::{Bmpd, StartOptions, number},
    capture::{CapturedPacket, LinkCapture, PacketDirection, sum},
    devices::{VRF_TABLE, tc, vrf},
    feeder::BmpFeeder,
    http,
    sockets::{ForeignSocket, send_all},
    station::{RecordedConnection, TestStation},
    topology::{ROUTE_BY_UP1, ROUTE_BY_UP2, STATION, STATION_PORT, STATION_V6, Topology, UP1, UP2, UP2_V6},
    trial::{RELAY, assert_left_only_by, outgoing, strays},
    wait::{PATIENCE, until},
};
use serde_json::Value;

/// Longer than the kernel needs to announce a change, and far shorter than a grown back-off.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Address of the VRF device itself.
const VRF_LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

/// A bmpd with one session in the VRF `mgmt`, which `up2` is in.
struct VrfTrial {
    bmpd: Bmpd,
    station: TestStation,
    up1: LinkCapture,
    up2: LinkCapture,
    topology: Topology,
}

fn configuration(instance: &str, station: IpAddr, session: &str) -> String {
    let (address, port) = (RELAY.ip(), RELAY.port());
    format!(
        "bmp-relay lab\n listen {address} port {port}\nbmp\n bmp-session {instance} {station}\n  tcp connect port {STATION_PORT}\n{session}\n"
    )
}

impl VrfTrial {
    fn start(station: IpAddr, session: &str) -> Self {
        let topology = Topology::without_offload();
        vrf(&topology, "mgmt");
        Self::start_on(topology, station, session, &StartOptions::default())
    }

    fn start_on(topology: Topology, station: IpAddr, session: &str, options: &StartOptions<'_>) -> Self {
        let up1 = LinkCapture::start(&topology.router, "up1", STATION_PORT);
        let up2 = LinkCapture::start(&topology.router, "up2", STATION_PORT);
        let configuration = configuration("vpn-instance mgmt", station, session);
        let station = TestStation::start(&topology.station, (station, STATION_PORT));
        let bmpd = Bmpd::start_with(&topology.router, &configuration, options);
        Self { bmpd, station, up1, up2, topology }
    }

    fn address(&self) -> IpAddr {
        self.station.address().ip()
    }

    fn up(&self) -> Value {
        self.bmpd.wait_session_for(self.address(), "up", AT_ONCE, |session| session["state"] == "up")
    }

    fn down(&self, reason: &str) -> Value {
        self.bmpd.wait_down(self.address(), reason)
    }

    /// Feeds routes over connection `index`, and asserts that the session left by `up2` from
    /// `source` and was counted.
    fn leaves_by_uplink2(&self, index: usize, source: IpAddr) {
        self.bmpd.wait_up(self.address());
        self.station.wait_connection(index, "Initiation", |c| c.has(bmp::INITIATION));
        let mut feeder = BmpFeeder::with_peer(&self.topology.router, RELAY, &ReportedPeer::default());
        feeder.announce(&ReportedPeer::default(), &prefixes(100), 1);
        let connection = self.station.wait_connection(index, "100 routes", |c| c.announced() >= 100);
        assert_eq!(connection.peer.ip(), source);
        assert_left_only_by(&self.up2, &self.up1, &connection);
        let (session, packets) = self.at_rest();
        assert_eq!(session["egress"]["enforcement"], "kernel");
        assert_eq!(session["kernel"]["denied"]["interface"], 0, "{session:#}");
        if index == 0 {
            let left = sum(&packets, |p| p.direction == PacketDirection::Out && p.source == connection.peer);
            let kernel = &session["kernel"];
            assert_eq!((number(&kernel["tx_bytes"]), number(&kernel["tx_packets"])), left, "{session:#}");
        }
    }

    fn at_rest(&self) -> (Value, Vec<CapturedPacket>) {
        until("bmpd and capture are at rest", PATIENCE, || {
            let before = self.up2.packets();
            let session = self.bmpd.session(self.address());
            (self.up2.count() == before.len()).then_some((session, before))
        })
    }
}

/// Gives the VRF device an address, which the station answers by `dn2`.
fn loopback(topology: &Topology) {
    topology.router.ip(&format!("addr add {VRF_LOOPBACK}/32 dev mgmt"));
    topology.station.ip(&format!("route add {VRF_LOOPBACK}/32 via 192.0.2.65 dev dn2"));
}

/// Moves `up1` into the VRF too, with the better route.
fn both_in_the_vrf(topology: &Topology) {
    vrf(topology, "mgmt");
    topology.router.ip(&format!("link set up1 master mgmt\nroute replace {ROUTE_BY_UP1} table {VRF_TABLE}"));
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn every_form_leaves_by_the_vrf_from_its_source() {
    for (form, source) in [
        ("", UP2),
        ("connect-interface up2", UP2),
        ("connect-interface 192.0.2.65", UP2),
        ("connect-interface mgmt", VRF_LOOPBACK),
        ("connect-interface up2 203.0.113.7", VRF_LOOPBACK),
        ("connect-interface mgmt\n  egress-interface up2", VRF_LOOPBACK),
    ] {
        let topology = Topology::without_offload();
        vrf(&topology, "mgmt");
        loopback(&topology);
        VrfTrial::start_on(topology, STATION, form, &StartOptions::default()).leaves_by_uplink2(0, source);
    }
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn an_ipv6_session_leaves_by_the_vrf() {
    for form in ["", "connect-interface up2", "connect-interface 2001:db8:2::1"] {
        VrfTrial::start(STATION_V6, form).leaves_by_uplink2(0, UP2_V6);
    }
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn a_queue_on_the_vrf_device_routes_packets_twice_and_they_are_counted_once() {
    for form in ["connect-interface up2", "connect-interface 192.0.2.65"] {
        let topology = Topology::without_offload();
        vrf(&topology, "mgmt");
        tc(&topology.router, "qdisc add dev mgmt root pfifo");
        VrfTrial::start_on(topology, STATION, form, &StartOptions::default()).leaves_by_uplink2(0, UP2);
    }
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn a_session_in_the_vrf_works_without_kernel_programs() {
    let topology = Topology::without_offload();
    vrf(&topology, "mgmt");
    let options = StartOptions { arguments: &["--datapath", "socket"], through: &[] };
    let trial = VrfTrial::start_on(topology, STATION, "connect-interface up2", &options);
    trial.bmpd.wait_up(STATION);
    let connection = trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(connection.peer.ip(), UP2);
    assert_left_only_by(&trial.up2, &trial.up1, &connection);
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn a_session_waits_for_its_vrf_and_accepts_a_recreated_one() {
    let topology = Topology::new();
    let trial = VrfTrial::start_on(topology, STATION, "connect-interface up2", &StartOptions::default());
    let session = trial.down("vpn-instance-absent");
    assert_eq!(session["mend"], "ip link add mgmt type vrf table N");
    assert_eq!(session["vpn_instance"], "mgmt");
    assert_eq!(trial.up2.packets(), []);

    vrf(&trial.topology, "mgmt");
    trial.up();
    trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));

    // Without the VRF, its ports are in the default VRF, and the session is not.
    trial.topology.router.ip("link del mgmt");
    trial.down("vpn-instance-absent");
    trial.topology.router.ip("link add spare type dummy");
    vrf(&trial.topology, "mgmt");
    let session = trial.up();
    assert!(session["retry_in_seconds"].is_null(), "{session:#}");
    let again = trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(again.peer.ip(), UP2);

    trial.topology.router.ip("link set mgmt down");
    trial.down("interface-down");
    vrf_up_again(&trial.topology);
    trial.up();
    trial.station.wait_connection(2, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(strays(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}

/// Sets the VRF device up, and restores the routes of its table, which the kernel removed.
fn vrf_up_again(topology: &Topology) {
    topology.router.ip(&format!("link set mgmt up\nroute replace {ROUTE_BY_UP2} table {VRF_TABLE}"));
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn an_interface_in_another_vrf_is_absent_for_the_session() {
    let trial = VrfTrial::start(STATION, "connect-interface up2");
    trial.up();
    trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    for (there, says, mend) in [
        (
            "nomaster",
            "interface up2 is in the default VRF, and the session in VRF mgmt",
            "ip link set dev up2 master mgmt",
        ),
        ("master blue", "interface up2 is in VRF blue, and the session in VRF mgmt", "ip link set dev up2 master mgmt"),
    ] {
        if there == "master blue" {
            trial.topology.router.ip("link add blue type vrf table 200\nlink set blue up");
        }
        trial.topology.router.ip(&format!("link set up2 {there}"));
        let session = trial.bmpd.wait_session(STATION, says, |session| session["detail"] == says);
        assert_eq!((&session["reason"], &session["mend"]), (&"interface-absent".into(), &mend.into()));
    }
    trial.topology.router.ip(&format!("link set up2 master mgmt\nroute replace {ROUTE_BY_UP2} table {VRF_TABLE}"));
    trial.up();
    let again = trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(again.peer.ip(), UP2);
    assert_eq!(strays(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn the_default_vrf_has_no_interface_or_address_of_another_vrf() {
    let topology = Topology::new();
    vrf(&topology, "mgmt");
    let up2 = LinkCapture::start(&topology.router, "up2", STATION_PORT);
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let bmpd = Bmpd::start(&topology.router, &configuration("", STATION, "connect-interface up2"));
    let session = bmpd.wait_down(STATION, "interface-absent");
    assert_eq!(session["detail"], "interface up2 is in VRF mgmt, and the session in the default VRF");
    assert_eq!(session["mend"], "ip link set dev up2 nomaster");
    bmpd.reload(&configuration("", STATION, "connect-interface 192.0.2.65"));
    bmpd.wait_down(STATION, "address-absent");
    assert_eq!(up2.packets(), []);
    topology.router.ip(&format!("link set up2 nomaster\nroute replace {ROUTE_BY_UP2}"));
    bmpd.wait_session_for(STATION, "up", AT_ONCE, |session| session["state"] == "up");
    let connection = station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(connection.peer.ip(), UP2);
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn a_vrf_without_a_route_does_not_use_the_default_vrfs_routes() {
    // The kernel continues with the default VRF's tables, which have a route to the station by
    // `up1`.
    for form in ["", "connect-interface 192.0.2.65", "connect-interface up2"] {
        let trial = VrfTrial::start(STATION, form);
        trial.up();
        trial.topology.router.ip(&format!("route del {ROUTE_BY_UP2} table {VRF_TABLE}"));
        trial.bmpd.wait_session_for(STATION, "down", AT_ONCE, |session| session["reason"] == "no-route");
        trial.topology.router.ip(&format!("route add {ROUTE_BY_UP2} table {VRF_TABLE}"));
        trial.up();
        assert_eq!(strays(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
    }
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn a_next_hop_routes_a_session_of_a_vrf_whose_table_has_no_route() {
    for (form, source) in [("connect-interface up2", UP2), ("connect-interface mgmt", VRF_LOOPBACK)] {
        let topology = Topology::without_offload();
        vrf(&topology, "mgmt");
        loopback(&topology);
        topology.router.ip(&format!("route del {ROUTE_BY_UP2} table {VRF_TABLE}"));
        let session = format!("{form}\n  next-hop 192.0.2.66");
        VrfTrial::start_on(topology, STATION, &session, &StartOptions::default()).leaves_by_uplink2(0, source);
    }
    let session = "connect-interface up2\n  next-hop 2001:db8:2::2";
    VrfTrial::start(STATION_V6, session).leaves_by_uplink2(0, UP2_V6);
}

/// Connects a foreign process (connection 1 of the station), which sends BMP and closes.
fn foreign_session(trial: &VrfTrial, foreign: &ForeignSocket<'_>) -> RecordedConnection {
    let stream = foreign.connect(&trial.topology.router, trial.station.address()).expect("the pin lets it connect");
    let mut messages = vec![bmp::initiation("foreign"), bmp::peer_up(&ReportedPeer::default())];
    messages.extend(bmp::announcements(&ReportedPeer::default(), &prefixes(300), 1));
    send_all(stream, &messages);
    trial.station.wait_connection(1, "its routes and its end", |c| c.announced() == 300 && c.end.is_some())
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn a_foreign_socket_bound_in_the_vrf_is_pinned_and_counted() {
    for device in ["mgmt", "up2"] {
        let topology = Topology::without_offload();
        vrf(&topology, "mgmt");
        loopback(&topology);
        let trial =
            VrfTrial::start_on(topology, STATION, "connect-interface up2 203.0.113.7", &StartOptions::default());
        trial.up();
        trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
        // A socket as `ip vrf exec` makes it, and one that the process binds itself.
        let connection = foreign_session(&trial, &ForeignSocket { source: None, device: Some(device) });
        assert_eq!(connection.peer.ip(), VRF_LOOPBACK, "bound to {device}");
        let (session, _) = trial.at_rest();
        assert!(number(&session["kernel"]["foreign"]["tx_bytes"]) > connection.bytes, "{session:#}");
    }
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn a_socket_of_the_default_vrf_is_not_the_vrf_sessions() {
    let trial = VrfTrial::start(STATION, "connect-interface up2");
    trial.up();
    trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    let connection = foreign_session(&trial, &ForeignSocket::default());
    assert_eq!(connection.peer.ip(), UP1, "routing chose up1");
    assert_eq!(trial.bmpd.session(STATION)["kernel"]["foreign"]["tx_packets"], 0);
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn a_foreign_socket_bound_to_the_vrf_leaves_by_the_pinned_port_or_not_at_all() {
    let topology = Topology::without_offload();
    both_in_the_vrf(&topology);
    let trial = VrfTrial::start_on(topology, STATION, "connect-interface up2", &StartOptions::default());
    trial.leaves_by_uplink2(0, UP2);
    // An unprivileged process keeps its binding to the VRF. Routing prefers `up1`, where egress
    // drops its packets.
    let unprivileged = ForeignSocket { source: None, device: Some("mgmt") };
    let refused = unprivileged.connect(&trial.topology.router, trial.station.address());
    assert!(refused.is_err(), "{refused:?}");
    assert!(number(&trial.bmpd.session(STATION)["kernel"]["denied"]["interface"]) > 0);
    // A socket of root is bound to the port instead.
    let station = trial.station.address();
    let stream = trial.topology.router.enter(|| bound_to(station, "mgmt"));
    assert_eq!(stream.local_addr().unwrap().ip(), UP2);
    trial.station.wait_connection(1, "the second connection", |_| true);
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}

fn bound_to(station: SocketAddr, device: &str) -> std::net::TcpStream {
    let domain = socket2::Domain::for_address(station);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).expect("a socket");
    socket.bind_device(Some(device.as_bytes())).expect("the device exists");
    socket.connect_timeout(&station.into(), PATIENCE).expect("the station answers");
    socket.into()
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn a_station_has_one_session_a_vrf_each_displayed_and_reset_alone() {
    let topology = Topology::new();
    vrf(&topology, "mgmt");
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let both = format!(
        "{} bmp-session vpn-instance mgmt {STATION}\n  tcp connect port {STATION_PORT}\n",
        configuration("", STATION, "")
    );
    let bmpd = Bmpd::start(&topology.router, &both);
    let sources = |connections: &[RecordedConnection]| {
        let mut sources: Vec<_> = connections.iter().map(|connection| connection.peer.ip()).collect();
        sources.sort();
        sources
    };
    station.wait_for("both sessions", PATIENCE, |c| (sources(c) == [UP1, UP2]).then_some(()));
    let shown = bmpd.display("display bmp session vpn-instance mgmt");
    assert!(shown.contains("Total number of BMP session : 1") && shown.contains("mgmt"), "{shown}");
    bmpd.display("reset bmp session vpn-instance mgmt all");
    station.wait_for("the session of the VRF again", PATIENCE, |c| (sources(c) == [UP1, UP2, UP2]).then_some(()));
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn the_http_server_of_a_vrf_is_reached_by_its_interfaces_alone() {
    let topology = Topology::new();
    let configuration = format!("http listen {UP2} port 9179 vpn-instance mgmt\nreturn\n");
    let bmpd = Bmpd::start_with(&topology.router, &configuration, &StartOptions::default());
    let state = |wanted: &str| bmpd.display_json("display http")["state"] == wanted;
    until("bmpd says that the VRF is missing", PATIENCE, || state("failed").then_some(()));
    let why = bmpd.display_json("display http")["why"].to_string();
    assert!(why.contains("there is no VRF device mgmt"), "{why}");

    for _ in 0..2 {
        vrf(&topology, "mgmt");
        until("bmpd listens in the VRF", PATIENCE, || state("listening").then_some(()));
        let server = SocketAddr::from((UP2, 9179));
        until("the server answers", PATIENCE, || http::connect(&topology.station, server).is_ok().then_some(()));
        assert_eq!(http::get(&topology.station, server, "/readyz").status, 200);
        // A socket of the default VRF does not reach it, not even on the host itself.
        assert!(http::connect(&topology.router, server).is_err());
        // Made anew, the device has another index.
        topology.router.ip("link del mgmt");
        until("the VRF is missing again", PATIENCE, || state("failed").then_some(()));
    }
}
