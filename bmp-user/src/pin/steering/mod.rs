//! The routes of sessions that have a `next-hop`, and the fwmarks that lead to them.
//!
//! A mark belongs to one session and one path. It is taken before the pin names it, and stays for
//! [`LINGER`] after the pin is gone, so that the last packets still find their route. [`overruled`]
//! asks whether other rules and routes come first.

mod overruled;

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{sync::Mutex, time::Instant};
use tracing::{debug, warn};

use super::{
    linger::LINGER,
    plan::{NextHopPath, Pinned},
    reason::{DownCause, Reason},
};
pub(super) use overruled::{MarkedSession, NextHopAnswer, overruled};

use crate::link::{EarlierRule, Host, MARKS, MarkRoute, Marks, OwnedMark, RouteLookup, Steer, Steering};

/// How long after a failed removal the next attempt is made.
const RETRY: Duration = Duration::from_secs(1);

/// The routes of all sessions with a next hop. Clones share them.
#[derive(Clone, Default)]
pub struct NextHopRoutes(Arc<Mutex<NextHopBook>>);

#[derive(Default)]
struct NextHopBook {
    /// Opened at the first use, and again after a failure.
    steering: Option<Steering>,
    /// Opened with the first mark and closed with the last. The last bmpd to close it removes the
    /// file.
    marks: Option<Marks>,
    marks_held: BTreeMap<u32, HeldMark>,
    /// [`Host::routes_epoch`] at the last check of the kernel.
    epoch: u64,
}

/// A mark that this bmpd owns.
struct HeldMark {
    _owned: OwnedMark,
    /// `None` for a mark that an earlier bmpd left.
    session: Option<Pinned>,
    /// The route in its table. `None` for a mark that an earlier bmpd left without one.
    route: Option<MarkRoute>,
    /// When it is removed, unless a session takes it again.
    until: Option<Instant>,
}

impl NextHopRoutes {
    /// Finds the routes that an earlier bmpd of this network namespace left. They are removed after
    /// [`LINGER`], as its pins are, unless a session takes them.
    pub(super) async fn begin(&self) {
        let mut book = self.0.lock().await;
        if let Err(error) = book.find().await {
            warn!("cannot look for next-hop routes that an earlier bmpd left: {error:#}");
        }
    }

    /// Returns the mark of a session's path, with its route in the kernel. `inherited` is the mark
    /// of the pin that an earlier bmpd left for the session.
    ///
    /// # Errors
    ///
    /// `no-route`: the next hop is not on the interface's link, or the kernel refuses the route.
    /// `not-permitted`: bmpd may not add it.
    pub(super) async fn route(
        &self,
        id: &Pinned,
        path: &NextHopPath,
        inherited: Option<u32>,
        host: &Host,
        routes: &RouteLookup,
    ) -> Result<u32, DownCause> {
        let NextHopPath { next_hop, interface, .. } = path;
        if !is_on_link(path, host, routes).await {
            let vrf = id.vpn_instance().map(|vrf| format!(" vrf {vrf}")).unwrap_or_default();
            return Err(DownCause {
                reason: Reason::NoRoute,
                why: format!("next hop {next_hop} is not on the link of interface {interface}"),
                mend: format!("ip route add {next_hop} dev {interface}{vrf}"),
            });
        }
        self.take(id, path, inherited).await.map_err(|error| {
            let denied = error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
            DownCause {
                reason: if denied { Reason::NotPermitted } else { Reason::NoRoute },
                why: format!("the session cannot be routed to next hop {next_hop} by {interface}: {error:#}"),
                mend: String::new(),
            }
        })
    }

    /// See [`Steering::earlier_rule`].
    pub(super) async fn earlier_rule(&self, ipv4: bool, table: Option<u32>) -> anyhow::Result<Option<EarlierRule>> {
        let mut book = self.0.lock().await;
        let found = book.steering()?.earlier_rule(ipv4, table).await;
        book.checked(found)
    }

    async fn take(&self, id: &Pinned, path: &NextHopPath, inherited: Option<u32>) -> anyhow::Result<u32> {
        let route = MarkRoute { next_hop: path.next_hop, oif: path.interface.index };
        let mut book = self.0.lock().await;
        let is_same = |(_, held): &(&u32, &HeldMark)| held.session.as_ref() == Some(id) && held.route == Some(route);
        let is_ownerless = |mark: &u32| {
            book.marks_held.get(mark).is_some_and(|held| held.session.is_none() && held.route == Some(route))
        };
        let known = book.marks_held.iter().find(is_same).map(|(mark, _)| *mark);
        let mark = match known.or_else(|| inherited.filter(is_ownerless)) {
            Some(mark) => mark,
            None => {
                let (mark, owned) = book.fresh().await?;
                // Recorded before the kernel has the route, so that a half-added one is removed
                // too.
                let until = Some(Instant::now() + LINGER);
                book.marks_held.insert(mark, HeldMark { _owned: owned, session: None, route: Some(route), until });
                mark
            }
        };
        let Some(held) = book.marks_held.get_mut(&mark) else { anyhow::bail!("mark {mark:#x} is lost") };
        if held.session.replace(id.clone()).is_some() && held.until.is_none() {
            return Ok(mark);
        }
        book.add(&Steer { mark, route }).await?;
        if let Some(held) = book.marks_held.get_mut(&mark) {
            held.until = None;
        }
        debug!("{id}: next hop {} has mark and table {mark:#x}", path.next_hop);
        Ok(mark)
    }

    /// Leaves a session the mark `current` alone. Its other marks are removed after [`LINGER`], as
    /// its pins are.
    pub(super) async fn settle(&self, id: &Pinned, current: Option<u32>) {
        let mut book = self.0.lock().await;
        for (mark, held) in &mut book.marks_held {
            if held.session.as_ref() == Some(id) && Some(*mark) != current {
                held.until.get_or_insert_with(|| Instant::now() + LINGER);
            }
        }
    }

    /// Puts back routes that another program removed, if routes have changed since the last check.
    pub(super) async fn keep(&self, epoch: u64) {
        let mut book = self.0.lock().await;
        if std::mem::replace(&mut book.epoch, epoch) == epoch {
            return;
        }
        let steers = book.marks_held.iter().filter_map(|(&mark, held)| {
            let route = held.route.filter(|_| held.session.is_some())?;
            Some(Steer { mark, route })
        });
        for steer in steers.collect::<Vec<_>>() {
            match book.add(&steer).await {
                Ok(false) => {}
                Ok(true) => warn!("the route to next hop {} was incomplete, and is restored", steer.route.next_hop),
                // The interface is down or gone, for which the session is down already.
                Err(error) => debug!("the route to next hop {} is not in the kernel: {error:#}", steer.route.next_hop),
            }
        }
    }

    /// Returns when [`Self::expire`] has something to remove.
    pub(super) async fn deadline(&self) -> Option<Instant> {
        self.0.lock().await.marks_held.values().filter_map(|held| held.until).min()
    }

    /// Removes the routes that no packet can take any more.
    pub(super) async fn expire(&self) {
        let now = Instant::now();
        let mut book = self.0.lock().await;
        let due = book.marks_held.iter().filter(|(_, held)| held.until.is_some_and(|until| until <= now));
        for mark in due.map(|(mark, _)| *mark).collect::<Vec<_>>() {
            book.remove(mark).await;
        }
    }

    /// Removes all routes.
    pub async fn end(&self) {
        let mut book = self.0.lock().await;
        for mark in book.marks_held.keys().copied().collect::<Vec<_>>() {
            book.remove(mark).await;
        }
    }
}

impl NextHopBook {
    async fn find(&mut self) -> anyhow::Result<()> {
        let found = self.steering()?.steered_marks().await;
        for found in self.checked(found)? {
            // Otherwise another running bmpd has it.
            if let Some(owned) = self.own(found.mark)? {
                let until = Some(Instant::now() + LINGER);
                self.marks_held
                    .insert(found.mark, HeldMark { _owned: owned, session: None, route: found.route, until });
            }
        }
        Ok(())
    }

    /// Takes a mark that no bmpd has and no rule names.
    async fn fresh(&mut self) -> anyhow::Result<(u32, OwnedMark)> {
        for mark in MARKS {
            if self.marks_held.contains_key(&mark) {
                continue;
            }
            let Some(owned) = self.own(mark)? else { continue };
            let free = self.steering()?.is_free(mark).await;
            if self.checked(free)? {
                return Ok((mark, owned));
            }
        }
        anyhow::bail!(
            "all marks from {:#x} to {:#x} are taken, by other rules among others",
            MARKS.start(),
            MARKS.end()
        )
    }

    /// Takes a mark; `None` if another bmpd has it.
    fn own(&mut self, mark: u32) -> anyhow::Result<Option<OwnedMark>> {
        let marks = match &self.marks {
            Some(marks) => marks,
            None => self.marks.insert(Marks::open().context("cannot keep marks of sessions with a next hop")?),
        };
        Ok(marks.take(mark)?)
    }

    async fn add(&mut self, steer: &Steer) -> anyhow::Result<bool> {
        let added = self.steering()?.add(steer).await;
        self.checked(added)
    }

    async fn remove(&mut self, mark: u32) {
        let removed = match self.steering() {
            Ok(steering) => {
                let removed = steering.remove(mark).await;
                self.checked(removed)
            }
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => {
                self.marks_held.remove(&mark);
                if self.marks_held.is_empty() {
                    self.marks = None;
                }
            }
            Err(error) => {
                warn!("the rule and the table for mark {mark:#x} stay for now: {error:#}");
                if let Some(held) = self.marks_held.get_mut(&mark) {
                    held.until = Some(Instant::now() + RETRY);
                }
            }
        }
    }

    fn steering(&mut self) -> anyhow::Result<&mut Steering> {
        match &mut self.steering {
            Some(steering) => Ok(steering),
            none => Ok(none.insert(Steering::open().context("cannot open a netlink socket for rules and routes")?)),
        }
    }

    /// Drops the socket after an error that the kernel did not report: the next request opens
    /// another.
    fn checked<T>(&mut self, result: io::Result<T>) -> anyhow::Result<T> {
        if result.as_ref().is_err_and(|error| error.raw_os_error().is_none()) {
            self.steering = None;
        }
        Ok(result?)
    }
}

/// True if a next hop is on the link of its interface: an address there has its prefix, or a route
/// leads there without a router.
async fn is_on_link(path: &NextHopPath, host: &Host, routes: &RouteLookup) -> bool {
    let (next_hop, index) = (path.next_hop, path.interface.index);
    let link = host.links.get(&index);
    if link.is_some_and(|link| link.addresses.iter().any(|address| address.prefix_holds(next_hop))) {
        return true;
    }
    let route = routes.route_to(next_hop, index, None).await.ok().flatten();
    route.is_some_and(|route| route.gateway.is_none() && !route.local)
}

/// Removes the routes that no running bmpd of this network namespace has. Returns a sentence on
/// what was removed, or `None` where there was nothing.
///
/// # Errors
///
/// The kernel cannot be asked.
pub async fn remove_next_hop_routes() -> anyhow::Result<Option<String>> {
    let routes = NextHopRoutes::default();
    let mut book = routes.0.lock().await;
    book.find().await.context("cannot look for routes of sessions with a next hop")?;
    let count = book.marks_held.len();
    drop(book);
    routes.end().await;
    let left = routes.0.lock().await.marks_held.len();
    anyhow::ensure!(left == 0, "{left} rules and tables of sessions with a next hop are not removed");
    Ok((count > 0).then(|| format!("removed the rules and tables of {count} sessions with a next hop")))
}
