//! The test programs of the workspace and their results, wherever they run.

mod programs;
mod summary;

use std::process::ExitCode;

pub(crate) use self::{
    programs::{TestProgram, build},
    summary::TestSummary,
};
use crate::watch::RunEnd;

/// The prefix of the test programs whose tests need the virtual machine.
pub(crate) const VM_PREFIX: &str = "vm_";

/// The prefix of the test programs whose tests need the virtual machine with systemd.
pub(crate) const SYSTEMD_PREFIX: &str = "systemd_";

/// The variable that asks the tests for their long campaigns.
pub(crate) const SOAK: &str = "BMPD_SOAK";

/// The variable that names a file. A test that cannot run on this host appends a line to it, `NAME:
/// REASON`, and returns. The test harness knows no skipping at run time and counts it as passed.
pub(crate) const SKIPPED: &str = "BMPD_SKIPPED";

/// Returns success if everything ended with success and the summary is good.
pub(crate) fn exit_code(ends: &[RunEnd], summary: &TestSummary) -> ExitCode {
    let well = ends.iter().all(|end| *end == RunEnd::Success) && summary.is_good();
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
