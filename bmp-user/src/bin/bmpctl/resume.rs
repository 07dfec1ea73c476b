//! The way back to a bmpd that was started again: to the same view, with the same candidate.
//!
//! A candidate ends with its connection. bmpctl remembers the lines that made it, and types them
//! again.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bmp_user::{
    config::masked,
    control::{Client, CommandAnswer, NoDaemon, Request, RequestMode, Response},
};
use zeroize::Zeroizing;

/// Time between two attempts to find bmpd.
const INTERVAL: Duration = Duration::from_millis(200);

/// A line that has changed the candidate, and the view that it was typed in.
#[derive(Debug)]
struct CandidateLine {
    view: Vec<String>,
    /// It may have a secret.
    line: Zeroizing<String>,
}

/// The connection to bmpd, and what it takes to have it again.
#[derive(Debug)]
pub(crate) struct Connection {
    control: PathBuf,
    client: Client,
    /// The lines that lead to the operator's view.
    view: Vec<String>,
    /// The lines that have made the candidate of what was in force.
    candidate: Vec<CandidateLine>,
    /// The configuration in force when the candidate was begun, as it is displayed.
    running: String,
}

impl Connection {
    pub(crate) fn new(client: Client, control: &Path) -> Self {
        Self { control: control.to_owned(), client, view: Vec::new(), candidate: Vec::new(), running: String::new() }
    }

    /// Returns the path of the control socket.
    pub(crate) fn control(&self) -> &Path {
        &self.control
    }

    /// Sends one request and waits for its answer. `tell` gets the notices before it.
    ///
    /// # Errors
    ///
    /// See [`Client::ask`].
    pub(crate) fn ask(
        &mut self,
        command: &str,
        mode: RequestMode,
        tell: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Response> {
        let request = Request { command: command.to_owned(), mode, ..Request::default() };
        let response = self.client.ask_telling(&request, tell)?;
        if response.edited {
            if self.candidate.is_empty() {
                self.running = self.running()?;
            }
            self.candidate.push(CandidateLine { view: self.view.clone(), line: Zeroizing::new(command.to_owned()) });
        }
        if !response.pending {
            self.candidate.clear();
        }
        self.view.clone_from(&response.view);
        Ok(response)
    }

    fn run(&mut self, command: &str) -> anyhow::Result<Response> {
        self.client.ask(&Request { command: command.to_owned(), ..Request::default() })
    }

    fn running(&mut self) -> anyhow::Result<String> {
        match self.run("display current-configuration")?.answer {
            CommandAnswer::Done(text) => Ok(text),
            // It is compared with another one alone.
            _ => Ok(String::new()),
        }
    }

    /// Waits until bmpd is there again, unless the operator `gives_up` in a moment of this length.
    /// Makes the candidate again, and returns what to tell the operator.
    ///
    /// # Errors
    ///
    /// The operator has given up.
    pub(crate) fn resume(
        &mut self,
        mut gives_up: impl FnMut(Duration) -> io::Result<bool>,
    ) -> anyhow::Result<Vec<String>> {
        loop {
            // Whatever is wrong may only be so while bmpd begins.
            let error = match Client::connect(&self.control) {
                Ok(client) => {
                    self.client = client;
                    match self.make_candidate_again() {
                        Ok(told) => return Ok(told),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if gives_up(INTERVAL)? {
                return Err(error);
            }
        }
    }

    fn make_candidate_again(&mut self) -> anyhow::Result<Vec<String>> {
        let has_changed = !self.candidate.is_empty() && self.running()? != self.running;
        let candidate = std::mem::take(&mut self.candidate);
        let remade = self.type_again(&candidate);
        self.candidate = candidate;
        let (refused, pending) = remade?;
        let mut told = vec![match (self.candidate.is_empty(), pending) {
            (true, _) => "Info: bmpd is back.".to_owned(),
            (false, true) => "Info: bmpd is back, and the candidate has its changes again.".to_owned(),
            (false, false) => "Info: bmpd is back, and what the candidate has changed is in force.".to_owned(),
        }];
        if has_changed {
            told.push(
                "Warning: the configuration in force has changed meanwhile: `display configuration candidate changes` shows what a commit would do."
                    .to_owned(),
            );
            self.running = self.running()?;
        }
        if !refused.is_empty() {
            let lines: Vec<_> = refused.iter().map(|line| format!("  {line}")).collect();
            told.push(format!("Warning: these lines of the candidate are refused now:\n{}", lines.join("\n")));
        }
        if !pending {
            self.candidate.clear();
        }
        Ok(told)
    }

    /// Types the lines of the candidate again, and goes to the view of the operator. Returns the
    /// lines that are refused, with secrets masked, and whether changes are pending.
    fn type_again(&mut self, candidate: &[CandidateLine]) -> anyhow::Result<(Vec<String>, bool)> {
        let mut at = Vec::new();
        let mut refused = Vec::new();
        for CandidateLine { view, line } in candidate {
            self.go(&at, view)?;
            let response = self.run(line)?;
            if let CommandAnswer::Refused(_) = response.answer {
                refused.push(masked(line.trim()).into_owned());
            }
            at = response.view;
        }
        let wanted = self.view.clone();
        self.go(&at, &wanted)?;
        Ok((refused, self.run("")?.pending))
    }

    /// Goes from one view to another. Stops on the way where a view cannot be entered.
    fn go(&mut self, from: &[String], to: &[String]) -> anyhow::Result<()> {
        if from == to {
            return Ok(());
        }
        for line in [&["return".to_owned()], to].concat() {
            self.run(&line)?;
        }
        Ok(())
    }
}

/// Decides whether bmpd is gone.
pub(crate) fn is_gone(error: &anyhow::Error) -> bool {
    error.is::<NoDaemon>()
}
