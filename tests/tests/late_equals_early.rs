//! Real streams that contradict themselves or an RFC: an early and a late station know the same.

use std::{fs, path::Path, thread};

use bmp_fuzz::station::Replica;
use lab::{
    bmp,
    feeder::BmpFeeder,
    skip::skip,
    station::RecordedConnection,
    trial::{RELAY, TrialPlan},
    wait::PATIENCE,
};

/// Files of `../shared/data/cases`, and the routes that stations must know in the end.
const RELAYED: [(&str, usize); 8] = [
    ("a-2octet-path-one-route.bmp", 1),
    ("a-2octet-path-flag-clear.bmp", 5),
    ("b-agreed-but-without-identifiers.bmp", 5),
    ("b-identifiers-without-capability.bmp", 5),
    ("b-identifiers-in-unlisted-family.bmp", 1),
    ("d-labeled-unicast-s-bit-clear.bmp", 2),
    ("d-vpnv4-compatibility-field.bmp", 1),
    ("e-mup.bmp", 1),
];
const REPLAYED: [(&str, usize); 1] = [("b-identifiers-in-message-as4.mrt", 5)];

/// Returns the knowledge of a station from one connection.
fn replica(connection: &RecordedConnection) -> Replica {
    let mut replica = Replica::default();
    for frame in &connection.frames {
        if !matches!(frame.kind(), bmp::INITIATION | bmp::TERMINATION) {
            replica.read(&frame.0);
        }
    }
    replica
}

fn is_equal(name: &str, plan: &TrialPlan<'_>, sent: Option<&[u8]>, routes: usize) {
    let trial = plan.start_up();
    let mut feeder = sent.map(|_| BmpFeeder::connect(&trial.topology.router, RELAY));
    feeder.iter_mut().zip(sent).for_each(|(feeder, sent)| feeder.raw(sent));
    let early = trial.station.wait_for(&format!("{name}: the early station knows"), PATIENCE, |connections| {
        let early = replica(connections.first()?);
        (early.routes() == routes).then_some(early)
    });
    trial.station.close();
    trial.station.wait_for(&format!("{name}: the late station knows the same"), PATIENCE, |connections| {
        (replica(connections.get(1)?).knows_as(&early.readings()) == early.knows()).then_some(())
    });
}

#[test]
fn early_and_late_stations_know_the_same_of_contradictory_streams() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/cases");
    if !folder.exists() {
        return skip("the cases are missing");
    }
    let relayed = |(name, routes): &(&str, usize)| {
        let sent = fs::read(folder.join(name)).expect("the case is readable");
        is_equal(name, &TrialPlan::default(), Some(&sent), *routes);
    };
    let replayed = |(name, routes): &(&str, usize)| {
        let system = format!("mrt-replay case\n file {}\n pace maximum\nquit", folder.join(name).display());
        is_equal(name, &TrialPlan { system: &system, ..TrialPlan::default() }, None, *routes);
    };
    thread::scope(|scope| {
        RELAYED.iter().for_each(|case| drop(scope.spawn(|| relayed(case))));
        REPLAYED.iter().for_each(|case| drop(scope.spawn(|| replayed(case))));
    });
}
