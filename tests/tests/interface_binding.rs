//! `display interface-binding`: the setting, its resolution, the rule, the warnings, and the
//! changes that matter.

use lab::{
    sockets::ForeignSocket,
    topology::{STATION, Topology},
    trial::TrialPlan,
};

#[test]
fn a_strict_rp_filter_causes_a_warning_at_the_commit_and_in_the_display() {
    let topology = Topology::new();
    topology.router.sysctl("net/ipv4/conf/up2/rp_filter", "1");
    let trial = TrialPlan::session("").start_on(topology);
    let answer = trial.bmpd.commit(STATION, "connect-interface up2");
    let warning = "rp_filter is strict on interface up2";
    assert!(answer.contains(&format!("Warning: {warning}")), "{answer}");
    assert!(trial.bmpd.display("display interface-binding").contains(warning));
    assert_eq!(trial.bmpd.first_binding()["warnings"].as_array().map(Vec::len), Some(1));
    trial.topology.router.sysctl("net/ipv4/conf/up2/rp_filter", "2");
    assert_eq!(trial.bmpd.first_binding()["warnings"].as_array().map(Vec::len), Some(0));
}

#[test]
fn the_display_has_the_setting_its_resolution_and_relevant_changes() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let ready = trial.bmpd.first_binding();
    assert_eq!((ready["asked"].as_str(), ready["from"].as_str()), (Some("up2"), Some("session")));
    assert_eq!((ready["source"].as_str(), ready["egress"][0].as_str()), (Some("192.0.2.65"), Some("up2")));
    assert_eq!(
        (ready["state"].as_str(), ready["rule"].as_str()),
        (Some("ready"), Some("the interface's first address"))
    );
    assert!(ready["would_change"].to_string().contains("the last route to the station by up2 gone"), "{ready:#}");
    trial.topology.carrier_down("up2");
    trial.bmpd.wait_down(STATION, "interface-down");
    let down = trial.bmpd.first_binding();
    assert_eq!((down["state"].as_str(), down["source"].as_str()), (Some("interface-down"), None));
    assert!(down["would_change"].to_string().contains("what mends it"), "{down:#}");
}

#[test]
fn a_route_by_a_forbidden_interface_causes_a_warning_and_is_the_reason() {
    let trial = TrialPlan::session("connect-interface lo").start_up();
    let answer = trial.bmpd.commit(STATION, "egress-interface up2");
    let warning = "the route to its station leaves by up1";
    assert!(answer.contains("Warning: ") && answer.contains(warning) && answer.contains("next-hop"), "{answer}");
    let shown = trial.bmpd.first_binding();
    assert!(shown["warnings"].to_string().contains(warning), "{shown:#}");
    assert!(
        shown["would_change"].to_string().contains("the best route to the station, where it is not by up2"),
        "{shown:#}"
    );
    let session = trial.bmpd.wait_down(STATION, "egress-denied");
    let mend = session["mend"].as_str().unwrap_or_default();
    assert!(mend.starts_with("ip route add 198.51.100.7 via GATEWAY dev up2"), "{session:#}");
    trial.topology.router.ip("route add 198.51.100.7 via 192.0.2.66 dev up2");
    trial.bmpd.wait_up(STATION);
    assert_eq!(trial.bmpd.first_binding()["warnings"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_route_by_a_forbidden_interface_is_an_adopted_sessions_reason_too() {
    let trial = TrialPlan::session("adopt\nconnect-interface lo\negress-interface up2").start();
    trial.bmpd.wait_session(STATION, "waiting for its daemon", |session| session["phase"] == "connecting");
    ForeignSocket::default()
        .connect(&trial.topology.router, trial.station.address())
        .expect_err("the kernel drops its SYN");
    let session = trial.bmpd.wait_down(STATION, "egress-denied");
    assert!(session["mend"].as_str().is_some_and(|mend| mend.contains("dev up2")), "{session:#}");
}
