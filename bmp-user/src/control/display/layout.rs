//! The layout that all displays share: labels, columns, ages and rounding.

use std::{
    fmt::{self, Display, Write},
    time::Duration,
};

/// Width of the labels of a detailed display, in columns.
const LABEL_WIDTH: usize = 20;
/// Column in which the values of a detailed display begin: two blanks, the label, `: `.
pub const VALUE_COLUMN: usize = 2 + LABEL_WIDTH + 2;
/// Blanks between two columns of a table, and in front of the first.
const GAP: &str = "  ";

/// Writes one line of a detailed display: `  Label               : value`.
pub(super) fn field(out: &mut dyn Write, label: &str, value: impl Display) -> fmt::Result {
    writeln!(out, "  {label:<LABEL_WIDTH$}: {value}")
}

/// Writes one line in front of a table: ` Session in up state : 1`.
pub(super) fn heading(out: &mut dyn Write, name: &str, value: impl Display) -> fmt::Result {
    writeln!(out, " {name} : {value}")
}

/// The columns of a table, as wide as their widest cell so far.
pub(super) struct Columns<const N: usize>([usize; N]);

impl<const N: usize> Columns<N> {
    pub(super) fn new() -> Self {
        Self([0; N])
    }

    /// Makes room for a row.
    pub(super) fn measure(&mut self, row: &[String; N]) {
        for (width, cell) in self.0.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }

    /// Returns a row with its line end.
    pub(super) fn line(&self, row: &[String; N]) -> String {
        let cells = row.iter().zip(self.0).map(|(cell, width)| format!("{GAP}{cell:<width$}"));
        format!("{}\n", cells.collect::<String>().trim_end())
    }
}

/// Writes all rows of a table that fits into memory.
pub(super) fn table<const N: usize>(out: &mut dyn Write, rows: impl IntoIterator<Item = [String; N]>) -> fmt::Result {
    let rows: Vec<_> = rows.into_iter().collect();
    let mut columns = Columns::new();
    rows.iter().for_each(|row| columns.measure(row));
    rows.iter().try_for_each(|row| out.write_str(&columns.line(row)))
}

/// Returns the value, or `-` where there is none.
pub(super) fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Returns `before` and the value, or nothing where there is none.
pub(super) fn after(before: &str, value: Option<impl Display>) -> String {
    value.map(|value| format!("{before}{value}")).unwrap_or_default()
}

/// Returns the word with its first letter in upper case.
pub(super) fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Formats an age in seconds as `00h01m02s`, with the days in front where there are any.
pub(super) fn age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let clock = format!("{hours:02}h{minutes:02}m{:02}s", seconds % 60);
    if days == 0 { clock } else { format!("{days}d{clock}") }
}

/// Returns a time in seconds, rounded to a tenth.
pub(super) fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

/// Returns `any interface`, `any interface of VRF mgmt`, `up1, up2`, or `none`.
pub(super) fn may_leave_by(any: bool, vrf: Option<&str>, interfaces: &[String]) -> String {
    match (any, vrf) {
        (true, None) => "any interface".to_owned(),
        (true, Some(vrf)) => format!("any interface of VRF {vrf}"),
        (false, _) if interfaces.is_empty() => "none".to_owned(),
        (false, _) => interfaces.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_in_characters() {
        let mut text = String::new();
        table(&mut text, [["é", "b", "c"], ["aaa", "b", "-"]].map(|row| row.map(str::to_owned))).unwrap();
        assert_eq!(text, "  é    b  c\n  aaa  b  -\n");
    }

    #[test]
    fn values_begin_in_the_column_that_bmpctl_wraps_them_to() {
        let mut text = String::new();
        field(&mut text, "Label", "value").unwrap();
        assert_eq!(text.find("value"), Some(VALUE_COLUMN));
    }

    #[test]
    fn an_age_has_days_only_where_there_are_any() {
        assert_eq!([62, 86_399, 90_061].map(age), ["00h01m02s", "23h59m59s", "1d01h01m01s"]);
    }
}
