//! ROUTE-REFRESH (RFC 2918 §3, RFC 7313 §3.2).

use bytes::{BufMut, BytesMut};

use super::{Error, Family, Frame, HEADER, MessageType, Problem, error::LENGTH_AT, frame::header};
use crate::wire::reader::ByteReader;

/// The subtypes (RFC 7313 §3.2).
pub mod subtype {
    /// The sender asks for all routes again, possibly with outbound route filters (RFC 5291).
    pub const REQUEST: u8 = 0;
    /// BoRR: the sender begins to send all routes again.
    pub const BEGIN: u8 = 1;
    /// EoRR: the sender has sent all routes again.
    pub const END: u8 = 2;
}

/// A ROUTE-REFRESH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh<'a> {
    /// The family of the routes.
    pub family: Family,
    /// The subtype: see [`subtype`]. A receiver ignores one that is not assigned (RFC 7313 §5).
    pub subtype: u8,
    /// The bytes behind the fixed part: outbound route filters (RFC 5291 §4).
    pub filters: &'a [u8],
}

impl<'a> RouteRefresh<'a> {
    /// Reads a ROUTE-REFRESH.
    ///
    /// # Errors
    ///
    /// If a BoRR or an EoRR has bytes behind the fixed part (RFC 7313 §5).
    pub fn parse(frame: &Frame<'a>) -> Result<Self, Error> {
        let mut reader = ByteReader::new(frame.bytes(), HEADER);
        let afi = reader.u16("the AFI")?;
        let subtype = reader.u8("the message subtype")?;
        let safi = reader.u8("the SAFI")?;
        let filters = reader.rest();
        if let (subtype::BEGIN | subtype::END, [_, ..]) = (subtype, filters) {
            let exactly = reader.at();
            let found = u16::try_from(frame.bytes().len()).unwrap_or(u16::MAX);
            let what = MessageType::RouteRefresh.as_str();
            return Err(Error::new(LENGTH_AT, Problem::Length { what, least: exactly, most: exactly, found }));
        }
        Ok(Self { family: Family::new(afi, safi), subtype, filters })
    }
}

/// Appends a ROUTE-REFRESH without filters.
pub fn build(out: &mut BytesMut, family: Family, subtype: u8) {
    header(out, MessageType::RouteRefresh, 4);
    out.put_u16(family.afi);
    out.put_u8(subtype);
    out.put_u8(family.safi);
}
