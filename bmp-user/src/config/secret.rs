//! Secrets, which nothing shows but the writer of the configuration file.

use std::{borrow::Cow, fmt, ops::Range};

use serde::{Serialize, Serializer};

/// What is shown in the place of a secret.
pub const MASK: &str = "******";

/// A secret. However it is shown, it is masked.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself: for the kernel, and for the configuration file.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

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
pub(super) enum Secrets {
    Masked,
    Written,
}

impl Secrets {
    pub(super) fn text(self, secret: &Secret) -> String {
        match self {
            Self::Masked => secret.to_string(),
            Self::Written => secret.reveal().to_owned(),
        }
    }
}

/// The line with whatever may be a secret masked: what follows a word like `password`, also where the line is wrong.
pub fn masked(line: &str) -> Cow<'_, str> {
    let hidden = after_password(line);
    if hidden.is_empty() { Cow::Borrowed(line) } else { Cow::Owned(mask(line, &hidden)) }
}

/// Puts [`MASK`] in the place of these parts, which are in order.
pub(super) fn mask(line: &str, hidden: &[Range<usize>]) -> String {
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

/// The words behind one that is, or may be meant as, `password`.
pub(super) fn after_password(line: &str) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
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
    let text = |word: &Range<usize>| line.get(word.clone()).unwrap_or_default();
    // No command begins with it.
    let at = words.iter().enumerate().skip(1).position(|(at, word)| {
        let next = words.get(at + 1).map(text);
        let is_cut = !text(word).is_empty() && PASSWORD.starts_with(text(word));
        // `md5` alone, where `password` was forgotten: what is behind it is masked.
        is_password(text(word)) || is_cut && next.is_some_and(is_how) || next == Some("md5")
    });
    let Some(at) = at else { return Vec::new() };
    words.into_iter().skip(at + 2).skip_while(|word| is_how(text(word))).collect()
}

const PASSWORD: &str = "password";

/// Whether a word, which may be cut, says how a secret is written.
fn is_how(word: &str) -> bool {
    !word.is_empty() && ["md5", "cipher", "simple"].iter().any(|how| how.starts_with(word))
}

fn is_password(word: &str) -> bool {
    let cut = word.len() >= 3 && PASSWORD.starts_with(word);
    cut || word.starts_with("passw") || strsim::damerau_levenshtein(word, PASSWORD) <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_however_it_is_shown() {
        let secret = Secret::from("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "****** ******");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"******\"");
        assert_eq!(secret.reveal(), "hunter2");
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
            ("peer 192.0.2.1 passphrase é", "peer 192.0.2.1 passphrase é"),
            ("peer 192.0.2.1 pass hunter2", "peer 192.0.2.1 pass ******"),
            ("sysname password", "sysname password"),
            ("display bmp session", "display bmp session"),
        ] {
            assert_eq!(masked(line), shown);
        }
    }
}
