//! TABLE_DUMP (RFC 6396 §4.2): one route of one peer in each record. AS paths have 2-octet numbers.

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};

use super::{Error, Problem, RecordAttributes, RecordBody};
use crate::wire::{bgp::Family, reader::ByteReader};

/// A TABLE_DUMP record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableDump<'a> {
    /// The view; zero for most collectors.
    pub view: u16,
    /// The number of the record. Wraps after 65,535.
    pub sequence: u16,
    /// IPv4 or IPv6 unicast.
    pub family: Family,
    /// The prefix, in the bytes of an address.
    prefix: &'a [u8],
    /// Its length in bits.
    pub prefix_length: u8,
    /// When the collector received it, in seconds since the epoch.
    pub originated: u32,
    /// The peer's address.
    pub peer_address: IpAddr,
    /// The peer's AS.
    pub peer_as: u16,
    /// The path attributes.
    pub attributes: RecordAttributes<'a>,
}

impl TableDump<'_> {
    /// Appends the prefix as an UPDATE has it (RFC 4271 §4.3): its length in bits, and its bytes.
    pub fn put_nlri(&self, out: &mut BytesMut) {
        let length = usize::from(self.prefix_length.div_ceil(8));
        out.put_u8(self.prefix_length);
        out.put_slice(self.prefix.get(..length).unwrap_or(self.prefix));
    }
}

pub(super) fn parse(subtype: u16, mut reader: ByteReader<'_>) -> Result<RecordBody<'_>, Error> {
    let (family, length) = match subtype {
        1 => (Family::IPV4_UNICAST, 4),
        2 => (Family::IPV6_UNICAST, 16),
        _ => return Ok(RecordBody::Other),
    };
    let view = reader.u16("the view number")?;
    let sequence = reader.u16("the sequence number")?;
    let prefix = reader.bytes(length, "the prefix")?;
    let at = reader.at();
    let prefix_length = reader.u8("the prefix length")?;
    let most = if length == 4 { 32 } else { 128 };
    if prefix_length > most {
        return Err(Error::new(at, Problem::PrefixLength { most, found: prefix_length }));
    }
    // The status is always 1 and means nothing.
    reader.u8("the status")?;
    let originated = reader.u32("the originated time")?;
    let peer_address = address(&mut reader, length == 16)?;
    let peer_as = reader.u16("the peer AS")?;
    let attributes = RecordAttributes::read(&mut reader)?;
    if !reader.is_empty() {
        let problem = Problem::Trailing { what: "the TABLE_DUMP record", found: reader.rest().len() };
        return Err(Error::new(reader.at(), problem));
    }
    let route =
        TableDump { view, sequence, family, prefix, prefix_length, originated, peer_address, peer_as, attributes };
    Ok(RecordBody::TableDump(route))
}

/// Takes the address of a peer.
pub(super) fn address(reader: &mut ByteReader<'_>, ipv6: bool) -> Result<IpAddr, Error> {
    const WHAT: &str = "the address of a peer";
    Ok(if ipv6 { reader.array::<16>(WHAT)?.into() } else { reader.array::<4>(WHAT)?.into() })
}
