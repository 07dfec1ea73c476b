//! One operator at work over one connection.

use std::{collections::BTreeMap, fs, net::IpAddr, time::Duration};

use anyhow::anyhow;
use tokio::sync::{OnceCell, mpsc};

use super::{
    Baseline, CommandAnswer, ControlContext, OperatorRole, Origin, Remark, Request, RequestMode, Response,
    consequences::FINDING_PATIENCE as PATIENCE,
    display::WriteAnswer,
    help::{Completions, complete, help},
    json::{AnswerSubject, as_json},
};
use crate::{
    config::{
        Allow, CandidateCommand, CandidateEditor, CommandView, CommitError, CommitNote, Committed, LineFilter,
        ParsedCommand, ResetCommand, RollbackTarget, Who, has_secret, sentence,
    },
    escape::Untrusted,
    sys, tasks,
};

/// The question to an operator who leaves with pending changes.
const LEAVING_QUESTION: &str =
    "Warning: the candidate has changes that are not committed. Commit them before leaving? [Y(es)/N(o)/C(ancel)]: ";

/// The reply to a request.
pub(super) enum Reply {
    Whole(Response),
    /// Writes the text, of which the filter keeps lines, into the response.
    Pieces(WriteAnswer, Option<LineFilter>, Response),
}

/// One operator, with a view and a candidate.
#[derive(Debug)]
pub struct Operator {
    context: ControlContext,
    editor: CandidateEditor,
    who: OnceCell<Who>,
    process: Option<u32>,
    uid: Option<u32>,
    role: OperatorRole,
    question: Option<OpenQuestion>,
    /// True after a command of a configuration.
    edited: bool,
    /// The loss that the last `display` found.
    lost: Option<String>,
    /// Takes the notice before an answer that takes a moment.
    notices: Option<mpsc::Sender<String>>,
}

/// A question that the operator has not answered.
#[derive(Debug)]
struct OpenQuestion {
    text: String,
    subject: QuestionSubject,
}

#[derive(Debug)]
enum QuestionSubject {
    /// Commit the pending changes before this command leaves them?
    Leaving(ParsedCommand),
    /// Carry out this command on the trial of another operator?
    Trial { number: u64, command: CandidateCommand },
}

/// The reply to an answer that comes too late.
const TRIAL_IS_OVER: &str = "Info: that trial has ended meanwhile: nothing was done.\n";

impl Operator {
    /// Makes an operator in the user view.
    pub fn new(context: ControlContext) -> Self {
        let editor = CandidateEditor::new(context.store.clone());
        let who = OnceCell::new();
        let role = OperatorRole::Configure;
        Self {
            context,
            editor,
            who,
            process: None,
            uid: None,
            role,
            question: None,
            edited: false,
            lost: None,
            notices: None,
        }
    }

    /// Sets what the operator may do; everything unless this is called.
    #[must_use]
    pub fn with_role(self, role: OperatorRole) -> Self {
        Self { role, ..self }
    }

    /// True if the operator may do more than look.
    pub(super) fn may_configure(&self) -> bool {
        self.role == OperatorRole::Configure
    }

    /// Sets the user and process at the other end of the connection.
    #[must_use]
    pub fn at(self, uid: u32, process: Option<u32>) -> Self {
        Self { uid: Some(uid), process, ..self }
    }

    /// Sets the channel for the notice before an answer that takes a moment.
    #[must_use]
    pub(super) fn with_notices(self, notices: mpsc::Sender<String>) -> Self {
        Self { notices: Some(notices), ..self }
    }

    /// Carries out one request. An answer that may be large is left to be made.
    pub(super) async fn reply(&mut self, request: &Request) -> Reply {
        match self.large(request) {
            Some((make, filter)) => {
                let lost = self.context.find_loss();
                let frame = Response { answer: CommandAnswer::Done(String::new()), lost, ..self.refuse(String::new()) };
                Reply::Pieces(make, filter, frame)
            }
            None => Reply::Whole(self.answer(request).await),
        }
    }

    /// Returns what writes the answer, where the answer may be large.
    fn large(&mut self, request: &Request) -> Option<(WriteAnswer, Option<LineFilter>)> {
        if !matches!(request.mode, RequestMode::Run | RequestMode::Interactive) || self.question.is_some() {
            return None;
        }
        self.editor.follow();
        match self.editor.parse(&request.command) {
            // `run` refuses it.
            Ok(ParsedCommand::Display(_, Some(_))) if request.json => None,
            Ok(ParsedCommand::Display(what, filter)) => Some((self.context.large(&what, request.json)?, filter)),
            _ => None,
        }
    }

    /// Carries out one request.
    pub async fn answer(&mut self, request: &Request) -> Response {
        self.editor.follow();
        let secret = has_secret(self.editor.view(), &request.command);
        let mut hints = BTreeMap::new();
        let done = match request.mode {
            RequestMode::Help => self.help(&request.command),
            RequestMode::Complete => {
                let found = self.complete(&request.command);
                hints = found.hints;
                Ok(CommandAnswer::Words(found.words))
            }
            RequestMode::Repeat => Ok(self.repeat().await),
            RequestMode::Run | RequestMode::Interactive => match self.question.take() {
                Some(question) if request.mode == RequestMode::Interactive => self.resolve(question, request).await,
                _ => self.run(request).await,
            },
        };
        let answer = done.unwrap_or_else(|error| CommandAnswer::Refused(format!("{error:#}")));
        let lost = self.lost.take();
        let edited = std::mem::take(&mut self.edited);
        Response { secret, lost, edited, hints, ..self.respond(answer) }
    }

    /// Returns the response that refuses a request.
    pub fn refuse(&self, why: String) -> Response {
        self.respond(CommandAnswer::Refused(why))
    }

    fn respond(&self, answer: CommandAnswer) -> Response {
        let (prompt, pending, view) = (self.prompt(), self.editor.is_pending(), self.editor.path());
        Response { prompt, pending, view, ..Response::from(answer) }
    }

    /// Returns true if the candidate has changes.
    pub(super) fn is_pending(&self) -> bool {
        self.editor.is_pending()
    }

    /// Returns the process at the other end of the connection.
    pub(super) fn process(&self) -> Option<u32> {
        self.process
    }

    fn prompt(&self) -> String {
        let running = self.context.store.running();
        let name = running.sysname.clone().unwrap_or_else(sys::host_name);
        let on_trial = if *self.context.store.on_trial().borrow() { "(trial)" } else { "" };
        self.editor.prompt(&format!("{name}{on_trial}"))
    }

    async fn run(&mut self, request: &Request) -> anyhow::Result<CommandAnswer> {
        let origin = request.origin.as_ref();
        let say = |error: crate::config::CommandError| match origin {
            Some(Origin { file, line }) => anyhow!("{}", error.at_line(file, *line)),
            None => anyhow!("{error}"),
        };
        let command = self.editor.parse(&request.command).map_err(say)?;
        if !self.may_configure() && !is_looking(&command) {
            return Err(say_plainly(origin, "you may look and not configure: the group `bmpd` may"));
        }
        // Commands that configure print nothing, so a whole script may ask for JSON.
        let is_plain =
            matches!(command, ParsedCommand::Reset(_) | ParsedCommand::ResetBgpPeer(_) | ParsedCommand::Debugging(_));
        if request.json && is_plain {
            return Err(anyhow!("this has no JSON form: leave out --json"));
        }
        if request.json && matches!(command, ParsedCommand::Display(_, Some(_))) {
            return Err(anyhow!("a filter chooses lines of text, and would break JSON: leave out `|` or --json"));
        }
        let done = match command {
            ParsedCommand::Nothing => Ok(String::new()),
            ParsedCommand::Configure(_) | ParsedCommand::SystemView => {
                let remark = self.editor.remark(&command).filter(|_| !request.json);
                self.editor.apply(&command).map_err(say)?;
                self.edited = matches!(command, ParsedCommand::Configure(_));
                Ok(remark.map(|remark| format!("{}\n", Remark::info(remark))).unwrap_or_default())
            }
            ParsedCommand::Quit | ParsedCommand::Return => {
                return self.go_out(command, request.mode == RequestMode::Interactive);
            }
            ParsedCommand::Display(what, filter) => {
                self.lost = self.context.find_loss();
                self.context.display(&self.editor, &what, request.json).await.map(|answer| match &filter {
                    Some(filter) => filter.apply(&answer),
                    None => answer,
                })
            }
            ParsedCommand::Reset(reset) => self.reset(&reset),
            ParsedCommand::ResetBgpPeer(peer) => self.reset_bgp_peer(peer),
            ParsedCommand::Debugging(command) => self.context.debug(&command),
            ParsedCommand::Save => {
                let remarks = [self.saved().await];
                if request.json { as_json(AnswerSubject::Commit, &remarks) } else { Ok(in_lines(&remarks)) }
            }
            ParsedCommand::Candidate(command) => {
                let allow = match command {
                    CandidateCommand::Commit { force: true, .. } | CandidateCommand::AbortTrial { force: true } => {
                        Allow::Any
                    }
                    _ => Allow::Own,
                };
                match self.candidate(&command, allow).await {
                    Err(CommitError::NotOwner { by, number, seconds }) if request.mode == RequestMode::Interactive => {
                        let what =
                            if matches!(command, CandidateCommand::AbortTrial { .. }) { "end" } else { "confirm" };
                        let question =
                            format!("The trial is by {by}, {seconds} s left: {what} it all the same? [y/N]: ");
                        return Ok(self.ask(question, QuestionSubject::Trial { number, command }));
                    }
                    Ok(remarks) if request.json => as_json(AnswerSubject::Commit, &remarks),
                    Ok(remarks) => Ok(in_lines(&remarks)),
                    Err(error) => Err(anyhow::Error::from(error)),
                }
            }
        };
        done.map(CommandAnswer::Done).map_err(|error| say_plainly(origin, &format!("{error:#}")))
    }

    /// Carries out `quit` and `return`. On the way to the user view they leave the candidate
    /// behind.
    fn go_out(&mut self, command: ParsedCommand, ask: bool) -> anyhow::Result<CommandAnswer> {
        if *self.editor.view() == CommandView::User {
            return Ok(if command == ParsedCommand::Quit {
                CommandAnswer::Left(String::new())
            } else {
                CommandAnswer::Done(String::new())
            });
        }
        let leaves = command == ParsedCommand::Return || *self.editor.view() == CommandView::System;
        if leaves && self.editor.is_pending() && ask {
            return Ok(self.ask(LEAVING_QUESTION.to_owned(), QuestionSubject::Leaving(command)));
        }
        self.editor.apply(&command)?;
        let said = if leaves && self.editor.is_pending() {
            "Warning: the candidate has changes that are not committed.\n".to_owned()
        } else {
            String::new()
        };
        Ok(CommandAnswer::Done(said))
    }

    fn help(&self, line: &str) -> anyhow::Result<CommandAnswer> {
        Ok(CommandAnswer::Done(help(&self.editor, &self.context.host.borrow(), line)?))
    }

    fn complete(&self, line: &str) -> Completions {
        complete(&self.editor, &self.context.host.borrow(), line)
    }

    fn ask(&mut self, text: String, subject: QuestionSubject) -> CommandAnswer {
        self.question = Some(OpenQuestion { text: text.clone(), subject });
        CommandAnswer::Question(text)
    }

    /// Repeats the open question, unless its subject is over.
    async fn repeat(&mut self) -> CommandAnswer {
        match &self.question {
            None => CommandAnswer::Done(String::new()),
            Some(OpenQuestion { subject: QuestionSubject::Trial { number, .. }, .. })
                if !self.context.store.runs(*number).await =>
            {
                self.question = None;
                CommandAnswer::Done(TRIAL_IS_OVER.to_owned())
            }
            Some(question) => CommandAnswer::Question(question.text.clone()),
        }
    }

    /// Acts on the answer to a question.
    async fn resolve(&mut self, question: OpenQuestion, request: &Request) -> anyhow::Result<CommandAnswer> {
        let (number, command) = match question.subject {
            QuestionSubject::Leaving(command) => return self.leave(command, &request.command).await,
            QuestionSubject::Trial { number, command } => (number, command),
        };
        let answer = request.command.trim().to_ascii_lowercase();
        if !self.context.store.runs(number).await {
            // The trial is over: a line that is no answer is a command.
            return match answer.as_str() {
                "y" | "yes" | "n" | "no" | "c" | "cancel" | "" => Ok(CommandAnswer::Done(TRIAL_IS_OVER.to_owned())),
                _ => Box::pin(self.run(request)).await,
            };
        }
        if !matches!(answer.as_str(), "y" | "yes") {
            return Ok(CommandAnswer::Done("Info: the trial goes on.\n".to_owned()));
        }
        match self.candidate(&command, Allow::Trial(number)).await {
            Ok(remarks) => Ok(CommandAnswer::Done(in_lines(&remarks))),
            Err(error) => Err(anyhow!("Error: {}", sentence(&error.to_string()))),
        }
    }

    /// Leaves, or does not, as the answer to the question says.
    async fn leave(&mut self, command: ParsedCommand, answer: &str) -> anyhow::Result<CommandAnswer> {
        let mut said = String::new();
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => {
                let commit = CandidateCommand::Commit { force: false, note: CommitNote::default() };
                let committed = self.candidate(&commit, Allow::Own).await;
                let committed = committed.map_err(|error| anyhow!("Error: {}", sentence(&error.to_string())))?;
                said = in_lines(&committed);
            }
            "n" | "no" => self.editor.clear(),
            "c" | "cancel" => return Ok(CommandAnswer::Done(said)),
            _ => {
                return Ok(self.ask(LEAVING_QUESTION.to_owned(), QuestionSubject::Leaving(command)));
            }
        }
        self.editor.apply(&command)?;
        Ok(CommandAnswer::Done(said))
    }

    /// Returns who is at the other end. Looks up the name of the user once, when it is first
    /// needed.
    async fn who(&self) -> Who {
        let (uid, process) = (self.uid, self.process);
        let who = self.who.get_or_init(|| async move {
            let found = tasks::blocking(move || (uid.and_then(sys::user_name), process.and_then(program_of)));
            let (user, program) = found.await.unwrap_or_default();
            Who { user, uid, process, program }
        });
        who.await.clone()
    }

    async fn candidate(&mut self, command: &CandidateCommand, allow: Allow) -> Result<Vec<Remark>, CommitError> {
        let before = self.context.baseline();
        if matches!(command, CandidateCommand::Commit { .. } | CandidateCommand::CommitTrial { .. }) {
            self.context.refuse_unfit(self.editor.candidate())?;
        }
        let who = self.who().await;
        let mut earlier = None;
        let committed = match command {
            CandidateCommand::Commit { note, .. } => self.editor.commit(&who, note, allow).await?,
            CandidateCommand::CommitTrial { time, note } => self.editor.commit_trial(&who, note, *time).await?,
            CandidateCommand::Rollback { target, trial } => {
                let (id, committed) = self.roll_back(&who, target, *trial).await?;
                earlier = Some(id);
                committed
            }
            CandidateCommand::AbortTrial { .. } => {
                self.editor.abort_trial(&who, allow).await?;
                let mut remarks = self.consequences(&before).await;
                remarks.push(Remark::info("the trial is over: the configuration before it is in force".to_owned()));
                return Ok(remarks);
            }
            CandidateCommand::Clear => {
                self.editor.clear();
                return Ok(Vec::new());
            }
        };
        if let Committed::OnTrial(end) = committed {
            let context = self.context.clone();
            tasks::passing("trial", async move {
                if let Some(before) = context.store.end_in_time(end, || context.baseline()).await {
                    context.log_consequences(&before).await;
                }
            });
        }
        let mut remarks = self.consequences(&before).await;
        if let Some(why) = self.context.store.take_unrecorded().await {
            remarks.push(Remark::warning(why));
        }
        remarks.extend(match (committed, command) {
            (Committed::Nothing, CandidateCommand::Rollback { .. }) => {
                Some(Remark::info(format!("the configuration of commit {} is in force already", earlier.unwrap_or(0))))
            }
            (Committed::Nothing, _) => Some(Remark::info("there is nothing to commit".to_owned())),
            (Committed::Trial, _) => Some(Remark::info("the trial is confirmed and kept".to_owned())),
            (Committed::TrialAndChanges, _) => {
                Some(Remark::info("the trial is confirmed and kept, together with these changes".to_owned()))
            }
            (
                Committed::OnTrial(_),
                CandidateCommand::CommitTrial { time, .. } | CandidateCommand::Rollback { trial: Some(time), .. },
            ) => Some(Remark::info(format!(
                "in force for {} s, unless it is confirmed by `commit` before",
                time.as_secs()
            ))),
            (Committed::OnTrial(_) | Committed::Changes, _) => {
                earlier.map(|id| Remark::info(format!("the configuration of commit {id} is in force")))
            }
        });
        Ok(remarks)
    }

    /// Puts the configuration of an earlier commit in force, and returns the number of the commit.
    async fn roll_back(
        &mut self,
        who: &Who,
        target: &RollbackTarget,
        trial: Option<Duration>,
    ) -> Result<(u64, Committed), CommitError> {
        if self.editor.is_pending() {
            return Err(CommitError::Pending);
        }
        let (id, earlier) = self.context.store.earlier(target.clone()).await?;
        if *self.context.store.running() == earlier {
            return Ok((id, Committed::Nothing));
        }
        self.context.refuse_unfit(&earlier)?;
        let note = CommitNote { description: Some(format!("rollback to commit {id}")), label: None };
        Ok((id, self.editor.roll_back(who, &note, &earlier, trial).await?))
    }

    async fn consequences(&self, before: &Baseline) -> Vec<Remark> {
        let notices = self.notices.as_ref();
        let tell = |subjects: usize| {
            let text = format!(
                "Info: this is in force; waiting, for at most {:.1} s, for what becomes of {subjects} of what it has begun.",
                PATIENCE.as_secs_f64()
            );
            // An error means that nobody reads the notice.
            let _ = notices.map(|notices| notices.try_send(text));
        };
        self.context.consequences(before, tell).await
    }

    /// Answers `save`.
    async fn saved(&self) -> Remark {
        let file = self.context.store.file().await;
        let file = file.display();
        if self.editor.is_pending() {
            let what = "the candidate has changes that are not committed, and nothing was saved";
            Remark::warning(format!("{what}: `commit` puts them in force and saves them in {file}"))
        } else if *self.context.store.on_trial().borrow() {
            let what = "the configuration in force is on trial, and nothing was saved";
            Remark::warning(format!("{what}: `commit` keeps it, and saves it in {file}"))
        } else {
            let sealed = if self.may_configure() { self.context.store.seal_file().await } else { Ok(false) };
            match sealed {
                Ok(false) => {
                    Remark::info(format!("the configuration in force is saved already: each commit is, in {file}"))
                }
                Ok(true) => {
                    Remark::info(format!("the configuration in force is saved in {file}, with its secrets sealed"))
                }
                Err(error) => Remark::warning(format!("{file} has secrets as they are: {error}")),
            }
        }
    }

    fn reset(&self, reset: &ResetCommand) -> anyhow::Result<String> {
        let running = self.context.store.running();
        let ids: Vec<_> = running.bmp.sessions.keys().filter(|id| reset.names(id)).cloned().collect();
        if ids.is_empty() {
            return Err(anyhow!("no such bmp-session is configured"));
        }
        if reset.counters {
            self.context.sessions.reset_counters(&ids, &self.context.pins);
        } else {
            self.context.sessions.reset(&ids);
        }
        Ok(String::new())
    }

    /// Closes the session of a BGP peer, or of all, and opens it again.
    fn reset_bgp_peer(&self, peer: Option<IpAddr>) -> anyhow::Result<String> {
        if self.context.bgp_peers.reset(peer) {
            Ok(String::new())
        } else {
            Err(anyhow!("no such BGP peer is configured"))
        }
    }
}

/// Returns the name of the program that a process runs, as the program has set it (proc(5)).
fn program_of(process: u32) -> Option<Untrusted> {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(Untrusted::new(name.trim_end_matches('\n')))
}

/// Returns true for a command that changes nothing.
fn is_looking(command: &ParsedCommand) -> bool {
    match command {
        ParsedCommand::Nothing
        | ParsedCommand::Display(..)
        | ParsedCommand::Save
        | ParsedCommand::SystemView
        | ParsedCommand::Quit
        | ParsedCommand::Return => true,
        ParsedCommand::Configure(_)
        | ParsedCommand::Reset(_)
        | ParsedCommand::ResetBgpPeer(_)
        | ParsedCommand::Debugging(_)
        | ParsedCommand::Candidate(_) => false,
    }
}

/// Returns an error with its place in a script, or as a sentence.
fn say_plainly(origin: Option<&Origin>, error: &str) -> anyhow::Error {
    match origin {
        Some(Origin { file, line }) => anyhow!("{file}:{line}: error: {error}"),
        None => anyhow!("Error: {}", sentence(error)),
    }
}

fn in_lines(remarks: &[Remark]) -> String {
    remarks.iter().map(|remark| format!("{remark}\n")).collect()
}
