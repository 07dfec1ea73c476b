//! The host as a value.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

#[cfg(test)]
mod tests;

/// The interfaces of this network namespace at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// By interface index.
    pub links: BTreeMap<u32, Link>,
    /// Grows when any route, rule, interface or address changed: time to ask for routes again. Interfaces and addresses count
    /// because the kernel drops routes with them and says nothing of it.
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
    /// Its packets are in Ethernet frames (`ARPHRD_ETHER`).
    pub ethernet: bool,
    /// Of a VLAN interface: the index of the interface that it stands on.
    pub below: Option<u32>,
    /// The index of the interface this one is enslaved to: a VRF, bridge, bond, ...
    pub controller: Option<u32>,
    /// In the kernel's order, IPv4 before IPv6.
    pub addresses: Vec<Address>,
}

/// One address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address (`IFA_LOCAL`, or `IFA_ADDRESS` where that is absent).
    pub ip: IpAddr,
    /// The far end's address (`IFA_ADDRESS` where it is another than the address): the prefix is then of this one.
    pub peer: Option<IpAddr>,
    /// Prefix length in bits.
    pub prefix_len: u8,
    /// `RT_SCOPE_UNIVERSE`.
    pub global: bool,
    /// IPv4 `IFA_F_SECONDARY`.
    pub secondary: bool,
    /// IPv6 `IFA_F_TEMPORARY`.
    pub temporary: bool,
    /// IPv6 duplicate address detection is not done (`IFA_F_TENTATIVE`, unless `IFA_F_OPTIMISTIC`) or has failed
    /// (`IFA_F_DADFAILED`): no socket can be bound to it.
    pub unproven: bool,
    /// Its preferred lifetime is over (`IFA_F_DEPRECATED`).
    pub deprecated: bool,
}

impl Host {
    /// The interface that an operator means by `name`: the one with this kernel name, else with this kernel alternative name,
    /// else the one that `aliases` (`interface-alias KERNEL-NAME NAME`: from NAME to KERNEL-NAME) gives the name to. `LoopBack0`,
    /// as routers call it and in any case, is the host's loopback interface unless another has that name.
    pub fn link_named(&self, name: &str, aliases: &BTreeMap<String, String>) -> Option<&Link> {
        self.link_with_kernel_name(name)
            .or_else(|| self.link_with_kernel_name(aliases.get(name)?))
            .or_else(|| self.links.values().find(|link| link.loopback && name.eq_ignore_ascii_case("LoopBack0")))
    }

    fn link_with_kernel_name(&self, name: &str) -> Option<&Link> {
        let alternatively = |link: &&Link| link.alt_names.iter().any(|alternative| alternative == name);
        self.links.values().find(|link| link.name == name).or_else(|| self.links.values().find(alternatively))
    }

    /// The name of an interface that is nearest to `name`, which no interface has: the kernel's, an alternative one, or one that is
    /// given to an interface by `aliases`. `None` where all are plainly different.
    pub fn nearest_name<'a>(&'a self, name: &str, aliases: &'a BTreeMap<String, String>) -> Option<&'a str> {
        let slips = (name.chars().count() / 3).clamp(1, 3);
        let given = aliases.iter().filter(|(_, kernel)| self.link_with_kernel_name(kernel).is_some());
        let kernels = self.links.values().flat_map(|link| std::iter::once(&link.name).chain(&link.alt_names));
        let near = kernels.chain(given.map(|(given, _)| given)).filter_map(|known| {
            let distance = strsim::damerau_levenshtein(known, name);
            (1..=slips).contains(&distance).then_some((distance, known.as_str()))
        });
        near.min().map(|(_, known)| known)
    }

    /// The first interface, by index, that has `address`; see [`Self::links_with_address`].
    pub fn link_with_address(&self, address: IpAddr) -> Option<&Link> {
        self.links_with_address(address).next()
    }

    /// The interfaces that have `address`, by index. One address may be on several. All of an IPv4 prefix on a loopback
    /// interface is this host's (`net/ipv4/fib_frontend.c`, `fib_add_ifaddr`), so 127.0.0.2 is found on `lo`.
    pub fn links_with_address(&self, address: IpAddr) -> impl Iterator<Item = &Link> {
        self.links.values().filter(move |link| link.has_address(address))
    }

    /// The interface of a VRF (`None` is the default one) on whose link `ip` is the broadcast
    /// address, and the prefix there. An address that this host itself has is none. Prefixes of 31
    /// and 32 bits have none (RFC 3021).
    pub fn broadcast_of(&self, ip: IpAddr, vrf: Option<&str>) -> Option<(&Link, String)> {
        let IpAddr::V4(wanted) = ip else { return None };
        let vrf = match vrf {
            None => None,
            Some(name) => Some(self.vrf_named(name)?.index),
        };
        let all = self.links.values().flat_map(|link| link.addresses.iter().map(move |address| (link, address)));
        let (link, address) = all.filter(|(_, address)| address.has_broadcast(wanted)).find(|(link, _)| {
            // Seldom needed, and not cheap.
            !link.loopback && self.vrf_of(link) == vrf
        })?;
        if self.link_with_address(ip).is_some() {
            return None;
        }
        let network = wanted.to_bits() & !(u32::MAX >> address.prefix_len);
        Some((link, format!("{}/{}", Ipv4Addr::from_bits(network), address.prefix_len)))
    }

    /// The VRF device with this kernel name, or else this kernel alternative name.
    pub fn vrf_named(&self, name: &str) -> Option<&Link> {
        self.link_with_kernel_name(name).filter(|link| link.is_vrf())
    }

    /// The VRF that each interface which is in one belongs to or is: from the interface's index to the VRF device's.
    pub fn vrfs(&self) -> BTreeMap<u32, u32> {
        self.links.values().filter_map(|link| Some((link.index, self.vrf_of(link)?))).collect()
    }

    /// The index of the VRF device that `link` belongs to or is; `None` is the default VRF.
    pub fn vrf_of(&self, link: &Link) -> Option<u32> {
        if link.is_vrf() {
            return Some(link.index);
        }
        link.controller.filter(|controller| self.links.get(controller).is_some_and(Link::is_vrf))
    }
}

impl Link {
    /// Only lends its address: traffic never leaves by it. Loopback and dummy interfaces are donors, and VRF devices, which are the
    /// loopback interfaces of their VRFs.
    pub fn donor(&self) -> bool {
        self.loopback || self.is_vrf() || self.kind.as_deref() == Some("dummy")
    }

    /// A port of a bridge, a bond, a team, Open vSwitch: enslaved to anything but a VRF.
    pub fn layer2(&self, host: &Host) -> bool {
        self.controller.is_some_and(|controller| !host.links.get(&controller).is_some_and(Link::is_vrf))
    }

    /// A session can be sourced from it: it is up and has a carrier, which a [donor](Self::donor) does not need.
    pub fn usable(&self) -> bool {
        self.up && (self.carrier || self.donor())
    }

    /// One of its addresses, by value.
    pub fn address(&self, ip: IpAddr) -> Option<&Address> {
        self.addresses.iter().find(|address| address.ip == ip)
    }

    fn has_address(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|address| {
            address.ip == ip || (self.loopback && ip.is_ipv4() && address.peer.is_none() && address.prefix_holds(ip))
        })
    }

    fn is_vrf(&self) -> bool {
        self.kind.as_deref() == Some("vrf")
    }
}

impl Address {
    /// Whether `ip` is the broadcast address of its prefix. Prefixes of 31 and 32 bits have none
    /// (RFC 3021), nor has a link with one far end.
    fn has_broadcast(&self, ip: Ipv4Addr) -> bool {
        let (IpAddr::V4(own), None, 1..=30) = (self.ip, self.peer, self.prefix_len) else { return false };
        ip.to_bits() == own.to_bits() | u32::MAX >> self.prefix_len
    }

    /// Whether `ip` is in the prefix that this address puts on the interface's link.
    pub fn prefix_holds(&self, ip: IpAddr) -> bool {
        let (differ, width) = match (self.peer.unwrap_or(self.ip), ip) {
            (IpAddr::V4(prefix), IpAddr::V4(ip)) => (u128::from(prefix.to_bits() ^ ip.to_bits()), 32_u32),
            (IpAddr::V6(prefix), IpAddr::V6(ip)) => (prefix.to_bits() ^ ip.to_bits(), 128),
            _ => return false,
        };
        let host_bits = width.saturating_sub(u32::from(self.prefix_len));
        differ.checked_shr(host_bits).unwrap_or(0) == 0
    }
}
