//! Whether the programs are loaded, and loading them later where the kernel had no descriptors or memory left.

use std::fs::File;
use std::io;
use std::time::Duration;

use anyhow::Context as _;
use tracing::{info, warn};

use super::cgroup::Scope;
use super::tables::Kernel;
use super::{Datapath, Enforcement, Options};
use crate::sys;

/// How many descriptors loading takes, and some more.
const DESCRIPTORS: usize = 64;

/// How often loading is tried again.
pub(in crate::pin) const AGAIN: Duration = Duration::from_secs(10);

pub(super) fn load(options: &Options) -> anyhow::Result<Kernel> {
    let netns =
        sys::netns_cookie().context("cannot read this network namespace's cookie (Linux 5.14 or later has it)")?;
    ensure_descriptors().with_context(|| format!("loading the kernel programs takes {DESCRIPTORS} descriptors"))?;
    Kernel::load(options, netns)
}

/// Makes sure that loading does not run out of descriptors half-way: it would have the verifier look at the programs again and again, and leave what
/// was pinned so far to be removed.
fn ensure_descriptors() -> io::Result<()> {
    let one = File::open("/dev/null")?;
    (0..DESCRIPTORS).map(|_| one.try_clone()).collect::<io::Result<Vec<_>>>().map(drop)
}

/// Whether descriptors or memory ran out, of which there may be enough later.
pub(super) fn is_short_of_means(error: &anyhow::Error) -> bool {
    let codes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    codes.into_iter().any(|code| matches!(code, libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

impl Datapath {
    /// Who holds sessions to their pins, unless that is lost: see [`Self::enforcement_now`].
    pub fn enforcement(&self) -> Enforcement {
        let state = self.state();
        match &state.kernel {
            Some(kernel) => match &kernel.scope {
                Scope::Host => Enforcement::Kernel,
                Scope::Cgroup { why } => Enforcement::Cgroup { why: why.clone() },
            },
            None => {
                let again = match state.again {
                    Some(_) => format!(" (it is tried again every {} s)", AGAIN.as_secs()),
                    None => String::new(),
                };
                Enforcement::Socket { why: format!("{}{again}", state.why_not) }
            }
        }
    }

    /// Who holds sessions to their pins, as far as was found when it was last looked at.
    pub fn enforcement_now(&self) -> Enforcement {
        match self.loss() {
            Some(loss) if !loss.enforced => Enforcement::Socket { why: format!("enforcement is lost: {}", loss.why) },
            _ => self.enforcement(),
        }
    }

    /// Whether loading has failed for want of descriptors or memory, and is to be tried again.
    pub(in crate::pin) fn is_tried_again(&self) -> bool {
        self.state().again.is_some()
    }

    /// Tries to load once more. True if it is loaded now: every pin is to be put in force anew. Blocks for some tenths of a second.
    pub(in crate::pin) fn try_again(&self) -> bool {
        let Some(options) = self.state().again.clone() else { return false };
        let result = load(&options);
        let mut state = self.state();
        // It was detached meanwhile.
        if state.again.is_none() {
            return false;
        }
        match result {
            Ok(kernel) => {
                info!("egress is enforced and counted by the kernel programs from now on");
                if let Scope::Cgroup { why } = &kernel.scope {
                    warn!("egress is enforced for this cgroup only: {why}");
                }
                (state.kernel, state.again) = (Some(kernel), None);
                drop(state);
                self.inner.loaded.send_replace(true);
                true
            }
            Err(error) => {
                let why = format!("{error:#}");
                if !is_short_of_means(&error) {
                    warn!("enforcement in the kernel is not tried again: {why}");
                    state.again = None;
                }
                state.why_not = why;
                false
            }
        }
    }

    /// Returns when the programs are loaded.
    pub async fn loaded(&self) {
        // An error cannot be: the sender is in `self`.
        let _ = self.inner.loaded.subscribe().wait_for(|loaded| *loaded).await;
    }
}
