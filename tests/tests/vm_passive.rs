//! Passive sessions beside VLANs and VRFs.

use std::net::TcpListener;

use lab::{
    bmp,
    bmpd::{Bmpd, number},
    capture::{CapturedPacket, LinkCapture, PacketDirection, sum},
    devices::{VLAN, vlan, vrf},
    passive::{BY_UP2, PORT, gets_no_answer, guarded, stranger},
    station::TestStation,
    topology::{STATION, STATION_2, Topology, UP2},
    trial::{TrialPlan, outgoing},
    wait::PATIENCE,
};
use serde_json::json;

#[test]
#[ignore = "needs a VLAN interface: cargo xtask vm"]
fn a_station_connects_in_a_vlan_and_a_stranger_does_not() {
    let topology = Topology::without_offload();
    vlan(&topology, 7);
    topology.router.ip("route add 198.51.100.8/32 via 192.0.2.194 dev up2.7");
    let trial = TrialPlan::session("tcp listen port 11019\nconnect-interface up2.7").start_on(topology);
    let session = guarded(&trial.bmpd, STATION);
    assert_eq!(session["guard"]["interfaces"][0]["name"], "up2.7", "{session:#}");
    let index = trial.station.call((VLAN, PORT), PATIENCE).expect("bmpd accepts the station");
    trial.station.wait_connection(index, "Initiation", |c| c.has(bmp::INITIATION));
    trial.bmpd.wait_up(STATION);
    trial.routes_arrive(&mut trial.feeder(), 50, index);
    gets_no_answer(&stranger(&trial.topology), VLAN);
    assert!(number(&trial.bmpd.session(STATION)["guard"]["dropped_packets"]) > 0);
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}

#[test]
#[ignore = "needs a VLAN interface: cargo xtask vm"]
fn the_guard_of_an_interface_does_not_touch_its_vlans() {
    let topology = Topology::new();
    vlan(&topology, 7);
    let trial = TrialPlan::session(BY_UP2).start_on(topology);
    guarded(&trial.bmpd, STATION);
    let other = trial.topology.router.enter(|| TcpListener::bind((VLAN, PORT))).expect("the VLAN has its own address");
    let stranger = stranger(&trial.topology);
    stranger.call((VLAN, PORT), PATIENCE).expect("the VLAN's address is not guarded");
    drop(other);
    gets_no_answer(&stranger, UP2);
}

#[test]
#[ignore = "needs a VLAN interface and a VRF: cargo xtask vm"]
fn there_is_no_guard_if_a_vlan_of_another_vrf_has_the_address() {
    let topology = Topology::new();
    vlan(&topology, 7);
    topology.router.ip(&format!(
        "link add other type vrf table 200
         link set other up
         link set up2.7 master other
         addr add {UP2}/26 dev up2.7"
    ));
    let trial = TrialPlan::session(BY_UP2).start_on(topology);
    let why = "VLAN interface up2.7 on it has the same address";
    let expected = json!([{ "name": "up2", "mode": "none", "why": why }]);
    trial.bmpd.wait_session(STATION, "without a guard", |session| session["guard"]["interfaces"] == expected);
    gets_no_answer(&stranger(&trial.topology), UP2);
    assert!(number(&trial.bmpd.session(STATION)["guard"]["refused_packets"]) > 0);
    trial.topology.router.ip("link del up2.7");
    guarded(&trial.bmpd, STATION);
}

/// Plays a passive session in the VRF `mgmt` with `up2`, beside one in the default VRF on the same
/// port.
fn in_a_vrf(session: &str) {
    let topology = Topology::without_offload();
    vrf(&topology, "mgmt");
    topology.router.ip("route replace 198.51.100.8/32 via 192.0.2.66 dev up2 table 100");
    let (up1, up2) =
        (LinkCapture::start(&topology.router, "up1", PORT), LinkCapture::start(&topology.router, "up2", PORT));
    let configuration = format!(
        "bmp
 bmp-session vpn-instance mgmt {STATION}
  tcp listen port {PORT}
{session}
 bmp-session {STATION_2}
  tcp listen port {PORT}
  connect-interface up1
"
    );
    let bmpd = Bmpd::start(&topology.router, &configuration);
    let shown = guarded(&bmpd, STATION);
    assert_eq!(shown["guard"]["interfaces"], json!([{ "name": "up2", "mode": "generic", "why": null }]), "{shown:#}");
    let station = TestStation::start(&topology.station, (STATION, PORT));
    station.call((UP2, PORT), PATIENCE).expect("bmpd accepts the station");
    let connection = station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    bmpd.wait_up(STATION);
    // The station of the other VRF's session is a stranger in this VRF.
    gets_no_answer(&stranger(&topology), UP2);
    assert!(number(&bmpd.session(STATION)["guard"]["dropped_packets"]) > 0);
    station.close();
    let session = bmpd.wait_session(STATION, "listening", |session| session["phase"] == "listening");
    let packets = up2.wait_for("the end", PATIENCE, |packets| {
        let fin = packets.iter().position(|p| p.fin && p.direction == PacketDirection::Out)?;
        packets[fin..].iter().any(|p| p.direction == PacketDirection::In && p.ack).then(|| packets.to_vec())
    });
    let left = sum(&packets, |p| p.direction == PacketDirection::Out && p.source == connection.peer);
    let kernel = bmpd.wait_session(STATION, "at rest", |session| number(&session["kernel"]["tx_packets"]) >= left.1);
    let kernel = &kernel["kernel"];
    assert_eq!((number(&kernel["tx_bytes"]), number(&kernel["tx_packets"])), left, "{session:#}");
    assert_eq!(kernel["denied"], json!({ "interface": 0, "source": 0, "mark": 0, "no_pin": 0 }));
    assert_eq!(outgoing(&up1.packets()), Vec::<&CapturedPacket>::new());
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn a_station_in_a_vrf_connects_to_a_session_pinned_to_an_interface() {
    in_a_vrf("  connect-interface up2");
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn a_station_in_a_vrf_connects_to_an_unpinned_session() {
    in_a_vrf("");
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn a_station_in_a_vrf_connects_to_a_session_with_egress_interfaces() {
    in_a_vrf("  connect-interface 192.0.2.65\n  egress-interface up2");
}
