//! The length of the NLRI in a RIB record, which the record does not say.

use super::{Error, Problem};
use crate::wire::{
    bgp::{self, Family, Form},
    reader::ByteReader,
};

/// Takes one NLRI without path identifier.
pub(super) fn take<'a>(reader: &mut ByteReader<'a>, family: Family) -> Result<&'a [u8], Error> {
    let form = Form::of(family).ok_or_else(|| Error::new(reader.at(), Problem::Family(family)))?;
    let found = bgp::nlri(form, false, reader.rest()).next();
    let length = match found {
        Some(Ok(item)) => item.len(),
        Some(Err(error)) => return Err(Error::new(reader.at(), Problem::Nlri(error.problem))),
        // The reader is empty.
        None => 1,
    };
    Ok(reader.bytes(length, "the NLRI")?)
}
