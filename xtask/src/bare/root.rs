//! A bare Debian in a folder: made once for each suite, and never written to afterwards.

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

/// What the README takes for granted besides Debian and root: git for the clone, and what rustup asks for, a C compiler to link
/// with and certificates to fetch crates.
const ASSUMED: [&str; 4] = ["ca-certificates", "gcc", "git", "libc6-dev"];

/// A Debian that bmpd supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Suite {
    /// Debian 12
    Bookworm,
    /// Debian 13
    Trixie,
}

impl Suite {
    pub(crate) const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    /// This host's, or else the newest.
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

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The root of `suite`, made if it is not there. Without its folder, the next run makes it anew.
pub(super) fn get(folder: &Path, suite: Suite) -> anyhow::Result<PathBuf> {
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

fn make(root: &Path, suite: Suite) -> anyhow::Result<()> {
    note(format_args!("      debootstrap: minbase and {}; kept for the next run", ASSUMED.join(", ")));
    let archives = packages::Archives::of_host()?;
    let mut debootstrap = Program::Debootstrap.command();
    debootstrap.args(["--variant=minbase", &format!("--include={}", ASSUMED.join(","))]);
    quietly(debootstrap.arg(suite.name()).arg(root).arg(&archives.debian))?;
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write("etc/apt/sources.list", &archives.sources(suite.name()))?;
    // A root that is thrown away needs no file on the disk before the next is written.
    write("etc/dpkg/dpkg.cfg.d/unsafe-io", "force-unsafe-io\n")
}

/// What this host's apt is told about the way to its archives, as a file of settings; certificates are in `certificates`.
pub(super) fn apt_settings(certificates: &str) -> anyhow::Result<String> {
    let dump = text(Program::AptConfig.command().arg("dump"))?;
    let mut settings: String = dump.lines().filter(|line| is_way(line)).map(|line| format!("{line}\n")).collect();
    settings.push_str(&format!("Acquire::https::CAInfo \"{certificates}\";\n"));
    Ok(settings)
}

/// Whether a line of `apt-config dump` sets a proxy.
fn is_way(line: &str) -> bool {
    let name = line.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    name.starts_with("acquire::") && name.contains("::proxy") && !line.contains("proxy-auto-detect")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxies_of_apt_are_handed_on_and_nothing_else() {
        assert!(is_way("Acquire::http::Proxy \"http://proxy:3128\";"));
        assert!(is_way("Acquire::http::Proxy::deb.debian.org \"DIRECT\";"));
        for other in ["Acquire::Retries \"3\";", "Dir::Cache \"var/cache/apt\";", "APT::Proxy \"x\";", ""] {
            assert!(!is_way(other), "{other}");
        }
    }
}
