//! Looks at what this machine has for the kernel programs.

use std::path::Path;

use crate::{
    packages, process,
    programs::Program,
    toolchain::{self, Compiler, Toolchain},
};

/// The folder of Debian's compiler, which rustup links.
pub(super) const DEBIAN_ROOT: &str = "/usr";

/// The facts about a machine that [`super::plan`] decides by.
#[derive(Clone, Debug)]
pub(super) struct MachineFacts {
    /// The name of its system.
    pub(super) name: String,
    /// Whether it is a Debian.
    pub(super) debian: bool,
    /// The toolchain that would compile the kernel programs.
    pub(super) toolchain: Option<Toolchain>,
    /// The distribution's own compiler; not asked if there is a toolchain.
    pub(super) system: SystemRust,
    /// The bpf-linker in `PATH`.
    pub(super) linker: Option<InstalledLinker>,
    /// Whether it has a C++ compiler: bpf-linker links with its library.
    pub(super) cxx: bool,
    /// Whether it has the LLVM to build bpf-linker with; asked only if bpf-linker will be built.
    pub(super) llvm: bool,
}

/// The distribution's Rust.
#[derive(Clone, Debug, Default)]
pub(super) struct SystemRust {
    pub(super) compiler: Option<Compiler>,
    pub(super) cargo: bool,
    pub(super) source: bool,
}

/// An installed bpf-linker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InstalledLinker {
    pub(super) version: String,
    /// The major version of its LLVM; `None` if LLVM is linked statically.
    pub(super) llvm: Option<u32>,
}

/// Returns the Debian package with the headers and library of LLVM.
pub(super) fn llvm_package(major: u32) -> String {
    format!("llvm-{major}-dev")
}

/// Returns the folder of that package's files.
pub(super) fn llvm_prefix(major: u32) -> String {
    format!("/usr/lib/llvm-{major}")
}

impl MachineFacts {
    /// Asks this machine.
    pub(super) fn look() -> anyhow::Result<Self> {
        let (debian, name) = packages::host();
        let toolchain = toolchain::choose()?;
        let linker = InstalledLinker::find();
        let builds =
            toolchain.as_ref().filter(|toolchain| !linker.as_ref().is_some_and(|linker| linker.fits(toolchain)));
        Ok(Self {
            name,
            debian,
            system: if toolchain.is_some() { SystemRust::default() } else { SystemRust::look() },
            cxx: Program::Cxx.find().is_some(),
            llvm: debian
                && builds.is_some_and(|chosen| packages::missing(&[&llvm_package(chosen.compiler.llvm)]).is_empty()),
            toolchain,
            linker,
        })
    }
}

impl SystemRust {
    fn look() -> Self {
        let root = Path::new(DEBIAN_ROOT);
        Self {
            compiler: Compiler::ask(&root.join("bin/rustc")),
            cargo: root.join("bin/cargo").exists(),
            source: root.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists(),
        }
    }
}

impl InstalledLinker {
    fn find() -> Option<Self> {
        let version = process::text(Program::BpfLinker.command().arg("--version")).ok()?;
        let file = Program::BpfLinker.find()?;
        let libraries = process::text(Program::Ldd.command().arg(file)).unwrap_or_default();
        Some(Self { version: version.split_whitespace().last()?.to_owned(), llvm: llvm_of(&libraries) })
    }

    /// Returns whether it is the pinned release and reads the bitcode of `toolchain`.
    pub(super) fn fits(&self, toolchain: &Toolchain) -> bool {
        self.version == toolchain::BPF_LINKER.version && self.llvm.is_none_or(|llvm| llvm == toolchain.compiler.llvm)
    }
}

/// Returns the major version of LLVM in ldd's output: `libLLVM.so.22.1`, formerly
/// `libLLVM-17.so.1`.
fn llvm_of(libraries: &str) -> Option<u32> {
    let name = libraries.split_whitespace().find_map(|word| word.strip_prefix("libLLVM"))?;
    name.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_of_a_linker_is_read_from_its_libraries() {
        assert_eq!(llvm_of("\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x7f)\n"), Some(22));
        assert_eq!(llvm_of("\tlibz.so.1 => /lib/libz.so.1\n\tlibLLVM-17.so.1 => /usr/lib/libLLVM-17.so.1\n"), Some(17));
        assert_eq!(llvm_of("\tstatically linked\n"), None);
    }
}
