//! A bare Debian in a folder: made once for each suite, and read-only from then on.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    packages,
    process::{quietly, text},
    programs::Program,
    progress::note,
};

/// The packages that the README assumes: git for the clone, a C compiler to link with, certificates
/// to fetch crates.
const ASSUMED: [&str; 4] = ["ca-certificates", "gcc", "git", "libc6-dev"];

/// A Debian that bmpd supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BareSuite {
    /// Debian 12
    Bookworm,
    /// Debian 13
    Trixie,
}

impl BareSuite {
    pub(crate) const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    /// Returns this host's, or else the newest.
    pub(crate) fn of_host() -> Self {
        let codename = packages::codename();
        Self::ALL.into_iter().find(|suite| codename.as_deref() == Some(suite.name())).unwrap_or(Self::Trixie)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

impl fmt::Display for BareSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Returns the root of `suite`, and makes it if it is missing. To have it made anew, remove it.
pub(super) fn get(folder: &Path, suite: BareSuite) -> anyhow::Result<PathBuf> {
    let root = folder.join("root");
    if !root.is_dir() {
        let draft = folder.join("root.new");
        if draft.exists() {
            fs::remove_dir_all(&draft).with_context(|| format!("cannot remove {}", draft.display()))?;
        }
        make(&draft, suite)?;
        fs::rename(&draft, &root).with_context(|| format!("cannot rename {}", draft.display()))?;
    }
    Ok(root)
}

fn make(root: &Path, suite: BareSuite) -> anyhow::Result<()> {
    note(format_args!("      debootstrap: minbase and {}; kept for the next run", ASSUMED.join(", ")));
    let archives = packages::DebianArchives::of_host()?;
    // debootstrap may leave `/proc` mounted in the root, where this host, and whoever copies or
    // removes the folder, would walk through it.
    let mut debootstrap = Program::Unshare.command();
    debootstrap.arg("--mount").arg("--").arg(Program::Debootstrap);
    debootstrap.args(["--variant=minbase", &format!("--include={}", ASSUMED.join(","))]);
    quietly(debootstrap.arg(suite.name()).arg(root).arg(&archives.debian))?;
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write("etc/apt/sources.list", &archives.sources(suite.name()))?;
    // A disposable root need not survive a crash, so dpkg need not sync.
    write("etc/dpkg/dpkg.cfg.d/unsafe-io", "force-unsafe-io\n")
}

/// Returns a file of settings with which apt reaches the archives as it does on this host.
///
/// `certificates` is the path of the CA certificates.
pub(super) fn apt_settings(certificates: &str) -> anyhow::Result<String> {
    let dump = text(Program::AptConfig.command().arg("dump"))?;
    let mut settings: String = dump.lines().filter(|line| is_way(line)).map(|line| format!("{line}\n")).collect();
    settings.push_str(&format!("Acquire::https::CAInfo \"{certificates}\";\n"));
    Ok(settings)
}

/// Returns whether a line of `apt-config dump` sets a proxy.
fn is_way(line: &str) -> bool {
    let name = line.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    name.starts_with("acquire::") && name.contains("::proxy") && !line.contains("proxy-auto-detect")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_proxies_of_apt_are_passed_on() {
        assert!(is_way("Acquire::http::Proxy \"http://proxy:3128\";"));
        assert!(is_way("Acquire::http::Proxy::deb.debian.org \"DIRECT\";"));
        for other in ["Acquire::Retries \"3\";", "Dir::Cache \"var/cache/apt\";", "APT::Proxy \"x\";", ""] {
            assert!(!is_way(other), "{other}");
        }
    }
}
