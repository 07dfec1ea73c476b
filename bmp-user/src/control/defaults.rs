//! `display default-parameter bmp`: what is so where nothing is configured.

use std::fmt::Write as _;

use crate::{feed::DEFAULT_JOURNAL_BYTES, session::defaults};

/// The table.
pub(super) fn text() -> String {
    let mut text = String::from(" Default parameters of BMP\n");
    let rows = [
        ("Source of a session", "the kernel's choice (connect-interface)".to_owned()),
        ("May leave by", "the source interface; any, where none is named (egress-interface)".to_owned()),
        ("Port", "none: a session needs tcp connect port or tcp listen port".to_owned()),
        ("Next hop", "as routing says (next-hop)".to_owned()),
        ("Hold-down", "0 ms (hold-down)".to_owned()),
        ("Owner", "bmpd (adopt)".to_owned()),
        ("Kept when bmpd ends", "nothing, unless a session is adopted (persist)".to_owned()),
        (
            "Retry",
            format!("{} s to {} s, doubling", defaults::RETRY_FIRST.as_secs(), defaults::RETRY_LONGEST.as_secs()),
        ),
        ("Station is dead", format!("after {} s without an acknowledgement", defaults::DEAD_AFTER.as_secs())),
        ("Slow station", "kept, however slow".to_owned()),
        ("Termination message", format!("{} s to be taken", defaults::FAREWELL.as_secs())),
        ("Journal", format!("{} MiB", DEFAULT_JOURNAL_BYTES >> 20)),
        ("Exported", "everything".to_owned()),
    ];
    for (name, value) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<20}: {value}");
    }
    text
}
