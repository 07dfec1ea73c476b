//! The whole language: settings, and commands that set nothing.

use super::commands::{COMMANDS, CommandRule};
use crate::config::{
    language::syntax::{Part, Syntax, SyntaxPosition},
    settings::{SETTINGS, SettingDescriptor},
    view::ViewKind,
};

/// The keyword that takes a setting back.
pub(in crate::config) const UNDO: &str = "undo";

static UNDO_FORM: [Syntax; 1] = [Syntax::Word(UNDO, "take a setting back")];

/// One command of the language.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) enum Rule {
    Setting(&'static SettingDescriptor),
    Command(&'static CommandRule),
}

/// Returns the whole language.
pub(in crate::config) fn rules() -> impl Iterator<Item = Rule> {
    SETTINGS.iter().copied().map(Rule::Setting).chain(COMMANDS.iter().copied().map(Rule::Command))
}

/// Returns the commands that a view knows.
pub(in crate::config) fn rules_of(view: ViewKind) -> impl Iterator<Item = Rule> {
    rules().filter(move |rule| rule.is_known_in(view))
}

impl Rule {
    /// Decides whether a view knows the command.
    pub(in crate::config) fn is_known_in(self, view: ViewKind) -> bool {
        match self {
            Self::Setting(descriptor) => descriptor.view == view,
            Self::Command(rule) => rule.views.contains(&view),
        }
    }

    /// Returns the keyword that the command begins with.
    pub(in crate::config) fn keyword(self) -> &'static str {
        match self {
            Self::Setting(descriptor) => descriptor.keyword(),
            Self::Command(rule) => match rule.syntax.first() {
                Some(Syntax::Word(keyword, _)) => keyword,
                _ => "",
            },
        }
    }

    /// Returns how many letters of one of its keywords an operator must type at least.
    pub(in crate::config) fn shortest(self, keyword: &str) -> usize {
        match self {
            Self::Setting(descriptor) if descriptor.keyword() == keyword => descriptor.shortest,
            Self::Setting(_) => 1,
            Self::Command(rule) => {
                rule.shortest.filter(|(known, _)| *known == keyword).map_or(1, |(_, letters)| letters)
            }
        }
    }

    /// Decides whether `undo` may stand before the command.
    pub(in crate::config) fn can_be_undone(self) -> bool {
        match self {
            Self::Setting(_) => true,
            Self::Command(rule) => !rule.undo.is_empty(),
        }
    }

    /// Returns the view that the command goes to.
    pub(in crate::config) fn enters(self) -> Option<ViewKind> {
        match self {
            Self::Setting(descriptor) => descriptor.enters,
            Self::Command(_) => None,
        }
    }

    /// Returns the place before the first word of the command.
    pub(in crate::config) fn begin(self) -> SyntaxPosition {
        match self {
            Self::Setting(descriptor) => SyntaxPosition::before(&descriptor.parts(false)),
            Self::Command(rule) => SyntaxPosition::before(&[Part { form: rule.syntax, optional: false }]),
        }
    }

    /// Returns the place before the first word of `undo` with the command; `None` where it cannot
    /// be undone.
    pub(in crate::config) fn begin_undo(self) -> Option<SyntaxPosition> {
        match self {
            Self::Setting(descriptor) => {
                let [head, value] = descriptor.parts(true);
                Some(SyntaxPosition::before(&[Part { form: &UNDO_FORM, optional: false }, head, value]))
            }
            Self::Command(rule) => self.can_be_undone().then(|| {
                let undone = Part { form: rule.undo, optional: false };
                SyntaxPosition::before(&[Part { form: &UNDO_FORM, optional: false }, undone])
            }),
        }
    }
}
