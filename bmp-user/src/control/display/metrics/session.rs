//! The metrics of sessions to stations.

use super::{
    super::{
        egress::Enforcer,
        session::{SessionReport, SignedSegments, UpDown},
    },
    metric::{
        Metric, MetricKind, MetricReading, MetricSubject, Series, counted, counter, each, gauge, kernel_counter,
        labelled, labelled_count, measured, number,
    },
};

impl MetricSubject for SessionReport {
    const COMMAND: &'static str = "display bmp session";
    const LABELS: &'static [&'static str] = &["station", "vpn_instance", "alias"];

    fn labels(&self) -> Vec<String> {
        vec![self.station.to_string(), self.vpn_instance.to_string(), self.alias.clone().unwrap_or_default()]
    }
}

const PACKETS: Option<&str> = Some("packets");
const BYTES: Option<&str> = Some("bytes");
const SECONDS: Option<&str> = Some("seconds");
const MESSAGES: Option<&str> = Some("messages");

fn signed_segments(session: &SessionReport) -> Option<&SignedSegments> {
    session.keychain.as_ref()?.segments.as_ref()
}

/// The metrics of each session.
pub(super) static SESSION: [Metric<SessionReport>; 38] = [
    gauge(
        "bmpd_session_up",
        None,
        "1 if the station is connected",
        &[number("", |session| u64::from(session.state == UpDown::Up))],
    ),
    Metric {
        name: "bmpd_session_reason",
        unit: None,
        kind: MetricKind::Gauge,
        help: "1 for the reason why the session is down, or what it waits for; no series if there is none",
        series: &[Series {
            labels: &[],
            json: "",
            reading: MetricReading::Labels(&["reason"], |session| Some(vec![session.reason?.as_str().to_owned()])),
        }],
    },
    gauge(
        "bmpd_session_enforcement",
        None,
        "1 for the mode in force: who holds the packets of the session to its pin; 0 for the others",
        &[
            labelled(&[("mode", "kernel")], "", |session| u64::from(session.egress.enforcement == Enforcer::Kernel)),
            labelled(&[("mode", "cgroup")], "", |session| u64::from(session.egress.enforcement == Enforcer::Cgroup)),
            labelled(&[("mode", "socket")], "", |session| u64::from(session.egress.enforcement == Enforcer::Socket)),
            labelled(&[("mode", "none")], "", |session| u64::from(session.egress.enforcement == Enforcer::None)),
        ],
    ),
    gauge(
        "bmpd_session_egress",
        None,
        "1 for each interface that the session may leave by; no series if it may leave by any, or by none",
        &[each("interface", "", |session| {
            session.egress.interfaces.iter().map(|name| (name.clone().into(), 1)).collect()
        })],
    ),
    gauge(
        "bmpd_session_age",
        SECONDS,
        "time since the session went up or down",
        &[number("age_seconds", |session| session.age_seconds)],
    ),
    gauge(
        "bmpd_session_retry",
        SECONDS,
        "time until the next attempt to connect; no series if none is due",
        &[measured("retry_in_seconds", |session| session.retry_in_seconds)],
    ),
    gauge(
        "bmpd_session_held",
        SECONDS,
        "time until a session goes down that hold-down holds; no series if none is held",
        &[measured("held.for_seconds", |session| session.held.as_ref().map(|held| held.for_seconds))],
    ),
    counter(
        "bmpd_session_established",
        None,
        "connections that have been established",
        &[number("established_count", |session| session.established_count)],
    ),
    counter(
        "bmpd_session_source_changes",
        None,
        "connections that had another source address than the one before",
        &[number("source_changes", |session| session.source_changes)],
    ),
    gauge(
        "bmpd_session_lag",
        BYTES,
        "journal bytes that the station has not been sent; no series while the session is down",
        &[counted("feed.lag_bytes", |session| session.feed.as_ref()?.lag_bytes)],
    ),
    gauge(
        "bmpd_session_position",
        MESSAGES,
        "number of the next journal message for the station",
        &[counted("feed.cursor", |session| session.feed.as_ref()?.cursor)],
    ),
    counter(
        "bmpd_session_dumps",
        None,
        "how many times the station was sent the state instead of the journal",
        &[counted("feed.dumps", |session| Some(session.feed.as_ref()?.dumps))],
    ),
    gauge(
        "bmpd_session_dump_routes",
        None,
        "routes that the dump on its way has told, and routes to tell in all; no series without such a dump",
        &[
            labelled_count(&[("part", "told")], "feed.dump.routes_told", |session| {
                session.feed.as_ref()?.dump.as_ref()?.routes_told
            }),
            labelled_count(&[("part", "total")], "feed.dump.routes_total", |session| {
                session.feed.as_ref()?.dump.as_ref()?.routes_total
            }),
        ],
    ),
    gauge(
        "bmpd_session_dump_remaining",
        SECONDS,
        "time until the dump on its way is told, at its speed so far; no series where nothing is measured",
        &[counted("feed.dump.remaining_seconds", |session| session.feed.as_ref()?.dump.as_ref()?.remaining_seconds)],
    ),
    gauge(
        "bmpd_session_refused_peers",
        None,
        "peers left out, because the station could not tell them from those of another input",
        &[counted("feed.refused_peers", |session| Some(session.feed.as_ref()?.refused_peers as u64))],
    ),
    counter(
        "bmpd_session_sent",
        MESSAGES,
        "BMP messages sent, by type; no series if another process sends them",
        &[
            labelled_count(&[("type", "route-monitoring")], "messages.route_monitoring", |session| {
                Some(session.messages.as_ref()?.route_monitoring)
            }),
            labelled_count(&[("type", "statistics-report")], "messages.statistics_report", |session| {
                Some(session.messages.as_ref()?.statistics_report)
            }),
            labelled_count(&[("type", "peer-down")], "messages.peer_down", |session| {
                Some(session.messages.as_ref()?.peer_down)
            }),
            labelled_count(&[("type", "peer-up")], "messages.peer_up", |session| {
                Some(session.messages.as_ref()?.peer_up)
            }),
            labelled_count(&[("type", "initiation")], "messages.initiation", |session| {
                Some(session.messages.as_ref()?.initiation)
            }),
            labelled_count(&[("type", "termination")], "messages.termination", |session| {
                Some(session.messages.as_ref()?.termination)
            }),
            labelled_count(&[("type", "route-mirroring")], "messages.route_mirroring", |session| {
                Some(session.messages.as_ref()?.route_mirroring)
            }),
        ],
    ),
    kernel_counter(
        "bmpd_session_transmit",
        BYTES,
        "IP bytes sent",
        &[counted("kernel.tx_bytes", |session| session.kernel.tx_bytes)],
    ),
    kernel_counter(
        "bmpd_session_transmit",
        PACKETS,
        "packets sent",
        &[counted("kernel.tx_packets", |session| session.kernel.tx_packets)],
    ),
    kernel_counter(
        "bmpd_session_transmit_payload",
        BYTES,
        "bytes of TCP payload sent",
        &[counted("kernel.tx_payload_bytes", |session| session.kernel.tx_payload_bytes)],
    ),
    kernel_counter(
        "bmpd_session_receive",
        BYTES,
        "IP bytes received",
        &[counted("kernel.rx_bytes", |session| session.kernel.rx_bytes)],
    ),
    kernel_counter(
        "bmpd_session_receive",
        PACKETS,
        "packets received",
        &[counted("kernel.rx_packets", |session| session.kernel.rx_packets)],
    ),
    kernel_counter(
        "bmpd_session_retransmitted",
        Some("segments"),
        "segments sent again; without kernel programs, since bmpd began",
        &[counted("kernel.retransmits", |session| session.kernel.retransmits)],
    ),
    gauge(
        "bmpd_session_signed",
        Some("segments"),
        "segments received with TCP-AO on the connection that is up, or at the listener, by what became of them; no \
         series without TCP-AO",
        &[
            labelled_count(&[("result", "good")], "keychain.segments.good", |session| {
                Some(signed_segments(session)?.good)
            }),
            labelled_count(&[("result", "bad")], "keychain.segments.bad", |session| {
                Some(signed_segments(session)?.bad)
            }),
            labelled_count(&[("result", "unknown_key")], "keychain.segments.unknown_key", |session| {
                Some(signed_segments(session)?.unknown_key)
            }),
            labelled_count(&[("result", "unsigned")], "keychain.segments.unsigned", |session| {
                Some(signed_segments(session)?.unsigned)
            }),
        ],
    ),
    gauge(
        "bmpd_session_next_key",
        SECONDS,
        "time until another key of the key chain is preferred; no series if none is",
        &[counted("keychain.next_key_in_seconds", |session| session.keychain.as_ref()?.next_key_in_seconds)],
    ),
    kernel_counter(
        "bmpd_session_denied",
        PACKETS,
        "packets dropped and connects refused, by cause",
        &[
            labelled_count(&[("cause", "interface")], "kernel.denied.interface", |session| {
                Some(session.kernel.denied.as_ref()?.interface)
            }),
            labelled_count(&[("cause", "source")], "kernel.denied.source", |session| {
                Some(session.kernel.denied.as_ref()?.source)
            }),
            labelled_count(&[("cause", "mark")], "kernel.denied.mark", |session| {
                Some(session.kernel.denied.as_ref()?.mark)
            }),
            labelled_count(&[("cause", "no-pin")], "kernel.denied.no_pin", |session| {
                Some(session.kernel.denied.as_ref()?.no_pin)
            }),
        ],
    ),
    kernel_counter(
        "bmpd_session_foreign_transmit",
        BYTES,
        "IP bytes sent by other processes' connections to the same station and port",
        &[counted("kernel.foreign.tx_bytes", |session| Some(session.kernel.foreign.as_ref()?.tx_bytes))],
    ),
    kernel_counter(
        "bmpd_session_foreign_transmit",
        PACKETS,
        "packets sent by other processes' connections to the same station and port",
        &[counted("kernel.foreign.tx_packets", |session| Some(session.kernel.foreign.as_ref()?.tx_packets))],
    ),
    gauge(
        "bmpd_session_connections",
        None,
        "open connections under the pin, bmpd's and other processes'; no series if no kernel program counts",
        &[counted("connections.open", |session| Some(session.connections.as_ref()?.open as u64))],
    ),
    counter(
        "bmpd_session_connections_established",
        None,
        "connections under the pin that were established",
        &[counted("connections.established", |session| Some(session.connections.as_ref()?.established))],
    ),
    counter(
        "bmpd_session_connections_closed",
        None,
        "connections under the pin that were closed",
        &[counted("connections.closed", |session| Some(session.connections.as_ref()?.closed))],
    ),
    counter(
        "bmpd_session_connections_failed",
        None,
        "attempts to connect under the pin that failed",
        &[counted("connections.failed", |session| Some(session.connections.as_ref()?.failed))],
    ),
    kernel_counter(
        "bmpd_session_interface_queue_dropped",
        PACKETS,
        "packets that the queueing discipline of an interface of the session has dropped, of all traffic",
        &[each("interface", "interface_drops[].queue", |session| {
            session.interface_drops.iter().filter_map(|drops| Some((drops.name.clone().into(), drops.queue?))).collect()
        })],
    ),
    kernel_counter(
        "bmpd_session_interface_device_dropped",
        PACKETS,
        "packets that the driver of an interface of the session has dropped, of all traffic",
        &[each("interface", "interface_drops[].device", |session| {
            session.interface_drops.iter().map(|drops| (drops.name.clone().into(), drops.device)).collect()
        })],
    ),
    gauge(
        "bmpd_session_unheld_connections",
        None,
        "other processes' connections to the station from before the pin, which nothing holds to it",
        &[counted("unheld.count", |session| Some(session.unheld.as_ref()?.count as u64))],
    ),
    counter(
        "bmpd_session_guard_dropped",
        PACKETS,
        "packets of strangers that XDP dropped; no series if this host connects, or XDP sees no interface",
        &[counted("guard.dropped_packets", |session| session.guard.as_ref()?.dropped_packets)],
    ),
    counter(
        "bmpd_session_guard_dropped",
        BYTES,
        "IP bytes of strangers that XDP dropped",
        &[counted("guard.dropped_bytes", |session| session.guard.as_ref()?.dropped_bytes)],
    ),
    counter(
        "bmpd_session_guard_refused",
        PACKETS,
        "packets of strangers that the listener's own program dropped",
        &[counted("guard.refused_packets", |session| session.guard.as_ref()?.refused_packets)],
    ),
    counter(
        "bmpd_session_guard_refused",
        BYTES,
        "IP bytes of strangers that the listener's own program dropped",
        &[counted("guard.refused_bytes", |session| session.guard.as_ref()?.refused_bytes)],
    ),
];
