//! Chooses the Rust toolchain that compiles the kernel programs.
//!
//! Stable Rust has no `core` for the BPF target and may not build one, so a second toolchain does:
//! a nightly with the standard library's source, or the distribution's compiler, linked into rustup
//! as `bpf`. Both `cargo xtask` and bmp-user's build script, which includes this file by path, ask
//! here.

use std::{
    ffi::OsString,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, anyhow, bail};

use crate::programs::{Built, Program};

/// The environment variable that names the rustup toolchain to use.
pub(crate) const OVERRIDE: &str = "BMPD_BPF_TOOLCHAIN";

/// The name under which `cargo xtask setup` links the distribution's compiler into rustup.
pub(crate) const LINKED: &str = "bpf";

/// The oldest compiler that compiles the workspace: its `rust-version`.
pub(crate) const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// The linker of the kernel programs, in the version that is known to work.
pub(crate) const BPF_LINKER: BpfLinker = BpfLinker { version: "0.13.0", llvm: 21..=23 };

/// A release of bpf-linker.
pub(crate) struct BpfLinker {
    /// Its version on the crate registry.
    pub(crate) version: &'static str,
    /// The major versions of LLVM that it can be built with. It reads the compiler's bitcode, so it
    /// must have the compiler's own.
    pub(crate) llvm: RangeInclusive<u32>,
}

/// A Rust compiler, as `rustc --version --verbose` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// `1.96.0` or `1.97.0-nightly`.
    pub(crate) release: String,
    /// The major version of its LLVM, which bpf-linker must share.
    pub(crate) llvm: u32,
}

/// An installed toolchain of rustup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    /// Its name in rustup.
    pub(crate) name: String,
    /// Its compiler.
    pub(crate) compiler: Compiler,
    /// Whether it has the standard library's source, from which `core` is built for the BPF target.
    pub(crate) has_source: bool,
}

impl Compiler {
    /// Asks the compiler at the path `rustc`. Returns `None` if it is absent or does not run.
    pub(crate) fn ask(rustc: &Path) -> Option<Self> {
        let output = Built::at(rustc).command().args(["--version", "--verbose"]).output().ok()?;
        if output.status.success() { Self::parse(&String::from_utf8_lossy(&output.stdout)) } else { None }
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let llvm = field("LLVM version:")?.split('.').next()?.parse().ok()?;
        Some(Self { release: field("release:")?.to_owned(), llvm })
    }

    /// Returns whether the compiler is no older than the workspace's `rust-version`.
    pub(crate) fn is_recent(&self) -> bool {
        let number = |text: &str| {
            let mut parts = text.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
            (parts.next(), parts.next())
        };
        number(&self.release) >= number(OLDEST)
    }

    /// Returns whether the compiler is a nightly, which takes `-Z` flags as it is.
    pub(crate) fn is_nightly(&self) -> bool {
        self.release.ends_with("-nightly")
    }
}

impl Toolchain {
    /// Returns whether the toolchain can compile the kernel programs with [`BPF_LINKER`].
    pub(crate) fn is_suitable(&self) -> bool {
        self.has_source && self.compiler.is_recent() && BPF_LINKER.llvm.contains(&self.compiler.llvm)
    }

    /// Returns this toolchain's cargo with `subcommand` (`build`, `clippy`) for the kernel
    /// programs. It writes them to `target_dir/TARGET/bpf/bmp-programs`.
    ///
    /// `arch` is the architecture of the kernel that will run them. The command lacks the variables
    /// that an outer cargo set for its own compiler. It never compiles incrementally, which would
    /// change the programs' code. A compiler that is no nightly gets the right to unstable flags,
    /// in this process alone.
    pub(crate) fn programs(&self, subcommand: &str, arch: &str, target: &str, target_dir: &Path) -> Command {
        let mut command = Program::Rustup.command();
        command.args(["run", &self.name, "cargo", subcommand, "--quiet", "-Zbuild-std=core", "--profile=bpf"]);
        command
            .args(["--package=bmp-ebpf", "--bins", "--features=programs", "--target", target, "--target-dir"])
            .arg(target_dir);
        for outer in ["RUSTC", "RUSTC_WORKSPACE_WRAPPER", "RUSTDOC", "RUSTFLAGS", "CLIPPY_ARGS"] {
            command.env_remove(outer);
        }
        // Over the user's variable and cargo's configuration.
        command.env("CARGO_INCREMENTAL", "0");
        // aya needs the register layout; the linker turns full debug information into BTF.
        let mut flags = vec![format!("--cfg=bpf_target_arch=\"{arch}\"")];
        flags.extend(["-Cdebuginfo=2", "-Clink-arg=--btf"].map(str::to_owned));
        flags.extend(without_folders());
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        if !self.compiler.is_nightly() {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }
}

/// Returns the flags with which rustc writes other names for the folders of this host into what it
/// compiles. So the same sources give the same bytes in every folder.
pub(crate) fn without_folders() -> Vec<String> {
    let flag = |(folder, name): (PathBuf, &str)| format!("--remap-path-prefix={}={name}", folder.display());
    host_folders().into_iter().map(flag).collect()
}

/// Returns the folders of this host that sources are in, each with another name for it.
pub(crate) fn host_folders() -> Vec<(PathBuf, &'static str)> {
    let variable = |name| std::env::var_os(name).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let home = |name, default: &str| variable(name).or_else(|| Some(variable("HOME")?.join(default)));
    // All crates of the workspace that ask are in folders of the repository.
    let repository = variable("CARGO_MANIFEST_DIR").and_then(|own| own.parent().map(Path::to_path_buf));
    let folders =
        [(repository, "/bmpd"), (home("CARGO_HOME", ".cargo"), "/cargo"), (home("RUSTUP_HOME", ".rustup"), "/rustup")];
    folders.into_iter().filter_map(|(folder, name)| Some((folder?, name))).collect()
}

/// Returns the target triple of programs for a kernel of this byte order.
pub(crate) fn target(big_endian: bool) -> &'static str {
    if big_endian { "bpfeb-unknown-none" } else { "bpfel-unknown-none" }
}

/// Returns the toolchain to use: that of [`OVERRIDE`], else a suitable nightly, else [`LINKED`].
///
/// `None` means that no installed toolchain is suitable.
///
/// # Errors
///
/// rustup does not answer, or [`OVERRIDE`] names a toolchain that is not suitable.
pub(crate) fn choose() -> anyhow::Result<Option<Toolchain>> {
    let wanted = std::env::var_os(OVERRIDE).filter(|name| !name.is_empty()).map(OsString::into_string);
    let wanted = wanted.transpose().map_err(|name| anyhow!("{OVERRIDE}={} is not UTF-8", name.display()))?;
    let installed = installed()?;
    pick(wanted.as_deref(), &installed).map(|choice| choice.cloned())
}

fn pick<'a>(wanted: Option<&str>, installed: &'a [Toolchain]) -> anyhow::Result<Option<&'a Toolchain>> {
    if let Some(wanted) = wanted {
        // The name may lack the host, as everywhere in rustup.
        let named = installed.iter().find(|toolchain| toolchain.name == wanted);
        let named =
            named.or_else(|| installed.iter().find(|toolchain| toolchain.name.starts_with(&format!("{wanted}-"))));
        return match named {
            Some(toolchain) if toolchain.is_suitable() => Ok(Some(toolchain)),
            Some(Toolchain { compiler: Compiler { release, llvm }, has_source, .. }) => bail!(
                "{OVERRIDE}={wanted} cannot compile the kernel programs: they need Rust {OLDEST} or later with LLVM {} to {} and the \
                 standard library's source; it is Rust {release} with LLVM {llvm} {} the source",
                BPF_LINKER.llvm.start(),
                BPF_LINKER.llvm.end(),
                if *has_source { "and has" } else { "without" },
            ),
            None => bail!("{OVERRIDE}={wanted}: `rustup toolchain list` has no toolchain of this name that runs"),
        };
    }
    let suitable = || installed.iter().filter(|toolchain| toolchain.is_suitable());
    // By name, plain `nightly-HOST` sorts after every dated one.
    let nightly =
        suitable().filter(|toolchain| toolchain.compiler.is_nightly()).max_by_key(|toolchain| &toolchain.name);
    Ok(nightly.or_else(|| suitable().find(|toolchain| toolchain.name == LINKED)))
}

/// Returns the installed toolchains whose compiler runs.
fn installed() -> anyhow::Result<Vec<Toolchain>> {
    let output = Program::Rustup.command().args(["toolchain", "list", "--verbose"]).output();
    let output = output.context("rustup does not run; it holds both toolchains (https://rustup.rs)")?;
    if !output.status.success() {
        bail!("`rustup toolchain list` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    let describe = |(name, root): (&str, PathBuf)| {
        Some(Toolchain {
            name: name.to_owned(),
            compiler: Compiler::ask(&root.join("bin/rustc"))?,
            has_source: root.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists(),
        })
    };
    Ok(list.lines().filter_map(name_and_root).filter_map(describe).collect())
}

/// Reads a line of `rustup toolchain list --verbose`: a name, remarks in parentheses, the folder.
fn name_and_root(line: &str) -> Option<(&str, PathBuf)> {
    let (name, rest) = line.split_once(char::is_whitespace)?;
    Some((name, rest.get(rest.find('/')?..)?.trim_end().into()))
}

#[cfg(test)]
#[path = "toolchain/tests.rs"]
mod tests;
