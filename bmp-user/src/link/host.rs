//! The host as a value.

use std::{collections::BTreeMap, net::IpAddr};

/// The interfaces of this network namespace at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// By interface index.
    pub links: BTreeMap<u32, Link>,
    /// Grows by one when any route changed: time to ask for routes again.
    pub routes_epoch: u64,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Kernel name.
    pub name: String,
    /// Kernel alternative names (`ip link property add altname`).
    pub alt_names: Vec<String>,
    /// `IFLA_INFO_KIND`: `vrf`, `bridge`, `dummy`, `veth`; absent on hardware.
    pub kind: Option<String>,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Has a carrier (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// A loopback interface (`IFF_LOOPBACK`).
    pub loopback: bool,
    /// The index of the interface this one is enslaved to: a VRF, bridge, bond, ...
    pub controller: Option<u32>,
    /// In the kernel's order.
    pub addresses: Vec<Address>,
}

/// One address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address (`IFA_LOCAL`, or `IFA_ADDRESS` where that is absent).
    pub ip: IpAddr,
    /// Prefix length in bits.
    pub prefix_len: u8,
    /// `RT_SCOPE_UNIVERSE`.
    pub global: bool,
    /// IPv4 `IFA_F_SECONDARY`.
    pub secondary: bool,
    /// IPv6 `IFA_F_TEMPORARY`.
    pub temporary: bool,
    /// IPv6 duplicate address detection is not done (`IFA_F_TENTATIVE`) or has failed (`IFA_F_DADFAILED`).
    pub unproven: bool,
    /// Its preferred lifetime is over (`IFA_F_DEPRECATED`).
    pub deprecated: bool,
}
