//! `cargo xtask package`: bmpd as packages, made from one description below `bmp-user/packaging`.
//!
//! What goes into the packages is collected in a folder first, with every time set to that of the
//! commit. cargo-deb and cargo-generate-rpm then only pack: the same commit gives the same bytes.
//!
//! - `contents`: the description; `manifest`: what those two read
//! - `programs`: the programs without their debug symbols, and what they need of the host

mod contents;
mod manifest;
mod programs;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

pub(crate) use self::contents::PackageFormat;
use self::{
    contents::{FileSource, PackagedFile},
    manifest::{PackageManifest, maintainer},
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

/// The cargo-generate-rpm that packs.
const CARGO_GENERATE_RPM: CargoTool = CargoTool { name: "cargo-generate-rpm", version: "0.21.0", features: None };

/// The program that makes manual pages and completions.
const MAKER: &str = "packaged_files";

/// The options of `cargo xtask package`.
#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Pack the programs in this folder and build none; compresses little, as for a trial
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Put the packages into this folder (default: `target/package`)
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Make packages of this format alone
    #[arg(long)]
    format: Option<PackageFormat>,
}

/// Makes the packages and prints their paths.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<()> {
    packages::require(&[Use::Package])?;
    let folder = target_dir()?.join("package");
    let programs = match &arguments.programs {
        Some(programs) => std::path::absolute(programs)?,
        None => {
            let programs = binaries::build(Profile::Release, &[])?;
            // Whoever sets RUSTFLAGS builds as it pleases.
            if std::env::var_os("RUSTFLAGS").is_none() {
                programs::check_folders(&programs)?;
            }
            programs
        }
    };
    let output = arguments.output.as_ref().map_or_else(|| Ok(folder.clone()), std::path::absolute)?;
    fs::create_dir_all(&output).with_context(|| output.display().to_string())?;
    let formats = arguments.format.map_or_else(|| PackageFormat::ALL.to_vec(), |format| vec![format]);
    install_packers(&formats)?;
    // Two of them at a time would mix their files.
    let stage = folder.join(format!("stage-{}", std::process::id()));
    let compression = if arguments.programs.is_some() { PackageCompression::Little } else { PackageCompression::Full };
    let made = make(&formats, &programs, &stage, &output, compression);
    let _ = fs::remove_dir_all(&stage);
    made?.iter().for_each(|package| say(package.display()));
    Ok(())
}

/// Installs the tools that pack and are not there.
pub(crate) fn install_packers(formats: &[PackageFormat]) -> anyhow::Result<()> {
    formats.iter().try_for_each(|format| tools::install(format.packer()).map(drop))
}

impl PackageFormat {
    /// Returns the tool that packs.
    fn packer(self) -> &'static CargoTool {
        match self {
            Self::Deb => &CARGO_DEB,
            Self::Rpm => &CARGO_GENERATE_RPM,
        }
    }
}

/// Makes a package in the folder `output` and returns its path.
fn pack(
    manifest: &PackageManifest,
    stage: &Path,
    output: &Path,
    time: &str,
    compression: PackageCompression,
) -> anyhow::Result<PathBuf> {
    let format = manifest.format();
    note(format_args!("packing {} ({format})", manifest.name()));
    let folder = stage.join(manifest.name()).join(format.to_string());
    manifest.write(&folder)?;
    let mut pack = tools::install(format.packer())?.command();
    pack.env("SOURCE_DATE_EPOCH", time).env_remove("CARGO_TARGET_DIR");
    match format {
        PackageFormat::Deb => {
            pack.args(["--no-build", "--no-strip", "--manifest-path"]).arg(folder.join("Cargo.toml"));
            if compression == PackageCompression::Little {
                pack.arg("--fast");
            }
            Ok(PathBuf::from(text(pack.arg("--output").arg(output))?.trim()))
        }
        PackageFormat::Rpm => {
            // It names the file itself, and does not say how.
            let made = folder.join("made");
            fs::create_dir_all(&made)?;
            if compression == PackageCompression::Little {
                pack.args(["--payload-compress", "none"]);
            }
            run(pack.arg("--output").arg(&made).current_dir(&folder))?;
            let package = fs::read_dir(&made)?.next().context("cargo-generate-rpm made no package")??;
            let path = output.join(package.file_name());
            fs::copy(package.path(), &path).with_context(|| path.display().to_string())?;
            Ok(path)
        }
    }
}

/// How small a package gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PackageCompression {
    /// As small as it goes. The debug symbols alone take most of a minute.
    Full,
    /// For packages that are only tried.
    Little,
}

/// Makes the packages of these programs. Returns their paths.
fn make(
    formats: &[PackageFormat],
    programs: &Path,
    stage: &Path,
    output: &Path,
    compression: PackageCompression,
) -> anyhow::Result<Vec<PathBuf>> {
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
    let needs = stripped.needs();
    let mut made = Vec::new();
    for format in formats {
        let manifests = match format {
            PackageFormat::Deb => [
                PackageManifest::deb(&files, found, &needs, &changelog),
                PackageManifest::deb_symbols(stripped.symbols(), &changelog),
            ],
            PackageFormat::Rpm => {
                [PackageManifest::rpm(&files, found, &needs)?, PackageManifest::rpm_symbols(stripped.symbols())]
            }
        };
        for manifest in &manifests {
            made.push(pack(manifest, stage, output, &time, compression)?);
        }
    }
    Ok(made)
}

/// Returns the changelog of the package of Debian, which is about the packaging alone.
fn debian_changelog(time: &str) -> anyhow::Result<String> {
    let mut date = Program::Date.command();
    date.args(["--utc", "--rfc-email", "--date"]).arg(format!("@{time}")).env("LC_ALL", "C");
    Ok(format!(
        "bmpd ({}-1) unstable; urgency=medium\n\n  * See changelog.gz for what is new.\n\n -- {}  {}\n",
        env!("CARGO_PKG_VERSION"),
        maintainer(),
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
    // With the features of the tests, whose crates are compiled already on most hosts.
    run(cargo().args(["build", "--quiet", "--locked", "--workspace", "--example", MAKER]))?;
    run(Built::at(target_dir()?.join("debug/examples").join(MAKER)).command().arg(folder))
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
