use std::net::IpAddr;

use programs::Program;

use super::namespace::{PATIENCE, in_namespace, ip, sysctl};
use crate::link::{KernelRoute, RouteLookup, watch};

const LAB: &str = "
    link set lo up
    link add east type veth peer name east-far
    link add west type veth peer name west-far
    link set east up
    link set east-far up
    link set west up
    link set west-far up
    addr add 192.0.2.1/24 dev east
    addr add 198.51.100.1/24 dev west
    addr add 2001:db8:a::1/64 dev east nodad
    addr add 2001:db8:b::1/64 dev west nodad
    ";

/// Two uplinks, `east` and `west`, and lookups by name: `to("203.0.113.1", "east")`.
struct RouteLab {
    routes: RouteLookup,
}

impl RouteLab {
    async fn new(commands: &str) -> Self {
        ip(LAB);
        let (routes, mut hosts) = watch().await.unwrap();
        let lab = Self { routes };
        // IPv6 gets its connected routes after the kernel has seen the carrier, and its local
        // routes a little later.
        for (destination, device) in [("2001:db8:a::9", "east"), ("2001:db8:b::9", "west"), ("2001:db8:a::1", "")] {
            while lab.to(destination, device).await.is_none_or(|route| route.local != device.is_empty()) {
                tokio::time::timeout(PATIENCE, hosts.changed()).await.unwrap().unwrap();
            }
        }
        ip(commands);
        lab
    }

    async fn from(&self, destination: &str, device: &str, source: Option<&str>) -> Option<KernelRoute> {
        let source = source.map(|source| source.parse().unwrap());
        self.routes.route_to(destination.parse().unwrap(), index(device), source).await.unwrap()
    }

    async fn to(&self, destination: &str, device: &str) -> Option<KernelRoute> {
        self.from(destination, device, None).await
    }

    /// Looks up a route through `east`, through `west`, and through any interface.
    async fn by(&self, destination: &str) -> (bool, bool, bool) {
        let mut by = Vec::new();
        for device in ["east", "west", ""] {
            by.push(self.to(destination, device).await.is_some());
        }
        (by[0], by[1], by[2])
    }
}

fn index(device: &str) -> u32 {
    let name = std::ffi::CString::new(device).unwrap();
    // SAFETY: the name ends with a NUL and outlives the call.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

fn gateway(route: Option<KernelRoute>) -> Option<IpAddr> {
    route.expect("there is a route").gateway
}

#[test]
fn a_connected_route_leads_only_through_its_own_interface() {
    in_namespace(|| async {
        let lab = RouteLab::new("").await;
        for destination in ["192.0.2.9", "2001:db8:a::9"] {
            assert_eq!(lab.by(destination).await, (true, false, true), "{destination}");
            assert_eq!(gateway(lab.to(destination, "east").await), None);
            assert_eq!(lab.to(destination, "").await.unwrap().oif, index("east"));
        }
        assert_eq!(lab.to("192.0.2.9", "east").await.unwrap().source, Some([192, 0, 2, 1].into()));
    });
}

#[test]
fn without_a_route_the_lookup_is_none_though_linux_would_assume_on_link() {
    in_namespace(|| async {
        let lab = RouteLab::new("").await;
        for destination in ["203.0.113.1", "2001:db8:f::1"] {
            assert_eq!(lab.by(destination).await, (false, false, false), "{destination}");
        }
        assert_eq!(lab.to("203.0.113.1", "lo").await, None);
        assert_eq!(lab.routes.route_to([192, 0, 2, 9].into(), 999_999, None).await.unwrap(), None, "no such interface");
    });
}

#[test]
fn gateway_and_default_routes_lead_through_the_interface_they_name() {
    in_namespace(|| async {
        let lab = RouteLab::new(
            "route add default via 192.0.2.254
             route add default via 198.51.100.254 metric 100
             route add 203.0.113.0/25 via 198.51.100.253
             -6 route add default via 2001:db8:a::fe
             -6 route add default via 2001:db8:b::fe metric 2000
             -6 route add 2001:db8:f::/48 via 2001:db8:b::fd",
        )
        .await;
        for (destination, by_a, by_b) in [
            ("203.0.113.200", "192.0.2.254", "198.51.100.254"),
            ("203.0.113.1", "192.0.2.254", "198.51.100.253"),
            ("2001:db8:e::1", "2001:db8:a::fe", "2001:db8:b::fe"),
            ("2001:db8:f::1", "2001:db8:a::fe", "2001:db8:b::fd"),
        ] {
            assert_eq!(gateway(lab.to(destination, "east").await), Some(by_a.parse().unwrap()), "{destination} by a");
            assert_eq!(gateway(lab.to(destination, "west").await), Some(by_b.parse().unwrap()), "{destination} by b");
        }
        assert_eq!(lab.to("203.0.113.1", "").await.unwrap().oif, index("west"), "the longest match");
        assert_eq!(lab.to("203.0.113.200", "").await.unwrap().oif, index("east"), "the smallest metric");
        assert_eq!(lab.to("203.0.113.200", "").await.unwrap().table, 254);
    });
}

#[test]
fn with_a_source_the_route_must_still_lead_through_the_interface() {
    in_namespace(|| async {
        let lab = RouteLab::new(
            "route add 203.0.113.0/24 via 198.51.100.254
             -6 route add 2001:db8:f::/48 via 2001:db8:b::fe
             -6 route add default via 2001:db8:a::fe",
        )
        .await;
        assert_eq!(lab.from("203.0.113.1", "east", Some("192.0.2.1")).await, None);
        assert!(lab.from("203.0.113.1", "west", Some("192.0.2.1")).await.is_some());
        assert_eq!(lab.from("203.0.113.1", "west", Some("192.0.2.77")).await, None, "not an address of this host");
        // The longest match of IPv6 is through the other interface. A socket bound to this one
        // takes the default route.
        let by_a = lab.from("2001:db8:f::1", "east", Some("2001:db8:a::1")).await;
        assert_eq!(gateway(by_a), Some("2001:db8:a::fe".parse().unwrap()));
        assert_eq!(by_a.unwrap().oif, index("east"));
        ip("-6 route del default via 2001:db8:a::fe");
        assert_eq!(lab.from("2001:db8:f::1", "east", Some("2001:db8:a::1")).await, None);
        assert!(lab.from("2001:db8:f::1", "west", Some("2001:db8:a::1")).await.is_some());
    });
}

#[test]
fn a_multipath_route_leads_through_each_of_its_interfaces() {
    in_namespace(|| async {
        let lab = RouteLab::new(
            "link add south type veth peer name south-far
             link set south up
             route add 203.0.113.0/24 nexthop via 192.0.2.254 nexthop via 198.51.100.254
             -6 route add 2001:db8:f::/48 nexthop via 2001:db8:a::fe nexthop via 2001:db8:b::fe",
        )
        .await;
        for (destination, by_a, by_b) in
            [("203.0.113.1", "192.0.2.254", "198.51.100.254"), ("2001:db8:f::1", "2001:db8:a::fe", "2001:db8:b::fe")]
        {
            assert_eq!(gateway(lab.to(destination, "east").await), Some(by_a.parse().unwrap()));
            assert_eq!(gateway(lab.to(destination, "west").await), Some(by_b.parse().unwrap()));
            assert_eq!(lab.to(destination, "south").await, None);
            assert!(lab.to(destination, "").await.is_some());
        }
    });
}

#[test]
fn routes_through_nexthop_objects_are_found_in_both_compat_modes() {
    in_namespace(|| async {
        let lab = RouteLab::new(
            "nexthop add id 1 via 192.0.2.254 dev east
             nexthop add id 2 via 198.51.100.254 dev west
             nexthop add id 3 group 1/2
             nexthop add id 4 blackhole
             nexthop add id 6 via 2001:db8:a::fe dev east
             route add 203.0.113.0/26 nhid 1
             route add 203.0.113.64/26 nhid 3
             route add 203.0.113.128/26 nhid 4
             -6 route add 2001:db8:f::/48 nhid 6",
        )
        .await;
        for compatible in ["1", "0"] {
            sysctl("ipv4/nexthop_compat_mode", compatible);
            assert_eq!(lab.by("203.0.113.1").await, (true, false, true), "{compatible}");
            assert_eq!(lab.by("203.0.113.65").await, (true, true, true), "{compatible}");
            assert_eq!(lab.by("203.0.113.129").await, (false, false, false), "{compatible}");
            assert_eq!(lab.by("2001:db8:f::1").await, (true, false, true), "{compatible}");
            assert!(lab.from("2001:db8:f::1", "east", Some("2001:db8:b::1")).await.is_some(), "{compatible}");
            assert_eq!(lab.from("2001:db8:f::1", "west", Some("2001:db8:b::1")).await, None, "{compatible}");
        }
    });
}

#[test]
fn blackhole_unreachable_prohibit_and_throw_are_no_routes() {
    in_namespace(|| async {
        let lab = RouteLab::new(
            "route add default via 192.0.2.254
             -6 route add default via 2001:db8:a::fe
             route add blackhole 203.0.113.0/26
             route add unreachable 203.0.113.64/26
             route add prohibit 203.0.113.128/26
             route add throw 203.0.113.192/26
             -6 route add blackhole 2001:db8:f0::/48
             -6 route add unreachable 2001:db8:f1::/48
             -6 route add prohibit 2001:db8:f2::/48",
        )
        .await;
        for destination in ["203.0.113.1", "203.0.113.65", "203.0.113.129", "203.0.113.193"] {
            assert_eq!(lab.by(destination).await, (false, false, false), "{destination}");
        }
        for destination in ["2001:db8:f0::1", "2001:db8:f1::1", "2001:db8:f2::1"] {
            assert_eq!(lab.to(destination, "").await, None, "{destination}");
            assert_eq!(lab.to(destination, "west").await, None, "{destination}");
        }
        assert!(lab.to("192.0.2.77", "east").await.is_some());
    });
}

#[test]
fn a_route_in_another_table_is_found_if_a_rule_selects_the_table() {
    in_namespace(|| async {
        let lab = RouteLab::new(
            "route add 203.0.113.0/24 via 198.51.100.254 table 100
             -6 route add 2001:db8:f::/48 via 2001:db8:b::fe table 100",
        )
        .await;
        assert_eq!(lab.by("203.0.113.1").await, (false, false, false));
        ip("rule add from 192.0.2.1 table 100\n -6 rule add from 2001:db8:a::1 table 100");
        for (destination, source) in [("203.0.113.1", "192.0.2.1"), ("2001:db8:f::1", "2001:db8:a::1")] {
            assert_eq!(lab.from(destination, "west", Some(source)).await.unwrap().table, 100);
            assert_eq!(lab.from(destination, "east", Some(source)).await, None);
            assert_eq!(lab.to(destination, "west").await, None, "the rule is for that source only");
        }
        ip("rule add oif west table 100\n -6 rule add oif west table 100");
        for destination in ["203.0.113.1", "2001:db8:f::1"] {
            assert!(lab.to(destination, "west").await.is_some());
            assert_eq!(lab.to(destination, "").await, None);
        }
        ip("rule add to 203.0.113.0/24 blackhole pref 10\n -6 rule add to 2001:db8:f::/48 blackhole pref 10");
        assert_eq!(lab.to("203.0.113.1", "west").await, None);
        assert_eq!(lab.to("2001:db8:f::1", "west").await, None);
    });
}

#[test]
fn own_addresses_are_reachable_only_through_the_loopback_interface() {
    in_namespace(|| async {
        let lab = RouteLab::new("").await;
        for destination in ["127.0.0.1", "127.0.0.2", "::1"] {
            assert!(lab.to(destination, "").await.unwrap().local, "{destination}");
            assert!(lab.to(destination, "lo").await.unwrap().local, "{destination}");
            assert_eq!(lab.to(destination, "east").await, None, "{destination}");
        }
        for destination in ["192.0.2.1", "2001:db8:a::1"] {
            assert!(lab.to(destination, "").await.unwrap().local, "{destination}");
            assert_eq!(lab.to(destination, "east").await, None, "{destination}");
        }
        assert_eq!(lab.to("192.0.2.255", "east").await, None, "east broadcast address");
        assert_eq!(lab.to("224.0.0.1", "east").await, None, "east multicast address");
    });
}

#[test]
fn lookups_may_be_dropped_and_may_run_concurrently() {
    in_namespace(|| async {
        let lab = RouteLab::new("route add 203.0.113.0/24 via 192.0.2.254").await;
        let there: IpAddr = [203, 0, 113, 1].into();
        let nowhere: IpAddr = [10, 9, 8, 7].into();
        let ask = |destination| {
            let routes = lab.routes.clone();
            async move { routes.route_to(destination, 0, None).await.unwrap().is_some() }
        };
        for round in 0..200 {
            // Dropped after as many polls as the round number says.
            let mut question = Box::pin(ask(nowhere));
            for _ in 0..round % 4 {
                if futures_util::poll!(question.as_mut()).is_ready() {
                    break;
                }
            }
            drop(question);
            assert_eq!(
                futures_util::future::join4(ask(there), ask(nowhere), ask(there), ask(nowhere)).await,
                (true, false, true, false)
            );
        }
    });
}

/// The neighbours of an interface as `ip neigh show` prints them, in order.
fn neighbours(device: &str) -> Vec<String> {
    let output = Program::Ip.command().args(["neigh", "show", "dev", device]).output().unwrap();
    let mut lines: Vec<_> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| line.trim().to_owned()).collect();
    lines.retain(|line| !line.starts_with("ff02:") && !line.starts_with("fe80:"));
    lines.sort();
    lines
}

#[test]
fn only_unanswered_neighbours_are_forgotten() {
    in_namespace(|| async {
        let lab = RouteLab::new(
            "neigh add 192.0.2.8 lladdr 02:00:00:00:00:08 dev east nud permanent
             neigh add 2001:db8:a::8 lladdr 02:00:00:00:00:08 dev east nud permanent",
        )
        .await;
        let socket = std::net::UdpSocket::bind("[::]:0").unwrap();
        for silent in ["[::ffff:192.0.2.9]:9", "[2001:db8:a::9]:9", "[::ffff:198.51.100.9]:9"] {
            socket.send_to(&[0], silent).unwrap();
        }
        let answered =
            ["192.0.2.8 lladdr 02:00:00:00:00:08 PERMANENT", "2001:db8:a::8 lladdr 02:00:00:00:00:08 PERMANENT"];
        assert_eq!(neighbours("east").len(), 4);
        lab.routes.ask_neighbours_anew(index("east")).await.unwrap();
        assert_eq!(neighbours("east"), answered);
        assert_eq!(neighbours("west").len(), 1);
        // Succeeds whether or not there is a neighbour to forget.
        lab.routes.ask_neighbours_anew(index("east")).await.unwrap();
        assert_eq!(neighbours("east"), answered);
    });
}
