//! The acts of the demonstration, in order, and their checks.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use lab::{
    bgp::{Ipv4Prefix, prefixes},
    bmp::{ReceivedFrame, ReportedPeer},
    bmpd::{Bmpd, number},
    capture::{LinkCapture, PacketDirection},
    feeder::BmpFeeder,
    frr::Frr,
    station::TestStation,
    topology::{BETTER_ROUTE_BY_UP1, STATION, STATION_PORT, Topology, UP2},
    trial::RELAY,
};
use serde::Serialize;
use serde_json::Value;

use crate::screen::DemoScreen;

/// Routes of the BGP daemon.
const ROUTES: usize = 10_000;
/// Patience for each check.
const PATIENCE: Duration = Duration::from_secs(20);
/// Interval of redrawing the table.
const FRAME: Duration = Duration::from_millis(100);
/// How long a check watches that something does *not* happen.
const QUIET: Duration = Duration::from_secs(2);

const PICTURE: &str = r"
  router edge1                          station 198.51.100.7
  ┌──────────────┐  up1  192.0.2.1     ┌──────────────┐
  │ FRR ──▶ bmpd ├─────────────────────┤              │   up1: the route that the router prefers
  │  BGP     BMP │  up2  192.0.2.65    │  listens on  │
  │              ├═════════════════════╡  port 11019  │   up2: connect-interface up2
  └──────────────┘                     └──────────────┘
";

const CONFIGURATION: &str = "sysname edge1
bmp-relay frr
 listen 127.0.0.1 port 5000
bmp
 bmp-session 198.51.100.7
  tcp connect port 11019
  connect-interface up2
";

/// The origin of the routes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteSource {
    /// FRR's bgpd.
    Frr,
    /// The lab's own feeder.
    Feeder,
}

/// The reason for an early end: a statement does not hold, or an act fails.
pub(crate) struct DemoFailure(pub(crate) String);

/// A checked statement.
#[derive(Clone, Serialize)]
pub(crate) struct CheckedStatement {
    statement: String,
    holds: bool,
    seen: String,
}

/// The latest measurements.
#[derive(Clone, Default, Serialize)]
pub(crate) struct DemoFigures {
    routes_at_station: usize,
    station_bytes: u64,
    station_connections: usize,
    sources_seen: BTreeSet<IpAddr>,
    kernel_tx_bytes: u64,
    kernel_tx_packets: u64,
    kernel_payload_bytes: u64,
    retransmits: u64,
    packets_by_up1: usize,
    packets_by_up2: usize,
    state: String,
    reason: Option<String>,
    established: u64,
    enforcement: String,
}

/// The demonstration.
pub(crate) struct Story<'a> {
    source: RouteSource,
    screen: &'a mut DemoScreen,
    checks: Vec<CheckedStatement>,
    figures: DemoFigures,
}

/// The running origin of the routes.
enum RouteDaemon {
    Frr(Frr),
    Feeder(BmpFeeder),
}

/// The hosts and their programs.
struct DemoStage {
    topology: Topology,
    station: TestStation,
    up1: LinkCapture,
    up2: LinkCapture,
    bmpd: Bmpd,
}

impl<'a> Story<'a> {
    pub(crate) fn new(source: RouteSource, screen: &'a mut DemoScreen) -> Self {
        Self { source, screen, checks: Vec::new(), figures: DemoFigures::default() }
    }

    /// Returns all checks and the latest measurements.
    pub(crate) fn outcome(self) -> (Vec<CheckedStatement>, DemoFigures) {
        (self.checks, self.figures)
    }

    /// Plays all acts, until `interrupted` is set.
    pub(crate) fn tell(&mut self, interrupted: &AtomicBool) -> Result<(), DemoFailure> {
        self.screen.say(PICTURE);
        let stage = DemoStage::set();
        let result = self.acts(&stage, interrupted);
        self.screen.keep();
        result
    }

    fn acts(&mut self, stage: &DemoStage, interrupted: &AtomicBool) -> Result<(), DemoFailure> {
        let table = prefixes(ROUTES);
        self.the_session_comes_up(stage, interrupted)?;
        let daemon = self.the_routes_arrive(stage, &table, interrupted)?;
        self.the_counters_agree(stage, interrupted)?;
        self.routing_changes(stage, interrupted)?;
        self.the_link_is_lost_and_returns(stage, interrupted)?;
        self.the_end(stage, daemon, interrupted)
    }

    fn the_session_comes_up(&mut self, stage: &DemoStage, interrupted: &AtomicBool) -> Result<(), DemoFailure> {
        self.check(stage, interrupted, "the session is up from 192.0.2.65, the address of up2", PATIENCE, |seen| {
            (seen.state == "up" && seen.sources_seen == BTreeSet::from([UP2]), format!("from {:?}", seen.sources_seen))
        })?;
        self.check(stage, interrupted, "the kernel holds it there", PATIENCE, |seen| {
            (matches!(seen.enforcement.as_str(), "kernel" | "cgroup"), format!("enforcement: {}", seen.enforcement))
        })
    }

    fn the_routes_arrive(
        &mut self,
        stage: &DemoStage,
        table: &[Ipv4Prefix],
        interrupted: &AtomicBool,
    ) -> Result<RouteDaemon, DemoFailure> {
        let (daemon, name) = match self.source {
            RouteSource::Frr => (RouteDaemon::Frr(Frr::start(&stage.topology.router, RELAY, table)), "FRR"),
            RouteSource::Feeder => {
                let peer = ReportedPeer::default();
                let mut feeder = BmpFeeder::with_peer(&stage.topology.router, RELAY, &peer);
                feeder.announce(&peer, table, 1);
                (RouteDaemon::Feeder(feeder), "the feeder")
            }
        };
        let statement = format!("all {} routes of {name} are at the station", grouped(ROUTES as u64));
        self.check(stage, interrupted, &statement, PATIENCE, |seen| {
            (seen.routes_at_station == ROUTES, format!("{} routes", grouped(seen.routes_at_station as u64)))
        })?;
        Ok(daemon)
    }

    fn the_counters_agree(&mut self, stage: &DemoStage, interrupted: &AtomicBool) -> Result<(), DemoFailure> {
        self.check(stage, interrupted, "the kernel counted what the station received", PATIENCE, counters_agree)?;
        self.nothing_by_up1(stage, interrupted, "no packet of the session has left by up1")
    }

    fn routing_changes(&mut self, stage: &DemoStage, interrupted: &AtomicBool) -> Result<(), DemoFailure> {
        let router = &stage.topology.router;
        self.screen.say("  · a better route by up1 appears, goes, and appears again");
        router.ip(&format!("route add {BETTER_ROUTE_BY_UP1}"));
        router.ip(&format!("route del {BETTER_ROUTE_BY_UP1}"));
        router.ip(&format!("route add {BETTER_ROUTE_BY_UP1}"));
        self.stays(stage, interrupted, "the session has not moved and not been broken", QUIET, |seen| {
            let stays = seen.state == "up" && seen.established == 1 && seen.packets_by_up1 == 0;
            (stays, format!("{}, established {} time(s)", seen.state, seen.established))
        })
    }

    fn the_link_is_lost_and_returns(&mut self, stage: &DemoStage, interrupted: &AtomicBool) -> Result<(), DemoFailure> {
        self.screen.say("  · up2 loses its carrier; up1 would still lead to the station");
        stage.topology.carrier_down("up2");
        self.check(stage, interrupted, "the session is down, and says why: interface-down", PATIENCE, |seen| {
            let down = seen.state == "down" && seen.reason.as_deref() == Some("interface-down");
            (down, format!("{}, {}", seen.state, seen.reason.as_deref().unwrap_or("no reason")))
        })?;
        self.nothing_by_up1(stage, interrupted, "meanwhile not one byte of it leaves by up1")?;
        self.screen.say("  · up2 has its carrier again");
        stage.topology.carrier_up("up2");
        self.check(stage, interrupted, "the session is up again, from the same address", PATIENCE, |seen| {
            let back =
                seen.state == "up" && seen.station_connections == 2 && seen.sources_seen == BTreeSet::from([UP2]);
            (back, format!("connection {} from {:?}", seen.station_connections, seen.sources_seen))
        })
    }

    fn the_end(&mut self, stage: &DemoStage, daemon: RouteDaemon, interrupted: &AtomicBool) -> Result<(), DemoFailure> {
        match daemon {
            RouteDaemon::Frr(mut frr) => frr.terminate(),
            RouteDaemon::Feeder(feeder) => drop(feeder),
        }
        self.check(stage, interrupted, "over both connections the counters agree", PATIENCE, counters_agree)?;
        self.nothing_by_up1(stage, interrupted, "and in all this, up1 has carried nothing of the session")
    }

    /// Waits until a statement holds, and redraws the table meanwhile.
    fn check(
        &mut self,
        stage: &DemoStage,
        interrupted: &AtomicBool,
        statement: &str,
        patience: Duration,
        holds: impl Fn(&DemoFigures) -> (bool, String),
    ) -> Result<(), DemoFailure> {
        let deadline = Instant::now() + patience;
        loop {
            self.look(stage, interrupted)?;
            let (so, seen) = holds(&self.figures);
            if so || Instant::now() >= deadline {
                return self.record(statement, so, seen);
            }
            thread::sleep(FRAME);
        }
    }

    /// Checks that a statement holds for the whole `span`.
    fn stays(
        &mut self,
        stage: &DemoStage,
        interrupted: &AtomicBool,
        statement: &str,
        span: Duration,
        holds: impl Fn(&DemoFigures) -> (bool, String),
    ) -> Result<(), DemoFailure> {
        let end = Instant::now() + span;
        loop {
            self.look(stage, interrupted)?;
            let (so, seen) = holds(&self.figures);
            if !so || Instant::now() >= end {
                return self.record(statement, so, seen);
            }
            thread::sleep(FRAME);
        }
    }

    fn nothing_by_up1(
        &mut self,
        stage: &DemoStage,
        interrupted: &AtomicBool,
        statement: &str,
    ) -> Result<(), DemoFailure> {
        self.stays(stage, interrupted, statement, QUIET / 2, |seen| {
            // A capture that saw no packet on either link proves nothing.
            let (other, pinned) = (seen.packets_by_up1, seen.packets_by_up2);
            (other == 0 && pinned > 0, format!("captured: {other} packets on up1, {} on up2", grouped(pinned as u64)))
        })
    }

    fn record(&mut self, statement: &str, holds: bool, seen: String) -> Result<(), DemoFailure> {
        let mark = if holds { '✓' } else { '✗' };
        self.screen.say(&format!("  {mark} {statement} ({seen})"));
        self.checks.push(CheckedStatement { statement: statement.to_owned(), holds, seen: seen.clone() });
        if holds { Ok(()) } else { Err(DemoFailure(format!("{statement}: {seen}"))) }
    }

    fn look(&mut self, stage: &DemoStage, interrupted: &AtomicBool) -> Result<(), DemoFailure> {
        if interrupted.load(Relaxed) {
            return Err(DemoFailure("interrupted".to_owned()));
        }
        self.figures = stage.look();
        self.screen.show(table(&self.figures));
        Ok(())
    }
}

impl DemoStage {
    fn set() -> Self {
        // Without segmentation offload, captures see packets as a wire has them.
        let topology = Topology::without_offload();
        let station = TestStation::start(&topology.station, SocketAddr::new(STATION, STATION_PORT));
        let up1 = LinkCapture::start(&topology.router, "up1", STATION_PORT);
        let up2 = LinkCapture::start(&topology.router, "up2", STATION_PORT);
        let bmpd = Bmpd::start(&topology.router, CONFIGURATION);
        Self { topology, station, up1, up2, bmpd }
    }

    fn look(&self) -> DemoFigures {
        let session = self.bmpd.session(STATION);
        let kernel = &session["kernel"];
        let connections = self.station.connections();
        let updates =
            connections.iter().flat_map(|connection| connection.frames.iter().filter_map(ReceivedFrame::update));
        let routes: BTreeSet<_> = updates.flat_map(|update| update.announced).collect();
        let sent = |capture: &LinkCapture| {
            capture.packets().iter().filter(|packet| packet.direction == PacketDirection::Out).count()
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        DemoFigures {
            routes_at_station: routes.len(),
            station_bytes: connections.iter().map(|connection| connection.bytes).sum(),
            station_connections: connections.len(),
            sources_seen: connections.iter().map(|connection| connection.peer.ip()).collect(),
            kernel_tx_bytes: number(&kernel["tx_bytes"]),
            kernel_tx_packets: number(&kernel["tx_packets"]),
            kernel_payload_bytes: number(&kernel["tx_payload_bytes"]),
            retransmits: number(&kernel["retransmits"]),
            packets_by_up1: sent(&self.up1),
            packets_by_up2: sent(&self.up2),
            state: text(&session["state"]),
            reason: session["reason"].as_str().map(str::to_owned),
            established: number(&session["established_count"]),
            enforcement: text(&session["egress"]["enforcement"]),
        }
    }
}

/// True if both are equal, up to the retransmitted segments (at most 1,460 bytes each).
fn counters_agree(seen: &DemoFigures) -> (bool, String) {
    let (kernel, station) = (seen.kernel_payload_bytes, seen.station_bytes);
    let again = seen.retransmits * 1460;
    let agree = station > 0 && kernel >= station && kernel - station <= again;
    let again =
        if seen.retransmits > 0 { format!(", {} segments sent again", seen.retransmits) } else { String::new() };
    (agree, format!("kernel {} bytes, station {}{again}", grouped(kernel), grouped(station)))
}

fn table(figures: &DemoFigures) -> Vec<String> {
    let state = match &figures.reason {
        Some(reason) => format!("{} ({reason})", figures.state),
        None => figures.state.clone(),
    };
    let sources: Vec<_> = figures.sources_seen.iter().map(ToString::to_string).collect();
    let row = |name: &str, value: String| format!("    {name:<34}{value}");
    vec![
        String::new(),
        row("session to 198.51.100.7", state),
        row("sources the station has seen", sources.join(", ")),
        row("routes at the station", grouped(figures.routes_at_station as u64)),
        row(
            "payload: kernel / station",
            format!("{} / {} bytes", grouped(figures.kernel_payload_bytes), grouped(figures.station_bytes)),
        ),
        row(
            "on the wire, by the kernel",
            format!("{} bytes in {} packets", grouped(figures.kernel_tx_bytes), grouped(figures.kernel_tx_packets)),
        ),
        row(
            "packets captured: up1 / up2",
            format!("{} / {}", grouped(figures.packets_by_up1 as u64), grouped(figures.packets_by_up2 as u64)),
        ),
    ]
}

/// Formats `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
