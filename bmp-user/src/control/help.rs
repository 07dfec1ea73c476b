//! Help and completion: the grammar's words, and the names that this host and the configuration
//! have.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
};

use super::link_state::link_state;
use crate::{
    config::{CandidateEditor, CommandError, Config, NextWord, SuggestionSource, next_words},
    link::{Host, Link},
};

/// Interfaces that help shows. Completion knows all.
const MOST: usize = 64;

/// The words that may come next.
#[derive(Debug, Default)]
pub(super) struct Completions {
    /// By the alphabet.
    pub(super) words: Vec<String>,
    /// State and addresses of the words that are interfaces.
    pub(super) hints: BTreeMap<String, String>,
}

/// Explains the words that may come behind a line. Where an interface may, lists those of the host.
///
/// # Errors
///
/// The line is wrong before its end.
pub(super) fn help(editor: &CandidateEditor, host: &Host, line: &str) -> Result<String, CommandError> {
    let next = next_words(editor.view(), line)?;
    let mut text = next.to_string();
    if next.words.iter().any(|word| word.suggest == Some(SuggestionSource::Interface)) {
        text += &in_lines(&interfaces(editor, host, begun(line)));
    }
    let near: Vec<_> = next.near.iter().map(|keyword| format!("`{keyword}`")).collect();
    Ok(match (text.is_empty(), near.is_empty()) {
        (false, _) => text,
        (true, false) => format!("  did you mean {}?\n", near.join(" or ")),
        (true, true) => "  nothing comes next here\n".to_owned(),
    })
}

fn in_lines(interfaces: &BTreeMap<String, String>) -> String {
    if interfaces.is_empty() {
        return String::new();
    }
    let shown = || interfaces.iter().take(MOST);
    let width = shown().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::from("\n Interfaces of this host\n");
    text.extend(shown().map(|(name, hint)| format!("  {name:width$}  {hint}\n")));
    let more = interfaces.len().saturating_sub(MOST);
    if more > 0 {
        text += &format!("  ... and {more} more: type how the name begins\n");
    }
    text
}

/// Completes keywords, and arguments where bmpd knows names.
pub(super) fn complete(editor: &CandidateEditor, host: &Host, line: &str) -> Completions {
    let Ok(next) = next_words(editor.view(), line) else { return Completions::default() };
    let begun = begun(line);
    let mut found = Completions::default();
    for word in next.words {
        if word.suggest == Some(SuggestionSource::Interface) {
            found.hints.extend(interfaces(editor, host, begun));
        }
        found.words.extend(names(editor, host, &word).into_iter().filter(|name| name.starts_with(begun)));
        if !word.argument {
            found.words.push(word.text);
        }
    }
    found.words.extend(found.hints.keys().cloned());
    found.words.sort();
    found.words.dedup();
    found
}

/// Returns the last word of a line, which is being typed.
fn begun(line: &str) -> &str {
    line.rsplit([' ', '\t']).next().unwrap_or_default()
}

/// Returns the interfaces of the host by all their names, with state and addresses.
fn interfaces(editor: &CandidateEditor, host: &Host, begun: &str) -> BTreeMap<String, String> {
    let aliases = &editor.candidate().interface_aliases;
    let mut interfaces = BTreeMap::new();
    for link in host.links.values() {
        interfaces.extend(iter::once(&link.name).chain(&link.alt_names).map(|name| (name.clone(), hint(link, name))));
    }
    for (name, kernel_name) in aliases {
        let hint = match host.links.values().find(|link| link.name == *kernel_name) {
            Some(link) => hint(link, name),
            None => format!("absent, {kernel_name}"),
        };
        interfaces.insert(name.clone(), hint);
    }
    interfaces.retain(|name, _| name.starts_with(begun));
    interfaces
}

/// Returns `up: 192.0.2.1/26`, with the kernel's name behind another name.
fn hint(link: &Link, name: &str) -> String {
    let kernel_name = if link.name == name { String::new() } else { format!(", {}", link.name) };
    let addresses = link.addresses.iter().filter(|address| address.global);
    let addresses: Vec<_> = addresses.map(|address| format!("{}/{}", address.ip, address.prefix_len)).collect();
    let addresses = if addresses.is_empty() { "no address".to_owned() } else { addresses.join(", ") };
    format!("{}{kernel_name}: {addresses}", link_state(Some(link)))
}

/// Returns the names that an argument may be, other than those of interfaces.
fn names(editor: &CandidateEditor, host: &Host, word: &NextWord) -> Vec<String> {
    let Config { relays, bmp, keychains, tls_profiles, route_filters, prefix_lists, .. } = editor.candidate();
    match word.suggest {
        None | Some(SuggestionSource::Interface) => Vec::new(),
        Some(SuggestionSource::Station) => bmp.sessions.keys().map(|id| id.station.to_string()).collect(),
        Some(SuggestionSource::VpnInstance) => {
            let vrfs = host.links.values().filter(|link| link.kind.as_deref() == Some("vrf"));
            vrfs.map(|link| link.name.clone()).collect()
        }
        Some(SuggestionSource::Input) => relays.keys().cloned().collect(),
        Some(SuggestionSource::Alias) => bmp.sessions.keys().filter_map(|id| id.alias.clone()).collect(),
        Some(SuggestionSource::Keychain) => keychains.keys().cloned().collect(),
        Some(SuggestionSource::TlsProfile) => tls_profiles.keys().cloned().collect(),
        Some(SuggestionSource::RouteFilter) => route_filters.keys().cloned().collect(),
        Some(SuggestionSource::PrefixList) => {
            let lists: BTreeSet<_> = prefix_lists.keys().map(|entry| &entry.list).collect();
            lists.into_iter().cloned().collect()
        }
    }
}
