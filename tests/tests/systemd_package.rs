//! The life of an installed bmpd below systemd: started before FRR, killed, reloaded, hung,
//! upgraded, restarted with the machine, and removed. FRR's session is adopted.

use std::{fs, net::SocketAddr, path::Path};

use lab::{
    bgp::prefixes,
    bmpd::number,
    capture::{CapturedPacket, LinkCapture},
    frr::{FRR, PEER},
    installed::{CONFIGURATION, InstalledBmpd, UNIT},
    kernel::BpfObjects,
    machine::SystemdMachine,
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
    let ((own, own_as), (peer, peer_as)) = (FRR, PEER);
    let configuration = format!(
        "router bgp {own_as}
 bgp router-id {own}
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor {peer} remote-as {peer_as}
 neighbor {peer} passive
 neighbor {peer} disable-connected-check
 address-family ipv4 unicast
  neighbor {peer} activate
  neighbor {peer} soft-reconfiguration inbound
 exit-address-family
 bmp targets lab
  bmp connect {STATION} port {STATION_PORT} min-retry 100 max-retry 500
  bmp monitor ipv4 unicast pre-policy
 exit
exit
"
    );
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

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn an_upgrade_keeps_the_session_and_its_pin_at_every_moment() {
    let Some(machine) = SystemdMachine::here() else { return };
    let (trial, _speaker, before) = InstalledTrial::up(&machine);
    let pid = trial.bmpd.pid();
    // Another process connects all the while. Without a pin, routing would send it by up1.
    let ended = std::sync::atomic::AtomicBool::new(false);
    let connects = std::thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            let mut connects = 0;
            while !ended.load(std::sync::atomic::Ordering::Acquire) {
                let stream = ForeignSocket::default().connect(&trial.topology.router, trial.station.address());
                assert_eq!(stream.expect("the pin lets it connect").local_addr().expect("it is connected").ip(), UP2);
                connects += 1;
            }
            connects
        });
        let version = trial.bmpd.upgrade();
        trial.bmpd.wait_again(pid);
        let query = ["--show", "--showformat", "${Version}", "bmpd"];
        assert_eq!(answer(Program::DpkgQuery.command().args(query)), version);
        ended.store(true, std::sync::atomic::Ordering::Release);
        connecting.join().expect("it does not panic")
    });
    assert!(connects > 10, "{connects}");
    let now = trial.wait_up();
    assert_eq!(now["local_port"], before["local_port"]);
    trial.assert_pinned();
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
