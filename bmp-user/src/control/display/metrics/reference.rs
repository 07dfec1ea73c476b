//! Holds the metrics to the JSON of the displays, and `docs/reference/metrics.md` to the metrics.
//!
//! `BMPD_BLESS=1` writes the page anew.

use std::{collections::BTreeSet, env, fmt::Write as _, fs, path::PathBuf};

use serde_json::Value;

use super::{
    super::{golden, json_document, samples},
    input,
    metric::{Metric, MetricKind, MetricReading, MetricSubject, Series},
    peer, process, routers, session, *,
};

/// Why a number of a display has no metric of its own.
enum Unmeasured {
    /// It names something, or is where something is.
    Identity,
    /// It is a setting.
    Setting,
    /// Another metric has it.
    MetricHas(&'static str),
    /// It is about displays alone.
    Display,
}

use Unmeasured::{Display, Identity, MetricHas, Setting};

/// The numbers of displays without a metric of the same value.
static UNMEASURED: [(&str, &str, Unmeasured); 63] = [
    ("display bmp session", "port", Setting),
    ("display bmp session", "process.pid", Identity),
    ("display bmp session", "local_port", Identity),
    ("display bmp session", "keychain.current_key", Identity),
    ("display bmp session", "keychain.requested_key", Identity),
    ("display bmp session", "keychain.next_key", Identity),
    ("display bmp session", "tls.certificate_expires_in_seconds", MetricHas("bmpd_tls_certificate_expires_seconds")),
    ("display bmp session", "egress.lost.for_seconds", MetricHas("bmpd_enforcement_lost_seconds")),
    ("display bmp session", "egress.losses", MetricHas("bmpd_enforcement_losses_total")),
    ("display bmp session", "counters_reset_seconds", Display),
    ("display bmp session", "unheld.connections[].pid", Identity),
    ("display bmp session", "unheld.connections[].local_port", Identity),
    ("display bmp session", "feed.lag_limit_bytes", Setting),
    ("display bmp session", "dump_rate", Setting),
    ("display bmp session", "feed.dump.percent", MetricHas("bmpd_session_dump_routes")),
    ("display bmp session", "feed.dump.begins_in_seconds", Display),
    ("display bmp session", "feed.head", MetricHas("bmpd_feed_journal_messages_total")),
    ("display bmp session", "routers.connections[].port", Identity),
    ("display bmp session", "routers.connections[].local_port", Identity),
    ("display bmp session", "routers.connections[].retry_in_seconds", MetricHas("bmpd_session_router_age_seconds")),
    ("display interface-binding", "held.for_seconds", MetricHas("bmpd_session_held_seconds")),
    ("display bgp peer", "local_as", Setting),
    ("display bgp peer", "listener.port", Setting),
    ("display bgp peer", "listener.refused", MetricHas("bmpd_bgp_refused_connections_total")),
    ("display bgp peer", "peers[].as", Setting),
    ("display bgp peer", "peers[].local_port", Identity),
    ("display bgp peer", "peers[].remote_port", Identity),
    ("display bgp peer", "peers[].keepalive_seconds", Setting),
    ("display bgp peer", "peers[].received.total", MetricHas("bmpd_bgp_peer_received_messages_total")),
    ("display bgp peer", "peers[].sent.total", MetricHas("bmpd_bgp_peer_sent_messages_total")),
    ("display bgp peer", "peers[].configured.port", Setting),
    ("display bgp peer", "peers[].configured.hold_seconds", Setting),
    ("display bgp peer", "peers[].configured.keepalive_seconds", Setting),
    ("display bgp peer", "peers[].configured.maximum_routes", Setting),
    ("display bgp peer", "peers[].egress.lost.for_seconds", MetricHas("bmpd_enforcement_lost_seconds")),
    ("display bgp peer", "peers[].egress.losses", MetricHas("bmpd_enforcement_losses_total")),
    ("display debugging", "seconds_left", Display),
    ("display bgp bmp-monitor all", "as", Identity),
    ("display bgp bmp-monitor all", "sessions[].lag_bytes", MetricHas("bmpd_session_lag_bytes")),
    ("display bmp feed", "routes", MetricHas("bmpd_feed_routes")),
    ("display bmp relay", "connections[].uid", Identity),
    ("display bmp relay", "connections[].messages", MetricHas("bmpd_relay_received_messages_total")),
    ("display bmp relay", "connections[].bytes", MetricHas("bmpd_relay_received_bytes_total")),
    ("display bmp relay", "connections[].routes", MetricHas("bmpd_feed_routes")),
    ("display bmp relay", "connections[].unannounced", MetricHas("bmpd_relay_unannounced_messages_total")),
    ("display bmp relay", "connections[].not_understood", MetricHas("bmpd_relay_not_understood_messages_total")),
    ("display bmp relay", "connections[].odd", MetricHas("bmpd_relay_left_out_messages_total")),
    ("display bmp relay", "connections[].refused_messages", MetricHas("bmpd_relay_refused_messages_total")),
    ("display bmp relay", "connections[].refused_peers[].peer_type", Identity),
    ("display bmp relay", "connections[].refused_peers[].as", Identity),
    ("display bmp relay", "connections[].refused_peers[].dropped", MetricHas("bmpd_relay_refused_messages_total")),
    ("display bmp relay", "hold_seconds", Setting),
    ("display bmp relay", "end_of_rib_after_seconds", Setting),
    ("display bmp relay", "max_connections", Setting),
    ("display bmp relay", "max_connections_per_source", Setting),
    ("display bmp relay", "maximum_routes", Setting),
    ("display bmp relay", "limited[].uid", Identity),
    ("display bmp relay", "limited[].routes", MetricHas("bmpd_relay_limited")),
    ("display bmp relay", "limited[].left_seconds", MetricHas("bmpd_relay_limited")),
    ("display bmp relay", "held[].left_seconds", MetricHas("bmpd_relay_held_daemons")),
    ("display bmp relay", "peers_without_routes[].as", Identity),
    ("display bmp relay", "incomplete_peers[].as", Identity),
    ("display version", "uptime_seconds", MetricHas("process_start_time_seconds")),
];

/// The same for fields that lie below a field.
static UNMEASURED_BELOW: [(&str, &str, Unmeasured); 8] = [
    ("display bmp session", "routers.connections[].messages", MetricHas("bmpd_session_sent_messages_total")),
    ("display bmp relay", "incomplete_peers[].not_kept", MetricHas("bmpd_feed_trouble_total")),
    ("display mrt-replay", "passed_over[].first_", Identity),
    ("display mrt-replay", "not_understood", MetricHas("bmpd_replay_not_understood_updates")),
    ("display configuration trial", "", MetricHas("bmpd_configuration_trial")),
    ("display configuration commit list", "", Identity),
    // The log itself is what is watched.
    ("display logbuffer", "", Identity),
    ("commit", "", Identity),
];

/// A metric without the type of its report.
struct Described {
    command: &'static str,
    name: String,
    kind: MetricKind,
    labels: BTreeSet<&'static str>,
    help: &'static str,
    /// The fields of the JSON that have its values.
    json: Vec<&'static str>,
}

fn described<T: MetricSubject>(metrics: &'static [Metric<T>]) -> Vec<Described> {
    let of_series = |series: &Series<T>| -> Vec<&'static str> {
        let own = match &series.reading {
            MetricReading::Number(_) | MetricReading::Counted(_) | MetricReading::Measured(_) => Vec::new(),
            MetricReading::Each(label, _) => vec![*label],
            MetricReading::EachOfTwo(labels, _) => labels.to_vec(),
            MetricReading::Labels(labels, _) => labels.to_vec(),
        };
        series.labels.iter().map(|(name, _)| *name).chain(own).collect()
    };
    let one = |metric: &'static Metric<T>| Described {
        command: T::COMMAND,
        name: metric.full_name(),
        kind: metric.kind,
        labels: T::LABELS.iter().copied().chain(metric.series.iter().flat_map(of_series)).collect(),
        help: metric.help,
        json: metric.series.iter().map(|series| series.json).filter(|json| !json.is_empty()).collect(),
    };
    metrics.iter().map(one).collect()
}

/// Returns all metrics, by the title of their table in the page.
fn all() -> Vec<(&'static str, Vec<Described>)> {
    vec![
        ("bmpd as a whole", described(&process::WHOLE)),
        ("Sessions", described(&session::SESSION)),
        ("Sessions with `per-router`", described(&routers::ROUTERS)),
        ("The feed", described(&input::FEED)),
        ("Relays", described(&input::RELAY)),
        ("Replays", described(&input::REPLAY)),
        ("BGP peers, with `http peer-metrics`", described(&peer::BGP_PEER)),
        ("Peers of all inputs, with `http peer-metrics`", described(&peer::PEER)),
        ("TLS certificates", described(&process::CERTIFICATES)),
        ("The HTTP server", described(&process::HTTP)),
        ("The process", described(&process::PROCESS)),
    ]
}

#[test]
fn every_number_of_a_display_has_a_metric_or_a_reason_for_none() {
    let metrics: Vec<_> = all().into_iter().flat_map(|(_, metrics)| metrics).collect();
    let names: BTreeSet<_> = metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(names.len(), metrics.len(), "two metrics have one name");
    let mut lacking = Vec::new();
    for (command, field) in json_document::numbers() {
        let has_metric = metrics.iter().any(|metric| metric.command == command && metric.json.contains(&&*field));
        let listed = UNMEASURED.iter().find(|(of, path, _)| *of == command && *path == field);
        let below = UNMEASURED_BELOW.iter().find(|(of, path, _)| *of == command && field.starts_with(path));
        match listed.or(below.filter(|_| !has_metric)) {
            _ if has_metric && listed.is_some() => {
                lacking.push(format!("{command}: {field} has a metric and is listed"))
            }
            Some((.., MetricHas(name))) if !names.contains(name) => lacking.push(format!("there is no metric {name}")),
            None if !has_metric => lacking.push(format!("{command}: {field} has no metric")),
            _ => {}
        }
    }
    for (command, field, _) in &UNMEASURED {
        if !json_document::numbers().contains(&(command, (*field).to_owned())) {
            lacking.push(format!("{command}: there is no number {field}"));
        }
    }
    assert!(lacking.is_empty(), "{}", lacking.join("\n"));
}

/// Returns the numbers at a path of a JSON value, those of maps and arrays too.
fn numbers_at(value: &Value, path: &str) -> Vec<f64> {
    match value {
        Value::Array(elements) => elements.iter().flat_map(|element| numbers_at(element, path)).collect(),
        Value::Object(members) if path.is_empty() => {
            members.values().flat_map(|member| numbers_at(member, "")).collect()
        }
        Value::Object(members) => {
            let (name, rest) = path.split_once('.').unwrap_or((path, ""));
            members.get(name.trim_end_matches("[]")).map(|member| numbers_at(member, rest)).unwrap_or_default()
        }
        number => number.as_f64().into_iter().collect(),
    }
}

/// Holds the values of metrics to the numbers of the JSON.
fn values_are_those_of_json<T: MetricSubject>(metrics: &'static [Metric<T>], reports: &[T], json: &str) {
    let json: Value = serde_json::from_str(json).unwrap();
    for series in metrics.iter().flat_map(|metric| metric.series).filter(|series| !series.json.is_empty()) {
        let read = |report: &T| -> Vec<f64> {
            match &series.reading {
                MetricReading::Number(read) => vec![read(report) as f64],
                MetricReading::Counted(read) => read(report).into_iter().map(|number| number as f64).collect(),
                MetricReading::Measured(read) => read(report).into_iter().collect(),
                MetricReading::Each(_, read) => read(report).into_iter().map(|(_, number)| number as f64).collect(),
                MetricReading::EachOfTwo(_, read) => {
                    read(report).into_iter().map(|(_, number)| number as f64).collect()
                }
                MetricReading::Labels(..) => Vec::new(),
            }
        };
        let values: Vec<_> = reports.iter().flat_map(read).collect();
        assert_eq!(values, numbers_at(&json, series.json), "{}", series.json);
        assert!(!values.is_empty(), "no sample has {}", series.json);
    }
}

#[test]
fn the_values_are_those_of_the_json() {
    let sessions = samples::sessions();
    values_are_those_of_json(&session::SESSION, &sessions, &serde_json::to_string(&sessions).unwrap());
    values_are_those_of_json(&routers::ROUTERS, &sessions, &serde_json::to_string(&sessions).unwrap());
    let feed = samples::feed();
    values_are_those_of_json(&input::FEED, std::slice::from_ref(&feed), &serde_json::to_string(&feed).unwrap());
    let relays = samples::relays();
    values_are_those_of_json(&input::RELAY, &relays.0, &serde_json::to_string(&relays).unwrap());
    let replays = samples::replays();
    values_are_those_of_json(&input::REPLAY, &replays.0, &serde_json::to_string(&replays).unwrap());
    let peers: Vec<_> = samples::speaker().peers.take().collect();
    values_are_those_of_json(&peer::BGP_PEER, &peers, &serde_json::to_string(&samples::speaker()).unwrap());
    let monitored = samples::monitored();
    values_are_those_of_json(&peer::PEER, &monitored, &serde_json::to_string(&monitored).unwrap());
    let http = samples::http();
    values_are_those_of_json(&process::HTTP, &http, &serde_json::to_string(&http).unwrap());
}

#[test]
fn the_page_on_metrics_has_each_of_them() {
    let mut page = HEAD.to_owned();
    for (title, metrics) in all() {
        write!(page, "\n## {title}\n\n| Metric | Type | Labels | Meaning | JSON |\n|---|---|---|---|---|\n").unwrap();
        for Described { name, kind, labels, help, json, .. } in metrics {
            let kind = match kind {
                MetricKind::Counter => "counter",
                MetricKind::KernelCounter => "counter, kept",
                MetricKind::Gauge => "gauge",
                MetricKind::Info => "info",
            };
            let code = |words: Vec<&str>| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            let (labels, json) = (code(labels.into_iter().collect()), code(json));
            writeln!(page, "| `{name}` | {kind} | {labels} | {help} | {json} |").unwrap();
        }
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/metrics.md");
    if env::var_os("BMPD_BLESS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == page, "docs/reference/metrics.md is another: write it anew with BMPD_BLESS=1");
}

const HEAD: &str = "# Metrics

`http listen` serves these metrics at `/metrics`, in the text format of OpenMetrics 1.0.
[Monitoring](../guide/monitoring.md) says how to use them. This page is made from the program.

A counter begins at zero when bmpd or what it counts in begins. A counter that is *kept* is in the
kernel's tables: it goes on when bmpd is started again, also after a crash. `JSON` is the field of
the display with the same number.
";

#[test]
fn labels_are_escaped_and_a_scrape_is_whole() {
    let mut sessions = samples::sessions();
    for session in &mut sessions {
        session.alias = Some("a\"b\\c\nd".to_owned());
    }
    let scrape = Scrape {
        whole: WholeReport::sample(),
        sessions,
        feed: samples::feed(),
        relays: samples::relays().0,
        replays: samples::replays().0,
        bgp_peers: samples::speaker().peers.take().collect(),
        peers: samples::monitored(),
        certificates: CertificateExpiry::samples(),
        http: samples::http().remove(0),
        process: ProcessReport::of_this(),
    };
    let text = golden::written(|out| write(scrape, out));
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    assert!(text.contains(r#"alias="a\"b\\c\nd""#), "{text}");
    assert!(text.contains("# TYPE bmpd_build info\nbmpd_build_info{version=\""), "{text}");
    let cpu = text.lines().find_map(|line| line.strip_prefix("process_cpu_seconds_total ")).unwrap();
    assert!(cpu.parse::<f64>().unwrap() >= 0.0);
    let mut series = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        // The samples have two sessions with the same name.
        if !name.starts_with("bmpd_session_") {
            assert!(series.insert(name.to_owned()), "twice: {name}");
        }
    }
}
