//! Answers as JSON.

use std::io::{self, Write};

use anyhow::Context as _;

/// Writes an array of JSON, one element after another.
pub(super) fn write_json<T: serde::Serialize>(
    out: &mut dyn Write,
    elements: impl Iterator<Item = T>,
) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::pretty(&mut *out);
    serde::Serializer::collect_seq(&mut serializer, elements)?;
    out.write_all(b"\n")
}

pub(in crate::control) fn as_json(answer: &impl serde::Serialize) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(answer).context("cannot write the answer as JSON")?;
    text.push('\n');
    Ok(text)
}
