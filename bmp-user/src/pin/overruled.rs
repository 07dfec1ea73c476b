//! Whether the kernel routes a session's packets by its next hop, where somebody else's rules and routes come first.

use std::net::IpAddr;

use tracing::warn;

use super::{Pinned, Reason, Resolved, Steers, Target, Unresolved, Way};
use crate::link::{EarlierRule, Host, KernelRoute, MarkedFlow, PRIORITY, RouteLookup};

/// The answer to "does something overrule the next hop", good until routes, rules or the question change.
#[derive(Debug)]
pub(super) struct Ruling {
    epoch: u64,
    flow: MarkedFlow,
    way: Way,
    /// The router that an ICMP redirect has put in the next hop's place.
    redirect: Option<IpAddr>,
    overruled: Option<Unresolved>,
}

impl Ruling {
    /// Whether an ICMP redirect has come, or expired, since the question was asked. The kernel announces neither.
    pub(super) async fn is_outdated(&self, routes: &RouteLookup) -> bool {
        let now = routes.redirected_router(&self.flow, self.way.next_hop).await;
        // Where a rule overrules the next hop, that is said already, and what it leads to is no redirect.
        let is_by_rule = self.overruled.is_some() && self.redirect.is_none();
        !is_by_rule && now.is_ok_and(|now| now != self.redirect)
    }
}

/// What takes the packets that bear a session's mark elsewhere than by its way; `None` while nothing does. Asked once for each change of
/// the routes. Where the kernel cannot be asked, the last answer stands.
pub(super) async fn overruled(
    id: &Pinned,
    (target, resolved, way, mark): (&Target, &Resolved, &Way, u32),
    host: &Host,
    routes: &RouteLookup,
    steers: &Steers,
    last: &mut Option<Ruling>,
) -> Option<Unresolved> {
    let bound = resolved.device.as_ref().map_or(0, |(index, _)| *index);
    let flow = MarkedFlow { destination: target.station, source: resolved.source, bound, mark };
    let known = last.as_ref().filter(|known| known.flow == flow && known.way == *way);
    if let Some(known) = known.filter(|known| known.epoch == host.routes_epoch) {
        return known.overruled.clone();
    }
    let (redirect, found) = match ask(&flow, way, host, routes, steers).await {
        Ok(found) => found,
        Err(error) => {
            warn!(of = %id, "cannot ask the kernel whether next hop {} is overruled: {error:#}", way.next_hop);
            known.map(|known| (known.redirect, known.overruled.clone())).unwrap_or_default()
        }
    };
    *last = Some(Ruling { epoch: host.routes_epoch, flow, way: way.clone(), redirect, overruled: found.clone() });
    found
}

/// The router of a redirect, if there is one, and what overrules the next hop.
async fn ask(
    flow: &MarkedFlow,
    way: &Way,
    host: &Host,
    routes: &RouteLookup,
    steers: &Steers,
) -> anyhow::Result<(Option<IpAddr>, Option<Unresolved>)> {
    let route = routes.marked_route(flow).await?;
    if route.is_some_and(|route| is_by(&route, way, flow.mark)) {
        let redirect = routes.redirected_router(flow, way.next_hop).await?;
        return Ok((redirect, redirect.map(|router| redirected(router, way))));
    }
    let ipv4 = flow.destination.is_ipv4();
    let rule = match &route {
        // Somebody else's route in the session's own table.
        Some(route) if route.table == flow.mark => None,
        Some(route) => steers.earlier_rule(ipv4, Some(route.table)).await?,
        // The session's own table has an end. Only a rule that says so itself keeps packets from it.
        None => match steers.earlier_rule(ipv4, None).await? {
            None => return Ok((None, None)),
            rule => rule,
        },
    };
    Ok((None, Some(unresolved(route.as_ref(), rule, way, flow, host))))
}

/// A router on the link has said that another one is the better way (RFC 792, RFC 4861 section 8).
fn redirected(router: IpAddr, way: &Way) -> Unresolved {
    let Way { next_hop, interface: (_, interface) } = way;
    let family = if next_hop.is_ipv4() { "ipv4" } else { "ipv6" };
    Unresolved {
        reason: Reason::NextHopOverruled,
        why: format!(
            "an ICMP redirect takes the session's packets to {router}, and not to next hop {next_hop} by {interface}"
        ),
        mend: format!("{} net.{family}.route.flush=1", way.no_redirects()),
    }
}

/// Whether a route is the one that bmpd has made.
fn is_by(route: &KernelRoute, way: &Way, mark: u32) -> bool {
    route.table == mark
        && route.gateway.is_none_or(|gateway| gateway == way.next_hop)
        && (route.oif == 0 || route.oif == way.interface.0)
}

fn unresolved(
    route: Option<&KernelRoute>,
    rule: Option<EarlierRule>,
    way: &Way,
    flow: &MarkedFlow,
    host: &Host,
) -> Unresolved {
    let family = if flow.destination.is_ipv4() { "" } else { "-6 " };
    let by = |route: &KernelRoute| match (host.links.get(&route.oif), route.gateway) {
        (Some(link), Some(gateway)) => format!("to {gateway} by {}", link.name),
        (Some(link), None) => format!("by {}", link.name),
        (None, Some(gateway)) => format!("to {gateway}"),
        (None, None) => "elsewhere".to_owned(),
    };
    let goes = route.map_or_else(|| "nowhere".to_owned(), by);
    let (who, mend) = match (rule, route) {
        (Some(EarlierRule { priority, .. }), _) => (
            format!("rule {priority}, which comes before rule {PRIORITY} of bmpd, takes"),
            format!("ip {family}rule del priority {priority}"),
        ),
        (None, Some(route)) if route.table == flow.mark => (
            format!("another route in table {} takes", flow.mark),
            format!("ip {family}route show table {}", flow.mark),
        ),
        (None, _) => ("another rule takes".to_owned(), format!("ip {family}rule show")),
    };
    let next_hop: IpAddr = way.next_hop;
    let why = format!("{who} the session's packets {goes}, and not to next hop {next_hop} by {}", way.interface.1);
    Unresolved { reason: Reason::NextHopOverruled, why, mend }
}
