//! The PROXY header in front of BMP, or of TLS.

use std::{fmt, io, net::SocketAddr, time::Duration};

use tokio::{io::AsyncReadExt, net::TcpStream, sync::mpsc, time::timeout};

use super::{client::RelayProxy, signing::AcceptedKeys};
use crate::{
    visitors::Visitor,
    wire::proxy::{ProxyHeader, ProxyHeaderError, ProxyHeaderReader},
};

/// How long a proxy may take for its header. The specification asks for at least 3 s, in which TCP
/// sends a lost packet again (proxy-protocol.txt §2).
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Bytes that are looked at together. What belongs to the client stays in the socket.
const LOOK: usize = 4096;

/// A connection of a proxy whose header has not been read yet.
pub(super) struct ProxyArrival {
    pub(super) stream: TcpStream,
    pub(super) proxy: RelayProxy,
    /// The keys of the TCP connection, which is the proxy's.
    pub(super) keys: Option<AcceptedKeys>,
    /// Its place among the connections while it has no client.
    pub(super) visitor: Visitor,
}

/// A connection of a proxy whose header has come, or will not come.
pub(super) struct ProxyOutcome {
    pub(super) arrival: ProxyArrival,
    pub(super) header: Result<SocketAddr, NoProxiedClient>,
}

/// Why a connection of a proxy has no client.
#[derive(Debug)]
pub(super) enum NoProxiedClient {
    /// The proxy looks whether the relay is there. The header says so, or names the proxy's own end
    /// as those of HAProxy's checks do, or nothing was sent.
    HealthCheck,
    /// The stream ended inside the header.
    Cut(usize),
    /// The header is not whole in time.
    Late(usize),
    Invalid(ProxyHeaderError),
    /// The connection broke.
    Broken(io::Error),
}

impl ProxyArrival {
    /// Reads the header, and hands the connection on. Takes no more bytes than the header has.
    pub(super) async fn read(mut self, outcomes: mpsc::Sender<ProxyOutcome>) {
        let mut reader = ProxyHeaderReader::default();
        let header = match timeout(HEADER_TIME, read_header(&mut self.stream, &mut reader)).await {
            Ok(Ok(client)) if self.proxy.is_at(client) => Err(NoProxiedClient::HealthCheck),
            Ok(header) => header,
            Err(_) => Err(NoProxiedClient::Late(reader.bytes_read())),
        };
        // Without a receiver, the relay is gone.
        let _ = outcomes.send(ProxyOutcome { arrival: self, header }).await;
    }
}

async fn read_header(stream: &mut TcpStream, reader: &mut ProxyHeaderReader) -> Result<SocketAddr, NoProxiedClient> {
    let mut bytes = [0; LOOK];
    loop {
        let length = match stream.peek(&mut bytes).await {
            Ok(0) if reader.bytes_read() == 0 => return Err(NoProxiedClient::HealthCheck),
            Ok(0) => return Err(NoProxiedClient::Cut(reader.bytes_read())),
            Ok(length) => length,
            Err(_) if reader.bytes_read() == 0 => return Err(NoProxiedClient::HealthCheck),
            Err(error) => return Err(NoProxiedClient::Broken(error)),
        };
        let taken = reader.take(&bytes[..length]).map_err(NoProxiedClient::Invalid)?;
        // They are there already. So the next look finds other bytes, or waits.
        stream.read_exact(&mut bytes[..taken.used]).await.map_err(NoProxiedClient::Broken)?;
        match taken.header {
            Some(ProxyHeader::Client(client)) => return Ok(client),
            Some(ProxyHeader::Own) => return Err(NoProxiedClient::HealthCheck),
            None => {}
        }
    }
}

/// As in the log line.
impl fmt::Display for NoProxiedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HealthCheck => write!(f, "a health check of the proxy"),
            Self::Cut(bytes) => write!(f, "the stream ended {bytes} bytes into the PROXY header"),
            Self::Late(bytes) => {
                let seconds = HEADER_TIME.as_secs();
                write!(f, "{bytes} bytes of a PROXY header came within {seconds} s, and the header is not whole")
            }
            Self::Invalid(error) => write!(f, "{error}"),
            Self::Broken(error) => write!(f, "the connection broke inside the PROXY header: {error}"),
        }
    }
}
