//! MRT (RFC 6396): files of what a collector heard, and when.
//!
//! [`records`] finds the whole records in a buffer, of whatever type; [`Body::parse`] reads one. Of
//! the types of the RFC those about BGP are read: TABLE_DUMP, TABLE_DUMP_V2 and BGP4MP, the latter
//! two with the additional paths of RFC 8050, and BGP4MP_ET.

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

pub use attributes::{Attribute, Attributes, NextHop, attribute_type};
pub use bgp4mp::{Message, Session, StateChange, state};
pub use error::{Error, Problem};
pub use record::{Body, HEADER, MAX_RECORD, Record, Records, kind, records};
pub use table_dump::TableDump;
pub use table_dump_v2::{Peer, PeerIndexTable, Rib, RibEntry};
