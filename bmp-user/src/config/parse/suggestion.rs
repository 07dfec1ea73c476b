//! What may be meant by words that are no command.

use super::{
    outcome::{Misfit, Mismatch, ViewContext, WrongWord},
    rule::{UNDO, rules_of},
};
use crate::config::{
    language::{
        line::{Line, quoted},
        syntax::Syntax,
    },
    view::ViewKind,
};

/// Commands of other routers, and ours that do the same.
///
/// They are no commands here, because an operator may cut a keyword: `end` is `end-of-rib-after` in
/// the view of a relay, and `e` is `egress-interface` in that of a session.
const FOREIGN: [(&str, &str); 9] = [
    ("configure", "system-view"),
    ("delete", "undo"),
    ("disable", "undo"),
    ("end", "return"),
    ("exit", "quit"),
    ("logout", "quit"),
    ("no", "undo"),
    ("show", "display"),
    ("write", "save"),
];

/// Returns the command that another router has this word for, which may be cut.
pub(super) fn foreign(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    FOREIGN.iter().find(|(theirs, _)| word.len() >= 2 && theirs.starts_with(&word)).map(|(_, ours)| *ours)
}

/// Returns the keywords among pieces of syntax, each once.
pub(super) fn keywords<'a>(pieces: impl Iterator<Item = &'a Syntax>) -> Vec<&'static str> {
    let mut keywords = Vec::new();
    for piece in pieces {
        if let Syntax::Word(keyword, _) = piece
            && !keywords.contains(keyword)
        {
            keywords.push(*keyword);
        }
    }
    keywords
}

/// Returns keywords in words: ``` `bmp` or `bmp-relay` ```.
pub(super) fn quoted_list(keywords: &[&str]) -> String {
    keywords.iter().map(|keyword| format!("`{keyword}`")).collect::<Vec<_>>().join(" or ")
}

/// Says what may be meant by a line that none of the views knows.
pub(super) fn unknown(views: &[ViewContext], line: &Line, abbreviate: bool) -> Mismatch {
    let begins =
        |first: &str| views.iter().flat_map(|view| rules_of(view.kind)).any(|rule| rule.keyword().starts_with(first));
    let plain = |word: &str| if abbreviate { word.to_ascii_lowercase() } else { word.to_owned() };
    let undo = line
        .words()
        .next()
        .map(plain)
        .is_some_and(|first| first == UNDO || (abbreviate && UNDO.starts_with(&first) && !begins(&first)));
    let number = usize::from(undo);
    let mismatch = |message, misfit| Mismatch { wrong: WrongWord { word: number, message }, misfit };
    let Some(typed) = line.words().nth(number) else {
        let message = "the command is not complete: expected what is to be undone".to_owned();
        return mismatch(message, Misfit::Unknown);
    };
    let plain = plain(typed);
    let word = plain.as_str();
    let named = |kind| rules_of(kind).filter(move |rule| !undo || rule.can_be_undone());
    let elsewhere = ViewKind::ALL.iter().find(|kind| named(**kind).any(|rule| rule.keyword() == word));
    if let (Some(kind), false) = (elsewhere, views.iter().any(|view| Some(&view.kind) == elsewhere)) {
        let message = format!("{} is a command of the {} view", quoted(typed), kind.name());
        return mismatch(message, Misfit::Elsewhere(*kind));
    }
    if let Some(ours) = foreign(word).filter(|_| !undo) {
        let message = format!("unknown command {}: did you mean `{ours}`?", quoted(typed));
        return mismatch(message, Misfit::Unknown);
    }
    let rules = || views.iter().flat_map(|view| named(view.kind));
    if !abbreviate && let Some(rule) = rules().find(|rule| rule.keyword().starts_with(word)) {
        let message = format!("unknown command {}: in full, `{}`?", quoted(word), rule.keyword());
        return mismatch(message, Misfit::Misspelt(if undo { None } else { rule.enters() }));
    }
    let near = near(word, rules().map(|rule| rule.keyword()), abbreviate);
    let message = match meant(&near) {
        Some(meant) => format!("unknown command {}: {meant}", quoted(typed)),
        None => format!("unknown command {}", quoted(typed)),
    };
    // One in four letters: `bgp` is no `bmp`.
    let slips = (word.chars().count() / 4).min(2);
    let plain = near.first().filter(|nearest| strsim::damerau_levenshtein(nearest, word) <= slips);
    match plain.and_then(|nearest| rules().find(|rule| rule.keyword() == *nearest)) {
        Some(rule) => mismatch(message, Misfit::Misspelt(if undo { None } else { rule.enters() })),
        None => mismatch(message, Misfit::Unknown),
    }
}

/// Returns the keywords that a word may be meant as, nearest first; none where all are plainly
/// different. With `cut` a keyword may be cut, and is compared as far as the word goes.
pub(super) fn near(word: &str, keywords: impl IntoIterator<Item = &'static str>, cut: bool) -> Vec<&'static str> {
    /// How many keywords are named.
    const MOST: usize = 3;
    let length = word.chars().count();
    let slips = match length {
        0 | 1 => return Vec::new(),
        2..=5 => 1,
        _ => (length / 3).min(3),
    };
    let distance = |keyword: &str| {
        let whole = strsim::damerau_levenshtein(keyword, word);
        if !cut || length < 3 {
            return whole;
        }
        let begun = |length: usize| keyword.chars().take(length).collect::<String>();
        let begins = (length - 1..=length + 1).map(|length| strsim::damerau_levenshtein(&begun(length), word));
        begins.fold(whole, usize::min)
    };
    let mut near: Vec<_> = keywords.into_iter().map(|keyword| (distance(keyword), keyword)).collect();
    near.retain(|(distance, _)| *distance <= slips);
    near.sort();
    near.dedup();
    near.into_iter().map(|(_, keyword)| keyword).take(MOST).collect()
}

/// Returns `did you mean ...?`; `None` where nothing is near.
pub(super) fn meant(near: &[&str]) -> Option<String> {
    (!near.is_empty()).then(|| format!("did you mean {}?", quoted_list(near)))
}

/// Returns the keywords that name the commands of these views.
pub(super) fn names(views: &[ViewContext]) -> impl Iterator<Item = &'static str> {
    views.iter().flat_map(|view| rules_of(view.kind)).map(|rule| rule.keyword())
}
