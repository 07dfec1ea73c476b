//! What bmpd says about a configuration file that it does not run with.

use std::path::Path;

use super::consequences::{Remark, warnings::without_host};
use crate::config::{self, Config, KeyFile, StartLimits};

/// A valid configuration file.
#[derive(Clone, Debug)]
pub struct CheckedFile {
    /// The configuration.
    pub config: Config,
    /// The warnings that hold on any host, and those about who can read its secrets.
    pub warnings: Vec<Remark>,
}

impl CheckedFile {
    /// Reads the file for a bmpd that is started for so many sessions. `state` is the folder of
    /// what that bmpd remembers, with the key of the secrets. Without the key, sealed secrets are
    /// not checked, and a warning says so.
    ///
    /// # Errors
    ///
    /// Each error of the file, with its line.
    pub fn read(path: &Path, state: Option<&Path>, sessions: usize) -> Result<Self, String> {
        let keys = KeyFile::of(state, path);
        let usable = if keys.out_of_reach().is_some() { KeyFile::unused() } else { keys.clone() };
        let config = config::load(path, &usable).map_err(|error| error.to_string())?;
        let limits = StartLimits::sessions(sessions);
        config.check_limits(&limits).map_err(|error| format!("{}: error: {error}", path.display()))?;
        let secrecy = config::secrecy_warnings(path, &config, &keys).into_iter().map(Remark::warning);
        let warnings = without_host(&config).into_iter().chain(secrecy).collect();
        Ok(Self { config, warnings })
    }
}
