//! bmpd leaves nothing after SIGTERM or a failed start: neither in the kernel, nor in files, nor in
//! the host's network.

use std::{ffi::OsString, path::Path};

use bmp_ebpf::VERSION;
use lab::{
    bmp::{self, ReportedPeer},
    bmpd::{Bmpd, BmpdSetup, StartOptions},
    feeder::BmpFeeder,
    kernel::{BpfObjects, TestCgroup},
    netns::Netns,
    station::{RecordedEnd, TestStation},
    topology::{STATION, STATION_PORT, Topology},
    trial::{RELAY, TrialPlan},
};

/// Returns everything in the host's network that a program could change and leave.
fn network(host: &Netns) -> String {
    let shown =
        ["-details address show", "route show table all", "-6 route show table all", "rule show", "-6 rule show"];
    shown.map(|arguments| host.ip_show(arguments)).join("\n---\n")
}

/// Lists the entries of a folder, if it exists.
fn entries(folder: &str) -> Vec<OsString> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name());
    // Other tests' bmpd may keep files there meanwhile.
    let mut names: Vec<_> = names.filter(|name| name != "bmpd").collect();
    names.sort();
    names
}

fn assert_no_pinned_objects(setup: &BmpdSetup) {
    assert!(!setup.bpffs().exists(), "{} is left", setup.bpffs().display());
}

#[test]
fn nothing_is_left_after_sigterm() {
    let topology = Topology::new();
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let cgroup = TestCgroup::new();
    let (before, run) = (network(&topology.router), entries("/run"));
    let options = StartOptions { arguments: &["--cgroup", cgroup.path()], through: &[] };
    let plan =
        TrialPlan { system: "interface-alias up2 GigabitEthernet0/1/0", ..TrialPlan::session("connect-interface up2") };
    let bmpd = Bmpd::start_with(&topology.router, &plan.configuration(), &options);
    bmpd.wait_up(STATION);
    let objects = bmpd.objects();
    assert_eq!((objects.programs.len(), objects.links.len()), (6, 5), "{objects:?}");
    assert!(objects.maps.len() >= 7, "{objects:?}");
    assert_eq!(objects.remaining(), objects, "the kernel lists the objects");
    assert!(cgroup.attached() >= 5);
    let pid = bmpd.pid();

    let setup = bmpd.terminate();

    assert_eq!(cgroup.attached(), 0);
    objects.wait_gone();
    assert_no_pinned_objects(&setup);
    // The chosen address stays, for the next bmpd.
    assert_eq!(setup.left_behind(), ["bmpd.conf.sources"]);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(network(&topology.router), before);
    assert_eq!(entries("/run"), run);
    station.wait_connection(0, "FIN", |c| c.end == Some(RecordedEnd::Fin));
}

#[test]
fn another_bmpd_can_take_the_same_paths_after_sigterm_and_after_sigkill() {
    let topology = Topology::new();
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let plan = TrialPlan::session("connect-interface up2");
    let first = Bmpd::start(&topology.router, &plan.configuration());
    first.wait_up(STATION);
    let objects = first.objects();
    let setup = first.crash();
    assert_eq!(objects.remaining().links, objects.links, "pinned links outlive a killed bmpd");
    let second = Bmpd::start_in(setup, &StartOptions::default());
    second.wait_up(STATION);
    assert_eq!(second.objects().links, objects.links);
    let third = Bmpd::start_in(second.terminate(), &StartOptions::default());
    third.wait_up(STATION);
    station.wait_connection(2, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(station.connections().len(), 3);
    third.terminate();
    objects.wait_gone();
}

#[test]
fn detach_removes_the_objects_of_a_killed_bmpd_and_reports_them() {
    let topology = Topology::new();
    let _station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let bmpd = Bmpd::start(&topology.router, &TrialPlan::session("connect-interface up2").configuration());
    bmpd.wait_up(STATION);
    let objects = bmpd.objects();
    let path = bmpd.setup().bpffs().display().to_string();
    let refused = bmpd.setup().detach();
    let answer = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(answer.contains(&format!("another bmpd (process {}) runs with the folder {path}", bmpd.pid())), "{answer}");

    let setup = bmpd.crash();
    let done = setup.detach();
    assert_eq!(done.status.code(), Some(0));
    let expected = format!("{path}/v{VERSION}: removed 5 links, 6 programs and 10 tables\n");
    assert_eq!(String::from_utf8_lossy(&done.stdout), expected);
    objects.wait_gone();
    assert_no_pinned_objects(&setup);
}

#[test]
fn a_second_bmpd_with_the_same_bpffs_folder_is_refused_and_the_first_goes_on() {
    let topology = Topology::new();
    let _station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let first = Bmpd::start(&topology.router, &TrialPlan::default().configuration());
    first.wait_up(STATION);
    let folder = first.setup().bpffs().display().to_string();
    let second = BmpdSetup::new(&topology.router, TrialPlan::default().configuration());
    let ended = second.run(&StartOptions { arguments: &["--bpffs", &folder], through: &[] });
    assert_eq!(ended.code, Some(1), "{:?}", ended.lines);
    let refusals = ended.lines.iter().filter(|line| line.contains("another bmpd")).count();
    assert_eq!(refusals, 1, "{:?}", ended.lines);
    assert_eq!(first.session(STATION)["state"], "up");
}

/// How a start that fails ends.
struct FailedStart<'a> {
    /// The exit status.
    code: i32,
    /// A part of the message.
    message: &'a str,
}

/// Starts bmpd with a fault, and asserts that it exits with `expected` and leaves nothing.
fn fails_and_leaves_nothing(setup: &BmpdSetup, netns: &Netns, options: &StartOptions<'_>, expected: &FailedStart<'_>) {
    let cgroup = TestCgroup::new();
    let (before, run) = (network(netns), entries("/run"));
    let mut arguments = vec!["--cgroup", cgroup.path()];
    arguments.extend(options.arguments);
    let ended = setup.run(&StartOptions { arguments: &arguments, through: options.through });
    let FailedStart { code, message } = expected;
    assert_eq!(ended.code, Some(*code), "{:?}", ended.lines);
    assert!(ended.lines.iter().any(|line| line.contains(message)), "no line has {message}: {:?}", ended.lines);
    assert_eq!(cgroup.attached(), 0);
    assert_no_pinned_objects(setup);
    assert_eq!(setup.left_behind(), Vec::<OsString>::new());
    assert_eq!(network(netns), before);
    assert_eq!(entries("/run"), run);
}

#[test]
fn nothing_is_left_after_a_start_with_a_wrong_configuration() {
    let netns = Netns::new("router");
    let setup = BmpdSetup::new(&netns, "bmp\n bmp-session nowhere\n");
    fails_and_leaves_nothing(&setup, &netns, &StartOptions::default(), &FailedStart { code: 78, message: "error:" });
}

#[test]
fn nothing_is_left_after_a_start_without_a_control_socket() {
    let netns = Netns::new("router");
    let setup = BmpdSetup::new(&netns, TrialPlan::default().configuration()).with_control("/proc/bmpd.sock");
    fails_and_leaves_nothing(
        &setup,
        &netns,
        &StartOptions::default(),
        &FailedStart { code: 1, message: "/proc/bmpd.sock" },
    );
}

#[test]
fn nothing_is_left_after_a_start_with_bpf_refused() {
    let options = StartOptions {
        arguments: &["--datapath", "ebpf"],
        through: &["--inh-caps=-bpf,-sys_admin,-perfmon", "--bounding-set=-bpf,-sys_admin,-perfmon"],
    };
    let netns = Netns::new("router");
    let setup = BmpdSetup::new(&netns, TrialPlan::default().configuration());
    fails_and_leaves_nothing(&setup, &netns, &options, &FailedStart { code: 1, message: "error" });
}

#[test]
fn a_second_bmpd_on_the_same_control_socket_is_refused_and_the_first_goes_on() {
    let topology = Topology::new();
    let _station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let first = Bmpd::start(&topology.router, &TrialPlan::default().configuration());
    first.wait_up(STATION);
    let second = first.setup().run(&StartOptions::default());
    assert_eq!(second.code, Some(1), "{:?}", second.lines);
    assert!(second.lines.iter().any(|line| line.contains("bmpd.sock")), "{:?}", second.lines);
    assert_eq!(first.session(STATION)["state"], "up");
    let objects = first.objects();
    first.terminate();
    assert_eq!(objects.remaining().links, BpfObjects::default().links);
}

#[test]
fn a_relay_address_in_use_is_reported_once_and_taken_when_free() {
    let topology = Topology::new();
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let listener = topology.router.enter(|| std::net::TcpListener::bind(RELAY)).expect("the port is free");
    let bmpd = Bmpd::start(&topology.router, &TrialPlan::default().configuration());
    let says = |line: &str| line.contains("127.0.0.1:5000") && line.contains("in use");
    bmpd.wait_for_log("that the address is in use", says);
    bmpd.wait_up(STATION);
    drop(listener);
    // Do not connect to find out: a program that another test starts may hold a copy of the old
    // listener.
    bmpd.wait_for_log("that it listens", |line| line.contains("relay listening"));
    let _feeder = BmpFeeder::with_peer(&topology.router, RELAY, &ReportedPeer::default());
    station.wait_connection(0, "Peer Up", |c| c.has(bmp::PEER_UP));
    assert_eq!(bmpd.log().iter().filter(|line| says(line)).count(), 1);
}
