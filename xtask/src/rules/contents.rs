//! The contents of the book: every document is a chapter, and every chapter is a document.

use std::path::{Component, Path, PathBuf};

use super::{Violation, Workspace};

const SUMMARY: &str = "docs/SUMMARY.md";

/// Documents without a chapter, and chapters without a document.
pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    let summary = workspace.documents.iter().find(|(path, _)| path == Path::new(SUMMARY));
    let text = summary.map(|(_, text)| text.as_str()).unwrap_or_default();
    let mut violations = Vec::new();
    let mut chapters = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let Some((link, _)) = text.split_once("](").and_then(|(_, rest)| rest.split_once(')')) else { continue };
        let chapter = joined(Path::new("docs"), Path::new(link));
        if !workspace.documents.iter().any(|(path, _)| *path == chapter) {
            let message = format!("{} is not there: correct the link or take it out", chapter.display());
            violations.push(Violation { file: SUMMARY.into(), line, message });
        }
        chapters.push(chapter);
    }
    for (path, _) in &workspace.documents {
        let is_page = path.parent() == Some(Path::new("")) || path.starts_with("docs");
        if is_page && path != Path::new(SUMMARY) && !chapters.contains(path) {
            let message = format!("no chapter of the book: add the document to {SUMMARY}");
            violations.push(Violation { file: path.clone(), line: 1, message });
        }
    }
    violations
}

/// `path`, which begins in `folder`, without `..`.
fn joined(folder: &Path, path: &Path) -> PathBuf {
    let mut joined = folder.to_owned();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                joined.pop();
            }
            part => joined.push(part),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_chapters_that_lack_each_other_are_found() {
        let document = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
        let documents = vec![
            document("README.md", ""),
            document("docs/SUMMARY.md", "# Contents\n[bmpd](../README.md)\n- [Gone](guide/gone.md)\n"),
            document("docs/new.md", ""),
        ];
        let found = check(&Workspace { sources: Vec::new(), documents, crates: Vec::new() });
        let places: Vec<_> = found.iter().map(|found| format!("{}:{}", found.file.display(), found.line)).collect();
        assert_eq!(places, ["docs/SUMMARY.md:3", "docs/new.md:1"]);
    }
}
