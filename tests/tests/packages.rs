//! The packages that `cargo xtask package` makes: their contents, and that one commit gives one
//! package.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use flate2::read::GzDecoder;
use lab::{bmpd::built, process::answer, skip::skip, soak};
use programs::Program;
use tempfile::TempDir;

/// What the deb of bmpd holds: mode and path.
const DEB_CONTENTS: &str = "\
-rw-r--r-- ./etc/bmpd/bmpd.conf
-rw-r--r-- ./etc/iproute2/rt_protos.d/bmpd.conf
-rw-r--r-- ./usr/lib/systemd/system/bmpd-prepare.service
-rw-r--r-- ./usr/lib/systemd/system/bmpd.service
-rw-r--r-- ./usr/lib/sysusers.d/bmpd.conf
-rw-r--r-- ./usr/lib/tmpfiles.d/bmpd.conf
-rw-r--r-- ./usr/share/bash-completion/completions/bmpctl
-rw-r--r-- ./usr/share/bash-completion/completions/bmpd
-rw-r--r-- ./usr/share/bmpd/schema/api-events.schema.json
-rw-r--r-- ./usr/share/bmpd/schema/api.schema.json
-rw-r--r-- ./usr/share/bmpd/schema/bgp-bmp-monitor.schema.json
-rw-r--r-- ./usr/share/bmpd/schema/bgp-peer.schema.json
-rw-r--r-- ./usr/share/bmpd/schema/bmp-feed.schema.json
-rw-r--r-- ./usr/share/bmpd/schema/bmp-relay.schema.json
-rw-r--r-- ./usr/share/bmpd/schema/bmp-session.schema.json
-rw-r--r-- ./usr/share/bmpd/schema/commit.schema.json
-rw-r--r-- ./usr/share/bmpd/schema/configuration-commit-list.schema.json
-rw-r--r-- ./usr/share/bmpd/schema/configuration-trial.schema.json
-rw-r--r-- ./usr/share/bmpd/schema/debugging.schema.json
-rw-r--r-- ./usr/share/bmpd/schema/doctor.schema.json
-rw-r--r-- ./usr/share/bmpd/schema/http.schema.json
-rw-r--r-- ./usr/share/bmpd/schema/interface-binding.schema.json
-rw-r--r-- ./usr/share/bmpd/schema/logbuffer.schema.json
-rw-r--r-- ./usr/share/bmpd/schema/mrt-replay.schema.json
-rw-r--r-- ./usr/share/bmpd/schema/version.schema.json
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

/// What the rpm of bmpd holds: mode and path.
const RPM_CONTENTS: &str = "\
-rw-r--r-- /etc/bmpd/bmpd.conf
-rw-r--r-- /etc/iproute2/rt_protos.d/bmpd.conf
-rw-r--r-- /usr/lib/systemd/system/bmpd-prepare.service
-rw-r--r-- /usr/lib/systemd/system/bmpd.service
-rw-r--r-- /usr/lib/sysusers.d/bmpd.conf
-rw-r--r-- /usr/lib/tmpfiles.d/bmpd.conf
-rw-r--r-- /usr/share/bash-completion/completions/bmpctl
-rw-r--r-- /usr/share/bash-completion/completions/bmpd
-rw-r--r-- /usr/share/bmpd/schema/api-events.schema.json
-rw-r--r-- /usr/share/bmpd/schema/api.schema.json
-rw-r--r-- /usr/share/bmpd/schema/bgp-bmp-monitor.schema.json
-rw-r--r-- /usr/share/bmpd/schema/bgp-peer.schema.json
-rw-r--r-- /usr/share/bmpd/schema/bmp-feed.schema.json
-rw-r--r-- /usr/share/bmpd/schema/bmp-relay.schema.json
-rw-r--r-- /usr/share/bmpd/schema/bmp-session.schema.json
-rw-r--r-- /usr/share/bmpd/schema/commit.schema.json
-rw-r--r-- /usr/share/bmpd/schema/configuration-commit-list.schema.json
-rw-r--r-- /usr/share/bmpd/schema/configuration-trial.schema.json
-rw-r--r-- /usr/share/bmpd/schema/debugging.schema.json
-rw-r--r-- /usr/share/bmpd/schema/doctor.schema.json
-rw-r--r-- /usr/share/bmpd/schema/http.schema.json
-rw-r--r-- /usr/share/bmpd/schema/interface-binding.schema.json
-rw-r--r-- /usr/share/bmpd/schema/logbuffer.schema.json
-rw-r--r-- /usr/share/bmpd/schema/mrt-replay.schema.json
-rw-r--r-- /usr/share/bmpd/schema/version.schema.json
-rw-r--r-- /usr/share/doc/bmpd/bmpd.cdx.json
-rw-r--r-- /usr/share/doc/bmpd/changelog
-rw-r--r-- /usr/share/fish/vendor_completions.d/bmpctl.fish
-rw-r--r-- /usr/share/fish/vendor_completions.d/bmpd.fish
-rw-r--r-- /usr/share/licenses/bmpd/copyright
-rw-r--r-- /usr/share/man/man1/bmpctl.1
-rw-r--r-- /usr/share/man/man5/bmpd.conf.5
-rw-r--r-- /usr/share/man/man8/bmpd.8
-rw-r--r-- /usr/share/zsh/site-functions/_bmpctl
-rw-r--r-- /usr/share/zsh/site-functions/_bmpd
-rwxr-xr-x /usr/bin/bmpctl
-rwxr-xr-x /usr/sbin/bmpd
";

/// The packages of the programs under test, in a folder of their own.
struct MadePackages {
    folder: TempDir,
}

/// Those that tests look at at this time.
static SHARED: Mutex<Weak<MadePackages>> = Mutex::new(Weak::new());

impl MadePackages {
    /// Makes them, or returns those that another test looks at.
    fn shared() -> Option<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(packages) = shared.upgrade() {
            return Some(packages);
        }
        let packages = Arc::new(Self::make(&[("TZ", "UTC"), ("LC_ALL", "C")], "022")?);
        *shared = Arc::downgrade(&packages);
        Some(packages)
    }

    /// Makes those whose packer is there, which `cargo xtask test` installs, or else the long
    /// campaigns. `None` where none is.
    fn make(environment: &[(&str, &str)], mask: &str) -> Option<Self> {
        let xtask = built("xtask");
        let programs = xtask.path().parent().expect("a program is in a folder").to_owned();
        let target = programs.parent().expect("target/<profile>").to_owned();
        let tools = fs::read_dir(&target).expect("the target folder is readable").flatten();
        let tools: Vec<_> = tools.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let is_there = |tool: &str| tools.iter().any(|name| name.starts_with(tool));
        let folder = TempDir::with_prefix("lab-packages-").expect("a temporary folder can be made");
        let mut is_empty = true;
        for (tool, format) in [("cargo-deb-", "deb"), ("cargo-generate-rpm-", "rpm")] {
            if is_there(tool) {
                let mut make = Program::Sh.command();
                make.args(["-c", "umask \"$1\" && shift && exec \"$@\"", "sh", mask]).arg(&xtask);
                make.args(["package", "--format", format, "--programs"]).arg(&programs);
                make.arg("--output").arg(folder.path()).env("CARGO_TARGET_DIR", &target);
                make.env("SOURCE_DATE_EPOCH", "1700000000").envs(environment.iter().copied());
                answer(&mut make);
                is_empty = false;
            }
        }
        (!is_empty).then_some(Self { folder })
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.folder.path()).expect("the folder is readable").flatten();
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let packages = entries.map(|entry| entry.path()).filter(|path| path.is_file());
        packages.map(|path| (name(&path), fs::read(&path).expect("a package is readable"))).collect()
    }

    /// Returns the package whose name begins and ends so.
    fn named(&self, begin: &str, end: &str) -> Option<PathBuf> {
        let name = self.files().into_keys().find(|name| name.starts_with(begin) && name.ends_with(end))?;
        Some(self.folder.path().join(name))
    }

    fn deb(&self) -> Option<PathBuf> {
        self.named("bmpd_", ".deb")
    }

    fn rpm(&self) -> Option<PathBuf> {
        self.named(&format!("bmpd-{}-", env!("CARGO_PKG_VERSION")), ".rpm")
    }
}

/// Returns N of this host's glibc 2.N: 36 on Debian 12, the oldest release that packages are for.
fn own_glibc() -> u32 {
    // SAFETY: the function returns a string that is never freed.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    let version = version.to_string_lossy();
    let minor = version.strip_prefix("2.").and_then(|rest| rest.split('.').next()?.parse().ok());
    minor.unwrap_or_else(|| panic!("glibc {version} is none of 2.N"))
}

const WITHOUT_TOOL: &str = "its packer is not there (`cargo xtask package` installs it)";

#[test]
fn the_package_holds_the_files_of_the_list_and_has_no_error_of_lintian() {
    let Some(packages) = MadePackages::shared() else { return skip(WITHOUT_TOOL) };
    let Some(deb) = packages.deb() else { return skip(WITHOUT_TOOL) };
    let listed = answer(Program::DpkgDeb.command().arg("--contents").arg(&deb));
    let entry =
        |line: &str| Some(format!("{} {}\n", line.split_whitespace().next()?, line.split_whitespace().next_back()?));
    let mut files: Vec<_> = listed.lines().filter(|line| line.starts_with('-')).filter_map(entry).collect();
    files.sort();
    assert_eq!(files.concat(), DEB_CONTENTS);
    let depends = answer(Program::DpkgDeb.command().arg("--field").arg(&deb).arg("Depends"));
    let glibc = depends.split("libc6 (>= 2.").nth(1).and_then(|rest| rest.split(')').next()?.parse::<u32>().ok());
    assert!(glibc.is_some_and(|minor| minor <= own_glibc()), "the glibc of this host is enough: {depends}");
    let unpacked = TempDir::with_prefix("lab-unpacked-").expect("a temporary folder can be made");
    answer(Program::DpkgDeb.command().arg("--raw-extract").arg(&deb).arg(unpacked.path().join("p")));
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
    lintian.args(
        packages.files().keys().filter(|name| name.ends_with(".deb")).map(|name| packages.folder.path().join(name)),
    );
    answer(&mut lintian);
}

#[test]
fn the_rpm_holds_the_files_of_the_list_and_its_scripts_are_sound() {
    let Some(packages) = MadePackages::shared() else { return skip(WITHOUT_TOOL) };
    let Some(rpm) = packages.rpm() else { return skip(WITHOUT_TOOL) };
    // A database of its own: the host's says nothing about a file.
    let database = TempDir::with_prefix("lab-rpm-").expect("a temporary folder can be made");
    let ask = |words: &[&str]| {
        let mut query = Program::Rpm.command();
        query.arg("--dbpath").arg(database.path()).args(["--query", "--package"]).args(words).arg(&rpm);
        answer(&mut query)
    };
    let mut files: Vec<_> = ask(&["--queryformat", "[%{FILEMODES:perms} %{FILENAMES}\n]"])
        .lines()
        .map(|line| format!("{line}\n"))
        .collect();
    files.sort();
    assert_eq!(files.concat(), RPM_CONTENTS);
    let kept = ask(&["--queryformat", "[%{FILEFLAGS:fflags} %{FILENAMES}\n]"]);
    assert!(kept.lines().any(|line| line == "cn /etc/bmpd/bmpd.conf"), "{kept}");
    assert_eq!(ask(&["--queryformat", "%{NAME} %{VERSION} %{RELEASE} %{LICENSE}"]), {
        format!("bmpd {} 1 MIT OR Apache-2.0", env!("CARGO_PKG_VERSION"))
    });
    let requires = ask(&["--requires"]);
    let glibc = requires.lines().find_map(|line| line.strip_prefix("glibc >= 2.")?.parse::<u32>().ok());
    assert!(glibc.is_some_and(|minor| minor <= own_glibc()), "the glibc of this host is enough: {requires}");
    for (tag, part) in [("POSTIN", "systemd-sysusers"), ("PREUN", "bmpd detach"), ("POSTUN", "try-restart")] {
        let script = ask(&["--queryformat", &format!("%{{{tag}}}")]);
        assert!(script.contains(part), "{tag}: {script}");
        let file = database.path().join(tag);
        fs::write(&file, script).expect("a temporary file can be written");
        answer(Program::Sh.command().arg("-n").arg(file));
    }
    let mut check = Program::Rpm.command();
    check.arg("--dbpath").arg(database.path()).args(["--checksig", "--nosignature"]).arg(&rpm);
    let checked = answer(&mut check);
    assert!(checked.contains("digests OK"), "{checked}");
}

#[test]
fn the_packed_documents_are_those_of_this_version() {
    let Some(packages) = MadePackages::shared() else { return skip(WITHOUT_TOOL) };
    let Some(deb) = packages.deb() else { return skip(WITHOUT_TOOL) };
    let unpacked = TempDir::with_prefix("lab-unpacked-").expect("a temporary folder can be made");
    answer(Program::DpkgDeb.command().arg("--extract").arg(&deb).arg(unpacked.path()));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let own = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let packed = |path: &str| fs::read(unpacked.path().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let unzipped = |path: &str| {
        let mut text = String::new();
        GzDecoder::new(&packed(path)[..]).read_to_string(&mut text).unwrap_or_else(|e| panic!("{path}: {e}"));
        text
    };
    let version = env!("CARGO_PKG_VERSION");
    let of_deb = answer(Program::DpkgDeb.command().arg("--field").arg(&deb).arg("Version"));
    assert_eq!(of_deb.trim(), format!("{version}-1"));
    for page in ["man1/bmpctl.1.gz", "man5/bmpd.conf.5.gz", "man8/bmpd.8.gz"] {
        let text = unzipped(&format!("usr/share/man/{page}"));
        assert!(text.contains(&format!("\"bmpd {version}\"")), "{page} is of another version: {text}");
    }
    assert_eq!(unzipped("usr/share/doc/bmpd/changelog.gz"), own("CHANGELOG.md"));
    let schemas = fs::read_dir(unpacked.path().join("usr/share/bmpd/schema")).expect("schemas are installed").flatten();
    for name in schemas.map(|entry| entry.file_name().to_string_lossy().into_owned()) {
        let installed = packed(&format!("usr/share/bmpd/schema/{name}"));
        assert!(installed == own(&format!("bmp-user/packaging/schema/{name}")).into_bytes(), "{name} differs");
    }
}

#[test]
fn the_manual_page_of_bmpctl_has_every_exit_status() {
    let Some(packages) = MadePackages::shared() else { return skip(WITHOUT_TOOL) };
    let Some(deb) = packages.deb() else { return skip(WITHOUT_TOOL) };
    let unpacked = TempDir::with_prefix("lab-unpacked-").expect("a temporary folder can be made");
    answer(Program::DpkgDeb.command().arg("--extract").arg(&deb).arg(unpacked.path()));
    let page = fs::read(unpacked.path().join("usr/share/man/man1/bmpctl.1.gz")).expect("the page is installed");
    let mut text = String::new();
    GzDecoder::new(&page[..]).read_to_string(&mut text).expect("a manual page is text");
    let (_, statuses) = text.split_once(".SH EXIT STATUS\n").expect("the page has a section on exit statuses");
    let statuses = statuses.split(".SH ").next().unwrap_or_default().lines();
    let listed: Vec<u8> = statuses.filter_map(|line| line.parse().ok()).collect();
    assert_eq!(listed, [0, 1, 2, 3, 4]);
}

#[test]
fn the_same_commit_gives_the_same_packages() {
    let Some(one) = MadePackages::shared() else { return skip(WITHOUT_TOOL) };
    let Some(two) = MadePackages::make(&[("TZ", "Asia/Tokyo"), ("LC_ALL", "C.UTF-8")], "077") else {
        return skip(WITHOUT_TOOL);
    };
    let (one, two) = (one.files(), two.files());
    assert!(one.len() >= 2 && one.len().is_multiple_of(2), "{:?}", one.keys());
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(*bytes == two[name], "{name} differs");
    }
}

#[test]
fn another_folder_gives_the_same_programs() {
    if !soak::is_requested() {
        return skip("two optimised builds take many minutes: BMPD_SOAK=1");
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let build = |name: &str| {
        let folder = TempDir::with_prefix(format!("lab-{name}-")).expect("a temporary folder can be made");
        let clone = folder.path().join(name);
        answer(Program::Git.command().args(["clone", "--quiet"]).arg(&repository).arg(&clone));
        let mut cargo = Program::Cargo.command();
        cargo.current_dir(&clone).args(["xtask", "build", "--release"]);
        // As in a shell, without what the cargo of this test has set.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_")) {
            if name != "CARGO_HOME" {
                cargo.env_remove(name);
            }
        }
        answer(&mut cargo);
        ["bmpd", "bmpctl"].map(|program| fs::read(clone.join("target/release").join(program)).expect("it was built"))
    };
    assert!(build("one") == build("another-and-longer"), "the programs depend on the folder of the build");
}
