//! No part that every route goes through takes more instructions than it did: what noise on the machine hides from a clock.

use std::{fmt::Write as _, path::Path};

use lab::{
    instructions::{BLESS, Kept, SIZE, TOLERANCE, count},
    skip::skip,
};

#[test]
fn the_parts_that_every_route_goes_through_take_as_many_instructions_as_they_did() {
    let kept = Kept::read().expect("the counts are kept in this package");
    let bless = std::env::var_os(BLESS).is_some();
    if let (Some(other), false) = (kept.of_another_compiler(), bless) {
        skip(&format!("the counts that are kept are of what {other} made: {BLESS}=1 keeps those of this compiler"));
        return;
    }
    let counts = count(Path::new(env!("CARGO_BIN_EXE_hot")), SIZE).expect("callgrind counts");
    if bless {
        kept.write(&counts).expect("the counts can be kept");
        return;
    }
    let mut changed = String::new();
    for (count, ratio) in kept.ratios(&counts) {
        match ratio {
            Some(ratio) if (ratio - 1.0).abs() <= TOLERANCE => {}
            Some(ratio) => {
                writeln!(changed, "{}: {:+.1} %", count.part, 100.0 * (ratio - 1.0)).expect("it is a string")
            }
            None => writeln!(changed, "{}: none is kept", count.part).expect("it is a string"),
        }
    }
    assert!(changed.is_empty(), "instructions against those that are kept ({BLESS}=1 keeps the new ones):\n{changed}");
}
