//! Why there is no TLS connection, in words.

use std::{fmt, io};

use rustls::{AlertDescription, CertificateError, Error, OtherError, PeerIncompatible, pki_types::UnixTime};

use crate::{
    config::UtcTime,
    escape::escaped,
    pin::{DownCause, Reason},
};

/// Why there is no TLS connection, or no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct TlsError {
    /// The word.
    pub(crate) reason: Reason,
    /// A sentence without its full stop.
    pub(crate) why: String,
}

impl TlsError {
    pub(super) fn new(reason: Reason, why: impl Into<String>) -> Self {
        Self { reason, why: why.into() }
    }

    /// Returns the error of a stream that ends where the far end may have meant to go on.
    pub(super) fn unannounced_end() -> io::Error {
        let why = "the far end closed the connection without saying so in TLS (close_notify)";
        io::Error::new(io::ErrorKind::UnexpectedEof, why)
    }

    /// Returns the reason of a session that is down for it.
    pub(crate) fn cause(&self) -> DownCause {
        DownCause::without_mend(self.reason, self.why.clone())
    }

    /// Returns the TLS error that an error of a stream stands for.
    pub(crate) fn within(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// Keeps the word of the reason for whoever sees the error of a stream alone.
impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::other(error)
    }
}

/// The certificate of the far end has another fingerprint.
#[derive(Debug)]
pub(super) struct OtherFingerprint(pub(super) String);

impl fmt::Display for OtherFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the far end has another certificate, with the fingerprint sha256 {}", self.0)
    }
}

impl std::error::Error for OtherFingerprint {}

/// Makes an error of rustls of one of this module's own.
pub(super) fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(std::sync::Arc::new(error))))
}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        let (reason, why) = match &error {
            Error::InvalidCertificate(wrong) => of_certificate(wrong),
            Error::AlertReceived(alert) => of_alert(*alert),
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic
                | PeerIncompatible::Tls12NotOffered,
            ) => (Reason::TlsVersion, "the far end does not speak TLS 1.3".to_owned()),
            Error::InvalidMessage(wrong) => (Reason::NotTls, format!("what the far end sends is not TLS ({wrong:?})")),
            Error::NoCertificatesPresented => {
                (Reason::TlsFailed, "the far end presents no certificate, and `trusted-ca` demands one".to_owned())
            }
            other => (Reason::TlsFailed, format!("TLS failed: {other}")),
        };
        Self { reason, why }
    }
}

fn of_certificate(wrong: &CertificateError) -> (Reason, String) {
    let at = |time: &UnixTime| UtcTime::from_unix(time.as_secs());
    match wrong {
        CertificateError::Expired => {
            (Reason::CertificateExpired, "the certificate of the far end, or of a CA above it, has expired".to_owned())
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            let why = format!("the certificate of the far end, or of a CA above it, expired at {} UTC", at(not_after));
            (Reason::CertificateExpired, why)
        }
        CertificateError::NotValidYet => {
            (Reason::CertificateExpired, "the certificate of the far end is not valid yet".to_owned())
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            let why = format!("the certificate of the far end is not valid before {} UTC", at(not_before));
            (Reason::CertificateExpired, why)
        }
        CertificateError::NotValidForName => {
            (Reason::CertificateMismatch, "the certificate of the far end is for another name".to_owned())
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            const SHOWN: usize = 3;
            let names: Vec<_> = presented.iter().take(SHOWN).map(|name| shown_name(name)).collect();
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            let why = format!("the certificate of the far end is not for {}, but for {names}", expected.to_str());
            (Reason::CertificateMismatch, why)
        }
        CertificateError::UnknownIssuer => {
            let why = "the certificate of the far end does not lead to a CA of `trusted-ca`";
            (Reason::UnknownCa, why.to_owned())
        }
        CertificateError::Other(OtherError(other)) if other.is::<OtherFingerprint>() => {
            (Reason::CertificateMismatch, other.to_string())
        }
        other => (Reason::TlsFailed, format!("the certificate of the far end is refused: {other}")),
    }
}

/// Returns a name that rustls presents as `DnsName("a.example.net")` or `IpAddress(192.0.2.1)`.
fn shown_name(name: &str) -> String {
    let inside = name.split_once('(').and_then(|(_, inside)| inside.strip_suffix(')')).unwrap_or(name);
    escaped(inside.trim_matches('"')).to_string()
}

/// What the far end says that this end did wrong (RFC 8446 §6.2).
fn of_alert(alert: AlertDescription) -> (Reason, String) {
    match alert {
        AlertDescription::ProtocolVersion => {
            (Reason::TlsVersion, "the far end refuses TLS 1.3 (alert protocol_version)".to_owned())
        }
        AlertDescription::UnknownCA => {
            let why = "the far end does not know the CA of this device's certificate (alert unknown_ca)";
            (Reason::UnknownCa, why.to_owned())
        }
        AlertDescription::CertificateExpired => {
            let why = "this device's certificate has expired, says the far end (alert certificate_expired)";
            (Reason::CertificateExpired, why.to_owned())
        }
        AlertDescription::CertificateRequired => {
            let why = "the far end demands a certificate of this device: `certificate` of the TLS profile (alert certificate_required)";
            (Reason::TlsFailed, why.to_owned())
        }
        other => (Reason::TlsFailed, format!("the far end refuses the connection (alert {other:?})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_word() {
        let word = |error: Error| TlsError::from(error).reason.as_str();
        assert_eq!(word(Error::InvalidCertificate(CertificateError::Expired)), "certificate-expired");
        assert_eq!(word(Error::InvalidCertificate(CertificateError::NotValidYet)), "certificate-expired");
        assert_eq!(word(Error::InvalidCertificate(CertificateError::NotValidForName)), "certificate-mismatch");
        assert_eq!(word(Error::InvalidCertificate(CertificateError::UnknownIssuer)), "unknown-ca");
        assert_eq!(word(Error::InvalidCertificate(CertificateError::BadSignature)), "tls-failed");
        assert_eq!(word(refused(OtherFingerprint("ab".to_owned()))), "certificate-mismatch");
        assert_eq!(word(Error::AlertReceived(AlertDescription::ProtocolVersion)), "tls-version");
        assert_eq!(word(Error::AlertReceived(AlertDescription::UnknownCA)), "unknown-ca");
        assert_eq!(word(Error::AlertReceived(AlertDescription::CertificateRequired)), "tls-failed");
        assert_eq!(word(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)), "not-tls");
    }

    #[test]
    fn an_error_of_a_stream_keeps_the_word() {
        let error = io::Error::from(TlsError::new(Reason::UnknownCa, "why"));
        assert_eq!(TlsError::within(&error).map(|error| error.reason), Some(Reason::UnknownCa));
        assert_eq!(TlsError::within(&io::ErrorKind::BrokenPipe.into()), None);
    }
}
