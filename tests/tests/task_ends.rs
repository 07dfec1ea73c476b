//! A task that ends unasked ends bmpd with a message. A supervisor then starts bmpd again under the
//! remaining pins.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use lab::{
    bmp,
    bmpd::{Bmpd, BmpdSetup, StartOptions},
    feeder::BmpFeeder,
    http,
    manager::TestServiceManager,
    skip::skip,
    station::TestStation,
    topology::{STATION, STATION_2, STATION_PORT, Topology, UP2},
    trial::RELAY,
    wait::{PATIENCE, until},
};

/// Exit status of bmpd after a fault of its own.
const FAULT: i32 = 70;

/// Tasks that must run as long as bmpd does.
const NEEDED: [&str; 22] = [
    "BGP listener",
    "BGP peer",
    "BGP peers",
    "HTTP",
    "HTTP events",
    "HTTP listener",
    "TLS profiles",
    "adopted session",
    "control",
    "interfaces",
    "kernel events",
    "kernel log",
    "memory limit",
    "pins",
    "relay listener",
    "relays",
    "replay",
    "replays",
    "session",
    "session listener",
    "session of a router",
    "session per router",
];
/// Tasks that end with their connection.
const PASSING: [&str; 3] = ["HTTP connection", "control connection", "relay connection"];

fn configuration() -> String {
    format!(
        "sysname edge1
http listen 127.0.0.1 port 9179
bmp-relay lab
 listen {} port {}
mrt-replay old
 file /nonexistent
bgp 65000
 router-id 10.0.0.1
 listen-port 1790
 peer 192.0.2.66 as-number 65001
 ipv4-family unicast
  peer 192.0.2.66 enable
bmp
 bmp-session {STATION}
  tcp connect port {STATION_PORT}
  connect-interface up2
 bmp-session {STATION_2}
  tcp connect port {STATION_PORT}
  connect-interface up2
  adopt
 bmp-session 198.51.100.9
  tcp listen port 11020
  connect-interface up2
 bmp-session {STATION} alias routers
  tcp connect port 11021
  connect-interface up2
  per-router
return
",
        RELAY.ip(),
        RELAY.port()
    )
}

/// A bmpd that runs every kind of task.
struct BusyBmpd {
    bmpd: Bmpd,
    _feeder: BmpFeeder,
    _client: TcpStream,
}

impl BusyBmpd {
    fn start(topology: &Topology, setup: BmpdSetup) -> Self {
        Self::of(topology, Bmpd::start_in(setup, &StartOptions::default()))
    }

    /// Waits until every kind of task runs.
    fn of(topology: &Topology, bmpd: Bmpd) -> Self {
        bmpd.wait_up(STATION);
        let mut feeder = BmpFeeder::connect(&topology.router, RELAY);
        feeder.send(bmp::initiation("feeder"));
        let client = http::connect(&topology.router, (Ipv4Addr::LOCALHOST, 9179).into()).expect("bmpd serves HTTP");
        let expected: BTreeSet<_> = NEEDED.iter().chain(&PASSING).map(|name| (*name).to_owned()).collect();
        until("every task runs", PATIENCE, || {
            let tasks: BTreeSet<_> = bmpd.fault("list").unwrap_or_default().into_iter().collect();
            (tasks.is_superset(&expected)).then_some(())
        });
        Self { bmpd, _feeder: feeder, _client: client }
    }

    /// Causes a fault, and asserts that bmpd exits with a message about it. Returns the setup for
    /// the next start.
    fn ends(self, what: &str, task: &str) -> BmpdSetup {
        self.bmpd.fault(&format!("{what} {task}"));
        let (ended, setup) = self.bmpd.wait_end();
        assert_eq!(ended.code, Some(FAULT), "{what} {task}: {:#?}", ended.lines);
        let named = |line: &String| line.contains("a fault of bmpd") && line.contains(&format!("`{task}`"));
        assert!(ended.lines.iter().any(named), "{what} {task}: {:#?}", ended.lines);
        assert!(setup.bpffs().exists(), "{what} {task}: the pins are gone");
        setup
    }
}

/// Starts one bmpd after another on the same host, and ends each by one fault.
fn every_fault_ends_bmpd(what: &str, tasks: &[&str]) {
    let topology = Topology::new();
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let mut setup = BmpdSetup::new(&topology.router, configuration());
    {
        let probe = Bmpd::start(&topology.router, "sysname probe\n");
        if probe.fault("list").is_none() {
            return skip("this bmpd was built without debug assertions, so it has no faults on demand");
        }
    }
    for task in tasks {
        setup = BusyBmpd::start(&topology, setup).ends(what, task);
    }
    // A last bmpd, under the pins of all earlier ones.
    let busy = BusyBmpd::start(&topology, setup);
    busy.bmpd.terminate();
    assert!(station.connections().iter().all(|connection| connection.peer.ip() == UP2));
}

#[test]
fn a_required_task_that_returns_ends_bmpd_with_a_message() {
    every_fault_ends_bmpd("return", &NEEDED);
}

#[test]
fn any_task_that_panics_ends_bmpd_with_a_message() {
    let tasks: Vec<_> = NEEDED.iter().chain(&PASSING).copied().collect();
    every_fault_ends_bmpd("panic", &tasks);
}

#[test]
fn every_required_task_proves_to_the_watchdog_that_it_runs() {
    let topology = Topology::new();
    let _station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let manager = TestServiceManager::new();
    let setup = BmpdSetup::new(&topology.router, configuration());
    let mut command = setup.command(&StartOptions::default());
    manager.supervise(&mut command, Some(Duration::from_secs(2)));
    let bmpd = Bmpd::start_by(setup, &mut command);
    if bmpd.fault("list").is_none() {
        return skip("this bmpd was built without debug assertions, so it does not list its tasks");
    }
    let busy = BusyBmpd::of(&topology, bmpd);
    // A task may miss three rounds before it is said to hang.
    for _ in 0..8 {
        let told = manager.wait_for("that bmpd lives", |message| message.has("WATCHDOG=1"));
        assert!(told.iter().all(|message| !message.status().contains("hangs")), "{told:#?}");
    }
    busy.bmpd.terminate();
}
