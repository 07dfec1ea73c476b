//! The rows that are shown, sorted and filtered, and the one that is selected.

use super::{
    column::{COLUMNS, Column},
    rows::SessionRow,
};

/// The list of sessions.
#[derive(Debug)]
pub(super) struct SessionList {
    /// In the order of the configuration.
    rows: Vec<SessionRow>,
    pub(super) sorted_by: Column,
    pub(super) is_reversed: bool,
    filter: String,
    /// The session of the selected row, which stays selected wherever the row goes.
    selected: Option<String>,
}

impl SessionList {
    pub(super) fn new() -> Self {
        Self { rows: Vec::new(), sorted_by: Column::State, is_reversed: false, filter: String::new(), selected: None }
    }

    pub(super) fn rows(&self) -> &[SessionRow] {
        &self.rows
    }

    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    pub(super) fn set_rows(&mut self, rows: Vec<SessionRow>) {
        self.rows = rows;
        self.keep_selection(0);
    }

    pub(super) fn set_filter(&mut self, filter: String) {
        self.filter = filter;
        self.keep_selection(0);
    }

    /// Returns the rows that pass the filter, in their order.
    pub(super) fn shown(&self) -> Vec<&SessionRow> {
        let wanted = self.filter.to_lowercase();
        let mut rows: Vec<_> = self.rows.iter().filter(|row| is_found(row, &wanted)).collect();
        rows.sort_by(|one, other| {
            let order = self.sorted_by.order(one, other);
            if self.is_reversed { order.reverse() } else { order }
        });
        rows
    }

    /// Returns the place of the selected row among those that are shown.
    pub(super) fn place(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.shown().iter().position(|row| row.id == *selected)
    }

    pub(super) fn selected(&self) -> Option<&SessionRow> {
        let selected = self.selected.as_ref()?;
        self.rows.iter().find(|row| row.id == *selected)
    }

    /// Moves the selection by so many rows, and not beyond the ends.
    pub(super) fn step(&mut self, by: isize) {
        let place = self.place().unwrap_or_default().saturating_add_signed(by);
        self.select(place);
    }

    /// Sorts by a column. The column that sorts already is reversed.
    pub(super) fn sort_by(&mut self, column: Column) {
        self.is_reversed = self.sorted_by == column && !self.is_reversed;
        self.sorted_by = column;
    }

    /// Sorts by the next column on the right, or on the left.
    pub(super) fn sort_by_next(&mut self, right: bool) {
        let number = COLUMNS.iter().position(|column| *column == self.sorted_by).unwrap_or_default();
        let step = if right { 1 } else { COLUMNS.len() - 1 };
        self.sorted_by = COLUMNS[(number + step) % COLUMNS.len()];
        self.is_reversed = false;
    }

    pub(super) fn reverse(&mut self) {
        self.is_reversed = !self.is_reversed;
    }

    /// Selects another row where the selected one is not shown.
    fn keep_selection(&mut self, instead: usize) {
        if self.place().is_none() {
            self.select(instead);
        }
    }

    fn select(&mut self, place: usize) {
        let shown = self.shown();
        self.selected = shown.get(place).or(shown.last()).map(|row| row.id.clone());
    }
}

/// Returns true if a row has the text, in lower case, somewhere.
fn is_found(row: &SessionRow, wanted: &str) -> bool {
    let source = row.session.local_address.as_deref().unwrap_or_default();
    [row.name.as_str(), row.standing.as_str(), row.uplink(), row.reason.as_str(), source]
        .iter()
        .any(|text| text.to_lowercase().contains(wanted))
}
