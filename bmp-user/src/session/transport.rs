//! The way into a station's socket: as it is, or through TLS.

use std::io::{self, IoSlice};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::tls::{TlsReport, TlsStream};

/// An open connection to a station. Nothing here waits but [`Self::shutdown`].
pub(super) enum StationTransport {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl StationTransport {
    /// Returns the TCP connection, to wait for and to ask.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket(),
        }
    }

    /// Returns what displays show of TLS.
    pub(super) fn tls_report(&self) -> Option<&TlsReport> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls.report()),
        }
    }

    /// Takes as many bytes as there is room for, and returns how many that were. What TLS has taken
    /// cannot be recalled.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is no room; else the connection failed.
    pub(super) fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write_vectored(slices),
            Self::Tls(tls) => tls.try_write_vectored(slices),
        }
    }

    /// Hands on what TLS has taken and the socket has not. Returns true if nothing of that is left.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub(super) fn try_flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Tls(tls) => tls.try_flush(),
        }
    }

    /// Reads what has arrived; 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing has arrived; else the connection failed.
    pub(super) fn try_read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_read(room),
            Self::Tls(tls) => tls.try_read(room),
        }
    }

    /// Says that nothing more follows.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.shutdown().await,
            Self::Tls(tls) => {
                tls.close();
                while !tls.try_flush()? {
                    tls.socket().writable().await?;
                }
                tls.shutdown().await
            }
        }
    }
}
