//! The memory that the cgroup of bmpd may take (cgroup v2, `memory.max`), beside `memory-limit`.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use super::{DoctorFinding, Examined};
use crate::{
    config::{Config, MEGABYTE},
    sys,
};

/// Where cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";
/// What bmpd takes besides the feed: itself, buffers of connections, and answers.
const BESIDES: usize = 64;
/// The smallest limit that is worth a suggestion.
const LEAST: usize = 96;

/// Looks whether `memory-limit` fits the memory that bmpd may take. Without a limit of that memory,
/// there is nothing to say.
///
/// If no bmpd serves the control socket, the cgroup of this process stands for its own: in a
/// container, both have the same.
pub(super) fn examine(control: &Path, config: Option<&Config>) -> Option<DoctorFinding> {
    let process = UnixStream::connect(control).ok().and_then(|stream| sys::peer_process(&stream).ok());
    let cgroup = fs::read_to_string(match process {
        Some(process) => PathBuf::from(format!("/proc/{process}/cgroup")),
        None => PathBuf::from("/proc/self/cgroup"),
    });
    let most = least_maximum(&cgroup.ok()?, |path| fs::read_to_string(Path::new(CGROUPS).join(path)).ok())?;
    Some(finding(most / MEGABYTE, config?.memory_limit))
}

/// Returns the least `memory.max` of a cgroup and those above it, in bytes. `read` reads a file
/// below the root.
fn least_maximum(cgroup: &str, read: impl Fn(&Path) -> Option<String>) -> Option<usize> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let maximum = |folder: &Path| read(&folder.join("memory.max"))?.trim().parse::<usize>().ok();
    Path::new(path).ancestors().filter_map(maximum).min()
}

/// Returns the largest limit that leaves room for the rest of bmpd, and for memory that the heap
/// cannot use.
fn suggested(most: usize) -> usize {
    most.saturating_sub(BESIDES) / 5 * 4
}

/// `most` and `limit` are in megabytes.
fn finding(most: usize, limit: Option<u32>) -> DoctorFinding {
    let (suggested, limit) = (suggested(most), limit.and_then(|limit| usize::try_from(limit).ok()));
    let mend = if suggested >= LEAST {
        format!("`memory-limit {suggested}` in the configuration")
    } else {
        format!("a larger memory.max: {} MB at least", LEAST * 5 / 4 + BESIDES)
    };
    match limit {
        Some(limit) if limit <= suggested => {
            DoctorFinding::ok(Examined::Memory, format!("memory-limit {limit} fits the {most} MB that bmpd may take"))
        }
        Some(limit) => {
            let text =
                format!("the kernel may end bmpd before memory-limit {limit} counts: its cgroup may take {most} MB");
            DoctorFinding::warning(Examined::Memory, text).mended_by(mend)
        }
        None => {
            let text = format!(
                "the cgroup of bmpd may take {most} MB, and there is no memory-limit: an input with ever more routes has the kernel end bmpd"
            );
            DoctorFinding::warning(Examined::Memory, text).mended_by(mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::FindingState, *};

    #[test]
    fn the_least_maximum_of_a_cgroup_and_those_above_it_counts() {
        let read = |path: &Path| match path.to_str()? {
            "system.slice/bmpd.service/memory.max" => Some("max\n".to_owned()),
            "system.slice/memory.max" => Some("536870912\n".to_owned()),
            "memory.max" => Some("1073741824\n".to_owned()),
            _ => None,
        };
        assert_eq!(least_maximum("0::/system.slice/bmpd.service\n", read), Some(512 << 20));
        assert_eq!(least_maximum("0::/other.slice\n", read), Some(1 << 30));
        assert_eq!(least_maximum("4:memory:/old\n", read), None);
        assert_eq!(least_maximum("0::/\n", |_| Some("max\n".to_owned())), None);
    }

    #[test]
    fn a_limit_is_suggested_that_leaves_room_for_the_rest() {
        let none = finding(512, None);
        assert_eq!(none.state, FindingState::Warning);
        assert_eq!(none.mend.as_deref(), Some("`memory-limit 356` in the configuration"));
        assert_eq!(finding(512, Some(356)).state, FindingState::Ok);
        let over = finding(512, Some(400));
        assert!(
            over.text.contains("before memory-limit 400 counts") && over.state == FindingState::Warning,
            "{over:?}"
        );
        assert_eq!(finding(128, None).mend.as_deref(), Some("a larger memory.max: 184 MB at least"));
    }
}
