//! An operator at a terminal: prompts, help at `?`, completion, and what becomes of lines that were pasted.

use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
};

use bmp_user::{
    config::masked,
    control::{Client, Mode, Notices, Outcome, Request, Response},
    escape::escaped_lines,
};

use crate::{
    history::History,
    reader::{Read, Reader},
    script::Ended,
    terminal::Terminal,
    wrap::{in_rows, wrap},
};

/// Talks until the operator leaves.
pub(crate) fn run(client: Client, control: &Path) -> anyhow::Result<Ended> {
    let history = History::load(env::var_os("HOME").map(|home| PathBuf::from(home).join(".bmpctl_history")));
    // Without them everything else works.
    let notices = Notices::follow(control).ok();
    let reader = Reader::new(notices, history)?;
    Conversation { client, reader, prompt: String::new() }.hold()
}

struct Conversation {
    client: Client,
    reader: Reader,
    prompt: String,
}

impl Conversation {
    fn ask(&mut self, command: &str, mode: Mode) -> anyhow::Result<Response> {
        self.client.ask_telling(&Request { command: command.to_owned(), mode, ..Request::default() }, show)
    }

    fn hold(&mut self) -> anyhow::Result<Ended> {
        self.prompt = self.ask("", Mode::Run)?.prompt;
        loop {
            match self.reader.read(&self.prompt)? {
                Read::Line(line, number) => {
                    if let Some(ended) = self.carry_out(&line, Some(number))? {
                        return Ok(ended);
                    }
                }
                // The terminal is left: as by `return`, then `quit`.
                Read::End => {
                    if let Some(ended) = self.carry_out("return", None)? {
                        return Ok(ended);
                    }
                }
                // The line is given up.
                Read::Interrupt(dropped) => self.show_dropped(&dropped)?,
                Read::Help => {
                    let before = self.reader.before_cursor().to_owned();
                    match self.ask(&before, Mode::Help)?.outcome {
                        Outcome::Done(text) | Outcome::Refused(text) => show(&text)?,
                        _ => {}
                    }
                }
                Read::Complete => self.complete()?,
                Read::Notice(text) => {
                    show(&text)?;
                    self.prompt = self.ask("", Mode::Run)?.prompt;
                }
            }
        }
    }

    /// Without a number the operator leaves by it.
    fn carry_out(&mut self, line: &str, number: Option<usize>) -> anyhow::Result<Option<Ended>> {
        let mut response = self.ask(line, Mode::Interactive)?;
        if number.is_some() {
            self.reader.history().add(line.trim(), response.secret);
        }
        while let Outcome::Question(question) = &response.outcome {
            let answer = match self.reader.answer(question, is_answer)? {
                // It may be about what the question is about.
                Read::Notice(text) => {
                    show(&text)?;
                    response = self.ask("", Mode::Repeat)?;
                    continue;
                }
                Read::Line(answer, _) => answer,
                Read::Interrupt(dropped) => {
                    self.show_dropped(&dropped)?;
                    "c".to_owned()
                }
                // Nobody is there to say that it should be committed.
                _ => "n".to_owned(),
            };
            response = self.ask(&answer, Mode::Interactive)?;
        }
        self.prompt = response.prompt;
        match response.outcome {
            Outcome::Done(answer) => show(&answer)?,
            Outcome::Refused(answer) => {
                show(&answer)?;
                if let Some(number) = number {
                    // bmpd knows secrets that the words alone do not give away.
                    let is_hidden = response.secret && masked(line) == line;
                    self.stop_at(if is_hidden { "(a line with a secret)" } else { line }, number)?;
                }
            }
            Outcome::Left(_) => return Ok(Some(Ended::Well)),
            Outcome::Question(_) | Outcome::Words(_) | Outcome::Notice(_) => {}
        }
        // In the user view nothing keeps a terminal that is gone.
        Ok((number.is_none() && self.prompt.starts_with('<')).then_some(Ended::Well))
    }

    /// A line was refused: those that came with it are not carried out, as they would be elsewhere.
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

    /// Types what all words that may stand here have in common, or else lists them.
    fn complete(&mut self) -> anyhow::Result<()> {
        let before = self.reader.before_cursor().to_owned();
        let begun = before.rsplit([' ', '\t']).next().unwrap_or_default();
        let words = match self.ask(&before, Mode::Complete)?.outcome {
            Outcome::Words(words) => words,
            _ => Vec::new(),
        };
        let Some(common) = common(&words) else { return Ok(()) };
        match common.strip_prefix(begun) {
            Some(rest) if words.len() == 1 => self.reader.insert(&format!("{rest} ")),
            Some(rest) if !rest.is_empty() => self.reader.insert(rest),
            _ => {
                self.reader.leave()?;
                show(&in_rows(&words, Terminal::columns()))?;
            }
        }
        Ok(())
    }
}

fn is_answer(line: &str) -> bool {
    ["y", "yes", "n", "no", "c", "cancel"].iter().any(|answer| line.trim().eq_ignore_ascii_case(answer))
}

/// What all of them begin with.
fn common(words: &[String]) -> Option<String> {
    let (first, others) = words.split_first()?;
    let same = |at: usize, c: char| others.iter().all(|word| word.chars().nth(at) == Some(c));
    Some(first.chars().enumerate().take_while(|(at, c)| same(*at, *c)).map(|(_, c)| c).collect())
}

fn show(text: &str) -> anyhow::Result<()> {
    if !text.is_empty() {
        writeln!(io::stdout(), "{}", wrap(&escaped_lines(text.trim_end()).to_string(), Terminal::columns()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_typed_as_far_as_they_are_the_same() {
        let common = |words: &[&str]| common(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(common(&["connect-interface", "connect-retry"]).as_deref(), Some("connect-"));
        assert_eq!(common(&["display"]).as_deref(), Some("display"));
        assert_eq!(common(&["a", "b"]).as_deref(), Some(""));
        assert_eq!(common(&[]), None);
    }
}
