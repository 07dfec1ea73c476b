//! Translates `monitor` and `route-mirroring` into the selection that the feed understands.

use crate::{
    config::{MonitorId, Session},
    feed::{InputId, Mirroring, Monitor, Peers, Selection},
};

/// Returns what a station is told: everything where no `monitor` is configured. With `monitor`,
/// mirrored messages come only with `route-mirroring`.
pub fn selection(session: &Session) -> Selection {
    let monitor = |(id, modes): (&MonitorId, &std::collections::BTreeSet<_>)| Monitor {
        peers: peers(id),
        ribs: modes.iter().map(|mode: &crate::config::RouteMode| (mode.family, mode.view)).collect(),
    };
    let monitors: Vec<_> = session.monitors.iter().map(monitor).collect();
    let mirroring = if monitors.is_empty() || session.route_mirroring { Mirroring::Passed } else { Mirroring::LeftOut };
    Selection { monitors, mirroring }
}

fn peers(id: &MonitorId) -> Peers {
    match id {
        MonitorId::Public => Peers::Public,
        MonitorId::AllVpnInstances => Peers::AllVpnInstances,
        MonitorId::VpnInstance(name) => Peers::VpnInstance(name.clone()),
        MonitorId::Peer { vpn_instance, address } => {
            Peers::Peer { vpn_instance: vpn_instance.clone(), address: *address }
        }
        MonitorId::Relay(name) => Peers::Input(InputId::relay(name)),
        MonitorId::Replay(name) => Peers::Input(InputId::replay(name)),
        MonitorId::Bgp => Peers::Bgp,
    }
}
