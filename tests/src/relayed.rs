//! Daemons of other projects that peer with those of [`crate::peering`], report over BMP to a
//! relay, and show their own RIBs.
//!
//! Such a daemon takes bmpd's place as a BGP peer: it has the addresses and AS number of [`BMPD`].

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use nix::sys::signal::Signal;
use programs::Program;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    daemons::{DaemonRelease, release},
    frr, gobgp,
    netns::Netns,
    peering::{BMPD, DAEMON, DaemonTable},
    process::ChildProgram,
    rib::{AfiSafi, ComparedRoute, IPV4, IPV6, LOC_RIB_PEER, NamedRoutes, PeerRib, RouteDifference},
    wait::{PATIENCE, patience, pause_after, until},
};

/// Prefixes that GoBGP's policy rejects. FRR rejects nothing here: FRR 8.4 dumps rejected routes
/// and then reports none of their changes.
pub const REJECTED: &str = "10.0.0.0/20";
/// Prefixes whose path the policy of both daemons lengthens by [`PREPENDED`].
pub const LENGTHENED: &str = "10.1.0.0/16";
/// AS number that policy prepends.
pub const PREPENDED: u32 = 64_999;

/// A table of BIRD that both daemons accept. It has global next hops only: FRR without zebra knows
/// no interfaces, and so no link-local addresses.
pub const TABLE: DaemonTable<'_> = DaemonTable {
    ipv4: 0,
    ipv6: 0,
    vpnv4: 0,
    evpn: 0,
    password: None,
    passive: false,
    from: Some(BMPD.0),
    own: None,
    paths: 0,
};

/// Intervals of statistics in seconds, FRR first. GoBGP accepts no less than 15.
const STATISTICS: [u32; 2] = [1, 15];

/// The project of a daemon, with the RIBs that it reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayedKind {
    /// FRR: Adj-RIB-In before and after policy.
    Frr,
    /// GoBGP: Adj-RIB-In before and after policy, and Loc-RIB.
    Gobgp,
}

impl RelayedKind {
    /// Returns what the installed version accepts of a table of BIRD.
    ///
    /// From version 10 on, FRR without zebra ends a session between IPv4 addresses that has an IPv6
    /// family, because it knows no IPv6 address of its own. With zebra, FRR 10.3 crashes here.
    pub fn acceptable<'a>(self, table: &DaemonTable<'a>) -> DaemonTable<'a> {
        let ipv6 = if self.accepts_ipv6() { table.ipv6 } else { 0 };
        DaemonTable { ipv6, ..*table }
    }

    /// Returns false for FRR from 10.0 to 10.3: 10.3 without zebra ends with SIGSEGV
    /// (`work_queue_run`) when it comes back and its peer announces a table at once.
    pub fn comes_back(self) -> bool {
        self.is_old() || release(Program::Bgpd) > DaemonRelease(10, 3)
    }

    fn accepts_ipv6(self) -> bool {
        self.is_old()
    }

    fn is_old(self) -> bool {
        self != Self::Frr || release(Program::Bgpd) < DaemonRelease(10, 0)
    }
}

/// A running daemon that reports to a relay.
#[derive(Debug)]
pub struct RelayedDaemon {
    kind: RelayedKind,
    netns: Netns,
    process: ChildProgram,
    folder: TempDir,
}

impl RelayedDaemon {
    /// Starts the daemon. It peers with [`DAEMON`], and connects to `relay` at a time of its
    /// choosing.
    pub fn start(kind: RelayedKind, netns: &Netns, relay: SocketAddr) -> Self {
        let folder = TempDir::with_prefix("lab-relayed-").expect("a temporary folder can be made");
        let configuration = match kind {
            RelayedKind::Frr => frr_configuration(relay),
            RelayedKind::Gobgp => gobgp_configuration(relay),
        };
        fs::write(folder.path().join(frr::CONFIGURATION), configuration).expect("a temporary file can be written");
        let process = run(kind, netns, &folder);
        Self { kind, netns: netns.clone(), process, folder }
    }

    /// Returns the RIBs that it reports, each with the peer of its messages.
    pub fn views(&self) -> Vec<(IpAddr, PeerRib)> {
        let mut views = vec![(DAEMON.0, PeerRib::PrePolicy), (DAEMON.0, PeerRib::PostPolicy)];
        if self.kind == RelayedKind::Gobgp {
            views.push((LOC_RIB_PEER, PeerRib::LocRib));
        }
        views
    }

    /// Returns one of its RIBs by its own account, for IPv4 or IPv6 unicast.
    pub fn table(&self, view: PeerRib, family: AfiSafi) -> NamedRoutes {
        match self.kind {
            RelayedKind::Frr => self.frr_table(view, family),
            RelayedKind::Gobgp => self.gobgp_table(view, family),
        }
    }

    /// Applies the daemon's policy to routes.
    pub fn after_policy(&self, routes: &NamedRoutes) -> NamedRoutes {
        let rejected = |prefix: &str| match prefix.split(['.', '/']).collect::<Vec<_>>()[..] {
            ["10", "0", third, ..] => {
                self.kind == RelayedKind::Gobgp && third.parse().is_ok_and(|third: u8| third < 16)
            }
            _ => false,
        };
        let changed = |(prefix, route): (&String, &ComparedRoute)| {
            let mut route = route.clone();
            if prefix.starts_with("10.1.") {
                route.as_path.insert(0, PREPENDED);
            }
            (prefix.clone(), route)
        };
        routes.iter().filter(|(prefix, _)| !rejected(prefix)).map(changed).collect()
    }

    /// Returns a table as the daemon reports it. FRR up to 10.3 reports routes as for an external
    /// peer, with its own AS number in front; 10.7 does not.
    pub fn as_reported(&self, mut table: NamedRoutes) -> NamedRoutes {
        if self.kind == RelayedKind::Frr && release(Program::Bgpd) < DaemonRelease(10, 4) {
            table.values_mut().for_each(|route| route.as_path.insert(0, BMPD.1));
        }
        table
    }

    /// Waits until all its RIBs have these routes of its peer, after its policy. Returns each RIB
    /// with its routes.
    ///
    /// # Panics
    /// If routes are missing or differ, with the differences.
    pub fn wait_tables(
        &self,
        family: AfiSafi,
        before_policy: &NamedRoutes,
    ) -> Vec<((IpAddr, PeerRib, AfiSafi), NamedRoutes)> {
        let after_policy = self.after_policy(before_policy);
        let of = |(peer, view)| {
            let wanted = if view == PeerRib::PrePolicy { before_policy } else { &after_policy };
            let deadline = Instant::now() + patience(15 * PATIENCE);
            loop {
                let begin = Instant::now();
                let table = self.table(view, family);
                if table == *wanted {
                    return ((peer, view, family), table);
                }
                assert!(Instant::now() < deadline, "{:?} in {view:?}: {}", self.kind, RouteDifference(&table, wanted));
                std::thread::sleep(pause_after(begin.elapsed()));
            }
        };
        self.views().into_iter().map(of).collect()
    }

    /// Returns the JSON of an FRR `show` command or of a `gobgp` command.
    pub fn ask(&self, words: &str) -> Value {
        match self.kind {
            RelayedKind::Frr => frr::show(&self.netns, self.folder.path(), words),
            RelayedKind::Gobgp => gobgp::show(&self.netns, words),
        }
    }

    /// Kills the daemon, which then sends nothing.
    pub fn kill(&mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.wait();
    }

    /// Starts the daemon again.
    pub fn start_again(&mut self) {
        self.process = run(self.kind, &self.netns, &self.folder);
    }

    fn frr_table(&self, view: PeerRib, family: AfiSafi) -> NamedRoutes {
        if family == IPV6 && !self.kind.accepts_ipv6() {
            // FRR's answer about a family without a peer is not JSON.
            return NamedRoutes::new();
        }
        let (family, next_hop) =
            if family == IPV6 { ("ipv6 unicast", "nextHopGlobal") } else { ("ipv4 unicast", "nextHop") };
        let peer = DAEMON.0;
        if view == PeerRib::PrePolicy {
            let shown = self.ask(&format!("show bgp {family} neighbors {peer} received-routes json"));
            return routes(&shown["receivedRoutes"], |route| {
                let mut as_path = path_of_words(&route["path"]);
                // FRR shows all routes, but with the changes of policy.
                if as_path.first() == Some(&PREPENDED) {
                    as_path.remove(0);
                }
                ComparedRoute { next_hop: address(&route[next_hop]), as_path }
            });
        }
        let shown = self.ask(&format!("show bgp {family} neighbors {peer} routes json"));
        routes(&shown["routes"], |paths| ComparedRoute {
            next_hop: address(&paths[0]["nexthops"][0]["ip"]),
            as_path: path_of_words(&paths[0]["path"]),
        })
    }

    fn gobgp_table(&self, view: PeerRib, family: AfiSafi) -> NamedRoutes {
        let family = if family == IPV4 { "ipv4" } else { "ipv6" };
        let shown = match view {
            PeerRib::PrePolicy => {
                let mut adj_in = gobgp::gobgp(&self.netns, &format!("neighbor {} adj-in -a {family} -j", DAEMON.0));
                // The command fails while the peer is down.
                let answer = adj_in.output().expect("gobgp starts");
                if !answer.status.success() {
                    return NamedRoutes::new();
                }
                serde_json::from_slice(&answer.stdout).expect("GoBGP prints JSON")
            }
            _ => self.ask(&format!("global rib -a {family}")),
        };
        gobgp::routes(&shown)
    }
}

fn run(kind: RelayedKind, netns: &Netns, folder: &TempDir) -> ChildProgram {
    match kind {
        RelayedKind::Frr => frr::run(netns, folder.path(), &["-M", "bmp"]),
        RelayedKind::Gobgp => {
            let process = gobgp::run(netns, &folder.path().join(frr::CONFIGURATION));
            until("GoBGP takes commands", PATIENCE, || {
                gobgp::gobgp(netns, "neighbor").output().ok()?.status.success().then_some(())
            });
            process
        }
    }
}

fn routes(table: &Value, route: impl Fn(&Value) -> ComparedRoute) -> NamedRoutes {
    let all = table.as_object().into_iter().flatten();
    all.map(|(prefix, shown)| (prefix.clone(), route(shown))).collect()
}

fn address(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

fn path_of_words(value: &Value) -> Vec<u32> {
    value.as_str().unwrap_or_default().split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

fn frr_configuration(relay: SocketAddr) -> String {
    let ((own, own_as), (peer, peer_as)) = (BMPD, DAEMON);
    let mut text = format!(
        // The policy comes first: bgpd denies everything while a named policy does not exist.
        "hostname frr
ip prefix-list lengthened permit {LENGTHENED} le 24
route-map in permit 2
 match ip address prefix-list lengthened
 set as-path prepend {PREPENDED}
route-map in permit 3
exit
router bgp {own_as}
 bgp router-id {own}
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor {peer} remote-as {peer_as}
 neighbor {peer} timers connect 2
"
    );
    let mut monitors = String::new();
    let families = ["ipv4 unicast", "ipv6 unicast"];
    for family in &families[..if RelayedKind::Frr.accepts_ipv6() { 2 } else { 1 }] {
        let _ = write!(
            text,
            " address-family {family}
  neighbor {peer} activate
  neighbor {peer} soft-reconfiguration inbound
  neighbor {peer} route-map in in
 exit-address-family
"
        );
        for view in ["pre-policy", "post-policy"] {
            let _ = writeln!(monitors, "  bmp monitor {family} {view}");
        }
    }
    let _ = write!(
        text,
        " bmp targets lab
  bmp connect {} port {} min-retry 100 max-retry 500
{monitors}  bmp stats interval {}
  bmp mirror
 exit
exit
",
        relay.ip(),
        relay.port(),
        STATISTICS[0] * 1000,
    );
    text
}

/// Returns the configuration of a BIRD that takes bmpd's place as a BGP peer of [`DAEMON`], and
/// reports to the station or relay at `to`.
pub fn bird_reporting(to: SocketAddr) -> String {
    let ((own, own_as), (peer, peer_as)) = (BMPD, DAEMON);
    format!(
        "router id {own};
protocol device {{ }}
protocol bmp reports {{
  station address ip {} port {};
  monitoring rib in pre_policy;
}}
protocol bgp fed {{
  local {own} as {own_as};
  neighbor {peer} as {peer_as};
  connect delay time 1;
  connect retry time 2;
  error wait time 1, 4;
  ipv4 {{ import table; import all; export none; }};
}}
",
        to.ip(),
        to.port(),
    )
}

fn gobgp_configuration(relay: SocketAddr) -> String {
    let ((own, own_as), (peer, peer_as)) = (BMPD, DAEMON);
    format!(
        r#"[global.config]
as = {own_as}
router-id = "{own}"
port = 179
local-address-list = ["{own}"]
[global.apply-policy.config]
import-policy-list = ["in"]
default-import-policy = "accept-route"

[[defined-sets.prefix-sets]]
prefix-set-name = "rejected"
[[defined-sets.prefix-sets.prefix-list]]
ip-prefix = "{REJECTED}"
masklength-range = "20..24"
[[defined-sets.prefix-sets]]
prefix-set-name = "lengthened"
[[defined-sets.prefix-sets.prefix-list]]
ip-prefix = "{LENGTHENED}"
masklength-range = "16..24"

[[policy-definitions]]
name = "in"
[[policy-definitions.statements]]
name = "reject"
[policy-definitions.statements.conditions.match-prefix-set]
prefix-set = "rejected"
[policy-definitions.statements.actions]
route-disposition = "reject-route"
[[policy-definitions.statements]]
name = "lengthen"
[policy-definitions.statements.conditions.match-prefix-set]
prefix-set = "lengthened"
[policy-definitions.statements.actions]
route-disposition = "accept-route"
[policy-definitions.statements.actions.bgp-actions.set-as-path-prepend]
as = "{PREPENDED}"
repeat-n = 1

[[bmp-servers]]
[bmp-servers.config]
address = "{}"
port = {}
route-monitoring-policy = "all"
statistics-timeout = {}

[[neighbors]]
[neighbors.config]
neighbor-address = "{peer}"
peer-as = {peer_as}
[neighbors.timers.config]
connect-retry = 5
idle-hold-time-after-reset = 1
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv4-unicast"
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv6-unicast"
"#,
        relay.ip(),
        relay.port(),
        STATISTICS[1],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{peering::Peering, topology::Topology, trial::RELAY};

    #[test]
    fn each_daemon_has_its_peers_routes_and_applies_its_policy() {
        for kind in [RelayedKind::Frr, RelayedKind::Gobgp] {
            let table = kind.acceptable(&DaemonTable { ipv4: 300, ipv6: 20, ..TABLE });
            let topology = Topology::new();
            let daemon = RelayedDaemon::start(kind, &topology.router, RELAY);
            let _bird = Peering::bird(&topology.station, &table);
            let ipv4 = table.routes(IPV4);
            let tables = daemon.wait_tables(IPV4, &ipv4);
            assert_eq!(tables.len(), if kind == RelayedKind::Frr { 2 } else { 3 });
            assert_eq!(tables[0].1, ipv4);
            let after = &tables[1].1;
            assert_eq!(after.len(), ipv4.len() - if kind == RelayedKind::Frr { 0 } else { 16 });
            assert_eq!(after["10.1.5.0/24"].as_path, [&[PREPENDED], &ipv4["10.1.5.0/24"].as_path[..]].concat());
            daemon.wait_tables(IPV6, &table.routes(IPV6));
        }
    }
}
