//! The folder in the BPF file system for a bmpd that does not run as root.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, fchown, lchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::home;
use crate::sys;

/// Makes the folder in the BPF file system, or takes an earlier one with everything in it, and
/// gives it to a user and the user's own group. `bpffs` is
/// [`DatapathOptions::bpffs`](super::DatapathOptions::bpffs). Returns the folder. Mounts a BPF file
/// system where this host has none.
///
/// # Errors
///
/// This host knows no such user. There is no BPF file system and none can be mounted, or somebody
/// else could change the folder.
pub fn prepare(bpffs: Option<&Path>, name: &str) -> anyhow::Result<PathBuf> {
    let (user, group) = sys::user_named(name).with_context(|| format!("this host has no user `{name}`"))?;
    let path = std::path::absolute(home::choose(bpffs)?)?;
    let parent = path.parent().context("the root of a file system cannot be given to a user")?;
    home::refuse_exposed(parent)?;
    home::make(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
    let folder = home::folder(&path).with_context(|| path.display().to_string())?;
    let owner = folder.metadata()?.uid();
    if owner != 0 && owner != user {
        bail!(
            "{} belongs to user {owner}: remove it (`bmpd detach --bpffs {0}`), or name another folder",
            path.display()
        );
    }
    // What is inside first: the folder's owner is what tells a finished hand-over.
    give_inside(&folder, user, group).with_context(|| format!("cannot give {} to user {user}", path.display()))?;
    fchown(&folder, Some(user), Some(group))
        .with_context(|| format!("cannot give {} to user {user}", path.display()))?;
    Ok(path)
}

/// Gives the entries of a folder away. Never follows a symbolic link.
fn give_inside(folder: &File, user: u32, group: u32) -> anyhow::Result<()> {
    for entry in fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))? {
        let path = entry?.path();
        if path.symlink_metadata()?.is_dir() {
            give_inside(&home::folder(&path)?, user, group)?;
        }
        lchown(&path, Some(user), Some(group))?;
    }
    Ok(())
}
