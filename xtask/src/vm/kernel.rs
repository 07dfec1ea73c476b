//! A Debian kernel, unpacked from its packages. It is never installed on this host.
//!
//! Packages differ. Debian 12 has modules in `/lib/modules` and a kernel compressed with xz. Debian
//! 13 has compressed modules in `/usr/lib/modules` and a kernel compressed with zstd. Testing has
//! split the package. The unpacked files are the same for all: `lib/modules/RELEASE`, uncompressed,
//! and `vmlinux`.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use super::{archive::SuiteArchive, release::DebianRelease};
use crate::{
    process::{cannot_start, line, quietly, run, say, text},
    programs::Program,
};

/// The modules with which the machine mounts its files and prints to the host. The kernel loads all
/// others on demand.
pub(super) const MODULES: [&str; 7] =
    ["virtio_pci", "virtio_console", "virtio_blk", "9pnet_virtio", "9p", "overlay", "ext4"];

/// The modules that are unpacked, by folder or by name. Most modules drive hardware, of which the
/// machine has none.
const WANTED: [&str; 15] = [
    "arch/x86/crypto",
    "crypto",
    "drivers/block/virtio_blk",
    "drivers/char",
    "drivers/net",
    "drivers/virtio",
    "fs/9p",
    "fs/ext4",
    "fs/fscache",
    "fs/jbd2",
    "fs/mbcache",
    "fs/netfs",
    "fs/overlayfs",
    "lib",
    "net",
];
const UNWANTED: [&str; 2] = ["drivers/net/ethernet", "drivers/net/wireless"];

/// How a kernel or a module is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Xz,
    Zstd,
}

impl Compression {
    const ALL: [Self; 2] = [Self::Xz, Self::Zstd];

    fn magic(self) -> &'static [u8] {
        match self {
            Self::Xz => b"\xfd7zXZ\0",
            Self::Zstd => b"\x28\xb5\x2f\xfd",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Xz => "xz",
            Self::Zstd => "zst",
        }
    }

    /// Returns the program that uncompresses it.
    fn command(self) -> Command {
        match self {
            Self::Xz => Program::Xz,
            Self::Zstd => Program::Zstd,
        }
        .command()
    }
}

/// A kernel that is ready to boot.
pub(super) struct DebianKernel {
    /// `6.1.0-56-amd64`.
    pub(super) release: String,
    folder: PathBuf,
}

impl DebianKernel {
    /// Returns the unpacked kernel of `release`, or else fetches the newest. To have a newer one,
    /// remove its folder.
    pub(super) fn get(folder: &Path, release: DebianRelease) -> anyhow::Result<Self> {
        let there = folder.join(format!("kernel-{release}"));
        let is_complete = |folder: &Path| Self::in_folder(folder.to_owned())?.modules_for(&MODULES);
        // An earlier xtask may have unpacked fewer modules.
        if is_complete(&there).is_err() {
            let draft = folder.join(format!("kernel-{release}.new"));
            remove(&draft)?;
            fs::create_dir_all(&draft).with_context(|| format!("cannot make {}", draft.display()))?;
            make(&draft, release)?;
            // A kernel that cannot mount the machine's files is not kept.
            is_complete(&draft)?;
            remove(&there)?;
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

    /// Returns the uncompressed kernel: the emulated processor would take seconds to uncompress it.
    pub(super) fn image(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    /// Returns the folder for `/lib/modules`.
    pub(super) fn modules(&self) -> PathBuf {
        self.folder.join("lib/modules")
    }

    pub(super) fn busybox(&self) -> PathBuf {
        self.folder.join("bin/busybox")
    }

    /// Returns the files of the modules `names` and of those that they need, in the order of
    /// loading.
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

fn remove(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// Reads the files in the output of `modprobe --show-depends`: lines `insmod FILE [OPTIONS]` or
/// `builtin NAME`.
fn inserted(shown: &str) -> Vec<PathBuf> {
    shown
        .lines()
        .filter_map(|line| line.strip_prefix("insmod ")?.split_whitespace().next().map(PathBuf::from))
        .collect()
}

/// Fetches the packages and unpacks the kernel, its modules and the shell.
fn make(folder: &Path, release: DebianRelease) -> anyhow::Result<()> {
    let apt = folder.join("apt");
    say(format_args!("fetching the list of packages of Debian {release}"));
    let archive = SuiteArchive::open(&apt, release)?;
    let names = archive.wanted()?;
    say(format_args!("fetching the Debian packages {}, to be unpacked below {}", names.join(" "), folder.display()));
    for deb in archive.download(&names)? {
        unpack(&deb, folder)?;
    }
    fs::remove_dir_all(&apt).context("cannot remove what was fetched")?;
    uncompress_modules(&folder.join("lib/modules"))?;
    let DebianKernel { release, .. } = DebianKernel::in_folder(folder.to_owned())?;
    let images = [format!("boot/vmlinuz-{release}"), format!("lib/modules/{release}/vmlinuz")];
    let image = images.iter().map(|image| folder.join(image)).find(|image| image.exists());
    let image = image.with_context(|| format!("the packages hold no kernel {release}"))?;
    uncompress_image(&image, &folder.join("vmlinux"))?;
    // Later releases of kmod look there.
    fs::create_dir_all(folder.join("usr"))
        .and_then(|()| symlink("../lib", folder.join("usr/lib")))
        .context("cannot link usr/lib")?;
    run(Program::Depmod.command().arg("-b").arg(folder).arg(&release))
}

/// Returns whether a file of a package is wanted: the kernel, a module for the machine, what depmod
/// reads, the shell.
fn is_wanted(path: &str) -> bool {
    let path = path.strip_prefix("./").unwrap_or(path);
    let path = path.strip_prefix("usr/").unwrap_or(path);
    if path.starts_with("boot/vmlinuz-") || path == "bin/busybox" {
        return true;
    }
    let Some((_, path)) = path.strip_prefix("lib/modules/").and_then(|path| path.split_once('/')) else { return false };
    let Some(module) = path.strip_prefix("kernel/") else { return path == "vmlinuz" || path.starts_with("modules.") };
    let is_below = |name: &&str| module.strip_prefix(*name).is_some_and(|rest| rest.starts_with(['/', '.']));
    !module.ends_with('/') && WANTED.iter().any(is_below) && !UNWANTED.iter().any(is_below)
}

/// Unpacks the wanted files of a package. Files below `/usr` go where older packages have them.
fn unpack(deb: &Path, folder: &Path) -> anyhow::Result<()> {
    let names = text(tar(deb)?.arg("-t"))?;
    let wanted: Vec<_> = names.lines().filter(|name| is_wanted(name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let list = folder.join("wanted");
    fs::write(&list, wanted.join("\n")).with_context(|| format!("cannot write {}", list.display()))?;
    let mut tar = tar(deb)?;
    tar.args(["-x", "--no-same-owner", "--no-recursion", "--transform=s,^\\./usr/,./,", "-C"])
        .arg(folder)
        .arg("-T")
        .arg(&list);
    quietly(&mut tar).with_context(|| format!("cannot unpack {}", deb.display()))?;
    fs::remove_file(&list).with_context(|| format!("cannot remove {}", list.display()))
}

/// Returns a tar on the files of a package.
fn tar(deb: &Path) -> anyhow::Result<Command> {
    let archive = deb.with_extension("tar");
    if !archive.exists() {
        let file = File::create(&archive).with_context(|| format!("cannot write {}", archive.display()))?;
        let mut source = Program::DpkgDeb.command();
        source.arg("--fsys-tarfile").arg(deb).stdin(Stdio::null()).stdout(file);
        let status = source.status().with_context(|| cannot_start(&source))?;
        if !status.success() {
            bail!("`{}` failed: {status}", line(&source));
        }
    }
    let mut tar = Program::Tar.command();
    tar.arg("-f").arg(archive);
    Ok(tar)
}

/// Uncompresses all modules below a folder: the first shell of the machine loads no compressed
/// ones.
fn uncompress_modules(folder: &Path) -> anyhow::Result<()> {
    for compression in Compression::ALL {
        let mut files = Vec::new();
        find(folder, compression.extension(), &mut files)?;
        if files.is_empty() {
            continue;
        }
        say(format_args!("uncompressing {} modules", files.len()));
        let rm = if compression == Compression::Zstd { &["--rm", "-q"][..] } else { &[] };
        for files in files.chunks(500) {
            quietly(compression.command().arg("-d").args(rm).arg("--").args(files))?;
        }
    }
    Ok(())
}

/// Finds the files below `folder` with this extension.
fn find(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&path, extension, found)?;
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    Ok(())
}

/// Uncompresses the kernel in a boot loader's file, which unpacks itself.
fn uncompress_image(image: &Path, to: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    for (begin, compression) in streams(&bytes) {
        let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
        let mut command = compression.command();
        command.args(["-d", "-c"]).stdin(Stdio::piped()).stdout(file).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| cannot_start(&command))?;
        // More bytes follow the stream. The program complains about them after it has written all,
        // and may stop reading.
        let _ = child.stdin.take().context("it has no input")?.write_all(&bytes[begin..]);
        child.wait().with_context(|| format!("cannot wait for `{}`", line(&command)))?;
        if is_whole_kernel(&fs::read(to).with_context(|| format!("cannot read {}", to.display()))?) {
            return Ok(());
        }
    }
    bail!("{} holds no kernel that xz or zstd has compressed", image.display())
}

/// Returns where compressed streams may begin. The same bytes may also be there by chance.
fn streams(bytes: &[u8]) -> Vec<(usize, Compression)> {
    let begins = |compression: Compression| {
        let magic = compression.magic();
        bytes
            .windows(magic.len())
            .enumerate()
            .filter_map(move |(at, window)| (window == magic).then_some((at, compression)))
    };
    let mut all: Vec<_> = Compression::ALL.into_iter().flat_map(begins).collect();
    all.sort_by_key(|(at, _)| *at);
    all
}

/// Returns whether `bytes` are a whole ELF file: the table of its sections is at its end (elf(5)).
fn is_whole_kernel(bytes: &[u8]) -> bool {
    let number = |at: usize, length: usize| {
        let field = bytes.get(at..at + length)?;
        Some(field.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let end = || {
        let (table, entry, entries) = (number(0x28, 8)?, number(0x3a, 2)?, number(0x3c, 2)?);
        table.checked_add(entry * entries)
    };
    bytes.starts_with(b"\x7fELF\x02\x01") && end().is_some_and(|end| end > 0x40 && end <= bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_wanted_in_both_layouts_of_packages() {
        for path in [
            "./boot/vmlinuz-6.1.0-56-amd64",
            "./lib/modules/6.1.0-56-amd64/modules.order",
            "./lib/modules/6.1.0-56-amd64/kernel/net/8021q/8021q.ko",
            "./usr/lib/modules/6.12.1/kernel/drivers/net/veth.ko.xz",
            "./usr/lib/modules/6.12.1/kernel/fs/mbcache.ko.xz",
            "./usr/lib/modules/6.12.1/kernel/drivers/block/virtio_blk.ko.xz",
            "./usr/lib/modules/7.2.12/vmlinuz",
            "./usr/bin/busybox",
        ] {
            assert!(is_wanted(path), "{path}");
        }
        for path in [
            "./usr/lib/modules/7.2.12/kernel/net/",
            "./lib/modules/6.1/kernel/drivers/net/ethernet/intel/e1000.ko",
            "./lib/modules/6.1/kernel/drivers/gpu/x.ko",
            "./lib/modules/6.1/kernel/drivers/block/nbd.ko",
            "./usr/share/doc/busybox",
            "./boot/config-6.1",
        ] {
            assert!(!is_wanted(path), "{path}");
        }
    }

    #[test]
    fn modules_are_loaded_in_the_order_that_modprobe_names() {
        let shown = "insmod /k/virtio_ring.ko \ninsmod /k/virtio.ko\nbuiltin pci\n";
        assert_eq!(inserted(shown), [PathBuf::from("/k/virtio_ring.ko"), PathBuf::from("/k/virtio.ko")]);
    }

    #[test]
    fn the_compressed_kernel_is_found_behind_its_unpacking_code() {
        let both = b"MZ..\x28\xb5\x2f\xfd...\xfd7zXZ\0...";
        assert_eq!(streams(both), [(4, Compression::Zstd), (11, Compression::Xz)]);
        assert!(streams(b"MZ..").is_empty());
    }

    #[test]
    fn a_truncated_kernel_is_refused() {
        let mut kernel = b"\x7fELF\x02\x01".to_vec();
        kernel.resize(200, 0);
        // Two sections of 64 bytes from byte 72 on.
        (kernel[0x28], kernel[0x3a], kernel[0x3c]) = (72, 64, 2);
        assert!(is_whole_kernel(&kernel));
        assert!(!is_whole_kernel(&kernel[..199]));
        assert!(!is_whole_kernel(b"\x7fELF\x02\x01"));
        assert!(!is_whole_kernel(&[0; 200]));
    }
}
