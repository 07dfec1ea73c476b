//! An operator at a terminal: prompts, help at `?`, completion, and pasted lines.

use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
};

use bmp_user::{
    config::masked,
    control::{Client, CommandAnswer, Notices, RequestMode, Response},
    escape::escaped_lines,
};

use crate::{
    history::CommandHistory,
    reader::{LineEvent, LineReader, PageTurn},
    resume::{Connection, is_gone},
    script::ScriptEnd,
    terminal::RawTerminal,
    wrap::{in_rows, wrap},
};

/// Talks with the operator until they leave.
pub(crate) fn run(client: Client, control: &Path) -> anyhow::Result<ScriptEnd> {
    let history = CommandHistory::load(env::var_os("HOME").map(|home| PathBuf::from(home).join(".bmpctl_history")));
    // Everything else works without notices.
    let notices = Notices::follow(control).ok();
    let reader = LineReader::new(notices, history)?;
    Conversation { connection: Connection::new(client, control), reader, prompt: String::new() }.hold()
}

struct Conversation {
    connection: Connection,
    reader: LineReader,
    prompt: String,
}

impl Conversation {
    fn ask(&mut self, command: &str, mode: RequestMode) -> anyhow::Result<Response> {
        self.connection.ask(command, mode, show)
    }

    fn hold(&mut self) -> anyhow::Result<ScriptEnd> {
        loop {
            match self.talk() {
                Err(error) if is_gone(&error) => self.wait_for_bmpd(&error)?,
                ended => return ended,
            }
        }
    }

    /// Waits until bmpd is there again, with the candidate as it was.
    fn wait_for_bmpd(&mut self, error: &anyhow::Error) -> anyhow::Result<()> {
        show(&format!("Warning: {error:#}."))?;
        show("Info: waiting for bmpd to come back; Ctrl-C gives up.")?;
        let reader = &mut self.reader;
        for told in self.connection.resume(|moment| reader.gives_up(moment))? {
            show(&told)?;
        }
        self.reader.follow(Notices::follow(self.connection.control()).ok());
        Ok(())
    }

    fn talk(&mut self) -> anyhow::Result<ScriptEnd> {
        self.prompt = self.ask("", RequestMode::Run)?.prompt;
        loop {
            match self.reader.read(&self.prompt)? {
                LineEvent::Line(line, number) => {
                    if let Some(ended) = self.carry_out(&line, Some(number))? {
                        return Ok(ended);
                    }
                }
                // The terminal is at its end: leave as by `return`, then `quit`.
                LineEvent::End => {
                    if let Some(ended) = self.carry_out("return", None)? {
                        return Ok(ended);
                    }
                }
                // The operator has given up the line.
                LineEvent::Interrupt(dropped) => self.show_dropped(&dropped)?,
                LineEvent::Return if self.prompt.starts_with('<') => self.reader.suspend()?,
                LineEvent::Return => {
                    if let Some(ended) = self.carry_out("return", Some(1))? {
                        return Ok(ended);
                    }
                }
                LineEvent::Help => {
                    let before = self.reader.before_cursor().to_owned();
                    match self.ask(&before, RequestMode::Help)?.answer {
                        CommandAnswer::Done(text) | CommandAnswer::Refused(text) => show(&text)?,
                        _ => {}
                    }
                }
                LineEvent::Complete => self.complete()?,
                LineEvent::Notice(text) => {
                    show(&text)?;
                    self.prompt = self.ask("", RequestMode::Run)?.prompt;
                }
                // Unless bmpd is there and has closed that connection alone, this fails.
                LineEvent::Lost => self.prompt = self.ask("", RequestMode::Run)?.prompt,
            }
        }
    }

    /// Carries out a line and returns how the conversation ends, if it does. A line without a
    /// number is one by which the operator leaves.
    fn carry_out(&mut self, line: &str, number: Option<usize>) -> anyhow::Result<Option<ScriptEnd>> {
        let mut response = self.ask(line, RequestMode::Interactive)?;
        if number.is_some() {
            self.reader.history().add(line.trim(), response.secret);
        }
        while let CommandAnswer::Question(question) = &response.answer {
            let answer = match self.reader.answer(question, is_answer)? {
                // The notice may be about the subject of the question.
                LineEvent::Notice(text) => {
                    show(&text)?;
                    response = self.ask("", RequestMode::Repeat)?;
                    continue;
                }
                LineEvent::Lost => {
                    response = self.ask("", RequestMode::Repeat)?;
                    continue;
                }
                LineEvent::Line(answer, _) => answer,
                LineEvent::Interrupt(dropped) => {
                    self.show_dropped(&dropped)?;
                    "c".to_owned()
                }
                LineEvent::Return => "c".to_owned(),
                // Nobody is there to confirm.
                _ => "n".to_owned(),
            };
            response = self.ask(&answer, RequestMode::Interactive)?;
        }
        self.prompt = response.prompt;
        match response.answer {
            CommandAnswer::Done(answer) => self.show_in_pages(&answer)?,
            CommandAnswer::Refused(answer) => {
                show(&answer)?;
                if let Some(number) = number {
                    // bmpd knows secrets that the words alone do not reveal.
                    let is_hidden = response.secret && masked(line) == line;
                    self.stop_at(if is_hidden { "(a line with a secret)" } else { line }, number)?;
                }
            }
            CommandAnswer::Left(_) => return Ok(Some(ScriptEnd::Done)),
            CommandAnswer::Question(_) | CommandAnswer::Words(_) | CommandAnswer::Notice(_) => {}
        }
        // In the user view nothing more has to be done for a terminal that is gone.
        Ok((number.is_none() && self.prompt.starts_with('<')).then_some(ScriptEnd::Done))
    }

    /// Shows an answer. Stops below each full screen, if the operator is there to go on.
    fn show_in_pages(&mut self, text: &str) -> anyhow::Result<()> {
        let text = wrapped(text);
        let mut lines = text.lines();
        let mut left = RawTerminal::rows().saturating_sub(1);
        if text.lines().count() <= left || !self.reader.waits_for_operator()? {
            return show(&text);
        }
        while let Some(line) = lines.next() {
            writeln!(io::stdout(), "{line}")?;
            left = left.saturating_sub(1);
            if left == 0 && lines.clone().next().is_some() {
                left = match self.reader.turn_page()? {
                    PageTurn::Page => RawTerminal::rows().saturating_sub(1),
                    PageTurn::Line => 1,
                    PageTurn::Stop => break,
                };
            }
        }
        Ok(())
    }

    /// Drops the lines that came together with a refused one: they would be carried out in the
    /// wrong view.
    fn stop_at(&mut self, line: &str, number: usize) -> anyhow::Result<()> {
        let dropped = self.reader.drop_what_came_together()?;
        if dropped.is_empty() && number < 2 {
            return Ok(());
        }
        self.show_dropped(&dropped)?;
        let (line, of) = (masked(line.trim()), number + dropped.len());
        show(&format!("Stopped at line {number} of {of}: {line}"))
    }

    fn show_dropped(&self, dropped: &[String]) -> anyhow::Result<()> {
        if dropped.is_empty() {
            return Ok(());
        }
        let mut text = format!("Not carried out ({} lines):\n", dropped.len());
        for line in dropped {
            text.push_str(&format!("  {}\n", masked(line.trim_end())));
        }
        show(&text)
    }

    /// Types the beginning that all possible words share, or lists the words.
    fn complete(&mut self) -> anyhow::Result<()> {
        let before = self.reader.before_cursor().to_owned();
        let begun = before.rsplit([' ', '\t']).next().unwrap_or_default();
        let Response { answer, hints, .. } = self.ask(&before, RequestMode::Complete)?;
        let words = if let CommandAnswer::Words(words) = answer { words } else { Vec::new() };
        let Some(common) = common(&words) else { return Ok(()) };
        // A keyword may have been begun in capitals.
        let rest = common.get(begun.len()..).filter(|_| begins(&common, begun));
        match rest {
            Some(rest) if words.len() == 1 => self.type_instead(begun, &common, &format!("{rest} ")),
            Some(rest) if !rest.is_empty() => self.type_instead(begun, &common, rest),
            _ if hints.is_empty() => {
                self.reader.leave()?;
                show(&in_rows(&words, RawTerminal::columns()))?;
            }
            _ => {
                self.reader.leave()?;
                let width = words.iter().map(|word| word.chars().count()).max().unwrap_or(0);
                let hint = |word: &String| hints.get(word).map(String::as_str).unwrap_or_default();
                let lines = words.iter().map(|word| format!("  {word:width$}  {}", hint(word)).trim_end().to_owned());
                show(&lines.collect::<Vec<_>>().join("\n"))?;
            }
        }
        Ok(())
    }

    /// Types the rest of a word whose beginning is there, in the letters of the word.
    fn type_instead(&mut self, begun: &str, word: &str, rest: &str) {
        if word.starts_with(begun) {
            return self.reader.insert(rest);
        }
        begun.chars().for_each(|_| self.reader.backspace());
        let begin = word.get(..begun.len()).unwrap_or_default();
        self.reader.insert(&format!("{begin}{rest}"));
    }
}

/// Decides whether a word begins with another, in letters of any case.
fn begins(word: &str, begun: &str) -> bool {
    word.get(..begun.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(begun))
}

fn is_answer(line: &str) -> bool {
    ["y", "yes", "n", "no", "c", "cancel"].iter().any(|answer| line.trim().eq_ignore_ascii_case(answer))
}

/// Returns the beginning that all words share, or `None` without words.
fn common(words: &[String]) -> Option<String> {
    let (first, others) = words.split_first()?;
    let same = |at: usize, c: char| others.iter().all(|word| word.chars().nth(at) == Some(c));
    Some(first.chars().enumerate().take_while(|(at, c)| same(*at, *c)).map(|(_, c)| c).collect())
}

fn show(text: &str) -> anyhow::Result<()> {
    if !text.is_empty() {
        writeln!(io::stdout(), "{}", wrapped(text))?;
    }
    Ok(())
}

/// Returns a text as the terminal can show it: escaped, and wrapped at its width.
fn wrapped(text: &str) -> String {
    wrap(&escaped_lines(text.trim_end()).to_string(), RawTerminal::columns())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_is_as_long_as_the_words_agree() {
        let common = |words: &[&str]| common(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(common(&["connect-interface", "connect-retry"]).as_deref(), Some("connect-"));
        assert_eq!(common(&["display"]).as_deref(), Some("display"));
        assert_eq!(common(&["a", "b"]).as_deref(), Some(""));
        assert_eq!(common(&[]), None);
    }
}
