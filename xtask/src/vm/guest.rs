//! The files that the machine boots with: a first file system with the modules to mount the host's
//! files, and the script that runs the tests.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{
    ChosenTests,
    kernel::{DebianKernel, MODULES},
};
use crate::{
    process::{self, quietly},
    programs::Program,
    suite::{SKIPPED, SOAK, TestProgram},
};

const INIT: &str = include_str!("init.sh");
const GUEST: &str = include_str!("guest.sh");

/// The last line that the machine prints.
pub(super) const FINISHED: &str = "the tests of the virtual machine have ended";

/// The variable that multiplies the patience of the tests.
const PATIENCE: &str = "BMPD_PATIENCE";

/// The variables that are passed on to the machine.
const PASSED_ON: [&str; 3] = ["RUST_BACKTRACE", "RUST_TEST_THREADS", "PROPTEST_CASES"];

/// The folder for files that the machine writes, as the machine sees it.
const SHARE: &str = "/run/vm";

/// The files of one run.
pub(super) struct GuestFiles {
    folder: PathBuf,
}

impl GuestFiles {
    /// Writes the files below `folder`.
    pub(super) fn prepare(
        folder: &Path,
        kernel: &DebianKernel,
        programs: &[TestProgram],
        choice: &ChosenTests<'_>,
        patience: u32,
    ) -> anyhow::Result<Self> {
        let guest = Self { folder: folder.join("run") };
        guest.write(kernel, &script(kernel, programs, choice, patience)).context("cannot prepare the machine")?;
        Ok(guest)
    }

    fn write(&self, kernel: &DebianKernel, script: &str) -> anyhow::Result<()> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        fs::create_dir_all(self.share())?;
        fs::write(self.share().join("guest.sh"), script)?;
        fs::write(self.share().join("skipped"), "")?;

        let first = self.folder.join("first");
        for name in ["bin", "dev", "host", "modules", "root", "written"] {
            fs::create_dir_all(first.join(name))?;
        }
        fs::copy(kernel.busybox(), first.join("bin/busybox"))?;
        fs::write(first.join("init"), INIT)?;
        fs::set_permissions(first.join("init"), fs::Permissions::from_mode(0o755))?;
        for (number, module) in kernel.modules_for(&MODULES)?.iter().enumerate() {
            // The machine loads them in the order of their names.
            fs::copy(module, first.join(format!("modules/{number:02}.ko")))?;
        }
        let archive = r#"find . | "$0" cpio -o -H newc >"$1""#;
        let mut cpio = Program::Sh.command();
        cpio.current_dir(&first).args(["-c", archive]).arg(kernel.busybox()).arg(self.first());
        quietly(&mut cpio)
    }

    /// Returns the archive with the first file system.
    pub(super) fn first(&self) -> PathBuf {
        self.folder.join("first.cpio")
    }

    /// Returns the folder for files that the machine writes.
    pub(super) fn share(&self) -> PathBuf {
        self.folder.join("share")
    }

    /// Returns the file with the output of its kernel.
    pub(super) fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// Returns the tests that skipped themselves, a line each.
    pub(super) fn skipped(&self) -> String {
        fs::read_to_string(self.share().join("skipped")).unwrap_or_default()
    }
}

fn script(kernel: &DebianKernel, programs: &[TestProgram], choice: &ChosenTests<'_>, patience: u32) -> String {
    let mut script = GUEST.to_owned();
    let mut line = |text: String| {
        let _ = writeln!(script, "{text}");
    };
    line(format!("mount --bind {} /lib/modules", quoted(&kernel.modules())));
    line(format!("cd {}", quoted(&process::root())));
    line(format!("export {SKIPPED}={SHARE}/skipped {PATIENCE}={patience}"));
    if choice.soak {
        line(format!("export {SOAK}=1"));
    }
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            line(format!("export {name}={}", quoted(Path::new(&value))));
        }
    }
    for program in programs {
        let mut command = format!("run {} {}", quoted(Path::new(&program.name)), quoted(&program.file));
        if program.needs_machine() {
            // The machine has what other hosts ignore these tests for.
            command.push_str(" --include-ignored");
        }
        for filter in choice.filters {
            let _ = write!(command, " {}", quoted(Path::new(filter)));
        }
        line(command);
    }
    line(format!("finish {}", quoted(Path::new(FINISHED))));
    script
}

/// Returns a path as one word of a shell.
fn quoted(word: &Path) -> String {
    format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_path_is_one_word_of_a_shell() {
        let word = r#"it's a "folder" of $HOME\"#;
        let said = process::text(Program::Sh.command().args(["-c", &format!("printf %s {}", quoted(Path::new(word)))]));
        assert_eq!(said.unwrap(), word);
    }
}
