//! An adopted session whose daemon is a service of systemd, with the filters of systemd that act on
//! packets: `RestrictNetworkInterfaces=`, `IPAddressAllow=`, `IPAddressDeny=` and
//! `BindNetworkInterface=`.

use std::net::SocketAddr;

use lab::{
    bgp::prefixes,
    bmp,
    bmpd::{Bmpd, number},
    capture::{CapturedPacket, LinkCapture, PacketDirection, sum},
    gobgp::{self, GOBGP, PEER},
    machine::SystemdMachine,
    skip::skip,
    speaker::LabBgpSpeaker,
    station::{RecordedConnection, TestStation},
    topology::{STATION, STATION_PORT, Topology, UP1, UP2},
    trial::{TrialPlan, outgoing},
    unit::TransientService,
    wait::{PATIENCE, until},
};
use programs::Program;
use serde_json::Value;
use tempfile::TempDir;

/// The routes that GoBGP reports.
const ROUTES: usize = 100;

/// GoBGP's peer is on the loopback interface, which systemd filters too.
const ONLY_UP1: &str = "RestrictNetworkInterfaces=lo up1";
const ONLY_UP2: &str = "RestrictNetworkInterfaces=lo up2";
const DENY_STATION: &str = "IPAddressDeny=198.51.100.7";

/// A machine, its station and a service of GoBGP that opens the session.
struct ServiceTrial {
    topology: Topology,
    station: TestStation,
    up1: LinkCapture,
    up2: LinkCapture,
    folder: TempDir,
}

impl ServiceTrial {
    fn new(machine: &SystemdMachine) -> Self {
        let topology = machine.topology();
        gobgp::prepare(&topology.router);
        // A connect without an answer fails after 3 s instead of two minutes.
        topology.router.sysctl("net/ipv4/tcp_syn_retries", "1");
        let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
        let folder = TempDir::with_prefix("lab-service-").expect("a temporary folder can be made");
        std::fs::write(folder.path().join("gobgpd.toml"), gobgp::configuration(station.address()))
            .expect("a temporary file can be written");
        let capture = |link| LinkCapture::start(&topology.router, link, STATION_PORT);
        let (up1, up2) = (capture("up1"), capture("up2"));
        Self { topology, station, up1, up2, folder }
    }

    /// Starts GoBGP in a service with these properties. Routing prefers `up1`.
    fn service(&self, properties: &[&str]) -> TransientService {
        let file = self.folder.path().join("gobgpd.toml");
        let file = file.to_str().expect("the path is text");
        let arguments = ["-f", file, "--api-hosts", gobgp::API, "--log-plain"];
        TransientService::start("lab-gobgpd", properties, Program::Gobgpd, &arguments)
    }

    /// Starts bmpd, which adopts the session and pins it to `up2`.
    fn bmpd(&self) -> Bmpd {
        let plan = TrialPlan::session("adopt\nconnect-interface up2");
        let bmpd = Bmpd::start(&self.topology.router, &plan.configuration());
        bmpd.wait_session(STATION, "pinned", |session| session["phase"] != "resolving");
        bmpd
    }

    /// Announces routes to GoBGP.
    fn announce(&self) -> LabBgpSpeaker {
        let gobgp = SocketAddr::from((GOBGP.0, 179));
        LabBgpSpeaker::announce(&self.topology.router, PEER.0, PEER.1, gobgp, &prefixes(ROUTES))
    }

    /// Asserts that the session of the service is up and leaves by `up2` alone, and that every
    /// packet was counted.
    fn assert_held(&self, bmpd: &Bmpd, service: &TransientService) {
        let _speaker = self.announce();
        let pid = service.pid();
        let session = bmpd.wait_session(STATION, "up for the service", |session| {
            session["state"] == "up" && session["process"]["pid"] == pid
        });
        let port = session["local_port"].as_u64();
        let peer = |connection: &RecordedConnection| Some(u64::from(connection.peer.port())) == port;
        let connection = self.station.wait_for("all routes", PATIENCE, |connections| {
            connections.iter().find(|c| peer(c) && c.announced() >= ROUTES).cloned()
        });
        assert_eq!(connection.peer.ip(), UP2);
        self.assert_counted(bmpd);
        self.assert_nothing_by_up1();
    }

    /// Asserts that the kernel has counted every packet that left by `up2`, and no other.
    fn assert_counted(&self, bmpd: &Bmpd) {
        until("every packet by up2 is counted", PATIENCE, || {
            let kernel = bmpd.session(STATION)["kernel"].clone();
            let counted = (number(&kernel["tx_bytes"]), number(&kernel["tx_packets"]));
            (counted == self.left_by_up2() && counted.1 > 0).then_some(())
        });
    }

    fn assert_nothing_by_up1(&self) {
        assert_eq!(outgoing(&self.up1.packets()), Vec::<&CapturedPacket>::new());
    }

    /// Asserts that the service's connects time out, that nothing leaves by either link, and that
    /// bmpd reports no denial of its own.
    fn assert_filtered(&self, bmpd: &Bmpd) {
        let session = bmpd.wait_down(STATION, "connect-timeout");
        assert!(session["detail"].as_str().is_some_and(|why| why.contains("did not answer gobgpd")), "{session:#}");
        let kernel = &session["kernel"];
        assert_eq!(
            (&kernel["denied"]["interface"], &kernel["denied"]["source"]),
            (&0.into(), &0.into()),
            "{session:#}"
        );
        assert!(number(&kernel["tx_packets"]) > 0, "{session:#}");
        assert_eq!(self.left_by_up2(), (0, 0));
    }

    /// Returns the bytes and packets that left by `up2`.
    fn left_by_up2(&self) -> (u64, u64) {
        sum(&self.up2.packets(), |packet| packet.direction == PacketDirection::Out)
    }
}

/// Waits until the session of `service` is up, and returns it.
fn wait_up(bmpd: &Bmpd, service: &TransientService) -> Value {
    bmpd.wait_session(STATION, "up", |session| session["state"] == "up" && session["process"]["pid"] == service.pid())
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn a_service_restricted_to_the_pinned_interface_is_held_and_counted() {
    let Some(machine) = SystemdMachine::here() else { return };
    let trial = ServiceTrial::new(&machine);
    let bmpd = trial.bmpd();
    let service = trial.service(&[ONLY_UP2]);
    trial.assert_held(&bmpd, &service);
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn a_service_restricted_before_bmpd_starts_is_held_and_counted() {
    let Some(machine) = SystemdMachine::here() else { return };
    let trial = ServiceTrial::new(&machine);
    // Until then systemd drops what routing sends by up1.
    let service = trial.service(&[ONLY_UP2]);
    let bmpd = trial.bmpd();
    trial.assert_held(&bmpd, &service);
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn a_service_restricted_to_another_interface_sends_nothing_and_times_out() {
    let Some(machine) = SystemdMachine::here() else { return };
    let trial = ServiceTrial::new(&machine);
    let bmpd = trial.bmpd();
    let _service = trial.service(&[ONLY_UP1]);
    trial.assert_filtered(&bmpd);
    trial.assert_nothing_by_up1();
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn a_service_up_by_another_interface_before_bmpd_starts_is_closed_and_times_out() {
    let Some(machine) = SystemdMachine::here() else { return };
    let trial = ServiceTrial::new(&machine);
    let _service = trial.service(&[ONLY_UP1]);
    let free = trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(free.peer.ip(), UP1, "routing chose up1");
    let bmpd = trial.bmpd();
    trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    // GoBGP notices a closed connection only when it writes.
    let _speaker = trial.announce();
    trial.assert_filtered(&bmpd);
    let packets = trial.up1.packets();
    assert!(outgoing(&packets).iter().all(|packet| packet.source == free.peer), "{packets:#?}");
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn a_service_that_may_not_reach_the_station_sends_nothing_and_times_out() {
    let Some(machine) = SystemdMachine::here() else { return };
    let trial = ServiceTrial::new(&machine);
    let bmpd = trial.bmpd();
    let _service = trial.service(&[DENY_STATION]);
    trial.assert_filtered(&bmpd);
    trial.assert_nothing_by_up1();
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn a_service_that_may_reach_the_station_alone_is_held_and_counted() {
    let Some(machine) = SystemdMachine::here() else { return };
    let trial = ServiceTrial::new(&machine);
    let bmpd = trial.bmpd();
    let service = trial.service(&["IPAddressDeny=any", "IPAddressAllow=127.0.0.0/8 10.255.0.0/24 198.51.100.7"]);
    trial.assert_held(&bmpd, &service);
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn a_denial_added_to_a_running_service_stops_its_packets_and_its_removal_lets_them_go_on() {
    let Some(machine) = SystemdMachine::here() else { return };
    let trial = ServiceTrial::new(&machine);
    let bmpd = trial.bmpd();
    let service = trial.service(&[]);
    let connection = trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    bmpd.wait_up(STATION);
    service.set(&[DENY_STATION]);
    let left = trial.left_by_up2();
    let counted = |bmpd: &Bmpd| number(&bmpd.session(STATION)["kernel"]["tx_packets"]);
    let before = counted(&bmpd);
    let speaker = trial.announce();
    until("a packet that systemd drops is counted", PATIENCE, || (counted(&bmpd) > before).then_some(()));
    assert_eq!(trial.left_by_up2(), left, "systemd let a packet of the service leave");
    assert_eq!(bmpd.session(STATION)["state"], "up", "TCP repeats what was dropped");
    service.set(&["IPAddressDeny="]);
    let later = trial.station.wait_connection(0, "all routes", |c| c.announced() >= ROUTES);
    assert_eq!((later.peer, connection.peer.ip()), (connection.peer, UP2));
    trial.assert_nothing_by_up1();
    drop(speaker);
}

#[test]
#[ignore = "needs systemd 260: cargo xtask vm --systemd --kernel testing"]
fn a_service_bound_to_the_pinned_interface_by_systemd_is_held_and_counted() {
    let Some(machine) = SystemdMachine::here() else { return };
    if !binds_services(&machine) {
        return;
    }
    let trial = ServiceTrial::new(&machine);
    let bmpd = trial.bmpd();
    let service = trial.service(&["BindNetworkInterface=up2"]);
    wait_up(&bmpd, &service);
    trial.assert_counted(&bmpd);
    trial.assert_nothing_by_up1();
}

#[test]
#[ignore = "needs systemd 260: cargo xtask vm --systemd --kernel testing"]
fn a_service_bound_to_the_pinned_interface_before_bmpd_starts_is_taken_in() {
    let Some(machine) = SystemdMachine::here() else { return };
    if !binds_services(&machine) {
        return;
    }
    let trial = ServiceTrial::new(&machine);
    let service = trial.service(&["BindNetworkInterface=up2"]);
    let first = trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    let bmpd = trial.bmpd();
    let session = wait_up(&bmpd, &service);
    assert_eq!(session["local_port"], first.peer.port(), "the same connection");
    trial.assert_nothing_by_up1();
}

#[test]
#[ignore = "needs systemd 260: cargo xtask vm --systemd --kernel testing"]
fn a_service_bound_to_another_interface_by_systemd_is_refused_by_name() {
    let Some(machine) = SystemdMachine::here() else { return };
    if !binds_services(&machine) {
        return;
    }
    let trial = ServiceTrial::new(&machine);
    let bmpd = trial.bmpd();
    let _service = trial.service(&["BindNetworkInterface=up1"]);
    let session = bmpd.wait_down(STATION, "source-conflict");
    assert!(session["detail"].as_str().is_some_and(|why| why.contains("another interface than up2")), "{session:#}");
    assert_eq!(trial.left_by_up2(), (0, 0));
    trial.assert_nothing_by_up1();
}

/// True if systemd has `BindNetworkInterface=`; else the test is skipped.
fn binds_services(machine: &SystemdMachine) -> bool {
    let version = machine.systemd_version();
    if version < 260 {
        skip(&format!("systemd {version} has no BindNetworkInterface=: cargo xtask vm --systemd --kernel testing"));
    }
    version >= 260
}
