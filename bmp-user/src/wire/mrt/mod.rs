//! MRT (RFC 6396): files with the BGP messages and tables of a collector.
//!
//! [`records`] finds the whole records in a buffer, of any type. [`RecordBody::parse`] reads one
//! record, if it is about BGP: TABLE_DUMP, TABLE_DUMP_V2, BGP4MP or BGP4MP_ET. The last three may
//! have the additional paths of RFC 8050.

mod attributes;
mod bgp4mp;
mod error;
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
pub use record::{HEADER, MAX_RECORD, Record, RecordBody, Records, kind, records};
pub use table_dump::TableDump;
pub use table_dump_v2::{IndexedPeer, PeerIndexTable, RibEntry, RibRecord};
