//! What an operator should know about a session's source, though nothing is refused for it.

use std::fs;

use super::binding::egress_names;
use crate::{
    config::{Config, ConnectInterface, Session, SessionId, effective},
    link::{Host, Link, Routes},
    pin::{Question, back_on_its_way, led_astray, resolve, target},
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
    let mut warnings = Vec::new();
    if let Some(name) = connect.as_ref().and_then(|connect| connect.interface())
        && let Some(link) = host.link_named(name, &config.interface_aliases)
    {
        warnings.extend(of_interface(name, link, id, session, host));
    }
    warnings.extend(of_route(connect.as_ref(), config, id, session, host, routes).await);
    warnings
}

fn of_interface(name: &str, link: &Link, id: &SessionId, session: &Session, host: &Host) -> Vec<String> {
    let mut warnings = Vec::new();
    if link.layer2(host) {
        warnings.push(format!("interface {name} is a layer 2 port: session {id} stays down while it is"));
    }
    // The session's socket takes replies on that interface alone; with a next hop it is not bound to it.
    let of_those = if session.next_hop.is_some() { " that come back by it" } else { "" };
    if id.station.is_ipv4() && !link.donor() && strict_rp_filter(&link.name) {
        warnings.push(format!(
            "rp_filter is strict on interface {name}: replies to session {id}{of_those} are dropped there where another interface has the \
             better route to the station (sysctl net.ipv4.conf.{}.rp_filter=2)",
            link.name
        ));
    }
    warnings
}

/// The routing tables lead where the session may not leave.
async fn of_route(
    connect: Option<&ConnectInterface>,
    config: &Config,
    id: &SessionId,
    session: &Session,
    host: &Host,
    routes: &Routes,
) -> Option<String> {
    let question = Question {
        connect,
        vpn_instance: id.vpn_instance.as_deref(),
        egress_interfaces: &session.egress_interfaces,
        next_hop: session.next_hop,
        station: id.station,
        aliases: &config.interface_aliases,
        keep: None,
    };
    let resolved = resolve(&question, host).ok()?;
    let elsewhere = led_astray(id, &resolved, host, routes).await?;
    let mend = back_on_its_way(&target(id, session, host)?, &resolved)?;
    Some(format!(
        "session {id} may leave by {} alone, and the route to its station leaves by {elsewhere}: every packet of it is dropped ({mend})",
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
