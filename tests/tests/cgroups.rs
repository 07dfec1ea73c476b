//! The cgroup of the kernel programs decides whose sockets they see. If it is not the host's root,
//! bmpd says so.

use std::path::Path;

use lab::{
    bmpd::{Bmpd, BmpdSetup, StartOptions, number},
    kernel::TestCgroup,
    sabotage::occupy,
    sockets::ForeignSocket,
    station::TestStation,
    topology::{STATION, STATION_PORT, Topology, UP1, UP2},
    trial::TrialPlan,
    wait::until,
};
use serde_json::Value;

const PLAN: TrialPlan<'static> = TrialPlan {
    session: "connect-interface up2",
    station: STATION,
    system: "",
    bmp: "",
    options: USUAL,
    without_offload: false,
};
const USUAL: StartOptions<'static> = StartOptions { arguments: &[], through: &[] };

/// Makes a router and a station, and a setup for the router.
fn prepared() -> (Topology, TestStation, BmpdSetup) {
    let topology = Topology::new();
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let setup = BmpdSetup::new(&topology.router, PLAN.configuration());
    (topology, station, setup)
}

/// Starts bmpd as in a container, in a cgroup namespace of its own. With `alone` it sees no mount
/// of the host's hierarchy.
fn contained(setup: BmpdSetup, cgroup: &TestCgroup, alone: bool) -> Bmpd {
    let mut command = setup.command(&USUAL);
    cgroup.contain(&mut command, alone);
    let bmpd = Bmpd::start_by(setup, &mut command);
    until("bmpd answers", lab::wait::PATIENCE, || {
        bmpd.try_display("display current-configuration").status.success().then_some(())
    });
    bmpd
}

fn why(session: &Value) -> &str {
    session["egress"]["why"].as_str().unwrap_or_default()
}

#[test]
fn in_a_cgroup_namespace_bmpd_reports_that_it_enforces_for_one_cgroup() {
    let (topology, station, setup) = prepared();
    let cgroup = TestCgroup::new();
    let bmpd = contained(setup, &cgroup, true);
    let session = bmpd.wait_up(STATION);
    assert_eq!(session["egress"]["enforcement"], "cgroup", "{session:#}");
    assert!(why(&session).contains("is the root of a cgroup namespace and not the host's"), "{session:#}");
    let verbose = bmpd.display("display bmp session verbose");
    assert!(verbose.contains("Enforcement         : this cgroup only (/"), "{verbose}");
    bmpd.wait_for_log("the limit of enforcement", |line| line.contains("for this cgroup only: /"));
    assert_eq!(cgroup.attached(), 5, "connect4, connect6, egress, ingress, lifecycle");
    // bmpd's own session is pinned and counted.
    assert_eq!(session["local_address"], UP2.to_string());
    assert!(number(&session["kernel"]["tx_packets"]) > 0);
    // A process outside the cgroup is neither pinned nor counted, as bmpd says.
    let outside = ForeignSocket::default().connect(&topology.router, station.address()).expect("the station listens");
    assert_eq!(outside.local_addr().expect("the socket is connected").ip(), UP1);
    assert_eq!(bmpd.session(STATION)["kernel"]["foreign"]["tx_packets"], 0);
    bmpd.terminate();
    assert_eq!(cgroup.attached(), 0);
}

#[test]
fn with_datapath_ebpf_a_cgroup_namespace_is_refused() {
    let (_topology, _station, setup) = prepared();
    let cgroup = TestCgroup::new();
    let mut command = setup.command(&StartOptions { arguments: &["--datapath", "ebpf"], through: &[] });
    cgroup.contain(&mut command, true);
    let refused = command.output().expect("bmpd starts");
    let answer = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{answer}");
    assert!(answer.contains("the programs would see a part of this host alone: /"), "{answer}");
    assert!(answer.contains("--cgroupns=host") && answer.contains("use --datapath auto"), "{answer}");
    assert_eq!(cgroup.attached(), 0);
}

#[test]
fn with_the_hosts_cgroup_hierarchy_in_view_every_process_is_pinned() {
    let (topology, station, setup) = prepared();
    let cgroup = TestCgroup::new();
    let bmpd = contained(setup, &cgroup, false);
    let session = bmpd.wait_up(STATION);
    assert_eq!((&session["egress"]["enforcement"], &session["egress"]["why"]), (&"kernel".into(), &Value::Null));
    assert_eq!(cgroup.attached(), 0);
    let outside = ForeignSocket::default().connect(&topology.router, station.address()).expect("the station listens");
    assert_eq!(outside.local_addr().expect("the socket is connected").ip(), UP2);
}

#[test]
fn programs_attach_to_the_named_cgroup_and_bmpd_reports_the_limit() {
    let (_topology, _station, setup) = prepared();
    let cgroup = TestCgroup::new();
    let arguments = ["--cgroup", cgroup.path()];
    let bmpd = Bmpd::start_in(setup, &StartOptions { arguments: &arguments, through: &[] });
    let session = bmpd.wait_up(STATION);
    assert_eq!(session["egress"]["enforcement"], "cgroup", "{session:#}");
    assert!(why(&session).contains(&format!("outside of --cgroup {} are neither", cgroup.path())), "{session:#}");
    assert_eq!(cgroup.attached(), 5, "connect4, connect6, egress, ingress, lifecycle");
    bmpd.terminate();
    assert_eq!(cgroup.attached(), 0);
}

#[test]
fn a_cgroup_that_bmpd_is_not_in_is_refused() {
    let (_topology, _station, setup) = prepared();
    let (inside, other) = (TestCgroup::new(), TestCgroup::new());
    let mut command = setup.command(&USUAL);
    command.args(["--cgroup", other.path()]);
    lab::kernel::start_in(&mut command, inside.path());
    let bmpd = Bmpd::start_by(setup, &mut command);
    let session = bmpd.wait_up(STATION);
    assert_eq!(session["egress"]["enforcement"], "socket", "{session:#}");
    assert!(why(&session).contains("bmpd itself is not in this cgroup"), "{session:#}");
    assert!(why(&session).contains(&format!("echo $$ > {}/cgroup.procs", other.path())), "{session:#}");
    assert_eq!(other.attached(), 0);
}

#[test]
fn the_named_cgroup_may_be_an_ancestor_of_bmpds_own() {
    let (_topology, _station, setup) = prepared();
    let above = TestCgroup::new();
    let below = Path::new(above.path()).join("service");
    std::fs::create_dir(&below).expect("root may make a cgroup");
    let mut command = setup.command(&USUAL);
    command.args(["--cgroup", above.path()]);
    lab::kernel::start_in(&mut command, below.to_str().expect("the path is ASCII"));
    let bmpd = Bmpd::start_by(setup, &mut command);
    assert_eq!(bmpd.wait_up(STATION)["egress"]["enforcement"], "cgroup");
    bmpd.terminate();
    std::fs::remove_dir(&below).expect("the cgroup is empty");
}

#[test]
fn bmpd_names_the_exclusive_program_that_blocks_a_hook() {
    let (_topology, _station, setup) = prepared();
    let cgroup = TestCgroup::new();
    // BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT
    occupy(cgroup.path().as_ref(), 18, 10);
    let arguments = ["--cgroup", cgroup.path()];
    let bmpd = Bmpd::start_in(setup, &StartOptions { arguments: &arguments, through: &[] });
    let session = bmpd.wait_up(STATION);
    assert_eq!(session["egress"]["enforcement"], "socket", "{session:#}");
    let why = why(&session);
    assert!(why.contains("was attached there without BPF_F_ALLOW_MULTI"), "{why}");
    assert!(why.contains(&format!("`bpftool cgroup show {}`", cgroup.path())), "{why}");
    assert!(!why.contains("seccomp"), "{why}");
    assert_eq!(cgroup.attached(), 1, "bmpd left programs attached");
}
