//! The topology of most tests: a router with two uplinks to one station.
//!
//! ```text
//!   router                                   station
//!   lo  203.0.113.1        preferred         lo  198.51.100.7, .8
//!       2001:db8:ff::1  up1 ─────── dn1          2001:db8:7::7
//!                       up2 ─────── dn2
//! ```
//!
//! The router's best route to the station is by `up1`, its second by `up2`. The station answers an
//! uplink's address by that uplink. It answers the router's loopback address by `dn1`, or by `dn2`
//! while `dn1` has no carrier.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    netns::Netns,
    wait::{PATIENCE, until},
};

/// The station's address.
pub const STATION: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
/// The station's second address.
pub const STATION_2: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 8));
/// The station's IPv6 address.
pub const STATION_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7));

/// The router's address on `up1`.
pub const UP1: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// The router's IPv6 address on `up1`.
pub const UP1_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1));
/// The router's address on `up2`.
pub const UP2: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 65));
/// The router's second address on `up2`, from another prefix.
pub const UP2_OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 129));
/// The router's IPv6 address on `up2`.
pub const UP2_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1));
/// The router's address on `lo`, which sessions on other interfaces may borrow.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
/// The router's IPv6 address on `lo`.
pub const LOOPBACK_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1));

/// The station's port, unless a test chooses another.
pub const STATION_PORT: u16 = 11019;

/// The best route to the station, by `up1`.
pub const ROUTE_BY_UP1: &str = "198.51.100.0/24 via 192.0.2.2 dev up1 metric 10";
/// The second route to the station, by `up2`.
pub const ROUTE_BY_UP2: &str = "198.51.100.0/24 via 192.0.2.66 dev up2 metric 20";
/// A host route to the station by `up1`, better than all others.
pub const BETTER_ROUTE_BY_UP1: &str = "198.51.100.7/32 via 192.0.2.2 dev up1 metric 1";

/// A router and a station, joined by two links.
#[derive(Clone, Debug)]
pub struct Topology {
    /// The host of bmpd, with `up1`, `up2` and a loopback address.
    pub router: Netns,
    /// The host of the station, with `dn1` and `dn2`, the far ends of the links.
    pub station: Netns,
}

impl Topology {
    /// Makes hosts, links, addresses and routes. Both uplinks are usable on return.
    pub fn new() -> Self {
        Self::with_router(Netns::new("router"))
    }

    /// Makes the topology with this host as the router.
    pub fn with_router(router: Netns) -> Self {
        let station = Netns::new("station");
        for host in [&router, &station] {
            for scope in ["all", "default"] {
                host.sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "0");
                host.sysctl(&format!("net/ipv4/conf/{scope}/ignore_routes_with_linkdown"), "1");
                host.sysctl(&format!("net/ipv6/conf/{scope}/ignore_routes_with_linkdown"), "1");
            }
        }
        // Duplicate address detection would delay every address by a second, so it is off and
        // link-local addresses are set by hand. Without them the kernel resolves no neighbour for
        // packets from the loopback address (ndisc_send_ns).
        let far = station.path();
        let far = far.display();
        router.ip(&format!(
            "link add up1 type veth peer name dn1 netns {far}
             link add up2 type veth peer name dn2 netns {far}
             link set up1 addrgenmode none
             addr add fe80::1/64 dev up1 nodad
             link set up2 addrgenmode none
             addr add fe80::1/64 dev up2 nodad
             addr replace 203.0.113.1/32 dev lo
             addr replace 2001:db8:ff::1/128 dev lo nodad
             addr add 192.0.2.1/26 dev up1
             addr add 2001:db8:1::1/64 dev up1 nodad
             addr add 192.0.2.65/26 dev up2
             addr add 192.0.2.129/26 dev up2
             addr add 2001:db8:2::1/64 dev up2 nodad"
        ));
        station.ip("link set dn1 addrgenmode none
             addr add fe80::2/64 dev dn1 nodad
             link set dn2 addrgenmode none
             addr add fe80::2/64 dev dn2 nodad
             addr add 198.51.100.7/32 dev lo
             addr add 198.51.100.8/32 dev lo
             addr add 2001:db8:7::7/128 dev lo nodad
             addr add 192.0.2.2/26 dev dn1
             addr add 2001:db8:1::2/64 dev dn1 nodad
             addr add 192.0.2.66/26 dev dn2
             addr add 192.0.2.130/26 dev dn2
             addr add 2001:db8:2::2/64 dev dn2 nodad
             link set dn1 up
             link set dn2 up");
        router.ip(&format!(
            "link set up1 up
             link set up2 up
             route add {ROUTE_BY_UP1}
             route add {ROUTE_BY_UP2}
             route add 2001:db8:7::/64 via 2001:db8:1::2 dev up1 metric 10
             route add 2001:db8:7::/64 via 2001:db8:2::2 dev up2 metric 20"
        ));
        station.ip("route add 203.0.113.1/32 via 192.0.2.1 dev dn1 metric 10
             route add 203.0.113.1/32 via 192.0.2.65 dev dn2 metric 20
             route add 2001:db8:ff::1/128 via 2001:db8:1::1 dev dn1 metric 10
             route add 2001:db8:ff::1/128 via 2001:db8:2::1 dev dn2 metric 20");
        // The kernel announces a carrier with a delay, and adds the last routes of a link only
        // then.
        until("both uplinks are up", PATIENCE, || {
            let shown = router.ip_show("-oneline link show type veth");
            (shown.matches(" state UP ").count() == 2).then_some(())
        });
        wait_local_routes(&router, &["up1", "up2"]);
        wait_local_routes(&station, &["dn1", "dn2"]);
        Self { router, station }
    }

    /// Makes the topology without segmentation offload: a capture sees packets as a wire has them.
    pub fn without_offload() -> Self {
        let topology = Self::new();
        topology.turn_offload_off();
        topology
    }

    /// Turns segmentation offload off on all links: a capture sees packets as a wire has them.
    pub fn turn_offload_off(&self) {
        for (host, link) in [(&self.router, "up"), (&self.station, "dn")] {
            host.no_offload(&format!("{link}1"));
            host.no_offload(&format!("{link}2"));
        }
    }

    /// Takes the carrier of an uplink away at its far end. Addresses and routes of the router stay.
    ///
    /// Returns once the router's kernel has announced it, up to a second later
    /// (net/core/link_watch.c).
    pub fn carrier_down(&self, uplink: &str) {
        self.station.ip(&format!("link set {} down", far_end(uplink)));
        self.wait_state(uplink, false);
    }

    /// Gives the carrier back, with the addresses and routes that the far end lost.
    pub fn carrier_up(&self, uplink: &str) {
        let dn = far_end(uplink);
        // `link set down` has removed IPv6 addresses and static routes.
        self.station.ip(&match dn {
            "dn1" => "link set dn1 up
                 addr replace fe80::2/64 dev dn1 nodad
                 addr replace 2001:db8:1::2/64 dev dn1 nodad
                 route replace 203.0.113.1/32 via 192.0.2.1 dev dn1 metric 10
                 route replace 2001:db8:ff::1/128 via 2001:db8:1::1 dev dn1 metric 10"
                .to_owned(),
            _ => "link set dn2 up
                 addr replace fe80::2/64 dev dn2 nodad
                 addr replace 2001:db8:2::2/64 dev dn2 nodad
                 route replace 203.0.113.1/32 via 192.0.2.65 dev dn2 metric 20
                 route replace 2001:db8:ff::1/128 via 2001:db8:2::1 dev dn2 metric 20"
                .to_owned(),
        });
        self.wait_state(uplink, true);
    }

    /// Makes the second uplink again after its deletion: same name, addresses and route, new index.
    pub fn recreate_uplink2(&self) {
        let far = self.station.path();
        self.router.ip(&format!(
            "link add up2 type veth peer name dn2 netns {}
             link set up2 addrgenmode none
             addr add fe80::1/64 dev up2 nodad
             addr add 192.0.2.65/26 dev up2
             addr add 2001:db8:2::1/64 dev up2 nodad",
            far.display()
        ));
        self.station.ip("link set dn2 addrgenmode none
             addr add fe80::2/64 dev dn2 nodad
             addr add 192.0.2.66/26 dev dn2
             addr add 2001:db8:2::2/64 dev dn2 nodad
             link set dn2 up");
        self.router.ip(&format!("link set up2 up\nroute add {ROUTE_BY_UP2}"));
        self.wait_state("up2", true);
    }

    /// Waits until the router's kernel reports an uplink as up, or as not up, and the station's
    /// kernel reports its end as up.
    fn wait_state(&self, uplink: &str, up: bool) {
        let what = if up { "is up" } else { "has no carrier" };
        let show = format!("-oneline link show dev {uplink}");
        until(&format!("{uplink} {what}"), PATIENCE, || {
            (self.router.ip_show(&show).contains(" state UP ") == up).then_some(())
        });
        if up {
            // The station has no route by its end before its own kernel has announced the carrier.
            let far = far_end(uplink);
            let show = format!("-oneline link show dev {far}");
            until(&format!("{far} is up"), PATIENCE, || {
                self.station.ip_show(&show).contains(" state UP ").then_some(())
            });
            wait_local_routes(&self.router, &[uplink]);
            wait_local_routes(&self.station, &[far]);
        }
    }
}

/// Waits until `host` has a local route for each IPv6 address of its `links`. The kernel adds some
/// only when its address work gets the processor (addrconf_dad_work, net/ipv6/addrconf.c).
fn wait_local_routes(host: &Netns, links: &[&str]) {
    until(&format!("{} has its IPv6 addresses", links.join(" and ")), PATIENCE, || {
        let (addresses, routes) = (host.ip_show("-6 -oneline address show"), host.ip_show("-6 route show table local"));
        let has_route = |line: &str| {
            let mut words = line.split_whitespace().skip(1);
            let (Some(link), Some("inet6"), Some(address)) = (words.next(), words.next(), words.next()) else {
                return true;
            };
            let address = address.split('/').next().unwrap_or_default();
            !links.contains(&link) || routes.contains(&format!("local {address} dev {link} "))
        };
        addresses.lines().all(has_route).then_some(())
    });
}

impl Default for Topology {
    fn default() -> Self {
        Self::new()
    }
}

fn far_end(uplink: &str) -> &'static str {
    match uplink {
        "up1" => "dn1",
        "up2" => "dn2",
        _ => panic!("the router has no uplink {uplink}"),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{SocketAddr, TcpListener},
        time::Duration,
    };

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn reaches(topology: &Topology, source: Option<IpAddr>, device: Option<&str>, station: IpAddr) -> SocketAddr {
        let listener = topology.station.enter(|| TcpListener::bind((station, STATION_PORT)).unwrap());
        let _client = topology.router.enter(|| {
            let socket = Socket::new(Domain::for_address((station, 0).into()), Type::STREAM, None).unwrap();
            if let Some(source) = source {
                socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
            }
            socket.bind_device(device.map(str::as_bytes)).unwrap();
            socket.connect_timeout(&SocketAddr::from((station, STATION_PORT)).into(), Duration::from_secs(5)).unwrap();
            socket
        });
        listener.accept().unwrap().1
    }

    #[test]
    fn a_free_socket_reaches_the_station_by_the_preferred_uplink() {
        let topology = Topology::new();
        assert_eq!(reaches(&topology, None, None, STATION).ip(), UP1);
        assert_eq!(reaches(&topology, None, None, STATION_V6).ip(), UP1_V6);
    }

    #[test]
    fn a_socket_bound_to_the_other_uplink_reaches_the_station_by_it() {
        let topology = Topology::new();
        assert_eq!(reaches(&topology, None, Some("up2"), STATION_2).ip(), UP2);
        assert_eq!(reaches(&topology, None, Some("up2"), STATION_V6).ip(), UP2_V6);
        assert_eq!(reaches(&topology, Some(UP2_OTHER), Some("up2"), STATION).ip(), UP2_OTHER);
    }

    #[test]
    fn the_station_answers_the_loopback_address_by_an_uplink_with_carrier() {
        let topology = Topology::new();
        assert_eq!(reaches(&topology, Some(LOOPBACK), None, STATION).ip(), LOOPBACK);
        topology.carrier_down("up1");
        assert_eq!(reaches(&topology, Some(LOOPBACK), None, STATION).ip(), LOOPBACK);
        assert_eq!(reaches(&topology, Some(LOOPBACK_V6), None, STATION_V6).ip(), LOOPBACK_V6);
        topology.carrier_up("up1");
        assert_eq!(reaches(&topology, None, Some("up1"), STATION_V6).ip(), UP1_V6);
    }
}
