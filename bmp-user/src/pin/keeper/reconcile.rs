//! One round over all pins: what is decided now, and what follows from that.

use std::{collections::BTreeMap, net::IpAddr};

use bmp_ebpf::{InetAddress, InetFamily, Pin};
use tokio::time::Instant;
use tracing::warn;

use super::{PinKeeper, step::PinStep, tracked::TrackedPin};
use crate::{
    link::Host,
    pin::{
        plan::{
            Grant, PinDecision, PinDemand, PinDraft, PinSettings, Pinned, draft, has_route, needs_route, no_route,
            station_links, target,
        },
        source_choices::SourceChoice,
        steering::{MarkedSession, overruled},
        view::PinState,
    },
};

impl PinKeeper {
    /// Decides about every pin, and puts in force what changed.
    pub(super) async fn reconcile(&mut self, demands: &BTreeMap<Pinned, PinDemand>, host: &Host) {
        self.vrfs.keep(host, demands.keys(), self.pins.datapath());
        self.next_hop_routes.keep(host.routes_epoch).await;
        self.refresh_neighbours(demands, host).await;
        self.remove_unwanted(demands).await;
        for (pinned, demand) in demands {
            let mut tracked = match self.sessions.remove(pinned) {
                Some(tracked) => tracked,
                None => TrackedPin::new(self.pins.pin(pinned), demand.settings.own_only),
            };
            self.reconcile_one(pinned, demand, &mut tracked, host).await;
            self.sessions.insert(pinned.clone(), tracked);
        }
        let choices = self.sessions.iter().filter_map(|(pinned, tracked)| {
            let connect = tracked.in_force.settings.as_ref()?.connect.as_ref();
            Some((pinned.clone(), SourceChoice::of(connect, tracked.source)?))
        });
        self.source_choices.keep(choices.collect()).await;
    }

    async fn remove_unwanted(&mut self, demands: &BTreeMap<Pinned, PinDemand>) {
        let gone: Vec<_> = self.sessions.keys().filter(|pinned| !demands.contains_key(*pinned)).cloned().collect();
        for pinned in gone {
            let Some(mut tracked) = self.sessions.remove(&pinned) else { continue };
            self.uninstall(&mut tracked);
            self.next_hop_routes.settle(&pinned, None).await;
            if let Some(denial) = tracked.denial.take() {
                self.linger(&tracked, denial);
            }
            // A session that is configured again soon has the same `SessionPin`. It must not
            // connect under the old view.
            tracked.pin.publish(|view| {
                view.state = PinState::Pending;
                view.enforced = None;
                view.hold_down = None;
                view.guarded = Default::default();
            });
        }
    }

    async fn reconcile_one(&mut self, pinned: &Pinned, demand: &PinDemand, tracked: &mut TrackedPin, host: &Host) {
        let settings = &demand.settings;
        if tracked.in_force.settings.as_ref().is_some_and(|before| before.connect != settings.connect) {
            tracked.source = None;
        }
        if !tracked.has_begun && tracked.source.is_none() {
            tracked.source = self.earlier_source(pinned, settings, host);
        }
        tracked.station_links = station_links(pinned.far(), settings, host);
        let decision = self.decide(pinned, settings, tracked, host).await;
        let gets_its_slot = tracked.shares_a_denial() && self.pins.datapath().has_free_slot();
        let is_outdated = gets_its_slot || tracked.is_denied_otherwise();
        let (mut state, mut hold_down) = (None, None);
        match tracked.in_force.step(&decision, demand, is_outdated, Instant::now()) {
            PinStep::Hold(held) => hold_down = Some(held),
            PinStep::Keep => {}
            PinStep::Apply { connections_go_on } => {
                state = self.apply(pinned, tracked, decision, connections_go_on).await;
            }
        }
        let is_held = hold_down.is_some();
        // Kernel first, session after. All of it at once: a session that goes down must not take
        // the end of its hold-down for the return of its way.
        tracked.pin.publish(|view| {
            if let Some(state) = state {
                view.state = state;
                view.enforced = tracked.enforced();
            }
            view.hold_down = hold_down;
            view.routes_epoch = host.routes_epoch;
        });
        if !is_held {
            let mark = tracked.in_force.decision.as_ref().and_then(PinDecision::mark);
            self.next_hop_routes.settle(pinned, mark.or(tracked.overruled_mark)).await;
        }
    }

    /// Has the kernel forget unanswered neighbour requests on interfaces that are usable again.
    ///
    /// What was sent while an interface was down, such as a session's farewell, waits for
    /// neighbours that could not answer. New connections would wait with it. This happens once,
    /// before any session is told: later it would break off the requests of the new connections.
    async fn refresh_neighbours(&mut self, demands: &BTreeMap<Pinned, PinDemand>, host: &Host) {
        let unusable = host.links.values().filter(|link| !link.is_usable()).map(|link| link.index).collect();
        let before = std::mem::replace(&mut self.unusable_links, unusable);
        let back = before.iter().filter_map(|index| host.links.get(index)).filter(|link| link.is_usable());
        for link in back {
            let names_it = |settings: &PinSettings| {
                let names = settings.connect.iter().filter_map(|connect| connect.interface());
                let mut links = names.filter_map(|name| host.link_named(name, &settings.aliases));
                links.any(|named| named.index == link.index)
            };
            if demands.values().any(|demand| names_it(&demand.settings))
                && let Err(error) = self.routes.ask_neighbours_anew(link.index).await
            {
                warn!("interface {} is back, and its connections may come a second late: {error:#}", link.name);
            }
        }
    }

    /// Returns the source that was chosen for a pin before this bmpd or its other direction began.
    fn earlier_source(&self, pinned: &Pinned, settings: &PinSettings, host: &Host) -> Option<IpAddr> {
        let of_twin = || self.sessions.get(&pinned.twin()?)?.source;
        let of_file = || self.source_choices.before(pinned, settings.connect.as_ref());
        of_twin().or_else(of_file).or_else(|| self.inherited_source(pinned, settings, host))
    }

    /// Returns the pin that an earlier bmpd left in force.
    fn inherited(&self, pinned: &Pinned, settings: &PinSettings, host: &Host) -> Option<Pin> {
        let key = self.pins.datapath().key(&target(pinned, settings.transport, host)?);
        let inherited = self.pins.datapath().inherited();
        Some(inherited.iter().find(|slot| slot.in_force && slot.key == key)?.pin)
    }

    /// Returns the source of that pin.
    fn inherited_source(&self, pinned: &Pinned, settings: &PinSettings, host: &Host) -> Option<IpAddr> {
        let pin = self.inherited(pinned, settings, host)?;
        if pin.source == InetAddress::UNSPECIFIED { None } else { pin.source.to_ip(InetFamily::of(pinned.far())) }
    }

    /// Decides about one pin. Asks the kernel for routes where the host alone does not tell.
    async fn decide(
        &self,
        pinned: &Pinned,
        settings: &PinSettings,
        tracked: &mut TrackedPin,
        host: &Host,
    ) -> PinDecision {
        tracked.overruled_mark = None;
        let (target, resolved) = match draft(pinned, settings, tracked.source, host) {
            PinDraft::Down { target, cause } => return PinDecision::Down { target, cause },
            PinDraft::Resolved { target, resolved } => (target, resolved),
        };
        tracked.source = resolved.source;
        let down = |cause| PinDecision::Down { target: Some(target), cause };
        if let Some(cause) = self.vrfs.refuse(&target) {
            return down(cause);
        }
        let own_only = settings.own_only;
        let Some(path) = &resolved.path else {
            let is_routed = !needs_route(&target, &resolved)
                || has_route(pinned, &target, &resolved, host, &self.routes, &mut tracked.route).await;
            return if is_routed {
                PinDecision::Ready(Grant { target, resolved, mark: 0, line: 0, own_only })
            } else {
                down(no_route(pinned, &resolved))
            };
        };
        let inherited = self.inherited(pinned, settings, host).map(|pin| pin.mark);
        let mark = match self.next_hop_routes.route(pinned, path, inherited, host, &self.routes).await {
            Ok(mark) => mark,
            Err(cause) => return down(cause),
        };
        let session = MarkedSession { target: &target, resolved: &resolved, path, mark };
        let answer = &mut tracked.next_hop;
        match overruled(pinned, session, host, &self.routes, &self.next_hop_routes, answer).await {
            None => PinDecision::Ready(Grant { target, resolved, mark, line: 0, own_only }),
            Some(cause) => {
                tracked.overruled_mark = Some(mark);
                down(cause)
            }
        }
    }
}
