//! Writes the files of the packages that are made from the programs and their dependencies, into
//! the folder that it is given.
//!
//! * `manual`: the manual pages; completions are clap's
//! * `crates`: the licences of all crates, and the list of them (SBOM)

mod crates;
mod manual;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use bmp_user::command_line::BmpdArguments;
use clap::CommandFactory as _;
use clap_complete::Shell;

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("name the folder for the files")?);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    write(&folder, "bmpd.8", &manual::bmpd()?)?;
    write(&folder, "bmpctl.1", &manual::bmpctl()?)?;
    write(&folder, "bmpd.conf.5", &manual::conf())?;
    for (shell, name) in [(Shell::Bash, "bmpd.bash"), (Shell::Zsh, "bmpd.zsh"), (Shell::Fish, "bmpd.fish")] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut BmpdArguments::command(), "bmpd", &mut script);
        write(&folder, name, &script)?;
    }
    let crates = crates::linked().context("the dependencies are unknown")?;
    write(&folder, "copyright", crates::copyright(&crates)?.as_bytes())?;
    write(&folder, "bmpd.cdx.json", crates::bill_of_materials(&crates).as_bytes())
}

fn write(folder: &Path, name: &str, contents: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::write(&path, contents).with_context(|| path.display().to_string())
}
