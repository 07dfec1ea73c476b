//! bmpd finds losses in the kernel and in the BPF file system within seconds, reports them, and
//! repairs them.

use std::{
    fs,
    io::Read,
    net::TcpStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bmp_ebpf::VERSION;
use bmp_user::control::read_json;
use lab::{
    bmpd::{StartOptions, number},
    kernel::TestCgroup,
    passive::{BY_UP2, gets_no_answer, guarded, stranger},
    sabotage::{PrivateBpffs, detach, empty, replace},
    sockets::ForeignSocket,
    topology::{STATION, UP1, UP2},
    trial::{LabTrial, TrialPlan, outgoing, strays},
    wait::{PATIENCE, patience, until},
};

/// How soon bmpd must find and repair a loss.
const SOON: Duration = Duration::from_secs(5);

/// `enum bpf_prog_type` and `enum bpf_attach_type` (linux/bpf.h) of the program connect4.
const CONNECT4: (u32, u32) = (18, 10);
/// `enum bpf_prog_type` and `enum bpf_attach_type` (linux/bpf.h) of the program egress.
const EGRESS: (u32, u32) = (8, 1);

/// Connects another process to the session's station.
fn foreign(trial: &LabTrial) -> std::io::Result<TcpStream> {
    ForeignSocket::default().connect(&trial.topology.router, trial.station.address())
}

fn layout(trial: &LabTrial) -> PathBuf {
    trial.bmpd.setup().bpffs().join(format!("v{VERSION}"))
}

/// Counts the log lines about a loss.
fn loss_lines(trial: &LabTrial) -> usize {
    let about = |line: &&String| line.contains("does not enforce") || line.contains("would not outlive");
    trial.bmpd.log().iter().filter(about).count()
}

fn wait_mended(trial: &LabTrial, since: Instant) {
    trial.bmpd.wait_for_log("that it is whole again", |line| line.contains("whole again"));
    assert!(since.elapsed() < patience(SOON), "it took {:?}", since.elapsed());
    let session = trial.bmpd.session(STATION);
    assert_eq!((&session["egress"]["enforcement"], number(&session["egress"]["losses"])), (&"kernel".into(), 1));
    assert!(session["egress"]["lost"].is_null(), "{session:#}");
    assert!(trial.bmpd.display("display bmp session verbose").contains("1 since bmpd began"));
    assert_eq!(loss_lines(trial), 1, "{:#?}", trial.bmpd.log());
}

/// Damages a trial whose session is up, and asserts the repair: another process is pinned, even
/// after bmpd is killed.
fn is_put_back(damage: impl FnOnce(&LabTrial)) {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let since = Instant::now();
    damage(&trial);
    wait_mended(&trial, since);
    let by_up1 = outgoing(&trial.up1.packets()).len();
    let first = foreign(&trial).expect("the pin lets it connect");
    assert_eq!(first.local_addr().expect("the socket is connected").ip(), UP2);
    trial.routes_arrive(&mut trial.feeder(), 50, 0);
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1, "the session was touched");

    let LabTrial { bmpd, station, up1, topology, .. } = trial;
    let _left = bmpd.crash();
    let second =
        ForeignSocket::default().connect(&topology.router, station.address()).expect("the pin lets it connect");
    assert_eq!(second.local_addr().expect("the socket is connected").ip(), UP2);
    assert_eq!(outgoing(&up1.packets()).len(), by_up1, "packets left by the other link");
}

#[test]
fn a_detached_link_is_attached_again() {
    for name in ["connect4", "egress", "lifecycle"] {
        is_put_back(|trial| detach(&layout(trial).join("links").join(name)));
    }
}

#[test]
fn a_replaced_program_is_restored_under_its_link() {
    is_put_back(|trial| replace(&layout(trial).join("links/connect4"), CONNECT4.0, CONNECT4.1));
    is_put_back(|trial| replace(&layout(trial).join("links/egress"), EGRESS.0, EGRESS.1));
}

#[test]
fn objects_removed_from_the_bpf_file_system_are_pinned_again() {
    for name in ["links/connect4", "programs/egress", "tables/PINS"] {
        is_put_back(|trial| fs::remove_file(layout(trial).join(name)).expect("root may remove a pin"));
    }
    is_put_back(|trial| fs::remove_dir_all(trial.bmpd.setup().bpffs()).expect("root may remove pins"));
    // A link that only its pin holds goes with the pin. bmpd holds its links open.
    is_put_back(|trial| {
        detach(&layout(trial).join("links/connect4"));
        fs::remove_dir_all(layout(trial)).expect("root may remove pins");
    });
}

#[test]
fn entries_removed_from_the_map_of_pins_are_restored() {
    // A key of this map has 32 bytes.
    is_put_back(|trial| assert_eq!(empty(&layout(trial).join("tables/PINS"), 32), 1));
}

#[test]
fn a_stray_connection_made_during_a_loss_is_closed() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    // bmpd may look between the two, so try again.
    let mut stray = until("a foreign connection by the other link", PATIENCE, || {
        // With only one of the two programs missing, the other one finds the connection.
        for name in ["connect4", "lifecycle"] {
            detach(&layout(&trial).join("links").join(name));
        }
        foreign(&trial).ok().filter(|stream| stream.local_addr().is_ok_and(|local| local.ip() == UP1))
    });
    trial.bmpd.wait_for_log("that it is closed", |line| line.contains("closed the connection from 192.0.2.1:"));
    stray.set_read_timeout(Some(PATIENCE)).expect("the socket has a timeout");
    let ended = stray.read(&mut [0]);
    assert!(matches!(&ended, Ok(0)) || ended.is_err_and(|error| error.raw_os_error() == Some(libc::ECONNABORTED)));
    assert_eq!(
        foreign(&trial).expect("the pin lets it connect").local_addr().expect("the socket is connected").ip(),
        UP2
    );
}

#[test]
fn a_detached_guard_is_attached_to_its_interface_again() {
    let trial = TrialPlan::session(BY_UP2).start();
    guarded(&trial.bmpd, STATION);
    let links = layout(&trial).join("links");
    let guard = || {
        let found = fs::read_dir(&links).into_iter().flatten().flatten().map(|entry| entry.path());
        found.into_iter().find(|path| path.to_string_lossy().contains("/guard-"))
    };
    let since = Instant::now();
    detach(&guard().expect("the guard is pinned"));
    wait_mended(&trial, since);
    until("the program is on the interface", SOON, || {
        trial.topology.router.ip_show("-details link show up2").contains("xdp").then_some(())
    });
    guarded(&trial.bmpd, STATION);
    let stranger = stranger(&trial.topology);
    gets_no_answer(&stranger, UP2);
    assert!(number(&trial.bmpd.session(STATION)["guard"]["dropped_packets"]) >= 1);
}

/// Returns exit status, warning and the session's `egress` of `display` during a loss.
fn while_lost(trial: &LabTrial) -> (Option<i32>, String, serde_json::Value) {
    let shown = trial.bmpd.try_display("display bmp session --json");
    let answer = String::from_utf8_lossy(&shown.stdout);
    let sessions: serde_json::Value = read_json(&answer).expect("bmpctl prints an answer in JSON");
    (shown.status.code(), String::from_utf8_lossy(&shown.stderr).into_owned(), sessions[0]["egress"].clone())
}

#[test]
fn a_loss_without_repair_is_displayed_until_repaired() {
    let cgroup = TestCgroup::new();
    let arguments = ["--cgroup", cgroup.path()];
    let options = StartOptions { arguments: &arguments, through: &[] };
    let trial = TrialPlan { options, ..TrialPlan::session("connect-interface up2") }.start_up();
    assert_eq!(while_lost(&trial).0, Some(0));
    // bmpd attaches nothing to a cgroup that it is not in.
    cgroup.release(trial.bmpd.pid());
    for name in ["connect4", "connect6", "egress", "ingress", "lifecycle"] {
        detach(&layout(&trial).join("links").join(name));
    }
    let (warning, egress) = until("bmpd finds the loss", SOON, || {
        let (status, warning, egress) = while_lost(&trial);
        (status == Some(4)).then_some((warning, egress))
    });
    assert!(warning.contains("the kernel does not enforce: program "), "{warning}");
    assert_eq!(egress["enforcement"], "socket");
    assert!(egress["why"].as_str().is_some_and(|why| why.starts_with("enforcement is lost: ")), "{egress:#}");
    assert!(egress["lost"]["for_seconds"].is_u64(), "{egress:#}");
    let why = "bmpd itself is not in this cgroup";
    trial.bmpd.wait_for_log("why there is no repair", |line| {
        line.contains("cannot be mended: --cgroup") && line.contains(why)
    });
    let verbose = trial.bmpd.try_display("display bmp session verbose");
    assert!(String::from_utf8_lossy(&verbose.stdout).contains("not mended yet: --cgroup"));

    cgroup.take(trial.bmpd.pid());
    until("the repair", PATIENCE, || (while_lost(&trial).0 == Some(0)).then_some(()));
    assert_eq!(cgroup.attached(), 5);
    let egress = while_lost(&trial).2;
    assert_eq!(
        (&egress["enforcement"], &egress["lost"], number(&egress["losses"])),
        (&"cgroup".into(), &serde_json::Value::Null, 1)
    );
    assert_eq!(loss_lines(&trial), 1);
}

#[test]
fn an_unmounted_bpf_file_system_is_reported_while_sessions_stay_pinned() {
    let bpffs = PrivateBpffs::new("unmounted");
    let folder = bpffs.folder();
    let arguments = ["--bpffs", folder.as_str()];
    let options = StartOptions { arguments: &arguments, through: &[] };
    let trial = TrialPlan { options, ..TrialPlan::session("connect-interface up2") }.start_up();
    bpffs.unmount();
    let (status, warning, egress) = while_lost(&trial);
    assert_eq!((status, &egress["enforcement"]), (Some(4), &"kernel".into()), "{egress:#}");
    assert!(warning.contains("would not outlive bmpd"), "{warning}");
    assert_eq!(
        foreign(&trial).expect("the pin lets it connect").local_addr().expect("the socket is connected").ip(),
        UP2
    );
    trial.bmpd.wait_for_log("why there is no repair", |line| line.contains("not in a BPF file system"));

    bpffs.mount();
    until("the repair", PATIENCE, || (while_lost(&trial).0 == Some(0)).then_some(()));
    assert!(Path::new(&folder).join(format!("v{VERSION}/links/connect4")).exists());
    let setup = trial.bmpd.crash();
    let pinned = ForeignSocket::default()
        .connect(&trial.topology.router, trial.station.address())
        .expect("the pin lets it connect");
    assert_eq!(pinned.local_addr().expect("the socket is connected").ip(), UP2);
    assert_eq!(strays(&trial.up1.packets()), Vec::<&lab::capture::CapturedPacket>::new());
    drop(setup);
}
