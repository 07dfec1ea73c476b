//! GoBGP as a local daemon: it opens its own BMP session, with no source configured, for bmpd to
//! adopt.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
};

use nix::sys::signal::Signal;
use programs::Program;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    bgp::Ipv4Prefix,
    daemons::daemon,
    netns::Netns,
    process::{ChildProgram, answer},
    rib::{AfiSafi, ComparedRoute, IPV4, IPV6, NamedRoutes, VPNV4},
    speaker::LabBgpSpeaker,
    wait::{PATIENCE, until},
};

/// Address and AS number of GoBGP.
pub const GOBGP: (Ipv4Addr, u32) = (Ipv4Addr::new(10, 255, 0, 3), 65003);
/// Address and AS number of GoBGP's BGP peer.
pub const PEER: (Ipv4Addr, u32) = (Ipv4Addr::new(10, 255, 0, 4), 65004);

/// Address of GoBGP's API, which cannot be turned off. Each namespace has its own loopback, so one
/// port is enough.
pub const API: &str = "127.0.0.1:50051";

/// Name of the configuration file.
const CONFIGURATION: &str = "gobgpd.toml";

/// A running gobgpd with one BGP peer and one BMP station.
#[derive(Debug)]
pub struct Gobgp {
    speaker: Option<LabBgpSpeaker>,
    netns: Netns,
    process: ChildProgram,
    folder: TempDir,
}

impl Gobgp {
    /// Starts gobgpd in `netns`. It connects to `station` at a time of its choosing, and again a
    /// second after a loss.
    pub fn start(netns: &Netns, station: SocketAddr) -> Self {
        Self::with_neighbour(netns, station, None)
    }

    /// Starts gobgpd with one more neighbour, which connects and receives all IPv4, IPv6, VPNv4 and
    /// EVPN routes.
    pub fn with_neighbour(netns: &Netns, station: SocketAddr, neighbour: Option<(IpAddr, u32)>) -> Self {
        let folder = TempDir::with_prefix("lab-gobgp-").expect("a temporary folder can be made");
        prepare(netns);
        let mut configuration = configuration(station);
        if let Some((neighbour, asn)) = neighbour {
            let own = GOBGP.0;
            configuration.push_str(&format!(
                r#"
[[neighbors]]
[neighbors.config]
neighbor-address = "{neighbour}"
peer-as = {asn}
[neighbors.transport.config]
local-address = "{own}"
passive-mode = true
[neighbors.ebgp-multihop.config]
enabled = true
multihop-ttl = 8
"#
            ));
            for family in ["ipv4-unicast", "ipv6-unicast", "l3vpn-ipv4-unicast", "l2vpn-evpn"] {
                configuration.push_str(&format!(
                    "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n"
                ));
            }
        }
        let file = folder.path().join(CONFIGURATION);
        std::fs::write(&file, configuration).expect("a temporary file can be written");
        let process = run(netns, &file);
        Self { speaker: None, netns: netns.clone(), process, folder }
    }

    /// Starts gobgpd in `netns` with the test's own configuration, without a BGP peer of the lab.
    pub fn configured(netns: &Netns, configuration: &str) -> Self {
        let folder = TempDir::with_prefix("lab-gobgp-").expect("a temporary folder can be made");
        let file = folder.path().join(CONFIGURATION);
        std::fs::write(&file, configuration).expect("a temporary file can be written");
        let process = run(netns, &file);
        Self { speaker: None, netns: netns.clone(), process, folder }
    }

    /// Announces `routes` from its BGP peer, in a new session.
    pub fn announce(&mut self, routes: &[Ipv4Prefix]) {
        self.speaker = None;
        self.speaker =
            Some(LabBgpSpeaker::announce(&self.netns, PEER.0, PEER.1, SocketAddr::from((GOBGP.0, 179)), routes));
    }

    /// Adds a route to its table, in the syntax of `gobgp global rib add`.
    pub fn add(&self, route: &str) {
        until("GoBGP takes routes", PATIENCE, || {
            let mut gobgp = gobgp(&self.netns, "global rib add");
            gobgp.args(route.split_whitespace()).output().ok()?.status.success().then_some(())
        });
    }

    /// Removes a route from its table, in the syntax of `gobgp global rib del`.
    pub fn delete(&self, route: &str) {
        answer(gobgp(&self.netns, "global rib del").args(route.split_whitespace()));
    }

    /// Runs a command about a neighbour: `enable` or `disable`.
    pub fn neighbour(&self, address: IpAddr, command: &str) {
        answer(&mut gobgp(&self.netns, &format!("neighbor {address} {command}")));
    }

    /// Returns its table of one family.
    pub fn table(&self, family: AfiSafi) -> NamedRoutes {
        let name = match family {
            IPV4 => "ipv4",
            IPV6 => "ipv6",
            VPNV4 => "vpnv4",
            _ => "evpn",
        };
        routes(&show(&self.netns, &format!("global rib -a {name}")))
    }

    /// Kills gobgpd, which then closes nothing in an orderly way.
    pub fn kill(&mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.wait();
    }

    /// Starts gobgpd again, with an empty table.
    pub fn start_again(&mut self) {
        self.process = run(&self.netns, &self.folder.path().join(CONFIGURATION));
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Ends gobgpd.
    pub fn terminate(&mut self) {
        self.process.terminate();
    }
}

/// Returns the configuration of a gobgpd with one BGP peer and one BMP station.
pub fn configuration(station: SocketAddr) -> String {
    let ((own, own_as), (peer, peer_as)) = (GOBGP, PEER);
    format!(
        r#"[global.config]
as = {own_as}
router-id = "{own}"
port = 179
local-address-list = ["{own}"]

[[bmp-servers]]
[bmp-servers.config]
address = "{}"
port = {}
route-monitoring-policy = "pre-policy"

[[neighbors]]
[neighbors.config]
neighbor-address = "{peer}"
peer-as = {peer_as}
[neighbors.transport.config]
local-address = "{own}"
passive-mode = true
[neighbors.ebgp-multihop.config]
enabled = true
multihop-ttl = 8
"#,
        station.ip(),
        station.port(),
    )
}

/// Adds the addresses of GoBGP and its peer.
pub fn prepare(netns: &Netns) {
    let (own, peer) = (GOBGP.0, PEER.0);
    netns.ip(&format!("addr replace {own}/32 dev lo\naddr replace {peer}/32 dev lo"));
}

/// Starts gobgpd with the configuration in `file`. Callers must wait until it answers.
pub(crate) fn run(netns: &Netns, file: &Path) -> ChildProgram {
    ChildProgram::start(netns.command(daemon(Program::Gobgpd)).arg("-f").arg(file).args([
        "--api-hosts",
        API,
        "--log-plain",
    ]))
}

/// Returns a `gobgp` command for the gobgpd in `netns`.
pub(crate) fn gobgp(netns: &Netns, words: &str) -> Command {
    let (host, port) = API.split_once(':').expect("an address and a port");
    let mut command = netns.command(daemon(Program::Gobgp));
    command.args(["-u", host, "-p", port]).args(words.split_whitespace());
    command
}

/// Returns the JSON that a `gobgp` command prints.
pub(crate) fn show(netns: &Netns, words: &str) -> Value {
    serde_json::from_str(&answer(gobgp(netns, words).arg("-j"))).expect("GoBGP prints JSON")
}

/// Reads a printed table: the first path of each prefix, under the names that
/// [`crate::rib::StationRib`] gives.
pub(crate) fn routes(table: &Value) -> NamedRoutes {
    let all = table.as_object().into_iter().flatten();
    all.map(|(name, paths)| (named(name), route(&paths[0]["attrs"]))).collect()
}

fn route(attributes: &Value) -> ComparedRoute {
    let mut route = ComparedRoute::default();
    for attribute in attributes.as_array().into_iter().flatten() {
        if let Some(next_hop) = attribute["nexthop"].as_str() {
            route.next_hop = next_hop.parse().ok();
        }
        let segments = attribute["as_paths"].as_array().into_iter().flatten();
        let numbers = segments.flat_map(|segment| segment["asns"].as_array().into_iter().flatten());
        route.as_path.extend(numbers.filter_map(Value::as_u64).map(|number| number as u32));
    }
    route
}

/// Translates GoBGP's names to the lab's: `65003:7:10.0.0.0/24` and
/// `[type:macadv][rd:65003:7][etag:9][mac:02:00:00:00:00:01][ip:10.8.0.1]`.
fn named(name: &str) -> String {
    let fields: Vec<_> = name.split(['[', ']']).filter_map(|field| field.split_once(':')).collect();
    match fields[..] {
        [("type", "macadv"), ("rd", rd), ("etag", tag), ("mac", mac), ("ip", ip)] => {
            format!("{rd} [2]:[{tag}]:[48]:[{mac}]:[32]:[{ip}]")
        }
        _ => match name.split(':').collect::<Vec<_>>()[..] {
            [asn, number, prefix] if prefix.contains('.') => format!("{asn}:{number} {prefix}"),
            _ => name.to_owned(),
        },
    }
}
