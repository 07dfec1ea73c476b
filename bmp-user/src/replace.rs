//! Files that are replaced whole or not at all.
//!
//! The new file has no name until the disk holds all of it (`O_TMPFILE`, open(2)). A process that
//! is killed before then leaves nothing behind. The new file needs a name of its own,
//! [`temporary`], only for the moment before it takes the name of the old file. [`clean_up`]
//! removes a temporary name that a killed process left.

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

/// A new file that will replace the file at a path.
#[derive(Debug)]
pub(crate) struct Replacement {
    file: File,
    path: PathBuf,
    /// True if the file already bears the name [`temporary`], because its file system lacks
    /// `O_TMPFILE`.
    named: bool,
}

impl Replacement {
    /// Creates an empty file on the file system of `path`. Only its owner can read it until its
    /// mode is set.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        clean_up(path);
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let (file, named) = match open(folder(path), flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => (File::from(file), false),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
                // `create_new` refuses a symbolic link that another user may have put there.
                let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary(path))?;
                (new, true)
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { file, path: path.to_owned(), named })
    }

    /// Copies owner and mode of the file at `path`. If no such file exists, sets `mode`.
    pub(crate) fn copy_owner_and_mode(&self, mode: u32) -> io::Result<()> {
        self.copy_owner_and_mode_of(&self.path, mode)
    }

    /// Gives the file to the owner of its folder, who alone can read it.
    pub(crate) fn take_owner_of_folder(&self) {
        if let Ok(folder) = fs::metadata(folder(&self.path)) {
            // Only root can change the owner. Without that right the file keeps its owner.
            let _ = fchown(&self.file, Some(folder.uid()), Some(folder.gid()));
        }
    }

    /// Copies owner and mode of another file. If no such file exists, sets `mode`.
    pub(crate) fn copy_owner_and_mode_of(&self, other: &Path, mode: u32) -> io::Result<()> {
        let mode = match fs::metadata(other) {
            Ok(old) => {
                // Only root can change the owner. Without that right the file keeps its owner.
                let _ = fchown(&self.file, Some(old.uid()), Some(old.gid()));
                old.permissions().mode() & 0o7777
            }
            Err(_) => mode,
        };
        self.file.set_permissions(Permissions::from_mode(mode))
    }

    /// Writes `contents` and waits until the disk holds them.
    pub(crate) fn write(&mut self, contents: &[u8]) -> io::Result<()> {
        self.file.write_all(contents)?;
        self.file.sync_all()
    }

    /// Renames the new file to `path`.
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

/// Replaces the file at `path` by `contents`. A new file gets `mode`; an existing file keeps its
/// owner and mode.
///
/// # Errors
///
/// Fails if the file system refuses a step. The old file is then unchanged.
pub fn replace_file(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut new = Replacement::create(path)?;
    new.copy_owner_and_mode(mode)?;
    new.write(contents)?;
    new.put_in_place()
}

/// Gives the file at `path` the second name `other`. A file that already bears that name is
/// replaced.
pub(crate) fn name_too(path: &Path, other: &Path) -> io::Result<()> {
    clean_up(other);
    let temporary = temporary(other);
    // Some file systems have no hard links; a copy serves as well.
    fs::hard_link(path, &temporary).or_else(|_| fs::copy(path, &temporary).map(|_| ()))?;
    let renamed = fs::rename(&temporary, other);
    // rename(2) does nothing if both names already belong to one file, so the temporary name may
    // remain.
    clean_up(other);
    renamed
}

/// Removes the temporary file that a killed process left while it replaced `path`.
pub(crate) fn clean_up(path: &Path) {
    let temporary = temporary(path);
    // Any file of this name is a leftover, because only this module uses the name.
    if fs::symlink_metadata(&temporary).is_ok_and(|found| !found.is_dir()) {
        // If the removal fails, the next use of the name reports the error.
        let _ = fs::remove_file(temporary);
    }
}

/// Waits until the disk holds the file names in the folder of `path`.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns the name that the new file bears just before it replaces the file at `path`.
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
        let mut new = Replacement::create(&path).unwrap();
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
