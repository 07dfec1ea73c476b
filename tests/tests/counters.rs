//! The kernel's counters of a session equal a capture of it.
//!
//! Packets without a full socket are not counted. The side that closes first acknowledges the
//! other's FIN from a TIME_WAIT entry. The tests count these packets apart.

use std::net::SocketAddr;

use aya::maps::{MapData, PerCpuArray};
use bmp_ebpf::Counters;
use lab::{
    bgp::prefixes,
    bmp::ReportedPeer,
    bmpd::number,
    capture::{CapturedPacket, PacketDirection, sum},
    devices::tc,
    netns::Netns,
    process::answer,
    station::{RecordedConnection, RecordedEnd, StationMode},
    topology::{STATION, STATION_V6},
    trial::{LabTrial, TrialPlan, assert_left_only_by},
    wait::{PATIENCE, until},
};
use serde_json::Value;

fn out(station: SocketAddr) -> impl Fn(&CapturedPacket) -> bool {
    move |packet| packet.left_for(station)
}

fn back(station: SocketAddr) -> impl Fn(&CapturedPacket) -> bool {
    move |packet| packet.direction == PacketDirection::In && packet.source == station
}

/// Plays a session with `routes` routes until the station closes it. No packet moves on return.
fn closed_by_the_station(plan: &TrialPlan<'_>, routes: usize) -> (LabTrial, RecordedConnection) {
    let trial = TrialPlan { without_offload: true, ..*plan }.start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, routes, 0);
    // Further attempts must fail: each counts a SYN, and a reset.
    trial.station.refuse();
    trial.station.close();
    trial.bmpd.wait_session(plan.station, "down", |session| session["state"] == "down");
    trial.up2.wait_for("bmpd's FIN and its acknowledgement", PATIENCE, |packets| {
        let fin = packets.iter().position(|p| p.fin && p.direction == PacketDirection::Out)?;
        packets[fin..].iter().any(|p| p.direction == PacketDirection::In && p.ack).then_some(())
    });
    let connection = trial.station.wait_connection(0, "its end", |c| c.end == Some(RecordedEnd::Ours));
    (trial, connection)
}

fn counts_what_was_captured(plan: &TrialPlan<'_>) {
    let (trial, connection) = closed_by_the_station(plan, 2000);
    assert_left_only_by(&trial.up2, &trial.up1, &connection);
    let (session, packets) = trial.at_rest(&trial.up2);
    let station = trial.station.address();
    let kernel = &session["kernel"];

    let (tx_bytes, tx_packets) = sum(&packets, out(station));
    assert!(tx_packets > 20 && tx_bytes > connection.bytes, "the capture saw {tx_bytes} bytes in {tx_packets} packets");
    assert_eq!((number(&kernel["tx_bytes"]), number(&kernel["tx_packets"])), (tx_bytes, tx_packets), "{kernel}");

    let payload: u64 = packets.iter().filter(|p| p.left_for(station)).map(|p| p.payload_bytes).sum();
    assert_eq!(number(&kernel["tx_payload_bytes"]), payload, "{kernel}");
    assert!(payload >= connection.bytes);

    let (rx_bytes, rx_packets) = sum(&packets, back(station));
    assert!(rx_packets > 2);
    assert_eq!((number(&kernel["rx_bytes"]), number(&kernel["rx_packets"])), (rx_bytes, rx_packets), "{kernel}");

    assert_eq!(kernel["denied"], serde_json::json!({ "interface": 0, "source": 0, "mark": 0, "no_pin": 0 }));
    assert_eq!(kernel["foreign"], serde_json::json!({ "tx_bytes": 0, "tx_packets": 0 }));
}

#[test]
fn a_session_that_the_station_closed_is_counted_to_the_byte() {
    counts_what_was_captured(&TrialPlan::session("connect-interface up2"));
}

#[test]
fn an_ipv6_session_that_the_station_closed_is_counted_to_the_byte() {
    counts_what_was_captured(&TrialPlan { station: STATION_V6, ..TrialPlan::session("connect-interface up2") });
}

#[test]
fn an_unpinned_session_is_counted_too() {
    // Routing sends it by up1.
    let trial = TrialPlan { without_offload: true, ..TrialPlan::default() }.start_up();
    let mut feeder = trial.feeder();
    let connection = trial.routes_arrive(&mut feeder, 500, 0);
    let (session, captured) = trial.at_rest(&trial.up1);
    let (bytes, packets) = sum(&captured, out(trial.station.address()));
    let kernel = &session["kernel"];
    assert!(bytes > connection.bytes);
    assert_eq!((number(&kernel["tx_bytes"]), number(&kernel["tx_packets"])), (bytes, packets), "{kernel}");
}

#[test]
fn segments_of_offloaded_buffers_are_counted_as_on_the_wire() {
    // With segmentation offload, programs and captures see one large buffer where a wire has many
    // segments of one MSS.
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    let connection = trial.routes_arrive(&mut feeder, 5000, 0);
    let (session, captured) = trial.at_rest(&trial.up2);
    let kernel = &session["kernel"];
    let (bytes, packets) = (number(&kernel["tx_bytes"]), number(&kernel["tx_packets"]));
    let payload = number(&kernel["tx_payload_bytes"]);
    assert!(payload >= connection.bytes);
    // Every packet has headers of 20 + 32 bytes, the SYN of 20 + 40.
    assert_eq!(bytes, payload + packets * 52 + 8, "{kernel}");
    let segment = 1448;
    assert!(packets > payload / segment, "{packets} packets cannot carry {payload} bytes");
    assert!(captured.iter().any(|p| p.ip_bytes > 1500), "no buffer was larger than a packet");
    let wire: u64 = captured
        .iter()
        .filter(|p| p.left_for(trial.station.address()))
        .map(|p| p.payload_bytes.div_ceil(segment).max(1))
        .sum();
    assert_eq!(packets, wire);
}

/// Returns the segments that TCP has retransmitted on the host's connection to a station. The count
/// of the whole host has those of a daemon's connection to the relay too.
fn sent_again(host: &Netns, station: SocketAddr) -> u64 {
    let mut ss = host.command(programs::Program::Ss);
    let answer = answer(ss.args(["-Htni", "state", "established", "dst"]).arg(station.to_string()));
    assert_eq!(answer.matches(" rto:").count(), 1, "not one connection: {answer}");
    // `retrans:NOW/EVER` is absent as long as nothing was retransmitted (ss(8)).
    let Some((_, counts)) = answer.split_once(" retrans:") else { return 0 };
    let ever = counts.split_once('/').map(|(_, ever)| ever.split(' ').next());
    ever.flatten().and_then(|count| count.trim().parse().ok()).expect("ss shows two numbers")
}

#[test]
fn retransmissions_are_counted_as_tcp_counts_them() {
    let trial = TrialPlan { without_offload: true, ..TrialPlan::session("connect-interface up2") }.start_up();
    let retransmitted = || sent_again(&trial.topology.router, trial.station.address());
    let before = retransmitted();
    // Every tenth segment is lost.
    let rules = "table inet lossy {
 chain in {
  type filter hook input priority 0
  tcp dport 11019 numgen inc mod 10 == 0 drop
 }
}";
    answer(trial.topology.station.command(programs::Program::Nft).arg(rules));
    trial.routes_arrive(&mut trial.feeder(), 3000, 0);
    answer(trial.topology.station.command(programs::Program::Nft).arg("flush ruleset"));
    // TCP's count must be the same before and after reading bmpd's: a segment may be sent in
    // between.
    let (session, packets, again) = until("the link is quiet", PATIENCE, || {
        let again = retransmitted();
        let (session, packets) = trial.at_rest(&trial.up2);
        (retransmitted() == again).then_some((session, packets, again - before))
    });
    assert!(again >= 3, "only {again} of {} packets were retransmitted", packets.len());
    let kernel = &session["kernel"];
    assert_eq!(number(&kernel["retransmits"]), again, "{kernel}");
    // Every packet was counted, first transmissions and retransmissions.
    let (bytes, count) = sum(&packets, out(trial.station.address()));
    assert_eq!((number(&kernel["tx_bytes"]), number(&kernel["tx_packets"])), (bytes, count), "{kernel}");
}

#[test]
fn a_session_that_bmpd_closed_is_counted_up_to_its_last_acknowledgement() {
    let trial = TrialPlan { without_offload: true, ..TrialPlan::session("connect-interface up2") }.start_up();
    trial.routes_arrive(&mut trial.feeder(), 500, 0);
    // The map outlives bmpd while this test holds it.
    let objects = trial.bmpd.objects();
    let counters = objects.counters();
    let slots: Vec<u32> = objects.pins().iter().map(|entry| entry.expect("the map is readable").1).collect();
    assert_eq!(slots.len(), 1);
    trial.bmpd.terminate();
    let connection = trial.station.wait_connection(0, "FIN", |c| c.end == Some(RecordedEnd::Fin));
    let packets = trial.up2.wait_for("the acknowledgement of the station's FIN", PATIENCE, |packets| {
        let fin = packets.iter().position(|p| p.fin && p.direction == PacketDirection::In)?;
        packets[fin..].iter().any(|p| p.direction == PacketDirection::Out).then(|| packets.to_vec())
    });
    let ours = |p: &CapturedPacket| p.direction == PacketDirection::Out && p.source == connection.peer;
    let fin = packets.iter().position(|p| ours(p) && p.fin).expect("the capture has bmpd's FIN");
    let (bytes, count) = sum(&packets[..=fin], ours);
    let (last_bytes, last) = sum(&packets[fin + 1..], ours);
    assert_eq!((last, last_bytes), (1, 52), "one bare acknowledgement");
    let counted = tx(&counters, slots[0]);
    assert!(bytes > connection.bytes);
    // Timing decides whether bmpd still has its socket when the station's FIN arrives.
    let with_the_last = (bytes + last_bytes, count + last);
    assert!(
        counted == (bytes, count) || counted == with_the_last,
        "{counted:?} is neither {:?} nor {with_the_last:?}",
        (bytes, count)
    );
}

/// Returns the bytes and packets that the session of a slot has sent, by the kernel's counters.
fn tx(counters: &PerCpuArray<MapData, Counters>, slot: u32) -> (u64, u64) {
    let cpus = counters.get(&slot, 0).expect("the counters are readable");
    cpus.iter().fold((0, 0), |sum, cpu| (sum.0 + cpu.own_tx.bytes, sum.1 + cpu.own_tx.packets))
}

#[test]
fn an_acknowledgement_after_the_end_of_bmpd_is_not_counted() {
    let trial = TrialPlan { without_offload: true, ..TrialPlan::session("connect-interface up2") }.start_up();
    trial.routes_arrive(&mut trial.feeder(), 500, 0);
    let objects = trial.bmpd.objects();
    let counters = objects.counters();
    let slot = objects.pins().iter().next().expect("there is a pin").expect("the map is readable").1;
    // The station acknowledges bmpd's FIN, and closes its own side only after bmpd has gone.
    trial.station.set_mode(StationMode::Linger);
    trial.bmpd.terminate();
    let connection = trial.station.wait_connection(0, "FIN", |c| c.end == Some(RecordedEnd::Fin));
    let before = trial.up2.packets();
    trial.station.close();
    let after = trial.up2.wait_for("the last acknowledgement", PATIENCE, |packets| {
        let fin = packets.iter().position(|p| p.fin && p.direction == PacketDirection::In)?;
        packets[fin..].iter().any(|p| p.direction == PacketDirection::Out).then(|| packets.to_vec())
    });
    let ours = |p: &CapturedPacket| p.direction == PacketDirection::Out && p.source == connection.peer;
    assert_eq!(sum(&after[before.len()..], ours), (52, 1), "one bare acknowledgement");
    assert!(before.iter().any(|p| ours(p) && p.fin), "the capture has no FIN of bmpd");
    // bmpd waits until its FIN is acknowledged, so no packet of its socket leaves after the
    // programs have gone.
    let (bytes, count) = sum(&before, ours);
    assert!(bytes > connection.bytes);
    assert_eq!(tx(&counters, slot), (bytes, count));
}

#[test]
fn packets_dropped_by_a_full_queue_count_as_sent_and_are_displayed() {
    let trial = TrialPlan { without_offload: true, ..TrialPlan::session("connect-interface up2") }.start_up();
    let mut feeder = trial.feeder();
    // The queue has room for acknowledgements, but not for full packets.
    let router = &trial.topology.router;
    tc(router, "qdisc add dev up2 root bfifo limit 700");
    feeder.announce(&ReportedPeer::default(), &prefixes(2000), 1);
    let drops = |session: &Value| number(&session["interface_drops"][0]["queue"]);
    trial.bmpd.wait_session(STATION, "with drops", |session| drops(session) > 0);
    let shown = trial.bmpd.display("display bmp session verbose");
    assert!(shown.contains("Interface drops     : up2: "), "{shown}");
    // Soon, because TCP gives a connection up after a few seconds of dropped retransmissions.
    tc(router, "qdisc del dev up2 root");
    trial.station.wait_connection(0, "the retransmitted routes", |c| c.announced() == 2000);
    let (session, packets) = trial.at_rest(&trial.up2);
    let captured = sum(&packets, out(trial.station.address())).1;
    assert!(number(&session["kernel"]["tx_packets"]) > captured, "{session:#}");
    assert_left_only_by(&trial.up2, &trial.up1, &trial.station.connections()[0]);
}

#[test]
fn after_a_reset_of_counters_displays_count_from_zero_and_the_session_stays_up() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 2000, 0);
    let (before, _) = trial.at_rest(&trial.up2);
    assert_eq!(before["counters_reset_seconds"], Value::Null);
    trial.bmpd.display(&format!("reset bmp session {STATION} counters"));
    let (reset, _) = trial.at_rest(&trial.up2);
    let zero = serde_json::json!({
        "route_monitoring": 0, "statistics_report": 0, "peer_down": 0, "peer_up": 0, "initiation": 0,
        "termination": 0, "route_mirroring": 0,
    });
    assert_eq!(reset["messages"], zero);
    assert_eq!((number(&reset["kernel"]["tx_bytes"]), number(&reset["connections"]["established"])), (0, 0));
    assert_eq!((number(&reset["connections"]["open"]), number(&reset["established_count"])), (1, 1));
    let shown = trial.bmpd.display(&format!("display bmp session {STATION} verbose"));
    assert!(shown.contains("  Counters reset      : 00h00m"), "{shown}");
    trial.routes_arrive(&mut feeder, 10, 0);
    let (again, _) = trial.at_rest(&trial.up2);
    assert_eq!(number(&again["messages"]["route_monitoring"]), 10);
    let sent = number(&again["kernel"]["tx_bytes"]);
    assert!(sent > 0 && sent < number(&before["kernel"]["tx_bytes"]), "{again:#}");
    assert_eq!(number(&again["established_count"]), 1);
}
