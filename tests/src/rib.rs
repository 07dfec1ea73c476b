//! The table that a BMP stream leaves at its station: routes by peer, RIB and address family.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::{
    bmp::{self, ReceivedFrame},
    station::{RecordedConnection, TestStation},
    wait::patience,
};

/// AFI and SAFI.
pub type AfiSafi = (u16, u8);
/// IPv4 unicast.
pub const IPV4: AfiSafi = (1, 1);
/// IPv6 unicast.
pub const IPV6: AfiSafi = (2, 1);
/// VPN-IPv4, with labels.
pub const VPNV4: AfiSafi = (1, 128);
/// EVPN.
pub const EVPN: AfiSafi = (25, 70);

/// Stands for a Loc-RIB peer (RFC 9069 §4.1) here.
pub const LOC_RIB_PEER: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// One RIB of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerRib {
    /// Adj-RIB-In before policy.
    PrePolicy,
    /// Adj-RIB-In after policy.
    PostPolicy,
    /// Adj-RIB-Out (RFC 8671), before or after policy.
    Out,
    /// Loc-RIB (RFC 9069).
    LocRib,
}

/// The attributes of a route that tests compare.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComparedRoute {
    /// The next hop. Of two IPv6 next hops, the global one.
    pub next_hop: Option<IpAddr>,
    /// The AS path, nearest AS first.
    pub as_path: Vec<u32>,
}

/// Routes by name. A name is a prefix, such as `10.0.0.0/24` or `2001:db8::/32`.
///
/// The route distinguisher precedes the prefix in a VPN: `65001:1 10.0.0.0/24`. EVPN routes of type
/// 2 or 5 with IPv4 have FRR's notation: `65001:1 [5]:[0]:[24]:[10.0.0.0]`. Others are hexadecimal.
pub type NamedRoutes = BTreeMap<String, ComparedRoute>;

/// The first few differences of two tables, for messages: whole tables are too long to read.
#[derive(Clone, Copy, Debug)]
pub struct RouteDifference<'a>(pub &'a NamedRoutes, pub &'a NamedRoutes);

impl fmt::Display for RouteDifference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(have, want) = self;
        let keys: BTreeSet<_> = have.keys().chain(want.keys()).collect();
        let differ: Vec<_> = keys.into_iter().filter(|key| have.get(*key) != want.get(*key)).collect();
        write!(f, "{} routes where {} are wanted, {} differ", have.len(), want.len(), differ.len())?;
        for key in differ.into_iter().take(5) {
            write!(f, "\n  {key}: {:?}, wanted {:?}", have.get(key), want.get(key))?;
        }
        Ok(())
    }
}

/// The routes of all peers that are up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StationRib {
    routes: BTreeMap<(IpAddr, PeerRib, AfiSafi), NamedRoutes>,
    up: BTreeSet<IpAddr>,
    /// Number of frames of the connection that are applied.
    applied: usize,
}

impl StationRib {
    /// Applies all frames of a connection.
    ///
    /// # Panics
    /// If a route belongs to a peer that is down, or if an UPDATE is malformed.
    pub fn of(connection: &RecordedConnection) -> Self {
        let mut rib = Self::default();
        rib.follow(connection);
        rib
    }

    /// Applies the frames that the same connection has received since.
    ///
    /// # Panics
    /// See [`Self::of`].
    pub fn follow(&mut self, connection: &RecordedConnection) {
        let news = connection.frames.get(self.applied..).expect("a connection keeps its frames");
        news.iter().for_each(|frame| self.apply(frame));
        self.applied = connection.frames.len();
    }

    /// Returns the routes in one RIB of a peer.
    pub fn view(&self, peer: IpAddr, view: PeerRib, family: AfiSafi) -> NamedRoutes {
        self.routes.get(&(peer, view, family)).cloned().unwrap_or_default()
    }

    /// True if one RIB of a peer has exactly these routes.
    pub fn is(&self, peer: IpAddr, view: PeerRib, family: AfiSafi, wanted: &NamedRoutes) -> bool {
        self.routes.get(&(peer, view, family)).map_or(wanted.is_empty(), |routes| routes == wanted)
    }

    /// Returns the prefixes in a peer's Adj-RIB-In before policy.
    pub fn routes(&self, peer: IpAddr, family: AfiSafi) -> BTreeSet<String> {
        let routes = self.routes.get(&(peer, PeerRib::PrePolicy, family));
        routes.map(|routes| routes.keys().cloned().collect()).unwrap_or_default()
    }

    /// True if the peer is up.
    pub fn is_up(&self, peer: IpAddr) -> bool {
        self.up.contains(&peer)
    }

    fn apply(&mut self, frame: &ReceivedFrame) {
        let (Some(peer), Some(flags)) = (frame.peer(), frame.peer_flags()) else { return };
        let is_loc_rib = frame.peer_type() == Some(bmp::LOC_RIB_INSTANCE);
        let peer = if is_loc_rib { LOC_RIB_PEER } else { peer };
        match frame.kind() {
            bmp::PEER_UP | bmp::PEER_DOWN => {
                self.routes.retain(|(of, ..), _| *of != peer);
                self.up.remove(&peer);
                if frame.kind() == bmp::PEER_UP {
                    self.up.insert(peer);
                }
            }
            bmp::ROUTE_MONITORING => {
                // GoBGP sends no Peer Up for its Loc-RIB.
                assert!(is_loc_rib || self.up.contains(&peer), "a route of {peer}, which is not up");
                let view = match flags {
                    _ if is_loc_rib => PeerRib::LocRib,
                    flags if flags & bmp::ADJ_RIB_OUT != 0 => PeerRib::Out,
                    flags if flags & bmp::POST_POLICY != 0 => PeerRib::PostPolicy,
                    _ => PeerRib::PrePolicy,
                };
                // A Loc-RIB always has four-octet AS numbers (RFC 9069 §4.2).
                let short = !is_loc_rib && flags & bmp::SHORT_AS_PATH != 0;
                for (family, prefix, route) in changes(frame.body(), short).expect("the UPDATE is well-formed") {
                    let routes = self.routes.entry((peer, view, family)).or_default();
                    match route {
                        Some(route) => routes.insert(prefix, route),
                        None => routes.remove(&prefix),
                    };
                }
            }
            _ => {}
        }
    }
}

/// The table of a station over several connections. Only the newest connection counts.
#[derive(Debug)]
pub struct RibMirror<'a> {
    station: &'a TestStation,
    connection: usize,
    rib: StationRib,
}

impl<'a> RibMirror<'a> {
    /// Starts with the first connection of `station`.
    pub fn of(station: &'a TestStation) -> Self {
        Self { station, connection: 0, rib: StationRib::default() }
    }

    /// Waits until `look` finds something in the table of the newest connection.
    ///
    /// # Panics
    /// After the patience, with `what` as the missing thing.
    pub fn wait_for<R>(&mut self, what: &str, usual: Duration, look: impl FnMut(&StationRib) -> Option<R>) -> R {
        let found = self.look_for(usual, look);
        found.unwrap_or_else(|| {
            let station = self.station.address();
            panic!("the station {station} does not have {what} within {:?}", patience(usual))
        })
    }

    /// Waits until one RIB of a peer has exactly these routes.
    ///
    /// # Panics
    /// After the patience, with the differences.
    pub fn wait_view(&mut self, of: (IpAddr, PeerRib, AfiSafi), wanted: &NamedRoutes, usual: Duration) {
        let (peer, view, family) = of;
        let same = self.look_for(usual, |rib| rib.is(peer, view, family, wanted).then_some(()));
        let (station, have) = (self.station.address(), self.rib.view(peer, view, family));
        assert!(same.is_some(), "the station {station} has in {of:?}: {}", RouteDifference(&have, wanted));
    }

    fn look_for<R>(&mut self, usual: Duration, mut look: impl FnMut(&StationRib) -> Option<R>) -> Option<R> {
        let Self { station, connection, rib } = self;
        station.look_for(usual, |connections| {
            if std::mem::replace(connection, connections.len()) != connections.len() {
                *rib = StationRib::default();
            }
            rib.follow(connections.last()?);
            look(rib)
        })
    }
}

/// Reads an UPDATE: first its withdrawn prefixes, without a route, then the announced ones. `None`
/// if it is malformed.
fn changes(message: &[u8], short: bool) -> Option<Vec<(AfiSafi, String, Option<ComparedRoute>)>> {
    let (withdrawn, rest) = field(message.get(19..)?)?;
    let (mut attributes, announced) = field(rest)?;
    let mut all = Vec::new();
    let mut add = |family, bytes, route: Option<ComparedRoute>| {
        nlri(family, bytes)
            .map(|prefixes| all.extend(prefixes.into_iter().map(|prefix| (family, prefix, route.clone()))))
    };
    add(IPV4, withdrawn, None)?;
    let mut reached = None;
    let mut route = ComparedRoute::default();
    while let [flags, kind, rest @ ..] = attributes {
        let (length, rest) = match (flags & 0x10 != 0, rest) {
            (true, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            (false, [length, rest @ ..]) => (usize::from(*length), rest),
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        attributes = rest;
        match (*kind, value) {
            (2, value) => route.as_path = as_path(value, if short { 2 } else { 4 })?,
            (3, &[a, b, c, d]) => route.next_hop = Some([a, b, c, d].into()),
            (14, &[high, low, safi, length, ref value @ ..]) => {
                let (next_hop, nlri) = value.split_at_checked(length.into())?;
                reached = Some(((u16::from_be_bytes([high, low]), safi), next_hop, nlri.get(1..)?));
            }
            (15, &[high, low, safi, ref value @ ..]) => add((u16::from_be_bytes([high, low]), safi), value, None)?,
            _ => {}
        }
    }
    add(IPV4, announced, Some(route.clone()))?;
    if let Some((family, next_hop, bytes)) = reached {
        route.next_hop = address(next_hop);
        add(family, bytes, Some(route))?;
    }
    Some(all)
}

/// Reads the AS numbers of all segments (RFC 4271 §4.3).
fn as_path(mut bytes: &[u8], width: usize) -> Option<Vec<u32>> {
    let mut path = Vec::new();
    while let [_, count, rest @ ..] = bytes {
        let (segment, rest) = rest.split_at_checked(usize::from(*count) * width)?;
        path.extend(segment.chunks(width).map(|number| number.iter().fold(0, |all, byte| all << 8 | u32::from(*byte))));
        bytes = rest;
    }
    Some(path)
}

/// Reads a next hop of MP_REACH_NLRI. In a VPN, a zero route distinguisher precedes it. In IPv6, a
/// link-local address may follow it. FRR writes IPv4 next hops of EVPN as IPv4-mapped IPv6.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let bytes = if matches!(bytes.len(), 12 | 24 | 48) { &bytes[8..] } else { bytes };
    match bytes.first_chunk::<16>() {
        Some(octets) => Some(IpAddr::from(*octets).to_canonical()),
        None => bytes.first_chunk::<4>().map(|octets| (*octets).into()),
    }
}

fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn nlri(family: AfiSafi, mut bytes: &[u8]) -> Option<Vec<String>> {
    let mut routes = Vec::new();
    // Two default routes are the begin of a path identifier (RFC 7911 §3). GoBGP 4.8 gives its
    // Loc-RIB identifiers that no OPEN has.
    let identified = family.1 == 1 && bytes.starts_with(&[0, 0]);
    while !bytes.is_empty() {
        let (&first, rest) = bytes.get(if identified { 4 } else { 0 }..)?.split_first()?;
        let (route, rest) = if family == EVPN {
            let (&length, value) = rest.split_first()?;
            let (value, rest) = value.split_at_checked(length.into())?;
            (evpn(first, value), rest)
        } else {
            let (prefix, rest) = rest.split_at_checked(usize::from(first.div_ceil(8)))?;
            // In a VPN, one label precedes the route distinguisher.
            let (name, prefix, length) = if family.1 == 128 {
                let (rd, prefix) = prefix.get(3..)?.split_first_chunk()?;
                (format!("{} ", distinguisher(rd)?), prefix, first.checked_sub(88)?)
            } else {
                (String::new(), prefix, first)
            };
            let mut octets = [0; 16];
            octets.get_mut(..prefix.len())?.copy_from_slice(prefix);
            let [a, b, c, d, ..] = octets;
            let address = if family.0 == 1 { IpAddr::from([a, b, c, d]) } else { Ipv6Addr::from(octets).into() };
            (format!("{name}{address}/{length}"), rest)
        };
        routes.push(route);
        bytes = rest;
    }
    Some(routes)
}

/// Reads a route distinguisher of type 0 (RFC 4364 §4.2).
fn distinguisher(&[high, low, a0, a1, n0, n1, n2, n3]: &[u8; 8]) -> Option<String> {
    let (asn, number) = (u16::from_be_bytes([a0, a1]), u32::from_be_bytes([n0, n1, n2, n3]));
    ([high, low] == [0, 0]).then(|| format!("{asn}:{number}"))
}

/// Names an EVPN route (RFC 7432 §7.2, RFC 9136 §3.1).
fn evpn(kind: u8, value: &[u8]) -> String {
    let known = || {
        let (rd, rest) = value.split_first_chunk()?;
        let rd = distinguisher(rd)?;
        // Skip the Ethernet segment identifier.
        let (tag, rest) = rest.get(10..)?.split_first_chunk::<4>()?;
        let tag = u32::from_be_bytes(*tag);
        match (kind, rest) {
            (2, &[48, m0, m1, m2, m3, m4, m5, 32, a, b, c, d, ..]) => {
                let mac = [m0, m1, m2, m3, m4, m5].map(|byte| format!("{byte:02x}")).join(":");
                Some(format!("{rd} [2]:[{tag}]:[48]:[{mac}]:[32]:[{}]", Ipv4Addr::from([a, b, c, d])))
            }
            (5, &[length, a, b, c, d, ..]) => {
                Some(format!("{rd} [5]:[{tag}]:[{length}]:[{}]", Ipv4Addr::from([a, b, c, d])))
            }
            _ => None,
        }
    };
    known().unwrap_or_else(|| format!("{kind}-{}", value.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}
