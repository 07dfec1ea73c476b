//! The manifest that cargo-deb or cargo-generate-rpm reads: made from the description, for a
//! package of its own that cargo never builds.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{
    contents::{PackageFormat, PackagedFile},
    programs::SymbolFile,
};
use crate::process::root;

/// Returns who makes the packages: `DEBFULLNAME` and `DEBEMAIL` of the environment, as for
/// debchange(1), or nobody whom mail could reach.
pub(super) fn maintainer() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    maintainer_of(variable("DEBFULLNAME"), variable("DEBEMAIL"))
}

fn maintainer_of(name: Option<String>, address: Option<String>) -> String {
    let name = name.unwrap_or_else(|| "The bmpd authors".to_owned());
    let address = address.unwrap_or_else(|| "bmpd@localhost.localdomain".to_owned());
    // A field of a control file is one line, and has one address.
    let plain = |text: String| text.replace(|c: char| c.is_control() || "<>".contains(c), "");
    format!("{} <{}>", plain(name), plain(address))
}

/// What a package says of itself.
const DESCRIPTION: &str = "BMP sessions that stay on the interface and address of the configuration";
const EXTENDED: &str = "bmpd keeps sessions of the BGP Monitoring Protocol (RFC 7854) on the interface and source \
                        address that the configuration names: eBPF programs bind each session when it connects, drop \
                        every packet of it that would leave elsewhere, and count what left. It exports what it \
                        receives over BMP, over BGP and from MRT files, and holds the sessions of other daemons to an \
                        interface too.";

/// What a package of debug symbols says of itself.
const SYMBOLS: &str = "debug symbols for bmpd";

/// The folder of the unit and of each format's scripts.
const PACKAGING: &str = "bmp-user/packaging";

/// The scripts of an rpm, which its scriptlets are made of: key and file.
const SCRIPTLETS: [(&str, &str); 3] =
    [("post_install_script", "post"), ("pre_uninstall_script", "preun"), ("post_uninstall_script", "postun")];

/// A package of one format.
#[derive(Debug)]
pub(super) struct PackageManifest {
    name: &'static str,
    format: PackageFormat,
    description: String,
    /// The lines of the format's table.
    lines: String,
}

impl PackageManifest {
    /// bmpd and all that belongs to it, for Debian.
    pub(super) fn deb(
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
        let files = files.iter().filter(|file| file.is_in(PackageFormat::Deb) && !is_unit(file));
        let assets = files.map(|file| deb_asset(&found(file), &file.path, &file.mode));
        let mut lines = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            lines,
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
            quoted(&packaging.join("deb").to_string_lossy()),
            quoted(&packaging.to_string_lossy()),
            assets.collect::<String>()
        );
        Self { name: "bmpd", format: PackageFormat::Deb, description: DESCRIPTION.to_owned(), lines }
    }

    /// The debug symbols for Debian, where gdb and other debuggers look for them.
    pub(super) fn deb_symbols(symbols: &[SymbolFile], changelog: &Path) -> Self {
        let overrides = root().join(PACKAGING).join("lintian-overrides");
        let assets = symbols.iter().map(|symbols| deb_asset(&symbols.file, &symbols.installed(), "644"));
        let mut lines = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            lines,
            "depends = \"bmpd (= {}-1)\"\nsection = \"debug\"\nchangelog = {}\nextended-description = \"\"\nassets = [\n{}{}]",
            env!("CARGO_PKG_VERSION"),
            quoted(&changelog.to_string_lossy()),
            assets.collect::<String>(),
            deb_asset(&overrides, "usr/share/lintian/overrides/bmpd-dbgsym", "644"),
        );
        Self { name: "bmpd-dbgsym", format: PackageFormat::Deb, description: SYMBOLS.to_owned(), lines }
    }

    /// bmpd and all that belongs to it, for Fedora, RHEL and SUSE.
    pub(super) fn rpm(
        files: &[PackagedFile],
        found: impl Fn(&PackagedFile) -> PathBuf,
        glibc: &str,
    ) -> anyhow::Result<Self> {
        let files = files.iter().filter(|file| file.is_in(PackageFormat::Rpm));
        let assets = files.map(|file| rpm_asset(&found(file), &file.path, &file.mode));
        let mut lines = String::new();
        for (key, file) in SCRIPTLETS {
            let path = root().join(PACKAGING).join("rpm").join(file);
            let script = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{key} = {}", quoted(&script));
        }
        let _ = writeln!(
            lines,
            "requires = {{ glibc = \">= {glibc}\", libgcc = \"*\", procps-ng = \"*\", systemd = \"*\" }}\n\
             suggests = {{ frr = \"*\" }}\n\
             assets = [\n{}]",
            assets.collect::<String>()
        );
        Ok(Self { name: "bmpd", format: PackageFormat::Rpm, description: DESCRIPTION.to_owned(), lines })
    }

    /// The debug symbols for Fedora, RHEL and SUSE.
    pub(super) fn rpm_symbols(symbols: &[SymbolFile]) -> Self {
        let assets = symbols.iter().map(|symbols| rpm_asset(&symbols.file, &symbols.installed(), "644"));
        let lines = format!(
            "require-sh = false\nrequires = {{ bmpd = \"= {}-1\" }}\nassets = [\n{}]\n",
            env!("CARGO_PKG_VERSION"),
            assets.collect::<String>()
        );
        Self { name: "bmpd-debuginfo", format: PackageFormat::Rpm, description: SYMBOLS.to_owned(), lines }
    }

    pub(super) fn format(&self) -> PackageFormat {
        self.format
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Writes the manifest into a folder.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let Self { name, format, description, lines } = self;
        let table = match format {
            PackageFormat::Deb => format!(
                "[package.metadata.deb]\nmaintainer = {}\ncopyright = \"2026, The bmpd authors\"\n\
                 priority = \"optional\"\n",
                quoted(&maintainer())
            ),
            // What it needs is named: another host has no ldd for the programs.
            PackageFormat::Rpm => "[package.metadata.generate-rpm]\nrelease = \"1\"\nauto-req = \"no\"\n".to_owned(),
        };
        let text = format!(
            "# Made by `cargo xtask package`.\n\
             [workspace]\n\n\
             [package]\nname = \"{name}\"\nversion = \"{}\"\nedition = \"2024\"\ndescription = {}\n\
             license = \"{}\"\nauthors = [\"The bmpd authors\"]\n\n\
             [lib]\npath = \"lib.rs\"\n\n\
             {table}{lines}",
            env!("CARGO_PKG_VERSION"),
            quoted(description),
            "MIT OR Apache-2.0",
        );
        fs::create_dir_all(folder)?;
        fs::write(folder.join("lib.rs"), "")?;
        fs::write(folder.join("Cargo.toml"), text).with_context(|| folder.display().to_string())
    }
}

fn deb_asset(source: &Path, path: &str, mode: &str) -> String {
    format!("  [{}, {}, \"{mode}\"],\n", quoted(&source.to_string_lossy()), quoted(path))
}

/// An edited file of `/etc` stays as it is in an upgrade.
fn rpm_asset(source: &Path, path: &str, mode: &str) -> String {
    let kind = match path.split_once('/') {
        Some(("etc", _)) => ", config = \"noreplace\"",
        _ if ["usr/share/doc/", "usr/share/man/"].iter().any(|folder| path.starts_with(folder)) => ", doc = true",
        _ => "",
    };
    format!(
        "  {{ source = {}, dest = {}, mode = \"{mode}\"{kind} }},\n",
        quoted(&source.to_string_lossy()),
        quoted(&format!("/{path}"))
    )
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
    use super::{maintainer_of, quoted};

    #[test]
    fn the_maintainer_is_whom_the_environment_names() {
        let of = |name: Option<&str>, address: Option<&str>| {
            maintainer_of(name.map(str::to_owned), address.map(str::to_owned))
        };
        assert_eq!(of(Some("A. Packager"), Some("a@example.net")), "A. Packager <a@example.net>");
        assert_eq!(of(Some("A\nDepends: b"), Some("<a@example.net>")), "ADepends: b <a@example.net>");
        assert_eq!(of(None, None), "The bmpd authors <bmpd@localhost.localdomain>");
    }

    #[test]
    fn text_is_quoted_for_toml() {
        assert_eq!(quoted("a \"b\"\\\nc"), r#""a \"b\"\\\nc""#);
    }
}
