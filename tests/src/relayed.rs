//! Somebody else's daemons that report over BMP to a relay what they have from [`crate::peering`]'s, and say themselves what that is.
//!
//! Such a daemon has the place that bmpd has where it peers with those: [`BMPD`]'s addresses and AS number.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    frr, gobgp,
    netns::Netns,
    peering::{BMPD, DAEMON, Table},
    process::Process,
    rib::{Difference, Family, IPV4, IPV6, LOC_RIB_PEER, Route, Routes, View},
    wait::{PATIENCE, patience, until},
};

/// What GoBGP's policy rejects. FRR's rejects nothing: FRR 8.4 reports what it rejects in a dump, and no change of it after that.
pub const REJECTED: &str = "10.0.0.0/20";
/// What the policy of both lengthens the path of, by [`PREPENDED`].
pub const LENGTHENED: &str = "10.1.0.0/16";
/// See [`LENGTHENED`].
pub const PREPENDED: u32 = 64_999;

/// A table that BIRD announces in a way that both daemons take: with global next hops alone, because FRR without zebra knows of no
/// interfaces, and so of no link-local addresses.
pub const TABLE: Table<'_> = Table {
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

/// How often it reports statistics, in seconds: GoBGP takes no less than 15.
const STATISTICS: [u32; 2] = [1, 15];

/// Which daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// FRR: Adj-RIB-In before and after policy.
    Frr,
    /// GoBGP: Adj-RIB-In before and after policy, and Loc-RIB.
    Gobgp,
}

/// A running daemon.
#[derive(Debug)]
pub struct Relayed {
    kind: Kind,
    netns: Netns,
    process: Process,
    folder: TempDir,
}

impl Relayed {
    /// Starts it; it peers with [`DAEMON`] and connects to `relay` on its own time.
    pub fn start(kind: Kind, netns: &Netns, relay: SocketAddr) -> Self {
        let folder = TempDir::with_prefix("lab-relayed-").expect("a temporary folder can be made");
        let configuration = match kind {
            Kind::Frr => frr_configuration(relay),
            Kind::Gobgp => gobgp_configuration(relay),
        };
        fs::write(folder.path().join(frr::CONFIGURATION), configuration).expect("a temporary file can be written");
        let process = run(kind, netns, &folder);
        Self { kind, netns: netns.clone(), process, folder }
    }

    /// The RIBs that it reports, with the peer that a station knows them by.
    pub fn views(&self) -> Vec<(IpAddr, View)> {
        let mut views = vec![(DAEMON.0, View::PrePolicy), (DAEMON.0, View::PostPolicy)];
        if self.kind == Kind::Gobgp {
            views.push((LOC_RIB_PEER, View::LocRib));
        }
        views
    }

    /// What is in one of them by its own account, of IPv4 or IPv6 unicast.
    pub fn table(&self, view: View, family: Family) -> Routes {
        match self.kind {
            Kind::Frr => self.frr_table(view, family),
            Kind::Gobgp => self.gobgp_table(view, family),
        }
    }

    /// What its policy makes of these routes.
    pub fn after_policy(&self, routes: &Routes) -> Routes {
        let rejected = |prefix: &str| match prefix.split(['.', '/']).collect::<Vec<_>>()[..] {
            ["10", "0", third, ..] => self.kind == Kind::Gobgp && third.parse().is_ok_and(|third: u8| third < 16),
            _ => false,
        };
        let changed = |(prefix, route): (&String, &Route)| {
            let mut route = route.clone();
            if prefix.starts_with("10.1.") {
                route.as_path.insert(0, PREPENDED);
            }
            (prefix.clone(), route)
        };
        routes.iter().filter(|(prefix, _)| !rejected(prefix)).map(changed).collect()
    }

    /// What a table of it is in its own reports: FRR 8.4 writes there what it would send to an external peer, with its own AS number in front.
    pub fn as_reported(&self, mut table: Routes) -> Routes {
        if self.kind == Kind::Frr {
            table.values_mut().for_each(|route| route.as_path.insert(0, BMPD.1));
        }
        table
    }

    /// Waits until it has, in all its RIBs, what these routes of its peer come to; returns each of its RIBs with what it says is in there.
    ///
    /// # Panics
    /// If that does not come, with the differences.
    pub fn wait_tables(&self, family: Family, before_policy: &Routes) -> Vec<((IpAddr, View, Family), Routes)> {
        let after_policy = self.after_policy(before_policy);
        let of = |(peer, view)| {
            let wanted = if view == View::PrePolicy { before_policy } else { &after_policy };
            let deadline = Instant::now() + patience(15 * PATIENCE);
            loop {
                let table = self.table(view, family);
                if table == *wanted {
                    return ((peer, view, family), table);
                }
                assert!(Instant::now() < deadline, "{:?} in {view:?}: {}", self.kind, Difference(&table, wanted));
                std::thread::sleep(Duration::from_millis(100));
            }
        };
        self.views().into_iter().map(of).collect()
    }

    /// What `show` commands of FRR or `gobgp` commands answer, as JSON.
    pub fn ask(&self, words: &str) -> Value {
        match self.kind {
            Kind::Frr => frr::show(&self.netns, self.folder.path(), words),
            Kind::Gobgp => gobgp::show(&self.netns, words),
        }
    }

    /// Kills it: it says nothing to anybody.
    pub fn kill(&mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.wait();
    }

    /// Starts it once more.
    pub fn start_again(&mut self) {
        self.process = run(self.kind, &self.netns, &self.folder);
    }

    fn frr_table(&self, view: View, family: Family) -> Routes {
        let (family, next_hop) =
            if family == IPV6 { ("ipv6 unicast", "nextHopGlobal") } else { ("ipv4 unicast", "nextHop") };
        let peer = DAEMON.0;
        if view == View::PrePolicy {
            let shown = self.ask(&format!("show bgp {family} neighbors {peer} received-routes json"));
            return routes(&shown["receivedRoutes"], |route| {
                let mut as_path = path_of_words(&route["path"]);
                // All routes are shown, but as policy would change them.
                if as_path.first() == Some(&PREPENDED) {
                    as_path.remove(0);
                }
                Route { next_hop: address(&route[next_hop]), as_path }
            });
        }
        let shown = self.ask(&format!("show bgp {family} neighbors {peer} routes json"));
        routes(&shown["routes"], |paths| Route {
            next_hop: address(&paths[0]["nexthops"][0]["ip"]),
            as_path: path_of_words(&paths[0]["path"]),
        })
    }

    fn gobgp_table(&self, view: View, family: Family) -> Routes {
        let family = if family == IPV4 { "ipv4" } else { "ipv6" };
        let shown = match view {
            View::PrePolicy => {
                let mut adj_in = gobgp::gobgp(&self.netns, &format!("neighbor {} adj-in -a {family} -j", DAEMON.0));
                // It fails while the peer is down.
                let answer = adj_in.output().expect("gobgp can be started");
                if !answer.status.success() {
                    return Routes::new();
                }
                serde_json::from_slice(&answer.stdout).expect("GoBGP prints JSON")
            }
            _ => self.ask(&format!("global rib -a {family}")),
        };
        gobgp::routes(&shown)
    }
}

fn run(kind: Kind, netns: &Netns, folder: &TempDir) -> Process {
    match kind {
        Kind::Frr => frr::run(netns, folder.path(), &["-M", "bmp"]),
        Kind::Gobgp => {
            let process = gobgp::run(netns, &folder.path().join(frr::CONFIGURATION));
            until("GoBGP takes commands", PATIENCE, || {
                gobgp::gobgp(netns, "neighbor").output().ok()?.status.success().then_some(())
            });
            process
        }
    }
}

fn routes(table: &Value, route: impl Fn(&Value) -> Route) -> Routes {
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
        // The policy first: one that is named before it is there denies everything for a while.
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
    for family in ["ipv4 unicast", "ipv6 unicast"] {
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
    fn each_daemon_has_the_routes_of_its_peer_and_changes_and_rejects_some() {
        let table = Table { ipv4: 300, ipv6: 20, ..TABLE };
        for kind in [Kind::Frr, Kind::Gobgp] {
            let topology = Topology::new();
            let daemon = Relayed::start(kind, &topology.router, RELAY);
            let _bird = Peering::bird(&topology.station, &table);
            let ipv4 = table.routes(IPV4);
            let tables = daemon.wait_tables(IPV4, &ipv4);
            assert_eq!(tables.len(), if kind == Kind::Frr { 2 } else { 3 });
            assert_eq!(tables[0].1, ipv4);
            let after = &tables[1].1;
            assert_eq!(after.len(), ipv4.len() - if kind == Kind::Frr { 0 } else { 16 });
            assert_eq!(after["10.1.5.0/24"].as_path, [&[PREPENDED], &ipv4["10.1.5.0/24"].as_path[..]].concat());
            daemon.wait_tables(IPV6, &table.routes(IPV6));
        }
    }
}
