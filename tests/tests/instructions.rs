//! Instruction counts of the parts on the way of every route: they show a slower part even on a
//! noisy machine.

use std::{fmt::Write as _, path::Path};

use lab::{
    instructions::{BLESS, RecordedCounts, SIZE, TOLERANCE, count},
    skip::skip,
};

#[test]
fn the_parts_on_every_routes_way_take_no_more_instructions() {
    let kept = RecordedCounts::read().expect("the recorded counts are readable");
    let bless = std::env::var_os(BLESS).is_some();
    if let (Some(other), false) = (kept.of_another_compiler(), bless) {
        skip(&format!("the recorded counts are of {other}: {BLESS}=1 records those of this compiler"));
        return;
    }
    let counts = count(Path::new(env!("CARGO_BIN_EXE_hot")), SIZE).expect("callgrind counts");
    if bless {
        kept.write(&counts).expect("the counts are recorded");
        return;
    }
    let mut changed = String::new();
    for (count, ratio) in kept.ratios(&counts) {
        match ratio {
            Some(ratio) if (ratio - 1.0).abs() <= TOLERANCE => {}
            Some(ratio) => {
                writeln!(changed, "{}: {:+.1} %", count.part, 100.0 * (ratio - 1.0)).expect("a string has room")
            }
            None => writeln!(changed, "{}: no recorded count", count.part).expect("a string has room"),
        }
    }
    assert!(changed.is_empty(), "instructions, against the recorded ones ({BLESS}=1 records the new ones):\n{changed}");
}
