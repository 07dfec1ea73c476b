//! The hosts of a benchmark: a BGP peer, the router with the subject, and a station.
//!
//! ```text
//!   peer 192.0.2.2 ──── 192.0.2.1 router 198.51.100.1 ──── 198.51.100.7 station
//! ```

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use lab::{
    netns::Netns,
    wait::{PATIENCE, until},
};

pub(crate) const PEER: (Ipv4Addr, u32) = (Ipv4Addr::new(192, 0, 2, 2), 65001);
pub(crate) const ROUTER: (Ipv4Addr, u32) = (Ipv4Addr::new(192, 0, 2, 1), 65000);
pub(crate) const STATION: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub(crate) const STATION_PORT: u16 = 11019;
/// Port of the plain sender's receiver.
pub(crate) const PLAIN_PORT: u16 = 11020;

const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
/// The congestion control of all sockets: the usual one, so that all subjects share it.
const CONTROL: &str = "cubic";

/// The three hosts.
pub(crate) struct BenchLinks {
    pub(crate) peer: Netns,
    pub(crate) router: Netns,
    pub(crate) station: Netns,
    /// The host's list of allowed controls, if it had to be extended.
    allowed: Option<String>,
}

impl BenchLinks {
    /// Makes the hosts. All sockets use the same congestion control, which the host must allow
    /// meanwhile.
    pub(crate) fn new() -> io::Result<Self> {
        let before = fs::read_to_string(ALLOWED)?;
        let allowed = (!before.split_whitespace().any(|name| name == CONTROL)).then(|| before.trim().to_owned());
        if let Some(before) = &allowed {
            fs::write(ALLOWED, format!("{before} {CONTROL}"))?;
        }
        let [peer, router, station] = ["peer", "router", "station"].map(Netns::new);
        for host in [&peer, &router, &station] {
            host.sysctl("net/ipv4/tcp_congestion_control", CONTROL);
        }
        let (of_peer, of_station) = (peer.path(), station.path());
        router.ip(&format!(
            "link add to-peer type veth peer name eth0 netns {}
             link add to-station type veth peer name eth0 netns {}
             addr add 192.0.2.1/24 dev to-peer
             addr add 198.51.100.1/24 dev to-station
             link set to-peer up
             link set to-station up",
            of_peer.display(),
            of_station.display()
        ));
        // The router forwards the direct connections.
        router.sysctl("net/ipv4/ip_forward", "1");
        peer.ip("addr add 192.0.2.2/24 dev eth0\nlink set eth0 up\nroute add 198.51.100.0/24 via 192.0.2.1");
        station.ip("addr add 198.51.100.7/24 dev eth0\nlink set eth0 up\nroute add 192.0.2.0/24 via 198.51.100.1");
        until("both links are up", PATIENCE, || {
            let shown = router.ip_show("-oneline link show type veth");
            (shown.matches(" state UP ").count() == 2).then_some(())
        });
        Ok(Self { peer, router, station, allowed })
    }

    /// Returns the address that the station listens on.
    pub(crate) fn station_address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(STATION), STATION_PORT)
    }
}

impl Drop for BenchLinks {
    fn drop(&mut self) {
        if let Some(before) = &self.allowed {
            // Restore the host's list.
            let _ = fs::write(ALLOWED, before);
        }
    }
}
