//! A task of bmpd that ends unasked ends bmpd, with a message: a supervisor starts it again, under the pins that stay.

use std::collections::BTreeSet;

use lab::{
    bmp,
    bmpd::{Bmpd, Options, Setup},
    feeder::Feeder,
    skip::skip,
    station::Station,
    topology::{STATION, STATION_2, STATION_PORT, Topology, UP2},
    trial::RELAY,
    wait::{PATIENCE, until},
};

/// Exit status of a bmpd that ended because of a fault of its own.
const FAULT: i32 = 70;

/// Tasks that must not return as long as bmpd runs.
const NEEDED: [&str; 14] = [
    "BGP listener",
    "BGP peer",
    "BGP peers",
    "adopted session",
    "interfaces",
    "kernel events",
    "kernel log",
    "pins",
    "relay listener",
    "relays",
    "replay",
    "replays",
    "session",
    "session listener",
];
/// Tasks that end with what they are for.
const PASSING: [&str; 2] = ["control connection", "relay connection"];

fn configuration() -> String {
    format!(
        "sysname edge1
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
return
",
        RELAY.ip(),
        RELAY.port()
    )
}

/// A bmpd with every kind of task.
struct Busy {
    bmpd: Bmpd,
    _feeder: Feeder,
}

impl Busy {
    fn start(topology: &Topology, setup: Setup) -> Self {
        let bmpd = Bmpd::start_in(setup, &Options::default());
        bmpd.wait_up(STATION);
        let mut feeder = Feeder::connect(&topology.router, RELAY);
        feeder.send(bmp::initiation("feeder"));
        let expected: BTreeSet<_> = NEEDED.iter().chain(&PASSING).map(|name| (*name).to_owned()).collect();
        until("every task runs", PATIENCE, || {
            let tasks: BTreeSet<_> = bmpd.fault("list").unwrap_or_default().into_iter().collect();
            (tasks.is_superset(&expected)).then_some(())
        });
        Self { bmpd, _feeder: feeder }
    }

    /// It ends for this fault, and says so. Gives what a supervisor starts again.
    fn ends(self, what: &str, task: &str) -> Setup {
        self.bmpd.fault(&format!("{what} {task}"));
        let (ended, setup) = self.bmpd.wait_end();
        assert_eq!(ended.code, Some(FAULT), "{what} {task}: {:#?}", ended.lines);
        let named = |line: &String| line.contains("a fault of bmpd") && line.contains(&format!("`{task}`"));
        assert!(ended.lines.iter().any(named), "{what} {task}: {:#?}", ended.lines);
        assert!(setup.bpffs().exists(), "{what} {task}: the pins stay");
        setup
    }
}

/// One bmpd after another on one host, each ended by one fault.
fn every_fault_ends_bmpd(what: &str, tasks: &[&str]) {
    let topology = Topology::new();
    let station = Station::start(&topology.station, (STATION, STATION_PORT));
    let mut setup = Setup::new(&topology.router, configuration());
    {
        let probe = Bmpd::start(&topology.router, "sysname probe\n");
        if probe.fault("list").is_none() {
            return skip("this bmpd has no faults on demand: it was built without debug assertions");
        }
    }
    for task in tasks {
        setup = Busy::start(&topology, setup).ends(what, task);
    }
    // The last one's supervisor, with the pins of all before.
    let busy = Busy::start(&topology, setup);
    busy.bmpd.terminate();
    assert!(station.connections().iter().all(|connection| connection.peer.ip() == UP2));
}

#[test]
fn a_needed_task_that_returns_ends_bmpd_with_a_message() {
    every_fault_ends_bmpd("return", &NEEDED);
}

#[test]
fn any_task_that_panics_ends_bmpd_with_a_message() {
    let tasks: Vec<_> = NEEDED.iter().chain(&PASSING).copied().collect();
    every_fault_ends_bmpd("panic", &tasks);
}
