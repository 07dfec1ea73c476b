//! `bmpd doctor` names what would keep a session from working and the command that mends it, before
//! bmpd runs and while it runs, and changes nothing.

use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
};

use bmp_user::control::read_json;
use lab::{
    bmpd::{Bmpd, BmpdSetup, StartOptions},
    kernel::MemoryCgroup,
    skip::skip,
    topology::{ROUTE_BY_UP2, STATION, Topology},
    trial::TrialPlan,
    wait::{PATIENCE, until},
};
use serde_json::Value;

/// What `bmpd doctor` said.
struct DoctorAnswer {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl DoctorAnswer {
    /// Runs `bmpd doctor` where bmpd would run.
    fn of(setup: &BmpdSetup) -> Self {
        let mut command = setup.bmpd();
        command.args(["doctor", "--json", "--frr", "/nonexistent"]);
        command.arg("--config").arg(setup.file()).arg("--control").arg(setup.control());
        command.arg("--bpffs").arg(setup.bpffs());
        let output = command.output().expect("bmpd can be started");
        let text = String::from_utf8_lossy(&output.stdout);
        let findings = read_json(&text)
            .unwrap_or_else(|error| panic!("{error:#}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        Self { code: output.status.code(), findings }
    }

    /// Returns the findings of a state about a part.
    fn about(&self, examined: &str, state: &str) -> Vec<&Value> {
        self.findings.iter().filter(|finding| finding["examined"] == examined && finding["state"] == state).collect()
    }

    /// Returns the only problem.
    fn problem(&self) -> &Value {
        let problems: Vec<_> = self.findings.iter().filter(|finding| finding["state"] == "problem").collect();
        assert_eq!((problems.len(), self.code), (1, Some(1)), "{:#?}", self.findings);
        problems[0]
    }
}

fn text(finding: &Value) -> &str {
    finding["text"].as_str().unwrap_or_default()
}

#[test]
fn a_host_that_can_pin_the_session_has_no_problem() {
    let topology = Topology::new();
    let setup = BmpdSetup::new(&topology.router, TrialPlan::session("connect-interface up2").configuration());
    let diagnosis = DoctorAnswer::of(&setup);
    assert_eq!(diagnosis.code, Some(0), "{:#?}", diagnosis.findings);
    for examined in ["kernel", "capabilities", "cgroup", "bpffs", "programs", "configuration", "session"] {
        assert_eq!(diagnosis.about(examined, "ok").len(), 1, "{examined}: {:#?}", diagnosis.findings);
    }
    assert!(text(diagnosis.about("session", "ok")[0]).contains("pinned to up2, from 192.0.2.65"));
    assert!(!setup.bpffs().exists() && setup.left_behind().is_empty(), "the doctor changes nothing");
}

#[test]
fn a_missing_route_and_an_absent_interface_are_named_with_their_mend() {
    let topology = Topology::new();
    topology.router.ip(&format!("route del {ROUTE_BY_UP2}"));
    let setup = BmpdSetup::new(&topology.router, TrialPlan::session("connect-interface up2").configuration());
    let diagnosis = DoctorAnswer::of(&setup);
    let problem = diagnosis.problem();
    assert!(text(problem).contains("would be down: no-route"), "{problem}");
    assert_eq!(problem["mend"], format!("ip route add {STATION} dev up2 via GATEWAY metric 1000"));

    let setup = BmpdSetup::new(&topology.router, TrialPlan::session("connect-interface up3").configuration());
    let diagnosis = DoctorAnswer::of(&setup);
    assert!(text(diagnosis.problem()).contains("interface-absent"), "{:#?}", diagnosis.findings);
}

#[test]
fn a_strict_rp_filter_is_a_warning_with_the_sysctl() {
    let topology = Topology::new();
    topology.router.sysctl("net/ipv4/conf/up2/rp_filter", "1");
    let setup = BmpdSetup::new(&topology.router, TrialPlan::session("connect-interface up2").configuration());
    let diagnosis = DoctorAnswer::of(&setup);
    let warnings = diagnosis.about("session", "warning");
    assert!(
        warnings.iter().any(|finding| text(finding).contains("sysctl net.ipv4.conf.up2.rp_filter=2")),
        "{:#?}",
        diagnosis.findings
    );
    assert_eq!(diagnosis.code, Some(0), "a warning is no problem");
}

#[test]
fn a_port_that_another_process_has_is_a_problem() {
    let topology = Topology::new();
    let taken = topology.router.enter(|| TcpListener::bind("127.0.0.1:5000").expect("the port is free"));
    let setup = BmpdSetup::new(&topology.router, TrialPlan::session("connect-interface up2").configuration());
    let diagnosis = DoctorAnswer::of(&setup);
    let problem = diagnosis.problem();
    assert!(text(problem).starts_with("bmp-relay lab cannot listen on 127.0.0.1:5000"), "{problem}");
    assert_eq!(problem["mend"], "`ss -ltnp sport = :5000` shows which process has it");
    drop(taken);
    assert_eq!(DoctorAnswer::of(&setup).code, Some(0));
}

#[test]
fn an_unreadable_configuration_is_a_problem_and_the_host_is_examined_all_the_same() {
    let topology = Topology::new();
    let setup = BmpdSetup::new(&topology.router, "bmp\n bmp-session nonsense\n");
    let diagnosis = DoctorAnswer::of(&setup);
    assert_eq!(diagnosis.problem()["examined"], "configuration");
    assert_eq!(diagnosis.about("programs", "ok").len(), 1);
}

#[test]
fn the_doctor_warns_of_what_check_warns_of() {
    let topology = Topology::new();
    let system = "bgp 65000\n peer 192.0.2.9 as-number 65009\n peer 192.0.2.9 password hunter2\nquit";
    let plan = TrialPlan { system, session: "connect-interface up2", ..TrialPlan::default() };
    let setup = BmpdSetup::new(&topology.router, plan.configuration());
    fs::set_permissions(setup.file(), Permissions::from_mode(0o644)).expect("the file is there");
    let checked = setup.check();
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    let diagnosis = DoctorAnswer::of(&setup);
    let warnings: Vec<_> = diagnosis.about("configuration", "warning").into_iter().map(text).collect();
    assert!(warnings.iter().any(|text| text.contains("every user can read it (mode 0644)")), "{warnings:#?}");
    assert!(warnings.iter().any(|text| text.contains("the next commit seals it")), "{warnings:#?}");
    let shown: String = warnings.iter().map(|text| format!("Warning: {text}.\n")).collect();
    assert_eq!(shown, checked);
}

#[test]
fn a_bmpd_that_may_take_little_memory_is_told_a_limit() {
    let Some(cgroup) = MemoryCgroup::new(512 << 20) else {
        return skip("this host lets nobody limit the memory of a cgroup");
    };
    if !cgroup.is_v2() {
        return skip("the memory controller is one of cgroup v1 here");
    }
    let topology = Topology::new();
    let setup = BmpdSetup::new(&topology.router, TrialPlan::session("connect-interface up2").configuration());
    let mut command = setup.command(&StartOptions::default());
    cgroup.start(&mut command);
    let bmpd = Bmpd::start_by(setup, &mut command);
    let warning = DoctorAnswer::of(bmpd.setup()).about("memory", "warning")[0].clone();
    assert_eq!(warning["mend"], "`memory-limit 356` in the configuration", "{warning}");
}

#[test]
fn a_bpffs_folder_that_is_none_is_a_problem() {
    let topology = Topology::new();
    let setup = BmpdSetup::new(&topology.router, TrialPlan::session("connect-interface up2").configuration());
    let mut command = setup.bmpd();
    command.arg("doctor").arg("--bpffs").arg(setup.file().with_file_name("here")).args(["--frr", "/nonexistent"]);
    let output = command.arg("--control").arg(setup.control()).output().expect("bmpd can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("problem  bpffs") && text.contains("mount -t bpf"), "{text}");
    assert!(text.ends_with("1 problem, 0 warnings\n"), "{text}");
}

#[test]
fn a_bmpd_that_runs_says_why_its_session_is_down() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let diagnosis = DoctorAnswer::of(trial.bmpd.setup());
    assert_eq!(diagnosis.code, Some(0), "{:#?}", diagnosis.findings);
    assert_eq!(diagnosis.about("session", "ok").len(), 1);
    assert_eq!(diagnosis.about("relay", "ok").len(), 1);
    trial.topology.carrier_down("up2");
    trial.bmpd.wait_session(STATION, "down", |session| session["reason"] == "interface-down");
    let diagnosis = DoctorAnswer::of(trial.bmpd.setup());
    assert!(text(diagnosis.problem()).contains("is down: interface-down"), "{:#?}", diagnosis.findings);
}

#[test]
fn a_relay_whose_peer_has_no_route_is_a_warning_with_the_likely_cause() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let _feeder = trial.feeder();
    // bmpd gives a peer some seconds for its first route.
    let warning = until("the doctor finds the peer", PATIENCE, || {
        let diagnosis = DoctorAnswer::of(trial.bmpd.setup());
        let warnings = diagnosis.about("relay", "warning");
        warnings.into_iter().find(|finding| text(finding).contains("is up and has no route: ")).cloned()
    });
    assert!(text(&warning).starts_with("lab: peer "), "{warning}");
}
