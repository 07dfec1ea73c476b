//! The files that the machine boots with: a first file system with the modules to mount the
//! machine's files, and the script that runs the tests.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{
    ChosenTests, GuestRoot,
    kernel::{DebianKernel, MODULES},
};
use crate::{
    bench,
    process::{self, quietly, target_dir},
    programs::Program,
    suite::{SKIPPED, SOAK, TestProgram},
};

const INIT: &str = include_str!("init.sh");
const GUEST: &str = include_str!("guest.sh");

/// The same files of the machine with systemd, and the unit that runs the script.
const SYSTEMD_INIT: &str = include_str!("systemd-init.sh");
const SYSTEMD_GUEST: &str = include_str!("systemd-guest.sh");
const SYSTEMD_UNIT: &str = include_str!("systemd-tests.service");

/// The last line that the machine prints.
pub(super) const FINISHED: &str = "the tests of the virtual machine have ended";
/// What the machine prints before that line if the benchmarks failed, or a verdict of theirs did.
pub(super) const BENCH_FAILED: &str = "the benchmarks failed";

/// The variable that multiplies the patience of the tests.
const PATIENCE: &str = "BMPD_PATIENCE";

/// The variable that names the folder with the packages of bmpd.
const PACKAGES: &str = "BMPD_PACKAGES";

/// The variables that are passed on to the machine.
const PASSED_ON: [&str; 3] = ["RUST_BACKTRACE", "RUST_TEST_THREADS", "PROPTEST_CASES"];

/// How many tests of a program run at a time, if nothing else is said. The harness takes the
/// number of processors, of which the machine has one, and most tests wait most of the time.
const AT_ONCE: &str = "RUST_TEST_THREADS=2";

/// The folder for files that the machine writes, as the machine sees it.
const SHARE: &str = "/run/vm";

/// What a machine does before it switches itself off.
pub(super) enum GuestWork<'a> {
    /// It runs tests. They wait so many times longer than on a fast host.
    Tests { programs: &'a [TestProgram], choice: &'a ChosenTests<'a>, patience: u32 },
    /// It runs the benchmarks of a folder, with these arguments.
    Bench { folder: &'a Path, arguments: &'a [String] },
}

/// The files of one run.
pub(super) struct GuestFiles {
    folder: PathBuf,
    disk: Option<PathBuf>,
}

impl GuestFiles {
    /// Writes the files below `folder`.
    pub(super) fn prepare(folder: &Path, kernel: &DebianKernel, work: &GuestWork<'_>) -> anyhow::Result<Self> {
        let guest = Self { folder: folder.join("run"), disk: None };
        let (root, script) = match *work {
            GuestWork::Bench { folder, arguments } => (GuestRoot::HostFiles, bench_script(kernel, folder, arguments)),
            GuestWork::Tests { programs, choice, patience } => {
                let script = match choice.root {
                    GuestRoot::HostFiles => script(kernel, programs, choice, patience),
                    GuestRoot::Systemd => systemd_script(programs, choice, patience)?,
                };
                (choice.root, script)
            }
        };
        guest.write(kernel, root, &script).context("cannot prepare the machine")?;
        Ok(guest)
    }

    fn write(&self, kernel: &DebianKernel, root: GuestRoot, script: &str) -> anyhow::Result<()> {
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
        let init = match root {
            GuestRoot::HostFiles => INIT,
            GuestRoot::Systemd => {
                self.write_systemd(kernel)?;
                SYSTEMD_INIT
            }
        };
        fs::write(first.join("init"), init)?;
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

    /// Writes what the machine with systemd reads at each boot.
    fn write_systemd(&self, kernel: &DebianKernel) -> anyhow::Result<()> {
        // The paths of programs and their sources are the same in the machine.
        let same = |folder: &Path| (folder.to_owned(), folder.to_owned());
        let modules = (kernel.modules(), PathBuf::from("/usr/lib/modules"));
        let folders = [same(&process::root()), same(&target_dir()?), modules];
        let mut lines = String::new();
        for (from, to) in folders {
            let _ = writeln!(lines, "{} {}", from.display(), to.display());
        }
        let write = |name: &str, content: &str| fs::write(self.share().join(name), content);
        write("folders", &lines)?;
        write("bmpd-tests.service", SYSTEMD_UNIT)?;
        // The numbers of the last test that has begun, and of the last that has ended.
        write("begun", "0")?;
        write("ended", "0")?;
        Ok(())
    }

    /// Returns the archive with the first file system.
    pub(super) fn first(&self) -> PathBuf {
        self.folder.join("first.cpio")
    }

    /// Gives the machine a disk of its own, a copy of the file `disk`.
    pub(super) fn copy_disk(&mut self, disk: &Path) -> anyhow::Result<()> {
        let copy = self.folder.join("root.ext4");
        // Blocks without content take no room.
        quietly(Program::Cp.command().args(["--sparse=always", "--reflink=auto"]).arg(disk).arg(&copy))?;
        self.disk = Some(copy);
        Ok(())
    }

    /// Returns the file of the machine's disk, if it has one.
    pub(super) fn disk(&self) -> Option<&Path> {
        self.disk.as_deref()
    }

    /// Returns the file that is there while a test restarts the machine.
    pub(super) fn restarting(&self) -> PathBuf {
        self.share().join("restarting")
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

/// Returns the script that the machine begins with.
fn beginning(kernel: &DebianKernel) -> String {
    format!("{GUEST}mount --bind {} /lib/modules\n", quoted(&kernel.modules()))
}

/// Returns the script that runs benchmarks. The machine ends without its last line if they fail.
fn bench_script(kernel: &DebianKernel, folder: &Path, arguments: &[String]) -> String {
    let bench = folder.join("bench");
    let mut command = format!("run benchmarks {}", quoted(&bench));
    for argument in arguments {
        let _ = write!(command, " {}", quoted(Path::new(argument)));
    }
    format!(
        "{}cd {}\nexport {}={}\n{command} || echo {}\nfinish {}\n",
        beginning(kernel),
        quoted(&process::root()),
        bench::BIN_DIR,
        quoted(folder),
        quoted(Path::new(BENCH_FAILED)),
        quoted(Path::new(FINISHED)),
    )
}

fn script(kernel: &DebianKernel, programs: &[TestProgram], choice: &ChosenTests<'_>, patience: u32) -> String {
    let mut script = beginning(kernel);
    let mut line = |text: String| {
        let _ = writeln!(script, "{text}");
    };
    line(environment(choice, patience));
    for program in programs {
        let mut command = format!("run {} {}", quoted(Path::new(&program.name)), quoted(&program.file));
        if program.needs_machine() {
            // The machine has what other hosts ignore these tests for.
            command.push_str(" --include-ignored");
        }
        for filter in program.filters(choice.filters) {
            let _ = write!(command, " {}", quoted(Path::new(filter)));
        }
        line(command);
    }
    line(format!("finish {}", quoted(Path::new(FINISHED))));
    script
}

/// Returns the script of the machine with systemd. It runs each test apart, because a test may
/// restart the machine.
fn systemd_script(programs: &[TestProgram], choice: &ChosenTests<'_>, patience: u32) -> anyhow::Result<String> {
    let mut script = format!("{SYSTEMD_GUEST}{}\n", environment(choice, patience));
    let packages = super::packages_folder()?;
    let _ = writeln!(script, "export {PACKAGES}={}", quoted(&packages));
    for program in programs {
        let (name, file) = (quoted(Path::new(&program.name)), quoted(&program.file));
        for test in program.tests(choice.filters)? {
            let _ = writeln!(script, "run {name} {file} {}", quoted(Path::new(&test)));
        }
    }
    let _ = writeln!(script, "finish {}", quoted(Path::new(FINISHED)));
    Ok(script)
}

/// Returns the lines that set the folder and the variables of the tests.
fn environment(choice: &ChosenTests<'_>, patience: u32) -> String {
    let root = quoted(&process::root());
    let mut lines = format!("cd {root}\nexport {SKIPPED}={SHARE}/skipped {PATIENCE}={patience} {AT_ONCE}");
    if choice.soak {
        let _ = write!(lines, " {SOAK}=1");
    }
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            let _ = write!(lines, " {name}={}", quoted(Path::new(&value)));
        }
    }
    lines
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
