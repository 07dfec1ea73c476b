//! Everything that a developer of bmpd runs, as `cargo xtask COMMAND`.
//!
//! It must compile where the kernel programs do not yet, so it links nothing of bmpd and starts everything as a process.

mod bare;
mod bench;
mod binaries;
mod ci;
mod demo;
mod fuzz;
mod packages;
mod process;
mod progress;
mod run;
mod setup;
mod test;
mod toolchain;
mod vm;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub(crate) use ::programs;
use programs::Use;

/// Everything that a developer of bmpd runs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make this machine able to compile the kernel programs (Debian 12 by itself; elsewhere it says what to install)
    Setup,
    /// Build bmpd and bmpctl, kernel programs included
    Build {
        /// As operators run it: optimised
        #[arg(long)]
        release: bool,
    },
    /// Build bmpd and start it as root, on a small sample configuration unless told otherwise
    Run(run::Arguments),
    /// Watch the main job: a session that stays on its uplink, in network namespaces of its own (needs root)
    Demo(demo::Arguments),
    /// Measure bmpd beside what else is installed (FRR, GoBGP, BIRD), in network namespaces of its own (needs root)
    Bench(bench::Arguments),
    /// Install what the tests need, build everything and run all tests (needs root)
    Test(test::Arguments),
    /// Throw changed captures at every parser and at the feed, millions of times
    Fuzz(fuzz::Arguments),
    /// Run the tests that need another kernel than this host's, or all, on Debian's own in QEMU
    Vm(vm::Arguments),
    /// Run `demo` or `test` on a Debian that has git, a C compiler and Rust, and nothing else (needs root)
    Bare(bare::Arguments),
    /// What is run on every change: formatting, lints, dependencies' licences, then all tests
    Ci,
}

impl Command {
    /// What this process starts programs for.
    fn uses(&self) -> &'static [Use] {
        match self {
            Self::Setup | Self::Build { .. } => &[Use::Build],
            Self::Run(_) => &[Use::Run],
            Self::Demo(_) => &[Use::Demo, Use::Frr],
            Self::Bench(_) => &[Use::Bench, Use::Compare],
            Self::Test(_) => &[Use::Test],
            Self::Fuzz(_) => &[Use::Fuzz],
            Self::Vm(_) => &[Use::Vm],
            Self::Bare(_) => &[Use::Bare],
            Self::Ci => &[Use::Ci],
        }
    }
}

fn main() -> ExitCode {
    let outcome = if fuzz::is_compiler() { fuzz::compile() } else { command(Arguments::parse().command) };
    outcome.unwrap_or_else(|error| {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}

fn command(command: Command) -> anyhow::Result<ExitCode> {
    Use::declare(command.uses());
    match command {
        Command::Setup => setup::command().map(|()| ExitCode::SUCCESS),
        Command::Build { release } => binaries::command(release).map(|()| ExitCode::SUCCESS),
        Command::Run(arguments) => run::command(&arguments),
        Command::Demo(arguments) => demo::command(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Bench(arguments) => bench::command(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Test(arguments) => test::command(&arguments),
        Command::Fuzz(arguments) => fuzz::command(&arguments),
        Command::Vm(arguments) => vm::command(&arguments),
        Command::Bare(arguments) => bare::command(&arguments),
        Command::Ci => ci::command(),
    }
}
