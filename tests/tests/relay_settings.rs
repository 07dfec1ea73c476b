//! Settings of a relay: who may connect, how long peers of an absent daemon are held, and
//! End-of-RIB in its place. Changes take effect at once, also for existing connections.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use lab::{
    bgp::{self, Ipv4Prefix, prefixes},
    bmp::{self, ReceivedFrame, ReportedPeer},
    bmpd::number,
    feeder::BmpFeeder,
    netns::NOBODY,
    process::answer,
    topology::LOOPBACK,
    trial::{RELAY, TrialPlan},
    wait::{PATIENCE, until},
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// A user of this host that nobody logs in as: its number is below `UID_MIN` (login.defs(5)).
const SYSTEM_ACCOUNT: u32 = 999;

/// Patience until a vanished daemon is noticed.
const VANISHED: Duration = Duration::from_secs(120);

const FAR: SocketAddr = SocketAddr::new(LOOPBACK, 5002);

fn peer(last: u8) -> ReportedPeer {
    ReportedPeer { address: [10, 255, 0, last].into(), ..ReportedPeer::default() }
}

fn withdrawn(frames: &[ReceivedFrame]) -> Vec<Ipv4Prefix> {
    frames.iter().filter_map(ReceivedFrame::update).flat_map(|update| update.withdrawn).collect()
}

#[test]
fn a_changed_limit_of_connections_takes_effect_at_once() {
    let trial =
        TrialPlan { system: "bmp-relay lab\n max-connections 3 per-source 2", ..TrialPlan::default() }.start_up();
    let limits = || {
        let relay = trial.relay("lab");
        (number(&relay["max_connections"]), number(&relay["max_connections_per_source"]))
    };
    // A feeder retries if the reset arrives before its connect has returned, so count at least.
    let wait_refused = |least: u64| {
        until("another connection is refused", PATIENCE, || {
            (number(&trial.relay("lab")["refused"]["too-many-connections"]) >= least).then_some(())
        });
    };
    assert_eq!(limits(), (3, 2));
    let connect = || BmpFeeder::connect(&trial.topology.router, RELAY);
    let mut daemons = [connect(), connect()];
    connect().wait_closed();
    wait_refused(1);
    trial.bmpd.wait_for_log("why", |line| line.contains("too-many-connections: its user or host has 2 already"));
    trial.bmpd.commit_lines("bmp-relay lab\n max-connections 3");
    assert_eq!(limits(), (3, 3));
    let mut third = connect();
    connect().wait_closed();
    wait_refused(2);
    trial.bmpd.wait_for_log("why", |line| line.contains("too-many-connections: there are 3 already"));
    // Existing connections stay, even above a new limit.
    trial.bmpd.commit_lines("bmp-relay lab\n max-connections 1");
    connect().wait_closed();
    for (number, daemon) in daemons.iter_mut().chain([&mut third]).enumerate() {
        let peer = peer(u8::try_from(number).expect("there are few daemons"));
        daemon.send(bmp::peer_up(&peer));
        daemon.announce(&peer, &prefixes(1), 1);
    }
    trial.station.wait_connection(0, "the routes of all", |c| c.announced() == 3);
    trial.bmpd.commit_lines("bmp-relay lab\n undo max-connections");
    assert_eq!(limits(), (256, 32));
}

#[test]
fn allow_lets_a_daemon_of_another_host_in_and_undo_closes_it() {
    let system = format!("bmp-relay far\n listen {} port {}\nquit", FAR.ip(), FAR.port());
    let trial = TrialPlan { system: &system, ..TrialPlan::default() }.start_up();
    let elsewhere = &trial.topology.station;
    BmpFeeder::connect(elsewhere, FAR).wait_closed();
    trial.bmpd.wait_for_log("why", |line| line.contains("closed a connection from another host"));
    let mut own = BmpFeeder::with_peer(&trial.topology.router, FAR, &peer(9));
    own.announce(&peer(9), &prefixes(1), 1);

    // The far end of the link may connect, and no other host.
    trial.bmpd.commit_lines("bmp-relay far\n allow 192.0.2.0/26");
    let mut feeder = BmpFeeder::with_peer(elsewhere, FAR, &peer(2));
    feeder.announce(&peer(2), &prefixes(3), 1);
    trial.station.wait_connection(0, "the routes of both", |c| c.announced() == 4);
    assert_eq!(trial.relay("far")["allow"], serde_json::json!(["192.0.2.0/26"]));
    assert_eq!(trial.relay("far")["connections"].as_array().map(Vec::len), Some(2));

    // Even with `hold`, peers of a host that is no longer allowed go down.
    trial.bmpd.commit_lines("bmp-relay far\n hold 600\n undo allow 192.0.2.0/26\n allow 198.51.100.0/24");
    feeder.wait_closed();
    let connection = trial.station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    let down = connection.frames.iter().find(|frame| frame.kind() == bmp::PEER_DOWN).and_then(ReceivedFrame::peer);
    assert_eq!(down, Some(IpAddr::V4(Ipv4Addr::new(10, 255, 0, 2))));
    let shown = trial.relay("far");
    assert!(shown["last_closed"].as_str().is_some_and(|how| how.contains("`allow` does not let")), "{shown:#}");
    own.announce(&peer(9), &prefixes(2)[1..], 1);
    trial.station.wait_connection(0, "what comes from this host", |c| c.announced() == 5);
}

#[test]
fn a_login_user_is_refused_until_allow_user_names_it_and_closed_after_undo() {
    let trial = TrialPlan::default().start_up();
    let router = &trial.topology.router;
    let mut daemon = BmpFeeder::with_peer_as(SYSTEM_ACCOUNT, router, RELAY, &peer(2));
    daemon.announce(&peer(2), &prefixes(2), 1);
    trial.station.wait_connection(0, "the routes of a system account", |c| c.announced() == 2);

    BmpFeeder::connect_as(NOBODY, router, RELAY).wait_closed();
    trial.bmpd.wait_for_log("who, and what lets the user in", |line| {
        line.contains(
            "user-not-allowed: nobody is no system account (what lets it in: `allow user nobody` of bmp-relay lab)",
        )
    });
    let shown = trial.relay("lab");
    assert!(number(&shown["refused"]["user-not-allowed"]) >= 1, "{shown:#}");
    assert_eq!((&shown["last_refused_user"], number(&shown["refused"]["not_allowed"])), (&"nobody".into(), 0));
    let text = trial.bmpd.display("display bmp relay");
    assert!(text.contains(" user-not-allowed") && text.contains("what lets it in: `allow user nobody`"), "{text}");

    for user in ["nobody", "65534"] {
        let announced = trial.station.connections()[0].announced();
        let downs = trial.station.connections()[0].count(bmp::PEER_DOWN);
        let answer = trial.bmpd.commit_lines(&format!("bmp-relay lab\n allow user {user}"));
        assert!(!answer.contains("Warning"), "{answer}");
        let mut feeder = BmpFeeder::with_peer_as(NOBODY, router, RELAY, &peer(3));
        feeder.announce(&peer(3), &prefixes(3), 1);
        trial.station.wait_connection(0, "the routes of the user", |c| c.announced() == announced + 3);
        let shown = trial.relay("lab");
        assert_eq!(
            (&shown["connections"][1]["uid"], &shown["allow_users"]),
            (&65_534.into(), &serde_json::json!([user]))
        );
        // Even with `hold`, peers of a user that is no longer allowed go down.
        let answer = trial.bmpd.commit_lines(&format!("bmp-relay lab\n hold 600\n undo allow user {user}"));
        assert!(answer.contains(&format!("the connection of {} is closed", feeder.local_addr())), "{answer}");
        feeder.wait_closed();
        trial.station.wait_connection(0, "Peer Down", |c| c.count(bmp::PEER_DOWN) == downs + 1);
        let shown = trial.relay("lab");
        assert!(
            shown["last_closed"].as_str().is_some_and(|how| how.contains("`allow user` does not let")),
            "{shown:#}"
        );
    }
    assert!(daemon.is_open(), "the relay closed the connection of a system account");
    daemon.announce(&peer(2), &prefixes(1), 1);
    trial.station.wait_connection(0, "what comes from the system account", |c| c.announced() == 9);
}

#[test]
fn a_user_whom_this_host_does_not_know_is_named_by_the_commit_and_the_display() {
    let trial = TrialPlan::default().start_up();
    let answer = trial.bmpd.commit_lines("bmp-relay lab\n allow user no-such-user\n allow user nobody");
    assert!(
        answer.contains("bmp-relay lab cannot let `no-such-user` in: this host knows no user of that name"),
        "{answer}"
    );
    assert_eq!(trial.relay("lab")["unknown_users"], serde_json::json!(["no-such-user"]));
    let text = trial.bmpd.display("display bmp relay");
    assert!(text.contains("Users that this host does not know: no-such-user"), "{text}");
    let mut feeder = BmpFeeder::with_peer_as(NOBODY, &trial.topology.router, RELAY, &peer(2));
    feeder.announce(&peer(2), &prefixes(1), 1);
    trial.station.wait_connection(0, "the routes of the other", |c| c.announced() == 1);
}

#[test]
fn a_prefix_lets_no_user_of_this_host_in_whatever_the_address_and_however_short() {
    let system = format!("bmp-relay far\n listen {} port {}\n allow 0.0.0.0/0\nquit", FAR.ip(), FAR.port());
    let trial = TrialPlan { system: &system, ..TrialPlan::default() }.start_up();
    let mut far = BmpFeeder::with_peer(&trial.topology.station, FAR, &peer(9));
    far.announce(&peer(9), &prefixes(1), 1);
    trial.station.wait_connection(0, "the routes of another host", |c| c.announced() == 1);
    let false_routes =
        [vec![bmp::initiation("false"), bmp::peer_up(&peer(3))], bmp::announcements(&peer(3), &prefixes(5), 1)];
    let false_routes = false_routes.concat().concat();
    // The addresses of the host on both its links, and of its loopback. A user may be gone before
    // bmpd looks: by an end, and by a reset.
    for from in [[192, 0, 2, 1], [192, 0, 2, 65], [203, 0, 113, 1], [127, 0, 0, 1]] {
        for linger in [None, Some(Duration::ZERO)] {
            trial.topology.router.enter_as(NOBODY, || {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
                socket.bind(&SocketAddr::from((from, 0)).into()).expect("it is an address of this host");
                socket.connect(&FAR.into()).expect("the relay listens");
                let _ = socket.send(&false_routes);
                socket.set_linger(linger).expect("the option is known");
            });
        }
    }
    until("all of them are refused", PATIENCE, || {
        (number(&trial.relay("far")["refused"]["user-not-allowed"]) == 8).then_some(())
    });
    far.announce(&peer(9), &prefixes(2)[1..], 1);
    let connection = trial.station.wait_connection(0, "what comes next", |c| c.announced() == 2);
    assert_eq!((connection.count(bmp::PEER_UP), connection.count(bmp::PEER_DOWN)), (1, 0));
}

#[test]
fn a_daemon_that_vanishes_with_its_host_is_noticed() {
    let system = format!("bmp-relay far\n listen {} port {}\n allow 192.0.2.0/26\nquit", FAR.ip(), FAR.port());
    let trial = TrialPlan { system: &system, ..TrialPlan::default() }.start_up();
    let elsewhere = &trial.topology.station;
    let mut feeder = BmpFeeder::with_peer(elsewhere, FAR, &peer(2));
    feeder.announce(&peer(2), &prefixes(3), 1);
    trial.station.wait_connection(0, "its routes", |c| c.announced() == 3);
    let rules = format!(
        "add table ip lab; add chain ip lab in {{ type filter hook input priority 0; }}; add rule ip lab in tcp sport {} drop",
        FAR.port()
    );
    answer(elsewhere.command(programs::Program::Nft).arg(rules));
    // TCP asks after 30 s of silence, three times.
    until("Peer Down", VANISHED, || trial.station.connections()[0].has(bmp::PEER_DOWN).then_some(()));
    let shown = trial.relay("far");
    assert!(shown["last_closed"].as_str().is_some_and(|how| how.contains("timed out")), "{shown:#}");
}

#[test]
fn hold_is_displayed_while_it_runs_and_a_change_takes_effect() {
    let trial = TrialPlan { system: "bmp-relay lab\n hold 600", ..TrialPlan::default() }.start_up();
    let mut feeder = BmpFeeder::with_peer(&trial.topology.router, RELAY, &peer(2));
    let client = feeder.local_addr().to_string();
    feeder.announce(&peer(2), &prefixes(3), 1);
    trial.station.wait_connection(0, "its routes", |c| c.announced() == 3);
    drop(feeder);
    let held = until("the peer is held", PATIENCE, || {
        let shown = trial.relay("lab");
        (number(&shown["held_peers"]) == 1).then_some(shown)
    });
    assert_eq!((&held["held"][0]["client"], &held["held"][0]["sys_name"]), (&client.into(), &"feeder".into()));
    assert!((500..=600).contains(&number(&held["held"][0]["left_seconds"])), "{held:#}");
    assert_eq!((number(&held["hold_seconds"]), &held["connections"]), (600, &Value::Array(Vec::new())));
    let text = trial.bmpd.display("display bmp relay");
    assert!(text.contains("away, its peers are held for") && text.contains("Configured: hold 600 s"), "{text}");
    let monitored = trial.bmpd.display("display bgp bmp-monitor all");
    assert!(monitored.contains("lab (held)"), "{monitored}");
    assert!(!trial.station.connections()[0].has(bmp::PEER_DOWN));

    trial.bmpd.commit_lines("bmp-relay lab\n hold 3600");
    until("there is more time", PATIENCE, || {
        (number(&trial.relay("lab")["held"][0]["left_seconds"]) > 3000).then_some(())
    });
    trial.bmpd.commit_lines("bmp-relay lab\n undo hold");
    trial.station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    let shown = trial.relay("lab");
    assert_eq!((&shown["held"], number(&shown["held_peers"])), (&Value::Array(Vec::new()), 0));
}

#[test]
fn after_hold_absent_peers_go_down_and_unrepeated_routes_are_withdrawn() {
    let trial = TrialPlan { system: "bmp-relay lab\n hold 600", ..TrialPlan::default() }.start_up();
    let (back, lost) = (peer(2), peer(3));
    // A Loc-RIB peer has a type of its own, and no address (RFC 9069 §4.1).
    let mut loc_rib = bmp::peer_up(&ReportedPeer { address: Ipv4Addr::UNSPECIFIED, ..ReportedPeer::default() });
    loc_rib[6] = bmp::LOC_RIB_INSTANCE;
    let mut feeder = BmpFeeder::with_peer(&trial.topology.router, RELAY, &back);
    feeder.send(bmp::peer_up(&lost));
    feeder.send(loc_rib);
    feeder.announce(&back, &prefixes(5), 1);
    feeder.announce(&lost, &prefixes(2), 1);
    trial.station.wait_connection(0, "the routes", |c| c.announced() == 7);
    drop(feeder);
    until("the peers are held", PATIENCE, || (number(&trial.relay("lab")["held_peers"]) == 3).then_some(()));
    let mut feeder = BmpFeeder::with_peer(&trial.topology.router, RELAY, &back);
    feeder.announce(&back, &prefixes(3), 1);
    until("one peer is back", PATIENCE, || (number(&trial.relay("lab")["held_peers"]) == 2).then_some(()));
    assert_eq!(trial.station.connections()[0].count(bmp::PEER_DOWN), 0);

    // This ends the hold as its time would.
    trial.bmpd.commit_lines("bmp-relay lab\n hold 0");
    let connection = trial.station.wait_connection(0, "Peer Down and withdrawals", |c| {
        c.count(bmp::PEER_DOWN) == 2 && withdrawn(&c.frames).len() == 2
    });
    let down = connection.frames.iter().filter(|frame| frame.kind() == bmp::PEER_DOWN);
    // The first byte is the reason: 5, or 6 for a Loc-RIB (RFC 7854 §4.9, RFC 9069 §5.3).
    let reasons: Vec<_> = down.map(|frame| (frame.peer_type(), frame.body()[0])).collect();
    assert_eq!(reasons, [(Some(0), 5), (Some(bmp::LOC_RIB_INSTANCE), 6)]);
    let mut gone = withdrawn(&connection.frames);
    gone.sort_by_key(|route| route.network);
    assert_eq!(gone, prefixes(5)[3..]);
    assert_eq!((connection.count(bmp::PEER_UP), connection.announced()), (3, 7));
}

#[test]
fn end_of_rib_after_sends_the_missing_end_of_rib() {
    let trial = TrialPlan::default().start_up();
    let mut feeder = trial.feeder();
    feeder.announce(&ReportedPeer::default(), &prefixes(3), 1);
    trial.station.wait_connection(0, "its routes", |c| c.announced() == 3);
    let ends = |frames: &[ReceivedFrame]| {
        frames.iter().filter_map(ReceivedFrame::update).filter(|update| update.is_end_of_rib).count()
    };
    assert_eq!(ends(&trial.station.connections()[0].frames), 0);
    trial.bmpd.commit_lines("bmp-relay lab\n end-of-rib-after 1");
    let connection = trial.station.wait_connection(0, "End-of-RIB", |c| ends(&c.frames) == 1);
    assert_eq!(connection.frames.last().and_then(ReceivedFrame::peer), Some(ReportedPeer::default().address.into()));
    let shown = trial.relay("lab");
    assert_eq!(number(&shown["end_of_rib_after_seconds"]), 1);
    let text = trial.bmpd.display("display bmp relay");
    assert!(text.contains("Configured: End-of-RIB after 1 s"), "{text}");
}

#[test]
fn the_first_of_two_daemons_with_one_peer_wins_and_the_other_is_displayed() {
    let trial = TrialPlan::default().start_up();
    let (first, second) = (peer(2), ReportedPeer { router_id: Ipv4Addr::new(10, 0, 0, 9), ..peer(2) });
    let mut one = BmpFeeder::with_peer(&trial.topology.router, RELAY, &first);
    one.announce(&first, &prefixes(2), 1);
    trial.station.wait_connection(0, "its routes", |c| c.announced() == 2);
    let mut other = BmpFeeder::with_peer(&trial.topology.router, RELAY, &second);
    other.announce(&second, &prefixes(3), 1);
    let shown = until("the other daemon's claim is displayed", PATIENCE, || {
        let shown = trial.bmpd.display("display bmp relay");
        shown.contains("dropped: 1 Peer Up, 3 Route Monitoring").then_some(shown)
    });
    assert!(shown.contains(&format!("belongs to {}", one.local_addr())), "{shown}");
    one.announce(&first, &prefixes(4), 1);
    let connection = trial.station.wait_connection(0, "the first daemon's routes", |c| c.announced() == 6);
    assert!(!connection.has(bmp::PEER_DOWN), "the station received a Peer Down");
    // Once the first daemon has left, the other one may announce the peer.
    drop(one);
    trial.station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    other.send(bmp::peer_up(&second));
    other.announce(&second, &prefixes(1), 1);
    trial.station.wait_connection(0, "the other", |c| c.announced() == 7);
}

#[test]
fn the_displays_have_a_relays_messages_and_the_feeds_contents() {
    let trial = TrialPlan::default().start_up();
    let mut feeder = trial.feeder();
    let client = feeder.local_addr().to_string();
    feeder.announce(&ReportedPeer::default(), &prefixes(5), 1);
    feeder.send(bmp::route_monitoring(
        &ReportedPeer::default(),
        bmp::POST_POLICY,
        &bgp::announce(&prefixes(2), 65001, Ipv4Addr::LOCALHOST),
    ));
    feeder.send(bmp::route_monitoring(&ReportedPeer::default(), bmp::PRE_POLICY, &bgp::withdraw(&prefixes(1))));
    feeder.announce(&peer(77), &prefixes(1), 1);
    trial.station.wait_connection(0, "all of it", |c| c.announced() == 8);
    let shown = trial.relay("lab");
    assert_eq!(
        (&shown["state"], &shown["why"], &shown["last_closed"]),
        (&"listening".into(), &Value::Null, &Value::Null)
    );
    let of_peers: Vec<_> = feeder.sent[1..].to_vec();
    let connection = &shown["connections"][0];
    assert_eq!((&connection["client"], &connection["sys_name"]), (&client.into(), &"feeder".into()));
    assert_eq!(connection["sys_descr"], "a daemon of the lab");
    let totals = (number(&connection["messages"]), number(&connection["bytes"]), number(&connection["unannounced"]));
    assert_eq!(totals, (9, of_peers.iter().map(Vec::len).sum::<usize>() as u64, 1));

    let feed = trial.bmpd.display_json("display bmp feed");
    let counts = |names: &[&str]| names.iter().map(|name| number(&feed[name])).collect::<Vec<_>>();
    assert_eq!(counts(&["peers", "ribs", "routes", "frames", "unannounced"]), [1, 3, 7, 9, 1]);
    assert_eq!(counts(&["malformed", "malformed_attributes", "as_size", "incomplete", "unknown_family"]), [0; 5]);
    let by_rib = |view: &str| {
        let ribs = feed["by_rib"].as_array().expect("the value is an array");
        let rib = ribs
            .iter()
            .find(|rib| rib["view"] == view && rib["family"] == "IPv4 unicast")
            .expect("the RIB is displayed");
        (number(&rib["ribs"]), number(&rib["routes"]))
    };
    assert_eq!((by_rib("adj-rib-in pre-policy"), by_rib("adj-rib-in post-policy")), ((2, 5), (1, 2)));
    let (journal, memory) = (&feed["journal"], &feed["memory"]);
    assert_eq!((number(&journal["tail"]), number(&journal["head"])), (0, 9));
    assert_eq!(number(&journal["bytes"]), number(&memory["journal"]));
    assert!(number(&journal["bytes"]) >= of_peers.concat().len() as u64 && number(&journal["limit"]) > 1 << 20);
    assert!(number(&memory["routes"]) > 0 && number(&memory["groups"]) > 0 && number(&memory["attribute_sets"]) > 0);
    let text = trial.bmpd.display("display bmp feed");
    assert!(text.contains("IPv4 unicast adj-rib-in post-policy: 2, of 1 peers"), "{text}");
}
