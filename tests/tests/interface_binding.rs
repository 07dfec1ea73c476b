//! `display interface-binding`: what was asked, what it came to, by which rule, the warnings, and what would change it.

use lab::{
    bmpd::Bmpd,
    topology::{STATION, Topology},
    trial::Plan,
};
use serde_json::Value;

fn binding(bmpd: &Bmpd) -> Value {
    let shown = bmpd.display("display interface-binding --json");
    let all: Value = serde_json::from_str(&shown).expect("it is JSON");
    all[0].clone()
}

#[test]
fn a_strict_rp_filter_is_warned_of_by_the_commit_and_for_as_long_as_it_stands() {
    let topology = Topology::new();
    topology.router.sysctl("net/ipv4/conf/up2/rp_filter", "1");
    let trial = Plan::session("").start_on(topology);
    let lines = format!("system-view\nbmp\nbmp-session {STATION}\nconnect-interface up2\ncommit\n");
    let (taken, said) = trial.bmpd.typed(&lines);
    let warning = "rp_filter is strict on interface up2";
    assert!(taken && said.contains(&format!("Warning: {warning}")), "{said}");
    assert!(trial.bmpd.display("display interface-binding").contains(warning));
    assert_eq!(binding(&trial.bmpd)["warnings"].as_array().map(Vec::len), Some(1));
    trial.topology.router.sysctl("net/ipv4/conf/up2/rp_filter", "2");
    assert_eq!(binding(&trial.bmpd)["warnings"].as_array().map(Vec::len), Some(0));
}

#[test]
fn what_was_asked_what_it_came_to_and_what_would_change_it_are_shown() {
    let trial = Plan::session("connect-interface up2").start_up();
    let ready = binding(&trial.bmpd);
    assert_eq!((ready["asked"].as_str(), ready["from"].as_str()), (Some("up2"), Some("session")));
    assert_eq!((ready["source"].as_str(), ready["egress"][0].as_str()), (Some("192.0.2.65"), Some("up2")));
    assert_eq!(
        (ready["state"].as_str(), ready["rule"].as_str()),
        (Some("ready"), Some("the interface's first address"))
    );
    assert!(ready["would_change"].to_string().contains("the last route to the station by up2 gone"), "{ready:#}");
    trial.topology.carrier_down("up2");
    trial.bmpd.wait_down(STATION, "interface-down");
    let down = binding(&trial.bmpd);
    assert_eq!((down["state"].as_str(), down["source"].as_str()), (Some("interface-down"), None));
    assert!(down["would_change"].to_string().contains("what mends it"), "{down:#}");
}
