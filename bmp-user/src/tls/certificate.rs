//! What a certificate says of itself: its subject, and when it is valid (RFC 5280 §4.1).

use x509_parser::{certificate::X509Certificate, prelude::FromDer as _, time::ASN1Time};

use crate::{config::UtcTime, escape::Untrusted};

/// How many characters of a subject are kept.
const LONGEST_SUBJECT: usize = 255;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Its subject, as `CN=edge1.example.net, O=Example`.
    pub subject: Untrusted,
    /// The first second in which it is valid.
    pub begins: UtcTime,
    /// The last second in which it is valid.
    pub expires: UtcTime,
}

impl CertificateFacts {
    /// Reads a certificate in DER, and verifies nothing. Returns `None` for anything else.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject: String = certificate.subject().to_string().chars().take(LONGEST_SUBJECT).collect();
        let validity = certificate.validity();
        Some(Self {
            subject: Untrusted::new(if subject.is_empty() { "no subject".to_owned() } else { subject }),
            begins: utc(validity.not_before),
            expires: utc(validity.not_after),
        })
    }
}

/// What ended before 1970 is over all the same.
fn utc(time: ASN1Time) -> UtcTime {
    UtcTime::from_unix(u64::try_from(time.timestamp()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_certificate_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = CertificateFacts::read(&bytes);
        }
    }
}
