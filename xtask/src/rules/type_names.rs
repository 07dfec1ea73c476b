//! Types that share a name: a reader who meets one must know which it is.

use std::collections::BTreeMap;

use super::{Violation, Workspace, source::SourceFile};

/// A name that several types may have, because they are the same idea in several places.
struct SharedIdea {
    name: &'static str,
    /// The files that may define the type, by the start of the path.
    inside: &'static str,
}

/// The same idea in BGP, BMP and MRT (`wire::bgp::Error`, `wire::bmp::Error`), where the module is
/// a part of the name.
const fn of_each_protocol(name: &'static str) -> SharedIdea {
    SharedIdea { name, inside: "bmp-user/src/wire/" }
}

/// All names that may be shared.
const SHARED_IDEAS: [SharedIdea; 7] = [
    // The command line of each command of xtask.
    SharedIdea { name: "Arguments", inside: "xtask/src/" },
    of_each_protocol("Error"),
    of_each_protocol("Frame"),
    of_each_protocol("Frames"),
    of_each_protocol("Message"),
    of_each_protocol("MessageType"),
    of_each_protocol("Problem"),
];

/// Names of several types, each at its second definition.
pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    let mut names: BTreeMap<String, Vec<(&SourceFile, usize)>> = BTreeMap::new();
    for source in &workspace.sources {
        for (name, line) in types(source) {
            names.entry(name).or_default().push((source, line));
        }
    }
    let mut violations = Vec::new();
    for (name, places) in names {
        let [(first, first_line), (second, line), ..] = places[..] else { continue };
        let is_shared = |idea: &SharedIdea| {
            idea.name == name && places.iter().all(|(source, _)| source.path.starts_with(idea.inside))
        };
        if !SHARED_IDEAS.iter().any(is_shared) {
            let more =
                if places.len() > 2 { format!(" and in {} more places", places.len() - 2) } else { String::new() };
            let message = format!(
                "`{name}` is also defined at {}:{first_line}{more}: name each type for what it is without its module",
                first.path.display()
            );
            violations.push(Violation { file: second.path.clone(), line, message });
        }
    }
    violations
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

    fn check_sources(sources: &[(&str, &str)]) -> Vec<String> {
        let sources = sources.iter().map(|(path, text)| source(path, text)).collect();
        let workspace = Workspace { sources, documents: Vec::new(), crates: Vec::new() };
        check(&workspace).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn a_name_of_two_types_is_found_with_both_places() {
        let found = check_sources(&[("a.rs", "struct State;"), ("b.rs", "\nenum State {}\nstruct Error;")]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("b.rs:2: `State` is also defined at a.rs:1: "), "{}", found[0]);
    }

    #[test]
    fn protocols_share_a_name_with_each_other_alone() {
        let (bgp, bmp) = ("bmp-user/src/wire/bgp/frame.rs", "bmp-user/src/wire/bmp/frame.rs");
        let frame = "struct Frame;";
        assert_eq!(check_sources(&[(bgp, frame), (bmp, frame)]), Vec::<String>::new());
        assert_eq!(check_sources(&[(bgp, frame), (bmp, frame), ("tests/src/frame.rs", frame)]).len(), 1);
    }
}
