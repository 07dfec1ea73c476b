//! Outsiders who connect too often, read nothing, or send odd texts: stations and operators notice
//! nothing.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use bmp_user::control::read_json;
use lab::{
    bmp::{self, ReportedPeer},
    bmpd::{BmpdSetup, StartOptions, WRONG_CONFIGURATION, number},
    feeder::BmpFeeder,
    footprint::{descriptors, resident},
    soak,
    sockets::ForeignSocket,
    topology::STATION,
    trial::{LabTrial, RELAY, TrialPlan, further_sessions},
    wait::{PATIENCE, patience, until},
};
use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::Value;

/// A small limit of descriptors.
const FEW: usize = 1024;

fn with_few_descriptors<'a>() -> TrialPlan<'a> {
    let options =
        StartOptions { through: &["sh", "-c", "ulimit -n 1024; exec \"$@\"", "sh"], ..StartOptions::default() };
    TrialPlan { options, ..TrialPlan::session("connect-interface up2") }
}

#[test]
fn thousands_of_a_users_connections_leave_descriptors_for_others() {
    let (connections, began) = (soak::times(3_000, 20_000), Instant::now());
    let trial = TrialPlan { system: "bmp-relay lab\n allow user nobody", ..with_few_descriptors() }.start_up();
    let held: Vec<_> = trial.topology.router.enter_unprivileged(|| {
        // The first connections are accepted and stay. Others stay until bmpd has looked at them.
        let (mut held, mut latest) = (Vec::new(), VecDeque::new());
        for _ in 0..connections {
            let connection = TcpStream::connect(RELAY).ok();
            if held.len() < 64 {
                held.extend(connection);
                continue;
            }
            latest.extend(connection);
            if latest.len() > 300 {
                latest.pop_front();
            }
        }
        held
    });
    until("the refused connections are counted", PATIENCE, || {
        let refused = number(&trial.relay("lab")["refused"]["too-many-connections"]);
        (refused > connections as u64 * 3 / 4).then_some(())
    });
    assert!(descriptors(trial.bmpd.pid()) < FEW / 2, "{}", descriptors(trial.bmpd.pid()));
    let lines = trial.bmpd.log().iter().filter(|line| line.contains("too-many-connections")).count();
    // Ten lines a minute, and a summary.
    let most = 11 * (1 + usize::try_from(began.elapsed().as_secs()).expect("the test is short") / 60);
    assert!((1..=most).contains(&lines), "{lines} lines");

    trial.bmpd.display(&format!("reset bmp session {STATION}"));
    trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    trial.bmpd.wait_up(STATION);
    // Another user's daemon has a share of its own.
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 10, 1);
    drop(held);
}

#[test]
fn a_commit_says_that_a_relay_has_too_few_descriptors() {
    let trial = with_few_descriptors().start_up();
    let commit = |most: u32| trial.bmpd.commit_lines(&format!("bmp-relay lab\nmax-connections {most}"));
    let answer = commit(5000);
    let most = number(&trial.relay("lab")["max_connections"]);
    assert!((100..FEW as u64 / 2).contains(&most), "{most}");
    assert!(answer.contains(&format!("bmp-relay lab takes {most} connections and not 5000")), "{answer}");
    assert!(!commit(100).contains("bmp-relay lab takes"));
}

#[test]
fn a_session_without_a_descriptor_reports_it_and_comes_back() {
    let trial = TrialPlan::session("connect-interface up2\nconnect-retry 1 1").start_up();
    let (pid, operator) = (trial.bmpd.pid(), OpenOperator::at(&trial));
    let before = file_limit(pid, None);
    file_limit(pid, Some(libc::rlimit { rlim_cur: 3, ..before }));
    operator.ask(&format!("reset bmp session {STATION}"), false);
    until("the session says why it is down", PATIENCE, || {
        let sessions: Value = read_json(&operator.ask("display bmp session", true)).expect("bmpd answers with JSON");
        (sessions[0]["reason"] == "no-descriptors").then_some(())
    });
    file_limit(pid, Some(before));
    trial.bmpd.wait_up(STATION);
}

/// Returns the limit of a process's descriptors, and sets `new` if given.
fn file_limit(pid: u32, new: Option<libc::rlimit>) -> libc::rlimit {
    let pid = i32::try_from(pid).expect("a process id is positive");
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let new = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the kernel reads `new`, unless null, and writes one `rlimit`.
    let done = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, new, &raw mut before) };
    assert_eq!(done, 0, "prlimit: {}", std::io::Error::last_os_error());
    before
}

/// An operator's open connection to the control socket.
struct OpenOperator(std::cell::RefCell<std::io::BufReader<UnixStream>>);

impl OpenOperator {
    fn at(trial: &LabTrial) -> Self {
        let stream = UnixStream::connect(trial.bmpd.setup().control()).expect("bmpd serves its control socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is set");
        let operator = Self(std::io::BufReader::new(stream).into());
        operator.ask("display bmp session", false);
        operator
    }

    fn ask(&self, command: &str, json: bool) -> String {
        let mut stream = self.0.borrow_mut();
        let request = serde_json::json!({ "command": command, "json": json });
        writeln!(stream.get_mut(), "{request}").expect("bmpd reads");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut *stream, &mut line).expect("bmpd answers");
        let answer: Value = serde_json::from_str(&line).expect("bmpd answers with JSON");
        answer["done"].as_str().unwrap_or_else(|| panic!("{command}: {answer}")).to_owned()
    }
}

/// Starts a bmpd with so many peers and sessions that `display bgp bmp-monitor all --json` has tens
/// of megabytes.
fn with_a_large_display() -> (LabTrial, BmpFeeder) {
    let sessions = further_sessions(60, "shutdown");
    let trial = TrialPlan { bmp: &sessions, ..TrialPlan::session("connect-interface up2") }.start_up();
    let mut feeder = trial.feeder();
    for number in 1..1500_u16 {
        let [high, low] = number.to_be_bytes();
        feeder.send(bmp::peer_up(&ReportedPeer { address: [10, 254, high, low].into(), ..ReportedPeer::default() }));
    }
    trial.routes_arrive(&mut feeder, 1, 0);
    (trial, feeder)
}

const LARGE: &[u8] = b"{\"command\":\"display bgp bmp-monitor all\",\"json\":true}\n";

fn ask_for_much(trial: &LabTrial) -> UnixStream {
    let mut stream = UnixStream::connect(trial.bmpd.setup().control()).expect("bmpd serves its control socket");
    stream.write_all(LARGE).expect("bmpd reads");
    stream
}

#[test]
fn control_clients_that_read_nothing_take_little_memory_and_are_closed() {
    let (trial, _feeder) = with_a_large_display();
    let whole = trial.bmpd.display_json("display bgp bmp-monitor all");
    assert_eq!(whole.as_array().map(Vec::len), Some(1500));
    let (before, open) = (resident(trial.bmpd.pid()), descriptors(trial.bmpd.pid()));
    let idle: Vec<_> = (0..8).map(|_| ask_for_much(&trial)).collect();
    // Each answer has started: some of it has arrived.
    until("all answers have started", PATIENCE, || {
        let begun = |stream: &UnixStream| {
            let mut waiting = 0;
            // SAFETY: `FIONREAD` writes one `int`.
            let result =
                unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(stream), libc::FIONREAD, &raw mut waiting) };
            result == 0 && waiting > 0
        };
        idle.iter().all(begun).then_some(())
    });
    let during = resident(trial.bmpd.pid());
    assert!(during < before + (48 << 10), "{before} KiB before, {during} KiB with eight unread answers");
    trial.bmpd.display("display bmp session");
    until("bmpd has closed clients that read nothing", PATIENCE * 3, || {
        (descriptors(trial.bmpd.pid()) <= open).then_some(())
    });
    let mut rest = Vec::new();
    let mut first = idle.into_iter().next().expect("there are eight clients");
    // The answer ends in the middle.
    let _ = first.read_to_end(&mut rest);
    assert!(!rest.ends_with(b"\n"));
}

#[test]
fn large_displays_at_once_do_not_stall_stations() {
    let (trial, mut feeder) = with_a_large_display();
    let mut worst = |rounds: usize| {
        let mut worst = Duration::ZERO;
        for _ in 0..rounds {
            let began = Instant::now();
            trial.routes_arrive(&mut feeder, 1, 0);
            worst = worst.max(began.elapsed());
        }
        worst
    };
    let quiet = worst(20);
    let busy = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut stream = ask_for_much(&trial);
                let mut room = vec![0; 1 << 20];
                while stream.read(&mut room).is_ok_and(|read| read > 0 && !room[..read].ends_with(b"}\n")) {}
            });
        }
        worst(20)
    });
    let ratio = busy.as_secs_f64() / quiet.as_secs_f64();
    let _ =
        writeln!(std::io::stderr(), "a route takes {ratio:.1} times as long at worst, {busy:?}, with 4 large displays");
    assert!(busy < patience(Duration::from_secs(2)), "{busy:?}, and {quiet:?} without displays");
}

#[test]
fn idle_control_clients_are_bounded_and_make_room_for_a_new_operator() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let first = OpenOperator::at(&trial);
    first.ask("display bmp session", false);
    let control = trial.bmpd.setup().control();
    let mut crowd: Vec<_> = (0..200).map(|_| UnixStream::connect(control).expect("the kernel queues it")).collect();
    let refused = crowd.last_mut().expect("there are many clients");
    let mut answer = String::new();
    // The refusal arrives without a request, and not as a reset.
    refused.read_to_string(&mut answer).expect("bmpd answers and closes in order");
    assert!(answer.contains("too-many-connections"), "{answer}");
    // A client that was idle for a second makes room. Those without any request go first.
    until("a new operator gets in", PATIENCE, || {
        trial.bmpd.try_display("display bmp session").status.success().then_some(())
    });
    first.ask("display bmp session", false);
    assert!(descriptors(trial.bmpd.pid()) < 200);
    let has_reason = crowd.iter_mut().any(|client| {
        let mut answer = String::new();
        client.set_read_timeout(Some(Duration::from_millis(1))).expect("the socket has a timeout");
        // Ignored: an open connection times out.
        let _ = client.read_to_string(&mut answer);
        answer.contains("so that another operator could come in")
    });
    assert!(has_reason, "no closed client was told why");
}

#[test]
fn a_control_client_must_complete_a_request_within_ten_seconds() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut half = UnixStream::connect(trial.bmpd.setup().control()).expect("bmpd serves its control socket");
    half.write_all(b"{\"command\":").expect("bmpd reads");
    let mut answer = String::new();
    half.set_read_timeout(Some(PATIENCE * 3)).expect("the socket has a timeout");
    half.read_to_string(&mut answer).expect("bmpd answers and closes in order");
    assert!(answer.contains("a request that is begun is ended within 10 s"), "{answer}");
}

#[test]
fn bmpctl_sends_nothing_to_a_socket_of_another_user() {
    let topology = lab::topology::Topology::new();
    let setup = BmpdSetup::new(&topology.router, "");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("the mode can be changed");
    let path = folder.path().join("bmpd.sock");
    let listener =
        topology.router.enter_unprivileged(|| std::os::unix::net::UnixListener::bind(&path).expect("the path is free"));
    let output = setup.with_control(&path).bmpctl("display bmp session").output().expect("bmpctl starts");
    let answer = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && answer.contains("is served by user 65534"), "{answer}");
    let (mut client, _) = listener.accept().expect("bmpctl has connected");
    let mut request = Vec::new();
    client.read_to_end(&mut request).expect("bmpctl has closed");
    assert!(request.is_empty(), "bmpctl sent a request, which may hold a secret");
}

/// True if a text has characters that must never reach a terminal.
fn is_odd(text: &str) -> bool {
    text.chars().any(|c| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c))
}

const ODD: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\nup\u{202e}\u{9b}31m";
const SHOWN: &str = r"\u{1b}]0;owned\u{7}\u{1b}[2J\nup\u{202e}\u{9b}31m";

#[test]
fn escape_sequences_of_a_daemon_reach_neither_log_nor_terminal() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut odd = BmpFeeder::connect(&trial.topology.router, RELAY);
    odd.send(bmp::initiation(ODD));
    let connection = until("its name is known", PATIENCE, || {
        let connection = trial.relay("lab")["connections"][0].clone();
        connection["sys_name"].is_string().then_some(connection)
    });
    assert_eq!(connection["sys_name"], ODD, "JSON has the real text");
    let text = trial.bmpd.display("display bmp relay");
    assert!(text.contains(SHOWN) && !is_odd(&text), "{text:?}");
    assert!(!is_odd(&trial.bmpd.display("display bmp relay --json")), "JSON for a terminal has raw control characters");
    // A Termination with a text in it.
    let mut body = vec![0, 0];
    body.extend(u16::try_from(ODD.len()).expect("the text is short").to_be_bytes());
    body.extend(ODD.as_bytes());
    odd.send(bmp::message(bmp::TERMINATION, &body));
    trial.bmpd.wait_for_log("the text of the Termination", |line| line.contains("owned"));
    let log = trial.bmpd.terminate_and_read();
    assert!(log.iter().any(|line| line.contains(SHOWN)), "{log:#?}");
    assert!(!log.iter().any(|line| is_odd(line)), "{log:#?}");
}

#[test]
fn a_process_name_with_escape_sequences_is_escaped_everywhere() {
    let trial = TrialPlan::session("adopt\nconnect-interface up2").start();
    trial.bmpd.wait_session(STATION, "waiting for its daemon", |session| session["phase"] == "connecting");
    let (pid, name) = (std::process::id(), "\u{1b}[2J\n\u{9b}mx");
    // The test itself is the daemon. A name has 15 bytes at most (proc_pid_comm(5)).
    std::fs::write(format!("/proc/{pid}/comm"), name).expect("a process may name itself");
    let _connection = ForeignSocket::default().connect(&trial.topology.router, trial.station.address());
    let session = trial.bmpd.wait_up(STATION);
    assert_eq!(session["process"]["name"], name);
    let text = trial.bmpd.display("display bmp session verbose");
    assert!(text.contains(r"\u{1b}[2J\n\u{9b}mx") && !is_odd(&text), "{text:?}");
    let line = trial.bmpd.wait_for_log("who opened the session", |line| line.contains("opened by"));
    assert!(line.contains(r"\u{1b}[2J\n\u{9b}mx"), "{line:?}");
    assert!(!trial.bmpd.log().iter().any(|line| is_odd(line)));
}

#[test]
fn a_fifo_as_configuration_is_refused_at_once() {
    let topology = lab::topology::Topology::new();
    let setup = BmpdSetup::new(&topology.router, "");
    std::fs::remove_file(setup.file()).expect("the file exists");
    mkfifo(&setup.file(), Mode::S_IRWXU).expect("the folder takes a FIFO");
    let ended = setup.run(&StartOptions::default());
    assert_eq!(ended.code, Some(WRONG_CONFIGURATION), "{ended:?}");
    assert!(ended.lines.concat().contains("it is a FIFO, and not a regular file"), "{ended:?}");
}

#[test]
fn a_fifo_beside_the_configuration_does_not_keep_bmpd_from_starting() {
    let topology = lab::topology::Topology::new();
    let setup = BmpdSetup::new(&topology.router, "sysname edge1\n");
    let mut sources = setup.file().into_os_string();
    sources.push(".sources");
    mkfifo(std::path::Path::new(&sources), Mode::S_IRWXU).expect("the folder takes a FIFO");
    let bmpd = lab::bmpd::Bmpd::start_in(setup, &StartOptions::default());
    bmpd.wait_for_log("that the FIFO is ignored", |line| line.contains(".sources") && line.contains("FIFO"));
    bmpd.terminate();
}
