//! `next-hop`: routing of a session by itself, where the routing tables lead elsewhere or nowhere.

use std::{
    io::Write as _,
    net::IpAddr,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

use lab::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    bmpd::{Bmpd, StartOptions, number},
    capture::{CapturedPacket, PacketDirection, sum},
    netns::Netns,
    redirect::IcmpRedirect,
    sockets::{ForeignSocket, send_all},
    station::TestStation,
    topology::{LOOPBACK, ROUTE_BY_UP2, STATION, STATION_2, STATION_PORT, STATION_V6, Topology, UP2, UP2_V6},
    trial::{LabTrial, TrialPlan, assert_left_only_by, outgoing, strays},
    wait::{PATIENCE, until},
};
use programs::Program;
use socket2::SockRef;

/// Longer than the kernel needs to announce a change, and far shorter than a grown back-off.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Patience for the removal of rules and routes, which stay for ten seconds after their session,
/// for its last packets.
const LINGER: Duration = Duration::from_secs(20);

const BY_UP2: &str = "connect-interface up2\n  next-hop 192.0.2.66";

/// The first mark that bmpd uses, which is also the number of its table.
const MARK: u32 = 0x626d_0001;

/// Lists bmpd's rules and routes on a host.
fn private(host: &Netns) -> Vec<String> {
    let commands = ["-4 rule show", "-6 rule show", "-4 route show table all", "-6 route show table all"];
    let shown = commands.map(|command| host.ip_show(command));
    let lines = shown.iter().flat_map(|text| text.lines()).filter(|line| line.contains("proto 98"));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Asserts that there are exactly the entries of one session: a rule, one that refuses what the
/// table has no route for, and a route by the next hop.
fn assert_private(host: &Netns, mark: u32, next_hop: &str) {
    let now = private(host);
    assert_eq!(now.len(), 3, "{now:#?}");
    assert_eq!(now[0], format!("900: from all fwmark {mark:#x} lookup {mark} proto 98"));
    assert_eq!(now[1], format!("901: from all fwmark {mark:#x} unreachable proto 98"));
    assert!(now[2].starts_with(&format!("default via {next_hop} dev up2 table {mark} ")), "{now:#?}");
}

fn wait_nothing_private(host: &Netns) {
    until("rules and tables are removed", LINGER, || private(host).is_empty().then_some(()));
}

/// Makes a topology in which `up2` has no route to the station.
fn without_a_route_by_uplink2() -> Topology {
    let topology = Topology::without_offload();
    topology
        .router
        .ip(&format!("route del {ROUTE_BY_UP2}\nroute del 2001:db8:7::/64 via 2001:db8:2::2 dev up2 metric 20"));
    topology
}

fn start(plan: &TrialPlan<'_>) -> LabTrial {
    let trial = plan.start_on(without_a_route_by_uplink2());
    trial.bmpd.wait_up(plan.station);
    trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    trial
}

/// Asserts that connection 0 of the station came from `source` by `up2` alone, and was counted to
/// the byte.
fn leaves_by_uplink2(trial: &LabTrial, source: IpAddr) {
    let connection = trial.routes_arrive(&mut trial.feeder(), 200, 0);
    assert_eq!(connection.peer.ip(), source);
    assert_left_only_by(&trial.up2, &trial.up1, &connection);
    let (session, packets) = trial.at_rest(&trial.up2);
    let left = sum(&packets, |p| p.direction == PacketDirection::Out && p.source == connection.peer);
    let kernel = &session["kernel"];
    assert_eq!((number(&kernel["tx_bytes"]), number(&kernel["tx_packets"])), left, "{session:#}");
    assert_eq!(kernel["denied"]["interface"], 0);
}

#[test]
fn a_next_hop_replaces_a_missing_route_to_the_station() {
    let trial = TrialPlan::session("connect-interface up2").start_on(without_a_route_by_uplink2());
    trial.bmpd.wait_down(STATION, "no-route");
    trial.bmpd.reload(&TrialPlan::session(BY_UP2).configuration());
    trial.bmpd.wait_session_for(STATION, "up", AT_ONCE, |session| session["state"] == "up");
    leaves_by_uplink2(&trial, UP2);
    assert_private(&trial.topology.router, MARK, "192.0.2.66");
    let binding = trial.bmpd.display("display interface-binding");
    assert!(binding.contains("192.0.2.66 by up2"), "{binding}");
}

#[test]
fn an_ipv6_session_is_routed_by_its_next_hop() {
    for next_hop in ["2001:db8:2::2", "fe80::2"] {
        let session = format!("connect-interface up2\n  next-hop {next_hop}");
        let trial = start(&TrialPlan { station: STATION_V6, ..TrialPlan::session(&session) });
        leaves_by_uplink2(&trial, UP2_V6);
        assert_private(&trial.topology.router, MARK, next_hop);
    }
}

#[test]
fn replies_may_come_back_by_another_interface() {
    let topology = without_a_route_by_uplink2();
    topology.station.ip("route add 192.0.2.65/32 via 192.0.2.1 dev dn1");
    let trial = TrialPlan::session(BY_UP2).start_on(topology);
    trial.bmpd.wait_up(STATION);
    leaves_by_uplink2(&trial, UP2);
    let came_in = |packets: Vec<CapturedPacket>| packets.iter().filter(|p| p.direction == PacketDirection::In).count();
    assert_eq!(came_in(trial.up2.packets()), 0);
    assert!(came_in(trial.up1.packets()) > 0);
}

#[test]
fn a_lent_address_leaves_by_the_link_of_the_next_hop() {
    for form in ["connect-interface lo", "connect-interface 203.0.113.1"] {
        let session = format!("{form}\n  next-hop 192.0.2.66");
        let trial = start(&TrialPlan::session(&session));
        leaves_by_uplink2(&trial, LOOPBACK);
    }
}

#[test]
fn a_lent_address_never_falls_through_to_the_main_table() {
    let trial = start(&TrialPlan::session("connect-interface lo\n  next-hop 192.0.2.66"));
    trial.topology.carrier_down("up2");
    trial.bmpd.wait_down(STATION, "no-route");
    // A foreign process is not diverted either.
    assert!(ForeignSocket::default().connect(&trial.topology.router, trial.station.address()).is_err());
    trial.topology.carrier_up("up2");
    trial.bmpd.wait_session_for(STATION, "up", AT_ONCE, |session| session["state"] == "up");
    let again = trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(again.peer.ip(), LOOPBACK);
    assert_eq!(strays(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}

#[test]
fn a_foreign_process_is_routed_as_the_session_is() {
    for device in [None, Some("up2")] {
        let trial = start(&TrialPlan::session(BY_UP2));
        let foreign = ForeignSocket { source: None, device };
        let stream = foreign.connect(&trial.topology.router, trial.station.address()).expect("the pin routes it");
        let mut messages = vec![bmp::initiation("foreign"), bmp::peer_up(&ReportedPeer::default())];
        messages.extend(bmp::announcements(&ReportedPeer::default(), &prefixes(100), 1));
        send_all(stream, &messages);
        let connection = trial.station.wait_connection(1, "its end", |c| c.announced() == 100 && c.end.is_some());
        assert_eq!(connection.peer.ip(), UP2);
        assert_left_only_by(&trial.up2, &trial.up1, &connection);
        let session = trial.bmpd.session(STATION);
        assert!(number(&session["kernel"]["foreign"]["tx_bytes"]) > connection.bytes, "{session:#}");
    }
}

#[test]
fn a_next_hop_works_without_kernel_programs() {
    let options = StartOptions { arguments: &["--datapath", "socket"], through: &[] };
    let trial = start(&TrialPlan { options, ..TrialPlan::session(BY_UP2) });
    let connection = trial.routes_arrive(&mut trial.feeder(), 20, 0);
    assert_eq!(connection.peer.ip(), UP2);
    assert_left_only_by(&trial.up2, &trial.up1, &connection);
    let router = trial.topology.router.clone();
    trial.bmpd.terminate();
    assert_eq!(private(&router), Vec::<String>::new());
}

#[test]
fn changing_the_next_hop_changes_the_table_and_removing_it_removes_it() {
    let trial = start(&TrialPlan::session(BY_UP2));
    let router = &trial.topology.router;
    // A second router on the same link.
    trial.topology.station.ip("addr add 192.0.2.67/26 dev dn2");
    let other = BY_UP2.replace(".66", ".67");
    trial.bmpd.reload(&TrialPlan::session(&other).configuration());
    trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    let both = private(router);
    assert!(both.iter().any(|line| line.contains("via 192.0.2.66")), "the old table is gone too early: {both:#?}");
    until("the old table is removed", LINGER, || (private(router).len() == 3).then_some(()));
    assert_private(router, MARK + 1, "192.0.2.67");
    // The farewell of the first connection has left by the old next hop.
    assert!(trial.station.connections()[0].end.is_some());

    trial.bmpd.reload(&TrialPlan::session("connect-interface up2").configuration());
    trial.bmpd.wait_down(STATION, "no-route");
    wait_nothing_private(router);
    assert_eq!(strays(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}

#[test]
fn rules_and_routes_go_with_their_session() {
    let trial = start(&TrialPlan::session(BY_UP2));
    trial.bmpd.reload("bmp\n");
    trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    wait_nothing_private(&trial.topology.router);
}

#[test]
fn sigterm_removes_rules_and_routes_unless_persist_is_configured() {
    for persist in [false, true] {
        let plan = TrialPlan { bmp: if persist { " persist" } else { "" }, ..TrialPlan::session(BY_UP2) };
        let trial = start(&plan);
        let setup = trial.bmpd.terminate();
        let router = &trial.topology.router;
        assert_eq!(!private(router).is_empty(), persist);
        if persist {
            let foreign = ForeignSocket::default().connect(router, trial.station.address());
            assert!(foreign.is_ok(), "the remaining rules do not route: {foreign:?}");
            let answer = setup.detach();
            assert!(answer.status.success());
            assert_eq!(private(router), Vec::<String>::new(), "{}", String::from_utf8_lossy(&answer.stdout));
        }
    }
}

#[test]
fn after_a_crash_rules_and_routes_are_taken_over_or_removed() {
    let trial = start(&TrialPlan::session(BY_UP2));
    let router = trial.topology.router.clone();
    let setup = trial.bmpd.crash();
    assert_private(&router, MARK, "192.0.2.66");
    let bmpd = Bmpd::start_in(setup, &StartOptions::default());
    bmpd.wait_up(STATION);
    trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    assert_private(&router, MARK, "192.0.2.66");
    assert!(number(&bmpd.session(STATION)["kernel"]["tx_packets"]) > 6, "the counters did not go on");

    let setup = bmpd.crash();
    std::fs::write(setup.file(), "bmp\n").expect("the file is writable");
    let bmpd = Bmpd::start_in(setup, &StartOptions::default());
    wait_nothing_private(&router);
    drop(bmpd);
    assert_eq!(strays(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}

#[test]
fn rules_and_routes_of_another_bmpd_stay() {
    let trial = start(&TrialPlan::session(BY_UP2));
    let router = &trial.topology.router;
    let station = TestStation::start(&trial.topology.station, (STATION_2, STATION_PORT));
    let second = format!("bmp\n bmp-session {STATION_2}\n  tcp connect port {STATION_PORT}\n  {BY_UP2}\n");
    let second = Bmpd::start(router, &second);
    second.wait_up(STATION_2);
    station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(private(router).len(), 6);
    let setup = second.terminate();
    assert_private(router, MARK, "192.0.2.66");
    setup.detach();
    assert_private(router, MARK, "192.0.2.66");
}

/// Takes the abstract socket name of the first mark, as any user can. The name once decided who
/// owns the mark.
fn squat(router: &Netns) -> UnixDatagram {
    router.enter_unprivileged(|| {
        let name = SocketAddr::from_abstract_name(format!("bmpd-next-hop-{MARK:08x}")).expect("the name is short");
        UnixDatagram::bind_addr(&name).expect("the name is free")
    })
}

#[test]
fn an_unprivileged_user_can_neither_take_a_mark_nor_keep_it() {
    let topology = without_a_route_by_uplink2();
    let _squatter = squat(&topology.router);
    let trial = TrialPlan::session(BY_UP2).start_on(topology);
    trial.bmpd.wait_up(STATION);
    let router = &trial.topology.router;
    assert_private(router, MARK, "192.0.2.66");
    let setup = trial.bmpd.crash();
    std::fs::write(setup.file(), "bmp\n").expect("the file is writable");
    let _bmpd = Bmpd::start_in(setup, &StartOptions::default());
    wait_nothing_private(router);
}

#[test]
fn removed_rules_and_routes_are_restored() {
    let trial = start(&TrialPlan::session(BY_UP2));
    let router = &trial.topology.router;
    let table = format!("route flush table {MARK}");
    for damage in ["rule del priority 900", &table, &format!("rule del priority 900\n{table}")] {
        router.ip(damage);
        until("rule and table are back", PATIENCE, || (private(router).len() == 3).then_some(()));
        assert_private(router, MARK, "192.0.2.66");
    }
    trial.routes_arrive(&mut trial.feeder(), 20, 0);
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}

#[test]
fn a_mark_in_another_rule_is_not_used() {
    let topology = without_a_route_by_uplink2();
    topology.router.ip(&format!("rule add fwmark {MARK:#x} lookup 7 priority 100"));
    let trial = TrialPlan::session(BY_UP2).start_on(topology);
    trial.bmpd.wait_up(STATION);
    assert_private(&trial.topology.router, MARK + 1, "192.0.2.66");
}

/// Runs a command of ip(8) with a family option, which a batch does not accept.
fn ip(host: &Netns, command: &str) {
    let output = host.command(Program::Ip).args(command.split_whitespace()).output().expect("ip starts");
    assert!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Adds a rule that sends the session's packets to another router on the same link. Checks the
/// reason, and applies the displayed mend.
fn overrule(trial: &LabTrial, rule: &str, router: &str, reason: &str) {
    let host = &trial.topology.router;
    let station = trial.station.address().ip();
    let family = if station.is_ipv4() { "-4" } else { "-6" };
    ip(host, &format!("{family} route add default via {router} dev up2 table 77"));
    ip(host, &format!("{family} rule add {rule} lookup 77"));
    let session = trial.bmpd.wait_down(station, "next-hop-overruled");
    assert_eq!(session["detail"], reason);
    let mend = session["mend"].as_str().expect("the display has a mend");
    // bmpd keeps the mark meanwhile, instead of adding and removing it again and again.
    assert_eq!(private(host).len(), 3);
    assert!(ForeignSocket::default().connect(host, trial.station.address()).is_err(), "a foreign process was diverted");
    ip(host, mend.strip_prefix("ip ").expect("the mend is a command of ip"));
    ip(host, &format!("{family} route flush table 77"));
    trial.bmpd.wait_up(station);
}

#[test]
fn an_earlier_rule_takes_the_session_down_and_is_named() {
    let trial = start(&TrialPlan::session(BY_UP2));
    trial.topology.station.ip("addr add 192.0.2.67/26 dev dn2");
    let reason = "rule 100, which comes before rule 900 of bmpd, takes the session's packets to 192.0.2.67 by up2, and not to next \
                  hop 192.0.2.66 by up2";
    overrule(&trial, "priority 100 to 198.51.100.0/24", "192.0.2.67", reason);
    let by_port = format!("priority 100 ipproto tcp dport {STATION_PORT}");
    overrule(&trial, &by_port, "192.0.2.67", reason);
    assert_private(&trial.topology.router, MARK, "192.0.2.66");
}

#[test]
fn an_earlier_rule_takes_an_ipv6_session_down_and_is_named() {
    let session = "connect-interface up2\n  next-hop 2001:db8:2::2";
    let trial = start(&TrialPlan { station: STATION_V6, ..TrialPlan::session(session) });
    trial.topology.station.ip("addr add 2001:db8:2::3/64 dev dn2 nodad");
    let reason = "rule 100, which comes before rule 900 of bmpd, takes the session's packets to 2001:db8:2::3 by up2, and not to \
                  next hop 2001:db8:2::2 by up2";
    overrule(&trial, "priority 100", "2001:db8:2::3", reason);
}

#[test]
fn an_ipv6_session_is_up_as_soon_as_its_next_hop_answers() {
    let topology = without_a_route_by_uplink2();
    topology.station.ip("addr del 2001:db8:2::2/64 dev dn2");
    let session = "connect-interface up2\n  next-hop 2001:db8:2::2";
    let trial = TrialPlan { station: STATION_V6, ..TrialPlan::session(session) }.start_on(topology);
    // The kernel holds the next hop for failed.
    let session = trial.bmpd.wait_down(STATION_V6, "no-route");
    assert!(session["detail"].as_str().is_some_and(|detail| detail.contains("No route to host")), "{session:#}");
    trial.topology.station.ip("addr add 2001:db8:2::2/64 dev dn2 nodad");
    trial.bmpd.wait_up(STATION_V6);
    // The first SYN was counted, and waited for the next hop in vain: counts are not compared.
    let connection = trial.routes_arrive(&mut trial.feeder(), 200, 0);
    assert_left_only_by(&trial.up2, &trial.up1, &connection);
}

#[test]
fn a_discarding_rule_or_a_foreign_route_in_the_table_is_named() {
    let trial = start(&TrialPlan::session(BY_UP2));
    let router = &trial.topology.router;
    router.ip("rule add priority 50 to 198.51.100.7 prohibit");
    let session = trial.bmpd.wait_down(STATION, "next-hop-overruled");
    assert_eq!(session["mend"], "ip rule del priority 50");
    router.ip("rule del priority 50");
    trial.bmpd.wait_up(STATION);

    trial.topology.station.ip("addr add 192.0.2.67/26 dev dn2");
    router.ip(&format!("route add 198.51.100.7 via 192.0.2.67 dev up2 table {MARK}"));
    let session = trial.bmpd.wait_down(STATION, "next-hop-overruled");
    assert_eq!(session["mend"], format!("ip route show table {MARK}"));
    router.ip(&format!("route del 198.51.100.7 table {MARK}"));
    trial.bmpd.wait_up(STATION);
}

#[test]
fn an_unrelated_or_later_rule_changes_nothing() {
    let trial = start(&TrialPlan::session(BY_UP2));
    let router = &trial.topology.router;
    router.ip("rule add priority 100 to 203.0.113.99 prohibit
         rule add priority 901 to 198.51.100.7 prohibit");
    // When the route is back, bmpd has seen the rules.
    router.ip(&format!("route flush table {MARK}"));
    until("the route is put back", PATIENCE, || (private(router).len() == 3).then_some(()));
    trial.routes_arrive(&mut trial.feeder(), 20, 0);
    let session = trial.bmpd.session(STATION);
    assert_eq!((&session["state"], &session["established_count"]), (&"up".into(), &1.into()), "{session:#}");
}

/// Sets whether the host accepts redirects on `up2` and on all interfaces.
fn accept_redirects(host: &Netns, value: &str) {
    for scope in ["ipv4/conf/all", "ipv4/conf/up2", "ipv6/conf/up2"] {
        host.sysctl(&format!("net/{scope}/accept_redirects"), value);
    }
}

fn a_redirect_takes_it_down(trial: &LabTrial, sent: IcmpRedirect, mend: &str) {
    let station = trial.station.address().ip();
    let host = &trial.topology.router;
    accept_redirects(host, "1");
    sent.heeded(&trial.topology.station, "dn2", STATION_PORT, || {
        // A daemon that is gone at once would be refused as nobody's.
        let mut feeder = trial.feeder();
        feeder.announce(&ReportedPeer::default(), &prefixes(1), 1);
        let session = trial.bmpd.wait_down(station, "next-hop-overruled");
        let IcmpRedirect { router, better, .. } = sent;
        let reason =
            format!("an ICMP redirect takes the session's packets to {better}, and not to next hop {router} by up2");
        assert_eq!(session["detail"], reason);
        assert_eq!(session["mend"], mend);
    });
    assert!(ForeignSocket::default().connect(host, trial.station.address()).is_err(), "a foreign process was diverted");
    accept_redirects(host, "0");
    let family = if station.is_ipv4() { "ipv4" } else { "ipv6" };
    host.sysctl(&format!("net/{family}/route/flush"), "1");
    trial.bmpd.wait_up(station);
}

#[test]
fn an_icmp_redirect_to_another_router_takes_the_session_down_until_it_is_flushed() {
    let trial = start(&TrialPlan::session(BY_UP2));
    trial.topology.station.ip("addr add 192.0.2.67/26 dev dn2");
    let [router, better] = [[192, 0, 2, 66], [192, 0, 2, 67]].map(IpAddr::from);
    let mend =
        "sysctl net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.up2.accept_redirects=0 net.ipv4.route.flush=1";
    a_redirect_takes_it_down(&trial, IcmpRedirect { router, neighbour: UP2, better }, mend);
}

#[test]
fn an_icmpv6_redirect_takes_the_session_down_until_it_is_flushed() {
    let plan = TrialPlan::session("connect-interface up2\n  next-hop fe80::2");
    let trial = start(&TrialPlan { station: STATION_V6, ..plan });
    trial.topology.station.ip("addr add fe80::3/64 dev dn2 nodad");
    let [router, neighbour, better] = ["fe80::2", "fe80::1", "fe80::3"].map(|text| text.parse().expect("an address"));
    let mend = "sysctl net.ipv6.conf.up2.accept_redirects=0 net.ipv6.route.flush=1";
    a_redirect_takes_it_down(&trial, IcmpRedirect { router, neighbour, better }, mend);
}

#[test]
fn a_commit_warns_where_redirects_are_accepted() {
    let trial = start(&TrialPlan::session(BY_UP2));
    for (accepted, warns) in [("1", true), ("0", false)] {
        accept_redirects(&trial.topology.router, accepted);
        let next_hop = if warns { "192.0.2.67" } else { "192.0.2.66" };
        let answer = trial.bmpd.commit(STATION, &format!("next-hop {next_hop}"));
        assert_eq!(answer.contains("ICMP redirects are accepted on interface up2"), warns, "{answer}");
    }
}

#[test]
fn a_packet_that_lost_the_sessions_mark_is_dropped_and_counted_by_mark() {
    let trial = start(&TrialPlan::session(BY_UP2));
    let stream =
        ForeignSocket::default().connect(&trial.topology.router, trial.station.address()).expect("the pin routes it");
    let from = stream.local_addr().expect("the socket is connected");
    trial.up1.take();
    trial.up2.take();
    SockRef::from(&stream).set_mark(7).expect("root may set a mark");
    (&stream).write_all(&[0; 10]).expect("the socket has room");
    trial.bmpd.wait_session_for(STATION, "counted by mark", PATIENCE, |session| {
        number(&session["kernel"]["denied"]["mark"]) > 0
    });
    for link in [&trial.up1, &trial.up2] {
        assert!(link.packets().iter().all(|packet| packet.source != from || packet.payload_bytes == 0));
    }
}

#[test]
fn a_session_waits_for_a_next_hop_on_the_link() {
    let topology = without_a_route_by_uplink2();
    topology.station.ip("addr add 203.0.113.66/32 dev dn2");
    let trial = TrialPlan::session("connect-interface up2\n  next-hop 203.0.113.66").start_on(topology);
    let session = trial.bmpd.wait_down(STATION, "no-route");
    assert_eq!(session["detail"], "next hop 203.0.113.66 is not on the link of interface up2");
    assert_eq!(session["mend"], "ip route add 203.0.113.66 dev up2");
    assert_eq!(private(&trial.topology.router), Vec::<String>::new());
    trial.topology.router.ip("route add 203.0.113.66 dev up2");
    trial.bmpd.wait_session_for(STATION, "up", AT_ONCE, |session| session["state"] == "up");
    assert_private(&trial.topology.router, MARK, "203.0.113.66");
}

#[test]
fn a_session_is_routed_by_its_next_hop_again_after_a_lost_link() {
    let trial = start(&TrialPlan::session(BY_UP2));
    let router = &trial.topology.router;
    // `link set down` removes the interface's routes from every table.
    router.ip("link set up2 down");
    trial.bmpd.wait_down(STATION, "interface-down");
    router.ip("link set up2 up");
    trial.bmpd.wait_session_for(STATION, "up", AT_ONCE, |session| session["state"] == "up");
    let again = trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(again.peer.ip(), UP2);
    assert_private(router, MARK, "192.0.2.66");
    assert_eq!(strays(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}
