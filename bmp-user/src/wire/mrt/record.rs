//! Whole records in a file.

use std::iter::FusedIterator;

use super::{Error, HEADER, MAX_RECORD, Problem, kind};
use crate::wire::reader::ByteReader;

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
    pub(super) fn body(&self) -> Result<ByteReader<'a>, Error> {
        let mut reader = ByteReader::new(self.bytes, HEADER);
        if is_extended(self.kind) {
            reader.u32("the microseconds")?;
        }
        Ok(reader)
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
