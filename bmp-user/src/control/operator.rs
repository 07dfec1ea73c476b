//! One operator at work over one connection.

use anyhow::anyhow;

use super::{Context, Mode, Origin, Outcome, Request, Response};
use crate::{
    config::{
        CandidateCommand, Command, Committed, Config, Editor, NextWord, Reset, Suggest, View, next_words, parse_line,
    },
    sys,
};

/// What an operator is asked who leaves with changes pending.
const QUESTION: &str =
    "Warning: the candidate has changes that are not committed. Commit them before leaving? [Y(es)/N(o)/C(ancel)]: ";

/// One operator: a view, a candidate, and what may be done with them.
#[derive(Debug)]
pub struct Operator {
    context: Context,
    editor: Editor,
    /// The command that waits for the answer to [`QUESTION`].
    leaving: Option<Command>,
}

impl Operator {
    /// Begins in the user view.
    pub fn new(context: Context) -> Self {
        let editor = Editor::new(context.store.clone());
        Self { context, editor, leaving: None }
    }

    /// Carries out one request.
    pub async fn answer(&mut self, request: &Request) -> Response {
        self.editor.follow();
        let answered = match request.mode {
            Mode::Help => self.help(&request.command),
            Mode::Complete => Ok(self.complete(&request.command)),
            Mode::Run | Mode::Interactive => match self.leaving.take() {
                Some(leaving) if request.mode == Mode::Interactive => self.leave(leaving, &request.command).await,
                _ => self.run(request).await,
            },
        };
        let outcome = answered.unwrap_or_else(|error| Outcome::Refused(format!("{error:#}")));
        Response { outcome, prompt: self.prompt(), pending: self.editor.is_pending() }
    }

    /// The answer to something that is not a request.
    pub fn refuse(&self, why: String) -> Response {
        Response { outcome: Outcome::Refused(why), prompt: self.prompt(), pending: self.editor.is_pending() }
    }

    fn prompt(&self) -> String {
        let running = self.context.store.running();
        self.editor.prompt(&running.sysname.clone().unwrap_or_else(sys::host_name))
    }

    async fn run(&mut self, request: &Request) -> anyhow::Result<Outcome> {
        let origin = request.origin.as_ref();
        let say = |error: crate::config::Error| match origin {
            Some(Origin { file, line }) => anyhow!("{}", error.at_line(file, *line)),
            None => anyhow!("{error}"),
        };
        let command = parse_line(self.editor.view(), &request.command, true).map_err(say)?;
        if request.json && !matches!(command, Command::Display(..)) {
            return Err(anyhow!("only what display shows has a JSON form: leave out --json"));
        }
        let done = match command {
            Command::Nothing => Ok(String::new()),
            Command::Configure(_) | Command::SystemView => {
                self.editor.apply(&command).map_err(say)?;
                Ok(String::new())
            }
            Command::Quit | Command::Return => return self.go_out(command, request.mode == Mode::Interactive),
            Command::Display(what, filter) => {
                self.context.display(&self.editor, &what, request.json).await.map(|answer| match &filter {
                    Some(filter) => filter.apply(&answer),
                    None => answer,
                })
            }
            Command::Reset(reset) => self.reset(&reset),
            Command::Candidate(command) => self.candidate(command).await,
        };
        done.map(Outcome::Done).map_err(|error| match origin {
            Some(Origin { file, line }) => anyhow!("{file}:{line}: error: {error:#}"),
            None => anyhow!("Error: {}", sentence(&format!("{error:#}"))),
        })
    }

    /// `quit` and `return`. To the user view they leave the candidate behind.
    fn go_out(&mut self, command: Command, ask: bool) -> anyhow::Result<Outcome> {
        if *self.editor.view() == View::User {
            return Ok(if command == Command::Quit {
                Outcome::Left(String::new())
            } else {
                Outcome::Done(String::new())
            });
        }
        let leaves = command == Command::Return || *self.editor.view() == View::System;
        if leaves && self.editor.is_pending() && ask {
            self.leaving = Some(command);
            return Ok(Outcome::Question(QUESTION.to_owned()));
        }
        self.editor.apply(&command)?;
        let said = if leaves && self.editor.is_pending() {
            "Warning: the candidate has changes that are not committed.\n".to_owned()
        } else {
            String::new()
        };
        Ok(Outcome::Done(said))
    }

    /// With the answer to the question.
    async fn leave(&mut self, command: Command, answer: &str) -> anyhow::Result<Outcome> {
        let mut said = String::new();
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => {
                let committed = self.candidate(CandidateCommand::Commit).await;
                said = committed.map_err(|error| anyhow!("Error: {}", sentence(&format!("{error:#}"))))?;
            }
            "n" | "no" => self.editor.clear(),
            "c" | "cancel" => return Ok(Outcome::Done(said)),
            _ => {
                self.leaving = Some(command);
                return Ok(Outcome::Question(QUESTION.to_owned()));
            }
        }
        self.editor.apply(&command)?;
        Ok(Outcome::Done(said))
    }

    async fn candidate(&mut self, command: CandidateCommand) -> anyhow::Result<String> {
        let before = self.context.store.running();
        let committed = match command {
            CandidateCommand::Commit => self.editor.commit().await?,
            CandidateCommand::CommitTrial(time) => self.editor.commit_trial(time).await?,
            CandidateCommand::AbortTrial => {
                self.context.store.abort_trial().await?;
                self.editor.follow();
                return Ok("Info: the trial is over: the configuration before it is in force.\n".to_owned());
            }
            CandidateCommand::Clear => {
                self.editor.clear();
                return Ok(String::new());
            }
        };
        let mut said = self.context.warnings(&before, &self.context.store.running()).await;
        match (committed, command) {
            (Committed::Nothing, _) => said.push_str("Info: there is nothing to commit.\n"),
            (Committed::Trial, _) => said.push_str("Info: the trial is confirmed and kept.\n"),
            (Committed::OnTrial, CandidateCommand::CommitTrial(time)) => {
                said.push_str(&format!(
                    "Info: in force for {} s, unless it is confirmed by `commit` before.\n",
                    time.as_secs()
                ));
            }
            (Committed::OnTrial | Committed::Changes, _) => {}
        }
        Ok(said)
    }

    fn reset(&self, reset: &Reset) -> anyhow::Result<String> {
        let running = self.context.store.running();
        let ids: Vec<_> = running.bmp.sessions.keys().filter(|id| reset.names(id)).cloned().collect();
        if ids.is_empty() {
            return Err(anyhow!("no such bmp-session is configured"));
        }
        self.context.sessions.reset(&ids);
        Ok(String::new())
    }

    fn help(&self, line: &str) -> anyhow::Result<Outcome> {
        let next = next_words(self.editor.view(), line)?;
        let text = next.to_string();
        Ok(Outcome::Done(if text.is_empty() { "  nothing comes next here\n".to_owned() } else { text }))
    }

    /// Keywords, and for arguments the names that there are.
    fn complete(&self, line: &str) -> Outcome {
        let Ok(next) = next_words(self.editor.view(), line) else { return Outcome::Words(Vec::new()) };
        let begun = line.rsplit([' ', '\t']).next().unwrap_or_default();
        let mut words = Vec::new();
        for word in next.words {
            words.extend(self.names(&word).into_iter().filter(|name| name.starts_with(begun)));
            if !word.argument {
                words.push(word.text);
            }
        }
        words.sort();
        words.dedup();
        Outcome::Words(words)
    }

    fn names(&self, word: &NextWord) -> Vec<String> {
        let Config { interface_aliases, relays, bmp, .. } = self.editor.candidate();
        let host = self.context.host.borrow();
        let links = host.links.values();
        match word.suggest {
            None => Vec::new(),
            Some(Suggest::Interface) => {
                let of_host = links.flat_map(|link| std::iter::once(&link.name).chain(&link.alt_names));
                of_host.chain(interface_aliases.keys()).cloned().collect()
            }
            Some(Suggest::Station) => bmp.sessions.keys().map(|id| id.station.to_string()).collect(),
            Some(Suggest::VpnInstance) => {
                links.filter(|link| link.kind.as_deref() == Some("vrf")).map(|link| link.name.clone()).collect()
            }
            Some(Suggest::Input) => relays.keys().cloned().collect(),
            Some(Suggest::Alias) => bmp.sessions.keys().filter_map(|id| id.alias.clone()).collect(),
        }
    }
}

/// With a full stop where there is none, unless lines of a configuration follow.
fn sentence(text: &str) -> String {
    let text = text.trim_end();
    let end = if text.contains('\n') || text.ends_with('.') { "" } else { "." };
    format!("{text}{end}")
}
