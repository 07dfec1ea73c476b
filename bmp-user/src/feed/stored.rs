//! Peer Ups and Peer Downs that the feed keeps as the bytes that came.

use bytes::Bytes;

use crate::wire::{
    bgp::Family,
    bmp::{COMMON_HEADER, Frame, Message, PER_PEER_HEADER, PeerUp, whole_frames},
};

/// A frame that the feed keeps.
#[derive(Clone, Debug)]
pub(super) struct StoredFrame {
    /// Sequence number after the frame.
    pub(super) changed: u64,
    pub(super) frame: Bytes,
}

impl StoredFrame {
    /// Memory in bytes.
    pub(super) fn memory(&self) -> usize {
        self.frame.len() + size_of::<Self>()
    }
}

/// The name of the table that a Peer Up or a Peer Down names (RFC 9069 §5.2.1), as bytes.
pub(super) type TableName<'a> = Option<&'a [u8]>;

/// Reads a Peer Up; `None` if the frame is not one.
pub(super) fn parse_peer_up(frame: &[u8]) -> Option<PeerUp<'_>> {
    match Message::parse(&whole_frames(frame).next()?) {
        Ok(Message::PeerUp(up)) => Some(up),
        _ => None,
    }
}

/// The name of the table that a Peer Up is for.
pub(super) fn table_of(peer_up: &[u8]) -> TableName<'_> {
    parse_peer_up(peer_up)?.table_name()
}

/// True if both OPENs of one of these Peer Ups name the family.
pub(super) fn has_family(peer_ups: &[Bytes], family: Family) -> bool {
    peer_ups.iter().filter_map(|up| parse_peer_up(up)).any(|up| up.families().any(|its| its == family))
}

/// True if two frames about a peer are equal but for the time in their per-peer headers.
pub(super) fn differ_in_time_alone(one: &[u8], other: &[u8]) -> bool {
    const END: usize = COMMON_HEADER + PER_PEER_HEADER;
    const TIME: usize = 8;
    one.get(..END - TIME) == other.get(..END - TIME) && one.get(END..) == other.get(END..)
}

/// The Peer Downs that do not name `table`.
pub(super) fn without_table(peer_downs: &Bytes, table: TableName<'_>) -> Bytes {
    let is_of_another = |frame: &Frame<'_>| match Message::parse(frame) {
        Ok(Message::PeerDown(down)) => down.table_name() != table,
        _ => true,
    };
    let others = whole_frames(peer_downs).filter(is_of_another);
    others.flat_map(|frame| frame.bytes().to_vec()).collect()
}

/// How many frames there are.
pub(super) fn frame_count(frames: &[u8]) -> u64 {
    whole_frames(frames).count() as u64
}
