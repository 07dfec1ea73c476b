//! Translates `monitor` and `route-mirroring` into the selection that the feed understands.

use crate::{
    config::{MonitorId, SessionConfig},
    feed::{InputId, Mirroring, PeerFilter, Selection, SelectionRule},
};

/// Returns what a station is told: everything where no `monitor` is configured. With `monitor`,
/// mirrored messages come only with `route-mirroring`.
pub fn selection(session: &SessionConfig) -> Selection {
    let rule = |(id, modes): (&MonitorId, &std::collections::BTreeSet<_>)| SelectionRule {
        peers: peers(id),
        ribs: modes.iter().map(|mode: &crate::config::RouteMode| (mode.family, mode.view)).collect(),
        filter: None,
    };
    let rules: Vec<_> = session.monitors.iter().map(rule).collect();
    let mirroring = if rules.is_empty() || session.route_mirroring { Mirroring::Passed } else { Mirroring::LeftOut };
    Selection { rules, mirroring }
}

fn peers(id: &MonitorId) -> PeerFilter {
    match id {
        MonitorId::Public => PeerFilter::Public,
        MonitorId::AllVpnInstances => PeerFilter::AllVpnInstances,
        MonitorId::VpnInstance(name) => PeerFilter::VpnInstance(name.clone()),
        MonitorId::Peer { vpn_instance, address } => {
            PeerFilter::Peer { vpn_instance: vpn_instance.clone(), address: *address }
        }
        MonitorId::Relay(name) => PeerFilter::Input(InputId::relay(name)),
        MonitorId::Replay(name) => PeerFilter::Input(InputId::replay(name)),
        MonitorId::Bgp => PeerFilter::Bgp,
    }
}
