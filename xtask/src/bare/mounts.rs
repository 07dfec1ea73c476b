//! Mounts that only this process and its children see, and that end with them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

/// The mounts of this thread and of the programs that it starts.
#[derive(Debug)]
pub(super) struct Mounts {
    /// The mount points, in the order of the mounts.
    made: std::cell::RefCell<Vec<PathBuf>>,
}

impl Mounts {
    /// Moves this thread, and what it will start, into a mount namespace of its own.
    pub(super) fn private() -> anyhow::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
        let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).context("cannot keep mounts from the host")?;
        Ok(Self { made: std::cell::RefCell::default() })
    }

    /// Mounts `lower` at `at`. Files written there go below `written`.
    pub(super) fn overlay(&self, lower: &Path, written: &Path, at: &Path) -> anyhow::Result<()> {
        let (upper, work) = (written.join("upper"), written.join("work"));
        for folder in [&upper, &work, at] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let layers = [("lowerdir", lower), ("upperdir", &upper), ("workdir", &work)];
        let options = layers.map(|(name, folder)| format!("{name}={}", folder.display())).join(",");
        mount(Some("overlay"), at, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("cannot mount an overlay at {} ({options})", at.display()))?;
        self.made.borrow_mut().push(at.to_owned());
        Ok(())
    }

    /// Mounts the folder `from` at `at` too.
    pub(super) fn bind(&self, from: &Path, at: &Path) -> anyhow::Result<()> {
        self.bind_with(from, at, MsFlags::MS_BIND)
    }

    /// Mounts the folder `from` at `at` too, with the mounts below it.
    pub(super) fn bind_all(&self, from: &Path, at: &Path) -> anyhow::Result<()> {
        self.bind_with(from, at, MsFlags::MS_BIND | MsFlags::MS_REC)
    }

    /// Mounts the folder `from` at `at` too, read-only.
    pub(super) fn bind_read_only(&self, from: &Path, at: &Path) -> anyhow::Result<()> {
        self.bind(from, at)?;
        let again = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(None::<&str>, at, None::<&str>, again, None::<&str>)
            .with_context(|| format!("cannot make {} read-only", at.display()))
    }

    fn bind_with(&self, from: &Path, at: &Path, flags: MsFlags) -> anyhow::Result<()> {
        fs::create_dir_all(at).with_context(|| format!("cannot make {}", at.display()))?;
        mount(Some(from), at, None::<&str>, flags, None::<&str>)
            .with_context(|| format!("cannot mount {} at {}", from.display(), at.display()))?;
        self.made.borrow_mut().push(at.to_owned());
        Ok(())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for at in self.made.borrow().iter().rev() {
            // A program that still runs keeps its root until the namespace ends.
            let _ = umount2(at, MntFlags::MNT_DETACH);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_threads_and_the_host_see_no_mount() {
        if !crate::process::is_root() {
            return;
        }
        // Not in a folder for temporary files: that of a bare root is an overlay itself, which
        // cannot be the upper folder of another (Documentation/filesystems/overlayfs.rst).
        let folder = Path::new("/dev/shm").join(format!("bmpd-mounts-{}", std::process::id()));
        let (lower, at) = (folder.join("lower"), folder.join("at"));
        fs::create_dir_all(&lower).unwrap();
        fs::write(lower.join("there"), "before").unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let mounts = Mounts::private().unwrap();
                mounts.overlay(&lower, &folder.join("written"), &at).unwrap();
                assert_eq!(fs::read_to_string(at.join("there")).unwrap(), "before");
                fs::write(at.join("there"), "after").unwrap();
                mounts.bind_read_only(&lower, &folder.join("bound")).unwrap();
                assert!(fs::write(folder.join("bound/new"), "").is_err());
                scope.spawn(|| ()).join().unwrap();
                drop(mounts);
                assert!(!at.join("there").exists());
            });
            inside.join().unwrap();
        });
        assert_eq!(fs::read_to_string(lower.join("there")).unwrap(), "before");
        assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("bmpd-mounts"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
