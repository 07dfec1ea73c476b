//! The feed at the station: selections that change under a connection, daemons that go and come
//! back, and files.

use std::time::Duration;

use lab::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    feeder::BmpFeeder,
    topology::STATION,
    trial::{RELAY, TrialPlan},
};

const ROUTES: usize = 100;

fn peer(last: u8) -> ReportedPeer {
    ReportedPeer { address: [10, 255, 0, last].into(), ..ReportedPeer::default() }
}

#[test]
fn a_changed_selection_takes_effect_on_the_open_connection() {
    let trial = TrialPlan::default().start_up();
    let (one, two) = (peer(2), peer(3));
    let mut feeder = BmpFeeder::with_peer(&trial.topology.router, RELAY, &one);
    feeder.send(bmp::peer_up(&two));
    feeder.announce(&one, &prefixes(ROUTES), 1);
    feeder.announce(&two, &prefixes(ROUTES), 1);
    trial.station.wait_connection(0, "both", |c| c.announced() == 2 * ROUTES);
    trial.bmpd.commit(STATION, "monitor peer 10.255.0.2");
    let connection = trial.station.wait_connection(0, "Peer Down of the other", |c| c.has(bmp::PEER_DOWN));
    let down = connection.frames.iter().find(|frame| frame.kind() == bmp::PEER_DOWN).expect("there is a Peer Down");
    assert_eq!(down.peer(), Some(two.address.into()));
    // Reason 5: the peer is no longer monitored (RFC 7854 §4.9).
    assert_eq!(down.body(), [5]);
    // The station gets nothing more of the deselected peer, and goes on with the other.
    feeder.announce(&two, &prefixes(ROUTES), 1);
    feeder.announce(&one, &prefixes(1), 1);
    trial.station.wait_connection(0, "one more", |c| c.announced() == 2 * ROUTES + 1);
    trial.bmpd.commit(STATION, "undo monitor peer 10.255.0.2");
    let connection = trial.station.wait_connection(0, "the other again", |c| c.announced() == 3 * ROUTES + 1);
    assert_eq!((connection.count(bmp::PEER_UP), connection.count(bmp::PEER_DOWN)), (3, 1));
    assert_eq!((connection.end, trial.station.connections().len()), (None, 1));
}

#[test]
fn stations_do_not_notice_a_daemon_that_is_back_in_time() {
    let trial = TrialPlan { system: "bmp-relay lab\n hold 600", ..TrialPlan::default() }.start_up();
    let peer = peer(2);
    let mut feeder = BmpFeeder::with_peer(&trial.topology.router, RELAY, &peer);
    feeder.announce(&peer, &prefixes(ROUTES), 1);
    trial.station.wait_connection(0, "its routes", |c| c.announced() == ROUTES);
    drop(feeder);
    // While the old connection is open, a second one would be another daemon with the same peer.
    trial.bmpd.wait_for_log("that the daemon went away", |line| line.contains("the daemon closed the connection"));
    let mut feeder = BmpFeeder::with_peer(&trial.topology.router, RELAY, &peer);
    feeder.announce(&peer, &prefixes(ROUTES), 1);
    feeder.announce(&peer, &prefixes(ROUTES + 1)[ROUTES..], 1);
    let connection = trial.station.wait_connection(0, "what is new", |c| c.announced() > ROUTES);
    assert_eq!((connection.announced(), connection.count(bmp::PEER_UP)), (ROUTES + 1, 1));
    assert!(!connection.has(bmp::PEER_DOWN));
}

#[test]
fn a_file_that_is_not_mrt_is_reported_without_other_effects() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(file.path(), b"this is no routing table, whatever its name says").expect("the file is writable");
    let system = format!("mrt-replay table\n file {}\n pace maximum", file.path().display());
    let trial = TrialPlan { system: &system, ..TrialPlan::default() }.start_up();
    let replay = lab::wait::until("the replay fails", Duration::from_secs(10), || {
        let replay = trial.bmpd.display_json("display mrt-replay")[0].take();
        (replay["state"] == "failed").then_some(replay)
    });
    assert!(replay["why"].as_str().is_some_and(|why| why.contains(&*file.path().to_string_lossy())), "{replay:#}");
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 10, 0);
}
