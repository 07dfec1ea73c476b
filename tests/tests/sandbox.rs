//! What bmpd gives up once it has started: an intruder in one of its threads gets no further.

use std::{collections::BTreeMap, fs};

use lab::{
    bmpd::{Bmpd, StartOptions},
    topology::STATION,
    trial::TrialPlan,
};

/// What an intruder would try. `bmp-user/src/sandbox/attempt.rs` tries it on a thread of bmpd.
const ATTEMPTS: [&str; 6] = ["execve", "module", "packets", "passwords", "process", "ptrace"];

/// Returns the fields of status files (proc_pid_status(5)) of all threads, by the thread's name.
fn threads(process: u32) -> Vec<(String, BTreeMap<String, String>)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    tasks
        .map(|task| {
            let status = fs::read_to_string(task.expect("the folder can be read").path().join("status"));
            let status = status.expect("the thread runs");
            let fields = status.lines().filter_map(|line| line.split_once(":\t"));
            let fields: BTreeMap<_, _> = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            (fields["Name"].clone(), fields)
        })
        .collect()
}

/// Lets a thread of bmpd try something. Returns what came of it.
fn attempt(bmpd: &Bmpd, what: &str) -> String {
    bmpd.fault(&format!("attempt {what}")).expect("the build has debug assertions").join("\n")
}

/// Returns a set of capabilities as bits (linux/capability.h).
fn bits(numbers: &[u32]) -> u64 {
    numbers.iter().map(|number| 1_u64 << number).sum()
}

const NET_BIND_SERVICE: u32 = 10;
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;
const SYS_PTRACE: u32 = 19;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

fn permitted(fields: &BTreeMap<String, String>) -> u64 {
    u64::from_str_radix(&fields["CapPrm"], 16).expect("it is a hexadecimal number")
}

#[test]
fn each_thread_keeps_the_capabilities_that_it_needs_and_none_can_return() {
    for (system, port) in [("", false), ("bgp 65000\n listen-port 179\nquit", true)] {
        let trial = TrialPlan { system, ..TrialPlan::session("connect-interface up2") }.start_up();
        let mut seen = Vec::new();
        for (name, fields) in threads(trial.bmpd.pid()) {
            let expected = match name.as_str() {
                "log writer" => 0,
                "inspector" => bits(&[SYS_PTRACE]),
                _ if port => bits(&[BPF, NET_ADMIN, NET_BIND_SERVICE, NET_RAW, PERFMON]),
                _ => bits(&[BPF, NET_ADMIN, NET_RAW, PERFMON]),
            };
            assert_eq!(permitted(&fields), expected, "{name}");
            for set in ["CapInh", "CapBnd", "CapAmb"] {
                assert_eq!(fields[set], "0000000000000000", "{set} of {name}");
            }
            assert_eq!((fields["NoNewPrivs"].as_str(), fields["Seccomp"].as_str()), ("1", "2"), "{name}");
            seen.push(name);
        }
        assert!(
            ["inspector", "log writer", "mender"].iter().all(|name| seen.iter().any(|seen| seen == name)),
            "{seen:?}"
        );
        assert!(trial.bmpd.log().iter().any(|line| line.contains("sandbox in force")), "{:#?}", trial.bmpd.log());
    }
}

#[test]
fn a_thread_of_bmpd_starts_no_program_and_reads_no_passwords() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    for what in ATTEMPTS {
        let came = attempt(&trial.bmpd, what);
        let refused = ["Function not implemented", "Permission denied", "Operation not permitted"];
        assert!(refused.iter().any(|words| came.contains(words)), "{what}: {came}");
    }
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn without_the_sandbox_bmpd_warns_and_keeps_its_rights() {
    let options = StartOptions { arguments: &["--no-sandbox"], ..TrialPlan::default().options };
    let trial = TrialPlan { options, ..TrialPlan::session("connect-interface up2") }.start_up();
    assert!(trial.bmpd.log().iter().any(|line| line.contains("WARN") && line.contains("--no-sandbox")));
    assert_eq!(attempt(&trial.bmpd, "passwords"), "done");
    assert!(threads(trial.bmpd.pid()).iter().any(|(_, fields)| fields["Seccomp"] == "0"));
}

#[test]
fn a_commit_that_needs_what_was_given_up_is_refused_until_a_restart() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let refused = |lines: &str| {
        let (accepted, answer) = trial.bmpd.typed(&format!("system-view\n{lines}\ncommit\n"));
        assert!(!accepted, "{answer}");
        answer
    };
    let why = refused("bgp 65000\nlisten-port 179");
    assert!(why.contains("bgp listen-port port 179: bmpd gave up the right") && why.contains("restart bmpd"), "{why}");
    let why = refused("mrt-replay old\nfile /var/tmp/rib.mrt");
    assert!(why.contains("no file in /var/tmp since it started"), "{why}");
    trial.bmpd.commit_lines("bgp 65000\nlisten-port 1790");
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn a_folder_that_bmpd_made_goes_with_it() {
    let folder = tempfile::tempdir().expect("a folder is made");
    let control = folder.path().join("run/bmpd.sock");
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let setup = trial.bmpd.terminate().with_control(&control);
    let bmpd = Bmpd::start_in(setup, &TrialPlan::default().options);
    assert!(control.exists());
    bmpd.terminate();
    assert!(!folder.path().join("run").exists());
}
