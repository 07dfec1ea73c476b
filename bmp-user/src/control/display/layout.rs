//! The layout that all displays share: columns, labels, ages and rounding.

use std::fmt::Write as _;

/// Lines of a detailed display below its title.
pub(super) fn rows(title: &str, rows: &[(&str, String)]) -> String {
    let mut text = title.to_owned();
    for (name, value) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<20}: {value}");
    }
    text
}

/// Rows whose columns begin below each other.
pub(super) fn table<const COLUMNS: usize>(
    text: &mut String,
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> std::fmt::Result {
    let rows: Vec<_> = rows.into_iter().collect();
    let mut widths = [0; COLUMNS];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let line: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(text, "  {}", line.join("  ").trim_end())?;
    }
    Ok(())
}

/// `any interface`, `any interface of VRF mgmt`, `up1, up2`, or `none`.
pub(super) fn may_leave_by(any: bool, vrf: Option<&str>, interfaces: &[String]) -> String {
    match (any, vrf) {
        (true, None) => "any interface".to_owned(),
        (true, Some(vrf)) => format!("any interface of VRF {vrf}"),
        (false, _) if interfaces.is_empty() => "none".to_owned(),
        (false, _) => interfaces.join(", "),
    }
}

/// With its first letter in upper case.
pub(super) fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// `00h01m02s`, and days before it where there are any.
pub(super) fn age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let clock = format!("{hours:02}h{minutes:02}m{:02}s", seconds % 60);
    if days == 0 { clock } else { format!("{days}d{clock}") }
}
