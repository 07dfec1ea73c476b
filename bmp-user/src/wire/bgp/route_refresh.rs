//! ROUTE-REFRESH (RFC 2918 §3, RFC 7313 §3.2).

use bytes::{BufMut, BytesMut};

use super::{Error, Family, Frame, HEADER, MessageType, Problem, error::LENGTH_AT, message::header};
use crate::wire::reader::Reader;

/// The subtypes (RFC 7313 §3.2).
pub mod subtype {
    /// Please send everything again, possibly with outbound route filters (RFC 5291).
    pub const REQUEST: u8 = 0;
    /// BoRR: everything is sent again from here on.
    pub const BEGIN: u8 = 1;
    /// EoRR: everything has been sent again.
    pub const END: u8 = 2;
}

/// A ROUTE-REFRESH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh<'a> {
    /// Of which routes.
    pub family: Family,
    /// See [`subtype`]; one that is not assigned is to be ignored (RFC 7313 §5).
    pub subtype: u8,
    /// Outbound route filters (RFC 5291 §4) behind the fixed part, as they are.
    pub filters: &'a [u8],
}

impl<'a> RouteRefresh<'a> {
    /// Reads a ROUTE-REFRESH.
    ///
    /// # Errors
    ///
    /// If one that marks a beginning or an end is longer than it may be (RFC 7313 §5).
    pub fn parse(frame: &Frame<'a>) -> Result<Self, Error> {
        let mut reader = Reader::new(frame.bytes(), HEADER);
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
