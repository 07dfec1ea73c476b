//! What a station that was sent a stream has in the end: the routes of its peers, family by family.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use crate::{
    bmp::{self, Frame},
    station::Connection,
};

/// AFI and SAFI.
pub type Family = (u16, u8);
/// IPv4 unicast.
pub const IPV4: Family = (1, 1);
/// IPv6 unicast.
pub const IPV6: Family = (2, 1);
/// IPv4 of VPNs, with labels.
pub const VPNV4: Family = (1, 128);
/// EVPN.
pub const EVPN: Family = (25, 70);

/// The routes of the peers that are up: `10.0.0.0/24`, `2001:db8::/32`, `65001:1 10.0.0.0/24` in a VPN, hexadecimal in EVPN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rib(BTreeMap<(IpAddr, Family), BTreeSet<String>>, BTreeSet<IpAddr>);

impl Rib {
    /// What a connection was sent comes to.
    ///
    /// # Panics
    /// If a route is told of a peer that is not up, or an UPDATE cannot be read.
    pub fn of(connection: &Connection) -> Self {
        let mut rib = Self::default();
        connection.frames.iter().for_each(|frame| rib.apply(frame));
        rib
    }

    /// The routes of a peer.
    pub fn routes(&self, peer: IpAddr, family: Family) -> BTreeSet<String> {
        self.0.get(&(peer, family)).cloned().unwrap_or_default()
    }

    /// Whether a peer is up.
    pub fn is_up(&self, peer: IpAddr) -> bool {
        self.1.contains(&peer)
    }

    fn apply(&mut self, frame: &Frame) {
        let Some(peer) = frame.peer() else { return };
        match frame.kind() {
            bmp::PEER_UP | bmp::PEER_DOWN => {
                self.0.retain(|(of, _), _| *of != peer);
                self.1.remove(&peer);
                if frame.kind() == bmp::PEER_UP {
                    self.1.insert(peer);
                }
            }
            bmp::ROUTE_MONITORING => {
                assert!(self.1.contains(&peer), "a route of {peer}, which is not up");
                for (announced, family, route) in routes(frame.body()).expect("an UPDATE can be read") {
                    let routes = self.0.entry((peer, family)).or_default();
                    if announced {
                        routes.insert(route)
                    } else {
                        routes.remove(&route)
                    };
                }
            }
            _ => {}
        }
    }
}

/// What an UPDATE withdraws and announces, in this order.
fn routes(message: &[u8]) -> Option<Vec<(bool, Family, String)>> {
    let (withdrawn, rest) = field(message.get(19..)?)?;
    let (mut attributes, announced) = field(rest)?;
    let mut all = Vec::new();
    let mut add = |announced, family, bytes| {
        nlri(family, bytes).map(|routes| all.extend(routes.into_iter().map(|route| (announced, family, route))))
    };
    add(false, IPV4, withdrawn)?;
    let mut reached = None;
    while let [flags, kind, rest @ ..] = attributes {
        let (length, rest) = match (flags & 0x10 != 0, rest) {
            (true, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            (false, [length, rest @ ..]) => (usize::from(*length), rest),
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        attributes = rest;
        if let (14 | 15, &[high, low, safi, ref value @ ..]) = (*kind, value) {
            let family = (u16::from_be_bytes([high, low]), safi);
            if *kind == 15 {
                add(false, family, value)?;
            } else {
                let next_hop = usize::from(*value.first()?);
                reached = Some((family, value.get(next_hop + 2..)?));
            }
        }
    }
    add(true, IPV4, announced)?;
    if let Some((family, bytes)) = reached {
        add(true, family, bytes)?;
    }
    Some(all)
}

fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn nlri(family: Family, mut bytes: &[u8]) -> Option<Vec<String>> {
    let mut routes = Vec::new();
    while let Some((&first, rest)) = bytes.split_first() {
        let (route, rest) = if family == EVPN {
            let (&length, value) = rest.split_first()?;
            let (value, rest) = value.split_at_checked(length.into())?;
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            (format!("{first}-{hex}"), rest)
        } else {
            let (prefix, rest) = rest.split_at_checked(usize::from(first.div_ceil(8)))?;
            // One label and a route distinguisher of type 0, in a VPN.
            let (name, prefix, length) = match (family.1, prefix) {
                (128, [_, _, _, 0, 0, a0, a1, n0, n1, n2, n3, prefix @ ..]) => {
                    let number = u32::from_be_bytes([*n0, *n1, *n2, *n3]);
                    (format!("{}:{number} ", u16::from_be_bytes([*a0, *a1])), prefix, first.checked_sub(88)?)
                }
                (128, _) => return None,
                _ => (String::new(), prefix, first),
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
