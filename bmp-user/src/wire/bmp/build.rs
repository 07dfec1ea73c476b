//! Writes the messages that bmpd sends in its own name.

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};

use super::{
    COMMON_HEADER, MessageType, PER_PEER_HEADER, PeerHeader, PeerType, VERSION, peer_down_reason, peer_flags, tlv_type,
};

/// The longest sysDescr and sysName, in bytes (RFC 1213 §6).
const SYSTEM_STRING: usize = 255;

/// Appends an Initiation (RFC 7854 §4.3): `sys_descr` and `sys_name`, cut to 255 bytes, and free
/// text.
pub fn initiation(out: &mut BytesMut, sys_descr: &str, sys_name: &str, text: Option<&str>) {
    initiation_with(out, sys_descr, sys_name, text);
}

/// Appends an Initiation as [`initiation`] does, with any number of texts.
pub fn initiation_with<'a>(
    out: &mut BytesMut,
    sys_descr: &str,
    sys_name: &str,
    texts: impl IntoIterator<Item = &'a str>,
) {
    message(out, MessageType::Initiation, |out| {
        string_tlv(out, tlv_type::SYS_DESCR, sys_descr, SYSTEM_STRING);
        string_tlv(out, tlv_type::SYS_NAME, sys_name, SYSTEM_STRING);
        for text in texts {
            string_tlv(out, tlv_type::STRING, text, usize::from(u16::MAX));
        }
    });
}

/// Appends a Termination (RFC 7854 §4.5): a reason of [`super::termination_reason`], and free text.
pub fn termination(out: &mut BytesMut, reason: u16, text: Option<&str>) {
    message(out, MessageType::Termination, |out| {
        tlv(out, tlv_type::TERMINATION_REASON, &reason.to_be_bytes());
        if let Some(text) = text {
            string_tlv(out, tlv_type::STRING, text, usize::from(u16::MAX));
        }
    });
}

/// Appends a Peer Down in bmpd's own name. `peer` is a per-peer header of the peer.
///
/// Gives reason 5 without data (RFC 7854 §4.9). For a Loc-RIB peer, gives reason 6 with the
/// VRF/Table Name TLV of its Peer Up (RFC 9069 §5.3). The time is zero: not known (RFC 7854 §4.2).
pub fn peer_down(out: &mut BytesMut, peer: &PeerHeader, table_name: Option<&[u8]>) {
    let loc_rib = peer.key.peer_type == PeerType::LOC_RIB;
    // A Peer Down is about the whole peer. Flags that name a view mean nothing in it (RFC 8671
    // §6.3).
    let meant = if loc_rib { peer_flags::FILTERED } else { peer_flags::IPV6 | peer_flags::TWO_BYTE_AS };
    let peer = PeerHeader { flags: peer.flags & meant, seconds: 0, microseconds: 0, ..*peer };
    message(out, MessageType::PeerDown, |out| {
        peer_header(out, &peer);
        if loc_rib {
            out.put_u8(peer_down_reason::LOCAL_SYSTEM_CLOSED);
            if let Some(name) = table_name {
                tlv(out, tlv_type::TABLE_NAME, name);
            }
        } else {
            out.put_u8(peer_down_reason::DE_CONFIGURED);
        }
    });
}

/// Appends a Route Monitoring (RFC 7854 §4.6) of a whole UPDATE, BGP header included.
pub fn route_monitoring(out: &mut BytesMut, peer: &PeerHeader, update: &[u8]) {
    route_monitoring_of(out, peer, |out| out.put_slice(update));
}

/// Appends a Route Monitoring of the UPDATE that `update` writes, BGP header included.
pub fn route_monitoring_of(out: &mut BytesMut, peer: &PeerHeader, update: impl FnOnce(&mut BytesMut)) {
    message(out, MessageType::RouteMonitoring, |out| {
        peer_header(out, peer);
        update(out);
    });
}

/// Appends a Route Mirroring that says that mirrored messages were lost (RFC 7854 §4.7: Information
/// TLV, code 1).
pub fn mirrored_messages_lost(out: &mut BytesMut, peer: &PeerHeader) {
    const INFORMATION: u16 = 1;
    const MESSAGES_LOST: u16 = 1;
    message(out, MessageType::RouteMirroring, |out| {
        peer_header(out, peer);
        tlv(out, INFORMATION, &MESSAGES_LOST.to_be_bytes());
    });
}

/// Appends a Peer Up without information TLVs (RFC 7854 §4.10). The OPENs are whole BGP messages. A
/// port that is not known is zero.
pub fn peer_up(
    out: &mut BytesMut,
    peer: &PeerHeader,
    local_address: IpAddr,
    [local_port, remote_port]: [u16; 2],
    sent_open: &[u8],
    received_open: &[u8],
) {
    message(out, MessageType::PeerUp, |out| {
        peer_header(out, peer);
        out.put_slice(&address_field(local_address));
        out.put_u16(local_port);
        out.put_u16(remote_port);
        out.put_slice(sent_open);
        out.put_slice(received_open);
    });
}

/// Appends a Statistics Report whose count and statistics `statistics` writes.
pub(super) fn statistics_report_of(out: &mut BytesMut, peer: &PeerHeader, statistics: impl FnOnce(&mut BytesMut)) {
    message(out, MessageType::StatisticsReport, |out| {
        peer_header(out, peer);
        statistics(out);
    });
}

/// Appends a Peer Down (RFC 7854 §4.9) with a reason of [`peer_down_reason`] and its data.
pub fn peer_down_because(out: &mut BytesMut, peer: &PeerHeader, reason: u8, data: &[u8]) {
    message(out, MessageType::PeerDown, |out| {
        peer_header(out, peer);
        out.put_u8(reason);
        out.put_slice(data);
    });
}

/// The address field of a per-peer header or a Peer Up: IPv4 in the last four bytes (RFC 7854
/// §4.2).
pub fn address_field(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits())).to_be_bytes(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Appends a common header and the body, and fills in the length.
fn message(out: &mut BytesMut, kind: MessageType, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(&[VERSION, 0, 0, 0, 0, kind.code()]);
    body(out);
    // No body here comes near 4 GiB: texts have at most 65,535 bytes each.
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start + 1..start + COMMON_HEADER - 1) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

fn peer_header(out: &mut BytesMut, peer: &PeerHeader) {
    // Written in one piece, because every message of a dump has one.
    let mut header = [0; PER_PEER_HEADER];
    let mut rest = &mut header[..];
    rest.put_u8(peer.key.peer_type.0);
    rest.put_u8(peer.flags);
    rest.put_slice(&peer.key.distinguisher.0);
    rest.put_slice(&peer.key.address);
    rest.put_u32(peer.asn);
    rest.put_u32(peer.bgp_id.to_bits());
    rest.put_u32(peer.seconds);
    rest.put_u32(peer.microseconds);
    out.put_slice(&header);
}

/// Appends a text, cut to `limit` bytes between characters.
fn string_tlv(out: &mut BytesMut, kind: u16, text: &str, limit: usize) {
    let (kept, _cut) = text.split_at(text.floor_char_boundary(limit));
    tlv(out, kind, kept.as_bytes());
}

fn tlv(out: &mut BytesMut, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.put_u16(kind);
    out.put_u16(length);
    out.put_slice(value.get(..usize::from(length)).unwrap_or(value));
}
