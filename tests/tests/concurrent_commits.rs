//! Several operators, trials of a configuration, and a bmpd that is killed amid commits: no commit
//! is lost, and none is half kept.

use std::{
    fs::{self, File},
    path::Path,
    process::Stdio,
    time::Duration,
};

use lab::{
    bmp,
    bmpd::{Bmpd, StartOptions},
    netns::Netns,
    soak,
    station::RecordedEnd,
    topology::{STATION, UP2, UP2_OTHER},
    trial::TrialPlan,
    wait::{PATIENCE, until},
};

/// These tests need no kernel programs.
const SOCKET: StartOptions<'static> = StartOptions { arguments: &["--datapath", "socket"], through: &[] };

#[test]
fn two_operators_at_once_do_not_lose_each_others_commits() {
    let bmpd = Bmpd::start_with(&Netns::new("router"), "sysname edge1\nbmp\n", &SOCKET);
    // Each operator types commits as fast as bmpd answers.
    let commits = |operator: u8| {
        let one =
            |n: u8| format!("bmp-session 10.30.{operator}.{n}\ntcp connect port {}\ncommit\n", 1000 + u16::from(n));
        let lines: String = (1..=50).map(one).collect();
        bmpd.typed(&format!("system-view\nbmp\n{lines}"))
    };
    std::thread::scope(|scope| {
        let operators = [1, 2].map(|operator| scope.spawn(move || commits(operator)));
        for operator in operators {
            let (accepted, answer) = operator.join().expect("the operator's thread ends");
            // No route leads to these stations, and each commit says so of its session.
            let has_no_route = |line: &str| line.contains("no-route: ") && line.contains("`ip route add 10.30.");
            assert!(accepted && answer.lines().all(has_no_route), "{answer}");
        }
    });
    assert_eq!(bmpd.sessions().len(), 100);
    let running = bmpd.display("display current-configuration");
    assert_eq!(running.matches("tcp connect port").count(), 100);
    assert_eq!(fs::read_to_string(bmpd.setup().file()).expect("the file is readable"), running);
}

#[test]
fn an_unconfirmed_trial_moves_the_session_there_and_back() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let file = fs::read_to_string(trial.bmpd.setup().file()).expect("the file is readable");
    let view = format!("system-view\nbmp\nbmp-session {STATION}\n");
    let sources = trial.bmpd.setup().file().with_extension("conf.sources");
    let chosen = fs::read_to_string(&sources).expect("the address was chosen");
    // bmpctl ends right after its last line.
    let (accepted, answer) = trial.bmpd.typed(&format!("{view}connect-interface up2 192.0.2.129\ncommit trial 1\n"));
    assert!(accepted && answer.contains("for 1 s"), "{answer}");
    for (index, source) in [(1, UP2_OTHER), (2, UP2)] {
        let old = trial.station.wait_connection(index - 1, "its end", |c| c.end.is_some());
        assert_eq!((old.has(bmp::TERMINATION), old.end), (true, Some(RecordedEnd::Fin)));
        let new = trial.station.wait_connection(index, "Initiation", |c| c.has(bmp::INITIATION));
        assert_eq!(new.peer.ip(), source);
        assert_eq!(fs::read_to_string(&sources).ok().as_ref(), Some(&chosen), "a trial must not record sources");
    }
    assert_eq!(fs::read_to_string(trial.bmpd.setup().file()).expect("the file is readable"), file);
}

#[test]
fn a_bmpd_killed_during_a_trial_starts_with_the_old_configuration() {
    let bmpd = Bmpd::start_with(&Netns::new("router"), "sysname edge1\n", &SOCKET);
    let (accepted, answer) = bmpd.typed("system-view\nsysname edge2\ncommit trial 600\n");
    assert!(accepted, "{answer}");
    assert!(bmpd.display("display current-configuration").contains("sysname edge2"));
    let bmpd = Bmpd::start_in(bmpd.crash(), &SOCKET);
    assert!(bmpd.display("display current-configuration").contains("sysname edge1"));
}

/// Returns the number of the last complete line `sysname edgeN`.
fn edge(path: &Path) -> Option<usize> {
    let text = fs::read_to_string(path).ok()?;
    // Ignore a line that is being written.
    let whole = text.rsplit_once('\n')?.0;
    whole.lines().rev().find_map(|line| line.strip_prefix("sysname edge")?.parse().ok())
}

#[test]
fn a_bmpd_killed_amid_commits_leaves_a_whole_file_with_every_answered_one() {
    // Long enough that one write is not enough.
    let sessions: String =
        (0..=255).map(|n| format!(" bmp-session 10.30.0.{n} alias {}\n  hold-down 1\n", "a".repeat(60))).collect();
    let mut bmpd = Bmpd::start_with(&Netns::new("router"), &format!("sysname edge0\nbmp\n{sessions}"), &SOCKET);
    // From here on, the file has bmpd's own form.
    assert!(bmpd.typed("system-view\nsysname edge1\ncommit\n").0);
    let first = bmpd.display("display current-configuration");
    let whole = |number: usize| first.replace("sysname edge1", &format!("sysname edge{number}"));
    let mut number = 1;
    for round in 0..soak::times(16, 1000) {
        let file = bmpd.setup().file();
        let (typed, answered) = (file.with_extension("typed"), file.with_extension("answered"));
        let commit = |n: usize| format!("sysname edge{n}\ncommit\ndisplay current-configuration | include sysname\n");
        let lines: String = (number + 1..number + 1000).map(commit).collect();
        fs::write(&typed, format!("system-view\n{lines}")).expect("the file is writable");
        let mut bmpctl = bmpd.bmpctl(&format!("-f {}", typed.display()));
        bmpctl.stdout(File::create(&answered).expect("the file is writable")).stderr(Stdio::null());
        let mut bmpctl = bmpctl.spawn().expect("bmpctl starts");
        // Wait for more than one commit: the first may still be in the file from the round before.
        until("some commits are answered", PATIENCE, || edge(&answered).filter(|n| *n >= number + 2 + round % 3));
        // This waits for no event: each round kills bmpd at another moment of a commit.
        std::thread::sleep(Duration::from_micros(round as u64 * 211 % 4000));
        let setup = bmpd.crash();
        bmpctl.wait().expect("bmpctl is a child of this process");

        let answered = edge(&answered).expect("commits were answered");
        let kept = fs::read_to_string(&file).expect("the file is readable");
        number = [answered, answered + 1].into_iter().find(|n| kept == whole(*n)).unwrap_or_else(|| {
            panic!("the last answer was edge{answered}; the file is neither that nor the next:\n{kept}")
        });
        let previous = fs::read_to_string(file.with_extension("conf.previous")).expect("the file is readable");
        assert!(
            [number - 1, number].into_iter().any(|n| previous == whole(n)),
            "the previous file is damaged:\n{previous}"
        );
        bmpd = Bmpd::start_in(setup, &SOCKET);
        assert_eq!(bmpd.display("display current-configuration"), kept);
        assert!(!bmpd.setup().left_behind().iter().any(is_half), "{:?}", bmpd.setup().left_behind());
    }
}

/// True for the name of an unfinished file.
fn is_half(name: &std::ffi::OsString) -> bool {
    let name = name.to_string_lossy();
    [".new", ".link", ".unfinished"].iter().any(|end| name.ends_with(end))
}

#[test]
fn a_trial_is_displayed_and_without_a_terminal_only_its_owner_confirms() {
    let bmpd = Bmpd::start_with(&Netns::new("router"), "sysname edge1\n", &SOCKET);
    assert_eq!(bmpd.display_json("display configuration trial"), serde_json::Value::Null);
    assert!(bmpd.typed("system-view\nsysname edge2\ncommit trial 600\n").0);
    let shown = bmpd.display("display configuration trial");
    assert!(shown.contains("Owner       : root\n") && shown.contains(" s of 600 s\n"), "{shown}");
    let (confirmed, answer) = bmpd.typed("commit\n");
    assert!(
        !confirmed && answer.contains("the trial is by root (process ") && answer.contains("`commit force`"),
        "{answer}"
    );
    let (aborted, answer) = bmpd.typed("abort trial\n");
    assert!(!aborted && answer.contains("`abort trial force`"), "{answer}");
    assert!(bmpd.typed("commit force\n").0);
    assert!(fs::read_to_string(bmpd.setup().file()).expect("the file is readable").contains("sysname edge2"));
}

#[test]
fn a_commit_that_the_next_start_would_refuse_changes_nothing() {
    let bmpd = Bmpd::start_with(&Netns::new("router"), "sysname edge1\n", &SOCKET);
    let file = bmpd.setup().file();
    let name = "n".repeat(127);
    let lines: String = (0..9000).map(|n| format!("interface-alias eth1 {n}{}\n", &name[..120])).collect();
    let (accepted, answer) = bmpd.typed(&format!("system-view\n{lines}commit\n"));
    assert!(!accepted && answer.contains("could not be read at the next start"), "{answer}");
    assert_eq!(fs::read_to_string(&file).expect("the file is readable"), "sysname edge1\n");
    let bmpd = Bmpd::start_in(bmpd.crash(), &SOCKET);
    assert!(bmpd.display("display current-configuration").contains("sysname edge1"));
}
