//! What a command does to a configuration.

use super::{
    edit::ConfigEdit,
    language::{token::Token, value::ArgumentValue},
    model::Config,
    settings::Setting,
    view::CommandView,
};

/// Why a change is refused.
#[derive(Debug)]
pub(super) struct RefusedChange {
    pub(super) message: String,
    /// The wrong argument, counted from the last; `None` for the first argument, or all of them.
    pub(super) from_last: Option<usize>,
}

impl From<String> for RefusedChange {
    fn from(message: String) -> Self {
        Self { message, from_last: None }
    }
}

/// Makes the change in the view that knows it, and returns the view that one is in afterwards.
///
/// # Errors
///
/// The change contradicts what is configured, or no view around knows it. Nothing has changed then.
pub(super) fn change(config: &mut Config, view: &CommandView, edit: &ConfigEdit) -> Result<CommandView, RefusedChange> {
    let descriptor = edit.descriptor();
    let mut around = std::iter::successors(Some(view.clone()), CommandView::parent);
    let Some(home) = around.find(|view| view.kind() == descriptor.view) else {
        return Err(format!("this is not a command of the {} view", view.kind().name()).into());
    };
    match edit {
        ConfigEdit::Set(setting) => {
            set(config, &home, setting)?;
            Ok(setting.view(&home).unwrap_or(home))
        }
        ConfigEdit::Undo(setting) => {
            is_configured(config, &home, setting)?;
            descriptor.access.clear(config, &home, setting.arguments())?;
            Ok(home)
        }
        ConfigEdit::UndoAny(any) => {
            descriptor.access.clear(config, &home, any.arguments())?;
            Ok(home)
        }
    }
}

/// Sets a line in the view that knows it.
///
/// # Errors
///
/// The line contradicts what is configured. Nothing has changed then.
pub(super) fn set(config: &mut Config, home: &CommandView, setting: &Setting) -> Result<(), String> {
    setting.descriptor().access.set(config, home, setting.arguments())
}

/// Refuses an `undo` that names other arguments than those configured. What is not there at all may
/// be undone.
fn is_configured(config: &Config, home: &CommandView, given: &Setting) -> Result<(), RefusedChange> {
    let descriptor = given.descriptor();
    let lines = descriptor.lines(config, home);
    let Some(configured) = lines.iter().find(|line| line.name() == given.name()) else { return Ok(()) };
    if descriptor.access.is_undone_by(configured.arguments(), given.arguments()) {
        return Ok(());
    }
    let (have, said) = (values(configured), values(given));
    let differs = said.iter().enumerate().position(|(at, argument)| have.get(at) != Some(argument));
    Err(RefusedChange {
        message: format!("this is not what is configured, which is `{}`", configured.line()),
        // An operator may have typed an interface in two words, so count from the end.
        from_last: differs.filter(|at| *at > 0).map(|at| said.len() - 1 - at),
    })
}

fn values(setting: &Setting) -> Vec<&ArgumentValue> {
    let arguments = setting.arguments().0.iter();
    arguments.filter_map(|token| if let Token::Argument(_, value) = token { Some(value) } else { None }).collect()
}
