//! Everything that a developer of bmpd runs, as `cargo xtask COMMAND`.
//!
//! It must compile where the kernel programs cannot be compiled yet, so it links nothing of bmpd
//! and starts everything else as a process.

mod bare;
mod bench;
mod binaries;
mod book;
mod ci;
mod demo;
mod fuzz;
mod idle;
mod package;
mod packages;
mod peers;
mod process;
mod progress;
mod release;
mod rules;
mod run;
mod setup;
mod suite;
mod test;
mod toolchain;
mod tools;
mod vm;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub(crate) use ::programs;
use programs::Use;

/// What a developer of bmpd runs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the kernel programs are compiled with (on Debian; elsewhere it says what to
    /// install)
    Setup,
    /// Build bmpd and bmpctl, kernel programs included
    Build {
        /// Optimised, as operators run it
        #[arg(long)]
        release: bool,
    },
    /// Build bmpd and start it as root, with a small sample configuration unless another is given
    Run(run::Arguments),
    /// Show the main job: a session that stays on its uplink, in network namespaces (needs root)
    Demo(demo::Arguments),
    /// Measure bmpd beside FRR, GoBGP and BIRD where installed, in network namespaces (needs root)
    Bench(bench::Arguments),
    /// Install what the tests need, build everything and run all tests (needs root)
    Test(test::Arguments),
    /// Feed changed captures to every parser and to the feed, millions of times
    Fuzz(fuzz::Arguments),
    /// Run the tests that this host's kernel cannot run, or all, on a Debian kernel in QEMU
    Vm(vm::Arguments),
    /// Make packages of bmpd
    Package(package::Arguments),
    /// Check that version, changelog, schemas, documents and manual pages agree, and make the
    /// packages
    Release,
    /// Run `demo` or `test`, or install the package, on a bare Debian (needs root)
    Bare(bare::Arguments),
    /// Fetch FRR, BIRD and GoBGP of another Debian, for `test --peers` (needs root)
    Peers(peers::Arguments),
    /// Check the rules that no compiler checks: widths, names of types, what a module may use
    Rules,
    /// Make a book of the documents, with mdBook
    Docs,
    /// Run what is run on every change: formatting, rules, lints, licences, a bare Debian, all
    /// tests
    Ci,
}

impl Task {
    /// The uses that this process starts programs for.
    fn uses(&self) -> &'static [Use] {
        match self {
            Self::Setup | Self::Build { .. } | Self::Rules | Self::Docs => &[Use::Build],
            Self::Run(_) => &[Use::Run],
            Self::Demo(_) => &[Use::Demo, Use::Frr],
            Self::Bench(_) => &[Use::Bench, Use::Compare],
            Self::Test(arguments) => arguments.uses(),
            Self::Fuzz(_) => &[Use::Fuzz],
            Self::Vm(arguments) => arguments.uses(),
            Self::Package(_) => &[Use::Package],
            Self::Release => &[Use::Package, Use::Test],
            Self::Bare(_) => &[Use::Bare, Use::Package],
            Self::Peers(_) => &[Use::Peers],
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

fn command(command: Task) -> anyhow::Result<ExitCode> {
    Use::declare(command.uses());
    match command {
        Task::Setup => setup::command().map(|()| ExitCode::SUCCESS),
        Task::Build { release } => binaries::command(release).map(|()| ExitCode::SUCCESS),
        Task::Run(arguments) => run::command(&arguments),
        Task::Demo(arguments) => demo::command(&arguments).map(|()| ExitCode::SUCCESS),
        Task::Bench(arguments) => bench::command(&arguments).map(|()| ExitCode::SUCCESS),
        Task::Test(arguments) => test::command(&arguments),
        Task::Fuzz(arguments) => fuzz::command(&arguments),
        Task::Vm(arguments) => vm::command(&arguments),
        Task::Package(arguments) => package::command(&arguments).map(|()| ExitCode::SUCCESS),
        Task::Release => release::command().map(|()| ExitCode::SUCCESS),
        Task::Bare(arguments) => bare::command(&arguments),
        Task::Peers(arguments) => peers::command(&arguments),
        Task::Rules => rules::command(),
        Task::Docs => book::command().map(|()| ExitCode::SUCCESS),
        Task::Ci => ci::command(),
    }
}
