//! SYN-ACKs with SYN cookies, which belong to no socket, leave by the session's interfaces like
//! other packets.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use lab::{
    bmpd::number,
    capture::{CapturedPacket, PacketDirection, sum},
    flood,
    passive::{PORT, call, guarded, nothing},
    topology::{LOOPBACK, LOOPBACK_V6, STATION, STATION_V6, Topology},
    trial::{LabTrial, TrialPlan},
    wait::PATIENCE,
};

/// Number of SYNs, above the backlog of bmpd's listener.
const SYNS: u16 = 3000;

/// Starts a session at an address of `lo` that may leave by `up2` only, where the station's packets
/// arrive. Routing prefers `up1` for replies.
fn by_up2(station: IpAddr, address: IpAddr, cookies: &str) -> LabTrial {
    let topology = Topology::without_offload();
    topology.router.sysctl("net/ipv4/tcp_syncookies", cookies);
    topology.station.ip("route del 203.0.113.1/32 via 192.0.2.1 dev dn1 metric 10
         route del 2001:db8:ff::1/128 via 2001:db8:1::1 dev dn1 metric 10");
    let session = format!("tcp listen port {PORT}\nconnect-interface {address}\negress-interface up2");
    let trial = TrialPlan { station, ..TrialPlan::session(&session) }.start_on(topology);
    guarded(&trial.bmpd, station);
    trial
}

fn syn_acks(packets: &[CapturedPacket]) -> usize {
    packets.iter().filter(|p| p.direction == PacketDirection::Out && p.syn && p.ack).count()
}

fn is_let_in_by_a_cookie(station: IpAddr, address: IpAddr) {
    let trial = by_up2(station, address, "2");
    call(&trial, address);
    trial.routes_arrive(&mut trial.feeder(), 100, 0);
    let (session, packets) = trial.at_rest(&trial.up2);
    assert_eq!(syn_acks(&packets), 1, "{packets:#?}");
    nothing(&trial.up1.packets());
    assert_eq!(syn_acks(&trial.up1.packets()), 0);
    // No program sees the SYN-ACK, so it is not counted. All other packets are.
    let (bytes, count) = sum(&packets, |p| p.direction == PacketDirection::Out && !p.syn);
    let kernel = &session["kernel"];
    assert_eq!((number(&kernel["tx_bytes"]), number(&kernel["tx_packets"])), (bytes, count), "{kernel}");
    assert_eq!(number(&kernel["denied"]["interface"]), 0, "{kernel}");
}

#[test]
fn a_syn_cookie_leaves_by_the_sessions_interface_whatever_routing_prefers() {
    is_let_in_by_a_cookie(STATION, LOOPBACK);
}

#[test]
fn an_ipv6_syn_cookie_leaves_by_the_sessions_interface() {
    is_let_in_by_a_cookie(STATION_V6, LOOPBACK_V6);
}

#[test]
fn spoofed_syns_cause_no_stray_reply_and_do_not_block_the_station() {
    let trial = by_up2(STATION, LOOPBACK, "1");
    let (IpAddr::V4(station), IpAddr::V4(address)) = (STATION, LOOPBACK) else { unreachable!("they are IPv4") };
    flood::syns(&trial.topology.station, station, 20_000..=19_999 + SYNS, SocketAddrV4::new(address, PORT));
    trial.up2.wait_for("an answer to each", PATIENCE, |packets| (syn_acks(packets) >= usize::from(SYNS)).then_some(()));
    let begun = std::time::Instant::now();
    call(&trial, LOOPBACK);
    assert!(begun.elapsed() < std::time::Duration::from_secs(1), "the station's first SYN was not answered");
    trial.routes_arrive(&mut trial.feeder(), 100, 0);
    let by_up1 = trial.up1.packets();
    assert_eq!(
        by_up1.iter().filter(|p| p.direction == PacketDirection::Out).collect::<Vec<_>>(),
        Vec::<&CapturedPacket>::new()
    );
    let from = |p: &&CapturedPacket| p.direction == PacketDirection::Out && p.source == SocketAddr::new(LOOPBACK, PORT);
    assert!(trial.up2.packets().iter().filter(from).count() > usize::from(SYNS));
}

#[test]
fn a_commit_warns_about_a_host_without_syn_cookies() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    trial.topology.router.sysctl("net/ipv4/tcp_syncookies", "0");
    let answer = trial.bmpd.commit(STATION, &format!("tcp listen port {PORT}"));
    assert!(answer.contains("net.ipv4.tcp_syncookies is 0"), "{answer}");
}
