//! Interfaces and queues that many kernels lack, for the tests that `cargo xtask vm` runs.
//!
//! Each function adds a device to an existing [`Topology`], which is usable on return.

use std::net::{IpAddr, Ipv4Addr};

use programs::Program;
use tempfile::TempDir;

use crate::{
    netns::Netns,
    process::{ChildProgram, answer},
    topology::{ROUTE_BY_UP2, Topology},
    wait::{PATIENCE, until},
};

/// Address of the router's dummy interface.
pub const DUMMY: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
/// Address of the router in the VLAN.
pub const VLAN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 193));
/// Routing table of the router's VRF.
pub const VRF_TABLE: u32 = 100;

/// Adds the dummy interface `name` with the address [`DUMMY`] to the router. The station answers
/// that address by `dn1`, or by `dn2` while `dn1` has no carrier.
pub fn dummy(topology: &Topology, name: &str) {
    topology.router.ip(&format!("link add {name} type dummy\naddr add {DUMMY}/32 dev {name}\nlink set {name} up"));
    topology.station.ip(&format!(
        "route add {DUMMY}/32 via 192.0.2.1 dev dn1 metric 10\nroute add {DUMMY}/32 via 192.0.2.65 dev dn2 metric 20"
    ));
}

/// Adds the interface `name` of `kind` (`bond` or `team`) to the router, without ports, and sets it
/// up.
pub fn aggregate(topology: &Topology, name: &str, kind: &str) {
    topology.router.ip(&format!("link add {name} type {kind}\nlink set {name} up"));
}

/// Makes `up2` a port of `aggregate`. The kernel accepts only a port that is down, and then sets it
/// up.
pub fn enslave_uplink2(topology: &Topology, aggregate: &str) {
    topology.router.ip(&format!("link set up2 down\nlink set up2 master {aggregate}"));
}

/// An interface of the router with `up2` and `up3` as its ports, of which it uses one at a time.
/// `up2` is preferred while it has a carrier. It has the addresses of `up2`, and its route.
#[derive(Debug)]
pub struct FailoverAggregate {
    router: Netns,
    name: &'static str,
    /// The daemon that chooses the port of a team. A bond chooses by itself.
    teamd: Option<TeamDaemon>,
}

impl FailoverAggregate {
    /// Makes the bond `name`.
    pub fn bond(topology: &Topology, name: &'static str) -> Self {
        add_third_link(topology);
        topology.router.ip(&format!(
            "link add {name} type bond mode active-backup miimon 20
             link set up2 master {name}
             link set up3 master {name}
             link set {name} type bond primary up2"
        ));
        Self::with_address(topology, name, None)
    }

    /// Makes the team `name`.
    pub fn team(topology: &Topology, name: &'static str) -> Self {
        add_third_link(topology);
        let daemon = TeamDaemon::start(topology, name, "activebackup", r#""up2":{"prio":10},"up3":{"prio":5}"#);
        Self::with_address(topology, name, Some(daemon))
    }

    fn with_address(topology: &Topology, name: &'static str, teamd: Option<TeamDaemon>) -> Self {
        take_place_of_uplink2(topology, name);
        topology.router.ip(&format!("route replace {}", ROUTE_BY_UP2.replace("dev up2", &format!("dev {name}"))));
        let aggregate = Self { router: topology.router.clone(), name, teamd };
        aggregate.wait_active("up2");
        aggregate
    }

    /// Waits until packets leave by this port.
    ///
    /// # Panics
    /// After [`PATIENCE`].
    pub fn wait_active(&self, port: &str) {
        until(&format!("{} uses {port}", self.name), PATIENCE, || {
            self.active().is_some_and(|used| used == port).then_some(())
        });
    }

    /// Returns the port in use.
    fn active(&self) -> Option<String> {
        if self.teamd.is_none() {
            let shown = self.router.ip_show(&format!("-details link show {}", self.name));
            let (_, rest) = shown.split_once("active_slave ")?;
            return rest.split_whitespace().next().map(str::to_owned);
        }
        let index = answer(self.router.command(Program::Teamnl).args([self.name, "getoption", "activeport"]));
        let index: u32 = index.trim().parse().ok()?;
        ["up2", "up3"].into_iter().find(|port| self.router.ifindex(port) == index).map(str::to_owned)
    }
}

/// Adds the link `up3`, a second way to what is behind `up2`. Both ports of the router are down.
fn add_third_link(topology: &Topology) {
    let far = topology.station.path();
    topology.router.ip(&format!("link add up3 type veth peer name dn3 netns {}\nlink set up2 down", far.display()));
    topology.station.ip("link add br2 type bridge
         addr del 192.0.2.66/26 dev dn2
         addr add 192.0.2.66/26 dev br2
         link set dn2 master br2
         link set dn3 master br2
         link set dn3 up
         link set br2 up");
    topology.router.no_offload("up3");
    topology.station.no_offload("dn3");
}

/// Makes the team `name` of `up2` alone, with its address.
pub fn team_of_uplink2(topology: &Topology, name: &str) -> TeamDaemon {
    topology.router.ip("link set up2 down");
    let daemon = TeamDaemon::start(topology, name, "roundrobin", r#""up2":{}"#);
    take_place_of_uplink2(topology, name);
    daemon
}

/// A running teamd, which chooses the ports of a team. The team stays when it ends.
#[derive(Debug)]
pub struct TeamDaemon {
    _program: ChildProgram,
    /// The folder with its PID file.
    _folder: TempDir,
}

impl TeamDaemon {
    /// Starts teamd with a runner and with ports that are down, and waits until the team exists.
    fn start(topology: &Topology, name: &str, runner: &str, ports: &str) -> Self {
        let folder = TempDir::with_prefix("lab-teamd-").expect("a temporary folder can be made");
        let configuration = format!(
            r#"{{"device":"{name}","runner":{{"name":"{runner}"}},"link_watch":{{"name":"ethtool"}},"ports":{{{ports}}}}}"#
        );
        let mut command = topology.router.command(Program::Teamd);
        command.arg("-p").arg(folder.path().join("pid")).args(["-c", &configuration]);
        let program = ChildProgram::start(&mut command);
        let exists = || topology.router.try_ip(&format!("link show {name}")).ok();
        until(&format!("teamd has made {name}"), PATIENCE, exists);
        Self { _program: program, _folder: folder }
    }
}

/// Moves the address of `up2` to `interface`, sets it up and waits for its carrier.
pub fn take_place_of_uplink2(topology: &Topology, interface: &str) {
    topology.router.ip(&format!(
        "addr del 192.0.2.65/26 dev up2\naddr add 192.0.2.65/26 dev {interface}\nlink set {interface} up"
    ));
    until(&format!("{interface} has a carrier"), PATIENCE, || {
        topology.router.ip_show(&format!("link show {interface}")).contains("LOWER_UP").then_some(())
    });
}

/// Releases `up2` from its aggregate, and restores its route.
pub fn release_uplink2(topology: &Topology) {
    topology.router.ip(&format!("link set up2 nomaster\nlink set up2 up\nroute replace {ROUTE_BY_UP2}"));
}

/// Adds VLAN `id` on the second link. The router has `up2.ID` with address [`VLAN`], the station
/// has `dn2.ID`. The route by the VLAN is worse than those by the uplinks.
pub fn vlan(topology: &Topology, id: u16) {
    topology.station.ip(&format!(
        "link add link dn2 name dn2.{id} type vlan id {id}\naddr add 192.0.2.194/26 dev dn2.{id}\nlink set dn2.{id} up"
    ));
    topology.router.ip(&format!(
        "link add link up2 name up2.{id} type vlan id {id}
         addr add {VLAN}/26 dev up2.{id}
         link set up2.{id} up
         route add {}",
        route_by_vlan(id)
    ));
}

/// Returns the route to the station by the VLAN.
pub fn route_by_vlan(id: u16) -> String {
    format!("198.51.100.0/24 via 192.0.2.194 dev up2.{id} metric 30")
}

/// Adds the VRF `name` to the router and moves `up2` into it. `up2` keeps its addresses. Its route
/// to the station moves to the VRF's table ([`VRF_TABLE`]). `up1` stays in the default VRF.
///
/// A socket bound to the VRF device or to `up2` has [`UP2`](crate::topology::UP2) as its source.
pub fn vrf(topology: &Topology, name: &str) {
    // An interface that enters or leaves a VRF loses static routes and IPv6 addresses.
    topology.router.ip(&format!(
        "link add {name} type vrf table {VRF_TABLE}
         link set {name} up
         link set up2 master {name}
         addr replace fe80::1/64 dev up2 nodad
         addr replace 2001:db8:2::1/64 dev up2 nodad
         route replace {ROUTE_BY_UP2} table {VRF_TABLE}
         route replace 2001:db8:7::/64 via 2001:db8:2::2 dev up2 metric 20 table {VRF_TABLE}"
    ));
}

/// Impairs packets that arrive at a host by `interface`, with `conditions` of netem: for example
/// `delay 5ms loss 5%`.
///
/// Packets are lost *after* they left the other end, where captures have seen them. A queue at that
/// end would lose them before its captures.
pub fn impair_arrivals(host: &Netns, interface: &str, conditions: &str) {
    host.ip("link add ifb0 type ifb\nlink set ifb0 up");
    tc(host, &format!("qdisc add dev {interface} ingress"));
    tc(host, &format!("filter add dev {interface} ingress matchall action mirred egress redirect dev ifb0"));
    tc(host, &format!("qdisc add dev ifb0 root netem {conditions}"));
}

/// Runs `tc` on a host.
///
/// # Panics
/// If `tc` fails.
pub fn tc(host: &Netns, arguments: &str) {
    answer(host.command(Program::Tc).args(arguments.split_whitespace()));
}
