//! The capabilities that stay.

use std::{collections::HashSet, fs, os::unix::fs::MetadataExt as _};

use caps::{CapSet, Capability};

use super::SandboxNeeds;
use crate::sys;

/// What every bmpd needs: the programs and tables (`CAP_BPF`, `CAP_PERFMON`), links, marks, rules,
/// TCP MD5 (`CAP_NET_ADMIN`), and to bind a bound socket to another interface (`CAP_NET_RAW`).
const ALWAYS: [Capability; 4] =
    [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW, Capability::CAP_PERFMON];

/// What files of other users need: to reach them, and to give a new file the owner and mode of the
/// old one.
const OTHERS_FILES: [Capability; 3] = [Capability::CAP_CHOWN, Capability::CAP_DAC_OVERRIDE, Capability::CAP_FOWNER];

/// Leaves the calling thread the capabilities that `needs` implies, of those it has. None can
/// return: the bounding, inheritable and ambient sets are empty.
pub(super) fn keep(needs: &SandboxNeeds) -> anyhow::Result<()> {
    let mut kept = HashSet::from(ALWAYS);
    if needs.low_ports {
        kept.insert(Capability::CAP_NET_BIND_SERVICE);
    }
    let is_anothers = |folder: &_| fs::metadata(folder).is_ok_and(|found| found.uid() != sys::user());
    if needs.written.iter().chain(&needs.read).any(is_anothers) {
        kept.extend(OTHERS_FILES);
    }
    keep_these(&kept)
}

/// Leaves the calling thread no capability.
pub(super) fn keep_none() -> anyhow::Result<()> {
    keep_these(&HashSet::new())
}

/// Leaves the calling thread what a look at other processes takes.
pub(super) fn keep_to_inspect() -> anyhow::Result<()> {
    keep_these(&HashSet::from([Capability::CAP_SYS_PTRACE]))
}

fn keep_these(kept: &HashSet<Capability>) -> anyhow::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    // Without CAP_SETPCAP the bounding set stays. Nothing can be gained from it without execve(2),
    // which no_new_privs makes harmless.
    let _ = caps::clear(None, CapSet::Bounding);
    caps::clear(None, CapSet::Ambient)?;
    let held: HashSet<_> = caps::read(None, CapSet::Permitted)?.intersection(kept).copied().collect();
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &held)?;
    caps::set(None, CapSet::Permitted, &held)?;
    Ok(())
}

/// Returns the names of the calling thread's capabilities, in ascending order.
pub(super) fn held() -> Vec<String> {
    let mut names: Vec<_> =
        caps::read(None, CapSet::Permitted).unwrap_or_default().iter().map(ToString::to_string).collect();
    names.sort();
    names
}
