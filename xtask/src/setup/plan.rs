//! From what a machine has to what must be done to it: a function of values, so that it is tested without a machine.

use std::fmt;

use super::machine::Machine;
use crate::{
    programs::Program,
    toolchain::{BPF_LINKER, OLDEST, Toolchain},
};

/// Where Debian puts its compiler: the folder that rustup links.
pub(super) const DEBIAN_ROOT: &str = "/usr";

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Install these Debian packages.
    Packages(Vec<String>),
    /// Make the distribution's compiler known to rustup.
    LinkToolchain,
    /// Build and install bpf-linker against this LLVM major.
    Linker { llvm: u32 },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packages(names) => write!(f, "installing the Debian packages {}", names.join(" ")),
            Self::LinkToolchain => {
                write!(f, "linking Debian's Rust compiler into rustup as `{}`", crate::toolchain::LINKED)
            }
            Self::Linker { llvm } => {
                write!(f, "building and installing bpf-linker {} with LLVM {llvm} (about a minute)", BPF_LINKER.version)
            }
        }
    }
}

/// The Debian package with LLVM's headers and library.
pub(super) fn llvm_package(major: u32) -> String {
    format!("llvm-{major}-dev")
}

/// Where that package puts them.
pub(super) fn llvm_prefix(major: u32) -> String {
    format!("/usr/lib/llvm-{major}")
}

/// What to do next; nothing when the machine is ready. After it is done the machine is looked at again, because the compiler says
/// which LLVM the linker needs.
///
/// # Errors
///
/// What to install by hand, where packages are not installed as Debian does.
pub(super) fn plan(machine: &Machine) -> Result<Vec<Step>, String> {
    let Some(toolchain) = &machine.toolchain else {
        return if machine.debian { Ok(get_toolchain(machine)) } else { Err(by_hand(machine, None)) };
    };
    if machine.linker.as_ref().is_some_and(|linker| linker.fits(toolchain)) {
        return Ok(Vec::new());
    }
    if !machine.debian {
        return Err(by_hand(machine, Some(toolchain)));
    }
    let llvm = toolchain.compiler.llvm;
    let mut packages = Vec::new();
    if !machine.llvm {
        packages.push(llvm_package(llvm));
    }
    if !machine.cxx {
        packages.extend(Program::Cxx.packages().iter().map(|name| (*name).to_owned()));
    }
    let packages = (!packages.is_empty()).then_some(Step::Packages(packages));
    Ok(packages.into_iter().chain([Step::Linker { llvm }]).collect())
}

fn get_toolchain(machine: &Machine) -> Vec<Step> {
    let system = &machine.system;
    let missing = [
        ("rustc-web", !system.compiler.as_ref().is_some_and(|compiler| compiler.is_recent())),
        ("cargo-web", !system.cargo),
        ("rust-web-src", !system.source),
    ];
    // The three are of one version: an old one is replaced together with its companions.
    if missing.iter().any(|(_, missing)| *missing) {
        return vec![Step::Packages(missing.map(|(name, _)| name.to_owned()).into())];
    }
    vec![Step::LinkToolchain]
}

fn by_hand(machine: &Machine, toolchain: Option<&Toolchain>) -> String {
    let Machine { name, .. } = machine;
    let version = BPF_LINKER.version;
    let (first, last) = (BPF_LINKER.llvm.start(), BPF_LINKER.llvm.end());
    let (compiler, llvm) = match toolchain {
        Some(Toolchain { name, compiler, .. }) => {
            (format!("  (toolchain `{name}` is there and fits)"), compiler.llvm.to_string())
        }
        None => (
            format!(
                "  1. a nightly Rust {OLDEST} or later on LLVM {first} to {last}, with its source:\n     \
                 rustup toolchain install nightly --component rust-src"
            ),
            "N".to_owned(),
        ),
    };
    format!(
        "this is {name}; setup installs by itself on Debian 12 only. Install by hand:\n{compiler}\n  \
         2. LLVM {llvm} with its headers and a C++ compiler, where N is what `rustc +nightly --version --verbose` says\n  \
         3. bpf-linker, built with it: LLVM_PREFIX=FOLDER-OF-LLVM cargo install bpf-linker --version {version} --locked \
         --no-default-features --features llvm-{llvm}\nThen run this again."
    )
}

#[cfg(test)]
mod tests;
