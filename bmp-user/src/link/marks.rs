//! Whose a mark is: a lock on one byte of a file that nobody but bmpd's own user can open.
//!
//! ```text
//! /run/bmpd/marks/NETNS    byte MARK locked for writing: a bmpd of this network namespace has the mark
//!                          byte 0 locked for reading: somebody uses the file
//! ```
//!
//! The locks belong to an open file (`F_OFD_SETLK`, fcntl(2)) and end with the process, whatever ends it. They tell apart the bmpd of one
//! network namespace that see the same `/run`.

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

/// Where the files are.
const FOLDER: &str = "/run/bmpd/marks";

/// The byte that says that the file is in use.
const IN_USE: u32 = 0;

/// The marks of one network namespace.
#[derive(Clone, Debug)]
pub struct Marks(Arc<LockFile>);

/// A mark that belongs to this bmpd, until this is dropped.
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
enum Lock {
    Shared,
    Exclusive,
    None,
}

impl Marks {
    /// Opens the marks of the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// The folder cannot be made, or another user owns it or can write to it.
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
                // Another bmpd has just removed the folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(explained(&path, error)),
            };
            let opened = file.metadata()?;
            if !opened.is_file() || (opened.uid() != sys::user() && opened.uid() != 0) {
                return Err(io::Error::other(format!("{} is another user's: remove it", path.display())));
            }
            let file = LockFile { path: path.clone(), file };
            // Whoever removes the file has this byte to itself, for a moment.
            let is_used = file.lock(IN_USE, Lock::Shared)?;
            let is_there = fs::symlink_metadata(&path).is_ok_and(|there| there.ino() == opened.ino());
            if is_used && is_there {
                return Ok(Self(Arc::new(file)));
            }
        }
    }

    /// Takes a mark; `None` if another bmpd has it. Must not be called twice for a mark that is still owned.
    ///
    /// # Errors
    ///
    /// The kernel refuses the lock.
    pub fn take(&self, mark: u32) -> io::Result<Option<OwnedMark>> {
        let is_ours = self.0.lock(mark, Lock::Exclusive)?;
        Ok(is_ours.then(|| OwnedMark { mark, file: Arc::clone(&self.0) }))
    }
}

impl Drop for OwnedMark {
    fn drop(&mut self) {
        // It ends with the file at the latest.
        let _ = self.file.lock(self.mark, Lock::None);
    }
}

impl LockFile {
    /// False if somebody else has a lock that excludes this one.
    fn lock(&self, byte: u32, lock: Lock) -> io::Result<bool> {
        let kind = match lock {
            Lock::Shared => libc::F_RDLCK,
            Lock::Exclusive => libc::F_WRLCK,
            Lock::None => libc::F_UNLCK,
        };
        // SAFETY: all zeroes is a value of this plain structure; `l_pid` must be 0.
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
        // The last one takes the file along. What somebody else still uses stays, and so does a folder with something in it.
        if matches!(self.lock(IN_USE, Lock::Exclusive), Ok(true)) && fs::remove_file(&self.path).is_ok() {
            for folder in self.path.ancestors().skip(1).take(2) {
                if fs::remove_dir(folder).is_err() {
                    break;
                }
            }
        }
    }
}

/// Makes the folder and the one above it. Where they are there already, they must be bmpd's alone.
fn make(folder: &Path) -> io::Result<()> {
    let above = folder.parent().unwrap_or(folder);
    // The control socket's folder, for which operators without privilege need a way in.
    for (path, mode) in [(above, 0o755), (folder, 0o700)] {
        match DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(explained(path, error)),
            _ => {}
        }
    }
    match exposure::find(folder)? {
        Some(exposed) => Err(io::Error::other(format!(
            "marks are not kept in {}: {exposed}; to mend it: {}",
            folder.display(),
            exposed.mend()
        ))),
        None => Ok(()),
    }
}

fn explained(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// What names the network namespace of the calling thread: its cookie is given to no other until the host is started again.
fn namespace() -> io::Result<String> {
    sys::netns_cookie().map(|cookie| cookie.to_string())
}
