//! The file with the key that seals the secrets of the configuration.
//!
//! The key is made when it is first needed. Only the user of bmpd can read it, and nothing shows
//! it. It is in the folder of bmpd's state, apart from what it seals.

use std::{
    cell::OnceCell,
    fs, io,
    path::{Path, PathBuf},
};

use tracing::info;

use super::language::{
    sealed::{NotOpened, SealingKey},
    secret::Secret,
};
use crate::{
    replace::{Replacement, sync_folder},
    sys,
};

/// The largest file that is read: far more than a key has.
const LARGEST: u64 = 256;

/// Where the key is.
#[derive(Clone, Debug)]
pub struct KeyFile(KeyPlace);

#[derive(Clone, Debug)]
enum KeyPlace {
    At(PathBuf),
    /// No file can be beside a configuration that is no regular file.
    Nowhere,
    /// No secret is to be opened.
    Unused,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no place for it.
    #[error(
        "there is no place for the key of secrets: the configuration is not a regular file, and bmpd has no folder for its state (`--state`)"
    )]
    Nowhere,
    /// The file is not there.
    #[error("there is no key {}", .0.display())]
    Absent(PathBuf),
    /// The system refuses to read it.
    #[error("cannot read the key {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// It holds something else.
    #[error(
        "{} is damaged, and no key of secrets: put the right file back, or remove this one and type each secret again with `simple`",
        .0.display()
    )]
    Damaged(PathBuf),
    /// It cannot be made.
    #[error("cannot make the key of secrets {}: {source}", .path.display())]
    NotMade {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The kernel has no random bytes, or a thread of bmpd has ended.
    #[error("cannot seal a secret: {0}")]
    NotSealed(#[from] io::Error),
}

impl KeyFile {
    /// Returns `secrets.key` in the folder of bmpd's state. Without such a folder, returns
    /// `FILE.key` beside the configuration file, if that is a regular file.
    pub fn of(state: Option<&Path>, configuration: &Path) -> Self {
        match state {
            Some(folder) => Self(KeyPlace::At(folder.join("secrets.key"))),
            None => Self::beside(configuration),
        }
    }

    /// Returns `FILE.key` beside the configuration file.
    pub fn beside(configuration: &Path) -> Self {
        // Follow a symbolic link, as the configuration itself does.
        let path = fs::canonicalize(configuration).unwrap_or_else(|_| configuration.to_owned());
        if !path.is_file() {
            return Self(KeyPlace::Nowhere);
        }
        let mut name = path.into_os_string();
        name.push(".key");
        Self(KeyPlace::At(name.into()))
    }

    /// Returns none at all: sealed secrets that are read with it stay sealed.
    pub fn unused() -> Self {
        Self(KeyPlace::Unused)
    }

    /// Returns its path.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            KeyPlace::At(path) => Some(path),
            KeyPlace::Nowhere | KeyPlace::Unused => None,
        }
    }

    /// Returns why the key cannot be had here and now, though it may be right.
    pub fn out_of_reach(&self) -> Option<KeyError> {
        self.read().err().filter(|error| !matches!(error, KeyError::Damaged(_)))
    }

    /// Reads the key.
    ///
    /// # Errors
    ///
    /// There is none, it cannot be read, or it is damaged.
    pub(super) fn read(&self) -> Result<SealingKey, KeyError> {
        let path = self.path().ok_or(KeyError::Nowhere)?;
        let text = sys::read_regular(path, LARGEST).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => KeyError::Absent(path.to_owned()),
            io::ErrorKind::InvalidData | io::ErrorKind::FileTooLarge => KeyError::Damaged(path.to_owned()),
            _ => KeyError::Unreadable { path: path.to_owned(), source },
        })?;
        let text = zeroize::Zeroizing::new(text);
        SealingKey::read(&text).ok_or_else(|| KeyError::Damaged(path.to_owned()))
    }

    /// Reads the key, and makes it if there is none.
    ///
    /// # Errors
    ///
    /// It cannot be made, cannot be read, or is damaged.
    pub(super) fn read_or_make(&self) -> Result<SealingKey, KeyError> {
        match self.read() {
            Err(KeyError::Absent(path)) => make(&path).map_err(|source| KeyError::NotMade { path, source }),
            read => read,
        }
    }
}

/// Makes a key that its owner alone can read. The owner is that of the folder, also where root
/// makes it: bmpd may run as that user later.
fn make(path: &Path) -> io::Result<SealingKey> {
    let key = SealingKey::random()?;
    let mut new = Replacement::create(path)?;
    new.take_owner_of_folder();
    new.write(key.text().as_bytes())?;
    new.put_in_place()?;
    sync_folder(path)?;
    info!("made the key of the secrets, {}", path.display());
    Ok(key)
}

/// Opens the sealed secrets of what is read. It reads the key when the first one comes.
#[derive(Debug)]
pub(super) struct SecretOpener<'a> {
    file: &'a KeyFile,
    key: OnceCell<Result<SealingKey, KeyError>>,
}

impl<'a> SecretOpener<'a> {
    pub(super) fn new(file: &'a KeyFile) -> Self {
        Self { file, key: OnceCell::new() }
    }

    /// Opens a secret. One that is open, or that need not be opened, stays as it is.
    ///
    /// # Errors
    ///
    /// There is no key, or this is not its text. The message says what to do.
    pub(super) fn open(&self, secret: &mut Secret) -> Result<(), String> {
        const AGAIN: &str = "or type the secret again with `simple`";
        if matches!(self.file.0, KeyPlace::Unused) {
            return Ok(());
        }
        let Some(sealed) = secret.closed_text() else { return Ok(()) };
        let key = match self.key.get_or_init(|| self.file.read()) {
            Ok(key) => key,
            Err(error @ KeyError::Absent(_)) => {
                return Err(format!("{error}, which this secret was sealed with: put it back, {AGAIN}"));
            }
            Err(error @ KeyError::Damaged(_)) => return Err(error.to_string()),
            Err(error) => return Err(format!("{error}: mend that, {AGAIN}")),
        };
        let path = self.file.path().unwrap_or(Path::new(""));
        let opened = key.open(sealed).map_err(|why| match why {
            NotOpened::AnotherKey => {
                format!("this secret was sealed with another key than {}: put that key there, {AGAIN}", path.display())
            }
            NotOpened::Changed => {
                "the text of this sealed secret was changed: put it back, or type the secret again with `simple`"
                    .to_owned()
            }
        })?;
        secret.set_opened(opened);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn reason(file: &KeyFile, secret: &mut Secret) -> String {
        SecretOpener::new(file).open(secret).unwrap_err()
    }

    #[test]
    fn the_key_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::of(Some(folder.path()), Path::new("bmpd.conf"));
        assert!(matches!(file.read(), Err(KeyError::Absent(_))));
        let sealed = file.read_or_make().unwrap().seal("hunter2").unwrap();
        let path = folder.path().join("secrets.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(*file.read_or_make().unwrap().open(&sealed).unwrap(), "hunter2");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // Nothing shows it.
        let text = fs::read_to_string(&path).unwrap();
        assert!(!format!("{file:?} {:?}", file.read()).contains(text.trim_end()));
    }

    #[test]
    fn a_secret_that_cannot_be_opened_says_what_is_wrong_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::of(Some(folder.path()), Path::new("bmpd.conf"));
        let sealed = SealingKey::random().unwrap().seal("hunter2").unwrap();
        let mut secret = Secret::from_sealed(sealed);
        assert!(reason(&file, &mut secret).starts_with("there is no key /"), "{}", reason(&file, &mut secret));
        file.read_or_make().unwrap();
        let said = reason(&file, &mut secret);
        assert!(said.contains("with another key than /") && said.ends_with("again with `simple`"), "{said}");
        fs::write(folder.path().join("secrets.key"), "?").unwrap();
        let said = reason(&file, &mut secret);
        assert!(said.contains("is damaged, and no key of secrets"), "{said}");
        let said = reason(&KeyFile::beside(Path::new("/dev/null")), &mut secret);
        assert!(said.contains("there is no place for the key"), "{said}");
        assert_eq!(SecretOpener::new(&KeyFile::unused()).open(&mut secret), Ok(()));
        assert!(secret.reveal().is_err());
    }
}
