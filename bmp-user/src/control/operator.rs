//! One operator at work over one connection.

use anyhow::anyhow;
use tokio::sync::{OnceCell, mpsc};

use super::{
    Before, Context, Mode, Origin, Outcome, Request, Response, Said,
    consequences::OUTCOME_PATIENCE as PATIENCE,
    display::{WriteAnswer, as_json},
};
use crate::{
    config::{
        Allow, CandidateCommand, Command, CommitError, Committed, Config, Editor, Filter, NextWord, Reset, Suggest,
        View, Who, has_secret, next_words, parse_line, sentence,
    },
    sys, tasks,
};

/// What an operator is asked who leaves with changes pending.
const QUESTION: &str =
    "Warning: the candidate has changes that are not committed. Commit them before leaving? [Y(es)/N(o)/C(ancel)]: ";

/// What becomes of a request.
pub(super) enum Reply {
    Whole(Response),
    /// What makes the text, which lines of it are shown, and the response without it.
    Pieces(WriteAnswer, Option<Filter>, Response),
}

/// One operator: a view, a candidate, and what may be done with them.
#[derive(Debug)]
pub struct Operator {
    context: Context,
    editor: Editor,
    who: OnceCell<Who>,
    process: Option<u32>,
    uid: Option<u32>,
    asked: Option<Asked>,
    /// What the last `display` found lost.
    lost: Option<String>,
    /// Takes what is said before an answer that takes a moment.
    waiting: Option<mpsc::Sender<String>>,
}

/// A question, and what waits for its answer.
#[derive(Debug)]
struct Asked {
    question: String,
    about: About,
}

#[derive(Debug)]
enum About {
    /// Changes that are pending, to leave with this command.
    Leaving(Command),
    /// What is to become of the trial of another operator, which has this number.
    Trial(u64, CandidateCommand),
}

/// What is said to an answer that comes too late.
const TRIAL_IS_OVER: &str = "Info: that trial has ended meanwhile: nothing was done.\n";

impl Operator {
    /// Begins in the user view.
    pub fn new(context: Context) -> Self {
        let editor = Editor::new(context.store.clone());
        let who = OnceCell::new();
        Self { context, editor, who, process: None, uid: None, asked: None, lost: None, waiting: None }
    }

    /// The same for this user and process at the other end of the connection.
    #[must_use]
    pub fn at(self, uid: u32, process: Option<u32>) -> Self {
        Self { uid: Some(uid), process, ..self }
    }

    /// The same, which says by this what it waits for.
    #[must_use]
    pub(super) fn telling(self, waiting: mpsc::Sender<String>) -> Self {
        Self { waiting: Some(waiting), ..self }
    }

    /// Carries out one request; what may be large is left to be made.
    pub(super) async fn reply(&mut self, request: &Request) -> Reply {
        match self.large(request) {
            Some((make, filter)) => {
                let lost = self.context.find_loss();
                let frame = Response { outcome: Outcome::Done(String::new()), lost, ..self.refuse(String::new()) };
                Reply::Pieces(make, filter, frame)
            }
            None => Reply::Whole(self.answer(request).await),
        }
    }

    /// What makes the answer, where that may be large.
    fn large(&mut self, request: &Request) -> Option<(WriteAnswer, Option<Filter>)> {
        if !matches!(request.mode, Mode::Run | Mode::Interactive) || self.asked.is_some() {
            return None;
        }
        self.editor.follow();
        match parse_line(self.editor.view(), &request.command, true) {
            Ok(Command::Display(what, filter)) => Some((self.context.large(&what, request.json)?, filter)),
            _ => None,
        }
    }

    /// Carries out one request.
    pub async fn answer(&mut self, request: &Request) -> Response {
        self.editor.follow();
        let secret = has_secret(self.editor.view(), &request.command);
        let answered = match request.mode {
            Mode::Help => self.help(&request.command),
            Mode::Complete => Ok(self.complete(&request.command)),
            Mode::Repeat => Ok(self.repeat().await),
            Mode::Run | Mode::Interactive => match self.asked.take() {
                Some(asked) if request.mode == Mode::Interactive => self.answered(asked, request).await,
                _ => self.run(request).await,
            },
        };
        let outcome = answered.unwrap_or_else(|error| Outcome::Refused(format!("{error:#}")));
        let lost = self.lost.take();
        Response { outcome, prompt: self.prompt(), pending: self.editor.is_pending(), secret, lost }
    }

    /// The answer to something that is not a request.
    pub fn refuse(&self, why: String) -> Response {
        let pending = self.editor.is_pending();
        Response { outcome: Outcome::Refused(why), prompt: self.prompt(), pending, secret: false, lost: None }
    }

    /// Whether changes are pending.
    pub(super) fn is_pending(&self) -> bool {
        self.editor.is_pending()
    }

    /// The process at the other end.
    pub(super) fn process(&self) -> Option<u32> {
        self.process
    }

    fn prompt(&self) -> String {
        let running = self.context.store.running();
        let name = running.sysname.clone().unwrap_or_else(sys::host_name);
        let on_trial = if *self.context.store.on_trial().borrow() { "(trial)" } else { "" };
        self.editor.prompt(&format!("{name}{on_trial}"))
    }

    async fn run(&mut self, request: &Request) -> anyhow::Result<Outcome> {
        let origin = request.origin.as_ref();
        let say = |error: crate::config::Error| match origin {
            Some(Origin { file, line }) => anyhow!("{}", error.at_line(file, *line)),
            None => anyhow!("{error}"),
        };
        let command = parse_line(self.editor.view(), &request.command, true).map_err(say)?;
        // What configures prints nothing, so that a whole script may be asked for in JSON.
        if request.json && matches!(command, Command::Reset(_)) {
            return Err(anyhow!("this has no JSON form: leave out --json"));
        }
        let done = match command {
            Command::Nothing => Ok(String::new()),
            Command::Configure(_) | Command::SystemView => {
                let remark = self.editor.remark(&command).filter(|_| !request.json);
                self.editor.apply(&command).map_err(say)?;
                Ok(remark.map(|remark| format!("{}\n", Said::info(remark))).unwrap_or_default())
            }
            Command::Quit | Command::Return => return self.go_out(command, request.mode == Mode::Interactive),
            Command::Display(what, filter) => {
                self.lost = self.context.find_loss();
                self.context.display(&self.editor, &what, request.json).await.map(|answer| match &filter {
                    Some(filter) => filter.apply(&answer),
                    None => answer,
                })
            }
            Command::Reset(reset) => self.reset(&reset),
            Command::Candidate(command) => {
                let allow = match command {
                    CandidateCommand::Commit { force: true } | CandidateCommand::AbortTrial { force: true } => {
                        Allow::Any
                    }
                    _ => Allow::Own,
                };
                match self.candidate(command, allow).await {
                    Err(CommitError::NotOwner { by, number, seconds }) if request.mode == Mode::Interactive => {
                        let what =
                            if matches!(command, CandidateCommand::AbortTrial { .. }) { "end" } else { "confirm" };
                        let question =
                            format!("The trial is by {by}, {seconds} s left: {what} it all the same? [y/N]: ");
                        return Ok(self.ask(question, About::Trial(number, command)));
                    }
                    Ok(said) if request.json => as_json(&said),
                    Ok(said) => Ok(in_lines(&said)),
                    Err(error) => Err(anyhow::Error::from(error)),
                }
            }
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
            return Ok(self.ask(QUESTION.to_owned(), About::Leaving(command)));
        }
        self.editor.apply(&command)?;
        let said = if leaves && self.editor.is_pending() {
            "Warning: the candidate has changes that are not committed.\n".to_owned()
        } else {
            String::new()
        };
        Ok(Outcome::Done(said))
    }

    fn ask(&mut self, question: String, about: About) -> Outcome {
        self.asked = Some(Asked { question: question.clone(), about });
        Outcome::Question(question)
    }

    /// The question that is open, unless what it was about is over.
    async fn repeat(&mut self) -> Outcome {
        match &self.asked {
            None => Outcome::Done(String::new()),
            Some(Asked { about: About::Trial(number, _), .. }) if !self.context.store.runs(*number).await => {
                self.asked = None;
                Outcome::Done(TRIAL_IS_OVER.to_owned())
            }
            Some(asked) => Outcome::Question(asked.question.clone()),
        }
    }

    async fn answered(&mut self, asked: Asked, request: &Request) -> anyhow::Result<Outcome> {
        let (number, command) = match asked.about {
            About::Leaving(command) => return self.leave(command, &request.command).await,
            About::Trial(number, command) => (number, command),
        };
        let answer = request.command.trim().to_ascii_lowercase();
        if !self.context.store.runs(number).await {
            // A line that answers nothing is a command by now.
            return match answer.as_str() {
                "y" | "yes" | "n" | "no" | "c" | "cancel" | "" => Ok(Outcome::Done(TRIAL_IS_OVER.to_owned())),
                _ => Box::pin(self.run(request)).await,
            };
        }
        if !matches!(answer.as_str(), "y" | "yes") {
            return Ok(Outcome::Done("Info: the trial goes on.\n".to_owned()));
        }
        match self.candidate(command, Allow::Trial(number)).await {
            Ok(said) => Ok(Outcome::Done(in_lines(&said))),
            Err(error) => Err(anyhow!("Error: {}", sentence(&error.to_string()))),
        }
    }

    /// With the answer to the question.
    async fn leave(&mut self, command: Command, answer: &str) -> anyhow::Result<Outcome> {
        let mut said = String::new();
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => {
                let committed = self.candidate(CandidateCommand::Commit { force: false }, Allow::Own).await;
                let committed = committed.map_err(|error| anyhow!("Error: {}", sentence(&error.to_string())))?;
                said = in_lines(&committed);
            }
            "n" | "no" => self.editor.clear(),
            "c" | "cancel" => return Ok(Outcome::Done(said)),
            _ => {
                return Ok(self.ask(QUESTION.to_owned(), About::Leaving(command)));
            }
        }
        self.editor.apply(&command)?;
        Ok(Outcome::Done(said))
    }

    /// Who is at the other end. The name of the user may have to be asked for, which is done once, where it is needed.
    async fn who(&self) -> Who {
        let (uid, process) = (self.uid, self.process);
        let who = self.who.get_or_init(|| async move {
            let user = match uid {
                Some(uid) => tasks::blocking(move || sys::user_name(uid)).await.ok().flatten(),
                None => None,
            };
            Who { user, uid, process }
        });
        who.await.clone()
    }

    async fn candidate(&mut self, command: CandidateCommand, allow: Allow) -> Result<Vec<Said>, CommitError> {
        let before = self.context.before();
        if matches!(command, CandidateCommand::Commit { .. } | CandidateCommand::CommitTrial(_)) {
            self.context.refuse_unfit(self.editor.candidate())?;
        }
        let who = self.who().await;
        let committed = match command {
            CandidateCommand::Commit { .. } => self.editor.commit(&who, allow).await?,
            CandidateCommand::CommitTrial(time) => self.editor.commit_trial(&who, time).await?,
            CandidateCommand::AbortTrial { .. } => {
                self.editor.abort_trial(&who, allow).await?;
                let mut said = self.consequences(&before).await;
                said.push(Said::info("the trial is over: the configuration before it is in force".to_owned()));
                return Ok(said);
            }
            CandidateCommand::Clear => {
                self.editor.clear();
                return Ok(Vec::new());
            }
        };
        if let Committed::OnTrial(end) = committed {
            let context = self.context.clone();
            tasks::passing("trial", async move {
                if let Some(before) = context.store.end_in_time(end, || context.before()).await {
                    context.log_consequences(&before).await;
                }
            });
        }
        let mut said = self.consequences(&before).await;
        said.extend(match (committed, command) {
            (Committed::Nothing, _) => Some(Said::info("there is nothing to commit".to_owned())),
            (Committed::Trial, _) => Some(Said::info("the trial is confirmed and kept".to_owned())),
            (Committed::TrialAndChanges, _) => {
                Some(Said::info("the trial is confirmed and kept, together with these changes".to_owned()))
            }
            (Committed::OnTrial(_), CandidateCommand::CommitTrial(time)) => Some(Said::info(format!(
                "in force for {} s, unless it is confirmed by `commit` before",
                time.as_secs()
            ))),
            (Committed::OnTrial(_) | Committed::Changes, _) => None,
        });
        Ok(said)
    }

    async fn consequences(&self, before: &Before) -> Vec<Said> {
        let waiting = self.waiting.as_ref();
        let tell = |subjects: usize| {
            let text = format!(
                "Info: this is in force; waiting, for at most {:.1} s, for what becomes of {subjects} of what it has begun.",
                PATIENCE.as_secs_f64()
            );
            // The client may not take what is said.
            let _ = waiting.map(|waiting| waiting.try_send(text));
        };
        self.context.consequences(before, tell).await
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
        let near: Vec<_> = next.near.iter().map(|keyword| format!("`{keyword}`")).collect();
        Ok(Outcome::Done(match (text.is_empty(), near.is_empty()) {
            (false, _) => text,
            (true, false) => format!("  did you mean {}?\n", near.join(" or ")),
            (true, true) => "  nothing comes next here\n".to_owned(),
        }))
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

fn in_lines(said: &[Said]) -> String {
    said.iter().map(|said| format!("{said}\n")).collect()
}
