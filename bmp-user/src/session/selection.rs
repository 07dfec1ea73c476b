//! Translates `monitor`, `route-filter` and `route-mirroring` into the selection that the feed
//! understands.

use std::{net::IpAddr, sync::Arc};

use crate::{
    config::{
        AsPathMatch, Config, MOST_ROUTE_RULES, MonitorConfig, MonitorId, PrefixEntry, RouteMode, RouteRuleConfig,
        SessionConfig,
    },
    feed::{
        Feed, InputId, MOST_FILTER_RULES, Mirroring, PathCondition, PeerFilter, PrefixRule, RouteFilter, RouteRule,
        RouterId, SelectedInputs, Selection, SelectionRule,
    },
    wire::bgp::PrefixBits,
};

// The feed takes every filter that can be configured.
const _: () = assert!(MOST_ROUTE_RULES <= MOST_FILTER_RULES);

/// Returns what a station is told: everything where no `monitor` is configured. With `monitor`,
/// mirrored messages come only with `route-mirroring`. With a `router`, only its peers are told.
///
/// Sessions whose filters have the same rules share them, with what the feed knows about them.
pub(super) fn selection(
    config: &Config,
    session: &SessionConfig,
    router: Option<&Arc<RouterId>>,
    feed: &Feed,
) -> Selection {
    let told = selected(session, |monitor| {
        let name = monitor.route_filter.as_ref()?;
        Some(feed.route_filter(rules_of(config, name)))
    });
    match router {
        Some(router) => Selection { inputs: SelectedInputs::Router(Arc::clone(router)), ..told },
        None => told,
    }
}

/// Returns the peers and RIBs that a station is told, without filters of their routes.
pub fn ribs_of(session: &SessionConfig) -> Selection {
    selected(session, |_| None)
}

fn selected(session: &SessionConfig, filter: impl Fn(&MonitorConfig) -> Option<Arc<RouteFilter>>) -> Selection {
    let rule = |(id, monitor): (&MonitorId, &MonitorConfig)| SelectionRule {
        peers: peers(id),
        ribs: monitor.modes.iter().map(|mode: &RouteMode| (mode.family, mode.view)).collect(),
        filter: filter(monitor),
    };
    let rules: Vec<_> = session.monitors.iter().map(rule).collect();
    let mirroring = if rules.is_empty() || session.route_mirroring { Mirroring::Passed } else { Mirroring::LeftOut };
    let inputs = match &session.per_router {
        Some(routers) => SelectedInputs::Routers(routers.relay.as_deref().map(Arc::from)),
        None => SelectedInputs::All,
    };
    Selection { rules, inputs, mirroring }
}

/// Returns the rules of a filter. A filter that is not configured has none, and permits nothing. A
/// list of prefixes that is not configured has no prefixes.
fn rules_of(config: &Config, filter: &str) -> Vec<RouteRule> {
    let prefixes = |list: &String| -> Vec<PrefixRule> {
        let of_list = config.prefix_lists.iter().filter(|(entry, _)| entry.list == *list);
        of_list.map(|(_, entry)| prefix_rule(entry)).collect()
    };
    let rule = |rule: &RouteRuleConfig| RouteRule {
        permits: rule.permits,
        family: rule.family,
        prefixes: rule.prefix_list.as_ref().map(prefixes),
        path: rule.as_path.map(|path| match path {
            AsPathMatch::Origin(asn) => PathCondition::Origin(asn),
            AsPathMatch::Contains(asn) => PathCondition::Contains(asn),
        }),
        community: rule.community,
        distinguisher: rule.distinguisher,
    };
    config.route_filters.get(filter).map(|filter| filter.rules.values().map(rule).collect()).unwrap_or_default()
}

fn prefix_rule(entry: &PrefixEntry) -> PrefixRule {
    let (shortest, longest) = entry.lengths();
    let address = match entry.prefix.address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    let prefix = PrefixBits { is_ipv4: entry.prefix.address.is_ipv4(), address, length: entry.prefix.length };
    PrefixRule { permits: entry.permits, prefix, shortest, longest }
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
