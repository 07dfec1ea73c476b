//! 500 routers of 20 peers behind one relay, and three stations: with a connection for each router,
//! and with one connection for all. Measures the time until every station has every route, and the
//! memory and CPU time of bmpd by then.

mod hall;

use std::{
    fs,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use lab::{
    bgp::{self, prefixes},
    bmp::{self, PRE_POLICY, ReportedPeer},
    bmpd::Bmpd,
    footprint::resident,
    topology::{STATION, STATION_PORT, Topology},
    wait::until,
};
use nix::unistd::{SysconfVar, sysconf};
use socket2::{Domain, Socket, Type};

use crate::{
    BenchSetting, PATIENCE, interrupt, ordinal,
    report::{BenchReport, RatioGoal, Samples},
    say,
    subject::RELAY,
};
use hall::StationHall;

const BENCH: &str = "front-door";
const ROUTERS: u16 = 500;
const PEERS: u8 = 20;
const STATIONS: u16 = 3;
/// Routes of each peer.
const ROUTES: usize = 10;
/// Flaps of one router at the end of each run.
const FLAPS: usize = 5;
/// Seconds within which every station must have every route, with a connection for each router.
const ALL: f64 = 30.0;

/// How the stations are told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    PerRouter,
    Merged,
}

impl Manner {
    fn name(self) -> &'static str {
        match self {
            Self::PerRouter => "1,500 connections: one for each router and station",
            Self::Merged => "3 connections: one for each station",
        }
    }

    fn configuration(self) -> String {
        let line = if self == Self::PerRouter { "  per-router\n" } else { "" };
        let session = |number| {
            let port = STATION_PORT + number;
            format!(
                " bmp-session {STATION} alias s{number}\n  tcp connect port {port}\n  connect-interface up2\n{line} quit\n"
            )
        };
        let sessions: String = (0..STATIONS).map(session).collect();
        format!(
            "bmp-relay front\n listen {} port {}\n max-connections 1024 per-source 1024\n end-of-rib-after 0\nquit\nbmp\n{sessions}return\n",
            RELAY.ip(),
            RELAY.port()
        )
    }
}

/// What one run measured.
struct FrontDoorRun {
    seconds: f64,
    cpu_seconds: f64,
    mebibytes: f64,
}

/// Runs the benchmark `front-door`.
pub(crate) fn run(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    let mut slowest = 0.0_f64;
    for manner in [Manner::Merged, Manner::PerRouter] {
        let (mut times, mut cpu, mut memory) = (Samples::default(), Samples::default(), Samples::default());
        for run in 0..=setting.runs {
            say(&format!("front-door: {}, {}", manner.name(), ordinal(run)))?;
            let FrontDoorRun { seconds, cpu_seconds, mebibytes } = once(manner)?;
            if run > 0 {
                times.push(seconds);
                cpu.push(cpu_seconds);
                memory.push(mebibytes);
                slowest = if manner == Manner::PerRouter { slowest.max(seconds) } else { slowest };
            }
        }
        report.row(BENCH, manner.name(), "all stations have all", "s", times);
        report.row(BENCH, manner.name(), "CPU time of bmpd by then", "s", cpu);
        report.row(BENCH, manner.name(), "resident memory of bmpd", "MiB", memory);
    }
    let what = format!("s until 3 stations have all of {ROUTERS} routers, the longest");
    report.ratio(BENCH, what, slowest, RatioGoal::AtMost(ALL));
    Ok(())
}

fn once(manner: Manner) -> io::Result<FrontDoorRun> {
    let topology = Topology::new();
    let address = |number| SocketAddr::from((STATION, STATION_PORT + number));
    let halls: Vec<_> = (0..STATIONS)
        .map(|number| StationHall::listen(&topology.station, address(number)))
        .collect::<io::Result<_>>()?;
    let bmpd = Bmpd::start(&topology.router, &manner.configuration());
    let streams: Vec<_> = (0..ROUTERS).map(stream).collect();
    let before = cpu_time(bmpd.pid())?;
    let began = Instant::now();
    let mut routers = Vec::new();
    for (number, bytes) in (0..).zip(&streams) {
        let mut router = topology.router.enter(|| connect(number));
        router.write_all(bytes)?;
        routers.push(router);
    }
    let all = u64::from(ROUTERS) * u64::from(PEERS) * ROUTES as u64;
    let has_all = || halls.iter().all(|hall| hall.routes() >= all).then_some(());
    wait(&format!("{all} routes at each station"), has_all)?;
    let seconds = began.elapsed().as_secs_f64();
    let measured = FrontDoorRun {
        seconds,
        cpu_seconds: (cpu_time(bmpd.pid())? - before).as_secs_f64(),
        mebibytes: resident(bmpd.pid()) as f64 / 1024.0,
    };
    if manner == Manner::PerRouter {
        flap(&topology, &halls, routers, &streams)?;
    }
    Ok(measured)
}

/// Has one router go away and return, and fails if another one's connection is told anything.
fn flap(
    topology: &Topology,
    halls: &[StationHall],
    mut routers: Vec<TcpStream>,
    streams: &[Vec<u8>],
) -> io::Result<()> {
    let (Some(bytes), Some(number)) = (streams.last(), streams.len().checked_sub(1)) else { return Ok(()) };
    let own = hall::name_of(bytes);
    let before: Vec<_> = halls.iter().map(StationHall::bytes_by_router).collect();
    for _ in 0..FLAPS {
        let told = |hall: &StationHall| hall.bytes_by_router().get(&own).copied().unwrap_or_default();
        let so_far: Vec<_> = halls.iter().map(told).collect();
        drop(routers.pop());
        let mut router = topology.router.enter(|| connect(u16::try_from(number).unwrap_or(u16::MAX)));
        // Without a new route, a router that returns within the hold says nothing new.
        router.write_all(bytes)?;
        let peer = reported(u16::try_from(number).unwrap_or(u16::MAX), 0);
        let further = prefixes(ROUTES + 1).split_off(ROUTES);
        router.write_all(&bmp::announcements(&peer, &further, 1).concat())?;
        let withdrawn = bgp::withdraw(&further);
        router.write_all(&bmp::route_monitoring(&peer, PRE_POLICY, &withdrawn))?;
        routers.push(router);
        let is_told = || halls.iter().zip(&so_far).all(|(hall, before)| told(hall) > *before).then_some(());
        wait("the flap at each station", is_told)?;
    }
    for (hall, before) in halls.iter().zip(before) {
        let after = hall.bytes_by_router();
        if let Some((other, _)) = before.iter().find(|(name, bytes)| **name != own && after.get(*name) != Some(*bytes))
        {
            return Err(io::Error::other(format!("a flap of {own} was told on the connection of {other}")));
        }
        if hall.connections() != usize::from(ROUTERS) {
            return Err(io::Error::other(format!("a station has {} connections", hall.connections())));
        }
    }
    Ok(())
}

fn wait(what: &str, mut look: impl FnMut() -> Option<()>) -> io::Result<()> {
    let mut interrupted = Ok(());
    until(what, PATIENCE, || {
        interrupted = interrupt::check();
        if interrupted.is_err() { Some(()) } else { look() }
    });
    interrupted
}

fn reported(router: u16, peer: u8) -> ReportedPeer {
    let [high, low] = router.to_be_bytes();
    ReportedPeer { address: [10, high, low, peer + 1].into(), ..ReportedPeer::default() }
}

/// Returns what a router sends: its Initiation, and for each peer Peer Up, routes and End-of-RIB.
fn stream(router: u16) -> Vec<u8> {
    let mut bytes = bmp::initiation(&format!("edge{router}"));
    for peer in (0..PEERS).map(|peer| reported(router, peer)) {
        bytes.extend(bmp::peer_up(&peer));
        bytes.extend(bmp::announcements(&peer, &prefixes(ROUTES), 1).concat());
        bytes.extend(bmp::route_monitoring(&peer, PRE_POLICY, &bgp::end_of_rib()));
    }
    bytes
}

/// Connects to the relay from an address of the router's own.
fn connect(router: u16) -> TcpStream {
    let [high, low] = router.to_be_bytes();
    let own = SocketAddr::from((Ipv4Addr::new(127, 1, high, low.max(1)), 0));
    until("the relay listens", PATIENCE, || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
        socket.bind(&own.into()).ok()?;
        socket.connect(&RELAY.into()).ok()?;
        Some(socket.into())
    })
}

/// Returns the CPU time of a process, in user and kernel mode (proc_pid_stat(5), fields 14 and 15).
fn cpu_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' ')).into_iter().flatten();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let a_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100);
    Ok(Duration::from_secs_f64(ticks as f64 / a_second as f64))
}
