//! BPF programs of service managers in the cgroup of a service, below bmpd's programs: systemd's
//! `RestrictNetworkInterfaces=`, `IPAddressDeny=` and the like. The kernel runs all programs, and
//! each can deny.

use std::path::Path;

use lab::{
    bmp,
    bmpd::{Bmpd, BmpdSetup, StartOptions, number},
    capture::{CapturedPacket, PacketDirection, sum},
    kernel::{TestCgroup, start_in},
    sabotage::{deny_all, occupy},
    topology::{STATION, STATION_PORT, UP2},
    trial::{LabTrial, TrialPlan, outgoing},
    wait::PATIENCE,
};

/// `BPF_PROG_TYPE_CGROUP_SKB` (linux/bpf.h).
const SKB: u32 = 8;
/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR` (linux/bpf.h).
const SOCK_ADDR: u32 = 18;

/// `BPF_CGROUP_INET_INGRESS` (linux/bpf.h).
const INGRESS: u32 = 0;
/// `BPF_CGROUP_INET_EGRESS` (linux/bpf.h).
const EGRESS: u32 = 1;
/// `BPF_CGROUP_INET4_CONNECT` (linux/bpf.h).
const CONNECT4: u32 = 10;

/// Starts a session that is pinned to `up2`, while routing prefers `up1`.
fn pinned() -> LabTrial {
    TrialPlan { without_offload: true, ..TrialPlan::session("connect-interface up2") }.start_up()
}

/// Starts a service in the cgroup that connects to the station as routing says: a second bmpd
/// without programs.
fn service(trial: &LabTrial, cgroup: &TestCgroup) -> Bmpd {
    let configuration = format!("bmp\n bmp-session {STATION}\n  tcp connect port {STATION_PORT}\n");
    let setup = BmpdSetup::new(&trial.topology.router, configuration);
    let mut command = setup.command(&StartOptions { arguments: &["--datapath", "socket"], through: &[] });
    start_in(&mut command, cgroup.path());
    Bmpd::start_by(setup, &mut command)
}

/// Attaches programs that pass everything, exclusively, as systemd does for services on old
/// kernels.
fn attach_passing(cgroup: &TestCgroup) {
    for (kind, hook) in [(SKB, INGRESS), (SKB, EGRESS), (SOCK_ADDR, CONNECT4)] {
        occupy(Path::new(cgroup.path()), kind, hook);
    }
}

/// Asserts that the service's connection, the station's second one, left by `up2` alone and was
/// counted.
fn assert_held(trial: &LabTrial) {
    let connection = trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(connection.peer.ip(), UP2);
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
    let (session, packets) = trial.at_rest(&trial.up2);
    let left = sum(&packets, |p| p.direction == PacketDirection::Out && p.source == connection.peer);
    let foreign = &session["kernel"]["foreign"];
    assert_eq!((number(&foreign["tx_bytes"]), number(&foreign["tx_packets"])), left, "{session:#}");
}

#[test]
fn a_service_with_programs_in_its_cgroup_is_pinned() {
    let cgroup = TestCgroup::new();
    attach_passing(&cgroup);
    let trial = pinned();
    let _service = service(&trial, &cgroup);
    assert_held(&trial);
}

#[test]
fn a_service_that_gets_programs_later_is_pinned() {
    let trial = pinned();
    let cgroup = TestCgroup::new();
    attach_passing(&cgroup);
    let _service = service(&trial, &cgroup);
    assert_held(&trial);
}

#[test]
fn a_denial_of_bmpd_holds_although_a_services_programs_pass() {
    let trial = pinned();
    trial.bmpd.reload(&TrialPlan::session("connect-interface up2\n  shutdown").configuration());
    trial.bmpd.wait_down(STATION, "shutdown");
    let cgroup = TestCgroup::new();
    attach_passing(&cgroup);
    service(&trial, &cgroup).wait_down(STATION, "egress-denied");
    assert_eq!(trial.station.connections().len(), 1);
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}

#[test]
fn packets_dropped_by_a_services_program_are_counted_and_do_not_leave() {
    let trial = pinned();
    let own = trial.station.connections()[0].peer;
    let cgroup = TestCgroup::new();
    deny_all(Path::new(cgroup.path()), SKB, EGRESS);
    let _service = service(&trial, &cgroup);
    trial.bmpd.wait_session_for(STATION, "a SYN and its repetition", PATIENCE, |session| {
        number(&session["kernel"]["foreign"]["tx_packets"]) > 1
    });
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
    assert!(outgoing(&trial.up2.packets()).iter().all(|packet| packet.source == own));
}

#[test]
fn a_connect_refused_by_a_services_program_sends_and_counts_nothing() {
    let trial = pinned();
    let own = trial.station.connections()[0].peer;
    let cgroup = TestCgroup::new();
    deny_all(Path::new(cgroup.path()), SOCK_ADDR, CONNECT4);
    service(&trial, &cgroup).wait_down(STATION, "egress-denied");
    let kernel = trial.bmpd.session(STATION)["kernel"].clone();
    assert_eq!(
        (&kernel["foreign"]["tx_packets"], &kernel["denied"]["interface"]),
        (&0.into(), &0.into()),
        "{kernel:#}"
    );
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
    assert!(outgoing(&trial.up2.packets()).iter().all(|packet| packet.source == own));
}
