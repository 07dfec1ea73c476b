//! `display default-parameter bmp`: what holds where nothing is configured. Each setting says its
//! own default; the rows here are about what no setting changes.

use std::fmt::Write as _;

use crate::{
    config::{DefaultParameter, RelayConfig, default_parameters},
    feed::{DEFAULT_JOURNAL_BYTES, DEFAULT_WITHDRAWAL_BYTES},
    input::relay::connection_limits,
    session::defaults,
};

/// Returns the table.
pub(super) fn text() -> String {
    let mut rows = default_parameters();
    rows.extend(fixed_parameters());
    rows.sort_by_key(|row| row.rank);
    let mut text = String::from(" Default parameters of BMP\n");
    for DefaultParameter { label, value, .. } in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {label:<20}: {value}");
    }
    text
}

/// Returns the rows that no setting has, between those of the settings.
fn fixed_parameters() -> [DefaultParameter; 6] {
    let row = |rank, label, value| DefaultParameter { rank, label, value };
    // What is left of the usual limits where bmpd may open few files.
    let (most, of_source) = connection_limits(&RelayConfig::default());
    [
        row(140, "Station is dead", format!("after {} s without an acknowledgement", defaults::DEAD_AFTER.as_secs())),
        row(150, "Slow station", "kept, however slow".to_owned()),
        row(160, "Termination message", format!("{} s to be taken", defaults::FAREWELL.as_secs())),
        row(170, "Journal", format!("{} MiB", DEFAULT_JOURNAL_BYTES >> 20)),
        row(180, "Withdrawals kept", format!("{} MiB", DEFAULT_WITHDRAWAL_BYTES >> 20)),
        row(230, "A relay has", format!("{most} connections, {of_source} of one source (max-connections)")),
    ]
}
