//! Ethernet frames, made by hand.

use std::net::{Ipv4Addr, Ipv6Addr};

/// `IPPROTO_*` of headers that can be before TCP in an IPv6 packet.
pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const ESP: u8 = 50;
pub(super) const AUTHENTICATION: u8 = 51;
pub(super) const DESTINATION_OPTIONS: u8 = 60;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// A SYN from port 50000, without checksums: the guard reads none.
pub(super) fn syn(port: u16) -> Vec<u8> {
    let mut tcp = vec![0; 20];
    tcp[..2].copy_from_slice(&50_000_u16.to_be_bytes());
    tcp[2..4].copy_from_slice(&port.to_be_bytes());
    tcp[12] = 5 << 4;
    tcp[13] = 2;
    tcp
}

/// An Ethernet frame with a payload of this type.
pub(super) fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Puts a VLAN tag into a frame, before its other tags.
pub(super) fn tagged(kind: u16, priority: u16, vlan: u16, frame: &[u8]) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend(kind.to_be_bytes());
    tagged.extend((priority << 13 | vlan).to_be_bytes());
    tagged.extend(&frame[12..]);
    tagged
}

/// An IPv4 packet.
#[derive(Clone)]
pub(super) struct V4 {
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    /// A multiple of four bytes.
    pub(super) options: Vec<u8>,
    /// In units of eight bytes.
    pub(super) offset: u16,
    pub(super) more_fragments: bool,
    pub(super) protocol: u8,
    pub(super) payload: Vec<u8>,
}

impl V4 {
    pub(super) fn packet(&self) -> Vec<u8> {
        let header = 20 + self.options.len();
        let mut packet = vec![0; 20];
        packet[0] = 4 << 4 | (header / 4) as u8;
        packet[2..4].copy_from_slice(&((header + self.payload.len()) as u16).to_be_bytes());
        packet[6..8].copy_from_slice(&(self.offset | u16::from(self.more_fragments) << 13).to_be_bytes());
        packet[8] = 64;
        packet[9] = self.protocol;
        packet[12..16].copy_from_slice(&self.source.octets());
        packet[16..20].copy_from_slice(&self.destination.octets());
        packet.extend(&self.options);
        packet.extend(&self.payload);
        packet
    }

    pub(super) fn frame(&self) -> Vec<u8> {
        ethernet(0x0800, &self.packet())
    }
}

/// An IPv6 packet.
#[derive(Clone)]
pub(super) struct V6 {
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    /// The headers before the payload: kind and bytes. The first byte becomes the kind of the next
    /// header.
    pub(super) extensions: Vec<(u8, Vec<u8>)>,
    pub(super) protocol: u8,
    pub(super) payload: Vec<u8>,
}

impl V6 {
    pub(super) fn frame(&self) -> Vec<u8> {
        let length: usize = self.extensions.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut packet = vec![0; 40];
        packet[0] = 6 << 4;
        packet[4..6].copy_from_slice(&((length + self.payload.len()) as u16).to_be_bytes());
        packet[6] = self.extensions.first().map_or(self.protocol, |(kind, _)| *kind);
        packet[7] = 64;
        packet[8..24].copy_from_slice(&self.source.octets());
        packet[24..40].copy_from_slice(&self.destination.octets());
        for (at, (_, bytes)) in self.extensions.iter().enumerate() {
            let next = self.extensions.get(at + 1).map_or(self.protocol, |(kind, _)| *kind);
            packet.push(next);
            packet.extend(&bytes[1..]);
        }
        packet.extend(&self.payload);
        ethernet(0x86dd, &packet)
    }
}

/// An empty extension header of `units` times eight bytes (RFC 8200 section 4.2).
pub(super) fn extension(kind: u8, units: u8) -> (u8, Vec<u8>) {
    let mut bytes = vec![0; usize::from(units) * 8];
    bytes[1] = units - 1;
    (kind, bytes)
}

/// A fragment header (RFC 8200 section 4.5) with an offset in units of eight bytes.
pub(super) fn fragment(offset: u16, more: bool) -> (u8, Vec<u8>) {
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    (FRAGMENT, vec![0, 0, high, low, 0, 0, 0, 7])
}

/// A routing header with so many segments left.
pub(super) fn routing(left: u8) -> (u8, Vec<u8>) {
    let (kind, mut bytes) = extension(ROUTING, 3);
    bytes[2] = 4;
    bytes[3] = left;
    (kind, bytes)
}

/// An authentication header (RFC 4302 section 2) with a check value of twelve bytes.
pub(super) fn authentication() -> (u8, Vec<u8>) {
    let mut bytes = vec![0; 24];
    bytes[1] = 4;
    (AUTHENTICATION, bytes)
}
