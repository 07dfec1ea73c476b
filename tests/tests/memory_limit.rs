//! `memory-limit`: the input that has grown most is closed, and everything else stays.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::BytesMut;
use lab::{
    bgp::{self, Ipv4Prefix, prefixes},
    bmp::{self, ReceivedFrame, ReportedPeer},
    bmpd::{Bmpd, BmpdSetup, StartOptions, number},
    feeder::BmpFeeder,
    kernel::MemoryCgroup,
    netns::Netns,
    peering::{BMPD, DAEMON},
    skip::skip,
    speaker::LabBgpConnection,
    topology::{STATION, STATION_PORT, Topology},
    trial::{FURTHER_PORTS, LabTrial, RELAY, TrialPlan, further_sessions},
    wait::{PATIENCE, WatchedValue, until},
};
use serde_json::{Value, json};

/// The users of two daemons on this host.
const FIRST: u32 = 998;
const SECOND: u32 = 999;
/// How long a feed may take to fill.
const FILLING: Duration = Duration::from_secs(120);

fn peer(last: u8) -> ReportedPeer {
    ReportedPeer { address: [10, 255, 0, last].into(), ..ReportedPeer::default() }
}

/// A route by number, none of which [`prefixes`] has.
fn numbered(number: u32) -> Ipv4Prefix {
    Ipv4Prefix { network: Ipv4Addr::from_bits(0x4000_0000 + number), length: 32 }
}

/// An UPDATE with one route and an attribute set of its own.
fn distinct(number: u32) -> Vec<u8> {
    let mut own = bgp::unknown_attribute(7, 100);
    own[4..8].copy_from_slice(&number.to_be_bytes());
    bgp::announce_with(&[numbered(number)], DAEMON.1, Ipv4Addr::new(192, 0, 2, 2), &own)
}

/// What a station heard of one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct HeardPeer {
    ups: usize,
    downs: usize,
    announced: usize,
}

#[derive(Debug, Default)]
struct HeardPeers {
    connections: usize,
    peers: BTreeMap<IpAddr, HeardPeer>,
}

/// A station that counts what it hears of each peer, and keeps no message.
struct PeerCountingStation(Arc<WatchedValue<HeardPeers>>);

impl PeerCountingStation {
    fn start(netns: &Netns, address: impl Into<SocketAddr>) -> Self {
        let address = address.into();
        let listener = netns.enter(|| TcpListener::bind(address).expect("the port is free"));
        let heard = Arc::new(WatchedValue::default());
        let station = Self(Arc::clone(&heard));
        // The thread ends with the test.
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                heard.change(|heard: &mut HeardPeers| heard.connections += 1);
                read(stream, &heard);
            }
        });
        station
    }

    fn of(&self, address: IpAddr) -> HeardPeer {
        self.0.lock().peers.get(&address).copied().unwrap_or_default()
    }

    fn wait(&self, what: &str, address: IpAddr, wanted: impl Fn(HeardPeer) -> bool) {
        let found = self.0.wait_for(FILLING, |heard| heard.peers.get(&address).copied().filter(|heard| wanted(*heard)));
        assert!(found.is_some(), "a station did not see {what} of {address}: {:?}", self.0.lock());
    }
}

fn read(mut stream: TcpStream, heard: &WatchedValue<HeardPeers>) {
    let (mut bytes, mut room) = (BytesMut::new(), vec![0; 1 << 18]);
    while let Ok(count @ 1..) = stream.read(&mut room) {
        bytes.extend_from_slice(&room[..count]);
        let mut frames = Vec::new();
        bmp::split(&mut bytes, &mut frames).expect("the stream is BMP");
        heard.change(|heard| frames.iter().for_each(|frame| count_frame(frame, heard)));
    }
}

fn count_frame(frame: &ReceivedFrame, heard: &mut HeardPeers) {
    let Some(address) = frame.peer() else { return };
    let of = heard.peers.entry(address).or_default();
    match frame.kind() {
        bmp::PEER_UP => of.ups += 1,
        bmp::PEER_DOWN => of.downs += 1,
        bmp::ROUTE_MONITORING => of.announced += frame.update().map_or(0, |update| update.announced.len()),
        _ => {}
    }
}

/// The memory of the feed, as `display bmp feed` has it.
fn memory(bmpd: &Bmpd) -> Value {
    bmpd.display_json("display bmp feed")["memory"].clone()
}

fn bgp_peer(bmpd: &Bmpd) -> Value {
    bmpd.display_json("display bgp peer")["peers"][0].clone()
}

/// Exchanges OPENs and KEEPALIVEs.
fn establish(listener: &TcpListener) -> LabBgpConnection {
    let (IpAddr::V4(own), asn) = DAEMON else { unreachable!("it is IPv4") };
    let mut wire = LabBgpConnection::accept(listener);
    assert!(matches!(wire.receive(), Some((bgp::OPEN, _))));
    wire.send(&bgp::open(asn, own));
    assert!(matches!(wire.receive(), Some((bgp::KEEPALIVE, _))));
    wire.send(&bgp::keepalive());
    wire
}

/// Announces new routes with new attributes until the connection is closed. Calls `meanwhile` now
/// and then. Returns how many were sent.
fn flood(wire: &mut LabBgpConnection, mut meanwhile: impl FnMut()) -> u32 {
    for from in (0..).step_by(1_000) {
        let block: Vec<u8> = (from..from + 1_000).flat_map(distinct).collect();
        if wire.try_send(&block).is_err() {
            return from;
        }
        if from % 50_000 == 0 {
            meanwhile();
        }
    }
    unreachable!("the numbers do not end")
}

#[test]
fn a_peer_with_ever_new_attribute_sets_is_closed_and_nobody_else_notices() {
    const MEGABYTE: u64 = 1 << 20;
    let Some(cgroup) = MemoryCgroup::new(512 * MEGABYTE) else {
        return skip("this host lets nobody limit the memory of a cgroup");
    };
    let ((address, asn), topology) = (DAEMON, Topology::new());
    let listener = topology.station.enter(|| TcpListener::bind((address, 179))).expect("the port is free");
    let stations =
        [STATION_PORT, FURTHER_PORTS].map(|port| PeerCountingStation::start(&topology.station, (STATION, port)));
    let system = format!(
        "memory-limit 256\nbgp {}\n router-id 10.7.0.1\n peer {address} as-number {asn}\n ipv4-family unicast\n  \
         peer {address} enable\nquit\nquit",
        BMPD.1
    );
    let further = further_sessions(1, "");
    let plan = TrialPlan { system: &system, bmp: &further, ..TrialPlan::default() };
    let setup = BmpdSetup::new(&topology.router, plan.configuration());
    let mut command = setup.command(&StartOptions::default());
    cgroup.start(&mut command);
    let bmpd = Bmpd::start_by(setup, &mut command);
    let mut others = [(FIRST, peer(8)), (SECOND, peer(9))].map(|(user, peer)| {
        let mut feeder = BmpFeeder::with_peer_as(user, &topology.router, RELAY, &peer);
        feeder.announce(&peer, &prefixes(5_000), 100);
        (feeder, peer)
    });
    for (_, peer) in &others {
        stations.iter().for_each(|station| station.wait("the table", peer.address.into(), |of| of.announced >= 5_000));
    }

    // Were memory not given back or used again, three times the limit would be too much.
    for round in 1..=3 {
        let mut wire = establish(&listener);
        let sent = flood(&mut wire, || {
            // What others announce arrives meanwhile, as it always does.
            for (feeder, peer) in &mut others {
                let address = peer.address.into();
                let before = stations.each_ref().map(|station| station.of(address).announced);
                feeder.announce(peer, &prefixes(1), 1);
                for (station, before) in stations.iter().zip(before) {
                    station.wait("a route", address, |of| of.announced > before);
                }
            }
        });
        assert!(sent > 300_000, "the peer was closed after {sent} routes");
        until("the peer is closed", PATIENCE, || {
            (number(&bgp_peer(&bmpd)["closed_for_memory"]) == round).then_some(())
        });
        let shown = bgp_peer(&bmpd);
        assert_eq!((&shown["state"], &shown["reason"]), (&"Idle".into(), &"memory-limit".into()), "{shown:#}");
        stations.iter().for_each(|station| {
            station.wait("the Peer Down", address, |of| of.downs as u64 == round && of.ups as u64 == round);
        });
        let memory = until("memory is there", PATIENCE, || {
            let memory = memory(&bmpd);
            (number(&memory["closed"]) == round && memory["state"] == "within").then_some(memory)
        });
        assert!(number(&memory["in_use"]) < 128 * MEGABYTE, "{memory}");
        // 300 s would be over by themselves.
        bmpd.display(&format!("reset bgp peer {address}"));
    }
    assert_eq!(cgroup.kills(), 0, "the kernel has killed bmpd");
    if let Some(peak) = cgroup.peak() {
        assert!(peak < 512 * MEGABYTE, "bmpd took {peak} bytes");
    }
    for (feeder, peer) in &mut others {
        assert!(feeder.is_open(), "the relay closed the connection of another daemon");
        for station in &stations {
            let HeardPeer { ups, downs, .. } = station.of(peer.address.into());
            assert_eq!((ups, downs), (1, 0), "{}", peer.address);
        }
    }
    stations.iter().for_each(|station| assert_eq!(station.0.lock().connections, 1));
    bmpd.wait_for_log("a warning", |line| line.contains("more than 75 % of memory-limit 256"));
    bmpd.wait_for_log("why", |line| line.contains("memory-limit is 256, and its peers had grown most"));
    let text = bmpd.display("display bmp feed");
    assert!(text.contains("of 262144 KiB (within), inputs closed for it: 3"), "{text}");
}

/// Has a daemon report routes of a peer until it is closed.
fn grow(feeder: &mut BmpFeeder, peer: &ReportedPeer) {
    for from in (0..).step_by(1_000) {
        let messages =
            (from..from + 1_000).map(|number| bmp::route_monitoring(peer, bmp::PRE_POLICY, &distinct(number)));
        if feeder.try_raw(&messages.flatten().collect::<Vec<_>>()).is_err() {
            return;
        }
    }
}

fn connect(trial: &LabTrial, user: u32, peer: &ReportedPeer) -> BmpFeeder {
    BmpFeeder::with_peer_as(user, &trial.topology.router, RELAY, peer)
}

#[test]
fn a_daemon_that_grows_is_closed_and_refused_until_memory_is_there() {
    let system = "memory-limit 96\nbmp-relay lab\n hold 600";
    let trial = TrialPlan { system, ..TrialPlan::default() }.start_up();
    let mut other = connect(&trial, SECOND, &peer(9));
    other.announce(&peer(9), &prefixes(10_000), 100);
    let mut feeder = connect(&trial, FIRST, &peer(2));
    grow(&mut feeder, &peer(2));
    trial.bmpd.wait_for_log("why", |line| line.contains("closed, and its user or host is refused for 300 s"));
    // Also with `hold`, its peer is down.
    let connection = trial.station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    let down = connection.frames.iter().find(|frame| frame.kind() == bmp::PEER_DOWN).and_then(ReceivedFrame::peer);
    assert_eq!(down, Some(IpAddr::V4(Ipv4Addr::new(10, 255, 0, 2))));
    BmpFeeder::connect_as(FIRST, &trial.topology.router, RELAY).wait_closed();
    let shown = trial.relay("lab");
    let limited = &shown["limited"][0];
    assert_eq!((&limited["cause"], &limited["routes"]), (&"memory-limit".into(), &Value::Null));
    assert_eq!((number(&limited["uid"]), number(&shown["closed_for_memory"])), (FIRST.into(), 1));
    assert!(number(&shown["refused"]["memory-limit"]) >= 1 && shown["held"] == json!([]), "{shown:#}");
    let text = trial.bmpd.display("display bmp relay");
    assert!(text.contains(&format!("closed for memory-limit, user {FIRST} is refused for")), "{text}");
    assert!(other.is_open(), "the relay closed the connection of another user");

    // A higher limit ends the refusal.
    trial.bmpd.commit_lines("memory-limit 512");
    assert_eq!(trial.relay("lab")["limited"], json!([]));
    let mut feeder = connect(&trial, FIRST, &peer(2));
    feeder.announce(&peer(2), &prefixes(10), 1);
    until("both tables", PATIENCE, || {
        (number(&trial.bmpd.display_json("display bmp feed")["routes"]) == 10_010).then_some(())
    });
    assert!(feeder.is_open());
}

#[test]
fn a_changed_memory_limit_counts_at_once() {
    let trial = TrialPlan::default().start_up();
    assert_eq!((&memory(&trial.bmpd)["limit"], &memory(&trial.bmpd)["state"]), (&Value::Null, &"within".into()));
    let mut other = connect(&trial, SECOND, &peer(9));
    other.announce(&peer(9), &prefixes(10), 1);
    let mut feeder = connect(&trial, FIRST, &peer(2));
    let routes: Vec<u8> =
        (0..150_000).flat_map(|number| bmp::route_monitoring(&peer(2), bmp::PRE_POLICY, &distinct(number))).collect();
    feeder.raw(&routes);
    until("the routes", FILLING, || {
        (number(&trial.bmpd.display_json("display bmp feed")["routes"]) == 150_010).then_some(())
    });
    let answer = trial.bmpd.commit_lines("memory-limit 96");
    assert!(answer.contains("more than memory-limit 96"), "{answer}");
    feeder.wait_closed();
    until("memory is there", PATIENCE, || (memory(&trial.bmpd)["state"] == "within").then_some(()));
    assert!(other.is_open(), "the relay closed the connection of another user");
    trial.bmpd.commit_lines("undo memory-limit");
    assert_eq!(memory(&trial.bmpd)["limit"], Value::Null);
}

#[test]
fn a_replay_that_grows_ends_with_the_reason() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let records: Vec<u8> = (0..250_000).flat_map(|number| bgp::mrt_record(&distinct(number))).collect();
    fs::write(file.path(), records).expect("a temporary file can be written");
    let system =
        format!("memory-limit 96\nmrt-replay table\n file {}\n pace maximum\n loop\nquit", file.path().display());
    let trial = TrialPlan { system: &system, ..TrialPlan::default() }.start_up();
    let mut other = connect(&trial, SECOND, &peer(9));
    other.announce(&peer(9), &prefixes(10), 1);
    let shown = until("the replay ends", FILLING, || {
        let shown = trial.bmpd.display_json("display mrt-replay")[0].clone();
        (shown["state"] == "failed").then_some(shown)
    });
    assert!(shown.to_string().contains("memory-limit: the feed took"), "{shown:#}");
    until("its routes are gone", PATIENCE, || {
        (number(&trial.bmpd.display_json("display bmp feed")["routes"]) == 10).then_some(())
    });
    assert!(other.is_open(), "the relay closed the connection of a daemon");
}
