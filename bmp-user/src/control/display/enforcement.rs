//! Who holds sessions to their pins, and whether that was lost.

use serde::Serialize;

use super::super::Context;
use crate::pin::Enforcement;

/// What is lost in the kernel now. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Lost {
    /// Since it was found.
    pub(super) for_seconds: u64,
    /// What is lost, and why it is not mended yet.
    pub(super) why: String,
}

/// Who enforces, as it is shown of a session.
pub(super) struct Enforcing {
    /// `kernel`, `cgroup`, `socket` or `none`.
    pub(super) word: &'static str,
    pub(super) why: Option<String>,
    pub(super) lost: Option<Lost>,
    pub(super) losses: u64,
}

impl Enforcing {
    /// Of a session for which the kernel enforces something, or nothing where it is not `pinned`.
    pub(super) fn of(context: &Context, pinned: bool) -> Self {
        let datapath = context.pins.datapath();
        let enforcement = datapath.enforcement_now();
        let (word, why) = match &enforcement {
            _ if !pinned => ("none", None),
            Enforcement::Kernel => (enforcement.as_str(), None),
            Enforcement::Cgroup { why } | Enforcement::Socket { why } => (enforcement.as_str(), Some(why.clone())),
        };
        let lost = datapath.loss().map(|loss| Lost {
            for_seconds: loss.since.elapsed().as_secs(),
            why: match loss.not_mended {
                Some(not_mended) => format!("{}; not mended yet: {not_mended}", loss.why),
                None => loss.why,
            },
        });
        Self { word, why, lost, losses: datapath.losses() }
    }
}

impl Context {
    /// Looks at the kernel, so that what `display` says is so; and says what is lost, if anything is.
    pub(in crate::control) fn look(&self) -> Option<String> {
        let loss = self.pins.datapath().look()?;
        Some(match loss.enforced {
            true => format!("what the kernel enforces would not outlive bmpd, or not as it should: {}", loss.why),
            false => format!("the kernel does not enforce: {}", loss.why),
        })
    }
}
