//! `| include TEXT`: which lines of an answer are shown.

use super::commands::word;
use crate::config::language::{argument::ArgumentKind, line::Line, token::ArgumentTokens};

/// Which lines of an answer to show. The text is looked for as it is, in the case it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineFilter {
    /// The lines that hold the text.
    Include(String),
    /// The lines that do not hold the text.
    Exclude(String),
    /// The first line that holds the text, and all lines behind it.
    Begin(String),
}

impl LineFilter {
    /// Returns the filter of a command; `None` where it has none.
    pub(in crate::config) fn read(arguments: ArgumentTokens<'_>, line: &Line) -> Option<Self> {
        let (first, _) = arguments.texts_of(ArgumentKind::Text).next()?;
        let text = line.text_from(first).to_owned();
        if arguments.has(word::INCLUDE) {
            Some(Self::Include(text))
        } else if arguments.has(word::EXCLUDE) {
            Some(Self::Exclude(text))
        } else {
            Some(Self::Begin(text))
        }
    }

    /// Returns what is left of the answer.
    pub fn apply(&self, answer: &str) -> String {
        let mut begun = false;
        answer.split_inclusive('\n').filter(|line| self.keeps(line, &mut begun)).collect()
    }

    /// Decides whether the next line of an answer is kept. `begun` is false at first, and belongs
    /// to this filter.
    pub fn keeps(&self, line: &str, begun: &mut bool) -> bool {
        match self {
            Self::Include(text) => line.contains(text.as_str()),
            Self::Exclude(text) => !line.contains(text.as_str()),
            Self::Begin(text) => {
                *begun |= line.contains(text.as_str());
                *begun
            }
        }
    }
}
