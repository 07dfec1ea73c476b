//! The root of the machine with systemd: a Debian in a file, made once for each release.
//!
//! A machine boots from a copy of the file, which holds what the machine writes, also when it
//! restarts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::release::DebianRelease;
use crate::{
    packages::DebianArchives,
    process::{is_root, quietly},
    programs::Program,
    progress::note,
};

/// The packages beside those that every Debian has: the init system, and what the tests start.
/// systemd loads libbpf only if it is there (`RestrictNetworkInterfaces=` of systemd.exec(5)).
const PACKAGES: [&str; 11] = [
    "dbus",
    "ethtool",
    "frr",
    "gobgpd",
    "iproute2",
    "kmod",
    "libbpf1",
    "nftables",
    "procps",
    "systemd",
    "systemd-sysv",
];

/// What testing has beside them: BIRD 3.4 is the first that has TCP-AO.
const PACKAGES_OF_TESTING: [&str; 1] = ["bird3"];

/// Units that a test starts itself.
const DISABLED: [&str; 2] = ["frr.service", "gobgpd.service"];
const DISABLED_OF_TESTING: [&str; 1] = ["bird.service"];

/// Units that cost an emulated processor time and do nothing for a test.
const MASKED: [&str; 7] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
];

/// The size of the file system. Blocks without content take no room on this host.
const SIZE: &str = "4G";

/// Checksums of metadata need a module that the kernel would have to load before there are any.
const FEATURES: &str = "^metadata_csum,^metadata_csum_seed";

/// Returns the file with the root of `release`, and makes it if it is missing. To have it made
/// anew, remove it.
pub(super) fn root(folder: &Path, release: DebianRelease) -> anyhow::Result<PathBuf> {
    let there = folder.join(format!("systemd-{release}.ext4"));
    if !there.is_file() {
        if !is_root() {
            bail!("the machine with systemd needs root, once: sudo -E env PATH=\"$PATH\" cargo xtask vm --systemd");
        }
        let draft = folder.join(format!("systemd-{release}.new"));
        if draft.exists() {
            fs::remove_dir_all(&draft).with_context(|| format!("cannot remove {}", draft.display()))?;
        }
        let (debian, image) = (draft.join("root"), draft.join("root.ext4"));
        make(&debian, release)?;
        let mut mkfs = Program::MkfsExt4.command();
        mkfs.args(["-q", "-F", "-O", FEATURES, "-d"]).arg(&debian).arg(&image).arg(SIZE);
        quietly(&mut mkfs)?;
        fs::rename(&image, &there).with_context(|| format!("cannot rename {}", image.display()))?;
        fs::remove_dir_all(&draft).with_context(|| format!("cannot remove {}", draft.display()))?;
    }
    Ok(there)
}

fn make(root: &Path, release: DebianRelease) -> anyhow::Result<()> {
    fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
    let mut packages = PACKAGES.to_vec();
    let mut disabled = DISABLED.to_vec();
    if release == DebianRelease::Testing {
        packages.extend(PACKAGES_OF_TESTING);
        disabled.extend(DISABLED_OF_TESTING);
    }
    let packages = packages.join(",");
    note(format_args!("      debootstrap: Debian {release} with {packages}; kept for the next run"));
    let archives = DebianArchives::of_host()?;
    // debootstrap may leave `/proc` mounted in the root.
    let mut debootstrap = Program::Unshare.command();
    debootstrap.arg("--mount").arg("--").arg(Program::Debootstrap);
    debootstrap.args(["--variant=minbase", &format!("--include={packages}")]);
    quietly(debootstrap.arg(release.suite()).arg(root).arg(&archives.debian))?;
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    // With an identity of its own, systemd does not take the first boot for an installation.
    write("etc/machine-id", "626d70642d746573742d6d616368696e\n")?;
    write("etc/hostname", "bmpd-vm\n")?;
    write("etc/hosts", "127.0.0.1 localhost bmpd-vm\n::1 localhost\n")?;
    let systemctl = |words: &[&str], units: &[&str]| {
        quietly(Program::Chroot.command().arg(root).arg(Program::Systemctl).args(words).args(units))
    };
    systemctl(&["disable", "--quiet"], &disabled)?;
    systemctl(&["mask", "--quiet"], &MASKED)?;
    systemctl(&["set-default", "--quiet"], &["multi-user.target"])?;
    let archives = root.join("var/cache/apt/archives");
    fs::remove_dir_all(&archives).with_context(|| format!("cannot remove {}", archives.display()))?;
    fs::create_dir_all(archives.join("partial")).context("cannot make apt's folder")
}
