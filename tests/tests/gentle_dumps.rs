//! Dumps that spare the uplink: `dump-rate` and `initial-refresh`, as stations see them.

use std::time::{Duration, Instant};

use lab::{
    bgp::{self, prefixes},
    bmp::{self, ReportedPeer},
    bmpd::number,
    feeder::BmpFeeder,
    station::{RecordedConnection, TestStation},
    topology::STATION,
    trial::{FURTHER_PORTS, LabTrial, TrialPlan, further_sessions},
    wait::patience,
};

/// Routes in one message of the feeder, which has attributes of its own. A dump has as many. An odd
/// number of these NLRI cannot be read as NLRI with path identifiers.
const BLOCK: usize = 9;
/// Routes of the dumps.
const ROUTES: usize = 67 * BLOCK;

/// Starts a trial with [`ROUTES`] routes and a session that is shut down.
fn loaded(bmp: &str, session: &str) -> (LabTrial, BmpFeeder) {
    let session = format!("connect-interface up2\nshutdown\n{session}");
    let trial = TrialPlan { bmp, session: &session, ..TrialPlan::default() }.start();
    let mut feeder = trial.feeder();
    let peer = ReportedPeer::default();
    for (number, block) in prefixes(ROUTES).chunks(BLOCK).enumerate() {
        let update = bgp::announce_with(block, 100_000 + number as u32, peer.address, &[]);
        feeder.send(bmp::route_monitoring(&peer, bmp::PRE_POLICY, &update));
    }
    feeder.end_of_rib(&peer);
    let has_all = |session: &serde_json::Value| number(&session["feed"]["head"]) > (ROUTES / BLOCK) as u64 + 1;
    trial.bmpd.wait_session(STATION, "all routes in the feed", has_all);
    (trial, feeder)
}

fn has_announced(routes: usize) -> impl Fn(&RecordedConnection) -> bool {
    move |connection| connection.announced() >= routes
}

/// Returns the place of the End-of-RIB among the messages of a connection.
fn end_of_rib(connection: &RecordedConnection) -> Option<usize> {
    connection.frames.iter().position(|frame| frame.update().is_some_and(|update| update.is_end_of_rib))
}

#[test]
fn a_dump_sends_no_more_routes_a_second_than_its_rate() {
    // Twice: by the rate of the session, and by that of all sessions.
    for (bmp, session) in [("dump-rate 50", "dump-rate 200"), ("dump-rate 200", "")] {
        let (trial, _feeder) = loaded(bmp, session);
        let begin = Instant::now();
        trial.bmpd.commit(STATION, "undo shutdown");
        let dumping = trial.bmpd.wait_session(STATION, "a measured dump", |session| {
            session["feed"]["dump"]["remaining_seconds"].is_number()
        });
        assert_eq!(dumping["phase"], "dumping");
        assert_eq!((&dumping["dump_rate"], &dumping["feed"]["dump"]["routes_total"]), (&200.into(), &ROUTES.into()));
        assert!(number(&dumping["feed"]["dump"]["routes_told"]) < ROUTES as u64, "{dumping}");
        let text = trial.bmpd.display("display bmp session verbose");
        assert!(text.contains("200 routes a second"), "{text}");
        let told = trial.station.wait_connection(0, "all routes", has_announced(ROUTES));
        // A tenth of a second is sent at once, and the last message may be too much.
        let least = Duration::from_secs_f64((ROUTES - 200 / 10 - 2 * BLOCK) as f64 / 200.0);
        assert!(begin.elapsed() >= least, "{:?}", begin.elapsed());
        assert!(told.frames.iter().position(|frame| frame.kind() == bmp::PEER_UP) < Some(2));
        let done = trial.bmpd.wait_session(STATION, "following", |session| session["phase"] == "following");
        assert!(done["feed"]["dump"].is_null() && done["feed"]["dumps"] == 1, "{done}");
        let ended = trial.station.wait_connection(0, "End-of-RIB", |c| end_of_rib(c).is_some());
        assert_eq!((ended.announced(), end_of_rib(&ended)), (ROUTES, Some(ended.frames.len() - 1)));
    }
}

#[test]
fn changes_pass_amid_a_slow_dump_and_a_changed_rate_counts_at_once() {
    let (trial, mut feeder) = loaded("", "dump-rate 20");
    trial.bmpd.commit(STATION, "undo shutdown");
    trial.station.wait_connection(0, "the first routes", has_announced(2 * BLOCK));
    let peer = ReportedPeer::default();
    let new = prefixes(ROUTES + 1).split_off(ROUTES);
    feeder.announce(&peer, &new, 1);
    let has_new = |connection: &RecordedConnection| {
        connection.frames.iter().any(|frame| frame.update().is_some_and(|update| update.announced == new))
    };
    let amid = trial.station.wait_connection(0, "the change", has_new);
    assert!(amid.announced() < ROUTES && end_of_rib(&amid).is_none());
    let session = trial.bmpd.session(STATION);
    assert_eq!((&session["phase"], &session["feed"]["lag_bytes"]), (&"dumping".into(), &0.into()), "{session}");
    // At this rate the rest would take most of 30 s.
    let left = ROUTES + 1 - amid.announced();
    let changed = Instant::now();
    trial.bmpd.commit(STATION, "dump-rate 0");
    let told = trial.station.wait_connection(0, "all routes", has_announced(ROUTES + 1));
    assert!(changed.elapsed().as_secs_f64() < left as f64 / 20.0 - 1.0, "{left} routes in {:?}", changed.elapsed());
    let told = trial
        .station
        .wait_connection(0, "End-of-RIB", |c| c.frames.len() > told.frames.len() || end_of_rib(c).is_some());
    // Each route came once, and the change amid them.
    let mut routes: Vec<_> = told.frames.iter().filter_map(|frame| frame.update()).flat_map(|u| u.announced).collect();
    routes.sort_unstable();
    let mut expected = prefixes(ROUTES + 1);
    expected.sort_unstable();
    assert_eq!(routes, expected);
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn the_first_dump_of_each_connection_waits_and_sessions_share_the_spread() {
    let bmp = format!("initial-refresh delay 1 spread 4\n{}", further_sessions(1, "shutdown"));
    let (trial, mut feeder) = loaded(&bmp, "");
    let second = TestStation::start(&trial.topology.station, (STATION, FURTHER_PORTS));
    for connection in 0..2 {
        let begin = Instant::now();
        if connection == 0 {
            let views = ["", " alias s0"].map(|alias| format!("bmp-session {STATION}{alias}\nundo shutdown\nquit\n"));
            trial.bmpd.commit_lines(&format!("bmp\n{}", views.concat()));
        } else {
            trial.bmpd.display("reset bmp session all");
        }
        for (station, wait) in [(&trial.station, 1), (&second, 3)] {
            let waiting = station.wait_connection(connection, "Initiation", |c| c.has(bmp::INITIATION));
            assert!(waiting.feed().is_empty() || begin.elapsed() >= Duration::from_secs(wait));
            station.wait_connection(connection, "all routes", has_announced(ROUTES));
            assert!(begin.elapsed() >= Duration::from_secs(wait), "{:?}", begin.elapsed());
        }
    }
    // What the configuration adds later is not delayed.
    let begin = Instant::now();
    trial.bmpd.commit_lines("bmp\ninitial-refresh delay 3600 spread 0");
    trial.bmpd.commit(STATION, "route-mirroring\nmonitor public");
    feeder.announce(&ReportedPeer::default(), &prefixes(1), 1);
    trial.station.wait_connection(1, "a change", has_announced(ROUTES + 1));
    assert!(begin.elapsed() < patience(Duration::from_secs(60)));
    // A session that waits shows when it begins.
    trial.bmpd.display("reset bmp session all");
    let waiting = trial.bmpd.wait_session(STATION, "a wait", |session| {
        session["feed"]["dump"]["begins_in_seconds"].as_f64().is_some_and(|seconds| seconds > 3000.0)
    });
    assert_eq!(waiting["phase"], "dumping");
    trial.bmpd.commit_lines("bmp\nundo initial-refresh");
    trial.station.wait_connection(2, "all routes", has_announced(ROUTES));
}
