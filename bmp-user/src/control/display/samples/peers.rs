//! BGP peers.

use std::net::IpAddr;

use super::{
    super::{
        super::json::Elements,
        egress::{EgressReport, EnforcementLoss, Enforcer, KernelCounters},
        peer::{BgpListenerReport, BgpMessages, BgpPeerReport, FamilyRoutes, PeerSettings, PeerSource, SpeakerReport},
    },
    PEER, ROUTER_ID, SOURCE, STATION, outside,
    sessions::kernel,
    text,
};
use crate::{
    input::bgp::{BgpDownReason, BgpState},
    pin,
    wire::bgp::Family,
};

/// A speaker with an established peer, one that fails and one that has no port.
pub(in crate::control::display) fn speaker() -> SpeakerReport<impl Iterator<Item = BgpPeerReport>> {
    SpeakerReport {
        local_as: Some(65_000),
        router_id: Some(ROUTER_ID),
        listener: BgpListenerReport { port: Some(179), trouble: text("port 179 is taken"), refused: Some(3) },
        peers: Elements::new(peers().into_iter()),
    }
}

/// The same without anything.
pub(in crate::control::display) fn no_speaker() -> SpeakerReport<impl Iterator<Item = BgpPeerReport>> {
    let listener = BgpListenerReport { port: None, trouble: None, refused: None };
    SpeakerReport { local_as: None, router_id: None, listener, peers: Elements::new(std::iter::empty()) }
}

fn configured() -> PeerSettings {
    PeerSettings {
        port: 179,
        listen_only: false,
        password: false,
        keychain: text("core"),
        hold_seconds: 180,
        keepalive_seconds: 60,
        maximum_routes: None,
        maximum_routes_warning_only: false,
        families: vec![Family::IPV4_UNICAST],
    }
}

fn peers() -> Vec<BgpPeerReport> {
    let egress = |any, interfaces| EgressReport {
        any,
        interfaces,
        enforcement: Enforcer::Socket,
        why: text("--datapath socket"),
        lost: None,
        losses: None,
        vrf: None,
    };
    let counts = BgpMessages { open: 1, update: 2, notification: 3, keepalive: 4, route_refresh: 5, total: 15 };
    let mut peers = vec![
        BgpPeerReport {
            peer: PEER,
            asn: Some(65_001),
            state: BgpState::Established,
            age_seconds: 3_723,
            reason: None,
            last_error: outside("the peer closed the connection"),
            established_count: 2,
            closed_for_routes: 12,
            closed_for_memory: 3,
            retry_in_seconds: None,
            local_address: Some(SOURCE),
            local_port: Some(40_010),
            remote_port: Some(179),
            bgp_id: Some(ROUTER_ID),
            hold_seconds: Some(90),
            keepalive_seconds: Some(30),
            capabilities: Some(vec!["route-refresh".to_owned(), "4-octet-as".to_owned()]),
            families: Some(vec![Family::IPV4_UNICAST]),
            routes: vec![FamilyRoutes { family: Family::IPV4_UNICAST, routes: 100 }],
            received: counts.clone(),
            sent: counts.clone(),
            restart_left_seconds: Some(60),
            stale: 7,
            treated_as_withdraw: Some(8),
            prefixes_treated_as_withdraw: Some(9),
            attributes_discarded: Some(10),
            last_malformed: text("ORIGIN has the value 7"),
            not_negotiated: 11,
            configured: PeerSettings { maximum_routes: Some(1_000), maximum_routes_warning_only: true, ..configured() },
            connect_interface: PeerSource { interface: text("up2"), address: Some(SOURCE) },
            egress: egress(false, vec!["up2".to_owned()]),
            kernel: kernel(),
        },
        BgpPeerReport {
            peer: STATION,
            asn: Some(65_002),
            state: BgpState::Active,
            age_seconds: 0,
            reason: Some(BgpDownReason::Pin(pin::Reason::ConnectRefused)),
            last_error: outside("connect-refused: nobody listens there"),
            established_count: 0,
            closed_for_routes: 0,
            closed_for_memory: 0,
            retry_in_seconds: Some(12.3),
            local_address: None,
            local_port: None,
            remote_port: None,
            bgp_id: None,
            hold_seconds: None,
            keepalive_seconds: None,
            capabilities: None,
            families: None,
            routes: Vec::new(),
            received: counts.clone(),
            sent: counts,
            restart_left_seconds: None,
            stale: 0,
            treated_as_withdraw: None,
            prefixes_treated_as_withdraw: None,
            attributes_discarded: None,
            last_malformed: None,
            not_negotiated: 0,
            configured: configured(),
            connect_interface: PeerSource { interface: None, address: None },
            egress: egress(true, Vec::new()),
            kernel: KernelCounters::default(),
        },
    ];
    peers.extend(without_port(&peers));
    peers
}

/// A peer that has failed before it had an AS number, and one to which nothing has happened.
fn without_port(peers: &[BgpPeerReport]) -> Vec<BgpPeerReport> {
    let base = |peer: IpAddr| BgpPeerReport {
        peer,
        asn: None,
        state: BgpState::Idle,
        age_seconds: 1,
        reason: Some(BgpDownReason::OpenError),
        last_error: outside("the AS is another one"),
        retry_in_seconds: None,
        configured: PeerSettings {
            listen_only: true,
            password: true,
            keychain: None,
            families: Vec::new(),
            ..configured()
        },
        egress: EgressReport {
            any: false,
            interfaces: Vec::new(),
            enforcement: Enforcer::None,
            why: None,
            lost: Some(EnforcementLoss { for_seconds: 61, why: "egress4 is not attached".to_owned() }),
            losses: Some(7),
            vrf: None,
        },
        ..peers[1].clone()
    };
    vec![base(SOURCE), BgpPeerReport { reason: None, last_error: None, ..base("203.0.113.9".parse().unwrap()) }]
}
