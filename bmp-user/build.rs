//! Compiles the kernel programs with a toolchain of their own, and copies their object file to
//! `OUT_DIR`, from where `pin` embeds it.
//!
//! The outer cargo's profile and its `CARGO_INCREMENTAL` do not change the object.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};

#[path = "../xtask/src/programs.rs"]
#[expect(dead_code, unreachable_pub, reason = "it is a library, of which a build uses a small part")]
mod programs;
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

fn main() -> anyhow::Result<()> {
    let mut instructions = std::io::stdout();
    writeln!(instructions, "cargo::rerun-if-env-changed={}", toolchain::OVERRIDE)?;
    // The lock file has the versions of the dependencies, and the manifest has the profile `bpf`.
    for source in ["bmp-ebpf", "Cargo.lock", "Cargo.toml"] {
        writeln!(instructions, "cargo::rerun-if-changed=../{source}")?;
    }
    match compile() {
        Ok(warnings) => warnings
            .lines()
            .filter(|line| !line.is_empty())
            .try_for_each(|line| writeln!(instructions, "cargo::warning={line}"))?,
        // Cargo shows these lines alone. If the script failed instead, cargo would show all of its
        // output.
        Err(error) => {
            format!("{error:#}").lines().try_for_each(|line| writeln!(instructions, "cargo::error={line}"))?
        }
    }
    Ok(())
}

/// Compiles the programs and returns the compiler's warnings.
///
/// # Errors
///
/// No installed toolchain is suitable, rustup does not run, the programs do not compile, or their
/// object file cannot be copied.
fn compile() -> anyhow::Result<String> {
    let toolchain = toolchain::choose()?.ok_or_else(|| {
        anyhow!(
            "no installed Rust toolchain can compile the kernel programs: run `cargo xtask setup`, which installs one"
        )
    })?;
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    let arch = match env::var("CARGO_CFG_TARGET_ARCH").context("CARGO_CFG_TARGET_ARCH")? {
        // aya has one name for RISC-V: `riscv64`. Rust has several, such as `riscv64gc`.
        riscv if riscv.starts_with("riscv64") => "riscv64".to_owned(),
        arch => arch,
    };
    let target = toolchain::target(env::var("CARGO_CFG_TARGET_ENDIAN").context("CARGO_CFG_TARGET_ENDIAN")? == "big");
    let target_dir = shared_folder(&out);

    let output = toolchain.programs("build", &arch, target, &target_dir).current_dir("..").output();
    let output = output.context("rustup does not run")?;
    let messages = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!(
            "the kernel programs do not compile with toolchain `{}` and bpf-linker {}{}:\n{messages}",
            toolchain.name,
            toolchain::BPF_LINKER.version,
            if messages.contains("bpf-linker` not found") { ", which is missing: run `cargo xtask setup`" } else { "" }
        );
    }
    let object = target_dir.join(target).join("bpf").join("bmp-programs");
    fs::copy(&object, out.join("bmp-programs")).with_context(|| format!("cannot copy {}", object.display()))?;
    Ok(messages.into_owned())
}

/// Returns the target folder of the programs' own build: `bpf` in the outer target folder.
///
/// All profiles share it, and so do `check`, `clippy` and `build`. With a folder of its own, each
/// would compile `core` again. The outer target folder itself is locked by the outer cargo.
fn shared_folder(out: &Path) -> PathBuf {
    let build = out.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "build"));
    build.and_then(|build| build.parent()?.parent()).unwrap_or(out).join("bpf")
}
