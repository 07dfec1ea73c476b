//! Decides the next steps of setup from the facts about a machine: a pure function.

use std::fmt;

use super::machine::{MachineFacts, llvm_package};
use crate::{
    programs::Program,
    toolchain::{BPF_LINKER, OLDEST, Toolchain},
};

/// A step of setup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SetupStep {
    /// Install these Debian packages.
    Packages(Vec<String>),
    /// Link the distribution's compiler into rustup.
    LinkToolchain,
    /// Build and install bpf-linker with this major version of LLVM.
    Linker { llvm: u32 },
}

impl fmt::Display for SetupStep {
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

/// Returns the next steps; none if the machine is ready. After them, the caller looks again: only
/// an installed compiler says which LLVM the linker needs.
///
/// # Errors
///
/// On systems other than Debian: what to install by hand.
pub(super) fn plan(machine: &MachineFacts) -> Result<Vec<SetupStep>, String> {
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
    let packages = (!packages.is_empty()).then_some(SetupStep::Packages(packages));
    Ok(packages.into_iter().chain([SetupStep::Linker { llvm }]).collect())
}

fn get_toolchain(machine: &MachineFacts) -> Vec<SetupStep> {
    let system = &machine.system;
    let missing = [
        ("rustc-web", !system.compiler.as_ref().is_some_and(|compiler| compiler.is_recent())),
        ("cargo-web", !system.cargo),
        ("rust-web-src", !system.source),
    ];
    // The three have one version, so an old one is replaced together with the others.
    if missing.iter().any(|(_, missing)| *missing) {
        return vec![SetupStep::Packages(missing.map(|(name, _)| name.to_owned()).into())];
    }
    vec![SetupStep::LinkToolchain]
}

fn by_hand(machine: &MachineFacts, toolchain: Option<&Toolchain>) -> String {
    let MachineFacts { name, .. } = machine;
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
