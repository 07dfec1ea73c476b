//! What is shown, and what keys do.

use std::time::{Duration, Instant};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{column::COLUMNS, list::SessionList, reading::SessionsArrival, rows::rows};

/// The longest filter, in characters.
const LONGEST_FILTER: usize = 60;
/// How far a page key goes before the list has been drawn.
const PAGE: usize = 10;

/// The part that fills the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopPage {
    List,
    /// One session.
    Details,
    Help,
}

/// What a key asks of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ViewOrder {
    Stay,
    Leave,
    /// Stop until the shell continues this process.
    Suspend,
}

/// That bmpd is away.
#[derive(Clone, Debug)]
pub(super) struct LostDaemon {
    pub(super) since: Instant,
    pub(super) why: String,
}

/// Everything that is on the screen.
#[derive(Debug)]
pub(super) struct TopView {
    pub(super) list: SessionList,
    pub(super) page: TopPage,
    /// The filter before this one, while it is typed.
    typing: Option<String>,
    pub(super) device: String,
    /// What the kernel should enforce and does not.
    pub(super) lost_enforcement: Option<String>,
    pub(super) lost: Option<LostDaemon>,
    pub(super) interval: Duration,
    /// Rows that the list has room for, or lines of a page.
    pub(super) room: usize,
    /// The first line of a page that is shown.
    pub(super) scrolled: usize,
    read_at: Option<Instant>,
}

impl TopView {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            list: SessionList::new(),
            page: TopPage::List,
            typing: None,
            device: String::new(),
            lost_enforcement: None,
            lost: None,
            interval,
            room: PAGE,
            scrolled: 0,
            read_at: None,
        }
    }

    pub(super) fn is_typing(&self) -> bool {
        self.typing.is_some()
    }

    /// Takes what has arrived.
    pub(super) fn take(&mut self, arrival: SessionsArrival, now: Instant) {
        match arrival {
            SessionsArrival::Reading(reading) => {
                // The rate over an outage is that of no moment.
                let before_at = self.read_at.filter(|_| self.lost.is_none());
                (self.lost, self.read_at) = (None, Some(reading.at));
                (self.device, self.lost_enforcement) = (reading.device.clone(), reading.lost.clone());
                let rows = rows(reading, self.list.rows(), before_at);
                self.list.set_rows(rows);
            }
            SessionsArrival::Lost(why) => {
                let since = self.lost.as_ref().map_or(now, |lost| lost.since);
                self.lost = Some(LostDaemon { since, why });
            }
        }
    }

    /// Carries out a key.
    pub(super) fn press(&mut self, key: KeyEvent) -> ViewOrder {
        if key.kind == KeyEventKind::Release {
            return ViewOrder::Stay;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c') => return ViewOrder::Leave,
                KeyCode::Char('z') => return ViewOrder::Suspend,
                _ => return ViewOrder::Stay,
            }
        }
        if self.is_typing() {
            self.type_filter(key.code);
            return ViewOrder::Stay;
        }
        match (key.code, self.page) {
            (KeyCode::Char('q'), _) => return ViewOrder::Leave,
            (KeyCode::Char('?'), TopPage::Help) | (KeyCode::Esc | KeyCode::Enter, TopPage::Details | TopPage::Help) => {
                self.open(TopPage::List);
            }
            (KeyCode::Char('?'), _) => self.open(TopPage::Help),
            (KeyCode::Enter, TopPage::List) if self.list.selected().is_some() => self.open(TopPage::Details),
            (KeyCode::Esc, TopPage::List) => self.list.set_filter(String::new()),
            (KeyCode::Char('/'), TopPage::List) => self.typing = Some(self.list.filter().to_owned()),
            (code, _) => self.move_or_sort(code),
        }
        ViewOrder::Stay
    }

    fn open(&mut self, page: TopPage) {
        (self.page, self.scrolled) = (page, 0);
    }

    fn type_filter(&mut self, code: KeyCode) {
        let mut filter = self.list.filter().to_owned();
        match code {
            KeyCode::Enter => self.typing = None,
            KeyCode::Esc => {
                let before = self.typing.take().unwrap_or_default();
                self.list.set_filter(before);
            }
            KeyCode::Backspace => {
                filter.pop();
                self.list.set_filter(filter);
            }
            KeyCode::Char(character) if filter.chars().count() < LONGEST_FILTER => {
                filter.push(character);
                self.list.set_filter(filter);
            }
            _ => {}
        }
    }

    fn move_or_sort(&mut self, code: KeyCode) {
        let page = self.room.max(1) as isize;
        match code {
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(page),
            KeyCode::PageUp => self.step(-page),
            KeyCode::Home => self.step(isize::MIN + 1),
            KeyCode::End => self.step(isize::MAX),
            KeyCode::Char('>') | KeyCode::Right if self.page == TopPage::List => self.list.sort_by_next(true),
            KeyCode::Char('<') | KeyCode::Left if self.page == TopPage::List => self.list.sort_by_next(false),
            KeyCode::Char('i') if self.page == TopPage::List => self.list.reverse(),
            KeyCode::Char(key) if self.page == TopPage::List => {
                if let Some(column) = COLUMNS.into_iter().find(|column| column.key() == key) {
                    self.list.sort_by(column);
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, by: isize) {
        match self.page {
            TopPage::List => self.list.step(by),
            // Drawing limits it to the last line.
            TopPage::Details | TopPage::Help => self.scrolled = self.scrolled.saturating_add_signed(by),
        }
    }
}
