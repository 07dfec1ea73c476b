//! `cargo xtask rules`: the rules of this project that no compiler checks, in a second.
//!
//! * [`widths`]: comments and documents are at most 100 columns wide, files at most 600 lines long.
//! * [`type_names`]: no two types of the workspace have one name.
//! * [`layers`]: the table of modules in ARCHITECTURE.md is true.
//! * [`cycles`]: the files of a crate do not use each other in a circle.
//! * [`contents`]: every document is a chapter of the book.
//! * [`named_files`]: the files that documents name are there.
//! * [`shared_builds`]: the demonstration and the tests share what cargo compiles.

mod contents;
mod crates;
mod cycles;
mod layers;
mod named_files;
mod shared_builds;
mod source;
mod type_names;
mod widths;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};

use self::{crates::CrateTree, source::SourceFile};
use crate::process::{cargo, root, say, text};

/// So many violations of one rule are shown.
const SHOWN: usize = 40;

/// A place where a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Violation {
    /// Below the repository's root.
    file: PathBuf,
    /// Counted from 1.
    line: usize,
    /// What is wrong, and what to do.
    message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.message)
    }
}

/// A rule, with what it has found.
struct Checked {
    rule: &'static str,
    violations: Vec<Violation>,
    /// How many violations are let pass. The number may fall and never rise; 0 is where it ends.
    ceiling: usize,
}

/// Fails where a rule is broken.
pub(crate) fn command() -> anyhow::Result<ExitCode> {
    check().map(|()| ExitCode::SUCCESS)
}

/// Checks every rule and says what is wrong.
///
/// # Errors
///
/// A rule is broken, or a file cannot be read.
pub(crate) fn check() -> anyhow::Result<()> {
    let workspace = Workspace::read(&root())?;
    let checked = [
        Checked { rule: "wide comments", violations: widths::comments(&workspace), ceiling: 0 },
        Checked { rule: "wide documents", violations: widths::documents(&workspace), ceiling: 0 },
        Checked { rule: "long files", violations: widths::files(&workspace), ceiling: 0 },
        Checked { rule: "shared type names", violations: type_names::check(&workspace), ceiling: 0 },
        Checked { rule: "modules", violations: layers::check(&workspace)?, ceiling: 0 },
        Checked { rule: "cycles of files", violations: cycles::check(&workspace), ceiling: 0 },
        Checked { rule: "chapters", violations: contents::check(&workspace), ceiling: 0 },
        Checked { rule: "named files", violations: named_files::check(&workspace), ceiling: 0 },
        Checked { rule: "shared builds", violations: shared_builds::check()?, ceiling: 0 },
    ];
    let mut broken = Vec::new();
    for Checked { rule, violations, ceiling } in checked {
        if violations.len() <= ceiling {
            let passed = if ceiling == 0 { String::new() } else { format!(" of at most {ceiling}") };
            say(format_args!("rules: {rule}: {}{passed}", violations.len()));
            continue;
        }
        violations.iter().take(SHOWN).for_each(say);
        if violations.len() > SHOWN {
            say(format_args!("... and {} more", violations.len() - SHOWN));
        }
        broken.push(format!("{rule}: {}, at most {ceiling}", violations.len()));
    }
    if !broken.is_empty() {
        bail!("rules are broken, as shown above: {}", broken.join("; "));
    }
    Ok(())
}

/// All that the rules are about.
struct Workspace {
    /// Every Rust file.
    sources: Vec<SourceFile>,
    /// Every document, with its content.
    documents: Vec<(PathBuf, String)>,
    /// Every library and program.
    crates: Vec<CrateTree>,
}

impl Workspace {
    /// Reads the workspace in the folder `root`.
    fn read(root: &Path) -> anyhow::Result<Self> {
        let mut workspace = Self { sources: Vec::new(), documents: Vec::new(), crates: Vec::new() };
        workspace.add_folder(root, Path::new(""))?;
        workspace.sources.sort_by(|one, other| one.path.cmp(&other.path));
        workspace.documents.sort();
        let read = |path: &Path| fs::read_to_string(root.join(path)).ok();
        for path in crate_roots(root)? {
            let tree = CrateTree::read(&path, &read).with_context(|| format!("cannot read {}", path.display()))?;
            workspace.crates.push(tree);
        }
        Ok(workspace)
    }

    fn add_folder(&mut self, root: &Path, folder: &Path) -> anyhow::Result<()> {
        let there = root.join(folder);
        let entries = fs::read_dir(&there).with_context(|| format!("cannot read {}", there.display()))?;
        for entry in entries.flatten() {
            let path = folder.join(entry.file_name());
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            // A build folder, wherever it is, has this file.
            if entry.path().is_dir() && !hidden && !entry.path().join("CACHEDIR.TAG").exists() {
                self.add_folder(root, &path)?;
                continue;
            }
            let kind = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if entry.path().is_file() && ["rs", "md"].contains(&kind) {
                let text = fs::read_to_string(entry.path());
                let text = text.with_context(|| format!("cannot read {}", path.display()))?;
                if kind == "rs" {
                    self.sources.push(SourceFile::new(&path, text));
                } else {
                    self.documents.push((path, text));
                }
            }
        }
        Ok(())
    }
}

/// The first file of every library, program, test, benchmark and build script, below `root`.
fn crate_roots(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let metadata = text(cargo().args(["metadata", "--no-deps", "--format-version=1", "--offline"]))?;
    let quoted = metadata.split("\"src_path\":\"").skip(1).filter_map(|rest| rest.split_once('"'));
    let mut files: Vec<_> =
        quoted.filter_map(|(path, _)| Some(Path::new(path).strip_prefix(root).ok()?.to_owned())).collect();
    files.sort();
    files.dedup();
    if files.is_empty() {
        bail!("`cargo metadata` names no file below {}", root.display());
    }
    Ok(files)
}
