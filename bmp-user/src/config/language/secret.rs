//! Secrets, which nothing shows. The configuration file has them sealed.

use std::{borrow::Cow, fmt, io, net::IpAddr, ops::Range, sync::Arc};

use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::sealed::SealedText;

/// The text that displays have in the place of a secret.
pub const MASK: &str = "******";

/// The word before the text of a sealed secret.
pub(in crate::config) const CIPHER: &str = "cipher";
/// The word before a secret as it is.
pub(in crate::config) const SIMPLE: &str = "simple";

/// A secret. However it is shown, it is masked. Its memory is overwritten when the last clone goes.
///
/// It is clear, sealed, or both. The sealed text stays with the secret, so that what does not
/// change is printed the same each time.
#[derive(Clone)]
pub struct Secret {
    clear: Option<Arc<Zeroizing<String>>>,
    sealed: Option<SealedText>,
}

impl Secret {
    /// Returns the secret itself, for the kernel.
    ///
    /// # Errors
    ///
    /// It is sealed, and was read without its key.
    pub fn reveal(&self) -> io::Result<&str> {
        self.clear().ok_or_else(|| io::Error::other("the secret is sealed, and its key is not there"))
    }

    pub(in crate::config) fn clear(&self) -> Option<&str> {
        self.clear.as_deref().map(|clear| clear.as_str())
    }

    /// Returns a secret that is still sealed.
    pub(in crate::config) fn from_sealed(sealed: SealedText) -> Self {
        Self { clear: None, sealed: Some(sealed) }
    }

    /// Returns the sealed text, if the secret was ever sealed.
    pub(in crate::config) fn sealed_text(&self) -> Option<&SealedText> {
        self.sealed.as_ref()
    }

    /// Returns the sealed text of a secret that was not opened.
    pub(in crate::config) fn closed_text(&self) -> Option<&SealedText> {
        self.sealed.as_ref().filter(|_| self.clear.is_none())
    }

    /// Remembers what the sealed text holds.
    pub(in crate::config) fn set_opened(&mut self, clear: Zeroizing<String>) {
        self.clear = Some(Arc::new(clear));
    }

    /// Remembers the text that the secret was sealed as.
    pub(in crate::config) fn set_sealed(&mut self, sealed: SealedText) {
        self.sealed = Some(sealed);
    }
}

/// Returns a clear secret.
impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self { clear: Some(Arc::new(Zeroizing::new(text.to_owned()))), sealed: None }
    }
}

/// Two secrets are equal if they are the same once opened, however they were sealed. Secrets that
/// were not opened are compared by their texts.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (self.clear(), other.clear()) {
            (Some(own), Some(others)) => own == others,
            _ => self.sealed.is_some() && self.sealed == other.sealed,
        }
    }
}

impl Eq for Secret {}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// Whether secrets are written or masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Secrets {
    Masked,
    Written,
}

impl Secrets {
    /// Returns the words that stand for the secret: `******`, `cipher TEXT`, or `simple TEXT` for
    /// one that was never sealed.
    pub(in crate::config) fn text(self, secret: &Secret) -> String {
        match (self, &secret.sealed) {
            (Self::Masked, _) => secret.to_string(),
            (Self::Written, Some(sealed)) => format!("{CIPHER} {}", sealed.as_str()),
            (Self::Written, None) => format!("{SIMPLE} {}", secret.clear().unwrap_or_default()),
        }
    }
}

/// Masks whatever may be a secret: all words behind one like `password` or `key-string`, even in a
/// wrong line.
pub fn masked(line: &str) -> Cow<'_, str> {
    let hidden = after_password(line);
    if hidden.is_empty() { Cow::Borrowed(line) } else { Cow::Owned(mask(line, &hidden)) }
}

/// Puts [`MASK`] in the place of these parts, which are in order.
pub(in crate::config) fn mask(line: &str, hidden: &[Range<usize>]) -> String {
    let mut text = String::new();
    let mut from = 0;
    for part in hidden {
        text.push_str(line.get(from..part.start).unwrap_or_default());
        text.push_str(MASK);
        from = part.end;
    }
    text.push_str(line.get(from..).unwrap_or_default());
    text
}

/// Returns the words behind a word that is, or may be meant as, `password` or `key-string`. No
/// command begins with `password`.
pub(in crate::config) fn after_password(line: &str) -> Vec<Range<usize>> {
    let words = words(line);
    let text = |word: &Range<usize>| line.get(word.clone()).unwrap_or_default();
    let at = |number: usize| words.get(number).map(text).unwrap_or_default();
    for (number, word) in words.iter().enumerate() {
        let (begin, glued) = keyword(text(word));
        let next = at(number + 1);
        let names_key = is_key_string(&begin) || is_begun(KEY_STRING, &begin) && is_how(next);
        if number == 0 && !names_key {
            continue;
        }
        let of_peer = || number >= 2 && is_begun("peer", at(number - 2)) && at(number - 1).parse::<IpAddr>().is_ok();
        // `tcp connect port 11019 p hunter2`, where `md5` was forgotten.
        let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        let of_port = || number >= 2 && is_number(at(number - 1));
        let is_meant = names_key
            || is_password(&begin)
            || is_begun(PASSWORD, &begin) && (is_how(next) || of_peer() || of_port())
            // `md5` alone, where `password` was forgotten.
            || begin == "md5"
            || OTHERS.contains(&&*begin);
        if !is_meant {
            continue;
        }
        let mut behind = words.get(number + 1..).unwrap_or_default();
        // Each once: a secret may be such a word too.
        for how in [&["md5"][..], &[CIPHER, SIMPLE]] {
            if let [first, rest @ ..] = behind
                && is_one_of(how, text(first))
            {
                behind = rest;
            }
        }
        let glued = glued.map(|from| word.start + from..word.end).filter(|part| !part.is_empty());
        return glued.into_iter().chain(behind.iter().cloned()).collect();
    }
    Vec::new()
}

fn words(line: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut begin = None;
    for (at, c) in line.char_indices().chain([(line.len(), ' ')]) {
        match (c.is_whitespace(), begin) {
            (true, Some(start)) => {
                words.push(start..at);
                begin = None;
            }
            (false, None) => begin = Some(at),
            _ => {}
        }
    }
    words
}

const PASSWORD: &str = "password";
const KEY_STRING: &str = "key-string";

/// The keywords of other routers.
const OTHERS: [&str; 5] = ["passphrase", "passwd", "secret", "key-string", "authentication-key"];

/// Returns the part of a word that may be a keyword, in small letters and without quotes. Returns
/// also where the rest begins that is glued to it: `password=hunter2`, `passwordhunter2`.
fn keyword(word: &str) -> (String, Option<usize>) {
    let plain = word.trim_start_matches(QUOTES);
    let quotes = word.len() - plain.len();
    let end = plain.find(['=', ':']).unwrap_or(plain.len());
    let (begin, rest) = plain.split_at(end);
    let begin = begin.trim_end_matches(QUOTES).to_ascii_lowercase();
    if !rest.is_empty() {
        return (begin, Some(quotes + end + 1));
    }
    let whole =
        [PASSWORD, KEY_STRING, "md5"].into_iter().find(|whole| begin.starts_with(whole) && begin.len() > whole.len());
    match whole {
        Some(whole) => (whole.to_owned(), Some(quotes + whole.len())),
        None => (begin, None),
    }
}

const QUOTES: [char; 3] = ['"', '\'', '`'];

/// Whether the word is `keyword`, or cut.
fn is_begun(keyword: &str, word: &str) -> bool {
    !word.is_empty() && keyword.starts_with(word)
}

/// Whether a word, which may be cut, says how a secret is written.
fn is_how(word: &str) -> bool {
    is_one_of(&["md5", CIPHER, SIMPLE], word)
}

/// Whether a word, which may be cut, is one of these keywords.
fn is_one_of(keywords: &[&str], word: &str) -> bool {
    let word = word.trim_matches(QUOTES).to_ascii_lowercase();
    keywords.iter().any(|keyword| is_begun(keyword, &word))
}

/// `keychain` and `key-id` are other commands.
fn is_key_string(word: &str) -> bool {
    let cut = word.len() >= "key-s".len() && KEY_STRING.starts_with(word);
    cut || word.starts_with("key-str") || strsim::damerau_levenshtein(word, KEY_STRING) <= 2
}

fn is_password(word: &str) -> bool {
    let cut = word.len() >= 3 && PASSWORD.starts_with(word);
    cut || word.starts_with("passw") || strsim::damerau_levenshtein(word, PASSWORD) <= 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::sealed::SealingKey, *};

    #[test]
    fn a_secret_is_masked_however_it_is_shown() {
        let secret = Secret::from("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "****** ******");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"******\"");
        assert_eq!(secret.reveal().unwrap(), "hunter2");
        let sealed = Secret::from_sealed(SealingKey::random().unwrap().seal("hunter2").unwrap());
        assert_eq!(format!("{sealed} {sealed:?}"), "****** ******");
    }

    #[test]
    fn a_secret_is_the_same_however_it_was_sealed() {
        let key = SealingKey::random().unwrap();
        let opened = |text: &str| {
            let mut secret = Secret::from(text);
            secret.set_sealed(key.seal(text).unwrap());
            secret
        };
        let closed = |secret: &Secret| Secret::from_sealed(secret.sealed_text().unwrap().clone());
        let (one, again, other) = (opened("hunter2"), opened("hunter2"), opened("hunter3"));
        assert!(one == again && one == Secret::from("hunter2") && one == closed(&one));
        assert!(one != other && closed(&one) != closed(&other) && closed(&one) != Secret::from("hunter2"));
        assert_eq!(Secrets::Written.text(&one), format!("cipher {}", one.sealed_text().unwrap().as_str()));
        assert_eq!(Secrets::Written.text(&Secret::from("hunter2")), "simple hunter2");
    }

    #[test]
    fn what_may_be_a_secret_is_masked_also_in_a_line_that_is_wrong() {
        for (line, shown) in [
            ("peer 192.0.2.1 password hunter2", "peer 192.0.2.1 password ******"),
            ("  tcp conect port 1 password md5 hunter2", "  tcp conect port 1 password md5 ******"),
            ("tcp connect port 1 pasword md5 hunter2 x", "tcp connect port 1 pasword md5 ****** ******"),
            ("tcp connect port 1 p md5 hunter2", "tcp connect port 1 p md5 ******"),
            ("t c p 99999 p m hunter2", "t c p 99999 p m ******"),
            ("tcp connect 11020 md5 hunter2", "tcp connect 11020 md5 ******"),
            ("tcp connect port 1 pa c hunter2", "tcp connect port 1 pa c ******"),
            ("peer 192.0.2.1 passphrase é", "peer 192.0.2.1 passphrase ******"),
            ("peer 192.0.2.1 passage é", "peer 192.0.2.1 passage é"),
            ("p 192.0.2.1 pa hunter2", "p 192.0.2.1 pa ******"),
            ("undo peer 2001:db8::1 p hunter2", "undo peer 2001:db8::1 p ******"),
            ("peer 192.0.2.1 port 1179", "peer 192.0.2.1 port 1179"),
            ("listen 192.0.2.1 p 5000", "listen 192.0.2.1 p 5000"),
            ("peer 192.0.2.1 password \"hunter 2\"", "peer 192.0.2.1 password ****** ******"),
            ("peer 192.0.2.1 \"password\" 'hunter2'", "peer 192.0.2.1 \"password\" ******"),
            ("peer 192.0.2.1 PASSWORD hunter2", "peer 192.0.2.1 PASSWORD ******"),
            ("peer 192.0.2.1 password=hunter2", "peer 192.0.2.1 password=******"),
            ("peer 192.0.2.1 'password:hunter2'", "peer 192.0.2.1 'password:******"),
            ("peer 192.0.2.1 passwordhunter2", "peer 192.0.2.1 password******"),
            ("tcp connect port 1 password md5=hunter2", "tcp connect port 1 password ******"),
            ("tcp connect port 1 md5hunter2", "tcp connect port 1 md5******"),
            ("tcp connect port 1 PASSWORD MD5 hunter2", "tcp connect port 1 PASSWORD MD5 ******"),
            ("peer 192.0.2.1 secret hunter2", "peer 192.0.2.1 secret ******"),
            ("peer 192.0.2.1 pass hunter2", "peer 192.0.2.1 pass ******"),
            ("t c p 11019 p hunter2", "t c p 11019 p ******"),
            ("peer 192.0.2.1 password simple simple", "peer 192.0.2.1 password simple ******"),
            ("peer 192.0.2.1 password cipher MD5", "peer 192.0.2.1 password cipher ******"),
            ("t c p 11019 p m c hunter2 x", "t c p 11019 p m c ****** ******"),
            ("tcp connect port 1 password md5 md5", "tcp connect port 1 password md5 ******"),
            ("tcp connect port 1 md5 cipher hunter2", "tcp connect port 1 md5 cipher ******"),
            ("peer 192.0.2.1 password cipher=hunter2", "peer 192.0.2.1 password ******"),
            ("key-string hunter2", "key-string ******"),
            ("  undo key-string cipher hunter2", "  undo key-string cipher ******"),
            ("key-s simple simple", "key-s simple ******"),
            ("k c hunter2 x", "k c ****** ******"),
            ("keystring hunter2", "keystring ******"),
            ("Key-String=hunter2", "Key-String=******"),
            ("keychain core", "keychain core"),
            ("key-id 7", "key-id 7"),
            ("keychain core mode absolute", "keychain core mode absolute"),
            ("tcp connect port 11019 keychain core", "tcp connect port 11019 keychain core"),
            ("sysname password", "sysname password"),
            ("display bmp session", "display bmp session"),
        ] {
            assert_eq!(masked(line), shown);
        }
    }

    /// A keyword, cut or mistyped.
    fn spelt(keyword: &'static str) -> impl Strategy<Value = String> {
        let cut = (1..=keyword.len()).prop_map(move |length| keyword[..length].to_owned());
        let upper = Just(keyword.to_ascii_uppercase());
        let typo = (0..keyword.len()).prop_map(move |at| format!("{}{}", &keyword[..at], &keyword[at + 1..]));
        // With fewer letters it is another word.
        let typo = typo.prop_filter("long enough", |word| word.len() > 5);
        let typo = if keyword.len() > 6 { typo.boxed() } else { Just(keyword.to_owned()).boxed() };
        prop_oneof![4 => cut, 1 => upper, 1 => typo]
    }

    proptest! {
        #[test]
        fn no_spelling_of_a_command_with_a_secret_shows_it(
            undo in prop_oneof![Just(String::new()), spelt("undo").prop_map(|word| word + " ")],
            peer in (prop_oneof![Just("peer".to_owned()), Just("pe".to_owned()), Just("p".to_owned())], spelt("password")),
            tcp in (spelt("tcp"), spelt("connect"), spelt("port"), spelt("password"), prop_oneof![spelt("md5"), Just(String::new())]),
            how in prop_oneof![spelt("cipher"), spelt("simple"), Just(String::new())],
            of_peer in any::<bool>(),
            gap in "[ \t]{1,3}",
            secret in "[\"']?Zq[a-z0-9=:#!]{8,12}[\"']?",
            more in prop_oneof![Just(String::new()), Just(" x".to_owned())],
        ) {
            let command = if of_peer {
                format!("{} 192.0.2.1 {}", peer.0, peer.1)
            } else {
                format!("{} {} {} 11019 {} {}", tcp.0, tcp.1, tcp.2, tcp.3, tcp.4)
            };
            let line = format!("{undo}{} {how}{gap}{secret}{more}", command.trim_end());
            prop_assert!(!masked(&line).contains("Zq"), "{}", masked(&line));
        }
    }
}
