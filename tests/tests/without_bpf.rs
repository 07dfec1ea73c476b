//! Without BPF, a session is bound to its source by its socket, and bmpd says that the kernel does
//! not enforce it.

use lab::{
    bmpd::{Bmpd, BmpdSetup, StartOptions, number},
    netns::Netns,
    sockets::ForeignSocket,
    station::TestStation,
    topology::{STATION, STATION_PORT, STATION_V6, UP2, UP2_V6},
    trial::{LabTrial, TrialPlan, assert_left_only_by},
    wait::PATIENCE,
};

/// Arguments of setpriv(1): root without the capabilities to load BPF programs, but with those for
/// sockets.
const WITHOUT_BPF: StartOptions<'static> = StartOptions {
    arguments: &[],
    through: &["--inh-caps=-bpf,-sys_admin,-perfmon", "--bounding-set=-bpf,-sys_admin,-perfmon"],
};

/// Asserts that the session works with the right source and link, enforced by its socket alone.
fn works_bound_by_its_socket(trial: &LabTrial) {
    let station = trial.station.address().ip();
    let session = trial.bmpd.wait_up(station);
    assert_eq!(session["egress"]["enforcement"], "socket");
    let connection = trial.routes_arrive(&mut trial.feeder(), 200, 0);
    assert_eq!(connection.peer.ip(), if station.is_ipv4() { UP2 } else { UP2_V6 });
    assert_left_only_by(&trial.up2, &trial.up1, &connection);
    assert_eq!(trial.bmpd.objects(), lab::kernel::BpfObjects::default());
    counts_only_what_its_socket_tells(trial);
}

/// Asserts that what kernel programs would count is null, and `-` in the text.
fn counts_only_what_its_socket_tells(trial: &LabTrial) {
    let session = trial.bmpd.session(trial.station.address().ip());
    let kernel = &session["kernel"];
    for name in ["tx_bytes", "tx_packets", "tx_payload_bytes", "rx_bytes", "rx_packets", "denied", "foreign"] {
        assert!(kernel[name].is_null(), "{name}: {kernel:#}");
    }
    assert_eq!(kernel["retransmits"], 0);
    for null in [&session["egress"]["losses"], &session["connections"], &session["unheld"]] {
        assert!(null.is_null(), "{session:#}");
    }
    let verbose = trial.bmpd.display("display bmp session verbose");
    for line in
        ["  Sent                : -, 0 segments again\n", "  Denied              : -\n", "  Foreign             : -\n"]
    {
        assert!(verbose.contains(line), "{verbose}");
    }
}

#[test]
fn datapath_socket_binds_a_session_by_its_socket_and_reports_it() {
    let options = StartOptions { arguments: &["--datapath", "socket"], through: &[] };
    let trial = TrialPlan { options, ..TrialPlan::session("connect-interface up2") }.start();
    works_bound_by_its_socket(&trial);
    let verbose = trial.bmpd.display("display bmp session verbose");
    assert!(verbose.contains("socket"), "{verbose}");
}

#[test]
fn datapath_socket_binds_an_ipv6_session_too() {
    let options = StartOptions { arguments: &["--datapath", "socket"], through: &[] };
    let trial = TrialPlan { options, station: STATION_V6, ..TrialPlan::session("connect-interface up2") }.start();
    works_bound_by_its_socket(&trial);
}

#[test]
fn datapath_auto_without_bpf_binds_by_the_socket_and_logs_why() {
    let trial = TrialPlan { options: WITHOUT_BPF, ..TrialPlan::session("connect-interface up2") }.start();
    works_bound_by_its_socket(&trial);
    let why = |line: &str| line.contains("permitted") || line.contains("EPERM") || line.contains("CAP_");
    trial.bmpd.wait_for_log("why BPF is not used", why);
    let verbose = trial.bmpd.display("display bmp session verbose");
    assert!(verbose.lines().any(why), "display does not say why:\n{verbose}");
}

#[test]
fn datapath_ebpf_without_bpf_exits_with_one_line() {
    let netns = Netns::new("router");
    let setup = BmpdSetup::new(&netns, TrialPlan::default().configuration());
    let ended = setup.run(&StartOptions { arguments: &["--datapath", "ebpf"], ..WITHOUT_BPF });
    assert_eq!(ended.code, Some(1), "{:?}", ended.lines);
    assert!(ended.lines.iter().any(|line| line.contains("error")), "{:?}", ended.lines);
    assert_eq!(setup.left_behind(), Vec::<std::ffi::OsString>::new());
}

#[test]
fn datapath_ebpf_enforces_in_the_kernel() {
    let options = StartOptions { arguments: &["--datapath", "ebpf"], through: &[] };
    let trial = TrialPlan { options, ..TrialPlan::session("connect-interface up2") }.start();
    assert_eq!(trial.bmpd.wait_up(STATION)["egress"]["enforcement"], "kernel");
}

#[test]
fn an_invalid_cgroup_is_reported_and_the_socket_binds_the_session() {
    let options = StartOptions { arguments: &["--cgroup", "/proc"], through: &[] };
    let trial = TrialPlan { options, ..TrialPlan::session("connect-interface up2") }.start();
    works_bound_by_its_socket(&trial);
    trial.bmpd.wait_for_log("the refused cgroup", |line| line.contains("/proc"));
}

#[test]
fn datapath_auto_retries_after_a_lack_of_descriptors() {
    let topology = lab::topology::Topology::new();
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let plan = TrialPlan::session("connect-interface up2");
    // Enough descriptors to run, and too few to load programs and maps.
    let bmpd = Bmpd::start_with_descriptors(&topology.router, &plan.configuration(), 36);
    let session = bmpd.wait_up(STATION);
    assert_eq!(session["egress"]["enforcement"], "socket", "{session:#}");
    let why = session["egress"]["why"].as_str().expect("the display says why");
    assert!(why.contains("Too many open files") && why.contains("tried again every 10 s"), "{why}");

    bmpd.allow_descriptors(1024);
    bmpd.wait_session_for(STATION, "enforced", PATIENCE * 2, |session| {
        session["state"] == "up" && session["egress"]["enforcement"] == "kernel"
    });
    let connection = station.wait_connection(1, "Initiation", |c| c.has(lab::bmp::INITIATION));
    assert_eq!(connection.peer.ip(), UP2);
    let foreign =
        ForeignSocket::default().connect(&topology.router, station.address()).expect("the pin lets it connect");
    assert_eq!(foreign.local_addr().expect("the socket is connected").ip(), UP2);
    let sent = number(&bmpd.session(STATION)["kernel"]["tx_packets"]);
    assert!(sent > 0, "the kernel counts nothing");
}
