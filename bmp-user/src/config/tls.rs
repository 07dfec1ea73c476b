//! What a TLS profile has.

use std::{fmt, path::PathBuf};

/// `tls profile NAME`: whom this device trusts, and how it proves who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsProfileConfig {
    /// `trusted-ca FILE`: certificates in PEM that the far end's certificate must lead to.
    pub trusted_ca: Option<PathBuf>,
    /// `certificate FILE`: the certificate of this device in PEM, and those between it and the CA.
    pub certificate: Option<PathBuf>,
    /// `private-key FILE`: the key of that certificate, in PEM.
    pub private_key: Option<PathBuf>,
    /// `verify-name NAME`: the DNS name or address that the far end's certificate must have.
    pub verify_name: Option<String>,
    /// `fingerprint sha256 HEX`: the one certificate that the far end may have.
    pub fingerprint: Option<CertificateFingerprint>,
}

impl TlsProfileConfig {
    /// Returns the files that the profile names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.trusted_ca, &self.certificate, &self.private_key].into_iter().flatten()
    }
}

/// The SHA-256 of a certificate in DER. Displays as 64 small hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateFingerprint(pub [u8; 32]);

impl CertificateFingerprint {
    /// Reads 64 hexadecimal digits, with a colon between two octets or without, as
    /// `openssl x509 -fingerprint -sha256` prints them. Returns `None` for anything else.
    pub fn read(text: &str) -> Option<Self> {
        let has_colons = text.contains(':');
        let mut octets = [0; 32];
        let mut rest = text;
        for (index, octet) in octets.iter_mut().enumerate() {
            if has_colons && index > 0 {
                rest = rest.strip_prefix(':')?;
            }
            let (digits, after) = rest.split_at_checked(2)?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            (*octet, rest) = (u8::from_str_radix(digits, 16).ok()?, after);
        }
        rest.is_empty().then_some(Self(octets))
    }
}

impl fmt::Display for CertificateFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_with_colons_or_without_and_shown_without() {
        let plain = "00ff".repeat(16);
        let colons = ["00:FF"; 16].join(":");
        let read = CertificateFingerprint::read(&plain).unwrap();
        assert_eq!(CertificateFingerprint::read(&colons), Some(read));
        assert_eq!(read.to_string(), plain);
        for wrong in [
            "",
            "00",
            &plain[1..],
            &format!("{plain}00"),
            &colons[1..],
            &plain.replace('f', "g"),
            "é".repeat(32).as_str(),
        ] {
            assert_eq!(CertificateFingerprint::read(wrong), None, "{wrong}");
        }
    }
}
