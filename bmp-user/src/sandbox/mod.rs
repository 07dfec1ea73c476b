//! Takes from bmpd, once it has started, all rights that its configuration does not need: before it
//! reads a byte from a network.
//!
//! - `capabilities`: which capabilities(7) stay, in which thread.
//! - `files`: which folders bmpd can still open (landlock(7)).
//! - `calls`: which system calls the kernel still serves (seccomp(2)).
//!
//! Everything that only a start needs comes before [`enter`]: binding the control socket, mounting
//! the BPF file system, loading the programs. Threads that start later inherit what is left. The
//! few that need more start earlier (`apart`).
//!
//! A kernel may lack a layer. bmpd then runs without that layer, and says so.

mod apart;
#[cfg(debug_assertions)]
mod attempt;
mod calls;
mod capabilities;
mod files;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use tracing::{info, warn};

pub(crate) use apart::ApartThread;
#[cfg(debug_assertions)]
pub(crate) use attempt::attempt;

/// What bmpd still needs after its start.
#[derive(Clone, Debug, Default)]
pub struct SandboxNeeds {
    /// The configuration has a port below 1024 to listen on.
    pub low_ports: bool,
    /// Folders in which files are read, written, made and removed.
    pub written: Vec<PathBuf>,
    /// Folders in which files are only read.
    pub read: Vec<PathBuf>,
    /// Folders that bmpd itself made, and removes at its end.
    pub made: Vec<PathBuf>,
}

impl SandboxNeeds {
    /// Adds the folder of a file that bmpd replaces.
    pub fn writes(&mut self, file: &Path) {
        self.written.push(folder_of(file));
    }

    /// Adds the folder of a file that bmpd reads.
    pub fn reads(&mut self, file: &Path) {
        self.read.push(folder_of(file));
    }
}

/// Returns the folder that holds a file.
pub(crate) fn folder_of(file: &Path) -> PathBuf {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    file.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// One layer of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SandboxLayer {
    /// The kernel enforces it.
    InForce,
    /// The kernel enforces a part of it.
    InPart(String),
    /// It is not there, for this reason.
    Missing(String),
}

impl fmt::Display for SandboxLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InForce => write!(f, "in force"),
            Self::InPart(why) => write!(f, "in force in part: {why}"),
            Self::Missing(why) => write!(f, "not in force: {why}"),
        }
    }
}

/// What holds bmpd since its start.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The capabilities of its threads, in ascending order.
    pub capabilities: Vec<String>,
    /// Whether capabilities were given up, and cannot return.
    pub privileges: SandboxLayer,
    /// Whether files outside of its folders are out of reach (Landlock).
    pub files: SandboxLayer,
    /// Whether system calls that it does not need are refused (seccomp).
    pub calls: SandboxLayer,
}

impl Sandbox {
    /// Describes a bmpd without a sandbox.
    pub fn none(why: &str) -> Self {
        let missing = || SandboxLayer::Missing(why.to_owned());
        Self { capabilities: capabilities::held(), privileges: missing(), files: missing(), calls: missing() }
    }

    /// True if files outside of the folders that were named cannot be opened.
    pub fn has_closed_files(&self) -> bool {
        !matches!(self.files, SandboxLayer::Missing(_))
    }

    /// Returns the layers that are not whole, each with the reason.
    pub fn lacks(&self) -> Vec<String> {
        [("privileges", &self.privileges), ("files", &self.files), ("system calls", &self.calls)]
            .into_iter()
            .filter(|(_, layer)| **layer != SandboxLayer::InForce)
            .map(|(name, layer)| format!("{name}: {layer}"))
            .collect()
    }
}

/// Takes the memory of this process out of reach for other processes of the same user, and out of
/// core dumps (prctl(2), `PR_SET_DUMPABLE`): it holds secrets. Root can still read it. Call it
/// before the first secret is read. A program that is started later is dumpable again.
///
/// # Errors
///
/// The kernel refuses it.
pub fn hide_memory() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?)
}

/// Gives up everything that `needs` does not name, for the calling thread and for all threads that
/// it starts from now on. Call it before the first thread of the runtime starts.
pub fn enter(needs: &SandboxNeeds) -> Sandbox {
    let privileges = layer(capabilities::keep(needs).map(|()| None));
    let files = layer(files::restrict(needs));
    let calls = layer(calls::filter().map(|()| None));
    let sandbox = Sandbox { capabilities: capabilities::held(), privileges, files, calls };
    let lacks = sandbox.lacks();
    lacks.iter().for_each(|lack| warn!("sandbox: {lack}"));
    if lacks.is_empty() {
        info!("sandbox in force, with {}", sandbox.capabilities.join(", "));
    }
    sandbox
}

/// Gives up every right that the calling thread has. For a thread that uses open descriptors alone.
pub(crate) fn give_up_everything() {
    // What the kernel does not offer cannot be given up. `enter` says which layers are missing.
    let _ = capabilities::keep_none();
    let _ = files::restrict(&SandboxNeeds::default());
}

fn layer(result: anyhow::Result<Option<String>>) -> SandboxLayer {
    match result {
        Ok(None) => SandboxLayer::InForce,
        Ok(Some(why)) => SandboxLayer::InPart(why),
        Err(error) => SandboxLayer::Missing(format!("{error:#}")),
    }
}
