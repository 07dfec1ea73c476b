//! Signs TCP connections with the keys of key chains, and rolls the keys over while connections are
//! up.
//!
//! A connection asks the far end to sign with the preferred key of its chain. This end signs with
//! the key that the far end asks for, as RFC 5925 §7.5.2 has it, while the lifetimes of the chain
//! allow that key. So both ends change to the same key, whichever clock is ahead, and no segment is
//! lost.
//!
//! [`ConnectionKeys`] are those of a connection, [`ListenerKeys`] those of a socket that listens.
//! [`SignedStream`] is a connection that follows its chain by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    os::fd::{AsRawFd, RawFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{Interval, MissedTickBehavior, interval},
};
use tracing::{info, warn};

use crate::{
    config::{Config, KeyAlgorithm, KeyPlan, KeychainConfig, NoKeyPlan, Secret, SigningProtocol, UsableKey, UtcTime},
    pin::{DownCause, Reason},
    sys::{
        self,
        tcp_ao::{self, AoInfo, AoKey, KeyScope},
    },
};

/// How often a connection compares its keys with its chain. The clock of the host may be set, so
/// nothing waits for a time of the calendar.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Returns the clock of these looks. It goes on whatever else its owner waits for: clients who
/// connect all the time do not put a look off.
pub(crate) fn look_clock() -> Interval {
    let mut clock = interval(LOOK_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock
}

/// Why a connection is not signed as its key chain says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SigningError {
    /// The chain is not configured.
    #[error("there is no keychain {0}")]
    NoChain(String),
    /// The chain has no key to sign with.
    #[error("keychain {chain} cannot sign: {why}")]
    NoPlan {
        /// The name of the chain.
        chain: String,
        /// What is the matter with it.
        why: NoKeyPlan,
    },
    /// The kernel has not what the chain needs.
    #[error("this kernel has no {lacks}, which keychain {chain} needs")]
    NotSupported {
        /// The name of the chain.
        chain: String,
        /// An option of TCP or an algorithm, and what the kernel must be to have it.
        lacks: String,
    },
    /// The far end connected without a signature.
    #[error("the connection is not signed, and keychain {0} takes no other")]
    Unsigned(String),
    /// The kernel refuses a password of TCP MD5.
    #[error("cannot set the TCP MD5 password: {0}")]
    Password(io::Error),
    /// The kernel refuses a key.
    #[error("cannot sign with keychain {chain}: {error}")]
    Refused {
        /// The name of the chain.
        chain: String,
        /// The error of the kernel.
        error: io::Error,
    },
}

impl SigningError {
    /// Returns the reason in one word.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::NoChain(_) | Self::NoPlan { .. } => Reason::NoValidKey,
            Self::NotSupported { .. } => Reason::NotSupported,
            Self::Unsigned(_) => Reason::KeyMismatch,
            Self::Refused { error, .. } | Self::Password(error) => Reason::of(error, Reason::NotPermitted),
        }
    }

    /// Returns the reason of a session that is down for it.
    pub(crate) fn cause(&self) -> DownCause {
        DownCause::without_mend(self.reason(), self.to_string())
    }

    fn of_kernel(chain: &str, key: &UsableKey, error: io::Error) -> Self {
        let chain = chain.to_owned();
        let lacks = match (error.raw_os_error(), key.algorithm) {
            (Some(libc::ENOPROTOOPT), KeyAlgorithm::Md5) => "TCP MD5 (CONFIG_TCP_MD5SIG)".to_owned(),
            (Some(libc::ENOPROTOOPT), _) => "TCP-AO (Linux 6.7 or newer with CONFIG_TCP_AO)".to_owned(),
            // Up to Linux 7.1 the algorithms are modules of the kernel's own.
            (Some(libc::ENOENT | libc::EOPNOTSUPP), algorithm) => {
                format!("{} ({} of its crypto algorithms)", algorithm.as_str(), kernel_name(algorithm))
            }
            _ => return Self::Refused { chain, error },
        };
        Self::NotSupported { chain, lacks }
    }
}

/// Keeps the word of the reason for whoever sees the error of a connection alone.
impl From<SigningError> for io::Error {
    fn from(error: SigningError) -> Self {
        Self::other(error)
    }
}

/// Returns the kernel's name of an algorithm.
fn kernel_name(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::HmacSha1 => "hmac(sha1)",
        KeyAlgorithm::Aes128Cmac => "cmac(aes128)",
        KeyAlgorithm::HmacSha256 => "hmac(sha256)",
        KeyAlgorithm::Md5 => "md5",
    }
}

/// Returns the time of the host's clock.
pub(crate) fn now() -> UtcTime {
    UtcTime::from_unix(sys::unix_time())
}

/// Returns what a key chain of a configuration asks of connections now.
///
/// # Errors
///
/// There is no such chain, or it has no key to sign with.
pub(crate) fn plan_of(name: &str, config: &Config) -> Result<KeyPlan, SigningError> {
    let chain = config.keychains.get(name).ok_or_else(|| SigningError::NoChain(name.to_owned()))?;
    chain.plan(now()).map_err(|why| SigningError::NoPlan { chain: name.to_owned(), why })
}

/// The keys of one connection, or of a socket that is about to connect.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionKeys {
    chain: String,
    far: IpAddr,
    /// The scope that the kernel has each key of TCP-AO for.
    scope: KeyScope,
    protocol: SigningProtocol,
    /// The keys as they were given to the socket.
    given: BTreeMap<u8, UsableKey>,
    /// The chain as it was last followed, and when there is news without another chain.
    followed: Option<(KeychainConfig, Option<UtcTime>)>,
}

/// What the kernel says about the keys of a connection, or of a listener, which has no chosen keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyReport {
    /// The key that signs what is sent.
    pub current: Option<u8>,
    /// The key that the far end is asked to sign with.
    pub next: Option<u8>,
    /// Segments with a right signature.
    pub good: u64,
    /// Segments with a wrong signature, dropped.
    pub bad: u64,
    /// Segments with an unknown key id, dropped.
    pub unknown_key: u64,
    /// Segments without a signature, dropped.
    pub unsigned: u64,
}

impl ConnectionKeys {
    /// Gives a socket its keys, before it connects to `far`.
    ///
    /// # Errors
    ///
    /// The chain cannot sign now, or the kernel refuses a key.
    pub(crate) fn install(
        socket: &impl AsRawFd,
        far: IpAddr,
        chain: &str,
        config: &Config,
    ) -> Result<Self, SigningError> {
        let plan = plan_of(chain, config)?;
        let mut keys = Self::new(far, KeyScope::Host(far), chain, plan.protocol);
        match plan.protocol {
            SigningProtocol::Ao => {
                for key in plan.installed.values() {
                    keys.add(socket, key)?;
                }
                let chosen = tcp_ao::choose_keys(socket, Some(plan.preferred), plan.preferred);
                chosen.map_err(|error| keys.refused(error))?;
            }
            SigningProtocol::Md5 => keys.sign_with_md5(socket, &plan)?,
        }
        Ok(keys)
    }

    /// Takes over a connection that `far` opened. Its keys are those that its listener had.
    ///
    /// # Errors
    ///
    /// The connection is not signed, or the chain cannot sign now.
    pub(crate) fn of_accepted(
        socket: &impl AsRawFd,
        far: IpAddr,
        scope: KeyScope,
        chain: &str,
        config: &Config,
    ) -> Result<Self, SigningError> {
        let plan = plan_of(chain, config)?;
        let mut keys = Self::new(far, scope, chain, plan.protocol);
        match plan.protocol {
            SigningProtocol::Ao => {
                let had = tcp_ao::key_ids(socket).map_err(|_| SigningError::Unsigned(chain.to_owned()))?;
                let had = plan.installed.iter().filter(|(id, _)| had.contains(id));
                keys.given = had.map(|(id, key)| (*id, key.clone())).collect();
            }
            SigningProtocol::Md5 => keys.given = plan.installed,
        }
        keys.follow(socket, config)?;
        Ok(keys)
    }

    fn new(far: IpAddr, scope: KeyScope, chain: &str, protocol: SigningProtocol) -> Self {
        Self { chain: chain.to_owned(), far, scope, protocol, given: BTreeMap::new(), followed: None }
    }

    /// Returns the name of the chain.
    pub(crate) fn chain(&self) -> &str {
        &self.chain
    }

    /// Brings the keys of a connection in line with its chain. It costs next to nothing while
    /// neither the chain has changed nor a lifetime has begun or ended.
    ///
    /// # Errors
    ///
    /// The chain cannot sign any more, or the kernel refuses a key. The connection has to end then.
    pub(crate) fn follow(&mut self, socket: &impl AsRawFd, config: &Config) -> Result<(), SigningError> {
        let now = now();
        let chain = config.keychains.get(&self.chain).ok_or_else(|| SigningError::NoChain(self.chain.clone()))?;
        if let Some((followed, until)) = &self.followed
            && followed == chain
            && until.is_none_or(|until| now < until)
        {
            return Ok(());
        }
        let plan = chain.plan(now).map_err(|why| SigningError::NoPlan { chain: self.chain.clone(), why })?;
        match (self.protocol, plan.protocol) {
            (SigningProtocol::Ao, SigningProtocol::Ao) => self.roll_over(socket, &plan)?,
            (SigningProtocol::Md5, SigningProtocol::Md5) => self.sign_with_md5(socket, &plan)?,
            // A connection keeps its option for life (RFC 5925 §1). The next one has the other.
            _ => {}
        }
        self.followed = Some((chain.clone(), plan.until));
        Ok(())
    }

    /// Gives a connection the keys that it lacks, takes away those that are over, and asks the far
    /// end for the preferred one.
    fn roll_over(&mut self, socket: &impl AsRawFd, plan: &KeyPlan) -> Result<(), SigningError> {
        let mut had: BTreeSet<u8> = tcp_ao::key_ids(socket).map_err(|error| self.refused(error))?.into_iter().collect();
        for (id, key) in plan.installed.iter().filter(|(id, _)| !had.contains(id)).collect::<Vec<_>>() {
            self.add(socket, key)?;
            info!(far = %self.far, keychain = self.chain, key = id, "the connection has another key");
        }
        had.extend(plan.installed.keys());
        let AoInfo { current, next, .. } = tcp_ao::info(socket).map_err(|error| self.refused(error))?;
        // While the key that signs may do so, the far end decides when it is another.
        let forced = current.filter(|current| plan.sendable.contains(current)).is_none().then_some(plan.preferred);
        if forced.is_some() || next != Some(plan.preferred) {
            tcp_ao::choose_keys(socket, forced, plan.preferred).map_err(|error| self.refused(error))?;
            info!(far = %self.far, keychain = self.chain, key = plan.preferred, "the far end is asked to sign with this key");
        }
        for id in had.iter().filter(|id| !plan.installed.contains_key(id)) {
            self.delete(socket, *id, plan.preferred, plan)?;
            self.given.remove(id);
            info!(far = %self.far, keychain = self.chain, key = id, "the connection has this key no more");
        }
        self.replace(socket, plan)
    }

    /// Gives a connection the new secrets of keys that it has already. A key that is the only one
    /// to sign with stays as it is: a connection cannot be without.
    fn replace(&mut self, socket: &impl AsRawFd, plan: &KeyPlan) -> Result<(), SigningError> {
        let is_changed = |id: &u8| self.given.get(id).is_some_and(|given| plan.installed.get(id) != Some(given));
        let (changed, same): (Vec<_>, Vec<_>) = plan.installed.keys().copied().partition(is_changed);
        for id in changed {
            let Some(key) = plan.installed.get(&id) else { continue };
            let Some(other) = same.iter().copied().find(|other| plan.sendable.contains(other)) else {
                warn!(
                    far = %self.far, keychain = self.chain, key = id,
                    "the connection keeps the former secret of its only key: the new one counts for the next connection"
                );
                return Ok(());
            };
            self.delete(socket, id, other, plan)?;
            self.add(socket, key)?;
            if id == plan.preferred {
                tcp_ao::choose_keys(socket, None, id).map_err(|error| self.refused(error))?;
            }
        }
        Ok(())
    }

    fn add(&mut self, socket: &impl AsRawFd, key: &UsableKey) -> Result<(), SigningError> {
        add(socket, self.scope, key).map_err(|error| SigningError::of_kernel(&self.chain, key, error))?;
        self.given.insert(key.id, key.clone());
        Ok(())
    }

    /// Takes a key from a connection. `instead` signs from now on, if that key did.
    fn delete(&self, socket: &impl AsRawFd, id: u8, instead: u8, plan: &KeyPlan) -> Result<(), SigningError> {
        let AoInfo { current, .. } = tcp_ao::info(socket).map_err(|error| self.refused(error))?;
        let current = current.filter(|current| *current != id && plan.installed.contains_key(current));
        let next = if plan.preferred == id { instead } else { plan.preferred };
        let deleted = tcp_ao::delete_key(socket, self.scope, id, current.unwrap_or(instead), next);
        deleted.map_err(|error| self.refused(error))
    }

    fn sign_with_md5(&mut self, socket: &impl AsRawFd, plan: &KeyPlan) -> Result<(), SigningError> {
        let Some(key) = plan.installed.get(&plan.preferred) else { return Ok(()) };
        if self.given.get(&key.id) == Some(key) {
            return Ok(());
        }
        let set =
            key.secret.reveal().and_then(|secret| sys::set_md5_secret_of(socket, KeyScope::Host(self.far), secret));
        set.map_err(|error| SigningError::of_kernel(&self.chain, key, error))?;
        let before = std::mem::replace(&mut self.given, BTreeMap::from([(key.id, key.clone())]));
        if !before.is_empty() {
            info!(far = %self.far, keychain = self.chain, key = key.id, "the connection signs with another secret");
        }
        Ok(())
    }

    fn refused(&self, error: io::Error) -> SigningError {
        SigningError::Refused { chain: self.chain.clone(), error }
    }

    /// Explains a far end that is silent by the segments that the kernel dropped, if it did.
    pub(crate) fn explain(&self, socket: &impl AsRawFd, cause: DownCause) -> DownCause {
        let silent = matches!(cause.reason, Reason::ConnectTimeout | Reason::KeepaliveTimeout);
        match report(socket).and_then(|report| report.mismatch(&self.chain)) {
            Some(why) if silent => DownCause::without_mend(Reason::KeyMismatch, format!("{why} ({})", cause.why)),
            _ if silent && self.protocol == SigningProtocol::Ao => DownCause {
                why: format!("{}; it may have another key than keychain {} here", cause.why, self.chain),
                ..cause
            },
            _ => cause,
        }
    }
}

/// Returns what the kernel says about the keys of a socket; `None` for TCP MD5, of which it says
/// nothing.
pub(crate) fn report(socket: &impl AsRawFd) -> Option<KeyReport> {
    let AoInfo { current, next, good, bad, key_not_found, unsigned } = tcp_ao::info(socket).ok()?;
    Some(KeyReport { current, next, good, bad, unknown_key: key_not_found, unsigned })
}

impl KeyReport {
    /// Returns the sum of what two sockets have counted.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            good: self.good + other.good,
            bad: self.bad + other.bad,
            unknown_key: self.unknown_key + other.unknown_key,
            unsigned: self.unsigned + other.unsigned,
            ..self
        }
    }

    /// Says in words which segments the kernel dropped; `None` if it dropped none.
    pub(crate) fn mismatch(&self, chain: &str) -> Option<String> {
        let Self { bad, unknown_key, unsigned, .. } = *self;
        let mut found = Vec::new();
        if bad > 0 {
            found.push(format!("{bad} segments with a wrong signature: the far end has another secret or algorithm"));
        }
        if unknown_key > 0 {
            found.push(format!("{unknown_key} segments with a key id that keychain {chain} has not"));
        }
        if unsigned > 0 {
            found.push(format!("{unsigned} segments without a signature: the far end has no key for this host"));
        }
        (!found.is_empty()).then(|| format!("the kernel dropped {}", found.join(", ")))
    }
}

fn add(socket: &impl AsRawFd, scope: KeyScope, key: &UsableKey) -> io::Result<()> {
    let (id, algorithm, secret) = (key.id, kernel_name(key.algorithm), key.secret.reveal()?);
    tcp_ao::add_key(socket, scope, AoKey { id, algorithm, secret })
}

/// What the connections from one scope to a listener are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenerPeer {
    /// A password of TCP MD5.
    Password(Secret),
    /// A key chain.
    Chain(String),
}

/// The keys of a socket that listens: for each scope those of one key chain, or a password.
#[derive(Debug, Default)]
pub(crate) struct ListenerKeys {
    given: BTreeMap<(KeyScope, u8), UsableKey>,
    has_chains: bool,
}

impl ListenerKeys {
    /// True if some peers have key chains, whose lifetimes change the keys.
    pub(crate) fn has_chains(&self) -> bool {
        self.has_chains
    }

    /// Gives the listener the keys that its peers connect with now, and takes all others away. A
    /// peer whose chain cannot sign has none: [`ConnectionKeys::of_accepted`] refuses its
    /// connections.
    ///
    /// # Errors
    ///
    /// The kernel refuses a key or a password. The keys of the other peers are there all the same.
    pub(crate) fn follow<'a>(
        &mut self,
        socket: &impl AsRawFd,
        peers: impl IntoIterator<Item = (KeyScope, &'a ListenerPeer)>,
        config: &Config,
    ) -> Result<(), SigningError> {
        let mut wanted: BTreeMap<(KeyScope, u8), (Option<&str>, UsableKey)> = BTreeMap::new();
        self.has_chains = false;
        for (scope, peer) in peers {
            match peer {
                ListenerPeer::Password(secret) => {
                    let key = UsableKey { id: 0, algorithm: KeyAlgorithm::Md5, secret: secret.clone() };
                    wanted.insert((scope, 0), (None, key));
                }
                ListenerPeer::Chain(name) => {
                    self.has_chains = true;
                    let plan = plan_of(name, config).ok();
                    let keys = plan.into_iter().flat_map(|plan| plan.installed);
                    // A secret of TCP MD5 has no id.
                    let place = |key: &UsableKey| if key.algorithm == KeyAlgorithm::Md5 { 0 } else { key.id };
                    wanted.extend(keys.map(|(_, key)| ((scope, place(&key)), (Some(name.as_str()), key))));
                }
            }
        }
        let is_over = |place: &(KeyScope, u8), given: &UsableKey| match wanted.get(place) {
            // Another secret of TCP MD5 takes the place of the one before.
            Some((_, key)) => {
                key != given && (key.algorithm, given.algorithm) != (KeyAlgorithm::Md5, KeyAlgorithm::Md5)
            }
            None => true,
        };
        let over: Vec<_> =
            self.given.iter().filter(|(place, key)| is_over(place, key)).map(|(place, _)| *place).collect();
        for place in over {
            let (scope, id) = place;
            let Some(key) = self.given.remove(&place) else { continue };
            // An error means that the kernel has no such key.
            let _ = match key.algorithm.protocol() {
                SigningProtocol::Ao => tcp_ao::delete_listener_key(socket, scope, id),
                // An empty secret removes it (tcp(7)).
                SigningProtocol::Md5 => sys::set_md5_secret_of(socket, scope, ""),
            };
        }
        let mut refused = None;
        for (place, (chain, key)) in wanted {
            if self.given.get(&place) == Some(&key) {
                continue;
            }
            let added = match key.algorithm.protocol() {
                SigningProtocol::Ao => add(socket, place.0, &key),
                SigningProtocol::Md5 => {
                    key.secret.reveal().and_then(|secret| sys::set_md5_secret_of(socket, place.0, secret))
                }
            };
            match added {
                Ok(()) => {
                    self.given.insert(place, key);
                }
                Err(error) => {
                    let error = match chain {
                        Some(chain) => SigningError::of_kernel(chain, &key, error),
                        None => SigningError::Password(error),
                    };
                    // A password that is refused is the fault of the whole listener.
                    refused = refused.filter(|before| matches!(before, SigningError::Password(_))).or(Some(error));
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }
}

/// A connection that brings its keys in line with its chain, once a second.
pub(crate) struct SignedStream<S = TcpStream> {
    stream: S,
    keys: ConnectionKeys,
    config: watch::Receiver<Arc<Config>>,
    look: Interval,
}

impl<S> SignedStream<S> {
    pub(crate) fn new(stream: S, keys: ConnectionKeys, config: watch::Receiver<Arc<Config>>) -> Self {
        Self { stream, keys, config, look: look_clock() }
    }
}

impl<S> SignedStream<S> {
    /// Returns the connection itself.
    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsRawFd> AsRawFd for SignedStream<S> {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl<S: AsyncRead + AsRawFd + Unpin> AsyncRead for SignedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, keys, config, look } = &mut *self;
        while look.poll_tick(context).is_ready() {
            let config = Arc::clone(&config.borrow());
            keys.follow(stream, &config)?;
        }
        Pin::new(stream).poll_read(context, room)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for SignedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
