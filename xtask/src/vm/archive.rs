//! A Debian suite's packages, without touching this host's apt: lists, cache and settings of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use super::release::Release;
use crate::{
    packages::Archives,
    process::{is_root, quietly, text},
    programs::Program,
};

/// Depends on the newest kernel of a suite. Not the `cloud` one, which is smaller and cannot mount a host's files (9p).
const NEWEST: &str = "linux-image-amd64";

/// The shell that mounts them.
const BUSYBOX: &str = "busybox-static";

/// apt with a suite's sources.
pub(super) struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// Fetches the lists of `release` into `folder`.
    pub(super) fn open(folder: &Path, release: Release) -> anyhow::Result<Self> {
        for name in ["lists/partial", "cache/archives/partial", "packages"] {
            fs::create_dir_all(folder.join(name)).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let archive = Self { folder: folder.to_owned() };
        let write = |name: &str, content: &str| {
            fs::write(folder.join(name), content).with_context(|| format!("cannot write to {}", folder.display()))
        };
        write("sources.list", &Archives::of_host()?.sources(release.suite()))?;
        write("apt.conf", &archive.settings())?;
        quietly(archive.apt(Program::AptGet).args(["update", "-qq"]))?;
        Ok(archive)
    }

    fn settings(&self) -> String {
        let folder = self.folder.display();
        // What the host does after an update is not to be done after this one. apt would become a user that may not write here.
        let user = if is_root() { "APT::Sandbox::User \"root\";\n" } else { "" };
        format!(
            "#clear APT::Update;\nDir::Etc::sourcelist \"{folder}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
             Dir::State::lists \"{folder}/lists\";\nDir::Cache \"{folder}/cache\";\nAcquire::Retries \"3\";\n{user}"
        )
    }

    fn apt(&self, program: Program) -> Command {
        let mut apt = program.command();
        apt.current_dir(self.folder.join("packages")).arg("-c").arg(self.folder.join("apt.conf"));
        apt
    }

    /// The names of the packages that a kernel consists of, and of the shell's.
    pub(super) fn wanted(&self) -> anyhow::Result<Vec<String>> {
        let shown = text(self.apt(Program::AptCache).args(["depends", "--important", "--recurse", NEWEST]))?;
        let mut names = parts_of_kernel(&shown);
        if names.is_empty() {
            bail!("apt knows no {NEWEST}");
        }
        names.push(BUSYBOX.to_owned());
        Ok(names)
    }

    /// Fetches packages, and returns their files.
    pub(super) fn download(&self, names: &[String]) -> anyhow::Result<Vec<PathBuf>> {
        quietly(self.apt(Program::AptGet).args(["download", "-qq"]).args(names))?;
        let files = fs::read_dir(self.folder.join("packages")).context("cannot read what was fetched")?;
        Ok(files.flatten().map(|file| file.path()).collect())
    }
}

/// The packages with a kernel and its modules, in the words of `apt-cache depends --recurse`: one of them in Debian 12 and 13,
/// several in later ones.
fn parts_of_kernel(shown: &str) -> Vec<String> {
    let is_part = |name: &&str| {
        ["linux-image-", "linux-base-", "linux-binary-", "linux-modules-"]
            .iter()
            .any(|begin| name.strip_prefix(begin).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
    };
    // A package whose own dependencies are shown stands at the beginning of a line.
    shown.lines().filter(|line| !line.starts_with([' ', '|'])).filter(is_part).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_one_package_or_several() {
        let twelve = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\nlinux-image-6.1.0-56-amd64\n  Depends: kmod\nkmod\n";
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
