//! Debian packages: finds the missing ones and installs them, without starting their services.

use std::{
    collections::HashSet,
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    process::{as_root, quietly, say, text},
    programs::{Program, Use},
    progress::note,
};

/// The program that Debian's packages ask before they start a service (invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// What we write there. Status 101 forbids the action. The comment tells our file from the
/// administrator's.
const FORBID: &str = "#!/bin/sh\n# bmpd: cargo xtask is installing packages and starts no services.\nexit 101\n";

/// Returns whether this host is a Debian, and the name of its system.
pub(crate) fn host() -> (bool, String) {
    let name = release("PRETTY_NAME").unwrap_or_else(|| "an unknown system".to_owned());
    (release("ID").is_some_and(|id| id == "debian"), name)
}

/// The codename of this host's release: `bookworm`.
pub(crate) fn codename() -> Option<String> {
    release("VERSION_CODENAME")
}

/// Returns a field of os-release(5).
fn release(name: &str) -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.map(|value| value.trim_matches('"').to_owned())
}

/// The archives that this host gets Debian's packages from.
pub(crate) struct DebianArchives {
    /// The archive itself.
    pub(crate) debian: String,
    security: String,
}

impl DebianArchives {
    /// Asks apt for its archives. Without an answer they are Debian's own.
    pub(crate) fn of_host() -> anyhow::Result<Self> {
        let format = ["--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"];
        let targets = text(Program::AptGet.command().arg("indextargets").args(format))?;
        let find = |label: &str, default: &str| {
            let found = targets.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(' '));
            found.unwrap_or(default).trim_end_matches('/').to_owned()
        };
        Ok(Self {
            debian: find("Debian", "http://deb.debian.org/debian"),
            security: find("Debian-Security", "http://deb.debian.org/debian-security"),
        })
    }

    /// Returns the sources.list(5) of a suite. Testing has neither updates nor a security archive.
    pub(crate) fn sources(&self, suite: &str) -> String {
        let Self { debian, security } = self;
        let main = format!("deb {debian} {suite} main\n");
        if suite == "testing" {
            return main;
        }
        format!("{main}deb {debian} {suite}-updates main\ndeb {security} {suite}-security main\n")
    }
}

/// Returns the packages of `wanted` that are not, or only half, installed.
pub(crate) fn missing(wanted: &[&str]) -> Vec<String> {
    // With an unknown package it fails, and prints the known ones all the same.
    let output =
        Program::DpkgQuery.command().args(["-W", "-f", "${db:Status-Abbrev}${Package}\n"]).args(wanted).output();
    let installed = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let installed: HashSet<&str> = installed.lines().filter_map(|line| line.strip_prefix("ii ")).collect();
    wanted.iter().filter(|name| !installed.contains(*name)).map(|name| (*name).to_owned()).collect()
}

/// Installs the missing packages of all programs for `uses`, and prints their names first.
///
/// # Errors
///
/// The installation failed.
pub(crate) fn require(uses: &[Use]) -> anyhow::Result<()> {
    let (debian, name) = host();
    if debian {
        return require_named(&Use::packages(uses));
    }
    // Other systems have other names for packages.
    let absent: Vec<_> = Use::programs(uses)
        .filter(|program| !program.packages().is_empty() && program.find().is_none())
        .map(|program| format!("{} (Debian: {})", program.name(), program.packages().join(" ")))
        .collect();
    if !absent.is_empty() {
        note(format_args!("this is {name}; these programs are missing, install them: {}", absent.join(", ")));
    }
    Ok(())
}

/// Installs the missing ones of the Debian packages `wanted`, and prints their names first.
///
/// # Errors
///
/// The installation failed.
pub(crate) fn require_named(wanted: &[&str]) -> anyhow::Result<()> {
    let missing = missing(wanted);
    if missing.is_empty() {
        return Ok(());
    }
    note(format_args!("installing {} Debian packages: {}", missing.len(), missing.join(" ")));
    install(&missing)
}

/// Installs `packages`, after what an earlier installation left half done. None of their services
/// starts, now or at the next boot.
pub(crate) fn install(packages: &[String]) -> anyhow::Result<()> {
    let _quiet = NoServices::begin()?;
    patiently(dpkg().args(["--configure", "-a"]), LOCK_PATIENCE)?;
    patiently(apt().args(["update", "-qq"]), LOCK_PATIENCE)?;
    patiently(apt().args(["install", "--yes", "-qq", "--no-install-recommends"]).args(packages), LOCK_PATIENCE)?;
    for (name, service) in [("frr", "frr"), ("gobgpd", "gobgpd"), ("bird2", "bird")] {
        if packages.iter().any(|installed| installed == name) && Path::new("/run/systemd/system").is_dir() {
            quietly(as_root(Program::Systemctl).args(["disable", "--quiet", &format!("{service}.service")]))?;
        }
    }
    Ok(())
}

/// Returns an apt-get that asks nothing, waits for dpkg's lock and repeats failed downloads.
pub(crate) fn apt() -> Command {
    let mut command = as_root(Program::Env);
    command.args(["LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=l", Program::AptGet.file()]);
    command.args(["-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0"]);
    command
}

/// Returns a dpkg that asks nothing, in the language that [`is_lock`] reads.
fn dpkg() -> Command {
    let mut command = as_root(Program::Env);
    command.args(["LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", Program::Dpkg.file()]);
    command
}

/// How long another process may keep the package system to itself. An installation takes minutes.
const LOCK_PATIENCE: Duration = Duration::from_secs(600);

/// After so long, a lock is asked for again.
const LOCK_PAUSE: Duration = Duration::from_secs(1);

/// Runs `command`, again and again while another process holds a lock of dpkg's or apt's, for at
/// most `patience`. apt waits by itself for dpkg's lock alone (`DPkg::Lock::Timeout`), dpkg for
/// none.
///
/// # Errors
///
/// The command failed for another reason, or the lock was held for longer.
fn patiently(command: &mut Command, patience: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut told = false;
    loop {
        let Err(error) = quietly(command) else { return Ok(()) };
        if begun.elapsed() >= patience || !is_lock(&error.to_string()) {
            return Err(error);
        }
        if !told {
            note("another process is installing packages: waiting for it to end");
            told = true;
        }
        thread::sleep(LOCK_PAUSE.min(patience));
    }
}

/// Returns whether an error of dpkg or apt says that another process holds its lock: `dpkg frontend
/// lock was locked by another process with pid 7` (Debian 12), `dpkg frontend lock was locked by
/// /usr/bin/apt-get process with pid 7` (Debian 13), `Could not get lock /var/lib/apt/lists/lock`.
fn is_lock(error: &str) -> bool {
    error.contains(" lock was locked by ") || error.contains("Could not get lock")
}

/// Forbids packages to start services while it exists. An administrator's own policy stays.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin() -> anyhow::Result<Self> {
        // A file that an interrupted installation left is ours too, and goes with this one.
        let ours = fs::read_to_string(POLICY).map_or(true, |text| text == FORBID);
        if ours {
            let draft = std::env::temp_dir().join(format!("bmpd-policy-{}", std::process::id()));
            fs::write(&draft, FORBID)?;
            let done = quietly(as_root(Program::Install).args(["-m", "755"]).arg(&draft).arg(POLICY));
            fs::remove_file(&draft)?;
            done?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours && quietly(as_root(Program::Rm).arg(POLICY)).is_err() {
            say(format_args!("cannot remove {POLICY}: while it is there, no package starts a service"));
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::fcntl::{FcntlArg, fcntl};

    use super::*;

    /// A folder of dpkg's own files without a package, and its lock, held by this process.
    fn locked_admin_folder(name: &str) -> (std::path::PathBuf, fs::File) {
        let folder = std::env::temp_dir().join(format!("bmpd-dpkg-{name}-{}", std::process::id()));
        for below in ["info", "updates", "triggers"] {
            fs::create_dir_all(folder.join(below)).unwrap();
        }
        fs::write(folder.join("status"), "").unwrap();
        let lock = fs::File::create(folder.join("lock-frontend")).unwrap();
        let whole = nix::libc::flock {
            l_type: nix::libc::F_WRLCK as _,
            l_whence: nix::libc::SEEK_SET as _,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&lock, FcntlArg::F_SETLK(&whole)).unwrap();
        (folder, lock)
    }

    fn configure(folder: &Path) -> Command {
        let mut command = dpkg();
        command.arg(format!("--admindir={}", folder.display())).args(["--configure", "-a"]);
        command
    }

    #[test]
    fn an_installation_waits_while_another_process_holds_the_lock_of_dpkg() {
        // dpkg configures for root alone.
        if Program::Dpkg.find().is_none() || !crate::process::is_root() {
            return;
        }
        let (folder, lock) = locked_admin_folder("waits");
        let error = patiently(&mut configure(&folder), Duration::ZERO).unwrap_err().to_string();
        assert!(is_lock(&error), "{error}");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| patiently(&mut configure(&folder), Duration::from_secs(60)));
            thread::sleep(Duration::from_millis(300));
            assert!(!waiting.is_finished());
            drop(lock);
            waiting.join().unwrap().unwrap();
        });
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn only_a_lock_is_waited_for() {
        for lock in [
            "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 12 (apt-get)",
            "dpkg: error: dpkg frontend lock was locked by another process with pid 7",
            "dpkg: error: dpkg frontend lock was locked by /usr/bin/apt-get process with pid 7",
        ] {
            assert!(is_lock(lock), "{lock}");
        }
        assert!(!is_lock("E: Unable to locate package frr"));
        let begun = Instant::now();
        let failing = || {
            let mut command = Program::Sh.command();
            command.args(["-c", "echo E: Unable to locate package frr >&2; exit 100"]);
            command
        };
        assert!(patiently(&mut failing(), Duration::from_secs(60)).is_err());
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
