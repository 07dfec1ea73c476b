//! `cargo xtask bare`: a command of the README on a Debian with git, a C compiler and rustup's Rust
//! alone, or bmpd's package on it.
//!
//! The command runs as root in a root folder of its own (chroot(1)), with the kernel, network and
//! devices of the host. All mounts are made in a mount namespace of this process: the host sees
//! none, and they end with the process, however it ends.

mod mounts;
mod package;
mod root;

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use self::mounts::Mounts;
pub(crate) use self::root::BareSuite;
use crate::{
    packages,
    process::{self, is_root, own_program, quietly, say, target_dir, text},
    programs::{Built, Program, Use},
    progress::{Steps, beating, note, spoken},
    watch::{ProcessWatcher, RunEnd, WatchedRun},
};

/// A command that prints nothing for so long hangs: it reports long work every
/// [`crate::progress::BEAT`].
const SILENCE: Duration = Duration::from_secs(1200);

/// The place of the host's CA certificates in the bare root. Packages rewrite Debian's own bundle.
const CERTIFICATES: &str = "/etc/host-certificates.crt";
const HOST_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The variables that say how the host reaches other hosts.
const PROXIES: [&str; 8] =
    ["http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"];

/// The options of `cargo xtask bare`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The command of the README
    what: ReadmeCommand,
    /// The Debian; by default this host's own, or else the newest
    #[arg(long)]
    suite: Option<BareSuite>,
    /// Share the dependencies that this host has compiled, and the downloads of earlier runs
    #[arg(long)]
    warm: bool,
    /// Arguments for the command
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

/// A command of the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ReadmeCommand {
    /// `cargo xtask demo`
    Demo,
    /// `cargo xtask test`
    Test,
    /// Install the package that `cargo xtask package` makes, use it and remove it
    Package,
}

impl ReadmeCommand {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Test => "test",
            Self::Package => "package",
        }
    }
}

/// The folders of one suite below `target/bare`.
struct BareFolders {
    /// The folder that holds the others.
    suite: PathBuf,
    /// The mount point of a run's root: the cached root below what the run writes.
    mounted: PathBuf,
    /// The files that a run writes; empty between runs.
    run: PathBuf,
    /// This host's build folder.
    target: PathBuf,
}

/// Fails if the command fails: it does not install what it needs, or does not work on this Debian.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let (debian, name) = packages::host();
    if !debian {
        bail!("Debian's own tools and keys make a bare Debian, and this is {name}");
    }
    if !is_root() {
        bail!("a bare Debian needs root: sudo -E env PATH=\"$PATH\" cargo xtask bare ...");
    }
    let suite = arguments.suite.unwrap_or_else(BareSuite::of_host);
    if arguments.what == ReadmeCommand::Package {
        return package::install(suite, &arguments.arguments);
    }
    let (what, temper) = (arguments.what.name(), if arguments.warm { "warm" } else { "cold" });
    let about = match (arguments.warm, arguments.what) {
        (true, ReadmeCommand::Demo) => "a few minutes",
        (false, ReadmeCommand::Demo) => "about 10 minutes on two cores",
        (_, ReadmeCommand::Test) => "half an hour or more",
        (_, ReadmeCommand::Package) => "a few minutes",
    };
    let mut steps = Steps::announce(
        &format!("cargo xtask bare {what}, {temper}, on a bare Debian {suite}"),
        about,
        &["packages of this host", "the bare root", "a clone", &format!("cargo xtask {what} in it")],
    );
    steps.begin();
    packages::require(&[Use::Bare])?;
    let rust = HostRust::of_host()?;
    let target = target_dir()?;
    let folders = BareFolders::prepare(&target, suite)?;
    let _alone = folders.lock()?;

    steps.begin();
    let cached = root::get(&folders.suite, suite)?;
    let mounts = Mounts::private()?;
    folders.empty()?;
    folders.mount_root(&mounts, &cached)?;
    rust.put_into(&mounts, &folders.mounted)?;

    steps.begin();
    let repository = process::root();
    clone(&repository, &inside(&folders.mounted, &repository))?;
    // After the clone, because git clones into empty folders only, and most build folders are in
    // the repository.
    if arguments.warm {
        folders.share(&mounts, &rust)?;
    }

    steps.begin();
    let end = run(arguments, &folders.mounted, &rust, arguments.warm.then_some(&target))?;
    let result = match end {
        RunEnd::Success => "works",
        RunEnd::Failure => "FAILED",
        RunEnd::Stopped => "was stopped",
    };
    say(format_args!(
        "bare: `cargo xtask {what}` {result} on a bare Debian {suite} ({temper}), {}",
        spoken(start.elapsed())
    ));
    drop(mounts);
    beating("removing what the run has written", || folders.empty())?;
    Ok(if end == RunEnd::Success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes the bare root of this host's suite, unless it is there, for a run that follows.
pub(crate) fn prepare() -> anyhow::Result<()> {
    let suite = BareSuite::of_host();
    let folders = BareFolders::prepare(&target_dir()?, suite)?;
    let _alone = folders.lock()?;
    root::get(&folders.suite, suite).map(drop)
}

/// Runs both commands on both Debians, cold: a part of the long campaigns.
pub(crate) fn all(watcher: &ProcessWatcher) -> anyhow::Result<Vec<(String, RunEnd, Duration)>> {
    let mut found = Vec::new();
    if !is_root() {
        say("no bare Debians: they need root");
        return Ok(found);
    }
    let program = Built::at(own_program()?);
    for suite in BareSuite::ALL {
        for what in [ReadmeCommand::Demo, ReadmeCommand::Test] {
            let start = Instant::now();
            let name = format!("{} on {suite}", what.name());
            let mut command = program.command();
            command.args(["bare", what.name(), "--suite", &suite.to_string()]);
            let run = WatchedRun { what: &name, group: true, silence: SILENCE };
            let end = watcher.run(&mut command, &run, |line| say(line))?;
            found.push((name, end, start.elapsed()));
            if end == RunEnd::Stopped {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Returns `path` of the bare root as this process sees it.
fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

impl BareFolders {
    fn prepare(target: &Path, suite: BareSuite) -> anyhow::Result<Self> {
        let suite = target.join("bare").join(suite.to_string());
        let folders = Self { mounted: suite.join("mounted"), run: suite.join("run"), suite, target: target.to_owned() };
        make(&folders.mounted)?;
        Ok(folders)
    }

    /// Locks the folder: two runs would write into it.
    fn lock(&self) -> anyhow::Result<fs::File> {
        let path = self.suite.join("lock");
        let file = fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        file.try_lock().with_context(|| format!("another `cargo xtask bare` runs in {}", self.suite.display()))?;
        Ok(file)
    }

    /// Removes the files of a run, even of a killed one.
    fn empty(&self) -> anyhow::Result<()> {
        if self.run.exists() {
            fs::remove_dir_all(&self.run).with_context(|| format!("cannot remove {}", self.run.display()))?;
        }
        Ok(())
    }

    fn mount_root(&self, mounts: &Mounts, cached: &Path) -> anyhow::Result<()> {
        mounts.overlay(cached, &self.run.join("root"), &self.mounted)?;
        for folder in ["proc", "sys", "dev"] {
            mounts.bind_all(&Path::new("/").join(folder), &self.mounted.join(folder))?;
        }
        let hand_over = |from: &str, to: &str| {
            if Path::new(from).exists() {
                let to = inside(&self.mounted, Path::new(to));
                let _ = fs::remove_file(&to);
                fs::copy(from, &to).with_context(|| format!("cannot copy {from} to {}", to.display()))?;
            }
            anyhow::Ok(())
        };
        hand_over("/etc/resolv.conf", "/etc/resolv.conf")?;
        hand_over("/etc/hosts", "/etc/hosts")?;
        hand_over(HOST_CERTIFICATES, CERTIFICATES)?;
        let apt = self.mounted.join("etc/apt/apt.conf.d/90host");
        fs::write(&apt, root::apt_settings(CERTIFICATES)?).with_context(|| format!("cannot write {}", apt.display()))
    }

    /// Lets the run see what this host has compiled, and keeps what the run downloads. Programs and
    /// libraries are still the bare root's own. The workspace's crates are newer in the clone, so
    /// they are built.
    fn share(&self, mounts: &Mounts, rust: &HostRust) -> anyhow::Result<()> {
        for profile in ["debug", "release", "bpf"] {
            let from = self.target.join(profile);
            if from.is_dir() {
                mounts.overlay(&from, &self.run.join(profile), &inside(&self.mounted, &from))?;
            }
        }
        let kept = |name: &str, at: &Path| {
            let from = self.suite.join(name);
            make(&from)?;
            mounts.bind(&from, &inside(&self.mounted, at))
        };
        // A folder for each suite: programs that need a newer C library do not run with an older
        // one.
        kept("bpf-linker", &self.target.join("bpf-linker"))?;
        kept("archives", Path::new("/var/cache/apt/archives"))?;
        kept("lists", Path::new("/var/lib/apt/lists"))?;
        let registry = rust.cargo.join("registry");
        make(&registry)?;
        mounts.bind(&registry, &inside(&self.mounted, &registry))
    }
}

fn make(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// rustup, and the toolchain that this host uses here.
struct HostRust {
    /// The program of rustup.
    rustup: PathBuf,
    /// `CARGO_HOME`. The bare root has it at the same place: cargo compiles anew what has moved.
    cargo: PathBuf,
    /// `RUSTUP_HOME`, also at the same place.
    home: PathBuf,
    /// The name of the toolchain.
    toolchain: String,
}

impl HostRust {
    fn of_host() -> anyhow::Result<Self> {
        let rustup = Program::Rustup.find().context("rustup is not in the path")?;
        let rustup = fs::canonicalize(&rustup).with_context(|| format!("cannot follow {}", rustup.display()))?;
        let folder = |variable: &str, default: &str| {
            let home = env::var_os("HOME").map(PathBuf::from).context("HOME is not set")?;
            anyhow::Ok(env::var_os(variable).map_or_else(|| home.join(default), PathBuf::from))
        };
        let shown = text(Program::Rustup.command().current_dir(process::root()).args(["show", "active-toolchain"]))?;
        let toolchain = shown.split_whitespace().next().context("rustup names no toolchain that is in use")?.to_owned();
        Ok(Self { rustup, cargo: folder("CARGO_HOME", ".cargo")?, home: folder("RUSTUP_HOME", ".rustup")?, toolchain })
    }

    /// Puts rustup into `root` as its installer does, with that toolchain alone and nothing that
    /// `cargo xtask setup` adds.
    fn put_into(&self, mounts: &Mounts, root: &Path) -> anyhow::Result<()> {
        let bin = inside(root, &self.cargo).join("bin");
        make(&bin)?;
        fs::copy(&self.rustup, bin.join("rustup")).context("cannot copy rustup")?;
        for name in ["cargo", "rustc", "rustdoc"] {
            symlink("rustup", bin.join(name)).with_context(|| format!("cannot link {name}"))?;
        }
        for file in ["config.toml", "config"] {
            let from = self.cargo.join(file);
            if from.exists() {
                // This host says where crates come from.
                fs::copy(&from, inside(root, &from)).with_context(|| format!("cannot copy {}", from.display()))?;
            }
        }
        let toolchain = self.home.join("toolchains").join(&self.toolchain);
        mounts.bind_read_only(&toolchain, &inside(root, &toolchain))?;
        let settings = format!("version = \"12\"\ndefault_toolchain = \"{}\"\n", self.toolchain);
        fs::write(inside(root, &self.home).join("settings.toml"), settings).context("cannot write rustup's settings")
    }
}

/// Clones the commit.
fn clone(repository: &Path, to: &Path) -> anyhow::Result<()> {
    let git = || {
        let mut git = Program::Git.command();
        // Lets root read another user's repository.
        git.envs([("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", "*")]);
        git.arg("-C").arg(repository);
        git
    };
    let head = text(git().args(["log", "-1", "--format=%h %s"]))?;
    note(format_args!("      the commit: {}", head.trim_end()));
    let changed = text(git().args(["status", "--porcelain"]))?;
    if !changed.is_empty() {
        let files = changed.lines().count();
        note(format_args!("      NOT tried: {files} file(s) with uncommitted changes"));
    }
    if let Some(parent) = to.parent() {
        make(parent)?;
    }
    let from = format!("file://{}", repository.display());
    quietly(git().args(["clone", "--quiet", "--depth=1", &from]).arg(to))
}

fn run(arguments: &Arguments, root: &Path, rust: &HostRust, target: Option<&PathBuf>) -> anyhow::Result<RunEnd> {
    let mut command = in_root(root, rust, target);
    command.arg(Program::Cargo).args(["xtask", arguments.what.name()]).args(&arguments.arguments);
    let watcher = ProcessWatcher::new()?;
    let run = WatchedRun { what: "the command in the bare Debian", group: true, silence: SILENCE };
    watcher.run(&mut command, &run, |line| say(line))
}

/// Returns a command in the clone, with the environment of a fresh login.
fn in_root(root: &Path, rust: &HostRust, target: Option<&PathBuf>) -> Command {
    let mut command = Program::Chroot.command();
    command.arg(root).arg(Program::Env).arg("-i").arg("--chdir").arg(process::root());
    let mut set = |name: &str, value: &dyn std::fmt::Display| {
        command.arg(format!("{name}={value}"));
    };
    set("HOME", &env::var("HOME").unwrap_or_else(|_| "/root".to_owned()));
    set("LANG", &"C.UTF-8");
    let bin = Built::at(rust.cargo.join("bin"));
    set("PATH", &format_args!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", bin.path().display()));
    set("CARGO_HOME", &rust.cargo.display());
    set("RUSTUP_HOME", &rust.home.display());
    set("CARGO_TERM_COLOR", &"never");
    if Path::new(HOST_CERTIFICATES).exists() {
        for name in ["SSL_CERT_FILE", "CARGO_HTTP_CAINFO", "CURL_CA_BUNDLE"] {
            set(name, &CERTIFICATES);
        }
    }
    if let Some(target) = target {
        set("CARGO_TARGET_DIR", &target.display());
    }
    command.args(proxies());
    command
}

/// Returns the settings that say how the host reaches other hosts, as env(1) takes them.
fn proxies() -> impl Iterator<Item = String> {
    PROXIES.iter().filter_map(|name| Some(format!("{name}={}", env::var(name).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_the_bare_root_is_below_its_mount_point() {
        assert_eq!(inside(Path::new("/t/root"), Path::new("/etc/hosts")), Path::new("/t/root/etc/hosts"));
    }
}
