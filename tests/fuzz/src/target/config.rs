//! The command language in a file.

use bmp_user::config::{parse_file, print};

use crate::memory::within;

/// Parses a file. A configuration must be the same after printing and parsing; otherwise each error
/// must point into the file.
pub fn config(file: &[u8]) {
    let Ok(text) = std::str::from_utf8(file) else { return };
    // Each error quotes its line. For many errors in one long line, only the first quotes it whole.
    let read = within(1 << 20, 1024, file.len(), || parse_file("fuzz", text));
    match read {
        Ok(config) => {
            let printed = print(&config);
            let again = parse_file("printed", &printed).unwrap_or_else(|errors| panic!("{errors:?} in {printed}"));
            assert_eq!(again, config, "{printed}");
            assert_eq!(print(&again), printed);
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            let lines = text.split('\n').count();
            for error in errors {
                assert!((1..=lines).contains(&error.line) && error.column >= 1 && error.length >= 1, "{error:?}");
                let shown = error.to_string();
                assert!(shown.lines().count() == 3 && !error.message.ends_with('.'), "{shown}");
                assert!(!shown.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{shown:?}");
            }
        }
    }
}
