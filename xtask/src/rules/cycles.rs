//! Files of one crate that use each other in a circle: none can be read, or moved, without the
//! others.
//!
//! A module may use what is around it (`super`), and what is around it uses the module. Such a pair
//! is no cycle.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
};

use super::{Violation, Workspace, crates::CrateTree};

/// For each file, the files it uses, each with the first line that does.
type Uses = BTreeMap<usize, BTreeMap<usize, usize>>;

/// The shortest cycle of each group of files that use each other.
pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    let mut violations: Vec<Violation> = Vec::new();
    for tree in &workspace.crates {
        let uses = uses(tree);
        let mut grouped: Vec<usize> = Vec::new();
        for &file in uses.keys() {
            if grouped.contains(&file) {
                continue;
            }
            if shortest_cycle(&uses, file).is_some() {
                let group: Vec<_> =
                    uses.keys().copied().filter(|other| reach_each_other(&uses, file, *other)).collect();
                // The shortest of the whole group says most.
                let cycle = group.iter().filter_map(|start| shortest_cycle(&uses, *start)).min_by_key(Vec::len);
                violations.extend(cycle.map(|cycle| violation(tree, &uses, &cycle)));
                grouped.extend(group);
            } else {
                grouped.push(file);
            }
        }
    }
    // A file may be a part of two crates.
    violations.dedup();
    violations
}

fn violation(tree: &CrateTree, uses: &Uses, cycle: &[usize]) -> Violation {
    let path = |file: usize| -> PathBuf { tree.files[file].path.clone() };
    let line = |from: usize, to: usize| uses.get(&from).and_then(|used| used.get(&to)).copied().unwrap_or(0);
    let next = |at: usize| cycle[(at + 1) % cycle.len()];
    let steps: Vec<_> = (0..cycle.len())
        .map(|at| {
            format!("{}:{} uses {}", path(cycle[at]).display(), line(cycle[at], next(at)), path(next(at)).display())
        })
        .collect();
    Violation {
        file: path(cycle[0]),
        line: line(cycle[0], next(0)),
        message: format!("a cycle: {}; move what they share to one of them, or to a third file", steps.join(", ")),
    }
}

fn uses(tree: &CrateTree) -> Uses {
    let mut uses = Uses::new();
    for (number, module) in tree.modules.iter().enumerate() {
        for mention in &module.mentions {
            let Some(used) = tree.definition(number, &mention.path) else { continue };
            let other = tree.modules[used].file;
            if other != module.file && !tree.is_around(used, number) {
                uses.entry(module.file).or_default().entry(other).or_insert(mention.line);
            }
        }
    }
    uses
}

fn reach_each_other(uses: &Uses, one: usize, other: usize) -> bool {
    one == other || (way(uses, one, other).is_some() && way(uses, other, one).is_some())
}

/// The files of the shortest cycle through `start`, beginning with it.
fn shortest_cycle(uses: &Uses, start: usize) -> Option<Vec<usize>> {
    let ways = uses.get(&start)?.keys().filter_map(|next| way(uses, *next, start));
    let mut shortest = ways.min_by_key(Vec::len)?;
    shortest.pop();
    shortest.insert(0, start);
    Some(shortest)
}

/// The files of the shortest way, both ends included.
fn way(uses: &Uses, from: usize, to: usize) -> Option<Vec<usize>> {
    let mut before = BTreeMap::from([(from, from)]);
    let mut queue = VecDeque::from([from]);
    while let Some(file) = queue.pop_front() {
        if file == to {
            let mut way = vec![to];
            while way.last() != Some(&from) {
                way.push(before[way.last()?]);
            }
            way.reverse();
            return Some(way);
        }
        for next in uses.get(&file).into_iter().flat_map(BTreeMap::keys) {
            if !before.contains_key(next) {
                before.insert(*next, file);
                queue.push_back(*next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let read =
            |path: &Path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned());
        let crates = vec![CrateTree::read(Path::new("lib.rs"), &read).unwrap()];
        let workspace = Workspace { sources: Vec::new(), documents: Vec::new(), crates };
        check(&workspace).into_iter().map(|violation| violation.message).collect()
    }

    #[test]
    fn a_cycle_is_found_through_the_names_that_a_parent_exports_again() {
        let messages = found(&[
            ("lib.rs", "mod a; mod b; mod c; pub use a::A; pub use b::B;"),
            ("a.rs", "use crate::B; pub struct A;"),
            ("b.rs", "\nuse super::A; pub struct B;"),
            ("c.rs", "use crate::{A, B};"),
        ]);
        assert_eq!(messages.len(), 1);
        assert!(messages[0].starts_with("a cycle: a.rs:1 uses b.rs, b.rs:2 uses a.rs;"), "{messages:?}");
    }

    #[test]
    fn a_module_and_what_is_around_it_may_use_each_other() {
        let files = [
            ("lib.rs", "mod a; struct Root; fn f() { a::g() }"),
            ("a.rs", "use super::Root; pub fn g() { crate::f() }"),
        ];
        assert_eq!(found(&files), Vec::<String>::new());
    }

    #[test]
    fn files_that_use_each_other_are_one_finding() {
        let messages = found(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::B; use crate::c::C; pub struct A;"),
            ("b.rs", "use crate::c::C; pub struct B;"),
            ("c.rs", "use crate::a::A; pub struct C;"),
        ]);
        assert_eq!(messages.len(), 1);
        assert!(messages[0].contains("a.rs:1 uses c.rs, c.rs:1 uses a.rs"), "{messages:?}");
    }
}
