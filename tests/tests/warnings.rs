//! What a commit takes though it will not do what somebody may think it does: it says so, once, and how to mend it.

use lab::{
    topology::STATION,
    trial::{Plan, Trial},
};

/// What a commit of these lines of the system view warns of.
fn warned(trial: &Trial, lines: &str) -> Vec<String> {
    let (taken, said) = trial.bmpd.typed(&format!("system-view\n{lines}\ncommit\n"));
    assert!(taken, "{said}");
    said.lines().filter(|line| line.starts_with("Warning: ")).map(str::to_owned).collect()
}

#[test]
fn what_inputs_lack_is_said_at_the_commit_that_leaves_it_out_and_not_again() {
    let trial = Plan::default().start();
    let cases = [
        ("bmp-relay empty", "bmp-relay empty takes nothing until it has `listen ADDRESS port N`"),
        ("mrt-replay table", "mrt-replay table replays nothing until it has `file PATH`"),
        ("mrt-replay table\nfile /nowhere/table.mrt", "mrt-replay table fails: /nowhere/table.mrt: No such file"),
        ("bgp 65000\npeer 192.0.2.9 as-number 65001", "BGP peer 192.0.2.9 is not spoken to: no BGP identifier"),
        ("bgp 65000\nrouter-id 192.0.2.1", "BGP peer 192.0.2.9 is not spoken to: no address family"),
    ];
    for (lines, expected) in cases {
        let said = warned(&trial, lines);
        assert!(said.len() == 1 && said[0].contains(expected), "{lines}: {said:?}");
    }
    assert_eq!(warned(&trial, "bgp 65000\nipv4-family unicast\npeer 192.0.2.9 enable"), Vec::<String>::new());
    assert_eq!(warned(&trial, "sysname other"), Vec::<String>::new(), "what was said is not said again");
}

#[test]
fn a_monitor_of_an_input_that_there_is_not_is_said() {
    let trial = Plan::default().start();
    let session = format!("bmp\nbmp-session {STATION}");
    for monitor in ["relay nobody", "mrt-replay lab", "bgp"] {
        let said = warned(&trial, &format!("{session}\nmonitor {monitor}"));
        let expected = format!("is told nothing by `monitor {monitor}`: there is no such input");
        assert!(said.len() == 1 && said[0].contains(&expected), "{said:?}");
    }
    assert_eq!(warned(&trial, &format!("{session}\nmonitor relay lab\nquit\nmonitor public")), Vec::<String>::new());
}

#[test]
fn what_is_configured_of_a_bgp_peer_and_every_default_is_shown_before_anything_is_up() {
    let system = "bgp 65000\n router-id 192.0.2.1\n peer 192.0.2.9 as-number 65001\n peer 192.0.2.9 port 1790\n peer 192.0.2.9 password secret\n \
                  peer 192.0.2.9 timer keepalive 5 hold 20\n ipv4-family unicast\n  peer 192.0.2.9 enable\nquit\nquit";
    let trial = Plan { system, ..Plan::default() }.start();
    let text = trial.bmpd.display("display bgp peer 192.0.2.9 verbose");
    let configured = "port 1790; hold time 20 s, keepalive every 5 s; TCP MD5; IPv4 unicast";
    assert!(text.contains(configured) && !text.contains("secret"), "{text}");
    let defaults = trial.bmpd.display("display default-parameter bmp");
    for name in
        ["initial-delay", "flap-damping", "keepalive", "statistics-timer", "allow", "hold", "end-of-rib-after", "pace"]
    {
        assert!(defaults.contains(&format!("({name})")), "{name}: {defaults}");
    }
}
