//! Where the programs of FRR, BIRD and GoBGP are: on this host, or in the root of another Debian
//! that `cargo xtask peers` makes.

use std::{
    ffi::CString,
    fs, io,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{chdir, chroot},
};
use programs::{Built, Program};

use crate::process::INSTALL;

/// Names the variable with the root of the other Debian.
const ROOT: &str = "BMPD_PEERS";

/// Names the variable with the package of BIRD in that root: `bird3`, or `bird2`.
const BIRD: &str = "BMPD_BIRD";

/// A release of a daemon: 10.7 of FRR 10.7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DaemonRelease(pub u32, pub u32);

/// Returns a command that starts a program of FRR, BIRD or GoBGP.
///
/// A program of another Debian has that Debian's files and libraries, and this host's processes,
/// devices and temporary files. So configurations and sockets of a test keep their paths.
///
/// # Panics
/// If the variable names a root without the program.
pub fn daemon(program: Program) -> Command {
    let Some(root) = std::env::var_os(ROOT).map(PathBuf::from) else { return program.command() };
    let bird = std::env::var(BIRD).unwrap_or_else(|_| "bird3".to_owned());
    let path = path_in_root(program, &bird);
    assert!(
        root.join(path.trim_start_matches('/')).is_file(),
        "{ROOT} is {}, where there is no {path}: `cargo xtask peers` makes such a root",
        root.display()
    );
    in_root(&root, Built::at(path).command())
}

/// Returns the release of a daemon that [`daemon`] starts.
///
/// # Panics
/// If the program is not there or prints no version.
pub fn release(program: Program) -> DaemonRelease {
    let output = daemon(program).arg("--version").output();
    let output = output.unwrap_or_else(|e| panic!("cannot start {}: {e}{}", program.name(), INSTALL));
    let shown = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    parse(&shown).unwrap_or_else(|| panic!("{} prints no version: {shown}", program.name()))
}

fn parse(shown: &str) -> Option<DaemonRelease> {
    let version = shown.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some(DaemonRelease(numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Returns the path of a program in the root of another Debian.
fn path_in_root(program: Program, bird: &str) -> String {
    match program {
        // Debian's packages of BIRD exclude each other, so each has a folder of its own.
        Program::Bird => format!("/opt/{bird}/usr/sbin/bird"),
        Program::Birdc => format!("/opt/{bird}/usr/sbin/birdc"),
        other if other.name().starts_with('/') => other.name().to_owned(),
        other => format!("/usr/bin/{}", other.name()),
    }
}

/// Makes `command` run in `root`. The mounts are in a namespace of its own, and end with it.
fn in_root(root: &Path, mut command: Command) -> Command {
    let temporary = std::env::temp_dir();
    let folders = [Path::new("/dev"), Path::new("/proc"), Path::new("/sys"), &temporary];
    let mounts = folders.map(|folder| {
        let at = root.join(folder.strip_prefix("/").unwrap_or(folder));
        fs::create_dir_all(&at).unwrap_or_else(|e| panic!("cannot make {}: {e}", at.display()));
        (c_path(folder), c_path(&at))
    });
    let root = c_path(root);
    let nothing: Option<&str> = None;
    // SAFETY: only system calls run between fork and exec, on strings of the closure.
    unsafe {
        command.pre_exec(move || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(nothing, c"/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)?;
            for (from, at) in &mounts {
                mount(Some(from.as_c_str()), at.as_c_str(), nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing)?;
            }
            chroot(root.as_c_str())?;
            chdir(c"/")?;
            io::Result::Ok(())
        });
    }
    command
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path holds no zero byte")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::answer;

    #[test]
    fn a_release_is_read_from_what_a_daemon_prints() {
        for (shown, wanted) in [
            ("bgpd version 10.7.1\nCopyright 1996-2005", DaemonRelease(10, 7)),
            ("bgpd version 8.4.4", DaemonRelease(8, 4)),
            ("BIRD version 2.0.12", DaemonRelease(2, 0)),
            ("BIRD version 3.4.0\n", DaemonRelease(3, 4)),
            ("gobgpd version 4.8.0", DaemonRelease(4, 8)),
        ] {
            assert_eq!(parse(shown), Some(wanted), "{shown}");
        }
        assert_eq!(parse("BIRD"), None);
        assert!(DaemonRelease(10, 0) > DaemonRelease(8, 4) && DaemonRelease(2, 14) > DaemonRelease(2, 0));
    }

    #[test]
    fn both_birds_of_another_debian_have_a_place() {
        assert_eq!(path_in_root(Program::Bird, "bird3"), "/opt/bird3/usr/sbin/bird");
        assert_eq!(path_in_root(Program::Birdc, "bird2"), "/opt/bird2/usr/sbin/birdc");
        assert_eq!(path_in_root(Program::Bgpd, "bird3"), "/usr/lib/frr/bgpd");
        assert_eq!(path_in_root(Program::Gobgp, "bird3"), "/usr/bin/gobgp");
    }

    #[test]
    fn a_program_in_another_root_sees_that_root_and_the_temporary_files_of_this_host() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("said");
        fs::write(&file, "by the test").unwrap();
        let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
        let before = mounts();
        // The root of this host has the program.
        let mut command = Program::Sh.command();
        command.args(["-c", &format!("cat {}", file.display())]);
        assert_eq!(answer(&mut in_root(Path::new("/"), command)), "by the test");
        assert_eq!(mounts(), before, "the mounts are the program's own");
        // A root without programs starts none.
        let mut command = Program::Sh.command();
        command.args(["-c", "exit 0"]);
        assert!(in_root(&folder.path().join("root"), command).status().is_err());
    }
}
