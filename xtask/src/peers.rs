//! `cargo xtask peers`: FRR, BIRD and GoBGP of another Debian in a folder, for the tests.
//!
//! Their packages are unpacked with all that they depend on, and none is installed: no script of
//! theirs runs, and no service starts. The lab starts the programs there (`tests/src/daemons.rs`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, bail};

use crate::{
    packages,
    process::{is_root, quietly, say, target_dir, text},
    programs::{Built, Program, Use},
    progress::note,
    vm::{DebianRelease, SuiteArchive},
};

/// The variable with the root that the lab takes the daemons from.
const ROOT: &str = "BMPD_PEERS";

/// The variable with the BIRD that the lab takes from that root.
const BIRD: &str = "BMPD_BIRD";

/// The packages beside BIRD. The first has the links between the folders of a Debian.
const PACKAGES: [&str; 3] = ["base-files", "frr", "gobgpd"];

/// What the scripts of the packages would set up: accounts, and that PAM lets root use vtysh.
const SETTINGS: [(&str, &str); 4] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nfrr:x:990:990::/nonexistent:/bin/false\n\
         nobody:x:65534:65534::/nonexistent:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\nfrr:x:990:\nfrrvty:x:991:frr\nnogroup:x:65534:\n"),
    ("etc/pam.d/frr", PERMIT),
    ("etc/pam.d/other", PERMIT),
];

const PERMIT: &str = "auth required pam_permit.so\naccount required pam_permit.so\n";

/// The options of `cargo xtask peers`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The Debian that has the daemons
    #[arg(long, value_name = "DEBIAN", default_value = "testing")]
    release: DebianRelease,
    /// Fetch them anew, to have the newest
    #[arg(long)]
    renew: bool,
}

/// The daemons of a Debian in a folder.
pub(crate) struct PeerDaemons {
    root: PathBuf,
    release: DebianRelease,
}

/// Fails if the daemons cannot be fetched, or do not start.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    packages::require(&[Use::Peers])?;
    let peers = PeerDaemons::get(arguments.release, arguments.renew)?;
    say(format_args!("FRR, BIRD and GoBGP of Debian {} in {}:", peers.release, peers.root.display()));
    for version in peers.versions()? {
        say(format_args!("  {version}"));
    }
    Ok(ExitCode::SUCCESS)
}

impl PeerDaemons {
    /// Returns the daemons of `release`, and fetches them if they are missing, or to `renew` them.
    pub(crate) fn get(release: DebianRelease, renew: bool) -> anyhow::Result<Self> {
        let (debian, name) = packages::host();
        if !debian {
            bail!("Debian's own tools and keys fetch its daemons, and this is {name}");
        }
        if !is_root() {
            bail!("daemons of another Debian need root: sudo -E env PATH=\"$PATH\" cargo xtask ...");
        }
        let folder = target_dir()?.join("peers").join(release.to_string());
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let lock = folder.join("lock");
        let lock = fs::File::create(&lock).with_context(|| format!("cannot write {}", lock.display()))?;
        lock.lock().with_context(|| format!("cannot lock {}", folder.display()))?;
        let peers = Self { root: folder.join("root"), release };
        if renew || !peers.root.is_dir() {
            let draft = folder.join("new");
            remove(&draft)?;
            let root = draft.join("root");
            make(&draft, &root, release).with_context(|| format!("cannot have the daemons of Debian {release}"))?;
            remove(&peers.root)?;
            fs::rename(&root, &peers.root).with_context(|| format!("cannot rename {}", root.display()))?;
            remove(&draft)?;
        }
        peers.versions()?;
        Ok(peers)
    }

    /// Returns the packages of BIRD that it has, the newest first.
    pub(crate) fn birds(&self) -> &'static [&'static str] {
        birds(self.release)
    }

    /// Returns what each daemon says about its version.
    pub(crate) fn versions(&self) -> anyhow::Result<Vec<String>> {
        let birds = self.birds().iter().map(|bird| format!("/opt/{bird}/usr/sbin/bird"));
        let others = ["/usr/lib/frr/bgpd", "/usr/bin/gobgpd"].map(str::to_owned);
        let of = |path: String| {
            let mut command = Program::Chroot.command();
            command.arg(&self.root).arg(Built::at(&path)).arg("--version");
            // BIRD prints it on stderr.
            let output = command.output().with_context(|| format!("cannot start {path}"))?;
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            if !output.status.success() {
                let root = self.root.display();
                bail!("{path} does not start in {root} (`cargo xtask peers --renew` makes it anew): {}", said.trim());
            }
            Ok(said.lines().next().unwrap_or_default().trim().to_owned())
        };
        others.into_iter().chain(birds).map(of).collect()
    }

    /// Makes a test program take these daemons, and this BIRD of them.
    pub(crate) fn choose(&self, command: &mut Command, bird: &str) {
        command.env(ROOT, &self.root).env(BIRD, bird);
    }
}

/// Makes a test program take the daemons of this host.
pub(crate) fn choose_own(command: &mut Command) {
    command.env_remove(ROOT).env_remove(BIRD);
}

/// Returns the packages of BIRD in a Debian, the newest first.
fn birds(release: DebianRelease) -> &'static [&'static str] {
    if release == DebianRelease::Twelve { &["bird2"] } else { &["bird3", "bird2"] }
}

/// Unpacks the daemons in `root`, and all that they need.
fn make(draft: &Path, root: &Path, release: DebianRelease) -> anyhow::Result<()> {
    let birds = birds(release);
    note(format_args!(
        "unpacking {}, {} of Debian {release} in {}",
        PACKAGES[1..].join(", "),
        birds.join(", "),
        draft.display()
    ));
    let archive = SuiteArchive::open(&draft.join("apt"), release)?;
    // The packages of BIRD exclude each other.
    let mut debs = archive.download_all(&PACKAGES)?;
    for bird in birds {
        debs.extend(archive.download_all(&[*bird])?);
    }
    let package = |deb: &Path| text(Program::DpkgDeb.command().arg("--field").arg(deb).arg("Package"));
    let mut named = Vec::new();
    for deb in debs {
        named.push((package(&deb)?.trim().to_owned(), deb));
    }
    named.sort_by_key(|(name, _)| name != PACKAGES[0]);
    named.dedup();
    for (name, deb) in &named {
        let to = if birds.contains(&name.as_str()) { root.join("opt").join(name) } else { root.to_owned() };
        fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
        quietly(Program::DpkgDeb.command().arg("-x").arg(deb).arg(&to))?;
    }
    for (path, text) in SETTINGS {
        let path = root.join(path);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_debian_from_13_on_has_both_birds() {
        assert_eq!(birds(DebianRelease::Twelve), ["bird2"]);
        for release in [DebianRelease::Thirteen, DebianRelease::Testing] {
            assert_eq!(birds(release), ["bird3", "bird2"]);
        }
    }

    #[test]
    fn the_lab_reads_the_variables() {
        let lab = crate::process::root().join("tests/src/daemons.rs");
        let lab = fs::read_to_string(lab).unwrap();
        for variable in [ROOT, BIRD] {
            assert!(lab.contains(&format!("\"{variable}\"")), "{variable}");
        }
    }
}
