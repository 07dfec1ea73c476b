//! Headers of HAProxy's specification, whole, in pieces and damaged.

use super::*;

/// Reads a header from pieces of `size` bytes. Returns it, and the bytes that it has.
fn read(bytes: &[u8], size: usize) -> Result<Option<(ProxyHeader, usize)>, String> {
    let mut reader = ProxyHeaderReader::default();
    let mut used = 0;
    while used < bytes.len() {
        let piece = &bytes[used..bytes.len().min(used + size)];
        let taken = reader.take(piece).map_err(|error| error.to_string())?;
        used += taken.used;
        assert_eq!(reader.bytes_read(), used);
        if let Some(header) = taken.header {
            return Ok(Some((header, used)));
        }
        assert_eq!(taken.used, piece.len(), "a header that is not whole takes all bytes");
    }
    Ok(None)
}

fn binary(command: u8, transport: u8, length: u16, rest: &[u8]) -> Vec<u8> {
    [BINARY_SIGNATURE, &[command, transport], &length.to_be_bytes(), rest].concat()
}

const IPV4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0x12, 0x34, 0x13, 0x88];

fn ipv6(source: &str) -> Vec<u8> {
    let source: Ipv6Addr = source.parse().unwrap();
    [&source.octets()[..], &Ipv6Addr::LOCALHOST.octets(), &[0, 7, 0, 8]].concat()
}

fn client(text: &str) -> ProxyHeader {
    ProxyHeader::Client(text.parse().unwrap())
}

#[test]
fn what_is_written_is_read_back() {
    let destination = "[2001:db8::7]:5000".parse().unwrap();
    for source in ["192.0.2.1:4660", "[2001:db8::1]:179"] {
        let header = proxy_header(Some(ProxiedConnection { source: source.parse().unwrap(), destination }));
        assert_eq!(read(&header, 7), Ok(Some((client(source), header.len()))));
    }
    let own = proxy_header(None);
    assert_eq!(read(&own, 100), Ok(Some((ProxyHeader::Own, own.len()))));
}

fn good_headers() -> Vec<(Vec<u8>, ProxyHeader)> {
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(MAX_PROXY_LINE - 16));
    let lines = [
        ("PROXY TCP4 192.0.2.1 198.51.100.7 4660 5000\r\n", client("192.0.2.1:4660")),
        ("PROXY TCP4 255.255.255.254 255.255.255.255 65535 0\r\n", client("255.255.255.254:65535")),
        ("PROXY TCP6 2001:db8::1 2001:db8::2 0 1\r\n", client("[2001:db8::1]:0")),
        ("PROXY TCP6 ::ffff:192.0.2.9 ::1 9 1\r\n", client("192.0.2.9:9")),
        ("PROXY UNKNOWN\r\n", ProxyHeader::Own),
        ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ProxyHeader::Own),
        (&longest, ProxyHeader::Own),
    ];
    let binary = [
        (binary(0x21, 0x11, 12, &IPV4), client("192.0.2.1:4660")),
        (binary(0x21, 0x11, 12 + 300, &[&IPV4[..], &[4; 300]].concat()), client("192.0.2.1:4660")),
        (binary(0x21, 0x11, u16::MAX, &[&IPV4[..], &[4; 65_523]].concat()), client("192.0.2.1:4660")),
        (binary(0x21, 0x21, 36, &ipv6("2001:db8::1")), client("[2001:db8::1]:7")),
        (binary(0x21, 0x21, 36, &ipv6("::ffff:192.0.2.1")), client("192.0.2.1:7")),
        (binary(0x20, 0, 0, &[]), ProxyHeader::Own),
        (binary(0x20, 0x11, 12, &IPV4), ProxyHeader::Own),
        (binary(0x20, 0xff, 3, &[1, 2, 3]), ProxyHeader::Own),
        (binary(0x21, 0, 5, &[0; 5]), ProxyHeader::Own),
    ];
    lines.map(|(line, header)| (line.as_bytes().to_vec(), header)).into_iter().chain(binary).collect()
}

#[test]
fn headers_are_read_whatever_their_pieces_and_what_follows_is_left() {
    for (bytes, header) in good_headers() {
        let followed = [&bytes[..], b"\x03\0\0\0\x06\x04"].concat();
        for size in [1, 2, 7, 16, 107, 4096, usize::MAX >> 1] {
            assert_eq!(read(&followed, size), Ok(Some((header, bytes.len()))), "{bytes:?} by {size}");
        }
    }
}

#[test]
fn a_header_that_is_cut_anywhere_is_not_whole_and_no_error() {
    for (bytes, _) in good_headers() {
        for end in (0..bytes.len()).filter(|end| *end < 200 || end % 997 == 0) {
            assert_eq!(read(&bytes[..end], 64), Ok(None), "{end} of {bytes:?}");
        }
    }
}

#[test]
fn a_damaged_header_is_refused_with_its_place() {
    let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(MAX_PROXY_LINE - 15));
    let lines = [
        ("\x03\0\0\0\x06\x04", "at byte 0: expected a PROXY header, found 3, as BMP begins"),
        ("\x16\x03\x01", "at byte 0: expected a PROXY header, found 22, as TLS begins"),
        ("GET / HTTP/1.1", "at byte 0: expected a PROXY header, found 71: set the proxy"),
        ("PROXZ", "at byte 4: expected a PROXY header, found 90"),
        ("\r\n\r\n\0\r\nQUIX", "at byte 10: expected a PROXY header, found 88"),
        ("PROXY \r\n", "at byte 6: expected TCP4, TCP6 or UNKNOWN in the PROXY line"),
        ("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", "at byte 6: expected TCP4, TCP6 or UNKNOWN"),
        ("PROXY UNKNOWNS\r\n", "at byte 6: expected TCP4, TCP6 or UNKNOWN"),
        ("PROXY TCP4\r\n", "at byte 10: expected an IPv4 address"),
        ("PROXY TCP4 192.0.2.300 1.2.3.4 1 2\r\n", "at byte 11: expected an IPv4 address"),
        ("PROXY TCP4 192.0.02.3 1.2.3.4 1 2\r\n", "at byte 11: expected an IPv4 address"),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", "at byte 11: expected an IPv4 address"),
        ("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", "at byte 11: expected an IPv6 address"),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "at byte 11: expected an IPv6 address"),
        ("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", "at byte 11: expected an IPv4 address"),
        ("PROXY TCP4 1.2.3.4 1.2.3.\u{e9} 1 2\r\n", "at byte 19: expected an IPv4 address"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", "at byte 27: expected a port"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", "at byte 27: expected a port"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", "at byte 27: expected a port"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "at byte 28: expected a port"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", "at byte 31: expected CR LF"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", "at byte 31: expected CR LF"),
        ("PROXY TCP4 224.0.0.1 1.2.3.4 1 2\r\n", "at byte 11: expected the address of a host in the PROXY header"),
        ("PROXY TCP4 0.0.0.0 1.2.3.4 1 2\r\n", "expected the address of a host in the PROXY header, found 0.0.0.0"),
        ("PROXY TCP6 ff02::1 ::1 1 2\r\n", "expected the address of a host in the PROXY header, found ff02::1"),
        (&long, "at byte 107: expected the end of the PROXY line within 107 bytes"),
    ];
    let binary = [
        (binary(0x11, 0x11, 12, &IPV4), "at byte 12: expected PROXY version 2 with the command LOCAL or PROXY"),
        (binary(0x22, 0x11, 12, &IPV4), "at byte 12: expected PROXY version 2"),
        (binary(0x21, 0x12, 12, &IPV4), "at byte 13: expected TCP over IPv4 or IPv6 (17 or 33) in the PROXY header"),
        (binary(0x21, 0x31, 216, &[]), "at byte 13: expected TCP over IPv4 or IPv6"),
        (
            binary(0x21, 0x11, 11, &[]),
            "at byte 14: expected a PROXY header with 12 bytes of addresses, found a length of",
        ),
        (binary(0x21, 0x21, 35, &[]), "at byte 14: expected a PROXY header with 36 bytes of addresses"),
        (binary(0x21, 0x11, 12, &[0; 12]), "at byte 16: expected the address of a host in the PROXY header"),
        (binary(0x21, 0x21, 36, &ipv6("::ffff:255.255.255.255")), "found 255.255.255.255"),
    ];
    let lines = lines.map(|(line, why)| (line.as_bytes().to_vec(), why));
    for (bytes, why) in lines.into_iter().chain(binary) {
        for size in [1, 4096] {
            let error = read(&bytes, size).expect_err(why);
            assert!(error.contains(why), "{error} is not: {why}");
        }
    }
}

#[test]
fn a_begin_of_a_header_is_known_by_its_signature() {
    assert!(begins_with_proxy_header(b"PROXY TCP4"));
    assert!(begins_with_proxy_header(&binary(0x20, 0, 0, &[])));
    assert!(!begins_with_proxy_header(b"PROXY") && !begins_with_proxy_header(b"\r\n\r\n"));
}
