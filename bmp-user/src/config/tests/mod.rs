//! Tests of the command language.

mod addresses;
mod commands;
mod comments;
mod files;
mod grammar;
mod properties;
mod reference;
mod session_view;
mod settings;

use super::{Command, Config, Error, SessionId, View, apply, parse_line};

fn session_id(station: &str) -> SessionId {
    SessionId { vpn_instance: None, station: station.parse().unwrap(), alias: None }
}

fn session_view(station: &str) -> View {
    View::Session(session_id(station))
}

/// Applies commands one after another, from the system view, with whole keywords.
fn typed(lines: &[&str]) -> (Config, View) {
    let (mut config, mut view) = (Config::default(), View::System);
    for line in lines {
        run(&mut config, &mut view, line).unwrap_or_else(|error| panic!("{error}"));
    }
    (config, view)
}

fn run(config: &mut Config, view: &mut View, line: &str) -> Result<(), Error> {
    let command: Command = parse_line(view, line, false)?;
    apply(config, view, &command)
}

/// The error as an operator sees it, but for its first two lines' common indentation.
fn refusal(view: &View, line: &str) -> String {
    parse_line(view, line, false).expect_err(line).to_string()
}
