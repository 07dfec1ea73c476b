//! One TCP connection: what has arrived, and what is still to be sent.

use std::{fmt, future::poll_fn, io, net::SocketAddr, pin::pin, task::Poll, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::{fsm::Notice, open::Remote};
use crate::{
    tasks,
    wire::bgp::{self, MAX_MESSAGE, notification},
};

/// Bytes that are read at once. The longest message (RFC 8654) is a byte shorter, so that there is always room to read into.
const BLOCK: usize = 64 * 1024;
/// How long a peer has to take a NOTIFICATION before the connection is closed.
const FAREWELL: Duration = Duration::from_secs(2);

/// A stream of bytes in both directions.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An open connection to a peer.
pub(super) struct Link {
    pub(super) stream: Box<dyn Duplex>,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({} to {})", self.local, self.remote)
    }
}

/// How a connection ended that this device did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The peer closed it, or reset it.
    Closed,
    /// It broke.
    Broken,
}

/// A connection with its buffers.
#[derive(Debug)]
pub(super) struct Connection {
    link: Link,
    pub(super) input: BytesMut,
    output: BytesMut,
    /// Since when the peer has taken nothing of what it is to be sent.
    stuck: Option<Instant>,
    /// What was read before `input`, in bytes.
    pub(super) offset: u64,
    /// The OPEN that was received.
    pub(super) remote: Option<Remote>,
    /// The NOTIFICATION that was received.
    pub(super) notification: Option<Bytes>,
    pub(super) lost: Option<Lost>,
}

impl Connection {
    pub(super) fn new(link: Link) -> Self {
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

    /// This end and the peer's.
    pub(super) fn ends(&self) -> (SocketAddr, SocketAddr) {
        (self.link.local, self.link.remote)
    }

    /// The longest message that may come, in bytes.
    pub(super) fn limit(&self) -> usize {
        self.remote.as_ref().map_or(MAX_MESSAGE, |remote| remote.negotiated.limit)
    }

    /// Reads, and writes what is to be sent meanwhile: how many bytes have come, zero at the end. May be dropped at any time.
    pub(super) async fn turn(&mut self) -> io::Result<usize> {
        poll_fn(|context| {
            while !self.output.is_empty() {
                match pin!(self.link.stream.write(&self.output)).poll(context) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(written)) => {
                        self.output.advance(written);
                        self.stuck = None;
                    }
                    // What the peer said before it closed is still to be read; reading tells of the end.
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

    /// Sends a message, in the order of these calls.
    pub(super) fn send(&mut self, message: &[u8]) {
        self.output.extend_from_slice(message);
    }

    /// Sends a KEEPALIVE, unless many are waiting for the peer to take them.
    pub(super) fn send_keepalive(&mut self) {
        if self.output.len() < MAX_MESSAGE {
            bgp::keepalive(&mut self.output);
        }
    }

    /// Since when the peer has taken nothing of what it is to be sent.
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        self.stuck
    }

    /// The first `bytes` of the input are used.
    pub(super) fn used(&mut self, bytes: usize) {
        self.input.advance(bytes);
        self.offset += bytes as u64;
    }

    /// Makes room to read into: the block is used again, as nobody else keeps anything of it.
    pub(super) fn make_room(&mut self) {
        let left = self.input.len();
        if !self.input.try_reclaim(BLOCK - left) {
            let mut fresh = BytesMut::with_capacity(BLOCK);
            fresh.extend_from_slice(&self.input);
            self.input = fresh;
        }
    }

    /// Sends what is still to be sent and closes, without anybody waiting for it.
    pub(super) fn close(self) {
        if self.lost.is_none() && !self.output.is_empty() {
            tasks::passing("farewell to a BGP peer", farewell(self.link, self.output));
        }
    }
}

/// Tells a peer whose connection is refused why.
pub(super) fn refuse(link: Link, notice: &Notice) {
    tasks::passing("farewell to a BGP peer", farewell(link, notification_of(notice)));
}

/// A NOTIFICATION as a message.
pub(super) fn notification_of(notice: &Notice) -> BytesMut {
    let mut out = BytesMut::new();
    notification::build(&mut out, notice.code, notice.subcode, &notice.data);
    out
}

/// The last bytes of a connection. What the peer sends is read until it closes too: the reset that unread data would end in can overtake
/// a NOTIFICATION.
async fn farewell(mut link: Link, last: BytesMut) {
    let goodbye = async {
        link.stream.write_all(&last).await?;
        link.stream.shutdown().await?;
        let mut waste = [0; 4096];
        while link.stream.read(&mut waste).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // It is closed in any case.
    let _ = timeout(FAREWELL, goodbye).await;
}
