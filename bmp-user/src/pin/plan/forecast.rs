//! What would become of the pins of a configuration on this host, before there are any.

use super::{
    PinDraft,
    demand::{Pinned, demands},
    draft,
    reachability::{has_route, needs_route, no_route},
    resolve::ResolvedPin,
};
use crate::{
    config::Config,
    link::{Host, RouteLookup},
    pin::reason::DownCause,
};

/// Works out for each session and BGP peer what its pin would be, or why it would be down. Asks for
/// routes and changes nothing. Whether a route of its own would lead to a next hop is only known
/// once it is made.
pub async fn forecast(
    config: &Config,
    host: &Host,
    routes: &RouteLookup,
) -> Vec<(Pinned, Result<ResolvedPin, DownCause>)> {
    let mut forecasts = Vec::new();
    for (pinned, demand) in demands(config) {
        let outcome = match draft(&pinned, &demand.settings, None, host) {
            PinDraft::Down { cause, .. } => Err(cause),
            PinDraft::Resolved { target, resolved } => {
                let is_routed = !needs_route(&target, &resolved)
                    || has_route(&pinned, &target, &resolved, host, routes, &mut None).await;
                if is_routed { Ok(resolved) } else { Err(no_route(&pinned, &resolved)) }
            }
        };
        forecasts.push((pinned, outcome));
    }
    forecasts
}
