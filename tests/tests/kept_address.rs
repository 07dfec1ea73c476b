//! A chosen address is kept over reconnects and restarts, while it is valid on the interface.

use std::fs;

use lab::{
    bmp,
    bmpd::{Bmpd, BmpdSetup, StartOptions},
    topology::{ROUTE_BY_UP2, STATION, Topology, UP2, UP2_OTHER},
    trial::{LabTrial, TrialPlan},
};

/// Gives `up2` these addresses, in this order.
fn addresses(topology: &Topology, all: [&str; 2]) {
    let add = all.map(|address| format!("addr add {address}/26 dev up2")).join("\n");
    topology.router.ip(&format!(
        "addr del 192.0.2.65/26 dev up2\naddr del 192.0.2.129/26 dev up2\n{add}\nroute replace {ROUTE_BY_UP2}"
    ));
}

/// Starts bmpd again. Its connection has number `index` at the station.
fn again(trial: &LabTrial, setup: BmpdSetup, index: usize) -> (Bmpd, std::net::IpAddr) {
    let bmpd = Bmpd::start_in(setup, &StartOptions::default());
    bmpd.wait_up(STATION);
    let connection = trial.station.wait_connection(index, "Initiation", |c| c.has(bmp::INITIATION));
    (bmpd, connection.peer.ip())
}

/// Starts a trial and takes its bmpd apart, so that it can be ended.
fn apart(plan: &TrialPlan<'_>) -> (LabTrial, Bmpd) {
    let mut trial = plan.start_up();
    let bmpd = std::mem::replace(&mut trial.bmpd, Bmpd::start(&lab::netns::Netns::new("spare"), ""));
    (trial, bmpd)
}

#[test]
fn a_chosen_address_is_kept_over_a_restart_and_a_crash_until_it_is_gone() {
    let (trial, bmpd) = apart(&TrialPlan::session("connect-interface up2"));
    assert_eq!(trial.station.connections()[0].peer.ip(), UP2, "the interface's first address");

    // While bmpd is away, another address becomes the first.
    let setup = bmpd.terminate();
    addresses(&trial.topology, ["192.0.2.129", "192.0.2.65"]);
    let (bmpd, source) = again(&trial, setup, 1);
    assert_eq!(source, UP2, "after an orderly restart");
    let binding = bmpd.display("display interface-binding");
    assert!(binding.contains("chosen before and still on the interface"), "{binding}");

    let (bmpd, source) = again(&trial, bmpd.crash(), 2);
    assert_eq!(source, UP2, "after a crash");

    // The address goes. The rule chooses another one, which is then kept.
    trial.topology.router.ip("addr del 192.0.2.65/26 dev up2");
    let connection = trial.station.wait_connection(3, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(connection.peer.ip(), UP2_OTHER);
    let setup = bmpd.terminate();
    trial.topology.router.ip("addr add 192.0.2.65/26 dev up2");
    addresses(&trial.topology, ["192.0.2.65", "192.0.2.129"]);
    let (_bmpd, source) = again(&trial, setup, 4);
    assert_eq!(source, UP2_OTHER);
}

#[test]
fn a_chosen_address_is_kept_for_its_connect_interface_alone() {
    let (trial, bmpd) = apart(&TrialPlan::session("connect-interface up2"));
    let setup = bmpd.terminate();
    addresses(&trial.topology, ["192.0.2.129", "192.0.2.65"]);
    let alias = TrialPlan {
        system: "interface-alias up2 GigabitEthernet0/1/0",
        ..TrialPlan::session("connect-interface GigabitEthernet0/1/0")
    };
    fs::write(setup.file(), alias.configuration()).expect("the file is writable");
    let (bmpd, source) = again(&trial, setup, 1);
    assert_eq!(source, UP2_OTHER, "the choice was for another connect-interface");
    // A configured address is no choice, so no choice is kept.
    let setup = bmpd.terminate();
    fs::write(setup.file(), TrialPlan::session("connect-interface up2 192.0.2.65").configuration())
        .expect("the file is writable");
    let (bmpd, source) = again(&trial, setup, 2);
    assert_eq!(source, UP2);
    assert!(!bmpd.terminate().left_behind().iter().any(|name| name == "bmpd.conf.sources"));
}

#[test]
fn an_unusable_sources_file_causes_one_warning_and_the_session_is_up() {
    let topology = Topology::new();
    let setup = BmpdSetup::new(&topology.router, TrialPlan::session("connect-interface up2").configuration());
    let sources = setup.file().with_file_name("bmpd.conf.sources");
    fs::create_dir_all(sources.join("taken")).expect("the folder is writable");
    let station = lab::station::TestStation::start(&topology.station, (STATION, lab::topology::STATION_PORT));
    let bmpd = Bmpd::start_in(setup, &StartOptions::default());
    bmpd.wait_up(STATION);
    station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    let warnings = bmpd.log().iter().filter(|line| line.contains("bmpd.conf.sources")).count();
    assert_eq!(warnings, 1, "{:#?}", bmpd.log());
}
