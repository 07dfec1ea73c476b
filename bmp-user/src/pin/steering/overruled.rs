//! Asks the kernel whether it routes a session's packets by its next hop. Rules and routes that
//! come before bmpd's own can take the packets elsewhere, and so can an ICMP redirect.

use std::net::IpAddr;

use tracing::warn;

use super::NextHopRoutes;
use crate::{
    link::{EarlierRule, Host, KernelRoute, MarkedFlow, PRIORITY, RouteLookup},
    pin::{
        kernel::PinTarget,
        plan::{NextHopPath, Pinned, ResolvedPin},
        reason::{DownCause, Reason},
    },
};

/// The answer to "does something overrule the next hop". It holds until the routes, the rules or
/// the question change.
#[derive(Debug)]
pub(in crate::pin) struct NextHopAnswer {
    epoch: u64,
    flow: MarkedFlow,
    path: NextHopPath,
    /// The router that an ICMP redirect has put in place of the next hop.
    redirect: Option<IpAddr>,
    overruled: Option<DownCause>,
}

impl NextHopAnswer {
    /// True if an ICMP redirect has come or expired since the kernel was asked. The kernel
    /// announces neither.
    pub(in crate::pin) async fn is_outdated(&self, routes: &RouteLookup) -> bool {
        let redirect = routes.redirected_router(&self.flow, self.path.next_hop).await;
        // Where a rule overrules the next hop, the session is down for that already.
        let is_by_rule = self.overruled.is_some() && self.redirect.is_none();
        !is_by_rule && redirect.is_ok_and(|redirect| redirect != self.redirect)
    }
}

/// A session whose packets bear a mark, by which a rule finds its own route.
pub(in crate::pin) struct MarkedSession<'a> {
    pub(in crate::pin) target: &'a PinTarget,
    pub(in crate::pin) resolved: &'a ResolvedPin,
    pub(in crate::pin) path: &'a NextHopPath,
    pub(in crate::pin) mark: u32,
}

/// Returns what takes the packets of a marked session elsewhere than to its next hop; `None` while
/// nothing does. Asks the kernel once for each change of the routes; `last` is the previous answer.
///
/// Where the kernel cannot be asked, the previous answer stands.
pub(in crate::pin) async fn overruled(
    pinned: &Pinned,
    session: MarkedSession<'_>,
    host: &Host,
    routes: &RouteLookup,
    next_hop_routes: &NextHopRoutes,
    last: &mut Option<NextHopAnswer>,
) -> Option<DownCause> {
    let MarkedSession { target, resolved, path, mark } = session;
    let bound = resolved.device.as_ref().map_or(0, |device| device.index);
    let flow = MarkedFlow { destination: target.station, source: resolved.source, bound, mark };
    let known = last.as_ref().filter(|known| known.flow == flow && known.path == *path);
    if let Some(known) = known.filter(|known| known.epoch == host.routes_epoch) {
        return known.overruled.clone();
    }
    let (redirect, overruled) = match ask(&flow, path, host, routes, next_hop_routes).await {
        Ok(Overruling::Nothing) => (None, None),
        Ok(Overruling::Redirect(router)) => (Some(router), Some(redirected(router, path))),
        Ok(Overruling::Rule(cause)) => (None, Some(cause)),
        Err(error) => {
            warn!(of = %pinned, "cannot ask the kernel whether next hop {} is overruled: {error:#}", path.next_hop);
            known.map(|known| (known.redirect, known.overruled.clone())).unwrap_or_default()
        }
    };
    let (epoch, path) = (host.routes_epoch, path.clone());
    *last = Some(NextHopAnswer { epoch, flow, path, redirect, overruled: overruled.clone() });
    overruled
}

/// What overrules a next hop.
enum Overruling {
    Nothing,
    /// An ICMP redirect to this router.
    Redirect(IpAddr),
    /// A rule or a route.
    Rule(DownCause),
}

async fn ask(
    flow: &MarkedFlow,
    path: &NextHopPath,
    host: &Host,
    routes: &RouteLookup,
    next_hop_routes: &NextHopRoutes,
) -> anyhow::Result<Overruling> {
    let route = routes.marked_route(flow).await?;
    if route.is_some_and(|route| is_own_route(&route, path, flow.mark)) {
        let redirect = routes.redirected_router(flow, path.next_hop).await?;
        return Ok(redirect.map_or(Overruling::Nothing, Overruling::Redirect));
    }
    let ipv4 = flow.destination.is_ipv4();
    let rule = match &route {
        // Somebody else's route in the session's own table.
        Some(route) if route.table == flow.mark => None,
        Some(route) => next_hop_routes.earlier_rule(ipv4, Some(route.table)).await?,
        // What the session's own table has no route for is refused behind it, so only a rule that
        // forbids the packets itself gives no route.
        None => match next_hop_routes.earlier_rule(ipv4, None).await? {
            None => return Ok(Overruling::Nothing),
            rule => rule,
        },
    };
    Ok(Overruling::Rule(taken_elsewhere(route.as_ref(), rule, path, flow, host)))
}

/// A router on the link announced another router as the better one (RFC 792, RFC 4861 section 8).
fn redirected(router: IpAddr, path: &NextHopPath) -> DownCause {
    let NextHopPath { next_hop, interface, .. } = path;
    let family = if next_hop.is_ipv4() { "ipv4" } else { "ipv6" };
    DownCause {
        reason: Reason::NextHopOverruled,
        why: format!(
            "an ICMP redirect takes the session's packets to {router}, and not to next hop {next_hop} by {interface}"
        ),
        mend: format!("{} net.{family}.route.flush=1", path.no_redirects()),
    }
}

/// True if bmpd added the route.
fn is_own_route(route: &KernelRoute, path: &NextHopPath, mark: u32) -> bool {
    route.table == mark
        && route.gateway.is_none_or(|gateway| gateway == path.next_hop)
        && (route.oif == 0 || route.oif == path.interface.index)
}

fn taken_elsewhere(
    route: Option<&KernelRoute>,
    rule: Option<EarlierRule>,
    path: &NextHopPath,
    flow: &MarkedFlow,
    host: &Host,
) -> DownCause {
    let family = if flow.destination.is_ipv4() { "" } else { "-6 " };
    let by = |route: &KernelRoute| match (host.links.get(&route.oif), route.gateway) {
        (Some(link), Some(gateway)) => format!("to {gateway} by {}", link.name),
        (Some(link), None) => format!("by {}", link.name),
        (None, Some(gateway)) => format!("to {gateway}"),
        (None, None) => "elsewhere".to_owned(),
    };
    let direction = route.map_or_else(|| "nowhere".to_owned(), by);
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
    let NextHopPath { next_hop, interface, .. } = path;
    let why = format!("{who} the session's packets {direction}, and not to next hop {next_hop} by {interface}");
    DownCause { reason: Reason::NextHopOverruled, why, mend }
}
