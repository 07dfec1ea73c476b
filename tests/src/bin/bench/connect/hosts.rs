//! A router with eight interfaces, and 32 stations behind each.
//!
//! ```text
//!   p0 10.20.0.1 ──── 10.20.0.2   10.30.0.1 … 10.30.0.32
//!   …
//!   p7 10.20.7.1 ──── 10.20.7.2   10.30.7.1 … 10.30.7.32
//! ```
//!
//! The best route to a station is by its own interface, the second by the next interface.

use std::net::{IpAddr, Ipv4Addr};

use lab::{
    netns::Netns,
    topology::STATION_PORT,
    wait::{PATIENCE, until},
};

pub(super) const INTERFACES: u8 = 8;
pub(super) const STATIONS: u8 = 32;

pub(super) struct BenchHosts {
    pub(super) router: Netns,
    pub(super) station: Netns,
}

/// Returns the address of station `number` (from 1) behind an interface.
pub(super) fn station(interface: u8, number: u8) -> IpAddr {
    Ipv4Addr::new(10, 30, interface, number).into()
}

/// Returns the router's address on an interface.
pub(super) fn source(interface: u8) -> IpAddr {
    Ipv4Addr::new(10, 20, interface, 1).into()
}

/// Returns all stations, each with its interface.
pub(super) fn stations() -> impl Iterator<Item = (u8, IpAddr)> {
    (0..INTERFACES).flat_map(|i| (1..=STATIONS).map(move |j| (i, station(i, j))))
}

/// Returns the configuration of a session, from the BMP view on.
pub(super) fn session(interface: u8, station: IpAddr) -> String {
    format!("bmp-session {station}\n tcp connect port {STATION_PORT}\n connect-interface p{interface}\n")
}

impl BenchHosts {
    pub(super) fn new() -> Self {
        let (router, station) = (Netns::new("router"), Netns::new("station"));
        for host in [&router, &station] {
            for scope in ["all", "default"] {
                host.sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "0");
            }
        }
        let far = station.path();
        for i in 0..INTERFACES {
            router.ip(&format!("link add p{i} type veth peer name q{i} netns {}", far.display()));
            let stations: Vec<_> =
                (1..=STATIONS).map(|j| format!("addr add {}/32 dev lo", self::station(i, j))).collect();
            station.ip(&format!("addr add 10.20.{i}.2/24 dev q{i}\nlink set q{i} up\n{}", stations.join("\n")));
            router.ip(&format!("addr add {}/24 dev p{i}\nlink set p{i} up", source(i)));
        }
        for i in 0..INTERFACES {
            let next = (i + 1) % INTERFACES;
            router.ip(&format!(
                "route add 10.30.{i}.0/24 via 10.20.{i}.2 dev p{i}
                 route add 10.30.{i}.0/24 via 10.20.{next}.2 dev p{next} metric 20"
            ));
        }
        until("all links are up", PATIENCE, || {
            let shown = router.ip_show("-oneline link show type veth");
            (shown.matches(" state UP ").count() == usize::from(INTERFACES)).then_some(())
        });
        Self { router, station }
    }
}
