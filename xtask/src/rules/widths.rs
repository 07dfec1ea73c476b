//! Lines and files that are too long to be read.

use super::{Violation, Workspace};

/// The widest comment, and the widest line of a document.
const COLUMNS: usize = 100;

/// The longest Rust file.
const LINES: usize = 600;

/// Documents that are kept short, and how short.
const SHORT: [(&str, usize); 2] = [("README.md", 120), ("ARCHITECTURE.md", 150)];

/// Comments of Rust files.
pub(super) fn comments(workspace: &Workspace) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in &workspace.sources {
        for comment in source.comments.iter().filter(|comment| comment.columns > COLUMNS) {
            violations.push(Violation {
                file: source.path.clone(),
                line: comment.line,
                message: format!("this comment ends in column {}: wrap it at {COLUMNS}", comment.columns),
            });
        }
    }
    violations
}

/// Lines of documents, and the length of those that are kept short. Tables and code are as wide as
/// they must be.
pub(super) fn documents(workspace: &Workspace) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (file, text) in &workspace.documents {
        let mut code = false;
        for (number, line) in (1..).zip(text.lines()) {
            let begin = line.trim_start();
            if begin.starts_with("```") {
                code = !code;
            }
            let columns = line.chars().count();
            // A link cannot be wrapped.
            let words = begin.trim_start_matches(['-', '*', '>', ' ']).split(' ').count();
            if columns > COLUMNS && !code && !begin.starts_with('|') && words > 1 {
                let message = format!("this line ends in column {columns}: wrap it at {COLUMNS}");
                violations.push(Violation { file: file.clone(), line: number, message });
            }
        }
        let most = SHORT.iter().find(|(name, _)| file.as_os_str() == *name).map(|(_, most)| *most);
        let lines = text.lines().count();
        if let Some(most) = most.filter(|most| lines > *most) {
            let message = format!("{lines} lines; at most {most}: move details to a page below docs/");
            violations.push(Violation { file: file.clone(), line: lines, message });
        }
    }
    violations
}

/// The length of Rust files.
pub(super) fn files(workspace: &Workspace) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in &workspace.sources {
        let lines = source.text.lines().count();
        if lines > LINES {
            let message = format!("{lines} lines; at most {LINES}: divide the file by subject");
            violations.push(Violation { file: source.path.clone(), line: lines, message });
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{super::source::SourceFile, *};

    fn workspace(source: &str, document: &str) -> Workspace {
        Workspace {
            sources: vec![SourceFile::new(Path::new("x.rs"), source.to_owned())],
            documents: vec![("README.md".into(), document.to_owned())],
            crates: Vec::new(),
        }
    }

    #[test]
    fn a_comment_beyond_column_100_is_found_and_code_is_not() {
        let (fits, wide) = ("a".repeat(97), "a".repeat(98));
        let text = format!("// {fits}\n    /// {wide}\nlet x = \"{wide}\";\n");
        let found = comments(&workspace(&text, ""));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "x.rs:2: this comment ends in column 106: wrap it at 100");
    }

    #[test]
    fn tables_code_and_links_of_documents_may_be_wide() {
        let wide = "word ".repeat(30);
        let link = "x".repeat(120);
        let found = documents(&workspace("", &format!("| {wide}\n```text\n{wide}\n```\n- {link}\n{wide}\n")));
        assert_eq!(found.iter().map(|violation| violation.line).collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn the_readme_and_long_files_are_kept_short() {
        let workspace = workspace(&"\n".repeat(601), &"\n".repeat(121));
        assert_eq!(documents(&workspace)[0].line, 121);
        assert!(files(&workspace)[0].message.starts_with("601 lines; at most 600"));
    }
}
