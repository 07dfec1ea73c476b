//! Whether the kernel has a route.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::Context as _;
use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAttribute, NeighbourMessage},
    route::{RouteAttribute, RouteFlags, RouteMessage},
};
use tokio::sync::Mutex;

use super::{
    message::{self, FibEntry, NextHop},
    netlink::Client,
};

/// Of linux/rtnetlink.h, in network byte order.
const RTA_DPORT: u16 = 29;

/// `LOOPBACK_IFINDEX` of `include/net/flow.h`: the loopback interface of every network namespace.
const LOOPBACK: u32 = 1;

/// Asks the kernel for routes. Clones share one socket, which the first question opens where none is there; dropping a question before its answer
/// harms no other.
#[derive(Clone, Default)]
pub struct Routes {
    client: Arc<Mutex<Option<Client>>>,
}

/// A route that packets can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The index of the interface that it leaves by. Where no interface was asked for: of a multipath route the first one, and 0
    /// where the kernel does not say (nexthop objects under `net.ipv4.nexthop_compat_mode=0`).
    pub oif: u32,
    /// The next router; `None` where the destination is on the interface's own link or on this host.
    pub gateway: Option<IpAddr>,
    /// The source that the route prefers, if it says (`src` of `ip route`).
    pub source: Option<IpAddr>,
    /// The routing table it is in: 254 main, 255 local.
    pub table: u32,
    /// The destination is this host itself: packets never leave it.
    pub local: bool,
}

/// Packets that bear a session's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkedFlow {
    /// Where they go, and to which TCP port.
    pub destination: SocketAddr,
    /// Where they come from, if that is known.
    pub source: Option<IpAddr>,
    /// The index of the interface that their socket is bound to; 0 is none.
    pub bound: u32,
    /// The mark.
    pub mark: u32,
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routes").finish_non_exhaustive()
    }
}

impl Routes {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { client: Arc::new(Mutex::new(Some(Client::open()?))) })
    }

    /// The route that the kernel's rules and tables have for TCP to `destination` by the interface with index `oif` (0: by
    /// whichever), from `source` where that is given. `None` is no route that a packet could take: none at all, a blackhole,
    /// unreachable or prohibit route, an interface that is gone, a source that is not on this host, and this host's own address
    /// by any interface but the loopback one.
    ///
    /// The entry must really be there (`RTM_F_FIB_MATCH`, Linux 4.14): a plain lookup by interface answers "on the link" where no
    /// route exists (`net/ipv4/route.c`, `ip_route_output_key_hash_rcu`). Rules that look at marks or ports are asked with none.
    ///
    /// An error is that the kernel could not be asked.
    pub async fn to(&self, destination: IpAddr, oif: u32, source: Option<IpAddr>) -> anyhow::Result<Option<Route>> {
        let source = source.filter(|source| source.is_ipv4() == destination.is_ipv4());
        match self.lookup(destination, oif, source).await? {
            Found::Route(route) => Ok(Some(route)),
            Found::Nothing => Ok(None),
            // With a source and without a socket, IPv6 takes the interface for a preference only (`net/ipv6/route.c`,
            // `ip6_route_output_flags_noref`), and its longest match may be by another. A bound socket's lookup is strict, as
            // this one is.
            Found::Elsewhere => match self.lookup(destination, oif, None).await? {
                Found::Route(route) => Ok(Some(route)),
                Found::Nothing | Found::Elsewhere => Ok(None),
            },
        }
    }

    /// The route that a socket takes which is bound to the VRF device with index `vrf`, by whichever interface; otherwise as [`Self::to`].
    ///
    /// The interface need not be one of the VRF: where its table has no route, the kernel goes on to those of the default VRF.
    pub async fn from_vrf(
        &self,
        destination: IpAddr,
        vrf: u32,
        source: Option<IpAddr>,
    ) -> anyhow::Result<Option<Route>> {
        let source = source.filter(|source| source.is_ipv4() == destination.is_ipv4());
        match self.ask(destination, vrf, source).await? {
            Some(entry) => match choose(&entry, 0, destination, source) {
                Found::Route(route) => Ok(Some(route)),
                Found::Nothing | Found::Elsewhere => Ok(None),
            },
            None => Ok(None),
        }
    }

    /// The route that the kernel's rules and tables have for packets with a mark, as their socket is routed; `None` as for
    /// [`Self::to`].
    ///
    /// An error is that the kernel could not be asked.
    pub async fn marked(&self, flow: &MarkedFlow) -> anyhow::Result<Option<Route>> {
        self.of_flow(flow, RouteFlags::empty()).await
    }

    /// The router that the kernel sends such packets to now, where it is another than the routing tables say: an ICMP redirect has named it. The
    /// kernel announces no redirect to anybody.
    pub async fn redirected(&self, flow: &MarkedFlow, next_hop: IpAddr) -> anyhow::Result<Option<IpAddr>> {
        let used = self.of_flow(flow, RouteFlags::FibMatch).await?;
        Ok(used.and_then(|route| route.gateway).filter(|gateway| *gateway != next_hop))
    }

    /// The kernel's answer about a flow, asked without some of the usual flags.
    async fn of_flow(&self, flow: &MarkedFlow, without: RouteFlags) -> anyhow::Result<Option<Route>> {
        let destination = flow.destination.ip();
        let source = flow.source.filter(|source| source.is_ipv4() == destination.is_ipv4());
        let port = flow.destination.port().to_be_bytes().to_vec();
        let attributes = [RouteAttribute::Mark(flow.mark), RouteAttribute::Other(DefaultNla::new(RTA_DPORT, port))];
        let mut message = request(destination, flow.bound, source);
        message.header.flags.remove(without);
        message.attributes.extend(attributes);
        let entry = self.answer(message, destination).await?;
        Ok(entry.and_then(|entry| match choose(&entry, 0, destination, source) {
            Found::Route(route) => Some(route),
            Found::Nothing | Found::Elsewhere => None,
        }))
    }

    /// Has the kernel forget the neighbours on an interface whose answer it still waits for: the next packet to one of them asks for it at once.
    ///
    /// Without that it goes on as it began, with a question a second: what is sent by an interface that has no carrier makes it begin, and what is
    /// sent when the carrier is back waits for the next question, or is told after the third that there is no such host (`neigh_timer_handler` of
    /// net/core/neighbour.c).
    pub async fn ask_neighbours_anew(&self, oif: u32) -> anyhow::Result<()> {
        let mut slot = self.client.lock().await;
        let client = opened(&mut slot)?;
        let mut waiting = Vec::new();
        let mut asked =
            client.dump(neighbours(oif), |payload| waiting.extend(message::unanswered(payload))).await.map(drop);
        for (_, address) in waiting.into_iter().filter(|(index, _)| *index == oif) {
            asked = match client.change(forget(oif, address), 0).await {
                // It has answered, or is gone by itself.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => asked,
                forgotten => asked.and(forgotten),
            };
        }
        if asked.is_err() {
            *slot = None;
        }
        asked.context("the kernel does not forget neighbours that have not answered")
    }

    async fn lookup(&self, destination: IpAddr, oif: u32, source: Option<IpAddr>) -> anyhow::Result<Found> {
        let entry = self.ask(destination, oif, source).await?;
        Ok(entry.map_or(Found::Nothing, |entry| choose(&entry, oif, destination, source)))
    }

    /// What the kernel's tables have; `None` is nothing that packets can take.
    async fn ask(&self, destination: IpAddr, oif: u32, source: Option<IpAddr>) -> anyhow::Result<Option<FibEntry>> {
        self.answer(request(destination, oif, source), destination).await
    }

    async fn answer(&self, question: RouteMessage, destination: IpAddr) -> anyhow::Result<Option<FibEntry>> {
        let mut slot = self.client.lock().await;
        let client = opened(&mut slot)?;
        let mut entry = None;
        let asked = client
            .get(RouteNetlinkMessage::GetRoute(question), |payload| {
                entry = entry.take().or_else(|| message::fib_entry(payload))
            })
            .await;
        match asked {
            Ok(()) => Ok(entry),
            Err(error) if is_no_route(&error) => Ok(None),
            Err(error) => {
                // The next question gets a new socket.
                *slot = None;
                Err(error).with_context(|| format!("the kernel does not say whether it has a route to {destination}"))
            }
        }
    }
}

/// The socket, opened where none is.
fn opened(slot: &mut Option<Client>) -> anyhow::Result<&mut Client> {
    Ok(match slot {
        Some(client) => client,
        none => none.insert(Client::open().context("cannot open a netlink socket to ask for a route")?),
    })
}

/// What came of one lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Route(Route),
    Nothing,
    /// A route, but by another interface than the one asked for.
    Elsewhere,
}

fn request(destination: IpAddr, oif: u32, source: Option<IpAddr>) -> RouteMessage {
    // Only IPv4 must be asked for the table; IPv6 always tells, and refuses to be asked.
    let (family, bits, flags) = match destination {
        IpAddr::V4(_) => (AddressFamily::Inet, 32, RouteFlags::LookupTable | RouteFlags::FibMatch),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128, RouteFlags::FibMatch),
    };
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.destination_prefix_length = bits;
    message.header.flags = flags;
    message.attributes.push(RouteAttribute::Destination(destination.into()));
    message.attributes.push(RouteAttribute::IpProto(libc::IPPROTO_TCP as u8));
    if oif != 0 {
        message.attributes.push(RouteAttribute::Oif(oif));
    }
    if let Some(source) = source {
        message.header.source_prefix_length = bits;
        message.attributes.push(RouteAttribute::Source(source.into()));
    }
    message
}

/// All neighbours on an interface.
fn neighbours(oif: u32) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.attributes.push(NeighbourAttribute::IfIndex(oif));
    RouteNetlinkMessage::GetNeighbour(message)
}

fn forget(oif: u32, address: IpAddr) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = oif;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    RouteNetlinkMessage::DelNeighbour(message)
}

/// Blackhole, prohibit and unreachable routes are EINVAL, EACCES and EHOSTUNREACH (`fib_props`, `net/ipv4/fib_semantics.c`);
/// EINVAL is also a source that is not on this host, ENODEV an interface that is not there.
fn is_no_route(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::EINVAL
                | libc::EACCES
                | libc::ENODEV
                | libc::ENETDOWN
                | libc::EADDRNOTAVAIL
                | libc::ESRCH
                | libc::EAGAIN
        )
    )
}

fn choose(entry: &FibEntry, oif: u32, destination: IpAddr, source: Option<IpAddr>) -> Found {
    let local = match entry.kind {
        libc::RTN_UNICAST => false,
        libc::RTN_LOCAL => true,
        _ => return Found::Nothing,
    };
    // What is addressed to this host goes by the loopback interface, whatever interface has the address.
    if local && oif != 0 && oif != LOOPBACK {
        return Found::Nothing;
    }
    let found = |NextHop { oif, gateway }| {
        Found::Route(Route { oif, gateway, source: entry.source, table: entry.table, local })
    };
    match entry.next_hops.as_slice() {
        // The kernel does not say; where its lookup is strict, it is the interface that was asked for.
        [] if oif == 0 || destination.is_ipv4() || source.is_none() => found(NextHop { oif, gateway: None }),
        [] => Found::Elsewhere,
        [first, ..] if oif == 0 => found(*first),
        all => all.iter().find(|next_hop| next_hop.oif == oif).map_or(Found::Elsewhere, |&next_hop| found(next_hop)),
    }
}
