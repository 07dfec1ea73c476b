//! The table of modules in ARCHITECTURE.md against the imports of the code.
//!
//! A row below `bmp-user/src` names a module. Its column "may use" holds the modules of the library
//! that the module may name, in backquotes, or "all above"; its column "never" holds paths of other
//! crates that it must not name, in backquotes. A sentence "`aya` … in `pin` alone" keeps a crate
//! to one module. Tests may use what they need.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{
    Violation, Workspace,
    crates::{CrateTree, Mention, Module},
};

const DOCUMENT: &str = "ARCHITECTURE.md";

/// The library whose modules the table holds.
const LIBRARY: &str = "bmp-user/src";

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    /// The line of the document.
    line: usize,
    /// The file or folder, from the repository's root.
    place: String,
    uses: Allowed,
    never: Vec<Vec<String>>,
}

/// The column "may use".
#[derive(Debug, PartialEq, Eq)]
enum Allowed {
    /// Every module whose row is above.
    AllAbove,
    Modules(Vec<String>),
}

impl Row {
    /// The module below [`LIBRARY`]: `input/bgp`; none for other places.
    fn module(&self) -> Option<&str> {
        Some(self.place.strip_prefix(LIBRARY)?.trim_start_matches('/').trim_end_matches(".rs"))
    }
}

/// What the table says and the code does not keep, and the other way round.
pub(super) fn check(workspace: &Workspace) -> anyhow::Result<Vec<Violation>> {
    let found = workspace.documents.iter().find(|(path, _)| path == Path::new(DOCUMENT));
    let (_, text) = found.context("there is no ARCHITECTURE.md")?;
    let rows = rows(text);
    let at = |line: usize, message: String| Violation { file: DOCUMENT.into(), line, message };
    if rows.is_empty() {
        return Ok(vec![at(1, "there is no table of modules (`| module | holds | may use | never |`)".to_owned())]);
    }
    let mut violations = Vec::new();
    let is_there = |place: &str| workspace.sources.iter().any(|source| source.path.starts_with(place));
    for row in rows.iter().filter(|row| !row.place.contains('*') && !is_there(&row.place)) {
        violations.push(at(row.line, format!("`{}` is not there: name the module where it is now", row.place)));
    }
    for tree in &workspace.crates {
        if tree.files[0].path == Path::new(LIBRARY).join("lib.rs") {
            violations.extend(modules(tree, &rows));
        }
        violations.extend(other_crates(tree, &rows, &alone(text)));
    }
    violations.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    violations.dedup();
    Ok(violations)
}

/// The library's modules and the column "may use".
fn modules(tree: &CrateTree, rows: &[Row]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut used: Vec<(usize, String)> = Vec::new();
    for (number, module) in tree.modules.iter().enumerate() {
        if module.path.is_empty() || is_test(module) {
            continue;
        }
        let Some(place) = row_of(rows, &module.path) else {
            let message = format!("`{}` has no row in the table of modules of {DOCUMENT}", module.path.join("/"));
            violations.push(Violation { file: file(tree, module), line: 1, message });
            continue;
        };
        for Mention { path, line } in &module.mentions {
            let named = tree.written(number, path).map(|named| &tree.modules[named].path);
            let Some(other) = named.and_then(|path| row_of(rows, path)).filter(|other| *other != place) else {
                continue;
            };
            let name = rows[other].module().unwrap_or_default().to_owned();
            if !allows(rows, place, &name) {
                let message = format!(
                    "`{}` uses `{name}`, which {DOCUMENT}:{} does not let it: move the code, or change the table",
                    rows[place].module().unwrap_or_default(),
                    rows[place].line
                );
                violations.push(Violation { file: file(tree, module), line: *line, message });
            }
            used.push((place, name));
        }
    }
    for (place, row) in rows.iter().enumerate() {
        let Allowed::Modules(allowed) = &row.uses else { continue };
        let covers = |name: &String, given: &String| name == given || name.starts_with(&format!("{given}/"));
        for given in allowed {
            if row.module().is_some() && !used.iter().any(|(by, name)| *by == place && covers(name, given)) {
                let message = format!("`{}` does not use `{given}`: take it out of the table", row.place);
                violations.push(Violation { file: DOCUMENT.into(), line: row.line, message });
            }
        }
    }
    violations
}

/// The crates that a module must not name.
fn other_crates(tree: &CrateTree, rows: &[Row], alone: &[Alone]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (number, module) in tree.modules.iter().enumerate().filter(|(_, module)| !is_test(module)) {
        let file = file(tree, module);
        let name = file.to_string_lossy().into_owned();
        let row = rows.iter().filter(|row| name.starts_with(&row.place)).max_by_key(|row| row.place.len());
        let is_foreign = |mention: &&Mention| !tree.is_local(number, &mention.path[0]);
        for Mention { path, line } in module.mentions.iter().filter(is_foreign) {
            let mut refuse = |message: String| violations.push(Violation { file: file.clone(), line: *line, message });
            if let Some(row) = row.filter(|row| row.never.iter().any(|never| path.starts_with(never))) {
                refuse(format!("`{}` never uses `{}` ({DOCUMENT}:{})", row.place, path.join("::"), row.line));
            }
            let kept = alone.iter().find(|alone| path.first() == Some(&alone.krate));
            if let Some(Alone { krate, module }) = kept
                .filter(|alone| name.starts_with(LIBRARY) && !name.starts_with(&format!("{LIBRARY}/{}", alone.module)))
            {
                refuse(format!("`{krate}` is named in `{module}` alone ({DOCUMENT}): ask that module"));
            }
        }
    }
    violations
}

fn file(tree: &CrateTree, module: &Module) -> PathBuf {
    tree.files[module.file].path.clone()
}

fn is_test(module: &Module) -> bool {
    module.path.iter().any(|name| name == "tests")
}

/// The row of the module `path`, or of the nearest one around it.
fn row_of(rows: &[Row], path: &[String]) -> Option<usize> {
    let is_around = |module: &str| {
        let names: Vec<_> = module.split('/').collect();
        names.len() <= path.len() && names.iter().zip(path).all(|(name, part)| name == part)
    };
    let around = rows.iter().enumerate().filter(|(_, row)| row.module().is_some_and(is_around));
    around.max_by_key(|(_, row)| row.place.len()).map(|(place, _)| place)
}

fn allows(rows: &[Row], place: usize, name: &str) -> bool {
    let is_part = |given: &str| name == given || name.starts_with(&format!("{given}/"));
    match &rows[place].uses {
        Allowed::AllAbove => rows[..place].iter().filter_map(Row::module).any(|module| module == name),
        Allowed::Modules(modules) => modules.iter().any(|module| is_part(module)),
    }
}

/// A crate that one module alone may name.
#[derive(Debug, PartialEq, Eq)]
struct Alone {
    krate: String,
    module: String,
}

/// The sentences that keep a crate to a module: "`aya` is named in `pin` alone".
fn alone(text: &str) -> Vec<Alone> {
    let sentence = |part: &str| {
        let words = quoted(part);
        let [.., krate, module] = &words[..] else { return None };
        Some(Alone { krate: krate.clone(), module: module.clone() })
    };
    let parts: Vec<_> = text.split("` alone").collect();
    let kept = parts.split_last().map(|(_, kept)| kept).unwrap_or_default();
    // The mark that closes the last name was cut off with the word.
    kept.iter().filter_map(|part| sentence(&format!("{}`", part.rsplit("\n\n").next()?))).collect()
}

/// The rows of the table of modules.
fn rows(text: &str) -> Vec<Row> {
    let lines = (1..).zip(text.lines());
    let table = lines.skip_while(|(_, line)| !line.starts_with("| module | holds |")).skip(2);
    table.take_while(|(_, line)| line.starts_with('|')).filter_map(|(line, text)| row(line, text)).collect()
}

fn row(line: usize, text: &str) -> Option<Row> {
    let cells: Vec<_> = text.trim_matches('|').split('|').map(str::trim).collect();
    let [place, _, uses, never] = cells[..] else { return None };
    Some(Row {
        line,
        place: quoted(place).into_iter().next()?,
        uses: if uses.starts_with("all above") { Allowed::AllAbove } else { Allowed::Modules(quoted(uses)) },
        never: quoted(never).iter().map(|path| path.split("::").map(str::to_owned).collect()).collect(),
    })
}

/// The words in backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::source::SourceFile, *};

    const TABLE: &str = "In `bmp-user`, `aya` is named in `pin` alone.\n\n\
        | module | holds | may use | never |\n|---|---|---|---|\n\
        | `bmp-user/src/wire.rs` | bytes | | `std::time`, sockets |\n\
        | `bmp-user/src/pin.rs` | the kernel | `wire` | |\n\
        | `bmp-user/src/input/bgp.rs` | peers | `wire`, `pin` | |\n\
        | `bmp-user/src/agent.rs` | tasks | all above | |\n";

    fn found(table: &str, changed: &[(&str, &str)]) -> Vec<String> {
        let files = [
            ("bmp-user/src/lib.rs", "mod wire; mod pin; mod input; mod agent;"),
            ("bmp-user/src/wire.rs", "#[cfg(test)] mod tests { use std::time::Instant; use crate::pin; }"),
            ("bmp-user/src/pin.rs", "use aya::Ebpf; use crate::wire::Frame;"),
            ("bmp-user/src/input.rs", "mod bgp;"),
            ("bmp-user/src/input/bgp.rs", "use crate::{pin, wire};"),
            ("bmp-user/src/agent.rs", "use crate::{pin::Pin, input::bgp};"),
        ];
        let content = |path: &Path| {
            let all = changed.iter().chain(&files);
            all.clone().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
        };
        let sources = files.iter().map(|(name, _)| SourceFile::new(Path::new(name), String::new())).collect();
        let crates = vec![CrateTree::read(Path::new("bmp-user/src/lib.rs"), &content).unwrap()];
        let workspace = Workspace { sources, documents: vec![(DOCUMENT.into(), table.to_owned())], crates };
        check(&workspace).unwrap().iter().map(Violation::to_string).collect()
    }

    #[test]
    fn code_that_keeps_to_the_table_passes() {
        let table = TABLE
            .replace("| `bmp-user/src/agent", "| `bmp-user/src/input.rs` | all of them | | |\n| `bmp-user/src/agent");
        assert_eq!(found(&table, &[]), Vec::<String>::new());
    }

    #[test]
    fn a_module_without_a_row_is_found() {
        let found = found(TABLE, &[]);
        assert_eq!(found, ["bmp-user/src/input.rs:1: `input` has no row in the table of modules of ARCHITECTURE.md"]);
    }

    #[test]
    fn an_import_that_the_table_does_not_allow_is_found_at_its_line() {
        let table = TABLE.replace("| `wire` |", "| |");
        let found = found(&table, &[]);
        assert!(
            found[1].starts_with("bmp-user/src/pin.rs:1: `pin` uses `wire`, which ARCHITECTURE.md:6 "),
            "{found:?}"
        );
    }

    #[test]
    fn what_the_table_allows_and_nothing_uses_is_found() {
        let found = found(TABLE, &[("bmp-user/src/input/bgp.rs", "use super::super::wire::X;")]);
        assert!(
            found[0].ends_with("`bmp-user/src/input/bgp.rs` does not use `pin`: take it out of the table"),
            "{found:?}"
        );
    }

    #[test]
    fn crates_that_a_module_must_not_name_are_found() {
        let wire = ("bmp-user/src/wire.rs", "\nuse std::{fmt, time::Instant};\nfn f(_: aya::Ebpf) {}");
        let found = found(TABLE, &[wire]);
        assert!(found[1].contains("never uses `std::time::Instant` (ARCHITECTURE.md:5)"), "{found:?}");
        assert!(found[2].starts_with("bmp-user/src/wire.rs:3: `aya` is named in `pin` alone"), "{found:?}");
    }
}
