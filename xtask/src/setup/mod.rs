//! `cargo xtask setup`: makes this machine able to compile the kernel programs.
//!
//! It looks at the machine, does the first things that are missing, and looks again, until nothing is: what an earlier setup left
//! half done is simply missing still, and the LLVM that bpf-linker needs is known only once the compiler is there.

mod machine;
mod plan;

use anyhow::bail;

use self::{machine::Machine, plan::Step};
use crate::{
    packages,
    process::{cargo, run, say, target_dir},
    programs::Program,
    progress::note,
    toolchain::{BPF_LINKER, LINKED},
};

/// Does what is missing. Under a second when nothing is.
pub(crate) fn setup() -> anyhow::Result<()> {
    let mut done = Vec::new();
    loop {
        let machine = Machine::look()?;
        let steps = match plan::plan(&machine) {
            Ok(steps) => steps,
            Err(by_hand) => bail!("{by_hand}"),
        };
        if steps.is_empty() {
            return Ok(());
        }
        for step in steps {
            if done.contains(&step) {
                bail!("still missing after it was done: {step}");
            }
            note(format_args!("setup: {step}"));
            carry_out(&step)?;
            done.push(step);
        }
    }
}

/// [`setup`], then what the kernel programs will be compiled with.
pub(crate) fn command() -> anyhow::Result<()> {
    setup()?;
    if let Some(toolchain) = crate::toolchain::choose()? {
        say(format_args!(
            "ready: toolchain `{}` (Rust {}, LLVM {}), bpf-linker {}",
            toolchain.name, toolchain.compiler.release, toolchain.compiler.llvm, BPF_LINKER.version
        ));
    }
    Ok(())
}

fn carry_out(step: &Step) -> anyhow::Result<()> {
    match step {
        Step::Packages(names) => packages::install(names),
        Step::LinkToolchain => run(Program::Rustup.command().args(["toolchain", "link", LINKED, plan::DEBIAN_ROOT])),
        Step::Linker { llvm } => {
            let mut install = cargo();
            install.args(["install", "bpf-linker", "--version", BPF_LINKER.version, "--locked", "--force"]);
            install.args(["--no-default-features", "--features", &format!("llvm-{llvm}")]);
            // It goes where cargo's own programs are, also where this project's cargo is told to build elsewhere or otherwise.
            install.current_dir("/").env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
            // Kept, so that it is built once for all machines that share the build folder.
            install.arg("--target-dir").arg(target_dir()?.join("bpf-linker"));
            run(install.env("LLVM_PREFIX", plan::llvm_prefix(*llvm)))
        }
    }
}
