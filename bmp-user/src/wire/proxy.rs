//! Reads the header of the PROXY protocol, versions 1 and 2 (proxy-protocol.txt of HAProxy).
//! `build` writes one of version 2.
//!
//! A proxy sends the header as the first bytes of a connection. It names the client that the
//! connection is for. The header may arrive in any pieces. A reader holds at most the 107 bytes of
//! a version 1 header, and skips what follows the addresses of a version 2 header.

mod build;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

pub use build::{ProxiedConnection, proxy_header};

use super::error::At;

/// The longest header of version 1 in bytes, with CR LF (§2.1).
pub const MAX_PROXY_LINE: usize = 107;

const LINE_SIGNATURE: &[u8] = b"PROXY ";
const BINARY_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The bytes of a version 2 header before its addresses.
const BINARY_START: usize = 16;

/// What a header says about the connection behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The connection is for this client. An IPv4-mapped address is an IPv4 address here.
    Client(SocketAddr),
    /// The connection is the proxy's own: LOCAL, UNKNOWN, or an unspecified family.
    Own,
}

/// An error in a header, and where it is.
pub type ProxyHeaderError = At<ProxyHeaderProblem>;

/// What was expected in a header, and what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderProblem {
    /// The bytes begin no header.
    #[error("expected a PROXY header, found {found}{hint}", found = .0, hint = protocol_hint(*.0))]
    Signature(u8),
    /// A field of a version 1 header.
    #[error("expected {0} in the PROXY line")]
    Field(&'static str),
    /// A version 1 header without an end.
    #[error("expected the end of the PROXY line within {MAX_PROXY_LINE} bytes")]
    LineLength,
    /// The version and command of a version 2 header.
    #[error("expected PROXY version 2 with the command LOCAL or PROXY (32 or 33), found {0}")]
    Command(u8),
    /// The family and protocol of a version 2 header.
    #[error("expected TCP over IPv4 or IPv6 (17 or 33) in the PROXY header, found {0}")]
    Transport(u8),
    /// The length of a version 2 header.
    #[error("expected a PROXY header with {need} bytes of addresses, found a length of {found}")]
    Length {
        /// The bytes of the family's addresses and ports.
        need: u16,
        /// The length that the header has.
        found: u16,
    },
    /// A client that is no host.
    #[error("expected the address of a host in the PROXY header, found {0}")]
    Host(IpAddr),
}

fn protocol_hint(found: u8) -> &'static str {
    match found {
        3 => ", as BMP begins: set the proxy to send PROXY headers",
        22 => ", as TLS begins: set the proxy to send PROXY headers, in front of TLS",
        _ => ": set the proxy to send PROXY headers",
    }
}

/// Decides whether bytes begin with a header of either version.
pub fn begins_with_proxy_header(bytes: &[u8]) -> bool {
    bytes.starts_with(LINE_SIGNATURE) || bytes.starts_with(BINARY_SIGNATURE)
}

/// Reads one header from the pieces that it arrives in.
#[derive(Debug, Default)]
pub struct ProxyHeaderReader {
    /// The bytes so far, without those that were skipped.
    held: Vec<u8>,
    /// Bytes that are still to be skipped, once `header` is known.
    to_skip: usize,
    skipped: usize,
    header: Option<ProxyHeader>,
}

/// What a reader took of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenProxyHeader {
    /// The bytes that belong to the header. What follows them belongs to the client.
    pub used: usize,
    /// The header, if it is whole.
    pub header: Option<ProxyHeader>,
}

/// What the first bytes of a version 2 header announce.
#[derive(Clone, Copy)]
struct BinaryStart {
    transport: BinaryTransport,
    length: u16,
}

#[derive(Clone, Copy)]
enum BinaryTransport {
    /// No addresses that count.
    None,
    Ipv4,
    Ipv6,
}

impl BinaryTransport {
    fn address_bytes(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Ipv4 => 12,
            Self::Ipv6 => 36,
        }
    }
}

impl ProxyHeaderReader {
    /// Returns how many bytes of the header have been read.
    pub fn bytes_read(&self) -> usize {
        self.held.len() + self.skipped
    }

    /// Takes the next piece. Do not call it again once the header is whole.
    ///
    /// # Errors
    ///
    /// The bytes are no header, or one that names no client. Offsets are from its first byte.
    pub fn take(&mut self, piece: &[u8]) -> Result<TakenProxyHeader, ProxyHeaderError> {
        let mut used = 0;
        while self.header.is_none() {
            let Some(byte) = piece.get(used) else { return Ok(TakenProxyHeader { used, header: None }) };
            self.held.push(*byte);
            used += 1;
            self.look()?;
        }
        let skipped = self.to_skip.min(piece.len() - used);
        (self.to_skip, self.skipped) = (self.to_skip - skipped, self.skipped + skipped);
        Ok(TakenProxyHeader { used: used + skipped, header: self.header.filter(|_| self.to_skip == 0) })
    }

    /// Looks what the last byte means.
    fn look(&mut self) -> Result<(), ProxyHeaderError> {
        let is_begin = |signature: &[u8]| signature.iter().zip(&self.held).all(|(expected, found)| expected == found);
        if is_begin(LINE_SIGNATURE) {
            self.header = self.look_at_line()?;
        } else if is_begin(BINARY_SIGNATURE) {
            self.look_at_binary()?;
        } else {
            let at = self.held.len() - 1;
            return Err(At::new(at, ProxyHeaderProblem::Signature(self.held[at])));
        }
        Ok(())
    }

    fn look_at_line(&self) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
        match self.held.strip_suffix(b"\r\n") {
            Some(line) => parse_line(line).map(Some),
            None if self.held.len() < MAX_PROXY_LINE => Ok(None),
            None => Err(At::new(MAX_PROXY_LINE, ProxyHeaderProblem::LineLength)),
        }
    }

    fn look_at_binary(&mut self) -> Result<(), ProxyHeaderError> {
        if self.held.len() < BINARY_START {
            return Ok(());
        }
        let BinaryStart { transport, length } = parse_start(&self.held)?;
        let addresses = &self.held[BINARY_START..];
        if addresses.len() < usize::from(transport.address_bytes()) {
            return Ok(());
        }
        let client = match transport {
            BinaryTransport::None => None,
            BinaryTransport::Ipv4 => client_of::<4>(addresses),
            BinaryTransport::Ipv6 => client_of::<16>(addresses),
        };
        let header = client.map_or(Ok(ProxyHeader::Own), |client| named(client, BINARY_START))?;
        (self.header, self.to_skip) = (Some(header), usize::from(length - transport.address_bytes()));
        Ok(())
    }
}

/// Parses the first 16 bytes of a version 2 header (§2.2).
fn parse_start(held: &[u8]) -> Result<BinaryStart, ProxyHeaderError> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    let (command, transport) = (held[12], held[13]);
    let length = u16::from_be_bytes([held[14], held[15]]);
    let transport = match (command, transport) {
        (LOCAL, _) | (PROXY, 0x00) => BinaryTransport::None,
        (PROXY, 0x11) => BinaryTransport::Ipv4,
        (PROXY, 0x21) => BinaryTransport::Ipv6,
        (PROXY, other) => return Err(At::new(13, ProxyHeaderProblem::Transport(other))),
        (other, _) => return Err(At::new(12, ProxyHeaderProblem::Command(other))),
    };
    let need = transport.address_bytes();
    match length < need {
        true => Err(At::new(14, ProxyHeaderProblem::Length { need, found: length })),
        false => Ok(BinaryStart { transport, length }),
    }
}

/// Reads the source of two addresses of `N` bytes and the two ports behind them.
fn client_of<const N: usize>(addresses: &[u8]) -> Option<SocketAddr>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = addresses.split_first_chunk::<N>()?;
    let port = rest.get(N..)?.first_chunk()?;
    Some(SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*port)))
}

/// Parses a version 1 header without its CR LF (§2.1).
fn parse_line(line: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let fields = &line[LINE_SIGNATURE.len().min(line.len())..];
    let mut fields = LineFields { rest: Some(fields), at: LINE_SIGNATURE.len() };
    match fields.next() {
        b"UNKNOWN" => Ok(ProxyHeader::Own),
        b"TCP4" => parse_ends::<Ipv4Addr>(&mut fields, "an IPv4 address"),
        b"TCP6" => parse_ends::<Ipv6Addr>(&mut fields, "an IPv6 address"),
        _ => Err(At::new(LINE_SIGNATURE.len(), ProxyHeaderProblem::Field("TCP4, TCP6 or UNKNOWN"))),
    }
}

/// Parses the two addresses and the two ports.
fn parse_ends<A: FromStr + Into<IpAddr>>(
    fields: &mut LineFields<'_>,
    address: &'static str,
) -> Result<ProxyHeader, ProxyHeaderError> {
    let at = fields.at;
    let source: A = fields.parse(address)?;
    let _destination: A = fields.parse(address)?;
    let [port, _] = [fields.port()?, fields.port()?];
    match fields.rest {
        Some(_) => Err(At::new(fields.at, ProxyHeaderProblem::Field("CR LF"))),
        None => named(SocketAddr::new(source.into(), port), at),
    }
}

/// Returns the header of a client whose address is at an offset.
fn named(client: SocketAddr, at: usize) -> Result<ProxyHeader, ProxyHeaderError> {
    let address = client.ip().to_canonical();
    let is_no_host = match address {
        IpAddr::V4(v4) => v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    };
    match is_no_host {
        true => Err(At::new(at, ProxyHeaderProblem::Host(address))),
        false => Ok(ProxyHeader::Client(SocketAddr::new(address, client.port()))),
    }
}

/// The fields of a line, with one blank between two.
struct LineFields<'a> {
    /// The bytes from the next field on; `None` behind the last one.
    rest: Option<&'a [u8]>,
    /// The offset of the next field.
    at: usize,
}

impl<'a> LineFields<'a> {
    /// Takes the next field, which is empty if there is none.
    fn next(&mut self) -> &'a [u8] {
        let rest = self.rest.unwrap_or_default();
        let (field, behind) = match rest.iter().position(|byte| *byte == b' ') {
            Some(blank) => (&rest[..blank], rest.get(blank + 1..)),
            None => (rest, None),
        };
        (self.rest, self.at) = (behind, self.at + field.len() + usize::from(behind.is_some()));
        field
    }

    fn parse<T: FromStr>(&mut self, what: &'static str) -> Result<T, ProxyHeaderError> {
        let at = self.at;
        let parsed = std::str::from_utf8(self.next()).ok().and_then(|field| field.parse().ok());
        parsed.ok_or_else(|| At::new(at, ProxyHeaderProblem::Field(what)))
    }

    /// Takes a port: digits without a sign and without leading zeros.
    fn port(&mut self) -> Result<u16, ProxyHeaderError> {
        let (at, rest) = (self.at, self.rest.unwrap_or_default());
        let is_plain = rest.first().is_some_and(u8::is_ascii_digit) && !rest.starts_with(b"0");
        let is_zero = rest == b"0" || rest.starts_with(b"0 ");
        let port = self.parse("a port");
        port.and_then(|port| {
            (is_plain || is_zero).then_some(port).ok_or_else(|| At::new(at, ProxyHeaderProblem::Field("a port")))
        })
    }
}

#[cfg(test)]
mod tests;
