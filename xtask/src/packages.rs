//! Debian packages: which are missing, and installing them without starting any service of theirs.

use std::{collections::HashSet, fs, path::Path, process::Command};

use crate::{
    process::{as_root, quietly, say, text},
    programs::{Program, Use},
    progress::note,
};

/// Where Debian's packages ask whether they may start a service (invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// What is written there: 101 means that the action is forbidden. The comment tells our file from the administrator's own.
const FORBID: &str = "#!/bin/sh\n# bmpd: cargo xtask is installing packages and starts no services.\nexit 101\n";

/// Whether this host installs packages as Debian does, and what it calls itself.
pub(crate) fn host() -> (bool, String) {
    let name = release("PRETTY_NAME").unwrap_or_else(|| "an unknown system".to_owned());
    (release("ID").is_some_and(|id| id == "debian"), name)
}

/// The codename of this host's release: `bookworm`.
pub(crate) fn codename() -> Option<String> {
    release("VERSION_CODENAME")
}

/// A field of os-release(5).
fn release(name: &str) -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.map(|value| value.trim_matches('"').to_owned())
}

/// Where this host gets Debian's packages from.
pub(crate) struct Archives {
    /// The archive itself.
    pub(crate) debian: String,
    security: String,
}

impl Archives {
    /// Those that its apt uses; Debian's own where it uses none.
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

    /// A file of sources (sources.list(5)) of a suite. A release has updates and a security archive; testing has neither.
    pub(crate) fn sources(&self, suite: &str) -> String {
        let Self { debian, security } = self;
        let main = format!("deb {debian} {suite} main\n");
        if suite == "testing" {
            return main;
        }
        format!("{main}deb {debian} {suite}-updates main\ndeb {security} {suite}-security main\n")
    }
}

/// Those of `wanted` that are not wholly installed.
pub(crate) fn missing(wanted: &[&str]) -> Vec<String> {
    // It fails when one package is unknown, and still prints the others.
    let output =
        Program::DpkgQuery.command().args(["-W", "-f", "${db:Status-Abbrev}${Package}\n"]).args(wanted).output();
    let installed = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let installed: HashSet<&str> = installed.lines().filter_map(|line| line.strip_prefix("ii ")).collect();
    wanted.iter().filter(|name| !installed.contains(*name)).map(|name| (*name).to_owned()).collect()
}

/// Installs what is missing of the packages of all programs that are started for `uses`, and says so first.
///
/// # Errors
///
/// The installation failed.
pub(crate) fn require(uses: &[Use]) -> anyhow::Result<()> {
    let (debian, name) = host();
    if debian {
        return require_named(&Use::packages(uses));
    }
    // Other systems name and split packages otherwise.
    let absent: Vec<_> = Use::programs(uses)
        .filter(|program| !program.packages().is_empty() && program.find().is_none())
        .map(|program| format!("{} (Debian: {})", program.name(), program.packages().join(" ")))
        .collect();
    if !absent.is_empty() {
        note(format_args!("this is {name}; these programs are missing, install them: {}", absent.join(", ")));
    }
    Ok(())
}

/// Installs those of the Debian packages `wanted` that are missing, and says so first.
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

/// Installs `packages`, finishing first what an earlier installation left half done. No service of theirs is started, now or at
/// the next boot.
pub(crate) fn install(packages: &[String]) -> anyhow::Result<()> {
    let _quiet = NoServices::begin()?;
    quietly(as_root(Program::Dpkg).args(["--configure", "-a"]))?;
    quietly(apt().args(["update", "-qq"]))?;
    quietly(apt().args(["install", "--yes", "-qq", "--no-install-recommends"]).args(packages))?;
    for (name, service) in [("frr", "frr"), ("gobgpd", "gobgpd"), ("bird2", "bird")] {
        if packages.iter().any(|installed| installed == name) && Path::new("/run/systemd/system").is_dir() {
            quietly(as_root(Program::Systemctl).args(["disable", "--quiet", &format!("{service}.service")]))?;
        }
    }
    Ok(())
}

/// apt-get that asks nothing, waits for another apt and tries a download again.
pub(crate) fn apt() -> Command {
    let mut command = as_root(Program::Env);
    command.args(["DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=l", Program::AptGet.file()]);
    command.args(["-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0"]);
    command
}

/// While it lives, packages may not start services. An administrator's own policy stays as it is.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin() -> anyhow::Result<Self> {
        // Ours from an installation that was interrupted counts as ours, and goes at the end of this one.
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
            say(format_args!("{POLICY} could not be removed: while it is there, no package starts a service"));
        }
    }
}
