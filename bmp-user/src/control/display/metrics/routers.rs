//! The metrics of sessions that have a connection for each router behind a relay.

use super::{
    super::session::{RouterConnectionReport, SessionReport, UpDown},
    metric::{Metric, NumbersByLabel, counted, counter, each, gauge},
};

/// Returns a number of each router, by a label that tells it from all others of the session.
fn by_router(session: &SessionReport, number: fn(&RouterConnectionReport) -> Option<u64>) -> NumbersByLabel {
    let connections = session.routers.iter().flat_map(|routers| &routers.connections);
    let labelled = |router: &RouterConnectionReport| {
        let RouterConnectionReport { relay, address, sys_name, .. } = router;
        let name = sys_name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        Some((format!("{relay} {address}{name}").into(), number(router)?))
    };
    connections.filter_map(labelled).collect()
}

/// The metrics of each router, with the labels of its session.
pub(super) static ROUTERS: [Metric<SessionReport>; 9] = [
    gauge(
        "bmpd_session_router_up",
        None,
        "1 if the connection of a router to the station is up; no series without per-router",
        &[each("router", "", |session| by_router(session, |router| Some(u64::from(router.state == UpDown::Up))))],
    ),
    gauge(
        "bmpd_session_router_age",
        Some("seconds"),
        "time since the connection of a router went up or down",
        &[each("router", "routers.connections[].age_seconds", |session| {
            by_router(session, |router| Some(router.age_seconds))
        })],
    ),
    counter(
        "bmpd_session_router_established",
        None,
        "connections that have been established for a router",
        &[each("router", "routers.connections[].established_count", |session| {
            by_router(session, |router| Some(router.established_count))
        })],
    ),
    gauge(
        "bmpd_session_router_closes",
        Some("seconds"),
        "time until the connection of a router is closed that has gone away; no series while the router is there",
        &[each("router", "routers.connections[].closes_in_seconds", |session| {
            by_router(session, |router| router.closes_in_seconds)
        })],
    ),
    counter(
        "bmpd_session_router_sent",
        Some("bytes"),
        "bytes of BMP sent for a router",
        &[each("router", "routers.connections[].sent_bytes", |session| {
            by_router(session, |router| Some(router.sent_bytes))
        })],
    ),
    counter(
        "bmpd_session_router_retransmitted",
        Some("segments"),
        "segments of the connections of a router that were sent again",
        &[each("router", "routers.connections[].retransmits", |session| {
            by_router(session, |router| Some(router.retransmits))
        })],
    ),
    gauge(
        "bmpd_session_router_lag",
        Some("bytes"),
        "journal bytes that the connection of a router has not gone through; no series while it is down",
        &[each("router", "routers.connections[].lag_bytes", |session| by_router(session, |router| router.lag_bytes))],
    ),
    counter(
        "bmpd_session_router_route_monitoring",
        Some("messages"),
        "Route Monitoring messages sent for a router",
        &[each("router", "routers.connections[].messages.route_monitoring", |session| {
            by_router(session, |router| Some(router.messages.route_monitoring))
        })],
    ),
    gauge(
        "bmpd_session_routers_left_out",
        None,
        "routers without a connection, because the session has too many",
        &[counted("routers.left_out", |session| Some(session.routers.as_ref()?.left_out as u64))],
    ),
];
