//! Real streams and files of routers and collectors, through bmpd's own sockets, to an early and a
//! late station.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use bgpkit_parser::{BgpkitParser, models::ElemType};
use bmp_fuzz::{corpus::captures_v3, station::Replica};
use bmp_user::wire::bmp::{MessageType, PeerKey, frames};
use lab::{
    bmp,
    bmpd::number,
    feeder::BmpFeeder,
    skip::skip,
    station::RecordedConnection,
    trial::{LabTrial, RELAY, TrialPlan},
    wait::until,
};
use serde_json::Value;

/// Patience for whole files.
const LONG: Duration = Duration::from_secs(60);

/// A station's knowledge, with the frames read so far.
#[derive(Default)]
struct ReplicaReader {
    replica: Replica,
    frames: usize,
}

impl ReplicaReader {
    fn read(&mut self, connection: &RecordedConnection) -> &Replica {
        for frame in &connection.frames[self.frames..] {
            if !matches!(frame.kind(), bmp::INITIATION | bmp::TERMINATION) {
                self.replica.read(&frame.0);
            }
        }
        self.frames = connection.frames.len();
        &self.replica
    }
}

/// Asserts that a late station gets everything that the early one has.
fn assert_late_one_is_equal(name: &str, trial: &LabTrial, early: &Replica) {
    trial.station.close();
    let (readings, expected) = (early.readings(), early.knows());
    let mut reader = ReplicaReader::default();
    trial.station.wait_for(
        &format!("{name}: the late station's knowledge equals the early one's"),
        LONG,
        |connections| {
            let late = reader.read(connections.get(1)?);
            (late.knows_as(&readings) == expected).then_some(())
        },
    );
}

#[test]
fn a_routers_stream_is_relayed_unchanged_and_late_equals_early() {
    let streams = captures_v3();
    if streams.is_empty() {
        return skip("there are no captured BMP streams");
    }
    let one = |(name, stream): &(String, Vec<u8>)| {
        let trial = TrialPlan::default().start_up();
        let whole: Vec<_> = frames(stream).map(|frame| frame.expect("a capture is BMP")).collect();
        let about_the_session = |frame: &bmp_user::wire::bmp::Frame<'_>| {
            matches!(frame.message_type(), Some(MessageType::Initiation | MessageType::Termination))
        };
        let expected: Vec<&[u8]> =
            whole.iter().filter(|frame| !about_the_session(frame)).map(|frame| frame.bytes()).collect();
        let mut feeder = BmpFeeder::connect(&trial.topology.router, RELAY);
        // Without the Termination, which would end its peers before the late station connects.
        let ends = |frame: &&bmp_user::wire::bmp::Frame<'_>| frame.message_type() != Some(MessageType::Termination);
        feeder.raw(&whole.iter().filter(ends).flat_map(|frame| frame.bytes().to_vec()).collect::<Vec<_>>());
        let early = trial.station.wait_for(&format!("{name} is told"), LONG, |connections| {
            connections.first().filter(|connection| connection.feed().len() >= expected.len()).cloned()
        });
        assert_eq!(early.feed(), expected, "{name}");
        let mut reader = ReplicaReader::default();
        let early = reader.read(&early);
        assert!(early.routes() > 0, "{name} has routes");
        assert_late_one_is_equal(name, &trial, early);
    };
    thread::scope(|scope| streams.iter().for_each(|stream| drop(scope.spawn(|| one(stream)))));
}

fn mrt_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/mrt");
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
    files.filter(|path| path.extension().is_some_and(|end| end == "gz")).collect()
}

fn replay(trial: &LabTrial) -> Value {
    trial.bmpd.display_json("display mrt-replay")[0].take()
}

/// Returns the prefixes of each peer at the end of a file, as a parser of another project finds
/// them.
fn in_file(path: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut peers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for elem in BgpkitParser::from_reader(flate2_reader(path)) {
        let routes = peers.entry(elem.peer_ip.to_string()).or_default();
        let route = elem.prefix.to_string();
        match elem.elem_type {
            ElemType::ANNOUNCE => drop(routes.insert(route)),
            ElemType::WITHDRAW => drop(routes.remove(&route)),
        }
    }
    peers.retain(|_, routes| !routes.is_empty());
    peers
}

fn flate2_reader(path: &Path) -> impl std::io::Read {
    flate2::read::MultiGzDecoder::new(fs::File::open(path).expect("the file is readable"))
}

fn address(key: &PeerKey) -> String {
    let v6 = std::net::Ipv6Addr::from(key.address);
    if key.address[..12] == [0; 12] {
        let [.., a, b, c, d] = key.address;
        return std::net::Ipv4Addr::new(a, b, c, d).to_string();
    }
    v6.to_string()
}

#[test]
fn a_replayed_file_reaches_early_and_late_stations_with_all_routes() {
    let files = mrt_files();
    if files.is_empty() {
        return skip("there are no MRT files");
    }
    let one = |path: &PathBuf| {
        let name = path.display().to_string();
        let system = format!("mrt-replay table\n file {name}\n pace maximum\nquit");
        // The station need not connect before the file is read.
        let trial = TrialPlan { system: &system, ..TrialPlan::default() }.start();
        let done = until(&format!("{name} is replayed"), LONG, || {
            let replay = replay(&trial);
            (replay["state"] == "done").then_some(replay)
        });
        assert_eq!((&done["why"], number(&done["rounds"]), number(&done["errors"])), (&Value::Null, 1, 0), "{done:#}");
        assert_eq!(number(&done["bytes_read"]), number(&done["file_bytes"]));
        assert_eq!(number(&done["records"]), number(&done["file_records"]));
        let expected = in_file(path);
        let count = expected.values().map(BTreeSet::len).sum::<usize>();
        assert!(count > 1000, "{name}: {count}");
        let mut reader = ReplicaReader::default();
        trial.station.wait_for(&format!("{count} routes of {name}"), LONG, |connections| {
            (reader.read(connections.first()?).routes() == count).then_some(())
        });
        let early = reader.replica;
        let by_peer: BTreeMap<String, usize> = early
            .knows()
            .iter()
            .map(|(key, peer)| (address(&key.key), peer.ribs.values().map(BTreeMap::len).sum()))
            .filter(|(_, routes)| *routes > 0)
            .collect();
        let expected: BTreeMap<String, usize> =
            expected.into_iter().map(|(peer, routes)| (peer, routes.len())).collect();
        assert_eq!(by_peer, expected, "{name}");
        let shown = trial.bmpd.display_json("display bmp feed");
        assert_eq!(number(&shown["routes"]), count as u64);
        let monitored = trial.bmpd.display("display bgp bmp-monitor all");
        assert!(monitored.contains(" mrt-replay table "), "{monitored}");
        assert_late_one_is_equal(&name, &trial, &early);
    };
    thread::scope(|scope| files.iter().for_each(|file| drop(scope.spawn(|| one(file)))));
}

#[test]
fn a_replay_keeps_its_pace_and_its_loop() {
    let Some(file) = mrt_files().into_iter().find(|path| path.to_string_lossy().contains("updates.2016")) else {
        return skip("there are no MRT files");
    };
    let replay_of = |pace: &str| format!("mrt-replay table\n file {}\n pace {pace}\nquit", file.display());
    let trial = TrialPlan { system: &replay_of("20 updates-per-second"), ..TrialPlan::default() }.start_up();
    // At this pace, at least (n - 1) / 20 seconds pass before the n-th update.
    let began = std::time::Instant::now();
    let shown = until("forty updates", LONG, || {
        let shown = replay(&trial);
        (number(&shown["updates"]) >= 40).then_some(shown)
    });
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!((&shown["state"], &shown["pace"]), (&"reading".into(), &"20 updates-per-second".into()));
    assert!(number(&shown["bytes_read"]) < number(&shown["file_bytes"]));
    assert!(number(&shown["records"]) < number(&shown["file_records"]));

    trial.bmpd.commit_lines("mrt-replay table\npace maximum\nloop");
    until("the third round", LONG, || (number(&replay(&trial)["rounds"]) >= 3).then_some(()));
    assert_eq!((&replay(&trial)["loop"], &replay(&trial)["pace"]), (&true.into(), &"maximum".into()));
    // Between two rounds its peers go down.
    let connection = trial.station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    assert!(connection.count(bmp::PEER_UP) > 1);
    trial.bmpd.commit_lines("mrt-replay table\nundo loop");
    until("the file is at its end", LONG, || (replay(&trial)["state"] == "done").then_some(()));
}
