//! What may come next: the help of `?` and completion, from the same table as everything else.

use std::fmt;

use super::{
    Error, View,
    grammar::Syntax,
    matching::{heads, near, next},
    text::Line,
    value::Kind,
};

/// What may stand at the end of a line that is being typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// The words that begin with what of the last word is there already.
    pub words: Vec<NextWord>,
    /// The command may end here.
    pub end: bool,
    /// What the last word may be meant as, where nothing begins with it.
    pub near: Vec<&'static str>,
}

/// One word that may come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextWord {
    /// A keyword, or what stands for an argument with its limits: `INTEGER<1-65535>`.
    pub text: String,
    /// What it is for, in words.
    pub help: &'static str,
    /// For an argument, where words for it can be found; `None` for a keyword, and for arguments that could be anything.
    pub suggest: Option<Suggest>,
    /// Whether it is an argument.
    pub argument: bool,
}

/// Where words for an argument can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suggest {
    /// Among the names of this host's interfaces.
    Interface,
    /// Among the stations that are configured.
    Station,
    /// Among the VRF devices of this host.
    VpnInstance,
    /// Among the inputs that are configured.
    Input,
    /// Among the aliases of sessions.
    Alias,
}

/// What may come next behind `line`, which was typed in `view` up to its end. Where no blank is behind it, its last word is not
/// complete: what may come is what begins so.
///
/// # Errors
///
/// A word before the last is no command of these views, or is refused.
pub fn next_words(view: &View, line: &str) -> Result<Next, Error> {
    let line = Line::new(1, line)?;
    if line.is_empty() && line.words().next().is_some() {
        return Ok(Next::default());
    }
    let mut words: Vec<&str> = line.words().collect();
    let begun = if line.ends_in_word() { words.pop().unwrap_or_default() } else { "" };
    let views = view.contexts();
    let (tokens, end) = next(&views, &words).map_err(|fault| line.error_at(line.span(fault.word), fault.message))?;
    let mut next = Next { end: end && begun.is_empty(), ..Next::default() };
    for token in &tokens {
        let word = match token {
            Syntax::Word(keyword, help) if keyword.starts_with(begun) => {
                NextWord { text: (*keyword).to_owned(), help, suggest: None, argument: false }
            }
            Syntax::Value(kind, help) if begun.is_empty() || kind.fits(begun) || could_be_address(*kind, begun) => {
                let suggest = suggest(*kind);
                NextWord { text: kind.placeholder().to_owned(), help, suggest, argument: true }
            }
            _ => continue,
        };
        if !next.words.contains(&word) {
            next.words.push(word);
        }
    }
    if next.words.is_empty() {
        let keywords = tokens.iter().filter_map(|token| match token {
            Syntax::Word(keyword, _) => Some(*keyword),
            _ => None,
        });
        let around = heads(views.get(1..).filter(|_| words.is_empty()).unwrap_or_default());
        next.near = near(begun, keywords.chain(around), true);
    }
    // Keywords by the alphabet, then the arguments in the order in which they would be tried.
    let rank = |word: &NextWord| (word.argument, if word.argument { String::new() } else { word.text.clone() });
    next.words.sort_by_key(rank);
    Ok(next)
}

/// Half an address is no address yet.
fn could_be_address(kind: Kind, begun: &str) -> bool {
    matches!(kind, Kind::Source | Kind::Ipv4Source | Kind::Station | Kind::Listen | Kind::NextHop)
        && begun.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'.' | b':'))
}

fn suggest(kind: Kind) -> Option<Suggest> {
    match kind {
        Kind::KernelName | Kind::InterfaceName | Kind::EgressName => Some(Suggest::Interface),
        Kind::Station => Some(Suggest::Station),
        Kind::VpnInstance => Some(Suggest::VpnInstance),
        Kind::InputName => Some(Suggest::Input),
        Kind::Alias => Some(Suggest::Alias),
        _ => None,
    }
}

/// The answer to `?`: a line for each word, with what it is for; `<cr>` where the command may end.
impl fmt::Display for Next {
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
