//! Reports with every field set, and reports with as little as can be, for the tests of all
//! displays.
//!
//! Each literal names every field, so a new field does not compile until a sample has it. From
//! there the tests require the field in the kept answers and in `docs/reference/json.md`.

mod inputs;
mod peers;
mod sessions;

use std::net::{IpAddr, Ipv4Addr};

pub(super) use inputs::{feed, monitored, relays, replays, unlimited_feed};
pub(super) use peers::{no_speaker, speaker};
pub(super) use sessions::{bindings, sessions};

use super::{
    super::words::VpnInstanceName,
    commits::CommitReports,
    debugging::{DebuggedTopic, DebuggingReport, DebuggingReports},
    egress::Enforcer,
    http::{HttpReport, HttpState},
    log_buffer::{LogLineReport, LogReport},
    version::VersionReport,
};
use crate::{
    config::{CommitOrigin, CommitRecord, TrialReport},
    escape::Untrusted,
};

const STATION: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 65));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
const ROUTER_ID: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn outside(text: &str) -> Option<Untrusted> {
    Some(Untrusted::new(text))
}

/// A server that listens, one that cannot, and none.
pub(super) fn http() -> Vec<HttpReport> {
    let listening = HttpReport {
        listen: text("192.0.2.1:9179"),
        vpn_instance: text("mgmt"),
        state: HttpState::Listening,
        why: None,
        connections: 2,
        requests: 345,
        refused: 6,
        slow: 7,
    };
    let failed = HttpReport {
        vpn_instance: None,
        state: HttpState::Failed,
        why: text("the address is not on this host"),
        ..listening.clone()
    };
    let none = HttpReport { listen: None, why: None, state: HttpState::NotConfigured, ..failed.clone() };
    vec![listening, failed, none]
}

/// A trial of a user with a name whose connection is open, and one of a user that nobody knows.
pub(super) fn trials() -> [Option<TrialReport>; 3] {
    let trial = TrialReport {
        user: text("root"),
        uid: Some(0),
        process: Some(4713),
        connected: true,
        seconds: 30,
        seconds_left: 12,
    };
    let unknown = TrialReport { user: None, uid: None, process: None, connected: false, ..trial.clone() };
    [None, Some(trial), Some(unknown)]
}

/// A bmpd that the kernel helps, and one that it does not.
pub(super) fn versions() -> [VersionReport; 2] {
    let enforced = VersionReport {
        version: "0.1.0",
        build: "release",
        architecture: "x86_64",
        kernel: "6.1.0-31-amd64".to_owned(),
        enforcement: Enforcer::Kernel,
        why: None,
        capabilities: ["CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_PERFMON"].map(str::to_owned).into(),
        sandbox_lacks: Vec::new(),
        uptime_seconds: Some(90_061),
    };
    let bound = VersionReport {
        build: "debug",
        enforcement: Enforcer::Socket,
        why: text("--datapath socket"),
        capabilities: Vec::new(),
        sandbox_lacks: vec!["files: not in force: the kernel has no Landlock".to_owned()],
        uptime_seconds: None,
        ..enforced.clone()
    };
    [enforced, bound]
}

/// A session with an alias in a VPN instance, and one without.
pub(super) fn debugging() -> DebuggingReports {
    let plain = DebuggingReport {
        station: STATION,
        vpn_instance: VpnInstanceName(None),
        alias: None,
        topic: DebuggedTopic::Messages,
        seconds_left: 599,
    };
    let named = DebuggingReport {
        vpn_instance: VpnInstanceName(text("mgmt")),
        alias: text("lab"),
        topic: DebuggedTopic::Connection,
        ..plain.clone()
    };
    DebuggingReports(vec![plain, named])
}

/// A line with fields, and one without.
pub(super) fn log() -> LogReport {
    let plain = LogLineReport {
        time: "2026-11-29T23:36:00.000001Z".to_owned(),
        level: "info".to_owned(),
        message: "ready, control socket /run/bmpd/bmpd.sock".to_owned(),
        fields: [].into(),
    };
    let down = LogLineReport {
        time: "2026-11-29T23:36:02.000000Z".to_owned(),
        level: "warn".to_owned(),
        message: "session 198.51.100.7: down: no-route: up2 has no route".to_owned(),
        fields: [("session", "198.51.100.7".to_owned()), ("reason", "no-route".to_owned())].into(),
    };
    LogReport { limit: 1024, dropped: 7, lines: vec![plain, down] }
}

/// A commit with a note, a return to an earlier one by a user that nobody knows, and what came from
/// the file.
pub(super) fn commits() -> CommitReports {
    let noted = CommitRecord {
        id: 3,
        time: "2026-11-29T23:36:02.000000Z".to_owned(),
        origin: CommitOrigin::Commit,
        user: text("alice"),
        uid: Some(1000),
        process: Some(4711),
        program: outside("bmpctl"),
        label: text("moved"),
        description: text("the station moves to up2"),
        added: 2,
        removed: 1,
    };
    let unknown = CommitRecord {
        id: 2,
        origin: CommitOrigin::Rollback,
        user: None,
        uid: None,
        process: None,
        program: None,
        label: None,
        description: text("rollback to commit 1"),
        ..noted.clone()
    };
    let file =
        CommitRecord { id: 1, origin: CommitOrigin::File, description: None, added: 0, removed: 0, ..unknown.clone() };
    CommitReports { commits: vec![noted, unknown, file], fault: text("cannot write it: No space left on device") }
}
