//! Whether the certificate of the far end is the right one.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use sha2::{Digest as _, Sha256};

use super::{
    certificate::CertificateFacts,
    error::{OtherFingerprint, refused},
};
use crate::config::CertificateFingerprint;

/// What the far end's certificate has to be.
#[derive(Debug)]
pub(super) struct FarEndVerifier {
    pub(super) roots: Option<Arc<RootCertStore>>,
    /// Verifies clients that connect here. It has the same roots.
    pub(super) clients: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) name: Option<ServerName<'static>>,
    pub(super) fingerprint: Option<CertificateFingerprint>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl FarEndVerifier {
    fn verify_fingerprint(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
        let Some(wanted) = self.fingerprint else { return Ok(()) };
        let has = CertificateFingerprint(Sha256::digest(certificate).into());
        if has != wanted {
            return Err(refused(OtherFingerprint(has.to_string())));
        }
        // Without a CA nobody else looks at the time.
        let facts = CertificateFacts::read(certificate).ok_or(CertificateError::BadEncoding)?;
        let (begins, expires) = (facts.begins.as_unix(), facts.expires.as_unix());
        let since_1970 = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        if now.as_secs() < begins {
            return Err(CertificateError::NotValidYetContext { time: now, not_before: since_1970(begins) }.into());
        }
        if now.as_secs() > expires {
            return Err(CertificateError::ExpiredContext { time: now, not_after: since_1970(expires) }.into());
        }
        Ok(())
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }
}

/// TLS 1.2 is not offered, so nobody signs by its rules.
fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not spoken".to_owned())
}

/// A CA with the name of the issuer and another key is another CA, such as one that was made anew.
fn of_issuer(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => CertificateError::UnknownIssuer.into(),
        other => other,
    }
}

impl ServerCertVerifier for FarEndVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        if let Some(roots) = &self.roots {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)
                .map_err(of_issuer)?;
        }
        self.verify_fingerprint(end_entity, now)?;
        match &self.name {
            Some(name) => verify_server_name(&parsed, name)?,
            None if self.fingerprint.is_none() => verify_server_name(&parsed, server_name)?,
            None => {}
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for FarEndVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.as_ref().map_or(&[], |clients| clients.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(clients) = &self.clients {
            clients.verify_client_cert(end_entity, intermediates, now).map_err(of_issuer)?;
        }
        self.verify_fingerprint(end_entity, now)?;
        if let Some(name) = &self.name {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
