//! Decoders of other projects read every message of a station. pmbmpd accepts every message, and
//! tshark complains only about what the daemon caused. Both read in Peer Ups, Peer Downs and
//! Statistics Reports what the daemon shows of its sessions.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use lab::{
    bmp,
    bmpd::{Bmpd, number},
    daemons::{DaemonRelease, release},
    peering::{BMPD, DAEMON, DAEMON_V6, DaemonTable, Peering, bgp_view},
    pmacct::Pmbmpd,
    relayed::{RelayedDaemon, RelayedKind, TABLE},
    topology::{STATION, STATION_PORT, Topology},
    trial::{RELAY, TrialPlan},
    tshark::{Tshark, TsharkReport},
    wait::{PATIENCE, until},
};
use programs::Program;
use serde_json::Value;

/// Patience for pmbmpd, which writes one JSON object a route, and for GoBGP's statistics, which
/// come every 15 s.
const LONG: Duration = Duration::from_secs(60);

/// A statistic: its type, its family if it has one, and its value.
type LoggedStatistic = (u64, Option<(u64, u64)>, u64);

/// A bmpd with pmbmpd as its station, and a capture of their link.
struct DecodedTrial {
    bmpd: Bmpd,
    collector: Pmbmpd,
    to_station: Tshark,
    topology: Topology,
}

impl DecodedTrial {
    fn start(system: &str, bmp: &str) -> Self {
        let topology = Topology::without_offload();
        let collector = Pmbmpd::start(&topology.station, (STATION, STATION_PORT));
        let to_station = Tshark::start(&topology.router, "up1", STATION_PORT);
        let plan = TrialPlan { system, bmp, ..TrialPlan::default() };
        let bmpd = Bmpd::start(&topology.router, &plan.configuration());
        bmpd.wait_up(STATION);
        Self { bmpd, collector, to_station, topology }
    }

    /// Returns pmbmpd's log of one message type and peer, over the session's newest connection.
    fn logged(&self, kind: &str, peer: IpAddr) -> Vec<Value> {
        let port = self.bmpd.session(STATION)["local_port"].clone();
        let is_wanted = |message: &Value| {
            message["bmp_msg_type"] == kind
                && message["peer_ip"] == peer.to_string()
                && message["bmp_router_port"] == port
        };
        self.collector.messages().into_iter().filter(is_wanted).collect()
    }

    /// Waits until pmbmpd has logged `count` messages of a type and peer, and returns the last.
    fn wait_logged(&self, kind: &str, peer: IpAddr, count: usize) -> Value {
        until(&format!("pmbmpd logs {count} messages {kind} of {peer}"), LONG, || {
            self.logged(kind, peer).into_iter().nth(count - 1)
        })
    }

    /// Waits until the last Statistics Report of a peer has these statistics.
    fn wait_counted(&self, peer: IpAddr, wanted: &[LoggedStatistic]) {
        until(&format!("pmbmpd logs {wanted:?} of {peer}"), LONG, || {
            let stats = self.logged("stats", peer);
            let is = |(kind, family, count): &LoggedStatistic| {
                let family = family.map_or([Value::Null, Value::Null], |(afi, safi)| [afi.into(), safi.into()]);
                let same = |stat: &&Value| {
                    stat["counter_type"] == *kind && [&stat["afi"], &stat["safi"]] == [&family[0], &family[1]]
                };
                stats.iter().rfind(same).is_some_and(|stat| stat["counter_value"] == *count)
            };
            wanted.iter().all(is).then_some(())
        });
    }

    /// Connects the session again, so that the station receives a dump.
    fn reconnect(&self) {
        let before = self.bmpd.session(STATION)["local_port"].clone();
        self.bmpd.display(&format!("reset bmp session {STATION}"));
        self.bmpd.wait_session(STATION, "up again after a dump", |session| {
            session["local_port"] != before && session["phase"] == "following"
        });
    }
}

/// Port of a late station.
const LATE_PORT: u16 = STATION_PORT + 1;

impl DecodedTrial {
    /// Connects a late station, whose messages pmbmpd accepts without a complaint. It receives at
    /// least `routes` routes of a peer.
    fn late_station(&self, peer: IpAddr, routes: usize) -> TsharkReport {
        let collector = Pmbmpd::start(&self.topology.station, (STATION, LATE_PORT));
        let capture = Tshark::start(&self.topology.router, "up1", LATE_PORT);
        let session = format!("bmp-session {STATION} alias late");
        let commit = |lines: &str| self.bmpd.commit_lines(&format!("bmp\n{lines}"));
        commit(&format!("{session}\n tcp connect port {LATE_PORT}"));
        let of_peer =
            |message: &&Value| message["bmp_msg_type"] == "route_monitor" && message["peer_ip"] == peer.to_string();
        collector
            .wait_for("the routes", LONG, |messages| (messages.iter().filter(of_peer).count() >= routes).then_some(()));
        commit(&format!("undo {session}"));
        let end = |message: &Value| message["bmp_msg_type"] == "term";
        collector.wait_for("Termination", LONG, |messages| messages.iter().any(end).then_some(()));
        assert_eq!(collector.complaints(), Vec::<String>::new());
        capture.stop()
    }
}

/// tshark's reading of a Peer Up: addresses and ports of both ends, AS numbers, BGP identifiers,
/// hold times and families.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PeerUpReading {
    local: (String, u64),
    remote: (String, u64),
    asn: u64,
    remote_id: String,
    sent: OpenReading,
    received: OpenReading,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct OpenReading {
    asn: u64,
    id: String,
    hold_time: u64,
    families: BTreeSet<(u64, u64)>,
}

/// Reads the first Peer Up of a BGP peer. FRR 10 and GoBGP report their Loc-RIB's peer too (type
/// 3).
fn first_up(to_station: &TsharkReport) -> PeerUpReading {
    let ups = to_station.messages(bmp::PEER_UP);
    let of_bgp = ups.iter().find(|up| up["bmp.peer.header"]["bmp.peer.type"] == "0");
    PeerUpReading::read(of_bgp.expect("there is a Peer Up of a BGP peer"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not text")).to_owned()
}

fn figure(value: &Value) -> u64 {
    text(value).parse().unwrap_or_else(|_| panic!("{value} is not a number"))
}

/// Returns tshark's value as a list: it may be absent, single or an array.
fn several(value: &Value) -> Vec<&Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(all) => all.iter().collect(),
        one => vec![one],
    }
}

impl OpenReading {
    fn read(message: &Value) -> Self {
        let parameters = several(&message["bgp.open.opt"]["bgp.open.opt.param"]);
        let capabilities: Vec<_> =
            parameters.into_iter().flat_map(|parameter| several(&parameter["bgp.cap"])).collect();
        let multiprotocol = capabilities.iter().filter(|capability| capability["bgp.cap.type"] == "1");
        let families =
            multiprotocol.map(|of| (figure(&of["bgp.cap.mp.afi"]), figure(&of["bgp.cap.mp.safi"]))).collect();
        let four_octets = capabilities.iter().find(|capability| capability["bgp.cap.type"] == "65");
        Self {
            asn: figure(&four_octets.expect("the OPEN has a four-octet AS number")["bgp.cap.4as"]),
            id: text(&message["bgp.open.identifier"]),
            hold_time: figure(&message["bgp.open.holdtime"]),
            families,
        }
    }
}

impl PeerUpReading {
    fn read(peer_up: &Value) -> Self {
        let header = &peer_up["bmp.peer.header"];
        let is_ipv6 = header["bmp.peer.flags_tree"]["bmp.peer.flags.ipv6"] == "1";
        let [of_peer, of_local] = match is_ipv6 {
            true => ["bmp.peer.ipv6.addr", "bmp.peer.up.ipv6.addr"],
            false => ["bmp.peer.ip.addr", "bmp.peer.up.ip.addr"],
        };
        let [sent, received] = several(&peer_up["bgp"])[..] else { panic!("{peer_up:#} has no two OPENs") };
        Self {
            local: (text(&peer_up[of_local]), figure(&peer_up["bmp.peer.up.port.local"])),
            remote: (text(&header[of_peer]), figure(&peer_up["bmp.peer.up.port.remote"])),
            asn: figure(&header["bmp.peer.asn"]),
            remote_id: text(&header["bmp.peer.id"]),
            sent: OpenReading::read(sent),
            received: OpenReading::read(received),
        }
    }
}

/// Returns the families of one side, `advertised` or `received`, in FRR's
/// `show bgp neighbors json`.
fn frr_families(neighbor: &Value, side: &str) -> BTreeSet<(u64, u64)> {
    let all = neighbor["neighborCapabilities"]["multiprotocolExtensions"].as_object().expect("FRR shows families");
    let number = |name: &str| match name {
        "ipv4Unicast" => (1, 1),
        "ipv6Unicast" => (2, 1),
        "ipv4Vpn" => (1, 128),
        _ => panic!("{name} is not configured"),
    };
    let is_of_side = |shown: &Value| shown[side] == true || shown["advertisedAndReceived"] == true;
    all.iter().filter(|(_, shown)| is_of_side(shown)).map(|(name, _)| number(name)).collect()
}

/// Returns code and subcode of the last NOTIFICATION in FRR's JSON.
fn frr_notification(neighbor: &Value) -> (u64, u64) {
    let answer = text(&neighbor["lastErrorCodeSubcode"]);
    let number = |digits| u64::from_str_radix(digits, 16).expect("the code is hexadecimal");
    (number(&answer[..2]), number(&answer[2..4]))
}

/// Returns code and subcode of the NOTIFICATION in a Peer Down.
fn notification(peer_down: &Value) -> (u64, u64) {
    let bgp = peer_down["bgp"].as_object().unwrap_or_else(|| panic!("{peer_down:#} has no NOTIFICATION"));
    let minor = bgp.iter().find(|(name, _)| name.starts_with("bgp.notify.minor_error")).expect("there is a subcode");
    (figure(&bgp["bgp.notify.major_error"]), figure(minor.1))
}

#[test]
fn messages_about_bgp_peers_agree_with_frrs_own_display() {
    let (peer, asn) = DAEMON;
    let system = bgp_view(&format!(
        " peer {peer} as-number {asn}\n peer {DAEMON_V6} as-number {asn}\n \
         ipv4-family unicast\n  peer {peer} enable\n ipv6-family unicast\n  peer {DAEMON_V6} enable\n \
         ipv4-family vpnv4\n  peer {peer} enable\n"
    ));
    let trial = DecodedTrial::start(&system, "statistics-timer 1");
    // As many routes as fit into FRR's messages of 4,096 bytes: tshark reads no longer ones (RFC
    // 8654).
    let table = DaemonTable { ipv4: 900, ipv6: 400, vpnv4: 200, ..DaemonTable::default() };
    let mut frr = Peering::frr(&trial.topology.station, &table);
    frr.wait_tables(&table);
    let neighbors = until("FRR has sent all", PATIENCE, || {
        let neighbors = frr.ask("show bgp neighbors json");
        let sent = |of: IpAddr, family: &str| {
            neighbors[of.to_string()]["addressFamilyInfo"][family]["sentPrefixCounter"].as_u64()
        };
        let all = [sent(BMPD.0, "ipv4Unicast"), sent(BMPD.0, "ipv4Vpn"), sent(lab::peering::BMPD_V6, "ipv6Unicast")];
        (all == [Some(900), Some(200), Some(400)]).then_some(neighbors.clone())
    });
    trial.wait_counted(peer, &[(7, None, 1_100), (9, Some((1, 1)), 900), (9, Some((1, 128)), 200), (11, None, 0)]);
    trial.wait_counted(DAEMON_V6, &[(7, None, 400), (9, Some((2, 1)), 400), (12, None, 0)]);
    trial.reconnect();
    trial.wait_counted(peer, &[(7, None, 1_100)]);
    trial.wait_logged("route_monitor", peer, 1_100);
    trial.wait_logged("route_monitor", DAEMON_V6, 400);

    // FRR shuts the session down, then crashes, and is then no peer any more.
    frr.disable();
    for address in [peer, DAEMON_V6] {
        assert_eq!(trial.wait_logged("peer_down", address, 1)["reason_type"], 3);
    }
    let after = frr.ask("show bgp neighbors json");
    frr.enable();
    trial.wait_logged("peer_up", peer, 2);
    trial.wait_logged("peer_up", DAEMON_V6, 2);
    frr.kill();
    assert_eq!(trial.wait_logged("peer_down", peer, 2)["reason_type"], 4);
    frr.start_again(None);
    trial.wait_logged("peer_up", peer, 3);
    trial.bmpd.commit_lines(&format!("bgp {}\nundo peer {peer} as-number", BMPD.1));
    assert_eq!(trial.wait_logged("peer_down", peer, 3)["reason_type"], 5);
    let end = |message: &Value| message["bmp_msg_type"] == "term";
    trial.bmpd.terminate();
    trial.collector.wait_for("Termination", LONG, |messages| messages.iter().any(end).then_some(()));
    assert_eq!(trial.collector.complaints(), Vec::<String>::new());

    let to_station = trial.to_station.stop();
    assert_eq!(to_station.complaints(), BTreeSet::new());
    // The first two Peer Ups, and those of the dump.
    let ups = to_station.messages(bmp::PEER_UP);
    for (of, local) in [(peer, BMPD.0), (DAEMON_V6, lab::peering::BMPD_V6)] {
        let sessions: Vec<_> =
            ups.iter().map(PeerUpReading::read).filter(|session| session.remote.0 == of.to_string()).collect();
        let shown = &neighbors[local.to_string()];
        // FRR is the far end.
        let (port, remote_port) = (number(&shown["portForeign"]), number(&shown["portLocal"]));
        let hold_time = number(&shown["bgpTimerConfiguredHoldTimeMsecs"]) / 1000;
        let open = |asn: &Value, id: &Value| OpenReading {
            asn: number(asn),
            id: text(id),
            hold_time,
            families: frr_families(shown, "received"),
        };
        let wanted = PeerUpReading {
            local: (text(&shown["hostForeign"]), port),
            remote: (text(&shown["hostLocal"]), remote_port),
            asn: number(&shown["localAs"]),
            remote_id: text(&shown["localRouterId"]),
            sent: open(&shown["remoteAs"], &shown["remoteRouterId"]),
            received: open(&shown["localAs"], &shown["localRouterId"]),
        };
        assert_eq!(sessions[..2], [wanted.clone(), wanted]);
        let down = to_station.messages(bmp::PEER_DOWN).into_iter().find(|down| {
            let header = &down["bmp.peer.header"];
            [&header["bmp.peer.ip.addr"], &header["bmp.peer.ipv6.addr"]].contains(&&Value::from(of.to_string()))
        });
        let down = down.expect("there is a Peer Down");
        // Cease, Hard Reset (RFC 8538 §3.1), which contains Cease, Administrative Shutdown. FRR
        // shows the latter.
        assert_eq!((notification(&down), &down["bgp"]["bgp.notify.minor_data"]), ((6, 9), &"06:02".into()), "{down:#}");
        assert_eq!(after[local.to_string()]["lastResetDueTo"], "Admin. shutdown");
    }
}

/// Asserts that the station was told the messages of one type that the daemon reported. After them
/// bmpd may add Peer Downs with its own reason: a killed daemon sends none of its Loc-RIB.
fn assert_relayed(told: &[Value], reported: &[Value]) {
    assert!(!reported.is_empty(), "the daemon reported no message of this type");
    let (relayed, added) = told.split_at(reported.len().min(told.len()));
    let differs = relayed.iter().zip(reported).position(|(told, reported)| told != reported);
    assert_eq!(
        differs.map(|at| (at, &relayed[at], &reported[at])),
        None,
        "{} told, {} reported",
        told.len(),
        reported.len()
    );
    assert!(added.iter().all(|down| down["bmp.peer.down.reason"] == "6"), "{added:#?}");
}

#[test]
fn frrs_messages_are_relayed_unchanged() {
    let trial = DecodedTrial::start("", "");
    let from_daemon = Tshark::start(&trial.topology.router, "lo", RELAY.port());
    let mut daemon = RelayedDaemon::start(RelayedKind::Frr, &trial.topology.router, RELAY);
    let table = RelayedKind::Frr.acceptable(&DaemonTable { ipv4: 1_000, ipv6: 200, ..TABLE });
    let bird = Peering::bird(&trial.topology.station, &table);
    daemon.wait_tables(lab::rib::IPV4, &table.routes(lab::rib::IPV4));
    let neighbor = daemon.ask("show bgp neighbors json")[DAEMON.0.to_string()].clone();
    let routes = table.ipv4 + table.ipv6;
    trial.wait_logged("route_monitor", DAEMON.0, 2 * routes);
    trial.wait_logged("stats", DAEMON.0, 7);
    let late = trial.late_station(DAEMON.0, 2 * routes);
    bird.disable();
    until("pmbmpd logs that the peer is down", LONG, || {
        trial.logged("peer_down", DAEMON.0).into_iter().find(|down| down["reason_type"] == 3)
    });
    let after = daemon.ask("show bgp neighbors json")[DAEMON.0.to_string()].clone();
    daemon.kill();
    trial.bmpd.terminate();
    assert_eq!(trial.collector.complaints(), Vec::<String>::new());
    let (to_station, reported) = (trial.to_station.stop(), from_daemon.stop());
    // FRR has a statistic of an experimental type, about which tshark complains.
    assert_eq!(to_station.complaints(), reported.complaints());
    assert_eq!(late.complaints(), reported.complaints());
    assert_eq!(first_up(&late), first_up(&reported));
    assert!(
        late.messages(bmp::ROUTE_MONITORING).len() < to_station.messages(bmp::ROUTE_MONITORING).len(),
        "it is packed"
    );
    for kind in [bmp::PEER_UP, bmp::PEER_DOWN, bmp::STATISTICS_REPORT, bmp::ROUTE_MIRRORING] {
        assert_relayed(&to_station.messages(kind), &reported.messages(kind));
    }
    let up = first_up(&to_station);
    let [local, remote] = [("hostLocal", "portLocal"), ("hostForeign", "portForeign")]
        .map(|(address, port)| (text(&neighbor[address]), number(&neighbor[port])));
    assert_eq!((&up.local, &up.remote), (&local, &remote));
    assert_eq!((up.asn, &up.remote_id), (number(&neighbor["remoteAs"]), &text(&neighbor["remoteRouterId"])));
    assert_eq!((up.sent.asn, up.received.asn), (number(&neighbor["localAs"]), number(&neighbor["remoteAs"])));
    let families = [&up.sent.families, &up.received.families];
    assert_eq!(families, [&frr_families(&neighbor, "advertised"), &frr_families(&neighbor, "received")]);
    let down = to_station.messages(bmp::PEER_DOWN).into_iter().rfind(|down| down["bmp.peer.down.reason"] == "3");
    let down = down.expect("there is a Peer Down with a NOTIFICATION");
    assert_eq!(notification(&down), frr_notification(&after));
}

#[test]
fn gobgps_messages_are_relayed_unchanged() {
    let trial = DecodedTrial::start("", "");
    let from_daemon = Tshark::start(&trial.topology.router, "lo", RELAY.port());
    let mut daemon = RelayedDaemon::start(RelayedKind::Gobgp, &trial.topology.router, RELAY);
    let table = DaemonTable { ipv4: 1_000, ipv6: 200, ..TABLE };
    let bird = Peering::bird(&trial.topology.station, &table);
    daemon.wait_tables(lab::rib::IPV4, &table.routes(lab::rib::IPV4));
    daemon.wait_tables(lab::rib::IPV6, &table.routes(lab::rib::IPV6));
    let neighbor = daemon.ask(&format!("neighbor {}", DAEMON.0));
    let of_all = |what: &str| -> u64 {
        neighbor["afi_safis"].as_array().into_iter().flatten().map(|of| number(&of["state"][what])).sum()
    };
    trial.wait_counted(DAEMON.0, &[(7, None, of_all("received")), (8, None, of_all("accepted"))]);
    let late = trial.late_station(DAEMON.0, 1_200);
    bird.disable();
    assert_eq!(trial.wait_logged("peer_down", DAEMON.0, 1)["reason_type"], 3);
    daemon.kill();
    trial.bmpd.terminate();
    assert_eq!(trial.collector.complaints(), Vec::<String>::new());
    let (to_station, reported) = (trial.to_station.stop(), from_daemon.stop());
    // GoBGP 4.8 gives its Loc-RIB path identifiers that no OPEN has, and tshark cannot read them.
    assert_eq!(to_station.complaints(), reported.complaints());
    assert!(late.complaints().is_subset(&reported.complaints()), "{:?}", late.complaints());
    assert_eq!(first_up(&late), first_up(&reported));
    for kind in [bmp::PEER_UP, bmp::PEER_DOWN, bmp::STATISTICS_REPORT] {
        assert_relayed(&to_station.messages(kind), &reported.messages(kind));
    }
    let up = first_up(&to_station);
    let state = &neighbor["state"];
    // GoBGP 4.8 leaves out its own address.
    let is_told = release(Program::Gobgpd) < DaemonRelease(4, 0);
    let own = if is_told { text(&neighbor["transport"]["local_address"]) } else { "0.0.0.0".to_owned() };
    assert_eq!((up.local.0, up.remote.0), (own, DAEMON.0.to_string()));
    assert_eq!((up.asn, up.remote_id), (number(&state["peer_asn"]), text(&state["router_id"])));
    assert_eq!((up.sent.asn, up.received.asn), (number(&neighbor["conf"]["local_asn"]), number(&state["peer_asn"])));
    let down = to_station.messages(bmp::PEER_DOWN).remove(0);
    // BIRD disabled the session: Cease, Administrative Shutdown (RFC 4486).
    assert_eq!(notification(&down), (6, 2));
}
