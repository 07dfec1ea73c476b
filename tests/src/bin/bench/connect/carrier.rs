//! A pinned interface regains its carrier: the time until its session is established again.

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use lab::{bmpd::Bmpd, netns::Netns, topology::STATION_PORT};

use super::{
    BENCH, PATIENCE,
    crowd::{Crowd, SessionChange},
    hosts::{BenchHosts, INTERFACES, STATIONS, session, source, station},
    percentile,
};
use crate::{
    BenchSetting,
    dump::one,
    report::{BenchReport, RatioGoal, Samples},
    say,
};

/// Milliseconds within which a session must be established again.
const AGAIN: f64 = 100.0;
/// Losses of all carriers in each run.
const ROUNDS: usize = 4;

/// Measures one session an interface, each with the clock for itself. Then measures all sessions,
/// where each interface brings its sessions back at once.
pub(super) fn run(setting: &BenchSetting, hosts: &BenchHosts, report: &mut BenchReport) -> io::Result<()> {
    for each in [1, STATIONS] {
        let RecoveryTimes { since_told, since_set } = measure(setting, hosts, each)?;
        let sessions = usize::from(INTERFACES) * usize::from(each);
        let what = format!("ms from carrier to re-established, {sessions} sessions, 99 of 100");
        report.ratio(BENCH, what, percentile(&since_told, 0.99), RatioGoal::AtMost(AGAIN));
        for (since, milliseconds) in
            [("carrier, told by the kernel", &since_told), ("carrier, far end's `ip link set up`", &since_set)]
        {
            let subject = format!("{since}, {sessions} sessions");
            let mut samples = Samples::default();
            milliseconds.iter().for_each(|value| samples.push(*value));
            report.row(BENCH, &subject, "re-established, median", "ms", samples);
            report.row(BENCH, &subject, "re-established, 99 of 100", "ms", one(percentile(milliseconds, 0.99)));
        }
    }
    Ok(())
}

/// Times of each session, in milliseconds.
#[derive(Default)]
struct RecoveryTimes {
    /// Since the kernel announced the carrier.
    since_told: Vec<f64>,
    /// Since the far end was set up.
    since_set: Vec<f64>,
}

/// Measures this many sessions behind each interface.
fn measure(setting: &BenchSetting, hosts: &BenchHosts, each: u8) -> io::Result<RecoveryTimes> {
    let all = || (0..INTERFACES).flat_map(move |i| (1..=each).map(move |number| (i, station(i, number))));
    let crowd = Crowd::listen(&hosts.station, STATION_PORT)?;
    let configuration: String = all().map(|(interface, station)| session(interface, station)).collect();
    let bmpd = Bmpd::start(&hosts.router, &format!("bmp\n{configuration}"));
    for _ in all() {
        crowd.next(PATIENCE, "sessions that are established")?;
    }
    let monitor = CarrierMonitor::new(&hosts.router)?;
    let mut back = RecoveryTimes::default();
    for round in 1..=ROUNDS * setting.runs {
        if round % setting.runs == 1 || setting.runs == 1 {
            say(&format!(
                "connect: {} sessions, carrier lost and back, time {round} of {}",
                all().count(),
                ROUNDS * setting.runs
            ))?;
        }
        let down: Vec<_> = (0..INTERFACES).map(|i| format!("link set q{i} down")).collect();
        hosts.station.ip(&down.join("\n"));
        for (_, station) in all() {
            bmpd.wait_down(station, "interface-down");
        }
        // One interface after the other, so that each has the clock for itself.
        for i in 0..INTERFACES {
            crowd.forget();
            monitor.forget()?;
            let ifindex = hosts.router.ifindex(&format!("p{i}"));
            let (set, announced) = thread::scope(|scope| {
                // Takes the time at the announcement, and not after `ip` has ended.
                let announced = scope.spawn(|| monitor.carrier(ifindex));
                let set = Instant::now();
                hosts.station.ip(&format!("link set q{i} up"));
                (set, announced.join())
            });
            let announced =
                announced.map_err(|_| io::Error::other("the thread that listens to the kernel failed"))??;
            let its = (1..=each).map(|number| station(i, number)).collect();
            for at in established(&crowd, its, source(i))? {
                back.since_told.push(1e3 * at.saturating_duration_since(announced).as_secs_f64());
                back.since_set.push(1e3 * (at - set).as_secs_f64());
            }
        }
    }
    Ok(back)
}

/// Returns the times at which the sessions to these stations were established.
fn established(crowd: &Crowd, mut stations: BTreeSet<IpAddr>, source: IpAddr) -> io::Result<Vec<Instant>> {
    let mut times = Vec::new();
    while !stations.is_empty() {
        let seen = crowd.next(PATIENCE, "sessions that are established again")?;
        if seen.what == SessionChange::Established && stations.remove(&seen.station) {
            if seen.source != source {
                return Err(io::Error::other(format!(
                    "the session to {} came back from {}",
                    seen.station, seen.source
                )));
            }
            times.push(seen.at);
        }
    }
    Ok(times)
}

/// Listens to the kernel's messages about interfaces, as bmpd does.
struct CarrierMonitor(OwnedFd);

/// Bytes of `struct nlmsghdr` (linux/netlink.h).
const HEADER: usize = 16;
/// Bytes of `struct ifinfomsg` (linux/rtnetlink.h).
const LINK: usize = 16;

impl CarrierMonitor {
    fn new(netns: &Netns) -> io::Result<Self> {
        netns.enter(|| {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            // SAFETY: the call takes numbers, and its descriptor is new.
            let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
            if socket < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the descriptor is open and has no other owner.
            let monitor = Self(unsafe { OwnedFd::from_raw_fd(socket) });
            // SAFETY: zero is valid for every field of this plain structure.
            let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
            address.nl_family = libc::AF_NETLINK as u16;
            address.nl_groups = libc::RTMGRP_LINK as u32;
            let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            // SAFETY: the address has the layout and size of its family.
            let result = unsafe { libc::bind(monitor.0.as_raw_fd(), (&raw const address).cast(), length) };
            if result == 0 { Ok(monitor) } else { Err(io::Error::last_os_error()) }
        })
    }

    /// Waits until an interface has a carrier. Returns the time of the announcement.
    fn carrier(&self, ifindex: u32) -> io::Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let bytes = self.read(left)?;
            let now = Instant::now();
            let Some(bytes) = bytes else {
                return Err(io::Error::other(format!("interface {ifindex} got no carrier in {PATIENCE:?}")));
            };
            if has_carrier(&bytes, ifindex) {
                return Ok(now);
            }
        }
    }

    /// Discards earlier messages.
    fn forget(&self) -> io::Result<()> {
        while self.read(Duration::ZERO)?.is_some() {}
        Ok(())
    }

    /// Returns messages that arrive within `patience`.
    fn read(&self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        let mut wait = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the call reads and writes one pollfd.
        let ready = unsafe { libc::poll(&raw mut wait, 1, patience.as_millis() as libc::c_int) };
        match ready {
            0 => return Ok(None),
            1.. => {}
            _ => return Err(io::Error::last_os_error()),
        }
        let mut bytes = vec![0_u8; 32 * 1024];
        // SAFETY: the buffer has the given length.
        let read = unsafe { libc::recv(self.0.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        bytes.truncate(usize::try_from(read).map_err(|_| io::Error::last_os_error())?);
        Ok(Some(bytes))
    }
}

/// True if one of the messages says that the interface has a carrier.
fn has_carrier(mut bytes: &[u8], ifindex: u32) -> bool {
    while let Some(header) = bytes.first_chunk::<{ HEADER + LINK }>() {
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (length, kind) = (word(0) as usize, u16::from_ne_bytes([header[4], header[5]]));
        let (index, flags) = (word(HEADER + 4), word(HEADER + 8));
        if kind == libc::RTM_NEWLINK && index == ifindex && flags & libc::IFF_LOWER_UP as u32 != 0 {
            return true;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}
