//! Lines from a terminal: typed, typed ahead, or pasted. None is lost, and none is taken for another.

use std::{
    collections::VecDeque,
    io::{self, Write},
    time::Duration,
};

use bmp_user::control::Notices;

use crate::{
    history::History,
    keys::{Key, Keys},
    line::{Drawn, TypedLine},
    terminal::{Ready, Terminal},
};

/// A terminal that sends a key as several bytes sends them in one go: what is not followed by more in this time is whole.
const KEY_TIME: Duration = Duration::from_millis(50);
/// Nobody types several characters with less than this between each two: they were pasted or typed ahead.
const AT_ONCE: Duration = Duration::from_millis(50);
/// A line of fewer characters may be typed so fast.
const SHORT: usize = 4;
/// What is pasted without marks has ended when nothing more has come for so long: terminals, and the ways to them, stop for a moment
/// between lines. Nobody reads an error and types the next line in that time.
const LULL: Duration = Duration::from_secs(1);
/// The mark behind what is pasted is lost if nothing has come for so long.
const MARK_TIME: Duration = Duration::from_secs(2);
/// What is more than this many bytes is not waited for.
const PASTE_MAX: usize = 1 << 20;

/// What an operator wants.
#[derive(Debug)]
pub(crate) enum Read {
    /// A line to be carried out, and which of the lines that came together it is, from 1.
    Line(String, usize),
    /// `?`: what may come next.
    Help,
    /// Tab: the rest of the word.
    Complete,
    /// Something is told meanwhile; the line goes on.
    Notice(String),
    /// Ctrl-C; with the lines that came before it and are not carried out.
    Interrupt(Vec<String>),
    /// The terminal is at its end.
    End,
}

/// How a line came, as far as can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    ByHand,
    /// Pasted without marks, or typed ahead.
    AtOnce,
    /// Pasted, with marks.
    Marked,
}

/// Reads lines from the terminal.
#[derive(Debug)]
pub(crate) struct Reader {
    terminal: Terminal,
    keys: Keys,
    /// Lines of what was pasted that have not been returned.
    pasted: VecDeque<String>,
    /// What was pasted, until the terminal says that it was all.
    paste: Option<String>,
    line: TypedLine,
    drawn: Drawn,
    history: History,
    notices: Option<Notices>,
    /// What Ctrl-Y brings back.
    killed: String,
    /// The next character stands for itself.
    literal: bool,
    /// How many lines have come together so far.
    together: usize,
    /// How long the first character of the line was waited for, and the longest wait for one behind it.
    waited: Duration,
    longest_wait: Duration,
    /// How the last line came.
    came: Came,
    ended: bool,
}

impl Reader {
    pub(crate) fn new(notices: Option<Notices>, history: History) -> io::Result<Self> {
        Ok(Self {
            terminal: Terminal::open()?,
            keys: Keys::default(),
            pasted: VecDeque::new(),
            paste: None,
            line: TypedLine::default(),
            drawn: Drawn::default(),
            history,
            notices,
            killed: String::new(),
            literal: false,
            together: 0,
            waited: Duration::ZERO,
            longest_wait: Duration::ZERO,
            came: Came::ByHand,
            ended: false,
        })
    }

    /// What of the line is before the cursor.
    pub(crate) fn before_cursor(&self) -> &str {
        self.line.before()
    }

    /// Puts this where the cursor is.
    pub(crate) fn insert(&mut self, text: &str) {
        self.line.insert(text);
    }

    pub(crate) fn history(&mut self) -> &mut History {
        &mut self.history
    }

    /// Reads until there is something to be done. The line that is being typed stays, until it is returned or given up.
    pub(crate) fn read(&mut self, prompt: &str) -> io::Result<Read> {
        // Ctrl-C comes behind what it is to stop.
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
            // What was typed by hand need not be told.
            return Ok(Read::Interrupt(if dropped.len() > 1 { dropped } else { Vec::new() }));
        }
        if let Some(line) = self.pasted.pop_front() {
            let rest = self.line.take();
            self.line.set(&line);
            self.draw(prompt)?;
            self.leave()?;
            self.line.set(&rest);
            self.together += 1;
            self.came = Came::Marked;
            self.begin_line();
            return Ok(Read::Line(line, self.together));
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
                return Ok(Read::End);
            }
            if self.paste.is_some() {
                match self.terminal.wait(None, Some(MARK_TIME))?.0 {
                    Ready::Keys => drop(self.fill(&mut [0; 4096])?),
                    Ready::Resized => {}
                    Ready::Nothing | Ready::Other => {
                        self.paste(Key::PasteEnd);
                        return self.read(prompt);
                    }
                }
                continue;
            }
            self.draw(prompt)?;
            if let Some(notice) = self.wait()? {
                let erased = self.drawn.erase();
                self.put(&erased)?;
                return Ok(Read::Notice(notice));
            }
        }
    }

    /// The answer to a question: a line of what came together only if it is one.
    pub(crate) fn answer(&mut self, question: &str, is_answer: impl Fn(&str) -> bool) -> io::Result<Read> {
        if let Some(next) = self.pasted.front()
            && !is_answer(next)
        {
            let lines = self.drop_what_came_together()?;
            self.put(question)?;
            self.put("\r\n")?;
            return Ok(Read::Interrupt(lines));
        }
        // What comes after the question was asked is an answer, if a wrong one.
        self.fill_without_waiting()?;
        let mut ahead = !self.keys.is_empty();
        loop {
            match self.read(question)? {
                Read::Help | Read::Complete => {}
                Read::Line(line, _) if std::mem::take(&mut ahead) && !is_answer(&line) => {
                    let mut lines = vec![line];
                    lines.extend(self.drop_what_came_together()?);
                    return Ok(Read::Interrupt(lines));
                }
                read => return Ok(read),
            }
        }
    }

    /// The line that was returned last came with others, or may have: what of them is still to come is taken off and returned.
    pub(crate) fn drop_what_came_together(&mut self) -> io::Result<Vec<String>> {
        let marked = !self.pasted.is_empty();
        let mut dropped: Vec<_> = self.pasted.drain(..).collect();
        self.fill_without_waiting()?;
        if self.came == Came::ByHand && !marked && self.keys.is_empty() {
            return Ok(dropped);
        }
        let mut bytes = 0;
        let mut buffer = [0; 4096];
        // What is marked is whole.
        while self.came != Came::Marked && bytes < PASTE_MAX && !self.ended {
            match self.terminal.wait(None, Some(LULL))?.0 {
                Ready::Keys => bytes += self.fill(&mut buffer)?,
                Ready::Resized => {}
                Ready::Nothing | Ready::Other => break,
            }
        }
        let mut rest = self.line.take();
        let typed = self.keys.up_to_line_end();
        if typed.is_empty() && !marked {
            // A line that is still being typed stays.
            self.line.set(&rest);
        } else {
            rest.push_str(&String::from_utf8_lossy(&typed).replace("\x1b[200~", "").replace("\x1b[201~", ""));
            dropped.extend(lines_of(&rest).map(str::to_owned));
        }
        dropped.retain(|line| !line.trim().is_empty());
        self.together = 0;
        Ok(dropped)
    }

    /// Writes what is no part of the line.
    pub(crate) fn put(&self, text: &str) -> io::Result<()> {
        let mut screen = io::stdout().lock();
        screen.write_all(text.as_bytes())?;
        screen.flush()
    }

    /// Goes to the line below the one that is being typed.
    pub(crate) fn leave(&mut self) -> io::Result<()> {
        let bytes = self.drawn.leave();
        self.put(&bytes)
    }

    fn draw(&mut self, prompt: &str) -> io::Result<()> {
        let bytes = self.drawn.draw(prompt, &self.line, Terminal::columns());
        self.put(&bytes)
    }

    fn begin_line(&mut self) {
        self.waited = Duration::ZERO;
        self.longest_wait = Duration::ZERO;
        self.history.leave();
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = Terminal::read(buffer)?;
        self.keys.extend(buffer.get(..read).unwrap_or_default());
        self.ended |= read == 0;
        Ok(read)
    }

    fn fill_without_waiting(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        while !self.ended && self.terminal.wait(None, Some(Duration::ZERO))?.0 == Ready::Keys {
            self.fill(&mut buffer)?;
        }
        Ok(())
    }

    /// The next of the keys that are there; where its bytes are not whole, they are waited for a little.
    fn next_key(&mut self) -> io::Result<Option<Key>> {
        if let Some(key) = self.keys.next(false) {
            return Ok(Some(key));
        }
        if self.keys.is_empty() {
            return Ok(None);
        }
        if !self.ended && self.terminal.wait(None, Some(KEY_TIME))?.0 == Ready::Keys {
            self.fill(&mut [0; 4096])?;
            return Ok(self.keys.next(self.ended));
        }
        Ok(self.keys.next(true))
    }

    /// Waits for keys, or for a notice.
    fn wait(&mut self) -> io::Result<Option<String>> {
        // Several may have been read at once.
        if let Some(Ok(Some(text))) = self.notices.as_mut().map(Notices::take) {
            return Ok(Some(text));
        }
        let (ready, waited) = self.terminal.wait(self.notices.as_ref().map(Notices::as_fd), None)?;
        if self.line.is_empty() {
            self.waited += waited;
        } else {
            self.longest_wait = self.longest_wait.max(waited);
        }
        match ready {
            Ready::Keys => {
                self.fill(&mut [0; 4096])?;
                Ok(None)
            }
            Ready::Other => match self.notices.as_mut().map(Notices::take) {
                Some(Ok(Some(text))) => Ok(Some(text)),
                Some(Ok(None)) => Ok(None),
                // That bmpd has ended is told when it is asked something.
                _ => {
                    self.notices = None;
                    Ok(None)
                }
            },
            // It is drawn anew.
            Ready::Resized | Ready::Nothing => Ok(None),
        }
    }

    /// One key of what is pasted. True when it is whole.
    fn paste(&mut self, key: Key) -> bool {
        let Some(paste) = &mut self.paste else { return false };
        match key {
            Key::Char(c) => paste.push(c),
            Key::Enter => paste.push('\n'),
            Key::Tab => paste.push('\t'),
            Key::PasteEnd => {
                let text = self.paste.take().unwrap_or_default();
                let mut lines = text.split('\n');
                let last = lines.next_back().unwrap_or_default();
                let mut first = true;
                for line in lines {
                    // The first goes where the cursor is.
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

    fn press(&mut self, key: Key, prompt: &str) -> io::Result<Option<Read>> {
        let literal = std::mem::take(&mut self.literal);
        match key {
            Key::Char('?') if !literal && !self.line.before().trim_start().starts_with('#') => {
                self.draw(prompt)?;
                self.leave()?;
                return Ok(Some(Read::Help));
            }
            Key::Char(c) => self.line.insert(c.encode_utf8(&mut [0; 4])),
            Key::Enter => {
                self.line.end();
                self.draw(prompt)?;
                self.leave()?;
                let line = self.line.take();
                let within = if self.came == Came::ByHand { AT_ONCE } else { LULL };
                let follows = self.waited < within;
                let is_fast = self.longest_wait < AT_ONCE && (follows || line.chars().count() >= SHORT);
                self.together = if follows && is_fast { self.together + 1 } else { 1 };
                self.came = if is_fast { Came::AtOnce } else { Came::ByHand };
                self.begin_line();
                return Ok(Some(Read::Line(line, self.together)));
            }
            // Indentation of what is pasted without a mark.
            Key::Tab if literal || (self.line.before().trim().is_empty() && !self.keys.is_empty()) => {
                self.line.insert("\t");
            }
            Key::Tab => return Ok(Some(Read::Complete)),
            Key::Backspace | Key::Ctrl('h') => self.line.backspace(),
            Key::Ctrl('d') if self.line.is_empty() => {
                self.leave()?;
                return Ok(Some(Read::End));
            }
            Key::Delete | Key::Ctrl('d') => self.line.delete(),
            Key::Left | Key::Ctrl('b') => self.line.left(),
            Key::Right | Key::Ctrl('f') => self.line.right(),
            Key::WordLeft => self.line.word_left(),
            Key::WordRight => self.line.word_right(),
            Key::Home | Key::Ctrl('a') => self.line.home(),
            Key::End | Key::Ctrl('e') => self.line.end(),
            Key::Ctrl('k') => self.killed = self.line.delete_after(),
            Key::Ctrl('u') => self.killed = self.line.delete_before(),
            Key::Ctrl('w') => self.killed = self.line.delete_word(),
            Key::Ctrl('y') => self.line.insert(&self.killed.clone()),
            Key::Ctrl('v') => self.literal = true,
            Key::Up | Key::Ctrl('p') => {
                if let Some(earlier) = self.history.earlier(self.line.text()) {
                    self.line.set(&earlier);
                }
            }
            Key::Down | Key::Ctrl('n') => {
                if let Some(later) = self.history.later() {
                    self.line.set(&later);
                }
            }
            Key::Ctrl('r') => {
                let begun = self.line.text().to_owned();
                if let Some(earlier) = self.history.earlier_with(&begun) {
                    self.line.set(&earlier);
                }
            }
            Key::Ctrl('l') => {
                self.drawn = Drawn::default();
                self.put("\x1b[H\x1b[2J")?;
            }
            Key::Ctrl('c') => {
                self.draw(prompt)?;
                self.put("^C")?;
                self.leave()?;
                self.line.take();
                self.begin_line();
                return Ok(Some(Read::Interrupt(Vec::new())));
            }
            Key::Ctrl('z') => {
                self.leave()?;
                self.terminal.suspend()?;
            }
            Key::PasteBegin => self.paste = Some(String::new()),
            Key::Ctrl(_) | Key::PasteEnd | Key::Other => {}
        }
        Ok(None)
    }
}

fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\r', '\n'])
}
