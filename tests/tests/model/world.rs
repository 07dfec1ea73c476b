//! The hosts of the model, and the changes to them.
//!
//! ```text
//!   router                                    station
//!   lo  203.0.113.1, .2      up1 ─── dn1      lo  198.51.100.7, .8
//!       2001:db8:ff::1, ::2  up2 ─── dn2          2001:db8:7::7
//!                            up3 ─── dn3
//! ```
//!
//! The station answers a connection by the link of its packets while that works, and else by
//! another. Neighbours are static. So the network carries every packet that the router sends by a
//! working link, whatever its addresses and routes.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use lab::{
    bmp,
    capture::{CapturedPacket, LinkCapture},
    netns::Netns,
    process::answer,
    station::TestStation,
    wait::{PATIENCE, until},
};

use super::host::HostState;

pub(crate) const STATIONS: [&str; 3] = ["198.51.100.7", "198.51.100.8", "2001:db8:7::7"];
pub(crate) const PORTS: [u16; 3] = [11019, 11020, 11021];

/// Addresses that come and go on the loopback interface.
pub(crate) const LOOPBACK: [&str; 4] = ["203.0.113.1/32", "203.0.113.2/32", "2001:db8:ff::1/128", "2001:db8:ff::2/128"];

/// One of the links, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ModelLink(pub(crate) u8);

pub(crate) const LINKS: [ModelLink; 3] = [ModelLink(1), ModelLink(2), ModelLink(3)];

impl ModelLink {
    /// Its name at the router, unless it was renamed.
    pub(crate) fn name(self) -> String {
        format!("up{}", self.0)
    }

    /// Its name after a rename.
    pub(crate) fn other_name(self) -> String {
        format!("north{}", self.0)
    }

    /// An alternative name that it may have.
    pub(crate) fn also(self) -> String {
        format!("uplink-to-the-north-{}", self.0)
    }

    fn far(self) -> String {
        format!("dn{}", self.0)
    }

    pub(crate) fn bridge(self) -> String {
        format!("br{}", self.0)
    }

    /// Addresses that come and go: first of a prefix, secondary of it, of another prefix, and of a
    /// prefix with the station. Then likewise for IPv6.
    pub(crate) fn addresses(self) -> Vec<String> {
        let (n, net) = (self.0, 64 * (u16::from(self.0) - 1));
        vec![
            format!("192.0.2.{}/26", net + 1),
            format!("192.0.2.{}/26", net + 3),
            format!("198.18.{n}.1/24"),
            format!("198.51.100.{}/24", 100 + n),
            format!("2001:db8:{n}::1/64"),
            format!("2001:db8:{n}::3/64"),
            format!("2001:db8:7::{n}00/64"),
        ]
    }

    /// The station as the router's next hop.
    fn gateway(self) -> String {
        format!("192.0.2.{}", 64 * (u16::from(self.0) - 1) + 2)
    }

    /// The router as the station's next hop: an address that only the static neighbour entry knows.
    fn back(self) -> String {
        format!("192.0.3.{}", self.0)
    }

    /// Routes to the station that come and go, without interface: one of each IP version, and a
    /// better one of each.
    pub(crate) fn routes(self) -> Vec<String> {
        let (gateway, metric) = (self.gateway(), 10 * u16::from(self.0));
        vec![
            format!("198.51.100.0/24 via {gateway} onlink metric {metric}"),
            format!("2001:db8:7::/64 via fe80::2 metric {metric}"),
            format!("198.51.100.7/32 via {gateway} onlink metric {metric}"),
            format!("2001:db8:7::7/128 via fe80::2 metric {metric}"),
        ]
    }
}

/// The hosts, and a log of all commands.
pub(crate) struct ModelWorld {
    pub(crate) router: Netns,
    station: Netns,
    pub(crate) stations: BTreeMap<SocketAddr, TestStation>,
    /// Captures by interface index.
    captures: BTreeMap<u32, LinkCapture>,
    /// Far ends, with whether they are up.
    far_up: BTreeMap<ModelLink, bool>,
    /// All commands, in a form to type again.
    pub(crate) log: Vec<String>,
}

impl ModelWorld {
    pub(crate) fn new() -> Self {
        let (router, station) = (Netns::new("router"), Netns::new("station"));
        for host in [&router, &station] {
            for scope in ["all", "default"] {
                host.sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "0");
                host.sysctl(&format!("net/ipv4/conf/{scope}/ignore_routes_with_linkdown"), "1");
                host.sysctl(&format!("net/ipv6/conf/{scope}/ignore_routes_with_linkdown"), "1");
            }
        }
        station.sysctl("net/ipv4/tcp_fwmark_accept", "1");
        let (stations, captures, far_up) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut world = Self { router, station, stations, captures, far_up, log: Vec::new() };
        let mut marks =
            "add table inet lab; add chain inet lab pre { type filter hook prerouting priority -150; }".to_owned();
        for link in LINKS {
            let (number, far) = (link.0, link.far());
            marks.push_str(&format!("; add rule inet lab pre iifname {far} meta mark set {number}"));
            for family in ["-4", "-6"] {
                let words = format!("{family} rule add fwmark {number} table {number}00");
                world.station.ip_show(&words);
                world.log.push(format!("station# ip {words}"));
            }
        }
        answer(world.station.command(programs::Program::Nft).arg(&marks));
        world.log.push(format!("station# nft '{marks}'"));
        for station in STATIONS {
            world.at_station(&format!("addr add {station} dev lo {}", nodad(station)));
        }
        for address in LOOPBACK {
            world.at_router(&format!("addr add {address} dev lo {}", nodad(address)));
        }
        for link in LINKS {
            let bridge = link.bridge();
            world.at_router(&format!(
                "link add {bridge} type bridge\nlink set {bridge} addrgenmode none\nlink set {bridge} up"
            ));
            world.create(link);
        }
        for station in STATIONS {
            for port in PORTS {
                let address = SocketAddr::new(station.parse().expect("an address"), port);
                world.stations.insert(address, TestStation::start(&world.station, address));
            }
        }
        world
    }

    pub(crate) fn at_router(&mut self, commands: &str) {
        self.log.extend(commands.lines().map(|command| format!("router# ip {}", command.trim())));
        self.router.ip(commands);
    }

    fn at_station(&mut self, commands: &str) {
        self.log.extend(commands.lines().map(|command| format!("station# ip {}", command.trim())));
        self.station.ip(commands);
    }

    /// Logs the contents of the file, and the command after it.
    pub(crate) fn note_file(&mut self, text: &str, and_then: &str) {
        self.log.push(format!("router# cat > bmpd.conf <<END; {and_then}\n{text}END"));
    }

    /// Returns the present name of a link, or `None` while it is deleted.
    pub(crate) fn name(&self, host: &HostState, link: ModelLink) -> Option<String> {
        [link.name(), link.other_name()].into_iter().find(|name| host.interface(name).is_some())
    }

    pub(crate) fn is_far_up(&self, link: ModelLink) -> bool {
        self.far_up[&link]
    }

    /// Makes a link, with its initial addresses and routes.
    pub(crate) fn create(&mut self, link: ModelLink) {
        let (name, far, n) = (link.name(), link.far(), link.0);
        let netns = self.station.path();
        // The log names the namespace `station`, as one does by hand.
        self.router.ip(&format!(
            "link add {name} address 02:00:00:00:0{n}:01 type veth peer name {far} address 02:00:00:00:0{n}:02 netns {}",
            netns.display()
        ));
        self.log.push(format!("router# ip link add {name} address 02:00:00:00:0{n}:01 type veth peer name {far} address 02:00:00:00:0{n}:02 netns station"));
        self.at_station(&format!("link set {far} addrgenmode none"));
        let addresses = link.addresses();
        self.at_router(&format!(
            "link set {name} addrgenmode none\naddr add {} dev {name}\naddr add {} dev {name}",
            addresses[0], addresses[2]
        ));
        self.far_up.insert(link, false);
        let capture = LinkCapture::of_ports(&self.router, &name, PORTS[0]..=PORTS[2]);
        self.captures.insert(self.router.ifindex(&name), capture);
        self.set_up(link, &name, true);
        self.carrier_up(link, &name);
    }

    /// Sets a link up at the router. `link set down` had removed IPv6 addresses and routes.
    /// Addresses return first, so that the link never works without them; routes return if wanted.
    pub(crate) fn set_up(&mut self, link: ModelLink, name: &str, routes: bool) {
        let (addresses, gateway, n) = (link.addresses(), link.gateway(), link.0);
        let mut commands = format!(
            "addr replace fe80::1/64 dev {name} nodad\naddr replace {} dev {name} nodad\nlink set {name} up\n",
            addresses[4]
        );
        for neighbour in [gateway.as_str(), "fe80::2"].into_iter().chain(STATIONS) {
            commands += &format!("neigh replace {neighbour} lladdr 02:00:00:00:0{n}:02 dev {name} nud permanent\n");
        }
        if routes {
            for route in &link.routes()[..2] {
                commands += &format!("route replace {route} dev {name}\n");
            }
        }
        self.at_router(commands.trim_end());
        self.wait_carrier(name, self.far_up[&link]);
    }

    /// Gives a link its carrier, and restores what the far end lost.
    pub(crate) fn carrier_up(&mut self, link: ModelLink, name: &str) {
        let (far, n) = (link.far(), link.0);
        let mut commands = format!("link set {far} up\naddr replace fe80::2/64 dev {far} nodad\n");
        let back = [(link.back(), "0.0.0.0/0"), ("fe80::1".to_owned(), "::/0")];
        for (neighbour, default) in back {
            commands += &format!("neigh replace {neighbour} lladdr 02:00:00:00:0{n}:01 dev {far} nud permanent\n");
            for (table, metric) in [(format!("{n}00"), 1), ("main".to_owned(), u16::from(n))] {
                commands += &format!(
                    "route replace {default} via {neighbour} dev {far} onlink table {table} metric {metric}\n"
                );
            }
        }
        self.at_station(commands.trim_end());
        self.far_up.insert(link, true);
        self.wait_carrier(name, true);
    }

    pub(crate) fn carrier_down(&mut self, link: ModelLink, name: &str) {
        self.at_station(&format!("link set {} down", link.far()));
        self.far_up.insert(link, false);
        self.wait_carrier(name, false);
    }

    /// Waits until the router's kernel announces the carrier, which may take a second for a loss.
    fn wait_carrier(&self, name: &str, there: bool) {
        until(&format!("the carrier of {name} is {there}"), PATIENCE, || {
            let interface = HostState::read(&self.router).interface(name).cloned()?;
            (!interface.up || interface.carrier == there).then_some(())
        });
    }

    pub(crate) fn delete(&mut self, link: ModelLink, name: &str) {
        self.at_router(&format!("link del {name}"));
        self.far_up.insert(link, false);
    }

    /// Returns the packets that left the router since the last call, with their interface index.
    pub(crate) fn left(&mut self) -> Vec<(u32, CapturedPacket)> {
        let packets = self
            .captures
            .iter()
            .flat_map(|(index, capture)| capture.take().into_iter().map(|packet| (*index, packet)).collect::<Vec<_>>());
        let mut packets: Vec<_> = packets.collect();
        let there = HostState::read(&self.router);
        let gone: Vec<_> = self.captures.keys().copied().collect();
        for index in gone.into_iter().filter(|index| !there.interfaces.iter().any(|i| i.index == *index)) {
            let Some(capture) = self.captures.remove(&index) else { continue };
            packets.extend(capture.stop().into_iter().map(|packet| (index, packet)));
        }
        packets.retain(|(_, packet)| lab::trial::strays(std::slice::from_ref(packet)).len() == 1);
        packets
    }

    /// Asks the kernel by which interface the router would send to the station.
    pub(crate) fn way(&self, station: IpAddr, source: Option<IpAddr>) -> Option<String> {
        let from = source.map(|source| format!("from {source}")).unwrap_or_default();
        let mut ip = self.router.command(programs::Program::Ip);
        ip.args(format!("-json route get {station} {from}").split_whitespace());
        let output = ip.output().expect("ip starts");
        let routes: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        routes[0]["dev"].as_str().map(str::to_owned)
    }

    /// True if the station has this connection open, with an Initiation.
    pub(crate) fn has(&self, station: SocketAddr, from: SocketAddr) -> bool {
        let connections = self.stations[&station].connections();
        connections.iter().rev().any(|c| c.peer == from && c.end.is_none() && c.has(bmp::INITIATION))
    }
}

/// Returns the option that skips duplicate address detection for IPv6.
fn nodad(address: &str) -> &'static str {
    if address.contains(':') { "nodad" } else { "" }
}

/// Returns the command that adds an address.
pub(crate) fn add(address: &str, name: &str) -> String {
    format!("addr add {address} dev {name} {}", nodad(address))
}
