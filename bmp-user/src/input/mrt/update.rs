//! Of which families the routes of an UPDATE are.

use crate::wire::{
    bgp::Family,
    mrt::{Attributes, attribute_type},
};

/// Calls `each` with every family that an UPDATE (what follows its header) is about, and whether there are NLRI of it. Stops where
/// the UPDATE is malformed: then it says nothing about the families that are to come.
pub(super) fn families(body: &[u8], mut each: impl FnMut(Family, bool)) {
    let Some((withdrawn, rest)) = part(body) else { return };
    let Some((attributes, nlri)) = part(rest) else { return };
    if !withdrawn.is_empty() || !nlri.is_empty() {
        each(Family::IPV4_UNICAST, true);
    }
    let Ok(attributes) = Attributes::parse(attributes) else { return };
    for attribute in attributes.iter() {
        let Some((&[a0, a1, safi], rest)) = attribute.value.split_first_chunk() else { continue };
        let family = Family::new(u16::from_be_bytes([a0, a1]), safi);
        match attribute.kind {
            attribute_type::MP_UNREACH_NLRI => each(family, !rest.is_empty()),
            attribute_type::MP_REACH_NLRI => {
                // A length, the next hop, and a reserved octet.
                let next_hop = rest.first().copied().map_or(0, usize::from);
                each(family, rest.len() > 2 + next_hop);
            }
            _ => {}
        }
    }
}

/// A length of two octets and as many bytes, and what follows them.
fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
