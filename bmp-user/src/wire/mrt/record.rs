//! The common header (RFC 6396 §2), and whole records in a file.

use std::iter::FusedIterator;

use super::{
    Error, PeerIndexTable, Problem, RecordedMessage, RibRecord, StateChange, TableDump, bgp4mp, table_dump,
    table_dump_v2,
};
use crate::wire::reader::ByteReader;

/// Length of the common header in bytes: timestamp, type, subtype, length.
pub const HEADER: usize = 12;

/// The longest record that bmpd accepts, in bytes behind the common header.
///
/// The length field could say 4 GiB. The longest record that makes sense is a PEER_INDEX_TABLE of
/// 65,535 peers (1.7 MB), or a RIB record of a prefix with very many peers and very long
/// attributes.
pub const MAX_RECORD: usize = 16 * 1024 * 1024;

/// Types of records (RFC 6396 §4).
pub mod kind {
    /// TABLE_DUMP.
    pub const TABLE_DUMP: u16 = 12;
    /// TABLE_DUMP_V2.
    pub const TABLE_DUMP_V2: u16 = 13;
    /// BGP4MP.
    pub const BGP4MP: u16 = 16;
    /// BGP4MP_ET: the same, with microseconds.
    pub const BGP4MP_ET: u16 = 17;
    /// ISIS_ET, with microseconds.
    pub const ISIS_ET: u16 = 33;
    /// OSPFv3_ET, with microseconds.
    pub const OSPFV3_ET: u16 = 49;

    /// The name of a type that is assigned (RFC 6396 §4), or was once (appendix B).
    pub fn name(kind: u16) -> Option<&'static str> {
        Some(match kind {
            0 => "NULL",
            1 => "START",
            2 => "DIE",
            3 => "I_AM_DEAD",
            4 => "PEER_DOWN",
            5 => "BGP",
            6 => "RIP",
            7 => "IDRP",
            8 => "RIPNG",
            9 => "BGP4PLUS",
            10 => "BGP4PLUS_01",
            11 => "OSPFv2",
            TABLE_DUMP => "TABLE_DUMP",
            TABLE_DUMP_V2 => "TABLE_DUMP_V2",
            BGP4MP => "BGP4MP",
            BGP4MP_ET => "BGP4MP_ET",
            32 => "ISIS",
            ISIS_ET => "ISIS_ET",
            48 => "OSPFv3",
            OSPFV3_ET => "OSPFv3_ET",
            _ => return None,
        })
    }
}

/// True for a type whose message begins with microseconds (RFC 6396 §3).
fn is_extended(kind: u16) -> bool {
    matches!(kind, kind::BGP4MP_ET | kind::ISIS_ET | kind::OSPFV3_ET)
}

/// A whole record of any type, with a possible length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The time of the record, in seconds since the epoch.
    pub seconds: u32,
    /// Microseconds to add to `seconds`; zero for a type without them, or a record too short for
    /// them.
    pub microseconds: u32,
    /// Its type: see [`kind`].
    pub kind: u16,
    /// Its subtype. The meaning depends on the type.
    pub subtype: u16,
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// All bytes, common header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A reader for the bytes behind the header and the microseconds.
    fn body(&self) -> Result<ByteReader<'a>, Error> {
        let mut reader = ByteReader::new(self.bytes, HEADER);
        if is_extended(self.kind) {
            reader.u32("the microseconds")?;
        }
        Ok(reader)
    }
}

/// The content of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordBody<'a> {
    /// TABLE_DUMP: one route of one peer.
    TableDump(TableDump<'a>),
    /// TABLE_DUMP_V2: the peers of the RIB records that follow.
    PeerIndexTable(PeerIndexTable<'a>),
    /// TABLE_DUMP_V2: the routes of several peers for one prefix.
    Rib(RibRecord<'a>),
    /// BGP4MP, BGP4MP_ET: a BGP message.
    Message(RecordedMessage<'a>),
    /// BGP4MP, BGP4MP_ET: a change of a peer's state machine.
    StateChange(StateChange),
    /// A type or subtype that is not about BGP, deprecated, or not assigned.
    Other,
}

impl<'a> RecordBody<'a> {
    /// Reads one record.
    ///
    /// # Errors
    ///
    /// At the first field that is wrong. Offsets are within the record.
    pub fn parse(record: &Record<'a>) -> Result<Self, Error> {
        match record.kind {
            kind::TABLE_DUMP => table_dump::parse(record.subtype, record.body()?),
            kind::TABLE_DUMP_V2 => table_dump_v2::parse(record.subtype, record.body()?),
            kind::BGP4MP | kind::BGP4MP_ET => bgp4mp::parse(record.subtype, record.body()?),
            _ => Ok(Self::Other),
        }
    }
}

/// Finds the whole records at the start of `buf`.
///
/// Ends at the end of `buf`, or at a record that is not whole yet: see [`Records::consumed`]. A
/// header with an impossible length is an error, and the end: the next record cannot be found. The
/// type does not matter.
pub fn records(buf: &[u8]) -> Records<'_> {
    Records { buf, consumed: 0, failed: false }
}

/// See [`records`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    buf: &'a [u8],
    consumed: usize,
    failed: bool,
}

impl Records<'_> {
    /// Bytes of the records that were returned so far: the offset of the next record.
    pub fn consumed(&self) -> usize {
        self.consumed
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let rest = self.buf.get(self.consumed..)?;
        match first_record(rest) {
            Ok(record) => {
                let record = record?;
                self.consumed += record.bytes.len();
                Some(Ok(record))
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error.after(self.consumed as u64)))
            }
        }
    }
}

impl FusedIterator for Records<'_> {}

/// The first record in `buf`; `None` if it is not whole yet.
fn first_record(buf: &[u8]) -> Result<Option<Record<'_>>, Error> {
    const WHAT: &str = "the common header";
    const LENGTH_AT: usize = 8;
    if buf.len() < HEADER {
        return Ok(None);
    }
    let mut reader = ByteReader::new(buf, 0);
    let seconds = reader.u32(WHAT)?;
    let kind = reader.u16(WHAT)?;
    let subtype = reader.u16(WHAT)?;
    let said = reader.u32(WHAT)?;
    let length = usize::try_from(said).unwrap_or(usize::MAX);
    if length > MAX_RECORD {
        return Err(Error::new(LENGTH_AT, Problem::Length(said)));
    }
    let Some(bytes) = buf.get(..HEADER + length) else { return Ok(None) };
    let microseconds = if is_extended(kind) && length >= 4 { reader.u32("the microseconds")? } else { 0 };
    Ok(Some(Record { seconds, microseconds, kind, subtype, bytes }))
}
