//! The manifest that cargo-deb reads: made from the description, for a package of its own that
//! cargo never builds.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{contents::PackagedFile, programs::SymbolFile};
use crate::process::root;

/// Who makes the packages.
pub(super) const MAINTAINER: &str = "The bmpd authors <bmpd@localhost.localdomain>";

/// What a package says of itself.
const DESCRIPTION: &str = "BMP sessions that stay on the interface and address of the configuration";
const EXTENDED: &str = "bmpd keeps sessions of the BGP Monitoring Protocol (RFC 7854) on the interface and source \
                        address that the configuration names: eBPF programs bind each session when it connects, drop \
                        every packet of it that would leave elsewhere, and count what left. It exports what it \
                        receives over BMP, over BGP and from MRT files, and holds the sessions of other daemons to an \
                        interface too.";

/// The folder of the maintainer scripts and of the unit.
const PACKAGING: &str = "bmp-user/packaging";

/// A package for cargo-deb.
#[derive(Debug)]
pub(super) struct PackageManifest {
    name: &'static str,
    description: String,
    /// The lines of `[package.metadata.deb]`.
    deb: String,
}

impl PackageManifest {
    /// bmpd and all that belongs to it.
    pub(super) fn of_bmpd(
        files: &[PackagedFile],
        found: impl Fn(&PackagedFile) -> PathBuf,
        glibc: &str,
        changelog: &Path,
    ) -> Self {
        let packaging = root().join(PACKAGING);
        // cargo-deb finds the files of systemd that are named after the package itself, and knows
        // what their installation takes. bmpd.service starts the other unit, so nothing enables it.
        let is_unit = |file: &&PackagedFile| {
            file.path == "usr/lib/systemd/system/bmpd.service"
                || ["usr/lib/sysusers.d/", "usr/lib/tmpfiles.d/"].iter().any(|folder| file.path.starts_with(folder))
        };
        let assets = files.iter().filter(|file| !is_unit(file)).map(|file| asset(&found(file), &file.path, &file.mode));
        let mut deb = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            deb,
            "depends = \"libc6 (>= {glibc}), libgcc-s1, procps, systemd | systemd-standalone-sysusers\"\n\
             suggests = \"frr | bird3 | bird2 | gobgpd\"\n\
             section = \"net\"\n\
             changelog = {}\n\
             extended-description = {}\n\
             maintainer-scripts = {}\n\
             systemd-units = {{ unit-name = \"bmpd\", unit-scripts = {}, enable = true, start = false, restart-after-upgrade = true }}\n\
             assets = [\n{}]",
            quoted(&changelog.to_string_lossy()),
            quoted(EXTENDED),
            quoted(&packaging.join("scripts").to_string_lossy()),
            quoted(&packaging.to_string_lossy()),
            assets.collect::<String>()
        );
        Self { name: "bmpd", description: DESCRIPTION.to_owned(), deb }
    }

    /// The debug symbols, where gdb and other debuggers look for them.
    pub(super) fn of_symbols(symbols: &[SymbolFile], changelog: &Path) -> Self {
        let overrides = root().join(PACKAGING).join("lintian-overrides");
        let assets = symbols.iter().map(|symbols| {
            let (folder, name) = symbols.build_id.split_at(2);
            asset(&symbols.file, &format!("usr/lib/debug/.build-id/{folder}/{name}.debug"), "644")
        });
        let mut deb = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            deb,
            "depends = \"bmpd (= {}-1)\"\nsection = \"debug\"\nchangelog = {}\nextended-description = \"\"\nassets = [\n{}{}]",
            env!("CARGO_PKG_VERSION"),
            quoted(&changelog.to_string_lossy()),
            assets.collect::<String>(),
            asset(&overrides, "usr/share/lintian/overrides/bmpd-dbgsym", "644"),
        );
        Self { name: "bmpd-dbgsym", description: "debug symbols for bmpd".to_owned(), deb }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Writes the manifest into a folder.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let Self { name, description, deb } = self;
        let text = format!(
            "# Made by `cargo xtask package`.\n\
             [workspace]\n\n\
             [package]\nname = \"{name}\"\nversion = \"{}\"\nedition = \"2024\"\ndescription = {}\n\
             license = \"{}\"\nauthors = [\"The bmpd authors\"]\n\n\
             [lib]\npath = \"lib.rs\"\n\n\
             [package.metadata.deb]\nmaintainer = \"{MAINTAINER}\"\ncopyright = \"2026, The bmpd authors\"\n\
             priority = \"optional\"\n{deb}",
            env!("CARGO_PKG_VERSION"),
            quoted(description),
            "MIT OR Apache-2.0",
        );
        fs::create_dir_all(folder)?;
        fs::write(folder.join("lib.rs"), "")?;
        fs::write(folder.join("Cargo.toml"), text).with_context(|| folder.display().to_string())
    }
}

fn asset(source: &Path, path: &str, mode: &str) -> String {
    format!("  [{}, {}, \"{mode}\"],\n", quoted(&source.to_string_lossy()), quoted(path))
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn text_is_quoted_for_toml() {
        assert_eq!(quoted("a \"b\"\\\nc"), r#""a \"b\"\\\nc""#);
    }
}
