//! Compiles the kernel programs with their own toolchain and puts their object file into `OUT_DIR`,
//! where `pin` embeds it.

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
    let mut orders = std::io::stdout();
    writeln!(orders, "cargo::rerun-if-env-changed={}", toolchain::OVERRIDE)?;
    // The lock file and the workspace's manifest hold the versions and the profile that the
    // programs are compiled with.
    for source in ["bmp-ebpf", "Cargo.lock", "Cargo.toml"] {
        writeln!(orders, "cargo::rerun-if-changed=../{source}")?;
    }
    match compile() {
        Ok(warnings) => warnings
            .lines()
            .filter(|line| !line.is_empty())
            .try_for_each(|line| writeln!(orders, "cargo::warning={line}"))?,
        // Said this way cargo prints the sentence alone, not the whole of what a build script that
        // failed had to say.
        Err(error) => format!("{error:#}").lines().try_for_each(|line| writeln!(orders, "cargo::error={line}"))?,
    }
    Ok(())
}

/// Compiles, and returns what the compiler had to say.
fn compile() -> anyhow::Result<String> {
    let toolchain = toolchain::choose()?.ok_or_else(|| {
        anyhow!(
            "no installed Rust toolchain can compile the kernel programs: run `cargo xtask setup`, which installs one"
        )
    })?;
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    let arch = match env::var("CARGO_CFG_TARGET_ARCH").context("CARGO_CFG_TARGET_ARCH")? {
        // aya knows one RISC-V.
        riscv if riscv.starts_with("riscv64") => "riscv64".to_owned(),
        arch => arch,
    };
    let target = toolchain::target(env::var("CARGO_CFG_TARGET_ENDIAN").context("CARGO_CFG_TARGET_ENDIAN")? == "big");
    let target_dir = shared_folder(&out);

    let output = toolchain.programs("build", &arch, target, &target_dir).current_dir("..").output();
    let output = output.context("rustup does not run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!(
            "the kernel programs do not compile with toolchain `{}` and bpf-linker {}{}:\n{said}",
            toolchain.name,
            toolchain::BPF_LINKER.version,
            if said.contains("bpf-linker` not found") { ", which is missing: run `cargo xtask setup`" } else { "" }
        );
    }
    let object = target_dir.join(target).join("bpf").join("bmp-programs");
    fs::copy(&object, out.join("bmp-programs")).with_context(|| format!("cannot copy {}", object.display()))?;
    Ok(said.into_owned())
}

/// The folder for the programs' own build: one for all profiles and for `check`, `clippy` and
/// `build`, which would otherwise each compile `core` anew. It is not the outer target folder,
/// whose lock the outer cargo holds.
fn shared_folder(out: &Path) -> PathBuf {
    let build = out.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "build"));
    build.and_then(|build| build.parent()?.parent()).unwrap_or(out).join("bpf")
}
