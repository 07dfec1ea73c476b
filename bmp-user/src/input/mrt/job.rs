//! What the configuration says of a replay.

use std::path::PathBuf;

use crate::config::ReplayPace;

/// One `mrt-replay NAME` of the configuration that has a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayJob {
    /// NAME.
    pub name: String,
    /// `file PATH`. The first bytes of the file tell whether it is plain, gzip or bzip2.
    pub file: PathBuf,
    /// `pace …`.
    pub pace: ReplayPace,
    /// `loop`: start again at the end of the file.
    pub looped: bool,
}
