//! The capabilities that bmpd needs, and a clear message where one is missing.

use std::{fs, io};

use anyhow::bail;

/// A capability and its bit (linux/capability.h).
type NamedCapability = (&'static str, u32);

const NET_ADMIN: NamedCapability = ("CAP_NET_ADMIN", 12);
const SYS_ADMIN: NamedCapability = ("CAP_SYS_ADMIN", 21);
const PERFMON: NamedCapability = ("CAP_PERFMON", 38);
const BPF: NamedCapability = ("CAP_BPF", 39);

/// Loading and attaching the programs needs these; [`SYS_ADMIN`] includes each of them
/// (capabilities(7), "CAP_BPF").
const NEEDED: [NamedCapability; 3] = [BPF, NET_ADMIN, PERFMON];

/// Returns the effective capabilities of the calling thread, as bits.
fn effective() -> Option<u64> {
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Returns the needed capabilities that are not effective.
fn missing(effective: u64) -> Vec<&'static str> {
    let holds = |(_, bit): NamedCapability| effective & (1 << bit) != 0;
    NEEDED.into_iter().filter(|&needed| !holds(needed) && !holds(SYS_ADMIN)).map(|(name, _)| name).collect()
}

/// Returns the capabilities that enforcement in the kernel needs and the calling thread has not.
pub fn missing_capabilities() -> Vec<&'static str> {
    effective().map(missing).unwrap_or_default()
}

/// Adds the missing capability to an error, where that is why the kernel refused.
pub(in crate::pin) fn explain(error: anyhow::Error) -> anyhow::Error {
    let refused = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    if !refused.into_iter().any(|code| code == libc::EPERM) {
        return error;
    }
    match effective().map(missing) {
        Some(missing) if !missing.is_empty() => error.context(format!(
            "bmpd lacks {} (run it as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)",
            missing.join(" and ")
        )),
        _ => error.context(
            "the kernel refused although bmpd holds every capability it needs \
             (a seccomp filter, kernel lockdown or a user namespace may forbid BPF)",
        ),
    }
}

/// Fails unless this process has the capability that every session needs. The kernel programs need
/// more; [`Datapath::load`](super::Datapath::load) goes on without them.
///
/// # Errors
///
/// One sentence, if `CAP_NET_ADMIN` is not in the effective set (capabilities(7)).
pub fn require_privilege() -> anyhow::Result<()> {
    if effective().is_some_and(|held| held & (1 << NET_ADMIN.1) == 0) {
        bail!(
            "CAP_NET_ADMIN is missing, and for enforcement in the kernel CAP_BPF and CAP_PERFMON as well: run it as root"
        );
    }
    Ok(())
}

/// Fails before anything is tried, if a capability is missing.
pub(super) fn check() -> anyhow::Result<()> {
    match effective().map(missing) {
        Some(missing) if !missing.is_empty() => Err(explain(io::Error::from_raw_os_error(libc::EPERM).into())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cap_sys_admin_includes_the_others() {
        assert_eq!(missing(0), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
        assert_eq!(missing(1 << BPF.1 | 1 << PERFMON.1), ["CAP_NET_ADMIN"]);
        assert!(missing(1 << SYS_ADMIN.1).is_empty());
    }

    #[test]
    fn an_error_other_than_a_refusal_is_not_changed() {
        let error = anyhow::Error::from(io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(explain(error).chain().count(), 1);
    }
}
