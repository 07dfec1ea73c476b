//! One TCP connection with a peer: its received bytes, and its bytes to send.

use std::{fmt, future::poll_fn, io, net::SocketAddr, pin::pin, task::Poll, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::{fsm::OutgoingNotification, open::PeerOpen};
use crate::{
    tasks,
    wire::bgp::{self, MAX_MESSAGE, notification},
};

/// The size of the read buffer. The longest message (RFC 8654) is one byte shorter, so there is
/// always room to read.
const BLOCK: usize = 64 * 1024;
/// How long a peer may take to read a NOTIFICATION before the connection is closed.
const FAREWELL: Duration = Duration::from_secs(2);

/// A stream of bytes in both directions.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An open connection to a peer, without buffers.
pub(super) struct BgpSocket {
    pub(super) stream: Box<dyn Duplex>,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

impl fmt::Debug for BgpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BgpSocket({} to {})", self.local, self.remote)
    }
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionEnds {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// How a connection ended that this device did not close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionLoss {
    /// The peer closed or reset the connection.
    Closed,
    /// The connection broke.
    Broken,
}

/// A connection with its buffers.
#[derive(Debug)]
pub(super) struct BgpConnection {
    link: BgpSocket,
    pub(super) input: BytesMut,
    output: BytesMut,
    /// Since when the peer has not read any of the bytes to send.
    stuck: Option<Instant>,
    /// Bytes that were read before `input`.
    pub(super) offset: u64,
    /// The peer's OPEN, once it was received.
    pub(super) remote: Option<PeerOpen>,
    /// The peer's NOTIFICATION, once it was received.
    pub(super) notification: Option<Bytes>,
    pub(super) lost: Option<ConnectionLoss>,
}

impl BgpConnection {
    pub(super) fn new(link: BgpSocket) -> Self {
        Self {
            link,
            input: BytesMut::with_capacity(BLOCK),
            output: BytesMut::new(),
            stuck: None,
            offset: 0,
            remote: None,
            notification: None,
            lost: None,
        }
    }

    /// Returns the local and the peer's end.
    pub(super) fn ends(&self) -> ConnectionEnds {
        ConnectionEnds { local: self.link.local, remote: self.link.remote }
    }

    /// Returns the longest allowed message in bytes.
    pub(super) fn limit(&self) -> usize {
        self.remote.as_ref().map_or(MAX_MESSAGE, |remote| remote.negotiated.limit)
    }

    /// Reads, and meanwhile sends waiting bytes. Returns the number of bytes read, zero at the end
    /// of the stream. Cancelling the future loses nothing.
    pub(super) async fn turn(&mut self) -> io::Result<usize> {
        poll_fn(|context| {
            while !self.output.is_empty() {
                match pin!(self.link.stream.write(&self.output)).poll(context) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(written)) => {
                        self.output.advance(written);
                        self.stuck = None;
                    }
                    // A write error is no reason to stop: the peer's last messages are still to be
                    // read, and reading reports the end.
                    Poll::Ready(Err(_)) => self.output.clear(),
                    Poll::Pending => {
                        self.stuck.get_or_insert_with(Instant::now);
                        break;
                    }
                }
            }
            pin!(self.link.stream.read_buf(&mut self.input)).poll(context)
        })
        .await
    }

    /// Queues a message. Messages are sent in the order of these calls.
    pub(super) fn send(&mut self, message: &[u8]) {
        self.output.extend_from_slice(message);
    }

    /// Queues a KEEPALIVE, unless many are already waiting.
    pub(super) fn send_keepalive(&mut self) {
        if self.output.len() < MAX_MESSAGE {
            bgp::keepalive(&mut self.output);
        }
    }

    /// Returns since when the peer has not read any of the bytes to send.
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        self.stuck
    }

    /// Removes the first `bytes` of the input, which have been handled.
    pub(super) fn used(&mut self, bytes: usize) {
        self.input.advance(bytes);
        self.offset += bytes as u64;
    }

    /// Makes room to read. The old block is reused, because nothing else refers to it.
    pub(super) fn make_room(&mut self) {
        let left = self.input.len();
        if !self.input.try_reclaim(BLOCK - left) {
            let mut fresh = BytesMut::with_capacity(BLOCK);
            fresh.extend_from_slice(&self.input);
            self.input = fresh;
        }
    }

    /// Sends the waiting bytes and closes the connection in the background.
    pub(super) fn close(self) {
        if self.lost.is_none() && !self.output.is_empty() {
            tasks::passing("farewell to a BGP peer", farewell(self.link, self.output));
        }
    }
}

/// Refuses a connection with a NOTIFICATION.
pub(super) fn refuse(link: BgpSocket, notice: &OutgoingNotification) {
    tasks::passing("farewell to a BGP peer", farewell(link, notification_of(notice)));
}

/// Builds a NOTIFICATION message.
pub(super) fn notification_of(notice: &OutgoingNotification) -> BytesMut {
    let mut out = BytesMut::new();
    notification::build(&mut out, notice.code, notice.subcode, &notice.data);
    out
}

/// Sends the last bytes of a connection, and reads until the peer closes it too. Unread data would
/// cause a reset, which can overtake the NOTIFICATION.
async fn farewell(mut link: BgpSocket, last: BytesMut) {
    let goodbye = async {
        link.stream.write_all(&last).await?;
        link.stream.shutdown().await?;
        let mut waste = [0; 4096];
        while link.stream.read(&mut waste).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // Success or not, the connection is closed now.
    let _ = timeout(FAREWELL, goodbye).await;
}
