//! A change of the configuration, as a value.

use super::{
    language::token::{ArgumentTokens, Token},
    settings::{Setting, SettingDescriptor},
};

/// A change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigEdit {
    /// Sets a line, which replaces what was there.
    Set(Setting),
    /// `undo` with all arguments: takes back exactly this line.
    Undo(Setting),
    /// `undo` without some arguments: takes back whatever is there.
    UndoAny(PartialUndo),
}

/// The lines of one setting that `undo` names without saying all arguments.
#[derive(Clone, Debug)]
pub struct PartialUndo {
    pub(super) descriptor: &'static SettingDescriptor,
    pub(super) tokens: Vec<Token>,
}

impl PartialEq for PartialUndo {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.descriptor, other.descriptor) && self.tokens == other.tokens
    }
}

impl Eq for PartialUndo {}

impl PartialUndo {
    /// Returns the arguments that are there.
    pub(super) fn arguments(&self) -> ArgumentTokens<'_> {
        ArgumentTokens(&self.tokens)
    }
}

impl ConfigEdit {
    /// Returns what describes the setting that is changed.
    pub(super) fn descriptor(&self) -> &'static SettingDescriptor {
        match self {
            Self::Set(setting) | Self::Undo(setting) => setting.descriptor(),
            Self::UndoAny(any) => any.descriptor,
        }
    }
}
