//! The command line of `bmpctl`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, CommandFactory as _, Parser, Subcommand, error::ErrorKind};

use crate::control;

/// The command line of bmpd. Without a command it is interactive, or reads commands from a standard
/// input that is no terminal.
#[derive(Debug, Parser)]
#[command(name = "bmpctl", version, disable_help_subcommand = true)]
pub struct BmpctlArguments {
    /// What bmpctl does itself.
    #[command(subcommand)]
    pub own: Option<BmpctlCommand>,
    /// The control socket of the bmpd to speak to.
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH, global = true)]
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

impl BmpctlArguments {
    /// Checks what the options say about each other.
    ///
    /// # Errors
    ///
    /// An option is for commands of bmpd, and bmpctl is to do something itself.
    pub fn check(&self) -> Result<(), clap::Error> {
        let is_for_bmpd = self.json || self.file.is_some() || !self.commands.is_empty() || self.complete.is_some();
        if self.own.is_none() || !is_for_bmpd {
            return Ok(());
        }
        let what = "--json, --file and --command are for commands of bmpd";
        Err(Self::command().error(ErrorKind::ArgumentConflict, what))
    }
}

/// What bmpctl does besides talking with bmpd in its command language.
#[derive(Debug, Subcommand)]
pub enum BmpctlCommand {
    /// Show the sessions live: state, uplink, rate, lag, retransmissions, denied packets, reason.
    Top(TopArguments),
}

/// How the sessions are shown live.
#[derive(Args, Debug)]
pub struct TopArguments {
    /// Seconds between two readings, from 0.1 to 3600.
    #[arg(short, long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    interval: f64,
}

impl TopArguments {
    /// Returns the time between two readings.
    pub fn interval(&self) -> Duration {
        Duration::from_secs_f64(self.interval)
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "a number of seconds from 0.1 to 3600 is wanted".to_owned())
}
