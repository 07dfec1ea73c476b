//! The state of this host as a value: interfaces and addresses, and the questions that other rooms
//! ask about them.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

#[cfg(test)]
mod tests;

/// The interfaces of this network namespace at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The interfaces, by interface index.
    pub links: BTreeMap<u32, Link>,
    /// Grows with every change of a route, rule, interface or address. Routes must then be looked
    /// up again. Interfaces and addresses count, because the kernel deletes their routes without a
    /// notification.
    pub routes_epoch: u64,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The interface index.
    pub index: u32,
    /// The kernel name.
    pub name: String,
    /// The alternative names (`ip link property add altname`).
    pub alt_names: Vec<String>,
    /// `IFLA_INFO_KIND`: `vrf`, `bridge`, `dummy`, `veth` and so on. Hardware has none.
    pub kind: Option<String>,
    /// True if the interface is administratively up (`IFF_UP`).
    pub up: bool,
    /// True if the interface has a carrier (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// True for a loopback interface (`IFF_LOOPBACK`).
    pub loopback: bool,
    /// True if the interface sends Ethernet frames (`ARPHRD_ETHER`).
    pub ethernet: bool,
    /// The index of the parent interface. Only VLAN interfaces have one here.
    pub below: Option<u32>,
    /// The index of the controller: the VRF, bridge or bond that the interface is enslaved to.
    pub controller: Option<u32>,
    /// The addresses in the kernel's order, IPv4 before IPv6.
    pub addresses: Vec<InterfaceAddress>,
}

/// One address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address itself (`IFA_LOCAL`, or `IFA_ADDRESS` if the kernel sends no `IFA_LOCAL`).
    pub ip: IpAddr,
    /// The address of the far end, if it differs (`IFA_ADDRESS`). The prefix then belongs to the
    /// far end.
    pub peer: Option<IpAddr>,
    /// The prefix length in bits.
    pub prefix_len: u8,
    /// True for global scope (`RT_SCOPE_UNIVERSE`).
    pub global: bool,
    /// True for a secondary IPv4 address (`IFA_F_SECONDARY`).
    pub secondary: bool,
    /// True for a temporary IPv6 address (`IFA_F_TEMPORARY`).
    pub temporary: bool,
    /// True if IPv6 duplicate address detection is pending (`IFA_F_TENTATIVE` without
    /// `IFA_F_OPTIMISTIC`) or failed (`IFA_F_DADFAILED`). No socket can bind to such an address.
    pub unproven: bool,
    /// True if the preferred lifetime is over (`IFA_F_DEPRECATED`).
    pub deprecated: bool,
}

/// A subnet that an interface is on. Displayed as `192.0.2.0/26 on eth0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceSubnet<'a> {
    /// The interface.
    pub link: &'a Link,
    /// The first address of the subnet.
    pub network: Ipv4Addr,
    /// The prefix length in bits.
    pub prefix_len: u8,
}

impl fmt::Display for InterfaceSubnet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} on {}", self.network, self.prefix_len, self.link.name)
    }
}

impl Host {
    /// Returns the interface that an operator calls `name`. Kernel names come first, then
    /// alternative names, then `aliases`, which map an alias to a kernel name (`interface-alias
    /// KERNEL-NAME NAME`). `LoopBack0`, in any case, is the loopback interface unless another
    /// interface bears that name.
    pub fn link_named(&self, name: &str, aliases: &BTreeMap<String, String>) -> Option<&Link> {
        self.link_with_kernel_name(name)
            .or_else(|| self.link_with_kernel_name(aliases.get(name)?))
            .or_else(|| self.links.values().find(|link| link.loopback && name.eq_ignore_ascii_case("LoopBack0")))
    }

    fn link_with_kernel_name(&self, name: &str) -> Option<&Link> {
        let alternatively = |link: &&Link| link.alt_names.iter().any(|alternative| alternative == name);
        self.links.values().find(|link| link.name == name).or_else(|| self.links.values().find(alternatively))
    }

    /// Returns the known name that is most similar to the unknown `name`, for a hint. `None` if no
    /// kernel name, alternative name or alias is similar.
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

    /// Returns the first interface, by index, that has `address`; see [`Self::links_with_address`].
    pub fn link_with_address(&self, address: IpAddr) -> Option<&Link> {
        self.links_with_address(address).next()
    }

    /// Returns all interfaces that have `address`, by index. A loopback interface has every address
    /// of its IPv4 prefixes, so `lo` has 127.0.0.2 (`net/ipv4/fib_frontend.c`, `fib_add_ifaddr`).
    pub fn links_with_address(&self, address: IpAddr) -> impl Iterator<Item = &Link> {
        self.links.values().filter(move |link| link.has_address(address))
    }

    /// Returns the subnet in a VRF whose broadcast address is `ip`. `None` as `vrf` is the default
    /// VRF. An address of this host is no broadcast address. Prefixes of 31 and 32 bits have none
    /// (RFC 3021).
    pub fn subnet_with_broadcast(&self, ip: IpAddr, vrf: Option<&str>) -> Option<InterfaceSubnet<'_>> {
        let IpAddr::V4(wanted) = ip else { return None };
        let vrf = match vrf {
            None => None,
            Some(name) => Some(self.vrf_named(name)?.index),
        };
        let subnet = self.links.values().find_map(|link| {
            let address = link.addresses.iter().find(|address| address.has_broadcast(wanted))?;
            // Checked last, because few interfaces get here and the lookup costs more.
            let is_there = !link.loopback && self.vrf_of(link) == vrf;
            let network = Ipv4Addr::from_bits(wanted.to_bits() & !(u32::MAX >> address.prefix_len));
            is_there.then_some(InterfaceSubnet { link, network, prefix_len: address.prefix_len })
        })?;
        self.link_with_address(ip).is_none().then_some(subnet)
    }

    /// Returns the VRF device with this kernel name or alternative name.
    pub fn vrf_named(&self, name: &str) -> Option<&Link> {
        self.link_with_kernel_name(name).filter(|link| link.is_vrf())
    }

    /// Maps the index of every interface in a VRF, and of every VRF device, to the index of the VRF
    /// device.
    pub fn vrfs(&self) -> BTreeMap<u32, u32> {
        self.links.values().filter_map(|link| Some((link.index, self.vrf_of(link)?))).collect()
    }

    /// Returns the index of the VRF device that `link` is or is enslaved to. `None` is the default
    /// VRF.
    pub fn vrf_of(&self, link: &Link) -> Option<u32> {
        if link.is_vrf() {
            return Some(link.index);
        }
        link.controller.filter(|controller| self.links.get(controller).is_some_and(Link::is_vrf))
    }
}

impl Link {
    /// True if the interface only lends its address and never carries traffic. Loopback, dummy and
    /// VRF devices are such donors.
    pub fn is_donor(&self) -> bool {
        self.loopback || self.is_vrf() || self.kind.as_deref() == Some("dummy")
    }

    /// True if the interface is enslaved to something other than a VRF, such as a bridge, a bond, a
    /// team or Open vSwitch.
    pub fn is_layer2_port(&self, host: &Host) -> bool {
        self.controller.is_some_and(|controller| !host.links.get(&controller).is_some_and(Link::is_vrf))
    }

    /// True if the interface encrypts packets and hands them to IP once more, which sends them by
    /// another interface (`xfrmi_xmit2` of net/xfrm/xfrm_interface_core.c, `vti_xmit` of
    /// net/ipv4/ip_vti.c).
    pub fn is_ipsec(&self) -> bool {
        matches!(self.kind.as_deref(), Some("xfrm" | "vti" | "vti6"))
    }

    /// True if a session can use the interface: it is up and has a carrier. A
    /// [donor](Self::is_donor) needs no carrier.
    pub fn is_usable(&self) -> bool {
        self.up && (self.carrier || self.is_donor())
    }

    /// Returns the entry for `ip`, if the interface has that address.
    pub fn address(&self, ip: IpAddr) -> Option<&InterfaceAddress> {
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

impl InterfaceAddress {
    /// An address in words: `192.0.2.1/24 secondary`. Its scope is global unless a word is `host`
    /// or `link`. The other words are `secondary`, `temporary`, `tentative` and `deprecated`.
    #[cfg(test)]
    pub(crate) fn in_words(text: &str) -> Self {
        let (address, flags) = text.split_once(' ').unwrap_or((text, ""));
        let (ip, prefix_len) = address.split_once('/').unwrap();
        let has = |flag| flags.split(' ').any(|word| word == flag);
        Self {
            ip: ip.parse().unwrap(),
            peer: None,
            prefix_len: prefix_len.parse().unwrap(),
            global: !has("host") && !has("link"),
            secondary: has("secondary"),
            temporary: has("temporary"),
            unproven: has("tentative"),
            deprecated: has("deprecated"),
        }
    }

    /// True if `ip` is the broadcast address of the prefix. Prefixes of 31 and 32 bits have none
    /// (RFC 3021), nor have point-to-point addresses.
    #[inline]
    fn has_broadcast(&self, ip: Ipv4Addr) -> bool {
        let (IpAddr::V4(own), None, 1..=30) = (self.ip, self.peer, self.prefix_len) else { return false };
        ip.to_bits() == own.to_bits() | u32::MAX >> self.prefix_len
    }

    /// True if `ip` lies in the prefix that this address puts on the link.
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
