//! The life of an installed bmpd below systemd: started before FRR, killed, reloaded, hung,
//! upgraded, restarted with the machine, and removed. FRR's session is adopted.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use lab::{
    bgp::prefixes,
    bmp,
    bmpd::number,
    capture::{CapturedPacket, LinkCapture},
    frr::{FRR, PEER, reporting},
    installed::{CONFIGURATION, InstalledBmpd, UNIT},
    kernel::BpfObjects,
    machine::SystemdMachine,
    passive::{PORT, gets_no_answer, nothing, stranger},
    process::answer,
    sockets::ForeignSocket,
    speaker::LabBgpSpeaker,
    station::TestStation,
    topology::{STATION, STATION_2, STATION_PORT, Topology, UP2},
    trial::outgoing,
    unit::{show, systemctl},
    wait::{PATIENCE, until},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use programs::Program;
use serde_json::Value;

/// The routes that FRR reports.
const ROUTES: usize = 100;

/// The pause between two connects of a process that connects all the while.
const PACE: Duration = Duration::from_millis(20);

/// The counters that only rise.
const COUNTERS: [&str; 4] = ["tx_bytes", "tx_packets", "tx_payload_bytes", "rx_packets"];

fn configuration(more: &str) -> String {
    format!(
        "sysname edge1
bmp
 bmp-session {STATION}
  tcp connect port {STATION_PORT}
  connect-interface up2
  adopt
{more}return
"
    )
}

/// The network, and an installed bmpd.
struct InstalledTrial {
    topology: Topology,
    station: TestStation,
    up1: LinkCapture,
    up2: LinkCapture,
    bmpd: InstalledBmpd,
}

impl InstalledTrial {
    fn new(machine: &SystemdMachine) -> Self {
        stop_frr();
        Self::with(machine, InstalledBmpd::install(&configuration("")))
    }

    fn with(machine: &SystemdMachine, bmpd: InstalledBmpd) -> Self {
        let topology = machine.topology();
        let ((own, _), (peer, _)) = (FRR, PEER);
        // The peer is on the other host: FRR refuses a neighbor that is an address of its own.
        topology.router.ip(&format!("addr replace {own}/32 dev lo\nroute replace {peer}/32 via 192.0.2.2 dev up1"));
        topology.station.ip(&format!("addr replace {peer}/32 dev lo\nroute replace {own}/32 via 192.0.2.1 dev dn1"));
        let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
        let up1 = LinkCapture::start(&topology.router, "up1", STATION_PORT);
        let up2 = LinkCapture::start(&topology.router, "up2", STATION_PORT);
        Self { topology, station, up1, up2, bmpd }
    }

    /// Starts bmpd and, after it, FRR, whose session is up on return.
    fn up(machine: &SystemdMachine) -> (Self, LabBgpSpeaker, Value) {
        let trial = Self::new(machine);
        trial.bmpd.start();
        configure_frr();
        answer(&mut systemctl(&["start", "frr.service"]));
        let speaker = trial.announce();
        let session = trial.wait_up();
        trial.station.wait_connection(0, "all routes", |c| c.announced() >= ROUTES);
        (trial, speaker, session)
    }

    fn announce(&self) -> LabBgpSpeaker {
        let frr = SocketAddr::from((FRR.0, 179));
        LabBgpSpeaker::announce(&self.topology.station, PEER.0, PEER.1, frr, &prefixes(ROUTES))
    }

    /// Waits until FRR's session is up.
    fn wait_up(&self) -> Value {
        self.bmpd.wait_session(STATION, "up for FRR", |session| {
            session["state"] == "up" && session["process"]["name"] == "bgpd"
        })
    }

    /// Asserts that the session is FRR's first one, from the pinned source, that its counters have
    /// not gone back, and that no packet has left by the other link.
    fn assert_kept(&self, before: &Value) -> Value {
        let now = self.wait_up();
        assert_eq!(now["local_port"], before["local_port"], "the same connection");
        for name in COUNTERS {
            let (was, is) = (number(&before["kernel"][name]), number(&now["kernel"][name]));
            assert!(is >= was && was > 0, "{name} went from {was} to {is}");
        }
        self.assert_pinned();
        assert_eq!(self.station.connections().len(), 1);
        now
    }

    /// Asserts that everything has left by `up2`, from its address.
    fn assert_pinned(&self) {
        assert_eq!(outgoing(&self.up1.packets()), Vec::<&CapturedPacket>::new());
        let packets = self.up2.packets();
        let left = outgoing(&packets);
        assert!(!left.is_empty() && left.iter().all(|packet| packet.source.ip() == UP2), "{left:#?}");
    }
}

impl Drop for InstalledTrial {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal =
                Program::Journalctl.command().args(["--no-pager", "-n", "60", "-u", "bmpd", "-u", "frr"]).output();
            let journal = journal.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            let _ = std::io::Write::write_all(&mut std::io::stderr(), journal.unwrap_or_default().as_bytes());
        }
        stop_frr();
        let _ = systemctl(&["stop", UNIT]).output();
    }
}

fn stop_frr() {
    let _ = systemctl(&["disable", "--now", "--quiet", "frr.service"]).output();
}

/// Configures FRR as its guide says.
fn configure_frr() {
    let daemons = "/etc/frr/daemons";
    let text = fs::read_to_string(daemons).expect("FRR is installed");
    let lines = text.lines().map(|line| match line.split_once('=') {
        Some(("bgpd", _)) => "bgpd=yes".to_owned(),
        Some(("bgpd_options", _)) => "bgpd_options=\"  -A 127.0.0.1 -M bmp\"".to_owned(),
        _ => line.to_owned(),
    });
    fs::write(daemons, lines.map(|line| line + "\n").collect::<String>()).expect("the disk is writable");
    let configuration = reporting((STATION, STATION_PORT).into());
    fs::write("/etc/frr/frr.conf", configuration).expect("the disk is writable");
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn a_daemon_that_starts_after_an_installed_bmpd_is_pinned_from_its_first_syn() {
    let Some(machine) = SystemdMachine::here() else { return };
    let (trial, _speaker, session) = InstalledTrial::up(&machine);
    let first = outgoing(&trial.up2.packets())[0].clone();
    assert!(first.syn && first.source.ip() == UP2, "{first:?}");
    assert_eq!(session["egress"]["enforcement"], "kernel");
    assert_eq!(session["local_address"], UP2.to_string());
    assert!(show(UNIT, "StatusText").contains("session"), "{}", show(UNIT, "StatusText"));
    trial.assert_pinned();
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn a_killed_bmpd_is_started_again_and_the_session_does_not_notice() {
    let Some(machine) = SystemdMachine::here() else { return };
    let (trial, speaker, mut before) = InstalledTrial::up(&machine);
    drop(speaker);
    let mut announced = ROUTES;
    for _ in 0..3 {
        let pid = trial.bmpd.pid();
        kill(Pid::from_raw(pid.try_into().expect("a process id is positive")), Signal::SIGKILL).expect("bmpd runs");
        // Traffic without bmpd, and while the next bmpd takes over.
        let _speaker = trial.announce();
        announced += ROUTES;
        trial.station.wait_connection(0, "the routes again", |c| c.announced() >= announced);
        trial.bmpd.wait_again(pid);
        before = trial.assert_kept(&before);
    }
    let packets = outgoing(&trial.up2.packets()).len();
    until("every packet is counted", PATIENCE, || {
        let session = trial.wait_up();
        (number(&session["kernel"]["tx_packets"]) >= packets as u64).then_some(())
    });
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn a_reload_takes_a_good_file_and_a_wrong_file_changes_nothing() {
    let Some(machine) = SystemdMachine::here() else { return };
    let (trial, _speaker, before) = InstalledTrial::up(&machine);
    let pid = trial.bmpd.pid();
    let more = format!(" bmp-session {STATION_2}\n  tcp connect port {STATION_PORT}\n  connect-interface up2\n");
    trial.bmpd.configure(&configuration(&more));
    answer(&mut systemctl(&["reload", UNIT]));
    trial.bmpd.wait_session(STATION_2, "configured", |_| true);

    trial.bmpd.configure("bmp\n no-such-command\n");
    let refused = systemctl(&["reload", UNIT]).output().expect("systemctl can be started");
    assert!(!refused.status.success(), "a reload of a wrong file succeeded");
    until("the status says why", PATIENCE, || show(UNIT, "StatusText").contains("no-such-command").then_some(()));
    trial.bmpd.wait_session(STATION_2, "still configured", |_| true);
    assert_eq!(trial.bmpd.pid(), pid);
    trial.assert_kept(&before);
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn a_bmpd_with_a_task_that_hangs_is_started_again_by_the_watchdog() {
    let Some(machine) = SystemdMachine::here() else { return };
    // An emulated processor may need seconds for one round of the watchdog.
    let drop_in = Path::new("/run/systemd/system/bmpd.service.d");
    fs::create_dir_all(drop_in).expect("the folder can be made");
    fs::write(drop_in.join("watchdog.conf"), "[Service]\nWatchdogSec=10\n").expect("the file can be written");
    let (trial, _speaker, before) = InstalledTrial::up(&machine);
    let pid = trial.bmpd.pid();
    trial.bmpd.stop_task("pins");
    trial.bmpd.wait_again(pid);
    let journal = answer(Program::Journalctl.command().args(["--no-pager", "-o", "cat", "-u", UNIT]));
    assert!(journal.contains("Watchdog timeout"), "{journal}");
    assert!(journal.contains("pins"), "{journal}");
    trial.assert_kept(&before);
    fs::remove_dir_all(drop_in).expect("the folder is there");
}

/// Tells a thread to end.
struct EndsOnDrop<'a>(&'a AtomicBool);

impl Drop for EndsOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn an_upgrade_and_the_way_back_keep_the_session_and_its_pin_at_every_moment() {
    let Some(machine) = SystemdMachine::here() else { return };
    let (trial, _speaker, before) = InstalledTrial::up(&machine);
    let first = trial.bmpd.version();
    let (code, said) = as_user("root", &["-c", "system-view", "-c", "sysname edge2", "-c", "commit"]);
    assert_eq!(code, Some(0), "{said}");
    let file = fs::read_to_string(CONFIGURATION).expect("the file is readable");
    let history = trial.bmpd.display("display configuration commit list");
    assert!(history.as_ref().is_some_and(|commits| commits[0]["id"].is_number()), "{history:?}");
    // Another process connects all the while. Without a pin, routing would send it by up1.
    let ended = AtomicBool::new(false);
    let connects = std::thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            let mut connects = 0;
            while !ended.load(Ordering::Acquire) {
                let stream = ForeignSocket::default().connect(&trial.topology.router, trial.station.address());
                assert_eq!(stream.expect("the pin lets it connect").local_addr().expect("it is connected").ip(), UP2);
                connects += 1;
                // The rest of the machine needs the processor too.
                std::thread::sleep(PACE);
            }
            connects
        });
        // Also after a failed assertion: the scope waits for the thread.
        let ending = EndsOnDrop(&ended);
        let pid = trial.bmpd.pid();
        let next = trial.bmpd.upgrade();
        let pid = trial.bmpd.wait_again(pid);
        assert_eq!(trial.bmpd.version(), next);
        trial.wait_up();
        trial.bmpd.go_back();
        trial.bmpd.wait_again(pid);
        assert_eq!(trial.bmpd.version(), first);
        drop(ending);
        connecting.join().expect("it does not panic")
    });
    assert!(connects > 10, "{connects}");
    let now = trial.wait_up();
    assert_eq!(now["local_port"], before["local_port"]);
    trial.assert_pinned();
    assert_eq!(fs::read_to_string(CONFIGURATION).expect("the file is readable"), file);
    assert_eq!(trial.bmpd.display("display configuration commit list"), history);
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn a_passive_session_has_its_guard_also_after_a_kill() {
    let Some(machine) = SystemdMachine::here() else { return };
    stop_frr();
    let passive = format!("bmp\n bmp-session {STATION}\n  tcp listen port {PORT}\n  connect-interface up2\nreturn\n");
    let trial = InstalledTrial::with(&machine, InstalledBmpd::install(&passive));
    trial.bmpd.start();
    let mut connections = 0;
    let mut check = || {
        let session = trial.bmpd.wait_session(STATION, "listening with a decision about the guard", |session| {
            let interfaces = session["guard"]["interfaces"].as_array();
            session["phase"] == "listening" && interfaces.is_some_and(|all| !all.is_empty())
        });
        let interface = &session["guard"]["interfaces"][0];
        assert_eq!((&interface["name"], &interface["why"]), (&"up2".into(), &Value::Null), "{session:#}");
        gets_no_answer(&stranger(&trial.topology), UP2);
        let index = trial.station.call((UP2, PORT), PATIENCE).expect("bmpd accepts the station");
        trial.station.wait_connection(index, "Initiation", |c| c.has(bmp::INITIATION));
        connections += 1;
        assert_eq!(index + 1, connections);
    };
    check();
    let pid = trial.bmpd.pid();
    kill(Pid::from_raw(pid.try_into().expect("a process id is positive")), Signal::SIGKILL).expect("bmpd runs");
    trial.bmpd.wait_again(pid);
    check();
    nothing(&trial.up1.packets());
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn after_a_restart_of_the_machine_the_session_is_up_from_the_same_source() {
    let Some(machine) = SystemdMachine::here() else { return };
    if machine.stage() == 0 {
        let (trial, _speaker, _) = InstalledTrial::up(&machine);
        trial.assert_pinned();
        answer(&mut systemctl(&["enable", "--quiet", "frr.service"]));
        machine.restart(1);
    }
    let trial = InstalledTrial::with(&machine, InstalledBmpd);
    let session = trial.wait_up();
    assert_eq!(session["local_address"], UP2.to_string());
    let first = outgoing(&trial.up2.packets())[0].clone();
    assert!(first.syn, "{first:?}");
    trial.assert_pinned();
    let time = |unit: &str, property: &str| show(unit, property).parse::<u64>().expect("systemd shows a number");
    let ready = time(UNIT, "ActiveEnterTimestampMonotonic");
    assert!(ready < time("frr.service", "InactiveExitTimestampMonotonic"), "FRR started before the pins were in force");
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn a_removed_package_leaves_its_configuration_and_nothing_else() {
    let Some(machine) = SystemdMachine::here() else { return };
    let (trial, _speaker, _) = InstalledTrial::up(&machine);
    let tables = || {
        let show = |words: &str| trial.topology.router.ip_show(words);
        [show("rule show"), show("-6 rule show"), show("route show table all"), show("-6 route show table all")]
    };
    let before = tables();
    let more = format!(
        " bmp-session {STATION_2}\n  tcp connect port {STATION_PORT}\n  connect-interface up2\n  next-hop 192.0.2.66\n"
    );
    trial.bmpd.configure(&configuration(&more));
    answer(&mut systemctl(&["reload", UNIT]));
    until("the session with a next hop has its rule", PATIENCE, || (tables()[0] != before[0]).then_some(()));
    let objects = BpfObjects::of(trial.bmpd.pid());
    assert!(!objects.programs.is_empty() && !objects.links.is_empty(), "{objects:?}");
    trial.bmpd.remove();
    objects.wait_gone();
    assert_eq!(tables(), before);
    for path in
        ["/sys/fs/bpf/bmpd", "/run/bmpd", "/usr/sbin/bmpd", "/usr/bin/bmpctl", "/usr/lib/systemd/system/bmpd.service"]
    {
        assert!(!Path::new(path).exists(), "{path} is left");
    }
    assert!(Path::new(CONFIGURATION).exists());
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn systemd_finds_the_exposure_of_the_unit_low() {
    let Some(_machine) = SystemdMachine::here() else { return };
    let _installed = InstalledBmpd::install(&configuration(""));
    let shown = answer(Program::SystemdAnalyze.command().args(["security", "--no-pager", UNIT]));
    let last = shown.lines().find(|line| line.contains("Overall exposure level")).expect("systemd sums up");
    let level = last.split_whitespace().find_map(|word| word.parse::<f64>().ok());
    assert!(level.is_some_and(|level| level <= 2.5), "{last}");
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn the_journal_has_session_reason_interface_and_source_as_fields() {
    let Some(machine) = SystemdMachine::here() else { return };
    let (trial, _speaker, _) = InstalledTrial::up(&machine);
    let session = format!("BMPD_SESSION={STATION}");
    let find = |field: &str, text: &str| {
        until(&format!("the journal has an entry with {field}: {text}"), PATIENCE, || {
            let mut journalctl = Program::Journalctl.command();
            journalctl.args(["--no-pager", "--output", "json", "--unit", UNIT, &session, field]);
            let entries = answer(&mut journalctl);
            let mut entries =
                entries.lines().map(|line| serde_json::from_str::<Value>(line).expect("an entry is JSON"));
            entries.find(|entry| entry["MESSAGE"].as_str().is_some_and(|message| message.contains(text)))
        })
    };
    let up = find(&format!("BMPD_SOURCE={UP2}"), "up from ");
    assert_eq!((&up["BMPD_INTERFACE"], &up["PRIORITY"]), (&"up2".into(), &"6".into()), "{up:#}");
    assert_eq!(up["BMPD_STATION"], format!("{STATION}:{STATION_PORT}"), "{up:#}");
    assert_eq!((&up["_SYSTEMD_UNIT"], &up["_UID"]), (&UNIT.into(), &user_id("bmpd").into()), "{up:#}");
    trial.topology.router.ip("link set up2 down");
    let down = find("BMPD_REASON=interface-down", "down: interface-down: ");
    assert_eq!(down["PRIORITY"], "4", "{down:#}");
}

/// Runs `bmpctl` as a user of the machine, with all groups of that user.
fn as_user(user: &str, words: &[&str]) -> (Option<i32>, String) {
    let mut command = Program::Setpriv.command();
    command.args(["--reuid", user, "--regid", user, "--init-groups", "/usr/bin/bmpctl"]).args(words);
    let output = command.output().expect("setpriv can be started");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn user_id(user: &str) -> String {
    let users = fs::read_to_string("/etc/passwd").expect("every host has this file");
    let id = users.lines().find_map(|line| line.strip_prefix(user)?.strip_prefix(":x:")?.split(':').next());
    id.unwrap_or_else(|| panic!("there is no user {user}")).to_owned()
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn a_viewer_looks_an_engineer_configures_and_others_can_do_nothing() {
    let Some(machine) = SystemdMachine::here() else { return };
    let trial = InstalledTrial::new(&machine);
    trial.bmpd.start();
    for (user, groups) in [("viewer", "bmpd-view"), ("engineer", "bmpd"), ("stranger", "")] {
        answer(Program::Useradd.command().args(["--no-create-home", "--user-group", "--groups", groups, user]));
    }
    let look = ["display", "current-configuration"];
    let rename = |name: &'static str| ["-c", "system-view", "-c", name, "-c", "commit"];
    let is_named = |name: &str| {
        let (_, shown) = as_user("root", &look);
        assert!(shown.contains(&format!("sysname {name}")), "{shown}");
    };

    for words in [&look[..], &rename("sysname edge2")] {
        let (code, said) = as_user("stranger", words);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("you may neither look nor configure") && !said.contains("edge1"), "{said}");
    }
    let (code, said) = as_user("viewer", &look);
    assert!(code == Some(0) && said.contains("sysname edge1"), "{said}");
    let (code, said) = as_user("viewer", &rename("sysname edge2"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("you may look and not configure"), "{said}");
    is_named("edge1");
    // The file is read by neither: it may hold passwords.
    for user in ["viewer", "stranger"] {
        let mut read = Program::Setpriv.command();
        read.args(["--reuid", user, "--regid", user, "--init-groups", "cat", CONFIGURATION]);
        assert!(!read.output().expect("setpriv can be started").status.success(), "{user} reads {CONFIGURATION}");
    }
    let (code, said) = as_user("engineer", &rename("sysname edge2"));
    assert_eq!(code, Some(0), "{said}");
    is_named("edge2");
    let file = fs::read_to_string(CONFIGURATION).expect("root reads it");
    assert!(file.contains("sysname edge2"), "{file}");
}
