//! The modules of a crate, the files that they are in, and what each takes from others.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use super::source::{SourceFile, Word};

/// A library, a program or a test program: a tree of modules.
#[derive(Debug)]
pub(super) struct CrateTree {
    /// The first is the crate's root.
    pub(super) modules: Vec<Module>,
    /// The files of the modules.
    pub(super) files: Vec<SourceFile>,
}

/// A module, in a file of its own or within another.
#[derive(Debug)]
pub(super) struct Module {
    /// From the crate's root, without `crate`.
    pub(super) path: Vec<String>,
    /// Its place in [`CrateTree::files`].
    pub(super) file: usize,
    parent: usize,
    children: HashMap<String, usize>,
    imports: HashMap<String, Vec<String>>,
    /// The modules whose names are all imported.
    globs: Vec<Vec<String>>,
    items: HashSet<String>,
    /// Every path that its code names, imports included.
    pub(super) mentions: Vec<Mention>,
}

/// A path in the code of a module, as it is written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mention {
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Module(usize),
    /// An item of this module.
    ItemOf(usize),
}

impl CrateTree {
    /// Reads the crate whose root is the file `root`; `read` returns the content of a file, `None`
    /// where there is none.
    pub(super) fn read(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Option<Self> {
        let mut tree = Self { modules: Vec::new(), files: Vec::new() };
        let text = read(root)?;
        // Where the modules of the root are looked for.
        let folder = root.parent()?.to_owned();
        tree.add_file(SourceFile::new(root, text), &folder, Vec::new(), 0, read);
        Some(tree)
    }

    fn add_file(
        &mut self,
        file: SourceFile,
        folder: &Path,
        path: Vec<String>,
        parent: usize,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> usize {
        let number = self.files.len();
        let words = file.words.clone();
        let own_folder = file.path.parent().unwrap_or(Path::new("")).to_owned();
        self.files.push(file);
        let module = self.add_module(path, number, parent);
        let mut reader = ModuleReader { tree: self, words: &words, at: 0, file: number, own_folder, read };
        reader.module(module, folder, false);
        module
    }

    fn add_module(&mut self, path: Vec<String>, file: usize, parent: usize) -> usize {
        let number = self.modules.len();
        if let (Some(name), Some(above)) = (path.last(), self.modules.get_mut(parent)) {
            above.children.insert(name.clone(), number);
        }
        self.modules.push(Module {
            path,
            file,
            parent,
            children: HashMap::new(),
            imports: HashMap::new(),
            globs: Vec::new(),
            items: HashSet::new(),
            mentions: Vec::new(),
        });
        number
    }

    /// The module that has what `path` names in `from`, re-exports followed; `None` where it is of
    /// another crate.
    pub(super) fn definition(&self, from: usize, path: &[String]) -> Option<usize> {
        match self.resolve(from, path, 0)? {
            Named::Module(module) | Named::ItemOf(module) => Some(module),
        }
    }

    /// The module that `path` leads to as it is written; a re-export is followed in the crate's
    /// root alone.
    pub(super) fn written(&self, from: usize, path: &[String]) -> Option<usize> {
        let (mut module, mut rest) = self.begin(from, path)?;
        while let Some((next, after)) = rest.split_first() {
            let Some(child) = self.modules[module].children.get(next) else { break };
            (module, rest) = (*child, after);
        }
        if module == 0 && !rest.is_empty() { self.definition(0, rest) } else { Some(module) }
    }

    /// The module that `crate`, `self`, `super` and child modules lead to, and what follows them.
    fn begin<'p>(&self, from: usize, path: &'p [String]) -> Option<(usize, &'p [String])> {
        let (first, mut rest) = path.split_first()?;
        let mut module = match first.as_str() {
            "crate" => 0,
            "self" => from,
            "super" => self.modules[from].parent,
            name => *self.modules[from].children.get(name)?,
        };
        while let Some((next, after)) = rest.split_first() {
            if next != "super" {
                break;
            }
            (module, rest) = (self.modules[module].parent, after);
        }
        Some((module, rest))
    }

    fn resolve(&self, from: usize, path: &[String], depth: u32) -> Option<Named> {
        // Imports of each other would never end.
        if depth > 16 {
            return None;
        }
        let (mut module, mut rest) = match self.begin(from, path) {
            Some(begun) => begun,
            None => {
                let (first, rest) = path.split_first()?;
                let import = self.modules[from].imports.get(first)?;
                // `use x::x` would find itself.
                if import.first() == Some(first) {
                    return None;
                }
                match self.resolve(from, import, depth + 1)? {
                    Named::Module(module) => (module, rest),
                    item @ Named::ItemOf(_) => return Some(item),
                }
            }
        };
        while let Some((next, after)) = rest.split_first() {
            match self.member(module, next, depth) {
                Named::Module(child) => (module, rest) = (child, after),
                item @ Named::ItemOf(_) => return Some(item),
            }
        }
        Some(Named::Module(module))
    }

    /// What `name` is in `module`.
    fn member(&self, module: usize, name: &str, depth: u32) -> Named {
        let Module { children, imports, globs, items, .. } = &self.modules[module];
        if let Some(child) = children.get(name) {
            return Named::Module(*child);
        }
        if !items.contains(name) {
            if let Some(found) = imports.get(name).and_then(|path| self.resolve(module, path, depth + 1)) {
                return found;
            }
            for glob in globs {
                if let Some(Named::Module(other)) = self.resolve(module, glob, depth + 1)
                    && other != module
                    && self.modules[other].items.contains(name)
                {
                    return Named::ItemOf(other);
                }
            }
        }
        Named::ItemOf(module)
    }

    /// Whether `name` in the module `from` is of this crate, or an import that was read already.
    pub(super) fn is_local(&self, from: usize, name: &str) -> bool {
        let Module { children, imports, .. } = &self.modules[from];
        let is_import = imports.get(name).is_some_and(|path| path.len() > 1);
        children.contains_key(name) || is_import || ["crate", "self", "super", "Self"].contains(&name)
    }

    /// Whether `above` is `below`, or a module around it.
    pub(super) fn is_around(&self, above: usize, below: usize) -> bool {
        self.modules[below].path.starts_with(&self.modules[above].path)
    }
}

/// Reads the words of one file.
struct ModuleReader<'a> {
    tree: &'a mut CrateTree,
    words: &'a [Word],
    at: usize,
    file: usize,
    /// The folder that the file is in: `#[path]` starts there.
    own_folder: PathBuf,
    read: &'a dyn Fn(&Path) -> Option<String>,
}

impl ModuleReader<'_> {
    fn word(&self, ahead: usize) -> Option<&Word> {
        self.words.get(self.at + ahead)
    }

    fn is(&self, ahead: usize, text: &str) -> bool {
        self.word(ahead).is_some_and(|word| word.is(text))
    }

    /// Reads a module up to its end: that of the file, or the brace that closes it where it is
    /// `within` another.
    fn module(&mut self, module: usize, folder: &Path, within: bool) {
        let mut depth = 0_usize;
        let mut path_attribute = None;
        while let Some(word) = self.word(0).cloned() {
            match word.text.as_str() {
                "{" => depth += 1,
                "}" if depth == 0 && within => {
                    self.at += 1;
                    return;
                }
                "}" => depth = depth.saturating_sub(1),
                "path" if self.is(1, "=") && self.at > 0 && self.words[self.at - 1].is("[") => {
                    path_attribute = self.word(2).map(|word| word.text.trim_matches('"').to_owned());
                }
                // `use<'a>` names what a type captures.
                "use" if !self.is(1, "<") => {
                    self.at += 1;
                    self.import(module, &[]);
                    continue;
                }
                "mod" if self.word(1).is_some_and(Word::is_name) => {
                    let name = self.words[self.at + 1].text.clone();
                    self.at += 2;
                    self.child(module, folder, &name, path_attribute.take());
                    continue;
                }
                "struct" | "enum" | "union" | "trait" | "type" | "fn" | "const" | "static" => {
                    if let Some(name) = self.word(1).filter(|name| name.is_name()) {
                        let name = name.text.clone();
                        self.tree.modules[module].items.insert(name);
                    }
                }
                _ if word.is_name() && !self.is_within_path() => {
                    self.mention(module);
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Whether the word before this one makes it a part of a path, a field or a method.
    fn is_within_path(&self) -> bool {
        let before = |back: usize| self.at.checked_sub(back).and_then(|at| self.words.get(at));
        before(1).is_some_and(|word| word.is(".") && !before(2).is_some_and(|word| word.is(".")))
            || before(1).is_some_and(|word| word.is(":")) && before(2).is_some_and(|word| word.is(":"))
    }

    fn child(&mut self, module: usize, folder: &Path, name: &str, attribute: Option<String>) {
        let mut path = self.tree.modules[module].path.clone();
        path.push(name.to_owned());
        if self.is(0, "{") {
            self.at += 1;
            let number = self.tree.add_module(path, self.file, module);
            self.module(number, &folder.join(name), true);
            return;
        }
        let files = match attribute {
            Some(attribute) => vec![self.own_folder.join(attribute)],
            None => vec![folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")],
        };
        let found = files.into_iter().find_map(|file| Some(((self.read)(&file)?, file)));
        if let Some((text, file)) = found {
            // The children of `mod.rs` are beside it, those of `name.rs` in a folder of its name.
            let parent = file.parent().unwrap_or(Path::new(""));
            let below = if file.file_name().is_some_and(|name| name == "mod.rs") {
                parent.to_owned()
            } else {
                parent.join(file.file_stem().unwrap_or_default())
            };
            self.tree.add_file(SourceFile::new(&file, text), &below, path, module, self.read);
        }
    }

    /// Reads a path in code, and keeps it where it has more than one name.
    fn mention(&mut self, module: usize) {
        let line = self.words[self.at].line;
        let mut path = vec![self.words[self.at].text.clone()];
        self.at += 1;
        while self.is(0, ":") && self.is(1, ":") && self.word(2).is_some_and(Word::is_name) {
            path.push(self.words[self.at + 2].text.clone());
            self.at += 3;
        }
        if path.len() > 1 {
            self.tree.modules[module].mentions.push(Mention { path, line });
        }
    }

    /// Reads a tree of imports (`a::{b, c as d, e::*}`) behind the path `before`, and the semicolon
    /// or comma after it.
    fn import(&mut self, module: usize, before: &[String]) {
        let mut path = before.to_vec();
        let line = self.word(0).map_or(0, |word| word.line);
        while let Some(word) = self.word(0).cloned() {
            match word.text.as_str() {
                ";" | "," | "}" => break,
                "{" => {
                    self.at += 1;
                    while self.word(0).is_some_and(|word| !word.is("}")) {
                        self.import(module, &path);
                        if self.is(0, ",") {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "*" => {
                    self.at += 1;
                    let here = &mut self.tree.modules[module];
                    here.globs.push(path.clone());
                    here.mentions.push(Mention { path, line });
                    return;
                }
                "as" => {
                    let alias = self.word(1).map(|word| word.text.clone()).unwrap_or_default();
                    self.at += 2;
                    self.imported(module, path, alias, line);
                    return;
                }
                _ if word.is_name() => path.push(word.text),
                _ => {}
            }
            self.at += 1;
        }
        // `{self}` names the module before it.
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let alias = path.last().cloned().unwrap_or_default();
        self.imported(module, path, alias, line);
    }

    fn imported(&mut self, module: usize, path: Vec<String>, alias: String, line: usize) {
        if path.is_empty() {
            return;
        }
        let here = &mut self.tree.modules[module];
        here.mentions.push(Mention { path: path.clone(), line });
        here.imports.insert(alias, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &'static [(&'static str, &'static str)]) -> CrateTree {
        let read =
            |path: &Path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned());
        CrateTree::read(Path::new(files[0].0), &read).unwrap()
    }

    fn path(text: &str) -> Vec<String> {
        text.split("::").map(str::to_owned).collect()
    }

    fn file_of(tree: &CrateTree, module: Option<usize>) -> &str {
        let file = &tree.files[tree.modules[module.unwrap()].file];
        file.path.to_str().unwrap()
    }

    const FILES: &[(&str, &str)] = &[
        ("s/lib.rs", "mod a; pub mod b { pub mod c; } #[path = \"other.rs\"] mod d; pub use a::X;"),
        ("s/a/mod.rs", "mod x; pub use self::x::{X, Y as Z}; fn f() { x::g(); }"),
        ("s/a/x.rs", "use super::super::b::c; pub struct X; pub struct Y; pub fn g() { c::h() }"),
        ("s/b/c.rs", "use crate::{a::{self, Z}, d::*}; pub fn h(_: a::X) {}"),
        ("s/other.rs", "pub struct InD;"),
    ];

    #[test]
    fn modules_are_found_as_the_compiler_finds_them() {
        let tree = tree(FILES);
        let paths: Vec<_> = tree.modules.iter().map(|module| module.path.join("::")).collect();
        assert_eq!(paths, ["", "a", "a::x", "b", "b::c", "d"]);
        assert_eq!(tree.files.len(), 5);
    }

    #[test]
    fn a_path_is_followed_to_the_file_that_defines_its_item() {
        let tree = tree(FILES);
        let (x, c) = (2, 4);
        assert_eq!(file_of(&tree, tree.definition(c, &path("crate::a::Z"))), "s/a/x.rs");
        assert_eq!(file_of(&tree, tree.definition(c, &path("a::X"))), "s/a/x.rs");
        assert_eq!(file_of(&tree, tree.definition(x, &path("c::h"))), "s/b/c.rs");
        assert_eq!(file_of(&tree, tree.definition(0, &path("X"))), "s/a/x.rs");
        assert_eq!(tree.definition(c, &path("tokio::net")), None);
    }

    #[test]
    fn a_path_as_it_is_written_ends_at_the_module_that_it_names() {
        let tree = tree(FILES);
        let written = |from, text| tree.written(from, &path(text)).map(|module| tree.modules[module].path.join("::"));
        assert_eq!(written(4, "crate::a::Z").as_deref(), Some("a"));
        assert_eq!(written(4, "crate::X").as_deref(), Some("a::x"));
        assert_eq!(written(2, "super::super::b::c::h").as_deref(), Some("b::c"));
    }

    #[test]
    fn every_path_of_code_and_imports_is_a_mention() {
        let tree = tree(FILES);
        let mentioned: Vec<_> = tree.modules[4].mentions.iter().map(|mention| mention.path.join("::")).collect();
        assert_eq!(mentioned, ["crate::a", "crate::a::Z", "crate::d", "a::X"]);
    }
}
