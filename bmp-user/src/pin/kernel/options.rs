//! How bmpd is to use the kernel, and how it does.

use std::fmt;
use std::path::PathBuf;

use super::room::Room;

/// `--datapath`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum DatapathMode {
    /// The kernel enforces if it lets bmpd load its programs; else sessions are bound from user
    /// space.
    #[default]
    Auto,
    /// The kernel enforces, or bmpd does not start.
    Ebpf,
    /// Sessions are bound from user space; nothing is loaded.
    Socket,
}

/// How bmpd is to use the kernel.
#[derive(Clone, Debug, Default)]
pub struct DatapathOptions {
    /// `--datapath`.
    pub mode: DatapathMode,
    /// `--cgroup`: the cgroup v2 folder to attach to. Only its processes are pinned, and bmpd must
    /// be one of them. `None` finds the host's root.
    pub cgroup: Option<PathBuf>,
    /// `--bpffs`: the folder in a BPF file system that this bmpd alone has. `None` is
    /// [`DEFAULT_BPFFS`](super::DEFAULT_BPFFS), or `bmpd` in a BPF file system mounted elsewhere.
    pub bpffs: Option<PathBuf>,
    /// `--sessions`.
    pub room: Room,
}

/// What holds a session to its pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// The kernel programs, for every process of the host.
    Kernel,
    /// The kernel programs, for the processes of one cgroup alone.
    Cgroup {
        /// Why not for all, in words.
        why: String,
    },
    /// The socket's own binding alone.
    Socket {
        /// Why not the kernel, in words.
        why: String,
    },
}

impl Enforcement {
    /// True if the kernel programs hold bmpd's own sessions.
    pub fn is_by_programs(&self) -> bool {
        match self {
            Self::Kernel | Self::Cgroup { .. } => true,
            Self::Socket { .. } => false,
        }
    }

    /// Returns the word of the JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Cgroup { .. } => "cgroup",
            Self::Socket { .. } => "socket",
        }
    }
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str(self.as_str()),
            Self::Cgroup { why } | Self::Socket { why } => write!(f, "{} ({why})", self.as_str()),
        }
    }
}
