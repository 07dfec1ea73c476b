//! The columns of the list, and how they fit the width of a terminal.

use std::cmp::Ordering;

use bmp_user::escape::escaped;

use super::{
    figure,
    rows::{SessionRow, Standing},
};

/// A column of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Session,
    State,
    Uplink,
    Rate,
    Lag,
    Retransmissions,
    Denied,
    Reason,
}

/// All columns, from left to right.
pub(super) const COLUMNS: [Column; 8] = [
    Column::Session,
    Column::State,
    Column::Uplink,
    Column::Rate,
    Column::Lag,
    Column::Retransmissions,
    Column::Denied,
    Column::Reason,
];

/// The columns that a narrow terminal lacks, the first one first.
const SPARED: [Column; 5] = [Column::Retransmissions, Column::Denied, Column::Lag, Column::Rate, Column::Uplink];

/// A column on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FittedColumn {
    pub(super) column: Column,
    pub(super) width: usize,
}

impl Column {
    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::Session => "Session",
            Self::State => "State",
            Self::Uplink => "Uplink",
            Self::Rate => "Rate",
            Self::Lag => "Lag",
            Self::Retransmissions => "Retrans",
            Self::Denied => "Denied",
            Self::Reason => "Reason",
        }
    }

    /// Returns the key that sorts by the column.
    pub(super) fn key(self) -> char {
        match self {
            Self::Session => 'n',
            Self::State => 's',
            Self::Uplink => 'u',
            Self::Rate => 'r',
            Self::Lag => 'l',
            Self::Retransmissions => 't',
            Self::Denied => 'd',
            Self::Reason => 'w',
        }
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Rate | Self::Lag | Self::Retransmissions | Self::Denied)
    }

    /// Returns a cell. A dash stands for what nothing measures.
    pub(super) fn cell(self, row: &SessionRow) -> String {
        let count = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
        match self {
            Self::Session => row.name.clone(),
            Self::State => row.standing.as_str().to_owned(),
            Self::Uplink => escaped(row.uplink()).to_string(),
            Self::Rate => row.rate.map_or("-".to_owned(), figure::rate),
            Self::Lag => row.lag().map_or("-".to_owned(), |lag| figure::bytes(lag as f64)),
            Self::Retransmissions => count(row.session.kernel.retransmits),
            Self::Denied => count(row.denied),
            Self::Reason => row.reason.clone(),
        }
    }

    /// Compares two rows: words by the alphabet, numbers with the largest first, and states with
    /// the ones first that need somebody.
    pub(super) fn order(self, one: &SessionRow, other: &SessionRow) -> Ordering {
        match self {
            Self::Session => one.name.cmp(&other.name),
            Self::State => Standing::cmp(&one.standing, &other.standing),
            Self::Uplink => one.uplink().cmp(other.uplink()),
            Self::Rate => other.rate.unwrap_or(-1.0).total_cmp(&one.rate.unwrap_or(-1.0)),
            Self::Lag => other.lag().cmp(&one.lag()),
            Self::Retransmissions => other.session.kernel.retransmits.cmp(&one.session.kernel.retransmits),
            Self::Denied => other.denied.cmp(&one.denied),
            // A row without a reason comes last.
            Self::Reason => (one.reason.is_empty(), &one.reason).cmp(&(other.reason.is_empty(), &other.reason)),
        }
    }

    /// Returns the width below which a column of text is of no use, if it can do with less than it
    /// wants.
    fn least(self) -> Option<usize> {
        match self {
            Self::Session => Some(12),
            Self::Uplink => Some(6),
            Self::Reason => Some(10),
            _ => None,
        }
    }
}

/// Returns the columns that fit, with their widths. There is one blank between two, and room for a
/// mark behind the heading of the sorted column.
pub(super) fn fit(rows: &[&SessionRow], width: usize, sorted_by: Column) -> Vec<FittedColumn> {
    let wanted = |column: Column| {
        let cells = rows.iter().map(|row| column.cell(row).chars().count());
        let heading = column.heading().len() + usize::from(column == sorted_by);
        cells.chain([heading]).max().unwrap_or_default()
    };
    let mut columns: Vec<_> =
        COLUMNS.into_iter().map(|column| FittedColumn { column, width: wanted(column) }).collect();
    let least = |fitted: &FittedColumn| fitted.column.least().map_or(fitted.width, |least| least.min(fitted.width));
    let needed = |columns: &[FittedColumn]| columns.iter().map(least).sum::<usize>() + columns.len().saturating_sub(1);
    for spared in SPARED {
        if needed(&columns) > width {
            columns.retain(|fitted| fitted.column != spared);
        }
    }
    let mut left = width.saturating_sub(needed(&columns));
    let mut wanting: Vec<_> = columns
        .iter_mut()
        .map(|fitted| {
            let narrow = least(fitted);
            let wanted = std::mem::replace(&mut fitted.width, narrow);
            (fitted, wanted)
        })
        .collect();
    // Those that want more share what is left.
    while left > 0 && wanting.iter().any(|(fitted, wanted)| fitted.width < *wanted) {
        for (fitted, wanted) in &mut wanting {
            if fitted.width < *wanted && left > 0 {
                fitted.width += 1;
                left -= 1;
            }
        }
    }
    columns
}

/// Returns a text of at most `width` characters. The middle of a longer one is left out: addresses
/// differ at their ends.
pub(super) fn shortened(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let Some(kept) = width.checked_sub(1) else { return String::new() };
    let (head, tail) = (kept.div_ceil(2), kept / 2);
    let begin: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - tail).collect();
    format!("{begin}…{end}")
}
