//! Whether the kernel still has what bmpd put there, and what is lost.
//!
//! Root can take a link off its cgroup (`bpftool link detach`), put another program under it,
//! remove pinned objects, and change table entries. A cgroup can be removed, a file system
//! unmounted.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bmp_ebpf::table;
use tracing::warn;

/// How often bmpd looks: some fifty system calls, however many sessions there are.
pub(in crate::pin) const LOOK: Duration = Duration::from_secs(2);

/// What the kernel has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// When bmpd found it.
    pub since: Instant,
    /// The loss, in words.
    pub why: String,
    /// True if sessions are held to their pins all the same. Then they are not after bmpd's end.
    pub enforced: bool,
    /// Why it is not mended yet, in words.
    pub not_mended: Option<String>,
}

/// The result of mending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pin) enum Mended {
    /// Nothing was lost.
    Nothing,
    /// All is whole again, and sessions were held to their pins meanwhile.
    Pins,
    /// All is whole again. Meanwhile connections may have been made that no program saw.
    Enforcement,
    /// Something is still lost.
    NotYet,
}

/// One thing that the kernel has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KernelFault {
    /// The link of this program does not hold it to the cgroup any more.
    Detached(&'static str),
    /// Another program is under the link of this one.
    Replaced(&'static str),
    /// The interface of this index has lost its guard.
    Guard(u32),
    /// This path is not in the BPF file system any more.
    Unpinned(PathBuf),
    /// So many entries of this table were removed, changed or added.
    Entries(&'static str, usize),
    /// The tables cannot be compared: why.
    Unreadable(String),
}

impl KernelFault {
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Detached(name) => format!("program {name} was detached from its cgroup"),
            Self::Replaced(name) => format!("another program is in the place of {name}"),
            Self::Guard(ifindex) => format!("program guard was taken off interface {ifindex}"),
            Self::Unpinned(path) => format!("{} was removed", path.display()),
            Self::Entries(name, 1) => format!("an entry of table {name} was removed or changed"),
            Self::Entries(name, count) => format!("{count} entries of table {name} were removed or changed"),
            Self::Unreadable(why) => why.clone(),
        }
    }

    /// True if sessions are held to their pins all the same. Without a guard, `ingress` refuses
    /// strangers.
    fn leaves_pins(&self) -> bool {
        matches!(self, Self::Guard(_) | Self::Unpinned(_) | Self::Entries(table::GUARDED, _))
    }
}

/// What was lost since bmpd began.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    pub(super) now: Option<Loss>,
    pub(super) losses: u64,
}

impl Health {
    /// Begins; `has_lapsed` counts a loss from before.
    pub(super) fn new(has_lapsed: bool) -> Self {
        Self { now: None, losses: has_lapsed.into() }
    }

    /// Records faults, and logs the first ones.
    pub(super) fn record(&mut self, faults: &[KernelFault]) {
        let Some(first) = faults.first() else { return };
        let more = match faults.len() {
            1 => String::new(),
            count => format!(", and {} more", count - 1),
        };
        let why = format!("{}{more}", first.in_words());
        let enforced = faults.iter().all(KernelFault::leaves_pins);
        if let Some(loss) = &mut self.now {
            loss.why = why;
            loss.enforced &= enforced;
            return;
        }
        self.losses += 1;
        match enforced {
            true => warn!("what the kernel enforces would not outlive bmpd, or not as it should: {why}"),
            false => warn!("the kernel does not enforce: {why}"),
        }
        self.now = Some(Loss { since: Instant::now(), why, enforced, not_mended: None });
    }
}
