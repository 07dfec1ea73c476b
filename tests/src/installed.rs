//! bmpd as its package installs it, in the machine that a test has for itself ([`crate::machine`]).

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::IpAddr,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
};

use bmp_user::control::read_json;
use programs::{Built, Program};
use serde_json::Value;

use crate::{
    process::answer,
    unit::{show, systemctl},
    wait::{PATIENCE, patience, until},
};

/// Names the variable with the folder of the packages. `cargo xtask vm --systemd` makes them of the
/// programs under test.
const PACKAGES: &str = "BMPD_PACKAGES";

/// The unit of the package.
pub const UNIT: &str = "bmpd.service";

/// The configuration file of the package.
pub const CONFIGURATION: &str = "/etc/bmpd/bmpd.conf";

/// An installed bmpd.
#[derive(Debug)]
pub struct InstalledBmpd;

impl InstalledBmpd {
    /// Installs the package as for the first time, and writes `configuration` to its file. bmpd
    /// does not run yet.
    pub fn install(configuration: &str) -> Self {
        // What an earlier test has left.
        answer(Program::Dpkg.command().args(["--purge", "bmpd"]));
        answer(apt().arg("install").arg(package()));
        let installed = Self;
        installed.configure(configuration);
        installed
    }

    /// Writes the configuration file, as an operator's editor does.
    pub fn configure(&self, configuration: &str) {
        fs::write(CONFIGURATION, configuration).unwrap_or_else(|e| panic!("cannot write {CONFIGURATION}: {e}"));
    }

    /// Upgrades to a package of the next version, which holds the same programs.
    pub fn upgrade(&self) -> String {
        let folder = tempfile::TempDir::with_prefix("lab-package-").expect("a temporary folder can be made");
        let tree = folder.path().join("tree");
        answer(Program::DpkgDeb.command().arg("--raw-extract").arg(package()).arg(&tree));
        let control = tree.join("DEBIAN/control");
        let before = fs::read_to_string(&control).expect("a package has this file");
        let version = before.lines().find_map(|line| line.strip_prefix("Version: ")).expect("a package has a version");
        let next = format!("{version}+next");
        let after = before.replace(&format!("Version: {version}"), &format!("Version: {next}"));
        fs::write(&control, after).expect("a temporary file can be written");
        let deb = folder.path().join("bmpd-next.deb");
        // Not compressed: that takes an emulated processor minutes.
        answer(Program::DpkgDeb.command().args(["--build", "-Znone"]).arg(&tree).arg(&deb));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("the folder is ours");
        answer(apt().arg("install").arg(&deb));
        next
    }

    /// Goes back to the package under test from a later one.
    pub fn go_back(&self) {
        answer(apt().args(["install", "--allow-downgrades"]).arg(package()));
    }

    /// Returns the version of the package that is installed.
    pub fn version(&self) -> String {
        let query = ["--show", "--showformat", "${Version}", "bmpd"];
        answer(Program::DpkgQuery.command().args(query))
    }

    /// Removes the package, and keeps its configuration.
    pub fn remove(&self) {
        answer(apt().args(["remove", "bmpd"]));
    }

    /// Starts bmpd. It is ready on return.
    pub fn start(&self) {
        answer(&mut systemctl(&["start", UNIT]));
        assert_eq!(show(UNIT, "ActiveState"), "active");
    }

    /// Returns its process id; 0 if it does not run.
    pub fn pid(&self) -> u32 {
        show(UNIT, "MainPID").parse().expect("systemd shows a number")
    }

    /// Waits until bmpd runs as another process than `but`, and is ready.
    pub fn wait_again(&self, but: u32) -> u32 {
        until("systemd starts bmpd again", 3 * PATIENCE, || {
            let pid = self.pid();
            (![0, but].contains(&pid) && show(UNIT, "ActiveState") == "active").then_some(pid)
        })
    }

    /// Returns the data in the JSON of a display.
    pub fn display(&self, words: &str) -> Option<Value> {
        let output = Built::at("/usr/bin/bmpctl").command().args(words.split_whitespace()).arg("--json").output();
        read_json(&String::from_utf8(output.ok()?.stdout).ok()?).ok()
    }

    /// Waits until the session to `station` satisfies `wanted`, and returns it.
    pub fn wait_session(&self, station: IpAddr, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let station = station.to_string();
        let look = || {
            let sessions = self.display("display bmp session")?;
            let session = sessions.as_array()?.iter().find(|session| session["station"] == station)?.clone();
            wanted(&session).then_some(session)
        };
        until(&format!("the session to {station} is {what}"), patience(PATIENCE) / 6 * 3, look)
    }

    /// Makes a task of bmpd hang, in builds with debug assertions.
    pub fn stop_task(&self, task: &str) {
        let mut stream = UnixStream::connect("/run/bmpd/bmpd.sock").expect("bmpd serves its control socket");
        stream.write_all(format!("fault stop {task}\n").as_bytes()).expect("bmpd reads");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("bmpd answers");
        assert!(line.contains(task), "bmpd was built without faults on demand: {line}");
    }
}

/// Returns the package of the programs under test.
fn package() -> PathBuf {
    let folder = std::env::var_os(PACKAGES).unwrap_or_else(|| panic!("{PACKAGES} names no folder of packages"));
    let entries = fs::read_dir(Path::new(&folder)).expect("the folder of packages is readable").flatten();
    let is_bmpd = |name: &str| name.starts_with("bmpd_") && name.ends_with(".deb");
    let found =
        entries.map(|entry| entry.path()).find(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(is_bmpd));
    found.unwrap_or_else(|| panic!("no package of bmpd in {}", Path::new(&folder).display()))
}

/// Returns an apt-get that asks nothing.
fn apt() -> std::process::Command {
    let mut apt = Program::AptGet.command();
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(["--yes", "--quiet", "-o", "Dpkg::Options::=--force-confold"]);
    apt.args(["-o", "APT::Sandbox::User=root"]);
    apt
}
