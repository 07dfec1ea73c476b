//! MRT (RFC 6396): files with the BGP messages and tables of a collector.
//!
//! [`records`] finds the whole records in a buffer, of any type. [`RecordBody::parse`] reads one
//! record, if it is about BGP: TABLE_DUMP, TABLE_DUMP_V2, BGP4MP or BGP4MP_ET. The last three may
//! have the additional paths of RFC 8050.

mod attributes;
mod bgp4mp;
mod error;
mod header;
mod nlri;
mod record;
#[cfg(test)]
pub(crate) mod samples;
mod table_dump;
mod table_dump_v2;
#[cfg(test)]
mod tests;

pub use attributes::{RecordAttribute, RecordAttributes, RecordNextHop, attribute_type};
pub use bgp4mp::{RecordedMessage, RecordedSession, StateChange, state};
pub use error::{Error, Problem};
pub use header::{HEADER, MAX_RECORD, kind};
pub use record::{Record, Records, records};
pub use table_dump::TableDump;
pub use table_dump_v2::{IndexedPeer, PeerIndexTable, RibEntry, RibRecord};

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
