//! The metrics of BGP peers and of the peers of all inputs: a series for each peer, which
//! `http peer-metrics` asks for.

use super::{
    super::{monitored::MonitoredPeer, peer::BgpPeerReport},
    metric::{
        Metric, MetricKind, MetricReading, MetricSubject, Series, counted, counter, each, gauge, kernel_counter,
        labelled, labelled_count, measured, number,
    },
};
use crate::input::bgp::BgpState;

impl MetricSubject for BgpPeerReport {
    const COMMAND: &'static str = "display bgp peer";
    const LABELS: &'static [&'static str] = &["peer"];

    fn labels(&self) -> Vec<String> {
        vec![self.peer.to_string()]
    }
}

const PACKETS: Option<&str> = Some("packets");
const BYTES: Option<&str> = Some("bytes");
const SECONDS: Option<&str> = Some("seconds");
const MESSAGES: Option<&str> = Some("messages");
const UPDATES: Option<&str> = Some("updates");
const ROUTES: Option<&str> = Some("routes");

/// The metrics of each peer of the bgp view.
pub(super) static BGP_PEER: [Metric<BgpPeerReport>; 26] = [
    gauge(
        "bmpd_bgp_peer_up",
        None,
        "1 if the BGP session is established",
        &[number("", |peer| u64::from(peer.state == BgpState::Established))],
    ),
    Metric {
        name: "bmpd_bgp_peer_reason",
        unit: None,
        kind: MetricKind::Gauge,
        help: "1 for the reason why the BGP session is not established; no series if there is none",
        series: &[Series {
            labels: &[],
            json: "",
            reading: MetricReading::Labels(&["reason"], |peer| Some(vec![peer.reason?.as_str().to_owned()])),
        }],
    },
    gauge(
        "bmpd_bgp_peer_age",
        SECONDS,
        "time since the peer was established, or ceased to be",
        &[number("peers[].age_seconds", |peer| peer.age_seconds)],
    ),
    gauge(
        "bmpd_bgp_peer_retry",
        SECONDS,
        "time until the next attempt to connect; no series if none is due",
        &[measured("peers[].retry_in_seconds", |peer| peer.retry_in_seconds)],
    ),
    counter(
        "bmpd_bgp_peer_established",
        None,
        "times that the peer was established",
        &[number("peers[].established_count", |peer| peer.established_count)],
    ),
    counter(
        "bmpd_bgp_peer_closed_for_routes",
        None,
        "sessions that were closed because the peer had more routes than `maximum-routes`",
        &[number("peers[].closed_for_routes", |peer| peer.closed_for_routes)],
    ),
    counter(
        "bmpd_bgp_peer_closed_for_memory",
        None,
        "sessions that were closed because the feed took more than `memory-limit`",
        &[number("peers[].closed_for_memory", |peer| peer.closed_for_memory)],
    ),
    gauge(
        "bmpd_bgp_peer_routes",
        None,
        "routes of the Adj-RIB-In, by family",
        &[each("family", "peers[].routes[].routes", |peer| {
            peer.routes.iter().map(|of| (of.family.to_string().into(), of.routes as u64)).collect()
        })],
    ),
    counter(
        "bmpd_bgp_peer_received",
        MESSAGES,
        "BGP messages received since the peer is configured, by type",
        &[
            labelled(&[("type", "open")], "peers[].received.open", |peer| peer.received.open),
            labelled(&[("type", "update")], "peers[].received.update", |peer| peer.received.update),
            labelled(&[("type", "notification")], "peers[].received.notification", |peer| peer.received.notification),
            labelled(&[("type", "keepalive")], "peers[].received.keepalive", |peer| peer.received.keepalive),
            labelled(&[("type", "route-refresh")], "peers[].received.route_refresh", |p| p.received.route_refresh),
        ],
    ),
    counter(
        "bmpd_bgp_peer_sent",
        MESSAGES,
        "BGP messages sent since the peer is configured, by type",
        &[
            labelled(&[("type", "open")], "peers[].sent.open", |peer| peer.sent.open),
            labelled(&[("type", "update")], "peers[].sent.update", |peer| peer.sent.update),
            labelled(&[("type", "notification")], "peers[].sent.notification", |peer| peer.sent.notification),
            labelled(&[("type", "keepalive")], "peers[].sent.keepalive", |peer| peer.sent.keepalive),
            labelled(&[("type", "route-refresh")], "peers[].sent.route_refresh", |peer| peer.sent.route_refresh),
        ],
    ),
    gauge(
        "bmpd_bgp_peer_restart_left",
        SECONDS,
        "how long the routes of a peer that restarts stay yet; no series if it does not",
        &[measured("peers[].restart_left_seconds", |peer| Some(peer.restart_left_seconds? as f64))],
    ),
    gauge(
        "bmpd_bgp_peer_stale",
        ROUTES,
        "routes that the peer has not sent again since a restart or a route refresh",
        &[number("peers[].stale", |peer| peer.stale as u64)],
    ),
    gauge(
        "bmpd_bgp_peer_treated_as_withdraw",
        UPDATES,
        "UPDATEs whose routes were treated as withdrawn, in this session or the last",
        &[counted("peers[].treated_as_withdraw", |peer| Some(peer.treated_as_withdraw?.into()))],
    ),
    gauge(
        "bmpd_bgp_peer_treated_as_withdraw",
        ROUTES,
        "routes of those UPDATEs",
        &[counted("peers[].prefixes_treated_as_withdraw", |peer| Some(peer.prefixes_treated_as_withdraw?.into()))],
    ),
    gauge(
        "bmpd_bgp_peer_attributes_discarded",
        UPDATES,
        "UPDATEs of which attributes were discarded, in this session or the last",
        &[counted("peers[].attributes_discarded", |peer| peer.attributes_discarded)],
    ),
    counter(
        "bmpd_bgp_peer_not_negotiated",
        UPDATES,
        "UPDATEs of families that were not negotiated, which were not passed on",
        &[number("peers[].not_negotiated", |peer| peer.not_negotiated)],
    ),
    kernel_counter(
        "bmpd_bgp_peer_transmit",
        BYTES,
        "IP bytes sent",
        &[counted("peers[].kernel.tx_bytes", |peer| peer.kernel.tx_bytes)],
    ),
    kernel_counter(
        "bmpd_bgp_peer_transmit",
        PACKETS,
        "packets sent",
        &[counted("peers[].kernel.tx_packets", |peer| peer.kernel.tx_packets)],
    ),
    kernel_counter(
        "bmpd_bgp_peer_transmit_payload",
        BYTES,
        "bytes of TCP payload sent",
        &[counted("peers[].kernel.tx_payload_bytes", |peer| peer.kernel.tx_payload_bytes)],
    ),
    kernel_counter(
        "bmpd_bgp_peer_receive",
        BYTES,
        "IP bytes received",
        &[counted("peers[].kernel.rx_bytes", |peer| peer.kernel.rx_bytes)],
    ),
    kernel_counter(
        "bmpd_bgp_peer_receive",
        PACKETS,
        "packets received",
        &[counted("peers[].kernel.rx_packets", |peer| peer.kernel.rx_packets)],
    ),
    kernel_counter(
        "bmpd_bgp_peer_retransmitted",
        Some("segments"),
        "segments sent again",
        &[counted("peers[].kernel.retransmits", |peer| peer.kernel.retransmits)],
    ),
    kernel_counter(
        "bmpd_bgp_peer_denied",
        PACKETS,
        "packets dropped and connects refused, by cause",
        &[
            labelled_count(&[("cause", "interface")], "peers[].kernel.denied.interface", |peer| {
                Some(peer.kernel.denied.as_ref()?.interface)
            }),
            labelled_count(&[("cause", "source")], "peers[].kernel.denied.source", |peer| {
                Some(peer.kernel.denied.as_ref()?.source)
            }),
            labelled_count(&[("cause", "mark")], "peers[].kernel.denied.mark", |peer| {
                Some(peer.kernel.denied.as_ref()?.mark)
            }),
            labelled_count(&[("cause", "no-pin")], "peers[].kernel.denied.no_pin", |peer| {
                Some(peer.kernel.denied.as_ref()?.no_pin)
            }),
        ],
    ),
    kernel_counter(
        "bmpd_bgp_peer_foreign_transmit",
        BYTES,
        "IP bytes sent by other processes' connections to the peer",
        &[counted("peers[].kernel.foreign.tx_bytes", |peer| Some(peer.kernel.foreign.as_ref()?.tx_bytes))],
    ),
    kernel_counter(
        "bmpd_bgp_peer_foreign_transmit",
        PACKETS,
        "packets sent by other processes' connections to the peer",
        &[counted("peers[].kernel.foreign.tx_packets", |peer| Some(peer.kernel.foreign.as_ref()?.tx_packets))],
    ),
    gauge(
        "bmpd_bgp_peer_hold",
        SECONDS,
        "negotiated hold time, 0 for none; no series if the peer is not established",
        &[measured("peers[].hold_seconds", |peer| Some(peer.hold_seconds? as f64))],
    ),
];

impl MetricSubject for MonitoredPeer {
    const COMMAND: &'static str = "display bgp bmp-monitor all";
    const LABELS: &'static [&'static str] = &["input", "peer", "type", "distinguisher"];

    fn labels(&self) -> Vec<String> {
        let distinguisher = self.distinguisher.clone().unwrap_or_default();
        vec![self.input.clone(), self.peer.to_string(), self.peer_type.to_string(), distinguisher]
    }
}

/// The metrics of each peer of each input.
pub(super) static PEER: [Metric<MonitoredPeer>; 2] = [
    gauge(
        "bmpd_peer_up",
        None,
        "1 if the input has sent a Peer Up, and its daemon is there",
        &[number("", |peer| u64::from(peer.announced && !peer.held))],
    ),
    gauge(
        "bmpd_peer_routes",
        None,
        "routes of the peer, by RIB and family",
        &[Series {
            labels: &[],
            json: "ribs[].routes",
            reading: MetricReading::EachOfTwo(["rib", "family"], |peer| {
                let ribs = peer.ribs.iter();
                ribs.map(|rib| ([rib.view.to_string(), rib.family.to_string()], rib.routes as u64)).collect()
            }),
        }],
    ),
];
