//! The status page: one document with its style and its program in it, and the policy that lets no
//! other in.

use std::sync::LazyLock;

use hyper::{body::Bytes, header::HeaderValue};
use sha2::{Digest, Sha256};

const DOCUMENT: &str = include_str!("page/status.html");
const STYLE: &str = include_str!("page/status.css");
const SCRIPT: &str = include_str!("page/status.js");

/// The whole page.
pub(super) static PAGE: LazyLock<Bytes> =
    LazyLock::new(|| DOCUMENT.replace("STYLE", STYLE).replace("SCRIPT", SCRIPT).into());

/// The policy of the page (Content Security Policy Level 3): its own style and program by their
/// hashes, and events of this server.
pub(super) static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        source_of(STYLE),
        source_of(SCRIPT)
    );
    // Without a policy that can be sent, nothing of the page runs.
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

/// Returns the hash of a text as the source of a policy.
fn source_of(text: &str) -> String {
    format!("'sha256-{}'", base64(&Sha256::digest(text)))
}

/// Encodes bytes in Base64 (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) as usize & 63;
            let known = DIGITS.get(value).copied().unwrap_or(b'=');
            text.push(char::from(if digit <= group.len() { known } else { b'=' }));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (text, encoded) in vectors {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn the_page_has_its_parts_and_names_nothing_outside() {
        let page = String::from_utf8(PAGE.to_vec()).unwrap();
        assert!(
            page.contains(&format!("<style>{STYLE}</style>")) && page.contains(&format!("<script>{SCRIPT}</script>"))
        );
        let addresses: Vec<_> = page.match_indices("://").map(|(at, _)| &page[at.saturating_sub(5)..at]).collect();
        // The name space of SVG is a name, and nothing is loaded from it.
        assert_eq!(addresses, ["/http"].map(|_| "\"http"));
        assert!(!SCRIPT.contains("innerHTML"), "text from outside is never markup");
    }
}
