//! The task that keeps the [`Host`] up to date.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use rtnetlink::{
    MulticastGroup,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::AddressMessage,
        link::{LinkAttribute, LinkExtentMask, LinkMessage},
    },
};
use tokio::{
    sync::watch::{self, Receiver, Sender},
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, info, warn};

use super::{
    host::{Host, Link},
    message::{self, RawMessage},
    netlink::{Answer, Drained, NetlinkClient, NetlinkListener},
    routes::RouteLookup,
};
use crate::tasks;

/// Watches links, addresses and routes of the calling thread's network namespace until the last
/// receiver is dropped.
///
/// The first [`Host`] is complete when this function returns. After that, each published value
/// differs from the one before. Events in quick succession are published together, a few
/// milliseconds after the last one.
///
/// # Errors
///
/// Fails if no netlink socket can be opened. If netlink fails later, the last value stays, the
/// failure is logged and the watch restarts.
pub async fn watch() -> anyhow::Result<(RouteLookup, Receiver<Arc<Host>>)> {
    watch_with(WatchSettings::default()).await
}

pub(super) async fn watch_with(settings: WatchSettings) -> anyhow::Result<(RouteLookup, Receiver<Arc<Host>>)> {
    let routes = RouteLookup::open().context("cannot open a netlink socket to ask for routes")?;
    let watcher =
        HostWatcher::open(settings, Host::default()).await.context("cannot watch links and addresses over netlink")?;
    let (sender, receiver) = watch::channel(Arc::new(watcher.host.clone()));
    tasks::forever("interfaces", keep(watcher, settings, sender));
    Ok((routes, receiver))
}

/// How the watch is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct WatchSettings {
    /// The receive buffer for links and addresses, in bytes as socket(7) counts them: some 3,000
    /// events.
    pub(super) link_buffer: usize,
    /// The same for routes. A small buffer suffices, because only the fact of a change matters. The
    /// kernel drops further events at almost no cost.
    pub(super) route_buffer: usize,
    /// Events are collected until none has arrived for this long.
    pub(super) quiet: Duration,
    /// Events are collected for at most this long, but at least ten times as long as the last
    /// request took.
    pub(super) longest: Duration,
    /// The interval between complete reads. The kernel sends no notification of a new alternative
    /// name on a link that is down (`netdev_state_change`, `net/core/dev.c`).
    pub(super) resynchronise: Duration,
    /// The first wait before a restart after netlink failed. It doubles with each failure.
    pub(super) retry_first: Duration,
    /// The longest such wait.
    pub(super) retry_last: Duration,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            link_buffer: 8 << 20,
            route_buffer: 64 << 10,
            quiet: Duration::from_millis(2),
            longest: Duration::from_millis(50),
            resynchronise: Duration::from_secs(30),
            retry_first: Duration::from_millis(100),
            retry_last: Duration::from_secs(10),
        }
    }
}

/// How often an interrupted dump is repeated. After that the dump is accepted, and the next event
/// mends it.
const DUMPS_MAX: usize = 4;
/// More changed links than this, plus an eighth of all links, make one dump cheaper than single
/// requests.
const QUESTIONS_MAX: usize = 16;
/// Bytes read of a link or address notification. Only its header and fixed part matter; a datagram
/// may hold several.
const LINK_HEED: usize = 16 * 1024;
/// Bytes read of a route notification. Its contents do not matter.
const ROUTE_HEED: usize = 8;

/// Runs the watch until the last receiver is dropped, and restarts it when netlink fails.
async fn keep(mut watcher: HostWatcher, settings: WatchSettings, sender: Sender<Arc<Host>>) {
    let mut wait = settings.retry_first;
    loop {
        let begun = Instant::now();
        let Err(error) = watcher.run(&sender).await else { return };
        warn!(%error, "netlink failed: links and addresses are not updated until it is back");
        if begun.elapsed() > settings.retry_last {
            wait = settings.retry_first;
        }
        let host = watcher.host;
        watcher = loop {
            tokio::select! {
                () = sleep(wait) => {}
                () = sender.closed() => return,
                never = tasks::until_woken() => match never {},
            }
            wait = settings.retry_last.min(wait * 2);
            match HostWatcher::open(settings, host.clone()).await {
                Ok(watcher) => break watcher,
                Err(error) => debug!(%error, "netlink still fails"),
            }
        };
        info!("netlink is back: all links and addresses were read again");
        watcher.publish(&sender);
    }
}

struct HostWatcher {
    settings: WatchSettings,
    links: NetlinkListener,
    routes: NetlinkListener,
    client: NetlinkClient,
    host: Host,
    stale: StaleParts,
    /// How long the last requests to the kernel took.
    cost: Duration,
}

/// The parts of the host that may be out of date.
#[derive(Debug, Default, PartialEq, Eq)]
struct StaleParts {
    all: bool,
    links: BTreeSet<u32>,
    addresses: BTreeSet<u32>,
    routes: bool,
}

impl StaleParts {
    fn note(&mut self, message: RawMessage<'_>) {
        let set = match message.kind {
            libc::RTM_NEWLINK | libc::RTM_DELLINK => &mut self.links,
            libc::RTM_NEWADDR | libc::RTM_DELADDR => &mut self.addresses,
            _ => return,
        };
        match message::interface_index(message.payload) {
            Some(index) => drop(set.insert(index)),
            None => self.all = true,
        }
    }
}

impl HostWatcher {
    /// Subscribes, then reads everything. The routes' epoch continues from `before`.
    async fn open(settings: WatchSettings, before: Host) -> io::Result<Self> {
        let links = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let routes = [
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Rule,
            MulticastGroup::Nexthop,
        ];
        let mut watcher = Self {
            settings,
            links: NetlinkListener::open(&links, settings.link_buffer, LINK_HEED)?,
            routes: NetlinkListener::open(&routes, settings.route_buffer, ROUTE_HEED)?,
            client: NetlinkClient::open()?,
            host: before,
            stale: StaleParts { all: true, routes: true, ..StaleParts::default() },
            cost: Duration::ZERO,
        };
        watcher.refresh().await?;
        Ok(watcher)
    }

    /// Updates and publishes the host. Returns `Ok` when the last receiver is gone, `Err` when
    /// netlink failed.
    async fn run(&mut self, sender: &Sender<Arc<Host>>) -> io::Result<()> {
        let mut resynchronise = Instant::now() + self.settings.resynchronise;
        loop {
            tokio::select! {
                ready = self.links.readable() => ready?,
                ready = self.routes.readable() => ready?,
                () = sleep_until(resynchronise) => {
                    resynchronise = Instant::now() + self.settings.resynchronise;
                    self.stale.all = true;
                }
                () = sender.closed() => return Ok(()),
                never = tasks::until_woken() => match never {},
            }
            self.settle().await?;
            self.refresh().await?;
            self.publish(sender);
        }
    }

    /// Collects events until they pause.
    async fn settle(&mut self) -> io::Result<()> {
        let end = Instant::now() + self.settings.longest.max(self.cost * 10);
        self.drain()?;
        loop {
            sleep(self.settings.quiet).await;
            if !self.drain()? || Instant::now() >= end {
                return Ok(());
            }
        }
    }

    /// Marks the parts that the waiting events concern. Returns true if there were any.
    fn drain(&mut self) -> io::Result<bool> {
        let stale = &mut self.stale;
        let links = self.links.drain(|message| stale.note(message))?;
        let routes = self.routes.drain(|_| {})?;
        if links.overrun {
            debug!("more link events than the receive buffer holds: reading everything again");
        }
        self.stale.all |= links.overrun;
        self.stale.routes |= routes.any;
        Ok(links != Drained::default() || routes.any)
    }

    /// Asks the kernel for the parts that are out of date.
    async fn refresh(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        let stale = std::mem::take(&mut self.stale);
        let questions = stale.links.len() + stale.addresses.len();
        let links = if stale.all || questions > QUESTIONS_MAX + self.host.links.len() / 8 {
            self.everything().await?
        } else if questions > 0 {
            let mut links = self.host.links.clone();
            self.some(&stale, &mut links).await?;
            links
        } else {
            self.host.routes_epoch += u64::from(stale.routes);
            return Ok(());
        };
        let changed = links != self.host.links;
        self.host.links = links;
        self.host.routes_epoch += u64::from(changed || stale.routes);
        self.cost = begun.elapsed();
        Ok(())
    }

    async fn everything(&mut self) -> io::Result<BTreeMap<u32, Link>> {
        for _ in 0..DUMPS_MAX {
            let mut links = BTreeMap::new();
            let mut answer = self.client.dump(link_request(0), |payload| add_link(&mut links, payload)).await?;
            for family in [AddressFamily::Inet, AddressFamily::Inet6] {
                let each = |payload: &[u8]| add_address(&mut links, payload);
                let addresses = answered(self.client.dump(address_request(family, 0), each).await)?;
                answer = if answer == Answer::Whole { addresses } else { answer };
            }
            if answer == Answer::Whole {
                return Ok(links);
            }
        }
        // The change that interrupted the dump sends an event too, and that event mends this
        // answer.
        self.stale.all = true;
        let mut links = BTreeMap::new();
        self.client.dump(link_request(0), |payload| add_link(&mut links, payload)).await?;
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            answered(self.client.dump(address_request(family, 0), |payload| add_address(&mut links, payload)).await)?;
        }
        Ok(links)
    }

    async fn some(&mut self, stale: &StaleParts, links: &mut BTreeMap<u32, Link>) -> io::Result<()> {
        let mut addresses = stale.addresses.clone();
        for &index in &stale.links {
            let mut found = None;
            match self.client.get(link_request(index), |payload| found = message::link(payload)).await {
                Err(error) if error.raw_os_error() != Some(libc::ENODEV) => return Err(error),
                _ => {}
            }
            let Some(mut link) = found else {
                links.remove(&index);
                continue;
            };
            match links.remove(&index) {
                Some(before) => link.addresses = before.addresses,
                None => drop(addresses.insert(index)),
            }
            links.insert(index, link);
        }
        for index in addresses {
            let Some(link) = links.get_mut(&index) else { continue };
            link.addresses.clear();
            for family in [AddressFamily::Inet, AddressFamily::Inet6] {
                let each = |payload: &[u8]| match message::address(payload) {
                    Some(found) if found.interface == index => link.addresses.push(found.address),
                    _ => {}
                };
                if answered(self.client.dump(address_request(family, index), each).await)? == Answer::Interrupted {
                    self.stale.addresses.insert(index);
                }
            }
        }
        Ok(())
    }

    /// Publishes the host if it differs from the last published one.
    fn publish(&self, sender: &Sender<Arc<Host>>) {
        sender.send_if_modified(|published| {
            let differs = **published != self.host;
            if differs {
                *published = Arc::new(self.host.clone());
            }
            differs
        });
    }
}

/// Treats a missing interface or address family as an empty answer.
fn answered(answer: io::Result<Answer>) -> io::Result<Answer> {
    match answer {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {
            Ok(Answer::Whole)
        }
        answer => answer,
    }
}

/// Requests the link with this index, or all links (0).
fn link_request(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(message)
}

/// Requests the addresses of the link with this index, or of all links (0).
fn address_request(family: AddressFamily, index: u32) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = family;
    message.header.index = index;
    RouteNetlinkMessage::GetAddress(message)
}

fn add_link(links: &mut BTreeMap<u32, Link>, payload: &[u8]) {
    if let Some(link) = message::link(payload) {
        links.insert(link.index, link);
    }
}

/// Adds an address to its link. A link that is not in the table is newer than it, so a notification
/// follows.
fn add_address(links: &mut BTreeMap<u32, Link>, payload: &[u8]) {
    if let Some(found) = message::address(payload)
        && let Some(link) = links.get_mut(&found.interface)
    {
        link.addresses.push(found.address);
    }
}

#[cfg(test)]
mod tests;
