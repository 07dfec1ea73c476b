//! What of this kernel bmpd could use, found out without changing anything.

use std::path::PathBuf;

use super::{
    cgroup::{self, Scope},
    home,
    load::make_tables,
    object::verify,
    options::DatapathOptions,
    room::TableSizes,
};
use crate::pin::privilege;

/// What enforcement in the kernel needs, each with what keeps bmpd from having it.
#[derive(Debug)]
pub struct KernelInspection {
    /// The cgroup to attach to: `None` for the host's root, or why processes elsewhere are not
    /// held.
    pub cgroup: anyhow::Result<Option<String>>,
    /// The folder in a BPF file system.
    pub bpffs: anyhow::Result<PathBuf>,
    /// Whether the verifier takes the programs.
    pub programs: anyhow::Result<()>,
}

/// Looks for what [`Datapath::load`](super::Datapath::load) would need with these options. Has the
/// kernel verify the programs, which takes some tenths of a second, and attaches none.
pub fn inspect(options: &DatapathOptions) -> KernelInspection {
    let scope = |cgroup: cgroup::Cgroup| match cgroup.scope {
        Scope::Host => None,
        Scope::Cgroup { why } => Some(why),
    };
    KernelInspection {
        cgroup: cgroup::open(options.cgroup.as_deref()).map(scope),
        bpffs: home::inspect(options.bpffs.as_deref()),
        programs: programs(options).map_err(privilege::explain),
    }
}

fn programs(options: &DatapathOptions) -> anyhow::Result<()> {
    verify(&mut make_tables(None, &TableSizes::of(options.room, None)?)?)
}
