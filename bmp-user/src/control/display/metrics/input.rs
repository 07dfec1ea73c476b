//! The metrics of the feed, of relays and of replays.

use std::collections::BTreeMap;

use super::{
    super::{
        feed::{FeedReport, MemoryState},
        relay::{ListenState, RelayReport},
        replay::{ReplayReport, ReplayStage},
    },
    metric::{
        Metric, MetricReading, MetricSubject, NumbersByLabel, Series, counted, counter, each, gauge, labelled, number,
    },
};

impl MetricSubject for FeedReport {
    const COMMAND: &'static str = "display bmp feed";
    const LABELS: &'static [&'static str] = &[];

    fn labels(&self) -> Vec<String> {
        Vec::new()
    }
}

const BYTES: Option<&str> = Some("bytes");
const MESSAGES: Option<&str> = Some("messages");

/// The metrics of the feed.
pub(super) static FEED: [Metric<FeedReport>; 19] = [
    gauge(
        "bmpd_feed_peers",
        None,
        "peers of all inputs that are announced",
        &[number("peers", |feed| feed.peers as u64)],
    ),
    gauge("bmpd_feed_ribs", None, "RIBs of all peers", &[number("ribs", |feed| feed.ribs as u64)]),
    gauge(
        "bmpd_feed_routes",
        None,
        "routes of all peers, by RIB and family",
        &[Series {
            labels: &[],
            json: "by_rib[].routes",
            reading: MetricReading::EachOfTwo(["rib", "family"], |feed| {
                let ribs = feed.by_rib.iter();
                ribs.map(|rib| ([rib.view.to_string(), rib.family.to_string()], rib.routes as u64)).collect()
            }),
        }],
    ),
    gauge(
        "bmpd_feed_rib_peers",
        None,
        "peers that have such a RIB, by RIB and family",
        &[Series {
            labels: &[],
            json: "by_rib[].ribs",
            reading: MetricReading::EachOfTwo(["rib", "family"], |feed| {
                let ribs = feed.by_rib.iter();
                ribs.map(|rib| ([rib.view.to_string(), rib.family.to_string()], rib.ribs as u64)).collect()
            }),
        }],
    ),
    gauge(
        "bmpd_feed_attribute_sets",
        None,
        "distinct sets of path attributes",
        &[number("attribute_sets", |feed| feed.attribute_sets as u64)],
    ),
    gauge(
        "bmpd_feed_withdrawals",
        None,
        "withdrawals that are kept because a station may need them",
        &[number("withdrawals", |feed| feed.withdrawals as u64)],
    ),
    counter(
        "bmpd_feed_journal",
        MESSAGES,
        "messages that the journal has taken in: the number of the next one",
        &[number("journal.head", |feed| feed.journal.head)],
    ),
    gauge(
        "bmpd_feed_journal_oldest",
        MESSAGES,
        "number of the oldest message that the journal keeps",
        &[number("journal.tail", |feed| feed.journal.tail)],
    ),
    gauge(
        "bmpd_feed_journal",
        BYTES,
        "memory of the journal",
        &[number("journal.bytes", |feed| feed.journal.bytes as u64)],
    ),
    gauge(
        "bmpd_feed_journal_limit",
        BYTES,
        "limit of the journal's memory",
        &[number("journal.limit", |feed| feed.journal.limit as u64)],
    ),
    gauge(
        "bmpd_feed_memory",
        BYTES,
        "memory of the feed, by part; `withdrawals` is a part of `routes`",
        &[
            labelled(&[("part", "routes")], "memory.routes", |feed| feed.memory.routes as u64),
            labelled(&[("part", "groups")], "memory.groups", |feed| feed.memory.groups as u64),
            labelled(&[("part", "attribute-sets")], "memory.attribute_sets", |feed| feed.memory.attribute_sets as u64),
            labelled(&[("part", "withdrawals")], "memory.withdrawals", |feed| feed.memory.withdrawals as u64),
            labelled(&[("part", "journal")], "memory.journal", |feed| feed.memory.journal as u64),
        ],
    ),
    gauge(
        "bmpd_feed_memory_in_use",
        BYTES,
        "memory of the feed that counts towards `memory-limit`",
        &[number("memory.in_use", |feed| feed.memory.in_use as u64)],
    ),
    gauge(
        "bmpd_feed_memory_limit",
        BYTES,
        "`memory-limit`; no series without a limit",
        &[counted("memory.limit", |feed| feed.memory.limit.map(|limit| limit as u64))],
    ),
    gauge(
        "bmpd_feed_memory_stuck",
        None,
        "1 if the feed takes more than `memory-limit`, and no input has grown",
        &[number("", |feed| u64::from(feed.memory.state == MemoryState::Stuck))],
    ),
    counter(
        "bmpd_feed_closed_for_memory",
        None,
        "inputs that were closed because the feed took more than `memory-limit`",
        &[number("memory.closed", |feed| feed.memory.closed)],
    ),
    gauge(
        "bmpd_feed_limited",
        None,
        "what inputs hold of what is limited, by limit",
        &[
            labelled(&[("limit", "inputs")], "limits.inputs", |feed| feed.limits.inputs as u64),
            labelled(&[("limit", "connections")], "limits.connections", |feed| feed.limits.connections as u64),
            labelled(&[("limit", "peers")], "limits.peers", |feed| feed.limits.peers as u64),
        ],
    ),
    gauge(
        "bmpd_feed_limit",
        None,
        "the limits of what inputs hold",
        &[
            labelled(&[("limit", "inputs")], "limits.most_inputs", |feed| feed.limits.most_inputs as u64),
            labelled(&[("limit", "connections")], "limits.most_connections", |f| f.limits.most_connections as u64),
            labelled(&[("limit", "peers")], "limits.most_peers", |feed| feed.limits.most_peers as u64),
            labelled(&[("limit", "peers-of-connection")], "limits.most_peers_of_connection", |feed| {
                feed.limits.most_peers_of_connection as u64
            }),
        ],
    ),
    counter("bmpd_feed_received", MESSAGES, "BMP messages that inputs gave", &[number("frames", |feed| feed.frames)]),
    counter(
        "bmpd_feed_trouble",
        None,
        "messages, UPDATEs or fields of them with something wrong, by kind as `display bmp feed` has it",
        &[
            labelled(&[("kind", "unannounced")], "unannounced", |feed| feed.unannounced),
            labelled(&[("kind", "malformed")], "malformed", |feed| feed.malformed),
            labelled(&[("kind", "mixed-path-ids")], "mixed_path_ids", |feed| feed.mixed_path_ids),
            labelled(&[("kind", "malformed-attributes")], "malformed_attributes", |feed| feed.malformed_attributes),
            labelled(&[("kind", "other-as-size")], "as_size", |feed| feed.as_size),
            labelled(&[("kind", "incomplete")], "incomplete", |feed| feed.incomplete),
            labelled(&[("kind", "unknown-family")], "unknown_family", |feed| feed.unknown_family),
            labelled(&[("kind", "not-kept")], "overflowed", |feed| feed.overflowed),
        ],
    ),
];

impl MetricSubject for RelayReport {
    const COMMAND: &'static str = "display bmp relay";
    const LABELS: &'static [&'static str] = &["relay"];

    fn labels(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}

/// The metrics of each relay.
pub(super) static RELAY: [Metric<RelayReport>; 19] = [
    gauge(
        "bmpd_relay_up",
        None,
        "1 if a daemon is connected",
        &[number("", |relay| u64::from(!relay.connections.is_empty()))],
    ),
    gauge(
        "bmpd_relay_listening",
        None,
        "1 if the relay listens",
        &[number("", |relay| u64::from(relay.state == ListenState::Listening))],
    ),
    gauge(
        "bmpd_relay_connections",
        None,
        "daemons that are connected",
        &[number("", |relay| relay.connections.len() as u64)],
    ),
    gauge(
        "bmpd_relay_held_daemons",
        None,
        "daemons that went away and whose peers are held",
        &[number("", |relay| relay.held.len() as u64)],
    ),
    gauge(
        "bmpd_relay_held_peers",
        None,
        "peers whose daemon is not back",
        &[number("held_peers", |relay| relay.held_peers as u64)],
    ),
    gauge(
        "bmpd_relay_peers_without_routes",
        None,
        "peers that are up and of which there is no route",
        &[number("", |relay| relay.peers_without_routes.len() as u64)],
    ),
    gauge(
        "bmpd_relay_incomplete_peers",
        None,
        "peers of which late stations lack routes, because there are more than can be kept",
        &[number("", |relay| relay.incomplete_peers.len() as u64)],
    ),
    counter(
        "bmpd_relay_received",
        MESSAGES,
        "BMP messages of all daemons",
        &[number("received.messages", |relay| relay.received.messages)],
    ),
    counter(
        "bmpd_relay_received",
        BYTES,
        "bytes of these messages",
        &[number("received.bytes", |relay| relay.received.bytes)],
    ),
    counter(
        "bmpd_relay_unannounced",
        MESSAGES,
        "Route Monitoring of peers that their connection had not announced",
        &[number("received.unannounced", |relay| relay.received.unannounced)],
    ),
    counter(
        "bmpd_relay_not_understood",
        MESSAGES,
        "messages passed on although something is wrong with them, by kind",
        &[each("kind", "received.not_understood", |relay| kinds(&relay.received.not_understood))],
    ),
    counter(
        "bmpd_relay_left_out",
        MESSAGES,
        "messages left out because no station could read them, by kind",
        &[each("kind", "received.odd", |relay| kinds(&relay.received.odd))],
    ),
    counter(
        "bmpd_relay_refused",
        MESSAGES,
        "messages dropped because they are about peers of another connection",
        &[number("received.refused", |relay| relay.received.refused)],
    ),
    counter(
        "bmpd_relay_refused_connections",
        None,
        "connections that were closed at once, by cause",
        &[
            labelled(&[("cause", "not-allowed")], "refused.not_allowed", |relay| relay.refused.not_allowed),
            labelled(&[("cause", "user-not-allowed")], "refused.user-not-allowed", |r| r.refused.user_not_allowed),
            labelled(&[("cause", "too-many-connections")], "refused.too-many-connections", |r| r.refused.too_many),
            labelled(&[("cause", "proxy-header")], "refused.proxy-header", |relay| relay.refused.proxy_header),
            labelled(&[("cause", "maximum-routes")], "refused.maximum-routes", |relay| relay.refused.maximum_routes),
            labelled(&[("cause", "memory-limit")], "refused.memory-limit", |relay| relay.refused.memory_limit),
        ],
    ),
    counter(
        "bmpd_relay_health_checks",
        None,
        "connections that were proxies' own, as health checks are",
        &[number("health_checks", |relay| relay.health_checks)],
    ),
    gauge(
        "bmpd_relay_near_maximum_routes",
        None,
        "connections with more than 75 % of `maximum-routes`",
        &[number("", RelayReport::near_maximum_routes)],
    ),
    counter(
        "bmpd_relay_closed_for_routes",
        None,
        "connections that were closed because they had more routes than `maximum-routes`",
        &[number("closed_for_routes", |relay| relay.closed_for_routes)],
    ),
    counter(
        "bmpd_relay_closed_for_memory",
        None,
        "connections that were closed because the feed took more than `memory-limit`",
        &[number("closed_for_memory", |relay| relay.closed_for_memory)],
    ),
    gauge(
        "bmpd_relay_limited",
        None,
        "users and hosts that are refused because of `maximum-routes` or `memory-limit`",
        &[number("", |relay| relay.limited.len() as u64)],
    ),
];

fn kinds(counts: &BTreeMap<&'static str, u64>) -> NumbersByLabel {
    counts.iter().map(|(kind, count)| ((*kind).into(), *count)).collect()
}

impl MetricSubject for ReplayReport {
    const COMMAND: &'static str = "display mrt-replay";
    const LABELS: &'static [&'static str] = &["replay"];

    fn labels(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}

/// The metrics of each replay. Most begin again with each round.
pub(super) static REPLAY: [Metric<ReplayReport>; 10] = [
    gauge(
        "bmpd_replay_failed",
        None,
        "1 if the replay has failed",
        &[number("", |replay| u64::from(replay.state == ReplayStage::Failed))],
    ),
    counter("bmpd_replay_rounds", None, "times that the file was begun", &[number("rounds", |replay| replay.rounds)]),
    gauge(
        "bmpd_replay_read",
        BYTES,
        "bytes of the file that were surveyed, or read for what was replayed in this round",
        &[number("bytes_read", |replay| replay.bytes_read)],
    ),
    gauge("bmpd_replay_file", BYTES, "size of the file", &[counted("file_bytes", |replay| replay.file_bytes)]),
    gauge(
        "bmpd_replay_records",
        None,
        "records that were replayed in this round",
        &[number("records", |replay| replay.records)],
    ),
    gauge(
        "bmpd_replay_file_records",
        None,
        "records of the file; no series before it is surveyed",
        &[counted("file_records", |replay| replay.file_records)],
    ),
    gauge(
        "bmpd_replay_updates",
        None,
        "UPDATEs that were made of these records",
        &[number("updates", |replay| replay.updates)],
    ),
    gauge(
        "bmpd_replay_passed_over_records",
        None,
        "records and parts of records that were passed over in this round, by kind",
        &[each("kind", "passed_over[].records", |replay| {
            replay.passed_over.iter().map(|of| (of.what.clone().into(), of.records)).collect()
        })],
    ),
    gauge(
        "bmpd_replay_not_understood_updates",
        None,
        "errors in UPDATEs that were passed on as they came, by kind",
        &[each("kind", "not_understood_by_kind[].updates", |replay| {
            replay.not_understood_by_kind.iter().map(|of| (of.kind.as_str().into(), of.updates)).collect()
        })],
    ),
    gauge(
        "bmpd_replay_errors",
        None,
        "broken records that were passed over, and UPDATEs that were not understood",
        &[number("errors", |replay| replay.errors)],
    ),
];
