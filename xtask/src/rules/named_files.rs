//! The files that documents name: a page that sends its reader to a file that is gone is worse than
//! none.

use super::{Violation, Workspace};

/// Pages about making something new name files that are not there yet.
const ABOUT_NEW_FILES: &str = "docs/howto";

/// Rust files in backticks that no file of the repository has as the end of its path.
pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (file, text) in &workspace.documents {
        let mut code = false;
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim_start().starts_with("```") {
                code = !code;
            }
            if code || file.starts_with(ABOUT_NEW_FILES) {
                continue;
            }
            // Every second part is between backticks.
            for named in line.split('`').skip(1).step_by(2).filter(|named| is_rust_file(named)) {
                if !workspace.sources.iter().any(|source| source.path.ends_with(named)) {
                    let message = format!("there is no file {named}: name the one that does it now");
                    violations.push(Violation { file: file.clone(), line: number, message });
                }
            }
        }
    }
    violations
}

/// True for one path, and not for a pattern such as `vm_*.rs`, `FILE.rs` or `{one,other}.rs`.
fn is_rust_file(named: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.' | '/');
    named.len() > ".rs".len() && named.ends_with(".rs") && named.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{super::source::SourceFile, *};

    #[test]
    fn files_that_are_gone_are_found_and_patterns_and_code_are_not() {
        let sources = vec![SourceFile::new(Path::new("bmp-user/src/pin/plan/mod.rs"), String::new())];
        let text = "`pin/plan/mod.rs`, `mod.rs`\n`pin/resolve.rs` and `plan.rs`\n`vm_*.rs`, `FILE.rs`\n```text\n`gone.rs`\n```\n";
        let documents = vec![("README.md".into(), text.to_owned()), ("docs/howto/x.md".into(), "`new.rs`".to_owned())];
        let found = check(&Workspace { sources, documents, crates: Vec::new() });
        let messages: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            messages,
            [
                "README.md:2: there is no file pin/resolve.rs: name the one that does it now",
                "README.md:2: there is no file plan.rs: name the one that does it now",
            ]
        );
    }
}
