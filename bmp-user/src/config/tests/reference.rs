//! The reference of the commands says what the descriptors say.

use std::{env, fs, path::Path};

use super::super::commands_reference;

/// Set, the document is written and not compared.
const BLESS: &str = "BMPD_BLESS";

#[test]
fn the_document_is_what_the_descriptors_make() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/commands.md");
    let made = commands_reference();
    if env::var_os(BLESS).is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &made).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let differs = kept.lines().zip(made.lines()).find(|(kept, made)| kept != made);
    assert!(kept == made, "the document is another: {differs:?}; {BLESS}=1 writes it anew");
}

#[test]
fn no_line_of_the_document_is_wider_than_the_page() {
    for line in commands_reference().lines() {
        assert!(line.chars().count() <= 100, "{line}");
        assert_eq!(line.trim_end(), line);
    }
}
