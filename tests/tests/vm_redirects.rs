//! ICMP redirects in a VRF. For IPv4, one that takes a session's packets from its next hop to
//! another router takes the session down, as in the default VRF. For an IPv6 one, the kernel finds
//! no session's socket.

use std::net::IpAddr;

use lab::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    bmpd::{Bmpd, number},
    capture::{CapturedPacket, LinkCapture},
    devices::{VRF_TABLE, vrf},
    feeder::BmpFeeder,
    netns::Netns,
    redirect::IcmpRedirect,
    station::TestStation,
    topology::{ROUTE_BY_UP2, STATION, STATION_PORT, STATION_V6, Topology, UP2},
    trial::{RELAY, outgoing, strays},
    wait::{PATIENCE, until},
};
use serde_json::Value;

/// The first mark that bmpd uses.
const MARK: u32 = 0x626d_0001;

/// A bmpd with one session in the VRF `mgmt`, which `up2` is in and whose table has no route to the
/// station.
struct RedirectTrial {
    bmpd: Bmpd,
    station: TestStation,
    up1: LinkCapture,
    up2: LinkCapture,
    topology: Topology,
}

impl RedirectTrial {
    /// Starts the session by `next_hop`, and waits until it is up.
    fn start(address: IpAddr, next_hop: &str) -> Self {
        let topology = Topology::without_offload();
        vrf(&topology, "mgmt");
        topology.router.ip(&format!(
            "route del {ROUTE_BY_UP2} table {VRF_TABLE}
             route del 2001:db8:7::/64 via 2001:db8:2::2 dev up2 metric 20 table {VRF_TABLE}"
        ));
        let [up1, up2] = ["up1", "up2"].map(|link| LinkCapture::start(&topology.router, link, STATION_PORT));
        let station = TestStation::start(&topology.station, (address, STATION_PORT));
        let configuration = format!(
            "bmp-relay lab\n listen {} port {}\nbmp\n bmp-session vpn-instance mgmt {address}\n  tcp connect port {STATION_PORT}\n  \
             connect-interface up2\n  next-hop {next_hop}\n",
            RELAY.ip(),
            RELAY.port()
        );
        let bmpd = Bmpd::start(&topology.router, &configuration);
        bmpd.wait_up(address);
        station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
        Self { bmpd, station, up1, up2, topology }
    }

    fn address(&self) -> IpAddr {
        self.station.address().ip()
    }

    fn feed(&self) {
        let mut feeder = BmpFeeder::with_peer(&self.topology.router, RELAY, &ReportedPeer::default());
        feeder.announce(&ReportedPeer::default(), &prefixes(1), 1);
    }

    /// Has the router on the link redirect the session's packets while `interface` accepts
    /// redirects. Asserts that the session goes down with the mend, and returns after the mend.
    fn is_taken_down(&self, sent: IcmpRedirect, accepts: &[&str], mend: &str) {
        let router = &self.topology.router;
        accepts.iter().for_each(|name| router.sysctl(name, "1"));
        sent.heeded(&self.topology.station, "dn2", STATION_PORT, || {
            self.feed();
            let session = self.bmpd.wait_down(self.address(), "next-hop-overruled");
            let IcmpRedirect { router, better, .. } = sent;
            let reason = format!(
                "an ICMP redirect takes the session's packets to {better}, and not to next hop {router} by up2"
            );
            assert_eq!(session["detail"], reason);
            assert_eq!(session["mend"], mend);
        });
        for setting in mend.strip_prefix("sysctl ").expect("the mend is a command of sysctl").split(' ') {
            let (name, value) = setting.split_once('=').expect("a setting has a value");
            router.sysctl(&name.replace('.', "/"), value);
        }
        self.bmpd.wait_up(self.address());
        self.is_counted();
    }

    /// Asserts that what left by `up2` is counted, and that nothing left by `up1`. The last
    /// acknowledgement of a closed connection belongs to no socket and is not counted.
    fn is_counted(&self) {
        let (session, packets): (Value, Vec<CapturedPacket>) = until("bmpd and capture are at rest", PATIENCE, || {
            let before = self.up2.packets();
            let session = self.bmpd.session(self.address());
            (self.up2.count() == before.len()).then_some((session, before))
        });
        let left = outgoing(&packets).len() as u64;
        let is_last = |at: usize, packet: &CapturedPacket| {
            let is_bare = packet.payload_bytes == 0 && !packet.syn && !packet.fin && !packet.rst;
            is_bare && packets[..at].iter().any(|earlier| earlier.fin && earlier.source == packet.source)
        };
        let last = packets.iter().enumerate().filter(|(at, packet)| is_last(*at, packet)).count() as u64;
        let counted = number(&session["kernel"]["tx_packets"]);
        assert!((left - last..=left).contains(&counted), "{counted} of {left}, {last} of them last: {session:#}");
        assert_eq!(strays(&self.up1.packets()), Vec::<&CapturedPacket>::new());
    }
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn an_icmp_redirect_in_a_vrf_takes_the_session_down_until_it_is_flushed() {
    let trial = RedirectTrial::start(STATION, "192.0.2.66");
    trial.topology.station.ip("addr add 192.0.2.67/26 dev dn2");
    let [router, better] = [[192, 0, 2, 66], [192, 0, 2, 67]].map(IpAddr::from);
    let mend =
        "sysctl net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.mgmt.accept_redirects=0 net.ipv4.route.flush=1";
    let accepts = ["net/ipv4/conf/all/accept_redirects", "net/ipv4/conf/mgmt/accept_redirects"];
    trial.is_taken_down(IcmpRedirect { router, neighbour: UP2, better }, &accepts, mend);
}

/// Returns how many ICMPv6 redirects a host has received.
fn redirects_received(host: &Netns) -> u64 {
    let counters =
        host.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp6").expect("the kernel counts ICMPv6"));
    let line = counters.lines().find_map(|line| line.strip_prefix("Icmp6InRedirects"));
    line.and_then(|count| count.trim().parse().ok()).expect("the kernel counts redirects")
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn an_icmpv6_redirect_in_a_vrf_leaves_the_session_with_its_next_hop() {
    let trial = RedirectTrial::start(STATION_V6, "fe80::2");
    let host = &trial.topology.router;
    trial.topology.station.ip("addr add fe80::3/64 dev dn2 nodad");
    let [router, neighbour, better] = ["fe80::2", "fe80::1", "fe80::3"].map(|text| text.parse().expect("an address"));
    host.sysctl("net/ipv6/conf/up2/accept_redirects", "1");
    IcmpRedirect { router, neighbour, better }.heeded(&trial.topology.station, "dn2", STATION_PORT, || {
        trial.feed();
        until("three redirects have come", PATIENCE, || (redirects_received(host) >= 3).then_some(()));
    });
    let used = host.ip_show(&format!("-6 route get {STATION_V6} oif mgmt mark {MARK:#x}"));
    assert!(used.contains(" via fe80::2 "), "{used}");
    trial.station.wait_connection(0, "the route", |c| c.announced() == 1);
    let session = trial.bmpd.session(STATION_V6);
    assert_eq!((&session["state"], &session["established_count"]), (&"up".into(), &1.into()), "{session:#}");
    trial.is_counted();
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn a_commit_warns_where_the_vrf_device_accepts_redirects() {
    let trial = RedirectTrial::start(STATION, "192.0.2.66");
    let router = &trial.topology.router;
    router.sysctl("net/ipv4/conf/all/accept_redirects", "0");
    // An IPv4 packet in a VRF seems to come in by the VRF device: the port's setting has no effect.
    router.sysctl("net/ipv4/conf/up2/accept_redirects", "1");
    let commit = |next_hop: &str| {
        let session = format!("bmp\nbmp-session vpn-instance mgmt {STATION}\nnext-hop {next_hop}");
        trial.bmpd.commit_lines(&session)
    };
    for (accepted, next_hop) in [("1", "192.0.2.67"), ("0", "192.0.2.66")] {
        router.sysctl("net/ipv4/conf/mgmt/accept_redirects", accepted);
        router.sysctl("net/ipv4/conf/mgmt/forwarding", "0");
        let answer = commit(next_hop);
        assert_eq!(answer.contains("ICMP redirects are accepted on interface mgmt"), accepted == "1", "{answer}");
    }
}
