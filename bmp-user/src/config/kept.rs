//! The configuration file, as something that is replaced whole or not at all.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

/// Why the file was not replaced: it is as it was.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Somebody else has written it since it was read.
    #[error(
        "{} was changed since bmpd read it, and a commit would undo that: have bmpd read it again (`kill -HUP`), or put it back",
        .0.display()
    )]
    Changed(PathBuf),
    /// The system did not let it be written.
    #[error("cannot keep the configuration in {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The configuration file and what is known to be in it.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    /// What it held when it was last read or written; `None` if it could not be read.
    known: Option<Vec<u8>>,
}

impl Kept {
    /// A file that has just been read.
    pub(super) fn new(path: &Path) -> Self {
        let mut kept = Self { path: path.to_owned(), known: None };
        kept.read_again();
        kept
    }

    /// Takes what is in the file now for known.
    pub(super) fn read_again(&mut self) {
        // Of a pipe there is nothing more to be read, and it would be waited for.
        self.known =
            fs::metadata(&self.path).is_ok_and(|found| found.is_file()).then(|| fs::read(&self.path).ok()).flatten();
    }

    /// Replaces the file. What it held before is then in a file beside it, with `.previous` behind the name.
    ///
    /// The file always has its name and is always whole, the old or the new: the new one is written and synced under another name
    /// and renamed.
    pub(super) fn replace(&mut self, text: &str) -> Result<(), KeepError> {
        let failed = |source| KeepError::Io { path: self.path.clone(), source };
        // A symbolic link stays one: what it points to is replaced.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let found = match fs::metadata(&path) {
            Ok(found) if !found.is_file() => return Err(failed(io::Error::other("this is not a regular file"))),
            Ok(_) => Some(fs::read(&path).map_err(failed)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if found.is_some() && found != self.known {
            return Err(KeepError::Changed(self.path.clone()));
        }
        let (new, link) = (beside(&path, ".new"), beside(&path, ".link"));
        let replaced = write_beside(&path, &new, text).and_then(|()| exchange(&path, &new, &link, found.is_some()));
        if let Err(error) = replaced {
            // Whatever of them is still there.
            let _ = fs::remove_file(&new);
            let _ = fs::remove_file(&link);
            return Err(failed(error));
        }
        self.known = Some(text.as_bytes().to_vec());
        Ok(())
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(suffix);
    path.with_file_name(name)
}

/// A file with the text, owner and mode of the one it is to replace, on the disk.
fn write_beside(path: &Path, new: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    let mode = match fs::metadata(path) {
        Ok(old) => {
            // Only root may give a file away; whoever may not keeps it.
            let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
            old.permissions().mode() & 0o7777
        }
        Err(_) => 0o640,
    };
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Gives the old file its second name and the new one the name of the old.
fn exchange(path: &Path, new: &Path, link: &Path, there: bool) -> io::Result<()> {
    let previous = beside(path, ".previous");
    if there {
        match fs::remove_file(link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Not every file system has second names.
        fs::hard_link(path, link).or_else(|_| fs::copy(path, link).map(|_| ()))?;
        fs::rename(link, &previous)?;
    }
    fs::rename(new, path)?;
    let synced = sync_folder(path);
    if synced.is_err() && there {
        // The old one goes back: what is not certain to be kept is not committed.
        fs::hard_link(&previous, link)?;
        fs::rename(link, path)?;
    }
    synced
}

/// Puts the names in the folder on the disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

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
        let mut kept = Kept::new(&link);
        kept.replace("two\n").unwrap();
        kept.replace("three\n").unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "three\n");
        assert_eq!(fs::read_to_string(folder.path().join("real.conf.previous")).unwrap(), "two\n");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o7777, 0o604);
        assert_eq!(names(folder.path()), ["link.conf", "real.conf", "real.conf.previous"]);
    }

    #[test]
    fn what_an_earlier_attempt_left_behind_is_no_hindrance() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        for name in ["f", "f.new", "f.link", "f.previous"] {
            fs::write(folder.path().join(name), "old\n").unwrap();
        }
        Kept::new(&path).replace("new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(names(folder.path()), ["f", "f.previous"]);
    }

    #[test]
    fn a_file_that_is_gone_is_made_again_and_a_changed_one_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut kept = Kept::new(&path);
        kept.replace("one\n").unwrap();
        assert_eq!(names(folder.path()), ["f"]);
        fs::write(&path, "by hand\n").unwrap();
        assert!(matches!(kept.replace("two\n"), Err(KeepError::Changed(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "by hand\n");
        kept.read_again();
        kept.replace("two\n").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("f.previous")).unwrap(), "by hand\n");
    }

    #[test]
    fn what_is_no_file_is_neither_waited_for_nor_replaced() {
        let mut kept = Kept::new(Path::new("/dev/null"));
        assert!(matches!(kept.replace("one\n"), Err(KeepError::Io { .. })));
        assert!(!Path::new("/dev/null.new").exists());
    }
}
