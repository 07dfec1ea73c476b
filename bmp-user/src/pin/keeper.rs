//! The task that keeps the pins: it compares what is configured with what the host has, writes what follows into the kernel
//! tables, and tells each session what it may use.

mod mending;
mod slots;
mod unheld;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use bmp_ebpf::{Pin, PinKey};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tracing::{info, warn};

use super::{
    Chosen, Current, Foreign, Grant, Held, Pinned, Pins, Question, Reason, Role, SessionPin, Slot, State, Steers,
    Target, Unresolved,
    asked::{Asked, Demand, demands},
    chosen::Choice,
    datapath::{AGAIN, LOOK, Mended},
    decision::{Decision, denial, denies, in_words, pin_of, station_links, target},
    foreign::Wanted,
    guard::Guard,
    overruled::{Ruling, overruled},
    reach::{Verdict, has_route, no_route},
    resolve,
    vrfs::Vrfs,
};
use crate::{
    config::{Config, Transport},
    link::{Host, RouteLookup},
};

/// How long the slot of a replaced pin stays as it was, so that FIN and RST of its sockets leave by the old way.
pub const LINGER: Duration = Duration::from_secs(10);

/// What was decided about one session, and what stands in the kernel tables for it.
struct Tracked {
    pin: Arc<SessionPin>,
    /// `egress-interface` as it was configured when the last decision was put in force.
    egress_interfaces: Vec<String>,
    /// [`Asked::own_only`], which no change of configuration changes.
    own_only: bool,
    /// [`Grant::line`] of the last grant.
    line: u64,
    /// What was configured when the last decision was put in force.
    asked: Option<Asked>,
    /// Since when the way of a session that is held has been lost.
    lost_since: Option<Instant>,
    /// When a pin that is lost is given up, if it is not mended before.
    held_until: Option<Instant>,
    /// The address that the rule chose: kept while it is valid.
    chosen: Option<IpAddr>,
    decision: Option<Decision>,
    installed: Option<Installed>,
    /// The slot that denies the session, and how: it is kept, so that a session that goes down often needs no new one each time.
    denial: Option<(Slot, Pin)>,
    /// Whether it has had a key yet.
    begun: bool,
    /// Whether connections are to be looked for that were there before what is in force.
    is_new: bool,
    route: Option<Verdict>,
    ruling: Option<Ruling>,
    /// The mark of a session whose next hop is overruled: it is kept, so that the session is back as soon as nothing overrules it.
    overruled_mark: Option<u32>,
    /// Indexes of the interfaces that lead to the station, where its address is a link-local one: on any other link the address is
    /// another host's.
    station_links: Option<Vec<u32>>,
}

impl Tracked {
    /// Whether the session stays as it is for now, although its way is lost: `hold-down` gives the host that time to mend it. It is not for what
    /// an operator changes, nor for a session that has no connection any more.
    fn holds_on(&mut self, decision: &Decision, asked: &Asked, hold_down: Duration) -> bool {
        let lost_way = match decision {
            Decision::Down(_, unresolved) if unresolved.reason.is_of_the_host() => Some(unresolved),
            Decision::Ready(_) | Decision::Down(..) => None,
        };
        let in_force = matches!(self.decision, Some(Decision::Ready(_))) && self.asked.as_ref() == Some(asked);
        let now = Instant::now();
        if let Some(unresolved) = lost_way.filter(|_| in_force) {
            let first = self.lost_since.is_none();
            // As it is configured by now: the time that has passed counts.
            let until = *self.lost_since.get_or_insert(now) + hold_down;
            if now < until && (first || !self.pin.is_given_up()) {
                self.held_until = Some(until);
                self.pin.tell_held(Some(Held { unresolved: unresolved.clone(), until }));
                return true;
            }
        }
        (self.lost_since, self.held_until) = (None, None);
        false
    }

    /// What denies the session, and names the address that was chosen for it.
    fn denial_pin(&self) -> Pin {
        denial(self.chosen, self.own_only, self.station_links.as_deref().unwrap_or_default())
    }

    /// Whether there is anything to deny: nobody reaches a link-local station whose interface is absent.
    fn is_deniable(&self) -> bool {
        self.station_links.as_ref().is_none_or(|links| !links.is_empty())
    }

    /// Whether it is denied without a slot of its own, so that what is denied is not counted for it.
    fn shares_a_denial(&self) -> bool {
        self.installed.as_ref().is_some_and(|installed| installed.slot.is_shared_denial())
    }

    /// Whether what denies the session is not what shall: it says another address than the one that is to be kept, or other interfaces.
    fn is_denied_otherwise(&self) -> bool {
        match &self.installed {
            Some(installed) => denies(&installed.pin) && (installed.pin != self.denial_pin() || !self.is_deniable()),
            None => matches!(self.decision, Some(Decision::Down(Some(_), _))) && self.is_deniable(),
        }
    }
}

/// What a key leads to.
struct Installed {
    target: Target,
    key: PinKey,
    slot: Slot,
    pin: Pin,
}

/// A slot to which no key leads any more.
struct Lingering {
    until: Instant,
    /// Absent for what an earlier bmpd left for a session that is no more.
    session: Option<Arc<SessionPin>>,
    slot: Slot,
    /// Absent for what an earlier bmpd left: nobody goes back to that.
    pin: Option<Pin>,
}

/// Keeps the pins, and the routes of sessions with a next hop, in step with configuration and host until either of them is gone.
pub fn run(
    pins: Pins,
    steers: Steers,
    chosen: Chosen,
    foreign: Foreign,
    config: watch::Receiver<Arc<Config>>,
    host: watch::Receiver<Arc<Host>>,
    routes: RouteLookup,
) -> impl Future<Output = ()> {
    // Before the first poll: whoever asks from now on waits for the first decisions.
    pins.tell_decided();
    keep(pins, steers, chosen, foreign, config, host, routes)
}

async fn keep(
    pins: Pins,
    steers: Steers,
    chosen: Chosen,
    foreign: Foreign,
    mut config: watch::Receiver<Arc<Config>>,
    mut host: watch::Receiver<Arc<Host>>,
    routes: RouteLookup,
) {
    let (sessions, lingering) = (BTreeMap::new(), VecDeque::new());
    steers.begin().await;
    let mut keeper = Keeper {
        pins,
        steers,
        chosen,
        foreign,
        lines: 0,
        routes,
        vrfs: Vrfs::default(),
        sessions,
        lost: BTreeSet::new(),
        lingering,
        is_short_of_slots: false,
    };
    let mut guard = Guard::default();
    let mut first = true;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (wanted, found) = (Arc::clone(&config.borrow_and_update()), Arc::clone(&host.borrow_and_update()));
        let demands = demands(&wanted);
        keeper.update(&demands, &found).await;
        if std::mem::take(&mut first) {
            keeper.retire_inherited(&demands).await;
            keeper.pins.tell_settled();
        }
        keeper.look_for_unheld(&demands).await;
        keeper.pins.tell_applied(&wanted);
        guard.update(keeper.pins.datapath(), &found, keeper.passive(&demands));
        let next = keeper.next_deadline().into_iter().chain(keeper.steers.deadline().await).min();
        let again = keeper.pins.datapath().is_tried_again().then(|| Instant::now() + AGAIN);
        let more = loop {
            let lost = keeper.lost();
            break tokio::select! {
                changed = config.changed() => changed.is_ok(),
                changed = host.changed() => changed.is_ok(),
                () = until(next) => true,
                () = keeper.pins.told() => true,
                () = keeper.chosen.trial_changed() => true,
                // While all is well, nothing is decided anew for it.
                _ = look.tick() => {
                    keeper.look_again_for_unheld().await;
                    if keeper.mend(&demands).await | keeper.look_for_redirects().await { true } else { continue }
                }
                () = lost => if keeper.mend(&demands).await { true } else { continue },
                () = until(again) => {
                    first = keeper.load_again().await;
                    true
                }
            };
        };
        keeper.free_expired();
        keeper.steers.expire().await;
        if !more {
            return;
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

struct Keeper {
    pins: Pins,
    /// The last [`Grant::line`] that was given. None is given twice, also not to a session that is removed and made again.
    lines: u64,
    /// Moves connections from one slot to another, whoever has them.
    foreign: Foreign,
    steers: Steers,
    chosen: Chosen,
    routes: RouteLookup,
    vrfs: Vrfs,
    sessions: BTreeMap<Pinned, Tracked>,
    /// The interfaces that could not be used when the host was last looked at.
    lost: BTreeSet<u32>,
    /// Earliest first.
    lingering: VecDeque<Lingering>,
    /// Whether the last denial found no slot.
    is_short_of_slots: bool,
}

impl Keeper {
    fn next_deadline(&self) -> Option<Instant> {
        let held = self.sessions.values().filter_map(|tracked| tracked.held_until);
        held.chain(self.lingering.front().map(|lingering| lingering.until)).min()
    }

    async fn update(&mut self, demands: &BTreeMap<Pinned, Demand>, host: &Host) {
        self.vrfs.keep(host, demands.keys(), self.pins.datapath());
        self.steers.keep(host.routes_epoch).await;
        self.welcome_back(demands, host).await;
        let gone: Vec<_> = self.sessions.keys().filter(|id| !demands.contains_key(*id)).cloned().collect();
        for id in gone {
            if let Some(mut tracked) = self.sessions.remove(&id) {
                self.uninstall(&mut tracked);
                self.steers.settle(&id, None).await;
                if let Some((slot, pin)) = tracked.denial.take() {
                    self.linger(&tracked, slot, pin);
                }
                // One that is configured again soon has the same `SessionPin`, and must not connect under what it finds in it.
                tracked.pin.tell(State::Pending);
                tracked.pin.tell_held(None);
            }
        }
        for (id, demand) in demands {
            let asked = &demand.asked;
            let mut tracked = self.sessions.remove(id).unwrap_or_else(|| Tracked {
                pin: self.pins.of(id),
                egress_interfaces: Vec::new(),
                own_only: asked.own_only,
                line: 0,
                asked: None,
                lost_since: None,
                held_until: None,
                chosen: None,
                decision: None,
                installed: None,
                denial: None,
                begun: false,
                is_new: false,
                route: None,
                ruling: None,
                overruled_mark: None,
                station_links: None,
            });
            if tracked.asked.as_ref().is_some_and(|before| before.connect != asked.connect) {
                tracked.chosen = None;
            }
            if !tracked.begun && tracked.chosen.is_none() {
                let twin = id.twin().and_then(|twin| self.sessions.get(&twin)?.chosen);
                let before = twin.or_else(|| self.chosen.before(id, asked.connect.as_ref()));
                tracked.chosen = before.or_else(|| self.inherited_source(id, asked, host));
            }
            tracked.pin.tell_routes(host.routes_epoch);
            tracked.station_links = station_links(id.far(), asked, host);
            let decision = self.decide(id, asked, &mut tracked, host).await;
            if tracked.holds_on(&decision, asked, demand.hold_down) {
                self.sessions.insert(id.clone(), tracked);
                continue;
            }
            tracked.asked = Some(asked.clone());
            let same = tracked.decision.as_ref().is_some_and(|known| known.comes_to(&decision));
            let gets_its_slot = tracked.shares_a_denial() && self.pins.datapath().has_free_slot();
            if !same || gets_its_slot || tracked.is_denied_otherwise() {
                // An interface that the session may leave by comes or goes: that is no reason to connect again. To name others is.
                let goes_on = tracked.egress_interfaces == asked.egress_interfaces
                    && tracked.decision.as_ref().is_some_and(|known| known.differs_in_egress_at_most(&decision));
                tracked.egress_interfaces.clone_from(&asked.egress_interfaces);
                self.apply(id, &mut tracked, decision, goes_on).await;
            }
            // A session that is down by now is told so first: it must not take its way for one that is back.
            tracked.pin.tell_held(None);
            let mark = tracked.decision.as_ref().and_then(Decision::mark);
            self.steers.settle(id, mark.or(tracked.overruled_mark)).await;
            self.sessions.insert(id.clone(), tracked);
        }
        let choices = self.sessions.iter().filter_map(|(id, tracked)| {
            let connect = tracked.asked.as_ref()?.connect.as_ref();
            Some((id.clone(), Choice::of(connect, tracked.chosen)?))
        });
        self.chosen.keep(choices.collect()).await;
    }

    /// Interfaces that sessions are to come from are usable again. What was sent by them meanwhile, the sessions' own farewell for one, has the kernel
    /// wait for neighbours that could not answer: the sessions' new connections are not to wait with it. Done once, before any of them is told: later
    /// it would break off what asks for the same neighbour.
    async fn welcome_back(&mut self, demands: &BTreeMap<Pinned, Demand>, host: &Host) {
        let lost = host.links.values().filter(|link| !link.is_usable()).map(|link| link.index).collect();
        let before = std::mem::replace(&mut self.lost, lost);
        let back = before.iter().filter_map(|index| host.links.get(index)).filter(|link| link.is_usable());
        for link in back {
            let named = |asked: &Asked| {
                let names = asked.connect.iter().filter_map(|connect| connect.interface());
                let mut links = names.filter_map(|name| host.link_named(name, &asked.aliases));
                links.any(|named| named.index == link.index)
            };
            if demands.values().any(|demand| named(&demand.asked))
                && let Err(error) = self.routes.ask_neighbours_anew(link.index).await
            {
                warn!("interface {} is back, and its connections may come a second late: {error:#}", link.name);
            }
        }
    }

    /// The passive sessions, with what is in force for those that are ready.
    fn passive<'a>(
        &'a self,
        demands: &'a BTreeMap<Pinned, Demand>,
    ) -> impl Iterator<Item = (&'a Arc<SessionPin>, Option<&'a Grant>)> + 'a {
        self.sessions.iter().filter_map(|(id, tracked)| {
            let transport = demands.get(id).filter(|_| matches!(id, Pinned::Session(_)))?.asked.transport;
            let grant = match &tracked.decision {
                Some(Decision::Ready(grant)) => Some(grant),
                _ => None,
            };
            matches!(transport, Some(Transport::Listen(_))).then_some((&tracked.pin, grant))
        })
    }

    /// The pin that an earlier bmpd left in force.
    fn inherited(&self, id: &Pinned, asked: &Asked, host: &Host) -> Option<Pin> {
        let key = self.pins.datapath().key(&target(id, asked.transport, host)?);
        let inherited = self.pins.datapath().inherited();
        Some(inherited.iter().find(|slot| slot.in_force && slot.key == key)?.pin)
    }

    /// The source of that pin: an address that was chosen is kept over restarts.
    fn inherited_source(&self, id: &Pinned, asked: &Asked, host: &Host) -> Option<IpAddr> {
        let pin = self.inherited(id, asked, host)?;
        let [a, b, c, d, ..] = pin.source;
        (pin.source != [0; 16]).then(|| match id.far() {
            IpAddr::V4(_) => IpAddr::from([a, b, c, d]),
            IpAddr::V6(_) => IpAddr::from(pin.source),
        })
    }

    async fn decide(&self, id: &Pinned, asked: &Asked, tracked: &mut Tracked, host: &Host) -> Decision {
        tracked.overruled_mark = None;
        if let Some(session) = &asked.taken {
            return Decision::Down(
                None,
                Unresolved {
                    reason: Reason::SourceConflict,
                    why: format!("bmp-session {session} has the connections to this address and port"),
                    mend: "another port for one of the two".to_owned(),
                },
            );
        }
        let target = target(id, asked.transport, host);
        if asked.shutdown {
            let why = "the session is shut down by configuration".to_owned();
            return Decision::Down(
                target,
                Unresolved { reason: Reason::Shutdown, why, mend: "undo shutdown".to_owned() },
            );
        }
        if asked.transport.is_none() {
            return Decision::Down(
                None,
                Unresolved {
                    reason: Reason::NotConfigured,
                    why: "no port is configured".to_owned(),
                    mend: "tcp connect port PORT".to_owned(),
                },
            );
        }
        let question = Question {
            connect: asked.connect.as_ref(),
            vpn_instance: id.vpn_instance(),
            egress_interfaces: &asked.egress_interfaces,
            next_hop: asked.next_hop,
            station: id.far(),
            aliases: &asked.aliases,
            keep: tracked.chosen,
        };
        let resolved = match resolve(&question, host) {
            Err(unresolved) => return Decision::Down(target, unresolved),
            Ok(resolved) => resolved,
        };
        // Without a target there is no port or no VRF, and then there is no answer either.
        let Some(target) = target else { return Decision::Down(None, no_route(id, &resolved)) };
        tracked.chosen = resolved.source;
        if let Some(unresolved) = self.vrfs.refuse(&target) {
            return Decision::Down(Some(target), unresolved);
        }
        if let Some(way) = &resolved.way {
            let left = self.inherited(id, asked, host).map(|pin| pin.mark);
            let mark = match self.steers.route(id, way, left, host, &self.routes).await {
                Ok(mark) => mark,
                Err(unresolved) => return Decision::Down(Some(target), unresolved),
            };
            let flow = (&target, &resolved, way, mark);
            let overruled = overruled(id, flow, host, &self.routes, &self.steers, &mut tracked.ruling).await;
            return match overruled {
                None => Decision::Ready(Grant { target, resolved, mark, line: 0, own_only: asked.own_only }),
                Some(unresolved) => {
                    tracked.overruled_mark = Some(mark);
                    Decision::Down(Some(target), unresolved)
                }
            };
        }
        // Where the session may leave by any interface, the kernel finds out by itself.
        let found = resolved.egress.is_empty() && target.vrf == 0
            || has_route(id, &target, &resolved, host, &self.routes, &mut tracked.route).await;
        if found {
            Decision::Ready(Grant { target, resolved, mark: 0, line: 0, own_only: asked.own_only })
        } else {
            Decision::Down(Some(target), no_route(id, &resolved))
        }
    }

    /// Kernel first, session after: a session that is told "ready" finds its pin in force. With `goes_on`, so do the connections that
    /// there are.
    async fn apply(&mut self, id: &Pinned, tracked: &mut Tracked, mut decision: Decision, goes_on: bool) {
        let place = |tracked: &Tracked| tracked.installed.as_ref().map(|now| (now.target, now.slot.clone()));
        let before = place(tracked);
        let wanted = match &decision {
            Decision::Ready(grant) => Some((grant.target, pin_of(grant))),
            Decision::Down(target, _) => {
                target.filter(|_| tracked.is_deniable()).map(|target| (target, tracked.denial_pin()))
            }
        };
        let put = match wanted {
            None => {
                self.uninstall(tracked);
                Ok(())
            }
            Some((target, pin)) => self.put(tracked, target, pin),
        };
        if let Err(error) = put {
            let why = format!("the kernel tables do not take the pin: {error:#}");
            if tracked.decision.is_some() || !matches!(&*tracked.pin.subscribe().borrow(), State::Down(_)) {
                tracked.pin.tell(State::Down(Arc::new(Unresolved {
                    reason: Reason::NotPermitted,
                    why,
                    mend: String::new(),
                })));
            }
            // It is tried again whenever something changes: a slot that is freed, for one.
            tracked.decision = None;
            return;
        }
        tracked.is_new = true;
        let moved = match (before, place(tracked)) {
            (Some((_, before)), Some((target, now))) if goes_on => {
                match self.foreign.move_all(&tracked.pin, target, &before, &now).await {
                    Ok(()) => true,
                    Err(error) => {
                        warn!(of = %id, "its connection does not go on under its new pin: {error:#}");
                        false
                    }
                }
            }
            _ => false,
        };
        if let Decision::Ready(grant) = &mut decision {
            if !moved {
                self.lines += 1;
                tracked.line = self.lines;
            }
            grant.line = tracked.line;
        }
        tracked.pin.tell(match &decision {
            Decision::Ready(grant) => {
                info!(of = %id, "{}", in_words(&grant.resolved));
                State::Ready(Arc::new(grant.clone()))
            }
            Decision::Down(_, unresolved) => State::Down(Arc::new(unresolved.clone())),
        });
        tracked.decision = Some(decision);
    }

    /// What an earlier bmpd left and no session has taken over lingers, as if it had just been replaced. What it counted stays with
    /// the session that has its key. The connections under it that other processes have are closed while it is there; of an adopted session its own
    /// task sees to them, and may take them in.
    async fn retire_inherited(&mut self, demands: &BTreeMap<Pinned, Demand>) {
        for (key, slot) in self.pins.datapath().retire() {
            let has_key = |tracked: &Tracked| tracked.installed.as_ref().is_some_and(|installed| installed.key == key);
            let found = self.sessions.iter().find(|(_, tracked)| has_key(tracked));
            let is_adopted = |id| demands.get(id).is_some_and(|demand| demand.adopted);
            let session = found.map(|(_, tracked)| Arc::clone(&tracked.pin));
            if let Some(session) = &session {
                session.add_slot(&slot);
            }
            if let Some(target) = self.pins.datapath().target(&key)
                && !found.is_some_and(|(id, _)| is_adopted(id))
            {
                self.foreign.close_under(&slot, target).await;
            }
            let until = Instant::now() + LINGER;
            self.lingering.push_back(Lingering { until, session, slot, pin: None });
        }
    }

    fn free_expired(&mut self) {
        let now = Instant::now();
        while let Some(expired) = self.lingering.pop_front_if(|lingering| lingering.until <= now) {
            match expired.session {
                Some(session) => session.free_slot(&expired.slot, self.pins.datapath()),
                None => drop(self.pins.datapath().free(expired.slot)),
            }
        }
    }
}
