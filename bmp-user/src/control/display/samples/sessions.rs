//! Sessions and their bindings.

use super::{
    super::{
        binding::{Binding, Held, NextHop},
        enforcement::Lost,
        guard::{Guard, Interface},
        session::{
            ConnectInterface, Connections, Denied, Egress, Feed, Foreign, InterfaceDrops, Kernel, Messages, Process,
            SessionReport, Unheld, UnheldConnection,
        },
    },
    PEER, SOURCE, STATION, text,
};
use crate::escape::Untrusted;

/// A session of another process, held by hold-down, in a VPN instance; and one without a port.
pub(in crate::control::display) fn sessions() -> Vec<SessionReport> {
    vec![
        SessionReport {
            station: STATION,
            port: Some(11019),
            role: Some("connect"),
            vpn_instance: "_public_".to_owned(),
            alias: text("lab"),
            owner: "bmpd",
            process: None,
            state: "up",
            phase: "following",
            reason: None,
            detail: None,
            mend: None,
            held: Some(held()),
            age_seconds: 3_723,
            local_address: Some(SOURCE),
            local_port: Some(40_000),
            established_count: 2,
            retry_in_seconds: None,
            connect_interface: ConnectInterface {
                interface: text("GigabitEthernet0/1/0"),
                address: Some(SOURCE),
                from: "session",
            },
            egress: Egress {
                any: false,
                interfaces: vec!["up2".to_owned(), "up3".to_owned()],
                enforcement: "kernel",
                why: None,
                lost: None,
                losses: 0,
                vrf: None,
            },
            kernel: kernel(),
            connections: Some(Connections { open: 1, established: 2, closed: 1, failed: 3 }),
            interface_drops: vec![InterfaceDrops { name: "up2".to_owned(), queue: 4, device: 5 }],
            unheld: Unheld {
                count: 3,
                connections: vec![UnheldConnection {
                    pid: 4711,
                    name: Untrusted::new("collector"),
                    local_address: SOURCE,
                    local_port: 40_001,
                }],
            },
            guard: None,
            messages: messages(),
            feed: Feed { cursor: 90, head: 100, lag_bytes: 1_000, dumps: 1, refused_peers: 2 },
            timers: "retry 30 s to 720 s, keepalive 60 s".to_owned(),
        },
        SessionReport {
            station: "2001:db8::7".parse().unwrap(),
            port: Some(11020),
            role: Some("listen"),
            vpn_instance: "mgmt".to_owned(),
            alias: None,
            owner: "bmpd",
            process: None,
            state: "down",
            phase: "down",
            reason: Some("interface-absent"),
            detail: text("interface up9 is not on this host"),
            mend: text("connect-interface up2"),
            held: None,
            age_seconds: 90_061,
            local_address: None,
            local_port: None,
            established_count: 0,
            retry_in_seconds: Some(1.5),
            connect_interface: ConnectInterface { interface: None, address: None, from: "default" },
            egress: Egress {
                any: true,
                interfaces: Vec::new(),
                enforcement: "cgroup",
                why: text("the programs are on the cgroup /lab alone"),
                lost: Some(Lost { for_seconds: 61, why: "egress4 is not attached".to_owned() }),
                losses: 7,
                vrf: text("mgmt"),
            },
            kernel: kernel(),
            connections: None,
            interface_drops: Vec::new(),
            unheld: Unheld { count: 0, connections: Vec::new() },
            guard: Some(Guard {
                interfaces: vec![
                    Interface { name: "up2".to_owned(), mode: "generic", why: None },
                    Interface { name: "up3".to_owned(), mode: "none", why: text("another XDP program is there") },
                ],
                dropped_packets: 11,
                dropped_bytes: 660,
                refused_packets: 12,
                refused_bytes: 720,
            }),
            messages: messages(),
            feed: Feed { cursor: 0, head: 100, lag_bytes: 0, dumps: 0, refused_peers: 0 },
            timers: "retry 30 s to 720 s, keepalive none, hold-down 200 ms".to_owned(),
        },
        SessionReport {
            station: "198.51.100.9".parse().unwrap(),
            port: None,
            role: None,
            vpn_instance: "_public_".to_owned(),
            alias: None,
            owner: "adopted",
            process: Some(Process { pid: 4712, name: Untrusted::new("gobgpd\u{1b}") }),
            state: "down",
            phase: "connecting",
            reason: Some("waiting-for-daemon"),
            detail: text("no process of this host has connected to 198.51.100.9 port 11019"),
            mend: None,
            held: None,
            age_seconds: 0,
            local_address: None,
            local_port: None,
            established_count: 0,
            retry_in_seconds: None,
            connect_interface: ConnectInterface { interface: None, address: Some(SOURCE), from: "bmp" },
            egress: Egress {
                any: false,
                interfaces: Vec::new(),
                enforcement: "none",
                why: None,
                lost: None,
                losses: 0,
                vrf: None,
            },
            kernel: kernel(),
            connections: None,
            interface_drops: Vec::new(),
            unheld: Unheld { count: 0, connections: Vec::new() },
            guard: None,
            messages: messages(),
            feed: Feed { cursor: 0, head: 100, lag_bytes: 0, dumps: 0, refused_peers: 0 },
            timers: String::new(),
        },
    ]
}

fn held() -> Held {
    Held { reason: "interface-down", detail: "up2 has no carrier".to_owned(), for_seconds: 0.4 }
}

pub(super) fn kernel() -> Kernel {
    Kernel {
        tx_bytes: 1_000,
        tx_packets: 10,
        tx_payload_bytes: 480,
        rx_bytes: 520,
        rx_packets: 9,
        retransmits: 1,
        denied: Denied { interface: 1, source: 2, mark: 3, no_pin: 4 },
        foreign: Foreign { tx_bytes: 60, tx_packets: 1 },
    }
}

fn messages() -> Messages {
    Messages {
        route_monitoring: 1,
        statistics_report: 2,
        peer_down: 3,
        peer_up: 4,
        initiation: 5,
        termination: 6,
        route_mirroring: 7,
    }
}

/// A binding that is held, and one that is down.
pub(in crate::control::display) fn bindings() -> Vec<Binding> {
    vec![
        Binding {
            station: STATION,
            vpn_instance: "mgmt".to_owned(),
            alias: text("lab"),
            asked: text("up2 192.0.2.65"),
            from: "session",
            source: Some(SOURCE),
            any: false,
            egress: vec!["up2".to_owned()],
            next_hop: Some(NextHop { address: PEER, interface: text("up2") }),
            rule: "the address that is configured".to_owned(),
            state: "held",
            held: Some(held()),
            warnings: vec!["rp_filter is strict on interface up2".to_owned()],
            would_change: vec![
                "what mends it: `ip link set up2 up`".to_owned(),
                "192.0.2.65 taken from up2".to_owned(),
            ],
        },
        Binding {
            station: "2001:db8::7".parse().unwrap(),
            vpn_instance: "_public_".to_owned(),
            alias: None,
            asked: None,
            from: "default",
            source: None,
            any: true,
            egress: Vec::new(),
            next_hop: Some(NextHop { address: PEER, interface: None }),
            rule: "interface up9 is not on this host".to_owned(),
            state: "interface-absent",
            held: None,
            warnings: Vec::new(),
            would_change: Vec::new(),
        },
        Binding {
            station: STATION,
            vpn_instance: "_public_".to_owned(),
            alias: None,
            asked: None,
            from: "default",
            source: None,
            any: false,
            egress: Vec::new(),
            next_hop: None,
            rule: "not decided yet".to_owned(),
            state: "pending",
            held: None,
            warnings: Vec::new(),
            would_change: Vec::new(),
        },
    ]
}
