//! What the machine boots into: a first file system with the modules it needs to see the host's files, and a script to run there.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{Choice, kernel::Kernel};
use crate::{
    process::{self, quietly},
    programs::Program,
    test::{SKIPPED, SOAK, TestProgram},
};

const INIT: &str = include_str!("init.sh");
const GUEST: &str = include_str!("guest.sh");

/// The line that the machine says last.
pub(super) const FINISHED: &str = "the tests of the virtual machine have ended";

/// By how much the tests' patience is multiplied.
const PATIENCE: &str = "BMPD_PATIENCE";

/// Passed on as they are here.
const PASSED_ON: [&str; 3] = ["RUST_BACKTRACE", "RUST_TEST_THREADS", "PROPTEST_CASES"];

/// With these loaded, the host's files can be mounted and output goes to the host. All others are loaded when they are asked for.
pub(super) const MODULES: [&str; 5] = ["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"];

/// The folder that the machine writes into, as it sees it.
const SHARE: &str = "/run/vm";

/// The files of one run.
pub(super) struct Guest {
    folder: PathBuf,
}

impl Guest {
    /// Writes them below `folder`.
    pub(super) fn prepare(
        folder: &Path,
        kernel: &Kernel,
        programs: &[TestProgram],
        choice: &Choice<'_>,
        patience: u32,
    ) -> anyhow::Result<Self> {
        let guest = Self { folder: folder.join("run") };
        guest.write(kernel, &script(kernel, programs, choice, patience)).context("cannot prepare the machine")?;
        Ok(guest)
    }

    fn write(&self, kernel: &Kernel, script: &str) -> anyhow::Result<()> {
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
            // Loaded in the order of their names.
            fs::copy(module, first.join(format!("modules/{number:02}.ko")))?;
        }
        let archive = r#"find . | "$0" cpio -o -H newc >"$1""#;
        let mut cpio = Program::Sh.command();
        cpio.current_dir(&first).args(["-c", archive]).arg(kernel.busybox()).arg(self.first());
        quietly(&mut cpio)
    }

    /// The first file system: an archive.
    pub(super) fn first(&self) -> PathBuf {
        self.folder.join("first.cpio")
    }

    /// The folder that the machine writes into.
    pub(super) fn share(&self) -> PathBuf {
        self.folder.join("share")
    }

    /// What its kernel says.
    pub(super) fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// The tests that found out while they ran that they cannot, one a line.
    pub(super) fn skipped(&self) -> String {
        fs::read_to_string(self.share().join("skipped")).unwrap_or_default()
    }
}

fn script(kernel: &Kernel, programs: &[TestProgram], choice: &Choice<'_>, patience: u32) -> String {
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
            // Here is what they are ignored for the lack of.
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

/// One word of a shell.
fn quoted(word: &Path) -> String {
    format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_shell_is_one_word_whatever_is_in_it() {
        let word = r#"it's a "folder" of $HOME\"#;
        let said = process::text(Program::Sh.command().args(["-c", &format!("printf %s {}", quoted(Path::new(word)))]));
        assert_eq!(said.unwrap(), word);
    }
}
