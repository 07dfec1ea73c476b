//! Certificates, of which bmpd reads the subject and the time of validity.

use bmp_user::tls::CertificateFacts;

/// Reads the bytes as a certificate. What follows a certificate changes nothing, and a certificate
/// that is cut is none.
pub fn certificate(bytes: &[u8]) {
    let Some(facts) = CertificateFacts::read(bytes) else { return };
    assert!(facts.subject.raw().chars().count() <= 255);
    assert_eq!(CertificateFacts::read(&[bytes, &[0]].concat()), Some(facts));
}
