//! The configuration in force, and the commits that replace it.

use std::{
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
    commit_error::CommitError,
    difference::rebase,
    file::{LARGEST, LoadError, load, parse_bytes},
    kept::{KeepError, KeptFile},
    model::Config,
    operator::{Allow, OperatorId, Who},
    print::print_with,
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
    /// The most sessions that there is room for.
    room: usize,
    operators: AtomicU64,
}

#[derive(Debug)]
struct Keeper {
    path: PathBuf,
    /// Used in blocking calls alone. The lock around this struct admits one at a time.
    file: Arc<StdMutex<KeptFile>>,
    trial: Option<Trial>,
    trials: u64,
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
    /// Begins with the configuration `running`, which was read from the file at `path`. Refuses
    /// configurations with more sessions than `room` (see [`Config::session_count`]).
    pub fn new(path: &Path, running: Config, room: usize) -> Self {
        Self(Arc::new(Shared {
            room,
            running: watch::Sender::new(Arc::new(running)),
            keeper: Mutex::new(Keeper {
                path: path.to_owned(),
                file: Arc::new(StdMutex::new(KeptFile::new(path))),
                trial: None,
                trials: 0,
            }),
            on_trial: watch::Sender::new(false),
            notices: broadcast::Sender::new(NOTICES),
            operators: AtomicU64::new(0),
        }))
    }

    /// Returns the configuration in force.
    pub fn running(&self) -> Arc<Config> {
        Arc::clone(&self.0.running.borrow())
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
        by: &OperatorId,
        who: &Who,
        base: &Config,
        candidate: &Config,
        allow: Allow,
    ) -> Result<Committed, CommitError> {
        let mut keeper = self.0.keeper.lock().await;
        let running = self.running();
        if base == candidate {
            let Some(trial) = &keeper.trial else { return Ok(Committed::Nothing) };
            trial.require(by, allow)?;
            keeper.write(&running).await?;
            self.trial_is_kept(&mut keeper, who);
            return Ok(Committed::Trial);
        }
        if let Some(trial) = &keeper.trial {
            trial.require_own(by)?;
        }
        let new = rebase(base, candidate, &running)?;
        if new == *running && keeper.trial.is_none() {
            return Ok(Committed::Nothing);
        }
        new.check_room(self.0.room)?;
        let new = Arc::new(new);
        keeper.write(&new).await?;
        self.0.running.send_replace(new);
        let was_on_trial = self.trial_is_kept(&mut keeper, who);
        info!("a changed configuration is in force");
        Ok(if was_on_trial { Committed::TrialAndChanges } else { Committed::Changes })
    }

    /// Ends the trial and keeps its configuration. Returns true if there was a trial.
    fn trial_is_kept(&self, keeper: &mut Keeper, who: &Who) -> bool {
        let Some(trial) = keeper.trial.take() else { return false };
        info!("the trial is confirmed");
        self.0.on_trial.send_replace(false);
        self.tell(format!("Info: the trial by {} is confirmed by {who}, and kept.", trial.by), Some(who));
        true
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
        by: &OperatorId,
        who: &Who,
        base: &Config,
        candidate: &Config,
        time: Duration,
    ) -> Result<Committed, CommitError> {
        let mut keeper = self.0.keeper.lock().await;
        if let Some(trial) = &keeper.trial {
            return Err(trial.runs());
        }
        let before = self.running();
        let new = rebase(base, candidate, &before)?;
        if new == *before {
            return Err(CommitError::NothingToTry);
        }
        new.check_room(self.0.room)?;
        let new = Arc::new(new);
        keeper.check(&new).await?;
        keeper.trials += 1;
        let trial = Trial::begin(keeper.trials, by, who.clone(), before, time);
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
    /// The file is wrong, or has more sessions than there is room for. Or a trial is in force.
    pub async fn reload(&self) -> Result<bool, CommitError> {
        let keeper = self.0.keeper.lock().await;
        if let Some(trial) = &keeper.trial {
            return Err(trial.runs());
        }
        let config = load(&keeper.path)?;
        config.check_room(self.0.room)?;
        keeper.file.lock().unwrap_or_else(PoisonError::into_inner).read_again();
        Ok(self.0.running.send_if_modified(|running| {
            let differs = **running != config;
            if differs {
                *running = Arc::new(config);
            }
            differs
        }))
    }
}

impl Keeper {
    /// Writes the file, if the text can be read again.
    async fn write(&self, config: &Arc<Config>) -> Result<(), KeepError> {
        let (path, config) = (self.path.clone(), Arc::clone(config));
        self.with_file(move |file| file.replace(|before| written(&path, before, &config))).await
    }

    /// Checks that [`Self::write`] would succeed: the text can be read again, and nobody else has
    /// changed the file.
    async fn check(&self, config: &Arc<Config>) -> Result<(), KeepError> {
        let (path, config) = (self.path.clone(), Arc::clone(config));
        self.with_file(move |file| written(&path, &file.as_known()?, &config).map(|_| ())).await
    }

    async fn with_file(
        &self,
        act: impl FnOnce(&mut KeptFile) -> Result<(), KeepError> + Send + 'static,
    ) -> Result<(), KeepError> {
        let file = Arc::clone(&self.file);
        // A slow disk must not hold up the tasks that share this thread.
        let done = tasks::blocking(move || act(&mut file.lock().unwrap_or_else(PoisonError::into_inner)));
        done.await.unwrap_or_else(|ended| Err(KeepError::Io { path: self.path.clone(), source: ended }))
    }
}

/// Returns the new text of the file, with its comments, if it reads as the same configuration.
fn written(path: &Path, before: &[u8], config: &Config) -> Result<String, KeepError> {
    let comments = std::str::from_utf8(before).map(|text| Comments::of(text, config)).unwrap_or_default();
    let text = print_with(config, &comments);
    let unreadable = |why: String| KeepError::Unreadable { path: path.to_owned(), why };
    match parse_bytes(path, text.as_bytes()) {
        Ok(read) if read == *config => Ok(text),
        Ok(_) => Err(unreadable("it would be read as another configuration".to_owned())),
        Err(LoadError::TooLarge { .. }) => {
            let (size, limit) = (text.len(), LARGEST);
            Err(unreadable(format!("it has {size} bytes, and a configuration file has at most {limit}")))
        }
        Err(error) => Err(unreadable(error.to_string())),
    }
}
