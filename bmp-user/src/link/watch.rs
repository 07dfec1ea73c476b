//! The task that keeps the table.

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
    Host, Link, Routes,
    message::{self, Message},
    netlink::{Answer, Client, Drained, Listener},
};
use crate::tasks;

/// Keeps watch over the links, addresses and routes of the calling thread's network namespace until the last receiver is
/// dropped. The first [`Host`] is whole when this returns; from then on a new one is published when, and only when, it differs.
/// Events that come together are published together, within a few milliseconds of the last of them.
///
/// Errors: netlink is not to be had (no such socket family, no memory, no file descriptors left). Later trouble with it is
/// logged and mended by beginning anew, meanwhile the last table stands.
pub async fn watch() -> anyhow::Result<(Routes, Receiver<Arc<Host>>)> {
    watch_with(Settings::default()).await
}

pub(super) async fn watch_with(settings: Settings) -> anyhow::Result<(Routes, Receiver<Arc<Host>>)> {
    let routes = Routes::open().context("cannot open a netlink socket to ask for routes")?;
    let watcher =
        Watcher::open(settings, Host::default()).await.context("cannot watch links and addresses over netlink")?;
    let (sender, receiver) = watch::channel(Arc::new(watcher.host.clone()));
    tasks::forever("interfaces", keep(watcher, settings, sender));
    Ok((routes, receiver))
}

/// How the watch is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Receive buffer, in bytes as socket(7) counts them, for links and addresses: some 3,000 events.
    pub(super) link_buffer: usize,
    /// The same for routes. Small, because it matters only *that* something came: what finds the buffer full is dropped by the
    /// kernel at almost no cost, and nothing is lost by it.
    pub(super) route_buffer: usize,
    /// Events are taken together until none has come for this long,
    pub(super) quiet: Duration,
    /// or, while they keep coming, for this long, but for no less than ten times what asking the kernel took last time.
    pub(super) longest: Duration,
    /// Everything is asked for anew this often. A new alternative name on a link that is down is not notified
    /// (`netdev_state_change`, `net/core/dev.c`).
    pub(super) resynchronise: Duration,
    /// The first wait before beginning anew when netlink fails; it doubles up to
    pub(super) retry_first: Duration,
    /// this one.
    pub(super) retry_last: Duration,
}

impl Default for Settings {
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

/// A dump that was interrupted is made again, this often at most before it is taken as it is and mended after the next event.
const DUMPS_MAX: usize = 4;
/// Past this many changed links, and an eighth of those there are, one dump is cheaper than questions.
const QUESTIONS_MAX: usize = 16;
/// Of a link or address notification only the header and the fixed part matter; this has room for several to a datagram.
const LINK_HEED: usize = 16 * 1024;
/// Of a route notification nothing matters.
const ROUTE_HEED: usize = 8;

/// Runs the watch, and runs it anew when netlink fails, until nobody listens.
async fn keep(mut watcher: Watcher, settings: Settings, sender: Sender<Arc<Host>>) {
    let mut wait = settings.retry_first;
    loop {
        let begun = Instant::now();
        let Err(error) = watcher.run(&sender).await else { return };
        warn!(%error, "netlink failed: the table of links and addresses stands still until it is back");
        if begun.elapsed() > settings.retry_last {
            wait = settings.retry_first;
        }
        let host = watcher.host;
        watcher = loop {
            tokio::select! {
                () = sleep(wait) => {}
                () = sender.closed() => return,
            }
            wait = settings.retry_last.min(wait * 2);
            match Watcher::open(settings, host.clone()).await {
                Ok(watcher) => break watcher,
                Err(error) => debug!(%error, "netlink is still not to be had"),
            }
        };
        info!("netlink is back: links and addresses were read anew");
        watcher.publish(&sender);
    }
}

struct Watcher {
    settings: Settings,
    links: Listener,
    routes: Listener,
    client: Client,
    host: Host,
    stale: Stale,
    /// How long it took to ask the kernel last time.
    cost: Duration,
}

/// What the table may have wrong.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stale {
    all: bool,
    links: BTreeSet<u32>,
    addresses: BTreeSet<u32>,
    routes: bool,
}

impl Stale {
    fn note(&mut self, message: Message<'_>) {
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

impl Watcher {
    /// Subscribes, then reads everything. `before` is the table that the routes' epoch goes on from.
    async fn open(settings: Settings, before: Host) -> io::Result<Self> {
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
            links: Listener::open(&links, settings.link_buffer, LINK_HEED)?,
            routes: Listener::open(&routes, settings.route_buffer, ROUTE_HEED)?,
            client: Client::open()?,
            host: before,
            stale: Stale { all: true, routes: true, ..Stale::default() },
            cost: Duration::ZERO,
        };
        watcher.refresh().await?;
        Ok(watcher)
    }

    /// Keeps and publishes the table: `Ok` when nobody listens any more, `Err` when netlink failed.
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
            }
            self.settle().await?;
            self.refresh().await?;
            self.publish(sender);
        }
    }

    /// Takes in events until there are no more for the moment.
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

    /// Notes what the events that are there make stale; whether there were any.
    fn drain(&mut self) -> io::Result<bool> {
        let stale = &mut self.stale;
        let links = self.links.drain(|message| stale.note(message))?;
        let routes = self.routes.drain(|_| {})?;
        if links.overrun {
            debug!("more link events than the receive buffer holds: reading everything anew");
        }
        self.stale.all |= links.overrun;
        self.stale.routes |= routes.any;
        Ok(links != Drained::default() || routes.any)
    }

    /// Asks the kernel for what is stale.
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
        // What interrupted the dumps has been notified, so that there is an event to mend this after.
        self.stale.all = true;
        let mut links = BTreeMap::new();
        self.client.dump(link_request(0), |payload| add_link(&mut links, payload)).await?;
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            answered(self.client.dump(address_request(family, 0), |payload| add_address(&mut links, payload)).await)?;
        }
        Ok(links)
    }

    async fn some(&mut self, stale: &Stale, links: &mut BTreeMap<u32, Link>) -> io::Result<()> {
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
                    Some((of, address)) if of == index => link.addresses.push(address),
                    _ => {}
                };
                if answered(self.client.dump(address_request(family, index), each).await)? == Answer::Interrupted {
                    self.stale.addresses.insert(index);
                }
            }
        }
        Ok(())
    }

    /// Publishes the table if it differs from what was published last.
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

/// No such interface (any more), or no such address family in this kernel: it has no addresses.
fn answered(answer: io::Result<Answer>) -> io::Result<Answer> {
    match answer {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {
            Ok(Answer::Whole)
        }
        answer => answer,
    }
}

/// For the link with this index, or for all of them (0).
fn link_request(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(message)
}

/// For the addresses of the link with this index, or of all links (0).
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

/// An address of a link that is not in the table is left out: the link is newer than the table, and has been notified.
fn add_address(links: &mut BTreeMap<u32, Link>, payload: &[u8]) {
    if let Some((index, address)) = message::address(payload)
        && let Some(link) = links.get_mut(&index)
    {
        link.addresses.push(address);
    }
}

#[cfg(test)]
mod tests;
