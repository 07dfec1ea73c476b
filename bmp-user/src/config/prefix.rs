//! IP prefixes.

use std::{fmt, net::IpAddr};

/// An IP prefix. All bits behind its length are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// Length in bits.
    pub length: u8,
}

impl Prefix {
    /// Returns the prefix; `None` if it is longer than the address, or if bits are set behind its
    /// length.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let (bits, width) = bits_of(address);
        let whole = length <= width && (length == width || (bits << (128 - u32::from(width)) << length) == 0);
        whole.then_some(Self { address, length })
    }

    /// Decides whether the prefix has an address. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let ((own, width), (other, its)) = (bits_of(self.address), bits_of(address.to_canonical()));
        width == its && (self.length == 0 || (own ^ other) >> (width - self.length) == 0)
    }
}

fn bits_of(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

/// `192.0.2.0/24`.
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}
