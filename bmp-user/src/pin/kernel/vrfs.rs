//! Which interfaces are in a VRF, as the programs know it.

use std::collections::{BTreeMap, BTreeSet};

use aya::Ebpf;
use aya::maps::MapError;
use bmp_ebpf::{LinkKey, table};

use super::written::WrittenMap;

/// The VRFs of which the programs do not know all interfaces.
#[derive(Debug)]
pub(in crate::pin) struct Untold {
    pub(in crate::pin) vrfs: BTreeSet<u32>,
    pub(in crate::pin) why: Option<MapError>,
}

/// Table `VRFS`.
pub(super) struct VrfTable(pub(super) WrittenMap<LinkKey, u32>);

impl VrfTable {
    pub(super) fn take(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        Ok(Self(WrittenMap::take(ebpf, table::VRFS)?))
    }

    /// See [`Datapath::set_vrfs`](super::Datapath::set_vrfs).
    pub(super) fn set(&mut self, netns: u64, vrfs: &BTreeMap<u32, u32>, first: &BTreeSet<u32>) -> Result<(), Untold> {
        let mut untold = Untold { vrfs: BTreeSet::new(), why: None };
        // Entries that are not wanted any more take room.
        let is_known = |key: &LinkKey| key.netns != netns || vrfs.contains_key(&key.ifindex);
        let unknown: Vec<_> = self.0.written().keys().filter(|key| !is_known(key)).copied().collect();
        for key in unknown {
            // An entry of an index that no interface has does no harm.
            if let Err(error) = self.0.remove(&key) {
                untold.why = Some(error);
            }
        }
        // VRFs with sessions come first, and in each the VRF device, which sockets are bound to.
        let mut wanted: Vec<(&u32, &u32)> = vrfs.iter().collect();
        wanted.sort_by_key(|(ifindex, vrf)| (!first.contains(vrf), ifindex != vrf));
        for (&ifindex, &vrf) in wanted {
            let key = LinkKey { netns, ifindex, reserved: 0 };
            if self.0.written().get(&key) == Some(&vrf) {
                continue;
            }
            if let Err(error) = self.insert(key, vrf, first) {
                untold.vrfs.insert(vrf);
                untold.why = Some(error);
            }
        }
        if untold.why.is_none() { Ok(()) } else { Err(untold) }
    }

    /// Writes an entry. In a full table an interface of a VRF without sessions makes room for one
    /// of a VRF with sessions.
    fn insert(&mut self, key: LinkKey, vrf: u32, first: &BTreeSet<u32>) -> Result<(), MapError> {
        let inserted = self.0.insert(key, vrf);
        if inserted.is_ok() || !first.contains(&vrf) {
            return inserted;
        }
        let other = self.0.written().iter().find(|(_, vrf)| !first.contains(vrf)).map(|(key, _)| *key);
        let Some(other) = other else { return inserted };
        self.0.remove(&other)?;
        self.0.insert(key, vrf)
    }
}
