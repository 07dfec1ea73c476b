//! Information TLVs (RFC 7854 §4.4): type, length, value.

use super::Error;
use crate::wire::reader::ByteReader;

/// The types of information TLVs that bmpd reads or writes.
pub mod tlv_type {
    /// Free text, in Initiation, Termination and Peer Up (RFC 7854 §4.4, §4.5; RFC 9736).
    pub const STRING: u16 = 0;
    /// sysDescr, in Initiation (RFC 7854 §4.4).
    pub const SYS_DESCR: u16 = 1;
    /// sysName, in Initiation (RFC 7854 §4.4).
    pub const SYS_NAME: u16 = 2;
    /// The name of the VRF or table, in Peer Up and Peer Down of Loc-RIB peers (RFC 9069 §5.2.1,
    /// §5.3).
    pub const TABLE_NAME: u16 = 3;
    /// The reason, in Termination. Its types are a space of their own (RFC 7854 §4.5).
    pub const TERMINATION_REASON: u16 = 1;
}

/// One TLV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Its type. The meaning depends on the message.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
}

/// The TLVs of a message. They are known to be whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    /// Reads TLVs that take all of `bytes`: information TLVs, or those of a Route Mirroring (RFC
    /// 7854 §4.7).
    ///
    /// # Errors
    ///
    /// If the last TLV is not whole. Offsets are within `bytes`.
    pub fn of(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::parse(ByteReader::new(bytes, 0))
    }

    /// Reads TLVs that take the rest of a frame.
    pub(super) fn parse(reader: ByteReader<'a>) -> Result<Self, Error> {
        let tlvs = Self(reader.rest());
        let mut reader = reader;
        while !reader.is_empty() {
            take(&mut reader)?;
        }
        Ok(tlvs)
    }

    /// The bytes of all TLVs.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// In the order of the message.
    pub fn iter(&self) -> impl Iterator<Item = Tlv<'a>> + use<'a> {
        let mut reader = ByteReader::new(self.0, 0);
        std::iter::from_fn(move || take(&mut reader).ok())
    }

    /// The value of the first TLV of this type.
    pub fn find(&self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find(|tlv| tlv.kind == kind).map(|tlv| tlv.value)
    }
}

fn take<'a>(reader: &mut ByteReader<'a>) -> Result<Tlv<'a>, Error> {
    let kind = reader.u16("the type of an information TLV")?;
    let length = reader.u16("the length of an information TLV")?;
    Ok(Tlv { kind, value: reader.bytes(usize::from(length), "the value of an information TLV")? })
}
