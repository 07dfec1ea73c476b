//! A TLS profile as it was read from its files, ready for handshakes.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read as _},
    net::IpAddr,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{
        CryptoProvider,
        ring::{self, sign::any_supported_type},
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use zeroize::Zeroizing;

use super::{certificate::CertificateFacts, error::TlsError, kernel::KernelUse, verify::FarEndVerifier};
use crate::{config::TlsProfileConfig, pin::Reason};

/// The most bytes of a file. The CAs of a whole distribution take a quarter of that.
const LONGEST_FILE: u64 = 1 << 20;

/// A certificate of a profile, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileCertificate {
    /// What it is for.
    pub role: CertificateRole,
    /// The file that has it.
    pub file: PathBuf,
    /// What it says of itself.
    pub facts: CertificateFacts,
}

/// What a certificate of a profile is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertificateRole {
    /// It proves who this device is.
    Own,
    /// It is between this device's certificate and the CA.
    Intermediate,
    /// It is a CA that is trusted.
    TrustedCa,
}

impl CertificateRole {
    /// The word in metrics and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Intermediate => "intermediate",
            Self::TrustedCa => "trusted-ca",
        }
    }
}

/// A profile that was read from its files. It holds a private key, so `Debug` shows none of it.
pub(crate) struct TlsProfile {
    name: String,
    client: Result<Arc<ClientConfig>, String>,
    server: Result<Arc<ServerConfig>, String>,
    verify_name: Option<ServerName<'static>>,
    certificates: Vec<ProfileCertificate>,
    kernel_use: KernelUse,
}

impl std::fmt::Debug for TlsProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsProfile").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The identity of a file, by which a file that was replaced or changed is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Returns the stamps of the files that a profile names. `None` for a file that cannot be seen.
pub(super) fn stamps(config: &TlsProfileConfig) -> Vec<Option<FileStamp>> {
    config.files().map(|file| file.metadata().ok().map(|metadata| FileStamp::of(&metadata))).collect()
}

impl TlsProfile {
    /// Reads the files of a profile. Blocks.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or does not have what it should; or two files do not go together.
    pub(super) fn load(name: &str, config: &TlsProfileConfig) -> Result<Self, TlsError> {
        let unusable = |why: String| {
            TlsError::new(Reason::TlsProfileUnusable, format!("tls profile {name} cannot be used: {why}"))
        };
        Self::read(name, config).map_err(unusable)
    }

    fn read(name: &str, config: &TlsProfileConfig) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let mut certificates = Vec::new();
        let roots = config.trusted_ca.as_deref().map(|file| roots(file, &mut certificates)).transpose()?.map(Arc::new);
        let own = own_certificate(config, &mut certificates)?;
        let verify_name = match &config.verify_name {
            Some(name) => {
                Some(ServerName::try_from(name.clone()).map_err(|_| format!("`verify-name {name}` is no name"))?)
            }
            None => None,
        };
        let clients = match &roots {
            Some(roots) => {
                let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&provider));
                let verifier: Arc<dyn ClientCertVerifier> =
                    builder.build().map_err(|error| format!("`trusted-ca`: {error}"))?;
                Some(verifier)
            }
            None => None,
        };
        let demands_certificate = roots.is_some() || config.fingerprint.is_some();
        if verify_name.is_some() && !demands_certificate {
            return Err("`verify-name` needs `trusted-ca` or `fingerprint`".to_owned());
        }
        let verifier = Arc::new(FarEndVerifier {
            roots,
            clients,
            name: verify_name.clone(),
            fingerprint: config.fingerprint,
            algorithms: provider.signature_verification_algorithms,
        });
        let client = if demands_certificate {
            Ok(Arc::new(client_config(&provider, Arc::clone(&verifier), own.clone())?))
        } else {
            Err("it needs `trusted-ca` or `fingerprint` to connect".to_owned())
        };
        let server = match own {
            Some(own) => Ok(Arc::new(server_config(&provider, demands_certificate.then_some(verifier), own)?)),
            None => Err("it needs `certificate` and `private-key` to take connections".to_owned()),
        };
        let kernel_use = KernelUse::default();
        Ok(Self { name: name.to_owned(), client, server, verify_name, certificates, kernel_use })
    }

    /// Returns the name of the profile.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether its connections are encrypted in the kernel.
    pub(super) fn kernel_use(&self) -> KernelUse {
        self.kernel_use.clone()
    }

    /// Returns the certificates that it was read with.
    pub(super) fn certificates(&self) -> &[ProfileCertificate] {
        &self.certificates
    }

    /// Returns what a handshake with a far end needs that this device has connected to, and the
    /// name that the far end's certificate must have.
    ///
    /// # Errors
    ///
    /// The profile lacks what connecting takes.
    pub(crate) fn to_connect(&self, far: IpAddr) -> Result<(Arc<ClientConfig>, ServerName<'static>), TlsError> {
        let config = self.client.as_ref().map_err(|why| self.lacks(why))?;
        let name = self.verify_name.clone().unwrap_or_else(|| ServerName::from(far.to_canonical()));
        Ok((Arc::clone(config), name))
    }

    /// Returns what a handshake with a far end needs that has connected here.
    ///
    /// # Errors
    ///
    /// The profile lacks what taking connections takes.
    pub(crate) fn to_accept(&self) -> Result<Arc<ServerConfig>, TlsError> {
        self.server.clone().map_err(|why| self.lacks(&why))
    }

    fn lacks(&self, why: &str) -> TlsError {
        TlsError::new(Reason::TlsProfileUnusable, format!("tls profile {} cannot be used: {why}", self.name))
    }
}

/// Returns what proves who this device is.
fn own_certificate(
    config: &TlsProfileConfig,
    certificates: &mut Vec<ProfileCertificate>,
) -> Result<Option<Arc<SingleCertAndKey>>, String> {
    let (file, key_file) = match (&config.certificate, &config.private_key) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err("`certificate` needs `private-key`".to_owned()),
        (None, Some(_)) => return Err("`private-key` needs `certificate`".to_owned()),
        (Some(certificate), Some(key)) => (certificate, key),
    };
    let chain = read_certificates(file)?;
    for (place, certificate) in chain.iter().enumerate() {
        let role = if place == 0 { CertificateRole::Own } else { CertificateRole::Intermediate };
        certificates.push(profile_certificate(role, file, certificate)?);
    }
    let text = read_file(key_file)?;
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| format!("{} has no private key in PEM (PKCS #8, PKCS #1 or SEC1)", key_file.display()))?;
    let key = Zeroizing::new(key);
    let signing = any_supported_type(&key).map_err(|error| format!("{}: {error}", key_file.display()))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) => Ok(Some(Arc::new(certified.into()))),
        Err(_) => Err(format!("{} is not the key of {}", key_file.display(), file.display())),
    }
}

fn roots(file: &Path, certificates: &mut Vec<ProfileCertificate>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(file)? {
        certificates.push(profile_certificate(CertificateRole::TrustedCa, file, &certificate)?);
        roots.add(certificate).map_err(|error| format!("{}: a certificate cannot be a CA: {error}", file.display()))?;
    }
    Ok(roots)
}

fn profile_certificate(
    role: CertificateRole,
    file: &Path,
    certificate: &CertificateDer<'_>,
) -> Result<ProfileCertificate, String> {
    let facts = CertificateFacts::read(certificate)
        .ok_or_else(|| format!("{} has a certificate that cannot be read", file.display()))?;
    Ok(ProfileCertificate { role, file: file.to_owned(), facts })
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read_file(file)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match read {
        Ok(read) if !read.is_empty() => Ok(read),
        Ok(_) => Err(format!("{} has no certificate in PEM", file.display())),
        Err(error) => Err(format!("{} is no file of certificates in PEM: {error}", file.display())),
    }
}

/// Reads a whole file. It may have a private key, so the bytes are overwritten at their end.
fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let read = || -> io::Result<Zeroizing<Vec<u8>>> {
        // A FIFO without a writer does not hang an open with this flag.
        let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        // With room for all of it, so that no copy stays behind where the buffer was.
        let mut text = Zeroizing::new(Vec::with_capacity(
            usize::try_from(file.metadata()?.len().min(LONGEST_FILE)).unwrap_or(0) + 1,
        ));
        file.take(LONGEST_FILE + 1).read_to_end(&mut text)?;
        if text.len() as u64 > LONGEST_FILE {
            return Err(io::Error::other(format!("it has more than {LONGEST_FILE} bytes")));
        }
        Ok(text)
    };
    read().map_err(|error| format!("{}: {error}", path.display()))
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<FarEndVerifier>,
    own: Option<Arc<SingleCertAndKey>>,
) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider));
    let builder = builder.with_protocol_versions(&[&TLS13]).map_err(|error| error.to_string())?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match own {
        Some(own) => builder.with_client_cert_resolver(own),
        None => builder.with_no_client_auth(),
    };
    // Each connection verifies the certificates as they are now.
    config.resumption = Resumption::disabled();
    config.enable_secret_extraction = true;
    Ok(config)
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    verifier: Option<Arc<FarEndVerifier>>,
    own: Arc<SingleCertAndKey>,
) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider));
    let builder = builder.with_protocol_versions(&[&TLS13]).map_err(|error| error.to_string())?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(own);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.enable_secret_extraction = true;
    Ok(config)
}
