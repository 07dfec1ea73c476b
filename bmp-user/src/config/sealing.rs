//! The secrets of a configuration: sealed before they are written, and who could read them.

use std::{fmt, fs, net::IpAddr, os::unix::fs::PermissionsExt as _, path::Path};

use super::{
    key_file::{KeyError, KeyFile},
    language::secret::Secret,
    model::{Config, SessionId},
};

/// Whose secret it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SecretOwner {
    Session(SessionId),
    Peer(IpAddr),
    Key(String, u8),
}

impl fmt::Display for SecretOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(id) => write!(f, "session {id}"),
            Self::Peer(address) => write!(f, "BGP peer {address}"),
            Self::Key(chain, id) => write!(f, "key {id} of keychain {chain}"),
        }
    }
}

impl Config {
    fn secrets(&self) -> impl Iterator<Item = (SecretOwner, &Secret)> {
        let sessions = self.bmp.sessions.iter();
        let sessions =
            sessions.filter_map(|(id, session)| Some((SecretOwner::Session(id.clone()), session.password.as_ref()?)));
        let peers = self.bgp.iter().flat_map(|bgp| &bgp.peers);
        let peers = peers.filter_map(|(address, peer)| Some((SecretOwner::Peer(*address), peer.password.as_ref()?)));
        let keys =
            self.keychains.iter().flat_map(|(chain, keychain)| keychain.keys.iter().map(move |key| (chain, key)));
        let keys =
            keys.filter_map(|(chain, (id, key))| Some((SecretOwner::Key(chain.clone(), *id), key.secret.as_ref()?)));
        sessions.chain(peers).chain(keys)
    }

    fn secrets_mut(&mut self) -> impl Iterator<Item = (SecretOwner, &mut Secret)> {
        let sessions = self.bmp.sessions.iter_mut();
        let sessions =
            sessions.filter_map(|(id, session)| Some((SecretOwner::Session(id.clone()), session.password.as_mut()?)));
        let peers = self.bgp.iter_mut().flat_map(|bgp| &mut bgp.peers);
        let peers = peers.filter_map(|(address, peer)| Some((SecretOwner::Peer(*address), peer.password.as_mut()?)));
        let keys = self.keychains.iter_mut();
        let keys = keys.flat_map(|(chain, keychain)| keychain.keys.iter_mut().map(move |key| (chain, key)));
        let keys =
            keys.filter_map(|(chain, (id, key))| Some((SecretOwner::Key(chain.clone(), *id), key.secret.as_mut()?)));
        sessions.chain(peers).chain(keys)
    }

    /// Decides whether there is a secret in the configuration.
    pub(super) fn has_secrets(&self) -> bool {
        self.secrets().next().is_some()
    }

    /// Decides whether a secret would be written as it is.
    pub(super) fn has_clear_secrets(&self) -> bool {
        self.secrets().any(|(_, secret)| secret.sealed_text().is_none())
    }
}

/// Returns the same configuration with all its secrets sealed by the key, which is made if there is
/// none. A secret that `like` has too keeps its text from there. A secret that another key has
/// sealed is sealed again, if it is open.
///
/// # Errors
///
/// There is a secret, and no key.
pub(super) fn sealed(config: &Config, like: &Config, keys: &KeyFile) -> Result<Config, KeyError> {
    let mut config = config.clone();
    if !config.has_secrets() {
        return Ok(config);
    }
    let key = keys.read_or_make()?;
    let known: Vec<_> = like.secrets().collect();
    for (owner, secret) in config.secrets_mut() {
        let is_ours = |secret: &Secret| secret.sealed_text().is_some_and(|text| key.has_sealed(text));
        if is_ours(secret) {
            continue;
        }
        let before = known.iter().find(|(other, before)| *other == owner && *before == secret && is_ours(before));
        let text = match (before.and_then(|(_, before)| before.sealed_text()), secret.clear()) {
            (Some(text), _) => text.clone(),
            (None, Some(clear)) => key.seal(clear)?,
            // Nobody knows what is in it. It stays as it is.
            (None, None) => continue,
        };
        secret.set_sealed(text);
    }
    Ok(config)
}

/// How many owners a warning names.
const NAMED: usize = 4;

/// Returns what is wrong with how a configuration file and its key keep secrets, a sentence each:
/// others can read one of them, secrets are not sealed yet, or were not opened.
pub fn secrecy_warnings(path: &Path, config: &Config, keys: &KeyFile) -> Vec<String> {
    let mut warnings = Vec::new();
    if !config.has_secrets() {
        return warnings;
    }
    let file = path.display();
    let names = |is_meant: &dyn Fn(&Secret) -> bool| {
        let owners: Vec<_> = config.secrets().filter(|(_, secret)| is_meant(secret)).map(|(owner, _)| owner).collect();
        let named: Vec<_> = owners.iter().take(NAMED).map(ToString::to_string).collect();
        let more = owners.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!owners.is_empty()).then(|| named.join(", ") + &more)
    };
    let mode = |path: &Path| fs::metadata(path).map_or(0, |found| found.permissions().mode() & 0o7777);
    if mode(path) & 0o004 != 0 {
        let mode = mode(path);
        warnings
            .push(format!("{file} holds secrets, and every user can read it (mode {mode:04o}): `chmod o-rwx {file}`"));
    }
    if let Some(owners) = names(&|secret| secret.sealed_text().is_none()) {
        warnings.push(format!("{file} has the secret of {owners} as it is: the next commit seals it"));
    }
    if let Some(key) = keys.path()
        && mode(key) & 0o077 != 0
    {
        let (key, mode) = (key.display(), mode(key));
        warnings
            .push(format!("other users can read {key}, the key of all secrets (mode {mode:04o}): `chmod 0600 {key}`"));
    }
    if let Some(owners) = names(&|secret| secret.closed_text().is_some())
        && let Some(why) = keys.out_of_reach()
    {
        warnings.push(format!(
            "the secret of {owners} was not checked, because {why} (run this as root or as bmpd's user, and name the folder of its state with \
             `--state`)"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::{super::parse_file, *};

    const TEXT: &str = "bgp 65000\n peer 192.0.2.2 as-number 65001\n peer 192.0.2.2 password hunter2\nbmp\n bmp-session \
                        198.51.100.7\n  tcp connect port 11019 password md5 hunter3\n";

    fn texts(config: &Config) -> Vec<String> {
        config.secrets().filter_map(|(_, secret)| Some(secret.sealed_text()?.as_str().to_owned())).collect()
    }

    fn keys(folder: &tempfile::TempDir) -> KeyFile {
        KeyFile::of(Some(folder.path()), Path::new(""))
    }

    #[test]
    fn a_secret_that_does_not_change_keeps_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(&folder);
        let clear = parse_file("f", TEXT).unwrap();
        assert!(clear.has_clear_secrets());
        let first = sealed(&clear, &Config::default(), &keys).unwrap();
        assert!(!first.has_clear_secrets() && first == clear);
        assert_eq!(texts(&sealed(&first, &first, &keys).unwrap()), texts(&first));
        // Also one that was typed again.
        assert_eq!(texts(&sealed(&clear, &first, &keys).unwrap()), texts(&first));
        let other = parse_file("f", &TEXT.replace("hunter3", "hunter4")).unwrap();
        let other = sealed(&other, &first, &keys).unwrap();
        let same: Vec<_> = texts(&first).iter().zip(texts(&other)).map(|(one, other)| *one == other).collect();
        assert_eq!(same, [false, true]);
    }

    #[test]
    fn what_a_lost_key_has_sealed_is_sealed_again_while_it_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(&folder);
        let first = sealed(&parse_file("f", TEXT).unwrap(), &Config::default(), &keys).unwrap();
        fs::remove_file(keys.path().unwrap()).unwrap();
        let second = sealed(&first, &first, &keys).unwrap();
        assert_eq!(first, second);
        assert!(texts(&first).iter().zip(texts(&second)).all(|(one, other)| *one != other));
        let key = keys.read().unwrap();
        assert!(second.secrets().all(|(_, secret)| key.open(secret.sealed_text().unwrap()).is_ok()));
    }

    #[test]
    fn a_configuration_without_secrets_needs_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(&folder);
        sealed(&Config::default(), &Config::default(), &keys).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(secrecy_warnings(Path::new("/dev/null"), &Config::default(), &keys).is_empty());
    }

    #[test]
    fn files_that_others_can_read_and_clear_secrets_are_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, path) = (keys(&folder), folder.path().join("bmpd.conf"));
        fs::write(&path, TEXT).unwrap();
        let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let clear = parse_file("f", TEXT).unwrap();
        chmod(&path, 0o640);
        let warnings = secrecy_warnings(&path, &clear, &keys);
        assert!(
            warnings.len() == 1 && warnings[0].contains("session 198.51.100.7, BGP peer 192.0.2.2 as it is"),
            "{warnings:?}"
        );
        let sealed = sealed(&clear, &clear, &keys).unwrap();
        assert_eq!(secrecy_warnings(&path, &sealed, &keys), [""; 0]);
        chmod(&path, 0o644);
        chmod(keys.path().unwrap(), 0o640);
        let warnings = secrecy_warnings(&path, &sealed, &keys);
        assert!(warnings[0].contains("every user can read it (mode 0644)"), "{warnings:?}");
        assert!(warnings[1].contains("secrets.key, the key of all secrets (mode 0640)"), "{warnings:?}");
        assert_eq!(warnings.len(), 2);
    }
}
