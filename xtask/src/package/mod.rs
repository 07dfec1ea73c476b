//! `cargo xtask package`: bmpd as packages, made from one description below `bmp-user/packaging`.
//!
//! What goes into the packages is collected in a folder first, with every time set to that of the
//! commit. cargo-deb then only packs: the same commit gives the same bytes.
//!
//! - `contents`: the description; `manifest`: what cargo-deb reads
//! - `programs`: the programs without their debug symbols, and what they need of the host

mod contents;
mod manifest;
mod programs;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use self::{
    contents::{FileSource, PackagedFile},
    manifest::{MAINTAINER, PackageManifest},
    programs::StrippedPrograms,
};
use crate::{
    binaries::{self, Profile},
    packages,
    process::{cargo, root, run, say, target_dir, text},
    programs::{Built, Program, Use},
    progress::note,
    tools::{self, CargoTool},
};

/// The cargo-deb that packs.
const CARGO_DEB: CargoTool = CargoTool { name: "cargo-deb", version: "3.8.0", features: None };

/// The program that makes manual pages and completions.
const MAKER: &str = "packaged_files";

/// The options of `cargo xtask package`.
#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Pack the programs in this folder and build none
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Put the packages into this folder (default: `target/package`)
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// Makes the packages and prints their paths.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<()> {
    packages::require(&[Use::Package])?;
    let folder = target_dir()?.join("package");
    let programs = match &arguments.programs {
        Some(programs) => std::path::absolute(programs)?,
        None => binaries::build(Profile::Release, &[])?,
    };
    let output = arguments.output.as_ref().map_or_else(|| Ok(folder.clone()), std::path::absolute)?;
    fs::create_dir_all(&output).with_context(|| output.display().to_string())?;
    let tool = tools::install(&CARGO_DEB)?;
    // Two of them at a time would mix their files.
    let stage = folder.join(format!("stage-{}", std::process::id()));
    let made = make(&tool, &programs, &stage, &output);
    let _ = fs::remove_dir_all(&stage);
    made?.iter().for_each(|package| say(package.display()));
    Ok(())
}

/// Makes the packages of these programs. Returns their paths.
fn make(cargo_deb: &Built, programs: &Path, stage: &Path, output: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let time = commit_time()?;
    fs::create_dir_all(stage).with_context(|| stage.display().to_string())?;
    let stripped = StrippedPrograms::make(programs, stage)?;
    made_files(programs, &stage.join("made"))?;
    let changelog = stage.join("changelog");
    fs::write(&changelog, debian_changelog(&time)?)?;
    let files = contents::read(&root())?;
    let found = |file: &PackagedFile| match &file.source {
        FileSource::Program(name) => stripped.program(name),
        FileSource::Made(name) => stage.join("made").join(name),
        FileSource::Repository(path) => root().join(path),
    };
    let mut made = Vec::new();
    for manifest in [
        PackageManifest::of_bmpd(&files, found, &stripped.needs(), &changelog),
        PackageManifest::of_symbols(stripped.symbols(), &changelog),
    ] {
        let folder = stage.join(manifest.name());
        manifest.write(&folder)?;
        let mut pack = cargo_deb.command();
        pack.args(["--no-build", "--no-strip", "--manifest-path"]).arg(folder.join("Cargo.toml"));
        pack.arg("--output").arg(output).env("SOURCE_DATE_EPOCH", &time).env_remove("CARGO_TARGET_DIR");
        note(format_args!("packing {}", manifest.name()));
        made.push(PathBuf::from(text(&mut pack)?.trim()));
    }
    Ok(made)
}

/// Returns the changelog of the package of Debian, which is about the packaging alone.
fn debian_changelog(time: &str) -> anyhow::Result<String> {
    let mut date = Program::Date.command();
    date.args(["--utc", "--rfc-email", "--date"]).arg(format!("@{time}")).env("LC_ALL", "C");
    Ok(format!(
        "bmpd ({}-1) unstable; urgency=medium\n\n  * See changelog.gz for what is new.\n\n -- {MAINTAINER}  {}\n",
        env!("CARGO_PKG_VERSION"),
        text(&mut date)?.trim()
    ))
}

/// Makes the files that are made from the programs.
fn made_files(programs: &Path, folder: &Path) -> anyhow::Result<()> {
    // Tests have built it beside the programs.
    let built = programs.join("examples").join(MAKER);
    if built.is_file() {
        return run(Built::at(built).command().arg(folder));
    }
    run(cargo().args(["run", "--quiet", "--locked", "--package=bmp-user", "--example", MAKER, "--"]).arg(folder))
}

/// Returns the time of the commit, in seconds since 1970: what is made from one commit has one
/// time.
fn commit_time() -> anyhow::Result<String> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    let time = text(Program::Git.command().args(["log", "-1", "--format=%ct"]).current_dir(root()));
    Ok(time.context("the time of the commit is unknown: set SOURCE_DATE_EPOCH")?.trim().to_owned())
}
