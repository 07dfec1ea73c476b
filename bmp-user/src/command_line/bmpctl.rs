//! The command line of `bmpctl`.

use std::path::PathBuf;

use clap::Parser;

use crate::control;

/// The command line of bmpd. Without a command it is interactive, or reads commands from a standard
/// input that is no terminal.
#[derive(Debug, Parser)]
#[command(name = "bmpctl", version)]
pub struct BmpctlArguments {
    /// The control socket of the bmpd to speak to.
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH)]
    pub control: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
    /// Carry out the commands of a file (- is standard input), and stop at the first that is
    /// refused.
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "commands")]
    pub file: Option<PathBuf>,
    /// Carry out this command; may be given several times, for one after another.
    #[arg(short = 'c', long = "command", value_name = "COMMAND", conflicts_with = "words")]
    pub commands: Vec<String>,
    /// Print the words that may come next in the command that begins with this, one a line, for the
    /// completion of shells. Names come from bmpd, if it runs.
    #[arg(long, value_name = "COMMAND", hide = true, conflicts_with_all = ["commands", "file", "words"])]
    pub complete: Option<String>,
    /// A command, as `display bmp session verbose` or `display current-configuration`.
    #[arg(value_name = "COMMAND", conflicts_with = "file")]
    pub words: Vec<String>,
}
