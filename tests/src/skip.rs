//! Tests that find out at run time that they cannot run here.

use std::{fs::OpenOptions, io::Write as _, thread};

/// Names the variable with the path of the file in which `cargo xtask test` collects skipped tests.
const SKIPPED: &str = "BMPD_SKIPPED";

/// Reports why the running test is skipped, on stderr and in the file of skipped tests. The test
/// must return then.
pub fn skip(reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
    let Some(path) = std::env::var_os(SKIPPED) else { return };
    let current = thread::current();
    let line = format!("{}: {reason}\n", current.name().unwrap_or("a test"));
    // One write: lines of parallel tests must not mix.
    let file = OpenOptions::new().append(true).create(true).open(&path);
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
}
