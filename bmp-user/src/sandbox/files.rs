//! The folders that bmpd can still open.

use std::path::Path;

use anyhow::Context as _;
use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus,
};

use super::SandboxNeeds;

/// The newest rights that are asked for. An older kernel enforces those that it knows.
const NEWEST: ABI = ABI::V5;

/// Read at any time: the kernel's state, and what the C library needs for the names of users and
/// for local time. `/etc` as a whole is out of reach, and with it the passwords of the host.
const READ: [&str; 12] = [
    "/proc",
    "/sys",
    "/dev/urandom",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/share/zoneinfo",
];

/// Closes the file system for the calling thread, but for what is read at any time and for `needs`.
/// Returns why not all is enforced, if it is not.
///
/// # Errors
///
/// The kernel has no Landlock, or it is not turned on.
pub(super) fn restrict(needs: &SandboxNeeds) -> anyhow::Result<Option<String>> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let all = AccessFs::from_all(NEWEST) & !AccessFs::Execute;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .create()
        .context("the kernel has no Landlock")?;
    let mut add = |path: &Path, access: BitFlags<AccessFs>| -> anyhow::Result<()> {
        // What is not there cannot be opened either.
        let Ok(folder) = PathFd::new(path) else { return Ok(()) };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
        (&mut rules).add_rule(PathBeneath::new(folder, access)).with_context(|| path.display().to_string())?;
        Ok(())
    };
    for path in READ {
        add(Path::new(path), read)?;
    }
    for folder in &needs.read {
        add(folder, read)?;
    }
    for folder in &needs.written {
        add(folder, all)?;
    }
    // To remove a folder takes the right in the folder around it.
    for around in needs.made.iter().filter_map(|folder| folder.parent()) {
        add(around, AccessFs::RemoveDir.into())?;
    }
    let status = rules.restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => None,
        RulesetStatus::PartiallyEnforced => Some("this kernel knows a part of Landlock's rights".to_owned()),
        RulesetStatus::NotEnforced => anyhow::bail!("Landlock is not turned on (see the kernel's option `lsm=`)"),
    })
}
