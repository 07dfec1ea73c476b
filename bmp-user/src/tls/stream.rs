//! A TCP connection with TLS 1.3 on it.

use std::{
    io::{self, IoSlice},
    net::IpAddr,
    os::fd::{AsRawFd, RawFd},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{ClientConnection, Connection, ServerConnection};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use super::{
    certificate::CertificateFacts,
    error::TlsError,
    kernel::{KernelRecords, KernelUse},
    profile::TlsProfile,
    records::{SocketIo, TlsRecordReader},
    user_space::UserSpaceRecords,
};
use crate::{escape::Untrusted, pin::Reason};

/// How long a handshake may take.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// What displays show of a TLS connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsReport {
    /// The name of its profile.
    pub profile: String,
    /// The cipher suite, as `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// The subject of the far end's certificate, if it presented one.
    pub peer: Option<Untrusted>,
    /// True if the kernel encrypts and decrypts.
    pub in_kernel: bool,
}

/// A connection whose handshake is done.
///
/// It writes and reads without waiting, as the `try_` functions of [`TcpStream`] do. Wait for the
/// [`socket`](Self::socket) to be readable or writable.
pub(crate) struct TlsStream {
    socket: TcpStream,
    report: TlsReport,
    encryption: TlsEncryption,
    kernel_use: KernelUse,
}

/// Who encrypts.
enum TlsEncryption {
    UserSpace(Box<UserSpaceRecords>),
    Kernel(KernelRecords),
}

impl TlsStream {
    /// Does the handshake with a far end that this device has connected to.
    ///
    /// # Errors
    ///
    /// The far end is not the one that the profile describes, does not speak TLS 1.3, or is not
    /// done within [`HANDSHAKE_TIME`].
    pub(crate) async fn connect(socket: TcpStream, profile: &TlsProfile, far: IpAddr) -> Result<Self, TlsError> {
        let (config, name) = profile.to_connect(far)?;
        let tls = ClientConnection::new(config, name)?;
        Self::shake_hands(socket, tls.into(), profile).await
    }

    /// Does the handshake with a far end that has connected here.
    ///
    /// # Errors
    ///
    /// As for [`Self::connect`].
    pub(crate) async fn accept(socket: TcpStream, profile: &TlsProfile) -> Result<Self, TlsError> {
        let tls = ServerConnection::new(profile.to_accept()?)?;
        Self::shake_hands(socket, tls.into(), profile).await
    }

    async fn shake_hands(socket: TcpStream, mut tls: Connection, profile: &TlsProfile) -> Result<Self, TlsError> {
        let mut has_answered = false;
        match timeout(HANDSHAKE_TIME, handshake(&socket, &mut tls, &mut has_answered)).await {
            Ok(done) => done?,
            Err(_) => {
                let seconds = HANDSHAKE_TIME.as_secs();
                return Err(match has_answered {
                    true => TlsError::new(
                        Reason::TlsFailed,
                        format!("the far end did not finish the TLS handshake within {seconds} s"),
                    ),
                    false => TlsError::new(
                        Reason::NotTls,
                        format!("the far end sent nothing within {seconds} s, as one without TLS does"),
                    ),
                });
            }
        }
        let facts = tls.peer_certificates().and_then(<[_]>::first).map(|first| CertificateFacts::read(first));
        let report = TlsReport {
            profile: profile.name().to_owned(),
            cipher: tls.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())).unwrap_or_default(),
            peer: facts.map(|facts| facts.map_or_else(|| Untrusted::new("unknown"), |facts| facts.subject)),
            in_kernel: false,
        };
        let (encryption, kernel_use) =
            (TlsEncryption::UserSpace(Box::new(UserSpaceRecords::new(tls))), profile.kernel_use());
        Ok(Self { socket, report, encryption, kernel_use })
    }

    /// Has the kernel encrypt what follows, if it can. Nothing must have been written or read since
    /// the handshake.
    ///
    /// # Errors
    ///
    /// The kernel has TLS, and does not take the keys of this connection.
    pub(crate) fn in_kernel(self) -> Result<Self, TlsError> {
        let Self { socket, mut report, encryption, kernel_use } = self;
        let encryption = match encryption {
            TlsEncryption::UserSpace(records) if kernel_use.is_possible(&socket) => {
                let secrets = records.into_connection().dangerous_extract_secrets()?;
                report.in_kernel = true;
                TlsEncryption::Kernel(KernelRecords::begin(&socket, &secrets, kernel_use.clone())?)
            }
            encryption => encryption,
        };
        Ok(Self { socket, report, encryption, kernel_use })
    }

    /// Returns the TCP connection, to wait for and to ask. Do not read or write it.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Returns what displays show.
    pub(crate) fn report(&self) -> &TlsReport {
        &self.report
    }

    /// Encrypts as much as there is room for, and writes what the socket takes of it. Returns how
    /// many bytes were encrypted. They may wait here still: see [`Self::try_flush`].
    ///
    /// # Errors
    ///
    /// `WouldBlock` while there is no room; else the connection failed.
    pub(crate) fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.encryption {
            TlsEncryption::UserSpace(records) => records.try_write_vectored(&self.socket, slices),
            TlsEncryption::Kernel(records) => records.try_write_vectored(&self.socket, slices),
        }
    }

    /// Writes what waits for the socket. Returns true if nothing waits any more.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub(crate) fn try_flush(&mut self) -> io::Result<bool> {
        match &mut self.encryption {
            TlsEncryption::UserSpace(records) => records.try_flush(&self.socket),
            TlsEncryption::Kernel(records) => records.try_flush(&self.socket),
        }
    }

    /// Reads what has arrived. Returns 0 at the end of the stream, which the far end has announced
    /// (`close_notify`, RFC 8446 §6.1).
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing has arrived. `UnexpectedEof` if the stream ends unannounced. A
    /// [`TlsError`] within the error if the far end sends an alert, or nonsense.
    pub(crate) fn try_read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match &mut self.encryption {
            TlsEncryption::UserSpace(records) => records.try_read(&self.socket, room),
            TlsEncryption::Kernel(records) => records.try_read(&self.socket, room),
        }
    }

    /// Says that nothing more follows. [`Self::try_flush`] brings it on its way.
    pub(crate) fn close(&mut self) {
        match &mut self.encryption {
            TlsEncryption::UserSpace(records) => records.close(),
            TlsEncryption::Kernel(records) => records.close(),
        }
    }

    /// Closes the way out of the TCP connection.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        tokio::io::AsyncWriteExt::shutdown(&mut self.socket).await
    }
}

/// Exchanges handshake messages until both ends are done. `has_answered` becomes true when the far
/// end has sent something that may be TLS.
async fn handshake(socket: &TcpStream, tls: &mut Connection, has_answered: &mut bool) -> Result<(), TlsError> {
    let broken = |error: &io::Error, has_answered: bool| {
        // A station without TLS may well reset the connection when it does not like what it reads.
        if !has_answered && matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) {
            let why = "the far end reset the connection instead of a TLS handshake, as one without TLS does";
            return TlsError::new(Reason::NotTls, why);
        }
        let reason = Reason::of(error, Reason::ConnectionReset);
        TlsError::new(reason, format!("the connection broke during the TLS handshake: {error}"))
    };
    let mut records = TlsRecordReader::new(SocketIo(socket));
    loop {
        while tls.wants_write() {
            match tls.write_tls(&mut SocketIo(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.writable().await.map_err(|error| broken(&error, *has_answered))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(&error, *has_answered)),
            }
        }
        if !tls.is_handshaking() {
            return Ok(());
        }
        socket.readable().await.map_err(|error| broken(&error, *has_answered))?;
        match tls.read_tls(&mut records) {
            Ok(0) if *has_answered => {
                let why = "the far end closed the connection during the TLS handshake";
                return Err(TlsError::new(Reason::TlsFailed, why));
            }
            Ok(0) => {
                let why = "the far end closed the connection instead of a TLS handshake, as one without TLS does";
                return Err(TlsError::new(Reason::NotTls, why));
            }
            Ok(_) => {
                if let Err(error) = tls.process_new_packets() {
                    // The alert tells the far end why. It is short, so the socket has room for it.
                    let _ = tls.write_tls(&mut SocketIo(socket));
                    return Err(of_first_messages(error, *has_answered));
                }
                *has_answered = true;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(broken(&error, *has_answered)),
        }
    }
}

/// Broken messages are TLS all the same once the far end has sent whole ones.
fn of_first_messages(error: rustls::Error, has_answered: bool) -> TlsError {
    let error = TlsError::from(error);
    match error.reason {
        Reason::NotTls if has_answered => TlsError::new(Reason::TlsFailed, error.why),
        _ => error,
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.try_read(room.initialize_unfilled()) {
                Ok(read) => {
                    room.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            match self.socket.poll_read_ready(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl AsRawFd for TlsStream {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
