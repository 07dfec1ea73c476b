//! Secrets as printable text that one key alone opens.
//!
//! The text is base64url without padding (RFC 4648 §5). Its bytes are, in order:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | the version of this form, 1 |
//! | 4 | the name of the key: the beginning of a SHA-256 of it |
//! | 24 | a random nonce |
//! | 32 and more | the secret, filled up with NUL to a multiple of 16, in XChaCha20-Poly1305 |
//!
//! The nonce is large enough to be random for each secret (draft-irtf-cfrg-xchacha §2.1). The tag
//! of 16 bytes at the end shows every change of the text.

use std::{fmt, io, mem};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

const VERSION: u8 = 1;
const KEY: usize = 32;
const KEY_NAME: usize = 4;
const NONCE: usize = 24;
const TAG: usize = 16;
/// The length of a secret shows in steps of this many bytes.
const BLOCK: usize = 16;

/// What the tag vouches for beside the secret, so that no other use of the key fits here.
const PURPOSE: &[u8] = b"bmpd: a secret of the configuration";

/// The most characters of a sealed text: more than a secret of 80 characters of 4 bytes needs.
pub(in crate::config) const LONGEST_SEALED: usize = 512;

/// A secret as text that a key opens.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::config) struct SealedText(Box<str>);

impl SealedText {
    /// Reads a word. `None` if it cannot be the text of a sealed secret, whatever the key is.
    pub(in crate::config) fn read(word: &str) -> Option<Self> {
        let is_whole = word.len() <= LONGEST_SEALED && SealedParts::of(word).is_some();
        is_whole.then(|| Self(word.into()))
    }

    /// Returns the text, which is printable ASCII without blanks.
    pub(in crate::config) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SealedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The bytes of a sealed text, taken apart.
struct SealedParts {
    key_name: [u8; KEY_NAME],
    nonce: [u8; NONCE],
    encrypted: Vec<u8>,
}

impl SealedParts {
    fn of(text: &str) -> Option<Self> {
        let bytes = Base64UrlUnpadded::decode_vec(text).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (key_name, rest) = rest.split_first_chunk()?;
        let (nonce, encrypted) = rest.split_first_chunk()?;
        let secret = encrypted.len().checked_sub(TAG)?;
        let is_whole = *version == VERSION && secret > 0 && secret.is_multiple_of(BLOCK);
        is_whole.then(|| Self { key_name: *key_name, nonce: *nonce, encrypted: encrypted.to_vec() })
    }
}

/// Why a key does not open a sealed text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum NotOpened {
    /// It was sealed with a key of another name.
    AnotherKey,
    /// It is not what this key has sealed.
    Changed,
}

/// A key that seals and opens. Nothing shows it.
pub(in crate::config) struct SealingKey(Zeroizing<[u8; KEY]>);

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
}

impl SealingKey {
    /// Makes a key of random bytes (getrandom(2)).
    ///
    /// # Errors
    ///
    /// The kernel has no random bytes.
    pub(in crate::config) fn random() -> io::Result<Self> {
        let mut key = Zeroizing::new([0; KEY]);
        fill_randomly(key.as_mut_slice())?;
        Ok(Self(key))
    }

    /// Reads what [`Self::text`] returned, with or without a line end.
    pub(in crate::config) fn read(text: &str) -> Option<Self> {
        let mut key = Zeroizing::new([0; KEY]);
        let read = Base64UrlUnpadded::decode(text.trim_end(), key.as_mut_slice()).ok()?.len();
        (read == KEY).then_some(Self(key))
    }

    /// Returns the key as a line of text.
    pub(in crate::config) fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(Base64UrlUnpadded::encode_string(self.0.as_slice()));
        text.push('\n');
        text
    }

    /// Seals a secret. The text is another one each time.
    ///
    /// # Errors
    ///
    /// The kernel has no random bytes.
    pub(in crate::config) fn seal(&self, secret: &str) -> io::Result<SealedText> {
        let mut nonce = [0; NONCE];
        fill_randomly(&mut nonce)?;
        let mut filled = Zeroizing::new(vec![0; secret.len().max(1).next_multiple_of(BLOCK)]);
        filled.iter_mut().zip(secret.bytes()).for_each(|(place, byte)| *place = byte);
        let payload = Payload { msg: &filled, aad: PURPOSE };
        let encrypted = self.cipher().encrypt(&XNonce::from(nonce), payload);
        // It fails for a secret of gigabytes alone.
        let encrypted = encrypted.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let bytes = [&[VERSION], &self.name()[..], &nonce, &encrypted].concat();
        Ok(SealedText(Base64UrlUnpadded::encode_string(&bytes).into()))
    }

    /// Opens a sealed secret.
    ///
    /// # Errors
    ///
    /// This key has not sealed it, or not so.
    pub(in crate::config) fn open(&self, sealed: &SealedText) -> Result<Zeroizing<String>, NotOpened> {
        let SealedParts { key_name, nonce, encrypted } = SealedParts::of(sealed.as_str()).ok_or(NotOpened::Changed)?;
        if key_name != self.name() {
            return Err(NotOpened::AnotherKey);
        }
        let payload = Payload { msg: &encrypted, aad: PURPOSE };
        let opened = self.cipher().decrypt(&XNonce::from(nonce), payload).map_err(|_| NotOpened::Changed)?;
        let mut opened = Zeroizing::new(opened);
        let length = opened.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        opened.truncate(length);
        match String::from_utf8(mem::take(&mut *opened)) {
            Ok(secret) => Ok(Zeroizing::new(secret)),
            Err(error) => {
                error.into_bytes().zeroize();
                Err(NotOpened::Changed)
            }
        }
    }

    /// Decides whether the text was sealed with a key of this name.
    pub(in crate::config) fn has_sealed(&self, sealed: &SealedText) -> bool {
        SealedParts::of(sealed.as_str()).is_some_and(|parts| parts.key_name == self.name())
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }

    fn name(&self) -> [u8; KEY_NAME] {
        let hash = Sha256::new().chain_update(b"bmpd: the name of a key").chain_update(self.0.as_slice()).finalize();
        let mut name = [0; KEY_NAME];
        name.iter_mut().zip(hash).for_each(|(place, byte)| *place = byte);
        name
    }
}

fn fill_randomly(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_secret_is_another_text_each_time_and_its_length_shows_in_steps() {
        let key = SealingKey::random().unwrap();
        let [one, other] = [key.seal("hunter2").unwrap(), key.seal("hunter2").unwrap()];
        assert_ne!(one, other);
        assert_eq!(one.as_str().len(), key.seal("0123456789abcdef").unwrap().as_str().len());
        assert_eq!(*key.open(&one).unwrap(), "hunter2");
        let longest = key.seal(&"路".repeat(80)).unwrap();
        assert!(SealedText::read(longest.as_str()).is_some(), "{}", longest.as_str().len());
    }

    #[test]
    fn another_key_opens_nothing_and_says_so() {
        let [key, other] = [SealingKey::random().unwrap(), SealingKey::random().unwrap()];
        let sealed = key.seal("hunter2").unwrap();
        assert_eq!(other.open(&sealed), Err(NotOpened::AnotherKey));
        let read_again = SealingKey::read(&key.text()).unwrap();
        assert_eq!(*read_again.open(&sealed).unwrap(), "hunter2");
        for wrong in ["", "x", &key.text()[1..], &format!("{}x", key.text().trim_end())] {
            assert!(SealingKey::read(wrong).is_none(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_printable_and_is_opened_again(secret in "[!-~é路]{1,80}") {
            let key = SealingKey::random().unwrap();
            let sealed = key.seal(&secret).unwrap();
            prop_assert!(sealed.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(SealedText::read(sealed.as_str()), Some(sealed.clone()));
            prop_assert_eq!(key.open(&sealed).map(|secret| secret.to_string()), Ok(secret));
        }

        #[test]
        fn a_changed_text_is_not_opened(at in any::<prop::sample::Index>(), letter in "[A-Za-z0-9_-]") {
            let key = SealingKey::random().unwrap();
            let sealed = key.seal("hunter2").unwrap();
            let mut text = sealed.as_str().to_owned();
            let at = at.index(text.len());
            text.replace_range(at..=at, &letter);
            if text != sealed.as_str() && let Some(changed) = SealedText::read(&text) {
                prop_assert!(key.open(&changed).is_err());
            }
        }

        #[test]
        fn any_word_is_taken_or_refused(word in any::<String>()) {
            if let Some(sealed) = SealedText::read(&word) {
                prop_assert!(SealingKey::random().unwrap().open(&sealed).is_err());
            }
        }
    }
}
