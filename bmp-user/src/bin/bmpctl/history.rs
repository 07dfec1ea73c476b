//! The lines that an operator has typed, kept in a file of theirs. Lines with secrets are left out.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use bmp_user::config::masked;

/// Lines that are remembered.
const LINES: usize = 1000;

/// Earlier lines, and the one that is shown.
#[derive(Debug, Default)]
pub(crate) struct CommandHistory {
    file: Option<PathBuf>,
    lines: Vec<String>,
    /// How many lines before the end the shown line is; 0 for the line that is being typed.
    at: usize,
    /// The line that was being typed before an earlier one was shown.
    typed: String,
}

impl CommandHistory {
    /// Loads the lines of a file. Everything else works where the file cannot be used.
    pub(crate) fn load(file: Option<PathBuf>) -> Self {
        // Opening a FIFO would wait for the other end.
        let file = file.filter(|file| file.is_file() || !file.exists());
        let text = file.as_ref().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        let mut lines: Vec<_> =
            text.lines().filter(|line| is_kept(line) && *line != "#V2").map(str::to_owned).collect();
        let more = lines.len().saturating_sub(LINES);
        lines.drain(..more);
        // An earlier bmpctl, which recognised fewer secrets, may have written some.
        let has_secrets = text.lines().any(|line| masked(line) != line);
        if let Some(file) = &file
            && (more > LINES || has_secrets)
        {
            let _ = bmp_user::replace_file(file, format!("{}\n", lines.join("\n")).as_bytes(), 0o600);
        }
        Self { file, lines, ..Self::default() }
    }

    /// Adds a line, unless it equals the last one or holds a secret.
    pub(crate) fn add(&mut self, line: &str, has_secret: bool) {
        if has_secret || !is_kept(line) || self.lines.last().is_some_and(|last| last == line) {
            return;
        }
        self.lines.push(line.to_owned());
        if let Some(file) = &self.file {
            let appended = OpenOptions::new().append(true).create(true).mode(0o600).open(file);
            let _ = appended.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        }
    }

    /// Returns the line before the shown one. `typed` is the text that is shown now.
    pub(crate) fn earlier(&mut self, typed: &str) -> Option<String> {
        let line = self.lines.iter().nth_back(self.at)?.clone();
        if self.at == 0 {
            self.typed = typed.to_owned();
        }
        self.at += 1;
        Some(line)
    }

    /// Returns the nearest line before the shown one that contains the text.
    pub(crate) fn earlier_with(&mut self, text: &str) -> Option<String> {
        let wanted = if self.at == 0 { text.to_owned() } else { self.typed.clone() };
        let found = self.lines.iter().rev().enumerate().skip(self.at).find(|(_, line)| line.contains(&wanted));
        let (at, line) = found.map(|(at, line)| (at, line.clone()))?;
        self.typed = wanted;
        self.at = at + 1;
        Some(line)
    }

    /// Returns the line after the shown one, or the text that was being typed.
    pub(crate) fn later(&mut self) -> Option<String> {
        self.at = self.at.checked_sub(1)?;
        Some(match self.at.checked_sub(1) {
            Some(at) => self.lines.iter().nth_back(at).cloned().unwrap_or_default(),
            None => std::mem::take(&mut self.typed),
        })
    }

    /// Notes that the line is finished.
    pub(crate) fn leave(&mut self) {
        self.at = 0;
    }
}

fn is_kept(line: &str) -> bool {
    !line.trim().is_empty() && masked(line) == line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_lines_come_back_in_turn_and_the_typed_text_after_them() {
        let mut history = CommandHistory::default();
        for line in ["one", "two", "two", "three"] {
            history.add(line, false);
        }
        assert_eq!(history.earlier("typed").as_deref(), Some("three"));
        assert_eq!(history.earlier("three").as_deref(), Some("two"));
        assert_eq!(history.earlier("two").as_deref(), Some("one"));
        assert_eq!(history.earlier("one"), None);
        assert_eq!(history.later().as_deref(), Some("two"));
        assert_eq!(history.later().as_deref(), Some("three"));
        assert_eq!(history.later().as_deref(), Some("typed"));
        assert_eq!(history.later(), None);
        assert_eq!(history.earlier_with("t").as_deref(), Some("three"));
        assert_eq!(history.earlier_with("three").as_deref(), Some("two"));
    }

    #[test]
    fn secrets_are_not_remembered_and_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("history");
        fs::write(&file, "#V2\npeer 192.0.2.1 password hunter2\ndisplay bmp session\n").unwrap();
        let mut history = CommandHistory::load(Some(file.clone()));
        assert_eq!(history.lines, ["display bmp session"]);
        history.add("tcp connect port 1 password md5 hunter3", false);
        history.add("t c p 1 p m hunter4", true);
        history.add("commit", false);
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, "display bmp session\ncommit\n");
    }
}
