//! What an operator should know about a session's source, though nothing is refused for it.

use std::fs;

use crate::{
    config::{Config, Session, SessionId, effective},
    link::Host,
};

/// One sentence each, without its full stop.
pub(super) fn of(config: &Config, id: &SessionId, session: &Session, host: &Host) -> Vec<String> {
    let connect = effective(&config.bmp, id, session).connect;
    let Some(name) = connect.as_ref().and_then(|connect| connect.interface()) else { return Vec::new() };
    let Some(link) = host.link_named(name, &config.interface_aliases) else { return Vec::new() };
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

/// Strict reverse path filtering (ip-sysctl of the kernel's documentation): the higher of the interface's value and that of `all`
/// counts, and 1 is strict.
fn strict_rp_filter(interface: &str) -> bool {
    let value = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"));
        text.ok().and_then(|text| text.trim().parse::<u8>().ok()).unwrap_or(0)
    };
    value("all").max(value(interface)) == 1
}
