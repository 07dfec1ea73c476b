//! The configuration file, which is replaced whole or not at all.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::key_file::KeyError;
use crate::replace::{Replacement, clean_up, name_too, replace_file, sync_folder};

/// Why the file was not replaced. It is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Somebody else has written the file since bmpd read it.
    #[error(
        "{} was changed since bmpd read it, and a commit would undo that: have bmpd read it again (`kill -HUP`), or put it back",
        .0.display()
    )]
    Changed(PathBuf),
    /// The next start could not read it, or would read something else.
    #[error("what would be written to {} could not be read at the next start: {why}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of reading it.
        why: String,
    },
    /// It has a secret, which cannot be sealed.
    #[error("cannot keep the secrets of the configuration: {0}")]
    Seal(#[from] KeyError),
    /// The system refused to write it.
    #[error("cannot keep the configuration in {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

/// What a file is to hold, and what the file beside it.
#[derive(Debug)]
pub(super) struct NewContent {
    pub(super) text: String,
    /// In the place of the content before, if that has what is not to stay on the disk.
    pub(super) previous: Option<String>,
}

/// The configuration file, and its content as bmpd knows it.
#[derive(Debug)]
pub(super) struct KeptFile {
    path: PathBuf,
    /// The content when bmpd last read or wrote the file; `None` if it could not be read.
    known: Option<Vec<u8>>,
}

impl KeptFile {
    /// Takes a file that has just been read. Removes what a killed bmpd has left beside it.
    pub(super) fn new(path: &Path) -> Self {
        let file = real(path);
        clean_up(&file);
        clean_up(&previous(&file));
        let mut kept = Self { path: path.to_owned(), known: None };
        kept.read_again();
        kept
    }

    /// Takes the content of the file for known.
    pub(super) fn read_again(&mut self) {
        // Reading a pipe again would wait for good.
        self.known =
            fs::metadata(&self.path).is_ok_and(|found| found.is_file()).then(|| fs::read(&self.path).ok()).flatten();
    }

    /// Replaces the content with what `new` makes of it. A file beside it, with `.previous` behind
    /// the name, keeps the content before.
    ///
    /// The file always has its name, and is always whole: the old one or the new one.
    pub(super) fn replace(
        &mut self,
        new: impl FnOnce(&[u8]) -> Result<NewContent, KeepError>,
    ) -> Result<(), KeepError> {
        // A symbolic link stays, and its target is replaced.
        let path = real(&self.path);
        let found = self.found(&path)?;
        let new = new(found.as_deref().unwrap_or_default())?;
        exchange(&path, &new, found.as_deref()).map_err(|source| self.failed(source))?;
        self.known = Some(new.text.into_bytes());
        Ok(())
    }

    /// Returns the known content, or nothing if the file is gone.
    pub(super) fn as_known(&self) -> Result<Vec<u8>, KeepError> {
        Ok(self.found(&real(&self.path))?.unwrap_or_default())
    }

    /// Returns the content, if the file is there. Fails if somebody else has written it.
    fn found(&self, path: &Path) -> Result<Option<Vec<u8>>, KeepError> {
        let found = match fs::metadata(path) {
            Ok(found) if !found.is_file() => return Err(self.failed(io::Error::other("this is not a regular file"))),
            Ok(_) => Some(fs::read(path).map_err(|source| self.failed(source))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(self.failed(error)),
        };
        if found.is_some() && found != self.known {
            return Err(KeepError::Changed(self.path.clone()));
        }
        Ok(found)
    }

    fn failed(&self, source: io::Error) -> KeepError {
        KeepError::Io { path: self.path.clone(), source }
    }
}

fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn previous(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".previous");
    path.with_file_name(name)
}

/// Gives the old file its second name, or what may stay of it, and the new file the name of the
/// old.
fn exchange(path: &Path, content: &NewContent, old: Option<&[u8]>) -> io::Result<()> {
    let mut new = Replacement::create(path)?;
    new.copy_owner_and_mode(0o640)?;
    new.write(content.text.as_bytes())?;
    let previous = previous(path);
    match (&content.previous, old) {
        (_, None) => {}
        (None, Some(_)) => name_too(path, &previous)?,
        (Some(text), Some(_)) => {
            let mut before = Replacement::create(&previous)?;
            before.copy_owner_and_mode_of(path, 0o640)?;
            before.write(text.as_bytes())?;
            before.put_in_place()?;
        }
    }
    new.put_in_place()?;
    let synced = sync_folder(path);
    if synced.is_err()
        && let Some(old) = old
    {
        // Put the old file back. A commit must not depend on a file that may be lost.
        match content.previous {
            None => name_too(&previous, path)?,
            Some(_) => replace_file(path, old, 0o640)?,
        }
    }
    synced
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn put(kept: &mut KeptFile, text: &str) -> Result<(), KeepError> {
        kept.replace(|_| Ok(NewContent { text: text.to_owned(), previous: None }))
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_file_before_is_kept_beside_with_its_mode_and_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real.conf"), folder.path().join("link.conf"));
        fs::write(&real, "one\n").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o604)).unwrap();
        symlink(&real, &link).unwrap();
        let mut kept = KeptFile::new(&link);
        put(&mut kept, "two\n").unwrap();
        put(&mut kept, "three\n").unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "three\n");
        assert_eq!(fs::read_to_string(folder.path().join("real.conf.previous")).unwrap(), "two\n");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o7777, 0o604);
        assert_eq!(names(folder.path()), ["link.conf", "real.conf", "real.conf.previous"]);
    }

    #[test]
    fn what_may_not_stay_is_in_no_file_beside_which_has_the_same_mode() {
        let folder = tempfile::tempdir().unwrap();
        let (path, previous) = (folder.path().join("f"), folder.path().join("f.previous"));
        fs::write(&path, "hunter2\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut kept = KeptFile::new(&path);
        kept.replace(|_| Ok(NewContent { text: "new\n".to_owned(), previous: Some("sealed\n".to_owned()) })).unwrap();
        let read = |path| fs::read_to_string(path).unwrap();
        assert_eq!((read(&path), read(&previous)), ("new\n".to_owned(), "sealed\n".to_owned()));
        assert_eq!(fs::metadata(&previous).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(names(folder.path()), ["f", "f.previous"]);
    }

    #[test]
    fn what_an_earlier_attempt_left_behind_is_no_hindrance() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        for name in ["f", "f.new", ".f.unfinished", ".f.previous.unfinished", "f.previous"] {
            fs::write(folder.path().join(name), "old\n").unwrap();
        }
        let mut kept = KeptFile::new(&path);
        // The file of somebody else stays.
        assert_eq!(names(folder.path()), ["f", "f.new", "f.previous"]);
        put(&mut kept, "new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(names(folder.path()), ["f", "f.new", "f.previous"]);
    }

    #[test]
    fn a_file_that_is_gone_is_made_again_and_a_changed_one_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut kept = KeptFile::new(&path);
        put(&mut kept, "one\n").unwrap();
        assert_eq!(names(folder.path()), ["f"]);
        fs::write(&path, "by hand\n").unwrap();
        assert!(matches!(put(&mut kept, "two\n"), Err(KeepError::Changed(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "by hand\n");
        kept.read_again();
        put(&mut kept, "two\n").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("f.previous")).unwrap(), "by hand\n");
    }

    #[test]
    fn what_is_no_file_is_neither_waited_for_nor_replaced() {
        let mut kept = KeptFile::new(Path::new("/dev/null"));
        assert!(matches!(put(&mut kept, "one\n"), Err(KeepError::Io { .. })));
        assert!(!Path::new("/dev/.null.unfinished").exists());
    }
}
