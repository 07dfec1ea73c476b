//! The programs of the packages: stripped, with their debug symbols apart.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::{
    process::{run, text},
    programs::Program,
    toolchain,
};

/// The programs.
const PROGRAMS: [&str; 2] = ["bmpd", "bmpctl"];

/// A file of debug symbols.
#[derive(Clone, Debug)]
pub(super) struct SymbolFile {
    pub(super) file: PathBuf,
    /// The build id of its program, in hexadecimal.
    pub(super) build_id: String,
}

/// The programs without their symbols.
#[derive(Debug)]
pub(super) struct StrippedPrograms {
    folder: PathBuf,
    symbols: Vec<SymbolFile>,
    /// The newest version of glibc that a program needs a symbol of.
    glibc: GlibcVersion,
}

/// A version of glibc: `GLIBC_2.36`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct GlibcVersion {
    major: u32,
    minor: u32,
}

impl SymbolFile {
    /// Returns where debuggers look for it, without the first `/`.
    pub(super) fn installed(&self) -> String {
        let (folder, name) = self.build_id.split_at(2);
        format!("usr/lib/debug/.build-id/{folder}/{name}.debug")
    }
}

impl StrippedPrograms {
    /// Copies the programs of the folder `from`, and separates their symbols.
    pub(super) fn make(from: &Path, stage: &Path) -> anyhow::Result<Self> {
        let folder = stage.join("programs");
        fs::create_dir_all(&folder)?;
        let mut stripped = Self { folder, symbols: Vec::new(), glibc: GlibcVersion::default() };
        for name in PROGRAMS {
            let (built, program) = (from.join(name), stripped.program(name));
            let symbols = program.with_extension("debug");
            let objcopy = |arguments: &[&str]| {
                let mut command = Program::Objcopy.command();
                command.args(arguments).current_dir(&stripped.folder);
                command
            };
            run(objcopy(&["--only-keep-debug", "--compress-debug-sections"]).arg(&built).arg(&symbols))?;
            run(objcopy(&["--strip-unneeded", "--remove-section=.comment"]).arg(&built).arg(&program))?;
            let link = format!("--add-gnu-debuglink={name}.debug");
            run(objcopy(&[&link]).arg(&program))?;
            let notes =
                text(Program::Objdump.command().args(["--full-contents", "--section=.note.gnu.build-id"]).arg(&built));
            let notes = notes.with_context(|| format!("{} has no build id", built.display()))?;
            let build_id = build_id(&notes).with_context(|| format!("{} has no build id", built.display()))?;
            stripped.symbols.push(SymbolFile { file: symbols, build_id });
            let needs = text(Program::Objdump.command().arg("--dynamic-syms").arg(&program))?;
            stripped.glibc = stripped.glibc.max(glibc(&needs));
        }
        Ok(stripped)
    }

    /// Returns the path of a program.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns the files of debug symbols.
    pub(super) fn symbols(&self) -> &[SymbolFile] {
        &self.symbols
    }

    /// Returns the version of glibc that the programs need.
    pub(super) fn needs(&self) -> String {
        format!("{}.{}", self.glibc.major, self.glibc.minor)
    }
}

/// Checks that programs name no folder of this host: from another folder they would be others.
pub(super) fn check_folders(programs: &Path) -> anyhow::Result<()> {
    for name in PROGRAMS {
        let program = programs.join(name);
        let bytes = fs::read(&program).with_context(|| program.display().to_string())?;
        let text = String::from_utf8_lossy(&bytes);
        for (folder, _) in toolchain::host_folders() {
            let folder = format!("{}/", folder.display());
            if let Some(at) = text.find(&folder) {
                let named: String = text.get(at..).unwrap_or_default().chars().take(100).collect();
                bail!("{} names a folder of this host: {named:?}", program.display());
            }
        }
    }
    Ok(())
}

/// Reads the build id from objdump's dump of its note: the bytes after a header of 16.
fn build_id(dump: &str) -> Option<String> {
    let lines = dump.lines().filter(|line| line.starts_with(' '));
    let bytes: String = lines.flat_map(|line| line.split_whitespace().skip(1).take(4)).take(9).collect();
    let id = bytes.get(32..)?;
    (id.len() >= 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// Returns the newest version of glibc in objdump's table of dynamic symbols.
fn glibc(table: &str) -> GlibcVersion {
    let versions = table.split("GLIBC_").skip(1).filter_map(|rest| {
        let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
        let (major, rest) = rest.split_once('.')?;
        Some(GlibcVersion { major: number(major)?, minor: number(rest)? })
    });
    versions.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_glibc_is_found() {
        let table = "0000 DF *UND* 0000 (GLIBC_2.2.5) read\n0000 DF *UND* 0000 (GLIBC_2.34) pthread_create\n";
        assert_eq!(glibc(table), GlibcVersion { major: 2, minor: 34 });
        assert_eq!(glibc(""), GlibcVersion::default());
    }

    #[test]
    fn the_build_id_is_what_follows_the_header_of_its_note() {
        let dump = "\nbmpd:     file format elf64-x86-64\n\nContents of section .note.gnu.build-id:\n \
                    02e0 04000000 14000000 03000000 474e5500  ............GNU.\n \
                    02f0 00112233 44556677 8899aabb ccddeeff  ................\n 0300 01234567                             .#Eg\n";
        assert_eq!(build_id(dump).as_deref(), Some("00112233445566778899aabbccddeeff01234567"));
        assert_eq!(build_id("no notes"), None);
    }
}
