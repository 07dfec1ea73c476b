//! What matching a line comes to, and the views that it is matched in.

use std::net::IpAddr;

use super::rule::Rule;
use crate::config::{
    language::token::{ArgumentTokens, Token},
    view::{CommandView, ViewKind},
};

/// A view as the parser sees it.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct ViewContext {
    pub(in crate::config) kind: ViewKind,
    /// The station of a session view, where it is known: addresses must be of its family.
    pub(in crate::config) station: Option<IpAddr>,
}

impl From<ViewKind> for ViewContext {
    fn from(kind: ViewKind) -> Self {
        Self { kind, station: None }
    }
}

/// Returns the view and those around it that a command is looked up in, innermost first.
pub(in crate::config) fn contexts(view: &CommandView) -> Vec<ViewContext> {
    let context = |view: &CommandView| match view {
        CommandView::Session(id) => ViewContext { kind: view.kind(), station: Some(id.station) },
        _ => ViewContext::from(view.kind()),
    };
    // The user view is around nothing that configures.
    let around = std::iter::successors(Some(view.clone()), CommandView::parent);
    around
        .take_while(|around| *around != CommandView::User || *view == CommandView::User)
        .map(|view| context(&view))
        .collect()
}

/// A word that is refused.
#[derive(Clone, Debug)]
pub(in crate::config) struct WrongWord {
    /// Its number in the line. Past the last word, the line ends too early.
    pub(in crate::config) word: usize,
    pub(in crate::config) message: String,
}

/// A command that was understood.
#[derive(Clone, Debug)]
pub(in crate::config) struct RuleMatch {
    pub(in crate::config) rule: Rule,
    pub(in crate::config) undo: bool,
    /// One for each word behind `undo`.
    pub(in crate::config) tokens: Vec<Token>,
}

impl RuleMatch {
    /// Returns the arguments.
    pub(in crate::config) fn arguments(&self) -> ArgumentTokens<'_> {
        ArgumentTokens(&self.tokens)
    }

    /// Returns the number of the word that a token was read from.
    pub(in crate::config) fn word_of(&self, token: usize) -> usize {
        token + usize::from(self.undo)
    }
}

/// A command that was not understood.
#[derive(Clone, Debug)]
pub(in crate::config) struct Mismatch {
    pub(in crate::config) wrong: WrongWord,
    pub(in crate::config) misfit: Misfit,
}

/// How far the parser got with a line that is refused.
#[derive(Clone, Debug)]
pub(in crate::config) enum Misfit {
    /// It is a command with a wrong word, which would have entered this view.
    Wrong(Option<ViewKind>),
    /// It is a command of another view.
    Elsewhere(ViewKind),
    /// It is no command, but may be meant as one that enters this view, or one that enters none.
    Misspelt(Option<ViewKind>),
    /// It is no command.
    Unknown,
}
