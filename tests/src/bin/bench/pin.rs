//! What the kernel programs cost: nanoseconds a packet, and throughput of what is pinned and of what is not, beside rules of nftables.
//!
//! The programs are attached to a cgroup of the benchmark's own, and what is measured is whose sockets are in it: the same traffic by a socket of
//! the cgroup and by one of none is with and without programs, from one moment to the next.

mod bpf;
mod interval;
mod nft;
mod packets;
mod runs;
mod throughput;
mod traffic;

use std::io;

use lab::{
    bmpd::{Bmpd, Options},
    kernel::Cgroup,
    topology::STATION_PORT,
};
use serde_json::Value;

use crate::{
    Setting,
    links::{Links, STATION},
    report::Report,
};

const BENCH: &str = "pin";
/// Where the pinned session goes.
const PINNED: u16 = STATION_PORT;
/// Where goes what bmpd has nothing to do with.
const OTHER: u16 = STATION_PORT + 1;
/// Where the session listens that has a guard.
const LISTENING: u16 = STATION_PORT + 2;

/// `pin`.
pub(crate) fn run(setting: &Setting, report: &mut Report) -> io::Result<()> {
    let nft = nft::version();
    match &nft {
        Ok(version) => report.subject("nftables", version),
        Err(why) => report.absent("nftables", why),
    }
    runs::guard(setting, report)?;
    let pinned = Pinned::start(&setting.links)?;
    runs::tested(setting, &pinned, report)?;
    runs::live(setting, &pinned, report)?;
    runs::datagrams(setting, &pinned, nft.is_ok(), report)?;
    throughput::run(setting, &pinned, nft.is_ok(), report)
}

/// bmpd with a session that another process opens, so that what is sent is the benchmark's own, and the cgroup that its programs see.
///
/// bmpd is in the cgroup, and so has to end before it.
struct Pinned {
    bmpd: Bmpd,
    cgroup: Cgroup,
}

impl Pinned {
    fn start(links: &Links) -> io::Result<Self> {
        let session = format!("  adopt\n  tcp connect port {PINNED}\n  connect-interface to-station\n");
        let (cgroup, bmpd) = bmpd(links, &session);
        let pinned = Self { bmpd, cgroup };
        // Until bmpd has resolved it, it enforces nothing.
        let resolved = |session: &Value| session["egress"]["enforcement"] != "none";
        let shown = &pinned.bmpd.wait_session(STATION.into(), "has an interface", resolved)["egress"];
        if shown["enforcement"] != "cgroup" {
            return Err(io::Error::other(format!("bmpd does not enforce by its programs here: {shown}")));
        }
        Ok(pinned)
    }

    /// How many bytes of TCP payload the session has sent, as its counters have it.
    fn counted(&self) -> u64 {
        self.bmpd.session(STATION.into())["kernel"]["tx_payload_bytes"].as_u64().unwrap_or(0)
    }
}

/// bmpd with one session, in a cgroup and attached to it.
fn bmpd(links: &Links, session: &str) -> (Cgroup, Bmpd) {
    let cgroup = Cgroup::new();
    let configuration = format!("bmp\n bmp-session {STATION}\n{session}");
    let options = Options { arguments: &["--cgroup", cgroup.path()], ..Options::default() };
    let bmpd = Bmpd::start_with(&links.router, &configuration, &options);
    (cgroup, bmpd)
}
