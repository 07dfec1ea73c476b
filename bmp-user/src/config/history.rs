//! The history of commits: who made each, when, what it changed, and the configuration that it put
//! in force.
//!
//! A commit is a file in a folder of bmpd's state, with the number of the commit as its name. Only
//! the user of bmpd can read it. Its secrets are sealed, and a return to it opens them. What is
//! shown of it has none. The number of files and their size are bounded; the oldest go first.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    comments::Comments,
    commit::{COMMITS_KEPT, CommitNote, CommitOrigin, RollbackTarget},
    difference::Difference,
    file::{LoadError, parse_bytes},
    key_file::KeyFile,
    language::secret::{CIPHER, masked},
    model::Config,
    operator::Who,
    print::print_sealed,
    sealing::sealed,
};
use crate::{
    escape::Untrusted,
    replace::{clean_up, replace_file},
    sys,
};

/// The most bytes of all files. The newest commit is kept in any case.
const BYTES_KEPT: u64 = 16 << 20;
/// The largest file that is read: far more than a configuration of the largest size needs.
const LARGEST_FILE: u64 = 8 << 20;
/// The most bytes of a difference that are kept with a commit.
const LONGEST_CHANGES: usize = 64 << 10;

/// A commit, as it is shown. Field names are those of the JSON and of the file, and are stable.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct CommitRecord {
    /// Its number, from 1.
    pub id: u64,
    /// When it came into force, as RFC 3339 writes it, in UTC.
    pub time: String,
    /// How it came into force.
    pub origin: CommitOrigin,
    /// The name of the user.
    pub user: Option<String>,
    /// The number of the user.
    pub uid: Option<u32>,
    /// The process ID of the program.
    pub process: Option<u32>,
    /// The program that was connected.
    pub program: Option<Untrusted>,
    /// The word to name it by.
    pub label: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Lines that it added.
    pub added: u64,
    /// Lines that it took away.
    pub removed: u64,
}

/// The file of a commit.
#[derive(Debug, Serialize, Deserialize)]
struct CommitFile {
    #[serde(flatten)]
    record: CommitRecord,
    /// The difference to the configuration before it, with secrets masked.
    changes: String,
    /// The whole configuration, with sealed secrets.
    configuration: String,
}

impl CommitFile {
    /// Decides whether this is the configuration of the commit, however its secrets were sealed.
    fn holds(&self, config: &Config, keys: &KeyFile) -> bool {
        is_text_of(&self.configuration, config)
            || parse_bytes(Path::new(""), self.configuration.as_bytes(), keys).is_ok_and(|kept| kept == *config)
    }
}

fn is_text_of(text: &str, config: &Config) -> bool {
    in_full(config).is_ok_and(|printed| printed == text)
}

/// Returns the text of a configuration as a commit keeps it.
fn in_full(config: &Config) -> io::Result<String> {
    print_sealed(config, &Comments::default())
        .ok_or_else(|| io::Error::other("the configuration has a secret that cannot be sealed"))
}

/// A change of the configuration in force, to be recorded.
#[derive(Debug)]
pub(super) struct RecordedChange<'a> {
    pub(super) origin: CommitOrigin,
    pub(super) who: &'a Who,
    pub(super) note: &'a CommitNote,
    pub(super) before: &'a Config,
    pub(super) after: &'a Config,
}

/// Why a commit of the history cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// No history is kept.
    #[error(
        "no history of commits is kept: the configuration is not a regular file, and bmpd has no folder for its state (`--state`)"
    )]
    NotKept,
    /// There is no such commit.
    #[error("{0} is not in the history of commits (`display configuration commit list` shows it)")]
    Absent(String),
    /// The system refused something, or a file is damaged.
    #[error("cannot read the history of commits, {}: {source}", .path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// This bmpd does not understand the configuration.
    #[error("commit {id} has a configuration that this bmpd does not take: {source}")]
    Outdated {
        /// The number of the commit.
        id: u64,
        /// The error.
        source: LoadError,
    },
}

/// A thread that reads the history has ended.
impl From<io::Error> for HistoryError {
    fn from(source: io::Error) -> Self {
        Self::Unusable { path: PathBuf::new(), source }
    }
}

/// The commits that are kept. All functions may block.
#[derive(Debug)]
pub struct CommitHistory {
    /// `None` where nothing is kept.
    folder: Option<PathBuf>,
    /// When bmpd read the configuration that it began with.
    began: String,
    /// True once no commit of an earlier bmpd has secrets as they are.
    is_sealed: AtomicBool,
}

impl CommitHistory {
    /// Keeps commits in `commits` in the folder of bmpd's state.
    pub fn in_folder(state: &Path) -> Self {
        Self { folder: Some(state.join("commits")), began: sys::time_in_utc(), is_sealed: AtomicBool::new(false) }
    }

    /// Keeps commits in `FILE.commits` beside the configuration file; nothing for a configuration
    /// that is not a regular file.
    pub fn beside(configuration: &Path) -> Self {
        // Follow a symbolic link, as the configuration itself does.
        let path = fs::canonicalize(configuration).unwrap_or_else(|_| configuration.to_owned());
        let folder = path.is_file().then(|| {
            let mut name = path.into_os_string();
            name.push(".commits");
            name.into()
        });
        Self { folder, began: sys::time_in_utc(), is_sealed: AtomicBool::new(false) }
    }

    /// Keeps nothing.
    pub(super) fn none() -> Self {
        Self { folder: None, began: String::new(), is_sealed: AtomicBool::new(true) }
    }

    /// Records a change. If the configuration before it is not the newest of the history, as after
    /// the first start, it is recorded first: it has come from the file, or by commits that were
    /// not recorded. Does nothing where no history is kept.
    ///
    /// # Errors
    ///
    /// The system refuses to write, or a secret is not sealed. The error names the folder.
    pub(super) fn record(&self, change: &RecordedChange<'_>, has_gap: bool, keys: &KeyFile) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
        make_private(folder).map_err(failed)?;
        if !self.is_sealed.load(Relaxed) {
            seal_earlier(folder, change.after, keys).map_err(failed)?;
            self.is_sealed.store(true, Relaxed);
        }
        // What is damaged or gone cannot be compared. The configuration is recorded once more.
        let newest = ids(folder).map_err(failed)?.last().copied();
        let known = newest.and_then(|id| read(folder, id).ok());
        let mut next = newest.unwrap_or(0) + 1;
        if known.as_ref().is_none_or(|known| !known.holds(change.before, keys)) {
            // Its secrets are compared once opened, or else by their texts.
            let read =
                |known: &CommitFile, keys: &KeyFile| parse_bytes(folder, known.configuration.as_bytes(), keys).ok();
            let earlier = known.and_then(|known| read(&known, keys).or_else(|| read(&known, &KeyFile::unused())));
            let (origin, time) = match has_gap {
                true => (CommitOrigin::Unrecorded, sys::time_in_utc()),
                false => (CommitOrigin::File, self.began.clone()),
            };
            let file = RecordedChange {
                origin,
                who: &Who::default(),
                note: &CommitNote::default(),
                before: earlier.as_ref().unwrap_or(change.before),
                after: change.before,
            };
            write(folder, next, time, &file).map_err(failed)?;
            next += 1;
        }
        write(folder, next, sys::time_in_utc(), change).map_err(failed)?;
        prune(folder).map_err(failed)
    }

    /// Returns the commits, newest first, and why the first unreadable one is not among them.
    ///
    /// # Errors
    ///
    /// Nothing is kept, or the folder cannot be read.
    pub(super) fn records(&self) -> Result<(Vec<CommitRecord>, Option<HistoryError>), HistoryError> {
        let (mut records, mut unreadable) = (Vec::new(), None);
        for file in self.files()? {
            match file {
                Ok(file) => records.push(file.record),
                Err(error) => unreadable = unreadable.or(Some(error)),
            }
        }
        Ok((records, unreadable))
    }

    /// Returns commits with what each changed, newest first: the last `most` of them, or the one
    /// of a number.
    ///
    /// # Errors
    ///
    /// Nothing is kept, a file cannot be read, or there is no such commit.
    pub(super) fn changes(&self, at: Option<u64>, most: usize) -> Result<Vec<(CommitRecord, String)>, HistoryError> {
        let with_changes = |file: CommitFile| (file.record, file.changes);
        match at {
            Some(id) => Ok(vec![with_changes(self.file(id)?)]),
            None => self.files()?.take(most).map(|file| file.map(with_changes)).collect(),
        }
    }

    /// Returns the number and the configuration of an earlier commit. `running` is in force.
    ///
    /// # Errors
    ///
    /// There is no such commit, or its configuration cannot be had.
    pub(super) fn configuration(
        &self,
        target: &RollbackTarget,
        running: &Config,
        keys: &KeyFile,
    ) -> Result<(u64, Config), HistoryError> {
        let files = self.files()?;
        let found = match target {
            RollbackTarget::Commit(id) => Some(self.file(*id)?),
            RollbackTarget::Label(label) => files.flatten().find(|file| file.record.label.as_ref() == Some(label)),
            RollbackTarget::Last(last) => {
                let mut files = files.peekable();
                let is_newest = files.peek().is_some_and(|file| match file {
                    Ok(file) => file.holds(running, keys),
                    Err(_) => false,
                });
                // A configuration in force that was not recorded counts as a commit.
                let last = usize::try_from(*last).unwrap_or(usize::MAX);
                files.nth(last.saturating_sub(usize::from(!is_newest))).transpose()?
            }
        };
        let named = || match target {
            RollbackTarget::Commit(id) => format!("commit {id}"),
            RollbackTarget::Label(label) => format!("a commit with the label {label}"),
            RollbackTarget::Last(last) => format!("the configuration before the last {last} commits"),
        };
        let CommitFile { record: CommitRecord { id, .. }, configuration, .. } =
            found.ok_or_else(|| HistoryError::Absent(named()))?;
        let config = parse_bytes(Path::new("its configuration"), configuration.as_bytes(), keys);
        Ok((id, config.map_err(|source| HistoryError::Outdated { id, source })?))
    }

    /// Reads the file of a commit.
    fn file(&self, id: u64) -> Result<CommitFile, HistoryError> {
        let folder = self.folder.as_deref().ok_or(HistoryError::NotKept)?;
        read(folder, id).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => HistoryError::Absent(format!("commit {id}")),
            _ => HistoryError::Unusable { path: path(folder, id), source },
        })
    }

    /// Reads the files one after another, newest first.
    fn files(&self) -> Result<impl Iterator<Item = Result<CommitFile, HistoryError>> + '_, HistoryError> {
        let folder = self.folder.as_deref().ok_or(HistoryError::NotKept)?;
        let ids = match ids(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            ids => ids.map_err(|source| HistoryError::Unusable { path: folder.to_owned(), source })?,
        };
        Ok(ids.into_iter().rev().map(move |id| self.file(id)))
    }
}

fn path(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("{id}.json"))
}

/// Makes the folder, which only the user of bmpd can enter.
fn make_private(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Returns the numbers of all commits, oldest first.
fn ids(folder: &Path) -> io::Result<Vec<u64>> {
    let number = |name: &str| name.strip_suffix(".json")?.parse::<u64>().ok();
    let mut ids = Vec::new();
    for entry in fs::read_dir(folder)? {
        ids.extend(entry?.file_name().to_str().and_then(number));
    }
    ids.sort_unstable();
    Ok(ids)
}

fn read(folder: &Path, id: u64) -> io::Result<CommitFile> {
    let text = sys::read_regular(&path(folder, id), LARGEST_FILE)?;
    Ok(serde_json::from_str(&text)?)
}

fn write(folder: &Path, id: u64, time: String, change: &RecordedChange<'_>) -> io::Result<()> {
    let RecordedChange { origin, who, note, before, after } = change;
    let changes = Difference::between(before, after).to_string();
    let count = |sign| changes.lines().filter(|line| line.starts_with(sign)).count() as u64;
    let file = CommitFile {
        record: CommitRecord {
            id,
            time,
            origin: *origin,
            user: who.user.clone(),
            uid: who.uid,
            process: who.process,
            program: who.program.clone(),
            label: note.label.clone(),
            description: note.description.clone(),
            added: count('+'),
            removed: count('-'),
        },
        changes: shortened(changes),
        configuration: in_full(after)?,
    };
    replace_file(&path(folder, id), serde_json::to_string_pretty(&file)?.as_bytes(), 0o600)
}

/// Seals the secrets of commits that an earlier bmpd has kept as they are.
fn seal_earlier(folder: &Path, like: &Config, keys: &KeyFile) -> io::Result<()> {
    // Cheap, and the answer for most commits.
    let may_be_clear = |line: &str| {
        let mut words = line.split(' ');
        words.any(|word| word == "password") && !words.any(|word| word == CIPHER)
    };
    for id in ids(folder)? {
        let Ok(mut file) = read(folder, id) else { continue };
        if !file.configuration.lines().any(may_be_clear) {
            continue;
        }
        file.configuration = match parse_bytes(folder, file.configuration.as_bytes(), &KeyFile::unused()) {
            Ok(config) => in_full(&sealed(&config, like, keys).map_err(io::Error::other)?)?,
            // Nobody can return to it.
            Err(_) => file.configuration.lines().map(|line| format!("{}\n", masked(line))).collect(),
        };
        replace_file(&path(folder, id), serde_json::to_string_pretty(&file)?.as_bytes(), 0o600)?;
    }
    Ok(())
}

/// Cuts a long difference at the end of a line.
fn shortened(mut changes: String) -> String {
    if changes.len() > LONGEST_CHANGES {
        let end = changes.bytes().take(LONGEST_CHANGES).rposition(|byte| byte == b'\n').map_or(0, |at| at + 1);
        let more = changes.bytes().skip(end).filter(|byte| *byte == b'\n').count();
        changes.truncate(end);
        changes.push_str(&format!("... and {more} more lines\n"));
    }
    changes
}

/// Removes the oldest commits beyond the limits, and what killed processes have left.
fn prune(folder: &Path) -> io::Result<()> {
    let (mut kept, mut bytes) = (0, 0);
    for id in ids(folder)?.into_iter().rev() {
        let path = path(folder, id);
        bytes += fs::metadata(&path)?.len();
        kept += 1;
        if kept > 1 && (kept > COMMITS_KEPT || bytes > BYTES_KEPT) {
            fs::remove_file(&path)?;
        } else {
            clean_up(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::parse_file;

    fn named(sysname: &str) -> Config {
        Config { sysname: Some(sysname.to_owned()), ..Config::default() }
    }

    /// Returns the key beside the commits, where secrets in them may be sealed with it.
    fn keys(history: &CommitHistory) -> KeyFile {
        KeyFile::of(history.folder.as_deref().and_then(Path::parent), Path::new(""))
    }

    /// Returns a configuration with one secret, sealed as a commit seals it.
    fn with_secret(secret: &str, history: &CommitHistory) -> Config {
        let text = format!("bmp\nbmp-session 10.0.0.1\ntcp connect port 1 password md5 {secret}\n");
        sealed(&parse_file("f", &text).unwrap(), &Config::default(), &keys(history)).unwrap()
    }

    fn commit(history: &CommitHistory, before: &Config, after: &Config, label: Option<&str>) -> io::Result<()> {
        let change = RecordedChange {
            origin: CommitOrigin::Commit,
            who: &Who { user: Some("alice".to_owned()), ..Who::default() },
            note: &CommitNote { label: label.map(str::to_owned), description: None },
            before,
            after,
        };
        history.record(&change, false, &keys(history))
    }

    #[test]
    fn a_commit_is_found_by_number_label_and_distance() {
        let folder = tempfile::tempdir().unwrap();
        let history = CommitHistory::in_folder(folder.path());
        assert!(history.records().unwrap().0.is_empty());
        let [one, two, three] = ["one", "two", "three"].map(named);
        commit(&history, &one, &two, Some("second")).unwrap();
        commit(&history, &two, &three, None).unwrap();
        let (records, _) = history.records().unwrap();
        let shown: Vec<_> =
            records.iter().map(|record| (record.id, record.origin, record.added, record.removed)).collect();
        let (file, by_hand) = (CommitOrigin::File, CommitOrigin::Commit);
        assert_eq!(shown, [(3, by_hand, 1, 1), (2, by_hand, 1, 1), (1, file, 0, 0)]);
        assert_eq!(records.last().unwrap().user, None);
        let goes_to = |target, running: &Config| {
            history.configuration(&target, running, &keys(&history)).map_err(|error| error.to_string())
        };
        assert_eq!(goes_to(RollbackTarget::Commit(1), &three), Ok((1, one.clone())));
        assert_eq!(goes_to(RollbackTarget::Label("second".to_owned()), &three), Ok((2, two.clone())));
        assert_eq!(goes_to(RollbackTarget::Last(1), &three), Ok((2, two.clone())));
        assert_eq!(goes_to(RollbackTarget::Last(2), &three), Ok((1, one)));
        // A configuration that was not recorded is itself a change to go back from.
        assert_eq!(goes_to(RollbackTarget::Last(1), &named("elsewhere")), Ok((3, three.clone())));
        for target in [RollbackTarget::Commit(9), RollbackTarget::Label("x".to_owned()), RollbackTarget::Last(3)] {
            assert!(goes_to(target, &three).unwrap_err().contains("is not in the history"));
        }
        // What came from the file meanwhile has an entry of its own.
        commit(&history, &named("by-hand"), &two, None).unwrap();
        let changes = history.changes(Some(4), usize::MAX).unwrap();
        assert_eq!(
            changes.first().map(|(record, text)| (record.origin, text.as_str())),
            Some((file, "-sysname three\n+sysname by-hand\n"))
        );
    }

    #[test]
    fn the_oldest_commits_go_first_and_numbers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let history = CommitHistory::in_folder(folder.path());
        for number in 0..COMMITS_KEPT + 5 {
            commit(&history, &named(&number.to_string()), &named(&(number + 1).to_string()), None).unwrap();
        }
        let (records, _) = history.records().unwrap();
        assert_eq!(records.len(), COMMITS_KEPT);
        assert_eq!(records.first().map(|record| record.id), Some(COMMITS_KEPT as u64 + 6));
        assert_eq!(fs::read_dir(folder.path().join("commits")).unwrap().count(), COMMITS_KEPT);
    }

    #[test]
    fn secrets_are_sealed_in_a_file_of_the_owner_alone_and_in_no_difference() {
        let folder = tempfile::tempdir().unwrap();
        let history = CommitHistory::in_folder(folder.path());
        let with = |secret: &str| with_secret(secret, &history);
        commit(&history, &with("hunter2"), &with("hunter3"), None).unwrap();
        let changes = history.changes(None, usize::MAX).unwrap();
        assert!(changes.iter().all(|(_, text)| !text.contains("hunter")), "{changes:?}");
        let rollback = || history.configuration(&RollbackTarget::Commit(1), &with("hunter3"), &keys(&history));
        assert_eq!(rollback().unwrap(), (1, with("hunter2")));
        let kept = fs::read_to_string(folder.path().join("commits/1.json")).unwrap();
        assert!(!kept.contains("hunter") && kept.contains("password md5 cipher "), "{kept}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let commits = folder.path().join("commits");
        assert_eq!((mode(&commits), mode(&commits.join("1.json"))), (0o700, 0o600));
        // With another key there is no way back.
        fs::remove_file(folder.path().join("secrets.key")).unwrap();
        let said = rollback().unwrap_err().to_string();
        assert!(said.contains("commit 1 ") && said.contains("sealed with another key"), "{said}");
    }

    #[test]
    fn a_secret_that_is_not_sealed_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let history = CommitHistory::in_folder(folder.path());
        let text = "bmp\nbmp-session 10.0.0.1\ntcp connect port 1 password md5 hunter2\n";
        let error = commit(&history, &named("one"), &parse_file("f", text).unwrap(), None).unwrap_err();
        assert!(error.to_string().contains("cannot be sealed"), "{error}");
    }

    #[test]
    fn the_secrets_of_an_earlier_bmpds_commits_are_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let history = CommitHistory::in_folder(folder.path());
        let before = with_secret("hunter2", &history);
        commit(&history, &before, &named("two"), None).unwrap();
        let first = folder.path().join("commits/1.json");
        let text = || fs::read_to_string(&first).unwrap();
        let mut file = read(&folder.path().join("commits"), 1).unwrap();
        let words = file.configuration.split(' ').find(|word| word.len() > 60).unwrap().trim_end().to_owned();
        file.configuration = file.configuration.replace(&format!("cipher {words}"), "hunter2");
        fs::write(&first, serde_json::to_string(&file).unwrap()).unwrap();
        assert!(text().contains("password md5 hunter2"), "{}", text());
        // As after an update of bmpd.
        let history = CommitHistory::in_folder(folder.path());
        commit(&history, &named("two"), &named("three"), None).unwrap();
        assert!(!text().contains("hunter2") && text().contains("password md5 cipher "), "{}", text());
        let (id, restored) =
            history.configuration(&RollbackTarget::Commit(1), &named("three"), &keys(&history)).unwrap();
        assert_eq!((id, restored), (1, before));
    }

    #[test]
    fn a_damaged_file_is_named_and_does_not_hinder_the_next_commit() {
        let folder = tempfile::tempdir().unwrap();
        let history = CommitHistory::in_folder(folder.path());
        commit(&history, &named("one"), &named("two"), None).unwrap();
        let damaged = folder.path().join("commits/2.json");
        fs::write(&damaged, "{").unwrap();
        let (records, unreadable) = history.records().unwrap();
        let error = unreadable.unwrap().to_string();
        assert!(records.len() == 1 && error.contains("commits/2.json"), "{error}");
        commit(&history, &named("two"), &named("three"), None).unwrap();
        let (id, config) = history.configuration(&RollbackTarget::Commit(3), &named("three"), &keys(&history)).unwrap();
        assert_eq!((id, config), (3, named("two")));
    }

    #[test]
    fn a_long_difference_is_cut_at_the_end_of_a_line() {
        let text = "+0123456789\n".repeat(LONGEST_CHANGES);
        let short = shortened(text);
        assert!(short.len() <= LONGEST_CHANGES + 40 && short.contains("9\n... and "), "{}", short.len());
        assert_eq!(shortened("+a\n".to_owned()), "+a\n");
    }
}
