//! Routes for a single session: a mark, a rule that matches the mark, a table that only this rule
//! selects, and a rule that refuses what the table has no route for.
//!
//! ```text
//! ip rule     900: from all fwmark 0x626d0001 lookup 1651310593 proto 98
//!             901: from all fwmark 0x626d0001 unreachable proto 98
//! table 1651310593: default via 192.0.2.66 dev up2 proto 98 onlink
//! ```
//!
//! An unreachable route in the table would refuse the packets too. But while IPv6 holds a next hop
//! for failed, it prefers any other route of the table to that one, and looks after the next hop
//! once a minute only (net/ipv6/route.c, `find_match`, `rt6_probe`).
//!
//! The number of the table equals the mark. Rules and routes with [`PROTOCOL`] belong to bmpd. If
//! several bmpd share a network namespace, [`Marks`](super::Marks) tells whose a mark is.

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
    message::{self, FibEntry, FibNextHop, RoutingRule},
    netlink::{Answer, NetlinkClient},
};

/// The protocol number of bmpd's rules and routes (`rtm_protocol`). No entry of
/// /etc/iproute2/rt_protos uses it.
pub const PROTOCOL: u8 = 98;

/// The priority of the rules that select a table: after the local table (0), before VRFs (1000) and
/// the main table (32766).
pub const PRIORITY: u32 = 900;

/// The priority of the rules that refuse what the table has no route for.
const LAST_PRIORITY: u32 = PRIORITY + 1;

/// The marks, which are also the numbers of the tables. As bytes they begin with `bm`.
pub const MARKS: RangeInclusive<u32> = 0x626d_0001..=0x626d_ffff;

/// `FR_ACT_*` (linux/fib_rules.h).
const FR_ACT_TO_TBL: u8 = 1;
const FR_ACT_GOTO: u8 = 2;
const FR_ACT_UNREACHABLE: u8 = 7;

/// How often an interrupted dump is repeated at most.
const DUMPS_MAX: usize = 4;
/// Removals for one mark at most. A table, or the rules for one mark, never hold as many entries.
const REMOVALS_MAX: usize = 64;

const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// Where packets with a mark go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steer {
    /// The mark, which is also the number of the table.
    pub mark: u32,
    /// The route in that table.
    pub route: MarkRoute,
}

/// A mark that the kernel steers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteeredMark {
    /// The mark.
    pub mark: u32,
    /// The route in the table of the mark, if it has one.
    pub route: Option<MarkRoute>,
}

/// The route of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkRoute {
    /// The router.
    pub next_hop: IpAddr,
    /// The index of the interface towards the router.
    pub oif: u32,
}

/// A foreign rule that the kernel evaluates before the rules of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlierRule {
    /// The priority of the rule.
    pub priority: u32,
    /// The table that the rule selects, or 0.
    pub table: u32,
}

/// Adds and removes the rules and routes of sessions, in the network namespace of the thread that
/// opened it.
pub struct Steering {
    client: NetlinkClient,
}

impl Steering {
    /// Opens a netlink socket.
    ///
    /// # Errors
    ///
    /// Fails if the socket cannot be opened.
    pub fn open() -> io::Result<Self> {
        Ok(Self { client: NetlinkClient::open()? })
    }

    /// Returns the marks that the kernel steers, in ascending order, whichever bmpd added them.
    ///
    /// # Errors
    ///
    /// Fails if the kernel cannot be asked.
    pub async fn steered_marks(&mut self) -> io::Result<Vec<SteeredMark>> {
        let mut found = std::collections::BTreeMap::new();
        for family in FAMILIES {
            for rule in self.rules(family).await?.iter().filter(|rule| is_ours(rule)) {
                found.entry(rule.mark).or_insert(None);
            }
            for route in self.routes(family, None).await?.iter().filter(|route| MARKS.contains(&route.table)) {
                let known = found.entry(route.table).or_insert(None);
                *known = known.or_else(|| mark_route(route));
            }
        }
        Ok(found.into_iter().map(|(mark, route)| SteeredMark { mark, route }).collect())
    }

    /// True if no rule matches the mark and its table is empty.
    ///
    /// # Errors
    ///
    /// Fails if the kernel cannot be asked.
    pub async fn is_free(&mut self, mark: u32) -> io::Result<bool> {
        for family in FAMILIES {
            let looks_for_it = |rule: &RoutingRule| {
                let marked = rule.mask != 0 && mark & rule.mask == rule.mark & rule.mask;
                // Rules after our own never see a packet with the mark.
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

    /// Returns the foreign rule before bmpd's own that probably selected `table`. `None` as `table`
    /// means that packets were refused by a rule. A rule that names the table comes first, then a
    /// rule that jumps (`goto`) or selects a table indirectly (`l3mdev`).
    ///
    /// # Errors
    ///
    /// Fails if the kernel cannot be asked.
    pub async fn earlier_rule(&mut self, ipv4: bool, table: Option<u32>) -> io::Result<Option<EarlierRule>> {
        let family = if ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let rules = self.rules(family).await?;
        // Priority 0 is the local table's own rule.
        let earlier = || rules.iter().filter(|rule| rule.priority > 0 && rule.priority <= PRIORITY && !is_ours(rule));
        let leads_there = |rule: &&RoutingRule| match table {
            Some(table) => rule.action == FR_ACT_TO_TBL && rule.table == table,
            None => rule.action != FR_ACT_TO_TBL && rule.action != FR_ACT_GOTO,
        };
        let elsewhere =
            |rule: &&RoutingRule| rule.action == FR_ACT_GOTO || (rule.action == FR_ACT_TO_TBL && rule.table == 0);
        let found = earlier().find(leads_there).or_else(|| earlier().find(elsewhere).filter(|_| table.is_some()));
        let local = rules.iter().find(|rule| rule.priority == 0 && Some(rule.table) == table);
        Ok(found.or(local).map(|rule| EarlierRule { priority: rule.priority, table: rule.table }))
    }

    /// Adds the rule and the routes that a mark still lacks. Returns true if something was missing.
    ///
    /// # Errors
    ///
    /// Fails with the kernel's [`raw_os_error`](io::Error::raw_os_error): `ENODEV` or `ENETDOWN` if
    /// the interface is missing or down, `EINVAL` if the next hop is no address of a router.
    pub async fn add(&mut self, steer: &Steer) -> io::Result<bool> {
        let Steer { mark, route: wanted @ MarkRoute { next_hop, oif } } = *steer;
        let family = family(next_hop);
        // This rule comes first, so that marked packets never fall through to the next table.
        let mut missing = self.add_rule(family, mark, MarkRule::Unreachable).await?;
        let routes = self.routes(family, Some(mark)).await?;
        if !routes.iter().any(|route| mark_route(route) == Some(wanted)) {
            let mut route = route(family, mark);
            route.header.kind = RouteType::Unicast;
            // The caller knows that the next hop is on the link. The kernel would look it up in the
            // tables that this one replaces.
            route.header.flags = RouteFlags::Onlink;
            route.attributes.push(RouteAttribute::Gateway(next_hop.into()));
            route.attributes.push(RouteAttribute::Oif(oif));
            self.client.change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE).await?;
            missing = true;
        }
        // Version 0.1 left one.
        for old in routes.iter().filter(|route| route.kind == libc::RTN_UNREACHABLE && route.protocol == PROTOCOL) {
            self.remove_route(family, mark, old).await?;
        }
        missing |= self.add_rule(family, mark, MarkRule::Lookup).await?;
        Ok(missing)
    }

    /// Adds a rule of a mark. Returns true if it was missing.
    async fn add_rule(&mut self, family: AddressFamily, mark: u32, which: MarkRule) -> io::Result<bool> {
        if self.rules(family).await?.iter().any(|rule| which.is(rule, mark)) {
            return Ok(false);
        }
        let request = RouteNetlinkMessage::NewRule(which.message(family, mark));
        match self.client.change(request, NLM_F_CREATE | NLM_F_EXCL).await {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => Err(error),
            _ => Ok(true),
        }
    }

    /// Removes all rules and routes of a mark. A mark without any is no error.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses a request.
    pub async fn remove(&mut self, mark: u32) -> io::Result<()> {
        for family in FAMILIES {
            self.remove_rules(family, mark, MarkRule::Lookup).await?;
            let routes = self.routes(family, Some(mark)).await?;
            for found in routes.iter().filter(|route| route.protocol == PROTOCOL).take(REMOVALS_MAX) {
                self.remove_route(family, mark, found).await?;
            }
            self.remove_rules(family, mark, MarkRule::Unreachable).await?;
        }
        Ok(())
    }

    async fn remove_rules(&mut self, family: AddressFamily, mark: u32, which: MarkRule) -> io::Result<()> {
        for _ in 0..REMOVALS_MAX {
            if !self.rules(family).await?.iter().any(|rule| which.is(rule, mark)) {
                break;
            }
            gone(self.client.change(RouteNetlinkMessage::DelRule(which.message(family, mark)), 0).await)?;
        }
        Ok(())
    }

    async fn remove_route(&mut self, family: AddressFamily, mark: u32, found: &FibEntry) -> io::Result<()> {
        let mut route = route(family, mark);
        route.header.kind = found.kind.into();
        route.attributes.extend(found.metric.map(RouteAttribute::Priority));
        gone(self.client.change(RouteNetlinkMessage::DelRoute(route), 0).await)
    }

    async fn rules(&mut self, family: AddressFamily) -> io::Result<Vec<RoutingRule>> {
        let mut request = RuleMessage::default();
        request.header.family = family;
        self.dump(&RouteNetlinkMessage::GetRule(request), message::rule).await
    }

    /// Returns the routes of one table. `None` means the routes with [`PROTOCOL`] of all tables.
    async fn routes(&mut self, family: AddressFamily, table: Option<u32>) -> io::Result<Vec<FibEntry>> {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        match table {
            Some(table) => request.attributes.push(RouteAttribute::Table(table)),
            None => request.header.protocol = RouteProtocol::Other(PROTOCOL),
        }
        let mut routes = self.dump(&RouteNetlinkMessage::GetRoute(request), message::fib_entry).await?;
        // An older kernel ignores the filter and sends all routes.
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
                // The next dump shows what this one missed.
                Ok(Answer::Interrupted) => {}
                // The table does not exist yet, or the kernel lacks the address family.
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

/// A rule of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MarkRule {
    /// Selects the mark's table.
    Lookup,
    /// Refuses what the table has no route for.
    Unreachable,
}

impl MarkRule {
    const fn priority(self) -> u32 {
        match self {
            Self::Lookup => PRIORITY,
            Self::Unreachable => LAST_PRIORITY,
        }
    }

    /// True if `rule` is this one, for the mark.
    fn is(self, rule: &RoutingRule, mark: u32) -> bool {
        let RoutingRule { protocol, priority, mark: marked, mask, table, action } = *rule;
        let acts = match self {
            Self::Lookup => action == FR_ACT_TO_TBL && table == mark,
            Self::Unreachable => action == FR_ACT_UNREACHABLE,
        };
        (protocol, priority, marked, mask) == (PROTOCOL, self.priority(), mark, u32::MAX) && acts
    }

    fn message(self, family: AddressFamily, mark: u32) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = family;
        message.attributes.extend([
            RuleAttribute::Priority(self.priority()),
            RuleAttribute::FwMark(mark),
            RuleAttribute::FwMask(u32::MAX),
            RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
        ]);
        match self {
            Self::Lookup => {
                message.header.action = RuleAction::ToTable;
                message.attributes.push(RuleAttribute::Table(mark));
            }
            Self::Unreachable => message.header.action = RuleAction::Unreachable,
        }
        message
    }
}

fn is_ours(rule: &RoutingRule) -> bool {
    MARKS.contains(&rule.mark)
        && [MarkRule::Lookup, MarkRule::Unreachable].iter().any(|which| which.is(rule, rule.mark))
}

fn mark_route(route: &FibEntry) -> Option<MarkRoute> {
    match route.next_hops.as_slice() {
        [FibNextHop { oif, gateway: Some(gateway) }]
            if route.kind == libc::RTN_UNICAST && route.prefix_len == 0 && route.protocol == PROTOCOL =>
        {
            Some(MarkRoute { next_hop: *gateway, oif: *oif })
        }
        _ => None,
    }
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// Builds a default route of a table.
fn route(family: AddressFamily, table: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message.attributes.push(RouteAttribute::Table(table));
    message
}

/// Accepts the errors that say that the entry is already gone.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => Ok(()),
        removed => removed,
    }
}
