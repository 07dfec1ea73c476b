//! `| include TEXT`: which lines of an answer are shown.

use super::{grammar::word, matching::Args, text::Line, value::Kind};

/// Which lines of an answer to show. The text is looked for as it is, in the case it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Those that hold the text.
    Include(String),
    /// Those that do not.
    Exclude(String),
    /// Those from the first one on that does.
    Begin(String),
}

impl Filter {
    pub(super) fn read(args: &Args, line: &Line) -> Option<Self> {
        let (_, first) = args.texts(Kind::Text).next()?;
        let text = line.rest_from(first).to_owned();
        if args.has(word::INCLUDE) {
            Some(Self::Include(text))
        } else if args.has(word::EXCLUDE) {
            Some(Self::Exclude(text))
        } else {
            Some(Self::Begin(text))
        }
    }

    /// What is left of the answer.
    pub fn apply(&self, answer: &str) -> String {
        let mut begun = false;
        answer.split_inclusive('\n').filter(|line| self.keeps(line, &mut begun)).collect()
    }

    /// Whether the next line of an answer is kept. `begun` is false at first, and this filter's own.
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
