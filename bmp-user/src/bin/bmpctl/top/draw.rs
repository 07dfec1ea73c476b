//! What is on the screen: a title, what is the matter, the list or a page, and the keys.

use std::time::Instant;

use bmp_user::escape::escaped;
use ratatui::{
    Frame,
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
};

use super::{
    column::{Column, FittedColumn, fit, shortened},
    details::{self, PageLine},
    figure,
    rows::{SessionRow, Standing},
    view::{TopPage, TopView},
};

const PLAIN: Style = Style::new();
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);
const ALARM: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

/// Draws the screen.
pub(super) fn draw(frame: &mut Frame<'_>, view: &mut TopView, now: Instant) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    let mut lines = TopLines { area, buffer };
    let width = usize::from(area.width);
    let trouble = trouble(view, now);
    lines.put(0, &title(view, width), REVERSED);
    let mut first = 1;
    if let Some(trouble) = &trouble {
        lines.put(first, trouble, ALARM);
        first += 1;
    }
    // The keys come first to go where there is no room.
    let last = if area.height > first + 3 { area.height - 1 } else { area.height };
    if last < area.height {
        lines.put(last, &keys(view, width), PLAIN);
    }
    match view.page {
        TopPage::List => list(&mut lines, view, first, last),
        TopPage::Details => match view.list.selected() {
            Some(row) => {
                let text = details::session(row, width);
                page(&mut lines, view, &text, first, last);
            }
            // Its session is not configured any more.
            None => {
                view.page = TopPage::List;
                list(&mut lines, view, first, last);
            }
        },
        TopPage::Help => page(&mut lines, view, &details::help(width), first, last),
    }
}

/// The screen by lines.
struct TopLines<'a> {
    area: Rect,
    buffer: &'a mut Buffer,
}

impl TopLines<'_> {
    /// Puts a text on a line, in one style to the end of the line.
    fn put(&mut self, line: u16, text: &str, style: Style) {
        self.put_at(line, 0, text, PLAIN);
        if line < self.area.height {
            self.buffer.set_style(Rect { y: self.area.y + line, height: 1, ..self.area }, style);
        }
    }

    /// Puts a text on a line from a column on. What does not fit is left out.
    fn put_at(&mut self, line: u16, column: usize, text: &str, style: Style) {
        let column = u16::try_from(column).unwrap_or(u16::MAX);
        if line < self.area.height && column < self.area.width {
            let left = usize::from(self.area.width - column);
            self.buffer.set_stringn(self.area.x + column, self.area.y + line, text, left, style);
        }
    }
}

/// Returns the device, and how its sessions are, and on the right how often that is read.
fn title(view: &TopView, width: usize) -> String {
    let rows = view.list.rows();
    let up = rows.iter().filter(|row| matches!(row.standing, Standing::Up | Standing::Held)).count();
    // The sum of no numbers is a negative zero.
    let rate = rows.iter().filter_map(|row| row.rate).fold(0.0, |sum, rate| sum + rate);
    let device = escaped(&view.device).to_string();
    let left = format!("{device}: {up} of {} sessions up, {}", rows.len(), figure::rate(rate));
    let right =
        if view.lost.is_some() { "old".to_owned() } else { format!("every {}", figure::interval(view.interval)) };
    match width.checked_sub(left.chars().count() + right.chars().count()) {
        Some(between @ 1..) => format!("{left}{:between$}{right}", ""),
        _ => left,
    }
}

/// Returns what an operator should know first, if anything.
fn trouble(view: &TopView, now: Instant) -> Option<String> {
    if let Some(lost) = &view.lost {
        let age = figure::age(now.saturating_duration_since(lost.since).as_secs());
        return Some(format!("No bmpd for {age}, this is old: {}", escaped(&lost.why)));
    }
    view.lost_enforcement.as_ref().map(|lost| format!("Warning: {}", escaped(lost)))
}

fn keys(view: &TopView, width: usize) -> String {
    if view.is_typing() {
        return format!("/{}_", escaped(view.list.filter()));
    }
    let filter = view.list.filter();
    let all: &[&str] = match view.page {
        TopPage::List if !filter.is_empty() => {
            let shown = view.list.shown().len();
            return format!("filter \"{}\": {shown} of {}; Esc shows all", escaped(filter), view.list.rows().len());
        }
        TopPage::List => &["q quit", "? help", "Enter details", "/ filter", "< > sort", "i reverse"],
        TopPage::Details | TopPage::Help => &["q quit", "Esc back", "Up Down scroll"],
    };
    let mut text = String::new();
    for key in all {
        let between = if text.is_empty() { "" } else { "   " };
        if text.len() + between.len() + key.len() <= width {
            text = format!("{text}{between}{key}");
        }
    }
    text
}

/// Draws the list between two lines, the last of them excluded.
fn list(lines: &mut TopLines<'_>, view: &mut TopView, first: u16, last: u16) {
    let shown = view.list.shown();
    let columns = fit(&shown, usize::from(lines.area.width), view.list.sorted_by);
    lines.put(first, &headings(view, &columns), BOLD);
    let room = usize::from(last.saturating_sub(first + 1));
    let place = view.list.place();
    // The selected row is always on the screen, and the screen is full where there are rows enough.
    let offset = place.map_or(0, |place| (place + 1).saturating_sub(room)).min(shown.len().saturating_sub(room));
    for (number, row) in shown.iter().enumerate().skip(offset).take(room) {
        let line = first + 1 + u16::try_from(number - offset).unwrap_or(u16::MAX);
        self::row(lines, line, row, &columns);
        if place == Some(number) {
            let area = Rect { y: lines.area.y + line, height: 1, ..lines.area };
            lines.buffer.set_style(area, REVERSED);
        }
    }
    if shown.is_empty() {
        let none = if view.list.rows().is_empty() { "no session is configured" } else { "no session has this text" };
        lines.put(first + 1, none, PLAIN);
    }
    view.room = room;
}

fn headings(view: &TopView, columns: &[FittedColumn]) -> String {
    let heading = |fitted: &FittedColumn| {
        let is_sorted = fitted.column == view.list.sorted_by;
        let mark = if view.list.is_reversed { '▲' } else { '▼' };
        let mark = if is_sorted { mark.to_string() } else { String::new() };
        aligned(&format!("{}{mark}", fitted.column.heading()), fitted)
    };
    columns.iter().map(heading).collect::<Vec<_>>().join(" ")
}

fn row(lines: &mut TopLines<'_>, line: u16, row: &SessionRow, columns: &[FittedColumn]) {
    let colour = match row.standing {
        Standing::Down => Color::Red,
        Standing::Held | Standing::Waiting => Color::Yellow,
        Standing::Up => Color::Green,
    };
    let mut at = 0;
    for fitted in columns {
        let style = match fitted.column {
            Column::State => Style::new().fg(colour),
            Column::Denied if row.denied.is_some_and(|denied| denied > 0) => Style::new().fg(Color::Yellow),
            _ => PLAIN,
        };
        lines.put_at(line, at, &aligned(&fitted.column.cell(row), fitted), style);
        at += fitted.width + 1;
    }
}

/// Returns a cell as wide as its column: numbers on the right.
fn aligned(text: &str, fitted: &FittedColumn) -> String {
    let text = shortened(text, fitted.width);
    let width = fitted.width;
    if fitted.column.is_number() { format!("{text:>width$}") } else { format!("{text:<width$}") }
}

/// Draws a page between two lines, the last of them excluded.
fn page(lines: &mut TopLines<'_>, view: &mut TopView, text: &[PageLine], first: u16, last: u16) {
    let room = usize::from(last.saturating_sub(first));
    view.room = room;
    view.scrolled = view.scrolled.min(text.len().saturating_sub(room));
    for (number, PageLine { label, value }) in text.iter().skip(view.scrolled).take(room).enumerate() {
        let line = first + u16::try_from(number).unwrap_or(u16::MAX);
        lines.put_at(line, 0, label, BOLD);
        lines.put_at(line, label.chars().count(), value, PLAIN);
    }
}
