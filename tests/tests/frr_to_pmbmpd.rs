//! The main job: FRR's table arrives at a collector of another project, from the configured source.

use std::{collections::BTreeSet, time::Duration};

use lab::{
    bgp::prefixes,
    bmpd::Bmpd,
    capture::LinkCapture,
    frr::{Frr, PEER},
    pmacct::Pmbmpd,
    topology::{STATION, STATION_PORT, Topology, UP2_OTHER},
    trial::{RELAY, TrialPlan, outgoing},
};
use serde_json::Value;

/// Routes of FRR's BGP peer.
const ROUTES: usize = 10_000;
/// Patience for pmbmpd, which writes one JSON object a route.
const LONG: Duration = Duration::from_secs(60);

/// Returns the prefixes in Route Monitoring messages that pmbmpd logged for `router`.
fn logged(messages: &[Value], router: &str) -> BTreeSet<String> {
    let of_router = messages.iter().filter(|message| message["bmp_router"] == router);
    of_router.filter_map(|message| message["ip_prefix"].as_str()).map(str::to_owned).collect()
}

#[test]
fn every_prefix_of_frr_arrives_at_pmbmpd_from_the_configured_source() {
    let topology = Topology::new();
    let collector = Pmbmpd::start(&topology.station, (STATION, STATION_PORT));
    let up1 = LinkCapture::start(&topology.router, "up1", STATION_PORT);
    let up2 = LinkCapture::start(&topology.router, "up2", STATION_PORT);
    let plan = TrialPlan::session("connect-interface up2 192.0.2.129");
    let bmpd = Bmpd::start(&topology.router, &plan.configuration());
    bmpd.wait_up(STATION);

    let frr = Frr::start(&topology.router, RELAY, &prefixes(ROUTES));
    let table = frr.wait_table(ROUTES);
    let source = UP2_OTHER.to_string();
    collector.wait_for("every prefix of FRR", LONG, |messages| (logged(messages, &source) == table).then_some(()));

    let messages = collector.messages();
    let routers: BTreeSet<_> = messages.iter().filter_map(|message| message["bmp_router"].as_str()).collect();
    assert_eq!(routers, BTreeSet::from([source.as_str()]), "pmbmpd knows other routers");
    for kind in ["init", "peer_up", "route_monitor"] {
        assert!(messages.iter().any(|message| message["bmp_msg_type"] == kind), "no {kind} was logged");
    }
    assert!(!outgoing(&up2.packets()).is_empty(), "the capture saw no packet of the session");
    assert_eq!(outgoing(&up1.packets()), Vec::<&lab::capture::CapturedPacket>::new());
    // FRR 10 reports its Loc-RIB's peer too.
    let peers_up = messages.iter().filter(|message| message["bmp_msg_type"] == "peer_up");
    let peers: Vec<_> = peers_up.filter_map(|message| message["peer_ip"].as_str()).collect();
    assert_eq!(peers.iter().filter(|peer| **peer == PEER.0.to_string()).count(), 1, "{peers:?}");
    assert_eq!(bmpd.session(STATION)["messages"]["peer_up"], peers.len());
}

#[test]
fn pmbmpd_receives_peer_down_when_frr_ends() {
    let topology = Topology::new();
    let collector = Pmbmpd::start(&topology.station, (STATION, STATION_PORT));
    let bmpd = Bmpd::start(&topology.router, &TrialPlan::session("connect-interface up2").configuration());
    bmpd.wait_up(STATION);
    let mut frr = Frr::start(&topology.router, RELAY, &prefixes(100));
    let of_type = |messages: &[Value], kind: &str| messages.iter().any(|message| message["bmp_msg_type"] == kind);
    collector.wait_for("Peer Up", LONG, |messages| of_type(messages, "peer_up").then_some(()));
    frr.terminate();
    collector.wait_for("Peer Down", LONG, |messages| of_type(messages, "peer_down").then_some(()));
    assert_eq!(bmpd.session(STATION)["state"], "up");
}
