//! BGP daemons of other projects as peers of bmpd. Each announces a table, and reports its own RIB.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use nix::sys::signal::Signal;
use programs::Program;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    bgp::{Ipv4Prefix, prefixes},
    daemons::{DaemonRelease, daemon, release},
    frr::{self, CONFIGURATION},
    keychain::core,
    netns::Netns,
    process::{ChildProgram, answer},
    rib::{AfiSafi, ComparedRoute, EVPN, IPV4, IPV6, NamedRoutes, RouteDifference, VPNV4},
    skip::skip,
    trial::{LabTrial, TrialPlan},
    wait::{PATIENCE, patience, until},
};

/// Address and AS number of the daemon, on the first link of [`crate::topology::Topology`].
pub const DAEMON: (IpAddr, u32) = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 65001);
/// The daemon's IPv6 address.
pub const DAEMON_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2));
/// bmpd's address and AS number.
pub const BMPD: (IpAddr, u32) = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 65000);
/// bmpd's IPv6 address.
pub const BMPD_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1));

/// Returns the bgp view with the usual AS number, identifier and port of bmpd, and `lines`.
pub fn bgp_view(lines: &str) -> String {
    format!("bgp {}\n router-id 10.7.0.1\n listen-port 179\n{lines}", BMPD.1)
}

/// The routes that a daemon announces, and its part in the session.
#[derive(Clone, Copy, Debug, Default)]
pub struct DaemonTable<'a> {
    /// IPv4 unicast routes.
    pub ipv4: usize,
    /// IPv6 unicast routes. FRR announces them over a second session between IPv6 addresses.
    pub ipv6: usize,
    /// VPN-IPv4 routes.
    pub vpnv4: usize,
    /// EVPN IP prefix routes, for FRR only.
    pub evpn: usize,
    /// Key of TCP MD5.
    pub password: Option<&'a str>,
    /// Makes the daemon wait for bmpd's connection.
    pub passive: bool,
    /// Address of bmpd, if it is not the one on the link. For BIRD only.
    pub from: Option<IpAddr>,
    /// Address of the daemon, if it is not the one on the link. For BIRD only.
    pub own: Option<IpAddr>,
    /// Selects the AS paths: another number gives each route another path. For BIRD only.
    pub paths: usize,
}

impl DaemonTable<'_> {
    /// Returns its IPv4 routes.
    pub fn ipv4(&self) -> Vec<String> {
        prefixes(self.ipv4).iter().map(ToString::to_string).collect()
    }

    /// Returns its IPv6 routes.
    pub fn ipv6(&self) -> Vec<String> {
        (1..=self.ipv6).map(|number| format!("2001:db8:{number:x}::/48")).collect()
    }

    /// Returns its EVPN routes. FRR 8.4 tells prefixes apart by their first 16 bits only.
    fn evpn(&self) -> impl Iterator<Item = Ipv4Prefix> {
        prefixes(self.evpn << 8).into_iter().step_by(1 << 8)
    }

    /// Returns its routes of one family, as BIRD announces them.
    pub fn routes(&self, family: AfiSafi) -> NamedRoutes {
        self.announced(family, |number| vec![DAEMON.1, self.origin(number)])
    }

    fn announced(&self, family: AfiSafi, as_path: impl Fn(usize) -> Vec<u32>) -> NamedRoutes {
        let (routes, next_hop): (Vec<String>, _) = match family {
            IPV4 => (self.ipv4(), DAEMON.0),
            IPV6 => (self.ipv6(), DAEMON_V6),
            VPNV4 => (prefixes(self.vpnv4).iter().map(|prefix| format!("{RD} {prefix}")).collect(), DAEMON.0),
            _ => {
                let name = |prefix: Ipv4Prefix| format!("{RD} [5]:[0]:[24]:[{}]", prefix.network);
                (self.evpn().map(name).collect(), DAEMON.0)
            }
        };
        let route = |number| ComparedRoute { next_hop: Some(next_hop), as_path: as_path(number) };
        routes.into_iter().enumerate().map(|(number, name)| (name, route(number))).collect()
    }

    /// Returns the last AS number in the path of a route.
    fn origin(&self, number: usize) -> u32 {
        64_512 + ((number + self.paths) % 400) as u32
    }
}

/// The route distinguisher of VPN routes.
const RD: &str = "65001:7";

/// The project of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeeringKind {
    Frr,
    Bird,
}

/// A running daemon that peers with bmpd.
#[derive(Debug)]
pub struct Peering {
    kind: PeeringKind,
    netns: Netns,
    process: ChildProgram,
    folder: TempDir,
    /// The `network` commands in force, for FRR.
    networks: BTreeSet<(&'static str, String)>,
}

impl Peering {
    /// Starts FRR's bgpd.
    pub fn frr(netns: &Netns, table: &DaemonTable<'_>) -> Self {
        Self::start(PeeringKind::Frr, netns, table)
    }

    /// Starts BIRD.
    pub fn bird(netns: &Netns, table: &DaemonTable<'_>) -> Self {
        Self::start(PeeringKind::Bird, netns, table)
    }

    /// Starts a trial whose bmpd has one BGP peer: a BIRD with one IPv4 route.
    pub fn in_trial() -> (LabTrial, Self) {
        let (peer, asn) = DAEMON;
        let system = format!(
            "bgp {}\n router-id 10.7.0.1\n peer {peer} as-number {asn}\n ipv4-family unicast\n  peer {peer} enable\nquit\nquit",
            BMPD.1
        );
        let trial = TrialPlan { system: &system, ..TrialPlan::default() }.start();
        let bird = Self::bird(&trial.topology.station, &DaemonTable { ipv4: 1, ..DaemonTable::default() });
        (trial, bird)
    }

    /// Starts BIRD with the test's own configuration.
    pub fn bird_configured(netns: &Netns, configuration: &str) -> Self {
        let folder = TempDir::with_prefix("lab-peering-").expect("a temporary folder can be made");
        fs::write(folder.path().join(CONFIGURATION), configuration).expect("a temporary file can be written");
        let process = run(PeeringKind::Bird, netns, &folder, false);
        Self { kind: PeeringKind::Bird, netns: netns.clone(), process, folder, networks: BTreeSet::new() }
    }

    fn start(kind: PeeringKind, netns: &Netns, table: &DaemonTable<'_>) -> Self {
        let folder = TempDir::with_prefix("lab-peering-").expect("a temporary folder can be made");
        write(kind, &folder, table);
        let process = run(kind, netns, &folder, false);
        Self { kind, netns: netns.clone(), process, folder, networks: networks(table) }
    }

    /// Returns false for FRR from 10 on: it finds no static route with a route distinguisher that
    /// it is told to remove.
    pub fn withdraws_distinguished_routes(&self) -> bool {
        self.kind != PeeringKind::Frr || release(Program::Bgpd) < DaemonRelease(10, 0)
    }

    /// Announces another table over the same session.
    ///
    /// # Panics
    /// If the daemon refuses the commands.
    pub fn announce(&mut self, table: &DaemonTable<'_>) {
        match self.kind {
            PeeringKind::Frr => {
                let before = std::mem::replace(&mut self.networks, networks(table));
                let mut commands = format!("router bgp {}\n", DAEMON.1);
                let mut command = |family: &str, command: &str| {
                    let _ = write!(commands, "address-family {family}\n{command}\nexit-address-family\n");
                };
                for (family, network) in before.difference(&self.networks) {
                    // FRR wants the router's MAC to add this route, and refuses it to remove the
                    // route.
                    let network = network.split(" routermac").next().unwrap_or_default();
                    command(family, &format!("no network {network}"));
                }
                for (family, network) in self.networks.difference(&before) {
                    command(family, &format!("network {network}"));
                }
                let file = self.folder.path().join("change");
                fs::write(&file, commands).expect("a temporary file can be written");
                let mut vtysh = self.netns.command(daemon(Program::Vtysh));
                answer(vtysh.arg("--vty_socket").arg(self.folder.path()).args(["-d", "bgpd", "-f"]).arg(file));
            }
            PeeringKind::Bird => {
                write(self.kind, &self.folder, table);
                self.birdc("configure");
            }
        }
    }

    /// Ends its sessions with a NOTIFICATION, and opens none.
    pub fn disable(&self) {
        match self.kind {
            PeeringKind::Frr => self.shutdown(""),
            PeeringKind::Bird => drop(self.birdc("disable bmpd")),
        }
    }

    /// Allows sessions again.
    pub fn enable(&self) {
        match self.kind {
            PeeringKind::Frr => self.shutdown("no "),
            PeeringKind::Bird => drop(self.birdc("enable bmpd")),
        }
    }

    fn shutdown(&self, no: &str) {
        let command = format!("{no}bgp shutdown");
        let mut vtysh = frr::vtysh(&self.netns, self.folder.path(), "configure terminal");
        answer(vtysh.args(["-c", &format!("router bgp {}", DAEMON.1), "-c", &command]));
    }

    /// Kills the daemon, which then sends nothing to its peer.
    pub fn kill(&mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.wait();
    }

    /// Starts the daemon again, as one that restarted gracefully where it can signal that. A given
    /// table replaces its routes.
    pub fn start_again(&mut self, table: Option<&DaemonTable<'_>>) {
        if let Some(table) = table {
            write(self.kind, &self.folder, table);
            self.networks = networks(table);
        }
        self.process = run(self.kind, &self.netns, &self.folder, true);
    }

    /// Returns the daemon's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns the JSON of an FRR `show` command.
    pub fn ask(&self, command: &str) -> Value {
        frr::show(&self.netns, self.folder.path(), command)
    }

    /// Runs a BIRD command and returns its output.
    pub fn birdc(&self, command: &str) -> String {
        let control = self.folder.path().join("ctl");
        answer(self.netns.command(daemon(Program::Birdc)).arg("-s").arg(control).args(command.split_whitespace()))
    }

    /// Returns the prefixes in the daemon's own RIB, under the names of [`crate::rib::StationRib`].
    pub fn rib(&self, family: AfiSafi) -> BTreeSet<String> {
        self.routes(family).into_keys().collect()
    }

    /// Returns its routes, with next hops and AS paths as an external peer receives them.
    fn routes(&self, family: AfiSafi) -> NamedRoutes {
        let next_hop = Some(if family == IPV6 { DAEMON_V6 } else { DAEMON.0 });
        let announced = |path: &str| {
            let path = path.split_whitespace().map(|number| number.parse().expect("an AS path has numbers only"));
            ComparedRoute { next_hop, as_path: [DAEMON.1].into_iter().chain(path).collect() }
        };
        match self.kind {
            PeeringKind::Frr => self.frr_rib(family).into_iter().map(|(name, path)| (name, announced(&path))).collect(),
            PeeringKind::Bird => {
                let table = match family {
                    IPV4 => "master4",
                    VPNV4 => "vpns",
                    _ => "master6",
                };
                let shown = self.birdc(&format!("show route all table {table}"));
                let mut routes = NamedRoutes::new();
                let mut name = String::new();
                for line in shown.lines() {
                    // BIRD 2 and BIRD 3.
                    let path = ["\tBGP.as_path:", "\tbgp_path:"].iter().find_map(|name| line.strip_prefix(name));
                    match path {
                        Some(path) => drop(routes.insert(name.clone(), announced(path))),
                        None if line.starts_with(|first: char| first.is_ascii_hexdigit()) => {
                            let words = line.split_whitespace().take(if family == VPNV4 { 2 } else { 1 });
                            name = words.collect::<Vec<_>>().join(" ");
                        }
                        None => {}
                    }
                }
                routes
            }
        }
    }

    /// Returns names and AS paths of FRR's routes.
    fn frr_rib(&self, family: AfiSafi) -> Vec<(String, String)> {
        let name = match family {
            IPV6 => "ipv6 unicast",
            VPNV4 => "ipv4 vpn",
            EVPN => "l2vpn evpn",
            _ => "ipv4 unicast",
        };
        let shown = self.ask(&format!("show bgp {name} json"));
        let entries = |value: &Value| value.as_object().cloned().unwrap_or_default();
        let path = |paths: &Value| paths[0]["path"].as_str().unwrap_or_default().to_owned();
        let of = |(rd, routes): (&str, &Value)| -> Vec<_> {
            entries(routes).iter().map(|(route, paths)| (format!("{rd} {route}"), path(paths))).collect()
        };
        match family {
            VPNV4 => of((RD, &shown["routes"]["routeDistinguishers"][RD])),
            EVPN => {
                let routes = entries(&shown[RD]).into_iter().filter(|(route, _)| route != "rd");
                routes.map(|(route, shown)| (format!("{RD} {route}"), path(&shown["paths"]))).collect()
            }
            _ => entries(&shown["routes"]).iter().map(|(route, paths)| (route.clone(), path(paths))).collect(),
        }
    }

    /// Waits until the daemon has these routes of every family. Returns the routes that it
    /// announces, with the announcing peer and the family.
    ///
    /// # Panics
    /// If routes are missing or differ, with the differences.
    pub fn wait_tables(&self, table: &DaemonTable<'_>) -> Vec<(IpAddr, AfiSafi, NamedRoutes)> {
        let counts = [(IPV4, table.ipv4), (IPV6, table.ipv6), (VPNV4, table.vpnv4), (EVPN, table.evpn)];
        let families = counts.into_iter().filter(|(_, count)| *count > 0).map(|(family, _)| family);
        let of = |family| {
            let frr = self.kind == PeeringKind::Frr;
            let wanted = if frr { table.announced(family, |_| vec![DAEMON.1]) } else { table.routes(family) };
            let deadline = Instant::now() + patience(PATIENCE);
            loop {
                let routes = self.routes(family);
                if routes == wanted {
                    let peer = if frr && family == IPV6 { DAEMON_V6 } else { DAEMON.0 };
                    return (peer, family, routes);
                }
                assert!(Instant::now() < deadline, "{:?}: {}", self.kind, RouteDifference(&routes, &wanted));
            }
        };
        families.map(of).collect()
    }
}

/// Returns the bgp view with the daemon as a peer, which has the usual key chain.
pub fn signed_peer() -> String {
    let (peer, asn) = DAEMON;
    format!(
        "{}bgp {}\n router-id 10.7.0.1\n listen-port 179\n peer {peer} as-number {asn}\n peer {peer} keychain core\n \
         ipv4-family unicast\n  peer {peer} enable\n",
        core("correct-horse"),
        BMPD.1
    )
}

/// Decides whether the installed BIRD takes a configuration, and skips the running test if not.
pub fn bird_takes(configuration: &str) -> bool {
    let folder = TempDir::with_prefix("lab-peering-").expect("a temporary folder can be made");
    let file = folder.path().join(CONFIGURATION);
    fs::write(&file, configuration).expect("a temporary file can be written");
    let takes = daemon(Program::Bird).arg("-p").arg("-c").arg(file).output();
    let takes = takes.is_ok_and(|output| output.status.success());
    if !takes {
        skip("the installed BIRD does not take the configuration");
    }
    takes
}

/// Writes the daemon's configuration file.
fn write(kind: PeeringKind, folder: &TempDir, table: &DaemonTable<'_>) {
    let configuration = if kind == PeeringKind::Frr { frr(table) } else { bird(table) };
    fs::write(folder.path().join(CONFIGURATION), configuration).expect("a temporary file can be written");
}

/// Returns FRR's `network` commands, each with its address family.
fn networks(table: &DaemonTable<'_>) -> BTreeSet<(&'static str, String)> {
    let vpn = prefixes(table.vpnv4).into_iter().map(|prefix| ("ipv4 vpn", format!("{prefix} rd {RD} label 100")));
    let evpn = table.evpn().map(|prefix| {
        let segment = "00:00:00:00:00:00:00:00:00:00";
        let gateway = "gwip 192.0.2.9 routermac 02:00:00:00:00:09";
        ("l2vpn evpn", format!("{prefix} rd {RD} ethtag 0 label 100 esi {segment} {gateway}"))
    });
    let ipv4 = table.ipv4().into_iter().map(|route| ("ipv4 unicast", route));
    let ipv6 = table.ipv6().into_iter().map(|route| ("ipv6 unicast", route));
    ipv4.chain(ipv6).chain(vpn).chain(evpn).collect()
}

fn run(kind: PeeringKind, netns: &Netns, folder: &TempDir, again: bool) -> ChildProgram {
    let file = |name: &str| folder.path().join(name);
    match kind {
        PeeringKind::Frr => frr::run(netns, folder.path(), &[]),
        PeeringKind::Bird => {
            let mut command = netns.command(daemon(Program::Bird));
            command.args(["-f", "-c"]).arg(file(CONFIGURATION)).arg("-s").arg(file("ctl"));
            if again {
                // -R: BIRD may have kept its routes.
                command.arg("-R");
            }
            let process = ChildProgram::start(&mut command);
            until("BIRD takes commands", PATIENCE, || {
                let mut birdc = netns.command(daemon(Program::Birdc));
                let status = birdc.arg("-s").arg(file("ctl")).args(["show", "status"]).output();
                status.ok()?.status.success().then_some(())
            });
            process
        }
    }
}

fn frr(table: &DaemonTable<'_>) -> String {
    let (asn, peer_as) = (DAEMON.1, BMPD.1);
    let peers = [BMPD.0, BMPD_V6];
    let mut text = format!(
        "hostname frr\nrouter bgp {asn}\n bgp router-id {}\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n no bgp network import-check\n",
        DAEMON.0
    );
    for peer in &peers[..if table.ipv6 > 0 { 2 } else { 1 }] {
        let _ = writeln!(text, " neighbor {peer} remote-as {peer_as}\n neighbor {peer} timers connect 2");
        if let Some(password) = table.password {
            let _ = writeln!(text, " neighbor {peer} password {password}");
        }
        if table.passive {
            let _ = writeln!(text, " neighbor {peer} passive");
        }
    }
    let networks = networks(table);
    for family in ["ipv4 unicast", "ipv6 unicast", "ipv4 vpn", "l2vpn evpn"] {
        let mut networks = networks.iter().filter(|(of, _)| *of == family).peekable();
        if networks.peek().is_none() {
            continue;
        }
        let peer = if family == "ipv6 unicast" { peers[1] } else { peers[0] };
        let _ = writeln!(text, " address-family {family}\n  neighbor {peer} activate");
        for (_, network) in networks {
            let _ = writeln!(text, "  network {network}");
        }
        let _ = writeln!(text, " exit-address-family");
    }
    text
}

fn bird(table: &DaemonTable<'_>) -> String {
    let statics = |name: &str, routes: Vec<String>, to: &str| {
        let with_path =
            |(number, route)| format!("  route {route} {to} {{ bgp_path.prepend({}); }};\n", table.origin(number));
        let routes: String = routes.iter().enumerate().map(with_path).collect();
        format!("protocol static {name}routes {{\n  {name};\n{routes}}}\n")
    };
    let ((id, asn), peer_as) = (DAEMON, BMPD.1);
    let (own, peer) = (table.own.unwrap_or(id), table.from.unwrap_or(BMPD.0));
    let multihop = if table.from.or(table.own).is_some() { "  multihop;\n" } else { "" };
    let password = table.password.map(|password| format!("  password \"{password}\";\n")).unwrap_or_default();
    let passive = if table.passive { "  passive;\n" } else { "" };
    let vpn = prefixes(table.vpnv4).iter().map(|prefix| format!("{RD} {prefix}")).collect();
    let (vpn, channel) = match table.vpnv4 {
        0 => (String::new(), ""),
        // BIRD announces only VPN routes with a label and a next hop.
        _ => (
            format!(
                "vpn4 table vpns;\n{}",
                statics("vpn4", vpn, "via 192.0.2.1 mpls 100").replace("  vpn4;", "  vpn4 { table vpns; };")
            ),
            "  vpn4 mpls { table vpns; import none; export all; next hop self; };\n",
        ),
    };
    format!(
        "router id {id};\nprotocol device {{ }}\n{}{}{vpn}protocol bgp bmpd {{\n  local {own} as {asn};\n  neighbor {peer} as {peer_as};\n  \
         connect delay time 1;\n  connect retry time 2;\n  error wait time 1, 4;\n  graceful restart on;\n  graceful restart time 30;\n{password}{passive}{multihop}  \
         ipv4 {{ import none; export all; next hop self; }};\n  \
         ipv6 {{ import none; export all; next hop address {DAEMON_V6}; }};\n{channel}}}\n",
        statics("ipv4", table.ipv4(), "blackhole"),
        statics("ipv6", table.ipv6(), "blackhole"),
    )
}
