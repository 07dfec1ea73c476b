//! The table of outside programs: every program that the workspace starts and does not build, with
//! its Debian packages.
//!
//! A [`Program`] starts a program, never a string: clippy's `disallowed_methods` and a test check
//! that. An entry names the commands of `cargo xtask` that start the program. Each command installs
//! the packages of its programs before it builds. A command that its entry does not name panics,
//! even where the program is installed.
//!
//! This file has no dependencies: bmp-user's build script includes it by path.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use self::Use::{Bare, Bench, Build, Ci, Compare, Demo, Frr, Fuzz, Package, Peers, Run, Systemd, Test, Vm};

/// The purpose of starting programs: a command of `cargo xtask`, or a part of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Setup and every build.
    Build,
    /// `cargo xtask demo --no-frr`.
    Demo,
    /// FRR as the source of routes in `cargo xtask demo`.
    Frr,
    /// `cargo xtask run`.
    Run,
    /// `cargo xtask test`.
    Test,
    /// `cargo xtask bench`.
    Bench,
    /// What `cargo xtask bench` compares bmpd with, if installed.
    Compare,
    /// `cargo xtask fuzz`.
    Fuzz,
    /// `cargo xtask vm`.
    Vm,
    /// `cargo xtask vm --systemd`.
    Systemd,
    /// `cargo xtask package`.
    Package,
    /// `cargo xtask bare`.
    Bare,
    /// `cargo xtask peers`, and the daemons of that Debian in `cargo xtask test`.
    Peers,
    /// `cargo xtask ci`.
    Ci,
}

/// The declared uses of this process.
static DECLARED: OnceLock<&'static [Use]> = OnceLock::new();

impl Use {
    /// Declares the uses of this process; without a declaration, as in tests, it is [`Use::Test`].
    /// The first declaration stays.
    pub fn declare(uses: &'static [Self]) {
        let _ = DECLARED.set(uses);
    }

    /// Returns this use and those that it implies.
    const fn parts(self) -> &'static [Self] {
        match self {
            Build => &[Build],
            Demo => &[Demo, Build],
            Frr => &[Frr],
            Run => &[Run, Build],
            Test => &[Test, Build, Demo, Frr, Run, Fuzz, Package, Vm],
            Bench => &[Bench, Build],
            Compare => &[Compare],
            Fuzz => &[Fuzz, Build],
            // Any test may run in the virtual machine, so it starts the programs of all tests.
            Vm => &[Vm, Test, Build],
            Systemd => &[Systemd, Vm, Test, Build],
            Package => &[Package, Build],
            Bare => &[Bare, Build],
            Peers => &[Peers, Build],
            Ci => &[Ci, Test, Build, Demo, Frr, Run, Fuzz, Package, Vm, Bare],
        }
    }

    /// Returns the programs for any of `uses`, in the order of the table.
    pub fn programs(uses: &[Self]) -> impl Iterator<Item = Program> {
        Program::ALL.iter().copied().filter(|program| program.is_for(uses))
    }

    /// Returns the Debian packages of the programs for `uses`, sorted.
    pub fn packages(uses: &[Self]) -> Vec<&'static str> {
        let mut packages: Vec<_> = Self::programs(uses).flat_map(|program| program.entry().packages).copied().collect();
        packages.sort_unstable();
        packages.dedup();
        packages
    }
}

struct ProgramEntry {
    /// A name to look for in `PATH`, or an absolute path.
    file: &'static str,
    packages: &'static [&'static str],
    uses: &'static [Use],
}

macro_rules! programs {
    ($($name:ident = $file:literal of $packages:expr, for $uses:expr;)*) => {
        /// A program that the workspace starts and does not build.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Program {
            $(#[doc = concat!("`", $file, "`")] $name,)*
        }

        impl Program {
            /// All programs.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            const fn entry(self) -> ProgramEntry {
                match self {
                    $(Self::$name => ProgramEntry { file: $file, packages: &$packages, uses: &$uses },)*
                }
            }
        }
    };
}

// Programs without a package come from rustup or setup, or a host may lack them (sudo, systemd).
programs! {
    AptCache = "apt-cache" of ["apt"], for [Vm];
    AptConfig = "apt-config" of ["apt"], for [Bare];
    AptGet = "apt-get" of ["apt"], for [Build];
    Bgpd = "/usr/lib/frr/bgpd" of ["frr"], for [Frr, Test, Compare];
    Bird = "bird" of ["bird2"], for [Test, Compare];
    Birdc = "birdc" of ["bird2"], for [Test];
    Birdcl = "birdcl" of ["bird2"], for [Compare];
    BpfLinker = "bpf-linker" of [], for [Build];
    Cargo = "cargo" of [], for [Build];
    CargoDeny = "cargo-deny" of [], for [Ci];
    Cc = "cc" of ["gcc", "libc6-dev"], for [Build];
    Chroot = "chroot" of ["coreutils"], for [Bare, Peers, Systemd];
    Chromium = "chromium" of ["chromium"], for [Test];
    Cp = "cp" of ["coreutils"], for [Systemd];
    // It compiles libFuzzer.
    Cxx = "c++" of ["g++"], for [Fuzz];
    Date = "date" of ["coreutils"], for [Package];
    Debootstrap = "debootstrap" of ["debootstrap"], for [Bare, Systemd];
    Depmod = "/sbin/depmod" of ["kmod"], for [Vm];
    Dpkg = "dpkg" of ["dpkg"], for [Build];
    DpkgDeb = "dpkg-deb" of ["dpkg"], for [Peers, Test, Vm];
    DpkgQuery = "dpkg-query" of ["dpkg"], for [Build];
    Env = "env" of ["coreutils"], for [Build];
    Ethtool = "ethtool" of ["ethtool"], for [Demo, Test, Bench];
    Git = "git" of ["git"], for [Bare, Package];
    Gobgp = "gobgp" of ["gobgpd"], for [Test];
    Gobgpd = "gobgpd" of ["gobgpd"], for [Test, Compare];
    Haproxy = "haproxy" of ["haproxy"], for [Test];
    Install = "install" of ["coreutils"], for [Build];
    Ip = "ip" of ["iproute2"], for [Demo, Test, Bench, Vm];
    Iperf3 = "iperf3" of ["iperf3"], for [Test];
    Journalctl = "journalctl" of [], for [Test];
    Kill = "/bin/kill" of ["procps"], for [Run];
    Ldd = "ldd" of ["libc-bin"], for [Build];
    Lintian = "lintian" of ["lintian"], for [Test];
    MkfsExt4 = "/sbin/mkfs.ext4" of ["e2fsprogs"], for [Systemd];
    Modprobe = "/sbin/modprobe" of ["kmod"], for [Vm];
    Mount = "mount" of ["mount"], for [Vm];
    Nft = "nft" of ["nftables"], for [Test, Compare];
    Objcopy = "objcopy" of ["binutils"], for [Package];
    Objdump = "objdump" of ["binutils"], for [Package];
    Openssl = "openssl" of ["openssl"], for [Bench, Test];
    Pmbmpd = "pmbmpd" of ["pmacct"], for [Test];
    Prometheus = "prometheus" of ["prometheus"], for [Test];
    Promtool = "promtool" of ["prometheus"], for [Test];
    Qemu = "qemu-system-x86_64" of ["qemu-system-x86"], for [Vm];
    Rm = "rm" of ["coreutils"], for [Build];
    Rpm = "rpm" of ["rpm"], for [Test];
    Rustc = "rustc" of [], for [Build];
    Rustup = "rustup" of [], for [Build];
    Setpriv = "setpriv" of ["util-linux"], for [Test];
    Sh = "sh" of ["dash"], for [Test, Vm, Bare];
    Sleep = "sleep" of ["coreutils"], for [Test];
    Ss = "ss" of ["iproute2"], for [Test];
    Sudo = "sudo" of [], for [Build];
    Stunnel = "stunnel4" of ["stunnel4"], for [Test];
    Systemctl = "systemctl" of [], for [Build];
    SystemdAnalyze = "systemd-analyze" of [], for [Test];
    SystemdRun = "systemd-run" of [], for [Test];
    Tar = "tar" of ["tar"], for [Vm];
    Tc = "tc" of ["iproute2"], for [Test];
    Teamd = "teamd" of ["libteam-utils"], for [Test];
    Teamnl = "teamnl" of ["libteam-utils"], for [Test];
    Tshark = "tshark" of ["tshark"], for [Test];
    Unshare = "unshare" of ["util-linux"], for [Bare, Systemd];
    Useradd = "/usr/sbin/useradd" of ["passwd"], for [Test];
    Valgrind = "valgrind" of ["valgrind"], for [Test, Bench];
    Vtysh = "vtysh" of ["frr"], for [Frr, Test];
    Xz = "xz" of ["xz-utils"], for [Vm];
    Zstd = "zstd" of ["zstd"], for [Vm];
}

impl Program {
    /// Returns a command that starts the program.
    ///
    /// # Panics
    /// If its entry does not name a declared use of this process: another host would lack the
    /// program.
    pub fn command(self) -> Command {
        start(self.file())
    }

    /// Returns its name or absolute path, as an argument of a program that starts it.
    ///
    /// # Panics
    /// Like [`Self::command`].
    pub fn file(self) -> &'static str {
        let uses = DECLARED.get().copied().unwrap_or(&[Test]);
        assert!(
            self.is_for(uses),
            "`{}` is started for {uses:?}: add that to its entry in the table of programs (xtask/src/programs.rs)",
            self.entry().file
        );
        self.entry().file
    }

    /// Returns its name, for messages.
    pub const fn name(self) -> &'static str {
        self.entry().file
    }

    /// Returns its Debian packages; none if it comes from elsewhere.
    pub const fn packages(self) -> &'static [&'static str] {
        self.entry().packages
    }

    /// Returns its path on this host.
    pub fn find(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Joining an absolute path yields that path.
        std::env::split_paths(&path).map(|folder| folder.join(self.entry().file)).find(|file| file.is_file())
    }

    fn is_for(self, uses: &[Use]) -> bool {
        uses.iter().flat_map(|wanted| wanted.parts()).any(|part| self.entry().uses.contains(part))
    }
}

impl AsRef<OsStr> for Program {
    fn as_ref(&self) -> &OsStr {
        self.file().as_ref()
    }
}

impl From<Program> for Command {
    fn from(program: Program) -> Self {
        program.command()
    }
}

/// A program that the workspace has built or that was found on this host. Its path is absolute: a
/// name could be that of a program to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built(PathBuf);

impl Built {
    /// Returns the program with this path.
    ///
    /// # Panics
    /// If the path is not absolute.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        assert!(
            path.is_absolute(),
            "`{}` is no absolute path: start an outside program by its entry in the table",
            path.display()
        );
        Self(path)
    }

    /// Returns a command that starts the program.
    pub fn command(&self) -> Command {
        start(&self.0)
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl AsRef<OsStr> for Built {
    fn as_ref(&self) -> &OsStr {
        self.0.as_ref()
    }
}

impl From<Built> for Command {
    fn from(built: Built) -> Self {
        built.command()
    }
}

/// Returns a command for the compiler that cargo names to its wrapper.
pub fn compiler(named: OsString) -> Command {
    start(named)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that starts programs: entries of the table, and built ones"
)]
fn start(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_command_installs_the_programs_that_it_starts() {
        let demo = Use::packages(&[Demo, Frr]);
        for package in ["ethtool", "frr", "iproute2"] {
            assert!(demo.contains(&package), "{demo:?}");
        }
        assert!(!Use::packages(&[Demo]).contains(&"frr"));
        assert!(!Use::packages(&[Bench]).contains(&"frr"), "bench compares bmpd with what is installed");
        for package in demo {
            assert!(
                Use::packages(&[Test]).contains(&package),
                "the tests start the lab of the demonstration: {package}"
            );
        }
        let test = Use::packages(&[Test]);
        assert!(test.contains(&"qemu-system-x86") && test.contains(&"g++"), "{test:?}");
    }

    #[test]
    #[should_panic(expected = "`debootstrap` is started for [Test]")]
    fn a_test_cannot_start_a_program_that_tests_do_not_install() {
        Program::Debootstrap.command();
    }

    #[test]
    #[should_panic(expected = "`ip` is no absolute path")]
    fn an_outside_program_is_not_started_as_a_built_one() {
        Built::at("ip");
    }

    #[test]
    fn the_package_of_an_entry_holds_its_program() {
        let packages = Use::packages(&[Test]);
        let query =
            Program::DpkgQuery.command().args(["-W", "-f", "${db:Status-Abbrev}${Package}\n"]).args(packages).output();
        // Other systems have no packages to ask.
        let Ok(output) = query else { return };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let is_installed = |package: &&str| said.lines().any(|line| line.strip_prefix("ii ") == Some(*package));
        let asked = Use::programs(&[Test]).filter(|program| !program.packages().is_empty());
        let installed = asked.filter(|program| program.packages().iter().all(is_installed));
        let absent: Vec<_> = installed.filter(|program| program.find().is_none()).collect();
        assert_eq!(absent, []);
    }

    #[test]
    fn every_program_is_started_through_the_table() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut sources = Vec::new();
        for package in ["bmp-ebpf", "bmp-user", "tests", "xtask"] {
            collect(&root.join(package), &mut sources);
        }
        assert!(sources.len() > 100, "the sources are not where they were");
        // Written so that this file does not hold the words.
        let forbidden =
            [["Command", "::new("].concat(), ["process", "::Command::from"].concat(), ["exec", "vp("].concat()];
        let table = root.join(file!());
        assert!(sources.contains(&table));
        for source in sources.iter().filter(|source| **source != table) {
            let text = fs::read_to_string(source).unwrap();
            for words in &forbidden {
                assert!(!text.contains(words.as_str()), "{} starts a program by `{words}`", source.display());
            }
        }
        let here = fs::read_to_string(&table).unwrap();
        assert_eq!(here.matches(&forbidden[0]).count(), 1, "the table starts programs in one place");
    }

    fn collect(folder: &Path, sources: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, sources);
            } else if path.extension() == Some("rs".as_ref()) {
                sources.push(path);
            }
        }
    }
}
