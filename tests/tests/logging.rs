//! The log: a full disk, a reader that is gone or stalls, and outsiders who cause many lines. bmpd
//! goes on, and its log stays readable.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Instant,
};

use lab::{
    bmp,
    bmpd::{StartOptions, number},
    soak,
    sockets::ForeignSocket,
    topology::{STATION, UP1, UP2, UP2_OTHER},
    trial::{LabTrial, TrialPlan, further_sessions},
    wait::{PATIENCE, until},
};
use nix::{sys::stat::Mode, unistd::mkfifo};
use tempfile::TempDir;

/// Returns a shell script that starts a program with a detailed log in `path`.
fn into(path: &Path) -> String {
    format!("export RUST_LOG=debug; exec \"$@\" 2>{}", path.display())
}

/// Starts a trial whose bmpd logs to `path`.
fn logging_to(path: &Path) -> LabTrial {
    let shell = into(path);
    let through = ["sh", "-c", &shell, "sh"];
    let options = StartOptions { through: &through, ..StartOptions::default() };
    TrialPlan { options, ..TrialPlan::session("connect-interface up2") }.start_up()
}

/// Asserts that the session goes on, that a commit moves it, and that SIGTERM ends bmpd in order.
fn goes_on(trial: LabTrial) {
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 100, 0);
    trial.bmpd.commit(STATION, "connect-interface up2 192.0.2.129");
    let moved = trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(moved.peer.ip(), UP2_OTHER);
    trial.bmpd.wait_up(STATION);
    trial.bmpd.terminate();
    trial.station.wait_connection(1, "Termination", |c| c.has(bmp::TERMINATION));
}

/// Makes a FIFO, and keeps both its ends open.
fn fifo() -> (TempDir, File) {
    let folder = TempDir::with_prefix("lab-log-").expect("the temporary folder is writable");
    let path = folder.path().join("log");
    mkfifo(&path, Mode::S_IRWXU).expect("the folder takes a FIFO");
    let held = OpenOptions::new().read(true).write(true).open(&path).expect("a FIFO opens at both ends");
    (folder, held)
}

#[test]
fn bmpd_goes_on_while_the_disk_of_its_log_is_full() {
    goes_on(logging_to(Path::new("/dev/full")));
}

#[test]
fn bmpd_goes_on_when_the_reader_of_its_log_is_gone() {
    let (folder, held) = fifo();
    let trial = logging_to(&folder.path().join("log"));
    drop(held);
    goes_on(trial);
}

#[test]
fn bmpd_goes_on_while_the_reader_of_its_log_stalls() {
    let (folder, held) = fifo();
    let path = folder.path().join("log");
    // Fill the pipe, so that no line fits.
    let mut filler =
        OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path).expect("the FIFO has a reader");
    while filler.write(&[b'.'; 4096]).is_ok() {}
    goes_on(logging_to(&path));
    drop(held);
}

#[test]
fn a_returning_reader_of_the_log_learns_how_many_lines_are_lost() {
    let (folder, held) = fifo();
    let shell = into(&folder.path().join("log"));
    // Without the kernel programs, strangers reach bmpd, which logs them at debug level.
    let options = StartOptions { through: &["sh", "-c", &shell, "sh"], arguments: &["--datapath", "socket"] };
    let system = "bgp 65000\n router-id 10.0.0.1\n listen-port 1790\nquit\n";
    let trial = TrialPlan { options, system, ..TrialPlan::session("connect-interface up2") }.start_up();
    // Their lines exceed pipe and queue together.
    trial.topology.router.enter(|| {
        for _ in 0..15_000 {
            let _ = TcpStream::connect("127.0.0.1:1790");
        }
    });
    trial.bmpd.display("display bmp session");
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || BufReader::new(held).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let is_loss = |line: &str| line.contains("lines of the log are lost: nobody read them in time");
    until("the log reports lost lines", PATIENCE, || lines.try_iter().any(|line| is_loss(&line)).then_some(()));
    trial.bmpd.terminate();
}

fn lines_with(trial: &LabTrial, text: &str) -> usize {
    trial.bmpd.log().iter().filter(|line| line.contains(text)).count()
}

#[test]
fn thousands_of_a_strangers_connections_log_a_few_lines() {
    let (connects, began) = (soak::times(3_000, 15_000), Instant::now());
    let system = "bmp-relay open\n listen 0.0.0.0 port 5001\n";
    let trial = TrialPlan { system, ..TrialPlan::session("connect-interface up2") }.start_up();
    let relay = SocketAddr::from((UP1, 5001));
    trial.topology.station.enter(|| {
        for _ in 0..connects {
            // Ignored: bmpd may reset a connection before `connect` returns, and has counted it
            // then.
            let _ = TcpStream::connect(relay);
        }
    });
    until("every connection is counted", PATIENCE, || {
        (number(&trial.relay("open")["refused"]["not_allowed"]) >= connects as u64).then_some(())
    });
    let lines = lines_with(&trial, "closed a connection from another host");
    // Ten lines a minute, and a summary.
    let most = 11 * (1 + usize::try_from(began.elapsed().as_secs()).expect("the test is short") / 60);
    assert!((1..=most).contains(&lines), "{lines} lines");
    let log = trial.bmpd.terminate_and_read();
    let summary = log.iter().find(|line| line.contains("more like this in the last 60 s"));
    let summary = summary.unwrap_or_else(|| panic!("no summary of suppressed lines: {log:#?}"));
    assert!(summary.contains("closed a connection from another host"), "{summary}");
}

#[test]
fn many_connections_to_an_adopted_sessions_station_log_a_few_lines() {
    let trial = TrialPlan::session("adopt\nconnect-interface up2").start();
    let phase = |session: &serde_json::Value| session["phase"] == "connecting";
    trial.bmpd.wait_session(STATION, "waiting for its daemon", phase);
    let connect = || ForeignSocket::default().connect(&trial.topology.router, trial.station.address());
    // On a loaded machine, bmpd does not see a connection that ends at once.
    until("bmpd has seen 250 connections", 3 * PATIENCE, || {
        (0..50).for_each(|_| drop(connect()));
        (number(&trial.bmpd.session(STATION)["established_count"]) >= 250).then_some(())
    });
    let lines = trial.bmpd.log().len();
    assert!(lines < 120, "{lines} lines");
}

#[test]
fn flaps_of_three_hundred_sessions_log_a_bounded_number_of_lines() {
    let sessions = further_sessions(300, "connect-interface up2");
    let trial = TrialPlan { bmp: &sessions, ..TrialPlan::session("connect-interface up2") }.start_up();
    let flaps = 20;
    for _ in 0..flaps {
        trial.topology.carrier_down("up2");
        trial.bmpd.wait_down(STATION, "interface-down");
        trial.topology.carrier_up("up2");
        trial.bmpd.wait_up(STATION);
    }
    // Without a limit, each session logs at least two lines a flap.
    let lines = trial.bmpd.log().len();
    assert!(lines < 300 * flaps / 2, "{lines} lines");
    let with_lines = (0..300).filter(|number| lines_with(&trial, &format!("session {STATION}-s{number}:")) > 0).count();
    assert_eq!(with_lines, 300, "every session has a line");
}

/// A log that bmpd writes as JSON, into a folder of its own.
struct JsonLog {
    folder: TempDir,
}

impl JsonLog {
    fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        let log = std::fs::read_to_string(self.path()).expect("bmpd has written its log");
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
    }
}

/// Starts a trial with a pinned session, which is up on return.
fn with_json_log() -> (JsonLog, LabTrial) {
    let log = JsonLog { folder: TempDir::with_prefix("lab-log-").expect("the temporary folder is writable") };
    let shell = format!("exec \"$@\" --log-format json 2>{}", log.path().display());
    let through = ["sh", "-c", &shell, "sh"];
    let options = StartOptions { through: &through, ..StartOptions::default() };
    (log, TrialPlan { options, ..TrialPlan::session("connect-interface up2") }.start_up())
}

#[test]
fn json_lines_name_session_reason_interface_and_source() {
    let (log, trial) = with_json_log();
    trial.topology.router.ip("link set up2 down");
    trial.bmpd.wait_session(STATION, "down", |session| session["reason"] == "interface-down");
    trial.bmpd.terminate();
    let lines = log.lines();
    let session = STATION.to_string();
    let line = |begin: &str| {
        let begin = format!("session {session}: {begin}");
        let found = lines.iter().find(|line| line["message"].as_str().is_some_and(|text| text.starts_with(&begin)));
        found.unwrap_or_else(|| panic!("no line begins with {begin:?}: {lines:#?}"))
    };
    let up = line("up from ");
    assert_eq!((&up["level"], &up["session"]), (&"info".into(), &session.as_str().into()));
    assert_eq!((&up["interface"], &up["source"]), (&"up2".into(), &UP2.to_string().into()), "{up}");
    let down = line("down: interface-down");
    assert_eq!((&down["level"], &down["reason"]), (&"warn".into(), &"interface-down".into()), "{down}");
}

#[test]
fn a_source_that_changed_is_one_warning_with_both_sources_and_the_cause() {
    let (log, trial) = with_json_log();
    let connected = |index| trial.station.wait_connection(index, "Initiation", |c| c.has(bmp::INITIATION)).peer.ip();
    // A connection from the same source is no change.
    trial.bmpd.display(&format!("reset bmp session {STATION}"));
    assert_eq!(connected(1), UP2);
    trial.bmpd.commit(STATION, "connect-interface up2 192.0.2.129");
    assert_eq!(connected(2), UP2_OTHER);
    trial.bmpd.display(&format!("reset bmp session {STATION}"));
    assert_eq!(connected(3), UP2_OTHER);
    trial.topology.router.ip("addr del 192.0.2.129/26 dev up2");
    trial.bmpd.wait_session(STATION, "down", |session| session["reason"] == "address-absent");
    trial.bmpd.commit(STATION, "connect-interface up2");
    assert_eq!(connected(4), UP2);
    trial.bmpd.wait_up(STATION);
    trial.bmpd.terminate();
    let changes: Vec<_> = log.lines().into_iter().filter(|line| line["old_source"].is_string()).collect();
    let fields = |line: &serde_json::Value, names: [&str; 5]| names.map(|name| line[name].clone());
    let names = ["level", "session", "interface", "source", "old_source"];
    let expected = |new: std::net::IpAddr, old: std::net::IpAddr| -> [serde_json::Value; 5] {
        ["warn".to_owned(), STATION.to_string(), "up2".to_owned(), new.to_string(), old.to_string()].map(Into::into)
    };
    let found: Vec<[serde_json::Value; 5]> = changes.iter().map(|line| fields(line, names)).collect();
    assert_eq!(found, [expected(UP2_OTHER, UP2), expected(UP2, UP2_OTHER)], "{changes:#?}");
    let text = changes[0]["message"].as_str().unwrap_or_default();
    let begin = format!("session {STATION}: the station sees another source: 192.0.2.129 instead of 192.0.2.65: ");
    assert!(text.starts_with(&begin), "{text}");
    for (line, cause) in changes.iter().zip(["the configured address", "the interface's first address"]) {
        assert!(line["cause"].as_str().is_some_and(|told| told.starts_with(cause)), "{line}");
    }
}

#[test]
fn a_source_of_an_adopted_session_that_changed_is_a_warning() {
    let trial = TrialPlan::session("adopt\nconnect-interface up2").start();
    let connect = |index| {
        let stream = ForeignSocket::default().connect(&trial.topology.router, trial.station.address());
        let stream = stream.expect("the pin lets it connect");
        let local = stream.local_addr().expect("it is connected");
        trial.bmpd.wait_session(STATION, "up", |session| session["local_port"] == local.port());
        assert_eq!(number(&trial.bmpd.session(STATION)["established_count"]), index);
        stream
    };
    drop(connect(1));
    trial.bmpd.commit(STATION, "connect-interface up2 192.0.2.129");
    let _stream = connect(2);
    trial.bmpd.wait_for_log("the other source", |line| {
        line.contains("WARN") && line.contains("the station sees another source: 192.0.2.129 instead of 192.0.2.65: ")
    });
}
