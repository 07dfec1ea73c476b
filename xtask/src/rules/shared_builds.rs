//! The demonstration and the tests share what cargo compiles: the crates of the demonstration have
//! the features that the tests ask for. With other features, cargo would compile most of them
//! twice.

use std::collections::BTreeSet;

use super::Violation;
use crate::process::{cargo, text};

/// The manifest that gives the demonstration the features of the tests.
const MANIFEST: &str = "tests/Cargo.toml";

/// Crates that the demonstration builds with other features than the tests.
pub(super) fn check() -> anyhow::Result<Vec<Violation>> {
    let demonstration = features(&["--edges=normal,build", "--package=bmp-user", "--package=bmp-tests"])?;
    let tests = features(&["--edges=normal,build,dev", "--workspace"])?;
    Ok(differences(&demonstration, &tests))
}

/// Returns the crates of a build, each with its version and features.
fn features(build: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let tree = text(cargo().args(["tree", "--locked", "--prefix=none", "--format={p} {f}"]).args(build))?;
    // A crate that was shown before is marked.
    Ok(tree.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect())
}

fn differences(demonstration: &BTreeSet<String>, tests: &BTreeSet<String>) -> Vec<Violation> {
    let different = demonstration.difference(tests).map(|with| {
        let name = with.split(' ').next().unwrap_or_default();
        let other = tests.iter().find(|line| line.split(' ').next() == Some(name)).map_or("none", String::as_str);
        let message = format!(
            "the demonstration builds `{with}` and the tests `{other}`: give {name} the features of the tests here"
        );
        Violation { file: MANIFEST.into(), line: 1, message }
    });
    different.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_with_other_features_is_found() {
        let build = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        let found = differences(&build(&["a v1 std", "b v1 "]), &build(&["a v1 std", "b v1 std", "c v1 "]));
        assert_eq!(found.len(), 1);
        assert!(found[0].message.starts_with("the demonstration builds `b v1 ` and the tests `b v1 std`"), "{found:?}");
    }
}
