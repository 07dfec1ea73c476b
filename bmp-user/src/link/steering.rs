//! Routes of a session's own: a mark, a rule that looks for it, and a table that nothing else is routed by.
//!
//! ```text
//! ip rule     900: from all fwmark 0x626d0001 lookup 1651310593 proto 98
//! table 1651310593: default via 192.0.2.66 dev up2 proto 98 onlink
//!                   unreachable default proto 98 metric 4278198272
//! ```
//!
//! A mark is the number of its table too. Whatever carries [`PROTOCOL`] is bmpd's; [`Marks`](super::Marks) tells which of several bmpd in one
//! network namespace has it.

use std::{io, net::IpAddr, ops::RangeInclusive};

use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        route::{RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType},
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};

use super::{
    message::{self, FibEntry, NextHop, Rule},
    netlink::{Answer, Client},
};

/// The number that rules and routes of bmpd's carry (`rtm_protocol`): none of those that /etc/iproute2/rt_protos names.
pub const PROTOCOL: u8 = 98;

/// The priority of the rules: before those of VRFs (1000) and the main table (32766), after that of the local one (0).
pub const PRIORITY: u32 = 900;

/// The marks, and the numbers of the tables: they begin with `bm`.
pub const MARKS: RangeInclusive<u32> = 0x626d_0001..=0x626d_ffff;

/// Worse than any route that somebody else would put into the table; what iproute2's documentation of VRFs advises.
const LAST_METRIC: u32 = 4_278_198_272;

/// `FR_ACT_*` (linux/fib_rules.h).
const FR_ACT_TO_TBL: u8 = 1;
const FR_ACT_GOTO: u8 = 2;

/// A dump that was interrupted is made again, this often at most.
const DUMPS_MAX: usize = 4;
/// More than a table or the rules for one mark ever hold.
const REMOVALS_MAX: usize = 64;

const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// Where the packets go that carry a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steer {
    /// The mark, which is the table's number.
    pub mark: u32,
    /// The router.
    pub next_hop: IpAddr,
    /// Index of the interface that it is on.
    pub oif: u32,
}

/// What is found under a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The mark.
    pub mark: u32,
    /// Router and interface, where the table has a route by one.
    pub way: Option<(IpAddr, u32)>,
}

/// A rule of somebody else's that the kernel looks at before those of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlierRule {
    /// Its preference.
    pub priority: u32,
    /// The table that it leads to; 0 if it leads to none.
    pub table: u32,
}

/// Puts routes of sessions' own into the kernel, and takes them out. Belongs to the network namespace of the thread that opened it.
pub struct Steering {
    client: Client,
}

impl Steering {
    /// # Errors
    ///
    /// No netlink socket is to be had.
    pub fn open() -> io::Result<Self> {
        Ok(Self { client: Client::open()? })
    }

    /// What bmpd of any process have in the kernel, in the order of marks.
    ///
    /// # Errors
    ///
    /// The kernel could not be asked.
    pub async fn found(&mut self) -> io::Result<Vec<Found>> {
        let mut found = std::collections::BTreeMap::new();
        for family in FAMILIES {
            for rule in self.rules(family).await?.iter().filter(|rule| is_ours(rule)) {
                found.entry(rule.mark).or_insert(None);
            }
            for route in self.routes(family, None).await?.iter().filter(|route| MARKS.contains(&route.table)) {
                let way = found.entry(route.table).or_insert(None);
                *way = way.or_else(|| way_of(route));
            }
        }
        Ok(found.into_iter().map(|(mark, way)| Found { mark, way }).collect())
    }

    /// Whether a mark and its table are nobody's: no rule looks for the mark, and nobody has put a route into the table.
    ///
    /// # Errors
    ///
    /// The kernel could not be asked.
    pub async fn is_free(&mut self, mark: u32) -> io::Result<bool> {
        for family in FAMILIES {
            let looks_for_it = |rule: &Rule| {
                let marked = rule.mask != 0 && mark & rule.mask == rule.mark & rule.mask;
                // Behind our own rule nobody is asked any more.
                (marked && rule.priority <= PRIORITY) || rule.table == mark
            };
            if self.rules(family).await?.iter().any(looks_for_it) {
                return Ok(false);
            }
            if !self.routes(family, Some(mark)).await?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Which of the rules before bmpd's own may be the one that has led to `table`; with `None` to no table at all. The first that leads
    /// there, or else the first that goes on elsewhere (`goto`) or in a table that it does not name (`l3mdev`).
    ///
    /// # Errors
    ///
    /// The kernel could not be asked.
    pub async fn earlier_rule(&mut self, ipv4: bool, table: Option<u32>) -> io::Result<Option<EarlierRule>> {
        let family = if ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let rules = self.rules(family).await?;
        // The local table's own rule is the first of all.
        let earlier = || rules.iter().filter(|rule| rule.priority > 0 && rule.priority <= PRIORITY && !is_ours(rule));
        let leads_there = |rule: &&Rule| match table {
            Some(table) => rule.action == FR_ACT_TO_TBL && rule.table == table,
            None => rule.action != FR_ACT_TO_TBL && rule.action != FR_ACT_GOTO,
        };
        let elsewhere = |rule: &&Rule| rule.action == FR_ACT_GOTO || (rule.action == FR_ACT_TO_TBL && rule.table == 0);
        let found = earlier().find(leads_there).or_else(|| earlier().find(elsewhere).filter(|_| table.is_some()));
        let local = rules.iter().find(|rule| rule.priority == 0 && Some(rule.table) == table);
        Ok(found.or(local).map(|rule| EarlierRule { priority: rule.priority, table: rule.table }))
    }

    /// Has the kernel route what carries the mark, where it does not yet. True if something was missing.
    ///
    /// # Errors
    ///
    /// What the kernel says, with its [`raw_os_error`](io::Error::raw_os_error): `ENODEV` and `ENETDOWN` where the interface is not there or
    /// down, `EINVAL` where the next hop is no router's address.
    pub async fn add(&mut self, steer: &Steer) -> io::Result<bool> {
        let Steer { mark, next_hop, oif } = *steer;
        let family = family(next_hop);
        let routes = self.routes(family, Some(mark)).await?;
        let mut missing = false;
        // First of all, so that nothing that is marked meanwhile goes on to the next table.
        if !routes.iter().any(|route| route.kind == libc::RTN_UNREACHABLE) {
            let request = RouteNetlinkMessage::NewRoute(last_route(family, mark));
            self.client.change(request, NLM_F_CREATE | NLM_F_REPLACE).await?;
            missing = true;
        }
        if !routes.iter().any(|route| way_of(route) == Some((next_hop, oif))) {
            let mut route = route(family, mark);
            route.header.kind = RouteType::Unicast;
            // Whether the next hop is on the link is for the caller to know; the kernel would look in tables that this one is to replace.
            route.header.flags = RouteFlags::Onlink;
            route.attributes.push(RouteAttribute::Gateway(next_hop.into()));
            route.attributes.push(RouteAttribute::Oif(oif));
            self.client.change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE).await?;
            missing = true;
        }
        if !self.rules(family).await?.iter().any(|rule| is_ours(rule) && rule.mark == mark) {
            let request = RouteNetlinkMessage::NewRule(rule(family, mark));
            match self.client.change(request, NLM_F_CREATE | NLM_F_EXCL).await {
                Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
                _ => missing = true,
            }
        }
        Ok(missing)
    }

    /// Takes out of the kernel what it has for a mark. Nothing there is no error.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub async fn remove(&mut self, mark: u32) -> io::Result<()> {
        for family in FAMILIES {
            for _ in 0..REMOVALS_MAX {
                if !self.rules(family).await?.iter().any(|rule| is_ours(rule) && rule.mark == mark) {
                    break;
                }
                gone(self.client.change(RouteNetlinkMessage::DelRule(rule(family, mark)), 0).await)?;
            }
            let routes = self.routes(family, Some(mark)).await?;
            for found in routes.iter().filter(|route| route.protocol == PROTOCOL).take(REMOVALS_MAX) {
                let mut route = route(family, mark);
                route.header.kind = found.kind.into();
                route.attributes.extend(found.metric.map(RouteAttribute::Priority));
                gone(self.client.change(RouteNetlinkMessage::DelRoute(route), 0).await)?;
            }
        }
        Ok(())
    }

    async fn rules(&mut self, family: AddressFamily) -> io::Result<Vec<Rule>> {
        let mut request = RuleMessage::default();
        request.header.family = family;
        self.dump(&RouteNetlinkMessage::GetRule(request), message::rule).await
    }

    /// The routes of one table; of all tables those alone that carry [`PROTOCOL`].
    async fn routes(&mut self, family: AddressFamily, table: Option<u32>) -> io::Result<Vec<FibEntry>> {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        match table {
            Some(table) => request.attributes.push(RouteAttribute::Table(table)),
            None => request.header.protocol = RouteProtocol::Other(PROTOCOL),
        }
        let mut routes = self.dump(&RouteNetlinkMessage::GetRoute(request), message::fib_entry).await?;
        // A kernel that does not look at what was asked sends all.
        routes.retain(|route| match table {
            Some(table) => route.table == table,
            None => route.protocol == PROTOCOL,
        });
        Ok(routes)
    }

    async fn dump<T>(
        &mut self,
        request: &RouteNetlinkMessage,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut found = Vec::new();
        for _ in 0..DUMPS_MAX {
            found.clear();
            let answer = self.client.dump(request.clone(), |payload| found.extend(parse(payload))).await;
            match answer {
                Ok(Answer::Whole) => break,
                // The next one shows what this one missed.
                Ok(Answer::Interrupted) => {}
                // No such table (yet), or no such family in this kernel.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) =>
                {
                    return Ok(Vec::new());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

fn is_ours(rule: &Rule) -> bool {
    let Rule { protocol, priority, mark, mask, table, action: _ } = *rule;
    (protocol, priority, mask) == (PROTOCOL, PRIORITY, u32::MAX) && mark == table && MARKS.contains(&mark)
}

fn way_of(route: &FibEntry) -> Option<(IpAddr, u32)> {
    match route.next_hops.as_slice() {
        [NextHop { oif, gateway: Some(gateway) }]
            if route.kind == libc::RTN_UNICAST && route.prefix_len == 0 && route.protocol == PROTOCOL =>
        {
            Some((*gateway, *oif))
        }
        _ => None,
    }
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// A default route of a table.
fn route(family: AddressFamily, table: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message.attributes.push(RouteAttribute::Table(table));
    message
}

/// What is marked is not routed by any other table.
fn last_route(family: AddressFamily, table: u32) -> RouteMessage {
    let mut message = route(family, table);
    message.header.kind = RouteType::Unreachable;
    message.attributes.push(RouteAttribute::Priority(LAST_METRIC));
    message
}

fn rule(family: AddressFamily, mark: u32) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family;
    message.header.action = RuleAction::ToTable;
    message.attributes.extend([
        RuleAttribute::Priority(PRIORITY),
        RuleAttribute::FwMark(mark),
        RuleAttribute::FwMask(u32::MAX),
        RuleAttribute::Table(mark),
        RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
    ]);
    message
}

/// What is gone already need not be removed.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => Ok(()),
        removed => removed,
    }
}
