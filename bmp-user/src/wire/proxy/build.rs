//! Writes the header of the PROXY protocol, version 2 (proxy-protocol.txt of HAProxy, section 2.2).
//!
//! The end that connects sends the header as the first bytes of a connection. It says on whose
//! behalf the connection is made.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};

use super::BINARY_SIGNATURE;

/// Version 2, and the command LOCAL: the connection is the sender's own.
const LOCAL: u8 = 0x20;
/// Version 2, and the command PROXY: the connection is on behalf of another host.
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// The two ends of the connection that another one stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxiedConnection {
    /// The end that connected.
    pub source: SocketAddr,
    /// The end that it connected to.
    pub destination: SocketAddr,
}

/// Returns a header: of a connection that stands for another one, or of the sender's own.
///
/// IPv4 addresses in IPv6 form count as IPv4. If only one end is IPv4, it is written in IPv6 form
/// (RFC 4291 §2.5.5.2).
pub fn proxy_header(connection: Option<ProxiedConnection>) -> Bytes {
    let mut header = BytesMut::from(BINARY_SIGNATURE);
    let Some(ProxiedConnection { source, destination }) = connection else {
        header.put_slice(&[LOCAL, UNSPECIFIED, 0, 0]);
        return header.freeze();
    };
    header.put_u8(PROXY);
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.put_u8(TCP_OVER_IPV4);
            header.put_u16(12);
            header.put_slice(&from.octets());
            header.put_slice(&to.octets());
        }
        (from, to) => {
            header.put_u8(TCP_OVER_IPV6);
            header.put_u16(36);
            header.put_slice(&in_ipv6(from).octets());
            header.put_slice(&in_ipv6(to).octets());
        }
    }
    header.put_u16(source.port());
    header.put_u16(destination.port());
    header.freeze()
}

fn in_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(source: &str, destination: &str) -> Bytes {
        proxy_header(Some(ProxiedConnection {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }))
    }

    #[test]
    fn a_header_has_the_bytes_of_the_specification() {
        let ipv4 = header("192.0.2.1:4660", "198.51.100.7:5000");
        assert_eq!(ipv4[..12], [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
        let rest = [0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 7, 0x12, 0x34, 0x13, 0x88];
        assert_eq!(ipv4[12..], rest);
        assert_eq!(header("[::ffff:192.0.2.1]:4660", "[::ffff:198.51.100.7]:5000"), ipv4);
        let ipv6 = header("[2001:db8::1]:1", "[2001:db8::2]:2");
        assert_eq!((ipv6.len(), &ipv6[12..16]), (52, &[0x21, 0x21, 0, 36][..]));
        assert_eq!((ipv6[31], ipv6[47], &ipv6[48..]), (1, 2, &[0, 1, 0, 2][..]));
        let mixed = header("192.0.2.1:1", "[2001:db8::2]:2");
        assert_eq!(mixed[16..32], "192.0.2.1".parse::<std::net::Ipv4Addr>().unwrap().to_ipv6_mapped().octets());
    }

    #[test]
    fn the_header_of_an_own_connection_has_no_addresses() {
        assert_eq!(proxy_header(None)[12..], [0x20, 0, 0, 0]);
    }
}
