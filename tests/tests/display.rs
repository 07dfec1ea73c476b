//! The answers of bmpctl: names and types of the JSON, the text, and the exit code.

use std::collections::BTreeSet;

use bmp_user::control::read_json;
use lab::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    bmpd::{Bmpd, BmpdSetup, StartOptions, number},
    netns::Netns,
    process::ChildProgram,
    station::TestStation,
    topology::{STATION, STATION_PORT, Topology},
    trial::TrialPlan,
    wait::{PATIENCE, until},
};
use serde_json::{Value, json};

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value} is not an object")).keys().map(String::as_str).collect()
}

fn words(text: &'static str) -> BTreeSet<&'static str> {
    text.split_whitespace().collect()
}

#[test]
fn the_json_has_exactly_the_documented_names() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let session = trial.bmpd.session(STATION);
    let expected = "station port vpn_instance alias owner process state phase reason age_seconds local_address local_port \
                    established_count source_changes retry_in_seconds connect_interface egress kernel keychain tls messages feed detail mend connections role guard held \
                    unheld interface_drops uplink description initiation_message dump_rate counters_reset_seconds \
                    proxy_protocol routers";
    assert_eq!(keys(&session), words(expected));
    assert_eq!(keys(&session["connect_interface"]), words("interface address from"));
    assert_eq!(keys(&session["egress"]), words("any interfaces enforcement why lost losses"));
    let kernel = "tx_bytes tx_packets tx_payload_bytes rx_bytes rx_packets retransmits denied foreign";
    assert_eq!(keys(&session["kernel"]), words(kernel));
    assert_eq!(keys(&session["kernel"]["denied"]), words("interface source mark no_pin"));
    assert_eq!(keys(&session["kernel"]["foreign"]), words("tx_bytes tx_packets"));
    assert_eq!(keys(&session["interface_drops"][0]), words("name queue device"));
    assert_eq!(session["keychain"], Value::Null);
    assert_eq!(session["tls"], Value::Null);
    assert_eq!(session["unheld"], json!({ "count": 0, "connections": [] }));
    assert_eq!(keys(&session["connections"]), words("open established closed failed"));
    let messages = "route_monitoring statistics_report peer_down peer_up initiation termination route_mirroring";
    assert_eq!(keys(&session["messages"]), words(messages));
    let feed = "cursor head lag_bytes lag_limit_bytes dumps dump refused_peers";
    assert_eq!(keys(&session["feed"]), words(feed));
}

#[test]
fn the_json_of_a_session_that_is_up_is_complete() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    let connection = trial.routes_arrive(&mut feeder, 30, 0);
    let session = trial.bmpd.wait_session(STATION, "level with the feed", |session| session["feed"]["lag_bytes"] == 0);
    assert_eq!(session["station"], "198.51.100.7");
    assert_eq!(session["port"], STATION_PORT);
    assert_eq!(session["vpn_instance"], "_public_");
    assert_eq!(session["alias"], Value::Null);
    assert_eq!(session["owner"], "bmpd");
    assert_eq!(session["process"], Value::Null);
    assert_eq!((&session["state"], &session["phase"]), (&json!("up"), &json!("following")));
    assert_eq!(session["local_address"], connection.peer.ip().to_string());
    assert_eq!(session["local_port"], connection.peer.port());
    assert_eq!(session["connect_interface"], json!({ "interface": "up2", "address": null, "from": "session" }));
    assert_eq!(
        session["egress"],
        json!({ "any": false, "interfaces": ["up2"], "enforcement": "kernel", "why": null, "lost": null, "losses": 0 })
    );
    let messages = &session["messages"];
    assert_eq!((number(&messages["route_monitoring"]), number(&messages["peer_up"])), (30, 1));
    assert_eq!((number(&messages["initiation"]), number(&messages["termination"])), (1, 0));
    assert_eq!(session["feed"]["cursor"], session["feed"]["head"]);
}

#[test]
fn the_json_says_which_view_connect_interface_is_from() {
    let bmp_view = TrialPlan { bmp: "connect-interface 192.0.2.65", ..TrialPlan::default() }.start_up();
    let session = bmp_view.bmpd.session(STATION);
    assert_eq!(session["connect_interface"], json!({ "interface": null, "address": "192.0.2.65", "from": "bmp" }));
    let nothing = TrialPlan::default().start_up();
    let session = nothing.bmpd.session(STATION);
    assert_eq!(session["connect_interface"], json!({ "interface": null, "address": null, "from": "default" }));
}

#[test]
fn message_counts_equal_the_stations_messages() {
    let trial = TrialPlan::default().start_up();
    let peer = ReportedPeer::default();
    let mut feeder = trial.feeder();
    feeder.announce(&peer, &prefixes(10), 1);
    feeder.send(bmp::statistics_report(&peer, 10));
    feeder.send(bmp::peer_down(&peer));
    let connection = trial.station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    let messages = trial.bmpd.wait_session(STATION, "counted", |s| s["messages"]["peer_down"] == 1)["messages"].clone();
    let names = [
        "route_monitoring",
        "statistics_report",
        "peer_down",
        "peer_up",
        "initiation",
        "termination",
        "route_mirroring",
    ];
    for (kind, name) in (0..).zip(names) {
        assert_eq!(number(&messages[name]), connection.count(kind) as u64, "{name}");
    }
}

#[test]
fn the_text_has_the_layout_operators_know() {
    let topology = Topology::new();
    let _station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let plan =
        TrialPlan { system: "bmp\n bmp-session 198.51.100.8 alias lab", ..TrialPlan::session("connect-interface up2") };
    let bmpd = Bmpd::start(&topology.router, &plan.configuration());
    bmpd.wait_up(STATION);
    let text = bmpd.display("display bmp session");
    let lines: Vec<_> = text.lines().collect();
    assert!(text.contains("Total number of BMP session : 2"), "{text}");
    assert!(text.contains("Session in up state : 1"), "{text}");
    let heading = ["Session", "Alias", "State", "Age", "VPN"];
    let heading = lines.iter().position(|line| heading.iter().all(|word| line.contains(word)));
    let heading = heading.unwrap_or_else(|| panic!("no heading in\n{text}"));
    let row = |station: &str| {
        let row = lines[heading + 1..].iter().find(|line| line.trim_start().starts_with(station));
        row.unwrap_or_else(|| panic!("no row for {station} in\n{text}")).to_lowercase()
    };
    assert!(row("198.51.100.7").contains("up"));
    assert!(row("198.51.100.8").contains("down") && row("198.51.100.8").contains("lab"));
    let verbose = bmpd.display("display bmp session 198.51.100.7 verbose");
    for word in ["192.0.2.65", "up2", "11019"] {
        assert!(verbose.contains(word), "{word} is not in\n{verbose}");
    }
    assert!(!verbose.contains("198.51.100.8"), "another session is displayed too:\n{verbose}");
}

#[test]
fn text_and_json_have_the_reason_of_a_session_that_is_down() {
    let topology = Topology::new();
    let bmpd = Bmpd::start(&topology.router, &TrialPlan::session("connect-interface nowhere0").configuration());
    let session = bmpd.wait_down(STATION, "interface-absent");
    assert_eq!((&session["local_address"], &session["local_port"]), (&Value::Null, &Value::Null));
    let verbose = bmpd.display("display bmp session verbose");
    assert!(verbose.contains("interface-absent") && verbose.contains("nowhere0"), "{verbose}");
}

#[test]
fn every_configured_session_is_in_the_first_answer() {
    let netns = Netns::new("router");
    for _ in 0..10 {
        // Not `Bmpd::start`, which has sent a request already.
        let setup = BmpdSetup::new(&netns, TrialPlan::default().configuration());
        let process = ChildProgram::start(&mut setup.command(&StartOptions::default()));
        let first = until("bmpd answers", PATIENCE, || {
            let output = setup.bmpctl("display bmp session --json").output().expect("bmpctl starts");
            output.status.success().then(|| read_json::<Value>(&String::from_utf8_lossy(&output.stdout)))
        });
        let sessions = first.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(sessions.as_array().map(Vec::len), Some(1), "{:#?}", process.lines());
    }
}

#[test]
fn the_json_of_one_session_can_be_displayed() {
    let trial = TrialPlan::default().start_up();
    let one = trial.bmpd.display_json("display bmp session 198.51.100.7");
    assert_eq!((one.as_array().map(Vec::len), &one[0]["station"]), (Some(1), &json!("198.51.100.7")));
}

#[test]
fn displaying_an_unknown_session_exits_with_1() {
    let bmpd = Bmpd::start(&Netns::new("router"), "");
    let output = bmpd.try_display("display bmp session 192.0.2.200");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("192.0.2.200"));
}

#[test]
fn a_filter_of_json_is_refused_because_it_would_break_it() {
    let bmpd = Bmpd::start(&Netns::new("router"), "");
    let output = bmpd.bmpctl("--json display bmp session | include up").output().expect("bmpctl starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("leave out `|` or --json"), "{output:?}");
}

#[test]
fn an_unknown_command_is_refused_on_stderr() {
    let bmpd = Bmpd::start(&Netns::new("router"), "");
    let output = bmpd.try_display("display weather");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{output:?}");
}

#[test]
fn without_bmpd_bmpctl_names_the_socket_in_one_line() {
    let topology = Topology::new();
    let bmpd = Bmpd::start(&topology.router, "");
    let mut bmpctl = bmpd.bmpctl("display bmp session");
    bmpd.terminate();
    let output = bmpctl.output().expect("bmpctl starts");
    let answer = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), answer.lines().count()), (Some(3), 1), "{answer}");
    assert!(answer.contains("bmpd.sock"), "{answer}");
}

#[test]
fn the_current_configuration_is_valid_and_prints_as_itself() {
    let netns = Netns::new("router");
    let plan = TrialPlan {
        system: "interface-alias up2 GigabitEthernet0/1/0",
        bmp: "connect-interface 192.0.2.65",
        ..TrialPlan::session("connect-interface GigabitEthernet0/1/0 192.0.2.129")
    };
    let first = Bmpd::start(&netns, &plan.configuration());
    let printed = first.display("display current-configuration");
    for line in [
        "sysname edge1",
        "interface-alias up2 GigabitEthernet0/1/0",
        "bmp-relay lab",
        " listen 127.0.0.1 port 5000",
        " connect-interface 192.0.2.65",
        " bmp-session 198.51.100.7",
        "  tcp connect port 11019",
        "  connect-interface GigabitEthernet0/1/0 192.0.2.129",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line:?} is not in\n{printed}");
    }
    first.terminate();
    let second = Bmpd::start_in(BmpdSetup::new(&netns, &printed), &StartOptions::default());
    assert_eq!(second.display("display current-configuration"), printed);
}

/// Returns the row with this name in a verbose display.
fn row(text: &str, name: &str) -> String {
    let rows = text.lines().filter_map(|line| line.trim().split_once(':'));
    let row = rows.into_iter().find(|(known, _)| known.trim_end() == name);
    row.unwrap_or_else(|| panic!("no row {name} in\n{text}")).1.trim().to_owned()
}

#[test]
fn a_denied_session_may_leave_by_none_and_an_unpinned_one_by_any() {
    let trial = TrialPlan::default().start_up();
    assert_eq!(
        (
            &trial.bmpd.session(STATION)["egress"]["any"],
            row(&trial.bmpd.display("display bmp session verbose"), "May leave by").as_str()
        ),
        (&json!(true), "any interface")
    );
    trial.bmpd.commit(STATION, "connect-interface nowhere0");
    let session = trial.bmpd.wait_down(STATION, "interface-absent");
    assert_eq!((&session["egress"]["any"], &session["egress"]["interfaces"]), (&json!(false), &json!([])));
    for display in ["display bmp session verbose", "display interface-binding"] {
        assert_eq!(row(&trial.bmpd.display(display), "May leave by"), "none", "{display}");
    }
    let binding = trial.bmpd.first_binding();
    assert_eq!((&binding["any"], &binding["egress"]), (&json!(false), &json!([])));
    trial.bmpd.commit(STATION, "connect-interface lo\nshutdown");
    trial.bmpd.wait_down(STATION, "shutdown");
    assert_eq!(row(&trial.bmpd.display("display bmp session verbose"), "May leave by"), "none");
}

#[test]
fn monitor_displays_mark_sessions_that_are_down_and_omit_inactive_ones() {
    let trial = TrialPlan::default().start_up();
    let _feeder = trial.feeder();
    trial.station.wait_connection(0, "Peer Up", |c| c.has(bmp::PEER_UP));
    let stations = || {
        let text = trial.bmpd.display("display bgp bmp-monitor all");
        text.lines().last().unwrap_or_default().split_whitespace().skip(6).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(stations(), "198.51.100.7");
    trial.bmpd.commit(STATION, "connect-interface nowhere0");
    trial.bmpd.wait_down(STATION, "interface-absent");
    assert_eq!(stations(), "198.51.100.7 down");
    trial.bmpd.commit(STATION, "shutdown");
    assert_eq!(stations(), "-");
    let shown = trial.bmpd.display_json("display bgp bmp-monitor all");
    assert_eq!(shown[0]["sessions"], json!([]));
    assert_eq!(row(&trial.bmpd.display("display bmp session verbose"), "Monitored peers"), "none");
    trial.bmpd.commit(STATION, "undo shutdown\nundo connect-interface\nadopt");
    assert_eq!(stations(), "-");
}

#[test]
fn a_session_says_that_it_waits_for_its_station_or_daemon() {
    let trial = TrialPlan::session("tcp listen port 11019\nconnect-interface up2").start();
    let session = trial.bmpd.wait_session(STATION, "listening", |session| session["phase"] == "listening");
    assert_eq!(session["reason"], "waiting-for-station");
    assert_eq!(session["detail"], "198.51.100.7 has not connected to 192.0.2.65 port 11019");
    assert!(trial.bmpd.display("display bmp session").contains("waiting-for-station"));
    trial.bmpd.commit(STATION, "tcp connect port 11019\nadopt");
    let waits = |session: &Value| session["reason"] == "waiting-for-daemon";
    let session = trial.bmpd.wait_session(STATION, "waiting for its daemon", waits);
    assert_eq!(session["detail"], "no process of this host has connected to 198.51.100.7 port 11019");
}

#[test]
fn a_held_session_is_displayed_as_up_and_held() {
    let trial = TrialPlan::session("connect-interface up2\nhold-down 600000").start_up();
    trial.topology.carrier_down("up2");
    let session = trial.bmpd.wait_session(STATION, "held", |session| !session["held"].is_null());
    assert_eq!((&session["state"], &session["held"]["reason"]), (&json!("up"), &json!("interface-down")));
    let text = trial.bmpd.display("display bmp session");
    assert!(text.contains("Up (held)") && text.contains("interface-down"), "{text}");
    let verbose = trial.bmpd.display("display bmp session verbose");
    assert!(row(&verbose, "State").contains("following, held"), "{verbose}");
    assert!(row(&verbose, "Held").contains("unless that is mended (hold-down)"), "{verbose}");
}

#[test]
fn would_change_names_the_interface_that_has_the_address() {
    let trial = TrialPlan::session("connect-interface up2 203.0.113.1").start();
    let changes = || trial.bmpd.first_binding()["would_change"].to_string();
    trial.bmpd.wait_session(STATION, "decided about", |session| session["egress"]["enforcement"] == "kernel");
    assert!(changes().contains("203.0.113.1 taken from lo\""), "{}", changes());
    trial.bmpd.commit(STATION, "connect-interface lo 192.0.2.65");
    assert!(changes().contains("192.0.2.65 taken from up2, or lo down or gone"), "{}", changes());
}

#[test]
fn the_display_of_a_relay_hints_at_why_a_peer_has_no_routes() {
    let trial =
        TrialPlan { system: "bmp-relay idle\nquit\nmrt-replay idle-too\nquit", ..TrialPlan::default() }.start_up();
    let mut feeder = trial.feeder();
    trial.station.wait_connection(0, "Peer Up", |c| c.has(bmp::PEER_UP));
    let text = trial.bmpd.display("display bmp relay");
    assert!(text.contains("up, no route has come: ") && text.contains("(route monitoring)"), "{text}");
    assert!(!text.contains("FRR"), "the hint is about FRR, which is not there: {text}");
    assert!(text.contains("Relay idle, not-configured"), "{text}");
    assert!(trial.bmpd.display("display mrt-replay").contains("Replay idle-too, not-configured"));
    feeder.announce(&ReportedPeer::default(), &prefixes(1), 1);
    trial.station.wait_connection(0, "a route", |c| c.announced() == 1);
    let text = trial.bmpd.display("display bmp relay");
    assert!(!text.contains("no route"), "{text}");
}
