//! BMP for tests: written here, or captured from routers.

use std::{fs, path::Path};

use bytes::{BufMut, BytesMut};

use super::{MessageType, PeerType};

/// A frame with the right length.
pub(crate) fn frame(code: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![super::VERSION];
    out.put_u32(u32::try_from(super::COMMON_HEADER + body.len()).unwrap());
    out.put_u8(code);
    out.extend_from_slice(body);
    out
}

/// A per-peer header for peer number `peer`, of AS 65001, at 192.0.2.`peer`.
pub(crate) fn peer_header(peer: u8, peer_type: PeerType, flags: u8) -> Vec<u8> {
    let mut out = vec![peer_type.0, flags];
    out.put_bytes(0, 8);
    if peer_type == PeerType::LOC_RIB {
        out.put_bytes(0, 16);
    } else {
        out.put_bytes(0, 12);
        out.put_slice(&[192, 0, 2, peer]);
    }
    out.put_u32(65001);
    out.put_slice(&[192, 0, 2, peer]);
    out.put_u32(1_700_000_000);
    out.put_u32(250_000);
    out
}

/// A BGP message with the right length.
pub(crate) fn bgp(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xff; 16];
    out.put_u16(u16::try_from(19 + body.len()).unwrap());
    out.put_u8(kind);
    out.extend_from_slice(body);
    out
}

/// The shortest OPEN.
pub(crate) fn open() -> Vec<u8> {
    bgp(1, &[4, 0xfd, 0xe9, 0, 180, 192, 0, 2, 1, 0])
}

/// A Peer Up with these TLVs; `port` makes one differ from another.
pub(crate) fn peer_up_of(header: &[u8], port: u16, tlvs: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = header.to_vec();
    body.put_bytes(0, 12);
    body.put_slice(&[192, 0, 2, 254]);
    body.put_u16(port);
    body.put_u16(179);
    body.extend(open());
    body.extend(open());
    for (kind, value) in tlvs {
        body.put_u16(*kind);
        body.put_u16(u16::try_from(value.len()).unwrap());
        body.put_slice(value);
    }
    frame(MessageType::PeerUp.code(), &body)
}

/// A Peer Up of global peer number `peer`.
pub(crate) fn peer_up(peer: u8, port: u16) -> Vec<u8> {
    peer_up_of(&peer_header(peer, PeerType::GLOBAL, 0), port, &[])
}

/// A Peer Down of global peer number `peer`.
pub(crate) fn peer_down(peer: u8) -> Vec<u8> {
    let mut body = peer_header(peer, PeerType::GLOBAL, 0);
    body.push(4);
    frame(MessageType::PeerDown.code(), &body)
}

/// A Route Monitoring of global peer number `peer` whose UPDATE withdraws nothing and is padded to
/// `padding` bytes more.
pub(crate) fn route(peer: u8, padding: usize) -> Vec<u8> {
    let mut update = vec![0; 4];
    update.put_bytes(0xaa, padding);
    let mut body = peer_header(peer, PeerType::GLOBAL, 0);
    body.extend(bgp(2, &update));
    frame(MessageType::RouteMonitoring.code(), &body)
}

/// An Initiation.
pub(crate) fn initiation() -> Vec<u8> {
    let mut out = BytesMut::new();
    super::build::initiation(&mut out, "a test daemon", "r1.example.net", None);
    out.to_vec()
}

/// The captured streams: file names and contents. None, with a line on stderr, where there are no
/// captures.
#[expect(clippy::print_stderr, reason = "a test that could not look at the real data has to say so")]
pub(crate) fn captures() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/bmp"));
    let Ok(files) = fs::read_dir(folder) else {
        eprintln!("skipped: no captures in {}", folder.display());
        return Vec::new();
    };
    let mut captures: Vec<_> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bmp"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    captures.sort();
    captures
}

/// The captured streams of version 3.
pub(crate) fn captures_v3() -> Vec<(String, Vec<u8>)> {
    captures().into_iter().filter(|(_, stream)| stream.first() == Some(&super::VERSION)).collect()
}
