//! bmpctl: the command line of bmpd.
//!
//! * `script`: commands from arguments, a file or a pipe
//! * `interactive`: an operator at a terminal, with `reader`, `line`, `keys`, `terminal` and
//!   `history` below it
//! * `top`: the sessions, live
//! * `resume`: the way back to a bmpd that was started again
//! * `wrap`: text that is wider than the terminal

mod history;
mod interactive;
mod keys;
mod line;
mod reader;
mod resume;
mod script;
mod terminal;
mod top;
mod wrap;

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use bmp_user::{
    command_line::{BmpctlArguments, BmpctlCommand},
    config::{CommandView, masked, next_words},
    control::{Client, CommandAnswer, NoDaemon, Request, RequestMode},
    escape::escaped_lines,
    sandbox,
};
use clap::{CommandFactory as _, Parser};
use script::{ScriptEnd, ScriptLine, run};
use top::NoTerminal;

/// What a user should know who gives a secret as an argument (proc_pid_cmdline(5)).
const ARGUMENTS_ARE_SHOWN: &str =
    "every user of this host can read the arguments of a program: give a secret to `bmpctl -f -`, or type it";

/// Exit status: a command was refused, or the conversation failed.
const REFUSED: u8 = 1;
/// Exit status: the arguments are wrong, or want a terminal where there is none. clap uses it too.
const WRONG_USAGE: u8 = 2;
/// Exit status: there is no bmpd to speak to, or it has ended.
const NO_DAEMON: u8 = 3;
/// Exit status of a `display`: the kernel does not enforce any more.
const ENFORCEMENT_LOST: u8 = 4;

fn main() -> ExitCode {
    // An operator may type a secret. Without this, the way to bmpd is as good as before.
    let _ = sandbox::hide_memory();
    let arguments = BmpctlArguments::parse();
    if let Err(error) = arguments.check() {
        error.exit();
    }
    match talk(&arguments) {
        Ok(ScriptEnd::Done) => ExitCode::SUCCESS,
        Ok(ScriptEnd::Refused) => ExitCode::from(REFUSED),
        Ok(ScriptEnd::Lost) => ExitCode::from(ENFORCEMENT_LOST),
        Err(error) => {
            // A reader that has seen enough closes the pipe. That is no error, and nobody would
            // read about it.
            if !is_closed_pipe(&error) {
                let _ = writeln!(io::stderr(), "bmpctl: {}", escaped_lines(&format!("{error:#}")));
            }
            ExitCode::from(match () {
                () if error.is::<NoDaemon>() => NO_DAEMON,
                () if error.is::<NoTerminal>() => WRONG_USAGE,
                () => REFUSED,
            })
        }
    }
}

fn talk(arguments: &BmpctlArguments) -> anyhow::Result<ScriptEnd> {
    let plain = |text: String| Ok(ScriptLine { text, origin: None });
    if let Some(command) = &arguments.complete {
        // A closed pipe does not change the exit status.
        let _ = io::stdout().write_all(completions(&arguments.control, command).as_bytes());
        return Ok(ScriptEnd::Done);
    }
    if let Some(BmpctlCommand::Top(top)) = &arguments.own {
        top::run(&arguments.control, top)?;
        return Ok(ScriptEnd::Done);
    }
    let has_secret = |text: &str| masked(text) != text;
    if arguments.commands.iter().any(|command| has_secret(command)) || has_secret(&arguments.words.join(" ")) {
        // A closed stderr does not change the exit status.
        let _ = writeln!(io::stderr(), "Warning: {ARGUMENTS_ARE_SHOWN}.");
    }
    let mut client = Client::connect(&arguments.control)?;
    if let Some(file) = &arguments.file {
        let lines = script::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        run(&mut client, lines, arguments.json)
    } else if !arguments.words.is_empty() {
        run(&mut client, std::iter::once(plain(arguments.words.join(" "))), arguments.json)
    } else if !arguments.commands.is_empty() {
        run(&mut client, arguments.commands.iter().cloned().map(plain), arguments.json)
    } else if io::stdin().is_terminal() {
        interactive::run(client, &arguments.control)
    } else {
        run(&mut client, script::read(Path::new("-"))?, arguments.json)
    }
}

/// Returns the words that may come next in a command, one a line: keywords, and names if bmpd runs.
fn completions(control: &Path, command: &str) -> String {
    let own = BmpctlArguments::command();
    let own = own.get_subcommands().map(|own| own.get_name()).filter(|name| name.starts_with(command.trim_start()));
    let own: Vec<_> = own.map(str::to_owned).collect();
    let request = Request { command: command.to_owned(), mode: RequestMode::Complete, ..Request::default() };
    let answer = Client::connect(control).and_then(|mut client| client.ask(&request)).map(|response| response.answer);
    let words = match answer {
        Ok(CommandAnswer::Words(words)) => words,
        _ => {
            let next = next_words(&CommandView::User, command).map(|next| next.words).unwrap_or_default();
            next.into_iter().filter(|word| !word.argument).map(|word| word.text).collect()
        }
    };
    words.iter().chain(&own).map(|word| format!("{}\n", escaped_lines(word))).collect()
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<io::Error>().is_some_and(closed)
}
