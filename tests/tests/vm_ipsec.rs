//! IPsec: the kernel programs see encrypted packets once with a policy, and twice with an IPsec
//! interface.

use lab::{
    bmpd::number,
    capture::CapturedPacket,
    topology::{STATION, Topology, UP2},
    trial::{LabTrial, TrialPlan, outgoing},
    wait::PATIENCE,
};

const KEY: &str = "aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128";

/// Adds states and policies on both hosts for packets between the pinned source and the station.
/// `extra` goes into each policy.
fn protect(topology: &Topology, mode: &str, router: &str, station: &str, extra: &str) {
    let states = format!(
        "xfrm state add src {router} dst {station} proto esp spi 0x101 mode {mode} {KEY}
         xfrm state add src {station} dst {router} proto esp spi 0x102 mode {mode} {KEY}"
    );
    let policy = |from: &str, to: &str, way: &str, (outer_from, outer_to): (&str, &str), extra: &str| {
        format!(
            "xfrm policy add src {from} dst {to} dir {way} {extra} tmpl src {outer_from} dst {outer_to} proto esp mode {mode}"
        )
    };
    let (near, far) = (UP2.to_string(), STATION.to_string());
    let (there, back) = ((router, station), (station, router));
    let with = |states: &str, extra: &str| states.replace(" mode", &format!(" {extra} mode"));
    topology.router.ip(&with(&states, extra));
    topology.router.ip(&policy(&near, &far, "out", there, extra));
    topology.router.ip(&policy(&far, &near, "in", back, extra));
    topology.station.ip(&states);
    topology.station.ip(&policy(&far, &near, "out", back, ""));
    topology.station.ip(&policy(&near, &far, "in", there, ""));
}

/// Asserts that the session is up and counted, and that captures see none of its packets in clear.
fn is_held(trial: &LabTrial) {
    trial.bmpd.wait_up(STATION);
    let connection = trial.routes_arrive(&mut trial.feeder(), 50, 0);
    assert_eq!(connection.peer.ip(), UP2);
    let kernel = trial.bmpd.session(STATION)["kernel"].clone();
    assert!(number(&kernel["tx_packets"]) > 3 && number(&kernel["tx_bytes"]) > connection.bytes, "{kernel:#}");
    for link in [&trial.up1, &trial.up2] {
        assert_eq!(outgoing(&link.packets()), Vec::<&CapturedPacket>::new());
    }
}

#[test]
#[ignore = "needs ESP: cargo xtask vm"]
fn a_session_in_ipsec_transport_mode_is_pinned_and_counted_encrypted() {
    let topology = Topology::without_offload();
    protect(&topology, "transport", "192.0.2.65", "198.51.100.7", "");
    is_held(&TrialPlan::session("connect-interface up2").start_on(topology));
}

#[test]
#[ignore = "needs ESP: cargo xtask vm"]
fn a_session_in_ipsec_tunnel_mode_is_pinned_if_the_tunnel_has_its_source() {
    let topology = Topology::without_offload();
    protect(&topology, "tunnel", "192.0.2.65", "192.0.2.66", "");
    is_held(&TrialPlan::session("connect-interface up2").start_on(topology));
}

/// Asserts that no packet leaves, and that the cause is counted.
fn is_denied(trial: &LabTrial, cause: &str) {
    let session = trial
        .bmpd
        .wait_session_for(STATION, "a denial", PATIENCE, |session| number(&session["kernel"]["denied"][cause]) > 0);
    assert_ne!(session["state"], "up", "{session:#}");
    for link in [&trial.up1, &trial.up2] {
        assert_eq!(outgoing(&link.packets()), Vec::<&CapturedPacket>::new());
    }
    assert!(trial.station.connections().is_empty());
}

#[test]
#[ignore = "needs ESP: cargo xtask vm"]
fn a_session_in_an_ipsec_tunnel_with_another_source_is_denied_by_source() {
    let topology = Topology::without_offload();
    protect(&topology, "tunnel", "192.0.2.129", "192.0.2.66", "");
    is_denied(&TrialPlan::session("connect-interface up2 192.0.2.65").start_on(topology), "source");
}

/// Pins the session to an IPsec interface of type `link`. `extra` directs packets to it.
fn is_denied_by(link: &str, extra: &str) {
    let topology = Topology::without_offload();
    topology.router.ip(&format!(
        "link add ipsec0 type {link}
         addr add 203.0.113.65/32 dev ipsec0
         link set ipsec0 up
         route add 198.51.100.0/24 dev ipsec0 metric 30"
    ));
    protect(&topology, "tunnel", "192.0.2.65", "192.0.2.66", extra);
    let trial = TrialPlan::session("connect-interface ipsec0 192.0.2.65").start_on(topology);
    is_denied(&trial, "interface");
    let warning = format!("the kernel programs let no packet of session {STATION} leave by IPsec interface ipsec0");
    let binding = trial.bmpd.first_binding();
    assert!(binding["warnings"].to_string().contains(&warning), "{binding:#}");
    let elsewhere = trial.bmpd.commit(STATION, "connect-interface up2");
    assert!(!elsewhere.contains("IPsec"), "{elsewhere}");
    let answer = trial.bmpd.commit(STATION, "connect-interface ipsec0 192.0.2.65");
    assert!(answer.contains(&format!("Warning: {warning}")), "{answer}");
}

#[test]
#[ignore = "needs an interface of xfrm: cargo xtask vm"]
fn a_session_pinned_to_an_ipsec_interface_is_denied_by_interface() {
    is_denied_by("xfrm if_id 7", "if_id 7");
}

#[test]
#[ignore = "needs VTI: cargo xtask vm"]
fn a_session_pinned_to_a_vti_interface_is_denied_by_interface() {
    is_denied_by("vti local 192.0.2.65 remote 192.0.2.66 key 7", "mark 7 mask 0xffffffff");
}
