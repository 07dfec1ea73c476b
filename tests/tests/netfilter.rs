//! Address translation of this host: a rewritten source is denied, and a rewritten destination is
//! not held.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use lab::{
    bmpd::number,
    capture::CapturedPacket,
    netns::Netns,
    process::answer,
    sockets::ForeignSocket,
    topology::{STATION, STATION_PORT, UP1},
    trial::{TrialPlan, outgoing},
};
use programs::Program;

/// An address that no host has.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 99));

/// Adds a chain of nftables with one rule that translates addresses.
fn translate(host: &Netns, hook: &str, rule: &str) {
    let chain = format!("add chain ip lab nat {{ type nat hook {hook} }}");
    answer(host.command(Program::Nft).arg(format!("add table ip lab; {chain}; add rule ip lab nat {rule}")));
}

#[test]
fn a_pinned_source_that_netfilter_rewrites_is_denied_by_source() {
    let trial = TrialPlan::session("shutdown\nconnect-interface up2").start();
    // Another address of the same interface.
    let rule = format!("ip daddr {STATION} tcp dport {STATION_PORT} snat to 192.0.2.129");
    translate(&trial.topology.router, "postrouting priority srcnat;", &rule);
    trial.bmpd.commit(STATION, "undo shutdown");
    let session =
        trial.bmpd.wait_session(STATION, "a denial", |session| number(&session["kernel"]["denied"]["source"]) > 0);
    assert_ne!(session["state"], "up", "{session:#}");
    for link in [&trial.up1, &trial.up2] {
        assert_eq!(outgoing(&link.packets()), Vec::<&CapturedPacket>::new());
    }
    assert!(trial.station.connections().is_empty());
}

#[test]
fn a_connection_that_netfilter_leads_to_the_station_is_not_pinned() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let router = &trial.topology.router;
    router.ip(&format!("route add {ELSEWHERE}/32 via 192.0.2.2 dev up1"));
    let rule = format!("ip daddr {ELSEWHERE} tcp dport {STATION_PORT} dnat to {STATION}");
    translate(router, "output priority -100;", &rule);
    let _foreign = ForeignSocket::default()
        .connect(router, SocketAddr::new(ELSEWHERE, STATION_PORT))
        .expect("no pin holds the connection");
    let connection = trial.station.wait_connection(1, "the foreign connection", |_| true);
    assert_eq!(connection.peer.ip(), UP1, "routing prefers up1");
    let session = trial.bmpd.session(STATION);
    assert_eq!(session["kernel"]["foreign"]["tx_packets"], 0, "{session:#}");
}
