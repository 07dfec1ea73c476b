//! The path attributes of a route in a table dump.

use super::Error;
use crate::wire::{
    bgp::{self, Family},
    reader::Reader,
};

/// Types of path attributes that say where a route leads.
pub mod attribute_type {
    /// NEXT_HOP (RFC 4271 §5.1.3).
    pub const NEXT_HOP: u8 = 3;
    /// MP_REACH_NLRI (RFC 4760 §3).
    pub const MP_REACH_NLRI: u8 = 14;
    /// MP_UNREACH_NLRI (RFC 4760 §4).
    pub const MP_UNREACH_NLRI: u8 = 15;
}

/// Path attributes (RFC 4271 §4.3), as a record has them. Some may be malformed, and the last may
/// not be whole: a collector keeps what a router said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes<'a>(&'a [u8]);

/// One path attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type.
    pub kind: u8,
    /// Its value.
    pub value: &'a [u8],
    /// All of it, with flags, type and length.
    pub bytes: &'a [u8],
}

/// What an MP_REACH_NLRI attribute of a table dump says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop<'a> {
    /// The family, if the attribute is there as it was in an UPDATE (RFC 4760 §3), and not in its short form.
    pub family: Option<Family>,
    /// The next hop, as it stands in the attribute; empty for routes that have none, such as flow specifications.
    pub next_hop: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Takes a length of two octets and as many bytes of attributes.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let length = reader.u16("the length of the attributes")?;
        Ok(Self(reader.bytes(usize::from(length), "the attributes")?))
    }

    /// The attributes that are all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// As they stand in the record.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The whole ones, in the order of the record.
    pub fn iter(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        let all = self.0;
        bgp::attributes(all).map_while(Result::ok).map(|attribute| Attribute {
            kind: attribute.kind,
            value: attribute.value,
            bytes: all.get(attribute.at..attribute.end).unwrap_or_default(),
        })
    }

    /// What follows the last whole one.
    pub fn rest(&self) -> &'a [u8] {
        let whole: usize = self.iter().map(|attribute| attribute.bytes.len()).sum();
        self.0.get(whole..).unwrap_or_default()
    }

    /// The first of this type.
    pub fn find(&self, kind: u8) -> Option<Attribute<'a>> {
        self.iter().find(|attribute| attribute.kind == kind)
    }

    /// The next hop of the MP_REACH_NLRI attribute, if there is one.
    ///
    /// In TABLE_DUMP_V2 the attribute holds the length of the next hop and the next hop alone (RFC 6396 §4.3.4), but some
    /// writers leave it as it was. One form cannot be taken for the other: the short one is exactly as long as its first
    /// octet says, and the first octet of the long one is the upper half of an AFI, that is, zero, or 64 for link state.
    ///
    /// # Errors
    ///
    /// If it has neither form. The offset is within the attribute's value.
    pub fn mp_next_hop(&self) -> Result<Option<NextHop<'a>>, Error> {
        let Some(Attribute { value, .. }) = self.find(attribute_type::MP_REACH_NLRI) else { return Ok(None) };
        if let Some((&length, next_hop)) = value.split_first()
            && usize::from(length) == next_hop.len()
        {
            return Ok(Some(NextHop { family: None, next_hop }));
        }
        let mut reader = Reader::new(value, 0);
        let family = Family::new(reader.u16("the AFI")?, reader.u8("the SAFI")?);
        let length = reader.u8("the length of the next hop")?;
        let next_hop = reader.bytes(usize::from(length), "the next hop")?;
        Ok(Some(NextHop { family: Some(family), next_hop }))
    }
}
