//! The descriptor of a setting, and one line of a configuration that sets it.

use std::{fmt, ptr};

use super::{
    access::{Access, NoAccess},
    arguments::LineName,
    effect::Effect,
};
use crate::config::{
    language::{
        secret::Secrets,
        syntax::{Part, Syntax},
        token::{ArgumentTokens, Token, WrongArgument, fill},
        value::ArgumentValue,
    },
    model::Config,
    view::{CommandView, ViewKind},
};

/// All that bmpd knows about one setting. Parser, help, printed form, `undo`, differences, displays
/// and the reference read it here.
pub(in crate::config) struct SettingDescriptor {
    /// The view that has the setting.
    pub(in crate::config) view: ViewKind,
    /// The first keyword, and what else names the setting: `undo` needs all of it.
    pub(in crate::config) head: &'static [Syntax],
    /// What the setting is set to. `undo` takes it too, or leaves it out.
    pub(in crate::config) value: &'static [Syntax],
    /// The view that the command enters.
    pub(in crate::config) enters: Option<ViewKind>,
    /// An operator may cut the first keyword to this many letters.
    pub(in crate::config) shortest: usize,
    /// What holds without the setting.
    pub(in crate::config) default: DefaultValue,
    /// What a change does to what is up.
    pub(in crate::config) effect: Effect,
    /// Rows of `display default-parameter bmp` that say the default.
    pub(in crate::config) rows: &'static [DefaultRow],
    /// What the reference says beyond that; empty, or whole sentences.
    pub(in crate::config) note: &'static str,
    /// The field of the model.
    pub(in crate::config) access: &'static dyn Access,
    /// The setting whose place in a configuration this one takes.
    pub(in crate::config) replaces: Option<&'static SettingDescriptor>,
}

/// What holds where a setting is not configured.
#[derive(Clone, Copy)]
pub(in crate::config) enum DefaultValue {
    /// Nothing to say: the command names a thing that is not there without it.
    Absent,
    /// In these words.
    Fixed(&'static str),
    /// In words that a constant of the model is part of.
    Computed(fn() -> String),
}

impl DefaultValue {
    /// Returns the default in words; `None` for [`Self::Absent`].
    pub(in crate::config) fn text(self) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Fixed(text) => Some(text.to_owned()),
            Self::Computed(text) => Some(text()),
        }
    }
}

/// A row of `display default-parameter bmp`.
#[derive(Clone, Copy)]
pub(in crate::config) struct DefaultRow {
    /// Rows are shown in the order of their ranks. Those of one label are one row.
    pub(in crate::config) rank: u16,
    pub(in crate::config) label: &'static str,
    /// The default, where the row says it in other words than the descriptor.
    pub(in crate::config) value: Option<&'static str>,
    /// The command, where it is not [`SettingDescriptor::command`].
    pub(in crate::config) command: Option<&'static str>,
}

impl DefaultRow {
    /// Returns a row with the default and the command of the descriptor.
    pub(in crate::config) const fn new(rank: u16, label: &'static str) -> Self {
        Self { rank, label, value: None, command: None }
    }
}

impl SettingDescriptor {
    /// Returns what the descriptors of a view have in common. Each says the rest.
    pub(in crate::config) const fn in_view(view: ViewKind) -> Self {
        Self {
            view,
            head: &[],
            value: &[],
            enters: None,
            shortest: 1,
            default: DefaultValue::Absent,
            effect: Effect::Enters,
            rows: &[],
            note: "",
            access: &NoAccess,
            replaces: None,
        }
    }

    /// Returns the keyword that the command begins with.
    pub(in crate::config) fn keyword(&self) -> &'static str {
        match self.head.first() {
            Some(Syntax::Word(keyword, _)) => keyword,
            _ => "",
        }
    }

    /// Returns the name of the command, with `A` for an address between keywords: `hold-down`,
    /// `peer A port`, `allow`.
    pub(in crate::config) fn command(&self) -> String {
        let words = self.head.iter().filter_map(|piece| match piece {
            Syntax::Word(keyword, _) => Some(*keyword),
            Syntax::Value(..) => Some("A"),
            Syntax::Optional(_) | Syntax::Choice(_) => None,
        });
        let words: Vec<_> = words.collect();
        let end = words.iter().rposition(|word| *word != "A").map_or(0, |last| last + 1);
        words.get(..end).unwrap_or_default().join(" ")
    }

    /// Returns the form of the command, or what may follow its `undo`.
    pub(in crate::config) fn parts(&self, undo: bool) -> [Part; 2] {
        [Part { form: self.head, optional: false }, Part { form: self.value, optional: undo }]
    }

    /// Returns the line that a command sets; `None` where arguments are missing, as `undo` allows.
    ///
    /// # Errors
    ///
    /// The arguments do not go together.
    pub(in crate::config) fn read(&'static self, tokens: &[Token]) -> Result<Option<Setting>, WrongArgument> {
        Ok(self.access.values(ArgumentTokens(tokens))?.map(|values| self.line(values)))
    }

    /// Returns the lines that a view of a configuration has of this setting.
    pub(in crate::config) fn lines(&'static self, config: &Config, view: &CommandView) -> Vec<Setting> {
        self.access.configured(config, view).into_iter().map(|values| self.line(values)).collect()
    }

    fn line(&'static self, values: Vec<ArgumentValue>) -> Setting {
        Setting { descriptor: self, tokens: fill(&[self.head, self.value], values) }
    }
}

/// Names the command.
impl fmt::Debug for SettingDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.command())
    }
}

/// One line of a configuration: a setting with all its arguments.
///
/// The tokens are those of the printed form, whatever the operator typed.
#[derive(Clone)]
pub struct Setting {
    descriptor: &'static SettingDescriptor,
    tokens: Vec<Token>,
}

impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.descriptor, other.descriptor) && self.tokens == other.tokens
    }
}

impl Eq for Setting {}

/// The line, with secrets masked.
impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())
    }
}

impl Setting {
    /// Returns what describes the setting.
    pub(in crate::config) fn descriptor(&self) -> &'static SettingDescriptor {
        self.descriptor
    }

    /// Returns the arguments.
    pub(in crate::config) fn arguments(&self) -> ArgumentTokens<'_> {
        ArgumentTokens(&self.tokens)
    }

    /// Returns the line of the configuration, without indentation and with secrets masked.
    pub(in crate::config) fn line(&self) -> String {
        self.line_with(Secrets::Masked)
    }

    /// Returns the line of the configuration, with secrets masked or not.
    pub(in crate::config) fn line_with(&self, secrets: Secrets) -> String {
        self.tokens.iter().map(|token| token.text(secrets)).collect::<Vec<_>>().join(" ")
    }

    /// Returns the name that tells the line from others of its setting in its view.
    pub(in crate::config) fn name(&self) -> LineName {
        self.descriptor.access.name(self.arguments())
    }

    /// Returns the view that the line enters from a view.
    pub(in crate::config) fn view(&self, around: &CommandView) -> Option<CommandView> {
        self.descriptor.access.enters(around, self.arguments())
    }
}
