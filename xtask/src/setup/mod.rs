//! `cargo xtask setup`: installs what the kernel programs are compiled with.
//!
//! It looks at the machine, takes the next steps, and looks again, until nothing is missing. So it
//! goes on where an interrupted setup ended. The compiler must be there before its LLVM is known.

mod machine;
mod plan;

use anyhow::bail;

use self::{machine::MachineFacts, plan::SetupStep};
use crate::{
    packages,
    process::{cargo, run, say, target_dir},
    programs::Program,
    progress::note,
    toolchain::{BPF_LINKER, LINKED},
};

/// Installs what is missing. Takes less than a second if nothing is.
pub(crate) fn setup() -> anyhow::Result<()> {
    let mut done = Vec::new();
    loop {
        let machine = MachineFacts::look()?;
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

/// Returns whether [`setup`] has nothing to do.
pub(crate) fn is_ready() -> anyhow::Result<bool> {
    Ok(plan::plan(&MachineFacts::look()?).is_ok_and(|steps| steps.is_empty()))
}

/// Runs [`setup`] and prints which toolchain will compile the kernel programs.
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

fn carry_out(step: &SetupStep) -> anyhow::Result<()> {
    match step {
        SetupStep::Packages(names) => packages::install(names),
        SetupStep::LinkToolchain => {
            run(Program::Rustup.command().args(["toolchain", "link", LINKED, machine::DEBIAN_ROOT]))
        }
        SetupStep::Linker { llvm } => {
            let mut install = cargo();
            install.args(["install", "bpf-linker", "--version", BPF_LINKER.version, "--locked", "--force"]);
            install.args(["--no-default-features", "--features", &format!("llvm-{llvm}")]);
            // It goes to cargo's own programs, whatever this project's cargo is told about builds.
            install.current_dir("/").env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
            // Machines that share the build folder build it once.
            install.arg("--target-dir").arg(target_dir()?.join("bpf-linker"));
            run(install.env("LLVM_PREFIX", machine::llvm_prefix(*llvm)))
        }
    }
}
