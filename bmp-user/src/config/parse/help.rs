//! What may come next: the help of `?` and completion, from the same table as everything else.

use std::{borrow::Cow, fmt};

use super::{
    matching::next,
    outcome::contexts,
    suggestion::{foreign, names, near},
};
use crate::config::{
    language::{
        argument::ArgumentKind,
        line::{CommandError, Line},
        syntax::{Syntax, help_of},
    },
    view::CommandView,
};

/// What may stand at the end of a line that is being typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextWords {
    /// The words that begin with what is there already of the last word.
    pub words: Vec<NextWord>,
    /// The command may end here.
    pub end: bool,
    /// What the last word may be meant as, where no word begins with it.
    pub near: Vec<&'static str>,
}

/// One word that may come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextWord {
    /// A keyword, or what stands for an argument with its limits: `INTEGER<1-65535>`.
    pub text: String,
    /// What it is for.
    pub help: Cow<'static, str>,
    /// Where words for an argument can be found; `None` for a keyword, and for arguments that could
    /// be anything.
    pub suggest: Option<SuggestionSource>,
    /// Whether it is an argument.
    pub argument: bool,
}

/// Where words for an argument can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuggestionSource {
    /// The names of this host's interfaces.
    Interface,
    /// The stations of the configuration.
    Station,
    /// The VRF devices of this host.
    VpnInstance,
    /// The inputs of the configuration.
    Input,
    /// The aliases of sessions.
    Alias,
    /// The key chains of the configuration.
    Keychain,
    /// The TLS profiles of the configuration.
    TlsProfile,
    /// The route-filters of the configuration.
    RouteFilter,
    /// The lists of prefixes of the configuration.
    PrefixList,
}

/// Returns what may come behind `line`, which was typed in `view` up to its end. Without a blank at
/// the end the last word is not complete: what may come begins with it.
///
/// # Errors
///
/// A word before the last is no command of these views, or is refused.
pub fn next_words(view: &CommandView, line: &str) -> Result<NextWords, CommandError> {
    let line = Line::new(1, line)?;
    if line.is_empty() && line.words().next().is_some() {
        return Ok(NextWords::default());
    }
    let mut words: Vec<&str> = line.words().collect();
    let begun = if line.ends_in_word() { words.pop().unwrap_or_default() } else { "" };
    let views = contexts(view);
    let (pieces, end) = next(&views, &words).map_err(|wrong| line.error_at(line.span(wrong.word), wrong.message))?;
    let mut next = NextWords { end: end && begun.is_empty(), ..NextWords::default() };
    for piece in &pieces {
        let word = match piece {
            Syntax::Word(keyword, _) if begins(keyword, begun) => {
                NextWord { text: (*keyword).to_owned(), help: help_of(piece), suggest: None, argument: false }
            }
            Syntax::Value(kind, _) if begun.is_empty() || kind.fits(begun) || could_be_address(*kind, begun) => {
                NextWord { text: kind.placeholder(), help: help_of(piece), suggest: suggest(*kind), argument: true }
            }
            _ => continue,
        };
        if !next.words.contains(&word) {
            next.words.push(word);
        }
    }
    if next.words.is_empty() {
        let keywords = pieces.iter().filter_map(|piece| match piece {
            Syntax::Word(keyword, _) => Some(*keyword),
            _ => None,
        });
        let around = names(views.get(1..).filter(|_| words.is_empty()).unwrap_or_default());
        next.near = match foreign(begun).filter(|_| words.is_empty()) {
            Some(ours) => vec![ours],
            None => near(&begun.to_ascii_lowercase(), keywords.chain(around), true),
        };
    }
    // Keywords by the alphabet, then the arguments in the order in which they would be tried.
    let rank = |word: &NextWord| (word.argument, if word.argument { String::new() } else { word.text.clone() });
    next.words.sort_by_key(rank);
    Ok(next)
}

/// Decides whether a keyword begins with a word, in letters of any case.
fn begins(keyword: &str, begun: &str) -> bool {
    keyword.get(..begun.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(begun))
}

/// Decides whether an argument may be an address whose beginning is there.
fn could_be_address(kind: ArgumentKind, begun: &str) -> bool {
    matches!(
        kind,
        ArgumentKind::Source
            | ArgumentKind::Ipv4Source
            | ArgumentKind::Station
            | ArgumentKind::Listen
            | ArgumentKind::NextHop
    ) && begun.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'.' | b':'))
}

fn suggest(kind: ArgumentKind) -> Option<SuggestionSource> {
    match kind {
        ArgumentKind::KernelName | ArgumentKind::InterfaceName | ArgumentKind::EgressName => {
            Some(SuggestionSource::Interface)
        }
        ArgumentKind::Station => Some(SuggestionSource::Station),
        ArgumentKind::VpnInstance => Some(SuggestionSource::VpnInstance),
        ArgumentKind::InputName => Some(SuggestionSource::Input),
        ArgumentKind::Alias => Some(SuggestionSource::Alias),
        ArgumentKind::KeychainName => Some(SuggestionSource::Keychain),
        ArgumentKind::TlsProfileName => Some(SuggestionSource::TlsProfile),
        ArgumentKind::RouteFilterName => Some(SuggestionSource::RouteFilter),
        ArgumentKind::PrefixListName => Some(SuggestionSource::PrefixList),
        _ => None,
    }
}

/// The answer to `?`: a line for each word, with what it is for; `<cr>` where the command may end.
impl fmt::Display for NextWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.words.iter().map(|word| word.text.len()).max().unwrap_or(0);
        for word in &self.words {
            writeln!(f, "  {:width$}  {}", word.text, word.help)?;
        }
        if self.end {
            writeln!(f, "  <cr>")?;
        }
        Ok(())
    }
}
