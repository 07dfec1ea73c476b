//! Loading, and loading again where the kernel had no descriptors or memory left.

use std::fs::File;
use std::io;
use std::time::Duration;

use anyhow::Context as _;

use super::loaded::LoadedPrograms;
use super::options::DatapathOptions;
use crate::sys;

/// How many descriptors loading takes, and some more.
const DESCRIPTORS: usize = 64;

/// How often bmpd tries to load again.
pub(in crate::pin) const AGAIN: Duration = Duration::from_secs(10);

/// Loads the programs, for the network namespace of the calling thread.
pub(super) fn load(options: &DatapathOptions) -> anyhow::Result<LoadedPrograms> {
    let netns =
        sys::netns_cookie().context("cannot read this network namespace's cookie (Linux 5.14 or later has it)")?;
    ensure_descriptors().with_context(|| format!("loading the kernel programs takes {DESCRIPTORS} descriptors"))?;
    LoadedPrograms::load(options, netns)
}

/// Makes sure that loading does not run out of descriptors half-way: the verifier would look at the
/// programs again and again, and pinned objects would be left to be removed.
fn ensure_descriptors() -> io::Result<()> {
    let one = File::open("/dev/null")?;
    (0..DESCRIPTORS).map(|_| one.try_clone()).collect::<io::Result<Vec<_>>>().map(drop)
}

/// True if descriptors or memory ran out: there may be enough of them later.
pub(super) fn is_short_of_means(error: &anyhow::Error) -> bool {
    let codes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    codes.into_iter().any(|code| matches!(code, libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}
