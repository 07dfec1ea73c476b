//! The table of all settings.

use std::ptr;

use super::{
    arguments::ArgumentType as _,
    bgp, bmp,
    descriptor::{Setting, SettingDescriptor},
    http, keychain, monitor, per_router, refresh, relay, replay, route_filter, session, system, tls,
};
use crate::config::{model::SessionId, view::CommandView};

/// All settings, in the order in which a configuration is printed.
pub(in crate::config) static SETTINGS: [&SettingDescriptor; 83] = [
    &system::SYSNAME,
    &system::INTERFACE_ALIAS,
    &system::MEMORY_LIMIT,
    &http::HTTP_LISTEN,
    &http::HTTP_PEER_METRICS,
    &keychain::KEYCHAIN,
    &keychain::KEY_ID,
    &keychain::ALGORITHM,
    &keychain::KEY_STRING,
    &keychain::SEND_TIME,
    &keychain::RECEIVE_TIME,
    &tls::TLS_PROFILE,
    &tls::TRUSTED_CA,
    &tls::CERTIFICATE,
    &tls::PRIVATE_KEY,
    &tls::VERIFY_NAME,
    &tls::FINGERPRINT,
    &bgp::BGP,
    &bgp::ROUTER_ID,
    &bgp::LISTEN_PORT,
    &bgp::PEER_AS_NUMBER,
    &bgp::PEER_PORT,
    &bgp::PEER_PASSWORD,
    &bgp::PEER_KEYCHAIN,
    &bgp::PEER_LISTEN_ONLY,
    &bgp::PEER_CONNECT_INTERFACE,
    &bgp::PEER_TIMER,
    &bgp::PEER_MAXIMUM_ROUTES,
    &bgp::BGP_IPV4_FAMILY,
    &bgp::BGP_IPV6_FAMILY,
    &bgp::BGP_L2VPN_FAMILY,
    &bgp::BGP_LINK_STATE_FAMILY,
    &bgp::PEER_ENABLE,
    &relay::RELAY,
    &relay::LISTEN,
    &relay::ALLOW,
    &relay::ALLOW_USER,
    &relay::ALLOW_PROXY,
    &relay::RELAY_HOLD,
    &relay::END_OF_RIB_AFTER,
    &relay::MAX_CONNECTIONS,
    &relay::RELAY_MAXIMUM_ROUTES,
    &replay::REPLAY,
    &replay::REPLAY_FILE,
    &replay::REPLAY_PACE,
    &replay::REPLAY_LOOP,
    &route_filter::PREFIX_ENTRY,
    &route_filter::ROUTE_FILTER,
    &route_filter::ROUTE_RULE,
    &bmp::BMP,
    &bmp::STATISTICS_TIMER,
    &bmp::BMP_CONNECT_INTERFACE,
    &bmp::BMP_INITIATION_MESSAGE,
    &refresh::BMP_DUMP_RATE,
    &refresh::INITIAL_REFRESH,
    &bmp::PERSIST,
    &bmp::SESSION,
    &session::DESCRIPTION,
    &session::TCP_CONNECT_PORT,
    &session::TCP_LISTEN_PORT,
    &session::CONNECT_INTERFACE,
    &session::EGRESS_INTERFACE,
    &session::NEXT_HOP,
    &session::HOLD_DOWN,
    &session::TCP_MSS,
    &session::DSCP,
    &session::TCP_KEEPALIVE,
    &session::CONNECT_RETRY,
    &session::INITIAL_DELAY,
    &session::FLAP_DAMPING,
    &session::ROUTE_MIRRORING,
    &session::BUFFER_LIMIT,
    &session::STATISTICS_TIMER,
    &session::STATISTICS_DERIVED,
    &session::INITIATION_MESSAGE,
    &refresh::DUMP_RATE,
    &per_router::PER_ROUTER,
    &per_router::PROXY_PROTOCOL,
    &session::ADOPT,
    &session::SHUTDOWN,
    &session::MONITOR,
    &monitor::ROUTE_MODE,
    &monitor::MONITOR_ROUTE_FILTER,
];

/// Returns the place of a setting in [`SETTINGS`], which is that of the setting it replaces.
pub(in crate::config) fn order(descriptor: &SettingDescriptor) -> usize {
    let descriptor = descriptor.replaces.unwrap_or(descriptor);
    SETTINGS.iter().position(|known| ptr::eq(*known, descriptor)).unwrap_or(SETTINGS.len())
}

/// Returns the place of the setting that enters a view; `None` for the views that none enters.
pub(in crate::config) fn order_of_view(view: &CommandView) -> Option<usize> {
    let enters = |descriptor: &&SettingDescriptor| descriptor.enters == Some(view.kind());
    match view {
        CommandView::BgpFamily(family) => {
            let first = super::families::family_words(*family).first().copied();
            SETTINGS.iter().position(|known| enters(known) && Some(known.keyword()) == first)
        }
        _ => SETTINGS.iter().position(enters),
    }
}

/// Returns the session that a `bmp-session` line names; `None` for other lines.
pub(in crate::config) fn session_of(setting: &Setting) -> Option<SessionId> {
    let is_session = ptr::eq(setting.descriptor(), &bmp::SESSION);
    is_session.then(|| SessionId::read(setting.arguments()).ok().flatten()).flatten()
}
