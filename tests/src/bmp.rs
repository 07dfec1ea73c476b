//! The BMP messages (RFC 7854) that the lab sends, and a splitter that reads the common header
//! alone.

use std::net::{IpAddr, Ipv4Addr};

use bytes::{Buf, Bytes, BytesMut};

use crate::bgp::{self, Ipv4Prefix};

/// Route Monitoring (RFC 7854 §4.6).
pub const ROUTE_MONITORING: u8 = 0;
/// Statistics Report (§4.8).
pub const STATISTICS_REPORT: u8 = 1;
/// Peer Down Notification (§4.9).
pub const PEER_DOWN: u8 = 2;
/// Peer Up Notification (§4.10).
pub const PEER_UP: u8 = 3;
/// Initiation (§4.3).
pub const INITIATION: u8 = 4;
/// Termination (§4.5).
pub const TERMINATION: u8 = 5;
/// Route Mirroring (§4.7).
pub const ROUTE_MIRRORING: u8 = 6;

/// Length of the common header (§4.1).
const HEADER: usize = 6;
/// Length of the per-peer header (§4.2).
const PEER_HEADER: usize = 42;
/// The longest message that the lab accepts.
const LONGEST: usize = 1 << 20;

/// A BGP peer in the lab's messages: global instance, IPv4, pre-policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportedPeer {
    /// The peer's address.
    pub address: Ipv4Addr,
    /// Its AS number.
    pub asn: u32,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
}

impl Default for ReportedPeer {
    fn default() -> Self {
        let address = Ipv4Addr::new(10, 255, 0, 2);
        Self { address, asn: 65001, router_id: address }
    }
}

/// Flags of the per-peer header: Adj-RIB-In before policy.
pub const PRE_POLICY: u8 = 0;
/// The L flag: Adj-RIB-In after policy.
pub const POST_POLICY: u8 = 0x40;
/// The A flag: AS paths with two-octet AS numbers.
pub const SHORT_AS_PATH: u8 = 0x20;
/// The O flag: Adj-RIB-Out (RFC 8671 §4).
pub const ADJ_RIB_OUT: u8 = 0x10;

/// Peer type of a Loc-RIB (RFC 9069 §4.1).
pub const LOC_RIB_INSTANCE: u8 = 3;

/// Builds a message of type `kind`, with the common header.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).expect("a BMP message is shorter than 4 GiB");
    let mut message = vec![3];
    message.extend(length.to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

fn tlv(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut tlv = kind.to_be_bytes().to_vec();
    tlv.extend(u16::try_from(value.len()).expect("a TLV is at most 65,535 bytes").to_be_bytes());
    tlv.extend(value);
    tlv
}

fn peer_header(peer: &ReportedPeer, flags: u8) -> Vec<u8> {
    let mut header = vec![0, flags];
    header.extend([0; 8 + 12]);
    header.extend(peer.address.octets());
    header.extend(peer.asn.to_be_bytes());
    header.extend(peer.router_id.octets());
    header.extend(1_700_000_000u32.to_be_bytes());
    header.extend([0; 4]);
    header
}

fn about(peer: &ReportedPeer, flags: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut whole = peer_header(peer, flags);
    whole.extend(body);
    message(kind, &whole)
}

/// Builds an Initiation with sysDescr and sysName.
pub fn initiation(sys_name: &str) -> Vec<u8> {
    let mut body = tlv(1, b"a daemon of the lab");
    body.extend(tlv(2, sys_name.as_bytes()));
    message(INITIATION, &body)
}

/// Builds a Termination with reason 0, administratively closed.
pub fn termination() -> Vec<u8> {
    message(TERMINATION, &tlv(1, &0u16.to_be_bytes()))
}

/// Builds a Peer Up with the OPEN messages of both sides.
pub fn peer_up(peer: &ReportedPeer) -> Vec<u8> {
    let local = Ipv4Addr::new(10, 255, 0, 1);
    let mut body = vec![0; 12];
    body.extend(local.octets());
    body.extend(179u16.to_be_bytes());
    body.extend(50_179u16.to_be_bytes());
    body.extend(bgp::open(65000, local));
    body.extend(bgp::open(peer.asn, peer.router_id));
    about(peer, PRE_POLICY, PEER_UP, &body)
}

/// Builds a Peer Down with reason 1 and the local system's NOTIFICATION.
pub fn peer_down(peer: &ReportedPeer) -> Vec<u8> {
    let mut body = vec![1];
    body.extend(bgp::notification());
    about(peer, PRE_POLICY, PEER_DOWN, &body)
}

/// Builds a Route Monitoring message with one UPDATE.
pub fn route_monitoring(peer: &ReportedPeer, flags: u8, update: &[u8]) -> Vec<u8> {
    about(peer, flags, ROUTE_MONITORING, update)
}

/// Builds a Statistics Report with counter 7, the number of routes in Adj-RIB-In.
pub fn statistics_report(peer: &ReportedPeer, routes: u64) -> Vec<u8> {
    let mut body = 1u32.to_be_bytes().to_vec();
    body.extend(tlv(7, &routes.to_be_bytes()));
    about(peer, PRE_POLICY, STATISTICS_REPORT, &body)
}

/// Builds Route Monitoring messages that announce `routes` of `peer`, `per_message` in each.
pub fn announcements(peer: &ReportedPeer, routes: &[Ipv4Prefix], per_message: usize) -> Vec<Vec<u8>> {
    routes
        .chunks(per_message)
        .map(|routes| route_monitoring(peer, PRE_POLICY, &bgp::announce(routes, peer.asn, peer.address)))
        .collect()
}

/// One received message, with its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedFrame(pub Bytes);

impl ReceivedFrame {
    /// Returns the message type.
    pub fn kind(&self) -> u8 {
        self.0.get(5).copied().unwrap_or(u8::MAX)
    }

    /// Returns the peer's address in the per-peer header, if there is one.
    pub fn peer(&self) -> Option<IpAddr> {
        if matches!(self.kind(), INITIATION | TERMINATION) {
            return None;
        }
        let header = self.0.get(HEADER..HEADER + PEER_HEADER)?;
        let address: [u8; 16] = header[10..26].try_into().ok()?;
        let is_ipv6 = header[1] & 0x80 != 0;
        Some(if is_ipv6 { address.into() } else { [address[12], address[13], address[14], address[15]].into() })
    }

    /// Returns the peer type in the per-peer header, if there is one.
    pub fn peer_type(&self) -> Option<u8> {
        self.peer()?;
        self.0.get(HEADER).copied()
    }

    /// Returns the flags of the per-peer header, if there is one.
    pub fn peer_flags(&self) -> Option<u8> {
        self.peer()?;
        self.0.get(HEADER + 1).copied()
    }

    /// Returns the texts of type String (0) in an Initiation (RFC 7854 §4.4).
    pub fn initiation_texts(&self) -> Vec<String> {
        self.initiation_tlvs(0)
    }

    /// Returns sysName (2) of an Initiation.
    pub fn sys_name(&self) -> Option<String> {
        self.initiation_tlvs(2).pop()
    }

    /// Returns the values of one type in an Initiation.
    fn initiation_tlvs(&self, wanted: u16) -> Vec<String> {
        let mut rest = if self.kind() == INITIATION { self.body() } else { &[] };
        let mut texts = Vec::new();
        while let [kind, kind_low, length, length_low, behind @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*length, *length_low])).min(behind.len());
            let (value, next) = behind.split_at(length);
            if u16::from_be_bytes([*kind, *kind_low]) == wanted {
                texts.push(String::from_utf8_lossy(value).into_owned());
            }
            rest = next;
        }
        texts
    }

    /// Returns the bytes after the common header and, if present, the per-peer header.
    pub fn body(&self) -> &[u8] {
        let headers = if self.peer().is_some() { HEADER + PEER_HEADER } else { HEADER };
        self.0.get(headers..).unwrap_or_default()
    }

    /// Reads the UPDATE of a Route Monitoring message.
    pub fn update(&self) -> Option<bgp::Ipv4Update> {
        (self.kind() == ROUTE_MONITORING).then(|| bgp::read_update(self.body()))?
    }
}

/// Moves complete messages from the front of `stream` to `frames`.
///
/// # Errors
/// What is wrong with the first message that is not BMP.
pub fn split(stream: &mut BytesMut, frames: &mut Vec<ReceivedFrame>) -> Result<(), String> {
    while let Some(header) = stream.first_chunk::<HEADER>() {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if header[0] != 3 {
            return Err(format!("version {} after {} messages", header[0], frames.len()));
        }
        if !(HEADER..=LONGEST).contains(&length) {
            return Err(format!("length {length} after {} messages", frames.len()));
        }
        if stream.remaining() < length {
            break;
        }
        frames.push(ReceivedFrame(stream.split_to(length).freeze()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_complete_wherever_the_stream_is_cut() {
        let peer = ReportedPeer::default();
        let sent = [initiation("edge"), peer_up(&peer), peer_down(&peer), termination()];
        let whole = sent.concat();
        for cut in 0..whole.len() {
            let (mut stream, mut frames) = (BytesMut::from(&whole[..cut]), Vec::new());
            split(&mut stream, &mut frames).unwrap();
            stream.extend_from_slice(&whole[cut..]);
            split(&mut stream, &mut frames).unwrap();
            assert!(stream.is_empty());
            assert_eq!(frames.iter().map(|frame| frame.0.to_vec()).collect::<Vec<_>>(), sent);
        }
    }

    #[test]
    fn a_stream_that_is_not_bmp_is_an_error() {
        for bytes in
            [&b"GET / HTTP/1.1\r\n"[..], &[4, 0, 0, 0, 6, 4], &[3, 0, 0, 0, 0, 4], &[3, 0x7f, 255, 255, 255, 4]]
        {
            assert!(split(&mut BytesMut::from(bytes), &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn announced_routes_are_read_back_from_their_messages() {
        let (peer, routes) = (ReportedPeer::default(), bgp::prefixes(10));
        for (i, message) in announcements(&peer, &routes, 3).into_iter().enumerate() {
            let frame = ReceivedFrame(message.into());
            assert_eq!(frame.peer(), Some(IpAddr::V4(peer.address)));
            assert_eq!(frame.update().unwrap().announced, routes[i * 3..(i * 3 + 3).min(10)]);
        }
    }
}
