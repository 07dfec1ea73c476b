//! TLS 1.3 (RFC 8446, RFC 9325) on TCP connections: profiles that are read from files, handshakes,
//! and connections. It knows no session and no relay.
//!
//! - `profile`: a profile as its files have it, and the settings of rustls that come of it
//! - `verify`: whether the far end's certificate is the right one
//! - `certificate`: the subject of a certificate, and when it is valid
//! - `stream`: a connection; `kernel` and `user_space` encrypt it
//! - `records`: records, cut anywhere
//! - `error`: each failure as a reason in words
//!
//! [`TlsProfiles`] has the profiles of the configuration. [`run`] reads their files again when they
//! change, and warns before certificates expire. A connection that is up keeps what it began with.

mod certificate;
mod error;
mod kernel;
mod profile;
mod records;
mod stream;
#[cfg(test)]
mod tests;
mod user_space;
mod verify;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

pub use certificate::CertificateFacts;
pub(crate) use error::TlsError;
pub(crate) use profile::TlsProfile;
pub use profile::{CertificateRole, ProfileCertificate};
pub use records::{AfterHandshake, HandshakeMessages, TlsRecordReader};
pub(crate) use stream::TlsStream;
pub use stream::{HANDSHAKE_TIME, TlsReport};

use crate::{
    config::{Config, TlsProfileConfig},
    pin::Reason,
    sys, tasks,
};
use profile::{FileStamp, stamps};

/// How often the files of profiles are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);

const DAY: u64 = 86_400;
/// How many days before its end a certificate is warned of, longest first. Each is logged once.
const WARNED_DAYS: [u64; 3] = [30, 7, 1];

/// The TLS profiles of the configuration, as they were read from their files. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct TlsProfiles(Arc<SharedProfiles>);

#[derive(Debug, Default)]
struct SharedProfiles {
    known: Mutex<BTreeMap<String, KnownProfile>>,
    /// Notified when an operator wants the files to be read again.
    again: Notify,
}

/// A profile as it was read last.
#[derive(Clone, Debug)]
struct KnownProfile {
    config: TlsProfileConfig,
    stamps: Vec<Option<FileStamp>>,
    loaded: Result<Arc<TlsProfile>, TlsError>,
}

impl KnownProfile {
    /// Reads a profile. Blocks.
    fn read(name: &str, config: &TlsProfileConfig) -> Self {
        // A file that changes meanwhile has another stamp at the next look.
        let stamps = stamps(config);
        let loaded = TlsProfile::load(name, config).map(Arc::new);
        Self { config: config.clone(), stamps, loaded }
    }
}

/// A certificate of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateOfProfile {
    /// The name of the profile.
    pub profile: String,
    /// The certificate.
    pub certificate: ProfileCertificate,
}

impl CertificateOfProfile {
    /// Returns how many seconds are left before it expires. Negative once it has expired.
    pub fn seconds_left(&self) -> i64 {
        seconds_left(&self.certificate)
    }
}

fn seconds_left(certificate: &ProfileCertificate) -> i64 {
    let expires = i64::try_from(certificate.facts.expires.as_unix()).unwrap_or(i64::MAX);
    expires.saturating_sub(i64::try_from(sys::unix_time()).unwrap_or(i64::MAX))
}

impl TlsProfiles {
    /// Returns the profile of a configuration as its files had it last. Reads them if the profile
    /// is not known yet, or could not be read.
    ///
    /// # Errors
    ///
    /// There is no such profile, or its files do not have what they should.
    pub(crate) async fn get(&self, name: &str, config: &Config) -> Result<Arc<TlsProfile>, TlsError> {
        let Some(wanted) = config.tls_profiles.get(name) else { return Err(no_profile(name)) };
        let known = self.known().get(name).filter(|known| known.config == *wanted).cloned();
        if let Some(Ok(loaded)) = known.map(|known| known.loaded) {
            return Ok(loaded);
        }
        let (owned, wanted) = (name.to_owned(), wanted.clone());
        let read = tasks::blocking(move || KnownProfile::read(&owned, &wanted)).await;
        let read = read.map_err(|error| TlsError::new(Reason::TlsProfileUnusable, error.to_string()))?;
        self.known().insert(name.to_owned(), read.clone());
        read.loaded
    }

    /// Returns the certificates of the profiles that could be read, in the order of their names.
    pub fn certificates(&self) -> Vec<CertificateOfProfile> {
        let known = self.known();
        let loaded = known.iter().filter_map(|(name, known)| Some((name, known.loaded.as_ref().ok()?)));
        let certificates = loaded.flat_map(|(name, loaded)| {
            loaded
                .certificates()
                .iter()
                .map(|certificate| CertificateOfProfile { profile: name.clone(), certificate: certificate.clone() })
        });
        certificates.collect()
    }

    /// Returns how many seconds are left before this device's certificate of a profile expires;
    /// negative once it has. `None` if the profile has none, or could not be read.
    pub fn seconds_of_own_certificate(&self, profile: &str) -> Option<i64> {
        let known = self.known();
        let certificates = known.get(profile)?.loaded.as_ref().ok()?.certificates();
        let own = certificates.iter().find(|certificate| certificate.role == CertificateRole::Own)?;
        Some(seconds_left(own))
    }

    /// Has the files of all profiles read again, whether they look changed or not.
    pub fn read_again(&self) {
        self.0.again.notify_one();
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, KnownProfile>> {
        // No code that holds the lock panics half-way through a change.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the profiles in line with the configuration and with their files. Blocks.
    fn look(&self, config: &Config, all: bool) {
        self.known().retain(|name, _| config.tls_profiles.contains_key(name));
        for (name, wanted) in &config.tls_profiles {
            let known = self.known().get(name).cloned();
            let same = known.as_ref().filter(|known| known.config == *wanted);
            if !all && same.is_some_and(|known| known.stamps == stamps(wanted)) {
                continue;
            }
            let read = KnownProfile::read(name, wanted);
            match (&read.loaded, same.map(|known| &known.loaded)) {
                (Ok(_), None) => {}
                (Ok(loaded), Some(Ok(before))) if loaded.certificates() == before.certificates() => {}
                (Ok(_), Some(_)) => info!(profile = name, "read the files of the TLS profile again"),
                // A new certificate may be written before its key. Connections go on with the old.
                (Err(error), Some(Ok(before))) => {
                    warn!(profile = name, "{error}; new connections have what was read before");
                    let loaded = Ok(Arc::clone(before));
                    self.known().insert(name.clone(), KnownProfile { loaded, ..read });
                    continue;
                }
                (Err(error), Some(Err(before))) if error == before => {}
                (Err(error), _) => warn!(profile = name, "{error}"),
            }
            self.known().insert(name.clone(), read);
        }
    }
}

fn no_profile(name: &str) -> TlsError {
    TlsError::new(Reason::TlsProfileUnusable, format!("there is no tls profile {name}"))
}

/// Checks a profile of a configuration, for a commit. Blocks.
///
/// # Errors
///
/// As for connections that would use it; `connects` is true for those that this device opens.
pub(crate) fn check(name: &str, config: &Config, connects: bool) -> Result<(), TlsError> {
    let wanted = config.tls_profiles.get(name).ok_or_else(|| no_profile(name))?;
    let profile = TlsProfile::load(name, wanted)?;
    match connects {
        true => profile.to_connect(std::net::Ipv4Addr::LOCALHOST.into()).map(|_| ()),
        false => profile.to_accept().map(|_| ()),
    }
}

/// Returns the certificates of a configuration's profiles, read from their files now. Blocks.
pub(crate) fn certificates_of(config: &Config) -> Vec<CertificateOfProfile> {
    let profiles = TlsProfiles::default();
    for (name, wanted) in &config.tls_profiles {
        profiles.known().insert(name.clone(), KnownProfile::read(name, wanted));
    }
    profiles.certificates()
}

/// Reads the files of the profiles again when they change, and warns before a certificate expires.
/// Never ends by itself.
pub async fn run(profiles: TlsProfiles, mut config: watch::Receiver<Arc<Config>>) {
    let mut clock = interval(LOOK_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut warned = ExpiryWarnings::default();
    loop {
        let mut all = false;
        let look = async {
            tokio::select! {
                _ = clock.tick() => {}
                () = profiles.0.again.notified() => all = true,
                Ok(()) = config.changed() => {}
            }
        };
        tasks::idle(look).await;
        let (profiles, now) = (profiles.clone(), Arc::clone(&config.borrow_and_update()));
        let looked = tasks::blocking(move || {
            profiles.look(&now, all);
            profiles.certificates()
        });
        match tasks::idle(looked).await {
            Ok(certificates) => warned.look(&certificates),
            Err(error) => warn!("cannot look at the files of TLS profiles: {error}"),
        }
    }
}

/// Which certificates were warned of.
#[derive(Debug, Default)]
struct ExpiryWarnings(BTreeMap<(String, PathBuf, u64), u64>);

impl ExpiryWarnings {
    fn look(&mut self, certificates: &[CertificateOfProfile]) {
        let mut warned = BTreeMap::new();
        for one in certificates {
            let Some(days) = warned_days(one.seconds_left()) else { continue };
            let CertificateOfProfile { profile, certificate } = one;
            let id = (profile.clone(), certificate.file.clone(), certificate.facts.expires.as_unix());
            if self.0.get(&id).is_none_or(|before| days < *before) && !warned.contains_key(&id) {
                warn!(profile, "{}", expiry(one));
            }
            warned.insert(id, days);
        }
        self.0 = warned;
    }
}

/// Returns the warning that is due: the days of [`WARNED_DAYS`], 0 for a certificate that has
/// expired, `None` if there is time.
fn warned_days(seconds_left: i64) -> Option<u64> {
    let Ok(left) = u64::try_from(seconds_left) else { return Some(0) };
    WARNED_DAYS.into_iter().rev().find(|days| left < days * DAY)
}

/// Returns a sentence about when a certificate expires, if an operator should see to it.
pub(crate) fn expiry_warning(certificate: &CertificateOfProfile) -> Option<String> {
    warned_days(certificate.seconds_left()).map(|_| expiry(certificate))
}

fn expiry(CertificateOfProfile { profile, certificate }: &CertificateOfProfile) -> String {
    let ProfileCertificate { file, facts, .. } = certificate;
    let (file, subject, expires) = (file.display(), &facts.subject, facts.expires);
    let verb = if expires.as_unix() < sys::unix_time() { "has expired" } else { "expires" };
    format!("the certificate of {subject} in {file}, which tls profile {profile} has, {verb} at {expires} UTC")
}
