//! The command line.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use bmp_user::control::{self, Request, Response};
use clap::Parser;

/// The command line of bmpd.
#[derive(Parser)]
#[command(name = "bmpctl", version)]
struct Arguments {
    /// The control socket of the bmpd to speak to.
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH)]
    control: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    /// A command, as `display bmp session verbose` or `display current-configuration`.
    #[arg(required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let request = Request { command: arguments.command.join(" "), json: arguments.json };
    let written = match control::ask(&arguments.control, &request) {
        Ok(Response::Done(answer)) => io::stdout().write_all(answer.as_bytes()).map(|()| ExitCode::SUCCESS),
        Ok(Response::Refused(why)) => writeln!(io::stderr(), "{}", why.trim_end()).map(|()| ExitCode::FAILURE),
        Err(error) => writeln!(io::stderr(), "bmpctl: {error:#}").map(|()| ExitCode::FAILURE),
    };
    written.unwrap_or_else(|error| {
        // A reader that has seen enough has closed the pipe.
        if error.kind() != io::ErrorKind::BrokenPipe {
            let _ = writeln!(io::stderr(), "bmpctl: cannot write the answer: {error}");
        }
        ExitCode::FAILURE
    })
}
