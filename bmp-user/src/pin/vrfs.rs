//! Tells the kernel programs which interfaces are in which VRF.
//!
//! The programs take an interface that they do not know for one of the default VRF. Sessions of a
//! VRF that does not fit into their table are therefore denied: connections of other processes by
//! the missing interfaces would find no pin.

use std::collections::{BTreeMap, BTreeSet};

use bmp_ebpf::VRF_LINKS_MAX;
use tracing::warn;

use super::{
    kernel::{Datapath, PinTarget},
    plan::Pinned,
    reason::{DownCause, Reason},
};
use crate::link::Host;

/// What the programs know.
#[derive(Debug, Default)]
pub(super) struct Vrfs {
    /// `None` until the programs have taken all of it.
    known: Option<KnownVrfs>,
    /// The VRFs of which the programs do not know all interfaces.
    incomplete: BTreeSet<u32>,
    is_failing: bool,
}

/// The VRF of each interface, and the VRFs that sessions are in.
#[derive(Debug, PartialEq, Eq)]
struct KnownVrfs {
    vrfs: BTreeMap<u32, u32>,
    with_sessions: BTreeSet<u32>,
}

impl Vrfs {
    /// Tells the programs what the host has now, if it changed. VRFs with sessions come first. What
    /// the programs do not take is tried again when the host or the configuration changes.
    pub(super) fn keep<'a>(&mut self, host: &Host, pinned: impl Iterator<Item = &'a Pinned>, datapath: &Datapath) {
        let vrfs = host.vrfs();
        let names = pinned.filter_map(Pinned::vpn_instance);
        let with_sessions = names.filter_map(|name| host.vrf_named(name)).map(|vrf| vrf.index).collect();
        let now = KnownVrfs { vrfs, with_sessions };
        if self.known.as_ref() == Some(&now) {
            return;
        }
        match datapath.set_vrfs(&now.vrfs, &now.with_sessions) {
            Ok(()) => *self = Self { known: Some(now), ..Self::default() },
            Err(untold) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    let why = untold.why.map(|error| format!(": {error}")).unwrap_or_default();
                    warn!(
                        "the kernel programs do not know all interfaces of {} VRFs, as they have room for {VRF_LINKS_MAX}{why}",
                        untold.vrfs.len()
                    );
                }
                self.incomplete = untold.vrfs;
                self.known = None;
            }
        }
    }

    /// Returns why a session cannot be in its VRF, if that is so.
    pub(super) fn refuse(&self, target: &PinTarget) -> Option<DownCause> {
        self.incomplete.contains(&target.vrf).then(|| DownCause {
            reason: Reason::NotPermitted,
            why: format!(
                "the kernel programs have room for {VRF_LINKS_MAX} interfaces in VRFs, and not for all of this session's VRF: \
                 connections by the others would be held to no pin"
            ),
            mend: "ip link set dev INTERFACE nomaster".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pin::kernel::Role;

    #[test]
    fn only_sessions_of_a_vrf_that_does_not_fit_into_the_kernel_table_are_refused() {
        let vrfs = Vrfs { incomplete: BTreeSet::from([7]), ..Vrfs::default() };
        let target = |vrf| PinTarget { role: Role::Connect, vrf, station: "198.51.100.7:11019".parse().unwrap() };
        let refused = vrfs.refuse(&target(7)).unwrap();
        assert_eq!(refused.reason, Reason::NotPermitted);
        assert!(refused.why.contains("room for 4096 interfaces"), "{}", refused.why);
        assert_eq!((vrfs.refuse(&target(0)), vrfs.refuse(&target(8))), (None, None));
    }
}
