//! A station that speaks TLS by rustls. It does on demand what openssl(1) does not.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::BytesMut;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, ServerConnection,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::{
    bmp::{self, ReceivedFrame},
    netns::Netns,
    tls::{TestCa, TestCertificate},
    wait::{PATIENCE, WatchedValue},
};

/// How long the station waits for bytes before it looks whether something is to do.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a station does on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StationAct {
    /// Changes its keys, and asks the far end to change its own (RFC 8446 §4.6.3).
    ChangeKeys,
    /// Says in TLS that it sends nothing more (RFC 8446 §6.1).
    Close,
    /// Closes its end of the TCP connection, and says nothing in TLS.
    CloseUnannounced,
    /// Sends a record that was encrypted with other keys.
    SendOtherRecord,
    /// Stops reading.
    Pause,
    /// Goes on reading.
    GoOn,
}

/// What a station has of one connection.
#[derive(Debug, Default)]
pub struct TlsConnectionRecord {
    /// Whole BMP messages.
    pub frames: Vec<ReceivedFrame>,
    /// True once the far end has said in TLS that it sends nothing more.
    pub is_closed: bool,
    /// What went wrong.
    pub error: Option<String>,
}

impl TlsConnectionRecord {
    /// Returns the number of messages of type `kind`.
    pub fn count(&self, kind: u8) -> usize {
        self.frames.iter().filter(|frame| frame.kind() == kind).count()
    }

    /// Returns the number of routes that were announced.
    pub fn announced(&self) -> usize {
        self.frames.iter().filter_map(|frame| Some(frame.update()?.announced.len())).sum()
    }
}

/// A station that takes one connection after the other.
#[derive(Debug)]
pub struct RustlsStation {
    acts: Sender<StationAct>,
    connections: Arc<WatchedValue<Vec<TlsConnectionRecord>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RustlsStation {
    /// Starts a station that presents a certificate and demands none. It sends session tickets, as
    /// openssl does.
    pub fn start(netns: &Netns, address: impl Into<SocketAddr>, certificate: &TestCertificate) -> Self {
        let address = address.into();
        let listener = netns.enter(|| TcpListener::bind(address)).expect("the station can listen");
        listener.set_nonblocking(true).expect("a listener can be made nonblocking");
        let config = server_config(certificate);
        let (acts, demanded) = channel();
        let (connections, ends) = (Arc::<WatchedValue<_>>::default(), Arc::<AtomicBool>::default());
        let serving =
            StationThread { config, demanded, connections: Arc::clone(&connections), ends: Arc::clone(&ends) };
        let thread = thread::spawn(move || {
            while !serving.ends.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => serving.serve(stream),
                    Err(_) => thread::sleep(LOOK_EVERY),
                }
            }
        });
        Self { acts, connections, ends, thread: Some(thread) }
    }

    /// Has the station do something on its connection.
    pub fn act(&self, act: StationAct) {
        self.acts.send(act).expect("the station runs");
    }

    /// Waits until the connection with this number, from 0, satisfies `wanted`.
    ///
    /// # Panics
    /// If it does not within [`PATIENCE`].
    pub fn wait_for(&self, connection: usize, what: &str, wanted: impl Fn(&TlsConnectionRecord) -> bool) {
        let seen = self.connections.wait_for(PATIENCE, |records| wanted(records.get(connection)?).then_some(()));
        if seen.is_none() {
            let records = self.connections.lock();
            let shown: Vec<_> = records.iter().map(|one| (one.announced(), one.is_closed, &one.error)).collect();
            panic!(
                "connection {connection} did not see {what}; each has announced, is closed, has the error: {shown:?}"
            );
        }
    }
}

impl Drop for RustlsStation {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));

/// Returns the TLS of a server with this certificate.
pub fn server_config(certificate: &TestCertificate) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(&certificate.certificate).expect("the certificate can be read");
    let chain = chain.collect::<Result<_, _>>().expect("the certificate is PEM");
    let key = PrivateKeyDer::from_pem_file(&certificate.key).expect("the key can be read");
    let builder = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("ring has TLS 1.3");
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).expect("they go together"))
}

/// Returns the TLS of a client that trusts a CA.
pub fn client_config(ca: &TestCa) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca.file()).expect("the certificate can be read") {
        roots.add(certificate.expect("the certificate is PEM")).expect("it is a CA");
    }
    let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("ring has TLS 1.3");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

struct StationThread {
    config: Arc<ServerConfig>,
    demanded: Receiver<StationAct>,
    connections: Arc<WatchedValue<Vec<TlsConnectionRecord>>>,
    ends: Arc<AtomicBool>,
}

impl StationThread {
    /// Serves a connection to its end.
    fn serve(&self, stream: TcpStream) {
        self.connections.change(|records| records.push(TlsConnectionRecord::default()));
        if let Err(error) = self.follow(stream) {
            self.change(|record| record.error = Some(error.to_string()));
        }
    }

    fn change(&self, change: impl FnOnce(&mut TlsConnectionRecord)) {
        self.connections.change(|records| records.last_mut().map(change));
    }

    fn follow(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(LOOK_EVERY))?;
        let mut tls = ServerConnection::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        let (mut frames, mut block, mut is_paused) = (BytesMut::new(), [0; 65_536], false);
        while !self.ends.load(Ordering::Relaxed) {
            if let Ok(act) = self.demanded.try_recv() {
                match act {
                    StationAct::ChangeKeys => tls.refresh_traffic_keys().map_err(io::Error::other)?,
                    StationAct::Close => tls.send_close_notify(),
                    StationAct::CloseUnannounced => stream.shutdown(Shutdown::Write)?,
                    // The header of a record of application data with 32 bytes, and zeros.
                    StationAct::SendOtherRecord => {
                        stream.write_all(&[&[23, 3, 3, 0, 32], [0; 32].as_slice()].concat())?;
                    }
                    StationAct::Pause | StationAct::GoOn => is_paused = act == StationAct::Pause,
                }
            }
            while tls.wants_write() {
                tls.write_tls(&mut stream)?;
            }
            if is_paused {
                thread::sleep(LOOK_EVERY);
                continue;
            }
            match tls.read_tls(&mut stream) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
                Err(error) => return Err(error),
            }
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let has_closed = state.peer_has_closed();
            while let Ok(read @ 1..) = tls.reader().read(&mut block) {
                frames.extend_from_slice(&block[..read]);
            }
            let mut split = Ok(());
            self.change(|record| {
                split = bmp::split(&mut frames, &mut record.frames);
                record.is_closed = has_closed;
            });
            split.map_err(io::Error::other)?;
        }
        Ok(())
    }
}
