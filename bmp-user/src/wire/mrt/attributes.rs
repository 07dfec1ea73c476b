//! The path attributes of a route in a table dump.

use super::Error;
use crate::wire::{
    bgp::{self, Family},
    reader::ByteReader,
};

/// Types of path attributes with a next hop or routes.
pub mod attribute_type {
    /// NEXT_HOP (RFC 4271 §5.1.3).
    pub const NEXT_HOP: u8 = 3;
    /// MP_REACH_NLRI (RFC 4760 §3).
    pub const MP_REACH_NLRI: u8 = 14;
    /// MP_UNREACH_NLRI (RFC 4760 §4).
    pub const MP_UNREACH_NLRI: u8 = 15;
}

/// The path attributes of a record (RFC 4271 §4.3). Some may be malformed, and the last may not be
/// whole: a collector keeps what a router sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RecordAttributes<'a>(&'a [u8]);

/// One path attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordAttribute<'a> {
    /// Its type.
    pub kind: u8,
    /// Its value.
    pub value: &'a [u8],
    /// All bytes, with flags, type and length.
    pub bytes: &'a [u8],
}

/// The next hop in an MP_REACH_NLRI attribute of a table dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordNextHop<'a> {
    /// The family, if the attribute has the form of an UPDATE (RFC 4760 §3) and not its short form.
    pub family: Option<Family>,
    /// The bytes of the next hop; empty for routes without one, such as flow specifications.
    pub next_hop: &'a [u8],
}

impl<'a> RecordAttributes<'a> {
    /// Takes a length of two octets and as many bytes of attributes.
    pub(super) fn read(reader: &mut ByteReader<'a>) -> Result<Self, Error> {
        let length = reader.u16("the length of the attributes")?;
        Ok(Self(reader.bytes(usize::from(length), "the attributes")?))
    }

    /// Reads attributes that take all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes of all of them.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The whole attributes, in the order of the record.
    pub fn iter(&self) -> impl Iterator<Item = RecordAttribute<'a>> + use<'a> {
        let all = self.0;
        bgp::attributes(all).map_while(Result::ok).map(|attribute| RecordAttribute {
            kind: attribute.kind,
            value: attribute.value,
            bytes: all.get(attribute.at..attribute.end).unwrap_or_default(),
        })
    }

    /// The bytes behind the last whole attribute.
    pub fn rest(&self) -> &'a [u8] {
        let whole: usize = self.iter().map(|attribute| attribute.bytes.len()).sum();
        self.0.get(whole..).unwrap_or_default()
    }

    /// The first attribute of this type.
    pub fn find(&self, kind: u8) -> Option<RecordAttribute<'a>> {
        self.iter().find(|attribute| attribute.kind == kind)
    }

    /// The next hop of the MP_REACH_NLRI attribute, if there is one.
    ///
    /// In TABLE_DUMP_V2 the attribute has the length of the next hop and the next hop alone (RFC
    /// 6396 §4.3.4). Some writers keep the form of the UPDATE. The two forms differ: the short one
    /// is exactly as long as its first octet says. The first octet of the long one is the upper
    /// half of an AFI: zero, or 64 for link state.
    ///
    /// # Errors
    ///
    /// If the attribute has neither form. The offset is within its value.
    pub fn mp_next_hop(&self) -> Result<Option<RecordNextHop<'a>>, Error> {
        let Some(RecordAttribute { value, .. }) = self.find(attribute_type::MP_REACH_NLRI) else { return Ok(None) };
        if let Some((&length, next_hop)) = value.split_first()
            && usize::from(length) == next_hop.len()
        {
            return Ok(Some(RecordNextHop { family: None, next_hop }));
        }
        let mut reader = ByteReader::new(value, 0);
        let family = Family::new(reader.u16("the AFI")?, reader.u8("the SAFI")?);
        let length = reader.u8("the length of the next hop")?;
        let next_hop = reader.bytes(usize::from(length), "the next hop")?;
        Ok(Some(RecordNextHop { family: Some(family), next_hop }))
    }
}
