//! Keeps the kernel programs told which interfaces are in which VRF.

use std::collections::BTreeMap;

use tracing::warn;

use super::Datapath;
use crate::link::Host;

/// What the programs were told last.
#[derive(Debug, Default)]
pub(super) struct Vrfs {
    /// Nothing, as long as they have not been told, or not all of it.
    told: Option<BTreeMap<u32, u32>>,
    failing: bool,
}

impl Vrfs {
    /// Tells them what the host has now, if it is something else. What they do not take is tried again when the host changes.
    pub(super) fn keep(&mut self, host: &Host, datapath: &Datapath) {
        let vrfs = host.vrfs();
        if self.told.as_ref() == Some(&vrfs) {
            return;
        }
        match datapath.set_vrfs(&vrfs) {
            Ok(()) => {
                self.failing = false;
                self.told = Some(vrfs);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    warn!("the kernel programs do not know all interfaces of VRFs: {error:#}");
                }
                self.told = None;
            }
        }
    }
}
