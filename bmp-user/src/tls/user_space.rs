//! Encrypting in user space, by rustls.

use std::io::{self, IoSlice, Read as _, Write as _};

use rustls::Connection;
use tokio::net::TcpStream;

use super::{
    error::TlsError,
    records::{READ_ROUNDS, SocketIo},
};

/// How many bytes wait in TLS for the socket to take them. It is as many as wait unsent in the
/// kernel.
const BUFFERED: usize = 256 * 1024;
/// How many bytes are read from the socket at once.
const READ_BLOCK: usize = 64 * 1024;

/// A connection of rustls, and what waits beside it.
pub(super) struct UserSpaceRecords {
    tls: Connection,
    /// Bytes of the socket that TLS has not taken yet.
    incoming: Box<[u8]>,
    /// Where they begin and end in `incoming`.
    unread: (usize, usize),
    /// The far end has closed the TCP connection.
    at_end: bool,
}

impl UserSpaceRecords {
    /// Goes on with a connection whose handshake is done.
    pub(super) fn new(mut tls: Connection) -> Self {
        tls.set_buffer_limit(Some(BUFFERED));
        Self { tls, incoming: vec![0; READ_BLOCK].into(), unread: (0, 0), at_end: false }
    }

    /// Returns the connection of rustls. Nothing must have been written or read.
    pub(super) fn into_connection(self) -> Connection {
        self.tls
    }

    /// Encrypts as much as there is room for, and writes what the socket takes of it.
    ///
    /// # Errors
    ///
    /// `WouldBlock` while earlier bytes wait for the socket; else the connection failed.
    pub(super) fn try_write_vectored(&mut self, socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.try_flush(socket)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = self.tls.writer().write_vectored(slices)?;
        self.try_flush(socket)?;
        Ok(taken)
    }

    /// Writes what waits for the socket. Returns true if nothing waits any more.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub(super) fn try_flush(&mut self, socket: &TcpStream) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut SocketIo(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads what has arrived, as [`super::TlsStream::try_read`] says.
    pub(super) fn try_read(&mut self, socket: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
        for _ in 0..READ_ROUNDS {
            match self.tls.reader().read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(TlsError::unannounced_end()),
                read => return read,
            }
            let (start, end) = self.unread;
            if start == end && !self.at_end {
                let read = socket.try_read(&mut self.incoming)?;
                (self.unread, self.at_end) = ((0, read), read == 0);
            }
            let (start, end) = self.unread;
            let mut unread = self.incoming.get(start..end).unwrap_or(&[]);
            let taken = self.tls.read_tls(&mut unread)?;
            self.unread.0 += taken;
            if let Err(error) = self.tls.process_new_packets() {
                // The alert, if the socket takes it.
                let _ = self.try_flush(socket);
                return Err(TlsError::from(error).into());
            }
            // An answer to a key update.
            self.try_flush(socket)?;
        }
        // The socket stays readable, so the caller goes on when others have had their turn.
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Says that nothing more follows. [`Self::try_flush`] brings it on its way.
    pub(super) fn close(&mut self) {
        self.tls.send_close_notify();
    }
}
