//! The routes of the sessions that have a `next-hop`: which marks they have, from the first use of one until the last packet under it has
//! left.

use std::{collections::BTreeMap, io, net::IpAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{sync::Mutex, time::Instant};
use tracing::{debug, warn};

use super::{LINGER, Pinned, Reason, Unresolved, Way};
use crate::link::{EarlierRule, Host, MARKS, Marks, OwnedMark, RouteLookup, Steer, Steering};

/// When a removal that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// All routes of sessions' own. Clones share them.
#[derive(Clone, Default)]
pub struct Steers(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    /// Opened when it is needed first, and anew after it failed.
    steering: Option<Steering>,
    /// Opened when the first mark is taken, and closed when none is left: the last bmpd takes the file along.
    marks: Option<Marks>,
    held: BTreeMap<u32, Held>,
    /// [`crate::link::Host::routes_epoch`] when the kernel was last looked at.
    epoch: u64,
}

/// A mark of this bmpd's.
struct Held {
    _owned: OwnedMark,
    /// Absent for what an earlier bmpd left.
    session: Option<Pinned>,
    way: Option<(IpAddr, u32)>,
    /// When it is removed, if nobody takes it again.
    until: Option<Instant>,
}

impl Steers {
    /// Finds what an earlier bmpd of this network namespace left. It goes after [`LINGER`], as its pins do, unless a session takes it.
    pub(super) async fn begin(&self) {
        let mut book = self.0.lock().await;
        if let Err(error) = book.find().await {
            warn!("what an earlier bmpd left of next hops' routes is not found: {error:#}");
        }
    }

    /// The mark of a session's way, with its route in the kernel. `left` is the mark of the pin that an earlier bmpd left for it.
    ///
    /// # Errors
    ///
    /// `no-route`: the next hop is not on the interface's link, or the kernel does not take the route; `not-permitted`: it does not let bmpd.
    pub(super) async fn route(
        &self,
        id: &Pinned,
        way: &Way,
        left: Option<u32>,
        host: &Host,
        routes: &RouteLookup,
    ) -> Result<u32, Unresolved> {
        let Way { next_hop, interface: (_, name) } = way;
        if !on_link(way, host, routes).await {
            let vrf = id.vpn_instance().map(|vrf| format!(" vrf {vrf}")).unwrap_or_default();
            return Err(Unresolved {
                reason: Reason::NoRoute,
                why: format!("next hop {next_hop} is not on the link of interface {name}"),
                mend: format!("ip route add {next_hop} dev {name}{vrf}"),
            });
        }
        self.take(id, way, left).await.map_err(|error| {
            let denied = error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
            Unresolved {
                reason: if denied { Reason::NotPermitted } else { Reason::NoRoute },
                why: format!("the session cannot be routed to next hop {next_hop} by {name}: {error:#}"),
                mend: String::new(),
            }
        })
    }

    /// See [`Steering::earlier_rule`].
    pub(super) async fn earlier_rule(&self, ipv4: bool, table: Option<u32>) -> anyhow::Result<Option<EarlierRule>> {
        let mut book = self.0.lock().await;
        let found = book.steering()?.earlier_rule(ipv4, table).await;
        book.heeded(found)
    }

    async fn take(&self, id: &Pinned, way: &Way, left: Option<u32>) -> anyhow::Result<u32> {
        let wanted = Some((way.next_hop, way.interface.0));
        let mut book = self.0.lock().await;
        let same = |(_, held): &(&u32, &Held)| held.session.as_ref() == Some(id) && held.way == wanted;
        let ownerless =
            |mark: &u32| book.held.get(mark).is_some_and(|held| held.session.is_none() && held.way == wanted);
        let known = book.held.iter().find(same).map(|(mark, _)| *mark);
        let mark = match known.or_else(|| left.filter(ownerless)) {
            Some(mark) => mark,
            None => {
                let (mark, owned) = book.fresh().await?;
                // Before the kernel has it: what is half there when that fails goes like the rest.
                let until = Some(Instant::now() + LINGER);
                book.held.insert(mark, Held { _owned: owned, session: None, way: wanted, until });
                mark
            }
        };
        let Some(held) = book.held.get_mut(&mark) else { anyhow::bail!("mark {mark:#x} is lost") };
        if held.session.replace(id.clone()).is_some() && held.until.is_none() {
            return Ok(mark);
        }
        book.add(&Steer { mark, next_hop: way.next_hop, oif: way.interface.0 }).await?;
        if let Some(held) = book.held.get_mut(&mark) {
            held.until = None;
        }
        debug!("{id}: next hop {} has mark and table {mark:#x}", way.next_hop);
        Ok(mark)
    }

    /// Has a session no other mark than `current`: the others go after [`LINGER`], as its pins do.
    pub(super) async fn settle(&self, id: &Pinned, current: Option<u32>) {
        let mut book = self.0.lock().await;
        for (mark, held) in &mut book.held {
            if held.session.as_ref() == Some(id) && Some(*mark) != current {
                held.until.get_or_insert_with(|| Instant::now() + LINGER);
            }
        }
    }

    /// Puts back what somebody has taken out of the kernel, if routes have changed since it was last looked at.
    pub(super) async fn keep(&self, epoch: u64) {
        let mut book = self.0.lock().await;
        if std::mem::replace(&mut book.epoch, epoch) == epoch {
            return;
        }
        let steers = book.held.iter().filter_map(|(&mark, held)| {
            let (next_hop, oif) = held.way.filter(|_| held.session.is_some())?;
            Some(Steer { mark, next_hop, oif })
        });
        for steer in steers.collect::<Vec<_>>() {
            match book.add(&steer).await {
                Ok(false) => {}
                Ok(true) => warn!("the route to next hop {} was not whole: it is again", steer.next_hop),
                // The interface is down or gone, which its session is told otherwise.
                Err(error) => debug!("the route to next hop {} is not in the kernel: {error:#}", steer.next_hop),
            }
        }
    }

    /// When the next one is due for [`Self::expire`].
    pub(super) async fn deadline(&self) -> Option<Instant> {
        self.0.lock().await.held.values().filter_map(|held| held.until).min()
    }

    /// Removes what nothing can leave by any more.
    pub(super) async fn expire(&self) {
        let now = Instant::now();
        let mut book = self.0.lock().await;
        let due = book.held.iter().filter(|(_, held)| held.until.is_some_and(|until| until <= now));
        for mark in due.map(|(mark, _)| *mark).collect::<Vec<_>>() {
            book.remove(mark).await;
        }
    }

    /// Removes all of them.
    pub async fn end(&self) {
        let mut book = self.0.lock().await;
        for mark in book.held.keys().copied().collect::<Vec<_>>() {
            book.remove(mark).await;
        }
    }
}

impl Book {
    async fn find(&mut self) -> anyhow::Result<()> {
        let found = self.steering()?.steered_marks().await;
        for found in self.heeded(found)? {
            // Another bmpd that runs has it otherwise.
            if let Some(owned) = self.own(found.mark)? {
                let until = Some(Instant::now() + LINGER);
                self.held.insert(found.mark, Held { _owned: owned, session: None, way: found.way, until });
            }
        }
        Ok(())
    }

    /// A mark that nobody has, not even for a rule of his own.
    async fn fresh(&mut self) -> anyhow::Result<(u32, OwnedMark)> {
        for mark in MARKS {
            if self.held.contains_key(&mark) {
                continue;
            }
            let Some(owned) = self.own(mark)? else { continue };
            let free = self.steering()?.is_free(mark).await;
            if self.heeded(free)? {
                return Ok((mark, owned));
            }
        }
        anyhow::bail!(
            "all marks from {:#x} to {:#x} are taken, by other rules among others",
            MARKS.start(),
            MARKS.end()
        )
    }

    /// `None` if another bmpd has the mark.
    fn own(&mut self, mark: u32) -> anyhow::Result<Option<OwnedMark>> {
        let marks = match &self.marks {
            Some(marks) => marks,
            None => self.marks.insert(Marks::open().context("cannot keep marks of sessions with a next hop")?),
        };
        Ok(marks.take(mark)?)
    }

    async fn add(&mut self, steer: &Steer) -> anyhow::Result<bool> {
        let added = self.steering()?.add(steer).await;
        self.heeded(added)
    }

    async fn remove(&mut self, mark: u32) {
        let removed = match self.steering() {
            Ok(steering) => {
                let removed = steering.remove(mark).await;
                self.heeded(removed)
            }
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => {
                self.held.remove(&mark);
                if self.held.is_empty() {
                    self.marks = None;
                }
            }
            Err(error) => {
                warn!("the rule and the table for mark {mark:#x} stay for now: {error:#}");
                if let Some(held) = self.held.get_mut(&mark) {
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

    /// Where an answer did not come from the kernel, the next question gets a new socket.
    fn heeded<T>(&mut self, result: io::Result<T>) -> anyhow::Result<T> {
        if result.as_ref().is_err_and(|error| error.raw_os_error().is_none()) {
            self.steering = None;
        }
        Ok(result?)
    }
}

/// Whether a next hop is on the link of its interface: in the prefix of an address there, or by a route without a router.
async fn on_link(way: &Way, host: &Host, routes: &RouteLookup) -> bool {
    let (next_hop, index) = (way.next_hop, way.interface.0);
    let link = host.links.get(&index);
    if link.is_some_and(|link| link.addresses.iter().any(|address| address.prefix_holds(next_hop))) {
        return true;
    }
    let route = routes.route_to(next_hop, index, None).await.ok().flatten();
    route.is_some_and(|route| route.gateway.is_none() && !route.local)
}

/// Removes what no running bmpd of this network namespace has, and says so; nothing where there was nothing.
///
/// # Errors
///
/// The kernel could not be asked.
pub async fn unsteer() -> anyhow::Result<Option<String>> {
    let steers = Steers::default();
    let mut book = steers.0.lock().await;
    book.find().await.context("cannot look for routes of sessions with a next hop")?;
    let count = book.held.len();
    drop(book);
    steers.end().await;
    let left = steers.0.lock().await.held.len();
    anyhow::ensure!(left == 0, "{left} rules and tables of sessions with a next hop are not removed");
    Ok((count > 0).then(|| format!("removed the rules and tables of {count} sessions with a next hop")))
}
