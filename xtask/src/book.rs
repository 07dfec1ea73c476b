//! `cargo xtask docs`: the documents as a book, with mdBook.
//!
//! The documents refer to each other as files of the repository do, so the book is made of a copy
//! that lies as they lie there: those beside the README, and `docs`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    process::{root, run, say, target_dir},
    tools::{self, CargoTool},
};

/// The mdBook that makes the book.
const MDBOOK: CargoTool = CargoTool { name: "mdbook", version: "0.5.4", features: Some("search") };

/// The contents of the book; its links begin in `docs`.
const SUMMARY: &str = "docs/SUMMARY.md";

const SETTINGS: &str = "[book]\ntitle = \"bmpd\"\nlanguage = \"en\"\n\n\
                        [build]\nbuild-dir = \"html\"\ncreate-missing = false\n";

/// Builds the book and says where it is.
pub(crate) fn command() -> anyhow::Result<()> {
    let target = target_dir()?;
    let mdbook = tools::install(&MDBOOK)?;
    let folder = target.join("book");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    copy_documents(&root(), &folder.join("src")).context("cannot copy the documents")?;
    fs::write(folder.join("book.toml"), SETTINGS).context("cannot write the settings of mdBook")?;
    run(mdbook.command().arg("build").arg(&folder))?;
    say(folder.join("html/index.html").display());
    Ok(())
}

fn copy_documents(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            copy(&path, to)?;
        }
    }
    copy_folder(&from.join("docs"), &to.join("docs"))?;
    let summary = fs::read_to_string(from.join(SUMMARY)).context(SUMMARY)?;
    fs::write(to.join("SUMMARY.md"), from_root(&summary))?;
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.is_dir() {
            copy_folder(&path, &to.join(path.file_name().unwrap_or_default()))?;
        } else {
            copy(&path, to)?;
        }
    }
    Ok(())
}

fn copy(file: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let to = folder.join(file.file_name().unwrap_or_default());
    fs::copy(file, &to).with_context(|| format!("{} to {}", file.display(), to.display()))?;
    Ok(to)
}

/// The contents with links that begin in the root: mdBook looks for chapters below its own folder.
fn from_root(summary: &str) -> String {
    let mut parts = summary.split("](");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("](");
        match part.strip_prefix("../") {
            Some(beside_the_readme) => out.push_str(beside_the_readme),
            None => {
                out.push_str("docs/");
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chapters_of_the_contents_are_found_from_the_root() {
        let summary = "[bmpd](../README.md)\n- [BGP](guide/bgp.md)\n";
        assert_eq!(from_root(summary), "[bmpd](README.md)\n- [BGP](docs/guide/bgp.md)\n");
    }
}
