//! Tests of the command language.

mod addresses;
mod commands;
mod comments;
mod effective;
mod files;
mod grammar;
mod properties;
mod random_config;
mod reference;
mod route_filters;
mod session_view;
mod settings;

use super::{CommandError, CommandView, Config, ParsedCommand, SessionId, apply, parse_line};

fn session_id(station: &str) -> SessionId {
    SessionId { vpn_instance: None, station: station.parse().unwrap(), alias: None }
}

fn session_view(station: &str) -> CommandView {
    CommandView::Session(session_id(station))
}

/// Applies commands one after another, from the system view, with whole keywords.
fn typed(lines: &[&str]) -> (Config, CommandView) {
    let (mut config, mut view) = (Config::default(), CommandView::System);
    for line in lines {
        run(&mut config, &mut view, line).unwrap_or_else(|error| panic!("{error}"));
    }
    (config, view)
}

fn run(config: &mut Config, view: &mut CommandView, line: &str) -> Result<(), CommandError> {
    let command: ParsedCommand = parse_line(view, line, false)?;
    apply(config, view, &command)
}

/// The error as an operator sees it, but for its first two lines' common indentation.
fn refusal(view: &CommandView, line: &str) -> String {
    parse_line(view, line, false).expect_err(line).to_string()
}
