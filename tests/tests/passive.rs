//! `tcp listen port`: the station connects, and receives the same as a station that bmpd connects
//! to.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
};

use lab::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    bmpd::{Bmpd, number},
    capture::{CapturedPacket, PacketDirection, sum},
    passive::{BY_UP2, PORT, call, connected, gets_no_answer, guarded, listening, nothing, stranger},
    station::{RecordedEnd, TestStation},
    topology::{STATION, STATION_2, STATION_V6, Topology, UP2, UP2_OTHER, UP2_V6},
    trial::{TrialPlan, outgoing},
    wait::{PATIENCE, until},
};
use serde_json::{Value, json};

#[test]
fn a_station_that_connects_receives_the_same_messages() {
    let trial = connected(&TrialPlan::session(BY_UP2), UP2);
    let mut feeder = trial.feeder();
    let connection = trial.routes_arrive(&mut feeder, 500, 0);
    assert!(connection.has(bmp::PEER_UP));
    let session = trial.bmpd.session(STATION);
    assert_eq!(
        (&session["role"], &session["port"], &session["phase"]),
        (&json!("listen"), &json!(PORT), &json!("following"))
    );
    assert_eq!((&session["local_address"], &session["local_port"]), (&json!(UP2), &json!(PORT)));
    assert_eq!(session["egress"]["interfaces"], json!(["up2"]));
    assert_eq!(session["established_count"], 1);
    assert!(!outgoing(&trial.up2.packets()).is_empty(), "the capture saw no packet of the session");
    nothing(&trial.up1.packets());
    let verbose = trial.bmpd.display("display bmp session verbose");
    for line in ["Listening port      : 11019", "Guard               : up2 (generic)"] {
        assert!(verbose.contains(line), "{line} is not in\n{verbose}");
    }
}

#[test]
fn an_ipv6_station_connects_too() {
    let trial = connected(&TrialPlan { station: STATION_V6, ..TrialPlan::session(BY_UP2) }, UP2_V6);
    trial.routes_arrive(&mut trial.feeder(), 100, 0);
    nothing(&trial.up1.packets());
}

/// Plays a passive session until the station closes it, and compares counters and capture.
fn counts_what_was_captured(plan: &TrialPlan<'_>, at: IpAddr) {
    let trial = connected(&TrialPlan { without_offload: true, ..*plan }, at);
    // Keep the feeder open: its end would cause a Peer Down.
    let mut feeder = trial.feeder();
    let connection = trial.routes_arrive(&mut feeder, 2000, 0);
    trial.station.close();
    listening(&trial.bmpd, plan.station);
    trial.up2.wait_for("bmpd's FIN and its acknowledgement", PATIENCE, |packets| {
        let fin = packets.iter().position(|p| p.fin && p.direction == PacketDirection::Out)?;
        packets[fin..].iter().any(|p| p.direction == PacketDirection::In && p.ack).then_some(())
    });
    let (session, packets) = trial.at_rest(&trial.up2);
    let kernel = &session["kernel"];
    let out = |p: &CapturedPacket| p.direction == PacketDirection::Out && p.source == SocketAddr::new(at, PORT);
    let back = |p: &CapturedPacket| p.direction == PacketDirection::In && p.source.ip() == plan.station;
    let (bytes, count) = sum(&packets, out);
    assert!(count > 20 && bytes > connection.bytes, "the capture saw {bytes} bytes in {count} packets");
    assert!(packets.iter().any(|p| out(p) && p.syn), "the capture has no SYN-ACK");
    let counted = (number(&kernel["tx_bytes"]), number(&kernel["tx_packets"]));
    // On Linux 6.1, programs do not see the SYN-ACK of an IPv6 listener.
    let without = sum(&packets, |p| out(p) && !p.syn);
    assert!(counted == (bytes, count) || (at.is_ipv6() && counted == without), "{kernel}, captured {bytes} in {count}");
    let payload: u64 = packets.iter().filter(|p| out(p)).map(|p| p.payload_bytes).sum();
    assert_eq!(number(&kernel["tx_payload_bytes"]), payload, "{kernel}");
    let (bytes, count) = sum(&packets, back);
    assert!(packets.iter().any(|p| back(p) && p.syn));
    assert_eq!((number(&kernel["rx_bytes"]), number(&kernel["rx_packets"])), (bytes, count), "{kernel}");
    assert_eq!(kernel["denied"], json!({ "interface": 0, "source": 0, "mark": 0, "no_pin": 0 }));
    nothing(&trial.up1.packets());
}

#[test]
fn a_passive_session_is_counted_to_the_byte_from_the_stations_syn_on() {
    counts_what_was_captured(&TrialPlan::session(BY_UP2), UP2);
}

#[test]
fn an_ipv6_passive_session_is_counted_to_the_byte_from_the_stations_syn_on() {
    counts_what_was_captured(&TrialPlan { station: STATION_V6, ..TrialPlan::session(BY_UP2) }, UP2_V6);
}

/// Returns two sessions on one port, to both of the station's addresses.
fn two_sessions(first: &str, second: &str) -> String {
    format!(
        "bmp-relay lab
 listen 127.0.0.1 port 5000
bmp
 bmp-session {STATION}
  tcp listen port {PORT}
{first}
 bmp-session {STATION_2}
  tcp listen port {PORT}
{second}
"
    )
}

/// Asserts that both stations can connect to one port, and have a session each.
fn both_are_let_in(first: &str, second: &str) {
    let topology = Topology::new();
    // Replies must leave by the link of the call.
    topology.router.ip("route del 198.51.100.0/24 via 192.0.2.2 dev up1 metric 10");
    let stations = [STATION, STATION_2].map(|address| TestStation::start(&topology.station, (address, PORT)));
    let bmpd = Bmpd::start(&topology.router, &two_sessions(first, second));
    for station in &stations {
        listening(&bmpd, station.address().ip());
    }
    let mut feeder = lab::feeder::BmpFeeder::with_peer(&topology.router, lab::trial::RELAY, &ReportedPeer::default());
    for station in &stations {
        station.call((UP2, PORT), PATIENCE).expect("bmpd accepts the station");
        station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
        bmpd.wait_up(station.address().ip());
    }
    feeder.announce(&ReportedPeer::default(), &prefixes(100), 1);
    for station in &stations {
        let connection = station.wait_connection(0, "all routes", |c| c.announced() == 100);
        let session = bmpd.wait_session(station.address().ip(), "counted", |session| {
            number(&session["kernel"]["tx_payload_bytes"]) >= connection.bytes
        });
        assert_eq!(number(&session["kernel"]["tx_payload_bytes"]), connection.bytes, "{session:#}");
    }
}

#[test]
fn two_stations_on_one_port_have_a_session_each() {
    both_are_let_in("  connect-interface up2", "  connect-interface up2");
}

#[test]
fn stations_on_one_port_may_have_different_pins() {
    both_are_let_in("  connect-interface up2", "");
    both_are_let_in(&format!("  connect-interface {UP2}"), "  connect-interface up2");
}

#[test]
fn a_shut_down_session_is_denied_at_a_port_that_another_listens_on() {
    let topology = Topology::new();
    let stations = [STATION, STATION_2].map(|address| TestStation::start(&topology.station, (address, PORT)));
    let both = "  connect-interface up2";
    let bmpd = Bmpd::start(&topology.router, &two_sessions(both, both));
    for station in &stations {
        listening(&bmpd, station.address().ip());
        station.call((UP2, PORT), PATIENCE).expect("bmpd accepts the station");
        bmpd.wait_up(station.address().ip());
    }
    bmpd.reload(&two_sessions(both, &format!("{both}\n  shutdown")));
    bmpd.wait_down(STATION_2, "shutdown");
    let end = stations[1].wait_connection(0, "its end", |c| c.end.is_some());
    assert_eq!((end.has(bmp::TERMINATION), end.end), (true, Some(RecordedEnd::Fin)));
    gets_no_answer(&stations[1], UP2);
    assert_eq!(stations[0].connections()[0].end, None, "the other session ended");
    bmpd.reload(&two_sessions(both, both));
    listening(&bmpd, STATION_2);
    stations[1].call((UP2, PORT), PATIENCE).expect("bmpd accepts the station again");
    bmpd.wait_up(STATION_2);
}

#[test]
fn a_change_of_source_ends_a_passive_connection_by_the_old_link() {
    let session = |address: IpAddr| format!("tcp listen port {PORT}\nconnect-interface up2 {address}");
    let trial = connected(&TrialPlan::session(&session(UP2)), UP2);
    trial.bmpd.reload(&TrialPlan::session(&session(UP2_OTHER)).configuration());
    let old = trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    assert_eq!((old.has(bmp::TERMINATION), old.end), (true, Some(RecordedEnd::Fin)));
    listening(&trial.bmpd, STATION);
    let index = call(&trial, UP2_OTHER);
    assert_eq!(trial.station.connections()[index].peer.ip(), UP2_OTHER);
    nothing(&trial.up1.packets());
    let refused = trial.station.call((UP2, PORT), PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "bmpd still listens at the old address");
}

#[test]
fn a_session_whose_interface_goes_down_listens_again_when_it_is_back() {
    let trial = connected(&TrialPlan::session(BY_UP2), UP2);
    trial.topology.carrier_down("up2");
    trial.bmpd.wait_down(STATION, "interface-down");
    trial.topology.carrier_up("up2");
    listening(&trial.bmpd, STATION);
    trial.station.reset();
    call(&trial, UP2);
    trial.topology.router.ip("link del up2");
    trial.bmpd.wait_down(STATION, "interface-absent");
    trial.topology.recreate_uplink2();
    guarded(&trial.bmpd, STATION);
    call(&trial, UP2);
    gets_no_answer(&stranger(&trial.topology), UP2);
    assert!(number(&trial.bmpd.session(STATION)["guard"]["dropped_packets"]) > 0);
    nothing(&trial.up1.packets());
}

/// Asserts that a session waits for its station, with the end of its last connection in the detail.
fn assert_waits_after(session: &Value, reason: &str) {
    let detail = session["detail"].as_str().unwrap_or_default();
    let ended = format!("has not connected to {UP2} port {PORT} again; its last connection ended: {reason}: ");
    assert!(session["reason"] == "waiting-for-station" && detail.contains(&ended), "{session:#}");
}

#[test]
fn after_a_reset_the_station_can_connect_at_once() {
    let trial = connected(&TrialPlan::session(BY_UP2), UP2);
    trial.bmpd.display(&format!("reset bmp session {STATION}"));
    let old = trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    assert_eq!((old.has(bmp::TERMINATION), old.end), (true, Some(RecordedEnd::Fin)));
    let session = listening(&trial.bmpd, STATION);
    assert_waits_after(&session, "manual-reset");
    call(&trial, UP2);
    let session = trial.bmpd.session(STATION);
    assert_eq!((&session["established_count"], &session["reason"]), (&json!(2), &Value::Null));
}

#[test]
fn a_restarted_station_replaces_its_earlier_connection() {
    let trial = connected(&TrialPlan::session(BY_UP2), UP2);
    let index = trial.station.call((UP2, PORT), PATIENCE).expect("bmpd accepts the station");
    trial.station.wait_connection(index, "Initiation", |c| c.has(bmp::INITIATION));
    let old = trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    assert_eq!((old.has(bmp::TERMINATION), old.end), (true, Some(RecordedEnd::Fin)));
    trial.bmpd.wait_for_log("that the station connected anew", |line| line.contains("has connected anew"));
    trial.routes_arrive(&mut trial.feeder(), 10, index);
    assert_eq!(trial.bmpd.session(STATION)["state"], "up");
}

#[test]
fn a_session_waits_again_after_the_station_closed() {
    let trial = connected(&TrialPlan::session(BY_UP2), UP2);
    trial.station.close();
    let session = listening(&trial.bmpd, STATION);
    assert_eq!(session["state"], "down");
    assert_waits_after(&session, "station-closed");
    call(&trial, UP2);
}

#[test]
fn a_session_becomes_passive_and_active_again() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    trial.bmpd.reload(&TrialPlan::session(BY_UP2).configuration());
    let old = trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    assert_eq!((old.has(bmp::TERMINATION), old.end), (true, Some(RecordedEnd::Fin)));
    let session = guarded(&trial.bmpd, STATION);
    assert_eq!(session["role"], "listen");
    let index = call(&trial, UP2);
    trial.bmpd.reload(&TrialPlan::session("connect-interface up2").configuration());
    trial.station.wait_connection(index, "its end", |c| c.has(bmp::TERMINATION) && c.end == Some(RecordedEnd::Fin));
    trial.station.wait_connection(index + 1, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(trial.bmpd.wait_up(STATION)["guard"], Value::Null);
    until("the guard is detached", PATIENCE, || {
        (!trial.topology.router.ip_show("-details link show dev up2").contains("xdp")).then_some(())
    });
    nothing(&trial.up1.packets());
}
