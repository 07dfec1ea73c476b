//! Key chains: the keys that TCP connections are signed with, and which of them are used when.
//!
//! A key is used while it has an algorithm and a secret. [`KeychainConfig::plan`] decides from the
//! lifetimes of the keys and a time alone. Nothing here reads a clock or knows a socket.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::language::{secret::Secret, utc::UtcTime};

/// A `keychain NAME` view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeychainConfig {
    /// `key-id N`: the keys by their ids, which TCP-AO segments carry (RFC 5925 §2.2).
    pub keys: BTreeMap<u8, ChainKey>,
}

/// A `key-id N` view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainKey {
    /// `algorithm ...`.
    pub algorithm: Option<KeyAlgorithm>,
    /// `key-string ...`.
    pub secret: Option<Secret>,
    /// `send-time ...`: when this device signs with the key. Without it, always.
    pub send: Option<KeyLifetime>,
    /// `receive-time ...`: when this device takes segments that are signed with the key. Without
    /// it, always.
    pub receive: Option<KeyLifetime>,
}

/// How a key signs segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyAlgorithm {
    /// `hmac-sha-1-96` (RFC 5926 §3.1.1.1).
    HmacSha1,
    /// `aes-128-cmac-96` (RFC 5926 §3.1.1.2).
    Aes128Cmac,
    /// `hmac-sha-256`, with a MAC of 96 bits as Linux and BIRD have it.
    HmacSha256,
    /// `md5`: the TCP MD5 option (RFC 2385), which has no key ids.
    Md5,
}

impl KeyAlgorithm {
    /// All algorithms.
    pub const ALL: [Self; 4] = [Self::HmacSha1, Self::Aes128Cmac, Self::HmacSha256, Self::Md5];

    /// Returns the word of the command.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac-sha-1-96",
            Self::Aes128Cmac => "aes-128-cmac-96",
            Self::HmacSha256 => "hmac-sha-256",
            Self::Md5 => "md5",
        }
    }

    /// Returns the TCP option that the algorithm is for.
    pub fn protocol(self) -> SigningProtocol {
        match self {
            Self::HmacSha1 | Self::Aes128Cmac | Self::HmacSha256 => SigningProtocol::Ao,
            Self::Md5 => SigningProtocol::Md5,
        }
    }
}

/// The TCP option that signs a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SigningProtocol {
    /// TCP-AO (RFC 5925).
    Ao,
    /// TCP MD5 (RFC 2385).
    Md5,
}

/// The name in messages.
impl fmt::Display for SigningProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ao => "TCP-AO",
            Self::Md5 => "TCP MD5",
        })
    }
}

/// `utc TIME DATE [ to TIME END-DATE ]`: from the first time on, and before the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLifetime {
    /// The first second.
    pub from: UtcTime,
    /// The first second after it; `None` for a lifetime without end.
    pub to: Option<UtcTime>,
}

impl KeyLifetime {
    /// True if the lifetime has begun and is not over.
    pub fn contains(&self, now: UtcTime) -> bool {
        self.from <= now && self.to.is_none_or(|to| now < to)
    }
}

/// True if a lifetime, which may be that of always, contains the time.
fn is_within(lifetime: Option<KeyLifetime>, now: UtcTime) -> bool {
    lifetime.is_none_or(|lifetime| lifetime.contains(now))
}

/// A key that can sign: it has an algorithm and a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsableKey {
    /// The key id.
    pub id: u8,
    /// How it signs.
    pub algorithm: KeyAlgorithm,
    /// The secret.
    pub secret: Secret,
}

/// What a key chain asks of a connection at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlan {
    /// The option that signs.
    pub protocol: SigningProtocol,
    /// The keys that a connection has: those that it may sign with, and those that it takes.
    pub installed: BTreeMap<u8, UsableKey>,
    /// The keys that it may sign with now.
    pub sendable: BTreeSet<u8>,
    /// The key that it is to sign with, and that the far end is asked to sign with. Of the sendable
    /// keys it is the one whose `send-time` began last; of several, the one with the lowest id.
    pub preferred: u8,
    /// When the plan changes next; `None` if it never does.
    pub until: Option<UtcTime>,
}

/// Why a connection cannot be signed with a key chain now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKeyPlan {
    /// No key has an algorithm and a secret.
    #[error("it has no key with `algorithm` and `key-string`")]
    NoUsableKey,
    /// Some keys are for TCP-AO and others for TCP MD5. A connection has only one of the options.
    #[error("it mixes `algorithm md5` with other algorithms, and a connection has either")]
    MixedProtocols,
    /// No key may sign at this time.
    #[error("no key of it has a `send-time` that includes now{}", begins(.next))]
    NoneSendable {
        /// The key that may sign next, and when.
        next: Option<(u8, UtcTime)>,
    },
}

fn begins(next: &Option<(u8, UtcTime)>) -> String {
    next.map(|(id, at)| format!("; that of key {id} begins at {at} UTC")).unwrap_or_default()
}

impl KeychainConfig {
    /// Decides which keys a connection has at a time, and which of them signs.
    ///
    /// # Errors
    ///
    /// The chain has no key to sign with.
    pub fn plan(&self, now: UtcTime) -> Result<KeyPlan, NoKeyPlan> {
        let protocols: BTreeSet<_> = self.usable().map(|(key, _)| key.algorithm.protocol()).collect();
        let mut protocols = protocols.into_iter();
        let protocol = match (protocols.next(), protocols.next()) {
            (Some(protocol), None) => protocol,
            (Some(_), Some(_)) => return Err(NoKeyPlan::MixedProtocols),
            (None, _) => return Err(NoKeyPlan::NoUsableKey),
        };
        let Some(preferred) = self.preferred(now) else {
            return Err(NoKeyPlan::NoneSendable { next: self.next_preferred(now) });
        };
        let sends = |key: &ChainKey| is_within(key.send, now);
        let is_installed = |(usable, key): &(UsableKey, &ChainKey)| match protocol {
            SigningProtocol::Ao => sends(key) || is_within(key.receive, now),
            // A connection has one secret of TCP MD5.
            SigningProtocol::Md5 => usable.id == preferred,
        };
        Ok(KeyPlan {
            protocol,
            sendable: self.usable().filter(|(_, key)| sends(key)).map(|(usable, _)| usable.id).collect(),
            installed: self.usable().filter(is_installed).map(|(usable, _)| (usable.id, usable)).collect(),
            preferred,
            until: self.next_boundary(now),
        })
    }

    /// Returns the key that is preferred next, and since when; `None` if no other key ever is.
    pub fn next_preferred(&self, now: UtcTime) -> Option<(u8, UtcTime)> {
        let current = self.preferred(now);
        let mut at = now;
        while let Some(later) = self.next_boundary(at) {
            match self.preferred(later) {
                Some(id) if Some(id) != current => return Some((id, later)),
                _ => at = later,
            }
        }
        None
    }

    fn preferred(&self, now: UtcTime) -> Option<u8> {
        let sendable = self.usable().filter(|(_, key)| is_within(key.send, now));
        // `max_by_key` returns the last of equals, and keys come in the order of their ids.
        let began = sendable.map(|(usable, key)| (key.send.map(|send| send.from), usable.id));
        began.max_by_key(|(from, id)| (*from, std::cmp::Reverse(*id))).map(|(_, id)| id)
    }

    /// Returns the next time at which a lifetime begins or ends.
    fn next_boundary(&self, now: UtcTime) -> Option<UtcTime> {
        let lifetimes = self.usable().flat_map(|(_, key)| [key.send, key.receive]).flatten();
        lifetimes.flat_map(|lifetime| [Some(lifetime.from), lifetime.to]).flatten().filter(|at| *at > now).min()
    }

    fn usable(&self) -> impl Iterator<Item = (UsableKey, &ChainKey)> {
        self.keys.iter().filter_map(|(id, key)| {
            let usable = UsableKey { id: *id, algorithm: key.algorithm?, secret: key.secret.clone()? };
            Some((usable, key))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, option, prelude::*};

    use super::*;

    fn at(seconds: u64) -> UtcTime {
        UtcTime::from_unix(seconds)
    }

    fn lifetime(from: u64, to: Option<u64>) -> KeyLifetime {
        KeyLifetime { from: at(from), to: to.map(at) }
    }

    fn key(send: Option<KeyLifetime>, receive: Option<KeyLifetime>) -> ChainKey {
        ChainKey { algorithm: Some(KeyAlgorithm::HmacSha1), secret: Some(Secret::from("hunter2")), send, receive }
    }

    fn chain(keys: impl IntoIterator<Item = (u8, ChainKey)>) -> KeychainConfig {
        KeychainConfig { keys: keys.into_iter().collect() }
    }

    fn ids(plan: &KeyPlan) -> Vec<u8> {
        plan.installed.keys().copied().collect()
    }

    #[test]
    fn a_key_without_lifetimes_signs_always() {
        let plan = chain([(7, key(None, None))]).plan(at(0)).unwrap();
        assert_eq!((plan.preferred, ids(&plan), plan.until), (7, vec![7], None));
    }

    #[test]
    fn keys_overlap_by_their_receive_times_and_roll_over_at_the_send_time() {
        let chain = chain([
            (1, key(Some(lifetime(0, Some(100))), Some(lifetime(0, Some(130))))),
            (2, key(Some(lifetime(100, None)), Some(lifetime(70, None)))),
        ]);
        let seen = |now: u64| {
            let plan = chain.plan(at(now)).unwrap();
            (plan.preferred, ids(&plan), plan.until.map(UtcTime::as_unix))
        };
        assert_eq!(seen(0), (1, vec![1], Some(70)));
        assert_eq!(seen(70), (1, vec![1, 2], Some(100)));
        assert_eq!(seen(100), (2, vec![1, 2], Some(130)));
        assert_eq!(seen(130), (2, vec![2], None));
        assert_eq!(chain.next_preferred(at(0)), Some((2, at(100))));
        assert_eq!(chain.next_preferred(at(100)), None);
    }

    #[test]
    fn of_keys_that_began_together_the_lowest_signs_until_it_is_gone() {
        let mut chain = chain([(3, key(None, None)), (9, key(None, None))]);
        assert_eq!(chain.plan(at(5)).unwrap().preferred, 3);
        chain.keys.remove(&3);
        assert_eq!(chain.plan(at(5)).unwrap().preferred, 9);
    }

    #[test]
    fn a_chain_that_cannot_sign_says_why() {
        let reason = |chain: &KeychainConfig, now| chain.plan(at(now)).unwrap_err().to_string();
        assert_eq!(reason(&chain([]), 0), "it has no key with `algorithm` and `key-string`");
        let without_secret = ChainKey { secret: None, ..key(None, None) };
        assert!(reason(&chain([(1, without_secret)]), 0).contains("key-string"));
        let md5 = ChainKey { algorithm: Some(KeyAlgorithm::Md5), ..key(None, None) };
        assert!(reason(&chain([(1, md5.clone()), (2, key(None, None))]), 0).starts_with("it mixes `algorithm md5`"));
        let later = chain([(4, key(Some(lifetime(3600, None)), None))]);
        assert_eq!(
            reason(&later, 0),
            "no key of it has a `send-time` that includes now; that of key 4 begins at 01:00 1970-01-01 UTC"
        );
        let over = chain([(4, key(Some(lifetime(0, Some(10))), None))]);
        assert_eq!(reason(&over, 10), "no key of it has a `send-time` that includes now");
        assert_eq!(chain([(1, md5)]).plan(at(0)).unwrap().protocol, SigningProtocol::Md5);
    }

    #[test]
    fn a_connection_with_tcp_md5_has_the_preferred_key_alone() {
        let md5 = |send| ChainKey { algorithm: Some(KeyAlgorithm::Md5), ..key(send, None) };
        let chain = chain([(1, md5(None)), (2, md5(Some(lifetime(50, None))))]);
        assert_eq!(ids(&chain.plan(at(49)).unwrap()), [1]);
        assert_eq!(ids(&chain.plan(at(50)).unwrap()), [2]);
    }

    fn any_lifetime() -> impl Strategy<Value = Option<KeyLifetime>> {
        option::of(
            (0_u64..60, option::of(1_u64..60)).prop_map(|(from, more)| lifetime(from, more.map(|more| from + more))),
        )
    }

    fn any_chain() -> impl Strategy<Value = KeychainConfig> {
        let any_key = (any_lifetime(), any_lifetime(), 0_u8..8).prop_map(|(send, receive, lacks)| {
            let whole = key(send, receive);
            match lacks {
                0 => ChainKey { algorithm: None, ..whole },
                1 => ChainKey { secret: None, ..whole },
                _ => whole,
            }
        });
        btree_map(any::<u8>(), any_key, 0..6).prop_map(|keys| KeychainConfig { keys })
    }

    proptest! {
        #[test]
        fn a_plan_has_what_each_lifetime_says_and_holds_until_it_says(chain in any_chain(), now in 0_u64..130) {
            let is_usable = |key: &ChainKey| key.algorithm.is_some() && key.secret.is_some();
            let is_in = |lifetime: Option<KeyLifetime>| match lifetime {
                None => true,
                Some(KeyLifetime { from, to }) => (from.as_unix()..to.map_or(u64::MAX, UtcTime::as_unix)).contains(&now),
            };
            let sends = |id: u8| is_usable(&chain.keys[&id]) && is_in(chain.keys[&id].send);
            match chain.plan(at(now)) {
                Ok(plan) => {
                    for (id, key) in &chain.keys {
                        prop_assert_eq!(plan.sendable.contains(id), sends(*id));
                        let installed = is_usable(key) && (is_in(key.send) || is_in(key.receive));
                        prop_assert_eq!(plan.installed.contains_key(id), installed);
                        if sends(*id) {
                            let from = |id: u8| chain.keys[&id].send.map(|send| send.from);
                            let is_better = from(*id) > from(plan.preferred)
                                || from(*id) == from(plan.preferred) && *id < plan.preferred;
                            prop_assert!(!is_better);
                        }
                    }
                    prop_assert!(plan.sendable.contains(&plan.preferred));
                    let until = plan.until.map_or(200, UtcTime::as_unix);
                    prop_assert!(until > now);
                    for later in now..until {
                        prop_assert_eq!(chain.plan(at(later)), Ok(plan.clone()));
                    }
                }
                Err(NoKeyPlan::NoUsableKey) => prop_assert!(!chain.keys.values().any(is_usable)),
                Err(NoKeyPlan::MixedProtocols) => prop_assert!(false, "all keys are for TCP-AO"),
                Err(NoKeyPlan::NoneSendable { next }) => {
                    prop_assert!(!chain.keys.keys().any(|id| sends(*id)));
                    let found = (now + 1..200).find_map(|later| Some((chain.plan(at(later)).ok()?.preferred, at(later))));
                    prop_assert_eq!(next, found);
                }
            }
        }

        #[test]
        fn the_next_key_is_the_one_that_is_preferred_next(chain in any_chain(), now in 0_u64..130) {
            let preferred = |now| chain.plan(at(now)).ok().map(|plan| plan.preferred);
            let other = (now + 1..200).find_map(|later| {
                let id = preferred(later).filter(|id| Some(*id) != preferred(now))?;
                Some((id, at(later)))
            });
            prop_assert_eq!(chain.next_preferred(at(now)), other);
        }
    }
}
