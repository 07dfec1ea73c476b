//! The common header (RFC 6396 §2): its length and types.

/// Length of the common header in bytes: timestamp, type, subtype, length.
pub const HEADER: usize = 12;

/// The longest record that bmpd accepts, in bytes behind the common header.
///
/// The length field could say 4 GiB. The longest record that makes sense is a PEER_INDEX_TABLE of
/// 65,535 peers (1.7 MB), or a RIB record of a prefix with very many peers and very long
/// attributes.
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
    /// ISIS_ET, with microseconds.
    pub const ISIS_ET: u16 = 33;
    /// OSPFv3_ET, with microseconds.
    pub const OSPFV3_ET: u16 = 49;

    /// The name of a type that is assigned (RFC 6396 §4), or was once (appendix B).
    pub fn name(kind: u16) -> Option<&'static str> {
        Some(match kind {
            0 => "NULL",
            1 => "START",
            2 => "DIE",
            3 => "I_AM_DEAD",
            4 => "PEER_DOWN",
            5 => "BGP",
            6 => "RIP",
            7 => "IDRP",
            8 => "RIPNG",
            9 => "BGP4PLUS",
            10 => "BGP4PLUS_01",
            11 => "OSPFv2",
            TABLE_DUMP => "TABLE_DUMP",
            TABLE_DUMP_V2 => "TABLE_DUMP_V2",
            BGP4MP => "BGP4MP",
            BGP4MP_ET => "BGP4MP_ET",
            32 => "ISIS",
            ISIS_ET => "ISIS_ET",
            48 => "OSPFv3",
            OSPFV3_ET => "OSPFv3_ET",
            _ => return None,
        })
    }
}
