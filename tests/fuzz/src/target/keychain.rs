//! The times of key chains.

use bmp_user::config::{
    ChainKey, Config, KeyAlgorithm, KeyLifetime, KeychainConfig, NoKeyPlan, Secret, UtcTime, parse_file, print,
};

/// The bytes of one key: its id, what it has, and four times of two bytes.
pub(crate) const KEY_BYTES: usize = 10;

/// The most keys of a chain that is printed and parsed. That takes a hundred times as long as the
/// walk, and no more keys show no more of it.
const PRINTED: usize = 2;

/// Makes a key chain of the bytes, and walks through all its times. Between two times nothing may
/// change, and each plan must hold to the lifetimes. A short chain of which no byte is left over
/// must be the same after printing and parsing.
pub fn keychain(bytes: &[u8]) {
    let keys = bytes.chunks_exact(KEY_BYTES).take(16).map(key);
    let chain = KeychainConfig { keys: keys.collect() };
    // Of all lengths, one in ten leaves no byte over. So most inputs are walked alone.
    if bytes.len().is_multiple_of(KEY_BYTES) && bytes.len() <= PRINTED * KEY_BYTES {
        let mut config = Config::default();
        config.keychains.insert("core".to_owned(), chain.clone());
        assert_eq!(parse_file("printed", &print(&config)).as_ref(), Ok(&config));
    }
    let (mut now, mut turns) = (UtcTime::from_unix(0), 0);
    loop {
        turns += 1;
        assert!(turns <= 4 * 16 + 1, "there are more changes than times");
        let next = match chain.plan(now) {
            Ok(plan) => {
                assert!(plan.sendable.contains(&plan.preferred));
                assert!(plan.sendable.iter().all(|id| chain.keys[id].send.is_none_or(|send| send.contains(now))));
                let preferred = chain.keys[&plan.preferred].send.map(|send| send.from);
                assert!(plan.sendable.iter().all(|id| chain.keys[id].send.map(|send| send.from) <= preferred));
                if let Some(until) = plan.until {
                    assert_eq!(chain.plan(UtcTime::from_unix(until.as_unix() - 1)), Ok(plan.clone()));
                }
                plan.until
            }
            Err(NoKeyPlan::NoneSendable { next }) => {
                assert_eq!(next, chain.next_preferred(now));
                if let Some((id, at)) = next {
                    assert_eq!(chain.plan(at).map(|plan| plan.preferred), Ok(id));
                }
                next.map(|(_, at)| at)
            }
            Err(NoKeyPlan::NoUsableKey | NoKeyPlan::MixedProtocols) => return,
        };
        match next {
            Some(next) => {
                assert!(next > now, "time goes on");
                now = next;
            }
            None => return,
        }
    }
}

/// Returns the key that bytes stand for. There are always [`KEY_BYTES`].
fn key(bytes: &[u8]) -> (u8, ChainKey) {
    let has = bytes[1];
    let time = |at: usize| u64::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let lifetime = |at: usize| KeyLifetime {
        from: UtcTime::from_unix(time(at)),
        // Behind its beginning, as the parser has it.
        to: (time(at + 2) > 0).then(|| UtcTime::from_unix(time(at) + time(at + 2))),
    };
    let algorithm = KeyAlgorithm::ALL[usize::from(has >> 6)];
    let key = ChainKey {
        algorithm: (has & 1 == 0).then_some(algorithm),
        secret: (has & 2 == 0).then(|| Secret::from("secret")),
        send: (has & 4 == 0).then(|| lifetime(2)),
        receive: (has & 8 == 0).then(|| lifetime(6)),
    };
    (bytes[0], key)
}
