//! Somebody else's BGP daemons as peers of bmpd: each announces a table of its own, and says what is in it.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    bgp::prefixes,
    frr::{self, CONFIGURATION},
    netns::Netns,
    process::{Process, answer},
    rib::{Family, IPV4, IPV6, Route, Routes, VPNV4},
    wait::{PATIENCE, until},
};

/// The daemon's address and AS number, on the first link of [`crate::topology::Topology`].
pub const DAEMON: (IpAddr, u32) = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 65001);
/// Its IPv6 address.
pub const DAEMON_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2));
/// bmpd's address and AS number.
pub const BMPD: (IpAddr, u32) = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 65000);
/// bmpd's IPv6 address.
pub const BMPD_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1));

/// What a daemon is to announce, and how it takes part in the session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Table<'a> {
    /// IPv4 routes.
    pub ipv4: usize,
    /// IPv6 routes; FRR announces them over a session of its own, from IPv6 address to IPv6 address.
    pub ipv6: usize,
    /// Routes in a VPN: of FRR alone.
    pub vpnv4: usize,
    /// TCP MD5.
    pub password: Option<&'a str>,
    /// It waits for bmpd to connect.
    pub passive: bool,
    /// bmpd's address, where that is not the one on the link. Of BIRD alone.
    pub from: Option<IpAddr>,
    /// The daemon's own, likewise.
    pub own: Option<IpAddr>,
    /// Decides which AS path each route has: another number, other paths. Of BIRD alone.
    pub paths: usize,
}

impl Table<'_> {
    /// Its IPv4 routes.
    pub fn ipv4(&self) -> Vec<String> {
        prefixes(self.ipv4).iter().map(ToString::to_string).collect()
    }

    /// Its IPv6 routes.
    pub fn ipv6(&self) -> Vec<String> {
        (1..=self.ipv6).map(|number| format!("2001:db8:{number:x}::/48")).collect()
    }

    /// Its IPv4 or IPv6 routes as BIRD announces them.
    pub fn routes(&self, family: Family) -> Routes {
        let (prefixes, next_hop) = if family == IPV4 { (self.ipv4(), DAEMON.0) } else { (self.ipv6(), DAEMON_V6) };
        let route = |number| Route { next_hop: Some(next_hop), as_path: vec![DAEMON.1, self.origin(number)] };
        prefixes.into_iter().enumerate().map(|(number, prefix)| (prefix, route(number))).collect()
    }

    /// The AS number that the path of a route ends with.
    fn origin(&self, number: usize) -> u32 {
        64_512 + ((number + self.paths) % 400) as u32
    }
}

/// Which daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Frr,
    Bird,
}

/// A running daemon.
#[derive(Debug)]
pub struct Peering {
    kind: Kind,
    netns: Netns,
    process: Process,
    folder: TempDir,
}

impl Peering {
    /// FRR's bgpd.
    pub fn frr(netns: &Netns, table: &Table<'_>) -> Self {
        Self::start(Kind::Frr, netns, &frr(table))
    }

    /// BIRD.
    pub fn bird(netns: &Netns, table: &Table<'_>) -> Self {
        Self::start(Kind::Bird, netns, &bird(table))
    }

    fn start(kind: Kind, netns: &Netns, configuration: &str) -> Self {
        let folder = TempDir::with_prefix("lab-peering-").expect("a temporary folder can be made");
        fs::write(folder.path().join(CONFIGURATION), configuration).expect("a temporary file can be written");
        let process = run(kind, netns, &folder, false);
        Self { kind, netns: netns.clone(), process, folder }
    }

    /// Another table, without a new session. Of BIRD alone.
    ///
    /// # Panics
    /// If BIRD refuses it.
    pub fn announce(&self, table: &Table<'_>) {
        fs::write(self.folder.path().join(CONFIGURATION), bird(table)).expect("a temporary file can be written");
        self.birdc("configure");
    }

    /// Kills the daemon: it says nothing to its peer.
    pub fn kill(&mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.wait();
    }

    /// Starts it once more, as one that has restarted gracefully if it can say so, with another table if there is one.
    pub fn start_again(&mut self, table: Option<&Table<'_>>) {
        if let Some(table) = table {
            let configuration = if self.kind == Kind::Frr { frr(table) } else { bird(table) };
            fs::write(self.folder.path().join(CONFIGURATION), configuration).expect("a temporary file can be written");
        }
        self.process = run(self.kind, &self.netns, &self.folder, true);
    }

    /// A command for BIRD: what it answers.
    pub fn birdc(&self, command: &str) -> String {
        let control = self.folder.path().join("ctl");
        answer(self.netns.command("birdc").arg("-s").arg(control).args(command.split_whitespace()))
    }

    /// What the daemon says that it has of a family, as [`crate::rib::Rib`] writes it.
    pub fn rib(&self, family: Family) -> BTreeSet<String> {
        match self.kind {
            Kind::Frr => self.frr_rib(family),
            Kind::Bird => {
                let table = if family == IPV4 { "master4" } else { "master6" };
                let shown = self.birdc(&format!("show route table {table}"));
                let routes = shown.lines().filter_map(|line| line.split_whitespace().next());
                routes.filter(|word| word.contains('/')).map(str::to_owned).collect()
            }
        }
    }

    fn frr_rib(&self, family: Family) -> BTreeSet<String> {
        let name = match family {
            IPV6 => "ipv6 unicast",
            VPNV4 => "ipv4 vpn",
            _ => "ipv4 unicast",
        };
        let shown = frr::show(&self.netns, self.folder.path(), &format!("show bgp {name} json"));
        let keys = |value: &Value| -> Vec<String> {
            value.as_object().map(|routes| routes.keys().cloned().collect()).unwrap_or_default()
        };
        if family != VPNV4 {
            return keys(&shown["routes"]).into_iter().collect();
        }
        let by_rd = &shown["routes"]["routeDistinguishers"];
        keys(by_rd)
            .iter()
            .flat_map(|rd| keys(&by_rd[rd]).into_iter().map(move |route| format!("{rd} {route}")))
            .collect()
    }

    /// Waits until the daemon has as many routes of a family, and returns them.
    pub fn wait_rib(&self, family: Family, count: usize) -> BTreeSet<String> {
        until(&format!("the daemon has {count} routes of {family:?}"), PATIENCE, || {
            Some(self.rib(family)).filter(|rib| rib.len() == count)
        })
    }
}

fn run(kind: Kind, netns: &Netns, folder: &TempDir, again: bool) -> Process {
    let file = |name: &str| folder.path().join(name);
    match kind {
        Kind::Frr => frr::run(netns, folder.path(), &[]),
        Kind::Bird => {
            let mut command = netns.command("bird");
            command.args(["-f", "-c"]).arg(file(CONFIGURATION)).arg("-s").arg(file("ctl"));
            if again {
                // It may have kept its routes.
                command.arg("-R");
            }
            let process = Process::start(&mut command);
            until("BIRD takes commands", PATIENCE, || {
                let mut birdc = netns.command("birdc");
                let asked = birdc.arg("-s").arg(file("ctl")).args(["show", "status"]).output();
                asked.ok()?.status.success().then_some(())
            });
            process
        }
    }
}

fn frr(table: &Table<'_>) -> String {
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
    let vpn = prefixes(table.vpnv4);
    let vpn: Vec<String> = vpn.iter().map(|prefix| format!("{prefix} rd 65001:7 label 100")).collect();
    for (family, peer, routes) in [
        ("ipv4 unicast", peers[0], table.ipv4()),
        ("ipv6 unicast", peers[1], table.ipv6()),
        ("ipv4 vpn", peers[0], vpn),
    ] {
        if routes.is_empty() {
            continue;
        }
        let _ = writeln!(text, " address-family {family}\n  neighbor {peer} activate");
        for route in routes {
            let _ = writeln!(text, "  network {route}");
        }
        let _ = writeln!(text, " exit-address-family");
    }
    text
}

fn bird(table: &Table<'_>) -> String {
    let statics = |name: &str, routes: Vec<String>| {
        let with_path =
            |(number, route)| format!("  route {route} blackhole {{ bgp_path.prepend({}); }};\n", table.origin(number));
        let routes: String = routes.iter().enumerate().map(with_path).collect();
        format!("protocol static {name}routes {{\n  {name};\n{routes}}}\n")
    };
    let ((id, asn), peer_as) = (DAEMON, BMPD.1);
    let (own, peer) = (table.own.unwrap_or(id), table.from.unwrap_or(BMPD.0));
    let multihop = if table.from.or(table.own).is_some() { "  multihop;\n" } else { "" };
    let password = table.password.map(|password| format!("  password \"{password}\";\n")).unwrap_or_default();
    let passive = if table.passive { "  passive;\n" } else { "" };
    format!(
        "router id {id};\nprotocol device {{ }}\n{}{}protocol bgp bmpd {{\n  local {own} as {asn};\n  neighbor {peer} as {peer_as};\n  \
         connect delay time 1;\n  connect retry time 2;\n  error wait time 1, 4;\n  graceful restart on;\n  graceful restart time 30;\n{password}{passive}{multihop}  \
         ipv4 {{ import none; export all; next hop self; }};\n  \
         ipv6 {{ import none; export all; next hop address {DAEMON_V6}; }};\n}}\n",
        statics("ipv4", table.ipv4()),
        statics("ipv6", table.ipv6()),
    )
}
