//! Stations that read slowly, or not at all, or vanish: they hinder no other station, take no
//! memory, and end with the exact table.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use lab::{
    bgp::{self, Ipv4Prefix, prefixes},
    bmp::{self, ReportedPeer},
    bmpd::{Bmpd, number},
    feeder::BmpFeeder,
    footprint::resident,
    rib::{ComparedRoute, IPV4, NamedRoutes, PeerRib, RibMirror},
    soak,
    station::{StationMode, TestStation},
    topology::{STATION, STATION_2, STATION_PORT},
    trial::{FURTHER_PORTS, RELAY, TrialPlan, further_sessions},
    wait::{patience, until},
};

/// Patience for a whole table.
const LONG: Duration = Duration::from_secs(60);
/// Routes in one message.
const BLOCK: usize = 50;
/// Bytes of filling in the attributes of each message.
const FILLING: usize = 3_700;
/// Blocks in force at a time: 20,000 routes. All others are withdrawn.
const KEPT: usize = 400;
/// Different blocks: 1,000,000 prefixes, so that the withdrawn ones exceed the memory for
/// withdrawals (16 MiB).
const BLOCKS: usize = 20_000;
/// Returns the duration of the churn: longer than a silent station could stay. In a long campaign
/// it exceeds the longest pause between window probes.
fn lasts() -> Duration {
    Duration::from_secs(soak::times(40, 180) as u64)
}
/// Returns the bytes of the churn: several times the journal of 64 MiB.
fn churn() -> usize {
    soak::times(256, 1024) << 20
}
/// Allowed memory in KiB: journal and withdrawals, 20,000 routes with the attributes of 400
/// messages, buffers of eight connections, and the allocator's reserve.
const MOST_MEMORY: u64 = (64 + 16 + 40) << 10;

/// An endless sequence of announcements and withdrawals. Each block has attributes of its own, and
/// is withdrawn when [`KEPT`] more blocks have followed.
struct EndlessChurn {
    peer: ReportedPeer,
    routes: Vec<Ipv4Prefix>,
    number: usize,
}

impl EndlessChurn {
    fn new() -> Self {
        Self { peer: ReportedPeer::default(), routes: prefixes(BLOCKS * BLOCK), number: 0 }
    }

    fn block(&self, number: usize) -> &[Ipv4Prefix] {
        &self.routes[number % BLOCKS * BLOCK..][..BLOCK]
    }

    /// Returns the AS number in the path of a block's routes.
    fn asn(number: usize) -> u32 {
        100_000 + number as u32
    }

    /// Returns the messages of the next step.
    fn step(&mut self) -> Vec<u8> {
        let filling = bgp::unknown_attribute(self.number as u8, FILLING);
        let routes = self.block(self.number);
        let update = bgp::announce_with(routes, Self::asn(self.number), self.peer.address, &filling);
        let mut messages = bmp::route_monitoring(&self.peer, bmp::PRE_POLICY, &update);
        if let Some(old) = self.number.checked_sub(KEPT) {
            messages.extend(bmp::route_monitoring(&self.peer, bmp::PRE_POLICY, &bgp::withdraw(self.block(old))));
        }
        self.number += 1;
        messages
    }

    /// Returns the routes that are announced and not withdrawn.
    fn in_force(&self) -> NamedRoutes {
        let blocks = self.number.saturating_sub(KEPT)..self.number;
        let route =
            |number| ComparedRoute { next_hop: Some(self.peer.address.into()), as_path: vec![Self::asn(number)] };
        blocks
            .flat_map(|number| self.block(number).iter().map(move |prefix| (prefix.to_string(), route(number))))
            .collect()
    }
}

/// Returns peer, RIB and family of these routes.
fn of_the_peer() -> (IpAddr, PeerRib, lab::rib::AfiSafi) {
    (ReportedPeer::default().address.into(), PeerRib::PrePolicy, IPV4)
}

/// Measures until all these sessions have reached the feed's last sequence number. Most of this
/// time is for asking.
fn lag(bmpd: &Bmpd, ports: &[u16]) -> Duration {
    let of = |sessions: &[serde_json::Value], name: &str| -> Vec<u64> {
        let among = sessions.iter().filter(|session| ports.iter().any(|port| session["port"] == *port));
        among.map(|session| number(&session["feed"][name])).collect()
    };
    let head = of(&bmpd.sessions(), "head").into_iter().max().expect("there are sessions");
    let start = Instant::now();
    loop {
        let cursors = of(&bmpd.sessions(), "cursor");
        assert_eq!(cursors.len(), ports.len());
        if cursors.iter().all(|cursor| *cursor >= head) {
            return start.elapsed();
        }
        assert!(start.elapsed() < LONG, "{cursors:?} have not reached {head}");
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures are of interest where the test is run by hand")]
fn slow_and_stalled_stations_hinder_no_other_and_end_with_the_exact_table() {
    let sessions = further_sessions(7, "");
    let trial = TrialPlan { bmp: &sessions, ..TrialPlan::default() }.start();
    let start =
        |number| TestStation::with_receive_buffer(&trial.topology.station, (STATION, FURTHER_PORTS + number), 1 << 16);
    let stations: Vec<TestStation> = (0..7).map(start).collect();
    let [little, nothing, quick @ ..] = &stations[..] else { unreachable!("there are seven") };
    let quick: Vec<&TestStation> = quick.iter().chain([&trial.station]).collect();
    let ports: Vec<u16> = quick.iter().map(|station| station.address().port()).collect();
    for station in &stations {
        station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    }
    little.set_mode(StationMode::Trickle(1_000));
    nothing.set_mode(StationMode::Stall);
    let mut feeder = trial.feeder();
    let mut churn = EndlessChurn::new();
    let before = resident(trial.bmpd.pid());

    let is_over = AtomicBool::new(false);
    let (mut lags, mut most) = (Vec::new(), before);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (begin, mut sent) = (Instant::now(), 0);
            while sent < self::churn() {
                let messages = churn.step();
                feeder.raw(&messages);
                sent += messages.len();
                // At this pace, or as close to it as possible.
                let due = lasts().mul_f64(sent as f64 / self::churn() as f64);
                std::thread::sleep(due.saturating_sub(begin.elapsed()));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            lags.push(lag(&trial.bmpd, &ports));
            most = most.max(resident(trial.bmpd.pid()));
        }
    });
    lags.sort();
    let (worst, usual) = (lags[lags.len() - 1], lags[lags.len() * 9 / 10]);
    let more = most - before;
    println!("{} times the head was reached within {usual:?} mostly, {worst:?} at most; {more} KiB more", lags.len());
    // A station that waited for a slow one would be behind by most of the churn.
    assert!(worst < patience(lasts() / 4), "{lags:?}");
    assert!(more < MOST_MEMORY, "{more} KiB more than before");

    // Both stations have read almost nothing.
    assert!(little.connections()[0].bytes < 1_000 * 2 * lasts().as_secs());
    assert!(nothing.connections()[0].bytes < 1_000);
    let wanted = churn.in_force();
    // The quick stations received the same bytes, which amount to the right table.
    RibMirror::of(quick[0]).wait_view(of_the_peer(), &wanted, LONG);
    let same = quick[0].connections().remove(0);
    for station in &quick[1..] {
        let count = same.frames.len();
        let other = station.wait_connection(0, "as many messages", |connection| connection.frames.len() == count);
        assert!(other.feed() == same.feed(), "{:?} was told something else", station.address());
    }
    for station in [little, nothing] {
        station.set_mode(StationMode::Read);
        RibMirror::of(station).wait_view(of_the_peer(), &wanted, LONG);
        let bytes = station.connections()[0].bytes;
        assert!(bytes < self::churn() as u64 / 2, "{bytes} bytes: the station received every change");
    }
    for station in stations.iter().chain([&trial.station]) {
        let connections = station.connections();
        assert_eq!((connections.len(), &connections[0].end), (1, &None));
    }
    let after = resident(trial.bmpd.pid());
    assert!(after - before < MOST_MEMORY, "{} KiB more than before", after - before);
}

#[test]
fn a_vanished_station_is_noticed_and_has_the_exact_table_when_back() {
    let other = format!("bmp-session {STATION_2}\n  tcp connect port {STATION_PORT}\n  connect-retry 1 2\n quit\n");
    let trial = TrialPlan { bmp: &other, ..TrialPlan::default() }.start_up();
    let vanishes = TestStation::start(&trial.topology.station, (STATION_2, STATION_PORT));
    trial.bmpd.wait_up(STATION_2);
    let mut feeder = BmpFeeder::with_peer(&trial.topology.router, RELAY, &ReportedPeer::default());
    let mut churn = EndlessChurn::new();
    let mut go_on = |steps: usize| {
        for _ in 0..steps {
            feeder.raw(&churn.step());
        }
        churn.in_force()
    };
    let (mut stays, mut mirror) = (RibMirror::of(&trial.station), RibMirror::of(&vanishes));
    let routes = go_on(2 * KEPT);
    stays.wait_view(of_the_peer(), &routes, LONG);
    mirror.wait_view(of_the_peer(), &routes, LONG);
    // The network drops its packets silently.
    trial.topology.station.ip(&format!("addr del {STATION_2}/32 dev lo"));
    let since = Instant::now();
    while !trial.bmpd.log().iter().any(|line| line.contains("keepalive-timeout")) {
        assert!(since.elapsed() < patience(LONG), "bmpd has not noticed");
        let routes = go_on(100);
        stays.wait_view(of_the_peer(), &routes, LONG);
    }
    // More than the journal keeps, while the station is away.
    let routes = go_on((96 << 20) / FILLING);
    stays.wait_view(of_the_peer(), &routes, LONG);
    trial.topology.station.ip(&format!("addr add {STATION_2}/32 dev lo"));
    vanishes.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    let routes = go_on(100);
    mirror.wait_view(of_the_peer(), &routes, LONG);
    stays.wait_view(of_the_peer(), &routes, LONG);
    assert_eq!(trial.station.connections().len(), 1);
}

#[test]
fn a_station_beyond_its_buffer_limit_skips_what_it_missed_and_ends_with_the_exact_table() {
    let sessions = further_sessions(1, "");
    let trial = TrialPlan { bmp: &sessions, ..TrialPlan::default() }.start();
    let address = (STATION, FURTHER_PORTS);
    let unlimited = TestStation::with_receive_buffer(&trial.topology.station, address, 1 << 16);
    for station in [&trial.station, &unlimited] {
        station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
        station.set_mode(StationMode::Stall);
    }
    // The limit counts for a session that is up.
    trial.bmpd.commit(STATION, "buffer-limit 1");
    let (mut feeder, mut churn, mut sent) = (trial.feeder(), EndlessChurn::new(), 0);
    // A part of the journal.
    while sent < 32 << 20 {
        let messages = churn.step();
        feeder.raw(&messages);
        sent += messages.len();
    }
    let head = || number(&trial.bmpd.session(STATION)["feed"]["head"]);
    // Peer Up, and two messages for all blocks but the last ones.
    until("the feed has all messages", LONG, || (head() > (2 * churn.number - KEPT) as u64).then_some(()));
    let wanted = churn.in_force();
    for station in [&trial.station, &unlimited] {
        station.set_mode(StationMode::Read);
        RibMirror::of(station).wait_view(of_the_peer(), &wanted, LONG);
    }
    let bytes = [&trial.station, &unlimited].map(|station| station.connections()[0].bytes);
    assert!(bytes[0] < sent as u64 / 2 && bytes[1] >= sent as u64, "{bytes:?} of {sent}");
    let dumps = |alias: &str| {
        let of = |session: &serde_json::Value| session["alias"].as_str().unwrap_or_default() == alias;
        number(&trial.bmpd.sessions().into_iter().find(of).expect("the session is there")["feed"]["dumps"])
    };
    assert!(dumps("") > 1 && dumps("s0") == 1);
    assert_eq!([&trial.station, &unlimited].map(|station| station.connections().len()), [1, 1]);
}
