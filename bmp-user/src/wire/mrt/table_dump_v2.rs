//! TABLE_DUMP_V2 (RFC 6396 §4.3), with additional paths (RFC 8050 §4). AS paths have 4-octet
//! numbers.

use std::net::{IpAddr, Ipv4Addr};

use super::{Error, Problem, RecordAttributes, RecordBody, nlri, table_dump::address};
use crate::wire::{bgp::Family, reader::ByteReader};

/// A PEER_INDEX_TABLE (RFC 6396 §4.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIndexTable<'a> {
    /// The collector's BGP identifier.
    pub collector: Ipv4Addr,
    /// The name of the view, which may be empty.
    pub view: &'a [u8],
    count: u16,
    /// Whole entries.
    peers: &'a [u8],
}

impl<'a> PeerIndexTable<'a> {
    /// The number of peers.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The peers, in the order of their indices, from zero on.
    pub fn iter(&self) -> impl Iterator<Item = IndexedPeer> + use<'a> {
        let mut reader = ByteReader::new(self.peers, 0);
        (0..self.count).map_while(move |_| peer(&mut reader).ok())
    }
}

/// An entry of a PEER_INDEX_TABLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexedPeer {
    /// Its BGP identifier.
    pub bgp_id: Ipv4Addr,
    /// Its address.
    pub address: IpAddr,
    /// Its AS.
    pub asn: u32,
}

/// The routes of several peers for one prefix (RFC 6396 §4.3.2, §4.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RibRecord<'a> {
    /// The number of the record.
    pub sequence: u32,
    /// The family.
    pub family: Family,
    /// Whether the routes have path identifiers.
    pub add_path: bool,
    /// The prefix as an UPDATE has it, without path identifier.
    pub nlri: &'a [u8],
    /// The path identifier of all `entries`: it may be a part of the NLRI in a RIB_GENERIC_ADDPATH
    /// record.
    path_id: Option<u32>,
    count: u16,
    /// Whole entries.
    entries: &'a [u8],
}

impl<'a> RibRecord<'a> {
    /// The number of routes.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The routes, in the order of the record.
    pub fn iter(&self) -> impl Iterator<Item = RibEntry<'a>> + use<'a> {
        let mut reader = ByteReader::new(self.entries, 0);
        let (in_entry, path_id) = (self.add_path && self.path_id.is_none(), self.path_id);
        (0..self.count).map_while(move |_| {
            let entry = entry(&mut reader, in_entry).ok()?;
            Some(RibEntry { path_id: entry.path_id.or(path_id), ..entry })
        })
    }
}

/// One peer's route (RFC 6396 §4.3.4, RFC 8050 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RibEntry<'a> {
    /// Index of the peer in the PEER_INDEX_TABLE.
    pub peer: u16,
    /// When the collector received it, in seconds since the epoch.
    pub originated: u32,
    /// The path identifier, of a record with additional paths.
    pub path_id: Option<u32>,
    /// The path attributes. MP_REACH_NLRI may have a short form: see
    /// [`RecordAttributes::mp_next_hop`].
    pub attributes: RecordAttributes<'a>,
}

pub(super) fn parse(subtype: u16, mut reader: ByteReader<'_>) -> Result<RecordBody<'_>, Error> {
    let (family, add_path) = match subtype {
        1 => return peer_index_table(reader).map(RecordBody::PeerIndexTable),
        2 => (Some(Family::IPV4_UNICAST), false),
        3 => (Some(Family::IPV4_MULTICAST), false),
        4 => (Some(Family::IPV6_UNICAST), false),
        5 => (Some(Family::IPV6_MULTICAST), false),
        6 => (None, false),
        8 => (Some(Family::IPV4_UNICAST), true),
        9 => (Some(Family::IPV4_MULTICAST), true),
        10 => (Some(Family::IPV6_UNICAST), true),
        11 => (Some(Family::IPV6_MULTICAST), true),
        12 => (None, true),
        _ => return Ok(RecordBody::Other),
    };
    let sequence = reader.u32("the sequence number")?;
    let (family, generic) = match family {
        Some(family) => (family, false),
        None => (Family::new(reader.u16("the AFI")?, reader.u8("the SAFI")?), true),
    };
    // Known writers put the path identifier of a RIB_GENERIC_ADDPATH record into its entries, as in
    // the other subtypes. RFC 8050 §4.2 puts it into the NLRI. Only one of the two readings comes
    // out even.
    let outcome = rib(reader.clone(), sequence, family, add_path, false);
    match outcome {
        Err(_) if generic && add_path => rib(reader, sequence, family, add_path, true).or(outcome),
        outcome => outcome,
    }
    .map(RecordBody::Rib)
}

fn rib(
    mut reader: ByteReader<'_>,
    sequence: u32,
    family: Family,
    add_path: bool,
    path_id_in_nlri: bool,
) -> Result<RibRecord<'_>, Error> {
    let path_id = if path_id_in_nlri { Some(reader.u32("the path identifier")?) } else { None };
    let nlri = nlri::take(&mut reader, family)?;
    let count = reader.u16("the number of entries")?;
    let entries = reader.rest();
    for _ in 0..count {
        entry(&mut reader, add_path && !path_id_in_nlri)?;
    }
    end(&reader, "the RIB record")?;
    Ok(RibRecord { sequence, family, add_path, nlri, path_id, count, entries })
}

fn entry<'a>(reader: &mut ByteReader<'a>, path_id: bool) -> Result<RibEntry<'a>, Error> {
    Ok(RibEntry {
        peer: reader.u16("the peer index")?,
        originated: reader.u32("the originated time")?,
        path_id: if path_id { Some(reader.u32("the path identifier")?) } else { None },
        attributes: RecordAttributes::read(reader)?,
    })
}

fn peer_index_table(mut reader: ByteReader<'_>) -> Result<PeerIndexTable<'_>, Error> {
    let collector = Ipv4Addr::from(reader.u32("the collector's BGP identifier")?);
    let length = reader.u16("the length of the view name")?;
    let view = reader.bytes(usize::from(length), "the view name")?;
    let count = reader.u16("the number of peers")?;
    let peers = reader.rest();
    for _ in 0..count {
        peer(&mut reader)?;
    }
    end(&reader, "the PEER_INDEX_TABLE record")?;
    Ok(PeerIndexTable { collector, view, count, peers })
}

fn peer(reader: &mut ByteReader<'_>) -> Result<IndexedPeer, Error> {
    const IPV6: u8 = 0x01;
    const AS4: u8 = 0x02;
    let flags = reader.u8("the type of a peer")?;
    Ok(IndexedPeer {
        bgp_id: Ipv4Addr::from(reader.u32("the BGP identifier of a peer")?),
        address: address(reader, flags & IPV6 != 0)?,
        asn: match flags & AS4 {
            0 => reader.u16("the AS of a peer")?.into(),
            _ => reader.u32("the AS of a peer")?,
        },
    })
}

fn end(reader: &ByteReader<'_>, what: &'static str) -> Result<(), Error> {
    match reader.rest().len() {
        0 => Ok(()),
        found => Err(Error::new(reader.at(), Problem::Trailing { what, found })),
    }
}
