//! MRT for tests: written here, or real files.

use std::{
    fs,
    io::Read,
    net::IpAddr,
    path::{Path, PathBuf},
};

use bytes::BufMut;

/// A record with the right length.
pub(crate) fn record(seconds: u32, kind: u16, subtype: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u32(seconds);
    out.put_u16(kind);
    out.put_u16(subtype);
    out.put_u32(u32::try_from(body.len()).unwrap());
    out.put_slice(body);
    out
}

/// The bytes of an address.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The start of a BGP4MP record: AS numbers, interface 0, addresses.
pub(crate) fn session(as4: bool, peer: (u32, &str), local: (u32, &str)) -> Vec<u8> {
    let mut out = Vec::new();
    for asn in [peer.0, local.0] {
        if as4 { out.put_u32(asn) } else { out.put_u16(asn.try_into().unwrap()) }
    }
    out.put_u16(0);
    let addresses: [IpAddr; 2] = [peer.1.parse().unwrap(), local.1.parse().unwrap()];
    out.put_u16(if addresses[0].is_ipv6() { 2 } else { 1 });
    addresses.into_iter().for_each(|address| out.extend(octets(address)));
    out
}

/// A PEER_INDEX_TABLE of collector 192.0.2.254: BGP identifier, address and AS of each peer.
pub(crate) fn peer_index_table(seconds: u32, view: &str, peers: &[([u8; 4], &str, u32)]) -> Vec<u8> {
    let mut body = vec![192, 0, 2, 254];
    body.put_u16(view.len().try_into().unwrap());
    body.put_slice(view.as_bytes());
    body.put_u16(peers.len().try_into().unwrap());
    for (id, address, asn) in peers {
        let address: IpAddr = address.parse().unwrap();
        let as4 = *asn > 0xffff;
        body.put_u8(u8::from(address.is_ipv6()) | u8::from(as4) << 1);
        body.put_slice(id);
        body.extend(octets(address));
        if as4 { body.put_u32(*asn) } else { body.put_u16((*asn).try_into().unwrap()) }
    }
    record(seconds, 13, 1, &body)
}

/// A route in a RIB record.
pub(crate) struct RibEntrySample<'a> {
    pub(crate) peer: u16,
    pub(crate) originated: u32,
    pub(crate) path_id: Option<u32>,
    pub(crate) attributes: &'a [u8],
}

/// Entries of a RIB record, with their number.
pub(crate) fn entries(entries: &[RibEntrySample<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u16(entries.len().try_into().unwrap());
    for entry in entries {
        out.put_u16(entry.peer);
        out.put_u32(entry.originated);
        entry.path_id.into_iter().for_each(|id| out.put_u32(id));
        out.put_u16(entry.attributes.len().try_into().unwrap());
        out.put_slice(entry.attributes);
    }
    out
}

/// A RIB record of a family that has a subtype of its own.
pub(crate) fn rib(seconds: u32, subtype: u16, sequence: u32, nlri: &[u8], routes: &[RibEntrySample<'_>]) -> Vec<u8> {
    record(seconds, 13, subtype, &[&sequence.to_be_bytes(), nlri, &entries(routes)].concat())
}

/// ORIGIN IGP, an AS_PATH of one 4-octet number, and NEXT_HOP 192.0.2.1.
pub(crate) fn ipv4_attributes(asn: u32) -> Vec<u8> {
    let mut out = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
    out.put_u32(asn);
    out.put_slice(&[0x40, 3, 4, 192, 0, 2, 1]);
    out
}

/// ORIGIN IGP, an AS_PATH of one 4-octet number, and MP_REACH_NLRI with next hop 2001:db8::1 in its
/// short form.
pub(crate) fn ipv6_attributes(asn: u32) -> Vec<u8> {
    let mut out = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
    out.put_u32(asn);
    out.put_slice(&[0x80, 14, 17, 16, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    out
}

/// The real files. None, with a line on stderr, where there are none.
#[expect(clippy::print_stderr, reason = "a test that could not look at the real data has to say so")]
pub(crate) fn real_files() -> Vec<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/mrt"));
    let Ok(files) = fs::read_dir(folder) else {
        eprintln!("skipped: no MRT files in {}", folder.display());
        return Vec::new();
    };
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// The content of a gzipped file.
pub(crate) fn unpacked(path: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut out).unwrap();
    out
}
