//! Keeps the kernel programs told which interfaces are in which VRF.
//!
//! To the programs an interface that they are not told about is one of the default VRF. So a VRF of which not all interfaces can be told is
//! no place for sessions: other processes' connections by those interfaces would be held to no pin.

use std::collections::{BTreeMap, BTreeSet};

use bmp_ebpf::VRF_LINKS_MAX;
use tracing::warn;

use super::{Datapath, Pinned, Reason, Target, Unresolved};
use crate::link::Host;

/// What the programs were told last.
#[derive(Debug, Default)]
pub(super) struct Vrfs {
    /// With the VRFs that sessions are in. Nothing, as long as they have not been told, or not all of it.
    told: Option<(BTreeMap<u32, u32>, BTreeSet<u32>)>,
    /// The VRFs that they do not know all interfaces of.
    untold: BTreeSet<u32>,
    failing: bool,
}

impl Vrfs {
    /// Tells them what the host has now, if it is something else. What they do not take is tried again when the host or the
    /// configuration changes.
    pub(super) fn keep<'a>(&mut self, host: &Host, pinned: impl Iterator<Item = &'a Pinned>, datapath: &Datapath) {
        let vrfs = host.vrfs();
        let names = pinned.filter_map(Pinned::vpn_instance);
        let first = names.filter_map(|name| host.vrf_named(name)).map(|vrf| vrf.index).collect();
        if self.told.as_ref().is_some_and(|(told, of)| *told == vrfs && *of == first) {
            return;
        }
        match datapath.set_vrfs(&vrfs, &first) {
            Ok(()) => {
                (self.failing, self.untold) = (false, BTreeSet::new());
                self.told = Some((vrfs, first));
            }
            Err(untold) => {
                if !std::mem::replace(&mut self.failing, true) {
                    let why = untold.why.map(|error| format!(": {error}")).unwrap_or_default();
                    warn!(
                        "the kernel programs do not know all interfaces of {} VRFs, as they have room for {VRF_LINKS_MAX}{why}",
                        untold.vrfs.len()
                    );
                }
                self.untold = untold.vrfs;
                self.told = None;
            }
        }
    }

    /// Why a session may not be where it is to be.
    pub(super) fn refuse(&self, target: &Target) -> Option<Unresolved> {
        self.untold.contains(&target.vrf).then(|| Unresolved {
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
    use crate::pin::Role;

    #[test]
    fn sessions_of_a_vrf_that_the_programs_do_not_know_all_of_are_refused_and_no_others() {
        let vrfs = Vrfs { untold: BTreeSet::from([7]), ..Vrfs::default() };
        let target = |vrf| Target { role: Role::Connect, vrf, station: "198.51.100.7:11019".parse().unwrap() };
        let refused = vrfs.refuse(&target(7)).unwrap();
        assert_eq!(refused.reason, Reason::NotPermitted);
        assert!(refused.why.contains("room for 4096 interfaces"), "{}", refused.why);
        assert_eq!((vrfs.refuse(&target(0)), vrfs.refuse(&target(8))), (None, None));
    }
}
