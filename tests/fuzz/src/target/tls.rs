//! TLS records that arrive in pieces, and damaged: the handshake of a connection that this device
//! opens, what follows it, and handshake messages that the kernel has decrypted.

use std::{
    io::{self, Read, Write as _},
    sync::{Arc, LazyLock},
};

use bmp_user::tls::{AfterHandshake, HandshakeMessages, TlsRecordReader};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig, ServerConnection, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    version::TLS13,
};

/// What the far end sends after the handshake.
const DATA: &[u8] = &[7; 3000];

/// Damages of a stream at most.
const DAMAGES: usize = 3;

/// Takes bytes as the lengths of pieces, and as damage to the stream that is cut so.
///
/// - A connection whose stream is whole has its handshake, and every byte of the data.
/// - The handshake reads nothing of what follows it.
/// - A damaged stream ends in an error, or is waited for.
/// - The messages after the handshake ask for the same, however they are cut.
pub fn tls(bytes: &[u8]) {
    let Some((&kind, rest)) = bytes.split_first() else { return };
    if kind & 1 == 0 {
        messages(rest);
    } else {
        let (damages, pieces) = rest.split_at(rest.len().min(DAMAGES * usize::from(kind >> 6)));
        connection(damages, pieces);
    }
}

/// Cuts messages in the middle, and each at every byte.
fn messages(bytes: &[u8]) {
    let whole = HandshakeMessages::default().take(bytes);
    let mut by_one = HandshakeMessages::default();
    let first = bytes.chunks(1).map(|byte| by_one.take(byte)).find(|after| *after != AfterHandshake::Nothing);
    assert_eq!(first.unwrap_or(AfterHandshake::Nothing), whole);
    let (front, back) = bytes.split_at(bytes.len() / 2);
    let mut halves = HandshakeMessages::default();
    let after = match halves.take(front) {
        AfterHandshake::Nothing => halves.take(back),
        found => found,
    };
    assert_eq!(after, whole);
}

/// Has a connection with a server whose stream is cut into pieces, and damaged. Each damage is a
/// place, of two bytes, and a change.
fn connection(damages: &[u8], pieces: &[u8]) {
    let name = ServerName::try_from("station").expect("it is a name");
    let mut client = ClientConnection::new(Arc::clone(&CLIENT), name).expect("the configuration is sound");
    let mut server = ServerConnection::new(Arc::clone(&SERVER)).expect("the configuration is sound");
    let mut stream = CutStream { bytes: Vec::new(), taken: 0, given: 0, pieces, turn: 0, damages };
    let is_whole = damages.chunks_exact(3).all(|damage| damage[2] == 0);
    let mut has_sent = false;
    let mut records = TlsRecordReader::new(&mut stream);
    // Each round brings a piece at least. A stream that is damaged may wait for what never comes.
    while client.is_handshaking() {
        let mut sent = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut sent).expect("a vector takes everything");
        }
        take(&mut server, &sent);
        let stream = records.stream_mut();
        while server.wants_write() {
            server.write_tls(&mut stream.bytes).expect("a vector takes everything");
        }
        if stream.is_at_end() {
            assert!(!is_whole, "a whole handshake waits");
            return;
        }
        match client.read_tls(&mut records) {
            Ok(_) => {}
            Err(error) => panic!("a stream has no errors: {error}"),
        }
        if client.process_new_packets().is_err() {
            assert!(!is_whole, "a whole handshake is refused");
            return;
        }
    }
    assert!(records.is_between_records(), "the handshake ends within a record");
    let mut sent = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut sent).expect("a vector takes everything");
    }
    take(&mut server, &sent);
    if !server.is_handshaking() {
        has_sent = true;
        server.writer().write_all(DATA).expect("there is room");
    }
    let stream = records.stream_mut();
    while server.wants_write() {
        server.write_tls(&mut stream.bytes).expect("a vector takes everything");
    }
    let mut received = Vec::new();
    while !stream.is_at_end() {
        client.read_tls(stream).expect("a stream has no errors");
        if client.process_new_packets().is_err() {
            assert!(!is_whole, "a whole record is refused");
            return;
        }
        let mut block = [0; 4096];
        while let Ok(read @ 1..) = client.reader().read(&mut block) {
            received.extend_from_slice(&block[..read]);
        }
    }
    assert!(DATA.starts_with(&received), "other bytes arrived than were sent");
    assert!(!is_whole || (has_sent && received == DATA), "bytes are lost");
}

/// Has a server take bytes. What it makes of them shows in what it sends.
fn take(server: &mut ServerConnection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        if !matches!(server.read_tls(&mut bytes), Ok(1..)) || server.process_new_packets().is_err() {
            return;
        }
    }
}

/// What the server has sent.
struct CutStream<'a> {
    bytes: Vec<u8>,
    /// How many of them were read.
    taken: usize,
    /// How many of them have arrived.
    given: usize,
    pieces: &'a [u8],
    turn: usize,
    damages: &'a [u8],
}

impl CutStream<'_> {
    fn is_at_end(&self) -> bool {
        self.taken == self.bytes.len()
    }
}

impl Read for CutStream<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.given {
            let piece = if self.pieces.is_empty() { 255 } else { self.pieces[self.turn % self.pieces.len()] };
            // Long records are not read byte by byte all the time.
            let piece = if piece > 127 { usize::from(piece) * 16 } else { usize::from(piece) + 1 };
            self.turn += 1;
            let from = self.given;
            self.given = self.bytes.len().min(self.given + piece);
            for damage in self.damages.chunks_exact(3) {
                let place = usize::from(u16::from_be_bytes([damage[0], damage[1]])) % 2048;
                if (from..self.given).contains(&place) {
                    self.bytes[place] ^= damage[2];
                }
            }
        }
        let arrived = &self.bytes[self.taken..self.given];
        let read = arrived.len().min(room.len());
        room[..read].copy_from_slice(&arrived[..read]);
        self.taken += read;
        Ok(read)
    }
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));

static SERVER: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let certificate = CertificateDer::from(include_bytes!("../corpus/certificates/own.der").as_slice());
    let key = include_bytes!("../corpus/certificates/own.key.der").as_slice();
    let key = PrivateKeyDer::try_from(key).expect("the key is PKCS #8");
    let builder = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER));
    let builder = builder.with_protocol_versions(&[&TLS13]).expect("ring has TLS 1.3");
    Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key).expect("they go together"))
});

static CLIENT: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER));
    let builder = builder.with_protocol_versions(&[&TLS13]).expect("ring has TLS 1.3").dangerous();
    Arc::new(builder.with_custom_certificate_verifier(Arc::new(AnyCertificate)).with_no_client_auth())
});

/// Takes any certificate and any signature: time goes on, and damage is what the target is for.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}
