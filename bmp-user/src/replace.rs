//! Files that are replaced whole or not at all.
//!
//! The new file has no name until all of it is on the disk (`O_TMPFILE` in open(2)), so that whoever is killed meanwhile leaves nothing behind. Only
//! in the moment before it takes the name of the old one it has a name of its own, [`temporary`], which [`clean_up`] takes away.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

/// A file that is to take the place of another one.
#[derive(Debug)]
pub(crate) struct Replacement {
    file: File,
    path: PathBuf,
    /// It has the name [`temporary`] already: its file system has no files without one.
    named: bool,
}

impl Replacement {
    /// An empty file, on the file system of `path`. Others may not read it until its mode is set.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        clean_up(path);
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let (file, named) = match open(folder(path), flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => (File::from(file), false),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
                // Not through a link that somebody has put there meanwhile.
                let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary(path))?;
                (new, true)
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { file, path: path.to_owned(), named })
    }

    /// Gives it owner and mode of the file that it is to replace, or this mode where there is none.
    pub(crate) fn as_before(&self, mode: u32) -> io::Result<()> {
        let mode = match fs::metadata(&self.path) {
            Ok(old) => {
                // Only root may give a file away; whoever may not keeps it.
                let _ = fchown(&self.file, Some(old.uid()), Some(old.gid()));
                old.permissions().mode() & 0o7777
            }
            Err(_) => mode,
        };
        self.file.set_permissions(Permissions::from_mode(mode))
    }

    /// Writes all of it, and has it on the disk.
    pub(crate) fn write(&mut self, contents: &[u8]) -> io::Result<()> {
        self.file.write_all(contents)?;
        self.file.sync_all()
    }

    /// Gives it the name of the file that it replaces.
    pub(crate) fn put_in_place(mut self) -> io::Result<()> {
        let temporary = temporary(&self.path);
        if !self.named {
            let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            linkat(CWD, own.as_str(), CWD, &temporary, AtFlags::SYMLINK_FOLLOW)?;
            self.named = true;
        }
        fs::rename(&temporary, &self.path)?;
        self.named = false;
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if self.named {
            clean_up(&self.path);
        }
    }
}

/// Replaces the file at `path` with these contents. A new one has this mode, another one's stays.
///
/// # Errors
///
/// The system does not let it be written: the file is as it was then.
pub fn replace_file(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut new = Replacement::of(path)?;
    new.as_before(mode)?;
    new.write(contents)?;
    new.put_in_place()
}

/// Gives the file at `path` the name `other` too, in the place of whatever has it.
pub(crate) fn name_too(path: &Path, other: &Path) -> io::Result<()> {
    clean_up(other);
    let temporary = temporary(other);
    // Not every file system has second names.
    fs::hard_link(path, &temporary).or_else(|_| fs::copy(path, &temporary).map(|_| ()))?;
    let renamed = fs::rename(&temporary, other);
    // Two names of one file both stay when one is renamed to the other.
    clean_up(other);
    renamed
}

/// Takes away what was left by somebody who was killed while `path` was being replaced.
pub(crate) fn clean_up(path: &Path) {
    let temporary = temporary(path);
    // Whatever it is: nobody else has a use for the name.
    if fs::symlink_metadata(&temporary).is_ok_and(|found| !found.is_dir()) {
        // What cannot be removed is told where the name is needed.
        let _ = fs::remove_file(temporary);
    }
}

/// Puts the names in the folder of `path` on the disk.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name that the file has until it replaces the one at `path`.
fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".unfinished");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_is_being_written_has_no_name_until_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "old").unwrap();
        fs::write(folder.path().join(".f.unfinished"), "of somebody who was killed").unwrap();
        let mut new = Replacement::of(&path).unwrap();
        new.write(b"new").unwrap();
        assert_eq!(names(folder.path()), ["f"]);
        drop(new);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        replace_file(&path, b"new", 0o600).unwrap();
        assert_eq!(names(folder.path()), ["f"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn a_second_name_takes_the_place_of_another_file_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("f"), folder.path().join("f.previous"));
        fs::write(&path, "one").unwrap();
        fs::write(&other, "two").unwrap();
        // The second time both are one file already.
        for _ in 0..2 {
            name_too(&path, &other).unwrap();
            assert_eq!(fs::read_to_string(&other).unwrap(), "one");
            assert_eq!(names(folder.path()), ["f", "f.previous"]);
        }
    }

    #[test]
    fn what_cannot_be_replaced_stays_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::create_dir_all(path.join("taken")).unwrap();
        assert!(replace_file(&path, b"new", 0o600).is_err());
        assert_eq!(names(folder.path()), ["f"]);
        assert!(replace_file(&folder.path().join("nowhere").join("f"), b"new", 0o600).is_err());
    }
}
