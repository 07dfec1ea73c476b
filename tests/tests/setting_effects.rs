//! What a changed setting does to what is up is what the reference says.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use lab::{
    bgp, bmp,
    feeder::BmpFeeder,
    peering::{BMPD, DAEMON, bgp_view},
    speaker::LabBgpConnection,
    station::TestStation,
    topology::STATION,
    trial::{FURTHER_PORTS, LabTrial, RELAY, TrialPlan},
    wait::{PATIENCE, until},
};

/// A setting of a session, or of a view around it, and lines that change it.
struct ChangedSetting {
    view: &'static str,
    setting: &'static str,
    /// The configuration before the change.
    before: TrialPlan<'static>,
    /// Lines, entered in the view.
    lines: &'static str,
}

/// A change in the session view of a session that leaves by `up2`.
fn change(setting: &'static str, lines: &'static str) -> ChangedSetting {
    ChangedSetting { view: "bmp-session", setting, before: TrialPlan::session("connect-interface up2"), lines }
}

/// A change in another view, or of a session that is pinned otherwise.
fn around(
    view: &'static str,
    setting: &'static str,
    before: TrialPlan<'static>,
    lines: &'static str,
) -> ChangedSetting {
    ChangedSetting { view, setting, before, lines }
}

fn session_changes() -> Vec<ChangedSetting> {
    let up2 = || TrialPlan::session("connect-interface up2");
    let alias = TrialPlan { system: "interface-alias up2 wan", ..TrialPlan::session("connect-interface wan") };
    let inherited = TrialPlan { bmp: " connect-interface 192.0.2.65", ..TrialPlan::default() };
    let loopback = TrialPlan::session("connect-interface lo");
    let filtered = || TrialPlan {
        system: "route-filter low\n rule 10 permit ip-prefix low",
        ..TrialPlan::session("connect-interface up2\nmonitor public\nroute-filter low\nquit")
    };
    vec![
        around("system", "sysname", up2(), "sysname edge2"),
        around("system", "interface-alias KERNEL-NAME", alias, "undo interface-alias up2\ninterface-alias up1 wan"),
        around("system", "http peer-metrics", up2(), "http peer-metrics"),
        around("bmp", "statistics-timer", up2(), "statistics-timer 30"),
        around("bmp", "connect-interface", inherited, "connect-interface 192.0.2.1"),
        around("bmp", "initiation-message", up2(), "initiation-message the edge of the lab"),
        around("bmp", "dump-rate", up2(), "dump-rate 1000"),
        around("bmp", "initial-refresh", up2(), "initial-refresh delay 5 spread 10"),
        around("bmp", "persist", up2(), "persist"),
        change("description", "description the collector of the lab"),
        change("tcp connect port", "tcp connect port 12001"),
        change("connect-interface", "connect-interface up1"),
        around("bmp-session", "egress-interface", loopback, "egress-interface up1 up2"),
        change("next-hop", "next-hop 192.0.2.66"),
        change("hold-down", "hold-down 50"),
        change("tcp mss", "tcp mss 600"),
        change("dscp", "dscp 46"),
        change("keepalive", "keepalive 5"),
        change("connect-retry", "connect-retry 1 2"),
        change("initial-delay", "initial-delay 5"),
        change("flap-damping", "flap-damping 1"),
        change("route-mirroring", "route-mirroring"),
        change("buffer-limit", "buffer-limit 1"),
        change("statistics-timer", "statistics-timer 15"),
        change("statistics derived", "statistics derived"),
        change("initiation-message", "initiation-message the edge of the lab"),
        change("dump-rate", "dump-rate 1000"),
        change("monitor", "monitor public"),
        change("shutdown", "shutdown"),
        around(
            "monitor",
            "route-mode",
            TrialPlan::session("connect-interface up2\nmonitor public\nquit"),
            "monitor public\nroute-mode ipv4-family unicast adj-rib-in pre-policy",
        ),
        around("system", "ip-prefix NAME index INDEX", filtered(), "ip-prefix low index 10 permit 10.0.0.0/8 le 24"),
        around("system", "route-filter NAME", filtered(), "undo route-filter low"),
        around("route-filter", "rule RULE", filtered(), "route-filter low\nrule 5 deny community 65000:*"),
        around("monitor", "route-filter", filtered(), "monitor public\nroute-filter other"),
    ]
}

/// Settings of the bgp view and of its family views, with lines of the bgp view that change them.
/// The peer is listen-only and has IPv4 unicast.
const BGP_CHANGES: [(&str, &str, &str); 13] = [
    ("bgp", "router-id", "router-id 10.7.0.9"),
    ("bgp", "listen-port", "listen-port 1179"),
    ("bgp", "peer ADDRESS as-number", "peer 192.0.2.2 as-number 65009"),
    ("bgp", "peer ADDRESS port", "peer 192.0.2.2 port 1179"),
    ("bgp", "peer ADDRESS password", "peer 192.0.2.2 password correct-horse"),
    ("bgp", "peer ADDRESS keychain", "peer 192.0.2.2 keychain core"),
    ("bgp", "peer ADDRESS listen-only", "undo peer 192.0.2.2 listen-only"),
    ("bgp", "peer ADDRESS timer", "peer 192.0.2.2 timer keepalive 5 hold 15"),
    ("bgp", "ipv4-family", "ipv4-family multicast\npeer 192.0.2.2 enable"),
    ("bgp", "ipv6-family", "ipv6-family unicast\npeer 192.0.2.2 enable"),
    ("bgp", "l2vpn-family evpn", "l2vpn-family evpn\npeer 192.0.2.2 enable"),
    ("bgp", "link-state-family unicast", "link-state-family unicast\npeer 192.0.2.2 enable"),
    ("bgp family", "peer ADDRESS enable", "ipv4-family labeled-unicast\npeer 192.0.2.2 enable"),
];

/// Settings of a replay, with lines of its view that change them. `FILE` is another file.
const REPLAY_CHANGES: [(&str, &str); 3] = [("file", "file FILE"), ("pace", "pace recorded"), ("loop", "loop")];

/// Settings whose effect another test shows: file and function.
const ELSEWHERE: [(&str, &str, &str, &str); 25] = [
    ("system", "http listen", "http", "the_server_follows_the_configuration_and_sessions_stay_up"),
    ("system", "memory-limit", "memory_limit", "a_changed_memory_limit_counts_at_once"),
    ("keychain", "key-id KEY-ID", "vm_tcp_ao", "keys_that_a_commit_adds_and_ends_count_for_a_connection_that_is_up"),
    ("key-id", "algorithm", "vm_tcp_ao", "a_changed_only_key_counts_for_the_next_connection"),
    ("key-id", "key-string", "vm_tcp_ao", "a_changed_only_key_counts_for_the_next_connection"),
    ("key-id", "send-time", "vm_tcp_ao", "keys_that_a_commit_adds_and_ends_count_for_a_connection_that_is_up"),
    ("key-id", "receive-time", "vm_tcp_ao", "keys_that_a_commit_adds_and_ends_count_for_a_connection_that_is_up"),
    ("tls profile", "trusted-ca", "tls", "a_changed_profile_counts_for_new_connections_and_those_that_are_up_stay_up"),
    ("tls profile", "certificate", "tls", "a_new_certificate_counts_for_new_connections_and_those_that_are_up_stay_up"),
    ("tls profile", "private-key", "tls", "a_new_certificate_counts_for_new_connections_and_those_that_are_up_stay_up"),
    ("tls profile", "verify-name", "tls", "a_changed_profile_counts_for_new_connections_and_those_that_are_up_stay_up"),
    (
        "tls profile",
        "fingerprint sha256",
        "tls",
        "a_changed_profile_counts_for_new_connections_and_those_that_are_up_stay_up",
    ),
    ("bmp-session", "tcp listen port", "passive", "a_session_becomes_passive_and_active_again"),
    ("bmp-session", "per-router", "front_door", "a_session_changes_to_a_connection_for_each_router_and_back"),
    (
        "bmp-session",
        "proxy-protocol",
        "front_door",
        "a_proxy_header_comes_first_and_a_change_counts_for_the_next_connection",
    ),
    ("bmp-session", "adopt", "adopted", "a_session_changes_hands_both_ways"),
    ("bmp-relay", "allow PREFIX", "relay_settings", "allow_lets_a_daemon_of_another_host_in_and_undo_closes_it"),
    (
        "bmp-relay",
        "allow user USER",
        "relay_settings",
        "a_login_user_is_refused_until_allow_user_names_it_and_closed_after_undo",
    ),
    (
        "bmp-relay",
        "allow proxy PREFIX",
        "proxied_relay",
        "undo_allow_proxy_closes_the_routers_behind_it_and_no_daemon_of_this_host",
    ),
    ("bmp-relay", "hold", "relay_settings", "hold_is_displayed_while_it_runs_and_a_change_takes_effect"),
    ("bmp-relay", "end-of-rib-after", "relay_settings", "end_of_rib_after_sends_the_missing_end_of_rib"),
    ("bmp-relay", "max-connections", "relay_settings", "a_changed_limit_of_connections_takes_effect_at_once"),
    (
        "bmp-relay",
        "maximum-routes",
        "route_limits",
        "a_daemon_beyond_maximum_routes_is_closed_and_refused_and_others_stay",
    ),
    (
        "bgp",
        "peer ADDRESS maximum-routes",
        "route_limits",
        "a_bgp_peer_beyond_maximum_routes_gets_a_cease_and_stays_idle_until_a_reset",
    ),
    ("bgp", "peer ADDRESS connect-interface", "bgp_pins", "a_bgp_session_moves_only_when_a_commit_changes_its_source"),
];

/// The reference of the commands.
struct Reference(String);

impl Reference {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/commands.md");
        Self(fs::read_to_string(path).expect("the reference can be read"))
    }

    /// Returns view, setting and effect of every setting.
    fn settings(&self) -> Vec<(&str, &str, String)> {
        let views = self.0.split("\n## The ").skip(1).filter_map(|section| section.split_once(" view\n"));
        views
            .flat_map(|(view, section)| entries(section).map(move |(setting, effect)| (view, setting, effect)))
            .collect()
    }

    /// Returns what the reference says that a change does.
    fn effect(&self, view: &str, setting: &str) -> String {
        let found = self.settings().into_iter().find(|(of, name, _)| (*of, *name) == (view, setting));
        found.unwrap_or_else(|| panic!("the reference has no `{setting}` in the {view} view")).2
    }
}

/// Returns setting and effect of the entries of a section.
fn entries(section: &str) -> impl Iterator<Item = (&str, String)> {
    section.split("\n### `").skip(1).filter_map(|entry| {
        let (setting, text) = entry.split_once("`\n")?;
        let (_, effect) = text.split_once("\n* Change while up: ")?;
        let (effect, _) = effect.split_once("\n* ").unwrap_or((effect, ""));
        Some((setting, effect.trim_end().replace("\n  ", " ")))
    })
}

/// Waits until the session has this state and has been established this many times.
fn wait_session(trial: &LabTrial, what: &str, connections: u64, state: &str) {
    until(what, PATIENCE, || {
        let session = trial.bmpd.session(STATION);
        (session["established_count"] == connections && session["state"] == state).then_some(())
    });
}

#[test]
fn the_effect_of_every_setting_has_a_test() {
    let (reference, sessions) = (Reference::read(), session_changes());
    let settings = reference.settings();
    assert!(settings.len() > 40, "{settings:?}");
    let mut without = String::new();
    for (view, setting, effect) in settings {
        let is_here = sessions.iter().any(|change| (change.view, change.setting) == (view, setting))
            || BGP_CHANGES.iter().any(|change| (change.0, change.1) == (view, setting))
            || REPLAY_CHANGES.iter().any(|change| ("mrt-replay", change.0) == (view, setting))
            || (view, setting) == ("bmp-relay", "listen")
            || ELSEWHERE.iter().any(|test| (test.0, test.1) == (view, setting));
        // A command that enters a view changes nothing.
        if !is_here && !effect.starts_with("nothing") {
            let _ = writeln!(without, "{view} view, {setting}: {effect}");
        }
    }
    assert_eq!(without, "");
    for (_, setting, file, test) in ELSEWHERE {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/{file}.rs"));
        let text = fs::read_to_string(path).expect("the test is there");
        assert!(text.contains(&format!("fn {test}()")), "{setting}: no test {test} in {file}.rs");
    }
}

#[test]
fn a_change_does_to_a_session_that_is_up_what_the_reference_says() {
    let reference = Reference::read();
    for ChangedSetting { view, setting, before, lines } in session_changes() {
        let effect = reference.effect(view, setting);
        let trial = before.start_up();
        let port = (STATION, FURTHER_PORTS);
        let _other_port = (setting == "tcp connect port").then(|| TestStation::start(&trial.topology.station, port));
        // A commit has waited until the pins follow it.
        match view {
            "system" => trial.bmpd.commit_lines(lines),
            "bmp" => trial.bmpd.commit_lines(&format!("bmp\n{lines}")),
            _ => trial.bmpd.commit(STATION, lines),
        };
        let is_so = |connections, state| {
            wait_session(&trial, &format!("{lines}: {effect}"), connections, state);
        };
        match &*effect {
            effect if effect.contains(" stay up") || effect.contains(" stays up") => is_so(1, "up"),
            effect if effect.contains(" connects again") => is_so(2, "up"),
            effect if effect.contains(" stays down") => is_so(1, "down"),
            effect => panic!("{setting}: unknown effect: {effect}"),
        }
    }
}

/// Starts bmpd with the peer of [`BGP_CHANGES`].
fn start_with_peer() -> LabTrial {
    let (peer, asn) = DAEMON;
    let peer =
        format!(" peer {peer} as-number {asn}\n peer {peer} listen-only\n ipv4-family unicast\n  peer {peer} enable\n");
    TrialPlan { system: &bgp_view(&peer), ..TrialPlan::default() }.start_up()
}

/// Connects as the peer, and waits until the station is told of it.
fn establish(trial: &LabTrial) -> LabBgpConnection {
    let (IpAddr::V4(own), asn) = DAEMON else { unreachable!("it is IPv4") };
    let mut peer = LabBgpConnection::connect(&trial.topology.station, own, SocketAddr::new(BMPD.0, 179));
    assert!(matches!(peer.receive(), Some((bgp::OPEN, _))));
    peer.send(&bgp::open(asn, own));
    peer.send(&bgp::keepalive());
    trial.station.wait_connection(0, "Peer Up", |c| c.has(bmp::PEER_UP));
    peer
}

#[test]
fn a_change_of_a_bgp_setting_closes_the_session_of_the_peer_as_the_reference_says() {
    let reference = Reference::read();
    for (view, setting, lines) in BGP_CHANGES {
        let effect = reference.effect(view, setting);
        assert!(effect.contains("closed"), "{setting}: unknown effect: {effect}");
        let trial = start_with_peer();
        let mut peer = establish(&trial);
        trial.bmpd.commit_lines(&format!("bgp {}\n{lines}", BMPD.1));
        let end = std::iter::from_fn(|| peer.receive()).last();
        assert!(matches!(&end, Some((bgp::NOTIFICATION, body)) if body[..2] == [6, 6]), "{setting}: {end:?}");
        trial.station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
        wait_session(&trial, &effect, 1, "up");
    }
}

#[test]
fn a_relay_with_a_new_port_closes_its_daemons_and_listens_again() {
    let effect = Reference::read().effect("bmp-relay", "listen");
    assert!(effect.contains("sessions stay up") && effect.contains("closes the connections"), "{effect}");
    let trial = TrialPlan::default().start_up();
    let mut daemon = trial.feeder();
    let port = RELAY.port() + 1;
    trial.bmpd.commit_lines(&format!("bmp-relay lab\nlisten {} port {port}", RELAY.ip()));
    daemon.wait_closed();
    let _again = BmpFeeder::with_peer(&trial.topology.router, SocketAddr::new(RELAY.ip(), port), &Default::default());
    trial.station.wait_connection(0, "the peer again", |c| c.count(bmp::PEER_UP) == 2);
    wait_session(&trial, &effect, 1, "up");
}

#[test]
fn a_changed_replay_begins_again_as_the_reference_says() {
    let reference = Reference::read();
    let folder = tempfile::tempdir().expect("a folder is made");
    let [file, other] = ["one.mrt", "other.mrt"].map(|name| folder.path().join(name));
    for path in [&file, &other] {
        fs::write(path, bgp::mrt_record(&bgp::announce(&bgp::prefixes(3), DAEMON.1, Ipv4Addr::new(192, 0, 2, 2))))
            .expect("the file is written");
    }
    for (setting, lines) in REPLAY_CHANGES {
        let effect = reference.effect("mrt-replay", setting);
        assert!(effect.contains("begins again"), "{setting}: unknown effect: {effect}");
        let system = format!("mrt-replay table\n file {}\n pace maximum\nquit", file.display());
        let trial = TrialPlan { system: &system, ..TrialPlan::default() }.start_up();
        trial.station.wait_connection(0, "the routes", |c| c.announced() == 3);
        let lines = lines.replace("FILE", &other.display().to_string());
        trial.bmpd.commit_lines(&format!("mrt-replay table\n{lines}"));
        trial.station.wait_connection(0, &effect, |c| c.count(bmp::PEER_UP) >= 2 && c.announced() >= 6);
        wait_session(&trial, &effect, 1, "up");
    }
}
