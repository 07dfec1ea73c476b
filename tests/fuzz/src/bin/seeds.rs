//! Writes the seeds for libFuzzer: a folder of inputs for each target, and a dictionary of the
//! command language.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use bmp_fuzz::{corpus, target};

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("usage: seeds FOLDER")?);
    let mut out = std::io::stdout();
    if !corpus::captures_are_there() {
        writeln!(out, "no captures in {}: the seeds are synthetic ones only", corpus::folder().display())?;
    }
    for (name, _) in target::ALL {
        let own = folder.join(name);
        fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
        let seeds = corpus::of(name);
        for (number, seed) in seeds.iter().enumerate() {
            write(&own.join(format!("{number:04}")), seed)?;
        }
        writeln!(out, "{name} {}", seeds.len())?;
    }
    for name in ["config", "control"] {
        write(&folder.join(format!("{name}.dict")), corpus::dictionary().as_bytes())?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
