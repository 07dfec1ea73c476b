//! What a machine has of what the kernel programs need.

use std::path::Path;

use super::plan::{DEBIAN_ROOT, llvm_package};
use crate::{
    packages, process,
    programs::Program,
    toolchain::{self, Compiler, Toolchain},
};

/// A machine, as far as [`super::plan`] has to know it.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// What it calls itself.
    pub(super) name: String,
    /// Whether packages are installed as Debian does.
    pub(super) debian: bool,
    /// The toolchain that would be chosen.
    pub(super) toolchain: Option<Toolchain>,
    /// The distribution's own compiler, linked into rustup or not.
    pub(super) system: System,
    /// The bpf-linker in the path.
    pub(super) linker: Option<Linker>,
    /// Whether a C++ compiler is there: bpf-linker links with its library.
    pub(super) cxx: bool,
    /// Whether the LLVM to build bpf-linker with is there; asked only when it is going to be built.
    pub(super) llvm: bool,
}

/// The distribution's Rust.
#[derive(Clone, Debug, Default)]
pub(super) struct System {
    pub(super) compiler: Option<Compiler>,
    pub(super) cargo: bool,
    pub(super) source: bool,
}

/// An installed bpf-linker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Linker {
    pub(super) version: String,
    /// The major version of the LLVM it is linked with; unknown when it is part of the program.
    pub(super) llvm: Option<u32>,
}

impl Machine {
    /// Looks at this machine.
    pub(super) fn look() -> anyhow::Result<Self> {
        let (debian, name) = packages::host();
        let toolchain = toolchain::choose()?;
        let linker = Linker::find();
        let builds =
            toolchain.as_ref().filter(|toolchain| !linker.as_ref().is_some_and(|linker| linker.fits(toolchain)));
        Ok(Self {
            name,
            debian,
            system: if toolchain.is_some() { System::default() } else { System::look() },
            cxx: Program::Cxx.find().is_some(),
            llvm: debian
                && builds.is_some_and(|chosen| packages::missing(&[&llvm_package(chosen.compiler.llvm)]).is_empty()),
            toolchain,
            linker,
        })
    }
}

impl System {
    fn look() -> Self {
        let root = Path::new(DEBIAN_ROOT);
        Self {
            compiler: Compiler::ask(&root.join("bin/rustc")),
            cargo: root.join("bin/cargo").exists(),
            source: root.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists(),
        }
    }
}

impl Linker {
    fn find() -> Option<Self> {
        let version = process::text(Program::BpfLinker.command().arg("--version")).ok()?;
        let file = Program::BpfLinker.find()?;
        let libraries = process::text(Program::Ldd.command().arg(file)).unwrap_or_default();
        Some(Self { version: version.split_whitespace().last()?.to_owned(), llvm: llvm_of(&libraries) })
    }

    /// Whether it is the pinned release and reads what `toolchain` writes.
    pub(super) fn fits(&self, toolchain: &Toolchain) -> bool {
        self.version == toolchain::BPF_LINKER.version && self.llvm.is_none_or(|llvm| llvm == toolchain.compiler.llvm)
    }
}

/// The LLVM major in ldd's output: `libLLVM.so.22.1` or, as older ones are called, `libLLVM-17.so.1`.
fn llvm_of(libraries: &str) -> Option<u32> {
    let name = libraries.split_whitespace().find_map(|word| word.strip_prefix("libLLVM"))?;
    name.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_of_a_linker_is_read_from_the_library_it_loads() {
        assert_eq!(llvm_of("\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x7f)\n"), Some(22));
        assert_eq!(llvm_of("\tlibz.so.1 => /lib/libz.so.1\n\tlibLLVM-17.so.1 => /usr/lib/libLLVM-17.so.1\n"), Some(17));
        assert_eq!(llvm_of("\tstatically linked\n"), None);
    }
}
