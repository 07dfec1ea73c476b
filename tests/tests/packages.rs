//! The packages that `cargo xtask package` makes: their contents, and that one commit gives one
//! package.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use lab::{bmpd::built, process::answer, skip::skip};
use programs::Program;
use tempfile::TempDir;

/// What the package of bmpd holds: mode and path.
const CONTENTS: &str = "\
-rw-r--r-- ./etc/bmpd/bmpd.conf
-rw-r--r-- ./etc/iproute2/rt_protos.d/bmpd.conf
-rw-r--r-- ./usr/lib/systemd/system/bmpd-prepare.service
-rw-r--r-- ./usr/lib/systemd/system/bmpd.service
-rw-r--r-- ./usr/lib/sysusers.d/bmpd.conf
-rw-r--r-- ./usr/lib/tmpfiles.d/bmpd.conf
-rw-r--r-- ./usr/share/bash-completion/completions/bmpctl
-rw-r--r-- ./usr/share/bash-completion/completions/bmpd
-rw-r--r-- ./usr/share/doc/bmpd/bmpd.cdx.json
-rw-r--r-- ./usr/share/doc/bmpd/changelog.Debian.gz
-rw-r--r-- ./usr/share/doc/bmpd/changelog.gz
-rw-r--r-- ./usr/share/doc/bmpd/copyright
-rw-r--r-- ./usr/share/fish/vendor_completions.d/bmpctl.fish
-rw-r--r-- ./usr/share/fish/vendor_completions.d/bmpd.fish
-rw-r--r-- ./usr/share/lintian/overrides/bmpd
-rw-r--r-- ./usr/share/man/man1/bmpctl.1.gz
-rw-r--r-- ./usr/share/man/man5/bmpd.conf.5.gz
-rw-r--r-- ./usr/share/man/man8/bmpd.8.gz
-rw-r--r-- ./usr/share/zsh/vendor-completions/_bmpctl
-rw-r--r-- ./usr/share/zsh/vendor-completions/_bmpd
-rwxr-xr-x ./usr/bin/bmpctl
-rwxr-xr-x ./usr/sbin/bmpd
";

/// The packages of the programs under test, in a folder of their own.
struct MadePackages {
    folder: TempDir,
}

impl MadePackages {
    /// Makes them. `None` where cargo-deb is not there: `cargo xtask test` installs it.
    fn make(environment: &[(&str, &str)], mask: &str) -> Option<Self> {
        let xtask = built("xtask");
        let programs = xtask.path().parent().expect("a program is in a folder").to_owned();
        let target = programs.parent().expect("target/<profile>").to_owned();
        let has_tool = fs::read_dir(&target).expect("the target folder is readable").flatten();
        if !has_tool.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("cargo-deb-")) {
            return None;
        }
        let folder = TempDir::with_prefix("lab-packages-").expect("a temporary folder can be made");
        let mut make = Program::Sh.command();
        make.args(["-c", "umask \"$1\" && exec \"$2\" package --programs \"$3\" --output \"$4\"", "sh", mask]);
        make.arg(&xtask).arg(&programs).arg(folder.path()).env("CARGO_TARGET_DIR", &target);
        make.env("SOURCE_DATE_EPOCH", "1700000000").envs(environment.iter().copied());
        answer(&mut make);
        Some(Self { folder })
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.folder.path()).expect("the folder is readable").flatten();
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let packages = entries.map(|entry| entry.path()).filter(|path| path.is_file());
        packages.map(|path| (name(&path), fs::read(&path).expect("a package is readable"))).collect()
    }

    fn deb(&self) -> PathBuf {
        let name = self.files().into_keys().find(|name| name.starts_with("bmpd_") && name.ends_with(".deb"));
        self.folder.path().join(name.expect("the package of bmpd is there"))
    }
}

const WITHOUT_TOOL: &str = "cargo-deb is not there (`cargo xtask package` installs it)";

#[test]
fn the_package_holds_the_files_of_the_list_and_has_no_error_of_lintian() {
    let Some(packages) = MadePackages::make(&[], "022") else { return skip(WITHOUT_TOOL) };
    let listed = answer(Program::DpkgDeb.command().arg("--contents").arg(packages.deb()));
    let entry =
        |line: &str| Some(format!("{} {}\n", line.split_whitespace().next()?, line.split_whitespace().next_back()?));
    let mut files: Vec<_> = listed.lines().filter(|line| line.starts_with('-')).filter_map(entry).collect();
    files.sort();
    assert_eq!(files.concat(), CONTENTS);
    let depends = answer(Program::DpkgDeb.command().arg("--field").arg(packages.deb()).arg("Depends"));
    let glibc = depends.split("libc6 (>= 2.").nth(1).and_then(|rest| rest.split(')').next()?.parse::<u32>().ok());
    assert!(glibc.is_some_and(|minor| minor <= 36), "glibc 2.36 is enough: {depends}");
    let unpacked = TempDir::with_prefix("lab-unpacked-").expect("a temporary folder can be made");
    answer(Program::DpkgDeb.command().arg("--raw-extract").arg(packages.deb()).arg(unpacked.path().join("p")));
    let file = |path: &str| unpacked.path().join("p").join(path);
    let removal = fs::read_to_string(file("DEBIAN/prerm")).expect("a script is text");
    assert!(removal.contains("bmpd detach"), "{removal}");
    let conffiles = fs::read_to_string(file("DEBIAN/conffiles")).expect("a list is text");
    assert!(conffiles.lines().any(|line| line == "/etc/bmpd/bmpd.conf"), "{conffiles}");
    for script in ["postinst", "prerm", "postrm"] {
        let mode = fs::metadata(file("DEBIAN").join(script)).expect("the script is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{script}");
        answer(Program::Sh.command().arg("-n").arg(file("DEBIAN").join(script)));
    }
    let mut lintian = Program::Lintian.command();
    lintian.args(["--allow-root", "--fail-on", "error"]);
    lintian.args(packages.files().keys().map(|name| packages.folder.path().join(name)));
    answer(&mut lintian);
}

#[test]
fn the_same_commit_gives_the_same_packages() {
    let Some(one) = MadePackages::make(&[("TZ", "UTC"), ("LC_ALL", "C")], "022") else { return skip(WITHOUT_TOOL) };
    let Some(two) = MadePackages::make(&[("TZ", "Asia/Tokyo"), ("LC_ALL", "C.UTF-8")], "077") else {
        return skip(WITHOUT_TOOL);
    };
    let (one, two) = (one.files(), two.files());
    assert!(one.len() >= 2, "{:?}", one.keys());
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(*bytes == two[name], "{name} differs");
    }
}
