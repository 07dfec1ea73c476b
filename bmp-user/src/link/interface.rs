//! An interface by index and name.

use std::fmt;

use super::{Host, Link};

/// An interface as a pin or a route names it: the kernel's index, and the kernel's name at that
/// time.
///
/// The index identifies the interface. The name is for operators and may change later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interface {
    /// Interface index.
    pub index: u32,
    /// Kernel name.
    pub name: String,
}

impl Interface {
    /// Returns the kernel name that the interface has on `host` now, or the earlier name where the
    /// interface is gone.
    pub fn name_on(&self, host: &Host) -> String {
        host.links.get(&self.index).map_or(&self.name, |link| &link.name).clone()
    }
}

impl Link {
    /// Returns index and name.
    pub fn interface(&self) -> Interface {
        Interface { index: self.index, name: self.name.clone() }
    }
}

/// The name.
impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
