//! The packages of a Debian suite, with lists, cache and settings apart from this host's apt.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use super::release::DebianRelease;
use crate::{
    packages::DebianArchives,
    process::{is_root, quietly, text},
    programs::Program,
};

/// The package that depends on the newest kernel of a suite. The `cloud` kernel lacks 9p, so it
/// cannot mount the host's files.
const NEWEST: &str = "linux-image-amd64";

/// The package with the shell that mounts the host's files.
const BUSYBOX: &str = "busybox-static";

/// An apt with the sources of a suite.
pub(crate) struct SuiteArchive {
    folder: PathBuf,
}

impl SuiteArchive {
    /// Fetches the lists of `release` into `folder`.
    pub(crate) fn open(folder: &Path, release: DebianRelease) -> anyhow::Result<Self> {
        for name in ["lists/partial", "cache/archives/partial", "packages"] {
            fs::create_dir_all(folder.join(name)).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let archive = Self { folder: folder.to_owned() };
        let write = |name: &str, content: &str| {
            fs::write(folder.join(name), content).with_context(|| format!("cannot write to {}", folder.display()))
        };
        write("sources.list", &DebianArchives::of_host()?.sources(release.suite()))?;
        write("apt.conf", &archive.settings())?;
        quietly(archive.apt(Program::AptGet).args(["update", "-qq"]))?;
        Ok(archive)
    }

    fn settings(&self) -> String {
        let folder = self.folder.display();
        // Without the host's hooks after an update, and with a failure if the archive cannot be
        // reached. As root, apt would become a user that cannot write here.
        let user = if is_root() { "APT::Sandbox::User \"root\";\n" } else { "" };
        format!(
            "#clear APT::Update;\nDir::Etc::sourcelist \"{folder}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
             Dir::State::lists \"{folder}/lists\";\nDir::Cache \"{folder}/cache\";\nAcquire::Retries \"3\";\n\
             APT::Update::Error-Mode \"any\";\n{user}"
        )
    }

    fn apt(&self, program: Program) -> Command {
        let mut apt = program.command();
        apt.current_dir(self.folder.join("packages")).arg("-c").arg(self.folder.join("apt.conf"));
        apt
    }

    /// Returns the names of the packages of a kernel, and of the shell's.
    pub(super) fn wanted(&self) -> anyhow::Result<Vec<String>> {
        let shown = text(self.apt(Program::AptCache).args(["depends", "--important", "--recurse", NEWEST]))?;
        let mut names = parts_of_kernel(&shown);
        if names.is_empty() {
            bail!("apt knows no {NEWEST}");
        }
        names.push(BUSYBOX.to_owned());
        Ok(names)
    }

    /// Fetches packages with all that they depend on, as for a Debian that has none. Returns the
    /// files of all packages so far.
    pub(crate) fn download_all(&self, names: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
        let nothing = self.folder.join("nothing-installed");
        fs::write(&nothing, "").with_context(|| format!("cannot write {}", nothing.display()))?;
        let mut apt = self.apt(Program::AptGet);
        apt.arg("-o").arg(format!("Dir::State::status={}", nothing.display()));
        apt.args(["install", "--yes", "-qq", "--no-install-recommends", "--download-only"]);
        quietly(apt.args(names))?;
        let files = fs::read_dir(self.folder.join("cache/archives")).context("cannot read what was fetched")?;
        let files = files.flatten().map(|file| file.path());
        Ok(files.filter(|file| file.extension().is_some_and(|end| end == "deb")).collect())
    }

    /// Fetches packages and returns their files.
    pub(super) fn download(&self, names: &[String]) -> anyhow::Result<Vec<PathBuf>> {
        quietly(self.apt(Program::AptGet).args(["download", "-qq"]).args(names))?;
        let files = fs::read_dir(self.folder.join("packages")).context("cannot read what was fetched")?;
        Ok(files.flatten().map(|file| file.path()).collect())
    }
}

/// Returns the packages with a kernel and its modules, from the output of `apt-cache depends
/// --recurse`: one in Debian 12 and 13, several in later releases.
fn parts_of_kernel(shown: &str) -> Vec<String> {
    let is_part = |name: &&str| {
        ["linux-image-", "linux-base-", "linux-binary-", "linux-modules-"]
            .iter()
            .any(|begin| name.strip_prefix(begin).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
    };
    // A line that begins with a package shows its dependencies below it.
    shown.lines().filter(|line| !line.starts_with([' ', '|'])).filter(is_part).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_one_package_or_several() {
        let twelve = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n\
                      linux-image-6.1.0-56-amd64\n  Depends: kmod\nkmod\n";
        assert_eq!(parts_of_kernel(twelve), ["linux-image-6.1.0-56-amd64"]);
        let split = "linux-image-amd64\n  Depends: linux-base-amd64\n  Depends: linux-image-7.2-amd64\nlinux-base-amd64\n\
                     linux-base-7.2-amd64\nlinux-image-7.2-amd64\n |Depends: dracut\n  Depends: linux-binary-7.2-amd64\nlinux-binary-7.2-amd64\n\
                     linux-modules-7.2-amd64\n";
        let parts =
            ["linux-base-7.2-amd64", "linux-image-7.2-amd64", "linux-binary-7.2-amd64", "linux-modules-7.2-amd64"];
        assert_eq!(parts_of_kernel(split), parts);
        assert!(parts_of_kernel("linux-image-amd64\n").is_empty());
    }
}
