//! Attaching to a hook of the cgroup, which another program may keep for itself.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use aya::programs::loaded_programs;

use super::bpf;
use crate::escape::Untrusted;

/// `BPF_F_ALLOW_MULTI` (linux/bpf.h): the hook takes further programs.
const ALLOW_MULTI: u32 = 1 << 1;

/// A program that was attached to the hook without `BPF_F_ALLOW_MULTI`: the kernel takes no second
/// one.
#[derive(Debug, thiserror::Error)]
#[error(
    "program {id} ({name}) was attached there without BPF_F_ALLOW_MULTI, and the kernel takes no other beside it: \
     `bpftool cgroup show {cgroup}` shows it; have its owner attach it with that flag (`multi`), or take it off"
)]
struct HookOccupied {
    id: u32,
    name: Untrusted,
    cgroup: String,
}

/// Attaches a program to a cgroup by a link.
///
/// # Errors
///
/// The program that keeps the hook for itself, or the kernel's error.
pub(super) fn attach(program: BorrowedFd<'_>, cgroup: &File, attach_type: u32) -> anyhow::Result<OwnedFd> {
    bpf::attach(program, cgroup, attach_type).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => match find(cgroup, attach_type) {
            Ok(Some(occupied)) => occupied.into(),
            // The first error is the one to tell.
            Ok(None) | Err(_) => error.into(),
        },
        _ => error.into(),
    })
}

/// Returns the program that keeps the hook for itself, in the cgroup or above it.
fn find(cgroup: &File, attach_type: u32) -> io::Result<Option<HookOccupied>> {
    let mut folder = cgroup.try_clone()?;
    loop {
        let attached = bpf::query(&folder, attach_type)?;
        if let Some(id) = attached.first.filter(|_| attached.flags & ALLOW_MULTI == 0) {
            let mut programs = loaded_programs().flatten();
            let program = programs.find(|program| program.id() == id);
            let name = program.and_then(|program| program.name_as_str().map(Untrusted::new));
            let path = format!("/proc/thread-self/fd/{}", folder.as_raw_fd());
            let cgroup = fs::read_link(path)?.display().to_string();
            return Ok(Some(HookOccupied {
                id,
                name: name.unwrap_or_else(|| Untrusted::new("without a name")),
                cgroup,
            }));
        }
        let above = Path::new("/proc/thread-self/fd").join(folder.as_raw_fd().to_string()).join("..");
        let above = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(above)?;
        // Above the hierarchy's root is another file system.
        if above.metadata()?.dev() != folder.metadata()?.dev() {
            return Ok(None);
        }
        folder = above;
    }
}
