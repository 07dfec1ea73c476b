//! Malformed UPDATEs of bmpd's own BGP peers, and imperfect MRT files. An early and a late station
//! know the same, and `display` says what was wrong.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use bmp_fuzz::station::Replica;
use lab::{
    bgp::{self, prefixes},
    bmp::{self, ReportedPeer},
    bmpd::number,
    peering::{BMPD, bgp_view},
    skip::skip,
    speaker::LabBgpConnection,
    topology::{STATION, Topology},
    trial::{LabTrial, TrialPlan},
    wait::{PATIENCE, until},
};
use serde_json::Value;

/// Address of the peer in the cases.
const PEER: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 21);

/// Returns the file of a case, or `None` without the cases.
fn case(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/cases").join(name);
    path.exists().then_some(path)
}

/// Returns the knowledge of the station's newest connection.
fn knowledge(trial: &LabTrial) -> Replica {
    let connection = trial.station.connections().pop().expect("the station has a connection");
    Replica::of(&connection.feed().concat())
}

/// Asserts that the station, which knows `routes` routes, knows the same after a new connection.
fn assert_late_equals_early(name: &str, trial: &LabTrial, routes: usize) {
    let early = until(&format!("{name}: {routes} routes"), PATIENCE, || {
        Some(knowledge(trial)).filter(|early| early.routes() == routes)
    });
    trial.station.close();
    trial.station.wait_for(&format!("{name}: the same knowledge after a new connection"), PATIENCE, |connections| {
        let late = Replica::of(&connections.get(1)?.feed().concat());
        (late.routes() == routes && late.knows() == early.knows()).then_some(())
    });
    thread::sleep(Duration::from_secs(1));
    assert_eq!(knowledge(trial).knows(), early.knows(), "{name}: the knowledge changed later");
}

/// Starts bmpd with the peer of the cases, in AS 65001 with all families, and a session that is up.
fn with_peer() -> LabTrial {
    const FAMILIES: [&str; 12] = [
        "ipv4-family unicast",
        "ipv4-family multicast",
        "ipv4-family labeled-unicast",
        "ipv4-family vpnv4",
        "ipv4-family flow",
        "ipv6-family unicast",
        "ipv6-family multicast",
        "ipv6-family labeled-unicast",
        "ipv6-family vpnv6",
        "ipv6-family flow",
        "l2vpn-family evpn",
        "link-state-family unicast",
    ];
    let families: String = FAMILIES.iter().map(|family| format!(" {family}\n  peer {PEER} enable\n")).collect();
    let system = bgp_view(&format!(" peer {PEER} as-number 65001\n peer {PEER} listen-only\n{families}"));
    let topology = Topology::new();
    topology.station.ip(&format!("addr add {PEER}/32 dev lo"));
    topology.router.ip(&format!("route add {PEER}/32 via 192.0.2.2 dev up1"));
    let trial = TrialPlan { system: &system, ..TrialPlan::default() }.start_on(topology);
    trial.bmpd.wait_session(STATION, "following", |session| session["phase"] == "following");
    trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    trial
}

/// Sends a file of BGP messages, and returns the open connection.
fn send(trial: &LabTrial, messages: &Path) -> LabBgpConnection {
    let mut wire = LabBgpConnection::connect(&trial.topology.station, PEER, SocketAddr::new(BMPD.0, 179));
    wire.send(&fs::read(messages).expect("the case is readable"));
    wire
}

fn peer(trial: &LabTrial) -> Value {
    trial.bmpd.display_json(&format!("display bgp peer {PEER}"))["peers"][0].take()
}

#[test]
fn routes_of_a_malformed_update_are_withdrawn_at_early_and_late_stations() {
    let cases = [
        ("a-large-community-13-octets.bgp", 1, "LARGE_COMMUNITY has a length of 13 bytes"),
        ("a-malformed-attribute-with-nlri.bgp", 1, "the last attribute is longer than"),
    ];
    for (name, routes, malformed) in cases {
        let Some(file) = case(name) else { return skip("the cases are missing") };
        let trial = with_peer();
        let _wire = send(&trial, &file);
        let shown = until(&format!("{name} is received"), PATIENCE, || {
            Some(peer(&trial)).filter(|peer| number(&peer["received"]["update"]) == 2)
        });
        assert_eq!(shown["state"], "Established", "{shown:#}");
        assert_eq!((number(&shown["treated_as_withdraw"]), number(&shown["prefixes_treated_as_withdraw"])), (1, 1));
        assert!(shown["last_malformed"].as_str().is_some_and(|last| last.starts_with(malformed)), "{shown:#}");
        let text = trial.bmpd.display(&format!("display bgp peer {PEER} verbose"));
        assert!(text.contains("Treat-as-withdraw   : 1 UPDATEs with 1 routes"), "{text}");
        trial.bmpd.wait_for_log("the malformed attribute", |line| line.contains(malformed));
        assert_late_equals_early(name, &trial, routes);
        // No station received the malformed UPDATE itself.
        for connection in trial.station.connections() {
            let monitorings = connection.frames.iter().filter(|frame| frame.kind() == bmp::ROUTE_MONITORING);
            assert!(monitorings.clone().all(|frame| frame.body().len() != 63 && frame.body().len() != 31), "{name}");
        }
    }
}

#[test]
fn a_malformed_update_without_reachable_routes_ends_the_session() {
    let Some(file) = case("g-no-reachable-nlri.bgp") else { return skip("the cases are missing") };
    let trial = with_peer();
    let mut wire = send(&trial, &file);
    let end = std::iter::from_fn(|| wire.receive()).last();
    assert!(matches!(&end, Some((bgp::NOTIFICATION, body)) if body[0] == 3), "{end:?}");
    let connection = trial.station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    let down = connection.frames.iter().find(|frame| frame.kind() == bmp::PEER_DOWN).expect("there is a Peer Down");
    // Reason 1: the local system sent the NOTIFICATION that follows.
    assert_eq!((down.body()[0], down.body()[20]), (1, 3));
    assert_late_equals_early("g", &trial, 0);
}

#[test]
fn a_reserved_octet_of_a_capability_costs_no_family() {
    let Some(file) = case("h-reserved-octet.bgp") else { return skip("the cases are missing") };
    let trial = with_peer();
    let _wire = send(&trial, &file);
    assert_late_equals_early("h", &trial, 3);
    assert_eq!(peer(&trial)["families"], serde_json::json!(["IPv4 unicast", "IPv6 unicast"]));
}

#[test]
fn a_routers_malformed_updates_are_relayed_unchanged() {
    let trial = TrialPlan::default().start_up();
    let mut feeder = trial.feeder();
    let origin = [0x40, 1, 1, 0];
    let path = |kind: u8| [0x40, 2, 6, kind, 1, 0, 0, 0xfd, 0xe9];
    let next_hop = [0x40, 3, 4, 192, 0, 2, 9];
    let (sequence, set, confederation) = (path(2), path(1), path(3));
    let unknown_well_known = [0x40, 99, 1, 7];
    let as_0 = [0x40, 2, 6, 2, 1, 0, 0, 0, 0];
    let cases: [&[&[u8]]; 6] = [
        &[&origin, &set, &next_hop],
        &[&origin, &confederation, &next_hop],
        &[&origin, &sequence, &next_hop, &unknown_well_known],
        &[&origin, &as_0, &next_hop],
        &[&origin, &sequence],
        &[&sequence, &next_hop, &[0xc0, 32, 1, 0]],
    ];
    let messages: Vec<_> = prefixes(cases.len())
        .iter()
        .zip(cases)
        .map(|(prefix, attributes)| {
            let update = bgp::update(&attributes.concat(), &bgp::nlri(&[*prefix]));
            bmp::route_monitoring(&ReportedPeer::default(), 0, &update)
        })
        .collect();
    messages.iter().for_each(|message| feeder.send(message.clone()));
    let connection =
        trial.station.wait_connection(0, "the routes", |c| c.count(bmp::ROUTE_MONITORING) == messages.len());
    let received: Vec<_> = connection.feed().into_iter().skip(1).map(<[u8]>::to_vec).collect();
    assert_eq!(received, messages);
    assert_late_equals_early("reported routes", &trial, messages.len());
}

fn replay(trial: &LabTrial) -> Value {
    trial.bmpd.display_json("display mrt-replay")[0].take()
}

/// Starts a bmpd that replays a file. Returns the finished replay's JSON.
fn replayed(file: &Path) -> (LabTrial, Value) {
    let system = format!("mrt-replay table\n file {}\n pace maximum\nquit", file.display());
    let trial = TrialPlan { system: &system, ..TrialPlan::default() }.start_up();
    let done = until(&format!("{} is replayed", file.display()), PATIENCE, || {
        Some(replay(&trial)).filter(|replay| replay["state"] == "done")
    });
    (trial, done)
}

#[test]
fn unannounced_path_identifiers_in_a_record_are_understood() {
    let Some(file) = case("b-identifiers-in-message-as4.mrt") else { return skip("the cases are missing") };
    let (trial, done) = replayed(&file);
    assert_eq!((number(&done["errors"]), number(&done["not_understood"]), number(&done["updates"])), (0, 0, 5));
    assert_eq!(done["passed_over"], serde_json::json!([]));
    assert_late_equals_early("b", &trial, 5);
}

#[test]
fn records_of_other_types_are_passed_over_and_displayed() {
    let cases = [
        ("i-type-5.mrt", 0, "records of BGP (type 5) subtype 1", 1, 0),
        ("i-type-64-unassigned.mrt", 2, "records of unassigned type 64 subtype 1", 2, 79),
    ];
    for (name, routes, what, record, first) in cases {
        let Some(file) = case(name) else { return skip("the cases are missing") };
        let (trial, done) = replayed(&file);
        assert_eq!(number(&done["errors"]), 0, "{done:#}");
        let expected = serde_json::json!([{ "what": what, "records": 1, "first_record": record, "first_at": first, "is_error": false }]);
        assert_eq!(done["passed_over"], expected);
        let text = trial.bmpd.display("display mrt-replay");
        assert!(text.contains(&format!("    1 {what}, the first is record {record} at byte {first}")), "{text}");
        let line = format!("{what} are passed over; the first is record {record} at byte {first} (unpacked)");
        trial.bmpd.wait_for_log("what is passed over", |logged| logged.contains(&line));
        assert_eq!(trial.bmpd.log().iter().filter(|logged| logged.contains("passed over")).count(), 1);
        assert_late_equals_early(name, &trial, routes);
    }
}

const ATTRIBUTES: &[u8] = &[0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9, 0x40, 3, 4, 192, 0, 2, 9];

#[test]
fn one_update_does_not_outvote_five_and_misunderstood_ones_are_displayed() {
    let mut updates = vec![bgp::update(ATTRIBUTES, &[16, 10, 9])];
    // Without path identifiers, these would be default routes and short prefixes.
    updates.extend((0..5).map(|number| bgp::update(ATTRIBUTES, &[0, 0, 0, 1, 24, 10, 0, number])));
    // COMMUNITIES of three bytes. Then an MP_REACH_NLRI that ends inside its next hop.
    let malformed = [ATTRIBUTES, &[0xc0, 8, 3, 1, 2, 3]].concat();
    updates.push(bgp::update(&malformed, &[0, 0, 0, 1, 24, 10, 1, 0]));
    let cut = [ATTRIBUTES, &[0x80, 14, 5, 0, 2, 1, 16, 0]].concat();
    updates.push(bgp::update(&cut, &[0, 0, 0, 1, 24, 10, 1, 1]));
    let records: Vec<_> = updates.iter().map(|update| bgp::mrt_record(update)).collect();
    let at = |record: usize| records[..record - 1].concat().len();
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    fs::write(file.path(), records.concat()).expect("the file is writable");
    let (trial, done) = replayed(file.path());
    let found = |kind: &str, updates: u64, record: usize| serde_json::json!({ "kind": kind, "updates": updates, "first_record": record, "first_at": at(record) });
    let expected = [found("malformed", 1, 8), found("mixed-path-ids", 1, 1), found("malformed-attributes", 2, 7)];
    assert_eq!(done["not_understood_by_kind"], serde_json::json!(expected), "{done:#}");
    assert_eq!((number(&done["errors"]), number(&done["not_understood"])), (4, 4));
    assert_eq!(done["passed_over"], serde_json::json!([]), "the replay passed something over");
    let text = trial.bmpd.display("display mrt-replay");
    assert!(text.contains(&format!("    2 malformed-attributes, the first in record 7 at byte {}", at(7))), "{text}");
    let line = format!("the first is record 8 at byte {} (unpacked): its routes cannot be told apart", at(8));
    trial.bmpd.wait_for_log("what is not understood", |logged| logged.contains(&line));
    assert_eq!(trial.bmpd.log().iter().filter(|logged| logged.contains("passed on as it came")).count(), 3);
    let feed = trial.bmpd.display_json("display bmp feed");
    assert_eq!(number(&feed["routes"]), 8, "{feed:#}");
    // The plain route, the five, and the malformed ones, which share no message.
    trial.station.wait_connection(0, "all", |c| c.count(bmp::ROUTE_MONITORING) >= 4);
}

#[test]
fn broken_records_are_counted_by_kind_and_the_others_are_replayed() {
    let Some(case) = case("i-type-64-unassigned.mrt") else { return skip("the cases are missing") };
    let good = fs::read(&case).expect("the case is readable");
    // A BGP4MP_MESSAGE_AS4 record that ends inside its addresses, and one whose message has a wrong
    // length.
    let record = |body: &[u8]| {
        let length = u32::try_from(body.len()).expect("the length fits").to_be_bytes();
        [&good[..4], &[0, 16, 0, 4], &length, body].concat()
    };
    let mut odd = good[12..79].to_vec();
    odd.push(0);
    let broken = [record(&good[12..20]), record(&odd), record(&good[12..20])].concat();
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    fs::write(file.path(), [&broken[..], &good, &broken].concat()).expect("the file is writable");
    let (trial, done) = replayed(file.path());
    assert_eq!((number(&done["records"]), number(&done["errors"])), (9, 6), "{done:#}");
    let kinds: Vec<_> = done["passed_over"]
        .as_array()
        .expect("the value is an array")
        .iter()
        .map(|kind| kind["what"].clone())
        .collect();
    assert_eq!(
        kinds,
        [
            "records of unassigned type 64 subtype 1",
            "broken records of BGP4MP (type 16) subtype 4",
            "broken BGP messages"
        ]
    );
    assert_eq!(trial.bmpd.log().iter().filter(|logged| logged.contains("passed over")).count(), 3, "one line a kind");
    assert_late_equals_early("broken records", &trial, 2);
}
