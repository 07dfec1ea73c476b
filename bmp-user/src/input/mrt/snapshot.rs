//! Puts the routes of table dumps into UPDATEs.

use bytes::{BufMut, BytesMut};

use super::{place::RecordPlace, survey::as_size};
use crate::wire::{
    bgp::{self, Family, HEADER, MAX_EXTENDED_MESSAGE, MAX_MESSAGE, update_header},
    mrt::{self, RecordAttributes, attribute_type},
};

/// Why a route does not fit into an UPDATE.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnfitRoute {
    /// The route has no next hop.
    #[error("a route without next hop")]
    NextHop,
    /// The MP_REACH_NLRI has neither of the two valid forms.
    #[error("MP_REACH_NLRI: {0}")]
    MpReach(mrt::Error),
    /// The attributes exceed the longest UPDATE.
    #[error("a route with attributes of {0} bytes")]
    TooLong(usize),
}

/// A route of a table dump.
#[derive(Clone, Copy, Debug)]
pub(super) struct DumpedRoute<'a> {
    pub(super) family: Family,
    pub(super) path_id: Option<u32>,
    /// The prefix as an UPDATE holds it, without path identifier.
    pub(super) nlri: &'a [u8],
    pub(super) attributes: RecordAttributes<'a>,
    /// When the route was received, in seconds since the epoch.
    pub(super) originated: u32,
    /// True if the record type says that the AS path has 4-octet AS numbers.
    pub(super) as4: bool,
}

impl<'a> DumpedRoute<'a> {
    /// Returns the next hop. Empty for a family that needs none and has none here.
    ///
    /// # Errors
    ///
    /// Fails if the record has no next hop. bmpd builds the UPDATE itself, and builds none without
    /// a mandatory attribute.
    pub(super) fn next_hop(&self) -> Result<&'a [u8], UnfitRoute> {
        next_hop(self.family, &self.attributes)
    }
}

fn next_hop<'a>(family: Family, attributes: &RecordAttributes<'a>) -> Result<&'a [u8], UnfitRoute> {
    // RFC 8955 §4: a flow specification needs no next hop.
    const FLOW: [u8; 2] = [133, 134];
    let plain = attributes.find(attribute_type::NEXT_HOP).map(|attribute| attribute.value);
    if family == Family::IPV4_UNICAST
        && let Some(plain) = plain
    {
        return Ok(plain);
    }
    let multiprotocol = attributes.mp_next_hop().map_err(UnfitRoute::MpReach)?.map(|found| found.next_hop);
    let none = FLOW.contains(&family.safi).then_some(&[][..]);
    multiprotocol.or(plain).or(none).ok_or(UnfitRoute::NextHop)
}

/// Routes of one peer that share an UPDATE.
#[derive(Debug, Default)]
pub(super) struct PendingRoutes {
    family: Option<Family>,
    add_path: bool,
    attributes: Vec<u8>,
    pub(super) originated: u32,
    /// The record of the first route.
    pub(super) place: RecordPlace,
    as4: bool,
    nlri: BytesMut,
}

impl PendingRoutes {
    pub(super) fn is_empty(&self) -> bool {
        self.nlri.is_empty()
    }

    /// True if the route can join the routes that wait here.
    pub(super) fn takes(&self, route: &DumpedRoute<'_>) -> bool {
        // The other bytes of an UPDATE: the header, two lengths, and most of MP_REACH_NLRI.
        const FRAME: usize = HEADER + 4 + 9;
        self.is_empty()
            || (self.family == Some(route.family)
                && self.add_path == route.path_id.is_some()
                && self.originated == route.originated
                && self.as4 == route.as4
                && self.attributes == route.attributes.bytes()
                && FRAME + self.attributes.len() + self.nlri.len() + 4 + route.nlri.len() <= MAX_MESSAGE)
    }

    /// Adds a route for which [`takes`](Self::takes) is true.
    pub(super) fn add(&mut self, route: &DumpedRoute<'_>, place: RecordPlace) {
        if self.is_empty() {
            self.place = place;
            self.family = Some(route.family);
            self.add_path = route.path_id.is_some();
            self.originated = route.originated;
            self.as4 = route.as4;
            self.attributes.clear();
            self.attributes.extend_from_slice(route.attributes.bytes());
        }
        if let Some(path_id) = route.path_id {
            self.nlri.put_u32(path_id);
        }
        self.nlri.put_slice(route.nlri);
    }

    /// True if the AS path of the routes has 4-octet AS numbers. The path itself decides; if it is
    /// ambiguous, the record type does.
    pub(super) fn has_as4(&self) -> bool {
        has_as4(&self.attributes, self.as4)
    }

    /// Appends the UPDATE of all waiting routes and forgets them. Appends nothing if no route
    /// waits.
    pub(super) fn take(&mut self, out: &mut BytesMut) -> Result<(), UnfitRoute> {
        let Some(family) = self.family.take() else { return Ok(()) };
        let outcome = update(out, family, &RecordAttributes::new(&self.attributes), &self.nlri);
        self.nlri.clear();
        outcome
    }
}

/// True if the AS path has 4-octet AS numbers. The path itself decides; if it is ambiguous,
/// `record_as4` does.
pub(super) fn has_as4(attributes: &[u8], record_as4: bool) -> bool {
    let mut all = bgp::attributes(attributes).flatten();
    let path = all.find(|attribute| attribute.kind == bgp::attribute_type::AS_PATH);
    path.map_or(record_as4, |path| bgp::as_path_size(path.value, as_size(record_as4)) == 4)
}

/// Appends an UPDATE that announces these NLRI.
///
/// IPv4 unicast routes with a NEXT_HOP stay in the NLRI field (RFC 4271 §4.3). All other routes go
/// into an MP_REACH_NLRI (RFC 4760 §3), which comes first (RFC 7606 §5.1). All other attributes
/// stay unchanged, even malformed ones.
fn update(
    out: &mut BytesMut,
    family: Family,
    attributes: &RecordAttributes<'_>,
    nlri: &[u8],
) -> Result<(), UnfitRoute> {
    let classic = family == Family::IPV4_UNICAST && attributes.find(attribute_type::NEXT_HOP).is_some();
    let mut encoded = BytesMut::with_capacity(attributes.bytes().len() + nlri.len() + 16);
    if !classic {
        mp_reach(&mut encoded, family, next_hop(family, attributes)?, nlri)?;
    }
    for attribute in attributes.iter() {
        match attribute.kind {
            attribute_type::MP_REACH_NLRI | attribute_type::MP_UNREACH_NLRI => {}
            attribute_type::NEXT_HOP if !classic => {}
            _ => encoded.put_slice(attribute.bytes),
        }
    }
    encoded.put_slice(attributes.rest());
    let (announced, length) = if classic { (nlri, encoded.len() + nlri.len()) } else { (&[][..], encoded.len()) };
    let body = 4 + length;
    let Ok(attributes_length) = u16::try_from(encoded.len()) else { return Err(UnfitRoute::TooLong(encoded.len())) };
    if HEADER + body > MAX_EXTENDED_MESSAGE {
        return Err(UnfitRoute::TooLong(encoded.len()));
    }
    update_header(out, body);
    out.put_u16(0);
    out.put_u16(attributes_length);
    out.put_slice(&encoded);
    out.put_slice(announced);
    Ok(())
}

fn mp_reach(out: &mut BytesMut, Family { afi, safi }: Family, next_hop: &[u8], nlri: &[u8]) -> Result<(), UnfitRoute> {
    const OPTIONAL_EXTENDED: u8 = 0x90;
    let length = 3 + 1 + next_hop.len() + 1 + nlri.len();
    let (Ok(length), Ok(next_hop_length)) = (u16::try_from(length), u8::try_from(next_hop.len())) else {
        return Err(UnfitRoute::TooLong(length));
    };
    out.put_u8(OPTIONAL_EXTENDED);
    out.put_u8(attribute_type::MP_REACH_NLRI);
    out.put_u16(length);
    out.put_u16(afi);
    out.put_u8(safi);
    out.put_u8(next_hop_length);
    out.put_slice(next_hop);
    out.put_u8(0);
    out.put_slice(nlri);
    Ok(())
}

/// Appends an End-of-RIB (RFC 4724 §2).
pub(super) fn end_of_rib(out: &mut BytesMut, family: Family) {
    const OPTIONAL: u8 = 0x80;
    if family == Family::IPV4_UNICAST {
        update_header(out, 4);
        out.put_u32(0);
        return;
    }
    update_header(out, 4 + 6);
    out.put_u16(0);
    out.put_u16(6);
    out.put_u8(OPTIONAL);
    out.put_u8(attribute_type::MP_UNREACH_NLRI);
    out.put_u8(3);
    out.put_u16(family.afi);
    out.put_u8(family.safi);
}
