//! The folder in a BPF file system in which programs, tables and links outlive bmpd.
//!
//! ```text
//! /sys/fs/bpf/bmpd/            locked by the bmpd that runs
//!   v2/                        the layout, bmp_ebpf::VERSION
//!     links/    connect4 …     hold the programs to the cgroup, guard-… to interfaces
//!     programs/ connect4 …     the same programs, for bpftool and other readers
//!     tables/   PINS …
//!   v2-replaced-1/, v1/ …      other layouts, until this one is in force
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bmp_ebpf::VERSION;
use rustix::fs::{Access, AtFlags, CWD};
use tracing::{info, warn};

use super::{bpf, mounts};
use crate::exposure::{self, PathFault};
use crate::sys;

/// The default of `--bpffs`.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf/bmpd";

/// Where a BPF file system is mounted by convention.
const MOUNT_POINT: &str = "/sys/fs/bpf";

/// `BPF_FS_MAGIC` (linux/magic.h).
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;

/// The operator named a folder that cannot be had. bmpd does not start, although it could do
/// without the kernel: the operator meant another start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct FolderRefusal(String);

/// The folder of this bmpd, locked.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    /// Has the lock (flock(2)), which ends with the process, however that ends.
    lock: File,
}

impl Home {
    /// Opens and locks the folder, and makes it where it is missing. `None`, with a warning, if
    /// this host has no BPF file system and bmpd may not mount one: programs and tables then end
    /// with bmpd.
    ///
    /// # Errors
    ///
    /// [`FolderRefusal`] if the named folder is in no BPF file system, or if another bmpd runs with
    /// it. Otherwise the error of a system call.
    pub(super) fn open(given: Option<&Path>) -> anyhow::Result<Option<Self>> {
        let path = match choose(given) {
            Err(error) if given.is_none() && !error.is::<FolderRefusal>() => {
                warn!("enforcement in the kernel ends with bmpd: {error:#}");
                return Ok(None);
            }
            chosen => chosen?,
        };
        match barrier(&path) {
            Some(barrier) if given.is_some() => {
                Err(FolderRefusal(format!("--bpffs {}: {barrier}", path.display())).into())
            }
            Some(barrier) => {
                warn!("enforcement in the kernel ends with bmpd: {barrier}");
                Ok(None)
            }
            None => Self::lock(path, refuse_exposed).map(Some),
        }
    }

    /// Opens and locks the folder, if it is there, to remove what is in it. Root may do that to the
    /// folder of one other user, such as that of `bmpd prepare`.
    pub(super) fn find(given: Option<&Path>) -> anyhow::Result<Option<Self>> {
        let Some(path) = given.map_or_else(find, |path| Ok(Some(path.to_owned())))? else { return Ok(None) };
        if !path.exists() {
            return Ok(None);
        }
        if !is_within_bpffs(&path) {
            return Err(FolderRefusal(format!("{}: not in a BPF file system", path.display())).into());
        }
        // Nobody but that user and root can have put anything into it.
        let is_one_users = |path: &Path| {
            let found = folder(path).and_then(|folder| folder.metadata());
            sys::user() == 0 && found.is_ok_and(|found| found.uid() != 0 && found.mode() & 0o022 == 0)
        };
        let refuse = |path: &Path| match path.parent() {
            Some(around) if is_one_users(path) => refuse_exposed(around),
            _ => refuse_exposed(path),
        };
        Self::lock(path, refuse).map(Some)
    }

    fn lock(path: PathBuf, refuse: impl Fn(&Path) -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let path = std::path::absolute(&path)?;
        loop {
            // Before the folder is made: nothing is left in a folder of another user.
            refuse(&path)?;
            make(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
            let lock = match folder(&path) {
                // The process that held it has just removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                lock => lock.with_context(|| path.display().to_string())?,
            };
            // Another user may have made it meanwhile.
            refuse(&path)?;
            // SAFETY: the descriptor is open.
            if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::WouldBlock {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
                let holder = holder(&lock).map(|pid| format!(" (process {pid})")).unwrap_or_default();
                return Err(FolderRefusal(format!(
                    "another bmpd{holder} runs with the folder {}: give this one its own with --bpffs PATH",
                    path.display()
                ))
                .into());
            }
            let locked = lock.metadata()?;
            if fs::metadata(&path).is_ok_and(|there| there.ino() == locked.ino() && there.dev() == locked.dev()) {
                return Ok(Self { path, lock });
            }
        }
    }

    /// True if the path still leads to the locked folder.
    pub(super) fn is_there(&self) -> bool {
        let (there, locked) = (fs::symlink_metadata(&self.path), self.lock.metadata());
        matches!((there, locked), (Ok(there), Ok(locked)) if (there.dev(), there.ino()) == (locked.dev(), locked.ino()))
    }

    /// Returns its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the folder of this bmpd's layout.
    pub(super) fn layout(&self) -> Layout {
        Layout(self.path.join(format!("v{VERSION}")))
    }

    /// Moves aside a layout that has this bmpd's number and differs all the same. It stays in
    /// force.
    pub(super) fn set_aside(&self, layout: &Layout) -> anyhow::Result<()> {
        let aside = (1..).map(|number| self.path.join(format!("v{VERSION}-replaced-{number}")));
        let aside = aside.into_iter().find(|path| !path.exists()).unwrap_or_default();
        fs::rename(&layout.0, &aside).with_context(|| format!("cannot move {} aside", layout.0.display()))
    }

    /// Returns the folders of all layouts.
    pub(super) fn all(&self) -> Vec<PathBuf> {
        entries(&self.path)
    }

    /// Returns the folders of other layouts.
    pub(super) fn others(&self) -> Vec<PathBuf> {
        let own = self.layout().0;
        self.all().into_iter().filter(|path| *path != own).collect()
    }

    /// Removes a folder with everything in it.
    pub(super) fn remove(path: &Path) -> anyhow::Result<Removed> {
        let mut removed = Removed::default();
        remove(path, path, &mut removed)?;
        Ok(removed)
    }

    /// Removes the folder itself, if it is empty.
    pub(super) fn give_up(self) {
        // A folder that is not empty is not bmpd's alone.
        let _ = fs::remove_dir(&self.path);
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // At once: a process that was just forked may hold a copy of the descriptor for a moment.
        // SAFETY: the descriptor is open.
        unsafe { libc::flock(self.lock.as_raw_fd(), libc::LOCK_UN) };
    }
}

/// The folder of one layout.
#[derive(Clone, Debug)]
pub(super) struct Layout(PathBuf);

impl Layout {
    pub(super) fn exists(&self) -> bool {
        self.0.exists()
    }

    pub(super) fn make(&self) -> io::Result<()> {
        ["links", "programs", "tables"].iter().try_for_each(|folder| make(&self.0.join(folder)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.0.join("links").join(name)
    }

    /// Returns the pinned links.
    pub(super) fn links(&self) -> Vec<PathBuf> {
        entries(&self.0.join("links"))
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.0.join("programs").join(name)
    }

    pub(super) fn table(&self, name: &str) -> PathBuf {
        self.0.join("tables").join(name)
    }
}

/// How many pinned objects were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) links: usize,
    pub(super) programs: usize,
    pub(super) tables: usize,
}

impl std::fmt::Display for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} links, {} programs and {} tables", self.links, self.programs, self.tables)
    }
}

/// Removes a folder, which messages call `name`. Never follows a symbolic link: the folder may be
/// another user's. Links of BPF are detached first: a link that somebody holds open would go on
/// without its name.
fn remove(path: &Path, name: &Path, removed: &mut Removed) -> anyhow::Result<()> {
    let context = || format!("cannot remove {}", name.display());
    let inside = folder(path).with_context(context)?;
    for path in entries(Path::new(&format!("/proc/self/fd/{}", inside.as_raw_fd()))) {
        let name = name.join(path.file_name().unwrap_or_default());
        let context = || format!("cannot remove {}", name.display());
        let kind = path.symlink_metadata().with_context(context)?.file_type();
        if kind.is_dir() {
            remove(&path, &name, removed)?;
            continue;
        }
        if kind.is_file() {
            let object = bpf::open(&path).with_context(context)?;
            match bpf::kind(&object) {
                Some(bpf::ObjectKind::Link) => {
                    bpf::detach(&object).with_context(context)?;
                    removed.links += 1;
                }
                Some(bpf::ObjectKind::Program) => removed.programs += 1,
                Some(bpf::ObjectKind::Table) => removed.tables += 1,
                None => {}
            }
        }
        fs::remove_file(&path).with_context(context)?;
    }
    drop(inside);
    fs::remove_dir(path).with_context(context)
}

/// Returns the entries of a folder in the order of names.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Returns the folder to use: the given one, or bmpd's in the BPF file system of this host. Mounts
/// one where there is none.
///
/// # Errors
///
/// [`FolderRefusal`] if the given folder is in no BPF file system. Otherwise there is none, and
/// none can be mounted.
pub(super) fn choose(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    match given {
        Some(path) if is_within_bpffs(path) || (path.starts_with(MOUNT_POINT) && mount().is_ok()) => {
            Ok(path.to_owned())
        }
        Some(path) => Err(FolderRefusal(format!(
            "--bpffs {}: not in a BPF file system (`mount -t bpf -o mode=0700 bpf {MOUNT_POINT}` mounts one)",
            path.display()
        ))
        .into()),
        None => match find()? {
            Some(path) => Ok(path),
            None => mount().map(|()| PathBuf::from(DEFAULT_BPFFS)).with_context(|| {
                format!(
                    "there is no BPF file system, and bmpd cannot mount one on {MOUNT_POINT} \
                     (`mount -t bpf -o mode=0700 bpf {MOUNT_POINT}` mounts one)"
                )
            }),
        },
    }
}

/// Returns which folder does not let this user reach the path, and what mends it. `None` if the
/// user can look at the path, or at the place where it would be.
fn barrier(path: &Path) -> Option<String> {
    let is_denied =
        |path: &&Path| fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    let folder = path.ancestors().filter(is_denied).last()?.parent()?;
    let found = fs::metadata(folder).ok()?;
    let (mode, owner, user) = (found.mode() & 0o7777, found.uid(), sys::user());
    Some(format!(
        "{} (mode {mode:04o}, of user {owner}) does not let user {user} in: run bmpd as root, or as bmpd.service does \
         (`bmpd prepare --user NAME` makes the folder, and the unit shows it to bmpd)",
        folder.display()
    ))
}

pub(super) fn folder(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

/// Refuses a folder in which another user could replace or remove programs and tables.
pub(super) fn refuse_exposed(path: &Path) -> anyhow::Result<()> {
    let found = exposure::find(path).with_context(|| path.display().to_string())?;
    let Some(exposed) = found else { return Ok(()) };
    let place = &exposed.place;
    let advice = match exposed.fault {
        // Also with the sticky bit, which a BPF file system has unless its mount says otherwise: it
        // is for nobody but root.
        PathFault::Writable(_) if is_within_bpffs(place) => format!(
            "`chmod go-w {}` (a BPF file system is bmpd's alone with `mount -t bpf -o mode=0700 bpf {}`)",
            place.display(),
            mounts::root_of(place, "bpf").unwrap_or_else(|| place.clone()).display()
        ),
        _ => format!("{}, with --bpffs PATH", exposed.mend()),
    };
    Err(FolderRefusal(format!("the folder {} is not bmpd's alone: {exposed}; to mend it: {advice}", path.display()))
        .into())
}

pub(super) fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// True if the path, or the part of it that this user can look at, is on a BPF file system.
fn is_within_bpffs(path: &Path) -> bool {
    // A descriptor of the place alone (O_PATH) needs no right to read the folder.
    let place = |path: &Path| OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).ok();
    path.ancestors().find_map(place).is_some_and(|file| mounts::magic(&file).is_ok_and(|magic| magic == BPF_FS_MAGIC))
}

/// Returns bmpd's folder in the BPF file system at the usual place, or in one elsewhere.
fn find() -> anyhow::Result<Option<PathBuf>> {
    let usual = Path::new(MOUNT_POINT).to_owned();
    let mut seen = std::iter::once(usual).chain(mounts::roots("bpf")?);
    Ok(seen.find(|path| path.exists() && is_within_bpffs(path)).map(|path| path.join("bmpd")))
}

/// Returns the folder that [`Home::open`] would have, without making it.
///
/// # Errors
///
/// There is no BPF file system, other users could change the folder, or this process may not write
/// there.
pub(super) fn inspect(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match given {
        Some(path) => std::path::absolute(path)?,
        None => find()?.unwrap_or_else(|| PathBuf::from(DEFAULT_BPFFS)),
    };
    if !is_within_bpffs(&path) {
        bail!("{} is in no BPF file system (`mount -t bpf -o mode=0700 bpf {MOUNT_POINT}` mounts one)", path.display());
    }
    refuse_exposed(&path)?;
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new(MOUNT_POINT));
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(CWD, existing, wanted, AtFlags::EACCESS)
        .with_context(|| format!("this process may not write in {}", existing.display()))?;
    Ok(path)
}

/// Returns the folder in which bmpd makes its own folder, and removes it again. `None` if there is
/// none. Below its unit, bmpd sees its own folder of the BPF file system alone, and this is that.
pub(super) fn around(given: Option<&Path>) -> Option<PathBuf> {
    let path = std::path::absolute(given.unwrap_or(Path::new(DEFAULT_BPFFS))).ok()?;
    let around = path.parent()?.to_owned();
    [around, path].into_iter().find(|folder| is_within_bpffs(folder))
}

/// Mounts a BPF file system at the usual place, as iproute2 and bpftool do.
pub(super) fn mount() -> io::Result<()> {
    // One process at a time may mount: of two mounts one would hide the other.
    let below = folder(Path::new(MOUNT_POINT))?;
    // SAFETY: the descriptor is open.
    if unsafe { libc::flock(below.as_raw_fd(), libc::LOCK_EX) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if is_within_bpffs(Path::new(MOUNT_POINT)) {
        return Ok(());
    }
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_RELATIME;
    // SAFETY: the strings live through the call.
    let refused = unsafe {
        libc::mount(c"bpf".as_ptr(), c"/sys/fs/bpf".as_ptr(), c"bpf".as_ptr(), flags, c"mode=0700".as_ptr().cast())
    };
    if refused != 0 {
        return Err(io::Error::last_os_error());
    }
    info!("mounted a BPF file system on {MOUNT_POINT}");
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    if of("thread-self") != of("1") {
        warn!(
            "this mount namespace is not the host's: what bmpd pins on {MOUNT_POINT} is gone with the namespace's last process"
        );
    }
    Ok(())
}

/// Returns the process that has locked the file. In /proc/locks (proc_locks(5)), process id and
/// device:device:inode are fields 5 and 6.
fn holder(file: &File) -> Option<u32> {
    let inode = format!(":{}", file.metadata().ok()?.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(4);
        let (process, place) = (fields.next()?, fields.next()?);
        if place.ends_with(&inode) { process.parse().ok() } else { None }
    })
}
