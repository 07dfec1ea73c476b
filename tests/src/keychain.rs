//! Key chains in configurations.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bmp_user::config::UtcTime;

/// How long an attempt to connect takes until it fails.
pub const UNANSWERED: Duration = Duration::from_secs(30);

/// Returns the lines of a key. `lifetimes` are further lines of its view.
pub fn key(id: u8, algorithm: &str, secret: &str, lifetimes: &str) -> String {
    format!(" key-id {id}\n  algorithm {algorithm}\n  key-string simple {secret}\n{lifetimes}")
}

/// Returns the present time, and this many seconds more, as a lifetime has it.
pub fn utc(more: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    UtcTime::from_unix(now.as_secs() + more).to_string()
}

/// Returns the usual key chain: key 7 with HMAC-SHA-1, always.
pub fn core(secret: &str) -> String {
    format!("keychain core\n{}", key(7, "hmac-sha-1-96", secret, ""))
}
