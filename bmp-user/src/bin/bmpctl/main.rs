//! bmpctl: the command line of bmpd.
//!
//! * `script`: commands from arguments, a file or a pipe
//! * `interactive`: an operator at a terminal, with `reader`, `line`, `keys`, `terminal` and
//!   `history` below it
//! * `wrap`: text that is wider than the terminal

mod history;
mod interactive;
mod keys;
mod line;
mod reader;
mod script;
mod terminal;
mod wrap;

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use bmp_user::{
    control::{self, Client},
    escape::escaped_lines,
};
use clap::Parser;
use script::{ScriptEnd, ScriptLine, run};

/// The command line of bmpd. Without a command it is interactive, or reads commands from a standard
/// input that is no terminal.
#[derive(Parser)]
#[command(name = "bmpctl", version)]
struct CommandLine {
    /// The control socket of the bmpd to speak to.
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH)]
    control: PathBuf,
    /// CommandAnswer in JSON.
    #[arg(long)]
    json: bool,
    /// Carry out the commands of a file (- is standard input), and stop at the first that is
    /// refused.
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "commands")]
    file: Option<PathBuf>,
    /// Carry out this command; may be given several times, for one after another.
    #[arg(short = 'c', long = "command", value_name = "COMMAND", conflicts_with = "words")]
    commands: Vec<String>,
    /// A command, as `display bmp session verbose` or `display current-configuration`.
    #[arg(value_name = "COMMAND", conflicts_with = "file")]
    words: Vec<String>,
}

/// Exit status: a command was refused, or the conversation failed.
const REFUSED: u8 = 1;
/// Exit status: there is no bmpd to speak to, or it has ended. clap ends with 2 for wrong usage.
const NO_DAEMON: u8 = 3;
/// Exit status of a `display`: the kernel does not enforce any more.
const ENFORCEMENT_LOST: u8 = 4;

fn main() -> ExitCode {
    match talk(&CommandLine::parse()) {
        Ok(ScriptEnd::Done) => ExitCode::SUCCESS,
        Ok(ScriptEnd::Refused) => ExitCode::from(REFUSED),
        Ok(ScriptEnd::Lost) => ExitCode::from(ENFORCEMENT_LOST),
        Err(error) => {
            // A reader that has seen enough closes the pipe. That is no error, and nobody would
            // read about it.
            if !is_closed_pipe(&error) {
                let _ = writeln!(io::stderr(), "bmpctl: {}", escaped_lines(&format!("{error:#}")));
            }
            ExitCode::from(if error.is::<control::NoDaemon>() { NO_DAEMON } else { REFUSED })
        }
    }
}

fn talk(arguments: &CommandLine) -> anyhow::Result<ScriptEnd> {
    let plain = |text: String| Ok(ScriptLine { text, origin: None });
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

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<io::Error>().is_some_and(closed)
}
