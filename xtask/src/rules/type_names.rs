//! Types that share a name: a reader who meets one must know which it is.

use std::collections::BTreeMap;

use super::{Finding, Workspace, source::SourceFile};

/// Names that more than one type may have, because they are the same idea in two places.
const SAME_IDEA: [&str; 2] = [
    // What a program is told on its command line.
    "Arguments",
    // Why a message of a protocol cannot be read.
    "Error",
];

/// How many names are still shared.
pub(super) const SHARED: usize = 13;

/// Names of several types, each at its second definition.
pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut names: BTreeMap<String, Vec<(&SourceFile, usize)>> = BTreeMap::new();
    for source in &workspace.sources {
        for (name, line) in types(source) {
            names.entry(name).or_default().push((source, line));
        }
    }
    let mut findings = Vec::new();
    for (name, places) in names {
        let [(first, first_line), (second, line), ..] = places[..] else { continue };
        if !SAME_IDEA.contains(&name.as_str()) {
            let more =
                if places.len() > 2 { format!(" and in {} more places", places.len() - 2) } else { String::new() };
            let message = format!(
                "`{name}` is also defined at {}:{first_line}{more}: name each type for what it is without its module",
                first.path.display()
            );
            findings.push(Finding { file: second.path.clone(), line, message });
        }
    }
    findings
}

/// The types that a file defines, with their lines. The associated types of traits are none.
fn types(source: &SourceFile) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    // For each open brace, whether it is that of a trait or of an implementation.
    let mut braces = Vec::new();
    let mut begun = false;
    // Behind `fn`, `impl` names a type.
    let mut signature = false;
    for (at, word) in source.words.iter().enumerate() {
        match word.text.as_str() {
            "{" => {
                braces.push(begun && !signature);
                (begun, signature) = (false, false);
            }
            "}" => {
                braces.pop();
                (begun, signature) = (false, false);
            }
            ";" => (begun, signature) = (false, false),
            "fn" => signature = true,
            "impl" => begun = true,
            "struct" | "enum" | "union" | "trait" | "type" => {
                let is_associated = word.is("type") && braces.last() == Some(&true);
                let name = source.words.get(at + 1).filter(|name| name.text.starts_with(char::is_uppercase));
                if let Some(name) = name.filter(|_| !is_associated) {
                    found.push((name.text.clone(), name.line));
                }
                begun = begun || word.is("trait");
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn source(path: &str, text: &str) -> SourceFile {
        SourceFile::new(Path::new(path), text.to_owned())
    }

    #[test]
    fn types_are_found_and_associated_types_are_not() {
        let text = "struct A<T>(T);\ntrait B { type No; fn f() { struct C; } }\nimpl B for A { type No = u8; }\n\
                    pub(crate) type D = A<u8>;\nenum E {}\nfn g(_: impl B) { type F = u8; }\nlet union = 1;";
        let names: Vec<_> = types(&source("x.rs", text)).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["A", "B", "C", "D", "E", "F"]);
    }

    #[test]
    fn a_name_of_two_types_is_found_with_both_places() {
        let sources = vec![source("a.rs", "struct State;"), source("b.rs", "\nenum State {}\nstruct Error;")];
        let workspace = Workspace { sources, documents: Vec::new(), crates: Vec::new() };
        let found = check(&workspace);
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().starts_with("b.rs:2: `State` is also defined at a.rs:1: "), "{}", found[0]);
    }
}
