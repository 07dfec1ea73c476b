//! What a service manager is told (sd_notify(3)): bmpd is ready when its pins are in force, says
//! what a reload came to, and lives only while the tasks that matter run.

use std::{fs, io, time::Duration};

use lab::{
    bmpd::{Bmpd, BmpdSetup, StartOptions},
    manager::{ServiceMessage, TestServiceManager},
    skip::skip,
    sockets::ForeignSocket,
    station::TestStation,
    topology::{STATION, STATION_PORT, Topology, UP2},
    trial::RELAY,
    wait::patience,
};
use nix::sys::signal::Signal;

/// The time of the watchdog in these tests.
const WATCHDOG: Duration = Duration::from_secs(2);

fn configuration(more: &str) -> String {
    format!(
        "sysname edge1
bmp-relay lab
 listen {} port {}
bmp
 bmp-session {STATION}
  tcp connect port {STATION_PORT}
  connect-interface up2
{more}return
",
        RELAY.ip(),
        RELAY.port()
    )
}

/// A bmpd that a service manager has started and found ready.
struct SupervisedBmpd {
    topology: Topology,
    station: TestStation,
    manager: TestServiceManager,
    bmpd: Bmpd,
    /// The message that said so.
    ready: ServiceMessage,
}

impl SupervisedBmpd {
    fn start(configuration: &str, watchdog: Option<Duration>) -> Self {
        let topology = Topology::new();
        let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
        let manager = TestServiceManager::new();
        let setup = BmpdSetup::new(&topology.router, configuration);
        let bmpd = start(&manager, setup, watchdog);
        let ready = manager.wait_for("that bmpd is ready", is_ready).pop().expect("it is told");
        Self { topology, station, manager, bmpd, ready }
    }

    /// Writes the file, has bmpd read it, and returns what the manager was told of the outcome.
    fn reload(&self, configuration: &str) -> ServiceMessage {
        fs::write(self.bmpd.setup().file(), configuration).expect("a temporary file can be written");
        self.bmpd.signal(Signal::SIGHUP);
        let began = self.manager.wait_for("that bmpd reads its file", |message| message.has("RELOADING=1"));
        let time = began.last().and_then(|message| message.value("MONOTONIC_USEC")).map(str::parse::<u64>);
        assert!(matches!(time, Some(Ok(1..))), "{began:#?}");
        self.manager.wait_for("what came of it", is_ready).pop().expect("it is told")
    }
}

fn start(manager: &TestServiceManager, setup: BmpdSetup, watchdog: Option<Duration>) -> Bmpd {
    let mut command = setup.command(&StartOptions::default());
    manager.supervise(&mut command, watchdog);
    Bmpd::start_by(setup, &mut command)
}

fn is_ready(message: &ServiceMessage) -> bool {
    message.has("READY=1")
}

#[test]
fn bmpd_is_ready_when_an_adopted_session_is_pinned_from_its_first_packet() {
    let supervised = SupervisedBmpd::start(&configuration("  adopt\n"), None);
    // Nothing waits for bmpd but its manager: a daemon that is started next connects at once.
    let station = supervised.station.address();
    let stream = ForeignSocket::default().connect(&supervised.topology.router, station).unwrap();
    assert_eq!(stream.local_addr().unwrap().ip(), UP2);
}

#[test]
fn the_status_says_how_many_sessions_are_up() {
    let supervised = SupervisedBmpd::start(&configuration(""), None);
    let is_up = |message: &ServiceMessage| {
        // No watchdog is kept.
        assert!(!message.has("WATCHDOG=1"), "{message:?}");
        message.status() == "1 of 1 session is up, and the kernel enforces their pins"
    };
    if !is_up(&supervised.ready) {
        supervised.manager.wait_for("that the session is up", is_up);
    }
}

#[test]
fn a_reload_is_told_and_a_failed_one_keeps_the_configuration() {
    let supervised = SupervisedBmpd::start(&configuration(""), None);
    supervised.bmpd.wait_up(STATION);
    let failed = supervised.reload(&configuration("  tcp connect prot 5\n"));
    assert!(failed.status().contains("the last reload failed and changed nothing: "), "{failed:?}");
    assert!(failed.status().contains("bmpd.conf:8"), "{failed:?}");
    supervised.bmpd.wait_for_log("that nothing changed", |line| line.contains("the configuration stays as it was"));
    assert_eq!(supervised.bmpd.session(STATION)["state"], "up");
    let mended = supervised.reload(&configuration("  hold-down 5\n"));
    assert!(mended.status().starts_with("1 of 1 session is"), "{mended:?}");
    assert!(!mended.status().contains("failed"), "{mended:?}");
    assert!(supervised.bmpd.display("display current-configuration").contains("hold-down 5"));
}

#[test]
fn the_end_is_told_before_the_sessions_are_closed() {
    let supervised = SupervisedBmpd::start(&configuration(""), Some(WATCHDOG));
    supervised.bmpd.signal(Signal::SIGTERM);
    let told = supervised.manager.wait_for("that bmpd ends", |message| message.has("STOPPING=1"));
    assert_eq!(told.last().unwrap().status(), "closing the sessions");
    assert_eq!(supervised.bmpd.wait_end().0.code, Some(0));
}

#[test]
fn the_manager_is_told_that_bmpd_lives_until_a_task_hangs() {
    let tasks = ["pins", "sessions", "session", "interfaces", "relays", "relay listener", "BGP peers", "control"];
    for task in tasks {
        let supervised = SupervisedBmpd::start(&configuration(""), Some(WATCHDOG));
        if supervised.bmpd.fault("list").is_none() {
            return skip("this bmpd was built without debug assertions, so it has no faults on demand");
        }
        for _ in 0..3 {
            supervised.manager.wait_for("that bmpd lives", |message| message.has("WATCHDOG=1"));
        }
        supervised.bmpd.fault(&format!("stop {task}"));
        let hangs = format!("the task `{task}` hangs");
        supervised.manager.wait_for(&hangs, |message| message.status() == hangs);
        supervised
            .bmpd
            .wait_for_log("which task hangs", |line| line.contains("a fault of bmpd") && line.contains(task));
        assert_eq!(supervised.manager.next_within(patience(WATCHDOG)), None, "the watchdog must end bmpd");
        supervised.bmpd.crash();
    }
}

#[test]
fn a_bmpd_that_is_restarted_hands_its_pins_to_the_next_one() {
    let supervised = SupervisedBmpd::start(&configuration(""), None);
    supervised.bmpd.wait_up(STATION);
    let objects = supervised.bmpd.objects();
    supervised.bmpd.signal(Signal::SIGUSR1);
    let (ended, setup) = supervised.bmpd.wait_end();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.lines);
    assert!(ended.lines.iter().any(|line| line.contains("the next bmpd takes it over")), "{:#?}", ended.lines);
    // Nobody but the station's pin is in the way of another process.
    let connect = || ForeignSocket::default().connect(&supervised.topology.router, supervised.station.address());
    assert_eq!(connect().and_then(|stream| stream.local_addr()).map(|local| local.ip()).unwrap(), UP2);
    let next = start(&supervised.manager, setup, None);
    next.wait_up(STATION);
    // An orderly end takes everything with it.
    next.terminate();
    objects.wait_gone();
    let free = connect().and_then(|stream| stream.local_addr().map_err(io::Error::other)).unwrap();
    assert_ne!(free.ip(), UP2);
}
