//! The configuration in force: who may put another in its place, and how.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex as StdMutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};
use tracing::{info, warn};

use super::{Config, Conflict, KeepError, LoadError, difference::rebase, file::load, kept::Kept, print::print};

/// The configuration in force, and the file that it is kept in. Cheap to clone.
///
/// All changes go through here, one at a time: each is checked whole, written, and then in force, or nothing of it is.
#[derive(Clone, Debug)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    running: watch::Sender<Arc<Config>>,
    keeper: Mutex<Keeper>,
    operators: AtomicU64,
}

#[derive(Debug)]
struct Keeper {
    path: PathBuf,
    /// Used with blocking calls alone; that one at a time does is seen to by the lock of the keeper.
    file: Arc<StdMutex<Kept>>,
    trial: Option<Trial>,
    trials: u64,
}

/// A configuration that is in force for a time, and not in the file.
#[derive(Debug)]
struct Trial {
    number: u64,
    by: OperatorId,
    before: Arc<Config>,
    until: Instant,
}

/// Who commits: told apart because a trial is its operator's to build on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatorId(u64);

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The candidate was what is in force already.
    Nothing,
    /// The candidate is in force, and in the file.
    Changes,
    /// The trial stays in force, and is in the file.
    Trial,
    /// The candidate is in force for a time.
    OnTrial,
}

/// Why a commit was refused: nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else has changed the same.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The file could not be written.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// A trial is in force.
    #[error(
        "a trial is in force for another {seconds} s: confirm it with `commit` where nothing is pending, or end it with `abort trial`"
    )]
    TrialRuns {
        /// How long it has, in seconds.
        seconds: u64,
    },
    /// There is nothing to try.
    #[error("nothing is pending, so there is nothing to try")]
    NothingToTry,
    /// No trial is in force.
    #[error("no trial is in force")]
    NoTrial,
    /// The file cannot be read again.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Store {
    /// The configuration `running` was read from the file at `path`.
    pub fn new(path: &Path, running: Config) -> Self {
        Self(Arc::new(Shared {
            running: watch::Sender::new(Arc::new(running)),
            keeper: Mutex::new(Keeper {
                path: path.to_owned(),
                file: Arc::new(StdMutex::new(Kept::new(path))),
                trial: None,
                trials: 0,
            }),
            operators: AtomicU64::new(0),
        }))
    }

    /// The configuration in force.
    pub fn running(&self) -> Arc<Config> {
        Arc::clone(&self.0.running.borrow())
    }

    /// Follows the configuration in force.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Config>> {
        self.0.running.subscribe()
    }

    /// One more operator.
    pub fn operator(&self) -> OperatorId {
        OperatorId(self.0.operators.fetch_add(1, Relaxed))
    }

    /// Puts what was done to `base` to make it `candidate` in force, and in the file. A trial that is in force is confirmed: by
    /// anybody who has nothing else to commit, and by its own operator.
    ///
    /// # Errors
    ///
    /// See [`CommitError`].
    pub async fn commit(&self, by: OperatorId, base: &Config, candidate: &Config) -> Result<Committed, CommitError> {
        let mut keeper = self.0.keeper.lock().await;
        let running = self.running();
        if base == candidate {
            if keeper.trial.is_none() {
                return Ok(Committed::Nothing);
            }
            keeper.write(&running).await?;
            keeper.trial = None;
            info!("the trial is confirmed");
            return Ok(Committed::Trial);
        }
        keeper.trial_of_another(by)?;
        let new = rebase(base, candidate, &running)?;
        if new == *running && keeper.trial.is_none() {
            return Ok(Committed::Nothing);
        }
        keeper.write(&new).await?;
        keeper.trial = None;
        self.0.running.send_replace(Arc::new(new));
        info!("a changed configuration is in force");
        Ok(Committed::Changes)
    }

    /// Puts what was done to `base` to make it `candidate` in force, but not in the file: unless it is confirmed by
    /// [`Self::commit`] within `time`, the configuration before it returns. So it does if bmpd itself ends meanwhile.
    ///
    /// # Errors
    ///
    /// See [`CommitError`].
    pub async fn commit_trial(
        &self,
        by: OperatorId,
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
        keeper.trials += 1;
        let (number, until) = (keeper.trials, Instant::now() + time);
        keeper.trial = Some(Trial { number, by, before, until });
        self.0.running.send_replace(Arc::new(new));
        info!("a changed configuration is in force for {} s on trial", time.as_secs());
        let store = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            let mut keeper = store.0.keeper.lock().await;
            if let Some(trial) = keeper.trial.take_if(|trial| trial.number == number) {
                warn!("the trial is over and was not confirmed: the configuration before it is in force");
                store.0.running.send_replace(trial.before);
            }
        });
        Ok(Committed::OnTrial)
    }

    /// Ends the trial: the configuration before it is in force.
    ///
    /// # Errors
    ///
    /// [`CommitError::NoTrial`].
    pub async fn abort_trial(&self) -> Result<(), CommitError> {
        let mut keeper = self.0.keeper.lock().await;
        let trial = keeper.trial.take().ok_or(CommitError::NoTrial)?;
        info!("the trial is aborted: the configuration before it is in force");
        self.0.running.send_replace(trial.before);
        Ok(())
    }

    /// Reads the file again and puts what it holds in force. False if it was in force already.
    ///
    /// # Errors
    ///
    /// The file is wrong, or a trial is in force.
    pub async fn reload(&self) -> Result<bool, CommitError> {
        let keeper = self.0.keeper.lock().await;
        if let Some(trial) = &keeper.trial {
            return Err(trial.runs());
        }
        let config = load(&keeper.path)?;
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
    async fn write(&self, config: &Config) -> Result<(), KeepError> {
        let text = print(config);
        let file = Arc::clone(&self.file);
        let write = move || file.lock().unwrap_or_else(PoisonError::into_inner).replace(&text);
        // A disk may take its time, which the tasks that share this thread have not.
        let written = tokio::task::spawn_blocking(write).await;
        written.unwrap_or_else(|ended| Err(KeepError::Io { path: self.path.clone(), source: io::Error::other(ended) }))
    }

    fn trial_of_another(&self, by: OperatorId) -> Result<(), CommitError> {
        match &self.trial {
            Some(trial) if trial.by != by => Err(trial.runs()),
            _ => Ok(()),
        }
    }
}

impl Trial {
    fn runs(&self) -> CommitError {
        let left = self.until.saturating_duration_since(Instant::now());
        CommitError::TrialRuns { seconds: left.as_secs() + u64::from(left.subsec_nanos() > 0) }
    }
}
