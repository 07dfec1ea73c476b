//! The configuration in force, and the commits that replace it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex as StdMutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::{Mutex, broadcast, watch};
use tracing::{info, warn};

use crate::tasks;

use super::{
    comments::Comments,
    commit::{CommitNote, CommitOrigin, RollbackTarget},
    commit_error::CommitError,
    difference::rebase,
    file::{LARGEST, LoadError, load, parse_bytes, parse_file},
    history::{CommitHistory, CommitRecord, HistoryError, RecordedChange},
    kept::{KeepError, KeptFile, NewContent},
    key_file::{KeyError, KeyFile},
    language::secret::masked,
    model::Config,
    operator::{Allow, OperatorId, Who},
    print::print_sealed,
    sealing::sealed,
    start_limits::{MOST_SOURCES, StartLimits},
    trial::{Trial, TrialEnd, TrialNotice, TrialReport},
};

/// The most notices that wait for a slow terminal. The oldest are dropped.
const NOTICES: usize = 16;

/// The configuration in force, and its file. Cheap to clone.
///
/// Commits are made one at a time. Each is checked whole, written, and then in force, or has no
/// effect.
#[derive(Clone, Debug)]
pub struct ConfigStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    running: watch::Sender<Arc<Config>>,
    keeper: Mutex<Keeper>,
    /// True while the configuration in force is on trial.
    on_trial: watch::Sender<bool>,
    notices: broadcast::Sender<TrialNotice>,
    /// Used in blocking calls alone. Only the holder of `keeper` writes it.
    history: Arc<CommitHistory>,
    /// What seals the secrets that are kept.
    keys: KeyFile,
    /// What a configuration may ask for.
    limits: StartLimits,
    operators: AtomicU64,
}

#[derive(Debug)]
struct Keeper {
    path: PathBuf,
    /// Used in blocking calls alone. The lock around this struct admits one at a time.
    file: Arc<StdMutex<KeptFile>>,
    /// Why the last commit is not in the history, and whether an operator knows.
    unrecorded: Option<Unrecorded>,
    trial: Option<Trial>,
    trials: u64,
}

/// Why the last commit is not in the history.
#[derive(Debug)]
struct Unrecorded {
    why: String,
    is_known: bool,
}

/// Who commits, and what they say about it.
#[derive(Clone, Copy, Debug)]
pub struct Committer<'a> {
    /// The connection.
    pub operator: &'a OperatorId,
    /// Who is at its other end.
    pub who: &'a Who,
    /// What they say about the commit.
    pub note: &'a CommitNote,
    /// [`CommitOrigin::Commit`], or [`CommitOrigin::Rollback`].
    pub origin: CommitOrigin,
}

/// The commits that are kept.
#[derive(Clone, Debug)]
pub struct CommitList {
    /// The commits, newest first.
    pub records: Vec<CommitRecord>,
    /// Why some are not among them.
    pub fault: Option<String>,
}

/// The result of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The candidate was in force already.
    Nothing,
    /// The candidate is in force, and in the file.
    Changes,
    /// The trial stays in force, and is in the file.
    Trial,
    /// The trial stays in force together with the candidate, and both are in the file.
    TrialAndChanges,
    /// The candidate is in force for a time: see [`ConfigStore::end_in_time`].
    OnTrial(TrialEnd),
}

impl ConfigStore {
    /// Returns how many inputs a configuration may have.
    pub fn most_inputs(&self) -> usize {
        MOST_SOURCES + self.0.limits.sessions
    }

    /// Begins with the configuration `running`, which was read from the file at `path`. Refuses
    /// configurations that exceed `limits`. The key of secrets is beside the file.
    pub fn new(path: &Path, running: Config, limits: StartLimits) -> Self {
        Self(Arc::new(Shared {
            limits,
            history: Arc::new(CommitHistory::none()),
            keys: KeyFile::beside(path),
            running: watch::Sender::new(Arc::new(running)),
            keeper: Mutex::new(Keeper {
                path: path.to_owned(),
                file: Arc::new(StdMutex::new(KeptFile::new(path))),
                unrecorded: None,
                trial: None,
                trials: 0,
            }),
            on_trial: watch::Sender::new(false),
            notices: broadcast::Sender::new(NOTICES),
            operators: AtomicU64::new(0),
        }))
    }

    /// Keeps a history of commits. Call this before the first commit.
    #[must_use]
    pub fn with_history(mut self, history: CommitHistory) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.history = Arc::new(history);
        }
        self
    }

    /// Takes the key of secrets from another place. Call this before the first commit.
    #[must_use]
    pub fn with_keys(mut self, keys: KeyFile) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.keys = keys;
        }
        self
    }

    /// Returns the place of the key of secrets.
    pub(super) fn keys(&self) -> &KeyFile {
        &self.0.keys
    }

    /// Returns the configuration in force.
    pub fn running(&self) -> Arc<Config> {
        Arc::clone(&self.0.running.borrow())
    }

    /// Returns the path of the configuration file.
    pub async fn file(&self) -> PathBuf {
        self.0.keeper.lock().await.path.clone()
    }

    /// Follows the configuration in force.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Config>> {
        self.0.running.subscribe()
    }

    /// Returns the identity of one more operator.
    pub fn operator(&self) -> OperatorId {
        OperatorId::new(self.0.operators.fetch_add(1, Relaxed))
    }

    /// Decides whether the trial of this number runs.
    pub async fn runs(&self, number: u64) -> bool {
        self.0.keeper.lock().await.trial.as_ref().is_some_and(|trial| trial.number == number)
    }

    /// Follows whether the configuration in force is on trial: not in the file, and replaced unless
    /// confirmed.
    pub fn on_trial(&self) -> watch::Receiver<bool> {
        self.0.on_trial.subscribe()
    }

    /// Returns the trial that runs.
    pub async fn trial(&self) -> Option<TrialReport> {
        self.0.keeper.lock().await.trial.as_ref().map(Trial::report)
    }

    /// Returns the notices of trials from now on.
    pub fn notices(&self) -> broadcast::Receiver<TrialNotice> {
        self.0.notices.subscribe()
    }

    fn tell(&self, text: String, by: Option<&Who>) {
        // There may be no receiver.
        let _ = self.0.notices.send(TrialNotice { text, by: by.and_then(|who| who.process) });
    }

    /// Puts the changes that made `candidate` of `base` in force and in the file. Confirms a trial
    /// that is in force, if the operator owns it. Another operator confirms it with `allow`, and
    /// only without own changes.
    ///
    /// # Errors
    ///
    /// See [`CommitError`].
    pub async fn commit(
        &self,
        by: Committer<'_>,
        base: &Config,
        candidate: &Config,
        allow: Allow,
    ) -> Result<Committed, CommitError> {
        let mut keeper = self.0.keeper.lock().await;
        let running = self.running_sealed().await;
        if base == candidate {
            let Some(trial) = &keeper.trial else { return Ok(Committed::Nothing) };
            trial.require(by.operator, allow)?;
            keeper.write(&running, &self.0.keys).await?;
            if let Some(trial) = self.trial_is_kept(&mut keeper, by.who) {
                let by = Committer { note: &by.note.or(&trial.note), origin: trial.origin, ..by };
                self.record(&mut keeper, by, trial.before, running).await;
            }
            return Ok(Committed::Trial);
        }
        if let Some(trial) = &keeper.trial {
            trial.require_own(by.operator)?;
        }
        let new = rebase(base, candidate, &running)?;
        if new == *running && keeper.trial.is_none() {
            return Ok(Committed::Nothing);
        }
        new.check_limits(&self.0.limits)?;
        let new = Arc::new(self.sealed(new, &running).await?);
        keeper.write(&new, &self.0.keys).await?;
        self.0.running.send_replace(Arc::clone(&new));
        let trial = self.trial_is_kept(&mut keeper, by.who);
        info!("a changed configuration is in force");
        let (before, note) = match &trial {
            Some(trial) => (Arc::clone(&trial.before), by.note.or(&trial.note)),
            None => (running, by.note.clone()),
        };
        self.record(&mut keeper, Committer { note: &note, ..by }, before, new).await;
        Ok(if trial.is_some() { Committed::TrialAndChanges } else { Committed::Changes })
    }

    /// Returns why the last commit is not in the history, the first time after one that is.
    pub async fn take_unrecorded(&self) -> Option<String> {
        let mut keeper = self.0.keeper.lock().await;
        let unrecorded = keeper.unrecorded.as_mut().filter(|unrecorded| !unrecorded.is_known)?;
        unrecorded.is_known = true;
        Some(unrecorded.why.clone())
    }

    /// Returns the commits that are kept.
    ///
    /// # Errors
    ///
    /// Nothing is kept, or the folder cannot be read.
    pub async fn commits(&self) -> Result<CommitList, HistoryError> {
        // A disk that hangs must not hold up commits.
        let (records, unreadable) = self.ask_history(|history| history.records()).await?;
        let keeper = self.0.keeper.lock().await;
        let unrecorded = keeper.unrecorded.as_ref().map(|unrecorded| unrecorded.why.clone());
        Ok(CommitList { records, fault: unrecorded.or(unreadable.map(|error| error.to_string())) })
    }

    /// Returns commits with what each changed, newest first: the last `most` of them, or the one of
    /// a number.
    ///
    /// # Errors
    ///
    /// Nothing is kept, a file cannot be read, or there is no such commit.
    pub async fn commit_changes(
        &self,
        at: Option<u64>,
        most: usize,
    ) -> Result<Vec<(CommitRecord, String)>, HistoryError> {
        self.ask_history(move |history| history.changes(at, most)).await
    }

    /// Returns the number and the configuration of an earlier commit.
    ///
    /// # Errors
    ///
    /// There is no such commit, or its configuration cannot be had.
    pub async fn earlier(&self, target: RollbackTarget) -> Result<(u64, Config), HistoryError> {
        let running = self.running();
        let keys = self.0.keys.clone();
        self.ask_history(move |history| history.configuration(&target, &running, &keys)).await
    }

    /// Ends the trial and keeps its configuration. Returns the trial, if there was one.
    fn trial_is_kept(&self, keeper: &mut Keeper, who: &Who) -> Option<Trial> {
        let trial = keeper.trial.take()?;
        info!("the trial is confirmed");
        self.0.on_trial.send_replace(false);
        self.tell(format!("Info: the trial by {} is confirmed by {who}, and kept.", trial.by), Some(who));
        Some(trial)
    }

    /// Puts the changes that made `candidate` of `base` in force, but not in the file. Unless
    /// [`Self::commit`] confirms them within `time`, [`Self::end_in_time`] puts the configuration
    /// before them in force. It also returns if bmpd ends meanwhile.
    ///
    /// # Errors
    ///
    /// See [`CommitError`].
    pub async fn commit_trial(
        &self,
        by: Committer<'_>,
        base: &Config,
        candidate: &Config,
        time: Duration,
    ) -> Result<Committed, CommitError> {
        let who = by.who;
        let mut keeper = self.0.keeper.lock().await;
        if let Some(trial) = &keeper.trial {
            return Err(trial.runs());
        }
        let before = self.running_sealed().await;
        let new = rebase(base, candidate, &before)?;
        if new == *before {
            return Err(CommitError::NothingToTry);
        }
        new.check_limits(&self.0.limits)?;
        let new = Arc::new(self.sealed(new, &before).await?);
        keeper.check(&new, &self.0.keys).await?;
        keeper.trials += 1;
        let trial = Trial::begin(keeper.trials, by.operator, who.clone(), before, by.note.clone(), by.origin, time);
        let end = trial.end();
        keeper.trial = Some(trial);
        // Tell this before the configuration, of which nothing may be kept.
        self.0.on_trial.send_replace(true);
        self.0.running.send_replace(new);
        info!("a changed configuration is in force for {} s on trial", time.as_secs());
        self.tell(format!("Info: a trial by {who} is in force for {} s.", time.as_secs()), Some(who));
        Ok(Committed::OnTrial(end))
    }

    /// Waits until a trial's time is over. Unless it has ended before, calls `first`, puts the
    /// configuration before it in force, and returns the result of `first`.
    pub async fn end_in_time<T>(&self, end: TrialEnd, first: impl FnOnce() -> T) -> Option<T> {
        tokio::time::sleep_until(end.at).await;
        let mut keeper = self.0.keeper.lock().await;
        let trial = keeper.trial.take_if(|trial| trial.number == end.number)?;
        let before = first();
        warn!("the trial is over and was not confirmed: the configuration before it is in force");
        self.put_back(&trial);
        let by = &trial.by;
        let what = "is over and was not confirmed: the configuration before it is in force";
        self.tell(format!("Warning: the trial by {by} {what}."), None);
        Some(before)
    }

    /// Ends the trial, and puts the configuration before it in force.
    ///
    /// # Errors
    ///
    /// [`CommitError::NoTrial`], [`CommitError::NotOwner`].
    pub async fn abort_trial(&self, by: &OperatorId, who: &Who, allow: Allow) -> Result<(), CommitError> {
        let mut keeper = self.0.keeper.lock().await;
        keeper.trial.as_ref().ok_or(CommitError::NoTrial)?.require(by, allow)?;
        if let Some(trial) = keeper.trial.take() {
            info!("the trial is aborted: the configuration before it is in force");
            self.put_back(&trial);
            let text = format!(
                "Info: the trial by {} is aborted by {who}: the configuration before it is in force.",
                trial.by
            );
            self.tell(text, Some(who));
        }
        Ok(())
    }

    fn put_back(&self, trial: &Trial) {
        self.0.running.send_replace(Arc::clone(&trial.before));
        self.0.on_trial.send_replace(false);
    }

    /// Reads the file again and puts its configuration in force. Returns false if it was in force
    /// already.
    ///
    /// # Errors
    ///
    /// The file is wrong, or exceeds a limit. Or a trial is in force.
    pub async fn reload(&self) -> Result<bool, CommitError> {
        let mut keeper = self.0.keeper.lock().await;
        if let Some(trial) = &keeper.trial {
            return Err(trial.runs());
        }
        let config = load(&keeper.path, &self.0.keys)?;
        config.check_limits(&self.0.limits)?;
        keeper.file.lock().unwrap_or_else(PoisonError::into_inner).read_again();
        let before = self.running_sealed().await;
        if *before == config {
            return Ok(false);
        }
        // What cannot be sealed is in force all the same. It is not recorded, and the log says why.
        let new = Arc::new(self.sealed(config.clone(), &before).await.unwrap_or(config));
        self.0.running.send_replace(Arc::clone(&new));
        self.record_change(&mut keeper, CommitOrigin::File, Who::default(), CommitNote::default(), before, new).await;
        Ok(true)
    }

    /// Writes the file once more if it has secrets as they are. Returns whether it had.
    ///
    /// # Errors
    ///
    /// The secrets cannot be sealed, or the file cannot be written.
    pub async fn seal_file(&self) -> Result<bool, CommitError> {
        let keeper = self.0.keeper.lock().await;
        // A file that somebody else has changed is for the next commit or reload to refuse.
        if keeper.trial.is_some() || !keeper.has_clear_secrets().await.unwrap_or(false) {
            return Ok(false);
        }
        let running = self.running();
        let sealed = Arc::new(self.sealed(Config::clone(&running), &running).await?);
        keeper.write(&sealed, &self.0.keys).await?;
        self.0.running.send_replace(sealed);
        info!("the secrets of the configuration file are sealed");
        Ok(true)
    }

    /// Returns the configuration with its secrets sealed, as they are in `like` where they are the
    /// same.
    async fn sealed(&self, config: Config, like: &Arc<Config>) -> Result<Config, KeepError> {
        if !config.has_secrets() {
            return Ok(config);
        }
        let (like, keys) = (Arc::clone(like), self.0.keys.clone());
        let done = tasks::blocking(move || sealed(&config, &like, &keys));
        Ok(done.await.unwrap_or_else(|ended| Err(KeyError::NotSealed(ended)))?)
    }

    /// Returns the configuration in force, with its secrets sealed if they can be. It stays the
    /// same configuration.
    async fn running_sealed(&self) -> Arc<Config> {
        let running = self.running();
        if !running.has_clear_secrets() {
            return running;
        }
        match self.sealed(Config::clone(&running), &running).await {
            Ok(sealed) => {
                let sealed = Arc::new(sealed);
                self.0.running.send_replace(Arc::clone(&sealed));
                sealed
            }
            // Whoever would write it finds the same error.
            Err(_) => running,
        }
    }

    /// Records a commit.
    async fn record(&self, keeper: &mut Keeper, by: Committer<'_>, before: Arc<Config>, after: Arc<Config>) {
        self.record_change(keeper, by.origin, by.who.clone(), by.note.clone(), before, after).await;
    }

    /// Records a change of the configuration in force. The change holds whether this succeeds or
    /// not.
    async fn record_change(
        &self,
        keeper: &mut Keeper,
        origin: CommitOrigin,
        who: Who,
        note: CommitNote,
        before: Arc<Config>,
        after: Arc<Config>,
    ) {
        let has_gap = keeper.unrecorded.is_some();
        let keys = self.0.keys.clone();
        let recorded = self.ask_history(move |history| {
            let change = RecordedChange { origin, who: &who, note: &note, before: &before, after: &after };
            history.record(&change, has_gap, &keys)
        });
        match recorded.await {
            Ok(()) => keeper.unrecorded = None,
            Err(why) => {
                let why = format!("commits are not in the history until it can be written: {why}");
                if keeper.unrecorded.is_none() {
                    warn!("{why}");
                }
                let is_known = keeper.unrecorded.as_ref().is_some_and(|unrecorded| unrecorded.is_known);
                keeper.unrecorded = Some(Unrecorded { why, is_known });
            }
        }
    }

    /// Uses the history on a thread that may block.
    async fn ask_history<T: Send + 'static, E: From<io::Error> + Send + 'static>(
        &self,
        act: impl FnOnce(&CommitHistory) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let history = Arc::clone(&self.0.history);
        let done = tasks::blocking(move || act(&history));
        done.await.unwrap_or_else(|ended| Err(ended.into()))
    }
}

impl Keeper {
    /// Writes the file, if the text can be read again.
    async fn write(&self, config: &Arc<Config>, keys: &KeyFile) -> Result<(), KeepError> {
        let (path, config, keys) = (self.path.clone(), Arc::clone(config), keys.clone());
        self.with_file(move |file| file.replace(|before| written(&path, before, &config, &keys))).await
    }

    /// Checks that [`Self::write`] would succeed: the text can be read again, and nobody else has
    /// changed the file.
    async fn check(&self, config: &Arc<Config>, keys: &KeyFile) -> Result<(), KeepError> {
        let (path, config, keys) = (self.path.clone(), Arc::clone(config), keys.clone());
        self.with_file(move |file| written(&path, &file.as_known()?, &config, &keys).map(|_| ())).await
    }

    /// Decides whether the file has secrets as they are.
    async fn has_clear_secrets(&self) -> Result<bool, KeepError> {
        let path = self.path.clone();
        self.with_file(move |file| {
            let config = parse_bytes(&path, &file.as_known()?, &KeyFile::unused());
            Ok(config.is_ok_and(|config| config.has_clear_secrets()))
        })
        .await
    }

    async fn with_file<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut KeptFile) -> Result<T, KeepError> + Send + 'static,
    ) -> Result<T, KeepError> {
        let file = Arc::clone(&self.file);
        // A slow disk must not hold up the tasks that share this thread.
        let done = tasks::blocking(move || act(&mut file.lock().unwrap_or_else(PoisonError::into_inner)));
        done.await.unwrap_or_else(|ended| Err(KeepError::Io { path: self.path.clone(), source: ended }))
    }
}

/// Returns the new content of the file, with its comments, if it reads as the same configuration.
fn written(path: &Path, before: &[u8], config: &Config, keys: &KeyFile) -> Result<NewContent, KeepError> {
    let before = std::str::from_utf8(before).unwrap_or_default();
    let unreadable = |why: String| KeepError::Unreadable { path: path.to_owned(), why };
    let text = print_sealed(config, &Comments::of(before, config));
    let text = text.ok_or_else(|| unreadable("a secret in it is not sealed".to_owned()))?;
    match parse_bytes(path, text.as_bytes(), keys) {
        Ok(read) if read == *config => Ok(NewContent { previous: without_clear_secrets(before, config, keys)?, text }),
        Ok(_) => Err(unreadable("it would be read as another configuration".to_owned())),
        Err(LoadError::TooLarge { .. }) => {
            let (size, limit) = (text.len(), LARGEST);
            Err(unreadable(format!("it has {size} bytes, and a configuration file has at most {limit}")))
        }
        Err(error) => Err(unreadable(error.to_string())),
    }
}

/// Returns what may be kept of a text that has secrets as they are: the same configuration, with
/// its secrets sealed as in `like` where they are the same. `None` if the text has none.
fn without_clear_secrets(text: &str, like: &Config, keys: &KeyFile) -> Result<Option<String>, KeepError> {
    match parse_file("", text) {
        Ok(old) if old.has_clear_secrets() => {
            let old = sealed(&old, like, keys)?;
            Ok(print_sealed(&old, &Comments::of(text, &old)))
        }
        Ok(_) => Ok(None),
        // An earlier bmpd understood it.
        Err(_) => {
            let hidden: String = text.lines().map(|line| format!("{}\n", masked(line))).collect();
            Ok((hidden != text).then_some(hidden))
        }
    }
}
