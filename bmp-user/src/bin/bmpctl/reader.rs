//! Lines from a terminal: typed, typed ahead or pasted. No line is lost or taken for an answer.

use std::{
    collections::VecDeque,
    io::{self, Write},
    time::Duration,
};

use bmp_user::control::Notices;

use crate::{
    history::CommandHistory,
    keys::{Keys, PressedKey},
    line::{DrawnLine, TypedLine},
    terminal::{RawTerminal, TerminalEvent},
};

/// A terminal sends the bytes of a key together. A key is whole if no byte follows in this time.
const KEY_TIME: Duration = Duration::from_millis(50);
/// Characters with less time than this between each two were pasted or typed ahead, not typed now.
const AT_ONCE: Duration = Duration::from_millis(50);
/// A line of fewer characters may be typed that fast.
const SHORT: usize = 4;
/// Pasted text without marks has ended when nothing more has come for this time. Terminals and
/// their networks pause between lines. Nobody reads an error and types the next line in this time.
const LULL: Duration = Duration::from_secs(1);
/// The mark behind pasted text is lost if nothing has come for this time.
const MARK_TIME: Duration = Duration::from_secs(2);
/// Bytes of pasted text that are waited for at most.
const PASTE_MAX: usize = 1 << 20;

/// Below a full screen, as carrier routers have it, and what takes it away.
const MORE: &str = "  ---- More ----";
const ERASE_MORE: &str = "\r\x1b[K";

/// What an operator wants next.
#[derive(Debug)]
pub(crate) enum LineEvent {
    /// A line to be carried out, and its number among the lines that came together, from 1.
    Line(String, usize),
    /// `?`: explain the words that may come next.
    Help,
    /// Tab: complete the word.
    Complete,
    /// A notice. The line that is being typed stays.
    Notice(String),
    /// Ctrl-C, with the lines before it that are not carried out.
    Interrupt(Vec<String>),
    /// Ctrl-Z: back to the user view, or, from there, to the shell.
    Return,
    /// The connection for notices has ended, as a rule with bmpd. The line that is being typed
    /// stays.
    Lost,
    /// The terminal is at its end.
    End,
}

/// What follows a full screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageTurn {
    /// The next page.
    Page,
    /// The next line.
    Line,
    /// Nothing more.
    Stop,
}

/// How a line came, as far as timing and marks tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    ByHand,
    /// Pasted without marks, or typed ahead.
    AtOnce,
    /// Pasted, with marks.
    Marked,
}

/// Reads lines from the terminal.
#[derive(Debug)]
pub(crate) struct LineReader {
    terminal: RawTerminal,
    keys: Keys,
    /// Pasted lines that have not been returned.
    pasted: VecDeque<String>,
    /// Pasted text, until the terminal marks its end.
    paste: Option<String>,
    line: TypedLine,
    drawn: DrawnLine,
    history: CommandHistory,
    notices: Option<Notices>,
    /// The text that Ctrl-Y brings back.
    killed: String,
    /// True after Ctrl-V: the next character stands for itself.
    literal: bool,
    /// Lines that have come together so far.
    together: usize,
    /// The wait for the first character of the line.
    waited: Duration,
    /// The longest wait for a later character.
    longest_wait: Duration,
    /// How the last line came.
    arrival: Arrival,
    ended: bool,
}

impl LineReader {
    pub(crate) fn new(notices: Option<Notices>, history: CommandHistory) -> io::Result<Self> {
        Ok(Self {
            terminal: RawTerminal::open()?,
            keys: Keys::default(),
            pasted: VecDeque::new(),
            paste: None,
            line: TypedLine::default(),
            drawn: DrawnLine::default(),
            history,
            notices,
            killed: String::new(),
            literal: false,
            together: 0,
            waited: Duration::ZERO,
            longest_wait: Duration::ZERO,
            arrival: Arrival::ByHand,
            ended: false,
        })
    }

    /// Returns the part of the line before the cursor.
    pub(crate) fn before_cursor(&self) -> &str {
        self.line.before()
    }

    /// Inserts the text at the cursor.
    pub(crate) fn insert(&mut self, text: &str) {
        self.line.insert(text);
    }

    /// Deletes the character before the cursor.
    pub(crate) fn backspace(&mut self) {
        self.line.backspace();
    }

    pub(crate) fn history(&mut self) -> &mut CommandHistory {
        &mut self.history
    }

    /// Reads until there is something to do. The line that is being typed stays until it is
    /// returned or given up.
    pub(crate) fn read(&mut self, prompt: &str) -> io::Result<LineEvent> {
        // Ctrl-C comes behind the lines that it is to stop.
        self.fill_without_waiting()?;
        if self.paste.is_none()
            && let Some(bytes) = self.keys.up_to_interrupt()
        {
            let mut dropped: Vec<_> = self.pasted.drain(..).collect();
            let mut begun = self.line.take();
            begun.push_str(&String::from_utf8_lossy(&bytes));
            dropped.extend(lines_of(&begun).map(str::to_owned).filter(|line| !line.trim().is_empty()));
            self.draw(prompt)?;
            self.put("^C")?;
            self.leave()?;
            self.begin_line();
            self.together = 0;
            // The operator knows a line that was typed by hand.
            return Ok(LineEvent::Interrupt(if dropped.len() > 1 { dropped } else { Vec::new() }));
        }
        if let Some(line) = self.pasted.pop_front() {
            let rest = self.line.take();
            self.line.set(&line);
            self.draw(prompt)?;
            self.leave()?;
            self.line.set(&rest);
            self.together += 1;
            self.arrival = Arrival::Marked;
            self.begin_line();
            return Ok(LineEvent::Line(line, self.together));
        }
        loop {
            while let Some(key) = self.next_key()? {
                if self.paste.is_some() {
                    if self.paste(key) {
                        return self.read(prompt);
                    }
                    continue;
                }
                if let Some(read) = self.press(key, prompt)? {
                    return Ok(read);
                }
            }
            if self.ended {
                return Ok(LineEvent::End);
            }
            if self.paste.is_some() {
                match self.terminal.wait(None, Some(MARK_TIME))?.0 {
                    TerminalEvent::Keys => drop(self.fill(&mut [0; 4096])?),
                    TerminalEvent::Resized => {}
                    TerminalEvent::Timeout | TerminalEvent::Other => {
                        self.paste(PressedKey::PasteEnd);
                        return self.read(prompt);
                    }
                }
                continue;
            }
            self.draw(prompt)?;
            if let Some(news) = self.wait()? {
                let erased = self.drawn.erase();
                self.put(&erased)?;
                return Ok(news);
            }
        }
    }

    /// Reads the answer to a question. Of lines that came together, takes one only if it is an
    /// answer.
    pub(crate) fn answer(&mut self, question: &str, is_answer: impl Fn(&str) -> bool) -> io::Result<LineEvent> {
        if let Some(next) = self.pasted.front()
            && !is_answer(next)
        {
            let lines = self.drop_what_came_together()?;
            self.put(question)?;
            self.put("\r\n")?;
            return Ok(LineEvent::Interrupt(lines));
        }
        // A line that comes after the question is an answer, right or wrong.
        self.fill_without_waiting()?;
        let mut ahead = !self.keys.is_empty();
        loop {
            match self.read(question)? {
                LineEvent::Help | LineEvent::Complete => {}
                LineEvent::Line(line, _) if std::mem::take(&mut ahead) && !is_answer(&line) => {
                    let mut lines = vec![line];
                    lines.extend(self.drop_what_came_together()?);
                    return Ok(LineEvent::Interrupt(lines));
                }
                read => return Ok(read),
            }
        }
    }

    /// Takes the lines that came together with the last returned one, including those still to
    /// come.
    pub(crate) fn drop_what_came_together(&mut self) -> io::Result<Vec<String>> {
        let marked = !self.pasted.is_empty();
        let mut dropped: Vec<_> = self.pasted.drain(..).collect();
        self.fill_without_waiting()?;
        if self.arrival == Arrival::ByHand && !marked && self.keys.is_empty() {
            return Ok(dropped);
        }
        let mut bytes = 0;
        let mut buffer = [0; 4096];
        // Marked text has come in whole.
        while self.arrival != Arrival::Marked && bytes < PASTE_MAX && !self.ended {
            match self.terminal.wait(None, Some(LULL))?.0 {
                TerminalEvent::Keys => bytes += self.fill(&mut buffer)?,
                TerminalEvent::Resized => {}
                TerminalEvent::Timeout | TerminalEvent::Other => break,
            }
        }
        let mut rest = self.line.take();
        let typed = self.keys.up_to_line_end();
        if typed.is_empty() && !marked {
            // The line that is being typed stays.
            self.line.set(&rest);
        } else {
            rest.push_str(&String::from_utf8_lossy(&typed).replace("\x1b[200~", "").replace("\x1b[201~", ""));
            dropped.extend(lines_of(&rest).map(str::to_owned));
        }
        dropped.retain(|line| !line.trim().is_empty());
        self.together = 0;
        Ok(dropped)
    }

    /// Follows other notices from now on.
    pub(crate) fn follow(&mut self, notices: Option<Notices>) {
        self.notices = notices;
    }

    /// Waits a moment. Returns true if the operator presses Ctrl-C meanwhile, or is gone. Other
    /// keys are typed ahead.
    pub(crate) fn gives_up(&mut self, moment: Duration) -> io::Result<bool> {
        if self.terminal.wait(None, Some(moment))?.0 == TerminalEvent::Keys {
            self.fill(&mut [0; 4096])?;
        }
        Ok(self.ended || self.keys.up_to_interrupt().is_some())
    }

    /// Stops this process until the shell continues it.
    pub(crate) fn suspend(&self) -> io::Result<()> {
        self.terminal.suspend()
    }

    /// True if the operator typed the last line, and nothing since. Whoever pastes commands does
    /// not turn pages.
    pub(crate) fn waits_for_operator(&mut self) -> io::Result<bool> {
        self.fill_without_waiting()?;
        Ok(self.arrival == Arrival::ByHand && self.keys.is_empty() && self.pasted.is_empty() && !self.ended)
    }

    /// Shows `---- More ----` and waits until the operator wants more.
    pub(crate) fn turn_page(&mut self) -> io::Result<PageTurn> {
        self.put(MORE)?;
        let turn = loop {
            match self.next_key()? {
                Some(PressedKey::Char(' ')) => break PageTurn::Page,
                Some(PressedKey::Enter | PressedKey::Down) => break PageTurn::Line,
                Some(PressedKey::Char('q' | 'Q') | PressedKey::Ctrl('c' | 'd' | 'z')) => break PageTurn::Stop,
                Some(_) => {}
                None if self.ended => break PageTurn::Stop,
                None => {
                    if self.terminal.wait(None, None)?.0 == TerminalEvent::Keys {
                        self.fill(&mut [0; 4096])?;
                    }
                }
            }
        };
        self.put(ERASE_MORE)?;
        Ok(turn)
    }

    /// Writes text that is not part of the line.
    pub(crate) fn put(&self, text: &str) -> io::Result<()> {
        let mut screen = io::stdout().lock();
        screen.write_all(text.as_bytes())?;
        screen.flush()
    }

    /// Moves below the line that is being typed.
    pub(crate) fn leave(&mut self) -> io::Result<()> {
        let bytes = self.drawn.leave();
        self.put(&bytes)
    }

    fn draw(&mut self, prompt: &str) -> io::Result<()> {
        let bytes = self.drawn.draw(prompt, &self.line, RawTerminal::columns());
        self.put(&bytes)
    }

    fn begin_line(&mut self) {
        self.waited = Duration::ZERO;
        self.longest_wait = Duration::ZERO;
        self.history.leave();
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = RawTerminal::read(buffer)?;
        self.keys.extend(buffer.get(..read).unwrap_or_default());
        self.ended |= read == 0;
        Ok(read)
    }

    fn fill_without_waiting(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        while !self.ended && self.terminal.wait(None, Some(Duration::ZERO))?.0 == TerminalEvent::Keys {
            self.fill(&mut buffer)?;
        }
        Ok(())
    }

    /// Takes the next key that has come. Waits a moment for the rest of a key.
    fn next_key(&mut self) -> io::Result<Option<PressedKey>> {
        if let Some(key) = self.keys.next(false) {
            return Ok(Some(key));
        }
        if self.keys.is_empty() {
            return Ok(None);
        }
        if !self.ended && self.terminal.wait(None, Some(KEY_TIME))?.0 == TerminalEvent::Keys {
            self.fill(&mut [0; 4096])?;
            return Ok(self.keys.next(self.ended));
        }
        Ok(self.keys.next(true))
    }

    /// Waits for keys or a notice, and returns the notice, or that there will be none.
    fn wait(&mut self) -> io::Result<Option<LineEvent>> {
        // Several may have been read at once.
        if let Some(Ok(Some(text))) = self.notices.as_mut().map(Notices::take) {
            return Ok(Some(LineEvent::Notice(text)));
        }
        let (ready, waited) = self.terminal.wait(self.notices.as_ref().map(Notices::as_fd), None)?;
        if self.line.is_empty() {
            self.waited += waited;
        } else {
            self.longest_wait = self.longest_wait.max(waited);
        }
        match ready {
            TerminalEvent::Keys => {
                self.fill(&mut [0; 4096])?;
                Ok(None)
            }
            TerminalEvent::Other => match self.notices.as_mut().map(Notices::take) {
                Some(Ok(Some(text))) => Ok(Some(LineEvent::Notice(text))),
                Some(Ok(None)) => Ok(None),
                _ => {
                    self.notices = None;
                    Ok(Some(LineEvent::Lost))
                }
            },
            // The caller draws the line again.
            TerminalEvent::Resized | TerminalEvent::Timeout => Ok(None),
        }
    }

    /// Takes one key of pasted text. Returns true when the text is whole.
    fn paste(&mut self, key: PressedKey) -> bool {
        let Some(paste) = &mut self.paste else { return false };
        match key {
            PressedKey::Char(c) => paste.push(c),
            PressedKey::Enter => paste.push('\n'),
            PressedKey::Tab => paste.push('\t'),
            PressedKey::PasteEnd => {
                let text = self.paste.take().unwrap_or_default();
                let mut lines = text.split('\n');
                let last = lines.next_back().unwrap_or_default();
                let mut first = true;
                for line in lines {
                    // The first line goes to the cursor.
                    if std::mem::take(&mut first) {
                        self.line.insert(line);
                        let line = self.line.take();
                        self.pasted.push_back(line);
                    } else {
                        self.pasted.push_back(line.to_owned());
                    }
                }
                self.line.insert(last);
                self.together = 0;
                return true;
            }
            _ => {}
        }
        false
    }

    fn press(&mut self, key: PressedKey, prompt: &str) -> io::Result<Option<LineEvent>> {
        let literal = std::mem::take(&mut self.literal);
        match key {
            PressedKey::Char('?') if !literal && !self.line.before().trim_start().starts_with('#') => {
                self.draw(prompt)?;
                self.leave()?;
                return Ok(Some(LineEvent::Help));
            }
            PressedKey::Char(c) => self.line.insert(c.encode_utf8(&mut [0; 4])),
            PressedKey::Enter => {
                self.line.end();
                self.draw(prompt)?;
                self.leave()?;
                let line = self.line.take();
                let within = if self.arrival == Arrival::ByHand { AT_ONCE } else { LULL };
                let follows = self.waited < within;
                let is_fast = self.longest_wait < AT_ONCE && (follows || line.chars().count() >= SHORT);
                self.together = if follows && is_fast { self.together + 1 } else { 1 };
                self.arrival = if is_fast { Arrival::AtOnce } else { Arrival::ByHand };
                self.begin_line();
                return Ok(Some(LineEvent::Line(line, self.together)));
            }
            // Indentation of text that is pasted without marks.
            PressedKey::Tab if literal || (self.line.before().trim().is_empty() && !self.keys.is_empty()) => {
                self.line.insert("\t");
            }
            PressedKey::Tab => return Ok(Some(LineEvent::Complete)),
            PressedKey::Backspace | PressedKey::Ctrl('h') => self.line.backspace(),
            PressedKey::Ctrl('d') if self.line.is_empty() => {
                self.leave()?;
                return Ok(Some(LineEvent::End));
            }
            PressedKey::Delete | PressedKey::Ctrl('d') => self.line.delete(),
            PressedKey::Left | PressedKey::Ctrl('b') => self.line.left(),
            PressedKey::Right | PressedKey::Ctrl('f') => self.line.right(),
            PressedKey::WordLeft => self.line.word_left(),
            PressedKey::WordRight => self.line.word_right(),
            PressedKey::Home | PressedKey::Ctrl('a') => self.line.home(),
            PressedKey::End | PressedKey::Ctrl('e') => self.line.end(),
            PressedKey::Ctrl('k') => self.killed = self.line.delete_after(),
            PressedKey::Ctrl('u') => self.killed = self.line.delete_before(),
            PressedKey::Ctrl('w') => self.killed = self.line.delete_word(),
            PressedKey::Ctrl('y') => self.line.insert(&self.killed.clone()),
            PressedKey::Ctrl('v') => self.literal = true,
            PressedKey::Up | PressedKey::Ctrl('p') => {
                if let Some(earlier) = self.history.earlier(self.line.text()) {
                    self.line.set(&earlier);
                }
            }
            PressedKey::Down | PressedKey::Ctrl('n') => {
                if let Some(later) = self.history.later() {
                    self.line.set(&later);
                }
            }
            PressedKey::Ctrl('r') => {
                let begun = self.line.text().to_owned();
                if let Some(earlier) = self.history.earlier_with(&begun) {
                    self.line.set(&earlier);
                }
            }
            PressedKey::Ctrl('l') => {
                self.drawn = DrawnLine::default();
                self.put("\x1b[H\x1b[2J")?;
            }
            PressedKey::Ctrl('c') => {
                self.draw(prompt)?;
                self.put("^C")?;
                self.leave()?;
                self.line.take();
                self.begin_line();
                return Ok(Some(LineEvent::Interrupt(Vec::new())));
            }
            PressedKey::Ctrl('z') => {
                self.draw(prompt)?;
                self.put("^Z")?;
                self.leave()?;
                self.line.take();
                self.begin_line();
                return Ok(Some(LineEvent::Return));
            }
            PressedKey::PasteBegin => self.paste = Some(String::new()),
            PressedKey::Ctrl(_) | PressedKey::PasteEnd | PressedKey::Other => {}
        }
        Ok(None)
    }
}

fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\r', '\n'])
}
