//! The metrics of bmpd as a whole, and of its process.

use std::{collections::BTreeMap, fs, path::Path};

use super::{
    super::{
        super::ControlContext,
        http::{HttpReport, HttpState},
    },
    metric::{
        Metric, MetricKind, MetricReading, MetricSubject, Series, counted, counter, each, gauge, measured, number,
    },
};
use crate::{
    config::Config,
    input::bgp::BgpState,
    sys,
    tls::{CertificateRole, TlsProfiles},
};

const BYTES: Option<&str> = Some("bytes");
const SECONDS: Option<&str> = Some("seconds");

/// What belongs to no session, peer or input.
#[derive(Debug)]
pub(super) struct WholeReport {
    sessions: usize,
    is_ready: bool,
    is_on_trial: bool,
    losses: Option<u64>,
    lost_seconds: Option<f64>,
    bgp_peers: Vec<(BgpState, u64)>,
    bgp_refused: u64,
}

impl WholeReport {
    pub(super) fn of(context: &ControlContext, config: &Config) -> Self {
        let datapath = context.pins.datapath();
        let mut bgp_peers: Vec<_> = BgpState::ALL.into_iter().map(|state| (state, 0)).collect();
        for address in context.bgp_peers.addresses() {
            let state = context.bgp_peers.progress(address).map(|progress| progress.state);
            bgp_peers.iter_mut().filter(|(known, _)| Some(*known) == state).for_each(|(_, number)| *number += 1);
        }
        Self {
            sessions: config.bmp.sessions.len(),
            is_ready: context.not_ready().is_empty(),
            is_on_trial: *context.store.on_trial().borrow(),
            losses: datapath.losses(),
            lost_seconds: datapath.loss().map(|loss| loss.since.elapsed().as_secs_f64()),
            bgp_peers,
            bgp_refused: context.bgp_peers.listener().refused,
        }
    }
}

#[cfg(test)]
impl WholeReport {
    /// Returns a report in which something is lost.
    pub(super) fn sample() -> Self {
        Self {
            sessions: 3,
            is_ready: false,
            is_on_trial: true,
            losses: Some(1),
            lost_seconds: Some(2.5),
            bgp_peers: vec![(BgpState::Idle, 1), (BgpState::Established, 2)],
            bgp_refused: 4,
        }
    }
}

impl MetricSubject for WholeReport {
    const COMMAND: &'static str = "";
    const LABELS: &'static [&'static str] = &[];

    fn labels(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The metrics of bmpd as a whole.
pub(super) static WHOLE: [Metric<WholeReport>; 8] = [
    Metric {
        name: "bmpd_build",
        unit: None,
        kind: MetricKind::Info,
        help: "1; the label says the version",
        series: &[Series {
            labels: &[],
            json: "",
            reading: MetricReading::Labels(&["version"], |_| Some(vec![env!("CARGO_PKG_VERSION").to_owned()])),
        }],
    },
    gauge(
        "bmpd_ready",
        None,
        "1 if the pins of the configuration are in force, as /readyz says",
        &[number("", |whole| u64::from(whole.is_ready))],
    ),
    gauge("bmpd_sessions", None, "sessions that are configured", &[number("", |whole| whole.sessions as u64)]),
    gauge(
        "bmpd_configuration_trial",
        None,
        "1 while a configuration is on trial",
        &[number("", |whole| u64::from(whole.is_on_trial))],
    ),
    counter(
        "bmpd_enforcement_losses",
        None,
        "how many times bmpd found that the kernel did not enforce what it should",
        &[counted("", |whole| whole.losses)],
    ),
    gauge(
        "bmpd_enforcement_lost",
        SECONDS,
        "time since bmpd found a loss that lasts; no series if nothing is lost",
        &[measured("", |whole| whole.lost_seconds)],
    ),
    gauge(
        "bmpd_bgp_peers",
        None,
        "peers of the bgp view, by state",
        &[each("state", "", |whole| {
            whole.bgp_peers.iter().map(|(state, number)| (state.as_str().into(), *number)).collect()
        })],
    ),
    counter(
        "bmpd_bgp_refused_connections",
        None,
        "connections from hosts that are no BGP peer, which were closed",
        &[number("", |whole| whole.bgp_refused)],
    ),
];

/// When the certificates of a TLS profile expire that have one role.
#[derive(Debug)]
pub(super) struct CertificateExpiry {
    profile: String,
    role: CertificateRole,
    /// Of the certificate that expires first. Negative once it has.
    seconds_left: i64,
}

impl CertificateExpiry {
    pub(super) fn all(profiles: &TlsProfiles) -> Vec<Self> {
        let mut first = BTreeMap::new();
        for one in profiles.certificates() {
            let (id, left) = ((one.profile.clone(), one.certificate.role), one.seconds_left());
            first.entry(id).and_modify(|known: &mut i64| *known = left.min(*known)).or_insert(left);
        }
        let expiry = |((profile, role), seconds_left)| Self { profile, role, seconds_left };
        first.into_iter().map(expiry).collect()
    }
}

#[cfg(test)]
impl CertificateExpiry {
    /// Returns certificates of which one has expired.
    pub(super) fn samples() -> Vec<Self> {
        let of = |role, seconds_left| Self { profile: "stations".to_owned(), role, seconds_left };
        vec![of(CertificateRole::Own, 2_595_661), of(CertificateRole::TrustedCa, -90)]
    }
}

impl MetricSubject for CertificateExpiry {
    const COMMAND: &'static str = "";
    const LABELS: &'static [&'static str] = &["profile", "role"];

    fn labels(&self) -> Vec<String> {
        vec![self.profile.clone(), self.role.as_str().to_owned()]
    }
}

/// The metrics of TLS profiles.
pub(super) static CERTIFICATES: [Metric<CertificateExpiry>; 1] = [gauge(
    "bmpd_tls_certificate_expires",
    SECONDS,
    "time until the first certificate of a TLS profile expires that is its own, an intermediate one or a trusted CA; \
     negative once it has",
    &[measured("", |certificate| Some(certificate.seconds_left as f64))],
)];

impl MetricSubject for HttpReport {
    const COMMAND: &'static str = "display http";
    const LABELS: &'static [&'static str] = &[];

    fn labels(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The metrics of the HTTP server.
pub(super) static HTTP: [Metric<HttpReport>; 5] = [
    gauge(
        "bmpd_http_up",
        None,
        "1 if the HTTP server listens",
        &[number("", |http| u64::from(http.state == HttpState::Listening))],
    ),
    gauge(
        "bmpd_http_connections",
        None,
        "connections that are open",
        &[number("connections", |http| http.connections)],
    ),
    counter(
        "bmpd_http_requests",
        None,
        "requests that were answered, also by a refusal",
        &[number("requests", |http| http.requests)],
    ),
    counter(
        "bmpd_http_refused_connections",
        None,
        "connections beyond the limits, which were closed at once",
        &[number("refused", |http| http.refused)],
    ),
    counter(
        "bmpd_http_slow_connections",
        None,
        "connections that were closed because the client was too slow",
        &[number("slow", |http| http.slow)],
    ),
];

/// What the kernel says of this process (proc(5)). Files that cannot be read leave numbers out.
#[derive(Debug, Default)]
pub(super) struct ProcessReport {
    cpu_seconds: Option<f64>,
    start_seconds: Option<f64>,
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    threads: Option<f64>,
    open_files: Option<f64>,
    most_files: u64,
}

/// Returns when bmpd began, in seconds since the epoch.
pub(in crate::control::display) fn process_start() -> Option<f64> {
    ProcessReport::of_this().start_seconds
}

impl ProcessReport {
    pub(super) fn of_this() -> Self {
        let read = |name: &str| fs::read_to_string(Path::new("/proc").join(name)).unwrap_or_default();
        let stat = read("self/stat");
        // The name in front may have blanks and parentheses in it.
        let fields: Vec<_> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
        // The third field of proc(5) is the first one here.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let ticks = sys::clock_ticks();
        let began = read("stat").lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
        Self {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / ticks),
            start_seconds: began.zip(field(22)).map(|(began, ticks_after)| began + ticks_after / ticks),
            threads: field(20),
            virtual_bytes: field(23),
            resident_bytes: field(24).map(|pages| pages * sys::page_size()),
            open_files: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as f64),
            most_files: sys::file_limit() as u64,
        }
    }
}

impl MetricSubject for ProcessReport {
    const COMMAND: &'static str = "";
    const LABELS: &'static [&'static str] = &[];

    fn labels(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The metrics of the process, with the names that all Prometheus clients give them.
pub(super) static PROCESS: [Metric<ProcessReport>; 7] = [
    counter("process_cpu", SECONDS, "processor time of bmpd", &[measured("", |process| process.cpu_seconds)]),
    gauge(
        "process_start_time",
        SECONDS,
        "when bmpd began, since the epoch",
        &[measured("", |process| process.start_seconds)],
    ),
    gauge("process_resident_memory", BYTES, "memory in RAM", &[measured("", |process| process.resident_bytes)]),
    gauge("process_virtual_memory", BYTES, "address space", &[measured("", |process| process.virtual_bytes)]),
    gauge("process_threads", None, "threads", &[measured("", |process| process.threads)]),
    gauge("process_open_fds", None, "open file descriptors", &[measured("", |process| process.open_files)]),
    gauge("process_max_fds", None, "most file descriptors", &[number("", |process| process.most_files)]),
];
