//! Tests that find out while they run that they cannot.

use std::{fs::OpenOptions, io::Write as _, thread};

/// The file that `cargo xtask test` reads such tests from.
const SKIPPED: &str = "BMPD_SKIPPED";

/// Says why the running test is not done, for the summary and in its own output; the test then returns.
pub fn skip(reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
    let Some(path) = std::env::var_os(SKIPPED) else { return };
    let current = thread::current();
    let line = format!("{}: {reason}\n", current.name().unwrap_or("a test"));
    // One write, so that lines of tests that run side by side do not mix.
    let file = OpenOptions::new().append(true).create(true).open(&path);
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
}
