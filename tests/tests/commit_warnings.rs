//! Warnings of a commit about settings that may not do what the operator expects: each appears
//! once, with its mend.

use std::net::SocketAddr;

use lab::{
    bmpd::BmpdSetup,
    feeder::BmpFeeder,
    netns::Netns,
    peering::{BMPD, DAEMON, Peering},
    topology::STATION,
    trial::{LabTrial, TrialPlan},
    wait::{PATIENCE, until},
};

/// Commits these lines in the system view, and returns the sentences of the answer.
fn answer_to(trial: &LabTrial, lines: &str) -> Vec<String> {
    let answer = trial.bmpd.commit_lines(lines);
    answer.lines().map(str::to_owned).collect()
}

/// Commits these lines in the system view, and returns the warnings of the answer.
fn warned(trial: &LabTrial, lines: &str) -> Vec<String> {
    let mut answer = answer_to(trial, lines);
    answer.retain(|line| line.starts_with("Warning: "));
    answer
}

/// Asserts that the answer is one sentence that starts with `begins` and contains `words`.
fn assert_one(answer: &[String], begins: &str, words: &str) {
    assert!(answer.len() == 1 && answer[0].starts_with(begins) && answer[0].contains(words), "{answer:#?}");
}

/// Returns these lines in the view of the trial's session.
fn in_session(lines: &str) -> String {
    format!("bmp\nbmp-session {STATION}\n{lines}")
}

/// Waits until a relay has the connection of this client.
fn wait_relayed(trial: &LabTrial, client: SocketAddr) {
    until("the relay has the connection", PATIENCE, || {
        trial.bmpd.display("display bmp relay").contains(&client.to_string()).then_some(())
    });
}

const NOTHING: Vec<String> = Vec::new();

#[test]
fn a_commit_warns_once_about_incomplete_inputs() {
    let trial = TrialPlan::default().start();
    let missing = trial.bmpd.setup().file().with_file_name("missing.mrt");
    let replay = format!("mrt-replay table\nfile {}", missing.display());
    let fails = format!("mrt-replay table fails: {}: cannot be opened: No such file", missing.display());
    let cases = [
        ("bmp-relay empty", "bmp-relay empty takes nothing until it has `listen ADDRESS port N`"),
        ("mrt-replay table", "mrt-replay table replays nothing until it has `file PATH`"),
        (&*replay, &*fails),
        ("bgp 65000\npeer 192.0.2.9 as-number 65001", "BGP peer 192.0.2.9 is not spoken to: no BGP identifier"),
        ("bgp 65000\nrouter-id 192.0.2.1", "BGP peer 192.0.2.9 is not spoken to: no address family"),
    ];
    for (lines, expected) in cases {
        let answer = warned(&trial, lines);
        assert!(answer.len() == 1 && answer[0].contains(expected), "{lines}: {answer:?}");
    }
    let enabled = warned(&trial, "bgp 65000\nipv4-family unicast\npeer 192.0.2.9 enable");
    assert_one(&enabled, "Warning: BGP peer 192.0.2.9 is not up: ", "bmpd goes on trying");
    assert_eq!(warned(&trial, "sysname other"), Vec::<String>::new(), "a warning was repeated");
}

#[test]
fn a_commit_warns_about_a_monitor_of_an_absent_input() {
    let trial = TrialPlan::default().start();
    let session = format!("bmp\nbmp-session {STATION}");
    for monitor in ["relay nobody", "mrt-replay lab", "bgp"] {
        let answer = warned(&trial, &format!("{session}\nmonitor {monitor}"));
        let expected = format!("is told nothing by `monitor {monitor}`: there is no such input");
        assert!(answer.len() == 1 && answer[0].contains(&expected), "{answer:?}");
    }
    assert_eq!(warned(&trial, &format!("{session}\nmonitor relay lab\nquit\nmonitor public")), Vec::<String>::new());
}

#[test]
fn a_bgp_peers_settings_and_all_defaults_are_displayed() {
    let system = "bgp 65000\n router-id 192.0.2.1\n peer 192.0.2.9 as-number 65001\n peer 192.0.2.9 port 1790\n peer 192.0.2.9 password secret\n \
                  peer 192.0.2.9 timer keepalive 5 hold 20\n ipv4-family unicast\n  peer 192.0.2.9 enable\nquit\nquit";
    let trial = TrialPlan { system, ..TrialPlan::default() }.start();
    let text = trial.bmpd.display("display bgp peer 192.0.2.9 verbose");
    let configured = "port 1790; hold time 20 s, keepalive every 5 s; TCP MD5; IPv4 unicast";
    assert!(text.contains(configured) && !text.contains("secret"), "{text}");
    let defaults = trial.bmpd.display("display default-parameter bmp");
    for name in [
        "initial-delay",
        "flap-damping",
        "keepalive",
        "statistics-timer",
        "allow",
        "hold",
        "end-of-rib-after",
        "max-connections",
        "pace",
    ] {
        assert!(defaults.contains(&format!("({name})")), "{name}: {defaults}");
    }
}

#[test]
fn a_warning_about_an_absent_interface_suggests_a_similar_name() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let egress = answer_to(&trial, &in_session("egress-interface up2 up3x"));
    let begins =
        format!("Warning: egress-interface of session {STATION}: interface up3x does not exist on this host now");
    assert!(egress.iter().any(|sentence| sentence.starts_with(&begins)), "{egress:?}");
    assert_eq!(answer_to(&trial, "sysname other"), NOTHING, "a warning was repeated");
    let down = answer_to(&trial, &in_session("undo egress-interface\nconnect-interface up22"));
    assert_one(
        &down,
        "Warning: ",
        "interface-absent: interface up22 does not exist on this host now (did you mean up2?)",
    );
    // A session that is shut down has another reason.
    let shut = answer_to(&trial, &in_session("shutdown\nconnect-interface up33"));
    let begins = format!("Warning: connect-interface of session {STATION}: interface up33 does not exist");
    assert!(shut.iter().any(|sentence| sentence.starts_with(&begins)), "{shut:?}");
}

#[test]
fn a_commit_that_takes_a_session_down_says_why_and_what_mends_it() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let down = answer_to(&trial, &in_session("connect-interface nowhere0"));
    let begins = format!("Warning: session {STATION} goes down: interface-absent: interface nowhere0 does not exist");
    assert_one(&down, &begins, "(what mends it: `interface-alias KERNEL-NAME nowhere0`).");
    // The answer is about the session's state, and not only its configuration.
    assert_eq!(trial.bmpd.session(STATION)["reason"], "interface-absent");
    assert_eq!(answer_to(&trial, "sysname other"), NOTHING, "a warning was repeated");
    assert_one(
        &answer_to(&trial, &in_session("connect-interface nowhere1")),
        "Warning: ",
        "stays down: interface-absent",
    );
    assert_eq!(answer_to(&trial, &in_session("connect-interface up2")), NOTHING, "the session comes up");
    trial.bmpd.wait_up(STATION);
    let without_port = answer_to(&trial, &in_session("undo tcp connect port"));
    assert_one(
        &without_port,
        "Warning: ",
        "goes down: not-configured: no port is configured (what mends it: `tcp connect port PORT`)",
    );
    let new = answer_to(&trial, "bmp\nbmp-session 203.0.113.200\ntcp connect port 1");
    assert_one(
        &new,
        "Warning: session 203.0.113.200 stays down: no-route: ",
        "`ip route add 203.0.113.200 via GATEWAY`",
    );
    let absent = answer_to(&trial, "bmp\nbmp-session vpn-instance red 198.51.100.9\ntcp connect port 1");
    assert_one(
        &absent,
        "Warning: session red-198.51.100.9 stays down: vpn-instance-absent: ",
        "ip link add red type vrf",
    );
}

#[test]
fn a_commit_that_re_establishes_or_ends_a_session_says_so() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let again = answer_to(&trial, &in_session("connect-interface up2 192.0.2.129"));
    let begins = format!("Info: session {STATION} is re-established, because connect-interface changed: ");
    assert_one(&again, &begins, "pinned to up2, from 192.0.2.129");
    trial.bmpd.wait_up(STATION);
    assert_eq!(
        answer_to(&trial, &in_session("keepalive 20\nmonitor public\nquit")),
        NOTHING,
        "these settings leave the session alone"
    );
    let of_bmp_view = answer_to(&trial, &in_session("undo connect-interface\nquit\nconnect-interface 192.0.2.65"));
    assert_one(&of_bmp_view, "Info: ", "because connect-interface and connect-interface of the bmp view changed");
    trial.bmpd.wait_up(STATION);
    assert_one(&answer_to(&trial, &in_session("shutdown")), "Info: ", "is shut down (what mends it: `undo shutdown`)");
    assert_eq!(answer_to(&trial, &in_session("undo shutdown")), NOTHING);
    trial.bmpd.wait_up(STATION);
    let gone = answer_to(&trial, &format!("bmp\nundo bmp-session {STATION}"));
    assert_one(&gone, &format!("Info: session {STATION} is closed"), "not configured any more");
}

#[test]
fn a_commit_reports_ended_and_restarted_relays_and_replays() {
    let trial = TrialPlan::default().start_up();
    let feeder = trial.feeder();
    let client = feeder.local_addr();
    wait_relayed(&trial, client);
    let moved = answer_to(&trial, "bmp-relay lab\nlisten 192.0.2.77 port 5000");
    assert!(
        moved.contains(&format!("Info: bmp-relay lab: the connection of {client} is closed: `listen` changed.")),
        "{moved:#?}"
    );
    let cannot =
        moved.iter().any(|line| line.starts_with("Warning: bmp-relay lab does not listen on 192.0.2.77 port 5000: "));
    assert!(cannot && moved.len() == 2, "{moved:#?}");
    let file = trial.bmpd.setup().file().with_file_name("missing.mrt");
    let fails = format!("Warning: mrt-replay table fails: {}: ", file.display());
    let missing = answer_to(&trial, &format!("mrt-replay table\nfile {}", file.display()));
    assert_one(&missing, &fails, "No such file");
    let again = answer_to(&trial, "mrt-replay table\npace maximum");
    assert_one(&again, &fails, "No such file");
    assert_one(&answer_to(&trial, "undo mrt-replay table"), "Info: mrt-replay table ends", "not configured any more");
}

#[test]
fn a_commit_names_a_client_that_a_relay_no_longer_allows() {
    let relay = "bmp-relay far\n listen 0.0.0.0 port 5002\n allow 192.0.2.0/26";
    let trial = TrialPlan { system: relay, ..TrialPlan::default() }.start_up();
    let feeder = BmpFeeder::connect(&trial.topology.station, "192.0.2.1:5002".parse().expect("an address"));
    let client = feeder.local_addr();
    wait_relayed(&trial, client);
    assert_eq!(answer_to(&trial, "bmp-relay far\nhold 5"), NOTHING);
    let closed = answer_to(&trial, "bmp-relay far\nundo allow 192.0.2.0/26");
    assert_one(
        &closed,
        &format!("Info: bmp-relay far: the connection of {client} is closed"),
        "`allow` does not let it in",
    );
}

#[test]
fn a_commit_reports_bgp_peers_that_are_down_or_re_established() {
    let (peer, _) = DAEMON;
    let (trial, _bird) = Peering::in_trial();
    let established = || trial.wait_peer_established();
    established();
    let bgp = |lines: &str| format!("bgp {}\n{lines}", BMPD.1);
    let again = answer_to(&trial, &bgp(&format!("peer {peer} timer keepalive 5 hold 20")));
    assert_one(&again, &format!("Info: BGP peer {peer} is re-established"), "because timer changed");
    established();
    let down = answer_to(&trial, &bgp(&format!("peer {peer} connect-interface nowhere0")));
    let begins =
        format!("Warning: BGP peer {peer} is not spoken to: interface-absent: interface nowhere0 does not exist");
    assert_one(&down, &begins, "what mends it: `interface-alias");
    assert_eq!(answer_to(&trial, "sysname other"), NOTHING);
    assert_eq!(answer_to(&trial, &bgp(&format!("undo peer {peer} connect-interface"))), NOTHING);
    established();
    assert_one(&answer_to(&trial, &bgp("undo router-id")), "Warning: ", "is not spoken to: no BGP identifier");
    assert_eq!(answer_to(&trial, &bgp("router-id 10.7.0.1")), NOTHING);
    established();
    assert_one(&answer_to(&trial, "undo bgp"), &format!("Info: BGP peer {peer} is closed"), "not configured any more");
}

#[test]
fn a_reload_logs_the_same_sentences() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    trial.bmpd.reload(&TrialPlan::session("connect-interface nowhere0").configuration());
    trial.bmpd.wait_for_log("the outcome of the file", |line| {
        line.contains(&format!("session {STATION} goes down: interface-absent: ")) && line.contains("what mends it")
    });
}

#[test]
fn a_trial_and_its_end_report_their_outcomes() {
    let trial = TrialPlan::session("connect-interface nowhere0").start();
    trial.bmpd.wait_down(STATION, "interface-absent");
    let lines = in_session("connect-interface up2\ncommit trial 600\nabort trial");
    let (accepted, answer) = trial.bmpd.typed(&format!("system-view\n{lines}\n"));
    let answer: Vec<_> = answer.lines().collect();
    assert!(
        accepted
            && answer.len() == 3
            && answer[1].contains("down: interface-absent")
            && answer[2].contains("the trial is over"),
        "{answer:#?}"
    );
}

#[test]
fn a_commit_refuses_an_unusable_address_and_a_file_may_have_it() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let refused = [
        (in_session("connect-interface 192.0.2.127"), "192.0.2.127 is the broadcast address of 192.0.2.64/26 on up2"),
        (in_session("next-hop 192.0.2.127"), "192.0.2.127 is the broadcast address"),
        (
            "bmp\nbmp-session 192.0.2.63\ntcp connect port 1".to_owned(),
            "192.0.2.63 is the broadcast address of 192.0.2.0/26 on up1",
        ),
        ("bmp\nconnect-interface 192.0.2.127".to_owned(), "192.0.2.127 is the broadcast address"),
        ("bmp-relay other\nlisten 192.0.2.127 port 5005".to_owned(), "192.0.2.127 is the broadcast address"),
        ("bgp 65000\npeer 192.0.2.127 as-number 1".to_owned(), "192.0.2.127 is the broadcast address"),
        (in_session("undo connect-interface\nquit\nconnect-interface 127.0.0.1"), "is a loopback address"),
    ];
    for (lines, words) in refused {
        let (accepted, answer) = trial.bmpd.typed(&format!("system-view\n{lines}\ncommit\n"));
        assert!(!accepted && answer.contains(words), "{lines}: {answer}");
    }
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
    // A file may have such an address. The session is then down with the reason.
    trial.bmpd.reload(&TrialPlan { bmp: "connect-interface 127.0.0.1", ..TrialPlan::default() }.configuration());
    let session = trial.bmpd.wait_down(STATION, "address-absent");
    assert!(
        session["detail"].as_str().is_some_and(|detail| detail.contains("127.0.0.1 is a loopback address")),
        "{session:#}"
    );
    trial.bmpd.reload(&TrialPlan::session("next-hop 192.0.2.127").configuration());
    let session = trial.bmpd.wait_down(STATION, "no-route");
    assert!(session["detail"].as_str().is_some_and(|detail| detail.contains("broadcast address")), "{session:#}");
}

#[test]
fn check_reports_settings_that_work_on_no_host() {
    let lines = "bmp-relay empty\nbgp 65000\n peer 192.0.2.9 as-number 1\nbmp\n connect-interface 127.0.0.1\n bmp-session 198.51.100.7\n \
                 bmp-session fe80::7\n  tcp connect port 1\n  monitor relay nobody\n";
    let netns = Netns::new("router");
    let output = BmpdSetup::new(&netns, lines).check();
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    for words in [
        "Warning: bmp-relay empty takes nothing until",
        "Warning: BGP peer 192.0.2.9 is not spoken to: no BGP identifier",
        "Warning: session 198.51.100.7 stays down: not-configured",
        "Warning: session fe80::7 stays down: no-route",
        "127.0.0.1 of the bmp view is a loopback address",
        "there is no such input",
    ] {
        assert!(answer.contains(words), "{words}: {answer}");
    }
}
