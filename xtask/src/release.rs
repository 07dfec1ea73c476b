//! `cargo xtask release`: whether what a release says of itself agrees, and its packages.

use std::{fs, path::Path};

use anyhow::{Context as _, bail};

use crate::{
    package::{self, PackageFormat},
    packages,
    process::{cargo, root, run, say, text},
    programs::{Program, Use},
    rules,
    setup::setup,
};

/// The version of all crates of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Tests of what is written from the sources: the command reference, the displays with their JSON
/// and metrics, the schemas, which must not break those who read the last release, the documents,
/// and what the packages hold, the manual pages among it.
const AGREE: [&[&str]; 2] = [
    &["test", "--locked", "--workspace", "--lib", "--", "config::tests::reference", "control::display::"],
    &["test", "--locked", "--workspace", "--test=schema", "--test=documents", "--test=packages"],
];

/// Checks, and makes the packages.
pub(crate) fn command() -> anyhow::Result<()> {
    let mut disagreements = tree()?;
    disagreements.extend(released(VERSION)?);
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).context("CHANGELOG.md")?;
    disagreements.extend(changelog_of(&changelog, VERSION));
    for path in documents(&root())? {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let name = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        disagreements.extend(packages_named(&name, &text, VERSION));
    }
    if !disagreements.is_empty() {
        bail!("version {VERSION} cannot be released yet:\n  {}", disagreements.join("\n  "));
    }
    rules::check()?;
    packages::require(&[Use::Package, Use::Test])?;
    setup()?;
    package::install_packers(&PackageFormat::ALL)?;
    // The tests start the programs, and pack what the example makes.
    run(cargo().args(["build", "--locked", "--workspace", "--bins", "--examples"]))?;
    for arguments in AGREE {
        run(cargo().args(arguments))?;
    }
    package::command(&package::Arguments::default())?;
    say(format_args!("version {VERSION} agrees with its changelog, schemas, documents and manual pages"));
    say(format_args!("once it is out: git tag v{VERSION}, with which the schemas of the next one are compared"));
    Ok(())
}

/// Returns why this commit cannot be the release of `version`: another one is.
fn released(version: &str) -> anyhow::Result<Option<String>> {
    let git = |arguments: &[&str]| text(Program::Git.command().args(arguments).current_dir(root()));
    let tag = format!("v{version}");
    if git(&["tag", "--list", &tag])?.trim().is_empty() {
        return Ok(None);
    }
    let commit = |name: &str| git(&["rev-parse", &format!("{name}^{{commit}}")]);
    Ok((commit(&tag)? != commit("HEAD")?)
        .then(|| format!("{tag} is the tag of another commit: raise the version in Cargo.toml")))
}

/// Returns what of the working tree is in no commit.
fn tree() -> anyhow::Result<Vec<String>> {
    let status = text(Program::Git.command().args(["status", "--porcelain"]).current_dir(root()))?;
    Ok(status.lines().map(|line| format!("not committed: {}", line.trim())).collect())
}

/// Returns what a changelog lacks for a release of `version`.
fn changelog_of(changelog: &str, version: &str) -> Vec<String> {
    let mut sections = changelog.split("\n## ").skip(1);
    let Some(first) = sections.next() else { return vec!["CHANGELOG.md has no section".to_owned()] };
    let (title, lines) = first.split_once('\n').unwrap_or((first, ""));
    let has_lines = lines.lines().any(|line| line.starts_with("- "));
    let mut lacks = Vec::new();
    if title.split_whitespace().next() != Some(version) {
        lacks.push(format!("CHANGELOG.md begins with `{title}`: call the section `{version}`, with its date"));
    }
    if !has_lines {
        lacks.push(format!("CHANGELOG.md says nothing about {title}"));
    }
    lacks
}

/// Returns the packages that a document names with another version.
fn packages_named(document: &str, text: &str, version: &str) -> Vec<String> {
    let wanted = format!("{version}-1");
    let named = text.split("bmpd_").skip(1).filter_map(|rest| rest.split('_').next());
    let others = named.filter(|named| named.starts_with(|c: char| c.is_ascii_digit()) && *named != wanted);
    others.map(|other| format!("{document} names the package of {other}, and not of {wanted}")).collect()
}

/// Returns the documents: those beside the README, and those below `docs`.
fn documents(root: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut documents = Vec::new();
    let mut folders = vec![root.join("docs")];
    let beside = fs::read_dir(root)?.flatten().map(|entry| entry.path());
    documents.extend(beside.filter(|path| path.is_file() && path.extension().is_some_and(|ending| ending == "md")));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                documents.push(path);
            }
        }
    }
    documents.sort();
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_needs_a_section_of_its_version_with_lines() {
        assert_eq!(changelog_of("# Changelog\n\n## 1.2.0 (2026-12-01)\n\n- New.\n\n## 1.1.0\n", "1.2.0"), [""; 0]);
        let unreleased = changelog_of("# Changelog\n\n## Unreleased\n\n- New.\n", "1.2.0");
        assert!(unreleased[0].contains("begins with `Unreleased`"), "{unreleased:?}");
        let empty = changelog_of("# Changelog\n\n## 1.2.0\n\n## 1.1.0\n\n- Old.\n", "1.2.0");
        assert_eq!(empty, ["CHANGELOG.md says nothing about 1.2.0"]);
    }

    #[test]
    fn a_document_that_names_the_package_of_another_version_is_found() {
        let text = "apt install ./bmpd_1.1.0-1_amd64.deb, bmpd_VERSION_ARCH.deb, bmpd_1.2.0-1_arm64.deb";
        let found = packages_named("README.md", text, "1.2.0");
        assert_eq!(found, ["README.md names the package of 1.1.0-1, and not of 1.2.0-1"]);
    }

    #[test]
    fn the_documents_name_the_packages_of_this_version() {
        for path in documents(&root()).unwrap() {
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(packages_named(&path.display().to_string(), &text, VERSION), [""; 0]);
        }
    }
}
