//! What an operator should know about a configuration, though nothing is refused for it: sessions whose source cannot be what it is told to be, and what
//! names something that is not there.

use std::{fs, net::IpAddr};

use super::binding::egress_names;
use crate::{
    config::{BgpPeer, Config, ConnectInterface, MonitorId, Session, SessionId, effective},
    input::bgp::missing,
    link::{Host, Link, Routes},
    pin::{Pinned, Question, Role, back_on_its_way, led_astray, resolve, target},
};

/// One sentence each, without its full stop.
pub(super) async fn of(
    config: &Config,
    id: &SessionId,
    session: &Session,
    host: &Host,
    routes: &Routes,
) -> Vec<String> {
    let connect = effective(&config.bmp, id, session).connect;
    let pinned = Pinned::Session(id.clone());
    let mut warnings = Vec::new();
    if let Some(name) = connect.as_ref().and_then(|connect| connect.interface())
        && let Some(link) = host.link_named(name, &config.interface_aliases)
    {
        warnings.extend(of_interface(name, link, &pinned, session.next_hop.is_some(), host));
    }
    warnings.extend(of_route(connect.as_ref(), config, &pinned, session, host, routes).await);
    warnings
}

/// The same of a BGP peer.
pub(super) fn of_peer(config: &Config, address: IpAddr, peer: &BgpPeer, host: &Host) -> Vec<String> {
    let name = peer.connect_interface.as_ref().and_then(ConnectInterface::interface);
    let named = name.and_then(|name| Some((name, host.link_named(name, &config.interface_aliases)?)));
    named
        .map(|(name, link)| of_interface(name, link, &Pinned::BgpPeer(address, Role::Connect), false, host))
        .unwrap_or_default()
}

/// Inputs that take nothing, and what stations are told of inputs that there are not.
pub(super) fn of_inputs(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, relay) in &config.relays {
        if relay.listen.is_none() {
            warnings.push(format!("bmp-relay {name} takes nothing until it has `listen ADDRESS port N`"));
        }
    }
    for (name, replay) in &config.replays {
        match &replay.file {
            None => warnings.push(format!("mrt-replay {name} replays nothing until it has `file PATH`")),
            Some(file) => {
                if let Err(error) = fs::metadata(file) {
                    warnings.push(format!("mrt-replay {name} fails: {}: {error}", file.display()));
                }
            }
        }
    }
    if let Some(bgp) = &config.bgp {
        for (address, peer) in &bgp.peers {
            let what = missing(bgp, *address, peer);
            warnings.extend(what.map(|what| format!("BGP peer {address} is not spoken to: {what}")));
        }
    }
    for (id, session) in &config.bmp.sessions {
        for monitor in session.monitors.keys() {
            let missing = match monitor {
                MonitorId::Relay(name) => !config.relays.contains_key(name),
                MonitorId::Replay(name) => !config.replays.contains_key(name),
                MonitorId::Bgp => config.bgp.is_none(),
                // Who else there is is known from what inputs say.
                MonitorId::Public | MonitorId::AllVpnInstances | MonitorId::VpnInstance(_) | MonitorId::Peer { .. } => {
                    false
                }
            };
            if missing {
                warnings.push(format!("{id} is told nothing by `monitor {monitor}`: there is no such input"));
            }
        }
    }
    warnings
}

/// `routed`: it has a next hop.
fn of_interface(name: &str, link: &Link, id: &Pinned, routed: bool, host: &Host) -> Vec<String> {
    let mut warnings = Vec::new();
    if link.layer2(host) {
        warnings.push(format!("interface {name} is a layer 2 port: {id} stays down while it is"));
    }
    // Its socket takes replies on that interface alone; with a next hop it is not bound to it.
    let of_those = if routed { " that come back by it" } else { "" };
    if id.far().is_ipv4() && !link.donor() && strict_rp_filter(&link.name) {
        warnings.push(format!(
            "rp_filter is strict on interface {name}: replies to {id}{of_those} are dropped there where another interface has the \
             better route to it (sysctl net.ipv4.conf.{}.rp_filter=2)",
            link.name
        ));
    }
    warnings
}

/// The routing tables lead where the session may not leave.
async fn of_route(
    connect: Option<&ConnectInterface>,
    config: &Config,
    id: &Pinned,
    session: &Session,
    host: &Host,
    routes: &Routes,
) -> Option<String> {
    let question = Question {
        connect,
        vpn_instance: id.vpn_instance(),
        egress_interfaces: &session.egress_interfaces,
        next_hop: session.next_hop,
        station: id.far(),
        aliases: &config.interface_aliases,
        keep: None,
    };
    let resolved = resolve(&question, host).ok()?;
    let elsewhere = led_astray(id, &resolved, host, routes).await?;
    let mend = back_on_its_way(&target(id, session.transport, host)?, &resolved)?;
    Some(format!(
        "{id} may leave by {} alone, and the route to its station leaves by {elsewhere}: every packet of it is dropped ({mend})",
        egress_names(&resolved, host).join(" or ")
    ))
}

/// Strict reverse path filtering (ip-sysctl of the kernel's documentation): the higher of the interface's value and that of `all`
/// counts, and 1 is strict.
fn strict_rp_filter(interface: &str) -> bool {
    let value = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"));
        text.ok().and_then(|text| text.trim().parse::<u8>().ok()).unwrap_or(0)
    };
    value("all").max(value(interface)) == 1
}
