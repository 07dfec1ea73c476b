//! Looks up routes in the kernel.

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
    message::{self, FibEntry, FibNextHop},
    netlink::NetlinkClient,
};

/// `RTA_DPORT` of linux/rtnetlink.h. Its value is in network byte order.
const RTA_DPORT: u16 = 29;

/// `LOOPBACK_IFINDEX` of `include/net/flow.h`: the loopback interface of every network namespace.
const LOOPBACK: u32 = 1;

/// Looks up routes in the kernel. Clones share one socket, opened by the first lookup. Dropping a
/// lookup before its answer does not disturb others.
#[derive(Clone, Default)]
pub struct RouteLookup {
    client: Arc<Mutex<Option<NetlinkClient>>>,
}

/// A route that packets can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelRoute {
    /// The index of the outgoing interface. A lookup without interface gives the first interface of
    /// a multipath route. The index is 0 if the kernel does not name the interface (nexthop objects
    /// under `net.ipv4.nexthop_compat_mode=0`).
    pub oif: u32,
    /// The next router. `None` if the destination is on the link or on this host.
    pub gateway: Option<IpAddr>,
    /// The preferred source of the route (`src` of `ip route`), if it has one.
    pub source: Option<IpAddr>,
    /// The routing table: 254 is main, 255 is local.
    pub table: u32,
    /// True if the destination is this host itself. Packets then never leave it.
    pub local: bool,
}

/// Packets with the mark of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkedFlow {
    /// The destination address and TCP port.
    pub destination: SocketAddr,
    /// The source address, if known.
    pub source: Option<IpAddr>,
    /// The index of the interface that the socket is bound to, or 0.
    pub bound: u32,
    /// The mark.
    pub mark: u32,
}

impl std::fmt::Debug for RouteLookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteLookup").finish_non_exhaustive()
    }
}

impl RouteLookup {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { client: Arc::new(Mutex::new(Some(NetlinkClient::open()?))) })
    }

    /// Returns the route for TCP to `destination` through the interface with index `oif` (0 means
    /// any), from `source` if given. Returns `None` if no packet could be sent: no route, a
    /// blackhole, unreachable or prohibit route, a missing interface, or a source that this host
    /// lacks. This host's own addresses have a route through the loopback interface only.
    ///
    /// The lookup asks for the table entry itself (`RTM_F_FIB_MATCH`, Linux 4.14). A plain lookup
    /// with an interface answers "on the link" even without a route (`net/ipv4/route.c`,
    /// `ip_route_output_key_hash_rcu`). Rules that match marks or ports do not match this lookup.
    ///
    /// # Errors
    ///
    /// Fails if the kernel cannot be asked.
    pub async fn route_to(
        &self,
        destination: IpAddr,
        oif: u32,
        source: Option<IpAddr>,
    ) -> anyhow::Result<Option<KernelRoute>> {
        let source = source.filter(|source| source.is_ipv4() == destination.is_ipv4());
        match self.lookup(destination, oif, source).await? {
            LookupOutcome::Route(route) => Ok(Some(route)),
            LookupOutcome::NoRoute => Ok(None),
            // For a lookup with a source and without a socket, IPv6 treats the interface as a mere
            // preference, so the longest match may leave through another one (`net/ipv6/route.c`,
            // `ip6_route_output_flags_noref`). A bound socket is strict about the interface, and so
            // is a lookup without source.
            LookupOutcome::OtherInterface => match self.lookup(destination, oif, None).await? {
                LookupOutcome::Route(route) => Ok(Some(route)),
                LookupOutcome::NoRoute | LookupOutcome::OtherInterface => Ok(None),
            },
        }
    }

    /// Returns the route of a socket bound to the VRF device with index `vrf`, through any
    /// interface. Otherwise like [`Self::route_to`].
    ///
    /// The interface may lie outside the VRF: if the VRF's table has no route, the kernel continues
    /// with the default VRF.
    pub async fn route_in_vrf(
        &self,
        destination: IpAddr,
        vrf: u32,
        source: Option<IpAddr>,
    ) -> anyhow::Result<Option<KernelRoute>> {
        let source = source.filter(|source| source.is_ipv4() == destination.is_ipv4());
        match self.ask(destination, vrf, source).await? {
            Some(entry) => match choose(&entry, 0, destination, source) {
                LookupOutcome::Route(route) => Ok(Some(route)),
                LookupOutcome::NoRoute | LookupOutcome::OtherInterface => Ok(None),
            },
            None => Ok(None),
        }
    }

    /// Returns the route for packets with a mark, by the rules and tables that apply to their
    /// socket. `None` as for [`Self::route_to`].
    ///
    /// # Errors
    ///
    /// Fails if the kernel cannot be asked.
    pub async fn marked_route(&self, flow: &MarkedFlow) -> anyhow::Result<Option<KernelRoute>> {
        self.flow_route(flow, RouteFlags::empty()).await
    }

    /// Returns the router that an ICMP redirect has put in place of `next_hop` for these packets,
    /// if there is one. The kernel sends no notification of redirects.
    pub async fn redirected_router(&self, flow: &MarkedFlow, next_hop: IpAddr) -> anyhow::Result<Option<IpAddr>> {
        let used = self.flow_route(flow, RouteFlags::FibMatch).await?;
        Ok(used.and_then(|route| route.gateway).filter(|gateway| *gateway != next_hop))
    }

    /// Looks up a flow, with the usual flags except `without`.
    async fn flow_route(&self, flow: &MarkedFlow, without: RouteFlags) -> anyhow::Result<Option<KernelRoute>> {
        let destination = flow.destination.ip();
        let source = flow.source.filter(|source| source.is_ipv4() == destination.is_ipv4());
        let port = flow.destination.port().to_be_bytes().to_vec();
        let attributes = [RouteAttribute::Mark(flow.mark), RouteAttribute::Other(DefaultNla::new(RTA_DPORT, port))];
        let mut message = request(destination, flow.bound, source);
        message.header.flags.remove(without);
        message.attributes.extend(attributes);
        let entry = self.answer(message, destination).await?;
        Ok(entry.and_then(|entry| match choose(&entry, 0, destination, source) {
            LookupOutcome::Route(route) => Some(route),
            LookupOutcome::NoRoute | LookupOutcome::OtherInterface => None,
        }))
    }

    /// Makes the kernel forget the unanswered neighbours of an interface, so that the next packet
    /// asks for them at once.
    ///
    /// Otherwise the kernel continues its old retries, one a second. Packets sent without a carrier
    /// start those retries. A packet sent after the carrier is back would wait for the next retry,
    /// or fail with "no route to host" after the third (`neigh_timer_handler` of
    /// net/core/neighbour.c).
    pub async fn ask_neighbours_anew(&self, oif: u32) -> anyhow::Result<()> {
        let mut slot = self.client.lock().await;
        let client = opened(&mut slot)?;
        let mut waiting = Vec::new();
        let mut asked =
            client.dump(neighbours(oif), |payload| waiting.extend(message::unanswered(payload))).await.map(drop);
        for (_, address) in waiting.into_iter().filter(|(index, _)| *index == oif) {
            asked = match client.change(forget(oif, address), 0).await {
                // The neighbour has answered or expired in the meantime.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => asked,
                forgotten => asked.and(forgotten),
            };
        }
        if asked.is_err() {
            *slot = None;
        }
        asked.context("cannot make the kernel forget unanswered neighbours")
    }

    async fn lookup(&self, destination: IpAddr, oif: u32, source: Option<IpAddr>) -> anyhow::Result<LookupOutcome> {
        let entry = self.ask(destination, oif, source).await?;
        Ok(entry.map_or(LookupOutcome::NoRoute, |entry| choose(&entry, oif, destination, source)))
    }

    /// Returns the entry of the routing table, or `None` if packets have no route.
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
                // The next lookup opens a new socket.
                *slot = None;
                Err(error).with_context(|| format!("cannot ask the kernel for a route to {destination}"))
            }
        }
    }
}

/// Returns the socket, opening it if necessary.
fn opened(slot: &mut Option<NetlinkClient>) -> anyhow::Result<&mut NetlinkClient> {
    Ok(match slot {
        Some(client) => client,
        none => none.insert(NetlinkClient::open().context("cannot open a netlink socket to ask for a route")?),
    })
}

/// The outcome of one lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LookupOutcome {
    Route(KernelRoute),
    NoRoute,
    /// A route through another interface than the requested one.
    OtherInterface,
}

fn request(destination: IpAddr, oif: u32, source: Option<IpAddr>) -> RouteMessage {
    // `LookupTable` makes IPv4 tell the table. IPv6 always tells it and rejects the flag.
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

/// Requests all neighbours of an interface.
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

/// True for the errors that mean "no route". Blackhole, prohibit and unreachable routes give
/// EINVAL, EACCES and EHOSTUNREACH (`fib_props`, `net/ipv4/fib_semantics.c`). EINVAL also means a
/// source that this host lacks, ENODEV a missing interface.
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

fn choose(entry: &FibEntry, oif: u32, destination: IpAddr, source: Option<IpAddr>) -> LookupOutcome {
    let local = match entry.kind {
        libc::RTN_UNICAST => false,
        libc::RTN_LOCAL => true,
        _ => return LookupOutcome::NoRoute,
    };
    // The kernel delivers packets to its own addresses through the loopback interface, whichever
    // interface has the address.
    if local && oif != 0 && oif != LOOPBACK {
        return LookupOutcome::NoRoute;
    }
    let found = |FibNextHop { oif, gateway }| {
        LookupOutcome::Route(KernelRoute { oif, gateway, source: entry.source, table: entry.table, local })
    };
    match entry.next_hops.as_slice() {
        // The kernel names no next hop. If its lookup was strict, the interface is the requested
        // one.
        [] if oif == 0 || destination.is_ipv4() || source.is_none() => found(FibNextHop { oif, gateway: None }),
        [] => LookupOutcome::OtherInterface,
        [first, ..] if oif == 0 => found(*first),
        all => all
            .iter()
            .find(|next_hop| next_hop.oif == oif)
            .map_or(LookupOutcome::OtherInterface, |&next_hop| found(next_hop)),
    }
}
