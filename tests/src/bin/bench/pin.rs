//! The cost of the kernel programs: nanoseconds a packet, and throughput of pinned and other
//! traffic, beside rules of nftables.
//!
//! The programs are attached to the benchmark's own cgroup. Sockets in this cgroup run under the
//! programs, all others do not. So the same traffic can alternate between both at any moment.

mod bpf;
mod interval;
mod nft;
mod packets;
mod runs;
mod throughput;
mod traffic;

use std::io;

use lab::{
    bmpd::{Bmpd, StartOptions},
    kernel::TestCgroup,
    topology::STATION_PORT,
};
use serde_json::Value;

use crate::{
    BenchSetting,
    links::{BenchLinks, STATION},
    report::BenchReport,
};

const BENCH: &str = "pin";
/// Port of the pinned session.
const PINNED: u16 = STATION_PORT;
/// Port of traffic that bmpd has nothing to do with.
const OTHER: u16 = STATION_PORT + 1;
/// Port of the listening session that has a guard.
const LISTENING: u16 = STATION_PORT + 2;

/// Runs the benchmark `pin`.
pub(crate) fn run(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    let nft = nft::version();
    match &nft {
        Ok(version) => report.subject("nftables", version),
        Err(why) => report.absent("nftables", why),
    }
    runs::guard(setting, report)?;
    let pinned = PinnedBmpd::start(&setting.links)?;
    runs::tested(setting, &pinned, report)?;
    runs::live(setting, &pinned, report)?;
    runs::datagrams(setting, &pinned, nft.is_ok(), report)?;
    throughput::run(setting, &pinned, nft.is_ok(), report)
}

/// A bmpd with an adopted session, and the cgroup of its programs. The benchmark itself opens the
/// session, so it controls the traffic.
///
/// bmpd is in the cgroup, so it must be dropped first.
struct PinnedBmpd {
    bmpd: Bmpd,
    cgroup: TestCgroup,
}

impl PinnedBmpd {
    fn start(links: &BenchLinks) -> io::Result<Self> {
        let session = format!("  adopt\n  tcp connect port {PINNED}\n  connect-interface to-station\n");
        let (cgroup, bmpd) = bmpd(links, &session);
        let pinned = Self { bmpd, cgroup };
        // bmpd enforces nothing before it has resolved the interface.
        let resolved = |session: &Value| session["egress"]["enforcement"] != "none";
        let shown = &pinned.bmpd.wait_session(STATION.into(), "has an interface", resolved)["egress"];
        if shown["enforcement"] != "cgroup" {
            return Err(io::Error::other(format!("bmpd does not enforce by its programs here: {shown}")));
        }
        Ok(pinned)
    }

    /// Returns the TCP payload bytes that the session's counters have.
    fn counted(&self) -> u64 {
        self.bmpd.session(STATION.into())["kernel"]["tx_payload_bytes"].as_u64().unwrap_or(0)
    }
}

/// Starts a bmpd with one session, in a new cgroup and attached to it.
fn bmpd(links: &BenchLinks, session: &str) -> (TestCgroup, Bmpd) {
    let cgroup = TestCgroup::new();
    let configuration = format!("bmp\n bmp-session {STATION}\n{session}");
    let options = StartOptions { arguments: &["--cgroup", cgroup.path()], ..StartOptions::default() };
    let bmpd = Bmpd::start_with(&links.router, &configuration, &options);
    (cgroup, bmpd)
}
