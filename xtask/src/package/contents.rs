//! The description of the packages: `bmp-user/packaging/contents`.

use std::{fmt, path::Path};

use anyhow::{Context as _, bail};

/// The description, from the repository's root.
pub(super) const FILE: &str = "bmp-user/packaging/contents";

/// A file of the packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PackagedFile {
    /// Its mode, in octal digits.
    pub(super) mode: String,
    /// Its path in the package, without the first `/`.
    pub(super) path: String,
    /// Where it comes from.
    pub(super) source: FileSource,
    /// The only format that has it; both if `None`.
    pub(super) only: Option<PackageFormat>,
}

/// A format of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PackageFormat {
    /// Debian's.
    Deb,
    /// That of Fedora, RHEL and SUSE.
    Rpm,
}

impl PackageFormat {
    pub(crate) const ALL: [Self; 2] = [Self::Deb, Self::Rpm];
}

/// As the names of its files end.
impl fmt::Display for PackageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deb => "deb",
            Self::Rpm => "rpm",
        })
    }
}

impl PackagedFile {
    /// Returns whether packages of this format hold the file.
    pub(super) fn is_in(&self, format: PackageFormat) -> bool {
        self.only.is_none_or(|only| only == format)
    }
}

/// Where a file of the packages comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileSource {
    /// A program of this name, which cargo built.
    Program(String),
    /// A file of this name, which is made from the programs.
    Made(String),
    /// A file of the repository, from its root.
    Repository(String),
}

/// Reads the description.
pub(super) fn read(root: &Path) -> anyhow::Result<Vec<PackagedFile>> {
    let text = std::fs::read_to_string(root.join(FILE)).context(FILE)?;
    parse(&text)
}

fn parse(text: &str) -> anyhow::Result<Vec<PackagedFile>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(number, line)| file(line).with_context(|| format!("{FILE}:{}", number + 1))).collect()
}

fn file(line: &str) -> anyhow::Result<PackagedFile> {
    let (mode, path, source, only) = match line.split_whitespace().collect::<Vec<_>>()[..] {
        [mode, path, source] => (mode, path, source, None),
        [mode, path, source, "deb"] => (mode, path, source, Some(PackageFormat::Deb)),
        [mode, path, source, "rpm"] => (mode, path, source, Some(PackageFormat::Rpm)),
        _ => bail!("a line has three fields (mode, path, source), and `deb` or `rpm` for one format alone"),
    };
    if !matches!(mode, "644" | "755") || path.starts_with('/') {
        bail!("a mode is 644 or 755, and a path has no `/` in front");
    }
    let source = match source.split_once('/') {
        Some(("programs", name)) => FileSource::Program(name.to_owned()),
        Some(("made", name)) => FileSource::Made(name.to_owned()),
        _ => FileSource::Repository(source.to_owned()),
    };
    Ok(PackagedFile { mode: mode.to_owned(), path: path.to_owned(), source, only })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_mode_path_and_source() {
        let files =
            parse("# a comment\n\n755  usr/sbin/bmpd  programs/bmpd\n644 a/b made/man/b.8 rpm\n644 c LICENSE deb\n")
                .unwrap();
        let sources: Vec<_> = files.iter().map(|file| file.source.clone()).collect();
        assert_eq!(
            sources,
            [
                FileSource::Program("bmpd".to_owned()),
                FileSource::Made("man/b.8".to_owned()),
                FileSource::Repository("LICENSE".to_owned())
            ]
        );
        let formats = [PackageFormat::Deb, PackageFormat::Rpm];
        let held: Vec<_> = files.iter().map(|file| formats.map(|format| file.is_in(format))).collect();
        assert_eq!(held, [[true, true], [false, true], [true, false]]);
        assert_eq!((files[0].mode.as_str(), files[0].path.as_str()), ("755", "usr/sbin/bmpd"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        for line in ["755 usr/sbin/bmpd", "777 a b", "644 /a b", "644 a b apk"] {
            let error = format!("{:#}", parse(&format!("# first\n{line}\n")).unwrap_err());
            assert!(error.starts_with("bmp-user/packaging/contents:2: "), "{error}");
        }
    }

    #[test]
    fn every_file_of_the_repository_that_is_packaged_is_there() {
        let root = crate::process::root();
        for file in read(&root).unwrap() {
            if let FileSource::Repository(path) = file.source {
                assert!(root.join(&path).is_file(), "{path}");
            }
        }
    }
}
