//! Shares the marks of steering among several bmpd: a lock on one byte of a file gives a mark to
//! one of them.
//!
//! ```text
//! /run/bmpd/marks/NETNS    byte MARK locked for writing: a bmpd of this namespace owns the mark
//!                          byte 0 locked for reading: a bmpd uses the file
//! ```
//!
//! Only bmpd's own user can open the file. The locks belong to an open file (`F_OFD_SETLK`,
//! fcntl(2)), so they end with the process. The folder can be visible in several network
//! namespaces; each has a file of its own.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{exposure, sys};

/// The folder of the lock files.
const FOLDER: &str = "/run/bmpd/marks";

/// The byte that every user of the file locks for reading.
const IN_USE: u32 = 0;

/// The marks of one network namespace.
#[derive(Clone, Debug)]
pub struct Marks(Arc<LockFile>);

/// A mark that this bmpd owns until the value is dropped.
#[derive(Debug)]
pub struct OwnedMark {
    mark: u32,
    file: Arc<LockFile>,
}

#[derive(Debug)]
struct LockFile {
    path: PathBuf,
    file: File,
}

#[derive(Clone, Copy)]
enum LockMode {
    Shared,
    Exclusive,
    None,
}

impl Marks {
    /// Opens the marks of the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be created, or if another user owns it or can write to it.
    pub fn open() -> io::Result<Self> {
        Self::open_in(Path::new(FOLDER))
    }

    pub(in crate::link) fn open_in(folder: &Path) -> io::Result<Self> {
        let path = folder.join(namespace()?);
        loop {
            make(folder)?;
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            let file = match options.open(&path) {
                Ok(file) => file,
                // Another bmpd has removed the folder in the meantime.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(explained(&path, error)),
            };
            let opened = file.metadata()?;
            if !opened.is_file() || (opened.uid() != sys::user() && opened.uid() != 0) {
                return Err(io::Error::other(format!("{} belongs to another user: remove it", path.display())));
            }
            let file = LockFile { path: path.clone(), file };
            // A bmpd that removes the file locks this byte for writing first.
            let is_used = file.lock(IN_USE, LockMode::Shared)?;
            let is_there = fs::symlink_metadata(&path).is_ok_and(|there| there.ino() == opened.ino());
            if is_used && is_there {
                return Ok(Self(Arc::new(file)));
            }
        }
    }

    /// Returns the file of the marks.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Returns the folders that the last user of the file removes.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.0.path.ancestors().skip(1).take(2)
    }

    /// Takes a mark. Returns `None` if another bmpd owns it. Do not call it again for a mark that
    /// this process still owns.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses the lock for another reason.
    pub fn take(&self, mark: u32) -> io::Result<Option<OwnedMark>> {
        let is_ours = self.0.lock(mark, LockMode::Exclusive)?;
        Ok(is_ours.then(|| OwnedMark { mark, file: Arc::clone(&self.0) }))
    }
}

impl Drop for OwnedMark {
    fn drop(&mut self) {
        // If this fails, the lock ends when the file is closed.
        let _ = self.file.lock(self.mark, LockMode::None);
    }
}

impl LockFile {
    /// Returns false if another open file holds a conflicting lock.
    fn lock(&self, byte: u32, lock: LockMode) -> io::Result<bool> {
        let kind = match lock {
            LockMode::Shared => libc::F_RDLCK,
            LockMode::Exclusive => libc::F_WRLCK,
            LockMode::None => libc::F_UNLCK,
        };
        // SAFETY: all zeroes is a valid `flock`, and `l_pid` must be 0.
        let mut range: libc::flock = unsafe { std::mem::zeroed() };
        range.l_type = kind as libc::c_short;
        range.l_whence = libc::SEEK_SET as libc::c_short;
        range.l_start = byte.into();
        range.l_len = 1;
        // SAFETY: the descriptor is open, and the command reads one `flock`.
        if unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) } == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => Ok(false),
            _ => Err(error),
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // The last user removes the file and then its folders, as far as they are empty.
        if matches!(self.lock(IN_USE, LockMode::Exclusive), Ok(true)) && fs::remove_file(&self.path).is_ok() {
            // Those of `Marks::folders`.
            for folder in self.path.ancestors().skip(1).take(2) {
                if fs::remove_dir(folder).is_err() {
                    break;
                }
            }
        }
    }
}

/// Creates the folder and its parent. Existing folders must be safe from other users.
fn make(folder: &Path) -> io::Result<()> {
    let above = folder.parent().unwrap_or(folder);
    // The parent also holds the control socket, which unprivileged operators must reach.
    for (path, mode) in [(above, 0o755), (folder, 0o700)] {
        match DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(explained(path, error)),
            _ => {}
        }
    }
    match exposure::find(folder)? {
        Some(exposed) => Err(io::Error::other(format!(
            "cannot keep marks in {}: {exposed}; to mend it: {}",
            folder.display(),
            exposed.mend()
        ))),
        None => Ok(()),
    }
}

fn explained(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Returns the name of the calling thread's network namespace: its cookie, which no other namespace
/// gets until the next boot.
fn namespace() -> io::Result<String> {
    sys::netns_cookie().map(|cookie| cookie.to_string())
}
