//! Encrypting in the kernel, so that what is written is copied once, by the kernel as it encrypts.
//!
//! The kernel cannot change keys (RFC 8446 §4.6.3) before Linux 6.14, and rustls has given its
//! secrets away. So the connection ends where it must change them, and the next one of the same
//! profile is encrypted in user space if it was the far end that wanted to.

use std::{
    io::{self, IoSlice},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::{AlertDescription, ConnectionTrafficSecrets, ExtractedSecrets};
use tokio::{io::Interest, net::TcpStream};

use super::{
    error::TlsError,
    records::{AfterHandshake, HandshakeMessages, READ_ROUNDS},
};
use crate::{
    pin::Reason,
    sys::kernel_tls::{self, KernelCipher, KernelKeys, ReceivedRecord, TlsDirection},
};

/// The types of records (RFC 8446 §5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// `warning` and `close_notify` (RFC 8446 §6).
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// The most bytes of a record (RFC 8446 §5.1).
const RECORD: usize = 1 << 14;
/// How many bytes one block of a cipher has.
const BLOCK: usize = 16;
/// How many blocks of AES the same keys may encrypt: as many as 2^24 full records have, which is
/// within the 2^24.5 of RFC 8446 §5.5. They are 256 GiB.
const BLOCKS: u64 = 1 << 34;

/// Whether connections of a profile are encrypted in the kernel.
#[derive(Clone, Debug)]
pub(super) struct KernelUse(Arc<AtomicBool>);

impl Default for KernelUse {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl KernelUse {
    /// Returns whether the kernel has TLS for a connection, and has not failed one before.
    pub(super) fn is_possible(&self, socket: &TcpStream) -> bool {
        self.0.load(Ordering::Relaxed) && kernel_tls::attach(socket).is_ok()
    }

    /// Has the next connections encrypted in user space.
    fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// What is left to do beside the kernel.
pub(super) struct KernelRecords {
    kernel_use: KernelUse,
    /// How many blocks may still be encrypted. `None` for a cipher without a limit.
    blocks_left: Option<u64>,
    messages: HandshakeMessages,
    closing: Closing,
}

/// How far the end of the stream was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    Wanted,
    Done,
}

impl KernelRecords {
    /// Hands the keys of a connection to the kernel, which [`KernelUse::is_possible`] has prepared.
    ///
    /// # Errors
    ///
    /// The kernel does not take them. The connection cannot be used any more.
    pub(super) fn begin(
        socket: &TcpStream,
        secrets: &ExtractedSecrets,
        kernel_use: KernelUse,
    ) -> Result<Self, TlsError> {
        let mut cipher = KernelCipher::ChaCha20Poly1305;
        for (direction, (sequence, secrets)) in
            [(TlsDirection::Send, &secrets.tx), (TlsDirection::Receive, &secrets.rx)]
        {
            let taken = kernel_keys(secrets, *sequence).ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP));
            let taken = taken.and_then(|keys| {
                cipher = keys.cipher;
                kernel_tls::set_keys(socket, direction, &keys)
            });
            if let Err(error) = taken {
                kernel_use.end();
                let why = format!(
                    "the kernel does not take the keys of a TLS connection ({error}): the next one is encrypted in \
                     user space"
                );
                return Err(TlsError::new(Reason::TlsFailed, why));
            }
        }
        let blocks_left = (cipher != KernelCipher::ChaCha20Poly1305).then_some(BLOCKS);
        Ok(Self { kernel_use, blocks_left, messages: HandshakeMessages::default(), closing: Closing::No })
    }

    /// Has the kernel encrypt as much as there is room for, and returns how much that was.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is no room; else the connection failed.
    pub(super) fn try_write_vectored(&mut self, socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.blocks_left == Some(0) {
            let why = "the keys of the TLS connection have encrypted as much as they may (RFC 8446, section 5.5): a \
                       new connection has new ones";
            return Err(TlsError::new(Reason::TlsFailed, why).into());
        }
        let written = socket.try_write_vectored(slices)?;
        if let Some(left) = &mut self.blocks_left {
            *left = left.saturating_sub(blocks(written));
        }
        Ok(written)
    }

    /// Sends what was announced by [`Self::close`]. Returns true if nothing waits any more.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub(super) fn try_flush(&mut self, socket: &TcpStream) -> io::Result<bool> {
        if self.closing == Closing::Wanted {
            match socket.try_io(Interest::WRITABLE, || kernel_tls::try_send(socket, ALERT, &CLOSE_NOTIFY)) {
                Ok(_) => self.closing = Closing::Done,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads what has arrived, as [`super::TlsStream::try_read`] says.
    pub(super) fn try_read(&mut self, socket: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
        for _ in 0..READ_ROUNDS {
            let received = socket.try_io(Interest::READABLE, || kernel_tls::try_receive(socket, room));
            let ReceivedRecord { record_type, bytes } = received.map_err(broken_record)?;
            let content = room.get(..bytes).unwrap_or(&[]);
            match record_type {
                // An empty record is not the end.
                Some(APPLICATION_DATA) if bytes == 0 => {}
                Some(APPLICATION_DATA) => return Ok(bytes),
                Some(ALERT) => match content {
                    [_, description] if AlertDescription::from(*description) == AlertDescription::CloseNotify => {
                        return Ok(0);
                    }
                    // It says that a `close_notify` follows.
                    [_, description] if AlertDescription::from(*description) == AlertDescription::UserCanceled => {}
                    [_, description] => {
                        let alert = rustls::Error::AlertReceived(AlertDescription::from(*description));
                        return Err(TlsError::from(alert).into());
                    }
                    _ => return Err(nonsense("an alert of another length")),
                },
                Some(HANDSHAKE) => match self.messages.take(content) {
                    AfterHandshake::Nothing => {}
                    AfterHandshake::KeyUpdate => {
                        self.kernel_use.end();
                        let why = "the far end changes the keys of TLS, which the kernel cannot follow: the next \
                                   connection is encrypted in user space";
                        return Err(TlsError::new(Reason::TlsFailed, why).into());
                    }
                    AfterHandshake::Unexpected(message) => {
                        return Err(nonsense(&format!("handshake message {message} after the handshake")));
                    }
                },
                Some(other) => return Err(nonsense(&format!("a record of type {other}"))),
                None => return Err(TlsError::unannounced_end()),
            }
        }
        // The socket stays readable, so the caller goes on when others have had their turn.
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Says that nothing more follows. [`Self::try_flush`] brings it on its way.
    pub(super) fn close(&mut self) {
        if self.closing == Closing::No {
            self.closing = Closing::Wanted;
        }
    }
}

fn kernel_keys(secrets: &ConnectionTrafficSecrets, sequence: u64) -> Option<KernelKeys<'_>> {
    let (cipher, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (KernelCipher::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (KernelCipher::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (KernelCipher::ChaCha20Poly1305, key, iv),
        _ => return None,
    };
    Some(KernelKeys { cipher, key: key.as_ref(), iv: iv.as_ref(), sequence })
}

/// Returns how many blocks the records of one write have. Each record has one more for its type and
/// its end, and one for its tag.
fn blocks(bytes: usize) -> u64 {
    (bytes.div_ceil(BLOCK) + 2 * bytes.div_ceil(RECORD)) as u64
}

/// Explains an error that the kernel's TLS has of its own.
fn broken_record(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EBADMSG) => nonsense("a record that cannot be decrypted"),
        Some(libc::EMSGSIZE) => nonsense("a record that is longer than records are"),
        Some(libc::EINVAL) => nonsense("what is no record of TLS 1.3"),
        _ => error,
    }
}

fn nonsense(what: &str) -> io::Error {
    TlsError::new(Reason::TlsFailed, format!("TLS failed: the far end has sent {what}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_count_the_type_and_the_tag_of_each_record() {
        let counted = [0, 1, 16, 17, RECORD, RECORD + 1].map(blocks);
        assert_eq!(counted, [0, 3, 3, 4, 1026, 1029]);
    }
}
