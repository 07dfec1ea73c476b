//! How long the NLRI of a RIB record is: the record does not say.

use super::{Error, Problem};
use crate::wire::{bgp::Family, reader::Reader};

/// Takes one NLRI without path identifier.
pub(super) fn take<'a>(reader: &mut Reader<'a>, family: Family) -> Result<&'a [u8], Error> {
    const WHAT: &str = "the NLRI";
    let mut head = reader.clone();
    let length = match (family.afi, family.safi) {
        // A length in bits, and as many bytes as that takes: prefixes (RFC 4760 §5), with labels (RFC 8277 §2), with route
        // distinguishers (RFC 4364 §4.3.4), and route targets (RFC 4684 §4).
        (1 | 2, 1 | 2 | 4 | 128 | 129 | 132) => {
            let at = head.at();
            let bits = head.u8("the length of the NLRI")?;
            let most = if family.afi == 1 { 32 } else { 128 };
            if let (1 | 2, true) = (family.safi, bits > most) {
                return Err(Error::new(at, Problem::PrefixLength { most, found: bits }));
            }
            1 + usize::from(bits.div_ceil(8))
        }
        // A length in bytes of one octet, or of twelve bits (RFC 8955 §4.1, RFC 8956 §3).
        (1 | 2, 133 | 134) => match head.u8("the length of the NLRI")? {
            high @ 0xf0.. => 2 + (usize::from(high & 0x0f) << 8 | usize::from(head.u8("the length of the NLRI")?)),
            bytes => 1 + usize::from(bytes),
        },
        // A length in bytes of two octets (RFC 4761 §3.2.2).
        (25, 65) => 2 + usize::from(head.u16("the length of the NLRI")?),
        // A type and a length in bytes, of one octet each (RFC 7432 §7).
        (25, 70) => {
            head.u8("the type of the NLRI")?;
            2 + usize::from(head.u8("the length of the NLRI")?)
        }
        // A type and a length in bytes, of two octets each (RFC 9552 §5.2).
        (16388, 71 | 72) => {
            head.u16("the type of the NLRI")?;
            4 + usize::from(head.u16("the length of the NLRI")?)
        }
        _ => return Err(Error::new(head.at(), Problem::Family(family))),
    };
    Ok(reader.bytes(length, WHAT)?)
}
