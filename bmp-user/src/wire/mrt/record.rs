//! The common header (RFC 6396 §2), and finding whole records in a file.

use std::iter::FusedIterator;

use super::{Error, Message, PeerIndexTable, Problem, Rib, StateChange, TableDump, bgp4mp, table_dump, table_dump_v2};
use crate::wire::reader::Reader;

/// Length of the common header in bytes: timestamp, type, subtype, length.
pub const HEADER: usize = 12;

/// The longest record that is accepted, in bytes after the common header.
///
/// The length field could say 4 GiB. The longest record that makes sense is a PEER_INDEX_TABLE of 65,535 peers, 1.7 MB, or a RIB
/// record of a prefix that very many peers have with very long attributes.
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
}

/// Every type that was ever assigned: those of RFC 6396 §4 and the deprecated ones of its appendix B.
fn is_assigned(kind: u16) -> bool {
    matches!(kind, 0..=13 | 16 | 17 | 32 | 33 | 48 | 49)
}

/// The types whose message begins with microseconds (RFC 6396 §3).
fn is_extended(kind: u16) -> bool {
    matches!(kind, kind::BGP4MP_ET | 33 | 49)
}

/// One whole record: its type is assigned, and its length is one that makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was written, in seconds since the epoch.
    pub seconds: u32,
    /// Microseconds to add to `seconds`; zero for a type without them.
    pub microseconds: u32,
    /// See [`kind`].
    pub kind: u16,
    /// What it means depends on the type.
    pub subtype: u16,
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// All of it, common header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A reader of what follows the header and, if there are any, the microseconds.
    fn body(&self) -> Reader<'a> {
        Reader::new(self.bytes, if is_extended(self.kind) { HEADER + 4 } else { HEADER })
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// TABLE_DUMP: one route of one peer.
    TableDump(TableDump<'a>),
    /// TABLE_DUMP_V2: the peers that the RIB records after it refer to.
    PeerIndexTable(PeerIndexTable<'a>),
    /// TABLE_DUMP_V2: the routes that several peers have for one prefix.
    Rib(Rib<'a>),
    /// BGP4MP, BGP4MP_ET: a BGP message.
    Message(Message<'a>),
    /// BGP4MP, BGP4MP_ET: a peer's state machine moved.
    StateChange(StateChange),
    /// A type or subtype that is not about BGP, or deprecated.
    Other,
}

impl<'a> Body<'a> {
    /// Reads one record.
    ///
    /// # Errors
    ///
    /// At the first field that is wrong; offsets are within the record.
    pub fn parse(record: &Record<'a>) -> Result<Self, Error> {
        match record.kind {
            kind::TABLE_DUMP => table_dump::parse(record.subtype, record.body()),
            kind::TABLE_DUMP_V2 => table_dump_v2::parse(record.subtype, record.body()),
            kind::BGP4MP | kind::BGP4MP_ET => bgp4mp::parse(record.subtype, record.body()),
            _ => Ok(Self::Other),
        }
    }
}

/// The whole records at the start of `buf`, in order.
///
/// Ends where `buf` does or where a record is not yet whole; [`Records::consumed`] says where that is. A header that cannot
/// become a record is an error as soon as it is there, and the end.
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
    /// Bytes of the whole records that were given out so far: where the next one starts.
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

/// The record that `buf` starts with; `None` if it is not whole yet.
fn first_record(buf: &[u8]) -> Result<Option<Record<'_>>, Error> {
    const WHAT: &str = "the common header";
    const TYPE_AT: usize = 4;
    const LENGTH_AT: usize = 8;
    if buf.len() < HEADER {
        return Ok(None);
    }
    let mut reader = Reader::new(buf, 0);
    let seconds = reader.u32(WHAT)?;
    let kind = reader.u16(WHAT)?;
    let subtype = reader.u16(WHAT)?;
    let said = reader.u32(WHAT)?;
    if !is_assigned(kind) {
        return Err(Error::new(TYPE_AT, Problem::Type(kind)));
    }
    let length = usize::try_from(said).unwrap_or(usize::MAX);
    if length > MAX_RECORD {
        return Err(Error::new(LENGTH_AT, Problem::Length(said)));
    }
    if is_extended(kind) && length < 4 {
        let problem = Problem::Short { what: "the microseconds", need: 4, found: length };
        return Err(Error::new(LENGTH_AT, problem));
    }
    let Some(bytes) = buf.get(..HEADER + length) else { return Ok(None) };
    let microseconds = if is_extended(kind) { reader.u32("the microseconds")? } else { 0 };
    Ok(Some(Record { seconds, microseconds, kind, subtype, bytes }))
}
