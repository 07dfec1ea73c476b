//! Debian's kernel, taken out of its package: it is not installed, and this host does not boot it.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail};

use crate::{
    packages::apt,
    process::{cannot_start, is_root, line, quietly, run, say, text},
    programs::Program,
};

/// Depends on the newest kernel that this Debian has. Not the `cloud` one, which is smaller and cannot mount a host's files (9p).
const NEWEST: &str = "linux-image-amd64";

/// The shell that mounts them.
const BUSYBOX: &str = "busybox-static";

/// What is taken of the kernel's package. Drivers of hardware are most of it, and the machine has none.
const WANTED: [&str; 9] = [
    "./boot/vmlinuz-*",
    "./lib/modules/*/modules.*",
    "./lib/modules/*/kernel/arch/x86/crypto",
    "./lib/modules/*/kernel/crypto",
    "./lib/modules/*/kernel/drivers/char",
    "./lib/modules/*/kernel/drivers/net",
    "./lib/modules/*/kernel/drivers/virtio",
    "./lib/modules/*/kernel/lib",
    "./lib/modules/*/kernel/net",
];
const WANTED_FILE_SYSTEMS: [&str; 4] = [
    "./lib/modules/*/kernel/fs/9p",
    "./lib/modules/*/kernel/fs/fscache",
    "./lib/modules/*/kernel/fs/netfs",
    "./lib/modules/*/kernel/fs/overlayfs",
];
const UNWANTED: [&str; 2] = ["--exclude=*/drivers/net/ethernet", "--exclude=*/drivers/net/wireless"];

/// A kernel that is ready to boot.
pub(super) struct Kernel {
    /// `6.1.0-56-amd64`.
    pub(super) release: String,
    folder: PathBuf,
}

impl Kernel {
    /// The one that is there, or else the newest there is. Without its folder, the next run takes a new one.
    pub(super) fn get(folder: &Path) -> anyhow::Result<Self> {
        let there = folder.join("kernel");
        if !there.is_dir() {
            let draft = folder.join("kernel.new");
            if draft.exists() {
                fs::remove_dir_all(&draft).with_context(|| format!("cannot remove {}", draft.display()))?;
            }
            fs::create_dir_all(&draft).with_context(|| format!("cannot make {}", draft.display()))?;
            make(&draft)?;
            fs::rename(&draft, &there).with_context(|| format!("cannot rename {}", draft.display()))?;
        }
        Self::in_folder(there)
    }

    fn in_folder(folder: PathBuf) -> anyhow::Result<Self> {
        let modules = folder.join("lib/modules");
        let mut releases =
            fs::read_dir(&modules).with_context(|| format!("cannot read {}", modules.display()))?.flatten();
        let release = releases.next().and_then(|entry| entry.file_name().into_string().ok());
        let release = release.with_context(|| format!("{} is empty: remove the folder", modules.display()))?;
        Ok(Self { release, folder })
    }

    /// The kernel, not compressed: the emulated processor would take some seconds for that.
    pub(super) fn image(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    /// What is to become `/lib/modules`.
    pub(super) fn modules(&self) -> PathBuf {
        self.folder.join("lib/modules")
    }

    pub(super) fn busybox(&self) -> PathBuf {
        self.folder.join("bin/busybox")
    }

    /// The files of `names` and of all that they need, in the order in which they are loaded.
    pub(super) fn modules_for(&self, names: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for name in names {
            let mut modprobe = Program::Modprobe.command();
            modprobe.arg("-d").arg(&self.folder).args(["-S", &self.release, "--show-depends", name]);
            for file in inserted(&text(&mut modprobe)?) {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}

/// The files that `modprobe --show-depends` names: `insmod FILE [OPTIONS]` or `builtin NAME`, one a line.
fn inserted(shown: &str) -> Vec<PathBuf> {
    shown
        .lines()
        .filter_map(|line| line.strip_prefix("insmod ")?.split_whitespace().next().map(PathBuf::from))
        .collect()
}

/// Fetches the packages and unpacks what is wanted of them.
fn make(folder: &Path) -> anyhow::Result<()> {
    let debs = folder.join("packages");
    fs::create_dir(&debs).with_context(|| format!("cannot make {}", debs.display()))?;
    // Lists that are too old name packages that are there no more.
    if fetch(&debs).is_err() {
        quietly(apt().args(["update", "-qq"]))?;
        fetch(&debs)?;
    }
    for deb in fs::read_dir(&debs).context("cannot read what was fetched")?.flatten() {
        let kernel = deb.file_name().to_string_lossy().starts_with("linux-image");
        if kernel {
            unpack(&deb.path(), folder, &[&WANTED[..], &WANTED_FILE_SYSTEMS].concat())?
        } else {
            unpack(&deb.path(), folder, &["./bin/busybox"])?;
        }
    }
    fs::remove_dir_all(&debs).context("cannot remove what was fetched")?;
    let Kernel { release, .. } = Kernel::in_folder(folder.to_owned())?;
    uncompress(&folder.join("boot").join(format!("vmlinuz-{release}")), &folder.join("vmlinux"))?;
    run(Program::Depmod.command().arg("-b").arg(folder).arg(&release))
}

fn fetch(folder: &Path) -> anyhow::Result<()> {
    let depends = text(Program::AptCache.command().args(["depends", "--important", NEWEST]))?;
    let kernel = depended(&depends).with_context(|| format!("apt knows no {NEWEST}"))?;
    say(format_args!("fetching the Debian packages {kernel} and {BUSYBOX}, to be unpacked below {}", folder.display()));
    let mut download = Program::AptGet.command();
    download.current_dir(folder).args(["download", "-qq", "-o", "Acquire::Retries=3"]);
    if is_root() {
        // The user that apt would become may not write here.
        download.args(["-o", "APT::Sandbox::User=root"]);
    }
    quietly(download.args([kernel, BUSYBOX]))
}

/// The kernel that a meta-package depends on, in the words of `apt-cache depends`.
fn depended(shown: &str) -> Option<&str> {
    shown.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).filter(|name| name.starts_with("linux-image-"))
}

/// Takes what `patterns` name out of a package.
fn unpack(deb: &Path, folder: &Path, patterns: &[&str]) -> anyhow::Result<()> {
    let mut source = Program::DpkgDeb.command();
    source.arg("--fsys-tarfile").arg(deb).stdout(Stdio::piped()).stdin(Stdio::null());
    let mut source_child = source.spawn().with_context(|| cannot_start(&source))?;
    let mut tar = Program::Tar.command();
    tar.args(["-x", "--no-same-owner", "-C"]).arg(folder).args(UNWANTED).arg("--wildcards").args(patterns);
    tar.stdin(source_child.stdout.take().map_or_else(Stdio::null, Stdio::from));
    let unpacked = tar.status().with_context(|| cannot_start(&tar))?;
    let read = source_child.wait().with_context(|| format!("cannot wait for `{}`", line(&source)))?;
    if !unpacked.success() || !read.success() {
        bail!("cannot unpack {}", deb.display());
    }
    Ok(())
}

/// Takes the kernel out of the file that a boot loader loads, which unpacks itself.
fn uncompress(image: &Path, to: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let begin = xz_stream(&bytes).with_context(|| format!("{} holds nothing that xz has made", image.display()))?;
    let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut xz = Program::Xz.command();
    xz.args(["-d", "-c", "--single-stream"]).stdin(Stdio::piped()).stdout(file);
    let mut child = xz.spawn().with_context(|| cannot_start(&xz))?;
    // It stops to read at the end of the stream, and says by its status whether that was there.
    let _ = child.stdin.take().context("xz has no input")?.write_all(&bytes[begin..]);
    let status = child.wait().context("cannot wait for xz")?;
    if !status.success() {
        bail!("xz cannot uncompress {}: {status}", image.display());
    }
    Ok(())
}

/// Where the first xz stream of a file begins.
fn xz_stream(bytes: &[u8]) -> Option<usize> {
    const MAGIC: &[u8] = b"\xfd7zXZ\0";
    bytes.windows(MAGIC.len()).position(|window| window == MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_what_the_meta_package_depends_on() {
        let shown = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n";
        assert_eq!(depended(shown), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(depended("linux-image-amd64\n"), None);
        assert_eq!(depended("linux-image-amd64\n  Depends: <linux-image>\n"), None);
    }

    #[test]
    fn modules_are_loaded_in_the_order_that_modprobe_names() {
        let shown = "insmod /k/virtio_ring.ko \ninsmod /k/virtio.ko\nbuiltin pci\n";
        assert_eq!(inserted(shown), [PathBuf::from("/k/virtio_ring.ko"), PathBuf::from("/k/virtio.ko")]);
    }

    #[test]
    fn the_compressed_kernel_is_found_behind_the_code_that_unpacks_it() {
        assert_eq!(xz_stream(b"MZ..\xfd7zXZ\0..."), Some(4));
        assert_eq!(xz_stream(b"MZ.."), None);
    }
}
