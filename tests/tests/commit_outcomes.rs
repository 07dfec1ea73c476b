//! The outcome in the answer of a commit: the state of everything that it touched, with the cause.

use std::{
    fs,
    net::{IpAddr, TcpListener},
    time::{Duration, Instant},
};

use lab::{
    passive::PORT,
    peering::{BMPD, DAEMON, Peering},
    sockets::ForeignSocket,
    topology::{STATION, STATION_PORT, Topology, UP2},
    trial::{LabTrial, TrialPlan, further_sessions},
};

/// The longest time that a commit waits for outcomes.
const BOUND: Duration = Duration::from_secs(5);

/// Commits these lines in the view of the trial's session, and returns the sentences of the answer.
fn answer_to(trial: &LabTrial, lines: &str) -> Vec<String> {
    answer_in_system_view(trial, &format!("bmp\nbmp-session {STATION}\n{lines}"))
}

fn answer_in_system_view(trial: &LabTrial, lines: &str) -> Vec<String> {
    let began = Instant::now();
    let answer = trial.bmpd.commit_lines(lines);
    assert!(began.elapsed() < lab::wait::patience(2 * BOUND), "{:?}: {answer}", began.elapsed());
    answer.lines().map(str::to_owned).collect()
}

/// Asserts that the answer is one sentence that starts with `begins` and contains `words`.
fn assert_one(answer: &[String], begins: &str, words: &[&str]) {
    assert!(answer.len() == 1 && answer[0].starts_with(begins), "{begins}: {answer:#?}");
    for word in words {
        assert!(answer[0].contains(word), "{word}: {answer:#?}");
    }
}

fn is_up(trial: &LabTrial) -> bool {
    trial.bmpd.session(STATION)["state"] == "up"
}

#[test]
fn the_answer_reports_a_closed_station_port_and_no_re_establishment() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let begins = format!("Warning: session {STATION} goes down: connect-refused: ");
    assert_one(&answer_to(&trial, "tcp connect port 12999"), &begins, &["`tcp connect port`", "next attempt in"]);
    assert!(!is_up(&trial));
    assert_eq!(
        answer_to(&trial, &format!("tcp connect port {STATION_PORT}")),
        Vec::<String>::new(),
        "the session comes up"
    );
    assert!(is_up(&trial));
}

#[test]
fn the_answer_reports_a_listening_port_in_use() {
    let topology = Topology::new();
    let _taken = topology.router.enter(|| TcpListener::bind(("0.0.0.0", PORT)).expect("the port is free"));
    let trial = TrialPlan::session("connect-interface up2").start_on(topology);
    trial.bmpd.wait_up(STATION);
    let begins = format!("Warning: session {STATION} goes down: source-conflict: listen on {UP2} port {PORT}");
    assert_one(&answer_to(&trial, &format!("tcp listen port {PORT}")), &begins, &["ss -ltnp sport = :"]);
}

#[test]
fn the_answer_says_that_a_session_waits_for_its_station_and_why() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let begins = format!("Warning: session {STATION} goes down, because tcp listen replaced tcp connect: ");
    let waits = ["waiting-for-station: ", "has not connected to 192.0.2.65"];
    assert_one(&answer_to(&trial, &format!("tcp listen port {PORT}")), &begins, &waits);
    let session = trial.bmpd.session(STATION);
    assert_eq!(session["reason"], "waiting-for-station", "{session:#}");
    // A new session waits from the beginning.
    let lines = format!("bmp\nbmp-session 198.51.100.8\nconnect-interface up2\ntcp listen port {PORT}");
    assert_one(&answer_in_system_view(&trial, &lines), "Info: session 198.51.100.8 waits: waiting-for-station: ", &[]);
}

#[test]
fn the_answer_reports_an_unreachable_next_hop() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut answer = answer_to(&trial, "next-hop 192.0.2.99");
    // Warnings about redirects do not matter here.
    answer.retain(|line| !line.contains("ICMP redirects"));
    assert_one(&answer, &format!("Warning: session {STATION} goes down"), &[]);
    // The kernel gives up after three seconds, or later on a busy machine.
    let known = answer[0].contains("no-route") && answer[0].contains("ip neigh show 192.0.2.99");
    assert!(known || answer[0].contains("has not answered yet"), "{answer:#?}");
}

#[test]
fn an_adopted_session_is_up_in_the_answer_only_if_connected() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let waits = format!("Warning: session {STATION} goes down, because adopt changed: waiting-for-daemon: ");
    let begins = &answer_to(&trial, "adopt")[0];
    assert!(begins.starts_with(&waits), "{begins}");
    let _foreign = ForeignSocket::default()
        .connect(&trial.topology.router, trial.station.address())
        .expect("the pin lets it connect");
    trial.bmpd.wait_up(STATION);
    // The connection goes on or is closed. The answer must agree with the state.
    let answer = answer_to(&trial, "connect-interface up1");
    assert_eq!(answer.len(), 1, "{answer:#?}");
    assert_eq!(answer[0].contains("is re-established"), is_up(&trial), "{answer:#?}");
}

#[test]
fn the_cause_is_the_changed_setting() {
    let plan = TrialPlan { bmp: "connect-interface 192.0.2.1", ..TrialPlan::session("connect-interface up2") };
    let trial = plan.start_up();
    let again = |cause: &str| format!("Info: session {STATION} is re-established, because {cause}: ");
    assert_one(&answer_to(&trial, "undo connect-interface"), &again("connect-interface changed"), &["192.0.2.1"]);
    let of_view = answer_in_system_view(&trial, "bmp\nconnect-interface 192.0.2.65");
    assert_one(&of_view, &again("connect-interface of the bmp view changed"), &["192.0.2.65"]);
    // Settings that the session does not use are no cause.
    let own = answer_to(&trial, "connect-interface up1\negress-interface up1");
    assert_one(&own, &again("connect-interface and egress-interface changed"), &["pinned to up1"]);
    assert_eq!(answer_in_system_view(&trial, "bmp\nundo connect-interface"), Vec::<String>::new());
}

#[test]
fn a_new_password_leaves_the_session_up_and_says_how_to_use_it() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let answer = answer_to(&trial, &format!("tcp connect port {STATION_PORT} password md5 other"));
    assert_one(&answer, &format!("Info: session {STATION} stays up"), &["reset bmp session 198.51.100.7`"]);
    assert!(is_up(&trial) && !answer[0].contains("other`"), "{answer:#?}");
}

#[test]
fn the_answer_reports_failed_replays_and_relay_ports_in_use() {
    let trial = TrialPlan::default().start_up();
    let file = trial.bmpd.setup().file().with_extension("mrt");
    fs::write(&file, "neither MRT nor packed\n".repeat(9)).expect("the file is writable");
    let replay = |lines: &str| answer_in_system_view(&trial, &format!("mrt-replay table\n{lines}"));
    assert_one(&replay(&format!("file {}", file.display())), "Warning: mrt-replay table fails: ", &[]);
    assert_one(&replay("pace maximum"), "Warning: mrt-replay table fails: ", &[]);
    let missing = format!("file {}", file.with_file_name("missing.mrt").display());
    assert_one(&replay(&missing), "Warning: mrt-replay table fails: ", &["No such file"]);
    // A state change of a peer (RFC 6396 §4.4.4) makes a whole valid file.
    let record =
        [&[0; 4][..], &[0, 16, 0, 5, 0, 0, 0, 24], &[0, 0, 253, 233], &[0, 0, 253, 232], &[0, 0, 0, 1]].concat();
    let good = file.with_extension("good");
    fs::write(&good, [record, vec![192, 0, 2, 2, 192, 0, 2, 1, 0, 1, 0, 6]].concat()).expect("the file is writable");
    let began = "Info: mrt-replay table begins anew, because file changed.";
    assert_one(&replay(&format!("file {}", good.display())), began, &[]);
    let _taken = trial.topology.router.enter(|| TcpListener::bind("127.0.0.1:5009").expect("the port is free"));
    let relay = answer_in_system_view(&trial, "bmp-relay other\nlisten 127.0.0.1 port 5009");
    assert_one(&relay, "Warning: bmp-relay other does not listen on 127.0.0.1 port 5009: ", &["another program"]);
}

#[test]
fn a_commit_of_many_sessions_answers_in_time_and_counts_the_rest() {
    let trial = TrialPlan::default().start_up();
    let many = further_sessions(400, "  connect-interface up2");
    let answer = answer_in_system_view(&trial, &format!("bmp\n{many}"));
    assert_eq!(answer.len(), 21, "{answer:#?}");
    assert!(answer[..20].iter().all(|line| line.contains("stays down")), "{answer:#?}");
    assert_eq!(answer[20], "Warning: and 380 more sessions (`display bmp session` shows all).");
}

#[test]
fn the_end_of_a_trial_logs_its_outcome() {
    let trial = TrialPlan::session("connect-interface nowhere0").start();
    trial.bmpd.wait_down(STATION, "interface-absent");
    let lines = format!("system-view\nbmp\nbmp-session {STATION}\nconnect-interface up2\ncommit trial 1\n");
    let (accepted, answer) = trial.bmpd.typed(&lines);
    assert!(accepted && answer.contains("in force for 1 s"), "{answer}");
    trial.bmpd.wait_for_log("the outcome of its end", |line| {
        line.contains(&format!("session {STATION}"))
            && line.contains("down: interface-absent: ")
            && line.contains("what mends it")
    });
}

#[test]
fn a_new_bgp_peer_without_a_route_is_told_the_command_that_mends_it() {
    let trial = TrialPlan::default().start_up();
    let peer = "203.0.113.99";
    let lines =
        format!("bgp 65000\nrouter-id 192.0.2.1\npeer {peer} as-number 65001\nipv4-family unicast\npeer {peer} enable");
    let begins = format!("Warning: BGP peer {peer} is not up: ");
    let mend = format!("(what mends it: `ip route add {peer} via GATEWAY`)");
    assert_one(&answer_in_system_view(&trial, &lines), &begins, &[&mend, "bmpd goes on trying"]);
}

#[test]
fn the_answer_reports_the_outcome_for_a_bgp_peer() {
    let (peer, asn): (IpAddr, u32) = DAEMON;
    let (trial, _bird) = Peering::in_trial();
    let established = || trial.wait_peer_established();
    let bgp = |line: &str| answer_in_system_view(&trial, &format!("bgp {}\n{line}", BMPD.1));
    let cases = [
        ("port 12999", "port", "refused", "undo peer ADDRESS port"),
        ("as-number 65123", "as-number", "the peer says that it is AS 65001", "peer ADDRESS as-number AS"),
        ("password another", "password", "its password is another one", "undo peer ADDRESS password"),
    ];
    for (setting, name, words, back) in cases {
        established();
        let answer = bgp(&format!("peer {peer} {setting}"));
        let begins = format!("Warning: BGP peer {peer} goes down, because {name} changed");
        assert_one(&answer, &begins, &[words, "bmpd goes on trying"]);
        bgp(&back.replace("ADDRESS", &peer.to_string()).replace("AS", &asn.to_string()));
    }
    established();
}
